//! What stops backstop whatever a service's triggers say: the kill switch, a clock that cannot be trusted, a freeze,
//! and dependencies that breach.

use std::sync::Arc;
use std::time::Duration;

use super::commands::Answered;
use super::input::{Refusal, TargetKind};
use super::notices::Told;
use super::output::{LogLevel, Output};
use super::service::Service;
use super::settle::is_acting;
use super::watch::is_recent;
use super::{Machine, log};
use crate::decide::event::{Actor, Entry, GuardCheck, IncidentEvent, IncidentId, NoticeKind, NoticeStatus};
use crate::decide::freeze;
use crate::decide::guard::{DEPENDENCY, OVERRIDES_KILL_SWITCH, SHARE};
use crate::decide::rules::Question;
use crate::decide::trigger::{Finding, Unknown, short};
use crate::decide::verdict::Verdict;
use crate::promql::Scope;
use crate::time::{Now, Timestamp};

/// How the kill switch is called in `--override`.
pub const KILL_SWITCH: &str = "kill-switch";

/// `Actor::via` of a kill switch that is a file.
const FILE: &str = "file";

/// Between two looks at the clocks the wall may gain or lose this much on the monotonic timeline. A clock that is slewed
/// moves by a tenth at most, and a turn comes every few seconds.
const JUMP_MAX: Duration = Duration::from_secs(5);

/// So late may a turn be: a busy host delays one by far less, a stopped process or a host that slept by more.
const LATE_MAX: Duration = Duration::from_secs(5);

/// After a jump nothing is begun for this long, and for two of the longest intervals of the service.
const TILT_MIN: Duration = Duration::from_secs(10);

/// A dependency that breached when it was last seen counts as breaching for this long, and so does one of many services that
/// breached together: an outage in which nothing answers any more is not over. Not for ever, for what is watched no longer
/// would hold for ever.
pub(super) const BREACH_MEMORY: Duration = Duration::from_hours(1);

/// How a sentence about a dependency names its probe.
pub(super) const PROBE: &str = "the probe";

/// The kill switch is on.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Kill {
    pub since: Timestamp,
    pub actor: Actor,
    pub reason: String,
}

/// Of the whole daemon, by command and by file; a service has one of its own.
#[derive(Debug, Default)]
pub(super) struct Kills {
    pub ordered: Option<Kill>,
    pub file: Option<Kill>,
    /// A rollback by hand passed over what was on then.
    passed: std::collections::BTreeMap<IncidentId, Timestamp>,
}

/// The clock or the process cannot be trusted for a while.
#[derive(Debug, Default)]
pub(super) struct Clocks {
    /// Monotonic and wall time of the latest input.
    last: Option<(Timestamp, Timestamp)>,
    tilt: Option<(Timestamp, String)>,
}

impl Machine {
    // --- the kill switch

    pub(super) fn kill_switch(
        &mut self,
        now: &Now,
        service: Option<&str>,
        on: bool,
        actor: &Actor,
        reason: &str,
    ) -> Answered {
        let is_on = match service {
            Some(name) => self.services[self.find_service(name)?].kill.is_some(),
            None => self.kills.ordered.is_some(),
        };
        if is_on == on {
            let file = self.kills.file.as_ref().filter(|_| !on && service.is_none());
            return Err(Refusal::Conflict(match (on, file) {
                (true, _) => "the kill switch is on already".to_owned(),
                (false, Some(kill)) => {
                    format!("the kill switch is on by the file {0}: remove it to turn it off", kill.actor.name)
                }
                (false, None) => "the kill switch is not on".to_owned(),
            }));
        }
        self.turn_kill_switch(now, service, on, actor, reason);
        let of = service.map_or_else(String::new, |service| format!(" of {service}"));
        let file = match &self.kills.file {
            Some(kill) if !on => format!("; still on by the file {}", kill.actor.name),
            Some(_) | None => String::new(),
        };
        Ok((format!("the kill switch{of} is {}{file}", if on { "on" } else { "off" }), None))
    }

    /// The file is there, with what it says, or it is not.
    pub(super) fn kill_file(&mut self, now: &Now, path: &Arc<str>, says: Option<String>) {
        self.dirty = true;
        if self.kills.file.is_some() == says.is_some() {
            return;
        }
        let actor = Actor { name: path.to_string(), via: FILE.to_owned() };
        let on = says.is_some();
        self.turn_kill_switch(now, None, on, &actor, &says.unwrap_or_else(|| "the file is gone".to_owned()));
    }

