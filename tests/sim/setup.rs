//! What a seed configures: services, detectors, triggers, ladders, guards, receivers.

use std::collections::BTreeMap;
use std::sync::Arc;

use backstop::decide::event::{Ask, Autonomy, Check, Gate, Level, OnFailure, OnSilence, Proof, Retry, Severity};
use backstop::decide::freeze::{Freeze, Span};
use backstop::decide::rules::{
    Blocker, BlockerQuestion, Budget, Detector, DetectorKind, Heartbeat, OnUnknown, Rules, ServiceRules, SeverityRules,
    Trigger, ValueKind,
};
use backstop::promql::{Comparison, Expr, Selector};
use jiff::tz::TimeZone;

use super::fleet::{Asked, Fleet};
use super::rng::Rng;
use super::world::EPOCH;
use crate::support::{
    MINUTE, down, error_rate, level, receiver, rules, secs, service, signal, step, symlink, trigger, version_metric,
};

pub const NAMES: [&str; 4] = ["api", "web", "jobs", "pay"];
pub const REFERENCES: [&str; 2] = ["https://one.example", "https://two.example"];
pub const SIGNAL: &str = "critical-vulnerability";
/// A blocker that somebody raises.
pub const MIGRATION: &str = "migration";

/// The trigger on how full the memory is: its expression is one scraped value, so that its hold can be judged exactly.
pub const MEMORY: &str = "memory";
/// What must be well too before a level counts as proved.
pub const CROWDED: &str = "crowded";

/// Did a step take effect?
pub const TOOK_EFFECT: &str = "took effect";
/// Is the service well?
pub const SMOKE: &str = "smoke";
/// Would the old release understand the database?
pub const SCHEMA: &str = "schema";
/// Is the way back still there?
pub const IMAGE: &str = "image";

/// No answer about the schema is older than this when a rollback begins.
pub const BLOCKER_AGE_S: u64 = 10;
const READY_EVERY_S: u64 = 30;

fn announced() -> Detector {
    Detector { describe: "announced".into(), kind: DetectorKind::Announced, interval: secs(5) }
}

fn memory(hold: u64) -> Trigger {
    let expr = Expr::parse("memory_used_ratio").expect("an expression of the simulation");
    trigger(MEMORY, ValueKind::Expr, expr, Comparison::Above, 0.95, hold)
}

fn database() -> Trigger {
    let counter = Selector::parse("db_connection_failures_total").expect("a selector of the simulation");
    trigger("database", ValueKind::Increase, Expr::increase(counter, secs(60)), Comparison::Above, 5.0, 0)
}

fn slow(hold: u64) -> Trigger {
    let histogram = Selector::parse("latency_seconds").expect("a selector of the simulation");
    let expr = Expr::quantile(histogram, 0.95, secs(30), 20.0).expect("a quantile of the simulation");
    trigger("slow", ValueKind::Quantile, expr, Comparison::Above, 5.0, hold)
}

fn triggers(rng: &mut Rng) -> Vec<Trigger> {
    let hold = |rng: &mut Rng| rng.below(5) * 10;
    let mut triggers = vec![error_rate(hold(rng)), down()];
    if rng.one_in(4) {
        triggers.swap_remove(rng.index(2));
    }
    if rng.one_in(4) {
        triggers.push(memory(hold(rng)));
    }
    if rng.one_in(4) {
        triggers.push(database());
    }
    if rng.one_in(4) {
        triggers.push(slow(hold(rng)));
    }
    if rng.one_in(3) {
        triggers.push(signal(SIGNAL, if rng.one_in(2) { Gate::None } else { Gate::Release }));
    }
    for trigger in &mut triggers {
        trigger.severity = rng.pick(&[Severity::Low, Severity::Medium, Severity::High, Severity::Critical]);
        if rng.one_in(10) {
            trigger.autonomy = Some(rng.pick(&[Autonomy::Observe, Autonomy::Propose]));
        }
        if rng.one_in(8) {
            trigger.start_level = 1;
        }
        trigger.on_unknown = OnUnknown::Pause;
    }
    triggers
}

fn check(name: &str) -> Check {
    let ask = Ask::Command { argv: vec![name.to_owned()], env: BTreeMap::new(), inherit: Vec::new(), directory: None };
    Check { name: name.to_owned(), ask, timeout: secs(3) }
}

