//! TKE's network modes decide which Pods a Service goes straight to.

use super::*;
use crate::cluster::switches::GLOBAL_ROUTES;

/// What becomes of Pods a (of its node's network) and b (of the cloud's) with a switch.
fn with(switches: Switches, change: impl Fn(&mut Pod, &mut Pod)) -> Checked {
    let mut checked = cluster(Options::default());
    let mut node = node("node-1", "192.0.2.1");
    node.pod_ranges = vec!["10.0.0.0/31".parse().unwrap()];
    checked.change(Change::Node(node.name.clone(), Some(node)));
    let (mut a, mut b) = (pod("default/a", "10.0.0.1"), pod("default/b", "10.0.0.2"));
    b.is_vpc_cni = true;
    change(&mut a, &mut b);
    for pod in [a, b] {
        checked.change(Change::Pod(pod.key.clone(), Some(pod)));
    }
    checked.change(Change::Switches(switches));
    put(&mut checked, &service("default/web"));
    checked
}

fn switch(on: Option<bool>) -> Switches {
    Switches {
        global_routes: on,
        ..Switches::default()
    }
}

fn check(checked: &Checked, pods: &[&str], told: &[&str]) {
    let plan = plan_of(checked, "default/web");
    assert_eq!(addresses(&plan.sets[0]), pods);
    assert_eq!(reasons(&plan), told);
}

#[test]
fn elsewhere_pods_are_bound_as_they_are() {
    check(&with(switch(None), |_, _| {}), &PODS, &[]);
}

#[test]
fn global_router_needs_its_switch_and_follows_it() {
    let only_global = |_: &mut Pod, b: &mut Pod| {
        b.is_vpc_cni = false;
        b.addresses = vec![ip("10.0.0.0")];
    };
    let mut checked = with(switch(Some(false)), only_global);
    let slice = slice(
        "web-1",
        "default/web",
        vec![endpoint(&pod("default/a", "10.0.0.1"))],
    );
    checked.change(Change::Slice(slice.key.clone(), Some(slice)));
    check(&checked, &[], &["NetworkModeRefused"]);
    let plan = plan_of(&checked, "default/web");
    assert!(plan.notes[0].message.contains(GLOBAL_ROUTES));
    for on in [true, false, true] {
        checked.change(Change::Switches(switch(Some(on))));
        let (pods, told): (&[&str], &[&str]) = if on {
            (&PODS[..1], &[])
        } else {
            (&[], &["NetworkModeRefused"])
        };
        check(&checked, pods, told);
    }
    checked.change(Change::Switches(switch(None)));
    check(&checked, &PODS[..1], &[]);
}

#[test]
fn of_two_modes_that_of_the_oldest_pods_counts() {
    let mixed = "NetworkModeMixed";
    let younger = |_: &mut Pod, b: &mut Pod| b.created += 1;
    check(&with(switch(Some(true)), younger), &PODS[..1], &[mixed]);
    let older = |_: &mut Pod, b: &mut Pod| b.created -= 1;
    check(&with(switch(Some(true)), older), &PODS[1..], &[mixed]);
    // What may not be bound at all does not count.
    let refused = &["NetworkModeRefused"];
    check(&with(switch(Some(false)), younger), &PODS[1..], refused);
    // Nor do those that end, which leave as they always do.
    let ending = |a: &mut Pod, b: &mut Pod| {
        a.is_deleting = true;
        b.created += 1;
    };
    let checked = with(switch(Some(true)), ending);
    check(&checked, &PODS, &[]);
    let set = &plan_of(&checked, "default/web").sets[0];
    assert_eq!(set.backends[1].weight.get(), 10);
}

#[test]
fn what_is_bound_stays_bound_while_a_workload_is_mixed() {
    let mixed = "NetworkModeMixed";
    let absent = |_: &mut Pod, b: &mut Pod| b.addresses.clear();
    let mut checked = with(switch(Some(true)), absent);
    check(&checked, &PODS[..1], &[]);
    // The other one comes late, and is older all the same.
    let mut b = pod("default/b", "10.0.0.2");
    (b.is_vpc_cni, b.created) = (true, b.created - 1);
    checked.change(Change::Pod(b.key.clone(), Some(b.clone())));
    check(&checked, &PODS[..1], &[mixed]);
    // Unready Pods are no reason to move, and new ones of the same mode join.
    let mut a = pod("default/a", "10.0.0.1");
    a.containers_ready = false;
    checked.change(Change::Pod(a.key.clone(), Some(a.clone())));
    check(&checked, &PODS[..1], &[mixed]);
    let c = pod("default/c", "10.0.0.0");
    let endpoints = [&a, &b, &c].map(endpoint);
    let all = slice("web-1", "default/web", endpoints.into());
    checked.change(Change::Pod(c.key.clone(), Some(c.clone())));
    checked.change(Change::Slice(all.key.clone(), Some(all)));
    let global = ["10.0.0.0:8080", PODS[0]];
    check(&checked, &global, &[mixed]);
    // Once none of them is left the others take over, and stay.
    for mut pod in [a, c] {
        pod.is_deleting = true;
        checked.change(Change::Pod(pod.key.clone(), Some(pod.clone())));
    }
    let all = ["10.0.0.0:8080", PODS[0], PODS[1]];
    check(&checked, &all, &[]);
    let a = pod("default/a", "10.0.0.1");
    checked.change(Change::Pod(a.key.clone(), Some(a)));
    check(&checked, &["10.0.0.0:8080", PODS[1]], &[mixed]);
}

#[test]
fn through_node_ports_modes_make_no_difference() {
    let mut checked = with(switch(Some(false)), |_, _| {});
    let mut web = service("default/web");
    annotate(&mut web, DIRECT_ACCESS, "false");
    put(&mut checked, &web);
    check(&checked, &NODES, &[]);
}

#[test]
fn pods_of_no_nodes_network_are_bound_with_either() {
    let other = |a: &mut Pod, _: &mut Pod| a.node = Some("node-2".into());
    check(&with(switch(Some(false)), other), &PODS, &[]);
}
