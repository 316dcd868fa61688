//! Tells everything that reads files to read them again, and knows when all have.

use tokio::sync::{mpsc, oneshot};

/// A request to load again; dropped once that is done.
pub(crate) type Request = oneshot::Sender<()>;
/// The requests that one source gets.
pub(crate) type Reloads = mpsc::Receiver<Request>;

/// Everything that can load again.
#[derive(Debug, Default)]
pub(crate) struct Sources(Vec<mpsc::Sender<Request>>);

impl Sources {
    /// Adds a source: what it is to listen to.
    pub(crate) fn add(&mut self) -> Reloads {
        let (sender, receiver) = mpsc::channel(1);
        self.0.push(sender);
        receiver
    }

    /// Asks one after the other, and waits for each. One that is gone is left out.
    pub(crate) async fn reload(&self) {
        for source in &self.0 {
            let (request, done) = oneshot::channel();
            if source.send(request).await.is_ok() {
                // It ends by being dropped, whatever came of the load.
                let _ = done.await;
            }
        }
    }
}