/// `previous release` is always among the levels, and always the last.
pub fn ladder(rng: &mut Rng) -> Vec<Level> {
    let mut levels = Vec::new();
    for (name, steps) in [("flag off", ["flag", "purge"]), ("scale", ["scale", "note"])] {
        if rng.one_in(2) {
            let count = 1 + rng.index(2);
            levels.push(level(name, steps.iter().take(count).map(|name| step(name)).collect()));
        }
    }
    let mut last = vec![step("rollback")];
    if rng.one_in(3) {
        last.insert(0, step("note"));
    }
    if rng.one_in(4) {
        last.push(step("purge"));
    }
    levels.push(level("previous release", last));
    for (place, level) in levels.iter_mut().enumerate() {
        if rng.one_in(2) {
            level.undo = ["undo", "note"].iter().take(1 + rng.index(2)).map(|name| step(name)).collect();
        }
        for step in level.steps.iter_mut().chain(&mut level.undo) {
            step.timeout = secs(8 + rng.below(20));
            step.idempotent = rng.one_in(2);
            step.on_failure = rng.pick(&[OnFailure::Climb, OnFailure::Climb, OnFailure::Continue, OnFailure::Stop]);
            if rng.one_in(3) {
                step.retry = Some(Retry { times: 1 + u32::from(rng.one_in(2)), wait: secs(rng.below(10)) });
            }
            if rng.one_in(3) {
                step.check = Some(check(TOOK_EFFECT));
            }
        }
        if rng.one_in(4) {
            level.deadline = Some(secs(10 + rng.below(60)));
        }
        level.verify.within = secs(20 + rng.below(40));
        level.verify.soak = secs(5 + rng.below(20));
        if rng.one_in(4) {
            level.verify.probes = vec!["health".to_owned()];
        }
        if rng.one_in(5) {
            level.verify.checks = vec![Proof { check: check(SMOKE), every: secs(5), once: rng.one_in(2) }];
        }
        level.verify.serves_target = rng.one_in(8);
        if rng.one_in(if place == 0 { 10 } else { 3 }) {
            level.autonomy = Some(rng.pick(&[Autonomy::Observe, Autonomy::Propose, Autonomy::Propose]));
        }
    }
    levels
}

fn detectors(rng: &mut Rng) -> Vec<Detector> {
    match rng.below(8) {
        0 | 1 => vec![symlink()],
        2 | 3 => vec![symlink(), version_metric()],
        4 | 5 => vec![version_metric(), symlink()],
        6 => vec![symlink(), announced()],
        _ => vec![version_metric()],
    }
}

fn severities(rng: &mut Rng) -> BTreeMap<Severity, SeverityRules> {
    let mut all = BTreeMap::new();
    for severity in [Severity::Low, Severity::Medium, Severity::High, Severity::Critical] {
        if !rng.one_in(3) {
            continue;
        }
        let approvers: &[&str] = match rng.below(4) {
            0 => &["ada"],
            1 => &["bob", "link"],
            _ => &[],
        };
        let rules = SeverityRules {
            autonomy: rng.one_in(4).then(|| rng.pick(&[Autonomy::Propose, Autonomy::Propose, Autonomy::Observe])),
            approvers: approvers.iter().map(|name| (*name).to_owned()).collect(),
            respond_within: rng.one_in(2).then(|| secs(15 + rng.below(60))),
            on_silence: rng.pick(&[OnSilence::Decline, OnSilence::Approve, OnSilence::Approve, OnSilence::Escalate]),
        };
        all.insert(severity, rules);
    }
    all
}

/// A window within the hour that a seed lasts.
pub fn freeze(rng: &mut Rng) -> Freeze {
    let from = EPOCH + rng.within(0, 40 * MINUTE);
    let to = from + rng.within(MINUTE, 8 * MINUTE);
    let civil = |millis| {
        let at = jiff::Timestamp::from_millisecond(millis).expect("an instant of the simulation");
        TimeZone::UTC.to_datetime(at)
    };
    Freeze {
        span: Span::Dates { from: civil(from), to: civil(to) },
        zone: TimeZone::UTC,
        reason: "simulated".to_owned(),
    }
}

/// What more must be well, where the service shows it.
fn criteria(rng: &mut Rng, service: &mut ServiceRules) {
    if !rng.one_in(6) {
        return;
    }
    let expr = Expr::parse("memory_used_ratio").expect("an expression of the simulation");
    service.criteria.push(trigger(CROWDED, ValueKind::Expr, expr, Comparison::Above, 0.9, 0));
    for level in &mut service.ladder {
        level.verify.still_wrong = vec![CROWDED.to_owned()];
    }
}

