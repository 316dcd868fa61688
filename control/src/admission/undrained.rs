//! Deletions that the webhook was never asked about: a Pod that was to be taken out of traffic first, and was not. They show
//! that the API server cannot reach us. Pure: times are milliseconds of the caller's clock.

use std::collections::VecDeque;
use std::sync::Arc;

use podline_api::Name;

use super::drain::{self, Doomed, Place};
use crate::build::Builder;
use crate::cluster::{Change, Cluster, Front, Gate};
use crate::observed::Observed;

/// A proxy's word, and the watch that brings it, may take so long.
const GRACE_MS: u64 = 2_000;
/// Deletions that are looked at, at once.
const MOST: usize = 4_096;

/// Deletions that have begun, and what the proxies are still to say of them.
#[derive(Debug, Default)]
pub(crate) struct Begun(VecDeque<(u64, Vec<Place>)>);

impl Begun {
    /// Notes a change that is about to be taken in, if it is how a Pod's deletion begins.
    pub(crate) fn note(
        &mut self,
        change: &Change,
        cluster: &Cluster,
        builder: &Builder,
        now_ms: u64,
    ) {
        let Change::Pod(key, now) = change else {
            return;
        };
        let Some(before) = cluster.pod(key) else {
            return;
        };
        let is_same = |pod: &crate::cluster::Pod| pod.uid == before.uid && !pod.is_deleting;
        let begins = !now.as_ref().is_some_and(is_same);
        if !begins || before.gate == Gate::Absent || before.is_deleting || before.has_ended {
            return;
        }
        let doomed = Doomed {
            key: key.clone(),
            uid: Arc::clone(&before.uid),
        };
        let observed = cluster.observed();
        let is_closing = |place: &Place| {
            let mut serving = observed.serving();
            serving.any(|(_, proxy)| proxy.drained.contains_key(place))
        };
        // Its slice may have told before it did: then it has lost its weight already.
        let lost = |front: &Front, set: &Name| {
            let mut closed = builder.closed(front, set);
            closed.find(|key| drain::is_of(key, &before.uid)).cloned()
        };
        let todo = drain::todo(cluster, builder, &doomed, is_closing, lost);
        if !todo.close.is_empty() && self.0.len() < MOST {
            self.0.push_back((now_ms, todo.close));
        }
    }

    /// How many of those that began long enough ago were not taken out by some proxy that serves.
    pub(crate) fn judge(&mut self, observed: &Observed, now_ms: u64) -> u64 {
        let mut count = 0;
        while let Some((_, places)) = self
            .0
            .pop_front_if(|(at_ms, _)| now_ms.saturating_sub(*at_ms) >= GRACE_MS)
        {
            let is_out = |place: &Place| {
                let mut serving = observed.serving();
                serving.all(|(_, proxy)| proxy.drained.contains_key(place))
            };
            count += u64::from(!places.iter().all(is_out));
        }
        count
    }
}

#[cfg(test)]
mod tests;
