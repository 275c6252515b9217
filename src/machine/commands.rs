//! What people (and programs with a token) ask for, and what they are answered.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::input::{Answer, Command, CommandId, Question, Refusal, ReleasePhase};
use super::judging::manual_fact;
use super::output::Output;
use super::people::{allowed, nothing_proposed, still_asked};
use super::safety::KILL_SWITCH;
use super::service::Raised;
use super::settle::is_acting;
use super::{Machine, Pause, audit};
use crate::decide::event::{Actor, Decision, DecisionKind, Entry, IncidentEvent, IncidentId, NoticeKind, Release};
use crate::decide::guard::Mandate;
use crate::decide::guard::asked::WAITING;
use crate::decide::incident::{Incident, State};
use crate::decide::rules::DetectorKind;
use crate::time::Now;

/// A signal's or release's name and a reason are kept for ever: this much of them.
const TEXT_BYTES_MAX: usize = 4096;

/// How an end by time, and by nobody, came about: `Actor::via`.
pub(super) const TIMER: &str = Actor::TIMER;

/// What a person said about a rollback beside its reason.
#[derive(Clone, Copy)]
struct Chosen<'a> {
    level: Option<usize>,
    /// Blockers that do not count this time.
    overrides: &'a [String],
}

pub(super) type Answered = Result<(String, Option<IncidentId>), Refusal>;

impl Machine {
    pub(super) fn command(&mut self, now: &Now, id: CommandId, actor: &Actor, command: Command, out: &mut Vec<Output>) {
        self.dirty = true;
        let told = audit::told(&command);
        let answer = match self.obey(now, actor, command, out) {
            Ok((message, incident)) => {
                self.record_done(now, actor, told);
                Answer::Done { message, incident, details: BTreeMap::new() }
            }
            Err(refusal) => {
                self.record_refused(now, actor, told, &refusal);
                Answer::Refused(refusal)
            }
        };
        match answer {
            Answer::Done { .. } => self.reply(id, answer),
            // Nothing was changed, so there is nothing to wait for: that it was refused may be written later.
            Answer::Refused(_) => out.push(Output::Reply { id, answer }),
        }
    }

