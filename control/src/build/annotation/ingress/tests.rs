//! Every annotation of an Ingress, a row each.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::collections::BTreeMap;

use super::super::{Read, Settings, Weights};
use super::*;

fn read(key: &str, text: &str) -> Read {
    Read::of_table(
        TABLE,
        &BTreeMap::from([(key.to_owned(), text.to_owned())]),
        None,
    )
}

/// Key, value, and what that comes to.
fn rows() -> Vec<(&'static str, &'static str, Settings)> {
    let ingress = |change: fn(&mut OfIngress)| {
        let mut settings = Settings::default();
        change(&mut settings.ingress);
        settings
    };
    vec![
        (
            DIRECT_ACCESS,
            "true",
            Settings {
                direct: Some(true),
                ..Settings::default()
            },
        ),
        (
            LISTEN_PORTS,
            r#"[{"HTTP":80},{"HTTPS":8443}]"#,
            ingress(|it| it.ports = Some(vec![(Protocol::Http, 80), (Protocol::Https, 8443)])),
        ),
        (
            "kubernetes.io/ingress.rule-mix",
            "true",
            ingress(|it| it.mix = true),
        ),
        (
            "kubernetes.io/ingress.rule-mix-both",
            "true",
            ingress(|it| it.mix_both = true),
        ),
        (AUTO_REWRITE, "true", ingress(|it| it.auto_rewrite = true)),
        (
            "ingress.cloud.tencent.com/rewrite-support",
            "false",
            ingress(|it| it.rewrite_support = Some(false)),
        ),
        (
            "ingress.cloud.tencent.com/auto-rewrite-code",
            r#"{"defaultRewriteCode": 301, "rewriteCodeInfos": [{"host": "A.example", "rewriteCode": 307}]}"#,
            ingress(|it| {
                it.codes.default = Some(301);
                it.codes.of_hosts = [("a.example".to_owned(), 307)].into();
            }),
        ),
    ]
}

/// The same of annotations that Services have, too.
fn shared() -> Vec<(&'static str, &'static str, Settings)> {
    let of = |change: fn(&mut Settings)| {
        let mut settings = Settings::default();
        change(&mut settings);
        settings
    };
    vec![
        (
            "ingress.cloud.tencent.com/enable-grace-deletion",
            "false",
            of(|it| it.no_drain = true),
        ),
        (
            "podline.io/load-balancer-ips",
            "10.0.0.1",
            of(|it| it.addresses = vec![[10, 0, 0, 1].into()]),
        ),
        (
            "podline.io/share-vip-with",
            "b",
            of(|it| it.shares_with = ["b".to_owned()].into()),
        ),
        (CONFIG, "shop", of(|it| it.config = Some("shop".into()))),
        (AUTO_CONFIG, "true", of(|it| it.auto_config = true)),
        (
            WEIGHTS,
            r#"{"defaultWeight":10}"#,
            of(|it| it.weights = Some(Weights::default())),
        ),
        (MODE, "skip", of(|it| it.skip = true)),
        (
            SECURITY_GROUPS,
            "sg-a",
            of(|it| it.security_groups = vec!["sg-a".to_owned()]),
        ),
        (
            CREATION,
            r#"{"Vip":"10.0.0.1"}"#,
            of(|it| it.creation.vip = Some([10, 0, 0, 1].into())),
        ),
        (
            SOURCE_ADDRESS,
            "transparent",
            of(|it| it.source_address = Some(podline_api::SourceAddress::Transparent)),
        ),
    ]
}

#[test]
fn every_annotation_is_read_or_refused_as_its_row_says() {
    let rows: Vec<_> = rows().into_iter().chain(shared()).collect();
    for (key, text, expected) in &rows {
        let read = read(key, text);
        assert_eq!(read.problems, [], "{key}");
        assert_eq!(read.settings, *expected, "{key}");
    }
    // Rules have tests of their own; all others mean nothing, whatever they hold.
    let has_row = |key: &str| key.ends_with("-rules") || rows.iter().any(|(it, ..)| *it == key);
    for annotation in TABLE {
        let odd = read(annotation.key, "\u{0}odd");
        assert_eq!(odd.settings, Settings::default(), "{}", annotation.key);
        let is_read = odd.problems.len() == 1;
        assert_eq!(is_read, has_row(annotation.key), "{}", annotation.key);
        assert!(annotation.about.ends_with('.'), "{}", annotation.key);
    }
    let mut keys: Vec<_> = TABLE.iter().map(|it| it.key).collect();
    keys.sort_unstable();
    keys.dedup();
    assert_eq!(keys.len(), TABLE.len(), "nothing twice");
}

#[test]
fn rules_are_chosen_by_host_path_and_backend() {
    let chosen = |text| chosen(text).unwrap();
    assert_eq!(chosen("null"), []);
    let two = r#"[
        {"host": "A.example", "path": "/a", "backend": {"serviceName": "web", "servicePort": "80"}},
        {"path": "", "backend": {"serviceName": "web", "servicePort": 80}},
        {"path": "/v1", "rewrite": {"port": "443", "host": "b.example", "path": "/v2"}}]"#;
    let backend = Some(("web".to_owned(), "80".to_owned()));
    let of = |host: &str, path: &str| Chosen {
        host: host.to_owned(),
        path: path.to_owned(),
        backend: backend.clone(),
        rewrite: None,
    };
    let rewrite = Chosen {
        backend: None,
        rewrite: Some(Rewrite {
            port: 443,
            host: Some("b.example".to_owned()),
            path: Some("/v2".to_owned()),
        }),
        ..of("", "/v1")
    };
    assert_eq!(chosen(two), [of("a.example", "/a"), of("", "/"), rewrite]);
}

#[test]
fn what_cannot_be_is_said() {
    for (key, text, problem) in [
        (LISTEN_PORTS, "[]", "names no port"),
        (LISTEN_PORTS, r#"[{"HTTP":0}]"#, "0 is no port"),
        (
            LISTEN_PORTS,
            r#"[{"QUIC":443}]"#,
            "\"QUIC\" is neither HTTP nor HTTPS",
        ),
        (
            LISTEN_PORTS,
            r#"[{"HTTP":80},{"HTTPS":80}]"#,
            "names port 80 twice",
        ),
        (
            "ingress.cloud.tencent.com/auto-rewrite-code",
            r#"{"defaultRewriteCode": 200}"#,
            "200 is none of 301, 302, 303, 307 and 308",
        ),
        (
            "kubernetes.io/ingress.http-rules",
            r#"[{"path": "/a", "pathType": ["regex"]}]"#,
            "\"/a\": pathType, regular expressions, is not there",
        ),
        (
            "kubernetes.io/ingress.https-rules",
            r#"[{"path": "/a", "rewrite": {"port": 0}}]"#,
            "0 is no port to redirect to",
        ),
    ] {
        let read = read(key, text);
        assert_eq!(read.problems[0].problem, problem, "{text}");
    }
}
