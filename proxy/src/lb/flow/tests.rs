//! Single decisions about flows; `model` holds whole lives of them against a plain model.

mod model;

use super::sockets::{Row, SocketNumber};
use super::*;
use crate::lb::ListenerId;
use crate::lb::limits::{Limiter, Shed};
use crate::lb::network::NetworkView;
use crate::lb::pick::SplitMix;
use crate::lb::trie::{Member, Tier};
use podline_api::{
    Affinity, AffinityKind, BackendKey, Caps, Limits, PassiveCheck, SetSettings, SourceAddress,
};
use std::collections::{BTreeMap, HashSet};
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

const SET: SetId = SetId(1);
const LISTENER: ListenerId = ListenerId(1);
const IDLE_MS: u64 = 2_000;

/// One worker's flows, with all that they go by.
struct Scene {
    flows: Flows,
    table: RouteTable,
    cursors: HashMap<SetId, Cursor>,
    memory: Memory,
    now_ms: u64,
    door: Door,
    open: HashSet<SocketNumber>,
    own: HashSet<SocketNumber>,
    most_sockets: usize,
}

fn settings() -> SetSettings {
    SetSettings {
        passive_check: None,
        ..SetSettings::default()
    }
}

fn backend(n: u16) -> SocketAddr {
    ([10, 0, 0, 1], 1_000 + n).into()
}

/// Which backend is there.
fn number(address: SocketAddr) -> u16 {
    address.port() - 1_000
}

fn client(n: u16) -> SocketAddr {
    ([192, 0, 2, 1], 10_000 + n).into()
}

fn key(n: u16) -> FlowKey {
    FlowKey {
        place: 0,
        client: client(n),
        local: None,
    }
}

impl Scene {
    fn new(settings: SetSettings, backends: u16) -> Self {
        let mut table = RouteTable::default();
        table.version = 1;
        table.put_set(Set::new(SET, "web".parse().unwrap(), settings));
        let route = ListenerRoute {
            id: LISTENER,
            name: "web".parse().unwrap(),
            set: Some(SET),
            http: None,
            tls: None,
            idle_timeout: Duration::from_millis(IDLE_MS),
            half_closed_timeout: Duration::from_secs(1),
            limiter: None,
            headers: None,
            source_address: SourceAddress::Snat,
        };
        table.put_listener(route.clone());
        let mut scene = Self {
            flows: Flows::new(10_000, 7, true),
            table,
            cursors: HashMap::new(),
            memory: Memory::default(),
            now_ms: 1_000_000,
            door: Door {
                route: Arc::new(route),
                counters: Arc::default(),
            },
            open: HashSet::new(),
            own: HashSet::new(),
            most_sockets: usize::MAX,
        };
        for n in 0..backends {
            scene.put(n, Tier::Eligible);
        }
        scene
    }

    /// Publishes a backend, a new one or in another tier.
    fn put(&mut self, n: u16, tier: Tier) {
        let address = backend(n);
        let runtime = self.runtime(n).unwrap_or_else(|| {
            let key = BackendKey { id: None, address };
            Arc::new(BackendRuntime::new(key, SET, 0))
        });
        self.table.version += 1;
        self.table.set_mut(SET).unwrap().put(Member {
            runtime,
            weight: 1,
            tier,
        });
    }

    fn remove(&mut self, n: u16) {
        self.table.version += 1;
        let key = BackendKey {
            id: None,
            address: backend(n),
        };
        self.table.set_mut(SET).unwrap().remove(&key);
    }

    fn runtime(&self, n: u16) -> Option<Arc<BackendRuntime>> {
        let key = BackendKey {
            id: None,
            address: backend(n),
        };
        let set = self.table.set(SET).unwrap();
        set.member(&key).map(|member| Arc::clone(&member.runtime))
    }

