//! The file form: what is read, what is written, and how bad files are refused.

use std::fmt::Write;
use std::time::Duration;

use podline_api::{CheckKind, Document, HealthCheck, Policy, Protocol, Weight};

const EXAMPLE: &str = include_str!("../../fuzz/seeds/file/full.yaml");

fn check(yaml: &str, expected: &str) {
    let found = match Document::from_yaml(yaml) {
        Ok(document) => format!("accepted {document:?}"),
        Err(invalid) => invalid
            .violations
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>()
            .join("\n"),
    };
    assert_eq!(found, expected, "\n{yaml}");
}

fn set(fields: &str) -> String {
    format!("backendSets: [{{name: web, {fields}}}]")
}

fn listener(fields: &str) -> String {
    format!(
        "listeners: [{{name: web, address: '127.0.0.1:80', protocol: TCP, backendSet: web, {fields}}}]"
    )
}

#[test]
fn a_full_file_is_read_and_written_back() {
    let document = Document::from_yaml(EXAMPLE).unwrap();
    let listener = &document.listeners[0];
    assert_eq!(listener.address, "127.0.0.1:8080".parse().unwrap());
    assert_eq!(
        (
            listener.protocol,
            listener.backend_set.as_ref().map(podline_api::Name::as_str)
        ),
        (Protocol::Tcp, Some("web"))
    );
    assert_eq!(listener.idle_timeout, Duration::from_mins(10));
    let set = &document.backend_sets[0];
    assert_eq!(set.settings.policy, Policy::LeastConnections);
    assert_eq!(
        set.settings.health_check.as_ref().unwrap().interval,
        Duration::from_secs(3)
    );
    assert_eq!(set.backends[0].weight.get(), 20);
    assert_eq!(set.backends[1].key.to_string(), "[fd00::1]:8080 (pod-2)");
    assert_eq!(Document::from_yaml(&document.to_yaml()), Ok(document));
}

#[test]
fn what_is_left_out_has_its_default() {
    let yaml = "listeners: [{name: a, address: '[::1]:80', protocol: TCP, backendSet: b}]
backendSets: [{name: b, healthCheck: {type: TCP}, backends: [{address: '10.0.0.1:80'}]}]";
    let document = Document::from_yaml(yaml).unwrap();
    let listener = &document.listeners[0];
    let seconds = [
        listener.idle_timeout,
        listener.half_closed_timeout,
        listener.drain_timeout,
    ]
    .map(|d| d.as_secs());
    assert_eq!(seconds, [900, 60, 30]);
    let set = &document.backend_sets[0];
    assert_eq!(set.settings.policy, Policy::RoundRobin);
    assert_eq!(
        set.settings.health_check,
        Some(HealthCheck::new(CheckKind::Tcp))
    );
    assert_eq!(
        (set.settings.connect_timeout, set.settings.connect_retries),
        (Duration::from_secs(4), 2)
    );
    assert!(!set.settings.deregister_target_rst);
    assert_eq!(set.backends[0].weight, Weight::DEFAULT);
}

#[test]
fn a_document_may_be_empty_but_not_its_file() {
    for yaml in ["", "\n \n"] {
        let invalid = Document::from_yaml(yaml).unwrap_err();
        let told = "the file is empty; one that removes everything says {}";
        assert_eq!(invalid.to_string(), told, "{yaml:?}");
    }
    for yaml in [
        "# nothing\n",
        "---\n",
        "{}",
        "listeners: []\nbackendSets: []\n",
    ] {
        assert_eq!(
            Document::from_yaml(yaml),
            Ok(Document::default()),
            "{yaml:?}"
        );
    }
    assert_eq!(
        Document::from_yaml(&Document::default().to_yaml()),
        Ok(Document::default())
    );
}

#[test]
fn misspelt_fields_are_told_with_path_line_and_nearest_name() {
    check(
        &set("polcy: ROUND_ROBIN"),
        "backendSets[0].polcy: unknown field, did you mean \"policy\"? (line 1)",
    );
    check(
        "listners: []",
        "listners: unknown field, did you mean \"listeners\"? (line 1)",
    );
    check(
        &listener("idle_timeout: 5s"),
        "listeners[0].idle_timeout: unknown field, did you mean \"idleTimeout\"? (line 1)",
    );
    let nested = set("healthCheck: {type: TCP, healthythreshold: 3}");
    check(
        &nested,
        "backendSets[0].healthCheck.healthythreshold: unknown field, did you mean \"healthyThreshold\"? (line 1)",
    );
    check(
        "backendSets:\n- name: web\n  backends:\n  - adress: 10.0.0.1:80\n",
        "backendSets[0].backends[0].adress: unknown field, did you mean \"address\"? (line 4)",
    );
    check(
        "backendSets:\n- name: web\n  backends:\n  - colour: red\n",
        "backendSets[0].backends[0].colour: unknown field, expected one of id, address, weight, node (line 4)",
    );
}

