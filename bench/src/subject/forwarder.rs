//! The process that forwards: whether it serves, and how it learns of other backends. What it is told is decided in the
//! files of the single subjects.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::SocketAddr;
use std::time::Duration;

use podline_api::v1::listener_status::State;
use podline_lab::Namespace;
use rustix::process::Signal;

use super::api::Api;
use super::listening::{Transport, open_ports};
use super::nginx::Stream;
use super::process::Process;
use super::start::write;
use super::targets::{Port, Targets, Wanted};
use super::ways::Ways;
use super::{Subject, ask, envoy, front, haproxy, nginx, pingora, podline, traefik};
use crate::account;

/// How long a start or a change may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// What is known of a process, to change it.
#[derive(Debug)]
pub(super) enum Kind {
    /// Podline.
    Podline {
        /// Its API.
        api: Api,
    },
    /// HAProxy.
    Haproxy {
        /// The servers that each of its sections ever had.
        known: BTreeMap<&'static str, BTreeSet<SocketAddr>>,
    },
    /// nginx.
    Nginx {
        /// Where its forwarding of TCP and UDP is.
        stream: Stream,
    },
    /// Envoy.
    Envoy,
    /// Traefik.
    Traefik,
    /// pingora-proxy.
    Pingora,
}

impl Kind {
    pub(super) fn podline(wanted: &Wanted) -> Self {
        let api = Api::new(&wanted.path(podline::SOCKET));
        Self::Podline { api }
    }

    pub(super) fn haproxy(wanted: &Wanted) -> Self {
        let known = wanted.tcp();
        let known = known.map(|port| (port.name, port.targets.iter().copied().collect()));
        Self::Haproxy {
            known: known.collect(),
        }
    }
}

/// A process that forwards.
#[derive(Debug)]
pub(super) struct Forwarder {
    kind: Kind,
    wanted: Wanted,
    process: Process,
    /// The way back from nodes, where clients are imitated. It goes after the process.
    pub(super) ways: Option<Ways>,
}

impl Forwarder {
    pub(super) const fn new(kind: Kind, wanted: Wanted, process: Process) -> Self {
        Self {
            kind,
            wanted,
            process,
            ways: None,
        }
    }

    /// What it is configured for.
    pub(super) const fn wanted(&self) -> &Wanted {
        &self.wanted
    }

    /// Its main process.
    pub(super) fn pid(&self) -> u32 {
        self.process.id()
    }

    /// Whether all of its processes run.
    pub(super) fn check(&mut self) -> Result<(), String> {
        self.process.check()?;
        self.ways.as_mut().map_or(Ok(()), Ways::check)
    }

    /// Ends it. What is left is the way back from nodes.
    pub(super) fn end(self) -> Option<Ways> {
        self.ways // and the process is dropped
    }

    /// Waits until it serves all ports with all targets.
    pub(super) fn wait_serving(
        &mut self,
        subject: Subject,
        namespace: &Namespace,
    ) -> Result<(), String> {
        if let Kind::Podline { api } = &self.kind {
            let is_up = |_: &Process| Ok(api.is_up());
            self.process.until(PATIENCE, "open its API", is_up)?;
            let answer = api.apply(&podline::state(subject, &self.wanted));
            let answer = answer.map_err(|problem| self.process.with_log(&problem))?;
            for status in answer.listeners {
                if status.state() == State::Failed {
                    let listener = status.listener.unwrap_or_default();
                    let problem =
                        format!("cannot listen at {}: {}", listener.address, status.reason);
                    return Err(self.process.with_log(&problem));
                }
            }
        }
        self.wait_listening()?;
        self.wait_backends(namespace)?;
        if let (Kind::Podline { api }, Some(ways)) = (&self.kind, &mut self.ways) {
            let proven = api.prove();
            proven.map_err(|problem| self.process.with_log(&problem))?;
            ways.wait()?;
        }
        Ok(())
    }

    /// Forwards to these from now on, and to no others. Returns when it does so, as far as it tells.
    pub(super) fn change(&mut self, targets: Targets, namespace: &Namespace) -> Result<(), String> {
        self.wanted.targets = targets;
        let wanted = &self.wanted;
        match &mut self.kind {
            Kind::Podline { api } => {
                let changed = api.apply(&podline::sets(wanted));
                changed.map_err(|problem| self.process.with_log(&problem))?;
            }
            Kind::Haproxy { known } => {
                let changed = change_haproxy(wanted, known);
                changed.map_err(|problem| self.process.with_log(&problem))?;
            }
            Kind::Nginx { stream } => {
                write(&wanted.directory, &nginx::files(wanted, stream))?;
                reload_nginx(&mut self.process, wanted.workers)?;
            }
            Kind::Envoy => write(&wanted.directory, &envoy::backends(wanted))?,
            Kind::Traefik => write(&wanted.directory, &traefik::backends(wanted))?,
            Kind::Pingora => {
                let before = self.process.log().matches(pingora::TOOK).count();
                write(&wanted.directory, &pingora::files(wanted))?;
                self.process.signal(Signal::HUP)?;
                self.process
                    .until(PATIENCE, "take its backends", |process| {
                        Ok(process.log().matches(pingora::TOOK).count() > before)
                    })?;
            }
        }
        self.wait_backends(namespace)
    }

