//! A Service with `mode: skip` stays what it was.

use super::*;
use crate::build::annotation::{MODE, WEIGHTS};

const SET: &str = "default/web/tcp/80";

fn skipping(change: impl Fn(&mut Service)) -> Service {
    let mut web = service("default/web");
    web.finalizers.push(FINALIZER.to_owned());
    annotate(&mut web, MODE, "skip");
    change(&mut web);
    web
}

/// default/web is served, and then says skip.
fn skipped() -> Checked {
    let mut checked = cluster(Options::default());
    put(&mut checked, &service("default/web"));
    put(&mut checked, &skipping(|_| {}));
    checked
}

fn join(checked: &mut Checked, pods: &[Pod]) {
    for pod in pods {
        checked.change(Change::Pod(pod.key.clone(), Some(pod.clone())));
    }
    let slice = slice("web-1", "default/web", pods.iter().map(endpoint).collect());
    checked.change(Change::Slice(slice.key.clone(), Some(slice)));
}

#[test]
fn edits_change_nothing_until_it_is_taken_back() {
    let mut checked = skipped();
    let before = checked.builder.snapshot().clone();
    assert_eq!(reasons(&plan_of(&checked, "default/web")), ["Skipped"]);
    put(
        &mut checked,
        &skipping(|web| {
            web.ports = vec![port("", 8443)];
            web.source_ranges = vec!["10.0.0.0/8".to_owned()];
            annotate(web, DIRECT_ACCESS, "false");
            annotate(web, WEIGHTS, r#"{"defaultWeight":0}"#);
        }),
    );
    let now = checked.builder.snapshot();
    assert_eq!(
        (&now.listeners, &now.sets),
        (&before.listeners, &before.sets)
    );
    let mut web = service("default/web");
    web.ports = vec![port("", 8443)];
    put(&mut checked, &web);
    let names = checked.builder.snapshot().listeners.keys();
    let names: Vec<_> = names.map(ToString::to_string).collect();
    assert_eq!(names, ["default/web/tcp/8443"]);
    assert_eq!(reasons(&plan_of(&checked, "default/web")), [""; 0]);
}

#[test]
fn nobody_joins_and_who_ends_leaves() {
    let mut checked = skipped();
    let bound = || checked_backends(&skipped());
    assert_eq!(bound(), PODS);
    let (a, b, c) = (
        pod("default/a", "10.0.0.1"),
        pod("default/b", "10.0.0.2"),
        pod("default/c", "10.0.0.3"),
    );
    join(&mut checked, &[b.clone(), c]);
    assert_eq!(checked_backends(&checked), PODS);
    // No slice names it any more, and yet its end is seen.
    let ending = Pod {
        is_deleting: true,
        ..a.clone()
    };
    checked.change(Change::Pod(a.key.clone(), Some(ending)));
    assert_eq!(
        checked.backends(SET),
        ["10.0.0.1:8080 defa 0", "10.0.0.2:8080 defa 10"]
    );
    checked.change(Change::Pod(a.key.clone(), None));
    assert_eq!(checked_backends(&checked), PODS[1..]);
    // Another one at its address is somebody else.
    let other = pod("other/x", "10.0.0.1");
    checked.change(Change::Pod(other.key.clone(), Some(other)));
    assert_eq!(checked_backends(&checked), PODS[1..]);
    let ended = Pod {
        has_ended: true,
        ..b
    };
    checked.change(Change::Pod(ended.key.clone(), Some(ended)));
    assert_eq!(checked_backends(&checked), [""; 0]);
    put(&mut checked, &service("default/web"));
    assert_eq!(checked_backends(&checked), ["10.0.0.3:8080"]);
}

fn checked_backends(checked: &Checked) -> Vec<String> {
    addresses(&checked.builder.snapshot().sets[SET])
}

#[test]
fn one_that_never_was_ours_gets_nothing() {
    let mut checked = cluster(Options::default());
    let mut web = skipping(|_| {});
    web.finalizers.clear();
    put(&mut checked, &web);
    assert!(checked.builder.snapshot().listeners.is_empty());
    assert_eq!(reasons(&plan_of(&checked, "default/web")), ["Skipped"]);
    // Its places are free for others.
    let mut other = service("default/other");
    other.created = web.created + 1;
    put(&mut checked, &other);
    assert_eq!(reasons(&plan_of(&checked, "default/other")), [""; 0]);
}

#[test]
fn a_controller_that_starts_anew_takes_it_as_it_is() {
    let mut checked = cluster(Options::default());
    put(&mut checked, &skipping(|_| {}));
    assert_eq!(checked_backends(&checked), PODS);
    put(
        &mut checked,
        &skipping(|web| web.ports = vec![port("", 81)]),
    );
    assert_eq!(checked_backends(&checked), PODS);
}

#[test]
fn deleting_it_or_taking_it_away_lets_it_go() {
    let leaves: [&dyn Fn(&mut Service); 2] =
        [&|web| web.is_deleting = true, &|web| web.class = None];
    for leave in leaves {
        let mut checked = skipped();
        put(&mut checked, &skipping(leave));
        let standing = checked.builder.standings().get(&key("default/web"));
        assert_eq!(standing, Some(&Standing::Leaving));
        assert!(checked.builder.snapshot().listeners.is_empty());
    }
}

#[test]
fn an_older_service_takes_the_places_that_it_claims() {
    let mut checked = skipped();
    let mut old = service("default/old");
    old.created = 1;
    put(&mut checked, &old);
    let names = checked.builder.snapshot().listeners.keys();
    let names: Vec<_> = names.map(ToString::to_string).collect();
    assert_eq!(names, ["default/old/tcp/80"]);
    let plan = plan_of(&checked, "default/web");
    assert_eq!(plan.ports[0].error, Some(Reason::PortConflict));
}

#[test]
fn endpoints_without_a_pod_stay_while_they_are_nobodys() {
    let mut checked = cluster(Options::default());
    let bare = crate::cluster::testing::bare("10.0.0.9");
    let of_web = slice("web-1", "default/web", vec![bare]);
    checked.change(Change::Slice(of_web.key.clone(), Some(of_web.clone())));
    put(&mut checked, &service("default/web"));
    put(&mut checked, &skipping(|_| {}));
    checked.change(Change::Slice(of_web.key, None));
    assert_eq!(checked_backends(&checked), ["10.0.0.9:8080"]);
    let foreign = pod("other/x", "10.0.0.9");
    checked.change(Change::Pod(foreign.key.clone(), Some(foreign)));
    assert_eq!(checked_backends(&checked), [""; 0]);
}
