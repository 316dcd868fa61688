//! Limits, affinity, policies and checks: what is taken from a file, with which defaults, and what is refused.

use podline_api::{
    Affinity, AffinityKind, CheckKind, Document, HashKey, HttpMethod, HttpVersion, Policy, v1,
};
use std::time::Duration;

/// What is wrong with a set, or with a listener, that has these lines.
fn problems(yaml: &str) -> Vec<String> {
    match Document::from_yaml(yaml) {
        Ok(_) => Vec::new(),
        Err(invalid) => invalid.violations.iter().map(ToString::to_string).collect(),
    }
}

fn set(lines: &str) -> String {
    format!("backendSets:\n- name: a\n{lines}")
}

fn listener(lines: &str) -> String {
    format!(
        "listeners:\n- name: a\n  address: 127.0.0.1:80\n  protocol: TCP\n  backendSet: a\n{lines}"
    )
}

#[test]
fn everything_survives_the_wire() {
    let document = Document::from_yaml(include_str!("../../fuzz/seeds/file/full.yaml")).unwrap();
    assert_eq!(
        Document::try_from(v1::Document::from(&document)),
        Ok(document)
    );
}

#[test]
fn absent_means_the_default() {
    let yaml = set(
        "  policy: MAGLEV\n  affinity: {clientIp: {}}\n  passiveCheck: {}\n  healthCheck: {type: HTTP}\n",
    );
    let document = Document::from_yaml(&yaml).unwrap();
    let settings = &document.backend_sets[0].settings;
    assert_eq!(settings.policy, Policy::Maglev(HashKey::ClientIp));
    let timeout = Duration::from_hours(3);
    let kind = AffinityKind::ClientIp { timeout };
    assert_eq!(settings.affinity, Some(Affinity { kind, group: None }));
    assert_eq!(settings.max_ejection_percent, 100);
    let passive = settings.passive_check.unwrap();
    assert_eq!(
        (passive.failures, passive.ejection_time),
        (3, Duration::from_secs(10))
    );
    let CheckKind::Http(http) = &settings.health_check.as_ref().unwrap().kind else {
        panic!("{settings:?}");
    };
    assert_eq!(
        (http.method, http.version),
        (HttpMethod::Get, HttpVersion::Http11)
    );
    assert_eq!(
        (http.path.as_str(), http.statuses.to_string().as_str()),
        ("/", "2xx, 3xx")
    );
}

#[test]
fn what_makes_no_sense_in_a_set_is_refused() {
    let check =
        |lines: &str, expected: &[&str]| assert_eq!(problems(&set(lines)), expected, "{lines}");
    check(
        "  hashKey: FLOW\n",
        &["backendSets[0].hashKey: is for policy MAGLEV"],
    );
    check(
        "  affinity: {}\n",
        &[
            "backendSets[0].affinity: says nothing: write clientIp: {} or cookie: {}, or leave affinity out",
        ],
    );
    check(
        "  affinity: {cookie: {}, clientIp: {}, group: \"a b\"}\n",
        &[
            "backendSets[0].affinity: says clientIp and cookie: choose one",
            "backendSets[0].affinity.group: must not hold ' ': use A-Z a-z 0-9 . _ / -",
        ],
    );
    check(
        "  affinity: {cookie: {name: \"a;b\", timeout: 500ms}}\n",
        &[
            "backendSets[0].affinity.cookie.name: \"a;b\" is no name of a cookie: write letters, digits and any of !#$%&'*+-.^_`|~",
            "backendSets[0].affinity.cookie.timeout: must be 1s to 24h",
        ],
    );
    check(
        &format!("  affinity: {{cookie: {{name: {}}}}}\n", "a".repeat(65)),
        &["backendSets[0].affinity.cookie.name: is longer than 64 characters"],
    );
    check(
        "  affinity: {cookie: {name: \"\"}}\n",
        &[
            "backendSets[0].affinity.cookie.name: is empty: write 1 to 64 characters, or leave it out",
        ],
    );
    check(
        "  affinity: {clientIp: {timeout: 25h}}\n  maxEjectionPercent: 101\n  passiveCheck: {failures: 0}\n",
        &[
            "backendSets[0].affinity.clientIp.timeout: must be 1s to 24h",
            "backendSets[0].maxEjectionPercent: 101 is out of range: use 0 to 100",
            "backendSets[0].passiveCheck.failures: 0 is out of range: use 1 to 100",
        ],
    );
}

#[test]
fn what_makes_no_sense_in_a_check_is_refused() {
    let check = |lines: &str, expected: &[&str]| {
        let found = problems(&set(&format!("  healthCheck: {{{lines}}}\n")));
        let expected: Vec<_> = expected
            .iter()
            .map(|e| format!("backendSets[0].healthCheck.{e}"))
            .collect();
        assert_eq!(found, expected, "{lines}");
    };
    check(
        "type: TCP, http: {}, grpc: {}, port: 0, sourceAddress: 0.0.0.0",
        &[
            "http: is for checks of type HTTP or HTTPS",
            "grpc: is for checks of type GRPC",
            "port: 0 is out of range: use 1 to 65535",
            "sourceAddress: \"0.0.0.0\" is no address of a host",
        ],
    );
    check(
        "type: HTTP, http: {path: healthz, host: a/b, statuses: [\"99\"]}",
        &[
            "http.path: \"healthz\" does not start with /",
            "http.host: \"a/b\" is no host: write a name or an address",
            "http.statuses[0]: \"99\" is no status or range of 100 to 599: write 100, 100-599 or 2xx",
        ],
    );
    check(
        "type: HTTPS, http: {path: \"/a b\"}",
        &["http.path: must be printable ASCII without spaces"],
    );
    check(
        "type: GRPC, grpc: {path: x, statuses: [\"100\"]}",
        &[
            "grpc.path: \"x\" does not start with /",
            "grpc.statuses[0]: \"100\" is no status or range of 0 to 99: write 0, 0-99",
        ],
    );
}

#[test]
fn what_makes_no_sense_in_limits_is_refused() {
    let check = |lines: &str, expected: &[&str]| {
        let expected: Vec<_> = expected
            .iter()
            .map(|e| format!("listeners[0].{e}"))
            .collect();
        assert_eq!(problems(&listener(lines)), expected, "{lines}");
    };
    check(
        "  sourceRanges: [10.0.0.1/8, \"::ffff:10.0.0.0/104\", here]\n",
        &[
            "sourceRanges[0]: 10.0.0.1/8 has host bits: write 10.0.0.0/8",
            "sourceRanges[1]: ::ffff:10.0.0.0/104 is an IPv4 address in IPv6 form: write 10.0.0.0",
            "sourceRanges[2]: \"here\" is no address range: write 10.0.0.0/8 or 2001:db8::/32",
        ],
    );
    check(
        "  maxConnections: 0\n  clientLimits: {maxConnectionsPerSecond: 2000000}\n",
        &[
            "maxConnections: 0 is out of range: use 1 to 10000000",
            "clientLimits.maxConnectionsPerSecond: 2000000 is out of range: use 1 to 1000000",
        ],
    );
}
