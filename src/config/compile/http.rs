//! What every kind of HTTP request has in common: addresses, headers, credentials, TLS, limits. And other values that
//! name things outside: paths, secrets, labels.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use url::Url;

use super::super::cursor::{Cx, Got, Table, Text};
use super::super::model::{AuthSpec, ClientSpec, RequestLimits, TargetSpec, TlsSpec};
use super::super::places::{Place, Problem};
use super::super::tree::{Node, Value};
use crate::decide::event::{SecretRef, TextOrSecret};

pub(super) const SECRET_HELP: &str =
    "say where it is: { file = \"/path\" }, { env = \"NAME\" } or { credential = \"name\" } (systemd LoadCredential=)";

/// DESIGN §7: connect 3 s, unless the whole request is shorter.
pub(super) fn limits(timeout: Duration, body_bytes_max: usize) -> RequestLimits {
    RequestLimits { connect_timeout: Duration::from_secs(3).min(timeout), timeout, body_bytes_max }
}

/// `http` or `https`, with a host, without credentials.
pub(super) fn url(cx: &Cx<'_>, node: &Node) -> Option<String> {
    let text = cx.some_text(node, "write \"https://host/path\"")?;
    check_url(cx, &text, &text.value).then_some(text.value)
}

/// `value` is what is checked: the text, or the text with its templates replaced.
pub(super) fn check_url(cx: &Cx<'_>, text: &Text, value: &str) -> bool {
    let no = |message: &str, help: String| {
        cx.error(Problem::at(text.place, message).help(help));
        false
    };
    let example = "write \"https://host:port/path\"".to_owned();
    let guess = |value: &str| match Url::parse(&format!("http://{value}")) {
        Ok(url) if url.host().is_some() && !text.substituted => format!("write \"http://{value}\""),
        Ok(_) | Err(_) => example.clone(),
    };
    if !value.contains("://") {
        if value.contains('@') {
            // It may be `user:password@host`.
            cx.hide(text.place);
            return no("this is not a URL: `http://` or `https://` is missing", example);
        }
        return no("this is not a URL: `http://` or `https://` is missing", guess(value));
    }
    match Url::parse(value) {
        Err(error) => no(&format!("this is not a URL: {error}"), example),
        Ok(url) if !matches!(url.scheme(), "http" | "https") => {
            no(&format!("`{}` is not a scheme that backstop speaks", url.scheme()), "use http or https".to_owned())
        }
        Ok(url) if !url.username().is_empty() || url.password().is_some() => {
            let help =
                "take them out, and write basic = { username = \"…\", password = { file = \"/path\" } } beside it";
            hide_lone_user(cx, text, &url);
            no("credentials must not stand in a URL", help.to_owned())
        }
        Ok(url) if url.host_str().is_none_or(str::is_empty) => no("the URL has no host", example),
        Ok(url) if url.fragment().is_some() => {
            no("a URL's `#…` is never sent", "take it out, or write %23 if a `#` is meant".to_owned())
        }
        Ok(_) => true,
    }
}

/// `https://TOKEN@host/`: the mask knows `user:password@`, but a user alone may be the secret too.
pub(super) fn hide_lone_user(cx: &Cx<'_>, text: &Text, url: &Url) {
    if url.password().is_none() {
        cx.hide(text.place);
    }
}

/// A secret's place; the secret itself is refused, and not shown.
pub(super) fn secret(cx: &Cx<'_>, node: &Node) -> Option<SecretRef> {
    if let Value::Text(_) = &node.value {
        return inline_secret(cx, node.place);
    }
    let mut table = cx.table(node, "the secret")?;
    let found = table.one_of(&["file", "env", "credential"], &[], SECRET_HELP);
    table.finish();
    secret_of(cx, found)
}

fn inline_secret<T>(cx: &Cx<'_>, place: Place) -> Option<T> {
    cx.hide(place);
    cx.error(Problem::at(place, "a secret must not stand in the file").help(SECRET_HELP));
    None
}

fn secret_of(cx: &Cx<'_>, found: Option<(&'static str, &Node)>) -> Option<SecretRef> {
    let (kind, node) = found?;
    let text = cx.some_text(node, SECRET_HELP)?;
    if kind == "file" {
        relative_path_warning(cx, &text);
        return Some(SecretRef::File(text.value));
    }
    let plain = text.value.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte));
    if !plain {
        // It may be the secret itself.
        cx.hide(node.place);
        let message = if kind == "env" { "this is not a variable's name" } else { "this is not a credential's name" };
        cx.error(
            Problem::at(node.place, message).help("the name only, not the secret: letters, digits, `_`, `-`, `.`"),
        );
        return None;
    }
    Some(if kind == "env" { SecretRef::Env(text.value) } else { SecretRef::Credential(text.value) })
}

