//! What an Ingress is made to say, and that nothing is written twice.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::collections::BTreeSet;

use super::*;
use crate::build::{Builder, Options};
use crate::cluster::service::FINALIZER;
use crate::cluster::testing::{endpoint, ingress, ip, key, pod, service, slice};
use crate::cluster::{Change, Cluster, Front, Ingress, Touched};
use crate::observed::{Observed, ProxyView};

/// An Ingress in a cluster with its Service and a Pod, as it stands, and what is written while a proxy has it.
struct World {
    cluster: Cluster,
    builder: Builder,
    observed: Observed,
}

impl World {
    fn new(change: impl Fn(&mut Ingress)) -> Self {
        let (pod, mut web) = (pod("default/web", "10.0.0.1"), service("default/web"));
        web.is_load_balancer = false;
        let slice = slice("web-1", "default/web", vec![endpoint(&pod)]);
        let mut made = ingress("default/site");
        change(&mut made);
        let (mut cluster, mut builder) = (Cluster::default(), Builder::new(Options::default()));
        for change in [
            Change::Pod(pod.key.clone(), Some(pod)),
            Change::Slice(slice.key.clone(), Some(slice)),
            Change::Service(web.key.clone(), Some(Box::new(web))),
            Change::Ingress(made.key.clone(), Some(Box::new(made))),
        ] {
            cluster.apply(change);
        }
        builder.build(&cluster, &Touched::all());
        let proxy = ProxyView {
            addresses: vec![ip("192.0.2.9")],
            serving: true,
            acked: 5,
            ..ProxyView::default()
        };
        let observed = Observed {
            proxies: [("p".to_owned(), Arc::new(proxy))].into(),
            ..Observed::default()
        };
        Self {
            cluster,
            builder,
            observed,
        }
    }

    fn proxy(&mut self) -> &mut ProxyView {
        Arc::make_mut(self.observed.proxies.get_mut("p").unwrap())
    }

    fn writes(&self) -> Option<(Writes, Vec<Note>)> {
        let front = Front::Ingress(key("default/site"));
        let proxies = Proxies {
            observed: &self.observed,
            listed: &BTreeSet::from(["p".to_owned()]),
            is_early: false,
            since: self.builder.since(&front),
            source: None,
        };
        let entry = self.cluster.ingress(front.key()).unwrap();
        writes(entry, self.builder.standing(&front), &proxies)
    }
}

fn told() -> service::Ingress {
    service::Ingress {
        ip: Some(ip("192.0.2.9")),
        ip_mode: None,
        ports: vec![(80, crate::cluster::Transport::Tcp, None)],
    }
}

#[test]
fn it_is_held_and_told_where_clients_connect_and_that_is_all() {
    let (writes, notes) = World::new(|_| {}).writes().unwrap();
    assert!(writes.metadata.unwrap().is_held);
    assert_eq!(writes.status.unwrap().ingress, [told()]);
    assert_eq!(notes, []);
    let done = |ingress: &mut Ingress| {
        ingress.finalizers.push(FINALIZER.to_owned());
        ingress.told = vec![told()];
    };
    let (writes, _) = World::new(done).writes().unwrap();
    assert!(writes.is_none(), "{writes:?}");
}

#[test]
fn what_is_wrong_is_told_by_events_and_in_the_status() {
    let mut world = World::new(|ingress| {
        ingress.annotations.clear();
        ingress
            .annotations
            .insert(DIRECT_ACCESS.to_owned(), "odd".to_owned());
    });
    world.proxy().failed_listeners = [(
        "default/site/http/80".parse().unwrap(),
        "the port is in use".to_owned(),
    )]
    .into();
    let (writes, notes) = world.writes().unwrap();
    let reasons: Vec<_> = notes.iter().map(|note| note.reason.as_str()).collect();
    assert_eq!(
        reasons,
        ["NodePortMode", "InvalidAnnotation", "NotProgrammed"]
    );
    assert_eq!(writes.news, notes);
    let error = writes.status.unwrap().ingress[0].ports[0].2.clone();
    assert_eq!(error.as_deref(), Some("podline.io/ListenerFailed"));
}

#[test]
fn it_is_let_go_once_no_proxy_has_anything_of_it() {
    let mut world = World::new(|ingress| {
        ingress.class = Some("other".to_owned());
        ingress.finalizers.push(FINALIZER.to_owned());
        ingress.told = vec![told()];
    });
    let (writes, _) = world.writes().unwrap();
    assert!(!writes.metadata.unwrap().is_held);
    assert_eq!(writes.status.unwrap().ingress, []);
    // It stood otherwise before.
    let class = |class: &str| {
        let mut made = ingress("default/site");
        made.class = Some(class.to_owned());
        made.finalizers.push(FINALIZER.to_owned());
        Change::Ingress(made.key.clone(), Some(Box::new(made)))
    };
    for name in ["podline", "other"] {
        let touched = world.cluster.apply(class(name));
        world.builder.build(&world.cluster, &touched);
    }
    world.proxy().acked = 0;
    let (writes, _) = world.writes().unwrap();
    assert_eq!(
        writes.metadata, None,
        "the proxy has not said that it let go"
    );
    let nobodys = World::new(|ingress| ingress.class = None);
    assert_eq!(nobodys.writes(), None);
}

#[test]
fn the_last_readable_values_are_kept_and_a_new_one_is_made_direct() {
    let mut world = World::new(|ingress| ingress.finalizers.push(FINALIZER.to_owned()));
    let mut odd = ingress("default/site");
    odd.finalizers.push(FINALIZER.to_owned());
    odd.annotations
        .insert(DIRECT_ACCESS.to_owned(), "odd".to_owned());
    let touched = world
        .cluster
        .apply(Change::Ingress(odd.key.clone(), Some(Box::new(odd))));
    world.builder.build(&world.cluster, &touched);
    let (writes, _) = world.writes().unwrap();
    let kept = format!("{{\"{DIRECT_ACCESS}\":\"true\"}}");
    assert_eq!(writes.metadata.unwrap().annotations[LAST_GOOD], kept);
    let mut world = World::new(|ingress| ingress.annotations.clear());
    let switches = crate::cluster::Switches {
        direct_for_new: true,
        ..crate::cluster::Switches::default()
    };
    let touched = world.cluster.apply(Change::Switches(switches));
    world.builder.build(&world.cluster, &touched);
    assert!(world.writes().unwrap().0.make_direct);
}

#[test]
fn of_one_that_is_skipped_an_event_tells_and_nothing_is_written() {
    let world = World::new(|ingress| {
        ingress.finalizers.push(FINALIZER.to_owned());
        let mode = "ingress.cloud.tencent.com/mode".to_owned();
        ingress.annotations.insert(mode, "skip".to_owned());
    });
    let (writes, notes) = world.writes().unwrap();
    let reasons: Vec<_> = notes.iter().map(|note| note.reason).collect();
    assert_eq!(reasons, [Reason::Skipped]);
    let expected = Writes {
        news: notes,
        ..Writes::default()
    };
    assert_eq!(writes, expected);
}
