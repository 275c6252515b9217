//! A small world around the real machine: a service with its processes, a disk, steps that do something, receivers, and
//! a clock that only the test moves.
//!
//! Length: one world; its parts know each other.
#![allow(dead_code, reason = "two test crates share it and neither uses all of it")]

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use backstop::decide::event::{
    Action, Actor, Autonomy, CheckOutcome, Entry, Gate, IncidentEvent, Level, Notice, NoticeKind, OnFailure, Outcome,
    Record, Severity, Step, StepResult, Verify,
};
use backstop::decide::rules::{
    Detector, DetectorKind, FireWhen, GuardRules, OnUnknown, Question, ReceiverRules, Rules, ServiceRules, Trigger,
    Unit, ValueKind,
};
use backstop::machine::checkpoint::Checkpoint;
use backstop::machine::input::{
    Answer, Command, CommandId, DeliveryOutcome, Input, Observation, ProbeOutcome, Scrape, ScrapeFailure, TargetKey,
    TargetKind,
};
use backstop::machine::output::{CheckOrder, LogLevel, Output, StepOrder};
use backstop::machine::snapshot::{IncidentView, ServiceView, Snapshot};
use backstop::machine::{Machine, Recovered, Unreadable};
use backstop::promql::{Batch, Comparison, Expr, Labels, LocalId, Selector, TargetId};
use backstop::time::{BootId, Now, Timestamp};

pub const SECOND: i64 = 1000;
pub const MINUTE: i64 = 60 * SECOND;
/// Of every scrape, probe and detector.
pub const INTERVAL: i64 = 5 * SECOND;
const INTERVAL_D: Duration = Duration::from_secs(5);
const WALL_OFFSET: i64 = 1_790_000_000_000;
/// More ticks than this at one instant are a busy loop.
const TICKS_PER_INSTANT_MAX: u32 = 40;

pub fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn selector(text: &str) -> Selector {
    Selector::parse(text).expect("a selector of the test")
}

pub fn trigger(name: &str, kind: ValueKind, expr: Expr, comparison: Comparison, threshold: f64, hold: u64) -> Trigger {
    Trigger {
        name: name.into(),
        question: Question::Value { kind, expr: Arc::new(expr), comparison, threshold, unit: Unit::Number },
        hold: secs(hold),
        severity: Severity::High,
        gate: Gate::Release,
        autonomy: None,
        start_level: 0,
        fire_when: FireWhen::Any,
        on_unknown: OnUnknown::Pause,
        gap_tolerance: INTERVAL_D * 2,
        interval: INTERVAL_D,
    }
}

