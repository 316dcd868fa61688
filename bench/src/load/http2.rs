//! HTTP/2, by prior knowledge or, over TLS, by ALPN: `GET` requests, several at a time on each connection.

use std::io;

use bytes::Bytes;
use http::{HeaderMap, Request, Response};

use super::http_text::{is_name_of, number, path};
use super::multiplex::{Call, load, origin};
use super::run::Part;
use super::stop::Stop;
use super::{Outcome, Plan};
use crate::wire::{POD_HEADER, SEQUENCE_HEADER, is_pattern};

struct Get {
    wanted: u64,
    /// Without a number.
    uri: String,
}

pub(crate) fn run(
    plan: &Plan,
    part: Part,
    (connections, streams, bytes): (u32, u32, u32),
    stop: &Stop,
) -> io::Result<Outcome> {
    let call = Get {
        wanted: u64::from(bytes),
        uri: format!("{}{}", origin(plan), path(bytes)),
    };
    load(plan, part, (connections, streams), call, stop)
}

/// The number in a header.
fn told(headers: &HeaderMap, name: &str) -> Option<u64> {
    number(headers.get(name)?.as_bytes())
}

impl Call for Get {
    /// The Pod, if a name is awaited, and the name as it comes.
    type Answer = (u32, u64, Vec<u8>);

    fn request(&self, sequence: u64) -> Result<(Request<()>, Option<Bytes>), http::Error> {
        let uri = format!("{}?{sequence}", self.uri);
        Ok((Request::get(uri).body(())?, None))
    }

    fn head(&self, sequence: u64, response: &Response<()>) -> Option<Self::Answer> {
        let headers = response.headers();
        let is_ours = response.status() == 200 && told(headers, SEQUENCE_HEADER) == Some(sequence);
        let pod = u32::try_from(told(headers, POD_HEADER)?).ok()?;
        is_ours.then_some((pod, 0, Vec::new()))
    }

    fn body(&self, (_, offset, name): &mut Self::Answer, bytes: &[u8]) -> bool {
        let is_right = if self.wanted == 0 {
            name.extend_from_slice(bytes);
            name.len() < 64
        } else {
            is_pattern(bytes, *offset)
        };
        *offset += bytes.len() as u64;
        is_right
    }

    fn end(&self, (pod, offset, name): Self::Answer, _: Option<HeaderMap>) -> Option<(u32, u64)> {
        let is_whole = if self.wanted == 0 {
            is_name_of(pod, &name)
        } else {
            offset == self.wanted
        };
        is_whole.then_some((pod, offset))
    }
}
