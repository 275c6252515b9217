//! From windows to verdicts, and from a firing verdict to the guard's answer.

use std::cmp::Reverse;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use super::Machine;
use super::blame::autonomy_at;
use super::output::{LogLevel, Output};
use super::safety::{BREACH_MEMORY, KILL_SWITCH};
use super::service::{Service, identity};
use super::watch::{Target, is_recent, sees};
use crate::decide::event::{Autonomy, Decision, Evidence, Severity, TriggerFact};
use crate::decide::guard::{self, Breach, Compared, Facts, Mandate, Reach, Worsened};
use crate::decide::incident::Incident;
use crate::decide::rules::{Budget, Question, Trigger, Unit, ValueKind};
use crate::decide::trigger::{Finding, Findings, Unknown, find, remember, short, threshold_text, value_text};
use crate::decide::verdict::{Phase, Says, Verdict};
use crate::decide::worsened::Measure;
use crate::promql::{Evaluation, Instant, Labels, Scope, evaluate};
use crate::time::{Now, Timestamp};

/// Label sets remembered per trigger; beyond, the finding is Unknown rather than a slice of the truth.
const LABEL_SETS_MAX: usize = 1000;

impl Machine {
    /// Evaluates what is dirty, at the newest sample's time, and what has been silent for too long, now.
    pub(super) fn evaluate_triggers(&mut self, index: usize, now: &Now, out: &mut Vec<Output>) {
        for place in 0..self.services[index].rules.triggers.len() {
            let service = &self.services[index];
            let (trigger, state) = (&service.rules.triggers[place], &service.triggers[place]);
            let overdue = state.overdue_at(trigger) <= now.monotonic;
            match &trigger.question {
                Question::Signal { name } => self.evaluate_signal(index, place, &Arc::clone(name), now),
                Question::Value { .. } if state.dirty => {
                    let at = service.newest_look.min(now.monotonic);
                    self.evaluate_value(index, place, at, now, out);
                    if now.monotonic.since(self.services[index].triggers[place].taken)
                        > self.services[index].rules.triggers[place].patience()
                    {
                        self.evaluate_value(index, place, now.monotonic, now, out);
                    }
                }
                Question::Value { .. } if overdue => self.evaluate_value(index, place, now.monotonic, now, out),
                Question::Value { .. } => {}
            }
        }
    }

    fn evaluate_signal(&mut self, index: usize, place: usize, name: &str, now: &Now) {
        let at = now.monotonic;
        let service = &mut self.services[index];
        let raised = service.signals.get(name).filter(|raised| at < raised.until);
        let finding = if raised.is_some() { Finding::Breached } else { Finding::Clear };
        let trigger = &service.rules.triggers[place];
        let state = &mut service.triggers[place];
        let verdict = state.verdicts.entry(Labels::default()).or_insert_with(|| Verdict::new(at));
        verdict.take(finding.says(trigger.on_unknown), at, Service::hold(trigger));
        (state.taken, state.looked) = (at, at);
        state.dirty = false;
        let sets = vec![(Labels::default(), finding, None)];
        state.latest = Some(Findings { sets, others: Finding::Clear, evidence: Evidence::default() });
    }