/// More than 15 % of the requests of the last 30 s fail, for `hold` seconds.
pub fn error_rate(hold: u64) -> Trigger {
    let expr = Expr::ratio(
        selector(r#"http_requests_total{status=~"5.."}"#),
        selector("http_requests_total"),
        secs(30),
        20.0,
        secs(60),
    );
    trigger("error-rate", ValueKind::Ratio, expr, Comparison::Above, 0.15, hold)
}

/// Three failed probes in a row.
pub fn down() -> Trigger {
    let expr = Expr::streak(selector(r#"probe_success{job="health"}"#), 3, 3);
    trigger("down", ValueKind::Health, expr, Comparison::AtLeast, 3.0, 0)
}

/// The slowest hundredth of the requests of the last 30 s takes more than `above` seconds.
pub fn slow(above: f64) -> Trigger {
    let expr = Expr::quantile(selector("seconds"), 0.99, secs(30), 20.0).expect("a histogram of the test");
    trigger("slow", ValueKind::Quantile, expr, Comparison::Above, above, 0)
}

pub fn signal(name: &str, gate: Gate) -> Trigger {
    let expr = Expr::parse("1").expect("a number");
    let mut trigger = trigger(name, ValueKind::Expr, expr, Comparison::Above, 0.0, 0);
    trigger.question = Question::Signal { name: name.into() };
    trigger.gate = gate;
    trigger
}

pub fn step(name: &str) -> Step {
    Step {
        name: name.to_owned(),
        action: Action::Command {
            argv: vec![name.to_owned()],
            env: BTreeMap::new(),
            inherit: Vec::new(),
            directory: None,
        },
        timeout: secs(60),
        idempotent: false,
        on_failure: OnFailure::Climb,
        retry: None,
        check: None,
    }
}

pub fn level(name: &str, steps: Vec<Step>) -> Level {
    let verify = Verify {
        within: secs(60),
        soak: secs(20),
        probes: Vec::new(),
        checks: Vec::new(),
        still_wrong: Vec::new(),
        serves_target: false,
    };
    Level { name: name.to_owned(), steps, verify, autonomy: None, deadline: None, undo: Vec::new() }
}

pub fn symlink() -> Detector {
    Detector { describe: "symlink current".into(), kind: DetectorKind::Outside, interval: INTERVAL_D }
}

pub fn version_metric() -> Detector {
    let kind = DetectorKind::Metric { selector: selector("app_build_info"), label: "version".into() };
    Detector { describe: "metric app_build_info".into(), kind, interval: INTERVAL_D }
}

/// `api`: rolls back by one level, by itself.
pub fn service() -> ServiceRules {
    ServiceRules {
        name: "api".into(),
        autonomy: Autonomy::Act,
        notify: vec!["oncall".into()],
        labels: Vec::new(),
        startup: secs(10),
        detectors: vec![symlink(), version_metric()],
        triggers: vec![error_rate(30), down()],
        criteria: Vec::new(),
        guard: GuardRules {
            release_window: secs(3600),
            good_after: secs(300),
            cooldown: secs(3600),
            budget: None,
            references: Vec::new(),
            worsened_by: 2.0,
            dependencies: Vec::new(),
            freeze: Vec::new(),
            blockers: Vec::new(),
            ready: Vec::new(),
            ready_every: secs(300),
        },
        ladder: vec![level("previous release", vec![step("rollback")])],
        remind_every: secs(600),
        respond_within: secs(900),
        severities: std::collections::BTreeMap::new(),
        hold_max: secs(3600),
        rto: None,
    }
}

pub fn receiver(name: &str, fallback: Option<&str>) -> ReceiverRules {
    ReceiverRules {
        name: name.into(),
        fallback: fallback.map(Into::into),
        fallback_after: secs(300),
        give_up_after: secs(86_400),
    }
}

pub fn rules(services: Vec<ServiceRules>) -> Rules {
    Rules {
        generation: 1,
        hash: "0123456789ab".into(),
        instance: "test".into(),
        budget: None,
        breaching_share_max: None,
        heartbeat: None,
        freeze: Vec::new(),
        services,
        receivers: vec![receiver("oncall", Some("second")), receiver("second", None)],
    }
}

/// What a release does to requests.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Behaviour {
    /// Share of requests that fail.
    pub errors: f64,
    /// It dies at once.
    pub crashes: bool,
}

impl Behaviour {
    pub const GOOD: Behaviour = Behaviour { errors: 0.0, crashes: false };
    pub const BROKEN: Behaviour = Behaviour { errors: 0.5, crashes: false };
    pub const CRASHES: Behaviour = Behaviour { errors: 0.0, crashes: true };
}

/// One process of the service.
#[derive(Clone, Debug)]
pub struct Process {
    pub release: String,
    /// Answers from then on.
    pub up_from: i64,
    started: i64,
    counted_until: i64,
    ok: f64,
    bad: f64,
    /// Series that the scraping task has announced.
    known: Vec<Labels>,
    fresh_task: bool,
    /// Neither scrapes nor probes get through.
    pub cut_until: i64,
    /// Scrapes fail, probes do not.
    pub gap_until: i64,
}

/// The service as it really is.
#[derive(Clone, Debug)]
pub struct Fleet {
    pub symlink: String,
    pub processes: Vec<Process>,
    pub behaviours: BTreeMap<String, Behaviour>,
    /// Requests per second and process.
    pub rate: f64,
    /// Errors whatever release runs.
    pub errors_anyway: f64,
    /// A feature flag that hides the errors of a release.
    pub flag_off: bool,
    pub symlink_readable: bool,
    /// How long a process takes to start.
    pub boot_ms: i64,
    /// Bounds of the histogram `seconds`; every request is in its first bucket.
    pub buckets: &'static [&'static str],
}

impl Fleet {
    pub fn behaviour(&self, release: &str) -> Behaviour {
        self.behaviours.get(release).copied().unwrap_or(Behaviour::GOOD)
    }

    pub fn deploy(&mut self, release: &str, now: i64) {
        release.clone_into(&mut self.symlink);
        for index in 0..self.processes.len() {
            self.restart(index, release, now);
        }
    }

    pub fn restart(&mut self, index: usize, release: &str, now: i64) {
        let boot = self.boot_ms;
        let process = &mut self.processes[index];
        *process = Process {
            release: release.to_owned(),
            up_from: now + boot,
            started: now,
            counted_until: now + boot,
            ok: 0.0,
            bad: 0.0,
            known: std::mem::take(&mut process.known),
            fresh_task: process.fresh_task,
            cut_until: process.cut_until,
            gap_until: process.gap_until,
        };
    }

    fn is_up(&self, index: usize, now: i64) -> bool {
        let process = &self.processes[index];
        now >= process.up_from && !self.behaviour(&process.release).crashes
    }

    fn count(&mut self, index: usize, now: i64) {
        let behaviour = self.behaviour(&self.processes[index].release);
        let own = if self.flag_off { 0.0 } else { behaviour.errors };
        let errors = own.max(self.errors_anyway);
        let rate = self.rate;
        let process = &mut self.processes[index];
        #[allow(clippy::cast_precision_loss, reason = "seconds of a test")]
        let seconds = (now - process.counted_until).max(0) as f64 / 1000.0;
        process.counted_until = process.counted_until.max(now);
        process.ok += seconds * rate * (1.0 - errors);
        process.bad += seconds * rate * errors;
    }

    fn scrape(&mut self, index: usize, now: i64) -> Observation {
        let at = Timestamp::from_millis(now);
        let target = scrape_target(index);
        let duration = Duration::from_millis(5);
        self.count(index, now);
        let is_up = self.is_up(index, now);
        let errors = self.behaviour(&self.processes[index].release).errors.max(self.errors_anyway);
        let process = &mut self.processes[index];
        let failed = |reason, detail: &str| Observation::Scraped {
            target,
            at,
            duration,
            outcome: Err(ScrapeFailure { reason, detail: detail.to_owned() }),
        };
        if now < process.cut_until || now < process.gap_until {
            return failed("timeout", "no answer in time");
        }
        if !is_up {
            return failed("refused", "connection refused");
        }
        let instance = format!("10.0.0.{index}:8080");
        let own = [("job", "app".to_owned()), ("instance", instance)];
        let with = |name: &str, more: &[(&str, &str)]| {
            let more = more.iter().map(|(name, value)| (*name, (*value).to_owned()));
            Labels::from_pairs([("__name__", name.to_owned())].into_iter().chain(own.clone()).chain(more))
        };
        let version = format!("{}-bin", process.release);
        let mut shown = vec![(with("app_build_info", &[("version", &version)]), 1.0)];
        shown.push((with("app_errors", &[("version", &version)]), errors));
        shown.push((with("http_requests_total", &[("status", "200")]), process.ok.floor()));
        if process.bad >= 1.0 {
            shown.push((with("http_requests_total", &[("status", "500")]), process.bad.floor()));
        }
        let bucket = |le: &&str| (with("seconds_bucket", &[("le", le)]), process.ok.floor());
        shown.extend(self.buckets.iter().map(bucket));
        let mut batch = Batch { rebind: process.fresh_task, ..Batch::default() };
        #[allow(clippy::cast_precision_loss, reason = "milliseconds of a test")]
        {
            batch.process_start = Some(process.started as f64);
        }
        if std::mem::take(&mut process.fresh_task) {
            process.known.clear();
        }
        for (labels, value) in &shown {
            let place = process.known.iter().position(|known| known == labels).unwrap_or_else(|| {
                process.known.push(labels.clone());
                process.known.len() - 1
            });
            let local = LocalId(u32::try_from(place).expect("a few series"));
            batch.samples.push((local, *value));
            batch.born.push((local, labels.clone()));
        }
        batch.vanished = (0..process.known.len())
            .filter(|place| !shown.iter().any(|(labels, _)| *labels == process.known[*place]))
            .map(|place| LocalId(u32::try_from(place).expect("a few series")))
            .collect();
        let scrape = Scrape { generation: 1, samples_exposed: 100, body_bytes: 4096, batch };
        Observation::Scraped { target, at, duration, outcome: Ok(scrape) }
    }

    fn probe(&self, index: usize, now: i64) -> Observation {
        let at = Timestamp::from_millis(now);
        let outcome = if now < self.processes[index].cut_until {
            ProbeOutcome::Failed { status: None, why: "no answer in time".to_owned(), reached: false, release: None }
        } else if self.is_up(index, now) {
            ProbeOutcome::Up { status: Some(200), release: None }
        } else {
            ProbeOutcome::Failed { status: None, why: "connection refused".to_owned(), reached: true, release: None }
        };
        Observation::Probed { target: probe_target(index), at, duration: Duration::from_millis(3), outcome }
    }
}

fn scrape_target(index: usize) -> TargetId {
    TargetId(u32::try_from(index).expect("a few processes"))
}

fn probe_target(index: usize) -> TargetId {
    TargetId(100 + u32::try_from(index).expect("a few processes"))
}

/// What a step does to the world, and how it ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Script {
    /// Installs the way back.
    Helps,
    /// Ends well and changes nothing.
    Nothing,
    Fails,
    /// Flips the symlink, restarts nothing, and reaches its deadline.
    HalfWorks,
    FlagOff,
    /// Fails before that try, then installs the way back.
    HelpsAtTry(u32),
    /// Installs the bad release again.
    BringsBack,
}

