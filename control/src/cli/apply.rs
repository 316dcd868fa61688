//! `podline apply`: puts a file into the proxy, as one transaction.

use std::fmt::Write;
use std::time::Duration;

use podline_api::{Apply, v1};

use super::failure::{Exit, Failure};
use super::human::{Columns, clean, count, measured};
use super::input::Input;
use super::output::Screen;
use super::selection::listener_name;
use super::target::Target;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    input: Input,
    /// Let the proxy check it, and change nothing.
    #[arg(long)]
    dry_run: bool,
}

pub(super) async fn run(
    args: &Args,
    target: &Target,
    screen: &mut Screen,
) -> Result<Exit, Failure> {
    let document = args.input.read()?;
    let apply = Apply {
        replace_owned: args.input.replace,
        validate_only: args.dry_run,
        ..Apply::document(args.input.owner.clone(), document)
    };
    let answer = target.connect().await?.apply(&apply).await;
    let answer = answer.map_err(|error| Failure::of_file(error, args.input.name()))?;
    screen.answer(&answer, || render(&answer, args.dry_run))?;
    Ok(Exit::Done)
}

/// What became of the things, or would.
pub(super) fn render(answer: &v1::ApplyResponse, dry_run: bool) -> String {
    let mut columns = Columns::new("", &[]);
    for change in &answer.changes {
        let action = if dry_run {
            format!("would be {}", action(change))
        } else {
            action(change).to_owned()
        };
        columns.row([change.what.clone(), action, backends(change)]);
    }
    let mut text = columns.text();
    for listener in answer
        .listeners
        .iter()
        .filter(|listener| listener.state() == v1::listener_status::State::Failed)
    {
        let (name, reason) = (listener_name(listener), clean(&listener.reason));
        let _ = writeln!(
            text,
            "warning: listener/{name} FAILED: {reason}; the proxy tries again every second"
        );
    }
    if !answer.silent_workers.is_empty() {
        let workers = answer
            .silent_workers
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>()
            .join(", ");
        let _ = writeln!(
            text,
            "warning: no word from worker {workers}: it may still act on the version before"
        );
    }
    let took = answer.took.and_then(|took| Duration::try_from(took).ok());
    let took = took
        .map(|took| format!(", in effect after {}", measured(took)))
        .unwrap_or_default();
    let version = answer.version;
    let _ = match (answer.changes.is_empty(), dry_run) {
        (true, _) => writeln!(text, "nothing to change, version {version}"),
        (false, true) => writeln!(text, "valid; a dry run changes nothing, version {version}"),
        (false, false) => writeln!(text, "version {version}{took}"),
    };
    text
}

/// What became of the thing, in small letters.
pub(super) fn action(change: &v1::Change) -> &'static str {
    match change.action() {
        v1::change::Action::Added => "added",
        v1::change::Action::Changed => "changed",
        v1::change::Action::Removed => "removed",
        v1::change::Action::Unspecified => "touched",
    }
}

/// `2 backends added, 1 removed`; empty if none changed.
pub(super) fn backends(change: &v1::Change) -> String {
    let parts = [
        (change.backends_added, "added"),
        (change.backends_changed, "changed"),
        (change.backends_removed, "removed"),
    ];
    let mut text = String::new();
    for (number, verb) in parts.into_iter().filter(|(number, _)| *number > 0) {
        let _ = if text.is_empty() {
            write!(text, "{} {verb}", count(number as usize, "backend"))
        } else {
            write!(text, ", {number} {verb}")
        };
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(
        what: &str,
        action: v1::change::Action,
        [added, changed, removed]: [u32; 3],
    ) -> v1::Change {
        v1::Change {
            what: what.to_owned(),
            action: action.into(),
            backends_added: added,
            backends_changed: changed,
            backends_removed: removed,
        }
    }

    fn answer() -> v1::ApplyResponse {
        use v1::change::Action::{Added, Changed, Removed};
        v1::ApplyResponse {
            version: 7,
            changes: vec![
                change("listener/web", Added, [0; 3]),
                change("set/web", Changed, [2, 0, 1]),
                change("set/database", Changed, [0, 1, 0]),
                change("set/old", Removed, [0, 0, 3]),
            ],
            took: Some(prost_types::Duration {
                seconds: 0,
                nanos: 350_000,
            }),
            ..Default::default()
        }
    }

    #[test]
    fn changes_are_listed() {
        let text = "\
listener/web  added
set/web       changed  2 backends added, 1 removed
set/database  changed  1 backend changed
set/old       removed  3 backends removed
version 7, in effect after 0.35 ms
";
        assert_eq!(render(&answer(), false), text);
    }

    #[test]
    fn a_dry_run_says_so() {
        let mut answer = answer();
        answer.changes.truncate(1);
        let text = "listener/web  would be added\nvalid; a dry run changes nothing, version 7\n";
        assert_eq!(render(&answer, true), text);
        answer.changes.clear();
        assert_eq!(render(&answer, true), "nothing to change, version 7\n");
    }

    #[test]
    fn failed_listeners_and_silent_workers_are_warned_of() {
        let status = v1::ListenerStatus {
            listener: Some(v1::Listener {
                name: "web".to_owned(),
                ..Default::default()
            }),
            state: v1::listener_status::State::Failed.into(),
            reason: "127.0.0.1:80 is in use\nby nginx".to_owned(),
            ..Default::default()
        };
        let answer = v1::ApplyResponse {
            version: 8,
            listeners: vec![status],
            silent_workers: vec![0, 3],
            ..Default::default()
        };
        let text = "\
warning: listener/web FAILED: 127.0.0.1:80 is in use by nginx; the proxy tries again every second
warning: no word from worker 0, 3: it may still act on the version before
nothing to change, version 8
";
        assert_eq!(render(&answer, false), text);
    }
}
