//! The samples of one series, in as few bytes as they need.
//!
//! Windows are most of what the daemon holds. As it is computed with, a sample has 16 bytes; here its value mostly has
//! one or two and its instant one, which the series of a target have in common; 16 at most.

use std::sync::Arc;

use super::clock::{Clock, ClockedSamples, Moments};
use super::column::{Column, MARKER};
use super::ring::{is_stale, stale_marker};
use crate::time::Timestamp;

/// One sample.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Point {
    pub at: Timestamp,
    pub value: f64,
}

/// Instants that rise.
#[derive(Clone, Debug, Default)]
pub struct Instants(Column);

impl Instants {
    pub const fn new() -> Instants {
        Instants(Column::new())
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The oldest is at 0.
    pub fn get(&self, place: usize) -> Option<Timestamp> {
        self.0.get(place).map(Timestamp::from_millis)
    }

    pub fn last(&self) -> Option<Timestamp> {
        self.get(self.len().checked_sub(1)?)
    }

    pub fn iter(&self) -> impl DoubleEndedIterator<Item = Timestamp> + '_ {
        self.range(0, self.len())
    }

    /// From one place to before another.
    pub fn range(&self, from: usize, to: usize) -> impl DoubleEndedIterator<Item = Timestamp> + '_ {
        (from..to).filter_map(|place| self.get(place))
    }

    /// How many stand before the first that is not `before`.
    pub fn partition_point(&self, before: impl Fn(Timestamp) -> bool) -> usize {
        partition_point(self.len(), |place| self.get(place).is_some_and(&before))
    }

    pub fn push(&mut self, at: Timestamp) {
        self.0.push(at.as_millis());
    }

    pub fn pop(&mut self) -> Option<Timestamp> {
        self.0.pop().map(Timestamp::from_millis)
    }
}

/// The same instants, in whatever form.
impl PartialEq for Instants {
    fn eq(&self, other: &Instants) -> bool {
        self.iter().eq(other.iter())
    }
}

impl FromIterator<Timestamp> for Instants {
    fn from_iter<I: IntoIterator<Item = Timestamp>>(instants: I) -> Instants {
        let mut column = Instants::default();
        column.extend(instants);
        column
    }
}

impl Extend<Timestamp> for Instants {
    fn extend<I: IntoIterator<Item = Timestamp>>(&mut self, instants: I) {
        let numbers: Vec<i64> = instants.into_iter().map(Timestamp::as_millis).collect();
        self.0.extend(&numbers);
    }
}

/// Up to here every whole number is a float.
const WHOLE_MAX: f64 = 9_007_199_254_740_992.0;

/// The number that stands for a value; none does for a fraction, a negative zero, or what is not finite.
fn whole(value: f64) -> Option<i64> {
    if is_stale(value) {
        return Some(MARKER);
    }
    if value.abs() > WHOLE_MAX {
        return None;
    }
    #[expect(clippy::cast_possible_truncation, reason = "what is not whole, or no number, is not read back alike")]
    let whole = value as i64;
    (float(whole).to_bits() == value.to_bits()).then_some(whole)
}

#[expect(clippy::cast_precision_loss, reason = "exact up to 2^53")]
fn float(whole: i64) -> f64 {
    whole as f64
}

fn bits(value: f64) -> i64 {
    value.to_bits().cast_signed()
}

/// Values of samples, bit for bit.
#[derive(Clone, Debug, Default)]
pub(super) struct Values {
    /// As whole numbers, with the marker for staleness.
    column: Column,
    /// Some value is no whole number, so `column` has the bits of all.
    is_bits: bool,
}

impl Values {
    pub fn len(&self) -> usize {
        self.column.len()
    }

    /// The oldest is at 0.
    pub fn get(&self, place: usize) -> Option<f64> {
        Some(match self.column.get(place)? {
            bits if self.is_bits => f64::from_bits(bits.cast_unsigned()),
            MARKER => stale_marker(),
            whole => float(whole),
        })
    }

    pub fn push(&mut self, value: f64) {
        if self.is_bits {
            self.column.push(bits(value));
        } else if let Some(whole) = whole(value) {
            self.column.push(whole);
        } else {
            self.turn_to_bits();
            self.column.push(bits(value));
        }
    }

    #[cold]
    fn turn_to_bits(&mut self) {
        let numbers: Vec<i64> = (0..self.len()).filter_map(|place| self.get(place)).map(bits).collect();
        self.column = Column::of(&numbers);
        self.is_bits = true;
    }

