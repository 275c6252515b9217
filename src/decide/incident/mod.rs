//! The incident machine: one total function `apply(event)` for live and replay, and `advance`, which derives from a
//! state and its situation what happens next.
//!
//! Replay applies the recorded events and discards the effects; what is still to do then follows from `advance`, so
//! recovery after a crash is not a second path.
//!
//! Length: the state and the one function that changes it stand together.

mod advance;
mod fits;
mod hint;
mod people;
mod state;
mod steps;
#[cfg(test)]
mod tests;
mod undo;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::event::{
    Actor, Asked, Attempt, Decision, DecisionKind, IncidentEvent, IncidentId, NoticeKind, NoticeStatus, Outcome, Plan,
    Release, Running, Severity, Step, TriggerFact, Verify,
};
use super::trigger::short;
use super::verify::{Reading, Soak};
use crate::time::Timestamp;

pub use people::People;
pub use state::State;
pub use undo::Undo;

/// A step's check is asked this often before an answer that settles nothing is taken for what it is. With the waits
/// between them: longer than a restart or a cache hides an effect, short beside any deadline.
pub const CHECK_ASKS_MAX: u32 = 3;

/// Between two such answers.
pub const CHECK_WAIT: Duration = Duration::from_secs(5);

/// How long what runs may stay unreadable between two steps before a person is called: a restart takes a moment.
const RELEASE_GRACE: Duration = Duration::from_mins(1);

/// Beside the limits of its levels, an incident gets this for disk, detectors and scheduling.
const DEADLINE_SLACK: Duration = Duration::from_mins(1);

/// What follows from an event, beside the state.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    RunStep(Attempt),
    Notify {
        kind: NoticeKind,
        status: NoticeStatus,
        action_required: bool,
        /// The person who made it happen.
        actor: Option<String>,
        text: String,
    },
    /// Samples from before this instant never count again: a level finished.
    RestartWindows(Timestamp),
    MarkBad(Release),
    /// It ended so; for the counters.
    Ended(&'static str),
}

/// What `advance` asks for: an event as it is, or an admission, whose plan the machine freezes.
#[derive(Clone, Debug, PartialEq)]
pub enum Move {
    Event(IncidentEvent),
    /// `level` is the one that the decision is about.
    Admit {
        decision: Decision,
        level: usize,
    },
}

/// The breach of the incident's triggers, at this turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Breach {
    /// One of its triggers fires on a fresh finding.
    Firing,
    /// All of them are known to be Clear.
    Over,
    /// Neither.
    Unclear,
}

/// The world, as an incident must know it to go on.
#[derive(Clone, Debug, PartialEq)]
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own, and any of them may be true together")]
pub struct Situation<'a> {
    pub running: &'a Running,
    pub breach: Breach,
    /// The guard's answer; needed only while the incident waits.
    pub decision: Option<Decision>,
    /// The level that would be tried first.
    pub level: usize,
    /// Verification's view of the trigger windows and probes, since the level finished.
    pub reading: Reading,
    /// Why what is seen may be an outage's, which proves nothing against a level: it is neither undone nor followed by the
    /// next one. Needed only once it is admitted.
    pub outage: Option<String>,
    /// What runs was looked at since the last step ended; needed only after an undo.
    pub release_read: bool,
    /// A pause or a freeze: no new level starts, unless a person ordered it.
    pub paused: bool,
    /// No new level starts, whoever asks: it could not be remembered.
    pub journal_failing: bool,
    /// The daemon stops, and what is begun now could not be seen to its end; or the kill switch is on. Nothing is begun.
    pub draining: bool,
    pub patience: Patience,
    /// Whom a proposal would ask, and what it would show.
    pub people: People,
}

/// How long is waited for what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Patience {
    /// For the answer to a proposal.
    pub respond_within: Duration,
    /// Between two reminders.
    pub remind_every: Duration,
    /// From the beginning of the breach; then a person is told that it takes too long.
    pub rto: Option<Duration>,
    /// For a look at the release, before anybody is told that it is waited for.
    pub release_read: Duration,
}

