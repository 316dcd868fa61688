//! What the state file says: a protobuf message of our own, with the API's messages inside. Pure.
//!
//! Fields may be added; older releases leave them alone. What they must not misread needs a new format version.

use std::time::{Duration, SystemTime};

use podline_api::{Apply, BackendKey, Invalid, Name, Override, v1};
use prost::Message;

use super::frame::{Damage, frame, payload};
use crate::source::file;
use crate::state::saved::{SavedOverride, SavedOwner, SavedState};

/// The API knows no override that lasts for less; what is left of one may be less.
const SHORTEST: Duration = Duration::from_secs(1);

/// The whole file.
#[derive(Clone, PartialEq, Message)]
struct Content {
    #[prost(uint64, tag = "1")]
    version: u64,
    /// When it was written.
    #[prost(message, optional, tag = "2")]
    at: Option<prost_types::Timestamp>,
    /// Each owner's full state, with its highest epoch.
    #[prost(message, repeated, tag = "3")]
    owners: Vec<v1::ApplyRequest>,
    #[prost(message, repeated, tag = "4")]
    overrides: Vec<OverrideContent>,
    #[prost(message, repeated, tag = "5")]
    verdicts: Vec<VerdictContent>,
}

#[derive(Clone, PartialEq, Message)]
struct OverrideContent {
    /// With the time that was left.
    #[prost(message, optional, tag = "1")]
    request: Option<v1::OverrideRequest>,
    #[prost(string, tag = "2")]
    by: String,
    #[prost(message, optional, tag = "3")]
    since: Option<prost_types::Timestamp>,
}

#[derive(Clone, PartialEq, Message)]
struct VerdictContent {
    #[prost(string, tag = "1")]
    set: String,
    /// Id and address.
    #[prost(message, optional, tag = "2")]
    backend: Option<v1::Backend>,
    #[prost(bool, tag = "3")]
    is_healthy: bool,
}

/// What a file holds.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Saved {
    pub(super) state: SavedState,
    /// When it was written.
    pub(super) at: SystemTime,
}

impl Saved {
    /// How many listeners and backend sets.
    pub(super) fn figures(&self) -> (usize, usize) {
        let owners = &self.state.owners;
        let listeners = owners.iter().map(|owner| owner.listeners.len()).sum();
        (
            listeners,
            owners.iter().map(|owner| owner.backend_sets.len()).sum(),
        )
    }
}

/// The file that holds `state` as of `at`. What the configuration file owns is not in it, but its verdicts are.
pub(super) fn encode(state: &SavedState, at: SystemTime) -> Vec<u8> {
    let others = state
        .owners
        .iter()
        .filter(|owner| owner.owner.as_str() != file::OWNER);
    let content = Content {
        version: state.version,
        at: Some(at.into()),
        owners: others.map(owner_content).collect(),
        overrides: state.overrides.iter().map(override_content).collect(),
        verdicts: state.verdicts.iter().map(verdict_content).collect(),
    };
    frame(&content.encode_to_vec())
}

/// What a file holds.
///
/// # Errors
/// Nothing of it can be relied on.
pub(super) fn decode(file: &[u8]) -> Result<Saved, Damage> {
    let content = Content::decode(payload(file)?).map_err(|error| cannot_be(&error))?;
    let owners = content.owners.into_iter().map(owner);
    let overrides = content.overrides.into_iter().map(overriding);
    let verdicts = content.verdicts.into_iter().map(verdict);
    Ok(Saved {
        state: SavedState {
            version: content.version,
            owners: owners
                .collect::<Result<_, _>>()
                .map_err(|invalid| cannot_be(&invalid))?,
            overrides: overrides
                .collect::<Result<_, _>>()
                .map_err(|invalid| cannot_be(&invalid))?,
            verdicts: verdicts
                .collect::<Result<_, _>>()
                .map_err(|invalid| cannot_be(&invalid))?,
        },
        at: time(content.at).map_err(|invalid| cannot_be(&invalid))?,
    })
}

fn cannot_be(error: &dyn std::error::Error) -> Damage {
    Damage::Content(error.to_string())
}

fn owner_content(saved: &SavedOwner) -> v1::ApplyRequest {
    v1::ApplyRequest {
        owner: (&saved.owner).into(),
        epoch: saved.epoch,
        listeners: saved.listeners.iter().map(Into::into).collect(),
        backend_sets: saved.backend_sets.iter().map(Into::into).collect(),
        network: saved.network.as_ref().map(Into::into),
        ..v1::ApplyRequest::default()
    }
}

fn owner(content: v1::ApplyRequest) -> Result<SavedOwner, Invalid> {
    let apply = Apply::try_from(content)?;
    Ok(SavedOwner {
        owner: apply.owner,
        epoch: apply.epoch,
        listeners: apply.listeners,
        backend_sets: apply.backend_sets,
        network: apply.network,
    })
}

fn override_content(saved: &SavedOverride) -> OverrideContent {
    let request = Override {
        lasts: saved.request.lasts.map(|left| left.max(SHORTEST)),
        ..saved.request.clone()
    };
    OverrideContent {
        request: Some((&request).into()),
        by: saved.by.clone(),
        since: Some(saved.since.into()),
    }
}

