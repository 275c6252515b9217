//! The texts as they may be shown: what is, or may be, a secret is covered.

use super::Source;
use super::cursor::Cx;
use super::places::Place;
use super::tree::{Entries, Node, Value};

/// Names of keys whose texts are not shown, whether they are allowed there or not.
const SECRET_KEYS: [&str; 12] = [
    "secret",
    "secrets",
    "password",
    "passwd",
    "bearer",
    "basic",
    "token",
    "tokens",
    "api_key",
    "apikey",
    "authorization",
    "cookie",
];

/// The sources with every byte of a secret replaced, so that all places still fit.
pub(super) fn sources(cx: &Cx<'_>, entries: &Entries) -> Vec<Source> {
    let mut hidden = cx.hidden();
    for (key, node) in entries {
        secrets_in(&key.text, node, false, &mut hidden);
    }
    let mut sources = cx.sources.to_vec();
    for (file, source) in sources.iter_mut().enumerate() {
        let mut bytes = std::mem::take(&mut source.text).into_bytes();
        for place in hidden.iter().filter(|place| place.file == file) {
            cover(&mut bytes, place.start, place.end);
        }
        for (start, end) in suspicious(&bytes) {
            cover(&mut bytes, start, end);
        }
        // Whole characters were replaced by as many ASCII ones; anything else would be a broken place.
        source.text = String::from_utf8(bytes).unwrap_or_else(|error| {
            error.into_bytes().iter().map(|byte| if byte.is_ascii() { char::from(*byte) } else { '*' }).collect()
        });
    }
    sources
}

fn cover(bytes: &mut [u8], start: usize, end: usize) {
    let end = end.min(bytes.len());
    for byte in bytes.get_mut(start..end).unwrap_or_default() {
        if !matches!(byte, b'\n' | b'\r' | b'"' | b'\'') {
            *byte = b'*';
        }
    }
}

/// Whether a line that is no TOML may hold a secret.
pub(super) fn may_hold_secret(line: &str) -> bool {
    let line = line.to_ascii_lowercase().replace('-', "_");
    SECRET_KEYS.iter().any(|key| line.contains(key)) || line.contains('@')
}

fn is_secret_key(key: &str) -> bool {
    let key = key.to_ascii_lowercase().replace('-', "_");
    SECRET_KEYS.iter().any(|secret| key == *secret || key.ends_with(&format!("_{secret}")))
}

fn secrets_in(key: &str, node: &Node, inside: bool, hidden: &mut Vec<Place>) {
    let is_reference = ["file", "env", "credential", "username", "prefix"].contains(&key);
    let secret = !is_reference && (inside || is_secret_key(key));
    match &node.value {
        Value::Text(_) if secret => hidden.push(node.place),
        Value::Text(_) | Value::Bool(_) | Value::Integer(_) | Value::Float(_) | Value::Datetime => {}
        Value::List(elements) => {
            for element in elements {
                secrets_in(key, element, secret, hidden);
            }
        }
        Value::Table(entries) => {
            for (key, node) in entries {
                secrets_in(&key.text, node, secret, hidden);
            }
        }
    }
}

/// What looks like a secret without the help of the tree, which a file that is no TOML does not have: what follows
/// `secret =` and its kin up to the end of the line, unless it opens a table; and `user:password@`, in a URL or not.
fn suspicious(bytes: &[u8]) -> Vec<(usize, usize)> {
    let mut found = Vec::new();
    let mut start = 0;
    for line in bytes.split_inclusive(|byte| *byte == b'\n') {
        let lower = line.to_ascii_lowercase();
        for key in SECRET_KEYS {
            let mut from = 0;
            while let Some(at) = find(&lower[from..], key.as_bytes()).map(|at| from + at) {
                from = at + key.len();
                if let Some((begin, end)) = value_behind(&line[from..]) {
                    found.push((start + from + begin, start + from + end));
                }
            }
        }
        let mut at = 0;
        for word in line.split(|byte| b" \t\"'=,[{(\r\n".contains(byte)) {
            if let Some(end) = word.iter().rposition(|byte| *byte == b'@') {
                let begin = find(word, b"://").map_or(0, |scheme| scheme + 3);
                if word[begin.min(end)..end].contains(&b':') {
                    found.push((start + at + begin, start + at + end));
                }
            }
            at += word.len() + 1;
        }
        start += line.len();
    }
    found
}

fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes.windows(wanted.len()).position(|window| window == wanted)
}

/// Behind a key: its quotes and spaces, `=`, and a value that is no table and no list of tables.
fn value_behind(rest: &[u8]) -> Option<(usize, usize)> {
    let sign = rest.iter().position(|byte| !matches!(byte, b' ' | b'\t' | b'"' | b'\''))?;
    if rest[sign] != b'=' {
        return None;
    }
    let begin = sign + 1 + rest[sign + 1..].iter().position(|byte| !matches!(byte, b' ' | b'\t' | b'['))?;
    if matches!(rest[begin], b'{' | b'\n' | b'\r') {
        return None;
    }
    let quote = rest[begin];
    let end = if matches!(quote, b'"' | b'\'') {
        // To the closing quote, and where there is none, to the end of the line.
        let close = rest[begin + 1..].iter().position(|byte| *byte == quote || *byte == b'\n');
        close.map_or(rest.len(), |at| begin + 1 + at)
    } else {
        rest[begin..].iter().position(|byte| matches!(byte, b'\n' | b'\r')).map_or(rest.len(), |at| begin + at)
    };
    Some((begin, end))
}
