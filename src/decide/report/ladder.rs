//! What each level of the frozen plan did, and what stays changed because of it.

use super::moments::{level_name, step_name};
use super::{LevelReport, LevelStanding, StepReport, UndoStanding};
use crate::decide::event::{Attempt, CheckAnswer, IncidentEvent, Outcome, Plan, Record, Verified};
use crate::time::Timestamp;

/// Follows the levels through the events.
#[derive(Default)]
pub(super) struct Ladder {
    levels: Vec<LevelReport>,
    /// The level that is under way, counted from 0.
    current: Option<usize>,
}

impl Ladder {
    // Length: one arm for each kind of event.
    pub fn take(&mut self, record: &Record, event: &IncidentEvent, plan: Option<&Plan>) {
        match event {
            IncidentEvent::Admitted { plan, .. } => {
                // A second admission (the release breached again) may have climbed further; what was tried stays.
                for level in 0..plan.levels.len() {
                    self.level(level, Some(plan));
                }
            }
            IncidentEvent::StepIntended { attempt, .. } => {
                if !attempt.undo {
                    self.current = Some(attempt.level);
                    let level = self.level(attempt.level, plan);
                    level.standing = LevelStanding::Running;
                    level.undo = None;
                }
                self.step(record, *attempt, plan);
            }
            IncidentEvent::StepStarted { attempt, .. } => {
                self.step(record, *attempt, plan).started_wall = Some(record.wall);
            }
            IncidentEvent::StepFinished { attempt, result } => {
                let step = self.step(record, *attempt, plan);
                step.ended_wall = Some(record.wall);
                step.outcome = Some(result.outcome);
                step.detail.clone_from(&result.detail);
                step.output.clone_from(&result.output);
                step.truncated = result.truncated;
            }
            IncidentEvent::StepNotStarted { attempt, .. } => {
                let steps = &mut self.level(attempt.level, plan).steps;
                steps.retain(|step| step.attempt != *attempt);
            }
            IncidentEvent::StepChecked { attempt, answer, detail } => {
                self.step(record, *attempt, plan).checks.push((*answer, detail.clone()));
            }
            IncidentEvent::UndoBegan { level } => self.level(*level, plan).undo = Some(UndoStanding::Begun),
            IncidentEvent::UndoFinished { level, failed, .. } => {
                let undo = failed.as_ref().map_or(UndoStanding::Done, |why| UndoStanding::Failed(why.clone()));
                self.level(*level, plan).undo = Some(undo);
            }
            IncidentEvent::LevelFinished { level, at } => {
                self.current = Some(*level);
                let level = self.level(*level, plan);
                level.standing = LevelStanding::Verifying;
                level.finished_wall = Some(wall_of(record, *at));
            }
            IncidentEvent::LevelFailed { level, verified, why } => {
                self.level(*level, plan).standing = LevelStanding::DidNotHelp { verified: *verified, why: why.clone() };
                self.current = None;
            }
            IncidentEvent::Recovered { .. } => {
                if let Some(level) = self.current.take() {
                    self.level(level, plan).standing = LevelStanding::Helped;
                }
            }
            IncidentEvent::Superseded { .. }
            | IncidentEvent::Aborted { .. }
            | IncidentEvent::NeedsHuman { .. }
            | IncidentEvent::Cleared => {
                if let Some(level) = self.current.take() {
                    self.level(level, plan).standing = LevelStanding::Undecided;
                }
            }
            IncidentEvent::Opened { .. }
            | IncidentEvent::Reopened { .. }
            | IncidentEvent::Joined { .. }
            | IncidentEvent::Judged { .. }
            | IncidentEvent::Proposed { .. }
            | IncidentEvent::Approved { .. }
            | IncidentEvent::Declined { .. }
            | IncidentEvent::Expired
            | IncidentEvent::CameClear { .. }
            | IncidentEvent::CheckAnswered { .. }
            | IncidentEvent::Relapsed
            | IncidentEvent::Climbed { .. }
            | IncidentEvent::Reminded
            | IncidentEvent::RtoPassed { .. }
            | IncidentEvent::Unanswered { .. }
            | IncidentEvent::HoldOrdered { .. }
            | IncidentEvent::HoldEnded { .. }
            | IncidentEvent::StepSkipped { .. }
            | IncidentEvent::Acknowledged { .. } => {}
        }
    }

