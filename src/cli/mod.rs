//! The command line, one file per subcommand.
//!
//! Everything but `run`, `demo`, `check`, `explain` and `eval` talks to a running daemon (`client`). Tables are for people,
//! `--json` is for programs: it prints what the API answered.

mod audit;
mod check;
mod client;
mod config;
pub mod demo;
mod eval;
mod explain;
mod failure;
mod forget;
mod incidents;
mod journal;
mod kill_switch;
mod look;
mod memory;
mod pause;
mod release;
mod report;
mod respond;
mod rollback;
pub mod run;
mod signal;
mod status;
mod table;
mod test_notify;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use failure::Exit;

const AFTER_HELP: &str = "\
Examples:
  backstop demo                                   see a broken release rolled back, on this machine
  backstop check /etc/backstop/*.toml             find every mistake of the configuration at once
  backstop run /etc/backstop/backstop.toml        watch, decide, roll back
  backstop status                                 what runs, what breaches, what is not known
  backstop rollback api --reason 'checkout fails' roll back by hand
  backstop report api-17 > incident.md            the report of an incident

Exit codes:
  0   done
  1   the daemon could not start, or ended because of an error, which its log names
  64  wrong arguments, or a configuration with mistakes
  65  the daemon refused: no such thing, or not now
  69  the daemon, or its journal, cannot be reached
  74  the answer could not be written
  77  not allowed: the socket's permissions, or the token";

/// Watches services, rolls a bad release back, proves that it recovered, and tells everyone who must know.
#[derive(Debug, Parser)]
#[command(name = "backstop", version, after_long_help = AFTER_HELP, after_help = AFTER_HELP, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the daemon
    Run(run::RunArgs),
    /// Show a broken release being rolled back, on this machine
    Demo(demo::DemoArgs),
    /// The shop of the demo; `demo` starts it
    #[command(hide = true)]
    DemoShop(demo::shop::ShopArgs),
    /// Check configuration files: every mistake with its place and the way out
    Check(check::Args),
    /// Show what the triggers ask, as the tree that is evaluated
    Explain(explain::Args),
    /// Try an expression on live metrics, before it becomes a trigger
    Eval(eval::Args),
    /// Show what runs, what breaches, and what is not known
    Status(status::Args),
    /// List incidents, the latest first
    Incidents(incidents::Args),
    /// Print the report of an incident as Markdown
    Report(report::Args),
    /// Show who did what, from the journal
    Audit(audit::Args),
    /// Roll a service back by hand
    Rollback(rollback::Args),
    /// Approve a proposed rollback
    Approve(respond::AnswerArgs),
    /// Decline a proposed rollback
    Decline(respond::AnswerArgs),
    /// Say that a person has taken over: stops the reminders
    Acknowledge(respond::ReasonArgs),
    /// Keep backstop from acting for a while, to fix it forward
    Hold(respond::HoldArgs),
    /// End a hold before its time
    Unhold(respond::ReasonArgs),
    /// Go on without the step that waits
    Skip(respond::SkipArgs),
    /// Stop an incident after the step that runs
    Abort(respond::ReasonArgs),
    /// Start no rollback for a while
    Pause(pause::PauseArgs),
    /// End a pause
    Resume(pause::ResumeArgs),
    /// Stop backstop from beginning anything, until it is turned off again
    KillSwitch(kill_switch::Args),
    /// Raise or clear a signal, such as "critical vulnerability"
    Signal(signal::Args),
    /// Tell that a deployment begins or has ended
    Release(release::Args),
    /// Clear the bad mark of a release, so that it counts as a way back again
    Forget(forget::Args),
    /// Send a test notice to the receivers
    TestNotify(test_notify::Args),
}

/// Runs one command line. `args` begins with the program's name.
#[must_use]
pub fn main(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let cli = match Cli::try_parse_from(args) {
        Ok(cli) => cli,
        Err(error) => {
            let exit = if error.use_stderr() { Exit::Usage } else { Exit::Done };
            return match error.print() {
                Ok(()) => exit.into(),
                Err(_) => Exit::Output.into(),
            };
        }
    };
    let done = match &cli.command {
        Command::Run(args) => return run::run(args),
        Command::Demo(args) => return demo::run(args),
        Command::DemoShop(args) => return demo::shop::run(args),
        Command::Check(args) => check::run(args),
        Command::Explain(args) => explain::run(args),
        Command::Eval(args) => eval::run(args),
        Command::Status(args) => status::run(args),
        Command::Incidents(args) => incidents::run(args),
        Command::Report(args) => report::run(args),
        Command::Audit(args) => audit::run(args),
        Command::Rollback(args) => rollback::run(args),
        Command::Approve(args) => respond::answer(args, "approve"),
        Command::Decline(args) => respond::answer(args, "decline"),
        Command::Acknowledge(args) => respond::reason(args, "acknowledge"),
        Command::Hold(args) => respond::hold(args),
        Command::Unhold(args) => respond::reason(args, "unhold"),
        Command::Skip(args) => respond::skip(args),
        Command::Abort(args) => respond::reason(args, "abort"),
        Command::KillSwitch(args) => kill_switch::run(args),
        Command::Pause(args) => pause::pause(args),
        Command::Resume(args) => pause::resume(args),
        Command::Signal(args) => signal::run(args),
        Command::Release(args) => release::run(args),
        Command::Forget(args) => forget::run(args),
        Command::TestNotify(args) => test_notify::run(args),
    };
    match done {
        Ok(()) => Exit::Done.into(),
        Err(failure) => failure.tell(),
    }
}
