//! HTTP/2: `GET` requests, and gRPC calls, which are `POST`s.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use h2::server::{self, SendResponse};
use h2::{Reason, RecvStream};
use http::{HeaderMap, HeaderValue, Request, Response};
use podline_lab::pattern;

use super::http::Prefixed;
use super::http1::format_name;
use super::state::State;
use super::target::{self, Target};
use crate::load::grpc_text::{message, of_message};
use crate::wire::{self, Answer, GRPC_PATH, HEAD, POD_HEADER, SEQUENCE_HEADER};

/// Bytes of the pattern that are handed over at once.
const PIECE: u32 = 1 << 19;
/// Windows that no request of a benchmark fills.
const WINDOW: u32 = 1 << 20;
const STREAMS: u32 = 10_000;
/// The longest message of a call.
const MAX_MESSAGE: usize = 1 << 20;

/// Serves a connection until it ends.
pub(crate) async fn serve(stream: Prefixed, state: Arc<State>) -> io::Result<()> {
    let mut builder = server::Builder::new();
    builder
        .initial_window_size(WINDOW)
        .initial_connection_window_size(WINDOW)
        .max_concurrent_streams(STREAMS);
    let mut connection = builder.handshake(stream).await.map_err(to_io)?;
    let (mut is_first, mut is_ending) = (true, false);
    loop {
        let closing = state.changed.notified();
        if state.is_closing() && !std::mem::replace(&mut is_ending, true) {
            connection.graceful_shutdown();
        }
        let accepted = tokio::select! {
            accepted = connection.accept() => accepted,
            () = closing, if !is_ending => continue,
        };
        let Some(accepted) = accepted else {
            return Ok(());
        };
        let (request, respond) = accepted.map_err(to_io)?;
        if std::mem::take(&mut is_first)
            && let Some(forwarded) = request.headers().get("x-forwarded-for")
        {
            state.was_forwarded(forwarded.as_bytes());
        }
        state.requested();
        if request.uri().path() == GRPC_PATH {
            let state = Arc::clone(&state);
            tokio::task::spawn_local(async move {
                call(request, respond, &state).await.ok(); // the client has ended it
            });
        } else {
            get(&request, respond, state.pod).ok(); // the same
        }
    }
}

fn to_io(error: h2::Error) -> io::Error {
    io::Error::other(error)
}

fn get(
    request: &Request<RecvStream>,
    mut respond: SendResponse<Bytes>,
    pod: u32,
) -> Result<(), h2::Error> {
    let path = request
        .uri()
        .path_and_query()
        .map_or("", |path| path.as_str());
    let (target, query) = target::parse(path.as_bytes());
    let mut response = Response::new(());
    let headers = response.headers_mut();
    headers.insert(POD_HEADER, HeaderValue::from(pod));
    if let Some(query) = query.and_then(|query| HeaderValue::from_bytes(query).ok()) {
        headers.insert(SEQUENCE_HEADER, query);
    }
    let name = Bytes::from(format_name(pod));
    let length = match target {
        Target::Name => name.len() as u64,
        Target::Bytes(count) => u64::from(count),
        Target::Nothing => 0,
    };
    headers.insert("content-length", HeaderValue::from(length));
    if target == Target::Nothing {
        *response.status_mut() = http::StatusCode::NOT_FOUND;
    }
    let mut body = respond.send_response(response, length == 0)?;
    match target {
        Target::Name => body.send_data(name, true),
        Target::Nothing => Ok(()),
        Target::Bytes(count) => {
            let mut offset = 0;
            while offset < count {
                let len = (count - offset).min(PIECE);
                let piece = pattern::at(u64::from(offset), usize::try_from(len).unwrap_or(0));
                offset += len;
                body.send_data(Bytes::from_static(piece), offset == count)?;
            }
            Ok(())
        }
    }
}

/// A gRPC call: its message asks as a frame does.
async fn call(
    request: Request<RecvStream>,
    mut respond: SendResponse<Bytes>,
    state: &State,
) -> Result<(), h2::Error> {
    let mut body = request.into_body();
    let mut asked_bytes = Vec::with_capacity(64);
    while let Some(bytes) = body.data().await {
        let bytes = bytes?;
        state.received(bytes.len());
        body.flow_control().release_capacity(bytes.len()).ok(); // an ended stream has none
        asked_bytes.extend_from_slice(&bytes);
        if asked_bytes.len() > MAX_MESSAGE {
            respond.send_reset(Reason::ENHANCE_YOUR_CALM);
            return Ok(());
        }
    }
    let asked = of_message(&asked_bytes).and_then(wire::Request::decode);
    let mut response = Response::new(());
    let grpc = HeaderValue::from_static("application/grpc");
    response.headers_mut().insert("content-type", grpc);
    let mut answer = respond.send_response(response, false)?;
    let mut trailers = HeaderMap::new();
    match asked {
        Some(asked)
            if usize::try_from(asked.wanted).is_ok_and(|wanted| wanted < MAX_MESSAGE - HEAD) =>
        {
            let head = Answer {
                sequence: asked.sequence,
                pod: state.pod,
                bytes: asked.wanted,
                is_last: false,
            };
            let wanted = usize::try_from(asked.wanted).unwrap_or(0);
            let whole = message(&[&head.encode(), pattern::at(0, wanted)]);
            answer.send_data(whole, false)?;
            trailers.insert("grpc-status", HeaderValue::from_static("0"));
        }
        _ => {
            trailers.insert("grpc-status", HeaderValue::from_static("3")); // invalid argument
        }
    }
    answer.send_trailers(trailers)
}
