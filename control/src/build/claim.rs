//! Whether a Service is ours. Pure.

use super::Options;
use super::note::{Note, Reason};
use crate::cluster::Service;

/// Whose a Service is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Claim {
    /// Ours: it becomes listeners.
    Ours,
    /// Ours until now: what it had is taken back.
    Leaving,
    /// Nobody asked us.
    NotOurs,
    /// It names no class, and another controller got there first.
    Other(Note),
}

/// Decides whose `service` is.
pub(super) fn claim(service: &Service, options: &Options) -> Claim {
    let wanted = service.is_load_balancer
        && !service.is_deleting
        && match service.class.as_deref() {
            Some(class) => class == options.class,
            None => options.default_class,
        };
    if !wanted {
        return if service.is_held() {
            Claim::Leaving
        } else {
            Claim::NotOurs
        };
    }
    match &service.other_manager {
        Some(other) if service.class.is_none() && !service.is_held() => {
            let message = format!(
                "{other} was here first: set loadBalancerClass: {} on a new Service to have it from Podline",
                options.class
            );
            Claim::Other(Note::new(Reason::ClaimedByOther, message))
        }
        _ => Claim::Ours,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::service::FINALIZER;
    use crate::cluster::testing::service;

    #[test]
    fn a_service_is_ours_by_class_or_by_default() {
        let plain = service("default/web");
        let check = |change: &dyn Fn(&mut Service), default_class: bool, expected: &str| {
            let mut service = plain.clone();
            change(&mut service);
            let options = Options {
                default_class,
                ..Options::default()
            };
            let found = format!("{:?}", claim(&service, &options));
            assert!(
                found.starts_with(expected),
                "{found}, not {expected}: {service:?}"
            );
        };
        let held = |service: &mut Service| service.finalizers.push(FINALIZER.to_owned());
        check(&|_| {}, false, "Ours");
        check(&|s| s.class = None, false, "NotOurs");
        check(&|s| s.class = None, true, "Ours");
        check(&|s| s.class = Some("other".to_owned()), true, "NotOurs");
        check(&|s| s.is_load_balancer = false, true, "NotOurs");
        let other = |s: &mut Service| s.other_manager = Some("manager metallb".to_owned());
        check(&other, true, "Ours");
        check(
            &|s| {
                other(s);
                s.class = None;
            },
            true,
            "Other",
        );
        for leave in [
            (&|s: &mut Service| s.is_deleting = true) as &dyn Fn(&mut Service),
            &|s| s.is_load_balancer = false,
            &|s| s.class = Some("other".to_owned()),
        ] {
            check(leave, false, "NotOurs");
            check(
                &|s| {
                    held(s);
                    leave(s);
                },
                false,
                "Leaving",
            );
        }
    }
}
