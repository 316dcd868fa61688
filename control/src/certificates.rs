//! Podline's own certificates: a CA for each channel and leaves of it, made, renewed, rotated and mended with no manual
//! step.
//!
//! Secrets in the controller's namespace hold them. Of the channel between controllers and proxies, `podline-control-ca`
//! has the CA and its key and is never mounted. Proxies mount `podline-proxy-tls`; controllers read `podline-control-tls`.
//! In each of these two, `ca.crt` says whom its reader trusts. One leaf serves all proxies, the other all controllers. Of
//! the webhooks, `podline-webhook-ca` has the CA, and `podline-webhook-tls` what all controllers show to the API server;
//! its `ca.crt` is what the webhook configurations are to say.
//!
//! `channel` says who there is; `x509` reads certificates and says what is wrong with them; `plan` decides the next step;
//! these are pure. `make` draws keys and signs. `stored` and `object` say how it all lies in Secrets; `change` puts these
//! together. `keeper` watches the Secrets, writes them if this replica leads, and hands on what this process shows.
//!
//! `tickets` keeps what the proxies seal session tickets with in a Secret of its own, in the same way.
//!
//! A CA is replaced without a moment in which somebody is not trusted. The new one is put beside the old one in all
//! bundles. When that was so for the grace, by which time every reader has read it, leaves are signed by the new one. When
//! these have been there for the grace, the old one leaves the bundles. Any replica can go on from any point: all that
//! matters is in the Secrets and in the webhook configurations.

mod bundle;
mod change;
mod channel;
mod keeper;
mod make;
mod object;
mod pace;
mod plan;
mod served;
mod stored;
#[cfg(test)]
mod tests;
mod tickets;
mod x509;

use std::sync::Arc;
use std::time::Duration;

use podline_api::client::ClientTls;
use tokio::sync::watch;
use tokio_rustls::rustls::ServerConfig;

pub use bundle::{Mismatch, common, compare};
pub use channel::Channel;
pub use keeper::{Keeper, Report};
pub use plan::Callers;
pub use tickets::Tickets;

use crate::events::Events;
use crate::lease::Leadership;
use crate::metrics::Metrics;
use channel::{End, Names};
use keeper::Ways;

/// Which channel's Secrets, for which cluster, and how long things last.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Whose certificates.
    pub channel: Channel,
    /// Where the Secrets are: the controller's own namespace.
    pub namespace: String,
    /// Controllers act as the owner `k8s/<cluster>`; their certificate says so.
    pub cluster: String,
    /// How long things last.
    pub lives: Lives,
}

impl Settings {
    /// The usual lives.
    pub fn new(channel: Channel, namespace: &str, cluster: &str) -> Self {
        Self {
            channel,
            namespace: namespace.to_owned(),
            cluster: cluster.to_owned(),
            lives: Lives::of(channel),
        }
    }

    fn names(&self) -> Names<'_> {
        Names {
            cluster: &self.cluster,
            namespace: &self.namespace,
        }
    }
}

/// How long things last. Each certificate is renewed when two thirds of its life are over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lives {
    /// Of a CA; many times the grace.
    pub authority: Duration,
    /// Of a leaf; many times the grace, and less than a third of the CA's.
    pub leaf: Duration,
    /// After so long everybody has read what a Secret says. The kubelet takes up to two minutes; whoever watches, seconds.
    pub grace: Duration,
    /// A reader that is known to lag behind is waited for so long.
    pub patience: Duration,
}

impl Lives {
    /// The usual ones.
    pub const fn of(channel: Channel) -> Self {
        Self {
            authority: Duration::from_hours(2 * 365 * 24),
            leaf: Duration::from_hours(90 * 24),
            grace: match channel {
                Channel::Control => Duration::from_mins(5),
                Channel::Webhook => Duration::from_secs(30),
            },
            patience: Duration::from_hours(7 * 24),
        }
    }
}

/// What every keeper needs.
#[derive(Clone)]
pub struct Connections {
    /// How the API server is reached.
    pub client: kube::Client,
    /// Whether this replica leads.
    pub leadership: Leadership,
    /// Where repairs are told.
    pub events: Events,
    /// Where they are counted.
    pub metrics: Metrics,
}

/// The keeper of the control channel, and what a controller shows to proxies and whom it trusts; that stays what it was
/// while the Secret is away or damaged. `lagging` says whether a proxy is known that does not use yet what its Secret says:
/// rotation waits for it. A channel that always says false makes rotation wait for the grace alone.
pub fn control(
    connections: Connections,
    settings: Settings,
    lagging: watch::Receiver<bool>,
) -> (Keeper, watch::Receiver<Option<ClientTls>>) {
    debug_assert_eq!(settings.channel, Channel::Control);
    let (tls, shown) = watch::channel(None);
    let ways = Ways {
        lagging,
        callers: watch::channel(None).1,
        own: End::Control,
        show: served::to_proxies(tls),
        bundle: watch::Sender::new(None),
        events: connections.events,
        metrics: connections.metrics,
    };
    let keeper = Keeper::new(connections.client, settings, connections.leadership, ways);
    (keeper, shown)
}

/// What the keeper of the webhooks hands on.
#[derive(Debug)]
pub struct Served {
    /// What the webhooks show to the API server; absent until there is something, then never again.
    pub tls: watch::Receiver<Option<Arc<ServerConfig>>>,
    /// Whom the webhook configurations are to trust, in PEM; absent until there is something, then never again.
    pub bundle: watch::Receiver<Option<Arc<[u8]>>>,
}

impl Served {
    /// Where webhooks are off: nothing, for ever.
    pub fn nothing() -> Self {
        Self {
            tls: watch::channel(None).1,
            bundle: watch::channel(None).1,
        }
    }
}

/// The keeper of the webhooks' certificates, and what it hands on. `callers` says whom the webhook configurations trust;
/// nothing is written until that is known.
pub fn webhook(
    connections: Connections,
    settings: Settings,
    callers: watch::Receiver<Option<Callers>>,
) -> (Keeper, Served) {
    debug_assert_eq!(settings.channel, Channel::Webhook);
    let ((tls, shown), (bundle, handed)) = (watch::channel(None), watch::channel(None));
    let ways = Ways {
        lagging: watch::channel(false).1,
        callers,
        own: End::Webhook,
        show: served::to_callers(tls),
        bundle,
        events: connections.events,
        metrics: connections.metrics,
    };
    let keeper = Keeper::new(connections.client, settings, connections.leadership, ways);
    let served = Served {
        tls: shown,
        bundle: handed,
    };
    (keeper, served)
}
