//! One target: its series, its process, and when it was watched.

use std::collections::BTreeMap;
use std::time::Duration;

use super::clock::Clock;
use super::column::grow;
use super::interest::{Keep, Retention};
use super::ring::{Ring, RingView, is_stale, stale_marker};
use super::watch::{Watch, tolerance};
use super::{Batch, LocalId, TargetDump, TargetMeta};
use crate::promql::{Labels, Places, Selector};
use crate::time::Timestamp;

/// A scrape keeps at most 50,000 samples; beyond twice that, series that have ended are dropped at once, whatever
/// window they were kept for.
const SERIES_MAX: usize = 100_000;

#[derive(Clone, Debug)]
pub(in crate::promql) struct Series {
    pub labels: Labels,
    /// Made by backstop itself, beside the scrapes.
    pub own: bool,
    pub(super) ring: Ring,
    keep: Keep,
    local: Option<LocalId>,
    /// The target's `process` when the newest sample was taken.
    process: u32,
    /// Its name is among those that the target has shown.
    shown: bool,
}

/// The slots of all series of one metric, and which of them each selector that names this metric means: expressions
/// are evaluated far more often than series are born.
#[derive(Clone, Debug, Default)]
struct Named {
    slots: Vec<usize>,
    selected: Vec<(Selector, Vec<usize>)>,
}

impl Named {
    fn of(name: &str, retention: &Retention) -> Named {
        let selected = retention.selectors_naming(name).map(|selector| (selector.clone(), Vec::new())).collect();
        Named { slots: Vec::new(), selected }
    }

    fn insert(&mut self, slot: usize, labels: &Labels) {
        self.slots.push(slot);
        for (selector, slots) in &mut self.selected {
            if selector.matches(labels) {
                slots.push(slot);
            }
        }
    }

    fn remove(&mut self, slot: usize) {
        self.slots.retain(|one| *one != slot);
        for (_, slots) in &mut self.selected {
            slots.retain(|one| *one != slot);
        }
    }
}

/// The slot that each local id stands for. Ids are dense, so they are places.
#[derive(Clone, Debug, Default)]
struct Locals(Vec<Option<u32>>);

impl Locals {
    fn get(&self, local: LocalId) -> Option<usize> {
        self.0.get(local.0 as usize)?.map(|slot| slot as usize)
    }

    /// Returns the slot that the id stood for before.
    fn insert(&mut self, local: LocalId, slot: usize) -> Option<usize> {
        let place = local.0 as usize;
        if place >= self.0.len() {
            self.0.resize(place + 1, None);
        }
        let before = self.get(local);
        self.0[place] = u32::try_from(slot).ok();
        before
    }

    fn remove(&mut self, local: LocalId) -> Option<usize> {
        self.0.get_mut(local.0 as usize)?.take().map(|slot| slot as usize)
    }

    fn clear(&mut self) {
        self.0.clear();
    }
}

/// For [`Places`], which has no places of empty slots.
fn labels_at<'s>(series: &'s [Option<Series>]) -> impl Fn(usize) -> &'s Labels {
    |slot| &series[slot].as_ref().expect("a series").labels
}

impl Series {
    pub fn is_live(&self) -> bool {
        self.ring.newest().is_some_and(|newest| !is_stale(newest.value))
    }
}

#[derive(Clone, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "four facts that vary independently")]
pub(in crate::promql) struct Target {
    pub meta: TargetMeta,
    pub attached: bool,
    /// The latest attempt to scrape it failed.
    pub failing: bool,
    /// The next scrape is the first that counts: what is born in it is a baseline, not an increase from zero.
    baseline: bool,
    /// The next scrape comes from a task that announces all its series anew; those it does not show have vanished.
    resync: bool,
    process_start: Option<f64>,
    /// Counts the processes seen behind this address.
    process: u32,
    pub scrapes: Watch,
    pub own: Watch,
    pub(super) clock: Clock,
    /// Slots; an empty one is used again.
    series: Vec<Option<Series>>,
    free: Vec<usize>,
    locals: Locals,
    by_labels: Places,
    /// In order, so that a selector of several names finds its series in the same one in every run.
    by_name: BTreeMap<Box<str>, Named>,
    /// Names of metrics shown since the windows began.
    pub shown: std::collections::HashSet<Box<str>>,
}

