//! What has to be written so that a Service says what it should. Pure.

use std::collections::BTreeMap;

use super::wish::{Condition, Wish};
use crate::build::annotation::{BALANCER, DIRECT_ACCESS, KEPT_CONFIG, LAST_GOOD};
use crate::build::note::Note;
use crate::cluster::Service;
use crate::cluster::service::{Ingress, OwnCondition};

/// What has to be written. The default is nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Writes {
    /// Finalizer and annotations: all of ours.
    pub metadata: Option<Metadata>,
    /// The annotation that makes it direct.
    pub make_direct: bool,
    /// Status: all of ours.
    pub status: Option<Status>,
    /// Facts that began to hold, for events.
    pub news: Vec<Note>,
}

/// Our part of a Service's metadata.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Metadata {
    /// With our finalizer, or without.
    pub is_held: bool,
    /// Annotations of ours.
    pub annotations: BTreeMap<&'static str, String>,
}

/// Our part of a Service's status.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// All of it.
    pub ingress: Vec<Ingress>,
    /// Of ours, with the time since when, if that is known and does not begin now.
    pub conditions: BTreeMap<&'static str, (Condition, Option<String>)>,
}

impl Writes {
    /// Nothing is to be written.
    pub fn is_none(&self) -> bool {
        *self == Self::default()
    }
}

/// Compares what a Service says with what it should.
pub fn difference(service: &Service, wish: &Wish) -> Writes {
    let told = |note: &&Note| {
        let text = note.to_string();
        service
            .conditions
            .values()
            .any(|condition| condition.message.contains(&text))
    };
    let news = wish
        .notes
        .iter()
        .filter(|note| !told(note))
        .cloned()
        .collect();
    if wish.hands_off {
        return Writes {
            news,
            ..Writes::default()
        };
    }
    let metadata = metadata(
        service.is_held(),
        &service.annotations,
        wish.is_held,
        &wish.annotations,
    );
    Writes {
        metadata,
        make_direct: wish.becomes_direct && !service.annotations.contains_key(DIRECT_ACCESS),
        status: status(service, wish),
        news,
    }
}

/// What has to be written of the metadata of one that stands like this.
pub(super) fn metadata(
    is_held: bool,
    said: &BTreeMap<String, String>,
    held: bool,
    wished: &BTreeMap<&'static str, String>,
) -> Option<Metadata> {
    let says = |key: &'static str| said.get(key).map(|text| (key, text.clone()));
    let mut annotations: BTreeMap<_, _> = [LAST_GOOD, KEPT_CONFIG]
        .into_iter()
        .filter_map(says)
        .collect();
    // Where we say nothing a manifest may: it is not ours to take away.
    let says_balancer = wished.contains_key(BALANCER);
    annotations.extend(says(BALANCER).filter(|_| says_balancer));
    (is_held != held || annotations != *wished).then(|| Metadata {
        is_held: held,
        annotations: wished.clone(),
    })
}

fn status(service: &Service, wish: &Wish) -> Option<Status> {
    // The API server keeps the status of load balancers only, and clears it by itself where the type changes.
    let ingress = match &wish.ingress {
        Some(ingress) if service.is_load_balancer => ingress,
        _ => &service.ingress,
    };
    let wished = wish.conditions.as_ref()?;
    let same = |wished: &BTreeMap<&'static str, Condition>| {
        wished.len() == service.conditions.len()
            && wished.iter().all(|(kind, new)| {
                service
                    .conditions
                    .get(*kind)
                    .is_some_and(|old| is_same(old, new))
            })
    };
    if *ingress == service.ingress && same(wished) {
        return None;
    }
    let conditions = wished.iter().map(|(kind, new)| {
        let old = service
            .conditions
            .get(*kind)
            .filter(|old| old.is_true == new.is_true);
        (*kind, (new.clone(), old.map(|old| old.since.clone())))
    });
    Some(Status {
        ingress: ingress.clone(),
        conditions: conditions.collect(),
    })
}

fn is_same(old: &OwnCondition, new: &Condition) -> bool {
    (old.is_true, &old.reason, &old.message) == (new.is_true, &new.reason, &new.message)
}
