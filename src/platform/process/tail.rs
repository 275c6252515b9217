//! The end of a stream, in bounded memory.

use std::collections::VecDeque;

#[derive(Debug)]
pub struct Tail {
    kept: VecDeque<u8>,
    bytes_max: usize,
    truncated: bool,
}

impl Tail {
    pub const fn new(bytes_max: usize) -> Tail {
        Tail { kept: VecDeque::new(), bytes_max, truncated: false }
    }

    pub fn push(&mut self, bytes: &[u8]) {
        let bytes = if bytes.len() > self.bytes_max {
            self.truncated = true;
            &bytes[bytes.len() - self.bytes_max..]
        } else {
            bytes
        };
        let excess = (self.kept.len() + bytes.len()).saturating_sub(self.bytes_max);
        if excess > 0 {
            self.truncated = true;
            self.kept.drain(..excess);
        }
        self.kept.extend(bytes);
    }

    /// As text, and whether there was more before it.
    pub fn into_text(self) -> (String, bool) {
        let bytes = Vec::from(self.kept);
        let mut bytes = bytes.as_slice();
        if self.truncated {
            // The cut may have gone through a character: its last bytes (at most 3) are not broken output.
            for _ in 0..3 {
                match bytes {
                    [first, rest @ ..] if first & 0b1100_0000 == 0b1000_0000 => bytes = rest,
                    _ => break,
                }
            }
        }
        (String::from_utf8_lossy(bytes).into_owned(), self.truncated)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_the_end_and_says_that_there_was_more() {
        let mut tail = Tail::new(4);
        tail.push(b"ab");
        tail.push(b"cd");
        assert_eq!((tail.kept.len(), tail.truncated), (4, false));
        tail.push(b"e");
        assert_eq!(tail.into_text(), ("bcde".to_owned(), true));
        let mut tail = Tail::new(4);
        tail.push(b"0123456789");
        tail.push(b"x");
        assert_eq!(tail.into_text(), ("789x".to_owned(), true));
    }

    #[test]
    fn a_character_that_the_cut_went_through_is_left_out() {
        let mut tail = Tail::new(4);
        tail.push("aöbc".as_bytes());
        assert_eq!(tail.into_text(), ("öbc".to_owned(), true));
        let mut tail = Tail::new(3);
        tail.push("aöbc".as_bytes());
        assert_eq!(tail.into_text(), ("bc".to_owned(), true));
        let mut tail = Tail::new(8);
        tail.push(b"\xb6bc");
        assert_eq!(tail.into_text(), ("\u{fffd}bc".to_owned(), false));
    }
}
