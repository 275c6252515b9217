//! The window of one series: its recent samples, with what makes increases over long windows cheap.

use std::collections::VecDeque;

use super::clock::{Clock, ClockedSamples};
use super::samples::{Point, Samples, SamplesView};
use crate::time::Timestamp;

/// The NaN by which Prometheus marks the end of a series (`value.StaleNaN`).
const STALE_BITS: u64 = 0x7ff0_0000_0000_0002;

/// More samples of one series are never kept: three days at one a second.
const SAMPLES_MAX: usize = 1 << 18;

pub(in crate::promql) fn stale_marker() -> f64 {
    f64::from_bits(STALE_BITS)
}

pub(in crate::promql) fn is_stale(value: f64) -> bool {
    value.to_bits() == STALE_BITS
}

/// What all resets up to and with this instant took away.
#[derive(Clone, Copy, Debug)]
struct Reset {
    at: Timestamp,
    /// Drops only: what Prometheus sees.
    drops: f64,
    /// Drops, and the last values of processes that were replaced by one whose counter is higher.
    observed: f64,
}

/// Samples in order of time. Resets, staleness markers and samples that are not finite are rare, so they are kept
/// beside the samples: an increase costs a few binary searches, not a walk.
///
/// A daemon has thousands of rings and asks each of them several times a second, mostly for the newest sample: what
/// that takes stands in the ring itself, and what most rings lack does not make it larger.
#[derive(Clone, Debug, Default)]
pub(in crate::promql) struct Ring {
    samples: ClockedSamples,
    /// The newest sample that is not a staleness marker. It is among those kept.
    last: Option<Point>,
    rare: Option<Box<Rare>>,
    /// The series began at zero after the first instant that the ring knows, rather than at an unknown value.
    pub from_zero: bool,
}

/// What most series never have.
#[derive(Clone, Debug, Default)]
struct Rare {
    resets: VecDeque<Reset>,
    /// Instants of samples that are NaN or infinite.
    unusable: VecDeque<Timestamp>,
    /// Instants of staleness markers.
    stale: VecDeque<Timestamp>,
}

impl Ring {
    /// Appends a sample; one that is not newer than the last is dropped. `replaced`: since the last sample the process
    /// was replaced by another, so that the counter began at zero in between, whatever its value. `clock` is that of the
    /// target, here and below.
    pub fn push(&mut self, at: Timestamp, value: f64, replaced: bool, clock: &Clock) {
        if self.newest().is_some_and(|newest| at <= newest.at) {
            return;
        }
        self.note(at, value, replaced);
        self.samples.push(Point { at, value }, clock);
        if self.samples.len() > SAMPLES_MAX {
            self.pop_front(clock);
        }
    }

    /// What is kept of a new sample beside the sample itself.
    fn note(&mut self, at: Timestamp, value: f64, replaced: bool) {
        if is_stale(value) {
            self.rare_mut().stale.push_back(at);
        } else {
            if let Some(Point { value: last, .. }) = self.last {
                let dropped = value < last;
                // An infinite counter is broken; adding it up would spoil every later increase.
                if last.is_finite() && (dropped || replaced) {
                    let resets = &mut self.rare_mut().resets;
                    let before = resets.back().map_or((0.0, 0.0), |reset| (reset.drops, reset.observed));
                    let drops = if dropped { before.0 + last } else { before.0 };
                    resets.push_back(Reset { at, drops, observed: before.1 + last });
                }
            }
            if !value.is_finite() {
                self.rare_mut().unusable.push_back(at);
            }
            self.last = Some(Point { at, value });
        }
    }

    fn rare_mut(&mut self) -> &mut Rare {
        self.rare.get_or_insert_default()
    }

    /// Drops what no window that ends at or after now can need: everything before the newest sample at or before
    /// `horizon`, which stays as the anchor, but no more than leaves `least` samples.
    pub fn forget_before(&mut self, horizon: Timestamp, least: usize, clock: &Clock) {
        while self.samples.len() > least.max(1) {
            let next = self.lend(clock).range(1, self.samples.len()).find(|point| !is_stale(point.value));
            match next {
                Some(next) if next.at <= horizon => self.pop_front(clock),
                Some(_) | None => break,
            }
        }
    }

