//! Draws keys and signs certificates. What is to be made, and when, is decided elsewhere.

use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SanType, date_time_ymd,
};

use super::Lives;
use super::channel::{Channel, End, Names};
use super::x509::{Flaw, Pair, authority_name};

/// Why nothing was made. A settings mistake, or ours: trying again does not help.
#[derive(Debug, thiserror::Error)]
pub(super) enum MakeError {
    /// The library refused.
    #[error("cannot make a certificate")]
    Refused(#[from] rcgen::Error),
    /// What came out cannot be read back.
    #[error("what was made {0}")]
    Unusable(Flaw),
}

/// A new CA.
pub(super) fn authority(channel: Channel, lives: &Lives, now: i64) -> Result<Pair, MakeError> {
    let key = KeyPair::generate()?;
    let mut parameters = named(&authority_name(channel, &key));
    span(&mut parameters, now, lives.authority, i64::MAX);
    let certificate = parameters.self_signed(&key)?;
    let key = key.serialize_pem();
    let (certificate, key) = (certificate.pem(), key.as_bytes());
    Pair::authority(channel, Some(certificate.as_bytes()), Some(key)).map_err(MakeError::Unusable)
}

/// A new leaf for `end`, which does not outlive its signer.
pub(super) fn leaf(
    channel: Channel,
    end: End,
    names: Names<'_>,
    signer: &Pair,
    lives: &Lives,
    now: i64,
) -> Result<Pair, MakeError> {
    let issuer_key = KeyPair::from_pem(&signer.key.0)?;
    let issuer = Issuer::new(named(&authority_name(channel, &issuer_key)), issuer_key);
    let mut parameters = CertificateParams::default();
    let common_name = format!("podline {}", end.name());
    parameters.distinguished_name = rcgen::DistinguishedName::new();
    parameters
        .distinguished_name
        .push(DnType::CommonName, common_name);
    for name in end.dns_names(names) {
        parameters
            .subject_alt_names
            .push(SanType::DnsName(name.try_into()?));
    }
    if let Some(uri) = end.uri_name(names) {
        parameters
            .subject_alt_names
            .push(SanType::URI(uri.try_into()?));
    }
    parameters.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    parameters.extended_key_usages = vec![if end.is_server() {
        ExtendedKeyUsagePurpose::ServerAuth
    } else {
        ExtendedKeyUsagePurpose::ClientAuth
    }];
    parameters.use_authority_key_identifier_extension = true;
    span(
        &mut parameters,
        now,
        lives.leaf,
        signer.certificate.validity.not_after,
    );
    let key = KeyPair::generate()?;
    let certificate = parameters.signed_by(&key, &issuer)?;
    let key = key.serialize_pem();
    Pair::leaf(Some(certificate.pem().as_bytes()), Some(key.as_bytes()))
        .map_err(MakeError::Unusable)
}

fn named(name: &str) -> CertificateParams {
    let mut parameters = CertificateParams::default();
    parameters.distinguished_name = rcgen::DistinguishedName::new();
    parameters.distinguished_name.push(DnType::CommonName, name);
    parameters.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    parameters.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    parameters
}

/// From a little before `now`, for machines whose clocks are behind, to `life` later or `last`, if that is sooner.
fn span(parameters: &mut CertificateParams, now: i64, life: Duration, last: i64) {
    let early = (life / 12).min(Duration::from_hours(1));
    let seconds = |time: Duration| i64::try_from(time.as_secs()).unwrap_or(i64::MAX);
    let at = |second: i64| {
        let second = Duration::from_secs(u64::try_from(second.max(0)).unwrap_or_default());
        date_time_ymd(1970, 1, 1) + second.min(Duration::from_hours(200 * 365 * 24))
    };
    parameters.not_before = at(now.saturating_sub(seconds(early)));
    parameters.not_after = at(now.saturating_add(seconds(life)).min(last));
}
