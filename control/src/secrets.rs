//! Watches single Secrets by name for as long as they are wanted, and tells what they hold. Must not know what for. What
//! is in them is neither logged nor written.

use std::collections::BTreeMap;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;
use kube::api::ListParams;
use kube::runtime::watcher;
use kube::{Api, Client};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::cluster::{Change, Key, TlsSecret};
use crate::fault;
use crate::watch::{FIRST_RETRY, LAST_RETRY, Seen, WELL_AFTER, What};

/// The Secrets that are wanted. One that is wanted anew has another number, and is told anew.
pub type Wanted = BTreeMap<Key, u64>;

/// One that could not be read for so long is said to be unreadable, unless it was read before.
const PATIENCE: Duration = Duration::from_secs(10);
/// A certificate's end is looked for so often, since clocks are set.
const LOOK_EVERY: Duration = Duration::from_hours(1);

/// Ends with it.
struct Watch {
    generation: u64,
    task: JoinHandle<()>,
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Watches what is wanted, for as long as somebody wants something and listens to `seen`.
pub async fn run(
    client: Client,
    mut wanted: watch::Receiver<Arc<Wanted>>,
    seen: mpsc::Sender<Seen>,
) {
    let mut watches: BTreeMap<Key, Watch> = BTreeMap::new();
    loop {
        let now = Arc::clone(&wanted.borrow_and_update());
        watches.retain(|key, watch| now.get(key) == Some(&watch.generation));
        for (key, generation) in &*now {
            watches.entry(key.clone()).or_insert_with(|| Watch {
                generation: *generation,
                task: tokio::spawn(follow(client.clone(), key.clone(), seen.clone())),
            });
        }
        if wanted.changed().await.is_err() {
            return;
        }
    }
}

/// Tells what one Secret holds, again and again.
async fn follow(client: Client, key: Key, seen: mpsc::Sender<Seen>) {
    let api: Api<Secret> = Api::namespaced(client, &key.namespace);
    let mut teller = Teller {
        key,
        seen,
        told: None,
    };
    // Watches log each refusal, and nobody may ever allow it: asked for in silence.
    while allowed(&api, &mut teller).await && watched(&api, &mut teller).await {
        tokio::time::sleep(LAST_RETRY).await;
    }
}

/// Waits until the Secret may be read; whether somebody listens.
async fn allowed(api: &Api<Secret>, teller: &mut Teller) -> bool {
    let fields = format!("metadata.name={}", teller.key.name);
    let wanted = ListParams::default().fields(&fields).limit(1);
    let mut retry = FIRST_RETRY;
    loop {
        match api.list_metadata(&wanted).await {
            Err(error) if fault::is_forbidden(&error) => {}
            _ => return true,
        }
        if !teller.tell(TlsSecret::Forbidden).await {
            return false;
        }
        tokio::time::sleep(retry).await;
        retry = (retry * 2).min(LAST_RETRY);
    }
}

/// Watches the Secret until it may not be read any more; whether somebody listens.
async fn watched(api: &Api<Secret>, teller: &mut Teller) -> bool {
    let mut events = pin!(watcher::watch_object(api.clone(), &teller.key.name));
    let mut object = None;
    let (begun, mut since, mut retry) = (Instant::now(), Instant::now(), FIRST_RETRY);
    loop {
        let event = tokio::select! {
            event = events.next() => event,
            () = tokio::time::sleep(teller.pause()), if object.is_some() => Some(Ok(object.take())),
        };
        let secret = match event {
            None => return false,
            Some(Ok(found)) => {
                object = found;
                let held = |object| TlsSecret::read(object, Timestamp::now().as_second());
                object.as_ref().map_or(TlsSecret::Absent, held)
            }
            Some(Err(error)) if fault::is_watch_forbidden(&error) => {
                return teller.tell(TlsSecret::Forbidden).await;
            }
            Some(Err(error)) => {
                if since.elapsed() > WELL_AFTER {
                    retry = FIRST_RETRY;
                }
                tokio::time::sleep(retry).await;
                retry = (retry * 2).min(LAST_RETRY);
                since = Instant::now();
                // It may get better, and what it held stays.
                if teller.has_read() || begun.elapsed() < PATIENCE {
                    continue;
                }
                TlsSecret::Unreadable(fault::watching(&error))
            }
        };
        if !teller.tell(secret).await {
            return false;
        }
    }
}

/// Who tells, and what was told last.
struct Teller {
    key: Key,
    seen: mpsc::Sender<Seen>,
    told: Option<TlsSecret>,
}

impl Teller {
    /// Whether somebody listens.
    async fn tell(&mut self, secret: TlsSecret) -> bool {
        if self.told.as_ref() == Some(&secret) {
            return true;
        }
        let change = Change::Secret(self.key.clone(), Some(secret.clone()));
        self.told = Some(secret);
        let seen = Seen {
            at: Instant::now(),
            what: What::Change(change),
        };
        self.seen.send(seen).await.is_ok()
    }

