//! The scenarios there are. Values alone.

use std::time::Duration;

use podline_lab::Wire;

use super::{Axis, Event, Scenario, Step, Test};
use crate::load::{Pace, Work};
use crate::stage::StagePlan;
use crate::subject::{Layer, Subject};

/// The one that the README shows.
pub const HEADLINE: &str = "direct-vs-nodeport";

/// Connections of a closed load, as many as wrk's in the comparison of load balancers.
const MANY: u32 = 64;
/// Requests a second of an open load: less than half of what the slowest subject can.
const CALM: f64 = 4_000.0;

/// Podline in front of Pods and in front of NodePorts, and the Pods alone.
const NODE_PORTS: [Subject; 7] = [
    Subject::Pod,
    Subject::Direct,
    Subject::DirectTransparent,
    Subject::NodeportIptablesCluster,
    Subject::NodeportIptablesLocal,
    Subject::NodeportNftablesCluster,
    Subject::NodeportNftablesLocal,
];
/// Podline and those that forward connections.
const PEERS: [Subject; 5] = [
    Subject::Direct,
    Subject::Haproxy,
    Subject::Nginx,
    Subject::Envoy,
    Subject::Traefik,
];
/// Those for which it matters what becomes of Pods.
const FEW: [Subject; 3] = [
    Subject::Direct,
    Subject::NodeportIptablesCluster,
    Subject::NodeportIptablesLocal,
];
/// Those that read HTTP.
const HTTP: [Subject; 6] = [
    Subject::Direct,
    Subject::Haproxy,
    Subject::Nginx,
    Subject::Envoy,
    Subject::Traefik,
    Subject::Pingora,
];

/// All of them, in the order in which they are listed.
pub fn all() -> Vec<Scenario> {
    let mut all = vec![headline()];
    all.extend(against_peers());
    all.push(scale());
    all.extend(meanwhiles());
    all.extend(of_paths());
    all
}

fn headline() -> Scenario {
    Scenario {
        subjects: NODE_PORTS.to_vec(),
        // Of nine rounds an interval needs neither the best nor the worst.
        rounds: 9,
        duration: Duration::from_millis(700),
        ..scenario(
            HEADLINE,
            "what going straight to Pods gains over NodePorts",
            &[bulk(4, false), rr(), crr(), latency(), udp()],
        )
    }
}

/// What costs what, beside other load balancers.
fn against_peers() -> Vec<Scenario> {
    let http = [
        http1("http", 0, false),
        http1("http-1k", 1_024, false),
        http1("http-close", 0, true),
    ];
    let more = [http2(), grpc()];
    let l4: Vec<_> = http.into_iter().chain(more).collect();
    let l7: Vec<_> = l4.iter().copied().chain([idle_http(8_000)]).collect();
    let tls = [
        http1("https", 0, false),
        http1("https-1k", 1_024, false),
        http1("https-close", 0, true),
    ];
    // Each of them costs a handshake, and tens of KiB.
    let more = [http2(), grpc(), idle_http(4_000)];
    let tls: Vec<_> = tls.into_iter().chain(more).collect();
    let all = [
        scenario(
            "throughput",
            "bulk TCP, down and up, one stream and many",
            &[
                bulk(1, false),
                bulk(4, false),
                bulk(16, false),
                bulk(4, true),
            ],
        ),
        scenario(
            "latency",
            "latency from the intended time of open loads, and what a closed one can",
            &[rr(), latency(), latency_of_connections()],
        ),
        scenario(
            "connections",
            "new connections, and what idle ones hold",
            &[crr(), idle()],
        ),
        scenario(
            "udp",
            "many flows that are answered, and one as fast as it can",
            &[udp(), udp_bulk()],
        ),
        scenario(
            "http",
            "HTTP/1.1, HTTP/2 and gRPC through TCP listeners",
            &l4,
        ),
        Scenario {
            layer: Layer::L7,
            subjects: HTTP.to_vec(),
            ..scenario(
                "http-l7",
                "HTTP/1.1, HTTP/2 and gRPC by proxies that read it",
                &l7,
            )
        },
        Scenario {
            layer: Layer::Tls,
            subjects: PEERS.to_vec(),
            ..scenario(
                "https-l7",
                "as http-l7, inside TLS that ends at the proxy; what a handshake costs",
                &tls,
            )
        },
    ];
    all.map(|scenario| Scenario {
        duration: Duration::from_secs(2),
        stage: own_links(),
        ..scenario
    })
    .to_vec()
}

