//! What must hold for any input, however hostile. Shared by the fuzz targets and the test that runs their seeds.
#![allow(dead_code, reason = "each fuzz target uses one of the two")]

use podline_api::{Apply, Document, Invalid, Rejected, v1};
use prost::Message;
use tonic::Status;

/// Bytes from the network: taken or refused, never a panic; what is taken survives the way back.
pub(crate) fn convert(data: &[u8]) {
    let Ok(wire) = v1::ApplyRequest::decode(data) else {
        return;
    };
    match Apply::try_from(wire) {
        Ok(apply) => assert_eq!(Apply::try_from(v1::ApplyRequest::from(&apply)), Ok(apply)),
        Err(invalid) => refused(invalid),
    }
}

/// A file's bytes: the same.
pub(crate) fn file(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    match Document::from_yaml(text) {
        Ok(document) => assert_eq!(Document::from_yaml(&document.to_yaml()), Ok(document)),
        Err(invalid) => refused(invalid),
    }
}

/// A refusal says something, is bounded, and reaches the client.
fn refused(invalid: Invalid) {
    assert!((1..=Invalid::MAX + 1).contains(&invalid.violations.len()));
    assert!(
        invalid
            .violations
            .iter()
            .all(|violation| !violation.problem.is_empty())
    );
    let status = Status::from(Rejected::Invalid(invalid));
    assert!(status.details().len() + status.message().len() < 12 << 10);
    assert!(matches!(
        Rejected::from_status(&status),
        Some(Rejected::Invalid(_))
    ));
}
