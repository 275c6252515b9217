//! The checkpoint's own form: what was added since the frame before, in postcard's varints.
//!
//! Windows grow at the end and are trimmed at the front. So a frame says, per series: how many old samples remain, and
//! which are new, each as the difference to the one before (time in milliseconds; the value's bits by XOR, reversed, so
//! that equal and whole numbers are short). A series whose past changed otherwise is written whole. Verdicts are few
//! and change in place: they are whole in each frame. What has ever matched only
//! grows: a frame has what is new.
//!
//! Length: one form, written and read side by side, so that neither is changed without the other.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::decide::verdict::{Phase, Verdict};
use crate::decide::worsened::{Past, Slot, Worse};
use crate::machine::checkpoint::{BaselineDump, Checkpoint, EverMatched, VerdictDump};
use crate::machine::input::{TargetKey, TargetKind};
use crate::promql::{Labels, SeriesDump, TargetDump, TargetId};
use crate::time::{BootId, Now, Timestamp};

/// Raised with every change of the types in this file.
pub(super) const VERSION: u32 = 5;

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Frame {
    monotonic: i64,
    wall: i64,
    boot: String,
    since_boot_ms: u64,
    /// Every target there is; one that is missing is gone.
    targets: Vec<TargetFrame>,
    verdicts: Vec<VerdictFrame>,
    baselines: Vec<BaselineFrame>,
    /// Where something has changed.
    ever: Vec<EverFrame>,
}

/// Few too, and whole in each frame.
#[derive(Debug, Serialize, Deserialize)]
struct BaselineFrame {
    service: String,
    trigger: String,
    question: String,
    labels: Vec<(String, String)>,
    slots: Vec<(i64, f64)>,
    frozen: Option<f64>,
    seen: i64,
}

#[derive(Debug, Serialize, Deserialize)]
struct EverFrame {
    service: Option<String>,
    selector: String,
    /// What was written before is forgotten: the selector had gone meanwhile.
    anew: bool,
    /// Hashes that are new; they are random, so that differences would not be shorter.
    new: Vec<u64>,
}

#[derive(Debug, Serialize, Deserialize)]
struct TargetFrame {
    /// Within one file.
    id: u32,
    /// When it is new in the file.
    key: Option<KeyFrame>,
    target: u32,
    process_start: Option<f64>,
    /// Of the scrapes; their values are zero.
    scrapes: Growth,
    changed: Vec<ChangeFrame>,
    born: Vec<SeriesFrame>,
    gone: Vec<u32>,
}

/// In this order: the first two were once `scrape: bool`, and are the same bytes.
#[derive(Debug, Serialize, Deserialize)]
enum KindFrame {
    Probe,
    Scrape,
    Query,
}

#[derive(Debug, Serialize, Deserialize)]
struct KeyFrame {
    service: Option<String>,
    kind: KindFrame,
    source: String,
    address: String,
}

#[derive(Debug, Serialize, Deserialize)]
struct SeriesFrame {
    id: u32,
    labels: Vec<(String, String)>,
    own: bool,
    history: HistoryFrame,
}

#[derive(Debug, Serialize, Deserialize)]
struct ChangeFrame {
    id: u32,
    history: HistoryFrame,
}

#[derive(Debug, Serialize, Deserialize)]
struct HistoryFrame {
    samples: Growth,
    from_zero: bool,
    /// When they changed: they are rare, so they are whole.
    resets: Option<Vec<ResetFrame>>,
}

/// An instant, and what resets took away up to it: `SeriesDump::resets`.
type ResetFrame = (i64, f64, f64);

/// `keep` of the newest old samples stay, then come `new` ones.
#[derive(Debug, Serialize, Deserialize)]
struct Growth {
    keep: u64,
    new: Vec<(i64, u64)>,
}

#[derive(Debug, Serialize, Deserialize)]
struct VerdictFrame {
    service: String,
    trigger: String,
    question: String,
    labels: Vec<(String, String)>,
    phase: PhaseFrame,
    since: i64,
    began: Option<i64>,
    held_ms: u64,
    known: Option<(i64, bool)>,
    unknown_since: Option<i64>,
    inherited: Option<i64>,
    right_until: Option<i64>,
    wrong_since: Option<i64>,
    unproven: bool,
    /// From, to, worst.
    slots: Vec<(i64, i64, f64)>,
    baseline: Option<f64>,
    worse: Option<WorseFrame>,
}

