//! What the windows say to a trigger right now, whatever the trigger last said: for those who try one before they rely on
//! it.

use super::Machine;
use crate::decide::rules::Question;
use crate::decide::trigger::{Findings, find};
use crate::promql::{Comparison, EvalError, Evaluation, Instant, evaluate, highest_finite_bound};
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
        let Question::Value { expr, comparison, threshold, .. } = &trigger.question else { return None };
        let at = service.newest_look.min(now.monotonic);
        let wall_offset_ms = now.wall.millis_since(now.monotonic);
        let evaluation = evaluate(expr, &self.store, service.id, Instant { at, wall_offset_ms });
        let findings = self.with_queries(service, expr, find(trigger, evaluation.clone(), &state.baselines));
        let highest = highest_finite_bound(expr, &self.store, service.id);
        let beyond = |highest: &f64| match comparison {
            Comparison::Above => threshold >= highest,
            Comparison::AtLeast => threshold > highest,
            Comparison::Below | Comparison::AtMost | Comparison::Equal | Comparison::NotEqual => false,
        };
        Some(Trial { findings, evaluation, never_fires: highest.filter(beyond) })
    }
}
