//! How connections and answers end: never cleanly when they are cut short, and not before their time.

use std::net::Shutdown;
use std::time::{Duration, Instant};

use podline_api::v1;
use podline_lab::wait;

use crate::harness::web::{self, Client, Reply, Server, serve_http, stay};
use crate::harness::{LONG, Proxy, SECOND, tcp, wire};

#[test]
fn an_answer_that_is_cut_short_is_cut_for_the_client() {
    let proxy = Proxy::start();
    let server = Server::start(|got| {
        let head = match got.line().split(' ').nth(1).unwrap() {
            "/length" => "Content-Length: 10",
            _ => "Transfer-Encoding: chunked",
        };
        Reply::End(format!("HTTP/1.1 200 OK\r\n{head}\r\n\r\n5\r\nhel").into_bytes())
    });
    let address = serve_http(&proxy, &[server.address]);
    for path in ["/length", "/chunks"] {
        let mut client = Client::connect(address);
        client.send(format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n"));
        client.try_answer(false).unwrap_err();
    }
}

#[test]
fn a_body_that_begins_broken_is_answered_with_502_and_one_that_goes_on_so_is_cut() {
    let proxy = Proxy::start();
    let server = Server::start(|got| {
        let chunks = match got.line().split(' ').nth(1).unwrap() {
            "/begins" => "+2\r\nok\r\n0\r\n\r\n".to_owned(),
            // More than is read at once.
            _ => format!("100000\r\n{}\r\n+2\r\n", "x".repeat(0x0010_0000)),
        };
        let head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
        Reply::End(format!("{head}{chunks}").into_bytes())
    });
    let address = serve_http(&proxy, &[server.address]);
    let mut client = Client::connect(address);
    let answer = client.get("/begins");
    assert_eq!(
        (answer.status, answer.reason()),
        (502, Some("bad-response"))
    );
    client.send("GET /goes-on HTTP/1.1\r\nHost: a\r\n\r\n");
    client.try_answer(false).unwrap_err();
}

#[test]
fn a_client_that_ends_its_side_gets_its_answer() {
    let proxy = Proxy::start();
    let server = Server::saying("a");
    let address = serve_http(&proxy, &[server.address]);
    let mut client = Client::connect(address);
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    client.stream.shutdown(Shutdown::Write).unwrap();
    assert_eq!(client.answer().text(), "a");
    assert!(client.has_ended());
}

#[test]
fn a_request_that_is_cut_short_is_cut_for_the_backend() {
    let proxy = Proxy::start();
    let (listener, backend) = tcp::backend();
    let address = serve_http(&proxy, &[backend]);
    let mut client = Client::connect(address);
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nabc");
    let mut seen = tcp::accept(&listener);
    let mut head = [0; 16];
    std::io::Read::read_exact(&mut seen, &mut head).unwrap();
    drop(client);
    assert!(tcp::is_reset_within(&seen, LONG));
}

#[test]
fn idle_connections_end_in_time_and_busy_ones_do_not() {
    let proxy = Proxy::start();
    let server = Server::saying("a");
    let settings = v1::HttpSettings {
        keep_alive_timeout: wire::time(Duration::from_secs(3)),
        ..v1::HttpSettings::default()
    };
    let address = web::serve_with(&proxy, &[server.address], settings);
    let mut client = Client::connect(address);
    for _ in 0..3 {
        assert_eq!(client.get("/").text(), "a");
    }
    assert!(client.has_ended());
    wait::until(LONG, "nothing is counted", || proxy.active() == 0);
}

#[test]
fn without_keep_alive_each_connection_has_one_request() {
    let proxy = Proxy::start();
    let server = Server::saying("a");
    let settings = v1::HttpSettings {
        keep_alive_timeout: wire::time(Duration::ZERO),
        ..v1::HttpSettings::default()
    };
    let address = web::serve_with(&proxy, &[server.address], settings);
    let mut client = Client::connect(address);
    assert_eq!(client.get("/").field("connection"), Some("close"));
    assert!(client.has_ended());
}

#[test]
fn who_does_not_say_all_in_time_is_told_so() {
    let proxy = Proxy::start();
    let server = Server::start(|_| Reply::Silence);
    let settings = v1::HttpSettings {
        request_timeout: wire::time(Duration::from_secs(1)),
        response_timeout: wire::time(Duration::from_secs(1)),
        ..v1::HttpSettings::default()
    };
    let address = web::serve_with(&proxy, &[server.address], settings);
    for (said, status, reason) in [
        ("GET / HTTP/1.1\r\nHost:", 408, "head-timeout"),
        (
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\na",
            408,
            "body-timeout",
        ),
        ("GET / HTTP/1.1\r\nHost: a\r\n\r\n", 504, "response-timeout"),
    ] {
        let mut client = Client::connect(address);
        client.send(said);
        let answer = client.answer();
        assert_eq!((answer.status, answer.reason()), (status, Some(reason)));
        assert!(client.has_ended());
    }
    // Who says nothing is answered nothing.
    assert!(Client::connect(address).has_ended());
}

#[test]
fn a_removed_listener_lets_requests_end_and_takes_no_more() {
    let proxy = Proxy::start();
    let (go, wait_for_go) = std::sync::mpsc::channel::<()>();
    let wait_for_go = std::sync::Mutex::new(wait_for_go);
    let server = Server::start(move |got| {
        if got.line().contains("/slow") {
            wait_for_go.lock().unwrap().recv().unwrap();
        }
        stay("a")
    });
    let address = serve_http(&proxy, &[server.address]);
    let mut idle = Client::connect(address);
    assert_eq!(idle.get("/").text(), "a");
    let mut slow = Client::connect(address);
    slow.send("GET /slow HTTP/1.1\r\nHost: a\r\n\r\n");
    wait::until(LONG, "it is with the backend", || server.seen().len() == 2);
    proxy.apply(v1::ApplyRequest {
        remove_listeners: vec!["web".to_owned()],
        ..wire::request()
    });
    let last = idle.get("/");
    assert_eq!(
        (last.status, last.field("connection")),
        (200, Some("close"))
    );
    go.send(()).unwrap();
    assert_eq!(slow.answer().text(), "a");
}

#[test]
fn a_proxy_that_stops_waits_for_requests_and_not_for_idle_clients() {
    let proxy = Proxy::start();
    let server = Server::saying("a");
    let address = serve_http(&proxy, &[server.address]);
    let mut clients: Vec<Client> = (0..4).map(|_| Client::connect(address)).collect();
    for client in &mut clients {
        assert_eq!(client.get("/").text(), "a");
    }
    proxy.signal(rustix::process::Signal::TERM);
    // Well before the 25 s that connections may take.
    assert!(proxy.wait_end(LONG).unwrap().success());
    assert!(clients.iter_mut().all(Client::has_ended));
}

#[test]
fn large_bodies_pass_both_ways_in_little_memory() {
    const BYTES: u64 = 256 << 20;
    let proxy = web::one_worker();
    let pod = crate::harness::pod("a", podline_lab::Behaviour::Name);
    let address = serve_http(&proxy, &[pod.address()]);
    Client::connect(address).get("/");
    let before = proxy.resident_bytes();
    let mut client = Client::connect(address);
    client.send(format!(
        "GET /bytes/{BYTES} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
    ));
    let (read, end) = read_body(&mut client);
    end.unwrap();
    assert_eq!(read, BYTES);
    let grown = proxy.resident_bytes().saturating_sub(before);
    assert!(grown < 8 << 20, "{grown}");
}

#[test]
fn large_uploads_wait_for_a_slow_backend_in_little_memory() {
    const BYTES: usize = 256 << 20; // more than the kernel holds
    let proxy = web::one_worker();
    let (listener, backend) = tcp::backend();
    let settings = v1::HttpSettings {
        max_body_bytes: Some(BYTES as u64),
        ..v1::HttpSettings::default()
    };
    let address = web::serve_with(&proxy, &[backend], settings);
    let mut before = 0;
    for head in [
        format!("Content-Length: {BYTES}\r\n\r\n"),
        "Transfer-Encoding: chunked\r\n\r\n".to_owned(),
    ] {
        let mut client = Client::connect(address);
        client.send(format!("POST / HTTP/1.1\r\nHost: a\r\n{head}"));
        let is_chunked = head.starts_with("Transfer");
        let sender = std::thread::spawn(move || {
            let piece = vec![1; 1 << 20];
            for _ in 0..BYTES >> 20 {
                if is_chunked {
                    client.send(format!("{:x}\r\n", piece.len()));
                }
                client.send(&piece);
                if is_chunked {
                    client.send("\r\n");
                }
            }
            if is_chunked {
                client.send("0\r\n\r\n");
            }
            client.answer().text()
        });
        let mut seen = tcp::accept(&listener);
        let memory = proxy.resident_bytes();
        // Until nothing moves: every buffer up to the client is full. Bytes are told once a second.
        let (mut moved, mut since) = (0, Instant::now());
        wait::until(LONG, "the client is held up", || {
            let now = proxy.listener("web").received_bytes.saturating_sub(before);
            if now != moved {
                (moved, since) = (now, Instant::now());
            }
            moved > 0 && since.elapsed() > 2 * SECOND
        });
        before += BYTES as u64;
        assert!(moved < BYTES as u64 / 2, "{moved}");
        let grown = proxy.resident_bytes().saturating_sub(memory);
        assert!(grown < 8 << 20, "{grown}");
        let mut left = BYTES;
        let mut buffer = vec![0; 1 << 20];
        while left > 0 {
            let n = std::io::Read::read(&mut seen, &mut buffer).unwrap();
            assert!(n > 0);
            let data = buffer[..n].split(|byte| *byte != 1).map(<[u8]>::len);
            left -= data.sum::<usize>();
        }
        let done = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\nConnection: close\r\n\r\ndone";
        std::io::Write::write_all(&mut seen, done).unwrap();
        assert_eq!(sender.join().unwrap(), "done");
    }
}

/// Reads past the head, then the pattern to the end.
fn read_body(client: &mut Client) -> (u64, std::io::Result<()>) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        std::io::Read::read_exact(&mut client.stream, &mut byte).unwrap();
        head.push(byte[0]);
    }
    tcp::read_pattern(&mut client.stream)
}
