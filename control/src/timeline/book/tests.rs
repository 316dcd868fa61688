//! From what is seen to points, case by case. Proxies are "a" and "b".

mod measure;

use std::time::Duration;

use podline_api::{Backend, BackendId, CheckKind, HealthCheck, Name, SetSettings, Weight};

use super::super::ask::What;
use super::*;
use crate::cluster::testing::key;
use crate::observed::ProxyView;

fn at(ms: i64) -> Timestamp {
    Timestamp::from_millisecond(1_000_000 + ms).unwrap()
}

fn front() -> Front {
    Front::Service(key("default/web"))
}

fn web() -> Name {
    "default/web/tcp/80".parse().unwrap()
}

const CHECK: HealthCheck = HealthCheck {
    kind: CheckKind::Tcp,
    interval: Duration::from_secs(5),
    timeout: Duration::from_secs(2),
    healthy_threshold: 3,
    unhealthy_threshold: 3,
    port: None,
    source_address: None,
};

/// The backend of a Pod with this uid, which decides its address.
fn backend(uid: &str, weight: u8) -> Backend {
    let number: u32 = uid
        .bytes()
        .fold(7, |sum, byte| sum * 31 % 60_000 + u32::from(byte));
    let address = (std::net::Ipv4Addr::from(0x0af4_0000 + number), 8_080).into();
    let id = Some(BackendId::try_from(uid).unwrap());
    Backend {
        key: BackendKey { id, address },
        weight: Weight::try_from(u32::from(weight)).unwrap(),
        node: None,
    }
}

fn set_of(name: Name, backends: &[(&str, u8)], check: bool) -> Arc<BackendSet> {
    let check = check.then_some(CHECK);
    let backends = backends.iter().map(|(uid, weight)| backend(uid, *weight));
    Arc::new(BackendSet {
        name,
        settings: SetSettings {
            health_check: check,
            ..SetSettings::default()
        },
        backends: backends.collect(),
    })
}

fn facts(uid: &str) -> Facts {
    Facts {
        key: key(&format!("default/{uid}")),
        uid: uid.into(),
        owner: None,
        created: 900,
        waits: false,
        deleted: None,
    }
}

/// A book that leads, and what each proxy is at.
struct Bench {
    book: Book,
    observed: Observed,
    version: u64,
}

impl Bench {
    fn new() -> Self {
        let mut book = Book::default();
        book.begin(Some(at(0)));
        let mut bench = Self {
            book,
            observed: Observed::default(),
            version: 0,
        };
        for name in ["a", "b"] {
            let view = ProxyView {
                serving: true,
                features: Arc::new(["firsts".to_owned()].into()),
                ..ProxyView::default()
            };
            bench
                .observed
                .proxies
                .insert(name.to_owned(), Arc::new(view));
        }
        bench
    }

    fn proxy(&mut self, name: &str, change: impl FnOnce(&mut ProxyView), ms: i64) {
        let proxy = self.observed.proxies.get_mut(name).unwrap();
        change(Arc::make_mut(proxy));
        self.book.observe(Arc::new(self.observed.clone()), at(ms));
    }

    /// A proxy acts on everything.
    fn ack(&mut self, name: &str, ms: i64) {
        let version = self.version;
        self.proxy(name, |proxy| proxy.acked = version, ms);
    }

    fn passes(&mut self, name: &str, uid: &str, ms: i64) {
        let key = backend(uid, 10).key;
        let passing = |proxy: &mut ProxyView| {
            proxy.healthy.entry(web()).or_default().insert(key);
        };
        self.proxy(name, passing, ms);
    }

    /// Service "web" has these backends from a new snapshot on.
    fn bind(&mut self, backends: &[(&str, u8)], ms: i64) {
        self.bind_facts(backends, facts, Some(at(ms)), ms);
    }

    fn bind_facts(
        &mut self,
        backends: &[(&str, u8)],
        facts: impl Fn(&str) -> Facts,
        seen: Option<Timestamp>,
        ms: i64,
    ) {
        self.version += 1;
        let sets = vec![set_of(web(), backends, true)];
        let unknown = self.book.unknown(&front(), &sets);
        let unknown = unknown
            .into_iter()
            .map(|uid| (uid.into(), facts(uid)))
            .collect();
        let seen = Seen {
            sets,
            version: self.version,
            at: seen,
        };
        self.book.front(&front(), seen, &unknown, at(ms));
    }

