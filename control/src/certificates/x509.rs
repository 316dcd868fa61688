//! Certificates as they are read from PEM: what they say, who signed them, and what is wrong with them. Pure: the time is
//! an argument. Knows no Secrets.

use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

use pem::{EncodeConfig, LineEnding, Pem};
use podline_api::Validity;
use rcgen::{CertificateParams, KeyPair, PublicKeyData};
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, UnixTime};
use webpki::{EndEntityCert, KeyUsage, anchor_from_trusted_cert};

use super::channel::{Channel, End, Names};

/// What is wrong with what a Secret holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Flaw {
    #[error("is missing")]
    Missing,
    #[error("cannot be read")]
    Unreadable,
    #[error("does not go with its key")]
    OtherKey,
    #[error("is not one that Podline makes")]
    Foreign,
    #[error("has other names")]
    OtherNames,
    #[error("is expired, or not signed by a CA that the other end trusts, or not for this use")]
    Untrusted,
}

/// A private key in PEM. It is never shown.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Key(pub(super) String);

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key")
    }
}

/// A certificate that can be read.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Certificate {
    der: CertificateDer<'static>,
    pub(super) validity: Validity,
}

impl fmt::Debug for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Certificate({:?})", self.validity)
    }
}

impl Certificate {
    /// All that can be read in `pem`, each once, and whether there is nothing else in it.
    pub(super) fn list(pem: &[u8]) -> (Vec<Self>, bool) {
        let (mut list, mut is_clean) = (Vec::new(), true);
        for der in CertificateDer::pem_slice_iter(pem) {
            match der.ok().and_then(Self::new) {
                Some(certificate) if !list.contains(&certificate) => list.push(certificate),
                _ => is_clean = false,
            }
        }
        (list, is_clean)
    }

    /// Absent if it is none, or none that can be trusted or verified.
    fn new(der: CertificateDer<'static>) -> Option<Self> {
        let validity = Validity::of(&der)?;
        let is_usable =
            anchor_from_trusted_cert(&der).is_ok() && EndEntityCert::try_from(&der).is_ok();
        is_usable.then_some(Self { der, validity })
    }

    /// All of `list`, one after the other.
    pub(super) fn pem(list: &[Self]) -> String {
        let config = EncodeConfig::new().set_line_ending(LineEnding::LF);
        let one = |certificate: &Self| {
            pem::encode_config(&Pem::new("CERTIFICATE", certificate.der.as_ref()), config)
        };
        list.iter().map(one).collect()
    }

    pub(super) fn is_expired(&self, now: i64) -> bool {
        now > self.validity.not_after
    }

    /// Whether two thirds of its life are over.
    pub(super) fn is_due(&self, now: i64) -> bool {
        let life = self
            .validity
            .not_after
            .saturating_sub(self.validity.not_before);
        let left = self.validity.not_after.saturating_sub(now);
        left <= life / 3
    }

    /// Whether it is called like a CA of this channel; anybody may call theirs so.
    pub(super) fn is_called_ours(&self, channel: Channel) -> bool {
        let name = channel.authority_name().as_bytes();
        let subject = self.subject().unwrap_or_default();
        subject.windows(name.len()).any(|part| part == name)
    }

    fn has_key(&self, key: &KeyPair) -> bool {
        let read = EndEntityCert::try_from(&self.der);
        let own = read.map(|read| read.subject_public_key_info());
        own.is_ok_and(|own| own.as_ref() == key.subject_public_key_info())
    }

    fn subject(&self) -> Option<Vec<u8>> {
        let read = EndEntityCert::try_from(&self.der).ok()?;
        Some(read.subject().to_owned())
    }
}

/// A certificate and its key, which belong together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Pair {
    pub(super) certificate: Certificate,
    pub(super) key: Key,
}

