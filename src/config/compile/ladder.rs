//! `[[services.X.rollback]]`: levels, their steps, and how each is verified.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::super::cursor::{Cx, Got, Table, Text};
use super::super::places::{Place, Problem};
use super::super::tree::{Node, Value};
use super::http::{headers, secret};
use super::probe::{argv, environment, inherited, is_pointer, json, method, statuses};
use super::template::{Stands, check, check_url_template};
use super::trigger::{self, Sources};
use super::{references_to, service};
use crate::act::template::TemplateNames;
use crate::decide::event::{
    Action, Autonomy, BodyTemplate, Capture, Level, OnFailure, Proof, Retry, Step, TextOrSecret, Verify,
};

const STEP_HELP: &str = "write command = [\"/path/to/script\"] or http = { method = \"POST\", url = \"https://…\" }";
const STEPS_HELP: &str = "a list of steps: [{ command = [\"/path/to/script\"] }]";
const VERIFY_HELP: &str = "say when it has helped: verify = { within = \"10m\", soak = \"15m\" }";

/// What is known of the service around its ladder.
pub(super) struct Around<'s> {
    pub probes: &'s [Arc<str>],
    pub sources: &'s Sources<'s>,
    pub autonomy: Option<Autonomy>,
}

pub(super) struct Compiled {
    pub level: Level,
    /// Where `verify.within` stands.
    pub within: Place,
    /// What `Verify::still_wrong` names.
    pub criteria: Vec<trigger::Compiled>,
}

pub(super) fn ladder(cx: &Cx<'_>, node: Option<&Node>, around: &Around<'_>) -> Option<Vec<Compiled>> {
    const HELP: &str = "write a table for each level: [[services.NAME.rollback]], with two brackets";
    let Some(node) = node else { return Some(Vec::new()) };
    if let Value::Table(_) = &node.value {
        cx.error(Problem::at(node.place, "a ladder is a list of levels").help(HELP));
        return None;
    }
    let mut names: Vec<(String, Place)> = Vec::new();
    let mut number = 0;
    cx.list(node, HELP, |element| {
        number += 1;
        let compiled = level(cx, element, number, around)?;
        let name = compiled.level.name.clone();
        if let Some((_, first)) = names.iter().find(|(have, _)| *have == name) {
            let problem = Problem::at(element.place, format!("two levels are called `{name}`"));
            cx.error(problem.also(*first, "the other one").help("give each level a name of its own"));
            return None;
        }
        names.push((name, element.place));
        Some(compiled)
    })
}

fn level(cx: &Cx<'_>, node: &Node, number: usize, around: &Around<'_>) -> Option<Compiled> {
    let mut table = cx.table(node, format!("level {number} of the ladder"))?;
    let name = table.get("name", |cx, node| cx.some_text(node, "a few words, such as \"previous release\""));
    let autonomy = table.get("autonomy", |cx, node| service::autonomy(cx, node, around.autonomy));
    let mut names = TemplateNames::default();
    let steps =
        table.need("steps", "a level does something: steps = [{ command = [\"/path/to/script\"] }]", |cx, node| {
            steps(cx, node, &mut names, STEPS_HELP)
        });
    let proof_names = names.clone();
    // What the level's steps captured, its undo may use.
    let undo = table.get("undo", |cx, node| {
        self::steps(cx, node, &mut names, "what takes the level back: undo = [{ command = [\"/path/to/script\"] }]")
    });
    let name = name.optional().map(|name| name.map_or_else(|| format!("level {number}"), |text| text.value));
    let called = name.as_deref().unwrap_or_default();
    let verify = table.need("verify", VERIFY_HELP, |cx, node| verify(cx, node, around, &proof_names, called));
    let deadline = table.get("deadline", |cx, node| {
        const MEANING: &str = "how long the whole level may take";
        Some((cx.duration_in(node, Duration::from_secs(1)..Duration::from_hours(24), MEANING)?, node.place))
    });
    table.finish();
    let Verified { verify, within, criteria } = verify?;
    let deadline = deadline.optional()?;
    if let Some((limit, place)) = deadline
        && limit < verify.within
    {
        let problem = Problem::at(place, "the deadline of the level cuts the time that its recovery may take");
        cx.warn(
            problem
                .also(within, "this long")
                .help("the deadline counts from the level's first step, so make it longer"),
        );
    }
    Some(Compiled {
        level: Level {
            name: name?,
            steps: steps?,
            verify,
            autonomy: autonomy.optional()?,
            deadline: deadline.map(|(limit, _)| limit),
            undo: undo.or(Vec::new())?,
        },
        within,
        criteria,
    })
}

