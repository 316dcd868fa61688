//! TYPE/NAME arguments: which listeners and backend sets are meant.

use std::collections::HashSet;

use podline_api::{Name, v1};

use super::failure::{Exit, Failure};
use super::kube::trouble::Trouble;
use super::target::Target;

/// A kind of thing: a proxy has listeners and sets, the controller Services.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Listener,
    Set,
    /// With a name that has no slash: all of a namespace.
    Service,
}

/// One argument: all of a kind, or one by name.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Selector {
    kind: Kind,
    name: Option<Name>,
}

/// What the arguments select; none select everything.
#[derive(Clone, Debug, Default, PartialEq, Eq, clap::Args)]
pub(super) struct Selection {
    /// listeners, sets, listener/NAME or set/NAME; of a controller: services/NAMESPACE or service/NAMESPACE/NAME;
    /// everything if left out.
    #[arg(value_name = "TYPE[/NAME]", value_parser = parse)]
    selectors: Vec<Selector>,
}

fn parse(text: &str) -> Result<Selector, String> {
    const USE: &str = "use listeners, sets, listener/NAME or set/NAME";
    // Names may hold slashes too.
    let (kind, name) = text
        .split_once('/')
        .map_or((text, None), |(kind, name)| (kind, Some(name)));
    let kind = match kind {
        "listener" | "listeners" => Kind::Listener,
        "set" | "sets" | "backendset" | "backendsets" => Kind::Set,
        "service" | "services" => Kind::Service,
        _ => return Err(format!("unknown type {kind:?}: {USE}")),
    };
    let name = name
        .map(Name::try_from)
        .transpose()
        .map_err(|invalid| format!("the name {invalid}: {USE}"))?;
    let slashes = name
        .as_ref()
        .map_or(0, |name| name.as_str().matches('/').count());
    let named = text.starts_with("service/");
    if kind == Kind::Service && (slashes > 1 || named && slashes == 0) {
        return Err("use services, services/NAMESPACE or service/NAMESPACE/NAME".to_owned());
    }
    Ok(Selector { kind, name })
}

/// Reads `set/NAME`.
pub(super) fn one_set(text: &str) -> Result<Name, String> {
    match text.parse() {
        Ok(Named::Set(name)) => Ok(name),
        _ => Err("use set/NAME".to_owned()),
    }
}

/// Reads `set/NAME`, `service/NAMESPACE/NAME` or `ingress/NAMESPACE/NAME`.
pub(super) fn set_or_front(text: &str) -> Result<SetOrFront, String> {
    let service = service(text).map(|(namespace, name)| Front {
        kind: FrontKind::Service,
        namespace,
        name,
    });
    if let Some(front) = service.or_else(|| ingress(text)) {
        return Ok(SetOrFront::Front(front));
    }
    one_set(text).map(SetOrFront::Set).map_err(|_| {
        "use set/NAME, or service/NAMESPACE/NAME or ingress/NAMESPACE/NAME with --kube".to_owned()
    })
}

fn ingress(text: &str) -> Option<Front> {
    let (namespace, name) = text.strip_prefix("ingress/")?.split_once('/')?;
    let is_whole = !namespace.is_empty() && !name.is_empty() && !name.contains('/');
    is_whole.then(|| Front {
        kind: FrontKind::Ingress,
        namespace: namespace.to_owned(),
        name: name.to_owned(),
    })
}

fn service(text: &str) -> Option<(String, String)> {
    let selector = parse(text)
        .ok()
        .filter(|found| found.kind == Kind::Service)?;
    selector.service()
}

/// What a proxy, or what the controller explains.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum SetOrFront {
    Set(Name),
    Front(Front),
}

/// What clients connect to in a cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Front {
    pub(super) kind: FrontKind,
    pub(super) namespace: String,
    pub(super) name: String,
}

/// Kinds of that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FrontKind {
    Service,
    Ingress,
}

/// One thing of a proxy by its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Named {
    Listener(Name),
    Set(Name),
}

