//! How a value was before the release: the baseline of a `regression`.
//!
//! While a value is not worse, it is remembered, one a minute, for an hour. When another release appears, the median of
//! the hour until the last sight of the one before is frozen: what the new release does never changes it. Where too
//! little of that hour was observed (a release soon after another, a release that was worse itself), the older median
//! stays. Until a release has come, what runs is its own baseline, and nothing is worse.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::promql::Labels;
use crate::time::Timestamp;

/// How far before the release the median looks (DESIGN §4).
pub const BASELINE: Duration = Duration::from_hours(1);

/// So much of it must have been observed for a median to mean something.
pub const OBSERVED_MIN: Duration = Duration::from_mins(30);

/// One value is kept for this time: sixty per label set stand in each checkpoint.
const SLOT: Duration = Duration::from_mins(1);

/// Label sets that were not seen for so long are forgotten.
const FORGOTTEN_AFTER: Duration = Duration::from_hours(24);

/// Of every label set of one trigger.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Baselines(pub BTreeMap<Labels, Baseline>);

/// Of one label set.
#[derive(Clone, Debug, PartialEq)]
pub struct Baseline {
    /// Values under the release that runs, oldest first.
    pub slots: Vec<(Timestamp, f64)>,
    /// The median under the one before.
    pub frozen: Option<f64>,
    /// When it was there last, worse or not.
    pub seen: Timestamp,
}

/// What a value is compared with.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Against {
    Median(f64),
    /// No release has come since it was first seen: there is nothing that it could be worse than.
    Itself,
    /// Seen for too short a time.
    Nothing {
        observed: Duration,
    },
}

impl Baselines {
    /// `pause_max`: values further apart than this were not observed in between.
    #[must_use]
    pub fn against(&self, labels: &Labels, pause_max: Duration) -> Against {
        let Some(baseline) = self.0.get(labels) else { return Against::Nothing { observed: Duration::ZERO } };
        if let Some(median) = baseline.frozen {
            return Against::Median(median);
        }
        let observed = observed(&baseline.slots, pause_max);
        if observed >= OBSERVED_MIN { Against::Itself } else { Against::Nothing { observed } }
    }

    /// Takes values, those that are worse only as seen. Forgets label sets that are gone, so that names that change with
    /// every release do not pile up.
    pub fn take(&mut self, values: &[(Labels, f64)], is_worse: impl Fn(&Labels) -> bool, at: Timestamp) {
        for (labels, value) in values.iter().filter(|(_, value)| value.is_finite()) {
            let fresh = || Baseline { slots: Vec::new(), frozen: None, seen: at };
            let baseline = self.0.entry(labels.clone()).or_insert_with(fresh);
            baseline.seen = at;
            let slots = &mut baseline.slots;
            if is_worse(labels) {
                continue;
            }
            if slots.last().is_none_or(|(last, _)| at.since(*last) >= SLOT) {
                slots.push((at, *value));
                slots.retain(|(then, _)| at.since(*then) <= BASELINE);
            }
        }
        self.0.retain(|_, baseline| at.since(baseline.seen) <= FORGOTTEN_AFTER);
    }

    /// Another release runs. `old_last_seen`: of the one before; without it nobody knows whose the values are.
    pub fn release_changed(&mut self, old_last_seen: Option<Timestamp>, pause_max: Duration) {
        let Some(until) = old_last_seen else { return };
        for baseline in self.0.values_mut() {
            let mut slots = std::mem::take(&mut baseline.slots);
            slots.retain(|(at, _)| *at <= until && until.since(*at) <= BASELINE);
            if observed(&slots, pause_max) >= OBSERVED_MIN {
                baseline.frozen = median(slots.into_iter().map(|(_, value)| value).collect());
            }
        }
        self.0.retain(|_, baseline| baseline.frozen.is_some());
    }
}

fn observed(slots: &[(Timestamp, f64)], pause_max: Duration) -> Duration {
    // A value stands for its slot too.
    let pause_max = pause_max + SLOT;
    slots.windows(2).map(|pair| pair[1].0.since(pair[0].0)).filter(|pause| *pause <= pause_max).sum()
}

fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let upper = *values.get(values.len() / 2)?;
    if values.len() % 2 == 1 {
        return Some(upper);
    }
    Some(f64::midpoint(*values.get((values.len() / 2).checked_sub(1)?)?, upper))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAUSE: Duration = Duration::from_secs(30);

    fn at(secs: i64) -> Timestamp {
        Timestamp::from_millis(secs * 1000)
    }

    fn set(name: &str) -> Labels {
        Labels::from_pairs([("route", name)])
    }

    /// A value every 15 seconds.
    fn fed(baselines: &mut Baselines, from: i64, to: i64, value: impl Fn(i64) -> f64) {
        for secs in (from..to).step_by(15) {
            baselines.take(&[(set("a"), value(secs))], |_| false, at(secs));
        }
    }

    #[test]
    fn the_median_of_the_hour_before_is_frozen() {
        let mut baselines = Baselines::default();
        // What was more than an hour before the release does not count; outliers do not move a median.
        fed(&mut baselines, 0, 3600, |_| 100.0);
        fed(&mut baselines, 3600, 7200, |secs| if secs % 600 < 60 { 50.0 } else { 2.0 });
        assert_eq!(baselines.against(&set("a"), PAUSE), Against::Itself);
        baselines.release_changed(Some(at(7190)), PAUSE);
        assert_eq!(baselines.against(&set("a"), PAUSE), Against::Median(2.0));
        fed(&mut baselines, 7200, 14_400, |_| 9.0);
        assert_eq!(baselines.against(&set("a"), PAUSE), Against::Median(2.0), "the new release does not change it");
        baselines.release_changed(Some(at(14_390)), PAUSE);
        assert_eq!(baselines.against(&set("a"), PAUSE), Against::Median(9.0));
    }

    #[test]
    fn too_little_observed_is_no_baseline_and_leaves_the_older_one() {
        let nothing = |secs: u64| Against::Nothing { observed: Duration::from_secs(secs) };
        let mut baselines = Baselines::default();
        assert_eq!(baselines.against(&set("a"), PAUSE), nothing(0));
        fed(&mut baselines, 0, 1800, |_| 2.0);
        assert_eq!(baselines.against(&set("a"), PAUSE), nothing(1740));
        baselines.release_changed(Some(at(1790)), PAUSE);
        assert_eq!(baselines.against(&set("a"), PAUSE), nothing(0));
        fed(&mut baselines, 1800, 5400, |_| 3.0);
        baselines.release_changed(Some(at(5390)), PAUSE);
        // The next release comes after ten minutes.
        fed(&mut baselines, 5400, 6000, |_| 30.0);
        baselines.release_changed(Some(at(5990)), PAUSE);
        assert_eq!(baselines.against(&set("a"), PAUSE), Against::Median(3.0));
        // Forty minutes of which half were not seen.
        fed(&mut baselines, 6000, 6600, |_| 7.0);
        fed(&mut baselines, 7800, 8400, |_| 7.0);
        baselines.release_changed(Some(at(8390)), PAUSE);
        assert_eq!(baselines.against(&set("a"), PAUSE), Against::Median(3.0));
    }

    #[test]
    fn values_of_nobody_knows_which_release_are_kept_and_label_sets_do_not_pile_up() {
        let mut baselines = Baselines::default();
        fed(&mut baselines, 0, 3600, |_| 2.0);
        baselines.release_changed(None, PAUSE);
        assert_eq!(baselines.against(&set("a"), PAUSE), Against::Itself);
        baselines.take(&[(set("gone"), 1.0), (set("never"), f64::NAN)], |_| false, at(3600));
        assert_eq!(baselines.0.len(), 2);
        baselines.take(&[(set("a"), 2.0)], |_| false, at(90_001));
        assert_eq!(baselines.0.keys().collect::<Vec<_>>(), [&set("a")]);
    }

    #[test]
    fn what_is_worse_is_no_baseline_for_the_next_release() {
        let mut baselines = Baselines::default();
        fed(&mut baselines, 0, 3600, |_| 2.0);
        baselines.release_changed(Some(at(3590)), PAUSE);
        for secs in (3600..90_000).step_by(60) {
            baselines.take(&[(set("a"), 9.0)], |_| true, at(secs));
        }
        baselines.release_changed(Some(at(89_990)), PAUSE);
        assert_eq!(baselines.against(&set("a"), PAUSE), Against::Median(2.0));
    }

    #[test]
    fn a_median_is_the_middle() {
        assert_eq!(median(vec![]), None);
        assert_eq!(median(vec![3.0]), Some(3.0));
        assert_eq!(median(vec![4.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(vec![4.0, 1.0, 2.0, 3.0]), Some(2.5));
    }
}
