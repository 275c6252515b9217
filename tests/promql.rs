//! Prometheus's own tests of expressions, over the real store and evaluator.
//!
//! The test data belongs to the Prometheus project and is not part of this repository: its folder is taken from
//! `BACKSTOP_CONFORMANCE`, and without it the test says that it was skipped. Every file has a pinned number of
//! evaluations that pass; fewer is a failure.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use backstop::promql::{
    Batch, Expr, Instant, Labels, LocalId, Scope, ServiceId, Store, TargetId, TargetMeta, Value, evaluate,
};
use backstop::time::Timestamp;

/// What passes in each file; raise it when more does. Nothing fails: what is not evaluated is refused by name.
const PASSING: &[(&str, usize)] = &[
    ("aggregators.test", 126),
    ("at_modifier.test", 2),
    ("extended_vectors.test", 37),
    ("functions.test", 245),
    ("histograms.test", 58),
    ("literals.test", 20),
    ("selectors.test", 31),
    ("staleness.test", 17),
];

const SERVICE: ServiceId = ServiceId(0);
const TARGET: TargetId = TargetId(0);

#[test]
fn prometheus_own_tests_pass_as_far_as_pinned() {
    let root = std::env::var_os("BACKSTOP_CONFORMANCE")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../shared/conformance"), PathBuf::from);
    let folder = root.join("promql");
    if !folder.is_dir() {
        assert!(std::env::var("CI").as_deref() != Ok("true"), "no conformance data at {}", folder.display());
        eprintln!("skipped: no conformance data at {}", folder.display());
        return;
    }
    let mut regressions = Vec::new();
    for (file, pinned) in PASSING {
        let text = std::fs::read(folder.join(file)).expect("a conformance file can be read");
        let tally = run(file, &String::from_utf8_lossy(&text));
        println!("{file}: {} passed, {} failed, {} skipped", tally.passed, tally.failures.len(), tally.skipped);
        for (reason, times) in &tally.skips {
            println!("    skipped {times}: {reason}");
        }
        for failure in &tally.failures {
            println!("    FAILED {failure}");
        }
        if tally.passed < *pinned {
            regressions.push(format!("{file}: {} passed, {pinned} are pinned", tally.passed));
        }
        regressions.extend(tally.failures);
    }
    assert!(regressions.is_empty(), "{}", regressions.join("\n"));
}

#[derive(Default)]
struct Tally {
    passed: usize,
    skipped: usize,
    skips: BTreeMap<String, usize>,
    failures: Vec<String>,
}

/// All that has been loaded since the last `clear`.
#[derive(Default)]
struct Loaded {
    /// `None` is a staleness marker.
    series: BTreeMap<Labels, BTreeMap<i64, Option<f64>>>,
    native: Vec<Labels>,
    interval: Option<Duration>,
    store: Option<Store>,
}

/// One `eval` with the lines that belong to it.
struct Eval<'a> {
    line: usize,
    head: &'a str,
    body: Vec<&'a str>,
}

fn run(file: &str, text: &str) -> Tally {
    let mut tally = Tally::default();
    let mut loaded = Loaded::default();
    let mut lines = text.lines().enumerate().peekable();
    while let Some((number, line)) = lines.next() {
        let trimmed = line.trim();
        if trimmed.is_empty() || trimmed.starts_with('#') {
            continue;
        }
        let mut body = Vec::new();
        while let Some((_, next)) = lines.peek() {
            let is_comment = next.trim_start().starts_with('#');
            if !next.starts_with([' ', '\t']) && !is_comment || next.trim().is_empty() {
                break;
            }
            if !is_comment {
                body.push(next.trim());
            }
            lines.next();
        }
        if trimmed == "clear" {
            loaded = Loaded::default();
        } else if let Some(step) = trimmed.strip_prefix("load ") {
            loaded.load(duration(step.trim()), &body);
        } else if let Some(step) = trimmed.strip_prefix("load_with_nhcb ") {
            loaded.load(duration(step.trim()), &body);
            loaded.note_converted(&body);
        } else if let Some(head) = trimmed.strip_prefix("eval_fail ") {
            body.push("expect fail");
            judge(&mut tally, &mut loaded, &Eval { line: number + 1, head, body }, file);
        } else if let Some(head) = trimmed.strip_prefix("eval ") {
            judge(&mut tally, &mut loaded, &Eval { line: number + 1, head, body }, file);
        } else {
            panic!("{file}:{}: unknown command: {trimmed}", number + 1);
        }
    }
    tally
}

