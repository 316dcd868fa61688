//! What an operator says about one backend, beside its owner and for a time.

use std::time::Duration;

use crate::invalid::Checks;
use crate::{BackendKey, Invalid, Name, Weight, duration, form, v1};

/// What an operator says about one backend, beside its owner and for a time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Override {
    /// The set.
    pub set: Name,
    /// By id and address, or by address alone.
    pub backend: BackendKey,
    /// What is to hold.
    pub action: OverrideAction,
    /// How long: 1 s to 30 days; absent: until undone.
    pub lasts: Option<Duration>,
    /// Why, for whoever sees it: at most 253 characters, none of them control characters.
    pub note: String,
}

/// What an override makes of a backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OverrideAction {
    /// No new connections.
    Drain {
        /// How long connections live on; absent: the set's drain timeout. 0 to 24 h.
        timeout: Option<Duration>,
    },
    /// This weight counts instead of the owner's.
    Weight(Weight),
    /// The owner's word counts again.
    Undrain,
}

const LONGEST_NOTE: usize = 253;

impl TryFrom<v1::OverrideRequest> for Override {
    type Error = Invalid;

    fn try_from(wire: v1::OverrideRequest) -> Result<Self, Invalid> {
        let mut checks = Checks::default();
        let action = action(&mut checks, &wire);
        let set = checks.take("set", Name::try_from(wire.set));
        let backend = match wire.backend {
            Some(backend) => checks.take("backend", BackendKey::try_from(backend)),
            None => checks.take("backend", Err(Invalid::one("", "is required"))),
        };
        let range = Duration::from_secs(1)..=Duration::from_hours(30 * 24);
        let lasts = wire
            .lasts
            .map(|lasts| duration::from_wire(Some(lasts), Duration::ZERO, range));
        let lasts = checks.take("lasts", lasts.transpose());
        if wire.note.len() > LONGEST_NOTE || wire.note.chars().any(char::is_control) {
            let problem = format!("must be one line of {LONGEST_NOTE} characters at most");
            checks.refuse("note", problem);
        }
        let value = || {
            Some(Self {
                set: set?,
                backend: backend?,
                action: action?,
                lasts: lasts?,
                note: wire.note,
            })
        };
        let value = value();
        checks.finish(value)
    }
}

fn action(checks: &mut Checks, wire: &v1::OverrideRequest) -> Option<OverrideAction> {
    use v1::override_request::Action;
    let action = checks.take("action", form::required::<Action>(Some(wire.action)))?;
    if wire.weight.is_some() && action != Action::Weight {
        checks.refuse("weight", "is for action WEIGHT");
    }
    if wire.drain_timeout.is_some() && action != Action::Drain {
        checks.refuse("drainTimeout", "is for action DRAIN");
    }
    match action {
        Action::Drain | Action::Unspecified => {
            // `required` refuses UNSPECIFIED
            let timeout = wire.drain_timeout.map(|timeout| {
                duration::from_wire(Some(timeout), Duration::ZERO, duration::DRAIN_RANGE)
            });
            let timeout = checks.take("drainTimeout", timeout.transpose())?;
            Some(OverrideAction::Drain { timeout })
        }
        Action::Weight => {
            let weight = match wire.weight {
                Some(weight) => Weight::try_from(weight),
                None => Err(Invalid::one("", "is required for action WEIGHT")),
            };
            checks.take("weight", weight).map(OverrideAction::Weight)
        }
        Action::Undrain => Some(OverrideAction::Undrain),
    }
}

impl From<&Override> for v1::OverrideRequest {
    fn from(request: &Override) -> Self {
        use v1::override_request::Action;
        let (action, weight, timeout) = match request.action {
            OverrideAction::Drain { timeout } => (Action::Drain, None, timeout),
            OverrideAction::Weight(weight) => (Action::Weight, Some(weight.get().into()), None),
            OverrideAction::Undrain => (Action::Undrain, None, None),
        };
        Self {
            set: (&request.set).into(),
            backend: Some((&request.backend).into()),
            action: action.into(),
            weight,
            lasts: request.lasts.map(duration::to_wire),
            drain_timeout: timeout.map(duration::to_wire),
            note: request.note.clone(),
        }
    }
}
