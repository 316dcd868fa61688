//! Certificates for the network API: authorities, and what they sign.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use podline_api::client::{ClientError, ClientTls, ProxyClient};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, SanType, date_time_ymd,
};

/// The URI name of an operator.
pub(crate) const OPERATOR: &str = "podline://operator";

/// Somebody who signs certificates.
pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    /// Its own certificate.
    pub(crate) pem: String,
}

/// A certificate and its key, in PEM.
#[derive(Clone, Debug)]
pub(crate) struct Pair {
    pub(crate) certificate: String,
    pub(crate) key: String,
}

impl Authority {
    /// A new one; two of the same name have different keys.
    pub(crate) fn new(name: &str) -> Self {
        let mut parameters = parameters(name);
        parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let pem = parameters.self_signed(&key).unwrap().pem();
        let issuer = Issuer::new(parameters, key);
        Self { issuer, pem }
    }

    /// A proxy's certificate.
    pub(crate) fn server(&self) -> Pair {
        let mut parameters = parameters("proxy");
        let name = ClientTls::SERVER_NAME.try_into().unwrap();
        parameters.subject_alt_names.push(SanType::DnsName(name));
        self.sign(&parameters)
    }

    /// A caller's certificate, with URI names.
    pub(crate) fn client(&self, uris: &[&str]) -> Pair {
        self.sign(&caller(uris))
    }

    /// One whose time is over.
    pub(crate) fn expired(&self, uris: &[&str]) -> Pair {
        let mut parameters = caller(uris);
        parameters.not_after = date_time_ymd(2020, 1, 1);
        self.sign(&parameters)
    }

    fn sign(&self, parameters: &CertificateParams) -> Pair {
        let key = KeyPair::generate().unwrap();
        let certificate = parameters.signed_by(&key, &self.issuer).unwrap();
        Pair {
            certificate: certificate.pem(),
            key: key.serialize_pem(),
        }
    }
}

fn parameters(name: &str) -> CertificateParams {
    let mut parameters = CertificateParams::default();
    parameters.distinguished_name.push(DnType::CommonName, name);
    parameters
}

fn caller(uris: &[&str]) -> CertificateParams {
    let mut parameters = parameters("caller");
    for uri in uris {
        let name = SanType::URI((*uri).try_into().unwrap());
        parameters.subject_alt_names.push(name);
    }
    parameters
}

/// The files of a network API, and who may sign what.
pub(crate) struct Files {
    folder: tempfile::TempDir,
    /// Signs proxies' certificates.
    pub(crate) servers: Authority,
    /// Signs callers' certificates.
    pub(crate) clients: Authority,
}

impl Files {
    /// An empty folder.
    pub(crate) fn none() -> Self {
        Self {
            folder: tempfile::tempdir().unwrap(),
            servers: Authority::new("servers"),
            clients: Authority::new("clients"),
        }
    }

    /// A good set.
    pub(crate) fn new() -> Self {
        let files = Self::none();
        files.write_all();
        files
    }

    /// Writes a good set.
    pub(crate) fn write_all(&self) {
        self.write_server(&self.servers.server());
        self.write_client_ca(&self.clients.pem);
    }

    /// Replaces the proxy's certificate and key.
    pub(crate) fn write_server(&self, pair: &Pair) {
        self.write("cert.pem", &pair.certificate);
        self.write("key.pem", &pair.key);
    }

    /// Replaces the callers' CA.
    pub(crate) fn write_client_ca(&self, pem: &str) {
        self.write("ca.pem", pem);
    }

    fn write(&self, name: &str, text: &str) {
        let new = self.folder.path().join("new");
        std::fs::write(&new, text).unwrap();
        std::fs::rename(new, self.path(name)).unwrap();
    }

    fn path(&self, name: &str) -> PathBuf {
        Path::new(self.folder.path()).join(name)
    }

    /// The flags of a proxy that serves its API with them at `address`.
    pub(crate) fn flags(&self, address: SocketAddr) -> Vec<String> {
        let path = |name| self.path(name).display().to_string();
        let flags = [
            ("--api", address.to_string()),
            ("--api-cert", path("cert.pem")),
            ("--api-key", path("key.pem")),
            ("--api-client-ca", path("ca.pem")),
        ];
        let words = flags
            .into_iter()
            .flat_map(|(flag, value)| [flag.to_owned(), value]);
        words.collect()
    }

    /// What a caller with `pair` brings.
    pub(crate) fn caller(&self, pair: Pair) -> ClientTls {
        ClientTls {
            ca: self.servers.pem.clone().into(),
            certificate: pair.certificate.into(),
            key: pair.key.into(),
            server_name: ClientTls::SERVER_NAME.to_owned(),
        }
    }

    /// What the caller that `uris` name brings.
    pub(crate) fn named(&self, uris: &[&str]) -> ClientTls {
        self.caller(self.clients.client(uris))
    }
}

/// A connection to the network API at a port.
pub(crate) async fn connect(port: u16, tls: &ClientTls) -> Result<ProxyClient, ClientError> {
    ProxyClient::connect_with(&format!("127.0.0.1:{port}"), Some(tls)).await
}
