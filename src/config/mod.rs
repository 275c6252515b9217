//! The operator's file: a walk over the TOML tree that collects every error with its place, and compiles into values
//! that are valid by construction.

pub mod model;

/// One mistake (or warning) with its place; how it is rendered is the loader's matter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    pub file: std::path::PathBuf,
    /// Byte range in the file.
    pub span: std::ops::Range<usize>,
    /// From 1.
    pub line: usize,
    /// From 1, in characters.
    pub column: usize,
    pub message: String,
    /// The way out.
    pub help: Option<String>,
}
