//! The incident machine: one total function `apply(event)` for live and replay, and `advance`, which derives from a
//! state and its situation what happens next.
//!
//! Replay applies the recorded events and discards the effects; what is still to do then follows from `advance`, so
//! recovery after a crash is not a second path.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::event::{
    Actor, Attempt, Autonomy, Decision, DecisionKind, IncidentEvent, IncidentId, NoticeKind, NoticeStatus, OnFailure,
    Outcome, Plan, Reason, Release, Running, Severity, Step, StepResult, TriggerFact, Verified, Verify, WhyHuman,
};
use super::trigger::short;
use super::verify::{Reading, Soak};
use crate::time::Timestamp;

/// An idempotent step whose outcome cannot be known is run at most this often.
const ATTEMPTS_MAX: u32 = 3;

/// How long what runs may stay unreadable between two steps before a person is called: a restart takes a moment.
const RELEASE_GRACE: Duration = Duration::from_secs(60);

/// Beside the limits of its levels, an incident gets this for disk, detectors and scheduling.
const DEADLINE_SLACK: Duration = Duration::from_secs(60);

#[derive(Clone, Debug, PartialEq)]
pub enum State {
    /// Opened, not yet judged.
    Firing,
    Held,
    Escalated,
    WouldRollBack,
    Proposed {
        level: usize,
        respond_by: Timestamp,
    },
    /// The next thing to do is this attempt.
    Ready {
        attempt: Attempt,
        since: Timestamp,
    },
    /// Its intent is written; it may have started.
    Running {
        attempt: Attempt,
    },
    /// The step has ended; what follows is derived.
    Stepped {
        attempt: Attempt,
        outcome: Outcome,
    },
    Verifying {
        level: usize,
        finished: Timestamp,
        clear_since: Option<Timestamp>,
    },
    /// The level did not help, or could not be carried out.
    LevelOver {
        level: usize,
        why: String,
    },
    NeedsHuman {
        why: WhyHuman,
        reminded: Timestamp,
    },
    Recovered,
    Declined,
    Expired,
    Superseded,
    Aborted,
    Cleared,
}

impl State {
    #[must_use]
    pub const fn as_str(&self) -> &'static str {
        match self {
            State::Firing => "firing",
            State::Held => "held",
            State::Escalated => "escalated",
            State::WouldRollBack => "would_roll_back",
            State::Proposed { .. } => "proposed",
            State::Ready { .. } | State::Running { .. } | State::Stepped { .. } | State::LevelOver { .. } => "running",
            State::Verifying { .. } => "verifying",
            State::NeedsHuman { .. } => "needs_human",
            State::Recovered => "recovered",
            State::Declined => "declined",
            State::Expired => "expired",
            State::Superseded => "superseded",
            State::Aborted => "aborted",
            State::Cleared => "cleared",
        }
    }

    /// Something may still happen by itself, or somebody must do something.
    #[must_use]
    pub const fn is_open(&self) -> bool {
        !matches!(
            self,
            State::Recovered | State::Declined | State::Expired | State::Superseded | State::Aborted | State::Cleared
        )
    }

    /// Before anything was done.
    #[must_use]
    pub const fn is_waiting(&self) -> bool {
        matches!(self, State::Firing | State::Held | State::Escalated | State::WouldRollBack | State::Proposed { .. })
    }
}

