//! Promise: the shell around the machine keeps its side under faults. The real engine around the real machine, in virtual
//! time, in a world made from a seed: a journal that is slow, stalls, fails or is lost in part; steps that hang, fail
//! or panic; receivers that fail; people in bursts; floods of observations; reloads, stops in order and `kill -9`.
//!
//! `ENGINE_SEED=7` replays one seed and tells its story; `ENGINE_SEEDS=1..500` runs these; `ENGINE_MINUTES=10` runs on:
//! `ENGINE_MINUTES=10 cargo test --release --test engine_sim -- --nocapture`.

#[path = "engine_sim/judge.rs"]
mod judge;
#[path = "engine_sim/life.rs"]
mod life;
#[path = "engine_sim/play.rs"]
mod play;
#[path = "engine_sim/ports.rs"]
mod ports;
#[allow(dead_code, reason = "the world of tests/simulation.rs, which uses the rest")]
mod sim;
#[path = "engine_sim/site.rs"]
mod site;
mod support;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use backstop::platform::clock::Clock;
use play::Ended;

/// Less than half a minute of a debug build on two slow cores.
const SEEDS_DEFAULT: u64 = 50;

/// Of the story of a seed that fails, so much is shown.
const STORY_LINES: usize = 80;

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|text| !text.is_empty())
}

fn number(name: &str, text: &str) -> u64 {
    text.trim().parse().unwrap_or_else(|_| panic!("{name}={text} is not a number"))
}

/// One seed; a panic is a failure like any other.
fn run(seed: u64) -> Ended {
    std::panic::catch_unwind(|| play::run(seed)).unwrap_or_else(|panic| {
        let why = panic.downcast_ref::<String>().cloned();
        let why = why.or_else(|| panic.downcast_ref::<&str>().map(|why| (*why).to_owned())).unwrap_or_default();
        Ended { result: Err(format!("it panicked: {why}")), story: Vec::new(), tally: BTreeMap::new(), turns: 0 }
    })
}

fn told(seed: u64, ended: &Ended, why: &str) -> String {
    let from = ended.story.len().saturating_sub(STORY_LINES);
    let story = ended.story[from..].join("\n");
    let replay = format!("ENGINE_SEED={seed} cargo test --test engine_sim -- --nocapture");
    format!("{story}\n\nseed {seed}: {why}\nreplay: {replay}\n")
}

// Length: which seeds are run, and what is printed of them.
#[test]
fn the_shell_keeps_its_promises_under_faults() {
    if let Some(text) = variable("ENGINE_SEED") {
        let seed = number("ENGINE_SEED", &text);
        let ended = run(seed);
        println!("{}", ended.story.join("\n"));
        if let Err(why) = ended.result {
            panic!("seed {seed}: {why}");
        }
        return;
    }
    let minutes = variable("ENGINE_MINUTES").map(|text| number("ENGINE_MINUTES", &text));
    let (from, to) = match variable("ENGINE_SEEDS") {
        Some(text) => match text.split_once("..") {
            Some((from, to)) => (number("ENGINE_SEEDS", from), number("ENGINE_SEEDS", to)),
            None => (1, number("ENGINE_SEEDS", &text) + 1),
        },
        None if minutes.is_some() => (1, u64::MAX),
        None => (1, SEEDS_DEFAULT + 1),
    };
    let clock = Clock::start(None, None);
    let begun = clock.uptime();
    let elapsed = || clock.uptime().saturating_sub(begun);
    let ends = minutes.map(|minutes| Duration::from_secs(60 * minutes));
    let (next, failed) = (AtomicU64::new(from), AtomicBool::new(false));
    let work = || {
        let (mut tally, mut failures) = (BTreeMap::<&str, u64>::new(), Vec::new());
        while !failed.load(Ordering::Relaxed) && ends.is_none_or(|ends| elapsed() < ends) {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= to {
                break;
            }
            let ended = run(seed);
            for (what, count) in &ended.tally {
                *tally.entry(what).or_default() += count;
            }
            *tally.entry("turn").or_default() += ended.turns;
            *tally.entry("seed").or_default() += 1;
            if let Err(why) = &ended.result {
                println!("seed {seed} fails after {:.0?}: {why}", elapsed());
                failed.store(true, Ordering::Relaxed);
                failures.push(told(seed, &ended, why));
            }
        }
        (tally, failures)
    };
    let threads = std::thread::available_parallelism().map_or(2, usize::from);
    let halves: Vec<_> = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        workers.into_iter().map(|worker| worker.join().expect("a worker catches panics")).collect()
    });
    let mut total = BTreeMap::<&str, u64>::new();
    let mut failures = Vec::new();
    for (tally, failed) in halves {
        for (what, count) in tally {
            *total.entry(what).or_default() += count;
        }
        failures.extend(failed);
    }
    for (what, count) in &total {
        println!("{count:>9} {what}");
    }
    println!("{:.0} s", elapsed().as_secs_f64());
    if let Some(failure) = failures.first() {
        panic!("{failure}");
    }
    // A simulation in which nothing happens proves nothing.
    let happens = |what| total.get(what).is_some_and(|count| *count > 0);
    if total.get("seed").is_some_and(|seeds| *seeds >= 30) {
        for what in ["step", "crash", "crash at an output", "stop in order", "flood", "reload", "burst of commands"] {
            assert!(happens(what), "there is no {what}");
        }
    }
}

#[test]
fn the_same_seed_gives_the_same_story() {
    for seed in [3, 8] {
        let (one, other) = (run(seed), run(seed));
        let differs = one.story.iter().zip(&other.story).find(|(one, other)| one != other);
        assert_eq!(differs, None, "seed {seed}");
        assert_eq!((one.story.len(), one.turns), (other.story.len(), other.turns), "seed {seed}");
    }
}
