//! Requests that share HTTP/2 connections: the loop under the loads of HTTP/2 and gRPC.
//!
//! A connection that is lost, or that its other side wants to end, is made again by the next request that needs it. It must
//! not know how requests and answers look ([`Call`]) nor when they are due ([`Source`]).

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use h2::client::{self, SendRequest};
use http::{HeaderMap, Request, Response};
use rustix::fd::OwnedFd;
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
    timerfd_settime,
};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::net::unix::pipe;
use tokio::sync::{Mutex, Semaphore};
use tokio::task::{JoinSet, LocalSet};
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::ClientConfig;

use super::pace::nanoseconds;
use super::run::{Part, limit};
use super::socket::classify;
use super::source::Source;
use super::stop::Stop;
use super::tally::Tally;
use super::trust::{HTTP2, server_name};
use super::{Failure, Outcome, Plan};

/// Windows that no answer of a benchmark fills.
const STREAM_WINDOW: u32 = 1 << 20;
const CONNECTION_WINDOW: u32 = 1 << 26;
/// How long a worker of a closed load rests after it found nobody to talk to.
const REST: Duration = Duration::from_millis(10);
/// A stop is seen within it.
const TICK: Duration = Duration::from_millis(20);

/// A kind of requests.
pub(crate) trait Call: 'static {
    /// An answer that is being read.
    type Answer;

    /// The request with this number, and its body.
    fn request(&self, sequence: u64) -> Result<(Request<()>, Option<Bytes>), http::Error>;

    /// Looks at an answer's head; `None` if it is not what was asked for.
    fn head(&self, sequence: u64, response: &Response<()>) -> Option<Self::Answer>;

    /// Reads a piece of its body: whether that is right.
    fn body(&self, answer: &mut Self::Answer, bytes: &[u8]) -> bool;

    /// Its end: the Pod and the bytes of payload; `None` if it is not what was asked for.
    fn end(&self, answer: Self::Answer, trailers: Option<HeaderMap>) -> Option<(u32, u64)>;
}

/// What the addresses of requests begin with.
pub(crate) fn origin(plan: &Plan) -> String {
    let scheme = if plan.tls.is_some() { "https" } else { "http" };
    format!("{scheme}://{}", plan.target)
}

/// What all workers of a thread share.
struct Shared<C> {
    call: C,
    target: SocketAddr,
    tls: Option<Arc<ClientConfig>>,
    patience: Duration,
    start: Cell<Instant>,
    tally: RefCell<Tally>,
    source: RefCell<Source>,
    /// Due requests of a schedule that no worker has taken yet, and one permit for each.
    line: RefCell<VecDeque<u64>>,
    permits: Semaphore,
    busy: Cell<u64>,
    sequence: Cell<u64>,
}

/// One connection, made when it is needed.
#[derive(Default)]
struct Connection {
    sender: RefCell<Option<SendRequest<Bytes>>>,
    dialling: Mutex<()>,
}

pub(crate) fn load<C: Call>(
    plan: &Plan,
    part: Part,
    (connections, streams): (u32, u32),
    call: C,
    stop: &Stop,
) -> io::Result<Outcome> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let shared = Rc::new(Shared {
        call,
        target: plan.target,
        tls: plan.tls.as_ref().map(|trust| trust.speaking(HTTP2)),
        patience: plan.patience,
        start: Cell::new(Instant::now()),
        tally: RefCell::default(),
        source: RefCell::new(Source::new(plan.pace, plan.duration, part.parts)),
        line: RefCell::default(),
        permits: Semaphore::new(0),
        busy: Cell::new(0),
        sequence: Cell::new(part.first()),
    });
    let connections: Vec<Rc<Connection>> =
        (0..part.of(connections)).map(|_| Rc::default()).collect();
    let local = LocalSet::new();
    let running = run(plan, &shared, &connections, streams, stop);
    local.block_on(&runtime, running)?;
    drop(local); // and with it the workers
    let now = shared.now();
    Ok(shared.tally.take().finish(now))
}

