//! Configuration files on the command line: read, and shown when they are wrong.

use std::io::{self, IsTerminal};
use std::path::PathBuf;

use super::failure::{Exit, Failure};
use crate::config::model::Config;
use crate::config::{self, Environment, Report, Style};

/// Every mistake of every file comes back in the report.
pub(super) fn read(files: &[PathBuf]) -> Result<Config, Report> {
    let uname = rustix::system::uname();
    let hostname = uname.nodename().to_string_lossy();
    let variable = |name: &str| std::env::var(name).ok();
    config::load(files, &Environment { variable: &variable, hostname: &hostname }, 1)
}

/// Shows warnings and errors on standard error. Mistakes are exit code 64, and told here.
pub(super) fn read_or_tell(files: &[PathBuf]) -> Result<Config, Failure> {
    match read(files) {
        Ok(config) => {
            if let Some(warnings) = config.render_warnings(style()) {
                tell(&warnings);
            }
            Ok(config)
        }
        Err(report) => {
            tell(&report.render(style()));
            Err(Failure::new(Exit::Usage, ""))
        }
    }
}

/// Not through `failure::clean`: colours are escape sequences. The renderer replaces control characters of the files.
pub(super) fn tell(text: &str) {
    // Nobody is left to tell when standard error is closed; the exit code says it too.
    drop(io::Write::write_all(&mut io::stderr(), text.as_bytes()));
}

pub(super) fn style() -> Style {
    let plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    if io::stderr().is_terminal() && !plain { Style::Coloured } else { Style::Plain }
}
