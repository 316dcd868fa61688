//! Addresses of a pool end to end: a controller that gives them to proxies on machines of their own, clients under way all
//! the time, and whatever makes an address move, or must not.

use std::net::{IpAddr, SocketAddr};
use std::process::Command;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Pod, Service};
use kube::api::{Api, DeleteParams};
use podline_lab::wait;
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::harness::LONG;
use crate::harness::asking::Asking;
use crate::harness::machines::Machines;
use crate::harness::objects::{self, direct};
use crate::harness::scene::SYSTEM;

/// A client gives up after so long.
const PATIENCE: Duration = Duration::from_millis(500);
/// An address of the pool that a host has which is no proxy.
const TAKEN: &str = "10.88.0.202";

fn load(machines: &Machines, at: &[SocketAddr]) -> Asking {
    Asking::patient(&machines.segment.client, at, PATIENCE)
}

fn tell(what: &str, load: Asking) {
    let seen = load.stop();
    println!(
        "{what}: {} answered, {} of them at the second attempt, {} attempts in vain; at most {:?} without an answer",
        seen.answered(),
        seen.again.len(),
        seen.failed.len(),
        seen.longest
    );
}

/// Who holds it, and nobody else does.
fn holder(machines: &Machines, at: SocketAddr) -> Option<usize> {
    match machines.holders(at.ip())[..] {
        [only] => Some(only),
        _ => None,
    }
}

/// Who alone holds one that has settled: a look may fail, as proxies have a second to answer it; two never hold it.
fn settled(machines: &Machines, at: SocketAddr) -> usize {
    let mut found = Vec::new();
    wait::until(LONG, "a proxy holds it", || {
        found = machines.holders(at.ip());
        !found.is_empty()
    });
    assert_eq!(found.len(), 1, "{found:?} hold it");
    found[0]
}

fn wait_elsewhere(machines: &mut Machines, at: SocketAddr, than: usize) -> usize {
    machines.wait("the address is elsewhere", |machines| {
        holder(machines, at).is_some_and(|found| found != than)
    });
    settled(machines, at)
}

/// The holder's process is killed, and comes back to nothing.
fn kill(machines: &mut Machines, at: SocketAddr) {
    let clients = load(machines, &[at]);
    machines.pass(&clients);
    let first = settled(machines, at);
    machines.proxy(first).1.signal(Signal::KILL);
    let second = wait_elsewhere(machines, at, first);
    machines.pass(&clients);
    tell("the holder was killed", clients);
    machines.revive();
    machines.wait("both proxies are ready", |machines| {
        machines.is_rolled_out("0.1.0")
    });
    assert_eq!(settled(machines, at), second, "it stays");
}

/// The holder's machine is cut off, and comes back.
fn partition(machines: &mut Machines, at: SocketAddr) {
    let first = settled(machines, at);
    let link = format!("node{first}");
    let clients = load(machines, &[at]);
    machines.pass(&clients);
    machines.segment.switch.link_down(&link).unwrap();
    let second = wait_elsewhere(machines, at, first);
    machines.pass(&clients);
    tell("the holder was cut off", clients);
    let clients = load(machines, &[at]);
    machines.segment.switch.link_up(&link).unwrap();
    machines.wait("both proxies are ready, and one holds", |machines| {
        machines.is_rolled_out("0.1.0") && machines.holders(at.ip()) == [second]
    });
    machines.pass(&clients);
    tell("its link was healed", clients);
}

/// Without the API server nobody leads in the end, and nothing moves.
fn silence(machines: &mut Machines, at: &[SocketAddr]) {
    let now = |machines: &Machines| -> Vec<usize> {
        at.iter().map(|at| settled(machines, *at)).collect()
    };
    let before = now(machines);
    // Nothing is to be lost, however long three servers that start take the machine.
    let clients = Asking::start(&machines.segment.client, at);
    machines.pass(&clients);
    machines.scene.cluster.control("stop apiserver");
    wait::until(LONG, "nobody leads", || machines.leaders() == 0);
    let answered = clients.seen().answered();
    wait::until(LONG, "traffic goes on", || {
        clients.seen().answered() > answered + 1_000
    });
    assert_eq!(now(machines), before);
    machines.scene.cluster.control("start apiserver");
    machines.scene.cluster.control("restart controller-manager");
    machines.scene.cluster.control("restart scheduler");
    wait::until(LONG, "somebody leads", || machines.leaders() == 1);
    machines.pass(&clients);
    assert_eq!(now(machines), before);
    let seen = clients.seen();
    assert!(seen.failed.is_empty(), "{:#?}", seen.failed);
    tell("the API server was away", clients);
}

/// The holder's Pod is deleted.
fn leave(machines: &mut Machines, at: SocketAddr) {
    let first = settled(machines, at);
    let pod = machines.proxy(first).0.to_owned();
    let clients = load(machines, &[at]);
    machines.pass(&clients);
    machines.scene.run(|client, _| async move {
        let pods = Api::<Pod>::namespaced(client, SYSTEM);
        pods.delete(&pod, &DeleteParams::default()).await.unwrap();
    });
    wait_elsewhere(machines, at, first);
    machines.pass(&clients);
    tell("the holder left in order", clients);
}

/// Something else has the address that a Service asks for.
fn conflict(machines: &mut Machines) {
    let hub = |machines: &Machines, verb: &'static str| {
        let address = format!("{TAKEN}/32");
        machines.scene.cluster.star.hub.run(move || {
            let mut command = Command::new("ip");
            command.args(["addr", verb, &address, "dev", "segment"]);
            assert!(command.status().unwrap().success());
        });
    };
    hub(machines, "add");
    machines.scene.run(|client, namespace| async move {
        let mut service = objects::service("third", direct());
        service["spec"]["selector"]["app"] = json!("web");
        service["metadata"]["annotations"]["podline.io/load-balancer-ips"] = json!(TAKEN);
        objects::apply::<Service>(&client, &namespace, service).await;
    });
    machines.wait("the owner is told", |machines| {
        let events = machines.scene.events();
        events.iter().any(|event| {
            event.starts_with("AddressConflict: ")
                && event.contains(&format!("answers for {TAKEN}"))
        })
    });
    let ip: IpAddr = TAKEN.parse().unwrap();
    assert_eq!(machines.holders(ip), [0; 0], "it is not fought over");
    hub(machines, "del");
    machines.wait("it is held once nobody else has it", |machines| {
        machines.holders(ip).len() == 1
    });
    machines.wait_client_seen(&[(ip, 80).into()]);
}

#[test]
fn addresses_of_a_pool_move_when_they_have_to_and_else_stay() {
    let Some(mut machines) = Machines::build("pool") else {
        return;
    };
    if machines.prepare().is_none() {
        return;
    }
    let at = machines.install();
    machines.wait("each is held by one proxy", |machines| {
        at.iter().all(|at| holder(machines, *at).is_some())
    });
    kill(&mut machines, at[0]);
    partition(&mut machines, at[0]);
    silence(&mut machines, &at);
    leave(&mut machines, at[0]);
    conflict(&mut machines);
    machines.label_nodes(Value::Null);
}
