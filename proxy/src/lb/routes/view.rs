//! How a path is seen when routes are compared with it. Pure.
//!
//! Spellings of one path are one view, whichever of them the backend takes for the same: escapes of characters that need
//! none are undone (RFC 3986, 6.2.2), dot segments are resolved (5.2.4). A dot segment is one also where it is set off by
//! an escaped slash, by a backslash, or has parameters ("..;a"): there are backends that see them so, and a path must not
//! lead to another's route there. Other escapes stay, and nothing is merged: "/a%2Fb" is one segment and not below "/a",
//! "/a//b" is not "/a/b".

use std::borrow::Cow;

/// The view of `path`, without query. One that does not begin with a slash, as "*", is seen as "/".
pub fn view(path: &str) -> Cow<'_, str> {
    let bytes = path.as_bytes();
    if bytes.first() != Some(&b'/') {
        return Cow::Borrowed("/");
    }
    // Without a branch on the way, so that many bytes are compared at once.
    let is = |byte: &u8, other: u8| u8::from(*byte == other);
    let pairs = bytes.iter().zip(bytes.iter().skip(1));
    let special = pairs.fold(0, |special, (before, byte)| {
        let dotted = is(before, b'/') & is(byte, b'.');
        special | dotted | is(byte, b'%') | is(byte, b'\\')
    });
    if special == 0 {
        Cow::Borrowed(path)
    } else {
        Cow::Owned(without_dots(&unescaped(path)))
    }
}

/// Without escapes of unreserved characters; what else is escaped is in capitals.
fn unescaped(path: &str) -> String {
    let mut out = String::with_capacity(path.len());
    let mut rest = path;
    while let Some(at) = rest.find('%') {
        out.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        match rest.get(..2).and_then(escaped) {
            Some(byte) => {
                if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
                    out.push(char::from(byte));
                } else {
                    out.push('%');
                    out.push_str(&rest[..2].to_ascii_uppercase());
                }
                rest = &rest[2..];
            }
            // It escapes nothing, and must not seem to beside what comes next.
            None => out.push_str("%25"),
        }
    }
    out.push_str(rest);
    out
}

/// The byte that two digits stand for.
fn escaped(digits: &str) -> Option<u8> {
    let is_hex = digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    u8::from_str_radix(digits, 16).ok().filter(|_| is_hex)
}

/// Without dot segments. What comes after one is set off by a slash, whatever stood there.
fn without_dots(path: &str) -> String {
    let mut out = String::with_capacity(path.len());
    let (mut rest, mut after_dots) = (path, false);
    while !rest.is_empty() {
        let (before, segment) = rest.split_at(separator(rest));
        let end = (0..segment.len())
            .find(|at| segment.is_char_boundary(*at) && separator(&segment[*at..]) > 0)
            .unwrap_or(segment.len());
        let (segment, behind) = segment.split_at(end);
        let dots = segment.split(';').next().unwrap_or_default();
        if dots == ".." {
            out.truncate(last_separator(&out));
        }
        let is_dots = dots == "." || dots == "..";
        if !is_dots {
            out.push_str(if after_dots { "/" } else { before });
            out.push_str(segment);
        } else if behind.is_empty() {
            // "/a/." is "/a/".
            out.push('/');
        }
        (rest, after_dots) = (behind, is_dots);
    }
    out
}

/// The length of the separator that `text` begins with: a slash, or what a backend may take for one.
fn separator(text: &str) -> usize {
    match text.as_bytes() {
        [b'/' | b'\\', ..] => 1,
        [b'%', b'2', b'F', ..] | [b'%', b'5', b'C', ..] => 3,
        _ => 0,
    }
}

/// Where the last separator of `text` begins; 0 without.
fn last_separator(text: &str) -> usize {
    (0..text.len())
        .rev()
        .find(|at| text.is_char_boundary(*at) && separator(&text[*at..]) > 0)
        .unwrap_or(0)
}

#[cfg(test)]
mod tests;
