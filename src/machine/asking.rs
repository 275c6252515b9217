//! Questions put to the world: who asked, when it is time to ask, and what becomes of the answer.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::Machine;
use super::input::CheckId;
use super::notices::Told;
use super::output::{CheckOrder, Output};
use super::service::Service;
use super::settle::is_acting;
use crate::decide::event::{
    Attempt, Check, CheckOutcome, IncidentEvent, IncidentId, NoticeKind, NoticeStatus, Release, Running,
};
use crate::decide::guard::asked::{About, Asked as GuardAsked, Standing, overridden};
use crate::decide::incident::{Incident, State};
use crate::decide::rules::{BlockerQuestion, BlockerUnknown};
use crate::decide::trigger::{Finding, threshold_text};
use crate::decide::verdict::Phase;
use crate::time::{Now, Timestamp};

/// Beyond its timeout a check may wait for others, and for the machine: after this no answer is expected any more.
const NO_ANSWER_AFTER: Duration = Duration::from_mins(1);

/// A way back that is not there is looked at again so often while something breaches.
const LOOK_AGAIN: Duration = Duration::from_secs(30);

/// So long the blockers are asked after a person wanted to roll back and their answers were not there.
const BY_HAND: Duration = Duration::from_mins(2);

/// Who waits for an answer. At most one question of each is under way.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Asker {
    /// A check of the level that finished at that instant, by its place.
    Verify { incident: IncidentId, finished: Timestamp, place: usize },
    /// A check before an admission.
    Guard { service: Arc<str>, kind: Kind, name: Arc<str>, way: Way },
    /// An incident: did this attempt of a step take effect?
    Step(IncidentId, Attempt),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    Blocker,
    WayBack,
}

/// From what to what it would be rolled back: an answer about another way says nothing.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Way {
    bad: Option<Release>,
    target: Option<Release>,
}

/// An answer before an admission.
#[derive(Clone, Debug)]
pub(super) struct Answered {
    /// When it was asked: it is true of that instant.
    pub at: Timestamp,
    pub way: Way,
    pub outcome: CheckOutcome,
}

#[derive(Debug)]
struct Open {
    asker: Asker,
    since: Timestamp,
    /// Then it is taken as not answered.
    until: Timestamp,
}

/// Questions under way. A restart and a reload forget them: an answer to one that is not known changes nothing.
#[derive(Debug, Default)]
pub(super) struct Asked {
    last: u64,
    open: BTreeMap<CheckId, Open>,
}

impl Asked {
    fn of(&self, asker: &Asker) -> Option<&Open> {
        self.open.values().find(|open| open.asker == *asker)
    }

    pub fn forget(&mut self) {
        self.open.clear();
    }
}

/// A question that is wanted, and when it is to be put.
struct Wanted {
    asker: Asker,
    check: Check,
    due: Timestamp,
}

impl Machine {
    /// Asks, unless the same asker still waits. `order` is given the id.
    pub(super) fn ask(
        &mut self,
        asker: Asker,
        order: impl FnOnce(CheckId) -> CheckOrder,
        now: &Now,
        out: &mut Vec<Output>,
    ) {
        if self.asked.of(&asker).is_some() {
            return;
        }
        self.asked.last += 1;
        let id = CheckId(self.asked.last);
        let order = order(id);
        let until = now.monotonic + order.check.timeout + NO_ANSWER_AFTER;
        self.asked.open.insert(id, Open { asker, since: now.monotonic, until });
        out.push(Output::RunCheck(Box::new(order)));
    }

    pub(super) fn checked(&mut self, now: &Now, id: CheckId, outcome: CheckOutcome, out: &mut Vec<Output>) {
        let Some(Open { asker, since, .. }) = self.asked.open.remove(&id) else { return };
        self.dirty = true;
        match asker {
            Asker::Step(incident, attempt) => self.step_checked(now, &incident, attempt, outcome, out),
            Asker::Verify { incident, finished, place } => {
                self.verification_answered(&incident, finished, place, (since, outcome), now, out);
            }
            Asker::Guard { service, kind, name, way } => {
                let Some(index) = self.service_index(&service) else { return };
                self.count_check(&service, kind.as_str(), &outcome);
                let answered = Answered { at: since, way, outcome };
                match kind {
                    Kind::Blocker => drop(self.services[index].blockers.insert(name, answered)),
                    Kind::WayBack => {
                        self.tell_way_back(index, &name, &answered, now);
                        self.services[index].ready.insert(name, answered);
                    }
                }
            }
        }
    }

