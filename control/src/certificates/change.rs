//! The next change of one Secret: reads those of a channel, asks `plan`, and has made what it says. Knows no API server
//! and no clock; the keys it draws are the only chance in it.

use super::channel::{Channel, Which};
use super::plan::{self, Callers, Found, Step, Why};
use super::stored::{self, Authorities, Stored};
use super::x509::Flaw;
use super::{Settings, make};

/// What the Secrets hold, by [`Which`]; absent where there is none, or none in the channel.
pub(super) type Secrets = [Option<Stored>; 4];

/// What one Secret is to hold, and why it is changed.
#[derive(Debug)]
pub(super) struct Change {
    pub(super) which: Which,
    pub(super) stored: Stored,
    pub(super) why: Why,
}

/// What is known besides of those that read the Secrets.
#[derive(Clone, Debug, Default)]
pub(super) struct Readers {
    /// A proxy is known not to use yet what its Secret says.
    pub(super) is_lagging: bool,
    /// Whom those that call the webhooks trust.
    pub(super) callers: Option<Callers>,
}

/// What the CA's Secret holds, if it is in good order.
pub(super) fn memory(channel: Channel, secrets: &Secrets) -> Option<Authorities> {
    let stored = secrets[Which::Authority as usize].as_ref();
    let (authorities, _) = stored::authorities(channel, stored);
    authorities.newest.is_some().then_some(authorities)
}

/// The next change; absent if all is as it should be.
///
/// # Errors
/// What is to be made cannot be: the cluster's name is no part of a URI, or a mistake of ours.
pub(super) fn next(
    secrets: &Secrets,
    remembered: &Authorities,
    readers: &Readers,
    settings: &Settings,
    now: i64,
) -> Result<Option<Change>, (Which, make::MakeError)> {
    let authority = secrets[Which::Authority as usize].as_ref();
    let (authorities, flaw) = stored::authorities(settings.channel, authority);
    let holding = |end| stored::holding(secrets[Which::from(end) as usize].as_ref());
    let ends = settings.channel.ends().iter();
    let holdings: Vec<_> = ends.map(|end| (*end, holding(*end))).collect();
    let step = plan::next(&Found {
        channel: settings.channel,
        has_rest: stored::has_rest(authority, &authorities),
        authorities: &authorities,
        flaw: flaw.unwrap_or(Flaw::Missing),
        remembered,
        holdings: &holdings,
        is_lagging: readers.is_lagging,
        callers: readers.callers.as_ref(),
        names: settings.names(),
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
    let Settings { channel, lives, .. } = settings;
    Ok(match step {
        Step::MakeAuthority { previous } => {
            let newest = Some(make::authority(*channel, lives, now)?);
            stored::of_authorities(before, &Authorities { newest, previous }, now)
        }
        Step::WriteAuthorities(authorities) => stored::of_authorities(before, &authorities, now),
        Step::Issue { end, signer, roots } => {
            let leaf = make::leaf(*channel, end, settings.names(), &signer, lives, now)?;
            stored::of_end(before, Some(&leaf), &roots, now)
        }
        Step::WriteRoots { roots, .. } => stored::of_end(before, None, &roots, now),
    })
}
