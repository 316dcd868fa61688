//! Who calls the API, and what that allows. Pure: reads certificates that were verified before.
//!
//! Whoever reaches a loopback address or the Unix socket may do everything. Over the network, the URI names in the
//! client's certificate decide: `podline://operator` may act as any owner, `podline://owner/k8s/east` as `k8s/east`
//! and what lies under it. A certificate with neither may only read.

use std::net::{IpAddr, SocketAddr};

use podline_api::{Owner, Rejected};
use tokio_rustls::rustls::pki_types::CertificateDer;
use webpki::EndEntityCert;

const OPERATOR: &str = "podline://operator";
const OWNER: &str = "podline://owner/";

/// Who calls.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum Caller {
    /// A process of this machine.
    #[default]
    Local,
    /// Somebody over the network.
    Certificate {
        identity: Identity,
        from: SocketAddr,
    },
}

/// What a certificate says of its holder.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Identity {
    is_operator: bool,
    owners: Vec<Owner>,
}

impl Caller {
    /// Who sent the request.
    pub(crate) fn of<T>(request: &tonic::Request<T>) -> Self {
        // Every connection leaves word of its other end; without any, nothing is allowed but reading.
        let nobody = || Self::Certificate {
            identity: Identity::default(),
            from: (IpAddr::from([0, 0, 0, 0]), 0).into(),
        };
        request.extensions().get().cloned().unwrap_or_else(nobody)
    }

    /// Whether it may change what `owner` has, by Apply and Push, or override it.
    ///
    /// # Errors
    /// [`Rejected::Forbidden`] says what it may do instead.
    pub(crate) fn may_act_as(&self, owner: &Owner) -> Result<(), Rejected> {
        let Self::Certificate { identity, .. } = self else {
            return Ok(());
        };
        if identity.is_operator || identity.owners.iter().any(|own| own.covers(owner)) {
            return Ok(());
        }
        let problem = format!(
            "{} may not act as owner \"{owner}\": it {}",
            self.name(),
            identity.may()
        );
        Err(Rejected::Forbidden { problem })
    }

    /// As it is shown to others: `local`, or the URI names of its certificate.
    pub(crate) fn name(&self) -> String {
        match self {
            Self::Local => "local".to_owned(),
            Self::Certificate { identity, .. } => identity.name(),
        }
    }

    /// Where it calls from; absent for those of this machine.
    pub(crate) fn from(&self) -> Option<IpAddr> {
        match self {
            Self::Local => None,
            Self::Certificate { from, .. } => Some(from.ip()),
        }
    }
}

impl Identity {
    /// What the verified certificate says. Names that are none of ours say nothing.
    pub(crate) fn of(certificate: &CertificateDer<'_>) -> Self {
        match EndEntityCert::try_from(certificate) {
            Ok(parsed) => Self::named(parsed.valid_uri_names()),
            // It has been verified, so it can be read; if not, nothing is allowed.
            Err(_) => Self::default(),
        }
    }

    fn named<'a>(uris: impl Iterator<Item = &'a str>) -> Self {
        let mut identity = Self::default();
        for uri in uris {
            if uri == OPERATOR {
                identity.is_operator = true;
            } else if let Some(owner) = uri.strip_prefix(OWNER) {
                identity.owners.extend(Owner::try_from(owner));
            }
        }
        identity
    }

    fn name(&self) -> String {
        if self.is_operator {
            return OPERATOR.to_owned();
        }
        let owners: Vec<_> = self
            .owners
            .iter()
            .map(|owner| format!("{OWNER}{owner}"))
            .collect();
        if owners.is_empty() {
            "a certificate without a podline:// name".to_owned()
        } else {
            owners.join(" and ")
        }
    }

    fn may(&self) -> String {
        let owners: Vec<_> = self
            .owners
            .iter()
            .map(|owner| format!("\"{owner}\""))
            .collect();
        if owners.is_empty() {
            format!("may only read; a URI name {OPERATOR} or {OWNER}NAME allows more")
        } else {
            format!("may act as {} and what lies under", owners.join(" and "))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn caller(uris: &[&str]) -> Caller {
        Caller::Certificate {
            identity: Identity::named(uris.iter().copied()),
            from: "10.0.0.1:1".parse().unwrap(),
        }
    }

    fn may(caller: &Caller, owner: &str) -> Result<(), String> {
        let owner = Owner::try_from(owner).unwrap();
        caller
            .may_act_as(&owner)
            .map_err(|rejected| match rejected {
                Rejected::Forbidden { problem } => problem,
                other => panic!("{other:?}"),
            })
    }

    #[test]
    fn an_owner_may_act_as_itself_and_what_lies_under_it() {
        let east = caller(&["podline://owner/k8s/east", "https://example.com"]);
        assert_eq!(east.name(), "podline://owner/k8s/east");
        for owner in ["k8s/east", "k8s/east/a"] {
            may(&east, owner).unwrap();
        }
        for owner in ["k8s", "k8s/eastern", "k8s/west", "file", "x"] {
            assert_eq!(
                may(&east, owner).unwrap_err(),
                format!(
                    "podline://owner/k8s/east may not act as owner \"{owner}\": it may act as \"k8s/east\" and what \
                     lies under"
                )
            );
        }
    }

    #[test]
    fn operators_and_those_of_this_machine_may_act_as_anybody() {
        for caller in [
            caller(&[OPERATOR]),
            caller(&[OPERATOR, "podline://owner/a"]),
            Caller::Local,
        ] {
            may(&caller, "k8s/east").unwrap();
            may(&caller, "file").unwrap();
        }
        assert_eq!(caller(&[OPERATOR]).name(), OPERATOR);
        assert_eq!(Caller::Local.name(), "local");
    }

    #[test]
    fn other_names_allow_nothing() {
        for uri in [
            "podline://owner/",
            "podline://owner",
            "podline://operator/",
            "podline://Operator",
            "podline://owner/a b",
            "podline:owner/a",
            "spiffe://operator",
        ] {
            let told = may(&caller(&[uri]), "a").unwrap_err();
            assert!(told.contains("may only read"), "{uri}: {told}");
        }
    }

    #[test]
    fn names_are_read_from_a_certificate() {
        let mut parameters = rcgen::CertificateParams::new(vec!["a.example".to_owned()]).unwrap();
        for uri in ["podline://owner/k8s/east", OPERATOR] {
            let name = rcgen::SanType::URI(uri.try_into().unwrap());
            parameters.subject_alt_names.push(name);
        }
        let key = rcgen::KeyPair::generate().unwrap();
        let certificate = parameters.self_signed(&key).unwrap();
        let identity = Identity::of(certificate.der());
        assert!(identity.is_operator);
        assert_eq!(identity.owners, [Owner::try_from("k8s/east").unwrap()]);
        assert_eq!(
            Identity::of(&CertificateDer::from(vec![1, 2])),
            Identity::default()
        );
    }

    #[test]
    fn a_request_from_nowhere_may_only_read() {
        let caller = Caller::of(&tonic::Request::new(()));
        assert!(may(&caller, "a").is_err());
    }
}
