//! From PromQL's syntax tree to ours; what we do not evaluate is refused by name.

use std::time::Duration;

use promql_parser::parser as promql;
use promql_parser::parser::value::ValueType;

use super::text::{bare, byte_escape, place_of, without_raw_strings, word_in};
use super::{
    Aggregate, Aggregator, Binary, Cardinality, Comparison, Function, Grouping, Node, Operator, ParseError, Pin,
    RangeSelector, Subquery, When, millis,
};
use crate::promql::Selector;

/// An expression is something a person wrote: more than this is a mistake, and depth is bounded by it too.
const TEXT_BYTES_MAX: usize = 16 << 10;
/// The parser and the evaluator recurse.
const DEPTH_MAX: usize = 64;
/// Prometheus's default step of a subquery that gives none (its evaluation interval).
const SUBQUERY_STEP: Duration = Duration::from_mins(1);
/// A subquery of more steps is a mistake or belongs into Prometheus; Prometheus itself refuses 11,000 points.
const SUBQUERY_STEPS_MAX: u128 = 11_000;
/// The longest range, step or offset: a hundred years of seconds. The parser would panic on absurd ones.
const SECONDS_MAX: f64 = 3.2e9;

/// May an expression look at a fixed time?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::promql) enum Times {
    /// It must move with time.
    Live,
    /// All that it may ask for is kept.
    Recorded,
}

pub(in crate::promql) fn expression(text: &str, times: Times) -> Result<Node, ParseError> {
    let tree = syntax(text)?;
    let node = Compiler { text, times }.node(&tree)?;
    match value_type(&tree) {
        ValueType::Scalar | ValueType::Vector => Ok(node),
        ValueType::Matrix => Err(ParseError {
            message: "the expression is a range of samples, not a value".to_owned(),
            span: None,
            help: Some("Put a function such as `rate(…)` around it.".to_owned()),
        }),
        ValueType::String => {
            Err(ParseError { message: "the expression is a string, not a value".to_owned(), span: None, help: None })
        }
    }
}

pub(in crate::promql) fn selector(text: &str) -> Result<Selector, ParseError> {
    let tree = syntax(text)?;
    let mut tree = &tree;
    while let promql::Expr::Paren(paren) = tree {
        tree = &paren.expr;
    }
    let refuse = |message: &str| ParseError {
        message: message.to_owned(),
        span: None,
        help: Some("Write a selector such as `http_requests_total{status=\"500\"}`.".to_owned()),
    };
    let promql::Expr::VectorSelector(vector) = tree else {
        return Err(refuse("this is an expression, not a selector of series"));
    };
    if vector.offset.is_some() || vector.at.is_some() {
        return Err(refuse("`offset` and `@` have no place in a selector of series"));
    }
    Selector::compile(vector, text)
}

fn syntax(text: &str) -> Result<promql::Expr, ParseError> {
    guard_against_extremes(text)?;
    promql::parse(&without_raw_strings(text)).map_err(|message| explain(text, message))
}

/// The parser recurses without bound and panics on a range that does not fit a `Duration`.
fn guard_against_extremes(text: &str) -> Result<(), ParseError> {
    let refuse = |message: String, span| Err(ParseError { message, span, help: None });
    if text.trim().is_empty() {
        return refuse("the expression is empty".to_owned(), None);
    }
    if text.len() > TEXT_BYTES_MAX {
        return refuse(format!("the expression is longer than {TEXT_BYTES_MAX} bytes"), None);
    }
    if let Some(span) = byte_escape(text) {
        return refuse("an escape such as `\\xff` beyond ASCII is not text".to_owned(), Some(span));
    }
    let mut depth = 0_usize;
    let mut operators = 0_usize;
    for (at, c) in bare(text) {
        match c {
            '(' | '[' | '{' => depth += 1,
            ')' | ']' | '}' => depth = depth.saturating_sub(1),
            '-' | '+' | '*' | '/' | '%' | '^' | '=' | '<' | '>' | '@' | ':' => operators += 1,
            _ => {}
        }
        if depth > DEPTH_MAX || operators > 4 * DEPTH_MAX {
            return refuse(format!("the expression is nested more than {DEPTH_MAX} deep"), Some(at..at + c.len_utf8()));
        }
    }
    let number = regex::Regex::new(r"(?i)(?:\[|:|\boffset)\s*[-+]?\s*([0-9.][0-9a-z.+_]*(?:e[-+]?[0-9]+)?)")
        .expect("the pattern is constant and valid");
    for found in number.captures_iter(text).filter_map(|captures| captures.get(1)) {
        let plain = found.as_str().replace('_', "");
        let digits: String = plain.chars().take_while(char::is_ascii_digit).collect();
        let too_long =
            |number: &str| number.parse::<f64>().is_ok_and(|seconds| !(0.0..=SECONDS_MAX).contains(&seconds));
        if too_long(&plain) || too_long(&digits) {
            return refuse(format!("`{}` is longer than any series is kept", found.as_str()), Some(found.range()));
        }
    }
    Ok(())
}

