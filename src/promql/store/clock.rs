//! The instants that the series of one target have in common.
//!
//! A scrape gives hundreds of series a sample each, all of the same instant. A series that has a sample at each of them
//! since its first needs no instants of its own, which would be half of what it takes.

use std::collections::BTreeSet;

use super::samples::{Instants, Point, SamplesView, Values};
use crate::time::Timestamp;

/// When samples of a target were taken. Each instant has a number, which it keeps.
#[derive(Clone, Debug, Default)]
pub struct Clock {
    instants: Instants,
    /// The number of the oldest.
    first: usize,
}

/// The samples of one series beside the clock of its target. Whoever calls has that clock, always the same one.
#[derive(Clone, Debug, Default)]
pub struct ClockedSamples {
    moments: Moments,
    values: Values,
}

/// When the samples of one series were taken.
#[derive(Clone, Debug)]
pub(super) enum Moments {
    /// At the instants of the clock, from this number on.
    Shared(usize),
    /// The series lacks one of the clock's instants, or has another.
    Own(Box<Instants>),
}

impl Default for Moments {
    fn default() -> Moments {
        Moments::Shared(0)
    }
}

impl Clock {
    /// Without instants: every series beside it has its own.
    pub const fn new() -> Clock {
        Clock { instants: Instants::new(), first: 0 }
    }

    /// One that has the instants of all scrapes that succeeded, and those at which series were said to have ended.
    pub(super) fn of<'a>(scrapes: Instants, series: impl Iterator<Item = SamplesView<'a>>) -> Clock {
        let mut clock = Clock { instants: scrapes, first: 0 };
        // One by one: thousands of series mostly lack the same few.
        let mut missing = BTreeSet::new();
        for samples in series.filter(|samples| clock.find(*samples).is_none()) {
            missing.extend(samples.instants().filter(|at| clock.number(*at).is_none()));
        }
        if !missing.is_empty() {
            missing.extend(clock.instants.iter());
            clock.instants = missing.into_iter().collect();
        }
        clock
    }

    pub fn instants(&self) -> impl DoubleEndedIterator<Item = Timestamp> {
        self.instants.iter()
    }

    /// An instant that is not later than the newest changes nothing.
    pub fn tick(&mut self, at: Timestamp) {
        if self.instants.last().is_none_or(|newest| newest < at) {
            self.instants.push(at);
        }
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.instants.len()
    }

    /// Forgets what is before the horizon and before this number; the newest instant at or before the horizon stays.
    pub(super) fn forget_before(&mut self, horizon: Timestamp, number: usize) {
        while self.first < number && self.instants.get(1).is_some_and(|next| next <= horizon) {
            self.instants.pop();
            self.first += 1;
        }
    }

    fn has(&self, number: usize, at: Timestamp) -> bool {
        number.checked_sub(self.first).and_then(|place| self.instants.get(place)) == Some(at)
    }

    /// The number of an instant.
    fn number(&self, at: Timestamp) -> Option<usize> {
        // Mostly it is asked for the newest.
        let newest = self.first + self.instants.len().checked_sub(1)?;
        if self.has(newest, at) {
            return Some(newest);
        }
        let number = self.first + self.instants.partition_point(|one| one < at);
        self.has(number, at).then_some(number)
    }

    /// The number of the first of these samples, if the clock has all their instants, and none between them.
    fn find(&self, samples: SamplesView<'_>) -> Option<usize> {
        let first = self.number(samples.instant_at(0)?)?;
        let last = samples.len() - 1;
        let is_all = samples.instant_at(last).is_some_and(|at| self.has(first + last, at))
            && samples.instants().enumerate().all(|(place, at)| self.has(first + place, at));
        is_all.then_some(first)
    }
}

impl Moments {
    /// Those of samples that may stand beside another clock.
    pub(super) fn of(samples: SamplesView<'_>, clock: &Clock) -> Moments {
        let own = || Moments::Own(Box::new(samples.instants().collect()));
        clock.find(samples).map_or_else(own, Moments::Shared)
    }

    /// `len`: so many there are already.
    fn push(&mut self, at: Timestamp, len: usize, clock: &Clock) {
        match self {
            Moments::Own(instants) => instants.push(at),
            Moments::Shared(first) if len > 0 && clock.has(*first + len, at) => {}
            Moments::Shared(first) => {
                if let Some(number) = clock.number(at).filter(|_| len == 0) {
                    *first = number;
                    return;
                }
                let place = first.saturating_sub(clock.first);
                let mut own: Instants = clock.instants.range(place, place + len).collect();
                own.push(at);
                *self = Moments::Own(Box::new(own));
            }
        }
    }
}

impl ClockedSamples {
    /// The same values, at these instants.
    pub(super) fn at(self, moments: Moments) -> ClockedSamples {
        ClockedSamples { moments, ..self }
    }

