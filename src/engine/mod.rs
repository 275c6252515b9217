//! The shell around the machine: two lanes in, outputs out; no decisions.
//!
//! One task owns the machine. It never waits for the disk, for a receiver or for a full queue: what must wait runs in
//! a task of its own whose end is an input. Control (finished steps, durability, commands) goes before observations;
//! deadlines come when both are drained.

mod dispatch;
pub mod handle;
pub mod port;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::task::coop::consume_budget;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::machine::input::{CommandId, Input, Observation};
use crate::machine::snapshot::Snapshot;
use crate::platform::clock::Clock;
use crate::time::Timestamp;

use dispatch::{Dispatch, Finished};
use handle::CommandMessage;
use port::{BoxError, Core, Lag, Observations, Saved, World};

/// Commands that wait for the engine. People and deploy scripts send a few per minute; more than this at once is a
/// mistake, and then those who ask wait.
pub const COMMANDS_QUEUED_MAX: usize = 64;
/// Commands whose answer waits for the disk. At the limit no further command is taken.
const COMMANDS_OPEN_MAX: usize = 256;
/// Reports of the journal and reloads. One report per transaction; the thread that sends them may wait.
pub const CONTROL_QUEUED_MAX: usize = 256;
/// So many observations in a row may go before a deadline that has passed: a flood must not stop time.
const OBSERVATIONS_IN_A_ROW_MAX: u32 = 1024;
/// Four snapshots a second are enough for people; an incident's transition is published at once.
const PUBLISH_EVERY: Duration = Duration::from_millis(250);

/// So long may the last checkpoint take. It costs held time only, and who waits for the end may have a bound of its own.
const SAVE_LAST_MAX: Duration = Duration::from_secs(2);

/// How exactly the bound of the drain is kept.
const DRAIN_LOOK_EVERY: Duration = Duration::from_millis(100);

#[derive(Clone, Debug)]
pub struct Settings {
    /// How often windows and held time are saved.
    pub save_every: Duration,
    /// How often [`World::alive`] is called.
    pub alive_every: Duration,
    /// How long running steps are waited for at shutdown. After it the process ends, and what still ran is ambiguous
    /// at the next start.
    pub drain_max: Duration,
    /// Of this, how long deliveries under way are waited for. They are in the outbox and will be tried again.
    pub drain_deliveries_max: Duration,
}

impl Settings {
    /// The values that the daemon runs with; `alive_every` is shorter where systemd's watchdog asks for it.
    pub const DAEMON: Settings = Settings {
        save_every: Duration::from_secs(5),
        alive_every: Duration::from_secs(10),
        drain_max: Duration::from_secs(30),
        drain_deliveries_max: Duration::from_secs(5),
    };
}

/// What comes in.
#[derive(Debug)]
pub struct Lanes<O> {
    pub control: mpsc::Receiver<Input>,
    pub commands: mpsc::Receiver<CommandMessage>,
    pub observations: O,
}

/// Why the engine cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// The journal told of its failure long before it refuses; better to start anew from what is durable than to
    /// collect entries without end. Nothing that depends on the refused ones has been started.
    #[error("the journal takes no more entries")]
    Journal {
        #[source]
        source: BoxError,
    },
    #[error("whoever reports for the journal is gone")]
    ControlClosed,
    #[error("whoever observes is gone")]
    ObservationsClosed,
}

/// How the engine ended after it had been asked to.
#[derive(Debug, PartialEq, Eq)]
pub struct Stopped {
    /// Steps that still ran at the bound.
    pub steps_left: usize,
    /// Entries that the journal had not confirmed at the bound.
    pub entries_left: usize,
}

#[derive(Debug)]
pub struct Engine<C, W, O> {
    core: C,
    clock: Clock,
    settings: Settings,
    lanes: Lanes<O>,
    dispatch: Dispatch<W>,
    snapshot: watch::Sender<Arc<Snapshot>>,
    commands_taken: u64,
    observations_in_a_row: u32,
    /// When the newest observation was complete.
    observed: Option<Timestamp>,
    /// Since boot.
    due: Due,
    /// The machine may have changed since the last snapshot.
    changed: bool,
}

/// When the engine's own chores are next to be done, since boot.
#[derive(Debug)]
struct Due {
    publish: Duration,
    save: Duration,
    alive: Duration,
}

