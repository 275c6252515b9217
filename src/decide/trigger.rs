//! From a value with its evidence to findings, one per label set.
//!
//! Length: every kind of question has its own way to be unknown, and they are read side by side.

use std::fmt;
use std::time::Duration;

use super::event::{Evidence, SelectorFact};
use super::regression::{Against, Baselines, OBSERVED_MIN};
use super::rules::{OnUnknown, Question, Trigger, Unit, ValueKind};
use super::verdict::{Blank, Says};
use crate::promql::{
    BURN_PAIRS, BurnPair, Comparison, EvalError, Evaluation, Gap, Labels, RatioParts, SelectorEvidence, Value,
};
use crate::time::Timestamp;

/// A trigger's answer now, for one label set.
#[derive(Clone, Debug, PartialEq)]
pub enum Finding {
    Clear,
    Breached,
    Unknown(Unknown),
}

/// Why a finding is not known.
#[derive(Clone, Debug, PartialEq)]
pub enum Unknown {
    /// The metric has never been seen on enough of its targets. Names the selector.
    Missing(String),
    /// Too few of its targets answer. Names the selector, fresh and all targets.
    Stale {
        selector: String,
        fresh: u32,
        targets: u32,
    },
    /// NaN or an infinity.
    NonFinite(f64),
    TooFewEvents {
        have: f64,
        need: f64,
    },
    NotYetCovered {
        observed: Duration,
        window: Duration,
    },
    /// A quantile lies in the last bucket, which has no end: on which side of the threshold is not told.
    BeyondBuckets {
        bound: f64,
    },
    /// Too little of the time before the release was observed.
    NoBaseline {
        observed: Duration,
    },
    /// The streak of a probe is still too short to tell.
    TooFewProbes,
    /// A new release has not answered yet.
    Starting,
    /// A query has no answer that counts: why, as its server or the way to it says.
    Unanswered {
        query: String,
        why: String,
    },
    /// Only data can cause it, such as two series where one was expected.
    Invalid(String),
}

impl Unknown {
    /// How a verdict takes it.
    #[must_use]
    pub const fn blank(&self) -> Blank {
        match self {
            Unknown::Missing(_)
            | Unknown::Stale { .. }
            | Unknown::NonFinite(_)
            | Unknown::BeyondBuckets { .. }
            | Unknown::Unanswered { .. }
            | Unknown::Invalid(_) => Blank::Blind,
            Unknown::NotYetCovered { window, .. } => Blank::Filling(*window),
            Unknown::TooFewProbes => Blank::Filling(Duration::MAX),
            Unknown::TooFewEvents { .. } | Unknown::NoBaseline { .. } | Unknown::Starting => Blank::Natural,
        }
    }
}

impl fmt::Display for Unknown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Unknown::Missing(selector) => write!(f, "{selector} has not been seen on its targets"),
            Unknown::Stale { selector, fresh, targets } => {
                write!(f, "only {fresh} of {targets} targets of {selector} answer")
            }
            Unknown::NonFinite(value) => write!(f, "the value is {value}"),
            Unknown::TooFewEvents { have, need } => {
                write!(f, "{} events, {} are needed", number(*have), number(*need))
            }
            Unknown::NotYetCovered { observed, window } => {
                write!(f, "observed for {} of {}", short(*observed), short(*window))
            }
            Unknown::BeyondBuckets { bound } => {
                write!(f, "it is beyond the highest finite bucket, which ends at {}", number(*bound))
            }
            Unknown::NoBaseline { observed } => {
                let (observed, least) = (short(*observed), short(OBSERVED_MIN));
                write!(f, "observed for {observed} to compare with, {least} are needed")
            }
            Unknown::TooFewProbes => write!(f, "not probed often enough yet to tell"),
            Unknown::Starting => write!(f, "the new release is starting"),
            Unknown::Unanswered { query, why } => write!(f, "query {query}: {why}"),
            Unknown::Invalid(why) => write!(f, "{why}"),
        }
    }
}

impl Finding {
    #[must_use]
    pub const fn as_str(&self) -> &'static str {
        match self {
            Finding::Clear => "clear",
            Finding::Breached => "breached",
            Finding::Unknown(_) => "unknown",
        }
    }

    /// What it says to a verdict, under the trigger's choice for what is unknown.
    #[must_use]
    pub const fn says(&self, on_unknown: OnUnknown) -> Says {
        match (self, on_unknown) {
            (Finding::Clear, _) => Says::Clear,
            // A release that is starting is never held against it, whatever the operator said of missing data.
            (Finding::Unknown(Unknown::Starting), _) => Says::Unknown(Blank::Natural),
            (Finding::Breached, _) | (Finding::Unknown(_), OnUnknown::Breach) => Says::Breached,
            (Finding::Unknown(unknown), OnUnknown::Pause) => Says::Unknown(unknown.blank()),
        }
    }
}

