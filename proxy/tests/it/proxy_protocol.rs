//! The PROXY protocol: backends are told who the client is, and trusted peers tell it; what they should not send is
//! refused, and what others send is data.

use std::collections::HashMap;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

use podline_api::ProxyHeader;
use podline_api::v1::{self, proxy_protocol::Version};
use podline_lab::wait;
use podline_proxy::proxy_header::{Announced, Parsed, parse, write};
use socket2::{Domain, Socket, Type};

use crate::harness::{LONG, Proxy, SECOND, Start, http, tcp, wire};

/// Who has to send a header, in these tests.
const TRUSTED: &str = "127.0.0.2";

/// Reads each connection to its end, and says what came.
struct Server {
    address: SocketAddr,
    seen: Receiver<Vec<u8>>,
}

impl Server {
    fn start() -> Self {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        let any: SocketAddr = ([127, 0, 0, 1], 0).into();
        socket.bind(&any.into()).unwrap();
        socket.listen(4_096).unwrap(); // a queue that overflows would reset some
        let listener = TcpListener::from(socket);
        let address = listener.local_addr().unwrap();
        let (sender, seen) = channel();
        thread::spawn(move || {
            for stream in listener.incoming() {
                let (mut stream, sender) = (stream.unwrap(), sender.clone());
                thread::spawn(move || {
                    let mut bytes = Vec::new();
                    if stream.read_to_end(&mut bytes).is_ok() {
                        let _ = stream.write_all(b"bye");
                        let _ = sender.send(bytes);
                    }
                });
            }
        });
        Self { address, seen }
    }

    /// What the next connection was told, and its bytes.
    fn next(&self) -> (Option<Announced>, Vec<u8>) {
        split(&self.seen.recv_timeout(LONG).unwrap())
    }
}

fn split(bytes: &[u8]) -> (Option<Announced>, Vec<u8>) {
    let Parsed::Done { length, announced } = parse(bytes) else {
        panic!("no header: {}", bytes.escape_ascii());
    };
    (announced, bytes[length..].to_vec())
}

fn ends(client: &str, destination: &str) -> Announced {
    Announced {
        client: client.parse().unwrap(),
        destination: destination.parse().unwrap(),
    }
}

fn send(version: Version) -> v1::ProxyProtocol {
    v1::ProxyProtocol {
        send: Some(version.into()),
        ..Default::default()
    }
}

fn accept(timeout: Duration) -> v1::ProxyProtocol {
    v1::ProxyProtocol {
        accept: Some(v1::ProxyProtocolAccept {
            from: vec![TRUSTED.to_owned(), "fd00::/8".to_owned()],
            timeout: wire::time(timeout),
        }),
        ..Default::default()
    }
}

/// Headers are read, and written on in version 2.
fn both() -> v1::ProxyProtocol {
    v1::ProxyProtocol {
        accept: accept(LONG).accept,
        ..send(Version::V2)
    }
}

fn listener(address: SocketAddr, protocol: v1::ProxyProtocol) -> v1::Listener {
    v1::Listener {
        proxy_protocol: Some(protocol),
        ..wire::listener("web", address, "web")
    }
}

fn serve(proxy: &Proxy, backends: &[SocketAddr], protocol: v1::ProxyProtocol) -> SocketAddr {
    let address = tcp::free_address();
    proxy.serve_with(listener(address, protocol), wire::set("web", backends));
    address
}

fn trusted(to: SocketAddr) -> TcpStream {
    tcp::connect_from(TRUSTED.parse().unwrap(), to).unwrap()
}