    fn count_check(&mut self, service: &Arc<str>, kind: &'static str, outcome: &CheckOutcome) {
        let outcome = match outcome {
            CheckOutcome::Passed => "passed",
            CheckOutcome::Failed(_) => "failed",
            CheckOutcome::Unknown(_) => "unknown",
        };
        *self.counters.checks.entry((Arc::clone(service), kind, outcome)).or_default() += 1;
    }

    fn verification_answered(
        &mut self,
        id: &IncidentId,
        of: Timestamp,
        place: usize,
        answer: (Timestamp, CheckOutcome),
        now: &Now,
        out: &mut Vec<Output>,
    ) {
        let Some(incident) = self.incidents.get_mut(id) else { return };
        let Some((level, finished)) = incident.proving() else { return };
        let Some(proof) = incident.verify(level).checks.get(place).cloned().filter(|_| finished == of) else { return };
        let heard = incident.soak.heard_mut(place);
        let kind = |outcome: &CheckOutcome| std::mem::discriminant(outcome);
        let is_news = heard.answer.as_ref().is_none_or(|(_, before)| kind(before) != kind(&answer.1));
        heard.answer = Some(answer.clone());
        let service = Arc::from(incident.service.as_str());
        self.count_check(&service, "verify", &answer.1);
        if is_news {
            let event = IncidentEvent::CheckAnswered { level, check: proof.check.name, outcome: answer.1 };
            self.incident_event(id, event, now, out);
        }
    }

    /// Told once when the way back is found gone, and once when it is there again.
    fn tell_way_back(&mut self, index: usize, name: &Arc<str>, answered: &Answered, now: &Now) {
        let Some(target) = &answered.way.target else { return };
        let service = &mut self.services[index];
        let told = match &answered.outcome {
            CheckOutcome::Passed => service.ready_told.remove(name).then(|| {
                let text = format!("{target} can be gone back to again: {name}");
                (NoticeStatus::Resolved, text)
            }),
            CheckOutcome::Failed(why) | CheckOutcome::Unknown(why) => {
                service.ready_told.insert(Arc::clone(name)).then(|| {
                    let text = format!("{target} could not be gone back to: {name}: {why}");
                    (NoticeStatus::Firing, text)
                })
            }
        };
        let Some((status, text)) = told else { return };
        let action_required = status == NoticeStatus::Firing;
        let told = Told { kind: NoticeKind::Degraded, status, action_required, actor: None, text: &text };
        self.tell_service_about(index, told, Some(name), now);
    }

    /// Puts every question whose time has come.
    pub(super) fn ask_checks(&mut self, now: &Now, out: &mut Vec<Output>) {
        if self.draining {
            return;
        }
        for Wanted { asker, check, .. } in
            self.wanted(now.monotonic).filter(|it| it.due <= now.monotonic).collect::<Vec<_>>()
        {
            if let Asker::Verify { incident, place, .. } = &asker
                && let Some(incident) = self.incidents.get_mut(incident)
                && self.asked.of(&asker).is_none()
            {
                incident.soak.heard_mut(*place).asked = Some(now.monotonic);
            }
            let Some(order) = self.order_of(&asker, check) else { continue };
            self.ask(asker, |id| CheckOrder { id, ..order }, now, out);
        }
    }

    /// When a question is to be put, or is given up, although nothing happens until then.
    pub(super) fn ask_wakes(&self) -> Vec<Timestamp> {
        let due = self.wanted(self.settled).filter(|wanted| self.asked.of(&wanted.asker).is_none());
        let mut wakes: Vec<Timestamp> = due.map(|wanted| wanted.due).collect();
        wakes.extend(self.asked.open.values().map(|open| open.until + Duration::from_millis(1)));
        wakes
    }

    fn wanted(&self, now: Timestamp) -> impl Iterator<Item = Wanted> {
        let verifying = self.incidents.values().flat_map(|incident| self.wanted_of_level(incident));
        let guarding = (0..self.services.len()).flat_map(move |index| self.wanted_before(index, now));
        verifying.chain(guarding)
    }

    fn wanted_of_level(&self, incident: &Incident) -> Vec<Wanted> {
        let Some((level, finished)) = incident.proving() else { return Vec::new() };
        if self.service_index(&incident.service).is_none() {
            return Vec::new();
        }
        let from = incident.soak.from.max(finished);
        let checks = incident.verify(level).checks;
        let wanted = checks.into_iter().enumerate().filter_map(|(place, proof)| {
            let due = incident.soak.heard(place).due(&proof, from)?;
            let asker = Asker::Verify { incident: incident.id.clone(), finished, place };
            Some(Wanted { asker, check: proof.check, due })
        });
        wanted.collect()
    }

