//! What a worker does for each datagram, without the kernel's part: of a flow that it knows among many, back from a
//! backend, and of a client that it has never seen.

#![expect(clippy::unwrap_used, reason = "a bench, whose inputs are its own")]

use std::collections::HashMap;
use std::hint::black_box;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use criterion::{Criterion, criterion_group, criterion_main};
use podline_api::{BackendKey, SetSettings, SourceAddress};
use podline_proxy::lb::affinity::Memory;
use podline_proxy::lb::backend::BackendRuntime;
use podline_proxy::lb::flow::{Door, FlowKey, Flows, Way, World};
use podline_proxy::lb::pick::Cursor;
use podline_proxy::lb::set::Set;
use podline_proxy::lb::table::{ListenerRoute, RouteTable};
use podline_proxy::lb::trie::{Member, Tier};
use podline_proxy::lb::{ListenerId, SetId};

const SET: SetId = SetId(1);
const BACKENDS: u32 = 100;
const FLOWS: u32 = 100_000;
const IDLE_MS: u64 = 60_000;
/// Late enough that no backend counts as new.
const BEGUN_MS: u64 = 600_000;

/// One worker's flows, with what they go by.
struct Worker {
    flows: Flows,
    table: RouteTable,
    cursors: HashMap<SetId, Cursor>,
    memory: Memory,
    door: Door,
    now_ms: u64,
}

impl Worker {
    fn new() -> Self {
        let mut set = Set::new(SET, "bench".parse().unwrap(), SetSettings::default());
        for n in 0..BACKENDS {
            let address = (Ipv4Addr::from(0x0a00_0000 + n), 53).into();
            let key = BackendKey { id: None, address };
            set.put(Member {
                runtime: Arc::new(BackendRuntime::new(key, SET, 0)),
                weight: 10,
                tier: Tier::Eligible,
            });
        }
        let mut table = RouteTable::default();
        table.version = 1;
        table.put_set(set);
        let route = ListenerRoute {
            id: ListenerId(1),
            name: "bench".parse().unwrap(),
            set: Some(SET),
            http: None,
            tls: None,
            idle_timeout: Duration::from_millis(IDLE_MS),
            half_closed_timeout: Duration::from_secs(1),
            limiter: None,
            headers: None,
            source_address: SourceAddress::Snat,
        };
        Self {
            flows: Flows::new(2 * FLOWS as usize, 7, false),
            table,
            cursors: HashMap::new(),
            memory: Memory::default(),
            door: Door {
                route: Arc::new(route),
                counters: Arc::default(),
            },
            now_ms: BEGUN_MS,
        }
    }

    fn datagram(&mut self, client: u32) -> Way {
        let key = FlowKey {
            place: 0,
            client: address(client),
            local: None,
        };
        let mut world = World {
            table: &self.table,
            cursors: &mut self.cursors,
            seed: 3,
            memory: &self.memory,
            now_ms: self.now_ms,
            open: &mut |_| true,
            imitate: &mut |_, _, _| Ok(()),
        };
        let way = self
            .flows
            .on_datagram(&key, 64, Some(&self.door), &mut world);
        way.unwrap()
    }

    fn reply(&mut self, way: &Way) -> Option<u32> {
        let world = World {
            table: &self.table,
            cursors: &mut self.cursors,
            seed: 3,
            memory: &self.memory,
            now_ms: self.now_ms,
            open: &mut |_| true,
            imitate: &mut |_, _, _| Ok(()),
        };
        self.flows.on_reply(way.socket, way.to, 64, &world)
    }
}

fn address(client: u32) -> SocketAddr {
    let ip = Ipv4Addr::from(0xc000_0000 | (client >> 10));
    let port = u16::try_from(client & 1_023).unwrap() + 10_000;
    (ip, port).into()
}

fn datagrams(criterion: &mut Criterion) {
    let mut worker = Worker::new();
    let ways: Vec<Way> = (0..FLOWS).map(|client| worker.datagram(client)).collect();
    let mut turn = 0;
    criterion.bench_function(&format!("datagram of one of {FLOWS} flows"), |bencher| {
        bencher.iter(|| {
            turn = (turn + 7_919) % FLOWS;
            black_box(worker.datagram(turn))
        });
    });
    criterion.bench_function("datagram of the same flow again", |bencher| {
        bencher.iter(|| black_box(worker.datagram(1)));
    });
    criterion.bench_function(&format!("reply to one of {FLOWS} flows"), |bencher| {
        bencher.iter(|| {
            turn = (turn + 7_919) % FLOWS;
            black_box(worker.reply(&ways[turn as usize]))
        });
    });
}

/// Clients that come once; those before them end of silence, a thousand at a time.
fn newcomers(criterion: &mut Criterion) {
    let mut worker = Worker::new();
    let mut client = 0;
    criterion.bench_function("first datagram of a client, and its end", |bencher| {
        bencher.iter(|| {
            client = (client + 1) & 0x00ff_ffff;
            if client % 1_000 == 0 {
                worker.now_ms += IDLE_MS / 10;
                let now_ms = worker.now_ms;
                worker.flows.on_tick(now_ms);
                black_box(worker.flows.take_empty_sockets());
            }
            black_box(worker.datagram(client))
        });
    });
}

criterion_group!(benches, datagrams, newcomers);
criterion_main!(benches);
