//! Shows diagnostics: file, line, column, the line itself, a mark under the exact value, and the way out.

use std::fmt;
use std::path::Path;

use annotate_snippets::{AnnotationKind, Group, Level, Origin, Renderer, Snippet};

use super::{Diagnostic, Source};

/// For whom a report is rendered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    Plain,
    /// With terminal colours.
    Coloured,
}

/// Everything that is wrong with a configuration, with the texts that show where.
#[derive(Clone, PartialEq, Eq)]
pub struct Report {
    /// In the order of the files. Empty only in a report of warnings.
    pub errors: Vec<Diagnostic>,
    pub warnings: Vec<Diagnostic>,
    /// Secrets are covered in these.
    sources: Vec<Source>,
}

impl Report {
    pub(super) fn new(errors: Vec<Diagnostic>, warnings: Vec<Diagnostic>, sources: Vec<Source>) -> Report {
        Report { errors, warnings, sources }
    }

    /// Every error, or where there is none every warning, and how many there are. Warnings beside errors would only
    /// hide them: they are shown once the errors are gone.
    #[must_use]
    pub fn render(&self, style: Style) -> String {
        let renderer = match style {
            Style::Plain => Renderer::plain(),
            Style::Coloured => Renderer::styled(),
        };
        let mut out = String::new();
        let (diagnostics, level) = match self.errors.as_slice() {
            [] => (&self.warnings, Level::WARNING),
            [..] => (&self.errors, Level::ERROR),
        };
        for diagnostic in diagnostics {
            out.push_str(&renderer.render(&[self.group(diagnostic, level.clone())]));
            out.push_str("\n\n");
        }
        out.push_str(&self.summary());
        out.push('\n');
        out
    }

    /// `3 errors`, or `1 warning`.
    #[must_use]
    pub fn summary(&self) -> String {
        let (n, word) = match (self.errors.len(), self.warnings.len()) {
            (0, warnings) => (warnings, "warning"),
            (errors, _) => (errors, "error"),
        };
        if n == 1 { format!("1 {word}") } else { format!("{n} {word}s") }
    }

    fn text_of(&self, path: &Path) -> &str {
        self.sources.iter().find(|source| source.path == path).map_or("", |source| source.text.as_str())
    }

    fn group<'r>(&'r self, diagnostic: &'r Diagnostic, level: Level<'r>) -> Group<'r> {
        let title = level.primary_title(diagnostic.message.as_str());
        let text = self.text_of(&diagnostic.file);
        let path = diagnostic.file.display().to_string();
        let mut group = title.element_or_origin(text, path, diagnostic);
        for elsewhere in diagnostic.also.iter().filter(|elsewhere| elsewhere.file != diagnostic.file) {
            let text = self.text_of(&elsewhere.file);
            let annotation =
                AnnotationKind::Context.span(on_one_line(text, &elsewhere.span)).label(elsewhere.label.as_str());
            let snippet = Snippet::source(text).path(elsewhere.file.display().to_string()).annotation(annotation);
            group = group.element(snippet);
        }
        match &diagnostic.help {
            Some(help) => group.element(Level::HELP.message(without_controls(help))),
            None => group,
        }
    }
}

/// A key may hold an escape sequence; only titles are made harmless by the renderer.
fn without_controls(text: &str) -> String {
    let harmless = |letter: char| if letter.is_control() && letter != '\n' { '\u{fffd}' } else { letter };
    text.chars().map(harmless).collect()
}

trait Placed<'r> {
    fn element_or_origin(self, text: &'r str, path: String, diagnostic: &'r Diagnostic) -> Group<'r>;
}

impl<'r> Placed<'r> for annotate_snippets::Title<'r> {
    /// A file without text has a name only.
    fn element_or_origin(self, text: &'r str, path: String, diagnostic: &'r Diagnostic) -> Group<'r> {
        if text.is_empty() {
            return self.element(Origin::path(path));
        }
        let mut primary = AnnotationKind::Primary.span(on_one_line(text, &diagnostic.span));
        if let Some(label) = &diagnostic.label {
            primary = primary.label(label.as_str());
        }
        let mut snippet = Snippet::source(text).path(path).annotation(primary);
        for elsewhere in diagnostic.also.iter().filter(|elsewhere| elsewhere.file == diagnostic.file) {
            let span = on_one_line(text, &elsewhere.span);
            snippet = snippet.annotation(AnnotationKind::Context.span(span).label(elsewhere.label.as_str()));
        }
        self.element(snippet)
    }
}

/// The first line of a span, at whole characters.
fn on_one_line(text: &str, span: &std::ops::Range<usize>) -> std::ops::Range<usize> {
    let floor = |mut at: usize| {
        at = at.min(text.len());
        while !text.is_char_boundary(at) {
            at -= 1;
        }
        at
    };
    let start = floor(span.start);
    let end = floor(span.end).max(start);
    let line_end = text[start..end].find(['\n', '\r']).map_or(end, |at| start + at);
    start..line_end
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.render(Style::Plain))
    }
}

impl fmt::Debug for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.render(Style::Plain))
    }
}

impl std::error::Error for Report {}
