//! Where something stands, and one problem with it.

use super::{Diagnostic, Elsewhere, Source};

/// A byte range of one of the sources.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    pub file: usize,
    pub start: usize,
    pub end: usize,
}

/// A mistake or warning before it is shown.
#[derive(Clone, Debug)]
pub(super) struct Problem {
    place: Place,
    message: String,
    label: Option<String>,
    help: Option<String>,
    also: Vec<(Place, String)>,
}

impl Problem {
    pub fn at(place: Place, message: impl Into<String>) -> Problem {
        Problem { place, message: message.into(), label: None, help: None, also: Vec::new() }
    }

    pub fn label(mut self, label: impl Into<String>) -> Problem {
        self.label = Some(label.into());
        self
    }

    pub fn help(mut self, help: impl Into<String>) -> Problem {
        self.help = Some(help.into());
        self
    }

    pub fn help_if(mut self, help: Option<String>) -> Problem {
        self.help = help.or(self.help);
        self
    }

    pub fn also(mut self, place: Place, label: impl Into<String>) -> Problem {
        self.also.push((place, label.into()));
        self
    }

    pub fn place(&self) -> Place {
        self.place
    }

    /// The same thing at the same place.
    pub fn is_like(&self, other: &Problem) -> bool {
        self.place == other.place && self.message == other.message
    }

    pub fn into_diagnostic(self, sources: &[Source]) -> Diagnostic {
        let source = &sources[self.place.file];
        let (line, column) = line_and_column(&source.text, self.place.start);
        let elsewhere = |(place, label): (Place, String)| Elsewhere {
            file: sources[place.file].path.clone(),
            span: place.start..place.end,
            label,
        };
        Diagnostic {
            file: source.path.clone(),
            span: self.place.start..self.place.end,
            line,
            column,
            message: self.message,
            label: self.label,
            help: self.help,
            also: self.also.into_iter().map(elsewhere).collect(),
        }
    }
}

/// Both from 1; the column in characters.
pub(super) fn line_and_column(text: &str, offset: usize) -> (usize, usize) {
    let before = text.get(..offset).unwrap_or(text);
    let start_of_line = before.rfind('\n').map_or(0, |at| at + 1);
    (before.matches('\n').count() + 1, before[start_of_line..].chars().count() + 1)
}
