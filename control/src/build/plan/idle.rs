//! Annotations that can be read and do nothing here, though their owner may count on them. Pure.

use super::{Mode, Work};
use crate::build::annotation::{CREATION, WEIGHTS};
use crate::build::note::Reason;
use crate::cluster::{Family, Service};

impl Work<'_> {
    pub(super) fn note_idle_annotations(&mut self, service: &Service) {
        self.note_weights(service);
        self.note_ip_version(service);
    }

    fn note_weights(&mut self, service: &Service) {
        let Some(weights) = &self.annotations.settings.weights else {
            return;
        };
        if self.mode == Mode::NodePort {
            let message =
                format!("{WEIGHTS}: traffic goes through node ports, and no Pod is weighed");
            return self.note(Reason::AnnotationIgnored, message);
        }
        let is_there = |(number, transport)| {
            let mut ports = service.ports.iter();
            ports.any(|port| (port.port, port.protocol) == (number, transport))
        };
        for (number, transport) in weights.ports().filter(|named| !is_there(*named)) {
            let transport = transport.as_str();
            let message = format!("{WEIGHTS}: there is no port {number}/{transport}");
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
