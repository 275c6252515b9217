//! A `Tick`: everything that follows from what is known now.

use std::sync::Arc;
use std::time::Duration;

use super::Machine;
use super::commands::TIMER;
use super::output::{LogLevel, Output};
use super::proving::voice;
use super::service::{PATIENCE_DEFAULT, Service, TriggerState};
use crate::decide::event::{Entry, IncidentEvent, IncidentId, Record, Release, Running, WhyHuman};
use crate::decide::guard;
use crate::decide::incident::{Breach, Incident, Move, People, Situation, State};
use crate::decide::release::{Change, Named};
use crate::decide::rules::{DetectorKind, Question, Trigger};
use crate::decide::verdict::{Phase, Verdict};
use crate::decide::verify::{self, Reading, Voice};
use crate::decide::worsened::Measure;
use crate::promql::{Scope, TargetId};
use crate::time::{Now, Timestamp};

/// Events one incident may make in one turn: more would be a circle.
const EVENTS_PER_TURN_MAX: usize = 32;

impl Machine {
    pub(super) fn settle(&mut self, now: &Now, out: &mut Vec<Output>) {
        self.settled = now.monotonic;
        self.dirty = false;
        self.unjudged = false;
        self.end_pauses(now);
        for index in 0..self.services.len() {
            self.follow_reach(index, now);
            self.follow_releases(index, now, out);
            self.evaluate_triggers(index, now, out);
            self.grow_releases(index, now);
        }
        // After all are evaluated: a dependency may stand behind what depends on it.
        for index in 0..self.services.len() {
            if self.follow_dependencies(index, now) {
                self.evaluate_triggers(index, now, out);
            }
        }
        for index in self.follow_share(now) {
            self.evaluate_triggers(index, now, out);
        }
        for index in 0..self.services.len() {
            self.open_incidents(index, now, out);
        }
        let open: Vec<IncidentId> =
            self.incidents.values().filter(|incident| incident.state.is_open()).map(|i| i.id.clone()).collect();
        for id in open {
            self.soak(&id, now);
            self.advance(&id, now, out);
        }
        self.ask_about_steps(now, out);
        self.ask_checks(now, out);
        self.forget_old_incidents();
        self.beat(now, out);
        self.pump(now, out);
    }

    fn end_pauses(&mut self, now: &Now) {
        let over = |pause: &super::Pause| pause.until <= now.monotonic;
        let mut ended = Vec::new();
        if self.pause.as_ref().is_some_and(over) {
            ended.push(None);
        }
        let services = self.services.iter().filter(|service| service.pause.as_ref().is_some_and(over));
        ended.extend(services.map(|service| Some(service.rules.name.to_string())));
        for service in ended {
            let actor = crate::decide::event::Actor { name: "its time limit".to_owned(), via: TIMER.to_owned() };
            self.resume(now, service.as_deref(), &actor, String::new());
        }
    }

    fn follow_releases(&mut self, index: usize, now: &Now, out: &mut Vec<Output>) {
        let service = &mut self.services[index];
        if service.starting.as_ref().is_some_and(|(_, until)| *until <= now.monotonic) {
            service.starting = None;
            for trigger in &mut service.triggers {
                trigger.dirty = true;
            }
        }
        let was_running = service.releases.running.clone();
        let change = service.releases.update(now.monotonic);
        let is_unread = |running: &Running| matches!(running, Running::Unknown(_));
        let unread = is_unread(&service.releases.running);
        if unread != is_unread(&was_running) {
            // What runs is known again, or not any more: between two steps that counts from now.
            let unread = unread.then_some(now.monotonic);
            let name = Arc::clone(&service.rules.name);
            for incident in self.incidents.values_mut().filter(|i| *i.service == *name && i.state.is_open()) {
                incident.unread_since = unread;
            }
        }
        if let Some(change) = change {
            self.release_appeared(index, change, now, out);
        }
        if !unread {
            self.services[index].unnamed = false;
        }
        let service = &mut self.services[index];
        let name = Arc::clone(&service.rules.name);
        for Named { first, detector, value, release } in service.releases.take_learned() {
            let (service, first, detector) = (name.to_string(), first.to_string(), detector.to_string());
            self.record(now, Entry::ReleaseNamed { service, first, detector, value, release });
        }
    }

