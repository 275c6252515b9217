//! `backstop demo`

use std::process::ExitCode;

use super::failure::{Exit, Failure};

#[derive(Debug, clap::Args)]
#[expect(clippy::struct_excessive_bools, reason = "four flags that exclude each other, as clap has them")]
pub struct DemoArgs {
    /// The new release is good: nothing is rolled back
    #[arg(long, group = "variant")]
    pub healthy: bool,
    /// The service was bad before: it escalates instead
    #[arg(long, group = "variant")]
    pub broken_before: bool,
    /// The rollback does not help: it climbs, then calls a person
    #[arg(long, group = "variant")]
    pub unhelpful: bool,
    /// The new release dies at start
    #[arg(long, group = "variant")]
    pub crash: bool,
}

#[must_use]
pub fn run(_args: &DemoArgs) -> ExitCode {
    Failure::new(Exit::Unavailable, "not built yet").tell()
}
