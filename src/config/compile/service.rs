//! `[services.X]` and `[defaults]`.

use std::sync::Arc;
use std::time::Duration;

use super::super::cursor::{Cx, Got, Table};
use super::super::model::{DetectorSpec, ProbeSpec, QuerySpec, ReferenceSpec, ScrapeSpec};
use super::super::places::{Place, Problem};
use super::super::tree::{Key, Node, Value};
use super::http::labels;
use super::scrape::{self, Pace};
use super::trigger::{self, Sources};
use super::{
    blocker, checks, daemon, freeze, http, ladder, name, probe, query, references_to, release, setting, severity,
};
use crate::decide::event::Autonomy;
use crate::decide::freeze::Freeze;
use crate::decide::rules::{Budget, GuardRules, ServiceRules};

const MINUTE: Duration = Duration::from_mins(1);
const HOUR: Duration = Duration::from_hours(1);
/// A breach must be twice as bad as before the release to be blamed on it.
const WORSENED_BY: f64 = 2.0;
const NOTIFY_HELP: &str = "names of receivers: [\"oncall\"]";

/// What a service and `[defaults]` have in common.
#[derive(Clone)]
struct Shared {
    autonomy: Got<Autonomy>,
    notify: Got<Vec<Arc<str>>>,
    labels: Got<Vec<(String, String)>>,
    startup: Got<Duration>,
    remind_every: Got<Duration>,
    respond_within: Got<Duration>,
    rto: Got<Duration>,
    hold_max: Got<Duration>,
    guard: Guard,
}

#[derive(Clone)]
struct Guard {
    release_window: Got<Duration>,
    good_after: Got<Duration>,
    cooldown: Got<Duration>,
    budget: Got<Budget>,
    references: Got<Vec<ReferenceSpec>>,
    worsened_by: Got<f64>,
    dependencies: Got<Vec<Arc<str>>>,
    freeze: Got<Vec<Freeze>>,
}

pub(super) struct Defaults {
    shared: Shared,
    severities: severity::Severities,
    probe: Pace,
    pub scrape: Pace,
    query: query::Shared,
}

pub(super) struct Compiled {
    pub rules: ServiceRules,
    pub scrapes: Vec<ScrapeSpec>,
    pub probes: Vec<ProbeSpec>,
    pub queries: Vec<QuerySpec>,
    pub detectors: Vec<DetectorSpec>,
    pub references: Vec<ReferenceSpec>,
    /// Of its header, and of its `guard.dependencies`.
    pub places: (Place, Option<Place>),
}

/// The names that a service may refer to.
pub(super) struct Names<'s> {
    pub receivers: &'s [Arc<str>],
    pub services: &'s [Arc<str>],
}

pub(super) fn defaults(cx: &Cx<'_>, node: Option<&Node>, names: &Names<'_>) -> Defaults {
    blocker::not_shared(cx, node);
    let table = node.and_then(|node| cx.table(node, "[defaults]"));
    let mut table = table.unwrap_or_else(|| Table::absent(cx));
    let shared = shared(&mut table, names);
    let severities = severity::severities(cx, table.take("severity"), None);
    let probe = pace(cx, table.take("probe"), "[defaults.probe]", Pace::read, Pace::unset);
    let scrape = pace(cx, table.take("scrape"), "[defaults.scrape]", Pace::read_with_samples, Pace::unset);
    let query = pace(cx, table.take("query"), "[defaults.query]", query::Shared::read, query::Shared::unset);
    table.finish();
    Defaults { shared, severities, probe, scrape, query }
}

fn pace<T>(cx: &Cx<'_>, node: Option<&Node>, what: &str, read: fn(&mut Table<'_, '_>) -> T, unset: fn() -> T) -> T {
    let Some(mut table) = node.and_then(|node| cx.table(node, what)) else { return unset() };
    let pace = read(&mut table);
    table.finish();
    pace
}

