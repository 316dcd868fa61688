//! UDP flows of one worker: whose datagrams go where. Pure: sockets are numbers, and time is an argument.
//!
//! A flow is all datagrams between one client and one address of a listener. Its first datagram picks a backend, as a
//! connection would; its later ones follow, until the backend is gone, fails or ails while others do not, or until
//! nothing was heard for the listener's idle timeout. Many flows share a socket towards the backends: [`sockets`] sees
//! to it that a reply still has one flow to belong to. [`wheel`] finds the silent without looking at the others.

pub mod key;
mod many;
mod report;
mod seat;
pub mod sockets;
pub mod wheel;

use super::SetId;
use super::affinity::Memory;
use super::backend::{BackendRuntime, ListenerCounters};
use super::network::{SnatReason, Source};
use super::pick::Cursor;
use super::set::{Asking, Client, Pick, Set};
use super::table::{ListenerRoute, RouteTable};
pub use key::{Dropped, FlowKey, Local, Seeded};
pub use many::is_of;
use seat::Leaves;
use sockets::{SocketNumber, Sockets};
use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use wheel::Wheel;

/// How long a flow's place at a backend stays empty when the flow left it while its backend may still have been
/// sending: a late reply must not reach another client. It still reaches the one that it is for.
pub const REST_MS: u64 = 30_000;
/// The same, of a socket that no other flow will ever have: only for the sake of late replies.
pub const OWN_REST_MS: u64 = 2_000;
/// A flow is live that heard something within so long.
pub const LIVE_MS: u64 = 1_000;

/// A listener as its flows see it.
#[derive(Clone, Debug)]
pub struct Door {
    /// Where its flows go.
    pub route: Arc<ListenerRoute>,
    /// What is counted of them.
    pub counters: Arc<ListenerCounters>,
}

impl Door {
    /// Counts datagrams that were not forwarded.
    pub fn count_dropped(&self, why: Dropped, datagrams: u64) {
        self.counters.dropped[why.place()].fetch_add(datagrams, Relaxed);
    }
}

/// One flow.
#[derive(Clone, Debug)]
pub struct Flow {
    /// Who it is.
    pub key: FlowKey,
    /// Whose it is.
    pub door: Door,
    /// When it began, in milliseconds of the workers' clock.
    pub opened_ms: u64,
    /// How many had begun then, itself included.
    born: u64,
    /// When something was last heard of either side.
    pub seen_ms: u64,
    /// Which source address its backend sees.
    pub source: Source,
    /// Bytes from the client.
    pub received: u64,
    /// Bytes to the client.
    pub sent: u64,
    /// The part of both that was reported.
    reported: (u64, u64),
    /// Datagrams either way that were not reported.
    unreported: (u32, u32),
    /// Its backend's number.
    seat: u32,
    /// Which socket its datagrams to the backend leave by.
    socket: SocketNumber,
    /// The backend has answered since it was picked.
    answered: bool,
    /// The backend could not be reached.
    failed: bool,
    /// It is in the list of those that have something to report.
    listed: bool,
}

/// A backend that has flows of this worker.
#[derive(Debug)]
struct Seat {
    runtime: Arc<BackendRuntime>,
    flows: u32,
    /// The version by which `keeps` was found.
    version: u64,
    keeps: bool,
}

/// What a decision goes by, beside the flows.
pub struct World<'a> {
    /// The version that the worker acts on.
    pub table: &'a RouteTable,
    /// Where the worker is in each set's rotation.
    pub cursors: &'a mut HashMap<SetId, Cursor>,
    /// For cursors that there are not yet.
    pub seed: u64,
    /// Which host each client is with.
    pub memory: &'a Memory,
    /// In milliseconds of the workers' clock.
    pub now_ms: u64,
    /// Opens a socket; false: none can be had.
    pub open: &'a mut dyn FnMut(SocketNumber) -> bool,
    /// Opens a socket that imitates a client, the first address, towards a backend, the second.
    pub imitate: &'a mut dyn FnMut(SocketNumber, SocketAddr, SocketAddr) -> Result<(), SnatReason>,
}

/// Where a datagram is to go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Way {
    /// Its flow.
    pub flow: u32,
    /// The socket that it leaves by.
    pub socket: SocketNumber,
    /// The backend's address.
    pub to: SocketAddr,
}

/// A flow that is over, for the log.
#[derive(Debug)]
pub struct Ended {
    /// What it was.
    pub flow: Flow,
    /// Whom it was with.
    pub backend: SocketAddr,
    /// Why it is over.
    pub why: &'static str,
}

