//! Requests against a server of bytes, so that each way to break an answer is there. Commands are in `tests/commands.rs`.

use std::io::Write as _;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};

use super::*;
use crate::decide::event::{
    Attempt, BodyTemplate, Capture, Check, IncidentId, JsonTest, OnFailure, Release, SecretRef, Step, TextOrSecret,
    Wants,
};
use crate::machine::input::CheckId;

const PATIENCE: Duration = Duration::from_mins(1);

/// Answers every connection with the same bytes, closes it, and keeps what it was sent.
struct Server {
    address: SocketAddr,
    connections: Arc<AtomicUsize>,
    requests: tokio::sync::mpsc::UnboundedReceiver<String>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Server {
    /// None: takes the request and never answers.
    async fn start(answer: Option<Vec<u8>>) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("bound");
        let connections = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&connections);
        let (sender, requests) = tokio::sync::mpsc::unbounded_channel();
        let task = tokio::spawn(async move {
            let mut silent = Vec::new();
            loop {
                let (mut stream, _) = listener.accept().await.expect("a connection");
                count.fetch_add(1, Ordering::SeqCst);
                sender.send(read_request(&mut stream).await).expect("the test listens");
                match &answer {
                    Some(answer) => {
                        stream.write_all(answer).await.ok();
                        stream.shutdown().await.ok();
                    }
                    None => silent.push(stream),
                }
            }
        });
        Server { address, connections, requests, task }
    }

    async fn answering(status: &str, body: &str) -> Server {
        Server::start(Some(response(status, body))).await
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    fn request(&mut self) -> String {
        self.requests.try_recv().expect("a request was sent")
    }
}

fn response(status: &str, body: &str) -> Vec<u8> {
    format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n{body}", body.len()).into_bytes()
}

async fn read_request(stream: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        let text = String::from_utf8_lossy(&bytes).to_ascii_lowercase();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap_or("0");
            if body.len() >= length.parse().expect("a length") {
                return String::from_utf8(bytes).expect("text");
            }
        }
        match stream.read(&mut buffer).await.expect("readable") {
            0 => return String::from_utf8_lossy(&bytes).into_owned(),
            count => bytes.extend_from_slice(&buffer[..count]),
        }
    }
}

fn order(url: String) -> StepOrder {
    let release = |name: &str| Some(Release(name.into()));
    StepOrder {
        incident: IncidentId("api-17".into()),
        service: "api".into(),
        attempt: Attempt { level: 0, step: 0, attempt: 0, undo: false },
        step: Step {
            name: "flag off".to_owned(),
            action: Action::Http {
                method: "PATCH".to_owned(),
                url,
                headers: BTreeMap::new(),
                body: BodyTemplate::None,
                expect: Vec::new(),
                captures: Vec::new(),
            },
            timeout: PATIENCE,
            idempotent: false,
            on_failure: OnFailure::Climb,
            retry: None,
            check: None,
        },
        idempotency_key: "api-17/0/0".to_owned(),
        expect_release: release("2.0"),
        bad: release("2.0"),
        target: release("feature/1.9"),
        running: release("2.0"),
        variables: BTreeMap::from([("trigger".to_owned(), "error \"rate\"".to_owned())]),
        captures: BTreeMap::new(),
    }
}

/// Sets what differs from [`order`].
fn with(
    mut order: StepOrder,
    change: impl FnOnce(&mut BTreeMap<String, TextOrSecret>, &mut BodyTemplate, &mut Vec<u16>, &mut Vec<Capture>),
) -> StepOrder {
    match &mut order.step.action {
        Action::Http { headers, body, expect, captures, .. } => change(headers, body, expect, captures),
        Action::Command { .. } => unreachable!("these tests send requests"),
    }
    order
}

/// A sign-in: an authorised POST whose answer must hold a session.
fn check(url: String, expect: Vec<u16>, json: Vec<JsonTest>) -> CheckOrder {
    let StepOrder { incident, service, attempt, bad, target, running, variables, captures, .. } = order(String::new());
    CheckOrder {
        id: CheckId(1),
        service,
        incident: Some(incident),
        check: Check {
            name: "sign-in".to_owned(),
            ask: Ask::Http {
                method: "POST".to_owned(),
                url,
                headers: BTreeMap::new(),
                body: BodyTemplate::Json(json!({ "user": "probe", "release": "{{ release.target }}" })),
                expect,
                json,
            },
            timeout: PATIENCE,
        },
        level: Some(attempt.level),
        attempt: None,
        bad,
        target,
        running,
        variables,
        captures,
    }
}

async fn asked(order: &CheckOrder) -> CheckOutcome {
    Executor::new(Clock::start(None, None)).expect("a client").check(order).await
}