fn overriding(content: OverrideContent) -> Result<SavedOverride, Invalid> {
    Ok(SavedOverride {
        request: content.request.unwrap_or_default().try_into()?,
        by: content.by,
        since: time(content.since)?,
    })
}

fn verdict_content((set, backend, is_healthy): &(Name, BackendKey, bool)) -> VerdictContent {
    VerdictContent {
        set: set.into(),
        backend: Some(backend.into()),
        is_healthy: *is_healthy,
    }
}

fn verdict(content: VerdictContent) -> Result<(Name, BackendKey, bool), Invalid> {
    Ok((
        Name::try_from(content.set)?,
        BackendKey::try_from(content.backend.unwrap_or_default())?,
        content.is_healthy,
    ))
}

fn time(content: Option<prost_types::Timestamp>) -> Result<SystemTime, Invalid> {
    let time = content.and_then(|time| SystemTime::try_from(time).ok());
    time.ok_or_else(|| Invalid::one("time", "is no time"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use podline_api::{Document, OverrideAction, Owner, Weight};

    fn sample() -> SavedState {
        let document = "
listeners:
- {name: web, address: '127.0.0.1:8080', protocol: TCP, backendSet: web}
backendSets:
- name: web
  policy: MAGLEV
  healthCheck: {type: TCP}
  backends: [{address: '10.0.0.1:80', id: a, weight: 7}, {address: '10.0.0.2:80'}]
network:
  nodes: [{name: one, addresses: ['10.0.0.9'], podRanges: ['10.0.0.0/29'], responders: ['10.0.0.3:9904']}]
  routes: [{to: '10.0.0.0/29', via: '10.0.0.9'}]
  portShare: {slot: 1, slots: 2}
";
        let document = Document::from_yaml(document).unwrap();
        let name = || Name::try_from("web").unwrap();
        let backend = document.backend_sets[0].backends[0].key.clone();
        let request = |action, lasts| SavedOverride {
            request: Override {
                set: name(),
                backend: backend.clone(),
                action,
                lasts,
                note: "maintenance".to_owned(),
            },
            by: "podline://operator".to_owned(),
            since: SystemTime::UNIX_EPOCH + Duration::from_millis(1_500),
        };
        let timeout = Some(Duration::from_secs(9));
        let weight = OverrideAction::Weight(Weight::try_from(3).unwrap());
        SavedState {
            version: 41,
            owners: vec![SavedOwner {
                owner: Owner::try_from("k8s/east").unwrap(),
                epoch: Some(4),
                listeners: document.listeners,
                backend_sets: document.backend_sets,
                network: document.network,
            }],
            overrides: vec![
                request(
                    OverrideAction::Drain { timeout },
                    Some(Duration::from_mins(1)),
                ),
                request(weight, None),
            ],
            verdicts: vec![(name(), backend.clone(), true)],
        }
    }

    const AT: SystemTime = SystemTime::UNIX_EPOCH;

    #[test]
    fn what_was_saved_is_read() {
        let state = sample();
        let saved = decode(&encode(&state, AT)).unwrap();
        assert_eq!(saved.figures(), (1, 1));
        assert_eq!(saved, Saved { state, at: AT });
        let empty = SavedState::default();
        assert_eq!(decode(&encode(&empty, AT)).unwrap().state, empty);
    }

    #[test]
    fn what_the_configuration_file_owns_is_left_out_but_not_its_verdicts() {
        let mut state = sample();
        state.owners[0].owner = Owner::try_from(file::OWNER).unwrap();
        let saved = decode(&encode(&state, AT)).unwrap().state;
        assert_eq!(saved.owners, []);
        assert_eq!(saved.verdicts, state.verdicts);
    }

    #[test]
    fn an_override_that_is_almost_over_is_no_damage() {
        let mut state = sample();
        state.overrides[0].request.lasts = Some(Duration::from_millis(3));
        let saved = decode(&encode(&state, AT)).unwrap().state;
        assert_eq!(saved.overrides[0].request.lasts, Some(SHORTEST));
    }

    #[test]
    fn every_cut_and_every_changed_byte_is_refused() {
        let file = encode(&sample(), AT);
        for end in 0..file.len() {
            decode(&file[..end]).unwrap_err();
        }
        for at in 0..file.len() {
            for change in 1..=255 {
                let mut odd = file.clone();
                odd[at] ^= change;
                decode(&odd).unwrap_err();
            }
        }
    }

    #[test]
    fn a_whole_file_of_nonsense_is_refused_without_a_panic() {
        let content = Content::decode(payload(&encode(&sample(), AT)).unwrap()).unwrap();
        let bytes = content.encode_to_vec();
        for at in 0..bytes.len() {
            let mut odd = bytes.clone();
            odd[at] ^= 0x55;
            // It may still make sense; then that is what the file says.
            let _ = decode(&frame(&odd));
        }
        let mut nameless = content;
        nameless.owners[0].owner.clear();
        let refused = decode(&frame(&nameless.encode_to_vec())).unwrap_err();
        assert!(matches!(refused, Damage::Content(_)), "{refused:?}");
    }
}
