//! `above`, `below`, `at_least`, `at_most`: what a value is compared with.

use super::super::cursor::{Cx, Got, Table};
use super::super::places::{Place, Problem};
use super::super::scalar;
use super::super::tree::{Node, Value};
use crate::decide::rules::Unit;
use crate::promql::Comparison;

pub(super) const KEYS: [&str; 4] = ["above", "below", "at_least", "at_most"];
pub(super) const HELP: &str = "write above = \"15%\", below = 80, at_least = \"5s\" or at_most = …";

#[derive(Clone, Copy, Debug)]
pub(super) struct Threshold {
    pub comparison: Comparison,
    pub value: f64,
    pub unit: Unit,
    pub place: Place,
}

/// The threshold of a trigger, if it has one.
pub(super) fn threshold(table: &mut Table<'_, '_>) -> Got<Threshold> {
    let (key, node, place) = match table.one_at_most(&KEYS) {
        Got::Absent => return Got::Absent,
        Got::Bad => return Got::Bad,
        Got::Is((key, node), place) => (key, node, place),
    };
    let comparison = match key {
        "above" => Comparison::Above,
        "below" => Comparison::Below,
        "at_least" => Comparison::AtLeast,
        _at_most => Comparison::AtMost,
    };
    match value(table.cx, node) {
        Some((value, unit)) => Got::Is(Threshold { comparison, value, unit, place: node.place }, place),
        None => Got::Bad,
    }
}

/// A number, a percentage, or a duration in seconds.
fn value(cx: &Cx<'_>, node: &Node) -> Option<(f64, Unit)> {
    const HELP: &str = "a threshold is a number, a percentage such as \"15%\", or a duration such as \"5s\"";
    match &node.value {
        #[expect(clippy::cast_precision_loss, reason = "a threshold beyond 2^53 is compared with floats anyway")]
        Value::Integer(number) => Some((*number as f64, Unit::Number)),
        Value::Float(number) if number.is_finite() => Some((*number, Unit::Number)),
        Value::Float(_) => {
            cx.error(Problem::at(node.place, "nothing can be compared with this").help(HELP));
            None
        }
        Value::Text(_) => {
            let text = cx.some_text(node, HELP)?;
            if let Some(share) = scalar::percentage(&text.value) {
                return Some((share, Unit::Percent));
            }
            if let Ok(number) = text.value.trim().parse::<f64>() {
                let help = format!("is it a number? write {number} without quotes; a percentage: \"{number}%\"");
                cx.error(Problem::at(node.place, "this string holds a bare number").help(help));
                return None;
            }
            if let Ok(duration) = scalar::duration(&text.value) {
                Some((duration.as_secs_f64(), Unit::Seconds))
            } else {
                cx.error(Problem::at(node.place, format!("{} is not a threshold", text.shown())).help(HELP));
                None
            }
        }
        Value::Bool(_) | Value::Datetime | Value::List(_) | Value::Table(_) => {
            let message = format!("expected a threshold, found {}", node.value.name());
            cx.error(Problem::at(node.place, message).help(HELP));
            None
        }
    }
}

/// What can be said about a threshold before any data is seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sense {
    Makes,
    NeverFires,
    AlwaysFires,
}

/// For a value that is never negative, and, where `one_at_most`, never above 1.
pub(super) fn sense(threshold: &Threshold, one_at_most: bool) -> Sense {
    let value = threshold.value;
    match threshold.comparison {
        Comparison::Above if one_at_most && value >= 1.0 => Sense::NeverFires,
        Comparison::AtLeast if one_at_most && value > 1.0 => Sense::NeverFires,
        Comparison::Above if value < 0.0 => Sense::AlwaysFires,
        Comparison::AtLeast if value <= 0.0 => Sense::AlwaysFires,
        Comparison::Below if value <= 0.0 => Sense::NeverFires,
        Comparison::AtMost if value < 0.0 => Sense::NeverFires,
        Comparison::Below if one_at_most && value > 1.0 => Sense::AlwaysFires,
        Comparison::AtMost if one_at_most && value >= 1.0 => Sense::AlwaysFires,
        Comparison::Above
        | Comparison::AtLeast
        | Comparison::Below
        | Comparison::AtMost
        | Comparison::Equal
        | Comparison::NotEqual => Sense::Makes,
    }
}
