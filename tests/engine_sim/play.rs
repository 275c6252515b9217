//! What happens: releases, faults, people; then healing; then rest is demanded.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use backstop::decide::event::Autonomy;
use backstop::machine::input::{Command, Input};
use backstop::machine::snapshot::Snapshot;
use tokio::time::sleep;

use super::judge::Broken;
use super::life::{End, Life, tell};
use super::ports::writes;
use super::sim::disk::State;
use super::sim::fleet::Behaviour;
use super::sim::world::Manner;
use super::sim::{people, setup};
use super::site::{Shared, Site};

const SECOND: i64 = 1000;
const MINUTE: i64 = 60 * SECOND;
const LOOK: Duration = Duration::from_millis(500);
/// From the end of the faults until every incident has ended or called a person: the longest deadline of a ladder.
const HEALS_WITHIN_MS: i64 = 12 * MINUTE;
/// The watchdog of systemd is fed at this interval; a little more for the turn that was under way.
const ALIVE_WITHIN_MS: i64 = 11 * SECOND;
const SAVED_WITHIN_MS: i64 = 6 * SECOND;

/// How a seed ended.
#[derive(Debug)]
pub struct Ended {
    pub result: Result<(), Broken>,
    pub story: Vec<String>,
    pub tally: BTreeMap<&'static str, u64>,
    pub turns: u64,
}

struct Play {
    shared: Shared,
    life: Option<Life>,
    /// When the next daemon starts.
    starts: i64,
}

/// In a runtime of its own, whose clock stands still while anything runs. The same seed gives the same story.
pub fn run(seed: u64) -> Ended {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime without sockets");
    runtime.block_on(async {
        let shared = Shared::new(seed);
        let mut play = Play { shared: shared.clone(), life: None, starts: 0 };
        let mut result = play.all().await;
        if let Some(life) = play.life.take() {
            let ended = life.end(true).await;
            result = result.and(ended.map(drop));
        }
        let mut site = shared.site();
        if let Some(broken) = site.judge.broken.take() {
            result = Err(broken);
        }
        let (story, tally, turns) =
            (std::mem::take(&mut site.story), std::mem::take(&mut site.tally), site.judge.turns);
        Ended { result, story, tally, turns }
    })
}

fn looks(shared: &Shared) {
    let services = shared.site().fleets.len();
    for service in 0..services {
        let (shared, first) = (shared.clone(), shared.site().rng.below(5000));
        tokio::spawn(async move {
            sleep(Duration::from_millis(first)).await;
            loop {
                shared.look(service);
                sleep(Duration::from_secs(5)).await;
            }
        });
    }
    let shared = shared.clone();
    tokio::spawn(async move {
        loop {
            sleep(Duration::from_secs(5)).await;
            shared.look_at_references();
        }
    });
}

impl Play {
    async fn all(&mut self) -> Result<(), Broken> {
        self.start();
        looks(&self.shared);
        // Long enough for the first release to be known good.
        self.advance(2 * MINUTE).await?;
        let rounds = 1 + self.shared.site().rng.below(2);
        for _ in 0..rounds {
            let (breaks, calm) = self.with(|site| (site.rng.below(4) > 0, site.rng.within(5 * SECOND, 100 * SECOND)));
            if breaks {
                self.deploy(true);
                self.advance(calm).await?;
            }
            let storm = self.with(|site| site.rng.within(2 * MINUTE, 5 * MINUTE));
            self.storm(storm).await?;
            self.switch_on().await;
            let calm = self.with(|site| site.rng.within(SECOND, 2 * MINUTE));
            self.advance(calm).await?;
        }
        self.rest().await
    }

    fn with<T>(&self, look: impl FnOnce(&mut Site) -> T) -> T {
        look(&mut self.shared.site())
    }

    fn note(&self, text: &str) {
        self.shared.note(&mut self.shared.site(), text);
    }

    // Lives.

