//! Puts the process together, and takes it apart again. The only place that knows all modules.

use std::collections::BTreeMap;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use kube::Client;
use kube::config::{KubeConfigOptions, Kubeconfig};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::admin::{self, Facts};
use crate::admission::registered::{Registered, State};
use crate::admission::{self, Reviews};
use crate::certificates::{self, Channel, Connections, Keeper, Report, Tickets};
use crate::engine::{Engine, Shared};
use crate::events::Events;
use crate::fault;
use crate::installation::LEASE;
use crate::lease::{self, Election, Leadership, Terms};
use crate::metrics::Metrics;
use crate::observed::Observed;
use crate::push::{self, Notable, Target};
use crate::reconcile::writer::{Queue, Writer};
use crate::settings::Settings;
use crate::snapshot::Snapshot;
use crate::timeline::Timelines;
use crate::timeline::follow::{Follower, Sources};
use crate::{api, auto_configs, gate, proxies, secrets};

/// What was seen and not taken in yet; the watches wait when it is full.
const SEEN: usize = 1_024;

/// Why the process ends.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Ours: mend --kubeconfig, or run in a Pod.
    #[error(
        "no way to the API server: {0}; give --kubeconfig, or run in a Pod with a service account"
    )]
    Kubeconfig(String),
    /// Ours: another process has the address.
    #[error("cannot bind {what} at {address}")]
    Bind {
        /// Which server.
        what: &'static str,
        /// Where.
        address: SocketAddr,
        /// The system's words.
        #[source]
        source: io::Error,
    },
    /// The system has no more threads or signals to give.
    #[error("cannot start")]
    Start(#[source] io::Error),
}

/// Runs until `shutdown`, then gives the Lease back. Proxies keep what they have.
///
/// # Errors
/// It could not start.
pub async fn run(settings: Settings, shutdown: impl Future<Output = ()>) -> Result<(), Error> {
    let client = client(&settings).await?;
    let admin = bind("admin", settings.admin).await?;
    let control = bind("the API", settings.api).await?;
    let webhook = match settings.webhook {
        Some(address) => Some(bind("the webhooks", address).await?),
        None => None,
    };
    let parts = Parts::new(&settings, client);
    let (stop, stopped) = watch::channel(false);
    let election = tokio::spawn(parts.election.run(until(stopped.clone())));
    let mut tasks = JoinSet::new();
    tasks.spawn(parts.keeper.run(until(stopped.clone())));
    tasks.spawn(parts.tickets.run(until(stopped.clone())));
    let registered = parts.registered;
    registered.start(&mut tasks, || until(stopped.clone()));
    tasks.spawn(secrets::run(
        parts.client.clone(),
        parts.wanted,
        parts.seen.clone(),
    ));
    tasks.spawn(crate::watch::run(parts.client.clone(), parts.seen));
    tasks.spawn(auto_configs::run(
        parts.client.clone(),
        parts.leadership.clone(),
        parts.engine.auto_configs.clone(),
    ));
    tasks.spawn(parts.engine.run());
    tasks.spawn(parts.writer.run(parts.queue));
    tasks.spawn(parts.gate_writer.run(parts.gates));
    tasks.spawn(parts.follower.run());
    tasks.spawn(push::run(parts.push, parts.observed, parts.notable));
    tasks.spawn(deposed(parts.told, parts.leadership));
    tasks.spawn(proxies::follow(
        settings.clone(),
        parts.client,
        parts.targets,
    ));
    tasks.spawn(admin::serve(admin, Arc::clone(&parts.facts)));
    if let Some(listener) = webhook {
        tasks.spawn(parts.reviews.clone().restore());
        tasks.spawn(admission::serve(listener, parts.webhook_tls, parts.reviews));
    }
    let identity = api::Identity {
        name: settings.identity(),
        owner: settings.owner().to_string(),
        reign: parts.reign,
        ready: {
            let facts = Arc::clone(&parts.facts);
            Arc::new(move || facts.ready())
        },
    };
    let (shared, timelines) = (parts.facts.shared.clone(), parts.timelines);
    tasks.spawn(async move {
        if let Err(error) = api::serve(control, shared, timelines, identity).await {
            tracing::error!(%error, "the API ended");
        }
    });
    tracing::info!(
        release = env!("CARGO_PKG_VERSION"),
        identity = settings.identity(),
        admin = %settings.admin,
        api = %settings.api,
        "started"
    );
    tokio::select! {
        () = shutdown => {}
        () = watched(&mut tasks) => {}
    }
    // Whoever acts as a leader stops before the Lease is given back.
    tasks.shutdown().await;
    stop.send_replace(true);
    if let Err(error) = election.await {
        tracing::error!(%error, "the election broke");
    }
    tracing::info!("stopped");
    Ok(())
}

