//! Large transfers arrive whole.

use std::net::{Shutdown, TcpStream};
use std::thread;

use podline_lab::{Behaviour, wait};

use crate::harness::{LONG, Proxy, addresses, pod, tcp};

const BYTES: u64 = 200_000_000;

/// Sends so many bytes and ends.
fn send(mut stream: TcpStream, bytes: u64) {
    tcp::send_pattern(&mut stream, 0, bytes).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
}

/// Reads so many bytes and a clean end.
fn receive(mut stream: TcpStream, bytes: u64) {
    let (received, end) = tcp::read_pattern(&mut stream);
    end.unwrap();
    assert_eq!(received, bytes);
}

/// Moves bytes up and down at once, and tells how many pipes the proxy had at most beyond those of an idle one.
fn transfer(up: u64, down: u64) -> usize {
    let (listener, backend) = tcp::backend();
    let proxy = Proxy::alone();
    let address = proxy.serve(&[backend]);
    let idle = proxy.pipes();
    let client = tcp::connect(address);
    let backend = tcp::accept(&listener);
    let clones = (client.try_clone().unwrap(), backend.try_clone().unwrap());
    let ends = [
        thread::spawn(move || send(client, up)),
        thread::spawn(move || receive(backend, up)),
        thread::spawn(move || send(clones.1, down)),
        thread::spawn(move || receive(clones.0, down)),
    ];
    let mut most = idle;
    wait::until(LONG * 6, "the transfer ends", || {
        most = most.max(proxy.pipes());
        ends.iter().all(thread::JoinHandle::is_finished)
    });
    for end in ends {
        end.join().unwrap();
    }
    wait::until(LONG, "the connection is gone", || proxy.active() == 0);
    most - idle
}

#[test]
fn bulk_arrives_intact_in_both_directions_at_once() {
    transfer(BYTES, BYTES);
}

#[test]
fn bulk_arrives_intact_by_splice_in_either_direction() {
    assert!(transfer(BYTES, 0) > 0, "no pipe was used for an upload");
    assert!(transfer(0, BYTES) > 0, "no pipe was used for a download");
}

#[test]
fn many_transfers_at_once_arrive_intact() {
    const EACH: u64 = 3_000_000;
    let pods = [pod("a", Behaviour::Echo), pod("b", Behaviour::Echo)];
    let proxy = Proxy::start();
    let address = proxy.serve(&addresses(&pods));
    let clients: Vec<_> = (0..16)
        .map(|_| {
            thread::spawn(move || {
                let mut stream = tcp::connect(address);
                let mut writer = stream.try_clone().unwrap();
                let sending = thread::spawn(move || {
                    tcp::send_pattern(&mut writer, 0, EACH).unwrap();
                    writer.shutdown(Shutdown::Write).unwrap();
                });
                let (bytes, end) = tcp::read_pattern(&mut stream);
                sending.join().unwrap();
                (bytes, end.is_ok())
            })
        })
        .collect();
    for client in clients {
        assert_eq!(client.join().unwrap(), (EACH, true));
    }
}
