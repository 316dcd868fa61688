//! Holds the dashboard and the alert rules against the metrics that proxies and controllers have, and against the runbook.
//! What the rules say of a history, promtool tests: docker/grafana/alerts_test.yaml.

use super::*;
use std::collections::BTreeMap;

const DOCKER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docker");
const READMES: [&str; 2] = [
    include_str!("../../../../proxy/README.md"),
    include_str!("../../../README.md"),
];

fn read(name: &str) -> String {
    fs::read_to_string(format!("{DOCKER}/{name}")).unwrap()
}

/// Every metric and its kind, as the tables have them, which other tests hold against the code.
fn metrics() -> BTreeMap<String, String> {
    let rows = READMES.iter().flat_map(|text| text.lines());
    let row = |line: &str| {
        let (name, rest) = line.strip_prefix("| `podline_")?.split_once("` | ")?;
        let kind = rest.split(" | ").next()?;
        Some((format!("podline_{name}"), kind.to_owned()))
    };
    let found: BTreeMap<_, _> = rows.filter_map(row).collect();
    assert!(found.len() > 80, "{}", found.len());
    found
}

/// The names of metrics in an expression.
fn used(expression: &str) -> Vec<String> {
    let is_of_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let words = expression.split(|c: char| !is_of_name(c));
    let ours = words.filter(|word| word.starts_with("podline_"));
    ours.map(str::to_owned).collect()
}

/// Every metric is there, histograms are looked at by their buckets, sums or counts, and counters by how they grow.
fn check(expression: &str, metrics: &BTreeMap<String, String>) {
    for name in used(expression) {
        let of_histogram = ["_bucket", "_sum", "_count"]
            .iter()
            .find_map(|end| metrics.get(name.strip_suffix(end)?));
        let kind = metrics.get(&name);
        match (kind.map(String::as_str), of_histogram.map(String::as_str)) {
            (Some("gauge"), None) => {}
            (Some("counter"), None) | (None, Some("histogram")) => {
                let at = expression.find(&name).unwrap();
                let before = &expression[..at];
                assert!(
                    before.ends_with("rate(") || before.ends_with("increase("),
                    "{name} only grows: {expression}"
                );
            }
            found => panic!("{name} is {found:?}: {expression}"),
        }
    }
}

fn alerts() -> Vec<Value> {
    let rules: Value = serde_saphyr::from_str(&read("grafana/alerts.yaml")).unwrap();
    let groups = rules["groups"].as_array().unwrap();
    let of_group = |group: &Value| group["rules"].as_array().unwrap().clone();
    groups.iter().flat_map(of_group).collect()
}

#[test]
fn alerts_are_about_metrics_that_there_are() {
    let metrics = metrics();
    for alert in alerts() {
        let expression = alert["expr"].as_str().unwrap();
        check(expression, &metrics);
        let is_up = expression.starts_with("up{job=\"podline-");
        assert!(is_up || !used(expression).is_empty(), "{expression}");
    }
}

#[test]
fn every_alert_has_its_entry_in_the_runbook_and_every_entry_its_alert() {
    let readme = read("README.md");
    let mut names = Vec::new();
    for alert in alerts() {
        let name = alert["alert"].as_str().unwrap().to_owned();
        let runbook = format!("docker/README.md#{}", name.to_lowercase());
        assert_eq!(alert["annotations"]["runbook"], json!(runbook));
        assert!(alert["annotations"]["summary"].as_str().unwrap().len() > 20);
        let severity = alert["labels"]["severity"].as_str().unwrap();
        assert!(["critical", "warning"].contains(&severity), "{severity}");
        names.push(name);
    }
    let told = readme.lines().filter_map(|line| line.strip_prefix("#### "));
    let told: Vec<_> = told
        .filter(|heading| heading.starts_with("Podline"))
        .collect();
    assert_eq!(told, names, "in the order of the file");
}

#[test]
fn rules_that_are_tested_are_there() {
    let names: BTreeSet<_> = alerts()
        .iter()
        .map(|alert| alert["alert"].as_str().unwrap().to_owned())
        .collect();
    let tests: Value = serde_saphyr::from_str(&read("grafana/alerts_test.yaml")).unwrap();
    let tests = tests["tests"].as_array().unwrap();
    let cases = tests
        .iter()
        .flat_map(|test| test["alert_rule_test"].as_array().unwrap());
    let tested: BTreeSet<_> = cases
        .map(|case| case["alertname"].as_str().unwrap().to_owned())
        .collect();
    assert!(tested.is_subset(&names) && tested.len() > 6, "{tested:?}");
}

#[test]
fn the_dashboard_shows_metrics_that_there_are_and_nothing_covers_anything() {
    let board: Value = serde_json::from_str(&read("grafana/dashboard.json")).unwrap();
    let metrics = metrics();
    let mut ids = BTreeSet::new();
    let mut cells = BTreeSet::new();
    let mut shown = 0;
    for panel in board["panels"].as_array().unwrap() {
        let title = panel["title"].as_str().unwrap();
        assert!(ids.insert(panel["id"].as_u64().unwrap()), "{title}");
        let at = |key: &str| panel["gridPos"][key].as_u64().unwrap();
        assert!(at("x") + at("w") <= 24, "{title}");
        for x in at("x")..at("x") + at("w") {
            for y in at("y")..at("y") + at("h") {
                assert!(cells.insert((x, y)), "{title} covers another panel");
            }
        }
        for target in panel["targets"].as_array().into_iter().flatten() {
            let expression = target["expr"].as_str().unwrap();
            assert!(!used(expression).is_empty(), "{title}");
            check(expression, &metrics);
            shown += 1;
        }
    }
    assert!(shown > 50, "{shown}");
    for variable in board["templating"]["list"].as_array().unwrap() {
        check(
            variable["definition"].as_str().unwrap_or_default(),
            &metrics,
        );
    }
}
