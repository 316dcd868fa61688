//! Programs of the machine that do what the lab does not do itself, run in a namespace until they end. It must not know
//! what they are asked.

use std::io::{self, Write};
use std::process::{Command, Output, Stdio};

use crate::error::LabError;
use crate::namespace::Namespace;

impl Namespace {
    /// Runs a program inside with `input` as its standard input, and gives what it wrote to its standard output.
    /// `package` is what to install where there is no such program.
    pub(crate) fn tool(
        &self,
        package: &'static str,
        command: &[&str],
        input: String,
    ) -> Result<String, LabError> {
        let words: Vec<_> = command.iter().map(|word| (*word).to_owned()).collect();
        let called = command.join(" ");
        let output =
            self.run(move || feed(&words, &input))
                .map_err(|source| match source.kind() {
                    io::ErrorKind::NotFound => LabError::NoTool {
                        tool: command.first().copied().unwrap_or_default().to_owned(),
                        package,
                    },
                    _ => LabError::System {
                        what: self.what("run", &called),
                        source,
                    },
                })?;
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        Err(LabError::Tool {
            tool: called,
            namespace: self.name().to_owned(),
            words: String::from_utf8_lossy(&output.stderr).trim().to_owned(),
        })
    }
}

/// These programs read all of their input before they write much, so that neither side waits for the other.
fn feed(words: &[String], input: &str) -> io::Result<Output> {
    let (program, arguments) = words.split_first().ok_or(io::ErrorKind::InvalidInput)?;
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    let fed = match child.stdin.take() {
        Some(mut stdin) => stdin.write_all(input.as_bytes()),
        None => Ok(()),
    };
    let output = child.wait_with_output()?;
    match fed {
        // It said no before it read all: its own words say more.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(output),
        Err(error) => Err(error),
        Ok(()) => Ok(output),
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_program_that_is_missing_is_told_with_what_to_install() {
        if !crate::require_netns() {
            return;
        }
        let lab = crate::Lab::new().unwrap();
        let namespace = lab.namespace("node").unwrap();
        let tool = |command: &[&str]| namespace.tool("thing", command, "text\n".to_owned());
        let error = tool(&["podline-no-such-program", "-x"]).unwrap_err();
        assert_eq!(
            error.to_string(),
            "no podline-no-such-program on this machine: install thing, or add its folder to PATH"
        );
        assert_eq!(tool(&["cat"]).unwrap(), "text\n");
        let error = tool(&["sh", "-c", "echo no >&2; exit 3"]).unwrap_err();
        assert_eq!(
            error.to_string(),
            "sh -c echo no >&2; exit 3 failed in node: no"
        );
    }
}
