//! Steps and checks that run a command.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};

use super::redact::Redactor;
use super::template::{self, Context, Place, TemplateError, is_safe_value, shown};
use super::{Cut, Done, Subject};
use crate::decide::event::{CheckOutcome, Outcome, TextOrSecret};
use crate::platform::process::{self, CommandEnd, CommandOutcome, CommandSpec};
use crate::platform::secret::{self, SecretError};

/// The fields of `Action::Command` and `Ask::Command`.
#[derive(Clone, Copy, Debug)]
pub struct Command<'a> {
    pub argv: &'a [String],
    pub env: &'a BTreeMap<String, TextOrSecret>,
    pub inherit: &'a [String],
    pub directory: Option<&'a str>,
}

/// Of what a check printed last.
const LINE_CHARS_MAX: usize = 200;

/// Why a command was not even tried.
#[derive(Debug, thiserror::Error)]
enum NotBegun {
    #[error("{place}: {source}")]
    Template { place: String, source: TemplateError },
    #[error("{name}: {source}{}", because(source))]
    Secret { name: String, source: SecretError },
    #[error("{name} would be {value}, which cannot be passed to a command")]
    Value { name: String, value: String },
}

/// The error that a secret's error stands for: `No such file or directory`.
pub(super) fn because(error: &SecretError) -> String {
    std::error::Error::source(error).map(|source| format!(": {source}")).unwrap_or_default()
}

pub async fn run(
    command: &Command<'_>,
    subject: &Subject<'_>,
    context: &Context,
    redactor: &mut Redactor,
    started: impl FnOnce(Option<u32>, Option<String>) + Send,
) -> Done {
    let spec = match spec(command, subject, context, redactor) {
        Ok(spec) => spec,
        Err(why) => return Done::not_begun(why),
    };
    let end = process::run(spec, |pid, start| started(Some(pid), Some(start))).await;
    done(end, command.argv.first().map_or("", String::as_str), subject.timeout)
}

/// Exit status 0 is yes, another one is no; anything else is no answer.
pub async fn ask(
    command: &Command<'_>,
    subject: &Subject<'_>,
    context: &Context,
    redactor: &mut Redactor,
) -> CheckOutcome {
    let spec = match spec(command, subject, context, redactor) {
        Ok(spec) => spec,
        Err(why) => return CheckOutcome::Unknown(format!("not asked: {why}")),
    };
    let end = process::run(spec, |_, _| {}).await;
    let exited = match end.outcome {
        CommandOutcome::Exited(status) => Some(status),
        CommandOutcome::Signalled(_)
        | CommandOutcome::NotFound
        | CommandOutcome::NotExecutable
        | CommandOutcome::NotStarted(_)
        | CommandOutcome::TimedOut
        | CommandOutcome::Lost(_) => None,
    };
    let done = done(end, command.argv.first().map_or("", String::as_str), subject.timeout);
    // Redacted before it is cut: a part of a secret would not be found.
    let output = redactor.redact(&done.output, done.cut);
    let said = match last_line(&output) {
        Some(line) => format!("{}: {line}", done.detail),
        None => done.detail,
    };
    match exited {
        Some(0) => CheckOutcome::Passed,
        Some(_) => CheckOutcome::Failed(said),
        None => CheckOutcome::Unknown(said),
    }
}

/// What a command said last, as a sentence can hold it.
fn last_line(output: &str) -> Option<String> {
    let line = output.lines().map(str::trim).rfind(|line| !line.is_empty())?;
    let shown: String = line.chars().filter(|c| !c.is_control()).take(LINE_CHARS_MAX).collect();
    let more = line.chars().nth(LINE_CHARS_MAX).is_some();
    Some(if more { format!("{shown}…") } else { shown })
}

