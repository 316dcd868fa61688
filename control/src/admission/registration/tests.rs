//! Every field that matters is found when it is not as it should be, and nothing else is.

use rcgen::{CertificateParams, IsCa, KeyPair};
use serde_json::{Value, json};

use super::*;

fn authority() -> Vec<u8> {
    let mut parameters = CertificateParams::default();
    parameters.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let key = KeyPair::generate().unwrap();
    parameters.self_signed(&key).unwrap().pem().into_bytes()
}

fn on(bundle: &[u8]) -> Basis<'_> {
    Basis {
        namespace: "lb",
        is_on: true,
        bundle: Some(bundle),
        is_alone: false,
    }
}

/// What is wrong with `found`, of which `kept` is to be as `bundle` says.
fn wrong(kept: &Kept, found: &Value, bundle: &[u8]) -> Vec<String> {
    let wish = (kept.wish)(&on(bundle), None).unwrap();
    flaws(&(kept.view)(found), &wish)
}

/// Each object that differs from `value` in one thing below `path`, with where.
fn mutations(value: &Value) -> Vec<(String, Value)> {
    let mut all = Vec::new();
    match value {
        Value::Object(map) => {
            for (key, inner) in map {
                let mut put = |what: &str, changed: Option<Value>| {
                    let mut map = map.clone();
                    match changed {
                        Some(changed) => map.insert(key.clone(), changed),
                        None => map.remove(key),
                    };
                    all.push((format!(".{key}{what}"), Value::Object(map)));
                };
                for (what, changed) in mutations(inner) {
                    put(&what, Some(changed));
                }
                let is_nothing = [json!({}), json!(false)].contains(inner);
                if !is_nothing {
                    put(" removed", None);
                }
            }
        }
        Value::Array(list) => {
            for (i, inner) in list.iter().enumerate() {
                for (what, changed) in mutations(inner) {
                    let mut list = list.clone();
                    list[i] = changed;
                    all.push((format!("[{i}]{what}"), Value::Array(list)));
                }
                let mut fewer = list.clone();
                fewer.remove(i);
                all.push((format!("[{i}] removed"), Value::Array(fewer)));
                let mut more = list.clone();
                more.push(mutations(inner).remove(0).1);
                all.push((format!("[{i}] again"), Value::Array(more)));
            }
        }
        Value::String(text) => all.push((String::new(), json!(format!("x{text}")))),
        Value::Number(number) => all.push((String::new(), json!(number.as_i64().unwrap() + 1))),
        Value::Bool(is) => all.push((String::new(), json!(!is))),
        Value::Null => {}
    }
    all
}

#[test]
fn what_is_as_wished_has_no_flaw_and_every_change_of_it_has() {
    let bundle = authority();
    let mut count = 0;
    for kept in KEPT {
        let wish = (kept.wish)(&on(&bundle), None).unwrap();
        assert_eq!(wrong(kept, &wish, &bundle), [""; 0], "{}", kept.kind);
        for field in ["webhooks", "spec", "metadata"] {
            for (path, changed) in mutations(&wish[field]) {
                if field == "metadata" && !path.starts_with(".labels.") {
                    continue;
                }
                let mut found = wish.clone();
                found[field] = changed;
                let told = wrong(kept, &found, &bundle);
                assert!(!told.is_empty(), "{}: {field}{path} is not seen", kept.kind);
                // And it can be put right by writing whole lists.
                let body = merge(&(kept.view)(&found), &wish, &json!("7"));
                let mended = merged_into(&found, &body);
                assert_eq!(wrong(kept, &mended, &bundle), [""; 0], "{field}{path}");
                count += 1;
            }
        }
    }
    assert!(count > 150, "{count}");
}

/// As RFC 7396 has it.
fn merged_into(target: &Value, patch: &Value) -> Value {
    let Value::Object(patch) = patch else {
        return patch.clone();
    };
    let mut target = target.as_object().cloned().unwrap_or_default();
    for (key, value) in patch {
        if value.is_null() {
            target.remove(key);
        } else {
            let before = target.get(key).cloned().unwrap_or_default();
            target.insert(key.clone(), merged_into(&before, value));
        }
    }
    Value::Object(target)
}

