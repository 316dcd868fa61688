//! Long connections: a chunk with the Pod's name again and again, until the Pod ends and says so. Then the next one.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use super::{Kind, Shared};

/// A stream that says nothing for so long has failed; so has a connection that takes longer.
const LIMIT: Duration = Duration::from_secs(10);
/// After a failure.
const PAUSE: Duration = Duration::from_millis(100);

const REQUEST: &[u8] = b"GET /stream?ms=250 HTTP/1.1\r\nHost: podline\r\nConnection: close\r\n\r\n";

/// Keeps so many streams open, through all addresses in turn, until the load is over.
pub(super) async fn run(shared: Arc<Shared>, addresses: &[SocketAddr], count: u32) {
    let mut clients = JoinSet::new();
    for (_, address) in (0..count).zip(addresses.iter().cycle().copied()) {
        let shared = Arc::clone(&shared);
        clients.spawn(async move {
            while !shared.is_over() {
                let begun = Instant::now();
                let mut pod = None;
                let end = follow(&shared, address, &mut pod).await;
                if pod.is_some() {
                    shared.tally().open_streams -= 1;
                }
                match end {
                    Ok(true) => shared.tally().streams.succeed(begun.elapsed()),
                    Ok(false) => return,
                    Err(what) => {
                        shared.fail(Kind::Stream, address, pod, what);
                        sleep(PAUSE).await;
                    }
                }
            }
        });
    }
    clients.join_all().await;
}

/// Reads one stream; whether it came to its clean end, else the load is over. `pod` is who sends it.
async fn follow(
    shared: &Shared,
    address: SocketAddr,
    pod: &mut Option<String>,
) -> Result<bool, String> {
    let connected = timeout(LIMIT, TcpStream::connect(address)).await;
    let connected = connected.map_err(|_| format!("no connection in {LIMIT:?}"))?;
    let mut stream = connected.map_err(|error| format!("connect: {error}"))?;
    let port = stream
        .local_addr()
        .map(|own| own.port())
        .unwrap_or_default();
    let sent = stream.write_all(REQUEST).await;
    sent.map_err(|error| format!("write (from port {port}): {error}"))?;
    let mut stream = BufReader::new(stream);
    let told = |what: String| format!("{what} (from port {port})");
    let status = line(&mut stream).await.map_err(told)?;
    if status != "HTTP/1.1 200 OK" {
        return Err(told(format!("a wrong answer: {status:?}")));
    }
    while !line(&mut stream).await.map_err(told)?.is_empty() {}
    loop {
        if shared.is_over() {
            return Ok(false);
        }
        let length = line(&mut stream).await.map_err(told)?;
        let length = usize::from_str_radix(&length, 16);
        let length = length.map_err(|_| told("no length of a chunk".to_owned()))?;
        if length == 0 {
            break;
        }
        let text = line(&mut stream).await.map_err(told)?;
        let end = line(&mut stream).await.map_err(told)?;
        let name = shared.pod(&text);
        let is_same = name.is_some() && (pod.is_none() || *pod == name);
        if !is_same || text.len() != length - 1 || !end.is_empty() {
            return Err(told(format!("a wrong chunk: {text:?} after {pod:?}")));
        }
        if pod.is_none() {
            shared.tally().open_streams += 1;
        }
        *pod = name;
    }
    let mut rest = Vec::new();
    let end = timeout(LIMIT, stream.read_to_end(&mut rest)).await;
    let end = end.map_err(|_| told(format!("open {LIMIT:?} after the last chunk")))?;
    end.map_err(|error| told(format!("after the last chunk: {error}")))?;
    if rest == b"\r\n" {
        Ok(true)
    } else {
        Err(told(format!("more after the last chunk: {rest:?}")))
    }
}

/// A line without its end.
async fn line(stream: &mut BufReader<TcpStream>) -> Result<String, String> {
    let mut line = String::new();
    let read = timeout(LIMIT, stream.read_line(&mut line)).await;
    let read = read.map_err(|_| format!("silent for {LIMIT:?}"))?;
    read.map_err(|error| error.to_string())?;
    let Some(text) = line.strip_suffix('\n') else {
        return Err("it ends before its last chunk".to_owned());
    };
    Ok(text.strip_suffix('\r').unwrap_or(text).to_owned())
}
