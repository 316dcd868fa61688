//! The verdict of one Pod's gate: how it stands with each Service, and what the proxies say of that. Pure.

use std::collections::BTreeMap;

use podline_api::{BackendKey, Name};

use super::reason::Reason;
use super::stand::Stand;
use crate::cluster::Key;
use crate::observed::{Observed, ProxyView};
use crate::push::TOO_OLD;
use crate::reconcile::source::shorten;

/// What a condition says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Said {
    /// One word.
    pub reason: Reason,
    /// In words; the same for as long as the fact is the same.
    pub message: String,
}

impl Said {
    /// A reason, in words.
    pub fn new(reason: Reason, message: impl Into<String>) -> Self {
        Self {
            reason,
            message: message.into(),
        }
    }
}

/// What there is to say of a gate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing: the Pod waits for something else first, which is told elsewhere.
    Pending(&'static str),
    /// It is closed until this is over.
    Closed(Said),
    /// It may open.
    Open {
        /// Why.
        said: Said,
        /// The proxies have seen the Pod. Otherwise it can never be bound, as far as is known now.
        at_once: bool,
    },
}

/// A backend that a Pod is, behind one listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Part {
    /// The snapshot that brought the listener as it is, or a later one.
    pub(super) since: u64,
    pub(super) listener: Name,
    pub(super) set: Name,
    /// With the Pod's own uid: what was at its address before does not count.
    pub(super) backend: BackendKey,
}

/// Decides from how a Pod stands with every Service that it is an endpoint of, or may become one of.
pub(super) fn verdict(stands: &BTreeMap<Key, Vec<Stand>>, observed: &Observed) -> Verdict {
    let (mut closed, mut wrong, mut forced, mut waits) = (None, None, None, None);
    let (mut listeners, mut has_node_port) = (0, false);
    for stand in stands.values().flatten() {
        match stand {
            Stand::NotOurs => {}
            Stand::NodePort => has_node_port = true,
            Stand::Wrong(said) => keep_worse(&mut wrong, said.clone()),
            Stand::Never(said) => forced = forced.or_else(|| Some(said.clone())),
            Stand::Waits(why) => waits = waits.or(Some(*why)),
            Stand::Bound(parts) => {
                listeners += parts.len();
                if let Some(said) = missing(parts, observed) {
                    keep_worse(&mut closed, said);
                }
            }
        }
    }
    // A Service that is not served at all holds nobody up whom another one serves, or will.
    let is_alone = listeners == 0 && waits.is_none();
    if let Some(said) = closed.or(wrong.filter(|_| is_alone)) {
        return Verdict::Closed(said);
    }
    if let Some(why) = waits {
        return Verdict::Pending(why);
    }
    if listeners > 0 {
        let proxies = observed.serving().count();
        let message = format!("healthy behind listeners: {listeners}, on proxies: {proxies}");
        return Verdict::Open {
            said: Said::new(Reason::Healthy, message),
            at_once: forced.is_none(),
        };
    }
    let said = forced.unwrap_or_else(|| {
        if has_node_port {
            let message = "every Service of Podline that selects it goes through node ports";
            Said::new(Reason::NodePortMode, message)
        } else {
            Said::new(Reason::NoLoadBalancer, "no Service of Podline selects it")
        }
    });
    Verdict::Open {
        said,
        at_once: false,
    }
}

/// Keeps, of two facts that keep a gate closed, that which has to be mended first; of two of a kind the first.
fn keep_worse(worst: &mut Option<Said>, said: Said) {
    let is_worse = |before: &Said| said.reason < before.reason;
    if worst.as_ref().is_none_or(is_worse) {
        *worst = Some(said);
    }
}

/// What is missing until every proxy that serves takes the Pod for healthy.
fn missing(parts: &[Part], observed: &Observed) -> Option<Said> {
    let mut serving = observed.serving().peekable();
    if serving.peek().is_none() {
        return Some(Said::new(Reason::NoServingProxy, "no proxy serves"));
    }
    let mut worst = None;
    let serving: Vec<_> = serving.collect();
    for part in parts {
        let carry = serving.iter().filter(|(_, proxy)| !never_took(proxy, part));
        // If nobody has it, whoever does not is asked why.
        let asked = match carry.clone().next() {
            Some(_) => carry.collect(),
            None => serving.iter().collect::<Vec<_>>(),
        };
        for (name, proxy) in asked {
            if let Some(said) = missing_on(name, proxy, part) {
                keep_worse(&mut worst, said);
            }
        }
    }
    worst
}

/// A proxy that is too old for the set, and never had it, sends nobody to the Pod: the gate need not wait for its update.
fn never_took(proxy: &ProxyView, part: &Part) -> bool {
    let is_too_old = |what| {
        let words: Option<&String> = proxy.refused.get(what);
        words.is_some_and(|words| words.starts_with(TOO_OLD))
    };
    !proxy.healthy.contains_key(&part.set) && (is_too_old(&part.listener) || is_too_old(&part.set))
}

fn missing_on(name: &str, proxy: &ProxyView, part: &Part) -> Option<Said> {
    let Part {
        since,
        listener,
        set,
        backend,
    } = part;
    for what in [listener, set] {
        if let Some(words) = proxy.refused.get(what) {
            let message = format!("proxy {name} refuses {what}: {}", shorten(words));
            return Some(Said::new(Reason::InvalidConfig, message));
        }
    }
    if let Some(words) = proxy.failed_listeners.get(listener) {
        let message = format!("proxy {name} cannot bind {listener}: {}", shorten(words));
        return Some(Said::new(Reason::ListenerFailed, message));
    }
    if proxy.acked >= *since && proxy.is_healthy(set, backend) {
        return None;
    }
    Some(if let Some(words) = proxy.unhealthy(set, backend) {
        let words = shorten(words);
        let message = format!("proxy {name} finds it unhealthy in {set}: {words}");
        Said::new(Reason::Unhealthy, message)
    } else {
        let message = format!("proxy {name} has no verdict yet in {set}");
        Said::new(Reason::Probing, message)
    })
}
