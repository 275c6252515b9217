//! Simulation by seed: faults at random, then healing, then progress. `SIM_SEEDS=n` runs so many seeds, `SIM_SEED=s` one.

mod sim;
mod support;

use std::sync::atomic::{AtomicU64, Ordering};

/// Takes about 15 s in a debug build on two cores.
const SEEDS_DEFAULT: u64 = 100;

/// Seeds that once found a bug.
const PINNED: &[u64] = &[];

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name}={text} is not a number")))
}

#[test]
fn promises_hold_under_faults() {
    if let Some(seed) = number("SIM_SEED") {
        if let Err(failure) = sim::run(seed, true) {
            panic!("seed {seed}: {failure}");
        }
        return;
    }
    let count = number("SIM_SEEDS").unwrap_or(SEEDS_DEFAULT);
    let seeds: Vec<u64> = PINNED.iter().copied().chain(1..=count).collect();
    let next = AtomicU64::new(0);
    let work = || {
        let mut done = Vec::new();
        loop {
            let place = usize::try_from(next.fetch_add(1, Ordering::Relaxed)).unwrap_or(usize::MAX);
            let Some(seed) = seeds.get(place) else { return done };
            let result = std::panic::catch_unwind(|| sim::run(*seed, false));
            done.push((*seed, result.unwrap_or_else(|_| Err("it panicked".to_owned()))));
        }
    };
    let results: Vec<_> = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..2).map(|_| scope.spawn(work)).collect();
        workers.into_iter().flat_map(|worker| worker.join().expect("a worker catches panics")).collect()
    });
    let mut total = sim::Tally::default();
    let mut failures = Vec::new();
    for (seed, result) in results {
        match result {
            Ok(tally) => total.add(&tally),
            Err(failure) => failures.push(format!("SIM_SEED={seed} cargo test --test simulation: {failure}")),
        }
    }
    println!("{total:?}");
    assert!(failures.is_empty(), "{} of {} seeds fail:\n{}", failures.len(), seeds.len(), failures.join("\n"));
    // A simulation in which nothing happens proves nothing.
    assert!(count < 30 || (total.recovered > 0 && total.crashes > 0 && total.needs_human > 0), "{total:?}");
}
