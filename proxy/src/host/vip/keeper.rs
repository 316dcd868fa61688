//! Carries out what the machines of all virtual addresses decide, and tells the state how they do.
//!
//! One task; its calls to the kernel are answered at once.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use podline_api::{VirtualAddress, v1};
use rustix::io::Errno;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until, timeout};

use super::ear::{Ear, Overheard};
use super::frames;
use super::handover::{Handover, Leg};
use super::kernel::Kernel;
use super::machine::{Action, Machine, Wanted};
use super::place::Place;
use super::telling::log;
use crate::host::Family;
use crate::host::links::Link;
use crate::host::prover::Prover;
use crate::state::State;

/// How often links and their addresses are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How long the end of the process waits for others to take what it holds.
const LEAVE_WITHIN: Duration = Duration::from_secs(1);
/// What was heard and not taken in yet.
const HEARD: usize = 1_024;
/// Nothing is due.
const IDLE: Duration = Duration::from_hours(1);

/// What becomes of the connections of a process that is about to end, when their address goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// They end, too.
    Cut,
    /// They live on: their sockets need no address, and the next holder sends on what is for them.
    Detach,
}

/// Holds virtual addresses, until it is told to leave them.
#[derive(Debug)]
pub(crate) struct Keeping {
    state: State,
    /// How many are held.
    held: watch::Receiver<usize>,
    /// The process is about to end: what is given up is given up for good.
    end: Arc<OnceLock<End>>,
    stop: oneshot::Sender<()>,
    task: JoinHandle<Handover>,
}

impl Keeping {
    /// Begins.
    pub(crate) fn start(state: State) -> Self {
        let (count, held) = watch::channel(0);
        let (stop, stopped) = oneshot::channel();
        let keeper = Keeper::new(state.clone(), count);
        Self {
            state,
            held,
            end: Arc::clone(&keeper.end),
            stop,
            task: tokio::spawn(keeper.run(stopped)),
        }
    }

    /// Has others take over, as far as there are any, and takes from the links what nobody took. Connections live on; what
    /// is answered is to be ended after them.
    pub(crate) async fn leave(mut self, prover: &Prover) -> Option<Handover> {
        if *self.held.borrow() > 0 {
            self.detach(prover).await;
        }
        // Whoever decides who is next may be just about to connect.
        self.state.say_leaving(LEAVE_WITHIN);
        // In time or not: it ends.
        let _ = timeout(LEAVE_WITHIN, self.held.wait_for(|held| *held == 0)).await;
        let _ = self.stop.send(());
        let ended = self.task.await;
        ended
            .inspect_err(|error| tracing::error!(%error, "the keeper of virtual addresses broke"))
            .ok()
    }

    /// Prepares all connections for the loss of their address, those included that are being made just now.
    async fn detach(&self, prover: &Prover) {
        let end = match prover.deliver().await {
            Ok(()) => End::Detach,
            Err(why) => {
                tracing::warn!(
                    why,
                    "connections end with their addresses, which go to other proxies"
                );
                End::Cut
            }
        };
        let _ = self.end.set(end);
        if end == End::Detach {
            for ip in self.state.addresses_wanted().into_keys() {
                self.state.detach_at(ip, false).await;
            }
        }
    }
}

struct Keeper {
    state: State,
    count: watch::Sender<usize>,
    kernel: Kernel,
    entries: BTreeMap<IpAddr, Entry>,
    ears: BTreeMap<(u32, Family), Ear>,
    heard: (mpsc::Sender<Overheard>, mpsc::Receiver<Overheard>),
    /// What is about to be given up, and where it is.
    leaving: Vec<(IpAddr, Option<Place>)>,
    /// What is sent on to those who had addresses before.
    handover: Handover,
    end: Arc<OnceLock<End>>,
    started: Instant,
}

/// One address.
pub(super) struct Entry {
    pub(super) wanted: VirtualAddress,
    pub(super) machine: Machine,
    pub(super) place: Option<Place>,
    /// What was said of it last.
    pub(super) told: Option<v1::AddressStatus>,
}

impl Keeper {
    fn new(state: State, count: watch::Sender<usize>) -> Self {
        Self {
            state,
            count,
            kernel: Kernel::default(),
            entries: BTreeMap::new(),
            ears: BTreeMap::new(),
            heard: mpsc::channel(HEARD),
            leaving: Vec::new(),
            handover: Handover::default(),
            end: Arc::default(),
            started: Instant::now(),
        }
    }

