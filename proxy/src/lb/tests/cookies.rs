//! Clients that are held by a cookie: the policy chooses for new ones, and the host that a cookie names takes the others
//! for as long as it may get new work.

use super::{LATER_MS, anyone, number};
use crate::lb::SetId;
use crate::lb::backend::BackendRuntime;
use crate::lb::pick::Cursor;
use crate::lb::set::{Pick, Set};
use crate::lb::trie::{Member, Tier};
use podline_api::{Affinity, AffinityKind, BackendKey, HashKey, Name, Policy, SetSettings};
use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

fn settings(policy: Policy, group: Option<&str>) -> SetSettings {
    let kind = AffinityKind::Cookie {
        name: None,
        timeout: None,
    };
    SetSettings {
        policy,
        affinity: Some(Affinity {
            kind,
            group: group.map(|group| group.parse().unwrap()),
        }),
        ..SetSettings::default()
    }
}

fn name(text: &str) -> Name {
    text.parse().unwrap()
}

fn member_at(n: u32, port: u16, tier: Tier) -> Member {
    let address = (Ipv4Addr::from(0x0a00_0000 + n), port).into();
    let key = BackendKey { id: None, address };
    Member {
        runtime: Arc::new(BackendRuntime::new(key, SetId(1), 0)),
        weight: 10,
        tier,
    }
}

fn set(policy: Policy, count: u32) -> Set {
    let mut set = Set::new(SetId(1), name("web"), settings(policy, None));
    for n in 0..count {
        set.put(member_at(n, 80, Tier::Eligible));
    }
    set
}

fn picked(set: &Set, cursor: &mut Cursor) -> Arc<BackendRuntime> {
    match set.pick(cursor, &anyone(&[], LATER_MS)) {
        Pick::Backend(backend) => backend,
        other => panic!("{other:?}"),
    }
}

fn held(set: &Set, host: u64) -> Option<usize> {
    let backend = set.pick_held(host, &anyone(&[], LATER_MS))?;
    Some(number(&backend))
}

#[test]
fn the_policy_chooses_for_those_without_a_cookie_and_the_host_keeps_the_others() {
    let set = set(Policy::RoundRobin, 100);
    let mut cursor = Cursor::seeded(1);
    let mut hosts = BTreeMap::new();
    for _ in 0..200 {
        let backend = picked(&set, &mut cursor);
        *hosts.entry(set.host_of(&backend)).or_insert(0) += 1;
        for _ in 0..3 {
            assert_eq!(held(&set, set.host_of(&backend)), Some(number(&backend)));
        }
    }
    assert_eq!(hosts.len(), 100, "hosts differ");
    assert!(
        hosts.values().all(|picks| *picks == 2),
        "two laps: {hosts:?}"
    );
    for host in [0, 1, u64::MAX, 12_345] {
        assert_eq!(held(&set, host), None, "{host}");
    }
}

/// Held clients take no turns, so new ones are spread as if there were none.
#[test]
fn held_clients_do_not_move_the_rotation() {
    let set = set(Policy::RoundRobin, 5);
    let mut cursor = Cursor::seeded(3);
    let first: Vec<_> = (0..5).map(|_| number(&picked(&set, &mut cursor))).collect();
    for turn in &first {
        let backend = set.members().next().unwrap().runtime.clone();
        assert!(held(&set, set.host_of(&backend)).is_some());
        assert_eq!(number(&picked(&set, &mut cursor)), *turn);
    }
}

#[test]
fn a_client_moves_while_its_backend_may_get_no_new_work_and_comes_back() {
    for policy in [
        Policy::RoundRobin,
        Policy::LeastConnections,
        Policy::Maglev(HashKey::Flow),
    ] {
        let mut set = set(policy, 10);
        let mut member = set
            .members()
            .find(|m| number(&m.runtime) == 4)
            .unwrap()
            .clone();
        let host = set.host_of(&member.runtime);
        for (tier, weight, expected) in [
            (Tier::Eligible, 10, Some(4)),
            // Drained, or of weight 0.
            (Tier::Out, 0, None),
            (Tier::Eligible, 10, Some(4)),
            (Tier::Fallback, 10, None),
            (Tier::Detecting, 10, None),
            (Tier::Eligible, 1, Some(4)),
        ] {
            (member.tier, member.weight) = (tier, weight);
            set.put(member.clone());
            assert_eq!(held(&set, host), expected, "{policy:?} {tier:?}");
            let other = picked(&set, &mut Cursor::seeded(1));
            assert!(tier == Tier::Eligible || number(&other) != 4);
        }
        set.remove(&member.runtime.key);
        assert_eq!(held(&set, host), None);
        set.put(member_at(4, 80, Tier::Eligible));
        assert_eq!(held(&set, host), Some(4), "the same host again");
    }
}

