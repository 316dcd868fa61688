//! What is to be done next to a channel's Secrets. Pure: it is told what they hold, what was remembered of them, and the
//! time. One step at a time; after each, the Secrets are looked at again.
//!
//! A CA may sign for an end when the bundle of those that it is shown to has held it for the grace. A bundle may lose a CA
//! when nothing of that CA has been shown for the grace. All steps follow from these two, so no stage of a rotation needs
//! to be recorded.

use std::time::Duration;

use super::Lives;
use super::channel::{Channel, End, Names};
use super::stored::{Authorities, Holding};
use super::x509::{Certificate, Flaw, Pair};

/// A bundle holds no more: two of a rotation, and some of CAs that were lost.
const MOST_ROOTS: usize = 8;

/// All that a decision is made from.
#[derive(Clone, Debug)]
pub(super) struct Found<'a> {
    pub(super) channel: Channel,
    pub(super) authorities: &'a Authorities,
    /// What is wrong with the CA, if there is none.
    pub(super) flaw: Flaw,
    /// It holds something besides.
    pub(super) has_rest: bool,
    /// What was last seen of it in good order.
    pub(super) remembered: &'a Authorities,
    /// What each end has.
    pub(super) holdings: &'a [(End, Holding)],
    /// A proxy is known not to use yet what its Secret says.
    pub(super) is_lagging: bool,
    /// Of the webhook channel: whom those that call it trust; absent if that is not known.
    pub(super) callers: Option<&'a Callers>,
    pub(super) names: Names<'a>,
    pub(super) lives: &'a Lives,
    /// Seconds since the Unix epoch.
    pub(super) now: i64,
}

/// Whom the callers of the webhooks trust.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Callers {
    roots: Vec<Certificate>,
    since: i64,
}

impl Callers {
    /// What every webhook configuration has in its bundle, in PEM, and since when, in seconds since the Unix epoch.
    pub fn new(bundle: &[u8], since: i64) -> Self {
        Self {
            roots: Certificate::list(bundle).0,
            since,
        }
    }

    pub(super) fn roots(&self) -> &[Certificate] {
        &self.roots
    }

    /// How many CAs they trust.
    #[cfg(test)]
    pub(crate) const fn count(&self) -> usize {
        self.roots.len()
    }

    #[cfg(test)]
    pub(crate) const fn since(&self) -> i64 {
        self.since
    }
}

/// Why a step is taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Why {
    pub(super) text: String,
    /// Somebody broke something; otherwise it is only time.
    pub(super) is_damage: bool,
}

impl Why {
    fn time(text: impl Into<String>) -> Self {
        Self {
            text: text.into(),
            is_damage: false,
        }
    }

    fn damage(text: impl Into<String>) -> Self {
        Self {
            text: text.into(),
            is_damage: true,
        }
    }
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
pub(super) fn next(found: &Found<'_>) -> Option<(Step, Why)> {
    let Some(newest) = &found.authorities.newest else {
        return Some(found.restore());
    };
    let mut ends = found.ends();
    found
        .at_authority(newest)
        .or_else(|| ends.find_map(|end| found.at(end, newest)))
}

impl<'a> Found<'a> {
    fn ends(&self) -> impl Iterator<Item = End> + use<> {
        self.channel.ends().iter().copied()
    }

    fn of(&self, end: End) -> &'a Holding {
        let mut holdings = self.holdings.iter();
        let found = holdings.find(|(of, _)| *of == end);
        &found.expect("there is one for each end of the channel").1
    }

    /// What is to be done to the CA's Secret.
    fn at_authority(&self, newest: &Pair) -> Option<(Step, Why)> {
        if newest.certificate.is_due(self.now) {
            let previous = Some(newest.clone());
            let why = Why::time("two thirds of the CA's life are over");
            return Some((Step::MakeAuthority { previous }, why));
        }
        let why = if self.has_rest {
            Why::damage("the CA before cannot be used")
        } else if self.authorities.previous.is_some() && self.is_settled(newest) {
            Why::time("nothing of the CA before is in use")
        } else {
            return None;
        };
        let step = Step::WriteAuthorities(Authorities {
            newest: Some(newest.clone()),
            previous: None,
        });
        Some((step, why))
    }

    fn restore(&self) -> (Step, Why) {
        let flaw = self.flaw;
        if self.remembered.newest.is_some() {
            let step = Step::WriteAuthorities(self.remembered.clone());
            let why = format!("the CA {flaw}; it is restored from memory");
            return (step, Why::damage(why));
        }
        if let Some(previous) = &self.authorities.previous {
            let step = Step::WriteAuthorities(Authorities {
                newest: Some(previous.clone()),
                previous: None,
            });
            let why = format!("the CA {flaw}; the one before is used again");
            return (step, Why::damage(why));
        }
        (
            Step::MakeAuthority { previous: None },
            Why::damage(format!("the CA {flaw}")),
        )
    }

