//! What a level changed is changed back, when its verification said that it did not help.

use super::{Effect, Incident, RELEASE_GRACE, Situation, State};
use crate::decide::event::{
    Attempt, IncidentEvent, NoticeKind, NoticeStatus, Outcome, Plan, Release, Running, Verified,
};
use crate::time::Timestamp;

/// The undo of a level, from its beginning to the next level.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Undo {
    /// Why the level did not help.
    pub why: String,
    /// The first of its steps that did not succeed, and how.
    pub failed: Option<String>,
}

/// Is the level to be undone? Only when it was carried out and seen not to help: where nobody knows whether it helped,
/// taking it back may be what breaks the service, and a level that was not carried out has nothing that its undo was
/// written for.
pub(super) fn is_due(plan: Option<&Plan>, level: usize, verified: Verified) -> bool {
    let has = plan.and_then(|plan| plan.levels.get(level)).is_some_and(|level| !level.undo.is_empty());
    match verified {
        Verified::NotRecovered => has,
        Verified::Inconclusive | Verified::NotReached => false,
    }
}

impl Incident {
    pub(super) fn undo_began(&mut self, level: usize, at: Timestamp) -> Vec<Effect> {
        let why = if let State::LevelOver { why, .. } = &self.state { why.clone() } else { String::new() };
        self.undo = Some(Undo { why, failed: None });
        // It may bring the bad release back: from here on that is our own doing.
        self.target_seen = false;
        // What the level was to prove is taken back with it.
        self.finished = None;
        self.unread_since = None;
        self.state = State::Ready { attempt: self.first_try(level, 0, true), since: at, after: None };
        Vec::new()
    }

    /// Remembers the first step of an undo that did not succeed for good.
    pub(super) fn note_undo(&mut self, attempt: Attempt, outcome: Outcome, again: bool) {
        if again || !attempt.undo {
            return;
        }
        let how = match outcome {
            Outcome::Succeeded => return,
            Outcome::Failed => "failed",
            Outcome::TimedOut => "reached its deadline",
            Outcome::Ambiguous => "may have taken effect or not",
        };
        let sentence = format!("{} {how}", self.named(attempt));
        if let Some(undo) = &mut self.undo {
            undo.failed.get_or_insert(sentence);
        }
    }

    /// After its last step what runs is looked at once more: the steps of the next level are told what to expect, and the
    /// bad release must be known to be back by our own doing, or not at all.
    pub(super) fn undone(
        &self,
        level: usize,
        ended: Timestamp,
        situation: &Situation<'_>,
        now: Timestamp,
    ) -> Option<IncidentEvent> {
        if !situation.release_read && now.since(ended) < RELEASE_GRACE {
            return None;
        }
        Some(IncidentEvent::UndoFinished {
            level,
            failed: self.undo.as_ref().and_then(|undo| undo.failed.clone()),
            running: situation.running.clone(),
        })
    }

    pub(super) fn undo_finished(&mut self, level: usize, failed: Option<&str>, running: &Running) -> Vec<Effect> {
        let why = self.undo.take().map_or_else(String::new, |undo| undo.why);
        self.state = State::LevelOver { level, why, undo: false };
        self.target_seen = self.runs_target(running);
        let name = self.level_name(level);
        let (kind, text) = match failed {
            None => (NoticeKind::LevelFinished, format!("level {}{name} is undone", level + 1)),
            Some(failed) => (
                NoticeKind::StepFailed,
                format!("level {}{name} is not wholly undone: {failed}; look at what stays changed", level + 1),
            ),
        };
        vec![self.notify(kind, NoticeStatus::Firing, false, text)]
    }

    /// A release appeared that this incident may have installed.
    pub fn saw(&mut self, release: &Release) {
        let target = self.plan.as_ref().and_then(|plan| plan.target.as_ref());
        // During an undo releases come and go; what is left is looked at when it is over.
        self.target_seen |= self.undo.is_none() && target == Some(release);
    }

    fn runs_target(&self, running: &Running) -> bool {
        let target = self.plan.as_ref().and_then(|plan| plan.target.as_ref());
        matches!(running, Running::One(release) if Some(release) == target)
    }
}
