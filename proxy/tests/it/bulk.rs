//! Large transfers arrive whole.

use std::net::{Shutdown, TcpStream};
use std::thread;

use podline_lab::{Behaviour, wait};

use crate::harness::{LONG, Proxy, addresses, pod, tcp};

const BYTES: u64 = 200_000_000;

fn send_and_read(mut stream: TcpStream) {
    let mut writer = stream.try_clone().unwrap();
    let sending = thread::spawn(move || {
        tcp::send_pattern(&mut writer, 0, BYTES).unwrap();
        writer.shutdown(Shutdown::Write).unwrap();
    });
    let (bytes, end) = tcp::read_pattern(&mut stream);
    end.unwrap();
    assert_eq!(bytes, BYTES);
    sending.join().unwrap();
}

#[test]
fn bulk_arrives_intact_in_both_directions_at_once_by_splice() {
    let (listener, backend) = tcp::backend();
    let proxy = Proxy::alone();
    let address = proxy.serve(&[backend]);
    let pipes = proxy.pipes();
    let client = tcp::connect(address);
    let backend = tcp::accept(&listener);
    let ends = [
        thread::spawn(|| send_and_read(client)),
        thread::spawn(|| send_and_read(backend)),
    ];
    let mut most = pipes;
    wait::until(LONG * 6, "the transfer ends", || {
        most = most.max(proxy.pipes());
        ends.iter().all(thread::JoinHandle::is_finished)
    });
    for end in ends {
        end.join().unwrap();
    }
    assert!(most > pipes, "it never used a pipe");
    wait::until(LONG, "the connection is gone", || proxy.active() == 0);
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
