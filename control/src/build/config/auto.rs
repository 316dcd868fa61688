//! Objects that are made for Services and Ingresses with `tke-service-config-auto`: what is to be written of one. Pure.
//!
//! One has an entry for each listener, domain and rule of its owner, with what says which that is and nothing else, so that
//! it changes nothing until somebody edits it. Entries come and go with what they were made for; whatever else somebody
//! wrote stays as it is.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

use super::Owner;
use crate::cluster::service_config::{Anchor, MADE_FOR, Made, Speech};
use crate::cluster::{Cluster, Front, Key, auto_config};
use crate::crd::{API_VERSION, KIND};

/// What is to be written of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Write {
    /// Which.
    pub key: Key,
    /// The whole object if there is none, else a merge patch that holds for it as it was seen only.
    pub body: Value,
    /// There is none yet.
    pub is_new: bool,
}

/// What is to be written; nothing if the owner wants no object, or it is as it should be.
pub(super) fn write(cluster: &Cluster, owner: &Owner<'_>, anchors: &[Anchor]) -> Option<Write> {
    if !owner.settings.auto_config {
        return None;
    }
    let key = auto_config(owner.front);
    let wanted = Wanted::of(anchors);
    let Some(config) = cluster.service_config(&key) else {
        let (l4, l7) = wanted.lists(None);
        let body = json!({
            "apiVersion": API_VERSION,
            "kind": KIND,
            "metadata": {
                "name": &*key.name,
                "namespace": &*key.namespace,
                "annotations": {MADE_FOR: wanted.text()},
                "ownerReferences": [reference(owner)],
            },
            "spec": {"loadBalancer": {"l4Listeners": l4, "l7Listeners": l7}},
        });
        return Some(Write {
            key,
            body,
            is_new: true,
        });
    };
    // Its name says so: it always is.
    let made = config.made.as_ref()?;
    let patch = patch(made, &wanted, owner)?;
    Some(Write {
        key,
        body: patch,
        is_new: false,
    })
}

/// What makes the object go with its owner.
fn reference(owner: &Owner<'_>) -> Value {
    let front = owner.front;
    json!({
        "apiVersion": front.api_version(), "kind": front.kind(), "name": &*front.key().name, "uid": &**owner.uid,
    })
}

/// Whether a reference is to an object of the kind of `front`.
fn is_to(reference: &Value, front: &Front) -> bool {
    reference["kind"] == front.kind() && reference["apiVersion"] == front.api_version()
}

/// What makes of the object that is there what it should be; nothing if it is.
fn patch(made: &Made, wanted: &Wanted<'_>, owner: &Owner<'_>) -> Option<Value> {
    let (l4, l7) = wanted.lists(Some(made));
    let mut lists = Map::new();
    if l4 != *made.l4 {
        lists.insert("l4Listeners".to_owned(), l4.into());
    }
    if l7 != *made.l7 {
        lists.insert("l7Listeners".to_owned(), l7.into());
    }
    let mut metadata = Map::new();
    let made_for: BTreeSet<&str> = made.made_for.iter().map(String::as_str).collect();
    if !made_for
        .iter()
        .copied()
        .eq(wanted.names.iter().map(String::as_str))
    {
        let annotation = json!({MADE_FOR: wanted.text()});
        metadata.insert("annotations".to_owned(), annotation);
    }
    if made.owners.iter().all(|(uid, _)| **uid != **owner.uid) {
        // An owner of that name that is gone would take the object with it.
        let others = made.owners.iter().map(|(_, known)| known);
        let others = others.filter(|known| !is_to(known, owner.front)).cloned();
        let owners: Vec<_> = others.chain([reference(owner)]).collect();
        metadata.insert("ownerReferences".to_owned(), owners.into());
    }
    if lists.is_empty() && metadata.is_empty() {
        return None;
    }
    metadata.insert("resourceVersion".to_owned(), json!(made.resource_version));
    let mut patch = json!({"metadata": metadata});
    if !lists.is_empty() {
        patch["spec"] = json!({"loadBalancer": lists});
    }
    Some(patch)
}

/// What there should be entries for.
struct Wanted<'a> {
    anchors: &'a [Anchor],
    /// As they are remembered.
    names: BTreeSet<String>,
}

impl<'a> Wanted<'a> {
    fn of(anchors: &'a [Anchor]) -> Self {
        Self {
            anchors,
            names: anchors.iter().map(name).collect(),
        }
    }

    fn text(&self) -> String {
        json!(self.names).to_string()
    }

