//! The series store: what was seen of every target, as far back as somebody asks.
//!
//! What counts as an increase:
//! - A counter that goes down was reset: the new value is the increase.
//! - Another `process_start` is another process: its counters began at zero, so that the new value is the increase,
//!   whether or not it is higher than the old one.
//! - A series that first appears on a target whose previous scrape succeeded counts from zero.
//! - On the first scrape of a target, and on the first after a failed or missed scrape, a `restart`, a `retarget`, a
//!   `restore` or a start of the scraping task, a series that first appears is only a baseline: nobody knows what it was before.
//! - A series that vanishes and appears again goes on from its last value, or counts from zero if it is lower.
//! - What happened while a target was not watched (two scrapes missed in a row) belongs to no window that begins after
//!   the last scrape before the hole.
//!
//! What was watched: two successive successes at most two and a half intervals apart observe the time between them.

mod clock;
mod column;
mod dump;
mod interest;
mod ring;
mod samples;
mod target;
#[cfg(test)]
mod tests;
mod watch;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

pub use clock::{Clock, ClockedSamples};
pub use column::{grow, quarter_more};
pub use dump::{EverDump, SeriesDump, SeriesView, TargetDump, TargetView};
pub use interest::Interest;
use interest::Retention;
pub(super) use ring::{Span, Window, span_of};
pub use samples::{Instants, Point, Samples, SamplesView};
pub(super) use target::{Series, Target};

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
    /// All local ids are new: the scraping task has just started, or the interest set changed. Series that are not
    /// born in this batch are gone.
    pub rebind: bool,
}

/// So many distinct series are told apart per selector; after that the count stands still.
const EVER_MAX: usize = 1 << 16;
/// Ended series are swept once in so many pushes of each target.
const SWEEP_EVERY: usize = 64;

/// The windows of all series of all targets. Retention per series is the longest reach of the expressions that
/// select it, plus one interval; a series keeps the last sample before that too, as the anchor of increases.
#[derive(Debug)]
pub struct Store {
    retention: Retention,
    targets: BTreeMap<TargetId, Target>,
    /// Per source: every metric name that one of its targets ever showed, and whether backstop itself makes it.
    sources: HashMap<(Scope, Arc<str>), HashMap<Box<str>, bool>>,
    /// Hashes of the series that ever matched, per scope and selector as written.
    ever: HashMap<(Scope, Box<str>), HashSet<u64>>,
    /// Since the last sweep.
    pushes: usize,
}