    fn pop_front(&mut self, clock: &Clock) {
        let Some(front) = self.lend(clock).instant_at(0) else { return };
        self.samples.pop();
        self.from_zero = false;
        let first = self.lend(clock).instant_at(0).unwrap_or(Timestamp::MAX);
        let Some(rare) = &mut self.rare else { return };
        for instants in [&mut rare.unusable, &mut rare.stale] {
            if instants.front().is_some_and(|at| *at <= front) {
                instants.pop_front();
            }
        }
        // The sums of a reset are needed while an anchor at or after it remains: keep the newest of the dropped ones.
        while rare.resets.len() > 1 && rare.resets[1].at <= first {
            rare.resets.pop_front();
        }
    }

    /// Forgets all that is older than `from`; what remains begins anew.
    pub fn restart(&mut self, from: Timestamp, clock: &Clock) {
        for _ in 0..self.lend(clock).partition_point(|at| at < from) {
            self.pop_front(clock);
        }
        (self.last, self.rare, self.from_zero) = (None, None, false);
        let kept: Vec<Point> = self.lend(clock).iter().collect();
        for point in kept {
            self.note(point.at, point.value, false);
        }
    }

    pub fn newest(&self) -> Option<Point> {
        let end = self.ended_at().map(|at| Point { at, value: stale_marker() });
        match self.last {
            Some(last) if end.is_none_or(|end| end.at < last.at) => Some(last),
            _ => end,
        }
    }

    pub fn is_empty(&self) -> bool {
        self.samples.is_empty()
    }

    /// The newest staleness marker.
    fn ended_at(&self) -> Option<Timestamp> {
        self.rare.as_ref().and_then(|rare| rare.stale.back().copied())
    }

    pub fn lend<'a>(&'a self, clock: &'a Clock) -> SamplesView<'a> {
        self.samples.lend(clock)
    }

    pub fn view<'a>(&'a self, clock: &'a Clock) -> RingView<'a> {
        RingView { ring: self, samples: self.lend(clock) }
    }

    /// See [`ClockedSamples::shared_from`].
    pub fn shared_from(&self) -> Option<usize> {
        self.samples.shared_from()
    }

    /// See [`ClockedSamples::share`].
    pub fn share(&mut self, clock: &Clock) {
        self.samples.share(clock);
    }

    fn sums_at(&self, at: Timestamp) -> (f64, f64) {
        let Some(resets) = self.rare.as_ref().map(|rare| &rare.resets) else { return (0.0, 0.0) };
        if let Some(last) = resets.back().filter(|last| last.at <= at) {
            return (last.drops, last.observed);
        }
        let end = resets.partition_point(|reset| reset.at <= at);
        let reset = end.checked_sub(1).and_then(|place| resets.get(place));
        reset.map_or((0.0, 0.0), |reset| (reset.drops, reset.observed))
    }

    /// Was there a NaN or an infinity, other than a staleness marker?
    fn has_unusable(&self, from: Timestamp, until: Timestamp) -> bool {
        let Some(unusable) = self.rare.as_ref().map(|rare| &rare.unusable) else { return false };
        let place = unusable.partition_point(|at| *at < from);
        unusable.get(place).is_some_and(|at| *at <= until)
    }

    /// When another process had taken over although the value did not drop, as far as it is newer than `after`. Every
    /// other reset follows from the samples.
    pub fn replaced_after(&self, after: Timestamp) -> Vec<Timestamp> {
        let mut replaced = Vec::new();
        let Some(Rare { resets, .. }) = self.rare.as_deref() else { return replaced };
        let from = resets.partition_point(|reset| reset.at <= after);
        let mut drops = from.checked_sub(1).map_or(0.0, |before| resets[before].drops);
        for reset in resets.range(from..) {
            // What is too small to change the sum may be told too: pushed again, it is the same reset.
            if reset.drops.to_bits() == drops.to_bits() {
                replaced.push(reset.at);
            }
            drops = reset.drops;
        }
        replaced
    }