/// Ends, and reads what comes to the end.
fn finish(mut stream: TcpStream) -> io::Result<Vec<u8>> {
    stream.shutdown(Shutdown::Write)?;
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn header(version: ProxyHeader, announced: Announced) -> Vec<u8> {
    write(version, Some(announced), 7).as_bytes().to_vec()
}

const V2: ProxyHeader = ProxyHeader::V2 {
    crc32c: true,
    unique_id: true,
};

fn somebody() -> Announced {
    ends("203.0.113.9:4711", "198.51.100.1:443")
}

fn refused(proxy: &Proxy) -> u64 {
    proxy.listener("web").proxy_headers_refused
}

fn is_cut(mut stream: &TcpStream) -> bool {
    let kind = |error: io::Error| error.kind();
    matches!(
        stream.read(&mut [0]).map_err(kind),
        Err(ErrorKind::ConnectionReset)
    )
}

#[test]
fn backends_are_told_who_connected_to_what_and_then_get_the_bytes() {
    let server = Server::start();
    let proxy = Proxy::start();
    let full = v1::ProxyProtocol {
        crc32c: true,
        unique_id: true,
        ..send(Version::V2)
    };
    for protocol in [send(Version::V1), send(Version::V2), full.clone()] {
        for wildcard in [false, true] {
            let to = tcp::free_address();
            let bound = if wildcard {
                SocketAddr::new([0, 0, 0, 0].into(), to.port())
            } else {
                to
            };
            proxy.serve_with(
                listener(bound, protocol.clone()),
                wire::set("web", &[server.address]),
            );
            let mut client = tcp::connect(to);
            let told = Some(Announced::new(client.local_addr().unwrap(), to));
            client.write_all(b"hello").unwrap();
            assert_eq!(finish(client).unwrap(), b"bye");
            assert_eq!(server.next(), (told, b"hello".to_vec()));
        }
    }
    let to = tcp::free_address_v6();
    proxy.serve_with(listener(to, full), wire::set("web", &[server.address]));
    let client = tcp::connect(to);
    let told = Some(Announced::new(client.local_addr().unwrap(), to));
    // The client says nothing at all: the header comes all the same.
    assert_eq!(finish(client).unwrap(), b"bye");
    assert_eq!(server.next(), (told, Vec::new()));
    let sent = proxy.listener("web").received_bytes;
    assert_eq!(sent, 0, "headers are not the client's bytes");
}

#[test]
fn a_backend_that_speaks_first_has_its_header_first() {
    let (backend, address) = tcp::backend();
    let proxy = Proxy::start();
    let mut client = tcp::connect(serve(&proxy, &[address], send(Version::V1)));
    let mut backend = tcp::accept(&backend);
    let port = client.local_addr().unwrap().port();
    let mut line = vec![0; format!("PROXY TCP4 127.0.0.1 127.0.0.1 {port} 12345\r\n").len()];
    backend.read_exact(&mut line).unwrap();
    assert!(line.ends_with(b"\r\n"), "{}", line.escape_ascii());
    backend.write_all(b"220 welcome").unwrap();
    let mut banner = [0; 11];
    client.read_exact(&mut banner).unwrap();
    assert_eq!(&banner, b"220 welcome");
}

#[test]
fn unique_ids_differ() {
    let server = Server::start();
    let proxy = Proxy::start();
    let unique_id = true;
    let protocol = v1::ProxyProtocol {
        unique_id,
        ..send(Version::V2)
    };
    let to = serve(&proxy, &[server.address], protocol);
    let mut ids: Vec<Vec<u8>> = (0..100)
        .map(|_| {
            assert_eq!(finish(tcp::connect(to)).unwrap(), b"bye");
            let header = server.seen.recv_timeout(LONG).unwrap();
            assert_eq!(header[28..31], [5, 0, 16]);
            header[31..].to_vec()
        })
        .collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), 100);
}

#[test]
fn the_next_backend_is_told_too() {
    let server = Server::start();
    let nobody = tcp::free_address();
    let proxy = Proxy::start();
    let to = serve(&proxy, &[nobody, server.address], send(Version::V2));
    for _ in 0..8 {
        let client = tcp::connect(to);
        let told = Some(Announced::new(client.local_addr().unwrap(), to));
        assert_eq!(finish(client).unwrap(), b"bye");
        assert_eq!(server.next(), (told, Vec::new()));
    }
}

