//! One list at a time, and few a second, whoever asks.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use futures_util::future::join_all;
use tokio::time::advance;

use super::super::testing::{ApiServer, Mood, direct};
use super::*;

#[tokio::test(start_paused = true)]
async fn many_ask_and_one_list_answers_all_of_them() {
    let server = ApiServer::default();
    *server.mood.lock().unwrap() = Mood::Has(vec![direct("web")]);
    let live = Live::new(server.client());
    let found = join_all((0..200).map(|_| live.services("shop"))).await;
    for services in found {
        assert_eq!(services.unwrap()[0].annotations.settings.direct, Some(true));
    }
    let asked = server.asked.lock().unwrap().clone();
    let expected =
        "/api/v1/namespaces/shop/services?&fieldSelector=spec.type%3DLoadBalancer&limit=2000";
    assert_eq!(asked, [expected]);
    // Another namespace.
    live.services("office").await.unwrap();
    assert_eq!(server.lists(), 2);
}

#[tokio::test(start_paused = true)]
async fn what_was_made_since_the_last_list_is_found_a_few_times_a_second() {
    let server = ApiServer::default();
    let live = Live::new(server.client());
    assert!(live.services("shop").await.unwrap().is_empty());
    advance(Duration::from_millis(1)).await;
    *server.mood.lock().unwrap() = Mood::Has(vec![direct("web")]);
    assert_eq!(live.services("shop").await.unwrap().len(), 1);
    for _ in 0..100 {
        advance(Duration::from_millis(5)).await;
        live.services("shop").await.unwrap();
    }
    assert_eq!(server.lists(), LISTS as usize);
    advance(FRESH).await;
    live.services("shop").await.unwrap();
    assert_eq!(server.lists(), LISTS as usize + 1);
}

#[tokio::test(start_paused = true)]
async fn a_server_that_hangs_costs_a_second_and_one_that_refuses_nothing() {
    let server = ApiServer::default();
    let live = Live::new(server.client());
    *server.mood.lock().unwrap() = Mood::Hangs;
    let begun = Instant::now();
    let found = join_all((0..50).map(|_| live.services("shop"))).await;
    assert!(found.iter().all(Option::is_none));
    assert_eq!(begun.elapsed(), LIMIT);
    *server.mood.lock().unwrap() = Mood::Forbids;
    let before = server.lists();
    for _ in 0..50 {
        assert!(live.services("shop").await.is_none());
    }
    assert_eq!(
        server.lists(),
        before + 1,
        "a refusal counts as long as an answer"
    );
}

#[tokio::test(start_paused = true)]
async fn namespaces_are_asked_about_so_many_at_a_time_and_forgotten() {
    let server = ApiServer::default();
    let live = Live::new(server.client());
    for n in 0..NAMESPACES {
        assert!(live.services(&format!("n-{n}")).await.is_some());
    }
    assert!(live.services("one-more").await.is_none());
    assert_eq!(server.lists(), NAMESPACES);
    advance(FRESH).await;
    assert!(live.services("one-more").await.is_some());
    assert_eq!(live.asked.lock().unwrap().len(), 1);
}
