//! Notices: what is told about incidents, services and the daemon, in the words of people.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::Machine;
use super::output::Output;
use super::service::Service;
use crate::decide::event::{
    Actor, IncidentId, Notice, NoticeKind, NoticeLevel, NoticeQuestion, NoticeStatus, NoticeTrigger, Release, Running,
    Severity,
};
use crate::decide::incident::{Incident, State};
use crate::decide::rules::Question;
use crate::decide::verdict::{Blank, Phase, Says};
use crate::time::{Now, Timestamp};

/// A heartbeat that could not be sent is tried again after this long.
const HEARTBEAT_RETRY: Duration = Duration::from_mins(1);

/// The end of the key of what is told of entries that cannot be read.
pub(super) const UNREADABLE: &str = "/unreadable";

/// What a notice says, beside what is known of its subject.
pub(super) struct Told<'a> {
    pub kind: NoticeKind,
    pub status: NoticeStatus,
    pub action_required: bool,
    /// The person who did it.
    pub actor: Option<String>,
    pub text: &'a str,
}

impl Machine {
    // Length: a notice has this many fields.
    /// Makes and queues a notice about an incident.
    pub(super) fn tell_incident(&mut self, id: &IncidentId, told: Told<'_>, now: &Now) {
        let Told { kind, status, action_required, actor, text } = told;
        let Some(incident) = self.incidents.get_mut(id) else { return };
        incident.notices += 1;
        let seq = incident.notices;
        let incident = incident.clone();
        let index = self.service_index(&incident.service);
        let service = index.map(|index| &self.services[index]);
        let receivers: Vec<String> = match (incident.receivers.as_slice(), service) {
            ([], Some(service)) => service.rules.notify.iter().map(ToString::to_string).collect(),
            ([], None) => incident.told_to.clone(),
            (frozen, _) => frozen.to_vec(),
        };
        let receivers = self.still_there(receivers, service);
        if let Some(incident) = self.incidents.get_mut(id) {
            incident.told_to.clone_from(&receivers);
        }
        let labels = service.map(|service| &service.rules.labels);
        let labels = labels.into_iter().flatten().map(|(name, value)| (name.to_string(), value.to_string())).collect();
        let running = service.and_then(|service| match &service.releases.running {
            Running::One(release) => Some(release.to_string()),
            Running::Mix(_) | Running::Unknown(_) => None,
        });
        let way_back = service.and_then(|service| {
            let bad = incident.release.as_ref()?;
            service.releases.way_back(bad).map(ToString::to_string)
        });
        let plan_target = incident.plan.as_ref().and_then(|plan| plan.target.as_ref()).map(ToString::to_string);
        let lead = incident.facts.values().max_by_key(|fact| fact.severity);
        let notice = Notice {
            id: self.notice_id(&format!("i-{id}-{seq}")),
            seq,
            kind,
            status,
            dedup_key: format!("{}/{id}/{}", self.rules.instance, incident.episode),
            severity: incident.severity(),
            action_required,
            incident: Some(id.clone()),
            service: Some(incident.service.clone()),
            labels,
            release_bad: incident.release.as_ref().map(ToString::to_string),
            release_target: plan_target.or(way_back),
            release_running: running,
            trigger: lead.map(|fact| NoticeTrigger {
                name: fact.trigger.clone(),
                value: fact.value.clone(),
                threshold: fact.threshold.clone(),
                hold_ms: fact.hold_ms,
                since: now.wall_of(fact.since),
                sentence: fact.sentence.clone(),
            }),
            decision: incident.decision.as_ref().map(|decision| decision_text(decision.kind).to_owned()),
            reasons: incident
                .decision
                .iter()
                .flat_map(|decision| decision.reasons.iter().map(|reason| reason.sentence.clone()))
                .collect(),
            level: notice_level(&incident),
            eta: eta(&incident).map(|at| now.wall_of(at)),
            respond_by: match incident.state {
                State::Proposed { respond_by, .. } => Some(now.wall_of(respond_by)),
                _ => None,
            },
            actor,
            text: format!("{}: {text}", incident.service),
            occurred_at: now.wall,
            config_hash: self.rules.hash.to_string(),
            drill: false,
            question: question(&incident, kind),
        };
        self.queue(with_what_a_person_needs(notice), receivers, now);
    }

