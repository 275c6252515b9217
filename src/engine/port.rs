//! What the engine drives and what it drives it with. `app` fills these in; tests fill them in by hand.

use std::error::Error;
use std::future::Future;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::decide::event::{Attempt, CheckOutcome, IncidentId, Record, StepResult};
use crate::machine::checkpoint::View;
use crate::machine::input::{DeliveryOutcome, Input, Observation};
use crate::machine::output::{CheckOrder, DeliveryOrder, Output, StepOrder};
use crate::machine::snapshot::Snapshot;
use crate::time::{Now, Timestamp};

pub type BoxError = Box<dyn Error + Send + Sync>;

/// The machine, as the engine needs it. A seam of its own so that tests can give the engine a machine that panics, or
/// that floods it; the daemon has one machine.
pub trait Core: Send + 'static {
    fn handle(&mut self, now: &Now, input: Input, out: &mut Vec<Output>);
    fn next_deadline(&self) -> Option<Timestamp>;
    fn snapshot(&self, now: &Now) -> Snapshot;
    fn checkpoint(&self, now: &Now) -> View<'_>;
}

/// The world outside, as the engine reaches it.
pub trait World: Send + Sync + 'static {
    /// Hands the entries of one turn to the journal. Must not wait. An error ends the daemon: the machine has already
    /// taken these entries for granted, so memory and journal would part.
    fn append(&self, records: Vec<Record>) -> Result<(), BoxError>;
    /// Carries out one attempt. Must tell `started` before the step can have taken effect, as far as it can know.
    fn run_step(&self, order: StepOrder, started: Started) -> impl Future<Output = StepResult> + Send + 'static;
    /// Asks a question. It changes nothing, so it may be dropped at any time.
    fn run_check(&self, order: CheckOrder) -> impl Future<Output = CheckOutcome> + Send + 'static;
    fn deliver(&self, order: DeliveryOrder) -> impl Future<Output = DeliveryOutcome> + Send + 'static;
    /// Encodes what is to be saved now; must not wait. What comes back writes it, on a thread that may block. Each is
    /// called only after the write before has ended.
    fn save(&self, checkpoint: &View<'_>) -> impl FnOnce() -> Result<Saved, String> + Send + 'static;
    /// Runs it on such a thread. In virtual time there must be none: when it ends would depend on the real one.
    fn blocking<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
        tokio::task::spawn_blocking(work)
    }
    fn measured(&self, lag: Lag);
    /// The engine made progress; called at the interval that [`super::Settings::alive_every`] asks for.
    fn alive(&self, snapshot: &Snapshot);
}

/// Observations on their way: of each target the latest.
pub trait Observations: Send + 'static {
    /// Must lose nothing when it is cancelled. None: there will be no more.
    fn next(&mut self) -> impl Future<Output = Option<Observation>> + Send;
}

/// How much of a checkpoint is kept now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Saved {
    All,
    /// It was too much for one turn of the engine: the next save is due at once.
    Part,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lag {
    /// From the end of the look that led to an incident, to the end of the turn that decided on it.
    Decision(Duration),
    /// From handing entries to the journal, to hearing that they are on the disk.
    Sync(Duration),
}

/// Tells the engine that a step's process runs.
#[derive(Debug)]
pub struct Started {
    pub(super) lane: mpsc::UnboundedSender<Input>,
    pub(super) incident: IncidentId,
    pub(super) attempt: Attempt,
}

impl Started {
    pub fn tell(self, pid: Option<u32>, process_start: Option<String>) {
        let Started { lane, incident, attempt } = self;
        if lane.send(Input::StepStarted { incident, attempt, pid, process_start }).is_err() {
            tracing::debug!("a step started after the engine had ended");
        }
    }
}