#[test]
fn values_of_another_shape_are_refused() {
    check("- x", "must hold fields (name: value) (line 1)");
    check("hello", "must hold fields (name: value) (line 1)");
    check(
        "listeners: {name: web}",
        "listeners: must be a list (- item) (line 1)",
    );
    check(
        "listeners: [web]",
        "listeners[0]: must hold fields (name: value) (line 1)",
    );
    check(
        "listeners: [{name: }]",
        "listeners[0].name: has no value (line 1)",
    );
    check(
        "listeners: [{name: [x]}]",
        "listeners[0].name: must be a single value (line 1)",
    );
    check(
        "listeners: []\nlisteners: []",
        "listeners: stands twice (line 2)",
    );
    check(
        &set("name: web"),
        "backendSets[0].name: stands twice (line 1)",
    );
    check(
        "---\n{}\n---\n{}\n",
        "the file holds more than one YAML document (line 4)",
    );
    for value in ["-1", "x", "1.5", "99999999999", "1e400", ".nan", "''"] {
        check(
            &set(&format!("connectRetries: {value}")),
            "backendSets[0].connectRetries: must be a whole number, 0 or more (line 1)",
        );
    }
    check(
        &set("deregisterTargetRst: yes"),
        "backendSets[0].deregisterTargetRst: must be true or false (line 1)",
    );
    check("listeners: [", "listeners: unclosed bracket '[' (line 1)");
}

#[test]
fn durations_and_enums_are_told_what_to_write() {
    check(
        &listener("idleTimeout: 5"),
        "listeners[0].idleTimeout: \"5\" is not a duration: write 500ms, 5s, 15m or 3h (line 1)",
    );
    check(
        &listener("idleTimeout: 99999999999999999999s"),
        "listeners[0].idleTimeout: \"99999999999999999999s\" is too long (line 1)",
    );
    check(
        &listener("idleTimeout: 1ms"),
        "listeners[0].idleTimeout: must be 100ms to 168h",
    );
    check(
        &listener("drainTimeout: 25h"),
        "listeners[0].drainTimeout: must be 0s to 24h",
    );
    check(
        &set("connectTimeout: 2m"),
        "backendSets[0].connectTimeout: must be 10ms to 1m",
    );
    check(
        &set("policy: round_robin"),
        "backendSets[0].policy: unknown value \"round_robin\", did you mean ROUND_ROBIN? (line 1)",
    );
    check(
        &set("policy: RANDOM"),
        "backendSets[0].policy: unknown value \"RANDOM\", use ROUND_ROBIN or LEAST_CONNECTIONS or MAGLEV or IP_HASH (line 1)",
    );
    check(
        "listeners: [{protocol: SCTP}]",
        "listeners[0].protocol: unknown value \"SCTP\", use TCP or UDP or HTTP or TLS or HTTPS (line 1)",
    );
    check(
        &set("healthCheck: {}"),
        "backendSets[0].healthCheck.type: is required: use TCP or HTTP or HTTPS or GRPC or UDP or PING",
    );
}

