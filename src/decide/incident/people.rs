//! What people decide about an incident, and what becomes of it when they do not: proposals and their silence, holding a
//! rollback back to fix forward, skipping a step.

use std::time::Duration;

use super::{Breach, Effect, Incident, Move, Patience, Situation, State, deadline};
use crate::decide::event::{
    Actor, Asked, Attempt, Decision, DecisionKind, IncidentEvent, Level, NoticeKind, NoticeQuestion, NoticeStatus,
    OnSilence, Outcome, Release, Running, WhyHuman,
};
use crate::time::Timestamp;

/// However short the time to answer, people are not asked again more often.
const ASK_AGAIN_MIN: Duration = Duration::from_mins(1);

/// Whom a proposal would ask now, and what it would show.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct People {
    /// What would be rolled back, and to what.
    pub bad: Option<Release>,
    pub target: Option<Release>,
    /// What each level would do ([`Level::hash`]).
    pub levels: Vec<String>,
    /// By the policy of the incident's severity.
    pub approvers: Vec<String>,
    pub on_silence: OnSilence,
    /// The guard's answer if silence were a yes; needed only when the time for it has come.
    pub silence: Option<Decision>,
}

impl Incident {
    /// A question, with what it shows and whose answer counts.
    pub(super) fn ask(
        &self,
        level: usize,
        decision: Decision,
        situation: &Situation<'_>,
        now: Timestamp,
    ) -> IncidentEvent {
        let people = &situation.people;
        let (bad, target, level_hash) = match &self.plan {
            Some(plan) if self.admitted.is_some() => {
                (Some(plan.bad.clone()), plan.target.clone(), plan.levels.get(level).map(Level::hash))
            }
            Some(_) | None => (people.bad.clone(), people.target.clone(), people.levels.get(level).cloned()),
        };
        let open = match &self.state {
            State::Proposed { level, respond_by } => Some((*level, *respond_by)),
            _ => None,
        };
        let fresh = now + situation.patience.respond_within;
        let shown = self.asked.as_ref();
        let same = shown.is_none_or(|asked| {
            let same_level = asked.level_hash.is_none() || asked.level_hash == level_hash;
            asked.bad == bad && asked.target == target && same_level
        });
        let (number, respond_by) = match open {
            // Other reasons for the same question give nobody more time.
            Some((before, respond_by)) if same && before == level => {
                let raised = shown.is_some_and(|asked| asked.severity < self.severity());
                (self.questions.max(1), if raised { respond_by.min(fresh) } else { respond_by })
            }
            Some((_, respond_by)) if same => (self.questions + 1, respond_by),
            Some(_) | None => (self.questions + 1, fresh),
        };
        let asked = Asked {
            number,
            bad,
            target,
            level_hash,
            severity: self.severity(),
            approvers: people.approvers.clone(),
            on_silence: people.on_silence,
        };
        IncidentEvent::Proposed { level, respond_by, decision, asked: Some(Box::new(asked)) }
    }

    /// The way back or the level is another one by now, or another trigger has raised the severity.
    pub(super) fn asks_anew(&self, situation: &Situation<'_>) -> bool {
        let (State::Proposed { level, .. }, Some(asked)) = (&self.state, &self.asked) else { return false };
        asked.severity < self.severity() || !shows_the_same(asked, *level, &situation.people)
    }

    pub(super) fn takes_question(&mut self, asked: Option<&Asked>) {
        self.questions = asked.map_or(self.questions + 1, |asked| asked.number);
        self.asked = asked.cloned();
    }

    /// Nobody has answered in time whether to roll back. None: what silence would approve is doubtful at this instant.
    pub(super) fn after_silence(
        &self,
        level: usize,
        respond_by: Timestamp,
        situation: &Situation<'_>,
        now: Timestamp,
    ) -> Option<Move> {
        let asked = self.asked.as_ref();
        match asked.map_or(OnSilence::Decline, |asked| asked.on_silence) {
            OnSilence::Decline => Some(Move::Event(IncidentEvent::Expired)),
            OnSilence::Escalate => Some(Move::Event(keeps_asking(situation, now))),
            OnSilence::Approve => {
                let shown = asked.is_some_and(|asked| shows_the_same(asked, level, &situation.people));
                approved_by_silence(level, shown, situation).or_else(|| {
                    let again = now >= asks_again_at(respond_by, &situation.patience);
                    again.then(|| Move::Event(keeps_asking(situation, now)))
                })
            }
        }
    }

