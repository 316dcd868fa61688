//! Puts the process together, and takes it apart again. The only place that knows all modules.

mod attend;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use tokio::runtime::Runtime;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch as flag;
use tokio::task::{JoinHandle, JoinSet};

pub use crate::error::Error;
use crate::error::FileError;

use crate::admin::{self, Pages};
use crate::api::Door;
use crate::host::prover::Prover;
use crate::host::transparency::Marks;
use crate::host::vip::keeper::Keeping;
use crate::listen::Served;
use crate::metrics::Counts;
use crate::notify::Notifier;
use crate::overview::Overview;
use crate::settings::{ApiAddress, Settings};
use crate::source::file::FileSource;
use crate::source::reload::Sources;
use crate::source::state_file::StateFile;
use crate::state::State;
use crate::tls::certificates::Certificates;
use crate::worker::fleet::{Fleet, FleetSettings};
use crate::{api, probe, shutdown};

/// Threads for API, admin pages, probes and sources; workers are not among them.
const CONTROL_THREADS: usize = 2;
/// Why the proxy is not ready, beside what the state knows.
const NOT_LOADED: &str = "the configuration file is not loaded yet";
const NOT_RESTORED: &str = "the state from before the restart is not put back yet";
const SHUTTING_DOWN: &str = "shutting down";
/// How long workers may take to cut what is left.
const CUT: Duration = Duration::from_secs(1);

/// The runtime that [`run`] and [`start`] are meant to be called on.
pub fn control_runtime() -> Result<Runtime, Error> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(CONTROL_THREADS)
        .thread_name("control")
        .enable_all()
        .build()
        .map_err(Error::Control)
}

/// Runs until `shutdown` resolves, then stops new work, waits and forces. Reads its files again on SIGHUP, and tells the
/// service manager how it goes.
pub async fn run(settings: Settings, shutdown: impl Future<Output = ()>) -> Result<(), Error> {
    // Before the start: a hangup meanwhile must not end the process.
    let hangup = signal(SignalKind::hangup()).map_err(Error::Control)?;
    let running = start(settings).await?;
    let notifier = Notifier::from_environment();
    tokio::select! {
        () = shutdown => {}
        () = attend::attend(&running, hangup, &notifier) => {}
    }
    notifier.stopping();
    running.shutdown().await;
    Ok(())
}

/// A proxy at work. Dropping it stops it without waiting for connections.
pub struct Running {
    /// Where the API is served: with the port that it was given for port 0, unless it waits for certificates.
    pub api: Vec<ApiAddress>,
    /// Where the admin pages are served.
    pub admin: SocketAddr,
    /// Where metrics alone are served.
    pub metrics: Option<SocketAddr>,
    /// What is being served.
    pub state: State,
    shutdown_timeout: Duration,
    /// What can be read again.
    sources: Sources,
    state_file: Option<StateFile>,
    /// Refuses further changes.
    stopping: Arc<AtomicBool>,
    /// Keeps what imitating clients needs.
    prover: Prover,
    /// Holds virtual addresses.
    keeping: Option<Keeping>,
    /// Ends API and admin.
    closing: flag::Sender<bool>,
    servers: Vec<JoinHandle<()>>,
    /// What runs for as long as the state does: its own work, probes, the configuration file.
    tasks: JoinSet<()>,
}

