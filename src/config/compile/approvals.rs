//! `[daemon.approvals]`: the links in notices with which people answer, and the listener behind them.

use std::net::SocketAddr;
use std::time::Duration;

use url::{Host, Url};

use super::super::cursor::{Cx, Got, Text};
use super::super::model::Approvals;
use super::super::places::{Place, Problem};
use super::super::tree::Node;
use super::daemon::{base_of_links, listen};
use super::receiver::secrets;

const URL_HELP: &str = "where people reach this listener, such as \"https://backstop.example.com/\"";
const KEY_HELP: &str = "write key = { credential = \"…\" }, { file = \"…\" } or { env = \"…\" }, and make it with \
                        `openssl rand -base64 32`";

/// `other`: what `daemon.listen` says.
pub(super) fn approvals(cx: &Cx<'_>, node: &Node, other: &Got<SocketAddr>) -> Option<Approvals> {
    let mut table = cx.table(node, "[daemon.approvals]")?;
    let address = table.get("listen", |cx, node| listen(cx, node, "\"0.0.0.0:9465\" or \"127.0.0.1:9465\""));
    let external_url = table.need("external_url", URL_HELP, external_url);
    let keys = table.need("key", KEY_HELP, secrets);
    let expires_after = table.get("expires_after", |cx, node| {
        let least = Duration::from_secs(1);
        cx.duration_in(node, least..Duration::MAX, "a link that is dead when it arrives helps nobody; such as \"10m\"")
    });
    if let Got::Absent = address {
        table.lacks(&["listen"], "`listen`", "a listener of its own, such as listen = \"0.0.0.0:9465\"");
    }
    table.finish();
    let place = address.place();
    let address = address.optional()??;
    if let (Some(place), Got::Is(daemon, daemon_place)) = (place, other) {
        apart(cx, (address, place), (*daemon, *daemon_place))?;
    }
    Some(Approvals {
        listen: address,
        external_url: external_url?,
        keys: keys?,
        expires_after: expires_after.optional()?,
    })
}

/// Two listeners cannot have one port; and this one may be reached by people who must not reach the other.
fn apart(cx: &Cx<'_>, own: (SocketAddr, Place), daemon: (SocketAddr, Place)) -> Option<()> {
    let (a, b) = (own.0, daemon.0);
    let overlap = a.ip() == b.ip() || a.ip().is_unspecified() || b.ip().is_unspecified();
    // 0 stands for any port that is free.
    if a.port() != b.port() || a.port() == 0 || !overlap {
        return Some(());
    }
    let problem = Problem::at(own.1, "this is the address of daemon.listen too").also(daemon.1, "the other one");
    cx.error(
        problem.help("take another port: this listener serves links and nothing else, so that it can be published"),
    );
    None
}

/// As browsers write it, so that where an answer comes from can be compared with it.
fn external_url(cx: &Cx<'_>, node: &Node) -> Option<String> {
    let text = cx.some_text(node, URL_HELP)?;
    base_of_links(cx, &text)?;
    let url = Url::parse(&text.value).ok()?;
    warn_of_plain_http(cx, &text, &url);
    Some(url.as_str().trim_end_matches('/').to_owned())
}

fn warn_of_plain_http(cx: &Cx<'_>, text: &Text, url: &Url) {
    let is_local = match url.host() {
        Some(Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    };
    if url.scheme() == "http" && !is_local {
        let problem = Problem::at(text.place, "links go over the network without encryption: who sees one can answer");
        cx.warn(problem.help("put a proxy with TLS before the listener, and write https://"));
    }
}
