//! What is removed gets no new work, keeps what it has until the deadline, and is acknowledged twice.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use podline_api::v1::{self, Drained, drained::Stage, watch_response::Event};
use podline_lab::{Behaviour, wait};
use socket2::SockRef;

use crate::harness::{LONG, Proxy, SECOND, http, pod, tcp, wire};

type Events = tonic::Streaming<v1::WatchResponse>;

fn watch(proxy: &Proxy) -> Events {
    proxy.block_on(proxy.client().watch()).unwrap()
}

/// The next drain event of this backend.
fn next_drained(proxy: &Proxy, events: &mut Events, address: SocketAddr) -> Drained {
    let next = async {
        loop {
            let event = events.message().await.unwrap().expect("the watch goes on");
            if let Some(Event::Drained(drained)) = event.event
                && drained
                    .backend
                    .as_ref()
                    .is_some_and(|b| b.address == address.to_string())
            {
                return drained;
            }
        }
    };
    let limited = async { tokio::time::timeout(LONG, next).await };
    proxy.block_on(limited).expect("a drain event comes")
}

/// A connection that echoes, and works.
fn open(address: SocketAddr) -> TcpStream {
    let mut stream = tcp::connect(address);
    check_echo(&mut stream);
    stream
}

fn check_echo(stream: &mut TcpStream) {
    stream.write_all(b"ping").unwrap();
    let mut back = [0; 4];
    stream.read_exact(&mut back).unwrap();
    assert_eq!(&back, b"ping");
}

/// Serves one Pod with so long a drain time.
fn serve(proxy: &Proxy, backend: SocketAddr, drain: Duration) -> SocketAddr {
    let address = tcp::free_address();
    let mut set = wire::set("web", &[backend]);
    set.drain_timeout = wire::time(drain);
    proxy.serve_with(wire::listener("web", address, "web"), set);
    address
}

#[test]
fn a_removed_backend_is_closed_then_empty_and_its_connection_lives_until_then() {
    let pod = pod("a", Behaviour::Echo);
    let proxy = Proxy::start();
    let address = serve(&proxy, pod.address(), 60 * SECOND);
    let mut stream = open(address);
    let mut events = watch(&proxy);
    proxy.apply(wire::change("web", &[], &[pod.address()]));
    let closed = next_drained(&proxy, &mut events, pod.address());
    assert_eq!(
        (closed.stage(), closed.set.as_str()),
        (Stage::Closed, "web")
    );
    check_echo(&mut stream);
    let status = proxy.backend("web", pod.address());
    assert!(status.is_none_or(|status| status.draining && status.active_connections == 1));
    drop(stream);
    let empty = next_drained(&proxy, &mut events, pod.address());
    assert_eq!((empty.stage(), empty.forced), (Stage::Empty, 0));
}

#[test]
fn an_idle_backend_is_closed_and_empty_at_once() {
    let pod = pod("a", Behaviour::Echo);
    let proxy = Proxy::start();
    serve(&proxy, pod.address(), 60 * SECOND);
    let mut events = watch(&proxy);
    proxy.apply(wire::change("web", &[], &[pod.address()]));
    let stages = [(); 2].map(|()| next_drained(&proxy, &mut events, pod.address()).stage());
    assert_eq!(stages, [Stage::Closed, Stage::Empty]);
}

#[test]
fn at_the_deadline_connections_are_reset_and_counted() {
    let pod = pod("a", Behaviour::Echo);
    let proxy = Proxy::start();
    let address = serve(&proxy, pod.address(), SECOND);
    let streams = [open(address), open(address)];
    let mut events = watch(&proxy);
    let start = Instant::now();
    proxy.apply(wire::change("web", &[], &[pod.address()]));
    let stages = [(); 2].map(|()| next_drained(&proxy, &mut events, pod.address()));
    let told = stages.map(|drained| (drained.stage(), drained.forced));
    assert_eq!(told, [(Stage::Closed, 0), (Stage::Empty, 2)]);
    assert!(
        start.elapsed() >= Duration::from_millis(900),
        "forced after {:?}",
        start.elapsed()
    );
    for stream in &streams {
        assert!(tcp::is_reset_within(stream, LONG));
    }
}

