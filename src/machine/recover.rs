//! Taking up what an earlier daemon left: the same functions that run live, applied to the recorded entries.

use std::sync::Arc;
use std::time::Duration;

use super::absent::{Absent, OpenNotices, service_of};
use super::checkpoint::{Checkpoint, EverMatched};
use super::notices::UNREADABLE;
use super::output::{LogLevel, Output};
use super::service::{Raised, Service};
use super::{Machine, Pause};
use crate::decide::event::{
    Entry, IncidentEvent, IncidentId, NoticeStatus, Outcome, Record, Seq, StepResult, WhyHuman,
};
use crate::decide::incident::{Incident, State};
use crate::decide::release::{Change, Named};
use crate::decide::worsened::Measure;
use crate::promql::{EverDump, Scope, ServiceId};
use crate::time::{Now, Timestamp};

/// What was found on the disk.
#[derive(Debug, Default)]
pub struct Recovered {
    /// All records, oldest first.
    pub records: Vec<Record>,
    pub unreadable: Vec<Unreadable>,
    /// The newest entry, readable or not: numbering goes on behind it.
    pub last: Seq,
    pub checkpoint: Option<Checkpoint>,
}

/// An entry that this version cannot read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unreadable {
    pub seq: Seq,
    /// One sentence.
    pub why: String,
    /// The incident it belongs to, where at least that can be read; without it, it may belong to any.
    pub incident: Option<IncidentId>,
}

impl Machine {
    /// Services of the rules in force; one that is gone stays, retired, for its history.
    pub(super) fn adopt_services(&mut self, now: &Now) {
        let rules = Arc::clone(&self.rules);
        for service in &mut self.services {
            // `adopt` takes back those that are there again.
            service.retired |= !rules.services.iter().any(|rules| rules.name == service.rules.name);
        }
        for rules in &rules.services {
            if let Some(index) = self.service_index(&rules.name) {
                self.services[index].adopt(rules, now.monotonic);
            } else {
                let id = ServiceId(u32::try_from(self.services.len()).unwrap_or(u32::MAX));
                self.services.push(Service::new(id, rules, now.monotonic));
                self.come_back(self.services.len() - 1, now);
            }
        }
    }

    pub(super) fn recover(&mut self, recovered: Recovered, now: &Now, out: &mut Vec<Output>) {
        if let Some(first) = recovered.records.first() {
            self.founded = first.wall;
        }
        let last = recovered.records.last().map(|record| record.at);
        let mut open = OpenNotices::default();
        let mut unreadable_told = false;
        for record in recovered.records {
            self.seq = self.seq.max(record.seq);
            if let Entry::NoticeQueued { notice, receivers } = &record.entry {
                open.follow(notice, receivers);
                if notice.dedup_key.ends_with(UNREADABLE) {
                    unreadable_told = notice.status == NoticeStatus::Firing;
                }
            }
            self.replay(record);
        }
        self.seq = self.seq.max(recovered.last);
        self.durable = self.seq;
        let seen = recovered.checkpoint.as_ref().map(|checkpoint| checkpoint.now.monotonic).max(last);
        if let Some(seen) = seen {
            for service in &mut self.services {
                service.releases.resume(seen.min(now.monotonic));
            }
        }
        if let Some(mut checkpoint) = recovered.checkpoint {
            // Without the kernel's count only the wall tells what has passed since, and this one was set back.
            if checkpoint.now.boot != now.boot && now.wall < checkpoint.now.wall {
                checkpoint.verdicts.clear();
                checkpoint.windows.clear();
            }
            self.recover_triggers(&checkpoint, last.unwrap_or(Timestamp::MIN), now);
            for EverMatched { service, selector, series } in checkpoint.ever {
                let scope = match service {
                    None => Scope::Shared,
                    Some(name) => match self.service_index(&name) {
                        Some(index) => Scope::Service(self.services[index].id),
                        None => continue,
                    },
                };
                self.store.restore_ever(&EverDump { scope, selector, series });
            }
            self.recovered_windows = checkpoint.windows;
            self.forget_old_release(checkpoint.now.monotonic, now);
        }
        for service in &mut self.services {
            let Some(change) = &service.releases.change else { continue };
            let until = change.first_seen + service.rules.startup;
            if change.old_last_seen.is_some() && now.monotonic < until {
                service.starting = Some((change.release.clone(), until));
            }
        }
        self.record(
            now,
            Entry::DaemonStarted {
                version: env!("CARGO_PKG_VERSION").to_owned(),
                config_hash: self.rules.hash.to_string(),
            },
        );
        self.recover_dependencies(now);
        self.resolve_what_is_gone(open, now);
        self.resume_incidents(now, out);
        if recovered.unreadable.is_empty() && unreadable_told {
            self.tell_unreadable(now, NoticeStatus::Resolved, "every entry of the journal can be read again");
        }
        self.report_unreadable(&recovered.unreadable, now, out);
    }