    fn turn_kill_switch(&mut self, now: &Now, service: Option<&str>, on: bool, actor: &Actor, reason: &str) {
        self.record(
            now,
            Entry::KillSwitch {
                service: service.map(str::to_owned),
                on,
                actor: actor.clone(),
                reason: reason.to_owned(),
            },
        );
        self.set_kill(service, on, now.monotonic, actor, reason);
        if !on {
            self.wait_until_off();
        }
        let (kind, status, state) = if on {
            (NoticeKind::Paused, NoticeStatus::Firing, "on")
        } else {
            (NoticeKind::Resumed, NoticeStatus::Resolved, "off")
        };
        let rest = if on { "; nothing is begun until it is turned off; a step that runs is not killed" } else { "" };
        let text = format!("the kill switch is {state} ({}): {reason}{rest}", actor.name);
        let by = (actor.via != FILE).then(|| actor.name.clone());
        self.tell_kill(service, Told { kind, status, action_required: false, actor: by, text: &text }, now);
    }

    /// A step that waits with its intent starts when it is durable that the switch is off: after a crash it would be on.
    fn wait_until_off(&mut self) {
        let off = self.seq;
        for (seq, output) in &mut self.gated {
            if let Output::RunStep(_) = output {
                *seq = off;
            }
        }
    }

    /// To the service's receivers, or to all. The end of a pause must not close what was told of the kill switch.
    fn tell_kill(&mut self, service: Option<&str>, told: Told<'_>, now: &Now) {
        let index = service.and_then(|service| self.service_index(service));
        let (receivers, text) = match index.map(|index| &self.services[index].rules) {
            Some(rules) => {
                (rules.notify.iter().map(ToString::to_string).collect(), format!("{}: {}", rules.name, told.text))
            }
            None => (self.outbox.names().map(str::to_owned).collect(), told.text.to_owned()),
        };
        let told = Told { text: &text, ..told };
        let mut notice = self.plain_notice(told, service.map(str::to_owned), now);
        notice.dedup_key = format!("{}/{KILL_SWITCH}", notice.dedup_key);
        self.queue(notice, receivers, now);
    }

    /// Live, and from the journal.
    pub(super) fn set_kill(&mut self, service: Option<&str>, on: bool, at: Timestamp, actor: &Actor, reason: &str) {
        let kill = on.then(|| Kill { since: at, actor: actor.clone(), reason: reason.to_owned() });
        match service {
            None if actor.via == FILE => self.kills.file = kill,
            None => self.kills.ordered = kill,
            Some(name) => {
                if let Some(index) = self.service_index(name) {
                    self.services[index].kill = kill;
                }
            }
        }
    }

    /// An admission, or a level by hand, that passed over the kill switch which was on then; one that is turned on later
    /// stops it too. The order was for that rollback: a later breach of the same release is not backstop's to act on.
    pub(super) fn follow_override(&mut self, id: &IncidentId, event: &IncidentEvent, at: Timestamp) {
        if matches!(event, IncidentEvent::Reopened { .. }) {
            self.kills.passed.remove(id);
        }
        let named = |name: &String| name == KILL_SWITCH;
        let check = |check: &GuardCheck| check.check == OVERRIDES_KILL_SWITCH;
        let by_admission =
            matches!(event, IncidentEvent::Admitted { decision, .. } if decision.checks.iter().any(check));
        let by_level = matches!(event, IncidentEvent::Climbed { overrides, .. } if overrides.iter().any(named));
        if by_admission || by_level {
            self.kills.passed.insert(id.clone(), at);
        }
    }

    /// What stops everything that is begun for an incident of this service.
    pub(super) fn killed(&self, service: Option<usize>, incident: Option<&IncidentId>) -> Option<&Kill> {
        // Of a rollback that is over nothing is left: the next one of the same release is another order.
        let open = incident.filter(|id| self.incidents.get(*id).is_some_and(|incident| incident.state.is_open()));
        let passed = open.and_then(|id| self.kills.passed.get(id));
        let of_service = service.and_then(|index| self.services[index].kill.as_ref());
        let kills = [of_service, self.kills.ordered.as_ref(), self.kills.file.as_ref()];
        kills.into_iter().flatten().find(|kill| passed.is_none_or(|passed| kill.since > *passed))
    }

