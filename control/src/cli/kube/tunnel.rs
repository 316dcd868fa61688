//! A connection to a port of a Pod, through the API server.
//!
//! kube forwards over a WebSocket in a task of its own; what the kubelet has to say about the port comes beside the data,
//! and would be lost if nobody kept it.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use tokio::io::DuplexStream;

use super::Cluster;
use super::trouble::{Call, PORT_FORWARD, Trouble};

/// What the kubelet says may come a little later than the end of the data.
const LATE: Duration = Duration::from_millis(300);

/// A connection, and what is said about it.
pub(in crate::cli) struct Tunnel {
    pub(in crate::cli) stream: DuplexStream,
    pub(in crate::cli) problem: Problem,
}

/// Why the port cannot be used, once that is known. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(in crate::cli) struct Problem(Arc<Mutex<Option<String>>>);

impl Problem {
    /// What is known now.
    fn now(&self) -> Option<String> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// What is known after a moment, for whoever saw the data end.
    pub(in crate::cli) async fn soon(&self) -> Option<String> {
        let known = async {
            while self.now().is_none() {
                tokio::time::sleep(LATE / 20).await;
            }
        };
        // Nothing may ever be said.
        let _ = tokio::time::timeout(LATE, known).await;
        self.now()
    }

    fn set(&self, text: String) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(text);
    }
}

/// Opens a connection to a port on the loopback address of a Pod.
pub(in crate::cli) async fn open(
    cluster: &Cluster,
    pod: &str,
    port: u16,
) -> Result<Tunnel, Trouble> {
    let call = Call::new("create", PORT_FORWARD).within(&cluster.namespace);
    let pods = cluster.own::<Pod>();
    let mut forwarder = cluster.answer(call, pods.portforward(pod, &[port])).await?;
    let broken = || super::trouble::tunnel(pod, "the API server forwards no such port");
    let stream = forwarder.take_stream(port).ok_or_else(broken)?;
    let said = forwarder.take_error(port);
    let problem = Problem::default();
    let keeper = problem.clone();
    // Ends with the connection.
    tokio::spawn(async move {
        if let Some(said) = said
            && let Some(text) = said.await
        {
            keeper.set(text.trim().to_owned());
            // It may leave the data open, and whoever reads it waiting.
            forwarder.abort();
        }
        if let Err(error) = forwarder.join().await {
            tracing::debug!(%error, "the port-forward ended");
        }
    });
    Ok(Tunnel { stream, problem })
}