    /// Receivers were frozen with the plan, and a reload may have renamed or removed them since. Where none of them is left,
    /// those of the service hear of it, and where it has none, all: an incident under way must not fall silent.
    fn still_there(&self, wanted: Vec<String>, service: Option<&Service>) -> Vec<String> {
        let is_there = |name: &String| self.outbox.names().any(|there| there == name);
        if wanted.is_empty() || wanted.iter().any(is_there) {
            return wanted.into_iter().filter(is_there).collect();
        }
        let own = service.into_iter().flat_map(|service| &service.rules.notify).map(ToString::to_string);
        let own: Vec<String> = own.filter(is_there).collect();
        if own.is_empty() { self.outbox.names().map(str::to_owned).collect() } else { own }
    }

    /// A notice about a service that belongs to no incident.
    pub(super) fn tell_service(&mut self, index: usize, told: Told<'_>, now: &Now) {
        self.tell_service_about(index, told, None, now);
    }

    /// `part` keeps what is told of one thing from being closed by what is told of another.
    pub(super) fn tell_service_about(&mut self, index: usize, told: Told<'_>, part: Option<&str>, now: &Now) {
        let rules = &self.services[index].rules;
        let receivers = rules.notify.iter().map(ToString::to_string).collect();
        let name = rules.name.to_string();
        let text = format!("{name}: {}", told.text);
        let mut notice = self.plain_notice(Told { text: &text, ..told }, Some(name), now);
        if let Some(part) = part {
            notice.dedup_key = format!("{}/{part}", notice.dedup_key);
        }
        self.queue(notice, receivers, now);
    }