    fn recover_triggers(&mut self, checkpoint: &Checkpoint, lived_until: Timestamp, now: &Now) {
        for dump in &checkpoint.verdicts {
            if let Some(index) = self.service_index(&dump.service) {
                self.services[index].restore_verdict(dump, lived_until, now.monotonic);
            }
        }
        for dump in &checkpoint.baselines {
            if let Some(index) = self.service_index(&dump.service) {
                self.services[index].restore_baseline(dump);
            }
        }
    }

    /// A checkpoint may be older than the latest change of release: what it remembers of the old release must not count
    /// against the new one.
    fn forget_old_release(&mut self, checkpoint: Timestamp, now: &Now) {
        for service in &mut self.services {
            let Some(change) = service.releases.change.as_ref().filter(|change| change.first_seen > checkpoint) else {
                continue;
            };
            // What happened between the checkpoint and the last sight of the old release is not remembered: a breach may
            // have begun in it, so that only a Clear proves that the new one did not inherit it.
            let unseen = change.old_last_seen.map_or(Duration::MAX, |seen| seen.since(checkpoint));
            for (trigger, state) in service.rules.triggers.iter().zip(&mut service.triggers) {
                state.release_changed(trigger, now.monotonic, change.old_last_seen);
                for verdict in state.verdicts.values_mut() {
                    let measure = Measure::of(trigger, service.rules.guard.worsened_by);
                    // Nor is it known how bad it was then.
                    let known = change.old_last_seen.filter(|_| unseen <= trigger.patience());
                    verdict.baseline_from(known, measure);
                }
            }
        }
    }

    /// What an entry means for the service that it is about.
    pub(super) fn replay_of_service(&mut self, index: usize, record: &Record) {
        let at = record.at;
        let service = &mut self.services[index];
        match &record.entry {
            Entry::ReleaseSeen { release, old_last_seen, first_seen, installed_by, named_by, .. } => {
                service.releases.take(Change {
                    release: release.clone(),
                    previous: service.releases.judged.clone(),
                    old_last_seen: *old_last_seen,
                    first_seen: *first_seen,
                    returned: service.releases.known().iter().any(|known| known.release == *release),
                    installed_by: installed_by.clone(),
                });
                service.releases.was_named_by(named_by.as_deref());
                if old_last_seen.is_some() {
                    service.windows_from = service.windows_from.max(*first_seen);
                }
            }
            Entry::ReleaseNamed { first, detector, value, release, .. } => service.releases.remember(Named {
                first: Arc::from(first.as_str()),
                detector: Arc::from(detector.as_str()),
                value: value.clone(),
                release: release.clone(),
            }),
            Entry::ReleaseGood { release, .. } => service.releases.mark_good(release),
            Entry::ReleaseBad { release, incident, .. } => service.releases.mark_bad(release, incident.clone()),
            Entry::ReleaseForgotten { release, .. } => drop(service.releases.forget(&release.0)),
            Entry::Paused { until, actor, reason, .. } => {
                service.pause = Some(Pause { until: *until, actor: actor.clone(), reason: reason.clone() });
            }
            Entry::Resumed { .. } => service.pause = None,
            Entry::KillSwitch { service, on, actor, reason } => {
                self.set_kill(service.as_deref(), *on, at, actor, reason);
            }
            Entry::SignalRaised { signal, until, detail, .. } => {
                service.signals.insert(signal.clone(), Raised { until: *until, detail: detail.clone() });
            }
            Entry::SignalCleared { signal, .. } => drop(service.signals.remove(signal)),
            Entry::DaemonStarted { .. }
            | Entry::Command(_)
            | Entry::Incident { .. }
            | Entry::NoticeQueued { .. }
            | Entry::NoticeDelivered { .. }
            | Entry::NoticeDead { .. }
            | Entry::NoticeFellBack { .. } => {}
        }
    }