enum Event {
    Own(Input),
    Control(Input),
    Command(CommandMessage),
    Observation(Observation),
    Saved(Option<Saved>),
    Woke,
    Stop,
}

impl<C: Core, W: World, O: Observations> Engine<C, W, O> {
    /// `starting` is what the machine asked for when it was made.
    pub fn new(
        core: C,
        starting: Vec<crate::machine::output::Output>,
        world: Arc<W>,
        clock: Clock,
        settings: Settings,
        lanes: Lanes<O>,
    ) -> (Engine<C, W, O>, watch::Receiver<Arc<Snapshot>>) {
        let (snapshot, watch) = watch::channel(Arc::new(core.snapshot(&clock.now())));
        let uptime = clock.uptime();
        let due = Due { publish: uptime, save: uptime + settings.save_every, alive: uptime };
        let dispatch = Dispatch::new(world, starting);
        let engine = Engine {
            core,
            clock,
            settings,
            lanes,
            dispatch,
            snapshot,
            commands_taken: 0,
            observations_in_a_row: 0,
            observed: None,
            due,
            changed: true,
        };
        (engine, watch)
    }

    /// Runs until `stop` is cancelled and what runs has been waited for, or until it cannot go on. A panic of the
    /// machine goes through: half a state must not go on.
    pub async fn run(mut self, stop: CancellationToken) -> Result<Stopped, EngineError> {
        self.emit(false)?;
        let mut stopping: Option<Timestamp> = None;
        loop {
            if let Some(since) = stopping
                && self.is_drained(since)
            {
                break;
            }
            match self.next(&stop, stopping.is_some()).await? {
                Event::Own(input) => self.handle(input)?,
                Event::Control(input) => {
                    if let Input::Durable(upto) = &input {
                        self.dispatch.confirmed(*upto, &self.clock);
                    }
                    self.handle(input)?;
                }
                Event::Command(message) => self.command(message)?,
                Event::Observation(observation) => self.observe(observation)?,
                Event::Saved(Some(Saved::Part)) => self.save(),
                Event::Saved(Some(Saved::All) | None) => {}
                Event::Woke => {
                    self.observations_in_a_row = 0;
                    let now = self.clock.monotonic();
                    if self.core.next_deadline().is_some_and(|deadline| deadline <= now) {
                        self.handle(Input::Tick)?;
                    }
                }
                Event::Stop => {
                    stopping = Some(self.clock.monotonic());
                    self.dispatch.deliveries_start = false;
                    self.handle(Input::Draining)?;
                }
            }
            self.chores();
        }
        self.publish();
        if timeout(SAVE_LAST_MAX, self.save_last()).await.is_err() {
            tracing::warn!("the last checkpoint is not on the disk after {SAVE_LAST_MAX:?}: it may cost held time");
        }
        Ok(Stopped { steps_left: self.dispatch.steps_running(), entries_left: self.dispatch.entries_waiting() })
    }

    /// The next thing to do, the most urgent first. Each source keeps what it has when this is cancelled.
    async fn next(&mut self, stop: &CancellationToken, stopping: bool) -> Result<Event, EngineError> {
        if let Some(input) = self.dispatch.next_own() {
            return Ok(Event::Own(input));
        }
        // The lane of observations counts against no budget: where there is one worker, a flood would keep the steps
        // that this task has begun, and everyone else, from running.
        consume_budget().await;
        let now = self.clock.monotonic();
        let deadline = self.core.next_deadline();
        if self.observations_in_a_row >= OBSERVATIONS_IN_A_ROW_MAX && deadline.is_some_and(|deadline| deadline <= now) {
            return Ok(Event::Woke);
        }
        let chore = self.due.next(self.changed).saturating_sub(self.clock.uptime());
        let wake = deadline.map_or(chore, |deadline| deadline.since(now).min(chore));
        let wake = if stopping { wake.min(DRAIN_LOOK_EVERY) } else { wake };
        tokio::select! {
            biased;
            () = stop.cancelled(), if !stopping => Ok(Event::Stop),
            finished = self.dispatch.finished() => Ok(match finished {
                Finished::Input(input) => Event::Own(input),
                Finished::Save(saved) => Event::Saved(saved),
            }),
            input = self.lanes.control.recv() => input.map(Event::Control).ok_or(EngineError::ControlClosed),
            Some(command) = self.lanes.commands.recv(),
                if !stopping && self.dispatch.commands_open() < COMMANDS_OPEN_MAX => Ok(Event::Command(command)),
            observation = self.lanes.observations.next(), if !stopping => {
                observation.map(Event::Observation).ok_or(EngineError::ObservationsClosed)
            }
            () = sleep(wake) => Ok(Event::Woke),
        }
    }