    pub fn pop(&mut self) -> bool {
        self.column.pop().is_some()
    }
}

impl Extend<f64> for Values {
    fn extend<I: IntoIterator<Item = f64>>(&mut self, values: I) {
        let values: Vec<f64> = values.into_iter().collect();
        if !self.is_bits {
            if let Some(numbers) = values.iter().map(|value| whole(*value)).collect::<Option<Vec<i64>>>() {
                return self.column.extend(&numbers);
            }
            self.turn_to_bits();
        }
        self.column.extend(&values.into_iter().map(bits).collect::<Vec<_>>());
    }
}

static NONE: Clock = Clock::new();

/// Samples whose instants rise. What is read is bit for bit what was pushed.
#[derive(Clone, Debug, Default)]
pub struct Samples {
    /// That of a target whose series were read with this one; none if there are no others.
    clock: Option<Arc<Clock>>,
    samples: ClockedSamples,
}

impl Samples {
    /// Of a series of a target that has this clock.
    pub fn of(samples: ClockedSamples, clock: &Arc<Clock>) -> Samples {
        Samples { clock: Some(Arc::clone(clock)), samples }
    }

    pub fn lend(&self) -> SamplesView<'_> {
        self.samples.lend(self.clock.as_deref().unwrap_or(&NONE))
    }

    /// The same beside another clock.
    pub(super) fn beside(self, clock: &Clock) -> ClockedSamples {
        let moments = Moments::of(self.lend(), clock);
        self.samples.at(moments)
    }

    pub fn len(&self) -> usize {
        self.samples.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub fn first(&self) -> Option<Point> {
        self.lend().get(0)
    }

    pub fn iter(&self) -> impl DoubleEndedIterator<Item = Point> + '_ {
        self.lend().iter()
    }

    #[cfg(test)]
    pub fn shares_instants(&self) -> bool {
        self.samples.shared_from().is_some()
    }

    pub fn pop_front(&mut self) -> Option<Point> {
        let first = self.first();
        self.samples.pop();
        first
    }
}

impl FromIterator<Point> for Samples {
    fn from_iter<I: IntoIterator<Item = Point>>(points: I) -> Samples {
        let mut samples = Samples::default();
        samples.extend(points);
        samples
    }
}

impl Extend<Point> for Samples {
    fn extend<I: IntoIterator<Item = Point>>(&mut self, points: I) {
        self.samples.extend(points, self.clock.as_deref().unwrap_or(&NONE));
    }
}

/// The same samples, in whatever form.
impl PartialEq for Samples {
    fn eq(&self, other: &Samples) -> bool {
        self.iter().eq(other.iter())
    }
}

/// The samples of one series, lent. Whose instants these are is nobody's business.
#[derive(Clone, Copy, Debug)]
pub struct SamplesView<'a> {
    instants: &'a Instants,
    /// So many instants stand before that of the oldest sample.
    skipped: usize,
    values: &'a Values,
}

impl<'a> SamplesView<'a> {
    pub(super) fn new(instants: &'a Instants, skipped: usize, values: &'a Values) -> SamplesView<'a> {
        SamplesView { instants, skipped, values }
    }

    pub fn len(self) -> usize {
        self.values.len()
    }

    pub fn is_empty(self) -> bool {
        self.len() == 0
    }

    /// The sample at a place, the oldest being at 0.
    pub fn get(self, place: usize) -> Option<Point> {
        let value = self.values.get(place)?;
        Some(Point { at: self.instants.get(self.skipped + place)?, value })
    }

    /// The instant of the sample at a place.
    pub fn instant_at(self, place: usize) -> Option<Timestamp> {
        self.instants.get(self.skipped + place).filter(|_| place < self.len())
    }

    pub fn last(self) -> Option<Point> {
        self.get(self.len().checked_sub(1)?)
    }

    pub fn instants(self) -> impl Iterator<Item = Timestamp> + 'a {
        (0..self.len()).filter_map(move |place| self.instant_at(place))
    }

    pub fn iter(self) -> impl DoubleEndedIterator<Item = Point> + 'a {
        self.range(0, self.len())
    }

    /// From one place to before another, which is at most the number of samples.
    pub fn range(self, from: usize, to: usize) -> impl DoubleEndedIterator<Item = Point> + 'a {
        (from..to).filter_map(move |place| self.get(place))
    }

    /// How many samples stand before the first whose instant is not `before`.
    pub fn partition_point(self, before: impl Fn(Timestamp) -> bool) -> usize {
        partition_point(self.len(), |place| self.instant_at(place).is_some_and(&before))
    }
}

