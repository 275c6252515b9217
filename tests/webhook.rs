//! Promise: a receiver gets what docs/webhook.md says, signed so that any Standard Webhooks library verifies it; and
//! whatever a receiver does costs one attempt, bounded in time and memory.

#[path = "golden/notices.rs"]
mod notices;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use backstop::config::model::{Approvals, AuthSpec, ClientSpec, ReceiverKind, ReceiverSpec, RequestLimits, TlsSpec};
use backstop::decide::event::{Notice, NoticeKind, SecretRef, TextOrSecret};
use backstop::link::Keys;
use backstop::machine::input::DeliveryOutcome;
use backstop::machine::output::DeliveryOrder;
use backstop::notify::{Notifier, Origin};
use backstop::platform::clock::Clock;
use notices::{KINDS, example, example_now};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket};
use tokio::sync::mpsc;

/// A request as it arrived.
type Arrived = (HeaderMap, Bytes);
type Answer = Arc<dyn Fn() -> Response + Send + Sync>;

struct Server {
    address: SocketAddr,
    arrived: mpsc::Receiver<Arrived>,
    task: tokio::task::JoinHandle<()>,
}

impl Server {
    /// Answers every request so.
    async fn start(answer: impl Fn() -> Response + Send + Sync + 'static) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (sender, arrived) = mpsc::channel(100);
        let answer: Answer = Arc::new(answer);
        let app = Router::new().fallback(Server::take).with_state((sender, answer));
        let task = tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
        Server { address, arrived, task }
    }

    async fn take(
        State((sender, answer)): State<(mpsc::Sender<Arrived>, Answer)>,
        headers: HeaderMap,
        body: Bytes,
    ) -> Response {
        sender.send((headers, body)).await.unwrap();
        answer()
    }