    /// Nobody has answered in time whether to climb. None: it is held up, or it is doubtful at this instant.
    pub(super) fn climb_after_silence(
        &self,
        level: usize,
        situation: &Situation<'_>,
        now: Timestamp,
    ) -> Option<IncidentEvent> {
        match self.asked.as_ref().map_or(OnSilence::Decline, |asked| asked.on_silence) {
            OnSilence::Escalate => Some(keeps_asking(situation, now)),
            OnSilence::Approve if situation.paused || situation.journal_failing || situation.draining => None,
            OnSilence::Approve if situation.outage.is_some() => None,
            OnSilence::Approve if situation.breach == Breach::Firing => {
                Some(IncidentEvent::Climbed { to: level, overrides: Vec::new() })
            }
            OnSilence::Approve => None,
            OnSilence::Decline => Some(IncidentEvent::NeedsHuman {
                why: WhyHuman::LadderExhausted,
                text: format!("nobody answered whether to climb to level {}", level + 1),
            }),
        }
    }

    /// What silence approved could not begin for so long that a person is called. The time to answer is not counted in the
    /// limits of the levels, so there is as much again, and the deadline where that is later.
    #[must_use]
    pub fn climb_is_late(&self, patience: &Patience, now: Timestamp) -> Option<IncidentEvent> {
        let late = self.climb_late_at(patience)?;
        (now >= late).then(|| IncidentEvent::NeedsHuman {
            why: WhyHuman::DeadlineReached,
            text: "nobody answered whether to climb, and what silence approved could not begin in time".to_owned(),
        })
    }

    pub(super) fn climb_late_at(&self, patience: &Patience) -> Option<Timestamp> {
        match self.state {
            State::Proposed { respond_by, .. } if self.admitted.is_some() => {
                Some(asks_again_at(respond_by, patience).max(self.deadline.unwrap_or(Timestamp::MIN)))
            }
            _ => None,
        }
    }

    /// Did nobody answer in time, and does that count as a yes?
    #[must_use]
    pub fn is_approved_by_silence(&self, next: &Move, now: Timestamp) -> bool {
        let goes_on = matches!(next, Move::Admit { .. } | Move::Event(IncidentEvent::Climbed { .. }));
        let over = matches!(self.state, State::Proposed { respond_by, .. } if now >= respond_by);
        let counts = self.asked.as_ref().is_some_and(|asked| asked.on_silence == OnSilence::Approve);
        goes_on && over && counts
    }

    pub(super) fn unanswered(&mut self, until: Timestamp) -> Vec<Effect> {
        let State::Proposed { level, respond_by } = &mut self.state else { return Vec::new() };
        *respond_by = until;
        let text = format!("nobody has answered whether to roll back at level {}; it still asks", *level + 1);
        vec![self.notify(NoticeKind::Escalated, NoticeStatus::Firing, true, text)]
    }

    /// What is asked now, as it is shown to people.
    #[must_use]
    pub fn question(&self) -> Option<NoticeQuestion> {
        let State::Proposed { level, .. } = self.state else { return None };
        let asked = self.asked.as_ref()?;
        let text = |release: &Option<Release>| release.as_ref().map(ToString::to_string);
        Some(NoticeQuestion { number: asked.number, level, bad: text(&asked.bad), target: text(&asked.target) })
    }

    /// May a person hold it? Only before anything is done.
    #[must_use]
    pub fn may_be_held(&self) -> bool {
        self.state.is_waiting() && self.admitted.is_none()
    }

    pub(super) fn hold_ordered(&mut self, actor: &Actor, reason: &str, until: Timestamp, at: Timestamp) -> Vec<Effect> {
        self.state = State::HeldByPerson { until };
        self.held_from.get_or_insert(at);
        let limit = crate::decide::trigger::short(until.since(at));
        let text = format!("held for {limit} by {}, to fix it forward: {reason}", actor.name);
        vec![self.notify(NoticeKind::Held, NoticeStatus::Firing, false, text)]
    }

    /// It goes on as if it had just been opened; what follows is told.
    pub(super) fn hold_ended(&mut self) -> Vec<Effect> {
        self.state = State::Firing;
        self.decision = None;
        Vec::new()
    }

