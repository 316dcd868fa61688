//! What Podline is told over its API. Pure.

use std::net::SocketAddr;

use podline_api::{
    Apply, Backend as Member, BackendHttp, BackendKey, BackendSet, Certificate, CheckKind,
    HealthCheck, Listener, Name, Override, OverrideAction, Owner, PassiveCheck, Protocol, Secret,
    SetSettings, SourceAddress, Tls, TlsVersion, Weight,
};

use super::targets::{Port, Wanted};
use super::{Layer, Subject};

/// Where its API is, in the subject's folder.
pub(super) const SOCKET: &str = "podline.sock";
/// Its command line.
pub(super) fn arguments(wanted: &Wanted) -> Vec<String> {
    let workers = wanted.workers.to_string();
    let api = format!("unix:{}", wanted.path(SOCKET));
    ["--workers", &workers, "--api", &api]
        .map(ToOwned::to_owned)
        .to_vec()
}

/// Its whole state.
pub(super) fn state(subject: Subject, wanted: &Wanted) -> Apply {
    let source = match subject {
        Subject::DirectTransparent => SourceAddress::Transparent,
        _ => SourceAddress::Snat,
    };
    let listener = |name: &str, port: Port<'_>, protocol| Listener {
        source_address: source,
        tls: (protocol == Protocol::Https).then(|| tls(wanted)),
        ..Listener::new(named(name), port.listen, protocol, named(set_of(port)))
    };
    let protocol = match wanted.layer {
        Layer::L4 => Protocol::Tcp,
        Layer::L7 => Protocol::Http,
        Layer::Tls => Protocol::Https,
    };
    let tcp = wanted.tcp();
    let tcp = tcp.map(|port| listener(&port.label(), port, protocol));
    let udp = wanted.udp();
    let udp = udp.map(|port| listener("datagrams", port, Protocol::Udp));
    Apply {
        listeners: tcp.chain(udp).collect(),
        replace_owned: true,
        ..sets(wanted)
    }
}

/// Its sets with the backends that they are to have now.
pub(super) fn sets(wanted: &Wanted) -> Apply {
    let set = |port: Port<'_>| BackendSet {
        name: named(set_of(port)),
        settings: SetSettings {
            health_check: wanted
                .has_checks
                .then_some(HealthCheck::new(CheckKind::Tcp)),
            passive_check: wanted.has_passive_check.then(PassiveCheck::default),
            http_version: match port.name {
                "grpc" => BackendHttp::Http2,
                _ => BackendHttp::Http11,
            },
            ..SetSettings::default()
        },
        backends: port.targets.iter().copied().map(member).collect(),
    };
    let owner = Owner::try_from("bench").expect("a good name");
    Apply {
        backend_sets: wanted.sets().map(set).collect(),
        ..Apply::new(owner)
    }
}

/// No more new connections to these, the first of HTTP and the second of frames.
pub(super) fn drains(http: SocketAddr, frames: SocketAddr) -> [Override; 2] {
    [("http", http), ("frames", frames)].map(|(set, address)| Override {
        set: named(set),
        backend: BackendKey { id: None, address },
        action: OverrideAction::Drain { timeout: None },
        lasts: None,
        note: "bench".to_owned(),
    })
}

/// How clients speak TLS with it.
fn tls(wanted: &Wanted) -> Tls {
    let certificate = Certificate {
        chain: wanted.certificate.chain.clone(),
        key: Secret::new(wanted.certificate.key.clone()),
    };
    Tls {
        certificates: vec![certificate],
        min_version: TlsVersion::Tls12,
        client_certificates: None,
        http2: true,
        ticket_keys: Vec::new(),
    }
}