    /// Works until it is to stop; then it gives up all that it holds.
    async fn run(mut self, mut stop: oneshot::Receiver<()>) -> Handover {
        let mut look = interval(LOOK_EVERY);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        self.follow();
        loop {
            let due = self.tick();
            self.tell();
            tokio::select! {
                _ = &mut stop => break,
                () = self.state.addresses_changed() => self.follow(),
                Some((link, ip, heard)) = self.heard.1.recv() => self.hear(link, ip, heard),
                _ = look.tick(), if !self.entries.is_empty() => self.look(),
                () = sleep_until(due) => {}
            }
            self.give_up().await;
        }
        for (ip, entry) in &self.entries {
            if entry.machine.is_holding() {
                self.leaving.push((*ip, entry.place.clone()));
                tracing::info!(%ip, "a virtual address is given up");
            }
        }
        self.give_up().await;
        self.count.send_replace(0);
        self.handover
    }

    /// Takes addresses from their links. Before that their connections are cut or made to do without: the kernel sends
    /// nothing from an address that is not here, so a client that waits for an answer would wait in vain.
    async fn give_up(&mut self) {
        for (ip, place) in std::mem::take(&mut self.leaving) {
            let end = self.end.get();
            match end {
                Some(End::Detach) => self.state.detach_at(ip, true).await,
                Some(End::Cut) | None => self.state.cut_at(ip, end.is_some()).await,
            }
            self.kernel.remove(place.as_ref(), ip);
        }
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// Learns what is wanted.
    fn follow(&mut self) {
        let wanted = self.state.addresses_wanted();
        let is_same = wanted.len() == self.entries.len()
            && wanted
                .values()
                .eq(self.entries.values().map(|entry| &entry.wanted));
        if is_same {
            return;
        }
        self.look();
        let is_gone = |ip: &IpAddr, _: &mut Entry| !wanted.contains_key(ip);
        let gone: Vec<_> = self.entries.extract_if(.., is_gone).collect();
        for (ip, entry) in gone {
            if entry.machine.is_holding() {
                self.leaving.push((ip, entry.place));
            }
        }
        // First, so that nothing arrives before it is known where it belongs.
        let mut legs = legs(&wanted, &mut self.kernel);
        if self.end.get().is_some() {
            // What it gives up now comes to it all the same, for those that it let in and for those before.
            legs.extend(self.handover.legs());
        }
        self.handover.keep(legs);
        for (ip, wanted) in wanted {
            let is_new = !self.entries.contains_key(&ip);
            let mut entry = self.entries.remove(&ip).unwrap_or_else(|| Entry {
                wanted: VirtualAddress::standby(ip),
                machine: Machine::new(),
                place: None,
                told: None,
            });
            if entry.wanted.interface != wanted.interface && entry.place.is_some() {
                self.kernel.remove(entry.place.as_ref(), ip);
                (entry.place, entry.machine) = (None, Machine::new());
            }
            entry.wanted = wanted;
            let told = Wanted {
                held: entry.wanted.held,
                epoch: entry.wanted.epoch,
                take_over: entry.wanted.take_over,
            };
            if is_new || entry.machine.wanted() != told {
                let is_ours = self.kernel.is_ours(ip);
                let actions = entry.machine.want(told, is_ours, self.now_ms());
                self.act(&mut entry, actions);
            }
            self.entries.insert(ip, entry);
        }
        self.close_ears();
    }

    /// Looks at the host, and follows links that came back or were exchanged.
    fn look(&mut self) {
        let before = std::mem::take(&mut self.kernel.links);
        if let Err(error) = self.kernel.look() {
            tracing::debug!(%error, "cannot look at links and addresses");
            self.kernel.links = before;
            return;
        }
        let links = &self.kernel.links;
        let was_down = |link: &Link| {
            let known = before.iter().find(|known| known.index == link.index);
            known.is_none_or(|known| !known.has_carrier || known.mac != link.mac)
        };
        let is_back = |link: &&Link| link.has_carrier && was_down(link);
        let back: Vec<u32> = links
            .iter()
            .filter(is_back)
            .map(|link| link.index)
            .collect();
        let there: Vec<(u32, Option<_>)> =
            links.iter().map(|link| (link.index, link.mac)).collect();
        self.ears
            .retain(|(link, _), _| there.iter().any(|(index, _)| index == link));
        let now_ms = self.now_ms();
        let mut entries = std::mem::take(&mut self.entries);
        for entry in entries.values_mut() {
            let Some(place) = &entry.place else {
                continue;
            };
            let is_there = there.contains(&(place.link, Some(place.mac)));
            if !is_there {
                entry.place = None; // found anew by what comes next
            }
            if !is_there || back.contains(&place_link(entry.place.as_ref())) {
                let actions = entry.machine.announce_again(now_ms);
                self.act(entry, actions);
            }
        }
        self.entries = entries;
    }

    fn hear(&mut self, link: u32, ip: IpAddr, heard: super::Heard) {
        let Some(mut entry) = self.entries.remove(&ip) else {
            return;
        };
        if let Some(place) = entry.place.as_ref().filter(|place| place.link == link) {
            let actions = entry.machine.hear(heard, place.mac, self.now_ms());
            self.act(&mut entry, actions);
        }
        self.entries.insert(ip, entry);
    }

    /// Does what time alone makes due; when something is due next.
    fn tick(&mut self) -> Instant {
        let now_ms = self.now_ms();
        let mut entries = std::mem::take(&mut self.entries);
        for entry in entries.values_mut() {
            let actions = entry.machine.tick(now_ms);
            self.act(entry, actions);
        }
        let due = entries.values().filter_map(|entry| entry.machine.due_ms());
        let due = due.min().map(Duration::from_millis);
        self.entries = entries;
        due.map_or_else(|| Instant::now() + IDLE, |due| self.started + due)
    }

    fn act(&mut self, entry: &mut Entry, actions: Vec<Action>) {
        for action in actions {
            if let Err(why) = self.carry_out(entry, action) {
                for action in entry.machine.refused(why, self.now_ms()) {
                    // It is only given up.
                    let _ = self.carry_out(entry, action);
                }
                return;
            }
        }
    }

    /// # Errors
    /// Why that cannot be, for the operator.
    fn carry_out(&mut self, entry: &mut Entry, action: Action) -> Result<(), String> {
        let ip = entry.wanted.address;
        if action == Action::Remove {
            self.leaving.push((ip, entry.place.clone()));
            return Ok(());
        }
        if entry.place.is_none() {
            entry.place = Some(self.kernel.place(&entry.wanted)?);
        }
        let Some(place) = entry.place.clone() else {
            return Ok(());
        };
        // Before anything else: what cannot be announced is not held.
        let ear = self.ear(place.link, Family::of(ip))?;
        match action {
            Action::Probe => ear.say(&frames::probe(place.mac, ip)),
            Action::Announce => {
                for frame in frames::announcements(place.mac, ip, entry.wanted.epoch) {
                    ear.say(&frame);
                }
            }
            Action::Put => self.kernel.put(&place, ip)?,
            Action::Remove => {}
        }
        Ok(())
    }

    fn ear(&mut self, link: u32, family: Family) -> Result<&Ear, String> {
        use std::collections::btree_map::Entry::{Occupied, Vacant};
        match self.ears.entry((link, family)) {
            Occupied(known) => Ok(known.into_mut()),
            Vacant(place) => {
                let ear = Ear::open(link, family, self.heard.0.clone());
                let ear = ear.map_err(|error| match error {
                    Errno::PERM => "the process lacks CAP_NET_RAW: it cannot announce".to_owned(),
                    other => format!("cannot hear what is said on the link: {other}"),
                })?;
                Ok(place.insert(ear))
            }
        }
    }

    /// Those on links where nothing is wanted.
    fn close_ears(&mut self) {
        let entries = &self.entries;
        self.ears.retain(|(link, family), _| {
            entries.iter().any(|(ip, entry)| {
                let is_there = place_link(entry.place.as_ref()) == *link;
                is_there && Family::of(*ip) == *family
            })
        });
    }

    /// Tells how all of them do.
    fn tell(&mut self) {
        for (ip, entry) in &mut self.entries {
            let status = entry.status();
            if entry.told.as_ref() != Some(&status) {
                log(entry.told.as_ref(), &status);
                self.state.learn_address(*ip, status.clone());
                entry.told = Some(status);
            }
        }
        let held = self.entries.values().filter(|e| e.machine.is_holding());
        let held = held.count();
        self.count
            .send_if_modified(|known| std::mem::replace(known, held) != held);
    }
}

/// Where what is for the addresses that others had before goes on.
fn legs(wanted: &BTreeMap<IpAddr, VirtualAddress>, kernel: &mut Kernel) -> BTreeSet<Leg> {
    let held = wanted.values().filter(|wanted| wanted.held);
    let legs = held.filter_map(|wanted| {
        let predecessor = wanted.predecessor?;
        let place = kernel.place(wanted).ok()?;
        // Two proxies on one host: what is for either one arrives.
        (place.mac != predecessor.mac).then_some(Leg {
            ip: wanted.address,
            link: place.link,
            predecessor,
        })
    });
    legs.collect()
}

/// No link has the number 0.
fn place_link(place: Option<&Place>) -> u32 {
    place.map_or(0, |place| place.link)
}
