//! A client that does not read costs the kernel's buffers, not the proxy's memory.

use std::io::Read;
use std::time::Duration;

use podline_lab::{Behaviour, wait};

use crate::harness::{LONG, Proxy, pod, tcp};

#[test]
fn a_client_that_never_reads_costs_less_than_2_mib() {
    const GIGABYTE: u64 = 1 << 30;
    let pod = pod("sender", Behaviour::SendThenEnd(GIGABYTE));
    let proxy = Proxy::alone();
    let address = proxy.serve(&[pod.address()]);
    // The first streams of a process touch code, buffers and pools that stay.
    for _ in 0..4 {
        let mut reader = tcp::connect(address);
        reader.read_exact(&mut vec![0; 20_000_000]).unwrap();
        tcp::reset(reader);
    }
    wait::until(LONG, "the first streams are gone", || proxy.active() == 0);
    let before = (proxy.resident_bytes(), proxy.huge_bytes());
    let client = tcp::connect(address);
    let mut sent = 0;
    wait::until(LONG, "every buffer is full", || {
        let last = std::mem::replace(&mut sent, proxy.listener("web").sent_bytes);
        std::thread::park_timeout(Duration::from_millis(1200)); // they are reported once a second
        pod.counts().open() == 1 && sent == last
    });
    let grown = proxy.resident_bytes().saturating_sub(before.0);
    // A small allocation may make the kernel round up by one huge page.
    let rounded = proxy.huge_bytes().saturating_sub(before.1).min(2 << 20);
    assert!(grown < rounded + (2 << 20), "grew by {} KiB", grown / 1024);
    drop(client);
    wait::until(LONG, "the connection is gone", || proxy.active() == 0);
}
