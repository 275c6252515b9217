//! Scan of a scrape body: the bytes of an exposition endpoint become values of the series that somebody asked for.
//!
//! A scrape is atomic: any error refuses the whole body, so what the sink was given before must be dropped. These are
//! errors: a selected line that is broken, a body that was cut short, a first or last line that is not exposition, a
//! limit exceeded. A line that nobody asked for costs finding its end and comparing its name; what is wrong with it
//! stays unseen, except in the first and the last one.
//!
//! A newline always ends a line. Within a label value it is written `\n`, and a raw one is refused, though
//! Prometheus's own parser lets it pass: otherwise one unclosed quote could swallow a selected line unseen.
//!
//! Two lines with the same series are both delivered, in the order of the body. Prometheus keeps the first of those
//! with the same timestamp and counts the others as duplicates; the caller, who knows its series, does so too.

mod error;
mod labels;
mod line;
mod number;
mod options;
mod sample;
#[cfg(test)]
mod tests;

pub use error::{Reason, ScanError};
pub use number::NORMAL_NAN_BITS;
pub use options::{Format, Limits, Names, Options};
pub use sample::Sample;

use std::collections::HashMap;

use line::Comment;
use memchr::memchr;
use sample::Kind;

/// What a scan has seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Summary {
    /// Lines of any kind.
    pub lines: usize,
    /// Lines that are neither blank nor comments, selected or not.
    pub samples_exposed: usize,
    /// Samples handed to the sink.
    pub selected: usize,
}

/// Scans `body` and hands every selected sample to `sink`, checked, in the order of the body.
///
/// # Errors
/// The first line that is broken, with the reason. Drop what the sink was given.
pub fn scan<'b>(body: &'b [u8], options: &Options, mut sink: impl FnMut(Sample<'b>)) -> Result<Summary, ScanError> {
    scan_with(body, options, |_| None::<()>, |sample, _| sink(sample))
}

/// As [`scan`], for a caller that remembers series: `known` is asked with the raw bytes of each selected series, and
/// what it answers is passed on with the sample. The labels of a known series are not checked again.
///
/// `known` may answer with `Some` only for bytes that an earlier scan with the same format and limits handed out;
/// then no line with malformed labels can pass, since equal bytes are equally well formed.
///
/// # Errors
/// As for [`scan`].
pub fn scan_with<'b, K>(
    body: &'b [u8],
    options: &Options,
    known: impl FnMut(&'b [u8]) -> Option<K>,
    sink: impl FnMut(Sample<'b>, Option<K>),
) -> Result<Summary, ScanError> {
    Scanner {
        options,
        known,
        sink,
        summary: Summary::default(),
        kind: Kind::Other,
        last_name: b"",
        last_wanted: false,
        last_sample: None,
        last_comment: None,
        verdicts: HashMap::new(),
        seen: Vec::new(),
    }
    .run(body)
}

/// A line with its number.
type Numbered<'b> = Option<(usize, &'b [u8])>;

struct Scanner<'b, 'o, Known, Sink> {
    options: &'o Options,
    known: Known,
    sink: Sink,
    summary: Summary,
    /// Of the last `# TYPE` line.
    kind: Kind,
    /// Lines of one family follow each other, so most lines have the name of the one before, and its verdict.
    last_name: &'b [u8],
    last_wanted: bool,
    /// The last sample line, if it was not selected and so is still unchecked.
    last_sample: Numbered<'b>,
    /// The last comment that no selected sample follows: perhaps the last line.
    last_comment: Numbered<'b>,
    /// Verdicts by name; a pattern costs much more than a look-up, and families of a histogram alternate.
    verdicts: HashMap<&'b [u8], bool>,
    /// Scratch space of the check for duplicate labels.
    seen: Vec<&'b [u8]>,
}

