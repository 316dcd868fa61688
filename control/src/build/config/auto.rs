//! Objects that are made for Services with `tke-service-config-auto`: what is to be written of one. Pure.
//!
//! One has an entry for each listener of its Service, with what says which listener that is and nothing else, so that it
//! changes nothing until somebody edits it. Entries come and go with the listeners they were made for; whatever else
//! somebody wrote stays as it is.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use crate::cluster::service_config::{Anchor, MADE_FOR, Made, Speech};
use crate::cluster::{Cluster, Entry, Key, auto_config};
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

/// What is to be written; nothing if the Service wants no object, or it is as it should be.
pub(super) fn write(cluster: &Cluster, entry: &Entry, anchors: &[Anchor]) -> Option<Write> {
    if !entry.annotations.settings.auto_config {
        return None;
    }
    let service = &entry.service;
    let key = auto_config(&service.key);
    let owner = json!({
        "apiVersion": "v1", "kind": "Service", "name": &*service.key.name, "uid": &*service.uid,
    });
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
                "ownerReferences": [owner],
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
    let patch = patch(made, &wanted, &service.uid, &owner)?;
    Some(Write {
        key,
        body: patch,
        is_new: false,
    })
}

/// What makes of the object that is there what it should be; nothing if it is.
fn patch(made: &Made, wanted: &Wanted<'_>, uid: &str, owner: &Value) -> Option<Value> {
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
    if made.owners.iter().all(|(known, _)| known != uid) {
        // A Service of that name that is gone would take the object with it.
        let is_other = |owner: &&(String, Value)| owner.1["kind"] != "Service";
        let others = made.owners.iter().filter(is_other);
        let owners: Vec<_> = others.map(|(_, owner)| owner.clone()).collect();
        let owners: Vec<_> = owners.into_iter().chain([owner.clone()]).collect();
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

/// The listeners and domains that there should be entries for.
struct Wanted<'a> {
    anchors: &'a [Anchor],
    /// As they are remembered.
    names: BTreeSet<String>,
}

impl<'a> Wanted<'a> {
    fn of(anchors: &'a [Anchor]) -> Self {
        let names = anchors.iter().filter(|anchor| !is_rule(anchor));
        Self {
            anchors,
            names: names.map(name).collect(),
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
        let listeners = |is_http: bool| {
            let all = self.anchors.iter();
            all.filter(move |anchor| {
                matches!(anchor, Anchor::Listener(speech, _) if speech.is_http() == is_http)
            })
        };
        let gone =
            |name: &str| before.iter().any(|known| known == name) && !self.names.contains(name);
        let l4 = with(l4, listeners(false), gone);
        let mut l7 = with(l7, listeners(true), gone);
        for entry in &mut l7 {
            self.domains(entry, gone);
        }
        (l4, l7)
    }

    /// Gives an entry the domains that it should have.
    fn domains(&self, entry: &mut Value, gone: impl Fn(&str) -> bool) {
        let Some(listener) = self.anchors.iter().find(|anchor| is_of(entry, anchor)) else {
            return;
        };
        let of_this = self.anchors.iter().filter(|anchor| {
            matches!(anchor, Anchor::Domain(..)) && anchor.listener() == listener.listener()
        });
        let mut list = entry["domains"].as_array().cloned().unwrap_or_default();
        let (speech, port) = listener.listener();
        list.retain(|domain| {
            let text = domain["domain"].as_str().unwrap_or_default();
            let anchor = Anchor::Domain(speech, port, text.to_ascii_lowercase().into());
            !gone(&name(&anchor))
        });
        for anchor in of_this {
            let is_this = |domain: &Value| {
                let text = domain["domain"].as_str().unwrap_or_default();
                text.eq_ignore_ascii_case(anchor.domain())
            };
            if !list.iter().any(is_this) {
                list.push(json!({"domain": anchor.domain(), "rules": [{"url": "/"}]}));
            }
        }
        entry["domains"] = list.into();
    }
}

fn is_rule(anchor: &Anchor) -> bool {
    matches!(anchor, Anchor::Rule(..))
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
