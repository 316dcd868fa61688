//! TCP ports that speak TLS, and what becomes of them when their Secrets do not do.

use super::*;
use crate::cluster::TlsSecret;
use crate::cluster::testing::tls_secret;
use podline_api::{BackendHttp, TicketKey};

const SPECIFY: &str = "service.cloud.tencent.com/specify-protocol";
const HTTPS: &str = r#"{"80":{"protocol":["HTTPS"],"tls":"web"}}"#;
const TWO: &str = r#"{"80":{"protocol":["HTTPS"],"tls":"web","hosts":{"a.example":{},"b.example":{"tls":"other"}}}}"#;

fn tell(checked: &mut Checked, name: &str, secret: Option<TlsSecret>) {
    checked.change(Change::Secret(key(name), secret));
}

/// default/web, with this said of its port.
fn spoken(checked: &mut Checked, said: &str) {
    let mut service = service("default/web");
    annotate(&mut service, SPECIFY, said);
    put(checked, &service);
}

fn chains(plan: &Plan) -> Vec<String> {
    let tls = plan.listeners.iter().flat_map(|listener| &listener.tls);
    let certificates = tls.flat_map(|tls| &tls.certificates);
    certificates.map(|one| one.chain.clone()).collect()
}

fn chain(secret: &TlsSecret) -> String {
    match secret {
        TlsSecret::Good { certificate, .. } => certificate.chain.clone(),
        odd => panic!("{odd:?}"),
    }
}

#[test]
fn a_port_shows_the_certificates_that_its_secrets_hold() {
    let (web, other) = (tls_secret("a.example"), tls_secret("b.example"));
    let mut checked = cluster(Options::default());
    tell(&mut checked, "default/web", Some(web.clone()));
    tell(&mut checked, "elsewhere/other", Some(web.clone()));
    tell(&mut checked, "default/other", Some(other.clone()));
    spoken(&mut checked, TWO);
    let plan = plan_of(&checked, "default/web");
    assert_eq!(reasons(&plan), [""; 0]);
    assert_eq!(chains(&plan), [chain(&web), chain(&other)]);
    let listener = &plan.listeners[0];
    assert_eq!(listener.protocol, Protocol::Https);
    assert_eq!(listener.source_address, SourceAddress::Snat);
    assert!(listener.tls.as_ref().unwrap().http2);
    let entry = checked.cluster.service(&key("default/web")).unwrap();
    let options = checked.builder.options();
    let values = crate::build::explain::values(&checked.cluster, options, entry, &plan);
    let told = values.iter().find(|(name, ..)| *name == "protocols");
    assert_eq!(
        told.unwrap().1,
        "80 HTTPS for 2 hosts with Secrets web, other"
    );
    let routes = &listener.http.as_ref().unwrap().routes;
    assert_eq!(routes[0].hosts, ["a.example", "b.example"]);

    spoken(
        &mut checked,
        r#"{"80":{"protocol":["TCP_SSL"],"tls":"other"}}"#,
    );
    let plan = plan_of(&checked, "default/web");
    let listener = &plan.listeners[0];
    assert_eq!(listener.protocol, Protocol::Tls);
    assert_eq!(listener.source_address, SourceAddress::PreferTransparent);
    assert_eq!(listener.backend_set.as_ref(), Some(&plan.sets[0].name));
    assert!(!listener.tls.as_ref().unwrap().http2);
    assert_eq!(chains(&plan), [chain(&other)]);
}

#[test]
fn a_renewed_certificate_and_other_ticket_keys_change_listeners_alone() {
    let (old, new) = (tls_secret("a.example"), tls_secret("a.example"));
    let mut checked = cluster(Options::default());
    tell(&mut checked, "default/web", Some(old));
    spoken(&mut checked, HTTPS);
    let version = checked.builder.snapshot().version;
    tell(&mut checked, "default/web", Some(new.clone()));
    assert_eq!(chains(&plan_of(&checked, "default/web")), [chain(&new)]);
    let keys: Arc<[TicketKey]> = [TicketKey::new([7; TicketKey::LENGTH])].into();
    checked.change(Change::TicketKeys(Arc::clone(&keys)));
    let plan = plan_of(&checked, "default/web");
    let tls = plan.listeners[0].tls.as_ref().unwrap();
    assert_eq!(*tls.ticket_keys, *keys);
    assert_eq!(checked.builder.snapshot().version, version + 2);
    tell(&mut checked, "default/unnamed", Some(new));
    assert_eq!(checked.builder.snapshot().version, version + 2);
}

