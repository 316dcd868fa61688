//! Load balancers as TKE's annotations name them: the addresses of the pool have ids, and a Service that names one has the
//! same address, under the rules of sharing. An id of nobody here, as manifests bring it from a cloud, stands for
//! whatever the first of those that name it has. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use crate::allocate::{self, Assignments, Pool, Request};
use crate::cluster::{Family, Front};

/// The id of a load balancer that has these addresses; the lowest counts, of IPv4 if it has one.
pub(crate) fn id(addresses: &[IpAddr]) -> Option<String> {
    const DIGITS: &[u8; 36] = b"0123456789abcdefghijklmnopqrstuvwxyz";
    const LENGTH: usize = 8;
    let ip = addresses.iter().min_by_key(|ip| (Family::of(**ip), **ip))?;
    let octets = match ip {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    };
    let mut hash = octets
        .iter()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, octet| {
            (hash ^ u64::from(*octet)).wrapping_mul(0x0100_0000_01b3)
        });
    let mut text = String::from("lb-");
    for _ in 0..LENGTH {
        let digit = usize::try_from(hash % 36).unwrap_or_default();
        text.push(DIGITS[digit].into());
        hash /= 36;
    }
    Some(text)
}

/// Who moves to another's address frees its own: so it is looked once more, until nobody moves.
const ROUNDS: usize = 16;

/// Gives every request its addresses. `named`: the ids that Services name.
pub(super) fn assign(
    pool: &Pool,
    requests: &BTreeMap<Front, Request>,
    named: &BTreeMap<Front, String>,
    before: &Assignments,
) -> Assignments {
    let mut found = once(pool, requests, named, before);
    for _ in 0..ROUNDS {
        let next = once(pool, requests, named, &found);
        if next == found {
            break;
        }
        found = next;
    }
    found
}

fn once(
    pool: &Pool,
    requests: &BTreeMap<Front, Request>,
    named: &BTreeMap<Front, String>,
    before: &Assignments,
) -> Assignments {
    let groups = groups(pool, requests, named, before);
    if groups.is_empty() {
        return allocate::assign(pool, requests, before);
    }
    // Those that others follow come first.
    let followers: BTreeSet<&Front> = groups.values().flatten().copied().collect();
    let mut first = requests.clone();
    first.retain(|key, _| !followers.contains(key));
    let first = allocate::assign(pool, &first, before);
    let mut all = requests.clone();
    for (leader, followers) in &groups {
        let found = first.get(*leader).into_iter().flat_map(BTreeMap::values);
        let addresses: Vec<IpAddr> = found.filter_map(|it| it.as_ref().ok().copied()).collect();
        for key in followers.iter().chain([leader]) {
            if let Some(request) = all.get_mut(*key) {
                // What a Service asks for by address comes first, and so counts more.
                request.wanted.extend(&addresses);
            }
        }
    }
    allocate::assign(pool, &all, before)
}