fn judge(tally: &mut Tally, loaded: &mut Loaded, eval: &Eval<'_>, file: &str) {
    match check(loaded, eval) {
        Outcome::Passed => tally.passed += 1,
        Outcome::Skipped(reason) => {
            tally.skipped += 1;
            *tally.skips.entry(reason).or_default() += 1;
        }
        Outcome::Failed(why) => tally.failures.push(format!("{file}:{} {}\n        {why}", eval.line, eval.head)),
    }
}

enum Outcome {
    Passed,
    Skipped(String),
    Failed(String),
}

/// When an expression is evaluated: once, or from, to, in steps.
struct Times {
    instants: Vec<i64>,
    is_range: bool,
}

fn check(loaded: &mut Loaded, eval: &Eval<'_>) -> Outcome {
    let (times, text) = times_of(eval.head);
    let expects_failure = eval.body.iter().any(|line| line.starts_with("expect fail"));
    let expected: Vec<&str> = eval.body.iter().copied().filter(|line| !line.starts_with("expect ")).collect();
    if eval.body.iter().any(|line| line.starts_with("expect string")) {
        return Outcome::Skipped("a string is not a value to backstop".to_owned());
    }
    let expr = match Expr::parse(text) {
        Ok(expr) => expr,
        Err(_) if expects_failure => return Outcome::Passed,
        Err(error) => {
            let deliberate = ["experimental", "native histograms", "fixed time", "range of samples"];
            return if deliberate.iter().any(|word| error.message.contains(word)) {
                Outcome::Skipped(error.message)
            } else {
                Outcome::Failed(format!("refused: {}", error.message))
            };
        }
    };
    if expected.iter().any(|line| line.contains("{{"))
        || loaded.native.iter().any(|labels| expr.selectors().iter().any(|selector| selector.matches(labels)))
    {
        return Outcome::Skipped("native histograms".to_owned());
    }
    let ordered = eval.body.contains(&"expect ordered");
    let outcome = compare(loaded.store(), &expr, &times, &expected, expects_failure, ordered);
    if let (Outcome::Passed, [at], false) = (&outcome, times.instants.as_slice(), expects_failure)
        && !text.contains("offset -")
    {
        // Once more over a store that keeps only what this expression needs, as the daemon's does.
        let lean = loaded.store_until(*at, &[&expr]);
        return match compare(&lean, &expr, &times, &expected, false, ordered) {
            Outcome::Failed(why) => Outcome::Failed(format!("with lean retention: {why}")),
            other => other,
        };
    }
    outcome
}

fn times_of(head: &str) -> (Times, &str) {
    if let Some(rest) = head.strip_prefix("instant at ") {
        let (at, text) = rest.split_once(char::is_whitespace).expect("eval instant at T EXPR");
        return (Times { instants: vec![duration(at)], is_range: false }, text.trim());
    }
    let rest = head.strip_prefix("range from ").expect("eval instant or range");
    let mut words = rest.splitn(6, char::is_whitespace);
    let mut next = || words.next().expect("from A to B step S EXPR");
    let (from, _, to, _, step, text) = (next(), next(), next(), next(), next(), next());
    let (from, to, step) = (duration(from), duration(to), duration(step));
    let step_by = usize::try_from(step).expect("a positive step");
    (Times { instants: (from..=to).step_by(step_by).collect(), is_range: true }, text.trim())
}

