//! The cookie that keeps a client with its backend: read from requests, made for responses. Pure. It says nothing of
//! addresses, and one that names nobody is ignored.

/// The host hash that the cookie `name` in the values of a request's `Cookie` fields stands for.
pub(crate) fn read(fields: &[httparse::Header<'_>], name: &str) -> Option<u64> {
    let _ = (fields, name);
    None
}

/// Appends a `Set-Cookie` field with its line end. `max_age_s`: none for as long as the browser runs. `secure`: over TLS.
pub(crate) fn write(
    out: &mut Vec<u8>,
    name: &str,
    host: u64,
    max_age_s: Option<u64>,
    secure: bool,
) {
    let _ = (out, name, host, max_age_s, secure);
}
