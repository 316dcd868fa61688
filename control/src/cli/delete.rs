//! `podline delete`: removes what an owner has, or some of it, as one transaction.

use std::io::{BufRead, IsTerminal, Write};

use podline_api::client::ProxyClient;
use podline_api::{Apply, Owner, v1};

use super::apply;
use super::failure::{Exit, Failure};
use super::human::count;
use super::output::Screen;
use super::selection::Named;
use super::target::Target;

/// How to use it.
pub(super) const HELP: &str = "\
Examples:
  podline delete --owner k8s/east --dry-run   what would go
  podline delete --owner k8s/east --yes       all of it
  podline delete listener/web set/web --owner cli

Connections live on to their drain timeouts. A controller that still runs puts its things back.";

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// listener/NAME or set/NAME; everything of the owner if left out.
    #[arg(value_name = "TYPE/NAME")]
    things: Vec<Named>,
    /// Whose things they are.
    #[arg(long, value_parser = |text: &str| Owner::try_from(text))]
    owner: Owner,
    /// Do not ask before everything of the owner is removed.
    #[arg(long)]
    yes: bool,
    /// Let the proxy check it, and change nothing.
    #[arg(long)]
    dry_run: bool,
}

pub(super) async fn run(
    args: &Args,
    target: &Target,
    screen: &mut Screen,
) -> Result<Exit, Failure> {
    let ask = std::io::stdin().is_terminal() && std::io::stderr().is_terminal();
    let asked = ask.then_some(confirmed as fn(&str) -> bool);
    delete(args, &target.connect().await?, asked, screen).await
}

/// `ask` puts a question to somebody, if anybody is there.
async fn delete(
    args: &Args,
    client: &ProxyClient,
    ask: Option<fn(&str) -> bool>,
    screen: &mut Screen,
) -> Result<Exit, Failure> {
    let state = client.get(v1::GetRequest {
        summary: true,
        ..Default::default()
    });
    let state = state.await?;
    if args.things.is_empty() && !args.yes && !args.dry_run {
        let Some(ask) = ask else {
            let problem = "there is nobody to ask: use --yes, or see it with --dry-run";
            return Err(Failure::Usage(problem.to_owned()));
        };
        if !ask(&question(&state, &args.owner)) {
            return Err(Failure::Usage("nothing was deleted".to_owned()));
        }
    }
    let answer = client.apply(&transaction(args, &state)).await?;
    screen.answer(&answer, || apply::render(&answer, args.dry_run))?;
    Ok(Exit::Done)
}

/// `delete 1 listener and 2 sets of k8s/east?`
fn question(state: &v1::GetResponse, owner: &Owner) -> String {
    let (listeners, sets) = (&state.listeners, &state.backend_sets);
    let is_theirs = |name: &String| name.as_str() == owner.as_str();
    let stays =
        |status: &v1::ListenerStatus| status.state() != v1::listener_status::State::Draining;
    let theirs = |l: &&v1::ListenerStatus| is_theirs(&l.owner) && stays(l);
    let listeners = listeners.iter().filter(theirs).count();
    let sets = sets.iter().filter(|set| is_theirs(&set.owner)).count();
    let (listeners, sets) = (count(listeners, "listener"), count(sets, "set"));
    format!("delete {listeners} and {sets} of {owner}?")
}

/// Whoever asks for this means the owner as it is now, so it speaks as the one that leads.
fn transaction(args: &Args, state: &v1::GetResponse) -> Apply {
    let owner = &args.owner;
    let mut owners = state.owners.iter();
    let status = owners.find(|status| status.owner == owner.as_str());
    let (listeners, sets) = Named::split(&args.things);
    Apply {
        remove_listeners: listeners,
        remove_backend_sets: sets,
        replace_owned: args.things.is_empty(),
        validate_only: args.dry_run,
        epoch: status.and_then(|status| status.epoch),
        ..Apply::new(owner.clone())
    }
}

/// Puts a question to whoever sits at the terminal.
pub(super) fn confirmed(question: &str) -> bool {
    eprint!("{question} [y/N] ");
    drop(std::io::stderr().flush());
    let mut answer = String::new();
    let read = std::io::stdin().lock().read_line(&mut answer);
    read.is_ok() && is_yes(&answer)
}

