//! What a scan is told: the format, the names that somebody asked for, and the limits.

use std::collections::HashSet;

use regex::Regex;

use super::error::{Reason, ScanError};

/// The two text formats that are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Prometheus text format 0.0.4, with the quoted UTF-8 names of 1.0.0.
    Text,
    /// OpenMetrics text 1.0 (and its draft 0.0.1).
    OpenMetrics,
}

impl Format {
    /// The `Accept` header of a scrape. OpenMetrics first, as Prometheus asks: a client library may name a counter
    /// differently in the two formats, and expressions are written for the names that Prometheus shows.
    pub const ACCEPT: &str = "application/openmetrics-text;version=1.0.0;q=0.8,application/openmetrics-text;version=0.0.1;q=0.7,\
         text/plain;version=1.0.0;q=0.6,text/plain;version=0.0.4;q=0.5,text/plain;q=0.4";

    /// The format that a response's `Content-Type` announces.
    ///
    /// No header, or an empty one, is read as [`Format::Text`]: the scan checks the first line of any body strictly,
    /// so a page that only lacks its header is refused there. The character set is not looked at: what is selected
    /// must be UTF-8.
    ///
    /// # Errors
    /// Any other media type, and a version that is not known.
    pub fn from_content_type(header: Option<&str>) -> Result<Format, ScanError> {
        let given = header.unwrap_or("").trim();
        let mut parts = given.split(';').map(str::trim);
        let media = parts.next().unwrap_or("").to_ascii_lowercase();
        let version = parts.filter_map(|part| part.split_once('=')).find_map(|(key, value)| {
            key.trim().eq_ignore_ascii_case("version").then(|| value.trim().trim_matches('"'))
        });
        let why = match (media.as_str(), version) {
            ("", _) | ("text/plain", None | Some("0.0.4" | "1.0.0")) => return Ok(Format::Text),
            ("application/openmetrics-text", None | Some("0.0.1" | "1.0.0")) => return Ok(Format::OpenMetrics),
            ("text/plain" | "application/openmetrics-text", Some(_)) => "this version of it is not known",
            ("text/html" | "application/xhtml+xml", _) => "it is a web page; is the path right?",
            ("application/json", _) => "it is JSON; is the path right?",
            ("application/vnd.google.protobuf", _) => {
                "the protobuf format is not read; the target ignored what we accept"
            }
            (_, _) => "text/plain or application/openmetrics-text is expected",
        };
        let shown: String = given.chars().take(100).collect();
        Err(ScanError::new(0, Reason::ContentType { given: shown, why }, b""))
    }
}

/// The metric names that somebody asked for: the interest set as the scan needs it.
#[derive(Clone, Debug)]
pub struct Names {
    exact: HashSet<Box<str>>,
    patterns: Vec<Regex>,
    any: bool,
}

impl Names {
    /// A name is wanted if it is one of `exact`, or one of `patterns` matches it (the caller has anchored them), or
    /// `any` is set.
    pub fn new<'n>(exact: impl IntoIterator<Item = &'n str>, patterns: Vec<Regex>, any: bool) -> Names {
        Names { exact: exact.into_iter().map(Box::from).collect(), patterns, any }
    }

    /// Every name: then every line is a selected line, and is checked.
    #[must_use]
    pub fn all() -> Names {
        Names::new([], Vec::new(), true)
    }

    #[must_use]
    pub fn wants(&self, name: &str) -> bool {
        self.any || self.exact.contains(name) || self.patterns.iter().any(|pattern| pattern.is_match(name))
    }

    pub(super) const fn any(&self) -> bool {
        self.any
    }
}

/// Bounds on what is selected; a scrape that exceeds one fails as a whole. What is not selected is not counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Selected samples in one body.
    pub samples: usize,
    /// Labels of one series, not counting its name.
    pub labels: usize,
    /// Bytes of one label value as written, escapes included.
    pub label_value_bytes: usize,
    /// Bytes of a metric name or of a label name as written.
    pub name_bytes: usize,
}

impl Limits {
    /// DESIGN section 7: 50,000 kept samples, 64 labels, 1 KiB per label value. Names have the bound of values.
    pub const DEFAULT: Limits = Limits { samples: 50_000, labels: 64, label_value_bytes: 1024, name_bytes: 1024 };
}

/// How a body is scanned.
#[derive(Clone, Debug)]
pub struct Options {
    pub format: Format,
    pub names: Names,
    pub limits: Limits,
    /// Accept an empty body and a last line without a newline. Only for conformance data, whose bodies are fragments:
    /// in a real scrape a missing newline is the only sign that `12345` was cut to `123`.
    pub accept_cut_body: bool,
}