    fn evaluate_value(&mut self, index: usize, place: usize, at: Timestamp, now: &Now, out: &mut Vec<Output>) {
        let service = &self.services[index];
        let trigger = &service.rules.triggers[place];
        let Question::Value { expr, .. } = &trigger.question else { return };
        let wall_offset_ms = now.wall.millis_since(now.monotonic);
        let evaluated = evaluate(expr, &self.store, service.id, Instant { at, wall_offset_ms });
        let newest = evaluated.as_ref().ok().and_then(newest_sample);
        let newest = newest.or_else(|| self.newest_success(service)).unwrap_or(Timestamp::MIN);
        let restored = service.triggers[place].verdicts.values().any(|verdict| verdict.unproven);
        let unseen =
            restored && self.targets.values().any(|target| target.last.is_none() && sees(service, target.scope));
        let values = match (&trigger.question, &evaluated) {
            (Question::Value { kind: ValueKind::Regression, .. }, Ok(evaluation)) => Some(evaluation.value.clone()),
            (Question::Value { .. } | Question::Signal { .. }, _) => None,
        };
        let bound = evaluated.as_ref().ok().and_then(|evaluation| evaluation.bound);
        let findings = if service.starting.is_some() {
            Findings::unknown(Unknown::Starting, Evidence::default())
        } else {
            let findings = find(trigger, evaluated, &service.triggers[place].baselines);
            self.with_queries(service, expr, findings)
        };
        let service = &mut self.services[index];
        let worsened_by = service.rules.guard.worsened_by;
        let trigger = &service.rules.triggers[place];
        let state = &mut service.triggers[place];
        state.dirty = false;
        state.looked = now.monotonic;
        if let Some(told) = bound.and_then(|bound| state.bucket_seen(trigger, bound)) {
            let message = format!("{}: {told}", trigger.name);
            out.push(Output::Log { level: LogLevel::Warn, service: Some(Arc::clone(&service.rules.name)), message });
        }
        let is_known = !matches!(findings.worst().1, Finding::Unknown(_));
        // Looking again at the same samples earns no hold time, and a timer never fires a trigger. After a restart a part
        // of them may be of before it.
        if is_known && (newest <= state.newest || unseen) {
            return;
        }
        let instant = if is_known { newest.min(at) } else { at };
        let failing = failing_now(self.targets.values(), trigger, &findings);
        state.newest = state.newest.max(newest.min(at));
        state.taken = at;
        take(trigger, state, &findings, &failing, instant);
        if let Some(values) = values {
            remember(&mut state.baselines, &values, &findings, instant);
        }
        weigh(trigger, state, &findings, instant, worsened_by);
        let key = (Arc::clone(&service.rules.name), Arc::clone(&trigger.name), findings.worst().1.as_str());
        state.latest = Some(findings);
        let count = self.counters.findings.entry(key).or_default();
        *count += 1;
        self.tell_blindness(index, place, now, out);
    }

    /// The newest successful look at a target that the service sees: what an empty result rests on.
    pub(super) fn newest_success(&self, service: &Service) -> Option<Timestamp> {
        let seen = self.targets.values().filter(|target| match target.scope {
            Scope::Shared => true,
            Scope::Service(id) => id == service.id,
        });
        seen.filter_map(|target| target.last.as_ref().filter(|look| look.ok).map(|look| look.at)).max()
    }

    /// Places of the triggers that fire now, on a fresh finding.
    pub(super) fn firing(service: &Service) -> Vec<usize> {
        let firing = |(trigger, state)| Service::fires(trigger, state);
        let pairs = service.rules.triggers.iter().zip(&service.triggers);
        pairs.enumerate().filter(|(_, pair)| firing(*pair)).map(|(place, _)| place).collect()
    }

