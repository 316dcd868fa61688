//! What `lb-rs-weight` makes of Pods.

use super::*;
use crate::build::annotation::WEIGHTS;
use crate::cluster::pod::Owner;

/// Pods of StatefulSet `web`, each on its own address.
fn stateful(names: &[&str]) -> Vec<Pod> {
    let owner = Arc::new(Owner {
        kind: "StatefulSet".to_owned(),
        name: "web".to_owned(),
        uid: "set".to_owned(),
    });
    let pods = names.iter().enumerate();
    pods.map(|(n, name)| Pod {
        owner: Some(Arc::clone(&owner)),
        ..pod(&format!("default/{name}"), &format!("10.0.0.{}", n + 1))
    })
    .collect()
}

fn with(pods: &[Pod], change: impl Fn(&mut Service)) -> Checked {
    let mut checked = cluster(Options::default());
    for pod in pods {
        checked.change(Change::Pod(pod.key.clone(), Some(pod.clone())));
    }
    let slice = slice("web-1", "default/web", pods.iter().map(endpoint).collect());
    checked.change(Change::Slice(slice.key.clone(), Some(slice)));
    let mut web = service("default/web");
    change(&mut web);
    put(&mut checked, &web);
    checked
}

fn weights(checked: &Checked, set: &str) -> Vec<u8> {
    let set = &checked.builder.snapshot().sets[set];
    set.backends.iter().map(|it| it.weight.get()).collect()
}

const DRAIN_FIRST: &str = r#"{"defaultWeight":10,"groups":[{"key":{"proto":"TCP","port":80},"statefulSets":[{"name":"web","weights":[{"weight":0,"podIndexes":[0]},{"weight":30,"podIndexes":[2]}]}]}]}"#;

#[test]
fn pods_of_a_stateful_set_are_weighed_by_their_index() {
    let pods = stateful(&["web-0", "web-1", "web-2"]);
    let checked = with(&pods, |web| annotate(web, WEIGHTS, DRAIN_FIRST));
    assert_eq!(weights(&checked, "default/web/tcp/80"), [0, 10, 30]);
    assert_eq!(reasons(&plan_of(&checked, "default/web")), [""; 0]);
}

#[test]
fn a_pod_that_gets_nothing_new_is_nobody_to_wait_for() {
    let pods = stateful(&["web-0", "web-1"]);
    let mut checked = with(&pods, |web| annotate(web, WEIGHTS, DRAIN_FIRST));
    let observed = checked.all_pass();
    checked.change(Change::Observed(observed));
    let ending = Pod {
        is_deleting: true,
        ..pods[1].clone()
    };
    checked.change(Change::Pod(ending.key.clone(), Some(ending)));
    let set = "default/web/tcp/80";
    assert_eq!(weights(&checked, set), [0, 10], "there is nobody else");
    let mut web = service("default/web");
    put(&mut checked, &web);
    let observed = checked.all_pass();
    checked.change(Change::Observed(observed));
    assert_eq!(weights(&checked, set), [10, 0]);
    // What was closed stays so.
    annotate(&mut web, WEIGHTS, DRAIN_FIRST);
    put(&mut checked, &web);
    assert_eq!(weights(&checked, set), [0, 0]);
}

#[test]
fn what_the_weights_are_not_for_is_told() {
    let pods = stateful(&["web-0"]);
    let told = |change: &dyn Fn(&mut Service)| {
        let checked = with(&pods, |web| {
            annotate(web, WEIGHTS, DRAIN_FIRST);
            change(web);
        });
        let plan = plan_of(&checked, "default/web");
        let notes = plan.notes.iter();
        let notes = notes.filter(|note| note.reason == Reason::AnnotationIgnored);
        notes.map(ToString::to_string).collect::<Vec<_>>()
    };
    assert_eq!(told(&|_| {}), [""; 0]);
    assert_eq!(
        told(&|web| annotate(web, DIRECT_ACCESS, "false")),
        [format!(
            "AnnotationIgnored: {WEIGHTS}: traffic goes through node ports, and no Pod is weighed"
        )]
    );
    assert_eq!(
        told(&|web| web.ports = vec![port("", 81)]),
        [format!(
            "AnnotationIgnored: {WEIGHTS}: there is no port 80/TCP"
        )]
    );
}
