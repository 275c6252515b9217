//! The samples of one series, in as few bytes as they need.
//!
//! Windows are most of what the daemon holds. A sample as it is computed with has 16 bytes; but instants of one window
//! lie close together, and counters and most gauges are whole numbers that lie close together too.

use std::collections::VecDeque;

use super::ring::{is_stale, stale_marker};
use crate::time::Timestamp;

/// One sample.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Point {
    pub at: Timestamp,
    pub value: f64,
}

/// Samples in the order in which they came. What is read is bit for bit what was pushed.
#[derive(Clone, Debug, Default)]
pub struct Samples {
    kept: Kept,
    /// Instants of the smaller forms are counted from here, in milliseconds.
    epoch: i64,
    /// Whole numbers are counted from here.
    centre: i64,
}

/// The smallest form that all of them fit into when it was chosen; a sample that does not fit has it chosen anew.
#[derive(Clone, Debug)]
enum Kept {
    /// Whole numbers and staleness markers, close together.
    Whole(VecDeque<(u32, i32)>),
    /// Any numbers, the bits in two halves: eight bytes in one would be aligned to eight.
    Close(VecDeque<(u32, [u32; 2])>),
    /// Further apart than 24 days.
    Apart(VecDeque<Point>),
}

impl Default for Kept {
    fn default() -> Kept {
        Kept::Whole(VecDeque::new())
    }
}

/// In place of a whole number.
const STALE: i32 = i32::MIN;
/// Up to here every whole number is a float.
const WHOLE_MAX: f64 = 9_007_199_254_740_992.0;
/// Instants and whole numbers of the smaller forms lie so close when the form is chosen. As much again may follow before
/// it must be chosen anew, so that this is rare.
const SPREAD_MAX: i64 = i32::MAX as i64;

/// What a list that is full should have room for beside its `len`: a quarter more. By doubling, a third of what only
/// grows until it is full would be empty.
pub const fn quarter_more(len: usize) -> usize {
    len / 4 + 4
}

/// Appends to what only grows until it is full.
pub(super) fn append<T>(list: &mut VecDeque<T>, item: T) {
    if list.len() == list.capacity() {
        list.reserve_exact(quarter_more(list.len()));
    }
    list.push_back(item);
}

