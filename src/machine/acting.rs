//! Incidents in motion: events recorded and applied, effects sent, steps begun and ended.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::Machine;
use super::input::CommandId;
use super::notices::Told;
use super::output::{LogLevel, Output, StepOrder};
use crate::decide::event::{
    Actor, Attempt, Decision, Entry, IncidentEvent, IncidentId, Outcome, Plan, Record, Release, Running, StepResult,
    Verified,
};
use crate::decide::incident::{Effect, State, deadline};
use crate::decide::report;
use crate::time::Now;

/// What runs was named in the latest turn; a step starts by it only this long afterwards.
const JUDGED_FOR: Duration = Duration::from_millis(100);

impl Machine {
    /// Records an event, applies it, and sends what follows.
    pub(super) fn incident_event(
        &mut self,
        id: &IncidentId,
        mut event: IncidentEvent,
        now: &Now,
        out: &mut Vec<Output>,
    ) {
        let Some(incident) = self.incidents.get_mut(id) else { return };
        if let IncidentEvent::StepIntended { attempt, input_hash } = &mut event
            && let (Some(step), Some(plan)) = (incident.step(*attempt), &incident.plan)
        {
            *input_hash = step.input_hash(&plan.variables, &incident.captures);
        }
        let effects = incident.apply(&event, now.monotonic);
        if let Some((service, release)) = self.doubtful(id, &event) {
            self.doubt(&service, &release);
        }
        self.follow_override(id, &event, now.monotonic);
        let record = self.record(now, Entry::Incident { incident: id.clone(), event: Box::new(event) });
        self.log_event(id, &record, out);
        self.remember(id, record);
        for effect in effects {
            self.carry_out(id, effect, now, out);
        }
        self.dirty = true;
    }

    /// The release that is not known to be good any more: a trigger fired on it, or it was the way back and was seen
    /// failing.
    pub(super) fn doubtful(&self, id: &IncidentId, event: &IncidentEvent) -> Option<(String, Release)> {
        let incident = self.incidents.get(id)?;
        let release = if let IncidentEvent::Opened { .. } | IncidentEvent::Reopened { .. } = event {
            incident.release.clone()
        } else if let IncidentEvent::LevelFailed { verified: Verified::NotRecovered, .. } = event {
            incident.plan.as_ref().and_then(|plan| plan.target.clone()).filter(|_| incident.target_seen)
        } else {
            None
        };
        release.map(|release| (incident.service.clone(), release))
    }

    pub(super) fn doubt(&mut self, service: &str, release: &Release) {
        if let Some(index) = self.service_index(service) {
            self.services[index].releases.doubt(release);
        }
    }

    /// The timeline as it happens, for whoever reads only the log.
    pub(super) fn log_event(&self, id: &IncidentId, record: &Record, out: &mut Vec<Output>) {
        let Some(incident) = self.incidents.get(id) else { return };
        let Entry::Incident { event, .. } = &record.entry else { return };
        let person = matches!(**event, IncidentEvent::NeedsHuman { .. } | IncidentEvent::Reminded);
        let refused = matches!(
            **event,
            IncidentEvent::Judged { .. } | IncidentEvent::Proposed { .. } | IncidentEvent::LevelFailed { .. }
        );
        let level = match (person, refused) {
            (true, _) => LogLevel::Error,
            (false, true) => LogLevel::Warn,
            (false, false) => LogLevel::Info,
        };
        for sentence in report::sentences(record, event, incident.plan.as_ref()) {
            let service = Some(Arc::from(incident.service.as_str()));
            out.push(Output::Log { level, service, message: format!("{id}: {sentence}") });
        }
    }

