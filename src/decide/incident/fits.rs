//! Which events a state takes. What does not fit changes nothing: no entry that is out of place, whether by a mistake or
//! because the one before it could not be read, brings a closed incident back or starts a step twice.

use super::{Incident, State};
use crate::decide::event::IncidentEvent;

impl Incident {
    // Length: one arm for each kind of event.
    pub(super) fn takes(&self, event: &IncidentEvent) -> bool {
        let state = &self.state;
        let waits = state.is_waiting() && self.admitted.is_none();
        // A person's hold is ended by a person, by its limit, or by the end of the breach; not by what backstop thinks.
        let is_free = !matches!(state, State::HeldByPerson { .. });
        let asks = matches!(state, State::Proposed { .. });
        let with_a_person = matches!(state, State::NeedsHuman { .. });
        let can_begin = self.in_flight.is_none();
        let has_level = |level: &usize| self.plan.as_ref().is_some_and(|plan| *level < plan.levels.len());
        match event {
            IncidentEvent::Opened { .. } => false,
            IncidentEvent::Reopened { .. } => !state.is_open(),
            IncidentEvent::Joined { .. }
            | IncidentEvent::Aborted { .. }
            | IncidentEvent::NeedsHuman { .. }
            | IncidentEvent::Acknowledged { .. } => state.is_open(),
            IncidentEvent::RtoPassed { .. } => state.is_open() && !self.rto_passed,
            IncidentEvent::Judged { .. } => waits && is_free,
            IncidentEvent::Proposed { .. } => {
                (waits && is_free) || matches!(state, State::LevelOver { undo: false, .. })
            }
            IncidentEvent::Approved { .. } => waits || asks || with_a_person,
            IncidentEvent::Declined { .. } | IncidentEvent::Unanswered { .. } => asks,
            IncidentEvent::HoldOrdered { .. } => self.may_be_held(),
            IncidentEvent::HoldEnded { .. } => matches!(state, State::HeldByPerson { .. }),
            IncidentEvent::StepSkipped { attempt, .. } => self
                .skippable()
                .is_some_and(|next| (next.level, next.step, next.undo) == (attempt.level, attempt.step, attempt.undo)),
            IncidentEvent::Expired => asks && waits,
            IncidentEvent::Admitted { plan, .. } => waits && can_begin && plan.start_level < plan.levels.len(),
            IncidentEvent::StepIntended { attempt, .. } => {
                can_begin && matches!(state, State::Ready { attempt: ready, .. } if ready == attempt)
            }
            IncidentEvent::StepStarted { attempt, .. }
            | IncidentEvent::StepFinished { attempt, .. }
            | IncidentEvent::StepNotStarted { attempt, .. } => self.in_flight == Some(*attempt),
            IncidentEvent::StepChecked { attempt, .. } => {
                matches!(state, State::Checking { attempt: checking, .. } if checking == attempt)
            }
            IncidentEvent::LevelFinished { level, .. } => {
                matches!(state, State::Stepped { attempt, .. } if attempt.level == *level && !attempt.undo)
            }
            IncidentEvent::CheckAnswered { level, .. } => self.proving().is_some_and(|(proving, _)| proving == *level),
            IncidentEvent::CameClear { .. } | IncidentEvent::Relapsed | IncidentEvent::Recovered { .. } => {
                matches!(state, State::Verifying { .. })
            }
            IncidentEvent::LevelFailed { level, .. } => match state {
                State::Ready { attempt, .. } | State::Stepped { attempt, .. } => {
                    attempt.level == *level && !attempt.undo
                }
                State::Verifying { level: verifying, .. } => verifying == level,
                State::Firing
                | State::Held
                | State::Escalated
                | State::WouldRollBack
                | State::HeldByPerson { .. }
                | State::Proposed { .. }
                | State::Running { .. }
                | State::Checking { .. }
                | State::LevelOver { .. }
                | State::NeedsHuman { .. }
                | State::Recovered
                | State::Declined
                | State::Expired
                | State::Superseded
                | State::Aborted
                | State::Cleared => false,
            },
            IncidentEvent::UndoBegan { level } => {
                can_begin && matches!(state, State::LevelOver { level: over, undo: true, .. } if over == level)
            }
            IncidentEvent::UndoFinished { level, .. } => {
                matches!(state, State::Stepped { attempt, .. } if attempt.level == *level && attempt.undo)
            }
            IncidentEvent::Climbed { to, .. } => {
                let after = matches!(state, State::LevelOver { undo: false, .. });
                let asked = asks && self.admitted.is_some();
                can_begin && has_level(to) && (after || asked || with_a_person)
            }
            // A step that runs is waited for.
            IncidentEvent::Superseded { .. } => {
                let waits_for_a_step = with_a_person && !can_begin;
                state.is_open() && !waits_for_a_step && !matches!(state, State::Running { .. } | State::Stepped { .. })
            }
            IncidentEvent::Reminded => with_a_person,
            IncidentEvent::Cleared => waits || asks || (with_a_person && can_begin),
        }
    }
}