/// The parser's message is often only "invalid promql query": name what Prometheus knows and we do not.
fn explain(text: &str, message: String) -> ParseError {
    for word in ["anchored", "smoothed"] {
        if let Some(span) = word_in(text, word) {
            return ParseError {
                message: format!("`{word}` is an experimental modifier of Prometheus that backstop does not evaluate"),
                span: Some(span),
                help: Some(
                    "The typed triggers `ratio`, `increase` and `quantile` observe without extrapolation.".to_owned(),
                ),
            };
        }
    }
    if let Some(refusal) = unevaluated(text) {
        return refusal;
    }
    let unknown = message.strip_prefix("unknown function with name '").and_then(|rest| rest.split('\'').next());
    let span = unknown.and_then(|name| place_of(text, name));
    let message = if message.is_empty() { "this is not PromQL".to_owned() } else { message };
    ParseError { message, span, help: None }
}

/// What the parser's crate does not take at all, where Prometheus takes it only as an experiment or for native histograms.
fn unevaluated(text: &str) -> Option<ParseError> {
    let plain: String = (0..text.len()).map(|_| ' ').collect();
    let mut plain = plain.into_bytes();
    for (at, c) in bare(text).filter(|(_, c)| c.is_ascii()) {
        plain[at] = u8::try_from(c).unwrap_or(b' ');
    }
    let plain = String::from_utf8(plain).ok()?;
    let known = [
        // An operator, a bracket or a name where a duration belongs; a sign before it is one of PromQL's own.
        (
            r"(?i)\[\s*[-+]?[^\]:]*[-+*/%^()][^\]]*\]|\[[^\]]*:\s*[^\]]*[-+*/%^()][^\]]*\]|\[\s*-|\boffset\s*[-+]?\s*(?:\(|step\b|range\b|min(?:_of)?\b|max(?:_of)?\b)",
            "a duration that is calculated",
            "is an experimental feature of Prometheus that backstop does not evaluate",
        ),
        (r"(?i)\binfo\s*\(", "`info`", "is an experimental function that backstop does not evaluate"),
        (r"</|>/", "`</` and `>/`", "are for native histograms, which backstop does not scrape"),
    ];
    known.into_iter().find_map(|(pattern, what, why)| {
        let found = regex::Regex::new(pattern).expect("the pattern is constant and valid").find(&plain)?;
        Some(ParseError { message: format!("{what} {why}"), span: Some(found.range()), help: None })
    })
}

fn value_type(tree: &promql::Expr) -> ValueType {
    tree.value_type()
}

struct Compiler<'a> {
    text: &'a str,
    times: Times,
}