    fn url(&self) -> TextOrSecret {
        TextOrSecret::Text(format!("http://{}/hooks/backstop", self.address))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn status(code: u16) -> impl Fn() -> Response + Send + Sync + 'static {
    move || StatusCode::from_u16(code).unwrap().into_response()
}

/// Longer than anything here takes on a busy machine; a test that reaches it has failed.
const PATIENCE: Duration = Duration::from_mins(1);

fn receiver(url: TextOrSecret, secrets: Vec<SecretRef>, client: ClientSpec) -> ReceiverSpec {
    ReceiverSpec {
        name: "oncall".into(),
        kind: ReceiverKind::Webhook { url, secrets, client },
        limits: RequestLimits { connect_timeout: PATIENCE, timeout: PATIENCE, body_bytes_max: 4096 },
        approve_link: true,
    }
}

fn origin() -> Origin {
    Origin { instance: "shop-1".into(), public_url: Some("https://backstop.example.com".to_owned()), approvals: None }
}

/// Questions are answered behind this address, with this key.
fn with_links(keys: Vec<SecretRef>, expires_after: Option<Duration>) -> Origin {
    let external_url = "https://backstop.example.com/answer".to_owned();
    let listen = "127.0.0.1:9465".parse().unwrap();
    Origin { approvals: Some(Approvals { listen, external_url, keys, expires_after }), ..origin() }
}

fn notifier(spec: ReceiverSpec) -> Notifier {
    Notifier::new(&[spec], origin()).unwrap()
}

fn order(attempt: u32) -> DeliveryOrder {
    let notice = example(NoticeKind::Started);
    DeliveryOrder { receiver: "oncall".into(), notice, attempt, outdated: false, age: Duration::ZERO }
}

async fn deliver(url: TextOrSecret) -> DeliveryOutcome {
    notifier(receiver(url, vec![], ClientSpec::default())).deliver(&order(1), &example_now(0)).await
}

fn retry(outcome: DeliveryOutcome) -> (Duration, String) {
    match outcome {
        DeliveryOutcome::Retry { after, why } => (after, why),
        other @ (DeliveryOutcome::Delivered | DeliveryOutcome::Dead { .. }) => panic!("{other:?}"),
    }
}

fn is_first_backoff(after: Duration) -> bool {
    (Duration::from_secs(1)..=Duration::from_secs(2)).contains(&after)
}

#[tokio::test]
async fn a_2xx_is_delivered() {
    for code in [200, 202, 204] {
        let mut server = Server::start(status(code)).await;
        assert_eq!(deliver(server.url()).await, DeliveryOutcome::Delivered);
        let (headers, body) = server.arrived.recv().await.unwrap();
        assert_eq!(headers[header::CONTENT_TYPE], "application/json");
        assert_eq!(headers["webhook-id"], order(1).notice.id);
        assert_eq!(headers["webhook-timestamp"], "1795144440");
        assert!(headers.get("webhook-signature").is_none(), "no secret, no signature");
        let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
        assert_eq!((body["schema"].as_str(), body["type"].as_str()), (Some("backstop/notice/v1"), Some("started")));
    }
}

#[tokio::test]
async fn an_error_is_tried_again_and_says_what_the_receiver_said() {
    let server =
        Server::start(|| (StatusCode::INTERNAL_SERVER_ERROR, "out of\n\n\u{1b}[31mcoffee").into_response()).await;
    let (after, why) = retry(deliver(server.url()).await);
    assert!(is_first_backoff(after), "{after:?}");
    assert_eq!(why, "HTTP 500 Internal Server Error: out of [31mcoffee");
    for code in [400, 401, 404, 429, 503] {
        let server = Server::start(status(code)).await;
        let (_, why) = retry(deliver(server.url()).await);
        assert!(why.starts_with(&format!("HTTP {code}")), "{why}");
    }
}

#[tokio::test]
async fn a_410_is_the_end() {
    let server = Server::start(status(410)).await;
    let outcome = deliver(server.url()).await;
    assert!(matches!(&outcome, DeliveryOutcome::Dead { why } if why.contains("410 Gone")), "{outcome:?}");
}

#[tokio::test]
async fn retry_after_is_honoured_in_both_forms() {
    let with =
        |value: &'static str| move || (StatusCode::SERVICE_UNAVAILABLE, [(header::RETRY_AFTER, value)]).into_response();
    let server = Server::start(with("77")).await;
    assert_eq!(retry(deliver(server.url()).await).0, Duration::from_secs(77));
    let server = Server::start(with("86400")).await;
    assert_eq!(retry(deliver(server.url()).await).0, Duration::from_hours(1));
    let server = Server::start(move || {
        let headers =
            [(header::DATE, "Fri, 20 Nov 2026 09:00:00 GMT"), (header::RETRY_AFTER, "Fri, 20 Nov 2026 09:02:03 GMT")];
        (StatusCode::TOO_MANY_REQUESTS, headers).into_response()
    })
    .await;
    assert_eq!(retry(deliver(server.url()).await).0, Duration::from_secs(123));
}

#[tokio::test]
async fn a_redirect_is_refused_and_says_where_to_mend_it() {
    let mut elsewhere = Server::start(status(200)).await;
    let to = format!("http://{}/new", elsewhere.address);
    for code in [301, 302, 307, 308] {
        let location = to.clone();
        let server = Server::start(move || {
            (StatusCode::from_u16(code).unwrap(), [(header::LOCATION, location.clone())]).into_response()
        })
        .await;
        let (_, why) = retry(deliver(server.url()).await);
        assert!(
            why.contains(&format!(
                "a redirect to {to}, which is not followed: put the final address into receivers.oncall.webhook.url"
            )),
            "{why}"
        );
    }
    assert!(elsewhere.arrived.try_recv().is_err(), "nothing was sent there");
}

#[tokio::test]
async fn a_receiver_that_hangs_costs_its_timeout_and_no_more() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = TextOrSecret::Text(format!("http://{}/", listener.local_addr().unwrap()));
    // Connections are made by the kernel; nobody ever answers.
    let mut spec = receiver(url, vec![], ClientSpec::default());
    spec.limits.timeout = Duration::from_millis(1_500);
    let delivering = notifier(spec);
    let (order, now) = (order(1), example_now(0));
    let outcome = tokio::time::timeout(PATIENCE, delivering.deliver(&order, &now)).await.expect("bounded");
    let (after, why) = retry(outcome);
    assert_eq!(why, "no answer within 1s 500ms");
    assert!(is_first_backoff(after));
}

