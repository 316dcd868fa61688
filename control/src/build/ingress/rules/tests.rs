//! Which rules stand where, a row for each way to say so.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use serde_json::json;

use super::*;
use crate::build::annotation::ingress::TABLE;
use crate::build::annotation::{Read, Settings};

/// Two hosts, of which one is for TLS if `tls` says so, and what the annotations say.
fn ingress(tls: bool, annotations: &[(&str, &str)]) -> (Ingress, Settings) {
    let path = |path: &str, service: &str| json!({"path": path, "pathType": "Prefix", "backend": {"service": {"name": service, "port": {"number": 80}}}});
    let mut object = json!({
        "metadata": {"namespace": "a", "name": "web"},
        "spec": {"rules": [
            {"host": "a.example", "http": {"paths": [path("/", "web"), path("/api", "api")]}},
            {"http": {"paths": [path("/", "web")]}},
        ]},
    });
    if tls {
        object["spec"]["tls"] = json!([{"secretName": "s"}]);
    }
    let ingress = Ingress::read(&serde_json::from_value(object).unwrap()).unwrap();
    let said = annotations.iter();
    let said = said.map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
    let read = Read::of_table(TABLE, &said.collect(), None);
    assert_eq!(read.problems, []);
    (ingress, read.settings)
}

fn shown(ingress: &Ingress, settings: &Settings) -> (Vec<String>, Vec<String>) {
    let (ports, notes) = ports(ingress, &settings.ingress);
    let mut lines = Vec::new();
    for port in ports {
        let at = format!("{:?} {}", port.protocol, port.number);
        for route in port.routes {
            let path = match &route.path {
                PathMatch::Exact(path) => format!("={path}"),
                PathMatch::Prefix(path) => path.clone(),
            };
            let to = match route.to {
                To::Backend(backend) => backend_of(backend),
                To::Redirect(it) => format!(
                    "{} {}://{}{} {}",
                    it.status,
                    it.scheme.unwrap_or_default(),
                    it.host.unwrap_or_default(),
                    it.port.map(|port| format!(":{port}")).unwrap_or_default(),
                    it.path.map(|path| format!("{path:?}")).unwrap_or_default(),
                ),
            };
            lines.push(
                format!("{at} {}{path} {to}", route.host)
                    .trim_end()
                    .to_owned(),
            );
        }
        lines.extend(
            port.default
                .map(|it| format!("{at} else {}", backend_of(it))),
        );
    }
    let notes = notes.iter().map(ToString::to_string);
    (lines, notes.collect())
}

fn backend_of(backend: &Backend) -> String {
    match backend {
        Backend::Service(name, port) => format!("{name}:{port}"),
        Backend::Resource(what) => what.clone(),
    }
}

#[track_caller]
fn check(tls: bool, annotations: &[(&str, &str)], expected: &[&str], told: &[&str]) {
    let (ingress, settings) = ingress(tls, annotations);
    let (lines, notes) = shown(&ingress, &settings);
    assert_eq!(lines, expected);
    assert_eq!(notes, told);
}

const HTTP: [&str; 3] = [
    "Http 80 a.example/ web:80",
    "Http 80 a.example/api api:80",
    "Http 80 / web:80",
];
const HTTPS: [&str; 3] = [
    "Https 443 a.example/ web:80",
    "Https 443 a.example/api api:80",
    "Https 443 / web:80",
];
const MIX: &str = "kubernetes.io/ingress.rule-mix";
const HTTP_RULES: &str = "kubernetes.io/ingress.http-rules";
const HTTPS_RULES: &str = "kubernetes.io/ingress.https-rules";
const SUPPORT: &str = "ingress.cloud.tencent.com/rewrite-support";
const CODES: &str = "ingress.cloud.tencent.com/auto-rewrite-code";

#[test]
fn without_annotations_tls_decides() {
    check(false, &[], &HTTP, &[]);
    check(true, &[], &HTTPS, &[]);
}

