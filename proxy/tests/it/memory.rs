//! A client that does not read costs the kernel's buffers, not the proxy's memory.

use std::time::Duration;

use podline_lab::{Behaviour, wait};

use crate::harness::{LONG, Proxy, pod, tcp};

#[test]
fn a_client_that_never_reads_costs_less_than_2_mib() {
    const GIGABYTE: u64 = 1 << 30;
    let pod = pod("sender", Behaviour::SendThenEnd(GIGABYTE));
    let proxy = Proxy::alone();
    let address = proxy.serve(&[pod.address()]);
    // The first connection of a process touches code and pools that stay.
    drop(tcp::connect(address));
    wait::until(LONG, "the first connection is gone", || proxy.active() == 0);
    let before = proxy.resident_bytes();
    let client = tcp::connect(address);
    let mut sent = 0;
    wait::until(LONG, "every buffer is full", || {
        let last = std::mem::replace(&mut sent, proxy.listener("web").sent_bytes);
        std::thread::park_timeout(Duration::from_millis(300));
        sent > 0 && sent == last
    });
    assert!(sent < GIGABYTE);
    let grown = proxy.resident_bytes().saturating_sub(before);
    assert!(grown < 2 << 20, "grew by {} KiB", grown / 1024);
    drop(client);
    wait::until(LONG, "the connection is gone", || proxy.active() == 0);
}
