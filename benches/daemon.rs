//! What the daemon costs where it runs: 100 targets over loopback, 1,000 series each, scraped each second, beside a
//! program that only drains the same bodies with the same HTTP client, and one that does it with reqwest.
//!
//! `cargo bench --bench daemon` (about five minutes; `DAEMON_SECONDS=330 DAEMON_ROUNDS=1` shows full windows)
//!
//! Three processes: this one serves and counts what it offered; the daemon is the real binary with triggers of the usual
//! kinds; the drain is this binary again. Daemon and drain take turns, so that a busy machine slows both. What counts is
//! the CPU time that the kernel accounts to each, per million samples offered, without their start; and its peak memory.

use std::fmt::Write as _;
use std::hint::black_box;
use std::io::{self, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::{self, sleep};
use std::time::Duration;

use backstop::exposition::Format;
use backstop::platform::http::{self, ClientSpec, Connections, PlainClient, RequestLimits};
use reqwest::Url;
use reqwest::header::{ACCEPT, HeaderMap, HeaderValue};
use tokio::time::{MissedTickBehavior, interval};

const TARGETS: u32 = 100;
const SERIES: u64 = 1000;
const INTERVAL: Duration = Duration::from_secs(1);
const ROUNDS: u64 = 3;
/// The programs that only drain: with the daemon's client on as many threads as tokio takes, and on one, as the daemon
/// runs; with reqwest, which has the pool that the daemon's client does without; and on one thread in steps, five targets
/// at once, as scrapes of the daemon begin. The last one says what the rest of the daemon costs, the others what a program
/// costs that spreads its scrapes evenly.
const DRAINS: [&str; 4] = ["drain", "drain-one", "reqwest", "drain-steps"];
/// Of `/proc`: what Linux shows to programs is in hundredths, whatever its own clock does.
const TICKS_PER_SECOND: f64 = 100.0;
/// Until the first scrapes are done: series are born, connections made, code is read from the disk.
const WARM_UP: Duration = Duration::from_secs(4);

/// A service as many have: a rate of errors, a counter of failures, a latency, a pool, and a release to watch. It asks
/// for 74 of the thousand series.
const TRIGGERS: &str = r#"
[services.api.triggers.errors]
ratio = { part = 'http_requests_total{status=~"5.."}', whole = 'http_requests_total', window = "1m" }
above = "15%"
for   = "5m"

[services.api.triggers.database]
increase = { counter = 'db_connection_failures_total', window = "1m" }
above    = 5

[services.api.triggers.slow]
quantile = { histogram = 'http_request_duration_seconds', q = 0.95, window = "5m" }
above    = "5s"
for      = "1m"

[services.api.triggers.pool]
expr     = 'db_pool_connections_in_use / db_pool_connections_max'
at_least = "100%"
for      = "1m"
"#;

fn main() -> io::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [mode, port] = arguments.as_slice()
        && let Some(drain) = DRAINS.into_iter().find(|drain| drain == mode)
    {
        return self::drain(port.parse().expect("a port"), drain);
    }
    // `cargo test --benches` only wants to see that it runs.
    let (rounds, turn) = if arguments.iter().any(|argument| argument == "--test") {
        (1, Duration::from_secs(2))
    } else {
        let set = |name: &str| std::env::var(name).ok().and_then(|text| text.parse().ok());
        (set("DAEMON_ROUNDS").unwrap_or(ROUNDS), Duration::from_secs(set("DAEMON_SECONDS").unwrap_or(15)))
    };
    let offered = Arc::new(AtomicU64::new(0));
    let port = serve(&offered)?;
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("backstop.toml");
    std::fs::write(&file, configuration(port, folder.path()))?;

    println!("{TARGETS} targets × {SERIES} series each second, {} s a turn", turn.as_secs());
    println!("{:14} {:>20} {:>18} {:>10}", "", "samples offered", "CPU s per million", "peak MB");
    let mut sums = [Turn::default(); 5];
    for _ in 0..rounds {
        for (index, name) in DRAINS.into_iter().chain(["daemon"]).enumerate() {
            let mut command = if name == "daemon" {
                let mut command = Command::new(env!("CARGO_BIN_EXE_backstop"));
                command.arg("run").arg(&file);
                command
            } else {
                let mut command = Command::new(std::env::current_exe()?);
                // glibc would give the memory of each body back at once, and fetch it anew for the next: that is no cost of
                // draining, and no program that holds anything else has it.
                command.args([name, &port.to_string()]).env("MALLOC_TRIM_THRESHOLD_", "16777216");
                command
            };
            let child = Running(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn()?);
            let turn = child.watch(&offered, turn)?;
            let (samples, cpu) = (turn.samples, turn.cpu_per_million());
            println!("{name:14} {samples:>20} {cpu:>18.3} {:>10.1}", turn.peak_megabytes);
            sums[index].add(&turn);
        }
    }
    let peak = sums[4].peak_megabytes;
    let [drain, one_thread, reqwest, steps, daemon] = sums.map(|sum| sum.cpu_per_million());
    println!(
        "over all turns the daemon costs {daemon:.3}: {:.2} times the drain, {:.2} times the one on one thread, {:.2} times \
         the one with reqwest, {:.2} times the one in steps; {peak:.1} MB",
        daemon / drain,
        daemon / one_thread,
        daemon / reqwest,
        daemon / steps
    );
    Ok(())
}