struct Verified {
    verify: Verify,
    within: Place,
    criteria: Vec<trigger::Compiled>,
}

/// `names` are what its steps capture; `level` is its name.
fn verify(cx: &Cx<'_>, node: &Node, around: &Around<'_>, names: &TemplateNames, level: &str) -> Option<Verified> {
    let mut table = cx.table(node, "verify")?;
    let within = table.need("within", "how long recovery may take, such as within = \"10m\"", |cx, node| {
        Some((cx.some_duration(node, "how long recovery may take")?, node.place))
    });
    let soak = table.need("soak", "how long it must stay well, such as soak = \"15m\"", |cx, node| {
        cx.some_duration(node, "how long it must stay well")
    });
    let probes = table
        .get("probes", |cx, node| references_to(cx, node, "probe", around.probes, "names of probes of this service"));
    let checks = table.get("checks", |cx, node| checks(cx, node, names));
    let criteria = table.get("still_wrong", |cx, node| criteria(cx, node, around.sources, level));
    let serves = table.get("serves", |cx, node| cx.choice(node, &[("target", true)]));
    table.finish();
    let (within, place) = within?;
    let (checks, criteria) = (checks.or(Vec::new())?, criteria.or(Vec::new())?);
    if let Some(late) = checks.iter().find(|proof| proof.check.timeout > within) {
        let (shown, timeout) = (humantime::format_duration(within), humantime::format_duration(late.check.timeout));
        let message =
            format!("in {shown} the check `{}` may not have answered once: its timeout is {timeout}", late.check.name);
        cx.error(
            Problem::at(place, message).help(format!("write within = \"{timeout}\" or longer, or a shorter timeout")),
        );
        return None;
    }
    let verify = Verify {
        within,
        soak: soak?,
        probes: texts(&probes.or(Vec::new())?),
        checks,
        still_wrong: criteria.iter().map(|compiled| compiled.trigger.name.to_string()).collect(),
        serves_target: serves.or(false)?,
    };
    Some(Verified { verify, within: place, criteria })
}

fn checks(cx: &Cx<'_>, node: &Node, names: &TemplateNames) -> Option<Vec<Proof>> {
    let mut seen = Vec::new();
    cx.list(node, "a list of checks: [{ command = [\"/opt/api/smoke.sh\"] }]", |element| {
        let proof = super::check::proof(cx, element, names)?;
        super::check::unique(cx, &mut seen, &proof.check.name, element).map(|_| proof)
    })
}

fn criteria(cx: &Cx<'_>, node: &Node, sources: &Sources<'_>, level: &str) -> Option<Vec<trigger::Compiled>> {
    let entries =
        cx.named(node, "a table for each question: still_wrong = { errors = { expr = '…', above = \"1%\" } }")?;
    let read = entries.iter().map(|(key, node)| {
        let mut compiled = trigger::question(cx, key, node, sources, "a question of the verification")?;
        // Two levels may ask different things under one name.
        compiled.trigger.name = Arc::from(format!("{level}: {}", compiled.trigger.name));
        Some(compiled)
    });
    read.collect::<Vec<_>>().into_iter().collect()
}

fn texts(names: &[Arc<str>]) -> Vec<String> {
    names.iter().map(ToString::to_string).collect()
}

/// `names` are what is captured before; what these steps capture is added.
fn steps(cx: &Cx<'_>, node: &Node, names: &mut TemplateNames, help: &'static str) -> Option<Vec<Step>> {
    let mut number = 0;
    let steps = cx.list(node, help, |element| {
        number += 1;
        step(cx, element, number, names)
    })?;
    if steps.is_empty() {
        cx.error(Problem::at(node.place, "this level has no steps").help(help));
        return None;
    }
    Some(steps)
}