#[derive(Clone, Debug, PartialEq)]
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own, and any of them may be true together")]
pub struct Incident {
    pub id: IncidentId,
    pub service: String,
    pub release: Option<Release>,
    pub state: State,
    /// By trigger, the latest fact of each.
    pub facts: BTreeMap<String, TriggerFact>,
    /// Triggers that are told of, and not read by verification: the release is not to blame for them.
    pub aside: BTreeSet<String>,
    pub decision: Option<Decision>,
    pub plan: Option<Plan>,
    pub receivers: Vec<String>,
    /// Who was told last: so is its end, should its service have left the configuration. Not recorded here but in the
    /// notices.
    pub told_to: Vec<String>,
    pub deadline: Option<Timestamp>,
    /// Levels that were begun, in any episode, and how often: a level that a person orders again is another effect.
    pub tried: BTreeMap<usize, u32>,
    pub captures: BTreeMap<String, String>,
    pub acknowledged: bool,
    /// The release that the plan installs was seen running.
    pub target_seen: bool,
    /// Counts openings of the same (service, release) from 1.
    pub episode: u32,
    /// Notices made so far, over all episodes.
    pub notices: u64,
    /// Something was told in this episode, so its end must be told too.
    pub told: bool,
    pub opened: Timestamp,
    /// When the breach of this episode began.
    pub began: Timestamp,
    /// This episode was told to take longer than the service's RTO.
    pub rto_passed: bool,
    pub ended: Option<Timestamp>,
    pub admitted: Option<Timestamp>,
    /// A step may still run although the incident has moved on (deadline, abort).
    pub in_flight: Option<Attempt>,
    /// The first step of the level that was begun last.
    pub level_began: Option<Timestamp>,
    /// The undo that is under way.
    pub undo: Option<Undo>,
    /// What the latest proposal showed.
    pub asked: Option<Asked>,
    /// Questions so far, over all episodes.
    questions: u32,
    /// When a person first held it in this episode.
    pub held_from: Option<Timestamp>,
    /// What is put back where the step that is intended is never begun: how the try before it ended, and since when its
    /// level runs.
    before: (Option<Outcome>, Option<Timestamp>),
    /// The step at which a person was called.
    stuck: Option<Attempt>,
    /// The person who has said yes; the level that begins next is theirs.
    approved: Option<String>,
    /// What a person passed over by name when a level was ordered; it stays so for the levels after it.
    pub overrides: BTreeSet<String>,
    /// The level that was begun last was a person's order, which a pause does not hold up.
    ordered: bool,
    /// Since when what runs cannot be read, between steps. Not recorded.
    pub unread_since: Option<Timestamp>,
    /// The level that was carried out last, and when, while no other was begun.
    finished: Option<(usize, Timestamp)>,
    /// Not recorded: after a restart the soak starts anew.
    pub soak: Soak,
}

impl Incident {
    /// From its first event, `Opened`. None for any other: a journal that begins in the middle is not guessed at.
    #[must_use]
    pub fn open(id: IncidentId, event: &IncidentEvent, at: Timestamp) -> Option<Incident> {
        let IncidentEvent::Opened { service, release, fact } = event else { return None };
        Some(Incident {
            id,
            service: service.clone(),
            release: release.clone(),
            state: State::Firing,
            facts: BTreeMap::from([(fact.trigger.clone(), (**fact).clone())]),
            aside: BTreeSet::new(),
            decision: None,
            plan: None,
            receivers: Vec::new(),
            told_to: Vec::new(),
            deadline: None,
            tried: BTreeMap::new(),
            captures: BTreeMap::new(),
            acknowledged: false,
            target_seen: false,
            episode: 1,
            notices: 0,
            told: false,
            opened: at,
            began: fact.since,
            rto_passed: false,
            ended: None,
            admitted: None,
            in_flight: None,
            level_began: None,
            undo: None,
            asked: None,
            questions: 0,
            held_from: None,
            before: (None, None),
            stuck: None,
            approved: None,
            overrides: BTreeSet::new(),
            ordered: false,
            unread_since: None,
            finished: None,
            soak: Soak::default(),
        })
    }

    #[must_use]
    pub fn severity(&self) -> Severity {
        self.facts.values().map(|fact| fact.severity).max().unwrap_or(Severity::High)
    }

