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
use crate::promql::{Instants, Labels, Point, Samples, SeriesDump, TargetDump, TargetId, Texts};
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
    series: BTreeMap<u32, SeriesDump>,
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
            let dump = TargetDump {
                target: TargetId(target.target),
                process_start: target.process_start,
                scrapes: target.scrapes,
                series: target.series.into_values().collect(),
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
            series: BTreeMap::new(),
        },
        (Some(_), Some(_)) | (None, None) => return Err(Inconsistent),
    };
    target.target = number;
    target.process_start = process_start;
    extend(&mut target.scrapes, scrapes)?;
    for id in gone {
        target.series.remove(&id).ok_or(Inconsistent)?;
    }
    for ChangeFrame { id, history } in changed {
        read_history(target.series.get_mut(&id).ok_or(Inconsistent)?, history)?;
    }
    for SeriesFrame { head: SeriesHead { id, labels, own }, history } in born {
        let labels = labels.into_iter().map(|(name, value)| (texts.shared(name), texts.shared(value)));
        let labels = Labels::from_pairs(labels);
        let mut series =
            SeriesDump { labels, own, samples: Samples::default(), from_zero: false, replaced: Vec::new() };
        read_history(&mut series, history)?;
        target.series.insert(id, series);
    }
    Ok(target)
}

fn read_history(series: &mut SeriesDump, history: HistoryFrame) -> Result<(), Inconsistent> {
    let HistoryFrame { samples, from_zero, replaced } = history;
    if samples.keep == 0 {
        series.replaced.clear();
    }
    extend(&mut series.samples, samples)?;
    series.from_zero = from_zero;
    series.replaced.extend(replaced.into_iter().map(Timestamp::from_millis));
    let first = series.samples.first().map_or(Timestamp::MAX, |point| point.at);
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

impl Grown for Samples {
    fn len(&self) -> usize {
        Samples::len(self)
    }

    fn newest(&self) -> Option<Bits> {
        self.last().map(|point| (point.at.as_millis(), point.value.to_bits()))
    }

    fn drop_oldest(&mut self, count: usize) {
        for _ in 0..count {
            self.pop_front();
        }
    }

    fn append(&mut self, new: impl Iterator<Item = Bits>) {
        self.extend(new.map(|(at, bits)| Point { at: Timestamp::from_millis(at), value: f64::from_bits(bits) }));
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
