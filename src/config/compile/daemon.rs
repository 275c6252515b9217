//! `[daemon]`: what concerns the process itself.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use url::Url;

use super::super::cursor::{Cx, Table, Text};
use super::super::model::{Daemon, STATE_DIR};
use super::super::places::Problem;
use super::super::tree::Node;
use super::approvals::approvals;
use super::http::{absolute_path, check_url, hide_lone_user, secret};
use super::{freeze, name, references_to};
use crate::decide::freeze::Freeze;
use crate::decide::rules::{Budget, Heartbeat};

pub(super) struct Parts {
    pub daemon: Daemon,
    pub instance: Arc<str>,
    pub budget: Option<Budget>,
    pub breaching_share_max: Option<f64>,
    pub heartbeat: Option<Heartbeat>,
    pub freeze: Vec<Freeze>,
}

pub(super) fn daemon(cx: &Cx<'_>, node: Option<&Node>, receivers: &[Arc<str>]) -> Option<Parts> {
    let mut table = match node {
        Some(node) => cx.table(node, "[daemon]")?,
        None => Table::absent(cx),
    };
    let state_dir = table.get("state_dir", |cx, node| absolute_path(cx, node, "the directory of the journal"));
    let listen =
        table.get("listen", |cx, node| listen(cx, node, "\"127.0.0.1:9464\", or \"0.0.0.0:9464\" for every interface"));
    let approvals = table.get("approvals", |cx, node| approvals(cx, node, &listen));
    let socket = table.get("socket", |cx, node| absolute_path(cx, node, "the unix socket for commands"));
    let external_url = table.get("external_url", external_url);
    let instance = table.get("instance", |cx, node| {
        let text = cx.some_text(node, "how this backstop is called in notices, such as \"prod-eu-1\"")?;
        Some(Arc::from(text.value))
    });
    let tokens = table.get("tokens", tokens);
    let budget = table.get("budget", |cx, node| budget(cx, node, "[daemon] budget"));
    let share = table.get("breaching_share_max", |cx, node| {
        cx.share(node, "with \"50%\", nothing is rolled back while half of the services breach at once")
    });
    let heartbeat = table.get("heartbeat", |cx, node| heartbeat(cx, node, receivers));
    let kill_file = table.get("kill_file", |cx, node| absolute_path(cx, node, "the file that stops everything"));
    let freeze = table.get("freeze", freeze::freezes);
    table.finish();
    let state_dir = state_dir.or(PathBuf::from(STATE_DIR))?;
    Some(Parts {
        daemon: Daemon {
            state_dir,
            socket: socket.optional()?,
            listen: listen.optional()?,
            external_url: external_url.optional()?,
            approvals: approvals.optional()?,
            tokens: tokens.or(BTreeMap::new())?,
            kill_file: kill_file.optional()?,
        },
        instance: instance.or(Arc::from(cx.hostname()))?,
        budget: budget.optional()?,
        breaching_share_max: share.optional()?,
        heartbeat: heartbeat.optional()?,
        freeze: freeze.or(Vec::new())?,
    })
}

pub(super) fn listen(cx: &Cx<'_>, node: &Node, examples: &str) -> Option<SocketAddr> {
    let help = format!("write an IP address and a port: {examples}");
    let text = cx.some_text(node, &help)?;
    if let Ok(address) = text.value.parse() {
        Some(address)
    } else {
        cx.error(Problem::at(node.place, "this is not an address to listen on").help(help));
        None
    }
}

/// The base of links; paths are put behind it.
fn external_url(cx: &Cx<'_>, node: &Node) -> Option<String> {
    const HELP: &str = "where people reach listen from outside, such as \"https://backstop.example.com\"";
    let text = cx.some_text(node, HELP)?;
    base_of_links(cx, &text)?;
    Some(text.value.trim_end_matches('/').to_owned())
}

/// An address that paths can be put behind. None: it is not one, and that was said.
pub(super) fn base_of_links(cx: &Cx<'_>, text: &Text) -> Option<()> {
    if let Ok(url) = Url::parse(&text.value) {
        let problem = if !url.username().is_empty() || url.password().is_some() {
            hide_lone_user(cx, text, &url);
            Some(("credentials must not stand in a URL", "take them out: every notice would carry them"))
        } else if url.query().is_some() || url.fragment().is_some() {
            Some(("links are made by putting a path behind this", "end it before the `?` or `#`"))
        } else {
            None
        };
        if let Some((message, help)) = problem {
            cx.error(Problem::at(text.place, message).help(help));
            return None;
        }
    }
    check_url(cx, text, &text.value).then_some(())
}

fn tokens(cx: &Cx<'_>, node: &Node) -> Option<BTreeMap<String, crate::decide::event::SecretRef>> {
    let entries = cx.named(node, "a token for each holder: tokens = { deploys = { file = \"/path\" } }")?;
    let read = entries.iter().map(|(key, node)| {
        let holder = name(cx, key, "a token's holder");
        let secret = secret(cx, node);
        Some((holder?.to_string(), secret?))
    });
    // Not short-circuiting: each of them is read.
    read.collect::<Vec<_>>().into_iter().collect()
}

pub(super) fn budget(cx: &Cx<'_>, node: &Node, what: &str) -> Option<Budget> {
    const HELP: &str = "such as { rollbacks = 3, window = \"24h\" }";
    let mut table = cx.table(node, what)?;
    let rollbacks =
        table.need("rollbacks", HELP, |cx, node| cx.whole(node, 1..1000, "at least one; to allow none, set autonomy"));
    let window = table.need("window", HELP, |cx, node| cx.some_duration(node, HELP));
    table.finish();
    Some(Budget { rollbacks: u32::try_from(rollbacks?).ok()?, window: window? })
}

fn heartbeat(cx: &Cx<'_>, node: &Node, receivers: &[Arc<str>]) -> Option<Heartbeat> {
    const HELP: &str = "such as { every = \"1h\", receivers = [\"oncall\"] }";
    let mut table = cx.table(node, "the heartbeat")?;
    let every = table.need("every", HELP, |cx, node| {
        cx.duration_in(
            node,
            Duration::from_secs(1)..Duration::MAX,
            "a notice on purpose, so that its absence is noticed",
        )
    });
    let to = table.need("receivers", HELP, |cx, node| {
        let to = references_to(cx, node, "receiver", receivers, HELP)?;
        if to.is_empty() {
            cx.error(Problem::at(node.place, "the heartbeat goes to nobody").help(HELP));
            return None;
        }
        Some(to)
    });
    table.finish();
    Some(Heartbeat { every: every?, receivers: to? })
}
