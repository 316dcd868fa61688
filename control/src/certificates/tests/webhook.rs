//! The webhooks' channel: one end shows something, and those that call it trust what the configurations say.

use std::time::Duration;

use super::super::bundle::common;
use super::super::channel::Which::{Authority, Webhook};
use super::super::channel::{Channel, End, Which};
use super::super::plan::Callers;
use super::super::stored::{self, Authorities, Holding};
use super::super::x509::Certificate;
use super::world::World;

const GRACE: Duration = Duration::from_secs(30);
const DAY: Duration = Duration::from_hours(24);

/// The configurations, written as soon as somebody may write them.
struct Registered {
    world: World,
    /// What each configuration has in its bundle, in PEM.
    bundles: [Vec<u8>; 2],
    /// Nobody may write the second one.
    is_stuck: bool,
    /// When what they have in common last changed.
    changed: i64,
    /// What a replica may still show: when it was replaced.
    shown: Vec<(Holding, i64)>,
}

impl Registered {
    fn new() -> Self {
        let mut registered = Self {
            world: World::of(Channel::Webhook),
            bundles: [Vec::new(), Vec::new()],
            is_stuck: false,
            changed: 0,
            shown: Vec::new(),
        };
        registered.changed = registered.world.now;
        registered.tell();
        registered
    }

    fn holding(&self) -> Holding {
        self.world.holding(End::Webhook)
    }

    /// What the keeper is told of the callers.
    fn tell(&mut self) {
        let common = common(&self.bundles);
        let callers = Callers::new(&common, self.changed);
        self.world.readers.callers = Some(callers);
    }

    /// Does what is to be done now, as the keeper and the repair do it together.
    fn settle(&mut self) -> Vec<(Which, String)> {
        let mut told = Vec::new();
        loop {
            let before = self.world.secrets[Webhook as usize]
                .as_ref()
                .map(|_| self.holding());
            let steps = self.world.settle();
            if steps.is_empty() {
                return told;
            }
            told.extend(steps);
            let now = self.holding();
            // What no configuration trusts is not shown in the first place.
            let is_shown = |before: &Holding| before.leaf != now.leaf && self.is_trusted(before);
            if let Some(before) = before.filter(is_shown) {
                self.shown.push((before, self.world.now));
            }
            self.register();
            self.check();
        }
    }

    fn is_trusted(&self, holding: &Holding) -> bool {
        let roots = Certificate::list(&common(&self.bundles)).0;
        let leaf = holding.leaf.as_ref();
        leaf.is_ok_and(|leaf| leaf.signer(End::Webhook, &roots, self.world.now).is_some())
    }

    fn register(&mut self) {
        let bundle = Certificate::pem(&self.holding().roots).into_bytes();
        let before = common(&self.bundles);
        self.bundles[0].clone_from(&bundle);
        if !self.is_stuck {
            self.bundles[1] = bundle;
        }
        if common(&self.bundles) != before {
            self.changed = self.world.now;
        }
        self.tell();
    }

    /// Whatever a replica shows, also one that reads late, is trusted by both configurations.
    fn check(&mut self) {
        let now = self.world.now;
        self.shown.retain(|(_, replaced)| now - replaced < 10);
        let mut served: Vec<_> = self
            .shown
            .iter()
            .map(|(holding, _)| holding.clone())
            .collect();
        served.push(self.holding());
        for holding in served {
            let leaf = holding.leaf.unwrap();
            if leaf.certificate.is_expired(now) {
                continue;
            }
            for bundle in &self.bundles {
                let (roots, is_clean) = Certificate::list(bundle);
                assert!(is_clean && roots.len() <= 3);
                let trusted = leaf.signer(End::Webhook, &roots, now);
                assert!(trusted.is_some(), "at {now}");
            }
        }
    }
}

#[test]
fn the_leaf_has_the_names_of_the_service_and_serves() {
    let mut registered = Registered::new();
    let told = registered.settle();
    let expected = [
        (Authority, "the CA is missing".to_owned()),
        (Webhook, "their certificate is missing".to_owned()),
    ];
    assert_eq!(told, expected);
    let leaf = registered.holding().leaf.unwrap();
    let names = End::Webhook.dns_names(registered.world.settings.names());
    let expected = [
        "podline-webhook.podline-system.svc",
        "podline-webhook.podline-system.svc.cluster.local",
    ];
    assert_eq!(names, expected);
    assert!(leaf.is_named(End::Webhook, registered.world.settings.names()));
    let roots = registered.holding().roots;
    assert!(
        leaf.signer(End::Webhook, &roots, registered.world.now)
            .is_some()
    );
    assert!(
        leaf.signer(End::Control, &roots, registered.world.now)
            .is_none()
    );
    for time in [Duration::ZERO, GRACE, DAY, 58 * DAY] {
        registered.world.pass(time);
        assert_eq!(registered.settle(), [], "after {time:?}");
    }
}

#[test]
fn nobody_shows_what_a_configuration_does_not_trust_in_ten_years() {
    let mut registered = Registered::new();
    registered.settle();
    let (mut rotations, mut newest) = (0, registered.world.newest());
    let end = registered.world.now + 10 * 365 * 24 * 3_600;
    let mut quiet = 0;
    while registered.world.now < end {
        quiet = if registered.settle().is_empty() {
            quiet + 1
        } else {
            0
        };
        if registered.world.newest() != newest {
            rotations += 1;
            newest = registered.world.newest();
        }
        registered.check();
        if quiet > 20 {
            assert_eq!(registered.holding().roots.len(), 1);
            registered.world.pass(2 * DAY);
        } else {
            registered.world.pass(Duration::from_secs(5));
        }
    }
    assert_eq!(rotations, 7);
}

