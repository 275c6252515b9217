use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{QuestionBody, duration, instant, severity};
use crate::decide::event::{CheckAnswer, Decision, DecisionKind, Outcome, Verified};
use crate::decide::report::{
    Delivery, Fact, LevelReport, LevelStanding, Moment, NoticeReport, PersonAct, Report, StepReport, Times,
    UndoStanding,
};
use crate::machine::snapshot::IncidentView;

/// `GET /v1/incidents`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IncidentList {
    /// The latest first.
    pub incidents: Vec<IncidentSummary>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IncidentSummary {
    pub id: String,
    pub service: String,
    pub state: String,
    pub sentence: String,
    pub open: bool,
    pub acknowledged: bool,
    /// None where no trigger is known.
    pub severity: Option<String>,
    pub triggers: Vec<String>,
    pub release_bad: Option<String>,
    pub release_target: Option<String>,
    pub level: Option<IncidentLevel>,
    pub opened: String,
    pub ended: Option<String>,
    pub respond_by: Option<String>,
    /// What it asks, while it does; sent back with the answer, it binds the answer to that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub question: Option<QuestionBody>,
    /// What a person can do next; none while nobody is waited for.
    #[serde(default)]
    pub next: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IncidentLevel {
    /// Counted from 1.
    pub n: usize,
    pub of: usize,
    pub name: String,
}

/// `GET /v1/incidents/{id}`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct IncidentBody {
    #[serde(flatten)]
    pub summary: IncidentSummary,
    /// One per breach; the release may have breached again.
    pub times: Vec<TimesBody>,
    pub timeline: Vec<MomentBody>,
    pub facts: Vec<FactBody>,
    pub decision: Option<DecisionBody>,
    pub levels: Vec<LevelBody>,
    /// What was changed and does not undo itself.
    pub stays: Vec<String>,
    pub people: Vec<PersonBody>,
    pub notices: Vec<NoticeBody>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TimesBody {
    pub began: Option<String>,
    pub detect: Option<String>,
    pub decide: Option<String>,
    pub roll_back: Option<String>,
    pub recover: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MomentBody {
    pub at: String,
    /// From the beginning of the breach.
    pub offset_ms: i64,
    pub kind: String,
    pub text: String,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FactBody {
    pub trigger: String,
    pub severity: String,
    pub sentence: String,
    pub expression: String,
    pub threshold: String,
    pub value: Option<String>,
    pub value_exact: Option<f64>,
    pub labels: String,
    pub hold: String,
    pub since: String,
    pub fired: Option<String>,
    pub events: Option<f64>,
    pub window: String,
    pub selectors: Vec<SelectorBody>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SelectorBody {
    pub selector: String,
    pub targets: u32,
    pub targets_fresh: u32,
    pub series: u32,
    pub observed: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DecisionBody {
    /// `roll_back`, `would_roll_back`, `propose`, `hold`, `escalate`.
    pub decision: String,
    /// Why not more than this.
    pub reasons: Vec<GuardReason>,
    pub checks: Vec<CheckBody>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GuardReason {
    pub code: String,
    pub sentence: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckBody {
    pub check: String,
    pub allows: bool,
    pub sentence: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LevelBody {
    /// Counted from 1.
    pub n: usize,
    pub name: String,
    /// `not_tried`, `running`, `verifying`, `helped`, `not_recovered`, `inconclusive`, `not_reached`, `undecided`.
    pub state: String,
    pub why: Option<String>,
    pub finished: Option<String>,
    pub steps: Vec<StepBody>,
    /// `begun`, `done`, `failed`; none where nothing was taken back.
    pub undo: Option<String>,
    /// Which step of the undo did not succeed.
    pub undo_why: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepBody {
    pub name: String,
    /// Counted from 1.
    pub step: usize,
    /// Counted from 1.
    pub attempt: u32,
    /// `succeeded`, `failed`, `timed_out`, `ambiguous`; none while it runs.
    pub outcome: Option<String>,
    pub detail: String,
    pub intended: String,
    pub started: Option<String>,
    pub ended: Option<String>,
    pub output: String,
    /// Only the end of the output was kept.
    pub truncated: bool,
    /// A step of the level's undo.
    pub undo: bool,
    /// What its check said, the latest last.
    pub checks: Vec<StepCheckBody>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepCheckBody {
    /// `took_effect`, `did_not`, `unknown`.
    pub answer: String,
    pub detail: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PersonBody {
    pub at: String,
    pub actor: String,
    pub did: String,
    pub reason: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NoticeBody {
    pub id: String,
    pub at: String,
    pub kind: String,
    pub receivers: Vec<DeliveryBody>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeliveryBody {
    pub receiver: String,
    /// `queued`, `delivered`, `dead`.
    pub state: String,
    pub delivered: Option<String>,
    pub why: Option<String>,
}

impl From<&IncidentView> for IncidentSummary {
    fn from(view: &IncidentView) -> IncidentSummary {
        let level = view.level.as_ref().map(|(n, of, name)| IncidentLevel { n: *n, of: *of, name: name.clone() });
        IncidentSummary {
            id: view.id.to_string(),
            service: view.service.to_string(),
            state: view.state.to_owned(),
            sentence: view.sentence.clone(),
            open: view.open,
            acknowledged: view.acknowledged,
            severity: Some(severity(view.severity).to_owned()),
            triggers: view.triggers.clone(),
            release_bad: view.release_bad.clone(),
            release_target: view.release_target.clone(),
            level,
            opened: instant(view.opened_wall),
            ended: view.ended_wall.map(instant),
            respond_by: view.respond_by_wall.map(instant),
            question: view.question.as_ref().map(|question| QuestionBody {
                number: question.number,
                level: question.level.0,
                release_bad: question.bad.clone(),
                release_target: question.target.clone(),
            }),
            next: view.next.clone(),
        }
    }
}

/// From the journal alone, without a daemon to ask.
impl From<&Report> for IncidentSummary {
    fn from(report: &Report) -> IncidentSummary {
        let reached = report.levels.iter().rev().find(|level| level.standing != LevelStanding::NotTried);
        IncidentSummary {
            id: report.id.to_string(),
            service: report.service.clone(),
            state: report.standing.as_str().to_owned(),
            sentence: report.sentence.clone(),
            open: report.standing.is_open(),
            acknowledged: report.acknowledged,
            severity: report.severity.map(|worst| severity(worst).to_owned()),
            triggers: report.facts.iter().map(|fact| fact.fact.trigger.clone()).collect(),
            release_bad: report.release_bad.clone(),
            release_target: report.release_target.clone(),
            level: reached.map(|level| IncidentLevel { n: level.n, of: report.levels.len(), name: level.name.clone() }),
            opened: instant(report.opened_wall),
            ended: report.ended_wall.map(instant),
            respond_by: None,
            question: None,
            next: None,
        }
    }
}

impl IncidentBody {
    #[must_use]
    pub fn new(summary: IncidentSummary, report: &Report) -> IncidentBody {
        IncidentBody {
            summary,
            times: report.episodes.iter().map(Into::into).collect(),
            timeline: report.timeline.iter().map(Into::into).collect(),
            facts: report.facts.iter().map(Into::into).collect(),
            decision: report.decision.as_ref().map(Into::into),
            levels: report.levels.iter().map(Into::into).collect(),
            stays: report.stays.clone(),
            people: report.people.iter().map(Into::into).collect(),
            notices: report.notices.iter().map(Into::into).collect(),
        }
    }
}

impl From<&Times> for TimesBody {
    fn from(times: &Times) -> TimesBody {
        TimesBody {
            began: times.began_wall.map(instant),
            detect: times.detect.map(duration),
            decide: times.decide.map(duration),
            roll_back: times.roll_back.map(duration),
            recover: times.recover.map(duration),
        }
    }
}

impl From<&Moment> for MomentBody {
    fn from(moment: &Moment) -> MomentBody {
        MomentBody {
            at: instant(moment.wall),
            offset_ms: moment.offset_ms,
            kind: moment.kind.to_owned(),
            text: moment.text.clone(),
        }
    }
}

impl From<&Fact> for FactBody {
    fn from(fact: &Fact) -> FactBody {
        let (since, fired) = (instant(fact.since_wall), fact.fired_wall.map(instant));
        let fact = &fact.fact;
        let selectors = fact.evidence.selectors.iter().map(|selector| SelectorBody {
            selector: selector.selector.clone(),
            targets: selector.targets,
            targets_fresh: selector.targets_fresh,
            series: selector.series,
            observed: duration(Duration::from_millis(selector.observed_ms)),
        });
        FactBody {
            trigger: fact.trigger.clone(),
            severity: severity(fact.severity).to_owned(),
            sentence: fact.sentence.clone(),
            expression: fact.expression.clone(),
            threshold: fact.threshold.clone(),
            value: fact.value.clone(),
            value_exact: fact.evidence.value.filter(|value| value.is_finite()),
            labels: fact.labels.clone(),
            hold: duration(Duration::from_millis(fact.hold_ms)),
            since,
            fired,
            events: fact.evidence.events.filter(|events| events.is_finite()),
            window: duration(Duration::from_millis(fact.evidence.window_ms)),
            selectors: selectors.collect(),
        }
    }
}

impl From<&Decision> for DecisionBody {
    fn from(decision: &Decision) -> DecisionBody {
        let kind = match decision.kind {
            DecisionKind::RollBack => "roll_back",
            DecisionKind::WouldRollBack => "would_roll_back",
            DecisionKind::Propose => "propose",
            DecisionKind::Hold => "hold",
            DecisionKind::Escalate => "escalate",
        };
        let reasons = decision.reasons.iter();
        let checks = decision.checks.iter();
        DecisionBody {
            decision: kind.to_owned(),
            reasons: reasons.map(|r| GuardReason { code: r.code.clone(), sentence: r.sentence.clone() }).collect(),
            checks: checks
                .map(|c| CheckBody { check: c.check.clone(), allows: c.allows, sentence: c.sentence.clone() })
                .collect(),
        }
    }
}

impl From<&LevelReport> for LevelBody {
    fn from(level: &LevelReport) -> LevelBody {
        let (state, why) = match &level.standing {
            LevelStanding::NotTried => ("not_tried", None),
            LevelStanding::Running => ("running", None),
            LevelStanding::Verifying => ("verifying", None),
            LevelStanding::Helped => ("helped", None),
            LevelStanding::DidNotHelp { verified, why } => {
                let state = match verified {
                    Verified::NotRecovered => "not_recovered",
                    Verified::Inconclusive => "inconclusive",
                    Verified::NotReached => "not_reached",
                };
                (state, Some(why.clone()))
            }
            LevelStanding::Undecided => ("undecided", None),
        };
        let (undo, undo_why) = match &level.undo {
            None => (None, None),
            Some(UndoStanding::Begun) => (Some("begun"), None),
            Some(UndoStanding::Done) => (Some("done"), None),
            Some(UndoStanding::Failed(why)) => (Some("failed"), Some(why.clone())),
        };
        LevelBody {
            n: level.n,
            name: level.name.clone(),
            state: state.to_owned(),
            why,
            finished: level.finished_wall.map(instant),
            steps: level.steps.iter().map(Into::into).collect(),
            undo: undo.map(str::to_owned),
            undo_why,
        }
    }
}

impl From<&StepReport> for StepBody {
    fn from(step: &StepReport) -> StepBody {
        let outcome = step.outcome.map(|outcome| match outcome {
            Outcome::Succeeded => "succeeded",
            Outcome::Failed => "failed",
            Outcome::TimedOut => "timed_out",
            Outcome::Ambiguous => "ambiguous",
        });
        StepBody {
            name: step.name.clone(),
            step: step.attempt.step + 1,
            attempt: step.attempt.attempt,
            outcome: outcome.map(str::to_owned),
            detail: step.detail.clone(),
            intended: instant(step.intended_wall),
            started: step.started_wall.map(instant),
            ended: step.ended_wall.map(instant),
            output: step.output.clone(),
            truncated: step.truncated,
            undo: step.attempt.undo,
            checks: step.checks.iter().map(|(answer, detail)| step_check(*answer, detail)).collect(),
        }
    }
}

fn step_check(answer: CheckAnswer, detail: &str) -> StepCheckBody {
    let answer = match answer {
        CheckAnswer::TookEffect => "took_effect",
        CheckAnswer::DidNot => "did_not",
        CheckAnswer::Unknown => "unknown",
    };
    StepCheckBody { answer: answer.to_owned(), detail: detail.to_owned() }
}

impl From<&PersonAct> for PersonBody {
    fn from(act: &PersonAct) -> PersonBody {
        PersonBody {
            at: instant(act.wall),
            actor: act.actor.clone(),
            did: act.did.to_owned(),
            reason: act.reason.clone(),
        }
    }
}

impl From<&NoticeReport> for NoticeBody {
    fn from(notice: &NoticeReport) -> NoticeBody {
        let receivers = notice.receivers.iter().map(|(receiver, delivery)| {
            let (state, delivered, why) = match delivery {
                Delivery::Queued => ("queued", None, None),
                Delivery::Delivered(at) => ("delivered", Some(instant(*at)), None),
                Delivery::Dead(why) => ("dead", None, Some(why.clone())),
            };
            DeliveryBody { receiver: receiver.clone(), state: state.to_owned(), delivered, why }
        });
        NoticeBody {
            id: notice.id.clone(),
            at: instant(notice.wall),
            kind: notice.kind.to_owned(),
            receivers: receivers.collect(),
        }
    }
}
