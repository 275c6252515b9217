//! Clock, machine, disk, steps and receivers, and the one queue of what happens next.
//!
//! Length: everything that moves the clock or hands something to the machine is here, and nothing else.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use backstop::decide::event::{
    Actor, Attempt, CheckOutcome, Entry, IncidentEvent, IncidentId, Outcome, Seq, StepResult,
};
use backstop::decide::rules::{DetectorKind, Rules};
use backstop::machine::input::{
    Answer, Command, CommandId, DeliveryOutcome, Input, Observation, ProbeOutcome, TargetKey, TargetKind,
};
use backstop::machine::output::{CheckOrder, DeliveryOrder, LogLevel, Output, StepOrder};
use backstop::machine::{Machine, Recovered};
use backstop::platform::clock::{Reading, goes_on_at};
use backstop::promql::Labels;
use backstop::time::{BootId, Now, Timestamp};

use super::disk::{Disk, State, Turn};
use super::fleet::{Fleet, Lie, ReleaseNo};
use super::oracle::{Broken, Known, Oracle};
use super::rng::Rng;
use super::tally::{Coverage, Fault, Tally};
use super::{people, setup};
use crate::support::{INTERVAL, SECOND, secs};

/// Where the wall clock stands when the simulation begins.
pub const EPOCH: i64 = 1_790_000_000_000;
/// So many ticks in a row without anything else in two seconds are a busy loop.
const TICKS_ALONE_MAX: u32 = 100;
/// Where the file is that is a kill switch.
const KILL_FILE: &str = "/etc/backstop/stop";

/// A graceful end waits so long for steps (`engine::Settings::DAEMON`).
const DRAIN_MS: i64 = 30 * SECOND;

/// What a step does to the world, and how it ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Script {
    /// Installs the way back.
    Helps,
    FlagOff,
    /// Ends well and changes nothing.
    Nothing,
    Fails,
    /// Says that it failed, and works a moment later.
    FailsAndWorks,
    /// Flips the symlink, restarts one process, and reaches its deadline.
    HalfWorks,
    /// Nothing happens until its deadline.
    Hangs,
    /// It works, and its answer is lost.
    Ambiguous,
}

#[derive(Debug)]
pub struct RunningStep {
    id: u64,
    service: usize,
    script: Script,
    incident: IncidentId,
    attempt: Attempt,
    target: Option<ReleaseNo>,
    worked: bool,
    reported: bool,
}

/// How a receiver answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Manner {
    Takes,
    Refuses,
    Redirects,
    Slow,
    Gone,
    /// Takes it, and its answer is lost.
    Mute,
}

#[derive(Debug)]
enum Event {
    /// At a service, or at one of its processes where each has its own time.
    Look {
        service: usize,
        process: Option<usize>,
    },
    References,
    Acknowledge {
        life: u32,
    },
    Effect {
        step: u64,
    },
    Report {
        step: u64,
        life: u32,
        outcome: Outcome,
    },
    Answer {
        life: u32,
        input: Box<Input>,
    },
    Deploy {
        service: usize,
        process: usize,
        release: ReleaseNo,
    },
    Save,
    /// Somebody has read what they were told, and responds.
    Respond {
        incident: IncidentId,
    },
    /// What was aimed at an incident goes on a while later.
    Again {
        incident: IncidentId,
    },
    /// The file that is a kill switch is removed.
    KillFileGone,
    DrainOver {
        life: u32,
    },
    Start,
}

#[derive(Debug)]
struct Scheduled {
    at: i64,
    order: u64,
    event: Event,
}