impl Target {
    pub(super) fn new(meta: TargetMeta) -> Target {
        Target {
            meta,
            attached: true,
            failing: false,
            baseline: true,
            resync: false,
            process_start: None,
            process: 0,
            scrapes: Watch::default(),
            own: Watch::default(),
            clock: Clock::default(),
            series: Vec::new(),
            free: Vec::new(),
            locals: Locals::default(),
            by_labels: Places::default(),
            by_name: BTreeMap::new(),
            shown: std::collections::HashSet::new(),
        }
    }

    pub(super) fn reattach(&mut self, meta: TargetMeta) {
        self.meta = meta;
        self.attached = true;
        self.baseline = true;
        self.resync = true;
    }

    pub fn tolerance(&self) -> Duration {
        tolerance(self.meta.interval)
    }

    /// Was the target watched until just before this instant, by the source of such a series?
    pub fn was_watched_until(&self, own: bool, at: Timestamp) -> bool {
        if own { self.own.until(at, self.tolerance()) } else { self.scrapes.until(at, self.tolerance()) }
    }

    pub fn watch(&self, own: bool) -> &Watch {
        if own { &self.own } else { &self.scrapes }
    }

    pub fn observed(&self, own: bool, after: Timestamp, until: Timestamp) -> Duration {
        self.watch(own).observed(after, until, self.tolerance())
    }

    /// The window of one of its series.
    pub fn ring<'a>(&'a self, series: &'a Series) -> RingView<'a> {
        series.ring.view(&self.clock)
    }

    pub fn all(&self) -> impl Iterator<Item = &Series> {
        self.series.iter().flatten()
    }

    pub fn select<'a>(&'a self, selector: &Selector, mut found: impl FnMut(&'a Series)) {
        let series = |slot: &usize| self.series.get(*slot).and_then(Option::as_ref);
        let matches = |series: &&Series| selector.matches(&series.labels);
        let Some(name) = selector.exact_name() else {
            let names = self.by_name.iter().filter(|(name, _)| selector.matches_name(name));
            names.flat_map(|(_, named)| &named.slots).filter_map(series).filter(matches).for_each(found);
            return;
        };
        let Some(named) = self.by_name.get(name) else { return };
        match named.selected.iter().find(|(one, _)| one == selector) {
            Some((_, slots)) => slots.iter().filter_map(series).for_each(&mut found),
            None => named.slots.iter().filter_map(series).filter(matches).for_each(found),
        }
    }

    /// The slot of a series; a new one if nobody has it yet. `true` if it is new.
    fn slot(&mut self, labels: &Labels, own: bool, keep: Keep, retention: &Retention) -> (usize, bool) {
        if let Some(slot) = self.by_labels.find(labels, labels_at(&self.series)) {
            return (slot, false);
        }
        if self.by_labels.len() >= SERIES_MAX {
            self.sweep(Timestamp::MAX, retention);
        }
        let series = Series {
            labels: labels.clone(),
            own,
            ring: Ring::default(),
            keep,
            local: None,
            process: self.process,
            shown: false,
        };
        let slot = if let Some(slot) = self.free.pop() {
            self.series[slot] = Some(series);
            slot
        } else {
            grow(&mut self.series);
            self.series.push(Some(series));
            self.series.len() - 1
        };
        self.by_labels.insert(slot, labels_at(&self.series));
        let named = self.by_name.entry(labels.name().into()).or_insert_with(|| Named::of(labels.name(), retention));
        named.insert(slot, labels);
        (slot, true)
    }