    /// Puts a ring back together from its checkpoint. Its sums of resets begin anew, and all that counts are their
    /// differences.
    pub fn restored(mut samples: Samples, replaced: &[Timestamp], from_zero: bool, clock: &Clock) -> Ring {
        let mut ring = Ring::default();
        // They should rise; everything here rests on it.
        if !samples.iter().is_sorted_by(|one, next| one.at < next.at) {
            let mut newest = Timestamp::MIN;
            let mut rises = |at: Timestamp| {
                let rises = at > newest;
                newest = newest.max(at);
                rises
            };
            samples = samples.iter().filter(|point| rises(point.at)).collect();
        }
        for Point { at, value } in samples.iter() {
            ring.note(at, value, replaced.binary_search(&at).is_ok());
        }
        ring.from_zero = from_zero && !samples.is_empty();
        ring.samples = samples.beside(clock);
        ring
    }
}

/// A ring with the instants of its samples.
#[derive(Clone, Copy)]
pub(in crate::promql) struct RingView<'a> {
    ring: &'a Ring,
    samples: SamplesView<'a>,
}

impl<'a> RingView<'a> {
    pub fn points(self) -> impl DoubleEndedIterator<Item = Point> + 'a {
        self.samples.iter()
    }

    /// How many samples there are at or before `at`.
    ///
    /// Mostly it is asked for the newest, or for the oldest, since no more is kept than the longest window; and scrapes
    /// come at a steady pace, so that where a sample lies can nearly be told from its time. In a long window, whose
    /// samples are no longer in the processor's cache, that is what counts.
    fn count_until(self, at: Timestamp) -> usize {
        /// So far a guess may be off; so many of the oldest are looked at first.
        const NEAR: usize = 4;
        let len = self.samples.len();
        let instant = |place: usize| self.samples.instant_at(place);
        if let Some(place) = (0..len.min(NEAR)).find(|place| instant(*place).is_some_and(|one| one > at)) {
            return place;
        }
        let (Some(first), Some(last)) = (instant(0), len.checked_sub(1).and_then(instant)) else { return 0 };
        if at >= last {
            return len;
        }
        let (span, offset) = (last.millis_since(first), at.millis_since(first));
        let guess = offset.saturating_mul(i64::try_from(len - 1).unwrap_or(i64::MAX)) / span.max(1);
        let guess = usize::try_from(guess).unwrap_or(0).min(len - 1);
        let (mut low, mut high) = (guess.saturating_sub(NEAR), (guess + NEAR).min(len));
        let counts = |place: usize| instant(place).is_some_and(|one| one <= at);
        if !counts(low) || counts(high) {
            return self.samples.partition_point(|one| one <= at);
        }
        // What is at `low` counts, what is at `high` does not.
        while high - low > 1 {
            let middle = usize::midpoint(low, high);
            if counts(middle) {
                low = middle;
            } else {
                high = middle;
            }
        }
        low + 1
    }

    /// The newest sample at or before `at`; nothing if it is a staleness marker.
    pub fn at(self, at: Timestamp) -> Option<Point> {
        if let Some(last) = self.ring.last
            && last.at <= at
            && self.ring.ended_at().is_none_or(|end| end < last.at)
        {
            return Some(last);
        }
        let end = self.count_until(at);
        let point = self.samples.get(end.checked_sub(1)?)?;
        (!is_stale(point.value)).then_some(point)
    }

    /// The newest sample in `(after, until]` that is no staleness marker.
    pub fn newest_in(self, after: Timestamp, until: Timestamp) -> Option<Point> {
        let newest = match self.ring.last {
            Some(last) if last.at <= until => last,
            _ => self.samples.range(0, self.count_until(until)).rfind(|point| !is_stale(point.value))?,
        };
        (newest.at > after).then_some(newest)
    }

    /// The samples in `(after, until]`, without staleness markers.
    pub fn window(self, after: Timestamp, until: Timestamp) -> Window<'a> {
        let low = self.count_until(after);
        let high = self.count_until(until);
        Window { of: self, low, high: high.max(low) }
    }

    /// What happened in `(after, until]`, as far as it was observed: from the anchor (the last sample at or before
    /// `after`) to the last sample in the window, resets corrected, nothing extrapolated.
    ///
    /// - Nothing if there is no sample in the window.
    /// - A series whose first sample lies in the window counts from zero if it is known to have begun there, else from
    ///   that sample.
    /// - The anchor counts only if `watched` says that the target was watched until just before the first sample in the
    ///   window; otherwise what happened between them may have happened long before the window, and that first sample
    ///   is the baseline.
    /// - NaN if a sample from the anchor on is NaN or infinite.
    ///
    /// With it comes the instant of that last sample.
    pub fn observed_increase(
        self,
        after: Timestamp,
        until: Timestamp,
        watched: impl FnOnce(Timestamp) -> bool,
    ) -> Option<(f64, Timestamp)> {
        let last = self.newest_in(after, until)?;
        Some((self.increase_to(last, after, watched)?, last.at))
    }

    fn increase_to(self, last: Point, after: Timestamp, watched: impl FnOnce(Timestamp) -> bool) -> Option<f64> {
        let low = self.count_until(after);
        let real = |point: &Point| !is_stale(point.value);
        let first = self.samples.range(low, self.samples.len()).find(real)?;
        let anchor = self.samples.range(0, low).rfind(real);
        let base = match anchor {
            Some(anchor) if watched(first.at) => anchor,
            None if self.ring.from_zero => {
                if self.ring.has_unusable(first.at, last.at) {
                    return Some(f64::NAN);
                }
                return Some(last.value + self.ring.sums_at(last.at).1);
            }
            Some(_) | None => first,
        };
        if self.ring.has_unusable(base.at, last.at) {
            return Some(f64::NAN);
        }
        Some((last.value - base.value) + (self.ring.sums_at(last.at).1 - self.ring.sums_at(base.at).1))
    }
}