    fn hear(&mut self, proxy: &str, uid: &str, what: What, ms: i64) {
        let told = Told {
            proxy: proxy.into(),
            set: web(),
            backend: backend(uid, 10).key,
            what,
        };
        self.book.hear(&told, at(ms));
    }

    fn firsts(&mut self, proxy: &str, uid: &str, probe: Option<i64>, connection: Option<i64>) {
        let what = What::Firsts {
            started: at(-500),
            probe: probe.map(at),
            connection: connection.map(at),
        };
        self.hear(proxy, uid, what, 600);
    }

    fn pod(&mut self, name: &str, facts: Option<Facts>, ms: i64) {
        self.book
            .pod(&key(&format!("default/{name}")), facts, at(ms));
    }

    fn deleting(&mut self, uid: &str, ms: i64) {
        let deleted = Some(Some(1_000));
        self.pod(
            uid,
            Some(Facts {
                deleted,
                ..facts(uid)
            }),
            ms,
        );
    }

    /// When a Pod came to the points, in milliseconds.
    fn points(&self, uid: &str) -> Vec<(Point, i64)> {
        let row = &self.book.rows[uid];
        let known = Point::ALL.into_iter().filter_map(|point| {
            let at = row.points.get(point)?;
            Some((point, at.as_millisecond() - 1_000_000))
        });
        known.collect()
    }

    fn up(&mut self, uid: &str) {
        self.bind(&[(uid, 10)], 10);
        for (proxy, ms) in [("a", 20), ("b", 30)] {
            self.ack(proxy, ms);
            self.passes(proxy, uid, 300 + ms);
        }
    }
}

use Point::{
    Bound, Closed, Connected, Empty, Endpoint, GateOpened, Gone, Healthy, Probed, Terminating,
};

#[test]
fn a_pod_comes_and_goes_by_what_every_proxy_says() {
    let mut bench = Bench::new();
    bench.bind(&[("x", 10)], 10);
    bench.ack("a", 20);
    assert_eq!(bench.points("x"), [(Endpoint, 10)], "one of two has it");
    bench.ack("b", 25);
    bench.passes("b", "x", 300);
    bench.passes("a", "x", 310);
    bench.firsts("a", "x", Some(40), None);
    bench.firsts("b", "x", Some(35), Some(500));
    bench.firsts("a", "x", Some(41), Some(400));
    let came = [
        (Endpoint, 10),
        (Bound, 25),
        (Probed, 40),
        (Healthy, 310),
        (Connected, 400),
    ];
    assert_eq!(bench.points("x"), came);
    bench.deleting("x", 1_000);
    bench.bind(&[("x", 0)], 1_001);
    bench.ack("a", 1_010);
    bench.ack("b", 1_020);
    bench.pod("x", None, 2_000);
    bench.bind(&[], 2_001);
    bench.hear("a", "x", What::Empty(at(2_010)), 2_010);
    assert!(!bench.points("x").iter().any(|(point, _)| *point == Empty));
    bench.hear("b", "x", What::Empty(at(2_020)), 2_020);
    let went = [
        (Terminating, 1_000),
        (Closed, 1_020),
        (Empty, 2_020),
        (Gone, 2_000),
    ];
    assert_eq!(bench.points("x"), [&came[..], &went].concat());
    assert!(bench.book.moving.is_empty());
}

#[test]
fn the_order_in_which_news_come_does_not_matter() {
    let mut bench = Bench::new();
    // Verdicts before acknowledgements; the answer about probes before either.
    bench.bind(&[("x", 10)], 10);
    bench.firsts("a", "x", Some(15), Some(30));
    bench.firsts("b", "x", Some(14), None);
    bench.passes("b", "x", 20);
    bench.passes("a", "x", 21);
    bench.ack("b", 22);
    bench.ack("a", 23);
    let points = [
        (Endpoint, 10),
        (Bound, 23),
        (Probed, 15),
        (Healthy, 23),
        (Connected, 30),
    ];
    assert_eq!(bench.points("x"), points);
    // Gone before it is seen to terminate, and closed by its removal.
    bench.pod("x", None, 100);
    bench.bind(&[], 101);
    bench.ack("a", 110);
    bench.ack("b", 111);
    assert_eq!(bench.points("x")[5..], [(Closed, 111), (Gone, 100)]);
}

