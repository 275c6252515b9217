//! Sends the machine's outputs on their way, and brings back how steps and deliveries ended.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::task::{Id, JoinError, JoinHandle, JoinSet};

use crate::decide::event::{Attempt, CheckOutcome, Entry, IncidentEvent, IncidentId, Outcome, Record, Seq, StepResult};
use crate::machine::checkpoint::View;
use crate::machine::input::{Answer, CheckId, CommandId, DeliveryOutcome, Input};
use crate::machine::output::{CheckOrder, DeliveryOrder, LogLevel, Output, StepOrder};
use crate::platform::clock::Clock;
use crate::supervise::panic_message;

use super::EngineError;
use super::port::{Lag, Saved, Started, World};

/// A receiver's client that panicked is tried again; not at once, for it will likely panic again.
const RETRY_AFTER_PANIC: Duration = Duration::from_mins(1);

/// Checks that run at once; each may be a process. More wait: of each asker there is one at most, so the configuration
/// bounds them.
const CHECKS_AT_ONCE_MAX: usize = 16;

pub(super) struct Dispatch<W> {
    world: Arc<W>,
    /// What the machine asked for in this turn.
    pub outputs: Vec<Output>,
    steps: JoinSet<StepResult>,
    step_of: HashMap<Id, (IncidentId, Attempt)>,
    checks: JoinSet<CheckOutcome>,
    check_of: HashMap<Id, CheckId>,
    checks_waiting: VecDeque<CheckOrder>,
    deliveries: JoinSet<DeliveryOutcome>,
    delivery_of: HashMap<Id, (Arc<str>, String)>,
    /// False once the daemon is stopping: what is in the outbox goes at the next start.
    pub deliveries_start: bool,
    answers: BTreeMap<CommandId, oneshot::Sender<Answer>>,
    /// Without a bound of its own: each step sends one, and at most one step per service runs.
    started: (mpsc::UnboundedSender<Input>, mpsc::UnboundedReceiver<Input>),
    /// What this room itself has to tell the machine.
    own: VecDeque<Input>,
    /// The last entry of each turn that the journal has taken and not confirmed, and when it took it, since boot.
    unconfirmed: VecDeque<(Seq, Duration)>,
    saving: Option<JoinHandle<Result<Saved, String>>>,
}

/// What has come to its end.
pub(super) enum Finished {
    Input(Input),
    /// None: nothing was saved, and why has been told.
    Save(Option<Saved>),
}

/// What a turn led to.
#[derive(Default)]
pub(super) struct Turn {
    pub appended: bool,
    /// An entry opens an incident or admits it: the decision whose lag counts.
    pub incident_began: bool,
    pub answers: Vec<(CommandId, Answer)>,
}

impl<W: World> Dispatch<W> {
    pub fn new(world: Arc<W>, starting: Vec<Output>) -> Dispatch<W> {
        Dispatch {
            world,
            outputs: starting,
            steps: JoinSet::new(),
            step_of: HashMap::new(),
            checks: JoinSet::new(),
            check_of: HashMap::new(),
            checks_waiting: VecDeque::new(),
            deliveries: JoinSet::new(),
            delivery_of: HashMap::new(),
            deliveries_start: true,
            answers: BTreeMap::new(),
            started: mpsc::unbounded_channel(),
            own: VecDeque::new(),
            unconfirmed: VecDeque::new(),
            saving: None,
        }
    }

    pub fn world(&self) -> &W {
        &self.world
    }

    pub fn steps_running(&self) -> usize {
        self.step_of.len()
    }

    /// Ends that have come and are not told yet.
    pub fn has_own(&self) -> bool {
        !self.own.is_empty() || !self.started.1.is_empty()
    }

    pub fn deliveries_running(&self) -> usize {
        self.delivery_of.len()
    }

    pub fn commands_open(&self) -> usize {
        self.answers.len()
    }

    /// Turns that are not known to be on the disk.
    pub fn entries_waiting(&self) -> usize {
        self.unconfirmed.len()
    }