    /// The service and the check of its way back that a notice is about.
    pub(super) fn way_back_told<'n>(&self, notice: &'n Notice) -> Option<(usize, &'n str)> {
        let index = notice.service.as_deref().and_then(|service| self.service_index(service))?;
        let name = &self.services[index].rules.name;
        let key = format!("{}/{name}/{}/", self.rules.instance, topic(NoticeKind::Degraded));
        Some((index, notice.dedup_key.strip_prefix(&key)?))
    }

    /// A release that was rolled back runs again, by whose hand it was; and then another one runs.
    pub(super) fn tell_reappeared(&mut self, index: usize, runs: &Release, by: Option<IncidentId>, now: &Now) {
        let kind = NoticeKind::ReleaseReappeared;
        if let Some(gone) = self.services[index].reappeared.take_if(|gone| gone != runs) {
            let text = format!("{gone} does not run any more");
            let told = Told { kind, status: NoticeStatus::Resolved, action_required: false, actor: None, text: &text };
            self.tell_service_about(index, told, Some(&gone.0), now);
        }
        if let Some(by) = by {
            let text = format!("{runs} was rolled back ({by}) and runs again; backstop does not fight over it");
            let told = Told { kind, status: NoticeStatus::Firing, action_required: true, actor: None, text: &text };
            self.tell_service_about(index, told, Some(&runs.0), now);
            self.services[index].reappeared = Some(runs.clone());
        }
    }

    /// A notice about the daemon itself, to every receiver.
    fn tell_all(&mut self, told: Told<'_>, now: &Now) {
        let receivers = self.outbox.names().map(str::to_owned).collect();
        let notice = self.plain_notice(told, None, now);
        self.queue(notice, receivers, now);
    }

    pub(super) fn plain_notice(&mut self, told: Told<'_>, service: Option<String>, now: &Now) -> Notice {
        let Told { kind, status, action_required, actor, text } = told;
        self.outbox.count += 1;
        let seq = self.outbox.count;
        let about = service.clone().unwrap_or_else(|| "daemon".to_owned());
        let local = service.as_ref().map_or_else(|| format!("d-{seq}"), |service| format!("s-{service}-{seq}"));
        Notice {
            id: self.notice_id(&local),
            seq,
            kind,
            status,
            dedup_key: format!("{}/{about}/{}", self.rules.instance, topic(kind)),
            severity: if action_required { Severity::High } else { Severity::Low },
            action_required,
            incident: None,
            service,
            labels: BTreeMap::new(),
            release_bad: None,
            release_target: None,
            release_running: None,
            trigger: None,
            decision: None,
            reasons: Vec::new(),
            level: None,
            eta: None,
            respond_by: None,
            actor,
            text: text.to_owned(),
            occurred_at: now.wall,
            config_hash: self.rules.hash.to_string(),
            drill: false,
            question: None,
        }
    }

    /// Unique over journals: a new one counts from 1 again. Without dots: receivers verify `id.timestamp.body`, and an id
    /// with a dot could be read in two ways (Standard Webhooks, "message id").
    fn notice_id(&self, local: &str) -> String {
        format!("{:x}-{local}", self.founded.as_millis())
    }

    /// Tells once that a trigger is blind, and once that it sees again.
    pub(super) fn tell_blindness(&mut self, index: usize, place: usize, now: &Now, _out: &mut Vec<Output>) {
        let service = &self.services[index];
        let state = &service.triggers[place];
        let is_blind = state.verdicts.values().any(|verdict| verdict.phase == Phase::Blind);
        // What cannot be seen now, and not yet for so long that it is blind, is not seen again.
        let says = state.latest.as_ref().map(|latest| latest.worst().1.says(service.rules.triggers[place].on_unknown));
        let sees = says.is_some_and(|says| says != Says::Unknown(Blank::Blind));
        if is_blind == state.blind_told || service.retired || (!is_blind && !sees) {
            return;
        }
        let name = Arc::clone(&service.rules.triggers[place].name);
        let (kind, status, text) = if is_blind {
            let why = state.latest.as_ref().map(|latest| match latest.worst().1 {
                crate::decide::trigger::Finding::Unknown(why) => why.to_string(),
                crate::decide::trigger::Finding::Clear | crate::decide::trigger::Finding::Breached => String::new(),
            });
            let why = why.unwrap_or_default();
            (NoticeKind::Blind, NoticeStatus::Firing, format!("trigger {name} is blind: {why}"))
        } else {
            (NoticeKind::Unblind, NoticeStatus::Resolved, format!("trigger {name} sees again"))
        };
        self.services[index].triggers[place].blind_told = is_blind;
        let told = Told { kind, status, action_required: false, actor: None, text: &text };
        // One that sees again must not close what was told of another.
        self.tell_service_about(index, told, Some(&name), now);
    }

    pub(super) fn degraded(&mut self, now: &Now, text: &str) {
        let (kind, status) = (NoticeKind::Degraded, NoticeStatus::Firing);
        self.tell_all(Told { kind, status, action_required: true, actor: None, text }, now);
    }

    /// What cannot be read, or that all can be read again. A journal that is written again does not close it.
    pub(super) fn tell_unreadable(&mut self, now: &Now, status: NoticeStatus, text: &str) {
        let action_required = status == NoticeStatus::Firing;
        let told = Told { kind: NoticeKind::Degraded, status, action_required, actor: None, text };
        let mut notice = self.plain_notice(told, None, now);
        notice.dedup_key = format!("{}{UNREADABLE}", notice.dedup_key);
        self.queue(notice, self.outbox.names().map(str::to_owned).collect(), now);
    }

    pub(super) fn restored(&mut self, now: &Now, text: &str) {
        let (kind, status) = (NoticeKind::Degraded, NoticeStatus::Resolved);
        self.tell_all(Told { kind, status, action_required: false, actor: None, text }, now);
    }

    /// The heartbeat, when it is due.
    pub(super) fn beat(&mut self, now: &Now, out: &mut Vec<Output>) {
        let Some(due) = self.heartbeat_due.filter(|due| *due <= now.monotonic) else { return };
        let Some(heartbeat) = self.rules.heartbeat.clone() else { return };
        // After a sleep of the host one heartbeat is enough.
        let next = due + heartbeat.every;
        self.heartbeat_due = Some(if next > now.monotonic { next } else { now.monotonic + heartbeat.every });
        if let Some(why) = self.cannot_do_its_work() {
            // Soon again: who sees again says so.
            self.heartbeat_due = Some(now.monotonic + heartbeat.every.min(HEARTBEAT_RETRY));
            // Who waits for heartbeats must hear that there is none: one that is alive and sees nothing helps nobody.
            super::log(out, super::LogLevel::Warn, None, format!("no heartbeat is sent: {why}"));
            return;
        }
        let receivers = heartbeat.receivers.iter().map(ToString::to_string).collect();
        let (kind, status) = (NoticeKind::Heartbeat, NoticeStatus::Resolved);
        let text = match self.limits(now).as_slice() {
            [] => "backstop is alive".to_owned(),
            limits => format!("backstop is alive, but {}", limits.join("; ")),
        };
        let text = text.as_str();
        let notice = self.plain_notice(Told { kind, status, action_required: false, actor: None, text }, None, now);
        self.queue(notice, receivers, now);
    }

    /// Why a rollback that is needed would not come: the journal, or a service of which nothing is seen.
    fn cannot_do_its_work(&self) -> Option<String> {
        if let Some((_, why)) = &self.journal_failing {
            return Some(format!("the journal cannot be written: {why}"));
        }
        let unseen = self.services.iter().filter(|service| !service.retired).find(|service| {
            let values = service
                .rules
                .triggers
                .iter()
                .zip(&service.triggers)
                .filter(|(trigger, _)| matches!(trigger.question, Question::Value { .. }));
            let phases: Vec<Phase> = values.map(|(_, state)| state.phase()).collect();
            !phases.is_empty() && phases.iter().all(|phase| *phase == Phase::Blind)
        });
        unseen.map(|service| format!("all triggers of {} are blind", service.rules.name))
    }

    /// What it may not do, cannot see, or can never fire at, though it is alive.
    fn limits(&self, now: &Now) -> Vec<String> {
        let mut limits = Vec::new();
        for service in self.services.iter().filter(|service| !service.retired) {
            let name = &service.rules.name;
            if let Some(kill) = &service.kill {
                limits.push(format!("the kill switch of {name} is on: {}", kill.reason));
            }
            if let Some(pause) = &service.pause {
                limits.push(format!("{name} is paused: {}", pause.reason));
            }
            for (trigger, state) in service.rules.triggers.iter().zip(&service.triggers) {
                if state.phase() == Phase::Blind {
                    limits.push(format!("{name}: {} is blind", trigger.name));
                }
                if state.never_fires(trigger).is_some() {
                    limits.push(format!("{name}: {} can never fire", trigger.name));
                }
            }
        }
        limits.extend(self.killed(None, None).map(|kill| format!("the kill switch is on: {}", kill.reason)));
        limits.extend(self.pause.as_ref().map(|pause| format!("it is paused: {}", pause.reason)));
        limits.extend(self.tilt_view(now).map(|(_, why)| why.to_owned()));
        limits
    }

    pub(super) fn tell_pause(
        &mut self,
        service: Option<&str>,
        kind: NoticeKind,
        actor: Option<String>,
        text: &str,
        now: &Now,
    ) {
        let status = if kind == NoticeKind::Paused { NoticeStatus::Firing } else { NoticeStatus::Resolved };
        let told = Told { kind, status, action_required: false, actor, text };
        match service.and_then(|service| self.service_index(service)) {
            Some(index) => self.tell_service(index, told, now),
            None => self.tell_all(told, now),
        }
    }

    pub(super) fn tell_test(&mut self, receiver: &str, actor: &Actor, now: &Now) {
        let (kind, status, text) = (NoticeKind::Test, NoticeStatus::Resolved, "a test notice: this receiver works");
        let actor = Some(actor.name.clone());
        let notice = self.plain_notice(Told { kind, status, action_required: false, actor, text }, None, now);
        self.queue(notice, vec![receiver.to_owned()], now);
    }
}

