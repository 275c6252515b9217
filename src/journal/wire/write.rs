//! The writer's side: what a frame must say, found by looking at what is new.

use std::collections::{BTreeMap, HashMap};

use serde::ser::SerializeSeq;
use serde::{Serialize, Serializer};

use super::{
    Bits, EverFrame, EverKey, Head, SeriesHead, TargetHead, baseline_frame, difference, key_frame, verdict_frame,
};
use crate::machine::checkpoint::{EverMatched, View};
use crate::machine::input::TargetKey;
use crate::promql::{Instants, Labels, SamplesView, SeriesView, TargetView, quarter_more};
use crate::time::Timestamp;

/// What the file holds, as its writer remembers it. An empty one makes a whole frame.
#[derive(Debug, Default)]
pub(in crate::journal) struct Written {
    targets: HashMap<TargetKey, WrittenTarget>,
    next_target: u32,
    next_series: u32,
    /// Of the newest frame.
    number: u32,
    /// Sorted.
    ever: BTreeMap<EverKey, Vec<u64>>,
}

#[derive(Debug, Default)]
struct WrittenTarget {
    id: u32,
    /// Of the newest frame that tells of it.
    number: u32,
    scrapes: Span,
    /// By the place where the series stood.
    series: Vec<Option<WrittenSeries>>,
}

#[derive(Debug)]
struct WrittenSeries {
    id: u32,
    labels: Labels,
    own: bool,
    from_zero: bool,
    span: Span,
}

/// What the file has of a list of samples: enough to find what is new.
#[derive(Clone, Copy, Debug, Default)]
struct Span {
    count: usize,
    last: Bits,
}

/// The labels of a series are about as long in the file as so many samples.
const LABELS_AS_SAMPLES: usize = 16;

/// What is new of one series.
#[derive(Serialize)]
struct History<'a> {
    samples: Added<SamplesView<'a>>,
    from_zero: bool,
    replaced: Vec<i64>,
}

#[derive(Serialize)]
#[serde(bound = "")]
struct Added<L: List> {
    keep: u64,
    new: New<L>,
}

/// New samples and the one before them; written as differences.
#[derive(Clone, Copy)]
struct New<L> {
    last: Bits,
    list: L,
    from: usize,
}

/// Samples as the store lends them.
trait List: Copy {
    fn len(self) -> usize;
    /// Of the sample at a place before `len`.
    fn bits(self, place: usize) -> Bits;
}

impl List for SamplesView<'_> {
    fn len(self) -> usize {
        SamplesView::len(self)
    }

    fn bits(self, place: usize) -> Bits {
        self.get(place).map_or(Bits::default(), |point| (point.at.as_millis(), point.value.to_bits()))
    }
}

impl List for &Instants {
    fn len(self) -> usize {
        Instants::len(self)
    }

    fn bits(self, place: usize) -> Bits {
        self.get(place).map_or(Bits::default(), |at| (at.as_millis(), 0))
    }
}

impl<L: List> New<L> {
    fn len(&self) -> usize {
        self.list.len() - self.from
    }
}

impl<L: List> Serialize for New<L> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut all = serializer.serialize_seq(Some(self.len()))?;
        let mut last = self.last;
        for place in self.from..self.list.len() {
            let bits = self.list.bits(place);
            all.serialize_element(&difference(last, bits))?;
            last = bits;
        }
        all.end()
    }
}

/// What is new in a rising list, and where it ends. Anything but growth and trimming, as far as it can be told from
/// the number of samples and the newest one, writes them whole. Costs as much as is new.
fn grow<L: List>(span: Span, list: L) -> (Added<L>, Span) {
    let all = list.len();
    let new = (0..all).rev().take_while(|place| list.bits(*place).0 > span.last.0).count();
    let old = all - new;
    let continues = old > 0 && old <= span.count && list.bits(old - 1) == span.last;
    let (keep, before) = if continues { (old, span.last) } else { (0, Bits::default()) };
    let added = Added { keep: keep as u64, new: New { last: before, list, from: keep } };
    (added, Span { count: all, last: all.checked_sub(1).map(|newest| list.bits(newest)).unwrap_or_default() })
}