    /// What a trigger says now, for the journal and for people.
    pub(super) fn fact(&self, index: usize, place: usize, now: &Now) -> TriggerFact {
        let service = &self.services[index];
        let (trigger, state) = (&service.rules.triggers[place], &service.triggers[place]);
        let (labels, verdict) = worst_verdict(state.verdicts.iter());
        let value = state.latest.as_ref().and_then(|findings| findings.of(labels).1);
        let since = verdict.and_then(|verdict| verdict.inherited.or(verdict.began)).unwrap_or(now.monotonic);
        let (expression, unit) = match &trigger.question {
            Question::Value { expr, unit, .. } => (expr.to_string(), *unit),
            Question::Signal { name } => (format!("signal {name}"), Unit::Number),
        };
        let value_text = value.map(|value| value_text(value, unit));
        let mut evidence = state.latest.as_ref().map_or_else(Evidence::default, |latest| latest.evidence.clone());
        evidence.value = value;
        let threshold = threshold_text(&trigger.question);
        let sentence = match &trigger.question {
            Question::Value { .. } => {
                let shown = value_text.clone().unwrap_or_else(|| "unknown".to_owned());
                let of = evidence.events.map_or_else(String::new, |n| format!(" of {n:.0} events"));
                let set = if labels.is_empty() { String::new() } else { format!(" for {labels}") };
                let hold = if trigger.hold.is_zero() { String::new() } else { format!(" for {}", short(trigger.hold)) };
                format!("{}: {shown}{of}{set}, {threshold}{hold}", trigger.name)
            }
            Question::Signal { name } => {
                let detail = service.signals.get(&**name).map_or("", |raised| raised.detail.as_str());
                let detail = if detail.is_empty() { String::new() } else { format!(": {detail}") };
                format!("{}: signal {name} is raised{detail}", trigger.name)
            }
        };
        TriggerFact {
            trigger: trigger.name.to_string(),
            severity: trigger.severity,
            expression,
            threshold,
            value: value_text,
            labels: labels.to_string(),
            hold_ms: u64::try_from(trigger.hold.as_millis()).unwrap_or(u64::MAX),
            since,
            fired: verdict.filter(|verdict| verdict.phase == Phase::Firing).map(|verdict| verdict.since),
            sentence,
            evidence,
        }
    }

    /// The guard's answer for an incident, and the level that it is about: the best over its firing triggers, since one
    /// that the release is to blame for is enough. None when none fires.
    pub(super) fn guard(&self, index: usize, incident: &Incident, now: &Now) -> Option<(Decision, usize)> {
        self.decide(index, incident, Mandate::Trigger, None, &[], now)
    }

    /// The guard's answer when a person has decided, about the level that was named, or the one that would be tried.
    pub(super) fn guard_for_person(
        &self,
        index: usize,
        incident: &Incident,
        mandate: Mandate,
        level: Option<usize>,
        overrides: &[String],
        now: &Now,
    ) -> (Decision, usize) {
        if let Some(decided) = self.decide(index, incident, mandate, level, overrides, now) {
            return decided;
        }
        let (began, inherited, was_clear) = (now.monotonic, None, true);
        let breach = Breach { began, inherited, was_clear, baseline: None, worsened: None };
        let level = level.or_else(|| self.level_for(index, incident, 0));
        let mut facts = self.facts(index, incident, &manual_trigger(Severity::High), breach, level, now);
        facts.kill_overridden = overrides.iter().any(|name| name == KILL_SWITCH);
        facts.asked = self.guard_asked(&self.services[index], Some(incident), overrides, now);
        (guard::judge(&facts, mandate, now), level.unwrap_or(0))
    }

    /// The guard's answer if nobody's silence were the word of a person, and of nothing else: cooldown and budgets still
    /// ask for one. None when nothing fires.
    pub(super) fn guard_for_silence(
        &self,
        index: usize,
        incident: &Incident,
        level: usize,
        now: &Now,
    ) -> Option<Decision> {
        self.decide_with(index, incident, Mandate::Trigger, Some(level), (&[], true), now).map(|(decision, _)| decision)
    }

    fn decide(
        &self,
        index: usize,
        incident: &Incident,
        mandate: Mandate,
        level: Option<usize>,
        overrides: &[String],
        now: &Now,
    ) -> Option<(Decision, usize)> {
        self.decide_with(index, incident, mandate, level, (overrides, false), now)
    }

