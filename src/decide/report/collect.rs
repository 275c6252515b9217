//! One walk over the entries of an incident.

use std::collections::BTreeMap;

use super::ladder::{Ladder, wall_of};
use super::moments::{self, Line, judged, level_name};
use super::text::{actor, after_colon, running};
use super::{Delivery, Fact, Moment, NoticeReport, PersonAct, Report, Standing, Times};
use crate::decide::event::{
    Actor, Decision, DecisionKind, Entry, IncidentEvent, IncidentId, Notice, Plan, Record, Running, Severity,
    TriggerFact,
};
use crate::time::Timestamp;

pub(super) fn report(records: &[Record]) -> Option<Report> {
    let (id, first) = records.iter().find_map(|record| match &record.entry {
        Entry::Incident { incident, .. } => Some((incident.clone(), record)),
        Entry::DaemonStarted { .. }
        | Entry::ReleaseSeen { .. }
        | Entry::ReleaseNamed { .. }
        | Entry::ReleaseGood { .. }
        | Entry::ReleaseBad { .. }
        | Entry::ReleaseForgotten { .. }
        | Entry::NoticeQueued { .. }
        | Entry::NoticeDelivered { .. }
        | Entry::NoticeDead { .. }
        | Entry::NoticeFellBack { .. }
        | Entry::Paused { .. }
        | Entry::Resumed { .. }
        | Entry::KillSwitch { .. }
        | Entry::SignalRaised { .. }
        | Entry::SignalCleared { .. }
        | Entry::Command(_) => None,
    })?;
    let mut walk = Walk::new(id, first);
    for record in records {
        walk.take(record);
    }
    Some(walk.finish())
}

/// The instants of one episode, on the monotonic timeline.
#[derive(Default)]
struct Episode {
    began: Option<(Timestamp, Timestamp)>,
    fired: Option<Timestamp>,
    admitted: Option<Timestamp>,
    level_finished: Option<Timestamp>,
    clear: Option<Timestamp>,
}

impl Episode {
    fn times(&self) -> Times {
        let between = |from: Option<Timestamp>, to: Option<Timestamp>| Some(to?.since(from?));
        Times {
            began_wall: self.began.map(|(_, wall)| wall),
            detect: between(self.began.map(|(at, _)| at), self.fired),
            decide: between(self.fired, self.admitted),
            roll_back: between(self.admitted, self.level_finished),
            recover: between(self.began.map(|(at, _)| at), self.clear),
        }
    }
}

struct Walk<'a> {
    id: IncidentId,
    opened_wall: Timestamp,
    service: String,
    release_bad: Option<String>,
    plan: Option<&'a Plan>,
    standing: Standing,
    sentence: String,
    acknowledged: bool,
    ended_wall: Option<Timestamp>,
    decision: Option<Decision>,
    facts: Vec<Fact>,
    lines: Vec<(Line, Timestamp)>,
    episodes: Vec<Episode>,
    ladder: Ladder,
    people: Vec<PersonAct>,
    notices: Vec<NoticeReport>,
    by_notice: BTreeMap<&'a str, usize>,
}

