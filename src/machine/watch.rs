//! Observations become samples, readings of detectors, and the state of targets and references.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use super::Machine;
use super::input::{Observation, ProbeOutcome, Scrape, ScrapeFailure, TargetKey, TargetKind};
use super::output::{LogLevel, Output};
use super::safety::PROBE;
use super::service::Service;
use crate::decide::rules::DetectorKind;
use crate::promql::{Labels, Scope, ServiceId, TargetId, TargetMeta};
use crate::time::{Now, Timestamp};

/// A reference that was up within this time is one to compare with (DESIGN §4, guard 4).
const REFERENCE_MEMORY: Duration = Duration::from_mins(10);

/// A look counts as recent for this many intervals.
pub const RECENT_INTERVALS: u32 = 3;

#[derive(Debug)]
pub struct Target {
    pub key: TargetKey,
    pub labels: Labels,
    pub interval: Duration,
    pub scope: Scope,
    pub last: Option<Look>,
    /// Since when every look got through, if the latest one did.
    pub reached_since: Option<Timestamp>,
    /// The latest look that failed.
    pub down: Option<Timestamp>,
    pub series: usize,
    /// Of a query: how much of the window that it looks back over counts, and that window, while that is not all of it.
    pub filling: Option<(Duration, Duration)>,
}

/// The latest look at a target.
#[derive(Clone, Debug)]
pub struct Look {
    pub at: Timestamp,
    pub ok: bool,
    /// Something answered, if only by refusing: the way to it is open.
    pub reached: bool,
    /// We could ask at all.
    pub sent: bool,
    pub error: Option<String>,
}

#[derive(Debug, Default)]
pub struct ReferenceState {
    /// Recent answers: instant, and whether it was up.
    pub looks: VecDeque<(Timestamp, bool)>,
}

impl ReferenceState {
    /// Up now, having been looked at since `since`.
    pub fn is_up(&self, since: Timestamp) -> bool {
        self.looks.back().is_some_and(|(at, up)| *up && *at >= since)
    }

    /// Since when every look found it up, if the latest one did.
    pub fn up_since(&self) -> Option<Timestamp> {
        self.looks.iter().rev().take_while(|(_, up)| *up).last().map(|(at, _)| *at)
    }

    pub fn was_up(&self, now: Timestamp) -> bool {
        self.looks.iter().any(|(at, up)| *up && now.since(*at) <= REFERENCE_MEMORY)
    }
}

impl Target {
    pub(super) fn saw(&mut self, look: Look) {
        self.reached_since = look.reached.then(|| self.reached_since.unwrap_or(look.at));
        self.last = Some(look);
    }
}

impl Machine {
    pub(super) fn observe(&mut self, now: &Now, observation: Observation, out: &mut Vec<Output>) {
        match observation {
            Observation::TargetUp { target, key, labels, interval } => self.target_up(target, key, labels, interval),
            Observation::TargetGone { target, at } => self.target_gone(target, at),
            Observation::Scraped { target, at, duration, outcome } => {
                self.scraped(target, at, duration, outcome, out);
            }
            Observation::Probed { target, at, duration, outcome } => self.probed(target, at, duration, outcome),
            Observation::Queried { target, at, duration, outcome } => {
                self.queried(target, at, duration, outcome, out);
            }
            Observation::Release { service, detector, at, outcome } => {
                if let Some(index) = self.service_index(&service) {
                    let changed = self.services[index].releases.read(detector, None, outcome, at);
                    if changed {
                        self.restart_windows(index, at);
                    }
                }
            }
            Observation::Reference { name, at, up } => {
                let looks = &mut self.references.entry(name).or_default().looks;
                looks.push_back((at, up));
                while looks.front().is_some_and(|(first, _)| now.monotonic.since(*first) > REFERENCE_MEMORY) {
                    looks.pop_front();
                }
            }
            Observation::Overrun { target, at } => {
                self.counters.overruns += 1;
                self.store.fail(target, at);
            }
        }
        self.unjudged = true;
    }

    fn target_up(&mut self, target: TargetId, key: TargetKey, labels: Labels, interval: Duration) {
        let scope = match &key.service {
            None => Scope::Shared,
            Some(name) => match self.service_index(name) {
                Some(index) => Scope::Service(self.services[index].id),
                None => return,
            },
        };
        let source = match key.kind {
            TargetKind::Scrape | TargetKind::Probe => Arc::clone(&key.source),
            // Of the same name as a scrape, it does not show what that shows. No name has a space.
            TargetKind::Query => Arc::from(format!("query {}", key.source)),
        };
        let meta = TargetMeta { scope, source, labels: labels.clone(), interval };
        self.store.attach(target, meta);
        if let Some(at) = self.recovered_windows.iter().position(|(saved, _)| *saved == key) {
            let (_, mut dump) = self.recovered_windows.swap_remove(at);
            if let Scope::Service(id) = scope
                && let Some(service) = self.services.iter().find(|service| service.id == id)
            {
                forget_before(&mut dump, service.windows_from);
            }
            self.store.restore(target, dump);
        }
        self.targets.insert(
            target,
            Target {
                key,
                labels,
                interval,
                scope,
                last: None,
                reached_since: None,
                down: None,
                series: 0,
                filling: None,
            },
        );
    }

