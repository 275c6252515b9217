//! `backstop run`

use std::path::PathBuf;
use std::process::ExitCode;

use super::failure::{Exit, Failure};

#[derive(Debug, clap::Args)]
pub struct RunArgs {
    /// Configuration files; they merge
    #[arg(required = true, value_name = "FILE")]
    pub files: Vec<PathBuf>,
}

#[must_use]
pub fn run(_args: &RunArgs) -> ExitCode {
    Failure::new(Exit::Unavailable, "not built yet").tell()
}
