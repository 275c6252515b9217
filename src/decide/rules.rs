//! What the operator asked for, compiled: valid by construction, and all that the pure rooms see of the configuration.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::event::{Autonomy, Check, Gate, Level, OnSilence, Severity};
use super::freeze::Freeze;
use crate::promql::{Comparison, Expr, Selector};

/// The whole configuration as the machine sees it. Immutable; a reload brings another one.
#[derive(Clone, Debug, PartialEq)]
pub struct Rules {
    /// Counts reloads; a scrape batch that was selected under another generation is a gap.
    pub generation: u64,
    /// Of the configuration's text, in notices and in the journal: 12 hexadecimal digits of SHA-256.
    pub hash: Arc<str>,
    /// How this backstop is called in notices; the host's name unless set.
    pub instance: Arc<str>,
    /// Rollbacks that the whole daemon may start within `window`.
    pub budget: Option<Budget>,
    /// With this share of services breaching at once (0–1), it is not one release: no service is rolled back.
    pub breaching_share_max: Option<f64>,
    pub heartbeat: Option<Heartbeat>,
    /// Of every service, beside its own.
    pub freeze: Vec<Freeze>,
    pub services: Vec<ServiceRules>,
    pub receivers: Vec<ReceiverRules>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget {
    pub rollbacks: u32,
    pub window: Duration,
}

/// A notice sent on purpose while all is well, so that a receiver can miss it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Heartbeat {
    pub every: Duration,
    pub receivers: Vec<Arc<str>>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReceiverRules {
    pub name: Arc<str>,
    /// Gets what this one could not take for `fallback_after`.
    pub fallback: Option<Arc<str>>,
    pub fallback_after: Duration,
    /// A notice that could not be delivered for this long is a dead letter.
    pub give_up_after: Duration,
}

#[derive(Clone, Debug, PartialEq)]
pub struct ServiceRules {
    pub name: Arc<str>,
    pub autonomy: Autonomy,
    /// Receivers of its notices, in order.
    pub notify: Vec<Arc<str>>,
    /// Labels that its notices carry.
    pub labels: Vec<(Arc<str>, Arc<str>)>,
    /// How long a new release may take to answer; findings are Unknown(starting) until then or its first success.
    pub startup: Duration,
    /// In the operator's order: the first that can be read names the release.
    pub detectors: Vec<Detector>,
    pub triggers: Vec<Trigger>,
    /// What more than the triggers must be well before a level counts as proved, as `Verify::still_wrong` names it. They
    /// never fire.
    pub criteria: Vec<Trigger>,
    pub guard: GuardRules,
    /// Level 1 first. Empty only where `autonomy` is `observe`.
    pub ladder: Vec<Level>,
    /// Reminders while a person is needed and nobody has acknowledged.
    pub remind_every: Duration,
    /// How long a person has to answer a proposal; silence declines.
    pub respond_within: Duration,
    /// Raises a notice when an incident takes longer than this to recover.
    pub rto: Option<Duration>,
    /// What an incident's severity changes; the highest of its triggers counts.
    pub severities: BTreeMap<Severity, SeverityRules>,
    /// How long a person may hold a rollback back to fix it forward, over one episode.
    pub hold_max: Duration,
}

/// How an incident of one severity is treated, and by whom.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SeverityRules {
    /// Overrides the service's where it is more careful.
    pub autonomy: Option<Autonomy>,
    /// Who may approve, as [`super::event::Actor::is_one_of`] reads it; empty stands for everyone who may command.
    pub approvers: Vec<String>,
    /// Instead of the service's.
    pub respond_within: Option<Duration>,
    pub on_silence: OnSilence,
}

/// How a change of release is seen.
#[derive(Clone, Debug, PartialEq)]
pub struct Detector {
    /// As people read it: `symlink /opt/api/current`.
    pub describe: Arc<str>,
    pub kind: DetectorKind,
    /// How often it is read.
    pub interval: Duration,
}

#[derive(Clone, Debug, PartialEq)]
pub enum DetectorKind {
    /// The label of a scraped series, per target: inside the process.
    Metric { selector: Selector, label: Arc<str> },
    /// A JSON pointer into the body of a probe, per target: inside the process.
    Probe { probe: Arc<str> },
    /// Read by `observe` (symlink, command), one value for the service: outside the process.
    Outside,
    /// Announced by `POST /v1/releases` or `backstop release`.
    Announced,
}

/// A question put to the windows.
#[derive(Clone, Debug, PartialEq)]
pub struct Trigger {
    pub name: Arc<str>,
    pub question: Question,
    pub hold: Duration,
    pub severity: Severity,
    pub gate: Gate,
    /// Overrides the service's where it is more careful.
    pub autonomy: Option<Autonomy>,
    /// The level tried first, counted from 0.
    pub start_level: usize,
    pub fire_when: FireWhen,
    pub on_unknown: OnUnknown,
    /// A pause in known findings longer than this resets the hold. Default: two intervals.
    pub gap_tolerance: Duration,
    /// The longest interval among its sources.
    pub interval: Duration,
}

impl Trigger {
    /// The gap tolerance with room for looks that come a little late: two intervals mean that one look may be missed,
    /// and the next one is never exactly on time.
    #[must_use]
    pub fn patience(&self) -> Duration {
        self.gap_tolerance.saturating_add(self.interval / 4)
    }
}

