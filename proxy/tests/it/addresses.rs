//! Virtual addresses, in namespaces: two proxies and a client on one segment. Skipped where namespaces cannot be made,
//! unless `PODLINE_REQUIRE=netns`.

mod scene;
mod under_way;

use podline_api::v1::address_status::State::{Conflict, Failed, Holding, Standby, Yielded};
use podline_lab::{Segment, wait};
use rustix::process::Signal;

use crate::harness::LONG;
use crate::harness::secure::{Tls, made};
use scene::{PAGES, PATIENCE, Scene, VIRTUAL, ask_on, held, standby};

const NAME: &str = "pod.example";

#[test]
fn an_address_goes_to_who_was_told_last_though_the_first_was_told_nothing() {
    let Some(scene) = Scene::build(2) else { return };
    let (first, second) = (scene.start(0, &[]), scene.start(1, &[]));
    for family in [0, 1] {
        Scene::tell(&first, family, held(family, 1, false));
        Scene::tell(&second, family, standby(family));
        Scene::wait_for(&first, family, Holding);
        scene.wait_served(family, 0);
        assert_eq!(Scene::status(&second, family).state(), Standby);
        second.wait_listening(scene::WEB[family]);

        Scene::tell(&second, family, held(family, 2, true));
        Scene::wait_for(&second, family, Holding);
        Scene::wait_for(&first, family, Yielded);
        scene.wait_served(family, 1);
        let told = Scene::status(&first, family);
        assert_eq!(told.other_mac, Scene::mac(&scene.segment.proxies[1]));
        assert_eq!(told.heard_epoch, 2);
        assert!(!scene.has(0, family) && scene.has(1, family));

        Scene::tell(&second, family, standby(family));
        Scene::wait_for(&second, family, Standby);
        assert!(!scene.has(1, family), "it is given up at once");
        Scene::tell(&first, family, held(family, 3, true));
        scene.wait_served(family, 0);
        Scene::wait_for(&first, family, Holding);
        let page = first.page("/metrics").unwrap().1;
        let ip = VIRTUAL[family];
        let line = format!("podline_address_held{{address=\"{ip}\"}} 1");
        assert!(page.lines().any(|found| found == line), "{page}");
    }
}

#[test]
fn a_client_that_waits_for_an_answer_is_told_when_the_address_goes() {
    let Some(scene) = Scene::build(2) else { return };
    let (first, second) = (scene.start(0, &[]), scene.start(1, &[]));
    for family in [0, 1] {
        Scene::tell(&first, family, held(family, 1, false));
        Scene::tell(&second, family, standby(family));
        Scene::wait_for(&first, family, Holding);
        scene.wait_served(family, 0);
        // It says no more from here on.
        let waiting = scene.begin_request(family);
        wait::until(LONG, "the Pod has it", || {
            first.listener(scene::WEB[family]).active_connections > 0
        });
        Scene::tell(&second, family, held(family, 2, true));
        Scene::wait_for(&first, family, Yielded);
        let error = waiting.join().unwrap().unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
        scene.wait_served(family, 1);
    }
}

#[test]
fn after_a_cut_link_is_healed_one_holds() {
    let Some(scene) = Scene::build(2) else { return };
    let (first, second) = (scene.start(0, &[]), scene.start(1, &[]));
    for family in [0, 1] {
        Scene::tell(&first, family, held(family, 1, false));
        Scene::tell(&second, family, standby(family));
        Scene::wait_for(&first, family, Holding);
        scene.wait_served(family, 0);
    }
    let switch = &scene.segment.switch;
    switch.link_down("proxy0").unwrap();
    for family in [0, 1] {
        Scene::tell(&second, family, held(family, 2, true));
        Scene::wait_for(&second, family, Holding);
        scene.wait_served(family, 1);
        assert_eq!(Scene::status(&first, family).state(), Holding);
    }
    switch.link_up("proxy0").unwrap();
    for family in [0, 1] {
        Scene::wait_for(&first, family, Yielded);
        assert_eq!(Scene::status(&second, family).state(), Holding);
        scene.wait_served(family, 1);
        assert!(!scene.has(0, family) && scene.has(1, family));
    }
}

#[test]
fn a_host_that_has_the_address_is_reported_and_left_alone() {
    let Some(scene) = Scene::build(1) else { return };
    let proxy = scene.start(0, &[]);
    let node = &scene.segment.nodes[0].host;
    for family in [0, 1] {
        let prefix = [32, 128][family];
        node.address("eth0", VIRTUAL[family], prefix).unwrap();
        Scene::tell(&proxy, family, held(family, 1, false));
        Scene::wait_for(&proxy, family, Conflict);
        let told = Scene::status(&proxy, family);
        assert_eq!(told.other_mac, Scene::mac(node));
        assert_eq!(told.interface, "eth0");
        assert!(told.reason.contains(&told.other_mac), "{told:?}");
        assert!(!scene.has(0, family));
    }
    let page = proxy.page("/metrics").unwrap().1;
    assert!(page.contains("why=\"conflict\"} 1"), "{page}");
}

#[test]
fn what_cannot_be_held_is_told_and_the_rest_is_served() {
    let cases: [(&[&str], &str, &str); 3] = [
        (&["net_admin"], "eth0", "lacks CAP_NET_ADMIN"),
        (&["net_raw"], "eth0", "lacks CAP_NET_RAW"),
        (&[], "eth7", "there is no interface eth7"),
    ];
    for (without, interface, expected) in cases {
        let Some(scene) = Scene::build(1) else { return };
        let proxy = scene.start_without(0, without);
        let mut address = held(0, 1, true);
        address.interface = Some(interface.to_owned());
        Scene::tell(&proxy, 0, address);
        Scene::wait_for(&proxy, 0, Failed);
        let told = Scene::status(&proxy, 0);
        assert!(told.reason.contains(expected), "{told:?}");
        assert!(!scene.has(0, 0));
        scene.serve_own(&proxy);
        let own = (Segment::proxy(0)[0], 8080).into();
        assert!(scene.ask(own).is_some(), "the rest is served");
    }
}

