//! Takes a connection through its TLS handshake, or tells the other end in its own words why not.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::{self, CertificateError, ServerConfig};
use tokio_rustls::server::TlsStream;

use super::plain;
use crate::api::refusals::Reason;

/// From the connection to the end of the handshake.
const LIMIT: Duration = Duration::from_secs(5);
/// What a refused caller still sends is read for so long at most, or it would not get to read why.
const LINGER: Duration = Duration::from_secs(1);
const MOST_LINGERING_BYTES: u64 = 64 << 10;

/// A caller that is not served.
#[derive(Debug)]
pub(crate) struct Refused {
    pub(crate) reason: Reason,
    /// In words, for the log.
    pub(crate) detail: String,
    /// Where it called from.
    pub(crate) from: SocketAddr,
}

/// Takes `stream` through its handshake within 5 s. Absent if the caller left without a word.
pub(crate) async fn accept(
    stream: TcpStream,
    from: SocketAddr,
    config: Arc<ServerConfig>,
) -> Result<Option<TlsStream<TcpStream>>, Refused> {
    let refused = |(reason, detail)| Refused {
        reason,
        detail,
        from,
    };
    let outcome = tokio::time::timeout(LIMIT, handshake(stream, config)).await;
    outcome
        .unwrap_or_else(|_| Err((Reason::Timeout, format!("no handshake within {LIMIT:?}"))))
        .map_err(refused)
}

async fn handshake(
    stream: TcpStream,
    config: Arc<ServerConfig>,
) -> Result<Option<TlsStream<TcpStream>>, (Reason, String)> {
    let mut beginning = [0; 24];
    match stream.peek(&mut beginning).await {
        Ok(0) | Err(_) => return Ok(None),
        Ok(bytes) if plain::is_tls(beginning[0]) && bytes > 0 => {}
        Ok(bytes) => {
            end(stream, &plain::answer(&beginning[..bytes])).await;
            return Err((Reason::PlainText, "it speaks plain text".to_owned()));
        }
    }
    let accept = TlsAcceptor::from(config).accept(stream).into_fallible();
    match accept.await {
        Ok(stream) => Ok(Some(stream)),
        Err((error, stream)) => {
            // The alert that says why is sent already.
            end(stream, &[]).await;
            Err(meaning(&error))
        }
    }
}

/// Says the last word and lets the other end read it: closing with bytes unread would throw it away.
async fn end(mut stream: TcpStream, last: &[u8]) {
    let told = async {
        stream.write_all(last).await?;
        stream.shutdown().await?;
        let mut rest = stream.take(MOST_LINGERING_BYTES);
        tokio::io::copy(&mut rest, &mut tokio::io::sink()).await
    };
    // It is over in either case.
    let _ = tokio::time::timeout(LINGER, told).await;
}

fn meaning(error: &io::Error) -> (Reason, String) {
    let inside = error.get_ref().and_then(|inside| inside.downcast_ref());
    let reason = match inside {
        Some(rustls::Error::NoCertificatesPresented) => Reason::NoCertificate,
        // A CA of the same name with another key shows as a bad signature.
        Some(rustls::Error::InvalidCertificate(
            CertificateError::UnknownIssuer | CertificateError::BadSignature,
        )) => Reason::UnknownCa,
        Some(rustls::Error::InvalidCertificate(
            CertificateError::Expired | CertificateError::ExpiredContext { .. },
        )) => Reason::Expired,
        _ => Reason::Handshake,
    };
    (reason, error.to_string())
}
