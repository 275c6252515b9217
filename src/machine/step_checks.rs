//! Did a step take effect? Its check is asked, and what it says becomes an event of the incident.

use std::sync::Arc;

use super::Machine;
use super::asking::Asker;
use super::output::{CheckOrder, Output};
use crate::decide::event::{Attempt, CheckAnswer, CheckOutcome, IncidentEvent, IncidentId};
use crate::decide::incident::State;
use crate::time::Now;

impl Machine {
    /// Asks what is due. A question that was forgotten (a restart, a reload) is due again, since its state is still there.
    pub(super) fn ask_about_steps(&mut self, now: &Now, out: &mut Vec<Output>) {
        // Nobody would be left to hear the answer.
        if self.draining {
            return;
        }
        let due: Vec<(IncidentId, Attempt)> = self
            .incidents
            .values()
            .filter_map(|incident| match &incident.state {
                State::Checking { attempt, ask_at, .. } if *ask_at <= now.monotonic => {
                    Some((incident.id.clone(), *attempt))
                }
                _ => None,
            })
            .collect();
        for (id, attempt) in due {
            let Some(order) = self.step_check(&id, attempt) else { continue };
            self.ask(Asker::Step(id, attempt), |id| CheckOrder { id, ..order }, now, out);
        }
    }

    fn step_check(&self, id: &IncidentId, attempt: Attempt) -> Option<CheckOrder> {
        let incident = self.incidents.get(id)?;
        let plan = incident.plan.as_ref()?;
        Some(CheckOrder {
            id: super::input::CheckId(0),
            service: Arc::from(incident.service.as_str()),
            incident: Some(id.clone()),
            check: incident.step(attempt)?.check.clone()?,
            level: Some(attempt.level),
            attempt: Some(attempt),
            bad: Some(plan.bad.clone()),
            target: plan.target.clone(),
            running: self.runs(&incident.service),
            variables: plan.variables.clone(),
            captures: incident.captures.clone(),
        })
    }

    /// An answer that comes when the incident has gone on without it changes nothing.
    pub(super) fn step_checked(
        &mut self,
        now: &Now,
        id: &IncidentId,
        attempt: Attempt,
        outcome: CheckOutcome,
        out: &mut Vec<Output>,
    ) {
        let waits = self.incidents.get(id).is_some_and(
            |incident| matches!(incident.state, State::Checking { attempt: checking, .. } if checking == attempt),
        );
        if !waits {
            return;
        }
        let (answer, detail) = match outcome {
            CheckOutcome::Passed => (CheckAnswer::TookEffect, String::new()),
            CheckOutcome::Failed(why) => (CheckAnswer::DidNot, why),
            CheckOutcome::Unknown(why) => (CheckAnswer::Unknown, why),
        };
        self.incident_event(id, IncidentEvent::StepChecked { attempt, answer, detail }, now, out);
    }
}
