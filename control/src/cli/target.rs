//! Which proxy is meant, and how it is reached.

use std::fmt;

use podline_api::client::ProxyClient;

use super::failure::Failure;

/// The flags that all verbs share.
#[derive(Clone, Debug, clap::Args)]
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
}

impl Target {
    /// Connects, within a few seconds.
    pub(super) async fn connect(&self) -> Result<ProxyClient, Failure> {
        Ok(ProxyClient::connect(&self.proxy).await?)
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.proxy)
    }
}