impl Selector {
    /// Namespace and name, if it names one Service.
    fn service(&self) -> Option<(String, String)> {
        let (namespace, name) = self.name.as_ref()?.as_str().split_once('/')?;
        Some((namespace.to_owned(), name.to_owned()))
    }
}

impl std::str::FromStr for Named {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match parse(text)? {
            Selector { name: None, .. }
            | Selector {
                kind: Kind::Service,
                ..
            } => Err("use listener/NAME or set/NAME".to_owned()),
            Selector {
                kind: Kind::Listener,
                name: Some(name),
            } => Ok(Self::Listener(name)),
            Selector {
                kind: Kind::Set,
                name: Some(name),
            } => Ok(Self::Set(name)),
        }
    }
}

impl Named {
    /// The names of the listeners, and of the sets.
    pub(super) fn split(list: &[Self]) -> (Vec<Name>, Vec<Name>) {
        let (mut listeners, mut sets) = (Vec::new(), Vec::new());
        for named in list.iter().cloned() {
            match named {
                Self::Listener(name) => listeners.push(name),
                Self::Set(name) => sets.push(name),
            }
        }
        (listeners, sets)
    }
}

impl Selection {
    fn wants(&self, kind: Kind, name: &str) -> bool {
        let wants = |selector: &Selector| {
            selector.kind == kind
                && selector
                    .name
                    .as_ref()
                    .is_none_or(|wanted| wanted.as_str() == name)
        };
        self.selectors.is_empty() || self.selectors.iter().any(wants)
    }

    /// Refuses what a proxy cannot have, or a controller.
    pub(super) fn check(&self, of_controller: bool) -> Result<(), Failure> {
        let is_wrong = |found: &&Selector| (found.kind == Kind::Service) != of_controller;
        let Some(wrong) = self.selectors.iter().find(is_wrong) else {
            return Ok(());
        };
        Err(Failure::Usage(if of_controller {
            format!("the controller has services only: ask a proxy for {wrong}")
        } else {
            format!("a proxy has no services: add --kube or --control to ask for {wrong}")
        }))
    }

    /// The namespace that all Services are in that are meant; empty if there are several.
    pub(super) fn namespace(&self) -> &str {
        let mut namespaces = self.selectors.iter().map(|selector| {
            let name = selector.name.as_ref().map_or("", Name::as_str);
            name.split('/').next().unwrap_or_default()
        });
        let first = namespaces.next().unwrap_or_default();
        if namespaces.all(|namespace| namespace == first) {
            first
        } else {
            ""
        }
    }

    /// Leaves in `services` what is selected.
    ///
    /// # Errors
    /// What is selected by name and not there.
    pub(super) fn filter_services(
        &self,
        services: &mut Vec<v1::ServiceStatus>,
    ) -> Result<(), Failure> {
        let is = |selector: &Selector, service: &v1::ServiceStatus| {
            selector.name.as_ref().is_none_or(|wanted| {
                let (namespace, name) = match wanted.as_str().split_once('/') {
                    Some((namespace, name)) => (namespace, Some(name)),
                    None => (wanted.as_str(), None),
                };
                namespace == service.namespace && name.is_none_or(|name| name == service.name)
            })
        };
        services.retain(|service| {
            self.selectors.is_empty() || self.selectors.iter().any(|found| is(found, service))
        });
        let is_missing = |selector: &&Selector| {
            selector.service().is_some() && !services.iter().any(|service| is(selector, service))
        };
        match self.selectors.iter().find(is_missing) {
            None => Ok(()),
            Some(missing) => Err(Trouble::new(
                Exit::DifferentOrMissing,
                format!("the controller has nothing to do with {missing}"),
                [format!(
                    "podline explain {missing} says whether it is there"
                )],
            )
            .into()),
        }
    }

    /// Whether Ingresses are shown beside the Services: nothing is selected.
    pub(super) fn wants_ingresses(&self) -> bool {
        self.selectors.is_empty()
    }

    /// What the proxy has of it; with `summary`, without the single backends.
    pub(super) async fn get(
        &self,
        target: &Target,
        summary: bool,
    ) -> Result<v1::GetResponse, Failure> {
        let client = target.connect().await?;
        let mut answer = client.get(self.request(summary)).await?;
        self.filter(&mut answer)?;
        Ok(answer)
    }

