//! What `check` says of certificates, and of TLS and HTTP/2 that nobody would speak.

use podline_api::{BackendHttp, Document, Listener};

/// Certificates that end sooner are told of.
const SOON_DAYS: i64 = 14;
const DAY: i64 = 24 * 60 * 60;

/// What is allowed, and perhaps not meant; `now` in seconds since the Unix epoch.
pub(super) fn notes(document: &Document, now: i64) -> Vec<String> {
    let listeners = document.listeners.iter();
    let mut notes: Vec<String> = listeners.flat_map(|it| of_listener(it, now)).collect();
    for set in &document.backend_sets {
        let settings = &set.settings;
        let field = match (&settings.tls, settings.http_version) {
            (Some(_), _) => "tls",
            (None, BackendHttp::Http2) => "httpVersion",
            (None, BackendHttp::Http11) => continue,
        };
        let mut leading = document.listeners.iter().filter(|l| l.leads_to(&set.name));
        if let Some(first) = leading.next()
            && !first.protocol.is_http()
            && !leading.any(|listener| listener.protocol.is_http())
        {
            let name = &set.name;
            let note = format!("no HTTP listener leads to {name}: its {field} counts for nothing");
            notes.push(note);
        }
    }
    notes
}

fn of_listener(listener: &Listener, now: i64) -> Vec<String> {
    let name = &listener.name;
    let certificates = listener.tls.iter().flat_map(|tls| &tls.certificates);
    let note = |(place, seconds): (usize, i64)| match seconds {
        ..0 => Some(format!("certificates[{place}] of {name} has ended")),
        left if left < SOON_DAYS * DAY => {
            let days = left / DAY;
            Some(format!(
                "certificates[{place}] of {name} ends in {days} days"
            ))
        }
        _ => None,
    };
    certificates
        .enumerate()
        .filter_map(|(place, one)| Some((place, one.validity()?.not_after - now)))
        .filter_map(note)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_ends_and_what_nobody_speaks_is_told() {
        let mut parameters = rcgen::CertificateParams::new(vec!["a.example".to_owned()]).unwrap();
        parameters.not_after = rcgen::date_time_ymd(2030, 1, 1);
        let key = rcgen::KeyPair::generate().unwrap();
        let chain = parameters.self_signed(&key).unwrap().pem();
        let read = |name: &str| match name {
            "c" => Ok(chain.clone()),
            _ => Ok(key.serialize_pem()),
        };
        let yaml = "
listeners:
- name: web
  address: 127.0.0.1:443
  protocol: TLS
  backendSet: a
  tls: {certificates: [{chainFile: c, keyFile: k}]}
backendSets:
- {name: a, tls: {}}
- {name: b, httpVersion: HTTP_2}
";
        let document = Document::from_yaml_with(yaml, read).unwrap();
        let end = 1_893_456_000;
        let speaks = "no HTTP listener leads to a: its tls counts for nothing";
        for (now, expected) in [
            (end - 15 * DAY, vec![]),
            (
                end - 3 * DAY - 1,
                vec!["certificates[0] of web ends in 3 days"],
            ),
            (end + 1, vec!["certificates[0] of web has ended"]),
        ] {
            assert_eq!(notes(&document, now), [expected, vec![speaks]].concat());
        }
    }
}
