//! A small world that random events change: few names and addresses, so that they collide, and hostile values among them.

use std::net::IpAddr;
use std::sync::LazyLock;

use podline_api::TicketKey;

use super::*;
use crate::build::annotation::ingress::{AUTO_REWRITE, LISTEN_PORTS};
use crate::build::annotation::{AUTO_CONFIG, CONFIG, EXISTED_BALANCER, MODE, TABLE, Words};
use crate::cluster::family::Family;
use crate::cluster::ingress::{Backend, PortName, Rule};
use crate::cluster::pod::Owner;
use crate::cluster::service::FINALIZER;
use crate::cluster::slice::{Endpoint, SlicePort};
use crate::cluster::testing::{
    ingress, ip, key, node, pod, rule, service, service_config, slice, tls_secret,
};
use crate::cluster::{
    AppProtocol, Change, Front, Gate, Node, Pod, ServicePort, Switches, TlsSecret, Transport,
};
use crate::observed::{Observed, ProxyView};

const NAMESPACES: &[&str] = &["a", "b"];
const SERVICES: &[&str] = &["a/web", "a/api", "b/web", "b/db"];
/// One has the name of a Service.
const INGRESSES: &[&str] = &["a/site", "a/web", "b/site"];
/// What Ingresses say.
const SAID: &[(&str, &str)] = &[
    (LISTEN_PORTS, r#"[{"HTTP":80},{"HTTPS":443},{"HTTP":8080}]"#),
    (LISTEN_PORTS, r#"[{"HTTPS":1119}]"#),
    (AUTO_REWRITE, "true"),
    (
        "ingress.cloud.tencent.com/lb-rs-weight",
        r#"{"defaultWeight":20,"groups":[{"key":{"proto":"HTTP","port":80}}]}"#,
    ),
    ("kubernetes.io/ingress.rule-mix-both", "true"),
    ("kubernetes.io/ingress.rule-mix", "true"),
    (
        "kubernetes.io/ingress.http-rules",
        r#"[{"path":"/a","backend":{"serviceName":"web","servicePort":"80"}}]"#,
    ),
];
const NODES: &[&str] = &["node-1", "node-2", "node-3"];
/// Of Pods, of nodes, of proxies, and such as nobody may have.
const ADDRESSES: &[&str] = &[
    "10.0.0.1",
    "10.0.0.2",
    "10.0.0.3",
    "10.0.0.4",
    "10.0.0.5",
    "fd00::1",
    "fd00::2",
    "fd00::3",
    "192.0.2.1",
    "192.0.2.2",
    "2001:db8::1",
    "198.51.100.1",
    "127.0.0.1",
    "169.254.169.254",
    "0.0.0.0",
    "224.0.0.1",
    "239.1.1.1",
    "255.255.255.255",
    "::",
    "::1",
    "fe80::1",
    "ff02::1",
];
const TEXTS: &[&str] = &[
    "true",
    "false",
    "",
    "TRUE",
    "null",
    "{}",
    "{\"a\":[1,{\"b\":",
    "[[[[[[",
    "role=edge",
    "a in (b",
    "!",
    "\0\u{202e}",
    "🦀",
    "1e999",
    "{\"service.cloud.tencent.com/direct-access\":\"true\"}",
    "role notin (edge),!x",
    "skip",
    "lb-6swtxxxx",
    "{\"defaultWeight\":0}",
    "{\"groups\":[{\"key\":{\"proto\":\"TCP\",\"port\":80},\"statefulSets\":[{\"name\":\"pod\",\"weights\":[{\"weight\":0,\"podIndexes\":[0,1]},{\"weight\":99,\"podIndexes\":[2]}]}]}]}",
    "{\"Vip\":\"203.0.113.2\",\"AddressIPVersion\":\"IPV6\"}",
    "snat",
    "transparent",
    "prefer-transparent",
    "v2,crc32c,unique-id",
    "v1",
    "v2,,",
    "PING => hex:50",
    "hex:0",
    "10.0.0.0/8, 2001:db8::/32",
    "::ffff:10.0.0.0/90,10.0.0.1",
    "{\"service.cloud.tencent.com/direct-access\":{}}",
];
const SPECIFY: &str = "service.cloud.tencent.com/specify-protocol";
const SPOKEN: &[&str] = &[
    r#"{"80":{"protocol":["HTTP"]}}"#,
    r#"{"80":{"protocol":["HTTPS"],"tls":"s"},"8080":{"protocol":["TCP_SSL"],"tls":"t"}}"#,
    r#"{"80":{"protocol":["HTTPS"],"hosts":{"a.example":{"tls":"s"},"b.example":{"tls":"t"}}}}"#,
    r#"{"80":{"protocol":["TCP_SSL"],"tls":"t"}}"#,
];
const CONFIGS: [&str; 3] = [
    "{loadBalancer: {l4Listeners: [{protocol: TCP, port: 80, scheduler: LEAST_CONN, deregisterTargetRst: true, healthCheck: {intervalTime: 10, timeout: 9}}, {protocol: UDP, port: 80, healthCheck: {checkType: CUSTOM, sendContext: x}}]}}",
    "{loadBalancer: {l4Listeners: [{protocol: TCP, port: 80, session: {enable: true}, healthCheck: {checkType: HTTP, timeout: 11}}]}}",
    "{loadBalancer: {l7Listeners: [{protocol: HTTP, port: 80, domains: [{rules: [{url: /, scheduler: IP_HASH, session: {enable: true}, forwardType: GRPC, healthCheck: {enable: true}}]}]}, {protocol: HTTPS, port: 80, defaultServer: a.example, domains: [{domain: a.example, http2: false, rules: [{url: /, healthCheck: {enable: false}}]}]}]}}",
];
const RANGES: &[&str] = &[
    "10.0.0.0/8",
    "192.0.2.7/24",
    "::/0",
    "2001:db8::1/33",
    "0.0.0.0/0",
    " 10.1.0.0/16 ",
    "::ffff:10.0.0.0/104",
    "::ffff:0:0/96",
    "::ffff:0:0/90",
    "10.0.0.1",
    "nonsense",
    "",
    "10.0.0.0/33",
    "../../etc",
];

/// Chance, from a seed.
pub(in crate::build) struct Random(pub(in crate::build) u64);

impl Random {
    /// splitmix64.
    pub(in crate::build) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(in crate::build) fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.next() % limit as u64).unwrap()
    }

    /// Once in `n` times.
    pub(in crate::build) fn once_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    pub(in crate::build) fn one_of<'a, T: ?Sized>(&mut self, of: &[&'a T]) -> &'a T {
        of[self.below(of.len())]
    }

    /// What a Service says beyond its fields.
    fn annotate(&mut self, annotations: &mut BTreeMap<String, String>) {
        if self.once_in(3) {
            annotations.clear();
        }
        for _ in 0..self.below(5).saturating_sub(2) {
            let text = match self.below(20) {
                0 => "a=b,".repeat(25 << 10),
                _ => self.one_of(TEXTS).to_owned(),
            };
            let known = TABLE[self.below(TABLE.len())].key.to_owned();
            annotations.insert(known, text);
        }
        if self.once_in(3) {
            let (name, auto) = (CONFIG.to_owned(), AUTO_CONFIG.to_owned());
            let key = if self.once_in(3) { auto } else { name };
            annotations.insert(key, "true".to_owned());
        }
        if self.once_in(2) {
            let said = self.one_of(SPOKEN).to_owned();
            annotations.insert(SPECIFY.to_owned(), said);
        }
        if self.once_in(6) {
            annotations.insert(MODE.to_owned(), "skip".to_owned());
        }
        if self.once_in(3) {
            let id = self.one_of(&["lb-a", "lb-b"]).to_owned();
            annotations.insert(EXISTED_BALANCER.to_owned(), id);
        }
    }

    /// One that can be used, mostly.
    fn address(&mut self) -> IpAddr {
        let usual = !self.once_in(6);
        ip(ADDRESSES[self.below(if usual { 8 } else { ADDRESSES.len() })])
    }
}