/// The set that a port leads to: HTTP/2 goes where HTTP/1.1 goes, transfers that last where frames go.
fn set_of(port: Port<'_>) -> &'static str {
    match port.name {
        "http" | "http2" => "http",
        "grpc" => "grpc",
        _ => "frames",
    }
}

fn member(address: SocketAddr) -> Member {
    Member {
        key: BackendKey { id: None, address },
        weight: Weight::DEFAULT,
        node: None,
    }
}

fn named(name: &str) -> Name {
    Name::try_from(name).expect("all of them are good names")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::subject::targets::example;
    use podline_api::Policy;

    #[test]
    fn every_port_has_a_listener_and_frames_share_a_set() {
        let wanted = example(Layer::L4);
        for (subject, source) in [
            (Subject::Direct, SourceAddress::Snat),
            (Subject::NodeportIptablesLocal, SourceAddress::Snat),
            (Subject::DirectTransparent, SourceAddress::Transparent),
        ] {
            let state = state(subject, &wanted);
            assert!(state.replace_owned);
            let line = |listener: &Listener| {
                assert_eq!(listener.source_address, source);
                let Listener {
                    name,
                    address,
                    protocol,
                    backend_set,
                    ..
                } = listener;
                let set = backend_set.as_ref().unwrap();
                format!("{name} {address} {protocol:?} {set}")
            };
            let expected = [
                "http 10.88.0.100:8000 Tcp http",
                "frames 10.88.0.100:8001 Tcp frames",
                "bulk 10.88.0.100:8002 Tcp frames",
                "datagrams 10.88.0.100:8001 Udp frames",
            ];
            assert_eq!(
                state.listeners.iter().map(line).collect::<Vec<_>>(),
                expected
            );
        }
    }

    #[test]
    fn requests_have_listeners_of_their_own_and_calls_a_set() {
        let state = state(Subject::Direct, &example(Layer::L7));
        let line = |listener: &Listener| {
            assert_eq!(listener.protocol, Protocol::Http);
            assert!(listener.http.is_some() && listener.tls.is_none());
            let set = listener.backend_set.as_ref().unwrap();
            format!("{} {} {set}", listener.name, listener.address)
        };
        let lines: Vec<_> = state.listeners.iter().map(line).collect();
        let expected = [
            "http 10.88.0.100:8000 http",
            "http2 10.88.0.100:8004 http",
            "grpc 10.88.0.100:8003 grpc",
        ];
        assert_eq!(lines, expected);
        let versions = state.backend_sets.iter().map(|set| {
            let version = set.settings.http_version;
            format!("{} {version:?}", set.name)
        });
        assert_eq!(versions.collect::<Vec<_>>(), ["http Http11", "grpc Http2"]);
    }

    #[test]
    fn a_certificate_that_was_made_is_taken_by_the_api() {
        let certificate = crate::certificate::Certificate::made().unwrap();
        let key = certificate.key.clone();
        let wanted = Wanted {
            certificate,
            ..example(Layer::Tls)
        };
        let state = state(Subject::Direct, &wanted);
        assert_eq!(state.listeners.len(), 2);
        for listener in state.listeners {
            assert_eq!(listener.protocol, Protocol::Https);
            let read = Listener::try_from(podline_api::v1::Listener::from(&listener)).unwrap();
            assert_eq!(read, listener);
            let tls = read.tls.unwrap();
            assert!(tls.http2 && tls.certificates[0].key.reveal() == key);
        }
    }

    #[test]
    fn a_change_names_sets_alone() {
        let sets = sets(&example(Layer::L4));
        assert!(sets.listeners.is_empty() && !sets.replace_owned);
        let [http, frames] = &sets.backend_sets[..] else {
            panic!("two sets");
        };
        assert_eq!(http.settings.policy, Policy::RoundRobin);
        let addresses = |set: &BackendSet| {
            let addresses = set
                .backends
                .iter()
                .map(|backend| backend.key.address.to_string());
            addresses.collect::<Vec<_>>().join(" ")
        };
        assert_eq!(addresses(http), "10.244.1.10:8080 10.244.1.11:8080");
        assert_eq!(addresses(frames), "10.244.1.10:8081 10.244.1.11:8081");
    }

    #[test]
    fn backends_are_checked_as_is_wanted() {
        for (has_checks, has_passive_check) in [(false, false), (true, false), (true, true)] {
            let wanted = Wanted {
                has_checks,
                has_passive_check,
                ..example(Layer::L4)
            };
            for set in sets(&wanted).backend_sets {
                assert_eq!(set.settings.health_check.is_some(), has_checks);
                assert_eq!(set.settings.passive_check.is_some(), has_passive_check);
            }
        }
    }

    #[test]
    fn a_drain_names_both_sets() {
        let at = |port| SocketAddr::from(([10, 244, 1, 10], port));
        let drains = drains(at(8080), at(8081));
        let lines = drains.map(|drain| format!("{} {}", drain.set, drain.backend));
        assert_eq!(lines, ["http 10.244.1.10:8080", "frames 10.244.1.10:8081"]);
    }
}
