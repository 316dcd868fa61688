//! Holds the tables of control/README.md against the code.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::fmt::Write;

use clap::CommandFactory;

use crate::build::annotation::{Annotation, TABLE, ingress};
use crate::build::note::Reason;
use crate::cluster::service_config::{FIELDS, Place};
use crate::rbac::{self, Rule, Scope};
use crate::settings::Settings;
use crate::{gate, metrics};

const README: &str = include_str!("../README.md");

/// The rows of the table under a header that begins so: their cells.
fn table(header: &str) -> Vec<Vec<&'static str>> {
    let lines = README.lines().skip_while(|line| !line.starts_with(header));
    let rows = lines.skip(2).take_while(|line| line.starts_with('|'));
    let cells = |line: &'static str| {
        let inside = line.strip_prefix('|').unwrap().strip_suffix('|').unwrap();
        inside.split(" | ").map(str::trim).collect()
    };
    let rows: Vec<_> = rows.map(cells).collect();
    assert!(!rows.is_empty(), "no table {header}");
    rows
}

fn quoted(text: &str) -> String {
    format!("`{text}`")
}

#[test]
fn every_annotation_is_told_as_the_table_has_it() {
    assert_eq!(table("| annotation |"), rows_of(TABLE));
}

fn rows_of(table: &[Annotation]) -> Vec<Vec<String>> {
    let rows = table.iter().map(|annotation| {
        let effect = format!("{:?}", annotation.effect).to_lowercase();
        vec![quoted(annotation.key), effect, annotation.about.to_owned()]
    });
    rows.collect()
}

#[test]
fn every_annotation_of_an_ingress_is_told_as_the_table_has_it() {
    assert_eq!(table("| Ingress annotation |"), rows_of(ingress::TABLE));
}

#[test]
fn every_field_of_a_tkeserviceconfig_is_told_as_the_table_has_it() {
    let place = |place: &Place| match place {
        Place::Whole => "loadBalancer",
        Place::L4 => "l4Listeners",
        Place::L7 => "l7Listeners",
        Place::Domain => "domains",
        Place::Rule => "rules",
    };
    let expected = FIELDS.iter().map(|row| {
        let places: Vec<_> = row.places.iter().map(place).collect();
        let effect = format!("{:?}", row.effect).to_lowercase();
        let about = row.about.to_owned();
        vec![quoted(row.path), places.join(", "), effect, about]
    });
    let told = table("| field of a TkeServiceConfig |");
    assert_eq!(told, expected.collect::<Vec<_>>());
}

#[test]
fn every_reason_is_told_with_what_to_do() {
    let told = table("| reason |");
    let names: Vec<_> = told.iter().map(|row| (row[0].to_owned(), row[1])).collect();
    let severity = |reason: &Reason| {
        if reason.is_warning() {
            "Warning"
        } else {
            "Normal"
        }
    };
    let expected = Reason::ALL
        .iter()
        .map(|reason| (quoted(reason.as_str()), severity(reason)));
    assert_eq!(names, expected.collect::<Vec<_>>());
    assert!(told.iter().all(|row| row[2].len() > 20), "{told:?}");
}

/// The reasons of conditions that are no notes stand in the code that decides.
#[test]
fn every_reason_of_a_condition_is_told() {
    const SOURCE: &str = concat!(
        include_str!("reconcile/wish.rs"),
        include_str!("reconcile/source.rs")
    );
    let reasons: Vec<_> = table("| condition |")
        .into_iter()
        .map(|row| row[1].trim_matches('`'))
        .collect();
    for reason in &reasons {
        let is_note = Reason::ALL.iter().any(|note| note.as_str() == *reason);
        assert!(
            is_note || SOURCE.contains(&format!("\"{reason}\"")),
            "{reason} is no more"
        );
    }
    let words = SOURCE.split('"').skip(1).step_by(2);
    let is_reason = |word: &&str| {
        word.starts_with(char::is_uppercase) && word.chars().all(char::is_alphanumeric)
    };
    // The value of ipMode.
    for word in words.filter(is_reason).filter(|word| *word != "Proxy") {
        assert!(reasons.contains(&word), "{word} is not told");
    }
}

#[test]
fn every_reason_of_a_gate_is_told() {
    let told = table("| gate's reason |");
    let names: Vec<_> = told.iter().map(|row| (row[0].to_owned(), row[1])).collect();
    let status = |opens: bool| if opens { "True" } else { "False" };
    let expected = gate::Reason::ALL
        .iter()
        .map(|reason| (quoted(reason.as_str()), status(reason.opens())));
    assert_eq!(names, expected.collect::<Vec<_>>());
    assert!(told.iter().all(|row| row[2].len() > 20), "{told:?}");
}

/// The sources of tests, but for this one.
fn tests() -> String {
    fn gather(folder: &std::path::Path, all: &mut String) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.to_string_lossy().into_owned();
            if path.is_dir() {
                gather(&path, all);
            } else if path.extension().is_some_and(|it| it == "rs")
                && !name.ends_with("/src/readme.rs")
            {
                let text = std::fs::read_to_string(&path).unwrap();
                let from = if name.contains("/tests") {
                    Some(0)
                } else {
                    text.find("#[cfg(test)]")
                };
                all.push_str(from.map_or("", |from| &text[from..]));
            }
        }
    }
    let here = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut all = String::new();
    for folder in ["src", "tests/it"] {
        gather(&here.join(folder), &mut all);
    }
    all
}

