//! The snapshot: state as people and programs may see it.

use std::sync::Arc;
use std::time::Duration;

use super::Machine;
use super::service::Service;
use super::snapshot::{
    AskedView, IncidentView, JournalHealth, KillView, PauseView, QuestionView, ReleaseView, ServiceView, SignalView,
    Snapshot, TargetView, TriggerView,
};
use crate::decide::event::{Autonomy, Entry, IncidentEvent, Release};
use crate::decide::guard::asked::{About, Standing};
use crate::decide::incident::{Incident, State};
use crate::decide::rules::{Question, Trigger, Unit};
use crate::decide::trigger::{Finding, threshold_text, value_text};
use crate::promql::Scope;
use crate::time::{Now, Timestamp};

impl Machine {
    #[must_use]
    pub fn snapshot(&self, now: &Now) -> Snapshot {
        let journal = match &self.journal_failing {
            None => JournalHealth::Writing,
            Some((since_wall, why)) => JournalHealth::Failing { since_wall: *since_wall, why: why.clone() },
        };
        let services = self.services.iter().filter(|service| !service.retired);
        Snapshot {
            at: now.monotonic,
            wall: now.wall,
            started_wall: self.started_wall,
            version: env!("CARGO_PKG_VERSION"),
            instance: Arc::clone(&self.rules.instance),
            config_hash: Arc::clone(&self.rules.hash),
            generation: self.rules.generation,
            settled: self.settled > Timestamp::MIN,
            journal,
            pause: self.pause.as_ref().map(|pause| pause_view(pause, now)),
            kill_switch: self.killed(None, None).map(|kill| kill_view(kill, now)),
            tilt: self.tilt_view(now).map(|(until, why)| (now.wall_of(until), why.to_owned())),
            services: services.map(|service| self.service_view(service, now)).collect(),
            incidents: self.incidents.values().map(|incident| self.incident_view(incident, now)).collect(),
            receivers: self.outbox.views(now),
            counters: self.counters.clone(),
        }
    }

    fn service_view(&self, service: &Service, now: &Now) -> ServiceView {
        let releases = &service.releases;
        let way_back = releases.judged.as_ref().and_then(|judged| releases.way_back(judged));
        let targets = self.targets.values().filter(|target| match target.scope {
            Scope::Shared => true,
            Scope::Service(id) => id == service.id,
        });
        let open = self.incidents.values().find(|i| *i.service == *service.rules.name && i.state.is_open());
        ServiceView {
            name: Arc::clone(&service.rules.name),
            autonomy: match service.rules.autonomy {
                Autonomy::Observe => "observe",
                Autonomy::Propose => "propose",
                Autonomy::Act => "act",
            },
            running: releases.running.clone(),
            running_since_wall: releases.change.as_ref().map(|change| now.wall_of(change.first_seen)),
            way_back: way_back.map(ToString::to_string),
            releases: releases
                .known()
                .iter()
                .map(|known| ReleaseView {
                    name: known.release.to_string(),
                    first_seen_wall: now.wall_of(known.first_seen),
                    good: known.good,
                    bad: known.bad.is_some(),
                })
                .collect(),
            triggers: service
                .rules
                .triggers
                .iter()
                .enumerate()
                .map(|(place, trigger)| Machine::trigger_view(service, place, trigger, now))
                .collect(),
            targets: targets
                .map(|target| TargetView {
                    kind: target.key.kind.as_str(),
                    source: Arc::clone(&target.key.source),
                    address: Arc::clone(&target.key.address),
                    up: target.last.as_ref().map(|look| look.ok),
                    last_wall: target.last.as_ref().map(|look| now.wall_of(look.at)),
                    error: target.last.as_ref().and_then(|look| look.error.clone()),
                    series: target.series,
                })
                .collect(),
            signals: service
                .signals
                .iter()
                .filter(|(_, raised)| raised.until > now.monotonic)
                .map(|(name, raised)| SignalView {
                    name: name.clone(),
                    until_wall: now.wall_of(raised.until),
                    detail: raised.detail.clone(),
                })
                .collect(),
            asked: self.asked_views(service, open, now),
            pause: service.pause.as_ref().map(|pause| pause_view(pause, now)),
            kill_switch: service.kill.as_ref().map(|kill| kill_view(kill, now)),
            freeze: self.frozen(service, now).map(|(why, until)| (why.to_owned(), until)),
            incident: open.map(|incident| incident.id.clone()),
        }
    }

