//! Has a breach that the release found already there become clearly worse since?
//!
//! While values come in, the worst of each few minutes is kept for half an hour. When another release appears, the worst of
//! what was seen under the one before is frozen: the baseline. "Clearly worse" is a value that is breached and by a
//! factor (`guard.worsened_by`) worse than the baseline; it must hold for the trigger's whole `for`, counted as the
//! hold itself is. Where no baseline is known (nothing was seen before, or what was seen is lost) nothing is clearly
//! worse: then people decide.

use std::time::Duration;

use super::rules::{Question, Trigger};
use super::verdict::{Hold, Says};
use crate::promql::Comparison;
use crate::time::Timestamp;

/// How far back the baseline looks. Long enough for the ups and downs of a service, short enough to be about now.
pub const BASELINE_WINDOW: Duration = Duration::from_mins(30);

/// Values of this time are one: their worst. A dozen slots per label set stand in each checkpoint.
const SLOT: Duration = Duration::from_secs(150);

/// In which direction a value is worse, and by how much it must be.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Measure {
    upwards: bool,
    factor: f64,
}

impl Measure {
    /// None where values have no worse and better: a signal, `==`, `!=`.
    #[must_use]
    pub const fn of(trigger: &Trigger, factor: f64) -> Option<Measure> {
        match &trigger.question {
            Question::Value { comparison: Comparison::Above | Comparison::AtLeast, .. } => {
                Some(Measure { upwards: true, factor })
            }
            Question::Value { comparison: Comparison::Below | Comparison::AtMost, .. } => {
                Some(Measure { upwards: false, factor })
            }
            Question::Value { comparison: Comparison::Equal | Comparison::NotEqual, .. } | Question::Signal { .. } => {
                None
            }
        }
    }

    fn worst(self, a: f64, b: f64) -> f64 {
        if self.upwards { a.max(b) } else { a.min(b) }
    }

    /// A factor means something only between values above zero.
    fn is_clearly_worse(self, value: f64, baseline: f64) -> bool {
        if self.upwards {
            baseline > 0.0 && value >= baseline * self.factor
        } else {
            value >= 0.0 && baseline > 0.0 && value * self.factor <= baseline
        }
    }
}

/// What a verdict remembers of values.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Past {
    /// Oldest first.
    pub slots: Vec<Slot>,
    /// The worst value under the release before, as far as it is known.
    pub baseline: Option<f64>,
    pub worse: Option<Worse>,
}

/// The worst value of a short time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Slot {
    pub from: Timestamp,
    pub to: Timestamp,
    pub worst: f64,
}

/// Since when values have been clearly worse than the baseline without a break.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Worse {
    pub began: Timestamp,
    /// The latest such value.
    pub at: Timestamp,
    pub value: f64,
    /// Time credited so far.
    pub held: Duration,
    /// Something that was not known came after it: the next one earns no credit.
    pub broken: bool,
}

impl Past {
    #[must_use]
    pub const fn new() -> Past {
        Past { slots: Vec::new(), baseline: None, worse: None }
    }

    /// Takes the value of an evaluation, with what was found of it.
    pub fn take(&mut self, says: Says, value: Option<f64>, at: Timestamp, hold: Hold, measure: Measure) {
        match says {
            Says::Unknown(_) => {
                // What a gap has ended is forgotten now: a restart would hide how long it was.
                self.worse = self.worse.filter(|worse| at.since(worse.at) <= hold.gap_tolerance);
                if let Some(worse) = &mut self.worse {
                    worse.broken = true;
                }
                return;
            }
            Says::Clear | Says::Failing => self.worse = None,
            Says::Breached => self.breached(value, at, hold, measure),
        }
        if let Some(value) = value.filter(|value| value.is_finite()) {
            self.remember(value, at, measure);
        }
    }

