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
    Proposed {
        level: usize,
        respond_by: Timestamp,
    },
    /// The next thing to do is this attempt.
    Ready {
        attempt: Attempt,
        since: Timestamp,
    },
    /// Its intent is written; it may have started.
    Running {
        attempt: Attempt,
    },
    /// The step has ended; what follows is derived.
    Stepped {
        attempt: Attempt,
        outcome: Outcome,
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
    },
    NeedsHuman {
        why: WhyHuman,
        reminded: Timestamp,
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
            State::Proposed { .. } => "proposed",
            State::Ready { .. } | State::Running { .. } | State::Stepped { .. } | State::LevelOver { .. } => "running",
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
        matches!(self, State::Firing | State::Held | State::Escalated | State::WouldRollBack | State::Proposed { .. })
    }
}