#[derive(Debug, Serialize, Deserialize)]
struct WorseFrame {
    began: i64,
    at: i64,
    value: f64,
    held_ms: u64,
    broken: bool,
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
enum PhaseFrame {
    Quiet,
    Pending,
    Firing,
    Blind,
}

/// What the file has of a list of samples: enough to find what is new.
#[derive(Clone, Copy, Debug, Default)]
struct Span {
    count: u64,
    /// Time and value bits.
    last: (i64, u64),
}

/// What the file holds, as its writer remembers it. An empty one makes a whole frame.
#[derive(Debug, Default)]
pub(super) struct Written {
    targets: HashMap<TargetKey, WrittenTarget>,
    next_target: u32,
    next_series: u32,
    /// Sorted.
    ever: BTreeMap<EverKey, Vec<u64>>,
}

/// Service (None: shared) and selector.
type EverKey = (Option<Arc<str>>, String);

#[derive(Debug, Default)]
struct WrittenTarget {
    id: u32,
    scrapes: Span,
    series: HashMap<(Labels, bool), WrittenSeries>,
}

#[derive(Debug, Default)]
struct WrittenSeries {
    id: u32,
    span: Span,
    from_zero: bool,
    resets: Vec<ResetFrame>,
}

impl HistoryFrame {
    fn empty() -> HistoryFrame {
        HistoryFrame { samples: Growth { keep: 0, new: Vec::new() }, from_zero: false, resets: None }
    }
}

impl WrittenSeries {
    /// What brings a reader from this to `dump`; None when nothing changed.
    fn follow(&mut self, dump: &SeriesDump) -> Option<HistoryFrame> {
        let SeriesDump { labels: _, own: _, samples, from_zero, resets } = dump;
        let samples: Vec<_> = samples.iter().map(|(at, value)| (at.as_millis(), value.to_bits())).collect();
        let (growth, span) = grow(self.span, &samples);
        let resets: Vec<ResetFrame> =
            resets.iter().map(|(at, drops, observed)| (at.as_millis(), *drops, *observed)).collect();
        let resets_changed = resets != self.resets;
        let same =
            growth.keep == self.span.count && growth.new.is_empty() && *from_zero == self.from_zero && !resets_changed;
        self.span = span;
        self.from_zero = *from_zero;
        let history =
            HistoryFrame { samples: growth, from_zero: *from_zero, resets: resets_changed.then(|| resets.clone()) };
        self.resets = resets;
        (!same).then_some(history)
    }
}

impl Written {
    /// The frame that brings a reader from what was written to `checkpoint`.
    pub fn frame(&mut self, checkpoint: &Checkpoint) -> Frame {
        let Checkpoint { now, windows, verdicts, baselines, ever } = checkpoint;
        let mut before = std::mem::take(&mut self.targets);
        let targets = windows
            .iter()
            .map(|(key, dump)| {
                let known = before.remove(key);
                self.target(key, dump, known)
            })
            .collect();
        Frame {
            monotonic: now.monotonic.as_millis(),
            wall: now.wall.as_millis(),
            boot: now.boot.0.as_ref().to_owned(),
            since_boot_ms: u64::try_from(now.since_boot.as_millis()).unwrap_or(u64::MAX),
            targets,
            verdicts: verdicts.iter().map(verdict_frame).collect(),
            baselines: baselines.iter().map(baseline_frame).collect(),
            ever: self.ever(ever),
        }
    }

    fn ever(&mut self, ever: &[EverMatched]) -> Vec<EverFrame> {
        let mut before = std::mem::take(&mut self.ever);
        let mut frames = Vec::new();
        for EverMatched { service, selector, series } in ever {
            let key = (service.clone(), selector.clone());
            let mut after = series.clone();
            after.sort_unstable();
            after.dedup();
            let known = before.remove(&key).unwrap_or_default();
            let grown = known.iter().all(|hash| after.binary_search(hash).is_ok());
            let is_new = |hash: &u64| !grown || known.binary_search(hash).is_err();
            let new: Vec<u64> = after.iter().copied().filter(is_new).collect();
            if !grown || !new.is_empty() {
                frames.push(ever_frame(&key, !grown, new));
            }
            self.ever.insert(key, after);
        }
        frames.extend(before.keys().map(|key| ever_frame(key, true, Vec::new())));
        frames
    }