#[derive(Clone, Debug)]
pub struct RunningStep {
    pub order: StepOrder,
    pub script: Script,
    pub ends: i64,
}

/// What could be seen from outside.
#[derive(Clone, Debug)]
pub enum Seen {
    StepBegan { at: i64, order: Box<StepOrder>, symlink: String, intent_on_disk: bool },
    StepEnded { at: i64, order: Box<StepOrder>, outcome: Outcome },
    Delivered { at: i64, receiver: String, notice: Box<Notice>, outdated: bool },
    Crashed { at: i64 },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Disk {
    Writes,
    /// Appends neither succeed nor fail.
    Stalls,
    /// Appends fail; they are tried again when it is back.
    Fails,
}

pub struct World {
    pub rules: Arc<Rules>,
    pub machine: Option<Machine>,
    pub now: i64,
    /// The wall clock's lead on the monotonic one; a test makes it jump.
    pub wall_offset: i64,
    /// How often the machine has booted anew.
    pub boots: u32,
    /// What is durable.
    pub disk: Vec<Record>,
    pub unacknowledged: VecDeque<Vec<Record>>,
    pub disk_state: Disk,
    pub fleet: Fleet,
    pub steps: Vec<RunningStep>,
    /// By the step's name.
    pub scripts: BTreeMap<String, Script>,
    pub step_ms: i64,
    /// By the check's name; one that is not scripted passes.
    pub check_answers: BTreeMap<String, CheckOutcome>,
    pub check_ms: i64,
    /// With the instants of their ends.
    pub checks: Vec<(i64, CheckOrder)>,
    /// Every question that was asked, with its instant.
    pub checks_asked: Vec<(i64, CheckOrder)>,
    pub receivers_up: BTreeMap<String, bool>,
    pub seen: Vec<Seen>,
    pub answers: Vec<(CommandId, Answer)>,
    /// Lines of the log that warn.
    pub warnings: Vec<String>,
    /// Newest last.
    pub checkpoints: Vec<Checkpoint>,
    /// Entries that this version cannot read.
    pub unreadable: Vec<Unreadable>,
    /// After so many more outputs the daemon dies.
    pub crash_in: Option<u32>,
    inbox: VecDeque<Input>,
    commands: u64,
    next_looks: i64,
    ticks: (i64, u32),
}

pub fn world(change: impl FnOnce(&mut ServiceRules)) -> World {
    let mut service = service();
    change(&mut service);
    World::new(rules(vec![service]), 1)
}

impl World {
    pub fn new(rules: Rules, processes: usize) -> World {
        let process = Process {
            release: "r1".to_owned(),
            up_from: 0,
            started: 0,
            counted_until: 0,
            ok: 0.0,
            bad: 0.0,
            known: Vec::new(),
            fresh_task: true,
            cut_until: 0,
            gap_until: 0,
        };
        let mut world = World {
            rules: Arc::new(rules),
            machine: None,
            now: MINUTE,
            wall_offset: WALL_OFFSET,
            boots: 0,
            disk: Vec::new(),
            unacknowledged: VecDeque::new(),
            disk_state: Disk::Writes,
            fleet: Fleet {
                symlink: "r1".to_owned(),
                processes: vec![process; processes],
                behaviours: BTreeMap::new(),
                rate: 20.0,
                errors_anyway: 0.0,
                flag_off: false,
                symlink_readable: true,
                boot_ms: 2 * SECOND,
                buckets: &[],
            },
            steps: Vec::new(),
            scripts: BTreeMap::new(),
            step_ms: 3 * SECOND,
            check_answers: BTreeMap::new(),
            check_ms: SECOND,
            checks: Vec::new(),
            checks_asked: Vec::new(),
            receivers_up: BTreeMap::new(),
            seen: Vec::new(),
            answers: Vec::new(),
            warnings: Vec::new(),
            checkpoints: Vec::new(),
            unreadable: Vec::new(),
            crash_in: None,
            inbox: VecDeque::new(),
            commands: 0,
            next_looks: MINUTE,
            ticks: (0, 0),
        };
        world.start();
        world
    }

