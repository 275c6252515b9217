//! The judge. It sees the world alone: what really failed, what was handed to backstop, which steps really began, what is
//! durable on the disk, and what reached a receiver. Never backstop's own state.
//!
//! Everything is kept incrementally, so that a judgement costs the same however long a seed is.
//!
//! Length: one judge; its rules read the same few facts.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use backstop::decide::event::{
    Attempt, Autonomy, DecisionKind, Entry, IncidentEvent, IncidentId, Notice, NoticeStatus, Plan, Record,
};
use backstop::decide::incident::deadline;
use backstop::decide::rules::{BlockerQuestion, DetectorKind, Rules, ServiceRules};
use backstop::machine::output::StepOrder;
use backstop::time::Timestamp;

use super::disk::Turn;
use super::fleet::{ENVIRONMENT, Fleet, ReleaseNo};
use crate::support::{INTERVAL, SECOND};

/// A promise that was broken, in one sentence.
pub type Broken = String;

/// A breach is seen as long as a window (60 s at low traffic) after the failure has ended.
const SEEN_AFTER_MS: i64 = 75 * SECOND;

/// A release is seen this much later than it came, at most, when its detectors can be read.
const SEEN_LATE_MS: i64 = 90 * SECOND;

/// A failure that went on this long before a release came, with every look at it successful, is known to backstop.
const KNOWN_AFTER_MS: i64 = 75 * SECOND;

/// Complete looks in a row right before a release that prove that backstop saw what was wrong before it.
const LOOKS_BEFORE: u32 = 6;

/// How late a deadline may be noticed while disk and process are well.
const LATE_MAX_MS: i64 = 15 * SECOND;

/// The release that a lying process shows.
pub const NEVER_WAS: &str = "r99-bin";

/// An idempotent step whose outcome is not known runs at most this often (README).
const TRIES_MAX: u32 = 3;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stands {
    Waiting,
    /// Asks a person until then.
    Asking(Timestamp),
    Acting,
    AsksToClimb(Timestamp),
    Human,
    Over,
}

#[derive(Debug)]
struct Told {
    service: usize,
    stands: Stands,
    /// What the opening blamed.
    release: Option<String>,
    plan: Option<Plan>,
    deadline: Timestamp,
    admitted: Option<Timestamp>,
    ended: Option<Timestamp>,
    /// The world's time.
    opened: i64,
    ordered: bool,
    /// Its level was begun, and no step of it yet.
    begins: bool,
    approved: bool,
    /// How often each level, and each undo, was begun.
    runs: BTreeMap<(usize, bool), u32>,
    begun: BTreeMap<(usize, bool, usize), u32>,
    /// What said, or was found, not to have worked: it may be tried again.
    failed: BTreeSet<Attempt>,
    /// Durable intents; true once they have finished.
    intents: BTreeMap<Attempt, bool>,
    effects: BTreeSet<Attempt>,
    key: String,
}

#[derive(Debug)]
struct Accepted {
    waiting: BTreeSet<String>,
    reached: BTreeSet<String>,
    text: String,
}

#[derive(Debug, Default)]
struct Episode {
    firing: u32,
    resolved: u32,
    incident: String,
}

/// One thing that went wrong, from when to when.
#[derive(Clone, Copy, Debug)]
struct Failure {
    blame: ReleaseNo,
    from: i64,
    last: i64,
}

/// What is known of one service, from outside.
#[derive(Debug, Default)]
struct Watched {
    failures: Vec<Failure>,
    /// When each release was first put into place.
    deployed: BTreeMap<ReleaseNo, i64>,
    /// The environment was wrong and seen to be, when the release came.
    wrong_before: BTreeSet<ReleaseNo>,
    complete_looks: u32,
    lied: Option<i64>,
    signalled: Option<i64>,
    outside: Option<String>,
    inside: BTreeMap<usize, (i64, String)>,
    running: BTreeSet<(IncidentId, Attempt)>,
    paused: Option<Timestamp>,
}