fn shared(table: &mut Table<'_, '_>, names: &Names<'_>) -> Shared {
    let some = |cx: &Cx<'_>, node: &Node| cx.some_duration(node, "such as \"15m\"");
    Shared {
        autonomy: table.get("autonomy", |cx, node| cx.choice(node, &AUTONOMY)),
        notify: table.get("notify", |cx, node| references_to(cx, node, "receiver", names.receivers, NOTIFY_HELP)),
        labels: table.get("labels", labels),
        startup: table.get("startup", Cx::duration),
        remind_every: table.get("remind_every", some),
        respond_within: table.get("respond_within", some),
        rto: table.get("rto", some),
        hold_max: table.get("hold_max", |cx, node| {
            cx.some_duration(node, "how long a person may hold a rollback back to fix it forward")
        }),
        guard: guard(table, names.services),
    }
}

fn guard(outer: &mut Table<'_, '_>, services: &[Arc<str>]) -> Guard {
    let cx = outer.cx;
    let table = outer.take("guard").and_then(|node| cx.table(node, "guard"));
    let mut table = table.unwrap_or_else(|| Table::absent(cx));
    for key in blocker::KEYS {
        table.take(key);
    }
    let guard = Guard {
        release_window: table.get("release_window", |cx, node| {
            cx.some_duration(node, "how long after a release a breach may begin to be blamed on it")
        }),
        good_after: table.get("good_after", |cx, node| {
            cx.some_duration(node, "how long a release must run well to be one to go back to")
        }),
        cooldown: table.get("cooldown", Cx::duration),
        budget: table.get("budget", |cx, node| daemon::budget(cx, node, "the budget")),
        references: table.get("references", references),
        worsened_by: table.get("worsened_by", worsened_by),
        dependencies: table.get("dependencies", |cx, node| {
            references_to(cx, node, "service", services, "names of services of this configuration: [\"postgres\"]")
        }),
        freeze: table.get("freeze", freeze::freezes),
    };
    table.finish();
    guard
}

fn worsened_by(cx: &Cx<'_>, node: &Node) -> Option<f64> {
    const HELP: &str = "how many times as bad as before the release an old breach must be to be blamed on it: 2";
    #[expect(clippy::cast_precision_loss, reason = "a factor of a few")]
    let factor = match &node.value {
        Value::Integer(number) => Some(*number as f64),
        Value::Float(number) => Some(*number),
        Value::Bool(_) | Value::Text(_) | Value::Datetime | Value::List(_) | Value::Table(_) => None,
    };
    // At 1 the ups and downs of a service that burns already would count.
    let fits = factor.filter(|factor| (1.1..=1000.0).contains(factor));
    if fits.is_none() {
        cx.error(Problem::at(node.place, "this is not a number from 1.1 to 1000").help(HELP));
    }
    fits
}

const AUTONOMY: [(&str, Autonomy); 3] =
    [("observe", Autonomy::Observe), ("propose", Autonomy::Propose), ("act", Autonomy::Act)];

/// Of a trigger or a level. The most careful one counts, so a bolder one than the service's is told.
pub(super) fn autonomy(cx: &Cx<'_>, node: &Node, service: Option<Autonomy>) -> Option<Autonomy> {
    let own = cx.choice(node, &AUTONOMY)?;
    if let Some(service) = service.filter(|service| own > *service) {
        let word = AUTONOMY.iter().find(|(_, value)| *value == service).map_or("", |(word, _)| word);
        let problem = Problem::at(node.place, format!("this changes nothing: the service's autonomy is \"{word}\""));
        cx.warn(problem.help("the most careful one counts; set autonomy on the service to allow more"));
    }
    Some(own)
}

