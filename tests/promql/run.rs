//! One script over the real store and evaluator.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use backstop::promql::{
    Annotation, Batch, Expr, Instant, Labels, LocalId, Scope, ServiceId, Store, TargetId, TargetMeta, Value, evaluate,
};
use backstop::time::Timestamp;

use crate::script::{self, Annotations, Eval, Expected, Load, Slot, What};

const SERVICE: ServiceId = ServiceId(0);
const TARGET: TargetId = TargetId(0);

#[derive(Default)]
pub struct Tally {
    pub passed: usize,
    pub skipped: usize,
    /// How often each reason occurred.
    pub skips: BTreeMap<String, usize>,
    pub failures: Vec<String>,
}

pub fn run(file: &str, text: &str) -> Tally {
    let mut tally = Tally::default();
    let mut loaded = Loaded::default();
    let commands = script::parse(text).unwrap_or_else(|error| panic!("{file}: {error}"));
    for command in &commands {
        match &command.what {
            What::Clear => loaded = Loaded::default(),
            What::Load(load) => loaded.load(load),
            What::Eval(eval) => match check(&mut loaded, eval) {
                Outcome::Passed => tally.passed += 1,
                Outcome::Skipped(reason) => {
                    if std::env::var_os("BACKSTOP_SHOW_SKIPPED").is_some() {
                        println!("    skipped {file}:{} {} ({reason})", command.line, eval.text);
                    }
                    tally.skipped += 1;
                    *tally.skips.entry(reason).or_default() += 1;
                }
                Outcome::Failed(why) => {
                    tally.failures.push(format!("{file}:{} {}\n        {why}", command.line, eval.text));
                }
            },
        }
    }
    tally
}

enum Outcome {
    Passed,
    Skipped(String),
    Failed(String),
}

/// What is refused by name on purpose: these words are in the refusals.
const DELIBERATE: [&str; 4] = ["experimental", "native histograms", "range of samples", "is a string"];

fn check(loaded: &mut Loaded, eval: &Eval) -> Outcome {
    let expr = match Expr::parse_recorded(&eval.text) {
        Ok(expr) => expr,
        Err(error) if DELIBERATE.iter().any(|word| error.message.contains(word)) => {
            return Outcome::Skipped(error.message);
        }
        Err(_) if eval.fails.is_some() => return Outcome::Passed,
        Err(error) => return Outcome::Failed(format!("refused: {}", error.message)),
    };
    let expects_native = match &eval.expected {
        Expected::Series(rows) => rows.iter().any(|(_, slots)| slots.iter().any(|slot| matches!(slot, Slot::Native))),
        Expected::Nothing | Expected::Scalar(_) | Expected::Text | Expected::RangeVector => false,
    };
    let selects =
        |those: &[Labels]| those.iter().any(|labels| expr.selectors().iter().any(|selector| selector.matches(labels)));
    if expects_native {
        return Outcome::Skipped(NATIVE.to_owned());
    }
    if selects(&loaded.with_starts) {
        return Outcome::Skipped("start timestamps are an experimental feature of the storage".to_owned());
    }
    if selects(&loaded.native) {
        // Backstop sees the floats alone. Where these give what is wanted, most functions ignoring native histograms, the
        // evaluation counts; but not where nothing is wanted, since that proves nothing.
        return match (&eval.expected, judge(loaded, &expr, eval, false)) {
            (Expected::Series(_) | Expected::Scalar(_), Outcome::Passed) => Outcome::Passed,
            _ => Outcome::Skipped(NATIVE.to_owned()),
        };
    }
    judge(loaded, &expr, eval, true)
}

const NATIVE: &str = "native histograms";

fn judge(loaded: &mut Loaded, expr: &Expr, eval: &Eval, with_annotations: bool) -> Outcome {
    let (Some(first), Some(last)) = (eval.instants.first(), eval.instants.last()) else {
        return Outcome::Failed("no instants".to_owned());
    };
    let expr = expr.between(Timestamp::from_millis(*first), Timestamp::from_millis(*last));
    let outcome = compare(loaded.store(), &expr, eval, with_annotations);
    if let (Outcome::Passed, [at], None) = (&outcome, eval.instants.as_slice(), &eval.fails)
        && expr.looks_only_back()
    {
        // Once more over a store that keeps only what this expression needs, as the daemon's does.
        return match compare(&loaded.store_until(*at, &[&expr]), &expr, eval, with_annotations) {
            Outcome::Failed(why) => Outcome::Failed(format!("with lean retention: {why}")),
            other => other,
        };
    }
    outcome
}

/// What was answered: label sets in order, with a value per instant.
#[derive(Default)]
struct Answers {
    order: Vec<Labels>,
    values: BTreeMap<Labels, Vec<Option<f64>>>,
    is_scalar: bool,
    warns: BTreeSet<String>,
    infos: BTreeSet<String>,
}

fn answers(store: &Store, expr: &Expr, instants: &[i64]) -> Result<Answers, String> {
    let mut answers = Answers::default();
    for (place, at) in instants.iter().enumerate() {
        let instant = Instant { at: Timestamp::from_millis(*at), wall_offset_ms: 0 };
        let evaluation = evaluate(expr, store, SERVICE, instant).map_err(|error| error.to_string())?;
        let rows = match evaluation.value {
            Value::Scalar(number) => {
                answers.is_scalar = true;
                vec![(Labels::default(), number)]
            }
            Value::Vector(rows) => rows,
        };
        for annotation in evaluation.annotations {
            let text = annotation.to_string();
            match annotation {
                Annotation::Warning(_) => answers.warns.insert(text),
                Annotation::Info(_) => answers.infos.insert(text),
            };
        }
        for (labels, value) in rows {
            answers.order.push(labels.clone());
            answers.values.entry(labels).or_insert_with(|| vec![None; instants.len()])[place] = Some(value);
        }
    }
    Ok(answers)
}

