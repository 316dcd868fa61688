//! Nobody moves who need not, and nobody gets what another has.

use super::*;
use crate::cluster::testing::{self, ip};

fn key(name: &str) -> Front {
    Front::Service(testing::key(name))
}

fn request(key: &Front, age: i64) -> Request {
    Request {
        rank: (age, "uid".into(), key.clone()),
        families: vec![Family::V4],
        wanted: Vec::new(),
        told: Vec::new(),
        shares_with: BTreeSet::new(),
    }
}

fn pool(text: &str) -> Pool {
    text.parse().unwrap()
}

fn requests(list: Vec<(&str, i64)>) -> BTreeMap<Front, Request> {
    list.into_iter()
        .map(|(name, age)| (key(name), request(&key(name), age)))
        .collect()
}

fn of(assigned: &Assignments, name: &str) -> Result<IpAddr, Refused> {
    assigned[&key(name)][&Family::V4]
}

#[test]
fn pools_are_read_and_say_what_is_wrong() {
    let small = pool("10.0.0.8/30, 10.0.1.5, fd00::/126");
    assert_eq!(
        small.to_string(),
        "10.0.0.9-10.0.0.10,10.0.1.5-10.0.1.5,fd00::1-fd00::3"
    );
    assert!(
        small.contains(ip("10.0.0.9"))
            && !small.contains(ip("10.0.0.11"))
            && !small.contains(ip("::9"))
    );
    for (text, told) in [
        ("", "empty"),
        ("10.0.0.9-10.0.0.1", "upwards"),
        ("10.0.0.1-fd00::1", "upwards"),
        ("10.0.0.0/24,10.0.0.7", "twice"),
        ("web", "neither"),
    ] {
        let problem = text.parse::<Pool>().unwrap_err();
        assert!(problem.contains(told), "{text}: {problem}");
    }
    let huge = pool("fd00::/8");
    assert_eq!(
        huge.first(Family::V6, |_| true),
        Some(ip("fd00::1")),
        "without walking through it"
    );
}

#[test]
fn the_older_choose_first_and_keep_what_they_have() {
    let pool = pool("10.0.0.1-10.0.0.3");
    let mut asked = requests(vec![("a/old", 1), ("a/young", 2)]);
    let first = assign(&pool, &asked, &Assignments::new());
    assert_eq!(
        (of(&first, "a/old"), of(&first, "a/young")),
        (Ok(ip("10.0.0.1")), Ok(ip("10.0.0.2")))
    );
    // An older one appears; one goes.
    asked.extend(requests(vec![("a/oldest", 0)]));
    asked.remove(&key("a/old"));
    let next = assign(&pool, &asked, &first);
    assert_eq!(
        (of(&next, "a/oldest"), of(&next, "a/young")),
        (Ok(ip("10.0.0.1")), Ok(ip("10.0.0.2")))
    );
    // After a restart only the status is known.
    for (key, request) in &mut asked {
        request.told = vec![next[key][&Family::V4].unwrap()];
    }
    assert_eq!(assign(&pool, &asked, &Assignments::new()), next);
}

#[test]
fn an_address_asked_for_by_name_is_given_if_nobody_has_it() {
    let pool = pool("10.0.0.1-10.0.0.3");
    let mut asked = requests(vec![("a/web", 5), ("b/dns", 1)]);
    let before = assign(&pool, &requests(vec![("a/web", 5)]), &Assignments::new());
    asked.get_mut(&key("b/dns")).unwrap().wanted = vec![ip("10.0.0.1")];
    let now = assign(&pool, &asked, &before);
    assert_eq!(
        of(&now, "a/web"),
        Ok(ip("10.0.0.1")),
        "who has it keeps it, though the other is older"
    );
    assert_eq!(of(&now, "b/dns"), Err(Refused::Taken(ip("10.0.0.1"))));
    asked.get_mut(&key("b/dns")).unwrap().wanted = vec![ip("192.0.2.1")];
    assert_eq!(
        of(&assign(&pool, &asked, &now), "b/dns"),
        Err(Refused::NotInPool(ip("192.0.2.1")))
    );
    asked.get_mut(&key("b/dns")).unwrap().wanted = vec![ip("10.0.0.3")];
    assert_eq!(
        of(&assign(&pool, &asked, &now), "b/dns"),
        Ok(ip("10.0.0.3"))
    );
}