#[derive(Debug)]
pub struct Oracle {
    services: Vec<Watched>,
    incidents: BTreeMap<IncidentId, Told>,
    open: BTreeSet<IncidentId>,
    admitted: BTreeMap<(usize, String), IncidentId>,
    admissions: Vec<(usize, IncidentId, Timestamp)>,
    notices: BTreeMap<String, Accepted>,
    /// Notices that left while the journal could not be written.
    early: BTreeMap<String, BTreeSet<String>>,
    episodes: BTreeMap<String, Episode>,
    paused: Option<Timestamp>,
    /// When the network went, and when it comes back.
    dark: (i64, i64),
    /// Since when process, disk and clock are well.
    well_since: i64,
}

impl Oracle {
    pub fn new(services: usize) -> Oracle {
        Oracle {
            services: (0..services).map(|_| Watched::default()).collect(),
            incidents: BTreeMap::new(),
            open: BTreeSet::new(),
            admitted: BTreeMap::new(),
            admissions: Vec::new(),
            notices: BTreeMap::new(),
            early: BTreeMap::new(),
            episodes: BTreeMap::new(),
            paused: None,
            dark: (0, 0),
            well_since: 0,
        }
    }

    // What the world does.

    pub fn deployed(&mut self, service: usize, release: ReleaseNo, t: i64) {
        let watched = &mut self.services[service];
        watched.deployed.entry(release).or_insert(t);
        let wrong = watched.failures.iter().any(|failure| {
            failure.blame == ENVIRONMENT && failure.last >= t - 2 * INTERVAL && failure.from + KNOWN_AFTER_MS < t
        });
        if wrong && watched.complete_looks >= LOOKS_BEFORE && t > watched.lied.unwrap_or(i64::MIN) + SEEN_AFTER_MS {
            watched.wrong_before.insert(release);
        }
    }

    /// What fails now; called at every look and at every change.
    pub fn truth(&mut self, service: usize, fleet: &Fleet, t: i64) {
        let failures = &mut self.services[service].failures;
        fleet.failing(t, |blame| {
            let same = failures.iter_mut().rev().find(|failure| failure.blame == blame);
            match same {
                Some(failure) if t - failure.last <= 2 * INTERVAL + SECOND => failure.last = t,
                Some(_) | None => failures.push(Failure { blame, from: t, last: t }),
            }
        });
    }

    /// Every target of the service was looked at with success and honesty, or not.
    pub fn looked(&mut self, service: usize, complete: bool) {
        let watched = &mut self.services[service];
        watched.complete_looks = if complete { watched.complete_looks + 1 } else { 0 };
    }

    pub fn lied(&mut self, service: usize, t: i64) {
        self.services[service].lied = Some(t);
    }

    pub fn signalled(&mut self, service: usize, until: i64) {
        let watched = &mut self.services[service];
        watched.signalled = watched.signalled.max(Some(until));
    }

    pub fn handed_outside(&mut self, service: usize, value: Option<&str>) {
        self.services[service].outside = value.map(str::to_owned);
    }

    pub fn handed_inside(&mut self, service: usize, process: usize, value: Option<String>, t: i64) {
        let inside = &mut self.services[service].inside;
        match value {
            Some(value) => drop(inside.insert(process, (t, value))),
            None => drop(inside.remove(&process)),
        }
    }

    /// Nothing gets through from now until then.
    pub fn dark(&mut self, t: i64, until: i64) {
        let from = if t < self.dark.1 { self.dark.0 } else { t };
        self.dark = (from, until);
    }

    /// From here on nothing excuses a late answer.
    pub fn well_from(&mut self, t: i64) {
        self.well_since = self.well_since.max(t);
    }

    /// Another daemon begins: nothing was handed to it yet.
    pub fn restarted(&mut self) {
        for watched in &mut self.services {
            watched.outside = None;
            watched.inside.clear();
            watched.running.clear();
            watched.complete_looks = 0;
        }
    }

    // What backstop does.

