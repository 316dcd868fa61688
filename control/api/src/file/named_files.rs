//! Certificates and keys that a configuration file names by files of their own: what those hold takes their place.

use crate::invalid::Checks;
use crate::{Invalid, v1};

/// Puts what the files hold where their names stand. `read` gives a file's text.
///
/// # Errors
/// Every name of which the file cannot be read, and every one that stands beside what it would give.
pub(super) fn fill(
    wire: &mut v1::Document,
    mut read: impl FnMut(&str) -> Result<String, String>,
) -> Result<(), Invalid> {
    let mut checks = Checks::default();
    for (path, field, text, file) in named(wire) {
        let name = std::mem::take(file);
        if name.is_empty() {
            continue;
        }
        if !text.is_empty() {
            let problem = format!("stands beside {field}: write one of both");
            checks.refuse(format_args!("{path}.{field}File"), problem);
            continue;
        }
        let found = read(&name).map_err(|problem| Invalid::one("", problem));
        *text = checks
            .take(format_args!("{path}.{field}File"), found)
            .unwrap_or_default();
    }
    checks.finish(Some(()))
}

/// Every text that may be named by a file, with that name's place: whose it is, which field.
fn named(
    wire: &mut v1::Document,
) -> impl Iterator<Item = (String, &'static str, &mut String, &mut String)> {
    let listeners = wire.listeners.iter_mut().enumerate();
    let of_listeners = listeners.flat_map(|(place, listener)| {
        let tls = listener.tls.iter_mut();
        tls.flat_map(move |tls| of_tls(&format!("listeners[{place}].tls"), tls))
    });
    let sets = wire.backend_sets.iter_mut().enumerate();
    let of_sets = sets.flat_map(|(place, set)| {
        let tls = set.tls.iter_mut();
        tls.map(move |tls| {
            let path = format!("backendSets[{place}].tls");
            (path, "trusted", &mut tls.trusted, &mut tls.trusted_file)
        })
    });
    of_listeners.chain(of_sets)
}

fn of_tls<'a>(
    path: &str,
    tls: &'a mut v1::TlsSettings,
) -> Vec<(String, &'static str, &'a mut String, &'a mut String)> {
    let mut all = Vec::new();
    for (place, one) in tls.certificates.iter_mut().enumerate() {
        let path = format!("{path}.certificates[{place}]");
        all.push((path.clone(), "chain", &mut one.chain, &mut one.chain_file));
        all.push((path, "key", &mut one.key, &mut one.key_file));
    }
    if let Some(clients) = &mut tls.client_certificates {
        let path = format!("{path}.clientCertificates");
        let (text, file) = (&mut clients.trusted, &mut clients.trusted_file);
        all.push((path, "trusted", text, file));
    }
    all
}
