//! Sockets that outlive their address: it goes to another host, and what belongs to them is sent on from there.

use rustix::io::Errno;

use super::Worker;
use super::connection::{Connection, Phase};
use crate::lb::ListenerId;
use crate::net::socket;

impl Worker {
    /// Makes the sockets of a listener, and of its clients, ones that need no address of this host. What the listener lets
    /// in from now on is such a one, too.
    pub(super) fn detach(&mut self, id: ListenerId, ipv6: bool) {
        let listening = self.sockets_of(id).chain(self.udp_sockets_of(id));
        let mut outcome = Ok(());
        for socket in listening {
            outcome = outcome.and(socket::transparent(socket, ipv6));
        }
        for key in self.connections.keys() {
            let connection = self.connections.get_mut(key);
            if let Some(connection) = connection.filter(|connection| connection.route.id == id) {
                outcome = outcome.and(connection.detach(ipv6));
            }
        }
        if let Err(error) = outcome {
            tracing::warn!(%error, "connections end with their address, which goes to another proxy");
        }
    }
}

impl Connection {
    fn detach(&self, ipv6: bool) -> Result<(), Errno> {
        match &self.phase {
            Phase::Announcing(client)
            | Phase::Securing(client)
            | Phase::Waiting(client)
            | Phase::Dialing { client, .. } => client.detach(ipv6),
            Phase::Forwarding(forwarding) => forwarding.client().detach(ipv6),
            Phase::Http(talk) => talk.client.detach(ipv6),
            Phase::Http2(multiplex) => multiplex.detach(ipv6),
            Phase::Moving => Ok(()),
        }
    }
}
