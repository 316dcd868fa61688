//! A cluster of one node with its build, what proxies say of it, and its gates.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::build::{Builder, Options};
use crate::cluster::testing::{endpoint, key, node, pod, service, slice};
use crate::cluster::{Change, Cluster, Gate, Pod, Service, Touched};
use crate::gate::{Changed, Gates, Orders, Said, Verdict};
use crate::observed::{Observed, ProxyView};

/// Everything, at a moment.
pub(super) struct World {
    pub(super) cluster: Cluster,
    pub(super) builder: Builder,
    pub(super) gates: Gates,
    pub(super) observed: Observed,
    pub(super) now_ms: u64,
    /// What is remembered is not compared with what comes of looking at everything.
    pub(super) is_unchecked: bool,
}

/// A Pod of `app: web` whose gate waits for us and nothing else.
pub(super) fn waiting(name: &str, address: &str) -> Pod {
    Pod {
        gate: Gate::Waiting,
        labels: Arc::new([("app".to_owned(), "web".to_owned())].into()),
        ..pod(name, address)
    }
}

/// A proxy that serves and has everything.
pub(super) fn proxy() -> ProxyView {
    ProxyView {
        serving: true,
        acked: u64::MAX,
        ..ProxyView::default()
    }
}

impl World {
    /// A node, two proxies, and default/web, which is direct and has no Pods.
    pub(super) fn new() -> Self {
        Self::with(Options::default())
    }

    pub(super) fn with(options: Options) -> Self {
        let mut world = Self {
            cluster: Cluster::default(),
            builder: Builder::new(options),
            gates: Gates::default(),
            observed: Observed::default(),
            now_ms: 1_000_000,
            is_unchecked: false,
        };
        let node = node("node-1", "10.89.0.11");
        world.change(Change::Node(node.name.clone(), Some(node)));
        for name in ["a", "b"] {
            let proxies = &mut world.observed.proxies;
            proxies.insert(name.to_owned(), Arc::new(proxy()));
        }
        world.tell();
        world.put_service(service("default/web"));
        world
    }

    pub(super) fn change(&mut self, change: Change) {
        let pods = match &change {
            Change::Pod(key, _) => BTreeSet::from([key.clone()]),
            _ => BTreeSet::new(),
        };
        let touched = self.cluster.apply(change);
        self.take(&touched, &pods);
        self.equals_anew();
    }

    fn take(&mut self, touched: &Touched, pods: &BTreeSet<crate::cluster::Key>) {
        let standings = self.builder.build(&self.cluster, touched);
        let changed = Changed {
            touched,
            standings: &standings,
            pods,
            all_pods: false,
        };
        self.gates
            .take(&self.cluster, &self.builder, &changed, self.now_ms);
    }

    /// What was remembered is what comes of looking at everything.
    fn equals_anew(&self) {
        if self.is_unchecked {
            return;
        }
        let mut anew = Gates::default();
        let changed = Changed {
            touched: &Touched::all(),
            standings: &BTreeSet::new(),
            pods: &BTreeSet::new(),
            all_pods: true,
        };
        anew.take(&self.cluster, &self.builder, &changed, self.now_ms);
        let verdicts = |gates: &Gates| -> Vec<(String, Verdict)> {
            let waiting = gates.waiting();
            waiting
                .map(|wait| (wait.pod.to_string(), wait.verdict.clone()))
                .collect()
        };
        assert_eq!(verdicts(&self.gates), verdicts(&anew));
    }

    pub(super) fn put_service(&mut self, service: Service) {
        self.change(Change::Service(
            service.key.clone(),
            Some(Box::new(service)),
        ));
    }

    pub(super) fn put_pod(&mut self, pod: &Pod) {
        self.change(Change::Pod(pod.key.clone(), Some(pod.clone())));
    }

    /// The slice of default/web.
    pub(super) fn put_slice(&mut self, pods: &[&Pod]) {
        let endpoints = pods.iter().map(|pod| endpoint(pod)).collect();
        let slice = slice("web-1", "default/web", endpoints);
        self.change(Change::Slice(slice.key.clone(), Some(slice)));
    }

    /// A Pod of default/web.
    pub(super) fn with_pod(&mut self) -> Pod {
        let pod = waiting("default/p", "10.0.0.1");
        self.put_pod(&pod);
        self.put_slice(&[&pod]);
        pod
    }

    /// Changes what a proxy says.
    pub(super) fn proxy(&mut self, name: &str, change: impl FnOnce(&mut ProxyView)) {
        let proxy = self.observed.proxies.get_mut(name).unwrap();
        change(Arc::make_mut(proxy));
        self.tell();
    }

    /// The proxies say what they say.
    pub(super) fn tell(&mut self) {
        let observed = Arc::new(self.observed.clone());
        let touched = self.cluster.apply(Change::Observed(Arc::clone(&observed)));
        self.take(&touched, &BTreeSet::new());
        self.gates.observe(&observed, self.now_ms);
        self.equals_anew();
    }

    /// On a proxy everything that is bound is healthy.
    pub(super) fn pass(&mut self, name: &str) {
        let sets = self.builder.snapshot().sets.iter();
        let healthy = sets.map(|(name, set)| {
            let keys = set.backends.iter().map(|backend| backend.key.clone());
            (name.clone(), keys.collect())
        });
        let healthy = healthy.collect();
        self.proxy(name, |proxy| proxy.healthy = healthy);
    }

    pub(super) fn pass_all(&mut self) {
        self.pass("a");
        self.pass("b");
    }

    /// What is to be done after so long.
    pub(super) fn after(&mut self, ms: u64) -> Orders {
        self.now_ms += ms;
        self.gates.act(self.now_ms)
    }

    /// The verdict of default/p: `Reason: message`, with `+` if it opens at once, `-` if it is closed, `?` if it is neither.
    pub(super) fn verdict(&self) -> String {
        let show = |said: &Said| format!("{}: {}", said.reason, said.message);
        match self.gates.wait(&key("default/p")) {
            None => "none".to_owned(),
            Some(Verdict::Pending(why)) => format!("?{why}"),
            Some(Verdict::Closed(said)) => format!("-{}", show(said)),
            Some(Verdict::Open { said, at_once }) => {
                format!("{}{}", if *at_once { "+" } else { "" }, show(said))
            }
        }
    }

    /// Its verdict begins so.
    #[track_caller]
    pub(super) fn says(&self, expected: &str) {
        let verdict = self.verdict();
        assert!(verdict.starts_with(expected), "{verdict}, not {expected}");
    }
}
