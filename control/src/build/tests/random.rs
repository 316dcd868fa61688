//! Random events against everything that must hold: see `Checked`. A failure prints its seed; seeds that failed once stay.

use k8s_openapi::api::core::v1 as core;
use k8s_openapi::api::discovery::v1 as discovery;
use serde_json::Value;

use super::checked::Checked;
use super::world::{Random, World};
use super::*;
use crate::cluster::{Change, Node, Pod, Service, Slice, Switches};

const RUNS: u64 = 300;
const EVENTS: usize = 50;

/// Says which seed failed: the output of a test is shown if it fails, and the last seed stands at its end.
fn seeds(count: u64) -> impl Iterator<Item = u64> {
    (0..count).inspect(|seed| println!("seed {seed}"))
}

#[test]
fn whatever_happens_a_build_is_as_if_it_were_the_first() {
    let (mut waited, mut closed, mut ended) = (0, 0, 0);
    for seed in seeds(RUNS) {
        let mut world = World::new(seed);
        let mut checked = Checked::new(world.options());
        let mut touched = Touched::default();
        for _ in 0..EVENTS * 2 {
            let event = world.event(checked.builder.snapshot());
            touched.merge(checked.cluster.apply(event));
        }
        checked.build(&touched);
        for _ in 0..EVENTS {
            let event = world.event(checked.builder.snapshot());
            checked.change(event);
            waited += usize::from(!checked.builder.waiting.is_empty());
            closed += usize::from(!checked.builder.memory.closed.is_empty());
            ended += usize::from(!checked.builder.snapshot.ended.is_empty());
        }
    }
    println!("{waited} waited, {closed} closed, {ended} ended");
    let rare = waited.min(closed / 5).min(ended / 5);
    assert!(rare > 100, "what is rare hardly happens here");
}

/// Kinds that come over connections of their own.
const fn stream(change: &Change) -> u8 {
    match change {
        Change::Service(..) => 0,
        Change::Slice(..) => 1,
        Change::Pod(..) => 2,
        Change::Node(..) => 3,
        Change::Switches(_) => 4,
        Change::Observed(_) => 5,
        Change::Secret(..) => 6,
        Change::TicketKeys(_) => 7,
        Change::Ingress(..) => 8,
        Change::ServiceConfig(..) => 9,
    }
}

/// Merges the streams of `events` in another order.
fn reordered(events: &[Change], random: &mut Random) -> Vec<Change> {
    let mut streams: Vec<Vec<Change>> = (0..10)
        .map(|kind| {
            let of_kind = events.iter().filter(|change| stream(change) == kind);
            of_kind.rev().cloned().collect()
        })
        .collect();
    let mut merged = Vec::new();
    while merged.len() < events.len() {
        let chosen = random.below(streams.len());
        merged.extend(streams[chosen].pop());
    }
    merged
}

#[test]
fn the_order_between_kinds_does_not_matter_once_all_is_told() {
    let (mut same, mut all) = (0, 0);
    for seed in seeds(RUNS / 4) {
        let mut world = World::new(seed);
        let options = world.options();
        let mut first = Checked::new(options.clone());
        let mut other = Checked::new(options.clone());
        let mut late = Checked::new(options.clone());
        for _ in 0..EVENTS / 10 {
            let bound = first.builder.snapshot().clone();
            let events: Vec<_> = (0..10).map(|_| world.event(&bound)).collect();
            for event in &events {
                first.change(event.clone());
            }
            for event in reordered(&events, &mut world.random) {
                other.change(event);
            }
            let mut touched = Touched::default();
            for event in reordered(&events, &mut world.random) {
                touched.merge(late.cluster.apply(event));
            }
            late.build(&touched);
            let from = |cluster: &Cluster| {
                let memory = first.builder.memory().clone();
                let mut fresh = Builder::with_memory(options.clone(), memory);
                fresh.build(cluster, &Touched::all());
                (fresh.standings, fresh.ingresses, fresh.snapshot)
            };
            let expected = from(&first.cluster);
            assert_eq!(from(&other.cluster), expected);
            assert_eq!(from(&late.cluster), expected);
            for checked in [&other, &late] {
                all += 1;
                // What was closed on the way depends on the way.
                if checked.builder.memory == first.builder.memory {
                    same += 1;
                    assert_eq!(checked.builder.standings, first.builder.standings);
                    assert_eq!(checked.builder.ingresses, first.builder.ingresses);
                    let (is, should) = (checked.builder.snapshot(), first.builder.snapshot());
                    assert_eq!((&is.listeners, &is.sets), (&should.listeners, &should.sets));
                    assert_eq!(is.network, should.network);
                }
            }
        }
    }
    assert!(
        same * 10 > all * 8,
        "only {same} of {all} could be compared"
    );
}

