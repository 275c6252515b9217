//! The operator's file: a walk over the TOML tree that collects every error with its place, and compiles into values
//! that are valid by construction.
//!
//! The way of a file: `load` reads, `tree` turns TOML into nodes that know their places and merges several files,
//! `cursor` takes keys and reports what nobody asked for, `compile` builds [`model::Config`], `report` shows what was
//! wrong. Only `load` touches the world.

mod compile;
mod cursor;
mod diff;
mod load;
mod mask;
pub mod model;
mod places;
mod report;
mod scalar;
mod suggest;
#[cfg(test)]
mod tests;
mod tree;

use std::path::PathBuf;

pub use diff::diff;
pub use load::load;
pub use report::{Report, Style};

use cursor::Cx;
pub use model::Config;

/// One mistake (or warning) with its place; [`Report::render`] shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    pub file: PathBuf,
    /// Byte range in the file.
    pub span: std::ops::Range<usize>,
    /// From 1.
    pub line: usize,
    /// From 1, in characters.
    pub column: usize,
    pub message: String,
    /// A few words beside the caret.
    pub label: Option<String>,
    /// The way out.
    pub help: Option<String>,
    /// Other places that belong to it, such as the first of two definitions.
    pub also: Vec<Elsewhere>,
}

/// A second place of a [`Diagnostic`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Elsewhere {
    pub file: PathBuf,
    pub span: std::ops::Range<usize>,
    pub label: String,
}

/// One file of the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// As it is shown; nothing is read from it.
    pub path: PathBuf,
    pub text: String,
}

/// What the text may depend on besides itself.
#[derive(Clone, Copy)]
pub struct Environment<'a> {
    /// Looks up `${NAME}`.
    pub variable: &'a dyn Fn(&str) -> Option<String>,
    /// The default of `daemon.instance`.
    pub hostname: &'a str,
}

impl std::fmt::Debug for Environment<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Environment").field("hostname", &self.hostname).finish_non_exhaustive()
    }
}

/// Compiles the texts of one or several files. Pure: secrets are not read, addresses not resolved. All mistakes of all
/// files come back at once.
pub fn parse(sources: &[Source], environment: &Environment<'_>, generation: u64) -> Result<Config, Report> {
    let cx = Cx::new(sources, environment);
    parse_in(&cx, generation)
}

fn parse_in(cx: &Cx<'_>, generation: u64) -> Result<Config, Report> {
    let entries = tree::read(cx);
    let compiled = compile::config(cx, &entries, generation);
    let shown = mask::sources(cx, &entries);
    let (errors, warnings) = cx.diagnostics();
    match compiled {
        Some(mut config) if errors.is_empty() => {
            config.warnings = warnings;
            config.sources = shown.into();
            Ok(config)
        }
        Some(_) | None => Err(Report::new(errors, warnings, shown)),
    }
}

impl Config {
    /// What is allowed but probably not meant, shown like errors; `None` when there is nothing to say.
    #[must_use]
    pub fn render_warnings(&self, style: Style) -> Option<String> {
        let report = Report::new(Vec::new(), self.warnings.clone(), self.sources.to_vec());
        (!self.warnings.is_empty()).then(|| report.render(style))
    }
}