async fn run(order: &StepOrder) -> StepResult {
    let executor = Executor::new(Clock::start(None, None)).expect("a client");
    executor.run(order, |_, _| {}).await
}

fn capture(name: &str, pointer: &str) -> Capture {
    Capture { name: name.to_owned(), pointer: pointer.to_owned() }
}

#[tokio::test]
async fn a_request_carries_what_the_step_says() {
    let mut server = Server::answering("200 OK", "fine").await;
    let order = with(order(server.url("/flags/{{ release.target }}?level={{ level }}")), |headers, body, _, _| {
        headers.insert("X-Release".to_owned(), TextOrSecret::Text("bad={{ release.bad }}".to_owned()));
        *body = BodyTemplate::Json(json!({ "why": ["{{ trigger }}"], "enabled": false, "n": 1 }));
    });
    let result = run(&order).await;
    assert_eq!(
        (result.outcome, result.detail.as_str(), result.output.as_str()),
        (Outcome::Succeeded, "HTTP 200", "fine")
    );
    let request = server.request();
    let (head, body) = request.split_once("\r\n\r\n").expect("head and body");
    assert!(head.starts_with("PATCH /flags/feature%2F1.9?level=1 HTTP/1.1\r\n"), "{head}");
    for line in ["idempotency-key: api-17/0/0", "x-release: bad=2.0", "content-type: application/json"] {
        assert!(head.lines().any(|found| found == line), "{line} is not in {head}");
    }
    let sent: serde_json::Value = serde_json::from_str(body).expect("JSON");
    assert_eq!(sent, json!({ "why": ["error \"rate\""], "enabled": false, "n": 1 }));
}

#[tokio::test]
async fn a_status_that_was_not_expected_is_a_failure() {
    let cases: [(&str, &[u16], Outcome); 5] = [
        ("204 No Content", &[], Outcome::Succeeded),
        ("503 Service Unavailable", &[], Outcome::Failed),
        ("200 OK", &[202], Outcome::Failed),
        ("404 Not Found", &[200, 404], Outcome::Succeeded),
        ("302 Found\r\nLocation: http://127.0.0.1:1/other", &[], Outcome::Failed),
    ];
    for (status, expected, outcome) in cases {
        let server = Server::answering(status, "").await;
        let result = run(&with(order(server.url("/")), |_, _, expect, _| expect.extend(expected))).await;
        assert_eq!(result.outcome, outcome, "{status}: {}", result.detail);
        assert!(result.detail.starts_with(&format!("HTTP {}", &status[..3])), "{}", result.detail);
        assert_eq!(server.connections.load(Ordering::SeqCst), 1);
    }
}

#[tokio::test]
async fn values_are_captured_or_the_step_has_failed() {
    let body = r#"{"id": "dep_1", "n": 7, "ok": true, "list": ["x"], "none": null}"#;
    let server = Server::answering("200 OK", body).await;
    let result = run(&with(order(server.url("/")), |_, _, _, captures| {
        captures.extend([capture("id", "/id"), capture("n", "/n"), capture("ok", "/ok"), capture("first", "/list/0")]);
    }))
    .await;
    assert_eq!(result.outcome, Outcome::Succeeded, "{}", result.detail);
    let captured: Vec<_> = result.captures.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    assert_eq!(captured, [("first", "x"), ("id", "dep_1"), ("n", "7"), ("ok", "true")]);
    for (pointer, sentence) in [
        ("/nothing", "HTTP 200, but there is nothing at /nothing, to be captured as it"),
        ("/list", "HTTP 200, but what is at /list, to be captured as it, is not a text, number or boolean"),
        ("/none", "HTTP 200, but what is at /none, to be captured as it, is not a text, number or boolean"),
    ] {
        let result =
            run(&with(order(server.url("/")), |_, _, _, captures| captures.push(capture("it", pointer)))).await;
        assert_eq!((result.outcome, result.detail.as_str()), (Outcome::Failed, sentence));
    }
    for body in ["not JSON".to_owned(), format!("\"{}\"", "x".repeat(100_000))] {
        let server = Server::answering("200 OK", &body).await;
        let result = run(&with(order(server.url("/")), |_, _, _, captures| captures.push(capture("it", "")))).await;
        assert_eq!(result.outcome, Outcome::Failed, "{}", result.detail);
    }
}

