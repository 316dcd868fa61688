//! TLS on the wire and in files: which values are right, and what can be used together.

use std::fmt::Write;

use tokio_rustls::rustls::RootCertStore;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio_rustls::rustls::sign::CertifiedKey;

use super::{BackendTls, Certificate, ClientCertificates, Secret, TicketKey, Tls, TlsVersion};
use crate::invalid::Checks;
use crate::{Invalid, Protocol, Validity, form, v1};

const MAX_CERTIFICATES: usize = 100;
const MAX_TICKET_KEYS: usize = 10;
/// Bytes of a chain, of a key, of those who vouch.
const MAX_PEM: usize = 256 << 10;

impl Tls {
    /// Reads what stands among the other fields of a listener; nothing where its protocol has no TLS.
    pub(crate) fn of_listener(
        wire: Option<&v1::TlsSettings>,
        protocol: Option<Protocol>,
    ) -> Result<Option<Self>, Invalid> {
        match (wire, protocol) {
            (None, Some(protocol)) if protocol.has_tls() => Err(Invalid::one(
                "",
                "is required: `certificates` says what clients are shown",
            )),
            (Some(_), Some(protocol)) if !protocol.has_tls() => {
                Err(Invalid::one("", "is for `protocol: TLS` or `HTTPS`"))
            }
            (None, _) => Ok(None),
            (Some(wire), _) => Self::read(wire, protocol).map(Some),
        }
    }

    fn read(wire: &v1::TlsSettings, protocol: Option<Protocol>) -> Result<Self, Invalid> {
        use v1::tls_settings::Version as Wire;
        let mut checks = Checks::default();
        let certificates = &wire.certificates;
        let problem = match certificates.len() {
            0 => Some("name one at least".to_owned()),
            1..=MAX_CERTIFICATES => None,
            many => Some(too_many(many, MAX_CERTIFICATES)),
        };
        if let Some(problem) = problem {
            checks.refuse("certificates", problem);
        }
        let first = certificates.iter().take(MAX_CERTIFICATES).collect();
        let certificates = checks.each("certificates", first, Certificate::read);
        let min_version = checks.take("minVersion", form::optional(wire.min_version));
        let clients = wire.client_certificates.as_ref();
        let clients = clients.map(ClientCertificates::read).transpose();
        let clients = checks.take("clientCertificates", clients);
        let is_http = protocol != Some(Protocol::Tls);
        if wire.http2 == Some(true) && !is_http {
            checks.refuse("http2", "is for `protocol: HTTPS`");
        }
        let keys = &wire.ticket_keys;
        if keys.len() > MAX_TICKET_KEYS {
            checks.refuse("ticketKeys", too_many(keys.len(), MAX_TICKET_KEYS));
        }
        let keys = keys.iter().take(MAX_TICKET_KEYS).map(String::as_str);
        let keys = checks.each("ticketKeys", keys.collect(), TicketKey::read);
        let value = min_version.zip(clients).map(|(min_version, clients)| Self {
            certificates: certificates.into_iter().map(|(_, one)| one).collect(),
            min_version: match min_version {
                Some(Wire::Tls13) => TlsVersion::Tls13,
                _ => TlsVersion::Tls12,
            },
            client_certificates: clients,
            http2: is_http && wire.http2.unwrap_or(true),
            ticket_keys: keys.into_iter().map(|(_, key)| key).collect(),
        });
        checks.finish(value)
    }

    /// The wire form. `whole`: with secrets.
    pub(crate) fn to_wire(&self, whole: bool) -> v1::TlsSettings {
        use v1::tls_settings::Version as Wire;
        let version = match self.min_version {
            TlsVersion::Tls12 => Wire::Tls12,
            TlsVersion::Tls13 => Wire::Tls13,
        };
        let certificate = |one: &Certificate| v1::Certificate {
            chain: one.chain.clone(),
            key: if whole {
                one.key.reveal().to_owned()
            } else {
                String::new()
            },
            ..v1::Certificate::default()
        };
        let clients = |clients: &ClientCertificates| v1::ClientCertificates {
            trusted: clients.trusted.clone(),
            optional: clients.is_optional,
            ..v1::ClientCertificates::default()
        };
        let key = |key: &TicketKey| hex(if whole { &key.0 } else { key.name() });
        v1::TlsSettings {
            certificates: self.certificates.iter().map(certificate).collect(),
            min_version: Some(version.into()),
            client_certificates: self.client_certificates.as_ref().map(clients),
            http2: Some(self.http2),
            ticket_keys: self.ticket_keys.iter().map(key).collect(),
        }
    }
}

impl Certificate {
    /// A chain and its key, both in PEM.
    ///
    /// # Errors
    /// They cannot be used, or not together.
    pub fn of(chain: String, key: &Secret) -> Result<Self, Invalid> {
        Self::read(&v1::Certificate {
            chain,
            key: key.reveal().to_owned(),
            ..v1::Certificate::default()
        })
    }

    /// When the server's own certificate begins and ends; absent if the chain is not one that could be read.
    pub fn validity(&self) -> Option<Validity> {
        let own = CertificateDer::pem_slice_iter(self.chain.as_bytes()).next()?;
        Validity::of(&own.ok()?)
    }

