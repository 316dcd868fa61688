//! One address, case by case; and two machines on one link that is cut and healed at random.

use super::*;

const OWN: Mac = Mac([2, 0, 0, 0, 0, 5]);
const LOWER: Mac = Mac([2, 0, 0, 0, 0, 1]);
const HIGHER: Mac = Mac([2, 0, 0, 0, 0, 9]);

fn held(epoch: u64, take_over: bool) -> Wanted {
    Wanted {
        held: true,
        epoch,
        take_over,
    }
}

fn standby(epoch: u64) -> Wanted {
    Wanted {
        held: false,
        ..held(epoch, false)
    }
}

fn said(from: Mac, said: Said) -> Heard {
    Heard { from, said }
}

/// One that took the address at 0 ms, by this epoch.
fn holder(epoch: u64) -> Machine {
    let mut machine = Machine::new();
    let actions = machine.want(held(epoch, true), false, 0);
    assert_eq!(actions, [Action::Put, Action::Announce]);
    machine
}

/// What happens by time alone up to `until_ms`, with when.
fn run(machine: &mut Machine, until_ms: u64) -> Vec<(u64, Action)> {
    let mut all = Vec::new();
    while let Some(due) = machine.due_ms().filter(|due| *due <= until_ms) {
        let actions = machine.tick(due);
        assert!(!actions.is_empty(), "woken for nothing: {machine:?}");
        all.extend(actions.into_iter().map(|action| (due, action)));
    }
    all
}

fn announcements(all: &[(u64, Action)]) -> Vec<u64> {
    let of_kind = all.iter().filter(|(_, action)| *action == Action::Announce);
    of_kind.map(|(at, _)| *at).collect()
}

#[test]
fn an_address_is_asked_for_before_it_is_taken_the_first_time() {
    let mut machine = Machine::new();
    assert_eq!(machine.want(held(1, false), false, 0), [Action::Probe]);
    assert_eq!(
        run(&mut machine, 600),
        [
            (200, Action::Probe),
            (400, Action::Probe),
            (600, Action::Put),
            (600, Action::Announce)
        ]
    );
    assert!(machine.is_holding());
}

#[test]
fn who_takes_over_or_finds_it_on_its_link_does_not_ask() {
    assert!(holder(3).is_holding());
    let mut back = Machine::new();
    let actions = back.want(held(3, false), true, 0);
    assert_eq!(actions, [Action::Put, Action::Announce]);
    let mut asking = Machine::new();
    asking.want(held(3, false), false, 0);
    let actions = asking.want(held(3, true), false, 100);
    assert_eq!(actions, [Action::Put, Action::Announce]);
}

#[test]
fn a_holder_announces_often_at_first_and_keeps_the_address_there() {
    let mut machine = holder(1);
    let all = run(&mut machine, 30_000);
    assert_eq!(announcements(&all), [100, 500, 2_000, 12_000, 22_000]);
    let puts = all.iter().filter(|(_, action)| *action == Action::Put);
    assert_eq!(puts.count(), 15);
    let mut again = holder(1);
    run(&mut again, 5_000);
    again.want(held(2, true), false, 5_000);
    assert_eq!(
        announcements(&run(&mut again, 8_000)),
        [5_100, 5_500, 7_000]
    );
}

#[test]
fn a_host_that_has_the_address_is_left_alone_and_looked_for_later() {
    for found in [Said::Has, Said::Announced(None)] {
        let mut machine = Machine::new();
        machine.want(held(1, false), false, 0);
        assert_eq!(machine.hear(said(LOWER, found), OWN, 250), []);
        let why = Why::Taken(LOWER);
        let until_ms = 30_250;
        assert_eq!(*machine.phase(), Phase::Waiting { why, until_ms });
        assert_eq!(run(&mut machine, 30_250), [(30_250, Action::Probe)]);
        run(&mut machine, 31_000);
        assert!(machine.is_holding(), "it is gone");
    }
}

