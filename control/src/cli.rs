//! The command line: what can be asked for, and which file answers it.
//!
//! Each verb is a file in `cli/` with its arguments, a `run` that talks to the proxy, and pure functions that turn
//! what it answered into text. What goes wrong becomes a `Failure`, told once, here.

mod apply;
mod backend;
mod completion;
mod delete;
mod diff;
mod drain;
mod explain;
mod failure;
#[cfg(test)]
mod fake;
mod get;
mod human;
mod input;
mod output;
mod overriding;
#[cfg(test)]
mod sample;
mod selection;
mod settings;
mod status;
mod target;
mod undrain;
mod watch;
mod weight;

use std::io::IsTerminal;
use std::process::ExitCode;

use clap::{Parser, Subcommand, ValueEnum};

use failure::{Exit, Failure};
use output::Screen;
use target::Target;

const EXIT_CODES: &str = "\
Exit codes:
  0  done; for diff: nothing would change
  1  diff: something would change; others: the proxy has no such thing
  2  wrong usage, or an invalid file
  3  the proxy refused it
  4  the proxy cannot be reached, or broke off
  5  drain --wait: the time was over, or the drain, and connections were left";

/// Tells a Podline proxy what to do, and shows how it does.
#[derive(Debug, Parser)]
#[command(name = "podline", version, after_help = EXIT_CODES)]
struct Cli {
    /// How answers are written.
    #[arg(short, long, global = true, value_enum, default_value_t = Format::Table)]
    output: Format,
    #[command(flatten)]
    target: Target,
    #[command(subcommand)]
    verb: Verb,
}

/// How answers are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    /// For people.
    Table,
    /// One document for each call; `watch` and `drain --wait`: one a line.
    Json,
    /// A configuration file; only `get`.
    Yaml,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Put the listeners and backend sets of a file into the proxy.
    Apply(apply::Args),
    /// Show what `apply` would change; exit code 1 if anything.
    Diff(diff::Args),
    /// Remove what an owner has in the proxy.
    #[command(after_help = delete::HELP)]
    Delete(delete::Args),
    /// Show what the proxy is configured to do.
    Get(get::Args),
    /// Show how listeners, backend sets and backends do.
    Status(status::Args),
    /// Show why backends get traffic, or why not, and since when.
    #[command(after_help = explain::HELP)]
    Explain(explain::Args),
    /// Give a backend no new connections, whatever its owner says.
    #[command(after_help = drain::HELP)]
    Drain(drain::Args),
    /// Let a backend be as its owner says again: ends drain and weight.
    Undrain(undrain::Args),
    /// Give a backend another weight, whatever its owner says.
    Weight(weight::Args),
    /// Print events as they happen, until interrupted.
    Watch,
    /// Print a shell's completion script.
    #[command(after_help = completion::HELP)]
    Completion(completion::Args),
}

/// Runs the process's command line; everything that `podline` is.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let colour =
        std::io::stdout().is_terminal() && human::colour_wanted(|name| std::env::var_os(name));
    let mut screen = Screen::new(Box::new(std::io::stdout()), cli.output, colour);
    let result = match tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime.block_on(run(cli, &mut screen)),
        Err(error) => Err(Failure::Output(error)),
    };
    match result {
        Ok(exit) => exit.into(),
        Err(failure) => {
            eprint!("{}", failure.explain());
            failure.exit().into()
        }
    }
}