/// A Pod that ended well is removed while its last words are still on their way to a slow client.
#[test]
fn what_a_backend_said_to_its_end_is_delivered_though_it_is_cut_off() {
    const SIZE: u64 = 300_000;
    let (listener, address) = tcp::backend();
    let proxy = Proxy::start();
    let mut client = tcp::connect(serve(&proxy, address, Duration::ZERO));
    SockRef::from(&client).set_recv_buffer_size(4096).unwrap();
    let mut backend = tcp::accept(&listener);
    tcp::send_pattern(&mut backend, 0, SIZE).unwrap();
    backend.shutdown(Shutdown::Write).unwrap();
    wait::until(LONG, "the end is acknowledged", || {
        tcp::state(&backend) == "05"
    });
    let mut events = watch(&proxy);
    proxy.apply(wire::change("web", &[], &[address]));
    let closed = next_drained(&proxy, &mut events, address);
    assert_eq!(closed.stage(), Stage::Closed);
    let (read, end) = tcp::read_pattern(&mut client);
    assert_eq!((read, end.is_ok()), (SIZE, true), "{end:?}");
    let empty = next_drained(&proxy, &mut events, address);
    assert_eq!((empty.stage(), empty.forced), (Stage::Empty, 0));
}

#[test]
fn a_set_that_wants_it_resets_at_once() {
    let pod = pod("a", Behaviour::Echo);
    let proxy = Proxy::start();
    let address = tcp::free_address();
    let mut set = wire::set("web", &[pod.address()]);
    set.deregister_target_rst = true;
    set.drain_timeout = wire::time(60 * SECOND);
    proxy.serve_with(wire::listener("web", address, "web"), set);
    let stream = open(address);
    proxy.apply(wire::change("web", &[], &[pod.address()]));
    assert!(tcp::is_reset_within(&stream, LONG));
}

#[test]
fn a_backend_that_comes_back_is_not_drained_any_more() {
    let pod = pod("a", Behaviour::Echo);
    let proxy = Proxy::start();
    let address = serve(&proxy, pod.address(), 3 * SECOND);
    let mut stream = open(address);
    proxy.apply(wire::change("web", &[], &[pod.address()]));
    proxy.apply(wire::change("web", &[pod.address()], &[]));
    assert!(
        !tcp::is_reset_within(&stream, 4 * SECOND),
        "the old deadline was kept"
    );
    check_echo(&mut stream);
    let status = proxy.backend("web", pod.address()).unwrap();
    assert!(!status.draining);
    assert_eq!(
        (status.active_connections, status.connections),
        (1, 1),
        "its counters went on"
    );
}

#[test]
fn a_removed_listener_closes_and_its_connections_live_to_its_deadline() {
    let pod = pod("a", Behaviour::Echo);
    let proxy = Proxy::start();
    let address = tcp::free_address();
    let mut listener = wire::listener("web", address, "web");
    listener.drain_timeout = wire::time(5 * SECOND);
    proxy.serve_with(listener, wire::set("web", &[pod.address()]));
    let mut stream = open(address);
    let start = Instant::now();
    let remove_listeners = vec!["web".to_owned()];
    proxy.apply(v1::ApplyRequest {
        remove_listeners,
        ..wire::request()
    });
    podline_lab::wait::until(LONG, "new connections are refused", || {
        TcpStream::connect(address).is_err()
    });
    check_echo(&mut stream);
    assert!(tcp::is_reset_within(&stream, LONG));
    assert!(
        start.elapsed() >= Duration::from_millis(4900),
        "forced after {:?}",
        start.elapsed()
    );
}

#[test]
fn removing_the_listener_and_its_set_together_keeps_connections_to_the_deadline() {
    let pod = pod("a", Behaviour::Echo);
    let proxy = Proxy::start();
    let address = serve(&proxy, pod.address(), 60 * SECOND);
    let mut stream = open(address);
    proxy.apply(v1::ApplyRequest {
        replace_owned: true,
        ..wire::request()
    });
    check_echo(&mut stream);
    drop(stream);
    podline_lab::wait::until(LONG, "the connection is gone", || proxy.active() == 0);
}

#[test]
fn a_listener_moves_to_another_set_and_old_connections_stay_where_they_are() {
    let (old, new) = (pod("old", Behaviour::Name), pod("new", Behaviour::Name));
    let proxy = Proxy::start();
    let address = proxy.serve(&[old.address()]);
    let mut kept = http::Client::connect(address).unwrap();
    assert_eq!(kept.name().unwrap(), "old");
    proxy.apply(wire::both(
        wire::listener("web", address, "other"),
        wire::set("other", &[new.address()]),
    ));
    assert_eq!(http::ask(address).unwrap(), "new");
    assert_eq!(kept.name().unwrap(), "old");
}