impl PartialEq for Scheduled {
    fn eq(&self, other: &Scheduled) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Scheduled {}

impl PartialOrd for Scheduled {
    fn partial_cmp(&self, other: &Scheduled) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Scheduled {
    /// The earliest is the greatest: it leaves the heap first.
    fn cmp(&self, other: &Scheduled) -> Ordering {
        (other.at, other.order).cmp(&(self.at, self.order))
    }
}

/// What may still happen by chance, apart from what is ordered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Weather {
    Calm,
    Chaos,
}

#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
pub struct World {
    pub rng: Rng,
    /// The true time, in milliseconds; backstop's clocks are made from it.
    pub t: i64,
    monotonic_offset: i64,
    pub wall_offset: i64,
    boot: BootId,
    boots: u32,
    pub rules: Arc<Rules>,
    /// Services that the configuration has now.
    pub configured: Vec<bool>,
    machine: Option<Machine>,
    life: u32,
    pub disk: Disk,
    pub fleets: Vec<Fleet>,
    pub receivers: BTreeMap<String, Manner>,
    pub references: BTreeMap<&'static str, i64>,
    pub dark_until: i64,
    pub steps: Vec<RunningStep>,
    /// Attempts that took effect.
    worked: BTreeSet<(IncidentId, Attempt)>,
    /// By the step's name.
    pub scripts: BTreeMap<&'static str, Script>,
    pub step_ms: i64,
    schedule: BinaryHeap<Scheduled>,
    scheduled: u64,
    inbox: VecDeque<Input>,
    commands: u64,
    /// What must be durable before a command is answered.
    awaited: BTreeMap<u64, Seq>,
    /// Commands that answer an old question: none of them may count.
    stale: BTreeSet<u64>,
    kill_file: bool,
    /// Services that are looked at once more before anything is concluded.
    glances: Vec<usize>,
    /// By incident, on the true timeline: what is aimed at it comes around then.
    pub deadlines: BTreeMap<IncidentId, i64>,
    pub crash_in: Option<u32>,
    pub crash_at_sync: bool,
    pub stopped_until: i64,
    pub power_cut: bool,
    failing_told: bool,
    draining: bool,
    ticks_alone: (i64, u32),
    pub weather: Weather,
    /// Of the disk, at most, in milliseconds.
    pub sync_ms: i64,
    /// Every process is looked at when its own time has come, not all at once.
    spread: bool,
    pub oracle: Oracle,
    pub tally: Tally,
    coverage: Coverage,
    /// What happened, when somebody wants to read it.
    pub story: Option<Vec<String>>,
    out: Vec<Output>,
}

impl World {
    pub fn new(seed: u64, tells: bool) -> Result<World, Broken> {
        let mut rng = Rng::new(seed);
        let mut rules = setup::configuration(&mut rng);
        setup::policies(&mut rng, &mut rules);
        let rules = Arc::new(rules);
        let fleets = setup::fleets(&mut rng, &rules);
        let count = fleets.len();
        let mut world = World {
            t: 0,
            monotonic_offset: EPOCH,
            wall_offset: EPOCH,
            boot: BootId("boot-1".into()),
            boots: 1,
            configured: vec![true; count],
            machine: None,
            life: 0,
            disk: Disk::new(),
            fleets,
            receivers: rules.receivers.iter().map(|rules| (rules.name.to_string(), Manner::Takes)).collect(),
            references: setup::REFERENCES.iter().map(|name| (*name, 0)).collect(),
            dark_until: 0,
            steps: Vec::new(),
            worked: BTreeSet::new(),
            scripts: BTreeMap::new(),
            step_ms: rng.within(0, 12 * SECOND),
            schedule: BinaryHeap::new(),
            scheduled: 0,
            inbox: VecDeque::new(),
            commands: 0,
            awaited: BTreeMap::new(),
            stale: BTreeSet::new(),
            kill_file: false,
            glances: Vec::new(),
            deadlines: BTreeMap::new(),
            crash_in: None,
            crash_at_sync: false,
            stopped_until: 0,
            power_cut: false,
            failing_told: false,
            draining: false,
            ticks_alone: (0, 0),
            weather: Weather::Calm,
            sync_ms: rng.pick(&[1, 10, 100]),
            spread: rng.one_in(2),
            oracle: Oracle::new(count),
            tally: Tally::new(),
            coverage: Coverage::default(),
            story: tells.then(Vec::new),
            out: Vec::new(),
            rules,
            rng,
        };
        world.scripts = people::scripts(&mut world.rng);
        for service in 0..count {
            world.oracle.deployed(service, 0, 0);
            let after = world.rng.within(0, 2000);
            world.later(after, Event::Look { service, process: None });
            if world.spread {
                for process in 0..world.fleets[service].processes.len() {
                    let after = world.rng.within(0, INTERVAL);
                    world.later(after, Event::Look { service, process: Some(process) });
                }
            }
        }
        world.later(500, Event::References);
        world.later(5 * SECOND, Event::Save);
        world.begin_life()?;
        Ok(world)
    }

    pub fn note(&mut self, text: impl FnOnce() -> String) {
        if let Some(story) = &mut self.story {
            let line = format!("{:>9.3} {}", Seconds(self.t), text());
            story.push(line);
        }
    }

    fn later(&mut self, after: i64, event: Event) {
        self.scheduled += 1;
        self.schedule.push(Scheduled { at: self.t + after, order: self.scheduled, event });
    }

    pub fn monotonic(&self) -> Timestamp {
        Timestamp::from_millis(self.t + self.monotonic_offset)
    }

    pub const fn monotonic_offset(&self) -> i64 {
        self.monotonic_offset
    }

    pub fn now(&self) -> Now {
        Now {
            monotonic: self.monotonic(),
            wall: Timestamp::from_millis(self.t + self.wall_offset),
            boot: self.boot.clone(),
            since_boot: Duration::from_millis(u64::try_from(self.t).unwrap_or_default()),
        }
    }

    fn is_stopped(&self) -> bool {
        self.t < self.stopped_until
    }

    // The daemon's lives.

    /// A daemon takes up what is on the disk.
    fn begin_life(&mut self) -> Result<(), Broken> {
        self.life += 1;
        if self.power_cut {
            self.boots += 1;
            self.boot = BootId(format!("boot-{}", self.boots).into());
            self.power_cut = false;
        }
        let checkpoint = self.disk.checkpoint();
        let now = self.now();
        let saved = checkpoint.as_ref().map(|checkpoint| &checkpoint.now);
        let reading = Reading { since_boot: now.since_boot, wall: now.wall };
        self.monotonic_offset = goes_on_at(&reading, &self.boot, saved, self.disk.newest()).as_millis() - self.t;
        let recovered =
            Recovered { records: self.disk.read()?, unreadable: Vec::new(), last: self.disk.last(), checkpoint };
        self.note(|| {
            format!("starts with {} entries, checkpoint: {}", recovered.records.len(), recovered.checkpoint.is_some())
        });
        let saved = recovered.checkpoint.as_ref().and_then(|checkpoint| self.disk.saved_at(checkpoint));
        self.oracle.restarted(self.t, saved);
        self.oracle.well_from(self.t);
        self.failing_told = false;
        self.draining = false;
        let now = self.now();
        let mut out = Vec::new();
        self.machine = Some(Machine::new(Arc::clone(&self.rules), &now, recovered, &mut out));
        self.take_outputs(&mut out)?;
        let says = self.kill_file.then(|| "simulated".to_owned());
        self.hand(Input::KillFile { path: KILL_FILE.into(), says })?;
        for service in 0..self.fleets.len() {
            if self.configured[service] {
                self.targets_up(service)?;
            }
        }
        self.settle()
    }

    pub fn targets_up(&mut self, service: usize) -> Result<(), Broken> {
        for index in 0..self.fleets[service].processes.len() {
            let fleet = &mut self.fleets[service];
            fleet.processes[index].fresh_task = true;
            let address = fleet.address(index);
            for (kind, target, source) in [
                (TargetKind::Scrape, fleet.scrape_target(index), "app"),
                (TargetKind::Probe, fleet.probe_target(index), "health"),
            ] {
                let service = Some(Arc::clone(&self.fleets[service].service));
                let key = TargetKey { service, kind, source: source.into(), address: address.as_str().into() };
                let labels = Labels::from_pairs([("job", source), ("instance", address.as_str())]);
                let interval = secs(5);
                self.hand(Input::Observation(Observation::TargetUp { target, key, labels, interval }))?;
            }
        }
        Ok(())
    }

