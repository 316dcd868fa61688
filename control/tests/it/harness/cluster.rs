//! The control plane: one kubelab for all tests of this process, in the hub of a star of namespaces.
//!
//! `PODLINE_TEST_KUBECONFIG` names another cluster, for the tests that need nothing but an API server; the others are
//! skipped then, since their proxies and clients would have to be in its network.

use std::future::Future;
use std::io::{BufRead, BufReader, Write};
use std::ops::Deref;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError, mpsc};

use podline_lab::{Child, Lab, Star, require};
use tempfile::TempDir;
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;

use super::lab::lab;
use super::process::binary;

/// Spokes of the star, by index.
pub(crate) const PROXIES: [usize; 2] = [0, 1];
pub(crate) const CLIENT: usize = 2;
const SPOKES: [&str; 3] = ["proxy-0", "proxy-1", "client"];
/// Ports that no connection may be given as its own: something may have to listen there. Those of proxies, controllers,
/// the control plane, and node ports.
const LISTENED_AT: &str = "2379,2380,6443,8080,9900-9920,10250-10260,19100-19399,30000-32767";
const ELSEWHERE: &str = "PODLINE_TEST_KUBECONFIG";

/// An API server, and threads from which it is reached.
pub(crate) struct Reach {
    runtime: Runtime,
    pub(crate) client: kube::Client,
    kubeconfig: PathBuf,
}

/// A running control plane and the network around it. Its API server is reached from the hub.
pub(crate) struct Cluster {
    pub(crate) star: Star,
    reach: Reach,
    directory: TempDir,
    /// The API server was meddled with: just after its start it knows no rights, and refuses everybody.
    disturbed: AtomicBool,
    /// Ends with our standard input pipe, so also when this process is killed.
    _kubelab: Child,
    pub(crate) lab: &'static Lab,
}

/// The cluster, for one test at a time; `None` if it cannot be had here, and says why. Panics instead if `PODLINE_REQUIRE`
/// contains `kubernetes`.
pub(crate) fn cluster() -> Option<MutexGuard<'static, Cluster>> {
    static CLUSTER: OnceLock<Result<Mutex<Cluster>, String>> = OnceLock::new();
    if std::env::var_os(ELSEWHERE).is_some() {
        eprintln!("skipped: {ELSEWHERE} names a cluster, and this needs kubelab's network");
        return None;
    }
    let started = CLUSTER.get_or_init(|| Cluster::start().map(Mutex::new));
    let cluster = require("kubernetes", started.as_ref())?;
    Some(cluster.lock().unwrap_or_else(|failed| {
        let cluster = PoisonError::into_inner(failed);
        cluster.mend();
        cluster
    }))
}

impl Deref for Cluster {
    type Target = Reach;

    fn deref(&self) -> &Reach {
        &self.reach
    }
}

/// The cluster that `PODLINE_TEST_KUBECONFIG` names.
pub(crate) fn elsewhere() -> Option<Reach> {
    let kubeconfig = PathBuf::from(std::env::var_os(ELSEWHERE)?);
    let runtime = Runtime::new().unwrap();
    let client = on(&runtime, client(kubeconfig.clone())).unwrap();
    Some(Reach {
        runtime,
        client,
        kubeconfig,
    })
}

impl Reach {
    /// How the API server is reached by one who may do everything.
    pub(crate) fn kubeconfig(&self) -> &Path {
        &self.kubeconfig
    }

    /// Runs a future where the API server is reached, and waits.
    pub(crate) fn run<T: Send + 'static>(
        &self,
        future: impl Future<Output = T> + Send + 'static,
    ) -> T {
        on(&self.runtime, future)
    }

    /// Starts a future there.
    pub(crate) fn spawn(
        &self,
        future: impl Future<Output = ()> + Send + 'static,
    ) -> JoinHandle<()> {
        self.runtime.spawn(future)
    }
}

