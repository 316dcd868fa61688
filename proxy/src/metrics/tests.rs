//! Metrics of made-up states.

use super::*;
use std::collections::HashMap;

/// A small set has answered requests.
fn set(name: &str, backends: u32) -> v1::BackendSetStatus {
    let (answers, durations) = match backends {
        1 | 2 => (vec![0, 9, 0, 0, 1], vec![1; 13]),
        _ => (Vec::new(), Vec::new()),
    };
    let backend = |n: u32| v1::BackendStatus {
        backend: Some(v1::Backend {
            address: format!("10.0.{}.{}:80", n / 256, n % 256),
            ..Default::default()
        }),
        health: v1::Health::Healthy.into(),
        connections: u64::from(n),
        answers: answers.clone(),
        durations: durations.clone(),
        ..Default::default()
    };
    v1::BackendSetStatus {
        set: Some(v1::BackendSet {
            name: name.to_owned(),
            ..Default::default()
        }),
        backends: (0..backends).map(backend).collect(),
        total: backends,
        eligible: backends,
        answers,
        durations,
        ..Default::default()
    }
}

fn state(sets: Vec<v1::BackendSetStatus>) -> v1::GetResponse {
    v1::GetResponse {
        version: 7,
        release: "0.1.0".to_owned(),
        started: Some(prost_types::Timestamp {
            seconds: 1_700_000_000,
            nanos: 0,
        }),
        workers: 2,
        ready: true,
        listeners: vec![
            v1::ListenerStatus {
                listener: Some(v1::Listener {
                    name: "web".to_owned(),
                    ..Default::default()
                }),
                state: v1::listener_status::State::Listening.into(),
                accepted_connections: u64::MAX,
                active_connections: 3,
                transparent_connections: 5,
                snat_connections: [("UNPROVEN".to_owned(), 2)].into(),
                http: Some(v1::HttpStatus {
                    answers: vec![0, 3, 0, 1, 0],
                    refusals: [("no-route".to_owned(), 1)].into(),
                    durations: [&[2, 1], &[0; 10][..], &[1]].concat(),
                    total_milliseconds: 61_500,
                    http2_connections: 6,
                    http2_floods: [("pings".to_owned(), 1)].into(),
                    http2_errors: 2,
                }),
                tls: Some(v1::TlsStatus {
                    handshakes: 8,
                    resumptions: 2,
                    failures: [("not-tls".to_owned(), 1)].into(),
                    not_after: Some(prost_types::Timestamp {
                        seconds: 1_800_000_000,
                        nanos: 0,
                    }),
                }),
                ..Default::default()
            },
            v1::ListenerStatus {
                listener: Some(v1::Listener {
                    name: "dns".to_owned(),
                    protocol: Some(v1::listener::Protocol::Udp.into()),
                    ..Default::default()
                }),
                received_datagrams: 12,
                dropped_by_reason: HashMap::from([("NO_BACKEND".to_owned(), 5)]),
                ..Default::default()
            },
        ],
        network: Some(v1::NetworkStatus {
            addresses: vec![v1::AddressStatus {
                address: "192.0.2.10".to_owned(),
                state: v1::address_status::State::Conflict.into(),
                ..Default::default()
            }],
            paths: vec![v1::PathStatus {
                node: "one".to_owned(),
                ipv6: true,
                state: v1::path_status::State::Proven.into(),
                ..Default::default()
            }],
            ..Default::default()
        }),
        backend_sets: sets,
        ..Default::default()
    }
}

fn rendered(state: &v1::GetResponse, counts: &Counts) -> String {
    render(state, &detailed_sets(state), counts, [4, 9])
}

fn has(text: &str, line: &str) {
    assert!(
        text.lines().any(|found| found == line),
        "no {line:?} in\n{text}"
    );
}

