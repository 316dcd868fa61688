//! Whether a transaction fits the state: all that can be refused is refused here, before anything changes.

use super::engine::Engine;
use super::entry::{ListenerEntry, SetEntry};
use podline_api::{
    Apply, BackendChange, BackendKey, Invalid, Listener, Name, Owner, Rejected, Transport,
    Violation,
};
use std::collections::{BTreeSet, HashMap, HashSet};
use std::net::SocketAddr;

/// What is wrong so far.
#[derive(Default)]
struct Findings(Vec<Violation>);

impl Findings {
    fn add(&mut self, path: impl Into<String>, problem: impl Into<String>) {
        if self.0.len() < Invalid::MAX {
            self.0.push(Violation {
                path: path.into(),
                problem: problem.into(),
            });
        }
    }
}

/// Names that a transaction takes away.
#[derive(Debug, Default)]
pub(super) struct Removals {
    pub(super) listeners: BTreeSet<Name>,
    pub(super) sets: BTreeSet<Name>,
}

/// Checks `apply` against `engine`; what it removes, on success.
pub(super) fn check(engine: &Engine, apply: &Apply) -> Result<Removals, Rejected> {
    if let Some(wanted) = apply.if_version.filter(|v| *v != engine.version()) {
        return Err(Rejected::Version {
            wanted,
            actual: engine.version(),
        });
    }
    engine.owners.check(&apply.owner, apply.epoch)?;
    owners(engine, apply)?;
    let removals = removals(engine, apply);
    addresses(engine, apply, &removals)?;
    engine.networks.check(apply)?;
    let mut findings = Findings::default();
    missing(engine, apply, &mut findings);
    references(engine, apply, &removals, &mut findings);
    for (index, change) in apply.backend_changes.iter().enumerate() {
        backend_change(
            engine,
            change,
            &format!("backendChanges[{index}]"),
            &mut findings,
        )?;
    }
    if findings.0.is_empty() {
        Ok(removals)
    } else {
        Err(Invalid {
            violations: findings.0,
        }
        .into())
    }
}

fn owners(engine: &Engine, apply: &Apply) -> Result<(), Rejected> {
    let refuse = |path: String, owner: &Owner| {
        let problem =
            format!("belongs to owner \"{owner}\"; choose another name, or apply as that owner");
        Err(Rejected::Conflict { path, problem })
    };
    let listener = |name: &Name| {
        engine
            .listeners
            .get(name)
            .map(|l| &l.owner)
            .filter(|o| **o != apply.owner)
    };
    let set = |name: &Name| {
        engine
            .sets
            .get(name)
            .map(|s| &s.owner)
            .filter(|o| **o != apply.owner)
    };
    for (index, wanted) in apply.listeners.iter().enumerate() {
        if let Some(owner) = listener(&wanted.name) {
            return refuse(format!("listeners[{index}].name"), owner);
        }
    }
    for (index, name) in apply.remove_listeners.iter().enumerate() {
        if let Some(owner) = listener(name) {
            return refuse(format!("removeListeners[{index}]"), owner);
        }
    }
    for (index, wanted) in apply.backend_sets.iter().enumerate() {
        if let Some(owner) = set(&wanted.name) {
            return refuse(format!("backendSets[{index}].name"), owner);
        }
    }
    for (index, name) in apply.remove_backend_sets.iter().enumerate() {
        if let Some(owner) = set(name) {
            return refuse(format!("removeBackendSets[{index}]"), owner);
        }
    }
    for (index, change) in apply.backend_changes.iter().enumerate() {
        if let Some(owner) = set(&change.set) {
            return refuse(format!("backendChanges[{index}].set"), owner);
        }
    }
    Ok(())
}

fn removals(engine: &Engine, apply: &Apply) -> Removals {
    let mut removals = Removals {
        listeners: apply.remove_listeners.iter().cloned().collect(),
        sets: apply.remove_backend_sets.iter().cloned().collect(),
    };
    if apply.replace_owned {
        let kept: HashSet<&Name> = apply.listeners.iter().map(|l| &l.name).collect();
        let owned = |l: &ListenerEntry| l.owner == apply.owner;
        let gone = engine
            .listeners
            .iter()
            .filter(|(name, l)| owned(l) && !kept.contains(name));
        removals
            .listeners
            .extend(gone.map(|(name, _)| name.clone()));
        let mut kept: HashSet<&Name> = apply.backend_sets.iter().map(|s| &s.name).collect();
        kept.extend(apply.backend_changes.iter().map(|c| &c.set));
        let owned = |s: &SetEntry| s.owner == apply.owner;
        let gone = engine
            .sets
            .iter()
            .filter(|(name, s)| owned(s) && !kept.contains(name));
        removals.sets.extend(gone.map(|(name, _)| name.clone()));
    }
    removals
}