    /// A successful scrape. Returns the series that were never seen on this target.
    pub(super) fn push(&mut self, at: Timestamp, batch: &Batch, retention: &Retention) -> Vec<Labels> {
        if let Some(start) = batch.process_start {
            if self.process_start.is_some_and(|before| before.to_bits() != start.to_bits()) {
                self.process += 1;
            }
            self.process_start = Some(start);
        }
        // A task that has just started may ask for other series than the one before: what it shows first is no birth.
        let counts_from_zero = !self.baseline && !batch.rebind && self.scrapes.until(at, self.tolerance());
        if batch.rebind {
            self.locals.clear();
            for series in self.series.iter_mut().flatten() {
                series.local = None;
            }
            self.resync = true;
        }
        self.clock.tick(at);
        for local in &batch.vanished {
            self.vanish(*local, at);
        }
        let mut fresh = Vec::new();
        for (local, labels) in &batch.born {
            let Some(keep) = retention.keep(labels) else { continue };
            let (slot, is_new) = self.slot(labels, false, keep, retention);
            self.bind(*local, slot);
            if is_new {
                fresh.push(labels.clone());
            }
            if let Some(series) = self.series[slot].as_mut() {
                // Of one that comes back, as after a restart, the scraping task holds labels of its own.
                series.labels.clone_from(labels);
                if series.ring.is_empty() {
                    series.ring.from_zero = counts_from_zero;
                }
            }
        }
        for (local, value) in &batch.samples {
            let Some(series) = self.locals.get(*local).and_then(|slot| self.series[slot].as_mut()) else { continue };
            if series.own {
                continue;
            }
            let replaced = series.process != self.process;
            series.process = self.process;
            series.ring.push(at, *value, replaced, &self.clock);
            let reach = series.keep.reach + self.meta.interval;
            series.ring.forget_before(at - reach, series.keep.samples as usize, &self.clock);
            if !series.shown {
                series.shown = true;
                self.shown.insert(series.labels.name().into());
            }
        }
        if self.resync {
            self.mark_stale(at, |series| !series.own && series.ring.newest().is_some_and(|newest| newest.at < at));
        }
        self.scrapes.note(at, tolerance(self.meta.interval));
        self.scrapes.forget_before(at - self.horizon(retention));
        self.baseline = false;
        self.resync = false;
        self.failing = false;
        fresh
    }

    fn horizon(&self, retention: &Retention) -> Duration {
        let by_samples = self.meta.interval.saturating_mul(retention.most_samples);
        retention.longest.max(by_samples) + self.tolerance() + self.meta.interval
    }

    fn bind(&mut self, local: LocalId, slot: usize) {
        let before = self.series[slot].as_ref().and_then(|series| series.local);
        if let Some(before) = before
            && self.locals.get(before) == Some(slot)
        {
            self.locals.remove(before);
        }
        if let Some(other) = self.locals.insert(local, slot)
            && other != slot
            && let Some(series) = self.series[other].as_mut()
        {
            series.local = None;
        }
        if let Some(series) = self.series[slot].as_mut() {
            series.local = Some(local);
        }
    }

    fn vanish(&mut self, local: LocalId, at: Timestamp) {
        let Some(series) = self.locals.remove(local).and_then(|slot| self.series[slot].as_mut()) else { return };
        series.local = None;
        if series.is_live() {
            series.ring.push(at, stale_marker(), false, &self.clock);
        }
    }

    pub(super) fn fail(&mut self, at: Timestamp) {
        self.mark_stale(at, |series| !series.own);
        self.baseline = true;
        self.failing = true;
    }

    pub(super) fn detach(&mut self, at: Timestamp) {
        self.mark_stale(at, |_| true);
        self.locals.clear();
        for series in self.series.iter_mut().flatten() {
            series.local = None;
        }
        self.attached = false;
    }

    fn mark_stale(&mut self, at: Timestamp, which: impl Fn(&Series) -> bool) {
        for series in self.series.iter_mut().flatten() {
            if series.is_live() && which(series) {
                self.clock.tick(at);
                series.ring.push(at, stale_marker(), false, &self.clock);
            }
        }
    }

    /// One sample of backstop's own. Returns whether the series is new.
    pub(super) fn push_own(&mut self, at: Timestamp, labels: &Labels, value: f64, retention: &Retention) -> bool {
        let Some(keep) = retention.keep(labels) else { return false };
        let (slot, is_new) = self.slot(labels, true, keep, retention);
        if let Some(series) = self.series[slot].as_mut() {
            // A target that exposes a name of ours: what we measured counts, not what it says.
            series.own = true;
            series.ring.push(at, value, false, &self.clock);
            let reach = keep.reach + self.meta.interval;
            series.ring.forget_before(at - reach, keep.samples as usize, &self.clock);
        }
        if !self.shown.contains(labels.name()) {
            self.shown.insert(labels.name().into());
        }
        self.own.note(at, tolerance(self.meta.interval));
        self.own.forget_before(at - self.horizon(retention));
        is_new
    }