#[test]
fn a_killed_process_comes_back_to_what_it_held_and_else_the_kernel_takes_it() {
    let Some(scene) = Scene::build(1) else { return };
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("state").display().to_string();
    let args = ["--state-file", &*file];
    let mut proxy = scene.start(0, &args);
    for family in [0, 1] {
        Scene::tell(&proxy, family, held(family, 1, true));
        Scene::wait_for(&proxy, family, Holding);
    }
    wait::until(LONG, "the state is written", || {
        let saved = std::fs::read(&file).unwrap_or_default();
        let has = |owner: &[u8]| saved.windows(owner.len()).any(|part| part == owner);
        has(b"vip/0") && has(b"vip/1")
    });
    proxy.signal(Signal::KILL);
    proxy.wait_end(LONG).unwrap();
    assert!(scene.has(0, 0) && scene.has(0, 1), "the kernel keeps them");
    drop(proxy);
    proxy = scene.start(0, &args);
    for family in [0, 1] {
        Scene::wait_for(&proxy, family, Holding);
        scene.wait_served(family, 0);
    }
    proxy.signal(Signal::KILL);
    proxy.wait_end(LONG).unwrap();
    wait::until(LONG, "the kernel takes them away", || {
        !scene.has(0, 0) && !scene.has(0, 1)
    });
}

#[test]
fn a_holder_that_ends_in_order_loses_neither_a_request_nor_a_connection() {
    let Some(scene) = Scene::build(2) else { return };
    let [first, second] = scene.held_by_first();
    let pair = made(&[NAME]);
    scene.serve_pages(&first, &pair);
    let load = scene.load(LONG);
    let mut long = [0, 1].map(|family| scene.connect(family, 80));
    let mut pages = [0, 1].map(|family| {
        let tls = Tls::trusting(&[&pair]);
        tls.over(scene.connect(family, PAGES), NAME).unwrap()
    });
    for family in [0, 1] {
        ask_on(&mut long[family]).expect("the first proxy answers");
        ask_on(&mut pages[family]).expect("over HTTPS, too");
    }

    Scene::hand_over(&first, &second);
    for family in [0, 1] {
        Scene::wait_for(&second, family, Holding);
        scene.wait_served(family, 1);
        wait::until(LONG, "the first has it no more", || !scene.has(0, family));
        assert!(Scene::status(&second, family).predecessor.is_some());
        let as_it_began = Some(Segment::proxy(0)[family]);
        assert_eq!(ask_on(&mut long[family]), as_it_began);
        assert_eq!(ask_on(&mut pages[family]), as_it_began);
    }
    let tables = scene.tables(1);
    for rule in [
        "ip daddr 10.88.0.200 tcp flags ! syn",
        "ip6 daddr fd00:88::200 tcp flags ! syn",
    ] {
        assert!(tables.contains(rule), "{tables}");
    }
    drop((long, pages));
    assert!(first.wait_end(LONG).unwrap().success());
    let seen = load.end();
    println!("{seen:?}");
    assert!(seen.iter().all(|seen| seen.failed == 0), "{seen:?}");

    for family in [0, 1] {
        Scene::tell(&second, family, held(family, 2, true));
        assert!(!scene.has(0, family) && scene.has(1, family));
    }
    wait::until(LONG, "nothing is left of it", || {
        let left = [scene.tables(0), scene.tables(1)].concat();
        !left.contains("podline")
    });
    assert!(scene.ask((VIRTUAL[0], 80).into()).is_some());
}

#[test]
fn connections_that_are_not_sent_on_end_with_a_reset() {
    let Some(scene) = Scene::build(2) else { return };
    let first = scene.start(0, &["--shutdown-timeout", "1s"]);
    let second = scene.start(1, &[]);
    for family in [0, 1] {
        Scene::tell(&first, family, held(family, 1, false));
        Scene::wait_for(&first, family, Holding);
        scene.wait_served(family, 0);
    }
    let mut long = [0, 1].map(|family| scene.connect(family, 80));
    let leaving = Scene::leaving(&first);
    first.signal(Signal::TERM);
    leaving.join().unwrap();
    for (family, stream) in long.iter_mut().enumerate() {
        Scene::tell(&second, family, held(family, 2, true));
        scene.wait_served(family, 1);
        assert_eq!(ask_on(stream), None);
    }
    assert!(first.wait_end(LONG).unwrap().success());
}

#[test]
fn a_lone_holder_that_ends_takes_the_address_away() {
    let Some(scene) = Scene::build(1) else { return };
    let proxy = scene.start(0, &[]);
    Scene::tell(&proxy, 0, held(0, 1, true));
    Scene::wait_for(&proxy, 0, Holding);
    proxy.signal(Signal::TERM);
    assert!(proxy.wait_end(LONG).unwrap().success());
    assert!(!scene.has(0, 0));
}

#[test]
fn a_holder_that_is_killed_is_replaced_under_load() {
    let Some(scene) = Scene::build(2) else { return };
    let [first, second] = scene.held_by_first();
    let load = scene.load(PATIENCE);
    first.signal(Signal::KILL);
    first.wait_end(LONG).unwrap();
    for family in [0, 1] {
        Scene::tell(&second, family, held(family, 2, true));
    }
    for family in [0, 1] {
        Scene::wait_for(&second, family, Holding);
        scene.wait_served(family, 1);
    }
    println!("{:?}", load.end());
}
