//! `[services.X.queries.Y]`: an expression that a Prometheus-compatible server evaluates.

use std::sync::Arc;
use std::time::Duration;

use url::Url;

use super::super::cursor::{Cx, Got, Table, Text};
use super::super::model::{ClientSpec, OnEmpty, OnWarning, QuerySpec};
use super::super::places::{Place, Problem};
use super::super::tree::{Key, Node, Value};
use super::http::{client, holds_secret, labels, limits, url};
use super::question::{Asked, Needs};
use super::release::promql_error;
use super::scrape::{INTERVAL, Pace};
use super::{name, setting};
use crate::decide::rules::{Question, ServiceRules};
use crate::promql::{Expr, Selector};

const EXPR_HELP: &str =
    "a PromQL expression, such as expr = 'sum(rate(errors_total[5m])) / sum(rate(requests_total[5m]))'";
const SERVER_HELP: &str = "server = \"http://prometheus:9090\", or { url = \"…\", bearer = { file = \"/path\" } }; [defaults.query] may have it";

/// What backstop itself makes beside what it scrapes: a query of this name would be mistaken for it.
const OWN_SERIES: [&str; 8] = [
    "up",
    "scrape_duration_seconds",
    "scrape_samples_scraped",
    "probe_success",
    "probe_duration_seconds",
    "probe_http_status_code",
    "query_success",
    "query_duration_seconds",
];

/// Where to ask, and how.
#[derive(Clone)]
struct Server {
    url: Arc<str>,
    client: ClientSpec,
}

/// What `[defaults.query]` may set.
#[derive(Clone)]
pub(super) struct Shared {
    server: Got<Server>,
    pace: Pace,
    series_max: Got<usize>,
    max_age: Got<Duration>,
    on_warning: Got<OnWarning>,
}

impl Shared {
    pub fn unset() -> Shared {
        Shared {
            server: Got::Absent,
            pace: Pace::unset(),
            series_max: Got::Absent,
            max_age: Got::Absent,
            on_warning: Got::Absent,
        }
    }

    pub fn read(table: &mut Table<'_, '_>) -> Shared {
        const WORDS: [(&str, OnWarning); 2] = [("unknown", OnWarning::Unknown), ("accept", OnWarning::Accept)];
        const AGE: &str = "how far the instant of an answer may lie from now, such as \"1m\"";
        Shared {
            server: table.get("server", server),
            pace: Pace::read(table),
            series_max: table.get("series_max", |cx, node| {
                let most = cx.whole(node, 1..50_000, "how many series an answer may have")?;
                usize::try_from(most).ok()
            }),
            max_age: table.get("max_age", |cx, node| cx.some_duration(node, AGE)),
            on_warning: table.get("on_warning", |cx, node| cx.choice(node, &WORDS)),
        }
    }
}

/// What triggers must know of a query. What was wrong is missing, and was reported.
pub(super) struct Source {
    pub name: String,
    pub interval: Option<Duration>,
    /// How far back its expression looks.
    pub window: Option<Duration>,
    /// Its expression selects series as they are, so that counters stay counters.
    pub is_raw: bool,
}

pub(super) struct Compiled {
    pub source: Source,
    pub place: Place,
    pub spec: Option<QuerySpec>,
}

pub(super) fn queries(cx: &Cx<'_>, node: Option<&Node>, service: &Arc<str>, shared: &Shared) -> Vec<Compiled> {
    let Some(node) = node else { return Vec::new() };
    let entries = cx.named(node, "a table for each query: [services.NAME.queries.NAME]");
    entries.into_iter().flatten().map(|(key, node)| query(cx, key, node, service, shared)).collect()
}