    fn asked_views(&self, service: &Service, open: Option<&Incident>, now: &Now) -> Vec<AskedView> {
        let asked = self.guard_asked(service, open, &[], now);
        let views = asked.iter().map(|asked| {
            let (kind, answers) = match asked.about {
                About::Blocker { .. } => ("blocker", &service.blockers),
                About::WayBack { .. } => ("way_back", &service.ready),
            };
            let (standing, stops) = match asked.standing {
                Standing::Free => ("free", false),
                Standing::Holds(_) => ("holds", true),
                Standing::Unknown(_) => ("unknown", true),
                Standing::Waiting => ("unasked", false),
            };
            AskedView {
                kind,
                name: Arc::clone(&asked.name),
                standing,
                sentence: asked.refusal().filter(|_| stops).map(|(sentence, _)| sentence).unwrap_or_default(),
                last_wall: answers.get(&asked.name).map(|answered| now.wall_of(answered.at)),
            }
        });
        views.collect()
    }

    fn trigger_view(service: &Service, place: usize, trigger: &Trigger, now: &Now) -> TriggerView {
        let state = &service.triggers[place];
        let unit = match &trigger.question {
            Question::Value { unit, .. } => *unit,
            Question::Signal { .. } => Unit::Number,
        };
        let worst = state.verdicts.values().max_by_key(|verdict| (verdict.fires(), verdict.held));
        let (finding, value, sentence) = match &state.latest {
            None => ("unknown", None, "not evaluated yet".to_owned()),
            Some(latest) => {
                let (_, finding, value) = latest.worst();
                let sentence = match finding {
                    Finding::Unknown(why) => why.to_string(),
                    Finding::Clear | Finding::Breached => match value {
                        Some(value) => format!("{} ({})", value_text(value, unit), threshold_text(&trigger.question)),
                        None if *finding == Finding::Breached => "raised".to_owned(),
                        None if matches!(trigger.question, Question::Signal { .. }) => "not raised".to_owned(),
                        None => "nothing matches".to_owned(),
                    },
                };
                (finding.as_str(), value, sentence)
            }
        };
        TriggerView {
            name: Arc::clone(&trigger.name),
            severity: trigger.severity,
            verdict: state.phase().as_str(),
            finding,
            since_wall: worst.map(|verdict| now.wall_of(verdict.began.unwrap_or(verdict.since))),
            value,
            value_text: value.map(|value| value_text(value, unit)),
            threshold: threshold_text(&trigger.question),
            held: worst.map_or(Duration::ZERO, |verdict| verdict.held),
            hold: trigger.hold,
            sentence,
            never_fires: state.never_fires(trigger),
        }
    }

    /// Where an incident that waits would go, so that a person who is asked can see it.
    fn way_back_of(&self, incident: &Incident) -> Option<&Release> {
        let index = self.service_index(&incident.service).filter(|_| incident.state.is_open())?;
        self.services[index].releases.way_back(incident.release.as_ref()?)
    }

    fn question_view(&self, incident: &Incident) -> Option<QuestionView> {
        let State::Proposed { level, .. } = incident.state else { return None };
        let asked = incident.asked.as_ref()?;
        let planned = incident.plan.as_ref().map(|plan| &plan.levels);
        // Before it is admitted there is no plan, and the ladder is the configuration's.
        let index = self.service_index(&incident.service);
        let levels = planned.or_else(|| index.map(|index| &self.services[index].rules.ladder));
        let name = levels.and_then(|levels| Some(levels.get(level)?.name.clone())).unwrap_or_default();
        Some(QuestionView {
            number: asked.number,
            level: (level + 1, levels.map_or(level + 1, Vec::len), name),
            bad: asked.bad.as_ref().map(ToString::to_string),
            target: asked.target.as_ref().map(ToString::to_string),
            approvers: asked.approvers.clone(),
            on_silence: asked.on_silence,
        })
    }

