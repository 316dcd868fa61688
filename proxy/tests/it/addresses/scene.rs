//! A segment with proxies that listen on virtual addresses, a Pod that tells which of them it sees, and a client.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use podline_api::v1;
use podline_api::v1::address_status::State;
use podline_api::v1::listener::Protocol;
use podline_api::v1::watch_response::Event;
use podline_lab::{Behaviour, Lab, Namespace, Pod, Segment, SegmentPlan, require_netns, wait};
use rustix::process::Signal;

use crate::harness::certificates::Pair;
use crate::harness::secure;
use crate::harness::{LONG, Proxy, Start, wire};

/// The addresses that move, by IP version.
pub(super) const VIRTUAL: [IpAddr; 2] = [
    IpAddr::V4(Ipv4Addr::new(10, 88, 0, 200)),
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0x88, 0, 0, 0, 0, 0, 0x200)),
];
/// The listeners on them, and their sets.
pub(super) const WEB: [&str; 2] = ["web", "web-6"];
/// The port of pages.
pub(super) const PAGES: u16 = 443;
/// A client gives up after so long, where nobody may be there.
pub(super) const PATIENCE: Duration = Duration::from_millis(500);
/// And waits so long between two attempts.
const PACE: Duration = Duration::from_millis(5);

pub(super) struct Scene {
    pub(super) segment: Segment,
    /// By IP version.
    pods: [Pod; 2],
    /// After what is in it.
    _lab: Lab,
}

pub(super) fn held(family: usize, epoch: u64, take_over: bool) -> v1::VirtualAddress {
    v1::VirtualAddress {
        held: true,
        epoch,
        take_over,
        ..standby(family)
    }
}

pub(super) fn standby(family: usize) -> v1::VirtualAddress {
    v1::VirtualAddress {
        address: VIRTUAL[family].to_string(),
        ..v1::VirtualAddress::default()
    }
}

impl Scene {
    /// `None` where namespaces cannot be made.
    pub(super) fn build(proxies: u8) -> Option<Self> {
        if !require_netns() {
            return None;
        }
        let lab = Lab::new().unwrap();
        let plan = SegmentPlan {
            proxies,
            nodes: 1,
            ..SegmentPlan::default()
        };
        let segment = Segment::build(&lab, plan).unwrap();
        let start = |family: usize| {
            let address = (Segment::pod(0, 0)[family], 8080).into();
            let namespace = &segment.nodes[0].pods[0];
            Pod::start_in(namespace, "pod", address, Behaviour::Peer).unwrap()
        };
        let pods = [start(0), start(1)];
        Some(Self {
            segment,
            pods,
            _lab: lab,
        })
    }

    pub(super) fn start(&self, index: usize, args: &[&str]) -> Proxy {
        self.begin(Start {
            namespace: Some(&self.segment.proxies[index]),
            args: args.to_vec(),
            ..Start::default()
        })
    }

    pub(super) fn start_without(&self, index: usize, capabilities: &[&str]) -> Proxy {
        self.begin(Start {
            namespace: Some(&self.segment.proxies[index]),
            without: capabilities,
            ..Start::default()
        })
    }

    /// With listeners on both addresses, which it does not have.
    fn begin(&self, start: Start<'_>) -> Proxy {
        let proxy = start.ready();
        for family in [0, 1] {
            let listener = wire::listener(WEB[family], Self::address(family), WEB[family]);
            let set = wire::set(WEB[family], &[self.pods[family].address()]);
            let mut request = wire::both(listener, set);
            request.network = Some(v1::Network {
                addresses: vec![standby(0), standby(1)],
                ..v1::Network::default()
            });
            proxy.apply(request);
            proxy.wait_listening(WEB[family]);
        }
        proxy
    }

    fn address(family: usize) -> SocketAddr {
        (VIRTUAL[family], 80).into()
    }

    /// A further listener, on an address of the proxy's own host.
    pub(super) fn serve_own(&self, proxy: &Proxy) {
        let own = (Segment::proxy(0)[0], 8080).into();
        let set = wire::set("own", &[self.pods[0].address()]);
        proxy.serve_with(wire::listener("own", own, "own"), set);
    }