    fn target(&mut self, key: &TargetKey, dump: &TargetDump, known: Option<WrittenTarget>) -> TargetFrame {
        let TargetDump { target, process_start, scrapes, series } = dump;
        let is_new = known.is_none();
        let mut before = known.unwrap_or_else(|| {
            self.next_target += 1;
            WrittenTarget { id: self.next_target, ..WrittenTarget::default() }
        });
        let mut after = WrittenTarget { id: before.id, ..WrittenTarget::default() };
        let scrapes: Vec<_> = scrapes.iter().map(|at| (at.as_millis(), 0)).collect();
        let (scrapes, scrapes_span) = grow(before.scrapes, &scrapes);
        after.scrapes = scrapes_span;
        let mut frame = TargetFrame {
            id: before.id,
            key: is_new.then(|| key_frame(key)),
            target: target.0,
            process_start: *process_start,
            scrapes,
            changed: Vec::new(),
            born: Vec::new(),
            gone: Vec::new(),
        };
        for dump in series {
            let name = (dump.labels.clone(), dump.own);
            let written = if let Some(mut written) = before.series.remove(&name) {
                let change = written.follow(dump).map(|history| ChangeFrame { id: written.id, history });
                frame.changed.extend(change);
                written
            } else {
                self.next_series += 1;
                let mut written = WrittenSeries { id: self.next_series, ..WrittenSeries::default() };
                frame.born.push(SeriesFrame {
                    id: written.id,
                    labels: pairs(&dump.labels),
                    own: dump.own,
                    history: written.follow(dump).unwrap_or_else(HistoryFrame::empty),
                });
                written
            };
            after.series.insert(name, written);
        }
        frame.gone = before.series.into_values().map(|series| series.id).collect();
        self.targets.insert(key.clone(), after);
        frame
    }
}

fn ever_frame((service, selector): &EverKey, anew: bool, new: Vec<u64>) -> EverFrame {
    EverFrame { service: service.as_ref().map(|name| name.as_ref().to_owned()), selector: selector.clone(), anew, new }
}

/// What is new in `samples`, and where they end. Anything but growth and trimming, as far as it can be told from the
/// number of samples and the newest one, writes them whole.
fn grow(span: Span, samples: &[(i64, u64)]) -> (Growth, Span) {
    let rising = samples.windows(2).all(|pair| pair[0].0 < pair[1].0);
    let old = samples.iter().take_while(|(at, _)| *at <= span.last.0).count();
    let continues = rising && old > 0 && old as u64 <= span.count && samples[old - 1] == span.last;
    let (keep, mut last) = if continues { (old, span.last) } else { (0, (0, 0)) };
    let mut new = Vec::with_capacity(samples.len() - keep);
    for &(at, bits) in &samples[keep..] {
        new.push((at.wrapping_sub(last.0), (bits ^ last.1).reverse_bits()));
        last = (at, bits);
    }
    (Growth { keep: keep as u64, new }, Span { count: samples.len() as u64, last })
}

/// The reader's side.
#[derive(Debug, Default)]
pub(super) struct Read {
    targets: BTreeMap<u32, ReadTarget>,
    now: Option<Now>,
    verdicts: Vec<VerdictFrame>,
    baselines: Vec<BaselineFrame>,
    ever: BTreeMap<EverKey, BTreeSet<u64>>,
}

#[derive(Debug)]
struct ReadTarget {
    key: TargetKey,
    target: u32,
    process_start: Option<f64>,
    scrapes: Vec<(i64, u64)>,
    series: BTreeMap<u32, ReadSeries>,
}

#[derive(Debug)]
struct ReadSeries {
    labels: Labels,
    own: bool,
    samples: Vec<(i64, u64)>,
    from_zero: bool,
    resets: Vec<ResetFrame>,
}

impl ReadSeries {
    fn follow(&mut self, history: HistoryFrame) -> Result<(), Inconsistent> {
        extend(&mut self.samples, history.samples)?;
        self.from_zero = history.from_zero;
        if let Some(resets) = history.resets {
            self.resets = resets;
        }
        Ok(())
    }

