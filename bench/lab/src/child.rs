//! Child processes that do not outlive their lab, even if the lab dies by a signal.
//!
//! Each child has a note in the lab's directory: a file named by the pids of parent and child, holding the child's start
//! time. Whoever takes the lock next ends the children whose parent is gone. A child that was made to lead a process group
//! (`Command::process_group`) takes the group with it. It must not know what the children are.

use std::fs;
use std::io;
use std::path::PathBuf;
use std::process::{self, Command, ExitStatus};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process, kill_process_group};

use crate::lab::directory;
use crate::wait;

/// How long killed members of a group may take to give back what they hold: sockets by the thousand take a while.
const EXIT: Duration = Duration::from_secs(5);

/// A child process, killed and reaped on drop.
#[derive(Debug)]
pub struct Child {
    inner: process::Child,
    note: PathBuf,
    has_ended: bool,
}

impl Child {
    /// Starts it in the calling thread's namespace; [`crate::Namespace::spawn`] starts it in another.
    pub fn spawn(command: &mut Command) -> io::Result<Self> {
        let inner = command.spawn()?;
        let note = directory().join(format!("child.{}.{}", process::id(), inner.id()));
        let child = Self {
            inner,
            note,
            has_ended: false,
        }; // from here on an error kills it
        fs::create_dir_all(directory())?;
        fs::write(
            &child.note,
            start_time(child.inner.id()).unwrap_or_default(),
        )?;
        Ok(child)
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.inner.id()
    }

    /// The pipe to its standard input, once, if the command asked for [`process::Stdio::piped`].
    pub fn take_stdin(&mut self) -> Option<process::ChildStdin> {
        self.inner.stdin.take()
    }

    /// The pipe to its standard error, once, if the command asked for [`process::Stdio::piped`].
    pub fn take_stderr(&mut self) -> Option<process::ChildStderr> {
        self.inner.stderr.take()
    }

    /// The pipe to its standard output, once, if the command asked for [`process::Stdio::piped`].
    pub fn take_stdout(&mut self) -> Option<process::ChildStdout> {
        self.inner.stdout.take()
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) -> io::Result<()> {
        let pid = i32::try_from(self.id()).ok().and_then(Pid::from_raw);
        let pid = pid.expect("the system gave this pid, and it is reaped only by our own wait");
        Ok(kill_process(pid, signal)?)
    }

    /// How it ended, if it has.
    pub fn try_wait(&mut self) -> io::Result<Option<ExitStatus>> {
        let status = self.inner.try_wait()?;
        if status.is_some() && !self.has_ended {
            self.has_ended = true;
            end_group(self.id()); // at once: its number is kept for it only while somebody is in the group
        }
        Ok(status)
    }

    /// Waits for its end; `None` if it still runs after `limit`.
    pub fn wait(&mut self, limit: Duration) -> io::Result<Option<ExitStatus>> {
        let deadline = Instant::now() + limit;
        loop {
            if let Some(status) = self.try_wait()? {
                return Ok(Some(status));
            }
            if Instant::now() >= deadline {
                return Ok(None);
            }
            wait::tick();
        }
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        if !self.has_ended {
            end_group(self.id());
        }
        self.inner.kill().ok(); // it may have ended already
        self.inner.wait().ok();
        fs::remove_file(&self.note).ok();
    }
}

/// Ends the children of processes that are gone. Called with the lock held.
pub(crate) fn sweep() {
    let Ok(entries) = fs::read_dir(directory()) else {
        return; // nothing was ever started
    };
    for entry in entries.flatten() {
        let Some((parent, child)) = entry.file_name().to_str().and_then(pids) else {
            continue; // the lock
        };
        if start_time(parent).is_some() {
            continue; // lives, and ends its children itself
        }
        let noted = fs::read_to_string(entry.path()).unwrap_or_default();
        let is_same = start_time(child).is_some_and(|time| time == noted);
        if let Some(pid) = i32::try_from(child).ok().and_then(Pid::from_raw)
            && is_same
        {
            end_group(child);
            kill_process(pid, Signal::KILL).ok(); // it may end in between
        }
        fs::remove_file(entry.path()).ok();
    }
}

