//! The parts that keep the webhooks registered, connected: certificates, repair, and how both do.

use std::future::Future;
use std::sync::Arc;

use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_rustls::rustls::ServerConfig;

use super::repair::Repair;
use crate::certificates::{self, Channel, Connections, Keeper, Report, Served};
use crate::metrics::Metrics;
use crate::settings::Settings;

/// The parts.
pub struct Registered {
    /// Absent if webhooks are off.
    keeper: Option<Keeper>,
    repair: Repair,
    kinds: Repair,
    switches: Repair,
    /// What the webhooks show to the API server; absent until there is something, and for ever if they are off.
    pub tls: watch::Receiver<Option<Arc<ServerConfig>>>,
}

/// How the parts do.
#[derive(Clone, Debug)]
pub struct State {
    certificates: Option<watch::Receiver<Report>>,
    troubles: watch::Receiver<Vec<String>>,
    of_kinds: watch::Receiver<Vec<String>>,
    of_switches: watch::Receiver<Vec<String>>,
}

impl Registered {
    /// As the flags say: on if there is `--webhook`. `alone`: whether TKE's controller is known not to be here.
    pub fn new(
        settings: &Settings,
        connections: Connections,
        alone: watch::Receiver<bool>,
    ) -> Self {
        let is_on = settings.webhook.is_some();
        let (callers, trusted) = watch::channel(None);
        let (keeper, served) = if is_on {
            let (namespace, cluster) = (&settings.namespace, &settings.cluster);
            let of_webhooks = certificates::Settings::new(Channel::Webhook, namespace, cluster);
            let (keeper, served) = certificates::webhook(connections.clone(), of_webhooks, trusted);
            (Some(keeper), served)
        } else {
            (None, Served::nothing())
        };
        let namespace = &settings.namespace;
        let kinds = Repair::of_kinds(connections.clone(), namespace);
        let switches = Repair::of_switches(connections.clone(), namespace, alone);
        let repair = Repair::new(connections, namespace, is_on, served.bundle, callers);
        Self {
            keeper,
            repair,
            kinds,
            switches,
            tls: served.tls,
        }
    }

    /// How the parts do.
    pub fn state(&self) -> State {
        State {
            certificates: self.keeper.as_ref().map(Keeper::report),
            troubles: self.repair.troubles(),
            of_kinds: self.kinds.troubles(),
            of_switches: self.switches.troubles(),
        }
    }

    /// Starts the tasks, each of which runs until `stopped` ends.
    pub fn start<F>(self, tasks: &mut JoinSet<()>, stopped: impl Fn() -> F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        if let Some(keeper) = self.keeper {
            tasks.spawn(keeper.run(stopped()));
        }
        tasks.spawn(self.repair.run(stopped()));
        tasks.spawn(self.kinds.run(stopped()));
        tasks.spawn(self.switches.run(stopped()));
    }
}

impl State {
    /// What does not work. Without webhooks gates are opened all the same, and Pods come and go: no reason not to be ready.
    pub fn troubles(&self) -> Vec<String> {
        let report = self.certificates.as_ref();
        let problem = report.and_then(|report| report.borrow().problem.clone());
        let mut troubles: Vec<_> = problem.into_iter().collect();
        troubles.extend(self.troubles.borrow().iter().cloned());
        let told = troubles.into_iter();
        let told = told.map(|trouble| format!("webhooks: {trouble}"));
        let (kinds, switches) = (self.of_kinds.borrow(), self.of_switches.borrow());
        told.chain(kinds.iter().chain(&*switches).cloned())
            .collect()
    }

    /// Counts when the certificates end.
    pub fn count(&self, metrics: &Metrics) {
        if let Some(report) = &self.certificates {
            metrics.certificates(&report.borrow());
        }
    }
}
