//! HTTP listeners: what is taken from a file, with which defaults, and what is refused.

use podline_api::{
    Document, Http, HttpRoute, Listener, Name, PathMatch, Protocol, Redirect, RedirectPath,
    RouteAction, Transport, v1,
};
use std::time::Duration;

fn listener(protocol: &str, lines: &str) -> String {
    format!("listeners: [{{name: a, address: '127.0.0.1:80', protocol: {protocol}, {lines}}}]")
}

fn read(lines: &str) -> Listener {
    let mut document = Document::from_yaml(&listener("HTTP", lines)).unwrap();
    document.listeners.remove(0)
}

/// What is wrong with a listener of this protocol that has these lines.
fn refused(protocol: &str, lines: &str, expected: &[&str]) {
    let found: Vec<_> = match Document::from_yaml(&listener(protocol, lines)) {
        Ok(document) => vec![format!("accepted {document:?}")],
        Err(invalid) => invalid.violations.iter().map(ToString::to_string).collect(),
    };
    let expected: Vec<_> = expected
        .iter()
        .map(|problem| format!("listeners[0].{problem}"))
        .collect();
    assert_eq!(found, expected, "{lines}");
}

/// What is wrong with a route that has these lines.
fn refused_route(lines: &str, expected: &[&str]) {
    let expected: Vec<_> = expected.iter().map(|e| format!("routes[1]{e}")).collect();
    let expected: Vec<_> = expected.iter().map(String::as_str).collect();
    let lines = format!("routes: [{{backendSet: a}}, {{{lines}}}]");
    refused("HTTP", &lines, &expected);
}

fn name(text: &str) -> Name {
    text.parse().unwrap()
}

#[test]
fn a_listener_for_requests_has_defaults() {
    let listener = read("backendSet: web");
    assert_eq!(listener.protocol, Protocol::Http);
    assert_eq!(listener.protocol.transport(), Transport::Tcp);
    assert_eq!(listener.http, Some(Http::default()));
    assert_eq!(listener.idle_timeout, Duration::from_mins(15));
    assert_eq!(listener.half_closed_timeout, Duration::from_mins(1));
    let address = "127.0.0.1:80".parse().unwrap();
    let same = Listener::new(name("a"), address, Protocol::Http, name("web"));
    assert_eq!(listener, same);
    for protocol in [Protocol::Tcp, Protocol::Udp] {
        let listener = Listener::new(name("a"), address, protocol, name("web"));
        assert_eq!(listener.http, None);
    }
}

#[test]
fn routes_and_settings_are_read() {
    let listener = read(
        "routes: [{hosts: [WWW.Example.com, '*.Example.ORG'], path: {exact: /a}, backendSet: api}, {backendSet: web}, \
         {path: {prefix: /old}, redirect: {scheme: HTTPS, port: 8443, prefix: /new, status: 308}}, \
         {redirect: {host: example.com}}, {path: {prefix: /b}, backendSet: api}], \
         http: {requestTimeout: 5s, keepAliveTimeout: 0s, maxBodyBytes: 1024, trustedProxies: [10.0.0.1], maxConnectionAge: 1h}",
    );
    assert_eq!(listener.backend_set, None);
    let http = listener.http.as_ref().unwrap();
    let [first, all, moved, elsewhere, _] = &*http.routes else {
        panic!("{http:?}");
    };
    assert_eq!(first.hosts, ["www.example.com", "*.example.org"]);
    assert_eq!(first.path, PathMatch::Exact("/a".to_owned()));
    assert_eq!(first.action, RouteAction::Forward(name("api")));
    assert_eq!(
        (&all.path, all.hosts.len()),
        (&PathMatch::Prefix("/".to_owned()), 0)
    );
    let redirect = Redirect {
        scheme: Some("https".to_owned()),
        host: None,
        port: Some(8443),
        path: Some(RedirectPath::Prefix("/new".to_owned())),
        status: 308,
    };
    assert_eq!(moved.action, RouteAction::Redirect(redirect));
    assert_eq!(elsewhere.action.to_string(), "302 to host example.com");
    assert_eq!(
        (http.request_timeout, http.response_timeout),
        (Duration::from_secs(5), Duration::from_mins(1))
    );
    assert_eq!(
        (http.keep_alive_timeout, http.max_body_bytes),
        (Duration::ZERO, 1_024)
    );
    assert_eq!(http.trusted, ["10.0.0.1/32".parse().unwrap()]);
    assert_eq!(http.max_connection_age, Some(Duration::from_hours(1)));
    let sets: Vec<_> = listener.sets().into_iter().map(Name::as_str).collect();
    assert_eq!(sets, ["api", "web"], "each once");
    let named: Vec<_> = listener.named_sets().map(|(field, _)| field).collect();
    assert_eq!(
        named,
        [
            "routes[0].backendSet",
            "routes[1].backendSet",
            "routes[4].backendSet"
        ]
    );
    assert!(listener.leads_to(&name("api")) && !listener.leads_to(&name("other")));
}