    fn with<T>(&mut self, work: impl FnOnce(&mut Flows, &Door, &mut World<'_>) -> T) -> T {
        let (open, own, most) = (&mut self.open, &mut self.own, self.most_sockets);
        let mut world = World {
            table: &self.table,
            cursors: &mut self.cursors,
            seed: 3,
            memory: &self.memory,
            now_ms: self.now_ms,
            open: &mut |socket| {
                let fits = open.len() < most;
                if fits {
                    assert!(open.insert(socket), "opened twice");
                }
                fits
            },
            imitate: &mut |socket, client, _| {
                if client.port() % 2 == 1 {
                    return Err(SnatReason::TooManyFlows);
                }
                assert!(own.insert(socket), "opened twice");
                Ok(())
            },
        };
        work(&mut self.flows, &self.door, &mut world)
    }

    fn send(&mut self, n: u16) -> Result<Way, Dropped> {
        self.with(|flows, door, world| flows.on_datagram(&key(n), 10, Some(door), world))
    }

    fn reply(&mut self, socket: SocketNumber, from: SocketAddr) -> Option<u32> {
        self.with(|flows, _, world| flows.on_reply(socket, from, 20, world))
    }

    fn tick(&mut self, ms: u64) {
        self.now_ms += ms;
        self.flows.on_tick(self.now_ms);
        for socket in self.flows.take_empty_sockets() {
            let open = match socket.row {
                Row::Own => &mut self.own,
                Row::V4 | Row::V6 => &mut self.open,
            };
            assert!(open.remove(&socket), "closed though not open");
        }
    }
}

#[test]
fn many_flows_share_few_sockets_and_each_reply_has_its_flow() {
    let mut scene = Scene::new(settings(), 4);
    let ways: Vec<Way> = (0..100).map(|n| scene.send(n).unwrap()).collect();
    assert_eq!(scene.open.len(), 25, "as many as one backend has flows");
    for (n, way) in (0..).zip(&ways) {
        let flow = scene.reply(way.socket, way.to).unwrap();
        assert_eq!(scene.flows.get(flow).unwrap().key, key(n));
    }
    let strange = SocketAddr::from(([10, 0, 0, 2], 1_000));
    assert_eq!(scene.reply(ways[0].socket, strange), None);
    let unused = SocketNumber {
        row: Row::V4,
        number: 99,
    };
    assert_eq!(scene.reply(unused, ways[0].to), None);
    assert_eq!(scene.door.counters.active.load(Relaxed), 100);
}

/// Before its backend stops to answer.
#[test]
fn a_flow_leaves_a_drained_backend_unless_there_is_no_other() {
    let mut scene = Scene::new(settings(), 2);
    let first = scene.send(0).unwrap();
    let (own, other) = if first.to == backend(0) {
        (0, 1)
    } else {
        (1, 0)
    };
    scene.put(own, Tier::Out);
    let runtime = scene.flows.backend(first.flow).unwrap().clone();
    runtime.closed.store(true, Relaxed);
    scene.put(other, Tier::Out);
    assert_eq!(scene.send(0).unwrap().to, first.to, "there is no other");
    scene.put(other, Tier::Eligible);
    assert_eq!(scene.send(0).unwrap().to, backend(other));
}

#[test]
fn a_flow_stays_with_weight_0_and_leaves_the_removed_and_the_ailing() {
    let mut scene = Scene::new(settings(), 2);
    let first = scene.send(0).unwrap();
    let (own, other) = if first.to == backend(0) {
        (0, 1)
    } else {
        (1, 0)
    };
    scene.put(own, Tier::Out);
    assert_eq!(
        scene.send(0).unwrap().to,
        first.to,
        "it may take no new ones"
    );
    scene.put(own, Tier::Fallback);
    assert_eq!(scene.send(0).unwrap().to, backend(other), "it ails");
    let late = scene.reply(first.socket, first.to);
    assert_eq!(late, Some(first.flow), "a late reply is still its client's");
    scene.put(own, Tier::Eligible);
    scene.put(other, Tier::Fallback);
    scene.put(own, Tier::Fallback);
    assert_eq!(
        scene.send(0).unwrap().to,
        backend(other),
        "all ail: it stays"
    );
    scene.put(own, Tier::Eligible);
    scene.remove(other);
    assert_eq!(scene.send(0).unwrap().to, backend(own));
    scene.remove(own);
    assert_eq!(scene.send(0), Err(Dropped::NoBackend));
    assert!(scene.flows.is_empty());
    let ended = scene.flows.take_ended();
    assert_eq!((ended.len(), ended[0].why), (1, "no backend"));
    assert_eq!(
        scene.reply(first.socket, first.to),
        None,
        "its flow is over"
    );
    scene.put(own, Tier::Eligible);
    let other = scene.send(1).unwrap();
    assert_eq!(other.flow, first.flow, "another one has its number");
    assert_eq!(scene.reply(first.socket, first.to), None);
    scene.tick(REST_MS + IDLE_MS + 200);
    assert_eq!(scene.open.len(), 0);
}

#[test]
fn a_backend_that_refuses_is_left_unless_it_is_the_only_one() {
    let mut settings = settings();
    settings.passive_check = Some(PassiveCheck {
        failures: 1,
        ejection_time: Duration::from_secs(10),
    });
    let mut scene = Scene::new(settings, 2);
    let first = scene.send(0).unwrap();
    let table = scene.table.clone();
    let told = scene.flows.on_error(first.socket, first.to, &table);
    assert_eq!(told.unwrap().key.address, first.to);
    let again = scene.flows.on_error(first.socket, first.to, &table);
    assert!(again.is_none(), "one failure, not one for each datagram");
    let second = scene.send(0).unwrap();
    assert_ne!(second.to, first.to);
    scene.remove(number(first.to));
    scene.flows.on_error(second.socket, second.to, &table);
    assert_eq!(scene.send(0).unwrap().to, second.to);
}

#[test]
fn an_affinity_is_remembered_at_the_first_reply_only() {
    let affinity = Affinity {
        kind: AffinityKind::ClientIp {
            timeout: Duration::from_mins(10),
        },
        group: None,
    };
    let settings = SetSettings {
        affinity: Some(affinity),
        ..settings()
    };
    let mut scene = Scene::new(settings, 3);
    let ways: Vec<Way> = (0..50).map(|n| scene.send(n).unwrap()).collect();
    assert_eq!(
        scene.memory.clients(),
        0,
        "who sends may not be who it says"
    );
    assert!(ways.iter().all(|way| way.to == ways[0].to), "one client");
    scene.reply(ways[7].socket, ways[7].to).unwrap();
    assert_eq!(scene.memory.clients(), 1);
}

#[test]
fn limits_and_room_bound_what_begins() {
    let mut scene = Scene::new(settings(), 1);
    let limits = Limits {
        total: Caps {
            connections: Some(3),
            per_second: None,
        },
        ..Limits::default()
    };
    let route = ListenerRoute {
        limiter: Limiter::new(&limits, None).map(Arc::new),
        ..(*scene.door.route).clone()
    };
    scene.door.route = Arc::new(route);
    for n in 0..3 {
        scene.send(n).unwrap();
    }
    let refused = scene.send(3);
    assert_eq!(refused, Err(Dropped::Limit(Shed::MaxConnections)));
    scene.send(0).unwrap();
    scene.tick(IDLE_MS + 200);
    assert!(scene.flows.is_empty());
    scene.send(3).unwrap();

    let mut scene = Scene::new(settings(), 1);
    scene.most_sockets = 2;
    scene.send(0).unwrap();
    scene.send(1).unwrap();
    assert_eq!(scene.send(2), Err(Dropped::NoSocket));
    assert_eq!(scene.door.counters.active.load(Relaxed), 2);
    scene.put(1, Tier::Eligible);
    let placed = (2..6).filter(|n| scene.send(*n).is_ok()).count();
    assert_eq!(placed, 2, "sockets that are open serve another backend");
    assert_eq!(scene.flows.len(), 4);
}

#[test]
fn a_listener_that_takes_an_address_over_has_its_flows() {
    let mut scene = Scene::new(settings(), 2);
    let before: Vec<Way> = (0..10).map(|n| scene.send(n).unwrap()).collect();
    let next = Door {
        route: Arc::new(ListenerRoute {
            id: ListenerId(2),
            ..(*scene.door.route).clone()
        }),
        counters: Arc::default(),
    };
    scene.flows.hand_over(0, &next);
    let old = std::mem::replace(&mut scene.door, next);
    assert_eq!(old.counters.active.load(Relaxed), 0);
    assert_eq!(scene.door.counters.active.load(Relaxed), 10);
    let after: Vec<Way> = (0..10).map(|n| scene.send(n).unwrap()).collect();
    assert_eq!(before, after);
    scene.flows.report_all();
    assert_eq!(old.counters.received_datagrams.load(Relaxed), 10);
    assert_eq!(scene.door.counters.received_datagrams.load(Relaxed), 10);
    assert_eq!(scene.flows.force(|flow, _| is_of(flow, LISTENER)), 0);
    assert_eq!(scene.flows.force(|flow, _| is_of(flow, ListenerId(2))), 10);
}

/// A scene in which clients may be imitated; those with odd ports cannot.
fn imitating(wanted: SourceAddress, backends: u16) -> Scene {
    let mut scene = Scene::new(settings(), backends);
    let mut view = NetworkView::clone(&scene.table.network);
    view.can_imitate = true;
    scene.table.network = Arc::new(view);
    let route = ListenerRoute {
        source_address: wanted,
        ..(*scene.door.route).clone()
    };
    scene.door.route = Arc::new(route);
    scene
}

#[test]
fn an_imitating_flow_has_a_socket_of_its_own() {
    let mut scene = imitating(SourceAddress::Transparent, 2);
    let ways: Vec<Way> = (0..20).map(|n| scene.send(2 * n).unwrap()).collect();
    assert_eq!((scene.own.len(), scene.open.len()), (20, 0));
    for (n, way) in (0..).zip(&ways) {
        assert_eq!(way.socket.row, Row::Own);
        let flow = scene.reply(way.socket, way.to).unwrap();
        assert_eq!(scene.flows.get(flow).unwrap().key, key(2 * n));
    }
    assert_eq!(scene.door.counters.transparent.load(Relaxed), 20);
    scene.remove(0);
    let moved = ways.iter().filter(|way| way.to == backend(0)).count();
    for n in 0..20 {
        assert_eq!(scene.send(2 * n).unwrap().to, backend(1));
    }
    assert_eq!(scene.own.len(), 20 + moved);
    for (n, way) in (0..).zip(&ways) {
        let flow = scene.reply(way.socket, way.to).unwrap();
        assert_eq!(scene.flows.get(flow).unwrap().key, key(2 * n));
    }
    for _ in 0..4 {
        scene.tick(OWN_REST_MS / 4);
        for n in 0..20 {
            scene.send(2 * n).unwrap();
        }
    }
    assert_eq!(scene.own.len(), 20, "those they left are closed");
    scene.tick(IDLE_MS + 200);
    assert!(scene.flows.is_empty() && scene.own.is_empty());
}

#[test]
fn a_client_that_cannot_be_imitated_shares_or_is_refused_as_is_wanted() {
    let mut scene = imitating(SourceAddress::Transparent, 3);
    assert_eq!(scene.send(1), Err(Dropped::NoBackend));
    let counters = Arc::clone(&scene.door.counters);
    let snat = &counters.snat[SnatReason::TooManyFlows as usize];
    assert_eq!((snat.load(Relaxed), counters.active.load(Relaxed)), (1, 0));
    assert_eq!(counters.refused.load(Relaxed), 1);
    assert!(scene.flows.is_empty());

    let mut scene = imitating(SourceAddress::PreferTransparent, 1);
    assert_eq!(scene.send(1).unwrap().socket.row, Row::V4);
    // Which node the backend is on is not known, so that answers come back is not either.
    assert_eq!(scene.send(2).unwrap().socket.row, Row::V4);
    let snat = &scene.door.counters.snat[SnatReason::NodeUnknown as usize];
    assert_eq!(snat.load(Relaxed), 2);
}