    /// What to ask the proxy for. It can only name things, so a whole kind is everything.
    fn request(&self, summary: bool) -> v1::GetRequest {
        let mut request = v1::GetRequest {
            summary,
            ..Default::default()
        };
        if self
            .selectors
            .iter()
            .any(|selector| selector.name.is_none())
        {
            return request;
        }
        for selector in &self.selectors {
            let names = match selector.kind {
                Kind::Listener => &mut request.listeners,
                Kind::Set => &mut request.backend_sets,
                Kind::Service => continue, // refused before
            };
            names.extend(selector.name.as_ref().map(ToString::to_string));
        }
        request
    }

    /// Leaves in `answer` what is selected.
    ///
    /// # Errors
    /// What is selected by name and not there.
    fn filter(&self, answer: &mut v1::GetResponse) -> Result<(), Failure> {
        answer
            .listeners
            .retain(|listener| self.wants(Kind::Listener, listener_name(listener)));
        answer
            .backend_sets
            .retain(|set| self.wants(Kind::Set, set_name(set)));
        answer
            .overrides
            .retain(|status| self.wants(Kind::Set, &status.set));
        let listeners = answer.listeners.iter().map(|listener| &listener.owner);
        let sets = answer.backend_sets.iter().map(|set| &set.owner);
        let owners: HashSet<&String> = listeners.chain(sets).collect();
        answer
            .owners
            .retain(|status| self.selectors.is_empty() || owners.contains(&status.owner));
        let missing = |selector: &&Selector| match (selector.kind, &selector.name) {
            (_, None) | (Kind::Service, _) => false,
            (Kind::Listener, Some(name)) => !answer
                .listeners
                .iter()
                .any(|l| listener_name(l) == name.as_str()),
            (Kind::Set, Some(name)) => !answer
                .backend_sets
                .iter()
                .any(|set| set_name(set) == name.as_str()),
        };
        let missing: Vec<_> = self
            .selectors
            .iter()
            .filter(missing)
            .map(ToString::to_string)
            .collect();
        if missing.is_empty() {
            Ok(())
        } else {
            Err(Failure::NotFound(missing))
        }
    }
}

impl std::fmt::Display for Selector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let kind = match self.kind {
            Kind::Listener => "listener",
            Kind::Set => "set",
            Kind::Service => "service",
        };
        match &self.name {
            Some(name) if self.kind == Kind::Service && self.service().is_none() => {
                write!(f, "services/{name}")
            }
            Some(name) => write!(f, "{kind}/{name}"),
            None => write!(f, "{kind}s"),
        }
    }
}

/// The name of a listener in an answer.
pub(super) fn listener_name(status: &v1::ListenerStatus) -> &str {
    status
        .listener
        .as_ref()
        .map_or("", |listener| &listener.name)
}