fn one_service(rng: &mut Rng, name: &str) -> ServiceRules {
    let mut service = service();
    service.name = name.into();
    service.detectors = detectors(rng);
    service.autonomy = match rng.below(12) {
        0 => Autonomy::Observe,
        1 | 2 => Autonomy::Propose,
        _ => Autonomy::Act,
    };
    service.triggers = triggers(rng);
    service.guard.good_after = secs(60);
    service.guard.release_window = secs(rng.pick(&[240, 600, 3600]));
    service.guard.cooldown = secs(rng.pick(&[0, 120, 3600]));
    if rng.one_in(5) {
        service.guard.budget = Some(Budget { rollbacks: 1, window: secs(rng.pick(&[300, 3600])) });
    }
    service.guard.references = REFERENCES.iter().take(rng.index(3)).map(|name| Arc::from(*name)).collect();
    service.respond_within = secs(20 + rng.below(80));
    service.remind_every = secs(60 + rng.below(120));
    if rng.one_in(4) {
        service.rto = Some(secs(60 + rng.below(180)));
    }
    if rng.one_in(5) {
        let question = BlockerQuestion::Check { check: check(SCHEMA), max_age: secs(BLOCKER_AGE_S) };
        service.guard.blockers.push(Blocker { name: SCHEMA.into(), says: None, question });
    }
    if rng.one_in(6) {
        let question = BlockerQuestion::Signal(MIGRATION.into());
        service.guard.blockers.push(Blocker { name: MIGRATION.into(), says: None, question });
    }
    if rng.one_in(5) {
        service.guard.ready = vec![check(IMAGE)];
        service.guard.ready_every = secs(READY_EVERY_S);
    }
    service.ladder = ladder(rng);
    service.notify = match rng.below(4) {
        0 => vec!["oncall".into(), "second".into()],
        1 => vec!["second".into()],
        _ => vec!["oncall".into()],
    };
    service
}

/// What people may say, and when nothing may begin.
pub fn policies(rng: &mut Rng, rules: &mut Rules) {
    let count = rules.services.len();
    for (place, service) in rules.services.iter_mut().enumerate() {
        criteria(rng, service);
        service.severities = severities(rng);
        service.hold_max = secs(rng.pick(&[60, 300, 3600]));
        if rng.one_in(6) {
            service.guard.freeze.push(freeze(rng));
        }
        // Never in a circle: `check` refuses that.
        if place + 1 < count && rng.one_in(3) {
            let other = NAMES[place + 1 + rng.index(count - place - 1)];
            service.guard.dependencies.push(other.into());
        }
    }
    if rng.one_in(8) {
        rules.freeze.push(freeze(rng));
    }
}

pub fn configuration(rng: &mut Rng) -> Rules {
    let count = 1 + rng.index(4);
    let services = NAMES.iter().take(count).map(|name| one_service(rng, name)).collect();
    let mut rules = rules(services);
    let mut oncall = receiver("oncall", Some("second"));
    oncall.fallback_after = secs(30 + rng.below(300));
    oncall.give_up_after = secs(rng.pick(&[120, 900, 86_400, 86_400]));
    let mut second = receiver("second", None);
    second.give_up_after = secs(rng.pick(&[900, 86_400, 86_400]));
    rules.receivers = vec![oncall, second];
    if rng.one_in(4) {
        rules.breaching_share_max = Some(0.6);
    }
    if rng.one_in(5) {
        rules.budget = Some(Budget { rollbacks: 2, window: secs(1800) });
    }
    if rng.one_in(8) {
        rules.heartbeat = Some(Heartbeat { every: secs(120), receivers: vec!["second".into()] });
    }
    rules
}

pub fn asked(service: &ServiceRules) -> Asked {
    let has = |name: &str| service.triggers.iter().any(|trigger| *trigger.name == *name);
    Asked {
        version: service.detectors.iter().any(|detector| matches!(detector.kind, DetectorKind::Metric { .. })),
        requests: has("error-rate"),
        histogram: has("slow"),
        memory: has(MEMORY) || !service.criteria.is_empty(),
        database: has("database"),
    }
}

pub fn fleets(rng: &mut Rng, rules: &Rules) -> Vec<Fleet> {
    let one = |(place, service): (usize, &ServiceRules)| {
        #[expect(clippy::cast_precision_loss, reason = "a few requests per second")]
        let rate = (10 + rng.below(40)) as f64;
        Fleet::new(&service.name, place, 1 + rng.index(3), asked(service), rate)
    };
    rules.services.iter().enumerate().map(one).collect()
}