#[test]
fn clocks_that_disagree_bring_no_nonsense() {
    let mut bench = Bench::new();
    bench.up("x");
    bench.firsts("a", "x", Some(5_000), Some(2));
    bench.firsts("b", "x", Some(1), None);
    let points = bench.points("x");
    assert_eq!(
        points[2..],
        [(Probed, 330), (Healthy, 330), (Connected, 10)]
    );
}

#[test]
fn a_proxy_that_leaves_is_not_waited_for_and_one_that_comes_is() {
    let mut bench = Bench::new();
    bench.bind(&[("x", 10)], 10);
    bench.ack("a", 20);
    bench.passes("a", "x", 300);
    bench.firsts("a", "x", Some(30), None);
    assert_eq!(bench.points("x"), [(Endpoint, 10)]);
    bench.proxy("b", |proxy| proxy.serving = false, 400);
    assert_eq!(
        bench.points("x"),
        [(Endpoint, 10), (Bound, 400), (Probed, 30), (Healthy, 400)]
    );
    bench.bind(&[("x", 10), ("y", 10)], 500);
    bench.proxy("a", |proxy| proxy.serving = false, 501);
    assert_eq!(bench.points("y"), [(Endpoint, 500)], "nobody serves");
    bench.proxy("b", |proxy| proxy.serving = true, 600);
    assert_eq!(bench.points("y"), [(Endpoint, 500)], "it does not have it");
    bench.ack("b", 700);
    assert_eq!(bench.points("y"), [(Endpoint, 500), (Bound, 700)]);
}

#[test]
fn a_proxy_that_began_later_knows_no_firsts_and_an_old_one_cannot_tell() {
    let mut bench = Bench::new();
    bench.up("x");
    let late = What::Firsts {
        started: at(200),
        probe: Some(at(210)),
        connection: Some(at(220)),
    };
    bench.hear("b", "x", late, 600);
    assert_eq!(bench.points("x").len(), 3);
    bench.firsts("a", "x", Some(40), None);
    assert_eq!(bench.points("x")[2], (Probed, 40), "of those that can know");
    let mut bench = Bench::new();
    bench.proxy("b", |proxy| proxy.features = Arc::default(), 0);
    bench.up("x");
    bench.firsts("a", "x", Some(40), Some(50));
    assert_eq!(
        bench.points("x"),
        [(Endpoint, 10), (Bound, 30), (Healthy, 330)]
    );
}

#[test]
fn what_drained_before_deletion_was_closed_before() {
    let mut bench = Bench::new();
    bench.up("x");
    // By weight, and back; then by an override, and back; then for good.
    bench.bind(&[("x", 0)], 1_000);
    bench.ack("a", 1_010);
    bench.ack("b", 1_010);
    bench.bind(&[("x", 10)], 1_020);
    for proxy in ["a", "b"] {
        bench.hear(proxy, "x", What::Closed(at(1_100)), 1_100);
        bench.hear(proxy, "x", What::Reopened, 1_200);
        bench.ack(proxy, 1_200);
    }
    for (proxy, ms) in [("a", 3_000), ("b", 3_005)] {
        bench.hear(proxy, "x", What::Closed(at(ms)), ms);
    }
    assert_eq!(bench.points("x").len(), 3, "it is not terminating");
    bench.deleting("x", 3_010);
    bench.bind(&[("x", 0)], 3_011);
    bench.ack("a", 3_020);
    // The override ends first, and it stays so.
    bench.hear("a", "x", What::Empty(at(3_030)), 3_030);
    bench.hear("a", "x", What::Reopened, 3_040);
    bench.hear("b", "x", What::Empty(at(3_050)), 3_050);
    assert_eq!(
        bench.points("x")[3..],
        [(Terminating, 3_010), (Closed, 3_005), (Empty, 3_050)]
    );
    let (_, news) = bench.book.tick(at(5_000));
    assert!(
        news.steps.contains(&("terminating_to_closed", 0.0)),
        "{news:?}"
    );
}