    /// Blockers are asked from the moment that something breaches, so that they cost no time when it fires; the way back
    /// all the time, and oftener then.
    fn wanted_before(&self, index: usize, now: Timestamp) -> Vec<Wanted> {
        let service = &self.services[index];
        let mut wanted = Vec::new();
        if service.retired {
            return wanted;
        }
        let name = &service.rules.name;
        let open = self.incidents.values().find(|incident| *incident.service == **name && incident.state.is_open());
        // Before a further level the blockers count as before the first one.
        let between = |open: &Incident| matches!(open.state, State::LevelOver { .. } | State::Proposed { .. });
        let acts = open.is_some_and(|open| is_acting(open) && !between(open));
        let breaches = service.triggers.iter().any(|state| matches!(state.phase(), Phase::Pending | Phase::Firing));
        let by_hand = service.asked_by_hand.is_some_and(|until| now < until);
        let near = by_hand || (!acts && (breaches || open.is_some()));
        let way = self::way(service, open);
        let mut want = |kind, check: &Check, name: &Arc<str>, due| {
            let asker = Asker::Guard {
                service: Arc::clone(&service.rules.name),
                kind,
                name: Arc::clone(name),
                way: way.clone(),
            };
            wanted.push(Wanted { asker, check: check.clone(), due });
        };
        let answer = |answers: &BTreeMap<Arc<str>, Answered>, name: &str| {
            answers.get(name).filter(|answered| answered.way == way).cloned()
        };
        if near {
            for blocker in &service.rules.guard.blockers {
                let BlockerQuestion::Check { check, max_age } = &blocker.question else { continue };
                let before = answer(&service.blockers, &blocker.name);
                let due = before.map_or(Timestamp::MIN, |before| before.at + *max_age / 2);
                want(Kind::Blocker, check, &blocker.name, due);
            }
        }
        if way.target.is_some() && !acts {
            let every = service.rules.guard.ready_every;
            for check in &service.rules.guard.ready {
                let name = Arc::from(check.name.as_str());
                let due = answer(&service.ready, &name).map_or(Timestamp::MIN, |before| match before.outcome {
                    CheckOutcome::Failed(_) | CheckOutcome::Unknown(_) if near => before.at + every.min(LOOK_AGAIN),
                    CheckOutcome::Passed | CheckOutcome::Failed(_) | CheckOutcome::Unknown(_) => before.at + every,
                });
                want(Kind::WayBack, check, &name, due);
            }
        }
        wanted
    }

    fn order_of(&self, asker: &Asker, check: Check) -> Option<CheckOrder> {
        let (service, incident) = match asker {
            Asker::Verify { incident, .. } => {
                let incident = self.incidents.get(incident)?;
                (self.service_index(&incident.service)?, Some(incident))
            }
            Asker::Guard { service, .. } => (self.service_index(service)?, None),
            // It has an order of its own.
            Asker::Step(..) => return None,
        };
        let service = &self.services[service];
        let plan = incident.and_then(|incident| incident.plan.as_ref());
        let way = match asker {
            Asker::Verify { .. } | Asker::Step(..) => self::way(service, incident),
            Asker::Guard { way, .. } => way.clone(),
        };
        let mut variables = plan.map_or_else(BTreeMap::new, |plan| plan.variables.clone());
        if plan.is_none() {
            variables.insert("service".to_owned(), service.rules.name.to_string());
            for (name, value) in &service.rules.labels {
                variables.insert(format!("labels.{name}"), value.to_string());
            }
        }
        Some(CheckOrder {
            id: CheckId(0),
            service: Arc::clone(&service.rules.name),
            incident: incident.map(|incident| incident.id.clone()),
            check,
            level: incident.and_then(Incident::level),
            attempt: None,
            bad: way.bad,
            target: way.target,
            running: match &service.releases.running {
                Running::One(release) => Some(release.clone()),
                Running::Mix(_) | Running::Unknown(_) => None,
            },
            variables,
            captures: incident.map(|incident| incident.captures.clone()).unwrap_or_default(),
        })
    }

