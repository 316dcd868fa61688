//! Requests that cannot be carried out are refused whole, with the path of what is wrong, and change nothing.

use podline_api::{Rejected, v1};
use podline_lab::Behaviour;

use crate::harness::{Proxy, http, pod, tcp, wire};

/// What a refused request must leave as it was.
fn configuration(proxy: &Proxy) -> (u64, Vec<v1::Listener>, Vec<(v1::BackendSet, usize)>) {
    let state = proxy.get();
    let listeners = state
        .listeners
        .into_iter()
        .filter_map(|status| status.listener);
    let sets = state.backend_sets.into_iter();
    let sets = sets.map(|status| (status.set.unwrap(), status.backends.len()));
    (state.version, listeners.collect(), sets.collect())
}

/// Sends `request`, which must be refused at exactly `paths`.
fn check(proxy: &Proxy, request: v1::ApplyRequest, paths: &[&str]) {
    let before = configuration(proxy);
    let refusal = proxy.try_apply(request).unwrap_err();
    let Rejected::Invalid(invalid) = &refusal else {
        panic!("refused for another reason: {refusal}");
    };
    let found: Vec<_> = invalid
        .violations
        .iter()
        .map(|violation| violation.path.as_str())
        .collect();
    assert_eq!(found, paths, "{refusal}");
    assert_eq!(
        configuration(proxy),
        before,
        "a refused request changed something"
    );
}

#[test]
fn what_is_wrong_is_told_with_its_path_and_nothing_changes() {
    let pod = pod("a", Behaviour::Name);
    let proxy = Proxy::start();
    let address = proxy.serve(&[pod.address()]);
    let free = tcp::free_address();
    let good = wire::set("good", &[pod.address()]);

    let orphan = v1::ApplyRequest {
        listeners: vec![wire::listener("orphan", free, "nowhere")],
        backend_sets: vec![good.clone()],
        ..wire::request()
    };
    check(&proxy, orphan, &["listeners[0].backendSet"]);

    let mut heavy = good.clone();
    heavy.backends[0].weight = Some(101);
    let request = wire::both(wire::listener("new", free, "good"), heavy);
    check(&proxy, request, &["backendSets[0].backends[0].weight"]);

    let twice = wire::set("twice", &[free, free]);
    let request = v1::ApplyRequest {
        backend_sets: vec![twice],
        ..wire::request()
    };
    check(&proxy, request, &["backendSets[0].backends[1].address"]);

    let mut nowhere = good.clone();
    nowhere.backends[0].address = "localhost:80".to_owned();
    let request = v1::ApplyRequest {
        backend_sets: vec![nowhere],
        ..wire::request()
    };
    check(&proxy, request, &["backendSets[0].backends[0].address"]);

    let mut unknown = wire::listener("new", free, "web");
    unknown.protocol = Some(77);
    let request = v1::ApplyRequest {
        listeners: vec![unknown],
        ..wire::request()
    };
    check(&proxy, request, &["listeners[0].protocol"]);

    let nameless = v1::ApplyRequest {
        owner: String::new(),
        ..wire::request()
    };
    check(&proxy, nameless, &["owner"]);

    assert_eq!(http::ask(address).unwrap(), "a");
}

#[test]
fn references_to_what_is_not_there_are_refused() {
    let pod = pod("a", Behaviour::Name);
    let proxy = Proxy::start();
    proxy.serve(&[pod.address()]);
    let free = tcp::free_address();

    check(
        &proxy,
        wire::change("nowhere", &[free], &[]),
        &["backendChanges[0].set"],
    );
    check(
        &proxy,
        wire::change("web", &[], &[free]),
        &["backendChanges[0].remove[0]"],
    );

    let remove_listeners = vec!["nobody".to_owned()];
    let request = v1::ApplyRequest {
        remove_listeners,
        ..wire::request()
    };
    check(&proxy, request, &["removeListeners[0]"]);

    let remove_backend_sets = vec!["web".to_owned()]; // its listener stays
    let request = v1::ApplyRequest {
        remove_backend_sets,
        ..wire::request()
    };
    check(&proxy, request, &["removeBackendSets[0]"]);
}