    pub fn time(&self) -> Now {
        Now {
            monotonic: Timestamp::from_millis(self.now),
            wall: Timestamp::from_millis(self.now + self.wall_offset),
            boot: BootId(format!("boot{}", self.boots).into()),
            since_boot: Duration::from_millis(u64::try_from(self.now).unwrap_or_default()),
        }
    }

    /// A daemon takes up what is on the disk, with the newest checkpoint.
    pub fn start(&mut self) {
        let recovered = Recovered {
            records: self.disk.clone(),
            unreadable: self.unreadable.clone(),
            last: self
                .disk
                .last()
                .map(|record| record.seq)
                .max(self.unreadable.last().map(|entry| entry.seq))
                .unwrap_or_default(),
            checkpoint: self.checkpoints.last().cloned(),
        };
        let mut out = Vec::new();
        let now = self.time();
        self.machine = Some(Machine::new(Arc::clone(&self.rules), &now, recovered, &mut out));
        self.take_outputs(out);
        for index in 0..self.fleet.processes.len() {
            self.fleet.processes[index].fresh_task = true;
            for (kind, target, source) in
                [(TargetKind::Scrape, scrape_target(index), "app"), (TargetKind::Probe, probe_target(index), "health")]
            {
                let instance = format!("10.0.0.{index}:8080");
                let key = TargetKey {
                    service: Some("api".into()),
                    kind,
                    source: source.into(),
                    address: instance.as_str().into(),
                };
                let labels = Labels::from_pairs([("job", source), ("instance", instance.as_str())]);
                self.input(Input::Observation(Observation::TargetUp { target, key, labels, interval: INTERVAL_D }));
            }
        }
        self.next_looks = self.now;
        self.settle();
    }