    /// What is to be done to one end's Secret.
    fn at(&self, end: End, newest: &Pair) -> Option<(Step, Why)> {
        let own = self.of(end);
        let roots = self.roots(end, newest);
        if let Some((signer, why)) = self.wanted(end, newest) {
            let signer = signer.clone();
            return Some((Step::Issue { end, signer, roots }, why));
        }
        let why = if own.roots != roots || !own.is_clean {
            Why {
                text: "their bundle is not what it should be".to_owned(),
                is_damage: !self.is_rotated(own, &roots, newest),
            }
        } else if self.age(own).is_none() {
            Why::damage("nothing says since when their bundle is as it is")
        } else {
            return None;
        };
        Some((Step::WriteRoots { end, roots }, why))
    }

    /// Whether a bundle differs from what it should be by no more than a rotation's next stage: the newest CA joins, or
    /// one of ours leaves.
    fn is_rotated(&self, own: &Holding, roots: &[Certificate], newest: &Pair) -> bool {
        let is_ours = |root: &Certificate| root.is_called_ours(self.channel);
        let joins = |root: &&Certificate| **root == newest.certificate;
        let mut missing = roots.iter().filter(|root| !own.roots.contains(root));
        let mut rest = own.roots.iter().filter(|root| !roots.contains(root));
        own.is_clean
            && !own.roots.is_empty()
            && missing.all(|root| joins(&root))
            && rest.all(is_ours)
    }

    /// Who is to sign a new leaf for `end`, if it needs one, and why it does.
    fn wanted(&self, end: End, newest: &'a Pair) -> Option<(&'a Pair, Why)> {
        let trusting = self.roots(end.judge(), newest);
        match self.signer(end, &trusting) {
            Err(flaw) => Some((
                self.urgent_signer(newest),
                Why::damage(format!("their certificate {flaw}")),
            )),
            // Nothing is urgent: wait until everybody trusts the newest.
            _ if !self.is_everywhere(newest) => None,
            Ok((leaf, _)) if leaf.certificate.is_due(self.now) => Some((
                newest,
                Why::time("two thirds of their certificate's life are over"),
            )),
            Ok((_, signer)) if *signer != newest.certificate => {
                Some((newest, Why::time("everybody trusts the new CA")))
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
        if !leaf.is_named(end, self.names) {
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
        let own = self.of(end).roots.iter();
        let own: Vec<_> = own.filter(|root| self.is_believed(end, root)).collect();
        let previous = self
            .authorities
            .previous
            .as_ref()
            .map(|pair| &pair.certificate);
        let shown = own.is_empty().then(|| self.shown_to(end)).flatten();
        for root in previous.into_iter().chain(own).chain(shown) {
            if !roots.contains(root) && !root.is_expired(self.now) && roots.len() < MOST_ROOTS {
                roots.push(root.clone());
            }
        }
        roots
    }

    /// Whether a CA that only an end's own bundle tells of stays in it for now. A Secret that is both what is shown and
    /// who makes it good proves nothing: there the callers have to know it, too.
    fn is_believed(&self, end: End, root: &Certificate) -> bool {
        end.judge() != end
            || self
                .callers
                .is_some_and(|callers| callers.roots.contains(root))
    }

    /// Who signed what an end is shown, as only the bundle of whoever shows it may know, or that of the callers. For a
    /// bundle that was lost, and no other: what one Secret says is not to be believed by the other without need.
    fn shown_to(&self, end: End) -> Option<&'a Certificate> {
        let shows = end.judge();
        let roots = if shows == end {
            self.callers.map_or(&[][..], |callers| &callers.roots)
        } else {
            &self.of(shows).roots
        };
        self.signer(shows, roots).ok().map(|(_, signer)| signer)
    }

    /// Whether everybody has read a bundle that has the newest CA in it.
    fn is_everywhere(&self, newest: &Pair) -> bool {
        let knows = |end| self.of(end).roots.contains(&newest.certificate);
        self.ends().all(knows) && self.is_spread(newest)
    }

    /// Whether everybody shows what the newest CA signed.
    fn is_settled(&self, newest: &Pair) -> bool {
        let root = std::slice::from_ref(&newest.certificate);
        let shows = |end| self.signer(end, root).is_ok();
        self.is_everywhere(newest) && self.ends().all(shows)
    }

    /// Whether everybody has read what the ends' Secrets say.
    fn is_spread(&self, newest: &Pair) -> bool {
        let wait = if self.is_lagging || !self.is_known_to_callers(newest) {
            self.lives.patience
        } else {
            self.lives.grace
        };
        let is_old = |end| self.age(self.of(end)).is_some_and(|age| age >= wait);
        self.ends().all(is_old)
    }

    /// Whether those that call the webhooks have trusted the newest CA for the grace.
    fn is_known_to_callers(&self, newest: &Pair) -> bool {
        if self.channel == Channel::Control {
            return true;
        }
        self.callers.is_some_and(|callers| {
            let age = self.since(callers.since);
            callers.roots.contains(&newest.certificate)
                && age.is_some_and(|age| age >= self.lives.grace)
        })
    }

    /// How long the Secret is as it is; absent if it does not say, or says what cannot be.
    fn age(&self, holding: &Holding) -> Option<Duration> {
        self.since(holding.written?)
    }

    fn since(&self, written: i64) -> Option<Duration> {
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