/// One evaluation of one trigger.
#[derive(Clone, Debug, PartialEq)]
pub struct Findings {
    pub sets: Vec<(Labels, Finding, Option<f64>)>,
    /// What label sets get that are not among `sets`: Clear when everything was seen and they are gone, Unknown when
    /// nothing can be said.
    pub others: Finding,
    pub evidence: Evidence,
}

impl Findings {
    /// The same for every label set.
    #[must_use]
    pub const fn unknown(why: Unknown, evidence: Evidence) -> Findings {
        Findings { sets: Vec::new(), others: Finding::Unknown(why), evidence }
    }

    /// The finding and value of one label set.
    #[must_use]
    pub fn of(&self, labels: &Labels) -> (&Finding, Option<f64>) {
        self.sets
            .iter()
            .find(|(set, _, _)| set == labels)
            .map_or((&self.others, None), |(_, finding, value)| (finding, *value))
    }

    /// The worst of all, for people: Breached before Unknown before Clear.
    #[must_use]
    pub fn worst(&self) -> (&Labels, &Finding, Option<f64>) {
        const fn rank(finding: &Finding) -> u8 {
            match finding {
                Finding::Breached => 2,
                Finding::Unknown(_) => 1,
                Finding::Clear => 0,
            }
        }
        static NONE: std::sync::LazyLock<Labels> = std::sync::LazyLock::new(Labels::default);
        let mut worst: (&Labels, &Finding, Option<f64>) = (&NONE, &self.others, None);
        let mut chosen = false;
        for (labels, finding, value) in &self.sets {
            if !chosen || rank(finding) > rank(worst.1) {
                worst = (labels, finding, *value);
                chosen = true;
            }
        }
        worst
    }
}

/// What an evaluation says to a trigger's question. `Question::Signal` has no value and does not come here. `baselines`:
/// what a `regression` is compared with; others do not look at it.
#[must_use]
pub fn find(trigger: &Trigger, evaluation: Result<Evaluation, EvalError>, baselines: &Baselines) -> Findings {
    let evaluation = match evaluation {
        Ok(evaluation) => evaluation,
        Err(error) => return Findings::unknown(Unknown::Invalid(error.0), Evidence::default()),
    };
    let Question::Value { kind, comparison, threshold, .. } = &trigger.question else {
        return Findings::unknown(Unknown::Invalid("a signal has no value".to_owned()), Evidence::default());
    };
    let mut evidence = evidence_of(&evaluation);
    match kind {
        ValueKind::Ratio => {
            let (finding, value) = ratio(&evaluation, *comparison, *threshold);
            evidence.value = value;
            Findings { sets: vec![(Labels::default(), finding, value)], others: Finding::Clear, evidence }
        }
        ValueKind::BurnRate => {
            let (finding, value) = burn_rate(&evaluation, *comparison, *threshold);
            evidence.value = value;
            Findings { sets: vec![(Labels::default(), finding, value)], others: Finding::Clear, evidence }
        }
        ValueKind::Increase | ValueKind::Quantile | ValueKind::Health | ValueKind::Expr => {
            vector(&evaluation, *kind, *comparison, *threshold, evidence)
        }
        ValueKind::Regression => {
            let (known, unknown) = compared(&evaluation, baselines, trigger.patience());
            let mut findings = vector(&known, *kind, *comparison, *threshold, evidence);
            if !matches!(findings.others, Finding::Unknown(_)) {
                findings.sets.extend(unknown);
            }
            findings
        }
    }
}

fn ratio(evaluation: &Evaluation, comparison: Comparison, threshold: f64) -> (Finding, Option<f64>) {
    let unknown = |why| (Finding::Unknown(why), None);
    let Some(parts) = evaluation.ratio else {
        return unknown(Unknown::Invalid("the expression is not a ratio".to_owned()));
    };
    let (part_gap, whole_gap) = match evaluation.evidence.as_slice() {
        [part, whole, ..] => (part.gap().map(|gap| why(gap, part)), whole.gap().map(|gap| why(gap, whole))),
        [] | [_] => return unknown(Unknown::Invalid("the ratio has no evidence".to_owned())),
    };
    if let Some(gap) = whole_gap {
        return unknown(gap);
    }
    // A part that was never seen is "nobody has failed yet"; one that is stale or not yet covered is not known.
    match part_gap {
        Some(Unknown::Missing(_)) | None => {}
        Some(gap) => return unknown(gap),
    }
    let Some(whole) = parts.whole else {
        return unknown(Unknown::Missing(evaluation.evidence[1].selector.clone()));
    };
    if let Some((have, need)) = evaluation.events
        && have < need
    {
        return unknown(Unknown::TooFewEvents { have, need });
    }
    let part = match (parts.part, wants_low(comparison), parts.part_ever) {
        (Some(part), _, _) => part,
        // Zero sign-ins are only believed of a label that has matched before: a renamed one looks the same.
        (None, true, false) => return unknown(Unknown::Missing(evaluation.evidence[0].selector.clone())),
        (None, true, true) | (None, false, _) => 0.0,
    };
    let value = part / whole;
    if !value.is_finite() {
        return unknown(Unknown::NonFinite(value));
    }
    (compare(value, comparison, threshold), Some(value))
}