#[test]
fn figures_of_the_state_are_rendered() {
    let counts = Counts::default();
    counts.count_apply(&Ok(()));
    counts.count_apply(&Err::<(), _>(Rejected::Version {
        wanted: 1,
        actual: 2,
    }));
    counts.count_reload_failure();
    counts.count_watcher_cut();
    let text = rendered(&state(vec![set("a", 2), set("empty", 0)]), &counts);
    for line in [
        "podline_version 7",
        "podline_build_info{release=\"0.1.0\"} 1",
        "podline_start_time_seconds 1700000000",
        "podline_ready 1",
        "podline_accept_pauses_total 4",
        "podline_stray_datagrams_total 9",
        "podline_listener_up{listener=\"web\"} 1",
        "podline_http_requests_total{listener=\"web\",class=\"2xx\"} 3",
        "podline_http_refusals_total{listener=\"web\",reason=\"no-route\",fault=\"operator\"} 1",
        "podline_http2_connections_total{listener=\"web\"} 6",
        "podline_http2_floods_total{listener=\"web\",reason=\"pings\"} 1",
        "podline_http2_errors_total{listener=\"web\"} 2",
        "podline_http_request_duration_seconds_bucket{listener=\"web\",le=\"0.001\"} 2",
        "podline_http_request_duration_seconds_bucket{listener=\"web\",le=\"0.002\"} 3",
        "podline_http_request_duration_seconds_bucket{listener=\"web\",le=\"+Inf\"} 4",
        "podline_http_request_duration_seconds_count{listener=\"web\"} 4",
        "podline_http_request_duration_seconds_sum{listener=\"web\"} 61.5",
        "podline_received_datagrams_total{listener=\"dns\"} 12",
        "podline_dropped_datagrams_total{listener=\"dns\",reason=\"no_backend\"} 5",
        "podline_dropped_datagrams_total{listener=\"dns\",reason=\"limit\"} 0",
        "podline_connections_active{listener=\"web\"} 3",
        "podline_connections_accepted_total{listener=\"web\"} 18446744073709551615",
        "podline_set_eligible_backends{set=\"a\"} 2",
        "podline_set_eligible_backends{set=\"empty\"} 0",
        "podline_backend_health{set=\"a\",backend=\"10.0.0.1:80\",health=\"healthy\"} 1",
        "podline_backend_connections_total{set=\"a\",backend=\"10.0.0.1:80\"} 1",
        "podline_applies_total{result=\"accepted\"} 1",
        "podline_applies_total{result=\"version\"} 1",
        "podline_applies_total{result=\"conflict\"} 0",
        "podline_reload_failures_total 1",
        "podline_watchers_cut_total 1",
        "podline_series_dropped 0",
        "podline_transparent_connections_total{listener=\"web\"} 5",
        "podline_snat_connections_total{listener=\"web\",reason=\"UNPROVEN\"} 2",
        "podline_path_proven{node=\"one\",family=\"ipv6\"} 1",
        "podline_can_imitate 1",
        "podline_address_held{address=\"192.0.2.10\"} 0",
        "podline_address_trouble{address=\"192.0.2.10\",why=\"conflict\"} 1",
    ] {
        has(&text, line);
    }
}

#[test]
fn every_series_is_declared_with_help_and_kind_and_every_declaration_is_used() {
    let text = rendered(&state(vec![set("a", 1)]), &Counts::default());
    let kinds: HashMap<&str, &str> = text
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' '))
        .collect();
    let mut series: HashSet<&str> = text
        .lines()
        .filter(|line| !line.starts_with('#') && !line.is_empty())
        .filter_map(|line| line.split(['{', ' ']).next())
        .collect();
    for (name, kind, help) in ALL {
        let (kind, parts): (_, &[&str]) = match kind {
            Kind::Counter => ("counter", &[""]),
            Kind::Gauge => ("gauge", &[""]),
            Kind::Histogram => ("histogram", &["_bucket", "_sum", "_count"]),
        };
        for part in parts {
            let is_there = series.remove(&*format!("{name}{part}"));
            assert!(is_there, "{name}{part} is never rendered");
        }
        assert_eq!(kinds.get(name), Some(&kind), "{name}");
        has(&text, &format!("# HELP {name} {help}"));
        assert!(
            name.starts_with("podline_") && name.ends_with("_total") == (kind == "counter"),
            "{name}"
        );
    }
    assert!(series.is_empty(), "{series:?} are not declared");
}

