//! What is under way while an address moves in order, beyond TCP: streams of HTTP/2, answers of UDP.

use std::collections::{BTreeSet, VecDeque};
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::mpsc::{self, Receiver};
use std::time::{Duration, Instant};

use podline_api::v1::address_status::State::Holding;
use podline_lab::{Segment, wait};

use super::NAME;
use super::scene::{PAGES, Scene, VIRTUAL};
use crate::harness::h2::{self, Client};
use crate::harness::secure::{Tls, made};
use crate::harness::{LONG, Proxy, udp, web, wire};

/// Pages of the Pod that say which proxy asks: at once, or once the test says so.
fn answer(mut stream: TcpStream, go: &Receiver<()>) -> std::io::Result<()> {
    let by = stream.peer_addr()?.ip().to_string();
    let mut read = Vec::new();
    let mut piece = [0; 4_096];
    loop {
        match stream.read(&mut piece)? {
            0 => return Ok(()),
            count => read.extend_from_slice(&piece[..count]),
        }
        if !read.ends_with(b"\r\n\r\n") {
            continue;
        }
        if read.starts_with(b"GET /late ") {
            go.recv_timeout(LONG).ok();
        }
        read.clear();
        stream.write_all(&web::answer("200 OK", &by))?;
    }
}

#[test]
fn streams_of_http2_end_well_and_what_comes_after_them_goes_to_the_new_holder() {
    let Some(scene) = Scene::build(2) else { return };
    let [first, second] = scene.held_by_first();
    let pair = made(&[NAME]);
    let pods = [0, 1].map(|family| SocketAddr::from((Segment::pod(0, 0)[family], 8081)));
    let gates = pods.map(|at| {
        let (open, gate) = mpsc::channel();
        let listener = scene.segment.nodes[0].pods[0].run(move || TcpListener::bind(at).unwrap());
        std::thread::spawn(move || {
            let gate = Arc::new(std::sync::Mutex::new(gate));
            for stream in listener.incoming().flatten() {
                let gate = Arc::clone(&gate);
                std::thread::spawn(move || answer(stream, &gate.lock().unwrap()));
            }
        });
        open
    });
    for proxy in [&first, &second] {
        Scene::serve_pages_of(proxy, &pair, ["paged", "paged-6"], pods);
    }
    let (tell, under_way) = mpsc::channel();
    let clients = VIRTUAL.map(|ip| {
        let (tls, tell) = (Tls::trusting(&[&pair]), tell.clone());
        let at = (ip, PAGES).into();
        scene.segment.client.thread(move || {
            h2::run(async {
                let client = Client::connect_tls(at, &tls, NAME).await;
                let before = client.get("/").await.unwrap().text();
                let (late, _) = client.send(h2::get("/late"), true).await.unwrap();
                tell.send(()).unwrap();
                let late = h2::read(late).await.unwrap();
                // Told to go away, it has nothing left to wait for.
                client.connection.await.unwrap().unwrap();
                let client = Client::connect_tls(at, &tls, NAME).await;
                let after = client.get("/").await.unwrap().text();
                (before, late.text(), after)
            })
        })
    });
    for _ in 0..2 {
        under_way.recv_timeout(LONG).unwrap();
    }
    Scene::hand_over(&first, &second);
    for (family, gate) in gates.iter().enumerate() {
        Scene::wait_for(&second, family, Holding);
        scene.wait_served(family, 1);
        wait::until(LONG, "the first has it no more", || !scene.has(0, family));
        gate.send(()).unwrap();
    }
    let own = [0, 1].map(|proxy| Segment::proxy(proxy).map(|ip| ip.to_string()));
    for (family, client) in clients.into_iter().enumerate() {
        let seen = client.join().unwrap();
        let [one, other] = [0, 1].map(|proxy: usize| own[proxy][family].clone());
        assert_eq!(seen, (one.clone(), one, other));
    }
    assert!(first.wait_end(LONG).unwrap().success());
}

/// The listeners of datagrams, by IP version, and their sets.
const DNS: [&str; 2] = ["dns", "dns-6"];
/// How much later than the question the Pod answers, so that answers are under way all the time.
const LATE: Duration = Duration::from_millis(50);