/// How many of `len` places stand before the first that is not `before`; they are in order.
fn partition_point(len: usize, before: impl Fn(usize) -> bool) -> usize {
    let (mut low, mut high) = (0, len);
    while low < high {
        let middle = usize::midpoint(low, high);
        if before(middle) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    low
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use proptest::prelude::*;

    use super::*;

    /// How far the next instant is, and how far the next value.
    fn next() -> impl Strategy<Value = (i64, f64)> {
        let step = prop_oneof![
            8 => 0i64..60_000,
            2 => Just(3_600_000i64),
            1 => Just(1i64 << 32),
            1 => Just(1i64 << 62),
        ];
        let value = prop_oneof![
            8 => (0i32..1_000_000).prop_map(f64::from),
            2 => any::<i32>().prop_map(f64::from),
            1 => any::<f64>(),
            1 => prop::sample::select(vec![
                stale_marker(),
                f64::NAN,
                f64::INFINITY,
                -0.0,
                0.5,
                4_294_967_296.0,
                4_294_967_295.0,
                WHOLE_MAX,
                -WHOLE_MAX,
                WHOLE_MAX + 2.0,
                f64::MIN,
            ]),
        ];
        (step, value)
    }

    fn exact(point: Point) -> (i64, u64) {
        (point.at.as_millis(), point.value.to_bits())
    }

    proptest! {
        /// Beside a list of points as they are.
        #[test]
        fn what_is_read_is_what_was_pushed(
            first in prop_oneof![Just(0i64), Just(i64::MIN), Just(1_800_000_000_000)],
            steps in prop::collection::vec((next(), 0usize..3), 0..60),
        ) {
            let (mut samples, mut plain, mut at) = (ClockedSamples::default(), VecDeque::new(), first);
            for ((step, value), popped) in steps {
                at = at.saturating_add(step);
                let point = Point { at: Timestamp::from_millis(at), value };
                if popped == 0 {
                    samples.extend([point], &NONE);
                } else {
                    samples.push(point, &NONE);
                }
                plain.push_back(point);
                for _ in 0..popped.saturating_sub(1) {
                    prop_assert_eq!(samples.lend(&NONE).get(0).map(exact), plain.pop_front().map(exact));
                    samples.pop();
                }
                let samples = samples.lend(&NONE);
                prop_assert_eq!(samples.len(), plain.len());
                prop_assert_eq!(samples.last().map(exact), plain.back().copied().map(exact));
                let all: Vec<_> = samples.iter().map(exact).collect();
                let expected: Vec<_> = plain.iter().copied().map(exact).collect();
                prop_assert_eq!(&all, &expected);
                let backwards: Vec<_> = samples.iter().rev().map(exact).collect();
                prop_assert!(backwards.iter().rev().eq(&expected));
                let middle = plain.get(plain.len() / 2).map_or(Timestamp::MIN, |point| point.at);
                prop_assert_eq!(
                    samples.partition_point(|at| at < middle),
                    plain.partition_point(|point| point.at < middle)
                );
            }
        }
    }

    fn of(values: impl IntoIterator<Item = f64>) -> Samples {
        let scrape = |(n, value): (i64, f64)| Point { at: Timestamp::from_millis(n * 15_000 + (n * 7919) % 23), value };
        (120_000_000i64..).zip(values).map(scrape).collect()
    }

    fn width(samples: &Samples) -> (usize, usize) {
        let samples = samples.lend();
        (samples.instants.0.width(), samples.values.column.width())
    }

    #[test]
    fn a_sample_takes_as_many_bytes_as_it_needs() {
        let counter = || (0..300).map(|n| 1e12 + f64::from(n * 1000 + (n * 31) % 17));
        assert_eq!(width(&of(counter())), (1, 1));
        assert_eq!(width(&of(counter().chain([stale_marker()]))), (1, 1));
        assert_eq!(width(&of((0..300).map(|n| f64::from((n * 7919) % 1000)))), (1, 2), "a gauge");
        assert_eq!(width(&of(counter().map(|value| value * 4e3))), (1, 4));
        assert_eq!(width(&of([0.25; 300])), (1, 1), "a fraction that stays");
        assert_eq!(width(&of([0.25, 5.0, 0.75])), (1, 8));
        let outage = [0, 15_000, 30_000, 3_600_000].map(|at| Point { at: Timestamp::from_millis(at), value: 1.0 });
        assert_eq!(width(&outage.into_iter().collect()), (4, 1));
    }
}