/// Whether a word stands there by itself.
fn has_word(text: &str, word: &str) -> bool {
    let is_part = |c: char| c.is_alphanumeric() || c == '_';
    text.match_indices(word).any(|(at, _)| {
        let (before, after) = (&text[..at], &text[at + word.len()..]);
        !before.ends_with(is_part) && !after.starts_with(is_part)
    })
}

/// Whether a word stands by itself in a text that a test has, as it has what it expects: a name in code does not count.
fn is_expected(tests: &str, word: &str) -> bool {
    let mut quoted = tests
        .lines()
        .flat_map(|line| line.split('"').skip(1).step_by(2));
    quoted.any(|text| has_word(text, word))
}

/// What no test expects no test produces.
#[test]
fn every_reason_and_annotation_is_in_some_test() {
    const NAMES: &str = include_str!("build/annotation.rs");
    let tests = tests();
    let conditions = table("| condition |").into_iter();
    let conditions = conditions.map(|row| row[1].trim_matches('`'));
    let reasons = Reason::ALL.iter().map(|reason| reason.as_str());
    let gates = gate::Reason::ALL.iter().map(|reason| reason.as_str());
    let all = reasons.chain(gates).chain(conditions);
    let missing: Vec<_> = all.filter(|word| !is_expected(&tests, word)).collect();
    assert_eq!(missing, [""; 0], "reasons");
    // A longer key says nothing of a shorter one; many are known by the name of a constant.
    let is_there = |key: &str| {
        let constant = format!(": &str = \"{key}\";");
        let before = NAMES.split_once(&constant).map(|(before, _)| before);
        let name = before.and_then(|before| before.rsplit(' ').next());
        let quoted = [format!("\"{key}\""), format!("{key}=")];
        quoted.iter().any(|text| tests.contains(text))
            || name.is_some_and(|name| has_word(&tests, name))
    };
    // Of those that do nothing one test has all, by the table.
    let counts = |annotation: &&crate::build::annotation::Annotation| {
        annotation.effect != crate::build::annotation::Effect::Ignored
    };
    let keys = TABLE.iter().filter(counts).map(|annotation| annotation.key);
    let missing: Vec<_> = keys.filter(|key| !is_there(key)).collect();
    assert_eq!(missing, [""; 0], "annotations");
}

#[test]
fn every_metric_is_told() {
    let expected = metrics::ALL.iter().map(|(name, sort, help)| {
        vec![
            quoted(name),
            format!("{sort:?}").to_lowercase(),
            (*help).to_owned(),
        ]
    });
    assert_eq!(table("| metric |"), expected.collect::<Vec<_>>());
}

fn rows(rules: &[Rule]) -> Vec<Vec<String>> {
    let row = |rule: &Rule| {
        let group = match rule.group {
            "" => String::new(),
            group => format!(".{group}"),
        };
        let mut what = quoted(&format!("{}{group}", rule.resource));
        for (i, name) in rule.names.iter().enumerate() {
            let _ = write!(what, "{} `{name}`", if i > 0 { "," } else { "" });
        }
        let place = match rule.scope {
            Scope::Cluster => "cluster",
            Scope::Own => "own namespace",
            Scope::KubeSystem => "`kube-system`",
        };
        vec![
            what,
            rule.verbs.join(", "),
            place.to_owned(),
            rule.why.to_owned(),
        ]
    };
    rules.iter().map(row).collect()
}

#[test]
fn what_it_may_do_is_told() {
    let (asking, rest) = README.split_once("## Removing it").unwrap();
    assert!(asking.contains("| resource |") && rest.contains("| resource |"));
    assert_eq!(table("| resource |"), rows(rbac::ASKING));
    assert_eq!(table("| doctor's resource |"), rows(rbac::DOCTOR));
    assert_eq!(table("| role's resource |"), rows(rbac::TLS));
    let rows = rows(rbac::RULES)
        .into_iter()
        .map(|row| format!("| {} |", row.join(" | ")));
    let expected: Vec<_> = rows.collect();
    let told = rest
        .lines()
        .skip_while(|line| !line.starts_with("| resource |"))
        .skip(2);
    let told: Vec<_> = told.take_while(|line| line.starts_with('|')).collect();
    assert_eq!(told, expected);
}

#[test]
fn every_flag_is_told() {
    let told = table("| flag |")
        .into_iter()
        .flat_map(|row| row[0].split(", "));
    let told: Vec<_> = told.map(|flag| flag.trim_matches('`').to_owned()).collect();
    let command = Settings::command();
    let known = command
        .get_arguments()
        .filter_map(|argument| argument.get_long());
    let known = known.filter(|name| !["help", "version"].contains(name));
    let mut known: Vec<_> = known.map(|name| format!("--{name}")).collect();
    let mut sorted = told.clone();
    sorted.sort();
    known.sort();
    assert_eq!(sorted, known);
}