    /// Gives this backend no new connections; those that it has live on.
    pub(super) fn drain(&self, http: SocketAddr, frames: SocketAddr) -> Result<(), String> {
        let Kind::Podline { api } = &self.kind else {
            return Err("only Podline is told to drain a backend".to_owned());
        };
        for drain in podline::drains(http, frames) {
            api.override_backend(&drain)
                .map_err(|problem| self.process.with_log(&problem))?;
        }
        Ok(())
    }

    fn wait_listening(&mut self) -> Result<(), String> {
        let is_served = |port: &Port<'_>| match self.kind {
            Kind::Pingora => port.name == "http",
            _ => true,
        };
        let mut ports: Vec<(Transport, u16)> = self
            .wanted
            .tcp()
            .filter(is_served)
            .map(|port| (Transport::Tcp, port.listen.port()))
            .collect();
        if self.wanted.udp().is_some() && !matches!(self.kind, Kind::Haproxy { .. }) {
            ports.push((Transport::Udp, front::FRAMES));
        }
        let what = "open its ports";
        self.process.until(PATIENCE, what, |process| {
            let bound = [Transport::Tcp, Transport::Udp]
                .map(|transport| (transport, bound(process.id(), transport)));
            ports.retain(|(transport, port)| {
                let mut tables = bound.iter();
                !tables.any(|(of, bound)| of == transport && bound.contains(port))
            });
            Ok(ports.is_empty())
        })
    }

    /// Waits until it tells that it has the backends that it is to have, if it is one that tells.
    fn wait_backends(&mut self, namespace: &Namespace) -> Result<(), String> {
        let wanted = &self.wanted;
        // A page may not be there yet.
        let page = |port, path: &str| ask::page(namespace, port, path).unwrap_or_default();
        let has_all = || match self.kind {
            Kind::Envoy => {
                let told = page(envoy::ADMIN, envoy::CLUSTERS);
                wanted
                    .sets()
                    .all(|port| envoy::told(&told, port.name) == sorted(port.targets))
            }
            Kind::Traefik => traefik::pages(wanted).into_iter().all(|(path, targets)| {
                traefik::told(&page(traefik::ADMIN, &path)) == Some(targets)
            }),
            _ => true,
        };
        let what = "take its backends";
        self.process.until(PATIENCE, what, |_| Ok(has_all()))
    }
}

fn sorted(addresses: &[SocketAddr]) -> BTreeSet<SocketAddr> {
    addresses.iter().copied().collect()
}

/// The ports at which somebody waits in the process's namespace.
fn bound(pid: u32, transport: Transport) -> BTreeSet<u16> {
    let of = |table: &str| {
        let table = fs::read_to_string(format!("/proc/{pid}/net/{table}")).unwrap_or_default();
        open_ports(&table, transport)
    };
    transport.tables().into_iter().flat_map(of).collect()
}

fn change_haproxy(
    wanted: &Wanted,
    known: &mut BTreeMap<&'static str, BTreeSet<SocketAddr>>,
) -> Result<(), String> {
    let socket = wanted.directory.join(haproxy::SOCKET);
    for port in wanted.tcp() {
        let known = known.entry(port.name).or_default();
        for command in haproxy::commands(port, known) {
            let answer = ask::line(&socket, &command);
            let answer = answer.map_err(|error| format!("does not take {command:?}: {error}"))?;
            if !haproxy::is_done(&answer) {
                return Err(format!("answers {command:?} with {:?}", answer.trim()));
            }
        }
        known.extend(port.targets);
    }
    Ok(())
}

/// Has nginx read its configuration again, and waits until its old processes take nothing new any more.
fn reload_nginx(process: &mut Process, workers: u16) -> Result<(), String> {
    let workers_of = |process: &Process| {
        let all = account::family(&[process.id()]);
        all.into_iter()
            .filter(|pid| *pid != process.id())
            .collect::<BTreeSet<u32>>()
    };
    let before = workers_of(process);
    process.signal(Signal::HUP)?;
    process.until(PATIENCE, "take its configuration", |process| {
        let now = workers_of(process);
        let is_retired = |pid: &u32| {
            let title = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            String::from_utf8_lossy(&title).contains("shutting down")
        };
        let are_retired = before
            .iter()
            .all(|pid| !now.contains(pid) || is_retired(pid));
        Ok(are_retired && now.difference(&before).count() >= usize::from(workers))
    })
}
