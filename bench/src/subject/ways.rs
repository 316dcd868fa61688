//! The way back to a proxy that imitates its clients: an agent on each node, and what it and the proxy leave behind.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use podline_lab::Namespace;

use super::Site;
use super::process::Process;

const PATIENCE: Duration = Duration::from_secs(20);
/// How long it may take to take something away.
const CLEANING: Duration = Duration::from_secs(5);
/// What the proxy's own settings leave in its namespace, as its documentation says how to take it away.
const OWN: [&[&str]; 5] = [
    &["ip", "-4", "rule", "del", "fwmark", "0x700/0xfff"],
    &["ip", "-6", "rule", "del", "fwmark", "0x700/0xfff"],
    &["ip", "-4", "route", "flush", "table", "700"],
    &["ip", "-6", "route", "flush", "table", "700"],
    &["nft", "delete", "table", "inet", "podline"],
];

/// The ways back from all nodes.
#[derive(Debug)]
pub(super) struct Ways {
    front: IpAddr,
    program: PathBuf,
    agents: Vec<Process>,
}

impl Ways {
    /// Starts an agent on each node.
    pub(super) fn start(site: &Site<'_>, program: &Path) -> Result<Self, String> {
        let arguments = [
            "return-path".to_owned(),
            "--proxy".to_owned(),
            site.front.to_string(),
        ];
        let agent = |(index, (node, _)): (usize, &(&Namespace, IpAddr))| {
            let name = format!("return-path-{index}");
            Process::start(node, site.directory, &name, program, &arguments, &[])
        };
        let agents = site
            .nodes
            .iter()
            .enumerate()
            .map(agent)
            .collect::<Result<_, _>>()?;
        Ok(Self {
            front: site.front,
            program: program.to_owned(),
            agents,
        })
    }

    /// Waits until replies from every node come back.
    pub(super) fn wait(&mut self) -> Result<(), String> {
        // A rule of the table that it has put in place.
        let rule = format!("comment \"proxy {}", self.front);
        for agent in &mut self.agents {
            agent.until(PATIENCE, "open a way back", |agent| {
                Ok(agent.log().contains(&rule))
            })?;
        }
        Ok(())
    }

    /// Whether all agents run.
    pub(super) fn check(&mut self) -> Result<(), String> {
        self.agents.iter_mut().try_for_each(Process::check)
    }

    /// The agents' processes.
    pub(super) fn pids(&self) -> Vec<u32> {
        self.agents.iter().map(Process::id).collect()
    }

    /// Ends the agents, and takes away what they and the proxy have set up, which else stays for the next of their kind
    /// and would be in the way of other subjects. The proxy must have ended.
    pub(super) fn remove(
        self,
        proxy: &Namespace,
        nodes: &[(&Namespace, IpAddr)],
    ) -> Result<(), String> {
        drop(self.agents);
        for (node, _) in nodes {
            let mut remove = Command::new(&self.program);
            remove.args(["return-path", "--remove"]);
            run(node, remove)?;
        }
        let mut first = Ok(());
        for words in OWN {
            let mut command = Command::new(words[0]);
            command.args(&words[1..]);
            let done = run(proxy, command);
            first = first.and(done);
        }
        first
    }
}

/// Runs a command to its end.
fn run(namespace: &Namespace, mut command: Command) -> Result<(), String> {
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let what = format!("{command:?} in {}", namespace.name());
    let problem = |why: String| format!("{what}: {why}");
    let mut child = namespace
        .spawn(command)
        .map_err(|error| problem(error.to_string()))?;
    match child.wait(CLEANING) {
        Ok(Some(status)) if status.success() => Ok(()),
        Ok(Some(status)) => Err(problem(status.to_string())),
        Ok(None) => Err(problem(format!("no end within {CLEANING:?}"))),
        Err(error) => Err(problem(error.to_string())),
    }
}
