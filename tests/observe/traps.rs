//! Four bodies that a scraper can read wrongly without noticing, over a real socket, through observer, scan and store,
//! to the value that a trigger would see.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use backstop::machine::input::{Observation, Scrape, ScrapeFailure};
use backstop::promql::{
    Expr, Instant, Labels, Scope, Selector, ServiceId, Store, TargetId, TargetMeta, Value, evaluate,
};
use backstop::time::Timestamp;
use std::time::Duration;
use tokio::io::AsyncWriteExt as _;

use crate::support::{Server, Watch, config, read_head, scrape};

const TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";
const OPEN: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
const SERVICE: ServiceId = ServiceId(0);

/// What a server says to one request after the other, to the byte, and how it goes on with the connection.
fn whole(content_type: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    format!("HTTP/1.1 200 OK\r\ncontent-type: {content_type}\r\ncontent-length: {length}\r\n\r\n{body}").into_bytes()
}

/// Scrapes as often as there are answers; each on a connection of its own.
async fn scrapes(selectors: &[&str], answers: Vec<Vec<u8>>) -> Vec<Result<Scrape, ScrapeFailure>> {
    let count = answers.len();
    let answers: Arc<Mutex<VecDeque<Vec<u8>>>> = Arc::new(Mutex::new(answers.into()));
    let server = Server::raw(move |mut stream| {
        let answers = Arc::clone(&answers);
        async move {
            read_head(&mut stream).await;
            let Some(answer) = answers.lock().unwrap().pop_front() else { return };
            stream.write_all(&answer).await.unwrap();
            stream.shutdown().await.ok();
        }
    })
    .await;
    let mut config = config(selectors);
    config.scrapes.push(scrape(&[&server.url("/metrics")]));
    let mut watch = Watch::start(&config);
    let mut outcomes = Vec::new();
    while outcomes.len() < count {
        let seen = watch.first(|seen| match seen {
            Observation::Scraped { outcome, .. } => Some(Ok(outcome.clone())),
            Observation::Overrun { .. } => Some(Err("nobody read a scrape in time; the test must see each")),
            _ => None,
        });
        outcomes.push(seen.await.unwrap());
    }
    watch.observers.stop().await;
    outcomes
}

/// The value of an expression after scrapes that are 15 s apart, with how many series it has.
async fn value(question: &Expr, selector: &str, answers: Vec<Vec<u8>>) -> Vec<(Labels, f64)> {
    let mut store = Store::new(std::slice::from_ref(question));
    let target = TargetId(0);
    let meta = TargetMeta {
        scope: Scope::Service(SERVICE),
        source: Arc::from("app"),
        labels: Labels::default(),
        interval: Duration::from_secs(15),
    };
    store.attach(target, meta);
    let mut at = Timestamp::from_millis(0);
    for outcome in scrapes(&[selector], answers).await {
        at = Timestamp::from_millis(at.as_millis() + 15_000);
        store.push(target, at, &outcome.unwrap().batch);
    }
    let found = evaluate(question, &store, SERVICE, Instant { at, wall_offset_ms: 0 }).unwrap();
    match found.value {
        Value::Vector(samples) => samples,
        Value::Scalar(number) => panic!("a scalar: {number}"),
    }
}

#[tokio::test]
async fn braces_in_a_label_value_end_no_labels() {
    let selector = r#"c{uri="/users/{id}",status="500"}"#;
    let line = "c{uri=\"/users/{id}\",status=\"500\"} 7\n";
    for answer in [whole(TEXT, line), whole(OPEN, &format!("{line}# EOF\n"))] {
        let found = value(&Expr::parse(selector).unwrap(), selector, vec![answer]).await;
        assert_eq!(found.len(), 1, "{found:?}");
        assert_eq!((found[0].0.get("uri"), found[0].0.get("status")), (Some("/users/{id}"), Some("500")));
        assert_eq!(found[0].1.to_bits(), 7.0_f64.to_bits());
    }
}