    pub fn targets_gone(&mut self, service: usize) -> Result<(), Broken> {
        for index in 0..self.fleets[service].processes.len() {
            for target in [self.fleets[service].scrape_target(index), self.fleets[service].probe_target(index)] {
                let at = self.monotonic();
                self.hand(Input::Observation(Observation::TargetGone { target, at }))?;
            }
        }
        Ok(())
    }

    /// The daemon dies. Any prefix of what it had appended is durable.
    fn die(&mut self) -> Result<(), Broken> {
        let waiting = self.disk.pending.len();
        let kept = self.rng.index(waiting + 1);
        self.note(|| format!("dies; of {waiting} turns {kept} are durable"));
        for _ in 0..kept {
            self.tally.fault(Fault::CrashKeepsTurns);
            self.write_turn()?;
        }
        if kept < waiting {
            self.tally.fault(Fault::CrashLosesTurns);
        }
        match self.rng.below(6) {
            0 => {
                self.disk.tear_checkpoint(&mut self.rng);
                self.tally.fault(Fault::CheckpointTorn);
            }
            1 => {
                self.disk.lose_checkpoint();
                self.tally.fault(Fault::CheckpointLost);
            }
            _ => {}
        }
        self.end_life();
        let down = if self.rng.one_in(6) { self.rng.within(0, 200 * SECOND) } else { self.rng.within(0, 15 * SECOND) };
        self.later(down, Event::Start);
        Ok(())
    }

    fn end_life(&mut self) {
        self.tally.crashes += 1;
        self.disk.lose_pending();
        if self.disk.state == State::Fails {
            self.disk.state = State::Writes;
        }
        self.machine = None;
        self.life += 1;
        self.inbox.clear();
        self.awaited.clear();
        self.stale.clear();
        self.glances.clear();
        self.crash_in = None;
        self.crash_at_sync = false;
        self.stopped_until = 0;
        // Its steps die with it, at once or after they have worked.
        for step in std::mem::take(&mut self.steps) {
            if !step.worked && self.rng.one_in(2) {
                self.tally.fault(Fault::StepWorksAfterCrash);
                self.work(step.service, step.script, step.target);
            }
        }
    }

    // The machine.

    fn dead(&self) -> bool {
        self.machine.is_none() || self.crash_in == Some(0)
    }

    pub fn hand(&mut self, input: Input) -> Result<(), Broken> {
        if self.dead() {
            return Ok(());
        }
        self.tally.inputs += 1;
        // Until it hears of it, it takes the disk to be broken.
        let journal_back = input == Input::JournalBack;
        let now = self.now();
        let mut out = std::mem::take(&mut self.out);
        if let Some(machine) = &mut self.machine {
            machine.handle(&now, input, &mut out);
        }
        let result = self.take_outputs(&mut out);
        self.failing_told &= !journal_back;
        out.clear();
        self.out = out;
        result
    }

    fn take_outputs(&mut self, out: &mut Vec<Output>) -> Result<(), Broken> {
        if !out.is_empty() {
            self.ticks_alone = (self.t, 0);
        }
        for output in out.drain(..) {
            if let Some(left) = &mut self.crash_in {
                if *left == 0 {
                    return Ok(());
                }
                *left -= 1;
            }
            self.take_output(output)?;
        }
        Ok(())
    }

    fn take_output(&mut self, output: Output) -> Result<(), Broken> {
        match output {
            Output::Append(records) => {
                let intends = records.iter().any(|record| {
                    matches!(&record.entry, Entry::Incident { event, .. } if matches!(**event, IncidentEvent::StepIntended { .. }))
                });
                let moments = if self.weather == Weather::Chaos { super::moments::of(&records) } else { Vec::new() };
                if self.story.is_some() {
                    for record in &records {
                        let text = format!("{:?}", record.entry);
                        let short: String = text.chars().take(700).collect();
                        self.note(|| format!("  {:>4} {short}", record.seq.0));
                    }
                }
                self.disk.append(records, self.t, &self.rules)?;
                match self.disk.state {
                    State::Writes => {
                        let after = self.rng.within(0, self.sync_ms);
                        self.later(after, Event::Acknowledge { life: self.life });
                    }
                    State::Fails if !self.failing_told => {
                        self.failing_told = true;
                        self.inbox.push_back(Input::JournalFailed("no space left".to_owned()));
                    }
                    State::Fails | State::Stalls => {}
                }
                if intends && self.weather == Weather::Chaos {
                    super::faults::before_a_step(self);
                }
                for moment in moments {
                    super::moments::at(self, &moment);
                }
            }
            Output::RunStep(order) => self.begin_step(*order)?,
            Output::RunCheck(order) => self.check(&order),
            Output::Deliver(order) => self.deliver(&order)?,
            Output::Reply { id, answer } => {
                let due = self.awaited.remove(&id.0);
                if let (Answer::Done { .. }, Some(due)) = (&answer, due)
                    && self.disk.last() < due
                {
                    return Err(format!("command {} was answered before what it caused was durable", id.0));
                }
                if self.stale.remove(&id.0) && matches!(answer, Answer::Done { .. }) {
                    return Err(format!("command {} answers an old question, and counted: {answer:?}", id.0));
                }
                self.note(|| format!("answer: {answer:?}"));
            }
            Output::Log { level: LogLevel::Error, message, .. } if message.contains("without end") => {
                return Err(message);
            }
            Output::Log { .. } => {}
        }
        Ok(())
    }

