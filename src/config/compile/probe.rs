//! `[services.X.probes.Y]`: health checks.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::super::cursor::{Cx, Table};
use super::super::model::{HttpProbe, JsonCheck, JsonExpect, ProbeKind, ProbeSpec, TargetSpec};
use super::super::places::Problem;
use super::super::tree::{Key, Node, Value};
use super::http::{client, labels, limits, targets, text_or_secret, url};
use super::scrape::{Pace, with_labels};
use super::{name, setting};
use crate::decide::event::TextOrSecret;
use crate::platform::process::may_inherit;

const KIND_HELP: &str =
    "write http = { url = \"http://host:port/health\" }, tcp = \"host:port\" or command = [\"/path/to/check\"]";

pub(super) struct Compiled {
    pub name: Arc<str>,
    pub interval: Option<Duration>,
    pub spec: Option<ProbeSpec>,
}

pub(super) fn probes(cx: &Cx<'_>, node: Option<&Node>, service: &Arc<str>, shared: &Pace) -> Vec<Compiled> {
    let Some(node) = node else { return Vec::new() };
    let entries = cx.named(node, "a table for each probe: [services.NAME.probes.NAME]");
    entries.into_iter().flatten().map(|(key, node)| probe(cx, key, node, service, shared)).collect()
}

fn probe(cx: &Cx<'_>, key: &Key, node: &Node, service: &Arc<str>, shared: &Pace) -> Compiled {
    let fits = name(cx, key, "a probe").is_some();
    let mut compiled = Compiled { name: Arc::from(key.text.as_str()), interval: None, spec: None };
    let Some(mut table) = cx.table(node, format!("the probe `{}`", key.text)) else { return compiled };
    let own = Pace::read(&mut table);
    let times = own.times(cx, shared, Duration::from_secs(10), Duration::from_secs(2));
    let body_bytes_max = setting(own.body_max, &shared.body_max, 1 << 20);
    let found = table.one_of(&["http", "tcp", "command"], &[], KIND_HELP);
    let beside = table.take("targets");
    let labels = table.get("labels", probe_labels);
    let timeout = times.map_or(Duration::from_secs(2), |(_, timeout)| timeout);
    let kind = match found {
        Some(("http", node)) => http(cx, node, beside, timeout, body_bytes_max.unwrap_or_default()),
        Some(("tcp", node)) => tcp(cx, node, beside),
        Some((_, node)) => command(&mut table, node, beside),
        None => None,
    };
    if !matches!(found, Some(("command", _))) {
        // So that "unknown key" tells what it belongs to.
        for key in ["env", "inherit"] {
            if let Some((entry, _)) = table.take_entry(key) {
                let problem = Problem::at(entry.place, format!("`{key}` belongs to a probe by command"));
                cx.error(problem.help("take it out"));
            }
        }
    }
    table.finish();
    compiled.interval = times.map(|(interval, _)| interval);
    compiled.spec = (|| {
        let (interval, timeout) = times?;
        let (kind, targets) = kind?;
        body_bytes_max?;
        Some(ProbeSpec {
            service: service.clone(),
            name: fits.then(|| compiled.name.clone())?,
            targets: with_labels(targets, &labels.or(Vec::new())?),
            interval,
            timeout,
            kind,
            release_pointer: None,
        })
    })();
    compiled
}

/// A trigger finds its probe by the label `job`, which is the probe's name.
fn probe_labels(cx: &Cx<'_>, node: &Node) -> Option<Vec<(String, String)>> {
    if let Value::Table(entries) = &node.value
        && let Some((key, _)) = entries.iter().find(|(key, _)| key.text == "job")
    {
        let problem = Problem::at(key.place, "the label `job` of a probe is its name");
        cx.error(problem.help("take it out, or give it another name"));
        return None;
    }
    labels(cx, node)
}

type Kind = (ProbeKind, Vec<TargetSpec>);

