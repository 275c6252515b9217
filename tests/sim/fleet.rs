//! The services as they really are: processes, releases and what they do wrong, traffic, and what looks at them see.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use backstop::machine::input::{Observation, ProbeOutcome, Scrape, ScrapeFailure};
use backstop::promql::{Batch, Labels, LocalId, TargetId};
use backstop::time::Timestamp;

use super::oracle::NEVER_WAS;
use crate::support::{MINUTE, SECOND};

/// A release by its place in the service's history: 0 is `r1`.
pub type ReleaseNo = u16;

/// Stands for everything that is wrong whatever release runs.
pub const ENVIRONMENT: ReleaseNo = ReleaseNo::MAX;

/// Stands for the same, where only few requests fail.
pub const MILD: ReleaseNo = ReleaseNo::MAX - 2;

/// Stands for memory that is full whatever release runs.
pub const CROWD: ReleaseNo = ReleaseNo::MAX - 3;

/// Errors of less than this share are [`MILD`].
pub const MILD_MAX: f64 = 0.25;

/// Stands for what a scrape told that never was.
pub const LIES: ReleaseNo = ReleaseNo::MAX - 1;

/// Not up for longer than this after its start is down: more than one look fails.
const MAY_START_MS: i64 = 4 * SECOND;

/// What a release does, from `from_ms` after a process of it has started.
#[derive(Clone, Copy, Debug, PartialEq)]
#[expect(clippy::struct_excessive_bools, reason = "each is wrong by itself")]
pub struct Behaviour {
    /// Share of requests that fail.
    pub errors: f64,
    /// Every request takes 8 s.
    pub slow: bool,
    /// Memory fills up.
    pub memory: bool,
    /// It cannot reach its database.
    pub database: bool,
    /// It dies at once.
    pub crashes: bool,
    /// How long a process takes to start.
    pub boot_ms: i64,
    pub from_ms: i64,
}

impl Behaviour {
    pub const GOOD: Behaviour = Behaviour {
        errors: 0.0,
        slow: false,
        memory: false,
        database: false,
        crashes: false,
        boot_ms: 2 * SECOND,
        from_ms: 0,
    };
}

/// What is wrong with the way to a process, or with what it tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lie {
    Hangs,
    Refused,
    Truncated,
    Limit,
    SeveralProcesses,
    /// Errors that never were.
    Wrong,
    NaN,
    /// Another version than the one that runs.
    Version,
    /// Probes cannot be sent.
    Unsent,
}

#[derive(Clone, Debug)]
pub struct Process {
    pub release: ReleaseNo,
    pub up_from: i64,
    pub started: i64,
    counted_until: i64,
    ok: f64,
    bad: f64,
    slow: f64,
    database: f64,
    wrong: f64,
    /// Series that the scraping task has announced.
    known: BTreeSet<u32>,
    pub fresh_task: bool,
    /// Nothing gets through until then.
    pub cut_until: i64,
    pub lie: Option<(Lie, i64)>,
}

/// What a service's triggers ask for, and so what is scraped.
#[derive(Clone, Copy, Debug, Default)]
#[expect(clippy::struct_excessive_bools, reason = "each is asked for by itself")]
pub struct Asked {
    pub version: bool,
    pub requests: bool,
    pub histogram: bool,
    pub memory: bool,
    pub database: bool,
}

#[derive(Debug)]
pub struct Fleet {
    pub service: Arc<str>,
    pub place: usize,
    pub asked: Asked,
    pub symlink: ReleaseNo,
    pub processes: Vec<Process>,
    pub behaviours: Vec<Behaviour>,
    pub names: Vec<Arc<str>>,
    /// Requests per second and process.
    pub rate: f64,
    /// Errors whatever release runs: a dependency is down.
    pub errors_anyway: f64,
    /// Memory is full whatever release runs.
    pub memory_anyway: bool,
    /// A feature flag that hides the errors of releases.
    pub flag_off: bool,
    /// Since when the old release would not understand the database.
    pub blocked: Option<i64>,
    /// Since when what a rollback would install is gone.
    pub image_gone: Option<i64>,
    pub symlink_readable: bool,
    /// Until then the detector outside shows what was there before.
    pub symlink_late: Option<(ReleaseNo, i64)>,
    labels: BTreeMap<(usize, u32), Labels>,
}

const OK: u32 = 0;
const BAD: u32 = 1;
const MEMORY: u32 = 2;
const DATABASE: u32 = 3;
const BUCKET_FAST: u32 = 4;
const BUCKET_SLOW: u32 = 5;
const BUCKET_ALL: u32 = 6;
const VERSION: u32 = 100;