#[derive(Clone, Debug, PartialEq)]
pub enum Question {
    /// `value comparison threshold` for any label set of the value is Breached.
    Value { kind: ValueKind, expr: Arc<Expr>, comparison: Comparison, threshold: f64, unit: Unit },
    /// Breached while the signal is raised.
    Signal { name: Arc<str> },
}

/// Which sugar an expression came from; decides how a missing side is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ValueKind {
    Ratio,
    Increase,
    Quantile,
    Health,
    Expr,
    /// The value's relative growth over its median before the release: 0.5 is half as much again.
    Regression,
    /// How much of the burn that pages is reached.
    BurnRate,
}

/// How a value and its threshold are written for people.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    Number,
    /// The value is a fraction; 0.15 reads 15 %.
    Percent,
    /// The value is in seconds.
    Seconds,
    /// The value is failures of a probe, among its last `of` results.
    Failures {
        of: u32,
    },
}

/// Over the label sets of a trigger's result.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum FireWhen {
    Any,
    All,
    /// At least this share (0–1) of them.
    Share(f64),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnUnknown {
    /// The default: Unknown never fires.
    Pause,
    /// The operator's explicit choice: what is not known counts as Breached.
    Breach,
}

#[derive(Clone, Debug, PartialEq)]
pub struct GuardRules {
    /// Act only on a breach that began this long after a release change.
    pub release_window: Duration,
    /// A release that ran this long without a firing verdict is one to go back to.
    pub good_after: Duration,
    /// Between two incidents of the service.
    pub cooldown: Duration,
    pub budget: Option<Budget>,
    /// Names of the reference endpoints; `observe` probes them.
    pub references: Vec<Arc<str>>,
    /// A breach that the release found already there is blamed on it once it is this many times as bad; above 1.
    pub worsened_by: f64,
    /// Other services of this configuration: while one of them breaches, it is not our deployment.
    pub dependencies: Vec<Arc<str>>,
    pub freeze: Vec<Freeze>,
    /// Asked before an admission and before each further level: one that holds stops it.
    pub blockers: Vec<Blocker>,
    /// Whether the way back could be gone: asked while all is well, and before an admission.
    pub ready: Vec<Check>,
    pub ready_every: Duration,
}

/// A reason not to roll back that only the operator's own check can know: an incompatible schema, rotated secrets.
#[derive(Clone, Debug, PartialEq)]
pub struct Blocker {
    pub name: Arc<str>,
    /// Why it stops a rollback, in one sentence.
    pub says: Option<Arc<str>>,
    pub question: BlockerQuestion,
}

#[derive(Clone, Debug, PartialEq)]
pub enum BlockerQuestion {
    /// Passed: it does not hold. `max_age`: an older answer is asked for again before anything starts; at least twice
    /// the check's timeout.
    Check { check: Check, max_age: Duration },
    /// Breached: it holds.
    Windows { trigger: Box<Trigger>, on_unknown: BlockerUnknown },
    /// Raised: it holds.
    Signal(Arc<str>),
}

/// What a blocker's expression means that cannot be answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BlockerUnknown {
    /// The default: it stops the rollback.
    Block,
    Allow,
}

impl GuardRules {
    /// How old the answer of a check of the way back may be when a rollback is admitted.
    #[must_use]
    pub fn ready_max_age(&self) -> Duration {
        self.ready_every * 2
    }

    /// The longest that a check before an admission may take.
    #[must_use]
    pub fn slowest_check(&self) -> Duration {
        let blockers = self.blockers.iter().filter_map(|blocker| match &blocker.question {
            BlockerQuestion::Check { check, .. } => Some(check.timeout),
            BlockerQuestion::Windows { .. } | BlockerQuestion::Signal(_) => None,
        });
        blockers.chain(self.ready.iter().map(|check| check.timeout)).max().unwrap_or_default()
    }
}

impl ServiceRules {
    /// Everything that is put to the windows: triggers, criteria of recovery, blockers.
    pub fn questions(&self) -> impl Iterator<Item = &Trigger> {
        let blockers = self.guard.blockers.iter().filter_map(|blocker| match &blocker.question {
            BlockerQuestion::Windows { trigger, .. } => Some(&**trigger),
            BlockerQuestion::Check { .. } | BlockerQuestion::Signal(_) => None,
        });
        self.triggers.iter().chain(&self.criteria).chain(blockers)
    }

    /// Signals that somebody may raise.
    pub fn signals(&self) -> impl Iterator<Item = &Arc<str>> {
        let blockers = self.guard.blockers.iter().filter_map(|blocker| match &blocker.question {
            BlockerQuestion::Signal(name) => Some(name),
            BlockerQuestion::Check { .. } | BlockerQuestion::Windows { .. } => None,
        });
        let triggers = self.triggers.iter().filter_map(|trigger| match &trigger.question {
            Question::Signal { name } => Some(name),
            Question::Value { .. } => None,
        });
        triggers.chain(blockers)
    }

    /// All expressions that the service's series are kept for.
    #[must_use]
    pub fn exprs(&self) -> Vec<Expr> {
        let triggers = self.questions().filter_map(|trigger| match &trigger.question {
            Question::Value { expr, .. } => Some((**expr).clone()),
            Question::Signal { .. } => None,
        });
        let detectors = self.detectors.iter().filter_map(|detector| match &detector.kind {
            DetectorKind::Metric { selector, .. } => Some(Expr::from(selector.clone())),
            DetectorKind::Probe { .. } | DetectorKind::Outside | DetectorKind::Announced => None,
        });
        triggers.chain(detectors).collect()
    }
}
