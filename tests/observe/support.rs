//! Servers that behave and servers that do not, and a configuration with little in it.

use std::collections::BTreeMap;
use std::future::Future;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use backstop::config::model::{
    ClientSpec, Config, Daemon, HttpProbe, OnEmpty, OnWarning, ProbeKind, ProbeSpec, QuerySpec, RequestLimits,
    ScrapeSpec, TargetSpec,
};
use backstop::decide::rules::Rules;
use backstop::machine::input::{Observation, ProbeOutcome, QueryAnswer, Scrape, ScrapeFailure};
use backstop::observe::Observers;
use backstop::observe::lane::{Receiver, lane};
use backstop::platform::clock::Clock;
use backstop::platform::process::set_helper;
use backstop::promql::{Interest, Selector};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::task::JoinHandle;
use tokio::time::timeout;

/// Longer than anything here takes on a busy machine; a test that reaches it has failed.
pub const PATIENCE: Duration = Duration::from_mins(1);
pub const INTERVAL: Duration = Duration::from_millis(40);

/// Ends with the test.
pub struct Server {
    pub at: SocketAddr,
    task: JoinHandle<()>,
}

impl Server {
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.at)
    }

    pub async fn axum(app: axum::Router) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = listener.local_addr().unwrap();
        let task = tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
        Server { at, task }
    }

    /// Gives each connection to `serve`.
    pub async fn raw<F: Future<Output = ()> + Send + 'static>(
        serve: impl Fn(TcpStream) -> F + Send + 'static,
    ) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = listener.local_addr().unwrap();
        let task = tokio::spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                connections.spawn(serve(stream));
            }
        });
        Server { at, task }
    }

    /// Answers each connection's first request with these bytes, and closes it.
    pub async fn bytes(answer: impl Into<Vec<u8>>) -> Server {
        let answer: Arc<[u8]> = answer.into().into();
        Server::raw(move |mut stream| {
            let answer = Arc::clone(&answer);
            async move {
                read_head(&mut stream).await;
                // A client that has seen enough may be gone already.
                stream.write_all(&answer).await.ok();
                stream.shutdown().await.ok();
            }
        })
        .await
    }

    /// Takes connections and requests, and never answers.
    pub async fn silent() -> Server {
        Server::raw(|mut stream| async move {
            read_head(&mut stream).await;
            std::future::pending::<()>().await;
        })
        .await
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Reads up to the empty line after a request's head.
pub async fn read_head(stream: &mut (impl AsyncReadExt + Unpin)) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(_) => break,
        }
    }
    String::from_utf8(head).unwrap()
}

/// An address of this machine where nobody listens. It is taken until the tests end, so that nobody comes to.
pub fn nobody() -> SocketAddr {
    static TAKEN: Mutex<Vec<TcpSocket>> = Mutex::new(Vec::new());
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
    let address = socket.local_addr().unwrap();
    TAKEN.lock().unwrap().push(socket);
    address
}

/// No resolver takes a label of 64 characters, and none is asked over the network.
pub fn unresolvable() -> String {
    format!("{}.localhost:9", "a".repeat(64))
}

pub fn interest(generation: u64, selectors: &[&str]) -> Arc<Interest> {
    let selectors: Vec<Selector> = selectors.iter().map(|text| Selector::parse(text).unwrap()).collect();
    Arc::new(Interest::compile(generation, &selectors))
}

pub fn config(selectors: &[&str]) -> Config {
    Config {
        rules: Arc::new(Rules {
            generation: 1,
            hash: "000000000000".into(),
            instance: "test".into(),
            budget: None,
            breaching_share_max: None,
            heartbeat: None,
            freeze: Vec::new(),
            services: Vec::new(),
            receivers: Vec::new(),
        }),
        interest: interest(1, selectors),
        daemon: Daemon {
            state_dir: PathBuf::from("/nonexistent"),
            listen: None,
            external_url: None,
            approvals: None,
            socket: None,
            tokens: BTreeMap::new(),
            kill_file: None,
        },
        scrapes: Vec::new(),
        probes: Vec::new(),
        queries: Vec::new(),
        detectors: Vec::new(),
        references: Vec::new(),
        receivers: Vec::new(),
        warnings: Vec::new(),
        sources: Arc::new([]),
    }
}

pub fn limits() -> RequestLimits {
    RequestLimits { connect_timeout: PATIENCE, timeout: PATIENCE, body_bytes_max: 1 << 20 }
}

pub fn target(address: &str) -> TargetSpec {
    TargetSpec { address: address.into(), labels: Vec::new() }
}

pub fn scrape(urls: &[&str]) -> ScrapeSpec {
    ScrapeSpec {
        service: Some("api".into()),
        name: "app".into(),
        targets: urls.iter().map(|url| target(url)).collect(),
        interval: INTERVAL,
        limits: limits(),
        samples_max: 50_000,
        client: ClientSpec::default(),
        job: None,
    }
}

pub fn query(server: &str) -> QuerySpec {
    QuerySpec {
        service: "api".into(),
        name: "errors".into(),
        expr: "sum(rate(errors_total[1m]))".to_owned(),
        server: server.into(),
        interval: INTERVAL,
        limits: limits(),
        client: ClientSpec::default(),
        series_max: 100,
        max_age: PATIENCE,
        window: Duration::from_mins(1),
        labels: Vec::new(),
        on_empty: OnEmpty::Unknown,
        on_warning: OnWarning::Unknown,
    }
}