/// Ends with its scope.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

/// One turn of a program, or several: a single one of a program that does so little depends on what else the machine does
/// just then.
#[derive(Clone, Copy, Default)]
struct Turn {
    samples: u64,
    cpu_seconds: f64,
    peak_megabytes: f64,
}

impl Turn {
    fn add(&mut self, turn: &Turn) {
        self.samples += turn.samples;
        self.cpu_seconds += turn.cpu_seconds;
        self.peak_megabytes = self.peak_megabytes.max(turn.peak_megabytes);
    }

    #[expect(clippy::cast_precision_loss, reason = "counts far below 2^52")]
    fn cpu_per_million(&self) -> f64 {
        self.cpu_seconds / (self.samples as f64 / 1e6)
    }
}

impl Running {
    fn watch(&self, offered: &AtomicU64, turn: Duration) -> io::Result<Turn> {
        sleep(WARM_UP);
        let (samples, cpu) = (offered.load(Ordering::Relaxed), self.cpu_seconds()?);
        sleep(turn);
        let samples = offered.load(Ordering::Relaxed) - samples;
        assert!(samples > 0, "it does not scrape");
        Ok(Turn { samples, cpu_seconds: self.cpu_seconds()? - cpu, peak_megabytes: self.peak_megabytes()? })
    }

    /// User and system time of all its threads.
    #[expect(clippy::cast_precision_loss, reason = "ticks far below 2^52")]
    fn cpu_seconds(&self) -> io::Result<f64> {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.0.id()))?;
        let after_name = stat.rsplit_once(')').expect("a name in parentheses").1;
        let fields: Vec<&str> = after_name.split_whitespace().collect();
        let ticks = |field: usize| fields[field].parse::<u64>().expect("a number");
        Ok((ticks(11) + ticks(12)) as f64 / TICKS_PER_SECOND)
    }

    fn peak_megabytes(&self) -> io::Result<f64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.0.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("a peak");
        let kibibytes: f64 = line.trim().trim_end_matches(" kB").parse().expect("a number");
        Ok(kibibytes * 1024.0 / 1e6)
    }
}

/// Each target has an address of its own, as pods have, and so a connection of its own.
fn url(target: u32, port: u16) -> String {
    format!("http://127.0.1.{}:{port}/metrics", target + 1)
}

fn configuration(port: u16, folder: &Path) -> String {
    let targets: Vec<String> = (0..TARGETS)
        .map(|target| format!("{{ url = \"{}\", labels = {{ instance = \"api-{target}\" }} }}", url(target, port)))
        .collect();
    format!(
        "[daemon]\nstate_dir = '{}'\nsocket = '{}'\n\n[services.api]\nautonomy = \"observe\"\n\
         release = [{{ metric = \"app_build_info\", label = \"version\" }}]\n\n\
         [services.api.scrapes.app]\ninterval = \"1s\"\ntimeout = \"1s\"\ntargets = [{}]\n{TRIGGERS}",
        folder.join("state").display(),
        folder.join("socket").display(),
        targets.join(", "),
    )
}

/// Serves on every address, each connection on a thread of its own; counts the samples of whole answers.
fn serve(offered: &Arc<AtomicU64>) -> io::Result<u16> {
    let listener = TcpListener::bind("0.0.0.0:0")?;
    let port = listener.local_addr()?.port();
    let offered = Arc::clone(offered);
    thread::spawn(move || {
        for stream in listener.incoming() {
            let (stream, offered) = (stream.expect("a connection"), Arc::clone(&offered));
            // A client that goes is no matter.
            thread::spawn(move || answer(stream, &offered).ok());
        }
    });
    Ok(port)
}