fn compare(
    store: &Store,
    expr: &Expr,
    times: &Times,
    expected: &[&str],
    expects_failure: bool,
    ordered: bool,
) -> Outcome {
    let mut answers: BTreeMap<Labels, Vec<Option<f64>>> = BTreeMap::new();
    let mut order = Vec::new();
    for (place, at) in times.instants.iter().enumerate() {
        let instant = Instant { at: Timestamp::from_millis(*at), wall_offset_ms: 0 };
        let evaluation = match evaluate(expr, store, SERVICE, instant) {
            Ok(_) if expects_failure && place + 1 == times.instants.len() => {
                return Outcome::Failed("should have failed".to_owned());
            }
            Ok(evaluation) => evaluation,
            Err(_) if expects_failure => return Outcome::Passed,
            Err(error) => return Outcome::Failed(error.to_string()),
        };
        let rows = match evaluation.value {
            Value::Scalar(number) => vec![(Labels::default(), number)],
            Value::Vector(rows) => rows,
        };
        for (labels, value) in rows {
            order.push(labels.clone());
            answers.entry(labels).or_insert_with(|| vec![None; times.instants.len()])[place] = Some(value);
        }
    }
    let mut wanted: BTreeMap<Labels, Vec<Option<f64>>> = BTreeMap::new();
    let mut wanted_order = Vec::new();
    for line in expected {
        let (labels, values) = series(line);
        let mut values: Vec<Option<f64>> = sequence(values)
            .into_iter()
            .map(|slot| match slot {
                Slot::Value(value) => Some(value),
                Slot::Gap | Slot::Stale => None,
            })
            .collect();
        values.resize(times.instants.len(), None);
        wanted_order.push(labels.clone());
        wanted.insert(labels, values);
    }
    let same = answers.len() == wanted.len()
        && answers
            .iter()
            .zip(&wanted)
            .all(|(have, want)| have.0 == want.0 && have.1.iter().zip(want.1).all(|(have, want)| near(*have, *want)));
    if !same {
        return Outcome::Failed(format!("got {}, wanted {}", show(&answers), show(&wanted)));
    }
    if ordered && !times.is_range && order != wanted_order {
        return Outcome::Failed("right values in another order".to_owned());
    }
    Outcome::Passed
}

fn show(rows: &BTreeMap<Labels, Vec<Option<f64>>>) -> String {
    let rows: Vec<String> = rows.iter().map(|(labels, values)| format!("{labels} {values:?}")).collect();
    format!("[{}]", rows.join(", "))
}

fn near(have: Option<f64>, want: Option<f64>) -> bool {
    match (have, want) {
        (None, None) => true,
        (Some(have), Some(want)) => {
            have.is_nan() && want.is_nan()
                || have.to_bits() == want.to_bits()
                || have.abs() + want.abs() < f64::MIN_POSITIVE
                || (have - want).abs() / (have.abs() + want.abs()) < 1e-6
        }
        (Some(_), None) | (None, Some(_)) => false,
    }
}

impl Loaded {
    fn load(&mut self, step: i64, lines: &[&str]) {
        let interval = Duration::from_millis(u64::try_from(step).expect("a positive step"));
        self.interval = Some(self.interval.map_or(interval, |before| before.min(interval)));
        self.store = None;
        for line in lines {
            let (labels, values) = series(line);
            if values.contains("{{") {
                self.native.push(labels);
                continue;
            }
            let points = self.series.entry(labels).or_default();
            let mut at = 0;
            for point in sequence(values) {
                match point {
                    Slot::Gap => {}
                    Slot::Stale => {
                        points.insert(at, None);
                    }
                    Slot::Value(value) => {
                        points.insert(at, Some(value));
                    }
                }
                at += step;
            }
        }
    }

    /// Prometheus makes a native histogram of each classic one here, under the bare name; we do not.
    fn note_converted(&mut self, lines: &[&str]) {
        for line in lines {
            let (labels, _) = series(line);
            let Some(name) = labels.name().strip_suffix("_bucket") else { continue };
            let others = labels.iter().filter(|(label, _)| !matches!(*label, "le" | "__name__"));
            let native = Labels::from_pairs(others.chain([("__name__", name)]).collect::<Vec<_>>());
            if !self.native.contains(&native) {
                self.native.push(native);
            }
        }
    }

    fn store(&mut self) -> &Store {
        if self.store.is_none() {
            let everything =
                Expr::parse("count_over_time({__name__=~\".*\", __name__!=\"\"}[90y])").expect("it is PromQL");
            self.store = Some(self.store_until(i64::MAX, &[&everything]));
        }
        self.store.as_ref().expect("it was made above")
    }

    /// The store as it is when everything up to an instant was scraped.
    fn store_until(&self, until: i64, exprs: &[&Expr]) -> Store {
        let mut store = Store::new(exprs.iter().copied());
        let meta = TargetMeta {
            scope: Scope::Service(SERVICE),
            source: Arc::from("conformance"),
            labels: Labels::default(),
            interval: self.interval.unwrap_or(Duration::from_mins(5)),
        };
        store.attach(TARGET, meta);
        let all: Vec<(&Labels, &BTreeMap<i64, Option<f64>>)> = self.series.iter().collect();
        let instants: BTreeSet<i64> =
            all.iter().flat_map(|(_, points)| points.keys().copied()).filter(|at| *at <= until).collect();
        let mut live = vec![false; all.len()];
        for at in instants {
            let mut batch = Batch::default();
            for (place, (labels, points)) in all.iter().enumerate() {
                let local = LocalId(u32::try_from(place).expect("few series"));
                match points.get(&at) {
                    Some(Some(value)) => {
                        if !live[place] {
                            batch.born.push((local, (*labels).clone()));
                            live[place] = true;
                        }
                        batch.samples.push((local, *value));
                    }
                    Some(None) => {
                        batch.vanished.push(local);
                        live[place] = false;
                    }
                    None => {}
                }
            }
            store.push(TARGET, Timestamp::from_millis(at), &batch);
        }
        store
    }
}

