//! Instants as values. Nothing here reads a clock: `platform::clock` does, and hands `Now` to whoever decides.

use std::fmt;
use std::ops::{Add, Sub};
use std::sync::Arc;
use std::time::Duration;

/// An instant in milliseconds since the Unix epoch.
///
/// Two timelines use this unit and must not be mixed: [`Now::monotonic`], which never jumps and orders everything
/// that is decided, and [`Now::wall`], which people read and which PromQL's `time()` returns.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(i64);

impl Timestamp {
    /// The earliest instant that can be expressed; stands for "before everything".
    pub const MIN: Timestamp = Timestamp(i64::MIN);
    /// The latest instant that can be expressed; a deadline that never comes.
    pub const MAX: Timestamp = Timestamp(i64::MAX);

    #[must_use]
    pub const fn from_millis(millis: i64) -> Timestamp {
        Timestamp(millis)
    }

    #[must_use]
    pub const fn as_millis(self) -> i64 {
        self.0
    }

    /// Seconds since the epoch, as PromQL's `time()` and `timestamp()` have it.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "exact up to 2^53 ms, the year 287396")]
    pub fn as_secs_f64(self) -> f64 {
        self.0 as f64 / 1000.0
    }

    /// How long after `earlier` this is; zero if it is not after it.
    #[must_use]
    pub fn since(self, earlier: Timestamp) -> Duration {
        Duration::from_millis(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }

    /// `self - other` in milliseconds, negative when `other` is later.
    #[must_use]
    pub const fn millis_since(self, other: Timestamp) -> i64 {
        self.0.saturating_sub(other.0)
    }

    #[must_use]
    pub const fn plus_millis(self, millis: i64) -> Timestamp {
        Timestamp(self.0.saturating_add(millis))
    }
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

impl Add<Duration> for Timestamp {
    type Output = Timestamp;
    /// Saturates: a deadline beyond the end of time never comes.
    fn add(self, duration: Duration) -> Timestamp {
        Timestamp(self.0.saturating_add(millis(duration)))
    }
}

impl Sub<Duration> for Timestamp {
    type Output = Timestamp;
    fn sub(self, duration: Duration) -> Timestamp {
        Timestamp(self.0.saturating_sub(millis(duration)))
    }
}

/// RFC 3339 in UTC with milliseconds, such as `2026-11-20T03:00:00.250Z`.
impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match u64::try_from(self.0) {
            Ok(millis) if millis < 253_402_300_800_000 => {
                let time = std::time::UNIX_EPOCH + Duration::from_millis(millis);
                write!(f, "{}", humantime::format_rfc3339_millis(time))
            }
            _ => write!(f, "{} ms since 1970", self.0),
        }
    }
}

/// One boot of the machine, as the kernel names it (`/proc/sys/kernel/random/boot_id`).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct BootId(pub Arc<str>);

/// The present, as it is handed to the machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Now {
    /// Never goes back and never jumps while the daemon runs, and goes on across restarts (`platform::clock` anchors
    /// it): samples, holds and deadlines are measured in it.
    pub monotonic: Timestamp,
    /// What the clock on the wall says; may jump. For people, and for PromQL's `time()`.
    pub wall: Timestamp,
    /// Process ids and start times mean something only within one boot.
    pub boot: BootId,
    /// Since that boot, sleep included: what passed between two daemons of one boot, whatever was done to the wall clock.
    pub since_boot: Duration,
}

impl Now {
    /// The wall time of an instant on the monotonic timeline, as of now.
    #[must_use]
    pub const fn wall_of(&self, monotonic: Timestamp) -> Timestamp {
        self.wall.plus_millis(monotonic.millis_since(self.monotonic))
    }
}