#[tokio::test]
async fn what_was_sent_without_a_whole_answer_is_ambiguous_and_not_sent_again() {
    let cut = b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nonly this".to_vec();
    for answer in [Vec::new(), b"nonsense\r\n\r\n".to_vec(), cut] {
        let server = Server::start(Some(answer.clone())).await;
        let result = run(&order(server.url("/"))).await;
        assert_eq!(result.outcome, Outcome::Ambiguous, "{}: {}", String::from_utf8_lossy(&answer), result.detail);
        assert_eq!(server.connections.load(Ordering::SeqCst), 1);
    }
    // That it failed is known from its status alone.
    let cut = b"HTTP/1.1 500 Oh\r\nContent-Length: 100\r\n\r\nonly this".to_vec();
    let server = Server::start(Some(cut)).await;
    let result = run(&order(server.url("/"))).await;
    assert_eq!((result.outcome, result.output.as_str()), (Outcome::Failed, "only this"));
}

#[tokio::test]
async fn a_request_that_was_never_sent_has_failed() {
    // Taken, and nobody listens.
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.bind("127.0.0.1:0".parse().expect("an address")).expect("a port");
    let result = run(&order(format!("http://{}/", socket.local_addr().expect("bound")))).await;
    assert_eq!(result.outcome, Outcome::Failed);
    assert!(result.detail.starts_with("cannot connect: Connection refused"), "{}", result.detail);
    // Not TLS on the other side.
    let server = Server::answering("200 OK", "").await;
    let result = run(&order(format!("https://{}/", server.address))).await;
    assert_eq!(result.outcome, Outcome::Failed, "{}", result.detail);
    assert!(result.detail.starts_with("cannot connect: "), "{}", result.detail);
    let mut started = false;
    let executor = Executor::new(Clock::start(None, None)).expect("a client");
    for url in ["ftp://127.0.0.1/", "not a url", "http://127.0.0.1/{{ labels.zone }}", "http://127.0.0.1/{{ trigger }}"]
    {
        let result = executor.run(&order(url.to_owned()), |_, _| started = true).await;
        assert_eq!(result.outcome, Outcome::Failed, "{url}");
        assert!(result.detail.starts_with("not started: "), "{}", result.detail);
        assert!(!started, "{url}");
    }
}

#[tokio::test]
async fn a_host_that_does_not_take_connections_is_not_a_timed_out_request() {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.bind("127.0.0.1:0".parse().expect("an address")).expect("a port");
    let listener = socket.listen(1).expect("listening");
    let address = listener.local_addr().expect("bound");
    // Its queue is full when a connection is not made at once.
    let mut queued = Vec::new();
    while let Ok(stream) = tokio::time::timeout(Duration::from_millis(300), TcpStream::connect(address)).await {
        queued.push(stream.expect("loopback"));
        assert!(queued.len() < 100, "the queue does not fill");
    }
    let mut order = order(format!("http://{address}/"));
    order.step.timeout = Duration::from_millis(900);
    let result = run(&order).await;
    assert_eq!((result.outcome, result.detail.as_str()), (Outcome::Failed, "cannot connect: no connection in time"));
}

#[tokio::test]
async fn a_server_that_does_not_answer_times_out() {
    let mut server = Server::start(None).await;
    let mut order = order(server.url("/"));
    // Time enough to connect and to send.
    order.step.timeout = Duration::from_secs(3);
    let result = run(&order).await;
    let sentence = "no answer by the deadline of 3s";
    assert_eq!((result.outcome, result.detail.as_str()), (Outcome::TimedOut, sentence));
    assert!(server.request().starts_with("PATCH / "));
    assert!(result.duration_ms >= 2_900, "{}", result.duration_ms);
}

#[tokio::test]
async fn secrets_are_sent_and_not_kept() {
    let mut file = tempfile::NamedTempFile::new().expect("a file");
    writeln!(file, "s3cr3t-token").expect("written");
    let path = file.path().to_str().expect("Unicode").to_owned();
    let mut server = Server::answering("401 No", "{\"you sent\": \"Bearer s3cr3t-token\"}").await;
    let order = with(order(server.url("/")), |headers, _, _, _| {
        let secret = TextOrSecret::Secret { prefix: "Bearer ".to_owned(), secret: SecretRef::File(path) };
        headers.insert("Authorization".to_owned(), secret);
    });
    let result = run(&order).await;
    assert!(server.request().contains("authorization: Bearer s3cr3t-token\r\n"));
    assert_eq!(result.output, "{\"you sent\": \"Bearer [redacted]\"}");
    let missing = with(order, |headers, _, _, _| {
        let secret = TextOrSecret::Secret { prefix: String::new(), secret: SecretRef::File("/no/such".to_owned()) };
        headers.insert("Authorization".to_owned(), secret);
    });
    let result = run(&missing).await;
    assert_eq!(result.outcome, Outcome::Failed);
    let sentence = "not started: the header Authorization: cannot read the secret file /no/such: No such file";
    assert!(result.detail.starts_with(sentence), "{}", result.detail);
}

