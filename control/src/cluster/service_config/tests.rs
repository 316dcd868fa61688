//! What a TkeServiceConfig says, and what it cannot.

use std::collections::BTreeSet;

use serde_json::json;

use super::*;
use crate::cluster::testing::service_config as config;

fn listener(speech: Speech, port: u16) -> Anchor {
    Anchor::Listener(speech, port)
}

fn problems(config: &ServiceConfig) -> Vec<String> {
    let told = config.problems.iter();
    told.map(|problem| format!("{}: {}", problem.path, problem.what))
        .collect()
}

#[test]
fn every_field_has_one_row() {
    let fields: BTreeSet<_> = FIELDS.iter().map(|row| row.field).collect();
    assert_eq!(fields.len(), FIELDS.len());
    assert_eq!(fields.first(), Some(&Field::DeregisterTargetRst));
    assert_eq!(fields.last(), Some(&Field::Bandwidth));
    // Without data, the last one's number says how many there are.
    assert_eq!(fields.len(), Field::Bandwidth as usize + 1);
    for field in Field::OF_CHECK {
        let row = FIELDS.iter().find(|row| row.field == *field).unwrap();
        assert!(row.path.starts_with("healthCheck."), "{row:?}");
    }
}

#[test]
fn what_is_documented_is_read() {
    let read = config(
        "a/shop",
        "
loadBalancer:
  internetMaxBandwidthOut: 100
  l4Listeners:
  - protocol: TCP
    port: 80
    deregisterTargetRst: true
    session: {enable: true, sessionExpireTime: 100}
    healthCheck: {enable: true, intervalTime: 10, healthNum: 2, unHealthNum: 3, timeout: 5, sourceIpType: 1, checkPort: 8080, checkType: TCP}
    scheduler: WRR
  l7Listeners:
  - protocol: HTTPS
    port: 443
    defaultServer: sample.tencent.com
    keepaliveEnable: 1
    domains:
    - domain: Sample.Tencent.com
      http2: true
      rules:
      - url: /
        forwardType: HTTP
        healthCheck: {enable: true, httpCode: 31, httpCheckPath: /checkHealth, httpCheckMethod: HEAD}
        scheduler: IP_HASH
",
    );
    assert_eq!(problems(&read), [""; 0]);
    assert_eq!(read.whole.number(Field::Bandwidth), Some(100));
    let tcp = &read.fragments[&listener(Speech::Tcp, 80)];
    assert_eq!(tcp.is(Field::DeregisterTargetRst), Some(true));
    assert_eq!(tcp.number(Field::SessionExpireTime), Some(100));
    assert_eq!(tcp.number(Field::CheckInterval), Some(10));
    assert_eq!(tcp.text(Field::Scheduler), Some("WRR"));
    let (speech, port) = (Speech::Https, 443);
    let https = &read.fragments[&listener(speech, port)];
    assert_eq!(https.is(Field::Keepalive), Some(true));
    let host: Arc<str> = "sample.tencent.com".into();
    let domain = &read.fragments[&Anchor::Domain(speech, port, Arc::clone(&host))];
    assert_eq!(domain.is(Field::Http2), Some(true));
    let rule = &read.fragments[&Anchor::Rule(speech, port, host, "/".into())];
    assert_eq!(rule.text(Field::Scheduler), Some("IP_HASH"));
    assert_eq!(rule.text(Field::CheckHttpPath), Some("/checkHealth"));
    assert!(read.made.is_none());
}

