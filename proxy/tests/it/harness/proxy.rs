//! The shipped binary as a process: started, waited for, asked, stopped; its log is printed when a test fails.

use std::future::Future;
use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use podline_api::client::{ClientError, ProxyClient};
use podline_api::{Rejected, v1};
use podline_lab::wait::{find, until};
use podline_lab::{Child, Namespace};
use rustix::process::Signal;
use tempfile::TempDir;

use super::turn::Turn;
use super::{LONG, http, tcp, wire};

/// How a proxy is started.
#[derive(Default)]
pub(crate) struct Start<'a> {
    /// The configuration file's text; none runs without one.
    pub(crate) yaml: Option<String>,
    /// 0 means 2.
    pub(crate) workers: u32,
    /// Further arguments.
    pub(crate) args: Vec<&'a str>,
    /// Environment variables.
    pub(crate) environment: Vec<(&'a str, &'a str)>,
    /// Limit of open files.
    pub(crate) descriptors: Option<u32>,
    /// Capabilities that it lacks, as "net_admin".
    pub(crate) without: &'a [&'a str],
    /// No other test runs beside.
    pub(crate) alone: bool,
    /// Where its API listens; none is a Unix socket.
    pub(crate) api: Option<SocketAddr>,
    /// Where it runs; none is the host.
    pub(crate) namespace: Option<&'a Namespace>,
}

impl Start<'_> {
    /// Starts it, and waits until it is ready.
    pub(crate) fn ready(self) -> Proxy {
        let proxy = self.spawn();
        until(LONG, "the proxy is ready", || {
            proxy.assert_runs();
            proxy.page("/readyz").is_ok_and(|(status, _)| status == 200)
        });
        proxy
    }

    /// Starts it, and waits until its API answers.
    pub(crate) fn spawn(self) -> Proxy {
        let turn = if self.alone {
            Turn::alone()
        } else {
            Turn::shared()
        };
        let directory = tempfile::tempdir().unwrap();
        let (admin, socket) = (tcp::free_address(), directory.path().join("api"));
        let api = match self.api {
            Some(address) => address.to_string(),
            None => format!("unix:{}", socket.display()),
        };
        let mut command = self.command(admin, &api);
        let config = directory.path().join("podline.yaml");
        if let Some(yaml) = &self.yaml {
            std::fs::write(&config, yaml).unwrap();
            command.arg("--config").arg(&config);
        }
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let begun = Instant::now();
        let mut child = match self.namespace {
            Some(namespace) => namespace.spawn(command).unwrap(),
            None => Child::spawn(&mut command).unwrap(),
        };
        let log = Arc::new(Mutex::new(Vec::new()));
        collect(child.take_stdout().unwrap(), &log);
        collect(child.take_stderr().unwrap(), &log);
        let namespace = self.namespace.map(|namespace| {
            let file = namespace.run(|| std::fs::File::open("/proc/thread-self/ns/net"));
            Arc::new(file.unwrap())
        });
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let mut proxy = Proxy {
            child: Mutex::new(child),
            log,
            begun,
            admin,
            api,
            config,
            client: None,
            runtime,
            namespace,
            _directory: directory,
            _turn: turn,
        };
        proxy.client = Some(proxy.connect());
        proxy
    }

    fn command(&self, admin: SocketAddr, api: &str) -> Command {
        let binary = env!("CARGO_BIN_EXE_podline-proxy");
        let mut command = match self.descriptors {
            None if self.without.is_empty() => Command::new(binary),
            None => {
                let mut command = Command::new("setpriv");
                let lacking = self.without.iter().map(|name| format!("-{name}"));
                let lacking = lacking.collect::<Vec<_>>().join(",");
                command.args(["--inh-caps", &lacking, "--bounding-set", &lacking, binary]);
                command
            }
            Some(limit) => {
                let mut shell = Command::new("sh");
                let script = format!("ulimit -n {limit} && exec \"$0\" \"$@\"");
                shell.args(["-c", &script, binary]);
                shell
            }
        };
        let workers = if self.workers == 0 { 2 } else { self.workers };
        command
            .args(["--admin", &admin.to_string(), "--api", api])
            .args(["--workers", &workers.to_string()])
            .args(&self.args)
            .envs(self.environment.iter().copied());
        command
    }
}

