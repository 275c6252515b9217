//! What people are asked about an incident, and what they may do to it beside approving: answer a link, hold it to fix it
//! forward, skip a step. And what becomes of their silence.

use std::time::Duration;

use super::Machine;
use super::commands::{Answered, bounded, conflict};
use super::input::{Question, Refusal};
use super::output::Output;
use crate::decide::event::{Actor, IncidentEvent, IncidentId, OnSilence, Release, Running};
use crate::decide::incident::{Incident, Move, People, State};
use crate::decide::trigger::short;
use crate::promql::Scope;
use crate::time::Now;

const ANOTHER_QUESTION: &str = "it asks another question by now; look at the latest notice";

/// After a start, the first looks at all that a service has are over by then, in one way or another.
pub(super) const FIRST_LOOKS_WITHIN: Duration = Duration::from_mins(1);

impl Machine {
    /// A question that was asked before a start stays, with its links and its time, until the service was looked at:
    /// that nothing is seen yet is no other answer of the guard.
    pub(super) fn keeps_question(&self, index: usize, incident: &Incident, now: &Now) -> bool {
        if !matches!(incident.state, State::Proposed { .. }) || now.monotonic >= self.started + FIRST_LOOKS_WITHIN {
            return false;
        }
        let service = &self.services[index];
        let own = || self.targets.values().filter(|target| target.scope == Scope::Service(service.id));
        let looked_at = own().next().is_some() && own().all(|target| target.last.is_some());
        !looked_at || matches!(service.releases.running, Running::Unknown(_))
    }

    /// Whom a proposal would ask now, by the policy of the incident's severity.
    pub(super) fn people(&self, index: usize, incident: &Incident, now: &Now) -> People {
        if !incident.state.is_open() {
            return People::default();
        }
        let (bad, target) = self.shown_now(index, incident);
        let asks = incident.state.is_waiting() && incident.admitted.is_none();
        let levels = if asks { self.services[index].level_hashes.clone() } else { Vec::new() };
        let rules = self.services[index].rules.severities.get(&incident.severity());
        let frozen = incident.asked.as_ref().map(|asked| asked.on_silence);
        let silence = match incident.state {
            State::Proposed { level, respond_by }
                if respond_by <= now.monotonic && frozen == Some(OnSilence::Approve) && incident.admitted.is_none() =>
            {
                self.guard_for_silence(index, incident, level, now)
            }
            _ => None,
        };
        People {
            bad,
            target,
            levels,
            approvers: rules.map(|rules| rules.approvers.clone()).unwrap_or_default(),
            on_silence: rules.map(|rules| rules.on_silence).unwrap_or_default(),
            silence,
        }
    }

    /// What an admission now would roll back, and to what.
    fn shown_now(&self, index: usize, incident: &Incident) -> (Option<Release>, Option<Release>) {
        let releases = &self.services[index].releases;
        let bad = incident.release.as_ref().or(releases.judged.as_ref());
        (bad.cloned(), bad.and_then(|bad| releases.way_back(bad)).cloned())
    }

    /// Writes down that nobody's silence approved what follows.
    pub(super) fn note_silence(&mut self, id: &IncidentId, next: &Move, now: &Now, out: &mut Vec<Output>) {
        let Some(incident) = self.incidents.get(id) else { return };
        if !incident.is_approved_by_silence(next, now.monotonic) {
            return;
        }
        let actor = Actor { name: "nobody's answer".to_owned(), via: Actor::SILENCE.to_owned() };
        let reason = "nobody answered in time, and on_silence is \"approve\"".to_owned();
        self.incident_event(id, IncidentEvent::Approved { actor, reason }, now, out);
    }

    /// The way back that was shown is still the one that would be taken, and the level is what it was.
    pub(super) fn still_shown(&self, index: usize, incident: &Incident, level: usize) -> Result<(), Refusal> {
        let Some(asked) = &incident.asked else { return Ok(()) };
        let hash = self.services[index].level_hashes.get(level);
        if asked.level_hash.is_some() && asked.level_hash.as_ref() != hash {
            return Err(conflict(incident, ANOTHER_QUESTION));
        }
        let (bad, target) = self.shown_now(index, incident);
        if asked.bad == bad && asked.target == target {
            return Ok(());
        }
        let name = |release: &Option<Release>| release.as_ref().map_or("nothing".to_owned(), ToString::to_string);
        let why = format!(
            "the way back has changed since it was asked: from {} to {}; look at it again",
            name(&asked.target),
            name(&target)
        );
        Err(conflict(incident, &why))
    }

    #[expect(clippy::too_many_arguments, reason = "the fields of one command")]
    pub(super) fn answer(
        &mut self,
        now: &Now,
        actor: &Actor,
        name: &str,
        approves: bool,
        reason: String,
        question: &Question,
        out: &mut Vec<Output>,
    ) -> Answered {
        if approves {
            return self.approve(now, actor, name, &reason, Some(question), out);
        }
        let id = self.find_incident(name)?;
        still_asked(&self.incidents[&id], Some(question))?;
        self.decline(now, actor, name, reason, out)
    }

