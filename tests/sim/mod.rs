//! One seed: a service, a release, faults, and an oracle that sees only the world: steps, disk, notices.

use std::collections::{BTreeMap, BTreeSet};

use backstop::machine::input::Command;

use backstop::decide::event::{Attempt, Autonomy, Entry, IncidentEvent, IncidentId, NoticeStatus, Release};

use crate::support::*;

/// splitmix64
pub struct Rng(u64);

impl Rng {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound.max(1)
    }

    fn within(&mut self, from: i64, to: i64) -> i64 {
        from + i64::try_from(self.below((to - from).unsigned_abs())).unwrap_or(0)
    }

    fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    fn pick<T: Clone>(&mut self, of: &[T]) -> T {
        of[usize::try_from(self.below(of.len() as u64)).unwrap_or(0)].clone()
    }
}

/// What happened, over all seeds.
#[derive(Debug, Default)]
pub struct Tally {
    pub steps: usize,
    pub crashes: usize,
    pub recovered: usize,
    pub needs_human: usize,
    pub escalated: usize,
    pub superseded: usize,
    pub none: usize,
}

impl Tally {
    pub fn add(&mut self, other: &Tally) {
        self.steps += other.steps;
        self.crashes += other.crashes;
        self.recovered += other.recovered;
        self.needs_human += other.needs_human;
        self.escalated += other.escalated;
        self.superseded += other.superseded;
        self.none += other.none;
    }
}

struct Sim {
    world: World,
    rng: Rng,
    /// Since when the service fails whatever release runs.
    broken_before: bool,
    /// When a person last deployed.
    deployed: i64,
    /// How many of `world.seen` the oracle has judged.
    judged: usize,
    names_by_symlink: bool,
    takeover: Takeover,
    trace: bool,
}

/// When somebody else deploys in between.
#[derive(Clone, Copy, Debug)]
enum Takeover {
    Never,
    At(i64),
    DuringAStep,
}

fn setup(rng: &mut Rng) -> World {
    let mut service = service();
    service.detectors = match rng.below(3) {
        0 => vec![symlink()],
        1 => vec![symlink(), version_metric()],
        _ => vec![version_metric(), symlink()],
    };
    if rng.one_in(4) {
        service.autonomy = Autonomy::Propose;
    }
    let hold = 10 + rng.below(30);
    service.triggers = vec![error_rate(hold), down()];
    service.guard.good_after = secs(60);
    service.guard.cooldown = secs(if rng.one_in(2) { 0 } else { 3600 });
    service.respond_within = secs(60);
    service.remind_every = secs(120);
    let mut run = step("rollback");
    run.timeout = secs(20);
    run.idempotent = rng.one_in(2);
    let mut levels = vec![level("previous release", vec![run.clone()])];
    if rng.one_in(2) {
        let mut flag = step("flag");
        flag.timeout = secs(20);
        flag.idempotent = rng.one_in(2);
        levels.insert(0, level("flag off", vec![flag]));
    }
    if rng.one_in(4) {
        let mut note = step("note");
        note.timeout = secs(20);
        levels[0].steps.insert(0, note);
    }
    for level in &mut levels {
        level.verify.within = secs(30);
        level.verify.soak = secs(10);
    }
    service.ladder = levels;
    let processes = usize::try_from(1 + rng.below(3)).unwrap_or(1);
    let mut world = World::new(rules(vec![service]), processes);
    for (step, scripts) in [
        ("rollback", [Script::Helps, Script::Helps, Script::Nothing, Script::Fails, Script::HalfWorks]),
        ("flag", [Script::FlagOff, Script::Nothing, Script::Nothing, Script::Fails, Script::HalfWorks]),
        ("note", [Script::Nothing, Script::Nothing, Script::Nothing, Script::Nothing, Script::Fails]),
    ] {
        world.scripts.insert(step.to_owned(), rng.pick(&scripts));
    }
    world.step_ms = rng.within(0, 15 * SECOND);
    world
}

pub fn run(seed: u64, trace: bool) -> Result<Tally, String> {
    let mut rng = Rng(seed);
    let world = setup(&mut rng);
    let names_by_symlink = world.rules.services[0].detectors[0] == symlink();
    let mut sim = Sim {
        world,
        rng,
        broken_before: false,
        deployed: 0,
        judged: 0,
        names_by_symlink,
        takeover: Takeover::Never,
        trace,
    };
    let ended = sim.play();
    if trace || ended.is_err() {
        println!("{}", sim.tell());
    }
    ended
}

