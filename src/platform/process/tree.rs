//! The processes below this one, as /proc shows them.

use std::fs;

use rustix::process::{Pid, Signal, kill_process, kill_process_group};

/// The kernel's start time of a process, in clock ticks since boot (`/proc/PID/stat`, field 22). With the boot and the
/// process id it names one process for good. None if there is no such process.
#[must_use]
pub fn process_start(pid: u32) -> Option<String> {
    stat_field(pid, 22)
}

/// A field of `/proc/PID/stat`, counted from 1 as proc(5) does, from the third on.
fn stat_field(pid: u32, number: usize) -> Option<String> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The second field is the program's name in parentheses; it may hold spaces and parentheses itself.
    let (_, after_name) = stat.rsplit_once(')')?;
    after_name.split_ascii_whitespace().nth(number.checked_sub(3)?).map(str::to_owned)
}

/// The children of a process. A list of one instant: who goes on until nothing is left must look again.
pub fn children(pid: u32) -> Vec<u32> {
    let mut found = Vec::new();
    let mut listed = false;
    for task in fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten() {
        if let Ok(children) = fs::read_to_string(task.path().join("children")) {
            listed = true;
            found.extend(children.split_ascii_whitespace().filter_map(|pid| pid.parse::<u32>().ok()));
        }
    }
    // A kernel without CONFIG_PROC_CHILDREN.
    if listed { found } else { children_by_scan(pid) }
}

fn children_by_scan(parent: u32) -> Vec<u32> {
    let parent = parent.to_string();
    let all = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = all.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    pids.filter(|&pid| stat_field(pid, 4).as_ref() == Some(&parent)).collect()
}

/// Asks all below `pid` to end, also what is stopped. For those that are not our own children a number could be a
/// stranger's by the time of the signal, if the kernel went through all numbers within microseconds.
pub fn terminate_below(pid: u32) {
    let mut below = children(pid);
    let mut next = 0;
    while let Some(&pid) = below.get(next) {
        next += 1;
        // A loop cannot come from a tree, but may from two looks at a changing one.
        let more: Vec<u32> = children(pid).into_iter().filter(|pid| !below.contains(pid)).collect();
        below.extend(more);
    }
    for pid in below {
        signal(pid, Signal::TERM);
        signal(pid, Signal::CONT);
    }
}

/// Kills the children of this very process. Their numbers cannot be anybody else's: only we can reap them. What they
/// leave becomes our child and is found by the next call.
pub fn kill_own_children() {
    for pid in children(std::process::id()) {
        signal(pid, Signal::KILL);
    }
}

/// The whole group of an unreaped child, at once: quicker than a walk, but blind to `setsid`.
pub fn kill_group_of_child(leader: Pid) {
    // Already gone, or not ours to kill: the caller looks at what is left.
    kill_process_group(leader, Signal::KILL).ok();
}

fn signal(pid: u32, signal: Signal) {
    if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
        // Already gone, or not ours to signal: the caller looks at what is left.
        kill_process(pid, signal).ok();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_named_by_its_start() {
        let own = process_start(std::process::id()).expect("we run");
        assert!(own.parse::<u64>().expect("ticks") > 0);
        assert_eq!(process_start(std::process::id()), Some(own));
        assert_eq!(process_start(0), None);
    }

    #[test]
    fn both_ways_find_the_children() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().expect("sleep starts");
        let own = std::process::id();
        assert!(children(own).contains(&child.id()));
        assert!(children_by_scan(own).contains(&child.id()));
        child.kill().expect("it runs");
        child.wait().expect("it is our child");
        assert!(!children_by_scan(own).contains(&child.id()));
    }
}
