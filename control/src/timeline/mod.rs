//! How each Pod came into traffic, and out of it: when the leader saw what, by the Pod's uid, in its own time.
//!
//! `book` decides what was seen of whom, purely; `follow` carries to it what the engine, the proxies and the gates say, and
//! takes away what there is to count and to tell. Nothing waits for either: what falls behind is left out.

mod ask;
pub mod book;
mod difference;
pub mod follow;
mod news;
pub mod point;
pub mod row;
pub mod skew;
mod tell;
mod words;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;

pub use ask::{Ear, Told, Wanted, What};
use book::Book;
pub use news::News;
pub use point::Point;
pub use row::Row;

/// Timelines of all Pods. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Timelines(Arc<Mutex<Book>>);

impl Timelines {
    /// Notes that a Pod has come to a point; the first time counts. A Pod that was never bound has no timeline.
    pub fn note(&self, uid: &Arc<str>, point: Point, at: Timestamp) {
        self.book().note(uid, point, at);
    }

    /// A look; must be short, since gates may wait meanwhile. Whoever looks at the engine's core does that before or after.
    pub fn book(&self) -> MutexGuard<'_, Book> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
