//! Runs commands so that none of their processes outlives them.
//!
//! A command runs under a re-exec of this binary, the helper: the subreaper of all that the command starts. A
//! `waitpid(-1)` in the daemon would steal the children of tokio; `kill_on_drop` and process groups miss a grandchild
//! that called `setsid`; PDEATHSIG follows the thread that forked. The helper has none of these troubles: every orphan
//! becomes its child, and it ends only when it has no child left.
//!
//! The daemon writes one order to the helper's standard input and keeps that pipe open: its end tells the helper that
//! the daemon is gone, however it died. The helper's standard output carries two reports, `Started` and `Ended`.
//!
//! A helper that is itself killed, or hangs, leaves its orphans to others. The daemon then ends them by what only they
//! have in their environment ([`RUN`]).

mod helper;
mod orphans;
mod tail;
mod tree;
mod wire;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, ChildStdin, ChildStdout};
use tokio::time::Instant;

pub use helper::helper_main;
use orphans::end_orphans;
pub use tree::process_start;
use wire::{Order, Report};

/// `argv[1]` of the helper. `main` calls [`helper_main`] when it sees it, before anything else.
pub const HELPER_ARG: &str = "__run-command";

/// How long a command has between TERM and KILL, unless it says otherwise.
pub const GRACE: Duration = Duration::from_secs(5);

/// How much of the end of the output is kept (DESIGN §7).
pub const OUTPUT_BYTES_MAX: usize = 64 * 1024;

/// How long the helper waits for processes to go after KILL: longer only where the kernel cannot end them (a dead
/// disk), or where they run as somebody else (`sudo`).
pub const KILL_LIMIT: Duration = Duration::from_secs(10);

/// What the helper may take on top of its limits before it counts as lost.
const HELPER_SLACK: Duration = Duration::from_secs(10);

/// What every command sees of the daemon's environment.
const ENVIRONMENT_SAFE: [&str; 7] = ["PATH", "HOME", "LANG", "TZ", "USER", "LOGNAME", "TMPDIR"];

/// What no command may inherit: with these a child could answer systemd for the daemon or read its credentials.
const ENVIRONMENT_OWN: [&str; 5] =
    ["NOTIFY_SOCKET", "CREDENTIALS_DIRECTORY", "INVOCATION_ID", "JOURNAL_STREAM", "MAINPID"];
const ENVIRONMENT_OWN_PREFIXES: [&str; 3] = ["WATCHDOG_", "LISTEN_", "BACKSTOP_"];

/// In the environment of every process of a command, unless one of them cleared it: which run it belongs to.
pub const RUN: &str = "BACKSTOP_RUN";

/// No other run on this host since it booted has the same: a process id and its start name one process.
fn new_run() -> String {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    let own = std::process::id();
    let start = process_start(own).unwrap_or_default();
    format!("{own}-{start}-{}", NEXT.fetch_add(1, Ordering::Relaxed))
}

/// One command to run.
#[derive(Clone, Debug)]
pub struct CommandSpec {
    /// Program and arguments; no shell. A program without a slash is looked up in `PATH`.
    pub argv: Vec<String>,
    /// Added to the cleared environment; wins over what is inherited.
    pub env: BTreeMap<String, SecretString>,
    /// Variables of the daemon that it may see beside PATH, HOME, LANG, TZ, USER, LOGNAME and TMPDIR.
    pub inherit: Vec<String>,
    /// Default: the daemon's.
    pub directory: Option<PathBuf>,
    /// From its start to TERM.
    pub timeout: Duration,
    /// From TERM to KILL; also for what the leader leaves behind when it exits.
    pub grace: Duration,
    /// The end of stdout and stderr together that is kept.
    pub output_bytes_max: usize,
}

impl CommandSpec {
    /// A command with the limits of the design.
    #[must_use]
    pub const fn new(argv: Vec<String>, timeout: Duration) -> CommandSpec {
        CommandSpec {
            argv,
            env: BTreeMap::new(),
            inherit: Vec::new(),
            directory: None,
            timeout,
            grace: GRACE,
            output_bytes_max: OUTPUT_BYTES_MAX,
        }
    }
}

