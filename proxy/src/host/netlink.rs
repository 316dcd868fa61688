//! A netlink socket: one request at a time, and all that the kernel says to it.
//!
//! The kernel works on a request while it is being sent, so that its answer is there when the call returns: nothing here
//! waits. It must not know what the messages mean, except for acknowledgements and errors.

use std::io;

use netlink_sys::{Socket, SocketAddr};

/// Requests that only change something are answered by an acknowledgement.
pub(super) const ACK: u16 = 0x4;
const HEADER: usize = 16;
const ERROR: u16 = 2;
const DONE: u16 = 3;
/// The table changed while the kernel listed it.
const INTERRUPTED: u16 = 0x10;
/// Attributes follow in an error.
const HAS_ATTRIBUTES: u16 = 0x200;
/// Of an error: words for people.
const MESSAGE: u16 = 1;
/// The kernel fills no more than 32 KiB at once.
const BUFFER: usize = 64 * 1024;
/// Tries to list a table that changes all the time.
const TRIES: usize = 5;

/// One message of the kernel.
pub(super) struct Reply {
    /// The whole, with its header.
    pub(super) bytes: Vec<u8>,
}

impl Reply {
    /// What stands behind the header.
    pub(super) fn payload(&self) -> &[u8] {
        &self.bytes[HEADER..]
    }
}

pub(super) struct Netlink {
    socket: Socket,
}

impl std::fmt::Debug for Netlink {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Netlink").finish_non_exhaustive()
    }
}

impl Netlink {
    pub(super) fn open(protocol: isize) -> io::Result<Self> {
        let mut socket = Socket::new(protocol)?;
        socket.bind_auto()?;
        socket.connect(&SocketAddr::new(0, 0))?;
        socket.set_non_blocking(true)?;
        // Both for better answers; old kernels have neither.
        socket.set_ext_ack(true).ok();
        socket.set_netlink_get_strict_chk(true).ok();
        Ok(Self { socket })
    }

    /// Sends one message, or several in a row, and takes the answers.
    ///
    /// # Errors
    /// The first refusal.
    pub(super) fn exchange(&mut self, request: &[u8]) -> io::Result<Vec<Reply>> {
        let mut tries = 0;
        loop {
            self.socket.send(request, 0)?;
            let mut answers = Answers::default();
            while let Some(datagram) = self.next()? {
                answers.take(&datagram);
            }
            tries += 1;
            if !answers.is_interrupted || tries == TRIES {
                return answers.refusal.map_or(Ok(answers.replies), Err);
            }
        }
    }

