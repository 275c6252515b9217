//! A check: a question to a command or over HTTP, wherever one may stand.

use std::collections::BTreeMap;
use std::time::Duration;

use super::super::cursor::{Cx, Got, Table, Text};
use super::super::places::{Place, Problem};
use super::super::tree::{Node, Value};
use super::http::{headers, secret};
use super::ladder;
use super::probe::{is_pointer, json, method, statuses};
use super::template::{Stands, check as check_template, check_url_template};
use crate::act::template::TemplateNames;
use crate::decide::event::{Action, Ask, BodyTemplate, Check, JsonTest, Proof, TextOrSecret, Wants};

pub(super) const HELP: &str = "write command = [\"/path/to/check\"] or http = { url = \"https://…\" }";

pub(super) const HELP_OR_QUESTION: &str = "write command = [\"/path/to/check\"], http = { url = \"https://…\" }, signal = \"…\", or a question such as expr = '…'";

/// How long an answer may take unless the file says otherwise.
const TIMEOUT: Duration = Duration::from_secs(30);

/// How often a check of a verification is asked unless the file says otherwise.
const EVERY: Duration = Duration::from_secs(30);

/// One that is a table of its own: `{ command = […] }`. `what` as messages call it.
pub(super) fn check(cx: &Cx<'_>, node: &Node, what: &str, names: &TemplateNames) -> Option<Check> {
    named(cx.table(node, what)?, names)
}

fn named(mut table: Table<'_, '_>, names: &TemplateNames) -> Option<Check> {
    let name = table.get("name", |cx, node| cx.some_text(node, "a few words, such as \"image exists\""));
    let found = table.one_of(&["command", "http"], &[], HELP);
    let asked = asked(&mut table, found, names);
    table.finish();
    let (ask, timeout) = asked?;
    let name = name.optional()?.map_or_else(|| described(&ask), |text| text.value);
    Some(Check { name, ask, timeout })
}

/// One of a verification: with `every` and `once` beside it.
pub(super) fn proof(cx: &Cx<'_>, node: &Node, names: &TemplateNames) -> Option<Proof> {
    let mut table = cx.table(node, "the check")?;
    let every = table.get("every", |cx, node| {
        cx.duration_in(node, Duration::from_secs(1)..Duration::from_hours(1), "how often it is asked")
    });
    let once = table.get("once", Cx::boolean);
    let check = named(table, names);
    Some(Proof { check: check?, every: every.or(EVERY)?, once: once.or(false)? })
}

/// Names by which people find a check again: each stands once.
pub(super) fn unique<'n>(cx: &Cx<'_>, seen: &mut Vec<(String, Place)>, name: &str, node: &'n Node) -> Option<&'n Node> {
    if let Some((_, first)) = seen.iter().find(|(have, _)| have == name) {
        let problem = Problem::at(node.place, format!("two checks are called `{name}`"));
        cx.error(problem.also(*first, "the other one").help("give each a name of its own: name = \"…\""));
        return None;
    }
    seen.push((name.to_owned(), node.place));
    Some(node)
}

