//! With proxies that are channels, on a paused clock.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use podline_api::v1::override_request::Action;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{advance, sleep};

use super::super::testing::{World, asked, deletion, eviction};
use super::*;
use crate::push::overrides::Ask;

const SECOND: Duration = Duration::from_secs(1);

/// Two proxies, and what they were told.
struct Bench {
    world: World,
    shared: Shared,
    closing: Closing,
    asks: Vec<mpsc::Receiver<Ask>>,
}

impl Bench {
    fn new(pods: usize) -> Self {
        let world = World::new(pods);
        let shared = world.share();
        let overrides = Overrides::default();
        let asks = (0..2)
            .map(|n| overrides.open(&format!("proxy-{n}")))
            .collect();
        Self {
            closing: Closing::new(shared.clone(), overrides, Metrics::new()),
            world,
            shared,
            asks,
        }
    }

    fn ask(&self, request: serde_json::Value) -> JoinHandle<(Closed, Duration)> {
        let closing = self.closing.clone();
        tokio::spawn(async move {
            let begun = Instant::now();
            let closed = closing.close(&asked(&request)).await;
            (closed, begun.elapsed())
        })
    }

    fn delete(&self, pod: usize) -> JoinHandle<(Closed, Duration)> {
        self.ask(deletion(&self.world, pod))
    }

    /// What a proxy is told next.
    async fn told(&mut self, proxy: usize) -> Ask {
        self.asks[proxy].recv().await.unwrap()
    }

    /// Both proxies do what they are told next.
    async fn obey(&mut self) -> Vec<v1::OverrideRequest> {
        let mut told = Vec::new();
        for proxy in 0..2 {
            let ask = self.told(proxy).await;
            told.extend(ask.requests);
            let _ = ask.answer.send(Outcome::Done);
        }
        told
    }

    fn is_quiet(&mut self) -> bool {
        self.asks.iter_mut().all(|asks| asks.try_recv().is_err())
    }

    fn figure(&self, name: &str) -> String {
        let page = self.closing.metrics.render(0, 0, &Observed::default());
        let line = page
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.unwrap_or("0").to_owned()
    }
}

#[tokio::test(start_paused = true)]
async fn a_deletion_waits_until_both_proxies_have_let_go() {
    let mut bench = Bench::new(3);
    let deletion = bench.delete(0);
    let first = bench.told(0).await;
    let second = bench.told(1).await;
    for ask in [&first, &second] {
        let request = &ask.requests[0];
        assert_eq!(
            (request.action(), request.set.as_str()),
            (Action::Drain, "default/web/tcp/80")
        );
        let backend = request.backend.as_ref().unwrap();
        assert_eq!(backend.id.as_deref(), Some(&*bench.world.pods[0].uid));
        assert_eq!(request.lasts.unwrap().seconds, 30);
        assert_eq!(
            request.note,
            "the deletion of Pod default/web-0 was asked for"
        );
        // Connections live on as the set has it.
        assert_eq!(request.drain_timeout, None);
        Override::try_from(request.clone()).unwrap();
    }
    first.answer.send(Outcome::Done).unwrap();
    sleep(SECOND).await;
    assert!(!deletion.is_finished());
    second.answer.send(Outcome::Done).unwrap();
    assert_eq!(deletion.await.unwrap(), (Closed::Drained, SECOND));
    assert_eq!(bench.figure("podline_control_drains_late_total"), "0");
}

#[tokio::test(start_paused = true)]
async fn a_proxy_that_hangs_costs_two_seconds_and_one_that_is_gone_nothing() {
    let mut bench = Bench::new(3);
    let deletion = bench.delete(0);
    let first = bench.told(0).await;
    let _held = bench.told(1).await;
    first.answer.send(Outcome::Done).unwrap();
    assert_eq!(deletion.await.unwrap(), (Closed::Late, WAIT));
    assert_eq!(bench.figure("podline_control_drains_late_total"), "1");
    let deletion = bench.delete(1);
    let first = bench.told(0).await;
    drop(bench.told(1).await);
    first.answer.send(Outcome::Failed("no".to_owned())).unwrap();
    assert_eq!(deletion.await.unwrap(), (Closed::Late, Duration::ZERO));
}