// Length: each key of one query, in the order in which people read them.
fn query(cx: &Cx<'_>, key: &Key, node: &Node, service: &Arc<str>, shared: &Shared) -> Compiled {
    const EMPTY: [(&str, OnEmpty); 2] = [("unknown", OnEmpty::Unknown), ("clear", OnEmpty::Clear)];
    let name = metric_name(cx, key);
    let failed = |interval| {
        let source = Source { name: key.text.clone(), interval, window: None, is_raw: true };
        Compiled { source, place: key.place, spec: None }
    };
    let Some(mut table) = cx.table(node, format!("the query `{}`", key.text)) else { return failed(None) };
    let expr = table.need("expr", EXPR_HELP, |cx, node| cx.some_text(node, EXPR_HELP));
    let own = Shared::read(&mut table);
    let dialect =
        table.get("dialect", |cx, node| cx.choice(node, &[("promql", Dialect::Promql), ("server", Dialect::Server)]));
    let window = table.get("window", Cx::duration);
    let on_empty = table.get("on_empty", |cx, node| cx.choice(node, &EMPTY));
    let labels = table.get("labels", labels);
    let (server, place) = (own.server.or_else(shared.server.clone()), table.place);
    if let Got::Absent = server {
        table.lacks(&["server"], "server", SERVER_HELP);
    }
    table.finish();
    let times = own.pace.times(cx, &shared.pace, INTERVAL, Duration::from_secs(10));
    let max_age_place = own.max_age.place().unwrap_or(place);
    let max_age = setting(own.max_age, &shared.max_age, Duration::from_mins(1)).and_then(|max_age| {
        let slowest = times.map(|(_, timeout)| timeout).filter(|timeout| max_age < *timeout);
        let Some(timeout) = slowest else { return Some(max_age) };
        let (age, timeout) = (humantime::format_duration(max_age), humantime::format_duration(timeout));
        let message = format!("an answer may take {timeout}, and would be stale when it is more than {age} old");
        let help = format!("write max_age = \"{timeout}\" or more, or a shorter timeout");
        cx.error(Problem::at(max_age_place, message).help(help));
        None
    });
    let interval = times.map(|(interval, _)| interval);
    let window_place = window.place();
    let Some((looked, is_raw)) = expr.as_ref().and_then(|expr| {
        let dialect = dialect.or(Dialect::Promql)?;
        looks_back(cx, expr, dialect, window, window_place.unwrap_or(place))
    }) else {
        return failed(interval);
    };
    let spec = || {
        let (interval, timeout) = times?;
        let server = server.optional()??;
        Some(QuerySpec {
            service: Arc::clone(service),
            name: name?,
            expr: expr?.value,
            server: server.url,
            interval,
            limits: limits(timeout, setting(own.pace.body_max, &shared.pace.body_max, 4 << 20)?),
            client: server.client,
            series_max: setting(own.series_max, &shared.series_max, 1000)?,
            max_age: max_age?,
            window: looked,
            labels: labels.or(Vec::new())?,
            on_empty: on_empty.or(OnEmpty::Unknown)?,
            on_warning: setting(own.on_warning, &shared.on_warning, OnWarning::Unknown)?,
        })
    };
    let source = Source { name: key.text.clone(), interval, window: Some(looked), is_raw };
    Compiled { source, place: key.place, spec: spec() }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Dialect {
    /// What backstop evaluates too: read and checked here.
    Promql,
    /// What only the server knows (native histograms, `MetricsQL`): sent as it is.
    Server,
}

/// How far back an expression looks, and whether it only selects.
fn looks_back(
    cx: &Cx<'_>,
    expr: &Text,
    dialect: Dialect,
    window: Got<Duration>,
    place: Place,
) -> Option<(Duration, bool)> {
    const HELP: &str =
        "write how far back it looks, such as window = \"5m\", or \"0s\" where only newest samples count";
    let is_raw = Selector::parse(&expr.value).is_ok();
    match (dialect, window) {
        (_, Got::Bad) => None,
        (Dialect::Server, Got::Absent) => {
            let message = "of an expression that only the server reads nobody here knows how far back it looks";
            cx.error(Problem::at(expr.place, message).help(HELP));
            None
        }
        (Dialect::Server, Got::Is(window, _)) => Some((window, is_raw)),
        (Dialect::Promql, window) => {
            let parsed = match Expr::parse(&expr.value) {
                Ok(parsed) => parsed,
                Err(mut error) => {
                    // What is no PromQL at all has the usual way out.
                    if ["does not evaluate", "unknown function"].iter().any(|words| error.message.contains(words)) {
                        let beside = "if the server knows it, write dialect = \"server\" beside it";
                        error.help = Some(error.help.map_or(beside.to_owned(), |help| format!("{help} Or {beside}.")));
                    }
                    promql_error(cx, expr, error);
                    return None;
                }
            };
            let read = parsed.widest_window();
            let window = window.or(read)?;
            if window < read {
                let message = format!("the expression looks back {}", humantime::format_duration(read));
                cx.error(Problem::at(place, message).help("take it out, or write at least that"));
                return None;
            }
            Some((window, is_raw))
        }
    }
}

/// A query's name is the name of its series: what stands in a trigger's expression.
fn metric_name(cx: &Cx<'_>, key: &Key) -> Option<Arc<str>> {
    let text = &key.text;
    if OWN_SERIES.contains(&text.as_str()) {
        let problem = Problem::at(key.place, format!("backstop makes a series `{text}` of its own"));
        cx.error(problem.help("a query's result is kept under the query's name: give it another one"));
        return None;
    }
    let fits = text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    if fits {
        return name(cx, key, "a query");
    }
    let near: String = text.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
    let near = if near.starts_with(|c: char| c.is_ascii_digit()) { format!("_{near}") } else { near };
    let problem = Problem::at(key.place, "this cannot be the name of a query: it is the name of its series too");
    cx.error(problem.help(format!("write `{near}`, for example: letters, digits and `_`, not beginning with a digit")));
    None
}

fn server(cx: &Cx<'_>, node: &Node) -> Option<Server> {
    if let Value::Table(_) = &node.value {
        let mut table = cx.table(node, "the server")?;
        let url = table.need("url", "the server's address, such as url = \"http://prometheus:9090\"", server_url);
        let client = client(&mut table);
        table.finish();
        return Some(Server { url: url?, client: client? });
    }
    Some(Server { url: server_url(cx, node)?, client: ClientSpec::default() })
}

fn server_url(cx: &Cx<'_>, node: &Node) -> Option<Arc<str>> {
    let text = url(cx, node)?;
    let read = Url::parse(&text).ok()?;
    let path = read.path().trim_end_matches('/');
    if let Some(prefix) = path.strip_suffix("/api/v1/query").or_else(|| path.strip_suffix("/api/v1")) {
        let mut short = read.clone();
        short.set_path(prefix);
        let problem = Problem::at(node.place, "the path of the API is appended to the server's address");
        cx.error(problem.help(format!("write \"{}\"", short.as_str().trim_end_matches('/'))));
        return None;
    }
    if let Some((key, _)) = read.query_pairs().find(|(key, _)| ["query", "time", "timeout"].contains(&key.as_ref())) {
        let problem =
            Problem::at(node.place, format!("`{key}` is sent with each query, so it cannot be in the address"));
        cx.error(problem.help("take it out; what the server takes beside it (dedup, nocache) may stay"));
        return None;
    }
    if let Some((key, _)) = read.query_pairs().find(|(key, _)| holds_secret(key)) {
        // An address is shown everywhere.
        cx.hide(node.place);
        let problem = Problem::at(node.place, format!("a secret must not stand in an address: `{key}` looks like one"));
        cx.error(problem.help("use bearer, basic or headers of the server, which take it from a file"));
        return None;
    }
    Some(Arc::from(text))
}

/// What nobody asks for is asked of the server in vain.
pub(super) fn warn_of_unread(cx: &Cx<'_>, queries: &[Compiled], rules: &ServiceRules) {
    let exprs = if queries.is_empty() { Vec::new() } else { rules.exprs() };
    let asked: Vec<&Selector> = exprs.iter().flat_map(Expr::selectors).collect();
    for query in queries {
        // One by a pattern, or by labels alone, may mean it.
        let asks = |selector: &&Selector| selector.exact_name().is_none_or(|name| name == query.source.name);
        if !asked.iter().any(asks) {
            let message = format!("no trigger asks for the query `{}`", query.source.name);
            let help = format!("write a trigger such as expr = '{} > 0.05', or take the query out", query.source.name);
            cx.warn(Problem::at(query.place, message).help(help));
        }
    }
}

/// Series that tell of the queries themselves.
pub(super) fn is_own(metric: &str) -> bool {
    ["query_success", "query_duration_seconds"].contains(&metric)
}

/// Increases are counted of counters; what a server has added up goes down when one of its parts does.
pub(super) fn stays_counter(
    cx: &Cx<'_>,
    queries: &[&Source],
    selector: &Selector,
    text: &Text,
    is_counted: bool,
) -> Option<()> {
    let named = queries.iter().find(|query| selector.exact_name() == Some(&query.name));
    let Some(query) = named.filter(|query| is_counted && !query.is_raw) else { return Some(()) };
    let message = format!("the query `{}` computes a value: its increase would be that of no counter", query.name);
    let problem = Problem::at(text.place, message);
    cx.error(problem.help("let the server compute the rate or the ratio, and compare it with expr"));
    None
}

/// What to do where nothing could show a metric.
pub(super) fn or_a_query(queries: &[&Source]) -> String {
    match queries {
        [] => "add [services.NAME.scrapes.NAME] with its url".to_owned(),
        [first, ..] => {
            format!(
                "add [services.NAME.scrapes.NAME] with its url, or ask for a query by its name, such as `{}`",
                first.name
            )
        }
    }
}

/// After what was before does not count any more, a query's own window must pass before its answers do.
pub(super) fn wait_for(asked: Asked, queries: &[&Source]) -> Asked {
    let Question::Value { expr, .. } = &asked.question else { return asked };
    let selectors = expr.selectors();
    let asks = |query: &&&Source| selectors.iter().any(|selector| selector.exact_name() == Some(&query.name));
    let widest = queries.iter().filter(asks).filter_map(|query| Some((query.window?, &query.name))).max();
    let Some((window, name)) = widest.filter(|(window, _)| !window.is_zero()) else { return asked };
    let shown = humantime::format_duration(window);
    let why = format!("{shown} until all that the query `{name}` looks back over is new, and {}", asked.needs.why);
    let needs = Needs { time: asked.needs.time + window, why };
    Asked { needs, ..asked }
}
