//! Who is meant, a proxy or the controller, and how it is reached.

use std::fmt;

use clap::ArgMatches;
use clap::parser::ValueSource;
use podline_api::client::{ClientTls, ProxyClient};

use super::controller::Controller;
use super::failure::Failure;
use super::kube::Kube;
use crate::installation::CONTROL;

/// The flags that all verbs share.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "The proxy, and TLS if it is not on this host")]
pub(super) struct Target {
    /// Where the proxy's API is: host:port or unix:PATH.
    #[arg(
        long,
        global = true,
        env = "PODLINE_PROXY",
        default_value = "127.0.0.1:9902",
        value_name = "ADDR|unix:PATH"
    )]
    proxy: String,
    #[command(flatten)]
    tls: Tls,
    /// Ask the controller whose API is there (host:port, plain text: 127.0.0.1:9912 on its own host).
    #[arg(long, global = true, value_name = "ADDR", help_heading = "The cluster")]
    control: Option<String>,
    #[command(flatten)]
    pub(super) kube: Kube,
    /// Flags for reaching a proxy that stand on the command line, and not merely in the environment.
    #[arg(skip)]
    given: Vec<&'static str>,
}

/// Whom a verb speaks to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Partner {
    Proxy,
    /// A proxy or the controller.
    Either,
    /// A cluster's API server.
    Cluster,
    Nobody,
}

/// The files for mutual TLS: all of them, or none.
#[derive(Clone, Debug, Default, clap::Args)]
struct Tls {
    /// Who may have signed the proxy's certificate (PEM).
    #[arg(
        long = "tls-ca",
        global = true,
        env = "PODLINE_TLS_CA",
        value_name = "FILE"
    )]
    ca: Option<String>,
    /// Our certificate (PEM), with those that lead to its signer.
    #[arg(
        long = "tls-cert",
        global = true,
        env = "PODLINE_TLS_CERT",
        value_name = "FILE"
    )]
    certificate: Option<String>,
    /// The key of our certificate (PEM).
    #[arg(
        long = "tls-key",
        global = true,
        env = "PODLINE_TLS_KEY",
        value_name = "FILE"
    )]
    key: Option<String>,
    /// The name in the proxy's certificate [default: proxy.podline.internal].
    #[arg(
        long = "tls-server-name",
        global = true,
        env = "PODLINE_TLS_SERVER_NAME",
        value_name = "NAME"
    )]
    server_name: Option<String>,
}

impl Target {
    /// Takes in what stands on the command line.
    pub(super) fn note(&mut self, matches: &ArgMatches) {
        let flags = [
            ("proxy", "--proxy"),
            ("ca", "--tls-ca"),
            ("certificate", "--tls-cert"),
            ("key", "--tls-key"),
            ("server_name", "--tls-server-name"),
        ];
        let is_given = |id: &str| matches.value_source(id) == Some(ValueSource::CommandLine);
        let given = flags.iter().filter(|(id, _)| is_given(id));
        self.given = given.map(|(_, flag)| *flag).collect();
    }

    /// Refuses flags that do not go together, or not with a verb that speaks to somebody else.
    pub(super) fn check(&self, partner: Partner) -> Result<(), Failure> {
        let refuse = |problem: String| Err(Failure::Usage(problem));
        let Self { kube, control, .. } = self;
        let asks_cluster = kube.is_meant || partner == Partner::Cluster;
        let way = if kube.is_meant { "--kube" } else { "this verb" };
        match (self.given.first(), kube.detail(), control) {
            (Some(flag), _, _) if asks_cluster => {
                return refuse(format!("{way} finds proxies by itself: leave {flag} out"));
            }
            (Some(flag), _, Some(_)) => {
                return refuse(format!("--control is not a proxy: leave {flag} out"));
            }
            (_, _, Some(_)) if asks_cluster => {
                return refuse(format!("{way} finds the controller: leave --control out"));
            }
            (_, Some(flag), _) if !asks_cluster => {
                return refuse(format!("{flag} needs --kube"));
            }
            _ => {}
        }
        if partner == Partner::Cluster && kube.proxy_pod.is_some() {
            return refuse("this verb is about all proxies: leave --proxy-pod out".to_owned());
        }
        if partner != Partner::Proxy || !self.asks_controller() {
            return Ok(());
        }
        refuse(match control {
            Some(_) => "this verb speaks to a proxy: use --proxy, not --control".to_owned(),
            None => "this verb speaks to a proxy: add --proxy-pod POD to --kube".to_owned(),
        })
    }