/// What exists, so that events are mostly plausible.
pub(super) struct World {
    pub(super) random: Random,
    /// How often a Pod, Node or Service of a name was made.
    made: BTreeMap<String, u32>,
    pods: BTreeMap<Key, Pod>,
}

impl World {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            random: Random(seed),
            made: BTreeMap::new(),
            pods: BTreeMap::new(),
        }
    }

    pub(super) fn options(&mut self) -> Options {
        let random = &mut self.random;
        Options {
            default_class: random.once_in(2),
            default_direct: random.once_in(2),
            quota: [1, 2, 3, 200][random.below(4)],
            reserved_ports: [8080].into(),
            namespace: "a".to_owned(),
            pool: random
                .once_in(3)
                .then(|| "203.0.113.1-203.0.113.3,2001:db8::/126".parse().unwrap()),
            ..Options::default()
        }
    }

    /// Something happens. `bound` is what proxies have to probe.
    pub(super) fn event(&mut self, bound: &Snapshot) -> Change {
        match self.random.below(16) {
            0..2 => self.service(),
            2..7 => self.slice(),
            7..12 => self.pod(),
            12 if self.random.once_in(2) => self.node(),
            12 => self.switches(),
            13 if self.random.once_in(2) => self.secret(),
            14 if self.random.once_in(2) => self.ingress(),
            15 if self.random.once_in(3) => self.service_config(),
            _ => Change::Observed(self.observed(bound)),
        }
    }

    /// A Secret that Services name becomes another, or what seals tickets.
    fn secret(&mut self) -> Change {
        static PAIRS: LazyLock<[TlsSecret; 2]> =
            LazyLock::new(|| ["a.example", "b.example"].map(tls_secret));
        let random = &mut self.random;
        if random.once_in(8) {
            let keys = [[1; TicketKey::LENGTH], [2; TicketKey::LENGTH]];
            let some = keys.into_iter().take(random.below(3));
            return Change::TicketKeys(some.map(TicketKey::new).collect());
        }
        let namespace = random.one_of(NAMESPACES);
        let name = random.one_of(&["s", "t"]);
        let secret = match random.below(8) {
            0 => None,
            1 => Some(TlsSecret::Absent),
            2 => Some(TlsSecret::Bad("is odd".to_owned())),
            3 => Some(TlsSecret::Forbidden),
            4 => Some(TlsSecret::Unreadable("no answer".to_owned())),
            n => Some(PAIRS[n % 2].clone()),
        };
        Change::Secret(Key::new(namespace, name), secret)
    }

    /// A TkeServiceConfig that Services name becomes another.
    fn service_config(&mut self) -> Change {
        let random = &mut self.random;
        let namespace = random.one_of(NAMESPACES);
        let name = random.one_of(&[
            "true",
            "web-auto-service-config",
            "site-auto-ingress-config",
        ]);
        let name = format!("{namespace}/{name}");
        let spec = random.one_of(&["", "{}", CONFIGS[0], CONFIGS[1], CONFIGS[2]]);
        let config = (!spec.is_empty()).then(|| Box::new(service_config(&name, spec)));
        Change::ServiceConfig(key(&name), config)
    }

    /// A uid of its own, unless the object goes on as it was.
    fn uid(&mut self, name: &str, anew: bool) -> Arc<str> {
        let made = self.made.entry(name.to_owned()).or_insert(1);
        *made += u32::from(anew);
        format!("{name}-{made}").replace('/', "-").into()
    }

    fn service(&mut self) -> Change {
        let name = self.random.one_of(SERVICES);
        if self.random.once_in(8) {
            self.uid(name, true);
            return Change::Service(key(name), None);
        }
        let uid = self.uid(name, false);
        let random = &mut self.random;
        let mut made = service(name);
        made.created = 1_000 + i64::from(uid.ends_with(['1', '3', '5']));
        made.uid = uid;
        made.is_load_balancer = !random.once_in(8);
        made.is_deleting = random.once_in(16);
        made.class = match random.below(12) {
            0 => None,
            1 => Some("other".to_owned()),
            _ => made.class,
        };
        made.ports.clear();
        // Some numbers are wanted by all, some by one alone.
        let own = 1_000 + u16::from(name.as_bytes()[2]);
        for (name, port) in [("", 80), ("tls", own), ("odd", 8080)] {
            if random.once_in(4) {
                continue;
            }
            made.ports.push(ServicePort {
                name: name.into(),
                protocol: match random.below(12) {
                    0..3 => Transport::Udp,
                    3 => Transport::Sctp,
                    _ => Transport::Tcp,
                },
                port,
                node_port: (!random.once_in(4)).then_some(30_000 + port),
                app_protocol: match random.below(6) {
                    0 => Some(AppProtocol::H2c),
                    1 => Some(AppProtocol::Https),
                    _ => None,
                },
            });
        }
        made.families = match random.below(8) {
            0 => vec![Family::V6],
            1 => vec![Family::V4, Family::V6],
            _ => vec![Family::V4],
        };
        made.affinity = random
            .once_in(3)
            .then(|| std::time::Duration::from_hours(1));
        made.is_local = random.once_in(3);
        made.health_check_node_port = random.once_in(2).then_some(32_000);
        made.source_ranges = (0..random.below(3))
            .map(|_| random.one_of(RANGES).to_owned())
            .collect();
        random.annotate(&mut made.annotations);
        if random.once_in(2) {
            made.finalizers.push(FINALIZER.to_owned());
        }
        made.other_manager = random.once_in(6).then(|| "manager other".to_owned());
        made.resource_version = random.next().to_string();
        Change::Service(made.key.clone(), Some(Box::new(made)))
    }

    fn ingress(&mut self) -> Change {
        let name = self.random.one_of(INGRESSES);
        let made = format!("ingress-{name}");
        if self.random.once_in(8) {
            self.uid(&made, true);
            return Change::Ingress(key(name), None);
        }
        let uid = self.uid(&made, false);
        let random = &mut self.random;
        let mut made = ingress(name);
        made.created = 1_000 + i64::from(uid.ends_with(['1', '3', '5']));
        made.uid = uid;
        made.is_deleting = random.once_in(16);
        made.class = match random.below(12) {
            0 => None,
            1 => Some("other".to_owned()),
            2..6 => Some("qcloud".to_owned()),
            _ => made.class,
        };
        for _ in 0..random.below(4) {
            let host = random.one_of(&["", "a.example", "*.a.example", "A.example", "a..b"]);
            let path = random.one_of(&["/", "/a", "/a/", "/a/b", "a", "/a b"]);
            let port = match random.below(4) {
                0 => PortName::Name("tls".into()),
                1 => PortName::Number(8080),
                _ => PortName::Number(80),
            };
            let service = random.one_of(&["web", "api", "db", "none"]);
            made.rules.push(Rule {
                is_exact: random.once_in(3),
                backend: match random.below(8) {
                    0 => Backend::Resource("Bucket icons".to_owned()),
                    _ => Backend::Service(service.into(), port),
                },
                ..rule(host, path, service)
            });
        }
        if random.once_in(3) {
            made.default_backend = made.rules.pop().map(|rule| rule.backend);
        }
        made.has_tls = random.once_in(2);
        if made.has_tls {
            let some = ["s", "t"].into_iter().take(random.below(3));
            made.secrets = some.map(Into::into).collect();
        }
        if random.once_in(3) {
            made.annotations.clear();
        }
        for _ in 0..random.below(3) {
            let (key, text) = SAID[random.below(SAID.len())];
            made.annotations.insert(key.to_owned(), text.to_owned());
        }
        if random.once_in(3) {
            let table = crate::build::annotation::ingress::TABLE;
            let known = table[random.below(table.len())].key.to_owned();
            let text = random.one_of(TEXTS).to_owned();
            made.annotations.insert(known, text);
        }
        if random.once_in(3) {
            let words = Words::of(&Front::Ingress(made.key.clone()));
            let auto = random.once_in(3);
            let key = if auto {
                words.auto_config
            } else {
                words.config
            };
            made.annotations.insert(key.to_owned(), "true".to_owned());
        }
        if random.once_in(6) {
            let key = crate::build::annotation::ingress::MODE;
            made.annotations.insert(key.to_owned(), "skip".to_owned());
        }
        if random.once_in(2) {
            made.finalizers.push(FINALIZER.to_owned());
        }
        Change::Ingress(made.key.clone(), Some(Box::new(made)))
    }

    fn slice(&mut self) -> Change {
        let owner = self.random.one_of(SERVICES);
        // Most names say whose they are; some change hands.
        let name = match self.random.below(8) {
            0 => "shared".to_owned(),
            n => format!("{}-{}", key(owner).name, n % 2),
        };
        let mut made = slice(&name, owner, Vec::new());
        let random = &mut self.random;
        if random.once_in(10) {
            return Change::Slice(made.key, None);
        }
        made.created = 1_000 + i64::try_from(random.below(3)).unwrap();
        made.family = match random.below(8) {
            0 => [None, Some(Family::V6)][random.below(2)],
            1 => Some(Family::V6),
            _ => Some(Family::V4),
        };
        made.ports.clear();
        for (name, port) in [("", 8080), ("tls", 8443), ("odd", 53)] {
            if !random.once_in(8) {
                made.ports.push(SlicePort {
                    name: name.into(),
                    protocol: match random.below(4) {
                        0 => Transport::Udp,
                        _ => Transport::Tcp,
                    },
                    port,
                });
            }
        }
        for _ in 0..self.random.below(5) {
            let endpoint = self.endpoint(&made.key.namespace);
            made.endpoints.push(endpoint);
        }
        Change::Slice(made.key.clone(), Some(made))
    }

    fn endpoint(&mut self, namespace: &Arc<str>) -> Endpoint {
        let random = &mut self.random;
        // Mostly of its own namespace.
        let any = random.once_in(8);
        let pods = self.pods.values();
        let pods: Vec<&Pod> = pods
            .filter(|pod| any || pod.key.namespace == *namespace)
            .collect();
        let pod = (!pods.is_empty() && !random.once_in(5)).then(|| pods[random.below(pods.len())]);
        let address = pod.and_then(|pod| pod.addresses.first().copied());
        let uid = |pod: &Pod, random: &mut Random| match random.below(20) {
            0 => "".into(),
            1 => "stale".into(),
            _ => Arc::clone(&pod.uid),
        };
        let is_ready = !random.once_in(3);
        Endpoint {
            address: match random.below(16) {
                0 => None,
                1 => Some(random.address()),
                _ => address.or_else(|| Some(random.address())),
            },
            is_ready,
            is_serving: is_ready != random.once_in(4),
            is_terminating: random.once_in(6),
            pod: pod.map(|pod| (pod.key.clone(), uid(pod, random))),
            node: (!random.once_in(4)).then(|| random.one_of(NODES).into()),
        }
    }

    fn pod(&mut self) -> Change {
        let namespace = self.random.one_of(NAMESPACES);
        let name = format!("{namespace}/pod-{}", self.random.below(5));
        let known = self.pods.remove(&key(&name));
        let is_deleting = known.as_ref().is_some_and(|pod| pod.is_deleting);
        if known.is_some() && self.random.once_in(if is_deleting { 3 } else { 12 }) {
            self.uid(&name, true);
            return Change::Pod(key(&name), None);
        }
        let uid = self.uid(&name, false);
        let random = &mut self.random;
        // What the API server never takes back stays.
        let mut made = known.unwrap_or_else(|| Pod {
            uid,
            created: 1_000 + i64::try_from(random.below(4)).unwrap(),
            addresses: Vec::new(),
            is_host_network: random.once_in(16),
            is_responder: random.once_in(4),
            is_vpc_cni: random.once_in(4),
            owner: random.once_in(2).then(|| {
                Arc::new(Owner {
                    kind: "StatefulSet".to_owned(),
                    name: "pod".to_owned(),
                    uid: "set".to_owned(),
                })
            }),
            ..pod(&name, "10.0.0.1")
        });
        if made.addresses.is_empty() && !random.once_in(3) {
            made.addresses.push(random.address());
            if random.once_in(3) {
                made.addresses.push(random.address());
            }
        }
        made.is_deleting |= random.once_in(5);
        made.has_ended |= random.once_in(12);
        made.containers_ready = !random.once_in(3);
        made.other_gates_open = !random.once_in(5);
        made.gate = [Gate::Absent, Gate::Waiting, Gate::Open][random.below(3)];
        made.node = (!random.once_in(5)).then(|| random.one_of(NODES).into());
        self.pods.insert(made.key.clone(), made.clone());
        Change::Pod(made.key.clone(), Some(made))
    }

    fn node(&mut self) -> Change {
        let name = self.random.one_of(NODES);
        if self.random.once_in(4) {
            self.uid(name, true);
            return Change::Node(name.into(), None);
        }
        let uid = self.uid(name, false);
        let random = &mut self.random;
        let made: Node = node(name, "192.0.2.1");
        let mut addresses = vec![ip(random.one_of(&["192.0.2.1", "192.0.2.2", "192.0.2.3"]))];
        if random.once_in(2) {
            addresses.push(random.address());
        }
        if random.once_in(3) {
            addresses.reverse();
        }
        let labels = match random.below(3) {
            0 => [("role".to_owned(), "edge".to_owned())].into(),
            1 => [("role".to_owned(), String::new())].into(),
            _ => BTreeMap::new(),
        };
        let made = Node {
            uid,
            internal: addresses.clone(),
            addresses,
            labels,
            pod_ranges: match random.below(4) {
                0 => vec!["10.0.0.0/30".parse().unwrap()],
                1 => vec!["10.0.0.0/8".parse().unwrap(), "fd00::/64".parse().unwrap()],
                2 => vec!["0.0.0.0/0".parse().unwrap()],
                _ => Vec::new(),
            },
            is_ready: !random.once_in(4),
            is_excluded: random.once_in(6),
            is_of_cloud: random.once_in(6),
            ..made
        };
        Change::Node(name.into(), Some(made))
    }

    fn switches(&mut self) -> Change {
        Change::Switches(Switches {
            direct_for_new: self.random.once_in(2),
            global_routes: [None, Some(false), Some(true)][self.random.below(3)],
            is_of_tke: self.random.once_in(3),
            groups: [("sg-1".to_owned(), vec!["10.0.0.0/8".to_owned()])].into(),
            unreadable: vec!["EnableDefaultDirectAccess".to_owned(); self.random.below(2)],
        })
    }

    /// What one or two proxies say: some of what is bound is healthy.
    fn observed(&mut self, bound: &Snapshot) -> Arc<Observed> {
        let random = &mut self.random;
        let share = 1 + random.below(4);
        let mut observed = Observed::default();
        for name in ["proxy-1", "proxy-2"]
            .iter()
            .take([0, 1, 1, 1, 1, 2][random.below(6)])
        {
            let mut view = ProxyView {
                addresses: vec![ip(match random.below(8) {
                    0 => "198.51.100.2",
                    _ => "198.51.100.1",
                })],
                serving: !random.once_in(4),
                ..ProxyView::default()
            };
            let healthy = bound.sets.iter().map(|(name, set)| {
                let keys = set.backends.iter().map(|backend| backend.key.clone());
                let keys = keys.filter(|_| share == 4 || random.once_in(share));
                (name.clone(), keys.collect())
            });
            view.healthy = healthy.collect();
            observed.proxies.insert((*name).to_owned(), Arc::new(view));
        }
        Arc::new(observed)
    }
}
