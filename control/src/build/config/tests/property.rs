//! Random edits against a small model of the rules: what was set stays until something else is set, and what is followed
//! sets what it says. Of a Service's ports, and of an Ingress's rules.

use std::collections::{BTreeMap, BTreeSet};

use podline_api::{PathMatch, RouteAction};

use super::*;
use crate::build::annotation::{KEPT_CONFIG, Words};
use crate::build::tests::world::Random;
use crate::cluster::testing::{ingress, rule};

/// Ports of a Service, or paths of an Ingress.
const PLACES: [u16; 3] = [80, 81, 82];

/// What is said of a place: scheduler and seconds between probes.
type Said = (Option<&'static str>, Option<u16>);
/// What neither can be: what was set before stays.
const ODD: Said = (Some("SH"), Some(301));

/// What is written in the API server, besides the Service or Ingress.
#[derive(Clone, Default)]
struct Objects {
    configs: BTreeMap<String, BTreeMap<u16, Said>>,
    /// The API server knows the kind.
    has_kind: bool,
}

/// A Service or an Ingress, and what becomes of it.
struct Owned {
    front: Front,
    checked: Checked,
    annotations: BTreeMap<String, String>,
    places: BTreeSet<u16>,
    /// How often it was made again.
    age: u32,
}

impl Owned {
    fn new(front: Front) -> Self {
        Self {
            front,
            checked: Checked::new(Options::default()),
            annotations: BTreeMap::new(),
            places: [80].into(),
            age: 0,
        }
    }

    fn put(&mut self) {
        let mut web = service("a/web");
        let uid: Arc<str> = format!("uid-{}", self.age).into();
        let direct = Words::of(&self.front).direct_access;
        let mut annotations = self.annotations.clone();
        annotations.insert(direct.to_owned(), "true".to_owned());
        let places = self.places.iter();
        match self.front {
            Front::Service(_) => {
                let ports = places.map(|port| ServicePort {
                    name: port.to_string().into(),
                    port: *port,
                    ..web.ports[0].clone()
                });
                web.ports = ports.collect();
                web.annotations = annotations;
                web.uid = uid;
            }
            Front::Ingress(_) => {
                web.is_load_balancer = false;
                let mut site = ingress("a/web");
                site.rules = places
                    .map(|it| rule("", &format!("/{it}"), "web"))
                    .collect();
                site.annotations = annotations;
                site.uid = uid;
                let change = Change::Ingress(site.key.clone(), Some(Box::new(site)));
                self.checked.change(change);
            }
        }
        let change = Change::Service(web.key.clone(), Some(Box::new(web)));
        self.checked.change(change);
    }

    /// An object as it says this of places.
    fn spec(&self, config: &BTreeMap<u16, Said>) -> String {
        let entries = config.iter().map(|(place, (scheduler, interval))| {
            let scheduler = scheduler.map(|it| format!(", scheduler: {it}"));
            let interval = interval.map(|it| format!(", healthCheck: {{intervalTime: {it}}}"));
            let said = [scheduler, interval]
                .map(Option::unwrap_or_default)
                .concat();
            match self.front {
                Front::Service(_) => format!("{{protocol: TCP, port: {place}{said}}}"),
                Front::Ingress(_) => format!("{{url: /{place}{said}}}"),
            }
        });
        let entries: Vec<_> = entries.collect();
        let entries = entries.join(", ");
        match self.front {
            Front::Service(_) => format!("{{loadBalancer: {{l4Listeners: [{entries}]}}}}"),
            Front::Ingress(_) => format!(
                "{{loadBalancer: {{l7Listeners: [{{protocol: HTTP, port: 80, domains: [{{rules: [{entries}]}}]}}]}}}}"
            ),
        }
    }

    fn plan(&self) -> &Plan {
        match self.checked.builder.standing(&self.front) {
            Some(Standing::Ours(plan)) => plan,
            odd => panic!("{odd:?}"),
        }
    }

    /// The set behind a place.
    fn set(&self, place: u16) -> &BackendSet {
        let plan = self.plan();
        let by_path = || {
            let routes = &plan.listeners[0].http.as_ref()?.routes;
            let path = PathMatch::Prefix(format!("/{place}"));
            match &routes.iter().find(|it| it.path == path)?.action {
                RouteAction::Forward(name) => Some(name.to_string()),
                RouteAction::Redirect(_) => None,
            }
        };
        let name = match self.front {
            Front::Service(_) => format!("a/web/tcp/{place}"),
            Front::Ingress(_) => by_path().unwrap(),
        };
        let mut sets = plan.sets.iter();
        sets.find(|set| set.name.as_str() == name).unwrap()
    }

    fn effective(&self) -> BTreeMap<u16, (&'static str, u64)> {
        let places = self.places.iter().map(|place| {
            let set = self.set(*place);
            let scheduler = match set.settings.policy {
                Policy::LeastConnections => "LEAST_CONN",
                _ => "WRR",
            };
            (*place, (scheduler, check_of(set).interval.as_secs()))
        });
        places.collect()
    }

    /// Somebody deletes it and makes it again. What is no more is no reason to be as it was.
    fn make_again(&mut self, random: &mut Random) {
        if random.once_in(2) {
            let gone = match &self.front {
                Front::Service(key) => Change::Service(key.clone(), None),
                Front::Ingress(key) => Change::Ingress(key.clone(), None),
            };
            self.checked.change(gone);
        }
        self.age += 1;
        self.annotations.remove(KEPT_CONFIG);
    }

    /// The controller sees everything as it is.
    fn show(&mut self, objects: &Objects) {
        for name in self.names() {
            let config = objects.configs.get(&name).filter(|_| objects.has_kind);
            let name = format!("a/{name}");
            let config = config.map(|config| service_config(&name, &self.spec(config)));
            let change = Change::ServiceConfig(key(&name), config.map(Box::new));
            self.checked.change(change);
        }
        self.put();
    }

    /// Objects that there may be: two of anybody, the one that is made for it, and one that is made for another.
    fn names(&self) -> [String; 4] {
        let made = auto_config(&self.front).name;
        let other = made.replacen("web", "x", 1);
        [
            "shop".to_owned(),
            "other".to_owned(),
            made.to_string(),
            other,
        ]
    }

    /// Something is edited.
    fn edit(&mut self, random: &mut Random, objects: &mut Objects) {
        let words = Words::of(&self.front);
        let names = self.names();
        let annotations = &mut self.annotations;
        match random.below(12) {
            0..2 => {
                let name = names[[0, 0, 1, 3][random.below(4)]].clone();
                annotations.insert(words.config.to_owned(), name);
            }
            2 => _ = annotations.remove(words.config),
            3 => {
                let value = random.one_of(&["true", "false"]).to_owned();
                annotations.insert(words.auto_config.to_owned(), value);
            }
            4 => _ = annotations.remove(words.auto_config),
            5 => {
                let place = PLACES[random.below(3)];
                if !self.places.remove(&place) || self.places.is_empty() {
                    self.places.insert(place);
                }
            }
            6 => objects.has_kind = !random.once_in(3),
            7 => _ = objects.configs.remove(&names[random.below(4)]),
            _ => {
                let name = names[random.below(4)].clone();
                let config = objects.configs.entry(name).or_default();
                let place = PLACES[random.below(3)];
                let scheduler = [None, Some("WRR"), Some("LEAST_CONN"), ODD.0][random.below(4)];
                let interval = [None, Some(7), Some(9), ODD.1][random.below(4)];
                config.insert(place, (scheduler, interval));
            }
        }
    }
}

/// The rules.
#[derive(Clone, Default)]
struct Model {
    set: BTreeMap<u16, Said>,
    /// What a controller that begins anew finds.
    written: BTreeMap<u16, Said>,
}

impl Model {
    fn look(&mut self, owned: &Owned, objects: &Objects) {
        let has = |place: u16| owned.places.contains(&place);
        self.set.retain(|place, _| has(*place));
        let words = Words::of(&owned.front);
        let [_, _, made, others] = owned.names();
        let name = owned.annotations.get(words.config);
        let auto = owned.annotations.get(words.auto_config).map(String::as_str) == Some("true");
        let followed = match (name, auto) {
            (Some(name), false) if *name != made && *name != others => name.clone(),
            (None, true) => made,
            _ => return,
        };
        let config = objects.configs.get(&followed).filter(|_| objects.has_kind);
        let said = config.into_iter().flatten();
        for (place, said) in said.filter(|(place, _)| has(**place)) {
            let said = (
                said.0.filter(|it| Some(*it) != ODD.0),
                said.1.filter(|it| Some(*it) != ODD.1),
            );
            let set = self.set.entry(*place).or_default();
            *set = (said.0.or(set.0), said.1.or(set.1));
        }
    }

    fn check(&mut self, owned: &Owned, objects: &Objects) {
        self.look(owned, objects);
        let places = owned.places.iter().map(|place| {
            let set = self.set.get(place).copied().unwrap_or_default();
            let interval = set.1.unwrap_or(5);
            (*place, (set.0.unwrap_or("WRR"), interval.into()))
        });
        assert_eq!(owned.effective(), places.collect());
    }
}

/// How often something was kept while nothing was followed.
fn run(front: &Front, seed: u64) -> usize {
    let mut kept = 0;
    let mut random = Random(seed);
    let mut owned = Owned::new(front.clone());
    let mut model = Model::default();
    let mut objects = Objects {
        has_kind: true,
        ..Objects::default()
    };
    owned.put();
    for _ in 0..30 {
        owned.edit(&mut random, &mut objects);
        if random.once_in(10) {
            owned.make_again(&mut random);
            model = Model::default();
        }
        owned.show(&objects);
        model.check(&owned, &objects);
        if random.once_in(2) {
            // The writer comes to it.
            match owned.plan().config.text.clone() {
                Some(text) => owned.annotations.insert(KEPT_CONFIG.to_owned(), text),
                None => owned.annotations.remove(KEPT_CONFIG),
            };
            owned.put();
            model.written.clone_from(&model.set);
        }
        if random.once_in(5) {
            // Another controller goes on with what is written.
            owned.checked = Checked::new(Options::default());
            model.set.clone_from(&model.written);
            owned.show(&objects);
            model.check(&owned, &objects);
        }
        let follows = owned.plan().config.followed.is_some();
        kept += usize::from(!follows && !model.set.is_empty());
    }
    kept
}

#[test]
fn whatever_is_edited_what_counts_is_what_the_rules_say() {
    for front in [Front::Service(key("a/web")), Front::Ingress(key("a/web"))] {
        let kept: usize = (0..80)
            .map(|seed| {
                println!("{front}, seed {seed}");
                run(&front, seed)
            })
            .sum();
        assert!(kept > 100, "{front}: only {kept} times something was kept");
    }
}
