//! What every fuzzer here shares: numbers that are the same everywhere, and a drive over all cores.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use backstop::platform::clock::Clock;

/// splitmix64: one number a trial, and the trial is the same on every machine.
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % u64::try_from(bound).unwrap()).unwrap()
    }

    pub fn once_in(&mut self, times: usize) -> bool {
        self.below(times) == 0
    }

    pub fn of<'a, T: ?Sized>(&mut self, all: &[&'a T]) -> &'a T {
        all[self.below(all.len())]
    }
}

pub fn setting(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name} is not a number: {text}")))
}

/// Tries one trial after the other: `FUZZ_SEED` only, or for `FUZZ_MINUTES`, or as many as by default. A panic is a finding.
pub fn drive(test: &str, by_default: u64, try_one: impl Fn(u64) + Sync) {
    if let Some(seed) = setting("FUZZ_SEED") {
        return try_one(seed);
    }
    let minutes = setting("FUZZ_MINUTES").unwrap_or(0);
    let cores = setting("FUZZ_CORES").unwrap_or_else(|| {
        std::thread::available_parallelism().map_or(1, |cores| u64::try_from(cores.get()).unwrap_or(1))
    });
    let clock = Clock::start(None, None);
    let start = clock.uptime();
    let end = start + Duration::from_secs(minutes * 60);
    // Another hour looks at other trials.
    let first = if minutes == 0 { 0 } else { u64::try_from(clock.now().wall.as_millis()).unwrap_or(0) << 24 };
    let (tried, found) = (AtomicU64::new(0), AtomicBool::new(false));
    std::thread::scope(|scope| {
        for _ in 0..cores {
            scope.spawn(|| {
                while !found.load(Ordering::Relaxed) {
                    let count = tried.fetch_add(1, Ordering::Relaxed);
                    let is_done = if minutes == 0 { count >= by_default } else { clock.uptime() >= end };
                    if is_done {
                        tried.fetch_sub(1, Ordering::Relaxed);
                        return;
                    }
                    let seed = first + count;
                    if catch_unwind(AssertUnwindSafe(|| try_one(seed))).is_err() {
                        println!("again: FUZZ_SEED={seed} cargo test --test {test} -- --nocapture");
                        found.store(true, Ordering::Relaxed);
                    }
                }
            });
        }
    });
    let seconds = clock.uptime().saturating_sub(start).as_secs();
    println!("{} trials in {seconds} s on {cores} cores", tried.load(Ordering::Relaxed));
    assert!(!found.load(Ordering::Relaxed), "see above");
}
