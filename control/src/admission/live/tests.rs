//! One list at a time, and few a second, whoever asks.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use futures_util::future::join_all;
use tokio::time::advance;

use super::super::testing::{ApiServer, Mood, direct, site};
use super::*;
use crate::cluster::testing::key;

fn count(found: Found) -> usize {
    found.unwrap().services().count()
}

#[tokio::test(start_paused = true)]
async fn many_ask_and_one_list_answers_all_of_them() {
    let server = ApiServer::default();
    *server.mood.lock().unwrap() = Mood::Has(vec![direct("web")]);
    let live = Live::new(server.client());
    let found = join_all((0..200).map(|_| live.look("shop"))).await;
    for services in found {
        let services = services.unwrap();
        let web = services.service(&key("default/web")).unwrap();
        assert_eq!(web.annotations.settings.direct, Some(true));
    }
    let asked = server.asked.lock().unwrap().clone();
    let expected = [
        "/apis/networking.k8s.io/v1/namespaces/shop/ingresses?&limit=2000",
        "/api/v1/namespaces/shop/services?&fieldSelector=spec.type%3DLoadBalancer&limit=2000",
    ];
    assert_eq!(asked, expected);
    // Another namespace.
    live.look("office").await.unwrap();
    assert_eq!(server.lists(), 2);
}

#[tokio::test(start_paused = true)]
async fn what_was_made_since_the_last_list_is_found_a_few_times_a_second() {
    let server = ApiServer::default();
    let live = Live::new(server.client());
    assert_eq!(count(live.look("shop").await), 0);
    advance(Duration::from_millis(1)).await;
    *server.mood.lock().unwrap() = Mood::Has(vec![direct("web")]);
    assert_eq!(count(live.look("shop").await), 1);
    for _ in 0..100 {
        advance(Duration::from_millis(5)).await;
        live.look("shop").await.unwrap();
    }
    assert_eq!(server.lists(), LISTS as usize);
    advance(FRESH).await;
    live.look("shop").await.unwrap();
    assert_eq!(server.lists(), LISTS as usize + 1);
}

#[tokio::test(start_paused = true)]
async fn a_server_that_hangs_costs_a_second_and_one_that_refuses_nothing() {
    let server = ApiServer::default();
    let live = Live::new(server.client());
    *server.mood.lock().unwrap() = Mood::Hangs;
    let begun = Instant::now();
    let found = join_all((0..50).map(|_| live.look("shop"))).await;
    assert!(found.iter().all(Option::is_none));
    assert_eq!(begun.elapsed(), LIMIT);
    *server.mood.lock().unwrap() = Mood::Forbids;
    let before = server.lists();
    for _ in 0..50 {
        assert!(live.look("shop").await.is_none());
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
        assert!(live.look(&format!("n-{n}")).await.is_some());
    }
    assert!(live.look("one-more").await.is_none());
    assert_eq!(server.lists(), NAMESPACES);
    advance(FRESH).await;
    assert!(live.look("one-more").await.is_some());
    assert_eq!(live.asked.lock().unwrap().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn where_there_are_ingresses_any_service_may_be_named() {
    let server = ApiServer::default();
    let mut web = direct("web");
    web["spec"]["type"] = "ClusterIP".into();
    *server.mood.lock().unwrap() = Mood::Has(vec![site("web"), web]);
    let live = Live::new(server.client());
    let found = live.look("default").await.unwrap();
    let naming: Vec<_> = found.ingresses_naming(&key("default/web")).collect();
    assert_eq!(
        (naming, found.services().count()),
        (vec![&key("default/site")], 1)
    );
    let asked = server.asked.lock().unwrap().clone();
    assert_eq!(asked[1], "/api/v1/namespaces/default/services?&limit=2000");
}
