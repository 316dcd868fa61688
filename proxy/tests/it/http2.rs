//! HTTP/2 from clients: each of their requests goes to a backend as one of HTTP/1.1 does, many at once on one connection.

mod backends;
mod ends;
mod grpc;
mod hostile;
mod secured;

use crate::harness::h2::{self, Client};
use crate::harness::web::{self, Reply, Server, serve_http, stay};
use crate::harness::{LONG, Proxy};
use podline_lab::wait;

#[test]
fn clients_of_both_versions_are_served_at_one_address() {
    let proxy = Proxy::start();
    let server = Server::saying("a");
    let address = serve_http(&proxy, &[server.address]);
    h2::run(async {
        let client = Client::connect(address).await;
        for _ in 0..10 {
            let answer = client.get("/x?y=z").await.unwrap();
            assert_eq!((answer.status(), &*answer.text()), (200, "a"));
        }
    });
    assert_eq!(web::Client::connect(address).get("/").text(), "a");
    let got = &server.seen()[0];
    assert_eq!(got.line(), "GET /x?y=z HTTP/1.1");
    assert_eq!(got.field("host"), Some("shop.example"));
    assert_eq!(got.field("x-forwarded-for"), Some("127.0.0.1"));
    assert_eq!(got.field("x-forwarded-proto"), Some("http"));
    assert_eq!(proxy.listener("web").accepted_connections, 2);
    wait::until(LONG, "the last answer is counted, too", || {
        proxy.listener("web").http.unwrap().answers[1] == 11
    });
}

#[test]
fn bodies_pass_both_ways_whole() {
    let proxy = Proxy::start();
    let server = Server::start(|got| Reply::Stay(echo(&got.data)));
    let address = serve_http(&proxy, &[server.address]);
    h2::run(async {
        let client = Client::connect(address).await;
        for size in [0, 1, 70_000, 5_000_000] {
            let body: Vec<u8> = (0..size).map(|n: u32| n.to_le_bytes()[1]).collect();
            for length in [None, Some(size)] {
                let mut request = h2::request("POST", "/");
                if let Some(length) = length {
                    request
                        .headers_mut()
                        .insert("content-length", length.into());
                }
                let answer = client.ask(request, &body, None).await.unwrap();
                assert_eq!(answer.status(), 200);
                assert!(answer.body == body, "{size}");
            }
        }
    });
}

fn echo(body: &[u8]) -> Vec<u8> {
    let length = body.len();
    let mut bytes = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n").into_bytes();
    bytes.extend_from_slice(body);
    bytes
}

#[test]
fn a_hundred_requests_at_once_share_a_connection() {
    let proxy = Proxy::start();
    let server = Server::start(|got| stay(got.line()));
    let address = serve_http(&proxy, &[server.address]);
    h2::run(async {
        let client = Client::connect(address).await;
        for _ in 0..5 {
            let paths: Vec<String> = (0..100).map(|n| format!("/{n}")).collect();
            let answers = paths.iter().map(|path| client.get(path));
            let answers = futures_util::future::join_all(answers).await;
            for (path, answer) in paths.iter().zip(answers) {
                assert_eq!(answer.unwrap().text(), format!("GET {path} HTTP/1.1"));
            }
        }
    });
    let listener = proxy.listener("web");
    assert_eq!(listener.accepted_connections, 1);
    assert_eq!(server.seen().len(), 500);
}

#[test]
fn what_comes_before_and_behind_an_answer_passes() {
    let proxy = Proxy::start();
    let server = Server::start(|got| {
        let text = match got.line().split(' ').nth(1).unwrap() {
            "/hints" => {
                "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n\
                 HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\na"
            }
            "/trailers" => {
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nConnection: close, x-mine\r\n\
                 X-Mine: 1\r\n\r\n1\r\na\r\n0\r\nGrpc-Status: 7\r\n\r\n"
            }
            _ => "HTTP/1.1 304 Not Modified\r\nContent-Length: 7\r\n\r\n",
        };
        Reply::Stay(text.as_bytes().to_vec())
    });
    let address = serve_http(&proxy, &[server.address]);
    h2::run(async {
        let client = Client::connect(address).await;
        let answer = client.get("/trailers").await.unwrap();
        assert_eq!(answer.text(), "a");
        assert_eq!(answer.trailers.unwrap()["grpc-status"], "7");
        for name in ["connection", "transfer-encoding", "x-mine"] {
            assert!(answer.head.headers().get(name).is_none(), "{name}");
        }
        let (mut answer, _) = client.send(h2::get("/hints"), true).await.unwrap();
        let hints = std::future::poll_fn(|context| answer.poll_informational(context)).await;
        let hints = hints.unwrap().unwrap();
        assert_eq!(
            (hints.status().as_u16(), &hints.headers()["link"]),
            (103, &"</a>".parse().unwrap())
        );
        assert_eq!(h2::read(answer).await.unwrap().text(), "a");
        let answer = client.get("/unchanged").await.unwrap();
        assert_eq!(
            (answer.status(), answer.field("content-length")),
            (304, Some("7"))
        );
        let answer = client
            .ask(h2::request("HEAD", "/unchanged"), b"", None)
            .await;
        assert_eq!(answer.unwrap().status(), 304);
    });
}

#[test]
fn a_request_with_trailers_and_cookies_reaches_its_backend_whole() {
    let proxy = Proxy::start();
    let server = Server::saying("a");
    let address = serve_http(&proxy, &[server.address]);
    h2::run(async {
        let client = Client::connect(address).await;
        let mut request = h2::request("POST", "/");
        for cookie in ["a=b", "c=d"] {
            let cookie = cookie.parse().unwrap();
            request.headers_mut().append("cookie", cookie);
        }
        request
            .headers_mut()
            .insert("te", "trailers".parse().unwrap());
        let mut trailers = http::HeaderMap::new();
        trailers.insert("x-sum", "1".parse().unwrap());
        let answer = client.ask(request, b"body", Some(trailers)).await;
        assert_eq!(answer.unwrap().text(), "a");
    });
    let got = server.last();
    assert_eq!(got.data, b"body");
    assert!(got.body.ends_with(b"0\r\nx-sum: 1\r\n\r\n"));
    assert_eq!(got.field("cookie"), Some("a=b; c=d"));
    assert_eq!(got.field("te"), Some("trailers"));
}

#[test]
fn the_proxys_own_answers_come_in_http2_too() {
    let proxy = Proxy::start();
    let address = serve_http(&proxy, &[]);
    h2::run(async {
        let client = Client::connect(address).await;
        let answer = client.get("/").await.unwrap();
        assert_eq!(
            (answer.status(), answer.reason()),
            (503, Some("no-backend"))
        );
        let big = "a".repeat(12_000);
        let mut request = h2::get("/");
        for n in 0..8 {
            let name = http::HeaderName::try_from(format!("x-{n}")).unwrap();
            request.headers_mut().insert(name, big.parse().unwrap());
        }
        let answer = client.ask(request, b"", None).await.unwrap();
        assert_eq!(answer.status(), 431);
        let tunnel = http::Request::builder()
            .method("CONNECT")
            .uri("shop.example:443")
            .body(())
            .unwrap();
        let (answer, _body) = client.send(tunnel, false).await.unwrap();
        let answer = h2::read(answer).await.unwrap();
        assert_eq!(
            (answer.status(), answer.reason()),
            (501, Some("not-implemented"))
        );
    });
}