/// Starts everything, and loads the configuration file if there is one.
///
/// # Errors
/// Nothing is left running.
pub async fn start(settings: Settings) -> Result<Running, Error> {
    let files = settings.api_files().map_err(Error::OpenApi)?;
    let marks = Marks::new(settings.mark, settings.mask, settings.route_table);
    let marks = marks.map_err(Error::Marks)?;
    let counts = Arc::new(Counts::default());
    let mut sources = Sources::default();
    let mut tasks = JoinSet::new();
    let certificates = match files {
        Some(files) => {
            let certificates = Certificates::new(files, Arc::clone(&counts));
            // Before the reading: what changes meanwhile is seen at the next look.
            let looks = certificates.look();
            certificates.load().await;
            tasks.spawn(certificates.clone().follow(looks, sources.add()));
            Some(certificates)
        }
        None => None,
    };
    let bound = Bound::bind(&settings, certificates.as_ref()).await?;
    let (api, admin, metrics) = bound.addresses()?;
    let workers = settings.worker_count();
    let fleet = Fleet::start(FleetSettings {
        workers,
        access_log: settings.access_log,
    });
    let state = State::new(fleet.map_err(Error::Workers)?);
    let own = state.clone();
    tasks.spawn(async move { own.run().await });
    tasks.spawn(probe::run(state.clone()));
    let prover = Prover::new(state.clone(), marks);
    tasks.spawn(prover.clone().run());
    let overview = Overview {
        state: state.clone(),
        counts,
        prover,
        stopping: Arc::default(),
        full_state: Arc::default(),
    };
    // Before anybody can change the state, by API or file.
    let state_file = match settings.state_file.clone() {
        Some(path) => Some(restore(path, &overview).await?),
        None => None,
    };
    let (closing, flag) = flag::channel(false);
    if settings.config.is_some() {
        state.hold(NOT_LOADED);
    }
    state.hold(NOT_RESTORED);
    let servers = bound.serve(&overview, &flag);
    let running = Running {
        api,
        admin,
        metrics,
        state,
        shutdown_timeout: settings.shutdown_timeout,
        sources,
        state_file,
        stopping: Arc::clone(&overview.stopping),
        prover: overview.prover.clone(),
        keeping: None,
        closing,
        servers,
        tasks,
    };
    running.follow(settings.config, &overview).await
}

async fn restore(path: PathBuf, overview: &Overview) -> Result<StateFile, Error> {
    let (state, counts) = (overview.state.clone(), Arc::clone(&overview.counts));
    let file = StateFile::new(path.clone(), state, counts);
    match file.load().await {
        Ok(()) => Ok(file),
        Err(source) => Err(FileError::Read { path, source }.into()),
    }
}

impl Running {
    /// Loads the configuration file, if there is one, then what the state file has of others, and follows both.
    async fn follow(mut self, file: Option<PathBuf>, overview: &Overview) -> Result<Self, Error> {
        if let Some(path) = file {
            let counts = Arc::clone(&overview.counts);
            let mut source = FileSource::new(path, self.state.clone(), counts);
            let answer = source.load().await?;
            self.state.release(NOT_LOADED);
            let (version, changes) = (answer.version, answer.changes.len());
            tracing::info!(version, changes, "configuration loaded");
            self.tasks.spawn(source.follow(self.sources.add()));
        }
        self.state.prepare_restored().await;
        self.state.restore_owners();
        self.keeping = Some(Keeping::start(self.state.clone()));
        self.state.release(NOT_RESTORED);
        if let Some(file) = &self.state_file {
            let full_state = Arc::clone(&overview.full_state);
            self.tasks.spawn(file.clone().follow(full_state));
        }
        let release = env!("CARGO_PKG_VERSION");
        let api: Vec<_> = self.api.iter().map(ToString::to_string).collect();
        tracing::info!(release, api = api.join(" "), admin = %self.admin, "started");
        Ok(self)
    }

