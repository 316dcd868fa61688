//! One call of `grpc.health.v1` over HTTP/2 without TLS. The connection ends with the call.

use bytes::{BufMut, Bytes, BytesMut};
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderMap, Method, Request, StatusCode, Uri, Version, header};
use podline_api::GrpcCheck;
use prost::Message;
use std::net::SocketAddr;
use std::pin::pin;
use std::time::Duration;
use tokio::net::TcpStream;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse};

use super::USER_AGENT;
use super::finding::{Finding, Step};
use super::http::authority;

/// The flag and length before a message.
const PREFIX: usize = 5;
/// Longest answer: a health service's has two bytes, but `path` may name another method.
const LONGEST_ANSWER: usize = 16 * 1_024;
const LONGEST_HEAD: u32 = 16 * 1_024;

/// Asks over `stream`. A finding that passes, or one that fails.
pub(super) async fn ask(
    stream: TcpStream,
    address: SocketAddr,
    check: &GrpcCheck,
    timeout: Duration,
) -> Result<Finding, Finding> {
    let request = request(address, check, timeout).ok_or(Finding::BadPath)?;
    let mut settings = h2::client::Builder::new();
    settings
        .enable_push(false)
        .max_header_list_size(LONGEST_HEAD);
    let (sender, connection) = settings.handshake(stream).await.map_err(|e| fault(&e))?;
    let mut call = pin!(call(sender, request, message(check)));
    let answer = tokio::select! {
        answer = &mut call => answer,
        // What it brought before it ended may be the answer.
        _ = connection => call.await,
    };
    let (status, message) = answer?;
    verdict(check, status, &message)
}

fn request(address: SocketAddr, check: &GrpcCheck, timeout: Duration) -> Option<Request<()>> {
    let uri = Uri::builder()
        .scheme(Scheme::HTTP)
        .authority(Authority::try_from(authority(address)).ok()?)
        .path_and_query(PathAndQuery::try_from(check.path.as_str()).ok()?);
    Request::builder()
        .method(Method::POST)
        .version(Version::HTTP_2)
        .uri(uri.build().ok()?)
        .header(header::TE, "trailers")
        .header(header::CONTENT_TYPE, "application/grpc")
        .header("grpc-timeout", format!("{}m", timeout.as_millis()))
        .header(header::USER_AGENT, USER_AGENT)
        .body(())
        .ok()
}

fn message(check: &GrpcCheck) -> Bytes {
    let service = check.service.clone();
    let message = HealthCheckRequest { service }.encode_to_vec();
    let mut framed = BytesMut::with_capacity(PREFIX + message.len());
    framed.put_u8(0); // not compressed
    framed.put_u32(u32::try_from(message.len()).unwrap_or(u32::MAX)); // a service's name is short
    framed.put_slice(&message);
    framed.freeze()
}

/// The gRPC status and the framed answer.
async fn call(
    sender: h2::client::SendRequest<Bytes>,
    request: Request<()>,
    message: Bytes,
) -> Result<(u16, Vec<u8>), Finding> {
    let fault = |error| fault(&error);
    let mut sender = sender.ready().await.map_err(fault)?;
    let (response, mut sending) = sender.send_request(request, false).map_err(fault)?;
    sending.send_data(message, true).map_err(fault)?;
    let (head, mut body) = response.await.map_err(fault)?.into_parts();
    // An answer without a message has its trailers in the head.
    if let Some(status) = status(&head.headers)? {
        return Ok((status, Vec::new()));
    }
    is_grpc(&head)?;
    let mut answer = Vec::new();
    while let Some(data) = body.data().await {
        let data = data.map_err(fault)?;
        // Below the window that the server starts with, so none has to be given back.
        if answer.len() + data.len() > LONGEST_ANSWER {
            return Err(Finding::NotGrpc);
        }
        answer.extend_from_slice(&data);
    }
    let trailers = body.trailers().await.map_err(fault)?.unwrap_or_default();
    let status = status(&trailers)?.ok_or(Finding::NotGrpc)?;
    Ok((status, answer))
}

fn is_grpc(head: &http::response::Parts) -> Result<(), Finding> {
    if head.status != StatusCode::OK {
        return Err(Finding::Http(head.status.as_u16()));
    }
    let kind = head.headers.get(header::CONTENT_TYPE);
    let is_grpc = kind.is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc"));
    is_grpc.then_some(()).ok_or(Finding::NotGrpc)
}

fn status(headers: &HeaderMap) -> Result<Option<u16>, Finding> {
    let Some(status) = headers.get("grpc-status") else {
        return Ok(None);
    };
    let number = status.to_str().ok().and_then(|text| text.parse().ok());
    number.map(Some).ok_or(Finding::NotGrpc)
}

