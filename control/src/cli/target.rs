//! Which proxy is meant, and how it is reached.

use std::fmt;

use podline_api::client::{ClientTls, ProxyClient};

use super::failure::Failure;

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
    /// Connects, within a few seconds.
    pub(super) async fn connect(&self) -> Result<ProxyClient, Failure> {
        let tls = self.tls.read()?;
        Ok(ProxyClient::connect_with(&self.proxy, tls.as_ref()).await?)
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.proxy)
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