#[test]
fn a_port_whose_secret_never_did_is_not_served_and_the_others_are() {
    let bad = TlsSecret::Bad("lacks tls.crt or tls.key".to_owned());
    let unreadable = TlsSecret::Unreadable("no answer".to_owned());
    for (secret, reason, words) in [
        (
            TlsSecret::Absent,
            "TlsSecretMissing",
            "there is no Secret web in namespace default;",
        ),
        (
            bad,
            "TlsSecretRefused",
            "Secret web lacks tls.crt or tls.key;",
        ),
        (
            unreadable,
            "TlsSecretUnreadable",
            "Secret web cannot be read: no answer;",
        ),
        (
            TlsSecret::Forbidden,
            "TlsSecretUnreadable",
            "kubectl create rolebinding podline-tls --namespace=default --clusterrole=podline-tls --serviceaccount=podline-system:podline-control;",
        ),
    ] {
        let mut checked = cluster(Options::default());
        tell(&mut checked, "default/web", Some(secret));
        let mut service = service("default/web");
        service.ports.push(port("plain", 81));
        annotate(&mut service, SPECIFY, HTTPS);
        put(&mut checked, &service);
        let plan = plan_of(&checked, "default/web");
        let note = plan.notes.iter().find(|it| it.reason.as_str() == reason);
        let note = note.unwrap_or_else(|| panic!("{:?}", plan.notes));
        assert!(note.message.contains(words), "{note}");
        assert!(note.message.ends_with("; the port is not served"), "{note}");
        assert_eq!(plan.ports[0].error, Some(note.reason));
        assert_eq!((plan.ports[1].error, plan.listeners.len()), (None, 1));
    }
}

#[test]
fn the_last_certificate_stays_while_its_secret_does_not_do() {
    let (web, other) = (tls_secret("a.example"), tls_secret("b.example"));
    let mut checked = cluster(Options::default());
    tell(&mut checked, "default/web", Some(web.clone()));
    spoken(&mut checked, HTTPS);
    let before = plan_of(&checked, "default/web");
    for trouble in [TlsSecret::Absent, TlsSecret::Forbidden] {
        tell(&mut checked, "default/web", Some(trouble));
        let plan = plan_of(&checked, "default/web");
        assert_eq!(plan.listeners, before.listeners);
        assert_eq!((plan.notes.len(), plan.ports[0].error), (1, None));
        let told = &plan.notes[0].message;
        assert!(told.ends_with("; its last certificate stays"), "{told}");
    }
    // One that was never there has nothing to stay; what the port shows besides does.
    spoken(&mut checked, TWO);
    tell(&mut checked, "default/other", Some(TlsSecret::Absent));
    let plan = plan_of(&checked, "default/web");
    assert_eq!(chains(&plan), [chain(&web)]);
    assert_eq!(plan.notes.len(), 2);
    assert!(
        plan.notes[1]
            .message
            .ends_with("; its last certificate stays")
    );
    let told = &plan.notes[0].message;
    assert!(
        told.ends_with("; the port's other certificates are shown"),
        "{told}"
    );
    // Another Secret is named, which is not there either.
    spoken(
        &mut checked,
        r#"{"80":{"protocol":["HTTPS"],"tls":"other"}}"#,
    );
    let plan = plan_of(&checked, "default/web");
    assert_eq!(chains(&plan), [chain(&web)]);
    let told = &plan.notes[0].message;
    assert!(
        told.ends_with("; the port's last certificate stays"),
        "{told}"
    );
    tell(&mut checked, "default/other", Some(other.clone()));
    let plan = plan_of(&checked, "default/web");
    assert_eq!(
        (chains(&plan), reasons(&plan)),
        (vec![chain(&other)], vec![])
    );
}