#[test]
fn every_wrong_value_is_told_at_once() {
    let yaml = "
listeners:
- {name: a b, address: 127.0.0.1, protocol: TCP}
- {name: web, address: '127.0.0.1:80', protocol: TCP, backendSet: web}
- {name: web, address: '127.0.0.1:80', protocol: TCP, backendSet: web}
backendSets:
- name: web
  healthCheck: {type: TCP, interval: 1ms, healthyThreshold: 11, unhealthyThreshold: 0}
  connectRetries: 11
  backends:
  - {address: '10.0.0.1:80', weight: 101}
  - {address: 'web:80', id: a b}
  - {address: '10.0.0.2:80'}
  - {address: '10.0.0.2:80', id: other}
- {}
- {name: web}
";
    let expected = "\
listeners[0].name: must not hold ' ': use A-Z a-z 0-9 . _ / -
listeners[0].address: \"127.0.0.1\" has no port: write 127.0.0.1:PORT
listeners[0].backendSet: is required
listeners[2].name: web is the name of listeners[1] too
listeners[2].address: 127.0.0.1:80 is the address of listeners[1] too
backendSets[0].backends[0].weight: 101 is out of range: use 0 to 100
backendSets[0].backends[1].id: must be printable ASCII without spaces
backendSets[0].backends[1].address: \"web:80\" is not an address: host names are not resolved, write ip:port or [v6]:port
backendSets[0].backends[3].address: 10.0.0.2:80 is the address of backends[2] too
backendSets[0].healthCheck.interval: must be 500ms to 5m
backendSets[0].healthCheck.healthyThreshold: 11 is out of range: use 1 to 10
backendSets[0].healthCheck.unhealthyThreshold: 0 is out of range: use 1 to 10
backendSets[0].connectRetries: 11 is out of range: use 0 to 10
backendSets[1].name: is required";
    check(yaml, expected);
}

#[test]
fn the_list_of_problems_is_bounded() {
    let yaml = format!("backendSets: [{}]", "{},".repeat(1_000));
    let violations = Document::from_yaml(&yaml).unwrap_err().violations;
    assert_eq!(violations.len(), 101);
    assert_eq!(
        violations[100].to_string(),
        "there are more problems; the first 100 are listed"
    );
}

#[test]
fn hostile_files_are_refused_in_bounded_time() {
    let bomb = (1..12).fold("a0: &a0 [x, x]\n".to_owned(), |bomb, i| {
        format!(
            "{bomb}a{i}: &a{i} [{}]\n",
            vec![format!("*a{}", i - 1); 10].join(", ")
        )
    });
    let files = [
        "[".repeat(100_000),
        "{a: ".repeat(100_000),
        "- ".repeat(100_000),
        "listeners: &a [*a]".to_owned(),
        "listeners: *x".to_owned(),
        bomb.clone(),
        format!("listeners:\n  {}", bomb.replace('\n', "\n  ")),
        format!(
            "backendSets: [{{name: &n {}, {}}}]",
            "x".repeat(1 << 20),
            "*n : 1, ".repeat(1_000)
        ),
        "\0".to_owned(),
        "%YAML 9.9\n---\n{}".to_owned(),
        "? [a]\n: b".to_owned(),
        "listeners: !!python/object:os.system x".to_owned(),
    ];
    for file in files {
        assert!(Document::from_yaml(&file).is_err(), "{file:.80}");
    }
}

#[test]
fn a_set_of_100_000_backends_is_read() {
    let mut yaml = "backendSets:\n- name: web\n  backends:\n".to_owned();
    for i in 0..100_000 {
        let [_, a, b, c] = u32::to_be_bytes(i);
        writeln!(
            yaml,
            "  - {{id: pod-{i}, address: '10.{a}.{b}.{c}:80', weight: 10}}"
        )
        .unwrap();
    }
    let count = Document::from_yaml(&yaml).map(|document| document.backend_sets[0].backends.len());
    assert_eq!(count, Ok(100_000));
}

#[test]
fn what_udp_has_not_is_refused() {
    let udp = |fields: &str| {
        format!(
            "listeners: [{{name: a, address: '[::1]:53', protocol: UDP, backendSet: b, {fields}}}]"
        )
    };
    check(
        &udp("halfClosedTimeout: 5s, proxyProtocol: {send: V2}"),
        "listeners[0].halfClosedTimeout: is for TCP: a flow has no ends\nlisteners[0].proxyProtocol: is for TCP",
    );
    let document = Document::from_yaml(&udp("sourceRanges: [10.0.0.0/8]")).unwrap();
    assert_eq!(document.listeners[0].idle_timeout, Duration::from_mins(1));
    assert_eq!(Document::from_yaml(&document.to_yaml()), Ok(document));
}

