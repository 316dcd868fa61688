//! What moves on its own, for as long as the process runs: health changes are published, drains move on, listeners that
//! failed are tried again, failing backends are ejected, overrides and ejections end.

use super::engine::Engine;
use super::{ACKNOWLEDGE, State};
use std::time::Duration;

/// Health changes of so long are published together.
const HEALTH_BATCH: Duration = Duration::from_millis(2);
/// How often drains are looked at while there are any.
const DRAIN_LOOK: Duration = Duration::from_millis(20);
/// How often a listener that failed is tried again.
const LISTENER_RETRY: Duration = Duration::from_secs(1);

impl State {
    /// Publishes health changes, moves drains on and retries listeners, for as long as it is polled.
    pub async fn run(&self) {
        tokio::join!(
            self.publish_health(),
            self.move_drains(),
            self.retry_listeners(),
            self.eject_failing(),
            self.distrust_unanswered(),
            self.end_what_is_due()
        );
    }

    async fn publish_health(&self) {
        loop {
            self.0.health.notified().await;
            tokio::time::sleep(HEALTH_BATCH).await;
            self.change(|engine| {
                engine.publish();
                engine.take_events()
            });
            self.0.changed.notify_one();
        }
    }

    async fn eject_failing(&self) {
        loop {
            let failing = self.0.plane.failing_backends().await;
            self.change(|engine| {
                for runtime in &failing {
                    engine.eject(runtime);
                }
                engine.publish();
                engine.take_events()
            });
            self.0.probes.notify_one();
            self.0.ends.notify_one();
        }
    }

    /// Ends overrides and ejections when their time comes.
    async fn end_what_is_due(&self) {
        loop {
            let next = self.engine().next_end_ms();
            let now_ms = self.0.plane.now_ms();
            match next {
                Some(at) if at <= now_ms => {
                    self.change(|engine| {
                        engine.end_due_overrides(now_ms);
                        engine.end_due_ejections(now_ms);
                        engine.publish();
                        engine.take_events()
                    });
                    self.0.changed.notify_one();
                }
                Some(at) => tokio::select! {
                    () = tokio::time::sleep(Duration::from_millis(at - now_ms)) => {}
                    () = self.0.ends.notified() => {}
                },
                None => self.0.ends.notified().await,
            }
        }
    }

    async fn move_drains(&self) {
        loop {
            let work = self.0.work.notified();
            let version = self.engine().draining_version();
            match version {
                None => work.await,
                Some(version) => {
                    tokio::time::sleep(DRAIN_LOOK).await;
                    // A worker that stays silent holds back every drain: nothing is said to be closed that may not be.
                    if self
                        .0
                        .plane
                        .acknowledged(version, ACKNOWLEDGE)
                        .await
                        .is_ok()
                    {
                        self.change(|engine| engine.move_drains(version));
                    }
                }
            }
        }
    }

    async fn retry_listeners(&self) {
        loop {
            let work = self.0.work.notified();
            if self.engine().failed_listeners().is_empty() {
                work.await;
            } else {
                tokio::time::sleep(LISTENER_RETRY).await;
                self.change(Engine::retry_listeners);
            }
        }
    }
}
