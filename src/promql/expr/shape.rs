//! What an expression is at its root, and how much it must see before it answers: for those who check a configuration.

use std::time::Duration;

use super::{BURN_PAIRS, Expr, Function, Node, Operator, millis};

/// The root of an expression, as far as it matters for putting a comparison behind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// `absent(…)`: 1 while there is no such series, nothing otherwise.
    Absent,
    /// `a > b`: the values of one side, where it holds.
    Compares,
    /// `a > bool b`: 0 or 1.
    ComparesBool,
    /// `and`, `or`, `unless`, which bind more loosely than a comparison.
    JoinsSets,
    /// Anything else: a comparison can follow as it is.
    Value,
}

impl Expr {
    #[must_use]
    pub fn shape(&self) -> Shape {
        match &self.root {
            Node::Binary(binary) => match binary.operator {
                Operator::Compare(_) if binary.as_bool => Shape::ComparesBool,
                Operator::Compare(_) => Shape::Compares,
                Operator::And | Operator::Or | Operator::Unless => Shape::JoinsSets,
                Operator::Add
                | Operator::Subtract
                | Operator::Multiply
                | Operator::Divide
                | Operator::Modulo
                | Operator::Power
                | Operator::Atan2 => Shape::Value,
            },
            Node::Call { function: Function::Absent | Function::AbsentOverTime, .. } => Shape::Absent,
            Node::Call { .. }
            | Node::Number(_)
            | Node::Text(_)
            | Node::Instant { .. }
            | Node::Range(_)
            | Node::Subquery(_)
            | Node::Negate(_)
            | Node::Aggregate(_)
            | Node::Ratio(_)
            | Node::Increase { .. }
            | Node::Quantile(_)
            | Node::BurnRate(_)
            | Node::Streak { .. } => Shape::Value,
        }
    }

    /// How long after its windows began anew the widest of them counts as covered: 80 % of it, behind its offset.
    /// Zero where only the newest samples are asked for; what a `ratio` widens to at low traffic is not in it.
    #[must_use]
    pub fn covered_after(&self) -> Duration {
        Duration::from_millis(u64::try_from(self.root.covered_after_ms(0, 0)).unwrap_or(0))
    }
}

impl Node {
    /// `window_ms` and `offset_ms` are those of the subqueries around it.
    fn covered_after_ms(&self, window_ms: i64, offset_ms: i64) -> i64 {
        // Rounded up, to the millisecond in which instants are counted.
        let covered = |window: Duration, offset: i64| {
            let window = millis(window).saturating_add(window_ms);
            let enough = window.saturating_sub(window / 5);
            if window == 0 { 0 } else { enough.saturating_add(offset_ms.saturating_add(offset).max(0)) }
        };
        let inside = |node: &Node| node.covered_after_ms(window_ms, offset_ms);
        match self {
            Node::Number(_) | Node::Text(_) | Node::Streak { .. } => 0,
            Node::Instant { when, .. } => covered(Duration::ZERO, when.offset_ms),
            Node::Range(range) => covered(range.range, range.when.offset_ms),
            Node::Subquery(subquery) => subquery.of.covered_after_ms(
                window_ms.saturating_add(millis(subquery.range)),
                offset_ms.saturating_add(subquery.when.offset_ms),
            ),
            Node::Negate(of) => inside(of),
            Node::Binary(binary) => inside(&binary.left).max(inside(&binary.right)),
            Node::Aggregate(aggregate) => aggregate.parameter.as_ref().map_or(0, inside).max(inside(&aggregate.of)),
            Node::Call { arguments, .. } => arguments.iter().map(inside).max().unwrap_or(0),
            Node::Ratio(ratio) => covered(ratio.window, 0),
            Node::Increase { window, .. } => covered(*window, 0),
            Node::Quantile(quantile) => covered(quantile.window, 0),
            // Longer windows are judged by what was seen of them.
            Node::BurnRate(_) => BURN_PAIRS.iter().map(|pair| covered(pair.short, 0)).min().unwrap_or(0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::promql::Selector;

    fn parsed(text: &str) -> Expr {
        Expr::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    #[test]
    fn the_root_is_told() {
        for (text, shape) in [
            ("absent(a)", Shape::Absent),
            ("absent_over_time(a[5m])", Shape::Absent),
            ("a > b", Shape::Compares),
            ("a > bool 1", Shape::ComparesBool),
            ("a or b > 1", Shape::JoinsSets),
            ("sum(absent(a))", Shape::Value),
            ("a / b", Shape::Value),
            ("-a", Shape::Value),
        ] {
            assert_eq!(parsed(text).shape(), shape, "{text}");
        }
    }

    #[test]
    fn the_widest_window_is_covered_at_four_fifths() {
        for (text, seconds) in [
            ("a", 0.0),
            ("a offset 1h", 0.0),
            ("rate(a[5m])", 240.0),
            ("rate(a[5m] offset 1m)", 300.0),
            ("rate(a[5m] offset -1m)", 240.0),
            ("rate(a[1m]) / rate(a[10m])", 480.0),
            ("sum by (x) (increase(a[1m])) > 5", 48.0),
            ("max_over_time(rate(a[1m])[9m:1m])", 480.0),
            ("max_over_time(a[9m:1m] offset 1m)", 492.0),
            ("rate(a[7ms])", 0.006),
        ] {
            assert_eq!(parsed(text).covered_after(), Duration::from_secs_f64(seconds), "{text}");
        }
        let a = Selector::parse("a").expect("a selector");
        let minute = Duration::from_mins(1);
        let ratio = Expr::ratio(a.clone(), a.clone(), minute, 20.0, minute * 10);
        assert_eq!(ratio.covered_after(), Duration::from_secs(48));
        assert_eq!(Expr::streak(a, 3, 5).covered_after(), Duration::ZERO);
    }
}
