//! Virtual addresses over loopback: who holds them as proxies are killed, leave and come back, and as leaders change.

use podline_api::v1::Leaving;
use podline_api::v1::watch_response::Event;
use podline_api::{Listener, Protocol, VirtualAddress};
use tokio::time::{Instant, sleep};

use super::fake::Fake;
use super::loopback::{Bench, LONG};
use super::{Build, name, set};
use crate::push::Reign;
use crate::snapshot::Snapshot;

const REIGN: u64 = 3;

/// Listeners on two addresses.
fn wanted() -> Snapshot {
    let on = |text: &str, ip: [u8; 4]| {
        Listener::new(name(text), (ip, 80).into(), Protocol::Tcp, name("web"))
    };
    Snapshot::default()
        .next()
        .with_set(set("web", 1..=3))
        .with(on("one", [192, 0, 2, 1]))
        .with(on("two", [192, 0, 2, 2]))
}

fn told(fake: &Fake) -> Vec<VirtualAddress> {
    let network = fake.with_model(|model| model.network.clone());
    network.unwrap_or_default().addresses
}

/// The last parts of those that a proxy holds, each with how often it moved in this reign.
fn holds(fake: &Fake) -> Vec<(String, u64)> {
    let held = told(fake).into_iter().filter(|address| address.held);
    let base = |reign: u64| reign << 32;
    held.map(|held| {
        let reign = if held.epoch >= base(REIGN + 1) {
            REIGN + 1
        } else {
            REIGN
        };
        (held.address.to_string(), held.epoch - base(reign))
    })
    .collect()
}

async fn until_holds(fake: &Fake, expected: &[(&str, u64)]) {
    let deadline = Instant::now() + LONG;
    loop {
        let held = holds(fake);
        let is_so = held
            .iter()
            .map(|(ip, n)| (ip.as_str(), *n))
            .eq(expected.iter().copied());
        if is_so {
            return;
        }
        assert!(Instant::now() < deadline, "{held:?}");
        sleep(std::time::Duration::from_millis(5)).await;
    }
}

const ONE: &str = "192.0.2.1";
const TWO: &str = "192.0.2.2";

#[tokio::test]
async fn addresses_go_to_whoever_serves_and_a_new_leader_moves_nothing() {
    let (mut a, mut b) = (Fake::start(), Fake::start());
    let leader = Reign::Leader { epoch: REIGN };
    let mut bench = Bench::start(&[("a", &a), ("b", &b)], leader);
    bench.want(wanted());
    for proxy in ["a", "b"] {
        bench.until_acked(proxy, 1).await;
    }
    // Each holds one, and stands by for the other.
    let deadline = Instant::now() + LONG;
    while holds(&a).len() != 1 || holds(&b).len() != 1 {
        assert!(Instant::now() < deadline, "{:?} {:?}", told(&a), told(&b));
        sleep(std::time::Duration::from_millis(5)).await;
    }
    assert_eq!((told(&a).len(), told(&b).len()), (2, 2));
    assert!(told(&a).iter().all(|address| !address.take_over));
    let of_a = holds(&a)[0].0.clone();
    let (mine, other) = if of_a == ONE { (ONE, TWO) } else { (TWO, ONE) };
    let second = holds(&b)[0].1;

    // One is killed, and comes back with nothing when the other has both.
    a.kill();
    let mut both = [(mine, 3), (other, second)];
    both.sort_unstable();
    until_holds(&b, &both).await;
    let taken = told(&b).into_iter().find(|a| a.address.to_string() == mine);
    assert!(taken.unwrap().take_over);
    a.restart();
    bench.until("a", |view| view.serving).await;
    until_holds(&a, &[]).await;

    // Another leader goes on with what they hold.
    bench.reign(Reign::Leader { epoch: REIGN + 1 });
    bench.until_acked("a", 1).await;
    bench.until_acked("b", 1).await;
    until_holds(&b, &both).await;

    // One says that it ends.
    b.tell(Event::Leaving(Leaving::default()));
    until_holds(&a, &[(ONE, 1), (TWO, 2)]).await;

    // With nobody to take them nothing moves.
    b.kill();
    bench.until("b", |view| view.is_dead).await;
    a.tell(Event::Leaving(Leaving::default()));
    bench.until("a", |view| view.is_leaving).await;
    until_holds(&a, &[(ONE, 1), (TWO, 2)]).await;
}
