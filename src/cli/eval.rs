//! `backstop eval`

use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::time::Duration;

use serde_json::{Value, json};

use super::config;
use super::failure::{Exit, Failure, print, print_json};
use super::look::{Seen, Until, look};
use super::table::{duration, or_dash, table};
use crate::config::{Environment, Source};
use crate::decide::report::span;
use crate::decide::rules::{Question, Unit};
use crate::decide::trigger::{Finding, threshold_text, value_text};
use crate::machine::trial::Trial;
use crate::promql::{self, Expr, Labels, SelectorEvidence};

/// How long a look at scrapes takes unless it is said.
const LOOK: Duration = Duration::from_secs(10);
/// A server is asked once, and has so long.
const ASK_MAX: Duration = Duration::from_secs(15);
const HERE: &str = "here";
const THERE: &str = "there";

const AFTER_HELP: &str = "\
What is exposed is scraped for a while, kept in windows and evaluated as the daemon does it; a server is asked as a
query of the daemon asks it. With both, the two answers stand side by side. A window that was not looked at for 80 % of
its length is unknown, here as in the daemon: --for so long shows it.

Examples:
  backstop eval 'process_open_fds / process_max_fds > 0.9' --scrape http://127.0.0.1:8080/metrics
  backstop eval 'rate(http_requests_total{status=~\"5..\"}[30s])' --scrape http://127.0.0.1:8080/metrics --for 30s
  backstop eval 'sum(up) < 3' --query-server http://prometheus:9090
  backstop eval 'sum(up)' --query-server https://mimir/prometheus --header 'X-Scope-OrgID: shop' --bearer-file token";

#[derive(Debug, clap::Args)]
#[command(after_help = AFTER_HELP)]
pub(super) struct Args {
    /// A PromQL expression, perhaps with a comparison at its end
    expr: String,
    /// The address of exposed metrics; may be given several times: several targets of one scrape
    #[arg(long, value_name = "URL", required_unless_present = "query_server")]
    scrape: Vec<String>,
    /// The address of a Prometheus-compatible server, without /api/v1/query
    #[arg(long, value_name = "URL")]
    query_server: Option<String>,
    /// How long to look. Default: 10s for scrapes; a server is asked once
    #[arg(long = "for", value_name = "DURATION", value_parser = duration, allow_hyphen_values = true)]
    duration: Option<Duration>,
    /// How often
    #[arg(long, value_name = "DURATION", default_value = "1s", value_parser = duration, allow_hyphen_values = true)]
    every: Duration,
    /// The label `job` of what is scraped
    #[arg(long, value_name = "NAME", default_value = "eval")]
    job: String,
    /// Sent with each request; may be given several times
    #[arg(long, value_name = "NAME: VALUE")]
    header: Vec<String>,
    /// A file with a bearer token
    #[arg(long, value_name = "FILE")]
    bearer_file: Option<String>,
    /// A PEM file of further trusted roots
    #[arg(long, value_name = "FILE")]
    ca_file: Option<String>,
    /// Print it as JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &Args) -> Result<(), Failure> {
    let parsed = Expr::parse(&args.expr).ok();
    let has_limit = parsed.as_ref().is_some_and(|parsed| parsed.split_comparison().is_some());
    let config = compiled(args, parsed.as_ref())?;
    let until = match (args.duration, args.scrape.is_empty()) {
        (Some(duration), _) => Until::Elapsed(duration),
        (None, false) => Until::Elapsed(LOOK),
        (None, true) => Until::EachSeen(ASK_MAX),
    };
    if let Until::Elapsed(duration) = until
        && !args.json
    {
        // Nobody is left to tell when standard error is closed.
        drop(writeln!(io::stderr(), "looking every {} for {}", span(args.every), span(duration)));
    }
    let seen = look(&config, until)?;
    let services = config.rules.services.iter();
    let asked: Vec<Asked<'_>> = services
        .filter_map(|service| {
            let trigger = service.triggers.first()?;
            let Question::Value { expr, .. } = &trigger.question else { return None };
            let trial = seen.try_trigger(&service.name, &trigger.name)?;
            // Of a query, what the server was asked; here only its answer is read.
            let sent = config.queries.iter().find(|query| query.service == service.name);
            let expression = sent.map_or_else(|| expr.to_string(), |query| query.expr.clone());
            let compared = has_limit.then(|| threshold_text(&trigger.question));
            Some(Asked { service: &service.name, expression, compared, trial })
        })
        .collect();
    if args.json {
        let results: Vec<Value> = asked.iter().map(|asked| asked.as_json(&seen)).collect();
        return print_json(&json!({ "expression": args.expr, "results": results }));
    }
    print(&asked.iter().map(|asked| asked.shown(&seen)).collect::<Vec<_>>().join("\n"))
}

