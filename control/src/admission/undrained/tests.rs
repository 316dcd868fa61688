//! Which deletions count.

use podline_api::Weight;

use super::super::testing::World;
use super::*;
use crate::cluster::Transport;
use crate::observed::{ProxyView, Whose};

/// What is counted when the deletion of a Pod begins, and `drained` proxies of two say that they keep it out.
fn count(world: &World, pod: usize, change: Option<crate::cluster::Pod>, drained: usize) -> u64 {
    let mut begun = Begun::default();
    let change = Change::Pod(world.pods[pod].key.clone(), change);
    begun.note(&change, &world.cluster, &world.builder, 1_000);
    let mut observed = Observed::default();
    for n in 0..2 {
        let place = (world.set(), world.backend(pod));
        let view = ProxyView {
            serving: true,
            drained: (n < drained)
                .then_some((place, Whose::Ours))
                .into_iter()
                .collect(),
            ..ProxyView::default()
        };
        observed.proxies.insert(n.to_string(), Arc::new(view));
    }
    assert_eq!(begun.judge(&observed, 2_999), 0, "too early");
    let count = begun.judge(&observed, 3_000);
    assert_eq!(begun.judge(&observed, 9_000), 0, "judged twice");
    count
}

#[test]
fn a_deletion_counts_that_no_proxy_or_not_every_one_was_told_of() {
    let world = World::new(2);
    let deleting = || {
        let mut pod = world.pods[0].clone();
        pod.is_deleting = true;
        Some(pod)
    };
    assert_eq!(count(&world, 0, deleting(), 0), 1);
    assert_eq!(count(&world, 0, deleting(), 1), 1);
    assert_eq!(count(&world, 0, deleting(), 2), 0);
    // Deleted with no time to end.
    assert_eq!(count(&world, 0, None, 0), 1);
}

#[test]
fn a_deletion_counts_that_its_slice_told_of_first() {
    for protocol in [Transport::Tcp, Transport::Udp] {
        let mut world = World::new(2);
        let has_weight = |world: &World| {
            let set = world.set();
            let mut backends = world.builder.snapshot().sets[&set].backends.iter();
            backends.any(|it| it.key == world.backend(0) && it.weight != Weight::NONE)
        };
        world.change_service(|service| service.ports[0].protocol = protocol);
        world.terminating(&[]);
        world.healthy(&[&[0, 1], &[0, 1]]);
        assert!(has_weight(&world));
        world.terminating(&[0]);
        assert!(!has_weight(&world));
        let mut pod = world.pods[0].clone();
        pod.is_deleting = true;
        assert_eq!(count(&world, 0, Some(pod.clone()), 0), 1, "{protocol:?}");
        assert_eq!(count(&world, 0, Some(pod.clone()), 2), 0, "{protocol:?}");
        // Nobody else is left by now.
        world.healthy(&[&[0], &[0]]);
        assert_eq!(count(&world, 0, Some(pod), 0), 0, "{protocol:?}");
    }
}

#[test]
fn what_is_not_to_be_drained_does_not_count() {
    let mut world = World::new(2);
    let mut changed = world.pods[0].clone();
    changed.containers_ready = false;
    assert_eq!(count(&world, 0, Some(changed), 0), 0, "no deletion");
    let alone = World::new(1);
    assert_eq!(count(&alone, 0, None, 0), 0, "the last one");
    world.annotate("service.cloud.tencent.com/enable-grace-deletion", "false");
    assert_eq!(count(&world, 0, None, 0), 0, "nobody wants it");
    let mut ungated = World::new(2);
    ungated.change(0, |pod| pod.gate = Gate::Absent);
    assert_eq!(count(&ungated, 0, None, 0), 0, "no gate");
    let mut going = World::new(2);
    going.change(0, |pod| pod.is_deleting = true);
    assert_eq!(count(&going, 0, None, 0), 0, "it was deleted before");
}
