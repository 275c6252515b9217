//! What the operator's own checks say before a rollback: blockers, and whether the way back is there.

use std::sync::Arc;

use super::{Answer, Facts};
use crate::decide::event::GuardCheck;

/// Codes of the holds that end by themselves when the answer comes.
pub const WAITING: [&str; 2] = ["blocker_unasked", "way_back_unchecked"];

/// One question and where it stands.
#[derive(Clone, Debug, PartialEq)]
pub struct Asked {
    pub name: Arc<str>,
    pub about: About,
    pub standing: Standing,
    /// A person said that it does not count this time.
    pub overridden: bool,
}

#[derive(Clone, Debug, PartialEq)]
pub enum About {
    /// With the operator's sentence.
    Blocker { says: Option<Arc<str>> },
    /// With the release that it is about.
    WayBack { target: String },
}

#[derive(Clone, Debug, PartialEq)]
pub enum Standing {
    /// A fresh answer: nothing stands in the way.
    Free,
    /// A fresh answer: it must not be done. Why.
    Holds(String),
    /// No answer could be had. Why.
    Unknown(String),
    /// No fresh answer is there yet.
    Waiting,
}

impl Asked {
    fn answer(&self) -> Answer {
        let name = &self.name;
        if self.overridden {
            return Answer::Allow(format!("{name} is overridden by a person"));
        }
        match (&self.about, &self.standing) {
            (About::Blocker { .. }, Standing::Free) => Answer::Allow(format!("the blocker {name} does not hold")),
            (About::Blocker { says: Some(says) }, Standing::Holds(why)) => {
                Answer::Escalate("blocked", format!("{says} (blocker {name}: {why})"))
            }
            (About::Blocker { says: None }, Standing::Holds(why)) => {
                Answer::Escalate("blocked", format!("the blocker {name} holds: {why}"))
            }
            (About::Blocker { .. }, Standing::Unknown(why)) => {
                Answer::Escalate("blocker_unknown", format!("the blocker {name} cannot be ruled out: {why}"))
            }
            (About::Blocker { .. }, Standing::Waiting) => {
                Answer::Hold(WAITING[0], format!("waiting for the answer of the blocker {name}"))
            }
            (About::WayBack { target }, Standing::Free) => Answer::Allow(format!("{target} is there: {name}")),
            (About::WayBack { target }, Standing::Holds(why) | Standing::Unknown(why)) => {
                Answer::Escalate("way_back_not_ready", format!("{target} cannot be gone back to: {name}: {why}"))
            }
            (About::WayBack { target }, Standing::Waiting) => {
                Answer::Hold(WAITING[1], format!("waiting to hear whether {target} is there: {name}"))
            }
        }
    }

    const fn check(&self) -> &'static str {
        match self.about {
            About::Blocker { .. } => "blocker",
            About::WayBack { .. } => "way_back_ready",
        }
    }

    /// Why no further level may begin; None where this one does not stand in the way. The flag: only for want of an
    /// answer that is on its way.
    #[must_use]
    pub fn refusal(&self) -> Option<(String, bool)> {
        match self.answer() {
            Answer::Allow(_) => None,
            Answer::Hold(_, sentence) => Some((sentence, true)),
            Answer::Escalate(_, sentence) | Answer::Propose(_, sentence) => Some((sentence, false)),
        }
    }
}

pub(super) fn answers<'a>(facts: &'a Facts<'_>) -> impl Iterator<Item = (&'static str, Answer)> + 'a {
    facts.asked.iter().map(|asked| (asked.check(), asked.answer()))
}

/// In the decision, so that the record of an admission names what a person overrode.
const OVERRIDDEN: &str = "override:";

pub(super) fn overrides(facts: &Facts<'_>) -> impl Iterator<Item = GuardCheck> {
    facts.asked.iter().filter(|asked| asked.overridden).map(|asked| GuardCheck {
        check: format!("{OVERRIDDEN}{}", asked.name),
        allows: true,
        sentence: format!("{} does not count this time: a person said so", asked.name),
    })
}

/// What was overridden when this was decided.
pub fn overridden(checks: &[GuardCheck]) -> impl Iterator<Item = &str> {
    checks.iter().filter_map(|check| check.check.strip_prefix(OVERRIDDEN))
}
