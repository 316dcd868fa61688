//! How often the comparison is right, on made-up runs.

use super::*;
use crate::synthetic::{ALL, World};

const RUNS: u64 = 20;

/// In how many of [`RUNS`] pairs of runs something is called worse, and anything at all.
fn rates(world: impl Fn(u64) -> World, slowed: f64) -> (u64, u64) {
    let (mut worse, mut any) = (0, 0);
    for seed in 0..RUNS {
        let before = world(2 * seed + 1).run();
        let after = World {
            slowed,
            ..world(2 * seed + 2)
        }
        .run();
        let comparison = compare(&before, &after);
        assert_eq!(comparison.refused, None);
        assert_eq!(comparison.unlike, []);
        worse += u64::from(comparison.is_worse());
        any += u64::from(
            comparison
                .judged
                .iter()
                .any(|j| j.verdict != Verdict::Noise),
        );
    }
    (worse, any)
}

fn check(what: &str, world: impl Fn(u64) -> World) {
    let (_, any) = rates(&world, 1.0);
    let (worse, _) = rates(&world, 1.2);
    println!(
        "{what}: of {RUNS} pairs, {any} of one build differ, {worse} of a slowed proxy are worse"
    );
    assert!(
        any * 10 <= RUNS,
        "{what}: {any} of {RUNS} of one build differ"
    );
    assert!(
        worse * 10 >= RUNS * 9,
        "{what}: {worse} of {RUNS} slowed ones are worse"
    );
}

#[test]
fn a_slowed_proxy_is_worse_and_one_build_is_noise() {
    check("headline", World::headline);
}

#[test]
fn also_on_a_noisy_machine() {
    check("noisy", |seed| World {
        noise: 0.05,
        disturbed: 0.05,
        ..World::headline(seed)
    });
}

#[test]
fn also_where_the_speed_hardly_drifts() {
    check("steady", |seed| World {
        drift: 0.02,
        noise: 0.01,
        disturbed: 0.0,
        ..World::headline(seed)
    });
}

#[test]
fn also_where_each_round_has_its_own_order() {
    check("shuffled", |seed| World {
        is_shuffled: true,
        ..World::headline(seed)
    });
}

#[test]
fn three_rounds_are_enough_for_a_factor_of_three() {
    let world = |seed| World {
        rounds: 3,
        ..World::headline(seed)
    };
    let (worse, any) = (rates(world, 3.0).0, rates(world, 1.0).1);
    println!(
        "three rounds: {any} of one build differ, {worse} of one three times as slow are worse"
    );
    assert!(any * 10 <= RUNS && worse * 10 >= RUNS * 9);
}

#[test]
fn also_with_five_rounds() {
    check("five rounds", |seed| World {
        rounds: 5,
        ..World::headline(seed)
    });
}

#[test]
fn also_beside_many_peers() {
    check("peers", |seed| World {
        subjects: ALL,
        tests: &["bulk", "rr", "crr", "udp"],
        ..World::headline(seed)
    });
}

/// The only judgement of a figure of a cell.
fn of(comparison: &Comparison, test: &str, subject: &str, figure: Figure) -> Judged {
    let found = comparison.judged.iter();
    let mut found = found.filter(|j| (&*j.test, &*j.subject, j.figure) == (test, subject, figure));
    let judged = found.next().expect("it is judged").clone();
    assert_eq!(found.next(), None);
    judged
}

fn pair(change: impl Fn(&mut RunResult)) -> Comparison {
    let mut after = World::headline(2).run();
    change(&mut after);
    compare(&World::headline(1).run(), &after)
}

fn cell<'a>(run: &'a mut RunResult, test: &str, subject: &str) -> &'a mut crate::result::Cell {
    let mut cells = run.cells.iter_mut();
    let found = cells.find(|cell| cell.test == test && cell.subject == subject);
    found.expect("the cell is there")
}

#[test]
fn without_a_yardstick_the_pulse_is_one() {
    let world = |seed| World {
        subjects: &["direct", "direct-transparent"],
        ..World::headline(seed)
    };
    let (worse, any) = (rates(world, 1.2).0, rates(world, 1.0).1);
    println!("pulse alone: {any} of one build differ, {worse} of a slowed proxy are worse");
    assert!(any * 10 <= RUNS && worse * 10 >= RUNS * 9);
    let comparison = compare(&world(1).run(), &world(2).run());
    let judged = of(&comparison, "rr", "direct", Figure::ProxyCpu);
    assert!(
        judged.why.ends_with("beside the machine's pulse"),
        "{}",
        judged.why
    );
}

#[test]
fn what_did_not_change_is_no_news() {
    let comparison = pair(|run| {
        let pod = cell(run, "rr", "pod");
        pod.rounds.iter_mut().for_each(|round| round.units /= 3.0);
    });
    let judged = of(&comparison, "rr", "pod", Figure::Rate);
    assert_eq!(judged.verdict, Verdict::Noise);
    assert!(judged.why.starts_with("did not change"), "{}", judged.why);
}