fn answer(mut stream: TcpStream, offered: &AtomicU64) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut body = String::new();
    let mut head = Vec::new();
    loop {
        head.clear();
        while !head.ends_with(b"\r\n\r\n") {
            let mut some = [0; 2048];
            let read = stream.read(&mut some)?;
            if read == 0 {
                return Ok(());
            }
            head.extend_from_slice(&some[..read]);
        }
        body.clear();
        // Over whatever connection a target is asked, its counters never go back.
        let scrape = 1 + offered.load(Ordering::Relaxed) / (SERIES * u64::from(TARGETS));
        expose(&mut body, scrape).expect("writing to memory");
        let length = body.len();
        write!(
            stream,
            "HTTP/1.1 200 OK\r\ncontent-type: text/plain; version=0.0.4\r\ncontent-length: {length}\r\n\r\n{body}"
        )?;
        offered.fetch_add(SERIES, Ordering::Relaxed);
    }
}

/// A thousand series as a service exposes them, in the middle of them those that somebody asks for.
fn expose(body: &mut String, scrape: u64) -> std::fmt::Result {
    let others = |body: &mut String, families: std::ops::Range<u64>, series: u64| {
        for family in families {
            writeln!(body, "# HELP service_part_{family}_operations_total What part {family} of the service did.")?;
            writeln!(body, "# TYPE service_part_{family}_operations_total counter")?;
            for row in 0..series {
                let count = scrape * (row + 1);
                writeln!(
                    body,
                    "service_part_{family}_operations_total{{kind=\"{row}\",zone=\"eu-west-1a\",path=\"/v1/things/{row}\"}} {count}"
                )?;
            }
        }
        Ok(())
    };
    others(body, 0..23, 20)?;
    writeln!(body, "# TYPE app_build_info gauge\napp_build_info{{version=\"2026.11.3\"}} 1")?;
    writeln!(body, "# TYPE http_requests_total counter")?;
    for row in 0..10 {
        for (status, share) in [("200", 90), ("404", 9), ("500", 1), ("503", 1)] {
            writeln!(
                body,
                "http_requests_total{{method=\"GET\",route=\"/v1/{row}\",status=\"{status}\"}} {}",
                scrape * share
            )?;
        }
    }
    writeln!(body, "# TYPE http_request_duration_seconds histogram")?;
    for (rank, le) in
        ["0.005", "0.01", "0.025", "0.05", "0.1", "0.25", "0.5", "1", "2.5", "5", "10", "+Inf"].iter().enumerate()
    {
        writeln!(body, "http_request_duration_seconds_bucket{{le=\"{le}\"}} {}", scrape * (rank as u64 + 1) * 10)?;
    }
    writeln!(
        body,
        "http_request_duration_seconds_sum {}.5\nhttp_request_duration_seconds_count {}",
        scrape,
        scrape * 120
    )?;
    for pool in ["a", "b", "c", "d", "e", "f", "g", "h"] {
        writeln!(body, "db_pool_connections_in_use{{pool=\"{pool}\"}} {}", scrape % 50)?;
        writeln!(body, "db_pool_connections_max{{pool=\"{pool}\"}} 100")?;
    }
    writeln!(body, "db_connection_failures_total 3\nprocess_start_time_seconds 1.7e9")?;
    others(body, 23..46, 20)?;
    others(body, 46..47, 7)
}

/// Only drains the bodies, each second.
fn drain(port: u16, how: &str) -> io::Result<()> {
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    let in_steps = how == "drain-steps";
    if in_steps || how == "drain-one" {
        runtime.worker_threads(1);
    }
    let runtime = runtime.enable_all().build()?;
    let limits = RequestLimits { connect_timeout: INTERVAL, timeout: INTERVAL, body_bytes_max: 16 << 20 };
    runtime.block_on(async {
        let client = || http::client_with(&ClientSpec::default(), &limits, Connections::Reused).expect("a client");
        let pooled = (how == "reqwest").then(client);
        let mut tasks = tokio::task::JoinSet::new();
        for target in 0..TARGETS {
            let url = Url::parse(&url(target, port)).expect("an address");
            let pooled = pooled.clone();
            let mut plain = PlainClient::new(&url, &limits).expect("plain HTTP");
            tasks.spawn(async move {
                let place = if in_steps { target / 5 * 5 } else { target };
                tokio::time::sleep(INTERVAL * place / TARGETS).await;
                let mut ticks = interval(INTERVAL);
                ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
                loop {
                    ticks.tick().await;
                    let Some(pooled) = &pooled else {
                        let accept = [(ACCEPT, HeaderValue::from_static(Format::ACCEPT))];
                        let answer = plain.get(&HeaderMap::from_iter(accept), |_| Ok::<(), ()>(())).await;
                        drop(black_box(answer));
                        continue;
                    };
                    let request = pooled.get(url.clone()).header(ACCEPT, Format::ACCEPT);
                    let Ok(mut response) = request.send().await else { continue };
                    while let Ok(Some(chunk)) = response.chunk().await {
                        black_box(chunk);
                    }
                }
            });
        }
        tasks.join_all().await;
    });
    Ok(())
}