impl Sim {
    fn play(&mut self) -> Result<Tally, String> {
        self.advance(2 * MINUTE + self.world.now)?;
        self.broken_before = self.rng.one_in(5);
        if self.broken_before {
            self.world.fleet.errors_anyway = 0.5;
            self.advance(self.world.now + MINUTE)?;
        }
        self.deploy("r2");
        let chaos_ends = self.world.now + 6 * MINUTE;
        self.takeover = match self.rng.below(5) {
            0 => Takeover::At(self.rng.within(self.world.now, chaos_ends)),
            1 | 2 => Takeover::DuringAStep,
            _ => Takeover::Never,
        };
        while self.world.now < chaos_ends {
            self.fault();
            if self.rng.one_in(2) {
                self.world.checkpoint();
            }
            let until = self.world.now + self.rng.within(SECOND, 40 * SECOND);
            self.advance(until)?;
        }
        self.takeover = Takeover::Never;
        self.heal();
        self.advance(self.world.now + 12 * MINUTE)?;
        // A reminder may have been made at the last instant.
        self.advance(self.world.now + SECOND)?;
        self.judge_end()
    }

    fn deploy(&mut self, release: &str) {
        let behaviour = self.rng.pick(&[Behaviour::GOOD, Behaviour::BROKEN, Behaviour::BROKEN, Behaviour::CRASHES]);
        self.world.fleet.behaviours.insert(release.to_owned(), behaviour);
        self.world.fleet.deploy(release, self.world.now);
        self.deployed = self.world.now;
    }

    fn fault(&mut self) {
        let now = self.world.now;
        let until = now + self.rng.within(SECOND, 45 * SECOND);
        match self.rng.below(11) {
            0 => {
                let index = usize::try_from(self.rng.below(self.world.fleet.processes.len() as u64)).unwrap_or(0);
                self.world.fleet.processes[index].gap_until = until;
            }
            // The whole way to the service is dark: backstop is cut off.
            1 => self.world.fleet.processes.iter_mut().for_each(|process| process.cut_until = until),
            2 => {
                let up = self.rng.one_in(2);
                self.world.receivers_up.insert("oncall".to_owned(), up);
                self.world.receivers_up.insert("second".to_owned(), up || self.rng.one_in(2));
            }
            3 => self.world.disk_state = self.rng.pick(&[Disk::Writes, Disk::Stalls, Disk::Fails]),
            4 | 5 => self.world.crash_in = Some(u32::try_from(self.rng.below(12)).unwrap_or(0)),
            6 => self.world.fleet.symlink_readable = self.rng.one_in(2),
            7 => self.world.checkpoint(),
            8 | 9 => self.person(),
            _ => {}
        }
        if self.world.disk_state == Disk::Fails && self.rng.one_in(2) {
            self.mend_disk();
        }
    }

    /// Somebody answers, or interferes.
    fn person(&mut self) {
        let open: Vec<String> =
            self.world.incidents().iter().filter(|i| i.open).map(|incident| incident.id.to_string()).collect();
        let (reason, service) = ("simulated".to_owned(), None);
        let command = match (self.rng.below(6), open.first().cloned()) {
            (0, _) => Command::Pause { service, duration: secs(1 + self.rng.below(60)), reason },
            (1, _) => Command::Resume { service },
            (2, Some(incident)) => Command::Approve { incident, reason },
            (3, Some(incident)) => Command::Acknowledge { incident, reason },
            (4, Some(incident)) => Command::Abort { incident, reason },
            (5, Some(incident)) => Command::Decline { incident, reason },
            (_, _) => return,
        };
        self.world.order(command);
    }

    fn mend_disk(&mut self) {
        let failed = self.world.disk_state == Disk::Fails;
        self.world.disk_state = Disk::Writes;
        if failed {
            self.world.input(backstop::machine::input::Input::JournalBack);
        }
    }

    fn heal(&mut self) {
        self.world.crash_in = None;
        self.mend_disk();
        self.world.receivers_up.clear();
        self.world.fleet.symlink_readable = true;
        for process in &mut self.world.fleet.processes {
            (process.cut_until, process.gap_until) = (0, 0);
        }
    }

