//! Requests that every proxy has to forward, by their names. What their paths are answered with: `backend`.

/// A request.
#[derive(Clone)]
pub(super) struct Request {
    pub(super) name: String,
    pub(super) bytes: Vec<u8>,
    /// What is sent when an interim answer has come.
    pub(super) late: &'static [u8],
}

impl Request {
    pub(super) fn new(name: &str, text: impl AsRef<[u8]>) -> Self {
        Self {
            name: name.to_owned(),
            bytes: text.as_ref().to_vec(),
            late: b"",
        }
    }
}

/// Paths whose answers are those of a backend that keeps to the protocol, and of one that does not.
const PATHS: &[&str] = &[
    "/none",
    "/unchanged",
    "/end",
    "/chunks",
    "/early",
    "/hop",
    "/proxy-authenticate",
    "/upgrade-required",
    "/switch",
    "/same-lengths",
    "/two-lengths",
    "/signed-length",
    "/length-and-chunks",
    "/coding",
    "/old-chunks",
    "/folded",
    "/bare-line-feed",
    "/cut",
    "/cut-chunks",
    "/broken-chunks",
    "/longer",
    "/nonsense",
    "/nothing",
];

/// First lines and fields of requests without a body; the host is always `a`.
const GETS: &[(&str, &str, &str)] = &[
    ("GET", "GET /a?b=c", ""),
    ("OPTIONS of all", "OPTIONS *", ""),
    ("HEAD", "HEAD /head", ""),
    ("HEAD of chunks", "HEAD /head-chunks", ""),
    ("DELETE", "DELETE /", ""),
    ("an unknown method", "PURR /", ""),
    ("a target with what is not ASCII", "GET /\u{e9}", ""),
    ("a target with what others escape", "GET /{a}|\"b\"<c>", ""),
    ("dots in a path", "GET /a/../b//c/./d", ""),
    ("escaped bytes in a path", "GET /%2e%2e/%2F%00", ""),
    (
        "fields of the connection",
        "GET /",
        "Connection: keep-alive, X-Mine\r\nX-Mine: 1\r\nKeep-Alive: 5\r\n",
    ),
    ("a client that ends", "GET /", "Connection: close\r\n"),
    (
        "fields for proxies",
        "GET /",
        "Proxy-Connection: keep-alive\r\nProxy-Authorization: Basic YQ==\r\n",
    ),
    ("a proxy's name", "GET /", "Proxy: http://a\r\n"),
    ("TE", "GET /", "TE: trailers, deflate\r\nConnection: TE\r\n"),
    (
        "a forwarded client",
        "GET /",
        "X-Forwarded-For: 192.0.2.1\r\n",
    ),
    (
        "a forwarded client in two",
        "GET /",
        "X-Forwarded-For: 192.0.2.1\r\nX-Forwarded-For: 192.0.2.2\r\n",
    ),
    (
        "a client's own word",
        "GET /",
        "X-Forwarded-Proto: https\r\nX-Real-IP: 192.0.2.1\r\nForwarded: for=192.0.2.1\r\n",
    ),
    (
        "names with underscores",
        "GET /",
        "X_Forwarded_For: 192.0.2.1\r\nX_Other: 1\r\n",
    ),
    (
        "a connection that names who it is from",
        "GET /",
        "Connection: X-Forwarded-For\r\n",
    ),
    (
        "a connection that names the host",
        "GET /",
        "Connection: close, Host, Cookie\r\nCookie: a=b\r\n",
    ),
    (
        "fields of one name",
        "GET /",
        "X-A: 1\r\nX-A: 2\r\nCookie: a=b\r\nCookie: c=d\r\n",
    ),
    ("an empty field", "GET /", "X-A:\r\nX-B: \t \r\n"),
    ("a value of any bytes", "GET /", "X-A: \u{e9}\t!\r\n"),
    (
        "a name of any characters",
        "GET /",
        "!#$%&'*+-.^_`|~: 1\r\n",
    ),
    (
        "a WebSocket",
        "GET /switch",
        "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: x\r\n",
    ),
    (
        "an upgrade that is declined",
        "GET /",
        "Connection: Upgrade\r\nUpgrade: websocket\r\n",
    ),
    (
        "an upgrade that the connection does not name",
        "GET /switch",
        "Upgrade: websocket\r\n",
    ),
    (
        "an upgrade to HTTP/2",
        "GET /",
        "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAA\r\n",
    ),
    (
        "an expectation without a body",
        "GET /",
        "Expect: 100-continue\r\n",
    ),
];