    /// What whoever decides says of one address.
    pub(super) fn tell(proxy: &Proxy, family: usize, address: v1::VirtualAddress) {
        proxy.apply(v1::ApplyRequest {
            owner: format!("vip/{family}"),
            network: Some(v1::Network {
                addresses: vec![address],
                ..v1::Network::default()
            }),
            ..v1::ApplyRequest::default()
        });
    }

    /// How a proxy does with an address.
    pub(super) fn status(proxy: &Proxy, family: usize) -> v1::AddressStatus {
        let ip = VIRTUAL[family].to_string();
        let network = proxy.get().network.unwrap_or_default();
        let mut all = network.addresses.into_iter();
        all.find(|status| status.address == ip).unwrap_or_default()
    }

    pub(super) fn wait_for(proxy: &Proxy, family: usize, state: State) {
        let what = format!("{} is {}", VIRTUAL[family], state.as_str_name());
        wait::until(LONG, &what, || Self::status(proxy, family).state() == state);
    }

    /// Waits until the client reaches this proxy at the address.
    pub(super) fn wait_served(&self, family: usize, index: u8) {
        let expected = Segment::proxy(index)[family];
        let what = format!("the client reaches proxy {index} at {}", VIRTUAL[family]);
        wait::until(LONG, &what, || {
            self.ask(Self::address(family)) == Some(expected)
        });
    }

    /// Through which proxy the client reaches the Pod, if it does.
    pub(super) fn ask(&self, address: SocketAddr) -> Option<IpAddr> {
        self.segment.client.run(move || ask(address, PATIENCE))
    }

    /// A client that has sent a half of a request, and waits for what comes of it.
    pub(super) fn begin_request(&self, family: usize) -> JoinHandle<std::io::Result<usize>> {
        let address = Self::address(family);
        let mut stream = self.segment.client.run(move || {
            let mut stream = TcpStream::connect_timeout(&address, PATIENCE).unwrap();
            stream.write_all(b"GET / HTTP/1.1\r\n").unwrap();
            stream
        });
        stream.set_read_timeout(Some(LONG)).unwrap();
        std::thread::spawn(move || stream.read(&mut [0; 64]))
    }

    /// Whether the address is on a link of a proxy's host.
    pub(super) fn has(&self, index: usize, family: usize) -> bool {
        let ip = VIRTUAL[family].to_string();
        let shown = self.segment.proxies[index].run(move || {
            let mut command = Command::new("ip");
            command.args(["-o", "addr", "show", "to", &ip]).output()
        });
        !shown.unwrap().stdout.is_empty()
    }

    /// The tables of nf_tables on a proxy's host, as nft shows them.
    pub(super) fn tables(&self, index: usize) -> String {
        let shown = self.segment.proxies[index]
            .run(|| Command::new("nft").args(["list", "ruleset"]).output());
        let shown = shown.unwrap();
        assert!(shown.status.success(), "{shown:?}");
        String::from_utf8(shown.stdout).unwrap()
    }

    /// As it is written.
    pub(super) fn mac(namespace: &Namespace) -> String {
        let digits = namespace
            .mac("eth0")
            .unwrap()
            .map(|byte| format!("{byte:02x}"));
        digits.join(":")
    }

    /// Two proxies, of which the first holds both addresses and is reached.
    pub(super) fn held_by_first(&self) -> [Proxy; 2] {
        let proxies = [self.start(0, &[]), self.start(1, &[])];
        for family in [0, 1] {
            Self::tell(&proxies[0], family, held(family, 1, false));
            Self::tell(&proxies[1], family, standby(family));
            Self::wait_for(&proxies[0], family, State::Holding);
            self.wait_served(family, 0);
        }
        proxies
    }

    /// The first ends in order, and the second is told to take over from it.
    pub(super) fn hand_over(first: &Proxy, second: &Proxy) {
        // All that can be known before: once it is about to end, it waits for a second only.
        let addresses = [0, 1].map(|family| {
            let mut address = held(family, 2, true);
            address.predecessor = Self::status(first, family).own;
            assert!(address.predecessor.is_some());
            address
        });
        let leaving = Self::leaving(first);
        first.signal(Signal::TERM);
        leaving.join().unwrap();
        for (family, address) in addresses.into_iter().enumerate() {
            Self::tell(second, family, address);
        }
    }

