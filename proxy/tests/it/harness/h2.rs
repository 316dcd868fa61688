//! HTTP/2 by the crate's own client and server, and by hand. Shares no code with what is tested but the protocol machine.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use bytes::Bytes;
use h2::client::SendRequest;
use h2::{RecvStream, SendStream};
use http::{HeaderMap, Request, Response};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::LONG;
use super::certificates::Pair;
use super::secure::{Tls, shown};

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
        Self::over(connect(address).await, builder).await
    }

    /// Connects inside TLS.
    pub(crate) async fn connect_tls(address: SocketAddr, tls: &Tls, name: &str) -> Self {
        let config = tls.with_protocols(&["h2"]).config();
        let name = ServerName::try_from(name.to_owned()).unwrap();
        let stream = TlsConnector::from(config).connect(name, connect(address).await);
        Self::over(stream.await.unwrap(), &h2::client::Builder::new()).await
    }

    async fn over<S>(stream: S, builder: &h2::client::Builder) -> Self
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
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

async fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).await.unwrap();
    stream.set_nodelay(true).unwrap();
    stream
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

/// Kinds of frames.
pub(crate) const DATA: u8 = 0;
pub(crate) const HEADERS: u8 = 1;
pub(crate) const PRIORITY: u8 = 2;
pub(crate) const RST_STREAM: u8 = 3;
pub(crate) const SETTINGS: u8 = 4;
pub(crate) const PING: u8 = 6;
pub(crate) const GOAWAY: u8 = 7;
pub(crate) const WINDOW_UPDATE: u8 = 8;
pub(crate) const CONTINUATION: u8 = 9;
pub(crate) const END_STREAM: u8 = 1;
pub(crate) const END_HEADERS: u8 = 4;

/// One frame.
pub(crate) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut bytes = length[1..].to_vec();
    bytes.extend([kind, flags]);
    bytes.extend(stream.to_be_bytes());
    bytes.extend(payload);
    bytes
}

/// Fields as they are, valid or not.
pub(crate) fn block(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (name, value) in fields {
        bytes.push(0); // a literal that nobody remembers
        for text in [name, value] {
            let length = u8::try_from(text.len()).unwrap();
            assert!(length < 127, "longer ones are written in another way");
            bytes.push(length);
            bytes.extend(text.as_bytes());
        }
    }
    bytes
}

/// The head of a request without body.
pub(crate) fn head(stream: u32) -> Vec<u8> {
    let fields = block(&[
        (":method", "GET"),
        (":scheme", "http"),
        (":authority", "shop.example"),
        (":path", "/"),
    ]);
    frame(HEADERS, END_HEADERS | END_STREAM, stream, &fields)
}

/// What a client by hand was told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Told {
    /// An answer has come: the first byte of its head, which is 0x80 and the place of a usual status.
    Answer(u8),
    /// A stream was reset.
    Reset(u32),
    /// The connection ends.
    GoAway(u32),
    /// It has ended.
    End,
}

/// The first byte of an answer with status 200.
pub(crate) const OK: Told = Told::Answer(0x88);
/// The first byte of an answer with status 400.
pub(crate) const BAD_REQUEST: Told = Told::Answer(0x8c);

/// A client by hand.
pub(crate) struct Raw {
    pub(crate) stream: std::net::TcpStream,
}

impl Raw {
    /// Connects, and greets with these settings.
    pub(crate) fn connect(address: SocketAddr, settings: &[(u16, u32)]) -> Self {
        let stream = super::tcp::connect(address);
        stream.set_nodelay(true).unwrap();
        let mut raw = Self { stream };
        let mut payload = Vec::new();
        for (name, value) in settings {
            payload.extend(name.to_be_bytes());
            payload.extend(value.to_be_bytes());
        }
        raw.send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
        raw.send(&frame(SETTINGS, 0, 0, &payload));
        raw
    }

    /// Sends bytes.
    pub(crate) fn send(&mut self, bytes: &[u8]) {
        self.try_send(bytes).unwrap();
    }

    /// Sends bytes, unless the connection is gone.
    pub(crate) fn try_send(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        std::io::Write::write_all(&mut self.stream, bytes)
    }

