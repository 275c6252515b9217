//! What the release is to blame for, and how much backstop may do about it at each level: frozen at the admission.

use super::Machine;
use super::judging::{breach_of, manual_trigger, speaking};
use super::service::Service;
use super::settle::watched;
use crate::decide::event::{Autonomy, Gate, IncidentId, Severity};
use crate::decide::guard;
use crate::decide::incident::Incident;
use crate::decide::rules::Trigger;
use crate::time::Now;

impl Machine {
    /// Does verification have to read this trigger? Not where it was wrong before the release, nor where it is never to be
    /// acted on. What is not wrong now may yet become so by the release.
    fn counts(&self, index: usize, incident: &Incident, place: usize, now: &Now) -> bool {
        let service = &self.services[index];
        let (trigger, state) = (&service.rules.triggers[place], &service.triggers[place]);
        if trigger.autonomy == Some(Autonomy::Observe) {
            return false;
        }
        let wrong = state.verdicts.values();
        let wrong = wrong.filter(|verdict| verdict.inherited.is_some() || matches!(verdict.known, Some((_, true))));
        let Some(verdict) = speaking(trigger, wrong) else { return true };
        let breach = breach_of(trigger, Some(verdict), service.rules.guard.worsened_by, now);
        guard::is_to_blame(&self.facts(index, incident, trigger, breach, None, now), now)
    }

    /// The triggers of the incident that its verification does not read. Where that would be all of them, it reads all: a
    /// person ordered the rollback because of them.
    pub(super) fn aside(&self, index: usize, incident: &Incident, now: &Now) -> Vec<String> {
        let service = &self.services[index];
        let own: Vec<&str> = watched(service, incident).map(|(trigger, _)| &*trigger.name).collect();
        let aside: Vec<String> = (0..service.rules.triggers.len())
            .filter(|place| own.contains(&&*service.rules.triggers[*place].name))
            .filter(|place| !self.counts(index, incident, *place, now))
            .map(|place| service.rules.triggers[place].name.to_string())
            .collect();
        if aside.len() == own.len() { Vec::new() } else { aside }
    }

    /// A trigger that fires only after the admission: is it told of, and not read by verification?
    pub(super) fn joins_aside(&self, index: usize, id: &IncidentId, place: usize, now: &Now) -> bool {
        let Some(incident) = self.incidents.get(id).filter(|incident| incident.admitted.is_some()) else {
            return false;
        };
        let service = &self.services[index];
        let trigger = &service.rules.triggers[place];
        // A rollback by hand is verified by all of them from the beginning.
        let is_read = watched(service, incident).any(|(read, _)| read.name == trigger.name);
        !is_read && (trigger.gate == Gate::None || !self.counts(index, incident, place, now))
    }

    /// How much backstop may do at each level of the ladder. Of the triggers that fire, the one that lets it do most
    /// counts, if the release is to blame for it: it alone would be enough. Where none fires, the most careful does.
    pub(super) fn autonomy_of_levels(&self, index: usize, incident: &Incident, now: &Now) -> Vec<Autonomy> {
        let service = &self.services[index];
        let triggers = &service.rules.triggers;
        let firing = Machine::firing(service);
        let blamed: Vec<usize> =
            firing.iter().copied().filter(|place| self.counts(index, incident, *place, now)).collect();
        let acting: Vec<&Trigger> =
            (if blamed.is_empty() { firing } else { blamed }).into_iter().map(|place| &triggers[place]).collect();
        let own = triggers.iter().filter(|trigger| incident.facts.contains_key(&*trigger.name));
        let by_hand = manual_trigger(Severity::High);
        let at = |level: usize| {
            let of = |trigger: &Trigger| autonomy_at(service, incident, trigger, Some(level));
            let most = acting.iter().map(|trigger| of(trigger)).max();
            most.or_else(|| own.clone().map(of).min()).unwrap_or_else(|| of(&by_hand))
        };
        (0..service.rules.ladder.len()).map(at).collect()
    }
}

/// The most careful of service, trigger, level and severity.
pub(super) fn autonomy_at(service: &Service, incident: &Incident, trigger: &Trigger, level: Option<usize>) -> Autonomy {
    let of_level = level.and_then(|level| service.rules.ladder.get(level)).and_then(|level| level.autonomy);
    let severity = incident.severity().max(trigger.severity);
    let of_severity = service.rules.severities.get(&severity).and_then(|rules| rules.autonomy);
    let limits = [Some(service.rules.autonomy), trigger.autonomy, of_level, of_severity];
    limits.into_iter().flatten().min().unwrap_or(Autonomy::Observe)
}