    // Length: one arm per command.
    fn obey(&mut self, now: &Now, actor: &Actor, command: Command, out: &mut Vec<Output>) -> Answered {
        if let Some((_, why)) = &self.journal_failing {
            return Err(Refusal::Unavailable(format!("the journal cannot be written: {why}")));
        }
        let begins_something = match &command {
            Command::Rollback { .. } | Command::Approve { .. } | Command::Skip { .. } => true,
            Command::Answer { approves, .. } => *approves,
            Command::Hold { .. }
            | Command::Unhold { .. }
            | Command::Decline { .. }
            | Command::Acknowledge { .. }
            | Command::Abort { .. }
            | Command::Pause { .. }
            | Command::Resume { .. }
            | Command::KillSwitch { .. }
            | Command::RaiseSignal { .. }
            | Command::ClearSignal { .. }
            | Command::AnnounceRelease { .. }
            | Command::Forget { .. }
            | Command::TestNotify { .. } => false,
        };
        if self.draining && begins_something {
            return Err(Refusal::Unavailable("backstop is stopping; ask again when it has started anew".to_owned()));
        }
        match command {
            Command::Rollback { service, reason, level, overrides } => {
                bounded("reason", &reason)?;
                self.roll_back(now, actor, &service, &reason, Chosen { level, overrides: &overrides }, out)
            }
            Command::Approve { incident, reason } => self.approve(now, actor, &incident, &reason, None, out),
            Command::Answer { incident, approves, reason, question } => {
                self.answer(now, actor, &incident, approves, reason, &question, out)
            }
            Command::Hold { incident, duration, reason } => self.hold(now, actor, &incident, duration, reason, out),
            Command::Unhold { incident, reason } => self.unhold(now, actor, &incident, reason, out),
            Command::Skip { incident, step, reason } => self.skip(now, actor, &incident, step, reason, out),
            Command::Decline { incident, reason } => self.decline(now, actor, &incident, reason, out),
            Command::Acknowledge { incident, reason } => {
                bounded("reason", &reason)?;
                let id = self.find_incident(&incident)?;
                if !self.incidents[&id].state.is_open() {
                    return Err(conflict(&self.incidents[&id], "it is over"));
                }
                self.incident_event(&id, IncidentEvent::Acknowledged { actor: actor.clone(), reason }, now, out);
                Ok((format!("{id} is acknowledged; reminders end"), Some(id)))
            }
            Command::Abort { incident, reason } => {
                bounded("reason", &reason)?;
                let id = self.find_incident(&incident)?;
                if !self.incidents[&id].state.is_open() {
                    return Err(conflict(&self.incidents[&id], "it is over"));
                }
                self.incident_event(&id, IncidentEvent::Aborted { actor: actor.clone(), reason }, now, out);
                Ok((format!("{id} is aborted; a step that runs is not killed"), Some(id)))
            }
            Command::Pause { service, duration, reason } => {
                bounded("reason", &reason)?;
                let pause = Pause { until: now.monotonic + duration, actor: actor.clone(), reason };
                self.pause(now, service.as_deref(), pause)
            }
            Command::Resume { service, reason } => {
                bounded("reason", &reason)?;
                self.check_service(service.as_deref())?;
                if self.resume(now, service.as_deref(), actor, reason) {
                    Ok(("resumed".to_owned(), None))
                } else {
                    Err(Refusal::Conflict("it is not paused".to_owned()))
                }
            }
            Command::KillSwitch { service, on, reason } => {
                bounded("reason", &reason)?;
                self.kill_switch(now, service.as_deref(), on, actor, &reason)
            }
            Command::RaiseSignal { service, signal, ttl, detail } => {
                self.raise_signal(now, actor, &service, signal, ttl, detail)
            }
            Command::ClearSignal { service, signal, reason } => self.clear_signal(now, actor, &service, signal, reason),
            Command::AnnounceRelease { service, release, phase } => self.announce(now, &service, &release, phase),
            Command::Forget { service, release, reason } => self.forget(now, actor, &service, &release, reason),
            Command::TestNotify { receiver } => self.test_notify(now, actor, receiver),
        }
    }

