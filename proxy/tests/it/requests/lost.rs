//! Requests that a backend loses: sent again where that does no harm, answered with what went wrong where it might.

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use podline_api::v1;
use podline_lab::{Behaviour, Pod, wait};

use crate::harness::web::{self, Client, Reply, Server, serve_http, stay};
use crate::harness::{LONG, Proxy, addresses, blackhole, pod, tcp, wire};

#[test]
fn a_backend_that_refuses_is_passed_over() {
    let proxy = Proxy::start();
    let server = Server::saying("a");
    let address = serve_http(&proxy, &[tcp::free_address(), server.address]);
    let mut client = Client::connect(address);
    for _ in 0..10 {
        assert_eq!(client.get("/").text(), "a");
    }
}

#[test]
fn where_nobody_can_be_reached_the_answer_says_so() {
    let proxy = Proxy::start();
    let address = serve_http(&proxy, &[tcp::free_address()]);
    let mut client = Client::connect(address);
    for _ in 0..2 {
        let answer = client.get("/");
        assert_eq!(
            (answer.status, answer.reason()),
            (502, Some("connect-failed"))
        );
    }
    let proxy = Proxy::start();
    let address = serve_http(&proxy, &[]);
    let answer = Client::connect(address).get("/");
    assert_eq!((answer.status, answer.reason()), (503, Some("no-backend")));
    assert!(answer.field("retry-after").is_some());
}

#[test]
fn a_backend_that_does_not_answer_the_dial_in_time_is_told_of() {
    let proxy = Proxy::start();
    let hole = blackhole::Blackhole::new();
    let address = tcp::free_address();
    let set = v1::BackendSet {
        connect_timeout: wire::time(Duration::from_millis(200)),
        connect_retries: Some(0),
        ..wire::set("web", &[hole.address()])
    };
    proxy.serve_with(web::listener("web", address, "web"), set);
    let answer = Client::connect(address).get("/");
    assert_eq!(
        (answer.status, answer.reason()),
        (504, Some("connect-timeout"))
    );
}

#[test]
fn a_client_that_gives_up_on_a_dial_counts_against_the_backend() {
    let proxy = web::one_worker();
    let (hole, server) = (blackhole::Blackhole::new(), Server::saying("a"));
    let address = serve_http(&proxy, &[hole.address(), server.address]);
    let is_out = || {
        let status = proxy.backend("web", hole.address());
        status.is_some_and(|status| !status.gets_traffic)
    };
    // The dial would last 4 s; each of these waits half of that.
    wait::until(LONG, "three have waited in vain", || {
        let mut client = Client::connect(address);
        client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        let patience = Duration::from_secs(2);
        tcp::wait_for(&client.stream, rustix::event::PollFlags::IN, patience);
        tcp::reset(client.stream);
        is_out()
    });
    let failures = proxy
        .backend("web", hole.address())
        .unwrap()
        .connect_failures;
    assert!((3..=4).contains(&failures), "{failures}");
    assert_eq!(Client::connect(address).get("/").text(), "a");
}

#[test]
fn where_the_last_backend_went_away_the_answer_says_that() {
    let proxy = Proxy::start();
    let server = Server::start(|_| Reply::End(Vec::new()));
    let address = serve_http(&proxy, &[server.address]);
    let answer = Client::connect(address).get("/");
    assert_eq!(
        (answer.status, answer.reason()),
        (502, Some("backend-closed"))
    );
}

#[test]
fn a_kept_connection_that_its_backend_ends_costs_nobody_anything() {
    let proxy = web::one_worker();
    // Each connection serves two requests, and the second time it hangs up without a word.
    let server = Server::start(|got| match got.number {
        0 => stay("a"),
        _ => Reply::Reset,
    });
    let address = serve_http(&proxy, &[server.address]);
    let mut client = Client::connect(address);
    for _ in 0..20 {
        assert_eq!(client.get("/").text(), "a");
    }
    client.send("PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nbody");
    assert_eq!(client.answer().text(), "a");
    assert_eq!(server.last().body, b"body");
    // What may have been done is not done twice.
    let before = server.seen().len();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nbody");
    let answer = client.answer();
    assert_eq!(
        (answer.status, answer.reason()),
        (502, Some("backend-closed"))
    );
    assert_eq!(server.seen().len(), before + 1);
}

#[test]
fn a_backend_that_ends_idle_connections_causes_no_error() {
    let proxy = web::one_worker();
    let server = Server::start(|_| Reply::End(web::answer("200 OK", "a")));
    let address = serve_http(&proxy, &[server.address]);
    let mut client = Client::connect(address);
    for _ in 0..100 {
        assert_eq!(client.get("/").text(), "a");
    }
    for number in 100..120 {
        wait::until(LONG, "its end is seen", || server.ended() == number);
        client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n");
        assert_eq!(client.answer().text(), "a");
    }
}

#[test]
fn a_request_goes_to_another_backend_when_one_fails_it() {
    let proxy = web::one_worker();
    let bad = Server::start(|_| Reply::Reset);
    let good = Server::saying("a");
    let address = serve_http(&proxy, &[bad.address, good.address]);
    let mut client = Client::connect(address);
    for _ in 0..10 {
        assert_eq!(client.get("/").text(), "a");
    }
    // Three failed forwards in a row have taken it out.
    wait::until(LONG, "it is out", || {
        proxy
            .backend("web", bad.address)
            .is_some_and(|status| !status.gets_traffic)
    });
    let before = bad.accepted();
    for _ in 0..10 {
        assert_eq!(client.get("/").text(), "a");
    }
    assert_eq!(bad.accepted(), before);
}

#[test]
fn an_early_answer_comes_through_though_the_body_does_not() {
    let proxy = Proxy::start();
    let (listener, backend) = tcp::backend();
    let address = serve_http(&proxy, &[backend]);
    let mut client = Client::connect(address);
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\nabc");
    let mut seen = tcp::accept(&listener);
    let mut head = [0; 64];
    std::io::Read::read_exact(&mut seen, &mut head).unwrap();
    std::io::Write::write_all(
        &mut seen,
        b"HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno",
    )
    .unwrap();
    let answer = client.answer();
    assert_eq!((answer.status, answer.text().as_str()), (403, "no"));
    assert_eq!(answer.field("connection"), Some("close"));
}

#[test]
fn backends_come_go_and_die_under_load_and_no_request_fails() {
    const ROUNDS: usize = 300;
    let proxy = Proxy::start();
    let mut pods: Vec<Pod> = ["a", "b", "c", "d"]
        .map(|name| pod(name, Behaviour::Name))
        .into();
    let addresses = addresses(&pods);
    let address = serve_http(&proxy, &addresses);
    let done = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        let clients: Vec<_> = (0..4)
            .map(|_| {
                scope.spawn(|| {
                    let mut client = Client::connect(address);
                    let mut count = 0;
                    while done.load(Relaxed) == 0 {
                        assert_eq!(client.get("/").status, 200);
                        count += 1;
                    }
                    count
                })
            })
            .collect();
        for round in 0..ROUNDS {
            let some: Vec<_> = addresses
                .iter()
                .enumerate()
                .filter(|(index, _)| *index != round % addresses.len())
                .map(|(_, address)| *address)
                .collect();
            proxy.apply(wire::sets([wire::set("web", &some)]));
            if round == ROUNDS / 2 {
                pods.pop(); // and what was with it
            }
        }
        done.store(1, Relaxed);
        let counts: Vec<usize> = clients.into_iter().map(|it| it.join().unwrap()).collect();
        println!("{counts:?} requests during {ROUNDS} publishes");
        assert!(counts.iter().all(|count| *count > 0));
    });
}