fn verdict(check: &GrpcCheck, status: u16, answer: &[u8]) -> Result<Finding, Finding> {
    let found = Finding::Grpc(status);
    match &check.statuses {
        Some(statuses) if statuses.contains(status) => Ok(found),
        None if status == 0 => match serving(answer).ok_or(Finding::NotGrpc)? {
            ServingStatus::Serving => Ok(Finding::Serving(ServingStatus::Serving)),
            other => Err(Finding::Serving(other)),
        },
        _ => Err(found),
    }
}

/// What exactly one message, not compressed, says.
fn serving(answer: &[u8]) -> Option<ServingStatus> {
    let (prefix, message) = answer.split_first_chunk::<PREFIX>()?;
    let [0, length @ ..] = prefix else {
        return None;
    };
    if u32::from_be_bytes(*length) as usize != message.len() {
        return None;
    }
    let answer = HealthCheckResponse::decode(message).ok()?;
    ServingStatus::try_from(answer.status).ok()
}

fn fault(error: &h2::Error) -> Finding {
    if let Some(error) = error.get_io() {
        return Finding::of_io(Step::Answer, error);
    }
    match error.reason() {
        Some(reason) if error.is_remote() => Finding::Refused(reason),
        _ => Finding::NotHttp2,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use podline_api::{CheckKind, HealthCheck, v1};

    fn check(statuses: &[&str]) -> GrpcCheck {
        let grpc = v1::GrpcCheck {
            statuses: statuses.iter().map(ToString::to_string).collect(),
            ..v1::GrpcCheck::default()
        };
        let wire = v1::HealthCheck {
            r#type: Some(v1::health_check::Type::Grpc.into()),
            grpc: Some(grpc),
            ..v1::HealthCheck::default()
        };
        match HealthCheck::try_from(wire).unwrap().kind {
            CheckKind::Grpc(check) => check,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_check_without_statuses_wants_ok_and_serving() {
        use ServingStatus::{NotServing, Serving};
        let verdict = |status, answer: &[u8]| verdict(&check(&[]), status, answer);
        assert_eq!(
            verdict(0, b"\0\0\0\0\x02\x08\x01"),
            Ok(Finding::Serving(Serving))
        );
        assert_eq!(
            verdict(0, b"\0\0\0\0\x02\x08\x02"),
            Err(Finding::Serving(NotServing))
        );
        let unknown = Finding::Serving(ServingStatus::Unknown);
        assert_eq!(verdict(0, b"\0\0\0\0\0"), Err(unknown));
        assert_eq!(verdict(14, b"\0\0\0\0\x02\x08\x01"), Err(Finding::Grpc(14)));
    }

    #[test]
    fn listed_statuses_pass_whatever_the_answer_says() {
        let check = check(&["0", "12-20"]);
        for (status, passes) in [(0, true), (12, true), (20, true), (1, false), (21, false)] {
            let found = Finding::Grpc(status);
            let wanted = if passes { Ok(found) } else { Err(found) };
            assert_eq!(verdict(&check, status, b"nonsense"), wanted);
        }
    }

    #[test]
    fn a_broken_answer_is_not_grpc() {
        for answer in [
            &b""[..],
            b"\0\0\0\0",
            b"\x01\0\0\0\x02\x08\x01", // compressed, though nobody asked
            b"\0\0\0\0\x03\x08\x01",   // cut off
            b"\0\0\0\0\x01\x08\x01",   // more than one
            b"\0\xff\xff\xff\xff\x08\x01", // absurd
            b"\0\0\0\0\x02\xff\xff",   // no protobuf
            b"\0\0\0\0\x02\x08\x63",   // no serving status
        ] {
            assert_eq!(
                verdict(&check(&[]), 0, answer),
                Err(Finding::NotGrpc),
                "{answer:?}"
            );
        }
    }

    #[test]
    fn a_status_is_a_number() {
        let status = |text: &'static str| {
            let headers = [("grpc-status".parse().unwrap(), text.parse().unwrap())];
            status(&headers.into_iter().collect())
        };
        assert_eq!(status("14"), Ok(Some(14)));
        for text in ["", "OK", "-1", "99999"] {
            assert_eq!(status(text), Err(Finding::NotGrpc), "{text}");
        }
        assert_eq!(super::status(&HeaderMap::new()), Ok(None));
    }

    #[test]
    fn a_request_names_method_and_service() {
        let mut check = check(&[]);
        check.service = "web".to_owned();
        assert_eq!(message(&check), &b"\0\0\0\0\x05\x0a\x03web"[..]);
        let address = "[fd00::1]:50051".parse().unwrap();
        let timeout = Duration::from_secs(2);
        let sent = request(address, &check, timeout).unwrap();
        let uri = "http://[fd00::1]:50051/grpc.health.v1.Health/Check";
        assert_eq!(sent.uri().to_string(), uri);
        assert_eq!(sent.headers()["grpc-timeout"], "2000m");
        check.path = "/a<b".to_owned();
        assert!(request(address, &check, timeout).is_none());
    }
}
