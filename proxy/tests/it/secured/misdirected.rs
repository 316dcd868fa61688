//! Requests on a connection that was made for another host: with another certificate they are sent away.

use podline_api::v1::listener::Protocol;
use podline_lab::wait;

use super::serve;
use crate::harness::h2;
use crate::harness::secure::{self, Tls, made};
use crate::harness::web::{Client, Server};
use crate::harness::{LONG, Proxy};

const A: &str = "a.example";

/// What hosts a connection for [`A`] may be asked for, beside a certificate of its own for `b.example`.
const ASKED: [(&str, u16); 7] = [
    (A, 200),
    ("b.example", 421),
    ("B.Example.:8443", 421),
    ("x.wild.example", 421),
    // Another name of the certificate that was shown, and a name that no certificate is for.
    ("also.example", 200),
    ("nobody.example", 200),
    ("A.example:443", 200),
];

#[test]
fn a_request_for_a_host_with_another_certificate_is_sent_to_a_connection_of_its_own() {
    let (proxy, server) = (Proxy::start(), Server::saying("a"));
    let pairs = [
        made(&[A, "also.example"]),
        made(&["b.example"]),
        made(&["*.wild.example"]),
    ];
    let all = [&pairs[0], &pairs[1], &pairs[2]];
    let tls = secure::settings(&all);
    let address = serve(&proxy, Protocol::Https, &[server.address], tls);
    let tls = Tls::trusting(&all);
    // The second session is the first one's, resumed: what it was shown counts all the same.
    for _ in 0..2 {
        let mut client = Client::over(tls.connect(address, A).unwrap());
        for (host, status) in ASKED {
            client.send(format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n"));
            assert_eq!(client.answer().status, status, "{host}");
        }
    }
    h2::run(async {
        let client = h2::Client::connect_tls(address, &tls, A).await;
        for (host, status) in ASKED {
            let uri = format!("https://{host}/");
            let request = http::Request::get(uri).body(()).unwrap();
            let answer = client.ask(request, &[], None).await.unwrap();
            assert_eq!(answer.status(), status, "{host}");
            if status == 421 {
                assert_eq!(answer.reason(), Some("misdirected"));
            }
        }
    });
    let refused = ASKED.iter().filter(|(_, status)| *status == 421).count();
    assert_eq!(server.seen().len(), 3 * (ASKED.len() - refused));
    wait::until(LONG, "all are counted", || {
        let http = proxy.listener("web").http.unwrap();
        http.refusals.get("misdirected") == Some(&(3 * refused as u64))
    });
    let mut client = Client::over(tls.connect(address, "b.example").unwrap());
    client.send("GET / HTTP/1.1\r\nHost: b.example\r\n\r\n");
    assert_eq!(client.answer().status, 200);
}