#[test]
fn headers_are_taken_from_somebody_named_only() {
    let header = |fields: &str| listener(&format!("proxyProtocol: {{{fields}}}"));
    check(
        &header("send: V1, crc32c: true, uniqueId: true, accept: {timeout: 1ms}"),
        "listeners[0].proxyProtocol.crc32c: is for `send: V2`\n\
         listeners[0].proxyProtocol.uniqueId: is for `send: V2`\n\
         listeners[0].proxyProtocol.accept.from: is required: name who may send a header\n\
         listeners[0].proxyProtocol.accept.timeout: must be 100ms to 1m",
    );
    check(
        &header("accept: {from: [10.0.0.1/8]}"),
        "listeners[0].proxyProtocol.accept.from[0]: 10.0.0.1/8 has host bits: write 10.0.0.0/8",
    );
}

#[test]
fn a_datagram_is_written_in_one_way() {
    let check_of = |fields: &str| set(&format!("healthCheck: {{type: UDP, udp: {{{fields}}}}}"));
    check(
        &check_of("sendText: a, sendHex: '61', expectHex: '6', expectText: ''"),
        "backendSets[0].healthCheck.udp.sendHex: stands beside sendText: write one or the other\n\
         backendSets[0].healthCheck.udp.expectHex: stands beside expectText: write one or the other",
    );
    check(
        &check_of("sendHex: '0g', expectText: ''"),
        "backendSets[0].healthCheck.udp.sendHex: must be pairs of hexadecimal digits\n\
         backendSets[0].healthCheck.udp.expectText: is empty: leave it out instead",
    );
    check(
        &check_of(&format!("sendText: {}", "x".repeat(501))),
        "backendSets[0].healthCheck.udp.sendText: 501 bytes are too many: use 500 at most",
    );
    check(
        &set("healthCheck: {type: PING, port: 1, udp: {sendText: a}}"),
        "backendSets[0].healthCheck.udp: is for checks of type UDP\n\
         backendSets[0].healthCheck.port: is not for checks of type PING",
    );
}

#[test]
fn a_network_names_everything_once() {
    check(
        "network:
  nodes:
  - {name: a, addresses: [10.0.0.1, 0.0.0.0], responders: ['10.1.0.1:1', '10.1.0.2:1']}
  - {name: a, addresses: [10.0.0.1]}
  - {name: b, podRanges: [10.1.0.1/24]}
  routes:
  - {to: 10.1.0.0/24, via: 'fd00::1'}
  - {to: 10.2.0.0/24, via: 10.0.0.1}
  - {to: 10.2.0.0/24, via: 10.0.0.2}
  portShare: {slot: 4, slots: 4}
  addresses:
  - {address: 192.0.2.10, held: true}
  - {address: 192.0.2.10}
  - {address: 127.0.0.1}
  - {address: 'fe80::1', interface: 'eth0/1'}
  - {address: 'fd00::1', interface: sixteen.letters., epoch: 7}
  - {address: 192.0.2.11, predecessor: {address: 'fe80::1', mac: '02:00:00:00:00:01'}}
  - {address: 192.0.2.12, predecessor: {address: 192.0.2.12, mac: '02:00:00:00:00:01'}}
  - {address: 192.0.2.13, predecessor: {address: 0.0.0.0, mac: '01:00:5e:00:00:01'}}",
        "network.nodes[0].addresses[1]: \"0.0.0.0\" is no address of a host\n\
         network.nodes[0].responders[1]: is a second one of this IP version: use one\n\
         network.nodes[2].addresses: is required: write at least one\n\
         network.nodes[2].podRanges[0]: 10.1.0.1/24 has host bits: write 10.1.0.0/24\n\
         network.routes[0].via: fd00::1 is of another IP version than 10.1.0.0/24\n\
         network.routes[2].to: 10.2.0.0/24 is the destination of routes[1] too\n\
         network.portShare.slot: 4 is no slot of 4\n\
         network.addresses[2].address: 127.0.0.1 cannot move from host to host\n\
         network.addresses[3].address: fe80::1 cannot move from host to host\n\
         network.addresses[3].interface: \"eth0/1\" is no name of a link\n\
         network.addresses[4].interface: \"sixteen.letters.\" is no name of a link\n\
         network.addresses[5].predecessor.address: fe80::1 is no other address of its IP version\n\
         network.addresses[6].predecessor.address: 192.0.2.12 is no other address of its IP version\n\
         network.addresses[7].predecessor.address: \"0.0.0.0\" is no address of a host\n\
         network.addresses[7].predecessor.mac: \"01:00:5e:00:00:01\" is no machine's Ethernet address\n\
         network.addresses[1].address: 192.0.2.10 is addresses[0] too",
    );
}
