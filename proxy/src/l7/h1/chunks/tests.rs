//! Chunks as others write them, and as nobody should.

use super::*;

/// All that is read of bytes that are there at once: data, lines of the trailer, bytes consumed, whether it is over.
type Read = (Vec<u8>, Vec<String>, usize, bool);

fn read(bytes: &[u8]) -> Result<Read, Fault> {
    let mut reader = ChunkReader::default();
    let (mut data, mut trailer, mut at) = (Vec::new(), Vec::new(), 0);
    loop {
        match reader.next(&bytes[at..])? {
            Piece::Framing { skip } => return Ok((data, trailer, at + skip, false)),
            Piece::Data { skip, length } => {
                data.extend_from_slice(&bytes[at + skip..][..length]);
                at += skip + length;
            }
            Piece::Trailer { skip, length } => {
                let line = &bytes[at + skip..][..length];
                trailer.push(String::from_utf8_lossy(line).into_owned());
                at += skip + length + 2;
            }
            Piece::End { skip } => return Ok((data, trailer, at + skip, true)),
        }
    }
}

fn of_text(text: &str) -> Result<Read, Fault> {
    read(text.as_bytes())
}

#[test]
fn a_reader_is_small() {
    assert!(size_of::<ChunkReader>() <= 16);
}

#[test]
fn chunks_are_read() {
    for (text, data) in [
        ("0\r\n\r\n", ""),
        ("0000000000000000\r\n\r\n", ""),
        ("1\r\na\r\n0\r\n\r\n", "a"),
        (
            "A\r\n0123456789\r\n07\r\n\r\n0\r\n\r\n\r\n0\r\n\r\n",
            "0123456789\r\n0\r\n\r\n",
        ),
        (
            "1;a\r\na\r\n1;a=b;c=\"d;\\\" e\"\r\nb\r\n0 ; x\r\n\r\n",
            "ab",
        ),
        ("1 \t;\u{e9}\r\na\r\n0;\r\n\r\n", "a"),
    ] {
        let read = of_text(text);
        assert_eq!(
            read,
            Ok((data.into(), vec![], text.len(), true)),
            "{text:?}"
        );
        let more = of_text(&format!("{text}GET / HTTP/1.1\r\n"));
        assert_eq!(more, read);
    }
}

#[test]
fn what_is_not_whole_stays() {
    for (text, whole) in [
        ("", 0),
        ("5", 0),
        ("5;a", 0),
        ("5\r", 0),
        ("5\r\n", 3),
        ("5\r\nab", 5),
        ("2\r\nab", 5),
        ("2\r\nab\r", 5),
        ("2\r\nab\r\n", 7),
        ("2\r\nab\r\n0", 7),
        ("2\r\nab\r\n0\r\n", 10),
        ("2\r\nab\r\n0\r\n\r", 10),
        ("0\r\na: b", 3),
        ("0\r\na: b\r\n", 9),
        ("0\r\na: b\r\n\r", 9),
    ] {
        let (_, _, consumed, is_over) = of_text(text).unwrap();
        assert_eq!((consumed, is_over), (whole, false), "{text:?}");
    }
}

#[test]
fn broken_framing_is_refused() {
    for text in [
        "\r\n",
        "\n",
        ";a\r\n",
        " 1\r\na\r\n",
        "+1\r\na\r\n",
        "-1\r\na\r\n",
        "0x1\r\na\r\n",
        "1h\r\na\r\n",
        "g\r\n",
        "1_0\r\n",
        "1,1\r\n",
        "1\na\n0\n\n",
        "1\ra",
        "1\r\r\n",
        "1 \r\na\r\n0\r\n\r\n",
        "1 1\r\n",
        "1 a\r\n",
        "1;a\na\r\n0\r\n\r\n",
        "1;a\ra\r\n",
        "1;a\0\r\n",
        "1;\"a\nb\"\r\n",
        "1;\u{7f}\r\n",
        "00000000000000000\r\n\r\n",
        "10000000000000000\r\n",
        "fffffffffffffffff\r\n",
        "1\r\nab\r\n",
        "1\r\na\n0\r\n\r\n",
        "1\r\na\r0\r\n\r\n",
        "1\r\na0\r\n\r\n",
        "1\r\na \r\n",
        "0\n\n",
        "0\r\n\n",
        "0\r\na: b\n\r\n",
        "0\r\na: b\r\n c\r\n\r\n",
        "0\r\na : b\r\n\r\n",
        "0\r\n: b\r\n\r\n",
        "0\r\na\r\n\r\n",
        "0\r\na: b\0\r\n\r\n",
        "0\r\na: b\rc: d\r\n\r\n",
        "0\r\nGET / HTTP/1.1\r\n\r\n",
    ] {
        assert_eq!(of_text(text), Err(Fault::Malformed), "{text:?}");
    }
    // At once, not when the line ends.
    for text in ["x", "1x", "1 x", "1;\0", "12345678901234567", "1\r\nax"] {
        assert_eq!(of_text(text), Err(Fault::Malformed), "{text:?}");
    }
}

#[test]
fn sizes_go_up_to_64_bits() {
    let mut reader = ChunkReader::default();
    let bytes = b"FFFFffffFFFFffff\r\nabc";
    let data = Piece::Data {
        skip: 18,
        length: 3,
    };
    assert_eq!(reader.next(bytes), Ok(data));
    let left = State::Data(u64::MAX - 3);
    assert_eq!(reader, ChunkReader { state: left });
}

#[test]
fn lines_and_trailers_end_somewhere() {
    let line = |length: usize| format!("1;{}\r\n", "a".repeat(length - 4));
    let longest = line(MAX_SIZE_LINE);
    assert_eq!(of_text(&longest).unwrap().2, MAX_SIZE_LINE);
    let long = line(MAX_SIZE_LINE + 1);
    for text in [&long, &long[..MAX_SIZE_LINE]] {
        assert_eq!(of_text(text), Err(Fault::Malformed));
    }
    assert_eq!(of_text(&long[..MAX_SIZE_LINE - 1]).unwrap().2, 0);

    let lines = |count| format!("0\r\n{}\r\n", "a: b\r\n".repeat(count));
    let most = lines(64);
    let (_, trailer, consumed, is_over) = of_text(&most).unwrap();
    assert_eq!((trailer.len(), consumed, is_over), (64, most.len(), true));
    assert_eq!(of_text(&lines(65)), Err(Fault::HeadTooLarge));

    let wide =
        |length: usize| format!("0\r\na: b\r\nc: {}\r\n\r\n", "d".repeat(length - 6 - 5 - 2));
    let widest = wide(MAX_TRAILER);
    assert_eq!(of_text(&widest).unwrap().2, widest.len());
    let wider = wide(MAX_TRAILER + 1);
    assert_eq!(of_text(&wider), Err(Fault::HeadTooLarge));
    let endless = format!("0\r\n{}", "a".repeat(MAX_TRAILER));
    assert_eq!(of_text(&endless), Err(Fault::HeadTooLarge));
    assert_eq!(of_text(&endless[1..]).unwrap_err(), Fault::Malformed);
}