impl<'a> Walk<'a> {
    fn new(id: IncidentId, first: &Record) -> Walk<'a> {
        Walk {
            id,
            opened_wall: first.wall,
            service: String::new(),
            release_bad: None,
            plan: None,
            standing: Standing::Firing,
            sentence: String::new(),
            acknowledged: false,
            ended_wall: None,
            decision: None,
            facts: Vec::new(),
            lines: Vec::new(),
            episodes: Vec::new(),
            ladder: Ladder::default(),
            people: Vec::new(),
            notices: Vec::new(),
            by_notice: BTreeMap::new(),
        }
    }

    fn take(&mut self, record: &'a Record) {
        match &record.entry {
            Entry::Incident { incident, event } if *incident == self.id => self.event(record, event),
            Entry::NoticeQueued { notice, receivers } if notice.incident.as_ref() == Some(&self.id) => {
                self.queued(record, notice, receivers);
            }
            Entry::NoticeDelivered { notice, receiver } => {
                self.delivery(notice, receiver, Delivery::Delivered(record.wall));
            }
            Entry::NoticeDead { notice, receiver, why } => self.delivery(notice, receiver, Delivery::Dead(why.clone())),
            Entry::NoticeFellBack { notice, fallback, .. } => self.delivery(notice, fallback, Delivery::Queued),
            Entry::Incident { .. }
            | Entry::NoticeQueued { .. }
            | Entry::DaemonStarted { .. }
            | Entry::ReleaseSeen { .. }
            | Entry::ReleaseNamed { .. }
            | Entry::ReleaseGood { .. }
            | Entry::ReleaseBad { .. }
            | Entry::ReleaseForgotten { .. }
            | Entry::Paused { .. }
            | Entry::Resumed { .. }
            | Entry::KillSwitch { .. }
            | Entry::SignalRaised { .. }
            | Entry::SignalCleared { .. }
            | Entry::Command(_) => {}
        }
    }

    fn event(&mut self, record: &'a Record, event: &'a IncidentEvent) {
        if let IncidentEvent::Admitted { plan, .. } = event {
            self.plan = Some(plan);
        }
        for line in moments::lines(record, event, self.plan) {
            let wall = wall_of(record, line.at);
            self.lines.push((line, wall));
        }
        self.ladder.take(record, event, self.plan);
        self.clock(record, event);
        self.people(record, event);
        let before = self.standing;
        self.stand(record, event);
        if self.standing.is_open() {
            self.ended_wall = None;
        } else if before.is_open() || self.ended_wall.is_none() {
            self.ended_wall = Some(record.wall);
        }
    }

    /// The instants that the times are made of.
    fn clock(&mut self, record: &Record, event: &IncidentEvent) {
        match event {
            IncidentEvent::Opened { fact, .. } | IncidentEvent::Reopened { fact } => self.episodes.push(Episode {
                began: Some((fact.since, wall_of(record, fact.since))),
                fired: Some(fact.fired.unwrap_or(record.at)),
                ..Episode::default()
            }),
            IncidentEvent::Admitted { .. } => {
                self.episode().admitted.get_or_insert(record.at);
            }
            IncidentEvent::LevelFinished { at, .. } => self.episode().level_finished = Some(*at),
            IncidentEvent::CameClear { at } => self.episode().clear = Some(*at),
            IncidentEvent::Relapsed | IncidentEvent::LevelFailed { .. } => self.episode().clear = None,
            IncidentEvent::Recovered { clear_since } => {
                let episode = self.episode();
                episode.clear = Some(clear_since.or(episode.clear).unwrap_or(record.at));
            }
            IncidentEvent::Cleared => {
                self.episode().clear.get_or_insert(record.at);
            }
            IncidentEvent::Joined { .. }
            | IncidentEvent::CheckAnswered { .. }
            | IncidentEvent::Judged { .. }
            | IncidentEvent::Proposed { .. }
            | IncidentEvent::Approved { .. }
            | IncidentEvent::Declined { .. }
            | IncidentEvent::Expired
            | IncidentEvent::StepIntended { .. }
            | IncidentEvent::StepStarted { .. }
            | IncidentEvent::StepFinished { .. }
            | IncidentEvent::StepNotStarted { .. }
            | IncidentEvent::StepChecked { .. }
            | IncidentEvent::UndoBegan { .. }
            | IncidentEvent::UndoFinished { .. }
            | IncidentEvent::Climbed { .. }
            | IncidentEvent::Superseded { .. }
            | IncidentEvent::Aborted { .. }
            | IncidentEvent::NeedsHuman { .. }
            | IncidentEvent::Reminded
            | IncidentEvent::RtoPassed { .. }
            | IncidentEvent::Unanswered { .. }
            | IncidentEvent::HoldOrdered { .. }
            | IncidentEvent::HoldEnded { .. }
            | IncidentEvent::StepSkipped { .. }
            | IncidentEvent::Acknowledged { .. } => {}
        }
    }

    /// The latest one; an incident whose opening entry is missing has one without a beginning.
    fn episode(&mut self) -> &mut Episode {
        if self.episodes.is_empty() {
            self.episodes.push(Episode::default());
        }
        let last = self.episodes.len() - 1;
        &mut self.episodes[last]
    }

    fn people(&mut self, record: &Record, event: &IncidentEvent) {
        let (who, did, reason): (&Actor, &'static str, &str) = match event {
            IncidentEvent::Approved { actor, reason } => (actor, "approved", reason),
            IncidentEvent::Declined { actor, reason } => (actor, "declined", reason),
            IncidentEvent::Aborted { actor, reason } => (actor, "aborted", reason),
            IncidentEvent::Acknowledged { actor, reason } => (actor, "acknowledged", reason),
            IncidentEvent::HoldOrdered { actor, reason, .. } => (actor, "held", reason),
            IncidentEvent::HoldEnded { actor: Some(actor), reason } => (actor, "ended the hold", reason),
            IncidentEvent::StepSkipped { actor, reason, .. } => (actor, "skipped a step", reason),
            // An approval stands on its own line already.
            IncidentEvent::Admitted { actor: Some(actor), .. }
                if !self.people.iter().any(|act| act.did == "approved") =>
            {
                (actor, "ordered the rollback", "")
            }
            IncidentEvent::Admitted { .. }
            | IncidentEvent::Unanswered { .. }
            | IncidentEvent::HoldEnded { actor: None, .. }
            | IncidentEvent::Opened { .. }
            | IncidentEvent::Reopened { .. }
            | IncidentEvent::Joined { .. }
            | IncidentEvent::Judged { .. }
            | IncidentEvent::Proposed { .. }
            | IncidentEvent::Expired
            | IncidentEvent::StepIntended { .. }
            | IncidentEvent::StepStarted { .. }
            | IncidentEvent::StepFinished { .. }
            | IncidentEvent::StepNotStarted { .. }
            | IncidentEvent::StepChecked { .. }
            | IncidentEvent::UndoBegan { .. }
            | IncidentEvent::UndoFinished { .. }
            | IncidentEvent::LevelFinished { .. }
            | IncidentEvent::CameClear { .. }
            | IncidentEvent::CheckAnswered { .. }
            | IncidentEvent::Relapsed
            | IncidentEvent::LevelFailed { .. }
            | IncidentEvent::Climbed { .. }
            | IncidentEvent::Recovered { .. }
            | IncidentEvent::Superseded { .. }
            | IncidentEvent::NeedsHuman { .. }
            | IncidentEvent::Reminded
            | IncidentEvent::RtoPassed { .. }
            | IncidentEvent::Cleared => return,
        };
        if !who.is_somebody() {
            return;
        }
        self.people.push(PersonAct { wall: record.wall, actor: actor(who), did, reason: reason.to_owned() });
    }

    /// Where the incident stands after `event`, and everything else that the head of the report says.
    // Length: one arm for each kind of event.
    #[expect(clippy::too_many_lines, reason = "one arm for each kind of event")]
    fn stand(&mut self, record: &Record, event: &'a IncidentEvent) {
        let plan = self.plan;
        let (standing, sentence) = match event {
            IncidentEvent::Opened { service, release, fact } => {
                self.service.clone_from(service);
                self.release_bad = release.as_ref().map(ToString::to_string);
                self.fact(record, fact);
                (Standing::Firing, fact.sentence.clone())
            }
            IncidentEvent::Reopened { fact } => {
                self.fact(record, fact);
                self.acknowledged = false;
                (Standing::Firing, fact.sentence.clone())
            }
            IncidentEvent::Joined { fact, .. } => {
                self.fact(record, fact);
                return;
            }
            IncidentEvent::Judged { decision } => {
                self.decision = Some(decision.clone());
                let standing = match decision.kind {
                    DecisionKind::RollBack | DecisionKind::Propose => return,
                    DecisionKind::WouldRollBack => Standing::WouldRollBack,
                    DecisionKind::Hold => Standing::Held,
                    DecisionKind::Escalate => Standing::Escalated,
                };
                (standing, judged(decision))
            }
            IncidentEvent::Proposed { level, decision, .. } => {
                self.decision = Some(decision.clone());
                (Standing::Proposed, format!("A person is asked to approve {}", level_name(plan, *level)))
            }
            IncidentEvent::Approved { actor: who, .. } => (Standing::Proposed, format!("{} approved", actor(who))),
            IncidentEvent::Declined { actor: who, reason } => {
                (Standing::Declined, format!("{} declined{}", actor(who), after_colon(reason)))
            }
            IncidentEvent::Expired => (Standing::Expired, "Nobody answered in time".to_owned()),
            IncidentEvent::Admitted { plan, decision, .. } => {
                self.decision = Some(decision.clone());
                self.release_bad = Some(plan.bad.to_string());
                (Standing::Running, "The rollback was admitted".to_owned())
            }
            IncidentEvent::StepIntended { attempt, .. } | IncidentEvent::StepStarted { attempt, .. } => {
                let standing = if attempt.undo { Standing::Undoing } else { Standing::Running };
                (standing, format!("Running {}", moments::step_name(plan, *attempt)))
            }
            IncidentEvent::StepFinished { attempt, result } => {
                let step = moments::step_name(plan, *attempt);
                let detail = after_colon(&result.detail);
                let standing = if attempt.undo { Standing::Undoing } else { Standing::Running };
                (standing, format!("{}: {step}{detail}", moments::outcome(result.outcome)))
            }
            IncidentEvent::StepNotStarted { attempt, why } => {
                let standing = if attempt.undo { Standing::Undoing } else { Standing::Running };
                (standing, format!("Not started: {}{}", moments::step_name(plan, *attempt), after_colon(why)))
            }
            IncidentEvent::StepChecked { attempt, answer, detail } => {
                let step = moments::step_name(plan, *attempt);
                (Standing::Checking, format!("{step}: {}{}", moments::answer(*answer), after_colon(detail)))
            }
            IncidentEvent::UndoBegan { level } => (Standing::Undoing, format!("Undoing {}", level_name(plan, *level))),
            IncidentEvent::UndoFinished { level, failed, .. } => {
                let name = level_name(plan, *level);
                let text = failed
                    .as_ref()
                    .map_or_else(|| format!("{name} is undone"), |why| format!("{name} is not wholly undone: {why}"));
                (Standing::Running, text)
            }
            IncidentEvent::LevelFinished { level, .. } => {
                (Standing::Verifying, format!("Verifying {}", level_name(plan, *level)))
            }
            IncidentEvent::CameClear { .. } => (Standing::Verifying, "Clear; it has to stay so".to_owned()),
            IncidentEvent::Relapsed => (Standing::Verifying, "Breached again while it was verified".to_owned()),
            IncidentEvent::LevelFailed { level, verified, why } => {
                let name = level_name(plan, *level);
                (Standing::Running, format!("{name} {}{}", moments::verified(*verified), after_colon(why)))
            }
            IncidentEvent::Climbed { to, .. } => (Standing::Running, format!("On to {}", level_name(plan, *to))),
            IncidentEvent::Recovered { .. } => (Standing::Recovered, "It recovered and stayed so".to_owned()),
            IncidentEvent::Superseded { by: Running::Unknown(why) } => {
                (Standing::Superseded, format!("Given up: {why}"))
            }
            IncidentEvent::Superseded { by } => {
                (Standing::Superseded, format!("Someone else changed what runs; then ran: {}", running(by)))
            }
            IncidentEvent::Aborted { actor: who, reason } => {
                (Standing::Aborted, format!("{} aborted{}", actor(who), after_colon(reason)))
            }
            IncidentEvent::NeedsHuman { text, .. } => {
                self.acknowledged = false;
                (Standing::NeedsHuman, text.clone())
            }
            IncidentEvent::Unanswered { .. } => {
                (Standing::Proposed, "Nobody has answered yet; it still asks".to_owned())
            }
            IncidentEvent::HoldOrdered { actor: who, reason, .. } => {
                (Standing::Held, format!("{} holds it to fix it forward{}", actor(who), after_colon(reason)))
            }
            IncidentEvent::HoldEnded { .. } => (Standing::Firing, "The hold has ended".to_owned()),
            IncidentEvent::StepSkipped { attempt, actor: who, .. } => {
                (Standing::Running, format!("{} skipped {}", actor(who), moments::step_name(plan, *attempt)))
            }
            IncidentEvent::Reminded | IncidentEvent::RtoPassed { .. } | IncidentEvent::CheckAnswered { .. } => return,
            IncidentEvent::Acknowledged { .. } => {
                self.acknowledged = true;
                return;
            }
            IncidentEvent::Cleared => (Standing::Cleared, "The breach ended".to_owned()),
        };
        self.standing = standing;
        self.sentence = sentence;
    }

    fn fact(&mut self, record: &Record, fact: &TriggerFact) {
        let (since_wall, fired_wall) = (wall_of(record, fact.since), fact.fired.map(|fired| wall_of(record, fired)));
        self.facts.push(Fact { fact: fact.clone(), since_wall, fired_wall });
    }

    fn queued(&mut self, record: &Record, notice: &'a Notice, receivers: &[String]) {
        self.by_notice.insert(&notice.id, self.notices.len());
        self.notices.push(NoticeReport {
            id: notice.id.clone(),
            wall: record.wall,
            kind: notice.kind.as_str(),
            receivers: receivers.iter().map(|receiver| (receiver.clone(), Delivery::Queued)).collect(),
        });
    }

    fn delivery(&mut self, notice: &str, receiver: &str, delivery: Delivery) {
        let Some(notice) = self.by_notice.get(notice).and_then(|at| self.notices.get_mut(*at)) else { return };
        match notice.receivers.iter_mut().find(|(name, _)| name == receiver) {
            Some((_, known)) => *known = delivery,
            None => notice.receivers.push((receiver.to_owned(), delivery)),
        }
    }

    fn finish(mut self) -> Report {
        // Instants inside an entry lie before it, and another entry may lie between.
        self.lines.sort_by_key(|(line, _)| line.at);
        let began = self.episodes.iter().find_map(|episode| episode.began).map(|(at, _)| at);
        let origin = began.or_else(|| self.lines.first().map(|(line, _)| line.at)).unwrap_or(Timestamp::MIN);
        let timeline = self
            .lines
            .into_iter()
            .map(|(line, wall)| Moment {
                wall,
                offset_ms: line.at.millis_since(origin),
                kind: line.kind,
                text: line.text,
            })
            .collect();
        let (levels, stays) = self.ladder.finish(self.plan);
        let severity: Option<Severity> = self.facts.iter().map(|fact| fact.fact.severity).max();
        Report {
            id: self.id,
            service: self.service,
            standing: self.standing,
            sentence: self.sentence,
            acknowledged: self.acknowledged,
            severity,
            release_bad: self.release_bad,
            release_target: self.plan.and_then(|plan| plan.target.as_ref()).map(ToString::to_string),
            opened_wall: self.opened_wall,
            ended_wall: self.ended_wall,
            episodes: self.episodes.iter().map(Episode::times).collect(),
            timeline,
            facts: self.facts,
            decision: self.decision,
            levels,
            stays,
            people: self.people,
            notices: self.notices,
        }
    }
}