/// Answers one request with this status and a body that does not end; gives what the kernel took of it.
async fn endless(status: &'static str) -> (TextOrSecret, tokio::task::JoinHandle<usize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = TextOrSecret::Text(format!("http://{}/", listener.local_addr().unwrap()));
    let server = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        assert!(stream.read(&mut vec![0; 32 * 1024]).await.unwrap() > 0);
        let head = format!("HTTP/1.1 {status}\r\ncontent-length: 10000000000\r\n\r\n");
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut taken = 0;
        while let Ok(more) = stream.write(&[b'x'; 16 * 1024]).await {
            taken += more;
        }
        taken
    });
    (url, server)
}

#[tokio::test]
async fn a_reply_of_gigabytes_is_not_read_to_its_end() {
    let (url, server) = endless("502 Bad Gateway").await;
    let (_, why) = retry(tokio::time::timeout(PATIENCE, deliver(url)).await.expect("bounded"));
    assert_eq!(why, format!("HTTP 502 Bad Gateway: {}…", "x".repeat(200)));
    // What the sockets' buffers hold was sent, and then the connection ended.
    let taken = tokio::time::timeout(PATIENCE, server).await.expect("closed by us").unwrap();
    assert!(taken < 64 << 20, "{taken} bytes");
    let (url, server) = endless("200 OK").await;
    let outcome = tokio::time::timeout(PATIENCE, deliver(url)).await.expect("bounded");
    assert_eq!(outcome, DeliveryOutcome::Delivered);
    let taken = tokio::time::timeout(PATIENCE, server).await.expect("closed by us").unwrap();
    assert!(taken < 64 << 20, "{taken} bytes");
}

#[tokio::test]
async fn a_receiver_that_is_not_there_is_tried_again() {
    // Taken, and nobody listens.
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = socket.local_addr().unwrap();
    let (after, why) = retry(deliver(TextOrSecret::Text(format!("http://{address}/secret-path"))).await);
    assert!(why.starts_with("cannot connect: ") && why.contains("refused"), "{why}");
    assert!(!why.contains("secret-path"), "{why}");
    assert!(is_first_backoff(after));
    // The eighth attempt waits somewhere below five minutes: the backoff knows the attempt.
    let notifier = notifier(receiver(TextOrSecret::Text(format!("http://{address}/")), vec![], ClientSpec::default()));
    let mut longest = Duration::ZERO;
    for _ in 0..12 {
        longest = longest.max(retry(notifier.deliver(&order(9), &example_now(0)).await).0);
    }
    assert!(longest > Duration::from_secs(10) && longest <= Duration::from_mins(5), "{longest:?}");
}

#[tokio::test]
async fn a_receiver_that_is_not_configured_is_the_end_and_a_bad_reload_changes_nothing() {
    let mut server = Server::start(status(200)).await;
    let mut notifier = notifier(receiver(server.url(), vec![], ClientSpec::default()));
    let bad = receiver(TextOrSecret::Text("ftp://example.com/".to_owned()), vec![], ClientSpec::default());
    let error = notifier.reconfigure(&[bad], origin()).unwrap_err();
    assert!(error.to_string().starts_with("receivers.oncall: \"ftp://example.com/\" is not an address"), "{error}");
    assert_eq!(notifier.deliver(&order(1), &example_now(0)).await, DeliveryOutcome::Delivered);
    server.arrived.recv().await.unwrap();
    let client = ClientSpec {
        headers: BTreeMap::from([("not a name".to_owned(), TextOrSecret::Text(String::new()))]),
        ..ClientSpec::default()
    };
    assert!(notifier.reconfigure(&[receiver(server.url(), vec![], client)], origin()).is_err());
    notifier.reconfigure(&[], origin()).unwrap();
    let outcome = notifier.deliver(&order(1), &example_now(0)).await;
    assert!(matches!(&outcome, DeliveryOutcome::Dead { why } if why.contains("no receiver \"oncall\"")), "{outcome:?}");
}

