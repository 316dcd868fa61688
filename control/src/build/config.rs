//! What TkeServiceConfigs make of the listeners of an owner, by their rules of synchronisation. Pure.
//!
//! What an object says of a listener comes over what was set before, and what it does not say stays. When nobody is
//! followed any more, because the annotation or the object went, all that was set stays, too: it is kept with the owner.

mod admit;
pub mod auto;
mod kept;
mod overlay;
#[cfg(test)]
mod tests;
pub mod told;

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use podline_api::Protocol;

use super::annotation::{Effect, KEPT_CONFIG, Settings, Words};
use super::note::{Note, Reason};
use crate::cluster::service_config::{
    AUTO_INGRESS_SUFFIX, AUTO_SUFFIX, Anchor, FIELDS, Field, Fragment, Fragments, ProblemKind,
    Speech,
};
use crate::cluster::{
    Cluster, Entry, Front, IngressEntry, Key, ServiceConfig, ServicePort, Transport, auto_config,
};
pub(super) use overlay::Port;
pub use overlay::{Rule, settings};

/// What was set so far, of each listener and rule that there is.
pub type Kept = Fragments;

/// Whose listeners are configured.
#[derive(Clone, Copy)]
pub(super) struct Owner<'a> {
    /// Which object.
    pub(super) front: &'a Front,
    pub(super) uid: &'a Arc<str>,
    /// As they are written.
    annotations: &'a BTreeMap<String, String>,
    /// What they say.
    settings: &'a Settings,
}

impl<'a> Owner<'a> {
    pub(super) const fn service(front: &'a Front, entry: &'a Entry) -> Self {
        Self {
            front,
            uid: &entry.service.uid,
            annotations: &entry.service.annotations,
            settings: &entry.annotations.settings,
        }
    }

    pub(super) const fn ingress(front: &'a Front, entry: &'a IngressEntry) -> Self {
        Self {
            front,
            uid: &entry.ingress.uid,
            annotations: &entry.ingress.annotations,
            settings: &entry.annotations.settings,
        }
    }

    /// Something was written down that was set before.
    pub(super) fn has_kept(&self) -> bool {
        self.annotations.contains_key(KEPT_CONFIG)
    }
}

/// How one is configured.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Config {
    /// The object that is followed, if it is there.
    pub followed: Option<Arc<str>>,
    /// What was set so far.
    pub kept: Kept,
    /// What the annotation that keeps it is to hold.
    pub text: Option<String>,
    /// What is to be written of the object that is made for it.
    pub auto: Option<Arc<auto::Write>>,
}

/// Works out how one with these listeners and rules is configured, and what there is to tell. `before` is what was set so
/// far, as far as that is remembered; else the object itself says it.
pub(super) fn of(
    cluster: &Cluster,
    owner: &Owner<'_>,
    anchors: &[Anchor],
    before: Option<&Kept>,
) -> (Config, Vec<Note>) {
    let mut kept = match before {
        Some(before) => before.clone(),
        None => restored(owner),
    };
    let mut notes = Vec::new();
    let followed = match followed(owner) {
        Ok(None) => None,
        Ok(Some(key)) => {
            let found = cluster.service_config(&key);
            if found.is_none() && !owner.settings.auto_config {
                let message = format!(
                    "there is no TkeServiceConfig {} in namespace {}; what was set before stays",
                    key.name, key.namespace
                );
                notes.push(Note::new(Reason::ServiceConfigMissing, message));
            }
            found
        }
        Err(note) => {
            notes.push(note);
            None
        }
    };
    notes.extend(follow(anchors, followed, &mut kept));
    let (text, is_whole) = kept::write(&kept);
    if !is_whole {
        let kind = owner.front.kind();
        let message = format!(
            "TkeServiceConfigs have set more than one {kind} can keep: some of it goes when they do"
        );
        notes.push(Note::new(Reason::ServiceConfigNotApplied, message));
    }
    let config = Config {
        followed: followed.map(|config| Arc::clone(&config.key.name)),
        kept,
        text,
        auto: auto::write(cluster, owner, anchors).map(Arc::new),
    };
    (config, notes)
}

/// Lays what an object says of these listeners and rules over what was set before, and tells what is wrong with it. What
/// was set of others is forgotten. For owners of any kind.
pub fn follow(anchors: &[Anchor], config: Option<&ServiceConfig>, kept: &mut Kept) -> Vec<Note> {
    if !kept.is_empty() {
        let there: HashSet<&Anchor> = anchors.iter().collect();
        kept.retain(|anchor, _| there.contains(anchor));
    }
    let Some(config) = config else {
        return Vec::new();
    };
    let mut notes = Notes {
        config,
        notes: Vec::new(),
    };
    notes.of_problems(anchors);
    notes.of_ignored(&config.whole);
    for anchor in anchors {
        let Some(said) = said(config, anchor) else {
            continue;
        };
        notes.of_ignored(said);
        let nothing = Fragment::default();
        let before = kept.get(anchor).unwrap_or(&nothing);
        let (now, told) = admit::admit(anchor, before, said);
        for (reason, words) in told {
            notes.tell(reason, &words);
        }
        if !now.is_empty() {
            kept.insert(anchor.clone(), now);
        }
    }
    notes.of_default_servers(anchors, kept);
    notes.notes
}

/// What an object says of a listener or rule. TLS around bytes is TCP to it, unless it says otherwise.
fn said<'a>(config: &'a ServiceConfig, anchor: &Anchor) -> Option<&'a Fragment> {
    let found = config.fragments.get(anchor);
    found.or_else(|| config.fragments.get(&as_tcp(anchor)?))
}

fn as_tcp(anchor: &Anchor) -> Option<Anchor> {
    match anchor {
        Anchor::Listener(Speech::TcpSsl, port) => Some(Anchor::Listener(Speech::Tcp, *port)),
        _ => None,
    }
}

