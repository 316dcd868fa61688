//! set/NAME and BACKEND arguments: which backend of which set is meant.

use podline_api::client::ProxyClient;
use podline_api::{BackendId, BackendKey, Name, v1};

use super::failure::Failure;
use super::selection::{self, set_name};

/// One backend of one set.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct Place {
    /// The backend set.
    #[arg(value_name = "set/NAME", value_parser = selection::one_set)]
    pub(super) set: Name,
    /// The backend: ip:port, `[v6]:port` or its id.
    #[arg(value_name = "BACKEND", value_parser = parse)]
    pub(super) backend: Wanted,
}

/// What a backend is called by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Wanted {
    /// Whoever is there.
    Address(BackendKey),
    /// Wherever it is.
    Id(BackendId),
}

/// What is no address is an id.
pub(super) fn parse(text: &str) -> Result<Wanted, String> {
    let wire = v1::Backend {
        address: text.to_owned(),
        ..Default::default()
    };
    match (BackendKey::try_from(wire), BackendId::try_from(text)) {
        (Ok(key), _) => Ok(Wanted::Address(key)),
        // An address that is none of a backend's: port 0, an unspecified address.
        (Err(invalid), _) if text.parse::<std::net::SocketAddr>().is_ok() => {
            Err(invalid.to_string())
        }
        (Err(_), Ok(id)) => Ok(Wanted::Id(id)),
        (Err(_), Err(invalid)) => Err(format!("the backend {invalid}: use its address or its id")),
    }
}

impl Wanted {
    /// Whether it is meant.
    pub(super) fn is(&self, backend: &v1::Backend) -> bool {
        match self {
            Self::Address(key) => backend.address == key.address.to_string(),
            Self::Id(id) => backend.id.as_deref() == Some(id.as_str()),
        }
    }
}

impl std::fmt::Display for Wanted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Address(key) => key.fmt(f),
            Self::Id(id) => id.fmt(f),
        }
    }
}

impl Place {
    /// Who is meant, in the words of the API; an id is looked up in the proxy.
    pub(super) async fn key(&self, client: &ProxyClient) -> Result<BackendKey, Failure> {
        match &self.backend {
            Wanted::Address(key) => Ok(key.clone()),
            Wanted::Id(_) => {
                let request = v1::GetRequest {
                    backend_sets: vec![self.set.to_string()],
                    ..Default::default()
                };
                self.among(client.get(request).await?)
            }
        }
    }

    /// The only backend that is meant; overrides may hold for some that the set does not have now.
    fn among(&self, answer: v1::GetResponse) -> Result<BackendKey, Failure> {
        let Self { set, backend } = self;
        let sets = answer.backend_sets.into_iter();
        let Some(status) = sets.into_iter().find(|s| set_name(s) == set.as_str()) else {
            return Err(Failure::NotFound(vec![format!("set/{set}")]));
        };
        let of_set = |status: &v1::OverrideStatus| status.set == set.as_str();
        let overrides = answer.overrides.into_iter().filter(of_set);
        let known = status.backends.into_iter().filter_map(|s| s.backend);
        let mut found: Vec<BackendKey> = known
            .chain(overrides.filter_map(|o| o.backend))
            .filter(|known| backend.is(known))
            .filter_map(|known| BackendKey::try_from(known).ok())
            .collect();
        found.sort();
        found.dedup();
        match found.as_slice() {
            [] => Err(missing(set, backend)),
            [key] => Ok(key.clone()),
            several => {
                let several: Vec<_> = several.iter().map(|k| k.address.to_string()).collect();
                let several = several.join(", ");
                Err(Failure::Usage(format!(
                    "{backend} is at several addresses of set/{set}, name one: {several}"
                )))
            }
        }
    }
}

/// The set has no such backend.
pub(super) fn missing(set: &Name, backend: &Wanted) -> Failure {
    Failure::NotFound(vec![format!("backend {backend} in set/{set}")])
}

/// `10.0.0.2:80 (pod-2)`.
pub(super) fn name_of(backend: Option<&v1::Backend>) -> String {
    match backend {
        Some(v1::Backend {
            id: Some(id),
            address,
            ..
        }) => format!("{address} ({id})"),
        Some(v1::Backend { address, .. }) => address.clone(),
        None => "?".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::sample;

    fn place(set: &str, backend: &str) -> Place {
        Place {
            set: selection::one_set(set).unwrap(),
            backend: parse(backend).unwrap(),
        }
    }

    #[test]
    fn what_is_no_address_is_an_id() {
        let check = |text: &str, shown: &str| {
            let found = match parse(text) {
                Ok(Wanted::Address(key)) => format!("address {key}"),
                Ok(Wanted::Id(id)) => format!("id {id}"),
                Err(problem) => problem,
            };
            assert_eq!(found, shown, "{text}");
        };
        check("10.0.0.1:80", "address 10.0.0.1:80");
        check("[fd00:0::1]:80", "address [fd00::1]:80");
        check("pod-2", "id pod-2");
        check("10.0.0.1", "id 10.0.0.1");
        check(
            "a b",
            "the backend must be printable ASCII without spaces: use its address or its id",
        );
        assert!(parse("10.0.0.1:0").unwrap_err().contains("port"));
    }

    #[test]
    fn an_id_is_found_in_its_set_or_among_its_overrides() {
        let check = |backend: &str, expected: Result<&str, &str>| {
            let mut state = sample::state();
            let again = v1::Backend {
                node: None,
                id: Some("twice".to_owned()),
                address: "10.0.0.8:80".to_owned(),
                weight: None,
            };
            let other = v1::Backend {
                address: "10.0.0.7:80".to_owned(),
                ..again.clone()
            };
            for backend in [again, other] {
                state.backend_sets[0].backends.push(v1::BackendStatus {
                    backend: Some(backend),
                    ..Default::default()
                });
            }
            let found = place("set/web", backend).among(state);
            let found = found.map_or_else(|e| Err(e.to_string()), |key| Ok(key.to_string()));
            assert_eq!(
                found.as_ref().map(String::as_str).map_err(String::as_str),
                expected
            );
        };
        check("pod-2", Ok("10.0.0.2:80 (pod-2)"));
        check("pod-9", Ok("10.0.0.9:80 (pod-9)"));
        check("pod-3", Err("the proxy has no backend pod-3 in set/web"));
        check(
            "twice",
            Err("twice is at several addresses of set/web, name one: 10.0.0.7:80, 10.0.0.8:80"),
        );
        let error = place("set/wob", "pod-2")
            .among(sample::state())
            .unwrap_err();
        assert_eq!(error.to_string(), "the proxy has no set/wob");
    }
}
