//! What backends are told of clients, by those that are believed and by others.

use super::*;

const FORGED: &str = "X-Forwarded-For: 10.0.0.1\r\nx-forwarded-for: 10.0.0.2, 10.0.0.3\r\nX-Real-IP: 10.0.0.1\r\n\
    X-FORWARDED-PROTO: https\r\nX-Forwarded-Host: b.org\r\nX-Forwarded-Port: 443\r\nX-Forwarded-Prefix: /p\r\n\
    X-Forwarded-Client-Cert: c\r\nForwarded: for=10.0.0.1\r\nX_Forwarded_For: 10.0.0.9\r\nx-forwarded_host: c.org\r\n\
    X_Real_IP: 10.0.0.9\r\nX-Real_Ip: 10.0.0.8\r\nX-Mine: 1\r\nX-ForwardedFor: 2\r\n";

#[test]
fn what_a_client_says_of_itself_is_not_believed() {
    let kept = kept(FORGED, &facts(Length::None));
    assert_eq!(kept, ["X-Mine: 1", "X-ForwardedFor: 2"]);
}

#[test]
fn a_trusted_client_is_added_to_what_it_says() {
    let from = From {
        is_trusted: true,
        ..direct()
    };
    let lines = request(FORGED, &facts(Length::None), &from);
    let expected = [
        "X-Real-IP: 10.0.0.1",
        "X-FORWARDED-PROTO: https",
        "X-Forwarded-Host: b.org",
        "X-Forwarded-Port: 443",
        "X-Forwarded-Prefix: /p",
        "X-Forwarded-Client-Cert: c",
        "X_Forwarded_For: 10.0.0.9",
        "x-forwarded_host: c.org",
        "X_Real_IP: 10.0.0.9",
        "X-Real_Ip: 10.0.0.8",
        "X-Mine: 1",
        "X-ForwardedFor: 2",
        "x-forwarded-for: 10.0.0.1, 10.0.0.2, 10.0.0.3, 192.0.2.7",
        "forwarded: for=10.0.0.1, for=192.0.2.7;host=\"a.org\";proto=http",
    ];
    assert_eq!(lines[2..], expected);
    // It says nothing: it is a client like others.
    assert_eq!(
        request("X-Forwarded-For:\r\n", &facts(Length::None), &from)[2..],
        IDENTITY
    );
}

#[test]
fn addresses_are_written_as_backends_read_them() {
    for (client, plain, element) in [
        ("192.0.2.255:1", "192.0.2.255", "192.0.2.255"),
        ("[::ffff:192.0.2.1]:1", "192.0.2.1", "192.0.2.1"),
        ("[2001:db8::1]:1", "2001:db8::1", "\"[2001:db8::1]\""),
        ("[::1]:65535", "::1", "\"[::1]\""),
    ] {
        let from = From {
            client: client.parse().unwrap(),
            port: 65_535,
            is_tls: true,
            is_trusted: true,
        };
        let lines = request("Forwarded: for=_x\r\n", &facts(Length::None), &from);
        let expected = [
            format!("x-forwarded-for: {plain}"),
            format!("x-real-ip: {plain}"),
            "x-forwarded-proto: https".to_owned(),
            "x-forwarded-host: a.org".to_owned(),
            "x-forwarded-port: 65535".to_owned(),
            format!("forwarded: for=_x, for={element};host=\"a.org\";proto=https"),
        ];
        assert_eq!(lines[2..], expected, "{client}");
    }
}
