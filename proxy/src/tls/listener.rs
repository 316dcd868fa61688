//! What a listener does with TLS, made ready once for all its connections.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use podline_api::{Certificate, Tls, TlsVersion, Validity};
use tokio_rustls::rustls::crypto::{CryptoProvider, ring};
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::{
    ClientHello, NoServerSessionStorage, ProducesTickets, ResolvesServerCert,
    UnbufferedServerConnection, WebPkiClientVerifier,
};
use tokio_rustls::rustls::sign::CertifiedKey;
use tokio_rustls::rustls::version::{TLS12, TLS13};
use tokio_rustls::rustls::{RootCertStore, ServerConfig};

use super::session::Session;
use super::shown::{Shown, wildcard};
use super::tickets::Sealer;
use crate::lb::routes::name_of;

/// HTTP/2 in ALPN.
pub(crate) const H2: &[u8] = b"h2";
/// HTTP/1.1 in ALPN.
pub(crate) const HTTP_1_1: &[u8] = b"http/1.1";

/// How a listener speaks TLS. Two are equal when they are the same.
#[derive(Clone)]
pub struct TlsRules {
    /// None: it cannot be made ready, and nobody is served; never in the clear.
    config: Option<Arc<ServerConfig>>,
    /// Where there are several certificates, which of them is for whom.
    names: Option<Arc<ByName>>,
    not_after: Option<i64>,
}

impl TlsRules {
    /// Makes ready what `tls` says; `is_http`: an HTTPS listener. Without ticket keys of its own, tickets are sealed by
    /// `tickets`. What was checked when it was taken can be made ready; of anything else nobody is served.
    pub(crate) fn new(tls: &Tls, is_http: bool, tickets: &Arc<dyn ProducesTickets>) -> Self {
        Self::ready(tls, is_http, tickets).unwrap_or_else(|problem| {
            tracing::error!(
                problem,
                "a listener cannot speak TLS: its clients are reset"
            );
            Self {
                config: None,
                names: None,
                not_after: None,
            }
        })
    }

    fn ready(tls: &Tls, is_http: bool, tickets: &Arc<dyn ProducesTickets>) -> Result<Self, String> {
        let provider = Arc::new(ring::default_provider());
        let versions: &[_] = match tls.min_version {
            TlsVersion::Tls12 => &[&TLS13, &TLS12],
            TlsVersion::Tls13 => &[&TLS13],
        };
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(versions)
            .map_err(|error| error.to_string())?;
        let builder = match &tls.client_certificates {
            None => builder.with_no_client_auth(),
            Some(clients) => {
                let roots = Arc::new(roots(&clients.trusted)?);
                let verifier =
                    WebPkiClientVerifier::builder_with_provider(roots, Arc::clone(&provider));
                let verifier = if clients.is_optional {
                    verifier.allow_unauthenticated()
                } else {
                    verifier
                };
                builder
                    .with_client_cert_verifier(verifier.build().map_err(|error| error.to_string())?)
            }
        };
        let names = Arc::new(ByName::new(&tls.certificates, &provider)?);
        let not_after = names.not_after();
        let mut config = builder.with_cert_resolver(Arc::clone(&names) as _);
        config.session_storage = Arc::new(NoServerSessionStorage {});
        if tls.client_certificates.is_some() {
            // A resumed session does not show its certificate again: who was let in once, or by another listener with the
            // same keys, would come in.
            config.send_tls13_tickets = 0;
        } else {
            config.send_tls13_tickets = 1;
            config.ticketer = match tls.ticket_keys.as_slice() {
                [] => Arc::clone(tickets),
                keys => Arc::new(Sealer::new(keys)),
            };
        }
        if is_http {
            config.alpn_protocols = vec![HTTP_1_1.to_vec()];
            if tls.http2 {
                config.alpn_protocols.insert(0, H2.to_vec());
            }
        }
        Ok(Self {
            config: Some(Arc::new(config)),
            names: (names.all.len() > 1).then_some(names),
            not_after,
        })
    }

    /// When the first of its certificates ends, in seconds since the Unix epoch; none: that cannot be told.
    pub(crate) fn not_after(&self) -> Option<i64> {
        self.not_after
    }

    /// Whether `host`, which may have a port, is none that the certificate of a connection is for, but one of another
    /// certificate's.
    pub(crate) fn is_misdirected(&self, shown: &Shown, host: &str) -> bool {
        let Some(names) = &self.names else {
            return false;
        };
        let host = name_of(host);
        !shown.is_for(host) && names.places(&host.to_ascii_lowercase()).next().is_some()
    }

    /// A connection whose handshake is to come.
    pub(crate) fn session(&self) -> Option<Session> {
        let config = Arc::clone(self.config.as_ref()?);
        UnbufferedServerConnection::new(config)
            .map(Session::server)
            .ok()
    }
}

impl PartialEq for TlsRules {
    fn eq(&self, other: &Self) -> bool {
        is_same(self.config.as_ref(), other.config.as_ref())
    }
}

impl Eq for TlsRules {}

impl fmt::Debug for TlsRules {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsRules").finish_non_exhaustive()
    }
}

/// Whether both are one.
pub(super) fn is_same<T>(one: Option<&Arc<T>>, other: Option<&Arc<T>>) -> bool {
    match (one, other) {
        (Some(one), Some(other)) => Arc::ptr_eq(one, other),
        (one, other) => one.is_none() && other.is_none(),
    }
}

