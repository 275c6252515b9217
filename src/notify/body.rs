//! The generic webhook's body: wire types of its own, and the cutting of what is too long.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;

use super::{BODY_BYTES_MAX, Origin, SCHEMA};
use crate::decide::event::{Notice, NoticeStatus, NoticeTrigger, Severity};
use crate::machine::output::DeliveryOrder;
use crate::time::{Now, Timestamp};

/// The fields, in the order in which they are written. Every one is always there; what is not known is null.
#[derive(Debug, Serialize)]
#[expect(clippy::struct_excessive_bools, reason = "fields of the wire, independent of each other")]
struct Body {
    schema: &'static str,
    id: String,
    seq: u64,
    #[serde(rename = "type")]
    kind: &'static str,
    status: &'static str,
    dedup_key: String,
    severity: &'static str,
    action_required: bool,
    text: String,
    outdated: bool,
    instance: String,
    incident: Option<String>,
    service: Option<String>,
    labels: BTreeMap<String, String>,
    release: Release,
    trigger: Option<Trigger>,
    guard: Option<Guard>,
    level: Option<Level>,
    eta: Option<String>,
    respond_by: Option<String>,
    approve_url: Option<String>,
    actor: Option<String>,
    occurred_at: String,
    sent_at: String,
    drill: bool,
    config_hash: String,
    url: Option<String>,
    truncated: bool,
}

#[derive(Debug, Serialize)]
struct Release {
    bad: Option<String>,
    target: Option<String>,
    running: Option<String>,
}

#[derive(Debug, Serialize)]
struct Trigger {
    name: String,
    value: Option<String>,
    threshold: String,
    #[serde(rename = "for")]
    hold: String,
    since: Option<String>,
    sentence: String,
}

#[derive(Debug, Serialize)]
struct Guard {
    decision: String,
    reasons: Vec<String>,
}

#[derive(Debug, Serialize)]
struct Level {
    n: usize,
    of: usize,
    name: String,
}

/// Tried one after the other until the body is short enough: bytes of a text, elements of a list. The last one gives
/// some 3 kB even if every byte has to be escaped.
const CUTS: [(usize, usize); 5] = [(usize::MAX, usize::MAX), (4096, 64), (1024, 32), (256, 16), (32, 8)];

/// JSON under [`BODY_BYTES_MAX`] bytes. What names the notice (`id`, `dedup_key`, `incident`, `service`) and the link to
/// answer with are never cut.
pub(super) fn render(
    order: &DeliveryOrder,
    origin: &Origin,
    approve_url: Option<&str>,
    now: &Now,
) -> Result<Vec<u8>, serde_json::Error> {
    let mut json = Vec::new();
    for (text_bytes_max, list_max) in CUTS {
        let mut cut = Cut { text_bytes_max, list_max, happened: false };
        let mut body = body(order, origin, now, &mut cut);
        body.approve_url = approve_url.map(str::to_owned);
        body.truncated = cut.happened;
        json = serde_json::to_vec(&body)?;
        if json.len() < BODY_BYTES_MAX {
            break;
        }
    }
    Ok(json)
}