    /// Runs, and lets the daemon come back when it dies.
    fn advance(&mut self, until: i64) -> Result<(), String> {
        while self.world.now < until {
            let lives = self.world.next(until);
            self.judge()?;
            let now = match self.takeover {
                Takeover::Never => false,
                Takeover::At(at) => at <= self.world.now,
                Takeover::DuringAStep => !self.world.steps.is_empty(),
            };
            if now {
                self.takeover = Takeover::Never;
                self.deploy("r3");
            }
            if !lives {
                self.die();
                self.judge()?;
            }
        }
        Ok(())
    }

    fn die(&mut self) {
        let appended = self.world.unacknowledged.len() as u64;
        let kept = usize::try_from(self.rng.below(appended + 1)).unwrap_or(0);
        self.world.crash(kept);
        if self.world.disk_state == Disk::Fails {
            self.world.disk_state = Disk::Writes;
        }
        for step in std::mem::take(&mut self.world.steps) {
            if self.rng.one_in(2) {
                self.world.effect(&step);
            }
        }
        let remembered = usize::try_from(self.rng.below(self.world.checkpoints.len() as u64 + 1)).unwrap_or(0);
        self.world.checkpoints.truncate(remembered);
        self.world.now += self.rng.within(0, 30 * SECOND);
        self.world.start();
    }

    /// Judges what happened since it was last called.
    fn judge(&mut self) -> Result<(), String> {
        let seen: Vec<Seen> = self.world.seen[self.judged..].to_vec();
        self.judged = self.world.seen.len();
        for seen in seen {
            let Seen::StepBegan { at, order, symlink, intent_on_disk } = seen else { continue };
            if !intent_on_disk {
                return Err(format!("{at}: promise 3: {:?} began before its intent was durable", order.attempt));
            }
            let name = |release: &Option<Release>| {
                release.as_ref().map_or(String::new(), |release| release.0.trim_end_matches("-bin").to_owned())
            };
            let (bad, target) = (name(&order.bad), name(&order.target));
            let behaviour = self.world.fleet.behaviour(&bad);
            if behaviour == Behaviour::GOOD {
                return Err(format!("{at}: promise 2: a step began against {bad}, which is good"));
            }
            // A release that dies is wrong in a way that the service was not before.
            if self.broken_before && bad == "r2" && !behaviour.crashes {
                return Err(format!("{at}: a step began although the service was broken before {bad}"));
            }
            // A deployment is seen one look later; by the process itself when that has started and was scraped.
            let unseen = if self.names_by_symlink { INTERVAL + 50 } else { 4 * INTERVAL };
            let is_ours = symlink == bad || symlink == target;
            if !is_ours && at - self.deployed > unseen && self.world.fleet.symlink_readable {
                return Err(format!("{at}: promise 5: a step began against {bad} while {symlink} runs"));
            }
        }
        self.judge_disk()
    }

    fn judge_disk(&self) -> Result<(), String> {
        let mut admitted: BTreeMap<String, BTreeSet<IncidentId>> = BTreeMap::new();
        for record in &self.world.disk {
            if let Entry::Incident { incident, event } = &record.entry
                && let IncidentEvent::Admitted { plan, .. } = &**event
            {
                admitted.entry(plan.bad.to_string()).or_default().insert(incident.clone());
            }
        }
        if let Some((release, incidents)) = admitted.iter().find(|(_, incidents)| incidents.len() > 1) {
            return Err(format!("promise 1: {release} was admitted by {incidents:?}"));
        }
        let mut begun: BTreeMap<(IncidentId, usize, usize), u32> = BTreeMap::new();
        let mut attempts: BTreeSet<(IncidentId, Attempt)> = BTreeSet::new();
        for order in self.world.steps_begun() {
            let times = begun.entry((order.incident.clone(), order.attempt.level, order.attempt.step)).or_default();
            *times += 1;
            if !order.step.idempotent && *times > 1 {
                return Err(format!("promise 3: {} ran twice, but is not idempotent", order.step.name));
            }
            if !attempts.insert((order.incident.clone(), order.attempt)) {
                return Err(format!("promise 3: two effects of {:?} of {}", order.attempt, order.incident));
            }
        }
        Ok(())
    }

