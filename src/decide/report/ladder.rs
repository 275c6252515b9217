//! What each level of the frozen plan did, and what stays changed because of it.

use super::moments::{level_name, step_name};
use super::{LevelReport, LevelStanding, StepReport};
use crate::decide::event::{Attempt, IncidentEvent, Outcome, Plan, Record, Verified};
use crate::time::Timestamp;

/// Follows the levels through the events.
#[derive(Default)]
pub(super) struct Ladder {
    levels: Vec<LevelReport>,
    /// The level that is under way, counted from 0.
    current: Option<usize>,
}

impl Ladder {
    pub fn take(&mut self, record: &Record, event: &IncidentEvent, plan: Option<&Plan>) {
        match event {
            IncidentEvent::Admitted { plan, .. } => {
                // A second admission (the release breached again) may have climbed further; what was tried stays.
                for level in 0..plan.levels.len() {
                    self.level(level, Some(plan));
                }
            }
            IncidentEvent::StepIntended { attempt, .. } => {
                self.current = Some(attempt.level);
                self.level(attempt.level, plan).standing = LevelStanding::Running;
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
    for step in &level.steps {
        match step.outcome {
            Some(Outcome::Succeeded) => done.push(step.name.as_str()),
            // A failed step may have done half of its work; nobody but a person can tell.
            Some(Outcome::Failed | Outcome::TimedOut | Outcome::Ambiguous) | None => perhaps.push(step.name.as_str()),
        }
    }
    if done.is_empty() && perhaps.is_empty() {
        return None;
    }
    let mut parts = Vec::new();
    if !done.is_empty() {
        parts.push(format!("done and not undone: {}", done.join(", ")));
    }
    if !perhaps.is_empty() {
        parts.push(format!("may have taken effect in part: {}", perhaps.join(", ")));
    }
    let name = level_name(plan, level.n - 1);
    Some(format!("{name} {ended}; {}", parts.join("; ")))
}