    fn decide_with(
        &self,
        index: usize,
        incident: &Incident,
        mandate: Mandate,
        level: Option<usize>,
        (overrides, by_silence): (&[String], bool),
        now: &Now,
    ) -> Option<(Decision, usize)> {
        let service = &self.services[index];
        let asked = self.guard_asked(service, Some(incident), overrides, now);
        let decisions = Machine::firing(service).into_iter().map(|place| {
            let (trigger, state) = (&service.rules.triggers[place], &service.triggers[place]);
            let verdict = speaking(trigger, state.verdicts.values().filter(|verdict| verdict.fires()));
            let breach = breach_of(trigger, verdict, service.rules.guard.worsened_by, now);
            let level = level.or_else(|| self.level_for(index, incident, trigger.start_level));
            let mut facts = self.facts(index, incident, trigger, breach, level, now);
            facts.kill_overridden = overrides.iter().any(|name| name == KILL_SWITCH);
            if by_silence && facts.autonomy == Autonomy::Propose {
                facts.autonomy = Autonomy::Act;
            }
            facts.asked.clone_from(&asked);
            let decision = guard::judge(&facts, mandate, now);
            (decision, level.unwrap_or(trigger.start_level), trigger.severity)
        });
        let best = decisions.min_by_key(|(decision, _, severity)| (guard::rank(decision.kind), Reverse(*severity)));
        best.map(|(decision, level, _)| (decision, level))
    }

    /// The level that would be tried: the trigger's, or the next one up that was not.
    pub(super) fn level_for(&self, index: usize, incident: &Incident, start: usize) -> Option<usize> {
        incident.untried(start, self.services[index].rules.ladder.len())
    }