    // --- tilt

    /// Compares the clocks with the latest input's, and the instant with when something was due.
    pub(super) fn watch_clocks(&mut self, now: &Now, out: &mut Vec<Output>) {
        let Some((monotonic, wall)) = self.clocks.last.replace((now.monotonic, now.wall)) else { return };
        let before = wall.millis_since(monotonic);
        let after = now.wall.millis_since(now.monotonic);
        let jumped = Duration::from_millis(after.abs_diff(before));
        let gap = now.monotonic.since(monotonic);
        let why = if jumped > JUMP_MAX {
            let direction = if after > before { "forward" } else { "back" };
            Some(format!("the wall clock jumped {direction} by {}", short(jumped)))
        } else if gap > LATE_MAX {
            let late = self.next_deadline().map_or(Duration::ZERO, |due| now.monotonic.since(due.max(monotonic)));
            (late > LATE_MAX).then(|| format!("backstop was stopped, or starved, for {}", short(late)))
        } else {
            None
        };
        if let Some(why) = why {
            self.counters.tilts += 1;
            log(out, LogLevel::Warn, None, format!("{why}: no rollback starts until fresh data has come"));
            self.clocks.tilt = Some((now.monotonic, why));
            self.dirty = true;
        }
    }

    /// Until when the service is only watched, and why.
    pub(super) fn tilt(&self, service: &Service) -> Option<(Timestamp, &str)> {
        let (since, why) = self.clocks.tilt.as_ref()?;
        let longest = service.rules.triggers.iter().map(|trigger| trigger.interval).max().unwrap_or_default();
        Some((*since + (longest * 2).max(TILT_MIN), why))
    }

    /// The last service is free again.
    pub(super) fn tilt_view(&self, now: &Now) -> Option<(Timestamp, &str)> {
        let services = self.services.iter().filter(|service| !service.retired);
        services.filter_map(|service| self.tilt(service)).max().filter(|(until, _)| *until > now.monotonic)
    }

    // --- freeze and dependencies

