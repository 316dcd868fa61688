//! Whether anybody still leads, once our controller's Pods are gone. Pure: time is an argument.
//!
//! Clocks of other machines are not believed: a Lease is free when it says so, or when nobody has renewed it for as long
//! as it lasts, by our own clock.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::Lease;

/// Beyond what the Lease says, before it counts as abandoned.
const MARGIN: Duration = Duration::from_secs(2);
/// What a Lease that does not say it lasts.
const USUAL: Duration = Duration::from_secs(8);

/// What is known of the Lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Nobody leads.
    Free,
    /// It is not known yet.
    Wait,
    /// Somebody renews it.
    Renewed,
}

/// Looks at the Lease again and again.
#[derive(Debug, Default)]
pub(super) struct Watch {
    /// As it was first seen, and when.
    first: Option<(String, Option<Timestamp>, Duration)>,
}

impl Watch {
    /// Takes in how the Lease is `at` a time since the beginning.
    pub(super) fn look(&mut self, lease: Option<&Lease>, at: Duration) -> Verdict {
        let Some(spec) = lease.and_then(|lease| lease.spec.as_ref()) else {
            return Verdict::Free;
        };
        let holder = spec.holder_identity.clone().unwrap_or_default();
        if holder.is_empty() {
            return Verdict::Free;
        }
        let renewed = spec.renew_time.as_ref().map(|time| time.0);
        let seconds = spec.lease_duration_seconds.map(u64::try_from);
        let lasts = seconds
            .and_then(Result::ok)
            .map_or(USUAL, Duration::from_secs);
        let (first_holder, first_renewed, since) = self
            .first
            .get_or_insert_with(|| (holder.clone(), renewed, at));
        if *first_holder != holder || *first_renewed != renewed {
            return Verdict::Renewed;
        }
        if at.saturating_sub(*since) > lasts + MARGIN {
            Verdict::Free
        } else {
            Verdict::Wait
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn lease(holder: &str, renewed: u32) -> Lease {
        serde_json::from_value(json!({"spec": {
            "holderIdentity": holder,
            "leaseDurationSeconds": 8,
            "renewTime": format!("2026-11-25T00:00:{renewed:02}.000000Z"),
        }}))
        .unwrap()
    }

    fn at(second: u64) -> Duration {
        Duration::from_secs(second)
    }

    #[test]
    fn a_lease_that_is_given_back_is_free_at_once() {
        let mut watch = Watch::default();
        assert_eq!(watch.look(Some(&lease("", 0)), at(0)), Verdict::Free);
        assert_eq!(watch.look(None, at(0)), Verdict::Free);
        assert_eq!(watch.look(Some(&Lease::default()), at(0)), Verdict::Free);
    }

    #[test]
    fn a_lease_that_nobody_renews_is_free_when_its_time_is_over() {
        let mut watch = Watch::default();
        // Its holder's clock may be anywhere.
        for second in 0..=10 {
            let verdict = watch.look(Some(&lease("a", 59)), at(second));
            assert_eq!(verdict, Verdict::Wait, "{second}");
        }
        assert_eq!(watch.look(Some(&lease("a", 59)), at(11)), Verdict::Free);
    }

    #[test]
    fn whoever_renews_is_noticed() {
        for other in [lease("a", 2), lease("b", 1)] {
            let mut watch = Watch::default();
            assert_eq!(watch.look(Some(&lease("a", 1)), at(0)), Verdict::Wait);
            assert_eq!(watch.look(Some(&other), at(1)), Verdict::Renewed);
        }
    }
}
