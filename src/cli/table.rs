//! Tables for people, and the times in them and in arguments.

use std::time::Duration;

use comfy_table::{ContentArrangement, Table, presets};

use super::failure::clean;

/// A table without lines between the rows. A row is one line: a terminal wraps it without breaking names and addresses
/// that somebody wants to copy, and it is the same in a pipe.
pub(super) fn table(header: &[&str], rows: impl IntoIterator<Item = Vec<String>>) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(header.to_vec());
    for row in rows {
        table.add_row(row.iter().map(|cell| clean(cell)).collect::<Vec<_>>());
    }
    table.trim_fmt()
}

/// What is not known or not there.
pub(super) fn or_dash(text: Option<&str>) -> String {
    text.filter(|text| !text.is_empty()).unwrap_or("–").to_owned()
}

/// `2026-11-20 03:00:00Z` of the API's `2026-11-20T03:00:00.250Z`: nobody reads milliseconds in a list.
pub(super) fn instant(text: &str) -> String {
    match text.split_once('.') {
        Some((seconds, _)) => format!("{}Z", seconds.replace('T', " ")),
        None => text.replace('T', " "),
    }
}

/// A duration that somebody typed, such as `90s` or `1h 30m`.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text).map_err(|_| "write a number and a unit, such as 90s, 20m, 1h30m or 7d".to_owned())
}