#[test]
fn two_owners_cannot_have_one_listener_one_address_or_one_set() {
    let pod = pod("a", Behaviour::Name);
    let proxy = Proxy::start();
    let address = proxy.serve(&[pod.address()]);
    let other = |listener: v1::Listener, set| v1::ApplyRequest {
        owner: "other".to_owned(),
        ..wire::both(listener, set)
    };
    let own = wire::set("own", &[pod.address()]);
    let cases = [
        (
            other(
                wire::listener("web", tcp::free_address(), "own"),
                own.clone(),
            ),
            "listeners[0].name",
        ),
        (
            other(wire::listener("new", address, "own"), own),
            "listeners[0].address",
        ),
        (
            other(
                wire::listener("new", tcp::free_address(), "web"),
                wire::set("web", &[]),
            ),
            "backendSets[0].name",
        ),
    ];
    for (request, wanted) in cases {
        let before = configuration(&proxy);
        match proxy.try_apply(request) {
            Err(Rejected::Conflict { path, problem }) => {
                assert!(
                    path.starts_with(wanted.rsplit_once('.').unwrap().0),
                    "{path}: {problem}"
                );
                assert!(
                    problem.contains("test"),
                    "it names the owner: {path}: {problem}"
                );
            }
            other => panic!("{wanted}: {other:?}"),
        }
        assert_eq!(
            configuration(&proxy),
            before,
            "a refused request changed something"
        );
    }
    assert_eq!(http::ask(address).unwrap(), "a");
}

#[test]
fn stale_versions_are_refused_with_the_actual_one() {
    let pod = pod("a", Behaviour::Name);
    let proxy = Proxy::start();
    proxy.serve(&[pod.address()]);
    let version = proxy.get().version;

    let stale = v1::ApplyRequest {
        if_version: Some(version + 7),
        ..wire::request()
    };
    let refusal = proxy.try_apply(stale).unwrap_err();
    assert_eq!(
        refusal,
        Rejected::Version {
            wanted: version + 7,
            actual: version
        }
    );

    let mut stale = wire::change("web", &[tcp::free_address()], &[]);
    let of_set = proxy.set("web").version;
    stale.backend_changes[0].if_version = Some(of_set + 7);
    match proxy.try_apply(stale) {
        Err(Rejected::SetVersion { wanted, actual, .. }) => {
            assert_eq!((wanted, actual), (of_set + 7, of_set));
        }
        other => panic!("{other:?}"),
    }

    let mut fresh = wire::change("web", &[tcp::free_address()], &[]);
    fresh.backend_changes[0].if_version = Some(of_set);
    assert!(proxy.apply(fresh).version > version);
}

#[test]
fn validating_only_changes_nothing() {
    let proxy = Proxy::start();
    let before = configuration(&proxy);
    let address = tcp::free_address();
    let request = v1::ApplyRequest {
        validate_only: true,
        ..wire::both(wire::listener("web", address, "web"), wire::set("web", &[]))
    };
    let answer = proxy.apply(request);
    let mut changes: Vec<_> = answer
        .changes
        .iter()
        .map(|change| change.what.as_str())
        .collect();
    changes.sort_unstable();
    assert_eq!(changes, ["listener/web", "set/web"]);
    assert_eq!(configuration(&proxy), before);
    std::net::TcpStream::connect(address).unwrap_err();
}

#[test]
fn replacing_all_that_an_owner_has_leaves_other_owners_alone() {
    let pod = pod("a", Behaviour::Name);
    let proxy = Proxy::start();
    let mine = proxy.serve(&[pod.address()]);
    let theirs = tcp::free_address();
    let mut request = wire::both(
        wire::listener("theirs", theirs, "theirs"),
        wire::set("theirs", &[pod.address()]),
    );
    request.owner = "other".to_owned();
    proxy.apply(request);
    proxy.apply(v1::ApplyRequest {
        replace_owned: true,
        ..wire::request()
    });
    let names: Vec<_> = configuration(&proxy)
        .2
        .into_iter()
        .map(|(set, _)| set.name)
        .collect();
    assert_eq!(names, ["theirs"]);
    assert_eq!(http::ask(theirs).unwrap(), "a");
    podline_lab::wait::until(crate::harness::LONG, "the listener is gone", || {
        std::net::TcpStream::connect(mine).is_err()
    });
}