    fn dump(self) -> SeriesDump {
        let at = Timestamp::from_millis;
        SeriesDump {
            labels: self.labels,
            own: self.own,
            samples: self.samples.into_iter().map(|(millis, bits)| (at(millis), f64::from_bits(bits))).collect(),
            from_zero: self.from_zero,
            resets: self.resets.into_iter().map(|(millis, drops, observed)| (at(millis), drops, observed)).collect(),
        }
    }
}

/// A frame that does not follow from those before: the writer's mistake, since its checksum was right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Inconsistent;

impl Read {
    /// On an error nothing of what was read before may be used either.
    pub fn apply(&mut self, frame: Frame) -> Result<(), Inconsistent> {
        let mut before = std::mem::take(&mut self.targets);
        for target in frame.targets {
            let known = before.remove(&target.id);
            let id = target.id;
            self.targets.insert(id, read_target(known, target)?);
        }
        self.now = Some(Now {
            monotonic: Timestamp::from_millis(frame.monotonic),
            wall: Timestamp::from_millis(frame.wall),
            boot: BootId(Arc::from(frame.boot)),
            since_boot: Duration::from_millis(frame.since_boot_ms),
        });
        self.verdicts = frame.verdicts;
        self.baselines = frame.baselines;
        for EverFrame { service, selector, anew, new } in frame.ever {
            let hashes = self.ever.entry((service.map(Arc::from), selector)).or_default();
            if anew {
                hashes.clear();
            }
            hashes.extend(new);
        }
        Ok(())
    }

