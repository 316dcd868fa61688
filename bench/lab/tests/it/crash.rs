//! A process that is killed in the middle of a lab leaves nothing that the next lab does not take away.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};
use std::time::Duration;

use podline_lab::kube_proxy::{Family, Flavour, KubeProxy, Rules, available};
use podline_lab::wait::until;
use podline_lab::{Behaviour, Child, Lab, Pod, Segment, SegmentPlan, require_netns};
use rustix::process::Signal;

const LIMIT: Duration = Duration::from_secs(20);
/// Set for the process that is to be killed.
const STAND: &str = "PODLINE_LAB_STAND";
const SAYS: &str = "standing:";

/// What `/proc` shows of tasks: who they are for ever (id and start), and the namespace that they are in.
fn tasks() -> BTreeSet<(String, String)> {
    let processes = std::fs::read_dir("/proc").unwrap().flatten();
    let tasks = processes.filter_map(|process| std::fs::read_dir(process.path().join("task")).ok());
    let tasks = tasks.flat_map(Iterator::flatten);
    let task = |path: std::path::PathBuf| {
        let namespace = std::fs::read_link(path.join("ns/net")).ok()?;
        let stat = std::fs::read_to_string(path.join("stat")).ok()?;
        let started = stat
            .rsplit_once(')')?
            .1
            .split_whitespace()
            .nth(19)?
            .to_owned();
        let id = path.file_name()?.to_str()?.to_owned();
        Some((
            format!("{id} since {started}"),
            namespace.to_str()?.to_owned(),
        ))
    };
    tasks.filter_map(|entry| task(entry.path())).collect()
}

/// Names of namespaces and of links that are the machine's.
fn machine() -> (BTreeSet<String>, BTreeSet<String>) {
    let named = std::fs::read_dir("/run/netns")
        .into_iter()
        .flatten()
        .flatten();
    let named = named
        .map(|entry| entry.file_name().into_string().unwrap())
        .collect();
    let links = std::fs::read_to_string("/proc/self/net/dev").unwrap();
    let links = links
        .lines()
        .filter_map(|line| Some(line.split_once(':')?.0.trim().to_owned()));
    (named, links.collect())
}

fn check(signal: Signal) {
    let before = machine();
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args([
        "--exact",
        "crash::stands_until_it_is_killed",
        "--ignored",
        "--nocapture",
    ]);
    command.env(STAND, "1").stdout(Stdio::piped());
    let mut child = Child::spawn(&mut command).unwrap();
    let lines = BufReader::new(child.take_stdout().unwrap()).lines();
    let said = lines
        .map_while(Result::ok)
        .find_map(|line| Some(line.split_once(SAYS)?.1.to_owned()));
    let said = said.expect("the child tells its namespaces");
    let namespaces: BTreeSet<_> = said.split_whitespace().collect();
    assert!(namespaces.len() >= 8, "{said}");
    // Tasks that were in its namespaces while it lived: namespaces of others may get the same number later.
    let inside = |tasks: BTreeSet<(String, String)>| -> BTreeSet<String> {
        let tasks = tasks
            .into_iter()
            .filter(|(_, namespace)| namespaces.contains(namespace.as_str()));
        tasks.map(|(task, _)| task).collect()
    };
    let lived = inside(tasks());
    assert!(
        lived.len() > namespaces.len(),
        "a thread holds each, and there are Pods: {lived:?}"
    );
    child.signal(signal).unwrap();
    assert!(
        child
            .wait(LIMIT)
            .unwrap()
            .is_some_and(|status| !status.success())
    );
    let lab = Lab::new().unwrap(); // takes away what is left
    until(LIMIT, "nobody is in its namespaces", || {
        inside(tasks()).is_disjoint(&lived)
    });
    assert_eq!(machine(), before);
    drop(lab);
}

#[test]
fn nothing_outlives_a_process_that_is_killed() {
    if require_netns() {
        check(Signal::KILL);
    }
}

#[test]
fn nothing_outlives_a_process_that_is_interrupted() {
    if require_netns() {
        check(Signal::INT);
    }
}

/// Builds a segment with rules, Pods and a process of its own, tells its namespaces, and waits for its end.
#[test]
#[ignore = "the other tests here run it in a process of its own, and kill that"]
fn stands_until_it_is_killed() {
    if std::env::var_os(STAND).is_none() {
        return;
    }
    let lab = Lab::new().unwrap();
    let segment = Segment::build(&lab, SegmentPlan::default()).unwrap();
    let flavours = [Flavour::Iptables, Flavour::Nftables].into_iter();
    let host = &segment.nodes[0].host;
    let rules: Vec<_> = flavours
        .filter(|flavour| available(&lab, *flavour).is_ok())
        .map(|flavour| Rules::of(flavour, &Segment::node_view(Family::V4, 0, Vec::new())))
        .map(|rules| KubeProxy::install(host, &rules).unwrap())
        .collect();
    let start = |(node, at): (u8, &podline_lab::SegmentNode)| {
        let address = (Segment::pod(node, 0)[0], 80).into();
        Pod::start_in(&at.pods[0], "pod", address, Behaviour::Name).unwrap()
    };
    let pods: Vec<_> = (0..).zip(&segment.nodes).map(start).collect();
    let mut sleep = Command::new("sleep");
    sleep
        .arg("60")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let process = segment.client.spawn(sleep).unwrap();
    let hosts = segment
        .nodes
        .iter()
        .flat_map(|node| node.pods.iter().chain([&node.host]));
    let all = hosts
        .chain([&segment.client, &segment.switch])
        .chain(&segment.proxies);
    let numbers = all.map(|namespace| {
        let number = namespace.run(|| std::fs::read_link("/proc/thread-self/ns/net").unwrap());
        number.into_os_string().into_string().unwrap()
    });
    println!("{SAYS} {}", numbers.collect::<Vec<_>>().join(" "));
    std::io::stdout().flush().unwrap();
    std::thread::park_timeout(3 * LIMIT);
    drop((process, pods, rules));
}
