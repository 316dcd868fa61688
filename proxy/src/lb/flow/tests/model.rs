//! Flows against a plain model, under random clients, backends, publishes, errors and silence.

use super::*;

/// What a flow is, said plainly.
#[derive(Clone, Debug)]
struct Plain {
    way: Way,
    seen_ms: u64,
    failed: bool,
    /// Which of those that have been at the backend's address.
    life: u64,
}

/// All flows, and all that may be known of backends, said plainly.
struct Model {
    flows: BTreeMap<u16, Plain>,
    tiers: BTreeMap<u16, Tier>,
    /// How often each joined.
    lives: BTreeMap<u16, u64>,
    /// Places that a flow left while its backend may have been sending, and until when nobody gets them.
    /// Socket, backend, until when, and who was there.
    resting: Vec<(SocketNumber, SocketAddr, u64, u16)>,
}

impl Model {
    fn life(&self, address: SocketAddr) -> u64 {
        self.lives.get(&number(address)).copied().unwrap_or(0)
    }

    fn may_stay(&self, plain: &Plain) -> bool {
        let any_eligible = self.tiers.values().any(|tier| *tier == Tier::Eligible);
        match self.tiers.get(&number(plain.way.to)) {
            _ if plain.life != self.life(plain.way.to) => false,
            None => false,
            Some(Tier::Fallback) => !any_eligible,
            Some(_) => true,
        }
    }

    fn may_be_picked(&self, address: SocketAddr) -> bool {
        let any_eligible = self.tiers.values().any(|tier| *tier == Tier::Eligible);
        match self.tiers.get(&number(address)) {
            Some(Tier::Eligible) => true,
            Some(Tier::Fallback) => !any_eligible,
            _ => false,
        }
    }

    fn check_place(&self, n: u16, way: &Way, now_ms: u64) {
        for (other, plain) in &self.flows {
            let same = (plain.way.socket, plain.way.to) == (way.socket, way.to);
            assert!(*other == n || !same, "{n} and {other} are at one place");
        }
        let rests = self.resting.iter().any(|(socket, to, until, _)| {
            (*socket, *to) == (way.socket, way.to) && now_ms < *until
        });
        assert!(!rests, "a late reply could reach {n}");
    }
}

/// One datagram of client `n`, checked against the model.
fn check_send(scene: &mut Scene, model: &mut Model, n: u16) {
    let (now_ms, before) = (scene.now_ms, model.flows.get(&n).cloned());
    let outcome = scene.send(n);
    let way = match outcome {
        Ok(way) => way,
        Err(why) => {
            assert_eq!(why, Dropped::NoBackend);
            assert!(!before.as_ref().is_some_and(|plain| model.may_stay(plain)));
            assert!(!model.tiers.keys().any(|n| model.may_be_picked(backend(*n))));
            if let Some(plain) = model.flows.remove(&n) {
                let until = plain.seen_ms + REST_MS;
                model
                    .resting
                    .push((plain.way.socket, plain.way.to, until, n));
            }
            return;
        }
    };
    match before {
        Some(plain) if model.may_stay(&plain) && !plain.failed => assert_eq!(way, plain.way),
        Some(plain) if (way.socket, way.to) == (plain.way.socket, plain.way.to) => {
            assert!(plain.failed && model.may_stay(&plain));
        }
        Some(plain) => {
            let is_new = plain.life != model.life(plain.way.to);
            assert!(is_new || way.to != plain.way.to, "it moves to another");
            assert!(model.may_be_picked(way.to));
            let until = now_ms + REST_MS;
            model
                .resting
                .push((plain.way.socket, plain.way.to, until, n));
            model.check_place(n, &way, now_ms);
        }
        None => {
            assert!(model.may_be_picked(way.to));
            model.check_place(n, &way, now_ms);
        }
    }
    assert!(scene.open.contains(&way.socket));
    let plain = Plain {
        way,
        seen_ms: now_ms,
        failed: false,
        life: model.life(way.to),
    };
    model.flows.insert(n, plain);
}

fn check_change(scene: &mut Scene, model: &mut Model, n: u16, what: u64) {
    let tier = match what {
        0 => {
            if model.tiers.remove(&n).is_some() {
                scene.remove(n);
            }
            return;
        }
        1 => Tier::Out,
        2 => Tier::Fallback,
        _ => Tier::Eligible,
    };
    scene.put(n, tier);
    if model.tiers.insert(n, tier).is_none() {
        *model.lives.entry(n).or_default() += 1;
    }
}