    /// Everything that follows at this instant.
    pub fn settle(&mut self) -> Result<(), Broken> {
        loop {
            if self.dead() || self.is_stopped() {
                return Ok(());
            }
            if let Some(service) = self.glances.pop() {
                self.look(service, None)?;
                for process in 0..if self.spread { self.fleets[service].processes.len() } else { 0 } {
                    self.look(service, Some(process))?;
                }
            } else if let Some(input) = self.inbox.pop_front() {
                self.ticks_alone = (self.t, 0);
                self.hand(input)?;
            } else if self.deadline().is_some_and(|at| at <= self.t) {
                self.ticks_alone.1 += 1;
                if self.ticks_alone.1 > TICKS_ALONE_MAX && self.t - self.ticks_alone.0 < 2 * SECOND {
                    return Err(format!("{} ticks in a row, and nothing else", self.ticks_alone.1));
                }
                self.hand(Input::Tick)?;
            } else {
                return Ok(());
            }
        }
    }

    fn deadline(&self) -> Option<i64> {
        let at = self.machine.as_ref()?.next_deadline()?;
        Some(at.as_millis().saturating_sub(self.monotonic_offset))
    }

    /// Lets the world go on until then.
    pub fn advance(&mut self, until: i64) -> Result<(), Broken> {
        loop {
            self.settle()?;
            if self.machine.is_some() && self.crash_in == Some(0) {
                self.tally.fault(Fault::CrashAtOutput);
                self.die()?;
            }
            let deadline = if self.is_stopped() { Some(self.stopped_until) } else { self.deadline() };
            let next = self.schedule.peek().map(|scheduled| scheduled.at);
            let next = [Some(until), next, deadline].into_iter().flatten().min().unwrap_or(until);
            if next > self.t {
                self.t = next;
            }
            while self.schedule.peek().is_some_and(|scheduled| scheduled.at <= self.t) {
                let Some(Scheduled { event, .. }) = self.schedule.pop() else { break };
                self.happen(event)?;
                // Whatever comes at the same instant may come after the machine has looked at this.
                if self.machine.is_some() && self.crash_in == Some(0) {
                    break;
                }
            }
            if self.t >= until {
                return self.settle();
            }
        }
    }

    // Length: one arm per kind of event.
    fn happen(&mut self, event: Event) -> Result<(), Broken> {
        match event {
            Event::Look { service, process } => {
                self.later(INTERVAL, Event::Look { service, process });
                self.look(service, process)?;
            }
            Event::References => {
                self.later(INTERVAL, Event::References);
                self.look_at_references()?;
            }
            Event::Acknowledge { life } => self.acknowledge(life)?,
            Event::Effect { step } => {
                if let Some(at) = self.steps.iter().position(|running| running.id == step) {
                    let running = &mut self.steps[at];
                    running.worked = true;
                    let (service, script, target) = (running.service, running.script, running.target);
                    self.worked.insert((running.incident.clone(), running.attempt));
                    if running.reported {
                        self.steps.remove(at);
                    }
                    self.work(service, script, target);
                }
            }
            Event::Report { step, life, outcome } => self.report(step, life, outcome),
            Event::Answer { life, input } => {
                if life == self.life {
                    self.inbox.push_back(*input);
                }
            }
            Event::Deploy { service, process, release } => {
                // Another deployment may have come in between.
                if self.fleets[service].symlink == release {
                    self.fleets[service].restart(process, release, self.t);
                    self.oracle.disturbed(service, self.t);
                    self.oracle.truth(service, &self.fleets[service], self.t);
                }
            }
            Event::Save => {
                let every = self.rng.within(5 * SECOND, 30 * SECOND);
                self.later(every, Event::Save);
                if !self.is_stopped()
                    && let Some(machine) = &self.machine
                {
                    let checkpoint = machine.checkpoint(&self.now());
                    self.disk.save(&checkpoint, self.t)?;
                }
            }
            Event::Respond { incident } => {
                let known = self.oracle.known(&incident);
                if self.weather == Weather::Chaos && known != Known::Waits {
                    people::respond(self, &incident, known)?;
                }
            }
            Event::Again { incident } => {
                if self.weather == Weather::Chaos {
                    super::moments::again(self, &incident);
                }
            }
            Event::KillFileGone => self.kill_file(false)?,
            Event::DrainOver { life } => {
                if life == self.life {
                    while self.disk.state == State::Writes && !self.disk.pending.is_empty() {
                        self.write_turn()?;
                    }
                    self.note(|| "has drained".to_owned());
                    self.end_life();
                    let down = self.rng.within(0, 10 * SECOND);
                    self.later(down, Event::Start);
                }
            }
            Event::Start => {
                if self.machine.is_none() {
                    self.begin_life()?;
                }
            }
        }
        Ok(())
    }

    // The disk.

    fn write_turn(&mut self) -> Result<Option<Turn>, Broken> {
        let Some(turn) = self.disk.write() else { return Ok(None) };
        for record in &turn.records {
            self.tally.records += 1;
            self.coverage.take(record, &mut self.tally);
        }
        self.oracle.durable(&turn, &self.fleets)?;
        Ok(Some(turn))
    }

    fn acknowledge(&mut self, life: u32) -> Result<(), Broken> {
        if life != self.life || self.disk.state != State::Writes {
            return Ok(());
        }
        if self.is_stopped() {
            let after = self.stopped_until - self.t;
            self.later(after, Event::Acknowledge { life });
            return Ok(());
        }
        let Some(turn) = self.write_turn()? else { return Ok(()) };
        if self.crash_at_sync {
            self.tally.fault(Fault::CrashAtSync);
            return self.die();
        }
        if let Some(last) = turn.records.last() {
            self.inbox.push_back(Input::Durable(last.seq));
        }
        Ok(())
    }

    pub fn disk_stalls(&mut self, state: State) {
        if self.disk.state == State::Writes {
            self.note(|| format!("the disk {state:?}"));
            self.disk.state = state;
        }
    }

