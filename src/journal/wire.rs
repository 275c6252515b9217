//! The checkpoint's own form: what was added since the frame before, in postcard's varints.
//!
//! Windows grow at the end and are trimmed at the front. So a frame says, per series: how many old samples remain, and
//! which are new, each as the difference to the one before (time in milliseconds; the value's bits by XOR, reversed, so
//! that equal and whole numbers are short). A series whose past changed otherwise is written whole. Verdicts are few
//! and change in place: they are whole in each frame. What has ever matched only
//! grows: a frame has what is new.
//!
//! A frame is never held whole but as its bytes: it is the concatenation of a [`Head`], targets, verdicts, baselines and
//! what has ever matched, each of these four a sequence. [`write`](mod@write) and [`read`] go through it target by target.

mod read;
#[cfg(test)]
mod tests;
mod write;

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::decide::verdict::{Phase, Verdict};
use crate::decide::worsened::{Past, Slot, Worse};
use crate::machine::checkpoint::{BaselineDump, VerdictDump};
use crate::machine::input::{TargetKey, TargetKind};
use crate::promql::Labels;
use crate::time::Timestamp;

pub(super) use read::Read;
pub(super) use write::Written;

/// Raised with every change of the types in this file.
pub(super) const VERSION: u32 = 6;

#[derive(Debug, Serialize, Deserialize)]
struct Head<'a> {
    monotonic: i64,
    wall: i64,
    boot: &'a str,
    since_boot_ms: u64,
}

/// Every target there is has one; one that is missing is gone.
#[derive(Debug, Deserialize)]
#[cfg_attr(test, derive(Serialize))]
struct TargetFrame<'a> {
    #[serde(borrow)]
    head: TargetHead<'a>,
    /// Of the scrapes; their values are zero.
    scrapes: Growth,
    changed: Vec<ChangeFrame>,
    #[serde(borrow)]
    born: Vec<SeriesFrame<'a>>,
    gone: Vec<u32>,
}

#[derive(Debug, Serialize, Deserialize)]
struct TargetHead<'a> {
    /// Within one file.
    id: u32,
    /// When it is new in the file.
    #[serde(borrow)]
    key: Option<KeyFrame<'a>>,
    target: u32,
    process_start: Option<f64>,
}

/// In this order: the first two were once `scrape: bool`, and are the same bytes.
#[derive(Debug, Serialize, Deserialize)]
enum KindFrame {
    Probe,
    Scrape,
    Query,
}

#[derive(Debug, Serialize, Deserialize)]
struct KeyFrame<'a> {
    #[serde(borrow)]
    service: Option<&'a str>,
    kind: KindFrame,
    source: &'a str,
    address: &'a str,
}

#[derive(Debug, Deserialize)]
#[cfg_attr(test, derive(Serialize))]
struct SeriesFrame<'a> {
    #[serde(borrow)]
    head: SeriesHead<'a>,
    history: HistoryFrame,
}

#[derive(Debug, Serialize, Deserialize)]
struct SeriesHead<'a> {
    id: u32,
    #[serde(borrow)]
    labels: Vec<(&'a str, &'a str)>,
    own: bool,
}

#[derive(Debug, Deserialize)]
#[cfg_attr(test, derive(Serialize))]
struct ChangeFrame {
    id: u32,
    history: HistoryFrame,
}

#[derive(Debug, Deserialize)]
#[cfg_attr(test, derive(Serialize))]
struct HistoryFrame {
    samples: Growth,
    from_zero: bool,
    /// `SeriesDump::replaced`, as far as it is new.
    replaced: Vec<i64>,
}

/// `keep` of the newest old samples stay, then come `new` ones.
#[derive(Debug, Deserialize)]
#[cfg_attr(test, derive(Serialize))]
struct Growth {
    keep: u64,
    new: Vec<(i64, u64)>,
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

/// Service (None: shared) and selector.
type EverKey = (Option<Arc<str>>, String);

/// A sample as it is told apart from the one before: milliseconds, and the bits of its value.
type Bits = (i64, u64);

/// What tells a sample from the one before it.
fn difference(last: Bits, (at, bits): Bits) -> (i64, u64) {
    (at.wrapping_sub(last.0), (bits ^ last.1).reverse_bits())
}

/// The sample that follows `last`.
fn follow(last: Bits, (at, bits): (i64, u64)) -> Bits {
    (last.0.wrapping_add(at), last.1 ^ bits.reverse_bits())
}

fn pairs(labels: &Labels) -> Vec<(String, String)> {
    labels.iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

fn key_frame(key: &TargetKey) -> KeyFrame<'_> {
    let TargetKey { service, kind, source, address } = key;
    KeyFrame {
        service: service.as_deref(),
        kind: match kind {
            TargetKind::Probe => KindFrame::Probe,
            TargetKind::Scrape => KindFrame::Scrape,
            TargetKind::Query => KindFrame::Query,
        },
        source,
        address,
    }
}

fn key_of(frame: &KeyFrame<'_>) -> TargetKey {
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
        question: question.as_ref().to_owned(),
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
        question: frame.question.into(),
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
        question: question.as_ref().to_owned(),
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
        question: frame.question.into(),
        labels: Labels::from_pairs(frame.labels),
        slots: frame.slots.into_iter().map(|(at, value)| (Timestamp::from_millis(at), value)).collect(),
        frozen: frame.frozen,
        seen: Timestamp::from_millis(frame.seen),
    }
}