struct Secrets(tempfile::TempDir);

impl Secrets {
    fn new() -> Secrets {
        Secrets(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn file(&self, name: &str, text: &str) -> SecretRef {
        std::fs::write(self.path(name), text).unwrap();
        SecretRef::File(self.path(name).to_str().unwrap().to_owned())
    }
}

const NEW: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
const OLD: &str = "an older secret, as plain text";

#[tokio::test]
async fn signatures_verify_with_the_schemes_own_library_during_a_rotation() {
    let secrets = Secrets::new();
    let keys = vec![secrets.file("new", &format!("{NEW}\n")), secrets.file("old", OLD)];
    let mut server = Server::start(status(500)).await;
    let notifier = notifier(receiver(server.url(), keys, ClientSpec::default()));
    // The library refuses old timestamps, so the clock is the real one here.
    let clock = Clock::start(None, None);
    let mut ids = Vec::new();
    for attempt in 1..=2 {
        retry(notifier.deliver(&order(attempt), &clock.now()).await);
        let (headers, body) = server.arrived.recv().await.unwrap();
        let new = standardwebhooks::Webhook::new(NEW).unwrap();
        let old = standardwebhooks::Webhook::from_bytes(OLD.as_bytes().to_vec()).unwrap();
        let other = standardwebhooks::Webhook::from_bytes(b"someone else's".to_vec()).unwrap();
        new.verify(&body, &headers).unwrap();
        old.verify(&body, &headers).unwrap();
        assert!(other.verify(&body, &headers).is_err());
        let mut forged = body.to_vec();
        let at = forged.windows(3).position(|bytes| bytes == b"v42").unwrap();
        forged[at + 2] = b'3';
        assert!(new.verify(&forged, &headers).is_err());
        ids.push(headers["webhook-id"].clone());
    }
    assert_eq!(ids[0], ids[1], "the same on each attempt");

    // Rotated on the disk: the next attempt signs with what is there now.
    secrets.file("old", "the next one");
    retry(notifier.deliver(&order(3), &clock.now()).await);
    let (headers, body) = server.arrived.recv().await.unwrap();
    assert!(standardwebhooks::Webhook::from_bytes(OLD.as_bytes().to_vec()).unwrap().verify(&body, &headers).is_err());
    standardwebhooks::Webhook::from_bytes(b"the next one".to_vec()).unwrap().verify(&body, &headers).unwrap();
}

#[tokio::test]
async fn each_attempt_has_a_timestamp_of_its_own() {
    let mut server = Server::start(status(200)).await;
    let notifier = notifier(receiver(server.url(), vec![], ClientSpec::default()));
    for seconds in [0, 61] {
        notifier.deliver(&order(1), &example_now(seconds)).await;
        let (headers, body) = server.arrived.recv().await.unwrap();
        assert_eq!(headers["webhook-timestamp"], (1_795_144_440 + seconds).to_string());
        let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(body["sent_at"], example_now(seconds).wall.to_string());
        assert_eq!(body["occurred_at"], "2026-11-20T03:14:00.000Z");
    }
}

#[tokio::test]
async fn headers_credentials_and_the_address_come_from_secrets_and_never_come_back() {
    let secrets = Secrets::new();
    let echo = || (StatusCode::FORBIDDEN, "token t0p-s3cret of path-s3cret is not allowed").into_response();
    let mut server = Server::start(echo).await;
    let address = secrets.file("url", &format!("http://{}/path-s3cret\n", server.address));
    let client = ClientSpec {
        headers: BTreeMap::from([
            ("x-team".to_owned(), TextOrSecret::Text("shop".to_owned())),
            (
                "x-token".to_owned(),
                TextOrSecret::Secret { prefix: "Token ".to_owned(), secret: secrets.file("token", "t0p-s3cret") },
            ),
            ("webhook-id".to_owned(), TextOrSecret::Text("forged".to_owned())),
        ]),
        auth: Some(AuthSpec::Basic { username: "me".to_owned(), password: secrets.file("password", "pässword") }),
        ..ClientSpec::default()
    };
    let url = TextOrSecret::Secret { prefix: String::new(), secret: address };
    let spec = receiver(url, vec![], client);
    let notifier = notifier(spec);
    assert!(!format!("{notifier:?}").contains("s3cret"));
    let (_, why) = retry(notifier.deliver(&order(1), &example_now(0)).await);
    assert_eq!(why, "HTTP 403 Forbidden: token [redacted] of [redacted] is not allowed");
    let (headers, _) = server.arrived.recv().await.unwrap();
    assert_eq!(
        (&headers["x-team"], &headers["x-token"]),
        (&"shop".parse().unwrap(), &"Token t0p-s3cret".parse().unwrap())
    );
    assert_eq!(headers[header::AUTHORIZATION], "Basic bWU6cMOkc3N3b3Jk");
    assert_eq!(headers["webhook-id"], order(1).notice.id);

    // A secret that is gone is tried again: it may be put back while the notice waits.
    std::fs::remove_file(secrets.path("token")).unwrap();
    let (_, why) = retry(notifier.deliver(&order(1), &example_now(0)).await);
    assert!(why.contains("cannot read the secret file") && why.contains("No such file"), "{why}");
    assert!(server.arrived.try_recv().is_err());
}

/// The `approve_url` of the notice that asks, sent so.
async fn link_of(origin: Origin, approve_link: bool, change: impl FnOnce(&mut DeliveryOrder)) -> Option<String> {
    let mut server = Server::start(status(200)).await;
    let spec = ReceiverSpec { approve_link, ..receiver(server.url(), vec![], ClientSpec::default()) };
    let mut order = DeliveryOrder { notice: example(NoticeKind::ApprovalRequested), ..order(1) };
    change(&mut order);
    let outcome = Notifier::new(&[spec], origin).unwrap().deliver(&order, &example_now(1)).await;
    assert_eq!(outcome, DeliveryOutcome::Delivered, "whatever becomes of its link");
    let (_, body) = server.arrived.recv().await.unwrap();
    let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
    body["approve_url"].as_str().map(str::to_owned)
}

#[tokio::test]
async fn a_notice_that_asks_has_a_link_that_is_the_same_on_every_attempt() {
    let secrets = Secrets::new();
    let keys = || vec![secrets.file("key", &"k".repeat(32)), secrets.file("old", &"o".repeat(32))];
    let origin = || with_links(keys(), None);
    let link = link_of(origin(), true, |_| {}).await.expect("a link");
    let token = link.strip_prefix("https://backstop.example.com/answer/approve/").expect("its address");
    assert!(token.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte)), "{token}");
    assert_eq!(link_of(origin(), true, |order| order.attempt = 9).await, Some(link.clone()));
    let said =
        backstop::link::open(token, "https://backstop.example.com/answer", &Keys::read(&keys()).unwrap()).unwrap();
    let example = example(NoticeKind::ApprovalRequested);
    assert_eq!((said.incident.as_str(), said.receiver.as_str(), said.number), ("api-17", "oncall", 1));
    assert_eq!((Some(said.expires), said.bad.as_deref()), (example.respond_by, Some("v42")));

