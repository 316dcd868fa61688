//! `podline diff`: what `apply` would change.

mod compare;

use std::fmt::Write;

use podline_api::v1;
use serde_json::Value;

use super::failure::{Exit, Failure};
use super::human::clean;
use super::input::Input;
use super::output::Screen;
use super::settings;
use super::target::Target;
use compare::{Action, Difference, Field, differences};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    input: Input,
}

pub(super) async fn run(
    args: &Args,
    target: &Target,
    screen: &mut Screen,
) -> Result<Exit, Failure> {
    let document = args.input.read()?;
    let answer = target
        .connect()
        .await?
        .get(v1::GetRequest::default())
        .await?;
    let owner = args.input.owner.as_str();
    let differences = differences(&document, &answer, owner, args.input.replace);
    screen.answer(&differences, || render(&differences))?;
    Ok(if differences.is_empty() {
        Exit::Done
    } else {
        Exit::DifferentOrMissing
    })
}

fn render(differences: &[Difference]) -> String {
    let mut text = String::new();
    for difference in differences {
        let _ = writeln!(text, "{} {}", sign(difference.action), difference.what);
        if let Some(owner) = &difference.other_owner {
            let _ = writeln!(
                text,
                "  ! belongs to {}: apply would be refused",
                clean(owner)
            );
        }
        for Field { path, from, to } in &difference.fields {
            let _ = match difference.action {
                Action::Added => writeln!(text, "    {path}: {}", shown(to)),
                _ => writeln!(text, "    {path}: {} -> {}", shown(from), shown(to)),
            };
        }
        for backend in &difference.backends {
            let _ = write!(
                text,
                "  {} backend {}",
                sign(backend.action),
                clean(&backend.who)
            );
            let _ = match (backend.from, backend.to) {
                (Some(from), Some(to)) => writeln!(text, ", weight {from} -> {to}"),
                (None, Some(to)) => writeln!(text, ", weight {to}"),
                _ => writeln!(text),
            };
        }
    }
    if text.is_empty() {
        "no differences\n".to_owned()
    } else {
        text
    }
}

fn sign(action: Action) -> char {
    match action {
        Action::Added => '+',
        Action::Changed => '~',
        Action::Removed => '-',
    }
}

