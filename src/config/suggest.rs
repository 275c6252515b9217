//! "Did you mean": the known name that is closest to a mistyped one.

/// The closest of `known`, if it is close enough to be what was meant.
pub(super) fn closest<'a>(typed: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let typed_plain = plain(typed);
    let limit = (typed_plain.len() / 3).clamp(1, 3);
    known
        .into_iter()
        .map(|name| (distance(&typed_plain, &plain(name)), name))
        .filter(|(distance, _)| *distance <= limit)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, name)| name)
}

/// `Min-Events` and `min_events` are the same mistake.
fn plain(name: &str) -> Vec<char> {
    name.chars().filter(char::is_ascii_alphanumeric).map(|letter| letter.to_ascii_lowercase()).collect()
}

/// Insertions, deletions, replacements and swaps of neighbours that turn one into the other.
fn distance(from: &[char], to: &[char]) -> usize {
    let mut before_last: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=to.len()).collect();
    for (i, from_char) in from.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, to_char) in to.iter().enumerate() {
            let replaced = last[j] + usize::from(from_char != to_char);
            let mut best = replaced.min(last[j + 1] + 1).min(row[j] + 1);
            if i > 0 && j > 0 && from[i - 1] == *to_char && to[j - 1] == *from_char {
                best = best.min(before_last[j - 1] + 1);
            }
            row.push(best);
        }
        before_last = std::mem::replace(&mut last, row);
    }
    last[to.len()]
}

#[cfg(test)]
mod tests {
    use super::closest;

    #[test]
    fn finds_what_was_meant() {
        let known = ["window", "min_events", "widen_to", "part", "whole"];
        assert_eq!(closest("widow", known), Some("window"));
        assert_eq!(closest("min-events", known), Some("min_events"));
        assert_eq!(closest("prat", known), Some("part"));
        assert_eq!(closest("threshold", known), None);
    }
}