type Sets = Vec<(Labels, Finding, Option<f64>)>;

/// The same evaluation with each value as its growth over the baseline, and the label sets that cannot be compared.
fn compared(evaluation: &Evaluation, baselines: &Baselines, pause_max: Duration) -> (Evaluation, Sets) {
    let mut unknown = Vec::new();
    let mut known = Vec::new();
    for (labels, value) in rows(&evaluation.value) {
        match baselines.against(&labels, pause_max) {
            // A change relative to nothing, or to less than nothing, has no size.
            Against::Median(median) if median > 0.0 => known.push((labels, value / median - 1.0)),
            Against::Median(median) => {
                unknown.push((labels, Finding::Unknown(Unknown::NonFinite(value / median)), None));
            }
            Against::Itself if value.is_finite() => unknown.push((labels, Finding::Clear, None)),
            Against::Itself => unknown.push((labels, Finding::Unknown(Unknown::NonFinite(value)), None)),
            Against::Nothing { observed } => {
                unknown.push((labels, Finding::Unknown(Unknown::NoBaseline { observed }), None));
            }
        }
    }
    (Evaluation { value: Value::Vector(known), ..evaluation.clone() }, unknown)
}

fn rows(value: &Value) -> Vec<(Labels, f64)> {
    match value {
        Value::Scalar(value) => vec![(Labels::default(), *value)],
        Value::Vector(values) => values.clone(),
    }
}

/// Remembers what a `regression` saw, for the next release.
pub fn remember(baselines: &mut Baselines, value: &Value, findings: &Findings, at: Timestamp) {
    if !matches!(findings.others, Finding::Unknown(_)) {
        baselines.take(&rows(value), |labels| *findings.of(labels).0 == Finding::Breached, at);
    }
}

/// Breached when both windows of a pair burn, Clear when in every pair one of them does not.
///
/// A release need not be as old as a window to be judged by it. What was not observed of a long one counts as free of errors
/// among as many events: what burned in a part of it has burned in all of it. A short one only tells whether it still burns:
/// what was seen of it tells that too, once it is as much as the shortest takes to be covered.
fn burn_rate(evaluation: &Evaluation, comparison: Comparison, threshold: f64) -> (Finding, Option<f64>) {
    let Some((pairs, budget)) = &evaluation.burn else {
        return (Finding::Unknown(Unknown::Invalid("the expression is no burn rate".to_owned())), None);
    };
    let need = evaluation.events.map_or(0.0, |(_, need)| need);
    let (mut worst, mut reached) = (Finding::Clear, None::<f64>);
    for (pair, evidence) in pairs.iter().zip(evaluation.evidence.chunks_exact(4)) {
        let finding = match burned(pair, evidence, *budget, need) {
            Ok(burned) => {
                reached = Some(reached.map_or(burned.reached, |most| most.max(burned.reached)));
                match compare(burned.reached, comparison, threshold) {
                    // As much again may have burned in what was not observed.
                    Finding::Clear => burned.unless_more.map_or(Finding::Clear, Finding::Unknown),
                    other => other,
                }
            }
            Err(why) => Finding::Unknown(why),
        };
        worst = match (worst, finding) {
            (Finding::Breached, _) | (_, Finding::Breached) => Finding::Breached,
            (unknown @ Finding::Unknown(_), _) | (Finding::Clear, unknown @ Finding::Unknown(_)) => unknown,
            (Finding::Clear, Finding::Clear) => Finding::Clear,
        };
    }
    let value = reached.filter(|_| !matches!(worst, Finding::Unknown(_)));
    (worst, value)
}

struct Burned {
    /// Of the burn that pages, by the window that burns less.
    reached: f64,
    /// Why it may be more, where it may.
    unless_more: Option<Unknown>,
}

