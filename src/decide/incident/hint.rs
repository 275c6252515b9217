//! What a person can do next, for whoever looks at an incident that does not go on by itself.

use super::{CHECK_ASKS_MAX, Incident, State};
use crate::decide::event::{Outcome, WhyHuman};

impl Incident {
    /// One sentence with the commands. None while nobody is waited for.
    #[must_use]
    pub fn next_for_people(&self) -> Option<String> {
        let State::NeedsHuman { why, .. } = &self.state else { return None };
        let (id, service) = (&self.id, &self.service);
        let close = format!("close it by `backstop abort {id} --reason …`");
        if self.in_flight.is_some() {
            return Some(format!("wait for the step that still runs, or {close}; no step is killed"));
        }
        let Some(plan) = &self.plan else { return Some(format!("look at {service}, then {close}")) };
        let again = self.tried.keys().next_back().map(|level| level + 1);
        let above = self.untried(0, plan.levels.len()).map(|level| level + 1);
        let run = |level: usize| format!("`backstop rollback {service} --level {level} --reason …`");
        let look = match why {
            WhyHuman::StepAmbiguous | WhyHuman::StepTimedOut => "find out whether that step took effect",
            WhyHuman::StepFailed => "find out why that step failed",
            WhyHuman::LadderExhausted | WhyHuman::Inconclusive | WhyHuman::DeadlineReached => {
                "find out what is still wrong"
            }
            WhyHuman::ReleaseUnknown => "find out what runs, and why it cannot be read",
            WhyHuman::BadReleaseCameBack => "find out who installed the bad release again",
            WhyHuman::Blocked => "decide whether that blocker counts (`--override NAME` passes over it)",
            WhyHuman::Unreadable => "find out what the journal holds: `backstop journal verify`",
        };
        let mut ways: Vec<String> = Vec::new();
        ways.extend(self.skippable().map(|at| {
            let step = at.step + 1;
            format!("pass over step {step} by `backstop skip {id} --step {step} --reason …`")
        }));
        ways.extend(again.map(|level| format!("run level {level} again by {}", run(level))));
        ways.extend(above.map(|level| format!("go on with level {level} by {}", run(level))));
        ways.push(close);
        Some(format!("{look}; then {}", ways.join(", or ")))
    }

    /// What is going on with a step that did not simply succeed.
    #[must_use]
    pub fn trouble(&self) -> Option<String> {
        match &self.state {
            State::Checking { attempt, outcome, asked, .. } => {
                let named = self.named(*attempt);
                let said = match outcome {
                    Outcome::Succeeded => "says that it succeeded",
                    Outcome::Failed => "failed",
                    Outcome::TimedOut => "reached its deadline and may have half worked",
                    Outcome::Ambiguous => "may have taken effect or not",
                };
                let asked = asked.saturating_add(1).min(CHECK_ASKS_MAX);
                Some(format!("{named} {said}; its check is asked ({asked} of {CHECK_ASKS_MAX})"))
            }
            State::Ready { attempt, after: Some(outcome), .. } => {
                let ended = match outcome {
                    Outcome::Succeeded => "succeeded",
                    Outcome::Failed => "failed",
                    Outcome::TimedOut => "reached its deadline",
                    Outcome::Ambiguous => "may have taken effect or not",
                };
                Some(format!("{} {ended} and is tried again", self.named(*attempt)))
            }
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
            | State::Cleared => None,
        }
    }
}
