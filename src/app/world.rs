//! What the engine drives: journal, executor, receivers, checkpoint file, systemd.

use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::act::Executor;
use crate::decide::event::{CheckOutcome, Record, StepResult};
use crate::engine::port::{BoxError, Core, Lag, Observations, Saved, Started, World};
use crate::journal::{CheckpointFile, CloseError, Journal};
use crate::machine::Machine;
use crate::machine::checkpoint::View;
use crate::machine::input::{DeliveryOutcome, Input, Observation};
use crate::machine::output::{CheckOrder, DeliveryOrder, Output, StepOrder};
use crate::machine::snapshot::{JournalHealth, Snapshot};
use crate::notify::Notifier;
use crate::observe::lane;
use crate::platform::clock::Clock;
use crate::platform::systemd::Systemd;
use crate::serve::Metrics;
use crate::time::{Now, Timestamp};

/// Shared by the engine and the composition root. The mutexes are held for one call that does not wait, but the
/// checkpoint file's: the engine takes it to encode, after the thread that writes is done with it.
#[derive(Debug)]
pub(super) struct Adapters {
    pub clock: Clock,
    pub metrics: Metrics,
    pub systemd: Systemd,
    executor: Executor,
    journal: Mutex<Option<Journal>>,
    checkpoints: Arc<Mutex<CheckpointFile>>,
    notifier: Mutex<Notifier>,
    /// The latest `STATUS=`, so that systemd hears of changes only.
    status: Mutex<String>,
}

impl Adapters {
    pub fn new(
        clock: Clock,
        systemd: Systemd,
        executor: Executor,
        journal: Journal,
        checkpoints: CheckpointFile,
        notifier: Notifier,
    ) -> Adapters {
        Adapters {
            clock,
            metrics: Metrics::new(),
            systemd,
            executor,
            journal: Mutex::new(Some(journal)),
            checkpoints: Arc::new(Mutex::new(checkpoints)),
            notifier: Mutex::new(notifier),
            status: Mutex::new(String::new()),
        }
    }

    /// Attempts under way end with the receivers that they began with.
    pub fn set_notifier(&self, notifier: Notifier) {
        *lock(&self.notifier) = notifier;
    }

    /// Writes what is left and gives the state directory back. Blocking. A second call changes nothing.
    pub fn close_journal(&self) -> Result<(), CloseError> {
        let journal = lock(&self.journal).take();
        journal.map_or(Ok(()), Journal::close)
    }
}

/// No call under these locks leaves something half done, so what a panicking thread left is whole.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl World for Adapters {
    fn append(&self, records: Vec<Record>) -> Result<(), BoxError> {
        match lock(&self.journal).as_mut() {
            Some(journal) => Ok(journal.append(records)?),
            None => Err("the journal is closed".into()),
        }
    }

    fn run_step(&self, order: StepOrder, started: Started) -> impl Future<Output = StepResult> + Send + 'static {
        let executor = self.executor.clone();
        async move { executor.run(&order, |pid, process_start| started.tell(pid, process_start)).await }
    }

    fn run_check(&self, order: CheckOrder) -> impl Future<Output = CheckOutcome> + Send + 'static {
        let executor = self.executor.clone();
        async move { executor.check(&order).await }
    }

    fn deliver(&self, order: DeliveryOrder) -> impl Future<Output = DeliveryOutcome> + Send + 'static {
        let (notifier, now) = (lock(&self.notifier).clone(), self.clock.now());
        async move { notifier.deliver(&order, &now).await }
    }

    fn save(&self, checkpoint: &View<'_>) -> impl FnOnce() -> Result<Saved, String> + Send + 'static {
        let file = Arc::clone(&self.checkpoints);
        let encoded = lock(&file).encode(checkpoint);
        move || {
            let written = encoded.and_then(|encoded| lock(&file).write(encoded));
            let is_all = written.map_err(|error| super::chain(&error))?;
            Ok(if is_all { Saved::All } else { Saved::Part })
        }
    }

    fn measured(&self, lag: Lag) {
        match lag {
            Lag::Decision(lag) => self.metrics.observe_decision_lag(lag),
            Lag::Sync(lag) => self.metrics.observe_sync_lag(lag),
        }
    }

    fn alive(&self, snapshot: &Snapshot) {
        let status = summary(snapshot);
        let told = {
            let mut last = lock(&self.status);
            let is_new = *last != status;
            last.clone_from(&status);
            if is_new { self.systemd.status(&status) } else { Ok(()) }
        };
        // Not told is not dead: the next call is soon.
        if let Err(error) = told.and(self.systemd.alive()) {
            tracing::warn!("systemd could not be told that backstop is alive: {error}");
        }
    }
}

/// One line for `systemctl status`.
pub(super) fn summary(snapshot: &Snapshot) -> String {
    let targets = snapshot.services.iter().flat_map(|service| &service.targets);
    let (down, targets) =
        targets.fold((0, 0), |(down, all), target| (down + usize::from(target.up == Some(false)), all + 1));
    let mut parts = vec![format!("watching {}", count(snapshot.services.len(), "service"))];
    parts.push(format!("{} ({down} down)", count(targets, "target")));
    let open: Vec<&str> =
        snapshot.incidents.iter().filter(|incident| incident.open).map(|incident| &*incident.id.0).collect();
    if !open.is_empty() {
        parts.push(format!("{}: {}", count(open.len(), "open incident"), open.join(" ")));
    }
    if snapshot.kill_switch.is_some() {
        parts.push("the kill switch is on".to_owned());
    }
    if snapshot.pause.is_some() {
        parts.push("paused".to_owned());
    }
    if let JournalHealth::Failing { why, .. } = &snapshot.journal {
        parts.push(format!("the journal cannot be written, so no rollback starts: {why}"));
    }
    parts.join(", ")
}

fn count(n: usize, what: &str) -> String {
    if n == 1 { format!("1 {what}") } else { format!("{n} {what}s") }
}

impl Core for Machine {
    fn handle(&mut self, now: &Now, input: Input, out: &mut Vec<Output>) {
        Machine::handle(self, now, input, out);
    }

    fn next_deadline(&self) -> Option<Timestamp> {
        Machine::next_deadline(self)
    }

    fn snapshot(&self, now: &Now) -> Snapshot {
        Machine::snapshot(self, now)
    }

    fn checkpoint(&self, now: &Now) -> View<'_> {
        Machine::checkpoint(self, now)
    }
}

impl Observations for lane::Receiver {
    fn next(&mut self) -> impl Future<Output = Option<Observation>> + Send {
        self.recv()
    }
}