    /// The daemon dies. Of what it had appended the first `kept` transactions reached the disk.
    pub fn crash(&mut self, kept: usize) {
        for records in self.unacknowledged.drain(..).take(kept) {
            self.disk.extend(records);
        }
        self.unacknowledged.clear();
        self.machine = None;
        self.inbox.clear();
        self.crash_in = None;
        self.seen.push(Seen::Crashed { at: self.now });
    }

    pub fn restart(&mut self) {
        self.crash(usize::MAX);
        self.steps.clear();
        self.checks.clear();
        self.start();
    }

    pub fn checkpoint(&mut self) {
        let now = self.time();
        if let Some(machine) = &self.machine {
            self.checkpoints.push(machine.checkpoint(&now).copy());
        }
    }

    pub fn input(&mut self, input: Input) {
        let now = self.time();
        let mut out = Vec::new();
        if let Some(machine) = &mut self.machine {
            machine.handle(&now, input, &mut out);
        }
        self.take_outputs(out);
    }

    fn take_outputs(&mut self, out: Vec<Output>) {
        for output in out {
            if self.crash_in == Some(0) {
                return;
            }
            if let Some(left) = &mut self.crash_in {
                *left -= 1;
            }
            self.take_output(output);
        }
    }

    fn take_output(&mut self, output: Output) {
        match output {
            Output::Append(records) => {
                self.unacknowledged.push_back(records);
                if self.disk_state == Disk::Fails {
                    self.inbox.push_back(Input::JournalFailed("no space left".to_owned()));
                }
            }
            Output::RunStep(order) => self.begin_step(*order),
            Output::RunCheck(order) => {
                self.checks_asked.push((self.now, (*order).clone()));
                self.checks.push((self.now + self.check_ms, *order));
            }
            Output::Deliver(order) => {
                let receiver = order.receiver.to_string();
                let up = self.receivers_up.get(&receiver).copied().unwrap_or(true);
                let outcome = if up {
                    DeliveryOutcome::Delivered
                } else {
                    DeliveryOutcome::Retry { after: secs(7), why: "HTTP 503".to_owned() }
                };
                if up {
                    self.seen.push(Seen::Delivered {
                        at: self.now,
                        receiver,
                        notice: Box::new(order.notice.clone()),
                        outdated: order.outdated,
                    });
                }
                self.inbox.push_back(Input::Delivery {
                    receiver: order.receiver.clone(),
                    notice: order.notice.id,
                    outcome,
                });
            }
            Output::Reply { id, answer } => self.answers.push((id, answer)),
            Output::Log { level: LogLevel::Warn, message, .. } => self.warnings.push(message),
            Output::Log { level: LogLevel::Info | LogLevel::Error, .. } => {}
        }
    }