impl Fleet {
    pub fn new(service: &Arc<str>, place: usize, processes: usize, asked: Asked, rate: f64) -> Fleet {
        let process = Process {
            release: 0,
            up_from: 0,
            started: 0,
            counted_until: 0,
            ok: 0.0,
            bad: 0.0,
            slow: 0.0,
            database: 0.0,
            wrong: 0.0,
            known: BTreeSet::new(),
            fresh_task: true,
            cut_until: 0,
            lie: None,
        };
        Fleet {
            service: Arc::clone(service),
            place,
            asked,
            symlink: 0,
            processes: vec![process; processes],
            behaviours: vec![Behaviour::GOOD],
            names: vec![Arc::from("r1")],
            rate,
            errors_anyway: 0.0,
            memory_anyway: false,
            flag_off: false,
            blocked: None,
            image_gone: None,
            symlink_readable: true,
            symlink_late: None,
            labels: BTreeMap::new(),
        }
    }

    /// Another release is made; nothing runs it yet.
    pub fn build(&mut self, behaviour: Behaviour) -> ReleaseNo {
        self.behaviours.push(behaviour);
        self.names.push(Arc::from(format!("r{}", self.behaviours.len())));
        ReleaseNo::try_from(self.behaviours.len() - 1).expect("a few releases")
    }

    /// The release of a name as any detector tells it. None for one that never was.
    pub fn release_of(&self, name: &str) -> Option<ReleaseNo> {
        let plain = name.strip_suffix("-bin").unwrap_or(name);
        let number: u16 = plain.strip_prefix('r')?.parse().ok()?;
        number.checked_sub(1).filter(|number| usize::from(*number) < self.names.len())
    }

    pub fn behaviour(&self, release: ReleaseNo) -> Behaviour {
        self.behaviours.get(usize::from(release)).copied().unwrap_or(Behaviour::GOOD)
    }

    /// A process of `release` begins in this place.
    pub fn restart(&mut self, index: usize, release: ReleaseNo, now: i64) {
        self.count(index, now);
        let boot = self.behaviour(release).boot_ms;
        let process = &mut self.processes[index];
        process.release = release;
        process.up_from = now + boot;
        process.started = now;
        process.counted_until = now + boot;
        (process.ok, process.bad, process.slow, process.database, process.wrong) = (0.0, 0.0, 0.0, 0.0, 0.0);
    }

    pub fn count_all(&mut self, now: i64) {
        for index in 0..self.processes.len() {
            self.count(index, now);
        }
    }

    pub fn reset_counters(&mut self, index: usize, now: i64) {
        self.count(index, now);
        let process = &mut self.processes[index];
        (process.ok, process.bad, process.slow, process.database) = (0.0, 0.0, 0.0, 0.0);
    }

    /// One request fails, whatever runs.
    pub fn fail_once(&mut self, index: usize, now: i64) {
        self.count(index, now);
        self.processes[index].bad += 1.0;
    }

    fn active(&self, process: &Process, now: i64) -> Behaviour {
        let behaviour = self.behaviour(process.release);
        if now >= process.started + behaviour.from_ms {
            behaviour
        } else {
            Behaviour { boot_ms: behaviour.boot_ms, ..Behaviour::GOOD }
        }
    }

    fn is_up(&self, index: usize, now: i64) -> bool {
        let process = &self.processes[index];
        now >= process.up_from && !self.active(process, now).crashes
    }

    #[expect(clippy::cast_precision_loss, reason = "seconds of a test")]
    fn count(&mut self, index: usize, now: i64) {
        let behaviour = self.active(&self.processes[index], now);
        let own = if self.flag_off { 0.0 } else { behaviour.errors };
        let errors = own.max(self.errors_anyway);
        let rate = self.rate;
        let process = &mut self.processes[index];
        let seconds = (now - process.counted_until).max(0) as f64 / 1000.0;
        process.counted_until = process.counted_until.max(now);
        if behaviour.crashes {
            return;
        }
        process.ok += seconds * rate * (1.0 - errors);
        process.bad += seconds * rate * errors;
        process.slow += if behaviour.slow { seconds * rate } else { 0.0 };
        process.database += if behaviour.database { seconds } else { 0.0 };
    }

