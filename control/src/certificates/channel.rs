//! Who speaks with whom over TLS, and what the parties are called. Pure: constants and names.
//!
//! Over the *control channel* controllers call proxies: either end shows a certificate, and each trusts the other's. The
//! *webhook* channel has one end that shows something: the controllers, as a server. Whoever calls it, the API server,
//! trusts what the webhook configurations say.

use podline_api::client::ClientTls;

use crate::installation::{
    CA_SECRET, CONTROL_SECRET, PROXY_SECRET, WEBHOOK_CA_SECRET, WEBHOOK_SECRET, WEBHOOK_SERVICE,
};

/// The name in the certificate that controllers show to proxies.
const CONTROL_NAME: &str = "control.podline.internal";

/// A CA, and those whose certificates it signs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Channel {
    /// Between controllers and proxies.
    Control,
    /// From the API server to the webhooks of the controllers.
    Webhook,
}

impl Channel {
    /// Those that show a certificate.
    pub(super) const fn ends(self) -> &'static [End] {
        match self {
            Self::Control => &[End::Proxy, End::Control],
            Self::Webhook => &[End::Webhook],
        }
    }

    /// Its Secrets.
    pub(super) const fn secrets(self) -> &'static [Which] {
        match self {
            Self::Control => &[Which::Authority, Which::Proxy, Which::Control],
            Self::Webhook => &[Which::Authority, Which::Webhook],
        }
    }

    /// Each of its CAs is called so, with the beginning of its key's hash.
    pub(super) const fn authority_name(self) -> &'static str {
        match self {
            Self::Control => "podline control CA",
            Self::Webhook => "podline webhook CA",
        }
    }

    /// What one of its Secrets is called.
    pub(super) const fn name(self, which: Which) -> &'static str {
        match (self, which) {
            (Self::Control, Which::Authority) => CA_SECRET,
            (Self::Webhook, Which::Authority) => WEBHOOK_CA_SECRET,
            (_, Which::Proxy) => PROXY_SECRET,
            (_, Which::Control) => CONTROL_SECRET,
            (_, Which::Webhook) => WEBHOOK_SECRET,
        }
    }

    /// What one of its Secrets holds, in a log.
    pub(super) const fn what(self, which: Which) -> &'static str {
        match (self, which) {
            (Self::Control, Which::Authority) => "the control channel's CA",
            (Self::Webhook, Which::Authority) => "the webhooks' CA",
            (_, Which::Proxy) => "the proxies' certificates",
            (_, Which::Control) => "the controllers' certificates",
            (_, Which::Webhook) => "the webhooks' certificate",
        }
    }

    /// What one of its certificates is called in metrics.
    pub(super) const fn label(self, which: Which) -> &'static str {
        match (self, which) {
            (Self::Control, Which::Authority) => "authority",
            (Self::Webhook, Which::Authority) => "webhook-authority",
            (_, Which::Proxy) => "proxy",
            (_, Which::Control) => "control",
            (_, Which::Webhook) => "webhook",
        }
    }
}

/// One of the Secrets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Which {
    Authority,
    Proxy,
    Control,
    Webhook,
}

impl Which {
    /// The kind of a new one.
    pub(super) const fn kind(self) -> &'static str {
        match self {
            Self::Authority => "Opaque",
            Self::Proxy | Self::Control | Self::Webhook => "kubernetes.io/tls",
        }
    }
}

impl From<End> for Which {
    fn from(end: End) -> Self {
        match end {
            End::Proxy => Self::Proxy,
            End::Control => Self::Control,
            End::Webhook => Self::Webhook,
        }
    }
}

/// Somebody who shows a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// The server of the control channel.
    Proxy,
    /// Its client.
    Control,
    /// The server of the webhooks.
    Webhook,
}

/// What names in certificates are made of.
#[derive(Clone, Copy, Debug)]
pub(super) struct Names<'a> {
    pub(super) cluster: &'a str,
    pub(super) namespace: &'a str,
}

impl End {
    /// As it is called in logs.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Proxy => "proxies",
            Self::Control => "controllers",
            Self::Webhook => "webhooks",
        }
    }

    /// Whose bundle says whether what this end shows is trusted. That of the webhooks is copied to those that call them.
    pub(super) const fn judge(self) -> Self {
        match self {
            Self::Proxy => Self::Control,
            Self::Control => Self::Proxy,
            Self::Webhook => Self::Webhook,
        }
    }

    pub(super) const fn is_server(self) -> bool {
        matches!(self, Self::Proxy | Self::Webhook)
    }

    /// The DNS names in its certificate.
    pub(super) fn dns_names(self, names: Names<'_>) -> Vec<String> {
        match self {
            Self::Proxy => vec![ClientTls::SERVER_NAME.to_owned()],
            Self::Control => vec![CONTROL_NAME.to_owned()],
            Self::Webhook => {
                let short = format!("{WEBHOOK_SERVICE}.{}.svc", names.namespace);
                let long = format!("{short}.cluster.local");
                vec![short, long]
            }
        }
    }

    /// The URI name in its certificate: as which owner it may act.
    pub(super) fn uri_name(self, names: Names<'_>) -> Option<String> {
        match self {
            Self::Proxy | Self::Webhook => None,
            Self::Control => Some(format!("podline://owner/k8s/{}", names.cluster)),
        }
    }
}
