//! `[receivers.X]`: who is told.

use std::sync::Arc;
use std::time::Duration;

use super::super::cursor::{Cx, Got};
use super::super::model::{ReceiverKind, ReceiverSpec};
use super::super::places::{Place, Problem};
use super::super::tree::{Key, Node, Value};
use super::http::{client, limits, secret, text_or_secret, url};
use super::{known_name, name};
use crate::decide::event::{SecretRef, TextOrSecret};
use crate::decide::rules::ReceiverRules;

/// DESIGN §7.
const REPLY_BYTES_MAX: usize = 4096;

pub(super) struct Receivers {
    /// Also of those that could not be compiled.
    pub names: Vec<Arc<str>>,
    pub compiled: Option<Vec<Compiled>>,
}

pub(super) struct Compiled {
    pub rules: ReceiverRules,
    pub spec: ReceiverSpec,
}

pub(super) fn receivers(cx: &Cx<'_>, node: Option<&Node>) -> Receivers {
    let Some(node) = node else { return Receivers { names: Vec::new(), compiled: Some(Vec::new()) } };
    let Some(entries) = cx.named(node, "a table for each receiver: [receivers.NAME]") else {
        cx.set_incomplete();
        return Receivers { names: Vec::new(), compiled: None };
    };
    let names: Vec<Arc<str>> = entries.iter().map(|(key, _)| Arc::from(key.text.as_str())).collect();
    let mut edges: Vec<(Arc<str>, Arc<str>, Place)> = Vec::new();
    let read: Vec<_> = entries.iter().map(|(key, node)| receiver(cx, key, node, &names, &mut edges)).collect();
    cycles(cx, &edges);
    Receivers { names, compiled: read.into_iter().collect() }
}

fn receiver(
    cx: &Cx<'_>,
    key: &Key,
    node: &Node,
    names: &[Arc<str>],
    edges: &mut Vec<(Arc<str>, Arc<str>, Place)>,
) -> Option<Compiled> {
    let own = name(cx, key, "a receiver");
    let mut table = cx.table(node, format!("the receiver `{}`", key.text))?;
    let later = "until then, send the generic webhook to something that speaks it";
    let refused: Vec<(&'static str, &str)> =
        ["slack", "pagerduty", "teams", "email", "alertmanager", "statuspage"].map(|kind| (kind, later)).to_vec();
    let kind = table.one_of(
        &["webhook"],
        &refused,
        "write webhook = { url = \"https://…\", secret = { credential = \"…\" } }",
    );
    let kind = kind.and_then(|(_, node)| webhook(cx, node));
    let timeout = table.get("timeout", |cx, node| {
        cx.duration_in(node, Duration::from_millis(100)..Duration::from_mins(1), "how long an answer may take")
    });
    let fallback = table.get("fallback", |cx, node| {
        let text = cx.some_text(node, "the name of another receiver")?;
        let to = known_name(cx, &text, "receiver", names)?;
        if *to == *key.text {
            cx.error(
                Problem::at(text.place, "a receiver cannot be its own fallback")
                    .help("name another one, or take it out"),
            );
            return None;
        }
        edges.push((Arc::from(key.text.as_str()), to.clone(), text.place));
        Some(to)
    });
    let fallback_after = table.get("fallback_after", |cx, node| cx.some_duration(node, "such as \"2m\""));
    let give_up_after = table.get("give_up_after", |cx, node| cx.some_duration(node, "such as \"24h\""));
    let approve_link = table.get("approve_link", Cx::boolean);
    if let (Got::Absent, Got::Is(_, place)) = (&fallback, &fallback_after) {
        cx.warn(
            Problem::at(*place, "`fallback_after` does nothing without `fallback`")
                .help("name a fallback, or take it out"),
        );
    }
    table.finish();
    let (name, fallback, timeout) = (own?, fallback.optional()?, timeout.or(Duration::from_secs(10))?);
    Some(Compiled {
        rules: ReceiverRules {
            name: name.clone(),
            fallback,
            fallback_after: fallback_after.or(Duration::from_mins(2))?,
            give_up_after: give_up_after.or(Duration::from_hours(24))?,
        },
        spec: ReceiverSpec {
            name,
            kind: kind?,
            limits: limits(timeout, REPLY_BYTES_MAX),
            approve_link: approve_link.or(true)?,
        },
    })
}

fn webhook(cx: &Cx<'_>, node: &Node) -> Option<ReceiverKind> {
    let mut table = cx.table(node, "the webhook")?;
    let url = table.need("url", "write url = \"https://host/path\"", |cx, node| match &node.value {
        Value::Table(_) => text_or_secret(cx, "url", node, &mut |_| true),
        Value::Bool(_) | Value::Integer(_) | Value::Float(_) | Value::Text(_) | Value::Datetime | Value::List(_) => {
            url(cx, node).map(TextOrSecret::Text)
        }
    });
    let secrets = table.get("secret", secrets);
    let client = client(&mut table);
    if let Got::Absent = secrets {
        let problem = Problem::at(table.place, "the webhook is not signed: its receiver cannot tell who sent it");
        cx.warn(problem.help("add secret = { credential = \"…\" }, a `whsec_…` of the Standard Webhooks scheme"));
    }
    table.finish();
    Some(ReceiverKind::Webhook { url: url?, secrets: secrets.or(Vec::new())?, client: client? })
}

/// One secret, or several while they are rotated.
pub(super) fn secrets(cx: &Cx<'_>, node: &Node) -> Option<Vec<SecretRef>> {
    match &node.value {
        Value::List(elements) if elements.is_empty() => {
            cx.error(Problem::at(node.place, "the list of secrets is empty").help(super::http::SECRET_HELP));
            None
        }
        Value::List(_) => cx.list(node, super::http::SECRET_HELP, |element| secret(cx, element)),
        Value::Bool(_) | Value::Integer(_) | Value::Float(_) | Value::Text(_) | Value::Datetime | Value::Table(_) => {
            Some(vec![secret(cx, node)?])
        }
    }
}

/// Each cycle once, at the edge that closes it.
fn cycles(cx: &Cx<'_>, edges: &[(Arc<str>, Arc<str>, Place)]) {
    let mut done: Vec<&str> = Vec::new();
    for (start, _, _) in edges {
        let mut path: Vec<&(Arc<str>, Arc<str>, Place)> = Vec::new();
        let mut at = start;
        while let Some(edge) = edges.iter().find(|(from, _, _)| from == at) {
            if done.contains(&&*edge.0) {
                break;
            }
            path.push(edge);
            at = &edge.1;
            if at == start {
                let names: Vec<&str> = path.iter().map(|(from, _, _)| &**from).chain([&**start]).collect();
                let problem = Problem::at(edge.2, format!("the fallbacks go in a circle: {}", names.join(" → ")));
                cx.error(problem.help("end the chain with a receiver that has no fallback"));
                break;
            }
            if path.len() > edges.len() {
                break;
            }
        }
        done.extend(path.iter().map(|(from, _, _)| &**from));
    }
}