    /// Who is to blame for what is wrong now, and in which process (the first one where it is not in processes).
    pub fn failing(&self, now: i64, mut tell: impl FnMut(ReleaseNo, usize)) {
        if self.errors_anyway > 0.0 {
            tell(if self.errors_anyway < MILD_MAX { MILD } else { ENVIRONMENT }, 0);
        }
        if self.memory_anyway {
            tell(CROWD, 0);
        }
        for (index, process) in self.processes.iter().enumerate() {
            let behaviour = self.active(process, now);
            let down = now < process.up_from && now > process.started + MAY_START_MS;
            let errors = behaviour.errors > 0.0 && !self.flag_off;
            if down || errors || behaviour.crashes || behaviour.slow || behaviour.memory || behaviour.database {
                tell(process.release, index);
            }
        }
    }

    pub fn scrape_target(&self, index: usize) -> TargetId {
        TargetId(u32::try_from(self.place * 100 + index).expect("a few processes"))
    }

    pub fn probe_target(&self, index: usize) -> TargetId {
        TargetId(u32::try_from(self.place * 100 + 50 + index).expect("a few processes"))
    }

    pub fn address(&self, index: usize) -> String {
        format!("10.0.{}.{index}:8080", self.place)
    }

    /// The version that the process would show.
    pub fn shown_version(&self, index: usize, now: i64) -> String {
        let process = &self.processes[index];
        match process.lie {
            Some((Lie::Version, until)) if now < until => NEVER_WAS.to_owned(),
            Some(_) | None => format!("{}-bin", self.names[usize::from(process.release)]),
        }
    }

    /// Whether a look at it shows full memory. None where it shows no such number.
    pub fn shows_full(&self, index: usize, now: i64) -> Option<bool> {
        let process = &self.processes[index];
        match process.lie.filter(|(_, until)| now < *until) {
            Some((Lie::NaN, _)) => None,
            Some((Lie::Wrong, _)) => Some(true),
            Some(_) | None => self.asked.memory.then(|| self.active(process, now).memory || self.memory_anyway),
        }
    }

    fn labels(&mut self, index: usize, local: u32) -> Labels {
        if let Some(labels) = self.labels.get(&(index, local)) {
            return labels.clone();
        }
        let version = |number: u32| format!("r{}-bin", number + 1);
        let (name, more): (&str, Vec<(&str, String)>) = match local {
            OK => ("http_requests_total", vec![("status", "200".to_owned())]),
            BAD => ("http_requests_total", vec![("status", "500".to_owned())]),
            MEMORY => ("memory_used_ratio", Vec::new()),
            DATABASE => ("db_connection_failures_total", Vec::new()),
            BUCKET_FAST => ("latency_seconds_bucket", vec![("le", "0.5".to_owned())]),
            BUCKET_SLOW => ("latency_seconds_bucket", vec![("le", "10".to_owned())]),
            BUCKET_ALL => ("latency_seconds_bucket", vec![("le", "+Inf".to_owned())]),
            release => ("app_build_info", vec![("version", version(release - VERSION))]),
        };
        let own = [("__name__", name.to_owned()), ("job", "app".to_owned()), ("instance", self.address(index))];
        let labels = Labels::from_pairs(own.into_iter().chain(more));
        self.labels.insert((index, local), labels.clone());
        labels
    }

    /// What a scrape of this process brings. `dark`: no network at all.
    pub fn scrape(&mut self, index: usize, now: i64, at: Timestamp, generation: u64, dark: bool) -> Observation {
        let target = self.scrape_target(index);
        let duration = Duration::from_millis(5);
        self.count(index, now);
        let is_up = self.is_up(index, now);
        let failed = |reason, detail: &str| Observation::Scraped {
            target,
            at,
            duration,
            outcome: Err(ScrapeFailure { reason, detail: detail.to_owned() }),
        };
        let process = &self.processes[index];
        let lie = process.lie.filter(|(_, until)| now < *until).map(|(lie, _)| lie);
        if dark || now < process.cut_until || lie == Some(Lie::Hangs) {
            return failed("timeout", "no answer in time");
        }
        if !is_up || lie == Some(Lie::Refused) {
            return failed("refused", "connection refused");
        }
        match lie {
            Some(Lie::Truncated) => return failed("body", "the body is cut short"),
            Some(Lie::Limit) => return failed("limit", "more than 50000 samples"),
            Some(Lie::SeveralProcesses) => return failed("several_processes", "several processes behind one address"),
            Some(Lie::Hangs | Lie::Refused | Lie::Wrong | Lie::NaN | Lie::Version | Lie::Unsent) | None => {}
        }
        let mut samples = self.shown(index, now, lie);
        if lie == Some(Lie::NaN) {
            for (_, value) in samples.iter_mut().filter(|(local, _)| local.0 < VERSION) {
                *value = f64::NAN;
            }
        }
        let process = &mut self.processes[index];
        let mut batch = Batch { rebind: process.fresh_task, ..Batch::default() };
        #[expect(clippy::cast_precision_loss, reason = "milliseconds of a test")]
        {
            batch.process_start = Some(process.started as f64);
        }
        if std::mem::take(&mut process.fresh_task) {
            process.known.clear();
        }
        let shown: BTreeSet<u32> = samples.iter().map(|(local, _)| local.0).collect();
        let new: Vec<u32> = shown.difference(&process.known).copied().collect();
        batch.vanished = process.known.difference(&shown).map(|local| LocalId(*local)).collect();
        process.known = shown;
        batch.born = new.into_iter().map(|local| (LocalId(local), self.labels(index, local))).collect();
        batch.samples = samples;
        let scrape = Scrape { generation, samples_exposed: 100, body_bytes: 4096, batch };
        Observation::Scraped { target, at, duration, outcome: Ok(scrape) }
    }