    pub fn disk_back(&mut self) {
        if self.disk.state == State::Writes {
            return;
        }
        self.note(|| "the disk is back".to_owned());
        self.tally.fault(Fault::DiskBack);
        self.disk.state = State::Writes;
        self.oracle.well_from(self.t);
        for _ in 0..self.disk.pending.len() {
            self.later(0, Event::Acknowledge { life: self.life });
        }
        if self.failing_told {
            self.later(1, Event::Answer { life: self.life, input: Box::new(Input::JournalBack) });
        }
    }

    // Looks.

    fn look(&mut self, service: usize, process: Option<usize>) -> Result<(), Broken> {
        let t = self.t;
        self.oracle.truth(service, &self.fleets[service], t);
        let dark = t < self.dark_until;
        let mono = self.monotonic();
        if self.dead() || self.is_stopped() || self.draining || !self.configured[service] {
            self.oracle.looked(service, false, t);
            return Ok(());
        }
        if self.disk.state != State::Writes {
            self.oracle.well_from(t);
        }
        self.oracle.watch(mono, t)?;
        if let Some(process) = process {
            let complete = self.look_at(service, process, dark)?;
            self.oracle.looked(service, complete, t);
            return Ok(());
        }
        let Some(rules) = self.rules.services.iter().find(|rules| rules.name == self.fleets[service].service) else {
            return Ok(());
        };
        let outside = rules.detectors.iter().position(|detector| detector.kind == DetectorKind::Outside);
        if let Some(detector) = outside {
            let outcome = self.fleets[service].look_outside(t);
            self.oracle.handed_outside(service, outcome.as_deref().ok(), t);
            let name = Arc::clone(&self.fleets[service].service);
            let seen = Observation::Release { service: name, detector, at: mono, outcome };
            self.hand(Input::Observation(seen))?;
        }
        if self.spread {
            return Ok(());
        }
        let mut complete = true;
        for index in 0..self.fleets[service].processes.len() {
            complete &= self.look_at(service, index, dark)?;
        }
        self.oracle.looked(service, complete, t);
        Ok(())
    }

    /// Whether it saw all that there is to see, as it is.
    fn look_at(&mut self, service: usize, index: usize, dark: bool) -> Result<bool, Broken> {
        if self.dead() {
            return Ok(false);
        }
        let (t, mono) = (self.t, self.monotonic());
        let lie = self.fleets[service].processes[index].lie.filter(|(_, until)| t < *until);
        // A service that cannot be reached from here, while the rest of the world can, is down for all that can be known.
        if matches!(lie, Some((Lie::Wrong, _))) || t < self.fleets[service].processes[index].cut_until {
            self.oracle.lied(service, t);
        }
        let probe = self.fleets[service].probe(index, t, mono, dark);
        match &probe {
            Observation::Probed { outcome: ProbeOutcome::Unsent(_), .. } => {
                self.oracle.limits.not_probed(service, index);
            }
            Observation::Probed { outcome, .. } => {
                let failed = matches!(outcome, ProbeOutcome::Failed { .. });
                self.oracle.limits.probed(service, index, failed, t);
            }
            _ => {}
        }
        self.hand(Input::Observation(probe))?;
        if self.weather == Weather::Chaos && self.rng.one_in(500) {
            self.tally.fault(Fault::Overrun);
            let target = self.fleets[service].scrape_target(index);
            self.oracle.looked_at_memory(service, index, None, t);
            self.hand(Input::Observation(Observation::Overrun { target, at: mono }))?;
            return Ok(false);
        }
        let generation = self.rules.generation;
        let scrape = self.fleets[service].scrape(index, t, mono, generation, dark);
        let ok = matches!(&scrape, Observation::Scraped { outcome: Ok(_), .. });
        if ok {
            self.oracle.scraped(service, t);
        }
        let version = (ok && self.fleets[service].asked.version).then(|| self.fleets[service].shown_version(index, t));
        self.oracle.handed_inside(service, index, version, t);
        if self.fleets[service].asked.memory {
            let full = if ok { self.fleets[service].shows_full(index, t) } else { None };
            self.oracle.looked_at_memory(service, index, full, t);
        }
        self.hand(Input::Observation(scrape))?;
        Ok(ok && lie.is_none())
    }

    fn look_at_references(&mut self) -> Result<(), Broken> {
        if self.dead() || self.is_stopped() || self.draining {
            return Ok(());
        }
        for (name, down_until) in self.references.clone() {
            let up = self.t >= self.dark_until && self.t >= down_until;
            let at = self.monotonic();
            self.hand(Input::Observation(Observation::Reference { name: name.into(), at, up }))?;
        }
        Ok(())
    }

    // Steps.

