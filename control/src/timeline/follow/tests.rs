//! From the engine's inbox, the proxies' words and the lease to rows, questions and events.

use std::convert::Infallible;

use http_body_util::{BodyExt, Full};
use kube::client::Body;
use serde_json::Value;
use tokio::time::sleep;

use super::*;
use crate::build::Options;
use crate::cluster::testing::{endpoint, key, node, pod, service, slice};
use crate::cluster::{Change as Seen, Kind, Touched};
use crate::lease::Commander;
use crate::observed::ProxyView;
use crate::timeline::{Point, What};

/// An API server that takes every event.
fn server(events: Arc<Mutex<Vec<Value>>>) -> kube::Client {
    let service = tower::service_fn(move |request: http::Request<Body>| {
        let events = Arc::clone(&events);
        async move {
            let body = request.into_body().collect().await.unwrap().to_bytes();
            events
                .lock()
                .unwrap()
                .push(serde_json::from_slice(&body).unwrap());
            let answer = Full::from(r#"{"metadata": {}}"#);
            Ok::<_, Infallible>(http::Response::builder().status(201).body(answer).unwrap())
        }
    });
    kube::Client::new(service, "default")
}

struct Bench {
    shared: Shared,
    ends: Ends,
    commander: Commander,
    observed: watch::Sender<Arc<Observed>>,
    events: Arc<Mutex<Vec<Value>>>,
}

impl Bench {
    /// Pod "old" is there, behind Service "web".
    fn start() -> Self {
        let shared = Shared::new(Options::default());
        let (observed, observing) = watch::channel(Arc::default());
        let (events, commander) = (Arc::default(), Commander::new());
        let (follower, ends) = Follower::new(Sources {
            shared: shared.clone(),
            observed: observing,
            leadership: commander.leadership(),
            events: Events::new(server(Arc::clone(&events)), "me"),
            metrics: Metrics::new(),
        });
        tokio::spawn(follower.run());
        let bench = Self {
            shared,
            ends,
            commander,
            observed,
            events,
        };
        let mut core = bench.shared.look();
        let node = node("node-1", "10.89.0.11");
        core.cluster.apply(Seen::Node("node-1".into(), Some(node)));
        let web = Box::new(service("default/web"));
        core.cluster
            .apply(Seen::Service(key("default/web"), Some(web)));
        core.synced = Kind::ALL.into_iter().collect();
        drop(core);
        bench.pods(&[pod("default/old", "10.244.1.2")]);
        bench
    }

    /// These Pods are there, as the engine sees it.
    fn pods(&self, pods: &[Pod]) {
        let mut core = self.shared.look();
        let core = &mut *core;
        for pod in pods {
            core.cluster
                .apply(Seen::Pod(pod.key.clone(), Some(pod.clone())));
        }
        let slice = slice("web-1", "default/web", pods.iter().map(endpoint).collect());
        core.cluster
            .apply(Seen::Slice(slice.key.clone(), Some(slice)));
        let changed = core.builder.build(&core.cluster, &Touched::all());
        self.ends.inbox.fronts(core, &changed, Instant::now());
    }

    fn has(&self, uid: &str, point: Point) -> bool {
        let book = self.ends.timelines.book();
        book.rows()
            .any(|row| *row.facts.uid == *uid && row.points.get(point).is_some())
    }

    fn len(&self) -> usize {
        self.ends.timelines.book().len()
    }
}

async fn until(what: &str, is_so: impl Fn() -> bool) {
    for _ in 0..6_000 {
        if is_so() {
            return;
        }
        sleep(Duration::from_millis(5)).await;
    }
    panic!("{what}");
}

#[tokio::test]
async fn a_leader_follows_pods_and_tells_of_each_once() {
    let mut bench = Bench::start();
    bench.commander.set(Reign::Leader { epoch: 1 });
    until("what was there is known", || bench.len() == 1).await;
    let (old, new) = (
        pod("default/old", "10.244.1.2"),
        pod("default/new", "10.244.2.2"),
    );
    let uid = Arc::clone(&new.uid);
    assert!(!bench.has(&old.uid, Point::Endpoint), "nobody saw it come");
    bench.pods(&[old.clone(), new.clone()]);
    until("its endpoint is seen", || bench.has(&uid, Point::Endpoint)).await;

    // A proxy has it, and finds it healthy.
    let snapshot = bench.shared.look().builder.snapshot().clone();
    let (name, set) = snapshot.sets.iter().next().unwrap();
    let mut view = ProxyView {
        serving: true,
        acked: snapshot.version,
        features: Arc::new(["firsts".to_owned()].into()),
        ..ProxyView::default()
    };
    let keys = set.backends.iter().map(|backend| backend.key.clone());
    view.healthy.insert(name.clone(), keys.collect());
    let proxies = [("a".to_owned(), Arc::new(view))].into();
    bench.observed.send_replace(Arc::new(Observed {
        proxies,
        ..Observed::default()
    }));
    until("it is healthy", || bench.has(&uid, Point::Healthy)).await;
    bench.ends.ear.wanted.changed().await.unwrap();
    let wanted = Arc::clone(&bench.ends.ear.wanted.borrow_and_update());
    let backend = wanted[name].first().unwrap().clone();
    assert_eq!(
        backend.id.as_ref().unwrap().as_str(),
        &*uid,
        "and of no other"
    );
    let now = Timestamp::now();
    let told = Told {
        proxy: "a".into(),
        set: name.clone(),
        backend,
        what: What::Firsts {
            started: Timestamp::UNIX_EPOCH,
            probe: Some(now),
            connection: None,
        },
    };
    bench.ends.ear.told.try_send(told).unwrap();
    until("it is told", || !bench.events.lock().unwrap().is_empty()).await;
    let event = bench.events.lock().unwrap()[0].clone();
    assert_eq!(
        (&event["reason"], &event["regarding"]["name"]),
        (&"InService".into(), &"new".into())
    );

    // A raised epoch is the same reign; a reign that ends knows nothing more.
    bench.commander.set(Reign::Leader { epoch: 2 });
    bench
        .shared
        .look()
        .cluster
        .apply(Seen::Pod(new.key.clone(), None));
    bench.ends.inbox.pods([new.key.clone()].into(), false);
    until("it is gone", || bench.has(&uid, Point::Gone)).await;
    bench
        .shared
        .look()
        .cluster
        .apply(Seen::Pod(old.key.clone(), None));
    bench.ends.inbox.pods(BTreeSet::new(), true);
    until("so is the other", || bench.has(&old.uid, Point::Gone)).await;
    assert_eq!(bench.events.lock().unwrap().len(), 1);
    bench.commander.set(Reign::Follower);
    until("it does not lead", || bench.len() == 0).await;
    bench.pods(std::slice::from_ref(&old));
    bench.commander.set(Reign::Leader { epoch: 3 });
    until("it leads again", || bench.len() == 1).await;
    assert!(!bench.has(&old.uid, Point::Endpoint), "nobody followed it");
}
