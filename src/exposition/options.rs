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
    exact: HashSet<Box<[u8]>>,
    /// A bit for each exact name at its [`spot`]: of nearly all other names the bit says that they are none of these.
    spots: [u64; SPOTS / 64],
    patterns: Vec<Regex>,
    any: bool,
}

/// Large beside the few dozen names of a usual configuration.
const SPOTS: usize = 2048;

impl Names {
    /// A name is wanted if it is one of `exact`, or one of `patterns` matches it (the caller has anchored them), or
    /// `any` is set.
    pub fn new<'n>(exact: impl IntoIterator<Item = &'n str>, patterns: Vec<Regex>, any: bool) -> Names {
        let exact: HashSet<Box<[u8]>> = exact.into_iter().map(|name| Box::from(name.as_bytes())).collect();
        let mut spots = [0; SPOTS / 64];
        for name in &exact {
            let spot = spot(name);
            spots[spot / 64] |= 1 << (spot % 64);
        }
        Names { exact, spots, patterns, any }
    }

    /// Every name: then every line is a selected line, and is checked.
    #[must_use]
    pub fn all() -> Names {
        Names::new([], Vec::new(), true)
    }

    #[must_use]
    pub fn wants(&self, name: &str) -> bool {
        self.any || self.is_exact(name.as_bytes()) || self.matches(name)
    }

    #[inline]
    pub(super) fn is_exact(&self, name: &[u8]) -> bool {
        let spot = spot(name);
        self.spots[spot / 64] & 1 << (spot % 64) != 0 && self.exact.contains(name)
    }

    pub(super) fn matches(&self, name: &str) -> bool {
        self.patterns.iter().any(|pattern| pattern.is_match(name))
    }

    pub(super) const fn has_patterns(&self) -> bool {
        !self.patterns.is_empty()
    }

    pub(super) const fn any(&self) -> bool {
        self.any
    }
}

/// A number below [`SPOTS`] from a name's length, beginning, middle and end: names of one exposition often share two of
/// these. Not a hash for a table: who chooses names can make all of them meet.
#[inline]
fn spot(name: &[u8]) -> usize {
    const ODD: u64 = 0x9e37_79b9_7f4a_7c15;
    let word = |from: usize| name.get(from..).and_then(<[u8]>::first_chunk).map_or(0, |word| u64::from_le_bytes(*word));
    let mut mixed = name.len() as u64;
    if name.len() < 8 {
        for byte in name {
            mixed = mixed << 8 | u64::from(*byte);
        }
    } else {
        for from in [0, name.len() / 2 - 4, name.len() - 8] {
            mixed = (mixed ^ word(from)).wrapping_mul(ODD).rotate_left(23);
        }
    }
    (mixed.wrapping_mul(ODD) >> 53) as usize
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
