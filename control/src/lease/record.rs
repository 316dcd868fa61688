//! The Lease object: what it says, and how it looks after a write of ours. Pure: the time is an argument.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kube::core::ObjectMeta;

use super::decide::Record;

/// What `lease` says. What is missing or makes no sense says nothing.
pub(super) fn read(lease: &Lease) -> Record {
    let Some(spec) = &lease.spec else {
        return Record::default();
    };
    let seconds = spec.lease_duration_seconds.unwrap_or_default();
    Record {
        holder: spec.holder_identity.clone().unwrap_or_default(),
        epoch: u64::try_from(spec.lease_transitions.unwrap_or_default()).unwrap_or_default(),
        acquired: spec.acquire_time.as_ref().map(|time| time.0),
        renewed: spec.renew_time.as_ref().map(|time| time.0),
        lasts: Duration::from_secs(u64::try_from(seconds).unwrap_or_default()),
    }
}

/// A Lease that does not exist yet.
pub(super) fn new(name: &str) -> Lease {
    Lease {
        metadata: ObjectMeta {
            name: Some(name.to_owned()),
            labels: Some(
                [(
                    crate::installation::PART_OF.0.to_owned(),
                    crate::installation::PART_OF.1.to_owned(),
                )]
                .into(),
            ),
            ..ObjectMeta::default()
        },
        spec: None,
    }
}

/// `lease` held by `holder`. Its resourceVersion and uid stay: the write is refused if it changed since.
pub(super) fn held(
    lease: &Lease,
    holder: &str,
    epoch: u64,
    lasts: Duration,
    now: Timestamp,
) -> Lease {
    let mut lease = lease.clone();
    let before = lease.spec.take().unwrap_or_default();
    let epoch = i32::try_from(epoch).unwrap_or(i32::MAX);
    let is_same = before.holder_identity.as_deref() == Some(holder)
        && before.lease_transitions == Some(epoch);
    let acquired = before.acquire_time.filter(|_| is_same);
    lease.spec = Some(LeaseSpec {
        holder_identity: Some(holder.to_owned()),
        lease_transitions: Some(epoch),
        // Whole seconds, and never shorter than we mean.
        lease_duration_seconds: i32::try_from(lasts.as_millis().div_ceil(1000)).ok(),
        acquire_time: Some(acquired.unwrap_or(MicroTime(now))),
        renew_time: Some(MicroTime(now)),
        ..LeaseSpec::default()
    });
    lease
}

/// `lease` held by nobody: whoever sees it may take it at once.
pub(super) fn released(lease: &Lease, now: Timestamp) -> Lease {
    let mut lease = lease.clone();
    let spec = lease.spec.get_or_insert_default();
    spec.holder_identity = Some(String::new());
    spec.renew_time = Some(MicroTime(now));
    lease
}

#[cfg(test)]
mod tests {
    use super::*;

    const LASTS: Duration = Duration::from_secs(8);

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn what_is_written_is_read() {
        let first = held(&new("podline"), "a", 3, LASTS, at(10));
        let record = read(&first);
        assert_eq!(
            (record.holder.as_str(), record.epoch, record.lasts),
            ("a", 3, LASTS)
        );
        assert_eq!(
            (record.acquired, record.renewed),
            (Some(at(10)), Some(at(10)))
        );

        let renewed = read(&held(&first, "a", 3, LASTS, at(11)));
        assert_eq!(
            (renewed.acquired, renewed.renewed),
            (Some(at(10)), Some(at(11)))
        );
        let taken = read(&held(&first, "b", 4, LASTS, at(12)));
        assert_eq!(
            (taken.acquired, taken.renewed),
            (Some(at(12)), Some(at(12)))
        );

        let free = read(&released(&first, at(13)));
        assert_eq!(
            (free.holder.as_str(), free.epoch, free.renewed),
            ("", 3, Some(at(13)))
        );
    }

    #[test]
    fn senseless_values_say_nothing() {
        let mut lease = new("podline");
        assert_eq!(read(&lease), Record::default());
        lease.spec = Some(LeaseSpec {
            lease_transitions: Some(-1),
            lease_duration_seconds: Some(-5),
            ..LeaseSpec::default()
        });
        assert_eq!(read(&lease), Record::default());
    }

    #[test]
    fn what_guards_a_write_survives_it() {
        let mut lease = new("podline");
        lease.metadata.resource_version = Some("7".to_owned());
        lease.metadata.uid = Some("u".to_owned());
        assert_eq!(held(&lease, "a", 1, LASTS, at(1)).metadata, lease.metadata);
        assert_eq!(released(&lease, at(1)).metadata, lease.metadata);
    }
}