#[test]
fn a_proxy_that_was_told_earlier_is_taken_over_from_as_soon_as_it_speaks() {
    let before = said(LOWER, Said::Announced(Some(4)));
    let mut asking = Machine::new();
    asking.want(held(5, false), false, 0);
    let actions = asking.hear(before, OWN, 100);
    assert_eq!(actions, [Action::Put, Action::Announce]);
    // It answered only, and so could have been anybody.
    let mut waiting = Machine::new();
    waiting.want(held(5, false), false, 0);
    waiting.hear(said(LOWER, Said::Has), OWN, 100);
    let of_another = said(HIGHER, Said::Announced(Some(4)));
    assert_eq!(waiting.hear(of_another, OWN, 5_000), []);
    let actions = waiting.hear(before, OWN, 6_000);
    assert_eq!(actions, [Action::Put, Action::Announce]);
    for epoch in [5, 6] {
        let mut asking = Machine::new();
        asking.want(held(5, false), false, 0);
        asking.hear(said(HIGHER, Said::Announced(Some(epoch))), OWN, 100);
        let why = Why::Yielded(HIGHER);
        let until_ms = 30_100;
        assert_eq!(*asking.phase(), Phase::Waiting { why, until_ms });
    }
}

#[test]
fn of_two_that_ask_at_once_one_goes_on() {
    for (from, goes_on) in [(LOWER, false), (HIGHER, true), (OWN, true)] {
        let mut machine = Machine::new();
        machine.want(held(1, false), false, 0);
        machine.hear(said(from, Said::Probes), OWN, 100);
        run(&mut machine, 600);
        assert_eq!(machine.is_holding(), goes_on, "{from}");
    }
}

#[test]
fn of_two_that_announce_the_lower_epoch_yields() {
    let heard = [
        (LOWER, Some(4), true),
        (HIGHER, Some(4), true),
        (HIGHER, Some(6), false),
        (LOWER, Some(5), false),
        (HIGHER, Some(5), true),
        (HIGHER, None, false),
        (LOWER, None, false),
    ];
    for (from, epoch, stays) in heard {
        let mut machine = holder(5);
        let actions = machine.hear(said(from, Said::Announced(epoch)), OWN, 3_000);
        let expected = if stays {
            vec![Action::Put, Action::Announce]
        } else {
            vec![Action::Remove]
        };
        assert_eq!(actions, expected, "{from} {epoch:?}");
        assert_eq!(machine.is_holding(), stays);
        assert_eq!(machine.heard_epoch(), epoch.unwrap_or(0));
    }
}

#[test]
fn ordinary_words_of_another_are_no_announcement() {
    let mut machine = holder(5);
    for heard in [Said::Has, Said::Probes] {
        assert_eq!(machine.hear(said(LOWER, heard), OWN, 50), []);
    }
    assert!(machine.is_holding());
}

#[test]
fn a_storm_of_others_is_not_answered_by_one() {
    let mut machine = holder(5);
    let mut answers = 0;
    for now_ms in 1_000..2_000 {
        let heard = said(HIGHER, Said::Announced(Some(4)));
        answers += machine.hear(heard, OWN, now_ms).len() / 2;
    }
    assert_eq!(answers, 10);
}

#[test]
fn who_yielded_waits_for_a_higher_epoch_or_for_the_other_to_be_gone() {
    let mut machine = holder(5);
    machine.hear(said(HIGHER, Said::Announced(Some(6))), OWN, 1_000);
    assert_eq!(machine.want(held(5, true), false, 1_100), []);
    assert_eq!(run(&mut machine, 31_000), [(31_000, Action::Probe)]);
    machine.hear(said(HIGHER, Said::Has), OWN, 31_001);
    let actions = machine.want(held(7, true), false, 32_000);
    assert_eq!(actions, [Action::Put, Action::Announce]);
}

#[test]
fn what_is_not_wanted_any_more_is_given_up_at_once() {
    let mut machine = holder(5);
    assert_eq!(machine.want(standby(6), false, 100), [Action::Remove]);
    assert_eq!(machine.due_ms(), None);
    assert_eq!(
        machine.want(standby(6), true, 200),
        [Action::Remove],
        "left"
    );
    assert_eq!(machine.want(standby(7), false, 300), []);
}