    // Length: one step from its order to what it will do to the world.
    fn begin_step(&mut self, order: StepOrder) -> Result<(), Broken> {
        let Some(service) = self.fleets.iter().position(|fleet| fleet.service == order.service) else {
            return Err(format!("a step for {}, which is not there", order.service));
        };
        let rules = self.rules.services.iter().find(|rules| rules.name == order.service).cloned();
        // Its service may have left the configuration meanwhile; what it ran by then is judged by what it was.
        let rules = rules.unwrap_or_else(crate::support::service);
        self.oracle.step_begins(&order, service, &rules, self.t)?;
        self.tally.steps += 1;
        let usual = self.scripts.get(order.step.name.as_str()).copied().unwrap_or(Script::Nothing);
        let near = self.deadlines.get(&order.incident).map_or(i64::MAX, |deadline| deadline - self.t);
        let is_last_minute = self.weather == Weather::Chaos && near < 30 * SECOND;
        let script = if is_last_minute && self.rng.one_in(2) {
            // It still runs when the time of its incident is over.
            Script::Hangs
        } else if self.weather == Weather::Chaos && self.rng.one_in(2) {
            self.rng.pick(&[
                Script::Fails,
                Script::FailsAndWorks,
                Script::FailsAndWorks,
                Script::HalfWorks,
                Script::Hangs,
                Script::Hangs,
                Script::Ambiguous,
                Script::Ambiguous,
            ])
        } else {
            usual
        };
        let timeout = i64::try_from(order.step.timeout.as_millis()).unwrap_or(SECOND);
        let takes = self.rng.within(0, self.step_ms.max(1)).min(timeout);
        let (ends, works, outcome) = match script {
            Script::Helps | Script::FlagOff => (takes, Some(takes), Outcome::Succeeded),
            Script::Nothing => (takes, None, Outcome::Succeeded),
            Script::Fails => (takes, None, Outcome::Failed),
            Script::FailsAndWorks => (takes, Some(takes + self.rng.within(0, 20 * SECOND)), Outcome::Failed),
            Script::HalfWorks => (timeout, Some(takes), Outcome::TimedOut),
            Script::Hangs => (timeout, None, Outcome::TimedOut),
            Script::Ambiguous => (takes, self.rng.one_in(2).then_some(takes), Outcome::Ambiguous),
        };
        match script {
            Script::Helps | Script::FlagOff => {}
            Script::Nothing => self.tally.fault(Fault::StepChangesNothing),
            Script::Fails => self.tally.fault(Fault::StepFails),
            Script::FailsAndWorks => self.tally.fault(Fault::StepWorksAfterFailure),
            Script::HalfWorks => self.tally.fault(Fault::StepHalfWorks),
            Script::Hangs => self.tally.fault(Fault::StepHangs),
            Script::Ambiguous => self.tally.fault(Fault::StepAmbiguous),
        }
        self.note(|| format!("begins {} {:?} of {}: {script:?}", order.step.name, order.attempt, order.incident));
        self.scheduled += 1;
        let id = self.scheduled;
        let target = order.target.as_ref().and_then(|target| self.fleets[service].release_of(&target.0));
        let (incident, attempt) = (order.incident, order.attempt);
        let life = self.life;
        let started = Input::StepStarted {
            incident: incident.clone(),
            attempt,
            pid: Some(4242),
            process_start: Some("4242".to_owned()),
        };
        let mut told = 1;
        if is_last_minute || (self.weather == Weather::Chaos && self.rng.one_in(6)) {
            let after = if is_last_minute { near.max(0) + SECOND } else { self.rng.within(0, ends.max(1)) };
            told = after.clamp(1, ends.max(1));
            self.tally.fault(Fault::StepStartsLate);
        }
        self.later(told, Event::Answer { life, input: Box::new(started) });
        let name = incident.to_string();
        if let Some(works) = works {
            self.later(works, Event::Effect { step: id });
        }
        self.later(ends.max(1), Event::Report { step: id, life, outcome });
        self.steps.push(RunningStep { id, service, script, incident, attempt, target, worked: false, reported: false });
        if self.weather == Weather::Chaos {
            if self.rng.one_in(12) {
                self.push_command(Command::Abort { incident: name, reason: "simulated".to_owned() });
            }
            super::faults::during_a_step(self, service);
        }
        Ok(())
    }

    /// A question about the world, which changes nothing in it. About a step it is answered as things are.
    fn check(&mut self, order: &CheckOrder) {
        let Some(place) = self.fleets.iter().position(|fleet| fleet.service == order.service) else { return };
        let fleet = &self.fleets[place];
        let worked = match (order.check.name.as_str(), &order.incident, order.attempt) {
            (setup::TOOK_EFFECT, Some(incident), Some(attempt)) => self.worked.contains(&(incident.clone(), attempt)),
            (setup::SCHEMA, _, _) => fleet.blocked.is_none(),
            (setup::IMAGE, _, _) => fleet.image_gone.is_none(),
            (_, _, _) => {
                let mut well = true;
                fleet.failing(self.t, |_, _| well = false);
                well
            }
        };
        let is_lost = self.weather == Weather::Chaos && self.rng.one_in(4);
        let outcome = if is_lost {
            self.tally.fault(Fault::CheckUnanswered);
            CheckOutcome::Unknown("no answer in time".to_owned())
        } else if worked {
            CheckOutcome::Passed
        } else {
            CheckOutcome::Failed("it is as it was".to_owned())
        };
        if let (Some(incident), Some(attempt), CheckOutcome::Failed(_)) = (&order.incident, order.attempt, &outcome) {
            self.oracle.known_not_to_have_worked(incident, attempt);
        }
        self.note(|| format!("check {} of {:?}: {outcome:?}", order.check.name, order.attempt));
        let timeout = i64::try_from(order.check.timeout.as_millis()).unwrap_or(SECOND);
        let after = if is_lost { timeout } else { self.rng.within(0, timeout.min(2 * SECOND)) };
        let input = Box::new(Input::Checked { id: order.id, outcome });
        self.later(after, Event::Answer { life: self.life, input });
    }

    fn report(&mut self, step: u64, life: u32, outcome: Outcome) {
        if life != self.life {
            return;
        }
        let Some(at) = self.steps.iter().position(|running| running.id == step) else { return };
        let running = &self.steps[at];
        let (service, incident, attempt) = (running.service, running.incident.clone(), running.attempt);
        self.oracle.step_ends(service, &incident, attempt);
        if outcome == Outcome::Failed {
            self.oracle.known_not_to_have_worked(&incident, attempt);
        }
        self.note(|| format!("{attempt:?} of {incident} ends: {outcome:?}"));
        // One that works later is still waited for by the world, though by nobody else.
        if self.steps[at].worked || self.steps[at].script != Script::FailsAndWorks {
            self.steps.remove(at);
        } else {
            self.steps[at].reported = true;
        }
        let result = StepResult {
            outcome,
            detail: "as scripted".to_owned(),
            output: String::new(),
            truncated: false,
            captures: BTreeMap::new(),
            duration_ms: 3000,
        };
        let id = incident.clone();
        self.inbox.push_back(Input::StepFinished { incident, attempt, result });
        // Somebody acts at the very moment, before backstop has drawn its conclusions.
        if self.weather == Weather::Chaos && self.rng.one_in(8) {
            let command = if self.rng.one_in(2) {
                Command::Acknowledge { incident: id.to_string(), reason: String::new() }
            } else {
                Command::Abort { incident: id.to_string(), reason: "simulated".to_owned() }
            };
            self.push_command(command);
        }
    }

