//! The samples of one series, in as few bytes as they need.
//!
//! Windows are most of what the daemon holds. As it is computed with, a sample has 16 bytes; here it has two to four,
//! and 16 at most.

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
        (0..self.len()).filter_map(|place| self.get(place))
    }

    /// How many stand before the first that is not `before`.
    pub fn partition_point(&self, before: impl Fn(Timestamp) -> bool) -> usize {
        let (mut low, mut high) = (0, self.len());
        while low < high {
            let middle = usize::midpoint(low, high);
            if self.get(middle).is_some_and(&before) {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        low
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

/// Samples whose instants rise. What is read is bit for bit what was pushed.
#[derive(Clone, Debug, Default)]
pub struct Samples {
    instants: Instants,
    /// As whole numbers, with the marker for staleness.
    values: Column,
    /// Some value is no whole number, so `values` has the bits of all.
    is_bits: bool,
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

impl Samples {
    pub fn len(&self) -> usize {
        self.values.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The sample at a place, the oldest being at 0.
    pub fn get(&self, place: usize) -> Option<Point> {
        Some(Point { at: self.instant_at(place)?, value: self.value_at(place)? })
    }

    /// The instant of the sample at a place.
    pub fn instant_at(&self, place: usize) -> Option<Timestamp> {
        self.instants.get(place)
    }

    fn value_at(&self, place: usize) -> Option<f64> {
        Some(match self.values.get(place)? {
            bits if self.is_bits => f64::from_bits(bits.cast_unsigned()),
            MARKER => stale_marker(),
            whole => float(whole),
        })
    }

    pub fn first(&self) -> Option<Point> {
        self.get(0)
    }

    pub fn last(&self) -> Option<Point> {
        self.get(self.len().checked_sub(1)?)
    }

    pub fn iter(&self) -> impl DoubleEndedIterator<Item = Point> + '_ {
        self.range(0, self.len())
    }

    /// From one place to before another, which is at most the number of samples.
    pub fn range(&self, from: usize, to: usize) -> impl DoubleEndedIterator<Item = Point> + '_ {
        (from..to).filter_map(|place| self.get(place))
    }

    /// How many samples stand before the first whose instant is not `before`.
    pub fn partition_point(&self, before: impl Fn(Timestamp) -> bool) -> usize {
        self.instants.partition_point(before)
    }

    pub fn push_back(&mut self, Point { at, value }: Point) {
        self.instants.push(at);
        if self.is_bits {
            self.values.push(bits(value));
        } else if let Some(whole) = whole(value) {
            self.values.push(whole);
        } else {
            self.turn_to_bits();
            self.values.push(bits(value));
        }
    }

    #[cold]
    fn turn_to_bits(&mut self) {
        let numbers: Vec<i64> = (0..self.values.len()).filter_map(|place| self.value_at(place)).map(bits).collect();
        self.values = Column::of(&numbers);
        self.is_bits = true;
    }

    pub fn pop_front(&mut self) -> Option<Point> {
        let first = self.first();
        self.instants.pop();
        self.values.pop();
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
        let points: Vec<Point> = points.into_iter().collect();
        let all_whole = || points.iter().map(|point| whole(point.value)).collect::<Option<Vec<i64>>>();
        if let Some(numbers) = all_whole().filter(|_| !self.is_bits) {
            self.values.extend(&numbers);
        } else {
            if !self.is_bits {
                self.turn_to_bits();
            }
            self.values.extend(&points.iter().map(|point| bits(point.value)).collect::<Vec<_>>());
        }
        self.instants.extend(points.iter().map(|point| point.at));
    }
}

/// The same samples, in whatever form.
impl PartialEq for Samples {
    fn eq(&self, other: &Samples) -> bool {
        self.iter().eq(other.iter())
    }
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
            let (mut samples, mut plain, mut at) = (Samples::default(), VecDeque::new(), first);
            for ((step, value), popped) in steps {
                at = at.saturating_add(step);
                let point = Point { at: Timestamp::from_millis(at), value };
                if popped == 0 {
                    samples.extend([point]);
                } else {
                    samples.push_back(point);
                }
                plain.push_back(point);
                for _ in 0..popped.saturating_sub(1) {
                    prop_assert_eq!(samples.pop_front().map(exact), plain.pop_front().map(exact));
                }
                prop_assert_eq!(samples.len(), plain.len());
                prop_assert_eq!(samples.last().map(exact), plain.back().copied().map(exact));
                let all: Vec<_> = samples.iter().map(exact).collect();
                let expected: Vec<_> = plain.iter().copied().map(exact).collect();
                prop_assert_eq!(&all, &expected);
                let backwards: Vec<_> = samples.range(0, samples.len()).rev().map(exact).collect();
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
        (samples.instants.0.width(), samples.values.width())
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