/// One way of evaluating the expression, and what came of it.
struct Asked<'a> {
    service: &'a str,
    expression: String,
    /// None: nothing says which values are wrong.
    compared: Option<String>,
    trial: Trial,
}

impl Asked<'_> {
    /// Label sets with their values, known or not, and what each means.
    fn rows(&self) -> Vec<(Labels, f64, &Finding)> {
        let values = match &self.trial.evaluation {
            Ok(evaluation) => match &evaluation.value {
                promql::Value::Scalar(value) => vec![(Labels::default(), *value)],
                promql::Value::Vector(values) => values.clone(),
            },
            Err(_) => Vec::new(),
        };
        values
            .into_iter()
            .map(|(labels, value)| {
                let finding = self.trial.findings.of(&labels).0;
                (labels, value, finding)
            })
            .collect()
    }

    fn word(&self, finding: &Finding) -> &'static str {
        match finding {
            Finding::Unknown(_) => "unknown",
            Finding::Clear | Finding::Breached if self.compared.is_none() => "known",
            Finding::Clear | Finding::Breached => finding.as_str(),
        }
    }

    fn evidence(&self) -> &[SelectorEvidence] {
        self.trial.evaluation.as_ref().map(|evaluation| evaluation.evidence.as_slice()).unwrap_or_default()
    }

    /// The first reason for which something is not known.
    fn why(&self) -> Option<String> {
        match self.trial.findings.worst().1 {
            Finding::Unknown(why) => Some(why.to_string()),
            Finding::Clear | Finding::Breached => None,
        }
    }

    /// How long it would take to know.
    fn hint(&self) -> Option<String> {
        let widest = self.evidence().iter().filter(|one| one.observed.as_millis() * 5 < one.window.as_millis() * 4);
        let widest = widest.map(|one| one.window).max().filter(|_| self.service == HERE)?;
        Some(format!("--for {} would cover its window", humantime::format_duration(widest)))
    }

    fn shown(&self, seen: &Seen) -> String {
        let mut out = String::new();
        let mut line = |text: &str| writeln!(out, "{text}").expect("writing to a String does not fail");
        let (ok, failed) = seen.looks(self.service);
        let how = if self.service == THERE { "evaluated by the server" } else { "evaluated here" };
        let compared = self.compared.as_deref().map_or_else(String::new, |text| format!(", breached when {text}"));
        line(&format!("{how}: {}{compared}", self.expression));
        let looks = if ok + failed == 1 { "1 look".to_owned() } else { format!("{} looks", ok + failed) };
        line(&format!("  {looks}, {failed} failed"));
        for target in seen.targets(self.service).iter().filter(|target| target.up != Some(true)) {
            line(&format!("  {}: {}", target.address, target.error.as_deref().unwrap_or("no answer yet")));
        }
        let rows = self.rows();
        let cells = rows.iter().map(|(labels, value, finding)| {
            vec![format!("  {}", self.word(finding)), value_text(*value, Unit::Number), or_dash(Some(&set(labels)))]
        });
        if !rows.is_empty() {
            line(&table(&["  finding", "value", "label set"], cells));
        } else if self.why().is_none() {
            line("  clear: no series match");
        }
        if let Some(why) = self.why() {
            line(&format!("  unknown: {why}"));
        }
        if let Some(hint) = self.hint() {
            line(&format!("  help: {hint}"));
        }
        for one in self.evidence().iter().filter(|_| self.service == HERE) {
            let observed = if one.window.is_zero() {
                String::new()
            } else {
                format!(", {} of {} observed", span(one.observed), span(one.window))
            };
            let (series, fresh, targets) = (one.series_now, one.targets_fresh, one.targets);
            line(&format!("  {}: {series} series on {fresh} of {targets} targets{observed}", one.selector));
        }
        out
    }

    fn as_json(&self, seen: &Seen) -> Value {
        let (ok, failed) = seen.looks(self.service);
        let rows: Vec<Value> = self
            .rows()
            .into_iter()
            .map(|(labels, value, finding)| {
                let named: serde_json::Map<String, Value> =
                    labels.iter().map(|(name, value)| (name.to_owned(), value.into())).collect();
                // As Prometheus has it: JSON has neither NaN nor infinities.
                json!({ "labels": named, "value": promql::go_number(value), "finding": self.word(finding) })
            })
            .collect();
        let selectors: Vec<Value> = self
            .evidence()
            .iter()
            .map(|one| {
                json!({
                    "selector": one.selector,
                    "series": one.series_now,
                    "targets": one.targets,
                    "targets_fresh": one.targets_fresh,
                    "window_seconds": one.window.as_secs_f64(),
                    "observed_seconds": one.observed.as_secs_f64(),
                })
            })
            .collect();
        let targets: Vec<Value> = seen
            .targets(self.service)
            .iter()
            .map(|target| json!({ "address": &*target.address, "up": target.up, "error": target.error }))
            .collect();
        json!({
            "evaluated": if self.service == THERE { "server" } else { "here" },
            "expression": self.expression,
            "breached": self.compared,
            "finding": self.word(self.trial.findings.worst().1),
            "why": self.why(),
            "values": rows,
            "selectors": selectors,
            "targets": targets,
            "looks": ok + failed,
            "looks_failed": failed,
        })
    }
}