    pub fn step_begins(
        &mut self,
        order: &StepOrder,
        service: usize,
        rules: &ServiceRules,
        t: i64,
    ) -> Result<(), Broken> {
        let (id, attempt) = (&order.incident, order.attempt);
        let Some(told) = self.incidents.get_mut(id) else {
            return Err(format!("promise 3: {attempt:?} of {id} began, and nothing of {id} is durable"));
        };
        match told.intents.get(&attempt) {
            None => return Err(format!("promise 3: {attempt:?} of {id} began before its intent was durable")),
            Some(true) => return Err(format!("promise 3: {attempt:?} of {id} began after it had finished")),
            Some(false) => {}
        }
        if !told.effects.insert(attempt) {
            return Err(format!("promise 3: two effects of {attempt:?} of {id}"));
        }
        let times = told.begun.entry((attempt.level, attempt.undo, attempt.step)).or_default();
        *times += 1;
        let runs = told.runs.get(&(attempt.level, attempt.undo)).copied().unwrap_or(0);
        let retries = order.step.retry.map_or(0, |retry| retry.times) + 1;
        let most = if order.step.idempotent { TRIES_MAX.max(retries) } else { retries };
        if *times > most * runs {
            let (name, times) = (&order.step.name, *times);
            return Err(format!("promise 3: {name} of {id} ran {times} times; its level was begun {runs} times"));
        }
        let before = Attempt { attempt: attempt.attempt.saturating_sub(1), ..attempt };
        let again = told.effects.contains(&before) && !told.failed.contains(&before);
        if again && !order.step.idempotent && *times > runs {
            return Err(format!("promise 3: {attempt:?} of {id} began, and the try before may have worked"));
        }
        let watched = &mut self.services[service];
        if let Some((other, running)) = watched.running.first() {
            return Err(format!("{attempt:?} of {id} began while {running:?} of {other} runs"));
        }
        watched.running.insert((id.clone(), attempt));
        let plain = |name: &str| name.strip_suffix("-bin").unwrap_or(name).to_owned();
        let ours: Vec<String> = order.bad.iter().chain(&order.target).map(|release| plain(&release.0)).collect();
        let foreign = |shown: &str| !ours.contains(&plain(shown));
        let shown = match rules.detectors.first().map(|detector| &detector.kind) {
            Some(DetectorKind::Outside) => watched.outside.clone(),
            Some(DetectorKind::Metric { .. }) => watched
                .inside
                .values()
                .find(|(at, shown)| t - at <= 2 * INTERVAL && foreign(shown))
                .map(|(_, shown)| shown.clone()),
            Some(DetectorKind::Probe { .. } | DetectorKind::Announced) | None => None,
        };
        match shown {
            // A name that never was may be taken for another name of what runs.
            Some(shown) if foreign(&shown) && shown != NEVER_WAS => {
                Err(format!("promise 5: {attempt:?} of {id} began against {ours:?}, and backstop was shown {shown}"))
            }
            Some(_) | None => Ok(()),
        }
    }

    pub fn known_not_to_have_worked(&mut self, id: &IncidentId, attempt: Attempt) {
        if let Some(told) = self.incidents.get_mut(id) {
            told.failed.insert(attempt);
        }
    }

    pub fn step_ends(&mut self, service: usize, id: &IncidentId, attempt: Attempt) {
        self.services[service].running.remove(&(id.clone(), attempt));
    }

    /// A receiver has a notice.
    pub fn delivered(&mut self, receiver: &str, notice: &Notice, journal_failing: bool) -> Result<(), Broken> {
        match self.notices.get_mut(&notice.id) {
            Some(accepted) => {
                accepted.waiting.remove(receiver);
                accepted.reached.insert(receiver.to_owned());
                if accepted.text != notice.text {
                    let (id, was, is) = (&notice.id, &accepted.text, &notice.text);
                    return Err(format!("promise 6: notice {id} was {was:?} and is {is:?}"));
                }
                Ok(())
            }
            None if journal_failing => {
                self.early.entry(notice.id.clone()).or_default().insert(receiver.to_owned());
                Ok(())
            }
            None => Err(format!("promise 6: {} left before it was durable: {}", notice.id, notice.text)),
        }
    }

