//! What the machine knows of one service beside its windows and incidents.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use super::Pause;
use super::asking::Answered;
use super::checkpoint::{BaselineDump, VerdictDump};
use super::safety::Kill;
use crate::decide::event::{Level, Release, Severity};
use crate::decide::incident::Patience;
use crate::decide::regression::{Baseline, Baselines};
use crate::decide::release::Releases;
use crate::decide::rules::{Question, ServiceRules, Trigger};
use crate::decide::trigger::{Finding, Findings, never_fires};
use crate::decide::verdict::{Hold, Phase, Verdict};
use crate::promql::{Labels, ServiceId};
use crate::time::Timestamp;

/// Where the service of an incident is no longer configured.
pub const PATIENCE_DEFAULT: Patience = Patience {
    respond_within: Duration::from_mins(15),
    remind_every: Duration::from_mins(15),
    rto: None,
    release_read: Duration::ZERO,
};

/// A trigger whose interval is not known (nothing feeds it) is not looked at more often.
const LOOK_AGAIN_MIN: Duration = Duration::from_millis(100);

/// The memory of one trigger.
#[derive(Clone, Debug)]
pub struct TriggerState {
    pub verdicts: BTreeMap<Labels, Verdict>,
    /// Since when something was breached that is older than the release which runs now. Its label set may be gone by now;
    /// only what is there and Clear ends it.
    pub inherited: Option<Timestamp>,
    /// Label sets that came while another one was breached, since when it was, until they are Clear themselves: they may
    /// be the same breach under the label of the next release.
    pub heirs: BTreeMap<Labels, Timestamp>,
    pub latest: Option<Findings>,
    /// What a `regression` is compared with; empty for others.
    pub baselines: Baselines,
    /// The newest sample that any evaluation rested on: only newer data earns hold time. What a restart brought back is
    /// older than all that counts.
    pub newest: Timestamp,
    /// The latest evaluation that was taken, of whatever outcome.
    pub taken: Timestamp,
    /// The latest evaluation, taken or not.
    pub looked: Timestamp,
    pub dirty: bool,
    /// A notice said that it is blind.
    pub blind_told: bool,
    /// Of a quantile: the highest finite bucket of its histogram, as it was seen last. What cannot be seen now is not known
    /// to have changed.
    highest_bucket: Option<f64>,
}

impl TriggerState {
    fn new(now: Timestamp) -> TriggerState {
        TriggerState {
            verdicts: BTreeMap::new(),
            inherited: None,
            heirs: BTreeMap::new(),
            latest: None,
            baselines: Baselines::default(),
            newest: now,
            taken: now,
            looked: now,
            dirty: true,
            blind_told: false,
            highest_bucket: None,
        }
    }

    /// When to look although nothing arrives. Staleness shows one tolerance after the latest evaluation; what is unknown
    /// then is looked at again every interval.
    pub fn overdue_at(&self, trigger: &Trigger) -> Timestamp {
        let again = self.looked + trigger.interval.max(LOOK_AGAIN_MIN);
        match self.latest.as_ref().map(|latest| latest.worst().1) {
            Some(Finding::Unknown(_)) => again,
            Some(Finding::Clear | Finding::Breached) | None => {
                again.max(self.taken + trigger.patience() + Duration::from_millis(1))
            }
        }
    }

    /// Takes the highest finite bucket. Some: its threshold lies beyond this one, which is news.
    pub fn bucket_seen(&mut self, trigger: &Trigger, highest: f64) -> Option<String> {
        let before = self.highest_bucket.replace(highest);
        if before == Some(highest) { None } else { self.never_fires(trigger) }
    }

    /// Why it can never fire, while that is so.
    pub fn never_fires(&self, trigger: &Trigger) -> Option<String> {
        never_fires(&trigger.question, self.highest_bucket?)
    }

    /// The verdict of a label set that was not there before. It was not breached before it existed, unless what it is the
    /// heir of was.
    pub fn new_verdict(&mut self, labels: &Labels, at: Timestamp) -> Verdict {
        let mut verdict = Verdict::new(at);
        verdict.right_until = self.verdicts.values().filter_map(|other| other.right_until).max();
        verdict.inherited = self.verdicts.values().filter_map(|other| other.inherited).chain(self.inherited).min();
        let breached = self.verdicts.values().filter(|other| matches!(other.known, Some((_, true))));
        if let Some(since) = breached.filter_map(|other| other.began).min() {
            self.heirs.insert(labels.clone(), since);
        }
        verdict
    }

