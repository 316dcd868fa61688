//! Datagrams, each of which has to be answered: with a Pod's name, a space, and what was sent.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::net::UdpSocket;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval_at};

use super::{Kind, Plan, Shared};

/// A datagram that was not answered by then is lost.
const LIMIT: Duration = Duration::from_secs(10);

/// One socket's datagrams.
struct Client {
    shared: Arc<Shared>,
    socket: UdpSocket,
    address: SocketAddr,
    /// Sent and not answered yet: number, and when.
    asked: BTreeMap<u64, Instant>,
    next: u64,
    /// Who answered last.
    pod: Option<String>,
}

/// Sends datagrams through all addresses until the load is over.
pub(super) async fn run(shared: Arc<Shared>, addresses: &[SocketAddr], plan: Plan) {
    if plan.sockets == 0 || plan.datagrams == 0 {
        return;
    }
    let every = Duration::from_secs(1) * plan.sockets / plan.datagrams;
    let mut clients = JoinSet::new();
    for (number, address) in (0..plan.sockets).zip(addresses.iter().cycle()) {
        let own: SocketAddr = match address {
            SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
            SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
        };
        let socket = UdpSocket::bind(own).await.unwrap();
        socket.connect(address).await.unwrap();
        let client = Client {
            shared: Arc::clone(&shared),
            socket,
            address: *address,
            asked: BTreeMap::new(),
            next: 0,
            pod: None,
        };
        let first = Instant::now() + every * number / plan.sockets;
        clients.spawn(client.run(first, every));
    }
    clients.join_all().await;
}

impl Client {
    async fn run(mut self, first: Instant, every: Duration) {
        let mut ticks = interval_at(first, every);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut buffer = [0; 512];
        loop {
            tokio::select! {
                _ = ticks.tick() => {
                    // Answers may wait while this thread did not run.
                    while let Ok(count) = self.socket.try_recv(&mut buffer) {
                        self.take(&buffer[..count]);
                    }
                    self.give_up();
                    if !self.shared.is_over() {
                        self.send().await;
                    } else if self.asked.is_empty() {
                        return;
                    }
                }
                received = self.socket.recv(&mut buffer) => match received {
                    Ok(count) => self.take(&buffer[..count]),
                    Err(error) => self.fail(&format!("receive: {error}")),
                },
            }
        }
    }

    async fn send(&mut self) {
        self.next += 1;
        let number = self.next;
        self.asked.insert(number, Instant::now());
        if let Err(error) = self.socket.send(number.to_string().as_bytes()).await {
            self.asked.remove(&number);
            self.fail(&format!("send {number}: {error}"));
        }
    }

    fn take(&mut self, answer: &[u8]) {
        let text = String::from_utf8_lossy(answer).into_owned();
        let parts = text.split_once(' ');
        let read = parts
            .and_then(|(pod, number)| Some((self.shared.pod(pod)?, number.parse::<u64>().ok()?)));
        let Some((pod, number)) = read else {
            self.fail(&format!("a wrong answer: {text:?}"));
            return;
        };
        self.pod = Some(pod);
        match self.asked.remove(&number) {
            Some(sent) => self.shared.tally().datagrams.succeed(sent.elapsed()),
            None => self.shared.tally().late_datagrams += 1,
        }
    }

    fn give_up(&mut self) {
        while let Some(first) = self.asked.first_entry()
            && first.get().elapsed() > LIMIT
        {
            let (number, sent) = first.remove_entry();
            let ago = sent.elapsed().as_secs_f64();
            self.fail(&format!("{number}, sent {ago:.3} s ago, has no answer"));
        }
    }

    fn fail(&self, what: &str) {
        let from = self.socket.local_addr().map(|own| own.port());
        let what = format!("{what} (from port {})", from.unwrap_or_default());
        self.shared
            .fail(Kind::Datagram, self.address, self.pod.clone(), what);
    }
}
