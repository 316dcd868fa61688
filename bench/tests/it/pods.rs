//! The Pod server itself: its protocols on the wire, its counters, its beginning and its end.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::time::Duration;

use podline_bench::pod::{Options, Process};
use podline_bench::wire::{Answer, HEAD, NO_ANSWER, Request, THEN_CLOSE, is_pattern};
use podline_lab::wait::until;
use podline_lab::{pattern, require_netns};
use rustix::process::Signal;
use socket2::{Domain, Socket, Type};

use crate::support::{LOCAL, binary, local, pod};

const LIMIT: Duration = Duration::from_secs(10);

fn http(pod: &Process) -> SocketAddr {
    (pod.options().address, pod.options().http_port).into()
}

fn frames(pod: &Process) -> SocketAddr {
    (pod.options().address, pod.options().frames_port).into()
}

fn connect(to: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect_timeout(&to, LIMIT).unwrap();
    stream.set_read_timeout(Some(LIMIT)).unwrap();
    stream
}

/// All that is answered until the Pod ends the connection.
fn talk(to: SocketAddr, said: &[u8]) -> Vec<u8> {
    let mut stream = connect(to);
    stream.write_all(said).unwrap();
    let mut answers = Vec::new();
    stream.read_to_end(&mut answers).unwrap();
    answers
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

#[test]
fn http_requests_are_answered_in_their_order() {
    let mut pod = pod(12);
    let said = "GET / HTTP/1.1\r\nX-Forwarded-For: 10.0.0.9\r\n\r\n\
                POST /?a7 HTTP/1.1\r\nContent-Length: 5\r\n\r\nHELLO\
                HEAD /bytes/9 HTTP/1.1\r\n\r\n\
                GET /nowhere HTTP/1.1\r\n\r\n\
                GET /bytes/4 HTTP/1.1\r\nConnection: close\r\n\r\n\
                GET / HTTP/1.1\r\n\r\n";
    let answers = talk(http(&pod), said.as_bytes());
    let ok = "HTTP/1.1 200 OK\r\nx-pod: 12\r\n";
    let begin = format!(
        "{ok}content-length: 18\r\n\r\nhello from pod 12\n\
         {ok}x-sequence: a7\r\ncontent-length: 18\r\n\r\nhello from pod 12\n\
         {ok}content-length: 9\r\n\r\n\
         HTTP/1.1 404 Not Found\r\nx-pod: 12\r\ncontent-length: 0\r\n\r\n\
         {ok}content-length: 4\r\nconnection: close\r\n\r\n"
    );
    let (head, body) = answers.split_at(answers.len() - 4);
    assert_eq!(text(head), begin);
    assert_eq!(body, pattern::at(0, 4));
    let stats = pod.stats().unwrap();
    assert_eq!((stats.accepted, stats.requests), (1, 5));
    assert_eq!(stats.bytes, said.len() as u64);
    assert_eq!(stats.forwarded, [("10.0.0.9".to_owned(), 1)].into());
    until(LIMIT, "it is closed", || pod.stats().unwrap().open == 0);
}

#[test]
fn what_is_no_http_is_refused() {
    let pod = pod(0);
    let long = format!("GET / HTTP/1.1\r\nx: {}", "y".repeat(40_000));
    for (said, status) in [
        ("SSH-2.0-test\r\n\r\n", "400"),
        (
            "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n",
            "411",
        ),
        (&long, "431"),
    ] {
        let answer = talk(http(&pod), said.as_bytes());
        let wanted = format!("HTTP/1.1 {status} ");
        assert!(text(&answer).starts_with(&wanted), "{}", text(&answer));
    }
}

#[test]
fn frames_carry_what_they_ask_for() {
    let pod = pod(3);
    let ask = |sequence, wanted, sent| {
        let request = Request {
            sequence,
            wanted,
            sent,
        };
        request.encode().to_vec()
    };
    let upload = [ask(2, 1, 2000), pattern::at(0, 2000).to_vec()].concat();
    let said = [ask(1, 700_000, 0), upload, ask(3, 0, THEN_CLOSE)].concat();
    let mut answers = &talk(frames(&pod), &said)[..];
    for (sequence, bytes) in [(1, 700_000), (2, 1), (3, 0)] {
        let answer = Answer::decode(answers).unwrap();
        let told = (answer.sequence, answer.pod, answer.bytes);
        assert_eq!(told, (sequence, 3, bytes));
        let (whole, rest) = answers.split_at(HEAD + bytes as usize);
        assert!(is_pattern(&whole[HEAD..], 0));
        answers = rest;
    }
    assert!(answers.is_empty());
    let bent = [ask(1, 0, 10), vec![0; 10]].concat();
    assert!(talk(frames(&pod), &bent).is_empty());
}

#[test]
fn datagrams_are_answered_one_by_one_or_counted() {
    let mut pod = pod(3);
    let socket = UdpSocket::bind((LOCAL, 0)).unwrap();
    socket.set_read_timeout(Some(LIMIT)).unwrap();
    socket.connect(frames(&pod)).unwrap();
    for wanted in [NO_ANSWER, 50] {
        let request = Request {
            sequence: 9,
            wanted,
            sent: 0,
        };
        socket.send(&request.encode()).unwrap();
    }
    socket.send(b"noise").unwrap();
    let mut buffer = [0; 1000];
    let count = socket.recv(&mut buffer).unwrap();
    let answer = Answer::decode(&buffer).unwrap();
    assert_eq!((answer.sequence, answer.pod, count), (9, 3, HEAD + 50));
    assert!(is_pattern(&buffer[HEAD..count], 0));
    until(LIMIT, "all were counted", || {
        pod.stats().unwrap().datagrams == 3
    });
    let stats = pod.stats().unwrap();
    assert_eq!(stats.sources, [(LOCAL, 3)].into());
    assert_eq!(stats.bytes, 2 * HEAD as u64 + 5);
}

#[test]
fn a_pod_that_ends_finishes_what_is_open() {
    let options = Options {
        stop_accepting_after: 50,
        end_after: 20_000,
        ..local(1)
    };
    let mut pod = Process::start_here(binary(), &options).unwrap();
    let mut kept = connect(frames(&pod));
    let ask = |stream: &mut TcpStream| {
        let request = Request {
            sequence: 1,
            wanted: 0,
            sent: 0,
        };
        stream.write_all(&request.encode()).unwrap();
        stream.read_exact(&mut [0; HEAD]).unwrap();
    };
    ask(&mut kept);
    pod.signal(Signal::TERM).unwrap();
    until(LIMIT, "it refuses new connections", || {
        TcpStream::connect_timeout(&frames(&pod), LIMIT).is_err()
    });
    ask(&mut kept);
    assert_eq!(kept.read(&mut [0]).unwrap(), 0, "ended behind its answer");
    drop(kept);
    let status = pod.ended(LIMIT).unwrap().expect("it has ended");
    assert!(status.success());
}

#[test]
fn a_pod_ends_in_time_whatever_is_open() {
    let options = Options {
        end_after: 100,
        ..local(1)
    };
    let mut pod = Process::start_here(binary(), &options).unwrap();
    let mut kept = connect(http(&pod));
    pod.signal(Signal::TERM).unwrap();
    assert!(pod.ended(LIMIT).unwrap().expect("ended").success());
    assert_eq!(kept.read(&mut [0]).unwrap(), 0);
}

#[test]
fn a_pod_may_listen_late() {
    let options = Options {
        accept_after: 300,
        ..local(1)
    };
    let pod = Process::start_here(binary(), &options).unwrap();
    assert!(TcpStream::connect_timeout(&http(&pod), LIMIT).is_err());
    until(LIMIT, "it listens", || {
        TcpStream::connect_timeout(&http(&pod), LIMIT).is_ok()
    });
}

#[test]
fn a_pod_that_cannot_listen_says_so() {
    let first = pod(1);
    let second = Process::start_here(binary(), first.options());
    let error = second.unwrap_err().to_string();
    assert!(error.contains("the Pod has ended"), "{error}");
}

#[test]
fn a_pod_ends_with_its_standard_input() {
    let mut child = std::process::Command::new(binary())
        .arg("pod")
        .args(local(1).arguments())
        .stdin(std::process::Stdio::null())
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap();
    until(LIMIT, "it has ended", || {
        child.try_wait().unwrap().is_some()
    });
}

/// Sends a connection and a datagram with this time to live.
fn send_with_ttl(ttl: u32, to: SocketAddr) {
    let stream = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    stream.set_ttl_v4(ttl).unwrap();
    stream.connect(&to.into()).unwrap();
    let datagrams = UdpSocket::bind((LOCAL, 0)).unwrap();
    datagrams.set_ttl(ttl).unwrap();
    datagrams.send_to(&[0; HEAD], to).unwrap();
}

#[test]
fn the_longest_way_to_a_pod_is_told_whoever_came_first() {
    if !require_netns() {
        return;
    }
    let mut pod = pod(0);
    let to = frames(&pod);
    let mut told = [None; 2];
    until(LIMIT, "the Pod looks", || {
        send_with_ttl(64, to);
        let stats = pod.stats().unwrap();
        told = [told[0].or(stats.tcp_ttl), told[1].or(stats.udp_ttl)];
        told == [Some(64); 2]
    });
    for ways in [[64, 61, 63], [60, 64, 64]] {
        for ttl in ways {
            send_with_ttl(ttl, to);
        }
        let longest = ways
            .into_iter()
            .min()
            .and_then(|ttl| u8::try_from(ttl).ok());
        let mut told = [None; 2];
        until(LIMIT, "both are told", || {
            let stats = pod.stats().unwrap();
            let least = |told: Option<u8>, seen| told.into_iter().chain(seen).min();
            told = [least(told[0], stats.tcp_ttl), least(told[1], stats.udp_ttl)];
            told == [longest; 2]
        });
    }
}
