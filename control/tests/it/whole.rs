//! The whole system as docker/deploy/overlays/bare-metal installs it, with a pool and upgrades by surge: it comes up on
//! machines of their own, Pods see their clients, it is upgraded and downgraded under load, and removed without a trace.

use std::net::SocketAddr;

use podline_lab::wait;
use serde_json::Value;

use crate::harness::LONG;
use crate::harness::asking::Asking;
use crate::harness::dump::{self, Dump};
use crate::harness::installed::podline;
use crate::harness::machines::Machines;
use crate::harness::process::Process;

/// Everything there is, once nothing changes any more.
fn settled(machines: &mut Machines) -> Dump {
    let mut last = Dump::new();
    wait::until(LONG, "the cluster is quiet", || {
        machines.look();
        let now = machines
            .scene
            .run(|client, _| async move { dump::take(&client).await });
        let is_quiet = dump::differences(&last, &now).is_empty();
        last = now;
        is_quiet
    });
    last
}

fn assert_lossless(what: &str, load: Asking) {
    let seen = load.stop();
    println!(
        "{what}: {} requests answered, {} of them when they were made again, {} failed; at most {:?} without an answer; \
        seen as {:?}\n{:#?}\n{:#?}",
        seen.answered(),
        seen.again.len(),
        seen.failed.len(),
        seen.longest,
        seen.by,
        seen.again,
        seen.slow,
    );
    assert!(seen.failed.is_empty(), "{what}: {:#?}", seen.failed);
    assert!(seen.again.is_empty(), "{what}: {:#?}", seen.again);
}

/// Brings another image, under load.
fn change_image(machines: &mut Machines, what: &str, tag: &str, at: &[SocketAddr]) {
    let load = Asking::start(&machines.segment.client, at);
    machines.pass(&load);
    let names = |machines: &Machines, program| -> Vec<String> {
        let processes = machines.processes(program);
        processes.keys().map(|name| (*name).to_owned()).collect()
    };
    let before = ["podline-proxy", "podline-control"].map(|program| names(machines, program));
    machines.apply(tag);
    machines.wait("everything is of the other image", |machines| {
        machines.is_rolled_out(tag)
    });
    for (program, before) in ["podline-proxy", "podline-control"].into_iter().zip(before) {
        let now = names(machines, program);
        assert_eq!((before.len(), now.len()), (2, 2), "{program}");
        assert!(
            now.iter().all(|name| !before.contains(name)),
            "each is another: {before:?} {now:?}"
        );
    }
    machines.pass(&load);
    machines.wait_client_seen(at);
    assert_lossless(what, load);
}

fn uninstall(machines: &mut Machines) {
    let mut command = podline(&["uninstall", "--yes", "--kubeconfig"]);
    command.arg(machines.scene.cluster.kubeconfig());
    let hub = &machines.scene.cluster.star.hub;
    let process = Process::start("podline uninstall", hub, command);
    machines.wait("it is uninstalled", |_| !process.runs());
    assert!(process.wait_end(LONG));
    let log = process.log();
    println!("{log}");
    assert!(log.ends_with("uninstall: done"), "{log}");
    assert!(!log.contains("failed: "), "{log}");
}

#[test]
fn the_whole_system_comes_up_is_replaced_under_load_and_goes_without_a_trace() {
    let Some(mut machines) = Machines::build("whole") else {
        return;
    };
    if machines.prepare().is_none() {
        return;
    }
    let (before, of_nodes) = (dump::lasting(settled(&mut machines)), machines.traces());
    let at = machines.install();

    change_image(&mut machines, "upgrade", "0.2.0", &at);
    change_image(&mut machines, "downgrade", "0.1.0", &at);

    uninstall(&mut machines);
    let mut told = Vec::new();
    machines.wait("everything is as it was", |machines| {
        let after = machines
            .scene
            .run(|client, _| async move { dump::take(&client).await });
        let differences = dump::differences(&before, &after);
        if differences != told {
            println!("differs: {differences:#?}");
        }
        told = differences;
        told.is_empty()
    });
    let now = machines.traces();
    assert_eq!(now, of_nodes, "the nodes are as they were");
    machines.label_nodes(Value::Null);
}