/// Names under which people keep secrets.
pub(super) fn holds_secret(name: &str) -> bool {
    let name = name.to_ascii_lowercase().replace('-', "_");
    let ends = ["password", "passwd", "secret", "token", "api_key", "apikey", "access_key", "private_key"];
    ["authorization", "proxy_authorization", "cookie"].contains(&name.as_str())
        || ends.iter().any(|end| name.ends_with(end))
}

/// A text, or a secret with an optional `prefix`. Under a name that says "secret", a text is refused.
pub(super) fn text_or_secret(
    cx: &Cx<'_>,
    key: &str,
    node: &Node,
    check: &mut dyn FnMut(&Text) -> bool,
) -> Option<TextOrSecret> {
    match &node.value {
        Value::Text(_) if holds_secret(key) => {
            cx.hide(node.place);
            let help = format!(
                "write {{ env = \"NAME\" }}, file or credential; with prefix = \"Bearer \" where {key} has one"
            );
            cx.error(Problem::at(node.place, "a secret must not stand in the file").help(help));
            None
        }
        Value::Table(_) => {
            let mut table = cx.table(node, format!("the value of {key}"))?;
            let prefix = table.get("prefix", |cx, node| cx.text(node, "such as \"Bearer \""));
            let found = table.one_of(&["file", "env", "credential"], &[], SECRET_HELP);
            table.finish();
            let secret = secret_of(cx, found);
            let prefix = prefix.optional()?.map(|text| text.value).unwrap_or_default();
            Some(TextOrSecret::Secret { prefix, secret: secret? })
        }
        Value::Text(_) | Value::Bool(_) | Value::Integer(_) | Value::Float(_) | Value::Datetime | Value::List(_) => {
            let text = cx.text(node, "write a string, or { file | env | credential = … } for a secret")?;
            check(&text).then_some(TextOrSecret::Text(text.value))
        }
    }
}

/// `check` judges the values that are texts.
pub(super) fn headers(
    cx: &Cx<'_>,
    node: &Node,
    check: &mut dyn FnMut(&Text) -> bool,
) -> Option<BTreeMap<String, TextOrSecret>> {
    let entries = cx.named(node, "headers = { \"X-Name\" = \"value\" }")?;
    let mut headers = Some(BTreeMap::new());
    for (key, node) in entries {
        if reqwest::header::HeaderName::from_bytes(key.text.as_bytes()).is_err() {
            cx.error(Problem::at(key.place, "this is not a header's name").help("letters, digits and `-`"));
            headers = None;
        }
        let value = text_or_secret(cx, &key.text, node, &mut |text| {
            if text.value.chars().any(char::is_control) {
                cx.error(Problem::at(text.place, "a header's value is one line").help("take the line break out"));
                return false;
            }
            check(text)
        });
        match (value, &mut headers) {
            (Some(value), Some(headers)) => {
                headers.insert(key.text.clone(), value);
            }
            (Some(_), None) => {}
            (None, _) => headers = None,
        }
    }
    headers
}

/// `headers`, `bearer` or `basic`, `tls`, `proxy`.
pub(super) fn client(table: &mut Table<'_, '_>) -> Option<ClientSpec> {
    let headers = table.get("headers", |cx, node| headers(cx, node, &mut |_| true));
    let auth = match table.one_at_most(&["bearer", "basic"]) {
        Got::Absent => Some(None),
        Got::Bad => None,
        Got::Is(("bearer", node), _) => secret(table.cx, node).map(|secret| Some(AuthSpec::Bearer(secret))),
        Got::Is((_, node), _) => basic(table.cx, node).map(Some),
    };
    let tls = table.get("tls", tls);
    let proxy = table.get("proxy", url);
    Some(ClientSpec {
        headers: headers.or(BTreeMap::new())?,
        auth: auth?,
        tls: tls.or(TlsSpec { ca_file: None, identity_file: None })?,
        proxy: proxy.optional()?,
    })
}

fn basic(cx: &Cx<'_>, node: &Node) -> Option<AuthSpec> {
    const HELP: &str = "basic = { username = \"…\", password = { file = \"/path\" } }";
    if let Value::Text(_) = &node.value {
        cx.hide(node.place);
    }
    let mut table = cx.table(node, "basic")?;
    let username = table.need("username", HELP, |cx, node| cx.some_text(node, HELP));
    let password = table.need("password", HELP, secret);
    table.finish();
    Some(AuthSpec::Basic { username: username?.value, password: password? })
}