    /// Somebody asks for it, and it is read before backstop has drawn any conclusion.
    pub fn push_command(&mut self, command: Command) {
        self.note(|| format!("{command:?}"));
        self.commands += 1;
        let actor = Actor { name: "bob".to_owned(), via: "api".to_owned() };
        self.inbox.push_back(Input::Command { id: CommandId(self.commands), actor, command });
    }

    /// The service is looked at, and that is read before backstop has drawn any conclusion.
    pub fn glance(&mut self, service: usize) {
        self.glances.push(service);
    }

    /// A file that is a kill switch is there, or gone.
    /// Is it deployed in a freeze?
    pub fn is_frozen(&self, service: usize) -> bool {
        let rules = self.rules.services.iter().find(|rules| rules.name == self.fleets[service].service);
        rules.is_some_and(|rules| super::limits::is_frozen(&self.rules, rules, self.now().wall))
    }

    pub fn kill_file(&mut self, there: bool) -> Result<(), Broken> {
        if self.kill_file == there {
            return Ok(());
        }
        self.turn_kill_file(there);
        if self.is_stopped() || self.draining { Ok(()) } else { self.settle() }
    }

    fn turn_kill_file(&mut self, there: bool) {
        self.kill_file = there;
        self.tally.fault(if there { Fault::KillFileThere } else { Fault::KillFileGone });
        self.note(|| format!("the kill file is there: {there}"));
        if self.machine.is_some() {
            let says = there.then(|| "simulated".to_owned());
            self.inbox.push_back(Input::KillFile { path: KILL_FILE.into(), says });
        }
    }

    pub fn respond_later(&mut self, after: i64, incident: &IncidentId) {
        self.later(after, Event::Respond { incident: incident.clone() });
    }

    pub fn again_later(&mut self, after: i64, incident: &IncidentId) {
        self.later(after, Event::Again { incident: incident.clone() });
    }

    /// The file appears, and is removed at that time.
    pub fn kill_file_until(&mut self, until: i64) {
        if !self.kill_file {
            self.turn_kill_file(true);
            self.later((until - self.t).max(1), Event::KillFileGone);
        }
    }

    /// What a step does, whether or not anybody is left to hear of it.
    fn work(&mut self, service: usize, script: Script, target: Option<ReleaseNo>) {
        match (script, target) {
            (Script::Helps | Script::FailsAndWorks | Script::Ambiguous, Some(target)) => {
                self.install(service, target, 0);
            }
            (Script::HalfWorks, Some(target)) => {
                self.fleets[service].symlink = target;
                if self.fleets[service].processes.len() > 1 {
                    self.fleets[service].restart(0, target, self.t);
                }
            }
            (Script::FlagOff, _) => {
                self.fleets[service].count_all(self.t);
                self.fleets[service].flag_off = true;
            }
            (
                Script::Helps
                | Script::FailsAndWorks
                | Script::Ambiguous
                | Script::HalfWorks
                | Script::Nothing
                | Script::Fails
                | Script::Hangs,
                _,
            ) => {}
        }
        self.oracle.truth(service, &self.fleets[service], self.t);
    }

    /// Puts a release into place: the symlink at once, the processes one after the other, `pace` apart.
    pub fn install(&mut self, service: usize, release: ReleaseNo, pace: i64) {
        let t = self.t;
        self.note(|| format!("service {service} gets r{}", release + 1));
        self.oracle.truth(service, &self.fleets[service], t);
        let fleet = &mut self.fleets[service];
        fleet.symlink = release;
        let processes = fleet.processes.len();
        for process in 0..processes {
            let after = pace * i64::try_from(process).unwrap_or(0);
            if after == 0 {
                self.fleets[service].restart(process, release, t);
            } else {
                self.later(after, Event::Deploy { service, process, release });
            }
        }
        self.oracle.deployed(service, release, t);
    }

    // Receivers and people.

    fn deliver(&mut self, order: &DeliveryOrder) -> Result<(), Broken> {
        let name = order.receiver.to_string();
        let manner = self.receivers.get(&name).copied().unwrap_or(Manner::Takes);
        let retry =
            |rng: &mut Rng, why: &str| DeliveryOutcome::Retry { after: secs(1 + rng.below(30)), why: why.to_owned() };
        let (reaches, outcome, after) = match manner {
            Manner::Takes => (true, DeliveryOutcome::Delivered, self.rng.within(0, 50)),
            Manner::Slow => (true, DeliveryOutcome::Delivered, self.rng.within(SECOND, 9 * SECOND)),
            Manner::Mute => (true, retry(&mut self.rng, "no answer in time"), 10 * SECOND),
            Manner::Refuses => (false, retry(&mut self.rng, "HTTP 503"), self.rng.within(0, 50)),
            Manner::Redirects => (false, retry(&mut self.rng, "HTTP 302"), self.rng.within(0, 50)),
            Manner::Gone => (false, DeliveryOutcome::Dead { why: "HTTP 410 Gone".to_owned() }, 10),
        };
        match manner {
            Manner::Takes => {}
            Manner::Slow => self.tally.fault(Fault::ReceiverSlow),
            Manner::Mute => self.tally.fault(Fault::AnswerLost),
            Manner::Refuses => self.tally.fault(Fault::ReceiverDown),
            Manner::Redirects => self.tally.fault(Fault::ReceiverRedirects),
            Manner::Gone => self.tally.fault(Fault::ReceiverGone),
        }
        if reaches {
            self.tally.notices += 1;
            self.oracle.delivered(&name, &order.notice, self.failing_told)?;
            self.note(|| format!("{name} has {:?}: {}", order.notice.kind, order.notice.text));
        }
        let (receiver, notice) = (Arc::clone(&order.receiver), order.notice.id.clone());
        let input = Box::new(Input::Delivery { receiver, notice, outcome });
        self.later(after, Event::Answer { life: self.life, input });
        Ok(())
    }

