//! Everything the machine asks of the world.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::input::{Answer, CheckId, CommandId};
use crate::decide::event::{Attempt, Check, IncidentId, Notice, Record, Release, Step};

#[derive(Clone, Debug, PartialEq)]
pub enum Output {
    /// The entries of one turn: one transaction. `Input::Durable` answers with the last sequence.
    Append(Vec<Record>),
    /// Leaves only after its intent is durable.
    RunStep(Box<StepOrder>),
    /// Waits for no entry: it changes nothing. `Input::Checked` answers.
    RunCheck(Box<CheckOrder>),
    /// One attempt to deliver one notice; at most one per receiver is under way.
    Deliver(Box<DeliveryOrder>),
    /// The answer to a command, after what it caused is durable.
    Reply { id: CommandId, answer: Answer },
    /// A line for the log, at most one per change.
    Log { level: LogLevel, service: Option<Arc<str>>, message: String },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogLevel {
    Info,
    Warn,
    Error,
}

/// One attempt of one step, with all that its templates may use.
#[derive(Clone, Debug, PartialEq)]
pub struct StepOrder {
    pub incident: IncidentId,
    pub service: Arc<str>,
    pub attempt: Attempt,
    pub step: Step,
    /// Stable over attempts of the same step: `Idempotency-Key`, `BACKSTOP_IDEMPOTENCY_KEY`.
    pub idempotency_key: String,
    /// `BACKSTOP_EXPECT_RELEASE`: act only while this runs.
    pub expect_release: Option<Release>,
    pub bad: Option<Release>,
    pub target: Option<Release>,
    pub running: Option<Release>,
    /// `Plan::variables`.
    pub variables: BTreeMap<String, String>,
    /// What earlier steps captured.
    pub captures: BTreeMap<String, String>,
}

/// One question, with all that its templates may use.
#[derive(Clone, Debug, PartialEq)]
pub struct CheckOrder {
    pub id: CheckId,
    pub service: Arc<str>,
    /// None while all is well.
    pub incident: Option<IncidentId>,
    pub check: Check,
    /// The level that it belongs to, and the attempt, if it is about a step.
    pub level: Option<usize>,
    pub attempt: Option<Attempt>,
    pub bad: Option<Release>,
    pub target: Option<Release>,
    pub running: Option<Release>,
    /// `Plan::variables`; of no incident, the service and its labels.
    pub variables: BTreeMap<String, String>,
    pub captures: BTreeMap<String, String>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct DeliveryOrder {
    pub receiver: Arc<str>,
    pub notice: Notice,
    /// Counted from 1, over restarts as far as the daemon remembers.
    pub attempt: u32,
    /// Late, and no longer true: it is marked so, and how long ago it was true.
    pub outdated: bool,
    pub age: Duration,
}