    /// A turn is durable now.
    pub fn durable(&mut self, turn: &Turn, fleets: &[Fleet]) -> Result<(), Broken> {
        for record in &turn.records {
            self.record(record, turn, fleets)?;
        }
        Ok(())
    }

    fn record(&mut self, record: &Record, turn: &Turn, fleets: &[Fleet]) -> Result<(), Broken> {
        match &record.entry {
            Entry::Incident { incident, event } => {
                self.event(incident, event, record, turn, fleets)?;
                self.must_be_told(incident, event, turn)
            }
            Entry::NoticeQueued { notice, receivers } => self.accepted(notice, receivers),
            Entry::NoticeDelivered { notice, receiver } => match self.notices.get(notice) {
                Some(accepted) if accepted.reached.contains(receiver) => Ok(()),
                Some(_) | None => Err(format!("promise 6: {notice} is said to have reached {receiver}, and has not")),
            },
            Entry::NoticeDead { notice, receiver, .. } => {
                if let Some(accepted) = self.notices.get_mut(notice) {
                    accepted.waiting.remove(receiver);
                }
                Ok(())
            }
            Entry::NoticeFellBack { notice, fallback, .. } => {
                if let Some(accepted) = self.notices.get_mut(notice)
                    && !accepted.reached.contains(fallback)
                {
                    accepted.waiting.insert(fallback.clone());
                }
                Ok(())
            }
            Entry::Paused { service, until, .. } => {
                match service.as_ref().and_then(|name| place_of(name, fleets)) {
                    Some(place) => self.services[place].paused = Some(*until),
                    None => self.paused = Some(*until),
                }
                Ok(())
            }
            Entry::Resumed { service, .. } => {
                match service.as_ref().and_then(|name| place_of(name, fleets)) {
                    Some(place) => self.services[place].paused = None,
                    None => self.paused = None,
                }
                Ok(())
            }
            Entry::DaemonStarted { .. }
            | Entry::ReleaseSeen { .. }
            | Entry::ReleaseGood { .. }
            | Entry::ReleaseBad { .. }
            | Entry::ReleaseForgotten { .. }
            | Entry::KillSwitch { .. }
            | Entry::SignalRaised { .. }
            | Entry::SignalCleared { .. }
            | Entry::Command(_) => Ok(()),
        }
    }

    fn accepted(&mut self, notice: &Notice, receivers: &[String]) -> Result<(), Broken> {
        let reached = self.early.remove(&notice.id).unwrap_or_default();
        let accepted = Accepted {
            waiting: receivers.iter().filter(|receiver| !reached.contains(*receiver)).cloned().collect(),
            reached,
            text: notice.text.clone(),
        };
        if self.notices.insert(notice.id.clone(), accepted).is_some() {
            return Err(format!("promise 6: two notices are called {}", notice.id));
        }
        let Some(incident) = &notice.incident else { return Ok(()) };
        if let Some(told) = self.incidents.get_mut(incident) {
            told.key.clone_from(&notice.dedup_key);
        }
        let episode = self.episodes.entry(notice.dedup_key.clone()).or_default();
        episode.incident = incident.to_string();
        if episode.resolved > 0 {
            return Err(format!(
                "promise 4: {} was told after the notice that resolves it: {}",
                notice.dedup_key, notice.text
            ));
        }
        match notice.status {
            NoticeStatus::Firing => episode.firing += 1,
            NoticeStatus::Resolved => episode.resolved += 1,
        }
        Ok(())
    }

