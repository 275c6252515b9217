//! Expressions as people read them: one line of PromQL, or an indented tree.

use std::fmt::{self, Write};
use std::time::Duration;

use super::{BURN_PAIRS, Binary, Cardinality, Comparison, Expr, Grouping, Node, Operator, millis};
use crate::promql::selector::{Name, Quoted};

/// PromQL; a typed question in the words of its trigger, such as `ratio(part = a, whole = b, window = 1m)`.
impl fmt::Display for Expr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.root.fmt(f)
    }
}

impl Expr {
    /// The expression in one line, in the canonical form of `Display`.
    #[must_use]
    pub fn source(&self) -> String {
        self.to_string()
    }

    /// The tree as people read it, one node a line, children indented by two spaces.
    #[must_use]
    pub fn tree(&self) -> String {
        let mut out = String::new();
        self.root.branch(0, &mut out);
        out
    }
}

impl Node {
    fn branch(&self, depth: usize, out: &mut String) {
        let (line, children) = self.line();
        // Writing to a String cannot fail.
        writeln!(out, "{:indent$}{line}", "", indent = 2 * depth).expect("a String takes every write");
        for child in children {
            child.branch(depth + 1, out);
        }
    }

    fn line(&self) -> (String, Vec<&Node>) {
        match self {
            Node::Subquery(subquery) => {
                let line = format!(
                    "over the last {} in steps of {}{}",
                    Time(subquery.range),
                    Time(subquery.step),
                    subquery.when
                );
                (line, vec![&subquery.of])
            }
            Node::Negate(of) => ("-".to_owned(), vec![of]),
            Node::Binary(binary) => (binary.modifiers(), vec![&binary.left, &binary.right]),
            Node::Aggregate(aggregate) => {
                let mut children: Vec<&Node> = aggregate.parameter.iter().collect();
                children.push(&aggregate.of);
                (format!("{}{}", aggregate.aggregator.name(), By(&aggregate.grouping)).trim_end().to_owned(), children)
            }
            Node::Call { function, arguments } => (format!("{}()", function.name()), arguments.iter().collect()),
            Node::Ratio(ratio) => {
                let line = format!(
                    "ratio of observed increases over {}, widened up to {} for {} events\n{}",
                    Time(ratio.window),
                    Time(ratio.widen_to.max(ratio.window)),
                    Number(ratio.min_events),
                    format_args!("  part:  {}\n  whole: {}", ratio.part, ratio.whole)
                );
                (line, Vec::new())
            }
            Node::Increase { counter, window } => {
                (format!("observed increase over {}\n  counter: {counter}", Time(*window)), Vec::new())
            }
            Node::Quantile(quantile) => {
                let line = format!(
                    "{} quantile of observed increases over {}, from {} events on\n  buckets: {}",
                    Number(quantile.q),
                    Time(quantile.window),
                    Number(quantile.min_events),
                    quantile.buckets
                );
                (line, Vec::new())
            }
            Node::BurnRate(burn) => {
                let pairs = BURN_PAIRS.map(|pair| {
                    format!("more than {}× over {} and {}", Number(pair.factor), Time(pair.long), Time(pair.short))
                });
                let line = format!(
                    "burn of an error budget of {}, from {} events on: {}\n  part:  {}\n  whole: {}",
                    Number(burn.budget),
                    Number(burn.min_events),
                    pairs.join(", or "),
                    burn.part,
                    burn.whole
                );
                (line, Vec::new())
            }
            Node::Streak { probe, failures, of } => {
                (format!("zeros among the last {of} samples, {failures} asked for\n  probe: {probe}"), Vec::new())
            }
            Node::Number(_) | Node::Text(_) | Node::Instant { .. } | Node::Range(_) => (self.to_string(), Vec::new()),
        }
    }
}

impl fmt::Display for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Node::Number(number) => write!(f, "{}", Number(*number)),
            Node::Text(text) => write!(f, "{}", Quoted(text)),
            Node::Instant { selector, when } => write!(f, "{selector}{when}"),
            Node::Range(range) => {
                write!(f, "{}[{}]{}", range.selector, Time(range.range), range.when)
            }
            Node::Subquery(subquery) => {
                subquery.of.fmt_operand(f, 7)?;
                write!(f, "[{}:{}]{}", Time(subquery.range), Time(subquery.step), subquery.when)
            }
            Node::Negate(of) => {
                f.write_str("-")?;
                of.fmt_operand(f, 5)
            }
            Node::Binary(binary) => binary.fmt(f),
            Node::Aggregate(aggregate) => {
                write!(f, "{}{}(", aggregate.aggregator.name(), By(&aggregate.grouping))?;
                if let Some(parameter) = &aggregate.parameter {
                    write!(f, "{parameter}, ")?;
                }
                write!(f, "{})", aggregate.of)
            }
            Node::Call { function, arguments } => {
                write!(f, "{}(", function.name())?;
                for (place, argument) in arguments.iter().enumerate() {
                    write!(f, "{}{argument}", if place == 0 { "" } else { ", " })?;
                }
                f.write_str(")")
            }
            Node::Ratio(ratio) => write!(
                f,
                "ratio(part = {}, whole = {}, window = {}, min_events = {}, widen_to = {})",
                ratio.part,
                ratio.whole,
                Time(ratio.window),
                Number(ratio.min_events),
                Time(ratio.widen_to)
            ),
            Node::Increase { counter, window } => {
                write!(f, "increase(counter = {counter}, window = {})", Time(*window))
            }
            Node::Quantile(quantile) => write!(
                f,
                "quantile(histogram = {}, q = {}, window = {}, min_events = {})",
                quantile.buckets,
                Number(quantile.q),
                Time(quantile.window),
                Number(quantile.min_events)
            ),
            Node::BurnRate(burn) => write!(
                f,
                "burn_rate(part = {}, whole = {}, budget = {}, min_events = {})",
                burn.part,
                burn.whole,
                Number(burn.budget),
                Number(burn.min_events)
            ),
            Node::Streak { probe, failures, of } => {
                write!(f, "health(probe = {probe}, failures = \"{failures} of {of}\")")
            }
        }
    }
}

