//! TLS: what a listener shows its clients, whom it lets in, and how backends are spoken to. PEM in and out; that
//! certificates and keys can be used and go together is known once they stand in these types.

mod wire;

use std::fmt;

/// How a listener speaks TLS with its clients.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tls {
    /// What it shows, by the name that a client asks for; the first where none is for it. 1 to 100.
    pub certificates: Vec<Certificate>,
    /// The lowest version that is spoken.
    pub min_version: TlsVersion,
    /// Whom it lets in; absent: clients are not asked.
    pub client_certificates: Option<ClientCertificates>,
    /// HTTP/2 is offered; false with protocol TLS.
    pub http2: bool,
    /// What session tickets are sealed with, the first, and opened with, all. At most 10; none: the proxy's own.
    pub ticket_keys: Vec<TicketKey>,
}

/// A version of TLS.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum TlsVersion {
    /// 1.2.
    #[default]
    Tls12,
    /// 1.3.
    Tls13,
}

/// A certificate with its private key. They go together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificate {
    /// In PEM, the server's own first.
    pub chain: String,
    /// In PEM.
    pub key: Secret,
}

/// Who may connect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientCertificates {
    /// Who vouches for clients, in PEM.
    pub trusted: String,
    /// Clients without a certificate are served too.
    pub is_optional: bool,
}

/// What seals session tickets. 16 bytes are its name, 32 are secret.
#[derive(Clone, PartialEq, Eq)]
pub struct TicketKey([u8; Self::LENGTH]);

/// How backends are spoken to over TLS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackendTls {
    /// Who vouches for backends, in PEM; absent: any certificate is taken.
    pub trusted: Option<String>,
    /// The name that is asked for; there where certificates are verified.
    pub server_name: Option<String>,
}

/// What nobody is shown: its debug form says nothing.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Keeps `text` from being shown.
    pub const fn new(text: String) -> Self {
        Self(text)
    }

    /// The secret itself.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(secret)")
    }
}

impl TicketKey {
    /// Bytes of the name, which is public.
    pub const NAME: usize = 16;
    /// Bytes of name and secret.
    pub const LENGTH: usize = 48;

    /// A key of these bytes: its name, then the secret.
    pub const fn new(bytes: [u8; Self::LENGTH]) -> Self {
        Self(bytes)
    }

    /// What tickets name it by.
    pub fn name(&self) -> &[u8] {
        &self.0[..Self::NAME]
    }

    /// The secret itself: 32 bytes.
    pub fn reveal(&self) -> &[u8] {
        &self.0[Self::NAME..]
    }
}

impl fmt::Debug for TicketKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&wire::hex(self.name()))
    }
}
