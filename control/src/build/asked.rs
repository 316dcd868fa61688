//! What others ask about a Service or Ingress, wherever they saw it.

use super::{Claim, Mode, Options, claim, ingress, plan};
use crate::cluster::{Entry, Ingress, IngressEntry, Service, Switches};

/// Whether a Service is ours, wherever it was seen.
pub(crate) fn is_ours(service: &Service, options: &Options) -> bool {
    claim::claim(service, options) == Claim::Ours
}

/// The same of an Ingress.
pub(crate) fn is_our_ingress(ingress: &Ingress, options: &Options) -> bool {
    ingress::claim(ingress, options) == Claim::Ours
}

/// Whether an Ingress of ours goes straight to the Pods of its Services.
pub(crate) fn is_direct_ingress(
    entry: &IngressEntry,
    switches: &Switches,
    options: &Options,
) -> bool {
    is_our_ingress(&entry.ingress, options)
        && ingress::mode(entry, switches, options).0 == Mode::Direct
}

/// Whether the traffic of a Service of ours goes straight to its Pods, and new Pods join them.
pub(crate) fn is_direct(entry: &Entry, switches: &Switches, options: &Options) -> bool {
    let (settings, is_held) = (&entry.annotations.settings, entry.service.is_held());
    !settings.skip && plan::mode(settings, is_held, switches, options).0 == Mode::Direct
}
