//! What a UDP probe sends, and which answers pass.

use crate::invalid::Checks;
use crate::{Invalid, v1};

/// A datagram, and what its answer has to be.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct UdpCheck {
    /// At most 500 bytes; may be empty.
    pub send: Vec<u8>,
    /// What an answer has to begin with, 1 to 500 bytes. Absent: with something to send, any answer passes; without,
    /// silence passes too.
    pub expect: Option<Vec<u8>>,
}

const LONGEST: usize = 500;

impl UdpCheck {
    pub(super) fn read(wire: Option<&v1::UdpCheck>) -> Result<Self, Invalid> {
        let absent = v1::UdpCheck::default();
        let wire = wire.unwrap_or(&absent);
        let mut checks = Checks::default();
        let send = bytes(
            &mut checks,
            "send",
            wire.send_text.as_ref(),
            wire.send_hex.as_ref(),
        );
        let texts = (wire.expect_text.as_ref(), wire.expect_hex.as_ref());
        let expect = bytes(&mut checks, "expect", texts.0, texts.1);
        if expect.as_ref().is_some_and(Vec::is_empty) {
            let field = if texts.0.is_some() {
                "expectText"
            } else {
                "expectHex"
            };
            checks.refuse(field, "is empty: leave it out instead");
        }
        checks.finish(Some(Self {
            send: send.unwrap_or_default(),
            expect,
        }))
    }

    /// Text where people can read it, else hex. Nothing where everything is as if it were absent.
    pub(super) fn to_wire(&self) -> Option<v1::UdpCheck> {
        let (send_text, send_hex) = match &*self.send {
            [] => (None, None),
            some => written(some),
        };
        let (expect_text, expect_hex) = match &self.expect {
            Some(bytes) => written(bytes),
            None => (None, None),
        };
        let wire = v1::UdpCheck {
            send_text,
            send_hex,
            expect_text,
            expect_hex,
        };
        (wire != v1::UdpCheck::default()).then_some(wire)
    }
}

/// The bytes of one of the two ways to write them.
fn bytes(
    checks: &mut Checks,
    field: &str,
    text: Option<&String>,
    hex: Option<&String>,
) -> Option<Vec<u8>> {
    let read = match (text, hex) {
        (None, None) => return None,
        (Some(_), Some(_)) => {
            let problem = format!("stands beside {field}Text: write one or the other");
            checks.refuse(format_args!("{field}Hex"), problem);
            return None;
        }
        (Some(text), None) => Ok(text.as_bytes().to_vec()),
        (None, Some(hex)) => from_hex(hex),
    };
    let kind = if text.is_some() { "Text" } else { "Hex" };
    let read = read.and_then(|bytes| match bytes.len() {
        0..=LONGEST => Ok(bytes),
        many => {
            let problem = format!("{many} bytes are too many: use {LONGEST} at most");
            Err(Invalid::one("", problem))
        }
    });
    checks.take(format_args!("{field}{kind}"), read)
}

fn from_hex(text: &str) -> Result<Vec<u8>, Invalid> {
    let refused = || Invalid::one("", "must be pairs of hexadecimal digits");
    let digits = text.chars().filter(|c| !c.is_ascii_whitespace());
    let digits: Option<Vec<u8>> = digits
        .map(|c| c.to_digit(16).and_then(|digit| u8::try_from(digit).ok()))
        .collect();
    let digits = digits.filter(|digits| digits.len().is_multiple_of(2));
    let pairs = digits.ok_or_else(refused)?;
    Ok(pairs.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect())
}

fn written(bytes: &[u8]) -> (Option<String>, Option<String>) {
    use std::fmt::Write;
    match std::str::from_utf8(bytes) {
        Ok(text) if !text.chars().any(char::is_control) => (Some(text.to_owned()), None),
        _ => {
            let mut hex = String::new();
            for byte in bytes {
                let _ = write!(hex, "{byte:02x}");
            }
            (None, Some(hex))
        }
    }
}
