//! `backstop approve`, `decline`, `acknowledge`, `hold`, `unhold`, `skip` and `abort`: a person's word on an incident.

use std::time::Duration;

use super::client::{Connect, parse, path};
use super::failure::{Exit, Failure, clean, print};
use super::table::duration;
use crate::serve::wire::{AnswerBody, HoldBody, IncidentBody, QuestionBody, ReasonBody, SkipBody};

const AFTER_HELP: &str = "\
Examples:
  backstop incidents --open                       which incidents wait for an answer
  backstop approve api-17
  backstop approve api-17 --question 2            only if it still asks what I have read
  backstop decline api-17 --reason 'fixed forward'
  backstop acknowledge api-17                     I am on it: no more reminders
  backstop hold api-17 --for 15m --reason 'the fix is being deployed'
  backstop unhold api-17
  backstop skip api-17 --step 2 --reason 'done by hand'
  backstop abort api-17 --reason 'we deploy a fix now'

An answer counts for the question that is shown: the release, the way back and the level. If it asks another one by \
then, the answer is refused; --question says which one you have read. The guard looks again. No answer within the time that the proposal names declines, unless on_silence says otherwise.";

#[derive(Debug, clap::Args)]
#[command(after_help = AFTER_HELP)]
pub(super) struct ReasonArgs {
    /// The incident, as `backstop incidents` lists it
    id: String,
    /// Why; it stands in the report
    #[arg(long, value_name = "TEXT", default_value = "")]
    reason: String,
    #[command(flatten)]
    connect: Connect,
}

#[derive(Debug, clap::Args)]
#[command(after_help = AFTER_HELP)]
pub(super) struct AnswerArgs {
    /// The incident, as `backstop incidents` lists it
    id: String,
    /// Why; it stands in the report
    #[arg(long, value_name = "TEXT", default_value = "")]
    reason: String,
    /// The number of the question that you have read; refused if it asks another one by now
    #[arg(long, value_name = "N")]
    question: Option<u32>,
    #[command(flatten)]
    connect: Connect,
}

#[derive(Debug, clap::Args)]
#[command(after_help = AFTER_HELP)]
pub(super) struct HoldArgs {
    /// The incident, as `backstop incidents` lists it
    id: String,
    /// How long; hold_max of the service limits it
    #[arg(long = "for", value_name = "DURATION", default_value = "15m", value_parser = duration, allow_hyphen_values = true)]
    duration: Duration,
    /// Why; it stands in the notices and in the report
    #[arg(long, value_name = "TEXT")]
    reason: String,
    #[command(flatten)]
    connect: Connect,
}

#[derive(Debug, clap::Args)]
#[command(after_help = AFTER_HELP)]
pub(super) struct SkipArgs {
    /// The incident, as `backstop incidents` lists it
    id: String,
    /// The step that is meant, counted from 1; refused if another one is next
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    step: Option<u16>,
    /// Why; it stands in the report
    #[arg(long, value_name = "TEXT")]
    reason: String,
    #[command(flatten)]
    connect: Connect,
}

/// The incident is read first and what it asks is shown, so that the answer binds to that: between a look at the incident
/// and an approval another release may have come. The daemon refuses what does not fit, and remembers that it did.
pub(super) fn answer(args: &AnswerArgs, verb: &str) -> Result<(), Failure> {
    let known = match args.connect.get(&path(&["incidents", &args.id])) {
        Ok(body) => Some(parse::<IncidentBody>(&body)?.summary),
        // The daemon's answer to the command names those that there are.
        Err(failure) if failure.exit() == Exit::Refused => None,
        Err(failure) => return Err(failure),
    };
    let is_asked = known.as_ref().is_some_and(|known| known.state == "proposed");
    let asks = known.and_then(|known| known.question);
    if args.question.is_some() && is_asked && asks.is_none() {
        let message = format!("nobody knows which question {} asks: it was asked by an older backstop", args.id);
        return Err(Failure::new(Exit::Refused, message).help("leave --question out to answer whatever it asks"));
    }
    if let (Some(question), false) = (&asks, args.connect.json) {
        print(&shown(&args.id, question))?;
    }
    let question = asks.map(|asks| QuestionBody { number: args.question.unwrap_or(asks.number), ..asks });
    let body = AnswerBody { reason: args.reason.clone(), question };
    args.connect.command(&path(&["incidents", &args.id, verb]), &body)
}

/// What is answered, in one line.
fn shown(id: &str, question: &QuestionBody) -> String {
    let QuestionBody { number, level, release_bad, release_target } = question;
    let name = |release: &Option<String>| clean(release.as_deref().unwrap_or("what is not known"));
    let (bad, target) = (name(release_bad), name(release_target));
    format!("{id} asks (question {number}) to roll back from {bad} to {target} at level {level}\n", id = clean(id))
}

/// `verb` is the last part of the route: `acknowledge`, `unhold`, `abort`.
pub(super) fn reason(args: &ReasonArgs, verb: &str) -> Result<(), Failure> {
    args.connect.command(&path(&["incidents", &args.id, verb]), &ReasonBody { reason: args.reason.clone() })
}

pub(super) fn hold(args: &HoldArgs) -> Result<(), Failure> {
    let body = HoldBody { duration: args.duration, reason: args.reason.clone() };
    args.connect.command(&path(&["incidents", &args.id, "hold"]), &body)
}

pub(super) fn skip(args: &SkipArgs) -> Result<(), Failure> {
    let body = SkipBody { step: args.step.map(usize::from), reason: args.reason.clone() };
    args.connect.command(&path(&["incidents", &args.id, "skip"]), &body)
}
