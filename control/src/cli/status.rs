//! `podline status`: how listeners, backend sets and backends do; `services` asks the controller instead.

mod services;

use std::fmt::Write;
use std::time::SystemTime;

use podline_api::v1;

use super::backend;
use super::failure::{Exit, Failure};
use super::human::{Columns, age, bytes, clean, count, left, reason};
use super::output::Screen;
use super::overriding::action;
use super::selection::{Selection, listener_name, set_name};
use super::settings::{self, name_of};
use super::target::Target;
#[cfg(test)]
pub(super) use services::tests as services_tests;
pub(super) use services::{mode, notes_of};

/// How to use it.
pub(super) const HELP: &str = "\
Examples:
  podline status                        the proxy on this host
  podline status set/web listener/web   some of it
  podline --kube status                 the controller of a cluster, its proxies and Services
  podline --kube status services/shop service/default/web";

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
    args.what.check(target.asks_controller())?;
    if target.asks_controller() {
        return services::run(&args.what, target, screen).await;
    }
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
    for part in [
        overrides(&answer.overrides, now),
        owners(&answer.owners, now),
    ] {
        if !part.is_empty() {
            text.extend(["\n", &part]);
        }
    }
    text
}

fn header(answer: &v1::GetResponse, now: SystemTime) -> String {
    let ready = if answer.ready {
        "READY".to_owned()
    } else {
        format!("not ready: {}", clean(&answer.not_ready_reason))
    };
    let affinity = if answer.affinity_capacity > 0 {
        format!(
            "affinity: {} of {} clients remembered\n",
            answer.affinity_clients, answer.affinity_capacity
        )
    } else {
        String::new()
    };
    format!(
        "podline {}, version {}, {ready}\nup {}, {}, {}, {} of {} descriptors\n{affinity}{}",
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
        answer.network.as_ref().map(network).unwrap_or_default(),
    )
}

/// The ways to nodes, and why no client can be imitated at all.
fn network(status: &v1::NetworkStatus) -> String {
    let proven = |path: &&v1::PathStatus| path.state() == v1::path_status::State::Proven;
    let (all, proven) = (&status.paths, status.paths.iter().filter(proven).count());
    let problem = match status.transparency_problem.as_str() {
        "" => String::new(),
        problem => format!("; imitates no client: {}", clean(problem)),
    };
    let mut text = format!(
        "network: {proven} of {} proven{problem}\n",
        count(all.len(), "way")
    );
    for status in &status.addresses {
        text.extend([&super::vip::line(status), "\n"]);
    }
    text
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
            listener.name.clone(),
            address(&listener),
            settings::leads_to(&listener),
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
    for status in list {
        let name = listener_name(status);
        if !status.reason.is_empty() {
            let _ = writeln!(text, "listener/{name}: {}", clean(&status.reason));
        }
        let as_proxy = settings::as_proxy(status);
        if !as_proxy.is_empty() {
            let _ = writeln!(text, "listener/{name}: {as_proxy}");
        }
        let shed = status.shed.as_ref().map(settings::shed).unwrap_or_default();
        if !shed.is_empty() {
            let _ = writeln!(text, "listener/{name}: {} {shed}", fate(status));
        }
        if status.dropped_datagrams > 0 {
            let dropped = dropped(status);
            let _ = writeln!(text, "listener/{name}: dropped {dropped}");
        }
        let refused = status.proxy_headers_refused;
        if refused > 0 {
            let _ = writeln!(
                text,
                "listener/{name}: reset {refused} without a PROXY header"
            );
        }
    }
    text
}

fn is_udp(listener: &v1::Listener) -> bool {
    listener.protocol() == v1::listener::Protocol::Udp
}

/// Where it listens; as most do with TCP, only others say with what.
fn address(listener: &v1::Listener) -> String {
    let suffix = if is_udp(listener) { "/udp" } else { "" };
    format!("{}{suffix}", listener.address)
}