    /// Readiness off, virtual addresses left to others, listeners unbound, connections drained to the deadline, the rest cut; API and admin last.
    pub async fn shutdown(mut self) {
        // First: whoever sees that it is not ready any more is refused what it pushes.
        self.stopping.store(true, Relaxed);
        self.state.hold(SHUTTING_DOWN);
        let handover = match self.keeping.take() {
            Some(keeping) => keeping.leave(&self.prover).await,
            None => None,
        };
        // A probe or a reload now could only bring back what is being taken down.
        self.tasks.shutdown().await;
        if let Some(file) = &self.state_file {
            file.write().await;
        }
        // What a next process would put back at once stays, for the connections that live on.
        let is_needed = self.state.has_imitating_listener();
        self.state.unbind_all();
        let active = || self.state.live_connections();
        let left = shutdown::drained(self.shutdown_timeout, active).await;
        if left > 0 {
            tracing::warn!(connections = left, "cutting what is left at the deadline");
            self.state.cut_all();
            shutdown::drained(CUT, active).await;
        }
        if let Some(handover) = handover {
            handover.end();
        }
        if !is_needed {
            self.prover.clear().await;
        }
        self.closing.send_replace(true);
        for server in self.servers.drain(..) {
            // A server that panicked has said so.
            let _ = server.await;
        }
        tracing::info!("stopped");
    }
}

/// The addresses of API and admin, bound but not served yet.
struct Bound {
    api: Vec<Door>,
    admin: Served,
    metrics: Option<Served>,
}

impl Bound {
    async fn bind(settings: &Settings, certificates: Option<&Certificates>) -> Result<Self, Error> {
        let metrics = match settings.metrics {
            Some(address) => {
                Some(bind("metrics", ApiAddress::Tcp(address), admin::CONNECTIONS).await?)
            }
            None => None,
        };
        let mut api = Vec::new();
        for address in &settings.api {
            api.push(door(address, certificates).await?);
        }
        Ok(Self {
            api,
            admin: bind("admin", ApiAddress::Tcp(settings.admin), admin::CONNECTIONS).await?,
            metrics,
        })
    }

    fn addresses(&self) -> Result<(Vec<ApiAddress>, SocketAddr, Option<SocketAddr>), Error> {
        let api = self.api.iter().map(Door::address).collect::<Result<_, _>>();
        let tcp = |served: &Served| match served.address() {
            Ok(ApiAddress::Tcp(address)) => Ok(address),
            Ok(ApiAddress::Unix(_)) => unreachable!("admin and metrics are bound to TCP addresses"),
            Err(error) => Err(Error::Control(error)),
        };
        Ok((
            api.map_err(Error::Control)?,
            tcp(&self.admin)?,
            self.metrics.as_ref().map(tcp).transpose()?,
        ))
    }

    fn serve(self, overview: &Overview, closing: &flag::Receiver<bool>) -> Vec<JoinHandle<()>> {
        let api = api::serve(self.api, overview.clone(), closing.clone());
        let api = tokio::spawn(async {
            if let Err(error) = api.await {
                tracing::error!(%error, "the API ended");
            }
        });
        let pages = [
            (Some(self.admin), Pages::All),
            (self.metrics, Pages::Metrics),
        ];
        let pages = pages.into_iter().filter_map(|(served, pages)| {
            let serve = admin::serve(served?, pages, overview.clone(), closing.clone());
            Some(tokio::spawn(serve))
        });
        std::iter::once(api).chain(pages).collect()
    }
}

async fn door(address: &ApiAddress, certificates: Option<&Certificates>) -> Result<Door, Error> {
    let open = address.is_open_to_network();
    match certificates.filter(|_| open).cloned() {
        Some(certificates) if certificates.current().is_none() => {
            Ok(Door::Later(address.clone(), certificates))
        }
        Some(certificates) => {
            let served = bind("the API", address.clone(), api::CONNECTIONS).await?;
            Ok(Door::Tls(served, certificates))
        }
        None => {
            let served = bind("the API", address.clone(), api::CONNECTIONS).await?;
            Ok(Door::Plain(served))
        }
    }
}

async fn bind(
    what: &'static str,
    address: ApiAddress,
    connections: usize,
) -> Result<Served, Error> {
    Served::bind(&address, connections)
        .await
        .map_err(|source| Error::Bind {
            what,
            address: address.to_string(),
            source,
        })
}

impl Drop for Running {
    fn drop(&mut self) {
        self.closing.send_replace(true);
    }
}
