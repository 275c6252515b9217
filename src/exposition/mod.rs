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
mod memory;
mod number;
mod options;
mod sample;
mod shape;
#[cfg(test)]
mod tests;

pub use error::{Reason, ScanError};
pub use memory::Memory;
pub use number::NORMAL_NAN_BITS;
pub use options::{Format, Limits, Names, Options};
pub use sample::Sample;

use std::collections::HashMap;

use line::Comment;
use memchr::memchr;
use memory::LookUp;
use sample::Kind;
use shape::Shapes;

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
/// what it answers is passed on with the sample. As for a [`Memory`], it may know only what a scan handed out.
///
/// # Errors
/// As for [`scan`].
pub fn scan_with<'b, K>(
    body: &'b [u8],
    options: &Options,
    known: impl FnMut(&[u8]) -> Option<K>,
    sink: impl FnMut(Sample<'b>, Option<K>),
) -> Result<Summary, ScanError> {
    scan_remembering(body, options, LookUp(known), sink)
}

/// As [`scan_with`], for a caller that also knows in which order series come.
///
/// # Errors
/// As for [`scan`].
pub fn scan_remembering<'b, M: Memory>(
    body: &'b [u8],
    options: &Options,
    memory: M,
    sink: impl FnMut(Sample<'b>, Option<M::Handle>),
) -> Result<Summary, ScanError> {
    Scanner {
        options,
        memory,
        sink,
        summary: Summary::default(),
        declared: Declared::Kind(Kind::Other),
        last_name: b"",
        last_wanted: false,
        last_sample: None,
        last_comment: None,
        verdicts: HashMap::new(),
        seen: Vec::new(),
        shapes: Shapes::default(),
    }
    .run(body)
}

/// What a `# TYPE` line said.
enum Declared<'b> {
    Kind(Kind),
    /// The line, not looked at: perhaps nobody asks for a sample of the family.
    Line(&'b [u8]),
}

/// A line with its number.
type Numbered<'b> = Option<(usize, &'b [u8])>;

struct Scanner<'b, 'o, M, Sink> {
    options: &'o Options,
    memory: M,
    sink: Sink,
    summary: Summary,
    /// Of the last `# TYPE` line; the line itself as long as nobody asked for the kind.
    declared: Declared<'b>,
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
    shapes: Shapes<'b>,
}

impl<'b, M, Sink> Scanner<'b, '_, M, Sink>
where
    M: Memory,
    Sink: FnMut(Sample<'b>, Option<M::Handle>),
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
        let format = self.options.format;
        if first || self.options.names.any() {
            match line::comment(line, format)? {
                Comment::Type(kind) => self.declared = Declared::Kind(kind),
                Comment::Eof => return Ok(true),
                Comment::Other => {}
            }
            return Ok(false);
        }
        if line::is_eof(line, format) {
            return Ok(true);
        }
        if labels::trim_start(&line[1..]).starts_with(b"TYPE") {
            self.declared = Declared::Line(line);
        }
        Ok(false)
    }

    /// The kind of the sample that was read last.
    #[inline]
    fn kind(&mut self) -> Kind {
        match self.declared {
            Declared::Kind(kind) => kind,
            Declared::Line(line) => {
                let kind = match line::comment(line, self.options.format) {
                    Ok(Comment::Type(kind)) => kind,
                    // A comment belongs to a family that may be nobody's business; what it said of a type is not known.
                    Ok(Comment::Eof | Comment::Other) | Err(_) => Kind::Other,
                };
                self.declared = Declared::Kind(kind);
                kind
            }
        }
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
        let names = &self.options.names;
        if name_len > 0 {
            let exact = names.is_exact(name);
            if exact || !names.has_patterns() {
                return Ok(exact);
            }
        }
        if let Some(verdict) = self.verdicts.get(name) {
            return Ok(*verdict);
        }
        let verdict = names.wants(&labels::unescape(name));
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
        let (series, tail, known) = match self.expected(line) {
            Some(series_len) => {
                let (series, tail) = line.split_at(series_len);
                (series, tail, Some(self.memory.confirm()))
            }
            None => self.unexpected(line, name_len)?,
        };
        let (value, timestamp) = line::value(tail, *format)?;
        if self.summary.selected >= limits.samples {
            return Err(Reason::TooManySamples(limits.samples));
        }
        self.summary.selected += 1;
        let kind = self.kind();
        (self.sink)(Sample { series, value, timestamp, kind }, known);
        Ok(())
    }

    /// The length of the expected series, if the line begins with it.
    #[inline]
    fn expected(&self, line: &[u8]) -> Option<usize> {
        let expected = self.memory.expected()?;
        let tail = line.strip_prefix(expected)?;
        // What has no labels yet may go on with some; in the text format also after a blank.
        let whole =
            expected.ends_with(b"}") || matches!(tail, [b' ', next, ..] if !matches!(next, b' ' | b'\t' | b'{'));
        whole.then_some(expected.len())
    }

    /// Splits a line into its series and the rest, and sees to it that the series is well formed.
    #[expect(clippy::type_complexity, reason = "a type for it would say no more")]
    fn unexpected(
        &mut self,
        line: &'b [u8],
        name_len: usize,
    ) -> Result<(&'b [u8], &'b [u8], Option<M::Handle>), Reason> {
        let Options { format, limits, .. } = self.options;
        let fitting = if name_len == 0 { None } else { self.shapes.fit(&line[name_len..], limits.label_value_bytes) };
        let (series, tail) = match fitting {
            Some(labels_len) => line.split_at(name_len + labels_len),
            None => line::split(line, name_len, *format)?,
        };
        let known = self.memory.find(series);
        if known.is_some() {
            return Ok((series, tail, known));
        }
        if fitting.is_some() {
            labels::check_content(series, name_len, limits)?;
        } else {
            labels::check_series(series, name_len, *format, Some(limits), &mut self.seen)?;
            if name_len > 0 {
                self.shapes.learn(&series[name_len..]);
            }
        }
        Ok((series, tail, None))
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
