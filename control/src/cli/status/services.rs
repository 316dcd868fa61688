//! `podline --kube status`: the controller, its proxies, and how Services do.

use std::fmt::Write;

use podline_api::v1;

use crate::cli::failure::{Exit, Failure};
use crate::cli::human::{Columns, clean, count};
use crate::cli::output::Screen;
use crate::cli::selection::Selection;
use crate::cli::target::Target;

pub(super) async fn run(
    what: &Selection,
    target: &Target,
    screen: &mut Screen,
) -> Result<Exit, Failure> {
    let controller = target.controller().await?;
    let mut answer = controller.status(what.namespace()).await?;
    what.filter_services(&mut answer.services)?;
    if !what.wants_ingresses() {
        answer.ingresses.clear();
    }
    screen.answer(&answer, || render(&answer))?;
    Ok(Exit::Done)
}

fn render(answer: &v1::StatusResponse) -> String {
    let mut text = header(answer);
    let parts = [
        proxies(answer),
        services(&answer.services),
        ingresses(&answer.ingresses),
    ];
    for part in parts {
        if !part.is_empty() {
            text.extend(["\n", &part]);
        }
    }
    text
}

fn header(answer: &v1::StatusResponse) -> String {
    let ready = if answer.ready {
        "READY".to_owned()
    } else {
        format!("not ready: {}", clean(&answer.not_ready_reason))
    };
    let role = if answer.leads {
        format!("leads, epoch {}", answer.epoch)
    } else {
        "follows".to_owned()
    };
    let serving = answer.proxies.iter().filter(|proxy| proxy.serving).count();
    let ours = v1::service_status::Standing::Ours;
    let services = answer.services.iter();
    let mut text = format!(
        "podline-control {}, {}, {role}, {ready}\nowner {}, snapshot {}, {serving} of {} serving, {}\n",
        clean(&answer.release),
        clean(&answer.identity),
        clean(&answer.owner),
        answer.snapshot_version,
        counted(answer.proxies.len(), "proxy", "proxies"),
        count(
            services
                .filter(|service| service.standing() == ours)
                .count(),
            "Service"
        ),
    );
    for watch in &answer.broken_watches {
        let (kind, problem) = (clean(&watch.kind), clean(&watch.problem));
        let _ = writeln!(text, "watch of {kind}: FAILED: {problem}");
    }
    text
}

fn counted(number: usize, one: &str, many: &str) -> String {
    format!("{number} {}", if number == 1 { one } else { many })
}

fn proxies(answer: &v1::StatusResponse) -> String {
    const HEADER: &[&str] = &[
        "PROXY",
        "API",
        "ADDRESSES",
        "HOLDS",
        "SERVING",
        ">LAG",
        "WHY NOT",
    ];
    if answer.proxies.is_empty() {
        return "no proxy was found: no Service is served\n".to_owned();
    }
    let mut columns = Columns::new("", HEADER);
    for proxy in &answer.proxies {
        let lag = answer
            .snapshot_version
            .saturating_sub(proxy.acknowledged_version);
        columns.row([
            proxy.name.clone(),
            proxy.target.clone(),
            proxy.addresses.join(" "),
            proxy.holds.join(" "),
            if proxy.serving { "yes" } else { "no" }.to_owned(),
            lag.to_string(),
            proxy.reason.clone(),
        ]);
    }
    let mut text = columns.text();
    for proxy in &answer.proxies {
        for failed in &proxy.failed {
            let _ = writeln!(
                text,
                "proxy {}: {}: {}",
                clean(&proxy.name),
                clean(&failed.name),
                clean(&failed.problem)
            );
        }
    }
    text
}

const SERVICES: &[&str] = &[
    "SERVICE",
    "MODE",
    "ADDRESSES",
    "PORT",
    ">UP",
    ">WEIGHTED",
    ">ALL",
    "PROBLEM",
];

fn services(list: &[v1::ServiceStatus]) -> String {
    if list.is_empty() {
        return "no Service is Podline's: none of type LoadBalancer has its class\n".to_owned();
    }
    table("service", SERVICES, list)
}

