//! What a Service says of the source address that its Pods see, from the ways that the proxies have proven. Pure: time is
//! an argument.

use std::collections::BTreeMap;
use std::time::Duration;

use podline_api::SourceAddress;
use tokio::time::Instant;

use super::wish::{Condition, SOURCE_ADDRESS};
use crate::build::note::{Note, Reason};
use crate::build::{Mode, NODE_PORT_SOURCE, Plan};
use crate::cluster::{Key, Service};
use crate::observed::{Observed, ProxyView};

/// A proxy without this knows nothing but its own address.
const FEATURE: &str = "source-address";
/// What the ways make of a Service is said when it held for so long: a node that is new is proven in a moment.
pub const SETTLED_AFTER: Duration = Duration::from_secs(10);
/// Problems that are told, and how much of each.
const MOST: usize = 8;
const LONGEST: usize = 160;
/// The reason while all Pods see the client.
const TRANSPARENT: &str = "Transparent";

/// What there is to say now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing: the Service wants the proxy's address.
    Nothing,
    /// It is not known; what was said before may well be true.
    Unknown,
    /// This, for as long as the Service is as it is.
    Fixed(Condition),
    /// This, as far as the proxies know by now.
    Seen(Condition),
}

/// Looks at a Service that is ours.
pub fn verdict(plan: &Plan, observed: &Observed) -> Verdict {
    let wished = plan.source.wished;
    if wished == SourceAddress::Snat {
        return Verdict::Nothing;
    }
    if plan.mode == Mode::NodePort {
        return Verdict::Fixed(failing(wished, NODE_PORT_SOURCE.to_owned()));
    }
    let mut serving = observed.serving().peekable();
    if serving.peek().is_none() {
        return Verdict::Unknown;
    }
    let mut problems: Vec<String> = Vec::new();
    for (name, proxy) in serving {
        problems.extend(of_proxy(plan, name, proxy));
    }
    if problems.is_empty() {
        return Verdict::Seen(Condition {
            is_true: true,
            reason: TRANSPARENT.to_owned(),
            message: String::new(),
        });
    }
    if problems.len() > MOST {
        problems.truncate(MOST);
        problems.push("there are more".to_owned());
    }
    Verdict::Seen(failing(wished, problems.join("; ")))
}

fn failing(wished: SourceAddress, message: String) -> Condition {
    let reason = match wished {
        SourceAddress::Transparent => Reason::SourceAddressImpossible,
        SourceAddress::Snat | SourceAddress::PreferTransparent => Reason::SourceNat,
    };
    Condition {
        is_true: false,
        reason: reason.to_string(),
        message,
    }
}

/// Why Pods do not see the clients that come by one proxy.
fn of_proxy(plan: &Plan, name: &str, proxy: &ProxyView) -> Vec<String> {
    let whole = if proxy.features.contains(FEATURE) {
        &*proxy.transparency_problem
    } else {
        "update it"
    };
    if !whole.is_empty() {
        let whole = shorten(whole);
        return vec![format!("proxy {name} cannot imitate clients: {whole}")];
    }
    let vouched = plan.source.wished == SourceAddress::Transparent;
    let mut problems = Vec::new();
    for way in &plan.source.nodes {
        let path = proxy.paths.get(way);
        let is_well = path.is_some_and(|path| path.is_proven || (vouched && !path.has_failed));
        if is_well || (vouched && path.is_none()) {
            continue;
        }
        let reason = path.map(|path| &*path.reason).filter(|it| !it.is_empty());
        let reason = shorten(reason.unwrap_or("not proven"));
        let (node, family) = way;
        problems.push(format!("{node} over {family} from proxy {name}: {reason}"));
        if problems.len() > MOST {
            break;
        }
    }
    problems
}

/// Words from a proxy: one line, and not too much of it.
pub(crate) fn shorten(text: &str) -> String {
    let text = &text[..text.floor_char_boundary(LONGEST)];
    text.chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect()
}

/// What is told by an event: that Pods cannot see the client any more, or cannot though the Service itself asks for it.
/// Once: not each time that it becomes another node.
pub(super) fn news(service: &Service, plan: &Plan, said: &Condition) -> Option<Note> {
    let before = service.conditions.get(SOURCE_ADDRESS);
    let is_loss = before.is_some_and(|before| before.is_true);
    let is_asked = plan.source.is_said || plan.source.wished == SourceAddress::Transparent;
    let is_first = before.is_none_or(|before| before.reason != said.reason);
    let is_news = is_loss || (is_asked && is_first);
    let reasons = [Reason::SourceNat, Reason::SourceAddressImpossible];
    let reason = reasons.into_iter().find(|it| it.as_str() == said.reason)?;
    (!said.is_true && is_news).then(|| Note::new(reason, said.message.clone()))
}

/// What waits until it has held for long enough.
#[derive(Debug, Default)]
pub struct Settling(BTreeMap<Key, (Condition, Instant)>);

impl Settling {
    /// What a Service is to say now; `None`: nothing.
    pub fn settle(
        &mut self,
        service: &Service,
        verdict: Verdict,
        now: Instant,
    ) -> Option<Condition> {
        let key = &service.key;
        let before = service.conditions.get(SOURCE_ADDRESS);
        let before = before.map(|own| Condition {
            is_true: own.is_true,
            reason: own.reason.clone(),
            message: own.message.clone(),
        });
        let seen = match verdict {
            Verdict::Unknown => return before,
            Verdict::Seen(seen) if before.as_ref() != Some(&seen) => seen,
            Verdict::Seen(seen) | Verdict::Fixed(seen) => {
                self.0.remove(key);
                return Some(seen);
            }
            Verdict::Nothing => {
                self.0.remove(key);
                return None;
            }
        };
        let waiting = self.0.get(key).filter(|(waits, _)| *waits == seen);
        let since = waiting.map_or(now, |(_, since)| *since);
        if now.saturating_duration_since(since) >= SETTLED_AFTER {
            // It waits on until the object says so.
            return Some(seen);
        }
        if since == now {
            self.0.insert(key.clone(), (seen, now));
        }
        before
    }

    /// A Service that is none of ours says nothing.
    pub fn forget(&mut self, key: &Key) {
        self.0.remove(key);
    }

    /// Services whose time has come.
    pub fn ripe(&self, now: Instant) -> impl Iterator<Item = &Key> {
        let is_ripe = move |since: &Instant| now.saturating_duration_since(*since) >= SETTLED_AFTER;
        let all = self.0.iter();
        all.filter(move |(_, (_, since))| is_ripe(since))
            .map(|(key, _)| key)
    }
}

#[cfg(test)]
mod tests;