    /// Whom it concerns is told in the same turn.
    fn must_be_told(&self, id: &IncidentId, event: &IncidentEvent, turn: &Turn) -> Result<(), Broken> {
        let must = match event {
            IncidentEvent::NeedsHuman { .. } | IncidentEvent::Proposed { .. } | IncidentEvent::Admitted { .. } => true,
            IncidentEvent::Judged { decision } => match decision.kind {
                DecisionKind::Hold | DecisionKind::Escalate | DecisionKind::WouldRollBack => true,
                DecisionKind::RollBack | DecisionKind::Propose => false,
            },
            IncidentEvent::Recovered { .. } | IncidentEvent::Superseded { .. } | IncidentEvent::Expired => {
                let told = self.incidents.get(id).and_then(|told| self.episodes.get(&told.key));
                told.is_some_and(|episode| episode.firing > 0 && episode.resolved == 0)
            }
            _ => false,
        };
        let is_told = turn.records.iter().any(
            |record| matches!(&record.entry, Entry::NoticeQueued { notice, .. } if notice.incident.as_ref() == Some(id)),
        );
        if must && !is_told {
            return Err(format!("promise 4: nobody is told of {event:?} of {id}"));
        }
        Ok(())
    }

    // Length: one arm per event.
    fn event(
        &mut self,
        id: &IncidentId,
        event: &IncidentEvent,
        record: &Record,
        turn: &Turn,
        fleets: &[Fleet],
    ) -> Result<(), Broken> {
        if let IncidentEvent::Opened { service, release, .. } = event {
            let service = place_of(service, fleets).ok_or_else(|| format!("{id} is of no service: {service}"))?;
            let told = Told {
                service,
                stands: Stands::Waiting,
                release: release.as_ref().map(ToString::to_string),
                plan: None,
                deadline: Timestamp::MAX,
                admitted: None,
                ended: None,
                opened: turn.at,
                ordered: false,
                begins: false,
                approved: false,
                runs: BTreeMap::new(),
                begun: BTreeMap::new(),
                failed: BTreeSet::new(),
                intents: BTreeMap::new(),
                effects: BTreeSet::new(),
                key: String::new(),
            };
            self.incidents.insert(id.clone(), told);
            self.open.insert(id.clone());
            return Ok(());
        }
        if let IncidentEvent::Admitted { plan, actor, .. } = event {
            self.admitted(id, plan, actor.is_some(), record, turn, fleets)?;
        }
        let paused = self.incidents.get(id).is_some_and(|told| self.is_paused(told.service, record.at));
        let Some(told) = self.incidents.get_mut(id) else { return Err(format!("{id} was never opened: {event:?}")) };
        match event {
            IncidentEvent::Reopened { .. } => {
                told.stands = Stands::Waiting;
                (told.plan, told.admitted, told.ended, told.opened) = (None, None, None, turn.at);
                self.open.insert(id.clone());
            }
            IncidentEvent::Proposed { respond_by, .. } => {
                let acting = told.admitted.is_some();
                told.stands = if acting { Stands::AsksToClimb(*respond_by) } else { Stands::Asking(*respond_by) };
            }
            IncidentEvent::Judged { .. } => told.stands = Stands::Waiting,
            IncidentEvent::Approved { .. } => told.approved = true,
            IncidentEvent::Admitted { plan, deadline, .. } => {
                told.stands = Stands::Acting;
                told.deadline = *deadline;
                told.admitted = Some(record.at);
                *told.runs.entry((plan.start_level, false)).or_default() += 1;
                told.ordered = std::mem::take(&mut told.approved);
                told.begins = true;
                told.plan = Some((**plan).clone());
            }
            IncidentEvent::Climbed { to } => {
                let plan = told.plan.as_ref().ok_or_else(|| format!("{id} climbs without a plan"))?;
                if matches!(told.stands, Stands::Human | Stands::AsksToClimb(_)) {
                    if !told.approved {
                        return Err(format!("{id} goes on at level {} although nobody said so", to + 1));
                    }
                    told.deadline = told.deadline.max(deadline(plan, *to, record.at));
                }
                let careful = plan.levels.get(*to).and_then(|level| level.autonomy);
                if careful.is_some_and(|autonomy| autonomy < Autonomy::Act) && !told.approved {
                    return Err(format!("{id} climbed to level {}, which a person decides about", to + 1));
                }
                *told.runs.entry((*to, false)).or_default() += 1;
                told.ordered = std::mem::take(&mut told.approved);
                told.begins = true;
                told.stands = Stands::Acting;
            }
            IncidentEvent::StepIntended { attempt, .. } => {
                let begins = attempt.step == 0 && !attempt.undo && std::mem::take(&mut told.begins);
                if begins && paused && !told.ordered {
                    return Err(format!("{id} begins level {} while it is paused", attempt.level + 1));
                }
                told.intents.insert(*attempt, false);
            }
            IncidentEvent::StepFinished { attempt, .. } => match told.intents.get_mut(attempt) {
                Some(finished) if !*finished => *finished = true,
                Some(_) | None => {
                    return Err(format!("promise 3: {attempt:?} of {id} finished, and was not under way"));
                }
            },
            IncidentEvent::UndoBegan { level } => *told.runs.entry((*level, true)).or_default() += 1,
            IncidentEvent::NeedsHuman { .. } => told.stands = Stands::Human,
            IncidentEvent::Recovered { .. }
            | IncidentEvent::Superseded { .. }
            | IncidentEvent::Aborted { .. }
            | IncidentEvent::Declined { .. }
            | IncidentEvent::Expired
            | IncidentEvent::Cleared => {
                told.stands = Stands::Over;
                told.ended = Some(record.at);
                self.open.remove(id);
            }
            _ => {}
        }
        Ok(())
    }