    // Length: one arm per kind of entry.
    fn replay(&mut self, record: Record) {
        let at = record.at;
        if let Entry::ReleaseSeen { service, release, .. } = &record.entry {
            for incident in self.incidents.values_mut().filter(|incident| incident.service == *service) {
                if incident.state.is_open() {
                    incident.saw(release);
                }
            }
        }
        if let Some(service) = service_of(&record.entry) {
            if let Some(index) = self.service_index(service) {
                self.replay_of_service(index, &record);
            } else {
                let service = service.to_owned();
                self.remember_absent(service, Absent::Recorded(record));
            }
            return;
        }
        match &record.entry {
            Entry::DaemonStarted { .. }
            | Entry::ReleaseSeen { .. }
            | Entry::ReleaseNamed { .. }
            | Entry::ReleaseGood { .. }
            | Entry::ReleaseBad { .. }
            | Entry::ReleaseForgotten { .. }
            | Entry::SignalRaised { .. }
            | Entry::SignalCleared { .. }
            | Entry::Command(_) => {}
            Entry::Incident { incident, event } => {
                let id = incident.clone();
                if let Some(incident) = self.incidents.get_mut(&id) {
                    // Effects were sent when the event was recorded; what is still to do follows from the state.
                    drop(incident.apply(event, at));
                    if let IncidentEvent::Admitted { .. } = &**event {
                        let service = Arc::from(incident.service.as_str());
                        self.admissions.push((service, id.clone(), at));
                    }
                    self.follow_override(&id, event, at);
                } else if let Some(opened) = Incident::open(id.clone(), event, at) {
                    self.incidents.insert(id.clone(), opened);
                }
                if let Some((service, release)) = self.doubtful(&id, event) {
                    if self.service_index(&service).is_some() {
                        self.doubt(&service, &release);
                    } else {
                        self.remember_absent(service, Absent::Doubted(release));
                    }
                }
                if let IncidentEvent::LevelFinished { at: finished, .. } = **event {
                    let service = self.incidents.get(&id).map(|incident| incident.service.clone());
                    if let Some(index) = service.and_then(|service| self.service_index(&service)) {
                        let service = &mut self.services[index];
                        service.windows_from = service.windows_from.max(finished);
                    }
                }
                self.remember(&id, record);
            }
            Entry::NoticeQueued { notice, receivers } => {
                if let Some(incident) = notice.incident.as_ref().and_then(|id| self.incidents.get_mut(id)) {
                    incident.notices = incident.notices.max(notice.seq);
                    incident.told_to.clone_from(receivers);
                }
                self.outbox.replay_queued((**notice).clone(), receivers, record.seq, at);
            }
            Entry::NoticeDelivered { notice, receiver } => self.outbox.replay_gone(notice, receiver, None),
            Entry::NoticeDead { notice, receiver, why } => self.outbox.replay_gone(notice, receiver, Some(why)),
            Entry::NoticeFellBack { notice, receiver, fallback } => {
                self.outbox.replay_fell_back(notice, receiver, fallback, record.seq, at);
            }
            Entry::Paused { until, actor, reason, .. } => {
                self.pause = Some(Pause { until: *until, actor: actor.clone(), reason: reason.clone() });
            }
            Entry::Resumed { .. } => self.pause = None,
            Entry::KillSwitch { on, actor, reason, .. } => self.set_kill(None, *on, at, actor, reason),
        }
    }

    /// A step that was intended and not finished is ambiguous: its processes ended with the daemon, but how far they
    /// came nobody knows.
    fn resume_incidents(&mut self, now: &Now, out: &mut Vec<Output>) {
        let open: Vec<_> = self
            .incidents
            .values()
            .filter(|i| i.state.is_open() || i.in_flight.is_some())
            .map(|i| i.id.clone())
            .collect();
        for id in open {
            let Some(incident) = self.incidents.get_mut(&id) else { continue };
            // Nothing was read yet in this run: the detectors get their time.
            incident.unread_since = Some(now.monotonic);
            if let State::Verifying { finished, .. } = incident.state {
                // Downtime is no verification: its limits count from here.
                incident.soak = crate::decide::verify::Soak::from(finished.max(now.monotonic));
            }
            if let Some(attempt) = incident.in_flight {
                let result = StepResult {
                    outcome: Outcome::Ambiguous,
                    detail: "backstop was stopped while the step was under way".to_owned(),
                    output: String::new(),
                    truncated: false,
                    captures: std::collections::BTreeMap::new(),
                    duration_ms: 0,
                };
                self.step_finished(now, &id, attempt, result, out);
            }
        }
    }

    /// An entry that cannot be read is never guessed at: what was under way when it was written needs a human.
    fn report_unreadable(&mut self, unreadable: &[Unreadable], now: &Now, out: &mut Vec<Output>) {
        let Some(Unreadable { seq, why, .. }) = unreadable.first() else { return };
        let text = format!(
            "the journal holds {} entries that this version cannot read, first {}: {why}",
            unreadable.len(),
            seq.0
        );
        out.push(Output::Log { level: LogLevel::Error, service: None, message: text.clone() });
        self.tell_unreadable(now, NoticeStatus::Firing, &text);
        let open = self.incidents.values().filter(|incident| incident.state.is_open());
        let hit = open.filter(|incident| unreadable.iter().any(|entry| self.has_lost(&incident.id, entry)));
        let hit: Vec<_> = hit.map(|incident| incident.id.clone()).collect();
        for id in hit {
            let event = IncidentEvent::NeedsHuman { why: WhyHuman::Unreadable, text: text.clone() };
            self.incident_event(&id, event, now, out);
        }
    }

    /// May the entry have been one of the incident's, and has no person heard of it yet? An incident that was opened later
    /// has lost nothing, and what was told once is not told again at each start.
    fn has_lost(&self, id: &IncidentId, entry: &Unreadable) -> bool {
        let Some(history) = self.histories.get(id) else { return false };
        let opened_before = history.first().is_some_and(|opened| opened.seq < entry.seq);
        let told = history.iter().any(|record| {
            let Entry::Incident { event, .. } = &record.entry else { return false };
            record.seq > entry.seq && matches!(**event, IncidentEvent::NeedsHuman { why: WhyHuman::Unreadable, .. })
        });
        entry.incident.as_ref().is_none_or(|of| of == id) && opened_before && !told
    }
}