#[test]
fn a_service_cannot_fill_what_proxies_are_told() {
    let (chain, key_text) = crate::cluster::testing::pair("a.example");
    let large = format!("{chain}{}", "# nothing\n".repeat(6_000));
    let size = large.len() + key_text.len();
    let secret = podline_api::Secret::new(key_text);
    let certificate = Arc::new(podline_api::Certificate::of(large, &secret).unwrap());
    let secret = TlsSecret::Good {
        certificate,
        ended: None,
    };
    let mut checked = cluster(Options::default());
    tell(&mut checked, "default/web", Some(secret));
    let mut service = service("default/web");
    service.ports = (1..=100).map(|n| port(&n.to_string(), n)).collect();
    let said: Vec<_> = (1..=100)
        .map(|n| format!(r#""{n}":{{"protocol":["TCP_SSL"],"tls":"web"}}"#))
        .collect();
    annotate(&mut service, SPECIFY, &format!("{{{}}}", said.join(",")));
    put(&mut checked, &service);
    let plan = plan_of(&checked, "default/web");
    assert_eq!(plan.listeners.len(), (4 << 20) / size);
    let errors = plan.ports.iter().filter(|port| port.error.is_some());
    assert_eq!(errors.count(), 100 - plan.listeners.len());
    assert!(reasons(&plan).contains(&"TlsSecretRefused"));
}

#[test]
fn nothing_is_told_before_its_secret_was_read() {
    let web = tls_secret("a.example");
    let mut checked = cluster(Options::default());
    spoken(&mut checked, HTTPS);
    let plan = plan_of(&checked, "default/web");
    assert!(plan.is_early && plan.notes.is_empty() && plan.listeners.is_empty());
    tell(&mut checked, "default/web", Some(web.clone()));
    let plan = plan_of(&checked, "default/web");
    assert!(!plan.is_early);
    assert_eq!(chains(&plan), [chain(&web)]);
    tell(&mut checked, "default/web", None);
    let plan = plan_of(&checked, "default/web");
    assert_eq!((plan.is_early, chains(&plan)), (true, vec![chain(&web)]));
}

#[test]
fn a_certificate_that_has_ended_is_shown_with_a_warning() {
    let TlsSecret::Good { certificate, .. } = tls_secret("a.example") else {
        panic!("no certificate");
    };
    let ended = Some("2026-01-02T03:04:05Z".parse().unwrap());
    let mut checked = cluster(Options::default());
    let secret = TlsSecret::Good { certificate, ended };
    tell(&mut checked, "default/web", Some(secret));
    spoken(&mut checked, HTTPS);
    let plan = plan_of(&checked, "default/web");
    assert_eq!(reasons(&plan), ["CertificateExpired"]);
    assert_eq!((plan.ports[0].error, plan.listeners.len()), (None, 1));
    let told = &plan.notes[0].message;
    assert!(
        told.contains("Secret web ended at 2026-01-02T03:04:05Z;"),
        "{told}"
    );
}

#[test]
fn what_pods_speak_counts_where_requests_are_read() {
    use crate::cluster::AppProtocol::{H2c, Https};
    let http = r#"{"80":{"protocol":["HTTP"]}}"#;
    for (said, spoken, version, has_tls) in [
        (Some(http), Some(H2c), BackendHttp::Http2, false),
        (Some(http), Some(Https), BackendHttp::Http11, true),
        (Some(http), None, BackendHttp::Http11, false),
        (None, Some(H2c), BackendHttp::Http11, false),
        (None, Some(Https), BackendHttp::Http11, false),
    ] {
        let plan = planned(|service| {
            service.ports[0].app_protocol = spoken;
            if let Some(said) = said {
                annotate(service, SPECIFY, said);
            }
        });
        let settings = &plan.sets[0].settings;
        assert_eq!(settings.http_version, version, "{said:?} {spoken:?}");
        assert_eq!(settings.tls.is_some(), has_tls, "{said:?} {spoken:?}");
    }
}
