//! `podline-bench list`.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use crate::scenario::{Test, catalogue};
use crate::subject::{Subject, Tools};

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// The podline-proxy to measure [default: beside this program, else in PATH]
    #[arg(long, value_name = "FILE")]
    podline: Option<PathBuf>,
    /// A folder with envoy, traefik and others, looked into before PATH
    #[arg(long, value_name = "FOLDER", env = "PODLINE_BENCH_PEERS")]
    peers: Option<PathBuf>,
}

#[expect(clippy::unnecessary_wraps, reason = "as every verb")]
pub(super) fn run(arguments: &Arguments) -> Result<ExitCode, String> {
    println!("Scenarios");
    for scenario in catalogue::all() {
        let tests: Vec<_> = scenario.tests.iter().map(Test::label).collect();
        println!(
            "  {:20} {} ({})",
            scenario.name,
            scenario.about,
            tests.join(", ")
        );
    }
    println!("\nSubjects");
    let tools = Tools::new(arguments.podline.clone(), arguments.peers.clone());
    for subject in Subject::ALL {
        match tools.version(subject) {
            Ok(version) => println!("  {:28} {version}", subject.name()),
            Err(missing) => println!("  {:28} not here; {}", subject.name(), missing.remedy),
        }
    }
    if !rustix::process::geteuid().is_root() {
        println!("\nMeasuring makes network namespaces: run it as root.");
    }
    Ok(ExitCode::SUCCESS)
}
