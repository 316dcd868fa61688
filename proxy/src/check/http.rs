//! What `podline-proxy check` says of HTTP listeners: where their routes lead, and which take nothing.

use podline_api::{Document, Listener, Name, PathMatch};
use std::collections::HashMap;

/// `web`, `web and 3 routes`, `3 routes`: where a listener leads.
pub(super) fn leads_to(listener: &Listener) -> String {
    let routes = listener.http.iter().map(|http| http.routes.len()).sum();
    let routes = match routes {
        0 => None,
        many => Some(super::count(many, "route")),
    };
    let default = listener.backend_set.as_ref().map(Name::to_string);
    let both: Vec<_> = default.into_iter().chain(routes).collect();
    both.join(" and ")
}

/// Every route, and what becomes of the requests that it takes.
pub(super) fn routes(listeners: &[Listener]) -> impl Iterator<Item = String> {
    listeners.iter().flat_map(|listener| {
        let routes = listener.http.iter().flat_map(|http| &http.routes);
        routes.map(|route| format!("{}: {route} -> {}", listener.name, route.action))
    })
}

/// What is allowed, and perhaps not meant.
pub(super) fn notes(document: &Document) -> Vec<String> {
    let mut notes: Vec<String> = document.listeners.iter().flat_map(unreachable).collect();
    for set in &document.backend_sets {
        let affinity = set.settings.affinity.as_ref();
        if affinity.is_none_or(|affinity| affinity.client_ip_timeout().is_some()) {
            continue;
        }
        let leading = document.listeners.iter().filter(|l| l.leads_to(&set.name));
        let leading: Vec<_> = leading.collect();
        if !leading.is_empty() && !leading.iter().any(|listener| listener.protocol.is_http()) {
            let name = &set.name;
            let note = format!("no HTTP listener leads to {name}: its cookie is never set");
            notes.push(note);
        }
    }
    notes
}

/// Which paths, as a key: a prefix is the same with a slash at its end and without.
fn key(path: &PathMatch) -> (bool, &str) {
    match path {
        PathMatch::Exact(path) => (true, path),
        PathMatch::Prefix(path) => (false, path.trim_end_matches('/')),
    }
}

/// Routes of a listener that others stand before, and a set that gets nothing.
fn unreachable(listener: &Listener) -> Vec<String> {
    let Some(http) = &listener.http else {
        return Vec::new();
    };
    let name = &listener.name;
    let mut notes = Vec::new();
    let mut first: HashMap<(&str, (bool, &str)), usize> = HashMap::new();
    for (index, route) in http.routes.iter().enumerate() {
        let hosts = route.hosts.iter().map(String::as_str);
        let every = route.hosts.is_empty().then_some("*");
        let mut told = false;
        for host in hosts.chain(every) {
            let earlier = *first.entry((host, key(&route.path))).or_insert(index);
            if earlier != index && !told {
                told = true;
                let path = match &route.path {
                    PathMatch::Exact(path) | PathMatch::Prefix(path) => path,
                };
                notes.push(format!(
                    "listener {name}: {host}{path} stands in routes[{earlier}] and routes[{index}], and the first counts"
                ));
            }
        }
    }
    let all = first.get(&("*", (false, "")));
    if let (Some(index), Some(set)) = (all, &listener.backend_set) {
        notes.push(format!(
            "listener {name}: routes[{index}] takes all requests, and backendSet {set} gets none"
        ));
    }
    notes
}
