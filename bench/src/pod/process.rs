//! A Pod as the benchmark sees it: a child process in a namespace, started, asked and ended.

use std::io::{self, BufRead, BufReader, ErrorKind, Write};
use std::path::Path;
use std::process::{ChildStdin, ChildStdout, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use podline_lab::{Child, Namespace};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::Signal;

use super::control::{READY, STATS};
use super::{Options, Stats};

/// How long a Pod may take to start, or to answer a question.
const PATIENCE: Duration = Duration::from_secs(10);

/// A running Pod; killed on drop.
#[derive(Debug)]
pub struct Process {
    child: Child,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
    options: Options,
}

impl Process {
    /// Starts `binary pod ...` in the Pod's namespace and waits until it listens; one that is to listen later is there as
    /// soon as it runs.
    pub fn start(namespace: &Namespace, binary: &Path, options: &Options) -> io::Result<Self> {
        let mut command = command(binary, options);
        Self::wait(namespace.run(move || Child::spawn(&mut command))?, options)
    }

    /// As [`Self::start`], in the calling thread's namespace.
    pub fn start_here(binary: &Path, options: &Options) -> io::Result<Self> {
        Self::wait(Child::spawn(&mut command(binary, options))?, options)
    }

    fn wait(mut child: Child, options: &Options) -> io::Result<Self> {
        let no_pipe = || io::Error::other("the Pod has no pipe");
        let stdin = child.take_stdin().ok_or_else(no_pipe)?;
        let stdout = child.take_stdout().ok_or_else(no_pipe)?;
        let mut process = Self {
            child,
            stdin,
            stdout: BufReader::new(stdout),
            options: options.clone(),
        };
        let line = process.line()?;
        if line != READY {
            return Err(io::Error::other(format!("the Pod said {line:?}")));
        }
        Ok(process)
    }

    /// How it serves.
    pub fn options(&self) -> &Options {
        &self.options
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// What it has seen.
    pub fn stats(&mut self) -> io::Result<Stats> {
        writeln!(self.stdin, "{STATS}")?;
        let line = self.line()?;
        serde_json::from_str(&line)
            .map_err(|error| io::Error::other(format!("the Pod said {line:?}: {error}")))
    }

    /// Sends it a signal: SIGTERM begins its orderly end, SIGKILL is a Pod that dies.
    pub fn signal(&self, signal: Signal) -> io::Result<()> {
        self.child.signal(signal)
    }

    /// Waits for its end; `None` if it still runs after `limit`.
    pub fn ended(&mut self, limit: Duration) -> io::Result<Option<ExitStatus>> {
        self.child.wait(limit)
    }

    /// The next line that it says.
    fn line(&mut self) -> io::Result<String> {
        let deadline = Instant::now() + PATIENCE;
        let mut line = Vec::new();
        loop {
            self.wait_readable(deadline)?;
            let bytes = self.stdout.fill_buf()?;
            if bytes.is_empty() {
                let why = "the Pod has ended; what it said is on standard error";
                return Err(io::Error::new(ErrorKind::UnexpectedEof, why));
            }
            let end = bytes.iter().position(|byte| *byte == b'\n');
            let part = end.map_or(bytes.len(), |end| end + 1);
            line.extend_from_slice(&bytes[..part]);
            self.stdout.consume(part);
            if end.is_some() {
                let text = String::from_utf8_lossy(&line);
                return Ok(text.trim_end().to_owned());
            }
        }
    }

    fn wait_readable(&self, deadline: Instant) -> io::Result<()> {
        if !self.stdout.buffer().is_empty() {
            return Ok(());
        }
        let late = || io::Error::new(ErrorKind::TimedOut, "the Pod does not answer");
        let left = deadline.saturating_duration_since(Instant::now());
        let timeout = Timespec::try_from(left).map_err(|_| late())?;
        let mut wanted = [PollFd::new(self.stdout.get_ref(), PollFlags::IN)];
        if poll(&mut wanted, Some(&timeout))? == 0 {
            return Err(late());
        }
        Ok(())
    }
}

fn command(binary: &Path, options: &Options) -> Command {
    let mut command = Command::new(binary);
    command
        .arg("pod")
        .args(options.arguments())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped());
    command
}
