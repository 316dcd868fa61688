//! What a candidate does in each situation.

use super::*;

const MINE: &str = "me";

fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

fn candidate() -> Candidate {
    Candidate::new(MINE.to_owned(), Terms::default())
}

/// A record that `holder` renewed for the `count`th time.
fn record(holder: &str, epoch: u64, count: i64) -> Record {
    Record {
        holder: holder.to_owned(),
        epoch,
        acquired: None,
        renewed: Timestamp::from_second(count).ok(),
        lasts: Duration::from_secs(8),
    }
}

/// One that leads since `asked`, with `epoch`.
fn leader(epoch: u64, asked: Duration) -> Candidate {
    let mut leader = candidate();
    leader.wrote(record(MINE, epoch, 1), asked, asked);
    leader
}

fn epoch(candidate: &Candidate, now: Duration) -> Option<u64> {
    candidate.held_at(now).map(|held| held.epoch)
}

#[test]
fn a_newcomer_looks_first() {
    assert_eq!(candidate().decide(ms(0)), Next::Look);
}

#[test]
fn what_nobody_holds_is_taken_at_once() {
    let check = |seen: Option<Record>, step| {
        let mut candidate = candidate();
        candidate.saw(seen, ms(100));
        assert_eq!(candidate.decide(ms(100)), step);
        assert_eq!(epoch(&candidate, ms(100)), None);
    };
    check(None, Next::Create { epoch: 1 });
    check(Some(Record::default()), Next::TakeOver { epoch: 1 });
    check(Some(record("", 7, 1)), Next::TakeOver { epoch: 8 });
    // Of an earlier run, or of a write whose answer never came.
    check(Some(record(MINE, 7, 1)), Next::TakeOver { epoch: 8 });
    check(Some(record("", LAST_EPOCH, 1)), Next::Exhausted);
}

#[test]
fn anothers_is_taken_when_it_was_not_renewed_for_its_whole_length() {
    let mut candidate = candidate();
    for second in 0..8 {
        candidate.saw(Some(record("other", 3, 1)), ms(100 + 1000 * second));
        let step = candidate.decide(ms(100 + 1000 * second));
        assert_eq!(step, Next::Wait(ms(1000)), "after {second} s");
        assert_eq!(candidate.decide(ms(1100 + 1000 * second)), Next::Look);
    }
    candidate.saw(Some(record("other", 3, 1)), ms(8050));
    assert_eq!(candidate.decide(ms(8050)), Next::Wait(ms(50)));
    assert_eq!(candidate.decide(ms(8100)), Next::TakeOver { epoch: 4 });
    // Renewed at the last moment: the whole length again.
    candidate.saw(Some(record("other", 3, 2)), ms(8100));
    assert_eq!(candidate.decide(ms(8100)), Next::Wait(ms(1000)));
    candidate.saw(Some(record("other", 3, 2)), ms(16_099));
    assert_eq!(candidate.decide(ms(16_099)), Next::Wait(ms(1)));
}

#[test]
fn the_length_that_the_holder_wrote_counts_within_reason() {
    let free_after = |lasts: u64| {
        let mut candidate = candidate();
        let seen = Record {
            lasts: Duration::from_secs(lasts),
            ..record("other", 1, 1)
        };
        candidate.saw(Some(seen.clone()), ms(0));
        (1..100).find(|second| {
            candidate.saw(Some(seen.clone()), ms(1000 * second));
            candidate.decide(ms(1000 * second)) == Next::TakeOver { epoch: 2 }
        })
    };
    assert_eq!(free_after(0), Some(8));
    assert_eq!(free_after(15), Some(15));
    assert_eq!(free_after(1_000_000), Some(60));
}

#[test]
fn a_leader_renews_each_second_and_counts_from_before_it_asked() {
    let mut leader = leader(4, ms(1000));
    assert_eq!(leader.decide(ms(1000)), Next::Wait(ms(1000)));
    assert_eq!(leader.decide(ms(2000)), Next::Renew { epoch: 4 });
    leader.wrote(record(MINE, 4, 2), ms(2000), ms(3500));
    assert_eq!(leader.held().map(|held| held.until), Some(ms(7000)));
    assert_eq!(leader.decide(ms(3500)), Next::Renew { epoch: 4 });
}