    fn read(wire: &v1::Certificate) -> Result<Self, Invalid> {
        let mut checks = Checks::default();
        let chain = checks.take("", pem(&wire.chain, &wire.chain_file, "chain"));
        let key = checks.take("", pem(&wire.key, &wire.key_file, "key"));
        let ders = chain.map(|chain| checks.take("chain", certificates(chain)));
        let key_der = key.map(|key| checks.take("key", private_key(key)));
        if let (Some(Some(ders)), Some(Some(der))) = (ders, key_der) {
            checks.take("key", go_together(ders, der));
        }
        let value = chain.zip(key).map(|(chain, key)| Self {
            chain: chain.to_owned(),
            key: Secret::new(key.to_owned()),
        });
        checks.finish(value)
    }
}

impl ClientCertificates {
    fn read(wire: &v1::ClientCertificates) -> Result<Self, Invalid> {
        let trusted = pem(&wire.trusted, &wire.trusted_file, "trusted")?;
        vouchers(trusted).map_err(|invalid| invalid.at("trusted"))?;
        Ok(Self {
            trusted: trusted.to_owned(),
            is_optional: wire.optional,
        })
    }
}

impl TicketKey {
    fn read(wire: &str) -> Result<Self, Invalid> {
        let mut bytes = [0; Self::LENGTH];
        let is_hex = wire.len() == 2 * Self::LENGTH && wire.is_ascii();
        for (place, byte) in bytes.iter_mut().enumerate().take_while(|_| is_hex) {
            let digits = &wire[2 * place..2 * place + 2];
            *byte = u8::from_str_radix(digits, 16).map_err(|_| not_a_key())?;
        }
        if is_hex {
            Ok(Self(bytes))
        } else {
            Err(not_a_key())
        }
    }
}

impl BackendTls {
    pub(crate) fn read(wire: &v1::BackendTls) -> Result<Self, Invalid> {
        let mut checks = Checks::default();
        let has_any = !(wire.trusted.is_empty() && wire.trusted_file.is_empty());
        let trusted = has_any.then(|| pem(&wire.trusted, &wire.trusted_file, "trusted"));
        let trusted = checks.take("", trusted.transpose());
        if let Some(Some(trusted)) = trusted {
            checks.take("trusted", vouchers(trusted));
        }
        let name = wire.server_name.as_str();
        if name.is_empty() && has_any {
            checks.refuse("serverName", "is required: whose certificate is it to be?");
        } else if !name.is_empty() && ServerName::try_from(name).is_err() {
            checks.refuse("serverName", "is no DNS name and no address");
        }
        checks.finish(trusted.map(|trusted| Self {
            trusted: trusted.map(str::to_owned),
            server_name: (!name.is_empty()).then(|| name.to_owned()),
        }))
    }

    pub(crate) fn to_wire(&self) -> v1::BackendTls {
        v1::BackendTls {
            trusted: self.trusted.clone().unwrap_or_default(),
            server_name: self.server_name.clone().unwrap_or_default(),
            ..v1::BackendTls::default()
        }
    }
}

fn too_many(many: usize, most: usize) -> String {
    format!("{many} entries are too many: use {most} at most")
}

fn not_a_key() -> Invalid {
    let digits = 2 * TicketKey::LENGTH;
    Invalid::one("", format!("is not of {digits} hexadecimal digits"))
}

/// The text of `field`. Whoever reads a configuration file has put it there in the place of the file's name.
fn pem<'a>(text: &'a str, file: &str, field: &str) -> Result<&'a str, Invalid> {
    if !file.is_empty() {
        let problem = "is for configuration files: send what it holds";
        return Err(Invalid::one(format!("{field}File"), problem));
    }
    match text.len() {
        0 => {
            let problem = format!("is required, or {field}File in a configuration file");
            Err(Invalid::one(field, problem))
        }
        1..=MAX_PEM => Ok(text),
        _ => Err(Invalid::one(field, "is longer than 256 KiB")),
    }
}

fn certificates(pem: &str) -> Result<Vec<CertificateDer<'static>>, Invalid> {
    let list: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem.as_bytes()).collect();
    match list {
        Ok(list) if list.is_empty() => Err(Invalid::one("", "holds no certificate in PEM")),
        Ok(list) => Ok(list),
        Err(error) => Err(Invalid::one("", format!("is not PEM: {error}"))),
    }
}

fn private_key(pem: &str) -> Result<PrivateKeyDer<'static>, Invalid> {
    PrivateKeyDer::from_pem_slice(pem.as_bytes())
        .map_err(|_| Invalid::one("", "holds no private key in PEM"))
}

fn go_together(
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
) -> Result<(), Invalid> {
    let provider = ring::default_provider();
    let refused = |error| Invalid::one("", format!("cannot be used with the chain: {error}"));
    CertifiedKey::from_der(chain, key, &provider)
        .map(|_| ())
        .map_err(refused)
}

fn vouchers(pem: &str) -> Result<(), Invalid> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(pem)? {
        let refused = |error| Invalid::one("", format!("holds what cannot vouch: {error}"));
        roots.add(certificate).map_err(refused)?;
    }
    Ok(())
}

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}
