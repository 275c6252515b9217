//! The reader's side: frames one after the other, target by target, into the windows that they tell of.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;

use super::{
    BaselineFrame, Bits, ChangeFrame, EverFrame, EverKey, Growth, Head, HistoryFrame, SeriesFrame, SeriesHead,
    TargetFrame, TargetHead, VerdictFrame, baseline_of, follow, key_of, verdict_of,
};
use crate::machine::checkpoint::{Checkpoint, EverMatched};
use crate::machine::input::TargetKey;
use crate::promql::{
    Clock, ClockedSamples, Instants, Labels, Point, Samples, SeriesDump, TargetDump, TargetId, Texts, grow,
};
use crate::time::{BootId, Now, Timestamp};

/// What the frames so far amount to.
#[derive(Debug, Default)]
pub(in crate::journal) struct Read {
    targets: BTreeMap<u32, ReadTarget>,
    now: Option<Now>,
    verdicts: Vec<VerdictFrame>,
    baselines: Vec<BaselineFrame>,
    ever: BTreeMap<EverKey, BTreeSet<u64>>,
    texts: Texts,
}

#[derive(Debug)]
struct ReadTarget {
    key: TargetKey,
    target: u32,
    process_start: Option<f64>,
    scrapes: Instants,
    /// All instants that were read, also those that are forgotten.
    clock: Clock,
    /// By id.
    series: Vec<ReadSeries>,
}

#[derive(Debug)]
struct ReadSeries {
    id: u32,
    labels: Labels,
    own: bool,
    samples: ClockedSamples,
    from_zero: bool,
    replaced: Vec<Timestamp>,
}

/// A frame that does not follow from those before: the writer's mistake, since its checksum was right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::journal) struct Inconsistent;

/// The next value of the form.
fn take<'a, T: Deserialize<'a>>(bytes: &mut &'a [u8]) -> Result<T, Inconsistent> {
    let (value, rest) = postcard::take_from_bytes(bytes).map_err(|_| Inconsistent)?;
    *bytes = rest;
    Ok(value)
}