#[tokio::test(start_paused = true)]
async fn a_proxy_that_does_not_serve_is_told_and_not_waited_for() {
    let mut bench = Bench::new(3);
    let mut observed = bench.world.cluster.observed().clone();
    Arc::make_mut(observed.proxies.get_mut("proxy-1").unwrap()).serving = false;
    let mut without = (*observed.proxies["proxy-1"]).clone();
    without.features = Arc::default();
    observed
        .proxies
        .insert("proxy-2".to_owned(), Arc::new(without));
    let change = crate::cluster::Change::Observed(Arc::new(observed));
    bench.world.cluster.apply(change);
    bench.world.show(&bench.shared);
    let deletion = bench.delete(0);
    let first = bench.told(0).await;
    first.answer.send(Outcome::Done).unwrap();
    assert_eq!(deletion.await.unwrap(), (Closed::Drained, Duration::ZERO));
    assert_eq!(bench.told(1).await.requests.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn what_somebody_else_keeps_out_is_left_to_them() {
    let mut bench = Bench::new(3);
    let place = (
        "default/web/tcp/80".parse().unwrap(),
        bench.world.backend(0),
    );
    let mut observed = bench.world.cluster.observed().clone();
    let proxy = Arc::make_mut(observed.proxies.get_mut("proxy-1").unwrap());
    proxy.drained.insert(place, Whose::Foreign);
    let change = crate::cluster::Change::Observed(Arc::new(observed));
    bench.world.cluster.apply(change);
    bench.world.show(&bench.shared);
    let deletion = bench.delete(0);
    bench.told(0).await.answer.send(Outcome::Done).unwrap();
    assert_eq!(deletion.await.unwrap().0, Closed::Drained);
    advance(6 * SECOND).await;
    bench.closing.restore_due();
    assert_eq!(bench.told(0).await.requests[0].action(), Action::Undrain);
    assert!(bench.is_quiet());
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_is_not_deleted_gets_its_weight_back() {
    let mut bench = Bench::new(3);
    let restoring = tokio::spawn(bench.closing.clone().restore());
    let deletion = bench.delete(0);
    bench.obey().await;
    assert_eq!(deletion.await.unwrap().0, Closed::Drained);
    let allowed = Instant::now();
    for told in bench.obey().await {
        assert_eq!(told.action(), Action::Undrain);
        assert_eq!(
            told.backend.unwrap().id.as_deref(),
            Some(&*bench.world.pods[0].uid)
        );
        assert_eq!(told.lasts, None);
    }
    let took = allowed.elapsed();
    assert!(
        took >= 5 * SECOND && took <= 5 * SECOND + LOOK_EVERY,
        "{took:?}"
    );
    assert_eq!(bench.figure("podline_control_weights_restored_total"), "1");
    // It counts as somebody else again, and may be asked about again.
    let deletion = bench.delete(0);
    bench.obey().await;
    assert_eq!(deletion.await.unwrap().0, Closed::Drained);
    restoring.abort();
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_is_deleted_stays_out() {
    for is_gone in [false, true] {
        let mut bench = Bench::new(3);
        let restoring = tokio::spawn(bench.closing.clone().restore());
        let deletion = bench.delete(0);
        bench.obey().await;
        deletion.await.unwrap();
        sleep(4 * SECOND).await;
        if is_gone {
            let key = bench.world.pods[0].key.clone();
            bench
                .world
                .cluster
                .apply(crate::cluster::Change::Pod(key, None));
        } else {
            bench.world.change(0, |pod| pod.is_deleting = true);
        }
        bench.world.show(&bench.shared);
        sleep(60 * SECOND).await;
        assert!(bench.is_quiet());
        assert_eq!(bench.figure("podline_control_weights_restored_total"), "0");
        restoring.abort();
    }
}

#[tokio::test(start_paused = true)]
async fn a_caller_that_hangs_up_leaves_nothing_behind() {
    let mut bench = Bench::new(3);
    let restoring = tokio::spawn(bench.closing.clone().restore());
    let deletion = bench.delete(0);
    let held = (bench.told(0).await, bench.told(1).await);
    deletion.abort();
    let told = bench.obey().await;
    assert!(told.iter().all(|told| told.action() == Action::Undrain));
    drop(held);
    restoring.abort();
}

#[tokio::test(start_paused = true)]
async fn of_many_at_once_all_are_asked_for_at_once_and_the_last_stays() {
    let mut bench = Bench::new(50);
    let deletions: Vec<_> = (0..50).map(|pod| bench.delete(pod)).collect();
    // All are under way before any is answered.
    let mut asks = Vec::new();
    for _ in 0..49 {
        asks.push(bench.told(0).await);
        asks.push(bench.told(1).await);
    }
    for ask in asks {
        ask.answer.send(Outcome::Done).unwrap();
    }
    let mut kept = 0;
    for deletion in deletions {
        match deletion.await.unwrap() {
            (Closed::Drained, Duration::ZERO) => {}
            (Closed::Kept, Duration::ZERO) => kept += 1,
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(kept, 1);
    assert!(bench.is_quiet());
}

#[tokio::test(start_paused = true)]
async fn an_eviction_waits_as_a_deletion_does_and_what_is_not_ours_does_not() {
    let mut bench = Bench::new(2);
    let evicting = bench.ask(eviction("web-1"));
    bench.obey().await;
    assert_eq!(evicting.await.unwrap().0, Closed::Drained);
    assert_eq!(
        bench.ask(eviction("web-2")).await.unwrap().0,
        Closed::NotOurs
    );
    // The other one is on the way out.
    assert_eq!(bench.delete(0).await.unwrap().0, Closed::Kept);
    assert!(bench.is_quiet());
}

#[test]
fn a_note_is_never_too_long() {
    let long = Doomed {
        key: crate::cluster::Key::new(&"n".repeat(63), &"é".repeat(253)),
        uid: "".into(),
    };
    let note = note(&long);
    assert!(note.len() <= 253 && note.starts_with(NOTE), "{note}");
}