/// Something in `value` becomes something else.
fn damage(value: &mut Value, random: &mut Random) {
    let garbage = |random: &mut Random| match random.below(9) {
        0 => Value::Null,
        1 => Value::from(""),
        2 => Value::from("x".repeat(100 << 10)),
        3 => Value::from(-1),
        4 => Value::from(65_536),
        5 => Value::from("::ffff:127.0.0.1"),
        6 => Value::from("\u{0}/..🦀"),
        7 => Value::from(true),
        _ => Value::Array(Vec::new()),
    };
    match value {
        Value::Object(fields) if !fields.is_empty() && !random.once_in(8) => {
            let chosen = random.below(fields.len());
            let name = fields.keys().nth(chosen).unwrap().clone();
            if random.once_in(10) {
                fields.remove(&name);
            } else {
                damage(&mut fields[&name], random);
            }
        }
        Value::Array(items) if !items.is_empty() && !random.once_in(8) => {
            let chosen = random.below(items.len());
            damage(&mut items[chosen], random);
            if random.once_in(4) {
                items.push(items[chosen].clone());
            }
        }
        other => *other = garbage(random),
    }
}

#[test]
fn damaged_objects_are_built_all_the_same() {
    let streams = [
        include_str!("../../../tests/fixtures/rolling-update.jsonl"),
        include_str!("../../../tests/fixtures/service-edits.jsonl"),
    ];
    let lines: Vec<Value> = streams
        .iter()
        .flat_map(|stream| stream.lines())
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let (mut read, mut refused) = (0, 0);
    for seed in seeds(RUNS / 8) {
        let mut random = Random(seed);
        let mut checked = Checked::new(Options {
            default_class: true,
            default_direct: random.once_in(2),
            ..Options::default()
        });
        for line in &lines {
            let mut object = line["object"].clone();
            for _ in 0..random.below(3) {
                damage(&mut object, &mut random);
            }
            let Some(change) = parse(line["kind"].as_str().unwrap(), object) else {
                refused += 1;
                continue;
            };
            read += 1;
            checked.change(change);
        }
    }
    assert!(read > refused / 2, "{read} read, {refused} refused");
}

fn parse(kind: &str, object: Value) -> Option<Change> {
    fn of<T: serde::de::DeserializeOwned>(object: Value) -> Option<T> {
        serde_json::from_value(object).ok()
    }
    Some(match kind {
        "Service" => {
            let service = Service::read(&of::<core::Service>(object)?)?;
            Change::Service(service.key.clone(), Some(Box::new(service)))
        }
        "EndpointSlice" => {
            let slice = Slice::read(&of::<discovery::EndpointSlice>(object)?)?;
            Change::Slice(slice.key.clone(), Some(slice))
        }
        "Pod" => {
            let pod = Pod::read(&of::<core::Pod>(object)?)?;
            Change::Pod(pod.key.clone(), Some(pod))
        }
        _ => {
            let node = Node::read(&of::<core::Node>(object)?)?;
            Change::Node(Arc::clone(&node.name), Some(node))
        }
    })
}

#[test]
fn switches_are_read_whatever_they_hold() {
    for text in ["true", "false", "TRUE", "", "\0", "{}"] {
        let config = core::ConfigMap {
            data: Some([("EnableDefaultDirectAccess".to_owned(), text.to_owned())].into()),
            ..core::ConfigMap::default()
        };
        let switches = Switches::read(Some(&config));
        assert_eq!(switches.direct_for_new, text == "true", "{text}");
        let is_readable = matches!(text, "true" | "false");
        assert_eq!(switches.unreadable.is_empty(), is_readable, "{text}");
    }
}