    pub fn expect_answer(&mut self, id: CommandId, reply: oneshot::Sender<Answer>) {
        self.answers.insert(id, reply);
    }

    pub fn next_own(&mut self) -> Option<Input> {
        // A start that was sent before its step finished is told before it, too.
        self.started.1.try_recv().ok().or_else(|| self.own.pop_front())
    }

    /// The next start, or end of a step, of a delivery or of a save. May be cancelled; never ends by itself.
    pub async fn finished(&mut self) -> Finished {
        let Dispatch { started: (_, started), steps, checks, deliveries, saving, .. } = self;
        let input = tokio::select! {
            biased;
            Some(input) = started.recv() => input,
            Some(ended) = steps.join_next_with_id() => self.step_ended(ended),
            Some(ended) = checks.join_next_with_id() => self.check_ended(ended),
            Some(ended) = deliveries.join_next_with_id() => self.delivery_ended(ended),
            Some(saved) = save_ended(saving) => return Finished::Save(saved),
            else => std::future::pending().await,
        };
        Finished::Input(input)
    }

    /// The journal confirmed every entry up to this one.
    pub fn confirmed(&mut self, upto: Seq, clock: &Clock) {
        let uptime = clock.uptime();
        while let Some((_, taken)) = self.unconfirmed.pop_front_if(|(last, _)| *last <= upto) {
            self.world.measured(Lag::Sync(uptime.saturating_sub(taken)));
        }
    }

    /// Sends everything but the answers, which the caller gives after it has published the snapshot.
    pub fn send(&mut self, clock: &Clock) -> Result<Turn, EngineError> {
        let mut turn = Turn::default();
        for output in std::mem::take(&mut self.outputs) {
            match output {
                Output::Append(records) => {
                    turn.appended = true;
                    turn.incident_began |= records.iter().any(begins_incident);
                    self.append(records, clock)?;
                }
                Output::RunStep(order) => self.run_step(*order),
                Output::RunCheck(order) => self.run_check(*order),
                Output::Deliver(order) => self.deliver(*order),
                Output::Reply { id, answer } => turn.answers.push((id, answer)),
                Output::Log { level, service, message } => log(level, service.as_deref(), &message),
            }
        }
        Ok(turn)
    }

    pub fn answer(&mut self, answers: Vec<(CommandId, Answer)>) {
        for (id, answer) in answers {
            if self.answers.remove(&id).is_none_or(|reply| reply.send(answer).is_err()) {
                tracing::debug!(command = id.0, "nobody waits for this answer any more");
            }
        }
    }

    fn append(&mut self, records: Vec<Record>, clock: &Clock) -> Result<(), EngineError> {
        let Some(last) = records.last().map(|record| record.seq) else { return Ok(()) };
        self.unconfirmed.push_back((last, clock.uptime()));
        self.world.append(records).map_err(|source| EngineError::Journal { source })
    }

    fn run_step(&mut self, order: StepOrder) {
        let (incident, attempt) = (order.incident.clone(), order.attempt);
        let started = Started { lane: self.started.0.clone(), incident: incident.clone(), attempt };
        let task = self.steps.spawn(self.world.run_step(order, started));
        self.step_of.insert(task.id(), (incident, attempt));
    }

    fn step_ended(&mut self, ended: Result<(Id, StepResult), JoinError>) -> Input {
        let id = ended.as_ref().map_or_else(JoinError::id, |(id, _)| *id);
        let (incident, attempt) = self.step_of.remove(&id).expect("every step's task is noted when it is spawned");
        let result = match ended {
            Ok((_, result)) => result,
            // How far it came cannot be known.
            Err(error) => StepResult {
                outcome: Outcome::Ambiguous,
                detail: format!("the executor failed: {}", panic_message(error)),
                output: String::new(),
                truncated: false,
                captures: std::collections::BTreeMap::new(),
                duration_ms: 0,
            },
        };
        // The start was sent before the end, but the two come by different ways.
        let finished = Input::StepFinished { incident, attempt, result };
        match self.started.1.try_recv() {
            Ok(started) => {
                self.own.push_back(finished);
                started
            }
            Err(_) => finished,
        }
    }