impl Read {
    /// On an error nothing of what was read before may be used either.
    pub fn apply(&mut self, mut bytes: &[u8]) -> Result<(), Inconsistent> {
        let (head, targets): (Head<'_>, u64) = take(&mut bytes)?;
        let mut before = std::mem::take(&mut self.targets);
        for _ in 0..targets {
            let target: TargetFrame<'_> = take(&mut bytes)?;
            let id = target.head.id;
            let known = before.remove(&id);
            self.targets.insert(id, read_target(known, target, &mut self.texts)?);
        }
        self.now = Some(Now {
            monotonic: Timestamp::from_millis(head.monotonic),
            wall: Timestamp::from_millis(head.wall),
            boot: BootId(Arc::from(head.boot)),
            since_boot: Duration::from_millis(head.since_boot_ms),
        });
        let ever: Vec<EverFrame>;
        (self.verdicts, self.baselines, ever) = take(&mut bytes)?;
        for EverFrame { service, selector, anew, new } in ever {
            let hashes = self.ever.entry((service.map(Arc::from), selector)).or_default();
            if anew {
                hashes.clear();
            }
            hashes.extend(new);
        }
        if bytes.is_empty() { Ok(()) } else { Err(Inconsistent) }
    }

    /// None before the first frame.
    pub fn finish(self) -> Option<Checkpoint> {
        let windows = self.targets.into_values().map(|target| {
            let clock = Arc::new(target.clock);
            let series = target.series.into_iter().map(|series| SeriesDump {
                labels: series.labels,
                own: series.own,
                samples: Samples::of(series.samples, &clock),
                from_zero: series.from_zero,
                replaced: series.replaced,
            });
            let dump = TargetDump {
                target: TargetId(target.target),
                process_start: target.process_start,
                scrapes: target.scrapes,
                series: series.collect(),
            };
            (target.key, dump)
        });
        let ever = self.ever.into_iter().filter(|(_, hashes)| !hashes.is_empty());
        let ever = ever.map(|((service, selector), hashes)| {
            let series = hashes.into_iter().collect();
            EverMatched { service, selector, series }
        });
        Some(Checkpoint {
            now: self.now?,
            ever: ever.collect(),
            windows: windows.collect(),
            verdicts: self.verdicts.into_iter().map(verdict_of).collect(),
            baselines: self.baselines.into_iter().map(baseline_of).collect(),
        })
    }
}

fn read_target(
    known: Option<ReadTarget>,
    frame: TargetFrame<'_>,
    texts: &mut Texts,
) -> Result<ReadTarget, Inconsistent> {
    let TargetFrame { head, scrapes, changed, born, gone } = frame;
    let TargetHead { id: _, key, target: number, process_start } = head;
    let mut target = match (known, key) {
        (Some(known), None) => known,
        (None, Some(key)) => ReadTarget {
            key: key_of(&key),
            target: number,
            process_start: None,
            scrapes: Instants::default(),
            clock: Clock::default(),
            series: Vec::new(),
        },
        (Some(_), Some(_)) | (None, None) => return Err(Inconsistent),
    };
    target.target = number;
    target.process_start = process_start;
    let mut instants = new_instants(&target, &scrapes, &changed, &born);
    if target.series.is_empty() && instants.first().copied() <= target.clock.instants().next_back() {
        // Of a file in parts, where series come later than the scrapes: older ones may still come between those that
        // nobody shares yet.
        let before = std::mem::take(&mut target.clock);
        instants.extend(before.instants());
    }
    for at in instants {
        target.clock.tick(at);
    }
    extend(&mut target.scrapes, scrapes)?;
    let left = target.series.len().checked_sub(gone.len()).ok_or(Inconsistent)?;
    let gone: BTreeSet<u32> = gone.into_iter().collect();
    target.series.retain(|series| !gone.contains(&series.id));
    if target.series.len() != left {
        return Err(Inconsistent);
    }
    for ChangeFrame { id, history } in changed {
        let place = target.place(id).ok_or(Inconsistent)?;
        read_history(&mut target.series[place], history, &target.clock)?;
    }
    for SeriesFrame { head: SeriesHead { id, labels, own }, history } in born {
        if target.series.last().is_some_and(|last| last.id >= id) {
            return Err(Inconsistent);
        }
        let labels = labels.into_iter().map(|(name, value)| (texts.shared(name), texts.shared(value)));
        let labels = Labels::from_pairs(labels);
        let samples = ClockedSamples::default();
        let mut series = ReadSeries { id, labels, own, samples, from_zero: false, replaced: Vec::new() };
        read_history(&mut series, history, &target.clock)?;
        grow(&mut target.series);
        target.series.push(series);
    }
    Ok(target)
}

/// Those that a frame tells of: of scrapes, and where series were said to have ended, between two scrapes.
fn new_instants(
    target: &ReadTarget,
    scrapes: &Growth,
    changed: &[ChangeFrame],
    born: &[SeriesFrame<'_>],
) -> BTreeSet<Timestamp> {
    let mut all: BTreeSet<Timestamp> = instants(scrapes, target.scrapes.newest()).collect();
    for ChangeFrame { id, history } in changed {
        if let Some(place) = target.place(*id)
            && let ReadSeries { own: false, samples, .. } = &target.series[place]
        {
            let newest = samples.lend(&target.clock).last().map(|point| (point.at.as_millis(), 0));
            all.extend(instants(&history.samples, newest));
        }
    }
    for SeriesFrame { history, .. } in born.iter().filter(|series| !series.head.own) {
        all.extend(instants(&history.samples, None));
    }
    all
}

/// Of what is new; `newest` is the last that was there before.
fn instants(growth: &Growth, newest: Option<Bits>) -> impl Iterator<Item = Timestamp> {
    let last = newest.filter(|_| growth.keep > 0).unwrap_or_default();
    growth.new.iter().scan(last, |last, new| {
        *last = follow(*last, *new);
        Some(Timestamp::from_millis(last.0))
    })
}

impl ReadTarget {
    fn place(&self, id: u32) -> Option<usize> {
        self.series.binary_search_by_key(&id, |series| series.id).ok()
    }
}

fn read_history(series: &mut ReadSeries, history: HistoryFrame, clock: &Clock) -> Result<(), Inconsistent> {
    let HistoryFrame { samples, from_zero, replaced } = history;
    if samples.keep == 0 {
        series.replaced.clear();
    }
    extend(&mut Clocked { samples: &mut series.samples, clock }, samples)?;
    series.from_zero = from_zero;
    series.replaced.extend(replaced.into_iter().map(Timestamp::from_millis));
    let first = series.samples.lend(clock).instant_at(0).unwrap_or(Timestamp::MAX);
    series.replaced.retain(|at| *at > first);
    Ok(())
}

/// What frames make grow.
trait Grown {
    fn len(&self) -> usize;
    fn newest(&self) -> Option<Bits>;
    fn drop_oldest(&mut self, count: usize);
    fn append(&mut self, new: impl Iterator<Item = Bits>);
}

impl Grown for Instants {
    fn len(&self) -> usize {
        Instants::len(self)
    }

    fn newest(&self) -> Option<Bits> {
        self.last().map(|at| (at.as_millis(), 0))
    }

    fn drop_oldest(&mut self, count: usize) {
        for _ in 0..count {
            self.pop();
        }
    }

    fn append(&mut self, new: impl Iterator<Item = Bits>) {
        self.extend(new.map(|(at, _)| Timestamp::from_millis(at)));
    }
}

struct Clocked<'a> {
    samples: &'a mut ClockedSamples,
    clock: &'a Clock,
}

impl Grown for Clocked<'_> {
    fn len(&self) -> usize {
        self.samples.len()
    }

    fn newest(&self) -> Option<Bits> {
        self.samples.lend(self.clock).last().map(|point| (point.at.as_millis(), point.value.to_bits()))
    }

    fn drop_oldest(&mut self, count: usize) {
        for _ in 0..count {
            self.samples.pop();
        }
    }

    fn append(&mut self, new: impl Iterator<Item = Bits>) {
        let points = new.map(|(at, bits)| Point { at: Timestamp::from_millis(at), value: f64::from_bits(bits) });
        self.samples.extend(points, self.clock);
    }
}

fn extend(samples: &mut impl Grown, growth: Growth) -> Result<(), Inconsistent> {
    let keep = usize::try_from(growth.keep).map_err(|_| Inconsistent)?;
    let drop = samples.len().checked_sub(keep).ok_or(Inconsistent)?;
    let mut last = if keep == 0 { Bits::default() } else { samples.newest().ok_or(Inconsistent)? };
    samples.drop_oldest(drop);
    samples.append(growth.new.into_iter().map(|new| {
        last = follow(last, new);
        last
    }));
    Ok(())
}