    fn release_appeared(&mut self, index: usize, mut change: Change, now: &Now, out: &mut Vec<Output>) {
        let name = Arc::clone(&self.services[index].rules.name);
        let acting = self.incidents.values_mut().find(|incident| *incident.service == *name && is_acting(incident));
        let mut own_bad = false;
        if let Some(incident) = acting
            && let Some(plan) = &incident.plan
        {
            own_bad = plan.bad == change.release;
            if plan.target.as_ref() == Some(&change.release) || (own_bad && incident.undo.is_some()) {
                change.installed_by = Some(incident.id.clone());
            }
            incident.saw(&change.release);
        }
        let service = &mut self.services[index];
        let restart_all = service.unnamed
            || service.rules.detectors.iter().all(|detector| matches!(detector.kind, DetectorKind::Announced));
        let reappeared = service.releases.is_bad(&change.release).cloned().filter(|_| !own_bad);
        let worsened_by = service.rules.guard.worsened_by;
        for (trigger, state) in service.rules.triggers.iter().zip(&mut service.triggers) {
            state.release_changed(trigger, now.monotonic, change.old_last_seen);
            for verdict in state.verdicts.values_mut() {
                verdict.baseline_from(change.old_last_seen, Measure::of(trigger, worsened_by));
            }
            state.dirty = true;
        }
        if change.old_last_seen.is_some() {
            service.starting = Some((change.release.clone(), change.first_seen + service.rules.startup));
        }
        service.releases.take(change.clone());
        // It was seen inside a process that answers: it has started.
        let answers = |(id, target): (&TargetId, &super::Target)| {
            let ok = target.last.as_ref().is_some_and(|look| look.ok && look.at >= change.first_seen);
            ok && service.releases.shows_judged(*id) == Some(true)
        };
        if self.targets.iter().filter(|(_, target)| target.scope == Scope::Service(service.id)).any(answers) {
            service.starting = None;
        }
        service.windows_from = service.windows_from.max(match change.old_last_seen {
            Some(_) if restart_all => change.first_seen,
            Some(_) | None => Timestamp::MIN,
        });
        if restart_all && change.old_last_seen.is_some() {
            self.restart_windows(index, change.first_seen);
        }
        let from = change.previous.as_ref().map_or_else(String::new, |previous| format!(", before it {previous}"));
        let message = format!("release {} runs{from}", change.release);
        out.push(Output::Log { level: LogLevel::Info, service: Some(Arc::clone(&name)), message });
        self.record(
            now,
            Entry::ReleaseSeen {
                service: name.to_string(),
                release: change.release.clone(),
                old_last_seen: change.old_last_seen,
                first_seen: change.first_seen,
                installed_by: change.installed_by.clone(),
                named_by: self.services[index].releases.named_by().map(str::to_owned),
            },
        );
        self.tell_reappeared(index, &change.release, reappeared, now);
    }

    fn grow_releases(&mut self, index: usize, now: &Now) {
        let service = &mut self.services[index];
        let firing = service.triggers.iter().any(|state| state.phase() == Phase::Firing);
        // That nobody raises a signal is no sight of the release, where a metric or a probe should show it.
        let is_value = |trigger: &Trigger| matches!(trigger.question, Question::Value { .. });
        let only_signals = !service.rules.triggers.iter().any(is_value);
        let shows = service.rules.triggers.iter().zip(&service.triggers);
        let mut known = shows
            .filter(|(trigger, _)| only_signals || is_value(trigger))
            .flat_map(|(_, state)| state.verdicts.values());
        let seen = known.any(|verdict| verdict.phase == Phase::Quiet && matches!(verdict.known, Some((_, false))));
        let clear = service.triggers.iter().all(|state| state.phase() != Phase::Pending);
        let good_after = service.rules.guard.good_after;
        // What breached and cannot be seen any more has not become good.
        let mut open = self.incidents.values().filter(|incident| incident.state.is_open());
        let busy = open.any(|incident| *incident.service == *service.rules.name);
        if let Some(release) = service.releases.grow(!firing && seen && !busy, clear, good_after, now.monotonic) {
            service.releases.mark_good(&release);
            let service = service.rules.name.to_string();
            self.record(now, Entry::ReleaseGood { service, release });
        }
    }

