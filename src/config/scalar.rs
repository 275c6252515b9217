//! The small languages inside strings: durations, percentages, sizes, `${NAME}`.

use std::ops::Range;
use std::time::Duration;

/// No setting of backstop is meant to be longer; the bound keeps every sum of durations in range.
const DURATION_MAX: Duration = Duration::from_hours(8784);

/// Why a text is not the value that it should be: the reason, and the way out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Wrong {
    pub message: String,
    pub help: String,
}

fn wrong(message: impl Into<String>, help: impl Into<String>) -> Wrong {
    Wrong { message: message.into(), help: help.into() }
}

/// `90s`, `1h30m`, `1.5m`, `250ms`: numbers with units, the largest first or not. Months and years are not units: they
/// are too easily mistaken for minutes.
pub(super) fn duration(text: &str) -> Result<Duration, Wrong> {
    const HELP: &str = "write a number and a unit: \"500ms\", \"30s\", \"5m\", \"1h30m\", \"7d\"";
    let text = text.trim();
    if text.is_empty() {
        return Err(wrong("this is not a duration", HELP));
    }
    if text.starts_with('-') {
        return Err(wrong("a duration cannot be negative", HELP));
    }
    let mut seconds = 0.0;
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let (number, after) = rest.split_at(digits);
        let letters = after.find(|c: char| !c.is_alphabetic()).unwrap_or(after.len());
        let (unit, after) = after.split_at(letters);
        let Ok(number) = number.parse::<f64>() else {
            return Err(wrong("this is not a duration", HELP));
        };
        if unit.is_empty() {
            return Err(wrong(
                "the duration has no unit",
                format!("is it seconds? write \"{text}s\"; the units are ms, s, m, h, d, w"),
            ));
        }
        let Some(factor) = unit_seconds(unit) else {
            return Err(wrong(
                format!("`{unit}` is not a unit of time"),
                "the units are ms, s, m (minutes), h, d, w, in lower case",
            ));
        };
        seconds += number * factor;
        rest = after.trim_start();
    }
    match Duration::try_from_secs_f64(seconds) {
        // To the millisecond: everything downstream counts in them.
        Ok(duration) if duration <= DURATION_MAX => {
            Ok(Duration::from_millis(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)))
        }
        Ok(_) | Err(_) => Err(wrong("the duration is longer than a year", "nothing here is meant to last so long")),
    }
}

fn unit_seconds(unit: &str) -> Option<f64> {
    match unit {
        "ms" => Some(0.001),
        "s" | "sec" | "second" | "seconds" => Some(1.0),
        "m" | "min" | "minute" | "minutes" => Some(60.0),
        "h" | "hour" | "hours" => Some(3600.0),
        "d" | "day" | "days" => Some(24.0 * 3600.0),
        "w" | "week" | "weeks" => Some(7.0 * 24.0 * 3600.0),
        _ => None,
    }
}

/// `15%` as 0.15.
pub(super) fn percentage(text: &str) -> Option<f64> {
    let number = text.trim().strip_suffix('%')?.trim_end();
    // Dividing by 100 afterwards would make 99.9 % a little more than 0.999.
    let share: f64 = format!("{number}e-2").parse().ok()?;
    share.is_finite().then_some(share)
}

/// `16MiB`, `64kB`, `1024`.
pub(super) fn size(text: &str) -> Result<usize, Wrong> {
    const HELP: &str = "write a number and a unit: \"64KiB\", \"16MiB\"";
    let size: bytesize::ByteSize = text.parse().map_err(|_| wrong("this is not a size", HELP))?;
    usize::try_from(size.as_u64()).map_err(|_| wrong("the size is too large", HELP))
}

/// `3` in a row, or `3 of 5`.
pub(super) fn failures(text: &str) -> Option<(u32, u32)> {
    let (failures, of) = text.split_once(" of ")?;
    Some((failures.trim().parse().ok()?, of.trim().parse().ok()?))
}

/// What is wrong with a `${…}`, and which bytes of the text it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Unresolved {
    pub range: Range<usize>,
    pub wrong: Wrong,
}

/// Puts variables in place of `${NAME}`; `$$` is a dollar, and so is a `$` before anything else. The flag tells whether
/// a variable was used. What a variable holds is not looked at again.
pub(super) fn substitute(
    text: &str,
    variable: &dyn Fn(&str) -> Option<String>,
) -> Result<(String, bool), Vec<Unresolved>> {
    let mut out = String::with_capacity(text.len());
    let mut used = false;
    let mut unresolved = Vec::new();
    let mut at = 0;
    while let Some(dollar) = text[at..].find('$').map(|found| at + found) {
        out.push_str(&text[at..dollar]);
        let after = &text[dollar + 1..];
        if after.starts_with('$') {
            out.push('$');
            at = dollar + 2;
        } else if let Some(inside) = after.strip_prefix('{') {
            let Some(close) = inside.find('}') else {
                let wrong = wrong("`${` is not closed", "write ${NAME}; a dollar and a brace as they are: $${");
                unresolved.push(Unresolved { range: dollar..text.len(), wrong });
                return Err(unresolved);
            };
            at = dollar + 2 + close + 1;
            match resolve(&inside[..close], variable) {
                Ok(value) => {
                    out.push_str(&value);
                    used = true;
                }
                Err(wrong) => unresolved.push(Unresolved { range: dollar..at, wrong }),
            }
        } else {
            out.push('$');
            at = dollar + 1;
        }
    }
    out.push_str(&text[at..]);
    if unresolved.is_empty() { Ok((out, used)) } else { Err(unresolved) }
}

fn resolve(name: &str, variable: &dyn Fn(&str) -> Option<String>) -> Result<String, Wrong> {
    let well_formed = !name.is_empty()
        && !name.starts_with(|c: char| c.is_ascii_digit())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    if !well_formed {
        return Err(wrong(
            format!("`{name}` is not a variable's name"),
            "write ${NAME} with letters, digits and `_`; a dollar and a brace as they are: $${",
        ));
    }
    variable(name).ok_or_else(|| {
        wrong(
            format!("the environment variable {name} is not set"),
            format!("set {name} where backstop is started (Environment= in the unit), or write the value here"),
        )
    })
}
