//! Ends what a helper watched over that is gone. Nobody is told of these orphans: every process is looked at.

use std::fs;
use std::time::Duration;

use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use super::{KILL_LIMIT, RUN};

/// Between two looks at all processes.
const LOOK_INTERVAL: Duration = Duration::from_millis(10);

/// A process that just calls exec shows no environment for a moment, so one look that finds nobody is not enough.
const EMPTY_LOOKS: u32 = 2;

/// Kills all processes that have this run in their environment, and those that they start meanwhile. Gives back those
/// that still live after [`KILL_LIMIT`]. Blocks.
///
/// Not found: a process that cleared its environment (`env -i`, most ways to become another user), or one of another
/// user where the daemon is not root.
pub fn end_orphans(run: &str) -> Vec<u32> {
    let entry = format!("{RUN}={run}");
    let looks = KILL_LIMIT.as_millis() / LOOK_INTERVAL.as_millis();
    let mut empty = 0;
    let mut left = Vec::new();
    for _ in 0..looks {
        left = kill_marked(&entry);
        empty = if left.is_empty() { empty + 1 } else { 0 };
        if empty == EMPTY_LOOKS {
            break;
        }
        std::thread::sleep(LOOK_INTERVAL);
    }
    left
}

/// Those that were there, whether they could be killed or not.
fn kill_marked(entry: &str) -> Vec<u32> {
    let folders = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = folders.filter_map(|folder| folder.file_name().to_str()?.parse::<u32>().ok());
    pids.filter(|&pid| pid != std::process::id() && kill_if_marked(pid, entry)).collect()
}

/// Whether it lives and has the entry.
fn kill_if_marked(pid: u32, entry: &str) -> bool {
    let Some(known) = i32::try_from(pid).ok().and_then(Pid::from_raw) else { return false };
    // Held before the environment is read: should the number be given to another process in between, the signal goes to
    // the one that is dead, not to a stranger.
    let held = pidfd_open(known, PidfdFlags::empty());
    if !has(pid, entry) {
        return false;
    }
    let killed = held.and_then(|held| pidfd_send_signal(held, Signal::KILL));
    killed != Err(Errno::SRCH)
}

/// What cannot be read is another user's, or gone.
fn has(pid: u32, entry: &str) -> bool {
    let Ok(environment) = fs::read(format!("/proc/{pid}/environ")) else { return false };
    environment.split(|&byte| byte == 0).any(|of_it| of_it == entry.as_bytes())
}