async fn run<C: Call>(
    plan: &Plan,
    shared: &Rc<Shared<C>>,
    connections: &[Rc<Connection>],
    streams: u32,
    stop: &Stop,
) -> io::Result<()> {
    shared.open_all(connections, stop).await;
    let opening = nanoseconds(shared.start.get().elapsed());
    shared.start.set(Instant::now());
    let mut workers = JoinSet::new();
    for _ in 0..streams {
        for connection in connections {
            let (shared, connection) = (Rc::clone(shared), Rc::clone(connection));
            workers.spawn_local(async move { shared.work(&connection).await });
        }
    }
    let clock = Timer::new()?;
    let giving = shared.give(&clock);
    let all = async { while workers.join_next().await.is_some() {} };
    let limit = limit(plan.duration, nanoseconds(plan.patience), opening);
    let limit = tokio::time::sleep(Duration::from_nanos(limit));
    tokio::select! {
        given = async { giving.await?; std::future::pending::<io::Result<()>>().await } => given?,
        () = all => (),
        () = limit => {
            let now = shared.now();
            let mut tally = shared.tally.borrow_mut();
            tally.failed_many(now, Failure::Late, shared.busy.get());
            let left = shared.line.borrow().len() as u64;
            tally.given_up(now, left + shared.source.borrow_mut().give_up_all());
        }
        () = stopped(stop) => shared.tally.borrow_mut().forget(shared.busy.get()),
    }
    Ok(())
}

async fn stopped(stop: &Stop) {
    while !stop.is_stopped() {
        tokio::time::sleep(TICK).await;
    }
}

impl<C: Call> Shared<C> {
    fn now(&self) -> u64 {
        nanoseconds(self.start.get().elapsed())
    }

    /// Makes the connections before the clock starts. Those that fail are counted.
    async fn open_all(self: &Rc<Self>, connections: &[Rc<Connection>], stop: &Stop) {
        let mut opening = JoinSet::new();
        for connection in connections {
            let (shared, connection) = (Rc::clone(self), Rc::clone(connection));
            opening.spawn_local(async move {
                let made = tokio::time::timeout(shared.patience, shared.sender(&connection)).await;
                if let Err(failure) = made
                    .map_err(|_| Failure::Connect)
                    .and_then(|made| made.map(drop))
                {
                    let mut tally = shared.tally.borrow_mut();
                    tally.begin();
                    tally.failed(0, failure);
                }
            });
        }
        tokio::select! {
            () = async { while opening.join_next().await.is_some() {} } => (),
            () = stopped(stop) => (),
        }
    }

    /// Puts the requests of a schedule in line when they are due.
    async fn give(&self, clock: &Timer) -> io::Result<()> {
        loop {
            let now = self.now();
            let next = {
                let mut source = self.source.borrow_mut();
                if !matches!(*source, Source::Open(_)) {
                    return Ok(());
                }
                let mut given = 0;
                while let Some(due) = source.take(now) {
                    self.line.borrow_mut().push_back(due);
                    given += 1;
                }
                self.permits.add_permits(given);
                source.next_at()
            };
            let Some(next) = next else {
                self.close_if_over();
                return Ok(());
            };
            clock.sleep(next.saturating_sub(now)).await?;
        }
    }

    fn close_if_over(&self) {
        if self.source.borrow().next_at().is_none() && self.line.borrow().is_empty() {
            self.permits.close();
        }
    }

    /// Waits for a request: when it was due. `None` if there will be none.
    async fn next(&self) -> Option<u64> {
        let is_open = matches!(*self.source.borrow(), Source::Open(_));
        if !is_open {
            let now = self.now();
            return self.source.borrow_mut().take(now);
        }
        loop {
            self.permits.acquire().await.ok()?.forget();
            let due = self.line.borrow_mut().pop_front();
            self.close_if_over();
            let due = due?;
            let now = self.now();
            if due.saturating_add(nanoseconds(self.patience)) >= now {
                return Some(due);
            }
            self.tally.borrow_mut().given_up(now, 1);
        }
    }

    async fn work(&self, connection: &Connection) {
        while let Some(due) = self.next().await {
            let sequence = self.sequence.get();
            self.sequence.set(sequence + 1);
            self.tally.borrow_mut().begin();
            self.busy.set(self.busy.get() + 1);
            let waited = Duration::from_nanos(self.now().saturating_sub(due));
            let left = self.patience.saturating_sub(waited);
            let asked = tokio::time::timeout(left, self.ask(connection, sequence)).await;
            let now = self.now();
            self.busy.set(self.busy.get() - 1);
            let failure = match asked {
                Ok(Ok((pod, bytes))) => {
                    self.tally.borrow_mut().answered(now, due, pod, bytes);
                    continue;
                }
                Ok(Err(failure)) => failure,
                Err(_) => Failure::Late,
            };
            self.tally.borrow_mut().failed(now, failure);
            if matches!(failure, Failure::Connect | Failure::Client) {
                tokio::time::sleep(REST).await;
            }
        }
    }