    pub(super) fn decline(
        &mut self,
        now: &Now,
        actor: &Actor,
        name: &str,
        reason: String,
        out: &mut Vec<Output>,
    ) -> Answered {
        bounded("reason", &reason)?;
        let id = self.find_incident(name)?;
        let open = &self.incidents[&id];
        if !matches!(open.state, State::Proposed { .. }) {
            return Err(conflict(open, &nothing_proposed(open)));
        }
        self.incident_event(&id, IncidentEvent::Declined { actor: actor.clone(), reason }, now, out);
        Ok((format!("{id} is declined"), Some(id)))
    }

    pub(super) fn hold(
        &mut self,
        now: &Now,
        actor: &Actor,
        name: &str,
        duration: Duration,
        reason: String,
        out: &mut Vec<Output>,
    ) -> Answered {
        needed(&reason)?;
        let id = self.find_incident(name)?;
        let incident = &self.incidents[&id];
        if !incident.state.is_open() {
            return Err(conflict(incident, "it is over"));
        }
        if !incident.may_be_held() {
            return Err(conflict(
                incident,
                "it is already rolling back; `backstop abort` ends it after the step that runs",
            ));
        }
        let index = self.find_service(&incident.service)?;
        let most = self.services[index].rules.hold_max;
        let until = now.monotonic + duration;
        let end = incident.held_from.unwrap_or(now.monotonic) + most;
        if duration.is_zero() || until > end {
            let left = short(end.since(now.monotonic));
            let why = format!("{id} can be held for {} in all (hold_max), {left} from now", short(most));
            return Err(Refusal::Invalid(why));
        }
        self.incident_event(&id, IncidentEvent::HoldOrdered { actor: actor.clone(), reason, until }, now, out);
        Ok((format!("{id} is held until {}; then it goes on by itself", now.wall_of(until)), Some(id)))
    }

    pub(super) fn unhold(
        &mut self,
        now: &Now,
        actor: &Actor,
        name: &str,
        reason: String,
        out: &mut Vec<Output>,
    ) -> Answered {
        bounded("reason", &reason)?;
        let id = self.find_incident(name)?;
        let incident = &self.incidents[&id];
        if !matches!(incident.state, State::HeldByPerson { .. }) {
            return Err(conflict(incident, "no person holds it"));
        }
        self.incident_event(&id, IncidentEvent::HoldEnded { actor: Some(actor.clone()), reason }, now, out);
        Ok((format!("{id} is not held any more"), Some(id)))
    }

    pub(super) fn skip(
        &mut self,
        now: &Now,
        actor: &Actor,
        name: &str,
        step: Option<usize>,
        reason: String,
        out: &mut Vec<Output>,
    ) -> Answered {
        needed(&reason)?;
        let id = self.find_incident(name)?;
        let incident = &self.incidents[&id];
        let Some(attempt) = incident.skippable() else {
            let why = if incident.in_flight.is_some() { "a step runs, and is not stopped" } else { "no step waits" };
            return Err(conflict(incident, why));
        };
        if let Some(step) = step.filter(|step| *step != attempt.step) {
            let why = format!("the step that waits is {}, not {}", attempt.step + 1, step + 1);
            return Err(conflict(incident, &why));
        }
        self.incident_event(&id, IncidentEvent::StepSkipped { attempt, actor: actor.clone(), reason }, now, out);
        let message = format!("step {} of level {} of {id} is skipped", attempt.step + 1, attempt.level + 1);
        Ok((message, Some(id)))
    }
}

/// A hold and a skip stand in the report for ever: somebody will ask why.
fn needed(reason: &str) -> Result<(), Refusal> {
    if reason.trim().is_empty() {
        return Err(Refusal::Invalid("a reason is needed".to_owned()));
    }
    bounded("reason", reason)
}

/// May this person approve what is proposed? The policy is the one that was frozen when it was.
pub(super) fn allowed(incident: &Incident, actor: &Actor) -> Result<(), Refusal> {
    let Some(asked) = &incident.asked else { return Ok(()) };
    if asked.approvers.is_empty() || actor.is_one_of(&asked.approvers) {
        return Ok(());
    }
    let who = match actor.via.as_str() {
        Actor::LINK => "whoever has this link".to_owned(),
        via if via.starts_with("link:") => format!("whoever has a link of {}", &via["link:".len()..]),
        _ => actor.name.clone(),
    };
    Err(Refusal::NotAllowed(format!("{} may be approved by {}, not by {who}", incident.id, asked.approvers.join(", "))))
}

/// Is what the person was shown still what is asked?
pub(super) fn still_asked(incident: &Incident, question: Option<&Question>) -> Result<(), Refusal> {
    let Some(question) = question else { return Ok(()) };
    if !matches!(incident.state, State::Proposed { .. }) {
        return Err(conflict(incident, &nothing_proposed(incident)));
    }
    if incident.question().as_ref() == Some(question) { Ok(()) } else { Err(conflict(incident, ANOTHER_QUESTION)) }
}

pub(super) fn nothing_proposed(incident: &Incident) -> String {
    if incident.state.is_open() { "nothing is proposed".to_owned() } else { "nothing is proposed any more".to_owned() }
}
