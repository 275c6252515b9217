//! How durations, actors and foreign text are written for people.

use std::time::Duration;

use crate::decide::event::{Actor, Attempt, Running};

/// A duration as people say it: `250 ms`, `3.2 s`, `10 m 3 s`, `2 h 5 m`, `3 d 4 h`. Rounded down; never more than two
/// units.
#[must_use]
pub fn span(duration: Duration) -> String {
    let secs = duration.as_secs();
    let (minutes, hours, days) = (secs / 60, secs / 3600, secs / 86_400);
    let two = |big: u64, unit: &str, small: u64, small_unit: &str| {
        if small == 0 { format!("{big} {unit}") } else { format!("{big} {unit} {small} {small_unit}") }
    };
    if secs == 0 {
        format!("{} ms", duration.as_millis())
    } else if secs < 60 {
        match duration.subsec_millis() / 100 {
            0 => format!("{secs} s"),
            tenths => format!("{secs}.{tenths} s"),
        }
    } else if hours == 0 {
        two(minutes, "m", secs % 60, "s")
    } else if days == 0 {
        two(hours, "h", minutes % 60, "m")
    } else {
        two(days, "d", hours % 24, "h")
    }
}

/// An offset with its sign: `+10 m 3 s`.
pub(super) fn offset(millis: i64) -> String {
    let sign = if millis < 0 { '-' } else { '+' };
    format!("{sign}{}", span(Duration::from_millis(millis.unsigned_abs())))
}

pub(super) fn actor(actor: &Actor) -> String {
    format!("{} ({})", actor.name, actor.via)
}

pub(super) fn running(running: &Running) -> String {
    match running {
        Running::One(release) => release.to_string(),
        Running::Mix(shares) => {
            let parts: Vec<String> =
                shares.iter().map(|(release, share)| format!("{release} ({:.0} %)", share * 100.0)).collect();
            format!("a mix of {}", parts.join(", "))
        }
        Running::Unknown(why) => format!("unknown ({why})"),
    }
}

/// `level 1, step 2`, with the attempt where it is not the first.
pub(super) fn attempt(attempt: Attempt) -> String {
    let undo = if attempt.undo { "undo " } else { "" };
    let place = format!("level {}, {undo}step {}", attempt.level + 1, attempt.step + 1);
    if attempt.attempt > 1 { format!("{place}, attempt {}", attempt.attempt) } else { place }
}

/// Nothing, or a colon and the text: reasons are often empty.
pub(super) fn after_colon(text: &str) -> String {
    if text.is_empty() { String::new() } else { format!(": {text}") }
}

/// Text from outside for the middle of a Markdown line or table cell: it can neither open markup nor end the cell.
pub(super) fn plain(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    let mut before = ' ';
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\n' | '\r' | '\t' => safe.push(' '),
            // Within a word an underscore is only an underscore, and names are full of them.
            '_' if before.is_alphanumeric() && chars.peek().is_some_and(|next| next.is_alphanumeric()) => {
                safe.push('_');
            }
            '|' | '*' | '_' | '`' | '[' | '\\' => {
                safe.push('\\');
                safe.push(c);
            }
            '<' => safe.push_str("&lt;"),
            '&' => safe.push_str("&amp;"),
            c if c.is_control() => safe.push('\u{fffd}'),
            c => safe.push(c),
        }
        before = c;
    }
    safe
}

/// Text as code within a line, whatever backticks are in it.
pub(super) fn code(text: &str) -> String {
    let line: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    let fence = "`".repeat(longest_run(&line) + 1);
    // Without the spaces a backtick at either end would be taken for a part of the fence.
    let pad = if line.starts_with('`') || line.ends_with('`') || line.is_empty() { " " } else { "" };
    format!("{fence}{pad}{line}{pad}{fence}")
}

/// The same inside a table, where `|` ends the cell even within code.
pub(super) fn code_cell(text: &str) -> String {
    code(text).replace('|', "\\|")
}

/// Text as a block of code, whatever backticks are in it.
pub(super) fn block(text: &str) -> String {
    let fence = "`".repeat((longest_run(text) + 1).max(3));
    let body: String =
        text.chars().map(|c| if c.is_control() && c != '\n' && c != '\t' { '\u{fffd}' } else { c }).collect();
    format!("{fence}text\n{}\n{fence}", body.trim_end_matches('\n'))
}

fn longest_run(text: &str) -> usize {
    text.split(|c| c != '`').map(str::len).max().unwrap_or(0)
}
