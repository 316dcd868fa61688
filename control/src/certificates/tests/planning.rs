//! What is done in each situation.

use std::time::Duration;

use super::super::channel::Which::{Authority, Control, Proxy};
use super::super::channel::{Channel, End, Names, Which};
use super::super::stored::{self, Authorities};
use super::super::{change, make};
use super::world::{World, trust_each_other};

const GRACE: Duration = Duration::from_mins(5);
const DAY: Duration = Duration::from_hours(24);

type Damage = fn(&mut World);

/// What is written after `damage` to a good world, and the beginnings of the reasons.
fn check(damage: impl FnOnce(&mut World), expected: &[(Which, &str)]) -> World {
    let mut world = World::good();
    damage(&mut world);
    let told = world.settle();
    let matches = told.len() == expected.len()
        && told
            .iter()
            .zip(expected)
            .all(|((which, why), (expected, reason))| which == expected && why.starts_with(reason));
    assert!(matches, "{told:?} instead of {expected:?}");
    let (proxy, control) = (world.holding(End::Proxy), world.holding(End::Control));
    assert!(trust_each_other(&proxy, &control, world.now));
    world
}

fn set(world: &mut World, which: Which, name: &str, value: &[u8]) {
    world
        .stored(which)
        .data
        .insert(name.to_owned(), value.to_vec());
}

fn get(world: &mut World, which: Which, name: &str) -> Vec<u8> {
    world.stored(which).data[name].clone()
}

#[test]
fn the_first_start_makes_everything_and_the_second_nothing() {
    let mut world = World::empty();
    let told = world.settle();
    let expected = [
        (Authority, "the CA is missing"),
        (Proxy, "their certificate is missing"),
        (Control, "their certificate is missing"),
    ];
    assert_eq!(told, expected.map(|(which, why)| (which, why.to_owned())));
    for time in [Duration::ZERO, GRACE, DAY, 58 * DAY] {
        world.pass(time);
        assert_eq!(world.settle(), [], "after {time:?}");
    }
}

#[test]
fn leaves_are_renewed_at_two_thirds_of_their_life_one_after_the_other() {
    let mut world = World::good();
    world.pass(60 * DAY);
    let why = "two thirds of their certificate's life are over";
    assert_eq!(world.settle(), [(Proxy, why.to_owned())]);
    assert_eq!(world.settle(), []);
    world.pass(GRACE);
    assert_eq!(world.settle(), [(Control, why.to_owned())]);
    world.pass(59 * DAY);
    assert_eq!(world.settle(), []);
}

#[test]
fn a_damaged_leaf_is_issued_anew() {
    let cases: &[(Damage, &str)] = &[
        (
            |world| world.secrets[Proxy as usize] = None,
            "their certificate is missing",
        ),
        (
            |world| drop(world.stored(Proxy).data.remove("tls.key")),
            "their certificate is missing",
        ),
        (
            |world| set(world, Proxy, "tls.crt", b"\xff"),
            "their certificate cannot be read",
        ),
        (
            |world| set(world, Proxy, "tls.key", b"\xff"),
            "their certificate cannot be read",
        ),
        (
            |world| {
                let other = get(world, Control, "tls.key");
                set(world, Proxy, "tls.key", &other);
            },
            "their certificate does not go with its key",
        ),
        (
            |world| {
                for name in ["tls.crt", "tls.key"] {
                    let other = get(world, Control, name);
                    set(world, Proxy, name, &other);
                }
            },
            "their certificate has other names",
        ),
        (
            |world| {
                let foreign = World::good();
                world.secrets[Proxy as usize] = foreign.secrets[Proxy as usize].clone();
            },
            "their certificate is expired, or not signed",
        ),
    ];
    for (damage, why) in cases {
        check(damage, &[(Proxy, why)]);
    }
    check(
        |world| world.settings.cluster = "west".to_owned(),
        &[(Control, "their certificate has other names")],
    );
    check(
        |world| world.pass(91 * DAY),
        &[
            (Proxy, "their certificate is expired"),
            (Control, "their certificate is expired"),
        ],
    );
}

#[test]
fn a_damaged_bundle_is_written_anew() {
    let why = "their bundle is not what it should be";
    let cases: &[fn(&mut World)] = &[
        |world| drop(world.stored(Control).data.remove("ca.crt")),
        |world| set(world, Control, "ca.crt", b"-----BEGIN nothing"),
        |world| {
            let twice = get(world, Control, "ca.crt").repeat(2);
            set(world, Control, "ca.crt", &twice);
        },
        |world| {
            let mut more = get(&mut World::good(), Control, "ca.crt");
            more.extend(get(world, Control, "ca.crt"));
            set(world, Control, "ca.crt", &more);
        },
    ];
    for damage in cases {
        let mut world = check(damage, &[(Control, why)]);
        assert_eq!(world.roots(), (1, 1));
        assert_eq!(world.settle(), []);
    }
}