const INGRESSES: &[&str] = &[
    "INGRESS",
    "MODE",
    "ADDRESSES",
    "PORT",
    ">UP",
    ">WEIGHTED",
    ">ALL",
    "PROBLEM",
];

fn ingresses(list: &[v1::ServiceStatus]) -> String {
    if list.is_empty() {
        return String::new();
    }
    table("ingress", INGRESSES, list)
}

fn table(what: &str, header: &'static [&'static str], list: &[v1::ServiceStatus]) -> String {
    let mut columns = Columns::new("", header);
    for one in list {
        rows(&mut columns, one);
    }
    let mut text = columns.text();
    for one in list {
        text += &notes_of(what, "", one);
    }
    text
}

/// One row for each port; what is about the Service stands in the first.
fn rows(columns: &mut Columns, service: &v1::ServiceStatus) {
    let mut about = [
        format!("{}/{}", service.namespace, service.name),
        mode(service).to_owned(),
        service.addresses.join(" "),
    ];
    if service.ports.is_empty() {
        columns.row(
            about
                .iter()
                .cloned()
                .chain(std::iter::repeat_n(String::new(), 5)),
        );
    }
    for port in &service.ports {
        let counts = [port.healthy, port.weighted, port.backends].map(|count| count.to_string());
        let port = [format!("{}/{}", port.port, port.protocol)]
            .into_iter()
            .chain(counts)
            .chain([port.error.clone()]);
        columns.row(about.iter().cloned().chain(port));
        about = Default::default();
    }
}

/// How a Service is served, or why not.
pub(in crate::cli) fn mode(service: &v1::ServiceStatus) -> &'static str {
    use v1::service_status::{Mode, Standing};
    match (service.standing(), service.mode()) {
        (Standing::Ours, Mode::Direct) => "direct",
        (Standing::Ours, Mode::NodePort) => "node port",
        (Standing::Leaving, _) => "leaving",
        (Standing::ClaimedByOther, _) => "another's",
        (Standing::NotOurs, _) => "not ours",
        (Standing::Ours | Standing::Unspecified, _) => "?",
    }
}

/// What there is to tell of a Service or Ingress, a line each.
pub(in crate::cli) fn notes_of(what: &str, indent: &str, service: &v1::ServiceStatus) -> String {
    let mut text = String::new();
    for note in &service.notes {
        let severity = if note.warning { "" } else { "note: " };
        let _ = writeln!(
            text,
            "{indent}{what}/{}/{}: {severity}{}: {}",
            clean(&service.namespace),
            clean(&service.name),
            clean(&note.reason),
            clean(&note.message),
        );
    }
    text
}

#[cfg(test)]
pub(in crate::cli) mod tests {
    use v1::service_status::{Mode, Standing};

    use super::*;

    fn port(port: u32, protocol: &str, counts: [u32; 3], error: &str) -> v1::ServicePortStatus {
        let [healthy, weighted, backends] = counts;
        v1::ServicePortStatus {
            port,
            protocol: protocol.to_owned(),
            error: error.to_owned(),
            backends,
            weighted,
            healthy,
            ..Default::default()
        }
    }

    pub(in crate::cli) fn web() -> v1::ServiceStatus {
        v1::ServiceStatus {
            namespace: "default".to_owned(),
            name: "web".to_owned(),
            standing: Standing::Ours.into(),
            mode: Mode::Direct.into(),
            addresses: vec!["10.0.0.1".to_owned(), "10.0.0.2".to_owned()],
            ports: vec![
                port(80, "TCP", [2, 3, 4], ""),
                port(53, "UDP", [0; 3], "UDPNotSupported"),
            ],
            notes: vec![v1::Note {
                reason: "UDPNotSupported".to_owned(),
                message: "port 53\x1b[2J: UDP is not there yet".to_owned(),
                warning: true,
            }],
        }
    }