fn http(cx: &Cx<'_>, node: &Node, beside: Option<&Node>, timeout: Duration, body_bytes_max: usize) -> Option<Kind> {
    let mut table = cx.table(node, "the http probe")?;
    let addresses = http_targets(&mut table, beside);
    let method = table.get("method", method);
    let status = table.get("status", statuses);
    let json = table.get("json", json_checks);
    let body_contains = table.get("body_contains", |cx, node| cx.some_text(node, "a text that a good answer contains"));
    let latency_max = table.get("latency", |cx, node| {
        let latency = cx.some_duration(node, "a slower answer is a failure")?;
        if latency > timeout {
            let timeout = humantime::format_duration(timeout);
            let problem = Problem::at(node.place, format!("no answer can be this slow: the timeout is {timeout}"));
            cx.error(problem.help("set a latency below the timeout"));
            return None;
        }
        Some(latency)
    });
    let body = table.get("body", |cx, node| cx.text(node, "what is sent"));
    let client = client(&mut table);
    table.finish();
    let http = HttpProbe {
        method: method.or("GET".to_owned())?,
        status: status.or(Vec::new())?,
        json: json.or(Vec::new())?,
        body_contains: body_contains.optional()?.map(|text| text.value),
        latency_max: latency_max.optional()?,
        limits: limits(timeout, body_bytes_max),
        client: client?,
        body: body.optional()?.map(|text| text.value),
    };
    Some((ProbeKind::Http(Box::new(http)), addresses?))
}

fn http_targets(table: &mut Table<'_, '_>, beside: Option<&Node>) -> Option<Vec<TargetSpec>> {
    let cx = table.cx;
    let Some(beside) = beside else {
        return match table.one_of(&["url", "targets"], &[], "write url = \"http://host:port/health\"")? {
            ("url", node) => Some(vec![TargetSpec { address: url(cx, node)?.into(), labels: Vec::new() }]),
            (_, node) => targets(cx, node, "url", url, probe_labels),
        };
    };
    if let super::super::cursor::Got::Is((name, node), _) = table.one_at_most(&["url", "targets"]) {
        let problem = Problem::at(node.place, format!("the probe has `{name}` here and `targets` beside `http`"));
        cx.error(problem.also(beside.place, "the other one").help("keep one of them"));
        return None;
    }
    targets(cx, beside, "url", url, probe_labels)
}

pub(super) fn method(cx: &Cx<'_>, node: &Node) -> Option<String> {
    let words = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"];
    cx.choice(node, &words.map(|word| (word, word))).map(str::to_owned)
}

/// One status, or a list of them.
pub(super) fn statuses(cx: &Cx<'_>, node: &Node) -> Option<Vec<u16>> {
    const HELP: &str = "a status is a number from 100 to 599, such as 200, or a list of them: [200, 204]";
    let status = |cx: &Cx<'_>, node: &Node| u16::try_from(cx.whole(node, 100..599, HELP)?).ok();
    match &node.value {
        Value::List(elements) if elements.is_empty() => {
            cx.error(Problem::at(node.place, "no status would be a success").help(HELP));
            None
        }
        Value::List(_) => cx.list(node, HELP, |element| status(cx, element)),
        Value::Bool(_) | Value::Integer(_) | Value::Float(_) | Value::Text(_) | Value::Datetime | Value::Table(_) => {
            Some(vec![status(cx, node)?])
        }
    }
}

/// RFC 6901.
pub(super) fn is_pointer(text: &str) -> bool {
    let escapes_fit = text.split('~').skip(1).all(|after| after.starts_with(['0', '1']));
    (text.is_empty() || text.starts_with('/')) && escapes_fit
}

fn json_checks(cx: &Cx<'_>, node: &Node) -> Option<Vec<JsonCheck>> {
    let entries = cx.named(node, "json = { \"/status\" = \"healthy\" }")?;
    let checks = entries.iter().map(|(key, node)| {
        let expect = expectation(cx, node);
        if !is_pointer(&key.text) {
            let problem = Problem::at(key.place, "this is not a JSON pointer");
            cx.error(problem.help(format!("write \"/{}\": a `/` before each name", key.text.replace('.', "/"))));
            return None;
        }
        Some(JsonCheck { pointer: key.text.clone(), expect: expect? })
    });
    checks.collect::<Vec<_>>().into_iter().collect()
}