/// All flows of one worker.
#[derive(Debug)]
pub struct Flows {
    slots: Vec<Slot>,
    free: Vec<u32>,
    by_key: HashMap<FlowKey, u32, Seeded>,
    seats: Vec<Option<Seat>>,
    free_seats: Vec<u32>,
    /// By where the backend lies in memory, which names it as long as the seat holds it.
    seat_of: HashMap<usize, u32, Seeded>,
    sockets: Sockets,
    wheel: Wheel,
    /// Flows with something to report.
    listed: Vec<u32>,
    /// The flow of the last datagram: the next one is often of the same.
    last: Option<(FlowKey, u32)>,
    /// How many ever began.
    begun: u64,
    most: usize,
    keeps_ended: bool,
    ended: Vec<Ended>,
}

#[derive(Debug)]
struct Slot {
    generation: u32,
    flow: Option<Flow>,
}

impl Flows {
    /// Room for `most` flows. Those that end are kept for [`Self::take_ended`] if `keeps_ended`.
    pub fn new(most: usize, seed: u64, keeps_ended: bool) -> Self {
        Self {
            slots: Vec::new(),
            free: Vec::new(),
            by_key: HashMap::with_hasher(Seeded(seed)),
            seats: Vec::new(),
            free_seats: Vec::new(),
            seat_of: HashMap::with_hasher(Seeded(seed)),
            sockets: Sockets::new(seed),
            wheel: Wheel::default(),
            listed: Vec::new(),
            last: None,
            begun: 0,
            most,
            keeps_ended,
            ended: Vec::new(),
        }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.by_key.len()
    }

    /// There are none.
    pub fn is_empty(&self) -> bool {
        self.by_key.is_empty()
    }

    /// One flow, as [`Way`] or [`Self::on_reply`] named it.
    pub fn get(&self, flow: u32) -> Option<&Flow> {
        self.slots.get(flow as usize)?.flow.as_ref()
    }

    fn flow_mut(&mut self, flow: u32) -> Option<&mut Flow> {
        self.slots.get_mut(flow as usize)?.flow.as_mut()
    }

    /// Whom a flow is with.
    pub fn backend(&self, flow: u32) -> Option<&Arc<BackendRuntime>> {
        let seat = self.get(flow)?.seat;
        self.seats.get(seat as usize)?.as_ref().map(|s| &s.runtime)
    }

    /// A datagram came from a client. `door`: who takes it, if it begins a flow; nobody at a listener that is gone.
    pub fn on_datagram(
        &mut self,
        key: &FlowKey,
        bytes: usize,
        door: Option<&Door>,
        world: &mut World<'_>,
    ) -> Result<Way, Dropped> {
        let known = match &self.last {
            Some((last, flow)) if last == key => Some(*flow),
            _ => self.by_key.get(key).copied(),
        };
        let id = match known {
            Some(id) => self.follow(id, world)?,
            None => self.begin(key, door.ok_or(Dropped::Closing)?, world)?,
        };
        self.last = Some((*key, id));
        let (flow, seat) = self.seated(id).ok_or(Dropped::NoBackend)?;
        flow.seen_ms = world.now_ms;
        flow.received += bytes as u64;
        flow.unreported.0 += 1;
        let way = Way {
            flow: id,
            socket: flow.socket,
            to: seat.runtime.key.address,
        };
        self.list(id);
        Ok(way)
    }

    /// A datagram came from `from` to a socket of ours: the flow that it answers, if it is one's answer.
    pub fn on_reply(
        &mut self,
        socket: SocketNumber,
        from: SocketAddr,
        bytes: usize,
        world: &World<'_>,
    ) -> Option<u32> {
        let Some(id) = self.sockets.flow(socket, from) else {
            return self.on_late_reply(socket, from, bytes, world.now_ms);
        };
        let (flow, seat) = self.seated(id)?;
        flow.seen_ms = world.now_ms;
        flow.sent += bytes as u64;
        flow.unreported.1 += 1;
        flow.failed = false;
        if !std::mem::replace(&mut flow.answered, true)
            && let Some(set) = world.table.set(seat.runtime.set)
        {
            set.remember(flow.key.client, &seat.runtime, world.memory, world.now_ms);
        }
        seat.runtime.count_success();
        self.list(id);
        Some(id)
    }

    /// A reply of a backend that its flow has left meanwhile: it says nothing of the one where the flow is now.
    fn on_late_reply(
        &mut self,
        socket: SocketNumber,
        from: SocketAddr,
        bytes: usize,
        now_ms: u64,
    ) -> Option<u32> {
        let former = self.sockets.former(socket, from)?;
        let flow = self.flow_mut(former.flow)?;
        if flow.born != former.born {
            return None;
        }
        flow.seen_ms = now_ms;
        flow.sent += bytes as u64;
        flow.unreported.1 += 1;
        self.list(former.flow);
        Some(former.flow)
    }