fn compare(store: &Store, expr: &Expr, eval: &Eval, with_annotations: bool) -> Outcome {
    let answers = match (answers(store, expr, &eval.instants), &eval.fails) {
        (Err(error), Some(wanted)) if wanted.fits(&error) => return Outcome::Passed,
        (Err(error), _) => return Outcome::Failed(error),
        (Ok(_), Some(_)) => return Outcome::Failed("should have failed".to_owned()),
        (Ok(answers), None) => answers,
    };
    let mut wanted: BTreeMap<Labels, Vec<Option<f64>>> = BTreeMap::new();
    let mut order = Vec::new();
    match &eval.expected {
        Expected::Nothing => {}
        Expected::Scalar(number) => {
            wanted.insert(Labels::default(), vec![Some(*number)]);
        }
        Expected::Series(rows) => {
            for (labels, slots) in rows {
                let mut values: Vec<Option<f64>> = slots
                    .iter()
                    .map(|slot| match slot {
                        Slot::Value(value) => Some(*value),
                        Slot::Gap | Slot::Stale | Slot::Native => None,
                    })
                    .collect();
                values.resize(eval.instants.len(), None);
                order.push(labels.clone());
                wanted.insert(labels.clone(), values);
            }
        }
        Expected::Text | Expected::RangeVector => return Outcome::Failed("another kind of value".to_owned()),
    }
    let same =
        answers.values.len() == wanted.len()
            && answers.values.iter().zip(&wanted).all(|(have, want)| {
                have.0 == want.0 && have.1.iter().zip(want.1).all(|(have, want)| near(*have, *want))
            });
    if !same {
        return Outcome::Failed(format!("got {}, wanted {}", show(&answers.values), show(&wanted)));
    }
    // A range query gives series, also of a scalar.
    if !eval.is_range && answers.is_scalar != matches!(eval.expected, Expected::Scalar(_)) {
        return Outcome::Failed("a scalar where a vector was wanted, or the other way round".to_owned());
    }
    if eval.ordered && !eval.is_range && answers.order != order {
        return Outcome::Failed("right values in another order".to_owned());
    }
    if !with_annotations {
        return Outcome::Passed;
    }
    told("warnings", &eval.warns, &answers.warns)
        .and_then(|()| told("infos", &eval.infos, &answers.infos))
        .map_or_else(Outcome::Failed, |()| Outcome::Passed)
}

fn told(kind: &str, wanted: &Annotations, have: &BTreeSet<String>) -> Result<(), String> {
    let fits = match wanted {
        Annotations::Unsaid => true,
        Annotations::None => have.is_empty(),
        Annotations::These(all) => {
            all.iter().all(|one| have.iter().any(|text| one.fits(text)))
                && have.iter().all(|text| all.iter().any(|one| one.fits(text)))
        }
    };
    if fits { Ok(()) } else { Err(format!("other {kind}: {have:?}")) }
}

fn show(rows: &BTreeMap<Labels, Vec<Option<f64>>>) -> String {
    let rows: Vec<String> = rows.iter().map(|(labels, values)| format!("{labels} {values:?}")).collect();
    format!("[{}]", rows.join(", "))
}

/// `util/almost` of Prometheus, with its tests' tolerance.
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

/// All that has been loaded since the last `clear`.
#[derive(Default)]
struct Loaded {
    /// `None` is a staleness marker.
    series: BTreeMap<Labels, BTreeMap<i64, Option<f64>>>,
    native: Vec<Labels>,
    /// Series whose samples have start timestamps.
    with_starts: Vec<Labels>,
    interval: Option<Duration>,
    store: Option<Store>,
}

impl Loaded {
    fn load(&mut self, load: &Load) {
        self.interval = Some(self.interval.map_or(load.step, |before| before.min(load.step)));
        self.store = None;
        let step = i64::try_from(load.step.as_millis()).expect("a short step");
        self.with_starts.extend(load.with_starts.iter().cloned());
        for (labels, slots) in &load.series {
            if slots.iter().any(|slot| matches!(slot, Slot::Native)) {
                self.native.push(labels.clone());
            }
            if load.converts {
                self.note_converted(labels);
            }
            let points = self.series.entry(labels.clone()).or_default();
            let mut at = 0;
            for slot in slots {
                match slot {
                    Slot::Gap | Slot::Native => {}
                    Slot::Stale => {
                        points.insert(at, None);
                    }
                    Slot::Value(value) => {
                        points.insert(at, Some(*value));
                    }
                }
                at += step;
            }
        }
    }

    /// Prometheus makes a native histogram of each classic one here, under the bare name; we do not.
    fn note_converted(&mut self, labels: &Labels) {
        let Some(name) = labels.name().strip_suffix("_bucket") else { return };
        let others = labels.iter().filter(|(label, _)| !matches!(*label, "le" | "__name__"));
        let native = Labels::from_pairs(others.chain([("__name__", name)]).collect::<Vec<_>>());
        if !self.native.contains(&native) {
            self.native.push(native);
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
