//! Carries out steps and asks checks, one file per kind.

mod answer;
mod command;
mod http;
mod redact;
pub mod template;

use std::collections::BTreeMap;
use std::time::Duration;

use crate::decide::event::{Action, Ask, Attempt, CheckOutcome, IncidentId, Outcome, Release, StepResult};
use crate::machine::output::{CheckOrder, StepOrder};
use crate::platform::clock::Clock;
use crate::platform::http::ClientError;
use redact::Redactor;
use template::Context;

/// Runs steps. Holds no state of any incident.
#[derive(Clone, Debug)]
pub struct Executor {
    clock: Clock,
    http: reqwest::Client,
}

/// What a step or a check is about: what its templates and its variables may use.
#[derive(Clone, Copy, Debug)]
pub struct Subject<'a> {
    incident: Option<&'a IncidentId>,
    service: &'a str,
    level: Option<usize>,
    attempt: Option<Attempt>,
    /// Of a step; a check changes nothing and needs none.
    idempotency_key: Option<&'a str>,
    expect_release: Option<&'a Release>,
    bad: Option<&'a Release>,
    target: Option<&'a Release>,
    running: Option<&'a Release>,
    variables: &'a BTreeMap<String, String>,
    captures: &'a BTreeMap<String, String>,
    timeout: Duration,
}

impl<'a> From<&'a StepOrder> for Subject<'a> {
    fn from(order: &'a StepOrder) -> Subject<'a> {
        Subject {
            incident: Some(&order.incident),
            service: &order.service,
            level: Some(order.attempt.level),
            attempt: Some(order.attempt),
            idempotency_key: Some(&order.idempotency_key),
            expect_release: order.expect_release.as_ref(),
            bad: order.bad.as_ref(),
            target: order.target.as_ref(),
            running: order.running.as_ref(),
            variables: &order.variables,
            captures: &order.captures,
            timeout: order.step.timeout,
        }
    }
}

impl<'a> From<&'a CheckOrder> for Subject<'a> {
    fn from(order: &'a CheckOrder) -> Subject<'a> {
        Subject {
            incident: order.incident.as_ref(),
            service: &order.service,
            level: order.level,
            attempt: order.attempt,
            idempotency_key: None,
            expect_release: None,
            bad: order.bad.as_ref(),
            target: order.target.as_ref(),
            running: order.running.as_ref(),
            variables: &order.variables,
            captures: &order.captures,
            timeout: order.check.timeout,
        }
    }
}

/// What one try of a step came to, before it is made fit for the journal.
#[derive(Debug)]
struct Done {
    outcome: Outcome,
    detail: String,
    output: String,
    cut: Cut,
    captures: BTreeMap<String, String>,
}

/// Which end of the output is missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cut {
    No,
    Start,
    End,
}

impl Done {
    const fn new(outcome: Outcome, detail: String) -> Done {
        Done { outcome, detail, output: String::new(), cut: Cut::No, captures: BTreeMap::new() }
    }

    /// The step failed before it touched anything: a template, a secret, a value that may not be passed on.
    fn not_begun(why: impl std::fmt::Display) -> Done {
        Done::new(Outcome::Failed, format!("not started: {why}"))
    }
}

impl Executor {
    /// Fails when no HTTP client can be built, so that this shows at the start and not in an incident.
    pub fn new(clock: Clock) -> Result<Executor, ClientError> {
        Ok(Executor { clock, http: http::client(http::CONNECT_TIMEOUT)? })
    }

    /// Carries out one attempt. `started` is called once the command's process runs, with its number and its start
    /// time, or right before a request is sent; not at all when the step fails before that.
    ///
    /// Dropping the future ends a command and abandons a request; whether it took effect is then not known.
    pub async fn run(&self, order: &StepOrder, started: impl FnOnce(Option<u32>, Option<String>) + Send) -> StepResult {
        let begun = self.clock.monotonic();
        let subject = Subject::from(order);
        let context = Context::of(subject);
        let mut redactor = Redactor::default();
        let done = match &order.step.action {
            Action::Command { argv, env, inherit, directory } => {
                let command = command::Command { argv, env, inherit, directory: directory.as_deref() };
                command::run(&command, &subject, &context, &mut redactor, started).await
            }
            Action::Http { method, url, headers, body, expect, captures } => {
                let request = http::Request { method, url, headers, body, expect, captures };
                http::run(&self.http, &request, &subject, &context, &mut redactor, started).await
            }
        };
        let took = self.clock.monotonic().since(begun);
        StepResult {
            outcome: done.outcome,
            detail: redactor.redact(&done.detail, Cut::No),
            output: redactor.redact(&done.output, done.cut),
            truncated: done.cut != Cut::No,
            captures: done.captures,
            duration_ms: u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
        }
    }

    /// Asks one question. Dropping the future ends its command and abandons its request.
    pub async fn check(&self, order: &CheckOrder) -> CheckOutcome {
        let subject = Subject::from(order);
        let context = Context::of(subject);
        let mut redactor = Redactor::default();
        let outcome = match &order.check.ask {
            Ask::Command { argv, env, inherit, directory } => {
                let command = command::Command { argv, env, inherit, directory: directory.as_deref() };
                command::ask(&command, &subject, &context, &mut redactor).await
            }
            Ask::Http { method, url, headers, body, expect, json } => {
                let request = http::Request { method, url, headers, body, expect, captures: &[] };
                http::ask(&self.http, &request, json, &subject, &context, &mut redactor).await
            }
        };
        match outcome {
            CheckOutcome::Passed => CheckOutcome::Passed,
            CheckOutcome::Failed(why) => CheckOutcome::Failed(redactor.redact(&why, Cut::No)),
            CheckOutcome::Unknown(why) => CheckOutcome::Unknown(redactor.redact(&why, Cut::No)),
        }
    }
}

#[cfg(test)]
mod tests;
