//! When a target was watched: the successes of its scrapes, or of its probes.

use std::collections::VecDeque;
use std::time::Duration;

use super::samples::Instants;
use crate::time::Timestamp;

/// Two successive successes at most two and a half intervals apart observe the time between them: one miss is
/// forgiven, two are a hole.
pub(super) fn tolerance(interval: Duration) -> Duration {
    interval.saturating_mul(5) / 2
}

#[derive(Clone, Debug, Default)]
pub(in crate::promql) struct Watch {
    instants: Instants,
    /// The same joined to spans, so that coverage of a long window costs as much as it has holes.
    spans: VecDeque<(Timestamp, Timestamp)>,
}

impl Watch {
    pub(super) fn note(&mut self, at: Timestamp, tolerance: Duration) {
        if self.newest().is_some_and(|newest| at <= newest) {
            return;
        }
        self.instants.push(at);
        match self.spans.back_mut() {
            Some(span) if at.since(span.1) <= tolerance => span.1 = at,
            Some(_) | None => self.spans.push_back((at, at)),
        }
    }

    /// Keeps the newest instant at or before the horizon, as the beginning of what was observed.
    pub(super) fn forget_before(&mut self, horizon: Timestamp) {
        while self.instants.get(1).is_some_and(|next| next <= horizon) {
            self.instants.pop();
        }
        let Some(first) = self.instants.get(0) else { return };
        while self.spans.front().is_some_and(|span| span.1 < first) {
            self.spans.pop_front();
        }
        if let Some(span) = self.spans.front_mut() {
            span.0 = span.0.max(first);
        }
    }

    /// Forgets all from before `from`.
    pub(super) fn restart(&mut self, from: Timestamp, tolerance: Duration) {
        let kept: Vec<Timestamp> = self.instants.iter().filter(|at| *at >= from).collect();
        *self = Watch::default();
        for at in kept {
            self.note(at, tolerance);
        }
    }

    pub fn newest(&self) -> Option<Timestamp> {
        self.instants.last()
    }

    /// All successes.
    pub(super) fn instants(&self) -> &Instants {
        &self.instants
    }

    /// Was there a success less than the tolerance before `at`?
    pub(super) fn until(&self, at: Timestamp, tolerance: Duration) -> bool {
        let end = self.instants.partition_point(|instant| instant < at);
        end.checked_sub(1).and_then(|place| self.instants.get(place)).is_some_and(|last| at.since(last) <= tolerance)
    }

    /// How much of `(after, until]` was observed. The time since the newest success counts within the tolerance: the
    /// next one is not due yet, or just late.
    pub(super) fn observed(&self, after: Timestamp, until: Timestamp, tolerance: Duration) -> Duration {
        let low = self.spans.partition_point(|span| span.1 + tolerance < after);
        let mut observed = Duration::ZERO;
        for (place, (from, to)) in self.spans.iter().enumerate().skip(low) {
            let is_newest = place + 1 == self.spans.len();
            let to = if is_newest && until > *to && until.since(*to) <= tolerance { until } else { *to };
            if *from >= until {
                break;
            }
            observed += to.min(until).since((*from).max(after));
        }
        observed
    }
}
