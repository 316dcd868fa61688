//! Podline's HTTP engine beside pingora-proxy's: the same requests through both, each in front of a backend that keeps
//! what it was sent. What became of them agrees, or the difference stands in `listed` with its reason.

mod backend;
mod client;
mod listed;
mod ordinary;
mod outcome;
mod proxies;
mod wire;

use std::collections::BTreeSet;
use std::fmt::Write;
use std::time::Duration;

use podline_lab::requests;

use ordinary::Request;
use outcome::Outcome;
use proxies::Proxy;

const LONG: Duration = Duration::from_secs(10);

/// Those that can be read in two ways, by what makes them so.
fn ambiguous() -> Vec<Request> {
    let fields = [requests::TWO_LENGTHS, requests::CODINGS, requests::BROKEN].concat();
    let with_fields = |it: &&str| Request::new(it, requests::with_fields(it));
    let with_chunks = |it: &&str| Request::new(it, requests::with_chunks(it));
    let heads = [requests::TUNNEL, requests::TWO_HOSTS];
    let heads = [requests::HOSTS, requests::LINES, &heads].concat();
    let heads = heads.iter().map(|head| Request::new(head, head));
    fields
        .iter()
        .map(with_fields)
        .chain(requests::CHUNKS.iter().map(with_chunks))
        .chain(heads)
        .collect()
}

fn through(proxy: &Proxy, request: &Request) -> Outcome {
    let answers = client::ask(proxy.address, &request.bytes, request.late);
    Outcome::new(answers, proxy.backend.settle())
}

#[test]
fn two_engines_do_the_same_but_for_what_is_listed() {
    let [podline, pingora] = [Proxy::podline(), Proxy::pingora()];
    let names = [podline.name, pingora.name];
    let all = [ambiguous(), ordinary::all()].concat();
    let mut problems = String::new();
    let mut known = BTreeSet::new();
    for request in &all {
        let name = &*request.name;
        assert!(known.insert(name), "two are named {name:?}");
        let seen = through(&podline, request).differences(names, &through(&pingora, request));
        let listed = listed::of(name);
        if seen != listed.map_or(&[][..], |listed| listed.lines) {
            let why = listed.map_or("is not listed", |listed| listed.why);
            writeln!(problems, "{name:?}, {why}: now {seen:#?}").unwrap();
        }
    }
    assert!(
        problems.is_empty(),
        "they differ in another way than is listed: {problems}"
    );
    let mut listed = BTreeSet::new();
    for name in listed::names() {
        assert!(known.contains(name), "listed, and no request: {name:?}");
        assert!(listed.insert(name), "listed twice: {name:?}");
    }
}
