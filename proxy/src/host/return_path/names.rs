//! The proxies' addresses: those given, and those that names stand for.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use tokio::sync::watch;

/// How long a look-up may take.
const LIMIT: Duration = Duration::from_secs(4);

/// Names and the addresses that they had when they were last known.
#[derive(Debug)]
pub(super) struct Names {
    given: Vec<Given>,
    /// A name that cannot be looked up just now stands for what it did before: silence removes nothing.
    known: BTreeMap<String, Vec<IpAddr>>,
    /// Names whose trouble was told.
    told: BTreeSet<String>,
}

#[derive(Debug)]
enum Given {
    Address(IpAddr),
    Name(String),
}

impl Names {
    pub(super) fn new(given: &[String]) -> Self {
        let read = |text: &String| match text.parse() {
            Ok(address) => Given::Address(address),
            Err(_) => Given::Name(text.clone()),
        };
        Self {
            given: given.iter().map(read).collect(),
            known: BTreeMap::new(),
            told: BTreeSet::new(),
        }
    }

    /// Looks all names up again.
    pub(super) async fn look_up(&mut self) {
        for given in &self.given {
            let Given::Name(name) = given else { continue };
            let found = tokio::time::timeout(LIMIT, tokio::net::lookup_host((name.as_str(), 0)));
            let error = match found.await {
                Ok(Ok(found)) => {
                    let addresses: BTreeSet<_> =
                        found.map(|found| found.ip().to_canonical()).collect();
                    self.known
                        .insert(name.clone(), addresses.into_iter().collect());
                    self.told.remove(name);
                    continue;
                }
                Ok(Err(error)) => error.to_string(),
                Err(_) => "no answer in time".to_owned(),
            };
            if self.told.insert(name.clone()) {
                let known = self.known.get(name).map_or(0, Vec::len);
                tracing::warn!(
                    name,
                    error,
                    known,
                    "cannot look up the proxy; keeping what is known"
                );
            }
        }
    }

    /// Looks them up again and again, and tells the addresses when they change.
    pub(super) async fn follow(mut self, interval: Duration, tell: watch::Sender<Vec<IpAddr>>) {
        loop {
            tokio::time::sleep(interval).await;
            self.look_up().await;
            tell.send_if_modified(|told| {
                let addresses = self.addresses();
                let is_new = *told != addresses;
                *told = addresses;
                is_new
            });
        }
    }

    /// All addresses, in the order in which they were given.
    pub(super) fn addresses(&self) -> Vec<IpAddr> {
        let mut addresses = Vec::new();
        for given in &self.given {
            let more = match given {
                Given::Address(address) => std::slice::from_ref(address),
                Given::Name(name) => self.known.get(name).map(Vec::as_slice).unwrap_or_default(),
            };
            for address in more {
                if !addresses.contains(address) {
                    addresses.push(*address);
                }
            }
        }
        addresses
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn addresses_and_names_are_told_once_each_in_order() {
        let given = [
            "10.0.0.2",
            "localhost",
            "127.0.0.1",
            "10.0.0.2",
            "no.such.invalid",
        ];
        let mut names = Names::new(&given.map(str::to_owned));
        let first: IpAddr = "10.0.0.2".parse().unwrap();
        let loopback: IpAddr = "127.0.0.1".parse().unwrap();
        assert_eq!(names.addresses(), [first, loopback]);
        names.look_up().await;
        let addresses = names.addresses();
        assert_eq!(addresses[0], first);
        assert!(
            addresses[1..].iter().all(IpAddr::is_loopback),
            "{addresses:?}"
        );
        names
            .known
            .insert("no.such.invalid".to_owned(), vec![[10, 0, 0, 3].into()]);
        names.look_up().await;
        let last = names.addresses().pop().unwrap();
        assert_eq!(last, IpAddr::from([10, 0, 0, 3]), "silence removes nothing");
    }
}