    /// The levels, and what stays changed.
    pub fn finish(self, plan: Option<&Plan>) -> (Vec<LevelReport>, Vec<String>) {
        let stays = self.levels.iter().filter_map(|level| stays(level, plan)).collect();
        (self.levels, stays)
    }

    fn level(&mut self, level: usize, plan: Option<&Plan>) -> &mut LevelReport {
        for missing in self.levels.len()..=level {
            let name = plan.and_then(|plan| plan.levels.get(missing)).map_or_else(String::new, |l| l.name.clone());
            self.levels.push(LevelReport {
                n: missing + 1,
                name,
                standing: LevelStanding::NotTried,
                finished_wall: None,
                steps: Vec::new(),
                undo: None,
            });
        }
        &mut self.levels[level]
    }

    /// The attempt's line; one whose intent is not among the entries begins where it is first seen.
    fn step(&mut self, record: &Record, attempt: Attempt, plan: Option<&Plan>) -> &mut StepReport {
        let name = step_name(plan, attempt);
        let steps = &mut self.level(attempt.level, plan).steps;
        let at = steps.iter().position(|step| step.attempt == attempt).unwrap_or(steps.len());
        if at == steps.len() {
            steps.push(StepReport {
                attempt,
                name,
                intended_wall: record.wall,
                started_wall: None,
                ended_wall: None,
                outcome: None,
                detail: String::new(),
                output: String::new(),
                truncated: false,
                checks: Vec::new(),
            });
        }
        &mut steps[at]
    }
}

pub(super) fn wall_of(record: &Record, at: Timestamp) -> Timestamp {
    record.wall.plus_millis(at.millis_since(record.at))
}

/// One sentence for a level that did something to the world and is not known to have helped.
fn stays(level: &LevelReport, plan: Option<&Plan>) -> Option<String> {
    let ended = match &level.standing {
        LevelStanding::NotTried | LevelStanding::Running | LevelStanding::Verifying | LevelStanding::Helped => {
            return None;
        }
        LevelStanding::DidNotHelp { verified: Verified::NotRecovered, .. } => "did not help",
        LevelStanding::DidNotHelp { verified: Verified::Inconclusive, .. } => "could not be verified",
        LevelStanding::DidNotHelp { verified: Verified::NotReached, .. } => "could not be carried out",
        LevelStanding::Undecided => "was left before it was known whether it helped",
    };
    let (mut done, mut perhaps) = (Vec::new(), Vec::new());
    let mut numbers: Vec<usize> = level.steps.iter().filter(|s| !s.attempt.undo).map(|s| s.attempt.step).collect();
    numbers.dedup();
    for number in numbers {
        let tries = level.steps.iter().filter(|step| !step.attempt.undo && step.attempt.step == number);
        let first = tries.clone().next().map(|step| step_name(plan, Attempt { attempt: 1, ..step.attempt }));
        let Some(name) = first else { continue };
        if tries.clone().any(|step| step.settled() == Some(Outcome::Succeeded)) {
            done.push(name);
        } else if !tries.clone().all(had_no_effect) {
            perhaps.push(name);
        }
    }
    if done.is_empty() && perhaps.is_empty() {
        return None;
    }
    let mut parts = Vec::new();
    let undo = match &level.undo {
        None => "done and not undone",
        Some(UndoStanding::Done) => return None,
        Some(UndoStanding::Begun) => "done, and its undo is not finished",
        Some(UndoStanding::Failed(why)) => {
            parts.push(format!("not wholly undone, for {why}"));
            "done"
        }
    };
    if !done.is_empty() {
        parts.push(format!("{undo}: {}", done.join(", ")));
    }
    if !perhaps.is_empty() {
        parts.push(format!("may have taken effect in part: {}", perhaps.join(", ")));
    }
    let name = level_name(plan, level.n - 1);
    Some(format!("{name} {ended}; {}", parts.join("; ")))
}

/// Its check says so. A failed step without one may have done half of its work; nobody but a person can tell.
fn had_no_effect(step: &StepReport) -> bool {
    matches!(step.checks.last(), Some((CheckAnswer::DidNot, _)))
}
