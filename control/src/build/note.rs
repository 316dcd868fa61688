//! What there is to tell about a Service: stable reason codes, with words. Pure.
//!
//! A note is a fact that holds, not an event: `reconcile` makes an event of one when it begins to hold. So its words must
//! not change while the fact does not: no counts, no times.

use std::fmt;

use crate::reasons::reasons;

/// A fact that its owner should know.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Note {
    /// Which kind of fact.
    pub reason: Reason,
    /// In words, with what to do about it.
    pub message: String,
}

reasons! {
    /// Kinds of facts, as they stand in events and conditions. Never renamed.
    /// Something does not work as it was asked for.
    is_warning: Warning | Normal;
    /// Traffic goes through NodePorts, because the Service does not ask for its Pods.
    NodePortMode: Normal,
    /// An annotation cannot be read; the last readable value stays.
    InvalidAnnotation: Warning,
    /// An annotation can be read and does nothing here, though its owner may count on it.
    AnnotationIgnored: Normal,
    /// The Service stays as it was, because it says so.
    Skipped: Normal,
    /// A source range cannot be read, or there are too many; nobody is let in that the others do not name.
    InvalidSourceRange: Warning,
    /// A Service or Ingress names a security group, and nothing says whom that lets in: nobody.
    SecurityGroupUnknown: Warning,
    /// Another controller has written to this Service, which names no class.
    ClaimedByOther: Warning,
    /// Another Service has this address and port.
    PortConflict: Warning,
    /// A rule of an Ingress, or a redirect, is nothing that can be served.
    RuleRefused: Warning,
    /// A Service that an Ingress names is not there, or has no such port.
    ServiceMissing: Warning,
    /// A proxy refuses an Ingress, or cannot bind a port of it.
    NotProgrammed: Warning,
    /// The port is kept free on the proxies' hosts.
    ReservedPort: Warning,
    /// SCTP is not forwarded.
    SCTPNotSupported: Warning,
    /// NodePort mode, and the port has no node port.
    NoNodePort: Warning,
    /// No address of the pool is free, or the one asked for cannot be had.
    NoAddress: Warning,
    /// A host that is no proxy has the Service's address.
    AddressConflict: Warning,
    /// The proxy that is to hold the Service's address cannot.
    AddressNotHeld: Warning,
    /// No endpoint has this port: the Pods do not declare the named target port.
    PortNotOnPod: Warning,
    /// A Pod uses its node's network.
    HostNetwork: Warning,
    /// Pods of GlobalRouter are not bound directly in this cluster, because its switch is not on.
    NetworkModeRefused: Warning,
    /// Its Pods are in two network modes; those in the mode that was there first are bound.
    NetworkModeMixed: Warning,
    /// More Pods than the quota; the oldest are bound.
    BeyondQuota: Warning,
    /// An endpoint aims at what this Service may not reach.
    EndpointRefused: Warning,
    /// A slice holds host names.
    HostNameEndpoints: Warning,
    /// A Secret that a port names for its certificate is not there.
    TlsSecretMissing: Warning,
    /// A Secret that a port names holds nothing that can be shown.
    TlsSecretRefused: Warning,
    /// A Secret that a port names cannot be read, mostly because nobody allows it.
    TlsSecretUnreadable: Warning,
    /// A certificate has ended, and is shown all the same.
    CertificateExpired: Warning,
    /// A TkeServiceConfig that a Service names is not there; what it set stays.
    ServiceConfigMissing: Warning,
    /// A Service names a TkeServiceConfig, and wants one made for it; neither is followed.
    ServiceConfigAmbiguous: Warning,
    /// A Service names a TkeServiceConfig that may be made for somebody.
    ServiceConfigNameReserved: Warning,
    /// Something in a TkeServiceConfig cannot be; the last good value stays.
    ServiceConfigInvalid: Warning,
    /// Something in a TkeServiceConfig has no effect here.
    ServiceConfigNotApplied: Normal,
    /// Something in a TkeServiceConfig has an effect here that it would not have in a cloud.
    ServiceConfigUnusual: Normal,
    /// A switch of the ConfigMap cannot be read.
    InvalidSwitch: Warning,
    /// The Pods see the proxy's address, where they were to see the client's if that is possible.
    SourceNat: Normal,
    /// The Pods cannot see the client's address, which was asked for without an alternative.
    SourceAddressImpossible: Warning,
    /// A webhook configuration of Podline's was made.
    Registered: Normal,
    /// An object of Podline's own was damaged or deleted, and was mended.
    Repaired: Warning,
    /// Somebody else keeps undoing what Podline mends.
    RepairContested: Warning,
    /// Pods wait for their readiness gates, and no proxy serves.
    NoServingProxy: Warning,
    /// A Pod waits for its readiness gate for long.
    GateClosed: Warning,
    /// Pods are bound that have no readiness gate of ours.
    PodsWithoutGate: Normal,
    /// Of a Pod: it takes traffic through every proxy that serves, and how soon.
    InService: Normal,
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.reason, self.message)
    }
}

impl Note {
    /// A note.
    pub fn new(reason: Reason, message: impl Into<String>) -> Self {
        Self {
            reason,
            message: message.into(),
        }
    }
}