    fn breached(&mut self, value: Option<f64>, at: Timestamp, hold: Hold, measure: Measure) {
        let (Some(value), Some(baseline)) = (value, self.baseline) else {
            // Breached, but by how much is not known (`on_unknown = "breach"`).
            self.worse = None;
            return;
        };
        if !measure.is_clearly_worse(value, baseline) {
            self.worse = None;
            return;
        }
        self.worse = Some(match self.worse {
            Some(before) if at.since(before.at) <= hold.gap_tolerance => {
                let credit = if before.broken { Duration::ZERO } else { at.since(before.at) };
                Worse { at, value, held: before.held + credit, broken: false, ..before }
            }
            Some(_) | None => Worse { began: at, at, value, held: Duration::ZERO, broken: false },
        });
    }

    fn remember(&mut self, value: f64, at: Timestamp, measure: Measure) {
        match self.slots.last_mut() {
            Some(last) if at.since(last.from) < SLOT => {
                last.to = last.to.max(at);
                last.worst = measure.worst(last.worst, value);
            }
            Some(_) | None => self.slots.push(Slot { from: at, to: at, worst: value }),
        }
        self.slots.retain(|slot| at.since(slot.to) <= BASELINE_WINDOW);
    }

    /// Another release runs: what was seen until the last sight of the one before is what it is compared with. Values
    /// in between may be of either; those that share a slot with earlier ones count as of the one before.
    pub fn release_changed(&mut self, old_last_seen: Option<Timestamp>, measure: Option<Measure>) {
        let slots = std::mem::take(&mut self.slots);
        self.worse = None;
        self.baseline = match (old_last_seen, measure) {
            (Some(until), Some(measure)) => {
                let before = slots.iter().filter(|slot| slot.from < until).map(|slot| slot.worst);
                before.reduce(|a, b| measure.worst(a, b))
            }
            (None, _) | (_, None) => None,
        };
    }

    /// After a restart: the time in between earns nothing, and is no gap.
    pub fn restored(&mut self, at: Timestamp) {
        if let Some(worse) = &mut self.worse {
            worse.at = worse.at.max(at);
            worse.broken = true;
        }
    }

    /// Clearly worse than the baseline, for the whole hold.
    #[must_use]
    pub fn worsened(&self, hold: Duration) -> Option<(f64, Worse)> {
        let worse = self.worse.filter(|worse| worse.held >= hold && !worse.broken)?;
        Some((self.baseline?, worse))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decide::verdict::Blank;

    const HOLD: Hold = Hold { hold: Duration::from_secs(30), gap_tolerance: Duration::from_secs(20) };
    const UP: Measure = Measure { upwards: true, factor: 2.0 };
    const DOWN: Measure = Measure { upwards: false, factor: 2.0 };

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_millis(seconds * 1000)
    }

    /// Every 10 s from `from` to `to`.
    fn breached(past: &mut Past, from: i64, to: i64, value: f64, measure: Measure) {
        for second in (from..=to).step_by(10) {
            past.take(Says::Breached, Some(value), at(second), HOLD, measure);
        }
    }

    fn under_the_old_one(value: f64, measure: Measure) -> Past {
        let mut past = Past::new();
        breached(&mut past, 0, 300, value, measure);
        past.release_changed(Some(at(300)), Some(measure));
        past
    }

    #[test]
    fn twice_as_bad_for_the_whole_hold_is_clearly_worse() {
        let mut past = under_the_old_one(0.2, UP);
        breached(&mut past, 310, 330, 0.4, UP);
        assert_eq!(past.worsened(HOLD.hold), None, "20 of 30 s");
        breached(&mut past, 340, 340, 0.45, UP);
        let (baseline, worse) = past.worsened(HOLD.hold).expect("the hold is full");
        assert_eq!((baseline, worse.value, worse.began), (0.2, 0.45, at(310)));
    }

