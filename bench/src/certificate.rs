//! The certificate that subjects show where clients speak TLS with them: ECDSA P-256, signed by itself, made anew for each
//! stage. It must not know who shows it, nor who trusts it.

use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair};

/// The name that it is for, which clients ask for.
pub const NAME: &str = "bench.podline.test";

/// A certificate with its private key, in PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificate {
    /// The certificate.
    pub chain: String,
    /// Its key, PKCS #8. It lives as long as the files of a run, and opens nothing else.
    pub key: String,
    /// The certificate as clients come to trust it.
    pub(crate) der: Vec<u8>,
}

impl Certificate {
    /// Makes one.
    ///
    /// # Errors
    /// The system gave no randomness.
    pub fn made() -> Result<Self, String> {
        let make = || {
            let mut parameters = CertificateParams::new(vec![NAME.to_owned()])?;
            parameters.distinguished_name = DistinguishedName::new();
            let name = &mut parameters.distinguished_name;
            name.push(DnType::CommonName, NAME);
            let key = KeyPair::generate()?; // ECDSA P-256 is its default
            let certificate = parameters.self_signed(&key)?;
            Ok((certificate, key))
        };
        let (certificate, key) =
            make().map_err(|error: rcgen::Error| format!("no certificate was made: {error}"))?;
        Ok(Self {
            chain: certificate.pem(),
            key: key.serialize_pem(),
            der: certificate.der().to_vec(),
        })
    }
}
