//! What Podline's own objects are called in a cluster: what the controller, the manifests under docker/deploy and the
//! command line have to agree on. Constants only.

/// Where everything is, unless somebody says otherwise.
pub const NAMESPACE: &str = "podline-system";
/// Tells the controller's objects from the proxies'.
pub const NAME_LABEL: &str = "app.kubernetes.io/name";
/// The label of every object that Podline consists of: key and value.
pub const PART_OF: (&str, &str) = ("app.kubernetes.io/part-of", "podline");
/// The controller's Deployment, account and roles, and their [`NAME_LABEL`].
pub const CONTROL: &str = "podline-control";
/// The proxies' Deployment, account and headless Service, and their [`NAME_LABEL`].
pub const PROXY: &str = "podline-proxy";
/// The DaemonSet that leads replies back through the proxies, and its [`NAME_LABEL`].
pub const RETURN_PATH: &str = "podline-return-path";
/// The DaemonSet whose Pods answer when the way to their nodes is proven, and their [`NAME_LABEL`].
pub const RESPONDER: &str = "podline-responder";
/// The ClusterRole that lets the controller read Secrets with certificates, where somebody binds it.
pub const TLS_ROLE: &str = "podline-tls";
/// Whoever holds this Lease leads.
pub const LEASE: &str = "podline-control";
/// The Secret of the CA for the channel between controllers and proxies.
pub const CA_SECRET: &str = "podline-control-ca";
/// The Secret that proxies mount.
pub const PROXY_SECRET: &str = "podline-proxy-tls";
/// The Secret of the controllers; also what `podline --kube --proxy-pod` shows to proxies.
pub const CONTROL_SECRET: &str = "podline-control-tls";
/// Where the proxies' certificates are mounted.
pub const PROXY_TLS_FOLDER: &str = "/etc/podline/tls";
/// The Service through which the API server calls the controllers' webhooks; they make it themselves.
pub const WEBHOOK_SERVICE: &str = "podline-webhook";
/// The Secret of the webhooks' CA.
pub const WEBHOOK_CA_SECRET: &str = "podline-webhook-ca";
/// The Secret of what the webhooks show to the API server.
pub const WEBHOOK_SECRET: &str = "podline-webhook-tls";
/// The Secret of what the proxies seal TLS session tickets with.
pub const TICKETS_SECRET: &str = "podline-ticket-keys";
/// The mutating and the validating webhook configuration; the controllers make both themselves.
pub const WEBHOOKS: &str = "podline-control";
/// A label of namespaces; with the value "disabled" their Pods get no readiness gate, and their deletion waits for nobody.
pub const GATE_LABEL: &str = "podline.io/readiness-gate";
/// The name of the proxies' API port in the headless Service.
pub const API_PORT_NAME: &str = "api";

/// Ports that Podline's own Pods listen at.
pub mod port {
    /// The controller's health, readiness and metrics.
    pub const CONTROL_ADMIN: u16 = 9911;
    /// The controller's API, on loopback only.
    pub const CONTROL_API: u16 = 9912;
    /// The controller's webhooks, over TLS.
    pub const CONTROL_WEBHOOK: u16 = 9913;
    /// The proxies' API, with mutual TLS.
    pub const PROXY_API: u16 = 9902;
    /// The proxies' health, readiness and metrics.
    pub const PROXY_METRICS: u16 = 9903;
    /// The responders, over TCP and UDP.
    pub const RESPONDER: u16 = 9904;
}

#[cfg(test)]
pub(crate) mod tests;