    pub(super) fn facts<'a>(
        &'a self,
        index: usize,
        incident: &'a Incident,
        trigger: &Trigger,
        breach: Breach,
        level: Option<usize>,
        now: &Now,
    ) -> Facts<'a> {
        let service = &self.services[index];
        let judged = incident.release.as_ref().or(service.releases.judged.as_ref());
        let way_back = judged.and_then(|judged| service.releases.way_back(judged));
        let killed = self.killed(Some(index), Some(&incident.id));
        let (dependencies_breaching, dependencies_unseen) = self.dependencies(service, now);
        let paused = [&service.pause, &self.pause].into_iter().flatten().find(|pause| now.monotonic < pause.until);
        Facts {
            autonomy: autonomy_at(service, incident, trigger, level),
            gate: trigger.gate,
            release_window: service.rules.guard.release_window,
            breach,
            running: &service.releases.running,
            judged,
            change: service.releases.change.as_ref(),
            rolled_back_before: judged.and_then(|judged| service.releases.is_bad(judged)).is_some_and(|by| {
                // Its own mark does not stop an incident from going on at its next level, while it has not been away.
                let is_back = service.releases.change.as_ref().is_some_and(|change| change.returned);
                *by != incident.id || incident.target_seen || is_back
            }),
            step_in_flight: self
                .incidents
                .values()
                .any(|other| *other.service == *service.rules.name && other.in_flight.is_some()),
            way_back,
            way_back_ran: judged
                .zip(way_back)
                .map_or(Duration::ZERO, |(judged, before)| service.releases.ran_before(before, judged)),
            release_read: service.releases.read_since(breach.began, now.monotonic)
                || now.monotonic.since(breach.began) > service.releases.slowest() * 2,
            reach: self.reach(service, breach.began, now),
            killed: killed
                .map(|kill| format!("{} ({}, since {})", kill.reason, kill.actor.name, now.wall_of(kill.since))),
            kill_overridden: false,
            tilt: self.tilt(service),
            dependencies_breaching,
            dependencies_unseen,
            frozen: self.frozen(service, now),
            paused: paused.map(|pause| (pause.until, pause.reason.as_str())),
            journal_failing: self.journal_failing.as_ref().map(|(_, why)| why.as_str()),
            cooldown_until: self.cooldown_until(service, incident),
            budget_used: self.budget_used(service, now),
            breaching_share: self.breaching_share(now),
            level_left: level.is_some_and(|level| level < service.rules.ladder.len()),
            asked: Vec::new(),
        }
    }

    /// What was collected while backstop itself was cut off is no proof of anything: when something answers again, the
    /// windows of the service start anew.
    pub(super) fn follow_reach(&mut self, index: usize, now: &Now) {
        let service = &self.services[index];
        let near = self.near(service);
        let own = near.iter().copied();
        let answers = own.clone().any(|target| is_recent(target, now.monotonic) && target.reached_since.is_some());
        let known = service.rules.guard.references.iter().filter_map(|name| self.references.get(name));
        let mut were_up = known.filter(|state| state.was_up(now.monotonic)).peekable();
        let has_reference = were_up.peek().is_some();
        let is_open = answers || were_up.any(|state| state.is_up(Timestamp::MIN));
        let was_looked_at = own.clone().next().is_some() && own.clone().all(|target| target.last.is_some());
        // One look that everything missed may be the service's own doing. More of them, and nothing that could tell, are not.
        let slowest = own.map(|target| target.interval).max().unwrap_or_default();
        let closed_since = if is_open { None } else { service.closed_since.or(Some(now.monotonic)) };
        let is_closed = closed_since.is_some_and(|since| now.monotonic.since(since) >= slowest * 2);
        let unsure = has_reference || !service.reached_once || is_closed;
        self.services[index].closed_since = closed_since;
        self.services[index].reached_once |= is_open;
        if is_open && self.services[index].cut_off {
            self.services[index].cut_off = false;
            self.forget_windows(index, now);
        } else if !is_open && unsure && was_looked_at {
            self.services[index].cut_off = true;
        }
    }

    pub(super) fn reach(&self, service: &Service, began: Timestamp, now: &Now) -> Reach {
        let near = self.near(service);
        let own = || near.iter().copied();
        let answering: Vec<Timestamp> =
            own().filter(|target| is_recent(target, now.monotonic)).filter_map(|target| target.reached_since).collect();
        let known = service.rules.guard.references.iter().filter_map(|name| Some((name, self.references.get(name)?)));
        let were_up: Vec<_> = known.filter(|(_, state)| state.was_up(now.monotonic)).collect();
        let up: Vec<_> = were_up.iter().filter(|(_, state)| state.is_up(began)).collect();
        let open_since = answering.iter().copied().chain(up.iter().filter_map(|(_, state)| state.up_since())).min();
        // What was not reached while nothing was is no proof against it: it must have been looked at since.
        let is_stale = |target: &super::Target| match &target.last {
            Some(look) => !look.reached && open_since.is_some_and(|since| look.at < since),
            None => true,
        };
        match (answering.is_empty(), up.first()) {
            // Right after the start nobody was asked yet.
            (true, None) if own().any(|target| target.last.is_none()) => Reach::Back,
            (true, None) if were_up.is_empty() => Reach::NoReference,
            (true, None) => Reach::CutOff { references: were_up.len() },
            (false, _) | (true, Some(_)) if own().any(is_stale) => Reach::Back,
            (true, Some((name, _))) => Reach::Reference(name.to_string()),
            (false, _) => Reach::Target,
        }
    }

    fn cooldown_until(&self, service: &Service, incident: &Incident) -> Option<Timestamp> {
        let mine = self.admissions.iter().filter(|(name, id, _)| *name == service.rules.name && *id != incident.id);
        mine.map(|(_, id, at)| {
            let ended = self.incidents.get(id).and_then(|incident| incident.ended);
            ended.unwrap_or(*at).max(*at) + service.rules.guard.cooldown
        })
        .max()
    }

    fn budget_used(&self, service: &Service, now: &Now) -> Option<String> {
        let spent = |budget: &Budget, mine: bool| {
            let recent = self.admissions.iter().filter(|(name, _, at)| {
                (!mine || *name == service.rules.name) && now.monotonic.since(*at) < budget.window
            });
            recent.count() >= budget.rollbacks as usize
        };
        let say = |whose: &str, budget: &Budget| {
            format!("{whose} budget of {} rollbacks in {} is used up", budget.rollbacks, short(budget.window))
        };
        if let Some(budget) = service.rules.guard.budget.as_ref().filter(|budget| spent(budget, true)) {
            return Some(say("the service's", budget));
        }
        self.rules.budget.as_ref().filter(|budget| spent(budget, false)).map(|budget| say("the daemon's", budget))
    }

    /// Counted as soon as it is known that they breach: of services that fail together, one is the first whose hold is full.
    /// One of them counts until it is seen to be well, though not for ever.
    pub(super) fn breaching_share(&self, now: &Now) -> Option<(f64, f64)> {
        let max = self.rules.breaching_share_max?;
        let all = self.services.iter().filter(|service| !service.retired);
        let counts = |service: &&Service| {
            let breached_last = || service.last_breached().is_some_and(|at| now.monotonic.since(at) <= BREACH_MEMORY);
            service.breaching().is_some() || (service.in_share && breached_last())
        };
        let breaching = all.clone().filter(counts).count();
        // One service alone is always all of them.
        if all.clone().count() < 2 || breaching < 2 {
            return None;
        }
        #[expect(clippy::cast_precision_loss, reason = "there are few services")]
        Some((breaching as f64 / all.count() as f64, max))
    }
}

