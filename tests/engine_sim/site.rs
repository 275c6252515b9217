//! The world's state: clocks that the seed turns, services, disk, steps under way, receivers.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use backstop::decide::event::Seq;
use backstop::decide::rules::{DetectorKind, Rules};
use backstop::journal::form;
use backstop::machine::checkpoint::Checkpoint;
use backstop::machine::input::{Observation, TargetKey, TargetKind};
use backstop::observe::lane;
use backstop::platform::clock::{Clock, Reading};
use backstop::promql::{Labels, TargetId};
use backstop::time::{BootId, Timestamp};
use tokio::sync::Notify;
use tokio::time::Instant;

use super::judge::{Judge, Run};
use super::sim::disk::{Disk, State};
use super::sim::fleet::{Fleet, ReleaseNo};
use super::sim::rng::Rng;
use super::sim::world::{Manner, Script};
use super::sim::{people, setup};

/// Where the wall clock stands when the simulation begins.
const EPOCH: i64 = 1_790_000_000_000;

/// What the clocks are made of. Its own lock: the engine reads it where it holds nothing else.
#[derive(Debug)]
pub struct Dial {
    begun: Instant,
    /// What turns have cost. Virtual time stands still while a task runs.
    pub spent: Duration,
    pub wall_offset_ms: i64,
    booted: Duration,
    pub boots: u32,
}

impl Dial {
    fn elapsed(&self) -> Duration {
        self.begun.elapsed() + self.spent
    }

    pub fn reboot(&mut self) {
        self.booted = self.elapsed();
        self.boots += 1;
    }
}

#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
pub struct Site {
    pub rng: Rng,
    pub rules: Arc<Rules>,
    pub configured: Vec<bool>,
    pub fleets: Vec<Fleet>,
    pub disk: Disk,
    /// The machine was told that the journal fails, and not yet that it is back.
    pub failing_told: bool,
    pub journal_well_since: Option<i64>,
    pub sync_ms: i64,
    /// Entries that the journal takes before it refuses.
    pub backlog_max: usize,
    pub refused: bool,
    /// It has died in the middle of a turn; whoever waits for it has not heard yet.
    pub dead: bool,
    saved: Vec<(i64, Checkpoint)>,
    pub last_saved: Option<Timestamp>,
    pub last_alive: i64,
    pub receivers: BTreeMap<String, Manner>,
    pub references_up: bool,
    pub scripts: BTreeMap<&'static str, Script>,
    pub step_ms: i64,
    /// Attempts that took effect.
    pub worked: BTreeSet<Run>,
    pub chaos: bool,
    pub turn_cost: Duration,
    /// Looks still to come in a flood, each as soon as the one before was read.
    pub flood: u32,
    /// The daemon dies at this output of the machine.
    pub crash_in: Option<u32>,
    pub lane: Option<lane::Sender>,
    pub clock: Option<Clock>,
    pub life: u32,
    pub persons: u64,
    pub judge: Judge,
    pub tally: BTreeMap<&'static str, u64>,
    pub story: Vec<String>,
}

/// Of the one thread that everything but the saving of checkpoints runs on.
#[derive(Clone)]
pub struct Shared {
    site: Arc<Mutex<Site>>,
    pub dial: Arc<Mutex<Dial>>,
    /// The journal's thread has something to look at.
    pub journal: Arc<Notify>,
}