fn is_yes(answer: &str) -> bool {
    matches!(answer.trim().to_lowercase().as_str(), "y" | "yes")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::Format;
    use crate::cli::fake::{self, Paper, Part};
    use crate::cli::sample;

    fn args(things: &[&str], owner: &str) -> Args {
        Args {
            things: things.iter().map(|text| text.parse().unwrap()).collect(),
            owner: Owner::try_from(owner).unwrap(),
            yes: false,
            dry_run: false,
        }
    }

    /// What is written, or the error, and what the proxy is asked to do.
    async fn told(args: &Args, ask: Option<fn(&str) -> bool>) -> (String, Vec<v1::ApplyRequest>) {
        let gone = v1::Change {
            what: "set/db".to_owned(),
            action: v1::change::Action::Removed.into(),
            backends_removed: 1,
            ..Default::default()
        };
        let part = Part {
            state: sample::state(),
            changes: vec![gone],
            ..Part::default()
        };
        let (client, applied) = fake::proxy(part).await;
        let paper = Paper::default();
        let mut screen = Screen::new(Box::new(paper.clone()), Format::Table, false);
        let text = match delete(args, &client, ask, &mut screen).await {
            Ok(_) => paper.text(),
            Err(failure) => failure.explain(),
        };
        let applied = applied.lock().unwrap().clone();
        (text, applied)
    }

    fn everything(owner: &str, epoch: Option<u64>) -> v1::ApplyRequest {
        v1::ApplyRequest {
            owner: owner.to_owned(),
            replace_owned: true,
            epoch,
            ..Default::default()
        }
    }

    const GONE: &str = "set/db  removed  1 backend removed\nversion 13\n";

    #[tokio::test]
    async fn everything_of_an_owner_goes_when_somebody_says_yes() {
        let args = Args {
            yes: true,
            ..args(&[], "k8s/east")
        };
        let expected = (GONE.to_owned(), vec![everything("k8s/east", Some(7))]);
        assert_eq!(told(&args, None).await, expected);
        let args = self::args(&[], "k8s/east");
        let asked = |question: &str| question == "delete 1 listener and 1 set of k8s/east?";
        assert_eq!(told(&args, Some(asked)).await, expected);
    }

    #[tokio::test]
    async fn without_a_yes_nothing_goes() {
        let args = args(&[], "file");
        let (text, applied) = told(&args, None).await;
        assert_eq!(
            text,
            "error: there is nobody to ask: use --yes, or see it with --dry-run\n"
        );
        assert_eq!(applied, []);
        let (text, applied) = told(&args, Some(|_| false)).await;
        assert_eq!(text, "error: nothing was deleted\n");
        assert_eq!(applied, []);
    }

    #[tokio::test]
    async fn a_dry_run_needs_no_yes() {
        let args = Args {
            dry_run: true,
            ..args(&[], "file")
        };
        let (text, applied) = told(&args, None).await;
        assert!(text.starts_with("set/db  would be removed"), "{text}");
        let expected = v1::ApplyRequest {
            validate_only: true,
            ..everything("file", None)
        };
        assert_eq!(applied, [expected]);
    }

    #[tokio::test]
    async fn named_things_go_without_a_question() {
        let args = args(&["listener/web", "set/a/b", "set/web"], "file");
        let (text, applied) = told(&args, None).await;
        assert_eq!(text, GONE);
        let names = |names: &[&str]| names.iter().map(ToString::to_string).collect();
        let expected = v1::ApplyRequest {
            owner: "file".to_owned(),
            remove_listeners: names(&["web"]),
            remove_backend_sets: names(&["a/b", "web"]),
            ..Default::default()
        };
        assert_eq!(applied, [expected]);
    }

    #[test]
    fn only_yes_is_yes() {
        for (answer, expected) in [("y\n", true), ("YES\n", true), ("\n", false), ("", false)] {
            assert_eq!(is_yes(answer), expected, "{answer:?}");
        }
    }
}
