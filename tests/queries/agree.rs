//! The same expressions on the same target, evaluated here and by a real Prometheus, over a run with a break in it.
//!
//! `AGREE_SECONDS=600 cargo test --test queries agree -- --ignored --nocapture`
//!
//! The two scrape at instants of their own, so that their values are never quite the same. Where even the decision is
//! not, the samples that Prometheus has are put into a store of ours: if the evaluation of those agrees with what
//! Prometheus said, the samples are what differs, and both lists are printed; if it does not, the test fails.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use backstop::config::{Environment, Source, parse};
use backstop::machine::input::Input;
use backstop::machine::{Machine, Recovered};
use backstop::observe::Observers;
use backstop::observe::lane::lane;
use backstop::platform::clock::Clock;
use backstop::promql::{
    Batch, Expr, Instant, Labels, LocalId, Scope, ServiceId, Store, TargetId, TargetMeta, Value, evaluate,
};
use backstop::time::Timestamp;
use serde_json::Value as Json;
use tokio::time::{Instant as Tick, sleep_until};

use crate::prometheus::Prometheus;
use crate::wire::{Reply, Server};

/// With the limit above which each is breached.
const QUESTIONS: [(&str, f64); 6] = [
    ("sum(rate(hits_total[20s]))", 12.0),
    (r#"sum(rate(hits_total{code="500"}[20s])) / sum(rate(hits_total[20s]))"#, 0.2),
    ("increase(hits_total{code=\"500\"}[15s])", 25.0),
    ("avg_over_time(load[10s])", 0.5),
    ("max by (job) (load)", 0.9),
    ("histogram_quantile(0.9, sum by (le) (rate(seconds_bucket[20s])))", 0.5),
];
/// The longest range in them.
const RANGE: &str = "20s";

/// A service whose traffic rises and falls, and which is dark for a while and then another process.
#[derive(Debug, Default)]
struct Shop {
    ok: AtomicU64,
    bad: AtomicU64,
    quick: AtomicU64,
    slow: AtomicU64,
    dark: AtomicBool,
    load: Mutex<f64>,
}

impl Shop {
    /// One tenth of the second `second` has passed.
    fn work(&self, second: f64) {
        let wave = (second / 25.0).sin();
        let failing = if wave > 0.3 { 3 } else { 0 };
        self.ok.fetch_add(if wave > 0.0 { 2 } else { 1 }, Ordering::Relaxed);
        self.bad.fetch_add(u64::from(failing > 0), Ordering::Relaxed);
        let slow = u64::from(wave < -0.4);
        self.slow.fetch_add(slow, Ordering::Relaxed);
        self.quick.fetch_add(1 - slow, Ordering::Relaxed);
        *self.load.lock().unwrap() = 0.5 + 0.5 * (second / 18.0).cos();
    }

    fn exposed(&self) -> Reply {
        if self.dark.load(Ordering::Relaxed) {
            return Reply::Close;
        }
        let [ok, bad, quick, slow] =
            [&self.ok, &self.bad, &self.quick, &self.slow].map(|count| count.load(Ordering::Relaxed));
        let (load, all) = (*self.load.lock().unwrap(), quick + slow);
        let mut text = format!("hits_total{{code=\"200\"}} {ok}\nhits_total{{code=\"500\"}} {bad}\nload {load}\n");
        for (bound, count) in [("0.1", quick), ("1", all), ("+Inf", all)] {
            writeln!(text, "seconds_bucket{{le=\"{bound}\"}} {count}").unwrap();
        }
        Reply::metrics(text)
    }

    fn restart(&self) {
        for count in [&self.ok, &self.bad, &self.quick, &self.slow] {
            count.store(0, Ordering::Relaxed);
        }
    }
}

/// What one side says: by label set without `job` and `instance`, the value.
type Said = BTreeMap<String, f64>;

fn key<'a>(labels: impl Iterator<Item = (&'a str, &'a str)>) -> String {
    let kept = labels.filter(|(name, _)| !["job", "instance", "__name__"].contains(name));
    Labels::from_pairs(kept).to_string()
}

fn said(value: &Value) -> Said {
    match value {
        Value::Scalar(value) => Said::from([(String::new(), *value)]),
        Value::Vector(values) => values.iter().map(|(labels, value)| (key(labels.iter()), *value)).collect(),
    }
}