    pub(super) fn restart(&mut self, from: Timestamp) {
        self.shown.clear();
        for series in self.series.iter_mut().flatten() {
            series.ring.restart(from, &self.clock);
            series.shown = series.is_live();
            if series.shown {
                self.shown.insert(series.labels.name().into());
            }
        }
        let tolerance = self.tolerance();
        self.scrapes.restart(from, tolerance);
        self.own.restart(from, tolerance);
        // A scrape at that very instant or later is already the first of the new windows.
        self.baseline = self.scrapes.newest().is_none();
    }

    pub(super) fn retarget(&mut self, retention: &Retention) {
        for slot in 0..self.series.len() {
            let Some(series) = self.series[slot].as_mut() else { continue };
            match retention.keep(&series.labels) {
                Some(keep) => series.keep = keep,
                None => self.remove(slot),
            }
        }
        for (name, named) in &mut self.by_name {
            let slots = std::mem::replace(named, Named::of(name, retention)).slots;
            for slot in slots {
                if let Some(series) = &self.series[slot] {
                    named.insert(slot, &series.labels);
                }
            }
        }
        let by_name = &self.by_name;
        self.shown.retain(|name| by_name.contains_key(name));
        self.baseline = true;
        self.resync = true;
    }

    fn remove(&mut self, slot: usize) {
        let Some(series) = self.series[slot].take() else { return };
        if let Some(local) = series.local {
            self.locals.remove(local);
        }
        self.by_labels.remove(&series.labels, slot);
        if let Some(named) = self.by_name.get_mut(series.labels.name()) {
            named.remove(slot);
            if named.slots.is_empty() {
                self.by_name.remove(series.labels.name());
            }
        }
        self.free.push(slot);
    }

    /// Drops series that have ended and that no window at `now` or later reaches, and instants that no series needs.
    pub(super) fn sweep(&mut self, now: Timestamp, retention: &Retention) {
        for slot in 0..self.series.len() {
            let Some(series) = &self.series[slot] else { continue };
            let Some(newest) = series.ring.newest() else { continue };
            let reach = series.keep.reach + self.meta.interval.saturating_mul(series.keep.samples.saturating_add(1));
            if is_stale(newest.value) && newest.at <= now - reach && series.local.is_none() {
                self.remove(slot);
            }
        }
        let mut needed = usize::MAX;
        for series in self.series.iter_mut().flatten() {
            series.ring.share(&self.clock);
            needed = needed.min(series.ring.shared_from().unwrap_or(usize::MAX));
        }
        self.clock.forget_before(now - self.horizon(retention), needed);
    }

    pub(super) fn is_spent(&self) -> bool {
        !self.attached && self.by_labels.is_empty()
    }

    pub(super) fn process_start(&self) -> Option<f64> {
        self.process_start
    }

    /// All series, each with its slot.
    pub(super) fn places(&self) -> impl Iterator<Item = (usize, &Series)> {
        self.series.iter().enumerate().filter_map(|(slot, series)| Some((slot, series.as_ref()?)))
    }

    /// Returns the labels of what was put back.
    pub(super) fn restore(&mut self, dump: TargetDump, retention: &Retention) -> Vec<(Labels, bool)> {
        let tolerance = self.tolerance();
        self.process_start = dump.process_start;
        for at in dump.scrapes.iter() {
            self.scrapes.note(at, tolerance);
        }
        let scraped = dump.series.iter().filter(|series| !series.own).map(|series| series.samples.lend());
        self.clock = Clock::of(dump.scrapes, scraped);
        let mut own: Vec<Timestamp> = Vec::new();
        let mut back = Vec::new();
        for series in dump.series {
            let Some(keep) = retention.keep(&series.labels) else { continue };
            let (slot, _) = self.slot(&series.labels, series.own, keep, retention);
            let Some(slot) = self.series[slot].as_mut() else { continue };
            slot.own = series.own;
            if series.own {
                own.extend(series.samples.iter().filter(|point| !is_stale(point.value)).map(|point| point.at));
            }
            slot.ring = Ring::restored(series.samples, &series.replaced, series.from_zero, &self.clock);
            slot.process = self.process;
            self.shown.insert(series.labels.name().into());
            back.push((series.labels, series.own));
        }
        own.sort_unstable();
        for at in own {
            self.own.note(at, tolerance);
        }
        self.baseline = true;
        self.resync = true;
        back
    }
}
