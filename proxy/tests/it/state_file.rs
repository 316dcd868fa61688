//! What owners have put into the proxy is there again after a restart.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use podline_api::v1;
use podline_lab::{Behaviour, wait};
use rustix::process::Signal;

use crate::harness::blackhole::Blackhole;
use crate::harness::{LONG, Proxy, SECOND, Start, addresses, http, pod, tcp, wire};

/// A folder with a state file in it, once a proxy has run.
struct File {
    folder: tempfile::TempDir,
}

impl File {
    fn new() -> Self {
        Self {
            folder: tempfile::tempdir().unwrap(),
        }
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("state")
    }

    fn bad(&self) -> PathBuf {
        self.folder.path().join("state.bad")
    }

    fn start(&self, yaml: Option<&str>) -> Proxy {
        let path = self.path().display().to_string();
        Start {
            args: vec!["--state-file", &path],
            yaml: yaml.map(str::to_owned),
            ..Start::default()
        }
        .spawn()
    }

    /// Serves a Pod, waits until that is written, and kills the proxy: where it served, and its version.
    fn serve_and_kill(&self, backend: SocketAddr) -> (SocketAddr, u64) {
        let proxy = self.start(None);
        let address = proxy.serve(&[backend]);
        let version = proxy.get().version;
        self.wait_written("web");
        kill(&proxy);
        (address, version)
    }

    /// Waits until all that the proxy knows by now is written: a change that is made now is written with it or later.
    fn wait_known_is_written(&self, proxy: &Proxy) {
        proxy.apply(v1::ApplyRequest {
            backend_sets: vec![wire::set("marker", &[])],
            ..wire::request()
        });
        self.wait_written("marker");
    }

    /// Waits until the file holds a name. Messages hold names as they are.
    fn wait_written(&self, name: &str) {
        wait::until(LONG, "the state is written", || holds(&self.path(), name));
    }
}

fn holds(path: &Path, name: &str) -> bool {
    let bytes = std::fs::read(path).unwrap_or_default();
    bytes
        .windows(name.len())
        .any(|part| part == name.as_bytes())
}

fn kill(proxy: &Proxy) {
    proxy.signal(Signal::KILL);
    proxy.wait_end(5 * SECOND).unwrap();
}

fn wait_ready(proxy: &Proxy) {
    wait::until(LONG, "it is ready", || {
        proxy.page("/readyz").unwrap().0 == 200
    });
}

fn metric(proxy: &Proxy, name: &str) -> f64 {
    let (_, page) = proxy.page("/metrics").unwrap();
    let line = page.lines().find_map(|line| line.strip_prefix(name));
    line.unwrap().trim().parse().unwrap()
}

fn full_state() -> v1::ApplyRequest {
    v1::ApplyRequest {
        replace_owned: true,
        ..wire::request()
    }
}

#[test]
fn a_killed_proxy_serves_again_and_its_versions_go_on() {
    let (file, pod) = (File::new(), pod("a", Behaviour::Name));
    let (address, version) = file.serve_and_kill(pod.address());
    let mode = std::fs::metadata(file.path()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);

    let proxy = file.start(None);
    wait_ready(&proxy);
    assert_eq!(http::ask(address).unwrap(), "a");
    let state = proxy.get();
    assert!(
        state.version >= version,
        "{} after {version}",
        state.version
    );
    assert_eq!(state.listeners[0].owner, "test");
    assert_eq!(state.backend_sets[0].owner, "test");
    let next = proxy.apply(wire::change("web", &[tcp::free_address()], &[]));
    assert!(next.version > version);
}

/// Clients that keep on asking, and a backend that dies while nobody is there to notice.
#[test]
fn no_request_fails_once_a_killed_proxy_is_back_though_a_backend_died_meanwhile() {
    let file = File::new();
    let mut pods: Vec<_> = (0..3)
        .map(|n| pod(&format!("pod-{n}"), Behaviour::Name))
        .collect();
    let mut set = wire::set("web", &addresses(&pods));
    set.health_check = Some(wire::fast_check());
    let proxy = file.start(None);
    let address = tcp::free_address();
    proxy.serve_with(wire::listener("web", address, "web"), set);
    wait::until(LONG, "all are healthy", || proxy.set("web").eligible == 3);
    file.wait_known_is_written(&proxy); // the verdicts: without them nobody would be served until probes have answered
    kill(&proxy);
    pods.pop();
    let stop = AtomicBool::new(false);
    let answered = std::thread::scope(|scope| {
        let asking: Vec<_> = (0..3)
            .map(|_| scope.spawn(|| ask_once_it_listens(address, &stop)))
            .collect();
        let _proxy = file.start(None);
        wait::until(LONG, "it serves", || http::ask(address).is_ok());
        std::thread::park_timeout(2 * SECOND); // while probes find out
        stop.store(true, Relaxed);
        asking
            .into_iter()
            .map(|thread| thread.join().unwrap())
            .sum::<u64>()
    });
    assert!(answered > 100, "{answered}");
}

/// Asks again and again; refused connects count as not listening yet, before the first answer.
fn ask_once_it_listens(address: SocketAddr, stop: &AtomicBool) -> u64 {
    let mut answered = 0;
    while !stop.load(Relaxed) {
        match http::ask(address) {
            Ok(_) => answered += 1,
            Err(error) if answered == 0 && error.kind() == ErrorKind::ConnectionRefused => {
                std::thread::park_timeout(std::time::Duration::from_millis(1));
            }
            Err(error) => panic!("after {answered} answers: {error}"),
        }
    }
    answered
}

