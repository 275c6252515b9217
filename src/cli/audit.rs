//! `backstop audit`

use std::path::Path;
use std::time::{Duration, UNIX_EPOCH};

use super::client::{Connect, parse, path};
use super::failure::{Exit, Failure, clean, print, print_json};
use super::journal::Offline;
use super::table::{instant, or_dash, table};
use crate::decide::audit::{Act, Wanted};
use crate::journal;
use crate::platform::clock;
use crate::serve::wire::{ActBody, AuditBody};
use crate::time::Timestamp;

const AFTER_HELP: &str = "\
What people ordered, accepted or refused, and what backstop did by itself: the newest --limit lines, the latest last. It \
is read from the journal, from which nothing is ever deleted.

Examples:
  backstop audit
  backstop audit --people --since 24h             what people ordered since yesterday
  backstop audit --incident api-17
  backstop audit --since 2026-11-20T03:00:00Z --service api --json | jq '.acts[]'
  backstop audit --state-dir /var/lib/backstop    also while the daemon is down";

/// Of one answer of the API, and of the journal's entries that are read at a time.
const AT_ONCE: usize = 1000;

#[derive(Debug, clap::Args)]
#[command(after_help = AFTER_HELP)]
pub(super) struct Args {
    /// Only what was done since then: 2h, 7d, or 2026-11-20T03:00:00Z
    #[arg(long, value_name = "WHEN", value_parser = since)]
    since: Option<Since>,
    /// Only what concerns this service
    #[arg(long)]
    service: Option<String>,
    /// Only what concerns this incident
    #[arg(long, value_name = "ID")]
    incident: Option<String>,
    /// Only what people ordered
    #[arg(long)]
    people: bool,
    /// At most so many, the newest
    #[arg(long, default_value_t = 100, value_name = "N")]
    limit: usize,
    #[command(flatten)]
    offline: Offline,
    #[command(flatten)]
    connect: Connect,
}

#[derive(Clone, Copy, Debug)]
enum Since {
    Ago(Duration),
    At(Timestamp),
}

fn since(text: &str) -> Result<Since, String> {
    if let Ok(ago) = humantime::parse_duration(text) {
        return Ok(Since::Ago(ago));
    }
    let time = humantime::parse_rfc3339_weak(text)
        .map_err(|_| "write how long ago, such as 2h or 7d, or an instant in UTC, such as 2026-11-20T03:00:00Z")?;
    let since = time.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    Ok(Since::At(Timestamp::from_millis(0) + since))
}

pub(super) fn run(args: &Args) -> Result<(), Failure> {
    let since = args.since.map(|since| match since {
        Since::Ago(ago) => clock::wall() - ago,
        Since::At(at) => at,
    });
    let wanted = Wanted { service: args.service.clone(), incident: args.incident.clone(), since, people: args.people };
    let mut trail = match from_daemon(args, &wanted) {
        Ok(trail) => trail,
        Err(failure) => from_journal(args.offline.state_dir(failure)?, &wanted, args.limit)?,
    };
    trail.acts.reverse();
    if args.connect.json {
        let value = serde_json::to_value(trail);
        let value = value.map_err(|error| Failure::because(Exit::Output, "the acts cannot be written", &error))?;
        return print_json(&value);
    }
    print(&show(&trail))
}

/// The newest first; the API answers in pieces.
fn from_daemon(args: &Args, wanted: &Wanted) -> Result<AuditBody, Failure> {
    let mut trail = AuditBody { acts: Vec::new(), before: None, unreadable: 0 };
    while trail.acts.len() < args.limit {
        let mut query = url::form_urlencoded::Serializer::new(String::new());
        query.append_pair("limit", &(args.limit - trail.acts.len()).min(AT_ONCE).to_string());
        query.append_pair("people", if wanted.people { "true" } else { "false" });
        let named = [("service", &wanted.service), ("incident", &wanted.incident)];
        for (name, value) in named.into_iter().filter_map(|(name, value)| Some((name, value.as_ref()?))) {
            query.append_pair(name, value);
        }
        if let Some(since) = wanted.since {
            query.append_pair("since", &since.to_string());
        }
        if let Some(before) = trail.before {
            query.append_pair("before", &before.to_string());
        }
        let piece: AuditBody = parse(&args.connect.get(&format!("{}?{}", path(&["audit"]), query.finish()))?)?;
        trail.acts.extend(piece.acts);
        trail.unreadable += piece.unreadable;
        trail.before = piece.before;
        if trail.before.is_none() {
            break;
        }
    }
    Ok(trail)
}

fn from_journal(state_dir: &Path, wanted: &Wanted, limit: usize) -> Result<AuditBody, Failure> {
    let mut trail = AuditBody { acts: Vec::new(), before: None, unreadable: 0 };
    let mut before = None;
    loop {
        let page = journal::read_back(state_dir, before, AT_ONCE).map_err(|error| {
            Failure::because(Exit::Unavailable, "the daemon is down, and its journal cannot be read", &error)
        })?;
        trail.unreadable += page.unreadable.len();
        for record in &page.records {
            if trail.acts.len() >= limit || wanted.is_past(record.wall) {
                return Ok(trail);
            }
            trail.acts.extend(Act::of(record).filter(|act| wanted.takes(act)).as_ref().map(ActBody::from));
        }
        before = page.older;
        if before.is_none() {
            return Ok(trail);
        }
    }
}

fn show(trail: &AuditBody) -> String {
    let rows = trail.acts.iter().map(|act| {
        vec![
            instant(&act.at),
            format!("{} ({})", act.actor, act.via),
            or_dash(act.incident.as_deref().or(act.service.as_deref())),
            act.did.clone(),
            outcome(act),
            act.reason.clone(),
        ]
    });
    let mut text = if trail.acts.is_empty() {
        "nothing was done\n".to_owned()
    } else {
        table(&["at (UTC)", "who", "about", "did", "", "reason"], rows)
    };
    if trail.unreadable > 0 {
        let note = format!("\nThis version cannot read {} entries of the journal.\n", trail.unreadable);
        text.push_str(&note);
    }
    text
}

fn outcome(act: &ActBody) -> String {
    let Some(refused) = &act.refused else { return "done".to_owned() };
    let more = match act.unwritten {
        0 => String::new(),
        more => format!(" (and {more} more before it, not written)"),
    };
    clean(&format!("refused, {}: {}{more}", refused.code, refused.why))
}
