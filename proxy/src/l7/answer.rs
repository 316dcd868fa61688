//! The proxy's own answers: refusals with their reason, and redirects. Pure.
//!
//! A refusal says in one line what is wrong, who can mend it, and whether it helps to ask again.

use super::fault::Fault;

/// Appends the answer to a request that failed. `close`: the connection ends after it. `is_head`: the body is only told of.
pub(crate) fn refusal(out: &mut Vec<u8>, fault: Fault, close: bool, is_head: bool) {
    let body = text(fault);
    status_line(out, fault.status());
    put(
        out,
        "content-type: text/plain; charset=utf-8\r\ncontent-length: ",
    );
    put(out, &body.len().to_string());
    put(out, "\r\nx-podline-reason: ");
    put(out, fault.reason());
    put(out, "\r\n");
    if fault.status() == 503 {
        put(out, "retry-after: 1\r\n");
    }
    end(out, close);
    if !is_head {
        put(out, body);
    }
}

/// Appends a redirect to `location`; `status` is 301, 302, 303, 307 or 308. It has no body, so `is_head` changes nothing.
pub(crate) fn redirect(out: &mut Vec<u8>, status: u16, location: &str, close: bool, is_head: bool) {
    let _ = is_head;
    status_line(out, status);
    put(out, "location: ");
    // Whoever made it: what could end the line stays out.
    out.extend(location.bytes().filter(u8::is_ascii_graphic));
    put(out, "\r\ncontent-length: 0\r\n");
    end(out, close);
}

fn status_line(out: &mut Vec<u8>, status: u16) {
    put(out, "HTTP/1.1 ");
    put(out, &status.to_string());
    put(out, " ");
    put(out, phrase(status));
    put(out, "\r\n");
}

fn end(out: &mut Vec<u8>, close: bool) {
    put(
        out,
        if close {
            "connection: close\r\n\r\n"
        } else {
            "\r\n"
        },
    );
}

fn put(out: &mut Vec<u8>, text: &str) {
    out.extend_from_slice(text.as_bytes());
}

/// What RFC 9110 and 6585 call a status; empty for those that are not answered here.
pub(crate) const fn phrase(status: u16) -> &'static str {
    match status {
        301 => "Moved Permanently",
        302 => "Found",
        303 => "See Other",
        307 => "Temporary Redirect",
        308 => "Permanent Redirect",
        400 => "Bad Request",
        404 => "Not Found",
        408 => "Request Timeout",
        413 => "Content Too Large",
        414 => "URI Too Long",
        421 => "Misdirected Request",
        431 => "Request Header Fields Too Large",
        501 => "Not Implemented",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        505 => "HTTP Version Not Supported",
        _ => "",
    }
}

/// The body of a refusal.
const fn text(fault: Fault) -> &'static str {
    match fault {
        Fault::Malformed => {
            "The client's request is not valid HTTP/1.1. Asking again with the same bytes does not help.\n"
        }
        Fault::AmbiguousLength => {
            "The length of the client's request can be read in two ways. Asking again with the same fields does not help.\n"
        }
        Fault::BadHost => {
            "The client's request needs exactly one valid Host field. Asking again without does not help.\n"
        }
        Fault::NoRoute => {
            "No route of this listener takes this host and path: its operator can add one. Asking again does not help before.\n"
        }
        Fault::Misdirected => {
            "The client's request came on a connection for another host, with another certificate. Asking again on one for this host helps.\n"
        }
        Fault::HeadTimeout => {
            "The client's request did not come in time. Asking again helps if it comes sooner.\n"
        }
        Fault::BodyTimeout => {
            "The body of the client's request did not come in time. Asking again helps if it comes sooner.\n"
        }
        Fault::BodyTooLarge => {
            "The body of the client's request is longer than this listener takes. Asking again does not help.\n"
        }
        Fault::TargetTooLong => {
            "The target of the client's request is longer than this listener takes. Asking again does not help.\n"
        }
        Fault::HeadTooLarge => {
            "The client's request has more or longer fields than this listener takes. Asking again with fewer helps.\n"
        }
        Fault::NotImplemented => {
            "The client's request has a method or transfer coding that is not forwarded. Asking again does not help.\n"
        }
        Fault::VersionNotSupported => {
            "The client's request is in a version of HTTP that is not spoken here. Asking again in HTTP/1.1 helps.\n"
        }
        Fault::ConnectFailed => {
            "No backend could be connected to. The client did nothing wrong; asking again may help.\n"
        }
        Fault::BadResponse => {
            "The backend's response is not valid HTTP. The client did nothing wrong; asking again helps once the backend is mended.\n"
        }
        Fault::BackendClosed => {
            "The backend closed the connection before it answered. The client did nothing wrong; asking again may help, but the request may have been acted on.\n"
        }
        Fault::NoBackend => {
            "No backend is there for this request: its operator sees why. Asking again in a moment may help.\n"
        }
        Fault::ConnectTimeout => {
            "No backend took the connection in time. The client did nothing wrong; asking again may help.\n"
        }
        Fault::TlsFailed => {
            "No TLS with the backend, or not with the one that it should be. The client did nothing wrong; asking again helps once the operator has mended that.\n"
        }
        Fault::ResponseTimeout => {
            "The backend did not answer in time. The client did nothing wrong; asking again may help, but the request may have been acted on.\n"
        }
    }
}

#[cfg(test)]
mod tests;