fn breached(said: &Said, limit: f64) -> Vec<&str> {
    said.iter().filter(|(_, value)| **value > limit).map(|(labels, _)| labels.as_str()).collect()
}

async fn ask(prometheus: &Prometheus, query: &str, at: Timestamp) -> Json {
    let client = reqwest::Client::new();
    let body = url::form_urlencoded::Serializer::new(String::new())
        .append_pair("query", query)
        .append_pair("time", &format!("{:.3}", at.as_secs_f64()))
        .finish();
    let request = client.post(format!("http://{}/api/v1/query", prometheus.address)).body(body);
    let request = request.header("content-type", "application/x-www-form-urlencoded");
    let answer: Json = serde_json::from_str(&request.send().await.unwrap().text().await.unwrap()).unwrap();
    assert_eq!(answer["status"], "success", "{query}: {answer}");
    answer["data"]["result"].clone()
}

fn labels_of(element: &Json) -> Labels {
    let metric = element["metric"].as_object().unwrap();
    Labels::from_pairs(metric.iter().map(|(name, value)| (name.as_str(), value.as_str().unwrap())))
}

fn number(value: &Json) -> f64 {
    value.as_str().unwrap().parse().unwrap()
}

/// Every raw sample that an expression could use, by series.
async fn samples(prometheus: &Prometheus, expr: &Expr, at: Timestamp) -> Vec<(Labels, Vec<(Timestamp, f64)>)> {
    let mut all = Vec::new();
    for selector in expr.selectors() {
        let result = ask(prometheus, &format!("{selector}[{RANGE}]"), at).await;
        for element in result.as_array().unwrap() {
            let samples = element["values"].as_array().unwrap().iter().map(|pair| {
                // To the nearest millisecond: the number is a little less than what it stands for as often as more.
                let at = Duration::from_secs_f64(pair[0].as_f64().unwrap() + 0.0005);
                (Timestamp::from_millis(i64::try_from(at.as_millis()).unwrap()), number(&pair[1]))
            });
            let labels = labels_of(element);
            if all.iter().all(|(known, _)| *known != labels) {
                all.push((labels, samples.collect()));
            }
        }
    }
    all
}

/// What we make of Prometheus's own samples.
fn on_their_samples(expr: &Expr, series: &[(Labels, Vec<(Timestamp, f64)>)], at: Timestamp) -> Said {
    let mut store = Store::new([expr]);
    let (target, service) = (TargetId(1), ServiceId(1));
    let interval = Duration::from_secs(1);
    store.attach(
        target,
        TargetMeta { scope: Scope::Service(service), source: "them".into(), labels: Labels::default(), interval },
    );
    let mut by_time: BTreeMap<Timestamp, Vec<(LocalId, f64)>> = BTreeMap::new();
    for (id, (_, samples)) in (0..).map(LocalId).zip(series) {
        for (at, value) in samples {
            by_time.entry(*at).or_default().push((id, *value));
        }
    }
    let mut born: Vec<(LocalId, Labels)> =
        (0..).map(LocalId).zip(series.iter().map(|(labels, _)| labels.clone())).collect();
    let mut rebind = true;
    for (at, samples) in by_time {
        let born = std::mem::take(&mut born);
        store.push(target, at, &Batch { born, samples, rebind, ..Batch::default() });
        rebind = false;
    }
    said(&evaluate(expr, &store, service, Instant { at, wall_offset_ms: 0 }).unwrap().value)
}