fn lock<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    pub fn new(seed: u64) -> Shared {
        let mut rng = Rng::new(seed);
        let rules = Arc::new(setup::configuration(&mut rng));
        let fleets = setup::fleets(&mut rng, &rules);
        let site = Site {
            configured: vec![true; fleets.len()],
            fleets,
            disk: Disk::new(),
            failing_told: false,
            journal_well_since: Some(0),
            sync_ms: rng.pick(&[1, 10, 100, 2000]),
            backlog_max: rng.pick(&[250, 16_384, 16_384, 16_384]),
            refused: false,
            dead: false,
            saved: Vec::new(),
            last_saved: None,
            last_alive: 0,
            receivers: rules.receivers.iter().map(|rules| (rules.name.to_string(), Manner::Takes)).collect(),
            references_up: true,
            scripts: people::scripts(&mut rng),
            step_ms: rng.within(0, 12_000),
            worked: BTreeSet::new(),
            chaos: false,
            turn_cost: rng.pick(&[Duration::ZERO, Duration::from_micros(20), Duration::from_micros(500)]),
            flood: 0,
            crash_in: None,
            lane: None,
            clock: None,
            life: 0,
            persons: 0,
            judge: Judge::default(),
            tally: BTreeMap::new(),
            story: Vec::new(),
            rules,
            rng,
        };
        let dial =
            Dial { begun: Instant::now(), spent: Duration::ZERO, wall_offset_ms: 0, booted: Duration::ZERO, boots: 1 };
        Shared { site: Arc::new(Mutex::new(site)), dial: Arc::new(Mutex::new(dial)), journal: Arc::new(Notify::new()) }
    }

    pub fn site(&self) -> MutexGuard<'_, Site> {
        lock(&self.site)
    }

    pub fn dial(&self) -> MutexGuard<'_, Dial> {
        lock(&self.dial)
    }

    /// The true time, in milliseconds.
    pub fn t(&self) -> i64 {
        i64::try_from(self.dial().elapsed().as_millis()).unwrap_or(i64::MAX)
    }

    /// As the daemon makes it at its start.
    pub fn clock(&self, checkpoint: Option<&backstop::time::Now>, newest: Option<Timestamp>) -> Clock {
        let dial = Arc::clone(&self.dial);
        let read = move || {
            let dial = lock(&dial);
            let elapsed = dial.elapsed();
            let millis = i64::try_from(elapsed.as_millis()).unwrap_or(i64::MAX);
            Reading {
                since_boot: elapsed.saturating_sub(dial.booted) + Duration::from_secs(100),
                wall: Timestamp::from_millis(EPOCH + millis + dial.wall_offset_ms),
            }
        };
        let boot = BootId(format!("boot-{}", self.dial().boots).into());
        Clock::given(Arc::new(read), boot, checkpoint, newest)
    }

    pub fn note(&self, site: &mut Site, text: impl AsRef<str>) {
        let t = self.t();
        site.story.push(format!("{:>7}.{:03} {}", t / 1000, t % 1000, text.as_ref()));
    }

    // What is seen of the services.

    /// One look at everything of a service, into the lane.
    pub fn look(&self, service: usize) {
        let t = self.t();
        let mut site = self.site();
        let Some((lane, at)) = site.lane.clone().zip(site.clock.as_ref().map(Clock::monotonic)) else { return };
        if !site.configured[service] {
            return;
        }
        let name = Arc::clone(&site.fleets[service].service);
        let detectors = site.rules.services.iter().find(|rules| rules.name == name).map(|rules| &rules.detectors);
        let outside = detectors.and_then(|all| all.iter().position(|one| one.kind == DetectorKind::Outside));
        if let Some(detector) = outside {
            let outcome = site.fleets[service].look_outside(t);
            lane.send(Observation::Release { service: name, detector, at, outcome });
        }
        for process in 0..site.fleets[service].processes.len() {
            site.look_at(&lane, service, process, t, at);
        }
    }

    /// The next look of a flood, if one is on.
    pub fn flood_one(&self) {
        let t = self.t();
        let mut site = self.site();
        if site.flood == 0 {
            return;
        }
        let Some((lane, at)) = site.lane.clone().zip(site.clock.as_ref().map(Clock::monotonic)) else { return };
        site.flood -= 1;
        let services = site.fleets.len();
        let service = site.rng.index(services);
        if site.configured[service] {
            let processes = site.fleets[service].processes.len();
            let process = site.rng.index(processes);
            site.look_at(&lane, service, process, t, at);
        }
    }

    pub fn look_at_references(&self) {
        let site = self.site();
        let Some((lane, at)) = site.lane.clone().zip(site.clock.as_ref().map(Clock::monotonic)) else { return };
        for name in setup::REFERENCES {
            lane.send(Observation::Reference { name: name.into(), at, up: site.references_up });
        }
    }

    // What happens to the services.

    pub fn install(&self, service: usize, release: ReleaseNo) {
        let t = self.t();
        let mut site = self.site();
        self.note(&mut site, format!("service {service} gets r{}", release + 1));
        let fleet = &mut site.fleets[service];
        fleet.symlink = release;
        for process in 0..fleet.processes.len() {
            fleet.restart(process, release, t);
        }
    }

    /// What a step does, whether or not anybody is left to hear of it.
    pub fn work(&self, service: usize, script: Script, target: Option<ReleaseNo>) {
        match (script, target) {
            (Script::Helps | Script::FailsAndWorks | Script::Ambiguous, Some(target)) => self.install(service, target),
            (Script::HalfWorks, Some(target)) => self.site().fleets[service].symlink = target,
            (Script::FlagOff, _) => {
                let t = self.t();
                let mut site = self.site();
                site.fleets[service].count_all(t);
                site.fleets[service].flag_off = true;
            }
            (_, _) => {}
        }
    }

    // The disk.

    /// So many of the oldest turns become durable; the last entry of them.
    pub fn write(&self, site: &mut Site, turns: usize) -> Option<Seq> {
        let mut last = None;
        for _ in 0..turns {
            let Some(turn) = site.disk.write() else { break };
            for record in &turn.records {
                site.judge.durable(record);
                last = Some(record.seq);
            }
        }
        if let Some(last) = last {
            self.note(site, format!("durable: {}", last.0));
        }
        last
    }

    /// The bytes of a checkpoint reach the file a little after they were handed over. Called by the one thread.
    pub fn settle_checkpoints(&self, all: bool) {
        let t = self.t();
        let mut site = self.site();
        while site.saved.first().is_some_and(|(at, _)| all || at + 20 < t) {
            let (at, checkpoint) = site.saved.remove(0);
            if let Err(why) = site.disk.save(&checkpoint.view(), at) {
                site.judge.fail(why);
            }
        }
    }
}