impl Node {
    /// Binding strength, as in PromQL: `or` 0, `and` 1, comparisons 2, sums 3, products 4, signs 5, powers 6, atoms 7.
    fn strength(&self) -> u8 {
        match self {
            Node::Binary(binary) => binary.operator.strength(),
            Node::Negate(_) => 5,
            // The sign of a NaN is not shown.
            Node::Number(number) if number.is_sign_negative() && !number.is_nan() => 5,
            Node::Number(_)
            | Node::Text(_)
            | Node::Instant { .. }
            | Node::Range(_)
            | Node::Subquery(_)
            | Node::Aggregate(_)
            | Node::Call { .. }
            | Node::Ratio(_)
            | Node::Increase { .. }
            | Node::Quantile(_)
            | Node::BurnRate(_)
            | Node::Streak { .. } => 7,
        }
    }

    fn fmt_operand(&self, f: &mut fmt::Formatter<'_>, least: u8) -> fmt::Result {
        if self.strength() < least { write!(f, "({self})") } else { write!(f, "{self}") }
    }
}

impl Binary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let own = self.operator.strength();
        let rightward = self.operator == Operator::Power;
        self.left.fmt_operand(f, if rightward { own + 1 } else { own })?;
        write!(f, " {} ", self.modifiers())?;
        self.right.fmt_operand(f, if rightward { own } else { own + 1 })
    }

    fn modifiers(&self) -> String {
        let mut out = self.operator.symbol().to_owned();
        if self.as_bool {
            out.push_str(" bool");
        }
        let many = match &self.cardinality {
            Cardinality::OneToOne => None,
            Cardinality::ManyToOne(labels) => Some(("group_left", labels)),
            Cardinality::OneToMany(labels) => Some(("group_right", labels)),
        };
        let matching = match &self.matching {
            Grouping::Only(labels) => Some(("on", labels)),
            Grouping::AllBut(labels) if labels.is_empty() && many.is_none() => None,
            Grouping::AllBut(labels) => Some(("ignoring", labels)),
        };
        for (word, labels) in matching.into_iter().chain(many) {
            write!(out, " {word} ({})", List(labels)).expect("a String takes every write");
        }
        out
    }
}

impl Operator {
    fn strength(self) -> u8 {
        match self {
            Operator::Or => 0,
            Operator::And | Operator::Unless => 1,
            Operator::Compare(_) => 2,
            Operator::Add | Operator::Subtract => 3,
            Operator::Multiply | Operator::Divide | Operator::Modulo | Operator::Atan2 => 4,
            Operator::Power => 6,
        }
    }

    fn symbol(self) -> &'static str {
        match self {
            Operator::Add => "+",
            Operator::Subtract => "-",
            Operator::Multiply => "*",
            Operator::Divide => "/",
            Operator::Modulo => "%",
            Operator::Power => "^",
            Operator::Atan2 => "atan2",
            Operator::Compare(comparison) => comparison.symbol(),
            Operator::And => "and",
            Operator::Or => "or",
            Operator::Unless => "unless",
        }
    }
}

impl Comparison {
    /// As PromQL writes it.
    #[must_use]
    pub fn symbol(self) -> &'static str {
        match self {
            Comparison::Above => ">",
            Comparison::AtLeast => ">=",
            Comparison::Below => "<",
            Comparison::AtMost => "<=",
            Comparison::Equal => "==",
            Comparison::NotEqual => "!=",
        }
    }
}

struct List<'a>(&'a [Box<str>]);

impl fmt::Display for List<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, label) in self.0.iter().enumerate() {
            write!(f, "{}{}", if place == 0 { "" } else { ", " }, Name(label))?;
        }
        Ok(())
    }
}

struct By<'a>(&'a Grouping);

impl fmt::Display for By<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Grouping::Only(labels) if labels.is_empty() => Ok(()),
            Grouping::Only(labels) => write!(f, " by ({}) ", List(labels)),
            Grouping::AllBut(labels) => write!(f, " without ({}) ", List(labels)),
        }
    }
}

struct Number(f64);

impl fmt::Display for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_infinite() {
            f.write_str(if self.0 > 0.0 { "+Inf" } else { "-Inf" })
        } else {
            write!(f, "{}", self.0)
        }
    }
}

/// A duration in PromQL's units.
pub(super) struct Time(pub Duration);

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut left = millis(self.0);
        if left == 0 {
            return f.write_str("0s");
        }
        for (unit, length) in [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)] {
            if left >= length {
                write!(f, "{}{unit}", left / length)?;
                left %= length;
            }
        }
        Ok(())
    }
}