fn references(cx: &Cx<'_>, node: &Node) -> Option<Vec<ReferenceSpec>> {
    const HELP: &str = "URLs that have nothing to do with the service: [\"https://example.com/\"]";
    let mut seen: Vec<(String, Place)> = Vec::new();
    cx.list(node, HELP, |element| {
        let url = http::url(cx, element)?;
        if let Some((_, first)) = seen.iter().find(|(have, _)| *have == url) {
            let problem = Problem::at(element.place, "this reference stands here twice");
            cx.error(problem.also(*first, "first here").help("once is enough"));
            return None;
        }
        seen.push((url.clone(), element.place));
        Some(ReferenceSpec {
            name: Arc::from(url.as_str()),
            url,
            interval: Duration::from_secs(30),
            timeout: Duration::from_secs(5),
        })
    })
}

// Length: one service is read in one place, so that the order of what depends on what can be seen.
pub(super) fn service(
    cx: &Cx<'_>,
    key: &Key,
    node: &Node,
    defaults: &Defaults,
    shared_scrapes: &[scrape::Compiled],
    names: &Names<'_>,
) -> Option<Compiled> {
    let fits = name(cx, key, "a service").is_some();
    let name: Arc<str> = Arc::from(key.text.as_str());
    let mut table = cx.table(node, format!("the service `{name}`"))?;
    let own = shared(&mut table, names);
    let autonomy_place = own.autonomy.place();
    let autonomy = setting(own.autonomy, &defaults.shared.autonomy, Autonomy::Observe);
    let probes = probe::probes(cx, table.take("probes"), &name, &defaults.probe);
    let scrapes = scrape::scrapes(cx, table.take("scrapes"), Some(&name), &defaults.scrape);
    let queries = query::queries(cx, table.take("queries"), &name, &defaults.query);
    let paced_probes: Vec<_> = probes.iter().map(|probe| (probe.name.clone(), probe.interval)).collect();
    let intervals: Vec<_> = scrapes.iter().chain(shared_scrapes).map(|scrape| scrape.interval).collect();
    let detectors = table.get("release", |cx, node| {
        let scraped_every = intervals.iter().flatten().max().copied();
        // One that was wrong counts as something that is scraped.
        let scraped_every = scraped_every.or((!intervals.is_empty()).then_some(HOUR));
        release::detectors(cx, node, &release::Around { service: &name, probes: &probes, scraped_every })
    });
    let rollback = table.take("rollback");
    let levels = match rollback.map(|node| &node.value) {
        Some(Value::List(levels)) => levels.len(),
        Some(_) | None => 0,
    };
    let severities = severity::severities(cx, table.take("severity"), autonomy);
    let severities = severity::compile(cx, &severities, &defaults.severities, &severity::level_names(rollback));
    let start_levels = severities.as_ref().map(|compiled| compiled.start_levels.clone()).unwrap_or_default();
    let asked_of: Vec<&query::Source> = queries.iter().map(|query| &query.source).collect();
    let sources = Sources { probes: &paced_probes, scrapes: &intervals, queries: &asked_of };
    let asked = blocker::asked_before(cx, node, &sources);
    let probe_names: Vec<Arc<str>> = probes.iter().map(|probe| probe.name.clone()).collect();
    let ladder = ladder::ladder(cx, rollback, &ladder::Around { probes: &probe_names, sources: &sources, autonomy });
    let triggers =
        trigger::triggers(cx, table.take("triggers"), &trigger::Around { sources, levels, autonomy, start_levels });
    let place = table.place;
    table.finish();

    let references = setting(own.guard.references.clone(), &defaults.shared.guard.references, Vec::new());
    let notify = setting(own.notify.clone(), &defaults.shared.notify, Vec::new());
    let detectors = detectors.or(Vec::new());
    checks::service(
        cx,
        &checks::Facts {
            name: &name,
            header: place,
            place: autonomy_place.unwrap_or(place),
            autonomy,
            detectors: detectors.as_deref(),
            triggers: triggers.as_deref(),
            ladder: ladder.as_deref(),
            notify: notify.as_deref(),
            references: references.as_deref(),
        },
    );
    let detectors = detectors?;
    let dependencies_place = own.guard.dependencies.place().or_else(|| defaults.shared.guard.dependencies.place());
    let guard = guard_rules(&name, &own.guard, &defaults.shared.guard, references.as_deref(), asked?)?;
    let (levels, criteria): (Vec<_>, Vec<_>) =
        ladder?.into_iter().map(|compiled| (compiled.level, compiled.criteria)).unzip();
    let rules = ServiceRules {
        name: fits.then_some(name)?,
        autonomy: autonomy?,
        notify: notify?,
        labels: service_labels(own.labels, &defaults.shared.labels)?,
        startup: setting(own.startup, &defaults.shared.startup, MINUTE)?,
        detectors: detectors.iter().map(|compiled| compiled.detector.clone()).collect(),
        triggers: triggers?.into_iter().map(|compiled| compiled.trigger).collect(),
        criteria: criteria.into_iter().flatten().map(|compiled| compiled.trigger).collect(),
        guard,
        ladder: levels,
        remind_every: setting(own.remind_every, &defaults.shared.remind_every, MINUTE * 15)?,
        respond_within: setting(own.respond_within, &defaults.shared.respond_within, MINUTE * 15)?,
        rto: own.rto.or_else(defaults.shared.rto).optional()?,
        severities: severities?.rules,
        hold_max: setting(own.hold_max, &defaults.shared.hold_max, HOUR)?,
    };
    let mut probes: Vec<ProbeSpec> = probes.into_iter().map(|probe| probe.spec).collect::<Option<_>>()?;
    for (probe, pointer, _) in detectors.iter().filter_map(|compiled| compiled.pointer.as_ref()) {
        for spec in probes.iter_mut().filter(|spec| spec.name == *probe) {
            spec.release_pointer = Some(pointer.clone());
        }
    }
    query::warn_of_unread(cx, &queries, &rules);
    Some(Compiled {
        rules,
        scrapes: scrapes.into_iter().map(|scrape| scrape.spec).collect::<Option<_>>()?,
        probes,
        queries: queries.into_iter().map(|query| query.spec).collect::<Option<_>>()?,
        detectors: detectors.into_iter().filter_map(|compiled| compiled.spec).collect(),
        references: references?,
        places: (place, dependencies_place),
    })
}