    /// An answer to a question that is not asked any more.
    pub fn command_stale(&mut self, actor: Actor, command: Command) -> Result<(), Broken> {
        self.stale.insert(self.commands + 1);
        let before = self.commands;
        let result = self.command_by(actor, command);
        if self.commands == before {
            self.stale.remove(&(before + 1));
        }
        result
    }

    pub fn command(&mut self, command: Command) -> Result<(), Broken> {
        self.command_by(Actor { name: "ada".to_owned(), via: "cli".to_owned() }, command)
    }

    pub fn command_by(&mut self, actor: Actor, command: Command) -> Result<(), Broken> {
        if self.dead() || self.is_stopped() {
            return Ok(());
        }
        self.note(|| format!("{}: {command:?}", actor.name));
        self.commands += 1;
        let id = self.commands;
        self.hand(Input::Command { id: CommandId(id), actor, command })?;
        if !self.dead() {
            self.awaited.insert(id, self.disk.appended);
        }
        Ok(())
    }

    pub fn reload(&mut self, mut rules: Rules) -> Result<(), Broken> {
        if self.dead() || self.is_stopped() || self.draining {
            return Ok(());
        }
        rules.generation = self.rules.generation + 1;
        rules.hash = format!("{:012x}", rules.generation).into();
        self.note(|| format!("reload to generation {}", rules.generation));
        self.oracle.reloaded(self.t);
        self.rules = Arc::new(rules);
        self.hand(Input::Reload(Arc::clone(&self.rules)))?;
        for service in 0..self.fleets.len() {
            let name = &self.fleets[service].service;
            let here = self.rules.services.iter().any(|rules| rules.name == *name);
            match (self.configured[service], here) {
                (false, true) => self.targets_up(service)?,
                (true, false) => self.targets_gone(service)?,
                (true, true) => self.fleets[service].processes.iter_mut().for_each(|process| process.fresh_task = true),
                (false, false) => {}
            }
            self.configured[service] = here;
        }
        Ok(())
    }

    pub fn drain(&mut self) -> Result<(), Broken> {
        if self.dead() || self.is_stopped() || self.draining {
            return Ok(());
        }
        self.draining = true;
        self.note(|| "is told to stop".to_owned());
        self.hand(Input::Draining)?;
        let after = if self.steps.iter().all(|step| step.reported) {
            self.rng.within(0, 200)
        } else {
            self.rng.within(0, DRAIN_MS)
        };
        self.later(after, Event::DrainOver { life: self.life });
        Ok(())
    }

    pub fn go_dark(&mut self, until: i64) {
        self.note(|| format!("the network is gone until {}", until / 1000));
        self.dark_until = until;
        self.oracle.dark(self.t, until);
    }

    /// The clock on the wall is set while backstop runs.
    pub fn jump(&mut self, millis: i64) {
        self.wall_offset += millis;
        if millis.abs() > 5 * SECOND && !self.dead() && !self.is_stopped() {
            self.oracle.limits.jumped(self.t);
        }
    }

    pub fn stop_for(&mut self, millis: i64) {
        if !self.dead() {
            // Stopped for longer already, it stays so.
            self.stopped_until = self.stopped_until.max(self.t + millis);
            self.oracle.well_from(self.stopped_until);
            if millis > 30 * SECOND {
                self.oracle.limits.jumped(self.stopped_until - 1);
            }
            self.note(|| format!("is stopped for {millis} ms"));
        }
    }

    /// As an operator who looks: must never fail.
    pub fn look_at_status(&self) {
        if let Some(machine) = &self.machine {
            drop(machine.snapshot(&self.now()));
        }
    }

    pub fn status(&self) -> String {
        use std::fmt::Write as _;
        let Some(machine) = &self.machine else { return "down\n".to_owned() };
        let snapshot = machine.snapshot(&self.now());
        let mut text = String::new();
        for service in snapshot.services {
            let _ = writeln!(
                text,
                "{} runs {:?}, way back {:?}, releases {:?}",
                service.name, service.running, service.way_back, service.releases
            );
            for trigger in service.triggers {
                let (name, verdict, held) = (trigger.name, trigger.verdict, trigger.held);
                let _ = writeln!(text, "  {name}: {verdict}, {} held {held:?}: {}", trigger.finding, trigger.sentence);
            }
        }
        for incident in snapshot.incidents {
            let _ = writeln!(text, "{}: {}: {}", incident.id, incident.state, incident.sentence);
        }
        text
    }

    pub fn heal(&mut self) {
        self.note(|| "the world heals".to_owned());
        self.weather = Weather::Calm;
        if self.is_stopped() {
            // It goes on at once, and so does its disk.
            self.stopped_until = self.t;
            self.oracle.limits.woken(self.t);
            for _ in 0..self.disk.pending.len() {
                self.later(0, Event::Acknowledge { life: self.life });
            }
        }
        self.oracle.calm_from(self.t);
        // What has happened has happened: a death that has begun is not taken back.
        self.crash_in = self.crash_in.filter(|left| *left == 0);
        self.crash_at_sync = false;
        self.disk_back();
        self.go_dark(self.t);
        for service in 0..self.fleets.len() {
            self.fleets[service].count_all(self.t);
            self.fleets[service].heal();
        }
        self.receivers.values_mut().for_each(|manner| *manner = Manner::Takes);
        self.references.values_mut().for_each(|down| *down = 0);
        if self.machine.is_none() {
            self.later(0, Event::Start);
        }
        self.oracle.well_from(self.t);
    }
}

struct Seconds(i64);

impl std::fmt::Display for Seconds {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(&format!("{}.{:03}", self.0 / 1000, self.0 % 1000))
    }
}
