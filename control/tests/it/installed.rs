//! Podline as docker/deploy/base installs it: what it may do, how it is asked, and that it can be removed.

use k8s_openapi::api::authorization::v1::ResourceAttributes;
use podline_control::rbac::RULES;

use crate::harness::cluster::cluster;
use crate::harness::installation::{self, CONTROLLER, allowed, reviews};
use crate::harness::objects::direct;
use crate::harness::scene::Scene;

#[test]
fn the_controller_may_do_what_the_table_says_and_nothing_besides() {
    let Some(cluster) = cluster() else {
        return;
    };
    let directory = tempfile::tempdir().unwrap();
    // Waits until everything in the table is allowed.
    installation::account(&cluster, directory.path());
    let verbs = [
        "get",
        "list",
        "watch",
        "create",
        "update",
        "patch",
        "delete",
        "deletecollection",
    ];
    for rule in RULES {
        for wanted in reviews(rule) {
            for verb in verbs {
                let asked = ResourceAttributes {
                    verb: Some(verb.to_owned()),
                    ..wanted.clone()
                };
                let is_meant = RULES.iter().flat_map(reviews).any(|one| {
                    ResourceAttributes {
                        name: asked.name.clone(),
                        ..one.clone()
                    } == asked
                        && (one.name.is_none() || one.name == asked.name)
                });
                assert_eq!(
                    allowed(&cluster, CONTROLLER, asked.clone()),
                    is_meant,
                    "{asked:?}"
                );
            }
            // Nor others of that kind, where names are given, nor in other namespaces.
            let other = |change: &dyn Fn(&mut ResourceAttributes)| {
                let mut asked = wanted.clone();
                change(&mut asked);
                let is_meant = RULES.iter().flat_map(reviews).any(|one| one == asked);
                assert_eq!(
                    allowed(&cluster, CONTROLLER, asked.clone()),
                    is_meant,
                    "{asked:?}"
                );
            };
            if wanted.name.is_some() {
                other(&|asked| asked.name = None);
                other(&|asked| asked.name = Some("another".to_owned()));
            }
            if wanted.namespace.is_some() {
                other(&|asked| asked.namespace = Some("default".to_owned()));
            }
        }
    }
}

#[test]
fn that_suffices() {
    let Some(scene) = Scene::set("rights") else {
        return;
    };
    scene.serve("web", 1, direct());
    scene.wait_backends("rights/web/tcp/80", 1);
    // The scene looks for refusals in the controllers' logs at its end.
    drop(scene);
}
