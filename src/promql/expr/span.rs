//! How much of the past goes into one value of an expression.

use std::time::Duration;

use super::{BURN_PAIRS, Expr, Node};

impl Expr {
    /// The widest range that one value rests on, with the subqueries around it; zero where only newest samples do. An
    /// `offset` is not in it: it is a comparison with the past on purpose.
    #[must_use]
    pub fn widest_window(&self) -> Duration {
        self.root.widest(Duration::ZERO)
    }
}

impl Node {
    fn widest(&self, around: Duration) -> Duration {
        match self {
            Node::Number(_) | Node::Text(_) | Node::Streak { .. } => Duration::ZERO,
            Node::Instant { .. } => around,
            Node::Range(range) => around.saturating_add(range.range),
            Node::Subquery(subquery) => subquery.of.widest(around.saturating_add(subquery.range)),
            Node::Negate(of) => of.widest(around),
            Node::Binary(binary) => binary.left.widest(around).max(binary.right.widest(around)),
            Node::Aggregate(aggregate) => {
                let parameter = aggregate.parameter.as_ref().map_or(Duration::ZERO, |node| node.widest(around));
                parameter.max(aggregate.of.widest(around))
            }
            Node::Call { arguments, .. } => {
                arguments.iter().map(|argument| argument.widest(around)).max().unwrap_or_default()
            }
            Node::Ratio(ratio) => around.saturating_add(ratio.window.max(ratio.widen_to)),
            Node::Increase { window, .. } => around.saturating_add(*window),
            Node::BurnRate(_) => {
                let longest = BURN_PAIRS.iter().map(|pair| pair.long).max().unwrap_or_default();
                around.saturating_add(longest)
            }
            Node::Quantile(quantile) => around.saturating_add(quantile.window),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_add_up_and_offsets_do_not() {
        for (text, seconds) in [
            ("a", 0),
            ("a offset 1h", 0),
            ("rate(a[5m])", 300),
            ("rate(a[5m]) / rate(a[10m] offset 1h)", 600),
            ("max_over_time(rate(a[1m])[9m:1m])", 600),
            ("sum(max_over_time(a[9m:1m]))", 540),
            ("quantile(scalar(rate(a[1m])), b)", 60),
        ] {
            let expr = Expr::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"));
            assert_eq!(expr.widest_window(), Duration::from_secs(seconds), "{text}");
        }
    }
}