    fn carry_out(&mut self, id: &IncidentId, effect: Effect, now: &Now, _out: &mut Vec<Output>) {
        let service = self.incidents.get(id).map(|incident| incident.service.clone()).unwrap_or_default();
        match effect {
            Effect::RunStep(attempt) => {
                if let Some(order) = self.order(id, attempt) {
                    self.gate(Output::RunStep(Box::new(order)));
                }
            }
            Effect::Notify { kind, status, action_required, actor, text } => {
                self.tell_incident(id, Told { kind, status, action_required, actor, text: &text }, now);
            }
            Effect::RestartWindows(at) => {
                if let Some(index) = self.service_index(&service) {
                    self.restart_windows(index, at);
                    for state in &mut self.services[index].triggers {
                        state.dirty = true;
                    }
                }
            }
            Effect::MarkBad(release) => {
                if let Some(index) = self.service_index(&service) {
                    self.services[index].releases.mark_bad(&release, id.clone());
                    self.record(now, Entry::ReleaseBad { service, release, incident: id.clone() });
                }
            }
            Effect::Ended(outcome) => {
                *self.counters.incidents.entry((Arc::from(service), outcome)).or_default() += 1;
            }
        }
    }

    /// Admission: the plan, the guard's answers and the evidence are frozen here. False when nobody knows from what to
    /// roll back, or the level is not there.
    pub(super) fn admit(
        &mut self,
        id: &IncidentId,
        decision: Decision,
        actor: Option<Actor>,
        start_level: usize,
        now: &Now,
        out: &mut Vec<Output>,
    ) -> bool {
        let Some(incident) = self.incidents.get(id) else { return false };
        let Some(index) = self.service_index(&incident.service) else { return false };
        let service = &self.services[index];
        if start_level >= service.rules.ladder.len() {
            return false;
        }
        let Some(bad) = incident.release.clone().or_else(|| service.releases.judged.clone()) else { return false };
        let lead = incident.facts.values().max_by_key(|fact| fact.severity);
        let mut variables = BTreeMap::from([
            ("service".to_owned(), service.rules.name.to_string()),
            ("incident".to_owned(), id.to_string()),
        ]);
        if let Some(fact) = lead {
            // "by hand" has a space, which no command and no template may be given.
            variables.insert("trigger".to_owned(), fact.trigger.replace(' ', "-"));
            variables.insert("value".to_owned(), fact.value.clone().unwrap_or_default());
        }
        for (name, value) in &service.rules.labels {
            variables.insert(format!("labels.{name}"), value.to_string());
        }
        let plan = Plan {
            target: service.releases.way_back(&bad).cloned(),
            bad,
            levels: service.rules.ladder.clone(),
            start_level,
            variables,
            autonomy: self.autonomy_of_levels(index, incident, now),
            aside: self.aside(index, incident, now),
        };
        let event = IncidentEvent::Admitted {
            deadline: deadline(&plan, start_level, now.monotonic),
            plan: Box::new(plan),
            decision,
            facts: self.latest_facts(index, incident, now),
            running: service.releases.running.clone(),
            actor,
            receivers: service.rules.notify.iter().map(ToString::to_string).collect(),
        };
        self.admissions.push((Arc::clone(&service.rules.name), id.clone(), now.monotonic));
        self.incident_event(id, event, now, out);
        true
    }

    fn latest_facts(
        &self,
        index: usize,
        incident: &crate::decide::incident::Incident,
        now: &Now,
    ) -> Vec<crate::decide::event::TriggerFact> {
        let triggers = &self.services[index].rules.triggers;
        let places = incident.facts.iter().map(|(name, fact)| {
            let place = triggers.iter().position(|trigger| *trigger.name == **name);
            place.map_or_else(|| fact.clone(), |place| self.fact(index, place, now))
        });
        places.collect()
    }

    fn order(&self, id: &IncidentId, attempt: Attempt) -> Option<StepOrder> {
        let incident = self.incidents.get(id)?;
        let plan = incident.plan.as_ref()?;
        let running = self.runs(&incident.service);
        Some(StepOrder {
            incident: id.clone(),
            service: Arc::from(incident.service.as_str()),
            attempt,
            step: incident.step(attempt)?.clone(),
            idempotency_key: format!(
                "{id}.{}.{}.{}{}",
                incident.run(attempt),
                attempt.level + 1,
                if attempt.undo { "undo." } else { "" },
                attempt.step + 1
            ),
            expect_release: running.clone().or_else(|| Some(plan.bad.clone())),
            bad: Some(plan.bad.clone()),
            target: plan.target.clone(),
            running,
            variables: plan.variables.clone(),
            captures: incident.captures.clone(),
        })
    }

