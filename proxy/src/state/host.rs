//! What the host's side asks of the state, and tells it: whether clients are to be imitated, whether they can be, which
//! ways are proven.

use super::State;
use super::network::{Means, Provable};
use crate::lb::network::Path;
use podline_api::{Name, Route, v1};
use std::net::IpAddr;
use std::time::Duration;

/// How long a listener that wants to imitate waits for what that takes: a few system calls.
const PREPARED: Duration = Duration::from_secs(1);

impl State {
    /// Whether a listener, or somebody who asked for a proof, wants clients to be imitated.
    pub(crate) fn wants_imitation(&self) -> bool {
        self.engine().wants_imitation()
    }

    /// Whether a listener wants clients to be imitated.
    pub(crate) fn has_imitating_listener(&self) -> bool {
        self.engine().has_imitating_listener()
    }

    /// Wants it from now on, whatever listeners want.
    pub(crate) fn ask_for_imitation(&self) {
        self.engine().ask_for_imitation();
        self.0.network.notify_one();
    }

    /// Has all that imitating takes put in place, before a listener that wants it gets its first client.
    pub(super) async fn prepare_imitation(&self) {
        let means = self.0.means.notified();
        tokio::pin!(means);
        means.as_mut().enable();
        if self.engine().ask_for_imitation() {
            self.0.network.notify_one();
            // Who has to do it may be ending.
            let _ = tokio::time::timeout(PREPARED, means).await;
        }
    }

    /// The same, before [`Self::restore_owners`].
    pub(crate) async fn prepare_restored(&self) {
        let wants = self.engine().will_want_imitation();
        if wants {
            self.prepare_imitation().await;
        }
    }

    /// Waits until that, or the network, may have changed.
    ///
    /// # Cancel safety
    /// A change that was not told yet is told to the next call.
    pub(crate) async fn network_changed(&self) {
        self.0.network.notified().await;
    }

    /// Tells what this process can do to imitate clients.
    pub(crate) fn learn_means(&self, means: Means) {
        self.change(|engine| {
            engine.learn_means(means);
            engine.publish();
            engine.take_events()
        });
        self.0.means.notify_waiters();
    }

    /// Ways that can be proven: those to `nodes`, or all.
    pub(crate) fn provable(&self, nodes: &[Name]) -> Vec<Provable> {
        self.engine().provable(nodes)
    }

    /// Tells what an attempt to prove a way came to.
    pub(crate) fn on_proof(&self, proven: &Provable, path: Path, reason: String) {
        self.change(|engine| {
            engine.on_proof(proven, path, reason);
            engine.publish();
            engine.take_events()
        });
    }

    /// Backends whose node is not known, and could be by the kernel's next hop.
    pub(crate) fn homeless_backends(&self) -> Vec<IpAddr> {
        self.engine().homeless_backends()
    }

    /// Tells the kernel's next hops.
    pub(crate) fn learn_hops(&self, hops: Vec<(IpAddr, Option<IpAddr>)>) {
        self.engine().learn_hops(hops);
    }

    /// Routes that owners want, beside the kernel's.
    pub(crate) fn routes_wanted(&self) -> Vec<Route> {
        self.engine().routes_wanted()
    }

    /// Whether an owner knows this node.
    pub(crate) fn has_node(&self, name: &Name) -> bool {
        self.engine().networks.has_node(name)
    }

    /// What is known of the ways to `nodes`, or to all.
    pub(crate) fn paths(&self, nodes: &[Name]) -> v1::ProveResponse {
        let engine = self.engine();
        v1::ProveResponse {
            paths: engine.networks.statuses(nodes),
            transparency_problem: engine.networks.problem().to_owned(),
        }
    }

    /// What a socket to `address` has to be marked with, if it does not go by the kernel's own routes.
    pub(crate) fn mark(&self, address: IpAddr) -> Option<u32> {
        self.engine().table.network.mark(address)
    }

    /// Marks the ways unproven on which imitated clients get no answers, for as long as it is polled.
    pub(super) async fn distrust_unanswered(&self) {
        loop {
            let backends = self.0.plane.unanswered_clients().await;
            self.change(|engine| {
                for backend in &backends {
                    engine.on_no_answer(backend);
                }
                engine.publish();
                engine.take_events()
            });
            self.0.network.notify_one();
        }
    }
}
