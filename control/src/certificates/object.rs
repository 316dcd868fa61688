//! The Secret objects: what they hold, and how they look after a write of ours. Pure. What is not ours in them stays.

use jiff::Timestamp;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;

use super::stored::Stored;

/// Since when the Secret is as it is: rotation waits until everybody has read it.
const WRITTEN: &str = "podline.io/certificates-written";

/// What `secret` holds.
pub(super) fn read(secret: &Secret) -> Stored {
    let data = secret.data.iter().flatten();
    let annotations = secret.metadata.annotations.as_ref();
    let written = annotations.and_then(|annotations| annotations.get(WRITTEN));
    Stored {
        data: data
            .map(|(key, value)| (key.clone(), value.0.clone()))
            .collect(),
        written: written.and_then(|text| Some(text.parse::<Timestamp>().ok()?.as_second())),
    }
}

/// A Secret that does not exist yet. Its kind cannot be changed later.
pub(super) fn new(name: &str, kind: &str) -> Secret {
    let mut secret = Secret {
        type_: Some(kind.to_owned()),
        ..Secret::default()
    };
    secret.metadata.name = Some(name.to_owned());
    secret
}

/// `secret` with what `stored` says. Its resourceVersion and uid stay: the write is refused if it changed since.
pub(super) fn with(secret: &Secret, stored: &Stored) -> Secret {
    let mut secret = secret.clone();
    let data = stored.data.iter();
    secret.data = Some(
        data.map(|(key, value)| (key.clone(), ByteString(value.clone())))
            .collect(),
    );
    let labels = secret.metadata.labels.get_or_insert_default();
    labels.insert(
        crate::installation::PART_OF.0.to_owned(),
        crate::installation::PART_OF.1.to_owned(),
    );
    let written = stored
        .written
        .and_then(|second| Timestamp::from_second(second).ok());
    if let Some(written) = written {
        let annotations = secret.metadata.annotations.get_or_insert_default();
        annotations.insert(WRITTEN.to_owned(), written.to_string());
    }
    secret
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_and_the_rest_stays() {
        let mut secret = new("x", "Opaque");
        secret.metadata.resource_version = Some("7".to_owned());
        secret.metadata.annotations = Some([("a".to_owned(), "b".to_owned())].into());
        assert_eq!(read(&secret), Stored::default());
        let stored = Stored {
            data: [("tls.crt".to_owned(), b"pem".to_vec())].into(),
            written: Some(1_700_000_000),
        };
        let secret = with(&secret, &stored);
        assert_eq!(read(&secret), stored);
        assert_eq!(secret.metadata.resource_version.as_deref(), Some("7"));
        let annotations = secret.metadata.annotations.as_ref().unwrap();
        assert_eq!(annotations["a"], "b");
        assert_eq!(annotations[WRITTEN], "2023-11-14T22:13:20Z");
        assert_eq!(
            secret.metadata.labels.as_ref().unwrap()["app.kubernetes.io/part-of"],
            "podline"
        );
    }

    #[test]
    fn an_odd_time_is_none() {
        let mut secret = new("x", "Opaque");
        secret.metadata.annotations = Some([(WRITTEN.to_owned(), "yesterday".to_owned())].into());
        assert_eq!(read(&secret).written, None);
    }
}
