//! `podline get`: what the proxy is configured to do, as a table or as a file that `apply` takes.

use podline_api::{Document, v1};

use super::Format;
use super::failure::{Exit, Failure};
use super::human::Columns;
use super::output::Screen;
use super::selection::{Selection, set_name};
use super::settings;
use super::target::Target;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    what: Selection,
}

pub(super) async fn run(
    args: &Args,
    target: &Target,
    screen: &mut Screen,
) -> Result<Exit, Failure> {
    let answer = args
        .what
        .get(target, screen.format() == Format::Table)
        .await?;
    match screen.format() {
        Format::Table => screen.text(&render(&answer))?,
        Format::Json => screen.json(&document(answer))?,
        Format::Yaml => screen.write(yaml(document(answer))?.as_bytes())?,
    }
    Ok(Exit::Done)
}

/// The configuration that leads to this state: without what is on its way out.
pub(super) fn document(answer: v1::GetResponse) -> v1::Document {
    let set = |status: v1::BackendSetStatus| {
        let backends = status
            .backends
            .into_iter()
            .filter(|backend| !backend.draining);
        status.set.map(|set| v1::BackendSet {
            backends: backends.filter_map(|backend| backend.backend).collect(),
            ..set
        })
    };
    let stays =
        |status: &v1::ListenerStatus| status.state() != v1::listener_status::State::Draining;
    v1::Document {
        listeners: answer
            .listeners
            .into_iter()
            .filter(stays)
            .filter_map(|status| status.listener)
            .collect(),
        backend_sets: answer.backend_sets.into_iter().filter_map(set).collect(),
        network: answer.network.and_then(|status| status.network),
    }
}

/// What stands above a file in which something has to be filled in.
const KEYS: &str = "# A proxy tells no keys: put those of certificates in, and whole ticketKeys, before this is applied.\n";

fn yaml(wire: v1::Document) -> Result<String, Failure> {
    if wire.listeners.iter().any(|listener| listener.tls.is_some()) {
        return Ok(format!("{KEYS}{}", wire.to_yaml()));
    }
    let document = Document::try_from(wire).map_err(|source| Failure::Invalid {
        file: "the proxy's answer".to_owned(),
        source,
    })?;
    Ok(document.to_yaml())
}

fn render(answer: &v1::GetResponse) -> String {
    let mut parts = Vec::new();
    if !answer.listeners.is_empty() {
        const HEADER: &[&str] = &[
            "LISTENER",
            "ADDRESS",
            "PROTOCOL",
            "SET",
            "OWNER",
            "LIMITS",
            "PROXY HEADERS",
            "TLS",
        ];
        let mut columns = Columns::new("", HEADER);
        for status in &answer.listeners {
            let listener = status.listener.clone().unwrap_or_default();
            let protocol = listener.protocol().as_str_name().to_owned();
            let limits = settings::limits(&listener);
            let headers = settings::proxy_headers(&listener);
            let leads_to = settings::leads_to(&listener);
            let tls = settings::tls(&listener);
            columns.row([
                listener.name,
                listener.address,
                protocol,
                leads_to,
                status.owner.clone(),
                limits,
                headers,
                tls,
            ]);
        }
        parts.push(columns.text());
        parts.extend(routes(&answer.listeners));
    }
    if !answer.backend_sets.is_empty() {
        const HEADER: &[&str] = &[
            "SET",
            "POLICY",
            "HEALTH CHECK",
            "AFFINITY",
            "EJECTION",
            "REQUESTS IN",
            ">BACKENDS",
            "OWNER",
            ">VERSION",
        ];
        let mut columns = Columns::new("", HEADER);
        for status in &answer.backend_sets {
            let set = status.set.clone().unwrap_or_default();
            columns.row([
                set_name(status).to_owned(),
                settings::policy(&set),
                settings::health_check(&set),
                settings::affinity(&set),
                settings::ejection(&set),
                settings::requests_in(&set),
                status.total.to_string(),
                status.owner.clone(),
                status.version.to_string(),
            ]);
        }
        parts.push(columns.text());
    }
    if parts.is_empty() {
        "the proxy is not configured to do anything\n".to_owned()
    } else {
        parts.join("\n")
    }
}

