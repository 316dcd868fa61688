//! What others ask about a Service or Ingress, wherever they saw it.

use super::{Claim, Options, Own, claim, ingress};
use crate::cluster::{Entry, Ingress, IngressEntry, Service, Switches};

/// Whether a Service is ours, wherever it was seen.
pub(crate) fn is_ours(service: &Service, options: &Options) -> bool {
    claim::claim(service, options) == Claim::Ours
}

/// The same of an Ingress.
pub(crate) fn is_our_ingress(ingress: &Ingress, options: &Options) -> bool {
    ingress::claim(ingress, options) == Claim::Ours
}

/// Whether the traffic of an Ingress of ours goes straight to Pods, and new ones join them.
pub(crate) fn is_direct_ingress(
    entry: &IngressEntry,
    switches: &Switches,
    options: &Options,
) -> bool {
    is_our_ingress(&entry.ingress, options) && Own::Ingress(entry).is_direct(switches, options)
}

/// The same of a Service of ours.
pub(crate) fn is_direct(entry: &Entry, switches: &Switches, options: &Options) -> bool {
    Own::Service(entry).is_direct(switches, options)
}