/// Whole requests.
const WHOLE: &[(&str, &str)] = &[
    (
        "POST with a length",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc",
    ),
    ("POST with no length", "POST / HTTP/1.1\r\nHost: a\r\n\r\n"),
    (
        "POST of nothing",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n",
    ),
    (
        "a length with zeroes",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 003\r\n\r\nabc",
    ),
    (
        "GET with a body",
        "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc",
    ),
    (
        "chunks",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n00\r\n\r\n",
    ),
    (
        "chunks in capitals",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: Chunked\r\n\r\nA\r\n0123456789\r\n0\r\n\r\n",
    ),
    (
        "chunks with extensions",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3;x=y\r\nabc\r\n0 ;z\r\n\r\n",
    ),
    (
        "chunks with a trailer",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n3\r\nabc\r\n0\r\nX-Sum: 1\r\n\r\n",
    ),
    (
        "a trailer that frames",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nContent-Length: 9\r\n\r\n",
    ),
    ("no name of a host", "GET / HTTP/1.0\r\n\r\n"),
    ("HTTP/1.0", "GET / HTTP/1.0\r\nHost: a\r\n\r\n"),
    (
        "HTTP/1.0 that stays",
        "GET / HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\n\r\n",
    ),
    (
        "HTTP/1.0 and an answer in chunks",
        "GET /chunks HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\n\r\n",
    ),
    (
        "HTTP/1.0 in chunks",
        "POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ),
    (
        "HTTP/1.0 that expects",
        "POST / HTTP/1.0\r\nHost: a\r\nContent-Length: 1\r\nExpect: 100-continue\r\n\r\na",
    ),
    ("another HTTP/1", "GET / HTTP/1.2\r\nHost: a\r\n\r\n"),
    ("HTTP/0.9", "GET /\r\n\r\n"),
    (
        "an empty line before",
        "\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
    ),
    (
        "the absolute form",
        "GET http://a/b HTTP/1.1\r\nHost: a\r\n\r\n",
    ),
    (
        "the absolute form of another port",
        "GET http://a:81/b HTTP/1.1\r\nHost: a\r\n\r\n",
    ),
    (
        "a host with a port",
        "GET / HTTP/1.1\r\nHost: a:18080\r\n\r\n",
    ),
    ("a host in capitals", "GET / HTTP/1.1\r\nHost: A\r\n\r\n"),
    ("an empty host", "GET / HTTP/1.1\r\nHost:\r\n\r\n"),
    (
        "two requests at once",
        "GET /1 HTTP/1.1\r\nHost: a\r\n\r\nGET /2 HTTP/1.1\r\nHost: a\r\n\r\n",
    ),
];

/// All of them.
pub(super) fn all() -> Vec<Request> {
    let get = |(name, line, fields): &(&str, &str, &str)| {
        Request::new(name, format!("{line} HTTP/1.1\r\nHost: a\r\n{fields}\r\n"))
    };
    let answered = |path: &&str| get(&(&format!("answered {path}"), &format!("GET {path}"), ""));
    let mut all: Vec<_> = GETS.iter().map(get).collect();
    all.extend(PATHS.iter().map(answered));
    all.extend(WHOLE.iter().map(|(name, text)| Request::new(name, text)));
    all.push(Request {
        late: b"abc",
        ..Request::new(
            "100-continue",
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n",
        )
    });
    let long = |bytes: usize| "x".repeat(bytes);
    let get =
        |name: &str, target: &str, fields: &str| get(&(name, &format!("GET /{target}"), fields));
    all.push(get("a target of 4 KiB", &long(4 << 10), ""));
    all.push(get(
        "a field of 16 KiB",
        "",
        &format!("X-A: {}\r\n", long(16 << 10)),
    ));
    all.push(get(
        "a head of 100 KiB",
        "",
        &format!("X-A: {}\r\n", long(100 << 10)),
    ));
    all.push(get("90 fields", "", &"X-A: 1\r\n".repeat(90)));
    all.push(get("150 fields", "", &"X-A: 1\r\n".repeat(150)));
    all.push(get("300 fields", "", &"X-A: 1\r\n".repeat(300)));
    all
}