fn same(a: &Said, b: &Said) -> bool {
    let close = |x: f64, y: f64| (x.is_nan() && y.is_nan()) || (x - y).abs() <= 1e-9 * x.abs().max(y.abs()).max(1.0);
    a.len() == b.len() && a.iter().all(|(labels, x)| b.get(labels).is_some_and(|y| close(*x, *y)))
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "ten minutes: AGREE_SECONDS=600 cargo test --test queries agree -- --ignored --nocapture"]
// Length: one run from the first look to the count at its end.
async fn decisions_agree_with_a_real_prometheus_or_the_samples_differ() {
    let seconds: u64 = std::env::var("AGREE_SECONDS").map_or(60, |text| text.parse().unwrap());
    let folder = tempfile::tempdir().unwrap();
    let shop = Arc::new(Shop::default());
    let serving = Arc::clone(&shop);
    let server = Server::start(move |_| serving.exposed());
    let prometheus = Prometheus::start_every(folder.path(), &[server.address], "1s").await;

    let mut text =
        format!("[services.shop.scrapes.shop]\nurl = \"http://{}/metrics\"\ninterval = \"1s\"\n", server.address);
    for (place, (expr, limit)) in QUESTIONS.iter().enumerate() {
        writeln!(text, "[services.shop.triggers.q{place}]\nexpr = '{expr}'\nabove = {limit:?}").unwrap();
    }
    let environment = Environment { variable: &|_| None, hostname: "agree" };
    let config = parse(&[Source { path: "agree.toml".into(), text }], &environment, 1).unwrap();
    let clock = Clock::start(None, None);
    let (sender, mut seen) = lane();
    let mut out = Vec::new();
    let mut machine = Machine::new(Arc::clone(&config.rules), &clock.now(), Recovered::default(), &mut out);
    let observers = Observers::start(&config, clock.clone(), sender).unwrap();

    let (mut compared, mut known, mut differed, mut unknown) = (0, 0, 0, 0);
    let begin = Tick::now();
    // By then both have scraped.
    let mut asked = begin + Duration::from_secs(8);
    for tenth in 1..=seconds * 10 {
        #[expect(clippy::cast_precision_loss, reason = "a test is shorter than that")]
        let second = tenth as f64 / 10.0;
        sleep_until(begin + Duration::from_millis(tenth * 100)).await;
        shop.work(second);
        // The break: dark for 15 s in the middle, and then another process.
        let dark = (seconds / 2..seconds / 2 + 15).contains(&(tenth / 10));
        if shop.dark.swap(dark, Ordering::Relaxed) && !dark {
            shop.restart();
        }
        while let Some(observation) = seen.try_recv() {
            machine.handle(&clock.now(), Input::Observation(observation), &mut out);
            out.clear();
        }
        if Tick::now() < asked {
            continue;
        }
        asked += Duration::from_secs(1);
        let at = clock.now().wall;
        for (place, (text, limit)) in QUESTIONS.iter().enumerate() {
            let expr = Expr::parse(text).unwrap();
            let theirs: Said = ask(&prometheus, text, at)
                .await
                .as_array()
                .unwrap()
                .iter()
                .map(|element| (key(labels_of(element).iter()), number(&element["value"][1])))
                .collect();
            let trial = machine.try_trigger("shop", &format!("q{place}"), &clock.now()).unwrap();
            let ours = said(&trial.evaluation.unwrap().value);
            compared += 1;
            if matches!(trial.findings.worst().1, backstop::decide::trigger::Finding::Unknown(_)) {
                // Here nothing is decided, whatever Prometheus would: that is the difference on purpose.
                unknown += 1;
                continue;
            }
            known += 1;
            if breached(&ours, *limit) == breached(&theirs, *limit) {
                continue;
            }
            differed += 1;
            let samples = samples(&prometheus, &expr, at).await;
            let edge = samples
                .iter()
                .flat_map(|(_, samples)| samples)
                .any(|(sample, _)| *sample == at - Duration::from_secs(20));
            let explained = on_their_samples(&expr, &samples, at);
            println!(
                "{second} s: {text} > {limit}: here {ours:?}, there {theirs:?}; of their samples we make {explained:?}"
            );
            for (labels, samples) in &samples {
                let samples: Vec<String> =
                    samples.iter().map(|(sample, value)| format!("{}:{value}", sample.millis_since(at))).collect();
                println!("    {labels} {}", samples.join(" "));
            }
            assert!(edge || same(&explained, &theirs), "the evaluation differs, not the samples");
        }
    }
    observers.stop().await;
    println!(
        "compared {compared} times: {known} known here, {differed} of them decided otherwise for other samples; {unknown} unknown here"
    );
    // At the beginning, and after the break, windows fill: about a minute in all.
    assert!(known > 100, "there is an answer for some of the time");
    assert!(differed * 20 < known, "the two see nearly the same");
}