    fn shown(&mut self, index: usize, now: i64, lie: Option<Lie>) -> Vec<(LocalId, f64)> {
        let asked = self.asked;
        let behaviour = self.active(&self.processes[index], now);
        let crowded = behaviour.memory || self.memory_anyway;
        let process = &mut self.processes[index];
        let mut samples = Vec::with_capacity(8);
        if asked.version {
            let shown = if lie == Some(Lie::Version) { 98 } else { u32::from(process.release) };
            samples.push((LocalId(VERSION + shown), 1.0));
        }
        if lie == Some(Lie::Wrong) {
            process.wrong += 500.0;
        }
        if asked.requests {
            samples.push((LocalId(OK), process.ok.floor()));
            let wrong = if lie == Some(Lie::Wrong) { process.wrong } else { 0.0 };
            if process.bad + wrong >= 1.0 {
                samples.push((LocalId(BAD), (process.bad + wrong).floor()));
            }
        }
        if asked.memory {
            samples.push((LocalId(MEMORY), if crowded || lie == Some(Lie::Wrong) { 0.99 } else { 0.4 }));
        }
        if asked.database {
            samples.push((LocalId(DATABASE), process.database.floor()));
        }
        if asked.histogram {
            let all = process.ok + process.bad;
            samples.push((LocalId(BUCKET_FAST), (all - process.slow).max(0.0).floor()));
            samples.push((LocalId(BUCKET_SLOW), all.floor()));
            samples.push((LocalId(BUCKET_ALL), all.floor()));
        }
        samples
    }

    pub fn probe(&self, index: usize, now: i64, at: Timestamp, dark: bool) -> Observation {
        let process = &self.processes[index];
        let lie = process.lie.filter(|(_, until)| now < *until).map(|(lie, _)| lie);
        let failed =
            |why: &str, reached| ProbeOutcome::Failed { status: None, why: why.to_owned(), reached, release: None };
        let outcome = if lie == Some(Lie::Unsent) {
            ProbeOutcome::Unsent("too many open files".to_owned())
        } else if dark || now < process.cut_until {
            failed("no answer in time", false)
        } else if self.is_up(index, now) {
            ProbeOutcome::Up { status: Some(200), release: None }
        } else {
            failed("connection refused", true)
        };
        Observation::Probed { target: self.probe_target(index), at, duration: Duration::from_millis(3), outcome }
    }

    /// What a look at the detector outside shows.
    pub fn look_outside(&mut self, now: i64) -> Result<String, String> {
        if !self.symlink_readable {
            return Err("permission denied".to_owned());
        }
        if self.symlink_late.is_some_and(|(_, until)| now >= until) {
            self.symlink_late = None;
        }
        let shown = self.symlink_late.map_or(self.symlink, |(release, _)| release);
        Ok(self.names[usize::from(shown)].to_string())
    }

    pub fn heal(&mut self) {
        (self.blocked, self.image_gone) = (None, None);
        self.symlink_readable = true;
        self.symlink_late = None;
        self.errors_anyway = 0.0;
        self.memory_anyway = false;
        for process in &mut self.processes {
            process.cut_until = 0;
            process.lie = None;
        }
    }
}

/// How long a release takes that breaks only after a while.
pub const BREAKS_LATER_MS: i64 = 2 * MINUTE;