#[test]
fn series_per_backend_have_a_cap_that_is_told() {
    // 400 backends have 2,800 series: a and c fit, b does not.
    let state = state(vec![set("c", 300), set("b", 400), set("a", 400)]);
    assert_eq!(
        detailed_sets(&state),
        (vec!["a".to_owned(), "c".to_owned()], 2_800)
    );
    let text = rendered(&state, &Counts::default());
    let of = |set: &str| {
        text.lines()
            .filter(|line| line.contains(&format!("{{set=\"{set}\",backend=")))
            .count()
    };
    assert_eq!((of("a"), of("b"), of("c")), (2_800, 0, 2_100));
    has(&text, "podline_series_dropped 2800");
    has(&text, "podline_set_eligible_backends{set=\"b\"} 400");
}

/// Rows of the README's tables whose first cell starts so: their cells.
fn rows(start: &str) -> Vec<Vec<&'static str>> {
    const README: &str = include_str!("../../README.md");
    let rows = README.lines().filter(|line| line.starts_with(start));
    rows.map(|line| line.trim_matches('|').split('|').map(str::trim).collect())
        .collect()
}

/// The labels of a series, by the names that they have in the text.
fn labels<'a>(text: &'a str, name: &str) -> Vec<&'a str> {
    let rest = text
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix('{'));
    let inside = rest
        .and_then(|rest| rest.rsplit_once('}'))
        .map(|(inside, _)| inside);
    let pairs = inside.into_iter().flat_map(|inside| inside.split("\","));
    pairs.filter_map(|pair| pair.split('=').next()).collect()
}

#[test]
fn the_readme_tells_every_metric_with_kind_and_labels() {
    let text = rendered(&state(vec![set("a", 1)]), &Counts::default());
    let rows = rows("| `podline_");
    let told: Vec<_> = rows.iter().map(|row| row[0].trim_matches('`')).collect();
    let all: Vec<_> = ALL.iter().map(|(name, ..)| *name).collect();
    assert_eq!(told, all, "names and their order");
    for (row, (name, kind, _)) in rows.iter().zip(ALL) {
        assert_eq!(row[1], format!("{kind:?}").to_lowercase(), "{name}");
        let series = match kind {
            Kind::Histogram => &format!("{name}_bucket"),
            _ => *name,
        };
        assert_eq!(row[2], labels(&text, series).join(", "), "{name}");
    }
}

#[test]
fn every_heading_of_the_runbook_is_a_metric() {
    let headings = rows("#### podline_");
    assert!(headings.len() > 10);
    for heading in headings {
        let name = heading[0].trim_start_matches("#### ");
        assert!(ALL.iter().any(|(known, ..)| *known == name), "{name}");
    }
}

#[test]
fn the_readme_tells_every_event_and_every_reason_of_the_api() {
    const PROTO: &str = include_str!("../../../control/api/proto/podline/v1/proxy.proto");
    let names = |from: &str, prefix: &str| -> Vec<String> {
        let block = PROTO.split_once(from).unwrap().1.split_once('}').unwrap().0;
        let lines = block
            .lines()
            .map(str::trim)
            .filter(|line| !line.starts_with("//"));
        let words = lines.filter_map(|line| line.split_once(" = ")?.0.split(' ').next_back());
        words
            .filter(|word| !word.ends_with("UNSPECIFIED"))
            .map(|word| format!("| {prefix}{word}{prefix} "))
            .collect()
    };
    let reasons = names("enum Reason {", "");
    let events: Vec<_> = names("oneof event {", "`")
        .iter()
        .map(|name| name.replace("fail_open", "failOpen"))
        .collect();
    assert_eq!((reasons.len(), events.len()), (16, 12));
    for start in reasons.iter().chain(&events) {
        assert_eq!(rows(start).len(), 1, "{start}");
    }
}

#[test]
fn names_cannot_break_out_of_their_label() {
    let text = rendered(&state(vec![set("a\"} 1\nevil 2", 0)]), &Counts::default());
    assert!(!text.lines().any(|line| line.starts_with("evil")), "{text}");
}