    /// It was read at some time, and nobody forbids it now.
    const fn has_read(&self) -> bool {
        !matches!(
            self.told,
            None | Some(TlsSecret::Forbidden | TlsSecret::Unreadable(_))
        )
    }

    /// How long until it is to be read again though nothing happened to it.
    fn pause(&self) -> Duration {
        let Some(end) = self.told.as_ref().and_then(TlsSecret::ends) else {
            return LOOK_EVERY;
        };
        let left = end.saturating_sub(Timestamp::now().as_second());
        let left = u64::try_from(left).unwrap_or_default();
        Duration::from_secs(left + 1).min(LOOK_EVERY)
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::ByteString;
    use serde_json::json;
    use tokio::time::timeout;

    use super::*;
    use crate::cluster::testing::{key, pair};
    use crate::fake_server::Server;

    const SHOP: &str = "/api/v1/namespaces/shop/secrets";

    /// A server, what is wanted of it, and what is told.
    struct World {
        server: Server,
        wanted: watch::Sender<Arc<Wanted>>,
        seen: mpsc::Receiver<Seen>,
    }

    impl World {
        fn start(server: Server) -> Self {
            let (wanted, wants) = watch::channel(Arc::default());
            let (tell, seen) = mpsc::channel(16);
            tokio::spawn(run(server.client(), wants, tell));
            Self {
                server,
                wanted,
                seen,
            }
        }

        fn want(&self, list: &[(&str, u64)]) {
            let list = list.iter().map(|(name, at)| (key(name), *at));
            self.wanted.send_replace(Arc::new(list.collect()));
        }

        fn put(&self, name: &str, (chain, secret): &(String, String)) {
            let data = [("tls.crt", chain), ("tls.key", secret)];
            let data = data.map(|(key, text)| (key, ByteString(text.clone().into_bytes())));
            let data = std::collections::BTreeMap::from(data);
            let object = json!({"type": "kubernetes.io/tls", "data": data});
            self.server.put_object(&format!("{SHOP}/{name}"), object);
        }

        async fn next(&mut self) -> (String, TlsSecret) {
            let seen = timeout(Duration::from_mins(1), self.seen.recv()).await;
            match seen.unwrap().unwrap().what {
                What::Change(Change::Secret(key, Some(secret))) => (key.to_string(), secret),
                odd => panic!("{odd:?}"),
            }
        }

        async fn is_silent(&mut self) -> bool {
            timeout(Duration::from_secs(30), self.seen.recv())
                .await
                .is_err()
        }
    }

    fn chain((name, secret): (String, TlsSecret)) -> (String, String) {
        match secret {
            TlsSecret::Good { certificate, .. } => (name, certificate.chain.clone()),
            odd => panic!("{name}: {odd:?}"),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_wanted_is_told_and_nothing_else() {
        let mut world = World::start(Server::new());
        let pairs = ["a.example", "b.example"].map(pair);
        world.put("web", &pairs[0]);
        world.put("other", &pairs[1]);
        assert!(world.is_silent().await);
        world.want(&[("shop/web", 1)]);
        let told = chain(world.next().await);
        assert_eq!(told, ("shop/web".to_owned(), pairs[0].0.clone()));
        world.put("other", &pairs[0]);
        assert!(world.is_silent().await);
        world.put("web", &pairs[1]);
        assert_eq!(chain(world.next().await).1, pairs[1].0);
        world.server.delete_object(&format!("{SHOP}/web"));
        assert_eq!(world.next().await.1, TlsSecret::Absent);
        world.put("web", &pairs[0]);
        assert_eq!(chain(world.next().await).1, pairs[0].0);
        // Wanted anew, it is told anew; not wanted, it is not told.
        world.want(&[("shop/web", 2)]);
        assert_eq!(chain(world.next().await).1, pairs[0].0);
        world.want(&[]);
        tokio::task::yield_now().await;
        world.put("web", &pairs[1]);
        assert!(world.is_silent().await);
    }

    #[tokio::test(start_paused = true)]
    async fn what_may_not_be_read_is_told_and_tried_again() {
        let server = Server::new();
        server.forbid(&["GET /api/v1/namespaces/shop"]);
        let mut world = World::start(server);
        let pair = pair("a.example");
        world.put("web", &pair);
        world.want(&[("shop/web", 1)]);
        assert_eq!(world.next().await.1, TlsSecret::Forbidden);
        assert!(world.is_silent().await);
        world.server.forbid(&[]);
        assert_eq!(chain(world.next().await).1, pair.0);
    }
}