/// Answers each datagram later with who sent it, until it has ended.
fn answer_late(socket: &UdpSocket, ended: &AtomicBool) {
    socket.set_read_timeout(Some(LATE / 10)).unwrap();
    let mut owed: VecDeque<(Instant, SocketAddr, Vec<u8>)> = VecDeque::new();
    let mut question = [0; 64];
    while !ended.load(Relaxed) {
        if let Ok((count, from)) = socket.recv_from(&mut question) {
            let answer = format!(
                "{} {}",
                String::from_utf8_lossy(&question[..count]),
                from.ip()
            );
            owed.push_back((Instant::now() + LATE, from, answer.into_bytes()));
        }
        while owed
            .front()
            .is_some_and(|(due, _, _)| *due <= Instant::now())
        {
            if let Some((_, to, answer)) = owed.pop_front() {
                socket.send_to(&answer, to).ok();
            }
        }
    }
}

/// Asks on one socket until it has ended, and hears the rest out: which questions had no answer, of how many, and who
/// passed them on.
fn ask_all(to: SocketAddr, ended: &AtomicBool) -> (Vec<u32>, u32, BTreeSet<IpAddr>) {
    let any = if to.is_ipv6() { "[::]:0" } else { "0.0.0.0:0" };
    let socket = UdpSocket::bind(any).unwrap();
    socket.connect(to).unwrap();
    socket.set_read_timeout(Some(LATE / 10)).unwrap();
    let (mut asked, mut open, mut by) = (0, BTreeSet::new(), BTreeSet::new());
    let mut until: Option<Instant> = None;
    let mut answer = [0; 128];
    while until.is_none_or(|until| Instant::now() < until && !open.is_empty()) {
        if until.is_none() {
            socket.send(asked.to_string().as_bytes()).unwrap();
            open.insert(asked);
            asked += 1;
            until = ended.load(Relaxed).then(|| Instant::now() + LONG);
        }
        if let Ok(count) = socket.recv(&mut answer) {
            let text = String::from_utf8_lossy(&answer[..count]).into_owned();
            let (number, ip) = text.split_once(' ').unwrap();
            open.remove(&number.parse().unwrap());
            by.insert(ip.parse().unwrap());
        }
    }
    (open.into_iter().collect(), asked, by)
}

fn serve_datagrams(proxy: &Proxy, pods: [SocketAddr; 2]) {
    for family in [0, 1] {
        let name = DNS[family];
        let listener = udp::listener(name, (VIRTUAL[family], 53).into(), name);
        proxy.serve_with(listener, wire::set(name, &[pods[family]]));
    }
}

#[test]
fn answers_of_udp_that_are_under_way_arrive() {
    let Some(scene) = Scene::build(2) else { return };
    let [first, second] = scene.held_by_first();
    let ended = Arc::new(AtomicBool::new(false));
    let pods = [0, 1].map(|family| SocketAddr::from((Segment::pod(0, 0)[family], 5353)));
    let answering = pods.map(|at| {
        let ended = Arc::clone(&ended);
        let pod = &scene.segment.nodes[0].pods[0];
        let socket = pod.run(move || UdpSocket::bind(at).unwrap());
        pod.thread(move || answer_late(&socket, &ended))
    });
    for proxy in [&first, &second] {
        serve_datagrams(proxy, pods);
    }
    let enough = Arc::new(AtomicBool::new(false));
    let clients = VIRTUAL.map(|ip| {
        let enough = Arc::clone(&enough);
        let client = &scene.segment.client;
        client.thread(move || ask_all((ip, 53).into(), &enough))
    });
    for family in [0, 1] {
        let name = DNS[family];
        wait::until(LONG, "the client is served by the first", || {
            first.listener(name).sent_bytes > 0
        });
    }
    Scene::hand_over(&first, &second);
    for family in [0, 1] {
        let name = DNS[family];
        wait::until(LONG, "and by the second", || {
            second.listener(name).sent_bytes > 0
        });
    }
    enough.store(true, Relaxed);
    let own = [0, 1].map(Segment::proxy);
    for (family, client) in clients.into_iter().enumerate() {
        let (lost, asked, by) = client.join().unwrap();
        println!("{asked} asked, {} lost", lost.len());
        assert_eq!(lost, [0; 0], "of {asked}");
        assert_eq!(by, own.map(|ips| ips[family]).into());
    }
    ended.store(true, Relaxed);
    for thread in answering {
        thread.join().unwrap();
    }
}
