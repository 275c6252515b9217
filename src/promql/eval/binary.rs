//! Operators between two results, as Prometheus's `VectorBinop` and its siblings.

use std::collections::{HashMap, HashSet};
use std::hash::{Hash, Hasher};

use super::{Context, EvalError, Sample, Val};
use crate::promql::Labels;
use crate::promql::expr::{Binary, Cardinality, Grouping, Operator};
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
            | Operator::Compare(_) => matched(binary, &left, &right).map(Val::Vector),
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
    let keys: HashSet<Key<'_>> = right.iter().map(|sample| Key::of(binary, &sample.labels)).collect();
    left.into_iter().filter(|sample| keys.contains(&Key::of(binary, &sample.labels)) == keep_matched).collect()
}

fn either(binary: &Binary, left: Vec<Sample>, right: Vec<Sample>) -> Vec<Sample> {
    let keys: HashSet<Key<'_>> = left.iter().map(|sample| Key::of(binary, &sample.labels)).collect();
    let is_new = |sample: &Sample| !keys.contains(&Key::of(binary, &sample.labels));
    let more: Vec<Sample> = right.into_iter().filter(is_new).collect();
    drop(keys);
    left.into_iter().chain(more).collect()
}

/// What a sample is matched by: those of its labels that the operator looks at. It makes no label set of them, which
/// would cost more than all the rest of the operator.
#[derive(Clone, Copy)]
struct Key<'a> {
    labels: &'a Labels,
    matching: &'a Grouping,
}

impl<'a> Key<'a> {
    fn of(binary: &'a Binary, labels: &'a Labels) -> Key<'a> {
        Key { labels, matching: &binary.matching }
    }

    fn pairs(self) -> impl Iterator<Item = (&'a str, &'a str)> {
        self.labels.iter().filter(move |(name, _)| self.matching.takes(name))
    }
}

impl Hash for Key<'_> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.pairs().for_each(|pair| pair.hash(state));
    }
}

impl PartialEq for Key<'_> {
    fn eq(&self, other: &Key<'_>) -> bool {
        self.pairs().eq(other.pairs())
    }
}

impl Eq for Key<'_> {}

fn matched(binary: &Binary, left: &[Sample], right: &[Sample]) -> Result<Vec<Sample>, EvalError> {
    if left.is_empty() || right.is_empty() {
        return Ok(Vec::new());
    }
    let one_is_left = matches!(binary.cardinality, Cardinality::OneToMany(_));
    let (many, one) = if one_is_left { (right, left) } else { (left, right) };
    let mut ones: HashMap<Key<'_>, One<'_>> = HashMap::with_capacity(one.len());
    for sample in one {
        let key = Key::of(binary, &sample.labels);
        if let Some(other) = ones.insert(key, One { sample, is_matched: false, results: HashSet::new() }) {
            return Err(several_ones(key, [&other.sample.labels, &sample.labels], one_is_left));
        }
    }
    let mut out = Vec::with_capacity(many.len());
    for sample in many {
        let Some(one) = ones.get_mut(&Key::of(binary, &sample.labels)) else { continue };
        let other = one.sample;
        let (left, right) = if one_is_left { (other.value, sample.value) } else { (sample.value, other.value) };
        let value = of_pair(binary, left, right);
        let labels = result_labels(binary, &sample.labels, &other.labels);
        match binary.cardinality {
            Cardinality::OneToOne if one.is_matched => {
                return Err(EvalError(
                    "multiple matches for labels: many-to-one matching must be explicit (group_left/group_right)"
                        .to_owned(),
                ));
            }
            Cardinality::OneToOne => {}
            Cardinality::ManyToOne(_) | Cardinality::OneToMany(_) => {
                if !one.results.insert(labels.clone()) {
                    return Err(EvalError(
                        "multiple matches for labels: grouping labels must ensure unique matches".to_owned(),
                    ));
                }
            }
        }
        // What a comparison filters out has been matched too.
        one.is_matched = true;
        let Some(value) = value else { continue };
        let drops_name = binary.as_bool || sample.drops_name;
        out.push(Sample { labels, value, drops_name });
    }
    Ok(out)
}

/// A sample of the side that has one for each key.
struct One<'a> {
    sample: &'a Sample,
    is_matched: bool,
    /// What the other side's samples have become with it, where there may be many.
    results: HashSet<Labels>,
}

fn several_ones(key: Key<'_>, labels: [&Labels; 2], one_is_left: bool) -> EvalError {
    let mut twice = labels.map(|labels| braced(labels.iter()));
    twice.sort();
    EvalError(format!(
        "found duplicate series for the match group {} on the {} hand-side of the operation: [{}];many-to-many \
         matching not allowed: matching labels must be unique on one side",
        braced(key.pairs()),
        if one_is_left { "left" } else { "right" },
        twice.join(", ")
    ))
}

/// As Prometheus prints a label set: the name among the labels.
fn braced<'a>(labels: impl Iterator<Item = (&'a str, &'a str)>) -> String {
    let pairs: Vec<String> = labels.map(|(name, value)| format!("{name}={value:?}")).collect();
    format!("{{{}}}", pairs.join(", "))
}

fn result_labels(binary: &Binary, many: &Labels, one: &Labels) -> Labels {
    let drops_name = drops_name(binary);
    let stays = |label: &str| !(drops_name && Labels::is_of_metric(label));
    match &binary.cardinality {
        Cardinality::OneToOne => {
            let by_list = matches!(binary.matching, Grouping::Only(_));
            many.filter(|label| stays(label) && binary.matching.lists(label) == by_list)
        }
        Cardinality::ManyToOne(included) | Cardinality::OneToMany(included) => {
            included.iter().fold(many.filter(stays), |labels, name| labels.with(name, one.get(name).unwrap_or("")))
        }
    }
}
