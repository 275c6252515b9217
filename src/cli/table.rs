//! Tables for people.

use comfy_table::{ContentArrangement, Table, presets};

use super::failure::clean;

/// A table without lines between the rows; it wraps at the width of the terminal, and not at all in a pipe.
pub(super) fn table(header: &[&str], rows: impl IntoIterator<Item = Vec<String>>) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Dynamic);
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