    fn is_paused(&self, service: usize, at: Timestamp) -> bool {
        [self.paused, self.services[service].paused].into_iter().flatten().any(|until| at < until)
    }

    fn admitted(
        &mut self,
        id: &IncidentId,
        plan: &Plan,
        ordered: bool,
        record: &Record,
        turn: &Turn,
        fleets: &[Fleet],
    ) -> Result<(), Broken> {
        let Some(told) = self.incidents.get(id) else { return Err(format!("{id} was never opened")) };
        let (service, t) = (told.service, turn.at);
        let release = plan.bad.to_string();
        if let Some(other) = self.admitted.insert((service, release.clone()), id.clone())
            && other != *id
        {
            return Err(format!("promise 1: {release} was admitted by {other} and by {id}"));
        }
        Oracle::on_firm_ground(id, &fleets[service], turn, ordered)?;
        if !ordered {
            let Some(rules) = turn.rules.services.iter().find(|rules| rules.name == fleets[service].service) else {
                return Err(format!("{id} was admitted for a service that is not configured"));
            };
            self.by_itself(id, plan, rules, &turn.rules, record.at)?;
            self.deserved(id, service, &release, rules, t, &fleets[service])?;
        }
        self.admissions.push((service, id.clone(), record.at));
        Ok(())
    }

    /// What its checks would have said for long enough: no blocker holds, and the way back is there. The simulation's
    /// people never override.
    fn on_firm_ground(id: &IncidentId, fleet: &Fleet, turn: &Turn, ordered: bool) -> Result<(), Broken> {
        let Some(rules) = turn.rules.services.iter().find(|rules| rules.name == fleet.service) else { return Ok(()) };
        let answered = |max_age: Duration| turn.at - millis(max_age) - 5 * SECOND;
        for blocker in &rules.guard.blockers {
            if let BlockerQuestion::Check { max_age, .. } = &blocker.question
                && fleet.blocked.is_some_and(|since| since < answered(*max_age))
            {
                return Err(format!("{id} was admitted although {} has held since {:?}", blocker.name, fleet.blocked));
            }
        }
        let is_gone = fleet.image_gone.is_some_and(|since| since < answered(rules.guard.ready_max_age()));
        if is_gone && !ordered && !rules.guard.ready.is_empty() {
            return Err(format!("{id} was admitted although its way back is gone since {:?}", fleet.image_gone));
        }
        Ok(())
    }

