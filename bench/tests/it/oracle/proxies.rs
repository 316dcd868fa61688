//! The two proxies as processes, each with one worker in front of a backend of its own.

use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};

use podline_lab::{Child, own_loopback, wait};
use tempfile::TempDir;

use super::LONG;
use super::backend::Backend;
use crate::subject::scene;

/// A proxy that runs until it is dropped.
pub(super) struct Proxy {
    pub(super) name: &'static str,
    pub(super) address: SocketAddr,
    pub(super) backend: Backend,
    _child: Child,
    _directory: TempDir,
}

impl Proxy {
    /// podline-proxy, with an HTTP listener as it is by default.
    pub(super) fn podline() -> Self {
        let program = scene::tools().podline_proxy;
        Self::start("podline", |directory, address, backend| {
            let config = directory.join("podline.yaml");
            let text = format!(
                "listeners:\n- {{name: web, address: \"{address}\", protocol: HTTP, backendSet: web}}\n\
                 backendSets:\n- {{name: web, backends: [{{address: \"{backend}\"}}]}}\n"
            );
            fs::write(&config, text).unwrap();
            let mut command = Command::new(program);
            command.args(["--workers", "1", "--admin", "127.0.0.1:0", "--api"]);
            command.arg(format!("unix:{}/api", directory.display()));
            command.arg("--config").arg(config);
            command
        })
    }

    /// pingora-proxy, as it is measured.
    pub(super) fn pingora() -> Self {
        Self::start("pingora", |directory, address, backend| {
            let backends = directory.join("backends");
            fs::write(&backends, format!("{backend}\n")).unwrap();
            let mut command = Command::new(env!("CARGO_BIN_EXE_podline-bench-pingora"));
            command.args(["--listen", &address.to_string(), "--backends"]);
            command.arg(backends);
            command
        })
    }

    fn start(
        name: &'static str,
        command: impl FnOnce(&Path, SocketAddr, SocketAddr) -> Command,
    ) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let backend = Backend::start();
        let address = own_loopback();
        let mut command = command(directory.path(), address, backend.address);
        let log = fs::File::create(directory.path().join("log")).unwrap();
        command.stdin(Stdio::null());
        command.stdout(log.try_clone().unwrap()).stderr(log);
        let mut child = Child::spawn(&mut command).unwrap_or_else(|error| {
            let program = command.get_program().display();
            panic!("{program}: {error}; cargo build -p podline-proxy makes Podline's")
        });
        wait::until(LONG, "the proxy listens", || {
            if let Some(status) = child.try_wait().unwrap() {
                let log = fs::read_to_string(directory.path().join("log")).unwrap();
                panic!("{name} ended with {status}: {log}");
            }
            TcpStream::connect(address).is_ok()
        });
        Self {
            name,
            address,
            backend,
            _child: child,
            _directory: directory,
        }
    }
}
