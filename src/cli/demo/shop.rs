//! The demo's shop: a small HTTP service with a health page and Prometheus metrics, started from a release directory.
//! How well it works is the release's business: it reads `current/shop.toml` and behaves so.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::get;
use tokio::net::TcpSocket;

use crate::cli::failure::{Exit, Failure};
use crate::platform::clock::Clock;

/// A file that a release leaves behind in the shared data when it damages them.
const DAMAGE: &str = "data/damaged";

/// Connections that wait to be accepted: customers, a probe and a scrape are three.
const WAITING_MAX: u32 = 128;

/// A port on 127.0.0.1 that is the shop's as long as this lives, also while no shop runs: nobody else is given it, and who
/// connects to it is refused.
#[derive(Debug)]
pub struct Reserved {
    pub port: u16,
    _socket: TcpSocket,
}

impl Reserved {
    pub fn new() -> std::io::Result<Reserved> {
        let socket = bind(0)?;
        Ok(Reserved { port: socket.local_addr()?.port(), _socket: socket })
    }
}

/// Shared with every other socket that is bound here; each of those that listen gets a part of the connections, and those
/// that do not listen get none.
fn bind(port: u16) -> std::io::Result<TcpSocket> {
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    socket.set_reuseport(true)?;
    socket.bind(SocketAddr::from(([127, 0, 0, 1], port)))?;
    Ok(socket)
}

#[derive(Debug, clap::Args)]
pub struct ShopArgs {
    /// The folder with `current`, `data` and `cache`
    dir: PathBuf,
    #[arg(long)]
    port: u16,
}

/// What a release does, as its `shop.toml` says.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Behaviour {
    pub version: String,
    /// Share of requests (0–1) that fail.
    pub failing: f64,
    /// It ends at once when it is started.
    pub dies_at_start: bool,
    /// It damages the shared data, so that whatever runs after it fails too.
    pub damages_data: bool,
}

impl Behaviour {
    pub fn good(version: &str) -> Behaviour {
        Behaviour { version: version.to_owned(), failing: 0.0, dies_at_start: false, damages_data: false }
    }

    pub fn failing(version: &str, share: f64) -> Behaviour {
        Behaviour { failing: share, ..Behaviour::good(version) }
    }

    pub fn to_toml(&self) -> String {
        format!(
            "version = {:?}\nfailing = {:?}\ndies_at_start = {}\ndamages_data = {}\n",
            self.version, self.failing, self.dies_at_start, self.damages_data
        )
    }
}

/// What it counts.
#[derive(Debug)]
struct Shop {
    behaviour: Behaviour,
    /// The behaviour's, or worse where the data are damaged.
    failing: f64,
    requests: AtomicU64,
    ok: AtomicU64,
    failed: AtomicU64,
    started_seconds: f64,
}

pub fn run(args: &ShopArgs) -> ExitCode {
    match serve(args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.tell(),
    }
}

fn serve(args: &ShopArgs) -> Result<(), Failure> {
    let behaviour = read_behaviour(&args.dir)?;
    if behaviour.dies_at_start {
        return Err(Failure::new(Exit::Unavailable, "shop: cannot open the price list: no such column 'currency'"));
    }
    let damage = args.dir.join(DAMAGE);
    if behaviour.damages_data {
        let made = std::fs::create_dir_all(args.dir.join("data")).and_then(|()| std::fs::write(&damage, "prices\n"));
        made.map_err(|error| Failure::because(Exit::Unavailable, "shop: cannot write its data", &error))?;
    }
    let failing = if damage.exists() { behaviour.failing.max(0.5) } else { behaviour.failing };
    let shop = Arc::new(Shop {
        behaviour,
        failing,
        requests: AtomicU64::new(0),
        ok: AtomicU64::new(0),
        failed: AtomicU64::new(0),
        started_seconds: Clock::start(None, None).now().wall.as_secs_f64(),
    });
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Failure::because(Exit::Unavailable, "no runtime", &error))?;
    let routes = Router::new()
        .route("/", get(buy))
        .route("/health", get(|| async { ([("content-type", "application/json")], "{\"status\":\"healthy\"}\n") }))
        .route("/metrics", get(metrics))
        .with_state(shop);
    let served = runtime.block_on(async { axum::serve(bind(args.port)?.listen(WAITING_MAX)?, routes).await });
    let what = format!("shop: cannot serve 127.0.0.1:{}", args.port);
    served.map_err(|error| Failure::because(Exit::Unavailable, &what, &error))
}

fn read_behaviour(dir: &Path) -> Result<Behaviour, Failure> {
    let path = dir.join("current/shop.toml");
    let text = std::fs::read_to_string(&path);
    let text = text.map_err(|error| Failure::because(Exit::Unavailable, &format!("{}", path.display()), &error))?;
    toml::from_str(&text).map_err(|error| Failure::because(Exit::Unavailable, &format!("{}", path.display()), &error))
}

/// One sale. Failures are spread evenly, so that a share of 0.3 is 3 of any 10.
#[expect(clippy::cast_precision_loss, reason = "a demo sells fewer than 2^52 things")]
async fn buy(State(shop): State<Arc<Shop>>) -> (StatusCode, &'static str) {
    let n = shop.requests.fetch_add(1, Ordering::Relaxed) as f64;
    let fails = ((n + 1.0) * shop.failing).floor() > (n * shop.failing).floor();
    if fails {
        shop.failed.fetch_add(1, Ordering::Relaxed);
        (StatusCode::INTERNAL_SERVER_ERROR, "the till is stuck\n")
    } else {
        shop.ok.fetch_add(1, Ordering::Relaxed);
        (StatusCode::OK, "sold\n")
    }
}

async fn metrics(State(shop): State<Arc<Shop>>) -> ([(&'static str, &'static str); 1], String) {
    let mut body = String::new();
    let version = &shop.behaviour.version;
    let (ok, failed) = (shop.ok.load(Ordering::Relaxed), shop.failed.load(Ordering::Relaxed));
    let mut line = |text: std::fmt::Arguments<'_>| {
        body.push_str(&text.to_string());
        body.push('\n');
    };
    line(format_args!("# HELP app_build_info What runs."));
    line(format_args!("# TYPE app_build_info gauge"));
    line(format_args!("app_build_info{{version=\"{version}\"}} 1"));
    line(format_args!("# HELP http_requests_total Requests by status."));
    line(format_args!("# TYPE http_requests_total counter"));
    line(format_args!("http_requests_total{{status=\"200\"}} {ok}"));
    // Like most clients: the series of a status appears with its first request.
    if failed > 0 {
        line(format_args!("http_requests_total{{status=\"500\"}} {failed}"));
    }
    line(format_args!("# TYPE process_start_time_seconds gauge"));
    line(format_args!("process_start_time_seconds {}", shop.started_seconds));
    ([("content-type", "text/plain; version=0.0.4")], body)
}
