//! Which ports are open, as the kernel tells it in `/proc/net/tcp` and its like. Pure.

use std::collections::BTreeSet;

/// A transport's table, and the state of a socket in it that waits for anybody.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Transport {
    /// `tcp` and `tcp6`.
    Tcp,
    /// `udp` and `udp6`.
    Udp,
}

impl Transport {
    /// The tables' names.
    pub(super) const fn tables(self) -> [&'static str; 2] {
        match self {
            Self::Tcp => ["tcp", "tcp6"],
            Self::Udp => ["udp", "udp6"],
        }
    }

    const fn waiting(self) -> &'static str {
        match self {
            Self::Tcp => "0A", // LISTEN
            Self::Udp => "07", // bound, and connected to nobody
        }
    }
}

/// The ports at which sockets wait for anybody, by one of the transport's tables.
pub(super) fn open_ports(table: &str, transport: Transport) -> BTreeSet<u16> {
    let open = table.lines().filter_map(|line| {
        let mut words = line.split_whitespace().skip(1);
        let (local, state) = (words.next()?, words.nth(1)?);
        let (_, port) = local.rsplit_once(':')?;
        let port = u16::from_str_radix(port, 16).ok()?;
        (state == transport.waiting()).then_some(port)
    });
    open.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TCP: &str = "\
  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 6400580A:1F40 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 81 1 0 100 0 0 10 0
   1: 6400580A:1F42 0100580A:9C40 01 00000000:00000000 00:00000000 00000000     0        0 82 1 0 20 4 30 10 -1
";
    const UDP6: &str = "\
  sl  local_address                         remote_address                        st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode ref pointer drops
  411: 00000000000000000000000000000000:1F41 00000000000000000000000000000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 83 2 0 0
";

    #[test]
    fn what_waits_is_told_from_what_is_connected() {
        // Port 8002 is one of a connection, and so is its client's own port, 40,000.
        assert_eq!(open_ports(TCP, Transport::Tcp), BTreeSet::from([8000]));
    }

    #[test]
    fn datagrams_have_a_table_of_their_own() {
        assert_eq!(open_ports(UDP6, Transport::Udp), BTreeSet::from([8001]));
        assert_eq!(open_ports(UDP6, Transport::Tcp), BTreeSet::new());
        assert_eq!(open_ports("", Transport::Udp), BTreeSet::new());
    }
}
