//! `freeze = [{ … }]`: windows in local time.

use std::sync::LazyLock;

use jiff::civil::{DateTime, Time, Weekday};
use jiff::tz::{TimeZone, TimeZoneDatabase};

use super::super::cursor::{Cx, Got};
use super::super::places::{Place, Problem};
use super::super::suggest::closest;
use super::super::tree::{Node, Value};
use crate::decide::freeze::{Freeze, Span};

const HELP: &str = "such as [{ days = [\"fri\"], from = \"16:00\", to = \"08:00\", zone = \"Europe/Berlin\", reason = \
                    \"the weekend begins\" }]";
const WHEN_HELP: &str = "a time of day \"22:00\", or for one window a date and time \"2026-12-24T18:00\"";
const ZONE_HELP: &str = "a zone of the IANA database: \"Europe/Berlin\", or \"UTC\"";

const DAYS: [(&str, Weekday); 7] = [
    ("mon", Weekday::Monday),
    ("tue", Weekday::Tuesday),
    ("wed", Weekday::Wednesday),
    ("thu", Weekday::Thursday),
    ("fri", Weekday::Friday),
    ("sat", Weekday::Saturday),
    ("sun", Weekday::Sunday),
];

/// The zones that are built in: the host's own files may be missing, or older.
static ZONES: LazyLock<TimeZoneDatabase> = LazyLock::new(TimeZoneDatabase::bundled);

#[derive(Clone, Copy)]
enum When {
    Time(Time),
    Date(DateTime),
}

pub(super) fn freezes(cx: &Cx<'_>, node: &Node) -> Option<Vec<Freeze>> {
    cx.list(node, HELP, |element| freeze(cx, element))
}

fn freeze(cx: &Cx<'_>, node: &Node) -> Option<Freeze> {
    let mut table = cx.table(node, "the freeze")?;
    let place = table.place;
    let days = table.get("days", |cx, node| {
        let days = cx.list(node, "such as [\"sat\", \"sun\"]", |day| cx.choice(day, &DAYS))?;
        if days.is_empty() {
            cx.error(Problem::at(node.place, "on none of the days").help("leave it out for every day"));
            return None;
        }
        Some(days)
    });
    let (from, to) = (table.get("from", when), table.get("to", when));
    let zone = table.need("zone", ZONE_HELP, zone);
    let reason = table.need("reason", "why, for whoever reads the proposal", |cx, node| {
        Some(cx.some_text(node, "why, for whoever reads the proposal")?.value)
    });
    table.finish();
    let span = span(cx, place, days, from, to);
    Some(Freeze { span: span?, zone: zone?, reason: reason? })
}

fn span(cx: &Cx<'_>, place: Place, days: Got<Vec<Weekday>>, from: Got<When>, to: Got<When>) -> Option<Span> {
    let days_place = days.place();
    let to_place = to.place().unwrap_or(place);
    let (days, from, to) = (days.optional()?, from.optional()?, to.optional()?);
    let wrong = |place, message: &str, help: &str| {
        cx.error(Problem::at(place, message).help(help));
        None
    };
    let every_day = || DAYS.iter().map(|(_, day)| *day).collect();
    match (from, to) {
        (Some(When::Date(from)), Some(When::Date(to))) => match days_place {
            Some(place) => wrong(place, "this window has dates, so it has no days", "leave `days` out"),
            None if to <= from => wrong(to_place, "the freeze ends before it begins", "`to` comes after `from`"),
            None => Some(Span::Dates { from, to }),
        },
        (Some(When::Date(_)), Some(When::Time(_)) | None) | (Some(When::Time(_)) | None, Some(When::Date(_))) => {
            wrong(place, "one end has a date, the other has none", "give both with a date, or both without")
        }
        (Some(When::Time(from)), Some(When::Time(to))) if from == to => {
            wrong(to_place, "the freeze ends when it begins", "for whole days leave `from` and `to` out")
        }
        (None, None) if days.is_none() => {
            let help = "give days, from or to; for a service that is never rolled back, set autonomy = \"propose\"";
            wrong(place, "this freeze has no beginning and no end", help)
        }
        (from, to) => {
            let from = match from {
                Some(When::Time(from)) => from,
                Some(When::Date(_)) | None => Time::midnight(),
            };
            let to = match to {
                // The midnight that ends the day.
                Some(When::Time(to)) if to == Time::midnight() => None,
                Some(When::Time(to)) => Some(to),
                Some(When::Date(_)) | None => None,
            };
            Some(Span::Weekly { days: days.unwrap_or_else(every_day), from, to })
        }
    }
}

fn when(cx: &Cx<'_>, node: &Node) -> Option<When> {
    let text = match &node.value {
        // TOML has dates of its own; this is what was written.
        Value::Datetime => cx.written(node.place).to_owned(),
        Value::Bool(_) | Value::Integer(_) | Value::Float(_) | Value::Text(_) | Value::List(_) | Value::Table(_) => {
            cx.some_text(node, WHEN_HELP)?.value
        }
    };
    let has_zone = text.ends_with(['Z', 'z']) || text.get(10..).is_some_and(|time| time.contains(['+', '-']));
    let read = if text.contains(':') && text.contains('-') && !has_zone {
        text.parse().ok().map(When::Date)
    } else if text.contains(':') && !has_zone {
        text.parse().ok().map(When::Time)
    } else {
        None
    };
    if read.is_none() {
        let message = if has_zone { "the zone has a key of its own" } else { "this is not a local time" };
        cx.error(Problem::at(node.place, message).help(WHEN_HELP));
    }
    read
}

fn zone(cx: &Cx<'_>, node: &Node) -> Option<TimeZone> {
    let text = cx.some_text(node, ZONE_HELP)?;
    if let Ok(zone) = ZONES.get(&text.value) {
        return Some(zone);
    }
    let names: Vec<String> = ZONES.available().map(|name| name.to_string()).collect();
    let problem = Problem::at(text.place, format!("{} is not a time zone", text.shown()));
    cx.error(match closest(&text.value, names.iter().map(String::as_str)) {
        Some(close) => problem.help(format!("did you mean \"{close}\"?")),
        None => problem.help(ZONE_HELP),
    });
    None
}
