//! TLS of listeners and backends: what is taken, what is refused, and what nobody is shown.

use podline_api::{
    BackendHttp, Certificate, Document, HashKey, Policy, Protocol, Secret, TlsVersion, v1,
};

/// A certificate for `name` and its key, in PEM.
fn made(name: &str) -> (String, String) {
    let made = rcgen::generate_simple_self_signed(vec![name.to_owned()]).unwrap();
    (made.cert.pem(), made.signing_key.serialize_pem())
}

fn text(pem: &str) -> String {
    serde_json::to_string(pem).unwrap()
}

fn listener(protocol: &str, tls: &str) -> String {
    format!(
        "listeners: [{{name: a, address: '127.0.0.1:443', protocol: {protocol}, backendSet: a{tls}}}]"
    )
}

fn problems(yaml: &str) -> Vec<String> {
    match Document::from_yaml(yaml) {
        Ok(_) => vec!["accepted".to_owned()],
        Err(invalid) => invalid.violations.iter().map(ToString::to_string).collect(),
    }
}

#[test]
fn a_listener_shows_its_certificates_and_hides_its_secrets() {
    let (chain, key) = made("a.example");
    let ticket = "0123456789abcdef".repeat(6);
    let tls = format!(
        ", tls: {{certificates: [{{chain: {}, key: {}}}], minVersion: TLS_1_3, ticketKeys: ['{ticket}']}}",
        text(&chain),
        text(&key)
    );
    let document = Document::from_yaml(&listener("HTTPS", &tls)).unwrap();
    let listener = &document.listeners[0];
    assert_eq!(listener.protocol, Protocol::Https);
    assert!(listener.http.is_some());
    let tls = listener.tls.as_ref().unwrap();
    assert_eq!(tls.min_version, TlsVersion::Tls13);
    assert!(tls.http2);
    assert_eq!(tls.certificates[0].key.reveal(), key);
    let again = Document::from_yaml(&document.to_yaml()).unwrap();
    assert_eq!(again, document);
    let shown = listener.shown().tls.unwrap();
    assert_eq!(shown.certificates[0].chain, chain);
    assert_eq!(shown.certificates[0].key, "");
    assert_eq!(shown.ticket_keys, [ticket[..32].to_owned()]);
    for told in [format!("{document:?}"), format!("{shown:?}")] {
        assert!(!told.contains("PRIVATE KEY"), "{told}");
        assert!(!told.contains(&ticket[32..]), "{told}");
    }
}

#[test]
fn a_chain_and_its_key_are_taken_together_alone() {
    let ((chain, key), (_, other)) = (made("a.example"), made("b.example"));
    let made = Certificate::of(chain.clone(), &Secret::new(key)).unwrap();
    let validity = made.validity().unwrap();
    assert!(validity.not_before < validity.not_after);
    let refused = |chain: &str, key: &str| {
        let key = Secret::new(key.to_owned());
        Certificate::of(chain.to_owned(), &key)
            .unwrap_err()
            .to_string()
    };
    let told = refused(&chain, &other);
    assert!(
        told.starts_with("key: cannot be used with the chain"),
        "{told}"
    );
    assert_eq!(
        refused("nothing", &other),
        "chain: holds no certificate in PEM"
    );
}

