//! Clients and backends that send, end, reset and vanish as they like, by a seed. What arrives is right as far as it
//! goes, and nothing is left behind.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::thread;
use std::time::Duration;

use podline_lab::{Behaviour, pattern, wait};

use crate::harness::random::Random;
use crate::harness::{LONG, Proxy, addresses, pod, tcp};

const CONNECTIONS: u64 = 600;
const THREADS: u64 = 6;

/// Small, middling or large, each as often.
fn some_bytes(random: &mut Random) -> u64 {
    let largest = [200, 70_000, 3_000_000][random.place(3)];
    random.below(largest)
}

/// One connection to an echo, ended in one of several ways.
fn one(address: SocketAddr, random: &mut Random) {
    let stream = tcp::connect(address);
    let bytes = some_bytes(random);
    match random.below(6) {
        0 => drop(stream),
        1 => tcp::reset(stream),
        2 => {
            // Part of it, then gone without reading the echo.
            send(&stream, bytes, random).ok();
            drop(stream);
        }
        3 => {
            // Reads a part of the echo, then resets in the middle.
            let reader = stream.try_clone().unwrap();
            let sending = thread::spawn({
                let (stream, mut random) = (
                    stream.try_clone().unwrap(),
                    Random(random.below(u64::MAX) | 1),
                );
                move || send(&stream, bytes, &mut random).ok()
            });
            read_some(reader, random.below(bytes + 1));
            tcp::reset(stream);
            sending.join().unwrap();
        }
        _ => whole(stream, bytes, random),
    }
}

/// Sends all, ends, and reads all back.
fn whole(mut stream: TcpStream, bytes: u64, random: &mut Random) {
    let writer = stream.try_clone().unwrap();
    let mut own = Random(random.below(u64::MAX) | 1);
    let sending = thread::spawn(move || {
        send(&writer, bytes, &mut own).unwrap();
        writer.shutdown(Shutdown::Write).unwrap();
    });
    let (received, end) = tcp::read_pattern(&mut stream);
    end.unwrap();
    assert_eq!(received, bytes);
    sending.join().unwrap();
}

/// Sends the pattern in pieces of any size.
fn send(mut stream: &TcpStream, bytes: u64, random: &mut Random) -> std::io::Result<()> {
    let mut offset = 0;
    while offset < bytes {
        let len = (1 + some_bytes(random).min(200_000)).min(bytes - offset);
        stream.write_all(pattern::at(offset, usize::try_from(len).unwrap()))?;
        offset += len;
        if random.below(20) == 0 {
            thread::park_timeout(Duration::from_millis(random.below(5)));
        }
    }
    Ok(())
}

fn read_some(mut stream: TcpStream, bytes: u64) {
    let mut buffer = vec![0; 65_536];
    let mut offset = 0;
    while offset < bytes {
        match stream.read(&mut buffer) {
            Ok(0) | Err(_) => return,
            Ok(count) => {
                pattern::check(offset, &buffer[..count]);
                offset += count as u64;
            }
        }
    }
}

fn descriptors(proxy: &Proxy) -> usize {
    std::fs::read_dir(format!("/proc/{}/fd", proxy.pid()))
        .unwrap()
        .count()
}

#[test]
fn connections_that_end_in_any_way_are_right_as_far_as_they_go_and_leave_nothing() {
    let seed = 0x5eed_2026;
    let mut pods = vec![pod("a", Behaviour::Echo), pod("b", Behaviour::Echo)];
    let resetter = pod("c", Behaviour::SendThenReset(10_000));
    let proxy = Proxy::start();
    let address = proxy.serve(&addresses(&pods));
    let rough = {
        let address = tcp::free_address();
        let set = crate::harness::wire::set("rough", &[resetter.address()]);
        proxy.serve_with(
            crate::harness::wire::listener("rough", address, "rough"),
            set,
        );
        address
    };
    let before = descriptors(&proxy);
    let threads: Vec<_> = (1..=THREADS)
        .map(|number| {
            thread::spawn(move || {
                let mut random = Random(seed * number);
                for turn in 0..CONNECTIONS / THREADS {
                    one(address, &mut random);
                    if turn % 5 == 0 {
                        let mut stream = tcp::connect(rough);
                        stream.write_all(b"!").unwrap();
                        let (received, _) = tcp::read_pattern(&mut stream);
                        assert_eq!(received, 10_000);
                    }
                }
            })
        })
        .collect();
    for thread in threads {
        thread.join().unwrap();
    }
    // One that was left at once may still have to be accepted.
    wait::until(LONG, "every connection is gone", || {
        let state = proxy.get();
        let of_listeners = state.listeners.iter().map(|it| it.active_connections);
        let backends = state.backend_sets.iter().flat_map(|set| &set.backends);
        let all = of_listeners.chain(backends.map(|it| it.active_connections));
        state.active_connections == 0 && state.descriptors_in_use == 0 && all.sum::<u64>() == 0
    });
    wait::until(LONG, "the pods are idle", || {
        pods.iter().all(|pod| pod.counts().open() == 0)
    });
    let spare_pipes = 2 * 16;
    wait::until(LONG, "its descriptors are closed", || {
        descriptors(&proxy) <= before + spare_pipes
    });
    // Backends that vanish under load: clients see an end or a reset, and again nothing stays.
    let clients: Vec<_> = (0..50).map(|_| tcp::connect(address)).collect();
    wait::until(LONG, "they are through", || {
        pods.iter().map(|pod| pod.counts().open()).sum::<u64>() == 50
    });
    pods.clear();
    wait::until(LONG, "every connection is gone", || {
        for mut client in &clients {
            client.write_all(b"x").ok();
        }
        proxy.active() == 0
    });
}