    /// May backstop act without being told to?
    fn by_itself(
        &self,
        id: &IncidentId,
        plan: &Plan,
        rules: &ServiceRules,
        all: &Rules,
        at: Timestamp,
    ) -> Result<(), Broken> {
        let service = self.incidents[id].service;
        if rules.autonomy != Autonomy::Act {
            return Err(format!("{id} was admitted although autonomy is {:?}", rules.autonomy));
        }
        let careful = plan.levels.get(plan.start_level).and_then(|level| level.autonomy);
        if careful.is_some_and(|autonomy| autonomy < Autonomy::Act) {
            return Err(format!("{id} was admitted at a level that a person decides about"));
        }
        if self.is_paused(service, at) {
            return Err(format!("{id} was admitted while it is paused"));
        }
        let others = self.admissions.iter().filter(|(of, other, _)| *of == service && other != id);
        for (_, other, admitted) in others {
            let ended = self.incidents.get(other).and_then(|told| told.ended).unwrap_or(*admitted).max(*admitted);
            if at < ended + rules.guard.cooldown {
                return Err(format!("{id} was admitted within the cooldown after {other}"));
            }
        }
        let spent = |window: Duration, mine: bool| {
            let recent = self
                .admissions
                .iter()
                .filter(|(of, _, admitted)| (!mine || *of == service) && at.since(*admitted) < window);
            recent.count()
        };
        let over = |budget: Option<backstop::decide::rules::Budget>, mine| {
            budget.is_some_and(|budget| spent(budget.window, mine) >= budget.rollbacks as usize)
        };
        if over(rules.guard.budget, true) || over(all.budget, false) {
            return Err(format!("{id} was admitted over budget"));
        }
        Ok(())
    }

    /// Was it this release that failed, as far as anybody could see?
    fn deserved(
        &self,
        id: &IncidentId,
        service: usize,
        release: &str,
        rules: &ServiceRules,
        t: i64,
        fleet: &Fleet,
    ) -> Result<(), Broken> {
        let watched = &self.services[service];
        if t > self.dark.0 + 2 * INTERVAL + SECOND && t < self.dark.1 {
            return Err(format!("{id} was admitted while backstop is cut off"));
        }
        if watched.lied.is_some_and(|at| t - at <= SEEN_AFTER_MS) {
            return Ok(());
        }
        if watched.signalled.is_some_and(|until| t <= until + SECOND) {
            return Ok(());
        }
        let Some(bad) = fleet.release_of(release) else {
            // A detector told of a release that never was.
            return Ok(());
        };
        let recent = |failure: &&Failure| failure.last >= t - SEEN_AFTER_MS;
        let came = watched.deployed.get(&bad).copied().unwrap_or(i64::MIN);
        // What came at nearly the same time cannot be told from it; nor, from inside the processes alone, what never
        // answered from what answers beside it.
        let names_outside =
            matches!(rules.detectors.first().map(|detector| &detector.kind), Some(DetectorKind::Outside));
        let inside = !names_outside || watched.outside.is_none();
        let alike = |release: ReleaseNo| {
            let other = watched.deployed.get(&release);
            other.is_some_and(|other| (came - other).abs() < SEEN_LATE_MS || (inside && *other > came))
        };
        if watched.failures.iter().filter(recent).any(|failure| failure.blame == bad || alike(failure.blame)) {
            return Ok(());
        }
        let latest = came.saturating_add(millis(rules.guard.release_window) + SEEN_LATE_MS);
        let after = |failure: &&Failure| {
            failure.blame == ENVIRONMENT && failure.from <= latest && !watched.wrong_before.contains(&bad)
        };
        if watched.failures.iter().filter(recent).any(|failure| after(&failure)) {
            return Ok(());
        }
        let recent: Vec<_> = watched.failures.iter().filter(recent).collect();
        let before = watched.wrong_before.contains(&bad);
        Err(format!(
            "promise 2: {id} rolls {release} back, which is not to blame (came at {came}, wrong before: {before}; failing: {recent:?})"
        ))
    }

    // What must follow.