/// How a command ended. All its processes are gone, but for [`CommandEnd::left_behind`] and after `Lost`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum CommandOutcome {
    Exited(i32),
    Signalled(i32),
    /// There is no such program.
    NotFound,
    /// There is, but the kernel does not run it: no permission, no known format, no interpreter.
    NotExecutable,
    /// Nothing was started, for another reason: one sentence.
    NotStarted(String),
    /// It still ran at its deadline and was ended.
    TimedOut,
    /// The helper is gone or hangs: whether the command took effect cannot be known. One sentence.
    Lost(String),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommandEnd {
    pub outcome: CommandOutcome,
    /// The end of stdout and stderr, as they were interleaved; bytes that are not UTF-8 are replaced.
    pub output: String,
    /// The output was longer.
    pub truncated: bool,
    /// From the order to the end of the last process.
    pub duration: Duration,
    /// Processes that KILL did not end: another user's, or stuck in the kernel.
    pub left_behind: Vec<u32>,
}

impl CommandEnd {
    fn without_output(outcome: CommandOutcome, begun: Instant) -> CommandEnd {
        let output = String::new();
        CommandEnd { outcome, output, truncated: false, duration: begun.elapsed(), left_behind: Vec::new() }
    }
}

static HELPER: OnceLock<PathBuf> = OnceLock::new();

/// Names the binary that serves as the helper; the default is the running one. For programs whose `main` does not call
/// [`helper_main`], such as tests. The first call counts.
pub fn set_helper(path: &Path) {
    HELPER.get_or_init(|| path.to_owned());
}

/// Whether `inherit` may name this variable: not those by which systemd and backstop talk to the daemon itself.
#[must_use]
pub fn may_inherit(name: &str) -> bool {
    !ENVIRONMENT_OWN.contains(&name) && !ENVIRONMENT_OWN_PREFIXES.iter().any(|prefix| name.starts_with(prefix))
}

/// Runs a command to its end. `started` gets the process id and the kernel's start time of its leader
/// ([`process_start`]) as soon as it runs; it is not called when nothing was started.
///
/// Dropping the future ends the command with all its processes, as the death of the daemon does; that it has not had
/// its effect does not follow from it.
pub async fn run(spec: CommandSpec, started: impl FnOnce(u32, String)) -> CommandEnd {
    let begun = Instant::now();
    let ended = |outcome| CommandEnd::without_output(outcome, begun);
    if let Some(name) = spec.inherit.iter().find(|name| !may_inherit(name)) {
        return ended(CommandOutcome::NotStarted(format!("a command may not inherit {name}")));
    }
    if spec.argv.is_empty() {
        return ended(CommandOutcome::NotStarted("the command is empty".to_owned()));
    }
    let limit = spec.timeout.saturating_add(spec.grace).saturating_add(KILL_LIMIT);
    let (mut helper, mut orders, reports) = match spawn_helper() {
        Ok(parts) => parts,
        Err(error) => return ended(CommandOutcome::NotStarted(format!("the helper cannot be started: {error}"))),
    };
    let run = new_run();
    let conversed = {
        let mut conversation = std::pin::pin!(async {
            // An order is taken whole or not at all: it ends with its line.
            if let Err(error) = send_order(&mut orders, &spec, &run).await {
                return Err(CommandOutcome::NotStarted(format!("the helper did not take the order: {error}")));
            }
            await_end(reports, started).await
        });
        match tokio::time::timeout(limit, &mut conversation).await {
            Ok(said) => Ok(said),
            // Not counted with the limit: a daemon that was stopped meanwhile finds both over when it goes on, and the
            // report is in the pipe, or on its way.
            Err(_elapsed) => tokio::time::timeout(HELPER_SLACK, conversation).await,
        }
    };
    // The end of its input ends a helper that still runs, with all that it watches over.
    drop(orders);
    match conversed {
        Ok(Ok(end)) => {
            // Only to reap it at once; should it hang, tokio reaps it whenever it ends.
            tokio::time::timeout(HELPER_SLACK, helper.wait()).await.ok();
            CommandEnd {
                outcome: end.outcome,
                output: end.output,
                truncated: end.truncated,
                duration: begun.elapsed(),
                left_behind: end.left_behind,
            }
        }
        Ok(Err(outcome)) => {
            let left_behind = end_lost(&mut helper, run).await;
            CommandEnd { left_behind, ..ended(outcome) }
        }
        Err(_elapsed) => {
            let outcome = CommandOutcome::Lost("the helper did not report within its limit".to_owned());
            let left_behind = end_lost(&mut helper, run).await;
            CommandEnd { left_behind, ..ended(outcome) }
        }
    }
}