    /// A person has said yes to the level that was begun last.
    #[must_use]
    pub const fn is_ordered(&self) -> bool {
        self.ordered
    }

    /// The step of the frozen plan.
    #[must_use]
    pub fn step(&self, attempt: Attempt) -> Option<&Step> {
        let level = self.plan.as_ref()?.levels.get(attempt.level)?;
        let steps = if attempt.undo { &level.undo } else { &level.steps };
        steps.get(attempt.step)
    }

    /// The level that is under way or was last.
    #[must_use]
    pub fn level(&self) -> Option<usize> {
        match &self.state {
            State::Proposed { level, .. } | State::Verifying { level, .. } | State::LevelOver { level, .. } => {
                Some(*level)
            }
            State::Ready { attempt, .. }
            | State::Running { attempt }
            | State::Checking { attempt, .. }
            | State::Stepped { attempt, .. } => Some(attempt.level),
            State::Firing
            | State::Held
            | State::Escalated
            | State::WouldRollBack
            | State::HeldByPerson { .. }
            | State::NeedsHuman { .. }
            | State::Recovered
            | State::Declined
            | State::Expired
            | State::Superseded
            | State::Aborted
            | State::Cleared => self.tried.keys().next_back().copied(),
        }
    }

    /// The first level at or above `from` that was not begun.
    #[must_use]
    pub fn untried(&self, from: usize, levels: usize) -> Option<usize> {
        (from..levels).find(|level| !self.tried.contains_key(level))
    }

