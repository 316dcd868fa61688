//! The rules of a node: their text, and which tool reads it. It must not know what is in the text.

use super::stale::{self, Fronts};
use super::view::{Family, Flavour, NodeView};
use super::{counters, iptables, nftables};

/// What is installed on a node, whole: all of its Services in one family.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rules {
    pub(super) flavour: Flavour,
    pub(super) family: Family,
    text: String,
    /// Where UDP clients send to, and who serves them; unknown of a dump.
    fronts: Fronts,
}

impl Rules {
    /// Those that kube-proxy would write for the view.
    pub fn of(flavour: Flavour, view: &NodeView) -> Self {
        let text = match flavour {
            Flavour::Iptables => iptables::text(view),
            Flavour::Nftables => nftables::text(view),
        };
        Self {
            flavour,
            family: view.family,
            text,
            fronts: stale::fronts(view),
        }
    }

    /// Those of a dump: what `iptables-save` or `nft list table ip kube-proxy` wrote on a real node.
    pub fn dumped(flavour: Flavour, family: Family, text: &str) -> Self {
        Self {
            flavour,
            family,
            text: text.to_owned(),
            fronts: Fronts::new(),
        }
    }

    /// The same with a counter at the head of each rule, so that [`super::KubeProxy::counters`] has something to read: in
    /// nftables, unlike in iptables, rules do not count unless told to, and kube-proxy's do not.
    #[must_use]
    pub fn counted(mut self) -> Self {
        if self.flavour == Flavour::Nftables {
            self.text = counters::with_counters(&self.text);
        }
        self
    }

    /// As `iptables-restore` or `nft -f -` reads it.
    pub fn text(&self) -> &str {
        &self.text
    }

    pub(super) fn fronts(&self) -> &Fronts {
        &self.fronts
    }
}