fn expectation(cx: &Cx<'_>, node: &Node) -> Option<JsonExpect> {
    if let Value::Table(entries) = &node.value
        && entries.iter().any(|(key, _)| key.text == "exists")
    {
        let mut table = cx.table(node, "the expected value")?;
        let exists = table.get("exists", super::super::cursor::Cx::boolean);
        table.finish();
        if !exists.or(true)? {
            cx.error(
                Problem::at(node.place, "only { exists = true } can be asked")
                    .help("expect a value instead, such as false"),
            );
            return None;
        }
        return Some(JsonExpect::Exists);
    }
    json(cx, node, &mut |_| true).map(JsonExpect::Equals)
}

/// TOML as JSON; `check` judges each string.
pub(super) fn json(
    cx: &Cx<'_>,
    node: &Node,
    check: &mut dyn FnMut(&super::super::cursor::Text) -> bool,
) -> Option<serde_json::Value> {
    match &node.value {
        Value::Bool(value) => Some((*value).into()),
        Value::Integer(value) => Some((*value).into()),
        Value::Float(value) => {
            if let Some(number) = serde_json::Number::from_f64(*value) {
                Some(number.into())
            } else {
                cx.error(Problem::at(node.place, "JSON has no such number").help("write it as a string"));
                None
            }
        }
        Value::Text(_) => {
            let text = cx.text(node, "a string")?;
            check(&text).then_some(text.value.into())
        }
        Value::Datetime => {
            cx.error(Problem::at(node.place, "JSON has no dates").help("write it as a string, in quotes"));
            None
        }
        Value::List(elements) => {
            let values: Vec<_> = elements.iter().map(|element| json(cx, element, check)).collect();
            values.into_iter().collect::<Option<Vec<_>>>().map(Into::into)
        }
        Value::Table(entries) => {
            let values: Vec<_> = entries
                .iter()
                .map(|(key, node)| json(cx, node, check).map(|value| (key.text.clone(), value)))
                .collect();
            let values: Option<serde_json::Map<_, _>> = values.into_iter().collect();
            values.map(serde_json::Value::Object)
        }
    }
}

fn tcp(cx: &Cx<'_>, node: &Node, beside: Option<&Node>) -> Option<Kind> {
    no_targets(cx, beside, "write several as tcp = [\"host:port\", \"host:port\"]")?;
    let targets = match &node.value {
        Value::List(_) => targets(cx, node, "address", host_port, probe_labels)?,
        Value::Bool(_) | Value::Integer(_) | Value::Float(_) | Value::Text(_) | Value::Datetime | Value::Table(_) => {
            vec![TargetSpec { address: host_port(cx, node)?.into(), labels: Vec::new() }]
        }
    };
    Some((ProbeKind::Tcp, targets))
}

fn no_targets(cx: &Cx<'_>, beside: Option<&Node>, help: &str) -> Option<()> {
    let Some(beside) = beside else { return Some(()) };
    cx.error(Problem::at(beside.place, "`targets` belongs to a probe by http").help(help));
    None
}

fn host_port(cx: &Cx<'_>, node: &Node) -> Option<String> {
    const HELP: &str = "write \"host:port\", such as \"127.0.0.1:5432\" or \"[::1]:5432\"";
    let text = cx.some_text(node, HELP)?;
    let port = text.value.rsplit_once(':').filter(|(host, _)| !host.is_empty() && !host.contains('/'));
    let fits = port.is_some_and(|(host, port)| {
        let bare_v6 = host.contains(':') && !(host.starts_with('[') && host.ends_with(']'));
        !bare_v6 && port.parse::<u16>().is_ok_and(|port| port > 0)
    });
    if !fits {
        cx.error(Problem::at(node.place, "this is not a host and a port").help(HELP));
        return None;
    }
    Some(text.value)
}

