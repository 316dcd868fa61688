//! `podline status`: how listeners, backend sets and backends do.

use std::fmt::Write;
use std::time::SystemTime;

use podline_api::v1;

use super::failure::{Exit, Failure};
use super::human::{Columns, age, bytes, clean, count};
use super::output::Screen;
use super::selection::{Selection, listener_name, set_name};
use super::target::Target;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    what: Selection,
}

pub(super) async fn run(
    args: &Args,
    target: &Target,
    screen: &mut Screen,
) -> Result<Exit, Failure> {
    let answer = args.what.get(target, false).await?;
    screen.answer(&answer, || render(&answer, SystemTime::now()))?;
    Ok(Exit::Done)
}

fn render(answer: &v1::GetResponse, now: SystemTime) -> String {
    let mut text = header(answer, now);
    if !answer.listeners.is_empty() {
        text.push('\n');
        text += &listeners(&answer.listeners);
    }
    for set in &answer.backend_sets {
        text.push('\n');
        text += &set_line(set);
        text += &backends(&set.backends, now);
    }
    text
}

fn header(answer: &v1::GetResponse, now: SystemTime) -> String {
    let ready = if answer.ready {
        "READY".to_owned()
    } else {
        format!("not ready: {}", clean(&answer.not_ready_reason))
    };
    format!(
        "podline {}, version {}, {ready}\nup {}, {}, {}, {} of {} descriptors\n",
        clean(&answer.release),
        answer.version,
        age(answer.started.as_ref(), now),
        count(answer.workers as usize, "worker"),
        count(
            usize::try_from(answer.active_connections).unwrap_or(usize::MAX),
            "connection"
        ),
        answer.descriptors_in_use,
        answer.descriptor_budget,
    )
}

const LISTENERS: &[&str] = &[
    "LISTENER",
    "ADDRESS",
    "SET",
    "STATE",
    "OWNER",
    ">ACTIVE",
    ">ACCEPTED",
    ">REFUSED",
    ">RECEIVED",
    ">SENT",
];

fn listeners(list: &[v1::ListenerStatus]) -> String {
    let mut columns = Columns::new("", LISTENERS);
    for status in list {
        let listener = status.listener.clone().unwrap_or_default();
        columns.row([
            listener.name,
            listener.address,
            listener.backend_set,
            name_of(status.state().as_str_name()),
            status.owner.clone(),
            status.active_connections.to_string(),
            status.accepted_connections.to_string(),
            status.refused_connections.to_string(),
            bytes(status.received_bytes),
            bytes(status.sent_bytes),
        ]);
    }
    let mut text = columns.text();
    for status in list.iter().filter(|status| !status.reason.is_empty()) {
        let _ = writeln!(
            text,
            "listener/{}: {}",
            listener_name(status),
            clean(&status.reason)
        );
    }
    text
}

fn set_line(status: &v1::BackendSetStatus) -> String {
    let set = status.set.clone().unwrap_or_default();
    let fail_open = if status.fail_open {
        ", every one is UNHEALTHY, so all get traffic"
    } else {
        ""
    };
    format!(
        "set/{}: {}, {} of {} eligible{fail_open}, owner {}, version {}\n",
        set_name(status),
        name_of(set.policy().as_str_name()),
        status.eligible,
        status.total,
        clean(&status.owner),
        status.version,
    )
}

const BACKENDS: &[&str] = &[
    "BACKEND",
    "ID",
    "HEALTH",
    "SINCE",
    ">WEIGHT",
    ">ACTIVE",
    ">TOTAL",
    ">FAILED",
    ">SENT",
    ">RECEIVED",
    "LAST PROBE",
];

fn backends(list: &[v1::BackendStatus], now: SystemTime) -> String {
    if list.is_empty() {
        return String::new();
    }
    let mut columns = Columns::new("  ", BACKENDS);
    for status in list {
        let backend = status.backend.clone().unwrap_or_default();
        let health = name_of(status.health().as_str_name());
        columns.row([
            backend.address,
            backend.id.unwrap_or_default(),
            if status.draining {
                format!("{health} DRAINING")
            } else {
                health
            },
            age(status.since.as_ref(), now),
            backend
                .weight
                .map_or_else(String::new, |weight| weight.to_string()),
            status.active_connections.to_string(),
            status.connections.to_string(),
            status.connect_failures.to_string(),
            bytes(status.sent_bytes),
            bytes(status.received_bytes),
            status.last_probe.clone(),
        ]);
    }
    columns.text()
}

/// An enum's name as it is shown; what is unknown to this release is a question mark.
fn name_of(name: &str) -> String {
    if name.ends_with("UNSPECIFIED") {
        "?".to_owned()
    } else {
        name.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::sample;

    #[test]
    fn the_whole_state_is_shown() {
        let text = "\
podline 0.1.0, version 12, READY
up 2h3m, 2 workers, 3 connections, 57 of 20000 descriptors

LISTENER  ADDRESS         SET  STATE      OWNER     ACTIVE  ACCEPTED  REFUSED  RECEIVED     SENT
web       127.0.0.1:8080  web  LISTENING  file           3       120        1   1.2 MiB  3.4 GiB
db        [::1]:5432      db   FAILED     k8s/east       0         0        0       0 B      0 B
listener/db: the port is in use

set/web: ROUND_ROBIN, 1 of 2 eligible, owner file, version 12
  BACKEND      ID     HEALTH              SINCE  WEIGHT  ACTIVE  TOTAL  FAILED       SENT  RECEIVED  LAST PROBE
  10.0.0.1:80         HEALTHY             1h         10       2     60       0  634.8 KiB   1.8 GiB
  10.0.0.2:80  pod-2  UNHEALTHY DRAINING  5s         10       1     60       4        0 B       0 B  connection refused

set/db: LEAST_CONNECTIONS, 0 of 1 eligible, every one is UNHEALTHY, so all get traffic, owner k8s/east, version 3
  BACKEND         HEALTH     SINCE  WEIGHT  ACTIVE  TOTAL  FAILED  SENT  RECEIVED
  [fd00::1]:5432  UNHEALTHY  1d1h       10       0      0       0   0 B       0 B
";
        assert_eq!(render(&sample::state(), sample::now()), text);
    }

    #[test]
    fn a_proxy_without_anything_says_why_it_is_not_ready() {
        let answer = v1::GetResponse {
            not_ready_reason: "no file yet".to_owned(),
            ..Default::default()
        };
        let text = "podline , version 0, not ready: no file yet\nup , 0 workers, 0 connections, 0 of 0 descriptors\n";
        assert_eq!(render(&answer, sample::now()), text);
    }
}
