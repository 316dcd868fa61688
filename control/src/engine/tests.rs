//! What the engine hands on, and when: a clock that stands, and channels instead of API server and proxies.

use super::*;
use crate::cluster::testing::{endpoint, node, pod, service, slice};
use crate::cluster::{Gate, Pod};
use crate::observed::ProxyView;

/// What a test holds in its hands.
struct Hands {
    shared: Shared,
    seen: mpsc::Sender<Seen>,
    observed: watch::Sender<Arc<Observed>>,
    reign: watch::Sender<Reign>,
    gates: gate::writer::Queue,
    engine: tokio::task::JoinHandle<()>,
}

fn start() -> Hands {
    let (seen, seeing) = mpsc::channel(64);
    let (observed, observing) = watch::channel(Arc::<Observed>::default());
    let (reign, reigning) = watch::channel(Reign::Follower);
    let (snapshot, _) = watch::channel(Arc::<Snapshot>::default());
    let (shared, gates) = (
        Shared::new(Options::default()),
        gate::writer::Queue::default(),
    );
    let engine = Engine {
        shared: shared.clone(),
        seen: seeing,
        observed: observing,
        reign: reigning,
        snapshot,
        secrets: watch::channel(Arc::default()).0,
        queue: Queue::default(),
        inbox: crate::timeline::follow::Inbox::default(),
        gates: gates.clone(),
        metrics: Metrics::new(),
    };
    Hands {
        shared,
        seen,
        observed,
        reign,
        gates,
        engine: tokio::spawn(engine.run()),
    }
}

impl Hands {
    async fn list(&self, kind: Kind, list: Vec<Change>) {
        let key = |change: &Change| match change {
            Change::Service(key, _) | Change::Slice(key, _) | Change::Pod(key, _) => key.clone(),
            Change::Node(name, _) => Key::new("", name),
            Change::Secret(..)
            | Change::TicketKeys(_)
            | Change::Switches(_)
            | Change::Observed(_) => Key::new("", ""),
        };
        let list = list.into_iter().map(|it| (key(&it), it)).collect();
        let seen = Seen {
            at: Instant::now(),
            what: What::Listed(kind, list),
        };
        self.seen.send(seen).await.unwrap();
    }

    /// Everything that is bound is healthy on the one proxy.
    fn pass(&self) {
        let sets = self.shared.look().builder.snapshot().sets.clone();
        let healthy = sets.iter().map(|(name, set)| {
            let keys = set.backends.iter().map(|backend| backend.key.clone());
            (name.clone(), keys.collect())
        });
        let proxy = ProxyView {
            serving: true,
            acked: u64::MAX,
            healthy: healthy.collect(),
            ..ProxyView::default()
        };
        self.observed.send_replace(Arc::new(Observed {
            proxies: [("a".to_owned(), Arc::new(proxy))].into(),
        }));
    }
}

/// Lets every task run that can; the clock moves by this only.
async fn settle(time: Duration) {
    tokio::time::sleep(time).await;
}

#[tokio::test(start_paused = true)]
async fn a_gate_is_asked_for_at_once_but_not_before_all_is_listed_nor_by_a_follower() {
    let hands = start();
    let waiting = |name: &str, address: &str| Pod {
        gate: Gate::Waiting,
        ..pod(name, address)
    };
    let bound = waiting("default/bound", "10.0.0.1");
    let alone = waiting("default/alone", "10.0.0.2");
    let of_web = slice("web-1", "default/web", vec![endpoint(&bound)]);
    let pods = [bound, alone].map(|pod| Change::Pod(pod.key.clone(), Some(pod)));
    hands.reign.send_replace(Reign::Leader { epoch: 1 });
    hands.list(Kind::Pod, pods.into()).await;
    let node = Change::Node("node-1".into(), Some(node("node-1", "10.89.0.11")));
    hands.list(Kind::Node, vec![node]).await;
    hands.list(Kind::Switches, Vec::new()).await;
    let of_web = Change::Slice(of_web.key.clone(), Some(of_web));
    hands.list(Kind::Slice, vec![of_web]).await;
    // Services are not listed yet: nobody is let through for that.
    settle(Duration::from_mins(1)).await;
    hands.pass();
    settle(Duration::from_mins(1)).await;
    assert_eq!(hands.gates.depth(), 0);
    hands.reign.send_replace(Reign::Follower);
    settle(Duration::from_millis(1)).await;
    let web = service("default/web");
    let web = Change::Service(web.key.clone(), Some(Box::new(web)));
    hands.list(Kind::Service, vec![web]).await;
    settle(Duration::from_millis(1)).await;
    hands.pass();
    settle(Duration::from_mins(1)).await;
    assert_eq!(hands.gates.depth(), 0, "it follows");
    // The one that is healthy at once, the other when it has held under this reign.
    hands.reign.send_replace(Reign::Leader { epoch: 3 });
    settle(Duration::from_millis(1)).await;
    assert_eq!(hands.gates.depth(), 1);
    settle(Duration::from_millis(1_900)).await;
    assert_eq!(hands.gates.depth(), 1);
    settle(Duration::from_millis(1_100)).await;
    assert_eq!(hands.gates.depth(), 2);
    hands.engine.abort();
}
