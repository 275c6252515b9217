//! Verification: the same windows asked the opposite question. Has it recovered, and did it stay so?

use std::time::Duration;

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

/// Joins the triggers of an incident with the probes that `verify` names. A probe that fails is a breach; probes that
/// all succeed prove recovery where only traffic is missing.
#[must_use]
pub fn read(triggers: &[Voice], probes: &[Voice]) -> Reading {
    let any = |voice| triggers.iter().chain(probes).any(|heard| *heard == voice);
    if any(Voice::Breached) {
        return Reading::Breached;
    }
    let probes_clear = !probes.is_empty() && probes.iter().all(|voice| *voice == Voice::Clear);
    if any(Voice::Unknown) || (any(Voice::NoTraffic) && !probes_clear) || (triggers.is_empty() && !probes_clear) {
        return Reading::Unknown;
    }
    Reading::Clear
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
}

impl Default for Soak {
    fn default() -> Soak {
        Soak::from(Timestamp::MIN)
    }
}

impl Soak {
    #[must_use]
    pub const fn from(from: Timestamp) -> Soak {
        Soak { from, soaked: Duration::ZERO, last_clear: None, slack: Duration::ZERO }
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
