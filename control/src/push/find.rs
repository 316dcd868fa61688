//! Which proxies there are: from names that are looked up again and again, or from EndpointSlices (`slices`).

mod slices;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

pub use slices::targets;

use super::Target;

/// How often names are looked up.
const LOOK_UP_EVERY: Duration = Duration::from_secs(5);

/// Looks `names` (`HOST:PORT`) up every 5 s, for ever, and tells what they mean. Each address is a proxy of its own;
/// so is a socket (`unix:PATH`), which needs no looking up. A name that cannot be looked up means what it meant before:
/// silence takes no proxy away.
pub async fn look_up(names: Vec<String>, out: watch::Sender<BTreeMap<String, Target>>) {
    let (sockets, names): (Vec<String>, Vec<String>) = names
        .into_iter()
        .partition(|name| name.starts_with("unix:"));
    let mut known: BTreeMap<String, Vec<SocketAddr>> = BTreeMap::new();
    loop {
        let answers = names.iter().map(|name| addresses(name));
        for (name, answer) in names.iter().zip(join_all(answers).await) {
            known.extend(answer.map(|addresses| (name.clone(), addresses)));
        }
        let mut found = by_address(known.values().flatten());
        found.extend(
            sockets
                .iter()
                .map(|socket| (socket.clone(), at_socket(socket))),
        );
        out.send_if_modified(|before| {
            let changed = *before != found;
            *before = found;
            changed
        });
        if out.is_closed() {
            return;
        }
        sleep(LOOK_UP_EVERY).await;
    }
}

/// The addresses of a name; `None` if there is no answer.
async fn addresses(name: &str) -> Option<Vec<SocketAddr>> {
    let looking = timeout(LOOK_UP_EVERY, tokio::net::lookup_host(name));
    let found: Vec<_> = looking.await.ok()?.ok()?.collect();
    (!found.is_empty()).then_some(found)
}

fn at_socket(socket: &str) -> Target {
    Target {
        target: socket.to_owned(),
        addresses: Vec::new(),
    }
}

fn by_address<'a>(addresses: impl Iterator<Item = &'a SocketAddr>) -> BTreeMap<String, Target> {
    let target = |address: &SocketAddr| Target {
        target: address.to_string(),
        addresses: vec![address.ip()],
    };
    addresses
        .map(|address| (address.to_string(), target(address)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn each_address_of_a_name_is_a_proxy() {
        let (out, mut found) = watch::channel(BTreeMap::new());
        let names = [
            "127.0.0.1:9902",
            "[::1]:9902",
            "no such name:1",
            "unix:/run/api",
        ];
        let looking = tokio::spawn(look_up(names.map(str::to_owned).to_vec(), out));
        found.changed().await.unwrap();
        let found = found.borrow().clone();
        looking.abort();
        let targets: Vec<_> = found
            .values()
            .map(|t| (t.target.as_str(), t.addresses.len()))
            .collect();
        assert_eq!(
            targets,
            [
                ("127.0.0.1:9902", 1),
                ("[::1]:9902", 1),
                ("unix:/run/api", 0)
            ]
        );
        assert!(found.contains_key("[::1]:9902"));
    }
}
