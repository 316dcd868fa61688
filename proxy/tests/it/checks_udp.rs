//! Probes that send a datagram: which answers pass, and what is told of those that do not.

use std::net::{SocketAddr, UdpSocket};
use std::sync::{Arc, Mutex};
use std::thread;

use podline_api::v1::{self, Health, health_check::Type};
use podline_lab::wait;

use crate::checks::{check, checked, wait_found};
use crate::harness::{LONG, Proxy, tcp};

/// How a datagram is answered.
#[derive(Clone, Copy, PartialEq)]
enum Script {
    Echo,
    Silent,
    Empty,
    /// By the longest datagram there is.
    Huge,
    /// From another port than was asked.
    Elsewhere,
}

/// Who asked, and what.
type Asked = (SocketAddr, Vec<u8>);

/// A backend that answers by a script for as long as the tests run.
struct Server {
    address: SocketAddr,
    seen: Arc<Mutex<Vec<Asked>>>,
}

impl Server {
    fn start(host: &str, script: Script) -> Self {
        let socket = UdpSocket::bind((host, 0)).unwrap();
        let address = socket.local_addr().unwrap();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let other = UdpSocket::bind((host, 0)).unwrap();
        let noted = Arc::clone(&seen);
        thread::spawn(move || {
            let mut room = vec![0; 65_536];
            while let Ok((length, from)) = socket.recv_from(&mut room) {
                let asked = &room[..length];
                noted.lock().unwrap().push((from, asked.to_vec()));
                let answer = match script {
                    Script::Silent => continue,
                    Script::Echo | Script::Elsewhere => asked.to_vec(),
                    Script::Empty => Vec::new(),
                    Script::Huge => vec![b'a'; 65_507],
                };
                let is_elsewhere = script == Script::Elsewhere;
                let by = if is_elsewhere { &other } else { &socket };
                by.send_to(&answer, from).unwrap();
            }
        });
        Self { address, seen }
    }
}

fn udp(send: &str, expect: &str) -> v1::HealthCheck {
    let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    v1::HealthCheck {
        udp: Some(v1::UdpCheck {
            send_text: some(send),
            expect_text: some(expect),
            ..Default::default()
        }),
        ..check(Type::Udp)
    }
}

#[test]
fn the_answer_decides_and_silence_only_where_something_was_asked() {
    use Script::{Echo, Elsewhere, Empty, Huge, Silent};
    let many = "a".repeat(500);
    let cases: [(&str, &str, Script, Health, &str); 12] = [
        ("hi", "", Echo, Health::Healthy, "answered"),
        ("hi", "", Empty, Health::Healthy, "answered"),
        ("hi", "", Huge, Health::Healthy, "answered"),
        ("hi", "", Silent, Health::Unhealthy, "no answer"),
        ("hi", "", Elsewhere, Health::Unhealthy, "no answer"),
        ("hi", "h", Echo, Health::Healthy, "answered"),
        ("hi", "hi!", Echo, Health::Unhealthy, "answered otherwise"),
        ("hi", "x", Empty, Health::Unhealthy, "answered otherwise"),
        ("hi", &many, Huge, Health::Healthy, "answered"),
        ("", "", Echo, Health::Healthy, "answered"),
        ("", "", Silent, Health::Healthy, "no answer"),
        ("", "a", Silent, Health::Unhealthy, "no answer"),
    ];
    let proxy = Proxy::start();
    let mut servers = Vec::new();
    for host in ["127.0.0.1", "::1"] {
        for (index, (send, expect, script, ..)) in cases.iter().enumerate() {
            let server = Server::start(host, *script);
            let name = format!("set-{host}-{index}").replace(':', "-");
            checked(&proxy, &name, &[server.address], udp(send, expect));
            servers.push((name, index, server));
        }
    }
    for (name, index, server) in &servers {
        let (send, .., health, found) = cases[*index];
        wait_found(&proxy, name, server.address, health, found);
        let seen = server.seen.lock().unwrap();
        assert!(seen.iter().all(|(_, asked)| asked == send.as_bytes()));
    }
}

#[test]
fn a_port_where_nobody_listens_is_unreachable_whatever_was_asked() {
    let proxy = Proxy::start();
    for host in ["127.0.0.1", "::1"] {
        for (kind, check) in [("silence", udp("", "")), ("answer", udp("hi", "h"))] {
            let address = SocketAddr::new(host.parse().unwrap(), tcp::free_port());
            let name = format!("{kind}-{host}").replace(':', "-");
            checked(&proxy, &name, &[address], check);
            let found = "port unreachable";
            wait_found(&proxy, &name, address, Health::Unhealthy, found);
        }
    }
}

#[test]
fn datagrams_go_to_the_checks_port_from_its_source_address() {
    let server = Server::start("127.0.0.1", Script::Echo);
    let proxy = Proxy::start();
    let backend = ([127, 0, 0, 1], 9).into(); // nobody is there
    let elsewhere = v1::HealthCheck {
        port: Some(server.address.port().into()),
        source_address: Some("127.0.0.2".into()),
        ..udp("hi", "")
    };
    checked(&proxy, "web", &[backend], elsewhere.clone());
    wait_found(&proxy, "web", backend, Health::Healthy, "answered");
    let seen = server.seen.lock().unwrap().clone();
    assert!(
        seen.iter()
            .all(|(from, _)| from.ip().to_string() == "127.0.0.2")
    );
    let foreign = v1::HealthCheck {
        source_address: Some("192.0.2.1".into()),
        ..elsewhere
    };
    checked(&proxy, "foreign", &[backend], foreign);
    let found = "the check's source address is none of this machine's";
    wait_found(&proxy, "foreign", backend, Health::Unhealthy, found);
}

#[test]
fn a_backend_that_falls_silent_is_out_until_it_answers_again() {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    let proxy = Proxy::start();
    checked(&proxy, "web", &[address], udp("hi", ""));
    let answer = |health: Health| {
        let timeout = Some(std::time::Duration::from_millis(10));
        socket.set_read_timeout(timeout).unwrap();
        wait::until(LONG, "the backend is well or not", || {
            let mut room = [0; 16];
            while let Ok((length, from)) = socket.recv_from(&mut room) {
                if health == Health::Healthy {
                    socket.send_to(&room[..length], from).unwrap();
                }
            }
            proxy.health("web", address) == health
        });
    };
    answer(Health::Healthy);
    answer(Health::Unhealthy);
    answer(Health::Healthy);
}