    /// The one release that runs, if it is one.
    pub(super) fn runs(&self, service: &str) -> Option<Release> {
        match &self.services[self.service_index(service)?].releases.running {
            Running::One(release) => Some(release.clone()),
            Running::Mix(_) | Running::Unknown(_) => None,
        }
    }

    pub(super) fn step_started(
        &mut self,
        now: &Now,
        id: &IncidentId,
        attempt: Attempt,
        pid: Option<u32>,
        process_start: Option<String>,
        out: &mut Vec<Output>,
    ) {
        if self.incidents.get(id).is_some_and(|incident| incident.in_flight == Some(attempt)) {
            self.incident_event(id, IncidentEvent::StepStarted { attempt, pid, process_start }, now, out);
        }
    }

    pub(super) fn step_finished(
        &mut self,
        now: &Now,
        id: &IncidentId,
        attempt: Attempt,
        result: StepResult,
        out: &mut Vec<Output>,
    ) {
        // A result that comes twice, or for nothing that is under way, changes nothing.
        let Some(incident) = self.incidents.get(id).filter(|incident| incident.in_flight == Some(attempt)) else {
            return;
        };
        let outcome = match result.outcome {
            Outcome::Succeeded => "succeeded",
            Outcome::Failed => "failed",
            Outcome::TimedOut => "timed_out",
            Outcome::Ambiguous => "ambiguous",
        };
        let service: Arc<str> = Arc::from(incident.service.as_str());
        *self.counters.steps.entry((service, outcome)).or_default() += 1;
        self.incident_event(id, IncidentEvent::StepFinished { attempt, result: Box::new(result) }, now, out);
    }

    /// A step whose intent has become durable starts now, or, if the world has changed in between (the disk may have been
    /// slow), never. None: not yet.
    pub(super) fn release_step(&mut self, order: &StepOrder, now: &Now, out: &mut Vec<Output>) -> Option<bool> {
        // Something was seen, or time has passed, that no turn has judged yet.
        if self.unjudged || now.monotonic.since(self.settled) > JUDGED_FOR {
            return None;
        }
        let Some(incident) = self.incidents.get(&order.incident) else { return Some(false) };
        if incident.in_flight != Some(order.attempt) {
            return Some(false);
        }
        let running = match self.service_index(&incident.service) {
            Some(index) => self.services[index].releases.running.clone(),
            None => Running::Unknown("the service is not configured any more".to_owned()),
        };
        let killed = self.killed(self.service_index(&incident.service), Some(&incident.id)).is_some();
        let goes_on = matches!(&incident.state, State::Running { attempt } if *attempt == order.attempt);
        let why = match (goes_on, &running) {
            // It waits with its intent: nothing has been started, and what was admitted is not lost.
            (true, _) if killed && !self.draining => return None,
            (true, _) if killed => "the kill switch is on, and backstop stops",
            (true, _) if incident.may_step(&running) => return Some(true),
            (true, Running::Unknown(_)) if !self.draining => return None,
            (true, Running::Unknown(_)) => "what runs cannot be read, and backstop stops",
            (true, Running::One(_) | Running::Mix(_)) => "another release runs by now",
            (false, _) => "the incident went on without it",
        };
        let event = IncidentEvent::StepNotStarted { attempt: order.attempt, why: why.to_owned() };
        self.incident_event(&order.incident, event, now, out);
        Some(false)
    }

    /// Answers a command when all that it caused is durable.
    pub(super) fn reply(&mut self, id: CommandId, answer: super::input::Answer) {
        self.gate(Output::Reply { id, answer });
    }
}