#[test]
fn what_cannot_be_served_with_is_refused() {
    let ((chain, key), (_, other)) = (made("a.example"), made("b.example"));
    let (chain, key, other) = (text(&chain), text(&key), text(&other));
    let at = |lines: &str| format!(", tls: {{certificates: [{lines}]}}");
    let certificates = "listeners[0].tls.certificates";
    for (protocol, tls, expected) in [
        (
            "TLS",
            String::new(),
            "listeners[0].tls: is required: `certificates` says what clients are shown".to_owned(),
        ),
        (
            "TCP",
            at(""),
            "listeners[0].tls: is for `protocol: TLS` or `HTTPS`".to_owned(),
        ),
        ("TLS", at(""), format!("{certificates}: name one at least")),
        (
            "TLS",
            at(&format!("{{chain: {chain}}}")),
            format!("{certificates}[0].key: is required, or keyFile in a configuration file"),
        ),
        (
            "TLS",
            at(&format!("{{chain: {key}, key: {key}}}")),
            format!("{certificates}[0].chain: holds no certificate in PEM"),
        ),
        (
            "TLS",
            at(&format!("{{chain: {chain}, key: {chain}}}")),
            format!("{certificates}[0].key: holds no private key in PEM"),
        ),
        (
            "TLS",
            at(&format!("{{chain: {chain}, key: {other}}}")),
            format!(
                "{certificates}[0].key: cannot be used with the chain: keys may not be consistent: KeyMismatch"
            ),
        ),
        (
            "TLS",
            at(&format!("{{chain: {chain}, keyFile: a.key}}")),
            format!("{certificates}[0].keyFile: is for configuration files"),
        ),
        (
            "HTTPS",
            format!(
                ", tls: {{certificates: [{{chain: {chain}, key: {key}}}], ticketKeys: [00ff]}}"
            ),
            "listeners[0].tls.ticketKeys[0]: is not of 96 hexadecimal digits".to_owned(),
        ),
        (
            "TLS",
            format!(", tls: {{certificates: [{{chain: {chain}, key: {key}}}], http2: true}}"),
            "listeners[0].tls.http2: is for `protocol: HTTPS`".to_owned(),
        ),
    ] {
        assert_eq!(problems(&listener(protocol, &tls)), [expected]);
    }
}

#[test]
fn files_take_the_place_of_their_names() {
    let (chain, key) = made("a.example");
    let yaml = listener(
        "TLS",
        ", tls: {certificates: [{chainFile: a.crt, keyFile: a.key}], clientCertificates: {trustedFile: a.crt}}",
    );
    let read = |name: &str| match name {
        "a.crt" => Ok(chain.clone()),
        "a.key" => Ok(key.clone()),
        _ => Err("cannot be read".to_owned()),
    };
    let document = Document::from_yaml_with(&yaml, read).unwrap();
    let tls = document.listeners[0].tls.as_ref().unwrap();
    assert_eq!(tls.certificates[0].chain, chain);
    assert_eq!(tls.client_certificates.as_ref().unwrap().trusted, chain);
    let refused = Document::from_yaml_with(&yaml, |_| Err("cannot be read".to_owned()));
    let refused = refused.unwrap_err();
    assert_eq!(refused.violations.len(), 3, "{refused:?}");
    // Over the API a name of a file means nothing.
    let mut wire = v1::Listener::from(&document.listeners[0]);
    wire.tls.as_mut().unwrap().certificates[0].key_file = "/etc/shadow".to_owned();
    let refused = podline_api::Listener::try_from(wire).unwrap_err();
    assert_eq!(
        refused.to_string(),
        "tls.certificates[0].keyFile: is for configuration files: send what it holds"
    );
}

#[test]
fn backends_are_spoken_to_as_their_set_says() {
    let (chain, _) = made("a.example");
    let set = |lines: &str| format!("backendSets: [{{name: a, {lines}}}]");
    let read = |lines: &str| {
        let mut document = Document::from_yaml(&set(lines)).unwrap();
        document.backend_sets.remove(0).settings
    };
    let plain = read("policy: IP_HASH");
    assert_eq!(plain.policy, Policy::Maglev(HashKey::ClientIp));
    assert_eq!((plain.http_version, plain.tls), (BackendHttp::Http11, None));
    let lines = format!(
        "httpVersion: HTTP_2, tls: {{trusted: {}, serverName: a.example}}",
        text(&chain)
    );
    let settings = read(&lines);
    assert_eq!(settings.http_version, BackendHttp::Http2);
    let tls = settings.tls.unwrap();
    assert_eq!(tls.trusted.as_deref(), Some(&*chain));
    for (lines, expected) in [
        (
            format!("tls: {{trusted: {}}}", text(&chain)),
            "backendSets[0].tls.serverName: is required: whose certificate is it to be?",
        ),
        (
            "tls: {serverName: 'a b'}".to_owned(),
            "backendSets[0].tls.serverName: is no DNS name and no address",
        ),
        (
            "tls: {trusted: x, serverName: a}".to_owned(),
            "backendSets[0].tls.trusted: holds no certificate in PEM",
        ),
    ] {
        assert_eq!(problems(&set(&lines)), [expected]);
    }
}
