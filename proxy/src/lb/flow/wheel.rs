//! When to look at which flow: a wheel of ticks. A flow stands at the tick at which it could be silent for too long;
//! when that comes it is looked at, and goes on to a later tick if it was heard meanwhile. So a flow costs one look in
//! each of its idle times, and hearing of it costs nothing.

/// Milliseconds of one tick.
const TICK_MS: u64 = 100;
/// Ticks of one turn. Who is due later is looked at once a turn.
const TICKS: u64 = 1_024;

/// A flow's number and its generation.
pub type Ticket = (u32, u32);

/// Who is to be looked at when.
#[derive(Debug)]
pub struct Wheel {
    ticks: Box<[Vec<Ticket>]>,
    /// The first tick that was not looked at.
    next: u64,
}

impl Default for Wheel {
    fn default() -> Self {
        Self {
            ticks: (0..TICKS).map(|_| Vec::new()).collect(),
            next: 0,
        }
    }
}

impl Wheel {
    /// Looks at `ticket` at `due_ms`, or once the wheel has turned.
    pub fn put(&mut self, ticket: Ticket, due_ms: u64) {
        let tick = due_ms.div_ceil(TICK_MS);
        let tick = tick.clamp(self.next, self.next + TICKS - 1);
        self.ticks[place(tick)].push(ticket);
    }

    /// Takes those that are due at `now_ms`.
    pub fn due(&mut self, now_ms: u64, found: &mut Vec<Ticket>) {
        let now = now_ms / TICK_MS;
        if now < self.next {
            return;
        }
        for tick in self.next..=now.min(self.next + TICKS - 1) {
            found.append(&mut std::mem::take(&mut self.ticks[place(tick)]));
        }
        self.next = now + 1;
    }
}

fn place(tick: u64) -> usize {
    usize::try_from(tick % TICKS).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_is_looked_at_early_and_everybody_in_time() {
        let mut wheel = Wheel::default();
        let mut now_ms = 5_000_000;
        wheel.due(now_ms, &mut Vec::new());
        let dues: Vec<u64> = (0..2_000).map(|n| now_ms + 100 + n * 37).collect();
        for (n, due) in (0..).zip(&dues) {
            wheel.put((n, 0), *due);
        }
        let mut seen = vec![false; dues.len()];
        while now_ms < 5_080_000 {
            now_ms += 130;
            let mut found = Vec::new();
            wheel.due(now_ms, &mut found);
            for (n, _) in found {
                let due = dues[n as usize];
                assert!(due <= now_ms && now_ms < due + 330, "{due} at {now_ms}");
                assert!(!std::mem::replace(&mut seen[n as usize], true));
            }
        }
        assert!(seen.iter().all(|seen| *seen));
    }

    #[test]
    fn a_long_sleep_loses_nobody() {
        let mut wheel = Wheel::default();
        wheel.due(1_000, &mut Vec::new());
        for n in 0..100 {
            wheel.put((n, 0), 1_000 + u64::from(n) * 10_000);
        }
        let mut found = Vec::new();
        wheel.due(100_000_000, &mut found);
        assert_eq!(found.len(), 100);
        found.clear();
        wheel.due(200_000_000, &mut found);
        assert_eq!(found, []);
    }
}
