//! A Secret, as far as a listener can show what it holds.

use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::core::v1 as core;
use podline_api::Certificate;

/// The type that holds a certificate and its key.
const TLS: &str = "kubernetes.io/tls";
/// Bytes of a chain and its key together at most; of a usual one they are five thousand.
const MOST_BYTES: usize = 64 << 10;
/// What a cloud's own controller wants in a Secret: the id of a certificate that the cloud keeps.
const CLOUD_ID: &str = "qcloud_cert_id";

/// What a Secret holds. Keys are never shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TlsSecret {
    /// A certificate and its key.
    Good {
        /// Both.
        certificate: Arc<Certificate>,
        /// When the certificate ended, if it has: it is shown all the same.
        ended: Option<Timestamp>,
    },
    /// There is no such Secret.
    Absent,
    /// It holds nothing that can be shown; why, and what to do.
    Bad(String),
    /// We lack the right to read it.
    Forbidden,
    /// It could not be read; why.
    Unreadable(String),
}

impl TlsSecret {
    /// What the object holds at `now`, in seconds since 1970.
    pub fn read(object: &core::Secret, now: i64) -> Self {
        match certificate(object) {
            Ok(certificate) => {
                let end = certificate.validity().map(|validity| validity.not_after);
                let ended = end.filter(|end| *end < now);
                Self::Good {
                    certificate: Arc::new(certificate),
                    ended: ended.and_then(|end| Timestamp::from_second(end).ok()),
                }
            }
            Err(problem) => Self::Bad(problem),
        }
    }

    /// When it is to be read again though it does not change: its certificate ends then, in seconds since 1970.
    pub fn ends(&self) -> Option<i64> {
        match self {
            Self::Good {
                certificate,
                ended: None,
            } => certificate.validity().map(|validity| validity.not_after),
            _ => None,
        }
    }
}

fn certificate(object: &core::Secret) -> Result<Certificate, String> {
    let kind = object.type_.as_deref().unwrap_or("Opaque");
    if ![TLS, "Opaque"].contains(&kind) {
        let kind = crate::build::annotation::shorten(kind);
        return Err(format!("is of type {kind}: use {TLS}"));
    }
    let data = object.data.as_ref();
    let text = |key: &str| {
        let bytes = data.and_then(|data| data.get(key));
        let bytes = bytes.filter(|bytes| !bytes.0.is_empty());
        let text = bytes.map(|bytes| String::from_utf8(bytes.0.clone()));
        text.map(|text| text.map_err(|_| format!("holds no PEM in {key}")))
            .transpose()
    };
    let (Some(chain), Some(key)) = (text("tls.crt")?, text("tls.key")?) else {
        let is_clouds = data.is_some_and(|data| data.contains_key(CLOUD_ID));
        return Err(if is_clouds {
            format!(
                "has {CLOUD_ID}, which names a certificate that a cloud keeps: make a Secret of type {TLS} with the certificate itself"
            )
        } else {
            format!("lacks tls.crt or tls.key: make one of type {TLS}")
        });
    };
    if chain.len() + key.len() > MOST_BYTES {
        return Err(format!("is larger than {MOST_BYTES} bytes"));
    }
    Certificate::of(chain, &podline_api::Secret::new(key)).map_err(|invalid| {
        // In the words of the Secret, which calls them otherwise.
        let told = invalid.to_string();
        match told.split_once(": ") {
            Some(("chain", problem)) => format!("has a tls.crt that {problem}"),
            Some(("key", problem)) => format!("has a tls.key that {problem}"),
            _ => told,
        }
    })
}

#[cfg(test)]
mod tests {
    use k8s_openapi::ByteString;

    use super::*;
    use crate::cluster::testing::pair;

    fn secret(kind: &str, data: &[(&str, &str)]) -> core::Secret {
        let data = data.iter().map(|(key, value)| {
            let value = ByteString(value.as_bytes().to_vec());
            ((*key).to_owned(), value)
        });
        core::Secret {
            type_: Some(kind.to_owned()),
            data: Some(data.collect()),
            ..core::Secret::default()
        }
    }

    #[test]
    fn a_certificate_is_taken_with_its_key() {
        let (chain, key) = pair("a.example");
        for kind in [TLS, "Opaque"] {
            let object = secret(kind, &[("tls.crt", &chain), ("tls.key", &key)]);
            let read = TlsSecret::read(&object, 1_700_000_000);
            let TlsSecret::Good { certificate, ended } = &read else {
                panic!("{read:?}");
            };
            assert_eq!((certificate.chain.as_str(), *ended), (&*chain, None));
            assert_eq!(certificate.key.reveal(), key);
            assert!(!format!("{read:?}").contains("PRIVATE"));
            let end = read.ends().unwrap();
            let late = TlsSecret::read(&object, end + 1);
            assert!(
                matches!(late, TlsSecret::Good { ended: Some(at), .. } if at.as_second() == end)
            );
            assert_eq!(late.ends(), None);
        }
    }

    #[test]
    fn what_cannot_be_shown_is_refused_with_what_to_do() {
        let ((chain, key), (_, other)) = (pair("a.example"), pair("b.example"));
        let check = |object: &core::Secret, expected: &str| match TlsSecret::read(object, 0) {
            TlsSecret::Bad(told) => {
                assert!(told.contains(expected), "{told}");
                assert!(!told.contains("PRIVATE KEY-"), "{told}");
            }
            odd => panic!("{odd:?}"),
        };
        let both = [("tls.crt", &*chain), ("tls.key", &*key)];
        check(
            &secret("helm.sh/release.v1", &both),
            "is of type helm.sh/release.v1: use",
        );
        check(
            &secret("Opaque", &[("qcloud_cert_id", "x")]),
            "of type kubernetes.io/tls with",
        );
        check(&secret(TLS, &both[..1]), "lacks tls.crt or tls.key");
        check(&core::Secret::default(), "lacks tls.crt or tls.key");
        let wrong = [both[0], ("tls.key", &*other)];
        check(
            &secret(TLS, &wrong),
            "has a tls.key that cannot be used with the chain",
        );
        let long = "x".repeat(MOST_BYTES);
        check(
            &secret(TLS, &[("tls.crt", &long), both[1]]),
            "is larger than 65536 bytes",
        );
        let wrong = [("tls.crt", "nonsense"), both[1]];
        check(
            &secret(TLS, &wrong),
            "has a tls.crt that holds no certificate",
        );
        let mut binary = secret(TLS, &both);
        binary
            .data
            .as_mut()
            .unwrap()
            .insert("tls.key".to_owned(), ByteString(vec![0xff]));
        check(&binary, "holds no PEM in tls.key");
    }
}