/// Whoever was at a place that rests gets the reply, or nobody does.
fn check_late_reply(scene: &mut Scene, model: &mut Model, n: u16) {
    let Some((socket, from, _, was)) = model.resting.get(usize::from(n)).copied() else {
        return;
    };
    let Some(flow) = scene.reply(socket, from) else {
        return;
    };
    assert_eq!(scene.flows.get(flow).unwrap().key, key(was));
    model.flows.get_mut(&was).unwrap().seen_ms = scene.now_ms;
}

fn check_tick(scene: &mut Scene, model: &mut Model, ms: u64) {
    scene.tick(ms);
    let now_ms = scene.now_ms;
    let there: HashSet<FlowKey> = scene.flows.by_key.keys().copied().collect();
    model.flows.retain(|n, plain| {
        let silent_ms = now_ms - plain.seen_ms;
        let is_there = there.contains(&key(*n));
        assert!(is_there || silent_ms >= IDLE_MS, "ended too early");
        assert!(!is_there || silent_ms < IDLE_MS + 200, "ended too late");
        is_there
    });
    model.resting.retain(|(_, _, until, _)| now_ms < *until);
}

fn check_counts(scene: &Scene, model: &Model, all: &BTreeMap<u16, Vec<Arc<BackendRuntime>>>) {
    assert_eq!(scene.flows.len(), model.flows.len());
    assert_eq!(
        scene.door.counters.active.load(Relaxed),
        model.flows.len() as u64
    );
    for (n, runtimes) in all {
        let active: u32 = runtimes.iter().map(|r| r.active.load(Relaxed)).sum();
        let flows = model.flows.values().filter(|f| f.way.to == backend(*n));
        assert_eq!(active as usize, flows.count(), "flows of backend {n}");
    }
    let used: HashSet<SocketNumber> = model.flows.values().map(|f| f.way.socket).collect();
    assert!(used.is_subset(&scene.open), "a socket of a flow is closed");
}

#[test]
fn random_lives_agree_with_a_plain_model() {
    for seed in 1..=10 {
        let mut random = SplitMix(seed);
        let mut scene = Scene::new(settings(), 0);
        let mut model = Model {
            flows: BTreeMap::new(),
            tiers: BTreeMap::new(),
            lives: BTreeMap::new(),
            resting: Vec::new(),
        };
        let mut all: BTreeMap<u16, Vec<Arc<BackendRuntime>>> = BTreeMap::new();
        for _ in 0..3_000 {
            let n = u16::try_from(random.next() % 60).unwrap();
            let b = u16::try_from(random.next() % 5).unwrap();
            match random.next() % 20 {
                0 => {
                    check_change(&mut scene, &mut model, b, random.next() % 6);
                    if let Some(runtime) = scene.runtime(b) {
                        let known = all.entry(b).or_default();
                        if !known.iter().any(|k| Arc::ptr_eq(k, &runtime)) {
                            known.push(runtime);
                        }
                    }
                }
                1 => check_tick(&mut scene, &mut model, random.next() % 400),
                2 => {
                    if let Some(plain) = model.flows.get_mut(&n) {
                        let table = scene.table.clone();
                        scene.flows.on_error(plain.way.socket, plain.way.to, &table);
                        plain.failed = true;
                    }
                }
                3 => check_late_reply(&mut scene, &mut model, n),
                4..8 => {
                    if let Some(plain) = model.flows.get_mut(&n) {
                        let flow = scene.reply(plain.way.socket, plain.way.to).unwrap();
                        assert_eq!(scene.flows.get(flow).unwrap().key, key(n));
                        (plain.seen_ms, plain.failed) = (scene.now_ms, false);
                    }
                }
                _ => check_send(&mut scene, &mut model, n),
            }
            check_counts(&scene, &model, &all);
        }
        check_tick(&mut scene, &mut model, IDLE_MS + 400);
        assert!(scene.flows.is_empty());
        check_tick(&mut scene, &mut model, REST_MS);
        assert!(scene.open.is_empty());
        let bytes: u64 = all
            .values()
            .flatten()
            .map(|b| b.sent_bytes.load(Relaxed))
            .sum();
        assert_eq!(bytes, scene.door.counters.received_bytes.load(Relaxed));
    }
}
