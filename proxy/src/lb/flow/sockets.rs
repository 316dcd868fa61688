//! Which socket a flow's datagrams leave by: the first that no other flow to the same backend has, so that few sockets
//! serve many flows, and socket and backend together tell whose a reply is.
//!
//! Sockets are numbers here; whoever has the real ones opens and closes them as told.

use super::Seeded;
use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;

/// What sockets are for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Row {
    /// Flows to IPv4 backends, which share them.
    #[default]
    V4,
    /// Flows to IPv6 backends, which share them.
    V6,
    /// One flow each, whose client they imitate.
    Own,
}

/// Which socket.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SocketNumber {
    /// What it is for.
    pub row: Row,
    /// Its place in the row, from 0 on.
    pub number: u32,
}

/// Where a flow is: no other one is at the same place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Place {
    /// Its socket.
    pub socket: SocketNumber,
    /// Its backend.
    pub address: SocketAddr,
}

/// Who was at a place that rests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Former {
    /// The flow's number, which may be another flow's by now.
    pub flow: u32,
    /// How many flows had begun with it: no other one's number.
    pub born: u64,
}

/// Nobody is there.
const FREE: u32 = u32::MAX;
/// Nobody may be there for a while.
const RESTING: u32 = u32::MAX - 1;

/// A backend's address, and which flow has which socket to it.
#[derive(Debug, Default)]
struct Peer {
    flows: Vec<u32>,
    /// No socket before this one is free.
    first_free: u32,
    /// Places that are not free.
    taken: u32,
}

/// A socket that may be open.
#[derive(Clone, Copy, Debug, Default)]
struct Socket {
    is_open: bool,
    /// Places at it whose replies, also late ones, are received.
    taken: u32,
}

/// All of a worker.
#[derive(Debug)]
pub struct Sockets {
    peers: HashMap<SocketAddr, Peer, Seeded>,
    /// Those that flows share.
    rows: [Vec<Socket>; 2],
    /// Flows that have a socket of their own, by its number.
    own: Vec<u32>,
    own_free: Vec<u32>,
    /// In the order of their ends.
    resting: VecDeque<(u64, Place)>,
    /// The same, of sockets that one flow had.
    resting_own: VecDeque<(u64, Place)>,
    /// Who was there.
    former: HashMap<Place, Former, Seeded>,
    /// Sockets that lost their last flow, and may have got another one since.
    emptied: Vec<SocketNumber>,
}

impl Sockets {
    /// None yet.
    pub fn new(seed: u64) -> Self {
        Self {
            peers: HashMap::with_hasher(Seeded(seed)),
            rows: [Vec::new(), Vec::new()],
            own: Vec::new(),
            own_free: Vec::new(),
            resting: VecDeque::new(),
            resting_own: VecDeque::new(),
            former: HashMap::with_hasher(Seeded(seed)),
            emptied: Vec::new(),
        }
    }

    /// The flow at a place.
    pub fn flow(&self, socket: SocketNumber, address: SocketAddr) -> Option<u32> {
        let number = socket.number as usize;
        let flow = if socket.row == Row::Own {
            *self.own.get(number)?
        } else {
            *self.peers.get(&address)?.flows.get(number)?
        };
        let is_its = socket.row == Row::Own || socket.row == row_of(address);
        (is_its && flow < RESTING).then_some(flow)
    }

    /// Who was at a place that rests.
    pub fn former(&self, socket: SocketNumber, address: SocketAddr) -> Option<Former> {
        self.former.get(&Place { socket, address }).copied()
    }

    /// Gives a flow a socket of its own, if `open` can make it.
    pub fn take_own<E>(
        &mut self,
        flow: u32,
        open: impl FnOnce(SocketNumber) -> Result<(), E>,
    ) -> Result<SocketNumber, E> {
        let next = u32::try_from(self.own.len()).unwrap_or(FREE);
        let number = self.own_free.last().copied().unwrap_or(next);
        let socket = SocketNumber {
            row: Row::Own,
            number,
        };
        open(socket)?;
        if self.own_free.pop().is_none() {
            self.own.push(FREE);
        }
        self.own[number as usize] = flow;
        Ok(socket)
    }