fn guard_rules(
    name: &Arc<str>,
    own: &Guard,
    shared: &Guard,
    references: Option<&[ReferenceSpec]>,
    asked: blocker::Asked,
) -> Option<GuardRules> {
    let mut dependencies = setting(own.dependencies.clone(), &shared.dependencies, Vec::new())?;
    if own.dependencies.place().is_none() {
        // What all depend on does not depend on itself.
        dependencies.retain(|dependency| dependency != name);
    }
    Some(GuardRules {
        release_window: setting(own.release_window, &shared.release_window, HOUR)?,
        good_after: setting(own.good_after, &shared.good_after, MINUTE * 30)?,
        cooldown: setting(own.cooldown, &shared.cooldown, HOUR)?,
        budget: own.budget.or_else(shared.budget).optional()?,
        references: references?.iter().map(|reference| reference.name.clone()).collect(),
        worsened_by: setting(own.worsened_by, &shared.worsened_by, WORSENED_BY)?,
        dependencies,
        freeze: setting(own.freeze.clone(), &shared.freeze, Vec::new())?,
        blockers: asked.blockers,
        ready: asked.ready,
        ready_every: asked.ready_every,
    })
}

/// Those of the service win, name by name.
fn service_labels(
    own: Got<Vec<(String, String)>>,
    shared: &Got<Vec<(String, String)>>,
) -> Option<Vec<(Arc<str>, Arc<str>)>> {
    let mut labels = shared.clone().or(Vec::new())?;
    let own = own.or(Vec::new())?;
    labels.retain(|(name, _)| own.iter().all(|(have, _)| have != name));
    labels.extend(own);
    labels.sort();
    Some(labels.into_iter().map(|(name, value)| (Arc::from(name), Arc::from(value))).collect())
}
