//! Why a scrape body was refused, in sentences for an operator.

use std::fmt;

/// As many bytes of a refused line are shown at most.
const EXCERPT_BYTES: usize = 120;

/// A scrape body that is refused as a whole: the line that decided it, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScanError {
    /// Counted from 1; 0 when it is not about a line but about the content type.
    pub line: usize,
    pub reason: Reason,
    /// The beginning of the line, at most 120 bytes of it, control characters escaped.
    pub excerpt: String,
}

impl ScanError {
    pub(super) fn new(line: usize, reason: Reason, bytes: &[u8]) -> ScanError {
        let shown = &bytes[..bytes.len().min(EXCERPT_BYTES)];
        let mut excerpt = String::new();
        for c in String::from_utf8_lossy(shown).chars() {
            if c.is_control() {
                excerpt.extend(c.escape_default());
            } else {
                excerpt.push(c);
            }
        }
        if shown.len() < bytes.len() {
            excerpt.push('…');
        }
        ScanError { line, reason, excerpt }
    }
}

impl fmt::Display for ScanError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.line == 0 {
            return write!(f, "{}", self.reason);
        }
        write!(f, "line {}: {}: {}", self.line, self.reason, self.excerpt)
    }
}

impl std::error::Error for ScanError {}

/// What is wrong with a body or a line of it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Reason {
    #[error("the content type {given:?} is not a Prometheus or OpenMetrics text exposition: {why}")]
    ContentType { given: String, why: &'static str },
    #[error("the body is empty; an exposition has at least one line")]
    Empty,
    #[error("the body ends in the middle of a line, so it was cut short")]
    CutShort,
    #[error("the body does not end with \"# EOF\" as OpenMetrics demands, so it was cut short")]
    NoEof,
    #[error("there is something after \"# EOF\"")]
    AfterEof,
    #[error("a blank where OpenMetrics allows none")]
    Blank,
    #[error("this is not a line of an exposition: it begins neither with a metric name nor with \"#\"")]
    NotALine,
    #[error("the series has no metric name")]
    NoName,
    #[error("the metric name is given twice")]
    NameTwice,
    #[error("a label name is expected here")]
    LabelName,
    #[error("\"=\" is expected after a label name")]
    Equal,
    #[error("a quoted label value is expected after \"=\"")]
    LabelValue,
    #[error("\",\" or \"}}\" is expected after a label value")]
    Comma,
    #[error("a quoted string does not end on its line")]
    OpenQuote,
    #[error("the braces around the labels do not close on their line")]
    OpenBrace,
    #[error("a label name has an escape other than \\\\, \\\" and \\n")]
    LabelEscape,
    #[error("a label is given twice")]
    LabelTwice,
    #[error("the line is not valid UTF-8")]
    NotUtf8,
    #[error("there is no value after the series")]
    NoValue,
    #[error("the value is not a decimal number, NaN, +Inf or -Inf")]
    Value,
    #[error("the timestamp is not a whole number of milliseconds")]
    TimestampMillis,
    #[error("the timestamp is not a finite number of seconds")]
    TimestampSeconds,
    #[error("there is something after the value and the timestamp")]
    Trailing,
    #[error("the exemplar after the value is malformed")]
    Exemplar,
    #[error("a metric name and a text are expected after HELP, TYPE or UNIT")]
    CommentName,
    #[error("the type after the metric name is unknown to this format")]
    CommentType,
    #[error("the unit does not end the name of its metric")]
    CommentUnit,
    #[error("OpenMetrics knows only the comments HELP, TYPE, UNIT and EOF")]
    CommentKind,
    #[error("more than {0} samples are selected")]
    TooManySamples(usize),
    #[error("more than {0} labels")]
    TooManyLabels(usize),
    #[error("a label value of more than {0} bytes")]
    LabelValueTooLong(usize),
    #[error("a metric or label name of more than {0} bytes")]
    NameTooLong(usize),
}
