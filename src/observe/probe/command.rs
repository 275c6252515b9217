//! Command probes: exit code 0 is health.

use std::collections::BTreeMap;
use std::time::Duration;

use secrecy::SecretString;

use super::unreached;
use crate::decide::event::TextOrSecret;
use crate::machine::input::ProbeOutcome;
use crate::observe::blocking::Blocking;
use crate::observe::request::{NOT_IN_TIME, sentence};
use crate::platform::process::{self, CommandEnd, CommandOutcome, CommandSpec};
use crate::platform::secret;

/// Enough to say in one line why a check failed.
const OUTPUT_BYTES_MAX: usize = 4096;
const SHOWN_CHARS_MAX: usize = 200;
/// A check has nothing to tidy up: it ends soon after TERM or is killed.
pub const GRACE: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub struct CommandCheck {
    argv: Vec<String>,
    env: BTreeMap<String, TextOrSecret>,
    inherit: Vec<String>,
    limit: Duration,
    files: Blocking<Result<BTreeMap<String, SecretString>, String>>,
}

impl CommandCheck {
    pub fn new(
        argv: Vec<String>,
        env: BTreeMap<String, TextOrSecret>,
        inherit: Vec<String>,
        limit: Duration,
    ) -> CommandCheck {
        CommandCheck { argv, env, inherit, limit, files: Blocking::new() }
    }

    pub async fn once(&mut self) -> ProbeOutcome {
        let mut spec = CommandSpec::new(self.argv.clone(), self.limit);
        let env = self.env.clone();
        spec.env = match self.files.run(self.limit, move || resolved(env)).await {
            Some(Ok(env)) => env,
            Some(Err(why)) => return ProbeOutcome::Unsent(why),
            None => return ProbeOutcome::Unsent(NOT_IN_TIME.to_owned()),
        };
        spec.inherit.clone_from(&self.inherit);
        spec.grace = GRACE;
        spec.output_bytes_max = OUTPUT_BYTES_MAX;
        let end = process::run(spec, |_, _| ()).await;
        match &end.outcome {
            CommandOutcome::Exited(0) => ProbeOutcome::Up { status: None, release: None },
            CommandOutcome::Exited(_) | CommandOutcome::Signalled(_) | CommandOutcome::TimedOut => {
                // What the command asked, and whether that answered, its exit does not tell.
                unreached(with_output(ending(&end.outcome, self.limit), &end))
            }
            CommandOutcome::NotFound
            | CommandOutcome::NotExecutable
            | CommandOutcome::NotStarted(_)
            | CommandOutcome::Lost(_) => ProbeOutcome::Unsent(ending(&end.outcome, self.limit)),
        }
    }
}

/// With the secrets as they are now.
fn resolved(env: BTreeMap<String, TextOrSecret>) -> Result<BTreeMap<String, SecretString>, String> {
    let resolve = |(name, text)| match secret::resolve(&text) {
        Ok(value) => Ok((name, value)),
        Err(error) => Err(format!("{name}: {}", sentence(&error))),
    };
    env.into_iter().map(resolve).collect()
}

/// How a command ended, as a sentence without a subject's name.
pub fn ending(outcome: &CommandOutcome, limit: Duration) -> String {
    match outcome {
        CommandOutcome::Exited(code) => format!("it exited with {code}"),
        CommandOutcome::Signalled(signal) => format!("it was ended by signal {signal}"),
        CommandOutcome::TimedOut => format!("it did not end within {limit:?}"),
        CommandOutcome::NotFound => "there is no such program".to_owned(),
        CommandOutcome::NotExecutable => "the program cannot be executed".to_owned(),
        CommandOutcome::NotStarted(why) | CommandOutcome::Lost(why) => why.clone(),
    }
}

/// The last line of output is where programs say what went wrong.
fn with_output(ending: String, end: &CommandEnd) -> String {
    match end.output.lines().rev().map(str::trim).find(|line| !line.is_empty()) {
        None => ending,
        Some(line) => {
            let line: String = line.chars().filter(|c| !c.is_control()).take(SHOWN_CHARS_MAX).collect();
            format!("{ending}: {line}")
        }
    }
}