/// Waits until a task ends that should not: that is our bug, and a new process is the best that can be done about it.
async fn watched(tasks: &mut JoinSet<()>) {
    if let Some(Err(error)) = tasks.join_next().await {
        tracing::error!(%error, "a task broke: ending");
    } else {
        tracing::error!("a task ended: ending");
    }
}

async fn until(mut stopped: watch::Receiver<bool>) {
    // A sender that is gone has stopped, too.
    let _ = stopped.wait_for(|stopped| *stopped).await;
}

/// All the parts, connected.
struct Parts {
    client: Client,
    election: Election,
    leadership: Leadership,
    reign: watch::Receiver<crate::reign::Reign>,
    keeper: Keeper,
    tickets: Tickets,
    registered: Registered,
    seen: mpsc::Sender<crate::watch::Seen>,
    wanted: watch::Receiver<Arc<secrets::Wanted>>,
    engine: Engine,
    writer: Writer,
    queue: Queue,
    gate_writer: gate::writer::Writer,
    gates: gate::writer::Queue,
    push: push::Inputs,
    observed: watch::Sender<Arc<Observed>>,
    notable: mpsc::Sender<Notable>,
    told: mpsc::Receiver<Notable>,
    targets: watch::Sender<BTreeMap<String, Target>>,
    timelines: Timelines,
    follower: Follower,
    facts: Arc<Known>,
    reviews: Reviews,
    webhook_tls: admission::Tls,
}

impl Parts {
    fn new(settings: &Settings, client: Client) -> Self {
        let metrics = Metrics::new();
        let election = election(settings, client.clone());
        let leadership = election.leadership();
        let reign = leadership.reign();
        let connections = connections(settings, &client, &leadership, &metrics);
        let (namespace, cluster) = (&settings.namespace, &settings.cluster);
        let channel = certificates::Settings::new(Channel::Control, namespace, cluster);
        let (keeper, tls) =
            certificates::control(connections.clone(), channel, watch::channel(false).1);
        let (alone, is_alone) = watch::channel(false);
        let registered = Registered::new(settings, connections.clone(), is_alone);
        let (seen, seeing) = mpsc::channel(SEEN);
        let tickets = Tickets::new(connections.clone(), namespace, seen.clone());
        let (observed, observing) = watch::channel(Arc::<Observed>::default());
        let (snapshot, desired) = watch::channel(Arc::<Snapshot>::default());
        let (targets, proxies) = watch::channel(BTreeMap::new());
        let (notable, told) = mpsc::channel(16);
        let (secrets, wanted) = watch::channel(Arc::<secrets::Wanted>::default());
        let (shared, queue) = (Shared::new(settings.options()), Queue::default());
        let (overrides, gates) = (push::Overrides::default(), gate::writer::Queue::default());
        let (follower, ends) = Follower::new(sources(&connections, &shared, &observing));
        let certificates = (keeper.report(), registered.state());
        let facts = facts(&connections, (&shared, &queue), &observing, certificates);
        let reviews = reviews(&connections, &shared, &overrides);
        Self {
            election,
            engine: Engine {
                shared,
                seen: seeing,
                observed: observing,
                reign: reign.clone(),
                snapshot,
                secrets,
                queue: queue.clone(),
                auto_configs: auto_configs::Wanted::default(),
                gates: gates.clone(),
                alone,
                inbox: ends.inbox,
                metrics: metrics.clone(),
            },
            writer: writer(&connections),
            gate_writer: gate_writer(&connections, ends.timelines.clone()),
            gates,
            push: push::Inputs {
                owner: settings.owner(),
                desired,
                reign: reign.clone(),
                tls,
                targets: proxies,
                recorder: Arc::new(metrics),
                overrides,
                ear: ends.ear,
                announcing: settings.announcing(),
            },
            client,
            leadership,
            reign,
            keeper,
            tickets,
            webhook_tls: registered.tls.clone(),
            registered,
            seen,
            wanted,
            queue,
            observed,
            notable,
            told,
            targets,
            timelines: ends.timelines,
            follower,
            facts,
            reviews,
        }
    }
}

fn election(settings: &Settings, client: Client) -> Election {
    let lease = lease::Settings {
        namespace: settings.namespace.clone(),
        name: LEASE.to_owned(),
        identity: settings.identity(),
        terms: Terms::default(),
    };
    Election::new(client, lease)
}

fn connections(
    settings: &Settings,
    client: &Client,
    leadership: &Leadership,
    metrics: &Metrics,
) -> Connections {
    Connections {
        client: client.clone(),
        leadership: leadership.clone(),
        events: Events::new(client.clone(), &settings.identity()),
        metrics: metrics.clone(),
    }
}