/// A running proxy; killed on drop.
pub(crate) struct Proxy {
    child: Mutex<Child>,
    log: Arc<Mutex<Vec<String>>>,
    /// When its process was started.
    pub(crate) begun: Instant,
    /// Of its admin server.
    pub(crate) admin: SocketAddr,
    /// Of its API, as its client wants it.
    pub(crate) api: String,
    /// Its configuration file.
    pub(crate) config: PathBuf,
    /// `None` only while starting.
    client: Option<ProxyClient>,
    runtime: tokio::runtime::Runtime,
    namespace: Option<Arc<std::fs::File>>,
    _directory: TempDir,
    /// Last, so that the next test starts when this proxy is gone.
    _turn: Turn,
}

impl Proxy {
    /// Without a file, ready.
    pub(crate) fn start() -> Self {
        Start::default().ready()
    }

    /// Without a file and with no test beside, ready.
    pub(crate) fn alone() -> Self {
        let alone = true;
        Start {
            alone,
            ..Start::default()
        }
        .ready()
    }

    fn connect(&self) -> ProxyClient {
        let look = || async {
            self.assert_runs();
            ProxyClient::connect(&self.api).await.ok()
        };
        self.block_on(find(LONG, "the API answers", look))
    }

    /// Runs a future of the API.
    pub(crate) fn block_on<T>(&self, future: impl Future<Output = T>) -> T {
        self.runtime.block_on(future)
    }

    /// What runs futures of the API.
    pub(crate) fn handle(&self) -> tokio::runtime::Handle {
        self.runtime.handle().clone()
    }

    /// The API's client.
    pub(crate) fn client(&self) -> &ProxyClient {
        self.client.as_ref().expect("it has started")
    }

    /// Applies; panics when it is refused.
    pub(crate) fn apply(&self, request: v1::ApplyRequest) -> v1::ApplyResponse {
        let answer = self.try_apply(request).unwrap();
        if !answer.silent_workers.is_empty() {
            // They have a second, which a machine that stands still may take from them.
            until(LONG, "workers acknowledge", || {
                let again = self.try_apply(wire::request()).unwrap();
                again.silent_workers.is_empty()
            });
        }
        answer
    }

    /// Applies; an error is the proxy's refusal.
    pub(crate) fn try_apply(
        &self,
        request: v1::ApplyRequest,
    ) -> Result<v1::ApplyResponse, Rejected> {
        match self.block_on(self.client().apply(request)) {
            Ok(answer) => Ok(answer),
            Err(ClientError::Rejected { source, .. }) => Err(source),
            Err(error) => panic!("the call failed: {error:?}"),
        }
    }

    /// Serves `backends` at a new address: listener "web", set "web".
    pub(crate) fn serve(&self, backends: &[SocketAddr]) -> SocketAddr {
        let address = tcp::free_address();
        self.serve_with(
            wire::listener("web", address, "web"),
            wire::set("web", backends),
        );
        address
    }

    /// Adds a listener and a set, and waits until the listener listens.
    pub(crate) fn serve_with(&self, listener: v1::Listener, set: v1::BackendSet) {
        let name = listener.name.clone();
        self.apply(wire::both(listener, set));
        self.wait_listening(&name);
    }

    /// Waits until a listener listens.
    pub(crate) fn wait_listening(&self, name: &str) {
        let listening = i32::from(v1::listener_status::State::Listening);
        until(LONG, "the listener listens", || {
            self.listener(name).state == listening
        });
    }

    /// Everything.
    pub(crate) fn get(&self) -> v1::GetResponse {
        self.block_on(self.client().get(v1::GetRequest::default()))
            .unwrap()
    }

    /// Open connections of all listeners.
    pub(crate) fn active(&self) -> u64 {
        let summary = true;
        let request = v1::GetRequest {
            summary,
            ..v1::GetRequest::default()
        };
        self.block_on(self.client().get(request))
            .unwrap()
            .active_connections
    }

    /// One listener's state.
    pub(crate) fn listener(&self, name: &str) -> v1::ListenerStatus {
        let mut listeners = self.get().listeners.into_iter();
        let found =
            listeners.find(|status| status.listener.as_ref().is_some_and(|l| l.name == name));
        found.unwrap_or_else(|| panic!("no listener {name}"))
    }

