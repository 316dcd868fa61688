//! The next change of one Secret: reads the three, asks `plan`, and has made what it says. Knows no API server and no
//! clock; the keys it draws are the only chance in it.

use super::plan::{self, Found, Step};
use super::stored::{self, Authorities, Stored};
use super::x509::{End, Flaw};
use super::{Settings, make};

/// One of the Secrets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Which {
    Authority,
    Proxy,
    Control,
}

/// All of them, in the order of [`Secrets`].
pub(super) const ALL: [Which; 3] = [Which::Authority, Which::Proxy, Which::Control];

/// What they hold; absent where there is none.
pub(super) type Secrets = [Option<Stored>; 3];

impl From<End> for Which {
    fn from(end: End) -> Self {
        match end {
            End::Proxy => Self::Proxy,
            End::Control => Self::Control,
        }
    }
}

/// What one Secret is to hold, and why it is changed.
#[derive(Debug)]
pub(super) struct Change {
    pub(super) which: Which,
    pub(super) stored: Stored,
    pub(super) why: String,
}

/// What the CA's Secret holds, if it is in good order.
pub(super) fn memory(secrets: &Secrets) -> Option<Authorities> {
    let (authorities, _) = stored::authorities(secrets[Which::Authority as usize].as_ref());
    authorities.newest.is_some().then_some(authorities)
}

/// The next change; absent if all is as it should be.
///
/// # Errors
/// What is to be made cannot be: the cluster's name is no part of a URI, or a mistake of ours.
pub(super) fn next(
    secrets: &Secrets,
    remembered: &Authorities,
    is_lagging: bool,
    settings: &Settings,
    now: i64,
) -> Result<Option<Change>, (Which, make::MakeError)> {
    let [authority, proxy, control] = secrets.each_ref().map(Option::as_ref);
    let (authorities, flaw) = stored::authorities(authority);
    let step = plan::next(&Found {
        has_rest: stored::has_rest(authority, &authorities),
        authorities: &authorities,
        flaw: flaw.unwrap_or(Flaw::Missing),
        remembered,
        proxy: &stored::holding(proxy),
        control: &stored::holding(control),
        is_lagging,
        cluster: &settings.cluster,
        lives: &settings.lives,
        now,
    });
    let Some((step, why)) = step else {
        return Ok(None);
    };
    let which = match &step {
        Step::MakeAuthority { .. } | Step::WriteAuthorities(_) => Which::Authority,
        Step::Issue { end, .. } | Step::WriteRoots { end, .. } => Which::from(*end),
    };
    let before = secrets[which as usize].as_ref();
    let stored = after(before, step, settings, now).map_err(|error| (which, error))?;
    Ok(Some(Change { which, stored, why }))
}

/// What the Secret holds after the step.
fn after(
    before: Option<&Stored>,
    step: Step,
    settings: &Settings,
    now: i64,
) -> Result<Stored, make::MakeError> {
    let Settings { cluster, lives, .. } = settings;
    Ok(match step {
        Step::MakeAuthority { previous } => {
            let newest = Some(make::authority(lives, now)?);
            stored::of_authorities(before, &Authorities { newest, previous }, now)
        }
        Step::WriteAuthorities(authorities) => stored::of_authorities(before, &authorities, now),
        Step::Issue { end, signer, roots } => {
            let leaf = make::leaf(end, cluster, &signer, lives, now)?;
            stored::of_end(before, Some(&leaf), &roots, now)
        }
        Step::WriteRoots { roots, .. } => stored::of_end(before, None, &roots, now),
    })
}
