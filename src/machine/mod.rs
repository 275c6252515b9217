//! One owner of all state: windows, verdicts, releases, incidents and outbox, behind one `handle`. Pure.
//!
//! A turn: an input changes what is known; once the inbox is drained a `Tick` settles it: dirty triggers are evaluated,
//! releases named, incidents advanced until nothing follows. What must be remembered leaves as one `Append`; effects
//! that depend on it wait until it is durable.

mod absent;
mod acting;
mod asking;
mod audit;
mod blame;
pub mod checkpoint;
mod commands;
pub mod input;
mod judging;
mod notices;
mod outbox;
pub mod output;
mod people;
mod proving;
mod queried;
mod recover;
mod safety;
mod service;
mod settle;
pub mod snapshot;
mod step_checks;
pub mod trial;
mod view;
mod watch;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::decide::event::{Actor, Entry, IncidentId, Record, Seq};
use crate::decide::incident::Incident;
use crate::decide::rules::{Rules, ServiceRules};
use crate::promql::{Expr, Scope, Store, TargetId};
use crate::time::{Now, Timestamp};
use checkpoint::{EverMatched, View};
use input::Input;
use outbox::Outbox;
use output::{LogLevel, Output};
pub use recover::{Recovered, Unreadable};
pub use safety::KILL_SWITCH;
use service::Service;
use snapshot::Counters;
use watch::{ReferenceState, Target};

/// A trigger is evaluated at most once in this time, however many batches arrive (DESIGN §4).
const SETTLE_EVERY: Duration = Duration::from_millis(5);

/// What a trigger asks goes over all targets, and each of them sends batches: of many targets, more batches are taken
/// together, or the cost would grow with their square. Of a few targets so long for each,
const SETTLE_PER_TARGET: Duration = Duration::from_micros(500);

/// and of more than these the shortest interval, which is how old a sample may be anyway,
const FEW_TARGETS: usize = 32;

/// but never longer than this.
const SETTLE_EVERY_MAX: Duration = Duration::from_secs(1);

/// Closed incidents kept in memory, for pages and reports; the journal has them all.
const CLOSED_INCIDENTS_KEPT: usize = 100;

/// Why no new rollback may start.
#[derive(Clone, Debug, PartialEq)]
struct Pause {
    until: Timestamp,
    actor: Actor,
    reason: String,
}

/// All state, and the only code that changes it.
#[derive(Debug)]
pub struct Machine {
    rules: Arc<Rules>,
    store: Store,
    targets: BTreeMap<TargetId, Target>,
    references: BTreeMap<Arc<str>, ReferenceState>,
    services: Vec<Service>,
    incidents: BTreeMap<IncidentId, Incident>,
    /// Everything the journal has of each incident in memory.
    histories: BTreeMap<IncidentId, Arc<Vec<Record>>>,
    outbox: Outbox,
    /// Questions under way.
    asked: asking::Asked,
    pause: Option<Pause>,
    /// By name, what the journal has of services that are not in the configuration: they may come back.
    absent: BTreeMap<String, Vec<absent::Absent>>,
    /// By service and instant: what was admitted, for cooldown and budgets.
    admissions: Vec<(Arc<str>, IncidentId, Timestamp)>,
    /// The last sequence that was given out.
    seq: Seq,
    durable: Seq,
    /// Since when on the wall, and why.
    journal_failing: Option<(Timestamp, String)>,
    /// The wall time of the first record, in notices' ids: sequences start anew with a new journal.
    founded: Timestamp,
    turn: Vec<Record>,
    /// Effects that wait for an entry.
    gated: Vec<(Seq, Output)>,
    recovered_windows: Vec<(input::TargetKey, crate::promql::TargetDump)>,
    settled: Timestamp,
    dirty: bool,
    /// Observations came in since the last turn: no trigger was asked about them, and what runs may be another release.
    unjudged: bool,
    /// When something is to be settled although nothing comes in: the earliest of `wakes`, as of the last input that was no observation.
    wake: Option<Timestamp>,
    started: Timestamp,
    started_wall: Timestamp,
    counters: Counters,
    heartbeat_due: Option<Timestamp>,
    /// The daemon stops: nothing new is begun.
    draining: bool,
    kills: safety::Kills,
    allowances: audit::Allowances,
    clocks: safety::Clocks,
}