/// Who has the same as whom, by who has it.
fn groups<'a>(
    pool: &Pool,
    requests: &'a BTreeMap<Front, Request>,
    named: &'a BTreeMap<Front, String>,
    before: &Assignments,
) -> BTreeMap<&'a Front, Vec<&'a Front>> {
    let has = |key: &Front, request: &Request| -> Vec<IpAddr> {
        let given = before.get(key).into_iter().flat_map(BTreeMap::values);
        let mut has: Vec<IpAddr> = given.filter_map(|it| it.as_ref().ok().copied()).collect();
        if has.is_empty() {
            has.clone_from(&request.told);
        }
        has.retain(|ip| pool.contains(*ip));
        has
    };
    let mut members: BTreeMap<&str, Vec<(&Front, &Request)>> = BTreeMap::new();
    for (key, id) in named {
        if let Some((key, request)) = requests.get_key_value(key) {
            members.entry(id.as_str()).or_default().push((key, request));
        }
    }
    if members.is_empty() {
        return BTreeMap::new();
    }
    // Who names nothing has an id of its own.
    let mut owners: BTreeMap<String, (&Front, &Request)> = BTreeMap::new();
    for (key, request) in requests.iter().filter(|(key, _)| !named.contains_key(*key)) {
        let Some(id) = id(&has(key, request)) else {
            continue;
        };
        let known = owners.get(&id);
        if known.is_none_or(|(_, known)| request.rank < known.rank) {
            owners.insert(id, (key, request));
        }
    }
    let mut groups: BTreeMap<&Front, Vec<&Front>> = BTreeMap::new();
    for (id, members) in members {
        let leader = owners.get(id).copied().or_else(|| {
            let order = |(key, request): &(&Front, &'a Request)| {
                (has(key, request).is_empty(), request.rank.clone())
            };
            members.iter().copied().min_by_key(order)
        });
        let Some((leader, _)) = leader else {
            continue;
        };
        let others = members.iter().map(|(key, _)| *key);
        let others = others.filter(|key| *key != leader);
        groups.entry(leader).or_default().extend(others);
    }
    groups
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::allocate::Refused;
    use crate::cluster::testing::{ip, key};

    fn front(name: &str) -> Front {
        Front::Service(key(name))
    }

    fn request(name: &str, age: i64) -> (Front, Request) {
        let key = front(name);
        let request = Request {
            rank: (age, "uid".into(), key.clone()),
            families: vec![Family::V4],
            wanted: Vec::new(),
            told: Vec::new(),
            shares_with: BTreeSet::new(),
        };
        (key, request)
    }

    fn named(list: &[(&str, &str)]) -> BTreeMap<Front, String> {
        let named = list.iter();
        named
            .map(|(name, id)| (front(name), (*id).to_owned()))
            .collect()
    }

    /// Assigns, twice: the second changes nothing.
    fn assigned(
        requests: &BTreeMap<Front, Request>,
        named: &BTreeMap<Front, String>,
        before: &Assignments,
    ) -> Assignments {
        let pool: Pool = "203.0.113.1-203.0.113.9".parse().unwrap();
        let found = assign(&pool, requests, named, before);
        assert_eq!(assign(&pool, requests, named, &found), found, "again");
        found
    }

    fn of(assigned: &Assignments, name: &str) -> Result<IpAddr, Refused> {
        assigned[&front(name)][&Family::V4]
    }

    fn at(n: u8) -> IpAddr {
        ip(&format!("203.0.113.{n}"))
    }

    #[test]
    fn ids_are_of_addresses_and_stay() {
        let one = id(&[ip("203.0.113.1")]).unwrap();
        assert_eq!(one.len(), 11);
        assert_eq!(
            one,
            id(&[ip("2001:db8::1"), ip("203.0.113.1")]).unwrap(),
            "IPv4 first, in whatever order"
        );
        assert_ne!(one, id(&[ip("203.0.113.2")]).unwrap());
        assert_eq!(id(&[]), None);
    }

    #[test]
    fn a_clouds_id_stands_for_one_address() {
        let requests = BTreeMap::from([
            request("a/other", 1),
            request("a/young", 9),
            request("a/old", 2),
        ]);
        let named = named(&[("a/young", "lb-6swtxxxx"), ("a/old", "lb-6swtxxxx")]);
        let found = assigned(&requests, &named, &Assignments::new());
        assert_eq!(of(&found, "a/other"), Ok(at(1)));
        assert_eq!(
            (of(&found, "a/old"), of(&found, "a/young")),
            (Ok(at(2)), Ok(at(2)))
        );
        // Who has an address already leads, so that nobody need move.
        let before = assigned(&requests, &BTreeMap::new(), &Assignments::new());
        assert_eq!(of(&before, "a/young"), Ok(at(3)));
        let mut alone = requests.clone();
        alone.remove(&front("a/old"));
        let had = assigned(&alone, &named, &before);
        let joined = assigned(&requests, &named, &had);
        assert_eq!(
            (of(&joined, "a/old"), of(&joined, "a/young")),
            (Ok(at(3)), Ok(at(3)))
        );
    }

    #[test]
    fn the_id_of_another_service_is_its_address() {
        let requests = BTreeMap::from([request("a/web", 5), request("a/api", 1)]);
        let before = assigned(&requests, &BTreeMap::new(), &Assignments::new());
        assert_eq!(
            (of(&before, "a/api"), of(&before, "a/web")),
            (Ok(at(1)), Ok(at(2)))
        );
        let of_web = id(&[ip("203.0.113.2")]).unwrap();
        let named = named(&[("a/api", &of_web)]);
        let found = assigned(&requests, &named, &before);
        assert_eq!(
            (of(&found, "a/api"), of(&found, "a/web")),
            (Ok(at(2)), Ok(at(2)))
        );
        // When the other goes, the address stays with whoever named it.
        let mut alone = requests.clone();
        alone.remove(&front("a/web"));
        assert_eq!(of(&assigned(&alone, &named, &found), "a/api"), Ok(at(2)));
    }

    #[test]
    fn other_namespaces_have_to_be_let_in() {
        let mut requests = BTreeMap::from([request("a/web", 1), request("b/web", 2)]);
        let named = named(&[("a/web", "lb-x"), ("b/web", "lb-x")]);
        let found = assigned(&requests, &named, &Assignments::new());
        let taken = Err(Refused::Taken(ip("203.0.113.1")));
        assert_eq!(
            (of(&found, "a/web"), of(&found, "b/web")),
            (Ok(at(1)), taken)
        );
        let holder = requests.get_mut(&front("a/web")).unwrap();
        holder.shares_with.insert("b".to_owned());
        let found = assigned(&requests, &named, &found);
        assert_eq!(
            (of(&found, "a/web"), of(&found, "b/web")),
            (Ok(at(1)), Ok(at(1)))
        );
    }

    #[test]
    fn an_address_that_is_asked_for_counts_more() {
        let mut requests = BTreeMap::from([request("a/web", 1), request("a/api", 2)]);
        let api = requests.get_mut(&front("a/api")).unwrap();
        api.wanted.push(ip("203.0.113.7"));
        let named = named(&[("a/web", "lb-x"), ("a/api", "lb-x")]);
        let found = assigned(&requests, &named, &Assignments::new());
        assert_eq!(
            (of(&found, "a/web"), of(&found, "a/api")),
            (Ok(at(1)), Ok(at(7)))
        );
    }
}
