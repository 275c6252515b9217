//! A step has ended: does it run again, is its check asked, and what follows.

use std::time::Duration;

use super::{CHECK_ASKS_MAX, CHECK_WAIT, Effect, Incident, State};
use crate::decide::event::{
    Attempt, CheckAnswer, IncidentEvent, NoticeKind, NoticeStatus, OnFailure, Outcome, Retry, Step, StepResult,
    Verified, WhyHuman,
};
use crate::decide::trigger::short;
use crate::time::Timestamp;

/// An idempotent step whose outcome cannot be known is run at most this often, or as often as its `retry` says.
const TRIES_MAX: u32 = 3;

/// Tries of one step in one run of its level.
fn tries_max(step: Option<&Step>) -> u32 {
    let retries = step.and_then(|step| step.retry).map_or(0, |retry| retry.times);
    TRIES_MAX.max(retries.saturating_add(1))
}

/// What the end of an attempt leads to within its level.
enum Next {
    /// The same step again, or the one behind it, no sooner than after this long.
    Attempt(Attempt, Duration),
    /// The level's end, or what only `advance` can decide.
    Over,
}

impl Incident {
    /// Tries of a step go on counting when its level is begun again, so that no two effects share an identity.
    pub(super) fn first_try(&self, level: usize, step: usize, undo: bool) -> Attempt {
        let begun_before = self.tried.get(&level).copied().unwrap_or(1).saturating_sub(1);
        let first = Attempt { level, step, attempt: 1, undo };
        Attempt { attempt: begun_before * tries_max(self.step(first)) + 1, ..first }
    }

    /// How often its level was begun, this time included.
    #[must_use]
    pub fn run(&self, attempt: Attempt) -> u32 {
        (attempt.attempt.max(1) - 1) / tries_max(self.step(attempt)) + 1
    }

    /// Which try of its step it is since the level was begun, counted from 1.
    #[must_use]
    pub fn try_of(&self, attempt: Attempt) -> u32 {
        (attempt.attempt.max(1) - 1) % tries_max(self.step(attempt)) + 1
    }

    pub(super) fn stepped(&mut self, attempt: Attempt, result: &StepResult, at: Timestamp) -> Vec<Effect> {
        // Told twice, or by a step of which nothing is known any more.
        if self.in_flight != Some(attempt) {
            return Vec::new();
        }
        self.in_flight = None;
        self.captures.extend(result.captures.iter().map(|(name, value)| (name.clone(), value.clone())));
        if self.state == (State::Running { attempt }) {
            if self.has_to_be_checked(attempt, result.outcome) {
                self.state = State::Checking { attempt, outcome: result.outcome, asked: 0, ask_at: at };
            } else {
                self.conclude(attempt, result.outcome, at);
            }
        }
        match result.outcome {
            Outcome::Succeeded => Vec::new(),
            // The notice that resolves an incident is its last.
            Outcome::Failed | Outcome::TimedOut | Outcome::Ambiguous if !self.state.is_open() => Vec::new(),
            Outcome::Failed | Outcome::TimedOut | Outcome::Ambiguous => {
                vec![self.tell_failure(attempt, &result.detail)]
            }
        }
    }

    /// Nothing was done: it is the next step still, and the time of its level is as before.
    pub(super) fn not_started(&mut self, attempt: Attempt, at: Timestamp) -> Vec<Effect> {
        self.in_flight = None;
        if self.state == (State::Running { attempt }) {
            let (after, level_began) = self.before;
            self.state = State::Ready { attempt, since: at, after };
            self.level_began = level_began;
            self.unread_since = None;
        }
        Vec::new()
    }

    /// What said that it failed is believed. What said that it succeeded, or said nothing, is asked about.
    fn has_to_be_checked(&self, attempt: Attempt, outcome: Outcome) -> bool {
        let can = self.step(attempt).is_some_and(|step| step.check.is_some());
        match outcome {
            Outcome::Succeeded | Outcome::TimedOut | Outcome::Ambiguous => can,
            Outcome::Failed => false,
        }
    }

