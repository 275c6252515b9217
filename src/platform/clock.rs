//! The only reader of time.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::time::{ClockId, clock_gettime};

use crate::time::{BootId, Now, Timestamp};

/// Reads the kernel's clocks. Cheap to clone.
///
/// The monotonic timeline is `CLOCK_BOOTTIME` (it goes on while the machine sleeps) plus an offset that is fixed when
/// the daemon starts, so that it looks like wall time, never jumps with it, and goes on where an earlier daemon left: by
/// what has passed since. Within one boot the kernel knows that, from one boot to another only the clock on the wall.
#[derive(Clone, Debug)]
pub struct Clock {
    source: Source,
    boot: BootId,
    offset_ms: i64,
}

/// What the clocks show at one instant.
#[derive(Clone, Debug)]
pub struct Reading {
    pub since_boot: Duration,
    pub wall: Timestamp,
}

/// Not a trait: the daemon has one source, and everything that has a clock would have a type parameter for the other.
#[derive(Clone)]
enum Source {
    Kernel,
    Given(Arc<dyn Fn() -> Reading + Send + Sync>),
}

impl Clock {
    /// What an earlier daemon left: the instant of its last `checkpoint`, and that of its `newest` entry. The timeline
    /// never goes back behind either, whatever the wall clock says now.
    #[must_use]
    pub fn start(checkpoint: Option<&Now>, newest: Option<Timestamp>) -> Clock {
        Clock::anchored(Source::Kernel, boot_id(), checkpoint, newest)
    }

    /// As [`Clock::start`], but on clocks that the caller turns: for a simulation of the whole engine in virtual time.
    #[must_use]
    pub fn given(
        read: Arc<dyn Fn() -> Reading + Send + Sync>,
        boot: BootId,
        checkpoint: Option<&Now>,
        newest: Option<Timestamp>,
    ) -> Clock {
        Clock::anchored(Source::Given(read), boot, checkpoint, newest)
    }

    fn anchored(source: Source, boot: BootId, checkpoint: Option<&Now>, newest: Option<Timestamp>) -> Clock {
        let (since_boot, wall) = (source.since_boot(), source.wall());
        let goes_on = goes_on_at(&Reading { since_boot, wall }, &boot, checkpoint, newest);
        Clock { source, boot, offset_ms: goes_on.as_millis() - millis_of(since_boot) }
    }

    #[must_use]
    pub fn now(&self) -> Now {
        let since_boot = self.source.since_boot();
        Now { monotonic: self.timeline(since_boot), wall: self.source.wall(), boot: self.boot.clone(), since_boot }
    }

    /// Time since the machine booted, to the nanosecond: for measuring how long something took. Not on the timeline
    /// of [`Now`].
    #[must_use]
    pub fn uptime(&self) -> Duration {
        self.source.since_boot()
    }

    /// Only the monotonic instant.
    #[must_use]
    pub fn monotonic(&self) -> Timestamp {
        self.timeline(self.source.since_boot())
    }

    fn timeline(&self, since_boot: Duration) -> Timestamp {
        Timestamp::from_millis(millis_of(since_boot).saturating_add(self.offset_ms))
    }
}

/// Where the timeline goes on for a daemon that starts when the clocks show `reading`.
#[must_use]
pub fn goes_on_at(reading: &Reading, boot: &BootId, checkpoint: Option<&Now>, newest: Option<Timestamp>) -> Timestamp {
    let begins = checkpoint.map_or(reading.wall, |last| {
        let passed = match reading.since_boot.checked_sub(last.since_boot) {
            Some(passed) if last.boot == *boot => passed,
            // Another boot, or a machine that was set back to an earlier image of itself.
            Some(_) | None => reading.wall.since(last.wall),
        };
        last.monotonic + passed
    });
    let last = newest.max(checkpoint.map(|last| last.monotonic));
    last.map_or(begins, |last| begins.max(last.plus_millis(1)))
}

impl Source {
    fn since_boot(&self) -> Duration {
        match self {
            Source::Kernel => since_boot(),
            Source::Given(read) => read().since_boot,
        }
    }

    fn wall(&self) -> Timestamp {
        match self {
            Source::Kernel => wall(),
            Source::Given(read) => read().wall,
        }
    }
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Source::Kernel => "Kernel",
            Source::Given(_) => "Given",
        })
    }
}

fn since_boot() -> Duration {
    let time = clock_gettime(ClockId::Boottime);
    Duration::new(u64::try_from(time.tv_sec).unwrap_or(0), u32::try_from(time.tv_nsec).unwrap_or(0))
}

fn millis_of(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

/// What the clock on the wall says.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "this is the one place")]
pub fn wall() -> Timestamp {
    match SystemTime::now().duration_since(UNIX_EPOCH) {
        Ok(after) => Timestamp::from_millis(millis_of(after)),
        Err(before) => Timestamp::from_millis(-millis_of(before.duration())),
    }
}

/// Where the kernel does not tell (no `/proc`), every start counts as another boot: nothing is then mistaken for a
/// process of this one.
fn boot_id() -> BootId {
    let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok();
    match text.as_deref().map(str::trim) {
        Some(id) if !id.is_empty() => BootId(Arc::from(id)),
        Some(_) | None => BootId(Arc::from(format!("start-{}", wall().as_millis()))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_millis(seconds * 1000)
    }

    #[test]
    fn the_timeline_goes_on_by_what_has_passed() {
        let boot = |name: &str| BootId(name.into());
        let since_boot = Duration::from_secs(1000);
        let checkpoint = Now { monotonic: at(500_000), wall: at(500_300), boot: boot("a"), since_boot };
        let passed_after = |name: &str, since_boot, wall, newest| {
            let reading = Reading { since_boot: Duration::from_secs(since_boot), wall: at(wall) };
            goes_on_at(&reading, &boot(name), Some(&checkpoint), newest).millis_since(checkpoint.monotonic)
        };
        assert_eq!(passed_after("a", 1060, 500_360, None), 60_000);
        assert_eq!(passed_after("a", 1060, 300_000, None), 60_000, "the wall was set back");
        assert_eq!(passed_after("a", 1060, 900_000, None), 60_000, "the wall was set forward");
        assert_eq!(passed_after("a", 900, 500_340, None), 40_000, "an earlier image of the machine");
        assert_eq!(passed_after("b", 30, 500_390, None), 90_000, "only the wall tells");
        assert_eq!(passed_after("b", 30, 300_000, None), 1, "never back");
        assert_eq!(passed_after("a", 1060, 500_360, Some(at(500_070))), 70_001, "nor behind an entry");
        let reading = Reading { since_boot, wall: at(7) };
        assert_eq!(goes_on_at(&reading, &boot("a"), None, None), at(7));
        assert_eq!(goes_on_at(&reading, &boot("a"), None, Some(at(9))), at(9).plus_millis(1));
    }
}