/// `names` are what the earlier steps of the level capture; this one's are added, also when it is wrong otherwise.
fn step(cx: &Cx<'_>, node: &Node, number: usize, names: &mut TemplateNames) -> Option<Step> {
    let mut table = cx.table(node, format!("step {number}"))?;
    let later = "until then, use command or http";
    let refused = ["sql", "redis", "kubernetes", "docker", "git", "wait", "human"].map(|kind| (kind, later));
    let found = table.one_of(&["command", "http"], &refused, STEP_HELP);
    let is_command = matches!(found, Some(("command", _)));
    let action = match found {
        Some(("command", node)) => command(&mut table, node, names),
        Some((_, node)) => http(cx, node, names),
        None => None,
    };
    if !is_command {
        belongs_to_command(&mut table, found.is_some(), "step");
    }
    let name = table.get("name", |cx, node| cx.some_text(node, "a few words, such as \"restart\""));
    let timeout = table.get("timeout", |cx, node| {
        cx.duration_in(node, Duration::from_millis(100)..Duration::from_hours(24), "how long the step may take")
    });
    let idempotent = table.get("idempotent", Cx::boolean);
    let on_failure = table.get("on_failure", |cx, node| {
        let words = [("climb", OnFailure::Climb), ("continue", OnFailure::Continue), ("stop", OnFailure::Stop)];
        cx.choice(node, &words)
    });
    let retry = table.get("retry", retry);
    // It may use what its own step captured.
    let check = table.get("check", |cx, node| super::check::check(cx, node, "the step's check", names));
    table.finish();
    let action = action?;
    Some(Step {
        name: name.optional()?.map_or_else(|| described(&action), |text| text.value),
        action,
        timeout: timeout.or(Duration::from_mins(5))?,
        idempotent: idempotent.or(false)?,
        on_failure: on_failure.or(OnFailure::Climb)?,
        retry: retry.optional()?,
        check: check.optional()?,
    })
}

fn retry(cx: &Cx<'_>, node: &Node) -> Option<Retry> {
    const TIMES: &str = "how often it is tried again, such as times = 2";
    const WAIT: &str = "how long to wait before it is tried again, such as wait = \"10s\"";
    let mut table = cx.table(node, "retry")?;
    let times = table.need("times", TIMES, |cx, node| cx.whole(node, 1..10, TIMES));
    let wait = table.need("wait", WAIT, |cx, node| cx.duration_in(node, Duration::ZERO..Retry::WAIT_MAX, WAIT));
    table.finish();
    Some(Retry { times: u32::try_from(times?).ok()?, wait: wait? })
}

pub(super) fn belongs_to_command(table: &mut Table<'_, '_>, is_http: bool, what: &str) {
    for key in ["env", "inherit", "directory"] {
        if let Some((entry, _)) = table.take_entry(key)
            && is_http
        {
            let problem = Problem::at(entry.place, format!("`{key}` belongs to a {what} by command"));
            table.cx.error(problem.help("take it out"));
        }
    }
}

/// The default name of a step: `rollback.sh`, `PATCH flags.example.com`.
fn described(action: &Action) -> String {
    match action {
        Action::Command { argv, .. } => program_name(argv),
        Action::Http { method, url, .. } => request_name(method, url),
    }
}

pub(super) fn program_name(argv: &[String]) -> String {
    let program = argv.first().map_or("", String::as_str);
    program.rsplit('/').next().unwrap_or(program).to_owned()
}

pub(super) fn request_name(method: &str, url: &str) -> String {
    let host = url.split("://").nth(1).and_then(|rest| rest.split(['/', '?', ':']).next()).unwrap_or_default();
    format!("{method} {host}")
}