/// Milliseconds of a duration such as `5m`, `1m30s`, `-10s`, or of plain seconds.
fn duration(text: &str) -> i64 {
    let (sign, text) = text.strip_prefix('-').map_or((1, text), |rest| (-1, rest));
    if let Ok(seconds) = text.parse::<f64>() {
        #[expect(clippy::cast_possible_truncation, reason = "seconds of a test file")]
        return sign * (seconds * 1000.0).round() as i64;
    }
    // The parser's crate knows no empty duration.
    if text.trim_end_matches(|c: char| c.is_ascii_alphabetic()) == "0" {
        return 0;
    }
    sign * i64::try_from(promql_parser::util::parse_duration(text).expect("a duration").as_millis()).expect("it fits")
}

/// A line of series and values, cut between them.
fn series(line: &str) -> (Labels, &str) {
    let mut quoted = None;
    let mut escaped = false;
    let mut in_braces = false;
    let mut end = line.len();
    for (at, c) in line.char_indices() {
        match (quoted, c) {
            (Some(_), _) if escaped => escaped = false,
            (Some(_), '\\') => escaped = true,
            (Some(open), _) if c == open => quoted = None,
            (None, '"' | '\'' | '`') => quoted = Some(c),
            (None, '{') => in_braces = true,
            (None, '}') => {
                end = at + 1;
                break;
            }
            (None, ' ' | '\t') if !in_braces => {
                end = at;
                break;
            }
            (Some(_) | None, _) => {}
        }
    }
    let name = &line[..end];
    if !name.contains('{') && name.starts_with(|c: char| c.is_ascii_digit() || matches!(c, '+' | '-' | '.' | 'N' | 'I'))
    {
        return (Labels::default(), line);
    }
    let empty = name.trim_end_matches(|c: char| c == '}' || c.is_whitespace()).trim_end_matches('{').is_empty();
    if empty {
        return (Labels::default(), line[end..].trim());
    }
    let tree = promql_parser::parser::parse(name).unwrap_or_else(|error| panic!("{line}: {error}"));
    let promql_parser::parser::Expr::VectorSelector(vector) = tree else { panic!("{line}: not a series") };
    let metric = vector.name.iter().map(|name| ("__name__".to_owned(), name.clone()));
    let labels = vector.matchers.matchers.iter().map(|matcher| (matcher.name.clone(), matcher.value.clone()));
    (Labels::from_pairs(metric.chain(labels).collect::<Vec<_>>()), line[end..].trim())
}

/// A place in a sequence of points.
#[derive(Clone, Copy)]
enum Slot {
    Gap,
    Stale,
    Value(f64),
}

/// `1+2x3`, `_x4`, `stale` and plain numbers.
fn sequence(text: &str) -> Vec<Slot> {
    let mut points = Vec::new();
    for word in text.split_whitespace() {
        let (word, times) = match word.rsplit_once('x') {
            Some((word, times)) if !times.is_empty() && times.bytes().all(|byte| byte.is_ascii_digit()) => {
                (word, Some(times.parse::<usize>().expect("a count")))
            }
            Some(_) | None => (word, None),
        };
        match word {
            "_" => points.extend(std::iter::repeat_n(Slot::Gap, times.unwrap_or(1))),
            "stale" => points.extend(std::iter::repeat_n(Slot::Stale, times.map_or(1, |times| times + 1))),
            number => {
                let cut =
                    number[1..].find(['+', '-']).map(|at| at + 1).filter(|at| !number[..*at].ends_with(['e', 'E']));
                let (start, step) = match (times, cut) {
                    (Some(_), Some(cut)) => (parse_number(&number[..cut]), parse_number(&number[cut..])),
                    (Some(_) | None, _) => (parse_number(number), 0.0),
                };
                let mut value = start;
                for _ in 0..=times.unwrap_or(0) {
                    points.push(Slot::Value(value));
                    value += step;
                }
            }
        }
    }
    points
}

fn parse_number(text: &str) -> f64 {
    text.parse().unwrap_or_else(|_| panic!("not a number: {text}"))
}