/// The name of a set in an answer.
pub(super) fn set_name(status: &v1::BackendSetStatus) -> &str {
    status.set.as_ref().map_or("", |set| &set.name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::sample;

    fn selection(arguments: &[&str]) -> Selection {
        Selection {
            selectors: arguments.iter().map(|text| parse(text).unwrap()).collect(),
        }
    }

    #[test]
    fn selections_ask_for_names_and_keep_what_was_meant() {
        let check = |arguments: &[&str], asked: [&[&str]; 2], kept: [&[&str]; 2]| {
            let selection = selection(arguments);
            let request = selection.request(false);
            assert_eq!(
                (request.listeners, request.backend_sets),
                (names(asked[0]), names(asked[1]))
            );
            let mut answer = sample::state();
            selection.filter(&mut answer).unwrap();
            let listeners: Vec<_> = answer.listeners.iter().map(listener_name).collect();
            let sets: Vec<_> = answer.backend_sets.iter().map(set_name).collect();
            assert_eq!([&listeners[..], &sets[..]], kept);
            let overrides = if sets.contains(&"web") { 2 } else { 0 };
            assert_eq!(answer.overrides.len(), overrides, "both are of web");
            let owns = |name| listeners.contains(&name) || sets.contains(&name);
            let owners: Vec<_> = answer.owners.iter().map(|o| o.owner.as_str()).collect();
            assert_eq!(owners.contains(&"file"), owns("web"));
            assert_eq!(owners.contains(&"k8s/east"), owns("db"));
        };
        let names_of_all: [&[&str]; 2] = [&["web", "db"], &["web", "db"]];
        check(&[], [&[], &[]], names_of_all);
        check(&["listeners"], [&[], &[]], [names_of_all[0], &[]]);
        check(
            &["sets", "listener/db"],
            [&[], &[]],
            [&["db"], names_of_all[1]],
        );
        check(&["set/web"], [&[], &["web"]], [&[], &["web"]]);
        check(
            &["listener/web", "backendset/db"],
            [&["web"], &["db"]],
            [&["web"], &["db"]],
        );
    }

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn what_is_not_there_is_told() {
        let error = selection(&["set/web", "set/a/b", "listener/no"])
            .filter(&mut sample::state())
            .unwrap_err();
        assert_eq!(
            error.to_string(),
            "the proxy has no set/a/b, no listener/no"
        );
    }

    #[test]
    fn services_are_the_controllers() {
        let all = || {
            let service = |namespace: &str, name: &str| v1::ServiceStatus {
                namespace: namespace.to_owned(),
                name: name.to_owned(),
                ..Default::default()
            };
            vec![service("a", "x"), service("a", "y"), service("b", "x")]
        };
        let check = |arguments: &[&str], namespace: &str, kept: &str| {
            let selection = selection(arguments);
            selection.check(true).unwrap();
            assert_eq!(selection.namespace(), namespace);
            let mut services = all();
            selection.filter_services(&mut services).unwrap();
            let names = services
                .iter()
                .map(|s| format!("{}/{}", s.namespace, s.name));
            assert_eq!(names.collect::<Vec<_>>().join(" "), kept, "{arguments:?}");
        };
        check(&[], "", "a/x a/y b/x");
        check(&["services"], "", "a/x a/y b/x");
        check(&["services/a"], "a", "a/x a/y");
        check(&["service/a/y", "service/a/x"], "a", "a/x a/y");
        check(&["service/a/y", "services/b"], "", "a/y b/x");
        let missing = selection(&["service/b/y"]).filter_services(&mut all());
        let text = missing.unwrap_err().to_string();
        assert_eq!(text, "the controller has nothing to do with service/b/y");
        let told = |arguments: &[&str], of_controller| {
            let selection = selection(arguments);
            selection.check(of_controller).unwrap_err().to_string()
        };
        assert_eq!(
            told(&["services/a"], false),
            "a proxy has no services: add --kube or --control to ask for services/a"
        );
        assert_eq!(
            told(&["services", "set/web"], true),
            "the controller has services only: ask a proxy for set/web"
        );
        for (text, kind) in [
            ("service/a/x", FrontKind::Service),
            ("ingress/a/x", FrontKind::Ingress),
        ] {
            let (namespace, name) = ("a".to_owned(), "x".to_owned());
            let front = Front {
                kind,
                namespace,
                name,
            };
            assert_eq!(set_or_front(text), Ok(SetOrFront::Front(front)));
        }
        for text in [
            "services/a",
            "service/a",
            "service/a/x/y",
            "ingress/a",
            "ingress/a/x/y",
            "ingress//x",
            "services",
            "listener/a",
        ] {
            assert!(set_or_front(text).is_err(), "{text}");
        }
    }

    #[test]
    fn other_arguments_are_refused() {
        let check = |text: &str, expected: &str| {
            let expected = format!("{expected}: use listeners, sets, listener/NAME or set/NAME");
            assert_eq!(parse(text).unwrap_err(), expected);
        };
        check("web", "unknown type \"web\"");
        check("", "unknown type \"\"");
        check("pod/web", "unknown type \"pod\"");
        check("set/", "the name is required");
        check("service/", "the name is required");
    }
}
