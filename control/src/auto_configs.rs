//! Writes the TkeServiceConfigs that are made for Services and Ingresses, one at a time, and only while this process leads. Must not
//! know what they are to be: that is `build::config::auto`'s.
//!
//! What is wanted stays wanted until the object is seen to be as it should be. A write that failed, or whose effect was
//! not seen, is done again after a while; one that came too late is taken back by the server, since it holds for the
//! object as it was seen only.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use kube::Client;
use kube::api::{Api, ApiResource, DynamicObject, Patch, PatchParams, PostParams};
use kube::core::GroupVersionKind;
use tokio::sync::Notify;
use tokio::time::{Instant, timeout};

use crate::build::config::auto::Write;
use crate::cluster::Front;
use crate::cluster::service::MANAGER;
use crate::crd::{GROUP, KIND, PLURAL, VERSION};
use crate::fault;
use crate::lease::Leadership;

/// One write's limit.
const LIMIT: Duration = Duration::from_secs(10);
/// What is still wanted is tried again after so long.
const AGAIN: Duration = Duration::from_secs(5);

/// What is wanted. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Wanted(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct State {
    /// By owner.
    wanted: BTreeMap<Front, Arc<Write>>,
    /// What was tried, and when it may be again.
    tried: BTreeMap<Front, (Arc<Write>, Instant)>,
    /// Told already.
    told: BTreeSet<(Front, String)>,
}

impl Wanted {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is wanted for one now, if anything.
    pub fn put(&self, owner: &Front, write: Option<Arc<Write>>) {
        let mut state = self.lock();
        if let Some(write) = write {
            state.wanted.insert(owner.clone(), write);
        } else if state.wanted.remove(owner).is_some() {
            state.tried.remove(owner);
            state.told.retain(|(known, _)| known != owner);
        }
        drop(state);
        self.0.changed.notify_one();
    }

    /// The next write whose time has come, or when there may be one.
    fn next(&self, now: Instant) -> Result<(Front, Arc<Write>), Option<Instant>> {
        let mut state = self.lock();
        let State { wanted, tried, .. } = &mut *state;
        let mut soonest = None;
        for (owner, write) in wanted.iter() {
            let at = tried.get(owner).filter(|(known, _)| known == write);
            match at {
                Some((_, at)) if *at > now => {
                    soonest = Some(soonest.map_or(*at, |soonest: Instant| soonest.min(*at)));
                }
                _ => {
                    tried.insert(owner.clone(), (Arc::clone(write), now + AGAIN));
                    return Ok((owner.clone(), Arc::clone(write)));
                }
            }
        }
        Err(soonest)
    }

    /// Whether this is news.
    fn tells(&self, owner: &Front, problem: &str) -> bool {
        self.lock().told.insert((owner.clone(), problem.to_owned()))
    }

    fn clear(&self) {
        *self.lock() = State::default();
    }
}

/// Writes what is wanted, for as long as this process lives.
pub async fn run(client: Client, leadership: Leadership, wanted: Wanted) {
    let mut reign = leadership.reign();
    loop {
        let soonest = if leadership.is_held(Instant::now()) {
            match wanted.next(Instant::now()) {
                Ok((owner, write)) => {
                    put(&client, &wanted, &owner, &write).await;
                    continue;
                }
                Err(soonest) => soonest,
            }
        } else {
            // Whoever leads next looks at everything.
            wanted.clear();
            None
        };
        let pause = async {
            match soonest {
                Some(at) => tokio::time::sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = wanted.0.changed.notified() => {}
            Ok(()) = reign.changed() => {}
            () = pause => {}
        }
    }
}

async fn put(client: &Client, wanted: &Wanted, owner: &Front, write: &Write) {
    let kind = GroupVersionKind::gvk(GROUP, VERSION, KIND);
    let resource = ApiResource::from_gvk_with_plural(&kind, PLURAL);
    let namespace = &write.key.namespace;
    let api: Api<DynamicObject> = Api::namespaced_with(client.clone(), namespace, &resource);
    let written = timeout(LIMIT, send(&api, write)).await;
    let problem = match written {
        Ok(Ok(())) => {
            tracing::info!(object = %write.key, "TkeServiceConfig written");
            return;
        }
        // Somebody else wrote first: the watch tells what there is now.
        Ok(Err(error)) if fault::is_conflict(&error) => return,
        Ok(Err(error)) => fault::said(&error),
        Err(_) => "the API server did not answer in time".to_owned(),
    };
    if wanted.tells(owner, &problem) {
        tracing::warn!(object = %write.key, problem, "cannot write a TkeServiceConfig; trying again");
    }
}

async fn send(api: &Api<DynamicObject>, write: &Write) -> kube::Result<()> {
    let manager = Some(MANAGER.to_owned());
    if write.is_new {
        let params = PostParams {
            field_manager: manager,
            ..PostParams::default()
        };
        let object: DynamicObject =
            serde_json::from_value(write.body.clone()).map_err(kube::Error::SerdeError)?;
        return api.create(&params, &object).await.map(drop);
    }
    let params = PatchParams {
        field_manager: manager,
        ..PatchParams::default()
    };
    let patch = Patch::Merge(&write.body);
    api.patch(&write.key.name, &params, &patch).await.map(drop)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::cluster::testing::key;
    use crate::fake_server::Server;
    use crate::lease::Commander;
    use crate::reign::Reign;

    const PATH: &str =
        "/apis/cloud.tencent.com/v1alpha1/namespaces/a/tkeserviceconfigs/web-auto-service-config";

    fn write(text: &str) -> Arc<Write> {
        let name = "web-auto-service-config";
        Arc::new(Write {
            key: key(&format!("a/{name}")),
            body: json!({
                "apiVersion": "cloud.tencent.com/v1alpha1", "kind": "TkeServiceConfig",
                "metadata": {"name": name, "namespace": "a"}, "spec": {"text": text},
            }),
            is_new: true,
        })
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_wanted_is_tried_now_and_then_until_it_is_not() {
        let (wanted, web) = (Wanted::default(), Front::Service(key("a/web")));
        let now = Instant::now();
        assert_eq!(wanted.next(now), Err(None));
        wanted.put(&web, Some(write("x")));
        assert_eq!(wanted.next(now).unwrap().1, write("x"));
        wanted.put(&web, Some(write("x")));
        assert_eq!(wanted.next(now), Err(Some(now + AGAIN)));
        // Something else is wanted: at once.
        wanted.put(&web, Some(write("y")));
        assert_eq!(wanted.next(now).unwrap().1, write("y"));
        assert_eq!(wanted.next(now + AGAIN).unwrap().1, write("y"));
        wanted.put(&web, None);
        assert_eq!(wanted.next(now + AGAIN * 2), Err(None));
        wanted.put(&web, Some(write("y")));
        assert!(wanted.next(now).is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn the_leader_alone_writes() {
        let (server, commander) = (Server::new(), Commander::new());
        let wanted = Wanted::default();
        let task = run(server.client(), commander.leadership(), wanted.clone());
        let task = tokio::spawn(task);
        wanted.put(&Front::Service(key("a/web")), Some(write("x")));
        tokio::time::sleep(AGAIN * 3).await;
        assert_eq!(server.writes(), 0);
        commander.set(Reign::Leader { epoch: 1 });
        tokio::time::sleep(AGAIN).await;
        assert_eq!(server.writes(), 0, "what was wanted before is forgotten");
        wanted.put(&Front::Service(key("a/web")), Some(write("x")));
        tokio::time::sleep(AGAIN / 5).await;
        assert!(server.object(PATH).is_some());
        task.abort();
    }
}