#[test]
fn what_was_there_before_the_reign_is_told_and_not_measured() {
    let mut bench = Bench::new();
    let old = |uid: &str| Facts {
        deleted: (uid == "y").then_some(Some(990)),
        ..facts(uid)
    };
    bench.bind_facts(&[("x", 10), ("y", 0)], old, None, 10);
    for proxy in ["a", "b"] {
        bench.ack(proxy, 20);
        bench.passes(proxy, "x", 30);
        bench.firsts(proxy, "x", Some(1), Some(2));
    }
    assert_eq!(bench.points("x"), []);
    assert_eq!(bench.points("y"), [(Terminating, -10_000), (Closed, 20)]);
    bench.pod("y", None, 500);
    let (wanted, news) = bench.book.tick(at(9_000));
    assert_eq!((wanted, news), (Wanted::new(), News::default()));
    // Nothing of one reign lasts into the next.
    bench.book.begin(None);
    bench.bind(&[("z", 10)], 10);
    assert!(bench.book.is_empty());
}

#[test]
fn a_new_uid_of_an_old_name_is_another_pod() {
    let mut bench = Bench::new();
    bench.up("x");
    let again = |uid: &str| Facts {
        key: key("default/x"),
        ..facts(uid)
    };
    // The slice may come before the object.
    bench.bind_facts(&[("x2", 10)], again, Some(at(1_000)), 1_000);
    assert_eq!(bench.points("x").last(), Some(&(Gone, 1_000)));
    assert_eq!(bench.points("x2"), [(Endpoint, 1_000)]);
    bench.pod("x", Some(again("x2")), 1_001);
    assert_eq!(bench.points("x2"), [(Endpoint, 1_000)]);
    bench.pod("x", Some(again("x3")), 1_002);
    assert_eq!(
        bench.points("x2").last(),
        Some(&(Gone, 1_002)),
        "or after it"
    );
}

#[test]
fn each_pod_has_one_event_when_it_is_in_service() {
    let mut bench = Bench::new();
    let gated = |uid: &str| Facts {
        waits: uid == "x",
        ..facts(uid)
    };
    bench.bind_facts(&[("x", 10), ("y", 10)], gated, Some(at(10)), 10);
    for (proxy, ms) in [("a", 20), ("b", 30)] {
        bench.ack(proxy, ms);
        bench.passes(proxy, "x", 300 + ms);
        bench.passes(proxy, "y", 301 + ms);
    }
    let told = |bench: &mut Bench, ms| {
        let (_, news) = bench.book.tick(at(ms));
        news.events
            .into_iter()
            .map(|(key, _, words)| format!("{key} {words}"))
            .collect::<Vec<_>>()
    };
    assert!(
        told(&mut bench, 600).is_empty(),
        "the first probe is not known yet"
    );
    bench.firsts("a", "y", Some(40), None);
    bench.firsts("b", "y", Some(41), None);
    let words = "default/y bound after 20 ms, first probe after 31 ms, healthy after 321 ms";
    assert_eq!(told(&mut bench, 700), [words]);
    assert!(told(&mut bench, 5_000).is_empty(), "the gate is not open");
    bench.book.note(&"x".into(), GateOpened, at(6_000));
    assert!(told(&mut bench, 7_900).is_empty());
    let words = "default/x bound after 20 ms, healthy after 320 ms, gate open after 5990 ms";
    assert_eq!(told(&mut bench, 8_100), [words]);
    bench.pod("x", Some(facts("x")), 8_200);
    assert!(told(&mut bench, 8_300).is_empty());
}

#[test]
fn steps_are_counted_once_when_all_had_time_to_tell() {
    let mut bench = Bench::new();
    bench.up("x");
    bench.firsts("a", "x", Some(40), Some(450));
    assert_eq!(bench.book.tick(at(700)).1.steps, []);
    bench.firsts("b", "x", Some(45), Some(400));
    let steps = bench.book.tick(at(1_700)).1.steps;
    let names: Vec<_> = steps.iter().map(|(name, _)| *name).collect();
    assert_eq!(
        names,
        ["endpoint_to_bound", "bound_to_probed", "bound_to_healthy"]
    );
    assert!((steps[2].1 - 0.3).abs() < 1e-9, "{steps:?}");
    assert_eq!(bench.book.tick(at(3_000)).1.steps, []);
    bench.book.note(&"x".into(), GateOpened, at(3_000));
    let steps = bench.book.tick(at(4_100)).1.steps;
    assert_eq!(
        steps[1],
        ("gate_to_connected", 0.0),
        "it came before: {steps:?}"
    );
    bench.firsts("b", "x", None, Some(100));
    assert_eq!(
        bench.points("x").last(),
        Some(&(Connected, 400)),
        "it was counted"
    );
}