/// What a notice of the daemon is about: opening and resolving share it.
pub(super) const fn topic(kind: NoticeKind) -> &'static str {
    match kind {
        NoticeKind::Blind | NoticeKind::Unblind => "blind",
        NoticeKind::Paused | NoticeKind::Resumed => "paused",
        NoticeKind::WouldRollBack
        | NoticeKind::Held
        | NoticeKind::Escalated
        | NoticeKind::ApprovalRequested
        | NoticeKind::Declined
        | NoticeKind::Expired
        | NoticeKind::Started
        | NoticeKind::StepFailed
        | NoticeKind::LevelFinished
        | NoticeKind::Recovered
        | NoticeKind::Superseded
        | NoticeKind::NeedsHuman
        | NoticeKind::ReleaseReappeared
        | NoticeKind::Degraded
        | NoticeKind::Heartbeat
        | NoticeKind::Test => kind.as_str(),
    }
}

pub(super) const fn decision_text(kind: crate::decide::event::DecisionKind) -> &'static str {
    use crate::decide::event::DecisionKind;
    match kind {
        DecisionKind::RollBack => "roll_back",
        DecisionKind::WouldRollBack => "would_roll_back",
        DecisionKind::Propose => "propose",
        DecisionKind::Hold => "hold",
        DecisionKind::Escalate => "escalate",
    }
}

