//! Whether a proxy counts: one that does not is left out of gate decisions, and loses its addresses. Pure.

use super::sync::ANSWER_MS;

/// How far a proxy may be behind what is wanted.
const BEHIND_MS: u64 = 10_000;
/// How long a new leader lets a proxy serve on that has served before, until it has taken the leader's state.
const TAKE_OVER_MS: u64 = 5_000;

/// What is known of a proxy.
#[derive(Clone, Copy, Debug)]
pub(super) struct Facts<'a> {
    /// Why there is no connection, if there is none.
    pub(super) disconnected: Option<&'a str>,
    /// Why it is not ready by its own words, if it is not.
    pub(super) not_ready: Option<&'a str>,
    /// When it last answered, in general.
    pub(super) answered_ms: u64,
    /// How pushing goes, where this process leads.
    pub(super) pushing: Option<Pushing<'a>>,
}

/// How pushing to a proxy goes.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Pushing<'a> {
    /// Something is wanted at all.
    pub(super) is_built: bool,
    /// It follows another leader.
    pub(super) is_deposed: bool,
    /// Its words while it refuses everything.
    pub(super) blocked: Option<&'a str>,
    /// It took a full state from this leader on this connection.
    pub(super) is_in_step: bool,
    /// When this reign began, if that was later than the connection.
    pub(super) taken_over_ms: Option<u64>,
    /// When it last took something.
    pub(super) last_ack_ms: Option<u64>,
    /// Since when the oldest version is wanted that its workers do not act on.
    pub(super) behind_since_ms: Option<u64>,
}

/// Whether a proxy serves at `now_ms`, or why not.
pub(super) fn serving(facts: &Facts<'_>, now_ms: u64) -> Result<(), String> {
    if let Some(why) = facts.disconnected {
        return Err(why.to_owned());
    }
    if let Some(why) = facts.not_ready {
        return Err(format!("it is not ready: {why}"));
    }
    if let Some(pushing) = &facts.pushing {
        let waits = |at: u64| now_ms.saturating_sub(at) < TAKE_OVER_MS;
        let is_taken_over = pushing.taken_over_ms.is_some_and(waits);
        if is_taken_over && !pushing.is_in_step && !pushing.is_deposed && pushing.blocked.is_none()
        {
            return fresh(facts.answered_ms, now_ms);
        }
        in_step(pushing, now_ms)
    } else {
        fresh(facts.answered_ms, now_ms)
    }
}

fn in_step(pushing: &Pushing<'_>, now_ms: u64) -> Result<(), String> {
    if !pushing.is_built {
        return Err("nothing was built yet that it could be told".to_owned());
    }
    if pushing.is_deposed {
        return Err("it follows another leader".to_owned());
    }
    if !pushing.is_in_step {
        return Err(match pushing.blocked {
            Some(words) => format!("it refuses what it is told: {words}"),
            None => "it was not told everything yet".to_owned(),
        });
    }
    let behind = pushing
        .behind_since_ms
        .map(|at| now_ms.saturating_sub(at))
        .filter(|behind| *behind > BEHIND_MS);
    match (behind, pushing.blocked) {
        (Some(_), Some(words)) => Err(format!("it refuses what it is told: {words}")),
        (Some(behind), None) => Err(format!(
            "it is {} s behind what it was told",
            behind / 1_000
        )),
        (None, _) => fresh(pushing.last_ack_ms.unwrap_or_default(), now_ms),
    }
}

fn fresh(last_ms: u64, now_ms: u64) -> Result<(), String> {
    match now_ms.saturating_sub(last_ms) {
        0..ANSWER_MS => Ok(()),
        silent => Err(format!("it has not answered for {} s", silent / 1_000)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(facts: Facts<'_>, expected: Result<(), &str>) {
        assert_eq!(serving(&facts, 60_000), expected.map_err(str::to_owned));
    }

    fn well<'a>() -> Pushing<'a> {
        Pushing {
            is_built: true,
            is_in_step: true,
            last_ack_ms: Some(58_000),
            ..Pushing::default()
        }
    }

    fn led(pushing: Pushing<'_>) -> Facts<'_> {
        Facts {
            disconnected: None,
            not_ready: None,
            answered_ms: 0,
            pushing: Some(pushing),
        }
    }

    #[test]
    fn a_proxy_serves_that_is_connected_ready_fresh_and_in_step() {
        check(led(well()), Ok(()));
        let gone = Facts {
            disconnected: Some("cannot reach the proxy at [::1]:1"),
            ..led(well())
        };
        check(gone, Err("cannot reach the proxy at [::1]:1"));
        let unready = Facts {
            not_ready: Some("starting"),
            ..led(well())
        };
        check(unready, Err("it is not ready: starting"));
    }

    #[test]
    fn acknowledgements_must_be_fresh_and_versions_not_old() {
        let acked = |last_ack_ms| {
            led(Pushing {
                last_ack_ms,
                ..well()
            })
        };
        check(acked(Some(55_001)), Ok(()));
        check(acked(Some(55_000)), Err("it has not answered for 5 s"));
        check(acked(None), Err("it has not answered for 60 s"));
        let behind = |behind_since_ms| {
            led(Pushing {
                behind_since_ms: Some(behind_since_ms),
                ..well()
            })
        };
        check(behind(50_000), Ok(()));
        check(behind(48_999), Err("it is 11 s behind what it was told"));
        let blocked = led(Pushing {
            behind_since_ms: Some(40_000),
            blocked: Some("no"),
            ..well()
        });
        check(blocked, Err("it refuses what it is told: no"));
    }

    #[test]
    fn a_leader_must_have_been_heard() {
        let fresh = Pushing {
            is_in_step: false,
            ..well()
        };
        check(led(fresh), Err("it was not told everything yet"));
        let refusing = Pushing {
            blocked: Some("no"),
            ..fresh
        };
        check(led(refusing), Err("it refuses what it is told: no"));
        let deposed = Pushing {
            is_deposed: true,
            ..fresh
        };
        check(led(deposed), Err("it follows another leader"));
        let unbuilt = Pushing {
            is_built: false,
            ..fresh
        };
        check(
            led(unbuilt),
            Err("nothing was built yet that it could be told"),
        );
    }

    #[test]
    fn a_change_of_leaders_takes_no_proxy_out_of_service() {
        let began = |taken_over_ms| Facts {
            answered_ms: 59_000,
            ..led(Pushing {
                taken_over_ms: Some(taken_over_ms),
                ..Pushing::default()
            })
        };
        check(began(55_001), Ok(()));
        check(
            began(55_000),
            Err("nothing was built yet that it could be told"),
        );
        let silent = Facts {
            answered_ms: 50_000,
            ..began(59_000)
        };
        check(silent, Err("it has not answered for 10 s"));
        let deposed = led(Pushing {
            is_built: true,
            is_deposed: true,
            taken_over_ms: Some(59_000),
            ..Pushing::default()
        });
        check(deposed, Err("it follows another leader"));
    }

    #[test]
    fn a_follower_asks_only_that_it_answers() {
        let seen = |answered_ms| Facts {
            answered_ms,
            pushing: None,
            ..led(well())
        };
        check(seen(56_000), Ok(()));
        check(seen(52_000), Err("it has not answered for 8 s"));
    }
}