    /// What the operator's checks say to a rollback of this incident, or, without one, of what runs.
    pub(super) fn guard_asked(
        &self,
        service: &Service,
        incident: Option<&Incident>,
        overrides: &[String],
        now: &Now,
    ) -> Vec<GuardAsked> {
        let way = self::way(service, incident);
        let guard = &service.rules.guard;
        let mut all: Vec<GuardAsked> = Vec::new();
        for blocker in &guard.blockers {
            let standing = match &blocker.question {
                BlockerQuestion::Check { max_age, .. } => {
                    self.standing(service, Kind::Blocker, &blocker.name, &way, *max_age, now)
                }
                BlockerQuestion::Signal(name) => signal_standing(service, name, now),
                BlockerQuestion::Windows { trigger, on_unknown } => {
                    let threshold = threshold_text(&trigger.question);
                    match (self.ask_windows(service, trigger, now).0, on_unknown) {
                        (Finding::Clear, _) | (Finding::Unknown(_), BlockerUnknown::Allow) => Standing::Free,
                        (Finding::Breached, _) => Standing::Holds(format!("it is {threshold}")),
                        (Finding::Unknown(why), BlockerUnknown::Block) => Standing::Unknown(why.to_string()),
                    }
                }
            };
            let about = About::Blocker { says: blocker.says.clone() };
            let overridden = overrides.iter().any(|name| **name == *blocker.name);
            all.push(GuardAsked { name: Arc::clone(&blocker.name), about, standing, overridden });
        }
        if let Some(target) = &way.target {
            for check in &guard.ready {
                let name: Arc<str> = Arc::from(check.name.as_str());
                let standing = self.standing(service, Kind::WayBack, &name, &way, guard.ready_max_age(), now);
                let overridden = overrides.contains(&check.name);
                let about = About::WayBack { target: target.to_string() };
                all.push(GuardAsked { name, about, standing, overridden });
            }
        }
        all
    }

    fn standing(
        &self,
        service: &Service,
        kind: Kind,
        name: &Arc<str>,
        way: &Way,
        max_age: Duration,
        now: &Now,
    ) -> Standing {
        let answers = match kind {
            Kind::Blocker => &service.blockers,
            Kind::WayBack => &service.ready,
        };
        let fresh = |answered: &&Answered| answered.way == *way && now.monotonic.since(answered.at) <= max_age;
        match answers.get(name).filter(fresh).map(|answered| &answered.outcome) {
            Some(CheckOutcome::Passed) => Standing::Free,
            Some(CheckOutcome::Failed(why)) => Standing::Holds(why.clone()),
            Some(CheckOutcome::Unknown(why)) => Standing::Unknown(why.clone()),
            None => {
                let service = Arc::clone(&service.rules.name);
                let asker = Asker::Guard { service, kind, name: Arc::clone(name), way: way.clone() };
                match self.asked.of(&asker) {
                    Some(open) if now.monotonic > open.until => Standing::Unknown("no answer came".to_owned()),
                    Some(_) | None => Standing::Waiting,
                }
            }
        }
    }

    /// Why no further level of this incident may begin; the flag says that only an answer is waited for. What was
    /// overridden when it was admitted, or for a level that was ordered, stays so.
    pub(super) fn level_blocked(
        &self,
        index: usize,
        incident: &Incident,
        overrides: &[String],
        now: &Now,
    ) -> Option<(String, bool)> {
        let before = incident.decision.iter().flat_map(|decision| overridden(&decision.checks));
        let before = before.map(str::to_owned).chain(incident.overrides.iter().cloned());
        let overrides: Vec<String> = before.chain(overrides.iter().cloned()).collect();
        let asked = self.guard_asked(&self.services[index], Some(incident), &overrides, now);
        let blockers = asked.iter().filter(|asked| matches!(asked.about, About::Blocker { .. }));
        // One that holds before one that is waited for.
        blockers.filter_map(GuardAsked::refusal).min_by_key(|(_, waits)| *waits)
    }

    /// A person wants to roll back, and answers are missing: they are asked for now.
    pub(super) fn ask_for_person(&mut self, index: usize, now: &Now) {
        self.services[index].asked_by_hand = Some(now.monotonic + BY_HAND);
        self.dirty = true;
    }
}

impl Kind {
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Kind::Blocker => "blocker",
            Kind::WayBack => "way_back",
        }
    }
}

/// From what to what an incident would be rolled back; without one, what runs now. The plan of one that is over says
/// nothing of another rollback of the same release.
fn way(service: &Service, incident: Option<&Incident>) -> Way {
    if let Some(plan) = incident.filter(|incident| incident.state.is_open()).and_then(|open| open.plan.as_ref()) {
        return Way { bad: Some(plan.bad.clone()), target: plan.target.clone() };
    }
    let bad = incident.and_then(|incident| incident.release.as_ref()).or(service.releases.judged.as_ref());
    Way { bad: bad.cloned(), target: bad.and_then(|bad| service.releases.way_back(bad)).cloned() }
}

fn signal_standing(service: &Service, name: &str, now: &Now) -> Standing {
    match service.signals.get(name).filter(|raised| now.monotonic < raised.until) {
        None => Standing::Free,
        Some(raised) if raised.detail.is_empty() => Standing::Holds(format!("signal {name} is raised")),
        Some(raised) => Standing::Holds(format!("signal {name} is raised: {}", raised.detail)),
    }
}
