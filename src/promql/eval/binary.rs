//! Operators between two results, as Prometheus's `VectorBinop` and its siblings.

use std::collections::{HashMap, HashSet};

use super::{Context, EvalError, Sample, Val};
use crate::promql::Labels;
use crate::promql::expr::{Binary, Cardinality, Operator};
use crate::time::Timestamp;

pub(super) fn eval<'a>(context: Context<'a>, binary: &'a Binary, at: Timestamp) -> Result<Val, EvalError> {
    let left = context.eval(&binary.left, at)?;
    let right = context.eval(&binary.right, at)?;
    match (left, right) {
        (Val::Scalar(left), Val::Scalar(right)) => {
            let value = binary.operator.of_scalars(left, right);
            value.map(Val::Scalar).ok_or_else(|| EvalError("a set operator between numbers".to_owned()))
        }
        (Val::Vector(vector), Val::Scalar(scalar)) => Ok(with_scalar(binary, vector, scalar, false)),
        (Val::Scalar(scalar), Val::Vector(vector)) => Ok(with_scalar(binary, vector, scalar, true)),
        (Val::Vector(left), Val::Vector(right)) => match binary.operator {
            Operator::And => Ok(Val::Vector(semi_join(binary, left, &right, true))),
            Operator::Unless => Ok(Val::Vector(semi_join(binary, left, &right, false))),
            Operator::Or => Ok(Val::Vector(either(binary, left, right))),
            Operator::Add
            | Operator::Subtract
            | Operator::Multiply
            | Operator::Divide
            | Operator::Modulo
            | Operator::Power
            | Operator::Atan2
            | Operator::Compare(_) => matched(binary, left, right).map(Val::Vector),
        },
        (Val::Text(_), _) | (_, Val::Text(_)) => Err(EvalError("an operator on a string".to_owned())),
    }
}

/// The value of one pair; nothing if a comparison filters it out.
fn of_pair(binary: &Binary, left: f64, right: f64) -> Option<f64> {
    match binary.operator {
        Operator::Compare(comparison) => {
            let holds = comparison.holds(left, right);
            if binary.as_bool { Some(f64::from(u8::from(holds))) } else { holds.then_some(left) }
        }
        Operator::Add
        | Operator::Subtract
        | Operator::Multiply
        | Operator::Divide
        | Operator::Modulo
        | Operator::Power
        | Operator::Atan2
        | Operator::And
        | Operator::Or
        | Operator::Unless => binary.operator.of_scalars(left, right),
    }
}

fn drops_name(binary: &Binary) -> bool {
    binary.as_bool || !matches!(binary.operator, Operator::Compare(_))
}

fn with_scalar(binary: &Binary, vector: Vec<Sample>, scalar: f64, scalar_first: bool) -> Val {
    let mut out = Vec::with_capacity(vector.len());
    for sample in vector {
        let (left, right) = if scalar_first { (scalar, sample.value) } else { (sample.value, scalar) };
        let Some(value) = of_pair(binary, left, right) else { continue };
        if drops_name(binary) {
            out.push(sample.turned(value));
        } else {
            // A filter keeps the vector's own value, also where the vector stands on the right.
            out.push(sample);
        }
    }
    Val::Vector(out)
}

fn semi_join(binary: &Binary, left: Vec<Sample>, right: &[Sample], keep_matched: bool) -> Vec<Sample> {
    let keys: HashSet<Labels> = right.iter().map(|sample| binary.matching.key(&sample.labels)).collect();
    left.into_iter().filter(|sample| keys.contains(&binary.matching.key(&sample.labels)) == keep_matched).collect()
}

fn either(binary: &Binary, mut left: Vec<Sample>, right: Vec<Sample>) -> Vec<Sample> {
    let keys: HashSet<Labels> = left.iter().map(|sample| binary.matching.key(&sample.labels)).collect();
    left.extend(right.into_iter().filter(|sample| !keys.contains(&binary.matching.key(&sample.labels))));
    left
}

fn matched(binary: &Binary, left: Vec<Sample>, right: Vec<Sample>) -> Result<Vec<Sample>, EvalError> {
    if left.is_empty() || right.is_empty() {
        return Ok(Vec::new());
    }
    let one_is_left = matches!(binary.cardinality, Cardinality::OneToMany(_));
    let (many, one) = if one_is_left { (right, left) } else { (left, right) };
    let mut ones: HashMap<Labels, Sample> = HashMap::with_capacity(one.len());
    for sample in one {
        let key = binary.matching.key(&sample.labels);
        if let Some(other) = ones.get(&key) {
            let mut twice = [braced(&other.labels), braced(&sample.labels)];
            twice.sort();
            return Err(EvalError(format!(
                "found duplicate series for the match group {} on the {} hand-side of the operation: [{}];many-to-many \
                 matching not allowed: matching labels must be unique on one side",
                braced(&key),
                if one_is_left { "left" } else { "right" },
                twice.join(", ")
            )));
        }
        ones.insert(key, sample);
    }
    let mut used: HashMap<Labels, HashSet<Labels>> = HashMap::new();
    let mut out = Vec::with_capacity(many.len());
    for sample in many {
        let key = binary.matching.key(&sample.labels);
        let Some(other) = ones.get(&key) else { continue };
        let (left, right) = if one_is_left { (other.value, sample.value) } else { (sample.value, other.value) };
        let value = of_pair(binary, left, right);
        let labels = result_labels(binary, &sample.labels, &other.labels);
        let known = used.entry(key);
        let is_known = matches!(known, std::collections::hash_map::Entry::Occupied(_));
        let group = known.or_default();
        match binary.cardinality {
            Cardinality::OneToOne if is_known => {
                return Err(EvalError(
                    "multiple matches for labels: many-to-one matching must be explicit (group_left/group_right)"
                        .to_owned(),
                ));
            }
            Cardinality::OneToOne => {}
            Cardinality::ManyToOne(_) | Cardinality::OneToMany(_) => {
                if !group.insert(labels.clone()) {
                    return Err(EvalError(
                        "multiple matches for labels: grouping labels must ensure unique matches".to_owned(),
                    ));
                }
            }
        }
        // What a comparison filters out has been matched too.
        let Some(value) = value else { continue };
        let drops_name = binary.as_bool || sample.drops_name;
        out.push(Sample { labels, value, drops_name });
    }
    Ok(out)
}

/// As Prometheus prints a label set: the name among the labels.
fn braced(labels: &Labels) -> String {
    let pairs: Vec<String> = labels.iter().map(|(name, value)| format!("{name}={value:?}")).collect();
    format!("{{{}}}", pairs.join(", "))
}

fn result_labels(binary: &Binary, many: &Labels, one: &Labels) -> Labels {
    use crate::promql::expr::Grouping;
    let base = if drops_name(binary) { many.nameless() } else { many.clone() };
    let included = match &binary.cardinality {
        Cardinality::OneToOne => {
            return match &binary.matching {
                Grouping::Only(names) => base.filter(|label| names.iter().any(|name| **name == *label)),
                Grouping::AllBut(names) => base.filter(|label| !names.iter().any(|name| **name == *label)),
            };
        }
        Cardinality::ManyToOne(included) | Cardinality::OneToMany(included) => included,
    };
    included.iter().fold(base, |labels, name| labels.with(name, one.get(name).unwrap_or("")))
}
