//! What a port shows over TLS: the certificates of the Secrets that it names. Pure.
//!
//! A Secret that cannot be used changes nothing: what was shown of it before stays, and a note says so. A port that has
//! nothing to show is not served: clients that ask for TLS are never answered without it.

use std::collections::BTreeMap;
use std::sync::Arc;

use podline_api::{Certificate, Tls, TlsVersion};

use super::Work;
use crate::build::note::Reason;
use crate::cluster::TlsSecret;
use crate::installation::{CONTROL, TLS_ROLE};

/// Bytes of all certificates and keys of a Service at most: proxies are told of all Services in one message.
const MOST_BYTES: usize = 4 << 20;

/// What ports show, by number: certificates by the names of their Secrets.
pub(in crate::build) type Shown = BTreeMap<u16, Vec<(Arc<str>, Arc<Certificate>)>>;

impl Work<'_> {
    /// How a port with these Secrets speaks TLS; nothing if it has nothing to show, with the reason unless it is merely too
    /// early.
    pub(in crate::build) fn tls(
        &mut self,
        number: u16,
        secrets: &[Arc<str>],
        http2: bool,
    ) -> Result<Tls, Option<Reason>> {
        let input = self.input;
        let before = input.shown.and_then(|shown| shown.get(&number));
        let before = before.map_or(&[][..], Vec::as_slice);
        let (mut shown, mut troubles) = (Vec::new(), Vec::new());
        for name in secrets {
            let secret = input.cluster.secret(&input.front.key().beside(name));
            if let Some(TlsSecret::Good { certificate, ended }) = secret {
                shown.push((Arc::clone(name), Arc::clone(certificate)));
                if let Some(ended) = ended {
                    let message = format!(
                        "port {number}: the certificate of Secret {name} ended at {ended}; renew it, clients refuse it"
                    );
                    self.note(Reason::CertificateExpired, message);
                }
                continue;
            }
            let kept = before.iter().find(|(known, _)| known == name);
            shown.extend(kept.cloned());
            match secret {
                Some(secret) => troubles.push((name, secret, kept.is_some())),
                None => self.plan.is_early = true,
            }
        }
        let has_own = !shown.is_empty();
        if !has_own {
            shown = before.to_vec();
        }
        let what_follows = |is_kept| match (is_kept, has_own, shown.is_empty()) {
            (true, ..) => "its last certificate stays",
            (_, true, _) => "the port's other certificates are shown",
            (_, _, false) => "the port's last certificate stays",
            _ => "the port is not served",
        };
        let mut first = None;
        for (name, secret, is_kept) in troubles {
            let (reason, problem) = self.trouble(name, secret);
            let follows = what_follows(is_kept);
            self.note(reason, format!("port {number}: {problem}; {follows}"));
            first.get_or_insert(reason);
        }
        if shown.is_empty() {
            return Err(first);
        }
        let bytes = |one: &Certificate| one.chain.len() + one.key.reveal().len();
        self.shown_bytes += shown.iter().map(|(_, one)| bytes(one)).sum::<usize>();
        if self.shown_bytes > MOST_BYTES {
            let message = format!(
                "port {number}: the {}'s certificates are larger than {MOST_BYTES} bytes in all; the port is not served",
                input.front.kind()
            );
            self.note(Reason::TlsSecretRefused, message);
            return Err(Some(Reason::TlsSecretRefused));
        }
        let certificates = shown.iter().map(|(_, one)| (**one).clone()).collect();
        self.shown.insert(number, shown);
        let tickets = input.cluster.ticket_keys();
        Ok(Tls {
            certificates,
            min_version: TlsVersion::default(),
            client_certificates: None,
            http2,
            ticket_keys: tickets.map_or_else(Vec::new, |keys| keys.to_vec()),
        })
    }

    fn trouble(&self, name: &str, secret: &TlsSecret) -> (Reason, String) {
        let namespace = &self.input.front.key().namespace;
        match secret {
            TlsSecret::Good { .. } | TlsSecret::Absent => (
                Reason::TlsSecretMissing,
                format!("there is no Secret {name} in namespace {namespace}"),
            ),
            TlsSecret::Bad(problem) => {
                (Reason::TlsSecretRefused, format!("Secret {name} {problem}"))
            }
            TlsSecret::Forbidden => {
                let own = &self.input.options.namespace;
                let message = format!(
                    "Secret {name} may not be read: kubectl create rolebinding {TLS_ROLE} --namespace={namespace} --clusterrole={TLS_ROLE} --serviceaccount={own}:{CONTROL}"
                );
                (Reason::TlsSecretUnreadable, message)
            }
            TlsSecret::Unreadable(problem) => (
                Reason::TlsSecretUnreadable,
                format!("Secret {name} cannot be read: {problem}"),
            ),
        }
    }
}
