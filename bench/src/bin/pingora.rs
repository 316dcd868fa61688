//! pingora-proxy as a process of its own, which is measured as the subject `pingora`: HTTP/1.1 to a list of backends in
//! turn, over connections that are kept. It must not know of measuring.

use std::error::Error;
use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::thread;

use arc_swap::ArcSwap;
use async_trait::async_trait;
use clap::Parser;
use pingora_core::server::Server;
use pingora_core::server::configuration::ServerConf;
use pingora_core::upstreams::peer::HttpPeer;
use pingora_http::RequestHeader;
use pingora_proxy::{ProxyHttp, Session, http_proxy_service};
use tokio::signal::unix::{SignalKind, signal};

/// Kept connections to backends, over all threads: more than any load here has requests under way.
const KEPT: usize = 1024;

/// Forwards HTTP/1.1 by pingora-proxy.
#[derive(Debug, Parser)]
#[command(name = "pingora-proxy", version = locked())]
struct Settings {
    /// Where clients come
    #[arg(long, value_name = "ADDR")]
    listen: SocketAddr,
    /// Backends, one a line; read again on SIGHUP
    #[arg(long, value_name = "FILE")]
    backends: PathBuf,
    /// Worker threads
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=1024))]
    workers: u16,
}

/// The version of pingora-proxy that this is built with, which the crate itself does not tell.
fn locked() -> &'static str {
    let lock = include_str!("../../../Cargo.lock");
    let package = lock.split_once("name = \"pingora-proxy\"\nversion = \"");
    let version = package.and_then(|(_, rest)| rest.split('"').next());
    version.unwrap_or("unknown")
}

type Backends = Arc<ArcSwap<Vec<SocketAddr>>>;

/// Takes backends in turn.
struct InTurn {
    backends: Backends,
    next: AtomicUsize,
}

#[async_trait]
impl ProxyHttp for InTurn {
    type CTX = ();

    fn new_ctx(&self) {}

    async fn upstream_peer(
        &self,
        _: &mut Session,
        (): &mut (),
    ) -> pingora_core::Result<Box<HttpPeer>> {
        let backends = self.backends.load();
        let turn = self.next.fetch_add(1, Relaxed) % backends.len(); // a list is never empty
        Ok(Box::new(HttpPeer::new(
            backends[turn],
            false,
            String::new(),
        )))
    }

    async fn upstream_request_filter(
        &self,
        session: &mut Session,
        request: &mut RequestHeader,
        (): &mut (),
    ) -> pingora_core::Result<()> {
        match session.client_addr().and_then(|client| client.as_inet()) {
            Some(client) => request.insert_header("X-Forwarded-For", client.ip().to_string()),
            None => Ok(()),
        }
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let settings = Settings::parse();
    let backends = Backends::new(ArcSwap::from_pointee(read(&settings.backends)?));
    // Where it cannot listen, pingora ends a thread and not the process.
    drop(
        TcpListener::bind(settings.listen)
            .map_err(|error| format!("{}: {error}", settings.listen))?,
    );
    follow(settings.backends, Arc::clone(&backends))?;
    let configuration = ServerConf {
        threads: settings.workers.into(),
        listener_tasks_per_fd: settings.workers.into(),
        upstream_keepalive_pool_size: KEPT,
        work_stealing: false, // a runtime for each thread costs less
        ..ServerConf::default()
    };
    let mut server = Server::new_with_opt_and_conf(None, configuration);
    server.bootstrap();
    let next = AtomicUsize::new(0);
    let mut service = http_proxy_service(&server.configuration, InTurn { backends, next });
    service.add_tcp(&settings.listen.to_string());
    server.add_service(service);
    server.run_forever()
}

/// Reads the list again whenever SIGHUP comes, on a thread of its own. A bad list changes nothing.
fn follow(path: PathBuf, backends: Backends) -> Result<(), Box<dyn Error>> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let mut asked = {
        let _inside = runtime.enter();
        signal(SignalKind::hangup())?
    };
    let watch = async move {
        while asked.recv().await.is_some() {
            match read(&path) {
                Ok(list) => {
                    backends.store(Arc::new(list));
                    eprintln!("took its backends");
                }
                Err(error) => eprintln!("{error}"),
            }
        }
    };
    thread::Builder::new()
        .name("follow".to_owned())
        .spawn(move || runtime.block_on(watch))?;
    Ok(())
}

/// The addresses of a file; at least one.
fn read(path: &Path) -> Result<Vec<SocketAddr>, String> {
    let problem = |what: &str| format!("cannot read {}: {what}", path.display());
    let text = fs::read_to_string(path).map_err(|error| problem(&error.to_string()))?;
    let list: Result<Vec<SocketAddr>, _> = text.lines().map(str::parse).collect();
    let list = list.map_err(|error| problem(&error.to_string()))?;
    if list.is_empty() {
        return Err(problem("it has no backends"));
    }
    Ok(list)
}