    let shorter = link_of(with_links(keys(), Some(Duration::from_mins(1))), true, |_| {}).await.expect("a link");
    let token = shorter.rsplit('/').next().unwrap();
    let said =
        backstop::link::open(token, "https://backstop.example.com/answer", &Keys::read(&keys()).unwrap()).unwrap();
    assert_eq!(said.expires, example.occurred_at + Duration::from_mins(1));
}

#[tokio::test]
async fn what_asks_nothing_any_more_or_cannot_be_signed_has_no_link_and_is_sent() {
    let secrets = Secrets::new();
    let key = || vec![secrets.file("key", &"k".repeat(32))];
    assert_eq!(link_of(origin(), true, |_| {}).await, None, "nobody listens");
    assert_eq!(link_of(with_links(key(), None), false, |_| {}).await, None, "not to this receiver");
    assert_eq!(link_of(with_links(key(), None), true, |order| order.outdated = true).await, None);
    assert_eq!(link_of(with_links(key(), None), true, |order| order.notice.question = None).await, None);
    assert_eq!(
        link_of(with_links(key(), Some(Duration::from_secs(1))), true, |_| {}).await,
        None,
        "it is over already"
    );
    for keys in [vec![], vec![secrets.file("short", "k")], vec![SecretRef::File("/no/such/key".to_owned())]] {
        assert_eq!(link_of(with_links(keys, None), true, |_| {}).await, None);
    }
    let long = |order: &mut DeliveryOrder| {
        order.notice.question.as_mut().unwrap().bad = Some("v".repeat(5_000));
    };
    assert_eq!(link_of(with_links(key(), None), true, long).await, None);
}