#[tokio::test]
async fn a_label_value_forges_no_value() {
    let line = "x{a=\"} 9 # \"} 1\n";
    for answer in [whole(TEXT, line), whole(OPEN, &format!("{line}# EOF\n"))] {
        let found = value(&Expr::parse("x").unwrap(), "x", vec![answer]).await;
        assert_eq!(found.len(), 1, "{found:?}");
        assert_eq!(found[0].0.get("a"), Some("} 9 # "));
        assert_eq!(found[0].1.to_bits(), 1.0_f64.to_bits());
    }
}

#[tokio::test]
async fn a_first_error_series_that_appears_at_seven_is_seven_errors() {
    let selector = r#"c{status="500"}"#;
    let window = Duration::from_mins(1);
    let good = |n: u32| format!("c{{status=\"200\"}} {n}\n");
    let bodies = [good(10), good(20), good(30), good(40), good(50), good(60) + "c{status=\"500\"} 7\n"]
        .map(|body| whole(TEXT, &body));
    let observed = Expr::increase(Selector::parse(selector).unwrap(), window);
    let found = value(&observed, "c", bodies.to_vec()).await;
    assert_eq!(found.iter().map(|(_, value)| *value).collect::<Vec<_>>(), [7.0]);
    // What Prometheus says: one sample in the window is no increase.
    let promql = Expr::parse(r#"increase(c{status="500"}[1m])"#).unwrap();
    assert!(value(&promql, "c", bodies.to_vec()).await.is_empty());
    // On the first scrape of a target the same line is what was there before.
    let first = whole(TEXT, &(good(60) + "c{status=\"500\"} 7\n"));
    let found = value(&observed, "c", vec![first.clone(), first]).await;
    assert!(found.iter().all(|(_, value)| *value == 0.0), "{found:?}");
}

#[tokio::test]
async fn a_body_cut_in_the_middle_of_a_number_fails_the_scrape() {
    let line = "x 1\nx{a=\"b\"} 12345\n";
    let cut = &line[..line.len() - "45\n".len()];
    let open = format!("{line}# EOF\n");
    let head = |content_type: &str| format!("HTTP/1.1 200 OK\r\ncontent-type: {content_type}\r\n");
    let answers = [
        // A length that is right for what is left: a proxy, or a program that counts before it writes.
        whole(TEXT, cut),
        whole(OPEN, &open[..cut.len()]),
        // A length of the whole body.
        format!("{}content-length: {}\r\n\r\n{cut}", head(TEXT), line.len()).into_bytes(),
        // No length at all: the end of the connection is the end of the body.
        format!("{}\r\n{cut}", head(TEXT)).into_bytes(),
        // Chunks that end well, and chunks that do not.
        format!("{}transfer-encoding: chunked\r\n\r\n{:x}\r\n{cut}\r\n0\r\n\r\n", head(TEXT), cut.len()).into_bytes(),
        format!("{}transfer-encoding: chunked\r\n\r\n{:x}\r\n{cut}\r\n", head(TEXT), cut.len()).into_bytes(),
    ];
    for answer in answers {
        let shown = String::from_utf8_lossy(&answer).into_owned();
        let good = if shown.contains(OPEN) { whole(OPEN, &open) } else { whole(TEXT, line) };
        let outcomes = scrapes(&["x"], vec![good.clone(), answer, good]).await;
        let [Ok(before), Err(failure), Ok(after)] = outcomes.as_slice() else { panic!("{shown}: {outcomes:?}") };
        assert_eq!(failure.reason, "body", "{shown}: {failure}");
        // It left no trace: the series are the ones of before, under their ids.
        assert_eq!(before.batch.samples, after.batch.samples, "{shown}");
        assert!(after.batch.born.is_empty() && after.batch.vanished.is_empty(), "{shown}: {after:?}");
    }
}
