//! What the whole workspace promises about itself: who may depend on whom, which code is pure, where `unsafe` stands,
//! and how files look. It lives beside the crate that everybody depends on.

use std::fs;
use std::path::{Path, PathBuf};

/// Crates of the workspace: what each may depend on, and what only its tests may.
const ARROWS: &[(&str, &[&str], &[&str])] = &[
    ("podline-api", &[], &[]),
    ("podline-api-fuzz", &["podline-api"], &[]),
    ("podline-lab", &[], &[]),
    ("podline-proxy", &["podline-api"], &["podline-lab"]),
    ("podline-proxy-fuzz", &["podline-api", "podline-proxy"], &[]),
    ("podline-control", &["podline-api"], &["podline-lab"]),
    ("podline-bench", &["podline-api", "podline-lab"], &[]),
];
/// Crates that only one room may use.
const RESERVED: &[(&str, &str)] = &[
    ("kube", "podline-control"),
    ("pingora-proxy", "podline-bench"),
];
/// Decides by its arguments alone.
const PURE: &[&str] = &[
    "bench/lab/src/kube_proxy/counters.rs",
    "bench/lab/src/kube_proxy/iptables.rs",
    "bench/lab/src/kube_proxy/names.rs",
    "bench/lab/src/kube_proxy/nftables.rs",
    "bench/lab/src/kube_proxy/rules.rs",
    "bench/lab/src/kube_proxy/segment.rs",
    "bench/lab/src/kube_proxy/stale.rs",
    "bench/lab/src/kube_proxy/view.rs",
    "bench/lab/src/requests.rs",
    "bench/src/account/stat.rs",
    "bench/src/compare.rs",
    "bench/src/compare/",
    "bench/src/handshakes.rs",
    "bench/src/headline.rs",
    "bench/src/headline/",
    "bench/src/load/dialect.rs",
    "bench/src/load/frame.rs",
    "bench/src/load/grpc_text.rs",
    "bench/src/load/http_text.rs",
    "bench/src/load/pace.rs",
    "bench/src/load/source.rs",
    "bench/src/load/tally.rs",
    "bench/src/pod/target.rs",
    "bench/src/report/",
    "bench/src/result.rs",
    "bench/src/stats.rs",
    "bench/src/stats/",
    "bench/src/subject/envoy.rs",
    "bench/src/subject/fits.rs",
    "bench/src/subject/haproxy.rs",
    "bench/src/subject/listening.rs",
    "bench/src/subject/name.rs",
    "bench/src/subject/nginx.rs",
    "bench/src/subject/pingora.rs",
    "bench/src/subject/podline.rs",
    "bench/src/subject/targets.rs",
    "bench/src/subject/traefik.rs",
    "bench/src/synthetic.rs",
    "bench/src/table.rs",
    "bench/src/table/",
    "bench/src/words.rs",
    "control/api/src/validity.rs",
    "control/src/admission/drain.rs",
    "control/src/admission/inject.rs",
    "control/src/admission/registration.rs",
    "control/src/admission/registration/",
    "control/src/admission/repair/decide.rs",
    "control/src/admission/repair/decide/",
    "control/src/admission/review.rs",
    "control/src/admission/undrained.rs",
    "control/src/allocate.rs",
    "control/src/allocate/",
    "control/src/api/answers.rs",
    "control/src/api/timeline.rs",
    "control/src/build/",
    "control/src/certificates/bundle.rs",
    "control/src/certificates/channel.rs",
    "control/src/certificates/object.rs",
    "control/src/certificates/pace.rs",
    "control/src/certificates/plan.rs",
    "control/src/certificates/stored.rs",
    "control/src/certificates/tickets/keys.rs",
    "control/src/certificates/x509.rs",
    "control/src/cli/import/adapt.rs",
    "control/src/cli/import/config.rs",
    "control/src/cli/import/documents.rs",
    "control/src/cli/import/ingress.rs",
    "control/src/cli/import/look.rs",
    "control/src/cli/import/service.rs",
    "control/src/cli/kube/pods.rs",
    "control/src/cli/uninstall/gate.rs",
    "control/src/cli/uninstall/lease.rs",
    "control/src/cli/uninstall/objects.rs",
    "control/src/cli/uninstall/owner.rs",
    "control/src/cli/uninstall/plan.rs",
    "control/src/cli/uninstall/trace.rs",
    "control/src/cluster/",
    "control/src/crd.rs",
    "control/src/engine/wants.rs",
    "control/src/gate/memory.rs",
    "control/src/gate/memory/",
    "control/src/gate/reason.rs",
    "control/src/gate/stand.rs",
    "control/src/gate/verdict.rs",
    "control/src/gate/writer/patch.rs",
    "control/src/lease/decide.rs",
    "control/src/lease/record.rs",
    "control/src/managers.rs",
    "control/src/observed.rs",
    "control/src/push/difference.rs",
    "control/src/push/find/slices.rs",
    "control/src/push/firsts.rs",
    "control/src/push/fits.rs",
    "control/src/push/holders.rs",
    "control/src/push/holders/",
    "control/src/push/holdings.rs",
    "control/src/push/lag.rs",
    "control/src/push/observe.rs",
    "control/src/push/quarantine.rs",
    "control/src/push/refusal.rs",
    "control/src/push/serving.rs",
    "control/src/push/sync.rs",
    "control/src/reasons.rs",
    "control/src/reconcile/addresses.rs",
    "control/src/reconcile/difference.rs",
    "control/src/reconcile/ingress.rs",
    "control/src/reconcile/wish.rs",
    "control/src/reign.rs",
    "control/src/snapshot.rs",
    "control/src/timeline/book.rs",
    "control/src/timeline/book/",
    "control/src/timeline/difference.rs",
    "control/src/timeline/news.rs",
    "control/src/timeline/point.rs",
    "control/src/timeline/row.rs",
    "control/src/timeline/skew.rs",
    "control/src/timeline/words.rs",
    "proxy/src/api/identity.rs",
    "proxy/src/check/http.rs",
    "proxy/src/check/tls.rs",
    "proxy/src/connect/abandoned.rs",
    "proxy/src/host/bits.rs",
    "proxy/src/host/nft/attribute.rs",
    "proxy/src/host/nft/encode.rs",
    "proxy/src/host/nft/expression.rs",
    "proxy/src/host/nft/ruleset.rs",
    "proxy/src/host/nft/text.rs",
    "proxy/src/host/responder/wire.rs",
    "proxy/src/host/return_path/settings.rs",
    "proxy/src/host/return_path/slots.rs",
    "proxy/src/host/return_path/ways.rs",
    "proxy/src/host/return_path/wish.rs",
    "proxy/src/host/vip/frames.rs",
    "proxy/src/host/vip/frames/",
    "proxy/src/host/vip/machine.rs",
    "proxy/src/host/vip/machine/",
    "proxy/src/host/vip/place.rs",
    "proxy/src/l4/ends.rs",
    "proxy/src/l7/answer.rs",
    "proxy/src/l7/answer/",
    "proxy/src/l7/cookie.rs",
    "proxy/src/l7/cookie/",
    "proxy/src/l7/fault.rs",
    "proxy/src/l7/forward.rs",
    "proxy/src/l7/forward/",
    "proxy/src/l7/h1/",
    "proxy/src/l7/h2/as_h1.rs",
    "proxy/src/l7/h2/as_h1/",
    "proxy/src/l7/h2/as_h2.rs",
    "proxy/src/l7/h2/as_h2/",
    "proxy/src/l7/h2/frames.rs",
    "proxy/src/l7/h2/pieces.rs",
    "proxy/src/l7/redirect.rs",
    "proxy/src/l7/redirect/",
    "proxy/src/l7/retry.rs",
    "proxy/src/lb/",
    "proxy/src/probe/echo.rs",
    "proxy/src/probe/schedule.rs",
    "proxy/src/probe/status_line.rs",
    "proxy/src/proxy_header/",
    "proxy/src/source/state_file/frame.rs",
    "proxy/src/tls/fault.rs",
    "proxy/src/tls/plain.rs",
    "proxy/src/tls/session.rs",
];
/// Tests beside pure code that look at a clock; they are run by hand.
const MEASURES: &str = "/tests/measure.rs";
/// I/O, clocks, threads and chance. Addresses and durations are values, so they are none of these.
const IMPURE: &[&str] = &[
    "Instant",
    "SystemTime",
    "TcpListener",
    "TcpSocket",
    "TcpStream",
    "UdpSocket",
    "UnixStream",
    "crate::net",
    "crate::worker",
    "libc::",
    "rand::",
    "rustix::",
    "socket2::",
    "std::env",
    "std::fs",
    "std::io",
    "std::process",
    "std::thread",
    "tokio::",
];
/// Where `unsafe` may stand.
const UNSAFE: &[&str] = &["proxy/src/net/", "bench/lab/src/new_netns.rs"];
const MAX_LINES: usize = 800;

fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.ancestors().nth(2).unwrap().to_owned()
}

/// Every file that belongs to the project: its path from the root, and its text.
fn files() -> Vec<(String, String)> {
    let root = root();
    let mut found = Vec::new();
    let mut folders = vec![root.clone()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            if path.is_symlink() || name == "target" || name == ".git" {
                continue;
            }
            if path.is_dir() {
                folders.push(path);
            } else if let Ok(text) = fs::read_to_string(&path) {
                let path = path.strip_prefix(&root).unwrap();
                found.push((path.to_string_lossy().into_owned(), text));
            }
        }
    }
    found.sort();
    found
}

fn sources() -> Vec<(String, String)> {
    let is_source = |path: &str| Path::new(path).extension().is_some_and(|e| e == "rs");
    let all: Vec<_> = files()
        .into_iter()
        .filter(|(path, _)| is_source(path))
        .collect();
    assert!(all.len() > 100, "only {} sources found", all.len());
    all
}

/// Lines with their numbers, without what stands behind `//`.
fn code(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let without_comment = |line: &'_ str| line.find("//").unwrap_or(line.len());
    (1..)
        .zip(text.lines())
        .map(move |(n, line)| (n, &line[..without_comment(line)]))
}

fn is_in(path: &str, places: &[&str]) -> bool {
    places.iter().any(|place| path.starts_with(place))
}