impl WrittenSeries {
    fn is(&self, view: &SeriesView<'_>) -> bool {
        self.labels == *view.labels && self.own == view.own
    }

    /// What brings a reader from this to `view`; None when nothing changed.
    fn follow<'a>(&mut self, view: &SeriesView<'a>) -> Option<History<'a>> {
        let before = self.span;
        let (samples, span) = grow(before, view.samples);
        let is_same = samples.keep == before.count as u64 && samples.new.len() == 0 && self.from_zero == view.from_zero;
        self.span = span;
        self.from_zero = view.from_zero;
        // Equal, but maybe not the same texts: only those are held that the store holds too.
        self.labels.clone_from(view.labels);
        if is_same {
            return None;
        }
        // What was there before the first sample is over; what was before the last written one is written.
        let known =
            if samples.keep > 0 { Timestamp::from_millis(before.last.0) } else { view.samples.instant_at(0)? };
        let replaced = view.replaced_after(known);
        let replaced = replaced.into_iter().map(Timestamp::as_millis).collect();
        Some(History { samples, from_zero: view.from_zero, replaced })
    }
}

/// Appends the form of `value`. On an error `bytes` are lost.
fn put<T: Serialize + ?Sized>(value: &T, bytes: &mut Vec<u8>) -> Result<(), postcard::Error> {
    *bytes = postcard::to_extend(value, std::mem::take(bytes))?;
    Ok(())
}

/// A sequence of which the elements are known before their number.
#[derive(Default)]
struct Sequence {
    count: u64,
    elements: Vec<u8>,
}

impl Sequence {
    fn push<T: Serialize>(&mut self, element: &T) -> Result<(), postcard::Error> {
        self.count += 1;
        put(element, &mut self.elements)
    }

    /// Ends it; what comes next is another.
    fn end(&mut self, bytes: &mut Vec<u8>) -> Result<(), postcard::Error> {
        put(&self.count, bytes)?;
        bytes.extend_from_slice(&self.elements);
        self.count = 0;
        self.elements.clear();
        Ok(())
    }
}

/// A frame that is being written.
struct Writing<'a> {
    bytes: &'a mut Vec<u8>,
    /// So many samples of series that the file does not have yet may still be written.
    room: usize,
    is_all: bool,
    changed: Sequence,
    born: Sequence,
}

impl Written {
    /// Appends the frame that brings a reader from what was written to `view`. Of series that the file does not have
    /// yet, no more follow once `room` samples of them are in the frame. Returns whether all is written.
    ///
    /// On an error nothing more can be written.
    pub fn frame(&mut self, view: &View<'_>, room: usize, bytes: &mut Vec<u8>) -> Result<bool, postcard::Error> {
        let View { now, windows, verdicts, baselines, ever } = view;
        self.number += 1;
        let head = Head {
            monotonic: now.monotonic.as_millis(),
            wall: now.wall.as_millis(),
            boot: &now.boot.0,
            since_boot_ms: u64::try_from(now.since_boot.as_millis()).unwrap_or(u64::MAX),
        };
        put(&(head, windows.len() as u64), bytes)?;
        let mut writing =
            Writing { bytes, room, is_all: true, changed: Sequence::default(), born: Sequence::default() };
        for (key, target) in windows {
            self.target(key, *target, &mut writing)?;
        }
        self.targets.retain(|_, target| target.number == self.number);
        put(&(verdicts.len() as u64), writing.bytes)?;
        verdicts.iter().try_for_each(|verdict| put(&verdict_frame(verdict), writing.bytes))?;
        put(&(baselines.len() as u64), writing.bytes)?;
        baselines.iter().try_for_each(|baseline| put(&baseline_frame(baseline), writing.bytes))?;
        put(&self.ever(ever), writing.bytes)?;
        Ok(writing.is_all)
    }