fn burned(pair: &BurnPair, evidence: &[SelectorEvidence], budget: f64, need: f64) -> Result<Burned, Unknown> {
    let [long_part, long_whole, short_part, short_whole] = evidence else {
        return Err(Unknown::Invalid("the burn rate has no evidence".to_owned()));
    };
    let rate = |parts: RatioParts, whole: f64| parts.part.unwrap_or(0.0) / whole / budget / pair.windows.factor;
    // A part that was never seen is "nobody has failed yet".
    let least = BURN_PAIRS.iter().map(|pair| pair.short).min().unwrap_or_default();
    for (selector, is_part) in [(short_whole, false), (short_part, true)] {
        match selector.gap() {
            Some(Gap::Missing) if is_part => {}
            Some(Gap::NotYetCovered) if selector.observed * 5 >= least * 4 => {}
            Some(gap) => return Err(why(gap, selector)),
            None => {}
        }
    }
    let (have, recent) = (pair.long.whole.unwrap_or(0.0), pair.short.whole.unwrap_or(0.0));
    if !have.is_finite() || !recent.is_finite() {
        return Err(Unknown::NonFinite(have));
    }
    if have < need || recent <= 0.0 {
        return Err(Unknown::TooFewEvents { have, need: need.max(1.0) });
    }
    let short = rate(pair.short, recent);
    let long = rate(pair.long, have);
    let covered = [long_whole, long_part].into_iter().find(|selector| selector.gap() == Some(Gap::NotYetCovered));
    let Some(partly) = covered else { return finite(short.min(long), None) };
    let share = partly.observed.as_secs_f64() / partly.window.as_secs_f64();
    // The short window says that it does not burn now: then it does not matter how long it did.
    let unless_more = (short > 1.0).then(|| why(Gap::NotYetCovered, partly));
    finite(short.min(long * share), unless_more)
}

fn finite(reached: f64, unless_more: Option<Unknown>) -> Result<Burned, Unknown> {
    if reached.is_finite() { Ok(Burned { reached, unless_more }) } else { Err(Unknown::NonFinite(reached)) }
}

fn vector(
    evaluation: &Evaluation,
    kind: ValueKind,
    comparison: Comparison,
    threshold: f64,
    mut evidence: Evidence,
) -> Findings {
    let gap = evaluation
        .evidence
        .iter()
        .filter(|selector| !selector.may_be_absent)
        .find_map(|selector| selector.gap().map(|gap| why(gap, selector)));
    if let Some(gap) = gap {
        return Findings::unknown(gap, evidence);
    }
    if let Some((have, need)) = evaluation.events
        && have < need
    {
        return Findings::unknown(Unknown::TooFewEvents { have, need }, evidence);
    }
    let values = rows(&evaluation.value);
    let sets: Vec<_> = values
        .into_iter()
        .map(|(labels, value)| {
            if let Some(bound) = evaluation.bound.filter(|bound| value >= *bound)
                && compare(bound, comparison, threshold) != compare(f64::INFINITY, comparison, threshold)
            {
                (labels, Finding::Unknown(Unknown::BeyondBuckets { bound }), None)
            } else if value.is_finite() {
                (labels, compare(value, comparison, threshold), Some(value))
            } else if kind == ValueKind::Health {
                (labels, Finding::Unknown(Unknown::TooFewProbes), None)
            } else {
                (labels, Finding::Unknown(Unknown::NonFinite(value)), None)
            }
        })
        .collect();
    let findings = Findings { sets, others: Finding::Clear, evidence: Evidence::default() };
    evidence.value = findings.worst().2;
    Findings { evidence, ..findings }
}

/// Is the threshold of a quantile out of reach, given the highest finite bound of its buckets? What lies beyond is told as
/// that bound.
#[must_use]
pub fn can_never_fire(question: &Question, bound: f64) -> bool {
    match question {
        Question::Value { kind: ValueKind::Quantile, comparison, threshold, .. } => match comparison {
            Comparison::Above => *threshold >= bound,
            Comparison::AtLeast => *threshold > bound,
            Comparison::Below | Comparison::AtMost | Comparison::Equal | Comparison::NotEqual => false,
        },
        Question::Value { .. } | Question::Signal { .. } => false,
    }
}

/// What people are told where that is so: `above 5 s can never fire: …`.
#[must_use]
pub fn never_fires(question: &Question, bound: f64) -> Option<String> {
    let Question::Value { unit, .. } = question else { return None };
    if !can_never_fire(question, bound) {
        return None;
    }
    let (threshold, end) = (threshold_text(question), value_text(bound, *unit));
    Some(format!("{threshold} can never fire: the highest finite bucket of its histogram ends at {end}"))
}