impl Store {
    /// An empty store that keeps, for each series, as far back as the expressions that select it reach.
    #[must_use]
    pub fn new<'a>(exprs: impl IntoIterator<Item = &'a Expr>) -> Store {
        Store {
            retention: Retention::of(exprs),
            targets: BTreeMap::new(),
            sources: HashMap::new(),
            ever: HashMap::new(),
            pushes: 0,
        }
    }

    /// The expressions changed (a reload): windows of series that are still selected are kept. What the next scrape of
    /// a target shows for the first time is a baseline, since it may have been there unselected.
    pub fn retarget<'a>(&mut self, exprs: impl IntoIterator<Item = &'a Expr>) {
        self.retention = Retention::of(exprs);
        let retention = &self.retention;
        self.ever.retain(|(_, selector), _| retention.wants_selector(selector));
        let mut known = Vec::new();
        for target in self.targets.values_mut() {
            target.retarget(&self.retention);
            known.extend(target.all().map(|series| (target.meta.scope, series.labels.clone())));
        }
        for (scope, labels) in known {
            self.note_ever(scope, &labels);
        }
    }

    /// A target that is there already goes on with its windows under the new `meta`.
    pub fn attach(&mut self, target: TargetId, meta: TargetMeta) {
        match self.targets.get_mut(&target) {
            Some(known) => known.reattach(meta),
            None => {
                self.targets.insert(target, Target::new(meta));
            }
        }
    }

    /// The target went away: its series get staleness markers and no longer count for coverage. What it did within a
    /// window still counts in that window.
    pub fn detach(&mut self, target: TargetId, at: Timestamp) {
        if let Some(target) = self.targets.get_mut(&target) {
            target.detach(at);
        }
        self.sweep(at);
    }

    /// A successful scrape or probe. Samples of series that no expression selects, and of targets that are not
    /// attached, are not kept.
    pub fn push(&mut self, target: TargetId, at: Timestamp, batch: &Batch) {
        let Some(known) = self.targets.get_mut(&target).filter(|target| target.attached) else { return };
        let scope = known.meta.scope;
        let source = Arc::clone(&known.meta.source);
        let fresh = known.push(at, batch, &self.retention);
        for labels in fresh {
            self.note_name(scope, &source, &labels, false);
            self.note_ever(scope, &labels);
        }
        self.pushes += 1;
        if self.pushes >= SWEEP_EVERY * self.targets.len() {
            self.pushes = 0;
            self.sweep(at);
        }
    }

    /// The target would show this metric if there were any: that it shows none is an answer.
    pub fn show(&mut self, target: TargetId, name: &str) {
        let Some(known) = self.targets.get_mut(&target).filter(|target| target.attached) else { return };
        known.shown.insert(name.into());
        let source = (known.meta.scope, Arc::clone(&known.meta.source));
        self.sources.entry(source).or_default().entry(name.into()).or_insert(false);
    }

    /// A failed scrape: every series of the target gets a staleness marker, as in Prometheus; observed windows have
    /// a gap.
    pub fn fail(&mut self, target: TargetId, at: Timestamp) {
        if let Some(target) = self.targets.get_mut(&target).filter(|target| target.attached) {
            target.fail(at);
        }
    }

    /// Whether some expression may select a series of this name. Says nothing yet about its other labels.
    #[must_use]
    pub fn may_want(&self, name: &str) -> bool {
        self.retention.may_want(name)
    }

    /// One sample of a series that backstop itself makes (`up`, `probe_success`, …): independent of the target's
    /// scrapes, so that a failed scrape can still say `up 0`. Not marked stale by `fail`. `labels` are whole: the name,
    /// and those of the target.
    pub fn push_own(&mut self, target: TargetId, at: Timestamp, labels: &Labels, value: f64) {
        let Some(known) = self.targets.get_mut(&target).filter(|target| target.attached) else { return };
        if known.push_own(at, labels, value, &self.retention) {
            let scope = known.meta.scope;
            let source = Arc::clone(&known.meta.source);
            self.note_name(scope, &source, labels, true);
            self.note_ever(scope, labels);
        }
    }

    /// Forgets all samples of a target from before `at`, and that its metrics were ever seen there: what the old
    /// release did never counts against the new one. The next scrape is the first of the target; one at `at` itself
    /// stays, as that first scrape.
    pub fn restart(&mut self, target: TargetId, at: Timestamp) {
        if let Some(target) = self.targets.get_mut(&target) {
            target.restart(at);
        }
    }

    /// The values of `label` on the fresh series that a selector matches on one target (release detection): those that
    /// its latest successful scrape showed, unless a failed one came after it. Sorted, each once, without empty ones.
    #[must_use]
    pub fn label_values(&self, selector: &Selector, label: &str, target: TargetId) -> Vec<String> {
        let Some(target) = self.targets.get(&target) else { return Vec::new() };
        let mut values: Vec<&str> = Vec::new();
        target.select(selector, |series| {
            if series.is_live() {
                values.extend(series.labels.get(label));
            }
        });
        values.sort_unstable();
        values.dedup();
        values.into_iter().map(str::to_owned).collect()
    }

    /// The windows of all attached targets, for the checkpoint.
    pub fn lend(&self) -> impl Iterator<Item = TargetView<'_>> {
        let attached = self.targets.iter().filter(|(_, target)| target.attached);
        attached.map(|(id, target)| TargetView::of(*id, target))
    }

    /// Puts back what `lend` gave, after `attach`, before the first push. The first scrape afterwards goes on from
    /// there if the process is the same; if not, counters begin at zero.
    pub fn restore(&mut self, target: TargetId, dump: TargetDump) {
        let Some(known) = self.targets.get_mut(&target) else { return };
        let scope = known.meta.scope;
        let source = Arc::clone(&known.meta.source);
        for (labels, own) in known.restore(dump, &self.retention) {
            self.note_name(scope, &source, &labels, own);
            self.note_ever(scope, &labels);
        }
    }

    /// Which series have ever matched which selector, for the checkpoint: `series_ever` and `part_ever` reach back
    /// to the first start of the daemon, further than the windows.
    #[must_use]
    pub fn dump_ever(&self) -> Vec<EverDump> {
        let mut ever: Vec<EverDump> = self
            .ever
            .iter()
            .map(|((scope, selector), hashes)| {
                let mut series: Vec<u64> = hashes.iter().copied().collect();
                series.sort_unstable();
                EverDump { scope: *scope, selector: selector.to_string(), series }
            })
            .collect();
        ever.sort_by(|a, b| a.selector.cmp(&b.selector).then_with(|| a.scope.order().cmp(&b.scope.order())));
        ever
    }

    /// Puts back what `dump_ever` gave; `scope` may name the service differently in this run. Selectors that no
    /// expression has any more are dropped.
    pub fn restore_ever(&mut self, dump: &EverDump) {
        if self.retention.wants_selector(&dump.selector) {
            let hashes = self.ever.entry((dump.scope, dump.selector.as_str().into())).or_default();
            hashes.extend(dump.series.iter().take(EVER_MAX));
        }
    }

    fn note_name(&mut self, scope: Scope, source: &Arc<str>, labels: &Labels, own: bool) {
        let names = self.sources.entry((scope, Arc::clone(source))).or_default();
        names.insert(labels.name().into(), own);
    }

    fn note_ever(&mut self, scope: Scope, labels: &Labels) {
        for selector in self.retention.selectors_of(labels) {
            let hashes = self.ever.entry((scope, selector.to_string().into())).or_default();
            if hashes.len() < EVER_MAX {
                hashes.insert(stable_hash(labels));
            }
        }
    }

    fn sweep(&mut self, now: Timestamp) {
        for target in self.targets.values_mut() {
            target.sweep(now, &self.retention);
        }
        self.targets.retain(|_, target| !target.is_spent());
    }

    /// How many series have ever matched, as the expressions of a service see them.
    pub(super) fn series_ever(&self, service: ServiceId, selector: &Selector) -> u64 {
        let text: Box<str> = selector.to_string().into();
        let of = |scope: Scope| self.ever.get(&(scope, text.clone())).map_or(0, HashSet::len);
        u64::try_from(of(Scope::Service(service)) + of(Scope::Shared)).unwrap_or(u64::MAX)
    }

    /// Did a target of this source ever show a metric that the selector may mean; and if so, is it of backstop's own
    /// making?
    pub(super) fn source_has(&self, meta: &TargetMeta, selector: &Selector) -> Option<bool> {
        let names = self.sources.get(&(meta.scope, Arc::clone(&meta.source)))?;
        if let Some(name) = selector.exact_name() {
            return names.get(name).copied();
        }
        let mut meant = names.iter().filter(|(name, _)| selector.matches_name(name)).map(|(_, own)| *own);
        let first = meant.next()?;
        Some(first && meant.all(|own| own))
    }

    /// The targets whose series the expressions of a service see, also those that went away within a window.
    pub(super) fn seen_by(&self, service: ServiceId) -> impl Iterator<Item = &Target> {
        self.targets.values().filter(move |target| match target.meta.scope {
            Scope::Service(of) => of == service,
            Scope::Shared => true,
        })
    }

    /// Gives each series that a selector matches to `found`, with its target; target after target.
    pub(super) fn select<'a>(
        &'a self,
        service: ServiceId,
        selector: &Selector,
        mut found: impl FnMut(&'a Target, &'a Series),
    ) {
        for target in self.seen_by(service) {
            target.select(selector, |series| found(target, series));
        }
    }
}

impl Scope {
    fn order(self) -> (u8, u32) {
        match self {
            Scope::Service(service) => (0, service.0),
            Scope::Shared => (1, 0),
        }
    }
}

/// FNV-1a over the label set: the same in every run and on every machine, since it is kept in the checkpoint.
fn stable_hash(labels: &Labels) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    let mut eat = |byte: u8| hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    for (name, value) in labels.iter() {
        name.bytes().chain([0xff]).chain(value.bytes()).chain([0xfe]).for_each(&mut eat);
    }
    hash
}
