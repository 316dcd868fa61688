//! Random edits against a small model of the rules: what was set stays until something else is set, and what is followed
//! sets what it says.

use std::collections::BTreeMap;

use super::*;
use crate::build::tests::world::Random;

const PORTS: [u16; 3] = [80, 81, 82];
const NAMES: [&str; 4] = [
    "shop",
    "other",
    "web-auto-service-config",
    "x-auto-service-config",
];

/// What is said of a port: scheduler and seconds between probes.
type Said = (Option<&'static str>, Option<u16>);
/// What neither can be: what was set before stays.
const ODD: Said = (Some("SH"), Some(301));

/// What is written in the API server, besides the Service.
#[derive(Clone, Default)]
struct Objects {
    configs: BTreeMap<String, BTreeMap<u16, Said>>,
    /// The API server knows the kind.
    has_kind: bool,
}

/// The rules.
#[derive(Clone, Default)]
struct Model {
    set: BTreeMap<u16, Said>,
    /// What a controller that begins anew finds.
    written: BTreeMap<u16, Said>,
}

impl Model {
    fn look(&mut self, service: &Service, objects: &Objects) {
        let has = |port: u16| service.ports.iter().any(|it| it.port == port);
        self.set.retain(|port, _| has(*port));
        let name = service.annotations.get(CONFIG).map(String::as_str);
        let auto = service.annotations.get(AUTO_CONFIG).map(String::as_str) == Some("true");
        let followed = match (name, auto) {
            (Some(name), false) if !name.ends_with("-auto-service-config") => name.to_owned(),
            (None, true) => "web-auto-service-config".to_owned(),
            _ => return,
        };
        let config = objects.configs.get(&followed).filter(|_| objects.has_kind);
        for (port, said) in config.into_iter().flatten().filter(|(port, _)| has(**port)) {
            let said = (
                said.0.filter(|it| Some(*it) != ODD.0),
                said.1.filter(|it| Some(*it) != ODD.1),
            );
            let set = self.set.entry(*port).or_default();
            *set = (said.0.or(set.0), said.1.or(set.1));
        }
    }
}

fn spec(config: &BTreeMap<u16, Said>) -> String {
    let entries = config.iter().map(|(port, (scheduler, interval))| {
        let scheduler = scheduler.map(|it| format!(", scheduler: {it}"));
        let interval = interval.map(|it| format!(", healthCheck: {{intervalTime: {it}}}"));
        let (scheduler, interval) = (scheduler.unwrap_or_default(), interval.unwrap_or_default());
        format!("{{protocol: TCP, port: {port}{scheduler}{interval}}}")
    });
    let entries: Vec<_> = entries.collect();
    format!(
        "{{loadBalancer: {{l4Listeners: [{}]}}}}",
        entries.join(", ")
    )
}

fn effective(world: &World) -> BTreeMap<u16, (&'static str, u64)> {
    let ports = world.service.ports.iter().map(|port| {
        let set = world.set(&format!("tcp/{}", port.port));
        let scheduler = match set.settings.policy {
            Policy::LeastConnections => "LEAST_CONN",
            _ => "WRR",
        };
        (port.port, (scheduler, check_of(set).interval.as_secs()))
    });
    ports.collect()
}

fn expected(model: &Model, service: &Service) -> BTreeMap<u16, (&'static str, u64)> {
    let ports = service.ports.iter().map(|port| {
        let set = model.set.get(&port.port).copied().unwrap_or_default();
        let interval = set.1.unwrap_or(5);
        (port.port, (set.0.unwrap_or("WRR"), interval.into()))
    });
    ports.collect()
}

/// Something is edited.
fn edit(random: &mut Random, world: &mut World, objects: &mut Objects) {
    let service = &mut world.service;
    match random.below(12) {
        0..2 => {
            let name = NAMES[[0, 0, 1, 3][random.below(4)]];
            service
                .annotations
                .insert(CONFIG.to_owned(), name.to_owned());
        }
        2 => _ = service.annotations.remove(CONFIG),
        3 => {
            let value = random.one_of(&["true", "false"]);
            service
                .annotations
                .insert(AUTO_CONFIG.to_owned(), value.to_owned());
        }
        4 => _ = service.annotations.remove(AUTO_CONFIG),
        5 => {
            let port = PORTS[random.below(3)];
            let before = service.ports.len();
            service.ports.retain(|it| it.port != port);
            if service.ports.len() == before {
                let name: Arc<str> = port.to_string().into();
                let made = crate::cluster::testing::service("a/web").ports[0].clone();
                service.ports.push(ServicePort { name, port, ..made });
            }
        }
        6 => objects.has_kind = !random.once_in(3),
        7 => _ = objects.configs.remove(random.one_of(&NAMES)),
        _ => {
            let name = random.one_of(&NAMES).to_owned();
            let config = objects.configs.entry(name).or_default();
            let port = PORTS[random.below(3)];
            let scheduler = [None, Some("WRR"), Some("LEAST_CONN"), ODD.0][random.below(4)];
            let interval = [None, Some(7), Some(9), ODD.1][random.below(4)];
            config.insert(port, (scheduler, interval));
        }
    }
}

/// Somebody deletes the Service and makes it again. What is no more is no reason to be as it was.
fn make_again(random: &mut Random, world: &mut World, turn: u32) {
    if random.once_in(2) {
        let gone = Change::Service(world.service.key.clone(), None);
        world.checked.change(gone);
    }
    world.service.uid = format!("uid-{turn}").into();
    world.service.annotations.remove(KEPT_CONFIG);
}

/// The controller sees everything as it is.
fn show(world: &mut World, objects: &Objects) {
    for name in NAMES {
        let config = objects.configs.get(name).filter(|_| objects.has_kind);
        world.config(&format!("a/{name}"), config.map(spec).as_deref());
    }
    world.put();
}

#[test]
fn whatever_is_edited_what_counts_is_what_the_rules_say() {
    let mut kept = 0;
    for seed in 0..120 {
        println!("seed {seed}");
        let mut random = Random(seed);
        let mut world = World::new();
        world.service.annotations.remove(SPECIFY);
        world.service.annotations.remove(CONFIG);
        world.service.ports.truncate(1);
        let mut model = Model::default();
        let mut objects = Objects {
            has_kind: true,
            ..Objects::default()
        };
        world.put();
        for turn in 0..30 {
            edit(&mut random, &mut world, &mut objects);
            if random.once_in(10) {
                make_again(&mut random, &mut world, turn);
                model = Model::default();
            }
            show(&mut world, &objects);
            model.look(&world.service, &objects);
            assert_eq!(effective(&world), expected(&model, &world.service));
            if random.once_in(2) {
                // The writer comes to it.
                let text = world.plan().config.text.clone();
                world.annotate(KEPT_CONFIG, text.as_deref());
                model.written.clone_from(&model.set);
            }
            if random.once_in(5) {
                // Another controller goes on with what is written.
                world.checked = Checked::new(Options::default());
                model.set.clone_from(&model.written);
                show(&mut world, &objects);
                model.look(&world.service, &objects);
                assert_eq!(effective(&world), expected(&model, &world.service));
            }
            let follows = world.plan().config.followed.is_some();
            kept += usize::from(!follows && !model.set.is_empty());
        }
    }
    assert!(kept > 200, "only {kept} times something was kept");
}