/// The whole number that stands for a value; none does for a fraction, a negative zero, or what is not finite.
fn whole(value: f64) -> Option<i64> {
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

fn halves(value: f64) -> [u32; 2] {
    let bytes = value.to_bits().to_ne_bytes();
    let half = |at: usize| u32::from_ne_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
    [half(0), half(4)]
}

fn joined([one, other]: [u32; 2]) -> f64 {
    let ([a, b, c, d], [e, f, g, h]) = (one.to_ne_bytes(), other.to_ne_bytes());
    f64::from_bits(u64::from_ne_bytes([a, b, c, d, e, f, g, h]))
}

impl Samples {
    pub fn len(&self) -> usize {
        match &self.kept {
            Kept::Whole(list) => list.len(),
            Kept::Close(list) => list.len(),
            Kept::Apart(list) => list.len(),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The sample at a place, the oldest being at 0.
    pub fn get(&self, place: usize) -> Option<Point> {
        Some(match &self.kept {
            Kept::Whole(list) => {
                let (at, value) = *list.get(place)?;
                Point { at: self.instant(at), value: self.number(value) }
            }
            Kept::Close(list) => {
                let (at, value) = *list.get(place)?;
                Point { at: self.instant(at), value: joined(value) }
            }
            Kept::Apart(list) => *list.get(place)?,
        })
    }

    /// The instant of the sample at a place.
    pub fn instant_at(&self, place: usize) -> Option<Timestamp> {
        Some(match &self.kept {
            Kept::Whole(list) => self.instant(list.get(place)?.0),
            Kept::Close(list) => self.instant(list.get(place)?.0),
            Kept::Apart(list) => list.get(place)?.at,
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

    /// How many samples stand before the first whose instant is not `before`, given that their instants rise.
    pub fn partition_point(&self, before: impl Fn(Timestamp) -> bool) -> usize {
        match &self.kept {
            Kept::Whole(list) => list.partition_point(|(at, _)| before(self.instant(*at))),
            Kept::Close(list) => list.partition_point(|(at, _)| before(self.instant(*at))),
            Kept::Apart(list) => list.partition_point(|point| before(point.at)),
        }
    }

    pub fn push_back(&mut self, point: Point) {
        let at = point.at.as_millis().checked_sub(self.epoch).and_then(|at| u32::try_from(at).ok());
        match (&mut self.kept, at) {
            (Kept::Whole(list), Some(at)) if !list.is_empty() => {
                if let Some(value) = offset(point.value, self.centre) {
                    return append(list, (at, value));
                }
            }
            (Kept::Close(list), Some(at)) => return append(list, (at, halves(point.value))),
            (Kept::Apart(list), _) => return append(list, point),
            (Kept::Whole(_) | Kept::Close(_), _) => {}
        }
        self.choose_with(point);
    }

    pub fn pop_front(&mut self) -> Option<Point> {
        let first = self.first();
        match &mut self.kept {
            Kept::Whole(list) => drop(list.pop_front()),
            Kept::Close(list) => drop(list.pop_front()),
            Kept::Apart(list) => drop(list.pop_front()),
        }
        first
    }

    fn instant(&self, offset: u32) -> Timestamp {
        Timestamp::from_millis(self.epoch.saturating_add(i64::from(offset)))
    }

    fn number(&self, offset: i32) -> f64 {
        if offset == STALE { stale_marker() } else { float(self.centre.saturating_add(i64::from(offset))) }
    }

    /// Chooses the form anew, with one more sample.
    #[cold]
    fn choose_with(&mut self, point: Point) {
        let all = || self.iter().chain([point]);
        let instants = || all().map(|point| point.at.as_millis());
        let epoch = instants().min().unwrap_or_default();
        let is_close = instants().all(|at| at.checked_sub(epoch).is_some_and(|at| at <= SPREAD_MAX));
        let numbers = || all().filter(|point| !is_stale(point.value)).map(|point| whole(point.value));
        let centre = numbers().max().flatten().unwrap_or_default();
        let is_whole = numbers().all(|value| value.is_some_and(|value| centre - value < SPREAD_MAX));
        let room = self.len() + quarter_more(self.len());
        let mut chosen = match (is_close, is_whole) {
            (true, true) => Kept::Whole(VecDeque::with_capacity(room)),
            (true, false) => Kept::Close(VecDeque::with_capacity(room)),
            (false, _) => Kept::Apart(VecDeque::with_capacity(room)),
        };
        let offset_at = |point: Point| u32::try_from(point.at.as_millis() - epoch).unwrap_or(u32::MAX);
        match &mut chosen {
            Kept::Whole(list) => {
                list.extend(all().map(|point| (offset_at(point), offset(point.value, centre).unwrap_or(STALE))));
            }
            Kept::Close(list) => list.extend(all().map(|point| (offset_at(point), halves(point.value)))),
            Kept::Apart(list) => list.extend(all()),
        }
        *self = Samples { kept: chosen, epoch, centre };
    }
}

/// A value as it stands among whole numbers around `centre`, if it can.
fn offset(value: f64, centre: i64) -> Option<i32> {
    if is_stale(value) {
        return Some(STALE);
    }
    let offset = i32::try_from(whole(value)?.checked_sub(centre)?).ok()?;
    (offset != STALE).then_some(offset)
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
        points.into_iter().for_each(|point| self.push_back(point));
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
    use proptest::prelude::*;

    use super::*;

    /// How far the next instant is, and how far the next value.
    fn next() -> impl Strategy<Value = (i64, f64)> {
        let step = prop_oneof![
            8 => 0i64..60_000,
            2 => Just(SPREAD_MAX),
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

    fn bits(point: Point) -> (i64, u64) {
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
                samples.push_back(point);
                plain.push_back(point);
                for _ in 0..popped.saturating_sub(1) {
                    prop_assert_eq!(samples.pop_front().map(bits), plain.pop_front().map(bits));
                }
                prop_assert_eq!(samples.len(), plain.len());
                prop_assert_eq!(samples.last().map(bits), plain.back().copied().map(bits));
                let all: Vec<_> = samples.iter().map(bits).collect();
                let expected: Vec<_> = plain.iter().copied().map(bits).collect();
                prop_assert_eq!(&all, &expected);
                let backwards: Vec<_> = samples.range(0, samples.len()).rev().map(bits).collect();
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
        let second = |(n, value)| Point { at: Timestamp::from_millis(n * 1000), value };
        (1_800_000_000i64..).zip(values).map(second).collect()
    }

    #[test]
    fn each_kind_of_series_has_its_form() {
        let counter = of((0..300).map(|n| 1e12 + f64::from(n) * 1e6).chain([stale_marker()]));
        assert!(matches!(counter.kept, Kept::Whole(_)));
        assert!(matches!(of([5.0, 0.25]).kept, Kept::Close(_)));
        assert!(matches!(of([1e12, 0.0]).kept, Kept::Close(_)), "a great counter that began anew");
        let far = [Point { at: Timestamp::MIN, value: 1.0 }, Point { at: Timestamp::MAX, value: 1.0 }];
        assert!(matches!(far.into_iter().collect::<Samples>().kept, Kept::Apart(_)));
    }

    /// A counter that grows faster than its samples are dropped does not have all of them rewritten at each one.
    #[test]
    fn a_form_is_chosen_rarely() {
        let mut samples = of((0..100).map(f64::from));
        let (mut chosen, mut before) = (0, samples.centre);
        for n in 0..100_000 {
            let at = samples.last().unwrap().at.plus_millis(1000);
            samples.push_back(Point { at, value: f64::from(n) * 1e7 });
            samples.pop_front();
            chosen += u32::from(samples.centre != before);
            before = samples.centre;
        }
        assert!(matches!(samples.kept, Kept::Whole(_)));
        assert!((400..1000).contains(&chosen), "{chosen} times over 466 spreads");
    }
}
