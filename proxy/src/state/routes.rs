//! Whether connections can come to a set at all: for whoever asks why a backend gets none.

use super::engine::Engine;
use super::entry::Route;
use podline_api::Name;
use std::collections::HashMap;
use std::time::SystemTime;

impl Engine {
    /// Looks at all sets again, after listeners or sets came, went, were bound or failed.
    pub(super) fn update_routes(&mut self) {
        let mut routes: HashMap<&Name, Route> = HashMap::with_capacity(self.listeners.len());
        for listener in self.listeners.values() {
            for set in listener.wanted.sets() {
                let route = routes.entry(set).or_insert(Route::None);
                match &listener.failure {
                    None => *route = Route::Open,
                    Some(failure) if *route == Route::None => {
                        *route = Route::Failed(failure.clone());
                    }
                    Some(_) => {}
                }
            }
        }
        for (name, set) in &mut self.sets {
            let route = routes.remove(name).unwrap_or(Route::None);
            if set.route != route {
                set.route = route;
                set.route_since = SystemTime::now();
            }
        }
    }
}