    fn begin_step(&mut self, order: StepOrder) {
        let script = self.scripts.get(&order.step.name).copied().unwrap_or(Script::Helps);
        let intended = |record: &Record| match &record.entry {
            Entry::Incident { incident, event } => {
                *incident == order.incident
                    && matches!(&**event, IncidentEvent::StepIntended { attempt, .. } if *attempt == order.attempt)
            }
            _ => false,
        };
        self.seen.push(Seen::StepBegan {
            at: self.now,
            symlink: self.fleet.symlink.clone(),
            intent_on_disk: self.disk.iter().any(intended),
            order: Box::new(order.clone()),
        });
        self.steps.push(RunningStep { order, script, ends: self.now + self.step_ms });
    }

    /// What a step does, whether or not anybody is left to hear of it.
    pub fn effect(&mut self, running: &RunningStep) {
        match running.script {
            Script::Helps => {
                if let Some(target) = &running.order.target {
                    self.fleet.deploy(target.0.trim_end_matches("-bin"), self.now);
                }
            }
            Script::HalfWorks => {
                if let Some(target) = &running.order.target {
                    target.0.trim_end_matches("-bin").clone_into(&mut self.fleet.symlink);
                }
            }
            Script::FlagOff => self.fleet.flag_off = true,
            Script::HelpsAtTry(from) if running.order.attempt.attempt < from => {}
            Script::HelpsAtTry(_) => self.effect(&RunningStep { script: Script::Helps, ..running.clone() }),
            Script::BringsBack => {
                if let Some(bad) = &running.order.bad {
                    self.fleet.deploy(bad.0.trim_end_matches("-bin"), self.now);
                }
            }
            Script::Nothing | Script::Fails => {}
        }
    }