#[tokio::test]
async fn a_long_reply_is_cut() {
    let server = Server::answering("200 OK", &"ö".repeat(100_000)).await;
    let result = run(&order(server.url("/"))).await;
    assert_eq!((result.outcome, result.truncated), (Outcome::Succeeded, true));
    assert!(result.output.len() <= 64 * 1024 + 2, "{}", result.output.len());
}

#[tokio::test]
async fn a_check_over_http_says_yes_no_or_nothing() {
    let exists = |pointer: &str| JsonTest { pointer: pointer.to_owned(), wants: Wants::Exists };
    let mut server = Server::answering("200 OK", r#"{"session": "s1", "rows": [1, 2]}"#).await;
    let order = check(server.url("/login"), Vec::new(), vec![exists("/session")]);
    assert_eq!(asked(&order).await, CheckOutcome::Passed);
    let request = server.request();
    assert!(request.starts_with("POST /login") && request.contains("feature/1.9"), "{request}");
    assert!(!request.to_ascii_lowercase().contains("idempotency-key"), "nothing is changed: {request}");

    let failed = |why: &str| CheckOutcome::Failed(why.to_owned());
    let order = check(server.url("/login"), Vec::new(), vec![exists("/session"), exists("/token")]);
    assert_eq!(asked(&order).await, failed("there is no /token"));
    let order = check(server.url("/login"), vec![201], Vec::new());
    assert_eq!(asked(&order).await, failed("HTTP 200"));
    let refused = Server::answering("401 Unauthorized", "").await;
    assert_eq!(asked(&check(refused.url("/"), vec![401], Vec::new())).await, CheckOutcome::Passed);
    assert_eq!(asked(&check(refused.url("/"), Vec::new(), Vec::new())).await, failed("HTTP 401"));
    let odd = Server::answering("200 OK", "<html>").await;
    let outcome = asked(&check(odd.url("/"), Vec::new(), vec![exists("/session")])).await;
    assert!(matches!(&outcome, CheckOutcome::Failed(why) if why.contains("is not JSON")), "{outcome:?}");
}

#[tokio::test]
async fn a_check_without_an_answer_is_neither_yes_nor_no() {
    let unknown = |outcome: &CheckOutcome, part: &str| {
        assert!(matches!(outcome, CheckOutcome::Unknown(why) if why.contains(part)), "{part}: {outcome:?}");
    };
    let exists = || vec![JsonTest { pointer: "/a".to_owned(), wants: Wants::Exists }];
    let silent = Server::start(None).await;
    let mut order = check(silent.url("/"), Vec::new(), Vec::new());
    order.check.timeout = Duration::from_millis(200);
    unknown(&asked(&order).await, "deadline of 200ms");

    let nobody = TcpSocket::new_v4().expect("a socket");
    nobody.bind("127.0.0.1:0".parse().expect("an address")).expect("a port");
    let closed = nobody.local_addr().expect("bound");
    unknown(&asked(&check(format!("http://{closed}/"), Vec::new(), Vec::new())).await, "refused");

    let broken = Server::start(Some(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{\"a\":".to_vec())).await;
    unknown(&asked(&check(broken.url("/"), Vec::new(), exists())).await, "broke off");
    let large = Server::answering("200 OK", &format!("[{}1]", "1,".repeat(600_000))).await;
    unknown(&asked(&check(large.url("/"), Vec::new(), exists())).await, "larger than");
    unknown(&asked(&check("http://host/{{ nothing }}".to_owned(), Vec::new(), Vec::new())).await, "not asked");
}

#[tokio::test]
async fn what_a_check_says_holds_no_secret() {
    let server = Server::answering("200 OK", r#"{"you_are": "t0p-secret"}"#).await;
    let wants = Wants::Equals(json!("somebody"));
    let mut order = check(server.url("/"), Vec::new(), vec![JsonTest { pointer: "/you_are".to_owned(), wants }]);
    let file = tempfile::NamedTempFile::new().expect("a file");
    file.as_file().write_all(b"t0p-secret").expect("written");
    let secret = SecretRef::File(file.path().display().to_string());
    if let Ask::Http { headers, .. } = &mut order.check.ask {
        headers.insert("Authorization".to_owned(), TextOrSecret::Secret { prefix: "Bearer ".to_owned(), secret });
    }
    let outcome = asked(&order).await;
    assert_eq!(outcome, CheckOutcome::Failed("/you_are is \"[redacted]\", not \"somebody\"".to_owned()));
    if let Ask::Http { headers, .. } = &mut order.check.ask {
        let secret = SecretRef::File("/no/such/secret".to_owned());
        headers.insert("Authorization".to_owned(), TextOrSecret::Secret { prefix: String::new(), secret });
    }
    let outcome = asked(&order).await;
    assert!(matches!(&outcome, CheckOutcome::Unknown(why) if why.contains("not asked")), "{outcome:?}");
}
