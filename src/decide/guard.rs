//! May we act on a firing verdict? Each check returns an allow or a reason; nothing is assumed.

pub mod asked;

use std::sync::Arc;
use std::time::Duration;

use super::event::{Autonomy, Decision, DecisionKind, Gate, GuardCheck, Reason, Release, Running};
use super::release::Change;
use super::rules::Unit;
use super::trigger::{short, value_text};
use crate::time::{Now, Timestamp};

/// All that the guard looks at, for one firing trigger.
#[derive(Clone, Debug, PartialEq)]
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own, and no two exclude each other")]
pub struct Facts<'a> {
    /// The most careful of service, trigger and level.
    pub autonomy: Autonomy,
    pub gate: Gate,
    pub release_window: Duration,
    pub breach: Breach,
    pub running: &'a Running,
    pub judged: Option<&'a Release>,
    pub change: Option<&'a Change>,
    /// The judged release was rolled back before.
    pub rolled_back_before: bool,
    /// A step of an earlier incident (aborted, past its deadline) still runs.
    pub step_in_flight: bool,
    pub way_back: Option<&'a Release>,
    /// How long the way back had run, this last time, when the judged release came.
    pub way_back_ran: Duration,
    /// Detectors have been read since the breach began.
    pub release_read: bool,
    pub reach: Reach,
    /// The kill switch is on: in whose words.
    pub killed: Option<String>,
    /// The kill switch was named by who orders the rollback.
    pub kill_overridden: bool,
    /// The clock jumped, or backstop was stopped: only watching until then, and why.
    pub tilt: Option<(Timestamp, &'a str)>,
    /// Dependencies that breach, each in a few words.
    pub dependencies_breaching: Vec<String>,
    /// Dependencies that cannot be seen, by name.
    pub dependencies_unseen: Vec<Arc<str>>,
    /// The freeze that is on, and when it ends on the wall.
    pub frozen: Option<(&'a str, Timestamp)>,
    /// Why no new rollback may start: a pause, with its end.
    pub paused: Option<(Timestamp, &'a str)>,
    pub journal_failing: Option<&'a str>,
    /// The cooldown since the last incident ends then.
    pub cooldown_until: Option<Timestamp>,
    /// Which budget is used up.
    pub budget_used: Option<String>,
    /// Share of services that breach at once, and the limit.
    pub breaching_share: Option<(f64, f64)>,
    /// A level is left to try.
    pub level_left: bool,
    /// Blockers, and the checks of the way back.
    pub asked: Vec<asked::Asked>,
}

/// When the breach began, as far as it is known.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Breach {
    pub began: Timestamp,
    /// It goes back to before the release, or before backstop first looked: since when.
    pub inherited: Option<Timestamp>,
    /// It was Clear at some time before.
    pub was_clear: bool,
    /// The worst value that was seen before the release, where it is known.
    pub baseline: Option<Compared>,
    /// It has become clearly worse since the release, for the whole hold.
    pub worsened: Option<Worsened>,
}

/// A value as it is shown.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Compared {
    pub value: f64,
    pub unit: Unit,
    /// How many times as bad it must be now.
    pub factor: f64,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Worsened {
    pub began: Timestamp,
    pub now: f64,
}

/// Whether we can see the world.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reach {
    /// Some target answered, if only by refusing.
    Target,
    /// No target, but a reference that was up within the last 10 minutes still is.
    Reference(String),
    /// Something answers again, but not every target that could not be reached was looked at since; or backstop has just
    /// started, and not every target was looked at.
    Back,
    /// No target, and every reference that was up is dark.
    CutOff { references: usize },
    /// No target, and there is no reference to compare with.
    NoReference,
}

/// A person has said yes, or orders it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mandate {
    /// backstop by itself.
    Trigger,
    /// A proposal was approved: what only asked for a person is answered.
    Approved,
    /// By hand: skips autonomy, gate, cooldown, budgets, references, dependencies, freeze and pause.
    ByHand,
}