#[test]
fn firsts_are_asked_for_later_and_later_and_not_for_ever() {
    let mut bench = Bench::new();
    bench.up("x");
    bench.firsts("a", "x", Some(40), None);
    bench.firsts("b", "x", Some(40), None);
    let mut asked = Vec::new();
    for ms in (0..1_200_000).step_by(250) {
        let (wanted, _) = bench.book.tick(at(ms));
        if !wanted.is_empty() {
            let keys = [backend("x", 10).key].into();
            assert_eq!(wanted, [(web(), keys)].into());
            asked.push(ms);
        }
    }
    assert_eq!(asked[..4], [500, 750, 1_250, 2_250]);
    assert!(
        asked.len() <= 13 && *asked.last().unwrap() < 600_000,
        "{asked:?}"
    );
    assert!(bench.book.open.is_empty());
    bench.deleting("x", 2_000_000);
    assert_eq!(
        bench.book.tick(at(2_000_000)).0.len(),
        1,
        "once more before it goes"
    );
    bench.firsts("a", "x", None, Some(1_900_000));
    bench.book.tick(at(2_100_000));
    assert!(bench.book.open.is_empty());
}

#[test]
fn pods_of_several_sets_are_as_far_as_the_slowest() {
    let mut bench = Bench::new();
    let other: Name = "default/web/udp/53".parse().unwrap();
    let sets = vec![
        set_of(web(), &[("x", 10)], true),
        set_of(other.clone(), &[("x", 10)], false),
    ];
    let seen = Seen {
        sets,
        version: 1,
        at: Some(at(10)),
    };
    bench.version = 1;
    let known = [("x".into(), facts("x"))].into();
    bench.book.front(&front(), seen, &known, at(10));
    for (proxy, ms) in [("a", 20), ("b", 30)] {
        bench.ack(proxy, ms);
        bench.passes(proxy, "x", 300 + ms);
        bench.firsts(proxy, "x", Some(40), None);
    }
    assert_eq!(
        bench.points("x").last(),
        Some(&(Probed, 40)),
        "one set is probed"
    );
    let key = backend("x", 10).key;
    for (proxy, ms) in [("a", 400), ("b", 500)] {
        let both = |proxy: &mut ProxyView| {
            proxy
                .healthy
                .entry(other.clone())
                .or_default()
                .insert(key.clone());
        };
        bench.proxy(proxy, both, ms);
    }
    assert_eq!(bench.points("x").last(), Some(&(Healthy, 500)));
}

#[test]
fn rows_of_the_gone_are_kept_for_an_hour_and_not_too_many() {
    let mut bench = Bench::new();
    let uids: Vec<String> = (0..10_000).map(|n| format!("pod-{n:05}")).collect();
    let all: Vec<(&str, u8)> = uids.iter().map(|uid| (uid.as_str(), 10)).collect();
    bench.bind(&all, 10);
    for proxy in ["a", "b"] {
        bench.ack(proxy, 20);
    }
    assert_eq!(bench.book.len(), 10_000);
    assert_eq!(bench.points("pod-00000"), [(Endpoint, 10), (Bound, 20)]);
    bench.bind(&[], 30);
    for proxy in ["a", "b"] {
        bench.ack(proxy, 40);
    }
    for (n, uid) in uids.iter().enumerate().take(6_000) {
        bench.pod(uid, None, 100 + i64::try_from(n).unwrap());
    }
    bench.book.tick(at(10_000));
    assert_eq!(bench.book.len(), 4_000 + MOST_GONE);
    assert!(
        !bench.book.rows.contains_key("pod-00999"),
        "the oldest went first"
    );
    assert!(bench.book.rows.contains_key("pod-01000"));
    bench.book.tick(at(3_600_000 + 4_000));
    assert_eq!(bench.book.len(), 4_000 + 2_100);
    bench.book.tick(at(3_700_000));
    assert_eq!(bench.book.len(), 4_000, "those that live stay");
    for uid in &uids[6_000..] {
        bench.pod(uid, None, 3_700_000);
    }
    bench.book.tick(at(9_000_000));
    bench
        .book
        .observe(Arc::new(bench.observed.clone()), at(9_000_000));
    let book = &bench.book;
    assert!(book.is_empty() && book.living.is_empty() && book.gone.is_empty());
    assert!(book.moving.is_empty() && book.open.is_empty());
}
