//! gRPC, unary: a message that is a request of [`crate::wire`], answered by one that is its answer, and a status that is 0.

use std::io;

use bytes::Bytes;
use http::{HeaderMap, Request, Response};

use super::grpc_text::{PREFIX, message, of_message};
use super::multiplex::{Call, load, origin};
use super::run::Part;
use super::stop::Stop;
use super::{Outcome, Plan};
use crate::wire::{self, GRPC_PATH, HEAD};

struct Ask {
    uri: String,
}

pub(crate) fn run(
    plan: &Plan,
    part: Part,
    (connections, streams): (u32, u32),
    stop: &Stop,
) -> io::Result<Outcome> {
    let call = Ask {
        uri: format!("{}{GRPC_PATH}", origin(plan)),
    };
    load(plan, part, (connections, streams), call, stop)
}

impl Call for Ask {
    type Answer = (u64, Vec<u8>);

    fn request(&self, sequence: u64) -> Result<(Request<()>, Option<Bytes>), http::Error> {
        let request = Request::post(&self.uri)
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .body(())?;
        let ask = wire::Request {
            sequence,
            wanted: 0,
            sent: 0,
        };
        Ok((request, Some(message(&[&ask.encode()]))))
    }

    fn head(&self, sequence: u64, response: &Response<()>) -> Option<Self::Answer> {
        (response.status() == 200).then_some((sequence, Vec::new()))
    }

    fn body(&self, (_, held): &mut Self::Answer, bytes: &[u8]) -> bool {
        held.extend_from_slice(bytes);
        held.len() <= PREFIX + HEAD
    }

    fn end(
        &self,
        (sequence, held): Self::Answer,
        trailers: Option<HeaderMap>,
    ) -> Option<(u32, u64)> {
        let answer = wire::Answer::decode(of_message(&held)?)?;
        let status = trailers.as_ref()?.get("grpc-status")?;
        let is_right = status == "0" && answer.sequence == sequence && answer.bytes == 0;
        is_right.then_some((answer.pod, HEAD as u64))
    }
}