    /// A firing trigger opens an incident of the judged release, opens it again, or joins the open one.
    fn open_incidents(&mut self, index: usize, now: &Now, out: &mut Vec<Output>) {
        let service = &self.services[index];
        let firing = Machine::firing(service);
        if firing.is_empty() || service.retired {
            return;
        }
        let name = service.rules.name.to_string();
        let judged = service.releases.judged.clone();
        let open = self.incidents.values().find(|incident| incident.service == name && incident.state.is_open());
        if let Some(open) = open {
            let id = open.id.clone();
            for place in firing {
                let trigger = &self.services[index].rules.triggers[place].name;
                let joined = self.incidents.get(&id).is_some_and(|open| open.facts.contains_key(&**trigger));
                if !joined {
                    let fact = Box::new(self.fact(index, place, now));
                    let aside = self.joins_aside(index, &id, place, now);
                    self.incident_event(&id, IncidentEvent::Joined { fact, aside }, now, out);
                }
            }
            return;
        }
        let same = self.incidents.values().filter(|incident| incident.service == name && incident.release == judged);
        let earlier = same.max_by_key(|incident| incident.opened).map(|incident| incident.id.clone());
        for place in firing {
            match &earlier {
                Some(id) if self.is_told(index, place, id) => {}
                Some(id) => {
                    let fact = Box::new(self.fact(index, place, now));
                    self.incident_event(&id.clone(), IncidentEvent::Reopened { fact }, now, out);
                    return self.open_incidents(index, now, out);
                }
                None => {
                    let fact = Box::new(self.fact(index, place, now));
                    self.open_incident(&name, judged, fact, now, out);
                    return self.open_incidents(index, now, out);
                }
            }
        }
    }

    /// Is this breach what the incident, which has ended, was about? The same one is not told twice: the trigger must
    /// have been quiet since, and, where a person decided how it ends, right. An end that says that all is well says so only
    /// of the triggers that it knew.
    fn is_told(&self, index: usize, place: usize, id: &IncidentId) -> bool {
        let Some(incident) = self.incidents.get(id) else { return false };
        let Some(ended) = incident.ended else { return false };
        let was_well = matches!(incident.state, State::Cleared | State::Recovered);
        let by_a_person = matches!(incident.state, State::Declined | State::Expired | State::Aborted);
        let service = &self.services[index];
        let knew = incident.facts.contains_key(&*service.rules.triggers[place].name);
        // A count that starts anew, after windows that filled again or looks that were missed, is nothing new to decide
        // about; a release that comes back is.
        let decided = by_a_person && service.releases.change.as_ref().is_none_or(|change| change.first_seen <= ended);
        let is_new = |verdict: &Verdict| {
            verdict.began.is_some_and(|began| began > ended) && (!decided || verdict.went_wrong_after(ended))
        };
        let fired = service.triggers[place].verdicts.values().filter(|verdict| verdict.fires()).any(is_new);
        (knew || !was_well) && !fired
    }

    pub(super) fn open_incident(
        &mut self,
        service: &str,
        release: Option<Release>,
        fact: Box<crate::decide::event::TriggerFact>,
        now: &Now,
        out: &mut Vec<Output>,
    ) -> Option<IncidentId> {
        let id = IncidentId(Arc::from(format!("{service}-{}", self.seq.0 + 1)));
        let event = IncidentEvent::Opened { service: service.to_owned(), release, fact };
        let incident = Incident::open(id.clone(), &event, now.monotonic)?;
        self.incidents.insert(id.clone(), incident);
        if let Some((service, release)) = self.doubtful(&id, &event) {
            self.doubt(&service, &release);
        }
        let record = self.record(now, Entry::Incident { incident: id.clone(), event: Box::new(event) });
        self.log_event(&id, &record, out);
        self.histories.insert(id.clone(), Arc::new(vec![record]));
        Some(id)
    }

    /// Takes the reading of verification at this turn's fresh data.
    fn soak(&mut self, id: &IncidentId, now: &Now) {
        let Some(incident) = self.incidents.get(id) else { return };
        if !matches!(incident.state, State::Verifying { .. }) {
            return;
        }
        let Some(index) = self.service_index(&incident.service) else { return };
        let (reading, at) = self.reading(index, incident, now);
        let level = incident.level().unwrap_or(0);
        let (tolerance, slack) = self.soak_gaps(index, incident, level);
        let fresh = incident.soak.from < at;
        let suspended = reading != Reading::Clear && self.outage(index, incident, now).is_some();
        let Some(incident) = self.incident_mut(id) else { return };
        if suspended {
            incident.soak.suspend(now.monotonic);
        } else if fresh {
            incident.soak.take(reading, at, tolerance, slack);
        }
    }

    /// Why what is seen of a service may be an outage's, and not what a level has done to it: asked as at admission.
    fn outage(&self, index: usize, incident: &Incident, now: &Now) -> Option<String> {
        let service = &self.services[index];
        // Nothing of it is looked at any more, so it would never be over.
        if service.retired {
            return None;
        }
        let (breaching, unseen) = self.dependencies(service, now);
        let reach = self.reach(service, incident.acted(), now);
        guard::outage(self.tilt(service), &reach, (&breaching, &unseen), now)
    }