#[test]
fn what_belongs_to_another_protocol_is_refused() {
    for protocol in ["TCP", "UDP"] {
        refused(
            protocol,
            "backendSet: a, routes: [{backendSet: a}], http: {}",
            &[
                "routes: is for `protocol: HTTP` or `HTTPS`",
                "http: is for `protocol: HTTP` or `HTTPS`",
            ],
        );
        refused(protocol, "idleTimeout: 1s", &["backendSet: is required"]);
    }
    refused(
        "HTTP",
        "http: {}",
        &["backendSet: is required: name a set, or write routes"],
    );
    refused(
        "HTTP",
        "backendSet: a b",
        &["backendSet: must not hold ' ': use A-Z a-z 0-9 . _ / -"],
    );
    read("backendSet: a, halfClosedTimeout: 5s, proxyProtocol: {send: V2}");
}

#[test]
fn listeners_of_one_transport_cannot_share_an_address() {
    let with = |protocol: &str| {
        let both = format!(
            "listeners:\n- {{name: a, address: '127.0.0.1:80', protocol: HTTP, backendSet: a}}\n\
             - {{name: b, address: '127.0.0.1:80', protocol: {protocol}, backendSet: a}}\n"
        );
        Document::from_yaml(&both).map_err(|invalid| invalid.to_string())
    };
    assert!(with("UDP").is_ok());
    let problem = "listeners[1].address: 127.0.0.1:80 is the address of listeners[0] too";
    assert_eq!(with("TCP"), Err(problem.to_owned()));
}

#[test]
fn routes_that_make_no_sense_are_refused_by_field() {
    refused_route(
        "",
        &[".backendSet: is required: name a set, or write redirect"],
    );
    refused_route(
        "backendSet: a, redirect: {scheme: https}",
        &[".redirect: stands beside backendSet: write one of both"],
    );
    refused_route(
        "backendSet: a, hosts: [a.example, a_b.example, '*', 'a.*', '-a', 'a:80', 'a..b', '', '[::1]']",
        &["a_b.example", "*", "a.*", "-a", "a:80", "a..b", "", "[::1]"]
            .iter()
            .enumerate()
            .map(|(n, host)| {
                format!(
                    ".hosts[{}]: {host:?} is no host name: write www.example.com, or *.example.com where a wildcard may stand, without port",
                    n + 1
                )
            })
            .collect::<Vec<_>>()
            .iter()
            .map(String::as_str)
            .collect::<Vec<_>>(),
    );
    refused_route(
        "backendSet: a, path: {}",
        &[".path: says nothing: write exact or prefix, or leave path out"],
    );
    refused_route(
        "backendSet: a, path: {exact: /, prefix: /}",
        &[".path: says exact and prefix: write one of both"],
    );
    for (path, problem) in [
        ("a", "does not begin with /"),
        ("", "does not begin with /"),
        (
            "/a b",
            "must be printable ASCII without spaces, ? and #: write others as %20",
        ),
        (
            "/a?b",
            "must be printable ASCII without spaces, ? and #: write others as %20",
        ),
        (
            "/a#b",
            "must be printable ASCII without spaces, ? and #: write others as %20",
        ),
        (
            "/ä",
            "must be printable ASCII without spaces, ? and #: write others as %20",
        ),
    ] {
        for field in ["exact", "prefix"] {
            refused_route(
                &format!("backendSet: a, path: {{{field}: '{path}'}}"),
                &[&format!(".path.{field}: {path:?} {problem}")],
            );
        }
    }
    let long = format!("/{}", "a".repeat(1_024));
    refused_route(
        &format!("backendSet: a, path: {{prefix: {long}}}"),
        &[".path.prefix: is longer than 1024 characters"],
    );
}

