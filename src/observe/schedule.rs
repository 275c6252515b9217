//! When a task looks: a first offset that spreads the targets, then a fixed cadence that never overlaps with itself.

use std::time::Duration;

use tokio::time::{Interval, MissedTickBehavior, interval, sleep};
use tokio_util::sync::CancellationToken;

/// The first look is at most this late, however long the interval: a start or a reload should not be blind for long.
const OFFSET_MAX: Duration = Duration::from_secs(10);

/// Looks begin in steps of so long (or of a twentieth of the interval), those that fall into one together: to wake up once
/// for five targets costs a third less than five times for one (`benches/daemon.rs`).
const SLOT: Duration = Duration::from_millis(50);

/// How long after its start a task looks for the first time: a fraction of the interval (at most 10 s of it) that is
/// always the same for the same `key`, so that targets are spread evenly and a restart does not shift them.
#[must_use]
pub fn offset(key: &str, interval: Duration) -> Duration {
    // 2^32 steps are finer than any timer.
    let fraction = f64::from(u32::try_from(fnv1a(key.as_bytes()) >> 32).unwrap_or(0)) / f64::from(u32::MAX);
    let offset = interval.min(OFFSET_MAX).mul_f64(fraction);
    let slot = SLOT.min(interval / 20).max(Duration::from_nanos(1));
    slot * u32::try_from(offset.as_nanos() / slot.as_nanos()).unwrap_or(0)
}

/// FNV-1a, 64 bits, with a final mix: its high bits alone barely depend on the last bytes, and addresses often differ
/// only there.
fn fnv1a(bytes: &[u8]) -> u64 {
    let hash = bytes
        .iter()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3));
    let hash = (hash ^ (hash >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    hash ^ (hash >> 33)
}

/// The instants at which one task looks. A look that took longer than the interval skips the instants it missed.
#[derive(Debug)]
pub struct Ticks {
    offset: Duration,
    interval: Duration,
    ticking: Option<Interval>,
}

impl Ticks {
    #[must_use]
    pub fn new(offset: Duration, interval: Duration) -> Ticks {
        // A zero interval would panic in the timer; `config` refuses it.
        Ticks { offset, interval: interval.max(Duration::from_millis(1)), ticking: None }
    }

    /// Waits for the next instant; false when the task must stop.
    pub async fn next(&mut self, stop: &CancellationToken) -> bool {
        stop.run_until_cancelled(self.tick()).await.is_some()
    }

    async fn tick(&mut self) {
        if let Some(ticking) = &mut self.ticking {
            ticking.tick().await;
            return;
        }
        sleep(self.offset).await;
        let mut ticking = interval(self.interval);
        ticking.set_missed_tick_behavior(MissedTickBehavior::Skip);
        ticking.tick().await;
        self.ticking = Some(ticking);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offsets_are_stable_within_the_interval_and_spread() {
        let interval = Duration::from_secs(8);
        let mut eighths = [0_usize; 8];
        for host in 0..800 {
            let key = format!("api app http://10.0.{}.{}:8080/metrics", host / 250, host % 250);
            let found = offset(&key, interval);
            assert_eq!(found, offset(&key, interval));
            assert!(found <= interval && found.as_millis().is_multiple_of(SLOT.as_millis()));
            eighths[usize::try_from(found.as_secs().min(7)).unwrap()] += 1;
        }
        assert!(eighths.iter().all(|count| (50..200).contains(count)), "{eighths:?}");
        let begun_together = |interval| {
            let offsets = (0..100).map(|host| offset(&host.to_string(), interval));
            100 / offsets.collect::<std::collections::BTreeSet<_>>().len()
        };
        assert_eq!([100, 1000].map(|ms| begun_together(Duration::from_millis(ms))), [5, 5]);
        assert_eq!(offset("a", Duration::ZERO), Duration::ZERO);
        assert!((0..100).all(|host| offset(&host.to_string(), Duration::from_hours(1)) <= OFFSET_MAX));
    }

    #[tokio::test(start_paused = true)]
    async fn a_look_that_takes_too_long_skips_what_it_missed() {
        let stop = CancellationToken::new();
        let start = tokio::time::Instant::now();
        let mut ticks = Ticks::new(Duration::from_secs(3), Duration::from_secs(10));
        let mut seen = Vec::new();
        for look in [1, 25, 1] {
            assert!(ticks.next(&stop).await);
            seen.push(start.elapsed().as_secs());
            sleep(Duration::from_secs(look)).await;
        }
        assert!(ticks.next(&stop).await);
        seen.push(start.elapsed().as_secs());
        // The late one comes at once, and then the cadence is the old one.
        assert_eq!(seen, [3, 13, 38, 43]);
        stop.cancel();
        assert!(!ticks.next(&stop).await);
    }
}
