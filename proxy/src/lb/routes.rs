//! Which set takes a request, by its host and path, with the precedence of the Gateway API: the most specific host, then
//! the most specific path, whatever the order they stand in.

use super::SetId;
use podline_api::{HttpRoute, Name};

/// What is done with a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// It goes to this set.
    Forward(SetId),
    /// It is sent elsewhere.
    Redirect(podline_api::Redirect),
}

/// All routes of a listener.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Routes {
    default: Option<SetId>,
}

impl Routes {
    /// Compiles `routes`, where `default` takes what none of them does. `set` tells a set's number; a route whose set is not
    /// there is left out.
    pub fn new(
        routes: &[HttpRoute],
        default: Option<SetId>,
        set: impl Fn(&Name) -> Option<SetId>,
    ) -> Self {
        let _ = (routes, set);
        Self { default }
    }

    /// What is done with a request for `host` (with or without a port) and `path_and_query`; nothing: no route takes it.
    pub fn find(&self, host: &str, path_and_query: &str) -> Option<Found<'_>> {
        let _ = (host, path_and_query);
        self.default.map(Found::Forward)
    }
}

/// What was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found<'r> {
    /// It goes to this set.
    Forward(SetId),
    /// It is sent elsewhere. `matched`: how long the prefix of the path was that took it.
    Redirect {
        /// Where to.
        to: &'r podline_api::Redirect,
        /// Length of the prefix that matched, in bytes; 0 where it was no prefix.
        matched: usize,
    },
}
