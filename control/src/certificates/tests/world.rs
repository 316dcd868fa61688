//! A channel's Secrets, a clock that is set by hand, and a keeper's memory.

use std::time::Duration;

use super::super::change::{self, Readers, Secrets};
use super::super::channel::{Channel, End, Which};
use super::super::plan::Why;
use super::super::stored::{self, Authorities, Holding, Stored};
use super::super::x509::Certificate;
use super::super::{Lives, Settings};

/// In 2025.
pub(super) const START: i64 = 1_750_000_000;

pub(super) struct World {
    pub(super) secrets: Secrets,
    pub(super) remembered: Authorities,
    pub(super) readers: Readers,
    pub(super) settings: Settings,
    pub(super) now: i64,
}

impl World {
    /// With no Secrets.
    pub(super) fn empty() -> Self {
        Self::of(Channel::Control)
    }

    /// With no Secrets, of a channel.
    pub(super) fn of(channel: Channel) -> Self {
        Self {
            secrets: Secrets::default(),
            remembered: Authorities::default(),
            readers: Readers::default(),
            settings: Settings::new(channel, "podline-system", "east"),
            now: START,
        }
    }

    /// With good ones, which everybody has read.
    pub(super) fn good() -> Self {
        let mut world = Self::empty();
        world.settle();
        world.pass(Duration::from_hours(1));
        assert_eq!(world.settle(), []);
        world
    }

    pub(super) fn lives(&self) -> Lives {
        self.settings.lives
    }

    pub(super) fn pass(&mut self, time: Duration) {
        self.now += i64::try_from(time.as_secs()).unwrap();
    }

    /// Does what is to be done now; tells what was written and why.
    pub(super) fn settle(&mut self) -> Vec<(Which, String)> {
        let told = self.settle_and_tell();
        told.into_iter()
            .map(|(which, why)| (which, why.text))
            .collect()
    }

    /// The same, and whether it was damage.
    pub(super) fn settle_and_tell(&mut self) -> Vec<(Which, Why)> {
        let mut told = Vec::new();
        loop {
            if let Some(found) = change::memory(self.settings.channel, &self.secrets) {
                self.remembered = found;
            }
            let change = change::next(
                &self.secrets,
                &self.remembered,
                &self.readers,
                &self.settings,
                self.now,
            );
            let Some(change) = change.unwrap() else {
                return told;
            };
            self.secrets[change.which as usize] = Some(change.stored);
            told.push((change.which, change.why));
            assert!(told.len() < 9, "it never ends: {told:?}");
        }
    }

    pub(super) fn stored(&mut self, which: Which) -> &mut Stored {
        self.secrets[which as usize].as_mut().unwrap()
    }

    pub(super) fn holding(&self, end: End) -> Holding {
        stored::holding(self.secrets[Which::from(end) as usize].as_ref())
    }

    /// The CA that signs.
    pub(super) fn newest(&self) -> Certificate {
        let (authorities, _) = stored::authorities(self.settings.channel, self.secrets[0].as_ref());
        authorities.newest.unwrap().certificate
    }

    /// How many CAs each end trusts: proxies, controllers.
    pub(super) fn roots(&self) -> (usize, usize) {
        let count = |end| self.holding(end).roots.len();
        (count(End::Proxy), count(End::Control))
    }

    /// Whose leaves are of the newest CA: proxies', controllers'.
    pub(super) fn of_newest(&self) -> (bool, bool) {
        let newest = [self.newest()];
        let is = |end| {
            self.holding(end)
                .leaf
                .unwrap()
                .signer(end, &newest, self.now)
                .is_some()
        };
        (is(End::Proxy), is(End::Control))
    }
}

/// Whether a proxy and a controller that have loaded these trust each other.
pub(super) fn trust_each_other(proxy: &Holding, control: &Holding, now: i64) -> bool {
    let good = |own: &Holding, end, other: &Holding| {
        let leaf = own.leaf.as_ref().unwrap();
        leaf.signer(end, &other.roots, now).is_some()
    };
    good(proxy, End::Proxy, control) && good(control, End::Control, proxy)
}
