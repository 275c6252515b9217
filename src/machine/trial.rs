//! What the windows say to a trigger right now, whatever the trigger last said: for those who try one before they rely on
//! it.

use super::Machine;
use crate::decide::rules::Question;
use crate::decide::trigger::{Findings, can_never_fire, find};
use crate::promql::{EvalError, Evaluation, Instant, evaluate};
use crate::time::Now;

/// One evaluation, with more than a decision needs.
#[derive(Clone, Debug)]
pub struct Trial {
    pub findings: Findings,
    /// The values are here also where the finding is Unknown.
    pub evaluation: Result<Evaluation, EvalError>,
    /// Of a quantile: the highest finite bucket, if the threshold lies where no value ever is.
    pub never_fires: Option<f64>,
}

impl Machine {
    /// None: there is no such service or trigger, or it asks for a signal.
    #[must_use]
    pub fn try_trigger(&self, service: &str, trigger: &str, now: &Now) -> Option<Trial> {
        let service = &self.services[self.service_index(service)?];
        let mut pairs = service.rules.triggers.iter().zip(&service.triggers);
        let (trigger, state) = pairs.find(|(known, _)| *known.name == *trigger)?;
        let Question::Value { expr, .. } = &trigger.question else { return None };
        let at = service.newest_look.min(now.monotonic);
        let wall_offset_ms = now.wall.millis_since(now.monotonic);
        let evaluation = evaluate(expr, &self.store, service.id, Instant { at, wall_offset_ms });
        let findings = self.with_queries(service, expr, find(trigger, evaluation.clone(), &state.baselines));
        let highest = evaluation.as_ref().ok().and_then(|evaluation| evaluation.bound);
        let never_fires = highest.filter(|highest| can_never_fire(&trigger.question, *highest));
        Some(Trial { findings, evaluation, never_fires })
    }
}
