//! The only reader of time.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::time::{ClockId, clock_gettime};

use crate::time::{BootId, Now, Timestamp};

/// Reads the kernel's clocks. Cheap to clone.
///
/// The monotonic timeline is `CLOCK_BOOTTIME` (it goes on while the machine sleeps) plus an offset that is fixed when
/// the daemon starts, so that it looks like wall time, never jumps with it, and goes on where an earlier daemon left.
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
    /// `last` is the newest record of the journal: boot, monotonic and wall time. The timeline never goes back behind
    /// it, whatever the wall clock says now.
    #[must_use]
    pub fn start(last: Option<&Now>) -> Clock {
        Clock::anchored(Source::Kernel, boot_id(), last)
    }

    /// As [`Clock::start`], but on clocks that the caller turns: for a simulation of the whole engine in virtual time.
    #[must_use]
    pub fn given(read: Arc<dyn Fn() -> Reading + Send + Sync>, boot: BootId, last: Option<&Now>) -> Clock {
        Clock::anchored(Source::Given(read), boot, last)
    }

    fn anchored(source: Source, boot: BootId, last: Option<&Now>) -> Clock {
        let since_boot = millis_of(source.since_boot());
        let mut offset_ms = source.wall().as_millis() - since_boot;
        if let Some(last) = last {
            let not_before = last.monotonic.as_millis().saturating_add(1);
            offset_ms = offset_ms.max(not_before - since_boot);
        }
        Clock { source, boot, offset_ms }
    }

    #[must_use]
    pub fn now(&self) -> Now {
        Now { monotonic: self.monotonic(), wall: self.source.wall(), boot: self.boot.clone() }
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
        Timestamp::from_millis(millis_of(self.source.since_boot()).saturating_add(self.offset_ms))
    }
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