/// What there is to tell of an object.
struct Notes<'a> {
    config: &'a ServiceConfig,
    notes: Vec<Note>,
}

impl Notes<'_> {
    fn tell(&mut self, reason: Reason, words: &str) {
        let name = &self.config.key.name;
        let message = format!("TkeServiceConfig {name}: {words}");
        self.notes.push(Note::new(reason, message));
    }

    /// Of the owner's listeners, and of entries of which nobody can say what they are about.
    fn of_problems(&mut self, anchors: &[Anchor]) {
        let tcp: Vec<_> = anchors.iter().filter_map(as_tcp).collect();
        for problem in &self.config.problems {
            let is_ours = |about: &Anchor| anchors.contains(about) || tcp.contains(about);
            if !problem.anchor.as_ref().is_none_or(is_ours) {
                continue;
            }
            let (path, what) = (&problem.path, &problem.what);
            match problem.kind {
                ProblemKind::Wrong => {
                    let words = format!("{path}: {what}; the last good value stays");
                    self.tell(Reason::ServiceConfigInvalid, &words);
                }
                ProblemKind::Unknown => {
                    let words = format!("not applied: {path} {what}");
                    self.tell(Reason::ServiceConfigNotApplied, &words);
                }
            }
        }
    }

    fn of_ignored(&mut self, said: &Fragment) {
        let ignored = FIELDS.iter().filter(|row| row.effect == Effect::Ignored);
        for row in ignored.filter(|row| said.has(row.field)) {
            // It is like this.
            if row.field == Field::Keepalive && said.is(row.field) == Some(true) {
                continue;
            }
            let words = format!("not applied: {}: {}", row.path, row.about);
            self.tell(Reason::ServiceConfigNotApplied, &words);
        }
    }

    fn of_default_servers(&mut self, anchors: &[Anchor], kept: &Kept) {
        for (anchor, said) in kept {
            let Some(host) = said.text(Field::DefaultServer) else {
                continue;
            };
            let (speech, port) = anchor.listener();
            let domain =
                |host: &str| Anchor::Domain(speech, port, host.to_ascii_lowercase().into());
            if !anchors.contains(&domain(host)) {
                let words =
                    format!("not applied: defaultServer of {anchor}: it has no domain {host}");
                self.tell(Reason::ServiceConfigNotApplied, &words);
            }
        }
    }
}

/// What the object itself says was set before. It may have been edited by hand.
fn restored(owner: &Owner<'_>) -> Kept {
    let text = owner.annotations.get(KEPT_CONFIG);
    let said = text.map(|text| kept::read(text)).unwrap_or_default();
    let admitted = said.into_iter().map(|(anchor, said)| {
        let (now, _) = admit::admit(&anchor, &Fragment::default(), &said);
        (anchor, now)
    });
    admitted.filter(|(_, now)| !now.is_empty()).collect()
}

/// Which object one follows.
fn followed(owner: &Owner<'_>) -> Result<Option<Key>, Note> {
    let (settings, words) = (owner.settings, Words::of(owner.front));
    let (config, auto) = (words.config, words.auto_config);
    match (&settings.config, settings.auto_config) {
        (None, false) => Ok(None),
        (None, true) => Ok(Some(auto_config(owner.front))),
        (Some(_), true) => {
            let message = format!(
                "{config} and {auto} are both there, and neither is followed: take one away; what was set before stays"
            );
            Err(Note::new(Reason::ServiceConfigAmbiguous, message))
        }
        (Some(name), false) if is_reserved(name) => {
            let message = format!(
                "{config}: {name} ends as those do that are made for their owners: use another name, or {auto}; what was set before stays"
            );
            Err(Note::new(Reason::ServiceConfigNameReserved, message))
        }
        (Some(name), false) => Ok(Some(owner.front.key().beside(name))),
    }
}

fn is_reserved(name: &str) -> bool {
    [AUTO_SUFFIX, AUTO_INGRESS_SUFFIX]
        .iter()
        .any(|suffix| name.ends_with(suffix))
}

/// The listeners and rules of a Service, in the order of its ports.
pub(super) fn of_ports(entry: &Entry) -> Vec<Anchor> {
    let ports = entry.service.ports.iter();
    ports.flat_map(|port| of_port(entry, port)).collect()
}

fn of_port(entry: &Entry, port: &ServicePort) -> Vec<Anchor> {
    let number = port.port;
    let spoken = match port.protocol {
        Transport::Udp => return vec![Anchor::Listener(Speech::Udp, number)],
        Transport::Sctp => return Vec::new(),
        Transport::Tcp => entry.annotations.settings.protocols.get(&number),
    };
    let Some(spoken) = spoken else {
        return vec![Anchor::Listener(Speech::Tcp, number)];
    };
    let speech = speech(spoken.protocol);
    let mut anchors = vec![Anchor::Listener(speech, number)];
    if speech.is_http() {
        let hosts: Vec<Arc<str>> = match &*spoken.hosts {
            [] => vec!["".into()],
            hosts => hosts.iter().map(|host| host.as_str().into()).collect(),
        };
        for host in hosts {
            anchors.push(Anchor::Domain(speech, number, Arc::clone(&host)));
            anchors.push(Anchor::Rule(speech, number, host, "/".into()));
        }
    }
    anchors
}

/// What a listener of this protocol speaks.
pub(super) const fn speech(protocol: Protocol) -> Speech {
    match protocol {
        Protocol::Tcp => Speech::Tcp,
        Protocol::Udp => Speech::Udp,
        Protocol::Tls => Speech::TcpSsl,
        Protocol::Http => Speech::Http,
        Protocol::Https => Speech::Https,
    }
}
