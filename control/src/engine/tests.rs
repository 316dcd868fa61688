//! What the engine hands on, and when: a clock that stands, and channels instead of API server and proxies.

use super::*;
use crate::cluster::testing::{endpoint, key, node, pod, service, slice, tls_secret};
use crate::cluster::{Gate, Pod};
use crate::observed::ProxyView;

/// What a test holds in its hands.
struct Hands {
    shared: Shared,
    seen: mpsc::Sender<Seen>,
    observed: watch::Sender<Arc<Observed>>,
    reign: watch::Sender<Reign>,
    gates: gate::writer::Queue,
    snapshot: watch::Receiver<Arc<Snapshot>>,
    wanted: watch::Receiver<Arc<Wanted>>,
    is_alone: watch::Receiver<bool>,
    engine: tokio::task::JoinHandle<()>,
}

fn start() -> Hands {
    let (seen, seeing) = mpsc::channel(64);
    let (observed, observing) = watch::channel(Arc::<Observed>::default());
    let (reign, reigning) = watch::channel(Reign::Follower);
    let (snapshot, desired) = watch::channel(Arc::<Snapshot>::default());
    let (secrets, wanted) = watch::channel(Arc::<Wanted>::default());
    let (shared, gates) = (
        Shared::new(Options::default()),
        gate::writer::Queue::default(),
    );
    let (alone, is_alone) = watch::channel(false);
    let engine = Engine {
        shared: shared.clone(),
        seen: seeing,
        observed: observing,
        reign: reigning,
        snapshot,
        secrets,
        queue: Queue::default(),
        inbox: crate::timeline::follow::Inbox::default(),
        auto_configs: crate::auto_configs::Wanted::default(),
        gates: gates.clone(),
        alone,
        metrics: Metrics::new(),
    };
    Hands {
        shared,
        seen,
        observed,
        reign,
        gates,
        snapshot: desired,
        is_alone,
        wanted,
        engine: tokio::spawn(engine.run()),
    }
}

impl Hands {
    async fn list(&self, kind: Kind, list: Vec<Change>) {
        let key = |change: &Change| match change {
            Change::Service(key, _)
            | Change::Ingress(key, _)
            | Change::Slice(key, _)
            | Change::Pod(key, _)
            | Change::ServiceConfig(key, _) => key.clone(),
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

    async fn tell(&self, change: Change) {
        let seen = Seen {
            at: Instant::now(),
            what: What::Change(change),
        };
        self.seen.send(seen).await.unwrap();
        settle(Duration::from_millis(1)).await;
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
            ..Observed::default()
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
    hands.list(Kind::Ingress, Vec::new()).await;
    hands.list(Kind::ServiceConfig, Vec::new()).await;
    let of_web = Change::Slice(of_web.key.clone(), Some(of_web));
    hands.list(Kind::Slice, vec![of_web]).await;
    assert!(!*hands.is_alone.borrow(), "TKE may be where it is not seen");
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
    assert!(*hands.is_alone.borrow(), "no node is TKE's");
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

/// A Service whose port shows the certificate of Secret `secret`.
fn over_tls(secret: &str) -> Change {
    let mut web = service("default/web");
    web.annotations.insert(
        "service.cloud.tencent.com/specify-protocol".to_owned(),
        format!(r#"{{"80":{{"protocol":["HTTPS"],"tls":"{secret}"}}}}"#),
    );
    Change::Service(web.key.clone(), Some(Box::new(web)))
}

#[tokio::test(start_paused = true)]
async fn proxies_are_told_nothing_before_the_first_certificates_are_read() {
    let hands = start();
    hands.reign.send_replace(Reign::Leader { epoch: 1 });
    for kind in Kind::ALL {
        let list = match kind {
            Kind::Service => vec![over_tls("shop")],
            _ => Vec::new(),
        };
        hands.list(kind, list).await;
    }
    settle(Duration::from_mins(1)).await;
    let wanted = |name| hands.wanted.borrow().contains_key(&key(name));
    assert!(wanted("default/shop"));
    assert_eq!(hands.snapshot.borrow().version, 0, "a proxy may show it");
    let read = |name| Change::Secret(key(name), Some(tls_secret("a.example")));
    hands.tell(read("default/shop")).await;
    assert_eq!(
        hands.snapshot.borrow().version,
        0,
        "tickets are sealed, too"
    );
    hands.tell(Change::TicketKeys([].into())).await;
    let first = Arc::clone(&hands.snapshot.borrow());
    assert!(first.version > 0 && first.listeners["default/web/tcp/80"].tls.is_some());
    // Another Secret is named: what was shown stays until that is read, and nothing else waits for it.
    hands.tell(over_tls("other")).await;
    assert!(wanted("default/other") && !wanted("default/shop"));
    assert_eq!(hands.snapshot.borrow().listeners, first.listeners);
    assert!(hands.shared.look().is_synced());
    hands.tell(read("default/shop")).await;
    assert_eq!(hands.snapshot.borrow().listeners, first.listeners);
    hands.tell(read("default/other")).await;
    assert_ne!(hands.snapshot.borrow().listeners, first.listeners);
    let core = hands.shared.look();
    let known: Vec<_> = core.cluster.known_secrets().collect();
    assert_eq!(
        known,
        [&key("default/other")],
        "what is not wanted is not kept"
    );
}