/// What it costs that there is more of everything.
fn scale() -> Scenario {
    let axes = [
        (Axis::Backends, [2, 20, 200, 2_000]),
        (Axis::Listeners, [1, 10, 100, 1_000]),
        // Each takes two descriptors of the load balancer, and 20,000 is a common limit.
        (Axis::Connections, [10, 100, 1_000, 8_000]),
    ];
    let steps = axes.into_iter().flat_map(|(of, counts)| {
        let steps = counts.into_iter();
        steps.map(move |count| Some(Step { of, count }))
    });
    let tests = steps.flat_map(|step| [crr(), rr()].map(|test| Test { step, ..test }));
    Scenario {
        duration: Duration::from_millis(500),
        stage: StagePlan {
            has_crowds: true,
            ..own_links()
        },
        ..scenario(
            "scale",
            "what more backends, listeners and open connections cost",
            &tests.collect::<Vec<_>>(),
        )
    }
}

/// A network without a bridge, and one Pod on each node: for what has no way between nodes. Whatever else there was, the
/// kernel would charge a part of it to who sends.
fn own_links() -> StagePlan {
    StagePlan {
        wire: Wire::Links,
        pods: 2,
        ..StagePlan::default()
    }
}

/// What clients notice of changes.
fn meanwhiles() -> Vec<Scenario> {
    vec![
        Scenario {
            rounds: 3,
            duration: Duration::from_secs(10),
            ..scenario(
                "churn",
                "new connections while backends come and go ten times a second",
                &[meanwhile("churn", Event::Churn(10))],
            )
        },
        Scenario {
            rounds: 1,
            duration: Duration::from_secs(20),
            subjects: FEW.to_vec(),
            ..scenario(
                "rollout",
                "every Pod is replaced under load",
                &[meanwhile("rollout", Event::Rollout)],
            )
        },
        Scenario {
            rounds: 1,
            // Podline's checks find it after 17 s at the latest.
            duration: Duration::from_secs(45),
            subjects: FEW.to_vec(),
            ..scenario(
                "failover",
                "a Pod's machine loses its power under load",
                &[meanwhile("failover", Event::Failover)],
            )
        },
        Scenario {
            rounds: 1,
            duration: Duration::from_mins(10),
            subjects: vec![Subject::Direct],
            ..scenario(
                "soak",
                "ten minutes of each: memory and failures",
                &[latency_of_connections(), latency()],
            )
        },
    ]
}

/// What Pods see, and how they are used.
fn of_paths() -> Vec<Scenario> {
    let all = [
        scenario(
            "source-address",
            "whom Pods take for their client",
            &[crr(), udp()],
        ),
        Scenario {
            stage: StagePlan {
                nodes: 3,
                pods: 8,
                ..StagePlan::default()
            },
            ..scenario("balance", "how evenly Pods are used", &[crr()])
        },
    ];
    all.map(|scenario| Scenario {
        subjects: NODE_PORTS.to_vec(),
        ..scenario
    })
    .to_vec()
}

fn scenario(name: &'static str, about: &'static str, tests: &[Test]) -> Scenario {
    Scenario {
        name,
        about,
        subjects: PEERS.to_vec(),
        tests: tests.to_vec(),
        rounds: 7,
        duration: Duration::from_secs(1),
        layer: Layer::L4,
        stage: StagePlan::default(),
    }
}

/// The scenario of this name; the names there are, if there is none.
pub fn find(name: &str) -> Result<Scenario, String> {
    let all = all();
    let names: Vec<_> = all.iter().map(|scenario| scenario.name).collect();
    let names = names.join(", ");
    let found = all.into_iter().find(|scenario| scenario.name == name);
    found.ok_or_else(|| format!("no scenario is called {name:?}; there are: {names}"))
}

const fn test(name: &'static str, unit: &'static str, of: f64, work: Work, pace: Pace) -> Test {
    Test {
        name,
        unit,
        of,
        work,
        pace,
        event: Event::None,
        step: None,
    }
}

fn bulk(streams: u32, upload: bool) -> Test {
    let name = match (streams, upload) {
        (1, false) => "bulk-1",
        (16, false) => "bulk-16",
        (_, false) => "bulk",
        (_, true) => "upload",
    };
    test(
        name,
        "GB",
        1e9,
        Work::Bulk { streams, upload },
        Pace::Closed,
    )
}

