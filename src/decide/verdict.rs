//! A trigger's findings over time: quiet, pending, firing, or blind. One per result label set.

use std::time::Duration;

use crate::time::Timestamp;

/// Where a verdict stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    Quiet,
    /// Breached, but not yet for long enough.
    Pending,
    Firing,
    /// Not known for longer than the tolerance.
    Blind,
}

impl Phase {
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Phase::Quiet => "quiet",
            Phase::Pending => "pending",
            Phase::Firing => "firing",
            Phase::Blind => "blind",
        }
    }
}

/// The memory of one label set of one trigger. Every instant is on the monotonic timeline.
#[derive(Clone, Debug, PartialEq)]
pub struct Verdict {
    pub phase: Phase,
    /// Since when it is in this phase.
    pub since: Timestamp,
    /// When the breach began that is pending or firing.
    pub began: Option<Timestamp>,
    /// Breached time credited so far.
    pub held: Duration,
    /// The latest evaluation that was not Unknown, and whether it was Breached.
    pub known: Option<(Timestamp, bool)>,
    /// Since when evaluations are Unknown, if the latest one is.
    pub unknown_since: Option<Timestamp>,
    /// The breach goes back to before the release that runs now (or before backstop first looked): since when, as far
    /// as it is known. Only Clear ends it.
    pub inherited: Option<Timestamp>,
    /// A Clear finding was ever seen.
    pub was_clear: bool,
    /// Must see one fresh Breached before it may fire: after a restart.
    pub unproven: bool,
}

/// What an evaluation says, without its reasons.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Says {
    Clear,
    Breached,
    Unknown,
}

/// How a verdict counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hold {
    /// `for`.
    pub hold: Duration,
    /// A pause in known findings longer than this starts the count anew.
    pub gap_tolerance: Duration,
}

impl Verdict {
    /// Nothing is known yet. Not blind at once: it has `gap_tolerance` to see something.
    #[must_use]
    pub const fn new(at: Timestamp) -> Verdict {
        Verdict {
            phase: Phase::Quiet,
            since: at,
            began: None,
            held: Duration::ZERO,
            known: None,
            unknown_since: Some(at),
            inherited: None,
            was_clear: false,
            unproven: false,
        }
    }

    /// Takes the finding of an evaluation at `at`. Time is credited only between two Breached evaluations that no
    /// Unknown and no gap separates.
    pub fn take(&mut self, says: Says, at: Timestamp, hold: Hold) {
        match says {
            Says::Clear => self.clear(at),
            Says::Breached => self.breached(at, hold),
            Says::Unknown => self.unknown(at, hold),
        }
    }

    fn enter(&mut self, phase: Phase, at: Timestamp) {
        if self.phase != phase {
            self.phase = phase;
            self.since = at;
        }
    }

    fn clear(&mut self, at: Timestamp) {
        self.enter(Phase::Quiet, at);
        self.began = None;
        self.held = Duration::ZERO;
        self.known = Some((at, false));
        self.unknown_since = None;
        self.inherited = None;
        self.was_clear = true;
        self.unproven = false;
    }

    fn breached(&mut self, at: Timestamp, hold: Hold) {
        let continued = match self.known {
            Some((last, true)) if at.since(last) <= hold.gap_tolerance => Some(last),
            Some((_, true | false)) | None => None,
        };
        match (continued, self.began) {
            (Some(last), Some(_)) => {
                if self.unknown_since.is_none() && !self.unproven {
                    self.held += at.since(last);
                }
            }
            (Some(_) | None, _) => {
                self.began = Some(at);
                self.held = Duration::ZERO;
            }
        }
        if !self.was_clear && self.inherited.is_none() {
            self.inherited = Some(at);
        }
        self.known = Some((at, true));
        self.unknown_since = None;
        self.unproven = false;
        self.enter(if self.held >= hold.hold { Phase::Firing } else { Phase::Pending }, at);
    }

    fn unknown(&mut self, at: Timestamp, hold: Hold) {
        let since = *self.unknown_since.get_or_insert(at);
        let last_known = self.known.map_or(since, |(last, _)| last);
        if at.since(last_known.max(since.min(at))) > hold.gap_tolerance || at.since(last_known) > hold.gap_tolerance {
            self.enter(Phase::Blind, at);
        }
    }

    /// Another release runs now: the hold starts anew, and what burned before is remembered as inherited.
    pub fn release_changed(&mut self, at: Timestamp) {
        if self.inherited.is_none() {
            self.inherited = match (self.known, self.began) {
                (Some((_, true)), Some(began)) => Some(began),
                (Some((_, true | false)) | None, _) => None,
            };
        }
        self.enter(Phase::Quiet, at);
        self.began = None;
        self.held = Duration::ZERO;
        self.known = None;
        self.unknown_since = Some(at);
    }

    /// Comes back from a checkpoint: the time in between earns no credit, and one fresh Breached is needed.
    pub fn restored(&mut self) {
        self.unproven = true;
    }

    /// Firing, and the latest evaluation says so.
    #[must_use]
    pub fn fires(&self) -> bool {
        self.phase == Phase::Firing && self.unknown_since.is_none() && !self.unproven
    }
}