    fn target_gone(&mut self, target: TargetId, at: Timestamp) {
        self.store.detach(target, at);
        self.targets.remove(&target);
        for service in &mut self.services {
            service.releases.target_gone(target);
        }
    }

    fn scraped(
        &mut self,
        id: TargetId,
        at: Timestamp,
        duration: Duration,
        outcome: Result<Scrape, ScrapeFailure>,
        out: &mut Vec<Output>,
    ) {
        let generation = self.rules.generation;
        let Some(target) = self.targets.get_mut(&id) else { return };
        let mut series = vec![("scrape_duration_seconds", duration.as_secs_f64())];
        let names = (service_label(&target.key), Arc::clone(&target.key.source));
        match outcome {
            // Selected by another interest set: what it lacks was not asked for then.
            Ok(scrape) if scrape.generation != generation => {
                self.store.fail(id, at);
                return;
            }
            Ok(scrape) => {
                series.push(("up", 1.0));
                #[expect(clippy::cast_precision_loss, reason = "a body holds far fewer than 2^52 samples")]
                series.push(("scrape_samples_scraped", scrape.samples_exposed as f64));
                target.series = scrape.batch.samples.len();
                target.saw(Look { at, ok: true, reached: true, sent: true, error: None });
                *self.counters.looks.entry(names).or_default() += 1;
                self.store.push(id, at, &scrape.batch);
            }
            Err(failure) => {
                series.push(("up", 0.0));
                let reached = !matches!(failure.reason, "timeout" | "dns" | "unsent" | "unreachable" | "secret");
                if target.last.as_ref().is_none_or(|last| last.ok) {
                    let message = format!("{}: scrape failed: {}", target.key.address, failure.detail);
                    out.push(Output::Log { level: LogLevel::Warn, service: target.key.service.clone(), message });
                }
                target.saw(Look { at, ok: false, reached, sent: true, error: Some(failure.detail) });
                *self.counters.failures.entry((names.0, names.1, failure.reason.to_owned())).or_default() += 1;
                self.store.fail(id, at);
                for service in &mut self.services {
                    service.releases.unread(id);
                }
            }
        }
        self.push_own(id, at, &series);
        self.read_metric_detectors(id, at);
        self.looked(id, at);
    }

    fn probed(&mut self, id: TargetId, at: Timestamp, duration: Duration, outcome: ProbeOutcome) {
        let Some(target) = self.targets.get_mut(&id) else { return };
        let names = (service_label(&target.key), Arc::clone(&target.key.source));
        let (success, status, release) = match outcome {
            ProbeOutcome::Up { status, release } => {
                target.saw(Look { at, ok: true, reached: true, sent: true, error: None });
                *self.counters.looks.entry(names).or_default() += 1;
                (1.0, status, release)
            }
            ProbeOutcome::Failed { status, why, reached, release } => {
                target.saw(Look { at, ok: false, reached, sent: true, error: Some(why) });
                *self.counters.failures.entry((names.0, names.1, "failed".to_owned())).or_default() += 1;
                (0.0, status, release)
            }
            ProbeOutcome::Unsent(why) => {
                target.saw(Look { at, ok: false, reached: false, sent: false, error: Some(why) });
                *self.counters.failures.entry((names.0, names.1, "unsent".to_owned())).or_default() += 1;
                self.looked(id, at);
                return;
            }
        };
        let mut series = vec![("probe_success", success), ("probe_duration_seconds", duration.as_secs_f64())];
        series.extend(status.map(|status| ("probe_http_status_code", f64::from(status))));
        let source = Arc::clone(&target.key.source);
        if let Scope::Service(of) = target.scope
            && let Some(service) = self.services.iter_mut().find(|service| service.id == of)
        {
            let failed = target.last.as_ref().filter(|look| !look.ok);
            service.probe_failed = failed.map(|_| (at, format!("{PROBE} {source}")));
        }
        self.push_own(id, at, &series);
        match release {
            Some(release) => self.read_probe_detectors(id, &source, &release, at),
            None => self.services.iter_mut().for_each(|service| service.releases.unread(id)),
        }
        self.looked(id, at);
    }

    /// What backstop itself measured of a target, by name.
    fn push_own(&mut self, id: TargetId, at: Timestamp, series: &[(&str, f64)]) {
        let Some(target) = self.targets.get(&id) else { return };
        for (name, value) in series {
            // Mostly nobody asks, and a label set costs more than the answer.
            if self.store.may_want(name) {
                self.store.push_own(id, at, &with_name(&target.labels, name), *value);
            }
        }
    }

