//! The cookie that keeps a client with its backend: read from requests, made for responses. Pure. It says nothing of
//! addresses, and one that names nobody is ignored.
//!
//! Its value is the hash of the backend's host, mixed, in 16 digits. Of all numbers one in 16 million can be such a hash:
//! others are ignored before anybody is looked for. It is no secret, and needs none: who makes one up gets a backend that
//! others get as well.

use crate::lb::hash::{HOST_BITS, mix, unmix};

/// Tells its values from other uses of the same mixture.
const SALT: u64 = 0x706f_646c_696e_6531;
const DIGITS: usize = 16;

/// The host hash that the cookie `name` in the values of a request's `Cookie` fields stands for. Among several of that
/// name the first counts that can be one. O(bytes of these fields).
pub(crate) fn read(fields: &[httparse::Header<'_>], name: &str) -> Option<u64> {
    fields
        .iter()
        .filter(|field| field.name.len() == 6 && field.name.eq_ignore_ascii_case("cookie"))
        .flat_map(|field| field.value.split(|byte| *byte == b';'))
        .find_map(|pair| {
            let value = pair.trim_ascii().strip_prefix(name.as_bytes())?;
            host(value.strip_prefix(b"=")?)
        })
}

/// Appends a `Set-Cookie` field with its line end. `max_age_s`: none for as long as the browser runs. `secure`: over TLS.
/// A name that is no token would end the field, so it sets nothing.
pub(crate) fn write(
    out: &mut Vec<u8>,
    name: &str,
    host: u64,
    max_age_s: Option<u64>,
    secure: bool,
) {
    if !is_token(name) {
        return;
    }
    let mut put = |text: &str| out.extend_from_slice(text.as_bytes());
    put("set-cookie: ");
    put(name);
    put("=");
    put(&format!("{:016x}", mix(host ^ SALT)));
    if let Some(seconds) = max_age_s {
        put("; Max-Age=");
        put(&seconds.to_string());
    }
    put("; Path=/; HttpOnly; SameSite=Lax");
    put(if secure { "; Secure\r\n" } else { "\r\n" });
}

/// The host hash that a value stands for.
fn host(value: &[u8]) -> Option<u64> {
    let value = value
        .strip_prefix(b"\"")
        .and_then(|rest| rest.strip_suffix(b"\""))
        .unwrap_or(value);
    if value.len() != DIGITS {
        return None;
    }
    let mixed = value.iter().try_fold(0, |number: u64, byte| {
        let digit = match byte {
            b'0'..=b'9' => byte - b'0',
            b'a'..=b'f' => byte - b'a' + 10,
            _ => return None,
        };
        Some(number << 4 | u64::from(digit))
    })?;
    let host = unmix(mixed) ^ SALT;
    (host != 0 && host >> HOST_BITS == 0).then_some(host)
}

/// As RFC 6265 wants a name to be.
fn is_token(name: &str) -> bool {
    let is_part = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    !name.is_empty() && name.bytes().all(is_part)
}

#[cfg(test)]
mod tests;
