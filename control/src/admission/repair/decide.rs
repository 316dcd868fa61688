//! Whether a damaged object is to be mended now. Pure: the time is an argument, since the process began.
//!
//! Somebody else may keep changing an object back, perhaps a program that applies what lies in a repository. When the same
//! was undone three times within a minute, the object is left alone for a while; if the next attempt is undone, too, for
//! twice as long, and so on.

use std::time::Duration;

/// So many undone repairs...
const MOST_REVERTS: usize = 3;
/// ...within this time are a contest,
const SPAN: Duration = Duration::from_mins(1);
/// and so are so many repairs, whatever was wrong.
const MOST_REPAIRS: usize = 12;
/// How long the object is left alone, the first time.
const FIRST_PAUSE: Duration = Duration::from_secs(30);
/// At most.
const LAST_PAUSE: Duration = Duration::from_mins(10);

/// Why an object is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cause {
    /// It was not there, and this process never saw it.
    First,
    /// What it is to be has changed, and nobody else had a hand in it.
    Update,
    /// Somebody changed or deleted it.
    Damage,
}

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Nothing.
    Well,
    /// It is written.
    Write(Cause),
    /// It is left alone for so long, from now on: to be told.
    Yield(Duration),
    /// It is left alone still.
    Wait,
}

/// What is seen of an object.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sight<'a> {
    /// What is wrong with it.
    pub(super) flaws: &'a [String],
    /// It is not there.
    pub(super) is_missing: bool,
    /// It is just what it was to be before, as far as is known.
    pub(super) is_untouched: bool,
}

/// What happened to one object.
#[derive(Clone, Debug, Default)]
pub(super) struct Record {
    was_there: bool,
    /// It is damaged, and that was counted.
    is_counted: bool,
    /// Repairs: when, and of what.
    repairs: Vec<(Duration, Vec<String>)>,
    /// When one was undone.
    reverts: Vec<Duration>,
    /// The last pause: when it ends, and its length.
    pause: Option<(Duration, Duration)>,
}

impl Record {
    /// Why it would be written, if it were to be; absent if it is well.
    pub(super) fn cause(&self, sight: &Sight<'_>) -> Option<Cause> {
        if sight.flaws.is_empty() {
            return None;
        }
        Some(if sight.is_missing && !self.was_there {
            Cause::First
        } else if !sight.is_missing && sight.is_untouched {
            Cause::Update
        } else {
            Cause::Damage
        })
    }

    /// There is one: that it is missing later is damage.
    pub(super) fn seen(&mut self) {
        self.was_there = true;
    }

    /// Looks at the object at `now`.
    pub(super) fn look(&mut self, sight: &Sight<'_>, now: Duration) -> Verdict {
        let cause = self.cause(sight);
        let Some(cause) = cause else {
            self.is_counted = false;
            return Verdict::Well;
        };
        if let Some((end, _)) = self.pause
            && now < end
        {
            // What happens meanwhile was to be expected.
            self.is_counted = true;
            return Verdict::Wait;
        }
        if cause != Cause::Damage {
            return Verdict::Write(cause);
        }
        if !std::mem::replace(&mut self.is_counted, true) && self.is_undone(sight.flaws, now) {
            self.reverts.push(now);
        }
        if self.is_contest(now) {
            return Verdict::Yield(self.pause(now));
        }
        Verdict::Write(cause)
    }

    /// It was written at `now`, and is not as it was written: an API server that does not know a field drops it.
    pub(super) fn refused(&mut self, now: Duration) {
        self.pause(now);
    }

    /// Leaves it alone from `now` on, for so long.
    fn pause(&mut self, now: Duration) -> Duration {
        let length = self.next_pause(now);
        self.pause = Some((now.saturating_add(length), length));
        self.reverts.clear();
        self.repairs.clear();
        length
    }

    /// It was written at `now`, and `flaws` are mended.
    pub(super) fn mended(&mut self, flaws: Vec<String>, cause: Cause, now: Duration) {
        self.was_there = true;
        self.is_counted = false;
        if cause == Cause::Damage {
            self.repairs.push((now, flaws));
        }
    }

    /// Whether one of these was mended a short time ago.
    fn is_undone(&mut self, flaws: &[String], now: Duration) -> bool {
        self.repairs
            .retain(|(at, _)| now.saturating_sub(*at) < SPAN);
        let mut mended = self.repairs.iter().flat_map(|(_, mended)| mended);
        mended.any(|mended| flaws.contains(mended))
    }

    fn is_contest(&mut self, now: Duration) -> bool {
        self.reverts.retain(|at| now.saturating_sub(*at) < SPAN);
        // After a pause one is enough.
        let most = if self.is_hot(now) { 1 } else { MOST_REVERTS };
        self.reverts.len() >= most || self.repairs.len() >= MOST_REPAIRS
    }

    /// Whether the last pause is over for less time than it was long, or than a minute.
    fn is_hot(&self, now: Duration) -> bool {
        self.pause
            .is_some_and(|(end, length)| now < end.saturating_add(length.max(SPAN)))
    }

    fn next_pause(&self, now: Duration) -> Duration {
        match self.pause {
            Some((_, length)) if self.is_hot(now) => (length * 2).min(LAST_PAUSE),
            _ => FIRST_PAUSE,
        }
    }
}

#[cfg(test)]
mod tests;