#[test]
fn a_backend_that_could_not_be_reached_holds_nobody() {
    let set = set(Policy::RoundRobin, 3);
    let backend = picked(&set, &mut Cursor::seeded(1));
    let host = set.host_of(&backend);
    let tried = [backend];
    assert!(set.pick_held(host, &anyone(&tried, LATER_MS)).is_none());
    assert!(held(&set, host).is_some());
}

/// Where all are unhealthy, cookies hold as picks do.
#[test]
fn failing_open_keeps_clients_and_failing_closed_does_not() {
    let mut set = set(Policy::RoundRobin, 0);
    for n in 0..3 {
        set.put(member_at(n, 80, Tier::Fallback));
    }
    set.put(member_at(3, 80, Tier::Out));
    let host = |set: &Set, n: u32| set.host_of(&member_at(n, 80, Tier::Out).runtime);
    assert_eq!(held(&set, host(&set, 1)), Some(1));
    assert_eq!(held(&set, host(&set, 3)), None);
    set.put(member_at(4, 80, Tier::Detecting));
    assert_eq!(held(&set, host(&set, 1)), None, "a verdict is waited for");
    set.was_healthy = true;
    assert_eq!(held(&set, host(&set, 1)), Some(1));
    set.put(member_at(5, 80, Tier::Eligible));
    assert_eq!(held(&set, host(&set, 1)), None);
    assert_eq!(held(&set, host(&set, 5)), Some(5));
    set.remove(&member_at(5, 80, Tier::Eligible).runtime.key);
    let mut closed = settings(Policy::RoundRobin, None);
    closed.fail_closed = true;
    set.set_settings(closed);
    assert_eq!(held(&set, host(&set, 1)), None);
}

/// A Service has a set for each port: a client is with one Pod for all of them, by one cookie.
#[test]
fn sets_of_a_group_share_hosts_and_a_cookie() {
    let port = |port: u16, group| {
        let settings = settings(Policy::RoundRobin, group);
        let mut set = Set::new(SetId(port.into()), name(&format!("port-{port}")), settings);
        for n in 0..20 {
            set.put(member_at(n, port, Tier::Eligible));
        }
        set
    };
    let (web, admin) = (port(80, Some("uid")), port(81, Some("uid")));
    let alone = port(80, None);
    for member in web.members() {
        let host = web.host_of(&member.runtime);
        assert_eq!(held(&admin, host), Some(number(&member.runtime)));
    }
    assert_eq!(web.cookie(), admin.cookie());
    assert_ne!(web.cookie(), alone.cookie());
}

#[test]
fn cookies_are_called_as_configured_or_by_their_set() {
    let mut set = set(Policy::RoundRobin, 1);
    let own = set.cookie().unwrap().clone();
    assert_eq!((&*own.name, own.max_age_s), ("podline-c850f03f", None));
    let mut named = settings(Policy::RoundRobin, None);
    named.affinity.as_mut().unwrap().kind = AffinityKind::Cookie {
        name: Some("mine".to_owned()),
        timeout: Some(Duration::from_mins(1)),
    };
    set.set_settings(named);
    let cookie = set.cookie().unwrap();
    assert_eq!((&*cookie.name, cookie.max_age_s), ("mine", Some(60)));
    set.set_settings(SetSettings::default());
    assert_eq!(set.cookie(), None);
    let backend = picked(&set, &mut Cursor::seeded(1));
    assert_eq!(held(&set, set.host_of(&backend)), None, "nobody is held");
    set.set_settings(settings(Policy::RoundRobin, None));
    assert_eq!(held(&set, set.host_of(&backend)), Some(0));
}
