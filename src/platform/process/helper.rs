//! The helper's side: starts one command, waits for it, and leaves no process of it behind.

use std::io::{self, BufRead, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;

use rustix::io::Errno;
use rustix::process::{Pid, WaitOptions, WaitStatus, getpid, set_child_subreaper, setsid, wait};
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::{Instant, sleep_until};

use super::tail::Tail;
use super::wire::{End, Order, Report};
use super::{CommandOutcome, KILL_LIMIT, process_start, tree};

/// How often it looks for new orphans while it kills: the kernel tells of a child's death, not of a new child.
const KILL_INTERVAL: Duration = Duration::from_millis(5);

/// A pipe holds at most 1 MiB (`/proc/sys/fs/pipe-max-size`); what comes after that is written by a stranger who was
/// handed the pipe, and is not waited for.
const DRAIN_BYTES_MAX: usize = 1024 * 1024;

/// Reads one order from standard input, carries it out and reports on standard output. Ends all processes of the
/// command when standard input ends. `main` calls it when `argv[1]` is [`super::HELPER_ARG`].
pub fn helper_main() -> ExitCode {
    // Away from the daemon's terminal and group, so that no Ctrl-C meant for the daemon ends a rollback. It fails only
    // for the leader of a group, and such a one has left the daemon's group already.
    setsid().ok();
    let mut line = String::new();
    let order: Order = match io::stdin().lock().read_line(&mut line) {
        // The daemon died before it could say what to do.
        Ok(_) if !line.ends_with('\n') => return ExitCode::FAILURE,
        Err(_) => return ExitCode::FAILURE,
        Ok(_) => match serde_json::from_str(&line) {
            Ok(order) => order,
            Err(error) => return report_end(not_started(format!("the order cannot be understood: {error}"))),
        },
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let end = match runtime {
        Ok(runtime) => runtime.block_on(carry_out(&order)),
        Err(error) => Err(error),
    };
    report_end(end.unwrap_or_else(|error| not_started(format!("the helper cannot watch over a command: {error}"))))
}

fn not_started(why: String) -> End {
    end_without_output(CommandOutcome::NotStarted(why))
}

const fn end_without_output(outcome: CommandOutcome) -> End {
    End { outcome, output: String::new(), truncated: false, left_behind: Vec::new() }
}

fn report_end(end: End) -> ExitCode {
    match report(&Report::Ended(end)) {
        Ok(()) => ExitCode::SUCCESS,
        // Nobody is left to be told.
        Err(_) => ExitCode::FAILURE,
    }
}

fn report(report: &Report) -> io::Result<()> {
    let mut line = serde_json::to_vec(report)?;
    line.push(b'\n');
    let mut stdout = io::stdout().lock();
    stdout.write_all(&line)?;
    stdout.flush()
}

/// An error means that nothing was started.
async fn carry_out(order: &Order) -> io::Result<End> {
    set_child_subreaper(Some(getpid()))?;
    // Caught rather than ignored: an ignored signal stays ignored in the command.
    let _caught = [SignalKind::terminate(), SignalKind::interrupt(), SignalKind::hangup(), SignalKind::quit()]
        .map(signal)
        .into_iter()
        .collect::<io::Result<Vec<Signal>>>()?;
    let child_ended = signal(SignalKind::child())?;
    let daemon = pipe::Receiver::from_owned_fd(io::stdin().as_fd().try_clone_to_owned()?)?;
    let (reader, writer) = io::pipe()?;
    let output = pipe::Receiver::from_owned_fd(reader.into())?;
    if let Some(directory) = order.directory.as_deref().filter(|directory| !directory.is_dir()) {
        return Ok(not_started(format!("there is no directory {}", directory.display())));
    }
    let leader = match start(order, writer) {
        Ok(leader) => leader,
        Err(error) => return Ok(end_without_output(why_not_started(&error, &order.argv[0]))),
    };
    let pid = leader.as_raw_pid().unsigned_abs();
    let started = Report::Started { pid, process_start: process_start(pid).unwrap_or_default() };
    let watch = Watch {
        leader,
        leader_end: None,
        phase: Phase::Running { until: after(order.timeout) },
        grace: order.grace,
        timed_out: false,
        // A daemon that cannot be told is gone.
        daemon: report(&started).is_ok().then_some(daemon),
        child_ended,
        output: Some(output),
        tail: Tail::new(order.output_bytes_max),
    };
    Ok(watch.until_nothing_is_left().await)
}

/// Starts the leader in a group of its own. Only the three standard descriptors reach it: all others close on exec.
fn start(order: &Order, output: io::PipeWriter) -> io::Result<Pid> {
    let mut command = Command::new(&order.argv[0]);
    command
        .args(&order.argv[1..])
        .env_clear()
        .envs(&order.env)
        .stdin(Stdio::null())
        .stdout(output.try_clone()?)
        .stderr(output)
        .process_group(0);
    if let Some(directory) = &order.directory {
        command.current_dir(directory);
    }
    // It is reaped by its number, with all others; dropping the handle does nothing.
    let child = command.spawn()?;
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    Ok(pid.expect("a process id is a positive 32-bit number"))
}

fn why_not_started(error: &io::Error, program: &str) -> CommandOutcome {
    // Present, and still "not found": the interpreter of its first line, or its loader, is missing.
    let present = program.contains('/') && Path::new(program).exists();
    match error.kind() {
        io::ErrorKind::NotFound if present => CommandOutcome::NotExecutable,
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => CommandOutcome::NotFound,
        io::ErrorKind::PermissionDenied => CommandOutcome::NotExecutable,
        _ if Errno::from_io_error(error) == Some(Errno::NOEXEC) => CommandOutcome::NotExecutable,
        _ => CommandOutcome::NotStarted(format!("{program} cannot be started: {error}")),
    }
}

fn after(duration: Duration) -> Instant {
    // A limit that cannot be expressed does not come within the life of this process either.
    let far = Duration::from_hours(100 * 365 * 24);
    Instant::now() + duration.min(far)
}

#[derive(Clone, Copy)]
enum Phase {
    Running {
        until: Instant,
    },
    /// TERM was sent.
    Terminating {
        until: Instant,
    },
    /// KILL is sent again and again, to all that turn up.
    Killing {
        until: Instant,
    },
}

struct Watch {
    leader: Pid,
    leader_end: Option<WaitStatus>,
    phase: Phase,
    grace: Duration,
    timed_out: bool,
    /// None when the daemon is gone.
    daemon: Option<pipe::Receiver>,
    child_ended: Signal,
    /// None when the last writer has closed it.
    output: Option<pipe::Receiver>,
    tail: Tail,
}

/// What a subreaper's `wait` found.
enum Left {
    Nothing,
    Something,
}

impl Watch {
    async fn until_nothing_is_left(mut self) -> End {
        let mut buffer = vec![0; 64 * 1024];
        let mut left_behind = Vec::new();
        loop {
            match self.reap() {
                Left::Nothing => break,
                Left::Something => {}
            }
            if let Phase::Killing { until } = self.phase
                && Instant::now() >= until
            {
                left_behind = tree::children(std::process::id());
                break;
            }
            self.advance();
            self.next_event(&mut buffer).await;
        }
        self.drain(&mut buffer);
        let outcome = match self.leader_end {
            _ if self.timed_out => CommandOutcome::TimedOut,
            Some(status) => how_ended(status),
            None => CommandOutcome::Lost("the command could not be ended after the daemon was gone".to_owned()),
        };
        let (output, truncated) = self.tail.into_text();
        End { outcome, output, truncated, left_behind }
    }

    /// Takes the status of every child that has ended: the leader's, and those of orphans that nobody asks for.
    fn reap(&mut self) -> Left {
        loop {
            match wait(WaitOptions::NOHANG) {
                Ok(Some((pid, status))) if pid == self.leader => self.leader_end = Some(status),
                Ok(Some(_)) | Err(Errno::INTR) => {}
                Ok(None) => return Left::Something,
                // ECHILD; wait has no other error with these arguments.
                Err(_) => return Left::Nothing,
            }
        }
    }

    fn advance(&mut self) {
        let now = Instant::now();
        match self.phase {
            // A daemon that comes back may run the step again: nothing of the first try may still be at work by then,
            // so there is no grace.
            Phase::Running { .. } | Phase::Terminating { .. } if self.daemon.is_none() => self.kill(),
            Phase::Running { .. } if self.leader_end.is_some() => self.terminate(),
            Phase::Running { until } if now >= until => {
                self.timed_out = true;
                self.terminate();
            }
            Phase::Terminating { until } if now >= until => self.kill(),
            Phase::Killing { .. } => tree::kill_own_children(),
            Phase::Running { .. } | Phase::Terminating { .. } => {}
        }
    }

    fn terminate(&mut self) {
        tree::terminate_below(std::process::id());
        self.phase = Phase::Terminating { until: after(self.grace) };
    }

    fn kill(&mut self) {
        if self.leader_end.is_none() {
            tree::kill_group_of_child(self.leader);
        }
        tree::kill_own_children();
        self.phase = Phase::Killing { until: after(KILL_LIMIT) };
    }

    /// Waits for output, the end of a child, the end of the daemon, or the phase's limit.
    async fn next_event(&mut self, buffer: &mut [u8]) {
        let limit = match self.phase {
            Phase::Running { until } | Phase::Terminating { until } => until,
            Phase::Killing { until } => until.min(after(KILL_INTERVAL)),
        };
        let mut word = [0; 64];
        tokio::select! {
            _ = self.child_ended.recv() => {}
            read = read_some(&mut self.output, buffer) => match read {
                Ok(0) | Err(_) => self.output = None,
                Ok(count) => self.tail.push(&buffer[..count]),
            },
            // The daemon says nothing more: only the end of the pipe means something.
            read = read_some(&mut self.daemon, &mut word) => match read {
                Ok(0) | Err(_) => self.daemon = None,
                Ok(_) => {}
            },
            () = sleep_until(limit) => {}
        }
    }

    /// What still is in the pipe. Its writers are gone, so that this ends; where they are not, it ends all the same.
    fn drain(&mut self, buffer: &mut [u8]) {
        // Past tokio's own idea of readiness, which may be older than the last write.
        let Some(Ok(output)) = self.output.take().map(pipe::Receiver::into_nonblocking_fd) else { return };
        let mut output = std::fs::File::from(output);
        let mut drained = 0;
        while drained < DRAIN_BYTES_MAX {
            match output.read(buffer) {
                Ok(0) => return,
                Ok(count) => {
                    drained += count;
                    self.tail.push(&buffer[..count]);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return,
            }
        }
    }
}

/// Reads what there is; waits forever on a pipe that is closed already.
async fn read_some(pipe: &mut Option<pipe::Receiver>, buffer: &mut [u8]) -> io::Result<usize> {
    match pipe {
        Some(pipe) => pipe.read(buffer).await,
        None => std::future::pending().await,
    }
}

fn how_ended(status: WaitStatus) -> CommandOutcome {
    match (status.exit_status(), status.terminating_signal()) {
        (Some(code), _) => CommandOutcome::Exited(code),
        (None, Some(signal)) => CommandOutcome::Signalled(signal),
        (None, None) => CommandOutcome::Lost("the command ended in a way that the system does not describe".to_owned()),
    }
}
