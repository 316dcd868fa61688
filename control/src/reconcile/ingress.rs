//! What has to be written so that an Ingress says what it should, from how it stands and what the proxies say. Pure.
//!
//! An Ingress has no conditions: what a Service says in its own is told by events alone, and again by who leads next.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::difference::{self, Metadata, Status, Writes};
use super::wish::{Proxies, ingress, is_still_held, programmed};
use crate::build::annotation::ingress::DIRECT_ACCESS;
use crate::build::annotation::{KEPT_CONFIG, LAST_GOOD};
use crate::build::note::{Note, Reason};
use crate::build::{Plan, Standing};
use crate::cluster::service;
use crate::cluster::{Family, IngressEntry};

/// The reason of a plan that has nothing to be served: its own notes say why.
const NO_LISTENER: &str = "NoListener";

/// What has to be written, and all facts that hold; `None`: nothing, it is none of our business, or nobody knows yet.
pub fn writes(
    entry: &IngressEntry,
    standing: Option<&Standing>,
    proxies: &Proxies<'_>,
) -> Option<(Writes, Vec<Note>)> {
    match standing? {
        Standing::Ours(plan) if plan.is_early => None,
        Standing::Ours(plan) if plan.is_skipped => {
            let writes = Writes {
                news: plan.notes.clone(),
                ..Writes::default()
            };
            Some((writes, plan.notes.clone()))
        }
        Standing::Ours(plan) => Some(ours(entry, plan, proxies)),
        Standing::Leaving => {
            let writes = Writes {
                metadata: metadata(entry, is_still_held(proxies), &BTreeMap::new()),
                status: status(entry, Some(Vec::new())),
                ..Writes::default()
            };
            Some((writes, Vec::new()))
        }
        Standing::Other(_) => None,
    }
}

fn ours(entry: &IngressEntry, plan: &Arc<Plan>, proxies: &Proxies<'_>) -> (Writes, Vec<Note>) {
    let mut notes = plan.notes.clone();
    let programmed = programmed(plan, proxies);
    let problem = programmed
        .as_ref()
        .filter(|it| !it.is_true && it.reason != NO_LISTENER);
    notes.extend(problem.map(|it| Note::new(Reason::NotProgrammed, it.message.clone())));
    let families = plan.listeners.iter();
    let families = families.map(|listener| Family::of(listener.address.ip()));
    let families: Vec<_> = families.collect();
    let told = &entry.ingress.told;
    let told = programmed.and_then(|_| ingress(&families, told, plan, proxies));
    let mut annotations = BTreeMap::new();
    annotations.extend(plan.last_good.clone().map(|text| (LAST_GOOD, text)));
    annotations.extend(plan.config.text.clone().map(|text| (KEPT_CONFIG, text)));
    let says_how = entry.ingress.annotations.contains_key(DIRECT_ACCESS);
    let writes = Writes {
        metadata: metadata(entry, true, &annotations),
        make_direct: plan.becomes_direct && !says_how,
        status: status(entry, told),
        news: notes.clone(),
    };
    (writes, notes)
}

/// Held, or not, with these annotations of ours.
fn metadata(
    entry: &IngressEntry,
    is_held: bool,
    wished: &BTreeMap<&'static str, String>,
) -> Option<Metadata> {
    let ingress = &entry.ingress;
    difference::metadata(ingress.is_held(), &ingress.annotations, is_held, wished)
}

/// The status of an Ingress knows no ipMode.
fn status(entry: &IngressEntry, told: Option<Vec<service::Ingress>>) -> Option<Status> {
    let mut ingress = told?;
    for entry in &mut ingress {
        entry.ip_mode = None;
    }
    (ingress != entry.ingress.told).then_some(Status {
        ingress,
        conditions: BTreeMap::new(),
    })
}

#[cfg(test)]
mod tests;