    pub(super) fn checked(
        &mut self,
        attempt: Attempt,
        answer: CheckAnswer,
        detail: &str,
        at: Timestamp,
    ) -> Vec<Effect> {
        let State::Checking { attempt: checking, outcome, asked, .. } = self.state else { return Vec::new() };
        if checking != attempt {
            return Vec::new();
        }
        let asked = asked.saturating_add(1);
        match answer {
            CheckAnswer::TookEffect => self.conclude(attempt, Outcome::Succeeded, at),
            // An effect may come late, so that a no is believed only when it is said until the end.
            CheckAnswer::DidNot | CheckAnswer::Unknown if asked < CHECK_ASKS_MAX => {
                self.state = State::Checking { attempt, outcome, asked, ask_at: at + CHECK_WAIT };
            }
            CheckAnswer::DidNot => {
                self.conclude(attempt, Outcome::Failed, at);
                return vec![self.tell_failure(attempt, &format!("it did not take effect: {detail}"))];
            }
            // Nobody knows more than before: what said that it succeeded has succeeded.
            CheckAnswer::Unknown => self.conclude(attempt, outcome, at),
        }
        Vec::new()
    }

    fn tell_failure(&mut self, attempt: Attempt, detail: &str) -> Effect {
        let name = self.step(attempt).map_or_else(String::new, |step| format!(" ({})", step.name));
        let whose = if attempt.undo { "the undo of level" } else { "level" };
        let then = match &self.state {
            State::Checking { .. } => "; its check is asked",
            State::Ready { attempt: next, .. } if next.step == attempt.step => "; it is tried again",
            State::Firing
            | State::Held
            | State::Escalated
            | State::WouldRollBack
            | State::HeldByPerson { .. }
            | State::Proposed { .. }
            | State::Ready { .. }
            | State::Running { .. }
            | State::Stepped { .. }
            | State::Verifying { .. }
            | State::LevelOver { .. }
            | State::NeedsHuman { .. }
            | State::Recovered
            | State::Declined
            | State::Expired
            | State::Superseded
            | State::Aborted
            | State::Cleared => "",
        };
        let text = format!("step {}{name} of {whose} {}: {detail}{then}", attempt.step + 1, attempt.level + 1);
        self.notify(NoticeKind::StepFailed, NoticeStatus::Firing, false, text)
    }

    /// How the attempt ended is settled.
    fn conclude(&mut self, attempt: Attempt, outcome: Outcome, at: Timestamp) {
        self.unread_since = None;
        self.state = match self.next_attempt(attempt, outcome) {
            Next::Attempt(next, wait) => {
                let after = (next.step == attempt.step).then_some(outcome);
                self.note_undo(attempt, outcome, after.is_some());
                State::Ready { attempt: next, since: at + wait, after }
            }
            Next::Over => {
                self.note_undo(attempt, outcome, false);
                State::Stepped { attempt, outcome, at }
            }
        };
    }

    fn next_attempt(&self, attempt: Attempt, outcome: Outcome) -> Next {
        let Some(step) = self.step(attempt) else { return Next::Over };
        let tried = self.try_of(attempt);
        let retries = step.retry.map_or(0, |retry| retry.times);
        let again = match outcome {
            Outcome::Succeeded => false,
            Outcome::Failed => tried <= retries,
            // It may have half worked, and each try costs its whole deadline: only as often as was asked for.
            Outcome::TimedOut => step.idempotent && tried <= retries,
            Outcome::Ambiguous => step.idempotent && tried < tries_max(Some(step)),
        };
        if again {
            let wait = step.retry.as_ref().map_or(Duration::ZERO, |retry: &Retry| retry.wait_after(tried));
            return Next::Attempt(Attempt { attempt: attempt.attempt + 1, ..attempt }, wait);
        }
        let behind = self.first_try(attempt.level, attempt.step + 1, attempt.undo);
        if goes_on(step, outcome) && self.step(behind).is_some() {
            Next::Attempt(behind, Duration::ZERO)
        } else {
            Next::Over
        }
    }