    fn roll_back(
        &mut self,
        now: &Now,
        actor: &Actor,
        service: &str,
        reason: &str,
        Chosen { level, overrides }: Chosen<'_>,
        out: &mut Vec<Output>,
    ) -> Answered {
        let index = self.find_service(service)?;
        self.known_overrides(index, overrides)?;
        let levels = self.services[index].rules.ladder.len();
        if levels == 0 {
            return Err(Refusal::Conflict(format!("{service} has no rollback level in its configuration")));
        }
        if level.is_some_and(|level| level >= levels) {
            return Err(Refusal::Invalid(format!("{service} has levels 1 to {levels}")));
        }
        let open = self.incidents.values().find(|incident| incident.service == service && incident.state.is_open());
        let open = match open.map(|open| (open.id.clone(), is_acting(open), open.state.clone())) {
            Some((id, true, State::NeedsHuman { .. })) => {
                return self.climb_by_hand(now, actor, &id, levels, Chosen { level, overrides }, out);
            }
            Some((_, true, State::Proposed { .. })) => {
                return Err(Refusal::Conflict("it asks whether to climb: approve or decline that".to_owned()));
            }
            Some((id, true, _)) => return Err(conflict(&self.incidents[&id], "it is already rolling back")),
            Some((id, false, state)) => {
                // Holding what is asked opens no other way around those who are asked.
                if let State::Proposed { .. } | State::HeldByPerson { .. } = state {
                    allowed(&self.incidents[&id], actor)?;
                }
                Some(id)
            }
            None => None,
        };
        // Judged before anything is written: what is refused leaves no incident behind.
        let judged = self.services[index].releases.judged.clone();
        let earlier = self.incidents.values().filter(|i| i.service == service && i.release == judged);
        let earlier = earlier.max_by_key(|incident| incident.opened).map(|incident| incident.id.clone());
        let fact = Box::new(manual_fact(reason, now));
        let event = IncidentEvent::Opened { service: service.to_owned(), release: judged.clone(), fact: fact.clone() };
        let fresh = Incident::open(IncidentId(Arc::from("")), &event, now.monotonic);
        let subject = open.as_ref().or(earlier.as_ref()).and_then(|id| self.incidents.get(id)).or(fresh.as_ref());
        let Some(subject) = subject else {
            return Err(Refusal::Conflict("the incident could not be opened".to_owned()));
        };
        let (decision, level) = self.guard_for_person(index, subject, Mandate::ByHand, level, overrides, now);
        if decision.kind != DecisionKind::RollBack {
            let why = self.refused_to_person(index, &decision, now);
            return Err(Refusal::Conflict(format!("{service} is not rolled back: {why}")));
        }
        let id = match (open, earlier) {
            (Some(id), _) => id,
            (None, Some(id)) => {
                self.incident_event(&id, IncidentEvent::Reopened { fact }, now, out);
                id
            }
            (None, None) => match self.open_incident(service, judged, fact, now, out) {
                Some(id) => id,
                None => return Err(Refusal::Conflict("the incident could not be opened".to_owned())),
            },
        };
        let reason = with_overrides(reason, overrides);
        self.incident_event(&id, IncidentEvent::Approved { actor: actor.clone(), reason }, now, out);
        if !self.admit(&id, decision, Some(actor.clone()), level, now, out) {
            return Err(conflict(&self.incidents[&id], "nobody knows from what to roll back"));
        }
        Ok((format!("{service} is being rolled back as {id}"), Some(id)))
    }

    fn climb_by_hand(
        &mut self,
        now: &Now,
        actor: &Actor,
        id: &IncidentId,
        levels: usize,
        Chosen { level, overrides }: Chosen<'_>,
        out: &mut Vec<Output>,
    ) -> Answered {
        let incident = &self.incidents[id];
        if incident.in_flight.is_some() {
            return Err(conflict(incident, "a step of it still runs"));
        }
        if !overrides.iter().any(|name| name == KILL_SWITCH) {
            self.not_killed(incident)?;
        }
        let levels = incident.plan.as_ref().map_or(levels, |plan| plan.levels.len());
        if incident.plan.is_none() {
            return Err(conflict(incident, "nothing was admitted that could go on; abort it first"));
        }
        if level.is_some_and(|level| level >= levels) {
            return Err(Refusal::Invalid(format!("the plan of {id} has levels 1 to {levels}")));
        }
        let Some(to) = level.or_else(|| incident.untried(0, levels)) else {
            return Err(conflict(incident, "every level was tried; name one with --level to run it again"));
        };
        self.may_climb(id, overrides, now)?;
        let reason = with_overrides(&format!("level {}", to + 1), overrides);
        self.incident_event(id, IncidentEvent::Approved { actor: actor.clone(), reason }, now, out);
        self.incident_event(id, IncidentEvent::Climbed { to, overrides: overrides.to_vec() }, now, out);
        Ok((format!("{id} goes on at level {}", to + 1), Some(id.clone())))
    }