    fn start(&mut self) {
        self.shared.settle_checkpoints(false);
        self.life = Some(Life::begin(&self.shared));
    }

    /// The daemon is gone. Any prefix of what it had appended is durable.
    async fn bury(&mut self, kill: bool) -> Result<(), Broken> {
        let Some(life) = self.life.take() else { return Ok(()) };
        let (stopping, settings) = (life.stopping, life.settings.clone());
        self.with(|site| site.dead |= kill);
        let ended = life.end(kill).await?;
        let t = self.shared.t();
        let mut site = self.shared.site();
        site.lane = None;
        site.clock = None;
        let (kept, down) = match &ended {
            End::Stopped(stopped) => {
                let drain_max = i64::try_from(settings.drain_max.as_millis()).unwrap_or(i64::MAX);
                let Some(since) = stopping else { return Err("it stopped, and nobody had asked it to".to_owned()) };
                site.judge.stopped(stopped, t - since, drain_max);
                site.count("stop in order");
                // What is left is written if the disk can.
                let all = if writes(&site) { site.disk.pending.len() } else { 0 };
                (all, site.rng.within(1, 10 * SECOND))
            }
            End::Killed | End::Refused => {
                site.count(if matches!(ended, End::Killed) { "crash" } else { "backlog that is full" });
                let waiting = site.disk.pending.len();
                (site.rng.index(waiting + 1), site.rng.within(1, 20 * SECOND))
            }
        };
        self.shared.note(&mut site, format!("is gone ({ended:?}); {kept} turns more are durable"));
        self.shared.write(&mut site, kept);
        site.disk.lose_pending();
        site.judge.forget_unwritten();
        let order = matches!(ended, End::Stopped(_));
        drop(site);
        self.shared.settle_checkpoints(order);
        let mut site = self.shared.site();
        site.forget_saved();
        if !order {
            let Site { disk, rng, .. } = &mut *site;
            match rng.below(6) {
                0 => disk.tear_checkpoint(rng),
                1 => disk.lose_checkpoint(),
                _ => {}
            }
            if rng.one_in(8) {
                self.shared.dial().reboot();
            }
        }
        // Whoever asked it is told before another one lives.
        self.starts = t + down.max(10);
        Ok(())
    }

    // Time.

    async fn advance(&mut self, by: i64) -> Result<(), Broken> {
        let until = self.shared.t() + by;
        while self.shared.t() < until {
            sleep(LOOK).await;
            self.shared.settle_checkpoints(false);
            self.look_after().await?;
        }
        Ok(())
    }

    /// Looks whether the daemon does what it must, and starts another one when it is gone.
    async fn look_after(&mut self) -> Result<(), Broken> {
        let t = self.shared.t();
        if self.life.as_ref().is_some_and(Life::is_over) {
            self.bury(false).await?;
        }
        match &self.life {
            None if t >= self.starts => self.start(),
            None => {}
            Some(life) => {
                let drain_max = i64::try_from(life.settings.drain_max.as_millis()).unwrap_or(i64::MAX);
                if life.stopping.is_some_and(|since| t - since > drain_max + 2 * SECOND) {
                    return Err("it does not stop".to_owned());
                }
                watch(&self.shared, t, life.stopping.is_some());
            }
        }
        match self.shared.site().judge.broken.clone() {
            Some(broken) => Err(broken),
            None => Ok(()),
        }
    }

    // Faults.

    async fn storm(&mut self, length: i64) -> Result<(), Broken> {
        let until = self.shared.t() + length;
        let apart = self.with(|site| {
            site.chaos = true;
            site.rng.pick(&[4 * SECOND, 10 * SECOND, 30 * SECOND])
        });
        while self.shared.t() < until {
            let next = self.with(|site| site.rng.within(SECOND / 2, apart));
            self.advance(next).await?;
            self.strike().await?;
        }
        self.heal();
        Ok(())
    }