#[test]
fn what_does_not_say_since_when_it_is_so_says_it_again() {
    let why = "nothing says since when";
    let world = check(|world| world.stored(Proxy).written = None, &[(Proxy, why)]);
    assert_eq!(world.holding(End::Proxy).written, Some(world.now));
    let far = |world: &mut World| world.stored(Proxy).written = Some(world.now + 1_000_000);
    check(far, &[(Proxy, why)]);
    // A clock that is a little ahead of ours.
    let near = |world: &mut World| world.stored(Proxy).written = Some(world.now + 100);
    check(near, &[]);
}

#[test]
fn a_lost_ca_is_restored_from_memory() {
    let cases: &[(Damage, &str)] = &[
        (
            |world| world.secrets[Authority as usize] = None,
            "the CA is missing; it is restored",
        ),
        (
            |world| set(world, Authority, "ca.key", b"x"),
            "the CA cannot be read; it is restored",
        ),
        (
            |world| {
                let other = get(&mut World::good(), Authority, "ca.key");
                set(world, Authority, "ca.key", &other);
            },
            "the CA does not go with its key; it is restored",
        ),
        (
            |world| {
                for (of, to) in [("tls.crt", "ca.crt"), ("tls.key", "ca.key")] {
                    let leaf = get(world, Proxy, of);
                    set(world, Authority, to, &leaf);
                }
            },
            "the CA is not one that Podline makes; it is restored",
        ),
    ];
    for (damage, why) in cases {
        let world = check(damage, &[(Authority, why)]);
        assert_eq!(world.of_newest(), (true, true));
    }
}

#[test]
fn a_ca_that_nobody_remembers_is_followed_without_a_gap() {
    let lose = |world: &mut World| {
        world.secrets[Authority as usize] = None;
        world.remembered = Authorities::default();
    };
    let bundle = "their bundle is not what it should be";
    let mut world = check(
        lose,
        &[
            (Authority, "the CA is missing"),
            (Proxy, bundle),
            (Control, bundle),
        ],
    );
    assert_eq!((world.roots(), world.of_newest()), ((2, 2), (false, false)));
    world.pass(GRACE * 99 / 100);
    assert_eq!(world.settle(), []);
    world.pass(GRACE / 100);
    // The second waits until the first is read.
    let why = "everybody trusts the new CA";
    assert_eq!(world.settle(), [(Proxy, why.to_owned())]);
    world.pass(GRACE);
    assert_eq!(world.settle(), [(Control, why.to_owned())]);
    assert_eq!((world.roots(), world.of_newest()), ((2, 2), (true, true)));
    world.pass(GRACE);
    assert_eq!(world.settle(), [(Proxy, bundle.to_owned())]);
    world.pass(GRACE);
    assert_eq!(world.settle(), [(Control, bundle.to_owned())]);
    assert_eq!(world.roots(), (1, 1));
    world.pass(GRACE);
    assert_eq!(world.settle(), []);
}

#[test]
fn a_bundle_that_is_lost_with_the_ca_is_put_together_from_the_other() {
    let lose = |world: &mut World| {
        world.secrets[Authority as usize] = None;
        world.secrets[Proxy as usize] = None;
        world.remembered = Authorities::default();
    };
    let mut world = World::good();
    lose(&mut world);
    let control = world.holding(End::Control);
    let told: Vec<_> = world.settle().into_iter().map(|(which, _)| which).collect();
    assert_eq!(told, [Authority, Proxy, Control]);
    // Proxies that read the new one still believe the controllers.
    assert_eq!(world.roots(), (2, 2));
    let leaf = control.leaf.unwrap();
    let roots = world.holding(End::Proxy).roots;
    assert!(leaf.signer(End::Control, &roots, world.now).is_some());
}

#[test]
fn a_ca_that_somebody_put_there_is_adopted() {
    let mut other = World::good();
    let adopt = move |world: &mut World| {
        for name in ["ca.crt", "ca.key"] {
            let value = get(&mut other, Authority, name);
            set(world, Authority, name, &value);
        }
    };
    let bundle = "their bundle is not what it should be";
    let mut world = check(adopt, &[(Proxy, bundle), (Control, bundle)]);
    for _ in 0..6 {
        world.pass(GRACE);
        world.settle();
    }
    assert_eq!((world.roots(), world.of_newest()), ((1, 1), (true, true)));
}

/// One whose CA was just replaced because it was due.
fn rotating() -> World {
    let mut world = World::good();
    let life = world.lives().authority;
    world.pass(life / 3 * 2);
    // Both leaves are long over; in a life that is not simulated they never are.
    world.settle();
    for which in [Proxy, Control] {
        world.stored(which).written = Some(world.now);
    }
    world
}

