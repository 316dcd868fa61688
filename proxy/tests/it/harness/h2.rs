//! HTTP/2 by the crate's own client and server, and by hand. Shares no code with what is tested but the protocol machine.

use std::future::Future;
use std::net::SocketAddr;

use bytes::Bytes;
use h2::client::SendRequest;
use h2::{RecvStream, SendStream};
use http::{HeaderMap, Request, Response};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

use super::LONG;

/// Runs a test's clients; panics when they take too long.
pub(crate) fn run<T>(clients: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async { tokio::time::timeout(3 * LONG, clients).await.unwrap() })
}

/// A client's connection.
pub(crate) struct Client {
    requests: SendRequest<Bytes>,
    /// Ends when the connection does.
    pub(crate) connection: JoinHandle<Result<(), h2::Error>>,
}

/// An answer as a client got it.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) head: Response<()>,
    pub(crate) body: Vec<u8>,
    pub(crate) trailers: Option<HeaderMap>,
}

impl Answer {
    /// Its status.
    pub(crate) fn status(&self) -> u16 {
        self.head.status().as_u16()
    }

    /// The value of a field.
    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        let value = self.head.headers().get(name)?;
        value.to_str().ok()
    }

    /// The body as text.
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// Why the proxy answered itself; nothing: it did not.
    pub(crate) fn reason(&self) -> Option<&str> {
        self.field("x-podline-reason")
    }
}

impl Client {
    /// Connects.
    pub(crate) async fn connect(address: SocketAddr) -> Self {
        let builder = h2::client::Builder::new();
        Self::connect_as(address, &builder).await
    }

    /// Connects with settings of its own.
    pub(crate) async fn connect_as(address: SocketAddr, builder: &h2::client::Builder) -> Self {
        let stream = TcpStream::connect(address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        let (requests, connection) = builder.handshake(stream).await.unwrap();
        Self {
            requests,
            connection: tokio::spawn(connection),
        }
    }

    /// Sends a request's head; its body is the caller's.
    pub(crate) async fn send(
        &self,
        request: Request<()>,
        is_whole: bool,
    ) -> Result<(h2::client::ResponseFuture, SendStream<Bytes>), h2::Error> {
        let mut requests = self.requests.clone().ready().await?;
        requests.send_request(request, is_whole)
    }

    /// One request with its answer.
    pub(crate) async fn ask(
        &self,
        request: Request<()>,
        body: &[u8],
        trailers: Option<HeaderMap>,
    ) -> Result<Answer, h2::Error> {
        let is_whole = body.is_empty() && trailers.is_none();
        let (answer, mut stream) = self.send(request, is_whole).await?;
        let sending = async {
            if !is_whole {
                send_all(&mut stream, body, trailers.is_none()).await?;
            }
            if let Some(trailers) = trailers {
                stream.send_trailers(trailers)?;
            }
            Ok::<(), h2::Error>(())
        };
        let (_, answer) = tokio::join!(sending, read(answer));
        answer
    }

    /// One request without body.
    pub(crate) async fn get(&self, path: &str) -> Result<Answer, h2::Error> {
        self.ask(get(path), b"", None).await
    }
}

/// A request for a path of the host that tests have.
pub(crate) fn get(path: &str) -> Request<()> {
    request("GET", path)
}

/// The same with any method.
pub(crate) fn request(method: &str, path: &str) -> Request<()> {
    Request::builder()
        .method(method)
        .uri(format!("http://shop.example{path}"))
        .version(http::Version::HTTP_2)
        .body(())
        .unwrap()
}

/// Sends a body as far as the receiver lets it.
pub(crate) async fn send_all(
    stream: &mut SendStream<Bytes>,
    mut body: &[u8],
    is_last: bool,
) -> Result<(), h2::Error> {
    while !body.is_empty() {
        stream.reserve_capacity(body.len());
        let room = std::future::poll_fn(|context| stream.poll_capacity(context)).await;
        let n = room.expect("the stream is open")?.min(body.len());
        stream.send_data(Bytes::copy_from_slice(&body[..n]), false)?;
        body = &body[n..];
    }
    if is_last {
        stream.send_data(Bytes::new(), true)?;
    }
    Ok(())
}

/// Reads an answer whole.
pub(crate) async fn read(answer: h2::client::ResponseFuture) -> Result<Answer, h2::Error> {
    let (head, mut stream) = answer.await?.into_parts();
    let (body, trailers) = read_body(&mut stream).await?;
    Ok(Answer {
        head: Response::from_parts(head, ()),
        body,
        trailers,
    })
}

/// Reads a body whole, with its trailers.
pub(crate) async fn read_body(
    stream: &mut RecvStream,
) -> Result<(Vec<u8>, Option<HeaderMap>), h2::Error> {
    let mut body = Vec::new();
    while let Some(data) = stream.data().await {
        let data = data?;
        stream.flow_control().release_capacity(data.len())?;
        body.extend_from_slice(&data);
    }
    Ok((body, stream.trailers().await?))
}
