//! Functions of instants; those of ranges are dispatched to their own file.

use super::aggregate::{greatest, least, mean, nan_last, quantile, sum, variance};
use super::dates::{Date, date};
use super::{Annotation, Context, EvalError, Sample, Val, histogram, labelled, ranges};
use crate::promql::Labels;
use crate::promql::expr::{Function, Node};
use crate::time::Timestamp;

/// How the names of counters end.
const COUNTER_ENDS: [&str; 4] = ["_total", "_sum", "_count", "_bucket"];

/// The arguments of one call, evaluated where they are asked for.
struct Call<'a> {
    context: Context<'a>,
    arguments: &'a [Node],
    at: Timestamp,
}

impl<'a> Call<'a> {
    fn node(&self, place: usize) -> Result<&'a Node, EvalError> {
        self.arguments.get(place).ok_or_else(|| EvalError(format!("argument {} is missing", place + 1)))
    }

    fn vector(&self, place: usize) -> Result<Vec<Sample>, EvalError> {
        self.context.eval(self.node(place)?, self.at)?.vector()
    }

    fn scalar(&self, place: usize) -> Result<f64, EvalError> {
        self.context.eval(self.node(place)?, self.at)?.scalar()
    }

    /// A number that should be between 0 and 1.
    fn quantile(&self, place: usize) -> Result<f64, EvalError> {
        let q = self.scalar(place)?;
        self.context.check_quantile(q);
        Ok(q)
    }

    fn text(&self, place: usize) -> Result<Box<str>, EvalError> {
        self.context.eval(self.node(place)?, self.at)?.text()
    }

    /// Another quantity for each series, so the name goes.
    fn map(&self, of: impl Fn(f64) -> f64) -> Result<Val, EvalError> {
        Ok(each(self.vector(0)?, of))
    }

    /// Another quantity for each series of a range.
    fn over(&self, of: ranges::OfRange) -> Result<Val, EvalError> {
        ranges::each(self.context, self.node(0)?, self.at, false, of).map(Val::Vector)
    }

    /// The same of what should be counters.
    fn over_counters(&self, of: ranges::OfRange) -> Result<Val, EvalError> {
        let samples = ranges::each(self.context, self.node(0)?, self.at, false, of)?;
        for sample in &samples {
            let name = sample.labels.name();
            if !name.is_empty() && !COUNTER_ENDS.iter().any(|end| name.ends_with(end)) {
                self.context.annotate(Annotation::possible_non_counter(name));
            }
        }
        Ok(Val::Vector(samples))
    }

    /// Another quantity for each series of the range at this place, of its values alone.
    fn over_values(&self, place: usize, of: impl Fn(&mut [f64]) -> f64) -> Result<Val, EvalError> {
        ranges::each_values(self.context, self.node(place)?, self.at, of).map(Val::Vector)
    }

    /// The same of a calendar: of the argument's values, or of now.
    fn calendar(&self, of: impl Fn(Date) -> f64) -> Result<Val, EvalError> {
        let of = |secs: f64| date(secs).map_or(f64::NAN, &of);
        if self.arguments.is_empty() {
            let now = of(self.context.wall_secs(self.at));
            return Ok(Val::Vector(vec![Sample::bare(Labels::default(), now)]));
        }
        self.map(of)
    }
}

fn each(samples: Vec<Sample>, of: impl Fn(f64) -> f64) -> Val {
    let mapped = samples.into_iter().map(|sample| {
        let value = of(sample.value);
        sample.turned(value)
    });
    Val::Vector(mapped.collect())
}