    /// The longest pause between two readings of a soak that still earns time, and how late its end may be noticed.
    fn soak_gaps(&self, index: usize, incident: &Incident, level: usize) -> (Duration, Duration) {
        let service = &self.services[index];
        let verify = incident.verify(level);
        let values =
            watched(service, incident).filter(|(trigger, _)| matches!(trigger.question, Question::Value { .. }));
        let gaps = values.map(|(trigger, _)| trigger.patience()).chain(self.proof_gaps(service, &verify));
        match gaps.max() {
            Some(gap) => (gap, gap),
            // Signals are known at every instant.
            None => (verify.within + verify.soak, Duration::ZERO),
        }
    }

    /// What the incident's triggers and the named probes say, and when they last said it.
    fn reading(&self, index: usize, incident: &Incident, now: &Now) -> (Reading, Timestamp) {
        let service = &self.services[index];
        let mut at = Timestamp::MIN;
        let finished = match incident.state {
            State::Verifying { finished, .. } => finished,
            _ => Timestamp::MIN,
        };
        let mut voices = Vec::new();
        for (_, state) in watched(service, incident) {
            let heard = match &state.latest {
                Some(latest) if state.taken > finished => {
                    at = at.max(state.taken);
                    voice(latest.worst().1)
                }
                Some(_) | None => Voice::Unknown,
            };
            voices.push(heard);
        }
        let more = self.proofs(service, incident, now);
        voices.extend(more.windows);
        let reading = verify::read(&voices, &more.proofs, &more.conditions);
        (reading, more.at.map_or(at, |newest| at.max(newest)))
    }

    /// Lets an incident go on until nothing follows at this instant.
    pub(super) fn advance(&mut self, id: &IncidentId, now: &Now, out: &mut Vec<Output>) {
        for _ in 0..EVENTS_PER_TURN_MAX {
            let Some(next) = self.next_move(id, now) else { return };
            self.note_silence(id, &next, now, out);
            match next {
                Move::Event(event) => self.incident_event(id, event, now, out),
                Move::Admit { decision, level } => {
                    if !self.admit(id, decision, None, level, now, out) {
                        return;
                    }
                }
            }
        }
        let message = format!("incident {id} makes events without end; it waits for the next turn");
        out.push(Output::Log { level: LogLevel::Error, service: None, message });
    }

    fn next_move(&self, id: &IncidentId, now: &Now) -> Option<Move> {
        let incident = self.incidents.get(id)?;
        let killed = self.killed(self.service_index(&incident.service), Some(&incident.id)).is_some();
        let configured = self.service_index(&incident.service).is_some_and(|index| !self.services[index].retired);
        if !configured && incident.state.is_waiting() && incident.admitted.is_none() {
            // Nobody asks for a rollback of it any more, and nothing of it will be seen again.
            let by = Running::Unknown(format!("{} is not configured any more", incident.service));
            return Some(Move::Event(IncidentEvent::Superseded { by }));
        }
        let Some(index) = self.service_index(&incident.service) else {
            return incident.advance(&gone(self.journal_failing.is_some(), self.draining || killed), now.monotonic);
        };
        let service = &self.services[index];
        let paused = [&service.pause, &self.pause].into_iter().flatten().any(|pause| now.monotonic < pause.until);
        let frozen = !incident.is_ordered() && self.frozen(service, now).is_some();
        let waiting =
            incident.state.is_waiting() && incident.admitted.is_none() && !self.keeps_question(index, incident, now);
        let (decision, level) = if waiting { self.guard(index, incident, now) } else { None }.unzip();
        let mut situation = Situation {
            running: &service.releases.running,
            breach: match breach_of(service, incident) {
                Breach::Over if !self.is_proved(service, incident, now) => Breach::Unclear,
                breach => breach,
            },
            decision,
            level: level.unwrap_or(0),
            reading: match incident.state {
                State::Verifying { .. } => self.reading(index, incident, now).0,
                _ => Reading::Unknown,
            },
            outage: if is_acting(incident) { self.outage(index, incident, now) } else { None },
            release_read: match incident.state {
                State::Stepped { at, .. } => service.releases.read_since(at, now.monotonic),
                _ => true,
            },
            paused: paused || frozen,
            journal_failing: self.journal_failing.is_some(),
            draining: self.draining || killed,
            patience: service.patience(incident.severity()),
            people: self.people(index, incident, now),
        };
        if situation.outage.is_some() && situation.reading == Reading::Breached {
            situation.reading = Reading::Unknown;
        }
        let next = incident.advance(&situation, now.monotonic)?;
        let begins_level = matches!(next, Move::Event(IncidentEvent::Climbed { .. } | IncidentEvent::Proposed { .. }));
        // A person who orders it was told what blocks; silence was not.
        let by_itself =
            matches!(incident.state, State::LevelOver { .. }) || incident.is_approved_by_silence(&next, now.monotonic);
        if !begins_level || !by_itself {
            return Some(next);
        }
        match self.level_blocked(index, incident, &[], now) {
            None => Some(next),
            // The answer of a blocker is awaited.
            Some((_, true)) => incident.climb_is_late(&situation.patience, now.monotonic).map(Move::Event),
            Some((why, false)) => Some(Move::Event(IncidentEvent::NeedsHuman {
                why: WhyHuman::Blocked,
                text: format!("no further level is begun: {why}"),
            })),
        }
    }

