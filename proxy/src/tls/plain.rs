//! The answer to a caller that speaks plain text where TLS is spoken: in its own words, so that its error says why.

/// Every HTTP/2 client begins with this.
const HTTP2: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// HTTP/2 frames.
const SETTINGS: u8 = 4;
const GOAWAY: u8 = 7;
/// The code of a GOAWAY: the transport is not what we ask for.
const INADEQUATE_SECURITY: u32 = 0xc;
/// The first byte of a TLS handshake record.
const HANDSHAKE: u8 = 22;

const TEXT: &str = "this address speaks TLS: call it with a client certificate, or use the proxy's loopback address or \
                    Unix socket";

/// Whether a caller that begins so speaks TLS.
pub(super) fn is_tls(first: u8) -> bool {
    first == HANDSHAKE
}

/// What to answer to a caller that begins so, in plain text.
pub(super) fn answer(beginning: &[u8]) -> Vec<u8> {
    if HTTP2.starts_with(beginning) || beginning.starts_with(HTTP2) {
        let mut out = frame(SETTINGS, &[]);
        let mut goaway = vec![0; 4]; // no stream was served
        goaway.extend(INADEQUATE_SECURITY.to_be_bytes());
        goaway.extend(TEXT.as_bytes());
        out.extend(frame(GOAWAY, &goaway));
        out
    } else {
        let length = TEXT.len() + 1;
        format!(
            "HTTP/1.1 400 Bad Request\r\ncontent-type: text/plain\r\ncontent-length: {length}\r\n\
             connection: close\r\n\r\n{TEXT}\n"
        )
        .into_bytes()
    }
}

/// A frame of the connection as a whole.
fn frame(kind: u8, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("our frames are short");
    let mut out = length.to_be_bytes()[1..].to_vec();
    out.extend([kind, 0, 0, 0, 0, 0]);
    out.extend(payload);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn http2_gets_settings_and_goaway_with_the_text() {
        for beginning in [HTTP2, &HTTP2[..3]] {
            let told = answer(beginning);
            assert_eq!(told[..9], [0, 0, 0, SETTINGS, 0, 0, 0, 0, 0]);
            let length = TEXT.len() + 8;
            assert_eq!(usize::from(told[11]), length & 0xff);
            assert_eq!(told[12], GOAWAY);
            assert_eq!(told[18..26], [0, 0, 0, 0, 0, 0, 0, 0xc]);
            assert_eq!(&told[26..], TEXT.as_bytes());
        }
    }

    #[test]
    fn anything_else_gets_a_400() {
        for beginning in [&b"GET / HTTP/1.1\r\n\r\n"[..], b"POST", b"\0\0"] {
            let told = String::from_utf8(answer(beginning)).unwrap();
            assert!(told.starts_with("HTTP/1.1 400 "), "{told}");
            assert!(told.contains("speaks TLS"), "{told}");
        }
        assert!(is_tls(b'\x16') && !is_tls(b'P') && !is_tls(0x17));
    }
}