impl<'b, K, Known, Sink> Scanner<'b, '_, Known, Sink>
where
    Known: FnMut(&'b [u8]) -> Option<K>,
    Sink: FnMut(Sample<'b>, Option<K>),
{
    fn run(mut self, body: &'b [u8]) -> Result<Summary, ScanError> {
        if body.is_empty() && self.options.format == Format::Text && !self.options.accept_cut_body {
            return Err(self.error(Reason::Empty, b""));
        }
        let mut rest = body;
        let mut ended = false;
        while !rest.is_empty() {
            self.summary.lines += 1;
            let line;
            if let Some(end) = memchr(b'\n', rest) {
                line = &rest[..end];
                rest = &rest[end + 1..];
            } else {
                line = rest;
                rest = b"";
                self.accept_cut(line)?;
            }
            if self.is_last_name(line) {
                self.summary.samples_exposed += 1;
                if !self.last_wanted {
                    self.last_sample = Some((self.summary.lines, line));
                    continue;
                }
                self.selected(line, self.last_name.len()).map_err(|reason| self.error(reason, line))?;
                continue;
            }
            ended = self.unfamiliar(line).map_err(|reason| self.error(reason, line))?;
            if ended && !rest.is_empty() {
                self.summary.lines += 1;
                return Err(self.error(Reason::AfterEof, rest));
            }
        }
        if self.options.format == Format::OpenMetrics && !ended {
            return Err(self.error(Reason::NoEof, b""));
        }
        self.check_last()?;
        Ok(self.summary)
    }

    fn error(&self, reason: Reason, line: &[u8]) -> ScanError {
        let shown = memchr(b'\n', line).map_or(line, |end| &line[..end]);
        // An empty body has no lines; what is missing is missing in the first.
        ScanError::new(self.summary.lines.max(1), reason, shown)
    }

    /// A last line without its newline. OpenMetrics makes the one after its end mark optional.
    fn accept_cut(&self, line: &[u8]) -> Result<(), ScanError> {
        if self.options.accept_cut_body {
            return Ok(());
        }
        match self.options.format {
            Format::Text => Err(self.error(Reason::CutShort, line)),
            Format::OpenMetrics if line == b"# EOF" => Ok(()),
            Format::OpenMetrics => Err(self.error(Reason::NoEof, line)),
        }
    }

    fn is_last_name(&self, line: &[u8]) -> bool {
        let len = self.last_name.len();
        len > 0 && line.len() > len && line[..len] == *self.last_name && !labels::is_metric_name_byte(line[len])
    }

    /// A line that does not have the name of the sample before it. The answer is whether the body ends here.
    fn unfamiliar(&mut self, raw: &'b [u8]) -> Result<bool, Reason> {
        let line = labels::trim_start(raw);
        // OpenMetrics has no blank lines and no indentation; like any fault it counts where it is looked at.
        let misplaced = self.options.format == Format::OpenMetrics && (line.is_empty() || line.len() < raw.len());
        let first = self.summary.samples_exposed == 0 && self.last_comment.is_none();
        if misplaced && (first || self.options.names.any()) {
            return Err(Reason::Blank);
        }
        match line.first() {
            None => Ok(false),
            // Not even an end mark, where it is indented.
            Some(b'#') if misplaced => Ok(false),
            Some(b'#') => self.comment(line, first),
            Some(_) => {
                let name_len = labels::metric_name_len(line);
                let wanted = self.wanted(line, name_len)?;
                if wanted && misplaced {
                    return Err(Reason::Blank);
                }
                self.summary.samples_exposed += 1;
                if wanted {
                    self.selected(line, name_len)?;
                } else if self.summary.samples_exposed == 1 {
                    self.check(raw)?;
                } else {
                    self.last_sample = Some((self.summary.lines, raw));
                }
                self.last_name = &line[..name_len];
                self.last_wanted = wanted;
                Ok(false)
            }
        }
    }

    fn comment(&mut self, line: &'b [u8], first: bool) -> Result<bool, Reason> {
        self.last_comment = Some((self.summary.lines, line));
        match line::comment(line, self.options.format) {
            Ok(Comment::Type(kind)) => self.kind = kind,
            Ok(Comment::Eof) => return Ok(true),
            Ok(Comment::Other) => {}
            Err(reason) if first || self.options.names.any() => return Err(reason),
            // A comment belongs to a family that may be nobody's business; what it said of a type is not known.
            Err(_) => self.kind = Kind::Other,
        }
        Ok(false)
    }

    /// Whether somebody asked for the metric of this line.
    ///
    /// A line that begins with a brace must be well formed up to its name: of one that is not nobody can say whether
    /// it was asked for.
    fn wanted(&mut self, line: &'b [u8], name_len: usize) -> Result<bool, Reason> {
        if self.options.names.any() {
            return Ok(true);
        }
        let name = match line.first() {
            Some(b'{') => line::quoted_name(line, self.options.format)?,
            Some(_) | None => &line[..name_len],
        };
        if let Some(verdict) = self.verdicts.get(name) {
            return Ok(*verdict);
        }
        let verdict = self.options.names.wants(&labels::unescape(name));
        self.verdicts.insert(name, verdict);
        Ok(verdict)
    }

    fn selected(&mut self, line: &'b [u8], name_len: usize) -> Result<(), Reason> {
        // Neither an earlier sample nor an earlier comment is the last line any more.
        self.last_sample = None;
        self.last_comment = None;
        let Options { format, limits, .. } = self.options;
        if name_len == 0 && line.first() != Some(&b'{') {
            return Err(Reason::NotALine);
        }
        let (series, tail) = line::split(line, name_len, *format)?;
        let known = (self.known)(series);
        if known.is_none() {
            labels::check_series(series, name_len, *format, Some(limits), &mut self.seen)?;
        }
        let (value, timestamp) = line::value(tail, *format)?;
        if self.summary.selected >= limits.samples {
            return Err(Reason::TooManySamples(limits.samples));
        }
        self.summary.selected += 1;
        (self.sink)(Sample { series, value, timestamp, kind: self.kind }, known);
        Ok(())
    }

    /// Checks a sample line that nobody asked for: is this an exposition at all?
    fn check(&mut self, raw: &'b [u8]) -> Result<(), Reason> {
        let line = match self.options.format {
            Format::Text => labels::trim_start(raw),
            Format::OpenMetrics => raw,
        };
        let name_len = labels::metric_name_len(line);
        if name_len == 0 && line.first() != Some(&b'{') {
            return Err(Reason::NotALine);
        }
        let (series, tail) = line::split(line, name_len, self.options.format)?;
        labels::check_series(series, name_len, self.options.format, None, &mut self.seen)?;
        line::value(tail, self.options.format).map(|_| ())
    }

    fn check_last(&mut self) -> Result<(), ScanError> {
        if let Some((number, line)) = self.last_sample {
            self.check(line).map_err(|reason| ScanError::new(number, reason, line))?;
        }
        // The last comment counts only if no sample follows it.
        if let Some((number, line)) = self.last_comment
            && self.last_sample.is_none_or(|(sample, _)| sample < number)
        {
            line::comment(line, self.options.format).map_err(|reason| ScanError::new(number, reason, line))?;
        }
        Ok(())
    }
}