/// What timelines are made of.
fn sources(
    to: &Connections,
    shared: &Shared,
    observed: &watch::Receiver<Arc<Observed>>,
) -> Sources {
    Sources {
        shared: shared.clone(),
        observed: observed.clone(),
        leadership: to.leadership.clone(),
        events: to.events.clone(),
        metrics: to.metrics.clone(),
    }
}

/// Who answers the webhooks.
fn reviews(to: &Connections, shared: &Shared, overrides: &push::Overrides) -> Reviews {
    Reviews::new(
        shared.clone(),
        to.client.clone(),
        overrides.clone(),
        to.metrics.clone(),
    )
}

/// What people who ask are told.
fn facts(
    to: &Connections,
    (shared, queue): (&Shared, &Queue),
    observed: &watch::Receiver<Arc<Observed>>,
    (certificates, webhooks): (watch::Receiver<Report>, State),
) -> Arc<Known> {
    Arc::new(Known {
        shared: shared.clone(),
        queue: queue.clone(),
        metrics: to.metrics.clone(),
        observed: observed.clone(),
        leadership: to.leadership.clone(),
        certificates,
        webhooks,
    })
}

/// Who writes to Services.
fn writer(to: &Connections) -> Writer {
    Writer {
        client: to.client.clone(),
        events: to.events.clone(),
        leadership: to.leadership.clone(),
        metrics: to.metrics.clone(),
    }
}

/// Who writes to Pods.
fn gate_writer(to: &Connections, timelines: Timelines) -> gate::writer::Writer {
    gate::writer::Writer {
        client: to.client.clone(),
        events: to.events.clone(),
        leadership: to.leadership.clone(),
        metrics: to.metrics.clone(),
        timelines,
    }
}

/// What health, readiness and metrics are made of.
struct Known {
    shared: Shared,
    queue: Queue,
    metrics: Metrics,
    observed: watch::Receiver<Arc<Observed>>,
    leadership: Leadership,
    certificates: watch::Receiver<Report>,
    webhooks: State,
}

impl Facts for Known {
    /// A follower is as ready as a leader: it knows the cluster, and takes over.
    fn ready(&self) -> Result<(), String> {
        let core = self.shared.look();
        if let Some((kind, problem)) = core.failing.iter().next() {
            return Err(format!("cannot watch {}: {problem}", kind.as_str()));
        }
        if !core.is_synced() {
            return Err("the cluster is not listed yet".to_owned());
        }
        if let Some(problem) = self.leadership.problem() {
            return Err(format!("Lease {LEASE}: {problem}"));
        }
        match &self.certificates.borrow().problem {
            Some(problem) => Err(format!("certificates: {problem}")),
            None => Ok(()),
        }
    }

    fn troubles(&self) -> Vec<String> {
        self.webhooks.troubles()
    }

    fn metrics(&self) -> String {
        let core = self.shared.look();
        let version = core.builder.snapshot().version;
        let (waiting, without) = (core.gates.counts(), core.builder.pods_without_gate().len());
        drop(core);
        self.metrics.gates(&waiting, without);
        self.metrics.certificates(&self.certificates.borrow());
        self.webhooks.count(&self.metrics);
        self.metrics
            .render(self.queue.depth(), version, &self.observed.borrow())
    }
}

/// A proxy that knows a higher epoch than ours has listened to another leader; if we do lead, ours is raised above it.
async fn deposed(mut told: mpsc::Receiver<Notable>, leadership: Leadership) {
    while let Some(Notable::Deposed {
        proxy,
        highest_epoch,
    }) = told.recv().await
    {
        if leadership.is_held(Instant::now()) {
            tracing::warn!(
                proxy,
                highest_epoch,
                "a proxy knows a higher epoch: raising ours"
            );
            leadership.raise(highest_epoch);
        }
    }
    std::future::pending::<()>().await;
}

async fn bind(what: &'static str, address: SocketAddr) -> Result<tokio::net::TcpListener, Error> {
    admin::bind(address).await.map_err(|source| Error::Bind {
        what,
        address,
        source,
    })
}

/// How the API server is reached.
///
/// # Errors
/// There is no configuration, or it cannot be used.
async fn client(settings: &Settings) -> Result<Client, Error> {
    let failed = |error: &dyn std::fmt::Display| Error::Kubeconfig(error.to_string());
    let config = match &settings.kubeconfig {
        Some(path) => {
            let read = Kubeconfig::read_from(path).map_err(|error| failed(&error))?;
            let options = KubeConfigOptions::default();
            kube::Config::from_custom_kubeconfig(read, &options)
                .await
                .map_err(|error| failed(&error))?
        }
        None => kube::Config::infer()
            .await
            .map_err(|error| failed(&error))?,
    };
    Client::try_from(config).map_err(|error| Error::Kubeconfig(fault::said(&error)))
}
