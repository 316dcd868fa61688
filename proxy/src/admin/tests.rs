//! The admin pages of a whole proxy, over real sockets.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::pages::DASHBOARD;
use crate::app::{self, Running};
use crate::settings::Settings;

async fn start() -> Running {
    let settings = Settings {
        workers: Some(1),
        api: vec!["127.0.0.1:0".parse().unwrap()],
        admin: "127.0.0.1:0".parse().unwrap(),
        metrics: Some("127.0.0.1:0".parse().unwrap()),
        ..Settings::default()
    };
    app::start(settings).await.unwrap()
}

async fn send(address: SocketAddr, request: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    // What the proxy does not read ends in a reset; what it answered before counts.
    let _ = stream.read_to_end(&mut answer).await;
    String::from_utf8(answer).unwrap()
}

async fn get(address: SocketAddr, path: &str) -> (String, String) {
    let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
    let answer = send(address, &request).await;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.to_owned(), body.to_owned())
}

async fn check(address: SocketAddr, path: &str, status: u16, contains: &str) {
    let (head, body) = get(address, path).await;
    assert!(
        head.starts_with(&format!("HTTP/1.1 {status} ")),
        "{path}: {head}"
    );
    assert!(body.contains(contains), "{path}: {body}");
    assert!(head.contains("cache-control: no-store"), "{path}: {head}");
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_answer_and_the_metrics_address_has_fewer() {
    let running = start().await;
    let admin = running.admin;
    check(admin, "/healthz", 200, "ok").await;
    check(admin, "/readyz", 200, "ready").await;
    check(admin, "/metrics", 200, "\npodline_version ").await;
    check(admin, "/state", 200, "\"backendSets\":[]").await;
    check(admin, "/state?summary", 200, "\"ready\":true").await;
    check(admin, "/", 200, "<title>Podline</title>").await;
    check(admin, "/nothing", 404, "/state?summary").await;
    let metrics = running.metrics.unwrap();
    check(metrics, "/healthz", 200, "ok").await;
    check(metrics, "/readyz", 200, "ready").await;
    check(metrics, "/metrics", 200, "podline_build_info").await;
    for path in ["/", "/state"] {
        check(metrics, path, 404, "/metrics").await;
    }
    running.shutdown().await;
    assert!(TcpStream::connect(admin).await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_a_small_read_is_refused() {
    let running = start().await;
    let post = "POST /state HTTP/1.1\r\nhost: x\r\ncontent-length: 1000000\r\n\r\nabc";
    assert!(send(running.admin, post).await.starts_with("HTTP/1.1 405 "));
    let long = format!("GET /{} HTTP/1.1\r\nhost: x\r\n\r\n", "a".repeat(64 << 10));
    let answer = send(running.admin, &long).await;
    assert!(
        answer.is_empty() || answer.starts_with("HTTP/1.1 4"),
        "{answer}"
    );
    let many = format!("GET / HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(1_000));
    assert!(!send(running.admin, &many).await.starts_with("HTTP/1.1 200"));
    let answer = send(running.admin, "\x16\x03\x01 no http\r\n\r\n").await;
    assert!(
        answer.is_empty() || answer.starts_with("HTTP/1.1 400 "),
        "{answer}"
    );
    check(running.admin, "/healthz", 200, "ok").await;
    running.shutdown().await;
}

#[test]
fn the_dashboard_needs_nothing_from_elsewhere() {
    for outside in [
        "src=",
        "@import",
        "url(",
        "https://",
        "<link rel=\"stylesheet\"",
        "innerHTML",
    ] {
        assert!(!DASHBOARD.contains(outside), "{outside}");
    }
    // The one address is the name of SVG's namespace, which nobody fetches.
    let addresses: Vec<_> = DASHBOARD.split("http://").skip(1).collect();
    assert_eq!(addresses.len(), 1);
    assert!(addresses[0].starts_with("www.w3.org/2000/svg\""));
    assert!(DASHBOARD.contains("prefers-color-scheme: dark"));
}

#[test]
fn the_dashboards_tags_are_balanced() {
    let body = DASHBOARD.split("<script>").next().unwrap();
    let mut open = Vec::new();
    for tag in body
        .split('<')
        .skip(1)
        .map(|rest| rest.split('>').next().unwrap())
    {
        let name = tag
            .trim_start_matches('/')
            .split([' ', '\n'])
            .next()
            .unwrap();
        match (tag.starts_with('/'), name) {
            (true, _) => assert_eq!(open.pop(), Some(name)),
            (false, "!doctype" | "meta" | "link") => {}
            (false, _) => open.push(name),
        }
    }
    // `</main>`, `</body>` and `</html>` come after the script.
    assert_eq!(open, ["html", "body"]);
    assert!(DASHBOARD.ends_with("</script>\n</body>\n</html>\n"));
}