#[test]
fn an_address_is_shared_in_a_namespace_and_with_those_that_its_holder_names() {
    let pool = pool("10.0.0.1-10.0.0.3");
    let mut asked = requests(vec![("a/web", 1), ("a/mail", 2), ("b/dns", 3)]);
    for request in asked.values_mut() {
        request.wanted = vec![ip("10.0.0.2")];
    }
    let now = assign(&pool, &asked, &Assignments::new());
    assert_eq!(
        (of(&now, "a/web"), of(&now, "a/mail")),
        (Ok(ip("10.0.0.2")), Ok(ip("10.0.0.2")))
    );
    assert_eq!(of(&now, "b/dns"), Err(Refused::Taken(ip("10.0.0.2"))));
    asked.get_mut(&key("a/web")).unwrap().shares_with = ["b".to_owned()].into();
    let shared = assign(&pool, &asked, &now);
    assert_eq!(of(&shared, "b/dns"), Ok(ip("10.0.0.2")));
    assert_eq!(assign(&pool, &asked, &shared), shared);
}

#[test]
fn a_pool_that_is_used_up_moves_nobody() {
    let pool = pool("10.0.0.1-10.0.0.2");
    let asked = requests(vec![("a/x", 1), ("a/y", 2)]);
    let before = assign(&pool, &asked, &Assignments::new());
    let mut more = asked.clone();
    more.extend(requests(vec![("a/first", 0)]));
    let now = assign(&pool, &more, &before);
    assert_eq!(of(&now, "a/first"), Err(Refused::Exhausted(Family::V4)));
    assert!(
        ["a/x", "a/y"]
            .iter()
            .all(|name| of(&now, name) == of(&before, name))
    );
    // What becomes free goes to who waits.
    more.remove(&key("a/x"));
    assert_eq!(
        of(&assign(&pool, &more, &now), "a/first"),
        of(&before, "a/x")
    );
}

/// Whatever is asked for in whatever order: no address is held by two that may not share it, nobody moves without having
/// asked for it, and doing it again changes nothing.
#[test]
fn assignments_are_stable_and_exclusive_whatever_happens() {
    for seed in 1..300_u64 {
        let mut state = seed;
        let mut random = move |below: u32| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            u32::try_from(state >> 33).unwrap() % below
        };
        let pool = pool("10.0.0.1-10.0.0.6");
        let (mut asked, mut before) = (BTreeMap::new(), Assignments::new());
        for _ in 0..40 {
            let name = format!("{}/{}", if random(2) == 0 { "a" } else { "b" }, random(6));
            match random(4) {
                0 => {
                    asked.remove(&key(&name));
                }
                1 => {
                    let wanted = ip(&format!("10.0.0.{}", 1 + random(8)));
                    let mut new = request(&key(&name), random(9).into());
                    new.wanted = vec![wanted];
                    asked.insert(key(&name), new);
                }
                _ => {
                    asked
                        .entry(key(&name))
                        .or_insert_with_key(|key| request(key, 1));
                }
            }
            let now = assign(&pool, &asked, &before);
            assert_eq!(assign(&pool, &asked, &now), now, "seed {seed}");
            for (key, request) in &asked {
                let (was, is) = (
                    before.get(key).and_then(|of| of[&Family::V4].ok()),
                    now[key][&Family::V4],
                );
                let moved_on_its_own =
                    was.is_some_and(|was| is != Ok(was)) && request.wanted_of(Family::V4).is_none();
                assert!(!moved_on_its_own, "seed {seed}: {key} {was:?} {is:?}");
                let same = now
                    .iter()
                    .filter(|(_, of)| is.is_ok() && of[&Family::V4] == is);
                assert!(
                    same.clone()
                        .all(|(other, _)| other.key().namespace == key.key().namespace),
                    "seed {seed}"
                );
            }
            before = now;
        }
    }
}