#[tokio::test]
async fn a_receiver_that_sends_the_link_back_does_not_bring_it_into_the_log() {
    let secrets = Secrets::new();
    let keys = vec![secrets.file("key", &"k".repeat(32))];
    // It complains about the link alone, or so late that the link would be cut in two.
    let complain = async |body: String| {
        let body: serde_json::Value = serde_json::from_str(&body).unwrap();
        let link = body["approve_url"].as_str().unwrap();
        let before = if body["text"] == "late" { "x".repeat(100) } else { String::new() };
        (StatusCode::BAD_REQUEST, format!("{before} I cannot show {link} to anybody"))
    };
    let app = Router::new().fallback(complain);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = TextOrSecret::Text(format!("http://{}/", listener.local_addr().unwrap()));
    let server = tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
    let notifier = Notifier::new(&[receiver(url, vec![], ClientSpec::default())], with_links(keys, None)).unwrap();
    for text in ["soon", "late"] {
        let notice = Notice { text: text.to_owned(), ..example(NoticeKind::ApprovalRequested) };
        let (_, why) = retry(notifier.deliver(&DeliveryOrder { notice, ..order(1) }, &example_now(1)).await);
        assert!(why.contains("https://backstop.example.com/answer/approve/[redacted] to anybody"), "{why}");
    }
    server.abort();
}

#[tokio::test]
async fn a_custom_ca_is_trusted_and_a_stranger_is_not() {
    backstop::platform::http::install_crypto();
    let secrets = Secrets::new();
    let certified = rcgen::generate_simple_self_signed(["localhost".to_owned(), "127.0.0.1".to_owned()]).unwrap();
    std::fs::write(secrets.path("ca.pem"), certified.cert.pem()).unwrap();
    let config = tokio_rustls::rustls::ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(
            vec![certified.cert.der().clone()],
            tokio_rustls::rustls::pki_types::PrivateKeyDer::Pkcs8(certified.signing_key.serialize_der().into()),
        )
        .unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = TextOrSecret::Text(format!("https://{}/", listener.local_addr().unwrap()));
    let server = tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            // The stranger breaks the handshake off.
            let Ok(mut tls) = acceptor.accept(stream).await else { continue };
            let mut request = [0; 16 * 1024];
            assert!(tls.read(&mut request).await.unwrap() > 0);
            tls.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await.unwrap();
            tls.shutdown().await.unwrap();
        }
    });
    let (_, why) = retry(deliver(url.clone()).await);
    assert!(why.starts_with("cannot connect: ") && why.to_lowercase().contains("certificate"), "{why}");
    let tls = TlsSpec { ca_file: Some(secrets.path("ca.pem")), identity_file: None };
    let trusting = notifier(receiver(url, vec![], ClientSpec { tls, ..ClientSpec::default() }));
    assert_eq!(trusting.deliver(&order(1), &example_now(0)).await, DeliveryOutcome::Delivered);
    server.abort();
}

