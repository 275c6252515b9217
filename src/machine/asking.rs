//! Questions put to the world: who asked, and what becomes of the answer.

use std::collections::BTreeMap;

use super::Machine;
use super::input::CheckId;
use super::output::{CheckOrder, Output};
use crate::decide::event::{Attempt, CheckOutcome, IncidentId};
use crate::time::{Now, Timestamp};

/// Who waits for an answer. At most one question of each is under way.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Asker {
    /// An incident: did this attempt of a step take effect?
    Step(IncidentId, Attempt),
}

/// Questions under way. A restart and a reload forget them: an answer to one that is not known changes nothing.
#[derive(Debug, Default)]
pub(super) struct Asked {
    last: u64,
    open: BTreeMap<CheckId, (Asker, Timestamp)>,
}

impl Asked {
    /// Since when this one waits for an answer.
    pub fn since(&self, asker: &Asker) -> Option<Timestamp> {
        self.open.values().find(|(open, _)| open == asker).map(|(_, since)| *since)
    }

    pub fn forget(&mut self) {
        self.open.clear();
    }
}

impl Machine {
    /// Asks, unless the same asker still waits. `order` is given the id.
    pub(super) fn ask(
        &mut self,
        asker: Asker,
        order: impl FnOnce(CheckId) -> CheckOrder,
        now: &Now,
        out: &mut Vec<Output>,
    ) {
        if self.asked.since(&asker).is_some() {
            return;
        }
        self.asked.last += 1;
        let id = CheckId(self.asked.last);
        self.asked.open.insert(id, (asker, now.monotonic));
        out.push(Output::RunCheck(Box::new(order(id))));
    }

    pub(super) fn checked(&mut self, now: &Now, id: CheckId, outcome: CheckOutcome, out: &mut Vec<Output>) {
        let Some((asker, _since)) = self.asked.open.remove(&id) else { return };
        match asker {
            Asker::Step(incident, attempt) => self.step_checked(now, &incident, attempt, outcome, out),
        }
    }
}
