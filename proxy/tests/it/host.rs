//! What Podline asks of the kernel: tables of rules, routing rules, routes and neighbours, in a network namespace.

use std::net::IpAddr;

use podline_lab::{Lab, Namespace, require_netns, wait};
use podline_proxy::host::links::LinkKind;
use podline_proxy::host::nft::{Action, Chain, Hook, Match, Rule, Ruleset, Seen, Table, Transport};
use podline_proxy::host::routes::{Route, Way, default_of};
use podline_proxy::host::rules::MarkRule;
use podline_proxy::host::{Bits, Family, HostError, Mac, Routing};

use crate::harness::SECOND;

const BITS: Bits = Bits::new(0x701, 0xfff).unwrap();
const TABLE: &str = "podline_test";

/// One of each match and action.
fn everything() -> Ruleset {
    let network = |text: &str| text.parse().unwrap();
    let prerouting = [
        Rule::new(
            [Match::Protocol(Transport::Tcp), Match::TransparentSocket],
            [Action::SetMark(BITS)],
        )
        .comment("replies to transparent sockets"),
        Rule::new(
            [
                Match::From("eth0".to_owned()),
                Match::EtherSource(Mac([2, 0, 0, 0, 0, 1])),
                Match::Original,
                Match::NotConnectionMark(BITS),
            ],
            [Action::SetConnectionMark(BITS)],
        ),
        Rule::new(
            [
                Match::NotFrom("eth0".to_owned()),
                Match::Reply,
                Match::ConnectionMark(BITS),
            ],
            [Action::SetMark(BITS), Action::Return],
        ),
        Rule::new(
            [
                Match::Related,
                Match::NotEtherSource(Mac([2, 0, 0, 0, 0, 1])),
                Match::Mark(BITS),
                Match::NotSource(network("10.0.0.0/9")),
                Match::Destination(network("fd00:1::/33")),
            ],
            [Action::ClearConnectionMark(BITS), Action::Accept],
        ),
    ];
    let chain = |name: &str, hook, priority, rules: Vec<Rule>| Chain {
        name: name.to_owned(),
        hook,
        priority,
        rules,
    };
    let source = [Family::V4, Family::V6].map(|family| {
        Rule::new(
            [Match::To("eth0".to_owned()), Match::New],
            [Action::KeepSource(family)],
        )
    });
    let masquerade = Rule::new(
        [
            Match::Family(Family::V6),
            Match::Source(network("fd00::/64")),
            Match::NotDestination(network("fd00::1/128")),
        ],
        [Action::Masquerade],
    );
    Ruleset {
        family: None,
        table: TABLE.to_owned(),
        comment: "podline's tests".to_owned(),
        chains: vec![
            chain("pre", Hook::Prerouting, Chain::MANGLE, prerouting.into()),
            chain("route", Hook::Output, Chain::MANGLE + 1, Vec::new()),
            chain("out", Hook::OutputFilter, Chain::MANGLE, Vec::new()),
            chain(
                "leave",
                Hook::Postrouting,
                Chain::MANGLE,
                vec![Rule::new([Match::Mark(BITS)], [Action::ClearMark(BITS)])],
            ),
            chain(
                "post",
                Hook::PostroutingNat,
                Chain::SOURCE_NAT - 1,
                source.into_iter().chain([masquerade]).collect(),
            ),
        ],
    }
}

fn in_namespace<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    if !require_netns() {
        return None;
    }
    let lab = Lab::new().unwrap();
    let namespace = lab.namespace("host").unwrap();
    Some(namespace.run(work))
}

#[test]
fn a_table_is_put_looked_at_and_removed() {
    in_namespace(|| {
        let mut table = Table::open(TABLE).unwrap();
        assert_eq!(table.look().unwrap(), Seen::Missing);
        for _ in 0..2 {
            table.put(&everything()).unwrap();
            assert_eq!(table.look().unwrap(), Seen::AsPut);
        }
        let mut other = Table::open("another").unwrap();
        let ruleset = Ruleset {
            table: "another".to_owned(),
            ..everything()
        };
        other.put(&ruleset).unwrap();
        assert_eq!(table.look().unwrap(), Seen::AsPut, "others do not matter");
        assert!(table.remove().unwrap());
        assert_eq!(table.look().unwrap(), Seen::Missing);
        assert!(!table.remove().unwrap());
        assert_eq!(other.look().unwrap(), Seen::AsPut);
    });
}

#[test]
fn a_change_by_somebody_else_is_seen() {
    in_namespace(|| {
        let mut table = Table::open(TABLE).unwrap().shared();
        let mut other = Table::open(TABLE).unwrap().shared();
        let changes: [fn(&mut Ruleset); 5] = [
            |ruleset| drop(ruleset.chains[0].rules.remove(1)),
            |ruleset| ruleset.chains[0].rules[0].comment.push('x'),
            |ruleset| ruleset.chains[4].priority += 1,
            |ruleset| drop(ruleset.chains.pop()),
            |ruleset| ruleset.chains[0].rules.swap(1, 2),
        ];
        for change in changes {
            table.put(&everything()).unwrap();
            assert!(!table.is_owned());
            let mut ruleset = everything();
            change(&mut ruleset);
            other.put(&ruleset).unwrap();
            assert_eq!(table.look().unwrap(), Seen::Changed);
        }
        assert!(other.remove().unwrap());
        assert_eq!(table.look().unwrap(), Seen::Missing);
    });
}

