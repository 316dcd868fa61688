//! A packet socket on one link, for what is said there about addresses of one IP version.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use rustix::io::Errno;
use tokio::net::UdpSocket;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::{Heard, frames};
use crate::host::Family;
use crate::net::packet::{self, Frames};

/// No frame that says something of interest is longer.
const ROOM: usize = 256;
/// After an error, as when the link is down.
const PAUSE: Duration = Duration::from_millis(100);

/// On which link what was said about which address.
pub(super) type Overheard = (u32, IpAddr, Heard);

/// Hears, and speaks. Hears no longer when it is dropped.
#[derive(Debug)]
pub(super) struct Ear {
    /// A packet socket; the runtime knows none by that name, and waits for this one as for any that has datagrams.
    socket: Arc<UdpSocket>,
    hearing: JoinHandle<()>,
}

impl Ear {
    /// What does not fit into `heard` is lost, as on any link.
    ///
    /// # Errors
    /// `PERM` without `CAP_NET_RAW`; else the link is not there, or down.
    pub(super) fn open(
        link: u32,
        family: Family,
        heard: mpsc::Sender<Overheard>,
    ) -> Result<Self, Errno> {
        let frames = match family {
            Family::V4 => Frames::Arp,
            Family::V6 => Frames::Neighbours,
        };
        let socket = packet::open(link, frames)?;
        let socket = UdpSocket::from_std(socket.into()).map_err(|_| Errno::NOMEM)?;
        let socket = Arc::new(socket);
        let hearing = tokio::spawn(hear(Arc::clone(&socket), link, heard));
        Ok(Self { socket, hearing })
    }

    /// Says a frame on the link. What the link cannot take now is lost.
    pub(super) fn say(&self, frame: &[u8]) {
        if let Err(error) = packet::send(&*self.socket, frame) {
            tracing::debug!(%error, "cannot say something about an address on its link");
        }
    }
}

impl Drop for Ear {
    fn drop(&mut self) {
        self.hearing.abort();
    }
}

async fn hear(socket: Arc<UdpSocket>, link: u32, heard: mpsc::Sender<Overheard>) {
    let mut room = [0; ROOM];
    loop {
        // Longer frames are cut, and say nothing of interest.
        let Ok(len) = socket.recv(&mut room).await else {
            tokio::time::sleep(PAUSE).await;
            continue;
        };
        if let Some((address, said)) = frames::read(&room[..len]) {
            let _ = heard.try_send((link, address, said));
        }
    }
}