    // Length: one arm per event; taken apart, nobody could see that it is total.
    /// The state that follows from an event. Total: an event that does not fit its state changes nothing (`fits`).
    #[expect(clippy::too_many_lines, reason = "one arm per event")]
    pub fn apply(&mut self, event: &IncidentEvent, at: Timestamp) -> Vec<Effect> {
        if !self.takes(event) {
            return Vec::new();
        }
        match event {
            IncidentEvent::Opened { .. } | IncidentEvent::StepStarted { .. } | IncidentEvent::CheckAnswered { .. } => {
                Vec::new()
            }
            IncidentEvent::Reopened { fact } => self.reopened(fact, at),
            IncidentEvent::Joined { fact, aside } => {
                if *aside {
                    self.aside.insert(fact.trigger.clone());
                }
                self.began = self.began.min(fact.since);
                self.facts.insert(fact.trigger.clone(), (**fact).clone());
                Vec::new()
            }
            IncidentEvent::Judged { decision } => self.judged(decision),
            IncidentEvent::Proposed { level, respond_by, decision, asked } => {
                self.state = State::Proposed { level: *level, respond_by: *respond_by };
                self.takes_question(asked.as_deref());
                self.decision = Some(decision.clone());
                let (whom, silence) = people::whom_and_silence(asked.as_deref());
                let asked =
                    format!("asks{whom} to roll back at level {}: {}; {silence}", level + 1, sentences(decision));
                vec![self.notify(NoticeKind::ApprovalRequested, NoticeStatus::Firing, true, asked)]
            }
            // Answered by the admission, or the level, that follows.
            IncidentEvent::Approved { actor, .. } => {
                // Nobody ordered what silence approved, so a pause holds it up.
                self.approved = actor.is_somebody().then(|| actor.name.clone());
                Vec::new()
            }
            IncidentEvent::Declined { actor, reason } => {
                let text = said("declined", actor, reason);
                by(actor, self.end(State::Declined, NoticeKind::Declined, text, at))
            }
            IncidentEvent::Unanswered { respond_by } => self.unanswered(*respond_by),
            IncidentEvent::HoldOrdered { actor, reason, until } => {
                let held = self.hold_ordered(actor, reason, *until, at);
                by(actor, held)
            }
            IncidentEvent::HoldEnded { .. } => self.hold_ended(),
            IncidentEvent::StepSkipped { attempt, .. } => self.skipped(*attempt, at),
            IncidentEvent::Expired => {
                self.end(State::Expired, NoticeKind::Expired, "nobody answered, so nothing is done".to_owned(), at)
            }
            IncidentEvent::Admitted { plan, decision, facts, receivers, deadline, actor, .. } => {
                for fact in facts {
                    self.facts.insert(fact.trigger.clone(), fact.clone());
                }
                self.decision = Some(decision.clone());
                self.receivers.clone_from(receivers);
                self.deadline = Some(*deadline);
                self.admitted = Some(at);
                self.plan = Some((**plan).clone());
                self.aside = plan.aside.iter().cloned().collect();
                self.begin_level(plan.start_level, at);
                let who = actor.as_ref().map_or_else(String::new, |actor| format!(" by {}", actor.name));
                let to = plan.target.as_ref().map_or_else(String::new, |target| format!(" to {target}"));
                let started = format!("rolling back {}{to}, started{who}", plan.bad);
                let told = vec![
                    Effect::MarkBad(plan.bad.clone()),
                    self.notify(NoticeKind::Started, NoticeStatus::Firing, false, started),
                ];
                match actor {
                    Some(actor) => by(actor, told),
                    None => told,
                }
            }
            IncidentEvent::StepIntended { attempt, .. } => {
                let after = if let State::Ready { after, .. } = self.state { after } else { None };
                self.before = (after, self.level_began);
                self.state = State::Running { attempt: *attempt };
                self.in_flight = Some(*attempt);
                self.level_began.get_or_insert(at);
                vec![Effect::RunStep(*attempt)]
            }
            IncidentEvent::StepFinished { attempt, result } => self.stepped(*attempt, result, at),
            IncidentEvent::StepNotStarted { attempt, .. } => self.not_started(*attempt, at),
            IncidentEvent::StepChecked { attempt, answer, detail } => self.checked(*attempt, *answer, detail, at),
            IncidentEvent::LevelFinished { level, at: finished } => self.level_finished(*level, *finished),
            IncidentEvent::CameClear { at: since } => {
                if let State::Verifying { clear_since, .. } = &mut self.state {
                    *clear_since = Some(*since);
                }
                Vec::new()
            }
            IncidentEvent::Relapsed => {
                if let State::Verifying { clear_since, .. } = &mut self.state {
                    *clear_since = None;
                }
                Vec::new()
            }
            IncidentEvent::LevelFailed { level, verified, why } => {
                let undo = undo::is_due(self.plan.as_ref(), *level, *verified);
                self.state = State::LevelOver { level: *level, why: why.clone(), undo };
                let then = if undo { "; it is undone" } else { "" };
                let failed = format!("level {} did not help: {why}{then}", level + 1);
                vec![self.notify(NoticeKind::LevelFinished, NoticeStatus::Firing, false, failed)]
            }
            IncidentEvent::UndoBegan { level } => self.undo_began(*level, at),
            IncidentEvent::UndoFinished { level, failed, running } => {
                self.undo_finished(*level, failed.as_deref(), running)
            }
            IncidentEvent::Climbed { to, overrides } => {
                self.overrides.extend(overrides.iter().cloned());
                // Waiting for a person is not counted in the sum of the limits.
                if matches!(self.state, State::Proposed { .. } | State::NeedsHuman { .. })
                    && let (Some(plan), Some(deadline)) = (&self.plan, &mut self.deadline)
                {
                    *deadline = (*deadline).max(self::deadline(plan, *to, at));
                }
                let actor = self.begin_level(*to, at);
                self.acknowledged = false;
                self.ended = None;
                self.told = true;
                vec![Effect::Notify {
                    kind: NoticeKind::Started,
                    status: NoticeStatus::Firing,
                    action_required: false,
                    actor,
                    text: format!("climbing to level {}{}", to + 1, self.level_name(*to)),
                }]
            }
            IncidentEvent::Recovered { .. } => {
                let recovered = match &self.plan {
                    Some(plan) => format!("rolled back from {} and recovered", plan.bad),
                    None => "recovered".to_owned(),
                };
                self.end(State::Recovered, NoticeKind::Recovered, recovered, at)
            }
            IncidentEvent::Superseded { by } => {
                let text = match by {
                    Running::One(release) => format!("somebody installed {release}; backstop stands back"),
                    Running::Mix(_) => "somebody changed the release; backstop stands back".into(),
                    Running::Unknown(why) => format!("{why}; backstop stands back"),
                };
                self.end(State::Superseded, NoticeKind::Superseded, text, at)
            }
            IncidentEvent::Aborted { actor, reason } => {
                let text = said("aborted", actor, reason);
                by(actor, self.end(State::Aborted, NoticeKind::Declined, text, at))
            }
            IncidentEvent::NeedsHuman { why, text } => {
                self.stuck = self.step_at_hand();
                self.state = State::NeedsHuman { why: *why, reminded: at, text: text.clone() };
                self.acknowledged = false;
                vec![self.notify(NoticeKind::NeedsHuman, NoticeStatus::Firing, true, text.clone())]
            }
            IncidentEvent::Reminded => {
                if let State::NeedsHuman { reminded, .. } = &mut self.state {
                    *reminded = at;
                }
                let text = "still needs a person, and nobody has acknowledged it".to_owned();
                vec![self.notify(NoticeKind::NeedsHuman, NoticeStatus::Firing, true, text)]
            }
            IncidentEvent::Acknowledged { .. } => {
                self.acknowledged = true;
                Vec::new()
            }
            IncidentEvent::RtoPassed { rto_ms } => {
                self.rto_passed = true;
                let text = format!("recovery takes longer than the RTO of {}", short(Duration::from_millis(*rto_ms)));
                vec![self.notify(NoticeKind::Escalated, NoticeStatus::Firing, true, text)]
            }
            IncidentEvent::Cleared => {
                let text = "the breach has ended without a rollback proved by backstop".to_owned();
                self.end(State::Cleared, NoticeKind::Recovered, text, at)
            }
        }
    }

