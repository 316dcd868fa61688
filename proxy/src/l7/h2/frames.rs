//! What a client sends, frame by frame: how much of it carries requests, and how much does nothing but cost. The bytes are
//! read past, not understood: that is the protocol's part. Pure.

use crate::lb::backend::FLOODS;

/// What a connection of HTTP/2 begins with.
pub(crate) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Frames without use that a connection may have had before it did anything.
const SPARE: u64 = 1_000;
/// How many of them one frame of use makes up for. A receiver that answers each piece of data with two updates of its
/// window and a ping stays far below.
const PER_USE: u64 = 10;
/// Requests that may be taken back before it is looked at how many were not.
const SPARE_RESETS: u64 = 200;

/// What a client sends too much of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flood {
    /// Requests that it takes back.
    Resets,
    /// Pieces of one head.
    Continuations,
    /// Settings.
    Settings,
    /// Pings.
    Pings,
    /// Anything else that carries nothing.
    Idle,
}

impl Flood {
    /// All, in the order of metrics.
    pub(crate) const ALL: [Self; FLOODS] = [
        Self::Resets,
        Self::Continuations,
        Self::Settings,
        Self::Pings,
        Self::Idle,
    ];

    /// The value of the label `reason`.
    pub(crate) const fn reason(self) -> &'static str {
        match self {
            Self::Resets => "resets",
            Self::Continuations => "continuations",
            Self::Settings => "settings",
            Self::Pings => "pings",
            Self::Idle => "idle-frames",
        }
    }
}

/// Where in a client's frames a reader stands, and what it has met.
#[derive(Debug)]
pub(crate) struct Frames {
    /// Bytes of the preface that are to come.
    preface: usize,
    head: [u8; HEAD],
    /// Bytes of a frame's head that are there.
    has: usize,
    /// Bytes of a frame's payload that are to come.
    payload: usize,
    /// Continuations of the head that is under way; none is.
    continuations: Option<u64>,
    settings: u64,
    pings: u64,
    idle: u64,
    resets: u64,
    requests: u64,
    answers: u64,
    uses: u64,
    /// Frames that began something: all but continuations.
    begun: u64,
}

/// Bytes of a frame's head.
const HEAD: usize = 9;
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const CONTINUATION: u8 = 9;
const ACK: u8 = 1;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

impl Frames {
    /// Before the first byte of a client.
    pub(crate) const fn new() -> Self {
        Self {
            preface: PREFACE.len(),
            head: [0; HEAD],
            has: 0,
            payload: 0,
            continuations: None,
            settings: 0,
            pings: 0,
            idle: 0,
            resets: 0,
            requests: 0,
            answers: 0,
            uses: 0,
            begun: 0,
        }
    }

    /// Takes in what has come. What it is too much of, if it is.
    pub(crate) fn take(&mut self, bytes: &[u8]) -> Option<Flood> {
        let before = self.preface.min(bytes.len());
        self.preface -= before;
        let mut rest = &bytes[before..];
        while !rest.is_empty() {
            let skipped = self.payload.min(rest.len());
            self.payload -= skipped;
            rest = &rest[skipped..];
            let more = (HEAD - self.has).min(rest.len());
            self.head[self.has..self.has + more].copy_from_slice(&rest[..more]);
            self.has += more;
            rest = &rest[more..];
            if self.has == HEAD {
                self.has = 0;
                self.count();
            }
        }
        self.flood()
    }

    /// The client got so many pieces of data, which it may answer.
    pub(crate) fn earn(&mut self, pieces: u64) {
        self.uses += pieces;
    }

    /// The client got an answer, whose rest it may do without.
    pub(crate) fn answer(&mut self) {
        self.answers += 1;
        self.uses += 1;
    }

    /// The number of the frame or head that it has begun and not ended, if there is one.
    pub(crate) fn midway(&self) -> Option<u64> {
        let is_midway =
            self.preface > 0 || self.has > 0 || self.payload > 0 || self.continuations.is_some();
        is_midway.then_some(self.begun)
    }

    /// The likeliest reason why the protocol's own guard broke it off.
    pub(crate) fn suspect(&self) -> Flood {
        if self.continuations.is_some_and(|so_far| so_far > 1) {
            Flood::Continuations
        } else if self.resets * 2 > self.requests {
            Flood::Resets
        } else {
            self.most()
        }
    }