enum Answer {
    Allow(String),
    Hold(&'static str, String),
    Escalate(&'static str, String),
    Propose(&'static str, String),
}

/// The code of the hold that ends by itself at the next look at the release.
pub const RELEASE_NOT_READ: &str = "release_not_read";

/// The check that stands in a decision which passed over the kill switch.
pub const OVERRIDES_KILL_SWITCH: &str = "override:kill-switch";

/// The code of a hold because of `guard.dependencies`.
pub const DEPENDENCY: &str = "dependency";

/// The code of a question because of `daemon.breaching_share_max`.
pub const SHARE: &str = "share";

/// The code of the hold that ends by itself when every target was looked at again.
pub const JUST_BACK: &str = "just_back";

/// Of the answers for several triggers, the one that does most: lower is more.
#[must_use]
pub const fn rank(kind: DecisionKind) -> u8 {
    match kind {
        DecisionKind::RollBack => 0,
        DecisionKind::Propose => 1,
        DecisionKind::WouldRollBack => 2,
        DecisionKind::Hold => 3,
        DecisionKind::Escalate => 4,
    }
}

/// A release that had run for less when the next one came may be what is wrong, as long as both run.
const TOLD_APART: Duration = Duration::from_mins(5);

/// The guard's answer. The order of the refusals: what makes us doubt our own eyes (hold) before what calls a person
/// (escalate) before what only asks one (propose).
#[must_use]
pub fn judge(facts: &Facts<'_>, mandate: Mandate, now: &Now) -> Decision {
    let by_hand = mandate == Mandate::ByHand;
    let mut answers: Vec<(&'static str, Answer)> =
        vec![("journal", journal(facts)), ("step", step(facts)), ("release", running(facts, mandate))];
    answers.push(("kill_switch", kill_switch(facts)));
    if facts.killed.is_some() && facts.kill_overridden {
        let sentence = "the kill switch does not count this time: a person said so".to_owned();
        answers.push((OVERRIDES_KILL_SWITCH, Answer::Allow(sentence)));
    }
    if !by_hand {
        answers.push(("tilt", tilt(facts.tilt, now)));
        answers.push(("reach", reach(&facts.reach)));
        answers.push(("dependencies", dependencies(&facts.dependencies_breaching, &facts.dependencies_unseen)));
        answers.push(("share", share(facts)));
        answers.push(("pause", pause(facts, now)));
        answers.push(("release_read", release_read(facts)));
        answers.push(("attribution", attribution(facts, now)));
    }
    answers.push(("way_back", way_back(facts)));
    answers.push(("ladder", ladder(facts)));
    answers.extend(asked::answers(facts));
    if mandate == Mandate::Trigger {
        answers.push(("cooldown", cooldown(facts, now)));
        answers.push(("budget", budget(facts)));
        answers.push(("freeze", freeze(facts)));
        answers.push(("autonomy", autonomy(facts)));
    }
    let mut decision = conclude(answers, facts.autonomy, mandate);
    decision.checks.extend(asked::overrides(facts));
    decision
}

fn conclude(answers: Vec<(&'static str, Answer)>, autonomy: Autonomy, mandate: Mandate) -> Decision {
    let mut checks = Vec::new();
    let mut refusals: Vec<(DecisionKind, Reason)> = Vec::new();
    for (check, answer) in answers {
        let (allows, sentence) = match answer {
            Answer::Allow(sentence) => (true, sentence),
            Answer::Hold(code, sentence) => {
                refusals.push((DecisionKind::Hold, reason(code, &sentence)));
                (false, sentence)
            }
            Answer::Escalate(code, sentence) => {
                refusals.push((DecisionKind::Escalate, reason(code, &sentence)));
                (false, sentence)
            }
            // A person has answered what only asks a person.
            Answer::Propose(_, sentence) if mandate != Mandate::Trigger => (true, sentence),
            Answer::Propose(code, sentence) => {
                refusals.push((DecisionKind::Propose, reason(code, &sentence)));
                (false, sentence)
            }
        };
        checks.push(GuardCheck { check: check.to_owned(), allows, sentence });
    }
    let has = |kind| refusals.iter().any(|(refusal, _)| *refusal == kind);
    let kind = if has(DecisionKind::Hold) {
        DecisionKind::Hold
    } else if has(DecisionKind::Escalate) {
        DecisionKind::Escalate
    } else if mandate == Mandate::Trigger && autonomy == Autonomy::Observe {
        DecisionKind::WouldRollBack
    } else if has(DecisionKind::Propose) {
        DecisionKind::Propose
    } else {
        DecisionKind::RollBack
    };
    let counts = |refusal: DecisionKind| match kind {
        DecisionKind::Hold | DecisionKind::Escalate | DecisionKind::Propose => refusal == kind,
        DecisionKind::WouldRollBack => refusal == DecisionKind::Propose,
        DecisionKind::RollBack => false,
    };
    let reasons = refusals.into_iter().filter(|(refusal, _)| counts(*refusal)).map(|(_, reason)| reason).collect();
    Decision { kind, reasons, checks }
}

fn reason(code: &str, sentence: &str) -> Reason {
    Reason { code: code.to_owned(), sentence: sentence.to_owned() }
}

fn journal(facts: &Facts<'_>) -> Answer {
    match facts.journal_failing {
        None => Answer::Allow("the journal is written".to_owned()),
        Some(why) => Answer::Hold(
            "journal_failing",
            format!("the journal cannot be written ({why}), so no rollback could be remembered"),
        ),
    }
}

fn step(facts: &Facts<'_>) -> Answer {
    if facts.step_in_flight {
        Answer::Hold("step_in_flight", "a step of an earlier rollback still runs".to_owned())
    } else {
        Answer::Allow("no step is under way".to_owned())
    }
}

/// A person may order what backstop would not do by itself, but not a rollback from nobody knows what.
fn running(facts: &Facts<'_>, mandate: Mandate) -> Answer {
    let unknown = |why: &str| {
        let sentence = format!("what runs is not known: {why}");
        match mandate {
            Mandate::Trigger | Mandate::Approved => Answer::Propose("release_unknown", sentence),
            Mandate::ByHand => Answer::Hold("release_unknown", sentence),
        }
    };
    let Some(judged) = facts.judged else {
        return match facts.running {
            Running::Unknown(why) if mandate == Mandate::Trigger => unknown(why),
            Running::Unknown(_) | Running::One(_) | Running::Mix(_) => {
                Answer::Hold("release_unknown", "no release has been seen yet".into())
            }
        };
    };
    if facts.rolled_back_before && mandate != Mandate::ByHand {
        return Answer::Escalate("rolled_back_before", format!("{judged} was rolled back before and has come back"));
    }
    match facts.running {
        Running::One(release) if release == judged => Answer::Allow(format!("{judged} runs")),
        Running::Mix(shares)
            if mandate != Mandate::ByHand
                && facts.way_back_ran < TOLD_APART
                && shares.iter().any(|(release, _)| Some(release) == facts.way_back) =>
        {
            let beside = facts.way_back.map_or("the way back", |release| &release.0);
            let sentence = format!(
                "{beside} runs beside {judged}, and had run for {} only when that came: which is wrong is not known; \
                 waiting for the rollout to end",
                short(facts.way_back_ran)
            );
            Answer::Hold("mixed", sentence)
        }
        Running::Mix(shares)
            if shares.iter().all(|(release, _)| release == judged || Some(release) == facts.way_back) =>
        {
            Answer::Allow(format!("{judged} runs on a part of the targets"))
        }
        // No step would start while a third release runs, so nothing is admitted either.
        Running::Mix(shares) if shares.iter().any(|(release, _)| release == judged) => Answer::Hold(
            "mixed",
            format!("beside {judged} a release runs that is not the way back; waiting for the rollout to end"),
        ),
        Running::One(release) => Answer::Hold("other_release", format!("{release} runs, not {judged}")),
        Running::Mix(_) => Answer::Hold("other_release", format!("{judged} is not among the releases that run")),
        Running::Unknown(why) => unknown(why),
    }
}

fn reach(reach: &Reach) -> Answer {
    match reach {
        Reach::Target => Answer::Allow("a target of the service answers".to_owned()),
        Reach::Reference(name) => Answer::Allow(format!("no target answers, but {name} does: the service is down")),
        Reach::Back => Answer::Hold(
            JUST_BACK,
            "backstop was cut off or not running until a moment ago; waiting for the next look at every target"
                .to_owned(),
        ),
        Reach::CutOff { references } => Answer::Hold(
            "cut_off",
            format!("no target answers, nor any of {references} references that did: backstop itself is cut off"),
        ),
        Reach::NoReference => Answer::Hold(
            "no_reference",
            "no target answers, and no reference answers that could tell whether backstop is cut off".to_owned(),
        ),
    }
}

fn share(facts: &Facts<'_>) -> Answer {
    match facts.breaching_share {
        Some((share, max)) if share > max => Answer::Propose(
            SHARE,
            format!("{:.0} % of all services breach at once, so it is not this release", share * 100.0),
        ),
        Some(_) | None => Answer::Allow("the other services are well enough".to_owned()),
    }
}

fn kill_switch(facts: &Facts<'_>) -> Answer {
    match &facts.killed {
        None => Answer::Allow("the kill switch is off".to_owned()),
        Some(_) if facts.kill_overridden => Answer::Allow("the kill switch is on, and passed over by order".to_owned()),
        Some(why) => Answer::Hold("kill_switch", format!("the kill switch is on: {why}")),
    }
}

fn tilt(tilt: Option<(Timestamp, &str)>, now: &Now) -> Answer {
    match tilt {
        Some((until, why)) if until > now.monotonic => {
            Answer::Hold("tilt", format!("{why}; backstop only watches until {}", now.wall_of(until)))
        }
        Some(_) | None => Answer::Allow("the clock and backstop itself run steadily".to_owned()),
    }
}

/// Why what is seen now may be an outage's, and proves nothing against a release or against a level that was carried out:
/// what holds an admission for that reason.
#[must_use]
pub fn outage(
    clock: Option<(Timestamp, &str)>,
    reached: &Reach,
    (breaching, unseen): (&[String], &[Arc<str>]),
    now: &Now,
) -> Option<String> {
    let holds: Vec<String> = [tilt(clock, now), reach(reached), dependencies(breaching, unseen)]
        .into_iter()
        .filter_map(|answer| match answer {
            Answer::Hold(_, sentence) => Some(sentence),
            Answer::Allow(_) | Answer::Escalate(..) | Answer::Propose(..) => None,
        })
        .collect();
    (!holds.is_empty()).then(|| holds.join("; "))
}

/// Only what is known to breach counts: a dependency that cannot be seen would otherwise hold for ever.
fn dependencies(breaching: &[String], unseen: &[Arc<str>]) -> Answer {
    let unseen = match unseen {
        [] => String::new(),
        names => format!(" ({} cannot be seen)", names.join(", ")),
    };
    match breaching {
        [] => Answer::Allow(format!("no dependency breaches{unseen}")),
        breaching => Answer::Hold(
            DEPENDENCY,
            format!("what it depends on breaches too, so it may not be this release: {}{unseen}", breaching.join("; ")),
        ),
    }
}

fn freeze(facts: &Facts<'_>) -> Answer {
    match facts.frozen {
        None => Answer::Allow("no freeze".to_owned()),
        Some((why, until)) => Answer::Propose("freeze", format!("a freeze is on until {until}: {why}")),
    }
}

fn pause(facts: &Facts<'_>, now: &Now) -> Answer {
    match facts.paused {
        None => Answer::Allow("not paused".to_owned()),
        Some((until, why)) => Answer::Hold("paused", format!("paused until {}: {why}", now.wall_of(until))),
    }
}

fn release_read(facts: &Facts<'_>) -> Answer {
    if facts.gate == Gate::None || facts.release_read {
        Answer::Allow("the release was read after the breach began".to_owned())
    } else {
        Answer::Hold(RELEASE_NOT_READ, "waiting for the next look at the release".to_owned())
    }
}

/// Is the release to blame for the breach, or is it wrong whatever was deployed?
#[must_use]
pub fn is_to_blame(facts: &Facts<'_>, now: &Now) -> bool {
    matches!(attribution(facts, now), Answer::Allow(_))
}

fn attribution(facts: &Facts<'_>, now: &Now) -> Answer {
    if facts.gate == Gate::None {
        return Answer::Allow("wrong whatever was deployed".to_owned());
    }
    let Some((change, old_last_seen)) =
        facts.change.and_then(|change| change.old_last_seen.map(|old_last_seen| (change, old_last_seen)))
    else {
        return Answer::Escalate("no_release", "no release change was seen, so none is to blame".to_owned());
    };
    let release = &change.release;
    if let Some(incident) = &change.installed_by {
        return Answer::Escalate("own_release", format!("{release} was installed by backstop itself ({incident})"));
    }
    if change.returned {
        return Answer::Escalate("returned_release", format!("{release} is a return to a release seen before"));
    }
    let began_before =
        !facts.breach.was_clear || facts.breach.inherited.is_some() || facts.breach.began < old_last_seen;
    // An old breach that the release made clearly worse is the release's, from the moment on at which it did.
    let began = match &facts.breach.worsened {
        Some(worsened) if began_before => worsened.began,
        Some(_) | None if began_before => return already_wrong(facts, release, now),
        Some(_) | None => facts.breach.began,
    };
    let after = began.since(change.first_seen);
    if after > facts.release_window {
        return Answer::Escalate(
            "not_after_release",
            format!(
                "it began {} after {release} came, which is more than {}",
                short(after),
                short(facts.release_window)
            ),
        );
    }
    match (&facts.breach.worsened, &facts.breach.baseline) {
        (Some(worsened), Some(before)) if began_before => Answer::Allow(format!(
            "it was wrong before {release} came ({}), and has been at least {} times as bad since ({})",
            value_text(before.value, before.unit),
            before.factor,
            value_text(worsened.now, before.unit)
        )),
        (Some(_) | None, Some(_) | None) => Answer::Allow(format!("it began {} after {release} came", short(after))),
    }
}

fn already_wrong(facts: &Facts<'_>, release: &Release, now: &Now) -> Answer {
    // What a person needs to see why the new values change nothing.
    let compared = facts.breach.baseline.map_or_else(String::new, |before| {
        let value = value_text(before.value, before.unit);
        format!(" ({value} then, and not {} times as bad since)", before.factor)
    });
    if !facts.breach.was_clear {
        let sentence =
            format!("it was not seen to be right just before {release} came, so {release} may not be to blame");
        return Answer::Escalate("never_clear", format!("{sentence}{compared}"));
    }
    if let Some(since) = facts.breach.inherited {
        let when = now.wall_of(since);
        let sentence = format!("it was wrong before {release} came, since {when} at least{compared}");
        return Answer::Escalate("before_release", sentence);
    }
    let when = now.wall_of(facts.breach.began);
    Answer::Escalate("before_release", format!("it began at {when}, before {release} came{compared}"))
}

fn way_back(facts: &Facts<'_>) -> Answer {
    match facts.way_back {
        Some(target) => Answer::Allow(format!("{target} is known good")),
        None => Answer::Escalate("no_way_back", "no earlier release is known to be good".to_owned()),
    }
}

fn ladder(facts: &Facts<'_>) -> Answer {
    if facts.level_left {
        Answer::Allow("a level is left to try".to_owned())
    } else {
        Answer::Escalate(
            "ladder_exhausted",
            "no rollback level is configured that was not tried for this release".to_owned(),
        )
    }
}

fn cooldown(facts: &Facts<'_>, now: &Now) -> Answer {
    match facts.cooldown_until {
        Some(until) if until > now.monotonic => {
            Answer::Propose("cooldown", format!("the last incident is too near; cooldown until {}", now.wall_of(until)))
        }
        Some(_) | None => Answer::Allow("no cooldown".to_owned()),
    }
}

fn budget(facts: &Facts<'_>) -> Answer {
    match &facts.budget_used {
        Some(which) => Answer::Propose("budget", which.clone()),
        None => Answer::Allow("within the budgets".to_owned()),
    }
}

fn autonomy(facts: &Facts<'_>) -> Answer {
    match facts.autonomy {
        Autonomy::Act => Answer::Allow("it may act by itself".to_owned()),
        Autonomy::Propose => Answer::Propose("autonomy", "a person decides (autonomy = \"propose\")".to_owned()),
        // `conclude` turns this into WouldRollBack.
        Autonomy::Observe => Answer::Allow("it only reports (autonomy = \"observe\")".to_owned()),
    }
}

#[cfg(test)]
mod tests;
