//! Why a lab could not be built or changed.

use std::io;

/// A step of the lab that failed. None of them is worth a retry: the machine does not allow it, or the test is wrong.
#[derive(Debug, thiserror::Error)]
pub enum LabError {
    /// The system refused.
    #[error("cannot {what}")]
    System {
        /// The step, as "write /proc/sys/net/ipv4/ip_forward in proxy".
        what: String,
        /// Its words.
        #[source]
        source: io::Error,
    },
    /// The kernel refused a change of links, addresses or routes.
    #[error("cannot {what}")]
    Netlink {
        /// The step, as "add link br0 in proxy".
        what: String,
        /// Its words.
        #[source]
        source: rtnetlink::Error,
    },
    /// No link of that name is in that namespace.
    #[error("no link {link} in {namespace}")]
    NoLink {
        /// The link's name.
        link: String,
        /// The namespace's name.
        namespace: String,
    },
    /// A program that the lab uses is not installed, or not in PATH.
    #[error("no {tool} on this machine: install {package}, or add its folder to PATH")]
    NoTool {
        /// The program.
        tool: String,
        /// What it comes with.
        package: &'static str,
    },
    /// A program that the lab uses said no.
    #[error("{tool} failed in {namespace}: {words}")]
    Tool {
        /// The program with its arguments.
        tool: String,
        /// The namespace's name.
        namespace: String,
        /// What it wrote to its standard error.
        words: String,
    },
}

impl LabError {
    pub(crate) fn system(what: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let what = what.into();
        |source| Self::System { what, source }
    }

    pub(crate) fn netlink(what: impl Into<String>) -> impl FnOnce(rtnetlink::Error) -> Self {
        let what = what.into();
        |source| Self::Netlink { what, source }
    }

    /// The whole chain on one line, for a message to people.
    pub fn chain(&self) -> String {
        let mut text = self.to_string();
        let mut next = std::error::Error::source(self);
        while let Some(error) = next {
            text = format!("{text}: {error}");
            next = error.source();
        }
        text
    }
}