    fn count(&mut self) {
        let [a, b, c, kind, flags, ..] = self.head;
        self.payload = usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c);
        let is = |flag| flags & flag != 0;
        self.begun += u64::from(kind != CONTINUATION);
        match kind {
            HEADERS => {
                self.requests += 1;
                self.uses += 1;
                self.continuations = (!is(END_HEADERS)).then_some(0);
            }
            CONTINUATION if is(END_HEADERS) => self.continuations = None,
            CONTINUATION => *self.continuations.get_or_insert(0) += 1,
            DATA if self.payload > 0 || is(END_STREAM) => self.uses += 1,
            RST_STREAM => self.resets += 1,
            SETTINGS if !is(ACK) => self.settings += 1,
            PING if !is(ACK) => self.pings += 1,
            _ => self.idle += 1,
        }
    }

    fn flood(&self) -> Option<Flood> {
        let useless = self.settings + self.pings + self.idle;
        if useless > SPARE + PER_USE * self.uses {
            return Some(self.most());
        }
        let borne = SPARE_RESETS + self.answers + self.requests / 2;
        (self.resets > borne).then_some(Flood::Resets)
    }

    fn most(&self) -> Flood {
        let others = self.pings.max(self.idle);
        if self.settings > others {
            Flood::Settings
        } else if self.pings > self.idle {
            Flood::Pings
        } else {
            Flood::Idle
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, flags: u8, payload: usize) -> Vec<u8> {
        let length = u32::try_from(payload).unwrap().to_be_bytes();
        let mut bytes = length[1..].to_vec();
        bytes.extend([kind, flags, 0, 0, 0, 1]);
        bytes.resize(HEAD + payload, 0);
        bytes
    }

    fn begun() -> Frames {
        let mut frames = Frames::new();
        assert!(frames.midway().is_some());
        assert_eq!(frames.take(PREFACE), None);
        assert_eq!(frames.midway(), None);
        frames
    }

    #[test]
    fn what_carries_nothing_is_a_flood_at_some_time() {
        for (bytes, expected) in [
            (frame(PING, 0, 8), Flood::Pings),
            (frame(SETTINGS, 0, 6), Flood::Settings),
            (frame(2, 0, 5), Flood::Idle), // PRIORITY
            (frame(8, 0, 4), Flood::Idle), // WINDOW_UPDATE
            (frame(DATA, 0, 0), Flood::Idle),
            (frame(77, 0, 100), Flood::Idle), // unknown
        ] {
            let mut frames = begun();
            let found = (1..10_000).find_map(|n| Some((n, frames.take(&bytes)?)));
            assert_eq!(found, Some((SPARE + 1, expected)));
            assert_eq!(frames.suspect(), expected);
        }
    }

    #[test]
    fn who_gets_data_may_answer_it() {
        let mut frames = begun();
        for _ in 0..100_000 {
            frames.earn(1);
            assert_eq!(frames.take(&frame(8, 0, 4)), None);
            assert_eq!(frames.take(&frame(8, 0, 4)), None);
            assert_eq!(frames.take(&frame(PING, 0, 8)), None);
        }
    }

    #[test]
    fn answers_may_be_broken_off_and_requests_taken_back_but_not_all() {
        let mut all = begun();
        let found = (1..10_000).find(|_| {
            assert_eq!(all.take(&frame(HEADERS, END_HEADERS, 20)), None);
            all.take(&frame(RST_STREAM, 0, 4)) == Some(Flood::Resets)
        });
        assert_eq!(found, Some(2 * SPARE_RESETS + 1));
        let mut answered = begun();
        for _ in 0..10_000 {
            assert_eq!(answered.take(&frame(HEADERS, END_HEADERS, 20)), None);
            answered.answer();
            assert_eq!(answered.take(&frame(RST_STREAM, 0, 4)), None);
        }
        let mut some = begun();
        for _ in 0..10_000 {
            assert_eq!(some.take(&frame(HEADERS, END_HEADERS, 20)), None);
            assert_eq!(some.take(&frame(HEADERS, END_HEADERS, 20)), None);
            assert_eq!(some.take(&frame(RST_STREAM, 0, 4)), None);
        }
    }

    #[test]
    fn a_head_without_end_is_seen_however_it_comes() {
        let mut frames = begun();
        let mut bytes = frame(HEADERS, 0, 30);
        bytes.extend(frame(CONTINUATION, 0, 10));
        bytes.extend(frame(CONTINUATION, 0, 10));
        for byte in &bytes {
            assert_eq!(frames.take(std::slice::from_ref(byte)), None);
            assert!(frames.midway().is_some());
        }
        assert_eq!(frames.suspect(), Flood::Continuations);
        assert_eq!(frames.take(&frame(CONTINUATION, END_HEADERS, 1)), None);
        assert_eq!(frames.midway(), None);
    }
}