#[test]
fn a_bad_value_spoils_no_other_and_says_what_would_do() {
    let check = |field: &str, value: &str, expected: &str| {
        let text = format!(
            "{{loadBalancer: {{l4Listeners: [{{protocol: UDP, port: 53, scheduler: WRR, {field}: {value}}}]}}}}"
        );
        let read = config("a/shop", &text);
        let udp = &read.fragments[&listener(Speech::Udp, 53)];
        assert_eq!(udp.text(Field::Scheduler), Some("WRR"), "{text}");
        let told = format!("l4Listeners[0].{field}{expected}");
        assert_eq!(problems(&read), [told], "{text}");
    };
    check("session", "1", ": 1 is no object");
    check(
        "deregisterTargetRst",
        "'true'",
        ": \"true\" is a text: leave the quotes out",
    );
    check("deregisterTargetRst", "1", ": 1 is neither true nor false");
    check("tls", "{}", ": is no field that is known");
    check(
        "session",
        "{sessionExpireTime: 10}",
        ".sessionExpireTime: 10 is none of 30 to 3600: 30 is nearest",
    );
    check(
        "session",
        "{sessionExpireTime: 1e9}",
        ".sessionExpireTime: 1000000000.0 is none of 30 to 3600: 3600 is nearest",
    );
    check(
        "healthCheck",
        "{intervalTime: '10'}",
        ".intervalTime: \"10\" is a text: write 10",
    );
    check(
        "healthCheck",
        "{timeout: []}",
        ".timeout: [] is no number of 2 to 60",
    );
    check(
        "healthCheck",
        "{healthNum: -1}",
        ".healthNum: -1 is none of 2 to 10: 2 is nearest",
    );
    check(
        "healthCheck",
        "{checkType: ping}",
        ".checkType: \"ping\" is written PING",
    );
    check(
        "healthCheck",
        "{checkType: HTTP}",
        ".checkType: \"HTTP\" is none of PING, CUSTOM",
    );
    check(
        "healthCheck",
        "{httpCheckPath: health}",
        ".httpCheckPath: health is no path: it begins with / and has no spaces",
    );
    check(
        "healthCheck",
        "{extendedCode: '20,x'}",
        ".extendedCode: 20,x is no list of codes of 0 to 99, such as 20,25 or 0-99",
    );
    check(
        "healthCheck",
        "{interval: 10}",
        ".interval: is no field that is known",
    );
}

#[test]
fn entries_that_are_about_nothing_are_told() {
    let read = config(
        "a/shop",
        "
loadBalancer:
  l4Listeners:
  - {protocol: HTTP, port: 80}
  - {protocol: TCP, port: 0}
  - {protocol: TCP}
  - 7
  - {protocol: TCP, port: 80, scheduler: WRR}
  - {protocol: TCP, port: 80, scheduler: LEAST_CONN}
  l7Listeners:
  - {protocol: HTTP, port: 80, domains: [{domain: 1}, {rules: {}}]}
",
    );
    let expected = [
        "l4Listeners[0].protocol: \"HTTP\" is none of TCP, UDP, TCP_SSL",
        "l4Listeners[1].port: 0 is none of 1 to 65535",
        "l4Listeners[2].port: null is none of 1 to 65535",
        "l4Listeners[3]: 7 is no object",
        "l4Listeners[5]: TCP/80 stands here twice: the first counts",
        "l7Listeners[0].domains[0].domain: 1 is no text",
        "l7Listeners[0].domains[1].rules: {} is no list",
    ];
    assert_eq!(problems(&read), expected);
    let tcp = &read.fragments[&listener(Speech::Tcp, 80)];
    assert_eq!(tcp.text(Field::Scheduler), Some("WRR"));
    for text in ["{}", "{loadBalancer: }", "{loadBalancer: {l4Listeners: }}"] {
        let read = config("a/shop", text);
        assert!(read.fragments.is_empty() && read.problems.is_empty());
    }
    let odd = config("a/shop", "{loadBalancer: 1, l4Listeners: 1}");
    assert_eq!(problems(&odd), ["loadBalancer: 1 is no object"]);
    let many: Vec<_> = (0..2_000)
        .map(|n| json!({"protocol": "X", "port": n}))
        .collect();
    let many = json!({"loadBalancer": {"l4Listeners": many}}).to_string();
    assert_eq!(config("a/shop", &many).problems.len(), 100);
}

#[test]
fn anchors_are_written_and_read() {
    for text in [
        "TCP/80",
        "TCP_SSL/443",
        "HTTP/80 ",
        "HTTP/80  /",
        "HTTPS/443 a.example /path",
    ] {
        let anchor: Anchor = text.parse().unwrap();
        assert_eq!(anchor.to_string(), text);
    }
    for text in [
        "",
        "TCP",
        "TCP/0",
        "TCP/65536",
        "tcp/80",
        "TCP/80 a",
        "QUIC/1",
    ] {
        assert_eq!(text.parse::<Anchor>(), Err(()), "{text}");
    }
}
