//! What `lb-rs-weight` makes of the Pods behind an Ingress.

use super::*;
use crate::build::annotation::ingress::{LISTEN_PORTS, WEIGHTS};
use crate::cluster::pod::Owner;

const DRAIN_FIRST: &str = r#"{"defaultWeight":20,"groups":[{"key":{"proto":"HTTP","port":80},"statefulSets":[{"name":"web","weights":[{"weight":0,"podIndexes":[0]}]}]}]}"#;

/// Pods web-0 and web-1 of StatefulSet `web`, behind Service web.
fn stateful() -> (Checked, Vec<crate::cluster::Pod>) {
    let mut checked = cluster(Options::default());
    let owner = Owner {
        kind: "StatefulSet".to_owned(),
        name: "web".to_owned(),
        uid: "set".to_owned(),
    };
    let owner = Some(Arc::new(owner));
    let pods = ["10.0.1.0", "10.0.1.1"].into_iter().enumerate();
    let pods = pods.map(|(n, address)| crate::cluster::Pod {
        owner: owner.clone(),
        ..pod(&format!("default/web-{n}"), address)
    });
    let pods: Vec<_> = pods.collect();
    let of_web = slice("web-1", "default/web", pods.iter().map(endpoint).collect());
    for pod in &pods {
        checked.change(Change::Pod(pod.key.clone(), Some(pod.clone())));
    }
    checked.change(Change::Slice(of_web.key.clone(), Some(of_web)));
    (checked, pods)
}

/// What it becomes at two ports.
fn weighed(change: impl Fn(&mut Ingress)) -> Arc<Plan> {
    let (mut checked, _) = stateful();
    put(&mut checked, "default/site", |ingress| {
        let ports = r#"[{"HTTP":80},{"HTTP":8081}]"#;
        for (key, value) in [(LISTEN_PORTS, ports), (WEIGHTS, DRAIN_FIRST)] {
            ingress.annotations.insert(key.to_owned(), value.to_owned());
        }
        change(ingress);
    });
    plan_of(&checked, "default/site")
}

fn weights(plan: &Plan, set: &str) -> Vec<u8> {
    let set = plan.sets.iter().find(|it| it.name.as_str() == set).unwrap();
    set.backends.iter().map(|it| it.weight.get()).collect()
}

#[test]
fn pods_are_weighed_by_the_port_that_is_listened_at() {
    let plan = weighed(|_| {});
    assert_eq!(reasons(&plan), [""; 0]);
    let of_80 = format!("{WEB}/80");
    assert_eq!(
        routes(&plan, "default/site/http/80"),
        [format!("/ {of_80}")]
    );
    assert_eq!(
        routes(&plan, "default/site/http/8081"),
        [format!("/ {WEB}")]
    );
    assert_eq!(
        (weights(&plan, &of_80), weights(&plan, WEB)),
        (vec![0, 20], vec![20, 20])
    );
}

#[test]
fn what_the_weights_are_not_for_is_told() {
    let told = |change: &dyn Fn(&mut Ingress)| {
        let plan = weighed(change);
        let notes = plan.notes.iter();
        let notes = notes.filter(|note| note.reason == Reason::AnnotationIgnored);
        notes.map(|note| note.message.clone()).collect::<Vec<_>>()
    };
    let direct = DIRECT_ACCESS.to_owned();
    assert_eq!(
        told(&|it| drop(it.annotations.insert(direct.clone(), "false".to_owned()))),
        [format!(
            "{WEIGHTS}: traffic goes through node ports, and no Pod is weighed"
        )]
    );
    assert_eq!(
        told(&|it| drop(
            it.annotations
                .insert(LISTEN_PORTS.to_owned(), r#"[{"HTTP":8081}]"#.to_owned())
        )),
        [format!("{WEIGHTS}: there is no port 80/TCP")]
    );
}

#[test]
fn a_set_that_is_new_lets_nobody_in_who_is_on_the_way_out() {
    let (mut checked, pods) = stateful();
    put(&mut checked, "default/site", |_| {});
    let observed = checked.all_pass();
    checked.change(Change::Observed(observed));
    let mut ending = pods[1].clone();
    ending.is_deleting = true;
    checked.change(Change::Pod(ending.key.clone(), Some(ending)));
    assert_eq!(weights(&plan_of(&checked, "default/site"), WEB), [10, 0]);
    // Nobody has probed anybody in the set that takes its place.
    put(&mut checked, "default/site", |ingress| {
        let weights = (WEIGHTS.to_owned(), DRAIN_FIRST.to_owned());
        ingress.annotations.extend([weights]);
    });
    let set = format!("{WEB}/80");
    assert_eq!(weights(&plan_of(&checked, "default/site"), &set), [0, 0]);
}