    /// Asks once: the Pod that answered, and the bytes of payload.
    async fn ask(&self, connection: &Connection, sequence: u64) -> Result<(u32, u64), Failure> {
        let mut sender = self.sender(connection).await?;
        let asked = self.call.request(sequence).map_err(|_| Failure::Client)?;
        let (request, body) = asked;
        let sent = sender.send_request(request, body.is_none());
        let (response, mut stream) = sent.map_err(|error| of_http2(&error))?;
        if let Some(body) = body {
            stream
                .send_data(body, true)
                .map_err(|error| of_http2(&error))?;
        }
        let response = response.await.map_err(|error| of_http2(&error))?;
        let (head, mut body) = response.into_parts();
        let head = Response::from_parts(head, ());
        let mut answer = self.call.head(sequence, &head).ok_or(Failure::Wrong)?;
        while let Some(bytes) = body.data().await {
            let bytes = bytes.map_err(|error| of_http2(&error))?;
            body.flow_control().release_capacity(bytes.len()).ok(); // an ended stream has none
            if !self.call.body(&mut answer, &bytes) {
                return Err(Failure::Wrong);
            }
        }
        let trailers = body.trailers().await.map_err(|error| of_http2(&error))?;
        self.call.end(answer, trailers).ok_or(Failure::Wrong)
    }

    /// What sends on this connection; it is made first if there is none.
    async fn sender(&self, connection: &Connection) -> Result<SendRequest<Bytes>, Failure> {
        let known = connection.sender.borrow().clone();
        if let Some(sender) = known
            && let Ok(ready) = sender.ready().await
        {
            return Ok(ready);
        }
        let _dialling = connection.dialling.lock().await;
        let known = connection.sender.borrow().clone();
        if let Some(sender) = known
            && let Ok(ready) = sender.ready().await
        {
            return Ok(ready); // another worker was faster
        }
        connection.sender.take();
        let ready = self.connect().await?;
        *connection.sender.borrow_mut() = Some(ready.clone());
        Ok(ready)
    }

    async fn connect(&self) -> Result<SendRequest<Bytes>, Failure> {
        let before = |error| classify(&error, true);
        let stream = TcpStream::connect(self.target).await.map_err(before)?;
        stream.set_nodelay(true).map_err(before)?;
        let Some(config) = &self.tls else {
            return speak(stream).await;
        };
        let connector = TlsConnector::from(Arc::clone(config));
        let stream = connector.connect(server_name(), stream).await;
        let stream = stream.map_err(before)?;
        let suite = stream.get_ref().1.negotiated_cipher_suite();
        if let Some(suite) = suite.and_then(|suite| suite.suite().as_str()) {
            self.tally.borrow_mut().agreed(suite);
        }
        speak(stream).await
    }
}

/// Begins HTTP/2 on a connection.
async fn speak(
    stream: impl AsyncRead + AsyncWrite + Unpin + 'static,
) -> Result<SendRequest<Bytes>, Failure> {
    let mut builder = client::Builder::new();
    builder
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .enable_push(false);
    let made = builder.handshake(stream).await;
    let (sender, driver) = made.map_err(|_| Failure::Connect)?;
    tokio::task::spawn_local(async move { driver.await.ok() });
    sender.ready().await.map_err(|_| Failure::Connect)
}

fn of_http2(error: &h2::Error) -> Failure {
    match error.get_io() {
        Some(error) if error.kind() == io::ErrorKind::UnexpectedEof => Failure::Ended,
        Some(error) if error.kind() == io::ErrorKind::BrokenPipe => Failure::Ended,
        Some(error) => classify(error, false),
        None if error.is_reset() || error.is_go_away() => Failure::Reset,
        None => Failure::Ended,
    }
}

/// Sleeps finer than the runtime's milliseconds: a timer of the kernel, which is read as a pipe is.
struct Timer(pipe::Receiver, OwnedFd);

impl Timer {
    fn new() -> io::Result<Self> {
        let flags = TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK;
        let timer = timerfd_create(TimerfdClockId::Monotonic, flags)?;
        let reader = pipe::Receiver::from_owned_fd_unchecked(timer.try_clone()?)?;
        Ok(Self(reader, timer))
    }

    async fn sleep(&self, nanoseconds: u64) -> io::Result<()> {
        let left = Duration::from_nanos(nanoseconds.max(1));
        let none = Timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        let value = Timespec {
            tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: i64::from(left.subsec_nanos()),
        };
        let spec = Itimerspec {
            it_interval: none,
            it_value: value,
        };
        timerfd_settime(&self.1, TimerfdTimerFlags::empty(), &spec)?;
        loop {
            self.0.readable().await?;
            match self.0.try_read(&mut [0; 8]) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => (),
                done => return done.map(drop),
            }
        }
    }
}
