//! Where in time a selector or a subquery looks: `offset` and `@`.

use std::fmt;

use super::show::Time;
use crate::time::Timestamp;

/// A hundred years in milliseconds: what looks at a fixed time needs all that there is.
const FOREVER_MS: i64 = 3_155_760_000_000;

/// What `@` names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::promql) enum Pin {
    /// `@ start()`, of a range query whose ends are not given yet.
    Start,
    /// `@ end()`
    End,
    /// `@ 1609746000`: milliseconds of wall time.
    Wall(i64),
    /// An end of a range query, on the timeline of the samples.
    Sample(Timestamp),
}

/// Relative to the instant of the evaluation unless there is a pin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::promql) struct When {
    pub pin: Option<Pin>,
    pub offset_ms: i64,
}

impl When {
    pub const NOW: When = When { pin: None, offset_ms: 0 };

    /// The instant it looks at. `top` is that of the whole expression, `at` that of the subquery around it.
    pub fn instant(self, at: Timestamp, top: Timestamp, wall_offset_ms: i64) -> Timestamp {
        let from = match self.pin {
            None => at,
            Some(Pin::Start | Pin::End) => top,
            Some(Pin::Wall(ms)) => Timestamp::from_millis(ms.saturating_sub(wall_offset_ms)),
            Some(Pin::Sample(instant)) => instant,
        };
        from.plus_millis(self.offset_ms.saturating_neg())
    }

    /// How far back of the instant of the evaluation it may look at most; `beyond_ms`: the same of the subqueries around.
    pub fn back_ms(self, beyond_ms: i64) -> i64 {
        match self.pin {
            None => self.offset_ms.max(0).saturating_add(beyond_ms),
            Some(Pin::Start | Pin::End) => self.offset_ms.max(0),
            Some(Pin::Wall(_) | Pin::Sample(_)) => FOREVER_MS,
        }
    }

    pub fn settle(&mut self, start: Timestamp, end: Timestamp) {
        self.pin = match self.pin {
            Some(Pin::Start) => Some(Pin::Sample(start)),
            Some(Pin::End) => Some(Pin::Sample(end)),
            pin @ (None | Some(Pin::Wall(_) | Pin::Sample(_))) => pin,
        };
    }
}

/// As PromQL writes it, with a space before it; nothing for now.
impl fmt::Display for When {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.pin {
            None => {}
            Some(Pin::Start) => f.write_str(" @ start()")?,
            Some(Pin::End) => f.write_str(" @ end()")?,
            Some(Pin::Wall(ms)) => write_seconds(f, ms)?,
            Some(Pin::Sample(instant)) => write_seconds(f, instant.as_millis())?,
        }
        match self.offset_ms {
            0 => Ok(()),
            ms => {
                let sign = if ms < 0 { "-" } else { "" };
                write!(f, " offset {sign}{}", Time(std::time::Duration::from_millis(ms.unsigned_abs())))
            }
        }
    }
}

fn write_seconds(f: &mut fmt::Formatter<'_>, ms: i64) -> fmt::Result {
    let (whole, rest) = (ms.unsigned_abs() / 1000, ms.unsigned_abs() % 1000);
    write!(f, " @ {}{whole}.{rest:03}", if ms < 0 { "-" } else { "" })
}