// Length: one arm for each function of PromQL; splitting it would hide that the list is complete.
#[expect(clippy::too_many_lines, reason = "one arm for each function")]
pub(super) fn call<'a>(
    context: Context<'a>,
    function: Function,
    arguments: &'a [Node],
    at: Timestamp,
) -> Result<Val, EvalError> {
    let call = Call { context, arguments, at };
    match function {
        Function::Abs => call.map(f64::abs),
        Function::Acos => call.map(f64::acos),
        Function::Acosh => call.map(f64::acosh),
        Function::Asin => call.map(f64::asin),
        Function::Asinh => call.map(f64::asinh),
        Function::Atan => call.map(f64::atan),
        Function::Atanh => call.map(f64::atanh),
        Function::Ceil => call.map(f64::ceil),
        Function::Cos => call.map(f64::cos),
        Function::Cosh => call.map(f64::cosh),
        Function::Deg => call.map(f64::to_degrees),
        Function::Exp => call.map(f64::exp),
        Function::Floor => call.map(f64::floor),
        Function::Ln => call.map(f64::ln),
        Function::Log10 => call.map(f64::log10),
        Function::Log2 => call.map(f64::log2),
        Function::Rad => call.map(f64::to_radians),
        Function::Sgn => call.map(|value| if value == 0.0 || value.is_nan() { value } else { value.signum() }),
        Function::Sin => call.map(f64::sin),
        Function::Sinh => call.map(f64::sinh),
        Function::Sqrt => call.map(f64::sqrt),
        Function::Tan => call.map(f64::tan),
        Function::Tanh => call.map(f64::tanh),
        Function::Pi => Ok(Val::Scalar(std::f64::consts::PI)),
        Function::Time => Ok(Val::Scalar(context.wall_secs(at))),
        Function::Timestamp => timestamp(&call),
        Function::Clamp => clamp(&call),
        Function::ClampMax => {
            let most = call.scalar(1)?;
            call.map(|value| go_min(value, most))
        }
        Function::ClampMin => {
            let least = call.scalar(1)?;
            call.map(|value| go_max(value, least))
        }
        Function::Round => {
            let nearest = if arguments.len() > 1 { call.scalar(1)? } else { 1.0 };
            // Prometheus multiplies by the inverse: it rounds off what division would lose.
            let inverse = 1.0 / nearest;
            call.map(|value| (value * inverse + 0.5).floor() / inverse)
        }
        Function::Scalar => {
            let samples = call.vector(0)?;
            let single = if let [sample] = samples.as_slice() { sample.value } else { f64::NAN };
            Ok(Val::Scalar(single))
        }
        Function::Vector => Ok(Val::Vector(vec![Sample::bare(Labels::default(), call.scalar(0)?)])),
        Function::Sort | Function::SortDesc => {
            let descending = function == Function::SortDesc;
            let mut samples = call.vector(0)?;
            samples.sort_by(|a, b| nan_last(a.value, b.value, descending).then_with(|| a.labels.cmp(&b.labels)));
            Ok(Val::Vector(samples))
        }
        Function::Absent => Ok(Val::Vector(absent(call.node(0)?, call.vector(0)?.is_empty()))),
        Function::AbsentOverTime => {
            let ranges = ranges::of(context, call.node(0)?, at)?;
            Ok(Val::Vector(absent(call.node(0)?, ranges.series.is_empty())))
        }
        Function::HistogramQuantile => {
            let q = call.quantile(0)?;
            Ok(Val::Vector(histogram::histogram_quantile(context, q, call.vector(1)?)))
        }
        Function::HistogramFraction => {
            let (lower, upper) = (call.scalar(0)?, call.scalar(1)?);
            Ok(Val::Vector(histogram::histogram_fraction(context, lower, upper, call.vector(2)?)))
        }
        Function::LabelReplace => {
            let (target, replacement) = (call.text(1)?, call.text(2)?);
            let (source, pattern) = (call.text(3)?, call.text(4)?);
            labelled::replace(call.vector(0)?, &target, &replacement, &source, &pattern).map(Val::Vector)
        }
        Function::LabelJoin => {
            let (target, separator) = (call.text(1)?, call.text(2)?);
            let sources = (3..arguments.len()).map(|place| call.text(place)).collect::<Result<Vec<_>, _>>()?;
            labelled::join(call.vector(0)?, &target, &separator, &sources).map(Val::Vector)
        }
        Function::DayOfMonth => call.calendar(|date| f64::from(date.day)),
        Function::DayOfWeek => call.calendar(|date| f64::from(date.weekday)),
        Function::DayOfYear => call.calendar(|date| f64::from(date.yearday)),
        Function::DaysInMonth => call.calendar(|date| f64::from(date.days_in_month)),
        Function::Hour => call.calendar(|date| f64::from(date.hour)),
        Function::Minute => call.calendar(|date| f64::from(date.minute)),
        Function::Month => call.calendar(|date| f64::from(date.month)),
        Function::Year => call.calendar(Date::year_f64),
        Function::PredictLinear => {
            let ahead = call.scalar(1)?;
            ranges::predict_linear(context, call.node(0)?, at, ahead).map(Val::Vector)
        }
        Function::QuantileOverTime => {
            let q = call.quantile(0)?;
            call.over_values(1, |values| quantile(q, values))
        }
        Function::AvgOverTime => call.over_values(0, |values| mean(values)),
        Function::Changes => call.over_values(0, ranges::changes),
        Function::CountOverTime => call.over(ranges::how_many),
        Function::Delta => call.over(ranges::delta),
        Function::Deriv => call.over(ranges::deriv),
        Function::Idelta => call.over(ranges::idelta),
        Function::Increase => call.over_counters(ranges::increase),
        Function::Irate => call.over(ranges::irate),
        Function::MaxOverTime => call.over_values(0, |values| greatest(values)),
        Function::MinOverTime => call.over_values(0, |values| least(values)),
        Function::PresentOverTime => call.over(ranges::present),
        Function::Rate => call.over_counters(ranges::rate),
        Function::Resets => call.over_values(0, ranges::resets),
        Function::StddevOverTime => call.over_values(0, |values| variance(values).sqrt()),
        Function::StdvarOverTime => call.over_values(0, |values| variance(values)),
        Function::SumOverTime => call.over_values(0, |values| sum(values)),
        Function::FirstOverTime => ranges::each(context, call.node(0)?, at, true, ranges::first).map(Val::Vector),
        Function::LastOverTime => ranges::each(context, call.node(0)?, at, true, ranges::last).map(Val::Vector),
    }
}