    /// The lists as they should be.
    fn lists(&self, made: Option<&Made>) -> (Vec<Value>, Vec<Value>) {
        let (l4, l7) = made.map_or_else(Default::default, |made| {
            ((*made.l4).clone(), (*made.l7).clone())
        });
        let before = made.map_or(&[][..], |made| &made.made_for);
        let before = before.iter().map(String::as_str);
        let past: BTreeSet<&str> = before.filter(|name| !self.names.contains(*name)).collect();
        let listeners = |is_http: bool| {
            let all = self.anchors.iter();
            all.filter(move |anchor| {
                matches!(anchor, Anchor::Listener(speech, _) if speech.is_http() == is_http)
            })
        };
        let gone = |name: &str| past.contains(name);
        let l4 = with(l4, listeners(false), gone);
        let mut l7 = with(l7, listeners(true), gone);
        for entry in &mut l7 {
            self.domains(entry, gone);
        }
        (l4, l7)
    }

    /// Gives an entry the domains and rules that it should have.
    fn domains(&self, entry: &mut Value, gone: impl Fn(&str) -> bool) {
        let Some(listener) = self.anchors.iter().find(|anchor| is_of(entry, anchor)) else {
            return;
        };
        let at = listener.listener();
        let mut list = entry["domains"].as_array().cloned().unwrap_or_default();
        let stays = |anchor: Option<Anchor>| anchor.is_none_or(|anchor| !gone(&name(&anchor)));
        list.retain(|entry| stays(domain_of(entry, at)));
        let (mut places, mut rules) = (BTreeMap::new(), BTreeSet::new());
        for (place, entry) in list.iter_mut().enumerate() {
            let Some(domain) = domain_of(entry, at) else {
                continue;
            };
            if let Some(Value::Array(entries)) = entry.get_mut("rules") {
                entries.retain(|rule| stays(rule_of(rule, &domain)));
                rules.extend(entries.iter().filter_map(|rule| rule_of(rule, &domain)));
            }
            // The first counts.
            places.entry(domain.domain().to_owned()).or_insert(place);
        }
        for anchor in self.anchors.iter().filter(|it| it.listener() == at) {
            let domain = anchor.domain();
            match (anchor, places.get(domain).copied()) {
                (Anchor::Domain(..), None) => {
                    places.insert(domain.to_owned(), list.len());
                    list.push(json!({"domain": domain, "rules": []}));
                }
                (Anchor::Rule(..), Some(place)) if !rules.contains(anchor) => {
                    let rule = json!({"url": anchor.url()});
                    match &mut list[place]["rules"] {
                        Value::Array(rules) => rules.push(rule),
                        none @ Value::Null => *none = json!([rule]),
                        _ => {}
                    }
                }
                _ => {}
            }
        }
        entry["domains"] = list.into();
    }
}

/// What an entry of a listener's `domains` is about; nothing if it is no entry.
fn domain_of(entry: &Value, (speech, port): (Speech, u16)) -> Option<Anchor> {
    let domain = entry.as_object()?.get("domain").and_then(Value::as_str);
    let domain = domain.unwrap_or_default().to_ascii_lowercase();
    Some(Anchor::Domain(speech, port, domain.into()))
}

/// What an entry of the `rules` of `domain` is about; nothing if it is no entry.
fn rule_of(entry: &Value, domain: &Anchor) -> Option<Anchor> {
    let url = entry.as_object()?.get("url").and_then(Value::as_str);
    let (speech, port) = domain.listener();
    let url = url.unwrap_or("/").into();
    Some(Anchor::Rule(speech, port, domain.domain().into(), url))
}

/// The entries, without those of listeners that are gone, and with those of listeners that are new.
fn with<'a>(
    mut list: Vec<Value>,
    wanted: impl Iterator<Item = &'a Anchor>,
    gone: impl Fn(&str) -> bool,
) -> Vec<Value> {
    list.retain(|entry| {
        let text = format!(
            "{}/{}",
            entry["protocol"].as_str().unwrap_or_default(),
            entry["port"]
        );
        !gone(&text)
    });
    for anchor in wanted {
        if !list.iter().any(|entry| is_of(entry, anchor)) {
            let (speech, port) = anchor.listener();
            list.push(json!({"protocol": word(speech), "port": port}));
        }
    }
    list
}

/// Whether an entry is about a listener.
fn is_of(entry: &Value, anchor: &Anchor) -> bool {
    let (speech, port) = anchor.listener();
    matches!(anchor, Anchor::Listener(..))
        && entry["port"] == port
        && entry["protocol"] == word(speech)
}

/// TLS around bytes is TCP to such objects.
const fn word(speech: Speech) -> &'static str {
    match speech {
        Speech::TcpSsl => Speech::Tcp.as_str(),
        speech => speech.as_str(),
    }
}

fn name(anchor: &Anchor) -> String {
    match anchor {
        Anchor::Listener(Speech::TcpSsl, port) => Anchor::Listener(Speech::Tcp, *port).to_string(),
        anchor => anchor.to_string(),
    }
}