    fn forget_old_incidents(&mut self) {
        let mut closed: Vec<(Timestamp, IncidentId)> = self
            .incidents
            .values()
            .filter(|incident| !incident.state.is_open() && incident.in_flight.is_none())
            .map(|incident| (incident.ended.unwrap_or(incident.opened), incident.id.clone()))
            .collect();
        if closed.len() <= super::CLOSED_INCIDENTS_KEPT {
            return;
        }
        closed.sort();
        for (_, id) in closed.drain(..closed.len() - super::CLOSED_INCIDENTS_KEPT) {
            self.incidents.remove(&id);
            self.histories.remove(&id);
        }
    }

    pub(super) fn remember(&mut self, id: &IncidentId, record: Record) {
        Arc::make_mut(self.histories.entry(id.clone()).or_default()).push(record);
    }
}

pub(super) fn is_acting(incident: &Incident) -> bool {
    match incident.state {
        State::Ready { .. }
        | State::Running { .. }
        | State::Checking { .. }
        | State::Stepped { .. }
        | State::Verifying { .. }
        | State::LevelOver { .. }
        | State::NeedsHuman { .. } => true,
        State::Proposed { .. } => incident.admitted.is_some(),
        State::Firing
        | State::Held
        | State::Escalated
        | State::WouldRollBack
        | State::HeldByPerson { .. }
        | State::Recovered
        | State::Declined
        | State::Expired
        | State::Superseded
        | State::Aborted
        | State::Cleared => false,
    }
}

/// The triggers that an incident is about: those that made it; for one by hand (and when they are gone from the
/// configuration) all of its service. Never those that its release is not to blame for.
pub(super) fn watched<'a>(
    service: &'a Service,
    incident: &'a Incident,
) -> impl Iterator<Item = (&'a Trigger, &'a TriggerState)> + 'a {
    let counts = |trigger: &Trigger| !incident.aside.contains(&*trigger.name);
    let is_its_own = move |trigger: &Trigger| counts(trigger) && incident.facts.contains_key(&*trigger.name);
    let all = !service.rules.triggers.iter().any(is_its_own);
    let pairs = service.rules.triggers.iter().zip(&service.triggers);
    pairs.filter(move |(trigger, _)| (all && counts(trigger)) || is_its_own(trigger))
}

/// Over only when every trigger of the incident is known to be quiet, by an evaluation of this run.
fn breach_of(service: &Service, incident: &Incident) -> Breach {
    let (mut over, mut any) = (true, false);
    for (trigger, state) in watched(service, incident) {
        if Service::fires(trigger, state) {
            return Breach::Firing;
        }
        any = true;
        over &= !state.verdicts.is_empty()
            && state.verdicts.values().all(|verdict| {
                verdict.phase == Phase::Quiet
                    && verdict.unknown_since.is_none()
                    && !verdict.unproven
                    && matches!(verdict.known, Some((_, false)))
            });
    }
    if over && any { Breach::Over } else { Breach::Unclear }
}

/// What can be known of a service that is not configured any more: nothing, so that its incident ends with a person.
fn gone(journal_failing: bool, draining: bool) -> Situation<'static> {
    static RUNNING: std::sync::LazyLock<Running> =
        std::sync::LazyLock::new(|| Running::Unknown("the service is not configured any more".to_owned()));
    Situation {
        running: &RUNNING,
        breach: Breach::Unclear,
        decision: None,
        level: 0,
        reading: Reading::Unknown,
        outage: None,
        release_read: false,
        paused: false,
        journal_failing,
        draining,
        patience: PATIENCE_DEFAULT,
        people: People::default(),
    }
}