/// Ends the process group that this process leads, if it does.
fn end_group(leader: u32) {
    if let Some(pid) = i32::try_from(leader).ok().and_then(Pid::from_raw) {
        let members = members(leader);
        if kill_process_group(pid, Signal::KILL).is_err() {
            return; // there is none unless it was asked for
        }
        let deadline = Instant::now() + EXIT;
        let holds =
            |member: &u32| *member != leader && stat(*member).is_some_and(|stat| stat.state != "Z");
        while members.iter().any(holds) && Instant::now() < deadline {
            wait::tick();
        }
    }
}

/// The processes of a group.
fn members(leader: u32) -> Vec<u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let is_member = |pid: &u32| stat(*pid).is_some_and(|stat| stat.group == leader);
    pids.filter(is_member).collect()
}

fn pids(note: &str) -> Option<(u32, u32)> {
    let (parent, child) = note.strip_prefix("child.")?.split_once('.')?;
    Some((parent.parse().ok()?, child.parse().ok()?))
}

/// When a process started, in the kernel's ticks: with the pid it names one process for ever. `None` if there is none.
fn start_time(pid: u32) -> Option<String> {
    Some(stat(pid)?.started)
}

/// What `/proc` says of a process.
struct Stat {
    /// `Z` once it has given everything back.
    state: String,
    group: u32,
    started: String,
}

fn stat(pid: u32) -> Option<Stat> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let after_name = stat.rsplit_once(')')?.1; // the name may hold anything
    let fields: Vec<_> = after_name.split_whitespace().collect();
    Some(Stat {
        state: (*fields.first()?).to_owned(),
        group: fields.get(2)?.parse().ok()?,
        started: (*fields.get(19)?).to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader};
    use std::os::unix::process::CommandExt;
    use std::process::Stdio;

    use super::*;

    fn sleeper() -> Child {
        Child::spawn(Command::new("sleep").arg("1000").stdin(Stdio::null())).unwrap()
    }

    #[test]
    fn dropping_a_child_ends_it_and_its_note() {
        let child = sleeper();
        let (pid, note) = (child.id(), child.note.clone());
        assert!(start_time(pid).is_some() && note.exists());
        drop(child);
        assert!(start_time(pid).is_none() && !note.exists());
    }

    /// The child of a shell that leads a process group, and the shell.
    fn couple() -> (u32, Child) {
        let mut command = Command::new("sh");
        command.args(["-c", "sleep 1000 & echo $!; wait"]);
        command.process_group(0).stdout(Stdio::piped());
        let mut leader = Child::spawn(&mut command).unwrap();
        let mut line = String::new();
        let mut pipe = BufReader::new(leader.take_stdout().unwrap());
        pipe.read_line(&mut line).unwrap();
        (line.trim().parse().unwrap(), leader)
    }

    #[test]
    fn a_child_takes_its_process_group_with_it() {
        let limit = Duration::from_secs(5);
        let is_gone = |pid| stat(pid).is_none_or(|stat| stat.state == "Z"); // it may await its reaper
        let (member, leader) = couple();
        assert!(!is_gone(member));
        drop(leader);
        wait::until(limit, "the member is gone with a drop", || is_gone(member));
        let (member, mut leader) = couple();
        leader.signal(Signal::KILL).unwrap();
        leader.wait(limit).unwrap().unwrap();
        wait::until(limit, "the member is gone with its leader", || {
            is_gone(member)
        });
    }

    #[test]
    fn a_sweep_ends_the_children_of_the_dead_and_no_others() {
        let _lab = crate::Lab::new().unwrap(); // sweeping needs the lock
        let (mut orphan, mut reused, mut own) = (sleeper(), sleeper(), sleeper());
        let dead = u32::MAX; // no process has this id
        for (child, started) in [
            (&orphan, start_time(orphan.id())),
            (&reused, Some("1".to_owned())),
        ] {
            let note = directory().join(format!("child.{dead}.{}", child.id()));
            fs::write(note, started.unwrap()).unwrap();
        }
        sweep();
        let status = orphan.wait(Duration::from_secs(5)).unwrap();
        assert!(status.is_some(), "the orphan lives");
        assert!(
            reused.try_wait().unwrap().is_none(),
            "a process with a reused pid was ended"
        );
        assert!(
            own.try_wait().unwrap().is_none(),
            "a live lab's child was ended"
        );
        let notes = fs::read_dir(directory()).unwrap().flatten();
        let left: Vec<_> = notes
            .map(|note| note.file_name().into_string().unwrap())
            .collect();
        assert!(
            !left.iter().any(|note| note.contains(&dead.to_string())),
            "{left:?}"
        );
    }
}
