//! The calendar in UTC, for `minute`, `hour`, `day_of_week` and their siblings.

/// A moment of the proleptic Gregorian calendar.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Date {
    pub year: i64,
    /// 1 to 12
    pub month: u8,
    /// 1 to 31
    pub day: u8,
    /// 0 is Sunday
    pub weekday: u8,
    /// 1 to 366
    pub yearday: u16,
    pub hour: u8,
    pub minute: u8,
    pub days_in_month: u8,
}

/// The moment so many seconds after 1970; fractions are cut off as Go does. `None` beyond all calendars and for NaN.
pub(super) fn date(secs: f64) -> Option<Date> {
    if secs.is_nan() || secs.abs() >= 1e13 {
        return None;
    }
    #[expect(clippy::cast_possible_truncation, reason = "below 1e13 by the check above")]
    let secs = secs as i64;
    let (days, within) = (secs.div_euclid(86_400), secs.rem_euclid(86_400));
    let (year, month, day) = civil(days);
    let yearday = days - days_before(year, 1) + 1;
    Some(Date {
        year,
        month: small(month),
        day: small(day),
        weekday: small((days + 4).rem_euclid(7)),
        yearday: u16::try_from(yearday).unwrap_or(0),
        hour: small(within / 3600),
        minute: small(within % 3600 / 60),
        days_in_month: days_in(year, month),
    })
}

fn small(value: i64) -> u8 {
    u8::try_from(value).unwrap_or(0)
}

fn is_leap(year: i64) -> bool {
    year % 4 == 0 && (year % 100 != 0 || year % 400 == 0)
}

fn days_in(year: i64, month: i64) -> u8 {
    match month {
        2 if is_leap(year) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Days from 1970-01-01 to the first of a month (Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms").
fn days_before(year: i64, month: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let of_era = year - era * 400;
    let of_year = (153 * (month + if month > 2 { -3 } else { 9 }) + 2) / 5;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

/// The date so many days after 1970-01-01 (the same source).
fn civil(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let of_era = days - era * 146_097;
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * of_year + 2) / 153;
    let day = of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

impl Date {
    #[expect(clippy::cast_precision_loss, reason = "years are far below 2^53")]
    pub fn year_f64(self) -> f64 {
        self.year as f64
    }
}