pub fn probe(address: &str, kind: ProbeKind) -> ProbeSpec {
    ProbeSpec {
        service: "api".into(),
        name: "health".into(),
        targets: vec![target(address)],
        interval: INTERVAL,
        timeout: PATIENCE,
        kind,
        release_pointer: None,
    }
}

pub fn http_probe() -> HttpProbe {
    HttpProbe {
        method: "GET".to_owned(),
        status: Vec::new(),
        json: Vec::new(),
        body_contains: None,
        latency_max: None,
        limits: limits(),
        client: ClientSpec::default(),
        body: None,
    }
}

/// Running observers and what they see.
pub struct Watch {
    pub observers: Observers,
    pub seen: Receiver,
}

impl Watch {
    pub fn start(config: &Config) -> Watch {
        set_helper(Path::new(env!("CARGO_BIN_EXE_backstop")));
        let (sender, seen) = lane();
        Watch { observers: Observers::start(config, Clock::start(None, None), sender).unwrap(), seen }
    }

    /// The first observation from now on of which `pick` makes something.
    pub async fn first<T>(&mut self, mut pick: impl FnMut(&Observation) -> Option<T>) -> T {
        let found = async {
            loop {
                let observation = self.seen.recv().await.expect("observers run");
                if let Some(picked) = pick(&observation) {
                    return picked;
                }
            }
        };
        timeout(PATIENCE, found).await.expect("seen in time")
    }

    pub async fn scraped(&mut self) -> Result<Scrape, ScrapeFailure> {
        self.first(|observation| match observation {
            Observation::Scraped { outcome, .. } => Some(outcome.clone()),
            _ => None,
        })
        .await
    }

    pub async fn probed(&mut self) -> ProbeOutcome {
        self.first(|observation| match observation {
            Observation::Probed { outcome, .. } => Some(outcome.clone()),
            _ => None,
        })
        .await
    }

    /// The first reading of a release after those that `skip` passes over.
    pub async fn release(&mut self, skip: impl Fn(&Result<String, String>) -> bool) -> Result<String, String> {
        self.first(|observation| match observation {
            Observation::Release { outcome, .. } if !skip(outcome) => Some(outcome.clone()),
            _ => None,
        })
        .await
    }
}

/// How the first scrape by this specification ends.
pub async fn scrape_once(spec: ScrapeSpec, selectors: &[&str]) -> Result<Scrape, ScrapeFailure> {
    let mut config = config(selectors);
    config.scrapes.push(spec);
    let mut watch = Watch::start(&config);
    let outcome = watch.scraped().await;
    watch.observers.stop().await;
    outcome
}

/// How the first look by this query ends.
pub async fn query_once(spec: QuerySpec) -> Result<QueryAnswer, ScrapeFailure> {
    let mut config = config(&["errors"]);
    config.queries.push(spec);
    let mut watch = Watch::start(&config);
    let seen = |observation: &Observation| match observation {
        Observation::Queried { outcome, .. } => Some(outcome.clone()),
        _ => None,
    };
    let outcome = watch.first(seen).await;
    watch.observers.stop().await;
    outcome
}

/// How the first probe by this specification ends.
pub async fn probe_once(spec: ProbeSpec) -> ProbeOutcome {
    let mut config = config(&[]);
    config.probes.push(spec);
    let mut watch = Watch::start(&config);
    let outcome = watch.probed().await;
    watch.observers.stop().await;
    outcome
}

/// A certificate authority, and a server for 127.0.0.1 that it vouches for.
pub struct Tls {
    pub ca_pem: String,
    acceptor: tokio_rustls::TlsAcceptor,
}

impl Tls {
    pub fn new() -> Tls {
        backstop::platform::http::install_crypto();
        let ca_key = rcgen::KeyPair::generate().unwrap();
        let mut ca = rcgen::CertificateParams::new(Vec::new()).unwrap();
        ca.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let ca_pem = ca.self_signed(&ca_key).unwrap().pem();
        let issuer = rcgen::Issuer::new(ca, ca_key);
        let key = rcgen::KeyPair::generate().unwrap();
        let leaf = rcgen::CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
        let leaf = leaf.signed_by(&key, &issuer).unwrap();
        let key = rustls::pki_types::PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        let config = rustls::ServerConfig::builder()
            .with_no_client_auth()
            .with_single_cert(vec![leaf.der().clone()], key)
            .unwrap();
        Tls { ca_pem, acceptor: tokio_rustls::TlsAcceptor::from(Arc::new(config)) }
    }

    /// Answers each request with these bytes.
    pub async fn serve(&self, answer: &str) -> Server {
        let acceptor = self.acceptor.clone();
        let answer: Arc<str> = answer.into();
        Server::raw(move |stream| {
            let (acceptor, answer) = (acceptor.clone(), Arc::clone(&answer));
            async move {
                let Ok(mut stream) = acceptor.accept(stream).await else { return };
                read_head(&mut stream).await;
                stream.write_all(answer.as_bytes()).await.ok();
                stream.shutdown().await.ok();
            }
        })
        .await
    }
}

/// A response with a body and its right length.
pub fn response(content_type: &str, body: &str) -> String {
    format!(
        "HTTP/1.1 200 OK\r\ncontent-type: {content_type}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
        body.len()
    )
}
