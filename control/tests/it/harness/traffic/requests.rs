//! Requests with a connection each, at a steady rate.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout};

use super::{Kind, Shared};

/// A request that takes longer has failed.
const LIMIT: Duration = Duration::from_secs(10);
/// Requests on their way at once; more wait, and their latency counts on.
const MOST: usize = 3_000;

const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: podline\r\nConnection: close\r\n\r\n";

/// Sends `rate` requests a second to one address until the load is over.
pub(super) async fn run(shared: Arc<Shared>, address: SocketAddr, rate: u32) {
    let mut asked = JoinSet::new();
    let begun = Instant::now();
    let mut number = 0;
    while rate > 0 && !shared.is_over() {
        let due = begun + Duration::from_secs(1) * number / rate;
        number += 1;
        sleep_until(due).await;
        while asked.len() >= MOST {
            asked.join_next().await;
        }
        while asked.try_join_next().is_some() {}
        let shared = Arc::clone(&shared);
        asked.spawn(async move {
            let at = shared.begun.elapsed();
            let answer = timeout(LIMIT, ask(address)).await;
            let answer = answer.unwrap_or_else(|_| Err(format!("no answer in {LIMIT:?}")));
            let pod = answer.and_then(|answer| read(&answer, &shared));
            match pod {
                Ok(pod) => {
                    let mut tally = shared.tally();
                    tally.requests.succeed(due.elapsed());
                    *tally.answered_by.entry(pod).or_default() += 1;
                }
                Err(what) => shared.fail_at(at, Kind::Request, address, None, what),
            }
        });
    }
    asked.join_all().await;
}

/// One connection: everything that came, up to a clean end.
async fn ask(address: SocketAddr) -> Result<Vec<u8>, String> {
    let mut stream = TcpStream::connect(address)
        .await
        .map_err(|error| format!("connect: {error}"))?;
    let from = stream
        .local_addr()
        .map(|own| own.port())
        .unwrap_or_default();
    let told = |what: &str, error: &std::io::Error| format!("{what} (from port {from}): {error}");
    stream
        .write_all(REQUEST)
        .await
        .map_err(|error| told("write", &error))?;
    let mut answer = Vec::with_capacity(512);
    stream
        .read_to_end(&mut answer)
        .await
        .map_err(|error| told(&format!("read after {} bytes", answer.len()), &error))?;
    Ok(answer)
}

/// The Pod that an answer is from; the whole answer has to be right.
fn read(answer: &[u8], shared: &Shared) -> Result<String, String> {
    let text = String::from_utf8_lossy(answer);
    let wrong = || format!("a wrong answer: {text:?}");
    let (head, body) = text.split_once("\r\n\r\n").ok_or_else(wrong)?;
    let mut lines = head.split("\r\n");
    if lines.next() != Some("HTTP/1.1 200 OK") {
        return Err(wrong());
    }
    let length = lines.find_map(|line| line.strip_prefix("Content-Length: "));
    if length.and_then(|length| length.parse().ok()) != Some(body.len()) {
        return Err(wrong());
    }
    let name = body.strip_suffix('\n').ok_or_else(wrong)?;
    shared.pod(name).ok_or_else(wrong)
}