/// One whose CA is due and was just followed by another.
fn rotating() -> Registered {
    let mut registered = Registered::new();
    registered.settle();
    let two_thirds = registered.world.lives().authority / 3 * 2;
    registered.world.pass(two_thirds);
    // Renewed long before: in a life that is not simulated it is never old.
    registered.world.secrets[Webhook as usize] = None;
    registered.settle();
    registered
}

fn is_of_newest(registered: &Registered) -> bool {
    let newest = [registered.world.newest()];
    let leaf = registered.holding().leaf.unwrap();
    let now = registered.world.now;
    leaf.signer(End::Webhook, &newest, now).is_some()
}

#[test]
fn a_new_ca_signs_when_both_configurations_have_had_it_for_the_grace() {
    let mut registered = rotating();
    assert!(!is_of_newest(&registered));
    assert_eq!(registered.holding().roots.len(), 2);
    registered
        .world
        .pass(GRACE.saturating_sub(Duration::from_secs(1)));
    assert_eq!(registered.settle(), []);
    registered.world.pass(Duration::from_secs(1));
    assert_eq!(
        registered.settle(),
        [(Webhook, "everybody trusts the new CA".to_owned())]
    );
    assert!(is_of_newest(&registered));
    registered.world.pass(GRACE);
    let told: Vec<_> = registered
        .settle()
        .into_iter()
        .map(|(which, _)| which)
        .collect();
    assert_eq!(told, [Authority, Webhook]);
    assert_eq!(registered.holding().roots.len(), 1);
}

#[test]
fn a_configuration_that_cannot_be_written_holds_the_new_ca_up() {
    let mut registered = Registered::new();
    registered.settle();
    registered.is_stuck = true;
    registered
        .world
        .pass(registered.world.lives().authority / 3 * 2);
    registered.world.secrets[Webhook as usize] = None;
    registered.settle();
    registered.world.pass(DAY);
    assert_eq!(registered.settle(), []);
    assert!(!is_of_newest(&registered));
    // It is written at last, and the grace begins then.
    registered.is_stuck = false;
    registered.register();
    registered.world.pass(GRACE / 2);
    assert_eq!(registered.settle(), []);
    registered.world.pass(GRACE / 2);
    assert_eq!(registered.settle().len(), 1);
    assert!(is_of_newest(&registered));
}

#[test]
fn a_secret_that_makes_itself_good_is_not_believed() {
    let mut registered = Registered::new();
    registered.settle();
    let mut other = Registered::new();
    other.settle();
    registered.world.secrets[Webhook as usize] = other.world.secrets[Webhook as usize].clone();
    let told = registered.settle();
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(
        told[0]
            .1
            .starts_with("their certificate is expired, or not signed")
    );
    assert!(is_of_newest(&registered));
    assert_eq!(registered.holding().roots.len(), 1);
}

#[test]
fn a_ca_that_nobody_remembers_is_followed_without_a_gap() {
    let mut registered = Registered::new();
    registered.settle();
    let before = registered.holding();
    registered.world.secrets[Authority as usize] = None;
    registered.world.remembered = Authorities::default();
    registered.settle();
    // What was shown before is shown still, and trusted.
    assert_eq!(registered.holding().leaf, before.leaf);
    assert_eq!(registered.holding().roots.len(), 2);
    for _ in 0..20 {
        registered.world.pass(GRACE / 2);
        registered.settle();
        registered.check();
    }
    assert!(is_of_newest(&registered));
    assert_eq!(registered.holding().roots.len(), 1);
}

#[test]
fn a_ca_of_the_other_channel_is_none_of_this() {
    let mut registered = Registered::new();
    registered.settle();
    let control = World::good();
    registered.world.secrets[Authority as usize] = control.secrets[Authority as usize].clone();
    let told = registered.settle();
    let why = "the CA is not one that Podline makes; it is restored from memory";
    assert_eq!(told, [(Authority, why.to_owned())]);
}

#[test]
fn only_what_somebody_broke_is_damage() {
    let mut registered = Registered::new();
    registered.settle();
    // A rotation from its beginning to its end is none.
    registered.world.pass(60 * DAY);
    let is_damage = |registered: &mut Registered| {
        let told = registered.world.settle_and_tell();
        registered.register();
        told.into_iter()
            .map(|(_, why)| why.is_damage)
            .collect::<Vec<_>>()
    };
    assert_eq!(is_damage(&mut registered), [false], "renewed");
    registered
        .world
        .pass(registered.world.lives().authority / 3 * 2);
    let leaf = stored::holding(registered.world.secrets[Webhook as usize].as_ref()).leaf;
    assert!(leaf.is_ok_and(|leaf| leaf.certificate.is_expired(registered.world.now)));
    let mut rotation = rotating();
    let mut all = Vec::new();
    for _ in 0..20 {
        rotation.world.pass(GRACE / 2);
        all.extend(is_damage(&mut rotation));
    }
    assert_eq!(all, [false; 3]);
    rotation.world.stored(Webhook).data.remove("tls.key");
    assert_eq!(is_damage(&mut rotation), [true]);
    rotation.world.stored(Webhook).data.remove("ca.crt");
    assert_eq!(is_damage(&mut rotation), [true]);
}
