//! From the tree to the compiled configuration.

mod approvals;
mod blocker;
mod check;
mod checks;
mod daemon;
mod dependencies;
mod freeze;
mod http;
mod ladder;
mod probe;
mod query;
mod question;
mod receiver;
mod relative;
mod release;
mod scrape;
mod service;
mod severity;
mod template;
mod threshold;
mod trigger;

use std::fmt::Write as _;
use std::sync::Arc;

use sha2::{Digest, Sha256};

use super::cursor::{Cx, Got, Table};
use super::model::{Config, ReferenceSpec};
use super::places::{Place, Problem};
use super::suggest::closest;
use super::tree::{Entries, Key};
use crate::decide::rules::{DetectorKind, Question, Rules};
use crate::promql::Interest;

const SERVICE_HELP: &str = "add [services.NAME] with probes or scrapes, and triggers";

/// `None` when something was wrong, which was then reported; other things may have been reported all the same.
pub(super) fn config(cx: &Cx<'_>, entries: &Entries, generation: u64) -> Option<Config> {
    let place = Place { file: 0, start: 0, end: 0 };
    let mut root = Table::new(cx, place, entries, "the file".to_owned());
    let receivers = receiver::receivers(cx, root.take("receivers"));
    let daemon = daemon::daemon(cx, root.take("daemon"), &receivers.names);
    let services = root.take("services");
    let nothing = services.is_none() && !entries.is_empty() && !cx.is_incomplete();
    let services = services.and_then(|node| cx.named(node, "[services.NAME] is a table for each service"));
    let declared: Vec<Arc<str>> = services.into_iter().flatten().map(|(key, _)| Arc::from(key.text.as_str())).collect();
    let names = service::Names { receivers: &receivers.names, services: &declared };
    let defaults = service::defaults(cx, root.take("defaults"), &names);
    let shared = scrape::scrapes(cx, root.take("scrapes"), None, &defaults.scrape);
    if nothing {
        root.lacks(&["services"], "service", SERVICE_HELP);
    }
    root.finish();
    if services.is_some_and(Vec::is_empty) {
        cx.error(Problem::at(place, "no service is configured").help(SERVICE_HELP));
    }
    let mut compiled = Vec::new();
    for (key, node) in services.into_iter().flatten() {
        compiled.push(service::service(cx, key, node, &defaults, &shared, &names));
    }
    let services: Vec<service::Compiled> = compiled.into_iter().collect::<Option<_>>()?;
    dependencies::check(cx, &services);
    let (receivers, daemon) = (receivers.compiled?, daemon?);
    let mut config = assemble(cx, generation, daemon, receivers, services);
    config.scrapes.extend(shared.into_iter().map(|scrape| scrape.spec).collect::<Option<Vec<_>>>()?);
    Some(config)
}

fn assemble(
    cx: &Cx<'_>,
    generation: u64,
    daemon: daemon::Parts,
    receivers: Vec<receiver::Compiled>,
    services: Vec<service::Compiled>,
) -> Config {
    let (receiver_rules, receivers) = receivers.into_iter().map(|receiver| (receiver.rules, receiver.spec)).unzip();
    let mut rules = Vec::new();
    let (mut scrapes, mut probes, mut queries, mut detectors) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let mut references: Vec<ReferenceSpec> = Vec::new();
    for service in services {
        scrapes.extend(service.scrapes);
        probes.extend(service.probes);
        queries.extend(service.queries);
        detectors.extend(service.detectors);
        for reference in service.references {
            if !references.contains(&reference) {
                references.push(reference);
            }
        }
        rules.push(service.rules);
    }
    let rules = Rules {
        generation,
        hash: hash(cx),
        instance: daemon.instance,
        budget: daemon.budget,
        breaching_share_max: daemon.breaching_share_max,
        heartbeat: daemon.heartbeat,
        freeze: daemon.freeze,
        services: rules,
        receivers: receiver_rules,
    };
    Config {
        interest: Arc::new(interest(&rules)),
        rules: Arc::new(rules),
        daemon: daemon.daemon,
        scrapes,
        probes,
        queries,
        detectors,
        references,
        receivers,
        warnings: Vec::new(),
        sources: Arc::from([]),
    }
}