    /// Who holds it, why, and until when.
    fn held_by(&self, incident: &Incident, now: &Now) -> Option<String> {
        let State::HeldByPerson { until } = incident.state else { return None };
        let history = self.histories.get(&incident.id)?;
        let order = history.iter().rev().find_map(|record| {
            let Entry::Incident { event, .. } = &record.entry else { return None };
            let IncidentEvent::HoldOrdered { actor, reason, .. } = &**event else { return None };
            Some((actor, reason))
        });
        let (actor, reason) = order?;
        Some(format!("held by {} until {}, to fix it forward: {reason}", actor.name, now.wall_of(until)))
    }

    fn incident_view(&self, incident: &Incident, now: &Now) -> IncidentView {
        let plan = incident.plan.as_ref();
        let level = plan
            .zip(incident.level())
            .and_then(|(plan, level)| Some((level + 1, plan.levels.len(), plan.levels.get(level)?.name.clone())));
        IncidentView {
            id: incident.id.clone(),
            service: Arc::from(incident.service.as_str()),
            release_bad: incident.release.as_ref().map(ToString::to_string),
            release_target: plan
                .map_or_else(|| self.way_back_of(incident), |plan| plan.target.as_ref())
                .map(ToString::to_string),
            state: incident.state.as_str(),
            sentence: self.held_by(incident, now).unwrap_or_else(|| sentence(incident)),
            reasons: {
                let decision = incident.decision.iter().filter(|_| incident.state.is_waiting());
                decision.flat_map(|decision| &decision.reasons).map(|reason| reason.code.clone()).collect()
            },
            needs_human: match incident.state {
                State::NeedsHuman { why, .. } => Some(why.as_str()),
                _ => None,
            },
            open: incident.state.is_open(),
            acknowledged: incident.acknowledged,
            severity: incident.severity(),
            triggers: incident.facts.keys().cloned().collect(),
            level,
            opened_wall: now.wall_of(incident.opened),
            ended_wall: incident.ended.map(|at| now.wall_of(at)),
            respond_by_wall: match incident.state {
                State::Proposed { respond_by, .. } => Some(now.wall_of(respond_by)),
                _ => None,
            },
            question: self.question_view(incident),
            next: incident.next_for_people(),
            history: self.histories.get(&incident.id).cloned().unwrap_or_default(),
        }
    }
}

fn pause_view(pause: &super::Pause, now: &Now) -> PauseView {
    PauseView { until_wall: now.wall_of(pause.until), actor: pause.actor.clone(), reason: pause.reason.clone() }
}

fn kill_view(kill: &super::safety::Kill, now: &Now) -> KillView {
    KillView { since_wall: now.wall_of(kill.since), actor: kill.actor.clone(), reason: kill.reason.clone() }
}

/// Why it is where it is, in one line.
fn sentence(incident: &Incident) -> String {
    let fact = incident.facts.values().max_by_key(|fact| fact.severity).map_or("", |fact| fact.sentence.as_str());
    let reasons: Vec<&str> = incident
        .decision
        .iter()
        .flat_map(|decision| decision.reasons.iter().map(|reason| reason.sentence.as_str()))
        .collect();
    match &incident.state {
        State::Held | State::Escalated | State::Proposed { .. } if !reasons.is_empty() => reasons.join("; "),
        State::NeedsHuman { text, .. } => text.clone(),
        State::LevelOver { why, .. } => why.clone(),
        State::Ready { .. } | State::Running { .. } | State::Checking { .. } | State::Stepped { .. } => {
            incident.trouble().unwrap_or_else(|| fact.to_owned())
        }
        State::Firing
        | State::Held
        | State::Escalated
        | State::WouldRollBack
        | State::HeldByPerson { .. }
        | State::Proposed { .. }
        | State::Verifying { .. }
        | State::Recovered
        | State::Declined
        | State::Expired
        | State::Superseded
        | State::Aborted
        | State::Cleared => fact.to_owned(),
    }
}
