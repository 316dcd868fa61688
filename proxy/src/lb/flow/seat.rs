//! How a flow comes to a backend and leaves it: the backend's count, the source address, the socket.

use super::sockets::{Former, Place, Row, SocketNumber};
use super::{Dropped, Flows, NOWHERE, OWN_REST_MS, REST_MS, Seat, World, pick};
use crate::lb::backend::BackendRuntime;
use crate::lb::network::{SnatReason, Source};
use crate::lb::table::RouteTable;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

/// Why a flow cannot be at a backend.
enum NoPlace {
    /// No socket can be had.
    Socket,
    /// It would have to imitate its client, and cannot.
    Impossible(SnatReason),
}

/// How a flow leaves its backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Leaves {
    /// The backend has sent nothing for long, and no more is expected.
    Silent,
    /// The flow is over; the backend may still be sending.
    Ended,
    /// The flow goes on elsewhere; what the backend is still sending is the flow's.
    Moves,
}

impl Flows {
    /// Puts a flow at a backend; where it is impossible for this client alone, at another, as often as the set allows.
    /// Without success the flow is over.
    pub(super) fn settle(
        &mut self,
        id: u32,
        mut backend: Arc<BackendRuntime>,
        mut tried: Vec<Arc<BackendRuntime>>,
        world: &mut World<'_>,
    ) -> Result<(), Dropped> {
        let Some(flow) = self.get(id) else {
            return Err(Dropped::NoBackend);
        };
        let (door, client) = (flow.door.clone(), flow.key.client);
        let found = world.table.set(backend.set);
        let retries = found.map_or(0, |set| usize::from(set.settings.connect_retries));
        loop {
            let reason = match self.take_seat(id, &backend, world) {
                Ok(()) => return Ok(()),
                Err(NoPlace::Socket) => {
                    self.forget(id, "no socket");
                    return Err(Dropped::NoSocket);
                }
                Err(NoPlace::Impossible(reason)) => reason,
            };
            tried.push(backend);
            let may_go_on = tried.len() <= retries;
            let next = may_go_on.then(|| pick(&door.route, client, &tried, world));
            let Some(next) = next.flatten() else {
                door.counters.snat[reason as usize].fetch_add(1, Relaxed);
                door.counters.refused.fetch_add(1, Relaxed);
                self.forget(id, "no backend");
                return Err(Dropped::NoBackend);
            };
            backend = next;
        }
    }

    /// Puts a flow at a backend and at a socket that no other flow to the same address has.
    fn take_seat(
        &mut self,
        id: u32,
        backend: &Arc<BackendRuntime>,
        world: &mut World<'_>,
    ) -> Result<(), NoPlace> {
        let (socket, source) = self.take_socket(id, backend, world)?;
        let name = Arc::as_ptr(backend).addr();
        let number = match self.seat_of.get(&name) {
            Some(number) => *number,
            None => self.new_seat(backend, world.table),
        };
        if let Some(seat) = &mut self.seats[number as usize] {
            seat.flows += 1;
        }
        backend.active.fetch_add(1, Relaxed);
        backend.count_connection(world.now_ms);
        if let Some(flow) = self.flow_mut(id) {
            (flow.seat, flow.socket, flow.source) = (number, socket, source);
            (flow.answered, flow.failed) = (false, false);
        }
        Ok(())
    }

    /// A socket for a flow to `backend`, which imitates its client or not, as is wanted and can be.
    fn take_socket(
        &mut self,
        id: u32,
        backend: &BackendRuntime,
        world: &mut World<'_>,
    ) -> Result<(SocketNumber, Source), NoPlace> {
        let Some(flow) = self.get(id) else {
            return Err(NoPlace::Socket);
        };
        let (client, address) = (flow.key.client, backend.key.address);
        let counters = Arc::clone(&flow.door.counters);
        let wanted = flow.door.route.source_address;
        let mut source = world.table.network.source(wanted, client.ip(), backend);
        if source == Source::Transparent {
            let open = |number| (world.imitate)(number, client, address);
            match self.sockets.take_own(id, open) {
                Ok(socket) => {
                    counters.transparent.fetch_add(1, Relaxed);
                    return Ok((socket, source));
                }
                Err(reason) => source = reason.meets(wanted),
            }
        }
        if let Source::Impossible(reason) = source {
            return Err(NoPlace::Impossible(reason));
        }
        let socket = self.sockets.take(address, id, &mut *world.open);
        let socket = socket.ok_or(NoPlace::Socket)?;
        if let Source::Snat(Some(reason)) = source {
            counters.snat[reason as usize].fetch_add(1, Relaxed);
        }
        Ok((socket, source))
    }

    fn new_seat(&mut self, backend: &Arc<BackendRuntime>, table: &RouteTable) -> u32 {
        let number = self.free_seats.pop().unwrap_or_else(|| {
            self.seats.push(None);
            u32::try_from(self.seats.len() - 1).expect("there are no more of them than flows")
        });
        self.seats[number as usize] = Some(Seat {
            runtime: Arc::clone(backend),
            flows: 0,
            version: table.version,
            keeps: true,
        });
        self.seat_of.insert(Arc::as_ptr(backend).addr(), number);
        number
    }

    /// Takes a flow from its backend.
    pub(super) fn leave_seat(&mut self, id: u32, now_ms: u64, leaves: Leaves) {
        self.report(id);
        let Some((flow, seat)) = self.seated(id) else {
            return;
        };
        let (number, socket) = (flow.seat, flow.socket);
        let former = Former {
            flow: id,
            born: flow.born,
        };
        flow.seat = NOWHERE;
        seat.flows -= 1;
        seat.runtime.active.fetch_sub(1, Relaxed);
        let address = seat.runtime.key.address;
        if seat.flows == 0 {
            let name = Arc::as_ptr(&seat.runtime).addr();
            self.seat_of.remove(&name);
            self.seats[number as usize] = None;
            self.free_seats.push(number);
        }
        let lasts_ms = match socket.row {
            Row::Own => OWN_REST_MS,
            Row::V4 | Row::V6 => REST_MS,
        };
        let rest_until_ms = (leaves != Leaves::Silent).then_some(now_ms + lasts_ms);
        let former = (leaves == Leaves::Moves).then_some(former);
        let place = Place { socket, address };
        self.sockets.leave(place, rest_until_ms, former);
    }
}
