//! Everybody on the demo's stage but the daemon: the shop's supervisor, its customers, and the team that is told.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::Json;
use axum::Router;
use axum::routing::post;
use tokio::net::TcpStream;
use tokio::process::{Child, Command};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::platform::http;

/// Like `Restart=always` with `RestartSec=300ms`.
const RESTART_AFTER: Duration = Duration::from_millis(300);
/// A shop that has not opened by then does not open.
const OPENS_WITHIN: Duration = Duration::from_secs(30);
const KNOCK_EVERY: Duration = Duration::from_millis(20);
/// 40 sales a second are 200 in the demo's window: enough to judge.
const SALE_EVERY: Duration = Duration::from_millis(25);
/// Notices that the narrator has not read; an incident makes about ten.
const NOTICES_MAX: usize = 256;

/// Starts the shop again whenever it ends, until told to stop; then ends it.
pub async fn keep_shop(program: PathBuf, dir: PathBuf, port: u16, stop: CancellationToken) -> std::io::Result<()> {
    let pid_file = dir.join("shop.pid");
    while !stop.is_cancelled() {
        let log = std::fs::File::options().create(true).append(true).open(dir.join("shop.log"))?;
        let mut child = Command::new(&program)
            .args(["demo-shop", "--port", &port.to_string()])
            .arg(&dir)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .kill_on_drop(true)
            .spawn()?;
        if let Some(pid) = child.id() {
            std::fs::write(&pid_file, pid.to_string())?;
        }
        tokio::select! {
            ended = child.wait() => {
                ended?;
                // A number that is not the shop's any more must not be killed.
                std::fs::write(&pid_file, "")?;
            }
            () = stop.cancelled() => {
                child.kill().await?;
                return Ok(());
            }
        }
        tokio::select! {
            () = tokio::time::sleep(RESTART_AFTER) => {}
            () = stop.cancelled() => {}
        }
    }
    Ok(())
}

/// Returns when the shop answers, or when there is no use in waiting: how well it works is for backstop to say.
pub async fn wait_for_shop(port: u16, interrupted: &AtomicBool) {
    let answers = async {
        while !interrupted.load(Ordering::SeqCst) && TcpStream::connect(("127.0.0.1", port)).await.is_err() {
            tokio::time::sleep(KNOCK_EVERY).await;
        }
    };
    drop(tokio::time::timeout(OPENS_WITHIN, answers).await);
}

/// Buys without a pause, as customers do; whether it works is the shop's business.
pub async fn keep_buying(port: u16, stop: CancellationToken) {
    http::install_crypto();
    let Ok(client) = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(1)).build() else { return };
    let url = format!("http://127.0.0.1:{port}/");
    let mut tick = tokio::time::interval(SALE_EVERY);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    while !stop.is_cancelled() {
        tick.tick().await;
        // A shop that is down sells nothing; that is what the demo is about.
        drop(client.get(&url).send().await);
    }
}

/// Takes webhooks and passes on their `type` and text.
pub async fn listen_for_notices(
    stop: CancellationToken,
) -> std::io::Result<(String, mpsc::Receiver<(String, String)>, tokio::task::JoinHandle<std::io::Result<()>>)> {
    let (send, notices) = mpsc::channel(NOTICES_MAX);
    let take = move |Json(body): Json<serde_json::Value>| {
        let send = send.clone();
        async move {
            let field = |name: &str| body.get(name).and_then(|value| value.as_str()).unwrap_or("?").to_owned();
            match send.send((field("type"), field("text"))).await {
                Ok(()) => axum::http::StatusCode::NO_CONTENT,
                Err(_) => axum::http::StatusCode::GONE,
            }
        }
    };
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await?;
    let url = format!("http://{}/team", listener.local_addr()?);
    let routes = Router::new().route("/team", post(take));
    let task = tokio::spawn(async move {
        axum::serve(listener, routes).with_graceful_shutdown(async move { stop.cancelled().await }).await
    });
    Ok((url, notices, task))
}

/// The real daemon, as its own process.
pub fn start_daemon(program: &Path, stage: &super::stage::Stage, port: u16, webhook: &str) -> std::io::Result<Child> {
    let log = std::fs::File::create(stage.log())?;
    Command::new(program)
        .arg("run")
        .arg(stage.config())
        .env("DEMO_DIR", &stage.dir)
        .env("DEMO_PORT", port.to_string())
        .env("DEMO_WEBHOOK", webhook)
        .env("DEMO_WEBHOOK_SECRET", "whsec_ZGVtb25zdHJhdGlvbi1zZWNyZXQtb2YtMzItYnl0ZXM=")
        .env_remove("NOTIFY_SOCKET")
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .kill_on_drop(true)
        .spawn()
}

/// Says whether somebody has had enough: the person at the terminal, or whoever started the demo.
pub fn watch_for_interrupt() -> std::io::Result<Arc<AtomicBool>> {
    let asked = Arc::new(AtomicBool::new(false));
    for kind in [SignalKind::interrupt(), SignalKind::terminate()] {
        let (set, mut signals) = (Arc::clone(&asked), signal(kind)?);
        tokio::spawn(async move {
            if signals.recv().await.is_some() {
                set.store(true, Ordering::SeqCst);
            }
        });
    }
    Ok(asked)
}
