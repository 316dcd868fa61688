//! A process of a subject, with its log. It must not know which subject it is of.

use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use podline_lab::{Child, Namespace};
use rustix::process::Signal;

/// Time between two looks.
const TICK: Duration = Duration::from_millis(2);
/// As much of a log's end as an error tells.
const END: usize = 2_000;

/// A process that runs until this is dropped.
#[derive(Debug)]
pub(super) struct Process {
    name: String,
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts it in `namespace`, with nothing of our environment but the way to programs. What it says goes to
    /// `NAME.log` in `directory`.
    pub(super) fn start(
        namespace: &Namespace,
        directory: &Path,
        name: &str,
        program: &Path,
        arguments: &[String],
        environment: &[(&str, String)],
    ) -> Result<Self, String> {
        let log = directory.join(format!("{name}.log"));
        let cannot = |error| format!("cannot start {}: {error}", program.display());
        let file =
            File::create(&log).map_err(|error| cannot(format!("{}: {error}", log.display())))?;
        let second = file
            .try_clone()
            .map_err(|error| cannot(error.to_string()))?;
        let mut command = Command::new(program);
        command.args(arguments).env_clear();
        command.envs(std::env::var_os("PATH").map(|path| ("PATH", path)));
        command.envs(environment.iter().map(|(name, value)| (name, value)));
        command.stdin(Stdio::null()).stdout(file).stderr(second);
        command.process_group(0); // whatever it starts ends with it
        let child = namespace
            .spawn(command)
            .map_err(|error| cannot(error.to_string()))?;
        Ok(Self {
            name: name.to_owned(),
            child,
            log,
        })
    }

    /// Its process id.
    pub(super) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends it a signal.
    pub(super) fn signal(&self, signal: Signal) -> Result<(), String> {
        let sent = self.child.signal(signal);
        sent.map_err(|error| format!("cannot signal {}: {error}", self.name))
    }

    /// Whether it still runs.
    ///
    /// # Errors
    /// It has ended: how, and the end of its log.
    pub(super) fn check(&mut self) -> Result<(), String> {
        match self.child.try_wait() {
            Ok(None) => Ok(()),
            Ok(Some(status)) => Err(self.with_log(&format!("ended with {status}"))),
            Err(error) => Err(self.with_log(&format!("cannot be waited for: {error}"))),
        }
    }

    /// Waits until `look` is content, which may take `limit`.
    ///
    /// # Errors
    /// The process has ended, `look` gave up, or it took too long.
    pub(super) fn until(
        &mut self,
        limit: Duration,
        what: &str,
        mut look: impl FnMut(&Self) -> Result<bool, String>,
    ) -> Result<(), String> {
        let deadline = Instant::now() + limit;
        loop {
            match look(self) {
                Ok(true) => return Ok(()),
                Ok(false) => (),
                Err(problem) => return Err(self.with_log(&problem)),
            }
            self.check()?;
            if Instant::now() >= deadline {
                return Err(self.with_log(&format!("did not within {limit:?}: {what}")));
            }
            thread::park_timeout(TICK);
        }
    }

    /// All that it has said so far.
    pub(super) fn log(&self) -> String {
        let bytes = fs::read(&self.log).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Its name, a problem, and the end of its log.
    pub(super) fn with_log(&self, problem: &str) -> String {
        let log = self.log();
        match end(&log, END) {
            "" => format!("{} {problem}; it logged nothing", self.name),
            end => format!("{} {problem}; its log ends with:\n{end}", self.name),
        }
    }
}

/// The last lines of a text, `most` bytes of them at most, or the end of the last line if that alone is longer.
fn end(text: &str, most: usize) -> &str {
    let text = text.trim_end();
    let cut = (text.len().saturating_sub(most)..=text.len()).find(|at| text.is_char_boundary(*at));
    let from = cut.unwrap_or(0);
    let tail = &text[from..];
    match tail.split_once('\n') {
        Some((_, whole)) if from > 0 => whole,
        _ => tail,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_log_is_whole_lines_where_there_are_any() {
        assert_eq!(end("first\nsecond\nthird\n\n", 100), "first\nsecond\nthird");
        assert_eq!(end("first\nsecond\nthird\n", 14), "second\nthird");
        assert_eq!(end("first\nsecond\nthird\n", 10), "third");
        assert_eq!(end("ein langes Wörtchen", 7), "rtchen"); // the ö does not fit whole
        assert_eq!(end("", 5), "");
        assert_eq!(end(" \n", 5), "");
    }
}
