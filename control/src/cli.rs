//! The command line: what can be asked for, and which file answers it.
//!
//! Each verb is a file in `cli/` with its arguments, a `run` that talks to the proxy, and pure functions that turn
//! what it answered into text. What goes wrong becomes a `Failure`, told once, here.

mod apply;
mod backend;
mod completion;
mod controller;
mod delete;
mod diff;
mod doctor;
mod drain;
mod explain;
mod failure;
#[cfg(test)]
mod fake;
mod gates;
mod get;
mod human;
mod import;
mod input;
mod kube;
mod output;
mod overriding;
#[cfg(test)]
mod sample;
mod selection;
mod settings;
mod status;
mod target;
mod timeline;
mod undrain;
mod uninstall;
mod vip;
mod watch;
mod weight;

use std::io::IsTerminal;
use std::process::ExitCode;

use clap::{ArgMatches, CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum};

use failure::{Exit, Failure};
use output::Screen;
use target::{Partner, Target};

const EXIT_CODES: &str = "\
Exit codes:
  0  done; for diff: nothing would change
  1  diff: something would change; doctor: something is broken; others: there is no such thing
  2  wrong usage, or an invalid file
  3  it was refused
  4  who was asked cannot be reached, or broke off
  5  drain --wait: the time was over, or the drain, and connections were left; uninstall: something was left";

/// Tells a Podline proxy what to do, and shows how it does; with --kube, shows how a cluster's Services do.
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
    /// Show how listeners, backend sets and backends do, or how Services do.
    #[command(after_help = status::HELP)]
    Status(status::Args),
    /// Show why backends get traffic, or why not, and since when.
    #[command(after_help = explain::HELP)]
    Explain(explain::Args),
    /// Show whether backends see their clients' addresses, and what is in the way; exit code 1 if something is.
    #[command(after_help = doctor::HELP)]
    Doctor(doctor::Args),
    /// Show how Pods came into traffic, and out of it: when, and how soon after their endpoints were seen.
    #[command(after_help = timeline::HELP)]
    Timeline(timeline::Args),
    /// Show which Pods of a cluster wait for their readiness gates, and why.
    #[command(after_help = gates::HELP)]
    Gates(gates::Args),
    /// Give a backend no new connections, whatever its owner says.
    #[command(after_help = drain::HELP)]
    Drain(drain::Args),
    /// Let a backend be as its owner says again: ends drain and weight.
    Undrain(undrain::Args),
    /// Give a backend another weight, whatever its owner says.
    Weight(weight::Args),
    /// Show what becomes of TKE's manifests here, or print them as they are to be applied.
    #[command(after_help = import::HELP)]
    Import(import::Args),
    /// Hold a virtual address at this proxy, or let it go.
    #[command(after_help = vip::HELP)]
    Vip(vip::Args),
    /// Print events as they happen, until interrupted.
    Watch,
    /// Remove Podline from a cluster, and leave nothing behind.
    #[command(after_help = uninstall::HELP)]
    Uninstall(uninstall::Args),
    /// Print a shell's completion script.
    #[command(after_help = completion::HELP)]
    Completion(completion::Args),
}

impl Verb {
    const fn partner(&self) -> Partner {
        match self {
            Self::Apply(_)
            | Self::Diff(_)
            | Self::Delete(_)
            | Self::Get(_)
            | Self::Drain(_)
            | Self::Undrain(_)
            | Self::Weight(_)
            | Self::Vip(_)
            | Self::Watch => Partner::Proxy,
            Self::Status(_)
            | Self::Explain(_)
            | Self::Doctor(_)
            | Self::Timeline(_)
            | Self::Gates(_) => Partner::Either,
            Self::Uninstall(_) => Partner::Cluster,
            Self::Import(_) | Self::Completion(_) => Partner::Nobody,
        }
    }
}

impl Cli {
    fn of(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let mut cli = Self::from_arg_matches(matches)?;
        cli.target.note(matches);
        Ok(cli)
    }
}

/// Whether `podline uninstall` removes objects of a kind.
#[cfg(test)]
pub(crate) fn uninstalls(kind: &str) -> bool {
    uninstall::removes(kind)
}

