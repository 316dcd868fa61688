//! Which loads run over which subjects, in interleaved rounds, and what happens meanwhile.
//!
//! ```text
//! catalogue  the scenarios there are                plan     PURE: in which order what is measured
//! rounds     runs a plan on a stage                 cell     one test of one subject, once
//! events     what happens to Pods and backends during a load
//! held       connections that are open and do nothing
//! ```

pub mod catalogue;
mod cell;
mod events;
mod held;
mod plan;
mod rounds;

use std::time::Duration;

pub use rounds::{Progress, Run, run};

use crate::load::{Pace, Work};
use crate::stage::StagePlan;
use crate::subject::{Layer, Subject};

/// What one command measures.
#[derive(Clone, Debug)]
pub struct Scenario {
    /// What it is called by.
    pub name: &'static str,
    /// What it shows, in a line.
    pub about: &'static str,
    /// Who is measured if nobody is named.
    pub subjects: Vec<Subject>,
    /// What is measured of each of them.
    pub tests: Vec<Test>,
    /// Rounds, each of which measures every subject once.
    pub rounds: u32,
    /// How long one test of one round takes.
    pub duration: Duration,
    /// What the subjects look at.
    pub layer: Layer,
    /// On which network.
    pub stage: StagePlan,
}

/// One test.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Test {
    /// What it is called by, as `rr`; steps of a series share it.
    pub name: &'static str,
    /// What a unit of its work is, as `100k requests`.
    pub unit: &'static str,
    /// So many answers (bytes, for bulk) are a unit.
    pub of: f64,
    /// What is sent.
    pub work: Work,
    /// When.
    pub pace: Pace,
    /// What happens meanwhile.
    pub event: Event,
    /// How much of something there is; `None` for what the stage has.
    pub step: Option<Step>,
}

/// How much of something there is. The subject is started anew for each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    /// Of what.
    pub of: Axis,
    /// How many.
    pub count: u32,
}

/// What steps vary. All else is least: the Pods' own addresses, one port, no connections but those of the load.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Axis {
    /// Addresses to forward to.
    Backends,
    /// TCP ports, each a listener of its own; connections go to them in turn.
    Listeners,
    /// Connections that are open meanwhile and do nothing.
    Connections,
}

impl Axis {
    /// As results have it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Backends => "backends",
            Self::Listeners => "listeners",
            Self::Connections => "connections",
        }
    }
}

/// What happens during a load.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// Nothing.
    None,
    /// A backend is taken out, or put back, so many times a second.
    Churn(u32),
    /// Each Pod is replaced by a new one, one after the other, as a Deployment does.
    Rollout,
    /// A Pod's machine loses its power in the middle.
    Failover,
}

impl Test {
    /// Its name, with its step: as `crr`, or `crr-backends-20`.
    pub fn label(&self) -> String {
        match self.step {
            None => self.name.to_owned(),
            Some(Step { of, count }) => format!("{}-{}-{count}", self.name, of.name()),
        }
    }

    /// Whether every Pod is to get as much as any other: what is sent spreads over many connections or flows.
    pub const fn is_balanced(&self) -> bool {
        let many = matches!(
            self.work,
            Work::Connections { .. } | Work::Http1 { close: true, .. }
        );
        many && matches!(self.event, Event::None)
    }
}