pub(super) fn command(table: &mut Table<'_, '_>, node: &Node, names: &TemplateNames) -> Option<Action> {
    let cx = table.cx;
    let argv = argv(cx, node, &mut |position, text| {
        check(cx, text, names, if position == 0 { Stands::Nowhere } else { Stands::Argument })
    });
    let env = table.get("env", |cx, node| environment(cx, node, &mut |text| check(cx, text, names, Stands::Anywhere)));
    let inherit = table.get("inherit", inherited);
    let directory = table.get("directory", |cx, node| {
        let text = cx.some_text(node, "the directory that the command runs in, such as \"/opt/api\"")?;
        check(cx, &text, names, Stands::Nowhere).then_some(text)
    });
    let argv = argv?;
    if let (Value::List(elements), Got::Absent) = (&node.value, &directory) {
        relative_program(cx, &argv, elements);
    }
    Some(Action::Command {
        argv,
        env: env.or(BTreeMap::new())?,
        inherit: inherit.or(Vec::new())?,
        directory: directory.optional()?.map(|text| text.value),
    })
}

fn relative_program(cx: &Cx<'_>, argv: &[String], elements: &[Node]) {
    if let (Some(program), Some(element)) = (argv.first(), elements.first())
        && program.contains('/')
        && !program.starts_with('/')
    {
        let problem = Problem::at(element.place, "this program depends on the directory that backstop is started in");
        cx.warn(problem.help("begin it with `/`, or set directory"));
    }
}

fn http(cx: &Cx<'_>, node: &Node, names: &mut TemplateNames) -> Option<Action> {
    let mut table = cx.table(node, "the http step")?;
    let known = names.clone();
    let anywhere = |text: &Text| check(cx, text, &known, Stands::Anywhere);
    let method = table.get("method", method);
    let url = table.need("url", "write url = \"https://host/path\"", |cx, node| {
        let text = cx.some_text(node, "write \"https://host/path\"")?;
        check_url_template(cx, &text, &known).then_some(text.value)
    });
    let headers = table.get("headers", |cx, node| headers(cx, node, &mut |text| anywhere(text)));
    let bearer = table.get("bearer", secret);
    let body = match table.one_at_most(&["json", "body"]) {
        Got::Absent => Some(BodyTemplate::None),
        Got::Bad => None,
        Got::Is(("json", node), _) => json(cx, node, &mut |text| anywhere(text)).map(BodyTemplate::Json),
        Got::Is((_, node), _) => {
            let text = cx.text(node, "what is sent; for JSON write json = { … }");
            text.filter(|text| anywhere(text)).map(|text| BodyTemplate::Raw(text.value))
        }
    };
    let expect = table.get("expect", statuses);
    let captures = table.get("capture", |cx, node| captures(cx, node, names));
    table.finish();
    let mut headers = headers.or(BTreeMap::new())?;
    if let Some(secret) = bearer.optional()? {
        headers.insert("Authorization".to_owned(), TextOrSecret::Secret { prefix: "Bearer ".to_owned(), secret });
    }
    Some(Action::Http {
        method: method.or("POST".to_owned())?,
        url: url?,
        headers,
        body: body?,
        expect: expect.or(Vec::new())?,
        captures: captures.or(Vec::new())?,
    })
}

/// Every name is added to `names`, also of a capture that is wrong: a later use of it is then not another mistake.
fn captures(cx: &Cx<'_>, node: &Node, names: &mut TemplateNames) -> Option<Vec<Capture>> {
    const HELP: &str = "capture = { name = \"/json/pointer\" }";
    let entries = cx.named(node, HELP)?;
    let read: Vec<Option<Capture>> = entries
        .iter()
        .map(|(key, node)| {
            let again = names.captures.contains(&key.text);
            names.captures.push(key.text.clone());
            let pointer = cx.text(node, HELP)?;
            if !super::http::is_label_name(&key.text) {
                let problem = Problem::at(key.place, "a template cannot name this");
                cx.error(problem.help("letters, digits and `_`, not beginning with a digit"));
                return None;
            }
            if again {
                let problem = Problem::at(key.place, format!("an earlier step of this level captures `{}`", key.text));
                cx.error(problem.help("choose another name"));
                return None;
            }
            if !is_pointer(&pointer.value) {
                let problem = Problem::at(pointer.place, "this is not a JSON pointer");
                cx.error(problem.help("a `/` before each name, such as \"/deployment/id\""));
                return None;
            }
            Some(Capture { name: key.text.clone(), pointer: pointer.value })
        })
        .collect();
    read.into_iter().collect()
}