    async fn strike(&mut self) -> Result<(), Broken> {
        match self.with(|site| site.rng.below(16)) {
            0 | 1 => {
                let broken = self.with(|site| site.rng.one_in(2));
                self.deploy(broken);
            }
            2 | 3 => self.disk(),
            4 => {
                self.note("kill -9");
                self.bury(true).await?;
            }
            5 => self.with(|site| site.crash_in = Some(u32::try_from(site.rng.below(10)).unwrap_or(0))),
            6 => {
                if let Some(life) = &mut self.life {
                    life.stop();
                }
            }
            7 | 8 => self.flood(),
            9 => self.receivers(),
            10 => self.reload().await,
            11 => self.kill_file().await,
            12 => {
                let jump = self.with(|site| {
                    site.count("wall clock that jumps");
                    site.rng.within(-10 * MINUTE, 10 * MINUTE)
                });
                self.note(&format!("the wall jumps by {jump} ms"));
                self.shared.dial().wall_offset_ms += jump;
            }
            _ => self.people(),
        }
        if self.with(|site| !writes(site) && site.rng.one_in(3)) {
            self.disk_back();
        }
        Ok(())
    }

    fn deploy(&self, plainly_broken: bool) {
        let (service, release) = self.with(|site| {
            site.count("release");
            let service = site.rng.index(site.fleets.len());
            let asked = site.fleets[service].asked.requests;
            let behaviour = match (plainly_broken, asked) {
                (true, true) => Behaviour { errors: 0.6, ..Behaviour::GOOD },
                (true, false) => Behaviour { crashes: true, ..Behaviour::GOOD },
                (false, _) => people::behaviour(&mut site.rng),
            };
            site.fleets[service].flag_off = false;
            (service, site.fleets[service].build(behaviour))
        });
        self.shared.install(service, release);
    }

    fn disk(&self) {
        let t = self.shared.t();
        self.with(|site| {
            let state = site.rng.pick(&[State::Stalls, State::Fails]);
            if writes(site) {
                site.count(if state == State::Stalls { "journal that stalls" } else { "journal that fails" });
                site.journal_is(state, t);
                self.shared.note(site, format!("the disk {state:?}"));
            }
        });
        self.shared.journal.notify_one();
    }

    fn disk_back(&self) {
        let t = self.shared.t();
        self.with(|site| {
            if !writes(site) {
                site.journal_is(State::Writes, t);
            }
        });
        self.shared.journal.notify_one();
    }

    /// More looks than can be read, and meanwhile people ask and steps end.
    fn flood(&self) {
        let Some(life) = &self.life else { return };
        self.with(|site| {
            site.count("flood");
            site.flood = site.rng.pick(&[200, 400, 1500]);
        });
        self.note("a flood");
        self.shared.look_at_references();
        let asks = self.with(|site| site.rng.below(3));
        for _ in 0..asks {
            let straight = self.with(|site| site.rng.one_in(2));
            life.ask(self.command(&life.handle.snapshot()), straight);
        }
    }

    fn receivers(&self) {
        self.with(|site| {
            let name = site.rng.pick(&["oncall", "second"]);
            let manner = site.rng.pick(&[Manner::Takes, Manner::Refuses, Manner::Slow, Manner::Mute, Manner::Gone]);
            site.receivers.insert(name.to_owned(), manner);
        });
    }

