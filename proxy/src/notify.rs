//! What the service manager is told: ready, reloading, stopping, and that the workers still answer.
//!
//! systemd's protocol: datagrams of `NAME=value` lines to the socket that `NOTIFY_SOCKET` names. Without one, nothing
//! happens. A datagram that does not arrive is no reason to serve worse: errors are left alone.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

/// The way to the service manager, if there is one.
#[derive(Debug, Default)]
pub(crate) struct Notifier {
    socket: Option<UnixDatagram>,
    /// It restarts us when it hears nothing for so long.
    watchdog: Option<Duration>,
}

impl Notifier {
    /// As the environment says.
    pub(crate) fn from_environment() -> Self {
        let socket = std::env::var_os("NOTIFY_SOCKET");
        let number = |name| std::env::var(name).ok()?.parse::<u64>().ok();
        let other = number("WATCHDOG_PID").is_some_and(|pid| pid != u64::from(std::process::id()));
        let micros = number("WATCHDOG_USEC").filter(|micros| *micros > 0 && !other);
        Self::new(socket, micros.map(Duration::from_micros))
    }

    fn new(socket: Option<OsString>, watchdog: Option<Duration>) -> Self {
        let Some(name) = socket.filter(|name| !name.is_empty()) else {
            return Self::default();
        };
        match connect(&name) {
            Ok(socket) => Self {
                socket: Some(socket),
                watchdog,
            },
            Err(error) => {
                tracing::warn!(%error, ?name, "cannot reach the service manager");
                Self::default()
            }
        }
    }

    /// How often to say that we live: twice within the time that the service manager allows. Absent if it does not ask.
    pub(crate) fn alive_every(&self) -> Option<Duration> {
        self.watchdog.map(|limit| limit / 2)
    }

    pub(crate) fn ready(&self, status: &str) {
        self.send(&format!("READY=1\nSTATUS={status}"));
    }

    /// The configuration is being read again; [`Self::ready`] says that this is over.
    pub(crate) fn reloading(&self) {
        let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
        let micros = now.tv_sec * 1_000_000 + now.tv_nsec / 1_000;
        self.send(&format!("RELOADING=1\nMONOTONIC_USEC={micros}"));
    }

    pub(crate) fn stopping(&self) {
        self.send("STOPPING=1\nSTATUS=shutting down");
    }

    pub(crate) fn alive(&self) {
        self.send("WATCHDOG=1");
    }

    /// A line for people.
    pub(crate) fn status(&self, status: &str) {
        self.send(&format!("STATUS={status}"));
    }

    fn send(&self, message: &str) {
        if let Some(socket) = &self.socket {
            let _ = socket.send(message.as_bytes());
        }
    }
}

/// To a path, or to an abstract name, which begins with `@`.
fn connect(name: &OsStr) -> io::Result<UnixDatagram> {
    let address = match name.as_bytes() {
        [b'@', rest @ ..] => SocketAddr::from_abstract_name(rest)?,
        path => SocketAddr::from_pathname(OsStr::from_bytes(path))?,
    };
    let socket = UnixDatagram::unbound()?;
    socket.set_nonblocking(true)?;
    socket.connect_addr(&address)?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(manager: &UnixDatagram) -> String {
        let mut buffer = [0; 256];
        let bytes = manager.recv(&mut buffer).unwrap();
        String::from_utf8(buffer[..bytes].to_vec()).unwrap()
    }

    fn check(manager: &UnixDatagram, name: OsString) {
        let notifier = Notifier::new(Some(name), Some(Duration::from_secs(10)));
        assert_eq!(notifier.alive_every(), Some(Duration::from_secs(5)));
        notifier.ready("serving");
        assert_eq!(told(manager), "READY=1\nSTATUS=serving");
        notifier.reloading();
        let text = told(manager);
        let micros = text.strip_prefix("RELOADING=1\nMONOTONIC_USEC=").unwrap();
        assert!(micros.parse::<u64>().unwrap() > 0);
        notifier.alive();
        assert_eq!(told(manager), "WATCHDOG=1");
        notifier.status("idle");
        assert_eq!(told(manager), "STATUS=idle");
        notifier.stopping();
        assert!(told(manager).starts_with("STOPPING=1\n"));
    }

    #[test]
    fn the_manager_hears_over_a_path_and_an_abstract_name() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        check(&UnixDatagram::bind(&path).unwrap(), path.into());
        let name = format!("podline-notify-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name).unwrap();
        let manager = UnixDatagram::bind_addr(&address).unwrap();
        check(&manager, format!("@{name}").into());
    }

    #[test]
    fn without_a_manager_nothing_happens() {
        for socket in [None, Some(OsString::new()), Some("/no/such/socket".into())] {
            let notifier = Notifier::new(socket, Some(Duration::from_secs(1)));
            assert_eq!(notifier.alive_every(), None);
            notifier.ready("");
        }
    }
}
