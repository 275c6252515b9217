//! Freeze windows in local time: while one is open, an action becomes a proposal.
//!
//! Windows are written as people say them (Friday from 18:00, in Berlin), so their ends are sought on the calendar of
//! their zone. Where the clock is set forward and an end of a window does not exist, or set back and it exists twice,
//! the longer window is taken.

use jiff::civil::{Date, DateTime, Time, Weekday};
use jiff::tz::TimeZone;

use crate::time::Timestamp;

/// Windows that follow each other without a gap are one, up to this many: the end that people read need not be further
/// away than that.
const JOINED_MAX: usize = 62;

#[derive(Clone, Debug, PartialEq)]
pub struct Freeze {
    pub span: Span,
    pub zone: TimeZone,
    /// In the decision and in the notice.
    pub reason: String,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Span {
    /// Once, from the one to the other.
    Dates { from: DateTime, to: DateTime },
    /// Beginning on each of these days. `to` is on the day after where it is not later than `from`; without `to` it is
    /// the midnight that ends the day.
    Weekly { days: Vec<Weekday>, from: Time, to: Option<Time> },
}

impl Freeze {
    /// Until when it freezes at this wall time; None while it does not.
    #[must_use]
    fn until(&self, wall: Timestamp) -> Option<Timestamp> {
        match &self.span {
            Span::Dates { from, to } => self.covers(*from, *to, wall),
            Span::Weekly { days, from, to } => {
                let today = jiff::Timestamp::from_millisecond(wall.as_millis()).ok()?;
                let today = self.zone.to_datetime(today).date();
                // A window that began yesterday may still be open.
                [today.yesterday(), Ok(today)].into_iter().flatten().find_map(|day| {
                    let (begins, ends) = window(day, *from, *to)?;
                    days.contains(&day.weekday()).then(|| self.covers(begins, ends, wall))?
                })
            }
        }
    }

