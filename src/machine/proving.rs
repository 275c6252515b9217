//! What verification hears beside the incident's own triggers: probes, checks, other questions, the serving release.

use std::time::Duration;

use super::Machine;
use super::input::TargetKind;
use super::service::Service;
use crate::decide::event::Verify;
use crate::decide::incident::Incident;
use crate::decide::regression::Baselines;
use crate::decide::rules::{Question, Trigger};
use crate::decide::trigger::{Finding, Unknown, find};
use crate::decide::verify::{self, Reading, Voice};
use crate::promql::{Instant, Scope, evaluate};
use crate::time::{Now, Timestamp};

/// Of samples and answers from after the level finished.
#[derive(Debug, Default)]
pub(super) struct Voices {
    pub windows: Vec<Voice>,
    pub proofs: Vec<Voice>,
    pub conditions: Vec<Voice>,
    /// The newest of what they rest on.
    pub at: Option<Timestamp>,
}

impl Voices {
    fn heard_at(&mut self, at: Timestamp) {
        self.at = self.at.max(Some(at));
    }
}

/// A finding as verification takes it.
pub(super) const fn voice(finding: &Finding) -> Voice {
    match finding {
        Finding::Clear => Voice::Clear,
        Finding::Breached => Voice::Breached,
        Finding::Unknown(Unknown::TooFewEvents { .. }) => Voice::NoTraffic,
        Finding::Unknown(_) => Voice::Unknown,
    }
}

impl Machine {
    pub(super) fn proofs(&self, service: &Service, incident: &Incident, now: &Now) -> Voices {
        let mut voices = Voices::default();
        let Some((level, finished)) = incident.proving() else { return voices };
        let verify = incident.verify(level);
        self.hear_probes(service, &verify, finished, now, &mut voices);
        for (place, proof) in verify.checks.iter().enumerate() {
            let heard = incident.soak.heard(place);
            let voice = heard.voice(proof, now.monotonic);
            if proof.once { &mut voices.conditions } else { &mut voices.proofs }.push(voice);
            if let Some((at, _)) = &heard.answer {
                voices.heard_at(*at);
            }
        }
        for name in &verify.still_wrong {
            let found = service.rules.criteria.iter().find(|criterion| *criterion.name == **name);
            // One that a changed file took away cannot be answered any more.
            let (heard, at) = found.map_or((Voice::Unknown, Timestamp::MIN), |criterion| {
                let (finding, at) = self.ask_windows(service, criterion, now);
                (if at > finished { voice(&finding) } else { Voice::Unknown }, at)
            });
            voices.windows.push(heard);
            if at > finished {
                voices.heard_at(at);
            }
        }
        if verify.serves_target {
            let target = incident.plan.as_ref().and_then(|plan| plan.target.as_ref());
            voices.conditions.push(verify::serves(&service.releases.running, target));
        }
        voices
    }

    /// Whether nothing that the level itself asked for says that it is still wrong: then quiet triggers end it.
    pub(super) fn is_proved(&self, service: &Service, incident: &Incident, now: &Now) -> bool {
        let mut voices = self.proofs(service, incident, now);
        voices.windows.push(Voice::Clear);
        verify::read(&voices.windows, &voices.proofs, &voices.conditions) == Reading::Clear
    }

    fn hear_probes(&self, service: &Service, verify: &Verify, finished: Timestamp, now: &Now, voices: &mut Voices) {
        for name in &verify.probes {
            let own = |target: &&super::Target| {
                target.scope == Scope::Service(service.id)
                    && target.key.kind == TargetKind::Probe
                    && *target.key.source == **name
            };
            for target in self.targets.values().filter(own) {
                let recent = super::watch::is_recent(target, now.monotonic);
                voices.proofs.push(match &target.last {
                    Some(look) if recent && look.at > finished => {
                        voices.at = voices.at.max(Some(look.at));
                        if look.ok { Voice::Clear } else { Voice::Breached }
                    }
                    Some(_) | None => Voice::Unknown,
                });
            }
        }
    }

    /// The longest pauses between two voices of the level that still earn time.
    pub(super) fn proof_gaps(&self, service: &Service, verify: &Verify) -> Vec<Duration> {
        let probes = self.targets.values().filter(|target| {
            let named = verify.probes.iter().any(|name| **name == *target.key.source);
            target.scope == Scope::Service(service.id) && target.key.kind == TargetKind::Probe && named
        });
        let criteria =
            service.rules.criteria.iter().filter(|known| verify.still_wrong.iter().any(|n| **n == *known.name));
        let checks = verify.checks.iter().filter(|proof| !proof.once);
        probes
            .map(|target| target.interval * 9 / 4)
            .chain(criteria.map(Trigger::patience))
            .chain(checks.map(verify::patience))
            .collect()
    }

    /// What a question that is no trigger finds now, and the newest sample that it rests on.
    pub(super) fn ask_windows(&self, service: &Service, trigger: &Trigger, now: &Now) -> (Finding, Timestamp) {
        let unknown = |why| (Finding::Unknown(why), Timestamp::MIN);
        let Question::Value { expr, .. } = &trigger.question else {
            return unknown(Unknown::Invalid("a signal is no expression".to_owned()));
        };
        if service.starting.is_some() {
            return unknown(Unknown::Starting);
        }
        // At the newest look; where looks stop coming, now, so that what they saw goes stale.
        let looked = service.newest_look.min(now.monotonic);
        let at = if now.monotonic.since(looked) > trigger.patience() { now.monotonic } else { looked };
        let wall_offset_ms = now.wall.millis_since(now.monotonic);
        let evaluated = evaluate(expr, &self.store, service.id, Instant { at, wall_offset_ms });
        let newest = evaluated.as_ref().ok().and_then(super::judging::newest_sample);
        let newest = newest.or_else(|| self.newest_success(service)).unwrap_or(Timestamp::MIN).min(at);
        let findings = self.with_queries(service, expr, find(trigger, evaluated, &Baselines::default()));
        (findings.worst().1.clone(), newest)
    }
}