impl Machine {
    /// Takes up what an earlier daemon left. Effects of recovered incidents come at the first `Tick`.
    #[must_use]
    pub fn new(rules: Arc<Rules>, now: &Now, recovered: Recovered, out: &mut Vec<Output>) -> Machine {
        let mut machine = Machine {
            store: Store::new(&exprs(&rules)),
            targets: BTreeMap::new(),
            references: BTreeMap::new(),
            services: Vec::new(),
            incidents: BTreeMap::new(),
            histories: BTreeMap::new(),
            outbox: Outbox::new(&rules.receivers),
            asked: asking::Asked::default(),
            pause: None,
            absent: BTreeMap::new(),
            admissions: Vec::new(),
            seq: Seq(0),
            durable: Seq(0),
            journal_failing: None,
            founded: now.wall,
            turn: Vec::new(),
            gated: Vec::new(),
            recovered_windows: Vec::new(),
            settled: Timestamp::MIN,
            dirty: true,
            unjudged: false,
            wake: None,
            started: now.monotonic,
            started_wall: now.wall,
            counters: Counters::default(),
            heartbeat_due: rules.heartbeat.as_ref().map(|_| now.monotonic),
            draining: false,
            kills: safety::Kills::default(),
            allowances: audit::Allowances::default(),
            clocks: safety::Clocks::default(),
            rules,
        };
        machine.adopt_services(now);
        machine.recover(recovered, now, out);
        machine.flush(now, out);
        machine.wake = machine.next_wake();
        machine
    }

    /// One input. Observations only change what is known; everything that follows is settled at the next `Tick`, which
    /// `next_deadline` asks for at once.
    pub fn handle(&mut self, now: &Now, input: Input, out: &mut Vec<Output>) {
        self.watch_clocks(now, out);
        // Many observations come between two turns. What they change is settled at the next one, and so is when the one after
        // it is due.
        let is_observation = matches!(&input, Input::Observation(_));
        match input {
            Input::Observation(observation) => self.observe(now, observation, out),
            Input::Durable(seq) => {
                self.durable = self.durable.max(seq);
                self.dirty = true;
                // No tick may come between the last entry and the end: a step that was intended starts now or never.
                if self.draining {
                    self.settle(now, out);
                }
            }
            Input::JournalFailed(why) => self.journal_failed(now, &why, out),
            Input::JournalBack => self.journal_back(now, out),
            Input::StepStarted { incident, attempt, pid, process_start } => {
                self.step_started(now, &incident, attempt, pid, process_start, out);
            }
            Input::StepFinished { incident, attempt, result } => {
                self.step_finished(now, &incident, attempt, result, out);
            }
            Input::Checked { id, outcome } => self.checked(now, id, outcome, out),
            Input::Delivery { receiver, notice, outcome } => self.delivered(now, &receiver, &notice, outcome, out),
            Input::Command { id, actor, command } => self.command(now, id, &actor, command, out),
            Input::KillFile { path, says } => self.kill_file(now, &path, says),
            Input::Draining => {
                self.draining = true;
                self.settle(now, out);
            }
            Input::Reload(rules) => self.reload(now, rules, out),
            Input::Tick => self.settle(now, out),
        }
        self.flush(now, out);
        if !is_observation {
            self.wake = self.next_wake();
        }
    }

