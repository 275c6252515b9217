//! The connection of a scrape target: kept from one scrape to the next, and never trusted for having been good.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use backstop::decide::event::TextOrSecret;
use backstop::machine::input::{Scrape, ScrapeFailure};
use backstop::promql::LocalId;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

use crate::support::{Server, Watch, config, read_head, response, scrape, scrape_once};
use Act::{Answer, HangUp, Say};

const TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";

/// What a server does with a connection, one after the other; then it waits.
#[derive(Clone)]
enum Act {
    /// Takes a request and says this.
    Answer(String),
    /// Says this without being asked.
    Say(&'static str),
    /// Takes a request and closes the connection.
    HangUp,
    Close,
}

/// An answer with the sample `x` that leaves the connection open.
fn x(value: u32) -> Act {
    let body = format!("x {value}\n");
    Answer(format!("HTTP/1.1 200 OK\r\ncontent-type: {TEXT}\r\ncontent-length: {}\r\n\r\n{body}", body.len()))
}

/// A server with a plan for each connection, and how many of them there were.
async fn server(plans: &[&[Act]]) -> (Server, Arc<AtomicUsize>) {
    let plans: Arc<Mutex<VecDeque<Vec<Act>>>> = Arc::new(Mutex::new(plans.iter().map(|acts| acts.to_vec()).collect()));
    let opened = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&opened);
    let server = Server::raw(move |stream| {
        counted.fetch_add(1, Ordering::SeqCst);
        let plan = plans.lock().unwrap().pop_front().unwrap_or_default();
        follow(plan, stream)
    });
    (server.await, opened)
}

async fn follow(plan: Vec<Act>, mut stream: TcpStream) {
    for act in plan {
        let says = match act {
            Answer(answer) => {
                read_head(&mut stream).await;
                answer
            }
            Say(text) => text.to_owned(),
            HangUp => {
                read_head(&mut stream).await;
                return;
            }
            Act::Close => return,
        };
        // A client that has seen enough may be gone already.
        stream.write_all(says.as_bytes()).await.ok();
    }
    std::future::pending::<()>().await;
}

/// So many scrapes of such a server, and how many connections they took.
async fn scrapes(count: usize, plans: &[&[Act]]) -> (Vec<Result<f64, &'static str>>, usize) {
    let (server, opened) = server(plans).await;
    let mut config = config(&["x"]);
    config.scrapes.push(scrape(&[&server.url("/metrics")]));
    config.scrapes[0].limits.timeout = Duration::from_secs(5);
    let mut watch = Watch::start(&config);
    let mut outcomes = Vec::new();
    for _ in 0..count {
        let value = |scrape: Scrape| scrape.batch.samples[0].1;
        outcomes.push(watch.scraped().await.map(value).map_err(|failure: ScrapeFailure| failure.reason));
    }
    let opened = opened.load(Ordering::SeqCst);
    watch.observers.stop().await;
    (outcomes, opened)
}

#[tokio::test]
async fn a_connection_serves_one_scrape_after_the_other() {
    assert_eq!(scrapes(3, &[&[x(1), x(2), x(3)]]).await, (vec![Ok(1.0), Ok(2.0), Ok(3.0)], 1));
    let head = format!("HTTP/1.1 200 OK\r\ncontent-type: {TEXT}\r\ntransfer-encoding: chunked\r\n\r\n");
    let chunked = |value: u32| Answer(format!("{head}2\r\nx \r\n2\r\n{value}\n\r\n0\r\n\r\n"));
    assert_eq!(scrapes(2, &[&[chunked(1), chunked(2)]]).await, (vec![Ok(1.0), Ok(2.0)], 1));
}

#[tokio::test]
async fn a_server_that_closes_a_kept_connection_fails_no_scrape() {
    let ok = vec![Ok(1.0), Ok(2.0)];
    assert_eq!(scrapes(2, &[&[x(1), Act::Close], &[x(2)]]).await, (ok.clone(), 2));
    // In the very moment in which the request is sent.
    assert_eq!(scrapes(2, &[&[x(1), HangUp], &[x(2)]]).await, (ok.clone(), 2));
    let closing = Answer(response(TEXT, "x 1\n"));
    assert_eq!(scrapes(2, &[&[closing], &[x(2)]]).await, (ok, 2), "it said that it would");
}

#[tokio::test]
async fn a_new_connection_is_not_tried_twice() {
    let plans: [&[Act]; 3] = [&[x(1), HangUp], &[HangUp], &[x(3)]];
    assert_eq!(scrapes(3, &plans).await, (vec![Ok(1.0), Err("body"), Ok(3.0)], 3));
    assert_eq!(scrapes(2, &[&[HangUp], &[x(2)]]).await, (vec![Err("body"), Ok(2.0)], 2));
}