    fn reopened(&mut self, fact: &TriggerFact, at: Timestamp) -> Vec<Effect> {
        self.state = State::Firing;
        self.facts = BTreeMap::from([(fact.trigger.clone(), fact.clone())]);
        self.aside.clear();
        self.decision = None;
        self.admitted = None;
        self.plan = None;
        self.deadline = None;
        self.captures.clear();
        self.finished = None;
        self.target_seen = false;
        self.undo = None;
        self.episode += 1;
        self.told = false;
        self.acknowledged = false;
        self.opened = at;
        self.began = fact.since;
        self.rto_passed = false;
        self.ended = None;
        self.asked = None;
        self.held_from = None;
        self.overrides.clear();
        self.stuck = None;
        Vec::new()
    }

    fn judged(&mut self, decision: &Decision) -> Vec<Effect> {
        self.decision = Some(decision.clone());
        let why = sentences(decision);
        match decision.kind {
            DecisionKind::Hold => {
                self.state = State::Held;
                vec![self.notify(NoticeKind::Held, NoticeStatus::Firing, false, format!("held: {why}"))]
            }
            DecisionKind::Escalate => {
                self.state = State::Escalated;
                let text = format!("not rolled back, a person must look: {why}");
                vec![self.notify(NoticeKind::Escalated, NoticeStatus::Firing, true, text)]
            }
            DecisionKind::WouldRollBack => {
                self.state = State::WouldRollBack;
                let text = "would have rolled back, but only reports (autonomy = \"observe\")".to_owned();
                vec![self.notify(NoticeKind::WouldRollBack, NoticeStatus::Firing, false, text)]
            }
            // These are told by `Proposed` and `Admitted`.
            DecisionKind::RollBack | DecisionKind::Propose => Vec::new(),
        }
    }

    /// The person who ordered it, if one did.
    fn begin_level(&mut self, level: usize, at: Timestamp) -> Option<String> {
        *self.tried.entry(level).or_default() += 1;
        let actor = self.approved.take();
        self.ordered = actor.is_some();
        self.state = State::Ready { attempt: self.first_try(level, 0, false), since: at, after: None };
        self.level_began = None;
        self.undo = None;
        self.unread_since = None;
        self.finished = None;
        actor
    }

    fn level_finished(&mut self, level: usize, finished: Timestamp) -> Vec<Effect> {
        self.state = State::Verifying { level, finished, clear_since: None };
        self.finished = Some((level, finished));
        self.soak = Soak::from(finished);
        let verify = self.verify(level);
        let text = format!(
            "level {}{} is carried out; verifying: clear within {} and for {}",
            level + 1,
            self.level_name(level),
            short(verify.within),
            short(verify.soak)
        );
        vec![
            Effect::RestartWindows(finished),
            self.notify(NoticeKind::LevelFinished, NoticeStatus::Firing, false, text),
        ]
    }

