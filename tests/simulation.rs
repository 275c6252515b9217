//! Simulation by seed: faults at random, then healing, then progress.
//!
//! `SIM_SEED=7` replays one seed and tells its story; `SIM_SEEDS=1..5000` runs these; `SIM_MINUTES=60` runs on and on:
//! `SIM_MINUTES=60 cargo test --release --test simulation -- --nocapture`.

mod sim;
mod support;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use backstop::platform::clock::Clock;

/// About a minute of a debug build on two slow cores.
const SEEDS_DEFAULT: u64 = 100;

/// Seeds that once found a bug, and which.
const PINNED: &[(u64, &str)] = &[
    (141, "a restart gave a hold back that had been lost to a time without any look"),
    (1948, "a service left the configuration while its level was verified, and an \"outage\" of it was waited for"),
    (3444, "an outdated announcement stood in, so the symlink's next name was taken for the release that it names"),
    (1537, "where releases are announced, what went wrong under one was blamed on the next"),
    (3762, "what a restart brought back was taken for the fresh look that is needed after it"),
    (30125, "a process was looked at right after a deployment, the symlink right before: one release had both names"),
    (35274, "a symlink was at the next release already, and became a name of what still ran"),
    (48734, "the clock was set back while backstop was down: its windows seemed to be of just now"),
    (58022, "after an outage, in which windows start anew, what had burned before was blamed on the next release"),
    (2832, "back after a restart, the first detector had a name of its own for what ran: a release that had come"),
    (29552, "a kill long after the last checkpoint: what had ended by then was held again"),
    (30020, "without a reference, what was looked at in vain while we were cut off counted when the network was back"),
    (105_574, "how bad it was right before the release was left out of what the release was compared with"),
    (64434, "a way back that had come just before the release was what burned, beside it"),
];

/// Of the story of a seed that fails, so much is shown.
const STORY_LINES: usize = 120;

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|text| !text.is_empty())
}

fn number(name: &str, text: &str) -> u64 {
    text.trim().parse().unwrap_or_else(|_| panic!("{name}={text} is not a number"))
}

/// One seed; a panic is a failure like any other.
fn run(seed: u64, tells: bool) -> sim::Ended {
    std::panic::catch_unwind(|| sim::run(seed, tells)).unwrap_or_else(|panic| {
        let why = panic.downcast_ref::<String>().cloned();
        let why = why.or_else(|| panic.downcast_ref::<&str>().map(|why| (*why).to_owned())).unwrap_or_default();
        sim::Ended { result: Err(format!("it panicked: {why}")), tally: sim::tally::Tally::new(), story: Vec::new() }
    })
}

fn tell(seed: u64, why: &str) -> String {
    let story = run(seed, true).story;
    let from = story.len().saturating_sub(STORY_LINES);
    let story = story[from..].join("\n");
    format!(
        "{story}\n\nseed {seed}: {why}\nreplay: SIM_SEED={seed} cargo test --release --test simulation -- --nocapture\n"
    )
}

#[test]
fn promises_hold_under_faults() {
    if let Some(text) = variable("SIM_SEED") {
        let seed = number("SIM_SEED", &text);
        let ended = run(seed, true);
        println!("{}", ended.story.join("\n"));
        if let Err(why) = ended.result {
            panic!("seed {seed}: {why}");
        }
        return;
    }
    let minutes = variable("SIM_MINUTES").map(|text| number("SIM_MINUTES", &text));
    let (from, to) = match variable("SIM_SEEDS") {
        Some(text) => match text.split_once("..") {
            Some((from, to)) => (number("SIM_SEEDS", from), number("SIM_SEEDS", to)),
            None => (1, number("SIM_SEEDS", &text) + 1),
        },
        None if minutes.is_some() => (variable("SIM_FROM").map_or(1, |text| number("SIM_FROM", &text)), u64::MAX),
        None => (1, SEEDS_DEFAULT + 1),
    };
    let clock = Clock::start(None, None);
    let begun = clock.uptime();
    let elapsed = || clock.uptime().saturating_sub(begun);
    let ends = minutes.map(|minutes| Duration::from_secs(60 * minutes));
    let keep_on = variable("SIM_KEEP_ON").is_some();
    let (next, failed) = (AtomicU64::new(from), AtomicBool::new(false));
    let threads = std::thread::available_parallelism().map_or(2, usize::from);
    let work = |pinned: &[(u64, &str)]| {
        let (mut tally, mut failures) = (sim::tally::Tally::new(), Vec::new());
        let mut pinned = pinned.iter().map(|(seed, _)| *seed);
        while (keep_on || !failed.load(Ordering::Relaxed)) && ends.is_none_or(|ends| elapsed() < ends) {
            let seed = pinned.next().unwrap_or_else(|| next.fetch_add(1, Ordering::Relaxed));
            if seed >= to {
                break;
            }
            let ended = run(seed, false);
            tally.add(&ended.tally);
            if let Err(why) = ended.result {
                println!("seed {seed} fails after {:.0?}: {why}", elapsed());
                failed.store(true, Ordering::Relaxed);
                failures.push((seed, why));
            }
        }
        (tally, failures)
    };
    let halves: Vec<_> = std::thread::scope(|scope| {
        let workers: Vec<_> =
            (0..threads).map(|thread| scope.spawn(move || work(if thread == 0 { PINNED } else { &[] }))).collect();
        workers.into_iter().map(|worker| worker.join().expect("a worker catches panics")).collect()
    });
    let mut total = sim::tally::Tally::new();
    let mut failures = Vec::new();
    for (tally, failed) in halves {
        total.add(&tally);
        failures.extend(failed);
    }
    let seconds = elapsed().as_secs_f64();
    println!("{}\n{seconds:.0} s", total.table());
    if let Some((seed, why)) = failures.first() {
        panic!("{} seeds fail\n{}", failures.len(), tell(*seed, why));
    }
    // A simulation in which nothing happens proves nothing.
    assert!(total.seeds < 30 || (total.steps > 0 && total.crashes > 0), "nothing happens");
}
