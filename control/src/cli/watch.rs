//! `podline watch`: events as they happen.

use std::fmt::Write;
use std::time::Duration;

use podline_api::client::{ClientError, ProxyClient};
use podline_api::v1::{self, watch_response::Event};

use super::apply::{action, backends};
use super::backend::name_of;
use super::failure::{Exit, Failure};
use super::human::{clean, count};
use super::output::Screen;
use super::overriding::holds;
use super::target::Target;

const FIRST_PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// Runs until it is interrupted; only a proxy that was never reached ends it.
pub(super) async fn run(target: &Target, screen: &mut Screen) -> Result<Exit, Failure> {
    let client = target.connect().await?;
    let mut pause = FIRST_PAUSE;
    loop {
        let (seen, error) = follow(&client, screen).await?;
        let failure = Failure::from(error);
        // A proxy that refuses outright (too old, too many watchers) will do so again.
        if !seen && failure.exit() != Exit::Unreachable {
            return Err(failure);
        }
        if seen {
            pause = FIRST_PAUSE;
        }
        eprintln!("note: {}; trying again", failure.with_cause());
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// Prints one stream to its end. Says whether anything came, and why it ended.
async fn follow(client: &ProxyClient, screen: &mut Screen) -> Result<(bool, ClientError), Failure> {
    let mut seen = false;
    let mut stream = match client.watch().await {
        Ok(stream) => stream,
        Err(error) => return Ok((seen, error)),
    };
    loop {
        match stream.message().await {
            Ok(Some(message)) => {
                seen = true;
                screen.event(&message, || render(&message))?;
            }
            Ok(None) => {
                return Ok((
                    seen,
                    client.error(tonic::Status::unavailable("it ended the stream")),
                ));
            }
            Err(status) => return Ok((seen, client.error(status))),
        }
    }
}

fn render(message: &v1::WatchResponse) -> String {
    let time = message
        .time
        .map(|time| format!("{time} "))
        .unwrap_or_default();
    let what = match &message.event {
        Some(Event::Hello(hello)) => format!(
            "connected: version {}, API level {}",
            hello.version, hello.level
        ),
        Some(Event::State(state)) => state_line(state),
        Some(Event::Applied(applied)) => applied_line(applied),
        Some(Event::Health(health)) => health_line(health),
        Some(Event::Listener(listener)) => {
            let state = listener.state().as_str_name();
            with_reason(
                format!("listener/{} {state}", listener.name),
                &listener.reason,
            )
        }
        Some(Event::Drained(drained)) => drained_line(drained),
        Some(Event::Override(changed)) => override_line(changed),
        Some(Event::Ejection(ejection)) => ejection_line(ejection),
        Some(Event::FailOpen(changed)) => fail_open_line(changed),
        Some(Event::Path(path)) => path_line(path),
        Some(Event::Address(status)) => super::vip::line(status),
        Some(Event::Leaving(_)) => {
            "leaving: the process ends, and its virtual addresses go elsewhere".to_owned()
        }
        _ => "an event that this podline does not know".to_owned(),
    };
    format!("{time}{}\n", clean(&what))
}

fn state_line(state: &v1::GetResponse) -> String {
    let backends = || state.backend_sets.iter().flat_map(|set| &set.backends);
    let unhealthy = backends()
        .filter(|backend| backend.health() == v1::Health::Unhealthy)
        .count();
    format!(
        "state: {}, {}, {} ({unhealthy} unhealthy), {}",
        count(state.listeners.len(), "listener"),
        count(state.backend_sets.len(), "set"),
        count(backends().count(), "backend"),
        if state.ready { "ready" } else { "not ready" },
    )
}

fn applied_line(applied: &v1::Applied) -> String {
    let mut text = format!("version {} by {}:", applied.version, applied.owner);
    for (i, change) in applied.changes.iter().enumerate() {
        let comma = if i == 0 { "" } else { "," };
        let _ = write!(text, "{comma} {} {}", change.what, action(change));
        let backends = backends(change);
        if !backends.is_empty() {
            let _ = write!(text, " ({backends})");
        }
    }
    text
}

fn health_line(health: &v1::HealthChanged) -> String {
    let states = format!(
        "{} -> {}",
        health.from().as_str_name(),
        health.to().as_str_name()
    );
    with_reason(
        format!(
            "set/{} {} {states}",
            health.set,
            name_of(health.backend.as_ref())
        ),
        &health.reason,
    )
}

fn override_line(changed: &v1::OverrideChanged) -> String {
    let status = changed.status.clone().unwrap_or_default();
    if changed.ended {
        let backend = name_of(status.backend.as_ref());
        return format!("set/{} {backend} is as its owner says again", status.set);
    }
    let text = format!("{}, by {}", holds(&status), status.by);
    with_reason(text, &status.note)
}

fn ejection_line(ejection: &v1::EjectionChanged) -> String {
    let backend = name_of(ejection.backend.as_ref());
    let what = if ejection.ejected {
        "is ejected"
    } else {
        "is let in again"
    };
    with_reason(
        format!("set/{} {backend} {what}", ejection.set),
        &ejection.reason,
    )
}

fn path_line(path: &v1::PathStatus) -> String {
    let version = if path.ipv6 { "IPv6" } else { "IPv4" };
    let state = path.state().as_str_name();
    with_reason(
        format!("node/{} {version} {state}", path.node),
        &path.reason,
    )
}

fn fail_open_line(changed: &v1::FailOpenChanged) -> String {
    let what = if changed.fail_open {
        "fails open: every backend is UNHEALTHY, so all get traffic"
    } else {
        "no longer fails open"
    };
    format!("set/{} {what}", changed.set)
}

/// One acknowledgement of a drain.
pub(super) fn drained_line(drained: &v1::Drained) -> String {
    let backend = name_of(drained.backend.as_ref());
    let stage = match (drained.stage(), drained.forced) {
        (v1::drained::Stage::Closed, _) => "is closed: it gets no new connection".to_owned(),
        (v1::drained::Stage::Empty, 0) => "is empty: its last connection ended".to_owned(),
        (v1::drained::Stage::Empty, forced) => {
            format!("is empty: {forced} connections were cut at the deadline")
        }
        (v1::drained::Stage::Unspecified, _) => "drains".to_owned(),
    };
    format!("set/{} {backend} {stage}", drained.set)
}

fn with_reason(text: String, reason: &str) -> String {
    if reason.is_empty() {
        text
    } else {
        format!("{text}: {reason}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::sample;

    fn check(event: Event, expected: &str) {
        let message = v1::WatchResponse {
            time: Some(prost_types::Timestamp {
                seconds: sample::NOW,
                nanos: 5_000_000,
            }),
            event: Some(event),
        };
        assert_eq!(
            render(&message),
            format!("2023-11-14T22:13:20.005Z {expected}\n")
        );
    }

    fn backend() -> v1::Backend {
        v1::Backend {
            node: None,
            id: Some("pod-2".to_owned()),
            address: "10.0.0.2:80".to_owned(),
            weight: None,
        }
    }

    #[test]
    fn every_event_is_one_line() {
        check(
            Event::Hello(v1::Hello {
                version: 7,
                level: 1,
                features: vec![],
            }),
            "connected: version 7, API level 1",
        );
        check(
            Event::State(sample::state()),
            "state: 2 listeners, 2 sets, 3 backends (2 unhealthy), ready",
        );
        let changes = vec![
            v1::Change {
                what: "listener/web".to_owned(),
                action: 1,
                ..Default::default()
            },
            v1::Change {
                what: "set/web".to_owned(),
                action: 2,
                backends_added: 1,
                ..Default::default()
            },
        ];
        let applied = v1::Applied {
            version: 8,
            owner: "cli".to_owned(),
            changes,
        };
        check(
            Event::Applied(applied),
            "version 8 by cli: listener/web added, set/web changed (1 backend added)",
        );
        let health = v1::HealthChanged {
            set: "web".to_owned(),
            backend: Some(backend()),
            from: v1::Health::Healthy.into(),
            to: v1::Health::Unhealthy.into(),
            reason: "connection\nrefused".to_owned(),
            version: 9,
        };
        check(
            Event::Health(health),
            "set/web 10.0.0.2:80 (pod-2) HEALTHY -> UNHEALTHY: connection refused",
        );
        let failed = v1::listener_status::State::Failed.into();
        let listener = v1::ListenerChanged {
            name: "web".to_owned(),
            state: failed,
            reason: "in use".to_owned(),
        };
        check(Event::Listener(listener), "listener/web FAILED: in use");
        let drained = |stage: v1::drained::Stage, forced| {
            Event::Drained(v1::Drained {
                set: "web".to_owned(),
                backend: Some(backend()),
                stage: stage.into(),
                forced,
            })
        };
        check(
            drained(v1::drained::Stage::Closed, 0),
            "set/web 10.0.0.2:80 (pod-2) is closed: it gets no new connection",
        );
        check(
            drained(v1::drained::Stage::Empty, 0),
            "set/web 10.0.0.2:80 (pod-2) is empty: its last connection ended",
        );
        check(
            drained(v1::drained::Stage::Empty, 2),
            "set/web 10.0.0.2:80 (pod-2) is empty: 2 connections were cut at the deadline",
        );
        assert_eq!(
            render(&v1::WatchResponse::default()),
            "an event that this podline does not know\n"
        );
    }

    #[test]
    fn what_operators_and_failures_do_is_told() {
        check(
            Event::Override(v1::OverrideChanged {
                status: Some(sample::drained()),
                ended: false,
            }),
            "set/web 10.0.0.2:80 (pod-2): drained until 2023-11-14T22:23:20Z, by local: new disk",
        );
        check(
            Event::Override(v1::OverrideChanged {
                status: Some(sample::weighed()),
                ended: false,
            }),
            "set/web 10.0.0.9:80 (pod-9): weight 20 until undone, by k8s/east",
        );
        check(
            Event::Override(v1::OverrideChanged {
                status: Some(sample::weighed()),
                ended: true,
            }),
            "set/web 10.0.0.9:80 (pod-9) is as its owner says again",
        );
        let ejection = |ejected, reason: &str| {
            Event::Ejection(v1::EjectionChanged {
                set: "web".to_owned(),
                backend: Some(backend()),
                ejected,
                reason: reason.to_owned(),
            })
        };
        check(
            ejection(true, "3 connects failed"),
            "set/web 10.0.0.2:80 (pod-2) is ejected: 3 connects failed",
        );
        check(
            ejection(false, ""),
            "set/web 10.0.0.2:80 (pod-2) is let in again",
        );
        let fail_open = |fail_open| {
            let set = "web".to_owned();
            Event::FailOpen(v1::FailOpenChanged { set, fail_open })
        };
        check(
            fail_open(true),
            "set/web fails open: every backend is UNHEALTHY, so all get traffic",
        );
        check(fail_open(false), "set/web no longer fails open");
    }
}
