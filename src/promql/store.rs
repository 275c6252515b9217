use std::sync::Arc;
use std::time::Duration;

use super::{Expr, Labels, Selector};
use crate::time::Timestamp;

/// A process behind one address, within one run of the daemon.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TargetId(pub u32);

/// A service, within one run of the daemon.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServiceId(pub u32);

/// A series of one target, dense, chosen by the task that scrapes the target.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LocalId(pub u32);

/// Whose expressions see a target's series.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Scope {
    Service(ServiceId),
    Shared,
}

/// What the store must know of a target.
#[derive(Clone, Debug, PartialEq)]
pub struct TargetMeta {
    pub scope: Scope,
    /// The scrape or probe that it belongs to; coverage is judged per source.
    pub source: Arc<str>,
    /// `job`, `instance` and the operator's own.
    pub labels: Labels,
    pub interval: Duration,
}

/// The selectors of a whole configuration: only series that one of them matches are kept.
#[derive(Clone, Debug)]
pub struct Interest {
    pub generation: u64,
}

impl Interest {
    #[must_use]
    pub fn compile<'a>(_generation: u64, _selectors: impl IntoIterator<Item = &'a Selector>) -> Interest {
        todo!()
    }
    /// Does any selector want this series?
    #[must_use]
    pub fn wants(&self, _labels: &Labels) -> bool {
        todo!()
    }
    #[must_use]
    pub fn of_exprs<'a>(generation: u64, exprs: impl IntoIterator<Item = &'a Expr>) -> Interest {
        Interest::compile(generation, exprs.into_iter().flat_map(Expr::selectors).collect::<Vec<_>>())
    }
}

/// One scrape of one target, as the scraping task sends it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Batch {
    /// Series that this target shows for the first time, or again after they had vanished.
    pub born: Vec<(LocalId, Labels)>,
    /// Series of the previous scrape that this one lacks.
    pub vanished: Vec<LocalId>,
    pub samples: Vec<(LocalId, f64)>,
    /// `process_start_time_seconds`, where the target exposes it: another value is another process.
    pub process_start: Option<f64>,
    /// All local ids are new: the task started, or the interest changed. Series that are not born in this batch are
    /// gone; a series with the same labels goes on.
    pub rebind: bool,
}

/// The windows of all series of all targets. Retention per series is the longest reach of the expressions that
/// select it, plus one interval.
#[derive(Debug)]
pub struct Store {}

impl Store {
    /// An empty store that keeps, for each series, as far back as the expressions that select it reach.
    pub fn new<'a>(_exprs: impl IntoIterator<Item = &'a Expr>) -> Store {
        todo!()
    }

    /// The expressions changed (a reload): windows of series that are still selected are kept.
    pub fn retarget<'a>(&mut self, _exprs: impl IntoIterator<Item = &'a Expr>) {
        todo!()
    }

    pub fn attach(&mut self, _target: TargetId, _meta: TargetMeta) {
        todo!()
    }

    /// The target went away: its series get staleness markers and no longer count for coverage.
    pub fn detach(&mut self, _target: TargetId, _at: Timestamp) {
        todo!()
    }

    /// A successful scrape or probe.
    pub fn push(&mut self, _target: TargetId, _at: Timestamp, _batch: &Batch) {
        todo!()
    }

    /// A failed scrape: every series of the target gets a staleness marker, as in Prometheus; observed windows have
    /// a gap.
    pub fn fail(&mut self, _target: TargetId, _at: Timestamp) {
        todo!()
    }

    /// One sample of a series that backstop itself makes (`up`, `probe_success`, …): independent of the target's
    /// scrapes, so that a failed scrape can still say `up 0`. Not marked stale by `fail`.
    pub fn push_own(&mut self, _target: TargetId, _at: Timestamp, _labels: &Labels, _value: f64) {
        todo!()
    }

    /// Forgets all samples of a target from before `at`, and that its metrics were ever seen there: what the old
    /// release did never counts against the new one. The next scrape is the first of the target.
    pub fn restart(&mut self, _target: TargetId, _at: Timestamp) {
        todo!()
    }

    /// The values of `label` on the fresh series that a selector matches on one target (release detection).
    pub fn label_values(&self, _selector: &Selector, _label: &str, _target: TargetId) -> Vec<String> {
        todo!()
    }

    /// Everything pushed since the last call with the same cursor, for the checkpoint of windows.
    pub fn dump(&self) -> Vec<TargetDump> {
        todo!()
    }

    /// Puts back what `dump` gave, after `attach`, before the first push. The first scrape afterwards goes on from
    /// there if the process is the same.
    pub fn restore(&mut self, _target: TargetId, _dump: &TargetDump) {
        todo!()
    }
}

/// The windows of one target, as they are checkpointed.
#[derive(Clone, Debug, PartialEq)]
pub struct TargetDump {
    pub target: TargetId,
    pub process_start: Option<f64>,
    /// Instants of successful scrapes within reach: what was observed.
    pub scrapes: Vec<Timestamp>,
    pub series: Vec<SeriesDump>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct SeriesDump {
    pub labels: Labels,
    pub own: bool,
    pub samples: Vec<(Timestamp, f64)>,
}