/// The routes of HTTP listeners, if there are any.
fn routes(listeners: &[v1::ListenerStatus]) -> Option<String> {
    let mut columns = Columns::new("", &["ROUTES OF", "REQUESTS", "GO TO"]);
    let listeners = listeners
        .iter()
        .filter_map(|status| status.listener.as_ref());
    let routed = listeners.filter(|listener| !listener.routes.is_empty());
    let mut some = false;
    for listener in routed {
        some = true;
        for route in &listener.routes {
            let [requests, to] = settings::route(route);
            columns.row([listener.name.clone(), requests, to]);
        }
        if !listener.backend_set.is_empty() {
            let others = "all others".to_owned();
            columns.row([listener.name.clone(), others, listener.backend_set.clone()]);
        }
    }
    some.then(|| columns.text())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::sample;

    #[test]
    fn the_configuration_is_shown() {
        let text = "\
LISTENER  ADDRESS         PROTOCOL  SET  OWNER
web       127.0.0.1:8080  TCP       web  file
db        [::1]:5432      TCP       db   k8s/east

SET  POLICY             HEALTH CHECK  BACKENDS  OWNER     VERSION
web  ROUND_ROBIN        TCP                  2  file           12
db   LEAST_CONNECTIONS  -                    1  k8s/east        3
";
        assert_eq!(render(&sample::state()), text);
        assert_eq!(
            render(&v1::GetResponse::default()),
            "the proxy is not configured to do anything\n"
        );
    }

    #[test]
    fn what_is_shown_over_tls_is_told_without_keys() {
        let (chain, key) = crate::cluster::testing::pair("a.example");
        let certificate = serde_json::json!([{"chain": chain, "key": key}]);
        let text = format!(
            "listeners: [{{name: site, address: '[::1]:443', protocol: HTTPS, backendSet: web, tls: {{certificates: {certificate}}}}}]
backendSets: [{{name: web, httpVersion: HTTP_2, tls: {{}}}}]"
        );
        let document = Document::from_yaml(&text).unwrap();
        let answer = v1::GetResponse {
            listeners: vec![v1::ListenerStatus {
                listener: Some(document.listeners[0].shown()),
                ..Default::default()
            }],
            backend_sets: vec![v1::BackendSetStatus {
                set: Some((&document.backend_sets[0]).into()),
                ..Default::default()
            }],
            ..Default::default()
        };
        let text = "\
LISTENER  ADDRESS    PROTOCOL  SET  TLS
site      [::1]:443  HTTPS     web  a.example until 4096-01-01T00:00:00Z

SET  POLICY       HEALTH CHECK  REQUESTS IN  BACKENDS  VERSION
web  ROUND_ROBIN  -             HTTP/2, TLS         0        0
";
        assert_eq!(render(&answer), text);
        let text = yaml(super::document(answer)).unwrap();
        assert!(text.starts_with("# A proxy tells no keys"), "{text}");
        assert!(text.contains("BEGIN CERTIFICATE") && !text.contains("PRIVATE KEY"));
    }

    #[test]
    fn routes_are_shown() {
        let text = "
listeners:
- {name: a, address: '[::1]:80', protocol: TCP, backendSet: web}
- name: site
  address: '[::1]:81'
  protocol: HTTP
  backendSet: web
  routes: [{hosts: ['*.example.com'], path: {prefix: /api}, backendSet: api}, {path: {exact: /}, redirect: {path: /home}}]
";
        let listeners = Document::from_yaml(text).unwrap().listeners;
        let statuses = listeners.iter().map(|listener| v1::ListenerStatus {
            listener: Some(listener.into()),
            owner: "file".to_owned(),
            ..Default::default()
        });
        let answer = v1::GetResponse {
            listeners: statuses.collect(),
            ..Default::default()
        };
        let text = "\
LISTENER  ADDRESS   PROTOCOL  SET               OWNER
a         [::1]:80  TCP       web               file
site      [::1]:81  HTTP      web and 2 routes  file

ROUTES OF  REQUESTS           GO TO
site       *.example.com/api  api
site       */ exactly         302 to path /home
site       all others         web
";
        assert_eq!(render(&answer), text);
    }

    #[test]
    fn the_dump_is_a_file_that_can_be_applied() {
        let mut state = sample::state();
        state.listeners[1].state = v1::listener_status::State::Draining.into();
        let wire = document(state);
        let json = serde_json::to_string(&wire).unwrap();
        let document = Document::try_from(wire).unwrap();
        assert_eq!(document.listeners.len(), 1);
        assert_eq!(
            document.backend_sets[0].backends.len(),
            1,
            "a draining backend is on its way out"
        );
        assert_eq!(
            Document::from_yaml(&document.to_yaml()).as_ref(),
            Ok(&document)
        );
        assert_eq!(Document::from_yaml(&json), Ok(document), "JSON is YAML");
    }
}