/// What becomes of that which exceeds a limit.
fn fate(status: &v1::ListenerStatus) -> &'static str {
    match &status.listener {
        Some(listener) if is_udp(listener) => "refused flows:",
        _ => "reset",
    }
}

fn dropped(status: &v1::ListenerStatus) -> String {
    let mut reasons: Vec<_> = status.dropped_by_reason.iter().collect();
    reasons.sort();
    let reasons = reasons
        .iter()
        .map(|(name, count)| format!("{count} by {}", clean(name)));
    let reasons = reasons.collect::<Vec<_>>().join(", ");
    format!("{} datagrams: {reasons}", status.dropped_datagrams)
}

fn set_line(status: &v1::BackendSetStatus) -> String {
    let set = status.set.clone().unwrap_or_default();
    let affinity = match settings::affinity(&set).as_str() {
        "" => String::new(),
        affinity => format!(", affinity {}", clean(affinity)),
    };
    let fail_closed = if set.fail_closed {
        ", fails closed"
    } else {
        ""
    };
    let fail_open = if status.fail_open {
        "  every backend is UNHEALTHY, so all get traffic\n"
    } else {
        ""
    };
    format!(
        "set/{}: {}{affinity}{fail_closed}, {} of {} eligible, owner {}, version {}\n{fail_open}",
        set_name(status),
        settings::policy(&set),
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
    "TRAFFIC",
    "SINCE",
    ">WEIGHT",
    ">ACTIVE",
    ">TOTAL",
    ">FAILED",
    ">SENT",
    ">RECEIVED",
];

fn backends(list: &[v1::BackendStatus], now: SystemTime) -> String {
    let mut columns = Columns::new("  ", BACKENDS);
    for status in list {
        let backend = status.backend.clone().unwrap_or_default();
        let weight = weight(status);
        columns.row([
            backend.address,
            backend.id.unwrap_or_default(),
            name_of(status.health().as_str_name()),
            traffic(status),
            age(status.since.as_ref(), now),
            weight,
            status.active_connections.to_string(),
            status.connections.to_string(),
            status.connect_failures.to_string(),
            bytes(status.sent_bytes),
            bytes(status.received_bytes),
        ]);
    }
    let mut text = if list.is_empty() {
        String::new()
    } else {
        columns.text()
    };
    let unhealthy = |status: &&v1::BackendStatus| {
        status.health() == v1::Health::Unhealthy && !status.last_probe.is_empty()
    };
    for status in list.iter().filter(unhealthy) {
        let who = backend::name_of(status.backend.as_ref());
        let _ = writeln!(text, "  {}: {}", clean(&who), clean(&status.last_probe));
    }
    text
}

/// `yes` or `no`, and what decides it unless that is plain.
fn traffic(status: &v1::BackendStatus) -> String {
    use v1::explanation::Reason;
    match (status.reason(), status.gets_traffic) {
        (Reason::Unspecified, _) if status.draining => "DRAINING".to_owned(),
        (Reason::Unspecified, _) => String::new(),
        (Reason::ProbesPass | Reason::NotChecked, true) => "yes".to_owned(),
        (known, true) => format!("yes: {}", reason(known)),
        (known, false) => format!("no: {}", reason(known)),
    }
}

/// The weight that counts.
fn weight(status: &v1::BackendStatus) -> String {
    let owners = status.backend.as_ref().and_then(|backend| backend.weight);
    let overriding = status.overriding.as_ref().and_then(|o| o.weight);
    overriding
        .or(owners)
        .map_or_else(String::new, |weight| weight.to_string())
}

/// What operators say about single backends.
fn overrides(list: &[v1::OverrideStatus], now: SystemTime) -> String {
    const HEADER: &[&str] = &[
        "SET", "BACKEND", "OVERRIDE", "SINCE", "ENDS IN", "BY", "NOTE",
    ];
    if list.is_empty() {
        return String::new();
    }
    let mut columns = Columns::new("", HEADER);
    for status in list {
        let absent = if status.present {
            ""
        } else {
            ", not there now"
        };
        let ends = match left(status.until.as_ref(), now).as_str() {
            "" => "never".to_owned(),
            left => left.to_owned(),
        };
        columns.row([
            status.set.clone(),
            backend::name_of(status.backend.as_ref()),
            action(status) + absent,
            age(status.since.as_ref(), now),
            ends,
            status.by.clone(),
            status.note.clone(),
        ]);
    }
    columns.text()
}

/// Who configures the proxy; shown when some of them are led, because then one must know who leads.
fn owners(list: &[v1::OwnerStatus], now: SystemTime) -> String {
    const HEADER: &[&str] = &["OWNER", ">EPOCH", ">LISTENERS", ">SETS", "LAST CHANGE"];
    if list.iter().all(|owner| owner.epoch.is_none()) {
        return String::new();
    }
    let mut columns = Columns::new("", HEADER);
    for status in list {
        let epoch = status.epoch.map(|epoch| epoch.to_string());
        columns.row([
            status.owner.clone(),
            epoch.unwrap_or_default(),
            status.listeners.to_string(),
            status.backend_sets.to_string(),
            age(status.applied.as_ref(), now),
        ]);
    }
    columns.text()
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
affinity: 12 of 65536 clients remembered

LISTENER  ADDRESS         SET  STATE      OWNER     ACTIVE  ACCEPTED  REFUSED  RECEIVED     SENT
web       127.0.0.1:8080  web  LISTENING  file           3       120        1   1.2 MiB  3.4 GiB
db        [::1]:5432      db   FAILED     k8s/east       0         0        0       0 B      0 B
listener/web: reset 4 by maxConnections
listener/web: reset 5 without a PROXY header
listener/db: the port is in use

set/web: ROUND_ROBIN, 1 of 2 eligible, owner file, version 12
  BACKEND      ID     HEALTH     TRAFFIC      SINCE  WEIGHT  ACTIVE  TOTAL  FAILED       SENT  RECEIVED
  10.0.0.1:80         HEALTHY    yes          1h         10       2     60       0  634.8 KiB   1.8 GiB
  10.0.0.2:80  pod-2  UNHEALTHY  no: removed  5s         10       1     60       4        0 B       0 B
  10.0.0.2:80 (pod-2): connection refused

set/db: LEAST_CONNECTIONS, 0 of 1 eligible, owner k8s/east, version 3
  every backend is UNHEALTHY, so all get traffic
  BACKEND         HEALTH     TRAFFIC         SINCE  WEIGHT  ACTIVE  TOTAL  FAILED  SENT  RECEIVED
  [fd00::1]:5432  UNHEALTHY  yes: fail-open  1d1h       10       0      0       0   0 B       0 B

SET  BACKEND              OVERRIDE                  SINCE  ENDS IN  BY        NOTE
web  10.0.0.2:80 (pod-2)  drained                   5m     10m      local     new disk
web  10.0.0.9:80 (pod-9)  weight 20, not there now  5m     never    k8s/east

OWNER     EPOCH  LISTENERS  SETS  LAST CHANGE
file                     1     1  2m
k8s/east      7          1     1  2m
";
        assert_eq!(render(&sample::state(), sample::now()), text);
    }

    #[test]
    fn ways_to_nodes_and_what_falls_back_are_told() {
        use v1::path_status::State;
        let mut state = sample::state();
        let path = |state: State| v1::PathStatus {
            state: state.into(),
            ..Default::default()
        };
        let mut status = v1::NetworkStatus {
            paths: vec![path(State::Proven), path(State::Failed)],
            ..Default::default()
        };
        assert_eq!(network(&status), "network: 1 of 2 ways proven\n");
        status.paths.clear();
        status.transparency_problem = "no NET_ADMIN\x1b".to_owned();
        let text = "network: 0 of 0 ways proven; imitates no client: no NET_ADMIN \n";
        assert_eq!(network(&status), text);
        state.network = Some(status);
        let web = &mut state.listeners[0];
        web.transparent_connections = 7;
        web.snat_connections = [("UNPROVEN", 2), ("CLIENT_IS_NODE", 1)]
            .map(|(why, count)| (why.to_owned(), count))
            .into();
        let told = render(&state, sample::now());
        let line = "\nlistener/web: 3 connections as the proxy (CLIENT_IS_NODE 1, UNPROVEN 2), 7 as their clients\n";
        assert!(told.contains(line) && told.contains(text), "{told}");
    }

    #[test]
    fn a_udp_listener_tells_its_protocol_and_what_it_dropped() {
        let status = v1::ListenerStatus {
            listener: Some(v1::Listener {
                name: "dns".to_owned(),
                address: "127.0.0.1:53".to_owned(),
                protocol: Some(v1::listener::Protocol::Udp.into()),
                backend_set: "dns".to_owned(),
                ..Default::default()
            }),
            state: v1::listener_status::State::Listening.into(),
            owner: "file".to_owned(),
            shed: Some(v1::ShedConnections {
                max_connections: 3,
                ..Default::default()
            }),
            dropped_datagrams: 5,
            dropped_by_reason: [("NO_BACKEND", 2), ("LIMIT", 3)]
                .map(|(name, count)| (name.to_owned(), count))
                .into(),
            ..Default::default()
        };
        let text = "\
LISTENER  ADDRESS           SET  STATE      OWNER  ACTIVE  ACCEPTED  REFUSED  RECEIVED  SENT
dns       127.0.0.1:53/udp  dns  LISTENING  file        0         0        0       0 B   0 B
listener/dns: refused flows: 3 by maxConnections
listener/dns: dropped 5 datagrams: 3 by LIMIT, 2 by NO_BACKEND
";
        assert_eq!(listeners(&[status]), text);
    }

    #[test]
    fn a_set_tells_what_is_special_about_it() {
        let document = podline_api::Document::from_yaml(
            "backendSets: [{name: web, policy: MAGLEV, affinity: {clientIp: {}}, failClosed: true}]",
        );
        let status = v1::BackendSetStatus {
            set: Some((&document.unwrap().backend_sets[0]).into()),
            owner: "file".to_owned(),
            ..Default::default()
        };
        let text = "set/web: MAGLEV by CLIENT_IP, affinity clientIp 3h, fails closed, \
                    0 of 0 eligible, owner file, version 0\n";
        assert_eq!(set_line(&status), text);
    }

    #[test]
    fn what_decides_about_traffic_is_told_unless_it_is_plain() {
        use v1::explanation::Reason;
        let check = |reason: Reason, gets_traffic, draining, text: &str| {
            let status = v1::BackendStatus {
                reason: reason.into(),
                gets_traffic,
                draining,
                ..Default::default()
            };
            assert_eq!(traffic(&status), text);
        };
        check(Reason::NotChecked, true, false, "yes");
        check(Reason::KeptIn, true, false, "yes: kept-in");
        check(Reason::ProbesPass, false, false, "no: probes-pass");
        check(
            Reason::DrainedByOverride,
            false,
            true,
            "no: drained-by-override",
        );
        // From a proxy that gives no reasons.
        check(Reason::Unspecified, false, true, "DRAINING");
        check(Reason::Unspecified, false, false, "");
    }

    #[test]
    fn the_weight_that_counts_is_shown() {
        let mut status = sample::state().backend_sets[0].backends[0].clone();
        assert_eq!(weight(&status), "10");
        status.overriding = Some(sample::weighed());
        assert_eq!(weight(&status), "20");
        status.overriding = Some(sample::drained());
        assert_eq!(weight(&status), "10");
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
