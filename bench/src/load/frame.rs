//! Frames of [`crate::wire`] as a client asks and reads them, over TCP and in datagrams.

use podline_lab::pattern;

use super::dialect::{Dialect, Read};
use crate::wire::{Answer, HEAD, Request, is_pattern};

/// Frames that ask for an answer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Frames {
    /// Bytes that an answer is to have behind its head.
    pub(crate) wanted: u32,
    /// What the request says of what follows it.
    pub(crate) sent: u32,
    /// Bytes of the pattern that follow it, less than a mebibyte.
    pub(crate) padding: u32,
    /// Whether the answer to an earlier request may still come, as with datagrams: it is passed over.
    pub(crate) may_be_old: bool,
}

/// An answer that comes in pieces.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct FrameAnswer {
    sequence: u64,
    head: [u8; HEAD],
    /// Bytes of the head that are there.
    got: usize,
    pod: u32,
    is_last: bool,
    /// Bytes behind the head that came.
    offset: u64,
}

impl Dialect for Frames {
    type Answer = FrameAnswer;

    fn ask(&self, sequence: u64, out: &mut Vec<u8>) {
        let request = Request {
            sequence,
            wanted: self.wanted,
            sent: self.sent,
        };
        out.extend_from_slice(&request.encode());
        let padding = usize::try_from(self.padding).unwrap_or(0);
        out.extend_from_slice(pattern::at(0, padding));
    }

    fn expect(&self, answer: &mut FrameAnswer, sequence: u64) {
        *answer = FrameAnswer {
            sequence,
            ..FrameAnswer::default()
        };
    }

    fn read(&self, answer: &mut FrameAnswer, bytes: &[u8]) -> Read {
        let mut rest = bytes;
        if answer.got < HEAD {
            let (head, behind) = rest.split_at(rest.len().min(HEAD - answer.got));
            answer.head[answer.got..answer.got + head.len()].copy_from_slice(head);
            answer.got += head.len();
            rest = behind;
            if answer.got < HEAD {
                return Read::More;
            }
            match Answer::decode(&answer.head) {
                Some(told) if told.sequence == answer.sequence && told.bytes == self.wanted => {
                    answer.pod = told.pod;
                    answer.is_last = told.is_last;
                }
                Some(told) if self.may_be_old && told.sequence < answer.sequence => {
                    answer.got = 0;
                    return Read::More;
                }
                _ => return Read::Wrong,
            }
        }
        let left = u64::from(self.wanted) - answer.offset;
        let ours = rest.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        if !is_pattern(&rest[..ours], answer.offset) {
            return Read::Wrong;
        }
        answer.offset += ours as u64;
        if answer.offset < u64::from(self.wanted) {
            return Read::More;
        }
        Read::Done {
            pod: answer.pod,
            bytes: answer.offset,
            used: bytes.len() - rest.len() + ours,
            is_last: answer.is_last,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FRAMES: Frames = Frames {
        wanted: 10,
        sent: 0,
        padding: 0,
        may_be_old: false,
    };

    fn answer(sequence: u64, bytes: u32) -> Vec<u8> {
        let head = Answer {
            sequence,
            pod: 7,
            bytes,
            is_last: sequence == 5,
        };
        [&head.encode()[..], pattern::at(0, bytes as usize)].concat()
    }

    fn read(frames: Frames, pieces: &[&[u8]]) -> Read {
        let mut state = FrameAnswer::default();
        frames.expect(&mut state, 5);
        let mut last = Read::More;
        for piece in pieces {
            assert_eq!(last, Read::More);
            last = frames.read(&mut state, piece);
        }
        last
    }

    #[test]
    fn an_answer_is_read_however_it_is_cut() {
        let whole = answer(5, 10);
        for cut in 0..=whole.len() {
            let (first, second) = whole.split_at(cut);
            let last = if second.is_empty() { &[][..] } else { second };
            let pieces = if last.is_empty() {
                vec![first]
            } else {
                vec![first, last]
            };
            let used = pieces[pieces.len() - 1].len();
            let done = Read::Done {
                pod: 7,
                bytes: 10,
                used,
                is_last: true,
            };
            assert_eq!(read(FRAMES, &pieces), done, "cut at {cut}");
        }
    }

    #[test]
    fn what_follows_an_answer_is_not_used() {
        let two = [answer(5, 10), answer(6, 10)].concat();
        let done = Read::Done {
            pod: 7,
            bytes: 10,
            used: HEAD + 10,
            is_last: true,
        };
        assert_eq!(read(FRAMES, &[&two]), done);
    }

    #[test]
    fn lies_are_found() {
        let mut bent = answer(5, 10);
        bent[HEAD + 9] ^= 1;
        for wrong in [answer(6, 10), answer(5, 11), bent, vec![0; HEAD]] {
            assert_eq!(read(FRAMES, &[&wrong]), Read::Wrong);
        }
    }

    #[test]
    fn an_old_answer_is_passed_over_where_it_may_come() {
        let datagrams = Frames {
            may_be_old: true,
            ..FRAMES
        };
        let done = Read::Done {
            pod: 7,
            bytes: 10,
            used: HEAD + 10,
            is_last: true,
        };
        assert_eq!(read(datagrams, &[&answer(4, 10), &answer(5, 10)]), done);
        assert_eq!(read(datagrams, &[&answer(6, 10)]), Read::Wrong);
        assert_eq!(read(FRAMES, &[&answer(4, 10)]), Read::Wrong);
    }

    #[test]
    fn a_request_is_padded() {
        let frames = Frames {
            sent: 6,
            padding: 6,
            ..FRAMES
        };
        let mut out = Vec::new();
        frames.ask(9, &mut out);
        let asked = Request {
            sequence: 9,
            wanted: 10,
            sent: 6,
        };
        assert_eq!(Request::decode(&out), Some(asked));
        assert_eq!(&out[HEAD..], pattern::at(0, 6));
    }
}
