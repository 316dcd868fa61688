//! Starts a subject: writes its configuration, starts its processes, and waits until it serves.

use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;

use super::forwarder::{Forwarder, Kind};
use super::process::Process;
use super::running::Running;
use super::targets::{File, Targets, Wanted};
use super::ways::Ways;
use super::{
    Entry, Layer, Site, Subject, Tools, descriptors, envoy, front, haproxy, nginx, pingora,
    podline, traefik,
};
use crate::wire::port;

/// How a subject is run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// Threads or processes that forward, at least 1.
    pub workers: u16,
    /// What is looked at.
    pub layer: Layer,
    /// How many TCP ports there are, at most [`front::LAST`] - [`front::MANY`] + 1, each a listener of its own that leads
    /// to frames; `None` for the usual ports.
    pub listeners: Option<u16>,
    /// Podline probes its backends as the controller has it do, and takes out Pods to which connects fail. Others have no
    /// checks: peers cost least so.
    pub has_checks: bool,
}

/// What to run: files that are written first, arguments, and environment.
struct Launch {
    files: Vec<File>,
    arguments: Vec<String>,
    environment: Vec<(&'static str, String)>,
    kind: Kind,
}

impl Subject {
    /// Starts it, and returns when it serves. The rules of NodePorts have to be in place. Not to be called from
    /// asynchronous code.
    ///
    /// # Errors
    /// It cannot be run here or so, or did not start: the words for people, with the end of its log.
    pub fn start<'a>(
        self,
        site: &Site<'a>,
        tools: &Tools,
        options: &Options,
    ) -> Result<Running<'a>, String> {
        self.fits_layer(options.layer)
            .map_err(|reason| format!("{self} {reason}"))?;
        let wanted = self.wanted(site, *options)?;
        if self == Self::Pod {
            return Ok(Running::of_pod(site.backends[0].address, site));
        }
        let program = tools.program(self).map_err(|missing| missing.to_string())?;
        let launch = self.launch(&wanted, tools)?;
        write(&wanted.directory, &launch.files)?;
        for socket in [podline::SOCKET, haproxy::SOCKET] {
            // What an earlier run has left would be taken for this one's.
            fs::remove_file(wanted.directory.join(socket)).ok(); // mostly there is none
        }
        let process = Process::start(
            site.proxy,
            &wanted.directory,
            self.name(),
            &program,
            &launch.arguments,
            &launch.environment,
        )?;
        let mut forwarder = Forwarder::new(launch.kind, wanted, process);
        if self == Self::DirectTransparent {
            forwarder.ways = Some(Ways::start(site, &program)?);
        }
        let mut running = Running::new(self, forwarder, site); // from here on an error takes all away
        running.wait_serving()?;
        Ok(running)
    }

    fn wanted(self, site: &Site<'_>, options: Options) -> Result<Wanted, String> {
        let nodes: Vec<IpAddr> = site.nodes.iter().map(|(_, address)| *address).collect();
        let targets = Targets::of(self, &nodes, &site.backends);
        if targets.http.is_empty() {
            return Err(format!("{self}: there is nobody to forward to"));
        }
        if options.workers == 0 {
            return Err(format!("{self}: 0 workers forward nothing"));
        }
        let most = front::LAST - front::MANY + 1;
        if let Some(listeners) = options.listeners.filter(|n| !(1..=most).contains(n)) {
            return Err(format!("{self}: {listeners} listeners are not 1 to {most}"));
        }
        let directory = std::path::absolute(site.directory)
            .map_err(|error| format!("{self}: {}: {error}", site.directory.display()))?;
        if !is_plain(&directory) {
            let directory = directory.display();
            return Err(format!(
                "{self}: cannot be told of files in {directory}: use a folder (TMPDIR) of letters, digits and ._-"
            ));
        }
        Ok(Wanted {
            front: site.front,
            targets,
            workers: options.workers,
            layer: options.layer,
            listeners: options.listeners,
            has_checks: options.has_checks,
            // Behind a node's port are several Pods: that a connect failed is not that node's fault.
            has_passive_check: options.has_checks && !self.is_nodeport(),
            descriptors: descriptors::raise(),
            certificate: site.certificate.clone(),
            directory,
        })
    }

    fn launch(self, wanted: &Wanted, tools: &Tools) -> Result<Launch, String> {
        let (files, arguments, kind) = match self {
            Self::Haproxy => (
                haproxy::files(wanted),
                haproxy::arguments(wanted),
                Kind::haproxy(wanted),
            ),
            Self::Nginx => {
                let stream = tools.stream().map_err(|missing| missing.to_string())?;
                let files = nginx::files(wanted, &stream);
                (files, nginx::arguments(wanted), Kind::Nginx { stream })
            }
            Self::Envoy => (envoy::files(wanted), envoy::arguments(wanted), Kind::Envoy),
            Self::Traefik => (
                traefik::files(wanted),
                traefik::arguments(wanted),
                Kind::Traefik,
            ),
            Self::Pingora => (
                pingora::files(wanted),
                pingora::arguments(wanted),
                Kind::Pingora,
            ),
            _ => (
                Vec::new(),
                podline::arguments(wanted),
                Kind::podline(wanted),
            ),
        };
        let environment = match self {
            // Go's own idea of how many threads run at once would be the machine's cores.
            Self::Traefik => vec![("GOMAXPROCS", wanted.workers.to_string())],
            _ => Vec::new(),
        };
        Ok(Launch {
            files,
            arguments,
            environment,
            kind,
        })
    }
}

/// Whether a path means the same in every configuration language.
fn is_plain(path: &Path) -> bool {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "/._-+@".contains(c);
    path.to_str().is_some_and(|path| path.chars().all(is_plain))
}

/// Where a Pod is reached by itself.
pub(super) fn of_pod(address: IpAddr) -> Entry {
    let frames = SocketAddr::new(address, port::FRAMES);
    Entry {
        http: SocketAddr::new(address, port::HTTP),
        http2: SocketAddr::new(address, port::HTTP),
        grpc: SocketAddr::new(address, port::HTTP),
        frames,
        bulk: frames,
        ports: 1,
    }
}

/// Puts files into a folder, each at once: who reads one while it is replaced sees the old one or the new one.
pub(super) fn write(folder: &Path, files: &[File]) -> Result<(), String> {
    for (name, text) in files {
        let (path, new) = (folder.join(name), folder.join(format!("{name}.new")));
        let written = fs::write(&new, text).and_then(|()| fs::rename(&new, &path));
        written.map_err(|error| format!("cannot write {}: {error}", path.display()))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_that_some_language_would_read_otherwise_are_told_apart() {
        assert!(is_plain(Path::new("/run/bench/.a_b-c+1@2")));
        for path in ["/a b", "/a;b", "/a{b}", "/a#b", "/a\"b", "/a$b", "/\u{f6}"] {
            assert!(!is_plain(Path::new(path)), "{path}");
        }
    }
}
