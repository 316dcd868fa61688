//! The usual network carries what it should, and leaves nothing behind.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Command, Stdio};
use std::time::Duration;

use podline_lab::{Behaviour, Lab, Pod, Topology, require_netns};

const SECOND: Duration = Duration::from_secs(1);

fn ask(address: SocketAddr) -> std::io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&address, SECOND)?;
    stream.write_all(b"GET / HTTP/1.1\r\n\r\n")?;
    stream.shutdown(std::net::Shutdown::Write)?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer
        .rsplit("\r\n")
        .next()
        .unwrap_or_default()
        .trim()
        .to_owned())
}

#[test]
fn client_reaches_every_pod_over_both_families_at_once() {
    if !require_netns() {
        return;
    }
    let lab = Lab::new().unwrap();
    let topology = Topology::build(&lab, 3).unwrap();
    for (index, namespace) in topology.pods.iter().enumerate() {
        for address in Topology::pod(u8::try_from(index).unwrap()) {
            let name = format!("pod-{index}");
            let pod =
                Pod::start_in(namespace, &name, (address, 80).into(), Behaviour::Name).unwrap();
            let address = pod.address();
            assert_eq!(topology.client.run(move || ask(address)).unwrap(), name);
        }
    }
}

#[test]
fn namespaces_do_not_share_ports_or_loopback() {
    if !require_netns() {
        return;
    }
    let lab = Lab::new().unwrap();
    let (one, other) = (
        lab.namespace("one").unwrap(),
        lab.namespace("other").unwrap(),
    );
    let address: SocketAddr = "127.0.0.1:8080".parse().unwrap();
    let _one = Pod::start_in(&one, "one", address, Behaviour::Name).unwrap();
    let _other = Pod::start_in(&other, "other", address, Behaviour::Name).unwrap();
    assert_eq!(one.run(move || ask(address)).unwrap(), "one");
    assert_eq!(
        other.thread(move || ask(address)).join().unwrap().unwrap(),
        "other"
    );
}

#[test]
fn a_pod_whose_link_is_down_answers_nothing_until_it_is_up() {
    if !require_netns() {
        return;
    }
    let lab = Lab::new().unwrap();
    let topology = Topology::build(&lab, 1).unwrap();
    let address = (Topology::pod(0)[0], 80).into();
    let _pod = Pod::start_in(&topology.pods[0], "pod", address, Behaviour::Name).unwrap();
    let link = Topology::pod_link(0);
    topology.proxy.link_down(&link).unwrap();
    topology.client.run(move || ask(address)).unwrap_err();
    topology.proxy.link_up(&link).unwrap();
    podline_lab::wait::until(10 * SECOND, "the pod answers again", || {
        topology.client.run(move || ask(address)).is_ok()
    });
}

#[test]
fn a_child_runs_inside_and_ends_with_its_handle() {
    if !require_netns() {
        return;
    }
    let lab = Lab::new().unwrap();
    let topology = Topology::build(&lab, 0).unwrap();
    let mut command = Command::new("cat");
    command.arg("/proc/net/dev").stdout(Stdio::piped());
    let mut child = topology.client.spawn(command).unwrap();
    let mut seen = String::new();
    child
        .take_stdout()
        .unwrap()
        .read_to_string(&mut seen)
        .unwrap();
    let links: Vec<_> = seen
        .lines()
        .filter_map(|line| Some(line.split_once(':')?.0.trim()))
        .collect();
    assert_eq!(links, ["lo", "eth0"]);
    assert!(child.wait(SECOND).unwrap().unwrap().success());
}

#[test]
fn nothing_is_left_when_a_topology_is_dropped() {
    if !require_netns() {
        return;
    }
    let links = || {
        std::fs::read_to_string("/proc/self/net/dev")
            .unwrap()
            .lines()
            .count()
    };
    let threads = || {
        let tasks = std::fs::read_dir("/proc/self/task").unwrap().flatten();
        let names = tasks.filter_map(|task| std::fs::read_to_string(task.path().join("comm")).ok());
        names.filter(|name| name.starts_with("ns:gone")).count()
    };
    let before = links();
    let lab = Lab::new().unwrap();
    let (one, other) = (
        lab.namespace("gone1").unwrap(),
        lab.namespace("gone2").unwrap(),
    );
    one.join("eth0", &other, "eth0").unwrap();
    assert_eq!(threads(), 2);
    drop(one);
    podline_lab::wait::until(10 * SECOND, "the peer's link goes too", || {
        other.links().unwrap() == ["lo"]
    });
    drop(other);
    assert_eq!(links(), before);
    // A thread is still listed for a moment after it was joined.
    podline_lab::wait::until(10 * SECOND, "the threads go", || threads() == 0);
}

#[test]
fn a_second_lab_waits_until_the_last_namespace_of_the_first_is_gone() {
    if !require_netns() {
        return;
    }
    let lab = Lab::new().unwrap();
    let namespace = lab.namespace("first").unwrap();
    drop(lab);
    let (entered, has_entered) = std::sync::mpsc::channel();
    let second = std::thread::spawn(move || {
        let lab = Lab::new().unwrap();
        entered.send(()).unwrap();
        drop(lab);
    });
    has_entered.recv_timeout(SECOND / 5).unwrap_err();
    drop(namespace);
    has_entered.recv_timeout(60 * SECOND).unwrap(); // other tests may be first in the queue
    second.join().unwrap();
}

#[test]
fn mistakes_are_told_with_the_namespace_and_the_link() {
    if !require_netns() {
        return;
    }
    let lab = Lab::new().unwrap();
    let namespace = lab.namespace("somewhere").unwrap();
    let error = namespace.link_up("eth7").unwrap_err();
    assert_eq!(error.to_string(), "no link eth7 in somewhere");
    let error = namespace.sysctl("net/ipv4/no_such_thing", "1").unwrap_err();
    assert!(
        error
            .chain()
            .contains("net/ipv4/no_such_thing in somewhere: "),
        "{}",
        error.chain()
    );
    let panic = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        namespace.run(|| panic!("inside"));
    }));
    assert_eq!(
        *panic.unwrap_err().downcast_ref::<&str>().unwrap(),
        "inside"
    );
    assert_eq!(namespace.run(|| 7), 7, "it works on after a panic");
}