#[test]
fn while_the_ca_is_replaced_the_one_before_can_still_sign() {
    let mut world = rotating();
    assert_eq!((world.roots(), world.of_newest()), ((2, 2), (false, false)));
    world.secrets[Proxy as usize] = None;
    assert_eq!(
        world.settle(),
        [(Proxy, "their certificate is missing".to_owned())]
    );
    assert_eq!((world.roots(), world.of_newest()), ((2, 2), (false, false)));
    // Even from memory.
    world.secrets[Authority as usize] = None;
    assert_eq!(world.settle().len(), 1);
    assert_eq!((world.roots(), world.of_newest()), ((2, 2), (false, false)));
}

#[test]
fn a_newest_ca_that_is_lost_with_no_memory_leaves_the_one_before() {
    let mut world = rotating();
    world.remembered = Authorities::default();
    set(&mut world, Authority, "ca.key", b"x");
    let told = world.settle();
    assert!(
        told[0].1.ends_with("the one before is used again"),
        "{told:?}"
    );
    // It is due, so another follows it.
    assert!(told[1].1.starts_with("two thirds"), "{told:?}");
    assert!(trust_each_other(
        &world.holding(End::Proxy),
        &world.holding(End::Control),
        world.now
    ));
}

#[test]
fn a_proxy_that_lags_behind_is_waited_for_but_not_for_ever() {
    let mut world = rotating();
    world.readers.is_lagging = true;
    world.pass(DAY);
    assert_eq!(world.settle(), []);
    assert_eq!(world.of_newest(), (false, false));
    let mut patient = rotating();
    patient.readers.is_lagging = true;
    patient.pass(7 * DAY);
    assert_eq!(patient.settle().len(), 1);
    assert_eq!(patient.of_newest(), (true, false));
    world.readers.is_lagging = false;
    assert_eq!(world.settle().len(), 1);
    assert_eq!(world.of_newest(), (true, false));
}

#[test]
fn a_previous_ca_that_cannot_be_read_is_forgotten() {
    let spoil = |world: &mut World| set(world, Authority, "previous.key", b"x");
    let mut world = check(spoil, &[(Authority, "the CA before cannot be used")]);
    assert!(!world.stored(Authority).data.contains_key("previous.key"));
}

#[test]
fn what_is_not_ours_in_a_secret_stays() {
    let add = |world: &mut World| {
        set(world, Proxy, "extra", b"1");
        set(world, Proxy, "tls.crt", b"");
    };
    let mut world = check(add, &[(Proxy, "their certificate cannot be read")]);
    assert_eq!(get(&mut world, Proxy, "extra"), b"1");
}

#[test]
fn a_cluster_whose_name_is_no_part_of_a_uri_is_a_mistake_of_the_settings() {
    let mut world = World::good();
    world.settings.cluster = "öst".to_owned();
    let error = change::next(
        &world.secrets,
        &world.remembered,
        &world.readers,
        &world.settings,
        world.now,
    );
    assert_eq!(error.unwrap_err().0, Control);
}

#[test]
fn leaves_have_their_names_and_uses_and_no_others() {
    let world = World::good();
    for (end, other) in [(End::Proxy, End::Control), (End::Control, End::Proxy)] {
        let leaf = world.holding(end).leaf.unwrap();
        let roots = world.holding(other).roots;
        let (own, west) = (
            world.settings.names(),
            Names {
                cluster: "west",
                namespace: "x",
            },
        );
        assert!(leaf.is_named(end, own) && !leaf.is_named(other, own));
        assert_eq!(leaf.is_named(end, west), end == End::Proxy);
        assert!(leaf.signer(end, &roots, world.now).is_some());
        assert!(leaf.signer(other, &roots, world.now).is_none());
    }
    // Neither can sign another.
    let leaf = world.holding(End::Control).leaf.unwrap();
    let forged = make::leaf(
        Channel::Control,
        End::Proxy,
        world.settings.names(),
        &leaf,
        &world.lives(),
        world.now,
    );
    let forged = forged.unwrap();
    let roots = [world.newest(), leaf.certificate];
    assert!(forged.signer(End::Proxy, &roots, world.now).is_none());
}

#[test]
fn keys_are_never_shown() {
    let mut world = World::good();
    let key = String::from_utf8(get(&mut world, Authority, "ca.key")).unwrap();
    let secret_part = key.lines().nth(1).unwrap();
    let (authorities, _) = stored::authorities(Channel::Control, world.secrets[0].as_ref());
    let shown = format!(
        "{:?} {authorities:?} {:?}",
        world.secrets,
        world.holding(End::Control)
    );
    assert!(
        !shown.contains(secret_part) && !shown.contains("PRIVATE"),
        "{shown}"
    );
}