    /// No attempt of the level follows by itself: it is carried out, or it has failed, or a person must look.
    pub(super) fn after_step(
        &self,
        attempt: Attempt,
        outcome: Outcome,
        now: Timestamp,
        undone: impl Fn() -> Option<IncidentEvent>,
    ) -> Option<IncidentEvent> {
        let human = |why, text: String| Some(IncidentEvent::NeedsHuman { why, text });
        let Some(step) = self.step(attempt) else {
            return human(WhyHuman::Unreadable, "the plan has no such step".to_owned());
        };
        let named = self.named(attempt);
        match (outcome, step.on_failure) {
            _ if goes_on(step, outcome) && attempt.undo => undone(),
            _ if goes_on(step, outcome) => Some(IncidentEvent::LevelFinished { level: attempt.level, at: now }),
            (Outcome::Failed, OnFailure::Stop) => human(WhyHuman::StepFailed, format!("{named} failed")),
            (Outcome::Failed, OnFailure::Climb | OnFailure::Continue) if attempt.undo => undone(),
            (Outcome::Failed, OnFailure::Climb | OnFailure::Continue) => Some(IncidentEvent::LevelFailed {
                level: attempt.level,
                verified: Verified::NotReached,
                why: format!("{named} failed"),
            }),
            (Outcome::TimedOut, _) => {
                human(WhyHuman::StepTimedOut, format!("{named} reached its deadline; it may have half worked"))
            }
            (Outcome::Ambiguous | Outcome::Succeeded, _) => {
                human(WhyHuman::StepAmbiguous, format!("it cannot be known whether {named} took effect"))
            }
        }
    }

    /// The time of the whole level is over and this attempt has not begun: no further step of it starts.
    pub(super) fn out_of_time(
        &self,
        attempt: Attempt,
        after: Option<Outcome>,
        now: Timestamp,
    ) -> Option<IncidentEvent> {
        let end = self.level_end(attempt.level).filter(|end| !attempt.undo && *end <= now)?;
        let deadline = short(self.level_began.map_or(Duration::ZERO, |began| end.since(began)));
        let named = self.named(attempt);
        let failed = |why| IncidentEvent::LevelFailed { level: attempt.level, verified: Verified::NotReached, why };
        let human = |why, text| IncidentEvent::NeedsHuman { why, text };
        let stops = self.step(attempt).is_some_and(|step| step.on_failure == OnFailure::Stop);
        let no_time = format!("the deadline of the level ({deadline}) leaves no time to try it again");
        Some(match after {
            None | Some(Outcome::Succeeded) => {
                failed(format!("the deadline of the level ({deadline}) was reached before {named}"))
            }
            Some(Outcome::Failed) if stops => human(WhyHuman::StepFailed, format!("{named} failed, and {no_time}")),
            Some(Outcome::Failed) => failed(format!("{named} failed, and {no_time}")),
            Some(Outcome::TimedOut) => human(
                WhyHuman::StepTimedOut,
                format!("{named} reached its deadline and may have half worked, and {no_time}"),
            ),
            Some(Outcome::Ambiguous) => {
                human(WhyHuman::StepAmbiguous, format!("it cannot be known whether {named} took effect, and {no_time}"))
            }
        })
    }

    /// When the time of the level is over, if it has begun and has a limit.
    pub(super) fn level_end(&self, level: usize) -> Option<Timestamp> {
        let deadline = self.plan.as_ref()?.levels.get(level)?.deadline?;
        Some(self.level_began? + deadline)
    }

    /// `step 2 (restart) of level 1`.
    pub(super) fn named(&self, attempt: Attempt) -> String {
        let whose = if attempt.undo { "the undo of level" } else { "level" };
        let name = self.step(attempt).map_or_else(String::new, |step| format!(" ({})", step.name));
        format!("step {}{name} of {whose} {}", attempt.step + 1, attempt.level + 1)
    }
}

/// Does the level go on behind the step? What may still be under way, or half done, is passed over only where doing it
/// twice is the same as doing it once: then a late effect is the effect that was meant, and nothing behind it is
/// surprised by it.
fn goes_on(step: &Step, outcome: Outcome) -> bool {
    match (outcome, step.on_failure) {
        (Outcome::Succeeded, _) | (Outcome::Failed, OnFailure::Continue) => true,
        (Outcome::TimedOut | Outcome::Ambiguous, OnFailure::Continue) => step.idempotent,
        (Outcome::Failed | Outcome::TimedOut | Outcome::Ambiguous, OnFailure::Climb | OnFailure::Stop) => false,
    }
}

/// The longest time that a step may take, with all its tries, the waits between them and its check.
pub(super) fn longest(step: &Step) -> Duration {
    let retries = step.retry.map_or(0, |retry| retry.times);
    let tries = if step.idempotent { tries_max(Some(step)) } else { retries + 1 };
    let check = step.check.as_ref().map_or(Duration::ZERO, |check| (check.timeout + CHECK_WAIT) * CHECK_ASKS_MAX);
    let waits: Duration = step.retry.map_or(Duration::ZERO, |retry| (1..tries).map(|n| retry.wait_after(n)).sum());
    (step.timeout + check) * tries + waits
}