    pub(super) fn held_by_person(
        &self,
        until: Timestamp,
        situation: &Situation<'_>,
        now: Timestamp,
    ) -> Option<IncidentEvent> {
        if let (Some(judged), Running::One(running)) = (&self.release, situation.running)
            && running != judged
        {
            return Some(IncidentEvent::Superseded { by: situation.running.clone() });
        }
        if situation.breach == Breach::Over {
            return Some(IncidentEvent::Cleared);
        }
        (now >= until).then(|| IncidentEvent::HoldEnded { actor: None, reason: "its time limit is reached".to_owned() })
    }

    /// The step that is next, runs, or has just ended.
    pub(super) fn step_at_hand(&self) -> Option<Attempt> {
        match &self.state {
            State::Ready { attempt, .. }
            | State::Running { attempt }
            | State::Checking { attempt, .. }
            | State::Stepped { attempt, .. } => Some(*attempt),
            State::NeedsHuman { .. } => self.stuck,
            _ => None,
        }
    }

    /// The step that a person may pass over: the next one, or the one at which a person was called. Never one that runs.
    #[must_use]
    pub fn skippable(&self) -> Option<Attempt> {
        let attempt = match &self.state {
            State::Ready { attempt, .. } => *attempt,
            State::NeedsHuman { .. } => self.stuck.filter(|attempt| !attempt.undo)?,
            _ => return None,
        };
        self.in_flight.is_none().then_some(attempt)
    }

    pub(super) fn skipped(&mut self, attempt: Attempt, at: Timestamp) -> Vec<Effect> {
        // Waiting for a person is counted neither in the sum of the limits nor in the level's own.
        if let (State::NeedsHuman { .. }, Some(plan), Some(limit)) = (&self.state, &self.plan, &mut self.deadline) {
            *limit = (*limit).max(deadline(plan, attempt.level, at));
            self.level_began = self.level_began.map(|_| at);
        }
        let next = self.first_try(attempt.level, attempt.step + 1, attempt.undo);
        self.state = match self.step(next) {
            Some(_) => State::Ready { attempt: next, since: at, after: None },
            None => State::Stepped { attempt, outcome: Outcome::Succeeded, at },
        };
        self.stuck = None;
        self.acknowledged = false;
        self.unread_since = None;
        Vec::new()
    }
}

/// For the sentence of a question: whose answer counts, and what none means.
pub(super) fn whom_and_silence(asked: Option<&Asked>) -> (String, &'static str) {
    let approvers = asked.map_or(&[][..], |asked| &asked.approvers);
    let whom = if approvers.is_empty() { String::new() } else { format!(" {}", approvers.join(" or ")) };
    let silence = match asked.map_or(OnSilence::Decline, |asked| asked.on_silence) {
        OnSilence::Decline => "no answer declines",
        OnSilence::Escalate => "no answer asks again",
        OnSilence::Approve => "no answer approves, if the guard agrees",
    };
    (whom, silence)
}

/// Never on what is not known now, and never to another release than the one that was shown. A doubt that may pass is
/// waited out: taken for a no, it would leave a broken release to itself because of one failed scrape.
fn approved_by_silence(level: usize, shown: bool, situation: &Situation<'_>) -> Option<Move> {
    let decision = situation.people.silence.as_ref()?;
    match decision.kind {
        DecisionKind::RollBack if !shown => Some(Move::Event(IncidentEvent::Expired)),
        DecisionKind::RollBack if situation.breach == Breach::Firing && !situation.draining => {
            Some(Move::Admit { decision: decision.clone(), level })
        }
        DecisionKind::RollBack | DecisionKind::Hold => None,
        // It asks for a person still, and none has answered.
        DecisionKind::Propose => Some(Move::Event(IncidentEvent::Expired)),
        DecisionKind::Escalate | DecisionKind::WouldRollBack => {
            Some(Move::Event(IncidentEvent::Judged { decision: decision.clone() }))
        }
    }
}

fn shows_the_same(asked: &Asked, level: usize, people: &People) -> bool {
    asked.bad == people.bad && asked.target == people.target && is_same_level(asked, level, people)
}

/// Would the level still do what was asked about?
fn is_same_level(asked: &Asked, level: usize, people: &People) -> bool {
    asked.level_hash.is_none() || asked.level_hash.as_ref() == people.levels.get(level)
}

fn keeps_asking(situation: &Situation<'_>, now: Timestamp) -> IncidentEvent {
    IncidentEvent::Unanswered { respond_by: asks_again_at(now, &situation.patience) }
}

pub(super) fn asks_again_at(from: Timestamp, patience: &Patience) -> Timestamp {
    from + patience.respond_within.max(ASK_AGAIN_MIN)
}
