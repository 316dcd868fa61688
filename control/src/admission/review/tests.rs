//! Reviews as they come, and as they should not.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use serde_json::{Value, json};

use super::*;

fn review(request: &Value) -> Value {
    json!({"apiVersion": VERSION, "kind": KIND, "request": request})
}

fn pods() -> Value {
    json!({"group": "", "version": "v1", "resource": "pods"})
}

fn parse(text: &str) -> Result<Request, String> {
    read(text.as_bytes())
}

#[test]
fn what_is_no_review_is_refused_in_words_that_quote_little() {
    let long = format!("\"{}", "é".repeat(100_000));
    let deep = "[".repeat(100_000);
    let deep_pod = format!(
        "{{\"request\":{{\"object\":{}1{}}}}}",
        "{\"spec\":".repeat(1_000),
        "}".repeat(1_000)
    );
    for (text, told) in [
        ("", "no AdmissionReview: EOF"),
        ("{", "no AdmissionReview: EOF"),
        ("null", "no AdmissionReview: invalid type"),
        ("[]", "kind \"\", not AdmissionReview"),
        (long.as_str(), "no AdmissionReview"),
        (deep.as_str(), "no AdmissionReview"),
        (deep_pod.as_str(), "no AdmissionReview"),
        ("\0\u{1b}[31m", "no AdmissionReview: expected value"),
        ("{}", "kind \"\", not AdmissionReview"),
        (
            r#"{"kind": "ConversionReview", "apiVersion": "apiextensions.k8s.io/v1"}"#,
            "kind \"ConversionReview\", not AdmissionReview",
        ),
        (
            r#"{"kind": "AdmissionReview", "apiVersion": "admission.k8s.io/v1beta1"}"#,
            "apiVersion \"admission.k8s.io/v1beta1\", not admission.k8s.io/v1",
        ),
        (
            r#"{"kind": "AdmissionReview", "apiVersion": "admission.k8s.io/v1"}"#,
            "the review has no request",
        ),
        (
            r#"{"kind": "AdmissionReview", "apiVersion": "admission.k8s.io/v1", "request": null}"#,
            "the review has no request",
        ),
        (
            r#"{"kind": "AdmissionReview", "apiVersion": "admission.k8s.io/v1", "request": {}}"#,
            "no AdmissionReview: missing field `uid`",
        ),
        (
            r#"{"kind": "AdmissionReview", "apiVersion": "admission.k8s.io/v1", "request": {"uid": ""}}"#,
            "the request has no uid",
        ),
        (
            r#"{"kind": "AdmissionReview", "apiVersion": "admission.k8s.io/v1", "request": {"uid": "1", "uid": "2"}}"#,
            "no AdmissionReview: duplicate field",
        ),
        (
            r#"{"kind": "AdmissionReview", "apiVersion": "admission.k8s.io/v1", "request": {"uid": "1", "object": {"metadata": {"labels": []}}}}"#,
            "no AdmissionReview: invalid type",
        ),
    ] {
        let problem = parse(text).unwrap_err();
        assert!(problem.starts_with(told), "{problem}, not {told}");
        assert!(
            problem.len() < 200 && !problem.contains(char::is_control),
            "{problem}"
        );
    }
}

/// The beginning of every text that is one: nothing of it may break anything.
#[test]
fn a_review_that_breaks_off_anywhere_is_refused() {
    let request = json!({
        "uid": "1", "operation": "CREATE", "namespace": "shop", "resource": pods(),
        "object": {"metadata": {"labels": {"app": "wéb"}}, "spec": {"containers": [{"lifecycle": {"preStop": {}}}]}},
    });
    let text = review(&request).to_string();
    assert!(parse(&text).is_ok());
    for end in 0..text.len() {
        assert!(read(&text.as_bytes()[..end]).is_err(), "{end}");
    }
}

#[test]
fn fields_that_are_null_or_absent_or_unknown_are_as_good_as_empty() {
    for object in [
        json!(null),
        json!({}),
        json!({"metadata": null, "spec": null, "status": {"anything": [1]}}),
        json!({"metadata": {"labels": null, "annotations": null, "uid": null}, "spec": {"readinessGates": null, "containers": null, "hostNetwork": null}}),
    ] {
        let request = json!({"uid": "1", "name": null, "namespace": null, "object": object, "oldObject": null, "options": null, "dryRun": null, "subResource": null});
        let request = parse(&review(&request).to_string()).unwrap();
        assert_eq!((request.name(), request.namespace()), ("", ""));
        assert!(!request.is_dry_run() && !request.is_about_pods(""));
        if let Some(object) = request.object {
            assert!(!object.has_gate() && !object.is_mirror() && !object.is_deleting());
            assert_eq!((object.uid(), object.labels()), ("", None));
        }
    }
}

#[test]
fn a_name_may_stand_in_the_object_alone() {
    let named = |request: Value| {
        let mut whole = json!({"uid": "1"});
        whole
            .as_object_mut()
            .unwrap()
            .extend(request.as_object().unwrap().clone());
        parse(&review(&whole).to_string())
            .unwrap()
            .name()
            .to_owned()
    };
    let pod = json!({"metadata": {"name": "web-0"}});
    assert_eq!(named(json!({"name": "web-1", "oldObject": pod})), "web-1");
    assert_eq!(named(json!({"name": "", "oldObject": pod})), "web-0");
    assert_eq!(named(json!({"oldObject": pod})), "web-0");
    assert_eq!(named(json!({"object": pod})), "web-0");
}

#[test]
fn a_dry_run_and_a_wanted_uid_may_stand_in_an_eviction() {
    let check = |request: Value, dry_run: bool, uid: Option<&str>| {
        let mut whole = json!({"uid": "1"});
        whole
            .as_object_mut()
            .unwrap()
            .extend(request.as_object().unwrap().clone());
        let request = parse(&review(&whole).to_string()).unwrap();
        assert_eq!((request.is_dry_run(), request.wanted_uid()), (dry_run, uid));
    };
    check(json!({}), false, None);
    check(json!({"dryRun": true}), true, None);
    check(json!({"options": {"dryRun": ["All"]}}), true, None);
    check(json!({"options": {"dryRun": []}}), false, None);
    check(
        json!({"object": {"deleteOptions": {"dryRun": ["All"]}}}),
        true,
        None,
    );
    check(
        json!({"options": {"preconditions": {"uid": "a"}}}),
        false,
        Some("a"),
    );
    check(
        json!({"object": {"deleteOptions": {"preconditions": {"uid": "b"}}}, "options": {}}),
        false,
        Some("b"),
    );
}

#[test]
fn an_answer_allows_and_carries_the_uid_and_the_patch() {
    let read = |answer: Vec<u8>| serde_json::from_slice::<Value>(&answer).unwrap();
    let plain =
        json!({"apiVersion": VERSION, "kind": KIND, "response": {"uid": "a\"b", "allowed": true}});
    assert_eq!(read(allow("a\"b", None)), plain);
    let patched = read(allow("1", Some(b"[]".to_vec())));
    let response = &patched["response"];
    assert_eq!(response["allowed"], true);
    assert_eq!(
        (&response["patchType"], &response["patch"]),
        (&json!("JSONPatch"), &json!("W10="))
    );
}
