//! Repair against an API server in this process, its clock paused.

mod rotation;
mod switches;

use std::sync::Arc;
use std::time::Duration;

use rcgen::{CertificateParams, IsCa, KeyPair};
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::sleep;

use super::Repair;
use crate::certificates::{Callers, Connections};
use crate::events::Events;
use crate::fake_server::Server;
use crate::lease::Commander;
use crate::metrics::Metrics;
use crate::reign::Reign;

const MUTATING: &str =
    "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations/podline-control";
const VALIDATING: &str =
    "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations/podline-control";
const SERVICE: &str = "/api/v1/namespaces/podline-system/services/podline-webhook";
const ALL: [&str; 3] = [SERVICE, MUTATING, VALIDATING];
const LEADER: Reign = Reign::Leader { epoch: 1 };

/// A replica that runs.
struct Replica {
    commander: Commander,
    bundle: watch::Sender<Option<Arc<[u8]>>>,
    callers: watch::Receiver<Option<Callers>>,
    troubles: watch::Receiver<Vec<String>>,
    metrics: Metrics,
    task: JoinHandle<()>,
}

fn connections(server: &Server, commander: &Commander, metrics: &Metrics) -> Connections {
    Connections {
        client: server.client(),
        leadership: commander.leadership(),
        events: Events::new(server.client(), "a"),
        metrics: metrics.clone(),
    }
}

impl Replica {
    fn start(server: &Server, reign: Reign, is_on: bool) -> Self {
        let commander = Commander::new();
        commander.set(reign);
        let metrics = Metrics::new();
        let connections = connections(server, &commander, &metrics);
        let (bundle, handed) = watch::channel(None);
        let (told, callers) = watch::channel(None);
        let repair = Repair::new(connections, "podline-system", is_on, handed, told);
        Self {
            commander,
            bundle,
            callers,
            troubles: repair.troubles(),
            metrics,
            task: tokio::spawn(repair.run(std::future::pending())),
        }
    }

    /// A leader that has registered everything with this bundle.
    async fn registered(server: &Server, bundle: &[u8]) -> Self {
        let replica = Self::start(server, LEADER, true);
        replica.bundle.send_replace(Some(bundle.into()));
        sleep(seconds(1)).await;
        for path in ALL {
            assert!(server.object(path).is_some(), "{path}");
        }
        replica
    }

    fn has(&self, line: &str) -> bool {
        let metrics = self
            .metrics
            .render(0, 0, &crate::observed::Observed::default());
        metrics.lines().any(|found| found == line)
    }
}