    /// `question`: what the person was shown, where that may be older than what is proposed now.
    pub(super) fn approve(
        &mut self,
        now: &Now,
        actor: &Actor,
        name: &str,
        reason: &str,
        question: Option<&Question>,
        out: &mut Vec<Output>,
    ) -> Answered {
        bounded("reason", reason)?;
        let id = self.find_incident(name)?;
        let incident = &self.incidents[&id];
        let State::Proposed { level, .. } = incident.state else {
            return Err(conflict(incident, &nothing_proposed(incident)));
        };
        still_asked(incident, question)?;
        allowed(incident, actor)?;
        let approved = IncidentEvent::Approved { actor: actor.clone(), reason: reason.to_owned() };
        if incident.admitted.is_some() {
            self.not_killed(incident)?;
            self.may_climb(&id, &[], now)?;
            self.incident_event(&id, approved, now, out);
            self.incident_event(&id, IncidentEvent::Climbed { to: level, overrides: Vec::new() }, now, out);
            return Ok((format!("{id} climbs to level {}", level + 1), Some(id)));
        }
        let index = self.find_service(&incident.service)?;
        self.still_shown(index, incident, level)?;
        // An approval binds what was proposed; the world is looked at again.
        let (decision, level) = self.guard_for_person(index, incident, Mandate::Approved, Some(level), &[], now);
        if decision.kind != DecisionKind::RollBack {
            let why: Vec<_> = decision.reasons.iter().map(|reason| reason.sentence.clone()).collect();
            return Err(Refusal::Conflict(format!("{id} cannot be approved now: {}", why.join("; "))));
        }
        self.incident_event(&id, approved, now, out);
        if !self.admit(&id, decision, Some(actor.clone()), level, now, out) {
            return Err(conflict(&self.incidents[&id], "nobody knows from what to roll back"));
        }
        Ok((format!("{id} is approved"), Some(id)))
    }

    /// A level that a person orders waits for the kill switch as any other does, so the order is refused instead.
    fn not_killed(&self, incident: &Incident) -> Result<(), Refusal> {
        match self.killed(self.service_index(&incident.service), Some(&incident.id)) {
            None => Ok(()),
            Some(kill) => Err(conflict(incident, &format!("the kill switch is on: {}", kill.reason))),
        }
    }

    fn pause(&mut self, now: &Now, service: Option<&str>, pause: Pause) -> Answered {
        self.check_service(service)?;
        let until = now.wall_of(pause.until);
        let text = format!("paused until {until} by {}: {}", pause.actor.name, pause.reason);
        self.record(
            now,
            Entry::Paused {
                service: service.map(str::to_owned),
                until: pause.until,
                actor: pause.actor.clone(),
                reason: pause.reason.clone(),
            },
        );
        let by = Some(pause.actor.name.clone());
        match service.and_then(|service| self.service_index(service)) {
            Some(index) => self.services[index].pause = Some(pause),
            None => self.pause = Some(pause),
        }
        self.tell_pause(service, NoticeKind::Paused, by, &text, now);
        Ok((text, None))
    }

    /// False when it was not paused.
    pub(super) fn resume(&mut self, now: &Now, service: Option<&str>, actor: &Actor, reason: String) -> bool {
        let paused = match service.and_then(|service| self.service_index(service)) {
            Some(index) => self.services[index].pause.take(),
            None => self.pause.take(),
        };
        if paused.is_none() {
            return false;
        }
        self.record(now, Entry::Resumed { service: service.map(str::to_owned), actor: actor.clone(), reason });
        // Only people are named: a pause that ran out was ended by nobody.
        let by = (actor.via != TIMER).then(|| actor.name.clone());
        self.tell_pause(service, NoticeKind::Resumed, by, &format!("resumed by {}", actor.name), now);
        true
    }

    fn raise_signal(
        &mut self,
        now: &Now,
        actor: &Actor,
        service: &str,
        signal: String,
        ttl: std::time::Duration,
        detail: String,
    ) -> Answered {
        bounded("detail", &detail)?;
        let index = self.find_service(service)?;
        self.known_signal(index, &signal)?;
        if ttl.is_zero() {
            return Err(Refusal::Invalid("a signal needs a time to live, such as 1h".to_owned()));
        }
        let until = now.monotonic + ttl;
        self.services[index].signals.insert(signal.clone(), Raised { until, detail: detail.clone() });
        let message = format!("signal {signal} is raised on {service} until {}", now.wall_of(until));
        let service = service.to_owned();
        self.record(now, Entry::SignalRaised { service, signal, until, actor: actor.clone(), detail });
        Ok((message, None))
    }

