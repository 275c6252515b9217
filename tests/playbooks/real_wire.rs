//! T1 and T7 over real sockets: a server that breaks after a release, observers that ask it, and the machine.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use backstop::config::{Environment, Source, Style, parse};
use backstop::decide::event::{Entry, Record, Release};
use backstop::machine::input::Input;
use backstop::machine::output::{Output, StepOrder};
use backstop::machine::{Machine, Recovered};
use backstop::observe::Observers;
use backstop::observe::lane::{Receiver, lane};
use backstop::platform::clock::Clock;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

/// Longer than anything here takes on a busy machine; a test that reaches it has failed.
const PATIENCE: Duration = Duration::from_mins(1);

/// A service whose requests all fail once it is broken.
#[derive(Default)]
struct Service {
    broken: AtomicBool,
    good: AtomicU64,
    failed: AtomicU64,
}

impl Service {
    async fn serve(self: Arc<Service>, listener: TcpListener) {
        let mut connections = JoinSet::new();
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            connections.spawn(Arc::clone(&self).answer(stream));
        }
    }

    /// Answers request after request, until the client has enough.
    async fn answer(self: Arc<Service>, mut stream: TcpStream) {
        loop {
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                match stream.read_u8().await {
                    Ok(byte) => head.push(byte),
                    Err(_) => return,
                }
            }
            let answer = self.response(head.starts_with(b"GET /metrics "));
            if stream.write_all(answer.as_bytes()).await.is_err() {
                return;
            }
        }
    }

    fn response(&self, is_metrics: bool) -> String {
        let broken = self.broken.load(Ordering::SeqCst);
        let (status, content_type, body) = if is_metrics {
            let grown = if broken { &self.failed } else { &self.good };
            grown.fetch_add(100, Ordering::SeqCst);
            let (good, failed) = (self.good.load(Ordering::SeqCst), self.failed.load(Ordering::SeqCst));
            let body = format!(
                "# TYPE http_requests_total counter\nhttp_requests_total{{status=\"200\"}} {good}\n\
                 http_requests_total{{status=\"500\"}} {failed}\n"
            );
            ("200 OK", "text/plain; version=0.0.4", body)
        } else if broken {
            ("503 Service Unavailable", "application/json", r#"{"status":"down"}"#.to_owned())
        } else {
            ("200 OK", "application/json", r#"{"status":"healthy"}"#.to_owned())
        };
        format!("HTTP/1.1 {status}\r\ncontent-type: {content_type}\r\ncontent-length: {}\r\n\r\n{body}", body.len())
    }
}

fn text(address: std::net::SocketAddr, current: &Path) -> String {
    format!(
        r#"
        [services.api]
        autonomy = "act"
        startup  = "2s"
        release  = [{{ symlink = "{current}", interval = "200ms" }}]
        [services.api.guard]
        good_after = "1s"
        [services.api.probes.health]
        http     = {{ url = "http://{address}/health", json = {{ "/status" = "healthy" }} }}
        interval = "200ms"
        [services.api.scrapes.app]
        url      = "http://{address}/metrics"
        interval = "200ms"
        [services.api.triggers.error-rate]
        ratio = {{ part = 'http_requests_total{{status=~"5.."}}', whole = 'http_requests_total', window = "1s" }}
        above = "15%"
        for   = "600ms"
        gap_tolerance = "5s"
        [services.api.triggers.down]
        health = {{ probe = "health", failures = 3 }}
        gap_tolerance = "5s"
        [[services.api.rollback]]
        name   = "previous release"
        steps  = [{{ command = ["/bin/true", "{{{{ release.target }}}}"] }}]
        verify = {{ within = "1m", soak = "1s" }}
        "#,
        current = current.display()
    )
}

/// The machine, its journal of nothing but memory, and what it asked for.
struct Loop {
    machine: Machine,
    clock: Clock,
    seen: Receiver,
    records: Vec<Record>,
    steps: Vec<StepOrder>,
}

impl Loop {
    fn input(&mut self, input: Input) {
        let mut out = Vec::new();
        self.machine.handle(&self.clock.now(), input, &mut out);
        for output in out {
            match output {
                Output::Append(records) => {
                    let last = records.last().unwrap().seq;
                    self.records.extend(records);
                    self.input(Input::Durable(last));
                }
                Output::RunStep(order) => self.steps.push(*order),
                Output::RunCheck(_) | Output::Deliver(_) | Output::Reply { .. } | Output::Log { .. } => {}
            }
        }
    }

    async fn until(&mut self, what: &str, is_so: impl Fn(&Loop) -> bool) {
        let arrives = async {
            while !is_so(self) {
                let wait = match self.machine.next_deadline() {
                    Some(deadline) => deadline.since(self.clock.monotonic()),
                    None => PATIENCE,
                };
                let observation = tokio::select! {
                    observation = self.seen.recv() => Some(observation.expect("observers run")),
                    () = sleep(wait) => None,
                };
                self.input(observation.map_or(Input::Tick, Input::Observation));
            }
        };
        let in_time = timeout(PATIENCE, arrives).await.is_ok();
        assert!(in_time, "{what}: {:#?}", self.machine.snapshot(&self.clock.now()).services);
    }

    fn fires(&self, trigger: &str) -> bool {
        let snapshot = self.machine.snapshot(&self.clock.now());
        let mut triggers = snapshot.services[0].triggers.iter();
        triggers.any(|shown| *shown.name == *trigger && shown.verdict == "firing")
    }

    fn recorded(&self, is_it: impl Fn(&Entry) -> bool) -> bool {
        self.records.iter().any(|record| is_it(&record.entry))
    }
}

fn point(directory: &Path, release: &str) {
    let target = directory.join(release);
    std::fs::create_dir(&target).unwrap();
    let new = directory.join("new");
    std::os::unix::fs::symlink(&target, &new).unwrap();
    std::fs::rename(new, directory.join("current")).unwrap();
}

#[tokio::test]
async fn t1_t7_bytes_on_a_real_wire_lead_to_a_step_back() {
    let directory = tempfile::tempdir().unwrap();
    point(directory.path(), "r1");
    let service = Arc::new(Service::default());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = tokio::spawn(Arc::clone(&service).serve(listener));

    let source = Source { path: "own.toml".into(), text: text(address, &directory.path().join("current")) };
    let environment = Environment { variable: &|_| None, hostname: "test" };
    let config = parse(&[source], &environment, 1).unwrap_or_else(|report| panic!("{}", report.render(Style::Plain)));
    let clock = Clock::start(None, None);
    let machine = Machine::new(Arc::clone(&config.rules), &clock.now(), Recovered::default(), &mut Vec::new());
    let (sender, seen) = lane();
    let observers = Observers::start(&config, clock.clone(), sender).unwrap();
    let mut play = Loop { machine, clock, seen, records: Vec::new(), steps: Vec::new() };

    play.until("r1 is known to be good", |play| play.recorded(|entry| matches!(entry, Entry::ReleaseGood { .. })))
        .await;
    point(directory.path(), "r2");
    let r2 = Release("r2".into());
    let is_r2 = |entry: &Entry| matches!(entry, Entry::ReleaseSeen { release, .. } if *release == r2);
    play.until("r2 is seen", |play| play.recorded(is_r2)).await;
    assert!(play.steps.is_empty() && !play.recorded(|entry| matches!(entry, Entry::Incident { .. })));
    service.broken.store(true, Ordering::SeqCst);
    play.until("a step starts", |play| !play.steps.is_empty()).await;
    play.until("both triggers fire", |play| play.fires("error-rate") && play.fires("down")).await;

    let [order] = play.steps.as_slice() else { panic!("{} steps", play.steps.len()) };
    assert_eq!((order.bad.as_ref(), order.target.as_ref()), (Some(&r2), Some(&Release("r1".into()))));
    observers.stop().await;
    server.abort();
}
