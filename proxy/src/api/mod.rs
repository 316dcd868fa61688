//! The control API: `podline.v1.Proxy` over gRPC, with reflection and the standard health service.
//!
//! Turns requests into domain types and answers into messages. What a change means is decided in `state`.

pub(crate) mod identity;
mod push;
pub(crate) mod refusals;
mod service;
mod watch;

#[cfg(test)]
mod tests;

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::{self, BoxStream};
use podline_api::{FILE_DESCRIPTOR_SET, MAX_MESSAGE_BYTES, v1};
use tokio::sync::watch as flag;
use tonic::transport::Server;
use tonic_health::ServingStatus;
use tonic_health::server::HealthReporter;

use crate::error::chain;
use crate::listen::{Accepted, Served};
use crate::overview::Overview;
use crate::settings::ApiAddress;
use crate::tls::certificates::Certificates;
use refusals::Refusals;
use service::Service;

/// Connections open at once: every watcher may have one of its own, and others are still answered.
pub(crate) const CONNECTIONS: usize = 128;
const REQUESTS_PER_CONNECTION: usize = 32;
const STREAMS_PER_CONNECTION: u32 = 128;
/// A caller that vanished without a word is noticed after these two.
const PING_EVERY: Duration = Duration::from_secs(20);
const PING_TIMEOUT: Duration = Duration::from_secs(10);
/// At shutdown calls may end for so long.
const GRACE: Duration = Duration::from_secs(2);
/// How often an address that cannot be bound is tried again.
const BIND_AGAIN: Duration = Duration::from_secs(1);
const HEALTH_EVERY: Duration = Duration::from_millis(200);

/// An address of the API.
pub(crate) enum Door {
    /// In plain text.
    Plain(Served),
    /// With mutual TLS.
    Tls(Served, Certificates),
    /// With mutual TLS, once there are certificates: until then it is not even bound.
    Later(ApiAddress, Certificates),
}

impl Door {
    /// Where it is, with the port that it was given for port 0 once it is bound.
    pub(crate) fn address(&self) -> std::io::Result<ApiAddress> {
        match self {
            Self::Plain(served) | Self::Tls(served, _) => served.address(),
            Self::Later(address, _) => Ok(address.clone()),
        }
    }

    /// Callers as they come, for ever.
    fn incoming(self, refusals: Arc<Refusals>) -> BoxStream<'static, Accepted> {
        match self {
            Self::Plain(served) => served.incoming().boxed(),
            Self::Tls(served, certificates) => {
                served.incoming_over_tls(certificates, refusals).boxed()
            }
            Self::Later(address, certificates) => stream::once(async move {
                certificates.wait().await;
                let served = bind(&address).await;
                served.incoming_over_tls(certificates, refusals)
            })
            .flatten()
            .boxed(),
        }
    }
}

/// Binds an address, however long that takes.
async fn bind(address: &ApiAddress) -> Served {
    let mut told = false;
    loop {
        match Served::bind(address, CONNECTIONS).await {
            Ok(served) => {
                tracing::info!(%address, "the network API is open");
                return served;
            }
            Err(error) => {
                if !std::mem::replace(&mut told, true) {
                    let error = chain(&error);
                    tracing::error!(%address, error, "cannot serve the API there; trying again");
                }
                tokio::time::sleep(BIND_AGAIN).await;
            }
        }
    }
}

/// Serves all `doors` until `closing` turns true, then lets running calls end.
pub(crate) async fn serve(
    doors: Vec<Door>,
    overview: Overview,
    closing: flag::Receiver<bool>,
) -> Result<(), tonic::transport::Error> {
    let (reporter, health) = tonic_health::server::health_reporter();
    let refusals = Arc::new(Refusals::new(Arc::clone(&overview.counts)));
    let service = Service::new(overview.clone(), Arc::clone(&refusals), closing.clone());
    let service = v1::proxy_server::ProxyServer::new(service)
        .max_decoding_message_size(MAX_MESSAGE_BYTES)
        .max_encoding_message_size(MAX_MESSAGE_BYTES);
    let doors = doors
        .into_iter()
        .map(|door| door.incoming(Arc::clone(&refusals)));
    let incoming = stream::select_all(doors).map(Ok::<_, Infallible>);
    let calls = Server::builder()
        .concurrency_limit_per_connection(REQUESTS_PER_CONNECTION)
        .max_concurrent_streams(STREAMS_PER_CONNECTION)
        .http2_keepalive_interval(Some(PING_EVERY))
        .http2_keepalive_timeout(Some(PING_TIMEOUT))
        .add_service(service)
        .add_service(health)
        .add_service(
            reflection()
                .build_v1()
                .expect("our own descriptors are whole"),
        )
        .add_service(
            reflection()
                .build_v1alpha()
                .expect("our own descriptors are whole"),
        )
        .serve_with_incoming_shutdown(incoming, closed(closing.clone()));
    tokio::select! {
        result = calls => result,
        () = async { closed(closing).await; tokio::time::sleep(GRACE).await } => Ok(()),
        () = report_health(reporter, overview) => Ok(()),
        () = refusals.sum_up() => Ok(()),
    }
}

fn reflection() -> tonic_reflection::server::Builder<'static> {
    tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(FILE_DESCRIPTOR_SET)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
}

/// Resolves when the flag is set; a flag that nobody can set any more counts as set.
async fn closed(mut closing: flag::Receiver<bool>) {
    let _ = closing.wait_for(|closing| *closing).await;
}

/// Keeps the health service's answers at the proxy's readiness, for ever. The server as a whole (the empty name) and
/// the Proxy service go together.
async fn report_health(reporter: HealthReporter, overview: Overview) {
    let mut told = None;
    loop {
        let ready = overview.state.ready().is_ok();
        if told != Some(ready) {
            let status = if ready {
                ServingStatus::Serving
            } else {
                ServingStatus::NotServing
            };
            reporter.set_service_status("", status).await;
            let name =
                <v1::proxy_server::ProxyServer<Service> as tonic::server::NamedService>::NAME;
            reporter.set_service_status(name, status).await;
            told = Some(ready);
        }
        tokio::time::sleep(HEALTH_EVERY).await;
    }
}