/// A part of a ring, without its staleness markers.
#[derive(Clone, Copy)]
pub(in crate::promql) struct Window<'a> {
    of: RingView<'a>,
    low: usize,
    high: usize,
}

/// What `rate` needs of a window.
#[derive(Clone, Copy, Debug)]
pub(in crate::promql) struct Span {
    pub first: Point,
    pub last: Point,
    pub count: usize,
    /// What drops took away between the first and the last sample.
    pub dropped: f64,
}

impl<'a> Window<'a> {
    pub fn points(self) -> impl DoubleEndedIterator<Item = Point> + 'a {
        self.of.samples.range(self.low, self.high).filter(|point| !is_stale(point.value))
    }

    /// A few binary searches while all samples are finite, else a walk; nothing for an empty window.
    pub fn span(self) -> Option<Span> {
        let (first, last) = (self.points().next()?, self.points().next_back()?);
        if self.of.ring.has_unusable(first.at, last.at) {
            return span_of(&self.points().collect::<Vec<_>>());
        }
        let low = self.of.samples.partition_point(|at| at < first.at);
        let high = self.of.samples.partition_point(|at| at <= last.at);
        let dropped = self.of.ring.sums_at(last.at).0 - self.of.ring.sums_at(first.at).0;
        let markers = self.of.ring.rare.as_ref().map_or(0, |rare| {
            let until = |end: Timestamp| rare.stale.partition_point(|at| *at <= end);
            until(last.at).saturating_sub(until(first.at))
        });
        Some(Span { first, last, count: high - low - markers, dropped })
    }
}

/// The same for samples that do not stand in a ring.
pub(in crate::promql) fn span_of(points: &[Point]) -> Option<Span> {
    let (first, last) = (*points.first()?, *points.last()?);
    let dropped = points.windows(2).filter(|pair| pair[1].value < pair[0].value).map(|pair| pair[0].value).sum();
    Some(Span { first, last, count: points.len(), dropped })
}