fn body(order: &DeliveryOrder, origin: &Origin, now: &Now, cut: &mut Cut) -> Body {
    let Notice {
        id,
        seq,
        kind,
        status,
        dedup_key,
        severity,
        action_required,
        incident,
        service,
        labels,
        release_bad,
        release_target,
        release_running,
        trigger,
        decision,
        reasons,
        level,
        eta,
        respond_by,
        actor,
        text,
        occurred_at,
        config_hash,
        drill,
        question: _,
    } = &order.notice;
    Body {
        schema: SCHEMA,
        id: id.clone(),
        seq: *seq,
        kind: kind.as_str(),
        status: status_name(*status),
        dedup_key: dedup_key.clone(),
        severity: severity_name(*severity),
        action_required: *action_required,
        text: cut.text(&sentence(text, order.outdated, order.age)),
        outdated: order.outdated,
        instance: cut.text(&origin.instance),
        incident: incident.as_ref().map(ToString::to_string),
        service: service.clone(),
        labels: cut.labels(labels),
        release: Release {
            bad: cut.option(release_bad.as_deref()),
            target: cut.option(release_target.as_deref()),
            running: cut.option(release_running.as_deref()),
        },
        trigger: trigger.as_ref().map(|trigger| trigger_of(trigger, cut)),
        guard: decision.as_ref().map(|decision| Guard { decision: cut.text(decision), reasons: cut.list(reasons) }),
        level: level.as_ref().map(|level| Level { n: level.n, of: level.of, name: cut.text(&level.name) }),
        eta: eta.and_then(rfc3339),
        respond_by: respond_by.and_then(rfc3339),
        approve_url: None,
        actor: cut.option(actor.as_deref()),
        occurred_at: rfc3339_or_epoch(*occurred_at),
        sent_at: rfc3339_or_epoch(now.wall),
        drill: *drill,
        config_hash: config_hash.clone(),
        url: origin
            .public_url
            .as_ref()
            .zip(incident.as_ref())
            .map(|(base, incident)| format!("{base}/v1/incidents/{incident}")),
        truncated: false,
    }
}

fn trigger_of(trigger: &NoticeTrigger, cut: &mut Cut) -> Trigger {
    let NoticeTrigger { name, value, threshold, hold_ms, since, sentence } = trigger;
    Trigger {
        name: cut.text(name),
        value: cut.option(value.as_deref()),
        threshold: cut.text(threshold),
        hold: humantime::format_duration(Duration::from_millis(*hold_ms)).to_string(),
        since: rfc3339(*since),
        sentence: cut.text(sentence),
    }
}

/// Whoever reads only the text must not take it for the present.
fn sentence(text: &str, outdated: bool, age: Duration) -> String {
    if outdated {
        let age = humantime::format_duration(Duration::from_secs(age.as_secs()));
        format!("No longer true (delivered {age} late): {text}")
    } else {
        text.to_owned()
    }
}

const fn status_name(status: NoticeStatus) -> &'static str {
    match status {
        NoticeStatus::Firing => "firing",
        NoticeStatus::Resolved => "resolved",
    }
}

const fn severity_name(severity: Severity) -> &'static str {
    match severity {
        Severity::Low => "low",
        Severity::Medium => "medium",
        Severity::High => "high",
        Severity::Critical => "critical",
    }
}

/// None where RFC 3339 has no word for it, such as a deadline that never comes.
fn rfc3339(at: Timestamp) -> Option<String> {
    const YEAR_10000: i64 = 253_402_300_800_000;
    (0..YEAR_10000).contains(&at.as_millis()).then(|| at.to_string())
}

/// For times that must be there: a wall clock before 1970 is wrong anyhow.
fn rfc3339_or_epoch(at: Timestamp) -> String {
    rfc3339(at).unwrap_or_else(|| Timestamp::from_millis(0).to_string())
}

/// Cuts texts and lists, and remembers that it did.
struct Cut {
    text_bytes_max: usize,
    list_max: usize,
    happened: bool,
}

impl Cut {
    fn text(&mut self, text: &str) -> String {
        if text.len() <= self.text_bytes_max {
            return text.to_owned();
        }
        self.happened = true;
        format!("{}…", &text[..text.floor_char_boundary(self.text_bytes_max)])
    }

    fn option(&mut self, text: Option<&str>) -> Option<String> {
        text.map(|text| self.text(text))
    }

    fn list(&mut self, texts: &[String]) -> Vec<String> {
        self.happened |= texts.len() > self.list_max;
        texts.iter().take(self.list_max).map(|text| self.text(text)).collect()
    }

    /// A label whose name does not fit is left out: half a name is another name.
    fn labels(&mut self, labels: &BTreeMap<String, String>) -> BTreeMap<String, String> {
        let fitting = labels.iter().filter(|(name, _)| name.len() <= self.text_bytes_max).take(self.list_max);
        let fitting: Vec<_> = fitting.collect();
        self.happened |= fitting.len() < labels.len();
        fitting.into_iter().map(|(name, value)| (name.clone(), self.text(value))).collect()
    }
}
