//! Questions that bring their own threshold: `regression` (against the time before the release) and `burn_rate` (against
//! an error budget).

use super::super::cursor::{Cx, Got, Table};
use super::super::places::Problem;
use super::super::scalar;
use super::super::tree::{Node, Value};
use super::question::{Asked, asked_value, min_events, parsed, selecting, unneeded};
use super::release::promql_error;
use super::threshold::Threshold;
use super::trigger::Sources;
use crate::decide::rules::{Unit, ValueKind};
use crate::promql::{BURN_PAIRS, Comparison, Expr};

/// Less is the ups and downs of every service (playbook row T6: under 20 % never).
const WORSE_BY_MIN: f64 = 0.2;

pub(super) fn regression(cx: &Cx<'_>, node: &Node, threshold: &Got<Threshold>, sources: &Sources<'_>) -> Option<Asked> {
    const HELP: &str = "a PromQL expression whose value is higher when it is worse, such as \
                        'histogram_quantile(0.95, sum by (le) (rate(http_request_duration_seconds_bucket[5m])))'";
    let mut table = cx.table(node, "the regression")?;
    let text = table.need("expr", HELP, |cx, node| cx.some_text(node, HELP));
    let worse_by = table.need("worse_by", "by how much it may grow, such as worse_by = \"50%\"", worse_by);
    table.finish();
    unneeded(cx, threshold, "a regression", "write worse_by = \"50%\" inside regression")?;
    let (text, (worse_by, place)) = (text?, worse_by?);
    let expr = parsed(cx, &text, HELP)?;
    if expr.split_comparison().is_some() {
        let problem = Problem::at(text.place, "this compares already, and a regression compares with the time before");
        cx.error(problem.help("take the comparison out of the expression"));
        return None;
    }
    let selectors = expr.selectors();
    let selectors: Vec<_> = selectors.into_iter().map(|selector| (selector, &text)).collect();
    let interval = sources.paced(cx, &selectors, None)?;
    let threshold = Threshold { comparison: Comparison::Above, value: worse_by, unit: Unit::Percent, place };
    Some(asked_value(ValueKind::Regression, expr, threshold, interval))
}

fn worse_by(cx: &Cx<'_>, node: &Node) -> Option<(f64, super::super::places::Place)> {
    const HELP: &str = "a percentage such as \"50%\", or a number such as 0.5";
    #[expect(clippy::cast_precision_loss, reason = "a growth beyond 2^53 is refused below anyway")]
    let share = match &node.value {
        Value::Text(_) => scalar::percentage(&cx.some_text(node, HELP)?.value),
        Value::Integer(number) => Some(*number as f64),
        Value::Float(number) => Some(*number),
        Value::Bool(_) | Value::Datetime | Value::List(_) | Value::Table(_) => None,
    };
    let refuse = |message: String, help: &str| {
        cx.error(Problem::at(node.place, message).help(help));
        None
    };
    match share {
        None => refuse("this is not a growth".to_owned(), HELP),
        Some(share) if share >= 20.0 && !matches!(node.value, Value::Text(_)) => {
            refuse("a growth is a percentage, or a number".to_owned(), &format!("did you mean \"{share}%\"?"))
        }
        Some(share) if share < WORSE_BY_MIN || !share.is_finite() => {
            refuse("less than 20 % is within the ups and downs of a service".to_owned(), "write at least \"20%\"")
        }
        Some(share) => Some((share, node.place)),
    }
}

pub(super) fn burn_rate(
    outer: &mut Table<'_, '_>,
    node: &Node,
    threshold: &Got<Threshold>,
    sources: &Sources<'_>,
) -> Option<Asked> {
    let cx = outer.cx;
    let mut table = cx.table(node, "the burn rate")?;
    let part = selecting(
        &mut table,
        "part",
        "the counter of the events that failed, such as 'http_requests_total{status=~\"5..\"}'",
    );
    let whole = selecting(&mut table, "whole", "the counter of all events, such as 'http_requests_total'");
    let objective =
        table.need("objective", "the share that must succeed, such as objective = \"99.9%\"", |cx, node| {
            Some((cx.share(node, "between 0 and 100 %, such as \"99.9%\"")?, node.place))
        });
    let min_events = min_events(&mut table);
    table.finish();
    unneeded(cx, threshold, "a burn rate", "write objective = \"99.9%\" inside burn_rate")?;
    let ((part, part_text), (whole, whole_text), (objective, place)) = (part?, whole?, objective?);
    if part == whole {
        let problem = Problem::at(part_text.place, "`part` and `whole` are the same: everything failed");
        cx.error(problem.also(whole_text.place, "the whole").help("select in `part` only the events that failed"));
        return None;
    }
    let budget = 1.0 - objective;
    // What fails is never more than all.
    let never = BURN_PAIRS.iter().filter(|pair| pair.factor * budget >= 1.0).count();
    if budget <= 0.0 {
        cx.error(Problem::at(place, "this leaves no budget to burn").help("write less than 100 %, such as \"99.9%\""));
        return None;
    }
    if never == BURN_PAIRS.len() {
        let problem =
            Problem::at(place, "this can never fire: if everything fails, the budget burns too slowly to page");
        cx.error(problem.help("use ratio with a threshold for an objective as low as this"));
        return None;
    }
    if never > 0 {
        let slowest = BURN_PAIRS.iter().map(|pair| pair.factor).fold(0.0, f64::max);
        let message = format!("{slowest}× this budget is more than everything: that pair of windows can never fire");
        cx.warn(Problem::at(place, message).help("use ratio with a threshold for a fast alert on such an objective"));
    }
    let short = BURN_PAIRS.iter().map(|pair| pair.short).min().unwrap_or_default();
    let interval = sources.paced(cx, &[(&part, &part_text), (&whole, &whole_text)], Some((short, place)))?;
    match Expr::burn_rate(part, whole, budget, min_events?) {
        Ok(expr) => {
            let threshold = Threshold { comparison: Comparison::Above, value: 1.0, unit: Unit::Percent, place };
            Some(asked_value(ValueKind::BurnRate, expr, threshold, interval))
        }
        Err(error) => {
            promql_error(cx, &part_text, error);
            None
        }
    }
}