#[test]
fn a_table_is_ours_alone_and_stays_for_the_next_process() {
    in_namespace(|| {
        let mut first = Table::open(TABLE).unwrap();
        first.put(&everything()).unwrap();
        if !first.is_owned() {
            return; // before Linux 6.9
        }
        let mut second = Table::open(TABLE).unwrap();
        let refused = |result: Result<(), HostError>| {
            let error = result.unwrap_err();
            assert!(error.is_denied(), "{error:?}");
            let words = std::error::Error::source(&error).unwrap().to_string();
            assert!(words.contains("another process holds it"), "{words}");
        };
        refused(second.put(&everything()));
        refused(second.remove().map(drop));
        assert_eq!(first.look().unwrap(), Seen::AsPut);
        drop(first);
        assert_eq!(second.look().unwrap(), Seen::Changed, "it is still there");
        second.put(&everything()).unwrap();
        assert!(second.is_owned());
        assert_eq!(second.look().unwrap(), Seen::AsPut);
    });
}

#[test]
fn rules_and_routes_are_made_listed_and_removed() {
    in_namespace(|| {
        let mut routing = Routing::open().unwrap();
        let loopback = routing.links().unwrap()[0].clone();
        assert_eq!((&*loopback.name, loopback.kind), ("lo", LinkKind::Loopback));
        for family in Routing::families() {
            let rule = MarkRule {
                family,
                priority: 700,
                mark: BITS,
                table: 701,
            };
            let other = MarkRule {
                table: 702,
                priority: 701,
                ..rule
            };
            for rule in [rule, rule, other] {
                routing.add_rule(rule).unwrap();
            }
            assert_eq!(routing.rules(family).unwrap(), [rule, other]);
            routing.delete_rule(rule).unwrap();
            routing.delete_rule(rule).unwrap();
            assert_eq!(routing.rules(family).unwrap(), [other]);

            assert_eq!(routing.routes(family, Some(701)).unwrap(), []);
            let route = Route {
                table: 701,
                to: default_of(family),
                way: Way::Local {
                    link: loopback.index,
                },
            };
            let other = Route {
                table: 702,
                ..route
            };
            for route in [route, other, route] {
                routing.replace_route(route).unwrap();
            }
            assert_eq!(routing.routes(family, Some(701)).unwrap(), [route]);
            let mut all = routing.routes(family, None).unwrap();
            all.sort_unstable();
            assert_eq!(all, [route, other]);
            routing.delete_route(route).unwrap();
            routing.delete_route(route).unwrap();
            assert_eq!(routing.routes(family, None).unwrap(), [other]);
        }
    });
}

fn addressed(namespace: &Namespace, host: u8) {
    for address in addresses(host) {
        let prefix = if address.is_ipv4() { 24 } else { 64 };
        namespace.address("eth0", address, prefix).unwrap();
    }
}

fn addresses(host: u8) -> [IpAddr; 2] {
    [format!("10.88.0.{host}"), format!("fd00:88::{host}")].map(|text| text.parse().unwrap())
}

#[test]
fn neighbours_are_found_and_routes_go_by_them() {
    if !require_netns() {
        return;
    }
    let lab = Lab::new().unwrap();
    let (here, there) = (
        lab.namespace("here").unwrap(),
        lab.namespace("there").unwrap(),
    );
    here.join("eth0", &there, "eth0").unwrap();
    addressed(&here, 1);
    addressed(&there, 2);
    let eth0 = || {
        let mut links = Routing::open().unwrap().links().unwrap();
        links.retain(|link| link.name == "eth0");
        links.remove(0)
    };
    let theirs = there.run(eth0).mac.unwrap();
    here.run(move || {
        let mut routing = Routing::open().unwrap();
        let link = eth0();
        assert!(link.is_up && link.kind == LinkKind::Other);
        for (family, address) in Routing::families().zip(addresses(2)) {
            let own = addresses(1)[usize::from(family == Family::V6)];
            // An IPv6 address is there a little later.
            wait::until(5 * SECOND, "our own address is local", || {
                let hop = routing.next_hop(own).unwrap();
                hop.is_some_and(|hop| hop.is_local)
            });
            let hop = routing.next_hop(address).unwrap().unwrap();
            assert_eq!((hop.link, hop.gateway), (link.index, None));
            assert!(!hop.is_local);
            assert_eq!(hop.source, Some(own));
            let listed = routing.host_addresses(family).unwrap();
            let mine = listed
                .iter()
                .any(|one| one.link == link.index && one.network.addr() == own);
            assert!(mine, "{listed:?}");

            routing.resolve(link.index, address).unwrap();
            wait::until(5 * SECOND, "the neighbour answers", || {
                routing.neighbour(link.index, address).unwrap() == Some(theirs)
            });
            let known = routing.neighbours(family, link.index).unwrap();
            let found = known
                .iter()
                .any(|one| one.address == address && one.mac == theirs);
            assert!(found, "{known:?}");

            let route = Route {
                table: 701,
                to: default_of(family),
                way: Way::Via {
                    gateway: address,
                    link: link.index,
                },
            };
            routing.replace_route(route).unwrap();
            assert_eq!(routing.routes(family, Some(701)).unwrap(), [route]);
            let nowhere = ["203.0.113.1", "2001:db8::1"].map(|text| text.parse().unwrap());
            let nowhere = nowhere[usize::from(family == Family::V6)];
            assert_eq!(routing.next_hop(nowhere).unwrap(), None);
        }
    });
}
