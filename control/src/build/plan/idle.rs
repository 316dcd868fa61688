//! Annotations that can be read and do nothing here, though their owner may count on them. Pure.

use super::{Mode, Work};
use crate::build::annotation::Words;
use crate::build::note::Reason;
use crate::cluster::{Family, Transport};

/// What clients are offered.
pub(in crate::build) struct Offered<'a> {
    /// Where they can connect.
    pub(in crate::build) ports: Vec<(u16, Transport)>,
    pub(in crate::build) families: &'a [Family],
}

impl Work<'_> {
    pub(in crate::build) fn note_idle_annotations(&mut self, offered: &Offered<'_>) {
        self.note_weights(&offered.ports);
        self.note_ip_version(offered.families);
    }

    fn words(&self) -> &'static Words {
        Words::of(self.input.front)
    }

    fn note_weights(&mut self, ports: &[(u16, Transport)]) {
        let Some(weights) = &self.annotations.settings.weights else {
            return;
        };
        let key = self.words().weights;
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

    fn note_ip_version(&mut self, families: &[Family]) {
        let wants_ipv6 = self.annotations.settings.creation.is_ipv6;
        if wants_ipv6 && !families.contains(&Family::V6) {
            let key = self.words().creation;
            let message = format!(
                "{key}: AddressIPVersion asks for IPv6, and spec.ipFamilies does not have it"
            );
            self.note(Reason::AnnotationIgnored, message);
        }
    }
}