/// Which object, where, what is put there, and what is told.
fn additions(bundle: &[u8], foreign: Vec<u8>) -> Vec<(usize, &'static str, Value, &'static str)> {
    let both = [bundle, &foreign].concat();
    vec![
        (
            1,
            "/webhooks/0/failurePolicy",
            json!("Fail"),
            "webhooks[gate.podline.io].failurePolicy is Fail",
        ),
        (
            1,
            "/webhooks/0/objectSelector",
            json!({"matchLabels": {"a": "b"}}),
            r#"webhooks[gate.podline.io].objectSelector is {"matchLabels":{"a":"b"}}"#,
        ),
        (
            2,
            "/webhooks/0/matchConditions/-",
            json!({"name": "x", "expression": "false"}),
            "webhooks[drain.podline.io].matchConditions[x] is none of Podline's",
        ),
        (
            2,
            "/webhooks/-",
            json!({"name": "other.example.com"}),
            "webhooks[other.example.com] is none of Podline's",
        ),
        (
            1,
            "/webhooks/0/clientConfig/url",
            json!("https://example.com"),
            "webhooks[gate.podline.io].clientConfig.url is https://example.com",
        ),
        (
            1,
            "/webhooks/0/clientConfig/caBundle",
            json!(ByteString(foreign)),
            "webhooks[gate.podline.io].clientConfig.caBundle holds a foreign CA",
        ),
        (
            1,
            "/webhooks/0/clientConfig/caBundle",
            json!(ByteString(both)),
            "webhooks[gate.podline.io].clientConfig.caBundle holds a foreign CA",
        ),
        (
            1,
            "/webhooks/0/clientConfig/caBundle",
            Value::Null,
            "webhooks[gate.podline.io].clientConfig.caBundle is empty",
        ),
        (
            1,
            "/webhooks/0/clientConfig/caBundle",
            json!(ByteString(b"junk".to_vec())),
            "webhooks[gate.podline.io].clientConfig.caBundle cannot be read",
        ),
        (
            0,
            "/spec/selector/more",
            json!("x"),
            "spec.selector.more is x",
        ),
        (
            0,
            "/spec/externalIPs",
            json!(["192.0.2.1"]),
            r#"spec.externalIPs is ["192.0.2.1"]"#,
        ),
        (
            0,
            "/spec/clusterIP",
            json!("None"),
            "spec.clusterIP is None",
        ),
    ]
}

#[test]
fn what_others_add_that_changes_who_is_called_is_told() {
    let (bundle, foreign) = (authority(), authority());
    let with = |kept: &Kept, pointer: &str, value: Value| {
        let mut found = (kept.wish)(&on(&bundle), None).unwrap();
        let (parent, key) = pointer.rsplit_once('/').unwrap();
        let parent = found.pointer_mut(parent).unwrap();
        match parent {
            Value::Array(list) => list.push(value),
            parent => parent[key] = value,
        }
        wrong(kept, &found, &bundle)
    };
    for (i, pointer, value, told) in additions(&bundle, foreign) {
        assert_eq!(with(&KEPT[i], pointer, value)[0], told, "{pointer}");
    }
}

#[test]
fn what_does_not_matter_is_not_told() {
    let bundle = authority();
    for kept in KEPT {
        let mut found = (kept.wish)(&on(&bundle), None).unwrap();
        let meta = json!({
            "name": "x", "uid": "u", "resourceVersion": "1", "generation": 3,
            "annotations": {"a": "b"}, "managedFields": [{"manager": "kubectl"}],
            "labels": {
                "app.kubernetes.io/name": "podline-control",
                "app.kubernetes.io/part-of": "podline", "more": "x",
            },
        });
        found["metadata"] = meta;
        if kept.kind == "Service" {
            found["spec"]["clusterIP"] = json!("10.96.0.7");
            found["spec"]["clusterIPs"] = json!(["10.96.0.7"]);
            found["spec"]["ipFamilyPolicy"] = json!("SingleStack");
            found["status"] = json!({"loadBalancer": {}});
        } else {
            // A field of a later release.
            found["webhooks"][0]["laterField"] = json!("x");
        }
        assert_eq!(wrong(kept, &found, &bundle), [""; 0], "{}", kept.kind);
    }
    // The same CAs in another form.
    let (kept, other) = (&KEPT[1], authority());
    let forth = [&bundle[..], &other].concat();
    let back = [&other[..], b"\n", &bundle].concat();
    let found = (kept.wish)(&on(&forth), None).unwrap();
    assert_eq!(wrong(kept, &found, &back), [""; 0]);
}