    fn handle(&mut self, input: Input) -> Result<(), EngineError> {
        // What a person or a finished step led to is no decision on an observation.
        let seen = matches!(input, Input::Observation(_) | Input::Tick);
        let now = self.clock.now();
        self.core.handle(&now, input, &mut self.dispatch.outputs);
        self.changed = true;
        self.emit(seen)
    }

    fn command(&mut self, message: CommandMessage) -> Result<(), EngineError> {
        self.commands_taken += 1;
        let id = CommandId(self.commands_taken);
        self.dispatch.expect_answer(id, message.reply);
        self.handle(Input::Command { id, actor: message.actor, command: message.command })
    }

    fn observe(&mut self, observation: Observation) -> Result<(), EngineError> {
        self.observations_in_a_row += 1;
        self.observed = completed(&observation).or(self.observed);
        self.handle(Input::Observation(observation))
    }

    /// Sends the outputs of a turn on their way. Who reads the snapshot after an answer finds what the answer says.
    fn emit(&mut self, seen: bool) -> Result<(), EngineError> {
        if self.dispatch.outputs.is_empty() {
            return Ok(());
        }
        let turn = self.dispatch.send(&self.clock)?;
        if seen
            && turn.incident_began
            && let Some(observed) = self.observed
        {
            self.dispatch.world().measured(Lag::Decision(self.clock.monotonic().since(observed)));
        }
        if turn.appended || !turn.answers.is_empty() {
            self.publish();
        }
        self.dispatch.answer(turn.answers);
        Ok(())
    }

    fn publish(&mut self) {
        self.snapshot.send_replace(Arc::new(self.core.snapshot(&self.clock.now())));
        self.due.publish = self.clock.uptime() + PUBLISH_EVERY;
        self.changed = false;
    }

    fn chores(&mut self) {
        let uptime = self.clock.uptime();
        if self.changed && uptime >= self.due.publish {
            self.publish();
        }
        if uptime >= self.due.save {
            self.due.save = uptime + self.settings.save_every;
            if self.dispatch.may_save() {
                self.save();
            }
        }
        if uptime >= self.due.alive {
            self.due.alive = uptime + self.settings.alive_every;
            self.dispatch.world().alive(&self.snapshot.borrow());
        }
    }

    fn save(&mut self) {
        self.dispatch.save(&self.core.checkpoint(&self.clock.now()));
    }

    /// After the one that is under way, for an older one must not replace it.
    async fn save_last(&mut self) {
        self.dispatch.save_ended().await;
        loop {
            self.save();
            if self.dispatch.save_ended().await != Some(Saved::Part) {
                break;
            }
        }
    }

    fn is_drained(&self, since: Timestamp) -> bool {
        let waited = self.clock.monotonic().since(since);
        let settled =
            self.dispatch.steps_running() == 0 && self.dispatch.entries_waiting() == 0 && !self.dispatch.has_own();
        let delivered = self.dispatch.deliveries_running() == 0 || waited >= self.settings.drain_deliveries_max;
        (settled && delivered) || waited >= self.settings.drain_max
    }
}

impl Due {
    fn next(&self, changed: bool) -> Duration {
        let chore = self.save.min(self.alive);
        if changed { chore.min(self.publish) } else { chore }
    }
}

/// When a look was complete; targets coming and going are no looks.
fn completed(observation: &Observation) -> Option<Timestamp> {
    match observation {
        Observation::Scraped { at, duration, .. }
        | Observation::Probed { at, duration, .. }
        | Observation::Queried { at, duration, .. } => Some(*at + *duration),
        Observation::Release { at, .. } | Observation::Reference { at, .. } => Some(*at),
        Observation::TargetUp { .. } | Observation::TargetGone { .. } | Observation::Overrun { .. } => None,
    }
}