fn why(gap: Gap, selector: &SelectorEvidence) -> Unknown {
    match gap {
        Gap::Missing => Unknown::Missing(selector.selector.clone()),
        Gap::Stale => Unknown::Stale {
            selector: selector.selector.clone(),
            fresh: selector.targets_fresh,
            targets: selector.targets,
        },
        Gap::NotYetCovered => Unknown::NotYetCovered { observed: selector.observed, window: selector.window },
    }
}

const fn wants_low(comparison: Comparison) -> bool {
    match comparison {
        Comparison::Below | Comparison::AtMost => true,
        Comparison::Above | Comparison::AtLeast | Comparison::Equal | Comparison::NotEqual => false,
    }
}

#[expect(clippy::float_cmp, reason = "PromQL's == and != compare exactly; the value is finite")]
fn compare(value: f64, comparison: Comparison, threshold: f64) -> Finding {
    let breached = match comparison {
        Comparison::Above => value > threshold,
        Comparison::AtLeast => value >= threshold,
        Comparison::Below => value < threshold,
        Comparison::AtMost => value <= threshold,
        Comparison::Equal => value == threshold,
        Comparison::NotEqual => value != threshold,
    };
    if breached { Finding::Breached } else { Finding::Clear }
}

fn evidence_of(evaluation: &Evaluation) -> Evidence {
    Evidence {
        selectors: evaluation
            .evidence
            .iter()
            .map(|selector| SelectorFact {
                selector: selector.selector.clone(),
                targets: selector.targets,
                targets_fresh: selector.targets_fresh,
                series: selector.series_now,
                observed_ms: u64::try_from(selector.observed.as_millis()).unwrap_or(u64::MAX),
            })
            .collect(),
        // The journal's JSON has neither NaN nor infinities.
        events: evaluation.events.map(|(have, _)| have).filter(|have| have.is_finite()),
        window_ms: u64::try_from(evaluation.window.as_millis()).unwrap_or(u64::MAX),
        value: None,
    }
}

/// `above 15 %`, `at least 3 failures in a row`, `raised`.
#[must_use]
pub fn threshold_text(question: &Question) -> String {
    match question {
        Question::Value { kind: ValueKind::Regression, threshold, unit, .. } => {
            format!("more than {} above its median before the release", value_text(*threshold, *unit))
        }
        Question::Value { kind: ValueKind::BurnRate, threshold, unit, .. } => {
            format!("above {} of the burn that pages", value_text(*threshold, *unit))
        }
        Question::Value { comparison, threshold, unit, .. } => {
            let words = match comparison {
                Comparison::Above => "above",
                Comparison::AtLeast => "at least",
                Comparison::Below => "below",
                Comparison::AtMost => "at most",
                Comparison::Equal => "equal to",
                Comparison::NotEqual => "other than",
            };
            let among = match unit {
                Unit::Number | Unit::Percent | Unit::Seconds | Unit::Failures { of: 1 } => String::new(),
                Unit::Failures { of } if f64::from(*of) <= *threshold => " in a row".to_owned(),
                Unit::Failures { of } => format!(" among the last {of}"),
            };
            format!("{words} {}{among}", value_text(*threshold, *unit))
        }
        Question::Signal { .. } => "raised".to_owned(),
    }
}

/// `43 %`, `5.2 s`, `17`: at most four significant digits.
#[must_use]
pub fn value_text(value: f64, unit: Unit) -> String {
    match unit {
        Unit::Number => number(value),
        Unit::Percent => format!("{} %", number(value * 100.0)),
        Unit::Seconds => format!("{} s", number(value)),
        Unit::Failures { .. } if (value - 1.0).abs() < f64::EPSILON => "1 failure".to_owned(),
        Unit::Failures { .. } => format!("{} failures", number(value)),
    }
}

fn number(value: f64) -> String {
    let magnitude = value.abs();
    if magnitude >= 1000.0 || magnitude.fract() <= 0.0 {
        return format!("{value:.0}");
    }
    let decimals = if magnitude >= 100.0 {
        1
    } else if magnitude >= 1.0 {
        2
    } else if magnitude >= 0.01 {
        3
    } else {
        6
    };
    let text = format!("{value:.decimals$}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// A duration as people write it: `10m`, `1m 30s`, `500ms`.
#[must_use]
pub fn short(duration: Duration) -> String {
    let whole = if duration >= Duration::from_secs(10) {
        Duration::from_secs((duration + Duration::from_millis(500)).as_secs())
    } else {
        Duration::from_millis(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX))
    };
    humantime::format_duration(whole).to_string()
}

#[cfg(test)]
mod tests;