    /// What is Clear now is nobody's heir.
    pub fn forget_heirs(&mut self) {
        let verdicts = &self.verdicts;
        let is_wrong = |verdict: &Verdict| !matches!(verdict.known, Some((_, false)));
        self.heirs.retain(|labels, _| verdicts.get(labels).is_some_and(is_wrong));
    }

    /// Another release runs now.
    pub fn release_changed(&mut self, trigger: &Trigger, at: Timestamp, old_last_seen: Option<Timestamp>) {
        self.baselines.release_changed(old_last_seen, trigger.patience());
        let gap_tolerance = Service::hold(trigger).gap_tolerance;
        for (labels, verdict) in &mut self.verdicts {
            verdict.release_changed(at, old_last_seen, gap_tolerance);
            let before = |since: &&Timestamp| old_last_seen.is_none_or(|seen| **since <= seen);
            verdict.inherited = verdict.inherited.or(self.heirs.get(labels).filter(before).copied());
        }
        self.inherited = self.verdicts.values().filter_map(|verdict| verdict.inherited).min();
    }

    /// The worst of its label sets.
    pub fn phase(&self) -> Phase {
        self.verdicts
            .values()
            .map(|verdict| verdict.phase)
            .max_by_key(|phase| match phase {
                Phase::Quiet => 0,
                Phase::Blind => 1,
                Phase::Pending => 2,
                Phase::Firing => 3,
            })
            .unwrap_or(Phase::Quiet)
    }
}

#[derive(Clone, Debug)]
pub struct Raised {
    pub until: Timestamp,
    pub detail: String,
}

#[derive(Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own, and no two exclude each other")]
pub struct Service {
    pub id: ServiceId,
    pub rules: ServiceRules,
    /// [`Level::hash`] of each level of the ladder: an incident that asks is compared with them at every turn.
    pub level_hashes: Vec<String>,
    /// Not in the configuration any more; it stays while an incident is open.
    pub retired: bool,
    pub releases: Releases,
    /// In the order of the rules.
    pub triggers: Vec<TriggerState>,
    pub signals: BTreeMap<String, Raised>,
    pub pause: Option<Pause>,
    pub kill: Option<Kill>,
    /// By name, the latest answers of its blockers and of the checks of its way back.
    pub blockers: BTreeMap<Arc<str>, Answered>,
    pub ready: BTreeMap<Arc<str>, Answered>,
    /// Those of which a notice says that the way back is gone.
    pub ready_told: BTreeSet<Arc<str>>,
    /// A notice says that this release was rolled back and runs again.
    pub reappeared: Option<Release>,
    /// Until then its blockers are asked because a person wanted to roll back.
    pub asked_by_hand: Option<Timestamp>,
    /// The release that is starting, and until when its findings are Unknown at the latest.
    pub starting: Option<(Release, Timestamp)>,
    /// No release was named in this run yet: the first name may be another one than before the restart.
    pub unnamed: bool,
    /// No target answers, nor any reference that did; and since when no target or reference does.
    pub cut_off: bool,
    pub closed_since: Option<Timestamp>,
    /// Something that it depends on breaches, or did when the machine settled last.
    pub dependency_down: bool,
    /// It breached while too many services did (`daemon.breaching_share_max`).
    pub in_share: bool,
    /// The latest probe of it that failed, and how, if none succeeded since. It outlives its target.
    pub probe_failed: Option<(Timestamp, String)>,
    /// Something answered in this run. Before that nobody knows for how long backstop has been cut off.
    pub reached_once: bool,
    /// The newest look at any target of the service: evaluations happen at this instant.
    pub newest_look: Timestamp,
    /// Samples from before this instant never count again: another release, or a level that finished.
    pub windows_from: Timestamp,
}

fn level_hashes(rules: &ServiceRules) -> Vec<String> {
    rules.ladder.iter().map(Level::hash).collect()
}

impl Service {
    pub fn new(id: ServiceId, rules: &ServiceRules, now: Timestamp) -> Service {
        Service {
            id,
            rules: rules.clone(),
            level_hashes: level_hashes(rules),
            retired: false,
            releases: Releases::new(&rules.detectors),
            triggers: rules.triggers.iter().map(|_| TriggerState::new(now)).collect(),
            signals: BTreeMap::new(),
            pause: None,
            kill: None,
            blockers: BTreeMap::new(),
            ready: BTreeMap::new(),
            ready_told: BTreeSet::new(),
            reappeared: None,
            asked_by_hand: None,
            starting: None,
            unnamed: true,
            cut_off: false,
            closed_since: None,
            dependency_down: false,
            in_share: false,
            probe_failed: None,
            reached_once: false,
            newest_look: now,
            windows_from: Timestamp::MIN,
        }
    }