    /// None before the first frame.
    pub fn finish(self) -> Option<Checkpoint> {
        let windows = self.targets.into_values().map(|target| {
            let dump = TargetDump {
                target: TargetId(target.target),
                process_start: target.process_start,
                scrapes: target.scrapes.into_iter().map(|(at, _)| Timestamp::from_millis(at)).collect(),
                series: target.series.into_values().map(ReadSeries::dump).collect(),
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

fn read_target(known: Option<ReadTarget>, frame: TargetFrame) -> Result<ReadTarget, Inconsistent> {
    let mut target = match (known, frame.key) {
        (Some(known), None) => known,
        (None, Some(key)) => ReadTarget {
            key: key_of(key),
            target: frame.target,
            process_start: None,
            scrapes: Vec::new(),
            series: BTreeMap::new(),
        },
        (Some(_), Some(_)) | (None, None) => return Err(Inconsistent),
    };
    target.target = frame.target;
    target.process_start = frame.process_start;
    extend(&mut target.scrapes, frame.scrapes)?;
    for id in frame.gone {
        target.series.remove(&id).ok_or(Inconsistent)?;
    }
    for ChangeFrame { id, history } in frame.changed {
        target.series.get_mut(&id).ok_or(Inconsistent)?.follow(history)?;
    }
    for SeriesFrame { id, labels, own, history } in frame.born {
        let mut series = ReadSeries {
            labels: Labels::from_pairs(labels),
            own,
            samples: Vec::new(),
            from_zero: false,
            resets: Vec::new(),
        };
        series.follow(history)?;
        target.series.insert(id, series);
    }
    Ok(target)
}

fn extend(samples: &mut Vec<(i64, u64)>, growth: Growth) -> Result<(), Inconsistent> {
    let keep = usize::try_from(growth.keep).map_err(|_| Inconsistent)?;
    let drop = samples.len().checked_sub(keep).ok_or(Inconsistent)?;
    let mut last = if keep == 0 { (0, 0) } else { samples.last().copied().ok_or(Inconsistent)? };
    samples.drain(..drop);
    samples.reserve(growth.new.len());
    for (at, bits) in growth.new {
        last = (last.0.wrapping_add(at), last.1 ^ bits.reverse_bits());
        samples.push(last);
    }
    Ok(())
}

fn pairs(labels: &Labels) -> Vec<(String, String)> {
    labels.iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

fn key_frame(key: &TargetKey) -> KeyFrame {
    let TargetKey { service, kind, source, address } = key;
    KeyFrame {
        service: service.as_ref().map(|name| name.as_ref().to_owned()),
        kind: match kind {
            TargetKind::Probe => KindFrame::Probe,
            TargetKind::Scrape => KindFrame::Scrape,
            TargetKind::Query => KindFrame::Query,
        },
        source: source.as_ref().to_owned(),
        address: address.as_ref().to_owned(),
    }
}

fn key_of(frame: KeyFrame) -> TargetKey {
    TargetKey {
        service: frame.service.map(Arc::from),
        kind: match frame.kind {
            KindFrame::Probe => TargetKind::Probe,
            KindFrame::Scrape => TargetKind::Scrape,
            KindFrame::Query => TargetKind::Query,
        },
        source: Arc::from(frame.source),
        address: Arc::from(frame.address),
    }
}

fn verdict_frame(dump: &VerdictDump) -> VerdictFrame {
    let VerdictDump { service, trigger, question, labels, verdict } = dump;
    let Verdict {
        phase,
        since,
        began,
        held,
        known,
        unknown_since,
        filling_since: _,
        inherited,
        right_until,
        wrong_since,
        unproven,
        past,
    } = verdict;
    let slot = |slot: &Slot| (slot.from.as_millis(), slot.to.as_millis(), slot.worst);
    VerdictFrame {
        service: service.as_ref().to_owned(),
        trigger: trigger.as_ref().to_owned(),
        question: question.clone(),
        labels: pairs(labels),
        phase: match phase {
            Phase::Quiet => PhaseFrame::Quiet,
            Phase::Pending => PhaseFrame::Pending,
            Phase::Firing => PhaseFrame::Firing,
            Phase::Blind => PhaseFrame::Blind,
        },
        since: since.as_millis(),
        began: began.map(Timestamp::as_millis),
        held_ms: u64::try_from(held.as_millis()).unwrap_or(u64::MAX),
        known: known.map(|(at, breached)| (at.as_millis(), breached)),
        unknown_since: unknown_since.map(Timestamp::as_millis),
        inherited: inherited.map(Timestamp::as_millis),
        right_until: right_until.map(Timestamp::as_millis),
        wrong_since: wrong_since.map(Timestamp::as_millis),
        unproven: *unproven,
        slots: past.slots.iter().map(slot).collect(),
        baseline: past.baseline,
        worse: past.worse.map(|worse| WorseFrame {
            began: worse.began.as_millis(),
            at: worse.at.as_millis(),
            value: worse.value,
            held_ms: u64::try_from(worse.held.as_millis()).unwrap_or(u64::MAX),
            broken: worse.broken,
        }),
    }
}

fn verdict_of(frame: VerdictFrame) -> VerdictDump {
    let slot = |(from, to, worst)| Slot { from: Timestamp::from_millis(from), to: Timestamp::from_millis(to), worst };
    let worse = frame.worse.map(|worse| Worse {
        began: Timestamp::from_millis(worse.began),
        at: Timestamp::from_millis(worse.at),
        value: worse.value,
        held: Duration::from_millis(worse.held_ms),
        broken: worse.broken,
    });
    VerdictDump {
        service: Arc::from(frame.service),
        trigger: Arc::from(frame.trigger),
        question: frame.question,
        labels: Labels::from_pairs(frame.labels),
        verdict: Verdict {
            phase: match frame.phase {
                PhaseFrame::Quiet => Phase::Quiet,
                PhaseFrame::Pending => Phase::Pending,
                PhaseFrame::Firing => Phase::Firing,
                PhaseFrame::Blind => Phase::Blind,
            },
            since: Timestamp::from_millis(frame.since),
            began: frame.began.map(Timestamp::from_millis),
            held: Duration::from_millis(frame.held_ms),
            known: frame.known.map(|(at, breached)| (Timestamp::from_millis(at), breached)),
            unknown_since: frame.unknown_since.map(Timestamp::from_millis),
            filling_since: None,
            inherited: frame.inherited.map(Timestamp::from_millis),
            right_until: frame.right_until.map(Timestamp::from_millis),
            wrong_since: frame.wrong_since.map(Timestamp::from_millis),
            unproven: frame.unproven,
            past: Past { slots: frame.slots.into_iter().map(slot).collect(), baseline: frame.baseline, worse },
        },
    }
}

fn baseline_frame(dump: &BaselineDump) -> BaselineFrame {
    let BaselineDump { service, trigger, question, labels, slots, frozen, seen } = dump;
    BaselineFrame {
        service: service.as_ref().to_owned(),
        trigger: trigger.as_ref().to_owned(),
        question: question.clone(),
        labels: pairs(labels),
        slots: slots.iter().map(|(at, value)| (at.as_millis(), *value)).collect(),
        frozen: *frozen,
        seen: seen.as_millis(),
    }
}

fn baseline_of(frame: BaselineFrame) -> BaselineDump {
    BaselineDump {
        service: Arc::from(frame.service),
        trigger: Arc::from(frame.trigger),
        question: frame.question,
        labels: Labels::from_pairs(frame.labels),
        slots: frame.slots.into_iter().map(|(at, value)| (Timestamp::from_millis(at), value)).collect(),
        frozen: frame.frozen,
        seen: Timestamp::from_millis(frame.seen),
    }
}

#[cfg(test)]
mod tests;
