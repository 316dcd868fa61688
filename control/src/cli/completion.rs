//! `podline completion`: the shell's completion script.

use clap::CommandFactory;
use clap_complete::Shell;

use super::Cli;
use super::failure::{Exit, Failure};
use super::output::Screen;

/// How to use it.
pub(super) const HELP: &str = "\
For this shell:   source <(podline completion bash)
For all to come:  podline completion bash > ~/.local/share/bash-completion/completions/podline";

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Which shell's.
    shell: Shell,
}

pub(super) fn run(args: &Args, screen: &mut Screen) -> Result<Exit, Failure> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "podline", &mut script);
    screen.write(&script)?;
    Ok(Exit::Done)
}