/// Those who vouch, from PEM.
///
/// # Errors
/// What cannot vouch, in words.
pub(crate) fn roots(pem: &str) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(pem)? {
        roots.add(certificate).map_err(|error| error.to_string())?;
    }
    Ok(roots)
}

fn certificates(pem: &str) -> Result<Vec<CertificateDer<'static>>, String> {
    CertificateDer::pem_slice_iter(pem.as_bytes())
        .collect::<Result<_, _>>()
        .map_err(|error| error.to_string())
}

/// Certificates by the names that they are for. Of those for one name, and of those for none, the first that a client can
/// check is shown.
#[derive(Debug)]
struct ByName {
    all: Vec<(Arc<CertifiedKey>, Shown)>,
    /// By name in lower case, and by `*.` with what follows it; places in `all`.
    names: HashMap<String, Vec<usize>>,
}

impl ByName {
    fn new(certificates: &[Certificate], provider: &CryptoProvider) -> Result<Self, String> {
        let mut all = Vec::new();
        let mut names: HashMap<String, Vec<usize>> = HashMap::new();
        for (place, certificate) in certificates.iter().enumerate() {
            let chain = self::certificates(&certificate.chain)?;
            let key = PrivateKeyDer::from_pem_slice(certificate.key.reveal().as_bytes())
                .map_err(|_| "no private key in PEM".to_owned())?;
            let own = chain.first().map(names_of).unwrap_or_default();
            for name in &own {
                names.entry(name.clone()).or_default().push(place);
            }
            let key = CertifiedKey::from_der(chain, key, provider);
            let key = Arc::new(key.map_err(|error| error.to_string())?);
            all.push((key, Shown::new(own)));
        }
        Ok(Self { all, names })
    }

    fn not_after(&self) -> Option<i64> {
        let own = self.all.iter().filter_map(|(key, _)| key.cert.first());
        own.filter_map(|der| Some(Validity::of(der)?.not_after))
            .min()
    }

    /// Where the certificates for `name`, in lower case, stand in `all`, the best first.
    fn places(&self, name: &str) -> impl Iterator<Item = usize> {
        let keys = [Some(name.to_owned()), wildcard(name)];
        let keys = keys.into_iter().flatten();
        keys.flat_map(|key| self.names.get(&key).map_or(&[][..], Vec::as_slice))
            .copied()
    }

    /// Where the certificate stands that a client is shown which asks for `name`, the first that it can check.
    fn choose(&self, name: Option<&str>, fits: impl Fn(&CertifiedKey) -> bool) -> usize {
        let name = name.map(|name| name.trim_end_matches('.').to_ascii_lowercase());
        let of_name = || name.iter().flat_map(|name| self.places(name));
        let mut candidates = of_name().chain(0..self.all.len());
        let found = candidates.find(|place| fits(&self.all[*place].0));
        found.or_else(|| of_name().next()).unwrap_or_default()
    }
}

impl ResolvesServerCert for ByName {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let schemes = hello.signature_schemes();
        let fits = |key: &CertifiedKey| key.key.choose_scheme(schemes).is_some();
        let name = hello.server_name();
        let (key, shown) = self.all.get(self.choose(name, fits))?;
        // Whoever asks for no name has no other way to what it wants.
        if self.all.len() > 1 && name.is_some() {
            shown.clone().leave();
        }
        Some(Arc::clone(key))
    }
}

/// The DNS names that a certificate is for, in lower case.
fn names_of(certificate: &CertificateDer<'static>) -> Vec<String> {
    match webpki::EndEntityCert::try_from(certificate) {
        Ok(parsed) => parsed
            .valid_dns_names()
            .map(str::to_ascii_lowercase)
            .collect(),
        Err(_) => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use podline_api::Secret;

    fn made(names: &[&str]) -> Certificate {
        let names = names.iter().map(ToString::to_string).collect::<Vec<_>>();
        let made = rcgen::generate_simple_self_signed(names).unwrap();
        Certificate {
            chain: made.cert.pem(),
            key: Secret::new(made.signing_key.serialize_pem()),
        }
    }

    #[test]
    fn what_cannot_be_made_ready_serves_nobody() {
        let mut tls = Tls {
            certificates: vec![made(&["a.example"])],
            min_version: TlsVersion::Tls12,
            client_certificates: None,
            http2: false,
            ticket_keys: Vec::new(),
        };
        let tickets = crate::tls::tickets::of_this_process();
        assert!(TlsRules::new(&tls, true, &tickets).session().is_some());
        tls.certificates[0].key = Secret::new("no key".to_owned());
        assert!(TlsRules::new(&tls, true, &tickets).session().is_none());
    }

    #[test]
    fn the_name_that_is_asked_for_decides() {
        let certificates = [
            made(&["first.example"]),
            made(&["*.shop.example", "Other.Test"]),
            made(&["a.shop.example"]),
        ];
        let names = ByName::new(&certificates, &ring::default_provider()).unwrap();
        let place = |name| Some(names.choose(name, |_| true));
        for (name, expected) in [
            (None, 0),
            (Some("first.example"), 0),
            (Some("a.shop.example"), 2),
            (Some("A.Shop.Example."), 2),
            (Some("b.shop.example"), 1),
            (Some("b.a.shop.example"), 0), // a wildcard is for one label
            (Some("shop.example"), 0),
            (Some("other.test"), 1),
            (Some("nobody.test"), 0),
        ] {
            assert_eq!(place(name), Some(expected), "{name:?}");
        }
    }
}