    fn next(&mut self) -> io::Result<Option<Vec<u8>>> {
        let mut datagram = Vec::with_capacity(BUFFER);
        match self.socket.recv(&mut datagram, 0) {
            Ok(_) => Ok(Some(datagram)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            Err(error) => Err(error),
        }
    }
}

#[derive(Default)]
struct Answers {
    replies: Vec<Reply>,
    refusal: Option<io::Error>,
    is_interrupted: bool,
}

impl Answers {
    fn take(&mut self, mut datagram: &[u8]) {
        while let Some(message) = first(datagram) {
            let flags = u16_at(message, 6);
            self.is_interrupted |= flags & INTERRUPTED != 0;
            match u16_at(message, 4) {
                ERROR | DONE => {
                    let refusal = refusal(message, flags);
                    self.refusal = self.refusal.take().or(refusal);
                }
                _ => self.replies.push(Reply {
                    bytes: message.to_vec(),
                }),
            }
            datagram = &datagram[aligned(message.len()).min(datagram.len())..];
        }
    }
}

/// The first message of a datagram.
fn first(datagram: &[u8]) -> Option<&[u8]> {
    let len = usize::try_from(u32_at(datagram, 0)).ok()?;
    datagram
        .get(..len)
        .filter(|message| message.len() >= HEADER)
}

/// What an error or the end of a list says, unless it says that all is well.
fn refusal(message: &[u8], flags: u16) -> Option<io::Error> {
    let code = message.get(HEADER..HEADER + 4)?;
    let code = i32::from_ne_bytes(code.try_into().ok()?);
    if code == 0 {
        return None;
    }
    let error = io::Error::from_raw_os_error(code.saturating_neg());
    let words = (flags & HAS_ATTRIBUTES != 0).then(|| words(message));
    Some(match words.flatten() {
        Some(words) => io::Error::new(error.kind(), format!("{error}: {words}")),
        None => error,
    })
}

/// The kernel's words in an error: they stand behind the message that it refused.
fn words(message: &[u8]) -> Option<String> {
    let refused = HEADER + 4;
    let len = usize::try_from(u32_at(message, refused)).ok()?;
    let mut rest = message.get(refused + aligned(len)..)?;
    loop {
        let len = usize::from(u16_at(rest, 0));
        let value = rest.get(4..len)?;
        if u16_at(rest, 2) == MESSAGE {
            let text = String::from_utf8_lossy(value);
            return Some(text.trim_end_matches('\0').to_owned());
        }
        rest = rest.get(aligned(len)..)?;
    }
}

pub(super) const fn aligned(len: usize) -> usize {
    len.next_multiple_of(4)
}

/// Zero behind the end.
pub(super) fn u16_at(bytes: &[u8], at: usize) -> u16 {
    let bytes = bytes.get(at..at + 2).and_then(|two| two.try_into().ok());
    bytes.map_or(0, u16::from_ne_bytes)
}

/// Zero behind the end.
pub(super) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    let bytes = bytes.get(at..at + 4).and_then(|four| four.try_into().ok());
    bytes.map_or(0, u32::from_ne_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(kind: u16, flags: u16, payload: &[u8]) -> Vec<u8> {
        let len = u32::try_from(HEADER + payload.len()).unwrap();
        let mut bytes = len.to_ne_bytes().to_vec();
        bytes.extend(kind.to_ne_bytes());
        bytes.extend(flags.to_ne_bytes());
        bytes.extend([0; 8]);
        bytes.extend(payload);
        bytes.resize(aligned(bytes.len()), 0);
        bytes
    }

    fn take(datagram: &[u8]) -> Answers {
        let mut answers = Answers::default();
        answers.take(datagram);
        answers
    }

    #[test]
    fn a_refusal_is_told_in_the_kernels_words() {
        let mut payload = (-22_i32).to_ne_bytes().to_vec();
        payload.extend(message(26, 5, &[])); // the refused message
        payload.extend([9_u16, MESSAGE].map(u16::to_ne_bytes).concat());
        payload.extend(b"Nope\0\0\0\0");
        let answers = take(&message(ERROR, HAS_ATTRIBUTES, &payload));
        let told = answers.refusal.unwrap();
        assert_eq!(told.kind(), io::ErrorKind::InvalidInput);
        assert!(told.to_string().ends_with(": Nope"), "{told}");
    }

    #[test]
    fn acknowledgements_and_ends_are_no_replies() {
        let mut datagram = message(24, 2, b"abcde");
        datagram.extend(message(ERROR, 0, &[0; 20]));
        datagram.extend(message(DONE, 2, &[0; 4]));
        let answers = take(&datagram);
        assert_eq!(answers.replies.len(), 1);
        assert_eq!(answers.replies[0].payload(), b"abcde");
        assert!(answers.refusal.is_none() && !answers.is_interrupted);
    }

    #[test]
    fn cut_messages_are_left_alone() {
        let whole = message(ERROR, HAS_ATTRIBUTES, &[0xff; 40]);
        for len in 0..whole.len() {
            assert!(take(&whole[..len]).replies.is_empty());
        }
        take(&message(ERROR, HAS_ATTRIBUTES, &[0xff; 3]));
        take(&[0; 64]);
    }
}