/// Of a plain selector the instants of the samples, else the instant of the evaluation.
fn timestamp(call: &Call<'_>) -> Result<Val, EvalError> {
    let context = call.context;
    let Node::Instant { selector, when } = call.node(0)? else {
        let now = context.wall_secs(call.at);
        return call.map(|_| now);
    };
    let mut samples = Vec::new();
    context.points(selector, *when, call.at, |series, point| {
        samples.push(Sample::bare(series.labels.clone(), 0.0).turned(context.wall_secs(point.at)));
    });
    Ok(Val::Vector(samples))
}

fn clamp(call: &Call<'_>) -> Result<Val, EvalError> {
    let (least, most) = (call.scalar(1)?, call.scalar(2)?);
    if most < least {
        return Ok(Val::Vector(Vec::new()));
    }
    call.map(|value| go_max(least, go_min(most, value)))
}

/// Unlike `f64::min`, NaN if either is.
fn go_min(a: f64, b: f64) -> f64 {
    if a.is_nan() || b.is_nan() { f64::NAN } else { a.min(b) }
}

fn go_max(a: f64, b: f64) -> f64 {
    if a.is_nan() || b.is_nan() { f64::NAN } else { a.max(b) }
}

fn absent(of: &Node, is_empty: bool) -> Vec<Sample> {
    if !is_empty {
        return Vec::new();
    }
    let labels = match of {
        Node::Instant { selector, .. } => selector.fixed_labels(),
        Node::Range(range) => range.selector.fixed_labels(),
        Node::Number(_)
        | Node::Text(_)
        | Node::Subquery(_)
        | Node::Negate(_)
        | Node::Binary(_)
        | Node::Aggregate(_)
        | Node::Call { .. }
        | Node::Ratio(_)
        | Node::Increase { .. }
        | Node::Quantile(_)
        | Node::BurnRate(_)
        | Node::Streak { .. } => Labels::default(),
    };
    vec![Sample::bare(labels, 1.0)]
}
