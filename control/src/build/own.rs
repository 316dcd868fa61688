//! An object that becomes listeners, of whichever kind: what a build asks of it. Pure.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::addresses::{self, OfFamily};
use super::annotation::Settings;
use super::claim::{self, Claim};
use super::config::{Kept, Owner};
use super::places::Place;
use super::plan::{self, Input, Plan, Planned};
use super::{Options, ingress};
use crate::allocate::Request;
use crate::cluster::{Cluster, Entry, Family, Front, IngressEntry, Switches};

/// A Service or an Ingress, with what its annotations say.
#[derive(Clone, Copy)]
pub(super) enum Own<'a> {
    Service(&'a Entry),
    Ingress(&'a IngressEntry),
}

impl<'a> Own<'a> {
    /// The object, if it is there.
    pub(super) fn find(cluster: &'a Cluster, front: &Front) -> Option<Self> {
        match front {
            Front::Service(key) => cluster.service(key).map(|entry| Self::Service(entry)),
            Front::Ingress(key) => cluster.ingress(key).map(|entry| Self::Ingress(entry)),
        }
    }

    /// Whose it is.
    pub(super) fn claim(self, options: &Options) -> Claim {
        match self {
            Self::Service(entry) => claim::claim(&entry.service, options),
            Self::Ingress(entry) => ingress::claim(&entry.ingress, options),
        }
    }

    pub(super) const fn owner(self, front: &'a Front) -> Owner<'a> {
        match self {
            Self::Service(entry) => Owner::service(front, entry),
            Self::Ingress(entry) => Owner::ingress(front, entry),
        }
    }

    pub(super) const fn settings(self) -> &'a Settings {
        match self {
            Self::Service(entry) => &entry.annotations.settings,
            Self::Ingress(entry) => &entry.annotations.settings,
        }
    }

    pub(super) const fn uid(self) -> &'a Arc<str> {
        match self {
            Self::Service(entry) => &entry.service.uid,
            Self::Ingress(entry) => &entry.ingress.uid,
        }
    }

    /// Our finalizer is on it.
    pub(super) fn is_held(self) -> bool {
        match self {
            Self::Service(entry) => entry.service.is_held(),
            Self::Ingress(entry) => entry.ingress.is_held(),
        }
    }

    /// Who comes first where two want one thing.
    pub(super) fn rank(self) -> (i64, Arc<str>) {
        match self {
            Self::Service(entry) => entry.service.rank(),
            Self::Ingress(entry) => entry.ingress.rank(),
        }
    }

    /// Those that it is listened for in.
    pub(super) fn families(self, cluster: &Cluster) -> Vec<Family> {
        match self {
            Self::Service(entry) => entry.service.families.clone(),
            Self::Ingress(entry) => ingress::families(cluster, &entry.ingress),
        }
    }

    /// What it asks of the pool.
    pub(super) fn request(self, cluster: &Cluster) -> Request {
        match self {
            Self::Service(entry) => addresses::request(entry),
            Self::Ingress(entry) => ingress::request(entry, self.families(cluster)),
        }
    }

    /// Which places it wants.
    pub(super) fn places(self, addresses: &[OfFamily], options: &Options) -> BTreeSet<Place> {
        match self {
            Self::Service(entry) => plan::places(&entry.service, addresses, options),
            Self::Ingress(entry) => ingress::places(entry, addresses, options),
        }
    }

    /// What it becomes. `kept`: what TkeServiceConfigs have set of it so far, if that is remembered.
    pub(super) fn plan(self, input: &Input<'_>, kept: Option<&Kept>) -> Planned {
        match self {
            Self::Service(entry) => plan::plan(input, entry, kept),
            Self::Ingress(entry) => ingress::plan(input, entry, kept),
        }
    }

    /// One that has nothing yet.
    pub(super) fn nothing(self, switches: &Switches, options: &Options) -> Plan {
        match self {
            Self::Service(entry) => plan::nothing(entry, switches, options),
            Self::Ingress(entry) => ingress::nothing(entry, switches, options),
        }
    }

    /// Whether its traffic goes straight to Pods, and new ones join them.
    pub(super) fn is_direct(self, switches: &Switches, options: &Options) -> bool {
        let mode = plan::mode(self.settings(), self.is_held(), switches, options).0;
        !self.settings().skip && mode == super::Mode::Direct
    }
}
