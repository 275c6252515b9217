//! The judge. It sees the world alone: what really failed, what was handed to backstop, which steps really began, what is
//! durable on the disk, and what reached a receiver. Never backstop's own state.
//!
//! Everything is kept incrementally, so that a judgement costs the same however long a seed is.
//!
//! Length: one judge; its rules read the same few facts.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use backstop::decide::event::{
    Actor, Asked, Attempt, Autonomy, DecisionKind, Entry, IncidentEvent, IncidentId, Notice, NoticeStatus, OnSilence,
    Plan, Record, Severity, TriggerFact,
};
use backstop::decide::incident::deadline;
use backstop::decide::rules::{BlockerQuestion, DetectorKind, Question as Asks, Rules, ServiceRules};
use backstop::machine::input::Question;
use backstop::machine::output::StepOrder;
use backstop::time::Timestamp;

use super::disk::Turn;
use super::fleet::{CROWD, ENVIRONMENT, Fleet, LIES, MILD, ReleaseNo};
use super::holds::Holds;
use super::limits::{Limits, is_frozen};
use super::setup;
use crate::support::{INTERVAL, SECOND};

/// A promise that was broken, in one sentence.
pub type Broken = String;

/// A breach is seen as long as a window (60 s at low traffic) after the failure has ended.
const SEEN_AFTER_MS: i64 = 75 * SECOND;

/// A pause that every window bridges: in a longer one the shortest may be seen to be clear.
const BRIDGED_MS: i64 = 30 * SECOND;

/// A release is seen this much later than it came, at most, when its detectors can be read.
const SEEN_LATE_MS: i64 = 90 * SECOND;

/// A failure that went on this long before a release came, with every look at it successful, is known to backstop.
const KNOWN_AFTER_MS: i64 = 75 * SECOND;

/// Every look complete for so long right before a release proves that backstop saw what was wrong before it: a window, and
/// what it takes to notice.
const COMPLETE_BEFORE_MS: i64 = 40 * SECOND;

/// How late a deadline may be noticed while disk and process are well.
const LATE_MAX_MS: i64 = 15 * SECOND;

/// The release that a lying process shows.
pub const NEVER_WAS: &str = "r99-bin";

/// What the detector outside said stands for so long: three of its intervals (README).
const STANDS_MS: i64 = 3 * INTERVAL;

/// A release that came longer ago than this has started, and was seen.
const SETTLED_MS: i64 = 50 * SECOND;

/// To a receiver that takes it at once.
const DELIVERED_WITHIN_MS: i64 = 60 * SECOND;

/// After a restart the windows are full again, where nothing hides what is looked at.
const FILLS_WITHIN_MS: i64 = 180 * SECOND;

/// Looks may be missed for so long before what they would have shown is in doubt.
const BLIND_MS: i64 = KNOWN_AFTER_MS + 4 * INTERVAL;

/// Nobody is asked again sooner, and the simulation's longest time to answer.
const ASKS_AGAIN_AFTER_MIN: Duration = Duration::from_mins(1);
const ASKS_AGAIN_AFTER_MAX: Duration = Duration::from_secs(100);

/// An idempotent step whose outcome is not known runs at most this often (README).
const TRIES_MAX: u32 = 3;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stands {
    Waiting,
    /// A person holds it until then.
    Held(Timestamp),
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
    approved: Word,
    /// Held by a person from then on, in this episode.
    held_from: Option<Timestamp>,
    severity: Severity,
    /// What was asked; the last one may still be open.
    questions: Vec<(usize, Asked)>,
    /// What a person said does not count this time.
    overrides: Vec<String>,
    /// When it was admitted over the kill switch.
    passed: Option<Timestamp>,
    /// Steps that a person passed over.
    skipped: BTreeSet<Attempt>,
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

/// Whose yes the next level is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Word {
    Nobody,
    Person,
    Silence,
}

/// What people know of an open incident from its notices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Known {
    Waits,
    Held,
    Asks,
    Acts,
    NeedsHuman,
}

#[derive(Debug)]
struct Accepted {
    waiting: BTreeSet<String>,
    reached: BTreeSet<String>,
    at: i64,
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
    /// The processes that fail now, and when one joined them last.
    processes: u64,
    spread: i64,
}