fn tls(cx: &Cx<'_>, node: &Node) -> Option<TlsSpec> {
    const HELP: &str = "tls = { ca_file = \"/path/ca.pem\", identity_file = \"/path/certificate-and-key.pem\" }";
    let mut table = cx.table(node, "tls")?;
    let ca_file = table.get("ca_file", |cx, node| absolute_path(cx, node, HELP));
    let identity_file = table.get("identity_file", |cx, node| absolute_path(cx, node, HELP));
    table.finish();
    Some(TlsSpec { ca_file: ca_file.optional()?, identity_file: identity_file.optional()? })
}

/// A path. A relative one depends on where the daemon was started: allowed, and told.
pub(super) fn absolute_path(cx: &Cx<'_>, node: &Node, help: &str) -> Option<PathBuf> {
    let text = cx.some_text(node, help)?;
    relative_path_warning(cx, &text);
    Some(PathBuf::from(text.value))
}

fn relative_path_warning(cx: &Cx<'_>, text: &Text) {
    if !text.value.starts_with('/') {
        let problem = Problem::at(text.place, "this path depends on the directory that backstop is started in");
        cx.warn(problem.help("begin it with `/`"));
    }
}

/// Labels of a target or service, as Prometheus allows them.
pub(super) fn labels(cx: &Cx<'_>, node: &Node) -> Option<Vec<(String, String)>> {
    let entries = cx.named(node, "labels = { team = \"payments\" }")?;
    if entries.len() > 64 {
        cx.error(Problem::at(node.place, "more than 64 labels").help("keep the ones that people search by"));
        return None;
    }
    let read: Vec<Option<(String, String)>> = entries.iter().map(|(key, node)| label(cx, key, node)).collect();
    read.into_iter().collect()
}

fn label(cx: &Cx<'_>, key: &super::super::tree::Key, node: &Node) -> Option<(String, String)> {
    let text = cx.text(node, "a label's value is a string");
    if !is_label_name(&key.text) || key.text.starts_with("__") {
        let problem = Problem::at(key.place, "this is not a label's name");
        cx.error(problem.help("letters, digits and `_`, not beginning with a digit or `__`"));
        return None;
    }
    let text = text?;
    if text.value.len() > 1024 {
        cx.error(Problem::at(text.place, "a label's value is at most 1 KiB").help("shorten it"));
        return None;
    }
    Some((key.text.clone(), text.value))
}

pub(super) fn is_label_name(name: &str) -> bool {
    !name.is_empty()
        && !name.starts_with(|c: char| c.is_ascii_digit())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

/// [`labels`], or a stricter one.
type ReadLabels = fn(&Cx<'_>, &Node) -> Option<Vec<(String, String)>>;

/// `[ "address", { <key> = "address", labels = {…} } ]`, no address twice.
pub(super) fn targets(
    cx: &Cx<'_>,
    node: &Node,
    key: &'static str,
    read: impl Fn(&Cx<'_>, &Node) -> Option<String>,
    labels: ReadLabels,
) -> Option<Vec<TargetSpec>> {
    let help = format!("a list of addresses, or of {{ {key} = \"…\", labels = {{ … }} }}");
    let mut seen: Vec<(String, Place)> = Vec::new();
    let list = cx.list(node, &help, |element| {
        let target = target(cx, element, key, &read, labels)?;
        if let Some((_, first)) = seen.iter().find(|(address, _)| **address == *target.address) {
            let problem = Problem::at(element.place, "two targets have the same address");
            cx.error(problem.also(*first, "the other one").help("a target is one process: keep one of them"));
            return None;
        }
        seen.push((target.address.to_string(), element.place));
        Some(target)
    })?;
    if list.is_empty() {
        cx.error(Problem::at(node.place, "the list of targets is empty").help(help));
        return None;
    }
    Some(list)
}

fn target(
    cx: &Cx<'_>,
    node: &Node,
    key: &'static str,
    read: impl Fn(&Cx<'_>, &Node) -> Option<String>,
    labels: ReadLabels,
) -> Option<TargetSpec> {
    match &node.value {
        Value::Table(_) => {
            let mut table = cx.table(node, "the target")?;
            let address = table.need(key, "each target has an address", &read);
            let labels = table.get("labels", labels);
            table.finish();
            Some(TargetSpec { address: address?.into(), labels: labels.or(Vec::new())? })
        }
        Value::Bool(_) | Value::Integer(_) | Value::Float(_) | Value::Text(_) | Value::Datetime | Value::List(_) => {
            Some(TargetSpec { address: read(cx, node)?.into(), labels: Vec::new() })
        }
    }
}
