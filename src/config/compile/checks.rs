//! What only shows when a service is seen as a whole.

use std::sync::Arc;

use super::super::cursor::Cx;
use super::super::model::ReferenceSpec;
use super::super::places::{Place, Problem};
use super::{ladder, release, trigger};
use crate::decide::event::Autonomy;
use crate::decide::rules::DetectorKind;

/// A part is `None` where it was wrong: nothing is then concluded from it.
pub(super) struct Facts<'s> {
    pub name: &'s Arc<str>,
    /// Of the service's header.
    pub header: Place,
    /// Of `autonomy`, or of the service.
    pub place: Place,
    pub autonomy: Option<Autonomy>,
    pub detectors: Option<&'s [release::Compiled]>,
    pub triggers: Option<&'s [trigger::Compiled]>,
    pub ladder: Option<&'s [ladder::Compiled]>,
    pub notify: Option<&'s [Arc<str>]>,
    pub references: Option<&'s [ReferenceSpec]>,
}

pub(super) fn service(cx: &Cx<'_>, facts: &Facts<'_>) {
    let Facts { name, place, .. } = *facts;
    if facts.triggers.is_some_and(<[_]>::is_empty) && !cx.is_incomplete() {
        let problem =
            Problem::at(facts.header, format!("the service `{name}` has no trigger: nothing is ever found wrong"));
        cx.warn(problem.help(format!("add [services.{name}.triggers.NAME]")));
    }
    let word = match facts.autonomy {
        Some(Autonomy::Act) => "act",
        Some(Autonomy::Propose) => "propose",
        Some(Autonomy::Observe) | None => return verification(cx, facts),
    };
    if facts.ladder.is_some_and(<[_]>::is_empty) && !cx.is_incomplete() {
        let problem = Problem::at(place, format!("with autonomy \"{word}\", `{name}` needs a way to roll back"));
        cx.error(
            problem
                .help(format!("add [[services.{name}.rollback]] with steps and verify, or set autonomy = \"observe\"")),
        );
    }
    detection(cx, facts, word);
    if facts.notify.is_some_and(<[_]>::is_empty) && !cx.is_incomplete() {
        let problem = Problem::at(place, format!("nobody is told when `{name}` is rolled back, or needs a human"));
        cx.warn(problem.help("add notify = [\"…\"] with the name of a receiver"));
    }
    if facts.autonomy == Some(Autonomy::Act) && facts.references.is_some_and(<[_]>::is_empty) {
        let problem = Problem::at(place, format!("when all of `{name}` is down, it cannot be told from being cut off"));
        let help = "a rollback is then held; add guard.references with URLs that have nothing to do with the service";
        cx.warn(problem.help(help));
    }
    verification(cx, facts);
}

fn detection(cx: &Cx<'_>, facts: &Facts<'_>, word: &str) {
    let Some(detectors) = facts.detectors else { return };
    let Facts { name, place, .. } = *facts;
    let inside = |kind: &DetectorKind| match kind {
        DetectorKind::Metric { .. } | DetectorKind::Probe { .. } => true,
        DetectorKind::Outside | DetectorKind::Announced => false,
    };
    if detectors.is_empty() {
        if !cx.is_incomplete() {
            let problem =
                Problem::at(place, format!("with autonomy \"{word}\", backstop must see which release `{name}` runs"));
            cx.error(
                problem.help(
                    "add release = [{ symlink = \"…\" }], or metric and label, probe and json, command, announced",
                ),
            );
        }
    } else if detectors.iter().all(|compiled| inside(&compiled.detector.kind)) {
        let problem = Problem::at(place, format!("a release of `{name}` that never starts is never seen"));
        let help =
            "every detector asks the running process; add one from outside: symlink, command or announced = true";
        cx.warn(problem.help(help));
    }
}

/// A verification that ends before its windows can say Clear always ends without an answer.
fn verification(cx: &Cx<'_>, facts: &Facts<'_>) {
    for level in facts.ladder.unwrap_or_default() {
        let verify = &level.level.verify;
        if !verify.probes.is_empty() {
            continue;
        }
        let slowest = facts.triggers.unwrap_or_default().iter().max_by_key(|compiled| compiled.needs);
        if let Some(slowest) = slowest.filter(|compiled| compiled.needs > verify.within) {
            let (trigger, needs) = (&slowest.trigger.name, humantime::format_duration(slowest.needs));
            let message =
                format!("this ends before the trigger `{trigger}` can be clear: it takes {needs} of new samples");
            let help = "allow more time, or name probes in verify that prove the recovery sooner";
            cx.warn(Problem::at(level.within, message).help(help));
        }
    }
}
