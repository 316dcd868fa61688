//! Contests, with times as numbers.

use std::time::Duration;

use super::*;

fn at(second: u64) -> Duration {
    Duration::from_secs(second)
}

fn damage(flaws: &[String]) -> Sight<'_> {
    Sight {
        flaws,
        is_missing: false,
        is_untouched: false,
    }
}

const WELL: Sight<'static> = Sight {
    flaws: &[],
    is_missing: false,
    is_untouched: false,
};

/// Somebody undoes each repair `after` so many seconds, until `end`: when it was written, and when pauses began.
fn fight(record: &mut Record, begin: u64, end: u64, after: u64) -> (Vec<u64>, Vec<(u64, u64)>) {
    let (mut writes, mut pauses, mut undone) = (Vec::new(), Vec::new(), begin);
    let flaws = ["webhooks[x].failurePolicy is Fail".to_owned()];
    for second in begin..end {
        let is_damaged = second >= undone;
        let sight = if is_damaged { damage(&flaws) } else { WELL };
        match record.look(&sight, at(second)) {
            Verdict::Write(cause) => {
                assert_eq!(cause, Cause::Damage);
                record.mended(flaws.to_vec(), cause, at(second));
                writes.push(second);
                undone = second + after;
            }
            Verdict::Yield(pause) => pauses.push((second, pause.as_secs())),
            Verdict::Wait => assert!(!pauses.is_empty()),
            Verdict::Well => assert!(!is_damaged),
        }
    }
    (writes, pauses)
}

#[test]
fn who_undoes_three_repairs_in_a_minute_is_left_alone_for_longer_and_longer() {
    let mut record = Record::default();
    let (writes, pauses) = fight(&mut record, 0, 4_000, 1);
    assert_eq!(writes[..4], [0, 1, 2, 33]);
    let lengths: Vec<_> = pauses.iter().map(|(_, length)| *length).collect();
    assert_eq!(lengths[..7], [30, 60, 120, 240, 480, 600, 600]);
    assert_eq!(pauses[0].0, 3);
    assert!(writes.len() <= 13, "{writes:?}");
}

#[test]
fn one_try_after_a_pause_that_holds_ends_it() {
    let mut record = Record::default();
    let (_, pauses) = fight(&mut record, 0, 10, 1);
    assert_eq!(pauses, [(3, 30)]);
    // The other gives up during the pause.
    assert_eq!(record.look(&WELL, at(20)), Verdict::Well);
    // Long after, all begins anew.
    let (writes, pauses) = fight(&mut record, 1_000, 1_010, 1);
    assert_eq!((writes.len(), pauses), (3, vec![(1_003, 30)]));
}

#[test]
fn who_undoes_seldom_is_no_contest() {
    let mut record = Record::default();
    let (writes, pauses) = fight(&mut record, 0, 3_600, 61);
    assert_eq!((writes.len(), pauses.len()), (60, 0));
}

#[test]
fn different_damage_is_no_contest_until_it_is_very_much() {
    let mut record = Record::default();
    let mut written = 0;
    for second in 0..60 {
        let flaws = [format!("flaw {second}")];
        match record.look(&damage(&flaws), at(second)) {
            Verdict::Write(cause) => {
                record.mended(flaws.to_vec(), cause, at(second));
                written += 1;
            }
            Verdict::Yield(_) | Verdict::Wait => {}
            Verdict::Well => unreachable!("it is damaged"),
        }
    }
    assert_eq!(written, 2 * 12, "a dozen, half a minute of peace, a dozen");
}

#[test]
fn damage_that_cannot_be_mended_yet_is_tried_again_and_is_no_contest() {
    let mut record = Record::default();
    let flaws = ["is missing".to_owned()];
    for second in (0..600).step_by(5) {
        let verdict = record.look(&damage(&flaws), at(second));
        assert_eq!(verdict, Verdict::Write(Cause::Damage), "{second}");
    }
}

#[test]
fn what_is_new_or_only_ours_is_no_repair() {
    let mut record = Record::default();
    let flaws = ["is missing".to_owned()];
    let missing = Sight {
        is_missing: true,
        ..damage(&flaws)
    };
    assert_eq!(record.look(&missing, at(0)), Verdict::Write(Cause::First));
    record.mended(flaws.to_vec(), Cause::First, at(0));
    assert_eq!(record.look(&missing, at(1)), Verdict::Write(Cause::Damage));
    let untouched = Sight {
        is_untouched: true,
        ..damage(&flaws)
    };
    for second in 0..60 {
        let verdict = record.look(&untouched, at(second));
        assert_eq!(verdict, Verdict::Write(Cause::Update));
        record.mended(flaws.to_vec(), Cause::Update, at(second));
    }
}