#[test]
fn a_verdict_is_known_again_after_a_restart() {
    let (file, pod) = (File::new(), pod("a", Behaviour::Name));
    let backend = pod.address();
    let mut set = wire::set("web", &[backend]);
    set.health_check = Some(v1::HealthCheck {
        interval: wire::time(60 * SECOND),
        timeout: wire::time(60 * SECOND),
        ..wire::fast_check()
    });
    let proxy = file.start(None);
    proxy.serve_with(wire::listener("web", tcp::free_address(), "web"), set);
    let is_healthy = |proxy: &Proxy| proxy.health("web", backend) == v1::Health::Healthy;
    wait::until(LONG, "it is healthy", || is_healthy(&proxy));
    proxy.signal(Signal::TERM);
    assert!(proxy.wait_end(5 * SECOND).unwrap().success());
    drop(pod);
    let _silent = Blackhole::at(backend); // no probe comes to an end
    let proxy = file.start(None);
    wait_ready(&proxy);
    assert!(is_healthy(&proxy));
}

#[test]
fn the_configuration_file_wins_for_what_it_owns() {
    let (file, pod) = (File::new(), pod("a", Behaviour::Name));
    let (other, own) = (file.serve_and_kill(pod.address()).0, tcp::free_address());
    let yaml = format!(
        "listeners:\n- {{name: own, address: '{own}', protocol: TCP, backendSet: own}}\n\
         backendSets:\n- name: own\n  backends:\n  - address: {}\n",
        pod.address()
    );
    let proxy = file.start(Some(&yaml));
    wait_ready(&proxy);
    for address in [own, other] {
        assert_eq!(http::ask(address).unwrap(), "a");
    }
    assert!(!holds(&file.path(), "own"), "the file is kept elsewhere");
    kill(&proxy);
    let proxy = file.start(None);
    wait_ready(&proxy);
    let names = proxy
        .get()
        .listeners
        .into_iter()
        .map(|l| l.listener.unwrap().name);
    assert_eq!(names.collect::<Vec<_>>(), ["web"]);
}

#[test]
fn a_damaged_file_is_set_aside_and_the_proxy_waits_for_a_full_state() {
    let (file, pod) = (File::new(), pod("a", Behaviour::Name));
    file.serve_and_kill(pod.address());
    let whole = std::fs::read(file.path()).unwrap();
    let mut flipped = whole.clone();
    *flipped.last_mut().unwrap() ^= 1;
    let mut future = whole.clone();
    future[11] = 9;
    for (bytes, told) in [
        (&whole[..whole.len() / 2], "bytes instead of"),
        (&flipped, "checksum"),
        (b"something else entirely", "no state file of Podline"),
        (&future, "format version 9"),
        (b"", "bytes instead of"),
    ] {
        std::fs::write(file.path(), bytes).unwrap();
        let proxy = file.start(Some("listeners: []"));
        proxy.wait_logged(told);
        assert_eq!(std::fs::read(file.bad()).unwrap(), bytes, "{told}");
        assert!(!file.path().exists());
        assert!((metric(&proxy, "podline_state_file_damaged_total ") - 1.0).abs() < 0.1);
        let state = proxy.get();
        assert!(
            !state.ready && state.not_ready_reason.contains("damaged"),
            "{told}"
        );

        // A change that is no full state is taken, and changes nothing about that.
        proxy.apply(wire::request());
        assert!(!proxy.get().ready);
        proxy.apply(full_state());
        wait_ready(&proxy);
        proxy.serve(&[pod.address()]);
        file.wait_written("web");
        kill(&proxy);
    }
}

#[test]
fn a_damaged_file_is_not_forgotten_by_a_restart_but_may_be_removed() {
    let file = File::new();
    std::fs::write(file.path(), "damaged").unwrap();
    let proxy = file.start(None);
    assert!(!proxy.get().ready);
    kill(&proxy);
    let proxy = file.start(None);
    assert!(!proxy.get().ready, "{}", proxy.log());
    std::fs::remove_file(file.bad()).unwrap();
    wait_ready(&proxy);
}

#[test]
fn a_file_that_cannot_be_written_disturbs_nothing() {
    let (file, pod) = (File::new(), pod("a", Behaviour::Name));
    let proxy = file.start(None);
    wait_ready(&proxy);
    // A folder where the new file is to be made: even root cannot write there.
    let blocker = file.folder.path().join("state.new");
    wait::until(LONG, "no write is under way", || {
        std::fs::create_dir(&blocker).is_ok()
    });
    std::fs::write(blocker.join("inside"), "").unwrap();
    let address = proxy.serve(&[pod.address()]);
    wait::until(LONG, "it is tried twice", || {
        metric(&proxy, "podline_state_file_write_failures_total ") >= 2.0
    });
    assert_eq!(http::ask(address).unwrap(), "a");
    proxy.wait_logged("cannot write the state file");
    assert_eq!(
        proxy.log().matches("cannot write the state file").count(),
        1
    );
    std::fs::remove_dir_all(blocker).unwrap();
    file.wait_written("web");
}