/// Gives every label set its finding. Sets that are gone for good and quiet are forgotten.
fn take(
    trigger: &Trigger,
    state: &mut super::service::TriggerState,
    findings: &Findings,
    failing: &HashSet<Labels>,
    at: Timestamp,
) {
    let hold = Service::hold(trigger);
    let mut shown = HashSet::with_capacity(findings.sets.len());
    for (labels, finding, _) in &findings.sets {
        shown.insert(labels);
        let says = match finding.says(trigger.on_unknown) {
            Says::Clear if failing.contains(labels) => Says::Failing,
            says => says,
        };
        if let Some(verdict) = state.verdicts.get_mut(labels) {
            verdict.take(says, at, hold);
        } else if state.verdicts.len() < LABEL_SETS_MAX {
            let mut verdict = state.new_verdict(labels, at);
            verdict.take(says, at, hold);
            state.verdicts.insert(labels.clone(), verdict);
        }
    }
    if findings.sets.is_empty() && state.verdicts.is_empty() {
        state.verdicts.insert(Labels::default(), Verdict::new(at));
    }
    let says = findings.others.says(trigger.on_unknown);
    let several = state.verdicts.len() > 1;
    state.verdicts.retain(|labels, verdict| {
        if shown.contains(labels) {
            return true;
        }
        verdict.take(says, at, hold);
        !(several && says == Says::Clear)
    });
    state.forget_heirs();
    if !findings.sets.is_empty() && *findings.worst().1 == Finding::Clear {
        state.inherited = None;
    }
    // All that there was is gone: that nothing was wrong must stay known, or the next breach would look like a baseline.
    if state.verdicts.is_empty() {
        let mut verdict = Verdict::new(at);
        verdict.take(says, at, hold);
        state.verdicts.insert(Labels::default(), verdict);
    }
}

/// Of a streak that has begun and is not breached yet: the targets whose latest look failed.
fn failing_now<'a>(
    targets: impl Iterator<Item = &'a Target>,
    trigger: &Trigger,
    findings: &Findings,
) -> HashSet<Labels> {
    let has_begun = |(_, finding, value): &&(Labels, Finding, Option<f64>)| {
        *finding == Finding::Clear && value.is_some_and(|failures| failures > 0.0)
    };
    if !matches!(trigger.question, Question::Value { kind: ValueKind::Health, .. }) {
        return HashSet::new();
    }
    let begun: HashSet<&Labels> = findings.sets.iter().filter(has_begun).map(|(labels, _, _)| labels).collect();
    if begun.is_empty() {
        return HashSet::new();
    }
    let fails = |target: &&Target| target.last.as_ref().is_some_and(|look| !look.ok) && begun.contains(&target.labels);
    targets.filter(fails).map(|target| target.labels.clone()).collect()
}

