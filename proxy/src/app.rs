//! Puts the process together, and takes it apart again. The only place that knows all modules.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Runtime;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch as flag;
use tokio::task::JoinHandle;

pub use crate::error::Error;

use crate::admin::{self, Pages};
use crate::listen::Served;
use crate::metrics::Counts;
use crate::overview::{Gate, Overview};
use crate::settings::{ApiAddress, Settings};
use crate::source::file::FileSource;
use crate::state::State;
use crate::state::ports::DataPlane;
use crate::worker::fleet::{Fleet, FleetSettings};
use crate::{api, shutdown};

/// Threads for API, admin pages, probes and sources; workers are not among them.
const CONTROL_THREADS: usize = 2;

/// The runtime that [`run`] and [`start`] are meant to be called on.
pub fn control_runtime() -> Result<Runtime, Error> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(CONTROL_THREADS)
        .thread_name("control")
        .enable_all()
        .build()
        .map_err(Error::Control)
}

/// Runs until `shutdown` resolves, then stops new work, waits and forces.
pub async fn run(settings: Settings, shutdown: impl Future<Output = ()>) -> Result<(), Error> {
    let running = start(settings).await?;
    shutdown.await;
    running.shutdown().await;
    Ok(())
}

/// A proxy at work. Dropping it stops it without waiting for connections.
pub struct Running {
    /// Where the API is served.
    pub api: ApiAddress,
    /// Where the admin pages are served.
    pub admin: SocketAddr,
    /// Where metrics alone are served.
    pub metrics: Option<SocketAddr>,
    /// What is being served.
    pub state: State,
    overview: Arc<Overview>,
    fleet: Arc<Fleet>,
    shutdown_timeout: Duration,
    /// Ends API and admin.
    closing: flag::Sender<bool>,
    servers: Vec<JoinHandle<()>>,
    source: Option<JoinHandle<()>>,
}

/// Starts everything, and loads the configuration file if there is one.
///
/// # Errors
/// Nothing is left running.
pub async fn start(settings: Settings) -> Result<Running, Error> {
    let bound = Bound::bind(&settings).await?;
    let workers = settings.worker_count();
    let fleet = Fleet::start(FleetSettings {
        workers,
        access_log: settings.access_log,
    })
    .map_err(Error::Workers)?;
    let state = State::start(Arc::clone(&fleet) as Arc<dyn DataPlane>);
    let pauses = Arc::clone(&fleet);
    let overview = Arc::new(Overview {
        state: state.clone(),
        counts: Arc::new(Counts::default()),
        gate: Gate::new(settings.config.is_some()),
        accept_pauses: Box::new(move || pauses.accept_pauses()),
    });
    let (closing, flag) = flag::channel(false);
    let (api, admin, metrics) = bound.addresses()?;
    let mut running = Running {
        servers: bound.serve(&overview, &flag),
        api,
        admin,
        metrics,
        state,
        overview,
        fleet,
        shutdown_timeout: settings.shutdown_timeout,
        closing,
        source: None,
    };
    if let Some(path) = settings.config {
        running.source = Some(load_and_follow(path, &running.overview).await?);
    }
    tracing::info!(
        api = %running.api, admin = %running.admin, workers, release = env!("CARGO_PKG_VERSION"), "started"
    );
    Ok(running)
}

async fn load_and_follow(path: PathBuf, overview: &Overview) -> Result<JoinHandle<()>, Error> {
    // Before the first load: a hangup meanwhile must not end the process.
    let hangup = signal(SignalKind::hangup()).map_err(Error::Control)?;
    let mut source = FileSource::new(path, overview.state.clone(), Arc::clone(&overview.counts));
    let answer = source.load().await?;
    overview.gate.file_loaded();
    tracing::info!(
        version = answer.version,
        changes = answer.changes.len(),
        "configuration loaded"
    );
    Ok(tokio::spawn(source.follow(hangup)))
}

/// The addresses of API and admin, bound but not served yet.
struct Bound {
    api: Served,
    admin: Served,
    metrics: Option<Served>,
}

impl Bound {
    async fn bind(settings: &Settings) -> Result<Self, Error> {
        let metrics = match settings.metrics {
            Some(address) => {
                Some(bind("metrics", ApiAddress::Tcp(address), admin::CONNECTIONS).await?)
            }
            None => None,
        };
        Ok(Self {
            api: bind("the API", settings.api.clone(), api::CONNECTIONS).await?,
            admin: bind("admin", ApiAddress::Tcp(settings.admin), admin::CONNECTIONS).await?,
            metrics,
        })
    }

    fn addresses(&self) -> Result<(ApiAddress, SocketAddr, Option<SocketAddr>), Error> {
        let api = self.api.address().map_err(Error::Control)?;
        let tcp = |served: &Served| match served.address() {
            Ok(ApiAddress::Tcp(address)) => Ok(address),
            Ok(ApiAddress::Unix(_)) => unreachable!("admin and metrics are bound to TCP addresses"),
            Err(error) => Err(Error::Control(error)),
        };
        Ok((
            api,
            tcp(&self.admin)?,
            self.metrics.as_ref().map(tcp).transpose()?,
        ))
    }

    fn serve(
        self,
        overview: &Arc<Overview>,
        closing: &flag::Receiver<bool>,
    ) -> Vec<JoinHandle<()>> {
        let api = api::serve(self.api, Arc::clone(overview), closing.clone());
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
            let serve = admin::serve(served?, pages, Arc::clone(overview), closing.clone());
            Some(tokio::spawn(serve))
        });
        std::iter::once(api).chain(pages).collect()
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

impl Running {
    /// Readiness off, listeners unbound, connections drained to the deadline, the rest cut; API and admin last.
    pub async fn shutdown(mut self) {
        self.overview.gate.shut_down();
        if let Some(source) = self.source.take() {
            source.abort();
        }
        self.state.unbind_all();
        let left =
            shutdown::drained(self.shutdown_timeout, || self.fleet.active_connections()).await;
        if left > 0 {
            tracing::warn!(connections = left, "cutting what is left at the deadline");
        }
        let fleet = Arc::clone(&self.fleet);
        let _ = tokio::task::spawn_blocking(move || fleet.stop()).await;
        self.closing.send_replace(true);
        for server in self.servers.drain(..) {
            let _ = server.await;
        }
        tracing::info!("stopped");
    }
}

#[cfg(test)]
impl Running {
    /// What API and admin see.
    pub(crate) fn overview(&self) -> &Overview {
        &self.overview
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.closing.send_replace(true);
        if let Some(source) = &self.source {
            source.abort();
        }
    }
}