/// Runs the process's command line; everything that `podline` is.
pub fn main() -> ExitCode {
    let cli = Cli::of(&Cli::command().get_matches()).unwrap_or_else(|error| error.exit());
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
    target.check(verb.partner())?;
    match verb {
        Verb::Apply(args) => apply::run(&args, &target, screen).await,
        Verb::Diff(args) => diff::run(&args, &target, screen).await,
        Verb::Delete(args) => delete::run(&args, &target, screen).await,
        Verb::Get(args) => get::run(&args, &target, screen).await,
        Verb::Status(args) => status::run(&args, &target, screen).await,
        Verb::Explain(args) => explain::run(&args, &target, screen).await,
        Verb::Doctor(args) => doctor::run(&args, &target, screen).await,
        Verb::Timeline(args) => timeline::run(&args, &target, screen).await,
        Verb::Gates(args) => gates::run(&args, &target, screen).await,
        Verb::Drain(args) => drain::run(&args, &target, screen).await,
        Verb::Undrain(args) => undrain::run(&args, &target, screen).await,
        Verb::Weight(args) => weight::run(&args, &target, screen).await,
        Verb::Vip(args) => vip::run(&args, &target, screen).await,
        Verb::Watch => watch::run(&target, screen).await,
        Verb::Uninstall(args) => uninstall::run(&args, &target.kube, screen).await,
        Verb::Import(args) => import::run(&args, screen),
        Verb::Completion(args) => completion::run(&args, screen),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The command line, and why it makes no sense if it does not.
    fn read(line: &str) -> Result<Cli, String> {
        let matches = Cli::command().try_get_matches_from(line.split(' '));
        let matches = matches.map_err(|error| format!("{:?}", error.kind()))?;
        let cli = Cli::of(&matches).map_err(|error| format!("{:?}", error.kind()))?;
        let checked = cli.target.check(cli.verb.partner());
        checked.map_err(|failure| failure.explain())?;
        Ok(cli)
    }

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn arguments_are_read() {
        let check = |line: &str, expected: &str| {
            let found = match read(line) {
                Ok(cli) => format!("{} {:?} {:?}", cli.target, cli.output, cli.verb),
                Err(error) => error,
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
            "127.0.0.1:9902 Table Explain(Args { what: Set(Name(\"web\")), backend: None })",
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
        check(
            "podline timeline deploy/shop/web",
            "127.0.0.1:9902 Table Timeline(Args { what: Pods { kind: Deployment, namespace: \"shop\", name: \"web\" } })",
        );
        check("podline timeline", "MissingRequiredArgument");
        check("podline timeline web", "ValueValidation");
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

    #[test]
    fn import_takes_files() {
        let cli = read("podline import --write a.yaml -").unwrap();
        let verb = format!("{:?}", cli.verb);
        assert_eq!(
            verb,
            "Import(Args { files: [\"a.yaml\", \"-\"], write: true })"
        );
        assert_eq!(
            read("podline import").unwrap_err(),
            "MissingRequiredArgument"
        );
    }

    #[test]
    fn addresses_are_read() {
        let check = |line: &str, expected: &str| {
            let found = read(line).map_or_else(|error| error, |cli| format!("{:?}", cli.verb));
            assert_eq!(found, expected, "{line}");
        };
        check(
            "podline vip hold 192.0.2.10 --interface eth1",
            "Vip(Args { action: Hold(Hold { address: 192.0.2.10, interface: Some(\"eth1\"), ask_first: false }) })",
        );
        check(
            "podline vip release fd00::1",
            "Vip(Args { action: Release(Release { address: fd00::1 }) })",
        );
        check("podline vip hold web", "ValueValidation");
    }

    #[test]
    fn who_is_asked_is_told_by_flags_that_go_together() {
        let check = |line: &str, expected: &str| {
            let found = match read(line) {
                Ok(cli) => cli.target.to_string(),
                Err(error) => error.trim_end().to_owned(),
            };
            assert_eq!(found, expected, "{line}");
        };
        check(
            "podline status --kube",
            "kube:podline-system/podline-control",
        );
        check("podline -n lb --kube status", "kube:lb/podline-control");
        check(
            "podline --kube --proxy-pod p drain set/a b",
            "kube:podline-system/p",
        );
        check(
            "podline status --control 127.0.0.1:1",
            "control:127.0.0.1:1",
        );
        check("podline uninstall -n lb --context east", "127.0.0.1:9902");
        check(
            "podline --kube uninstall",
            "kube:podline-system/podline-control",
        );
        let refused = |line: &str, problem: &str| check(line, &format!("error: {problem}"));
        refused("podline status -n lb", "--namespace needs --kube");
        refused("podline status --proxy-pod p", "--proxy-pod needs --kube");
        refused(
            "podline status --context c --control a:1",
            "--context needs --kube",
        );
        refused(
            "podline status --kube --proxy a:1",
            "--kube finds proxies by itself: leave --proxy out",
        );
        refused(
            "podline status --kube --tls-key k",
            "--kube finds proxies by itself: leave --tls-key out",
        );
        refused(
            "podline status --kube --control a:1",
            "--kube finds the controller: leave --control out",
        );
        refused(
            "podline status --control a:1 --proxy b:1",
            "--control is not a proxy: leave --proxy out",
        );
        refused(
            "podline watch --kube",
            "this verb speaks to a proxy: add --proxy-pod POD to --kube",
        );
        refused(
            "podline get --control a:1",
            "this verb speaks to a proxy: use --proxy, not --control",
        );
        refused(
            "podline uninstall --proxy a:1",
            "this verb finds proxies by itself: leave --proxy out",
        );
        refused(
            "podline uninstall --proxy-pod p",
            "this verb is about all proxies: leave --proxy-pod out",
        );
    }
}