fn command(table: &mut Table<'_, '_>, node: &Node, beside: Option<&Node>) -> Option<Kind> {
    let cx = table.cx;
    let targets = no_targets(cx, beside, "a command probes one thing: write a probe for each");
    let argv = argv(cx, node, &mut |_, _| true);
    let env = table.get("env", |cx, node| environment(cx, node, &mut |_| true));
    let inherit = table.get("inherit", inherited);
    targets?;
    let argv = argv?;
    let target = TargetSpec { address: argv.join(" ").into(), labels: Vec::new() };
    let (env, inherit) = (env.or(BTreeMap::new())?, inherit.or(Vec::new())?);
    Some((ProbeKind::Command { argv, env, inherit }, vec![target]))
}

/// A program and its arguments; `check` is told the position of each.
pub(super) fn argv(
    cx: &Cx<'_>,
    node: &Node,
    check: &mut dyn FnMut(usize, &super::super::cursor::Text) -> bool,
) -> Option<Vec<String>> {
    const HELP: &str = "a list, program first, no shell: [\"/opt/api/rollback.sh\", \"--now\"]";
    if let Value::Text(_) = &node.value {
        let words: Vec<String> =
            cx.text(node, HELP)?.value.split_whitespace().map(|word| format!("{word:?}")).collect();
        let help = if cx.written(node.place).contains('$') {
            HELP.to_owned()
        } else {
            format!("write [{}]: there is no shell", words.join(", "))
        };
        cx.error(Problem::at(node.place, "a command is a list").help(help));
        return None;
    }
    let mut position = 0;
    let argv = cx.list(node, HELP, |element| {
        let text = cx.text(element, HELP)?;
        position += 1;
        let one_line = !text.value.contains('\0');
        if !one_line {
            cx.error(Problem::at(element.place, "an argument cannot contain a NUL").help("take it out"));
        }
        (check(position - 1, &text) && one_line).then_some(text)
    })?;
    match argv.first() {
        None => {
            cx.error(Problem::at(node.place, "the command is empty").help(HELP));
            None
        }
        Some(program) if program.value.trim().is_empty() => {
            cx.error(Problem::at(program.place, "the program is empty").help(HELP));
            None
        }
        Some(program)
            if program.value.contains(char::is_whitespace) && argv.len() == 1 && !program.value.starts_with('/') =>
        {
            cx.error(Problem::at(program.place, "a program's name has no spaces").help(HELP));
            None
        }
        Some(_) => Some(argv.into_iter().map(|text| text.value).collect()),
    }
}

fn is_variable(name: &str) -> bool {
    super::http::is_label_name(name)
}

pub(super) fn environment(
    cx: &Cx<'_>,
    node: &Node,
    check: &mut dyn FnMut(&super::super::cursor::Text) -> bool,
) -> Option<BTreeMap<String, TextOrSecret>> {
    let entries = cx.named(node, "env = { NAME = \"value\" }")?;
    let read: Vec<Option<(String, TextOrSecret)>> = entries
        .iter()
        .map(|(key, node)| {
            let value = text_or_secret(cx, &key.text, node, check);
            if !is_variable(&key.text) {
                let problem = Problem::at(key.place, "this is not a variable's name");
                cx.error(problem.help("letters, digits and `_`, not beginning with a digit"));
                return None;
            }
            if key.text.starts_with("BACKSTOP_") {
                let problem = Problem::at(key.place, "BACKSTOP_… variables are set by backstop");
                cx.error(problem.help("choose another name"));
                return None;
            }
            Some((key.text.clone(), value?))
        })
        .collect();
    read.into_iter().collect()
}

pub(super) fn inherited(cx: &Cx<'_>, node: &Node) -> Option<Vec<String>> {
    const HELP: &str = "names of variables that the command may see: [\"HTTP_PROXY\"]";
    cx.list(node, HELP, |element| {
        let text = cx.some_text(element, HELP)?;
        if !is_variable(&text.value) {
            cx.error(Problem::at(text.place, "this is not a variable's name").help(HELP));
            return None;
        }
        if !may_inherit(&text.value) {
            let problem = Problem::at(text.place, "this variable belongs to the daemon alone");
            cx.error(problem.help("pass a secret as env = { NAME = { credential = \"name\" } }"));
            return None;
        }
        Some(text.value)
    })
}
