//! What the tests have in common: the proxy's process, wire requests, sockets with a fault. No test logic.

pub(crate) mod blackhole;
pub(crate) mod certificates;
pub(crate) mod h2;
pub(crate) mod http;
pub(crate) mod proxy;
pub(crate) mod random;
pub(crate) mod scripted;
pub(crate) mod secure;
pub(crate) mod tcp;
pub(crate) mod turn;
pub(crate) mod udp;
pub(crate) mod web;
pub(crate) mod wire;

use std::net::SocketAddr;
use std::time::Duration;

use podline_lab::{Behaviour, Pod};

pub(crate) use proxy::{Proxy, Start};

/// One second.
pub(crate) const SECOND: Duration = Duration::from_secs(1);
/// For waits that end early when all is well.
pub(crate) const LONG: Duration = Duration::from_secs(20);

/// Holds `attempt` to a limit of time five times at most, as a busy machine may miss it once where a fault misses it
/// always; panics with how long the last one took.
pub(crate) fn once_within(limit: Duration, mut attempt: impl FnMut() -> Duration) {
    let mut took = Duration::MAX;
    for _ in 0..5 {
        took = attempt();
        if took < limit {
            return;
        }
    }
    panic!("five times not within {limit:?}, at last {took:?}");
}

/// A Pod on the loopback. Nobody else is given its port, so that nobody answers there once it is gone.
pub(crate) fn pod(name: &str, behaviour: Behaviour) -> Pod {
    Pod::start(name, tcp::free_address(), behaviour).unwrap()
}

/// Addresses of Pods.
pub(crate) fn addresses(pods: &[Pod]) -> Vec<SocketAddr> {
    pods.iter().map(Pod::address).collect()
}