/// The question of a table that has other keys too; `found` is its `command` or `http`.
pub(super) fn asked(
    table: &mut Table<'_, '_>,
    found: Option<(&'static str, &Node)>,
    names: &TemplateNames,
) -> Option<(Ask, Duration)> {
    let is_command = matches!(found, Some(("command", _)));
    let ask = match found {
        Some(("command", node)) => command(table, node, names),
        Some((_, node)) => http(table.cx, node, names),
        None => None,
    };
    if !is_command {
        ladder::belongs_to_command(table, found.is_some(), "check");
    }
    let timeout = table.get("timeout", |cx, node| {
        cx.duration_in(node, Duration::from_millis(100)..Duration::from_hours(1), "how long the answer may take")
    });
    Some((ask?, timeout.or(TIMEOUT)?))
}

fn command(table: &mut Table<'_, '_>, node: &Node, names: &TemplateNames) -> Option<Ask> {
    match ladder::command(table, node, names)? {
        Action::Command { argv, env, inherit, directory } => Some(Ask::Command { argv, env, inherit, directory }),
        Action::Http { .. } => None,
    }
}

fn http(cx: &Cx<'_>, node: &Node, names: &TemplateNames) -> Option<Ask> {
    let mut table = cx.table(node, "the http check")?;
    let anywhere = |text: &Text| check_template(cx, text, names, Stands::Anywhere);
    let own_method = table.get("method", method);
    let url = table.need("url", "write url = \"https://host/path\"", |cx, node| {
        let text = cx.some_text(node, "write \"https://host/path\"")?;
        check_url_template(cx, &text, names).then_some(text.value)
    });
    let headers = table.get("headers", |cx, node| headers(cx, node, &mut |text| anywhere(text)));
    let bearer = table.get("bearer", secret);
    let sent = match table.one_at_most(&["send", "body"]) {
        Got::Absent => Some(BodyTemplate::None),
        Got::Bad => None,
        Got::Is(("send", node), _) => json(cx, node, &mut |text| anywhere(text)).map(BodyTemplate::Json),
        Got::Is((_, node), _) => {
            let text = cx.text(node, "what is sent; for JSON write send = { … }");
            text.filter(|text| anywhere(text)).map(|text| BodyTemplate::Raw(text.value))
        }
    };
    let expect = table.get("expect", statuses);
    let json = table.get("json", tests);
    table.finish();
    let mut headers = headers.or(BTreeMap::new())?;
    if let Some(secret) = bearer.optional()? {
        headers.insert("Authorization".to_owned(), TextOrSecret::Secret { prefix: "Bearer ".to_owned(), secret });
    }
    Some(Ask::Http {
        method: own_method.or("GET".to_owned())?,
        url: url?,
        headers,
        body: sent?,
        expect: expect.or(Vec::new())?,
        json: json.or(Vec::new())?,
    })
}

/// `json = { "/status" = "ready", "/checks/redis" = { exists = true }, "/rows" = { count_at_least = 1000 } }`.
fn tests(cx: &Cx<'_>, node: &Node) -> Option<Vec<JsonTest>> {
    let entries = cx.named(node, "what the answer must hold: json = { \"/status\" = \"healthy\" }")?;
    let tests = entries.iter().map(|(key, node)| {
        let wants = wants(cx, node);
        if !is_pointer(&key.text) {
            let problem = Problem::at(key.place, "this is not a JSON pointer");
            cx.error(problem.help(format!("write \"/{}\": a `/` before each name", key.text.replace('.', "/"))));
            return None;
        }
        Some(JsonTest { pointer: key.text.clone(), wants: wants? })
    });
    tests.collect::<Vec<_>>().into_iter().collect()
}

const WANTS: [&str; 4] = ["exists", "count", "count_at_least", "count_at_most"];

/// A value that is expected, or a table of one of our keys.
fn wants(cx: &Cx<'_>, node: &Node) -> Option<Wants> {
    const HELP: &str = "how many entries, such as 1000";
    let is_ours =
        |entries: &super::super::tree::Entries| entries.iter().any(|(key, _)| WANTS.contains(&key.text.as_str()));
    if !matches!(&node.value, Value::Table(entries) if is_ours(entries)) {
        return json(cx, node, &mut |_| true).map(Wants::Equals);
    }
    let mut table = cx.table(node, "what is expected")?;
    let exists = table.get("exists", Cx::boolean);
    let mut count = |name| table.get(name, |cx: &Cx<'_>, node: &Node| cx.whole(node, 0..u64::MAX, HELP));
    let (exactly, least, most) = (count("count"), count("count_at_least"), count("count_at_most"));
    table.finish();
    let (exists, exactly) = (exists.optional()?, exactly.optional()?);
    let (at_least, at_most) = (least.optional()?.or(exactly), most.optional()?.or(exactly));
    let wrong = |message: &str, help: &str| {
        cx.error(Problem::at(node.place, message).help(help));
        None
    };
    match (exists, at_least, at_most) {
        (Some(false), _, _) => wrong("only { exists = true } can be asked", "expect a value instead, such as false"),
        (Some(true), None, None) => Some(Wants::Exists),
        (Some(true), _, _) => wrong("what is counted exists", "take `exists` out"),
        (None, Some(least), Some(most)) if least > most => {
            wrong("no count is at least as many and at most as few", "swap the two numbers")
        }
        (None, at_least, at_most) => Some(Wants::Count { at_least, at_most }),
    }
}

/// The default name: `smoke.sh`, `GET shop.example.com`.
fn described(ask: &Ask) -> String {
    match ask {
        Ask::Command { argv, .. } => ladder::program_name(argv),
        Ask::Http { method, url, .. } => ladder::request_name(method, url),
    }
}
