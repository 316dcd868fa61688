//! How others have single backends of ours kept out of traffic for a time, by every replica, whether it leads or not: over
//! the connections that there are to the proxies anyway. Decides nothing.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::future::join_all;
use podline_api::Rejected;
use podline_api::client::{ClientError, ProxyClient};
use podline_api::v1;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, timeout};

/// Every override of ours has a note that begins so; others' must not be undone.
pub const NOTE: &str = "the deletion of Pod ";
/// What a proxy must be able to do.
pub const FEATURE: &str = "override";
/// What waits for one proxy; what does not fit is refused.
const WAITING: usize = 1_024;

/// What came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Every worker of the proxy acts on it.
    Done,
    /// It was not done, or not all of it: why.
    Failed(String),
}

/// What a proxy is to be told.
#[derive(Debug)]
pub(crate) struct Ask {
    /// All of them, in no order.
    pub(crate) requests: Vec<v1::OverrideRequest>,
    /// Not to be done any more after this.
    pub(crate) until: Instant,
    /// Whoever waits for it, if anybody does still.
    pub(crate) answer: oneshot::Sender<Outcome>,
}

impl Ask {
    /// It comes too late.
    pub(super) fn is_over(&self) -> bool {
        Instant::now() >= self.until
    }
}

/// The ways to the proxies, by name. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Overrides(Arc<Mutex<BTreeMap<String, mpsc::Sender<Ask>>>>);

impl Overrides {
    /// Begins to ask a proxy for overrides. The answer tells nothing if the proxy, or the connection to it, is gone.
    pub fn ask(
        &self,
        proxy: &str,
        requests: Vec<v1::OverrideRequest>,
        within: Duration,
    ) -> oneshot::Receiver<Outcome> {
        let (answer, answered) = oneshot::channel();
        let ask = Ask {
            requests,
            until: Instant::now() + within,
            answer,
        };
        let line = self.lines().get(proxy).cloned();
        // Without a line, or a place in it, the receiver hears that nobody is left who could answer.
        if let Some(line) = line {
            let _ = line.try_send(ask);
        }
        answered
    }

    /// A proxy is there from now on: what it is asked.
    pub(crate) fn open(&self, proxy: &str) -> mpsc::Receiver<Ask> {
        let (line, asks) = mpsc::channel(WAITING);
        self.lines().insert(proxy.to_owned(), line);
        asks
    }

    /// A proxy is gone.
    pub(crate) fn close(&self, proxy: &str) {
        self.lines().remove(proxy);
    }

    fn lines(&self) -> MutexGuard<'_, BTreeMap<String, mpsc::Sender<Ask>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Does what is asked, all at once, and answers.
pub(super) async fn carry_out(client: ProxyClient, ask: Ask, limit: Duration) {
    let one = async |request: v1::OverrideRequest| {
        let answer = timeout(limit, client.override_backend(request)).await;
        match answer {
            // It sends nothing to what it does not know, and has nothing to take back of it.
            Ok(
                Ok(_)
                | Err(ClientError::Rejected {
                    source: Rejected::NotFound { .. },
                    ..
                }),
            ) => Ok(()),
            Ok(Err(error)) => Err(crate::fault::chain(&error)),
            Err(_) => Err(format!("no answer within {limit:?}")),
        }
    };
    let answers = join_all(ask.requests.into_iter().map(one)).await;
    let failed = answers.into_iter().find_map(Result::err);
    // Nobody may wait any more.
    let _ = ask.answer.send(match failed {
        None => Outcome::Done,
        Some(why) => Outcome::Failed(why),
    });
}