async fn run(cli: Cli, screen: &mut Screen) -> Result<Exit, Failure> {
    let Cli {
        target,
        output,
        verb,
    } = cli;
    if output == Format::Yaml && !matches!(verb, Verb::Get(_)) {
        return Err(Failure::Usage(
            "--output yaml is for get: use json here".to_owned(),
        ));
    }
    match verb {
        Verb::Apply(args) => apply::run(&args, &target, screen).await,
        Verb::Diff(args) => diff::run(&args, &target, screen).await,
        Verb::Delete(args) => delete::run(&args, &target, screen).await,
        Verb::Get(args) => get::run(&args, &target, screen).await,
        Verb::Status(args) => status::run(&args, &target, screen).await,
        Verb::Explain(args) => explain::run(&args, &target, screen).await,
        Verb::Drain(args) => drain::run(&args, &target, screen).await,
        Verb::Undrain(args) => undrain::run(&args, &target, screen).await,
        Verb::Weight(args) => weight::run(&args, &target, screen).await,
        Verb::Watch => watch::run(&target, screen).await,
        Verb::Completion(args) => completion::run(&args, screen),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn arguments_are_read() {
        let check = |line: &str, expected: &str| {
            let found = match Cli::try_parse_from(line.split(' ')) {
                Ok(cli) => format!("{} {:?} {:?}", cli.target, cli.output, cli.verb),
                Err(error) => format!("{:?}", error.kind()),
            };
            assert!(found.starts_with(expected), "{line}\n{found}");
        };
        check(
            "podline status",
            "127.0.0.1:9902 Table Status(Args { what: Selection { selectors: [] } })",
        );
        check(
            "podline --proxy unix:/p -o json watch",
            "unix:/p Json Watch",
        );
        check(
            "podline watch --proxy [::1]:1 --output json",
            "[::1]:1 Json Watch",
        );
        check(
            "podline get -o yaml listeners set/default/web",
            "127.0.0.1:9902 Yaml Get(Args { what: Selection { selectors: [",
        );
        check(
            "podline apply -f - --owner k8s:east --replace --dry-run",
            "127.0.0.1:9902 Table Apply(Args { input: Input { file: \"-\", owner: Owner(\"k8s:east\"), replace: true }, dry_run: true })",
        );
        check(
            "podline diff -f x.yaml",
            "127.0.0.1:9902 Table Diff(Args { input: Input { file: \"x.yaml\", owner: Owner(\"cli\")",
        );
        check(
            "podline completion bash",
            "127.0.0.1:9902 Table Completion(Args { shell: Bash })",
        );
        check(
            "podline explain set/web",
            "127.0.0.1:9902 Table Explain(Args { set: Name(\"web\"), backend: None })",
        );
        check(
            "podline drain set/web pod-2 --wait --for 2h",
            "127.0.0.1:9902 Table Drain(Args { place: Place { set: Name(\"web\"), backend: Id(BackendId(\"pod-2\")) }, \
             terms: Terms { lasts: Some(7200s), note: \"\" }, drain_timeout: None, wait: Some(Drain) })",
        );
        check(
            "podline drain set/web pod-2 --drain-timeout 5m --wait 90s",
            "127.0.0.1:9902 Table Drain(Args { place: Place { set: Name(\"web\"), backend: Id(BackendId(\"pod-2\")) }, \
             terms: Terms { lasts: None, note: \"\" }, drain_timeout: Some(300s), wait: Some(Time(90s)) })",
        );
        check(
            "podline undrain set/web 10.0.0.1:80",
            "127.0.0.1:9902 Table Undrain(Args { place: Place { set: Name(\"web\"), backend: Address(",
        );
        check(
            "podline weight set/web pod-2 20 --note why",
            "127.0.0.1:9902 Table Weight(Args { place: Place { set: Name(\"web\"), backend: Id(BackendId(\"pod-2\")) }, \
             weight: Weight(20), terms: Terms { lasts: None, note: \"why\" } })",
        );
        check(
            "podline delete --owner k8s/east --dry-run",
            "127.0.0.1:9902 Table Delete(Args { things: [], owner: Owner(\"k8s/east\"), yes: false, dry_run: true })",
        );
        check("podline delete set/web", "MissingRequiredArgument");
        check("podline delete sets --owner cli", "ValueValidation");
        check("podline weight set/web pod-2 101", "ValueValidation");
        check("podline drain web pod-2", "ValueValidation");
        check("podline drain set/web", "MissingRequiredArgument");
        check("podline drain set/web pod-2 --for soon", "ValueValidation");
        check("podline apply", "MissingRequiredArgument");
        check("podline apply -f x --owner a?b", "ValueValidation");
        check("podline get pods", "ValueValidation");
        check("podline", "DisplayHelpOnMissingArgumentOrSubcommand");
        check("podline frobnicate", "InvalidSubcommand");
    }
}