fn addresses(engine: &Engine, apply: &Apply, removals: &Removals) -> Result<(), Rejected> {
    if apply.listeners.is_empty() {
        return Ok(());
    }
    let replaced: HashSet<&Name> = apply.listeners.iter().map(|l| &l.name).collect();
    let place = |listener: &Listener| (listener.protocol.transport(), listener.address);
    let staying: HashMap<(Transport, SocketAddr), &ListenerEntry> = engine
        .listeners
        .iter()
        .filter(|(name, _)| !replaced.contains(name) && !removals.listeners.contains(*name))
        .map(|(_, entry)| (place(&entry.wanted), entry))
        .collect();
    for (index, wanted) in apply.listeners.iter().enumerate() {
        if let Some(holder) = staying.get(&place(wanted)) {
            let path = format!("listeners[{index}].address");
            let (name, owner) = (&holder.wanted.name, &holder.owner);
            let problem = format!(
                "{} is taken by listener \"{name}\" of owner \"{owner}\"",
                wanted.address
            );
            return Err(Rejected::Conflict { path, problem });
        }
    }
    Ok(())
}

fn missing(engine: &Engine, apply: &Apply, findings: &mut Findings) {
    for (index, name) in apply.remove_listeners.iter().enumerate() {
        if !engine.listeners.contains_key(name) {
            findings.add(
                format!("removeListeners[{index}]"),
                format!("there is no listener \"{name}\""),
            );
        }
    }
    for (index, name) in apply.remove_backend_sets.iter().enumerate() {
        if !engine.sets.contains_key(name) {
            findings.add(
                format!("removeBackendSets[{index}]"),
                format!("there is no backend set \"{name}\""),
            );
        }
    }
}

/// Every listener that will be there must find its sets there.
fn references(engine: &Engine, apply: &Apply, removals: &Removals, findings: &mut Findings) {
    let coming: HashSet<&Name> = apply.backend_sets.iter().map(|s| &s.name).collect();
    let there = |set: &Name| {
        coming.contains(set) || engine.sets.contains_key(set) && !removals.sets.contains(set)
    };
    for (index, wanted) in apply.listeners.iter().enumerate() {
        for (field, set) in wanted.named_sets() {
            if !there(set) {
                let problem = format!("there is no backend set \"{set}\"");
                findings.add(format!("listeners[{index}].{field}"), problem);
            }
        }
    }
    if removals.sets.is_empty() {
        return;
    }
    let replaced: HashSet<&Name> = apply.listeners.iter().map(|l| &l.name).collect();
    for (name, entry) in &engine.listeners {
        let stays = !replaced.contains(name) && !removals.listeners.contains(name);
        if !stays {
            continue;
        }
        for set in entry.wanted.sets().into_iter().filter(|set| !there(set)) {
            findings.add(
                removal_path(apply, set),
                format!("is still used by listener \"{name}\""),
            );
        }
    }
}

fn removal_path(apply: &Apply, set: &Name) -> String {
    match apply
        .remove_backend_sets
        .iter()
        .position(|name| name == set)
    {
        Some(index) => format!("removeBackendSets[{index}]"),
        None => "backendSets".to_owned(),
    }
}

/// Looks at the named backends only: a set may have 100,000.
fn backend_change(
    engine: &Engine,
    change: &BackendChange,
    path: &str,
    findings: &mut Findings,
) -> Result<(), Rejected> {
    let Some(set) = engine.sets.get(&change.set) else {
        findings.add(
            format!("{path}.set"),
            format!("there is no backend set \"{}\"", change.set),
        );
        return Ok(());
    };
    if let Some(wanted) = change.if_version.filter(|v| *v != set.version) {
        return Err(Rejected::SetVersion {
            set: change.set.clone(),
            wanted,
            actual: set.version,
        });
    }
    for (index, key) in change.remove.iter().enumerate() {
        if !has_backend(set, key) {
            findings.add(
                format!("{path}.remove[{index}]"),
                format!("backend {key} is not in the set"),
            );
        }
    }
    Ok(())
}

/// By id and address, or by address alone.
pub(super) fn has_backend(set: &SetEntry, key: &BackendKey) -> bool {
    set.backends
        .get(&key.address)
        .is_some_and(|b| key.id.is_none() || b.runtime.key.id == key.id)
}
