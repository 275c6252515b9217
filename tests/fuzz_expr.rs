//! Random expressions over random windows: nothing may panic, what is written down must mean the same when it is read
//! again, an answer must not depend on who else asks, and a text that is refused must be refused with a place inside it.
//!
//! `FUZZ_MINUTES=60 cargo test --release --test fuzz_expr -- --nocapture` runs on all cores (`FUZZ_CORES`) and prints how
//! many expressions it tried; without it, a few thousand. `FUZZ_SEED=7` tries one again and shows it.

mod fuzz;

use std::sync::Arc;
use std::time::Duration;

use backstop::promql::{
    Batch, Expr, Instant, Labels, LocalId, Scope, ServiceId, Store, TargetId, TargetMeta, evaluate,
};
use backstop::time::Timestamp;
use fuzz::Random;

/// Without an order to go on: what every run of the tests can afford.
const EXPRESSIONS_BY_DEFAULT: u64 = 2_000;
const API: ServiceId = ServiceId(1);
const EVERY: Duration = Duration::from_secs(15);
const SCRAPES: i64 = 50;
/// Deeper nesting says nothing new, and costs its square.
const DEPTH_MAX: usize = 4;

const NAMES: [&str; 5] = ["c_total", "g", "h_bucket", "other_total", "never"];
const MATCHERS: [&str; 8] =
    ["a=\"1\"", "a!=\"1\"", "a=~\"1|2\"", "a!~\".*2\"", "le=\"+Inf\"", "b=\"\"", "instance=~\"x.\"", "b=~\"\\\\d+\""];
const LABELS: [&str; 4] = ["a", "b", "le", "instance"];
const RANGES: [&str; 5] = ["15s", "1m", "2m30s", "5m", "10m"];
const NUMBERS: [&str; 9] = ["0", "1", "-1", "0.5", "1e3", "+Inf", "NaN", "0x1f", "100"];
const OF_VECTOR: [&str; 24] = [
    "abs",
    "absent",
    "acos",
    "asinh",
    "ceil",
    "cos",
    "deg",
    "exp",
    "floor",
    "ln",
    "log10",
    "log2",
    "sgn",
    "sin",
    "sort",
    "sort_desc",
    "sqrt",
    "tanh",
    "timestamp",
    "day_of_week",
    "days_in_month",
    "hour",
    "month",
    "year",
];
const OF_RANGE: [&str; 22] = [
    "rate",
    "increase",
    "delta",
    "irate",
    "idelta",
    "deriv",
    "changes",
    "resets",
    "avg_over_time",
    "min_over_time",
    "max_over_time",
    "sum_over_time",
    "count_over_time",
    "stddev_over_time",
    "stdvar_over_time",
    "last_over_time",
    "present_over_time",
    "absent_over_time",
    "first_over_time",
    "rate",
    "increase",
    "rate",
];
const AGGREGATIONS: [&str; 8] = ["sum", "avg", "min", "max", "count", "stddev", "stdvar", "group"];
const OPERATORS: [&str; 13] = ["+", "-", "*", "/", "%", "^", "atan2", "==", "!=", ">", "<=", "== bool", "> bool"];
const SETS: [&str; 3] = ["and", "or", "unless"];
/// What a text is damaged with.
const SPLINTERS: [&str; 16] =
    ["(", ")", "{", "}", "[", "]", "[5m:", ",", "\"", "'", "offset", "@", "by", "é", "\\", "rate("];

fn selector(random: &mut Random) -> String {
    let mut text = random.of(&NAMES).to_owned();
    if random.once_in(2) {
        text = format!("{text}{{{}}}", random.of(&MATCHERS));
    }
    text
}

fn when(random: &mut Random) -> String {
    match random.below(8) {
        0 => format!(" offset {}", random.of(&RANGES)),
        1 => format!(" offset -{}", random.of(&RANGES)),
        2 => " @ end()".to_owned(),
        _ => String::new(),
    }
}

fn range(random: &mut Random, depth: usize) -> String {
    if depth < DEPTH_MAX && random.once_in(4) {
        let step = if random.once_in(2) { "30s" } else { "1m" };
        return format!("({})[{}:{step}]{}", vector(random, depth + 1), random.of(&RANGES), when(random));
    }
    format!("{}[{}]{}", selector(random), random.of(&RANGES), when(random))
}

fn scalar(random: &mut Random, depth: usize) -> String {
    match random.below(6) {
        0 if depth < DEPTH_MAX => format!("scalar({})", vector(random, depth + 1)),
        1 => "time()".to_owned(),
        2 => "pi()".to_owned(),
        _ => random.of(&NUMBERS).to_owned(),
    }
}

fn grouping(random: &mut Random) -> String {
    match random.below(4) {
        0 => format!("by ({})", random.of(&LABELS)),
        1 => format!("without ({}, {})", random.of(&LABELS), random.of(&LABELS)),
        2 => "by ()".to_owned(),
        _ => String::new(),
    }
}