impl Compiler<'_> {
    fn refuse(&self, what: &str, why: &str) -> ParseError {
        ParseError { message: format!("`{what}` {why}"), span: place_of(self.text, what), help: None }
    }

    fn node(&self, tree: &promql::Expr) -> Result<Node, ParseError> {
        match tree {
            promql::Expr::NumberLiteral(number) => Ok(Node::Number(number.val)),
            promql::Expr::StringLiteral(text) => Ok(Node::Text(text.val.as_str().into())),
            promql::Expr::Paren(paren) => self.node(&paren.expr),
            promql::Expr::Unary(unary) => Ok(match self.node(&unary.expr)? {
                Node::Number(number) => Node::Number(-number),
                of => Node::Negate(Box::new(of)),
            }),
            promql::Expr::VectorSelector(vector) => {
                let (selector, when) = self.selector(vector)?;
                Ok(Node::Instant { selector, when })
            }
            promql::Expr::MatrixSelector(matrix) => {
                let (selector, when) = self.selector(&matrix.vs)?;
                positive(matrix.range, "range")?;
                Ok(Node::Range(RangeSelector { selector, range: matrix.range, when }))
            }
            promql::Expr::Subquery(subquery) => self.subquery(subquery),
            promql::Expr::Binary(binary) => self.binary(binary),
            promql::Expr::Aggregate(aggregate) => self.aggregate(aggregate),
            promql::Expr::Call(call) => self.call(call),
            promql::Expr::Extension(_) => Err(self.refuse("extension", "is not PromQL")),
        }
    }

    fn selector(&self, vector: &promql::VectorSelector) -> Result<(Selector, When), ParseError> {
        let when = self.when(vector.at.as_ref(), vector.offset.as_ref())?;
        Ok((Selector::compile(vector, self.text)?, when))
    }

    fn when(&self, at: Option<&promql::AtModifier>, offset: Option<&promql::Offset>) -> Result<When, ParseError> {
        let pin = match (at, self.times) {
            (None, _) => None,
            (Some(promql::AtModifier::Start), _) => Some(Pin::Start),
            (Some(promql::AtModifier::End), _) => Some(Pin::End),
            (Some(promql::AtModifier::At(time)), Times::Recorded) => {
                Some(Pin::Wall(match time.duration_since(std::time::UNIX_EPOCH) {
                    Ok(after) => millis(after),
                    Err(before) => -millis(before.duration()),
                }))
            }
            // A live expression must move with time.
            (Some(promql::AtModifier::At(_)), Times::Live) => {
                return Err(ParseError {
                    message: "`@` pins the expression to a fixed time; a trigger asks about now".to_owned(),
                    span: bare(self.text).find(|(_, c)| *c == '@').map(|(at, _)| at..at + 1),
                    help: Some("Use `offset` to look back by a duration.".to_owned()),
                });
            }
        };
        Ok(When { pin, offset_ms: offset_millis(offset) })
    }

    fn subquery(&self, subquery: &promql::SubqueryExpr) -> Result<Node, ParseError> {
        let when = self.when(subquery.at.as_ref(), subquery.offset.as_ref())?;
        let step = subquery.step.unwrap_or(SUBQUERY_STEP);
        positive(subquery.range, "range of a subquery")?;
        positive(step, "step of a subquery")?;
        let of = self.node(&subquery.expr)?;
        let steps = (subquery.range.as_millis() / step.as_millis()).max(1);
        if steps.saturating_mul(steps_within(&of)) > SUBQUERY_STEPS_MAX {
            return Err(ParseError {
                message: format!("the subquery takes more than {SUBQUERY_STEPS_MAX} steps"),
                span: None,
                help: Some("Give a longer step after the colon.".to_owned()),
            });
        }
        Ok(Node::Subquery(Box::new(Subquery { of, range: subquery.range, step, when })))
    }

    fn binary(&self, binary: &promql::BinaryExpr) -> Result<Node, ParseError> {
        let name = binary.op.to_string();
        let operator = match name.as_str() {
            "+" => Operator::Add,
            "-" => Operator::Subtract,
            "*" => Operator::Multiply,
            "/" => Operator::Divide,
            "%" => Operator::Modulo,
            "^" => Operator::Power,
            "atan2" => Operator::Atan2,
            ">" => Operator::Compare(Comparison::Above),
            ">=" => Operator::Compare(Comparison::AtLeast),
            "<" => Operator::Compare(Comparison::Below),
            "<=" => Operator::Compare(Comparison::AtMost),
            "==" => Operator::Compare(Comparison::Equal),
            "!=" => Operator::Compare(Comparison::NotEqual),
            "and" => Operator::And,
            "or" => Operator::Or,
            "unless" => Operator::Unless,
            _ => return Err(self.refuse(&name, "is an operator that backstop does not evaluate")),
        };
        let (mut matching, mut cardinality, mut as_bool) = (Grouping::AllBut(Vec::new()), Cardinality::OneToOne, false);
        if let Some(modifier) = &binary.modifier {
            if modifier.fill_values.lhs.is_some() || modifier.fill_values.rhs.is_some() {
                return Err(self.refuse("fill", "is an experimental modifier that backstop does not evaluate"));
            }
            as_bool = modifier.return_bool;
            matching = modifier.matching.as_ref().map_or(matching, grouping);
            cardinality = match &modifier.card {
                promql::VectorMatchCardinality::ManyToOne(labels) => Cardinality::ManyToOne(names(labels)),
                promql::VectorMatchCardinality::OneToMany(labels) => Cardinality::OneToMany(names(labels)),
                promql::VectorMatchCardinality::OneToOne | promql::VectorMatchCardinality::ManyToMany => {
                    Cardinality::OneToOne
                }
            };
        }
        let (left, right) = (self.node(&binary.lhs)?, self.node(&binary.rhs)?);
        Ok(Node::Binary(Box::new(Binary { operator, left, right, matching, cardinality, as_bool })))
    }

    fn aggregate(&self, aggregate: &promql::AggregateExpr) -> Result<Node, ParseError> {
        let name = aggregate.op.to_string();
        let aggregator = Aggregator::from_name(&name)
            .ok_or_else(|| self.refuse(&name, "is an experimental aggregation that backstop does not evaluate"))?;
        let parameter = aggregate.param.as_ref().map(|parameter| self.node(parameter)).transpose()?;
        let takes_parameter = match aggregator {
            Aggregator::Topk | Aggregator::Bottomk | Aggregator::Quantile | Aggregator::CountValues => true,
            Aggregator::Sum
            | Aggregator::Avg
            | Aggregator::Min
            | Aggregator::Max
            | Aggregator::Count
            | Aggregator::Stddev
            | Aggregator::Stdvar
            | Aggregator::Group => false,
        };
        if takes_parameter != parameter.is_some() {
            let why = if takes_parameter { "needs a parameter" } else { "takes no parameter" };
            return Err(self.refuse(&name, why));
        }
        if let (Aggregator::CountValues, Some(Node::Text(label))) = (aggregator, &parameter)
            && !is_label(label)
        {
            return Err(self.refuse(label, "is not a label's name"));
        }
        let of = self.node(&aggregate.expr)?;
        let grouping = aggregate.modifier.as_ref().map_or(Grouping::Only(Vec::new()), grouping);
        Ok(Node::Aggregate(Box::new(Aggregate { aggregator, of, parameter, grouping })))
    }

    fn call(&self, call: &promql::Call) -> Result<Node, ParseError> {
        let name = call.func.name;
        let Some(function) = Function::from_name(name) else {
            let why = if call.func.experimental {
                "is an experimental function that backstop does not evaluate"
            } else if name.starts_with("histogram_") {
                "is for native histograms, which backstop does not scrape"
            } else {
                "is a function that backstop does not evaluate"
            };
            return Err(self.refuse(name, why));
        };
        // The parser skips its own check of types for some constant arguments of `exp`, `ln`, `log2` and `log10`.
        for (place, argument) in call.args.args.iter().enumerate() {
            let last = call.func.arg_types.len().saturating_sub(1);
            let Some(expected) = call.func.arg_types.get(place.min(last)) else { continue };
            if argument.value_type() != *expected {
                let why = format!("takes a {expected}, not a {}", argument.value_type());
                return Err(self.refuse(name, &why));
            }
        }
        let arguments: Vec<Node> =
            call.args.args.iter().map(|argument| self.node(argument)).collect::<Result<_, _>>()?;
        self.check_label_functions(function, &arguments)?;
        Ok(Node::Call { function, arguments })
    }

    fn check_label_functions(&self, function: Function, arguments: &[Node]) -> Result<(), ParseError> {
        let text = |place: usize| if let Some(Node::Text(text)) = arguments.get(place) { text.as_ref() } else { "" };
        if matches!(function, Function::LabelReplace | Function::LabelJoin) && !is_label(text(1)) {
            return Err(self.refuse(text(1), "is not a label's name"));
        }
        if function == Function::LabelReplace {
            crate::promql::selector::compile_pattern(text(4))
                .map_err(|_| self.refuse(text(4), "is not a regular expression"))?;
        }
        if function == Function::LabelJoin {
            for place in 3..arguments.len() {
                if !is_label(text(place)) {
                    return Err(self.refuse(text(place), "is not a label's name"));
                }
            }
        }
        Ok(())
    }
}