    fn end_steps(&mut self) {
        let (over, running): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.steps).into_iter().partition(|step| step.ends <= self.now);
        self.steps = running;
        for step in over {
            self.effect(&step);
            let outcome = match step.script {
                Script::HelpsAtTry(from) if step.order.attempt.attempt < from => Outcome::Failed,
                Script::Helps | Script::Nothing | Script::FlagOff | Script::HelpsAtTry(_) | Script::BringsBack => {
                    Outcome::Succeeded
                }
                Script::Fails => Outcome::Failed,
                Script::HalfWorks => Outcome::TimedOut,
            };
            let order = Box::new(step.order.clone());
            self.seen.push(Seen::StepEnded { at: self.now, order, outcome });
            let result = StepResult {
                outcome,
                detail: "as scripted".to_owned(),
                output: String::new(),
                truncated: false,
                captures: BTreeMap::new(),
                duration_ms: 3000,
            };
            self.inbox.push_back(Input::StepFinished {
                incident: step.order.incident,
                attempt: step.order.attempt,
                result,
            });
        }
    }

    fn end_checks(&mut self) {
        let now = self.now;
        for (_, order) in self.checks.extract_if(.., |(ends, _)| *ends <= now) {
            let outcome = self.check_answers.get(&order.check.name).cloned().unwrap_or(CheckOutcome::Passed);
            self.inbox.push_back(Input::Checked { id: order.id, outcome });
        }
    }

    fn acknowledge(&mut self) -> bool {
        if self.disk_state != Disk::Writes {
            return false;
        }
        let Some(records) = self.unacknowledged.pop_front() else { return false };
        let last = records.last().map(|record| record.seq);
        self.disk.extend(records);
        if let Some(seq) = last {
            self.input(Input::Durable(seq));
        }
        true
    }

    fn dead(&mut self) -> bool {
        self.machine.is_none() || self.crash_in == Some(0)
    }

    /// Everything that follows at this instant.
    pub fn settle(&mut self) {
        loop {
            if self.dead() {
                return;
            }
            if let Some(input) = self.inbox.pop_front() {
                self.input(input);
            } else if self.acknowledge() {
            } else if self
                .machine
                .as_ref()
                .and_then(Machine::next_deadline)
                .is_some_and(|at| at.as_millis() <= self.now)
            {
                self.ticks = if self.ticks.0 == self.now { (self.now, self.ticks.1 + 1) } else { (self.now, 1) };
                assert!(self.ticks.1 <= TICKS_PER_INSTANT_MAX, "busy at {}", self.now);
                self.input(Input::Tick);
            } else {
                return;
            }
        }
    }

    fn look(&mut self) {
        let at = Timestamp::from_millis(self.now);
        let outcome = if self.fleet.symlink_readable { Ok(self.fleet.symlink.clone()) } else { Err("gone".to_owned()) };
        let detectors = &self.rules.services[0].detectors;
        if let Some(detector) = detectors.iter().position(|detector| detector.kind == DetectorKind::Outside) {
            self.input(Input::Observation(Observation::Release { service: "api".into(), detector, at, outcome }));
        }
        for index in 0..self.fleet.processes.len() {
            if self.dead() {
                return;
            }
            let probe = self.fleet.probe(index, self.now);
            self.input(Input::Observation(probe));
            let scrape = self.fleet.scrape(index, self.now);
            self.input(Input::Observation(scrape));
        }
    }

    /// Moves the clock to the next thing that happens, `until` at the latest, and lets it happen. False when the daemon
    /// has died.
    pub fn next(&mut self, until: i64) -> bool {
        self.settle();
        if self.dead() {
            return false;
        }
        let deadline = self.machine.as_ref().and_then(Machine::next_deadline).map(Timestamp::as_millis);
        let ends = self.steps.iter().map(|step| step.ends).min();
        let checks = self.checks.iter().map(|(ends, _)| *ends).min();
        let next = [Some(until), Some(self.next_looks), deadline, ends, checks].into_iter().flatten().min();
        self.now = next.unwrap_or(until).max(self.now);
        self.end_steps();
        self.end_checks();
        if self.next_looks <= self.now {
            self.next_looks = self.now + INTERVAL;
            self.look();
        }
        self.settle();
        !self.dead()
    }