    fn covers(&self, from: DateTime, to: DateTime, wall: Timestamp) -> Option<Timestamp> {
        let from = self.zone.to_ambiguous_timestamp(from).earlier().ok()?.as_millisecond();
        let to = self.zone.to_ambiguous_timestamp(to).later().ok()?.as_millisecond();
        (from..to).contains(&wall.as_millis()).then(|| Timestamp::from_millis(to))
    }
}

fn window(day: Date, from: Time, to: Option<Time>) -> Option<(DateTime, DateTime)> {
    let ends = match to {
        Some(to) if to > from => day.to_datetime(to),
        Some(to) => day.tomorrow().ok()?.to_datetime(to),
        None => day.tomorrow().ok()?.to_datetime(Time::midnight()),
    };
    Some((day.to_datetime(from), ends))
}

/// The freeze that is on at this wall time: its reason, and when the last of the windows that follow each other ends.
#[must_use]
#[expect(clippy::needless_pass_by_value, reason = "a clone of the iterator is two pointers")]
pub fn frozen<'a>(freezes: impl Iterator<Item = &'a Freeze> + Clone, wall: Timestamp) -> Option<(&'a str, Timestamp)> {
    let open = |at| {
        let ends = freezes.clone().filter_map(move |freeze| Some((freeze.until(at)?, freeze)));
        ends.max_by_key(|(until, _)| *until)
    };
    let (mut until, freeze) = open(wall)?;
    for _ in 0..JOINED_MAX {
        match open(until) {
            Some((later, _)) => until = later,
            None => break,
        }
    }
    Some((&freeze.reason, until))
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::civil::{date, time};
    use jiff::tz::TimeZoneDatabase;

    fn berlin() -> TimeZone {
        TimeZoneDatabase::bundled().get("Europe/Berlin").expect("a zone of the bundle")
    }

    fn utc(text: &str) -> Timestamp {
        Timestamp::from_millis(text.parse::<jiff::Timestamp>().expect("an instant").as_millisecond())
    }

    fn weekly(days: &[Weekday], from: Time, to: Option<Time>) -> Freeze {
        let span = Span::Weekly { days: days.to_vec(), from, to };
        Freeze { span, zone: berlin(), reason: "why".to_owned() }
    }

    fn until(freezes: &[Freeze], at: &str) -> Option<String> {
        frozen(freezes.iter(), utc(at)).map(|(_, until)| until.to_string())
    }

    #[test]
    fn a_window_over_midnight_belongs_to_the_day_on_which_it_begins() {
        // 2026-11-20 is a Friday; Berlin is at +01:00.
        let freeze = [weekly(&[Weekday::Friday], time(22, 0, 0, 0), Some(time(6, 0, 0, 0)))];
        assert_eq!(until(&freeze, "2026-11-20T20:59:59Z"), None);
        assert_eq!(until(&freeze, "2026-11-20T21:00:00Z").as_deref(), Some("2026-11-21T05:00:00.000Z"));
        assert_eq!(until(&freeze, "2026-11-21T04:59:59Z").as_deref(), Some("2026-11-21T05:00:00.000Z"));
        assert_eq!(until(&freeze, "2026-11-21T05:00:00Z"), None);
        assert_eq!(until(&freeze, "2026-11-21T22:00:00Z"), None, "Saturday's night is no window");
    }

    #[test]
    fn windows_that_follow_each_other_are_one() {
        let weekend = [weekly(&[Weekday::Saturday, Weekday::Sunday], time(0, 0, 0, 0), None)];
        assert_eq!(until(&weekend, "2026-11-21T12:00:00Z").as_deref(), Some("2026-11-22T23:00:00.000Z"));
        let week = [weekend[0].clone(), weekly(&[Weekday::Monday], time(0, 0, 0, 0), Some(time(8, 0, 0, 0)))];
        assert_eq!(until(&week, "2026-11-21T12:00:00Z").as_deref(), Some("2026-11-23T07:00:00.000Z"));
    }

    #[test]
    fn the_wall_of_the_zone_counts_in_summer_and_in_winter() {
        let freeze = [weekly(&[Weekday::Friday], time(18, 0, 0, 0), Some(time(20, 0, 0, 0)))];
        // July: +02:00, November: +01:00.
        for (at, open) in [
            ("2026-07-03T15:59:59Z", false),
            ("2026-07-03T16:00:00Z", true),
            ("2026-11-20T16:30:00Z", false),
            ("2026-11-20T17:00:00Z", true),
        ] {
            assert_eq!(until(&freeze, at).is_some(), open, "{at}");
        }
    }

    #[test]
    fn an_hour_that_does_not_exist_or_exists_twice_makes_the_window_longer() {
        // On 2026-03-29 the clock goes from 02:00 to 03:00, at 01:00 UTC.
        let gap = [weekly(&[Weekday::Sunday], time(2, 30, 0, 0), Some(time(4, 0, 0, 0)))];
        assert_eq!(until(&gap, "2026-03-29T00:29:59Z"), None);
        assert_eq!(until(&gap, "2026-03-29T00:30:00Z").as_deref(), Some("2026-03-29T02:00:00.000Z"));
        // On 2026-10-25 02:00 to 03:00 happens twice, the second time from 01:00 UTC on.
        let fold = [weekly(&[Weekday::Sunday], time(2, 15, 0, 0), Some(time(2, 45, 0, 0)))];
        assert_eq!(until(&fold, "2026-10-25T00:15:00Z").as_deref(), Some("2026-10-25T01:45:00.000Z"));
        assert_eq!(until(&fold, "2026-10-25T01:44:59Z").as_deref(), Some("2026-10-25T01:45:00.000Z"));
        assert_eq!(until(&fold, "2026-10-25T01:45:00Z"), None);
    }

    #[test]
    fn dates_are_a_window_of_their_own() {
        let from = date(2026, 12, 24).at(0, 0, 0, 0);
        let to = date(2026, 12, 27).at(0, 0, 0, 0);
        let freeze = [Freeze { span: Span::Dates { from, to }, zone: berlin(), reason: "Christmas".to_owned() }];
        assert_eq!(until(&freeze, "2026-12-23T22:59:59Z"), None);
        assert_eq!(until(&freeze, "2026-12-23T23:00:00Z").as_deref(), Some("2026-12-26T23:00:00.000Z"));
        assert_eq!(until(&freeze, "2026-12-26T23:00:00Z"), None);
    }
}