fn positive(range: Duration, what: &str) -> Result<(), ParseError> {
    if range < Duration::from_millis(1) {
        let message = format!("the {what} must be at least a millisecond");
        return Err(ParseError { message, span: None, help: None });
    }
    Ok(())
}

/// Prometheus 3 takes any UTF-8 name; an empty one is none.
fn is_label(name: &str) -> bool {
    !name.is_empty() && !name.contains('\u{fffd}')
}

/// How often the selectors under a node are evaluated for one evaluation of the node, at most.
fn steps_within(node: &Node) -> u128 {
    match node {
        Node::Subquery(subquery) => {
            let steps = (subquery.range.as_millis() / subquery.step.as_millis().max(1)).max(1);
            steps.saturating_mul(steps_within(&subquery.of))
        }
        Node::Negate(of) => steps_within(of),
        Node::Binary(binary) => steps_within(&binary.left).max(steps_within(&binary.right)),
        Node::Aggregate(aggregate) => {
            aggregate.parameter.iter().map(steps_within).fold(steps_within(&aggregate.of), u128::max)
        }
        Node::Call { arguments, .. } => arguments.iter().map(steps_within).fold(1, u128::max),
        Node::Number(_)
        | Node::Text(_)
        | Node::Instant { .. }
        | Node::Range(_)
        | Node::Ratio(_)
        | Node::Increase { .. }
        | Node::Quantile(_)
        | Node::BurnRate(_)
        | Node::Streak { .. } => 1,
    }
}

fn offset_millis(offset: Option<&promql::Offset>) -> i64 {
    match offset {
        None => 0,
        Some(promql::Offset::Pos(back)) => millis(*back),
        Some(promql::Offset::Neg(ahead)) => -millis(*ahead),
    }
}

fn grouping(modifier: &promql::LabelModifier) -> Grouping {
    match modifier {
        promql::LabelModifier::Include(labels) => Grouping::Only(names(labels)),
        promql::LabelModifier::Exclude(labels) => Grouping::AllBut(names(labels)),
    }
}

fn names(labels: &promql_parser::label::Labels) -> Vec<Box<str>> {
    labels.labels.iter().map(|label| label.as_str().into()).collect()
}