    /// Reads up to what tells something of a request, or of the connection.
    pub(crate) fn told(&mut self) -> Told {
        loop {
            let mut head = [0; 9];
            if std::io::Read::read_exact(&mut self.stream, &mut head).is_err() {
                return Told::End;
            }
            let [a, b, c, kind, ..] = head;
            let length = usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c);
            let mut payload = vec![0; length];
            if std::io::Read::read_exact(&mut self.stream, &mut payload).is_err() {
                return Told::End;
            }
            let number = |at: usize| {
                let bytes = payload.get(at..at + 4).unwrap();
                u32::from_be_bytes(bytes.try_into().unwrap())
            };
            match kind {
                HEADERS => return Told::Answer(payload[0]),
                RST_STREAM => return Told::Reset(number(0)),
                GOAWAY => return Told::GoAway(number(4)),
                _ => {}
            }
        }
    }
}

/// What a backend does with one request.
pub(crate) type Answering = std::pin::Pin<Box<dyn Future<Output = Result<(), h2::Error>> + Send>>;
/// A request as a backend gets it, with where its answer goes.
pub(crate) type Asked = (Request<RecvStream>, h2::server::SendResponse<Bytes>);

/// A backend whose thread ends with the test's process.
pub(crate) struct Backend {
    pub(crate) address: SocketAddr,
    accepted: Arc<AtomicUsize>,
}

impl Backend {
    /// Answers each request as `answer` says; each connection takes `most` requests and says goodbye.
    pub(crate) fn start(
        most: usize,
        answer: impl Fn(Asked) -> Answering + Clone + Send + 'static,
    ) -> Self {
        Self::start_as(most, None, answer)
    }

    /// The same over TLS.
    pub(crate) fn secured(
        pair: &Pair,
        answer: impl Fn(Asked) -> Answering + Clone + Send + 'static,
    ) -> Self {
        let mut config = shown(pair);
        config.alpn_protocols = vec![b"h2".to_vec()];
        Self::start_as(
            usize::MAX,
            Some(TlsAcceptor::from(Arc::new(config))),
            answer,
        )
    }

    fn start_as(
        most: usize,
        tls: Option<TlsAcceptor>,
        answer: impl Fn(Asked) -> Answering + Clone + Send + 'static,
    ) -> Self {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let accepted: Arc<AtomicUsize> = Arc::default();
        let count = Arc::clone(&accepted);
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(async {
                let listener = tokio::net::TcpListener::from_std(listener).unwrap();
                while let Ok((stream, _)) = listener.accept().await {
                    count.fetch_add(1, Relaxed);
                    stream.set_nodelay(true).unwrap();
                    let (tls, answer) = (tls.clone(), answer.clone());
                    // What fails here shows in what the client gets.
                    tokio::spawn(async move {
                        match tls {
                            Some(tls) => {
                                serve(tls.accept(stream).await.unwrap(), most, answer).await
                            }
                            None => serve(stream, most, answer).await,
                        }
                    });
                }
            });
        });
        Self { address, accepted }
    }

    /// Connections so far.
    pub(crate) fn accepted(&self) -> usize {
        self.accepted.load(Relaxed)
    }
}

async fn serve(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    most: usize,
    answer: impl Fn(Asked) -> Answering,
) -> Result<(), h2::Error> {
    let mut connection = h2::server::handshake(stream).await?;
    let mut taken = 0;
    while let Some(asked) = connection.accept().await {
        tokio::spawn(answer(asked?));
        taken += 1;
        if taken == most {
            connection.graceful_shutdown();
        }
    }
    Ok(())
}

/// Sends back the body as it comes, and the trailers; the head at once.
pub(crate) async fn echo((request, mut answer): Asked) -> Result<(), h2::Error> {
    let mut head = Response::new(());
    for (name, value) in request.headers() {
        let name = format!("got-{name}").parse::<http::HeaderName>().unwrap();
        head.headers_mut().append(name, value.clone());
    }
    let path = request.uri().to_string().parse().unwrap();
    head.headers_mut().insert("got-uri", path);
    let mut out = answer.send_response(head, false)?;
    let mut body = request.into_body();
    while let Some(data) = body.data().await {
        let data = data?;
        send_all(&mut out, &data, false).await?;
        body.flow_control().release_capacity(data.len())?;
    }
    match body.trailers().await? {
        Some(trailers) => out.send_trailers(trailers),
        None => out.send_data(Bytes::new(), true),
    }
}