#[test]
fn redirects_that_make_no_sense_are_refused_by_field() {
    let changes_nothing = ".redirect: changes nothing: write scheme, host, port, path or prefix";
    refused_route("redirect: {}", &[changes_nothing]);
    refused_route("redirect: {status: 301}", &[changes_nothing]);
    refused_route(
        "redirect: {scheme: ftp, host: '*.example.com', port: 65536, path: a, prefix: b, status: 200}",
        &[
            ".redirect.scheme: \"ftp\" is no scheme: use http or https",
            ".redirect.host: \"*.example.com\" is no host name: write www.example.com, or *.example.com where a wildcard may stand, without port",
            ".redirect.port: 65536 is out of range: use 1 to 65535",
            ".redirect.path: \"a\" does not begin with /",
            ".redirect.prefix: \"b\" does not begin with /",
            ".redirect.prefix: stands beside path: write one of both",
            ".redirect.status: 200 is no redirect: use 301, 302, 303, 307 or 308",
        ],
    );
    refused_route(
        "path: {exact: /a}, redirect: {prefix: /b}",
        &[
            ".redirect.prefix: is for routes with a prefix: use redirect.path where the path is exact",
        ],
    );
}

#[test]
fn settings_keep_to_their_ranges() {
    let check = |lines: &str, expected: &[&str]| {
        let expected: Vec<_> = expected.iter().map(|e| format!("http.{e}")).collect();
        let expected: Vec<_> = expected.iter().map(String::as_str).collect();
        refused(
            "HTTP",
            &format!("backendSet: a, http: {{{lines}}}"),
            &expected,
        );
    };
    check(
        "requestTimeout: 500ms, responseTimeout: 2h, keepAliveTimeout: 16m, maxBodyBytes: 1023, maxHeadBytes: 1023, \
         trustedProxies: [10.0.0.1/8, x], maxConnectionAge: 500ms",
        &[
            "requestTimeout: must be 1s to 2m",
            "responseTimeout: must be 1s to 1h",
            "keepAliveTimeout: must be 0s to 15m",
            "maxConnectionAge: must be 1s to 168h",
            "maxBodyBytes: 1023 is out of range: use 1024 to 10737418240",
            "maxHeadBytes: 1023 is out of range: use 1024 to 65536",
            "trustedProxies[0]: 10.0.0.1/8 has host bits: write 10.0.0.0/8",
            "trustedProxies[1]: \"x\" is no address range: write 10.0.0.0/8 or 2001:db8::/32",
        ],
    );
    check(
        "maxBodyBytes: 10737418241, maxHeadBytes: 65537, requestTimeout: 121s, maxConnectionAge: 169h",
        &[
            "requestTimeout: must be 1s to 2m",
            "maxConnectionAge: must be 1s to 168h",
            "maxBodyBytes: 10737418241 is out of range: use 1024 to 10737418240",
            "maxHeadBytes: 65537 is out of range: use 1024 to 65536",
        ],
    );
    read(
        "backendSet: a, http: {requestTimeout: 2m, responseTimeout: 1h, keepAliveTimeout: 15m, maxBodyBytes: 10737418240, \
         maxHeadBytes: 65536, maxConnectionAge: 168h}",
    );
}

#[test]
fn lists_keep_to_their_lengths() {
    let wire = |routes: usize, hosts: usize, ranges: usize| {
        let route = v1::HttpRoute {
            hosts: (0..hosts).map(|n| format!("h{n}.example")).collect(),
            backend_set: "a".to_owned(),
            ..Default::default()
        };
        let http = v1::HttpSettings {
            trusted_proxies: (0..ranges)
                .map(|n| format!("10.0.{}.{}", n / 250, n % 250))
                .collect(),
            ..Default::default()
        };
        let wire = v1::Listener {
            name: "a".to_owned(),
            address: "127.0.0.1:80".to_owned(),
            protocol: Some(v1::listener::Protocol::Http.into()),
            routes: vec![route; routes],
            http: Some(http),
            ..Default::default()
        };
        Listener::try_from(wire).map_err(|invalid| invalid.to_string())
    };
    assert!(wire(1_000, 1, 1_000).is_ok() && wire(1, 100, 0).is_ok());
    let refused = |field: &str, many: usize, most: usize| {
        let problem = format!("{field}: {many} entries are too many: use {most} at most");
        Err(problem)
    };
    assert_eq!(wire(1_001, 1, 0), refused("routes", 1_001, 1_000));
    assert_eq!(wire(1, 101, 0), refused("routes[0].hosts", 101, 100));
    assert_eq!(
        wire(1, 0, 1_001),
        refused("http.trustedProxies", 1_001, 1_000)
    );
}