    /// Called at each look: nothing is late.
    pub fn watch(&self, mono: Timestamp, t: i64) -> Result<(), Broken> {
        if t - self.well_since < LATE_MAX_MS {
            return Ok(());
        }
        for id in &self.open {
            let told = &self.incidents[id];
            let limit = match told.stands {
                Stands::Acting => told.deadline,
                Stands::Asking(until) | Stands::AsksToClimb(until) => until,
                Stands::Waiting | Stands::Human | Stands::Over => continue,
            };
            if mono.millis_since(limit) > LATE_MAX_MS {
                return Err(format!("promise 4: {id} is {:?} after its time", told.stands));
            }
        }
        Ok(())
    }

    /// After healing: nothing is forgotten, nobody is left untold.
    pub fn at_rest(&self) -> Result<(), Broken> {
        for (id, told) in &self.incidents {
            if let Some((attempt, _)) = told.intents.iter().find(|(_, finished)| !**finished) {
                return Err(format!("promise 3: {attempt:?} of {id} is forgotten"));
            }
            if matches!(told.stands, Stands::Acting | Stands::Asking(_) | Stands::AsksToClimb(_)) {
                return Err(format!("promise 4: {id} is still {:?} after healing", told.stands));
            }
            let episode = self.episodes.get(&told.key);
            let is_open = told.stands != Stands::Over;
            if is_open && episode.is_none_or(|episode| episode.firing == 0) {
                return Err(format!("promise 4: {id} is open, and nobody was told"));
            }
        }
        for (key, episode) in &self.episodes {
            let newest = self.incidents.values().any(|told| told.key == *key && told.stands != Stands::Over);
            let fits = if newest { episode.resolved == 0 } else { episode.resolved == 1 };
            if !fits && episode.firing + episode.resolved > 0 {
                return Err(format!(
                    "promise 4: {key} was told {} times, resolved {} times",
                    episode.firing, episode.resolved
                ));
            }
        }
        match self.notices.iter().find(|(_, accepted)| !accepted.waiting.is_empty()) {
            Some((id, accepted)) => {
                Err(format!("promise 6: {id} never reached {:?}: {}", accepted.waiting, accepted.text))
            }
            None => Ok(()),
        }
    }

    /// A release that is plainly broken came at `t`, and all else was well: does anybody know of it?
    pub fn answered(&self, service: usize, t: i64) -> bool {
        self.incidents.values().any(|told| {
            let told_of = self.episodes.get(&told.key).is_some_and(|episode| episode.firing > 0);
            told.service == service && (told.opened >= t || told.stands != Stands::Over) && told_of
        })
    }

    /// Open incidents, as people know them from their notices.
    pub fn open(&self) -> impl Iterator<Item = (&IncidentId, bool)> {
        self.open.iter().map(|id| {
            let asks = matches!(self.incidents[id].stands, Stands::Asking(_) | Stands::AsksToClimb(_));
            (id, asks)
        })
    }

    pub fn rolled_back(&self, service: usize) -> Vec<String> {
        self.admitted.keys().filter(|(of, _)| *of == service).map(|(_, release)| release.clone()).collect()
    }

    pub fn tell(&self) -> String {
        use std::fmt::Write as _;
        let mut text = String::new();
        for (place, watched) in self.services.iter().enumerate() {
            let (failures, came, wrong) = (&watched.failures, &watched.deployed, &watched.wrong_before);
            let _ = writeln!(text, "service {place}: failures {failures:?}\n  came {came:?}, wrong before {wrong:?}");
        }
        for (id, told) in &self.incidents {
            let (stands, release, opened, runs) = (&told.stands, &told.release, told.opened, &told.runs);
            let _ = writeln!(text, "{id}: {stands:?} of {release:?}, opened {opened}, runs {runs:?}");
        }
        text
    }
}

fn place_of(service: &str, fleets: &[Fleet]) -> Option<usize> {
    fleets.iter().position(|fleet| *fleet.service == *service)
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX / 4)
}