/// Ends a helper that is of no use any more, and what it watched over. What could not be ended.
async fn end_lost(helper: &mut Child, run: String) -> Vec<u32> {
    // First the helper: one that hangs would keep its orphans from being reaped. It may have ended already.
    helper.start_kill().ok();
    tokio::time::timeout(HELPER_SLACK, helper.wait()).await.ok();
    match tokio::task::spawn_blocking(move || end_orphans(&run)).await {
        Ok(left_behind) => left_behind,
        Err(error) => {
            tracing::error!("what a lost helper left behind was not looked for: {error}");
            Vec::new()
        }
    }
}

fn spawn_helper() -> std::io::Result<(Child, ChildStdin, ChildStdout)> {
    let path = HELPER.get().map_or(Path::new("/proc/self/exe"), PathBuf::as_path);
    // Cleared: what the command may see comes with the order, not through /proc/PID/environ.
    let mut helper = tokio::process::Command::new(path)
        .arg(HELPER_ARG)
        .env_clear()
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn()?;
    let missing = || std::io::Error::other("its pipes are missing");
    let orders = helper.stdin.take().ok_or_else(missing)?;
    let reports = helper.stdout.take().ok_or_else(missing)?;
    Ok((helper, orders, reports))
}

async fn send_order(orders: &mut ChildStdin, spec: &CommandSpec, run: &str) -> std::io::Result<()> {
    let mut env = BTreeMap::new();
    for name in ENVIRONMENT_SAFE.into_iter().chain(spec.inherit.iter().map(String::as_str)) {
        // A value that is not Unicode is left out rather than changed.
        if let Ok(value) = std::env::var(name) {
            env.insert(name.to_owned(), value);
        }
    }
    env.extend(spec.env.iter().map(|(name, value)| (name.clone(), value.expose_secret().to_owned())));
    env.insert(RUN.to_owned(), run.to_owned());
    let order = Order {
        argv: spec.argv.clone(),
        env,
        directory: spec.directory.clone(),
        timeout: spec.timeout,
        grace: spec.grace,
        output_bytes_max: spec.output_bytes_max,
    };
    let mut line = serde_json::to_vec(&order)?;
    line.push(b'\n');
    orders.write_all(&line).await
}

async fn await_end(reports: ChildStdout, started: impl FnOnce(u32, String)) -> Result<wire::End, CommandOutcome> {
    let lost = |why: String| Err(CommandOutcome::Lost(why));
    let mut started = Some(started);
    let mut lines = BufReader::new(reports).lines();
    loop {
        let line = match lines.next_line().await {
            Ok(Some(line)) => line,
            Ok(None) => return lost("the helper that ran the command died".to_owned()),
            Err(error) => return lost(format!("the helper's report cannot be read: {error}")),
        };
        match serde_json::from_str(&line) {
            Ok(Report::Started { pid, process_start }) => {
                if let Some(started) = started.take() {
                    started(pid, process_start);
                }
            }
            Ok(Report::Ended(end)) => return Ok(end),
            Err(error) => return lost(format!("the helper's report cannot be understood: {error}")),
        }
    }
}