impl Cluster {
    fn start() -> Result<Self, String> {
        let lab = lab()?;
        binary("podline-proxy")?;
        let kubelab = build()?;
        let star = Star::build(lab, &SPOKES).map_err(|error| error.to_string())?;
        for namespace in [&star.hub].into_iter().chain(&star.spokes) {
            let reserved = namespace.sysctl("net/ipv4/ip_local_reserved_ports", LISTENED_AT);
            reserved.map_err(|error| error.to_string())?;
        }
        let directory = tempfile::tempdir().map_err(|error| error.to_string())?;
        let child = start(&kubelab, &star, directory.path())?;
        let runtime = star.hub.run(|| {
            let mut builder = tokio::runtime::Builder::new_multi_thread();
            builder.worker_threads(2).enable_all().build()
        });
        let runtime = runtime.map_err(|error| error.to_string())?;
        let kubeconfig = directory.path().join("kubeconfig");
        let client = on(&runtime, client(kubeconfig.clone()))?;
        Ok(Self {
            star,
            reach: Reach {
                runtime,
                client,
                kubeconfig,
            },
            directory,
            disturbed: AtomicBool::new(false),
            _kubelab: child,
            lab,
        })
    }

    /// Its folder: kubeconfig, logs.
    pub(crate) fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// Whether the API server was meddled with since this was last asked.
    pub(crate) fn was_disturbed(&self) -> bool {
        self.disturbed.swap(false, Relaxed)
    }

    /// A test that failed may have left something stopped: the next one has nothing to do with it.
    fn mend(&self) {
        for part in self.control("status").split_whitespace() {
            match part.split_once('=') {
                Some((name, "stopped")) => drop(self.control(&format!("start {name}"))),
                Some((name, "paused")) => drop(self.control(&format!("resume {name}"))),
                _ => {}
            }
        }
    }

    /// Sends a line to kubelab's control socket; the answer without its `ok`.
    pub(crate) fn control(&self, line: &str) -> String {
        if line.contains("apiserver") || line.contains("etcd") {
            self.disturbed.store(true, Relaxed);
        }
        let mut stream = UnixStream::connect(self.directory().join("control.sock")).unwrap();
        writeln!(stream, "{line}").unwrap();
        let mut answer = String::new();
        BufReader::new(stream).read_line(&mut answer).unwrap();
        let answer = answer.trim();
        let rest = answer
            .strip_prefix("ok")
            .unwrap_or_else(|| panic!("{line}: {answer}"));
        rest.trim().to_owned()
    }
}

fn on<T: Send + 'static>(runtime: &Runtime, future: impl Future<Output = T> + Send + 'static) -> T {
    let (answer, answered) = mpsc::channel();
    let task = runtime.spawn(async move {
        answer.send(future.await).ok(); // we wait below
    });
    answered.recv().unwrap_or_else(|_| {
        let error = runtime.block_on(task).expect_err("it sent no answer");
        std::panic::resume_unwind(error.into_panic())
    })
}

/// The path of kubelab, built if need be; that takes minutes the first time.
fn build() -> Result<PathBuf, String> {
    let go = Command::new("go").arg("version").output();
    if !go.is_ok_and(|output| output.status.success()) {
        return Err("there is no Go toolchain, which builds it".to_owned());
    }
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/kubelab/build");
    let output = Command::new(script)
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output();
    let output = output.map_err(|error| format!("kubelab's build cannot be run: {error}"))?;
    if !output.status.success() {
        return Err("kubelab cannot be built; see above".to_owned());
    }
    Ok(PathBuf::from(
        String::from_utf8_lossy(&output.stdout).trim(),
    ))
}

fn start(kubelab: &Path, star: &Star, directory: &Path) -> Result<Child, String> {
    let mut command = Command::new(kubelab);
    command
        .args(["up", "--until-eof", "--node-grace", "10s", "--dir"])
        .arg(directory);
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = star
        .hub
        .spawn(command)
        .map_err(|error| format!("cannot start kubelab: {error}"))?;
    let mut line = String::new();
    let stdout = child.take_stdout().ok_or("no pipe")?;
    BufReader::new(stdout)
        .read_line(&mut line)
        .map_err(|error| error.to_string())?;
    if line.starts_with("ready") {
        Ok(child)
    } else {
        Err(format!(
            "kubelab did not start; see {}",
            directory.join("log").display()
        ))
    }
}

/// A client of whoever this kubeconfig belongs to.
pub(crate) async fn client(kubeconfig: PathBuf) -> Result<kube::Client, String> {
    let read =
        kube::config::Kubeconfig::read_from(kubeconfig).map_err(|error| error.to_string())?;
    let options = kube::config::KubeConfigOptions::default();
    let config = kube::Config::from_custom_kubeconfig(read, &options).await;
    let config = config.map_err(|error| error.to_string())?;
    kube::Client::try_from(config).map_err(|error| error.to_string())
}