#[test]
fn what_the_kernel_refuses_is_tried_again() {
    let mut machine = holder(5);
    let actions = machine.refused("no".to_owned(), 100);
    assert_eq!(actions, [Action::Remove]);
    assert!(!machine.is_holding());
    assert_eq!(
        run(&mut machine, 5_100),
        [(5_100, Action::Put), (5_100, Action::Announce)]
    );
    let mut asking = Machine::new();
    asking.want(held(1, false), false, 0);
    assert_eq!(asking.refused("no".to_owned(), 1), []);
    assert_eq!(run(&mut asking, 5_001), [(5_001, Action::Probe)]);
}

#[test]
fn a_link_that_is_back_is_told_at_once() {
    let mut machine = holder(5);
    run(&mut machine, 60_000);
    let actions = machine.announce_again(61_000);
    assert_eq!(actions, [Action::Put, Action::Announce]);
    assert_eq!(announcements(&run(&mut machine, 62_000)), [61_100, 61_500]);
    assert_eq!(Machine::new().announce_again(0), []);
}

/// Two on one link that is cut and healed, whatever is wanted of both: in the end at most one holds, and one does if
/// one is to.
#[test]
fn after_all_one_holds() {
    let mut number = 0x9e37_79b9_7f4a_7c15_u64;
    let mut below = |end: u64| {
        number ^= number << 13;
        number ^= number >> 7;
        number ^= number << 17;
        number % end
    };
    for _ in 0..300 {
        let macs = [LOWER, HIGHER];
        let mut both = [Machine::new(), Machine::new()];
        let (mut now_ms, mut epoch, mut is_cut) = (0, 0, false);
        for _ in 0..40 {
            now_ms += below(3_000);
            let mut heard = Vec::new();
            match below(6) {
                0 => is_cut = !is_cut,
                1 => {
                    epoch += 1;
                    let new = usize::try_from(below(2)).unwrap();
                    heard.push((new, both[new].want(held(epoch, true), false, now_ms)));
                    // The other may not be reached.
                    if below(2) == 0 {
                        heard.push((1 - new, both[1 - new].want(standby(epoch), false, now_ms)));
                    }
                }
                _ => {}
            }
            settle(&mut both, macs, now_ms, is_cut, heard);
        }
        settle(&mut both, macs, now_ms + 60_000, false, Vec::new());
        settle(&mut both, macs, now_ms + 61_000, false, Vec::new());
        let holding = both.iter().filter(|machine| machine.is_holding()).count();
        let wants = both.iter().any(|machine| machine.wanted().held);
        assert_eq!(holding, usize::from(wants), "{both:?}");
    }
}

/// Lets time pass to `now_ms` for both, who hear each other unless the link is cut.
fn settle(
    both: &mut [Machine; 2],
    macs: [Mac; 2],
    now_ms: u64,
    is_cut: bool,
    mut said_now: Vec<(usize, Vec<Action>)>,
) {
    loop {
        let Some((who, actions)) = said_now.pop() else {
            let due = |machine: &Machine| machine.due_ms().filter(|due| *due <= now_ms);
            let next = (0..2).filter_map(|n| Some((due(&both[n])?, n))).min();
            let Some((due, n)) = next else {
                return;
            };
            said_now.push((n, both[n].tick(due)));
            continue;
        };
        for action in actions {
            let other = 1 - who;
            let epoch = both[who].wanted().epoch;
            let words = match action {
                Action::Announce => Said::Announced(Some(epoch)),
                Action::Probe => Said::Probes,
                Action::Put | Action::Remove => continue,
            };
            if is_cut {
                continue;
            }
            let answer = both[other].hear(said(macs[who], words), macs[other], now_ms);
            said_now.push((other, answer));
            if action == Action::Probe && both[other].is_holding() {
                let answer = both[who].hear(said(macs[other], Said::Has), macs[who], now_ms);
                said_now.push((who, answer));
            }
        }
    }
}
