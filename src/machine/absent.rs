//! What leaves the configuration and what comes back: what was told of it is resolved, what was ordered for it holds.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::Machine;
use super::notices::{Told, topic};
use crate::decide::event::{Entry, Notice, NoticeKind, NoticeStatus, Record, Release};
use crate::time::Now;

/// What the journal has of a service that is not in the configuration.
#[derive(Debug)]
pub(super) enum Absent {
    Recorded(Record),
    /// A trigger fired on it.
    Doubted(Release),
}

/// A notice about a question of a service that was not resolved yet.
#[derive(Clone, Debug)]
struct Open {
    kind: NoticeKind,
    service: String,
    /// The trigger that is blind, the check of the way back that says no, or the release that runs again.
    asked: String,
    receivers: Vec<String>,
}

/// By key.
#[derive(Clone, Debug, Default)]
pub(super) struct OpenNotices(BTreeMap<String, Open>);

impl OpenNotices {
    pub fn follow(&mut self, notice: &Notice, receivers: &[String]) {
        let topic = topic(notice.kind);
        let (None, Some(service)) = (&notice.incident, &notice.service) else { return };
        let kinds = [NoticeKind::Blind, NoticeKind::Degraded, NoticeKind::ReleaseReappeared];
        if !kinds.map(self::topic).contains(&topic) {
            return;
        }
        let Some((_, asked)) = notice.dedup_key.split_once(&format!("/{service}/{topic}/")) else { return };
        match notice.status {
            NoticeStatus::Resolved => drop(self.0.remove(&notice.dedup_key)),
            NoticeStatus::Firing => {
                let (kind, service, asked) = (notice.kind, service.clone(), asked.to_owned());
                let receivers = receivers.to_vec();
                self.0.insert(notice.dedup_key.clone(), Open { kind, service, asked, receivers });
            }
        }
    }
}

impl Machine {
    /// What was told and is not resolved, as the services remember it.
    pub(super) fn open_notices(&self) -> OpenNotices {
        let mut open = OpenNotices::default();
        for service in &self.services {
            let blind = service.rules.triggers.iter().zip(&service.triggers).filter(|(_, state)| state.blind_told);
            let blind = blind.map(|(trigger, _)| (NoticeKind::Blind, &trigger.name));
            let ready = service.ready_told.iter().map(|name| (NoticeKind::Degraded, name));
            let again = service.reappeared.iter().map(|release| (NoticeKind::ReleaseReappeared, &release.0));
            for (kind, asked) in blind.chain(ready).chain(again) {
                let name = &service.rules.name;
                let key = format!("{}/{name}/{}/{asked}", self.rules.instance, topic(kind));
                let receivers = service.rules.notify.iter().map(ToString::to_string).collect();
                let open_notice = Open { kind, service: name.to_string(), asked: asked.to_string(), receivers };
                open.0.insert(key, open_notice);
            }
        }
        open
    }

    /// What is not asked any more cannot become well; whoever was told that it is not hears that it is over.
    pub(super) fn resolve_what_is_gone(&mut self, open: OpenNotices, now: &Now) {
        for (key, Open { kind, service, asked, receivers }) in open.0 {
            if self.remembers_told(kind, &service, &asked) {
                continue;
            }
            let resolved = if kind == NoticeKind::Blind { NoticeKind::Unblind } else { kind };
            let text = if kind == NoticeKind::ReleaseReappeared {
                format!("{service}: it is not watched any more whether {asked} runs")
            } else {
                format!("{service}: {asked} is not asked any more")
            };
            let (status, action_required) = (NoticeStatus::Resolved, false);
            let told = Told { kind: resolved, status, action_required, actor: None, text: &text };
            let mut notice = self.plain_notice(told, Some(service), now);
            notice.dedup_key = key;
            self.queue(notice, receivers, now);
        }
        for service in self.services.iter_mut().filter(|service| service.retired) {
            service.ready_told.clear();
            service.reappeared = None;
            service.triggers.iter_mut().for_each(|state| state.blind_told = false);
        }
    }

    /// Where the question is still asked, it is remembered that its answer was told.
    fn remembers_told(&mut self, kind: NoticeKind, service: &str, asked: &str) -> bool {
        let index = self.service_index(service).filter(|index| !self.services[*index].retired);
        let Some(service) = index.map(|index| &mut self.services[index]) else { return false };
        if kind == NoticeKind::ReleaseReappeared {
            service.reappeared = Some(Release(asked.into()));
            true
        } else if kind == NoticeKind::Blind {
            let place = service.rules.triggers.iter().position(|trigger| *trigger.name == *asked);
            place.map(|place| service.triggers[place].blind_told = true).is_some()
        } else {
            let is_asked = service.rules.guard.ready.iter().any(|check| check.name == asked);
            if is_asked {
                service.ready_told.insert(Arc::from(asked));
            }
            is_asked
        }
    }

    /// Takes up what the journal had of a service that was absent at the start.
    pub(super) fn come_back(&mut self, index: usize, now: &Now) {
        let name = Arc::clone(&self.services[index].rules.name);
        let Some(entries) = self.absent.remove(&*name) else { return };
        for entry in entries {
            match entry {
                Absent::Recorded(record) => self.replay_of_service(index, &record),
                Absent::Doubted(release) => self.services[index].releases.doubt(&release),
            }
        }
        let service = &mut self.services[index];
        // Nobody looked meanwhile.
        service.releases.resume(now.monotonic);
        service.windows_from = now.monotonic;
    }

    pub(super) fn remember_absent(&mut self, service: String, what: Absent) {
        self.absent.entry(service).or_default().push(what);
    }
}

/// The service that an entry is about, where it is about nothing else.
pub(super) fn service_of(entry: &Entry) -> Option<&str> {
    match entry {
        Entry::ReleaseSeen { service, .. }
        | Entry::ReleaseNamed { service, .. }
        | Entry::ReleaseGood { service, .. }
        | Entry::ReleaseBad { service, .. }
        | Entry::ReleaseForgotten { service, .. }
        | Entry::SignalRaised { service, .. }
        | Entry::SignalCleared { service, .. } => Some(service),
        Entry::Paused { service, .. } | Entry::Resumed { service, .. } | Entry::KillSwitch { service, .. } => {
            service.as_deref()
        }
        Entry::DaemonStarted { .. }
        | Entry::Command(_)
        | Entry::Incident { .. }
        | Entry::NoticeQueued { .. }
        | Entry::NoticeDelivered { .. }
        | Entry::NoticeDead { .. }
        | Entry::NoticeFellBack { .. } => None,
    }
}