fn shown(value: &Value) -> String {
    match value {
        Value::Null => "(default)".to_owned(),
        Value::String(text) if text.contains("BEGIN CERTIFICATE") => settings::certificate(text),
        Value::String(text) => clean(text),
        // A certificate, whose key nobody is shown.
        Value::Object(fields) if fields.contains_key("chain") => shown(&fields["chain"]),
        Value::Array(list) => list.iter().map(shown).collect::<Vec<_>>().join(", "),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use podline_api::Document;

    use super::*;
    use crate::cli::get;
    use crate::cli::sample;

    fn wanted() -> Document {
        Document::try_from(get::document(sample::state())).unwrap()
    }

    fn check(wanted: &Document, owner: &str, replace: bool, expected: &str) {
        assert_eq!(
            render(&differences(wanted, &sample::state(), owner, replace)),
            expected
        );
    }

    #[test]
    fn what_is_there_already_makes_no_difference() {
        let mut wanted = wanted();
        wanted.listeners.truncate(1);
        wanted.backend_sets.truncate(1);
        check(&wanted, "file", false, "no differences\n");
        check(&wanted, "file", true, "no differences\n");
        check(&Document::default(), "cli", true, "no differences\n");
    }

    #[test]
    fn fields_and_backends_are_compared() {
        let file = "
listeners:
- {name: web, address: 127.0.0.1:8081, protocol: TCP, backendSet: web}
- {name: new, address: '[::1]:80', protocol: TCP, backendSet: web, idleTimeout: 1m}
backendSets:
- name: web
  policy: LEAST_CONNECTIONS
  drainTimeout: 0s
  backends: [{address: 10.0.0.1:80, weight: 20}, {id: pod-3, address: 10.0.0.3:80}]
";
        let text = "\
~ listener/web
    address: 127.0.0.1:8080 -> 127.0.0.1:8081
+ listener/new
    address: [::1]:80
    backendSet: web
    drainTimeout: 30s
    halfClosedTimeout: 1m
    idleTimeout: 1m
    protocol: TCP
    sourceAddress: SNAT
~ set/web
    drainTimeout: 30s -> 0s
    policy: ROUND_ROBIN -> LEAST_CONNECTIONS
    healthCheck.healthyThreshold: 3 -> (default)
    healthCheck.interval: 5s -> (default)
    healthCheck.timeout: 2s -> (default)
    healthCheck.type: TCP -> (default)
    healthCheck.unhealthyThreshold: 3 -> (default)
  ~ backend 10.0.0.1:80, weight 10 -> 20
  + backend 10.0.0.3:80 (pod-3), weight 10
";
        check(&Document::from_yaml(file).unwrap(), "file", false, text);
    }

    #[test]
    fn nested_fields_and_lists_are_named_by_their_paths() {
        let file = "
listeners:
- name: web
  address: 127.0.0.1:8080
  protocol: TCP
  backendSet: web
  sourceRanges: [10.0.0.0/8, 192.0.2.1]
  maxConnections: 1000
  clientLimits: {maxConnectionsPerSecond: 5}
backendSets:
- name: web
  policy: MAGLEV
  healthCheck: {type: HTTP, port: 8081, http: {path: /healthz, statuses: ['200', '3xx']}}
  affinity: {clientIp: {timeout: 1h}, group: front}
  failClosed: true
  maxEjectionPercent: 50
  passiveCheck: {failures: 5}
  backends: [{address: 10.0.0.1:80}]
";
        let text = "\
~ listener/web
    clientLimits.maxConnectionsPerSecond: (default) -> 5
    maxConnections: (default) -> 1000
    sourceRanges: (default) -> 10.0.0.0/8, 192.0.2.1/32
~ set/web
    affinity.clientIp.timeout: (default) -> 1h
    affinity.group: (default) -> front
    failClosed: false -> true
    hashKey: (default) -> CLIENT_IP
    healthCheck.http.method: (default) -> GET
    healthCheck.http.path: (default) -> /healthz
    healthCheck.http.statuses: (default) -> 200, 3xx
    healthCheck.http.version: (default) -> HTTP_1_1
    healthCheck.port: (default) -> 8081
    healthCheck.type: TCP -> HTTP
    maxEjectionPercent: 100 -> 50
    passiveCheck.ejectionTime: (default) -> 10s
    passiveCheck.failures: (default) -> 5
    policy: ROUND_ROBIN -> MAGLEV
";
        let wanted = Document::from_yaml(file).unwrap();
        check(&wanted, "file", false, text);
        // Once it is there, nothing differs.
        let mut found = sample::state();
        found.listeners[0].listener = Some((&wanted.listeners[0]).into());
        let set = &wanted.backend_sets[0];
        found.backend_sets[0].set = Some(set.settings.to_wire(&set.name));
        let found = differences(&wanted, &found, "file", false);
        assert_eq!(render(&found), "no differences\n");
    }

    #[test]
    fn certificates_are_compared_without_their_keys() {
        let file = |(chain, key): &(String, String)| {
            let certificates = serde_json::json!([{"chain": chain, "key": key}]);
            let keys = "0123456789abcdef".repeat(6);
            let text = format!(
                "listeners: [{{name: web, address: '127.0.0.1:8080', protocol: HTTPS, backendSet: web, tls: {{certificates: {certificates}, ticketKeys: ['{keys}']}}}}]"
            );
            Document::from_yaml(&text).unwrap()
        };
        let pairs = ["a.example", "b.example"].map(crate::cluster::testing::pair);
        let [first, second] = [file(&pairs[0]), file(&pairs[1])];
        let mut found = sample::state();
        found.listeners[0].listener = Some(first.listeners[0].shown());
        let told = |wanted| render(&differences(wanted, &found, "file", false));
        assert_eq!(told(&first), "no differences\n");
        let text = "\
~ listener/web
    tls.certificates: a.example until 4096-01-01T00:00:00Z -> b.example until 4096-01-01T00:00:00Z
";
        assert_eq!(told(&second), text);
    }

    #[test]
    fn a_new_id_at_an_old_address_is_another_backend() {
        let file = "backendSets: [{name: web, healthCheck: {type: TCP}, backends: [{id: pod-9, address: 10.0.0.1:80}]}]";
        let text =
            "~ set/web\n  + backend 10.0.0.1:80 (pod-9), weight 10\n  - backend 10.0.0.1:80\n";
        check(&Document::from_yaml(file).unwrap(), "file", false, text);
    }

    #[test]
    fn what_a_full_state_leaves_out_is_removed() {
        check(&Document::default(), "file", false, "no differences\n");
        check(
            &Document::default(),
            "file",
            true,
            "- listener/web\n- set/web\n",
        );
    }

    #[test]
    fn what_another_owner_has_is_pointed_out() {
        let mut wanted = wanted();
        wanted.listeners.remove(0);
        wanted.backend_sets.clear();
        let text = "~ listener/db\n  ! belongs to k8s/east: apply would be refused\n";
        check(&wanted, "cli", false, text);
    }

    #[test]
    fn the_json_form_uses_the_words_of_the_api() {
        let file = "backendSets: [{name: db, policy: ROUND_ROBIN, backends: [{address: '[fd00::1]:5432', weight: 0}]}]";
        let found = differences(
            &Document::from_yaml(file).unwrap(),
            &sample::state(),
            "cli",
            false,
        );
        let json = r#"[{"what":"set/db","action":"CHANGED","otherOwner":"k8s/east","fields":[{"path":"policy","from":"LEAST_CONNECTIONS","to":"ROUND_ROBIN"}],"backends":[{"who":"[fd00::1]:5432","action":"CHANGED","from":10,"to":0}]}]"#;
        assert_eq!(serde_json::to_string(&found).unwrap(), json);
    }
}