/// docs/webhook.md: each example is the body that a receiver really got. `BACKSTOP_WRITE_DOCS=1` writes them.
#[tokio::test]
async fn the_document_has_the_body_of_every_event_as_it_is_sent() {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/webhook.md");
    let mut document = std::fs::read_to_string(&path).unwrap();
    let mut server = Server::start(status(200)).await;
    let secrets = Secrets::new();
    let links = with_links(vec![secrets.file("key", &"k".repeat(32))], None);
    let spec = receiver(server.url(), vec![], ClientSpec::default());
    let notifier = Notifier::new(&[spec], links).unwrap();
    let late = DeliveryOrder { outdated: true, age: Duration::from_secs(2_706), ..order(14) };
    let examples = KINDS
        .map(|kind| (kind.as_str().to_owned(), DeliveryOrder { notice: example(kind), ..order(1) }, example_now(1)));
    let examples = examples.into_iter().chain([("outdated".to_owned(), late, example_now(2_706))]);
    let mut names = Vec::new();
    for (name, order, now) in examples {
        assert_eq!(notifier.deliver(&order, &now).await, DeliveryOutcome::Delivered);
        let (_, body) = server.arrived.recv().await.unwrap();
        let begin = format!("<!-- example: {name} -->\n```json\n");
        let at = document.find(&begin).unwrap_or_else(|| panic!("no example of {name}")) + begin.len();
        let length = document[at..].find("```").expect("the end of the example");
        let sent = indented(&body);
        if std::env::var_os("BACKSTOP_WRITE_DOCS").is_some() {
            document.replace_range(at..at + length, &sent);
        }
        assert_eq!(&document[at..at + sent.len()], sent, "{name}");
        assert!(document[at + sent.len()..].starts_with("```"), "{name}");
        names.push(name);
    }
    if std::env::var_os("BACKSTOP_WRITE_DOCS").is_some() {
        std::fs::write(&path, &document).unwrap();
    }
    assert_eq!(document.matches("<!-- example: ").count(), names.len(), "no example of an event that does not exist");
}

/// The same text with line ends, so that the fields keep the order in which they are sent.
fn indented(json: &[u8]) -> String {
    let mut text = String::new();
    let (mut depth, mut in_string, mut escaped) = (0, false, false);
    let line = |text: &mut String, depth: usize| {
        text.push('\n');
        text.push_str(&"  ".repeat(depth));
    };
    for c in std::str::from_utf8(json).unwrap().chars() {
        let quote = c == '"' && !escaped;
        escaped = c == '\\' && !escaped;
        in_string ^= quote;
        match c {
            // Only the outermost object gets a line per field.
            '{' | '[' if !in_string => {
                depth += 1;
                text.push(c);
                if depth == 1 {
                    line(&mut text, depth);
                }
            }
            '}' | ']' if !in_string => {
                depth -= 1;
                if depth == 0 {
                    line(&mut text, depth);
                }
                text.push(c);
            }
            ',' if !in_string => {
                text.push(c);
                if depth == 1 { line(&mut text, depth) } else { text.push(' ') }
            }
            ':' if !in_string => text.push_str(": "),
            other => text.push(other),
        }
    }
    text + "\n"
}
