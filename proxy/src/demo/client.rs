//! The demo's clients: some open a connection for each request, others keep theirs, to the TCP or to the HTTP listener.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::MissedTickBehavior;

use super::screen::Screen;
use super::tally::Tally;

/// New connections: so many clients, one request each in this time: 200 a second in all.
const CLIENTS: u32 = 4;
const EVERY: Duration = Duration::from_millis(20);
/// Kept-alive connections, and the time between their requests.
const KEEPERS: u32 = 3;
const HTTP_KEEPERS: u32 = 2;
const KEEPER_EVERY: Duration = Duration::from_millis(100);
/// A request without an answer after so long has failed.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Failures told one by one; further ones are only counted.
const TOLD: u64 = 5;

/// Where clients connect.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fronts {
    /// Connections have one Pod each.
    pub(super) tcp: SocketAddr,
    /// Requests do.
    pub(super) http: SocketAddr,
}

/// What all clients share.
#[derive(Clone)]
pub(super) struct Traffic {
    fronts: Fronts,
    tally: Arc<Mutex<Tally>>,
    screen: Screen,
}

impl Traffic {
    /// Starts the clients.
    pub(super) fn start(fronts: Fronts, screen: &Screen) -> Self {
        let traffic = Self {
            fronts,
            tally: Arc::default(),
            screen: screen.clone(),
        };
        for n in 0..CLIENTS {
            // Spread over the interval, so that requests come evenly.
            tokio::spawn(traffic.clone().new_connections(EVERY * n / CLIENTS));
        }
        for (keepers, is_http) in [(KEEPERS, false), (HTTP_KEEPERS, true)] {
            for n in 0..keepers {
                let delay = KEEPER_EVERY * n / keepers;
                tokio::spawn(traffic.clone().kept_connection(is_http, delay));
            }
        }
        traffic
    }

    /// Looks at, or changes, what was seen so far.
    pub(super) fn tally<T>(&self, use_it: impl FnOnce(&mut Tally) -> T) -> T {
        use_it(&mut self.tally.lock().unwrap_or_else(PoisonError::into_inner))
    }

    async fn new_connections(self, delay: Duration) {
        let mut clock = clock(EVERY, delay);
        loop {
            clock.tick().await;
            let begun = Instant::now();
            match timely(self.ask_once()).await {
                Ok(pod) => self.tally(|tally| tally.answered(&pod, begun, Instant::now())),
                Err(error) => self.failed(&error),
            }
        }
    }

    async fn ask_once(&self) -> io::Result<String> {
        let mut stream = TcpStream::connect(self.fronts.tcp).await?;
        exchange(&mut stream, true).await.map(|answer| answer.pod)
    }

    /// Asks on one connection as long as it lasts. As HTTP clients do, it asks again on a new connection if the old
    /// one turns out to have ended between two requests.
    async fn kept_connection(self, is_http: bool, delay: Duration) {
        let target = if is_http {
            self.fronts.http
        } else {
            self.fronts.tcp
        };
        let mut clock = clock(KEEPER_EVERY, delay);
        let mut kept: Option<TcpStream> = None;
        loop {
            clock.tick().await;
            let reused = match &mut kept {
                Some(stream) => timely(exchange(stream, false)).await.ok(),
                None => None,
            };
            let answer = if let Some(answer) = reused {
                Ok(answer)
            } else {
                if kept.take().is_some() {
                    self.tally(|tally| tally.kept_of(is_http).reconnected += 1);
                }
                timely(async {
                    let stream = kept.insert(TcpStream::connect(target).await?);
                    exchange(stream, false).await
                })
                .await
            };
            match answer {
                Ok(answer) => {
                    self.tally(|tally| tally.answered_again(&answer.pod, is_http));
                    if answer.close {
                        kept = None;
                    }
                }
                Err(error) => {
                    kept = None;
                    self.failed(&error);
                }
            }
        }
    }

    fn failed(&self, error: &io::Error) {
        let failed = self.tally(|tally| {
            tally.failed();
            tally.total.failed
        });
        if failed <= TOLD {
            self.screen
                .event("failed", &format!("a request got no answer: {error}"));
        }
    }
}

fn clock(every: Duration, delay: Duration) -> tokio::time::Interval {
    let mut clock = tokio::time::interval_at(tokio::time::Instant::now() + delay, every);
    clock.set_missed_tick_behavior(MissedTickBehavior::Delay);
    clock
}

async fn timely<T>(work: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    match tokio::time::timeout(TIMEOUT, work).await {
        Ok(result) => result,
        Err(_) => Err(io::ErrorKind::TimedOut.into()),
    }
}

/// Who answered, and whether the connection ends with it.
#[derive(Debug, PartialEq, Eq)]
struct Answer {
    pod: String,
    close: bool,
}

async fn exchange(stream: &mut TcpStream, close: bool) -> io::Result<Answer> {
    let connection = if close { "close" } else { "keep-alive" };
    let request = format!("GET / HTTP/1.1\r\nhost: demo\r\nconnection: {connection}\r\n\r\n");
    stream.set_nodelay(true)?;
    stream.write_all(request.as_bytes()).await?;
    let mut bytes = Vec::with_capacity(256);
    loop {
        if let Some(answer) = parse(&bytes) {
            return Ok(answer);
        }
        if stream.read_buf(&mut bytes).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
}

/// Reads a toy Pod's answer, once it is whole.
fn parse(bytes: &[u8]) -> Option<Answer> {
    let (head, body) = std::str::from_utf8(bytes).ok()?.split_once("\r\n\r\n")?;
    let pod = body.strip_prefix("hello from ")?.strip_suffix('\n')?;
    head.starts_with("HTTP/1.1 200 ").then(|| Answer {
        pod: pod.to_owned(),
        close: head.contains("connection: close"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_read_once_it_is_whole() {
        let whole = "HTTP/1.1 200 OK\r\nconnection: close\r\n\r\nhello from pod-a\n";
        for end in 0..whole.len() {
            assert_eq!(parse(&whole.as_bytes()[..end]), None);
        }
        let expected = Answer {
            pod: "pod-a".to_owned(),
            close: true,
        };
        assert_eq!(parse(whole.as_bytes()), Some(expected));
        assert_eq!(parse(whole.replace("200", "500").as_bytes()), None);
    }
}