fn set(labels: &Labels) -> String {
    if labels.is_empty() { String::new() } else { labels.to_string() }
}

/// The expression as the one trigger of a service that scrapes, and of one that asks. What is wrong with it, or with an
/// address, is shown as `check` shows it.
fn compiled(args: &Args, parsed: Option<&Expr>) -> Result<crate::config::Config, Failure> {
    let split = parsed.and_then(Expr::split_comparison);
    // A trigger compares; above this nothing is.
    let never = if parsed.is_some() && split.is_none() { "\nabove = 1e308" } else { "" };
    let nobody = ["http://127.0.0.1/".to_owned()];
    let mut text = String::new();
    let mut put = |line: String| writeln!(text, "{line}").expect("writing to a String does not fail");
    let client = client(args)?;
    let every = humantime::format_duration(args.every);
    if !args.scrape.is_empty() || parsed.is_none() {
        put(format!("[services.{HERE}.triggers.eval]\nexpr = {}{never}", quoted(&args.expr)));
        // What cannot be read is not asked of a server either, and told here.
        let urls = if args.scrape.is_empty() { &nobody[..] } else { &args.scrape };
        let urls: Vec<String> = urls.iter().map(|url| quoted(url)).collect();
        put(format!("[services.{HERE}.scrapes.eval]\ntargets = [{}]\ninterval = \"{every}\"", urls.join(", ")));
        put(format!("job = {}\n{client}", quoted(&args.job)));
    }
    if let (Some(url), Some(parsed)) = (&args.query_server, parsed) {
        let (sent, compared) = match &split {
            Some((value, comparison, limit)) => {
                let sign = comparison.symbol();
                (value.source(), format!("expr = \"answer {sign} {limit}\""))
            }
            None => (parsed.source(), format!("expr = \"answer\"{never}")),
        };
        put(format!("[services.{THERE}.queries.answer]\nexpr = {}", quoted(&sent)));
        put(format!("interval = \"{every}\"\nserver.url = {}", quoted(url)));
        for line in client.lines() {
            put(format!("server.{line}"));
        }
        put(format!("[services.{THERE}.triggers.eval]\n{compared}"));
    }
    let source = Source { path: "the command line".into(), text };
    let environment = Environment { variable: &|_| None, hostname: "eval" };
    crate::config::parse(&[source], &environment, 1).map_err(|report| {
        config::tell(&report.render(config::style()));
        Failure::new(Exit::Usage, "")
    })
}

fn client(args: &Args) -> Result<String, Failure> {
    let mut lines = Vec::new();
    let mut headers = Vec::new();
    for header in &args.header {
        let (name, value) = header.split_once(':').ok_or_else(|| {
            Failure::new(Exit::Usage, format!("{header:?} is not a header"))
                .help("write --header 'X-Scope-OrgID: shop'")
        })?;
        headers.push(format!("{} = {}", quoted(name.trim()), quoted(value.trim())));
    }
    if !headers.is_empty() {
        lines.push(format!("headers = {{ {} }}", headers.join(", ")));
    }
    lines.extend(args.bearer_file.as_ref().map(|file| format!("bearer = {{ file = {} }}", quoted(file))));
    lines.extend(args.ca_file.as_ref().map(|file| format!("tls = {{ ca_file = {} }}", quoted(file))));
    Ok(lines.join("\n"))
}

/// A TOML string; as it is written, where that is possible, so that a caret stands under the right word.
fn quoted(text: &str) -> String {
    // Variables are put in by `$`; here there are none.
    let text = text.replace('$', "$$");
    if text.contains('\'') || text.chars().any(char::is_control) {
        return Value::from(text).to_string();
    }
    format!("'{text}'")
}