#[test]
fn a_leader_that_cannot_renew_ends_at_its_deadline() {
    let mut leader = leader(4, ms(1000));
    leader.failed(ms(2000));
    assert_eq!(leader.decide(ms(2100)), Next::Wait(ms(900)));
    leader.failed(ms(5500));
    assert_eq!(leader.decide(ms(5600)), Next::Wait(ms(400)));
    assert_eq!(epoch(&leader, ms(5999)), Some(4));
    assert_eq!(epoch(&leader, ms(6000)), None);
    assert_eq!(leader.decide(ms(6000)), Next::StepDown);
    leader.step_down();
    assert_eq!(leader.decide(ms(6500)), Next::Look);
    // It may take back what still names it, as a new reign.
    leader.saw(Some(record(MINE, 4, 1)), ms(6500));
    assert_eq!(leader.decide(ms(6500)), Next::TakeOver { epoch: 5 });
}

#[test]
fn an_answer_that_came_too_late_makes_no_leader() {
    let mut late = candidate();
    late.wrote(record(MINE, 4, 1), ms(1000), ms(6000));
    assert_eq!(epoch(&late, ms(6000)), None);
    assert_eq!(late.decide(ms(6000)), Next::StepDown);
}

#[test]
fn a_leader_that_lost_a_race_looks_and_obeys() {
    let check = |found: Option<Record>, step| {
        let mut leader = leader(4, ms(1000));
        leader.lost(ms(2000));
        assert_eq!(leader.decide(ms(2000)), Next::Look);
        leader.saw(found, ms(2000));
        assert_eq!(leader.decide(ms(2000)), step);
    };
    check(Some(record("other", 5, 1)), Next::StepDown);
    // Somebody edited the epoch.
    check(Some(record(MINE, 9, 1)), Next::StepDown);
    check(Some(record(MINE, 2, 1)), Next::StepDown);
    // Somebody put a label on it.
    check(Some(record(MINE, 4, 1)), Next::Renew { epoch: 4 });
    check(None, Next::Create { epoch: 5 });
}

#[test]
fn after_a_deletion_another_waits_until_the_holder_must_know() {
    let mut candidate = candidate();
    candidate.saw(Some(record("other", 6, 1)), ms(0));
    for second in 1..9 {
        candidate.saw(None, ms(1000 * second));
        let step = candidate.decide(ms(1000 * second));
        assert_eq!(step, Next::Wait(ms(1000)), "after {second} s");
    }
    candidate.saw(None, ms(9000));
    assert_eq!(candidate.decide(ms(9000)), Next::Create { epoch: 7 });
    // Given back before it was deleted: nobody can believe anything.
    candidate.saw(Some(record("", 6, 2)), ms(9000));
    candidate.saw(None, ms(9000));
    assert_eq!(candidate.decide(ms(9000)), Next::Create { epoch: 7 });
}

#[test]
fn a_failed_call_is_not_repeated_at_once() {
    let mut candidate = candidate();
    candidate.failed(ms(100));
    assert_eq!(candidate.decide(ms(200)), Next::Wait(ms(900)));
    assert_eq!(candidate.decide(ms(1100)), Next::Look);
    // A write of unknown outcome: look before the next.
    candidate.saw(None, ms(1100));
    candidate.failed(ms(1100));
    assert_eq!(candidate.decide(ms(2100)), Next::Look);
    // A lost race: look at once.
    candidate.saw(None, ms(2100));
    candidate.lost(ms(2100));
    assert_eq!(candidate.decide(ms(2100)), Next::Look);
    // Again and again: somebody else writes all the time.
    candidate.saw(None, ms(2200));
    candidate.lost(ms(2200));
    assert_eq!(candidate.decide(ms(2200)), Next::Wait(ms(1000)));
}

#[test]
fn an_epoch_that_a_proxy_has_seen_is_exceeded() {
    let mut leader = leader(4, ms(1000));
    assert!(leader.raise(3) && leader.raise(4));
    assert_eq!(leader.decide(ms(1000)), Next::Wait(ms(1000)));
    assert!(leader.raise(20));
    assert_eq!(leader.decide(ms(1000)), Next::Renew { epoch: 21 });
    leader.wrote(record(MINE, 21, 2), ms(1000), ms(1000));
    assert_eq!(epoch(&leader, ms(1000)), Some(21));
    assert_eq!(leader.decide(ms(1000)), Next::Wait(ms(1000)));
    assert!(!leader.raise(u64::MAX));
    assert_eq!(leader.decide(ms(1000)), Next::Wait(ms(1000)));

    let mut follower = candidate();
    assert!(follower.raise(20));
    follower.saw(Some(record("", 4, 1)), ms(0));
    assert_eq!(follower.decide(ms(0)), Next::TakeOver { epoch: 21 });
}
