//! Questions to a Pod on its standard input, answered on its standard output, each a line. Its end is the Pod's end: a Pod
//! does not outlive who started it.

use std::io::{BufRead, Write, stdin, stdout};
use std::process::exit;
use std::sync::Arc;
use std::thread;

use super::state::State;

/// Asks for the counters, which are answered as JSON.
pub(crate) const STATS: &str = "stats";
/// What a Pod says once it has started.
pub(crate) const READY: &str = "ready";

/// Says that the Pod has started.
pub(crate) fn say_ready() {
    say(READY);
}

/// Answers questions, in a thread of its own.
pub(crate) fn answer(state: Arc<State>) {
    thread::spawn(move || {
        for line in stdin().lock().lines() {
            let Ok(line) = line else { break };
            if line.trim() == STATS {
                let json = serde_json::to_string(&state.stats());
                say(&json.unwrap_or_else(|error| error.to_string()));
            }
        }
        exit(0);
    });
}

fn say(line: &str) {
    let mut out = stdout().lock();
    writeln!(out, "{line}").and_then(|()| out.flush()).ok(); // nobody listens any more
}
