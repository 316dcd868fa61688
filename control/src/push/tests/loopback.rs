//! All of it over loopback: two proxies, one of which hangs and one of which is killed.

use std::collections::BTreeMap;
use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::poll;
use jiff::Timestamp;
use podline_api::v1;
use podline_api::v1::watch_response::Event;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::fake::Fake;
use super::{Build, key, name, owner, set, web};
use crate::observed::{Observed, ProxyView};
use crate::push::{Inputs, Notable, Overrides, Pushed, Recorder, Reign, Target, run};
use crate::snapshot::Snapshot;
use crate::timeline::{Ear, Told, Wanted, What};

/// Longer than anything takes that is waited for.
pub(super) const LONG: Duration = Duration::from_secs(30);

#[derive(Default)]
struct Counts {
    full: Mutex<BTreeMap<String, usize>>,
    settled: Mutex<Vec<u64>>,
    disconnected: Mutex<usize>,
}

impl Recorder for Counts {
    fn pushed(&self, proxy: &str, what: Pushed, _took: Duration) {
        if what == Pushed::Full {
            *self
                .full
                .lock()
                .unwrap()
                .entry(proxy.to_owned())
                .or_default() += 1;
        }
    }

    fn disconnected(&self, _proxy: &str, _why: &str) {
        *self.disconnected.lock().unwrap() += 1;
    }

    fn settled(&self, version: u64, _took: Duration) {
        self.settled.lock().unwrap().push(version);
    }
}

pub(super) struct Bench {
    desired: watch::Sender<Arc<Snapshot>>,
    reign: watch::Sender<Reign>,
    targets: watch::Sender<BTreeMap<String, Target>>,
    observed: watch::Receiver<Arc<Observed>>,
    wanted: watch::Sender<Arc<Wanted>>,
    told: mpsc::Receiver<Told>,
    notable: mpsc::Receiver<Notable>,
    counts: Arc<Counts>,
    pub(super) overrides: Overrides,
    task: Option<JoinHandle<()>>,
}

impl Bench {
    pub(super) fn start(fakes: &[(&str, &Fake)], reign: Reign) -> Self {
        let (mut bench, work) = Self::still(fakes, reign);
        bench.task = Some(tokio::spawn(work));
        bench
    }

    /// A bench whose work nobody does yet, and that work.
    fn still(fakes: &[(&str, &Fake)], reign: Reign) -> (Self, impl Future<Output = ()> + use<>) {
        let target = |(name, fake): &(&str, &Fake)| {
            let target = Target {
                target: fake.address.to_string(),
                addresses: vec![fake.address.ip()],
            };
            ((*name).to_owned(), target)
        };
        let desired = watch::Sender::new(Arc::new(Snapshot::default()));
        let targets = watch::Sender::new(fakes.iter().map(target).collect());
        let reign = watch::Sender::new(reign);
        let counts = Arc::new(Counts::default());
        let overrides = Overrides::default();
        let wanted = watch::Sender::default();
        let (tell, told) = mpsc::channel(4);
        let ear = Ear {
            told: tell,
            wanted: wanted.subscribe(),
        };
        let inputs = Inputs {
            ear,
            owner: owner(),
            desired: desired.subscribe(),
            reign: reign.subscribe(),
            tls: watch::channel(None).1,
            targets: targets.subscribe(),
            recorder: Arc::clone(&counts) as Arc<dyn Recorder>,
            overrides: overrides.clone(),
            announcing: crate::push::Announcing::default(),
        };
        let (out, observed) = watch::channel(Arc::default());
        let (notes, notable) = mpsc::channel(4);
        let bench = Self {
            desired,
            reign,
            targets,
            observed,
            wanted,
            told,
            notable,
            counts,
            overrides,
            task: None,
        };
        (bench, run(inputs, out, notes))
    }

    pub(super) fn reign(&self, reign: Reign) {
        self.reign.send_replace(reign);
    }

    pub(super) fn want(&self, snapshot: Snapshot) {
        self.desired.send_replace(Arc::new(snapshot));
    }

    /// Waits until a proxy is so.
    pub(super) async fn until(
        &mut self,
        proxy: &str,
        is_so: impl Fn(&ProxyView) -> bool,
    ) -> Arc<ProxyView> {
        let mut last = String::new();
        let found = self.observed.wait_for(|observed| {
            let view = observed.proxies.get(proxy);
            last = format!("{view:?}");
            view.is_some_and(|view| is_so(view))
        });
        let found = timeout(LONG, found).await.ok();
        match found {
            Some(found) => Arc::clone(&found.unwrap().proxies[proxy]),
            None => panic!("{last}"),
        }
    }

    pub(super) async fn until_acked(&mut self, proxy: &str, version: u64) {
        self.until(proxy, |view| view.serving && view.acked == version)
            .await;
    }
}

