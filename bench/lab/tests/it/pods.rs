//! Each toy Pod does what its name says. On loopback, so these run anywhere.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::Duration;

use podline_lab::wait::until;
use podline_lab::{Behaviour, Pod, own_loopback, pattern};

const SECOND: Duration = Duration::from_secs(1);

fn pod(behaviour: Behaviour) -> (Pod, TcpStream) {
    let pod = Pod::start("toy", own_loopback(), behaviour).unwrap();
    let stream = TcpStream::connect(pod.address()).unwrap();
    stream.set_read_timeout(Some(10 * SECOND)).unwrap();
    (pod, stream)
}

#[test]
fn name_answers_pipelined_requests_with_its_name() {
    let (pod, mut stream) = pod(Behaviour::Name);
    stream
        .write_all(b"GET / HTTP/1.1\r\n\r\nGET / HTTP/1.1\r\n\r\n")
        .unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let mut answers = String::new();
    stream.read_to_string(&mut answers).unwrap();
    assert_eq!(
        answers,
        "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ntoy\n".repeat(2)
    );
    assert_eq!(pod.counts().requests(), 2);
}

#[test]
fn name_answers_with_as_many_bytes_as_asked() {
    let (_pod, mut stream) = pod(Behaviour::Name);
    stream
        .write_all(b"GET /bytes/3000000 HTTP/1.1\r\n\r\n")
        .unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    let head = b"HTTP/1.1 200 OK\r\nContent-Length: 3000000\r\n\r\n";
    let body = answer.strip_prefix(head).unwrap();
    assert_eq!(body.len(), 3_000_000);
    pattern::check(0, body);
}

#[test]
fn echo_gives_back_and_ends_with_the_client() {
    let (pod, mut stream) = pod(Behaviour::Echo);
    stream.write_all(b"again").unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert_eq!(answer, "again");
    until(SECOND, "the connection is closed", || {
        pod.counts().open() == 0
    });
    assert_eq!(
        (
            pod.counts().accepted(),
            pod.counts().resets(),
            pod.counts().received()
        ),
        (1, 0, 5)
    );
}

#[test]
fn sender_ends_after_its_bytes() {
    let (_pod, mut stream) = pod(Behaviour::SendThenEnd(2_000_000));
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    assert_eq!(answer.len(), 2_000_000);
    pattern::check(0, &answer);
}

#[test]
fn resetter_resets_after_its_bytes() {
    let (_pod, mut stream) = pod(Behaviour::SendThenReset(2_000_000));
    stream.write_all(b"!").unwrap();
    let mut answer = Vec::new();
    let error = stream.read_to_end(&mut answer).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    assert_eq!(answer.len(), 2_000_000);
}

#[test]
fn never_reader_lets_the_client_fill_its_buffers_and_sees_its_reset() {
    let (pod, stream) = pod(Behaviour::NeverRead);
    stream.set_nonblocking(true).unwrap();
    let written = std::iter::from_fn(|| (&stream).write(&vec![0; 65_536]).ok()).sum::<usize>();
    assert!(written > 0);
    until(SECOND, "it has the connection", || pod.counts().open() == 1);
    assert_eq!(pod.counts().received(), 0);
    drop(pod); // with unread data, so this is a reset
    stream.set_nonblocking(false).unwrap();
    let error = (&stream).read(&mut [0]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
}

#[test]
fn never_answerer_takes_all_and_says_nothing() {
    let (pod, mut stream) = pod(Behaviour::NeverAnswer);
    stream.write_all(&vec![0; 100_000]).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    assert_eq!(stream.read(&mut [0]).unwrap(), 0);
    assert_eq!(pod.counts().received(), 100_000);
}

#[test]
fn a_pod_that_is_dropped_frees_its_port_and_comes_back_on_it() {
    let (pod, mut stream) = pod(Behaviour::Name);
    let address = pod.address();
    drop(pod);
    assert!(matches!(stream.read(&mut [0]), Ok(0) | Err(_)));
    TcpStream::connect(address).unwrap_err();
    let back = Pod::start("toy", address, Behaviour::Name).unwrap();
    TcpStream::connect(address).unwrap();
    until(10 * SECOND, "it accepts", || back.counts().accepted() == 1);
}