    /// Puts a flow at the first free place to `address`. Where that needs a socket that cannot be opened, at the first
    /// one whose socket is open; nowhere if there is none.
    pub fn take(
        &mut self,
        address: SocketAddr,
        flow: u32,
        open: &mut dyn FnMut(SocketNumber) -> bool,
    ) -> Option<SocketNumber> {
        let version = row_of(address);
        let named = |number| SocketNumber {
            row: version,
            number,
        };
        let row = &mut self.rows[usize::from(address.is_ipv6())];
        let peer = self.peers.entry(address).or_default();
        let first = peer.next_free(peer.first_free);
        peer.first_free = first;
        let is_open =
            |row: &[Socket], number: u32| row.get(number as usize).is_some_and(|s| s.is_open);
        let mut number = first;
        if !is_open(row, number) && !open(named(number)) {
            let end = u32::try_from(row.len()).unwrap_or(FREE);
            while number < end && !is_open(row, number) {
                number = peer.next_free(number + 1);
            }
            if number >= end {
                if peer.taken == 0 {
                    self.peers.remove(&address);
                }
                return None;
            }
        }
        peer.put(number, flow);
        if row.len() <= number as usize {
            row.resize(number as usize + 1, Socket::default());
        }
        let socket = &mut row[number as usize];
        socket.is_open = true;
        socket.taken += 1;
        Some(named(number))
    }

    /// Takes the flow away from a place, which stays empty until the given time, if there is one. With `former` late
    /// replies are still received meanwhile.
    pub fn leave(&mut self, place: Place, rest_until_ms: Option<u64>, former: Option<Former>) {
        let Some(until_ms) = rest_until_ms else {
            self.release(place);
            self.free(place);
            return;
        };
        match former {
            Some(former) => _ = self.former.insert(place, former),
            None => self.release(place),
        }
        if place.socket.row == Row::Own {
            if former.is_some() {
                self.own[place.socket.number as usize] = RESTING;
                self.resting_own.push_back((until_ms, place));
            }
            return;
        }
        if let Some(peer) = self.peers.get_mut(&place.address) {
            peer.flows[place.socket.number as usize] = RESTING;
        }
        self.resting.push_back((until_ms, place));
    }

    /// Nothing is received at a place any more.
    fn release(&mut self, place: Place) {
        let number = place.socket.number as usize;
        if place.socket.row == Row::Own {
            self.own[number] = FREE;
            self.emptied.push(place.socket);
            return;
        }
        let socket = &mut self.rows[usize::from(place.address.is_ipv6())][number];
        socket.taken -= 1;
        if socket.taken == 0 {
            self.emptied.push(place.socket);
        }
    }

    /// Others may have a place. A socket that one flow had is no place for others.
    fn free(&mut self, place: Place) {
        if place.socket.row == Row::Own {
            return;
        }
        let Some(peer) = self.peers.get_mut(&place.address) else {
            return;
        };
        let number = place.socket.number;
        peer.flows[number as usize] = FREE;
        peer.first_free = peer.first_free.min(number);
        peer.taken -= 1;
        if peer.taken == 0 {
            self.peers.remove(&place.address);
        }
    }

    /// Frees the places that have rested long enough.
    pub fn end_rests(&mut self, now_ms: u64) {
        for is_own in [false, true] {
            while let Some(place) = self.rested(is_own, now_ms) {
                if self.former.remove(&place).is_some() {
                    self.release(place);
                }
                self.free(place);
            }
        }
    }

    fn rested(&mut self, is_own: bool, now_ms: u64) -> Option<Place> {
        let resting = if is_own {
            &mut self.resting_own
        } else {
            &mut self.resting
        };
        let is_over = resting.front().is_some_and(|(until, _)| *until <= now_ms);
        is_over
            .then(|| resting.pop_front())
            .flatten()
            .map(|(_, place)| place)
    }

    /// Some may have lost their last flow.
    pub fn has_emptied(&self) -> bool {
        !self.emptied.is_empty()
    }

    /// Takes the open sockets that have no flow.
    pub fn take_empty(&mut self) -> Vec<SocketNumber> {
        let mut emptied = std::mem::take(&mut self.emptied);
        emptied.retain(|socket| {
            let row = match socket.row {
                Row::V4 => &mut self.rows[0],
                Row::V6 => &mut self.rows[1],
                Row::Own => {
                    self.own_free.push(socket.number);
                    return true;
                }
            };
            let socket = &mut row[socket.number as usize];
            let is_spare = socket.is_open && socket.taken == 0;
            socket.is_open &= !is_spare;
            is_spare
        });
        emptied
    }
}

fn row_of(address: SocketAddr) -> Row {
    if address.is_ipv6() { Row::V6 } else { Row::V4 }
}

impl Peer {
    fn next_free(&self, from: u32) -> u32 {
        let behind = self.flows.iter().skip(from as usize);
        let taken = behind.take_while(|flow| **flow != FREE).count();
        from + u32::try_from(taken).unwrap_or(0)
    }

    fn put(&mut self, number: u32, flow: u32) {
        if self.flows.len() <= number as usize {
            self.flows.resize(number as usize + 1, FREE);
        }
        self.flows[number as usize] = flow;
        self.taken += 1;
    }
}