    /// As `app::reload`: first the machine gets its rules, then the observers.
    async fn reload(&self) {
        let Some(life) = self.life.as_ref().filter(|life| life.stopping.is_none()) else { return };
        let rules = self.with(|site| {
            site.count("reload");
            let mut rules = (*site.rules).clone();
            let place = site.rng.index(rules.services.len());
            let absent = site.configured.iter().position(|configured| !configured);
            match (site.rng.below(4), absent) {
                (_, Some(absent)) => {
                    let mut service = rules.services[0].clone();
                    service.name = setup::NAMES[absent].into();
                    let asked = site.fleets[absent].asked;
                    service.triggers.retain(|trigger| match &*trigger.name {
                        "error-rate" => asked.requests,
                        "memory" => asked.memory,
                        "database" => asked.database,
                        "slow" => asked.histogram,
                        _ => true,
                    });
                    service.detectors = vec![super::support::symlink()];
                    rules.services.push(service);
                }
                (0, None) if rules.services.len() > 1 => drop(rules.services.remove(place)),
                (1, None) => rules.services[place].ladder = setup::ladder(&mut site.rng),
                (2, None) => {
                    rules.services[place].autonomy = site.rng.pick(&[Autonomy::Act, Autonomy::Propose]);
                }
                (_, None) => {}
            }
            rules.generation += 1;
            rules.hash = format!("{:012x}", rules.generation).into();
            Arc::new(rules)
        });
        tell(&self.shared, &life.control, Input::Reload(Arc::clone(&rules))).await;
        let at = self.with(|site| site.clock.as_ref().map(backstop::platform::clock::Clock::monotonic));
        self.with(|site| {
            site.rules = rules;
            for service in 0..site.fleets.len() {
                let name = Arc::clone(&site.fleets[service].service);
                let here = site.rules.services.iter().any(|rules| rules.name == name);
                match (site.configured[service], here, at) {
                    (false, true, _) => site.targets_up(service),
                    (true, false, Some(at)) => site.targets_gone(service, at),
                    (true, true, _) => site.fresh_tasks(service),
                    (_, false, _) => {}
                }
                site.configured[service] = here;
            }
        });
    }

    async fn kill_file(&self) {
        let Some(life) = self.life.as_ref().filter(|life| life.stopping.is_none()) else { return };
        let says = self.with(|site| site.rng.one_in(2).then(|| "a drill".to_owned()));
        tell(&self.shared, &life.control, Input::KillFile { path: "/stop".into(), says }).await;
    }

    // People.

    /// Alone, a few at once, or a script that has lost its mind.
    fn people(&self) {
        let Some(life) = &self.life else { return };
        let count = self.with(|site| match site.rng.below(12) {
            0 => 350,
            1..=4 => 1 + site.rng.below(6),
            _ => 1,
        });
        let snapshot = life.handle.snapshot();
        if count > 100 {
            self.with(|site| site.count("burst of commands"));
        }
        let lost = self.command(&snapshot);
        for _ in 0..count {
            life.ask(if count > 100 { lost.clone() } else { self.command(&snapshot) }, false);
        }
        // The same answer, twice.
        if let Some(incident) = snapshot.incidents.iter().find(|incident| incident.open) {
            let (incident, twice) = (incident.id.to_string(), self.with(|site| site.rng.one_in(3)));
            if twice {
                for _ in 0..2 {
                    let command = Command::Approve { incident: incident.clone(), reason: "simulated".to_owned() };
                    life.ask(command, false);
                }
                life.ask(Command::Decline { incident, reason: "simulated".to_owned() }, false);
            }
        }
    }

    fn command(&self, snapshot: &Snapshot) -> Command {
        self.with(|site| {
            let reason = "simulated".to_owned();
            let service = site.fleets[site.rng.index(site.fleets.len())].service.to_string();
            let one = |site: &mut Site| site.rng.one_in(2).then(|| service.clone());
            let open: Vec<String> =
                snapshot.incidents.iter().filter(|incident| incident.open).map(|one| one.id.to_string()).collect();
            let incident = if open.is_empty() { "none".to_owned() } else { open[site.rng.index(open.len())].clone() };
            let duration = Duration::from_secs(1 + site.rng.below(60));
            match site.rng.below(15) {
                0 | 1 => Command::Approve { incident, reason },
                2 => Command::Decline { incident, reason },
                3 => Command::Acknowledge { incident, reason },
                4 => Command::Abort { incident, reason },
                5 => Command::Hold { incident, duration, reason },
                6 => Command::Pause { service: one(site), duration, reason },
                7 => Command::Resume { service: one(site), reason: "it is over".to_owned() },
                8 => Command::KillSwitch { service: one(site), on: site.rng.one_in(4), reason },
                9..=12 => Command::Rollback { service, reason, level: None, overrides: Vec::new() },
                13 => Command::TestNotify { receiver: None },
                _ => {
                    let signal = setup::SIGNAL.to_owned();
                    Command::RaiseSignal { service, signal, ttl: duration, detail: "CVE".to_owned() }
                }
            }
        })
    }