#[test]
fn several_bundles_have_in_common_what_each_has() {
    use crate::certificates::{common, compare};
    let (a, b) = (authority(), authority());
    let both = [&a[..], &b].concat();
    assert!(compare(&common(&[both.clone(), b.clone()]), &b).is_empty());
    assert!(common(&[both, Vec::new()]).is_empty());
    let read = (KEPT[1].bundles)(&(KEPT[1].wish)(&on(&a), None).unwrap());
    assert_eq!(read, [a]);
    assert_eq!((KEPT[1].bundles)(&Value::Null), [b""]);
    assert!((KEPT[0].bundles)(&Value::Null).is_empty());
}

#[test]
fn without_webhooks_only_what_calls_this_namespace_is_emptied() {
    let bundle = authority();
    let off = |namespace| Basis {
        namespace,
        is_on: false,
        bundle: None,
        is_alone: true,
    };
    for kept in &KEPT[1..] {
        let found = (kept.wish)(&on(&bundle), None).unwrap();
        assert_eq!((kept.wish)(&off("lb"), None), None);
        assert_eq!((kept.wish)(&off("elsewhere"), Some(&found)), None);
        let wish = (kept.wish)(&off("lb"), Some(&found)).unwrap();
        assert_eq!(wish["webhooks"], json!([]));
        assert_eq!(flaws(&(kept.view)(&found), &wish).len(), 1);
        assert_eq!((kept.wish)(&off("lb"), Some(&wish)), None);
    }
    assert_eq!((KEPT[0].wish)(&off("lb"), None), None);
    // Whom to trust is not known yet.
    let unknown = Basis {
        bundle: None,
        ..on(&bundle)
    };
    assert_eq!((KEPT[1].wish)(&unknown, None), None);
    assert!((KEPT[0].wish)(&unknown, None).is_some());
}

#[test]
fn the_policies_are_those_that_block_nobody() {
    let bundle = authority();
    for (kept, seconds, effects) in [(&KEPT[1], 2, "None"), (&KEPT[2], 3, "NoneOnDryRun")] {
        let wish = (kept.wish)(&on(&bundle), None).unwrap();
        let webhook = &wish["webhooks"][0];
        assert_eq!(webhook["failurePolicy"], "Ignore");
        assert_eq!(webhook["timeoutSeconds"], seconds);
        assert_eq!(webhook["sideEffects"], effects);
        let named = &webhook["namespaceSelector"]["matchExpressions"][0];
        assert_eq!(named["values"], json!(["kube-system", "lb"]));
        let service = &webhook["clientConfig"]["service"];
        assert_eq!(service["port"], 443);
    }
}

#[test]
fn the_version_of_the_switches_is_ours_where_they_are_and_tke_is_not() {
    let kept = &SWITCHES[0];
    let alone = Basis {
        is_alone: true,
        ..on(b"")
    };
    let found = |data: Value| json!({"metadata": {"labels": {"a": "b"}}, "data": data});
    let bare = found(json!({}));
    assert_eq!(
        (kept.wish)(&on(b""), Some(&bare)),
        None,
        "TKE's may be here"
    );
    assert_eq!((kept.wish)(&alone, None), None, "nobody made it");
    let wish = (kept.wish)(&alone, Some(&bare)).unwrap();
    let own = switches::own_version();
    let wrong = |data: Value| flaws(&(kept.view)(&found(data)), &wish);
    assert_eq!(wrong(json!({})), ["data.VERSION is missing"]);
    assert_eq!(
        wrong(json!({"VERSION": "v2.11.4", "GlobalRouteDirectAccess": "yes"})),
        ["data.VERSION is v2.11.4"]
    );
    assert_eq!(wrong(json!({"VERSION": own, "x": "y"})), [""; 0]);
    assert_eq!((kept.home)("lb"), Some("kube-system"));
}