    fn target(&mut self, key: &TargetKey, view: TargetView<'_>, to: &mut Writing<'_>) -> Result<(), postcard::Error> {
        // Two may have the same key while one takes over from the other. Only one of them is remembered.
        let known = self.targets.get_mut(key).filter(|known| known.number != self.number);
        let is_new = known.is_none();
        let written = if let Some(known) = known {
            known
        } else {
            self.next_target += 1;
            let written = WrittenTarget { id: self.next_target, ..WrittenTarget::default() };
            self.targets.entry(key.clone()).insert_entry(written).into_mut()
        };
        written.number = self.number;
        let (scrapes, span) = grow(written.scrapes, view.scrapes());
        written.scrapes = span;
        let head = TargetHead {
            id: written.id,
            key: is_new.then(|| key_frame(key)),
            target: view.target().0,
            process_start: view.process_start(),
        };
        put(&(head, scrapes), to.bytes)?;
        let gone = written.series(view, &mut self.next_series, to)?;
        to.changed.end(to.bytes)?;
        to.born.end(to.bytes)?;
        put(&gone, to.bytes)
    }

    fn ever(&mut self, ever: &[EverMatched]) -> Vec<EverFrame> {
        let mut before = std::mem::take(&mut self.ever);
        let mut frames = Vec::new();
        for EverMatched { service, selector, series } in ever {
            let key = (service.clone(), selector.clone());
            let known = before.remove(&key).unwrap_or_default();
            let grown = known.iter().all(|hash| series.binary_search(hash).is_ok());
            let is_new = |hash: &u64| !grown || known.binary_search(hash).is_err();
            let new: Vec<u64> = series.iter().copied().filter(is_new).collect();
            if grown && new.is_empty() {
                self.ever.insert(key, known);
            } else {
                frames.push(ever_frame(&key, !grown, new));
                self.ever.insert(key, series.clone());
            }
        }
        frames.extend(before.keys().map(|key| ever_frame(key, true, Vec::new())));
        frames
    }
}

impl WrittenTarget {
    /// Those that are gone.
    fn series(
        &mut self,
        view: TargetView<'_>,
        next: &mut u32,
        to: &mut Writing<'_>,
    ) -> Result<Vec<u32>, postcard::Error> {
        let mut gone = Vec::new();
        let mut behind = 0;
        for series in view.series() {
            let place = series.place;
            if place >= self.series.len() {
                if place >= self.series.capacity() {
                    let more = place + 1 - self.series.len();
                    self.series.reserve_exact(more.max(quarter_more(self.series.len())));
                }
                self.series.resize_with(place + 1, || None);
            }
            let nobody = self.series[behind..place].iter_mut().filter_map(Option::take);
            gone.extend(nobody.map(|series| series.id));
            behind = place + 1;
            if let Some(known) = self.series[place].as_mut().filter(|known| known.is(&series)) {
                if let Some(history) = known.follow(&series) {
                    to.changed.push(&(known.id, history))?;
                }
                continue;
            }
            gone.extend(self.series[place].take().map(|series| series.id));
            if to.room == 0 {
                to.is_all = false;
                continue;
            }
            to.room = to.room.saturating_sub(series.samples.len() + LABELS_AS_SAMPLES);
            *next += 1;
            let mut written = WrittenSeries {
                id: *next,
                labels: series.labels.clone(),
                own: series.own,
                from_zero: false,
                span: Span::default(),
            };
            if let Some(history) = written.follow(&series) {
                let head = SeriesHead { id: written.id, labels: series.labels.iter().collect(), own: series.own };
                to.born.push(&(head, history))?;
                self.series[place] = Some(written);
            }
        }
        gone.extend(self.series.drain(behind.min(self.series.len())..).flatten().map(|series| series.id));
        Ok(gone)
    }
}

fn ever_frame((service, selector): &EverKey, anew: bool, new: Vec<u64>) -> EverFrame {
    EverFrame { service: service.as_ref().map(|name| name.as_ref().to_owned()), selector: selector.clone(), anew, new }
}
