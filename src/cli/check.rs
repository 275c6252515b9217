//! `backstop check`

use std::path::PathBuf;

use serde_json::{Value, json};

use super::config;
use super::failure::{Exit, Failure, print, print_json};
use crate::config::Diagnostic;
use crate::config::model::Config;

const AFTER_HELP: &str = "\
Exit code 0 if the daemon would run with these files (there may be warnings), 64 if not. Secrets are not read, and \
nothing is contacted.

Examples:
  backstop check /etc/backstop/backstop.toml
  backstop check --json conf.d/*.toml | jq '.errors[] | {file, line, message}'";

#[derive(Debug, clap::Args)]
#[command(after_help = AFTER_HELP)]
pub(super) struct Args {
    /// Configuration files; they merge
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Print mistakes and warnings as JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &Args) -> Result<(), Failure> {
    if !args.json {
        return print(&summary(&config::read_or_tell(&args.files)?));
    }
    let (errors, warnings) = match config::read(&args.files) {
        Ok(config) => (Vec::new(), config.warnings),
        Err(report) => (report.errors, report.warnings),
    };
    let shown = |diagnostics: &[Diagnostic]| diagnostics.iter().map(diagnostic).collect::<Vec<_>>();
    let valid = errors.is_empty();
    print_json(&json!({ "valid": valid, "errors": shown(&errors), "warnings": shown(&warnings) }))?;
    if valid { Ok(()) } else { Err(Failure::new(Exit::Usage, "")) }
}

fn diagnostic(diagnostic: &Diagnostic) -> Value {
    let also = diagnostic.also.iter().map(|place| json!({ "file": place.file, "label": place.label }));
    json!({
        "file": diagnostic.file,
        "line": diagnostic.line,
        "column": diagnostic.column,
        "message": diagnostic.message,
        "label": diagnostic.label,
        "help": diagnostic.help,
        "also": also.collect::<Vec<_>>(),
    })
}

fn summary(config: &Config) -> String {
    let services = &config.rules.services;
    let triggers: usize = services.iter().map(|service| service.triggers.len()).sum();
    let counted = |n: usize, one: &str| if n == 1 { format!("1 {one}") } else { format!("{n} {one}s") };
    format!(
        "valid: {}, {}, {} (configuration {})",
        counted(services.len(), "service"),
        counted(triggers, "trigger"),
        counted(config.receivers.len(), "receiver"),
        config.rules.hash
    )
}
