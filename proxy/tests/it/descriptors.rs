//! At the limit of open files accept pauses, nothing falls over, and it recovers.

use std::thread;

use podline_lab::{Behaviour, wait};

use crate::harness::{LONG, SECOND, Start, http, pod};

/// Low enough to be reached at once, high enough for the proxy's own files.
const LIMIT: u32 = 256;
/// More than fit: each takes two descriptors.
const CLIENTS: usize = 200;

#[test]
fn at_the_budget_accept_pauses_admin_and_api_answer_and_it_recovers() {
    let pod = pod("a", Behaviour::Name);
    let descriptors = Some(LIMIT);
    let proxy = Start {
        descriptors,
        ..Start::default()
    }
    .ready();
    let address = proxy.serve(&[pod.address()]);
    let budget = proxy.get().descriptor_budget;
    assert!(budget > 0 && budget <= u64::from(LIMIT), "budget {budget}");

    // All connect: the kernel queues those that the proxy does not accept.
    let clients: Vec<_> = (0..CLIENTS)
        .map(|_| http::Client::connect(address).unwrap())
        .collect();
    wait::until(LONG, "connections have stopped coming", || {
        let before = pod.counts().accepted();
        thread::park_timeout(SECOND / 5);
        before > 20 && pod.counts().accepted() == before
    });
    let served = usize::try_from(pod.counts().accepted()).unwrap();
    assert!(
        served < CLIENTS,
        "all {served} were accepted: the budget was not reached"
    );
    let state = proxy.get();
    assert!(
        state.descriptors_in_use <= budget,
        "{} of {budget}",
        state.descriptors_in_use
    );
    for page in ["/healthz", "/readyz", "/metrics"] {
        assert_eq!(proxy.page(page).unwrap().0, 200, "{page}");
    }
    let used = std::fs::read_dir(format!("/proc/{}/fd", proxy.pid()))
        .unwrap()
        .count();
    assert!(used <= LIMIT as usize, "{used}");

    // Those that were accepted work; the rest are served as places become free. Workers' queues are by hash, so whose turn
    // it is nobody knows.
    thread::scope(|scope| {
        for mut client in clients {
            scope.spawn(move || assert_eq!(client.name().unwrap(), "a"));
        }
    });
    assert_eq!(http::ask(address).unwrap(), "a");
    assert_eq!(proxy.listener("web").refused_connections, 0);
    wait::until(LONG, "all is closed", || proxy.active() == 0);
}

#[test]
fn a_burst_of_connections_all_at_once_is_served() {
    let pod = pod("a", Behaviour::Name);
    let proxy = Start::default().ready();
    let address = proxy.serve(&[pod.address()]);
    let mut clients: Vec<_> = (0..1000)
        .map(|_| http::Client::connect(address).unwrap())
        .collect();
    for client in &mut clients {
        assert_eq!(client.name().unwrap(), "a");
    }
    assert_eq!(proxy.active(), 1000);
    drop(clients);
    wait::until(LONG, "all is closed", || proxy.active() == 0);
}