/// xorshift64*: the same numbers in every run.
struct Random(u64);

impl Random {
    fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) % end
    }

    fn maybe<T>(&mut self, make: impl FnOnce(&mut Self) -> T) -> Option<T> {
        (self.below(2) == 0).then(|| make(self))
    }

    fn path(&mut self) -> String {
        let parts = ["", "/", "/a", "/%20b", "/c.d", "/~e/", "//", "/*"];
        (0..self.below(4)).fold("/".to_owned(), |path, _| {
            path + parts[usize::try_from(self.below(8)).unwrap()]
        })
    }

    fn host(&mut self) -> String {
        let wildcard = self.maybe(|_| "*.").unwrap_or_default();
        format!("{wildcard}h{}.example", self.below(50))
    }

    fn redirect(&mut self) -> Redirect {
        Redirect {
            scheme: Some(self.maybe(|_| "http").unwrap_or("https").to_owned()),
            host: self.maybe(|random| format!("h{}", random.below(9))),
            port: self.maybe(|random| u16::try_from(1 + random.below(65_535)).unwrap()),
            path: self.maybe(|random| {
                let path = random.path();
                match random.below(2) {
                    0 => RedirectPath::Full(path),
                    _ => RedirectPath::Prefix(path),
                }
            }),
            status: [301, 302, 303, 307, 308][usize::try_from(self.below(5)).unwrap()],
        }
    }

    fn route(&mut self) -> HttpRoute {
        let hosts = (0..self.below(4)).map(|_| self.host()).collect();
        let path = self.path();
        let (path, action) = match self.below(3) {
            0 => (
                PathMatch::Prefix(path),
                RouteAction::Redirect(self.redirect()),
            ),
            1 => (PathMatch::Prefix(path), RouteAction::Forward(name("a"))),
            _ => (PathMatch::Exact(path), RouteAction::Forward(name("b/c"))),
        };
        HttpRoute {
            hosts,
            path,
            action,
        }
    }

    fn listener(&mut self) -> Listener {
        let seconds = 1 + self.below(120);
        let bytes = 1_024 + u32::try_from(self.below(64_000)).unwrap();
        let http = Http {
            routes: (0..=self.below(5)).map(|_| self.route()).collect(),
            request_timeout: Duration::from_secs(seconds),
            response_timeout: Duration::from_secs(seconds * 30),
            keep_alive_timeout: Duration::from_millis(seconds - 1),
            max_body_bytes: u64::from(bytes) << self.below(17),
            max_head_bytes: bytes,
            trusted: (0..self.below(3))
                .map(|n| format!("10.{n}.0.0/16").parse().unwrap())
                .collect(),
            max_connection_age: self.maybe(|random| Duration::from_secs(1 + random.below(604_800))),
        };
        let address = "[::1]:80".parse().unwrap();
        Listener {
            backend_set: self.maybe(|_| name("web")),
            http: Some(http),
            ..Listener::new(name("a"), address, Protocol::Http, name("web"))
        }
    }
}

/// On the wire and in a file.
#[test]
fn what_is_right_survives_the_way_there_and_back() {
    let mut random = Random(0x9E37_79B9_7F4A_7C15);
    for _ in 0..500 {
        let listener = random.listener();
        let wire = v1::Listener::from(&listener);
        assert_eq!(Listener::try_from(wire).as_ref(), Ok(&listener));
        let document = Document {
            listeners: vec![listener],
            ..Document::default()
        };
        assert_eq!(Document::from_yaml(&document.to_yaml()), Ok(document));
    }
}
