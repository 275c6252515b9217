//! What a caller remembers of the series that earlier scans handed out.

/// Series that were seen before. A scan asks it before it looks at the labels of a line, and does not check again those
/// of a series that is known.
///
/// It may know only bytes that an earlier scan with the same format, names and limits handed out; then no line with
/// malformed labels can pass, since equal bytes are equally well formed.
pub trait Memory {
    /// What a known series is passed on with.
    type Handle;

    /// The series that is likely to come next, since the processes that expose write theirs in the same order each
    /// time. A right guess costs a comparison instead of a look-up; a wrong one is harmless.
    fn expected(&self) -> Option<&[u8]>;

    /// The next series is the expected one.
    fn confirm(&mut self) -> Self::Handle;

    /// Looks a series up that is not the expected one.
    fn find(&mut self, series: &[u8]) -> Option<Self::Handle>;
}

/// A memory that only looks up.
pub(super) struct LookUp<F>(pub F);

impl<K, F: FnMut(&[u8]) -> Option<K>> Memory for LookUp<F> {
    type Handle = K;

    #[inline]
    fn expected(&self) -> Option<&[u8]> {
        None
    }

    fn confirm(&mut self) -> K {
        unreachable!("nothing is expected")
    }

    #[inline]
    fn find(&mut self, series: &[u8]) -> Option<K> {
        (self.0)(series)
    }
}
