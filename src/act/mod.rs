//! Carries out steps, one file per kind.

mod command;
mod http;
mod redact;
pub mod template;

use std::collections::BTreeMap;

use crate::decide::event::{Action, Outcome, StepResult};
use crate::machine::output::StepOrder;
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
        let context = Context::of(order);
        let mut redactor = Redactor::default();
        let done = match &order.step.action {
            Action::Command { argv, env, inherit, directory } => {
                let command = command::Command { argv, env, inherit, directory: directory.as_deref() };
                command::run(&command, order, &context, &mut redactor, started).await
            }
            Action::Http { method, url, headers, body, expect, captures } => {
                let request = http::Request { method, url, headers, body, expect, captures };
                http::run(&self.http, &request, order, &context, &mut redactor, started).await
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
}

#[cfg(test)]
mod tests;
