//! What the service shows: exposition bodies and answers to health checks, as bytes.

use std::collections::BTreeMap;
use std::fmt::Write;

/// How a target meets whoever asks it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Manner {
    Answers,
    /// The connection is refused: nobody listens.
    Refuses,
    /// No answer within the limit.
    Hangs,
    /// The body is cut short in the middle of a line.
    CutsShort,
}

/// One exposition endpoint. Counters grow by what `each` says just before they are scraped, so that every count in a
/// test is exact.
#[derive(Clone, Debug)]
pub struct Endpoint {
    pub manner: Manner,
    counters: BTreeMap<String, f64>,
    gauges: BTreeMap<String, f64>,
    each: BTreeMap<String, f64>,
    process_start: f64,
}

impl Endpoint {
    pub fn new(process_start: f64) -> Endpoint {
        Endpoint {
            manner: Manner::Answers,
            counters: BTreeMap::new(),
            gauges: BTreeMap::new(),
            each: BTreeMap::new(),
            process_start,
        }
    }

    /// From now on this counter grows by so much before each scrape. With 0 it is there and stands still.
    pub fn each(&mut self, series: &str, by: u32) {
        self.each.insert(series.to_owned(), f64::from(by));
    }

    /// Grows once.
    pub fn count(&mut self, series: &str, by: u32) {
        *self.counters.entry(series.to_owned()).or_default() += f64::from(by);
    }

    pub fn gauge(&mut self, series: &str, value: f64) {
        self.gauges.insert(series.to_owned(), value);
    }

    /// The series is no longer shown, and does not grow.
    pub fn drop_series(&mut self, series: &str) {
        self.each.remove(series);
        self.counters.remove(series);
        self.gauges.remove(series);
    }

    /// So many requests before each scrape, and so many of them fail.
    pub fn requests(&mut self, all: u32, failed: u32) {
        self.each(r#"http_requests_total{method="GET",status="200"}"#, all - failed);
        // A process shows its first failure when it has failed.
        if failed > 0 {
            self.each(r#"http_requests_total{method="GET",status="500"}"#, failed);
        } else {
            self.each.remove(r#"http_requests_total{method="GET",status="500"}"#);
        }
    }

    /// Another process took over: counters begin anew, and only what happens again is shown again.
    pub fn restart(&mut self, process_start: f64) {
        self.counters.clear();
        self.process_start = process_start;
    }

    /// What it answers to the next scrape.
    pub fn scrape(&mut self) -> Vec<u8> {
        for (series, by) in &self.each {
            *self.counters.entry(series.clone()).or_default() += by;
        }
        let mut body = String::from("# HELP go_goroutines Nobody asks for it.\n# TYPE go_goroutines gauge\n");
        body.push_str("go_goroutines 42\n");
        writeln!(body, "process_start_time_seconds {}", self.process_start).unwrap();
        for (kind, all) in [("counter", &self.counters), ("gauge", &self.gauges)] {
            let mut last = "";
            for (series, value) in all {
                let name = series.split('{').next().unwrap();
                if name != last {
                    writeln!(body, "# TYPE {name} {kind}").unwrap();
                }
                last = name;
                writeln!(body, "{series} {value}").unwrap();
            }
        }
        if self.manner == Manner::CutsShort {
            body.truncate(body.len() - 3);
        }
        body.into_bytes()
    }
}

/// What a health check is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Health {
    Healthy,
    /// `200`, and the body says that it is not.
    SaysSick,
    /// `503`.
    Unavailable,
    Refuses,
    Hangs,
}

impl Health {
    /// Status and body, where there is an answer.
    pub fn answer(self) -> Option<(u16, &'static [u8])> {
        match self {
            Health::Healthy => Some((200, br#"{"status":"healthy"}"#)),
            Health::SaysSick => Some((200, br#"{"status":"degraded"}"#)),
            Health::Unavailable => Some((503, br#"{"status":"healthy"}"#)),
            Health::Refuses | Health::Hangs => None,
        }
    }
}