    /// What was sent to `to` did not arrive. A backend to tell of, if its set's passive check wants to know now.
    pub fn on_error(
        &mut self,
        socket: SocketNumber,
        to: SocketAddr,
        table: &RouteTable,
    ) -> Option<Arc<BackendRuntime>> {
        let id = self.sockets.flow(socket, to)?;
        let (flow, seat) = self.seated(id)?;
        if std::mem::replace(&mut flow.failed, true) {
            return None; // one failure, however many datagrams were under way
        }
        let check = table.set(seat.runtime.set)?.settings.passive_check;
        let tell = seat.runtime.count_failure(check);
        tell.then(|| Arc::clone(&seat.runtime))
    }

    fn seated(&mut self, id: u32) -> Option<(&mut Flow, &mut Seat)> {
        let flow = self.slots.get_mut(id as usize)?.flow.as_mut()?;
        let seat = self.seats.get_mut(flow.seat as usize)?.as_mut()?;
        Some((flow, seat))
    }

    /// A known flow's next datagram: it stays where it is if it can.
    fn follow(&mut self, id: u32, world: &mut World<'_>) -> Result<u32, Dropped> {
        let version = world.table.version;
        let Some((flow, seat)) = self.seated(id) else {
            return Err(Dropped::NoBackend);
        };
        if seat.version != version {
            seat.version = version;
            let backend = &seat.runtime;
            let found = world.table.set(backend.set);
            seat.keeps = found.is_some_and(|set| set.keeps(backend));
        }
        if seat.keeps && !flow.failed {
            return Ok(id);
        }
        self.move_on(id, world)
    }

    /// Finds another backend for a flow. One that failed will do if there is no other.
    fn move_on(&mut self, id: u32, world: &mut World<'_>) -> Result<u32, Dropped> {
        let Some((flow, seat)) = self.seated(id) else {
            return Err(Dropped::NoBackend);
        };
        let (client, route) = (flow.key.client, Arc::clone(&flow.door.route));
        let failed = flow.failed.then(|| Arc::clone(&seat.runtime));
        let keeps = seat.keeps;
        let tried: Vec<_> = failed.into_iter().collect();
        let picked = pick(&route, client, &tried, world);
        let Some(backend) = picked else {
            if keeps {
                if let Some(flow) = self.flow_mut(id) {
                    flow.failed = false;
                }
                return Ok(id);
            }
            if let Some(flow) = self.get(id) {
                flow.door.counters.refused.fetch_add(1, Relaxed);
            }
            self.end(id, "no backend", false);
            return Err(Dropped::NoBackend);
        };
        self.leave_seat(id, world.now_ms, Leaves::Moves);
        self.settle(id, backend, tried, world)?;
        Ok(id)
    }

    /// A client's first datagram.
    fn begin(&mut self, key: &FlowKey, door: &Door, world: &mut World<'_>) -> Result<u32, Dropped> {
        if self.len() >= self.most {
            return Err(Dropped::TooManyFlows);
        }
        admit(door, key.client, world.now_ms)?;
        let Some(backend) = pick(&door.route, key.client, &[], world) else {
            door.counters.refused.fetch_add(1, Relaxed);
            leave(door, key.client);
            return Err(Dropped::NoBackend);
        };
        self.begun += 1;
        let id = self.insert(Flow {
            key: *key,
            door: door.clone(),
            opened_ms: world.now_ms,
            born: self.begun,
            seen_ms: world.now_ms,
            source: Source::Snat(None),
            received: 0,
            sent: 0,
            reported: (0, 0),
            unreported: (0, 0),
            seat: NOWHERE,
            socket: SocketNumber::default(),
            answered: false,
            failed: false,
            listed: false,
        });
        self.settle(id, backend, Vec::new(), world)?;
        let due_ms = world.now_ms + idle_ms(&door.route);
        self.wheel.put(self.ticket(id), due_ms);
        Ok(id)
    }