    /// Why and until when on the wall, in its own words.
    pub(super) fn frozen<'a>(&'a self, service: &'a Service, now: &Now) -> Option<(&'a str, Timestamp)> {
        freeze::frozen(self.rules.freeze.iter().chain(&service.rules.guard.freeze), now.wall)
    }

    /// What a service showed while something that it depends on was down is no proof against its release: when the last
    /// dependency is well again, its windows start anew. Tells whether they do.
    pub(super) fn follow_dependencies(&mut self, index: usize, now: &Now) -> bool {
        let breach = !self.services[index].retired && !self.dependencies(&self.services[index], now).0.is_empty();
        let is_over = std::mem::replace(&mut self.services[index].dependency_down, breach) && !breach;
        if is_over {
            self.forget_windows(index, now);
        }
        is_over
    }

    /// The same for services that breached together: the last to recover are not alone to blame. Tells which start anew.
    pub(super) fn follow_share(&mut self, now: &Now) -> Vec<usize> {
        let together = self.breaching_share(now).is_some_and(|(share, max)| share > max);
        let mut over = Vec::new();
        for index in 0..self.services.len() {
            let service = &mut self.services[index];
            if together {
                service.in_share |= service.breaching().is_some();
            } else if std::mem::take(&mut service.in_share) {
                over.push(index);
            }
        }
        for index in &over {
            self.forget_windows(*index, now);
        }
        over
    }

    /// An open incident that waited for a dependency, or for services that breached together, when the daemon ended waits
    /// for it still.
    pub(super) fn recover_dependencies(&mut self, now: &Now) {
        let open = self.incidents.values().filter(|incident| incident.state.is_open());
        let reasons = open.flat_map(|incident| {
            let reasons = incident.decision.iter().flat_map(|decision| &decision.reasons);
            reasons.map(|reason| (&*incident.service, reason))
        });
        for (name, reason) in reasons {
            let Some(index) = self.services.iter().position(|service| *service.rules.name == *name) else { continue };
            self.services[index].in_share |= reason.code == SHARE;
            if reason.code != DEPENDENCY {
                continue;
            }
            self.services[index].dependency_down = true;
            for name in self.services[index].rules.guard.dependencies.clone() {
                // Triggers come back with the checkpoint, signals with the journal; of a probe only this sentence is left.
                if reason.sentence.contains(&format!("{name}: {PROBE} "))
                    && let Some(index) = self.services.iter().position(|service| service.rules.name == name)
                {
                    self.services[index].probe_failed = Some((now.monotonic, "a probe".to_owned()));
                }
            }
        }
    }

    /// Dependencies that breach, each in a few words, and those that cannot be seen.
    pub(super) fn dependencies(&self, service: &Service, now: &Now) -> (Vec<String>, Vec<Arc<str>>) {
        let (mut breaching, mut unseen) = (Vec::new(), Vec::new());
        for name in &service.rules.guard.dependencies {
            let Some(index) = self.service_index(name) else { continue };
            match self.breaches(index, now) {
                Some(how) => breaching.push(format!("{name}: {how}")),
                None if !self.is_seen(index, now) => unseen.push(Arc::clone(name)),
                None => {}
            }
        }
        (breaching, unseen)
    }

    /// A trigger that is breached (its hold need not be full), a probe whose latest look failed, a rollback under way, or
    /// what did when it was last seen.
    fn breaches(&self, index: usize, now: &Now) -> Option<String> {
        let service = &self.services[index];
        if let Some((trigger, verdict)) = service.breaching() {
            let since = now.wall_of(verdict.inherited.or(verdict.began).unwrap_or(verdict.since));
            return Some(format!("{} breaches since {since}", trigger.name));
        }
        let own = |target: &&super::Target| {
            target.scope == Scope::Service(service.id) && target.key.kind == TargetKind::Probe
        };
        for target in self.targets.values().filter(own).filter(|target| is_recent(target, now.monotonic)) {
            if let Some(look) = target.last.as_ref().filter(|look| !look.ok && look.sent) {
                let why = look.error.as_deref().unwrap_or("it fails");
                return Some(format!("{PROBE} {} fails: {why}", target.key.source));
            }
        }
        let acting = self.incidents.values().find(|i| *i.service == *service.rules.name && is_acting(i));
        acting.map(|incident| format!("{} is not over", incident.id)).or_else(|| self.breached_last(service, now))
    }

    /// What breached when it was last seen, and cannot be seen now. Only what breached can show that it is well again: that
    /// something else of the dependency answers says nothing of it. Where nothing but traffic is missing, a probe may.
    fn breached_last(&self, service: &Service, now: &Now) -> Option<String> {
        let own = |target: &&super::Target| {
            target.scope == Scope::Service(service.id) && target.key.kind == TargetKind::Probe
        };
        let answers = |target: &super::Target| {
            is_recent(target, now.monotonic) && target.last.as_ref().is_some_and(|look| look.ok)
        };
        let answers = self.targets.values().filter(own).any(answers);
        let triggers = service.rules.triggers.iter().zip(&service.triggers).filter_map(|(trigger, state)| {
            let latest = state.latest.as_ref().map(|latest| latest.worst().1);
            let idle = matches!(latest, Some(Finding::Unknown(Unknown::TooFewEvents { .. })));
            let last = state.verdicts.values().filter_map(Verdict::last_breached).max()?;
            (!(idle && answers)).then(|| (last, trigger.name.to_string()))
        });
        let (last, what) = triggers.chain(service.probe_failed.clone()).max()?;
        (now.monotonic.since(last) <= BREACH_MEMORY)
            .then(|| format!("{what} was last seen breaching at {}, and cannot be seen since", now.wall_of(last)))
    }

    /// Some question about it has an answer.
    fn is_seen(&self, index: usize, now: &Now) -> bool {
        let service = &self.services[index];
        let known = service.rules.triggers.iter().zip(&service.triggers).any(|(trigger, state)| {
            let is_value = matches!(trigger.question, Question::Value { .. });
            let latest = state.latest.as_ref().map(|latest| latest.worst().1);
            is_value && latest.is_some_and(|finding| !matches!(finding, Finding::Unknown(_)))
        });
        // A query's server that answers is not the service.
        let own = |target: &&super::Target| {
            target.scope == Scope::Service(service.id) && target.key.kind != TargetKind::Query
        };
        let up = |target: &super::Target| {
            is_recent(target, now.monotonic) && target.last.as_ref().is_some_and(|look| look.ok)
        };
        known || self.targets.values().filter(own).any(up)
    }
}