    /// One set's state.
    pub(crate) fn set(&self, name: &str) -> v1::BackendSetStatus {
        let mut sets = self.get().backend_sets.into_iter();
        let found = sets.find(|status| status.set.as_ref().is_some_and(|set| set.name == name));
        found.unwrap_or_else(|| panic!("no set {name}"))
    }

    /// One backend's state, if it is there.
    pub(crate) fn backend(&self, set: &str, address: SocketAddr) -> Option<v1::BackendStatus> {
        let address = address.to_string();
        let mut backends = self.set(set).backends.into_iter();
        backends.find(|status| {
            status
                .backend
                .as_ref()
                .is_some_and(|b| b.address == address)
        })
    }

    /// One backend's health.
    pub(crate) fn health(&self, set: &str, address: SocketAddr) -> v1::Health {
        self.backend(set, address)
            .map_or(v1::Health::Unspecified, |status| status.health())
    }

    /// A page of the admin server.
    pub(crate) fn page(&self, path: &str) -> std::io::Result<(u16, String)> {
        let (address, path) = (self.admin, path.to_owned());
        let Some(namespace) = self.namespace.clone() else {
            return http::page(address, &path);
        };
        let inside = std::thread::spawn(move || {
            let network = Some(rustix::thread::LinkNameSpaceType::Network);
            rustix::thread::move_into_link_name_space(
                std::os::fd::AsFd::as_fd(&namespace),
                network,
            )?;
            http::page(address, &path)
        });
        inside.join().unwrap()
    }

    /// Resident memory, in bytes.
    pub(crate) fn resident_bytes(&self) -> u64 {
        self.memory("Rss:")
    }

    /// That part of it that is in huge pages.
    pub(crate) fn huge_bytes(&self) -> u64 {
        self.memory("AnonHugePages:")
    }

    fn memory(&self, what: &str) -> u64 {
        let path = format!("/proc/{}/smaps_rollup", self.pid());
        let rollup = std::fs::read_to_string(path).unwrap();
        let line = rollup.lines().find_map(|line| line.strip_prefix(what));
        let kilobytes = line.unwrap().trim().trim_end_matches(" kB");
        kilobytes.parse::<u64>().unwrap() * 1024
    }

    /// How many of its descriptors are pipes.
    pub(crate) fn pipes(&self) -> usize {
        let entries = std::fs::read_dir(format!("/proc/{}/fd", self.pid()))
            .unwrap()
            .flatten();
        let targets = entries.filter_map(|entry| std::fs::read_link(entry.path()).ok());
        targets
            .filter(|target| target.to_string_lossy().starts_with("pipe:"))
            .count()
    }

    /// Sends it a signal.
    pub(crate) fn signal(&self, signal: Signal) {
        self.lock().signal(signal).unwrap();
    }

    /// Waits for its end.
    pub(crate) fn wait_end(&self, limit: Duration) -> Option<ExitStatus> {
        self.lock().wait(limit).unwrap()
    }

    /// Its log so far.
    pub(crate) fn log(&self) -> String {
        self.log.lock().unwrap().join("\n")
    }

    /// Waits until its log has the text: it is written by another process, and read by another thread.
    pub(crate) fn wait_logged(&self, text: &str) {
        let what = format!("the log has {text:?}");
        until(LONG, &what, || self.log().contains(text));
    }

    /// Its process id.
    pub(crate) fn pid(&self) -> u32 {
        self.lock().id()
    }

    fn lock(&self) -> MutexGuard<'_, Child> {
        self.child.lock().unwrap()
    }

    fn assert_runs(&self) {
        let status = self.lock().try_wait().unwrap();
        assert!(status.is_none(), "the proxy has ended: {status:?}");
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = self
                .log
                .lock()
                .map(|log| log.join("\n"))
                .unwrap_or_default();
            eprintln!("--- the proxy's log ---\n{log}\n--- end ---");
        }
    }
}

/// Reads a stream of the child to its end on a thread of its own.
fn collect(stream: impl Read + Send + 'static, log: &Arc<Mutex<Vec<String>>>) {
    const MOST_LINES: usize = 2000;
    let log = Arc::clone(log);
    std::thread::spawn(move || {
        for line in BufReader::new(stream).lines().map_while(Result::ok) {
            let mut log = log.lock().unwrap();
            if log.len() < MOST_LINES {
                log.push(line);
            }
        }
    });
}
