//! Where an incident stands.

use crate::decide::event::{Attempt, Outcome, WhyHuman};
use crate::time::Timestamp;

#[derive(Clone, Debug, PartialEq)]
pub enum State {
    /// Opened, not yet judged.
    Firing,
    Held,
    Escalated,
    WouldRollBack,
    /// A person keeps backstop from acting until then.
    HeldByPerson {
        until: Timestamp,
    },
    Proposed {
        level: usize,
        respond_by: Timestamp,
    },
    /// The next thing to do is this attempt.
    Ready {
        attempt: Attempt,
        /// From then on: a retry waits.
        since: Timestamp,
        /// How the try before it ended; absent for the first.
        after: Option<Outcome>,
    },
    /// Its intent is written; it may have started.
    Running {
        attempt: Attempt,
    },
    /// It has ended, and its `check` is asked whether it took effect.
    Checking {
        attempt: Attempt,
        /// As the step itself ended.
        outcome: Outcome,
        /// Answers that settled nothing.
        asked: u32,
        /// Not sooner.
        ask_at: Timestamp,
    },
    /// The step has ended; what follows is derived.
    Stepped {
        attempt: Attempt,
        /// As its check had it, where it has one.
        outcome: Outcome,
        at: Timestamp,
    },
    Verifying {
        level: usize,
        finished: Timestamp,
        clear_since: Option<Timestamp>,
    },
    /// The level did not help, or could not be carried out.
    LevelOver {
        level: usize,
        why: String,
        /// Its undo is to be run before anything else.
        undo: bool,
    },
    NeedsHuman {
        why: WhyHuman,
        reminded: Timestamp,
        /// What is the matter, in one sentence.
        text: String,
    },
    Recovered,
    Declined,
    Expired,
    Superseded,
    Aborted,
    Cleared,
}

impl State {
    #[must_use]
    pub const fn as_str(&self) -> &'static str {
        match self {
            State::Firing => "firing",
            State::Held => "held",
            State::Escalated => "escalated",
            State::WouldRollBack => "would_roll_back",
            State::HeldByPerson { .. } => "held_by_person",
            State::Proposed { .. } => "proposed",
            State::Ready { attempt, .. } | State::Running { attempt } | State::Stepped { attempt, .. }
                if attempt.undo =>
            {
                "undoing"
            }
            State::Ready { .. } | State::Running { .. } | State::Stepped { .. } | State::LevelOver { .. } => "running",
            State::Checking { .. } => "checking",
            State::Verifying { .. } => "verifying",
            State::NeedsHuman { .. } => "needs_human",
            State::Recovered => "recovered",
            State::Declined => "declined",
            State::Expired => "expired",
            State::Superseded => "superseded",
            State::Aborted => "aborted",
            State::Cleared => "cleared",
        }
    }

    /// Something may still happen by itself, or somebody must do something.
    #[must_use]
    pub const fn is_open(&self) -> bool {
        !matches!(
            self,
            State::Recovered | State::Declined | State::Expired | State::Superseded | State::Aborted | State::Cleared
        )
    }

    /// Before anything was done.
    #[must_use]
    pub const fn is_waiting(&self) -> bool {
        matches!(
            self,
            State::Firing
                | State::Held
                | State::Escalated
                | State::WouldRollBack
                | State::HeldByPerson { .. }
                | State::Proposed { .. }
        )
    }
}