impl Pair {
    fn read(certificate: Option<&[u8]>, key: Option<&[u8]>) -> Result<(Self, KeyPair), Flaw> {
        let (Some(certificate), Some(key)) = (certificate, key) else {
            return Err(Flaw::Missing);
        };
        let certificate = Certificate::list(certificate).0.into_iter().next();
        let certificate = certificate.ok_or(Flaw::Unreadable)?;
        let text = std::str::from_utf8(key).map_err(|_| Flaw::Unreadable)?;
        let key = KeyPair::from_pem(text).map_err(|_| Flaw::Unreadable)?;
        if !certificate.has_key(&key) {
            return Err(Flaw::OtherKey);
        }
        let pair = Self {
            certificate,
            key: Key(text.to_owned()),
        };
        Ok((pair, key))
    }

    /// A leaf, whatever its names are and whoever signed it.
    pub(super) fn leaf(certificate: Option<&[u8]>, key: Option<&[u8]>) -> Result<Self, Flaw> {
        Self::read(certificate, key).map(|(pair, _)| pair)
    }

    /// A CA of ours: its name follows from its key, so that it can sign with the key alone.
    pub(super) fn authority(
        channel: Channel,
        certificate: Option<&[u8]>,
        key: Option<&[u8]>,
    ) -> Result<Self, Flaw> {
        let (pair, key) = Self::read(certificate, key)?;
        if pair.certificate.subject() != Some(encoded_name(&authority_name(channel, &key))) {
            return Err(Flaw::Foreign);
        }
        Ok(pair)
    }

    /// Whether it has the names of `end`, and no others.
    pub(super) fn is_named(&self, end: End, names: Names<'_>) -> bool {
        let Ok(read) = EndEntityCert::try_from(&self.certificate.der) else {
            return false;
        };
        let dns: BTreeSet<_> = read.valid_dns_names().map(str::to_owned).collect();
        let uris: BTreeSet<_> = read.valid_uri_names().map(str::to_owned).collect();
        dns == end.dns_names(names).into_iter().collect()
            && uris == end.uri_name(names).into_iter().collect()
    }

    /// Which of `roots` makes it good for `end` at `now`.
    pub(super) fn signer<'a>(
        &self,
        end: End,
        roots: &'a [Certificate],
        now: i64,
    ) -> Option<&'a Certificate> {
        let leaf = EndEntityCert::try_from(&self.certificate.der).ok()?;
        let now = UnixTime::since_unix_epoch(Duration::from_secs(u64::try_from(now).ok()?));
        roots.iter().find(|root| {
            let Ok(anchor) = anchor_from_trusted_cert(&root.der) else {
                return false;
            };
            let algorithms = &[webpki::ring::ECDSA_P256_SHA256];
            leaf.verify_for_usage(algorithms, &[anchor], &[], now, usage(end), None, None)
                .is_ok()
        })
    }
}

fn usage(end: End) -> KeyUsage {
    if end.is_server() {
        KeyUsage::server_auth()
    } else {
        KeyUsage::client_auth()
    }
}

/// What a channel's CA with this key is called.
pub(super) fn authority_name(channel: Channel, key: &KeyPair) -> String {
    let hash = CertificateParams::default().key_identifier(key);
    let number = hash
        .iter()
        .take(4)
        .fold(0_u32, |sum, byte| sum << 8 | u32::from(*byte));
    format!("{} {number:08x}", channel.authority_name())
}

/// How a subject that is one common name is encoded, without the outermost header. The name is short.
fn encoded_name(name: &str) -> Vec<u8> {
    const COMMON_NAME: [u8; 5] = [6, 3, 0x55, 4, 3];
    const UTF8: u8 = 0x0c;
    let tagged = |tag: u8, content: &[u8]| {
        let length = u8::try_from(content.len()).unwrap_or(u8::MAX);
        [&[tag, length], content].concat()
    };
    let attribute = [&COMMON_NAME[..], &tagged(UTF8, name.as_bytes())].concat();
    tagged(0x31, &tagged(0x30, &attribute))
}