#[test]
fn ports_of_one_kind_have_every_rule() {
    let only = |kind: &str| format!(r#"[{{"{kind}":8080}}]"#);
    let at = |kind: &str| HTTP.map(|line| line.replace("Http 80", &format!("{kind} 8080")));
    for (word, kind) in [("HTTP", "Http"), ("HTTPS", "Https")] {
        let lines = at(kind);
        let lines: Vec<_> = lines.iter().map(String::as_str).collect();
        check(true, &[(LISTEN_PORTS, &only(word))], &lines, &[]);
    }
    let both = r#"[{"HTTP":80},{"HTTPS":443},{"HTTPS":8443}]"#;
    let more = HTTPS.map(|line| line.replace("443", "8443"));
    let lines = HTTPS.iter().copied().chain(more.iter().map(String::as_str));
    check(
        true,
        &[(LISTEN_PORTS, both)],
        &lines.collect::<Vec<_>>(),
        &[],
    );
}

#[test]
fn rules_are_mixed_as_the_annotations_say() {
    let lines = HTTP.iter().chain(&HTTPS).copied().collect::<Vec<_>>();
    let both = ("kubernetes.io/ingress.rule-mix-both", "true");
    check(true, &[both], &lines, &[]);
    check(true, &[both, (AUTO_REWRITE, "true")], &lines, &[]);
    let api = r#"[{"host":"a.example","path":"/api","backend":{"serviceName":"api","servicePort":"80"}}]"#;
    check(
        true,
        &[(MIX, "true"), (HTTP_RULES, api)],
        &[HTTP[1], HTTPS[0], HTTPS[2]],
        &[],
    );
    check(
        true,
        &[(MIX, "true"), (HTTP_RULES, api), (HTTPS_RULES, api)],
        &[HTTP[1], HTTPS[0], HTTPS[1], HTTPS[2]],
        &[],
    );
    // Without the switch they say nothing; what they name has to be the same in everything.
    check(true, &[(HTTP_RULES, api)], &HTTPS, &[]);
    let other = api.replace("\"80\"", "\"81\"");
    check(true, &[(MIX, "true"), (HTTP_RULES, &other)], &HTTPS, &[]);
}

#[test]
fn http_redirects_to_what_https_has() {
    let codes =
        r#"{"defaultRewriteCode":301,"rewriteCodeInfos":[{"host":"a.example","rewriteCode":307}]}"#;
    let away = |of_a: u16, of_all: u16| {
        let lines = [
            format!("Http 80 a.example/ {of_a} https://"),
            format!("Http 80 a.example/api {of_a} https://"),
            format!("Http 80 / {of_all} https://"),
        ];
        lines
            .into_iter()
            .chain(HTTPS.map(str::to_owned))
            .collect::<Vec<_>>()
    };
    let auto = (AUTO_REWRITE, "true");
    for (annotations, expected) in [
        (vec![auto], away(302, 302)),
        (
            vec![auto, (SUPPORT, "true"), (CODES, codes)],
            away(307, 301),
        ),
    ] {
        let lines: Vec<_> = expected.iter().map(String::as_str).collect();
        check(true, &annotations, &lines, &[]);
    }
    check(true, &[auto, (SUPPORT, "false")], &HTTPS, &[]);
    let problem = "RuleRefused: ingress.cloud.tencent.com/auto-rewrite needs HTTP at 80 and HTTPS at 443 among ingress.cloud.tencent.com/listen-ports";
    let elsewhere = HTTPS.map(|line| line.replace("443", "8443"));
    let elsewhere: Vec<_> = elsewhere.iter().map(String::as_str).collect();
    let ports = (LISTEN_PORTS, r#"[{"HTTP":80},{"HTTPS":8443}]"#);
    check(true, &[auto, ports], &elsewhere, &[problem]);
}

#[test]
fn redirects_are_made_by_hand_with_rewrite_support() {
    let by_hand = r#"[
        {"path":"/v1/a","rewrite":{"port":80,"path":"/a"}},
        {"host":"a.example","path":"/old","rewrite":{"port":443,"host":"b.example"}},
        {"path":"/","backend":{"serviceName":"web","servicePort":"80"}}]"#;
    let said = [(MIX, "true"), (HTTP_RULES, by_hand), (SUPPORT, "true")];
    let lines = [
        "Http 80 /v1/a 302 http://:80 Prefix(\"/a\")",
        "Http 80 a.example/old 302 https://b.example:443",
        HTTP[2],
        HTTPS[0],
        HTTPS[1],
    ];
    check(true, &said, &lines, &[]);
    check(true, &said[..2], &lines[2..], &[]);
    let odd = r#"[
        {"path":"/a","rewrite":{"port":81}},
        {"path":"/b","rewrite":{"port":80,"path":"/b"}},
        {"path":"/c","rewrite":{"port":443,"path":"c"}}]"#;
    let (ingress, settings) = ingress(true, &[(MIX, "true"), (HTTP_RULES, odd), (SUPPORT, "true")]);
    let (lines, notes) = shown(&ingress, &settings);
    assert_eq!(lines, HTTPS);
    assert_eq!(notes.len(), 3, "{notes:?}");
    assert!(notes[0].contains("*/a: it redirects to port 81, which is not listened at"));
    assert!(notes[1].contains("*/b: it redirects to itself"));
}

#[test]
fn what_no_route_can_be_is_left_out_and_told() {
    let (mut ingress, settings) = ingress(false, &[]);
    ingress.rules[0].path = "/a b".to_owned();
    ingress.rules[1].host = "*.*.example".to_owned();
    ingress.rules.push(ingress.rules[2].clone());
    let default = Backend::Service("other".into(), PortName::Name("http".into()));
    ingress.default_backend = Some(default);
    let (lines, notes) = shown(&ingress, &settings);
    assert_eq!(lines, [HTTP[2], "Http 80 else other:http"]);
    assert_eq!(notes.len(), 3, "{notes:?}");
    assert!(notes.iter().all(|note| note.starts_with("RuleRefused: ")));
    assert!(notes[2].ends_with("*/: it stands there twice, and the first counts"));
    ingress.rules = vec![ingress.rules[2].clone(); 2_000];
    for (n, rule) in ingress.rules.iter_mut().enumerate() {
        rule.path = format!("/{n}");
    }
    let (lines, notes) = shown(&ingress, &settings);
    assert_eq!(lines.len(), MOST_ROUTES + 1);
    assert_eq!(
        notes,
        ["RuleRefused: port 80: more than 1000 hosts and paths"]
    );
}