    fn end(&mut self, state: State, kind: NoticeKind, text: String, at: Timestamp) -> Vec<Effect> {
        let name = state.as_str();
        self.state = state;
        self.ended = Some(at);
        let mut effects = vec![Effect::Ended(name)];
        if self.told {
            effects.push(self.notify(kind, NoticeStatus::Resolved, kind == NoticeKind::Expired, text));
        }
        effects
    }

    fn notify(&mut self, kind: NoticeKind, status: NoticeStatus, action_required: bool, text: String) -> Effect {
        self.told = true;
        Effect::Notify { kind, status, action_required, actor: None, text }
    }

    fn level_name(&self, level: usize) -> String {
        self.plan
            .as_ref()
            .and_then(|plan| plan.levels.get(level))
            .map_or_else(String::new, |level| format!(" ({})", level.name))
    }

    /// What is seen now is to be about what came after this.
    #[must_use]
    pub fn acted(&self) -> Timestamp {
        self.finished.map(|(_, at)| at).or(self.level_began).unwrap_or(self.began)
    }

    /// The level whose proofs count, and when it was carried out: while it is verified, and afterwards too, where a person
    /// is asked or called. What its own proofs say is wrong is not over because the triggers are quiet.
    #[must_use]
    pub fn proving(&self) -> Option<(usize, Timestamp)> {
        match &self.state {
            State::Verifying { level, finished, .. } => Some((*level, *finished)),
            State::NeedsHuman { .. } | State::Proposed { .. } => self.finished,
            State::Firing
            | State::Held
            | State::Escalated
            | State::WouldRollBack
            | State::HeldByPerson { .. }
            | State::Ready { .. }
            | State::Running { .. }
            | State::Checking { .. }
            | State::Stepped { .. }
            | State::LevelOver { .. }
            | State::Recovered
            | State::Declined
            | State::Expired
            | State::Superseded
            | State::Aborted
            | State::Cleared => None,
        }
    }

    /// How a level of the frozen plan is verified.
    #[must_use]
    pub fn verify(&self, level: usize) -> Verify {
        self.plan.as_ref().and_then(|plan| plan.levels.get(level)).map_or_else(
            || Verify {
                within: Duration::ZERO,
                soak: Duration::ZERO,
                probes: Vec::new(),
                checks: Vec::new(),
                still_wrong: Vec::new(),
                serves_target: false,
            },
            |level| level.verify.clone(),
        )
    }
}

/// The sum of the limits of the levels that may still be tried, from `start` on.
#[must_use]
pub fn deadline(plan: &Plan, start: usize, now: Timestamp) -> Timestamp {
    let levels = plan.levels.iter().skip(start);
    levels.fold(now + DEADLINE_SLACK, |sum, level| {
        let steps: Duration = level.steps.iter().map(steps::longest).sum();
        // At its own deadline a level lets the step that runs come to its end.
        let last = level.steps.iter().map(steps::longest).max().unwrap_or(Duration::ZERO);
        let steps = level.deadline.map_or(steps, |deadline| steps.min(deadline + last));
        let undo: Duration = level.undo.iter().map(steps::longest).sum();
        let look = if level.undo.is_empty() { Duration::ZERO } else { RELEASE_GRACE };
        sum + steps + level.verify.within + level.verify.soak + undo + look + DEADLINE_SLACK
    })
}

/// What an actor made happen carries their name.
fn by(actor: &Actor, mut effects: Vec<Effect>) -> Vec<Effect> {
    for effect in &mut effects {
        if let Effect::Notify { actor: named, .. } = effect {
            *named = Some(actor.name.clone());
        }
    }
    effects
}

/// Who did it and, if a reason was given, why.
fn said(what: &str, actor: &Actor, reason: &str) -> String {
    let why = if reason.is_empty() { String::new() } else { format!(": {reason}") };
    format!("{what} by {}{why}", actor.name)
}

fn sentences(decision: &Decision) -> String {
    let sentences: Vec<&str> = decision.reasons.iter().map(|reason| reason.sentence.as_str()).collect();
    sentences.join("; ")
}