    /// After healing: nothing is forgotten, nobody is left untold.
    fn judge_end(&self) -> Result<Tally, String> {
        let mut tally = Tally {
            steps: self.world.steps_begun().len(),
            crashes: self.world.seen.iter().filter(|seen| matches!(seen, Seen::Crashed { .. })).count(),
            ..Tally::default()
        };
        let incidents = self.world.incidents();
        for incident in &incidents {
            match incident.state {
                "recovered" => tally.recovered += 1,
                "needs_human" => tally.needs_human += 1,
                "escalated" | "held" => tally.escalated += 1,
                "superseded" => tally.superseded += 1,
                "cleared" | "expired" | "declined" | "aborted" => {}
                other => return Err(format!("promise 4: {} is still {other} after healing", incident.id)),
            }
        }
        tally.none += usize::from(incidents.is_empty());
        self.judge_attempts()?;
        self.judge_notices()?;
        for receiver in self.world.snapshot().receivers {
            if receiver.queued > 0 || receiver.dead > 0 {
                return Err(format!(
                    "promise 6: {} has {} waiting, {} dead",
                    receiver.name, receiver.queued, receiver.dead
                ));
            }
        }
        Ok(tally)
    }

    fn judge_attempts(&self) -> Result<(), String> {
        let mut open: BTreeSet<(IncidentId, Attempt)> = BTreeSet::new();
        for record in &self.world.disk {
            if let Entry::Incident { incident, event } = &record.entry {
                match &**event {
                    IncidentEvent::StepIntended { attempt, .. } => {
                        open.insert((incident.clone(), *attempt));
                    }
                    IncidentEvent::StepFinished { attempt, .. } => {
                        open.remove(&(incident.clone(), *attempt));
                    }
                    _ => {}
                }
            }
        }
        match open.first() {
            Some((incident, attempt)) => Err(format!("promise 3: {attempt:?} of {incident} is forgotten")),
            None => Ok(()),
        }
    }

    /// Every episode that was told ends with exactly one notice that resolves it, when it has ended.
    fn judge_notices(&self) -> Result<(), String> {
        let mut episodes: BTreeMap<String, Vec<(NoticeStatus, String)>> = BTreeMap::new();
        for record in &self.world.disk {
            if let Entry::NoticeQueued { notice, .. } = &record.entry
                && let Some(incident) = &notice.incident
            {
                let told = episodes.entry(notice.dedup_key.clone()).or_default();
                told.push((notice.status, incident.to_string()));
            }
        }
        let incidents = self.world.incidents();
        let mut newest: BTreeMap<&str, &str> = BTreeMap::new();
        for (key, told) in &episodes {
            newest.insert(&told[0].1, key);
        }
        for (key, told) in &episodes {
            let resolved = told.iter().filter(|(status, _)| *status == NoticeStatus::Resolved).count();
            let last_resolves = told.last().is_some_and(|(status, _)| *status == NoticeStatus::Resolved);
            let is_open = newest.get(told[0].1.as_str()) == Some(&key.as_str())
                && incidents.iter().any(|incident| *incident.id.0 == *told[0].1 && incident.open);
            let fits = if is_open { resolved == 0 } else { resolved == 1 && last_resolves };
            if !fits {
                return Err(format!("promise 4: {key} was told as {told:?}, open: {is_open}"));
            }
        }
        for record in &self.world.disk {
            if let Entry::NoticeQueued { notice, receivers } = &record.entry {
                for receiver in receivers {
                    let reached = self.world.seen.iter().any(|seen| {
                        matches!(seen, Seen::Delivered { receiver: to, notice: got, .. } if to == receiver && got.id == notice.id)
                    });
                    if !reached {
                        return Err(format!("promise 6: {} never reached {receiver}", notice.id));
                    }
                }
            }
        }
        Ok(())
    }

    fn tell(&self) -> String {
        let behaviours = &self.world.fleet.behaviours;
        let scripts = &self.world.scripts;
        let detectors: Vec<_> = self.world.rules.services[0].detectors.iter().map(|d| d.describe.clone()).collect();
        let mut text = format!(
            "{behaviours:?}\n{scripts:?}\n{detectors:?}\nbroken before: {}, deployed {}\n",
            self.broken_before, self.deployed
        );
        let mut lines = Vec::new();
        for seen in &self.world.seen {
            match seen {
                Seen::StepBegan { at, order, symlink, .. } => {
                    lines.push(format!("{at} began {} {:?} while {symlink}", order.step.name, order.attempt));
                }
                Seen::StepEnded { at, order, outcome } => {
                    lines.push(format!("{at} ended {} {outcome:?}", order.step.name));
                }
                Seen::Crashed { at } => lines.push(format!("{at} crashed")),
                Seen::Delivered { .. } => {}
            }
        }
        text += &lines.join("\n");
        if self.trace || self.world.machine.is_some() {
            text.push('\n');
            text += &self.world.story();
        }
        text
    }
}
