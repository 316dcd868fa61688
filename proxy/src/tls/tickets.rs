//! Session tickets that every proxy with the same keys can open. A ticket is the key's name, a nonce, and what is sealed.

use std::fmt;
use std::sync::Arc;

use podline_api::TicketKey;
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::rand::{SecureRandom, SystemRandom};
use tokio_rustls::rustls::crypto::ring::Ticketer;
use tokio_rustls::rustls::server::ProducesTickets;

/// How long a client may come back with a ticket.
const LIFETIME_S: u32 = 12 * 60 * 60;

/// What seals tickets of this process alone, with keys that it makes and changes by itself.
pub(crate) fn of_this_process() -> Arc<dyn ProducesTickets> {
    // Without randomness nobody resumes; no handshake would succeed either.
    Ticketer::new().unwrap_or_else(|_| Arc::new(Sealer::new(&[])))
}

/// Seals tickets with the first of some keys, and opens them with any.
pub(crate) struct Sealer {
    keys: Vec<([u8; TicketKey::NAME], LessSafeKey)>,
    random: SystemRandom,
}

impl Sealer {
    /// With these keys; with none, nobody resumes.
    pub(crate) fn new(keys: &[TicketKey]) -> Self {
        let key = |key: &TicketKey| {
            let mut name = [0; TicketKey::NAME];
            name.copy_from_slice(key.name());
            let secret = UnboundKey::new(&AES_256_GCM, key.reveal());
            Some((name, LessSafeKey::new(secret.ok()?)))
        };
        Self {
            keys: keys.iter().filter_map(key).collect(),
            random: SystemRandom::new(),
        }
    }
}

impl fmt::Debug for Sealer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sealer").finish_non_exhaustive()
    }
}

impl ProducesTickets for Sealer {
    fn enabled(&self) -> bool {
        !self.keys.is_empty()
    }

    fn lifetime(&self) -> u32 {
        LIFETIME_S
    }

    fn encrypt(&self, plain: &[u8]) -> Option<Vec<u8>> {
        let (name, key) = self.keys.first()?;
        let mut nonce = [0; NONCE_LEN];
        self.random.fill(&mut nonce).ok()?;
        let mut sealed = plain.to_vec();
        let unique = Nonce::assume_unique_for_key(nonce);
        key.seal_in_place_append_tag(unique, Aad::from(name), &mut sealed)
            .ok()?;
        Some([name.as_slice(), &nonce, &sealed].concat())
    }

    fn decrypt(&self, ticket: &[u8]) -> Option<Vec<u8>> {
        let (name, rest) = ticket.split_at_checked(TicketKey::NAME)?;
        let (nonce, sealed) = rest.split_at_checked(NONCE_LEN)?;
        let (name, key) = self.keys.iter().find(|(known, _)| known == name)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
        let mut sealed = sealed.to_vec();
        let plain = key
            .open_in_place(nonce, Aad::from(name), &mut sealed)
            .ok()?;
        Some(plain.to_vec())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(byte: u8) -> TicketKey {
        TicketKey::new([byte; TicketKey::LENGTH])
    }

    #[test]
    fn whoever_has_the_key_opens_what_another_sealed() {
        let (old, new) = (Sealer::new(&[key(1)]), Sealer::new(&[key(2), key(1)]));
        let ticket = old.encrypt(b"session").unwrap();
        assert_eq!(new.decrypt(&ticket).unwrap(), b"session");
        let ticket = new.encrypt(b"session").unwrap();
        assert_eq!(old.decrypt(&ticket), None);
        assert_eq!(new.decrypt(&ticket).unwrap(), b"session");
        assert_ne!(new.encrypt(b"session").unwrap(), ticket);
    }

    #[test]
    fn what_was_changed_or_cut_is_not_opened() {
        let sealer = Sealer::new(&[key(1)]);
        let ticket = sealer.encrypt(b"session").unwrap();
        for place in 0..ticket.len() {
            let mut changed = ticket.clone();
            changed[place] ^= 1;
            assert_eq!(sealer.decrypt(&changed), None, "byte {place}");
            assert_eq!(sealer.decrypt(&ticket[..place]), None, "cut at {place}");
        }
    }
}
