//! How long the memory of each process has been shown as full, look after look: from that alone it follows at which look
//! the hold of its trigger is complete.

use std::time::Duration;

use super::oracle::millis;
use crate::support::SECOND;

/// A breach may be told so long after the last look that showed it: an incident of the service had to end first.
const STILL_MS: i64 = 30 * SECOND;

/// From the scrape that completes a hold to the decision.
const DECIDED_WITHIN_MS: i64 = 50;

/// Spells that are kept; only the last ones are asked for.
const SPELLS_MAX: usize = 40;

#[derive(Clone, Debug)]
struct Spell {
    process: usize,
    /// The looks that showed it as full.
    looks: Vec<i64>,
    open: bool,
}

/// Of one service.
#[derive(Debug, Default)]
pub struct Holds {
    spells: Vec<Spell>,
}

impl Holds {
    /// None: the look brought nothing.
    pub fn looked(&mut self, process: usize, full: Option<bool>, t: i64) {
        let open = self.spells.iter_mut().rev().find(|spell| spell.process == process && spell.open);
        match (full, open) {
            (Some(true), Some(spell)) => spell.looks.push(t),
            (Some(true), None) => {
                self.spells.push(Spell { process, looks: vec![t], open: true });
                if self.spells.len() > SPELLS_MAX {
                    self.spells.remove(0);
                }
            }
            (Some(false), Some(spell)) => spell.open = false,
            (Some(false) | None, _) => {}
        }
    }

    /// Was it full for so long, on some process, when this was decided?
    pub fn is_held(&self, hold: Duration, t: i64) -> bool {
        self.spells.iter().any(|spell| {
            let looks = spell.looks.iter().filter(|look| **look <= t);
            let last = looks.clone().next_back();
            let first = looks.clone().next();
            first.is_some_and(|first| first + millis(hold) <= t) && last.is_some_and(|last| t - last <= STILL_MS)
        })
    }

    /// The look before `t` at which the hold was complete already, of a spell that began after `from`.
    pub fn was_due(&self, hold: Duration, from: i64, t: i64) -> Option<i64> {
        let of_spell = |spell: &Spell| {
            let first = *spell.looks.first().filter(|first| **first > from)?;
            let due = *spell.looks.iter().find(|look| **look >= first + millis(hold))?;
            (due + DECIDED_WITHIN_MS < t).then_some(due)
        };
        self.spells.iter().filter_map(of_spell).min()
    }
}
