//! Where the two engines differ, and why. A line says what one of them did and the other did not, as `outcome` words it:
//! statuses, then what was forwarded.

/// Requests that differ in the same lines.
pub(super) struct Difference {
    requests: &'static [&'static str],
    pub(super) lines: &'static [&'static str],
    pub(super) why: &'static str,
}

/// What is listed for a request.
pub(super) fn of(request: &str) -> Option<&'static Difference> {
    let mut listed = LISTED.iter();
    listed.find(|listed| listed.requests.contains(&request))
}

/// All requests that differ.
pub(super) fn names() -> impl Iterator<Item = &'static str> {
    LISTED.iter().flat_map(|listed| listed.requests).copied()
}

const LISTED: &[Difference] = &[
    Difference {
        requests: &[
            "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
            "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n",
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
        ],
        lines: &[
            "podline: 400",
            "pingora: 200; forwards POST / HTTP/1.1 (host: a, transfer-encoding: chunked) body <>",
        ],
        why: "RFC 9112 (6.3) lets chunks win over a length, and calls it an attempt to smuggle; nobody sends it who means well.",
    },
    Difference {
        requests: &["Content-Length: 5\r\nContent-Length: 5\r\n"],
        lines: &[
            "podline: 400",
            "pingora: 200; forwards POST / HTTP/1.1 (host: a, content-length: 5, content-length: 5) body <0\\r\\n\\r\\n>",
        ],
        why: "Equal lengths may be made one (RFC 9110, 8.6); pingora passes them on as they are, for the backend to decide.",
    },
    Difference {
        requests: &["Content-Length: 5, 5\r\n"],
        lines: &[
            "podline: 400",
            "pingora: 200; forwards POST / HTTP/1.1 (host: a, content-length: 5, 5) body <0\\r\\n\\r\\n>",
        ],
        why: "As above, in one field.",
    },
    Difference {
        requests: &[
            "Transfer-Encoding: chunked, chunked\r\n",
            "Transfer-Encoding: gzip, chunked\r\n",
            "Transfer-Encoding: identity, chunked\r\n",
            "Transfer-Encoding: identity\r\nTransfer-Encoding: chunked\r\n",
        ],
        lines: &[
            "podline: 501",
            "pingora: 200; forwards POST / HTTP/1.1 (host: a, transfer-encoding: chunked) body <>",
        ],
        why: "pingora looks at the last coding alone and passes on no other, so a backend gets gzip and is not told.",
    },
    Difference {
        requests: &[
            "Transfer-Encoding: chunked, identity\r\n",
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n",
            "Transfer-Encoding: xchunked\r\n",
            "Transfer-Encoding: \"chunked\"\r\n",
        ],
        lines: &["podline: 501", "pingora: 400"],
        why: "Both refuse: 501 is what RFC 9112 (6.1) asks for a coding that is not understood, 400 (6.3) where chunks are not the last.",
    },
    Difference {
        requests: &["X: a\nTransfer-Encoding: chunked\r\n"],
        lines: &[
            "podline: 400",
            "pingora: 200; forwards POST / HTTP/1.1 (host: a, transfer-encoding: chunked) body <>",
        ],
        why: "To pingora a bare LF ends a line, which RFC 9112 (2.2) allows. A peer in front that reads on sees no chunks.",
    },
    Difference {
        requests: &[
            "GET / HTTP/1.1\nHost: a\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\n\n",
        ],
        lines: &[
            "podline: 400",
            "pingora: 200; forwards GET / HTTP/1.1 (host: a) body <>",
        ],
        why: "As above.",
    },
    Difference {
        requests: &[
            "-1\r\n",
            "+3\r\nabc\r\n",
            "0x3\r\nabc",
            "3\nabc\r\n",
            "3\r\nabcd\r\n",
            "11111111111111111\r\n",
            "g\r\n",
        ],
        lines: &[
            "podline: 400",
            "pingora: 400; forwards POST / HTTP/1.1 (host: a, transfer-encoding: chunked) a body that is cut",
        ],
        why: "Both refuse. Podline reads what has come of a body before it looks for a backend; pingora has sent the head, and cuts.",
    },
    Difference {
        requests: &["3 \r\nabc\r\n", "3;a\nb\r\nabc\r\n"],
        lines: &[
            "podline: 400",
            "pingora: 200; forwards POST / HTTP/1.1 (host: a, transfer-encoding: chunked) body <abc>",
        ],
        why: "pingora reads over anything behind a size and writes the chunk anew; a peer in front may have read another size line.",
    },
    Difference {
        requests: &["\r\n"],
        lines: &[
            "podline: 400",
            "pingora: 200; forwards POST / HTTP/1.1 (host: a, transfer-encoding: chunked) body <>",
        ],
        why: "To pingora no size is 0, and the body over; what follows is thrown away with the connection.",
    },
    Difference {
        requests: &["GET / HTTP/1.1\r\n\r\n"],
        lines: &[
            "podline: 400",
            "pingora: 200; forwards GET / HTTP/1.1 () body <>",
        ],
        why: "RFC 9112 (3.2) asks for 400 where there is no host.",
    },
    Difference {
        requests: &["GET / HTTP/1.1\r\nHost: a/b\r\n\r\n"],
        lines: &[
            "podline: 400",
            "pingora: 200; forwards GET / HTTP/1.1 (host: a/b) body <>",
        ],
        why: "RFC 9112 (3.2) asks for 400 where the host is none; Podline routes by it.",
    },
    Difference {
        requests: &["an empty host"],
        lines: &[
            "podline: 400",
            "pingora: 200; forwards GET / HTTP/1.1 (host: ) body <>",
        ],
        why: "RFC 9110 (4.2.1) asks for 400 where the host of an http URI is empty.",
    },
    Difference {
        requests: &["GET a HTTP/1.1\r\nHost: a\r\n\r\n"],
        lines: &[
            "podline: 400",
            "pingora: 200; forwards GET a HTTP/1.1 (host: a) body <>",
        ],
        why: "A target without a slash is of no form, and peers join it to the host in different ways.",
    },
    Difference {
        requests: &["GET /#a HTTP/1.1\r\nHost: a\r\n\r\n"],
        lines: &[
            "podline: 400",
            "pingora: 200; forwards GET / HTTP/1.1 (host: a) body <>",
        ],
        why: "pingora cuts a fragment off; others take it for a part of the path.",
    },
    Difference {
        requests: &["GET /a b HTTP/1.1\r\nHost: a\r\n\r\n"],
        lines: &[
            "podline: 400",
            "pingora: 200; forwards GET /a%20b HTTP/1.1 (host: a) body <>",
        ],
        why: "pingora escapes spaces in a target; RFC 9112 (3.2) asks not to mend it, as that may get past who looked at it before.",
    },
    Difference {
        requests: &["GET  / HTTP/1.1\r\nHost: a\r\n\r\n"],
        lines: &[
            "podline: 400",
            "pingora: 200; forwards GET %20/ HTTP/1.1 (host: a) body <>",
        ],
        why: "As above; the target that comes of it is of no form.",
    },
    Difference {
        requests: &["\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n"],
        lines: &[
            "podline: 400",
            "pingora: 200; forwards GET / HTTP/1.1 (host: a) body <>",
        ],
        why: "RFC 9112 (2.2) lets one empty line stand before a request; Podline allows that one.",
    },
    Difference {
        requests: &["CONNECT a:1 HTTP/1.1\r\nHost: a\r\n\r\n"],
        lines: &["podline: 501", "pingora: 405"],
        why: "Both refuse tunnels.",
    },
    Difference {
        requests: &["GET http://shop.example/a?b HTTP/1.1\r\nHost: other.example\r\n\r\n"],
        lines: &[
            "podline: 200; forwards GET /a?b HTTP/1.1 (host: shop.example) body <>",
            "pingora: 400",
        ],
        why: "RFC 9112 (3.2.2): the absolute form wins, and the field is written anew. pingora is stricter than that.",
    },
    Difference {
        requests: &["the absolute form of another port"],
        lines: &[
            "podline: 200; forwards GET /b HTTP/1.1 (host: a:81) body <>",
            "pingora: 400",
        ],
        why: "As above.",
    },
    Difference {
        requests: &["the absolute form"],
        lines: &[
            "podline: forwards GET /b HTTP/1.1",
            "pingora: forwards GET http://a/b HTTP/1.1",
        ],
        why: "RFC 9112 (3.2.1): servers are asked in origin form.",
    },
    Difference {
        requests: &["a target with what others escape"],
        lines: &[
            "podline: 200; forwards GET /{a}|\\\"b\\\"<c> HTTP/1.1 (host: a) body <>",
            "pingora: 400",
        ],
        why: "Browsers send some of these bytes as they are, and each has one reading. pingora is stricter.",
    },
    Difference {
        requests: &["a head of 100 KiB", "150 fields"],
        lines: &[
            "podline: 431",
            "pingora: 200; forwards GET / HTTP/1.1 (host: a) body <>",
        ],
        why: "Podline takes 100 fields, and 32 KiB by default; pingora 256, and 1 MiB.",
    },
    Difference {
        requests: &["300 fields"],
        lines: &["podline: 431", "pingora: 400"],
        why: "Both refuse; 431 says why.",
    },
    Difference {
        requests: &["another HTTP/1", "HTTP/0.9"],
        lines: &["podline: 505", "pingora: 400"],
        why: "Both refuse; 505 says why.",
    },
    Difference {
        requests: &["a proxy's name"],
        lines: &["pingora: forwards proxy: http://a"],
        why: "CVE-2016-5385: CGI makes a variable of it that names a proxy to use.",
    },
    Difference {
        requests: &["a client's own word"],
        lines: &[
            "pingora: forwards x-forwarded-proto: https",
            "pingora: forwards x-real-ip: 192.0.2.1",
            "pingora: forwards forwarded: for=192.0.2.1",
        ],
        why: "Podline says these itself. The program around pingora says X-Forwarded-For alone.",
    },
    Difference {
        requests: &["names with underscores"],
        lines: &["pingora: forwards x_forwarded_for: 192.0.2.1"],
        why: "Backends that make variables of names take it for X-Forwarded-For.",
    },
    Difference {
        requests: &["TE"],
        lines: &[
            "podline: forwards te: trailers",
            "podline: forwards connection: te",
        ],
        why: "Podline passes trailers on, so it says that they are read; pingora drops them.",
    },
    Difference {
        requests: &["chunks with a trailer"],
        lines: &[
            "podline: forwards trailer: X-Sum",
            "podline: forwards trailer x-sum: 1",
        ],
        why: "pingora drops trailers of requests in chunks.",
    },
    Difference {
        requests: &["answered /chunks"],
        lines: &["podline: answers 200 with trailer x-sum: 1"],
        why: "pingora drops trailers of answers in chunks.",
    },
    Difference {
        requests: &[
            "a connection that names who it is from",
            "a connection that names the host",
        ],
        lines: &[
            "podline: 200; forwards GET / HTTP/1.1 (host: a) body <>",
            "pingora: 400",
        ],
        why: "Neither lets a client take these fields out: Podline keeps or writes them, pingora refuses.",
    },
    Difference {
        requests: &["an upgrade that the connection does not name"],
        lines: &[
            "podline: 502",
            "podline: keeps the connection",
            "podline: answers 502 itself",
            "pingora: 101",
            "pingora: ends the connection",
            "pingora: answers 101 with body <ping>",
            "pingora: answers 101 with upgrade: websocket",
            "pingora: forwards connection: upgrade",
            "pingora: forwards upgrade: websocket",
        ],
        why: "RFC 9110 (7.8): without Connection it is no upgrade. The backend switches all the same, which Podline does not believe.",
    },
    Difference {
        requests: &["answered /switch"],
        lines: &[
            "podline: 502",
            "podline: keeps the connection",
            "podline: answers 502 itself",
            "pingora: 101",
            "pingora: ends the connection",
            "pingora: answers 101 with body <>",
            "pingora: answers 101 with upgrade: websocket",
        ],
        why: "The backend switches unasked. pingora tells the client so, and ends.",
    },
    Difference {
        requests: &["an expectation without a body", "HTTP/1.0 that expects"],
        lines: &[
            "podline: 200",
            "pingora: 100, 200",
            "pingora: answers 100 with body <>",
            "pingora: forwards expect: 100-continue",
        ],
        why: "RFC 9110 (10.1.1): to be ignored where nothing waits, and in HTTP/1.0, which knows no interim answers.",
    },
    Difference {
        requests: &["100-continue"],
        lines: &[
            "podline: keeps the connection",
            "pingora: ends the connection",
        ],
        why: "pingora ends connections whose answer began before their body was read, as it counts 100.",
    },
    Difference {
        requests: &["HEAD of chunks"],
        lines: &["pingora: answers 200 with transfer-encoding: chunked"],
        why: "RFC 9112 (6.1) lets it be said or left out, where no body follows.",
    },
    Difference {
        requests: &["answered /hop"],
        lines: &[
            "pingora: answers 200 with x-hop: 1",
            "pingora: answers 200 with keep-alive: timeout=5",
            "pingora: answers 200 with proxy-connection: a",
        ],
        why: "RFC 9110 (7.6.1): fields of the backend's connection go no further.",
    },
    Difference {
        requests: &["answered /proxy-authenticate"],
        lines: &["pingora: answers 407 with proxy-authenticate: Basic"],
        why: "RFC 9110 (11.7.1): it is for who asked the backend, which is the proxy.",
    },
    Difference {
        requests: &["answered /same-lengths"],
        lines: &["pingora: answers 200 with content-length: 2"],
        why: "Podline makes equal lengths one (RFC 9110, 8.6).",
    },
    Difference {
        requests: &[
            "answered /two-lengths",
            "answered /signed-length",
            "answered /nonsense",
            "answered /nothing",
        ],
        lines: &[
            "podline: keeps the connection",
            "pingora: ends the connection",
        ],
        why: "Both answer 502. The client's connection is as good as before.",
    },
    Difference {
        requests: &["answered /length-and-chunks"],
        lines: &[
            "podline: 502",
            "podline: answers 502 itself",
            "pingora: 200",
            "pingora: answers 200 with body <ok>",
            "pingora: answers 200 with transfer-encoding: chunked",
        ],
        why: "RFC 9112 (6.3) lets chunks win, and asks to handle it as an error, as an answer may be split so.",
    },
    Difference {
        requests: &["answered /old-chunks"],
        lines: &[
            "podline: 502",
            "podline: answers 502 itself",
            "pingora: 200",
            "pingora: answers 200 with body <ok>",
            "pingora: answers 200 with transfer-encoding: chunked",
        ],
        why: "RFC 9112 (6.1): chunks in HTTP/1.0 are faulty framing.",
    },
    Difference {
        requests: &["answered /coding"],
        lines: &[
            "podline: 502",
            "podline: keeps the connection",
            "podline: answers 502 itself",
            "pingora: 200",
            "pingora: ends the connection",
            "pingora: answers 200 with a body that is cut",
            "pingora: answers 200 with transfer-encoding: gzip",
        ],
        why: "A coding that nobody asked for by TE; pingora passes it on, up to the end of the connection.",
    },
    Difference {
        requests: &["answered /folded"],
        lines: &[
            "podline: 502",
            "podline: answers 502 itself",
            "pingora: 200",
            "pingora: answers 200 with body <ok>",
            "pingora: answers 200 with x: a b",
            "pingora: answers 200 with content-length: 2",
        ],
        why: "RFC 9112 (5.2) leaves the choice between 502 and a space in the fold's place.",
    },
    Difference {
        requests: &["answered /bare-line-feed"],
        lines: &[
            "podline: 502",
            "podline: answers 502 itself",
            "pingora: 200",
            "pingora: answers 200 with body <ok>",
            "pingora: answers 200 with x: a",
            "pingora: answers 200 with content-length: 2",
        ],
        why: "To pingora a bare LF ends a line.",
    },
    Difference {
        requests: &["answered /broken-chunks"],
        lines: &[
            "podline: 502",
            "podline: keeps the connection",
            "podline: answers 502 itself",
            "pingora: 200",
            "pingora: ends the connection",
            "pingora: answers 200 with a body that is cut",
            "pingora: answers 200 with transfer-encoding: chunked",
        ],
        why: "Neither passes it for whole. Podline has not sent the head when it reads the first chunk; pingora has, and cuts.",
    },
    Difference {
        requests: &["a length with zeroes"],
        lines: &[
            "podline: forwards content-length: 3",
            "pingora: forwards content-length: 003",
        ],
        why: "Podline writes lengths anew.",
    },
    Difference {
        requests: &["no name of a host"],
        lines: &["podline: forwards host: "],
        why: "Both make HTTP/1.1 of it, which must have a Host field (RFC 9112, 3.2).",
    },
    Difference {
        requests: &["HTTP/1.0 and an answer in chunks"],
        lines: &[
            "podline: ends the connection",
            "pingora: keeps the connection",
            "pingora: answers 200 with transfer-encoding: chunked",
        ],
        why: "RFC 9112 (6.1): HTTP/1.0 knows no chunks.",
    },
    Difference {
        requests: &["two requests at once"],
        lines: &[
            "podline: 200, 200",
            "podline: keeps the connection",
            "podline: answers 200 with body <hello>",
            "podline: answers 200 with content-length: 5",
            "podline: forwards GET /2 HTTP/1.1",
            "podline: forwards host: a",
            "podline: forwards x-forwarded-for: 127.0.0.1",
            "podline: forwards body <>",
            "pingora: 200",
            "pingora: ends the connection",
        ],
        why: "pingora takes requests that were sent ahead only where it is told to.",
    },
];