    /// When `Tick` must come at the latest, on the monotonic timeline; now or earlier when something is to be settled.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Timestamp> {
        let earliest = self.settled + SETTLE_EVERY;
        if self.dirty {
            return Some(earliest);
        }
        let observed = self.unjudged.then(|| self.settled + self.observed_every());
        self.wake.map(|wake| wake.max(earliest)).into_iter().chain(observed).min()
    }

    fn next_wake(&self) -> Option<Timestamp> {
        self.wakes().filter(|wake| *wake > self.settled).min()
    }

    /// How often what was observed is looked at, at most.
    fn observed_every(&self) -> Duration {
        let targets = u32::try_from(self.targets.len().min(FEW_TARGETS)).unwrap_or(u32::MAX);
        let least = SETTLE_PER_TARGET.saturating_mul(targets).max(SETTLE_EVERY);
        if self.targets.len() <= FEW_TARGETS {
            return least;
        }
        let interval = self.targets.values().map(|target| target.interval).min().unwrap_or_default();
        interval.clamp(least, SETTLE_EVERY_MAX)
    }

    /// Steps under way: a shutdown waits for them, within a bound.
    #[must_use]
    pub fn steps_running(&self) -> usize {
        self.incidents.values().filter(|incident| incident.in_flight.is_some()).count()
    }

    /// What comes from observation and is worth keeping over a restart.
    #[must_use]
    pub fn checkpoint(&self, now: &Now) -> View<'_> {
        let windows = self.store.lend().filter_map(|windows| {
            let target = self.targets.get(&windows.target())?;
            Some((&target.key, windows))
        });
        let ever = self.store.dump_ever().into_iter().filter_map(|dump| {
            let service = match dump.scope {
                Scope::Shared => None,
                Scope::Service(id) => Some(Arc::clone(&self.services.iter().find(|s| s.id == id)?.rules.name)),
            };
            Some(EverMatched { service, selector: dump.selector, series: dump.series })
        });
        View {
            now: now.clone(),
            ever: ever.collect(),
            windows: windows.collect(),
            verdicts: self.services.iter().flat_map(Service::dump_verdicts).collect(),
            baselines: self.services.iter().flat_map(Service::dump_baselines).collect(),
        }
    }

    /// Writes an entry into this turn's transaction.
    fn record(&mut self, now: &Now, entry: Entry) -> Record {
        self.seq = Seq(self.seq.0 + 1);
        let record = Record { seq: self.seq, at: now.monotonic, wall: now.wall, boot: now.boot.clone(), entry };
        self.turn.push(record.clone());
        record
    }

    /// An effect that leaves when all that was recorded so far is durable.
    fn gate(&mut self, output: Output) {
        self.gated.push((self.seq, output));
    }

    fn flush(&mut self, now: &Now, out: &mut Vec<Output>) {
        let durable = self.durable;
        for (seq, output) in std::mem::take(&mut self.gated) {
            let leaves = match &output {
                _ if seq > durable => None,
                Output::RunStep(order) => self.release_step(order, now, out),
                Output::Append(_)
                | Output::RunCheck(_)
                | Output::Deliver(_)
                | Output::Reply { .. }
                | Output::Log { .. } => Some(true),
            };
            match leaves {
                Some(true) => out.push(output),
                Some(false) => {}
                None => self.gated.push((seq, output)),
            }
        }
        if !self.turn.is_empty() {
            out.push(Output::Append(std::mem::take(&mut self.turn)));
        }
    }

    fn journal_failed(&mut self, now: &Now, why: &str, out: &mut Vec<Output>) {
        self.counters.journal_errors += 1;
        if self.journal_failing.is_none() {
            log(out, LogLevel::Error, None, format!("the journal cannot be written, no rollback starts: {why}"));
            self.journal_failing = Some((now.wall, why.to_owned()));
            self.degraded(now, &format!("the journal cannot be written, so no rollback starts: {why}"));
        }
        self.dirty = true;
    }

    fn journal_back(&mut self, now: &Now, out: &mut Vec<Output>) {
        if self.journal_failing.take().is_some() {
            log(out, LogLevel::Info, None, "the journal is written again".to_owned());
            self.restored(now, "the journal is written again");
        }
        self.dirty = true;
    }

    /// Another configuration. Windows of what did not change are kept, and so are open incidents with their plans.
    fn reload(&mut self, now: &Now, rules: Arc<Rules>, out: &mut Vec<Output>) {
        let open = self.open_notices();
        self.rules = rules;
        self.store.retarget(&exprs(&self.rules));
        // What was asked may be another question now.
        self.asked.forget();
        self.adopt_services(now);
        self.outbox.reconfigure(&self.rules.receivers);
        self.resolve_what_is_gone(open, now);
        self.references
            .retain(|name, _| self.rules.services.iter().any(|service| service.guard.references.contains(name)));
        self.heartbeat_due = self.rules.heartbeat.as_ref().map(|_| now.monotonic);
        self.dirty = true;
        log(out, LogLevel::Info, None, format!("configuration {} is in force", self.rules.hash));
    }

    fn incident_mut(&mut self, id: &IncidentId) -> Option<&mut Incident> {
        self.incidents.get_mut(id)
    }

    fn service_index(&self, name: &str) -> Option<usize> {
        self.services.iter().position(|service| *service.rules.name == *name)
    }

    fn wakes(&self) -> impl Iterator<Item = Timestamp> {
        let services = self.services.iter().flat_map(Service::wakes);
        let incidents = self.incidents.values().filter(|incident| incident.state.is_open()).flat_map(|incident| {
            let patience =
                self.service_index(&incident.service).map(|index| self.services[index].patience(incident.severity()));
            incident.wakes(&patience.unwrap_or(service::PATIENCE_DEFAULT))
        });
        let pauses = self.pause.iter().map(|pause| pause.until);
        let tilts = self.services.iter().filter_map(|service| Some(self.tilt(service)?.0));
        services
            .chain(incidents)
            .chain(self.ask_wakes())
            .chain(pauses)
            .chain(tilts)
            .chain(self.outbox.wakes())
            .chain(self.heartbeat_due)
            .chain([self.started + people::FIRST_LOOKS_WITHIN])
    }
}

/// All expressions of a configuration, the release detectors' selectors among them.
fn exprs(rules: &Rules) -> Vec<Expr> {
    rules.services.iter().flat_map(ServiceRules::exprs).collect()
}

fn log(out: &mut Vec<Output>, level: LogLevel, service: Option<&Arc<str>>, message: String) {
    out.push(Output::Log { level, service: service.cloned(), message });
}
