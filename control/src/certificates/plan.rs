//! What is to be done next to the three Secrets. Pure: it is told what they hold, what was remembered of them, and the
//! time. One step at a time; after each, the Secrets are looked at again.
//!
//! A CA may sign for an end when the other end's bundle has held it for the grace. A bundle may lose a CA when nothing of
//! that CA has been shown for the grace. All steps follow from these two, so no stage of a rotation needs to be recorded.

use std::time::Duration;

use super::Lives;
use super::stored::{Authorities, Holding};
use super::x509::{Certificate, End, Flaw, Pair};

/// A bundle holds no more: two of a rotation, and some of CAs that were lost.
const MOST_ROOTS: usize = 8;

/// All that a decision is made from.
#[derive(Clone, Debug)]
pub(super) struct Found<'a> {
    pub(super) authorities: &'a Authorities,
    /// What is wrong with the CA, if there is none.
    pub(super) flaw: Flaw,
    /// It holds something besides.
    pub(super) has_rest: bool,
    /// What was last seen of it in good order.
    pub(super) remembered: &'a Authorities,
    pub(super) proxy: &'a Holding,
    pub(super) control: &'a Holding,
    /// A proxy is known not to use yet what its Secret says.
    pub(super) is_lagging: bool,
    pub(super) cluster: &'a str,
    pub(super) lives: &'a Lives,
    /// Seconds since the Unix epoch.
    pub(super) now: i64,
}

/// One change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Make a CA; the one before it stays beside it.
    MakeAuthority { previous: Option<Pair> },
    /// Write these.
    WriteAuthorities(Authorities),
    /// Issue a leaf, and write it with this bundle.
    Issue {
        end: End,
        signer: Pair,
        roots: Vec<Certificate>,
    },
    /// Write this bundle, and leave the leaf.
    WriteRoots { end: End, roots: Vec<Certificate> },
}

/// The next step and why it is taken; absent if all is as it should be.
pub(super) fn next(found: &Found<'_>) -> Option<(Step, String)> {
    let Some(newest) = &found.authorities.newest else {
        return Some(found.restore());
    };
    let ends = [End::Proxy, End::Control];
    found
        .at_authority(newest)
        .or_else(|| ends.into_iter().find_map(|end| found.at(end, newest)))
}

