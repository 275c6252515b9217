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

/// A level is proved once every trigger was observed anew. Where `within` ends before, none ever is: a mistake. Probes
/// prove a recovery where only traffic is missing, so where some are named it may work, at a time of little traffic.
fn verification(cx: &Cx<'_>, facts: &Facts<'_>) {
    for level in facts.ladder.unwrap_or_default() {
        let asked = facts.triggers.unwrap_or_default().iter().chain(&level.criteria);
        let slowest = asked.max_by_key(|compiled| compiled.needs.time);
        let Some((trigger, needs)) = slowest.map(|compiled| (&compiled.trigger.name, &compiled.needs)) else {
            continue;
        };
        let verify = &level.level.verify;
        if needs.time <= verify.within {
            continue;
        }
        let (within, least) = (humantime::format_duration(verify.within), humantime::format_duration(needs.time));
        let way_out =
            format!("write within = \"{least}\" or longer, or let `{trigger}` look at less: it takes {}", needs.why);
        if verify.probes.is_empty() && verify.checks.iter().all(|proof| proof.once) {
            let message = format!("in {within} no recovery can be proved: the trigger `{trigger}` needs {least}");
            cx.error(Problem::at(level.within, message).help(way_out));
        } else {
            let message =
                format!("{within} may be too short to prove a recovery: the trigger `{trigger}` needs {least}");
            let probes = "the named probes and checks speak for it only where nothing but traffic is missing";
            cx.warn(Problem::at(level.within, message).help(format!("{way_out}; {probes}")));
        }
    }
}
