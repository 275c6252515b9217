//! Verification: the same windows asked the opposite question. Has it recovered, and did it stay so?

use std::time::Duration;

use super::event::{CheckOutcome, Proof, Release, Running};
use crate::time::Timestamp;

/// What the windows and probes say together, of samples from after the level finished.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reading {
    Clear,
    Breached,
    Unknown,
}

/// What one trigger of the incident says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Voice {
    Clear,
    Breached,
    /// Too little traffic to tell: named probes may speak for it.
    NoTraffic,
    Unknown,
}

/// Joins the triggers of an incident (and what else of the windows must be well) with the probes and checks that
/// `verify` names. One that fails is a breach; those of `proofs`, which are asked again and again, prove recovery
/// together where only traffic is missing. `conditions` must be met too, but prove nothing: a smoke test that passed
/// once, the release that serves.
#[must_use]
pub fn read(triggers: &[Voice], proofs: &[Voice], conditions: &[Voice]) -> Reading {
    let any = |voice| triggers.iter().chain(proofs).chain(conditions).any(|heard| *heard == voice);
    if any(Voice::Breached) {
        return Reading::Breached;
    }
    let proved = !proofs.is_empty() && proofs.iter().all(|voice| *voice == Voice::Clear);
    if any(Voice::Unknown) || (any(Voice::NoTraffic) && !proved) || (triggers.is_empty() && !proved) {
        return Reading::Unknown;
    }
    Reading::Clear
}

/// Whether what serves is what the level wanted. While the old release still answers beside it, it is not.
#[must_use]
pub fn serves(running: &Running, target: Option<&Release>) -> Voice {
    match (running, target) {
        (_, None) | (Running::Unknown(_), Some(_)) => Voice::Unknown,
        (Running::One(release), Some(target)) if release == target => Voice::Clear,
        (Running::One(_) | Running::Mix(_), Some(_)) => Voice::Breached,
    }
}

/// What one check has said since its level finished.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Heard {
    /// When it was asked last.
    pub asked: Option<Timestamp>,
    /// The latest answer, and when its question was asked: it is true of that instant, not of a later one.
    pub answer: Option<(Timestamp, CheckOutcome)>,
}

impl Heard {
    fn passed(&self) -> bool {
        matches!(self.answer, Some((_, CheckOutcome::Passed)))
    }

    /// When it is to be asked next. None: it has passed, and that is enough.
    #[must_use]
    pub fn due(&self, proof: &Proof, from: Timestamp) -> Option<Timestamp> {
        match self.asked {
            Some(_) if proof.once && self.passed() => None,
            Some(asked) => Some(asked + proof.every),
            None => Some(from),
        }
    }

    /// What it says now. An answer that is older than it takes to get the next one says nothing.
    #[must_use]
    pub fn voice(&self, proof: &Proof, now: Timestamp) -> Voice {
        match &self.answer {
            Some((_, CheckOutcome::Passed)) if proof.once => Voice::Clear,
            Some((at, _)) if now.since(*at) > patience(proof) => Voice::Unknown,
            Some((_, CheckOutcome::Passed)) => Voice::Clear,
            Some((_, CheckOutcome::Failed(_))) => Voice::Breached,
            Some((_, CheckOutcome::Unknown(_))) | None => Voice::Unknown,
        }
    }
}

/// How old the answer of a check may become before the next one is there: an interval, what the answer may take, and a
/// quarter of the interval for being a little late.
#[must_use]
pub fn patience(proof: &Proof) -> Duration {
    proof.every + proof.every / 4 + proof.check.timeout
}

/// Clear time credited so far. Unknown suspends it, Breached empties it.
#[derive(Clone, Debug, PartialEq)]
pub struct Soak {
    /// Verification counts from here: the end of the level, or the restart of the daemon after it.
    pub from: Timestamp,
    pub soaked: Duration,
    last_clear: Option<Timestamp>,
    /// How late its end may be noticed: that happens only at an evaluation.
    pub slack: Duration,
    /// By place in `Verify::checks`.
    pub heard: Vec<Heard>,
}

impl Default for Soak {
    fn default() -> Soak {
        Soak::from(Timestamp::MIN)
    }
}

impl Soak {
    #[must_use]
    pub const fn from(from: Timestamp) -> Soak {
        Soak { from, soaked: Duration::ZERO, last_clear: None, slack: Duration::ZERO, heard: Vec::new() }
    }

    /// What is seen may be an outage's: what was credited stays, and the limits count from here when it is over.
    pub fn suspend(&mut self, at: Timestamp) {
        self.from = self.from.max(at);
        self.last_clear = None;
    }

    /// What the check at this place has said; nothing, before it was asked.
    #[must_use]
    pub fn heard(&self, place: usize) -> &Heard {
        const NOTHING: &Heard = &Heard { asked: None, answer: None };
        self.heard.get(place).unwrap_or(NOTHING)
    }

    pub fn heard_mut(&mut self, place: usize) -> &mut Heard {
        if self.heard.len() <= place {
            self.heard.resize(place + 1, Heard::default());
        }
        &mut self.heard[place]
    }

    /// The checks that fail, or (`unknown`) that give no answer, for a sentence: `; sign-in: HTTP 500`.
    #[must_use]
    pub fn complaint(&self, checks: &[Proof], unknown: bool) -> String {
        let said = checks.iter().enumerate().filter_map(|(place, proof)| {
            let why = match (&self.heard(place).answer, unknown) {
                (Some((_, CheckOutcome::Failed(why))), false) | (Some((_, CheckOutcome::Unknown(why))), true) => why,
                (None, true) => "no answer yet",
                (Some(_), _) | (None, false) => return None,
            };
            Some(format!("; {}: {why}", proof.check.name))
        });
        said.collect()
    }

    /// Takes a reading of fresh data at `at`. A pause longer than `gap_tolerance` between two Clear readings earns
    /// nothing.
    pub fn take(&mut self, reading: Reading, at: Timestamp, gap_tolerance: Duration, slack: Duration) {
        self.slack = slack;
        match reading {
            Reading::Clear => {
                if let Some(last) = self.last_clear
                    && at.since(last) <= gap_tolerance
                {
                    self.soaked += at.since(last);
                }
                self.last_clear = Some(at);
            }
            Reading::Unknown => self.last_clear = None,
            Reading::Breached => {
                self.last_clear = None;
                self.soaked = Duration::ZERO;
            }
        }
    }
}

#[cfg(test)]
mod tests;