    fn insert(&mut self, flow: Flow) -> u32 {
        let key = flow.key;
        let id = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot {
                generation: 0,
                flow: None,
            });
            u32::try_from(self.slots.len() - 1).expect("a worker's flows are limited")
        });
        self.slots[id as usize].flow = Some(flow);
        self.by_key.insert(key, id);
        id
    }

    /// Ends a flow. Unless `is_silent`, its place rests: counted from when something was last heard.
    pub fn end(&mut self, id: u32, why: &'static str, is_silent: bool) {
        let Some(now_ms) = self.get(id).map(|flow| flow.seen_ms) else {
            return;
        };
        let backend = self.backend(id).map(|backend| backend.key.address);
        let leaves = if is_silent {
            Leaves::Silent
        } else {
            Leaves::Ended
        };
        self.leave_seat(id, now_ms, leaves);
        self.remove(id, backend, why);
    }

    /// Takes out a flow that has no backend.
    fn forget(&mut self, id: u32, why: &'static str) {
        self.remove(id, None, why);
    }

    fn remove(&mut self, id: u32, backend: Option<SocketAddr>, why: &'static str) {
        let Some(slot) = self.slots.get_mut(id as usize) else {
            return;
        };
        let Some(flow) = slot.flow.take() else {
            return;
        };
        slot.generation = slot.generation.wrapping_add(1);
        self.free.push(id);
        self.by_key.remove(&flow.key);
        self.last = None;
        leave(&flow.door, flow.key.client);
        if let (true, Some(backend)) = (self.keeps_ended, backend) {
            self.ended.push(Ended { flow, backend, why });
        }
    }

    /// The flows that ended since the last call.
    pub fn take_ended(&mut self) -> Vec<Ended> {
        std::mem::take(&mut self.ended)
    }

    fn ticket(&self, id: u32) -> (u32, u32) {
        (id, self.slots[id as usize].generation)
    }

    /// Ends the flows that were silent for too long, and lets sockets rest no longer than they must.
    pub fn on_tick(&mut self, now_ms: u64) {
        let mut due = Vec::new();
        self.wheel.due(now_ms, &mut due);
        for (id, generation) in due {
            let Some(slot) = self.slots.get(id as usize) else {
                continue;
            };
            let Some(flow) = slot.flow.as_ref().filter(|_| slot.generation == generation) else {
                continue;
            };
            let due_ms = flow.seen_ms + idle_ms(&flow.door.route);
            if due_ms <= now_ms {
                self.end(id, "idle", true);
            } else {
                self.wheel.put((id, generation), due_ms);
            }
        }
        self.sockets.end_rests(now_ms);
    }

    /// Sockets may have lost their last flow.
    pub fn has_emptied(&self) -> bool {
        self.sockets.has_emptied()
    }

    /// Takes the numbers of sockets that have no flow; they are to be closed.
    pub fn take_empty_sockets(&mut self) -> Vec<SocketNumber> {
        self.sockets.take_empty()
    }

    /// How many began so far.
    pub fn begun(&self) -> u64 {
        self.begun
    }
}

/// No seat's number.
const NOWHERE: u32 = u32::MAX;

fn idle_ms(route: &ListenerRoute) -> u64 {
    u64::try_from(route.idle_timeout.as_millis()).unwrap_or(u64::MAX / 2)
}

/// Counts a flow as its listener's, unless it exceeds a limit.
fn admit(door: &Door, client: SocketAddr, now_ms: u64) -> Result<(), Dropped> {
    let counters = &door.counters;
    match &door.route.limiter {
        None => _ = counters.active.fetch_add(1, Relaxed),
        Some(limiter) => {
            if let Err(shed) = limiter.admit(client, &counters.active, now_ms) {
                return Err(Dropped::Limit(shed));
            }
        }
    }
    counters.accepted.fetch_add(1, Relaxed);
    Ok(())
}

/// Takes a flow off its listener's count, and off its client's.
fn leave(door: &Door, client: SocketAddr) {
    door.counters.active.fetch_sub(1, Relaxed);
    if let Some(limiter) = &door.route.limiter {
        limiter.release(client);
    }
}

/// A backend for a flow, as the table has it now. Not one of `tried`.
fn pick(
    route: &ListenerRoute,
    client: SocketAddr,
    tried: &[Arc<BackendRuntime>],
    world: &mut World<'_>,
) -> Option<Arc<BackendRuntime>> {
    let now = world.table.listener(route.id).map_or(route, |now| &**now);
    let set: &Arc<Set> = world.table.set(now.set?)?;
    let seed = world.seed;
    let cursor = world.cursors.entry(set.id);
    let cursor = cursor.or_insert_with(|| Cursor::seeded(seed));
    let asking = Asking {
        client: Client {
            address: client,
            listener: route.name.as_str(),
        },
        tried,
        memory: world.memory,
        remembers: false,
        now_ms: world.now_ms,
    };
    match set.pick(cursor, &asking) {
        Pick::Backend(backend) => Some(backend),
        // Datagrams do not wait: who sent one asks again.
        Pick::Wait | Pick::Empty => None,
    }
}

#[cfg(test)]
mod tests;