#[tokio::test]
async fn what_was_said_without_being_asked_is_no_answer() {
    let stale = "HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nx 9\n";
    let ok = vec![Ok(1.0), Ok(2.0)];
    assert_eq!(scrapes(2, &[&[x(1), Say(stale)], &[x(2)]]).await, (ok.clone(), 2));
    let Answer(first) = x(1) else { unreachable!() };
    assert_eq!(scrapes(2, &[&[Answer(first + stale)], &[x(2)]]).await, (ok, 2), "in one piece with the answer");
}

#[tokio::test]
async fn after_an_answer_that_was_not_read_to_its_end_the_next_scrape_has_a_connection_of_its_own() {
    let refused = Answer("HTTP/1.1 503 Service Unavailable\r\ncontent-length: 4\r\n\r\nx 9\n".to_owned());
    assert_eq!(scrapes(2, &[&[refused], &[x(2)]]).await, (vec![Err("status"), Ok(2.0)], 2));

    let half = Answer(format!("HTTP/1.1 200 OK\r\ncontent-type: {TEXT}\r\ncontent-length: 8\r\n\r\nx 1\n"));
    let (server, opened) = server(&[&[half], &[x(2)]]).await;
    let mut config = config(&["x"]);
    config.scrapes.push(scrape(&[&server.url("/metrics")]));
    config.scrapes[0].limits.timeout = Duration::from_secs(2);
    let mut watch = Watch::start(&config);
    assert_eq!(watch.scraped().await.unwrap_err().reason, "timeout");
    assert_eq!(watch.scraped().await.unwrap().batch.samples, [(LocalId(0), 2.0)]);
    assert_eq!(opened.load(Ordering::SeqCst), 2);
}

/// A server that keeps the head of each request.
async fn listener() -> (Server, Arc<Mutex<Vec<String>>>) {
    let heads: Arc<Mutex<Vec<String>>> = Arc::default();
    let seen = Arc::clone(&heads);
    let server = Server::raw(move |mut stream| {
        let seen = Arc::clone(&seen);
        async move {
            let head = read_head(&mut stream).await;
            seen.lock().unwrap().push(head);
            stream.write_all(response(TEXT, "x 1\n").as_bytes()).await.ok();
        }
    });
    (server.await, heads)
}

/// The head of the request that a scrape of `path` sends, with the operator's own headers, and the server's port.
async fn head(host: &str, path: &str, headers: &[(&str, &str)]) -> (String, u16) {
    let (server, heads) = listener().await;
    let port = server.at.port();
    let mut spec = scrape(&[&format!("http://{host}:{port}{path}")]);
    for (name, value) in headers {
        spec.client.headers.insert((*name).to_owned(), TextOrSecret::Text((*value).to_owned()));
    }
    scrape_once(spec, &["x"]).await.unwrap();
    let head = heads.lock().unwrap().remove(0);
    (head, port)
}

#[tokio::test]
async fn a_request_says_whom_it_asks_for_what() {
    let (found, port) = head("localhost", "/a%20b/metrics?name[]=x&y=%2F#part", &[("x-scope", "tests")]).await;
    let lines: Vec<&str> = found.lines().collect();
    assert_eq!(lines[0], "GET /a%20b/metrics?name[]=x&y=%2F HTTP/1.1");
    for line in [&format!("host: localhost:{port}"), "accept-encoding: gzip", "x-scope: tests"] {
        assert!(lines.contains(&line), "{line} in {found}");
    }
    assert!(found.contains(&format!("user-agent: backstop/{}\r\n", env!("CARGO_PKG_VERSION"))));
    assert!(!found.contains("content-length") && !found.contains("transfer-encoding"), "{found}");

    let own = [("host", "app.internal"), ("user-agent", "probe"), ("accept-encoding", "identity")];
    let (found, _) = head("127.0.0.1", "", &own).await;
    assert!(found.starts_with("GET / HTTP/1.1\r\n"), "{found}");
    for (name, value) in own {
        assert_eq!(found.matches(&format!("{name}: ")).count(), 1, "{name} in {found}");
        assert!(found.contains(&format!("{name}: {value}\r\n")), "{name} in {found}");
    }
}

#[tokio::test]
async fn a_proxy_is_asked_where_one_is_configured() {
    let (proxy, heads) = listener().await;
    let mut spec = scrape(&["http://app.invalid/metrics"]);
    spec.client.proxy = Some(proxy.url(""));
    scrape_once(spec, &["x"]).await.unwrap();
    assert!(heads.lock().unwrap()[0].starts_with("GET http://app.invalid/metrics HTTP/1.1\r\n"));
}
