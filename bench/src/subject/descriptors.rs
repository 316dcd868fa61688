//! How many file descriptors a process may have.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// What stands for no limit: more than any configuration here asks for.
const PLENTY: u64 = 1 << 20;

/// Raises this process's limit to the most that it may have, which its children inherit, and says how much that is.
pub(super) fn raise() -> u64 {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    match setrlimit(Resource::Nofile, raised) {
        Ok(()) => limit.maximum.unwrap_or(PLENTY),
        Err(_) => limit.current.unwrap_or(PLENTY), // what there was is still there
    }
}