#[test]
fn a_header_may_come_in_any_pieces_and_what_follows_is_intact() {
    let server = Server::start();
    let proxy = Proxy::start();
    let to = serve(&proxy, &[server.address], both());
    let data = b"PROXY TCP4 is data\r\n\r\n\0\r\nQUIT\n".repeat(3);
    for form in [ProxyHeader::V1, V2] {
        for announced in [somebody(), ends("[2001:db8::9]:4711", "[2001:db8::1]:443")] {
            let header = header(form, announced);
            let whole = [&*header, &data].concat();
            let told = (Some(announced), data.clone());
            // Cut in two anywhere, not at all, and into single bytes.
            let mut clients = Vec::new();
            for cut in 0..=header.len() + 1 {
                let mut client = trusted(to);
                client.set_nodelay(true).unwrap();
                client.write_all(&whole[..cut]).unwrap();
                clients.push((client, cut));
            }
            thread::park_timeout(Duration::from_millis(20)); // the proxy sees the first pieces by themselves
            for (mut client, cut) in clients {
                client.write_all(&whole[cut..]).unwrap();
                assert_eq!(finish(client).unwrap(), b"bye");
                assert_eq!(server.next(), told);
            }
            let mut client = trusted(to);
            client.set_nodelay(true).unwrap();
            for byte in &whole {
                client.write_all(&[*byte]).unwrap();
            }
            assert_eq!(finish(client).unwrap(), b"bye");
            assert_eq!(server.next(), told);
        }
    }
    assert_eq!(refused(&proxy), 0);
}

#[test]
fn a_large_request_behind_a_header_arrives_whole() {
    const BYTES: u64 = 20_000_000;
    let (backend, address) = tcp::backend();
    let proxy = Proxy::start();
    let to = serve(&proxy, &[address], accept(LONG));
    let mut client = trusted(to);
    let sending = thread::spawn(move || {
        let first = podline_lab::pattern::at(0, 5_000);
        let header = header(V2, somebody());
        client.write_all(&[&header, first].concat()).unwrap();
        tcp::send_pattern(&mut client, 5_000, BYTES).unwrap();
        client.shutdown(Shutdown::Write).unwrap();
        client
    });
    let (bytes, end) = tcp::read_pattern(&mut tcp::accept(&backend));
    end.unwrap();
    assert_eq!(bytes, BYTES);
    drop(sending.join().unwrap());
}

#[test]
fn a_header_from_somebody_else_is_data() {
    let server = Server::start();
    let proxy = Proxy::start();
    let to = serve(&proxy, &[server.address], both());
    let forged = header(ProxyHeader::V1, somebody());
    let mut client = tcp::connect(to);
    let told = Some(Announced::new(client.local_addr().unwrap(), to));
    client.write_all(&forged).unwrap();
    assert_eq!(finish(client).unwrap(), b"bye");
    assert_eq!(server.next(), (told, forged));
    // And it need not send one.
    assert_eq!(finish(tcp::connect(to)).unwrap(), b"bye");
    assert_eq!(refused(&proxy), 0);
}

#[test]
fn a_header_nobody_asked_for_is_data() {
    let server = Server::start();
    let proxy = Proxy::start();
    let to = proxy.serve(&[server.address]);
    let forged = header(V2, somebody());
    let mut client = trusted(to);
    client.write_all(&forged).unwrap();
    assert_eq!(finish(client).unwrap(), b"bye");
    assert_eq!(server.seen.recv_timeout(LONG).unwrap(), forged);
}