fn assert_none(found: &[String], rule: &str) {
    assert!(found.is_empty(), "{rule}:\n{}", found.join("\n"));
}

/// A manifest's name, and its dependencies with whether they are for tests only.
fn manifest(text: &str) -> (String, Vec<(String, bool)>) {
    let (mut section, mut name, mut needs) = (String::new(), String::new(), Vec::new());
    for line in text.lines().map(str::trim) {
        if let Some(header) = line.strip_prefix('[') {
            header.trim_end_matches(']').clone_into(&mut section);
            // As in [dependencies.name] and [target.'cfg(unix)'.dependencies.name].
            if let Some((before, name)) = section.rsplit_once("dependencies.") {
                needs.push((name.to_owned(), before.ends_with("dev-")));
            }
            continue;
        }
        let key = line.split(['=', '.', ' ']).next().unwrap_or_default();
        if section == "package" && key == "name" {
            line.split('"').nth(1).unwrap().clone_into(&mut name);
        }
        if section.ends_with("dependencies") && !key.is_empty() && !key.starts_with('#') {
            needs.push((key.to_owned(), section.ends_with("dev-dependencies")));
        }
    }
    (name, needs)
}

#[test]
fn dependencies_point_one_way() {
    let mut found = Vec::new();
    let mut crates = 0;
    for (path, text) in files() {
        let is_manifest = path.ends_with("/Cargo.toml");
        let (name, needs) = manifest(&text);
        if !is_manifest {
            continue;
        }
        crates += 1;
        let Some((_, always, in_tests)) = ARROWS.iter().find(|(known, ..)| *known == name) else {
            found.push(format!("{path}: {name} is not in the list of crates"));
            continue;
        };
        for (need, for_tests) in needs {
            let is_ours = need.starts_with("podline-");
            let allowed = always.contains(&&*need) || for_tests && in_tests.contains(&&*need);
            let taken = RESERVED
                .iter()
                .any(|(what, by)| *what == need && *by != name);
            if is_ours && !allowed || taken {
                found.push(format!("{path}: {name} must not depend on {need}"));
            }
        }
    }
    assert!(crates >= 4, "only {crates} manifests found");
    assert_none(&found, "arrows between crates");
}

#[test]
fn pure_code_is_pure() {
    let mut found = Vec::new();
    let mut pure = 0;
    let is_pure = |path: &str| is_in(path, PURE) && !path.ends_with(MEASURES);
    for (path, text) in sources().iter().filter(|(path, _)| is_pure(path)) {
        pure += 1;
        for (n, line) in code(text) {
            let impure = IMPURE.iter().filter(|word| line.contains(**word));
            found.extend(impure.map(|word| format!("{path}:{n}: {word}")));
        }
    }
    assert!(pure >= 10, "only {pure} pure files found");
    assert_none(&found, "pure code must not know");
}

#[test]
fn unsafe_stands_where_it_may() {
    let mut found = Vec::new();
    for (path, text) in sources().iter().filter(|(path, _)| !is_in(path, UNSAFE)) {
        for (n, line) in code(text) {
            let mut words =
                line.split(|c: char| !c.is_alphanumeric() && c != '_' && c != '-' && c != '"');
            if words.any(|word| word == concat!("un", "safe")) {
                found.push(format!("{path}:{n}"));
            }
        }
    }
    assert_none(&found, "unsafe code");
}

#[test]
fn every_source_says_what_it_is_for_and_stays_short() {
    let mut found = Vec::new();
    for (path, text) in sources() {
        if !text.starts_with("//! ") {
            found.push(format!("{path}: does not begin with //!"));
        }
        let lines = text.lines().count();
        if lines > MAX_LINES {
            found.push(format!("{path}: {lines} lines"));
        }
    }
    assert_none(&found, "files");
}

#[test]
fn nothing_knows_the_machine_it_was_written_on() {
    let root = root();
    let root = root.to_string_lossy();
    let homes = [
        concat!("/ho", "me/"),
        concat!("/Us", "ers/"),
        concat!("/wo", "rk/"),
    ];
    let mut found = Vec::new();
    for (path, text) in files() {
        for (n, line) in (1..).zip(text.lines()) {
            let is_root = root.matches('/').count() > 1 && line.contains(&*root);
            if is_root || homes.iter().any(|home| line.contains(home)) {
                found.push(format!("{path}:{n}: {line}"));
            }
        }
    }
    assert_none(&found, "paths of a machine");
}
