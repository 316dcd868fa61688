//! What a configuration asks of the machine, in words.

use super::*;

const SMALL: Machine = Machine {
    first_free_port: 1024,
    may_bind_low_ports: false,
    may_ping: false,
    now: 0,
    may_change_network: false,
    may_announce: false,
    descriptors: 20_000,
    workers: 2,
};

fn check(text: &str, machine: Machine, expected: &[&str]) {
    let report = report("a.yaml", &Document::from_yaml(text).unwrap(), machine);
    for line in expected {
        assert!(
            report.lines().any(|found| found == *line),
            "no {line:?} in\n{report}"
        );
    }
}

#[test]
fn ports_privileges_descriptors_and_probes_are_told() {
    let text = "
listeners:
- {name: web, address: '0.0.0.0:80', protocol: TCP, backendSet: web}
- {name: six, address: '[::1]:8080', protocol: TCP, backendSet: web}
- {name: dns, address: '[::1]:8080', protocol: UDP, backendSet: web}
backendSets:
- name: web
  healthCheck: {type: TCP, interval: 2s}
  backends: [{address: '10.0.0.1:80'}, {address: '10.0.0.2:80'}]
- name: same
  healthCheck: {type: TCP, interval: 2s}
  backends: [{address: '10.0.0.1:80'}]
";
    check(
        text,
        SMALL,
        &[
            "a.yaml is valid: 3 listeners, 2 backend sets, 3 backends",
            "ports        TCP 0.0.0.0:80  web -> web",
            "             TCP [::1]:8080  six -> web",
            "             UDP [::1]:8080  dns -> web",
            "privileges   NET_BIND_SERVICE for port 80, which this process lacks",
            "descriptors  332 with 2 workers, and 2 for each connection",
            "             the limit here is 20000: about 9834 connections at once",
            "             UDP flows share sockets, or have one each where they imitate clients: half of that at most",
            "probes       2 addresses checked, 1.0 probes a second, the fastest every 2s",
            "notes        no listener uses backend set same",
        ],
    );
    let free = Machine {
        first_free_port: 0,
        may_bind_low_ports: true,
        ..SMALL
    };
    check(text, free, &["privileges   none"]);
    let text = text.replace(
        "protocol: TCP,",
        "protocol: TCP, sourceAddress: TRANSPARENT,",
    );
    check(
        &text,
        SMALL,
        &[
            "privileges   NET_BIND_SERVICE for port 80, which this process lacks",
            "             NET_ADMIN for clients' addresses or routes, which this process lacks",
        ],
    );
    let virtual_addresses = "network: {addresses: [{address: 192.0.2.10}]}";
    let needs =
        "privileges   NET_ADMIN and NET_RAW to hold virtual addresses, which this process lacks";
    check(virtual_addresses, SMALL, &[needs]);
}

#[test]
fn what_is_allowed_but_odd_is_noted() {
    let text = "
listeners:
- {name: a, address: '127.0.0.1:8080', protocol: TCP, backendSet: a, proxyProtocol: {accept: {from: ['::/0']}}}
backendSets: [{name: a, healthCheck: {type: PING}}]
";
    let tiny = Machine {
        descriptors: 256,
        ..SMALL
    };
    check(
        text,
        tiny,
        &[
            "probes       none: every backend takes traffic at once",
            "privileges   NET_RAW or net.ipv4.ping_group_range for checks of type PING, which this process lacks",
            "notes        backend set a is empty: its connections are reset",
            "             listener a believes everybody's PROXY header: name your load balancers alone",
            "             that is too few: raise the limit (ulimit -n, LimitNOFILE=)",
        ],
    );
}

#[test]
fn routes_are_told_and_those_that_take_nothing() {
    let text = "
listeners:
- name: site
  address: '127.0.0.1:8080'
  protocol: HTTP
  backendSet: web
  routes:
  - {hosts: ['*.a.example', b.example], path: {prefix: /api}, backendSet: api}
  - {path: {exact: /}, redirect: {scheme: https}}
  - {hosts: [c.example, b.example], path: {prefix: /api/}, backendSet: web}
  - {hosts: [b.example], path: {exact: /api}, backendSet: web}
  - {backendSet: api}
- {name: next, address: '127.0.0.1:8081', protocol: HTTP, routes: [{backendSet: api}]}
- {name: raw, address: '127.0.0.1:8082', protocol: TCP, backendSet: sticky}
backendSets:
- {name: web, affinity: {cookie: {}}, backends: [{address: '10.0.0.1:80'}]}
- {name: api}
- {name: sticky, affinity: {cookie: {}}, backends: [{address: '10.0.0.1:80'}]}
";
    check(
        text,
        SMALL,
        &[
            "ports        HTTP 127.0.0.1:8080  site -> web and 5 routes",
            "             HTTP 127.0.0.1:8081  next -> 1 route",
            "             TCP 127.0.0.1:8082  raw -> sticky",
            "routes       site: *.a.example/api, and for 1 more host -> api",
            "             site: */ exactly -> 302 to scheme https",
            "             next: */ -> api",
            "notes        backend set api is empty: requests for it are answered with 503",
            "             listener site: b.example/api/ stands in routes[0] and routes[2], and the first counts",
            "             listener site: routes[4] takes all requests, and backendSet web gets none",
            "             no HTTP listener leads to sticky: its cookie is never set",
        ],
    );
    let report = report("a.yaml", &Document::from_yaml(text).unwrap(), SMALL);
    assert!(!report.contains("leads to web"), "{report}");
    assert_eq!(report.matches("the first counts").count(), 1, "{report}");
}

#[test]
fn a_listener_without_its_set_is_refused_with_its_line() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.yaml");
    let text =
        "listeners:\n- name: a\n  address: 127.0.0.1:8080\n  protocol: TCP\n  backendSet: b\n";
    std::fs::write(&path, text).unwrap();
    let error = run(&path, SMALL).unwrap_err().to_string();
    let expected = format!(
        "{}:5: listeners[0].backendSet: no backend set is named b",
        path.display()
    );
    assert_eq!(error, expected);
}

#[test]
fn this_machine_can_be_looked_at() {
    let machine = Machine::here(3);
    assert!(machine.descriptors > 64);
    assert_eq!(machine.workers, 3);
}
