//! A binary of ours as a process in a namespace; its log is kept, and printed when a test fails.

use std::io::{BufRead, BufReader, Read};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use podline_lab::{Child, Namespace};
use rustix::process::Signal;

/// A running process; killed on drop.
pub(crate) struct Process {
    name: String,
    child: Mutex<Child>,
    log: Arc<Mutex<Vec<String>>>,
    readers: Mutex<Vec<JoinHandle<()>>>,
}

impl Process {
    /// Starts `command` in a namespace.
    pub(crate) fn start(name: &str, namespace: &Namespace, mut command: Command) -> Self {
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = namespace.spawn(command).unwrap();
        let log = Arc::new(Mutex::new(Vec::new()));
        let readers = vec![
            collect(child.take_stdout().unwrap(), &log),
            collect(child.take_stderr().unwrap(), &log),
        ];
        Self {
            name: name.to_owned(),
            child: Mutex::new(child),
            log,
            readers: Mutex::new(readers),
        }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.lock().unwrap().id()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        self.child.lock().unwrap().signal(signal).unwrap();
    }

    /// Waits for its end; whether it came. Its log is whole then.
    pub(crate) fn wait_end(&self, limit: Duration) -> bool {
        let has_ended = self.child.lock().unwrap().wait(limit).unwrap().is_some();
        if has_ended {
            for reader in self.readers.lock().unwrap().drain(..) {
                reader.join().unwrap();
            }
        }
        has_ended
    }

    pub(crate) fn runs(&self) -> bool {
        self.child.lock().unwrap().try_wait().unwrap().is_none()
    }

    /// Its log so far.
    pub(crate) fn log(&self) -> String {
        self.log.lock().unwrap().join("\n")
    }

    /// Resident memory, in bytes.
    pub(crate) fn resident_bytes(&self) -> u64 {
        let path = format!("/proc/{}/smaps_rollup", self.pid());
        let rollup = std::fs::read_to_string(path).unwrap();
        let line = rollup.lines().find_map(|line| line.strip_prefix("Rss:"));
        let kilobytes = line.unwrap().trim().trim_end_matches(" kB");
        kilobytes.parse::<u64>().unwrap() * 1024
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = self.log();
            let lines: Vec<_> = log.lines().collect();
            let last = lines[lines.len().saturating_sub(60)..].join("\n");
            eprintln!(
                "--- the end of {}'s log ---\n{last}\n--- end ---",
                self.name
            );
        }
    }
}

/// A binary of the workspace, built beside ours; why not, if it is not there.
pub(crate) fn binary(name: &str) -> Result<PathBuf, String> {
    let path = PathBuf::from(env!("CARGO_BIN_EXE_podline-control")).with_file_name(name);
    if path.exists() {
        Ok(path)
    } else {
        Err(format!(
            "{name} is not built: run cargo test --workspace, or cargo build --workspace first"
        ))
    }
}

/// Reads a stream of the child to its end on a thread of its own.
pub(crate) fn collect(
    stream: impl Read + Send + 'static,
    log: &Arc<Mutex<Vec<String>>>,
) -> JoinHandle<()> {
    const MOST_LINES: usize = 20_000;
    let log = Arc::clone(log);
    std::thread::spawn(move || {
        for line in BufReader::new(stream).lines().map_while(Result::ok) {
            let mut log = log.lock().unwrap();
            if log.len() < MOST_LINES {
                log.push(line);
            }
        }
    })
}