fn rr() -> Test {
    let work = Work::RequestResponse {
        connections: MANY,
        bytes: 16,
    };
    test("rr", "100k requests", 1e5, work, Pace::Closed)
}

fn crr() -> Test {
    let work = Work::Connections { concurrency: MANY };
    test("crr", "10k connections", 1e4, work, Pace::Closed)
}

fn latency() -> Test {
    let work = Work::RequestResponse {
        connections: MANY,
        bytes: 16,
    };
    test("latency", "100k requests", 1e5, work, Pace::Open(CALM))
}

fn latency_of_connections() -> Test {
    let work = Work::Connections {
        concurrency: 4 * MANY,
    };
    test(
        "latency-crr",
        "10k connections",
        1e4,
        work,
        Pace::Open(CALM / 4.0),
    )
}

fn idle() -> Test {
    test(
        "idle",
        "1k connections",
        1e3,
        Work::Idle { connections: 8_000 },
        Pace::Closed,
    )
}

fn idle_http(connections: u32) -> Test {
    let work = Work::IdleHttp { connections };
    test("idle", "1k connections", 1e3, work, Pace::Closed)
}

fn udp() -> Test {
    let work = Work::UdpFlows {
        flows: 256,
        bytes: 64,
    };
    test("udp", "100k datagrams", 1e5, work, Pace::Closed)
}

fn udp_bulk() -> Test {
    test(
        "udp-bulk",
        "100k datagrams",
        1e5,
        Work::UdpBulk { bytes: 512 },
        Pace::Closed,
    )
}

fn http1(name: &'static str, bytes: u32, close: bool) -> Test {
    let work = Work::Http1 {
        connections: MANY,
        bytes,
        close,
    };
    test(name, "100k requests", 1e5, work, Pace::Closed)
}

fn http2() -> Test {
    let work = Work::Http2 {
        connections: 8,
        streams: 16,
        bytes: 0,
    };
    test("http2", "100k requests", 1e5, work, Pace::Closed)
}

fn grpc() -> Test {
    let work = Work::Grpc {
        connections: 8,
        streams: 16,
    };
    test("grpc", "100k requests", 1e5, work, Pace::Closed)
}

fn meanwhile(name: &'static str, event: Event) -> Test {
    Test {
        name,
        event,
        ..latency_of_connections()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn names_are_unique_and_every_test_is_named_once() {
        let all = all();
        let names: BTreeSet<_> = all.iter().map(|scenario| scenario.name).collect();
        assert_eq!(names.len(), all.len());
        for scenario in &all {
            let tests: BTreeSet<_> = scenario.tests.iter().map(Test::label).collect();
            assert_eq!(tests.len(), scenario.tests.len(), "{}", scenario.name);
            assert!(!scenario.subjects.is_empty(), "{}", scenario.name);
        }
    }

    #[test]
    fn the_headline_takes_less_than_five_minutes() {
        let headline = find(HEADLINE).unwrap();
        let cells = headline.tests.len() * headline.subjects.len() * headline.rounds as usize;
        assert!(cells as f64 * headline.duration.as_secs_f64() < 260.0);
    }

    #[test]
    fn three_subjects_over_all_steps_take_less_than_ten_minutes() {
        let scale = find("scale").unwrap();
        let steps: Vec<_> = scale.tests.chunk_by(|a, b| a.step == b.step).collect();
        assert_eq!(steps.len(), 12);
        // A start and an end take less than a second, and connections take a second to be opened.
        let step = 2.0 * scale.duration.as_secs_f64() + 1.2;
        let all = steps.len() as f64 * step * f64::from(scale.rounds) * 3.0;
        assert!(all < 600.0, "{all}");
    }

    #[test]
    fn requests_share_connections_and_have_their_own_by_the_names_that_tables_know() {
        let https = find("https-l7").unwrap();
        let of = |name: &str| {
            let test = https.tests.iter().find(|test| test.name == name);
            let Some(Work::Http1 { bytes, close, .. }) = test.map(|test| test.work) else {
                panic!("{name}");
            };
            (bytes, close)
        };
        assert_eq!((of("https"), of("https-close")), ((0, false), (0, true)));
    }

    #[test]
    fn an_unknown_one_is_answered_with_those_there_are() {
        let error = find("headline").unwrap_err();
        assert!(error.contains("direct-vs-nodeport, throughput"), "{error}");
    }
}