    /// Takes new rules; triggers that ask the same keep their memory.
    pub fn adopt(&mut self, rules: &ServiceRules, now: Timestamp) {
        let before: Vec<(String, TriggerState)> =
            self.rules.triggers.iter().map(identity).zip(std::mem::take(&mut self.triggers)).collect();
        self.triggers = rules
            .triggers
            .iter()
            .map(|trigger| {
                let same = before.iter().find(|(id, _)| *id == identity(trigger));
                let mut state = same.map_or_else(|| TriggerState::new(now), |(_, state)| state.clone());
                if self.retired {
                    // Nobody watched it meanwhile, and what it had come to was told to be over.
                    state.verdicts.values_mut().for_each(|verdict| verdict.unwatched(now));
                }
                state.dirty = true;
                state
            })
            .collect();
        self.releases.reconfigure(&rules.detectors);
        // The same names may ask something else now.
        self.blockers.clear();
        self.ready.clear();
        self.ready_told.retain(|name| rules.guard.ready.iter().any(|check| *check.name == **name));
        self.rules = rules.clone();
        self.level_hashes = level_hashes(rules);
        self.retired = false;
    }

    pub fn dump_verdicts(&self) -> impl Iterator<Item = VerdictDump> {
        self.rules.triggers.iter().zip(&self.triggers).flat_map(move |(trigger, state)| {
            let question: Arc<str> = identity(trigger).into();
            state.verdicts.iter().map(move |(labels, verdict)| VerdictDump {
                service: Arc::clone(&self.rules.name),
                trigger: Arc::clone(&trigger.name),
                question: Arc::clone(&question),
                labels: labels.clone(),
                verdict: verdict.clone(),
            })
        })
    }

    /// Puts a verdict back after a restart, if its trigger still asks the same.
    /// `lived_until`: so long the daemon is known to have gone on, maybe beyond the checkpoint. What it saw then is lost: where
    /// that is longer than a gap may be, nothing that was held counts.
    pub fn restore_verdict(&mut self, dump: &VerdictDump, lived_until: Timestamp, now: Timestamp) {
        for (trigger, state) in self.rules.triggers.iter().zip(&mut self.triggers) {
            if trigger.name == dump.trigger && identity(trigger) == *dump.question {
                let mut verdict = dump.verdict.clone();
                let known = verdict.known.map_or(lived_until, |(at, _)| at);
                verdict.restored(now);
                if lived_until.since(known) > Service::hold(trigger).gap_tolerance {
                    verdict.unwatched(now);
                }
                state.inherited = state.inherited.into_iter().chain(verdict.inherited).min();
                state.verdicts.insert(dump.labels.clone(), verdict);
            }
        }
    }

    pub fn dump_baselines(&self) -> impl Iterator<Item = BaselineDump> {
        self.rules.triggers.iter().zip(&self.triggers).flat_map(move |(trigger, state)| {
            let question: Arc<str> = identity(trigger).into();
            state.baselines.0.iter().map(move |(labels, baseline)| BaselineDump {
                service: Arc::clone(&self.rules.name),
                trigger: Arc::clone(&trigger.name),
                question: Arc::clone(&question),
                labels: labels.clone(),
                slots: baseline.slots.clone(),
                frozen: baseline.frozen,
                seen: baseline.seen,
            })
        })
    }

    /// Puts a baseline back after a restart, if its trigger still asks the same.
    pub fn restore_baseline(&mut self, dump: &BaselineDump) {
        for (trigger, state) in self.rules.triggers.iter().zip(&mut self.triggers) {
            if trigger.name == dump.trigger && identity(trigger) == *dump.question {
                let baseline = Baseline { slots: dump.slots.clone(), frozen: dump.frozen, seen: dump.seen };
                state.baselines.0.insert(dump.labels.clone(), baseline);
            }
        }
    }

    /// How a trigger's verdicts count. A signal is a fact that holds between evaluations, so it has no gaps.
    pub fn hold(trigger: &Trigger) -> Hold {
        let gap_tolerance = match trigger.question {
            Question::Value { .. } => trigger.patience(),
            Question::Signal { .. } => Duration::MAX,
        };
        Hold { hold: trigger.hold, gap_tolerance }
    }