    fn clear_signal(&mut self, now: &Now, actor: &Actor, service: &str, signal: String, reason: String) -> Answered {
        bounded("reason", &reason)?;
        let index = self.find_service(service)?;
        self.known_signal(index, &signal)?;
        if self.services[index].signals.remove(&signal).is_none() {
            return Err(Refusal::Conflict(format!("signal {signal} is not raised on {service}")));
        }
        let message = format!("signal {signal} is cleared on {service}");
        self.record(now, Entry::SignalCleared { service: service.to_owned(), signal, actor: actor.clone(), reason });
        Ok((message, None))
    }

    fn announce(&mut self, now: &Now, service: &str, release: &str, phase: ReleasePhase) -> Answered {
        let index = self.find_service(service)?;
        if release.is_empty() || release.len() > 128 {
            return Err(Refusal::Invalid("a release's name has 1 to 128 characters".to_owned()));
        }
        let detectors = &self.services[index].rules.detectors;
        let Some(detector) = detectors.iter().position(|d| matches!(d.kind, DetectorKind::Announced)) else {
            return Err(Refusal::Conflict(format!(
                "{service} takes no announced releases: add {{ announced = true }} to its release list"
            )));
        };
        match phase {
            ReleasePhase::Begin | ReleasePhase::End => {
                let changed = self.services[index].releases.read(detector, None, Ok(release.to_owned()), now.monotonic);
                if changed {
                    self.restart_windows(index, now.monotonic);
                }
            }
        }
        Ok((format!("release {release} of {service} is noted"), None))
    }

    fn forget(&mut self, now: &Now, actor: &Actor, service: &str, release: &str, reason: String) -> Answered {
        bounded("reason", &reason)?;
        let index = self.find_service(service)?;
        if !self.services[index].releases.forget(release) {
            return Err(Refusal::NotFound(format!("{service} has no release {release:?} that is marked bad")));
        }
        let marked = Release(Arc::from(release));
        self.record(
            now,
            Entry::ReleaseForgotten { service: service.to_owned(), release: marked, actor: actor.clone(), reason },
        );
        Ok((format!("{release} of {service} is no longer marked bad"), None))
    }

    fn test_notify(&mut self, now: &Now, actor: &Actor, receiver: Option<String>) -> Answered {
        let names: Vec<String> = self.outbox.names().map(str::to_owned).collect();
        let chosen = match receiver {
            None if names.is_empty() => {
                return Err(Refusal::NotFound("no receiver is configured: add [receivers.NAME]".to_owned()));
            }
            None => names,
            Some(name) if names.contains(&name) => vec![name],
            Some(name) => {
                let known = names.join(", ");
                return Err(Refusal::NotFound(format!("there is no receiver {name:?}; there are: {known}")));
            }
        };
        for receiver in &chosen {
            self.tell_test(receiver, actor, now);
        }
        Ok((format!("a test notice is queued for {}", chosen.join(", ")), None))
    }

    fn known_signal(&self, index: usize, signal: &str) -> Result<(), Refusal> {
        let names: Vec<&str> = self.services[index].rules.signals().map(AsRef::as_ref).collect();
        if names.contains(&signal) {
            return Ok(());
        }
        let service = &self.services[index].rules.name;
        Err(Refusal::NotFound(match names.as_slice() {
            [] => format!("{service} has no trigger with a signal"),
            names => format!("{service} has no signal {signal:?}; it has: {}", names.join(", ")),
        }))
    }