fn matching(random: &mut Random) -> String {
    let labels = match random.below(4) {
        0 => format!("on ({})", random.of(&LABELS)),
        1 => format!("ignoring ({}, {})", random.of(&LABELS), random.of(&LABELS)),
        2 => "on ()".to_owned(),
        _ => return String::new(),
    };
    match random.below(4) {
        0 => format!("{labels} group_left ({})", random.of(&LABELS)),
        1 => format!("{labels} group_right"),
        _ => labels,
    }
}

fn vector(random: &mut Random, depth: usize) -> String {
    if depth >= DEPTH_MAX {
        return format!("{}{}", selector(random), when(random));
    }
    let deeper = depth + 1;
    match random.below(13) {
        0 | 1 => format!("{}{}", selector(random), when(random)),
        2 => format!("{}({})", random.of(&OF_VECTOR), vector(random, deeper)),
        3 | 4 => format!("{}({})", random.of(&OF_RANGE), range(random, deeper)),
        5 => format!("{} {} ({})", random.of(&AGGREGATIONS), grouping(random), vector(random, deeper)),
        6 => {
            let ranked = random.of(&["topk", "bottomk", "quantile"]);
            format!("{ranked} {} ({}, {})", grouping(random), scalar(random, deeper), vector(random, deeper))
        }
        7 => {
            let operator = random.of(&OPERATORS);
            format!("({}) {operator} {} ({})", vector(random, deeper), matching(random), vector(random, deeper))
        }
        8 => format!("({}) {} ({})", vector(random, deeper), random.of(&OPERATORS), scalar(random, deeper)),
        9 => format!("({}) {} ({})", vector(random, deeper), random.of(&SETS), vector(random, deeper)),
        10 => format!("histogram_quantile({}, {})", scalar(random, deeper), vector(random, deeper)),
        11 => match random.below(5) {
            0 => format!("predict_linear({}, {})", range(random, deeper), scalar(random, deeper)),
            1 => format!("quantile_over_time({}, {})", scalar(random, deeper), range(random, deeper)),
            2 => format!("label_replace({}, \"b\", \"$1\", \"a\", \"(.*)\")", vector(random, deeper)),
            3 => format!("label_join({}, \"b\", \"-\", \"a\", \"le\")", vector(random, deeper)),
            _ => format!("clamp({}, {}, {})", vector(random, deeper), scalar(random, deeper), scalar(random, deeper)),
        },
        _ => format!("-({})", vector(random, deeper)),
    }
}

/// Now and then one that is no expression.
fn text(random: &mut Random) -> String {
    let mut text = vector(random, 0);
    if random.once_in(3) {
        for _ in 0..=random.below(3) {
            let places: Vec<usize> = text.char_indices().map(|(place, _)| place).collect();
            let Some(place) = places.get(random.below(places.len().max(1))).copied() else { break };
            if random.once_in(2) {
                text.insert_str(place, random.of(&SPLINTERS));
            } else {
                text.remove(place);
            }
        }
    }
    text
}

/// All series of two targets: what each shows, in each scrape, whoever asks.
struct World {
    series: Vec<Vec<(Labels, Vec<Option<f64>>)>>,
    failed: Vec<Vec<bool>>,
}

fn value(random: &mut Random, before: Option<f64>, is_counter: bool) -> Option<f64> {
    match random.below(25) {
        0 => None,
        1 if !is_counter => Some(f64::NAN),
        2 if !is_counter => Some(f64::INFINITY),
        3 => Some(0.0),
        _ => {
            let step = f64::from(u32::try_from(random.below(50)).expect("small"));
            Some(if is_counter { before.unwrap_or(0.0) + step } else { step - 20.0 })
        }
    }
}

fn world(random: &mut Random) -> World {
    let mut labels = Vec::new();
    for (name, extra) in [
        ("c_total", vec![("a", "1")]),
        ("c_total", vec![("a", "2"), ("b", "7")]),
        ("g", vec![("a", "1")]),
        ("g", vec![("a", "3"), ("b", "x")]),
        ("h_bucket", vec![("a", "1"), ("le", "0.1")]),
        ("h_bucket", vec![("a", "1"), ("le", "1")]),
        ("h_bucket", vec![("a", "1"), ("le", "+Inf")]),
        ("other_total", vec![]),
    ] {
        labels.push((name, extra));
    }
    let series = ["xa", "xb"].map(|instance| {
        labels
            .iter()
            .map(|(name, extra)| {
                let pairs = extra.iter().copied().chain([("__name__", *name), ("instance", instance)]);
                let mut before = None;
                let values = (0..SCRAPES).map(|_| {
                    let value = value(random, before, name.ends_with("_total") || name.ends_with("_bucket"));
                    before = value.or(before);
                    value
                });
                let values = values.collect();
                (Labels::from_pairs(pairs), values)
            })
            .collect()
    });
    let failed = (0..2).map(|_| (0..SCRAPES).map(|_| random.once_in(20)).collect()).collect();
    World { series: series.into(), failed }
}