    /// Label sets that breach, of those that have a verdict: any, all, or a share, as the trigger says.
    pub fn fires(trigger: &Trigger, state: &TriggerState) -> bool {
        use crate::decide::rules::FireWhen;
        let firing = state.verdicts.values().filter(|verdict| verdict.fires()).count();
        // One that cannot be seen is not one that fires.
        let all = state.verdicts.len();
        match trigger.fire_when {
            FireWhen::Any => firing > 0,
            FireWhen::All => firing > 0 && firing == all,
            #[expect(clippy::cast_precision_loss, reason = "counts of label sets are small")]
            FireWhen::Share(share) => firing > 0 && firing as f64 >= share * all as f64,
        }
    }

    /// A trigger that is known to be breached; its hold need not be full.
    pub fn breaching(&self) -> Option<(&Trigger, &Verdict)> {
        self.rules.triggers.iter().zip(&self.triggers).find_map(|(trigger, state)| {
            let breached = state.verdicts.values().find(|verdict| {
                matches!(verdict.phase, Phase::Pending | Phase::Firing) && matches!(verdict.known, Some((_, true)))
            });
            Some((trigger, breached?))
        })
    }

    /// When it was last seen to be breached, if what breached was not seen to be well since.
    pub fn last_breached(&self) -> Option<Timestamp> {
        self.triggers.iter().flat_map(|state| state.verdicts.values()).filter_map(Verdict::last_breached).max()
    }

    /// How long its incidents wait for what.
    pub fn patience(&self, severity: Severity) -> Patience {
        let own = self.rules.severities.get(&severity).and_then(|rules| rules.respond_within);
        Patience {
            respond_within: own.unwrap_or(self.rules.respond_within),
            remind_every: self.rules.remind_every,
            rto: self.rules.rto,
            release_read: (self.releases.slowest() * 2).max(self.rules.guard.slowest_check()),
        }
    }

    /// When something is to be looked at although nothing arrives.
    pub fn wakes(&self) -> Vec<Timestamp> {
        let mut wakes = Vec::new();
        for (trigger, state) in self.rules.triggers.iter().zip(&self.triggers) {
            match &trigger.question {
                Question::Value { .. } => wakes.push(state.overdue_at(trigger)),
                Question::Signal { name } => {
                    wakes.extend(self.signals.get(&**name).map(|raised| raised.until));
                    let began = state.verdicts.values().filter(|verdict| verdict.phase == Phase::Pending);
                    wakes.extend(began.filter_map(|verdict| verdict.began).map(|began| began + trigger.hold));
                }
            }
        }
        wakes.extend(self.starting.as_ref().map(|(_, until)| *until));
        wakes.extend(self.pause.as_ref().map(|pause| pause.until));
        wakes.extend(self.releases.good_at(self.rules.guard.good_after));
        wakes
    }
}

/// What makes a trigger the same one: the question, not its thresholds in time.
pub fn identity(trigger: &Trigger) -> String {
    match &trigger.question {
        Question::Value { expr, .. } => {
            format!("{}: {expr} {}", trigger.name, crate::decide::trigger::threshold_text(&trigger.question))
        }
        Question::Signal { name } => format!("{}: signal {name}", trigger.name),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decide::event::{Gate, Severity};
    use crate::decide::rules::{FireWhen, OnUnknown, Unit, ValueKind};
    use crate::decide::verdict::Says;
    use crate::promql::{Comparison, Expr};

    #[test]
    fn one_missed_look_is_no_gap_although_the_next_is_a_little_late() {
        let interval = Duration::from_secs(15);
        let trigger = Trigger {
            name: Arc::from("error-rate"),
            question: Question::Value {
                kind: ValueKind::Expr,
                expr: Arc::new(Expr::parse("errors").expect("it is an expression")),
                comparison: Comparison::Above,
                threshold: 0.0,
                unit: Unit::Number,
            },
            hold: Duration::from_mins(10),
            severity: Severity::High,
            gate: Gate::Release,
            autonomy: None,
            start_level: 0,
            fire_when: FireWhen::Any,
            on_unknown: OnUnknown::Pause,
            gap_tolerance: interval * 2,
            interval,
        };
        let held_after = |late_ms: i64| {
            let at = Timestamp::from_millis;
            let mut verdict = Verdict::new(at(0));
            verdict.take(Says::Clear, at(0), Service::hold(&trigger));
            for instant in [15_000, 30_000, 60_000 + late_ms] {
                verdict.take(Says::Breached, at(instant), Service::hold(&trigger));
            }
            verdict.held
        };
        assert_eq!(held_after(200), Duration::from_millis(45_200));
        // Two missed looks.
        assert_eq!(held_after(15_000), Duration::ZERO);
    }
}
