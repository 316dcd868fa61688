//! Overrides by the connections that there are: by any replica, many at once, and past a proxy that hangs.

use std::time::Duration;

use futures_util::future::join_all;
use podline_api::v1;
use podline_api::v1::override_request::Action;
use tokio::time::{Instant, timeout};

use super::fake::Fake;
use super::loopback::{Bench, LONG};
use super::{Build, key, name, web};
use crate::observed::Whose;
use crate::push::Reign;
use crate::push::overrides::{NOTE, Outcome};

const SECOND: Duration = Duration::from_secs(1);

fn drain(set: &str, n: u8) -> v1::OverrideRequest {
    v1::OverrideRequest {
        set: set.to_owned(),
        backend: Some((&key(n)).into()),
        action: Action::Drain.into(),
        note: format!("{NOTE}shop/web-{n} was asked for"),
        ..v1::OverrideRequest::default()
    }
}

#[tokio::test]
async fn every_proxy_is_told_by_a_leader_and_by_a_follower() {
    let (a, b) = (Fake::start(), Fake::start());
    let mut bench = Bench::start(&[("a", &a), ("b", &b)], Reign::Leader { epoch: 1 });
    let mut follower = Bench::start(&[("a", &a)], Reign::Follower);
    bench.want(web());
    for proxy in ["a", "b"] {
        bench.until_acked(proxy, 1).await;
    }
    follower.until("a", |view| view.serving).await;
    for (bench, n) in [(&bench, 1), (&follower, 2)] {
        let requests = vec![drain("web", n), drain("gone", n)];
        let answer = bench.overrides.ask("a", requests, 2 * SECOND);
        // A set that the proxy does not have is one to which it sends nothing.
        assert_eq!(timeout(LONG, answer).await.unwrap(), Ok(Outcome::Done));
    }
    assert_eq!((a.overrides().len(), b.overrides().len()), (4, 0));
    for bench in [&mut bench, &mut follower] {
        let is_known = |n| {
            move |view: &crate::observed::ProxyView| {
                view.drained.get(&(name("web"), key(n))) == Some(&Whose::Ours)
            }
        };
        bench.until("a", is_known(1)).await;
        bench.until("a", is_known(2)).await;
    }
    let unknown = bench.overrides.ask("c", vec![drain("web", 1)], SECOND);
    assert!(unknown.await.is_err());
}

#[tokio::test]
async fn many_go_at_once_over_one_connection_and_one_that_hangs_holds_nobody_else_up() {
    let (a, b) = (Fake::start(), Fake::start());
    let mut bench = Bench::start(&[("a", &a), ("b", &b)], Reign::Leader { epoch: 1 });
    bench.want(web());
    for proxy in ["a", "b"] {
        bench.until_acked(proxy, 1).await;
    }
    b.hang(true);
    let ask = |proxy: &'static str, within| {
        let answers = (0..200).map(|n| bench.overrides.ask(proxy, vec![drain("web", n)], within));
        answers.collect::<Vec<_>>()
    };
    let begun = Instant::now();
    // They wait for a place behind those that hang, and are not done when it is too late.
    let hanging = ask("b", Duration::from_millis(100));
    let answers = timeout(LONG, join_all(ask("a", 2 * SECOND))).await.unwrap();
    assert!(answers.iter().all(|answer| *answer == Ok(Outcome::Done)));
    println!(
        "200 overrides beside a proxy that hangs: {:?}",
        begun.elapsed()
    );
    assert_eq!(a.overrides().len(), 200);
    let failed = timeout(LONG, join_all(hanging)).await.unwrap();
    assert!(failed.iter().all(|answer| *answer != Ok(Outcome::Done)));
    b.hang(false);
    bench.until_acked("b", 1).await;
    bench.want(web().next());
    bench.until_acked("b", 2).await;
}