    pub(in crate::cli) fn status() -> v1::StatusResponse {
        let db = v1::ServiceStatus {
            namespace: "shop".to_owned(),
            name: "db".to_owned(),
            standing: Standing::Ours.into(),
            mode: Mode::NodePort.into(),
            addresses: vec!["10.0.0.1".to_owned()],
            ports: vec![port(5432, "TCP", [3, 3, 3], "")],
            notes: vec![v1::Note {
                reason: "NodePortMode".to_owned(),
                message: "annotate it".to_owned(),
                warning: false,
            }],
        };
        let old = v1::ServiceStatus {
            namespace: "shop".to_owned(),
            name: "old".to_owned(),
            standing: Standing::Leaving.into(),
            ..Default::default()
        };
        let proxy = |name: &str, serving, reason: &str, acknowledged_version| v1::ControlledProxy {
            name: name.to_owned(),
            target: "10.0.0.1:9902".to_owned(),
            addresses: vec!["10.0.0.1".to_owned()],
            serving,
            reason: reason.to_owned(),
            acknowledged_version,
            failed: Vec::new(),
            holds: Vec::new(),
        };
        let mut late = proxy("proxy-b", false, "its last answer is 7 s old", 9);
        late.failed.push(v1::FailedListener {
            name: "default/web/tcp/80".to_owned(),
            problem: "the port is in use".to_owned(),
        });
        v1::StatusResponse {
            release: "0.1.0".to_owned(),
            identity: "podline-control-x".to_owned(),
            owner: "k8s/default".to_owned(),
            leads: true,
            epoch: 3,
            ready: true,
            not_ready_reason: String::new(),
            broken_watches: Vec::new(),
            snapshot_version: 12,
            proxies: vec![proxy("proxy-a", true, "", 12), late],
            services: vec![web(), db, old],
            ingresses: Vec::new(),
        }
    }

    #[test]
    fn controller_proxies_and_services_are_shown() {
        let text = "\
podline-control 0.1.0, podline-control-x, leads, epoch 3, READY
owner k8s/default, snapshot 12, 1 of 2 proxies serving, 2 Services

PROXY    API            ADDRESSES  SERVING  LAG  WHY NOT
proxy-a  10.0.0.1:9902  10.0.0.1   yes        0
proxy-b  10.0.0.1:9902  10.0.0.1   no         3  its last answer is 7 s old
proxy proxy-b: default/web/tcp/80: the port is in use

SERVICE      MODE       ADDRESSES          PORT      UP  WEIGHTED  ALL  PROBLEM
default/web  direct     10.0.0.1 10.0.0.2  80/TCP     2         3    4
                                           53/UDP     0         0    0  UDPNotSupported
shop/db      node port  10.0.0.1           5432/TCP   3         3    3
shop/old     leaving
service/default/web: UDPNotSupported: port 53 [2J: UDP is not there yet
service/shop/db: note: NodePortMode: annotate it
";
        assert_eq!(render(&status()), text);
    }

    #[test]
    fn ingresses_have_a_table_of_their_own() {
        let mut answer = status();
        answer.services.truncate(1);
        answer.ingresses = vec![v1::ServiceStatus {
            name: "site".to_owned(),
            ..web()
        }];
        let text = render(&answer);
        let own = text.split("INGRESS ").nth(1).unwrap();
        assert!(
            own.contains("default/site  direct  10.0.0.1 10.0.0.2"),
            "{text}"
        );
        assert!(
            own.contains("ingress/default/site: UDPNotSupported: "),
            "{text}"
        );
        assert!(!own.contains("service/"), "{text}");
    }

    #[test]
    fn what_is_missing_is_told() {
        let empty = v1::StatusResponse {
            release: "0.1.0".to_owned(),
            identity: "a".to_owned(),
            owner: "k8s/default".to_owned(),
            not_ready_reason: "pods were not listed yet".to_owned(),
            broken_watches: vec![v1::BrokenWatch {
                kind: "pods".to_owned(),
                problem: "forbidden".to_owned(),
            }],
            ..Default::default()
        };
        let text = "\
podline-control 0.1.0, a, follows, not ready: pods were not listed yet
owner k8s/default, snapshot 0, 0 of 0 proxies serving, 0 Services
watch of pods: FAILED: forbidden

no proxy was found: no Service is served

no Service is Podline's: none of type LoadBalancer has its class
";
        assert_eq!(render(&empty), text);
    }
}