/// A store that keeps what these ask for, and has seen the world.
fn store(world: &World, asked: &[Expr]) -> Store {
    let mut store = Store::new(asked);
    for (target, series) in world.series.iter().enumerate() {
        let id = TargetId(u32::try_from(target).expect("two"));
        let labels = Labels::from_pairs([("instance", ["xa", "xb"][target])]);
        store.attach(id, TargetMeta { scope: Scope::Service(API), source: Arc::from("app"), labels, interval: EVERY });
        let mut shown = vec![false; series.len()];
        for scrape in 0..SCRAPES {
            let place = usize::try_from(scrape).expect("few");
            let at = Timestamp::from_millis((scrape + 1) * 15_000 + i64::from(id.0) * 700);
            if world.failed[target][place] {
                store.fail(id, at);
                continue;
            }
            let mut batch = Batch::default();
            for (local, (labels, values)) in (0..).map(LocalId).zip(series) {
                let was_shown = &mut shown[local.0 as usize];
                match values[place] {
                    Some(value) => {
                        if !std::mem::replace(was_shown, true) {
                            batch.born.push((local, labels.clone()));
                        }
                        batch.samples.push((local, value));
                    }
                    None if std::mem::take(was_shown) => batch.vanished.push(local),
                    None => {}
                }
            }
            store.push(id, at, &batch);
        }
    }
    store
}

fn try_one(seed: u64) {
    let mut random = Random(seed);
    let text = text(&mut random);
    let expr = match Expr::parse(&text) {
        Ok(expr) => expr,
        Err(error) => {
            let is_inside = error.span.as_ref().is_none_or(|span| {
                span.start <= span.end && text.is_char_boundary(span.start) && text.is_char_boundary(span.end)
            });
            assert!(is_inside, "{text}: {error:?}");
            assert!(!error.message.is_empty(), "{text}");
            return;
        }
    };
    let written = expr.to_string();
    let again = Expr::parse(&written).unwrap_or_else(|error| panic!("{text} is written as {written}: {error}"));
    assert_eq!(again.to_string(), written, "{text}");

    let world = world(&mut random);
    let alone = store(&world, std::slice::from_ref(&expr));
    let everything =
        Expr::parse("count_over_time({__name__=~\".+\"}[1d]) + sum(never offset -1d)").expect("it reads all");
    let beside = store(&world, &[everything, expr.clone()]);
    // Now, and a little later, as triggers are asked: never about the past.
    for after in [700, 5_000, 40_000] {
        let instant =
            Instant { at: Timestamp::from_millis(SCRAPES * 15_000 + after), wall_offset_ms: 1_700_000_000_000 };
        let told = |store: &Store, expr: &Expr| match evaluate(expr, store, API, instant) {
            Ok(evaluation) => format!("{:?}", evaluation.value),
            Err(error) => format!("{error:?}"),
        };
        let value = told(&alone, &expr);
        assert_eq!(value, told(&alone, &expr), "{text} at {after}: twice the same");
        assert_eq!(value, told(&alone, &again), "{text} at {after}, and as it is written");
        assert_eq!(value, told(&beside, &expr), "{text} at {after}: another one asks too");
    }
}

#[test]
fn expressions_mean_the_same_however_they_are_asked() {
    if let Some(seed) = fuzz::setting("FUZZ_SEED") {
        println!("{}", text(&mut Random(seed)));
    }
    fuzz::drive("fuzz_expr", EXPRESSIONS_BY_DEFAULT, try_one);
}

/// A fuzzer whose expressions are all refused, or all empty, tests little.
#[test]
fn the_expressions_are_of_all_kinds() {
    let (mut refused, mut empty, mut full) = (0, 0, 0);
    for seed in 0..1000 {
        let mut random = Random(seed);
        let Ok(expr) = Expr::parse(&text(&mut random)) else {
            refused += 1;
            continue;
        };
        let store = store(&world(&mut random), std::slice::from_ref(&expr));
        let at = Timestamp::from_millis(SCRAPES * 15_000 + 700);
        let evaluated = evaluate(&expr, &store, API, Instant { at, wall_offset_ms: 0 });
        match evaluated.map(|evaluation| evaluation.value) {
            Ok(backstop::promql::Value::Vector(samples)) if !samples.is_empty() => full += 1,
            Ok(_) | Err(_) => empty += 1,
        }
    }
    assert!(refused > 100 && empty > 100 && full > 100, "{refused} refused, {empty} empty, {full} full");
}