/// What is known of one service, from outside.
#[derive(Debug, Default)]
struct Watched {
    failures: Vec<Failure>,
    /// When each release was first put into place.
    deployed: BTreeMap<ReleaseNo, i64>,
    /// The environment was wrong and seen to be, when the release came.
    wrong_before: BTreeSet<(ReleaseNo, ReleaseNo)>,
    pub holds: Holds,
    /// The latest look at it, and the one before each release came.
    looked: i64,
    looked_before: BTreeMap<ReleaseNo, i64>,
    /// When each was put into place last.
    put: BTreeMap<ReleaseNo, i64>,
    /// When backstop first said that it saw it: its detectors may have been unreadable for long.
    seen: BTreeMap<ReleaseNo, i64>,
    /// Something was changed on it, or could not be looked at.
    disturbed: i64,
    /// Its latest incident ended then.
    quiet_from: i64,
    /// Every look since then was complete.
    complete_from: Option<i64>,
    /// The latest scrape that brought something, and the longest time without one in this life.
    scraped: i64,
    unscraped: i64,
    /// Something was wrong by the checkpoint that this life began with: a hold of it may go on.
    held_over: bool,
    lied: Option<i64>,
    signalled: Option<i64>,
    /// Raised until then, on backstop's timeline, which a restart may set anew.
    signal: Option<Timestamp>,
    outside: Option<(i64, String)>,
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
    pub limits: Limits,
    /// From then on nothing goes wrong by chance.
    calm_from: i64,
    reloaded: i64,
    restarted: i64,
    /// When the network went, and when it comes back.
    dark: (i64, i64),
    /// Since when process, disk and clock are well.
    well_since: i64,
}

impl Told {
    fn asked(&self) -> Option<&Asked> {
        self.questions.last().map(|(_, asked)| asked)
    }

    /// A question names those whose answer counts, as the configuration has them for its severity.
    fn is_asked(
        &mut self,
        id: &IncidentId,
        level: usize,
        asked: Option<&Asked>,
        rules: Option<&ServiceRules>,
    ) -> Result<(), Broken> {
        let Some(asked) = asked else { return Err(format!("{id} asks, and shows nothing")) };
        let policy = rules.and_then(|rules| rules.severities.get(&self.severity));
        let approvers = policy.map(|policy| policy.approvers.clone()).unwrap_or_default();
        let on_silence = policy.map(|policy| policy.on_silence).unwrap_or_default();
        if rules.is_some() && (&asked.approvers, asked.on_silence) != (&approvers, on_silence) {
            return Err(format!(
                "{id} asks {:?}, {:?}, not {approvers:?}, {on_silence:?}",
                asked.approvers, asked.on_silence
            ));
        }
        if let Some((_, before)) = self.questions.last()
            && before.number > asked.number
        {
            return Err(format!("{id} asks question {} after {}", asked.number, before.number));
        }
        if self.questions.last().is_none_or(|(_, before)| before.number != asked.number) {
            self.questions.push((level, asked.clone()));
        } else if let Some(last) = self.questions.last_mut() {
            *last = (level, asked.clone());
        }
        Ok(())
    }

    /// Nobody outside approves what is asked, and silence only where it was configured so, and not too soon.
    fn may_approve(&self, id: &IncidentId, actor: &Actor, at: Timestamp) -> Result<(), Broken> {
        if actor.via == Actor::SILENCE {
            let (Stands::Asking(until) | Stands::AsksToClimb(until)) = self.stands else {
                return Err(format!("silence approves {id}, which asks nothing"));
            };
            if self.asked().is_none_or(|asked| asked.on_silence != OnSilence::Approve) || at < until {
                return Err(format!("silence approves {id} at {at}, due at {until}: {:?}", self.asked()));
            }
            return Ok(());
        }
        if !matches!(self.stands, Stands::Asking(_) | Stands::AsksToClimb(_) | Stands::Held(_)) {
            return Ok(());
        }
        let approvers = self.asked().map(|asked| asked.approvers.clone()).unwrap_or_default();
        if !approvers.is_empty() && !counts(actor, &approvers) {
            return Err(format!("{actor:?} approved {id}, which only {approvers:?} may"));
        }
        Ok(())
    }
}

/// Is the person one of these? By what proves who they are: a link proves only that they have it.
pub fn counts(actor: &Actor, approvers: &[String]) -> bool {
    let known = match actor.via.as_str() {
        "link" | "link:oncall" => "link",
        _ if actor.name.contains("(ada)") => "ada",
        _ => actor.name.as_str(),
    };
    approvers.iter().any(|approver| approver == known)
}

impl Watched {
    fn saw(&mut self, blame: ReleaseNo, processes: u64, t: i64) {
        let same = self.failures.iter_mut().rev().find(|failure| failure.blame == blame);
        match same {
            Some(failure) if t - failure.last <= 2 * INTERVAL + SECOND => {
                if processes & !failure.processes != 0 {
                    failure.spread = t;
                }
                (failure.processes, failure.last) = (processes, t);
            }
            Some(_) | None => self.failures.push(Failure { blame, from: t, last: t, processes, spread: t }),
        }
    }

    /// Did this failure whatever runs, or one that it follows without a pause that could be seen, begin before the instant?
    fn was_wrong(&self, failure: &Failure, instant: i64) -> bool {
        let mut from = failure.from;
        while let Some(earlier) = self
            .failures
            .iter()
            .find(|earlier| is_environment(earlier) && earlier.from < from && earlier.last >= from - BRIDGED_MS)
        {
            from = earlier.from;
        }
        from < instant
    }

