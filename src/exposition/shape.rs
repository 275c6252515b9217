//! What lies between the label values of a series: equal for most lines that follow each other, and checked once.

use memchr::memchr;

use super::labels::closing_quote;

/// The shapes of the labels of the last two kinds of series that were checked, the later one first: the buckets of a
/// histogram come between its sum and its count.
///
/// A series that differs from a checked one in nothing but what stands in quotes after a `=` has well-formed labels,
/// too, and none twice; only its values are left to check. `bytes` are always those from the opening brace on.
#[derive(Debug, Default)]
pub struct Shapes<'b> {
    latest: Shape<'b>,
    other: Shape<'b>,
}

/// Each piece but the last begins after one value's closing quote and ends with the opening quote of the next; the
/// last ends with the closing brace. Empty: nothing has this shape.
type Shape<'b> = Vec<&'b [u8]>;

impl<'b> Shapes<'b> {
    /// The length through the closing brace of labels that have a known shape, and of which no value is longer than
    /// `value_bytes_max`. `None` says nothing of them.
    #[inline]
    pub fn fit(&mut self, bytes: &[u8], value_bytes_max: usize) -> Option<usize> {
        if let Some(len) = fit(&self.latest, bytes, value_bytes_max) {
            return Some(len);
        }
        let len = fit(&self.other, bytes, value_bytes_max)?;
        std::mem::swap(&mut self.latest, &mut self.other);
        Some(len)
    }

    /// Remembers labels that were checked; not those with a name in quotes, which is no value.
    pub fn learn(&mut self, bytes: &'b [u8]) {
        if bytes.is_empty() {
            return;
        }
        std::mem::swap(&mut self.latest, &mut self.other);
        self.latest.clear();
        if pieces(bytes, &mut self.latest).is_none() {
            self.latest.clear();
        }
    }
}

fn pieces<'b>(mut bytes: &'b [u8], found: &mut Shape<'b>) -> Option<()> {
    while let Some(quote) = memchr(b'"', bytes) {
        let (piece, rest) = bytes.split_at(quote + 1);
        if !piece.ends_with(b"=\"") {
            return None;
        }
        found.push(piece);
        bytes = rest.get(closing_quote(rest).ok()? + 1..)?;
    }
    found.push(bytes);
    (found.len() > 1).then_some(())
}

#[inline]
fn fit(shape: &Shape<'_>, bytes: &[u8], value_bytes_max: usize) -> Option<usize> {
    let (last, pieces) = shape.split_last()?;
    let mut at = 0;
    for piece in pieces {
        at += starts_with(bytes.get(at..)?, piece)?;
        let value = closing_quote(&bytes[at..]).ok()?;
        if value > value_bytes_max {
            return None;
        }
        at += value + 1;
    }
    Some(at + starts_with(bytes.get(at..)?, last)?)
}

/// The length of `start`, if `bytes` start with it. Most pieces are between 8 and 16 bytes long, for which two words
/// that overlap are faster than the call of a comparison of any length.
#[inline]
fn starts_with(bytes: &[u8], start: &[u8]) -> Option<usize> {
    let head = bytes.get(..start.len())?;
    let equal = match start.len() {
        1 => head[0] == start[0],
        4..=7 => {
            head.first_chunk::<4>() == start.first_chunk::<4>() && head.last_chunk::<4>() == start.last_chunk::<4>()
        }
        8..=16 => {
            head.first_chunk::<8>() == start.first_chunk::<8>() && head.last_chunk::<8>() == start.last_chunk::<8>()
        }
        _ => head == start,
    };
    equal.then_some(start.len())
}