#[test]
fn a_yardstick_that_jumps_does_not_make_all_else_change() {
    let world = |seed| World {
        subjects: &["direct", "haproxy", "nginx"],
        ..World::headline(seed)
    };
    let mut after = world(2).run();
    // Pipes of another kind, in all rounds of a run.
    for round in &mut cell(&mut after, "bulk", "haproxy").rounds {
        round.proxy_cpu = round.proxy_cpu.map(|cpu| cpu * 0.6);
    }
    let judged = of(
        &compare(&world(1).run(), &after),
        "bulk",
        "direct",
        Figure::ProxyCpu,
    );
    assert_eq!(judged.verdict, Verdict::Noise, "{judged:?}");
}

#[test]
fn other_scenarios_and_machines_are_refused() {
    let comparison = pair(|run| run.scenario = "udp".to_owned());
    let reason = comparison.refused.clone().unwrap();
    assert!(
        reason.contains("direct-vs-nodeport") && reason.contains("udp"),
        "{reason}"
    );
    assert!(!comparison.is_worse() && comparison.judged.is_empty());
    let comparison = pair(|run| run.machine.cores = 64);
    let reason = comparison.refused.unwrap();
    assert!(
        reason.contains("2 cores") && reason.contains("64 cores"),
        "{reason}"
    );
}

#[test]
fn warnings_name_what_else_differs() {
    let comparison = pair(|run| {
        run.machine.kernel = "7.0".to_owned();
        run.machine.memory_mib += 1;
        run.machine.stolen = 0.2;
        run.machine.pulse.iter_mut().for_each(|pulse| *pulse *= 9.0);
        run.is_cut_short = true;
        run.cells[0].rounds.truncate(2);
    });
    let text = comparison.warnings.join("\n");
    let expected = [
        "kernels differ",
        "memory differs",
        "20% of the second run",
        "times as fast",
    ];
    for part in expected
        .into_iter()
        .chain(["before its last", "cells of 2 rounds"])
    {
        assert!(text.contains(part), "{text}");
    }
    let judged = of(&comparison, "bulk", "direct", Figure::Rate);
    assert_eq!(judged.verdict, Verdict::Noise);
}

#[test]
fn failures_are_worse_if_they_are_many() {
    let failing = |count: u64| {
        pair(|run| {
            for round in &mut cell(run, "rr", "direct").rounds {
                round.begun = 100_000;
                round.failures.insert("reset".to_owned(), count);
            }
        })
    };
    let stray = failing(1);
    assert!(!stray.is_worse());
    assert_eq!(stray.unlike.len(), 1);
    assert_eq!(
        stray.unlike[0].what,
        "void in the second run: 7 requests failed"
    );
    let many = failing(500);
    assert!(many.is_worse());
    assert_eq!(
        of(&many, "rr", "direct", Figure::Failures).verdict,
        Verdict::Worse
    );
}

#[test]
fn a_cell_that_became_void_is_worse() {
    let died = |subject: &'static str| {
        pair(move |run| cell(run, "rr", subject).void = Some("it died".to_owned()))
    };
    assert!(died("direct").is_worse());
    assert!(!died("pod").is_worse());
    let found = pair(|run| run.cells.retain(|cell| cell.test != "crr"));
    assert!(
        !found.is_worse()
            && found
                .unlike
                .iter()
                .all(|u| u.what == "only in the first run")
    );
    let grown = pair(|run| {
        let mut more = run.cells[0].clone();
        more.test = "more".to_owned();
        run.cells.push(more);
    });
    assert_eq!(grown.unlike[0].what, "only in the second run");
}

#[test]
fn memory_must_grow_by_a_tenth_and_a_mebibyte() {
    let grown = |times: u64, plus: u64| {
        let comparison = pair(|run| {
            for round in &mut cell(run, "rr", "direct").rounds {
                round.proxy_kib = round.proxy_kib.map(|kib| kib * times / 100 + plus);
            }
        });
        of(&comparison, "rr", "direct", Figure::Memory).verdict
    };
    assert_eq!(grown(100, 0), Verdict::Noise);
    assert_eq!(grown(105, 0), Verdict::Noise);
    assert_eq!(grown(100, 3_000), Verdict::Worse);
    assert_eq!(grown(50, 0), Verdict::Better);
}

#[test]
fn odd_numbers_and_empty_runs_do_not_panic() {
    let comparison = pair(|run| {
        for cell in &mut run.cells {
            for (n, round) in cell.rounds.iter_mut().enumerate() {
                round.units = [1e308, 1e-308, -1.0, 0.0][n % 4];
                round.machine_cpu = 1e308;
            }
        }
        run.machine.pulse = vec![0.0, -1.0, 1e308];
    });
    assert!(
        comparison
            .judged
            .iter()
            .all(|j| j.ratio.is_none_or(|ratio| !ratio.is_nan()))
    );
    let empty = pair(|run| run.cells.clear());
    assert!(!empty.is_worse());
    let nothing = RunResult {
        cells: Vec::new(),
        ..World::headline(1).run()
    };
    assert_eq!(compare(&nothing, &nothing).judged, []);
}
