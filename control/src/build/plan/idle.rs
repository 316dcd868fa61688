//! Annotations that can be read and do nothing here, though their owner may count on them. Pure.

use super::{Mode, Work};
use crate::build::annotation::{CREATION, Words};
use crate::build::note::Reason;
use crate::cluster::{Family, Service, Transport};

impl Work<'_> {
    pub(super) fn note_idle_annotations(&mut self, service: &Service) {
        let ports = service.ports.iter().map(|it| (it.port, it.protocol));
        self.note_weights(&ports.collect::<Vec<_>>());
        self.note_ip_version(service);
    }

    /// `ports`: those that clients can connect to.
    pub(in crate::build) fn note_weights(&mut self, ports: &[(u16, Transport)]) {
        let Some(weights) = &self.annotations.settings.weights else {
            return;
        };
        let key = Words::of(self.input.front).weights;
        if self.mode == Mode::NodePort {
            let message = format!("{key}: traffic goes through node ports, and no Pod is weighed");
            return self.note(Reason::AnnotationIgnored, message);
        }
        for named in weights.ports().filter(|named| !ports.contains(named)) {
            let (number, transport) = (named.0, named.1.as_str());
            let message = format!("{key}: there is no port {number}/{transport}");
            self.note(Reason::AnnotationIgnored, message);
        }
    }

    fn note_ip_version(&mut self, service: &Service) {
        let wants_ipv6 = self.annotations.settings.creation.is_ipv6;
        if wants_ipv6 && !service.families.contains(&Family::V6) {
            let message = format!(
                "{CREATION}: AddressIPVersion asks for IPv6, and spec.ipFamilies does not have it"
            );
            self.note(Reason::AnnotationIgnored, message);
        }
    }
}