    /// What a detector has just shown that is neither what is rolled back nor its way back, where a step begins now.
    fn shown_against(&self, order: &StepOrder, rules: &ServiceRules, t: i64) -> Option<String> {
        let plain = |name: &str| name.strip_suffix("-bin").unwrap_or(name).to_owned();
        let ours: Vec<String> = order.bad.iter().chain(&order.target).map(|release| plain(&release.0)).collect();
        // A name that never was may be taken for another name of what runs.
        let is_foreign = |shown: &str| !ours.contains(&plain(shown)) && shown != NEVER_WAS;
        match rules.detectors.first().map(|detector| &detector.kind) {
            Some(DetectorKind::Outside) => {
                let recent = self.outside.as_ref().filter(|(at, shown)| t - at <= STANDS_MS && is_foreign(shown));
                recent.map(|(_, shown)| shown.clone())
            }
            Some(DetectorKind::Metric { .. }) => {
                let mut recent = self.inside.values().filter(|(at, _)| t - at <= 2 * INTERVAL);
                recent.find(|(_, shown)| is_foreign(shown)).map(|(_, shown)| shown.clone())
            }
            Some(DetectorKind::Probe { .. } | DetectorKind::Announced) | None => None,
        }
    }

    /// Since when something has been wrong without a pause that a window would not bridge. None: nothing is.
    fn wrong_since(&self, t: i64) -> Option<i64> {
        let mut since = None;
        loop {
            let at = since.unwrap_or(t);
            let bridges = |failure: &&Failure| failure.from < at && failure.last >= at - SEEN_AFTER_MS;
            match self.failures.iter().filter(bridges).map(|failure| failure.from).min() {
                Some(earlier) => since = Some(earlier),
                None => return since,
            }
        }
    }
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
            limits: Limits::default(),
            calm_from: 0,
            reloaded: 0,
            restarted: i64::MIN / 2,
            dark: (0, 0),
            well_since: 0,
        }
    }

    // What the world does.

    pub fn deployed(&mut self, service: usize, release: ReleaseNo, t: i64) {
        let watched = &mut self.services[service];
        let returns = watched.deployed.contains_key(&release);
        watched.deployed.entry(release).or_insert(t);
        watched.put.insert(release, t);
        watched.looked_before.entry(release).or_insert(watched.looked);
        watched.disturbed = t;
        // What was wrong by now says nothing of the time when it came first, and a return is never blamed.
        if returns {
            return;
        }
        if watched.complete_from.is_none_or(|from| t - from < COMPLETE_BEFORE_MS)
            || t <= watched.lied.unwrap_or(i64::MIN) + SEEN_AFTER_MS
        {
            return;
        }
        for failure in &watched.failures {
            let known = failure.last >= t - 2 * INTERVAL && failure.from + KNOWN_AFTER_MS < t;
            match failure.blame {
                ENVIRONMENT if known => watched.wrong_before.extend([(release, ENVIRONMENT), (release, MILD)]),
                MILD | CROWD if known => drop(watched.wrong_before.insert((release, failure.blame))),
                _ => {}
            }
        }
    }

    /// From now on other rules count; what had fired by those before has fired.
    pub fn reloaded(&mut self, t: i64) {
        self.reloaded = t;
    }

    /// Something has been wrong with it for a while.
    pub fn is_wrong(&self, service: usize, t: i64) -> bool {
        self.services[service].wrong_since(t).is_some()
    }

    /// A process of it was started, stopped or cannot be seen: what is known of its holds is not certain.
    pub fn disturbed(&mut self, service: usize, t: i64) {
        self.services[service].disturbed = t;
    }

    /// Chaos ends, or begins.
    pub fn calm_from(&mut self, t: i64) {
        self.calm_from = t;
    }

    pub fn looked_at_memory(&mut self, service: usize, process: usize, full: Option<bool>, t: i64) {
        let watched = &mut self.services[service];
        watched.holds.looked(process, full, t);
        if full.is_none() {
            watched.disturbed = t;
        }
    }

    /// What fails now; called at every look and at every change.
    pub fn truth(&mut self, service: usize, fleet: &Fleet, t: i64) {
        let watched = &mut self.services[service];
        let mut failing: BTreeMap<ReleaseNo, u64> = BTreeMap::new();
        fleet.failing(t, |blame, process| *failing.entry(blame).or_default() |= 1 << process);
        for (blame, processes) in failing {
            watched.saw(blame, processes, t);
        }
    }

    /// Every target of the service was looked at with success and honesty, or not.
    pub fn looked(&mut self, service: usize, complete: bool, t: i64) {
        let watched = &mut self.services[service];
        watched.looked = if complete { t } else { watched.looked };
        watched.complete_from = if complete { watched.complete_from.or(Some(t)) } else { None };
    }

    /// A scrape brought something, true or not.
    pub fn scraped(&mut self, service: usize, t: i64) {
        let watched = &mut self.services[service];
        watched.unscraped = watched.unscraped.max(t - watched.scraped.max(self.restarted));
        watched.scraped = t;
    }

    pub fn lied(&mut self, service: usize, t: i64) {
        let watched = &mut self.services[service];
        watched.lied = Some(t);
        watched.saw(LIES, 1, t);
    }

    pub fn signalled(&mut self, service: usize, until: i64) {
        let watched = &mut self.services[service];
        watched.signalled = watched.signalled.max(Some(until));
    }

    pub fn handed_outside(&mut self, service: usize, value: Option<&str>, t: i64) {
        let watched = &mut self.services[service];
        watched.outside = value.map(|value| (t, value.to_owned()));
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
    pub fn restarted(&mut self, t: i64, checkpoint: Option<i64>) {
        let before = std::mem::replace(&mut self.restarted, t);
        self.limits.restarted();
        for watched in &mut self.services {
            watched.outside = None;
            watched.inside.clear();
            watched.running.clear();
            watched.complete_from = None;
            watched.unscraped = 0;
            watched.held_over = checkpoint.is_some_and(|saved| {
                let wrong = watched
                    .failures
                    .iter()
                    .any(|failure| failure.from <= saved && failure.last >= saved - SEEN_AFTER_MS);
                wrong || (watched.held_over && saved < before + FILLS_WITHIN_MS)
            });
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
        if told.skipped.contains(&attempt) {
            return Err(format!("{attempt:?} of {id} began, and a person had passed it over"));
        }
        if self.limits.is_killed(&order.service, told.passed) {
            return Err(format!("{attempt:?} of {id} began while the kill switch is on"));
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
        match watched.shown_against(order, rules, t) {
            Some(shown) => Err(format!(
                "promise 5: {attempt:?} of {id} began against {:?} and {:?}, and backstop was shown {shown}",
                order.bad, order.target
            )),
            None => Ok(()),
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
            Entry::NoticeQueued { notice, receivers } => self.accepted(notice, receivers, turn.at),
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
            // Said while it was not there to hear it, it counts from when it was heard.
            Entry::SignalRaised { service, signal, until, .. } => {
                if let Some(place) = place_of(service, fleets).filter(|_| *signal == *setup::SIGNAL) {
                    let signal = &mut self.services[place].signal;
                    *signal = (*signal).max(Some(*until));
                }
                Ok(())
            }
            Entry::ReleaseSeen { service, release, .. } => {
                if let Some(place) = place_of(service, fleets)
                    && let Some(number) = fleets[place].release_of(&release.0)
                {
                    self.services[place].seen.entry(number).or_insert(turn.at);
                }
                Ok(())
            }
            Entry::KillSwitch { service, on, actor, .. } => {
                self.limits.turned(service.as_deref(), *on, actor, record.at);
                Ok(())
            }
            Entry::DaemonStarted { .. }
            | Entry::ReleaseNamed { .. }
            | Entry::ReleaseGood { .. }
            | Entry::ReleaseBad { .. }
            | Entry::ReleaseForgotten { .. }
            | Entry::SignalCleared { .. }
            | Entry::Command(_) => Ok(()),
        }
    }

    fn accepted(&mut self, notice: &Notice, receivers: &[String], t: i64) -> Result<(), Broken> {
        let reached = self.early.remove(&notice.id).unwrap_or_default();
        let accepted = Accepted {
            waiting: receivers.iter().filter(|receiver| !reached.contains(*receiver)).cloned().collect(),
            reached,
            at: t,
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
    #[expect(clippy::too_many_lines, reason = "one arm per event")]
    fn event(
        &mut self,
        id: &IncidentId,
        event: &IncidentEvent,
        record: &Record,
        turn: &Turn,
        fleets: &[Fleet],
    ) -> Result<(), Broken> {
        if let IncidentEvent::Opened { service, release, fact } = event {
            let service = place_of(service, fleets).ok_or_else(|| format!("{id} is of no service: {service}"))?;
            self.has_held(id, service, fact, turn, fleets, true)?;
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
                approved: Word::Nobody,
                held_from: None,
                severity: fact.severity,
                questions: Vec::new(),
                overrides: Vec::new(),
                passed: None,
                skipped: BTreeSet::new(),
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
        if let IncidentEvent::Admitted { plan, actor, facts, .. } = event {
            self.admitted(id, plan, actor.is_some(), facts, record, turn, fleets)?;
        }
        let Some(told) = self.incidents.get(id) else { return Err(format!("{id} was never opened: {event:?}")) };
        let service = told.service;
        if let IncidentEvent::Joined { fact, .. } | IncidentEvent::Reopened { fact } = event {
            self.has_held(id, service, fact, turn, fleets, false)?;
        }
        let name = &fleets[service].service;
        let rules = turn.rules.services.iter().find(|rules| rules.name == *name);
        let paused = self.is_paused(service, record.at)
            || (!told.ordered && rules.is_some_and(|rules| is_frozen(&turn.rules, rules, record.wall)));
        let killed = self.limits.is_killed(name, told.passed);
        let Some(told) = self.incidents.get_mut(id) else { return Ok(()) };
        match event {
            IncidentEvent::Reopened { fact } => {
                told.stands = Stands::Waiting;
                (told.plan, told.admitted, told.ended, told.opened) = (None, None, None, turn.at);
                (told.held_from, told.passed, told.severity) = (None, None, fact.severity);
                told.questions.clear();
                self.open.insert(id.clone());
            }
            IncidentEvent::Joined { fact, .. } => told.severity = told.severity.max(fact.severity),
            IncidentEvent::Proposed { respond_by, level, asked, .. } => {
                let acting = told.admitted.is_some();
                told.stands = if acting { Stands::AsksToClimb(*respond_by) } else { Stands::Asking(*respond_by) };
                told.is_asked(id, *level, asked.as_deref(), rules)?;
            }
            IncidentEvent::Unanswered { respond_by } => {
                // What silence would approve may be doubtful: then it is asked again, a while later.
                let wait = match told.asked().map(|asked| asked.on_silence) {
                    Some(OnSilence::Escalate) => Duration::ZERO,
                    Some(OnSilence::Approve) => ASKS_AGAIN_AFTER_MIN,
                    Some(OnSilence::Decline) | None => {
                        return Err(format!("{id} asks again, and nobody configured that"));
                    }
                };
                match &mut told.stands {
                    Stands::Asking(until) | Stands::AsksToClimb(until) if record.at >= *until + wait => {
                        *until = *respond_by;
                    }
                    stands => return Err(format!("{id} asks again at {}, and was {stands:?}", record.at)),
                }
            }
            IncidentEvent::HoldOrdered { until, .. } => {
                if !matches!(told.stands, Stands::Waiting | Stands::Held(_) | Stands::Asking(_)) {
                    return Err(format!("{id} is held while it is {:?}", told.stands));
                }
                let from = *told.held_from.get_or_insert(record.at);
                let most = rules.map_or(Duration::MAX, |rules| rules.hold_max);
                if until.since(from) > most {
                    return Err(format!("{id} is held for {:?}, and {most:?} is the most", until.since(from)));
                }
                told.stands = Stands::Held(*until);
            }
            IncidentEvent::HoldEnded { actor, .. } => {
                match told.stands {
                    Stands::Held(until) if actor.is_some() || record.at >= until => {}
                    _ => return Err(format!("the hold of {id} ended while it was {:?}", told.stands)),
                }
                told.stands = Stands::Waiting;
            }
            IncidentEvent::StepSkipped { attempt, .. } => {
                if told.intents.values().any(|finished| !finished) {
                    return Err(format!("{attempt:?} of {id} was passed over while a step ran"));
                }
                told.skipped.insert(*attempt);
                // A person was called, and has decided: it goes on.
                told.stands = Stands::Acting;
                if let Some(plan) = &told.plan {
                    told.deadline = told.deadline.max(deadline(plan, attempt.level, record.at));
                }
            }
            IncidentEvent::Judged { .. } => {
                if let Stands::Held(_) = told.stands {
                    return Err(format!("{id} is held by a person, and was judged"));
                }
                told.stands = Stands::Waiting;
            }
            IncidentEvent::Approved { actor, reason } => {
                let words = reason.split_once("(overrides ").map_or("", |(_, words)| words.trim_end_matches(')'));
                told.overrides = words.split(", ").map(str::to_owned).collect();
                told.approved = if actor.via == Actor::SILENCE { Word::Silence } else { Word::Person };
                told.may_approve(id, actor, record.at)?;
            }
            IncidentEvent::Admitted { plan, deadline, .. } => {
                let over = told.overrides.iter().any(|name| name == "kill-switch");
                if killed && !over {
                    return Err(format!("{id} was admitted while the kill switch is on"));
                }
                told.passed = over.then_some(record.at);
                told.stands = Stands::Acting;
                told.deadline = *deadline;
                told.admitted = Some(record.at);
                *told.runs.entry((plan.start_level, false)).or_default() += 1;
                told.ordered = std::mem::replace(&mut told.approved, Word::Nobody) == Word::Person;
                told.begins = true;
                told.plan = Some((**plan).clone());
            }
            IncidentEvent::Climbed { to, overrides } => {
                let plan = told.plan.as_ref().ok_or_else(|| format!("{id} climbs without a plan"))?;
                let word = std::mem::replace(&mut told.approved, Word::Nobody);
                if matches!(told.stands, Stands::Human | Stands::AsksToClimb(_)) {
                    if word == Word::Nobody {
                        return Err(format!("{id} goes on at level {} although nobody said so", to + 1));
                    }
                    told.deadline = told.deadline.max(deadline(plan, *to, record.at));
                }
                let careful = plan.levels.get(*to).and_then(|level| level.autonomy);
                if careful.is_some_and(|autonomy| autonomy < Autonomy::Act) && word == Word::Nobody {
                    return Err(format!("{id} climbed to level {}, which a person decides about", to + 1));
                }
                let over = overrides.iter().any(|name| name == "kill-switch");
                told.passed = if over { Some(record.at) } else { told.passed };
                if killed && !over {
                    return Err(format!("{id} climbed to level {} while the kill switch is on", to + 1));
                }
                if paused && word != Word::Person {
                    return Err(format!("{id} climbed to level {} in a pause or a freeze", to + 1));
                }
                *told.runs.entry((*to, false)).or_default() += 1;
                told.ordered = word == Word::Person;
                told.begins = true;
                told.stands = Stands::Acting;
            }
            IncidentEvent::StepIntended { attempt, .. } => {
                let begins = attempt.step == 0 && !attempt.undo && std::mem::take(&mut told.begins);
                if begins && paused && !told.ordered {
                    return Err(format!("{id} begins level {} in a pause or a freeze", attempt.level + 1));
                }
                if killed {
                    return Err(format!("{id} intends {attempt:?} while the kill switch is on"));
                }
                told.intents.insert(*attempt, false);
            }
            IncidentEvent::StepFinished { attempt, .. } => match told.intents.get_mut(attempt) {
                Some(finished) if !*finished => *finished = true,
                Some(_) | None => {
                    return Err(format!("promise 3: {attempt:?} of {id} finished, and was not under way"));
                }
            },
            IncidentEvent::StepNotStarted { attempt, .. } => match told.intents.remove(attempt) {
                Some(false) => {}
                Some(true) | None => {
                    return Err(format!("promise 3: {attempt:?} of {id} was never begun, and was not intended"));
                }
            },
            IncidentEvent::UndoBegan { level } => {
                if killed {
                    return Err(format!("{id} begins to undo level {} while the kill switch is on", level + 1));
                }
                *told.runs.entry((*level, true)).or_default() += 1;
            }
            IncidentEvent::NeedsHuman { .. } => told.stands = Stands::Human,
            IncidentEvent::Expired if told.asked().is_some_and(|asked| asked.on_silence == OnSilence::Escalate) => {
                return Err(format!("{id} expired, and was to ask again"));
            }
            IncidentEvent::Recovered { .. }
            | IncidentEvent::Superseded { .. }
            | IncidentEvent::Aborted { .. }
            | IncidentEvent::Declined { .. }
            | IncidentEvent::Expired
            | IncidentEvent::Cleared => {
                told.stands = Stands::Over;
                told.ended = Some(record.at);
                self.open.remove(id);
                self.services[service].quiet_from = turn.at;
            }
            _ => {}
        }
        Ok(())
    }

    /// Was the trigger that is said to have fired breached for its whole hold; and, for a first incident in calm weather,
    /// is it told at the very look that completed the hold? Judged where one scraped value says all (promise 8).
    fn has_held(
        &self,
        id: &IncidentId,
        service: usize,
        fact: &TriggerFact,
        turn: &Turn,
        fleets: &[Fleet],
        first: bool,
    ) -> Result<(), Broken> {
        let rules = turn.rules.services.iter().find(|rules| rules.name == fleets[service].service);
        let trigger = rules.and_then(|rules| rules.triggers.iter().find(|trigger| *trigger.name == *fact.trigger));
        let Some(trigger) = trigger.filter(|trigger| *trigger.name == *setup::MEMORY) else { return Ok(()) };
        let watched = &self.services[service];
        if !watched.holds.is_held(trigger.hold, turn.at) {
            return Err(format!("{id} fired before memory was full for {:?}: {:?}", trigger.hold, watched.holds));
        }
        let calm = [self.calm_from, self.well_since, watched.disturbed, watched.lied.unwrap_or(0), watched.quiet_from];
        let calm = calm.into_iter().max().unwrap_or(0).saturating_add(SETTLED_MS);
        match watched.holds.was_due(trigger.hold, calm, turn.at) {
            // When what it depends on is well again, its windows start anew.
            Some(due) if first && rules.is_some_and(|rules| rules.guard.dependencies.is_empty()) => {
                Err(format!("promise 8: {id} opened at {}, and its hold was complete at {due}", turn.at))
            }
            Some(_) | None => Ok(()),
        }
    }

    fn is_paused(&self, service: usize, at: Timestamp) -> bool {
        [self.paused, self.services[service].paused].into_iter().flatten().any(|until| at < until)
    }

    #[expect(clippy::too_many_arguments, reason = "the fields of one event, and what stands beside it")]
    fn admitted(
        &mut self,
        id: &IncidentId,
        plan: &Plan,
        ordered: bool,
        facts: &[TriggerFact],
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
        Oracle::on_firm_ground(id, &told.overrides, &fleets[service], turn, ordered)?;
        if !ordered {
            let Some(rules) = turn.rules.services.iter().find(|rules| rules.name == fleets[service].service) else {
                return Err(format!("{id} was admitted for a service that is not configured"));
            };
            self.by_itself(id, plan, rules, turn, record)?;
            self.breached_so_long(id, service, facts, rules, t)?;
            if self.services[service].signal.is_none_or(|until| record.at > until) {
                self.deserved(id, service, &release, rules, t, &fleets[service])?;
            }
        }
        self.admissions.push((service, id.clone(), record.at));
        Ok(())
    }

    /// What its checks would have said for long enough: no blocker holds, and the way back is there.
    fn on_firm_ground(
        id: &IncidentId,
        overrides: &[String],
        fleet: &Fleet,
        turn: &Turn,
        ordered: bool,
    ) -> Result<(), Broken> {
        let Some(rules) = turn.rules.services.iter().find(|rules| rules.name == fleet.service) else { return Ok(()) };
        let answered = |max_age: Duration| turn.at - millis(max_age) - 5 * SECOND;
        for blocker in &rules.guard.blockers {
            if let BlockerQuestion::Check { max_age, .. } = &blocker.question
                && !overrides.iter().any(|name| **name == *blocker.name)
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
        turn: &Turn,
        record: &Record,
    ) -> Result<(), Broken> {
        let (all, at, told): (&Rules, Timestamp, &Told) = (&turn.rules, record.at, &self.incidents[id]);
        let service = told.service;
        let level = plan.levels.get(plan.start_level).and_then(|level| level.autonomy);
        let severity = rules.severities.get(&told.severity).and_then(|policy| policy.autonomy);
        let careful = [Some(rules.autonomy), level, severity].into_iter().flatten().min();
        // Silence stands for the word of a person, and for nothing else.
        let least = if told.approved == Word::Silence { Autonomy::Propose } else { Autonomy::Act };
        if careful.is_none_or(|careful| careful < least) {
            return Err(format!("{id} was admitted at level {} although autonomy is {careful:?}", plan.start_level));
        }
        if matches!(told.stands, Stands::Held(_)) {
            return Err(format!("{id} was admitted while a person holds it"));
        }
        if turn.at > self.dark.0 + 2 * INTERVAL + SECOND && turn.at < self.dark.1 {
            return Err(format!("{id} was admitted while backstop is cut off"));
        }
        if is_frozen(all, rules, record.wall) {
            return Err(format!("{id} was admitted in a freeze"));
        }
        if self.limits.is_tilted(turn.at) {
            return Err(format!("{id} was admitted right after a clock jumped"));
        }
        for needed in &rules.guard.dependencies {
            let place = setup::NAMES.iter().position(|name| **name == **needed);
            let configured = all.services.iter().any(|service| service.name == *needed);
            if place.is_some_and(|place| configured && self.limits.is_down(place, turn.at)) {
                return Err(format!("{id} was admitted while {needed}, which it needs, is down"));
            }
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

    /// Has something been wrong for as long as each trigger that fired asks for? A window shows a breach later than it
    /// began, never sooner.
    fn breached_so_long(
        &self,
        id: &IncidentId,
        service: usize,
        facts: &[TriggerFact],
        rules: &ServiceRules,
        t: i64,
    ) -> Result<(), Broken> {
        for fact in facts.iter().filter(|fact| fact.fired.is_some()) {
            let trigger = rules.triggers.iter().find(|trigger| *trigger.name == *fact.trigger);
            let Some(trigger) = trigger.filter(|trigger| !trigger.hold.is_zero()) else { continue };
            if let Asks::Signal { .. } = trigger.question {
                continue;
            }
            let since = self.services[service].wrong_since(t);
            if since.is_some_and(|since| since <= self.reloaded) {
                continue;
            }
            // What was held before a restart counts, and what fills the windows anew is neither credit nor gap; but a
            // time without any look is a gap.
            let watched = &self.services[service];
            let goes_on = watched.held_over && watched.unscraped <= millis(trigger.patience());
            if goes_on && t < self.restarted + FILLS_WITHIN_MS {
                continue;
            }
            if since.is_none_or(|since| t - since < millis(trigger.hold)) {
                let hold = trigger.hold;
                return Err(format!(
                    "{id} was admitted at {t}: {} holds {hold:?}, wrong since {since:?}",
                    fact.trigger
                ));
            }
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
            let again = watched.put.get(&release).is_some_and(|again| (came - again).abs() < SEEN_LATE_MS);
            let never_shown = inside && other.is_some() && fleet.behaviour(release).crashes;
            never_shown
                || again
                || other.is_some_and(|other| (came - other).abs() < SEEN_LATE_MS || (inside && *other > came))
        };
        // Nor can what began to fail after the last look before the release came: a window shows it a while later.
        let unseen = watched.looked_before.get(&bad).copied().unwrap_or(0) - KNOWN_AFTER_MS;
        // Nor, in a rollout, what the old release begins to do in its very moment, be it in one more process: a flag is
        // turned on with the new one.
        let with_it = |failure: &Failure| {
            [failure.from, failure.spread].iter().any(|at| (came..came + SEEN_LATE_MS).contains(at))
        };
        let unclear = |failure: &Failure| {
            failure.blame == bad || (failure.blame < CROWD && (alike(failure.blame) || with_it(failure)))
        };
        let late = |failure: &Failure| {
            failure.blame < CROWD && failure.from > unseen && unseen < came.saturating_sub(BLIND_MS)
        };
        if watched.failures.iter().filter(recent).any(|failure| unclear(failure) || late(failure)) {
            return Ok(());
        }
        let seen = watched.seen.get(&bad).copied().unwrap_or(came).max(came);
        let latest = seen.saturating_add(millis(rules.guard.release_window) + SEEN_LATE_MS);
        let after = |failure: &&Failure| {
            is_environment(failure)
                && failure.from <= latest
                && !(watched.wrong_before.contains(&(bad, failure.blame)) && watched.was_wrong(failure, came))
        };
        if watched.failures.iter().filter(recent).any(|failure| after(&failure)) {
            return Ok(());
        }
        let recent: Vec<_> = watched.failures.iter().filter(recent).collect();
        let before = watched.wrong_before.iter().any(|(release, _)| *release == bad);
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
                // Silence approves nothing that is doubtful at the instant, so it is asked again, or a person is called.
                Stands::Asking(until) | Stands::AsksToClimb(until)
                    if told.asked().is_some_and(|asked| asked.on_silence == OnSilence::Approve) =>
                {
                    let until = until + ASKS_AGAIN_AFTER_MAX;
                    if told.admitted.is_some() { until.max(told.deadline) } else { until }
                }
                Stands::Asking(until) | Stands::AsksToClimb(until) | Stands::Held(until) => until,
                Stands::Waiting | Stands::Human | Stands::Over => continue,
            };
            if mono.millis_since(limit) > LATE_MAX_MS {
                return Err(format!("promise 4: {id} is {:?} after its time", told.stands));
            }
        }
        Ok(())
    }

    /// The latest deadline of what acts. That of a service that is not configured is waited for by nobody.
    pub fn acts_until(&self, configured: &[bool]) -> Option<Timestamp> {
        let acts = |told: &&Told| told.stands == Stands::Acting && configured[told.service];
        let acting = self.incidents.values().filter(acts);
        acting.map(|told| told.deadline).max()
    }

    /// After healing: nothing is forgotten, nobody is left untold.
    pub fn at_rest(&self, mono: Timestamp, t: i64, configured: &[bool]) -> Result<(), Broken> {
        for (id, told) in &self.incidents {
            // What stood in its way may have gone late: it has its time, which `watch` holds it to.
            if told.stands == Stands::Acting && mono < told.deadline && configured[told.service] {
                continue;
            }
            // Whoever is asked about a service that is not configured any more has the time that is nobody's setting.
            if let Stands::Asking(until) | Stands::AsksToClimb(until) = told.stands
                && mono < until
                && !configured[told.service]
            {
                continue;
            }
            if let Some((attempt, _)) = told.intents.iter().find(|(_, finished)| !**finished) {
                return Err(format!("promise 3: {attempt:?} of {id} is forgotten"));
            }
            let asks_on = match (told.asked().map(|asked| asked.on_silence), told.stands) {
                // What is doubtful for good is asked again, or at the deadline of its levels, which `watch` waits for, a
                // person is called.
                (Some(OnSilence::Escalate), _)
                | (Some(OnSilence::Approve), Stands::Asking(_) | Stands::AsksToClimb(_)) => true,
                (_, _) => false,
            };
            let waits = match told.stands {
                Stands::Acting | Stands::Held(_) => true,
                Stands::Asking(_) | Stands::AsksToClimb(_) => !asks_on,
                Stands::Waiting | Stands::Human | Stands::Over => false,
            };
            if waits {
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
        let is_late = |accepted: &Accepted| !accepted.waiting.is_empty() && accepted.at < t - DELIVERED_WITHIN_MS;
        match self.notices.iter().find(|(_, accepted)| is_late(accepted)) {
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
    pub fn open(&self) -> impl Iterator<Item = (&IncidentId, Known)> {
        self.open.iter().map(|id| (id, self.known(id)))
    }

    pub fn known(&self, id: &IncidentId) -> Known {
        match self.incidents.get(id).map(|told| told.stands) {
            Some(Stands::Asking(_) | Stands::AsksToClimb(_)) => Known::Asks,
            Some(Stands::Held(_)) => Known::Held,
            Some(Stands::Acting) => Known::Acts,
            Some(Stands::Human) => Known::NeedsHuman,
            Some(Stands::Waiting | Stands::Over) | None => Known::Waits,
        }
    }

    /// What was asked, as a notice shows it: the last question, or one before it.
    pub fn question(&self, id: &IncidentId, old: bool) -> Option<Question> {
        let questions = &self.incidents.get(id)?.questions;
        let (level, asked) = questions.get(questions.len().checked_sub(if old { 2 } else { 1 })?)?;
        let name = |release: &Option<backstop::decide::event::Release>| release.as_ref().map(ToString::to_string);
        Some(Question { number: asked.number, level: *level, bad: name(&asked.bad), target: name(&asked.target) })
    }

    /// Whose answer counts. Empty: everybody's.
    pub fn approvers(&self, id: &IncidentId) -> Vec<String> {
        let told = self.incidents.get(id);
        told.and_then(Told::asked).map(|asked| asked.approvers.clone()).unwrap_or_default()
    }

    pub fn service_of(&self, id: &IncidentId) -> Option<usize> {
        Some(self.incidents.get(id)?.service)
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

/// Is it wrong whatever runs?
fn is_environment(failure: &Failure) -> bool {
    matches!(failure.blame, ENVIRONMENT | MILD | CROWD)
}

fn place_of(service: &str, fleets: &[Fleet]) -> Option<usize> {
    fleets.iter().position(|fleet| *fleet.service == *service)
}

pub fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX / 4)
}