    pub fn len(&self) -> usize {
        self.values.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// It must be later than the last.
    pub fn push(&mut self, Point { at, value }: Point, clock: &Clock) {
        self.moments.push(at, self.values.len(), clock);
        self.values.push(value);
    }

    /// The same as pushing each; takes no more room on the way.
    pub fn extend(&mut self, points: impl IntoIterator<Item = Point>, clock: &Clock) {
        let len = self.values.len();
        let values = points.into_iter().enumerate().map(|(place, point)| {
            self.moments.push(point.at, len + place, clock);
            point.value
        });
        self.values.extend(values);
    }

    pub fn pop(&mut self) {
        if !self.values.pop() {
            return;
        }
        match &mut self.moments {
            Moments::Shared(first) => *first += 1,
            Moments::Own(instants) => drop(instants.pop()),
        }
    }

    pub fn lend<'a>(&'a self, clock: &'a Clock) -> SamplesView<'a> {
        match &self.moments {
            Moments::Shared(first) => {
                SamplesView::new(&clock.instants, first.saturating_sub(clock.first), &self.values)
            }
            Moments::Own(instants) => SamplesView::new(instants, 0, &self.values),
        }
    }

    /// The number of the oldest instant, where the clock must keep it.
    pub(super) fn shared_from(&self) -> Option<usize> {
        match &self.moments {
            Moments::Shared(first) => (!self.is_empty()).then_some(*first),
            Moments::Own(_) => None,
        }
    }

    /// Gives up instants of its own that the clock has as well.
    pub(super) fn share(&mut self, clock: &Clock) {
        if let Moments::Own(_) = self.moments
            && let Some(first) = clock.find(self.lend(clock))
        {
            self.moments = Moments::Shared(first);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use proptest::prelude::*;

    use super::super::ring::Ring;
    use super::super::{Point, Samples};
    use super::*;

    const SERIES: usize = 3;

    #[derive(Clone, Debug)]
    enum Step {
        /// A scrape after so many milliseconds that shows some of the series.
        Scrape(i64, [bool; SERIES]),
        /// One series gets a sample of its own, as far after the last scrape.
        Own(usize, i64),
        /// The windows reach so far back from the newest instant.
        Forget(i64),
        Sweep(i64),
        /// All comes back from what a checkpoint has of it, with every so many of the scrapes.
        Restore(usize),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            12 => (1i64..20_000, prop_oneof![3 => Just([true; SERIES]), 1 => any::<[bool; SERIES]>()])
                .prop_map(|(after, shown)| Step::Scrape(after, shown)),
            1 => (0..SERIES, 0i64..3).prop_map(|(series, after)| Step::Own(series, after)),
            4 => (0i64..100_000).prop_map(Step::Forget),
            2 => (0i64..100_000).prop_map(Step::Sweep),
            1 => (1usize..4).prop_map(Step::Restore),
        ]
    }

    proptest! {
        /// Beside lists of points as they are.
        #[test]
        fn each_series_has_its_own_samples(steps in prop::collection::vec(step(), 0..120)) {
            let (mut clock, mut rings) = (Clock::default(), vec![Ring::default(); SERIES]);
            let mut plain = vec![VecDeque::<Point>::new(); SERIES];
            let (mut now, mut value, mut scrapes) = (0, 0.0, Vec::new());
            for step in steps {
                let mut push = |series: usize, at: i64, clock: &Clock| {
                    value += 1.0;
                    let point = Point { at: Timestamp::from_millis(at), value };
                    rings[series].push(point.at, point.value, false, clock);
                    if plain[series].back().is_none_or(|newest| newest.at < point.at) {
                        plain[series].push_back(point);
                    }
                };
                match step {
                    Step::Scrape(after, shown) => {
                        now += after;
                        clock.tick(Timestamp::from_millis(now));
                        scrapes.push(Timestamp::from_millis(now));
                        (0..SERIES).filter(|series| shown[*series]).for_each(|series| push(series, now, &clock));
                    }
                    Step::Own(series, after) => push(series, now + after, &clock),
                    Step::Forget(reach) => {
                        let horizon = Timestamp::from_millis(now - reach);
                        for (ring, plain) in rings.iter_mut().zip(&mut plain) {
                            ring.forget_before(horizon, 0, &clock);
                            while plain.get(1).is_some_and(|next| next.at <= horizon) {
                                plain.pop_front();
                            }
                        }
                    }
                    Step::Sweep(reach) => {
                        for ring in &mut rings {
                            ring.share(&clock);
                        }
                        let needed = rings.iter().filter_map(Ring::shared_from).min();
                        clock.forget_before(Timestamp::from_millis(now - reach), needed.unwrap_or(usize::MAX));
                    }
                    Step::Restore(every) => {
                        let dumps: Vec<Samples> = rings.iter().map(|ring| ring.lend(&clock).iter().collect()).collect();
                        let scrapes = scrapes.iter().copied().step_by(every).collect();
                        clock = Clock::of(scrapes, dumps.iter().map(Samples::lend));
                        rings = dumps.into_iter().map(|dump| Ring::restored(dump, &[], false, &clock)).collect();
                    }
                }
                for (ring, plain) in rings.iter().zip(&plain) {
                    prop_assert!(ring.lend(&clock).iter().eq(plain.iter().copied()));
                    prop_assert_eq!(ring.newest(), plain.back().copied());
                }
            }
        }
    }
}