/// Remembers the values, for what a later release is compared with.
fn weigh(
    trigger: &Trigger,
    state: &mut super::service::TriggerState,
    findings: &Findings,
    at: Timestamp,
    worsened_by: f64,
) {
    let Some(measure) = Measure::of(trigger, worsened_by) else { return };
    let hold = Service::hold(trigger);
    let sets: HashMap<&Labels, (&Finding, Option<f64>)> =
        findings.sets.iter().map(|(labels, finding, value)| (labels, (finding, *value))).collect();
    for (labels, verdict) in &mut state.verdicts {
        let (finding, value) = sets.get(labels).copied().unwrap_or((&findings.others, None));
        verdict.past.take(finding.says(trigger.on_unknown), value, at, hold, measure);
    }
}

/// Of the label sets that are wrong, one that is not inherited speaks for the trigger, or one that has worsened.
pub(super) fn speaking<'a>(trigger: &Trigger, wrong: impl Iterator<Item = &'a Verdict>) -> Option<&'a Verdict> {
    let is_old = |verdict: &Verdict| verdict.inherited.is_some() && verdict.past.worsened(trigger.hold).is_none();
    wrong.min_by_key(|verdict| (is_old(verdict), verdict.began))
}

/// When the breach began that the guard is asked about.
pub(super) fn breach_of(trigger: &Trigger, verdict: Option<&Verdict>, factor: f64, now: &Now) -> Breach {
    let unit = match &trigger.question {
        Question::Value { unit, .. } => *unit,
        Question::Signal { .. } => Unit::Number,
    };
    let past = verdict.map(|verdict| &verdict.past);
    let worsened = past.and_then(|past| past.worsened(trigger.hold));
    Breach {
        began: verdict.and_then(|verdict| verdict.began).unwrap_or(now.monotonic),
        inherited: verdict.and_then(|verdict| verdict.inherited),
        was_clear: verdict.is_some_and(|verdict| verdict.right_until.is_some()),
        baseline: past.and_then(|past| past.baseline).map(|value| Compared { value, unit, factor }),
        worsened: worsened.map(|(_, worse)| Worsened { began: worse.began, now: worse.value }),
    }
}

fn worst_verdict<'a>(verdicts: impl Iterator<Item = (&'a Labels, &'a Verdict)>) -> (&'a Labels, Option<&'a Verdict>) {
    static NONE: std::sync::LazyLock<Labels> = std::sync::LazyLock::new(Labels::default);
    verdicts
        .max_by_key(|(_, verdict)| (verdict.fires(), verdict.phase == Phase::Firing, verdict.held))
        .map_or((&NONE, None), |(labels, verdict)| (labels, Some(verdict)))
}

pub(super) fn newest_sample(evaluation: &Evaluation) -> Option<Timestamp> {
    evaluation.evidence.iter().filter_map(|selector| selector.newest).max()
}

/// Stands for a person's order where no trigger fires.
pub(super) fn manual_trigger(severity: Severity) -> Trigger {
    use crate::decide::event::Gate;
    use crate::decide::rules::{FireWhen, OnUnknown};
    use std::time::Duration;
    Trigger {
        name: Arc::from("by hand"),
        question: Question::Signal { name: Arc::from("by hand") },
        hold: Duration::ZERO,
        severity,
        gate: Gate::None,
        autonomy: None,
        start_level: 0,
        fire_when: FireWhen::Any,
        on_unknown: OnUnknown::Pause,
        gap_tolerance: Duration::MAX,
        interval: Duration::ZERO,
    }
}

/// The fact of a rollback by hand.
pub(super) fn manual_fact(reason: &str, now: &Now) -> TriggerFact {
    let trigger = manual_trigger(Severity::High);
    TriggerFact {
        trigger: trigger.name.to_string(),
        severity: trigger.severity,
        expression: identity(&trigger),
        threshold: "ordered".to_owned(),
        value: None,
        labels: Labels::default().to_string(),
        hold_ms: 0,
        since: now.monotonic,
        fired: Some(now.monotonic),
        sentence: format!("by hand: {reason}"),
        evidence: Evidence::default(),
    }
}