    pub fn run(&mut self, millis: i64) {
        let until = self.now + millis;
        while self.now < until && self.next(until) {}
    }

    /// Runs until the condition holds; panics when it does not within the time.
    pub fn run_until(&mut self, millis: i64, what: &str, condition: impl Fn(&World) -> bool) {
        let until = self.now + millis;
        while !condition(self) {
            assert!(self.now < until && self.next(until), "not within {millis} ms: {what}\n{}", self.story());
        }
    }

    pub fn command(&mut self, command: Command) -> Answer {
        self.commands += 1;
        let id = CommandId(self.commands);
        let actor = Actor { name: "ada".to_owned(), via: "cli".to_owned() };
        self.input(Input::Command { id, actor, command });
        self.settle();
        let answer = self.answers.iter().find(|(of, _)| *of == id).map(|(_, answer)| answer.clone());
        answer.unwrap_or_else(|| panic!("no answer\n{}", self.story()))
    }

    /// A command whose answer nobody waits for.
    pub fn order(&mut self, command: Command) {
        self.commands += 1;
        let actor = Actor { name: "ada".to_owned(), via: "cli".to_owned() };
        self.input(Input::Command { id: CommandId(self.commands), actor, command });
    }

    pub fn snapshot(&self) -> Snapshot {
        self.machine.as_ref().expect("the daemon runs").snapshot(&self.time())
    }

    pub fn service(&self) -> ServiceView {
        self.snapshot().services.remove(0)
    }

    pub fn incidents(&self) -> Vec<IncidentView> {
        self.snapshot().incidents
    }

    /// The state of the only incident, or `none`.
    pub fn state(&self) -> &'static str {
        let incidents = self.incidents();
        assert!(incidents.len() < 2, "{} incidents\n{}", incidents.len(), self.story());
        incidents.first().map_or("none", |incident| incident.state)
    }

    pub fn steps_begun(&self) -> Vec<&StepOrder> {
        let begun = self.seen.iter().filter_map(|seen| match seen {
            Seen::StepBegan { order, .. } => Some(&**order),
            Seen::StepEnded { .. } | Seen::Delivered { .. } | Seen::Crashed { .. } => None,
        });
        begun.collect()
    }

    /// Notices that reached a receiver, in order.
    pub fn notices(&self, receiver: &str) -> Vec<(NoticeKind, bool)> {
        let told = self.seen.iter().filter_map(|seen| match seen {
            Seen::Delivered { receiver: to, notice, outdated, .. } if to == receiver => Some((notice.kind, *outdated)),
            Seen::Delivered { .. } | Seen::StepBegan { .. } | Seen::StepEnded { .. } | Seen::Crashed { .. } => None,
        });
        told.collect()
    }

    pub fn kinds(&self) -> Vec<NoticeKind> {
        self.notices("oncall").into_iter().map(|(kind, _)| kind).collect()
    }

    /// For the message of a failing test.
    pub fn story(&self) -> String {
        use std::fmt::Write as _;
        let mut story = format!("now {}\n", self.now);
        if self.machine.is_some() {
            let service = self.service();
            let _ = writeln!(story, "releases {:?}", service.releases);
            let _ = writeln!(story, "running {:?} way back {:?}", service.running, service.way_back);
            for trigger in service.triggers {
                let (name, verdict, held) = (trigger.name, trigger.verdict, trigger.held);
                let _ = writeln!(story, "{name}: {verdict} {} held {held:?}: {}", trigger.finding, trigger.sentence);
            }
            for incident in self.incidents() {
                let (id, state, sentence) = (incident.id, incident.state, incident.sentence);
                let _ = writeln!(story, "{id}: {state}: {sentence}");
            }
        }
        for record in &self.disk {
            let entry = format!("{:?}", record.entry);
            let short: String = entry.chars().take(230).collect();
            let _ = writeln!(story, "{:>8} {:>4} {short}", record.at.as_millis(), record.seq.0);
        }
        story
    }
}