    // Healing.

    fn heal(&mut self) {
        self.note("the world heals");
        self.disk_back();
        let t = self.shared.t();
        self.with(|site| {
            (site.chaos, site.crash_in) = (false, None);
            for fleet in &mut site.fleets {
                fleet.count_all(t);
                fleet.heal();
            }
            site.receivers.values_mut().for_each(|manner| *manner = Manner::Takes);
        });
        self.starts = self.starts.min(t);
    }

    /// Nothing is switched off any more.
    async fn switch_on(&self) {
        let Some(life) = self.life.as_ref().filter(|life| life.stopping.is_none()) else { return };
        let services: Vec<String> =
            self.with(|site| site.fleets.iter().map(|fleet| fleet.service.to_string()).collect());
        let reason = || "it is over".to_owned();
        tell(&self.shared, &life.control, Input::KillFile { path: "/stop".into(), says: None }).await;
        for service in [None].into_iter().chain(services.into_iter().map(Some)) {
            life.ask(Command::KillSwitch { service: service.clone(), on: false, reason: reason() }, false);
            life.ask(Command::Resume { service, reason: reason() }, false);
        }
    }

    async fn rest(&mut self) -> Result<(), Broken> {
        // One that was told to stop is gone, and another one lives.
        self.advance(45 * SECOND).await?;
        self.switch_on().await;
        let until = self.shared.t() + HEALS_WITHIN_MS;
        loop {
            self.advance(20 * SECOND).await?;
            let rest = self.at_rest();
            if rest.is_ok() || self.shared.t() >= until {
                return rest;
            }
        }
    }

    fn at_rest(&self) -> Result<(), Broken> {
        let Some(life) = &self.life else { return Err("no daemon lives, and all is well".to_owned()) };
        let snapshot = life.handle.snapshot();
        let acts = ["running", "checking", "verifying", "undoing", "proposed", "firing", "held_by_person"];
        if let Some(incident) = snapshot.incidents.iter().find(|one| one.open && acts.contains(&one.state)) {
            return Err(format!("{} is still {} after healing: {}", incident.id, incident.state, incident.sentence));
        }
        self.with(|site| match site.disk.pending.len() {
            0 => site.judge.at_rest(),
            left => Err(format!("{left} turns are not written, and the disk is well")),
        })
    }
}

/// What must be so at any time.
fn watch(shared: &Shared, t: i64, stopping: bool) {
    let mut site = shared.site();
    if stopping || site.dead {
        return;
    }
    let Some(now) = site.clock.as_ref().map(backstop::platform::clock::Clock::monotonic) else { return };
    let turn_ms = i64::try_from(site.turn_cost.as_micros().div_ceil(1000)).unwrap_or(1);
    let well_since = site.journal_well_since;
    site.judge.watch(now, t, turn_ms, well_since);
    let since_alive = t - site.last_alive;
    if since_alive > ALIVE_WITHIN_MS {
        site.judge.fail(format!("systemd heard nothing for {since_alive} ms"));
    }
    let since_saved = site.last_saved.map_or(0, |saved| now.millis_since(saved));
    if since_saved > SAVED_WITHIN_MS {
        site.judge.fail(format!("windows were not saved for {since_saved} ms"));
    }
}