    /// Ends when the proxy has said that it is about to end.
    pub(super) fn leaving(proxy: &Proxy) -> JoinHandle<()> {
        let client = proxy.client().clone();
        let mut events = proxy.block_on(client.watch()).unwrap();
        let runtime = proxy.handle();
        std::thread::spawn(move || {
            runtime.block_on(async {
                while let Some(message) = events.message().await.unwrap() {
                    if matches!(message.event, Some(Event::Leaving(_))) {
                        return;
                    }
                }
                panic!("the proxy ended without a word");
            });
        })
    }

    /// A further listener on each address, for HTTPS.
    pub(super) fn serve_pages(&self, proxy: &Proxy, pair: &Pair) {
        Self::serve_pages_of(proxy, pair, WEB, [0, 1].map(|f| self.pods[f].address()));
    }

    /// The same for a backend of the test's own, with sets of its own, by IP version.
    pub(super) fn serve_pages_of(
        proxy: &Proxy,
        pair: &Pair,
        sets: [&str; 2],
        backends: [SocketAddr; 2],
    ) {
        for family in [0, 1] {
            let name = ["pages", "pages-6"][family];
            let at = (VIRTUAL[family], PAGES).into();
            let pages = secure::listener(name, Protocol::Https, at, secure::settings(&[pair]));
            let pages = v1::Listener {
                backend_set: sets[family].to_owned(),
                ..pages
            };
            proxy.serve_with(pages, wire::set(sets[family], &[backends[family]]));
        }
    }

    /// A connection that stays.
    pub(super) fn connect(&self, family: usize, port: u16) -> TcpStream {
        let address = (VIRTUAL[family], port).into();
        let connected = self.segment.client.run(move || {
            let stream = TcpStream::connect_timeout(&address, PATIENCE)?;
            stream.set_read_timeout(Some(LONG))?;
            Ok::<_, std::io::Error>(stream)
        });
        connected.unwrap()
    }

    /// A client that connects to both addresses again and again, and waits so long for an answer.
    pub(super) fn load(&self, patience: Duration) -> Load {
        let ended = Arc::new(AtomicBool::new(false));
        let clients = [0, 1].map(|family| {
            let (address, ended) = (Self::address(family), Arc::clone(&ended));
            self.segment.client.thread(move || {
                let (mut seen, mut answered) = (Seen::default(), Instant::now());
                while !ended.load(Relaxed) {
                    if ask(address, patience).is_some() {
                        seen.answered += 1;
                        seen.longest = seen.longest.max(answered.elapsed());
                        answered = Instant::now();
                    } else {
                        seen.failed += 1;
                    }
                    std::thread::park_timeout(PACE);
                }
                seen
            })
        });
        Load { ended, clients }
    }
}

/// What a client saw.
#[derive(Debug, Default)]
pub(super) struct Seen {
    pub(super) answered: u32,
    pub(super) failed: u32,
    /// The longest time without an answer.
    pub(super) longest: Duration,
}

/// Clients at work.
pub(super) struct Load {
    ended: Arc<AtomicBool>,
    clients: [JoinHandle<Seen>; 2],
}

impl Load {
    /// What they saw, over IPv4 and over IPv6.
    pub(super) fn end(self) -> [Seen; 2] {
        self.ended.store(true, Relaxed);
        self.clients.map(|client| client.join().unwrap())
    }
}

/// Whom the Pod sees, which is the proxy.
fn ask(address: SocketAddr, patience: Duration) -> Option<IpAddr> {
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE).ok()?;
    stream.set_read_timeout(Some(patience)).ok()?;
    ask_on(&mut stream)
}

/// The same on a connection that there is.
pub(super) fn ask_on(stream: &mut (impl Read + Write)) -> Option<IpAddr> {
    stream
        .write_all(b"GET / HTTP/1.1\r\nHost: pod\r\n\r\n")
        .ok()?;
    let mut answer = Vec::new();
    // The connection is kept: the answer ends with a line behind the head.
    let body = loop {
        let mut room = [0; 512];
        let len = stream.read(&mut room).ok().filter(|len| *len > 0)?;
        answer.extend(&room[..len]);
        let text = String::from_utf8_lossy(&answer);
        if let Some((_, body)) = text.split_once("\r\n\r\n")
            && body.ends_with('\n')
        {
            break body.trim().to_owned();
        }
    };
    let peer: SocketAddr = body.parse().ok()?;
    Some(peer.ip())
}