impl Drop for Replica {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn authority() -> Vec<u8> {
    let mut parameters = CertificateParams::default();
    parameters.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let key = KeyPair::generate().unwrap();
    parameters.self_signed(&key).unwrap().pem().into_bytes()
}

/// Without what every write changes.
fn content(server: &Server, path: &str) -> Option<[Value; 3]> {
    let object = server.object(path)?;
    let labels = object["metadata"]["labels"].clone();
    Some([labels, object["webhooks"].clone(), object["spec"].clone()])
}

/// What is done to an object.
type Act = fn(&mut Value);

/// Changes an object as `manager`.
fn change(server: &Server, path: &str, manager: &str, change: impl FnOnce(&mut Value)) {
    let mut object = server.object(path).unwrap();
    change(&mut object);
    let managers = object["metadata"]["managedFields"].as_array_mut().unwrap();
    managers.retain(|entry| entry["manager"] != manager);
    managers.push(json!({"manager": manager, "time": "2025-01-01T00:00:00Z"}));
    server.put_object(path, object);
}

#[tokio::test(start_paused = true)]
async fn the_leader_registers_once_it_knows_whom_to_trust_and_writes_no_more() {
    let server = Server::new();
    let follower = Replica::start(&server, Reign::Follower, true);
    let leader = Replica::start(&server, LEADER, true);
    sleep(seconds(20)).await;
    // The Service needs no bundle.
    assert_eq!(server.writes(), 1);
    assert!(leader.callers.borrow().as_ref() == Some(&Callers::new(b"", now(&leader))));
    let bundle = authority();
    for replica in [&leader, &follower] {
        replica.bundle.send_replace(Some(bundle.clone().into()));
    }
    sleep(seconds(1)).await;
    assert_eq!(server.writes(), 3);
    for replica in [&leader, &follower] {
        let callers = replica.callers.borrow().clone().unwrap();
        assert_eq!(callers.count(), 1);
    }
    let words = "Registered: made: the API server calls Podline through it";
    let told = server.told();
    assert!(
        told.len() == 3 && told.iter().all(|told| told.ends_with(words)),
        "{told:?}"
    );
    sleep(seconds(3_600)).await;
    assert_eq!((server.writes(), server.told().len()), (3, 3));
    assert!(leader.troubles.borrow().is_empty());
}

/// Since when `replica` says what it says of the callers.
fn now(replica: &Replica) -> i64 {
    replica.callers.borrow().as_ref().unwrap().since()
}

#[tokio::test(start_paused = true)]
async fn what_is_changed_or_deleted_is_as_it_was_at_once() {
    let server = Server::new();
    let leader = Replica::registered(&server, &authority()).await;
    let good = ALL.map(|path| content(&server, path));
    let damages: [(&str, Act, &str); 5] = [
        (
            MUTATING,
            |object| object["webhooks"][0]["failurePolicy"] = json!("Fail"),
            "webhooks[gate.podline.io].failurePolicy is Fail; mended",
        ),
        (
            VALIDATING,
            |object| {
                let list = &mut object["webhooks"][0]["matchConditions"];
                let never = json!({"name": "never", "expression": "false"});
                list.as_array_mut().unwrap().push(never);
            },
            "webhooks[drain.podline.io].matchConditions[never] is none of Podline's; mended",
        ),
        (
            VALIDATING,
            |object| {
                let config = &mut object["webhooks"][0]["clientConfig"];
                config["url"] = json!("https://192.0.2.1/");
                config.as_object_mut().unwrap().remove("service");
            },
            "webhooks[drain.podline.io].clientConfig.service is missing; \
             webhooks[drain.podline.io].clientConfig.url is https://192.0.2.1/; mended",
        ),
        (
            SERVICE,
            |object| object["spec"]["ports"][0]["targetPort"] = json!(1),
            "spec.ports[webhook].targetPort is 1; mended",
        ),
        (
            SERVICE,
            |object| object["spec"]["selector"]["more"] = json!("x"),
            "spec.selector.more is x; mended",
        ),
    ];
    for (path, damage, told) in damages {
        change(&server, path, "vandal", damage);
        sleep(Duration::from_millis(10)).await;
        assert_eq!(ALL.map(|path| content(&server, path)), good, "{told}");
        let last = server.told().pop().unwrap();
        assert!(last.ends_with(&format!("Repaired: {told}")), "{last}");
    }
    for path in ALL {
        server.delete_object(path);
    }
    sleep(Duration::from_millis(10)).await;
    assert_eq!(ALL.map(|path| content(&server, path)), good);
    let object = "object=\"ValidatingWebhookConfiguration/podline-control\"";
    assert!(leader.has(&format!("podline_control_repairs_total{{{object}}} 3")));
    assert!(leader.has(&format!("podline_control_damaged{{{object}}} 0")));
    assert!(leader.has("podline_control_repair_seconds_count 8"));
}

#[tokio::test(start_paused = true)]
async fn another_bundle_is_no_repair_and_what_both_have_is_told() {
    let server = Server::new();
    let (old, new) = (authority(), authority());
    let leader = Replica::registered(&server, &old).await;
    let before = server.told().len();
    // Even if others have a label in it.
    change(&server, MUTATING, "kubectl", |object| {
        object["metadata"]["labels"]["team"] = json!("shop");
    });
    let both = [&old[..], &new].concat();
    leader.bundle.send_replace(Some(both.into()));
    sleep(Duration::from_millis(10)).await;
    assert_eq!(leader.callers.borrow().as_ref().unwrap().count(), 2);
    leader.bundle.send_replace(Some(new.into()));
    sleep(Duration::from_millis(10)).await;
    assert_eq!(leader.callers.borrow().as_ref().unwrap().count(), 1);
    assert_eq!(server.told().len(), before);
    let labels = server.object(MUTATING).unwrap()["metadata"]["labels"].clone();
    assert_eq!(labels["team"], "shop");
}

#[tokio::test(start_paused = true)]
async fn missing_rights_are_told_and_the_rest_goes_on() {
    let server = Server::new();
    let path = MUTATING.trim_end_matches("/podline-control");
    server.forbid(&[&format!("PATCH {path}")]);
    let leader = Replica::start(&server, LEADER, true);
    leader.bundle.send_replace(Some(authority().into()));
    sleep(seconds(20)).await;
    assert!(server.object(VALIDATING).is_some() && server.object(MUTATING).is_none());
    let told = [
        "cannot write MutatingWebhookConfiguration podline-control: \
                 mutatingwebhookconfigurations is forbidden",
    ];
    assert_eq!(*leader.troubles.borrow(), told);
    let object = "object=\"MutatingWebhookConfiguration/podline-control\"";
    assert!(leader.has(&format!("podline_control_repair_blocked{{{object}}} 1")));
    assert!(server.told().iter().all(|told| !told.contains("Repaired")));
    server.forbid(&[]);
    sleep(seconds(6)).await;
    assert!(leader.troubles.borrow().is_empty() && server.object(MUTATING).is_some());
    drop(leader);

    server.forbid(&[&format!("GET {path}")]);
    let blind = Replica::start(&server, LEADER, true);
    blind.bundle.send_replace(Some(authority().into()));
    sleep(seconds(20)).await;
    let told = [
        "cannot watch MutatingWebhookConfiguration podline-control: \
                 mutatingwebhookconfigurations is forbidden",
    ];
    assert_eq!(*blind.troubles.borrow(), told);
    // What may not be seen trusts nobody, as far as is known.
    assert_eq!(blind.callers.borrow().as_ref().unwrap().count(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_reverter_is_yielded_to_and_named() {
    let server = Server::new();
    let _leader = Replica::registered(&server, &authority()).await;
    let before = server.writes();
    let is_mended =
        |server: &Server| server.object(MUTATING).unwrap()["webhooks"][0]["timeoutSeconds"] == 2;
    // Ten minutes.
    for _ in 0..600 {
        if is_mended(&server) {
            change(&server, MUTATING, "gitops", |object| {
                object["webhooks"][0]["timeoutSeconds"] = json!(7);
            });
        }
        sleep(seconds(1)).await;
    }
    let writes = server.writes() - before;
    assert!((6..=8).contains(&writes), "{writes}");
    let told = server.told();
    let contests = told.iter().filter(|told| told.contains("RepairContested"));
    let contests: Vec<_> = contests.collect();
    assert_eq!(contests.len(), writes - 2, "{contests:?}");
    assert_eq!(
        contests[0],
        "MutatingWebhookConfiguration/podline-control: RepairContested: gitops (last at \
         2025-01-01T00:00:00Z) keeps undoing what Podline mends; it is left alone for 30 s: \
         webhooks[gate.podline.io].timeoutSeconds is 7"
    );
    // It gives up.
    sleep(seconds(700)).await;
    assert!(is_mended(&server));
}

#[tokio::test(start_paused = true)]
async fn one_that_takes_over_repairs_what_was_broken_meanwhile() {
    let server = Server::new();
    let bundle = authority();
    let first = Replica::registered(&server, &bundle).await;
    let second = Replica::start(&server, Reign::Follower, true);
    second.bundle.send_replace(Some(bundle.into()));
    sleep(seconds(1)).await;
    first.commander.set(Reign::Follower);
    server.delete_object(VALIDATING);
    sleep(seconds(10)).await;
    assert!(server.object(VALIDATING).is_none());
    let object = "object=\"ValidatingWebhookConfiguration/podline-control\"";
    assert!(second.has(&format!("podline_control_damaged{{{object}}} 1")));
    second.commander.set(LEADER);
    sleep(Duration::from_millis(10)).await;
    assert!(server.object(VALIDATING).is_some());
    let last = server.told().pop().unwrap();
    assert!(last.ends_with("Repaired: is missing; mended"), "{last}");
}

#[tokio::test(start_paused = true)]
async fn what_an_api_server_does_not_keep_is_not_written_for_ever() {
    let server = Server::new();
    server.drop_field("matchConditions");
    let leader = Replica::registered(&server, &authority()).await;
    sleep(seconds(3_600)).await;
    // Two attempts each, and at most one in ten minutes later on; a merge that changes nothing is no write.
    assert!(server.writes() < 20, "{}", server.writes());
    let troubles = leader.troubles.borrow().clone();
    assert_eq!(troubles.len(), 2);
    let words = "cannot write MutatingWebhookConfiguration podline-control: it stays so: \
                 webhooks[gate.podline.io].matchConditions[not-mirror] is missing";
    assert!(troubles[0].starts_with(words), "{troubles:?}");
}

#[tokio::test(start_paused = true)]
async fn without_webhooks_nobody_is_called_any_more() {
    let server = Server::new();
    drop(Replica::registered(&server, &authority()).await);
    let (told, before) = (server.told(), server.writes());
    let off = Replica::start(&server, LEADER, false);
    sleep(seconds(20)).await;
    for path in [MUTATING, VALIDATING] {
        assert_eq!(server.object(path).unwrap()["webhooks"], json!([]));
    }
    assert_eq!((server.told(), server.writes()), (told, before + 2));
    assert!(off.troubles.borrow().is_empty());
}
