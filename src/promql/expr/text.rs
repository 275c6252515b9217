//! The text of an expression, as far as the parser's crate leaves it to us: places, and what its lexer reads wrongly.

use std::collections::BTreeMap;
use std::ops::Range;

#[derive(Clone, Copy, PartialEq)]
enum Part {
    /// Neither in a string literal nor in a comment.
    Bare,
    /// A backslash in `"…"` or `'…'`; the character after it is `Quoted`.
    Backslash,
    Quoted,
    /// In backticks, where a backslash means itself.
    Raw,
    Comment,
}

/// Every character with its place and where it stands; quotes belong to their strings.
fn parts(text: &str) -> impl Iterator<Item = (usize, char, Part)> {
    let mut open = None;
    let mut escaped = false;
    let mut comment = false;
    text.char_indices().map(move |(at, c)| {
        let part = match open {
            None if comment => {
                comment = c != '\n';
                Part::Comment
            }
            None if c == '#' => {
                comment = true;
                Part::Comment
            }
            None if matches!(c, '"' | '\'' | '`') => {
                open = Some(c);
                if c == '`' { Part::Raw } else { Part::Quoted }
            }
            None => Part::Bare,
            Some('`') => {
                if c == '`' {
                    open = None;
                }
                Part::Raw
            }
            Some(_) if escaped => {
                escaped = false;
                Part::Quoted
            }
            Some(_) if c == '\\' => {
                escaped = true;
                Part::Backslash
            }
            Some(quote) => {
                if c == quote {
                    open = None;
                }
                Part::Quoted
            }
        };
        (at, c, part)
    })
}

/// The characters outside of string literals and comments, with their places.
pub(super) fn bare(text: &str) -> impl Iterator<Item = (usize, char)> {
    parts(text).filter(|(_, _, part)| *part == Part::Bare).map(|(at, c, _)| (at, c))
}

/// Where a text that stands in the expression as it is first occurs. The parser keeps no positions.
pub(in crate::promql) fn place_of(text: &str, needle: &str) -> Option<Range<usize>> {
    let start = text.find(needle)?;
    Some(start..start + needle.len())
}

/// A whole word outside of string literals and comments.
pub(in crate::promql) fn word_in(text: &str, word: &str) -> Option<Range<usize>> {
    let bare: BTreeMap<usize, char> = bare(text).collect();
    let is_part = |at: usize| bare.get(&at).is_some_and(|c| c.is_alphanumeric() || *c == '_' || *c == ':');
    text.match_indices(word).map(|(at, _)| at..at + word.len()).find(|span| {
        bare.contains_key(&span.start) && !is_part(span.end) && !span.start.checked_sub(1).is_some_and(is_part)
    })
}

/// `\xff` is a byte in Go and a code point to the parser's crate; a text of ours is never made of loose bytes.
pub(super) fn byte_escape(text: &str) -> Option<Range<usize>> {
    let backslashes = parts(text).filter(|(_, _, part)| *part == Part::Backslash);
    backslashes.map(|(at, _, _)| at).find_map(|at| {
        let mut after = text[at + 1..].chars();
        let (kind, digit) = (after.next()?, after.next()?);
        let beyond_ascii = match kind {
            'x' => matches!(digit.to_ascii_lowercase(), '8' | '9' | 'a'..='f'),
            '2' | '3' => digit.is_ascii_digit(),
            _ => false,
        };
        beyond_ascii.then(|| at..at + 2)
    })
}

/// The same expression with its raw strings in double quotes: the crate's lexer takes a backslash within backticks for
/// an escape, so that `` `\d+` `` would be refused and `` `\n` `` misread.
pub(super) fn without_raw_strings(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 8);
    for (_, c, part) in parts(text) {
        match (part, c) {
            (Part::Raw, '`') => out.push('"'),
            (Part::Raw, '"') => out.push_str("\\\""),
            (Part::Raw, '\\') => out.push_str("\\\\"),
            (Part::Raw, '\n') => out.push_str("\\n"),
            (Part::Raw | Part::Bare | Part::Backslash | Part::Quoted | Part::Comment, c) => out.push(c),
        }
    }
    out
}
