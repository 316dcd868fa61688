//! Which rules of an Ingress stand at which of its ports, and which redirects do. Pure.
//!
//! As TKE has it: without `spec.tls` every rule is of HTTP, with it every one is of HTTPS; annotations mix them.

use std::collections::{BTreeMap, BTreeSet};

use podline_api::{HttpRoute, PathMatch, Protocol, Redirect, RedirectPath, v1};

use crate::build::annotation::ingress::{AUTO_REWRITE, Chosen, LISTEN_PORTS, OfIngress, Rewrite};
use crate::build::annotation::shorten;
use crate::build::note::{Note, Reason};
use crate::cluster::ingress::{Backend, Ingress, PortName, Rule};

/// Where an Ingress listens that does not say where.
const USUAL: [(Protocol, u16); 2] = [(Protocol::Http, 80), (Protocol::Https, 443)];
/// As many as a listener takes.
const MOST_ROUTES: usize = 1_000;

/// A port, and what stands there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Port<'a> {
    /// HTTP or HTTPS.
    pub(super) protocol: Protocol,
    pub(super) number: u16,
    /// No host and path twice.
    pub(super) routes: Vec<Route<'a>>,
    /// Who answers what no route takes.
    pub(super) default: Option<&'a Backend>,
}

/// One host and path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Route<'a> {
    /// Empty: every host.
    pub(super) host: &'a str,
    pub(super) path: PathMatch,
    pub(super) to: To<'a>,
}

impl Route<'_> {
    /// Its path, as it is written.
    pub(super) fn text(&self) -> &str {
        match &self.path {
            PathMatch::Exact(path) | PathMatch::Prefix(path) => path,
        }
    }
}

/// What becomes of its requests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum To<'a> {
    Backend(&'a Backend),
    Redirect(Redirect),
}

/// Every port at which something stands, in the order of `listen-ports`, and what there is to tell of the rest.
pub(super) fn ports<'a>(ingress: &'a Ingress, said: &'a OfIngress) -> (Vec<Port<'a>>, Vec<Note>) {
    let listened = said.ports.as_deref().unwrap_or(&USUAL);
    let mut notes = Vec::new();
    let good: Vec<(&Rule, PathMatch)> = ingress
        .rules
        .iter()
        .filter_map(|rule| match path(&rule.host, &rule.path, rule.is_exact) {
            Ok(path) => Some((rule, path)),
            Err(problem) => {
                notes.push(refused(&rule.host, &rule.path, &problem));
                None
            }
        })
        .collect();
    let speaks = Speaks::of(ingress, said, listened);
    let mut ports: Vec<Port<'a>> = Vec::new();
    for (protocol, number) in listened {
        let of_port = good
            .iter()
            .filter(|(rule, _)| speaks.has(*protocol, &rule.host, &rule.path, &rule.backend));
        let routes = of_port.map(|(rule, path)| Route {
            host: &rule.host,
            path: path.clone(),
            to: To::Backend(&rule.backend),
        });
        let default = ingress.default_backend.as_ref();
        ports.push(Port {
            protocol: *protocol,
            number: *number,
            routes: routes.collect(),
            default: default.filter(|backend| speaks.has(*protocol, "", "/", backend)),
        });
    }
    redirect(&mut ports, said, &mut notes);
    for port in &mut ports {
        notes.extend(settle(port));
    }
    ports.retain(|port| !port.routes.is_empty() || port.default.is_some());
    (ports, notes)
}

/// Which rules are of which protocol.
enum Speaks<'a> {
    /// All of this one.
    One(Protocol),
    Both,
    /// As the annotations choose.
    Chosen(&'a OfIngress),
}

impl<'a> Speaks<'a> {
    fn of(ingress: &Ingress, said: &'a OfIngress, listened: &[(Protocol, u16)]) -> Self {
        if said.mix_both {
            return Self::Both;
        }
        if said.mix {
            return Self::Chosen(said);
        }
        let first = listened.first().map(|(protocol, _)| *protocol);
        let is_one = listened.iter().all(|(it, _)| Some(*it) == first);
        match first.filter(|_| is_one) {
            Some(only) => Self::One(only),
            None if ingress.has_tls => Self::One(Protocol::Https),
            None => Self::One(Protocol::Http),
        }
    }

