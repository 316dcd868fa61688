//! How certificates and keys lie in a Secret's data. Pure. Knows the keys of that map, and no Kubernetes.

use std::collections::BTreeMap;
use std::fmt;

use super::channel::Channel;
use super::x509::{Certificate, Flaw, Pair};

const AUTHORITY: [&str; 2] = ["ca.crt", "ca.key"];
const PREVIOUS: [&str; 2] = ["previous.crt", "previous.key"];
const LEAF: [&str; 2] = ["tls.crt", "tls.key"];
const ROOTS: &str = "ca.crt";

/// A Secret's data, and when Podline changed it last, in seconds since the Unix epoch.
#[derive(Clone, Default, PartialEq, Eq)]
pub(super) struct Stored {
    pub(super) data: BTreeMap<String, Vec<u8>>,
    pub(super) written: Option<i64>,
}

impl fmt::Debug for Stored {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Never the values.
        let keys: Vec<_> = self.data.keys().collect();
        f.debug_struct("Stored")
            .field("keys", &keys)
            .finish_non_exhaustive()
    }
}

/// The CA that signs, and the one before it while its leaves may be about.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Authorities {
    pub(super) newest: Option<Pair>,
    pub(super) previous: Option<Pair>,
}

/// What an end of the channel has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Holding {
    /// What it shows.
    pub(super) leaf: Result<Pair, Flaw>,
    /// Whom it trusts.
    pub(super) roots: Vec<Certificate>,
    /// Whether the bundle holds nothing but `roots`.
    pub(super) is_clean: bool,
    pub(super) written: Option<i64>,
}

impl Stored {
    fn pair(&self, names: [&str; 2]) -> [Option<&[u8]>; 2] {
        names.map(|name| self.data.get(name).map(Vec::as_slice))
    }

    fn put(&mut self, names: [&str; 2], pair: &Pair) {
        let certificate = Certificate::pem(std::slice::from_ref(&pair.certificate));
        let values = [certificate, pair.key.0.clone()];
        let entries = names
            .map(str::to_owned)
            .into_iter()
            .zip(values.map(String::into_bytes));
        self.data.extend(entries);
    }
}

/// What the CA's Secret holds, and what is wrong with its first CA.
pub(super) fn authorities(
    channel: Channel,
    stored: Option<&Stored>,
) -> (Authorities, Option<Flaw>) {
    let read = |names| match stored.map(|stored| stored.pair(names)) {
        Some([certificate, key]) => Pair::authority(channel, certificate, key),
        None => Err(Flaw::Missing),
    };
    let newest = read(AUTHORITY);
    let flaw = newest.as_ref().err().copied();
    let found = Authorities {
        newest: newest.ok(),
        previous: read(PREVIOUS).ok(),
    };
    (found, flaw)
}

/// Whether the CA's Secret holds what `authorities` could not read.
pub(super) fn has_rest(stored: Option<&Stored>, found: &Authorities) -> bool {
    let has_previous =
        stored.is_some_and(|stored| PREVIOUS.iter().any(|name| stored.data.contains_key(*name)));
    has_previous && found.previous.is_none()
}

/// The CA's Secret.
pub(super) fn of_authorities(
    before: Option<&Stored>,
    authorities: &Authorities,
    now: i64,
) -> Stored {
    let mut stored = before.cloned().unwrap_or_default();
    for name in AUTHORITY.into_iter().chain(PREVIOUS) {
        stored.data.remove(name);
    }
    if let Some(newest) = &authorities.newest {
        stored.put(AUTHORITY, newest);
    }
    if let Some(previous) = &authorities.previous {
        stored.put(PREVIOUS, previous);
    }
    stored.written = Some(now);
    stored
}

/// What the Secret of one end holds.
pub(super) fn holding(stored: Option<&Stored>) -> Holding {
    let Some(stored) = stored else {
        return Holding {
            leaf: Err(Flaw::Missing),
            roots: Vec::new(),
            is_clean: true,
            written: None,
        };
    };
    let [certificate, key] = stored.pair(LEAF);
    let (roots, is_clean) = stored
        .data
        .get(ROOTS)
        .map_or((Vec::new(), true), |pem| Certificate::list(pem));
    Holding {
        leaf: Pair::leaf(certificate, key),
        roots,
        is_clean,
        written: stored.written,
    }
}

/// The Secret of one end with another bundle, and with another leaf if there is one.
pub(super) fn of_end(
    before: Option<&Stored>,
    leaf: Option<&Pair>,
    roots: &[Certificate],
    now: i64,
) -> Stored {
    let mut stored = before.cloned().unwrap_or_default();
    if let Some(leaf) = leaf {
        stored.put(LEAF, leaf);
    }
    stored
        .data
        .insert(ROOTS.to_owned(), Certificate::pem(roots).into_bytes());
    stored.written = Some(now);
    stored
}

/// What an end shows and whom it trusts, in PEM.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Shown {
    pub(super) roots: Vec<u8>,
    pub(super) certificate: Vec<u8>,
    pub(super) key: Vec<u8>,
}

/// What an end shows and whom it trusts; absent if the Secret holds nothing that can be used at `now`.
pub(super) fn shown(stored: &Stored, now: i64) -> Option<Shown> {
    let holding = holding(Some(stored));
    let leaf = holding.leaf.ok()?;
    if holding.roots.is_empty() || leaf.certificate.is_expired(now) {
        return None;
    }
    Some(Shown {
        roots: Certificate::pem(&holding.roots).into_bytes(),
        certificate: Certificate::pem(&[leaf.certificate]).into_bytes(),
        key: leaf.key.0.into_bytes(),
    })
}