/// Else the first to serve would be all that serve, and be given every address.
#[tokio::test]
async fn all_proxies_are_known_before_the_first_is_spoken_to() {
    let (a, b) = (Fake::start(), Fake::start());
    let (bench, work) = Bench::still(&[("a", &a), ("b", &b)], Reign::Follower);
    let mut work = pin!(work);
    // Their own tasks have no turn meanwhile.
    let mut known = Vec::new();
    for _ in 0..100 {
        assert!(poll!(&mut work).is_pending());
        known = bench.observed.borrow().proxies.keys().cloned().collect();
        if !known.is_empty() {
            break;
        }
    }
    assert_eq!(known, ["a", "b"]);
}

#[tokio::test]
async fn proxies_are_kept_at_the_newest_snapshot_whatever_happens_to_one() {
    let (mut a, b) = (Fake::start(), Fake::start());
    let leader = Reign::Leader { epoch: 3 };
    let mut bench = Bench::start(&[("a", &a), ("b", &b)], leader);
    let unbuilt = bench.until("a", |view| view.level == 3).await;
    assert_eq!(
        unbuilt.not_serving_reason,
        "nothing was built yet that it could be told"
    );
    let first = web();
    bench.want(first.clone());
    for proxy in ["a", "b"] {
        bench.until_acked(proxy, 1).await;
        let is_known = |view: &ProxyView| (1..=3).all(|n| view.is_healthy(&name("web"), &key(n)));
        bench.until(proxy, is_known).await;
    }
    a.with_model(|model| model.check_is(&first));
    a.tell(Event::Health(v1::HealthChanged {
        set: "web".to_owned(),
        backend: Some((&key(2)).into()),
        to: v1::Health::Unhealthy.into(),
        version: 100,
        ..Default::default()
    }));
    let is_told = |view: &ProxyView| !view.is_healthy(&name("web"), &key(2));
    bench.until("a", is_told).await;

    // A watch is cut off: it begins anew beside the push.
    a.with_model(|model| model.sets.get_mut("web").unwrap().0.backends.remove(0));
    a.cut_watchers();
    let has = |view: &ProxyView, n| view.is_healthy(&name("web"), &key(n));
    let is_told = |view: &ProxyView| !has(view, 1) && has(view, 2);
    bench.until("a", is_told).await;
    a.with_model(|model| model.sets.get_mut("web").unwrap().0 = set("web", 1..=3));
    assert_eq!(*bench.counts.disconnected.lock().unwrap(), 0);

    // One hangs: the other goes on.
    b.hang(true);
    let second = first.next().with_set(set("web", 1..=4));
    bench.want(second.clone());
    bench.until_acked("a", 2).await;
    let hung = bench.until("b", |view| !view.serving).await;
    assert!(
        hung.not_serving_reason.starts_with("it has not answered"),
        "{hung:?}"
    );
    b.hang(false);
    bench.until_acked("b", 2).await;
    b.with_model(|model| model.check_is(&second));

    // One is killed, and another begins with nothing.
    a.restart();
    bench.until("a", |view| !view.serving).await;
    bench.until_acked("a", 2).await;
    a.with_model(|model| model.check_is(&second));
    assert_eq!(bench.counts.full.lock().unwrap()["a"], 2);
    assert!(bench.counts.settled.lock().unwrap().contains(&2));

    // One follows another leader.
    a.with_model(|model| model.epoch = Some(9));
    let third = second.next().with_set(set("web", 1..=2));
    bench.want(third.clone());
    let note = timeout(LONG, bench.notable.recv()).await.unwrap();
    let deposed = Notable::Deposed {
        proxy: "a".to_owned(),
        highest_epoch: 9,
    };
    assert_eq!(note, Some(deposed));
    bench.until_acked("b", 3).await;
    bench.reign.send_replace(Reign::Leader { epoch: 10 });
    bench.until_acked("a", 3).await;
    a.with_model(|model| model.check_is(&third));

    // One is no target any more.
    bench
        .targets
        .send_modify(|targets| drop(targets.remove("a")));
    let gone = bench
        .observed
        .wait_for(|observed| !observed.proxies.contains_key("a"));
    timeout(LONG, gone).await.unwrap().unwrap();
    bench.until_acked("b", 3).await;
    drop(bench.targets);
    timeout(LONG, bench.task.unwrap()).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_follower_watches_and_pushes_nothing() {
    let fake = Fake::start();
    let mut bench = Bench::start(&[("a", &fake)], Reign::Follower);
    bench.want(web());
    bench.until("a", |view| view.serving).await;
    fake.with_model(|model| {
        assert_eq!((model.version, model.epoch), (0, None));
    });
    bench.reign.send_replace(Reign::Leader { epoch: 1 });
    bench.until_acked("a", 1).await;
    bench.reign.send_replace(Reign::Follower);
    bench
        .until("a", |view| view.serving && view.acked == 0)
        .await;
    bench.want(web().next().with_set(set("web", [1])));
    // What was not pushed shows where it would have been.
    bench.reign.send_replace(Reign::Leader { epoch: 2 });
    bench.until_acked("a", 2).await;
    assert_eq!(fake.with_model(|model| model.epoch), Some(2));
}

fn share_of(fake: &Fake) -> Option<(u16, u16)> {
    fake.with_model(|model| {
        let share = model.network.as_ref()?.port_share?;
        Some((share.slot, share.slots))
    })
}

/// Waits until proxies have these shares.
async fn until_shared(fakes: &[(&Fake, (u16, u16))]) {
    let all = async {
        while fakes
            .iter()
            .any(|(fake, share)| share_of(fake) != Some(*share))
        {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    if timeout(LONG, all).await.is_err() {
        let found: Vec<_> = fakes.iter().map(|(fake, _)| share_of(fake)).collect();
        panic!("{found:?}");
    }
}

#[tokio::test]
async fn proxies_part_the_source_ports_and_a_new_leader_changes_nothing() {
    let [a, b, c] = [Fake::start(), Fake::start(), Fake::start()];
    let share = |slot, slots| podline_api::PortShare { slot, slots };
    let before = |fake: &Fake, share| {
        fake.with_model(|model| {
            model.network = Some(podline_api::Network {
                port_share: Some(share),
                ..Default::default()
            });
        });
    };
    // What they were told by the leader before, but for the newest.
    before(&a, share(1, 4));
    before(&b, share(0, 4));
    let leader = Reign::Leader { epoch: 2 };
    let mut bench = Bench::start(&[("a", &a), ("b", &b)], leader);
    bench.want(web().with_nodes(&["n1"]));
    bench.until_acked("a", 1).await;
    bench.until_acked("b", 1).await;
    until_shared(&[(&a, (1, 4)), (&b, (0, 4))]).await;
    let target = Target {
        target: c.address.to_string(),
        addresses: vec![c.address.ip()],
    };
    bench
        .targets
        .send_modify(|targets| drop(targets.insert("c".to_owned(), target)));
    bench.until_acked("c", 1).await;
    until_shared(&[(&a, (1, 4)), (&b, (0, 4)), (&c, (2, 4))]).await;
    assert_eq!(
        bench.counts.full.lock().unwrap()["a"],
        1,
        "nothing else is sent"
    );
    bench.reign.send_replace(Reign::Follower);
    bench.reign.send_replace(Reign::Leader { epoch: 3 });
    bench.until_acked("c", 1).await;
    until_shared(&[(&a, (1, 4)), (&b, (0, 4)), (&c, (2, 4))]).await;
}

#[tokio::test]
async fn nobody_is_spoken_to_over_a_network_without_a_certificate() {
    let fake = Fake::start();
    let mut bench = Bench::start(&[("a", &fake)], Reign::Follower);
    bench.until("a", |view| view.serving).await;
    let elsewhere = Target {
        target: "192.0.2.1:9902".to_owned(),
        addresses: Vec::new(),
    };
    bench
        .targets
        .send_modify(|targets| drop(targets.insert("b".to_owned(), elsewhere)));
    let waits = "there is no certificate yet to speak to it with";
    bench
        .until("b", |view| view.not_serving_reason == waits)
        .await;
}

#[tokio::test]
async fn first_connections_are_asked_for_and_told_in_our_time() {
    let fake = Fake::start();
    fake.with_model(|model| model.has_clock = true);
    let mut bench = Bench::start(&[("a", &fake)], Reign::Leader { epoch: 1 });
    let begun = Timestamp::now();
    let snapshot = web();
    let (name, set) = snapshot.sets.iter().next().unwrap();
    let asked: Wanted = [(name.clone(), [set.backends[0].key.clone()].into())].into();
    bench.want(snapshot.clone());
    bench.until_acked("a", 1).await;
    bench.wanted.send_replace(Arc::new(asked));
    let told = timeout(LONG, bench.told.recv()).await.unwrap().unwrap();
    assert_eq!((&*told.proxy, &told.set), ("a", name));
    assert_eq!(told.backend, set.backends[0].key);
    let What::Firsts {
        connection: Some(connection),
        probe: None,
        ..
    } = told.what
    else {
        panic!("{told:?}")
    };
    // Half of the question's way and the answer's is what it may be wrong by.
    let slack = jiff::SignedDuration::from_secs(5);
    assert!(
        (begun - slack..=Timestamp::now()).contains(&connection),
        "{connection}"
    );
}