    fn has(&self, protocol: Protocol, host: &str, path: &str, backend: &Backend) -> bool {
        let said = match self {
            Self::One(only) => return *only == protocol,
            Self::Both => return true,
            Self::Chosen(said) => said,
        };
        let is_in = |list: &[Chosen]| list.iter().any(|it| names(it, host, path, backend));
        match protocol {
            Protocol::Http => is_in(&said.http),
            _ => is_in(&said.https) || !is_in(&said.http),
        }
    }
}

fn names(chosen: &Chosen, host: &str, path: &str, backend: &Backend) -> bool {
    let Some((service, port)) = &chosen.backend else {
        return false;
    };
    let is_it = match backend {
        Backend::Service(name, wanted) => {
            **name == **service
                && match wanted {
                    PortName::Number(number) => number.to_string() == *port,
                    PortName::Name(name) => **name == **port,
                }
        }
        Backend::Resource(_) => false,
    };
    is_it && chosen.host == host && chosen.path == path && chosen.rewrite.is_none()
}

/// Adds the redirects, in front of what they take the place of.
fn redirect<'a>(ports: &mut [Port<'a>], said: &'a OfIngress, notes: &mut Vec<Note>) {
    let is_off = said.mix_both || said.rewrite_support == Some(false);
    if said.auto_rewrite && !is_off {
        auto(ports, said, notes);
    }
    if said.rewrite_support != Some(true) || !said.mix || is_off {
        return;
    }
    let protocols: BTreeMap<u16, Protocol> =
        ports.iter().map(|it| (it.number, it.protocol)).collect();
    for port in ports {
        let list = match port.protocol {
            Protocol::Http => &said.http,
            _ => &said.https,
        };
        let mut first = Vec::new();
        for chosen in list {
            let Some(rewrite) = &chosen.rewrite else {
                continue;
            };
            match by_hand(chosen, rewrite, port, &protocols) {
                Ok(route) => first.push(route),
                Err(problem) => notes.push(refused(&chosen.host, &chosen.path, &problem)),
            }
        }
        first.append(&mut port.routes);
        port.routes = first;
    }
}

/// HTTP at 80 sends away what HTTPS at 443 has.
fn auto(ports: &mut [Port<'_>], said: &OfIngress, notes: &mut Vec<Note>) {
    let of = |wanted| {
        ports
            .iter()
            .position(|it| (it.protocol, it.number) == wanted)
    };
    let [Some(http), Some(https)] = USUAL.map(of) else {
        let message =
            format!("{AUTO_REWRITE} needs HTTP at 80 and HTTPS at 443 among {LISTEN_PORTS}");
        notes.push(Note::new(Reason::RuleRefused, message));
        return;
    };
    let away = |host: &str| {
        To::Redirect(Redirect {
            scheme: Some("https".to_owned()),
            host: None,
            port: None,
            path: None,
            status: said.codes.of(host),
        })
    };
    let of_https = &ports[https];
    let routes = of_https.routes.iter().map(|route| Route {
        host: route.host,
        path: route.path.clone(),
        to: away(route.host),
    });
    let mut routes: Vec<_> = routes.collect();
    if of_https.default.is_some() {
        let path = PathMatch::Prefix("/".to_owned());
        let (host, to) = ("", away(""));
        routes.push(Route { host, path, to });
        ports[http].default = None;
    }
    let of_http = &mut ports[http];
    routes.append(&mut of_http.routes);
    of_http.routes = routes;
}

fn by_hand<'a>(
    chosen: &'a Chosen,
    rewrite: &Rewrite,
    from: &Port<'_>,
    protocols: &BTreeMap<u16, Protocol>,
) -> Result<Route<'a>, String> {
    let to = rewrite.port;
    let Some(protocol) = protocols.get(&to) else {
        return Err(format!(
            "it redirects to port {to}, which is not listened at"
        ));
    };
    let host = rewrite.host.as_deref();
    let aim = path(
        host.unwrap_or_default(),
        rewrite.path.as_deref().unwrap_or("/"),
        false,
    )?;
    let PathMatch::Prefix(aim) = aim else {
        return Err("it redirects nowhere".to_owned());
    };
    let redirect = Redirect {
        scheme: Some(scheme(*protocol).to_owned()),
        host: host.map(str::to_owned),
        port: Some(to),
        path: rewrite.path.as_ref().map(|_| RedirectPath::Prefix(aim)),
        status: crate::build::annotation::ingress::FOUND,
    };
    let is_here = redirect
        .host
        .as_ref()
        .is_none_or(|host| *host == chosen.host)
        && redirect
            .path
            .as_ref()
            .is_none_or(|path| matches!(path, RedirectPath::Prefix(path) if *path == chosen.path));
    if to == from.number && is_here {
        return Err("it redirects to itself".to_owned());
    }
    Ok(Route {
        host: &chosen.host,
        path: path(&chosen.host, &chosen.path, false)?,
        to: To::Redirect(redirect),
    })
}