    /// A name that overrides nothing is a mistake: what it was meant for would not be overridden.
    fn known_overrides(&self, index: usize, overrides: &[String]) -> Result<(), Refusal> {
        let guard = &self.services[index].rules.guard;
        let blockers = guard.blockers.iter().map(|blocker| &*blocker.name);
        let ready = guard.ready.iter().map(|check| check.name.as_str());
        let known: Vec<&str> = blockers.chain(ready).collect();
        match overrides.iter().find(|name| *name != KILL_SWITCH && !known.contains(&name.as_str())) {
            None => Ok(()),
            Some(name) if known.is_empty() => {
                Err(Refusal::Invalid(format!("there is no blocker {name:?} to override")))
            }
            Some(name) => {
                let known = known.join(", ");
                Err(Refusal::Invalid(format!("there is no blocker {name:?} to override; there are: {known}")))
            }
        }
    }

    /// Why a person's order is refused. Answers that are missing are asked for, so that it can be repeated.
    fn refused_to_person(&mut self, index: usize, decision: &Decision, now: &Now) -> String {
        let why: Vec<_> = decision.reasons.iter().map(|reason| reason.sentence.as_str()).collect();
        let why = why.join("; ");
        if decision.reasons.iter().any(|reason| WAITING.contains(&reason.code.as_str())) {
            self.ask_for_person(index, now);
            return format!("{why}; it is being asked: order it again in a moment, or name it with --override");
        }
        why
    }

    /// Blockers stop a further level too.
    fn may_climb(&mut self, id: &IncidentId, overrides: &[String], now: &Now) -> Result<(), Refusal> {
        let Some(incident) = self.incidents.get(id) else { return Ok(()) };
        let Some(index) = self.service_index(&incident.service) else { return Ok(()) };
        let Some((why, waits)) = self.level_blocked(index, incident, overrides, now) else { return Ok(()) };
        let why = if waits { format!("{why}; order it again in a moment") } else { why };
        let refusal = conflict(incident, &why);
        if waits {
            self.ask_for_person(index, now);
        }
        Err(refusal)
    }

    fn check_service(&self, service: Option<&str>) -> Result<(), Refusal> {
        service.map_or(Ok(()), |service| self.find_service(service).map(|_| ()))
    }

    pub(super) fn find_service(&self, name: &str) -> Result<usize, Refusal> {
        let found = self.service_index(name).filter(|index| !self.services[*index].retired);
        found.ok_or_else(|| {
            let names: Vec<&str> = self.services.iter().map(|service| &*service.rules.name).collect();
            Refusal::NotFound(format!("there is no service {name:?}; there are: {}", names.join(", ")))
        })
    }

    pub(super) fn find_incident(&self, name: &str) -> Result<IncidentId, Refusal> {
        let id = IncidentId(Arc::from(name));
        if self.incidents.contains_key(&id) {
            return Ok(id);
        }
        let open = self.incidents.values().filter(|incident| incident.state.is_open());
        let open: Vec<String> = open.map(|incident| incident.id.to_string()).collect();
        Err(Refusal::NotFound(match open.as_slice() {
            [] => format!("there is no incident {name:?}, and none is open"),
            open => format!("there is no incident {name:?}; open: {}", open.join(", ")),
        }))
    }
}

/// What was overridden stands in the record, beside the reason for it.
fn with_overrides(reason: &str, overrides: &[String]) -> String {
    if overrides.is_empty() { reason.to_owned() } else { format!("{reason} (overrides {})", overrides.join(", ")) }
}

pub(super) fn conflict(incident: &Incident, why: &str) -> Refusal {
    Refusal::Conflict(format!("{} is {}: {why}", incident.id, incident.state.as_str()))
}

pub(super) fn bounded(what: &str, text: &str) -> Result<(), Refusal> {
    if text.len() > TEXT_BYTES_MAX {
        return Err(Refusal::Invalid(format!("the {what} is longer than {TEXT_BYTES_MAX} bytes")));
    }
    Ok(())
}