/// What follows from an event, beside the state.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    RunStep(Attempt),
    Notify {
        kind: NoticeKind,
        status: NoticeStatus,
        action_required: bool,
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
    Admit { decision: Decision, actor: Option<Actor> },
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
pub struct Situation<'a> {
    pub running: &'a Running,
    pub breach: Breach,
    /// The guard's answer; needed only while the incident waits.
    pub decision: Option<Decision>,
    /// The level that would be tried first.
    pub level: usize,
    /// Verification's view of the trigger windows and probes, since the level finished.
    pub reading: Reading,
    pub paused: bool,
    pub respond_within: Duration,
    pub remind_every: Duration,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Incident {
    pub id: IncidentId,
    pub service: String,
    pub release: Option<Release>,
    pub state: State,
    /// By trigger, the latest fact of each.
    pub facts: BTreeMap<String, TriggerFact>,
    pub decision: Option<Decision>,
    pub plan: Option<Plan>,
    pub receivers: Vec<String>,
    pub deadline: Option<Timestamp>,
    /// Levels that were begun, in any episode.
    pub tried: BTreeSet<usize>,
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
    pub ended: Option<Timestamp>,
    pub admitted: Option<Timestamp>,
    /// A step may still run although the incident has moved on (deadline, abort).
    pub in_flight: Option<Attempt>,
    /// Since when what runs cannot be read, between steps. Not recorded.
    pub unread_since: Option<Timestamp>,
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
            decision: None,
            plan: None,
            receivers: Vec::new(),
            deadline: None,
            tried: BTreeSet::new(),
            captures: BTreeMap::new(),
            acknowledged: false,
            target_seen: false,
            episode: 1,
            notices: 0,
            told: false,
            opened: at,
            ended: None,
            admitted: None,
            in_flight: None,
            unread_since: None,
            soak: Soak::default(),
        })
    }

    #[must_use]
    pub fn severity(&self) -> Severity {
        self.facts.values().map(|fact| fact.severity).max().unwrap_or(Severity::High)
    }

    /// The step of the frozen plan.
    #[must_use]
    pub fn step(&self, attempt: Attempt) -> Option<&Step> {
        self.plan.as_ref()?.levels.get(attempt.level)?.steps.get(attempt.step)
    }

    /// The level that is under way or was last.
    #[must_use]
    pub fn level(&self) -> Option<usize> {
        match &self.state {
            State::Proposed { level, .. } | State::Verifying { level, .. } | State::LevelOver { level, .. } => {
                Some(*level)
            }
            State::Ready { attempt, .. } | State::Running { attempt } | State::Stepped { attempt, .. } => {
                Some(attempt.level)
            }
            State::Firing
            | State::Held
            | State::Escalated
            | State::WouldRollBack
            | State::NeedsHuman { .. }
            | State::Recovered
            | State::Declined
            | State::Expired
            | State::Superseded
            | State::Aborted
            | State::Cleared => self.tried.last().copied(),
        }
    }

    /// The first level at or above `from` that was not begun.
    #[must_use]
    pub fn untried(&self, from: usize, levels: usize) -> Option<usize> {
        (from..levels).find(|level| !self.tried.contains(level))
    }

    /// The state that follows from an event. Total: an event that does not fit its state changes nothing but what it
    /// reports (a step that ends after the deadline is still recorded).
    pub fn apply(&mut self, event: &IncidentEvent, at: Timestamp) -> Vec<Effect> {
        match event {
            IncidentEvent::Opened { .. } => Vec::new(),
            IncidentEvent::Reopened { fact } => self.reopened(fact, at),
            IncidentEvent::Joined { fact } => {
                self.facts.insert(fact.trigger.clone(), (**fact).clone());
                Vec::new()
            }
            IncidentEvent::Judged { decision } => self.judged(decision),
            IncidentEvent::Proposed { level, respond_by, decision } => {
                self.state = State::Proposed { level: *level, respond_by: *respond_by };
                self.decision = Some(decision.clone());
                let asked = format!("asks to roll back at level {}: {}", level + 1, sentences(decision));
                vec![self.notify(NoticeKind::ApprovalRequested, NoticeStatus::Firing, true, asked)]
            }
            // Answered by the admission that follows.
            IncidentEvent::Approved { .. } => Vec::new(),
            IncidentEvent::Declined { actor, reason } => {
                self.end(State::Declined, NoticeKind::Declined, format!("declined by {}: {reason}", actor.name), at)
            }
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
                self.begin_level(plan.start_level, at);
                let by = actor.as_ref().map_or_else(String::new, |actor| format!(" by {}", actor.name));
                let to = plan.target.as_ref().map_or_else(String::new, |target| format!(" to {target}"));
                let started = format!("rolling back {}{to}, started{by}", plan.bad);
                vec![
                    Effect::MarkBad(plan.bad.clone()),
                    self.notify(NoticeKind::Started, NoticeStatus::Firing, false, started),
                ]
            }
            IncidentEvent::StepIntended { attempt, .. } => {
                self.state = State::Running { attempt: *attempt };
                self.in_flight = Some(*attempt);
                vec![Effect::RunStep(*attempt)]
            }
            IncidentEvent::StepStarted { .. } => Vec::new(),
            IncidentEvent::StepFinished { attempt, result } => self.stepped(*attempt, result, at),
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
            IncidentEvent::LevelFailed { level, why, .. } => {
                self.state = State::LevelOver { level: *level, why: why.clone() };
                let failed = format!("level {} did not help: {why}", level + 1);
                vec![self.notify(NoticeKind::LevelFinished, NoticeStatus::Firing, false, failed)]
            }
            IncidentEvent::Climbed { to } => {
                self.begin_level(*to, at);
                self.acknowledged = false;
                self.ended = None;
                vec![self.notify(
                    NoticeKind::Started,
                    NoticeStatus::Firing,
                    false,
                    format!("climbing to level {}{}", to + 1, self.level_name(*to)),
                )]
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
                    Running::Mix(_) | Running::Unknown(_) => {
                        "somebody changed the release; backstop stands back".into()
                    }
                };
                self.end(State::Superseded, NoticeKind::Superseded, text, at)
            }
            IncidentEvent::Aborted { actor, reason } => {
                self.end(State::Aborted, NoticeKind::Declined, format!("aborted by {}: {reason}", actor.name), at)
            }
            IncidentEvent::NeedsHuman { why, text } => {
                self.state = State::NeedsHuman { why: *why, reminded: at };
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
            IncidentEvent::Cleared => {
                let text = "the breach has ended without a rollback proved by backstop".to_owned();
                self.end(State::Cleared, NoticeKind::Recovered, text, at)
            }
        }
    }

    fn reopened(&mut self, fact: &TriggerFact, at: Timestamp) -> Vec<Effect> {
        self.state = State::Firing;
        self.facts = BTreeMap::from([(fact.trigger.clone(), fact.clone())]);
        self.decision = None;
        self.admitted = None;
        self.plan = None;
        self.deadline = None;
        self.captures.clear();
        self.target_seen = false;
        self.episode += 1;
        self.told = false;
        self.acknowledged = false;
        self.opened = at;
        self.ended = None;
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

    fn begin_level(&mut self, level: usize, at: Timestamp) {
        self.tried.insert(level);
        self.state = State::Ready { attempt: Attempt { level, step: 0, attempt: 1 }, since: at };
        self.unread_since = None;
    }

    fn stepped(&mut self, attempt: Attempt, result: &StepResult, at: Timestamp) -> Vec<Effect> {
        if self.in_flight == Some(attempt) {
            self.in_flight = None;
        }
        self.captures.extend(result.captures.iter().map(|(name, value)| (name.clone(), value.clone())));
        if self.state == (State::Running { attempt }) {
            self.state = match self.next_attempt(attempt, result.outcome) {
                Some(next) => State::Ready { attempt: next, since: at },
                None => State::Stepped { attempt, outcome: result.outcome },
            };
            self.unread_since = None;
        }
        match result.outcome {
            Outcome::Succeeded => Vec::new(),
            Outcome::Failed | Outcome::TimedOut | Outcome::Ambiguous => {
                let name = self.step(attempt).map_or_else(String::new, |step| format!(" ({})", step.name));
                let text = format!("step {}{name} of level {}: {}", attempt.step + 1, attempt.level + 1, result.detail);
                vec![self.notify(NoticeKind::StepFailed, NoticeStatus::Firing, false, text)]
            }
        }
    }

    /// The attempt that follows within the level. None at its end, and where a failure decides otherwise.
    fn next_attempt(&self, attempt: Attempt, outcome: Outcome) -> Option<Attempt> {
        let step = self.step(attempt)?;
        let next = Attempt { step: attempt.step + 1, attempt: 1, ..attempt };
        match (outcome, step.on_failure) {
            (Outcome::Succeeded, _) | (Outcome::Failed, OnFailure::Continue) => self.step(next).map(|_| next),
            (Outcome::Ambiguous, _) if step.idempotent && attempt.attempt < ATTEMPTS_MAX => {
                Some(Attempt { attempt: attempt.attempt + 1, ..attempt })
            }
            (Outcome::Failed | Outcome::TimedOut | Outcome::Ambiguous, _) => None,
        }
    }

    fn level_finished(&mut self, level: usize, finished: Timestamp) -> Vec<Effect> {
        self.state = State::Verifying { level, finished, clear_since: None };
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
        Effect::Notify { kind, status, action_required, text }
    }

    fn level_name(&self, level: usize) -> String {
        self.plan
            .as_ref()
            .and_then(|plan| plan.levels.get(level))
            .map_or_else(String::new, |level| format!(" ({})", level.name))
    }

    /// How a level of the frozen plan is verified.
    #[must_use]
    pub fn verify(&self, level: usize) -> Verify {
        self.plan.as_ref().and_then(|plan| plan.levels.get(level)).map_or_else(
            || Verify { within: Duration::ZERO, soak: Duration::ZERO, probes: Vec::new() },
            |level| level.verify.clone(),
        )
    }

    /// What happens next, if anything does at this instant. Called again after each event until it says None.
    #[must_use]
    pub fn advance(&self, situation: &Situation<'_>, now: Timestamp) -> Option<Move> {
        let event = match &self.state {
            State::Proposed { level, respond_by } if self.admitted.is_some() => {
                self.asking_to_climb(*level, *respond_by, situation, now)?
            }
            State::Firing | State::Held | State::Escalated | State::WouldRollBack | State::Proposed { .. } => {
                return self.wait(situation, now);
            }
            State::Ready { attempt, since } => self.begin_step(*attempt, *since, situation, now)?,
            State::Running { .. } => self.overdue(now)?,
            State::Stepped { attempt, outcome } => self.after_step(*attempt, *outcome, now),
            State::Verifying { level, finished, clear_since } => {
                self.verifying(*level, *finished, *clear_since, situation, now)?
            }
            State::LevelOver { level, why } => self.after_level(*level, why, situation, now)?,
            State::NeedsHuman { reminded, .. } => self.with_a_person(*reminded, situation, now)?,
            State::Recovered
            | State::Declined
            | State::Expired
            | State::Superseded
            | State::Aborted
            | State::Cleared => return None,
        };
        Some(Move::Event(event))
    }

    fn wait(&self, situation: &Situation<'_>, now: Timestamp) -> Option<Move> {
        if let (Some(judged), Running::One(running)) = (&self.release, situation.running)
            && running != judged
        {
            return Some(Move::Event(IncidentEvent::Superseded { by: situation.running.clone() }));
        }
        if situation.breach == Breach::Over {
            return Some(Move::Event(IncidentEvent::Cleared));
        }
        if let State::Proposed { respond_by, .. } = &self.state
            && now >= *respond_by
        {
            return Some(Move::Event(IncidentEvent::Expired));
        }
        // What is not known now is not acted on, and changes no answer that was given on what was known.
        if situation.breach == Breach::Unclear && self.decision.is_some() {
            return None;
        }
        let decision = situation.decision.as_ref()?;
        if self.decision.as_ref().is_some_and(|before| same_answer(before, decision)) {
            return None;
        }
        match decision.kind {
            DecisionKind::RollBack if situation.breach == Breach::Firing => {
                Some(Move::Admit { decision: decision.clone(), actor: None })
            }
            DecisionKind::RollBack => None,
            DecisionKind::Propose => Some(Move::Event(IncidentEvent::Proposed {
                level: situation.level,
                respond_by: now + situation.respond_within,
                decision: decision.clone(),
            })),
            DecisionKind::Hold | DecisionKind::Escalate | DecisionKind::WouldRollBack => {
                Some(Move::Event(IncidentEvent::Judged { decision: decision.clone() }))
            }
        }
    }

    fn begin_step(
        &self,
        attempt: Attempt,
        since: Timestamp,
        situation: &Situation<'_>,
        now: Timestamp,
    ) -> Option<IncidentEvent> {
        if let Some(late) = self.overdue(now) {
            return Some(late);
        }
        match self.runs_ours(situation.running) {
            Ours::Yes => {}
            Ours::No => return Some(IncidentEvent::Superseded { by: situation.running.clone() }),
            Ours::Unknown(why) => {
                let unread_since = self.unread_since.unwrap_or(since);
                return (now.since(unread_since) >= RELEASE_GRACE).then(|| IncidentEvent::NeedsHuman {
                    why: WhyHuman::ReleaseUnknown,
                    text: format!("what runs cannot be read, so the next step is not started: {why}"),
                });
            }
        }
        let first_of_level = attempt.step == 0 && attempt.attempt == 1;
        if situation.paused && first_of_level {
            return None;
        }
        Some(IncidentEvent::StepIntended { attempt, input_hash: String::new() })
    }

    fn overdue(&self, now: Timestamp) -> Option<IncidentEvent> {
        let deadline = self.deadline?;
        (now >= deadline).then(|| IncidentEvent::NeedsHuman {
            why: WhyHuman::DeadlineReached,
            text: "the deadline of the incident is reached; a step that still runs is not killed".to_owned(),
        })
    }

    fn after_step(&self, attempt: Attempt, outcome: Outcome, now: Timestamp) -> IncidentEvent {
        let human = |why, text: String| IncidentEvent::NeedsHuman { why, text };
        let Some(step) = self.step(attempt) else {
            return human(WhyHuman::Unreadable, "the plan has no such step".to_owned());
        };
        let named = format!("step {} ({}) of level {}", attempt.step + 1, step.name, attempt.level + 1);
        match (outcome, step.on_failure) {
            (Outcome::Succeeded, _) | (Outcome::Failed, OnFailure::Continue) => {
                IncidentEvent::LevelFinished { level: attempt.level, at: now }
            }
            (Outcome::Failed, OnFailure::Climb) => IncidentEvent::LevelFailed {
                level: attempt.level,
                verified: Verified::NotReached,
                why: format!("{named} failed"),
            },
            (Outcome::Failed, OnFailure::Stop) => human(WhyHuman::StepFailed, format!("{named} failed")),
            (Outcome::TimedOut, _) => {
                human(WhyHuman::StepTimedOut, format!("{named} reached its deadline; it may have half worked"))
            }
            (Outcome::Ambiguous, _) => {
                human(WhyHuman::StepAmbiguous, format!("it cannot be known whether {named} took effect"))
            }
        }
    }

    fn verifying(
        &self,
        level: usize,
        finished: Timestamp,
        clear_since: Option<Timestamp>,
        situation: &Situation<'_>,
        now: Timestamp,
    ) -> Option<IncidentEvent> {
        match self.runs_ours(situation.running) {
            Ours::Yes if self.target_seen && self.runs_bad(situation.running) => {
                return Some(IncidentEvent::NeedsHuman {
                    why: WhyHuman::BadReleaseCameBack,
                    text: "the bad release has come back; backstop does not fight over it".to_owned(),
                });
            }
            Ours::Yes | Ours::Unknown(_) => {}
            Ours::No => return Some(IncidentEvent::Superseded { by: situation.running.clone() }),
        }
        let verify = self.verify(level);
        let from = self.soak.from.max(finished);
        let first_clear_by = from + verify.within;
        let failed =
            |why: &str| IncidentEvent::LevelFailed { level, verified: Verified::NotRecovered, why: why.to_owned() };
        match (situation.reading, clear_since) {
            (Reading::Breached, Some(_)) if now < first_clear_by => Some(IncidentEvent::Relapsed),
            (Reading::Breached, Some(_)) => Some(failed("it was clear, and breached again during the soak")),
            (Reading::Breached, None) if now >= first_clear_by => {
                Some(failed(&format!("still breached {} after it", short(verify.within))))
            }
            (Reading::Clear, None) => Some(IncidentEvent::CameClear { at: now }),
            (Reading::Clear, Some(since)) if self.soak.soaked >= verify.soak => {
                Some(IncidentEvent::Recovered { clear_since: Some(since) })
            }
            (Reading::Breached | Reading::Unknown, None) | (Reading::Clear | Reading::Unknown, Some(_)) => {
                let end = first_clear_by + verify.soak + self.soak.slack;
                (now >= end || self.deadline.is_some_and(|deadline| now >= deadline)).then(|| {
                    IncidentEvent::NeedsHuman {
                        why: WhyHuman::Inconclusive,
                        text: "verification could not tell whether it has recovered".to_owned(),
                    }
                })
            }
        }
    }

    fn after_level(&self, level: usize, why: &str, situation: &Situation<'_>, now: Timestamp) -> Option<IncidentEvent> {
        if let Some(late) = self.overdue(now) {
            return Some(late);
        }
        if let Ours::No = self.runs_ours(situation.running) {
            return Some(IncidentEvent::Superseded { by: situation.running.clone() });
        }
        let levels = self.plan.as_ref().map_or(0, |plan| plan.levels.len());
        match self.untried(level + 1, levels) {
            Some(_) if situation.paused => None,
            Some(to) if self.asks_before(to) => Some(IncidentEvent::Proposed {
                level: to,
                respond_by: now + situation.respond_within,
                decision: Decision {
                    kind: DecisionKind::Propose,
                    reasons: vec![Reason {
                        code: "autonomy".to_owned(),
                        sentence: format!("a person decides about level {}{}", to + 1, self.level_name(to)),
                    }],
                    checks: Vec::new(),
                },
            }),
            Some(to) => Some(IncidentEvent::Climbed { to }),
            None => Some(IncidentEvent::NeedsHuman {
                why: WhyHuman::LadderExhausted,
                text: format!("no level is left: {why}"),
            }),
        }
    }

    fn asks_before(&self, level: usize) -> bool {
        let level = self.plan.as_ref().and_then(|plan| plan.levels.get(level));
        level.and_then(|level| level.autonomy).is_some_and(|autonomy| autonomy < Autonomy::Act)
    }

    fn asking_to_climb(
        &self,
        level: usize,
        respond_by: Timestamp,
        situation: &Situation<'_>,
        now: Timestamp,
    ) -> Option<IncidentEvent> {
        if let Ours::No = self.runs_ours(situation.running) {
            return Some(IncidentEvent::Superseded { by: situation.running.clone() });
        }
        if situation.breach == Breach::Over {
            return Some(IncidentEvent::Cleared);
        }
        (now >= respond_by).then(|| IncidentEvent::NeedsHuman {
            why: WhyHuman::LadderExhausted,
            text: format!("nobody answered whether to climb to level {}", level + 1),
        })
    }

    fn with_a_person(&self, reminded: Timestamp, situation: &Situation<'_>, now: Timestamp) -> Option<IncidentEvent> {
        if self.in_flight.is_some() {
            return None;
        }
        if let Ours::No = self.runs_ours(situation.running) {
            return Some(IncidentEvent::Superseded { by: situation.running.clone() });
        }
        if situation.breach == Breach::Over {
            return Some(IncidentEvent::Cleared);
        }
        (!self.acknowledged && now.since(reminded) >= situation.remind_every).then_some(IncidentEvent::Reminded)
    }

    fn runs_bad(&self, running: &Running) -> bool {
        matches!((running, &self.plan), (Running::One(release), Some(plan)) if *release == plan.bad)
    }

    /// Does only the judged release run, or what this incident installs?
    fn runs_ours(&self, running: &Running) -> Ours {
        let Some(plan) = &self.plan else { return Ours::Unknown("nothing was admitted".to_owned()) };
        let ours = |release: &Release| *release == plan.bad || Some(release) == plan.target.as_ref();
        match running {
            Running::One(release) if ours(release) => Ours::Yes,
            Running::Mix(shares) if shares.iter().all(|(release, _)| ours(release)) => Ours::Yes,
            Running::One(_) | Running::Mix(_) => Ours::No,
            Running::Unknown(why) => Ours::Unknown(why.clone()),
        }
    }

    /// Instants at which `advance` may say something although nothing happens until then.
    #[must_use]
    pub fn wakes(&self, remind_every: Duration) -> Vec<Timestamp> {
        let deadline = self.deadline.unwrap_or(Timestamp::MAX);
        match &self.state {
            State::Proposed { respond_by, .. } => vec![*respond_by],
            State::Ready { since, .. } => vec![self.unread_since.unwrap_or(*since) + RELEASE_GRACE, deadline],
            State::Running { .. } | State::LevelOver { .. } => vec![deadline],
            State::Verifying { level, finished, .. } => {
                let verify = self.verify(*level);
                let first = self.soak.from.max(*finished) + verify.within;
                vec![first, first + verify.soak + self.soak.slack, deadline]
            }
            State::NeedsHuman { reminded, .. } if !self.acknowledged && self.in_flight.is_none() => {
                vec![*reminded + remind_every]
            }
            State::Firing
            | State::Held
            | State::Escalated
            | State::WouldRollBack
            | State::Stepped { .. }
            | State::NeedsHuman { .. }
            | State::Recovered
            | State::Declined
            | State::Expired
            | State::Superseded
            | State::Aborted
            | State::Cleared => Vec::new(),
        }
    }
}

enum Ours {
    Yes,
    No,
    Unknown(String),
}

/// The sum of the limits of the levels that may still be tried, from `start` on.
#[must_use]
pub fn deadline(plan: &Plan, start: usize, now: Timestamp) -> Timestamp {
    let levels = plan.levels.iter().skip(start);
    levels.fold(now + DEADLINE_SLACK, |sum, level| {
        let steps: Duration = level.steps.iter().map(|step| step.timeout).sum();
        sum + steps + level.verify.within + level.verify.soak + DEADLINE_SLACK
    })
}

/// The same answer for the same reasons; the sentences may differ in their numbers.
fn same_answer(a: &Decision, b: &Decision) -> bool {
    a.kind == b.kind && a.reasons.iter().map(|r| &r.code).eq(b.reasons.iter().map(|r| &r.code))
}

fn sentences(decision: &Decision) -> String {
    let sentences: Vec<&str> = decision.reasons.iter().map(|reason| reason.sentence.as_str()).collect();
    sentences.join("; ")
}