const fn scheme(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Https => "https",
        _ => "http",
    }
}

/// A path that a route can have, together with its host.
fn path(host: &str, path: &str, is_exact: bool) -> Result<PathMatch, String> {
    let path = path.to_owned();
    let (exact, prefix) = if is_exact {
        (Some(path), None)
    } else {
        (None, Some(path))
    };
    let hosts = (!host.is_empty()).then(|| host.to_owned());
    let wire = v1::HttpRoute {
        hosts: hosts.into_iter().collect(),
        path: Some(v1::HttpPath { exact, prefix }),
        backend_set: "any".to_owned(),
        ..v1::HttpRoute::default()
    };
    let route = HttpRoute::try_from(wire).map_err(|invalid| invalid.to_string())?;
    Ok(route.path)
}

/// Lets the first of each host and path count, and leaves out what is too much.
fn settle(port: &mut Port<'_>) -> Option<Note> {
    let mut seen = BTreeSet::new();
    let mut twice = None;
    port.routes.retain(|route| {
        let (path, is_exact) = match &route.path {
            PathMatch::Exact(path) => (path.clone(), true),
            PathMatch::Prefix(path) => (path.trim_end_matches('/').to_owned(), false),
        };
        let is_first = seen.insert((route.host.to_ascii_lowercase(), path, is_exact));
        if !is_first && matches!(route.to, To::Backend(_)) {
            // What a redirect takes the place of is left out without a word.
            twice.get_or_insert((route.host.to_owned(), route.text().to_owned()));
        }
        is_first
    });
    let is_over = port.routes.len() > MOST_ROUTES;
    port.routes.truncate(MOST_ROUTES);
    if is_over {
        let number = port.number;
        let message = format!("port {number}: more than {MOST_ROUTES} hosts and paths");
        return Some(Note::new(Reason::RuleRefused, message));
    }
    let redirects = port
        .routes
        .iter()
        .any(|it| matches!(it.to, To::Redirect(_)));
    let (host, path) = twice.filter(|_| !redirects)?;
    Some(refused(
        &host,
        &path,
        "it stands there twice, and the first counts",
    ))
}

/// Has the rules of a host take requests for hosts that are nobody's, too, where rules without a host do not.
pub(super) fn unname(routes: &mut Vec<HttpRoute>, host: &str) {
    let nobodys: Vec<PathMatch> = routes
        .iter()
        .filter(|it| it.hosts.is_empty())
        .map(|it| it.path.clone())
        .collect();
    let of_host = routes
        .iter()
        .filter(|it| it.hosts.iter().any(|it| it == host));
    let missing = of_host.filter(|it| !nobodys.contains(&it.path));
    let room = MOST_ROUTES.saturating_sub(routes.len());
    let more: Vec<_> = missing
        .take(room)
        .map(|it| HttpRoute {
            hosts: Vec::new(),
            ..it.clone()
        })
        .collect();
    routes.extend(more);
}

pub(super) fn refused(host: &str, path: &str, problem: &str) -> Note {
    let host = if host.is_empty() { "*" } else { host };
    let message = format!("{}{}: {problem}", shorten(host), shorten(path));
    Note::new(Reason::RuleRefused, message)
}

#[cfg(test)]
mod tests;
