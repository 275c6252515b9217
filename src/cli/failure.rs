//! How a command ends: exit codes after sysexits(3), and the text that goes with them.

use std::error::Error;
use std::io::{self, Write};
use std::process::ExitCode;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Exit {
    Done = 0,
    /// `EX_USAGE`: arguments or configuration.
    Usage = 64,
    /// `EX_DATAERR`: understood and refused.
    Refused = 65,
    /// `EX_UNAVAILABLE`
    Unavailable = 69,
    /// `EX_IOERR`: our own output.
    Output = 74,
    /// `EX_NOPERM`
    NotAllowed = 77,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> ExitCode {
        ExitCode::from(exit as u8)
    }
}

/// Why a command did not do what it was asked.
#[derive(Debug)]
pub(super) struct Failure {
    exit: Exit,
    message: String,
    /// The way out.
    help: Option<String>,
}

impl Failure {
    pub fn new(exit: Exit, message: impl Into<String>) -> Failure {
        Failure { exit, message: message.into(), help: None }
    }

    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Failure {
        self.help = Some(help.into());
        self
    }

    /// Another way out, after the first.
    #[must_use]
    pub fn also(mut self, help: &str) -> Failure {
        self.help = Some(self.help.map_or_else(|| help.to_owned(), |first| format!("{first}; {help}")));
        self
    }

    pub fn exit(&self) -> Exit {
        self.exit
    }

    /// With the causes of `error`, each once.
    pub fn because(exit: Exit, what: &str, error: &dyn Error) -> Failure {
        Failure::new(exit, format!("{what}: {}", chain(error)))
    }

    /// Prints it, and gives the exit code. An empty message was told already.
    pub fn tell(&self) -> ExitCode {
        if !self.message.is_empty() {
            // Nobody is left to tell when standard error is closed.
            drop(writeln!(io::stderr(), "error: {}", clean(&self.message)));
        }
        if let Some(help) = &self.help {
            drop(writeln!(io::stderr(), "  help: {}", clean(help)));
        }
        self.exit.into()
    }
}

/// An error and its causes in one line; a cause that the text before it already contains is left out.
pub(super) fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.contains(&more) {
            text.push_str(": ");
            text.push_str(&more);
        }
        cause = error.source();
    }
    text
}

/// Writes to standard output. A reader that has seen enough (`| head`) is not an error.
pub(super) fn print(text: &str) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    let mut written = out.write_all(text.as_bytes());
    if written.is_ok() && !text.ends_with('\n') {
        written = out.write_all(b"\n");
    }
    match written.and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Failure::because(Exit::Output, "the answer could not be written", &error))
        }
        Ok(()) | Err(_) => Ok(()),
    }
}

pub(super) fn print_json(value: &serde_json::Value) -> Result<(), Failure> {
    match serde_json::to_string_pretty(value) {
        Ok(text) => print(&text),
        Err(error) => Err(Failure::because(Exit::Output, "the answer could not be written as JSON", &error)),
    }
}

/// Text from outside for a terminal: no escape sequence gets through.
pub(super) fn clean(text: &str) -> String {
    text.chars().map(|c| if c.is_control() && c != '\n' { '\u{fffd}' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_escape_sequence_reaches_the_terminal() {
        assert_eq!(clean("a\u{1b}[2Jb\r\nc"), "a\u{fffd}[2Jb\u{fffd}\nc");
    }

    #[test]
    fn a_cause_is_said_once() {
        #[derive(Debug, thiserror::Error)]
        #[error("cannot read the file")]
        struct Outer(#[source] io::Error);
        let outer = Outer(io::Error::other("no such disk"));
        assert_eq!(chain(&outer), "cannot read the file: no such disk");
        assert_eq!(chain(&io::Error::other(outer)), "cannot read the file: no such disk");
    }
}
