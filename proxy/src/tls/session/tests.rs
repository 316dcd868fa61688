//! Two sessions that talk to each other without a socket, in pieces of every size, and to somebody who lies.

use super::*;
use std::sync::Arc;
use tokio_rustls::rustls::client::UnbufferedClientConnection;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::{PrivateKeyDer, ServerName};
use tokio_rustls::rustls::version::{TLS12, TLS13};
use tokio_rustls::rustls::{ClientConfig, RootCertStore, ServerConfig, SupportedProtocolVersion};

/// A source of pieces and lies that is the same each time.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % limit as u64).unwrap()
    }
}

/// What two sessions need to trust each other.
pub(crate) struct Configs {
    server: Arc<ServerConfig>,
    client: Arc<ClientConfig>,
}

/// In this version of TLS.
pub(crate) fn configs(version: &'static SupportedProtocolVersion) -> Configs {
    let made = rcgen::generate_simple_self_signed(vec!["a.example".to_owned()]).unwrap();
    let chain = vec![made.cert.der().clone()];
    let mut roots = RootCertStore::empty();
    roots.add(chain[0].clone()).unwrap();
    let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
    let provider = Arc::new(ring::default_provider());
    let server = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&[version])
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .unwrap();
    let client = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[version])
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    Configs {
        server: Arc::new(server),
        client: Arc::new(client),
    }
}

/// A client that has begun, and a server.
pub(crate) fn pair(configs: &Configs) -> [Session; 2] {
    let name = ServerName::try_from("a.example").unwrap();
    let client = UnbufferedClientConnection::new(Arc::clone(&configs.client), name).unwrap();
    let server = UnbufferedServerConnection::new(Arc::clone(&configs.server)).unwrap();
    let mut client = Session::client(client);
    client.begin().unwrap();
    [client, Session::server(server)]
}

/// Brings a piece of what `from` has to say to `to`; what was opened.
fn pass(
    from: &mut Session,
    to: &mut Session,
    most: usize,
    lie: impl FnOnce(&mut [u8]),
) -> Result<Vec<u8>, Error> {
    let mut sealed = vec![0; MOST_INCOMING + most];
    let kept = to.resume(&mut sealed);
    let n = from.unsent().len().min(most);
    sealed[kept..kept + n].copy_from_slice(&from.unsent()[..n]);
    from.sent(n);
    lie(&mut sealed[kept..kept + n]);
    let mut room = vec![0; 1_000];
    let filled = to.take_in(&mut sealed[..kept + n], &mut room)?;
    let mut opened = room[..filled].to_vec();
    while to.has_opened() {
        let n = to.take_opened(&mut room);
        opened.extend_from_slice(&room[..n]);
    }
    Ok(opened)
}

#[test]
fn pieces_of_every_size_come_to_the_same() {
    for version in [&TLS12, &TLS13] {
        let configs = configs(version);
        for most in [1, 2, 5, 100, 1_000, 20_000, 70_000] {
            let [mut client, mut server] = pair(&configs);
            let mut opened = [Vec::new(), Vec::new()];
            let bytes: Vec<u8> = (0..100_000_u32).map(|n| n.to_le_bytes()[0]).collect();
            let mut is_sealed = false;
            for _ in 0..1_000_000 {
                opened[1].extend(pass(&mut client, &mut server, most, |_| {}).unwrap());
                opened[0].extend(pass(&mut server, &mut client, most, |_| {}).unwrap());
                let is_quiet = client.unsent().is_empty() && server.unsent().is_empty();
                if is_quiet && is_sealed {
                    break;
                }
                if is_quiet {
                    assert!(client.is_open() && server.is_open(), "{most} at a time");
                    for session in [&mut client, &mut server] {
                        assert!(session.seal(&bytes));
                        session.end();
                        assert!(!session.seal(b"late"));
                    }
                    is_sealed = true;
                }
            }
            assert!(opened.iter().all(|all| *all == bytes), "{most} at a time");
            assert!(client.is_ended() && server.is_ended());
        }
    }
}

#[test]
fn lies_are_refused_and_break_nothing() {
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    for version in [&TLS12, &TLS13] {
        let configs = configs(version);
        let mut refused = 0;
        for _ in 0..1_500 {
            let [mut client, mut server] = pair(&configs);
            let lies_at = random.below(8);
            let most = 1 + random.below(3_000);
            for step in 0..40 {
                let mut lie = |bytes: &mut [u8]| {
                    if step >= lies_at && !bytes.is_empty() {
                        let place = random.below(bytes.len());
                        bytes[place] ^= 1 << random.below(8);
                    }
                };
                let up = pass(&mut client, &mut server, most, &mut lie);
                let down = pass(&mut server, &mut client, most, &mut lie);
                if up.is_err() || down.is_err() {
                    refused += 1;
                    break;
                }
                if client.is_open() && server.is_open() && step < lies_at {
                    client.seal(&[7; 3_000]);
                    server.seal(&[8; 3_000]);
                }
            }
        }
        assert!(refused > 1_200, "{refused}");
    }
}

#[test]
fn noise_is_refused_with_an_alert() {
    let configs = configs(&TLS13);
    let mut random = Random(7);
    for _ in 0..2_000 {
        let [_, mut server] = pair(&configs);
        let mut noise: Vec<u8> = (0..=random.below(600))
            .map(|_| u8::try_from(random.below(256)).unwrap())
            .collect();
        if random.below(2) == 0 {
            noise[0] = 0x16;
        }
        if server.take_in(&mut noise, &mut []).is_err() {
            assert_eq!(server.unsent().first(), Some(&0x15));
        }
        assert!(!server.is_open());
    }
}