/// Everything that some trigger or release detector can select.
fn interest(rules: &Rules) -> Interest {
    let questions = rules.services.iter().flat_map(crate::decide::rules::ServiceRules::questions);
    let asked = questions.filter_map(|trigger| match &trigger.question {
        Question::Value { expr, .. } => Some(expr.selectors()),
        Question::Signal { .. } => None,
    });
    let detectors = rules.services.iter().flat_map(|service| &service.detectors);
    let detected = detectors.filter_map(|detector| match &detector.kind {
        DetectorKind::Metric { selector, .. } => Some(selector),
        DetectorKind::Probe { .. } | DetectorKind::Outside | DetectorKind::Announced => None,
    });
    let selectors: Vec<_> = asked.flatten().chain(detected).collect();
    Interest::compile(rules.generation, selectors)
}

fn hash(cx: &Cx<'_>) -> Arc<str> {
    let mut digest = Sha256::new();
    for source in cx.sources {
        digest.update(source.text.as_bytes());
        // So that text moved from one file to the next is another configuration.
        digest.update([0]);
    }
    // Six bytes are twelve digits.
    let mut hex = String::new();
    for byte in digest.finalize().iter().take(6) {
        // Writing to a string cannot fail.
        write!(hex, "{byte:02x}").expect("a string takes everything");
    }
    Arc::from(hex)
}

/// `[A-Za-z0-9_-]{1,64}`, not beginning with `-`: names stand in ids, addresses, file names, label values and on command
/// lines. A dot separates the parts of an id.
fn name(cx: &Cx<'_>, key: &Key, what: &str) -> Option<Arc<str>> {
    const HELP: &str = "a name is 1 to 64 of the characters A-Z a-z 0-9 _ -, not beginning with -";
    if is_name(&key.text) {
        return Some(Arc::from(key.text.as_str()));
    }
    let problem = Problem::at(key.place, format!("this cannot be the name of {what}"));
    cx.error(problem.help(match near_name(&key.text) {
        Some(near) => format!("write `{near}`, for example; {HELP}"),
        None => HELP.to_owned(),
    }));
    None
}

fn is_name(text: &str) -> bool {
    (1..=64).contains(&text.len())
        && !text.starts_with('-')
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-".contains(&byte))
}

/// What somebody who wrote this may have meant: with `-` for each run of what a name cannot have.
fn near_name(text: &str) -> Option<String> {
    let words: Vec<&str> =
        text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').filter(|word| !word.is_empty()).collect();
    let near = words.join("-");
    // Letters of another script would be lost: that is no suggestion.
    (text.is_ascii() && is_name(&near)).then_some(near)
}

/// A list of names, each of which must be known and stand once.
fn references_to(
    cx: &Cx<'_>,
    node: &super::tree::Node,
    what: &str,
    known: &[Arc<str>],
    help: &str,
) -> Option<Vec<Arc<str>>> {
    let mut seen: Vec<(Arc<str>, Place)> = Vec::new();
    cx.list(node, help, |element| {
        let text = cx.some_text(element, help)?;
        if let Some((_, first)) = seen.iter().find(|(name, _)| **name == *text.value) {
            let problem = Problem::at(text.place, format!("the {what} {} stands here twice", text.shown()));
            cx.error(problem.also(*first, "first here").help("once is enough"));
            return None;
        }
        let name = known_name(cx, &text, what, known)?;
        seen.push((name.clone(), text.place));
        Some(name)
    })
}

/// One of the known names. While a file is missing from the tree, what is not known may be in there.
fn known_name(cx: &Cx<'_>, text: &super::cursor::Text, what: &str, known: &[Arc<str>]) -> Option<Arc<str>> {
    if let Some(name) = known.iter().find(|name| ***name == *text.value) {
        return Some(name.clone());
    }
    if cx.is_incomplete() {
        return None;
    }
    let names: Vec<&str> = known.iter().map(AsRef::as_ref).collect();
    let help = match (closest(&text.value, names.iter().copied()), names.as_slice()) {
        (Some(close), _) => format!("did you mean \"{close}\"?"),
        (None, []) => format!("no {what} is configured"),
        (None, names) => format!("there is {}", super::cursor::list(names).replace(" or ", " and ").replace('`', "\"")),
    };
    cx.error(Problem::at(text.place, format!("there is no {what} {}", text.shown())).help(help));
    None
}

/// The first value that is given, without its place.
fn setting<T: Clone>(own: Got<T>, shared: &Got<T>, default: T) -> Option<T> {
    own.or_else(shared.clone()).or(default)
}