fn notice_level(incident: &Incident) -> Option<NoticeLevel> {
    let plan = incident.plan.as_ref()?;
    let level = incident.level()?;
    let name = plan.levels.get(level)?.name.clone();
    Some(NoticeLevel { n: level + 1, of: plan.levels.len(), name })
}

/// What this notice asks: a question, or that it is still open.
fn question(incident: &Incident, kind: NoticeKind) -> Option<Box<NoticeQuestion>> {
    let question = incident.question()?;
    matches!(kind, NoticeKind::ApprovalRequested | NoticeKind::Escalated).then(|| Box::new(question))
}

/// When the current phase ends at the latest.
fn eta(incident: &Incident) -> Option<Timestamp> {
    match &incident.state {
        State::Verifying { level, finished, .. } => {
            let verify = incident.verify(*level);
            Some(*finished + verify.within + verify.soak)
        }
        State::Ready { .. }
        | State::Running { .. }
        | State::Checking { .. }
        | State::Stepped { .. }
        | State::LevelOver { .. } => incident.deadline,
        State::Firing
        | State::Held
        | State::Escalated
        | State::WouldRollBack
        | State::HeldByPerson { .. }
        | State::Proposed { .. }
        | State::NeedsHuman { .. }
        | State::Recovered
        | State::Declined
        | State::Expired
        | State::Superseded
        | State::Aborted
        | State::Cleared => None,
    }
}

/// Puts into the sentence what somebody who is woken by it asks first: which release, back to which, why, and, where an
/// answer is wanted, how and until when.
fn with_what_a_person_needs(mut notice: Notice) -> Notice {
    let asks = match notice.kind {
        NoticeKind::ApprovalRequested => true,
        NoticeKind::WouldRollBack | NoticeKind::Held | NoticeKind::Escalated | NoticeKind::Started => false,
        NoticeKind::Declined
        | NoticeKind::Expired
        | NoticeKind::StepFailed
        | NoticeKind::LevelFinished
        | NoticeKind::Recovered
        | NoticeKind::Superseded
        | NoticeKind::NeedsHuman
        | NoticeKind::ReleaseReappeared
        | NoticeKind::Blind
        | NoticeKind::Unblind
        | NoticeKind::Paused
        | NoticeKind::Resumed
        | NoticeKind::Degraded
        | NoticeKind::Heartbeat
        | NoticeKind::Test => return notice,
    };
    let mut more = Vec::new();
    match (&notice.release_bad, &notice.release_target) {
        (Some(bad), Some(target)) => more.push(format!("{bad} back to {target}")),
        (Some(bad), None) => more.push(format!("release {bad}")),
        (None, _) => {}
    }
    more.extend(notice.trigger.as_ref().map(|trigger| trigger.sentence.clone()));
    if asks && let (Some(incident), Some(until)) = (&notice.incident, notice.respond_by) {
        more.push(format!("`backstop approve {incident}` or `backstop decline {incident}` until {until}"));
    }
    if !more.is_empty() {
        notice.text = format!("{} ({})", notice.text, more.join("; "));
    }
    notice
}
