//! Runs jobs, many at once, and only while this process leads. Must not know what they are.

use std::future::Future;

use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::Leadership;
use crate::reign::Reign;

impl Leadership {
    /// Runs the jobs that `next` gives, at most `at_once` at a time, until nobody campaigns any more. `next` says when to
    /// ask again if there is none by then; it is asked sooner when `filled` rings or a job ends. Once this process leads
    /// no longer, `clear` is called.
    ///
    /// A job has to ask [`Leadership::is_held`] just before it writes: this process may be stopped between the two, for so
    /// long that another leads.
    ///
    /// # Cancel safety
    /// Jobs under way are given up; what they do may have happened.
    pub async fn work<F>(
        &self,
        at_once: usize,
        filled: &Notify,
        clear: impl Fn(),
        mut next: impl FnMut() -> Result<F, Option<Instant>>,
    ) where
        F: Future<Output = ()> + Send + 'static,
    {
        let (mut running, mut reign) = (JoinSet::new(), self.reign());
        loop {
            if *reign.borrow_and_update() == Reign::Follower {
                clear();
            }
            let mut wake = None;
            if self.is_held(Instant::now()) && running.len() < at_once {
                match next() {
                    Ok(job) => {
                        running.spawn(job);
                        continue;
                    }
                    Err(at) => wake = at,
                }
            }
            let timer = async {
                match wake {
                    Some(at) => tokio::time::sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = filled.notified() => {}
                Some(_) = running.join_next() => {}
                changed = reign.changed() => if changed.is_err() { return },
                () = timer => {}
            }
        }
    }
}