    /// Marks what depends on a target as dirty, and ends a start-up that has succeeded.
    pub(super) fn looked(&mut self, id: TargetId, at: Timestamp) {
        let Some(target) = self.targets.get_mut(&id) else { return };
        let ok = target.last.as_ref().is_some_and(|look| look.ok);
        if !ok {
            target.down = Some(at);
        }
        let (scope, down_since) = (target.scope, target.down);
        // That somebody else answers about it is no sign of life.
        let may_start = ok && scope != Scope::Shared && target.key.kind != TargetKind::Query;
        for service in &mut self.services {
            if !sees(service, scope) {
                continue;
            }
            service.newest_look = service.newest_look.max(at);
            for trigger in &mut service.triggers {
                trigger.dirty = true;
            }
            let Some(began) = service.releases.change.as_ref().map(|change| change.first_seen) else { continue };
            // The first success of the new release: it has started. One of the old process, which may still answer, is
            // none: the target must show the new release, or have been down since it came.
            let has_started = service.releases.shows_judged(id).unwrap_or(down_since.is_some_and(|down| down >= began));
            if may_start && at > began && has_started {
                service.starting = None;
            }
        }
    }

    fn read_metric_detectors(&mut self, id: TargetId, at: Timestamp) {
        let Some(target) = self.targets.get(&id) else { return };
        let scope = target.scope;
        let mut restart = false;
        for service in self.services.iter_mut().filter(|service| sees(service, scope)) {
            for index in 0..service.rules.detectors.len() {
                let DetectorKind::Metric { selector, label } = &service.rules.detectors[index].kind else { continue };
                let values = self.store.label_values(selector, label, id);
                let value = match values.as_slice() {
                    [value] => Ok(value.clone()),
                    [] => continue,
                    [_, ..] => Err(format!("{selector} has several values of {label}: {}", values.join(", "))),
                };
                restart |= service.releases.read(index, Some(id), value, at);
            }
        }
        if restart {
            self.store.restart(id, at);
        }
    }

    fn read_probe_detectors(&mut self, id: TargetId, source: &str, release: &str, at: Timestamp) {
        let Some(service) = self.targets.get(&id).and_then(|target| target.key.service.clone()) else { return };
        let Some(index) = self.service_index(&service) else { return };
        let mut restart = false;
        for detector in 0..self.services[index].rules.detectors.len() {
            let DetectorKind::Probe { probe } = &self.services[index].rules.detectors[detector].kind else { continue };
            if **probe == *source {
                restart |= self.services[index].releases.read(detector, Some(id), Ok(release.to_owned()), at);
            }
        }
        // A probe shares its process with scrapes, but nothing says with which: all windows of the service start anew.
        if restart {
            self.restart_windows(index, at);
        }
    }

    /// What a service showed until now is no proof of anything: its windows start anew, and its triggers are looked at again.
    pub(super) fn forget_windows(&mut self, index: usize, now: &Now) {
        self.restart_windows(index, now.monotonic);
        for state in &mut self.services[index].triggers {
            state.dirty = true;
        }
    }

    /// What happened before `at` never counts again, on every target of the service.
    pub(super) fn restart_windows(&mut self, index: usize, at: Timestamp) {
        self.services[index].windows_from = self.services[index].windows_from.max(at);
        let ids: Vec<TargetId> = self.service_targets(self.services[index].id).collect();
        for id in ids {
            self.store.restart(id, at);
        }
    }

    pub(super) fn service_targets(&self, service: ServiceId) -> impl Iterator<Item = TargetId> {
        let own = move |target: &Target| target.scope == Scope::Service(service);
        self.targets.iter().filter(move |(_, target)| own(target)).map(|(id, _)| *id)
    }
}

/// Leaves of a checkpoint only what happened from `from` on.
fn forget_before(dump: &mut crate::promql::TargetDump, from: Timestamp) {
    while dump.scrapes.get(0).is_some_and(|at| at < from) {
        dump.scrapes.pop();
    }
    for series in &mut dump.series {
        let all = series.samples.len();
        while series.samples.first().is_some_and(|point| point.at < from) {
            series.samples.pop_front();
        }
        series.from_zero &= series.samples.len() == all;
    }
    dump.series.retain(|series| !series.samples.is_empty());
}

pub(super) fn sees(service: &Service, scope: Scope) -> bool {
    match scope {
        Scope::Shared => true,
        Scope::Service(id) => id == service.id,
    }
}

pub(super) fn service_label(key: &TargetKey) -> Arc<str> {
    key.service.clone().unwrap_or_else(|| Arc::from(""))
}

/// The labels of a series that backstop makes itself.
pub(super) fn with_name(labels: &Labels, name: &str) -> Labels {
    Labels::from_pairs(labels.iter().chain([("__name__", name)]))
}

/// Whether a target of this kind can tell that the way to it is open.
#[must_use]
pub fn is_recent(target: &Target, now: Timestamp) -> bool {
    target.last.as_ref().is_some_and(|look| now.since(look.at) <= target.interval * RECENT_INTERVALS)
}

impl TargetKind {
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            TargetKind::Scrape => "scrape",
            TargetKind::Probe => "probe",
            TargetKind::Query => "query",
        }
    }
}