fn spec(
    command: &Command<'_>,
    subject: &Subject<'_>,
    context: &Context,
    redactor: &mut Redactor,
) -> Result<CommandSpec, NotBegun> {
    let template = |place: &str, source| NotBegun::Template { place: place.to_owned(), source };
    let mut argv = Vec::with_capacity(command.argv.len());
    for (at, argument) in command.argv.iter().enumerate() {
        if at == 0 {
            template::check_literal(argument).map_err(|error| template("the program", error))?;
            argv.push(argument.clone());
        } else {
            let rendered = template::render(argument, context, Place::Argument);
            argv.push(rendered.map_err(|error| template(&format!("argument {at}"), error))?);
        }
    }
    if let Some(directory) = command.directory {
        template::check_literal(directory).map_err(|error| template("the directory", error))?;
    }
    let mut spec = CommandSpec::new(argv, subject.timeout);
    spec.directory = command.directory.map(PathBuf::from);
    spec.inherit = command.inherit.to_vec();
    for (name, value) in command.env {
        let value = match value {
            TextOrSecret::Text(text) => {
                let rendered = template::render(text, context, Place::Plain);
                SecretString::from(rendered.map_err(|error| template(name, error))?)
            }
            TextOrSecret::Secret { prefix, secret } => {
                let secret = secret::read(secret).map_err(|source| NotBegun::Secret { name: name.clone(), source })?;
                redactor.add(&secret);
                SecretString::from(format!("{prefix}{}", secret.expose_secret()))
            }
        };
        spec.env.insert(name.clone(), value);
    }
    // After the operator's own: these names are ours.
    spec.env.extend(variables(subject)?);
    Ok(spec)
}

/// What a command learns of the incident (DESIGN §7). What the step is about must fit, or it does not run. A label or
/// a captured value that does not fit is left out: the step need not care about it, and a template that does fails.
fn variables(subject: &Subject<'_>) -> Result<BTreeMap<String, SecretString>, NotBegun> {
    let release = |release: Option<&crate::decide::event::Release>| release.map(ToString::to_string);
    let needed = [
        ("INCIDENT", subject.incident.map(ToString::to_string)),
        ("SERVICE", Some(subject.service.to_owned())),
        ("RELEASE_BAD", release(subject.bad)),
        ("RELEASE_TARGET", release(subject.target)),
        ("RELEASE_RUNNING", release(subject.running)),
        ("EXPECT_RELEASE", release(subject.expect_release)),
        // As people count them.
        ("LEVEL", subject.level.map(|level| (level + 1).to_string())),
        ("STEP", subject.attempt.map(|attempt| (attempt.step + 1).to_string())),
        ("ATTEMPT", subject.attempt.map(|attempt| attempt.attempt.to_string())),
        ("IDEMPOTENCY_KEY", subject.idempotency_key.map(str::to_owned)),
        ("TRIGGER", subject.variables.get("trigger").cloned()),
    ];
    let mut variables = BTreeMap::new();
    for (name, value) in needed {
        let (name, Some(value)) = (format!("BACKSTOP_{name}"), value) else { continue };
        if !is_safe_value(&value) {
            return Err(NotBegun::Value { name, value: shown(&value) });
        }
        variables.insert(name, SecretString::from(value));
    }
    let value = subject.variables.get("value").map(|value| ("BACKSTOP_VALUE".to_owned(), value));
    let labels = subject.variables.iter().filter_map(|(name, value)| Some((name.strip_prefix("labels.")?, value)));
    let labels = labels.map(|(name, value)| (format!("BACKSTOP_LABEL_{name}"), value));
    let captures = subject.captures.iter().map(|(name, value)| (format!("BACKSTOP_CAPTURE_{name}"), value));
    let is_name = |name: &str| name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    for (name, value) in value.into_iter().chain(labels).chain(captures) {
        if is_name(&name) && is_safe_value(value) {
            variables.insert(name, SecretString::from(value.as_str()));
        }
    }
    Ok(variables)
}

fn done(end: CommandEnd, program: &str, timeout: Duration) -> Done {
    let (outcome, mut detail) = match end.outcome {
        CommandOutcome::Exited(0) => (Outcome::Succeeded, "exit status 0".to_owned()),
        CommandOutcome::Exited(code) => (Outcome::Failed, format!("exit status {code}")),
        CommandOutcome::Signalled(signal) => (Outcome::Failed, format!("ended by signal {signal}")),
        CommandOutcome::NotFound => (Outcome::Failed, format!("there is no program {program}")),
        CommandOutcome::NotExecutable => {
            (Outcome::Failed, format!("{program} cannot be executed: look at its permissions and its first line"))
        }
        CommandOutcome::NotStarted(why) => (Outcome::Failed, format!("not started: {why}")),
        CommandOutcome::TimedOut => (Outcome::TimedOut, format!("deadline of {}", humantime::format_duration(timeout))),
        CommandOutcome::Lost(why) => (Outcome::Ambiguous, why),
    };
    if !end.left_behind.is_empty() {
        let pids: Vec<String> = end.left_behind.iter().map(u32::to_string).collect();
        detail.push_str("; these processes could not be ended: ");
        detail.push_str(&pids.join(", "));
    }
    let cut = if end.truncated { Cut::Start } else { Cut::No };
    Done { outcome, detail, output: end.output, cut, captures: BTreeMap::new() }
}