    /// Not a proxy is meant, but the controller.
    pub(super) const fn asks_controller(&self) -> bool {
        self.control.is_some() || (self.kube.is_meant && self.kube.proxy_pod.is_none())
    }

    /// Connects to the controller.
    pub(super) async fn controller(&self) -> Result<Controller, Failure> {
        match &self.control {
            Some(address) => Controller::at(address).await,
            None => Controller::within(&self.kube.cluster().await?).await,
        }
    }

    /// Connects to the proxy, within a few seconds.
    pub(super) async fn connect(&self) -> Result<ProxyClient, Failure> {
        if let Some(pod) = &self.kube.proxy_pod {
            return self.kube.cluster().await?.proxy(pod).await;
        }
        let tls = self.tls.read()?;
        Ok(ProxyClient::connect_with(&self.proxy, tls.as_ref()).await?)
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let pod = self.kube.proxy_pod.as_deref().unwrap_or(CONTROL);
        match &self.control {
            Some(address) => write!(f, "control:{address}"),
            None if self.kube.is_meant => write!(f, "kube:{}/{pod}", self.kube.namespace()),
            None => f.write_str(&self.proxy),
        }
    }
}

impl Tls {
    /// `None` if nothing is given.
    fn read(&self) -> Result<Option<ClientTls>, Failure> {
        let files = [
            ("--tls-ca", &self.ca),
            ("--tls-cert", &self.certificate),
            ("--tls-key", &self.key),
        ];
        let missing: Vec<&str> = files
            .iter()
            .filter(|(_, file)| file.is_none())
            .map(|(flag, _)| *flag)
            .collect();
        match (&self.ca, &self.certificate, &self.key) {
            (None, None, None) if self.server_name.is_none() => Ok(None),
            (Some(ca), Some(certificate), Some(key)) => Ok(Some(ClientTls {
                ca: read(ca)?,
                certificate: read(certificate)?,
                key: read(key)?,
                server_name: self
                    .server_name
                    .clone()
                    .unwrap_or_else(|| ClientTls::SERVER_NAME.to_owned()),
            })),
            _ => Err(Failure::Usage(format!(
                "TLS needs {} too",
                missing.join(" and ")
            ))),
        }
    }
}

fn read(file: &str) -> Result<Vec<u8>, Failure> {
    std::fs::read(file).map_err(|source| Failure::Read {
        file: file.to_owned(),
        source,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `files` are those for --tls-ca, --tls-cert and --tls-key.
    fn tls(files: [Option<&str>; 3], server_name: Option<&str>) -> Tls {
        let [ca, certificate, key] = files.map(|file| file.map(str::to_owned));
        Tls {
            ca,
            certificate,
            key,
            server_name: server_name.map(str::to_owned),
        }
    }

    #[test]
    fn tls_takes_all_its_files_or_none() {
        let check = |files, server_name, expected: &str| {
            let error = tls(files, server_name).read().unwrap_err();
            assert_eq!(error.explain(), format!("error: {expected}\n"));
            assert_eq!(error.exit(), super::super::failure::Exit::Usage);
        };
        assert_eq!(Tls::default().read().unwrap(), None);
        let some = Some("x");
        check([some, None, some], None, "TLS needs --tls-cert too");
        check(
            [None, None, some],
            None,
            "TLS needs --tls-ca and --tls-cert too",
        );
        let all = "TLS needs --tls-ca and --tls-cert and --tls-key too";
        check([None; 3], Some("proxy"), all);
    }

    #[test]
    fn tls_files_are_read_and_the_one_that_cannot_be_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
        let [ca, certificate, key] = ["ca", "certificate", "key"].map(path);
        for file in [&ca, &certificate] {
            std::fs::write(file, file).unwrap();
        }
        let tls = tls([Some(&ca), Some(&certificate), Some(&key)], None);
        let told = tls.read().unwrap_err().explain();
        assert!(
            told.starts_with(&format!("error: cannot read {key}: No such file")),
            "{told}"
        );

        std::fs::write(&key, "secret").unwrap();
        let expected = ClientTls {
            ca: ca.into(),
            certificate: certificate.into(),
            key: b"secret".to_vec(),
            server_name: "proxy.podline.internal".to_owned(),
        };
        assert_eq!(tls.read().unwrap(), Some(expected));
    }
}