impl<'a> Found<'a> {
    fn of(&self, end: End) -> &'a Holding {
        match end {
            End::Proxy => self.proxy,
            End::Control => self.control,
        }
    }

    /// What is to be done to the CA's Secret.
    fn at_authority(&self, newest: &Pair) -> Option<(Step, String)> {
        if newest.certificate.is_due(self.now) {
            let previous = Some(newest.clone());
            let why = "two thirds of the CA's life are over";
            return Some((Step::MakeAuthority { previous }, why.to_owned()));
        }
        let why = if self.has_rest {
            "the CA before cannot be used"
        } else if self.authorities.previous.is_some() && self.is_settled(newest) {
            "nothing of the CA before is in use"
        } else {
            return None;
        };
        let step = Step::WriteAuthorities(Authorities {
            newest: Some(newest.clone()),
            previous: None,
        });
        Some((step, why.to_owned()))
    }

    fn restore(&self) -> (Step, String) {
        let flaw = self.flaw;
        if self.remembered.newest.is_some() {
            let step = Step::WriteAuthorities(self.remembered.clone());
            return (step, format!("the CA {flaw}; it is restored from memory"));
        }
        if let Some(previous) = &self.authorities.previous {
            let step = Step::WriteAuthorities(Authorities {
                newest: Some(previous.clone()),
                previous: None,
            });
            return (step, format!("the CA {flaw}; the one before is used again"));
        }
        (
            Step::MakeAuthority { previous: None },
            format!("the CA {flaw}"),
        )
    }

    /// What is to be done to one end's Secret.
    fn at(&self, end: End, newest: &Pair) -> Option<(Step, String)> {
        let own = self.of(end);
        let roots = self.roots(end, newest);
        if let Some((signer, why)) = self.wanted(end, newest) {
            let signer = signer.clone();
            return Some((Step::Issue { end, signer, roots }, why));
        }
        let why = if own.roots != roots || !own.is_clean {
            "their bundle is not what it should be"
        } else if self.age(own).is_none() {
            "nothing says since when their bundle is as it is"
        } else {
            return None;
        };
        Some((Step::WriteRoots { end, roots }, why.to_owned()))
    }

    /// Who is to sign a new leaf for `end`, if it needs one, and why it does.
    fn wanted(&self, end: End, newest: &'a Pair) -> Option<(&'a Pair, String)> {
        let trusting = self.roots(other(end), newest);
        match self.signer(end, &trusting) {
            Err(flaw) => Some((
                self.urgent_signer(newest),
                format!("their certificate {flaw}"),
            )),
            // Nothing is urgent: wait until everybody trusts the newest.
            _ if !self.is_everywhere(newest) => None,
            Ok((leaf, _)) if leaf.certificate.is_due(self.now) => Some((
                newest,
                "two thirds of their certificate's life are over".to_owned(),
            )),
            Ok((_, signer)) if *signer != newest.certificate => {
                Some((newest, "everybody trusts the new CA".to_owned()))
            }
            Ok(_) => None,
        }
    }

    /// The leaf that `end` shows, and who of `trusting` makes it good.
    fn signer<'b>(
        &self,
        end: End,
        trusting: &'b [Certificate],
    ) -> Result<(&'a Pair, &'b Certificate), Flaw> {
        let leaf = self.of(end).leaf.as_ref().map_err(|flaw| *flaw)?;
        if !leaf.is_named(end, self.cluster) {
            return Err(Flaw::OtherNames);
        }
        let signer = leaf
            .signer(end, trusting, self.now)
            .ok_or(Flaw::Untrusted)?;
        Ok((leaf, signer))
    }

    /// Who signs when it cannot wait: the one that most trust by now.
    fn urgent_signer(&self, newest: &'a Pair) -> &'a Pair {
        let previous = self.authorities.previous.as_ref();
        let previous = previous.filter(|previous| !previous.certificate.is_expired(self.now));
        match previous {
            Some(previous) if !self.is_everywhere(newest) => previous,
            _ => newest,
        }
    }

    /// Whom `end` is to trust.
    fn roots(&self, end: End, newest: &Pair) -> Vec<Certificate> {
        let mut roots = vec![newest.certificate.clone()];
        if self.is_settled(newest) {
            return roots;
        }
        let own = &self.of(end).roots;
        let previous = self
            .authorities
            .previous
            .as_ref()
            .map(|pair| &pair.certificate);
        let shown = own.is_empty().then(|| self.shown_by(other(end))).flatten();
        for root in previous.into_iter().chain(own).chain(shown) {
            if !roots.contains(root) && !root.is_expired(self.now) && roots.len() < MOST_ROOTS {
                roots.push(root.clone());
            }
        }
        roots
    }

    /// Who signed what an end shows, as only its own bundle may know. For a bundle that was lost, and no other: what one
    /// Secret says is not to be believed by the other without need.
    fn shown_by(&self, end: End) -> Option<&'a Certificate> {
        let signer = self.signer(end, &self.of(end).roots);
        signer.ok().map(|(_, signer)| signer)
    }

    /// Whether everybody has read a bundle that has the newest CA in it.
    fn is_everywhere(&self, newest: &Pair) -> bool {
        let knows = |holding: &Holding| holding.roots.contains(&newest.certificate);
        knows(self.proxy) && knows(self.control) && self.is_spread()
    }

    /// Whether everybody shows what the newest CA signed.
    fn is_settled(&self, newest: &Pair) -> bool {
        let root = std::slice::from_ref(&newest.certificate);
        let shows = |end| self.signer(end, root).is_ok();
        self.is_everywhere(newest) && shows(End::Proxy) && shows(End::Control)
    }

    /// Whether everybody has read what both Secrets say.
    fn is_spread(&self) -> bool {
        let wait = if self.is_lagging {
            self.lives.patience
        } else {
            self.lives.grace
        };
        let is_old = |holding| self.age(holding).is_some_and(|age| age >= wait);
        is_old(self.proxy) && is_old(self.control)
    }

    /// How long the Secret is as it is; absent if it does not say, or says what cannot be.
    fn age(&self, holding: &Holding) -> Option<Duration> {
        let written = holding.written?;
        match u64::try_from(self.now.saturating_sub(written)) {
            Ok(age) => Some(Duration::from_secs(age)),
            // Another machine's clock is a little ahead.
            Err(_) if written.abs_diff(self.now) <= self.lives.grace.as_secs() => {
                Some(Duration::ZERO)
            }
            Err(_) => None,
        }
    }
}

fn other(end: End) -> End {
    match end {
        End::Proxy => End::Control,
        End::Control => End::Proxy,
    }
}