    #[test]
    fn less_than_the_factor_is_not_and_one_such_value_counts_anew() {
        let mut past = under_the_old_one(0.2, UP);
        breached(&mut past, 310, 330, 0.4, UP);
        breached(&mut past, 340, 340, 0.39, UP);
        breached(&mut past, 350, 370, 0.4, UP);
        assert_eq!(past.worsened(HOLD.hold), None);
        breached(&mut past, 380, 380, 0.4, UP);
        assert!(past.worsened(HOLD.hold).is_some());
    }

    #[test]
    fn where_low_is_bad_half_is_twice_as_bad() {
        let mut past = under_the_old_one(0.7, DOWN);
        breached(&mut past, 310, 340, 0.36, DOWN);
        assert_eq!(past.worsened(HOLD.hold), None);
        breached(&mut past, 350, 390, 0.35, DOWN);
        assert!(past.worsened(HOLD.hold).is_some());
    }

    #[test]
    fn the_worst_of_the_last_half_hour_is_the_baseline() {
        let mut past = Past::new();
        breached(&mut past, 0, 140, 0.9, UP);
        breached(&mut past, 200, 330, 0.3, UP);
        breached(&mut past, 400, 2000, 0.1, UP);
        let mut early = past.clone();
        early.release_changed(Some(at(2000)), Some(UP));
        assert_eq!(early.baseline, Some(0.3), "0.9 is longer ago than half an hour");
        assert!(past.slots.len() <= 13, "{}", past.slots.len());
    }

    #[test]
    fn what_is_between_the_releases_counts_for_neither_and_unknown_stays_unknown() {
        let mut past = Past::new();
        breached(&mut past, 0, 140, 0.2, UP);
        breached(&mut past, 150, 200, 0.8, UP);
        past.release_changed(Some(at(150)), Some(UP));
        assert_eq!(past.baseline, Some(0.2));
        past.release_changed(Some(at(220)), Some(UP));
        assert_eq!(past.baseline, None, "nothing was seen of the release before");
        breached(&mut past, 230, 300, 9.0, UP);
        assert_eq!(past.worsened(HOLD.hold), None);
    }

    #[test]
    fn how_bad_it_was_right_before_the_release_counts_although_looks_went_on() {
        let mut past = Past::new();
        breached(&mut past, 0, 140, 0.2, UP);
        breached(&mut past, 150, 210, 0.8, UP);
        past.release_changed(Some(at(205)), Some(UP));
        assert_eq!(past.baseline, Some(0.8));
    }

    #[test]
    fn unknown_and_a_restart_earn_nothing_and_clear_ends_it() {
        let mut past = under_the_old_one(0.2, UP);
        breached(&mut past, 310, 330, 0.5, UP);
        past.take(Says::Unknown(Blank::Blind), None, at(335), HOLD, UP);
        breached(&mut past, 340, 340, 0.5, UP);
        assert_eq!(past.worsened(HOLD.hold), None);
        past.restored(at(900));
        breached(&mut past, 905, 905, 0.5, UP);
        assert_eq!(past.worsened(HOLD.hold), None);
        breached(&mut past, 915, 915, 0.5, UP);
        assert!(past.worsened(HOLD.hold).is_some());
        past.take(Says::Clear, Some(0.0), at(925), HOLD, UP);
        assert_eq!(past.worsened(HOLD.hold), None);
    }

    #[test]
    fn what_was_lost_to_a_gap_before_a_restart_is_not_found_again() {
        let mut past = under_the_old_one(0.2, UP);
        breached(&mut past, 310, 330, 0.5, UP);
        past.take(Says::Unknown(Blank::Blind), None, at(351), HOLD, UP);
        past.restored(at(360));
        breached(&mut past, 365, 375, 0.5, UP);
        assert_eq!(past.worsened(HOLD.hold), None);
        breached(&mut past, 385, 395, 0.5, UP);
        assert!(past.worsened(HOLD.hold).is_some());
    }

    #[test]
    fn a_baseline_of_zero_has_no_factor() {
        let mut past = under_the_old_one(0.0, UP);
        breached(&mut past, 310, 400, 5.0, UP);
        assert_eq!(past.worsened(HOLD.hold), None);
    }
}
