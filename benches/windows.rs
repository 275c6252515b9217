//! What a scrape costs to keep, and what a question costs by the length of its window.

use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use backstop::promql::{
    Batch, Expr, Instant, Labels, LocalId, Scope, Selector, ServiceId, Store, TargetId, TargetMeta, evaluate,
};
use backstop::time::Timestamp;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};

const SERVICE: ServiceId = ServiceId(0);
const TARGET: TargetId = TargetId(0);
const INTERVAL: Duration = Duration::from_secs(15);
const SERIES: u32 = 20;
const WINDOWS: [(&str, Duration); 5] = [
    ("1m", Duration::from_mins(1)),
    ("10m", Duration::from_mins(10)),
    ("1h", Duration::from_hours(1)),
    ("6h", Duration::from_hours(6)),
    ("24h", Duration::from_hours(24)),
];

fn batch(series: u32, scrape: u32, born: bool) -> Batch {
    let labels = |local: u32| Labels::from_pairs([("__name__", "c".to_owned()), ("s", local.to_string())]);
    Batch {
        born: if born { (0..series).map(|local| (LocalId(local), labels(local))).collect() } else { Vec::new() },
        // A reset every hundred scrapes.
        samples: (0..series).map(|local| (LocalId(local), f64::from(scrape % 100 * local))).collect(),
        ..Batch::default()
    }
}

fn attached(exprs: &[Expr]) -> Store {
    let mut store = Store::new(exprs);
    let meta = TargetMeta {
        scope: Scope::Service(SERVICE),
        source: Arc::from("bench"),
        labels: Labels::default(),
        interval: INTERVAL,
    };
    store.attach(TARGET, meta);
    store
}

fn instant(scrape: u32) -> Timestamp {
    Timestamp::from_millis(i64::from(scrape) * 15_000)
}

/// A store whose windows are full.
fn filled(expr: &Expr, window: Duration) -> (Store, Timestamp) {
    let mut store = attached(std::slice::from_ref(expr));
    let scrapes = u32::try_from(window.as_secs() / INTERVAL.as_secs()).expect("a day of scrapes") + 4;
    for scrape in 0..scrapes {
        store.push(TARGET, instant(scrape), &batch(SERIES, scrape, scrape == 0));
    }
    (store, instant(scrapes - 1))
}

fn push(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("push");
    for series in [100_u32, 10_000] {
        group.throughput(Throughput::Elements(u64::from(series)));
        group.bench_with_input(BenchmarkId::from_parameter(series), &series, |bencher, series| {
            let mut store = attached(&[Expr::parse("rate(c[10m])").expect("PromQL")]);
            store.push(TARGET, instant(0), &batch(*series, 0, true));
            let later = batch(*series, 1, false);
            let mut scrape = 0;
            bencher.iter(|| {
                scrape += 1;
                store.push(TARGET, instant(scrape), black_box(&later));
            });
        });
    }
    group.finish();
}

fn question(criterion: &mut Criterion, name: &str, of: impl Fn(&str, Duration) -> Expr) {
    let mut group = criterion.benchmark_group(name);
    for (label, window) in WINDOWS {
        let expr = of(label, window);
        let (store, at) = filled(&expr, window);
        let at = Instant { at, wall_offset_ms: 0 };
        group.bench_function(label, |bencher| {
            bencher.iter(|| evaluate(black_box(&expr), &store, SERVICE, at).expect("it evaluates"));
        });
    }
    group.finish();
}

fn questions(criterion: &mut Criterion) {
    let promql = |text: String| Expr::parse(&text).expect("PromQL");
    question(criterion, "rate", |label, _| promql(format!("sum(rate(c[{label}]))")));
    question(criterion, "increase", |label, _| promql(format!("sum(increase(c[{label}]))")));
    question(criterion, "avg_over_time", |label, _| promql(format!("avg_over_time(c[{label}])")));
    question(criterion, "observed_increase", |_, window| {
        Expr::increase(Selector::parse("c").expect("a selector"), window)
    });
}

criterion_group!(benches, push, questions);
criterion_main!(benches);