impl Site {
    pub fn count(&mut self, what: &'static str) {
        *self.tally.entry(what).or_default() += 1;
    }

    fn look_at(&mut self, lane: &lane::Sender, service: usize, process: usize, t: i64, at: Timestamp) {
        let generation = self.rules.generation;
        let fleet = &mut self.fleets[service];
        let (probed, scraped) = (fleet.probe_target(process), fleet.scrape_target(process));
        let probe = fleet.probe(process, t, at, false);
        let scrape = fleet.scrape(process, t, at, generation, false);
        self.judge.looked(probed, at, t);
        lane.send(probe);
        self.judge.looked(scraped, at, t);
        lane.send(scrape);
    }

    fn targets(&self, service: usize) -> Vec<(TargetKind, TargetId, &'static str, String)> {
        let fleet = &self.fleets[service];
        let of = |process: usize| {
            let address = fleet.address(process);
            [
                (TargetKind::Scrape, fleet.scrape_target(process), "app", address.clone()),
                (TargetKind::Probe, fleet.probe_target(process), "health", address),
            ]
        };
        (0..fleet.processes.len()).flat_map(of).collect()
    }

    pub fn targets_up(&mut self, service: usize) {
        let Some(lane) = self.lane.clone() else { return };
        for (kind, target, source, address) in self.targets(service) {
            let name = Some(Arc::clone(&self.fleets[service].service));
            let key = TargetKey { service: name, kind, source: source.into(), address: address.as_str().into() };
            let labels = Labels::from_pairs([("job", source), ("instance", address.as_str())]);
            lane.send(Observation::TargetUp { target, key, labels, interval: Duration::from_secs(5) });
        }
        self.fresh_tasks(service);
    }

    pub fn targets_gone(&mut self, service: usize, at: Timestamp) {
        let Some(lane) = self.lane.clone() else { return };
        for (_, target, _, _) in self.targets(service) {
            self.judge.target_gone(target);
            lane.send(Observation::TargetGone { target, at });
        }
    }

    pub fn fresh_tasks(&mut self, service: usize) {
        self.fleets[service].processes.iter_mut().for_each(|process| process.fresh_task = true);
    }

    pub fn journal_is(&mut self, state: State, t: i64) {
        self.disk.state = state;
        self.journal_well_since = (state == State::Writes).then_some(t);
    }

    /// On the thread that saves: nothing here may depend on when it runs within an instant.
    pub fn save(&mut self, checkpoint: Checkpoint, t: i64) {
        self.last_saved = Some(checkpoint.now.monotonic);
        self.saved.push((t, checkpoint));
    }

    pub fn forget_saved(&mut self) {
        self.saved.clear();
    }
}

/// What an entry is, and a number that changes with all it says.
pub fn brief(entry: &backstop::decide::event::Entry) -> String {
    match form::encode(entry) {
        Ok(encoded) => {
            let mut hasher = DefaultHasher::new();
            encoded.body.hash(&mut hasher);
            format!("{} {:08x}", encoded.kind, hasher.finish() & 0xffff_ffff)
        }
        Err(error) => format!("{error}"),
    }
}