    fn run_check(&mut self, order: CheckOrder) {
        if self.check_of.len() >= CHECKS_AT_ONCE_MAX {
            self.checks_waiting.push_back(order);
            return;
        }
        let id = order.id;
        let task = self.checks.spawn(self.world.run_check(order));
        self.check_of.insert(task.id(), id);
    }

    fn check_ended(&mut self, ended: Result<(Id, CheckOutcome), JoinError>) -> Input {
        let task = ended.as_ref().map_or_else(JoinError::id, |(id, _)| *id);
        let id = self.check_of.remove(&task).expect("every check's task is noted when it is spawned");
        if let Some(next) = self.checks_waiting.pop_front() {
            self.run_check(next);
        }
        let outcome = match ended {
            Ok((_, outcome)) => outcome,
            Err(error) => CheckOutcome::Unknown(format!("the check's executor failed: {}", panic_message(error))),
        };
        Input::Checked { id, outcome }
    }

    fn deliver(&mut self, order: DeliveryOrder) {
        if !self.deliveries_start {
            return;
        }
        let of = (Arc::clone(&order.receiver), order.notice.id.clone());
        let task = self.deliveries.spawn(self.world.deliver(order));
        self.delivery_of.insert(task.id(), of);
    }

    fn delivery_ended(&mut self, ended: Result<(Id, DeliveryOutcome), JoinError>) -> Input {
        let id = ended.as_ref().map_or_else(JoinError::id, |(id, _)| *id);
        let (receiver, notice) =
            self.delivery_of.remove(&id).expect("every delivery's task is noted when it is spawned");
        let outcome = match ended {
            Ok((_, outcome)) => outcome,
            Err(error) => {
                let why = format!("the receiver's client failed: {}", panic_message(error));
                tracing::error!(receiver = &*receiver, "{why}");
                DeliveryOutcome::Retry { after: RETRY_AFTER_PANIC, why }
            }
        };
        Input::Delivery { receiver, notice, outcome }
    }

    /// False while the save before is still going: the disk is slow, and the next one will hold all of it.
    pub fn may_save(&self) -> bool {
        self.saving.as_ref().is_none_or(JoinHandle::is_finished)
    }

    /// Only when there [may be](Dispatch::may_save) another.
    pub fn save(&mut self, checkpoint: &View<'_>) {
        let write = self.world.save(checkpoint);
        self.saving = Some(self.world.blocking(move || {
            let saved = write();
            if let Err(why) = &saved {
                tracing::warn!("the checkpoint was not saved; a crash now would cost held time: {why}");
            }
            saved
        }));
    }

    /// Waits for the save that is under way. None: there is none, or nothing was saved.
    pub async fn save_ended(&mut self) -> Option<Saved> {
        save_ended(&mut self.saving).await.flatten()
    }
}

/// None: none is under way. May be cancelled.
async fn save_ended(saving: &mut Option<JoinHandle<Result<Saved, String>>>) -> Option<Option<Saved>> {
    let ended = saving.as_mut()?.await;
    *saving = None;
    Some(match ended {
        // A failure has told itself.
        Ok(saved) => saved.ok(),
        Err(error) => {
            tracing::error!("saving the checkpoint failed: {}", panic_message(error));
            None
        }
    })
}

fn begins_incident(record: &Record) -> bool {
    let Entry::Incident { event, .. } = &record.entry else { return false };
    matches!(**event, IncidentEvent::Opened { .. } | IncidentEvent::Admitted { .. })
}

fn log(level: LogLevel, service: Option<&str>, message: &str) {
    match level {
        LogLevel::Info => tracing::info!(service, "{message}"),
        LogLevel::Warn => tracing::warn!(service, "{message}"),
        LogLevel::Error => tracing::error!(service, "{message}"),
    }
}

impl<W> fmt::Debug for Dispatch<W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dispatch")
            .field("steps", &self.step_of)
            .field("checks", &self.check_of)
            .field("deliveries", &self.delivery_of)
            .field("unconfirmed", &self.unconfirmed)
            .finish_non_exhaustive()
    }
}
