//! What clients and Pods say to each other, on every kind of port: how a request asks, and how an answer names its Pod and
//! proves that it is the answer to this request. Bytes in, values out; it must not know of sockets.

use podline_lab::pattern;

/// Ports of every Pod.
pub mod port {
    /// TCP: HTTP/1.1 and HTTP/2 by prior knowledge, gRPC included.
    pub const HTTP: u16 = 8080;
    /// TCP and UDP: frames of [`super::Request`] and [`super::Answer`].
    pub const FRAMES: u16 = 8081;
}

/// Bytes of a request frame, and of an answer's head.
pub const HEAD: usize = 24;
/// As [`Request::wanted`] of a datagram: it is counted, not answered.
pub const NO_ANSWER: u32 = u32::MAX;
/// As [`Request::sent`] over TCP: nothing follows, and the Pod ends the connection behind its answer. The side that ends
/// first keeps the port for a minute, so a client that opens many connections leaves that to the Pod.
pub const THEN_CLOSE: u32 = u32::MAX;
/// The path of the gRPC method whose message is a [`Request`], and whose answer is an [`Answer`] with the wanted bytes.
pub const GRPC_PATH: &str = "/podline.bench.v1.Pod/Ask";
/// The header of an HTTP answer that names the Pod by its index.
pub const POD_HEADER: &str = "x-pod";
/// The header of an HTTP answer that tells again what stood behind the `?` of the request's path.
pub const SEQUENCE_HEADER: &str = "x-sequence";
const MAGIC: u32 = 0x706f_646c;

/// Asks a Pod for `wanted` bytes of [`pattern`] behind the head of the answer. Over TCP a bulk download is one request
/// for many bytes, and a bulk upload one that is followed by `sent` bytes of the pattern; over UDP a request is padded
/// to the size of the datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request {
    /// Told again in the answer.
    pub sequence: u64,
    /// Bytes that the answer is to have behind its head, at most 2^32 - 1.
    pub wanted: u32,
    /// Bytes that follow this head.
    pub sent: u32,
}

/// An answer's head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The request's.
    pub sequence: u64,
    /// Which Pod, by its index.
    pub pod: u32,
    /// Bytes that follow.
    pub bytes: u32,
    /// Whether the Pod ends the connection behind it, as one does that is about to end: the next request belongs on
    /// another connection.
    pub is_last: bool,
}

const LAST: u32 = 1;

impl Request {
    /// As it is sent.
    pub fn encode(self) -> [u8; HEAD] {
        encode(0, self.sequence, self.wanted, self.sent)
    }

    /// `None` if these bytes are no request.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let (_, sequence, wanted, sent) = decode(bytes)?;
        Some(Self {
            sequence,
            wanted,
            sent,
        })
    }
}

impl Answer {
    /// As it is sent.
    pub fn encode(self) -> [u8; HEAD] {
        let flags = if self.is_last { LAST } else { 0 };
        encode(flags, self.sequence, self.pod, self.bytes)
    }

    /// `None` if these bytes are no answer.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let (flags, sequence, pod, bytes) = decode(bytes)?;
        Some(Self {
            sequence,
            pod,
            bytes,
            is_last: flags & LAST != 0,
        })
    }
}

/// Whether `bytes` are the pattern from `offset` on.
pub fn is_pattern(bytes: &[u8], offset: u64) -> bool {
    /// Less than the pattern gives at once.
    const COMPARED: usize = 1 << 19;
    let mut at = offset;
    bytes.chunks(COMPARED).all(|piece| {
        let is_right = piece == pattern::at(at, piece.len());
        at += piece.len() as u64;
        is_right
    })
}

fn encode(flags: u32, sequence: u64, first: u32, second: u32) -> [u8; HEAD] {
    let mut head = [0; HEAD];
    head[..4].copy_from_slice(&MAGIC.to_be_bytes());
    head[4..8].copy_from_slice(&flags.to_be_bytes());
    head[8..16].copy_from_slice(&sequence.to_be_bytes());
    head[16..20].copy_from_slice(&first.to_be_bytes());
    head[20..].copy_from_slice(&second.to_be_bytes());
    head
}

fn decode(bytes: &[u8]) -> Option<(u32, u64, u32, u32)> {
    let head: &[u8; HEAD] = bytes.first_chunk()?;
    let word = |at: usize| u32::from_be_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
    if word(0) != MAGIC {
        return None;
    }
    let sequence = u64::from(word(8)) << 32 | u64::from(word(12));
    Some((word(4), sequence, word(16), word(20)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_encoded_is_decoded() {
        let request = Request {
            sequence: u64::MAX - 3,
            wanted: 7,
            sent: u32::MAX,
        };
        assert_eq!(Request::decode(&request.encode()), Some(request));
        let answer = Answer {
            sequence: 1 << 40,
            pod: 3,
            bytes: 40_000,
            is_last: true,
        };
        assert_eq!(Answer::decode(&answer.encode()), Some(answer));
    }

    #[test]
    fn what_is_not_ours_is_refused() {
        let whole = Answer {
            sequence: 1,
            pod: 2,
            bytes: 3,
            is_last: false,
        }
        .encode();
        assert_eq!(Answer::decode(&whole[..HEAD - 1]), None);
        assert_eq!(Answer::decode(&[0; HEAD]), None);
        assert_eq!(Answer::decode(b"HTTP/1.1 400 Bad Request\r\n"), None);
    }

    #[test]
    fn the_pattern_is_told_from_anything_else() {
        let mut bytes = pattern::at(1000, 100).to_vec();
        assert!(is_pattern(&bytes, 1000));
        assert!(!is_pattern(&bytes, 1001));
        bytes[99] ^= 1;
        assert!(!is_pattern(&bytes, 1000));
        let long: Vec<u8> = [pattern::at(0, 1_000_000), pattern::at(1_000_000, 1_000_000)].concat();
        assert!(is_pattern(&long, 0) && !is_pattern(&long[1..], 0));
    }
}