#[test]
fn what_is_no_header_is_reset_counted_and_logged() {
    let server = Server::start();
    let proxy = Proxy::start();
    let to = serve(&proxy, &[server.address], accept(LONG));
    let mut wrong_sum = header(V2, somebody());
    wrong_sum[17] ^= 1;
    let mut oversized = header(V2, somebody());
    oversized[14..16].copy_from_slice(&[0xff, 0xff]);
    let endless = format!("PROXY UNKNOWN {}\r\n", "x".repeat(200));
    let cases: [(&[u8], &str); 7] = [
        (b"GET / HTTP/1.1\r\n\r\n", "absent"),
        (b"\x16\x03\x01", "absent"),
        (b"PROXY TCP4 192.0.2.1 192.0.2.2 1\r\n", "malformed"),
        (b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\n", "malformed"),
        (endless.as_bytes(), "too long"),
        (&oversized, "too long"),
        (&wrong_sum, "wrong checksum"),
    ];
    for (index, (bytes, why)) in cases.iter().enumerate() {
        let mut client = trusted(to);
        client.write_all(bytes).unwrap();
        assert!(is_cut(&client), "{why}: {}", bytes.escape_ascii());
        assert_eq!(refused(&proxy), index as u64 + 1);
    }
    wait::until(LONG, "they are gone", || proxy.active() == 0);
    assert_eq!(proxy.listener("web").accepted_connections, 0);
    proxy.wait_logged("PROXY headers are refused");
    let log = proxy.log();
    assert_eq!(log.matches("PROXY headers are refused").count(), 1, "{log}");
    let line = log
        .lines()
        .find(|line| line.contains("PROXY headers"))
        .unwrap();
    assert!(line.contains("absent") && line.contains(TRUSTED), "{line}");
    let (_, metrics) = http::page(proxy.admin, "/metrics").unwrap();
    let series = "podline_proxy_headers_refused_total{listener=\"web\"} 7";
    assert!(metrics.contains(series), "{metrics}");
    assert!(server.seen.try_recv().is_err(), "nothing came through");
    wait::until(LONG, "descriptors are given back", || {
        proxy.get().descriptors_in_use == 0
    });
}

#[test]
fn a_header_that_does_not_end_in_time_is_refused() {
    let server = Server::start();
    let proxy = Proxy::start();
    let protocol = accept(2 * SECOND);
    let to = serve(&proxy, &[server.address], protocol);
    let whole = header(V2, somebody());
    for cut in [0, 1, whole.len() - 1] {
        let before = refused(&proxy);
        let mut client = trusted(to);
        client.write_all(&whole[..cut]).unwrap();
        assert!(is_cut(&client), "{cut} bytes");
        assert_eq!(refused(&proxy), before + 1);
    }
    // In time, and silent afterwards for longer than that.
    let mut client = trusted(to);
    client.write_all(&whole).unwrap();
    assert!(!tcp::is_reset_within(&client, 3 * SECOND));
    client.write_all(b"late").unwrap();
    assert_eq!(finish(client).unwrap(), b"bye");
    assert_eq!(server.seen.recv_timeout(LONG).unwrap(), b"late");
}

#[test]
fn an_end_within_a_header_is_refused_and_one_before_it_is_not() {
    let server = Server::start();
    let proxy = Proxy::start();
    let to = serve(&proxy, &[server.address], accept(LONG));
    let whole = header(ProxyHeader::V1, somebody());
    let mut client = trusted(to);
    client.write_all(&whole[..whole.len() - 1]).unwrap();
    let kind = finish(client).unwrap_err().kind();
    assert_eq!(kind, ErrorKind::ConnectionReset);
    assert_eq!(refused(&proxy), 1);
    // A check that the port is open.
    assert_eq!(finish(trusted(to)).unwrap(), b"");
    tcp::reset(trusted(to));
    wait::until(LONG, "both are gone", || proxy.active() == 0);
    assert_eq!(refused(&proxy), 1);
    assert_eq!(proxy.listener("web").accepted_connections, 0);
    // A header and nothing else is a connection.
    let mut client = trusted(to);
    client.write_all(&whole).unwrap();
    assert_eq!(finish(client).unwrap(), b"bye");
    assert_eq!(server.seen.recv_timeout(LONG).unwrap(), b"");
}

#[test]
fn a_header_that_announces_nobody_leaves_the_peer_as_the_client() {
    let server = Server::start();
    let proxy = Proxy::start();
    let to = serve(&proxy, &[server.address], both());
    let local = b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0".to_vec();
    for header in [local, b"PROXY UNKNOWN\r\n".to_vec()] {
        let mut client = trusted(to);
        let told = Some(Announced::new(client.local_addr().unwrap(), to));
        client.write_all(&header).unwrap();
        assert_eq!(finish(client).unwrap(), b"bye");
        assert_eq!(server.next(), (told, Vec::new()));
    }
    assert_eq!(refused(&proxy), 0);
}

#[test]
fn a_trusted_peer_is_believed_whatever_it_says() {
    let server = Server::start();
    let proxy = Proxy::start();
    let to = serve(&proxy, &[server.address], both());
    for client in [
        "127.0.0.1:1",
        "0.0.0.0:0",
        "255.255.255.255:65535",
        "224.0.0.1:5",
        "[::]:0",
        "[::1]:1",
        "[ff02::1]:1",
        &to.to_string(),
    ] {
        let destination = if client.starts_with('[') {
            "[::1]:1"
        } else {
            "0.0.0.0:0"
        };
        let announced = ends(client, destination);
        for form in [ProxyHeader::V1, V2] {
            let mut client = trusted(to);
            client.write_all(&header(form, announced)).unwrap();
            assert_eq!(finish(client).unwrap(), b"bye");
            assert_eq!(server.next(), (Some(announced), Vec::new()));
        }
    }
}

#[test]
fn limits_of_single_clients_go_by_the_announced_one() {
    let server = Server::start();
    let proxy = Proxy::start();
    let to = tcp::free_address();
    let limited = v1::Listener {
        source_ranges: vec!["203.0.113.0/24".to_owned(), "127.0.0.1".to_owned()],
        max_connections: Some(6),
        client_limits: Some(v1::ClientLimits {
            max_connections: Some(2),
            max_connections_per_second: None,
        }),
        ..listener(to, accept(LONG))
    };
    proxy.serve_with(limited, wire::set("web", &[server.address]));
    let open = |client: &str| {
        let mut stream = trusted(to);
        stream
            .write_all(&header(V2, ends(client, "198.51.100.1:443")))
            .unwrap();
        stream
    };
    let shed = || proxy.listener("web").shed.unwrap();
    let mut held = Vec::new();
    for (client, open_at_once) in [("203.0.113.1:1", 2), ("203.0.113.2:1", 2)] {
        held.extend((0..open_at_once).map(|_| open(client)));
        let accepted = held.len() as u64;
        wait::until(LONG, "they are served", || {
            proxy.listener("web").accepted_connections == accepted
        });
        assert!(is_cut(&open(client)));
    }
    assert_eq!(shed().client_max_connections, 2);
    assert!(is_cut(&open("192.0.2.1:1")));
    assert_eq!(shed().source_ranges, 1);
    // One that has not said who its client is counts among all.
    let silent = [trusted(to), trusted(to)];
    wait::until(LONG, "they wait", || proxy.active() == 6);
    wait::until(LONG, "one more is reset", || {
        drop(tcp::connect_from(TRUSTED.parse().unwrap(), to)); // the reset may come before the connect is done
        shed().max_connections > 0
    });
    drop((silent, held));
    wait::until(LONG, "all are gone", || proxy.active() == 0);
    // What was counted is given back: as many again.
    let again = [open("203.0.113.1:1"), open("203.0.113.1:1")];
    wait::until(LONG, "they are served", || {
        proxy.listener("web").accepted_connections == 6
    });
    assert!(is_cut(&open("203.0.113.1:1")));
    drop(again);
}

#[test]
fn affinity_goes_by_the_announced_client() {
    let servers = [(); 3].map(|()| Server::start());
    let proxy = Proxy::start();
    let to = tcp::free_address();
    let mut set = wire::set("web", &[0, 1, 2].map(|n: usize| servers[n].address));
    set.affinity = Some(v1::Affinity {
        client_ip: Some(v1::ClientIpAffinity::default()),
        ..Default::default()
    });
    proxy.serve_with(listener(to, both()), set);
    for _ in 0..3 {
        for host in 1..=20 {
            let mut client = trusted(to);
            let announced = ends(&format!("203.0.113.{host}:1"), "198.51.100.1:443");
            client.write_all(&header(V2, announced)).unwrap();
            assert_eq!(finish(client).unwrap(), b"bye");
        }
    }
    let mut of: HashMap<SocketAddr, Vec<usize>> = HashMap::new();
    for (index, server) in servers.iter().enumerate() {
        let told = server
            .seen
            .try_iter()
            .map(|bytes| split(&bytes).0.unwrap().client);
        for client in told {
            of.entry(client).or_default().push(index);
        }
    }
    assert_eq!(of.len(), 20);
    for (client, servers) in of {
        assert!(
            servers.len() == 3 && servers.iter().all(|s| *s == servers[0]),
            "{client}"
        );
    }
}

#[test]
fn the_access_log_has_both_client_and_peer() {
    let server = Server::start();
    let proxy = Start {
        args: vec!["--access-log"],
        ..Start::default()
    }
    .ready();
    let to = serve(&proxy, &[server.address], accept(LONG));
    let mut client = trusted(to);
    let peer = client.local_addr().unwrap().to_string();
    client.write_all(&header(V2, somebody())).unwrap();
    assert_eq!(finish(client).unwrap(), b"bye");
    wait::until(LONG, "the log has them", || {
        let log = proxy.log();
        let mut lines = log.lines();
        lines.any(|line| line.contains("203.0.113.9:4711") && line.contains(&peer))
    });
}

#[test]
fn a_thousand_clients_at_once_are_told_apart() {
    const CLIENTS: u16 = 1_000;
    let server = Server::start();
    // Some go from one worker to another before their header is read.
    let proxy = Start {
        alone: true,
        workers: 4,
        ..Start::default()
    }
    .ready();
    let to = serve(&proxy, &[server.address], both());
    let announced = |n: u16| Announced {
        client: ([203, 0, 113, n.to_be_bytes()[1]], n).into(),
        destination: somebody().destination,
    };
    let header = |n| header(if n % 2 == 0 { ProxyHeader::V1 } else { V2 }, announced(n));
    let mut clients: Vec<_> = (0..CLIENTS)
        .map(|n| {
            let mut client = trusted(to);
            client.write_all(&header(n)[..usize::from(n) % 20]).unwrap();
            client
        })
        .collect();
    for (n, client) in (0..).zip(&mut clients) {
        let rest = &header(n)[usize::from(n) % 20..];
        client
            .write_all(&[rest, &n.to_be_bytes()].concat())
            .unwrap();
    }
    for client in clients {
        assert_eq!(finish(client).unwrap(), b"bye");
    }
    for _ in 0..CLIENTS {
        let (told, bytes) = server.next();
        let n = u16::from_be_bytes(bytes.try_into().unwrap());
        assert_eq!(told, Some(announced(n)));
    }
    let status = proxy.listener("web");
    assert_eq!(status.accepted_connections, u64::from(CLIENTS));
    assert_eq!(refused(&proxy), 0);
    wait::until(LONG, "all are gone", || proxy.active() == 0);
}

#[test]
fn requests_go_on_under_their_clients_header_and_say_who_it_is() {
    let proxy = Proxy::start();
    let (backend, address) = tcp::backend();
    let to = tcp::free_address();
    let http = v1::listener::Protocol::Http;
    let listener = v1::Listener {
        protocol: Some(http.into()),
        ..listener(to, both())
    };
    proxy.serve_with(listener, wire::set("web", &[address]));
    let mut client = trusted(to);
    client.write_all(&header(V2, somebody())).unwrap();
    let mut connection: Option<TcpStream> = None;
    for request in 0..3 {
        client
            .write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            .unwrap();
        let stream = connection.get_or_insert_with(|| tcp::accept(&backend));
        let mut got = Vec::new();
        // A header begins with what ends a head.
        while got.len() < 20 || !got.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte).unwrap();
            got.push(byte[0]);
        }
        // One header for the connection, whatever it carries.
        let head = if request == 0 {
            let (announced, head) = split(&got);
            assert_eq!(announced, Some(somebody()));
            head
        } else {
            got
        };
        let head = String::from_utf8(head).unwrap();
        assert!(head.contains("x-forwarded-for: 203.0.113.9\r\n"), "{head}");
        assert!(head.contains("x-forwarded-port: 443\r\n"), "{head}");
        let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
        stream.write_all(answer).unwrap();
        let mut answer = [0; 40];
        client.read_exact(&mut answer).unwrap();
        assert!(answer.ends_with(b"ok"), "{}", answer.escape_ascii());
    }
    // Another client has a connection of its own.
    let mut other = trusted(to);
    let elsewhere = ends("203.0.113.10:4711", "198.51.100.1:443");
    other.write_all(&header(V2, elsewhere)).unwrap();
    other
        .write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        .unwrap();
    let mut stream = tcp::accept(&backend);
    let mut begin = [0; 12];
    stream.read_exact(&mut begin).unwrap();
    assert!(begin.starts_with(b"\r\n\r\n\0\r\nQUIT\n"));
}
