//! One selected sample, and its labels as they are read.

use std::borrow::Cow;

use super::labels::{Item, Items, metric_name_len, unescape};
use super::number;
use super::options::Format;
use memchr::memchr;

/// What the last `# TYPE` line before a sample said, as far as it changes how labels are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Histogram,
    Summary,
    Other,
}

/// One selected line, checked. It borrows the body; nothing is copied.
#[derive(Clone, Copy, Debug)]
pub struct Sample<'b> {
    /// The bytes that identify the series within its target: from the name through the closing brace, as exposed.
    /// Equal bytes are the same series; the same series may be written in more than one way (order of labels,
    /// blanks), which no client library does within one process.
    pub series: &'b [u8],
    /// A NaN has the bits [`super::NORMAL_NAN_BITS`].
    pub value: f64,
    /// Milliseconds since the epoch, if the line has one. The seconds of OpenMetrics are converted.
    pub timestamp: Option<i64>,
    pub(super) kind: Kind,
}

impl<'b> Sample<'b> {
    /// The labels, unescaped, `__name__` first and then in the order of the line. An empty value is passed on.
    ///
    /// `le` of a histogram and `quantile` of a summary, as declared by the last `# TYPE` line, are written as
    /// Prometheus 3 stores them (`1` becomes `1.0`), so that a selector means the same series here and there.
    pub fn labels(&self) -> impl Iterator<Item = (Cow<'b, str>, Cow<'b, str>)> + use<'b> {
        let kind = self.kind;
        let name = std::iter::once((Cow::Borrowed("__name__"), unescape(self.name())));
        name.chain(pairs(self.series).map(move |(name, value)| {
            let (name, value) = (unescape(name), unescape(value));
            let numeric = match kind {
                Kind::Histogram => name == "le",
                Kind::Summary => name == "quantile",
                Kind::Other => false,
            };
            let canonical = if numeric { number::canonical(&value) } else { None };
            (name, canonical.map_or(value, Cow::Owned))
        }))
    }

    /// The metric's name as written, without quotes.
    fn name(&self) -> &'b [u8] {
        let len = metric_name_len(self.series);
        if len > 0 {
            return &self.series[..len];
        }
        items(self.series)
            .find_map(|item| match item {
                Item::Name(name) => Some(name),
                Item::Label(..) | Item::End => None,
            })
            .unwrap_or(b"")
    }
}

fn pairs(series: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    items(series).filter_map(|item| match item {
        Item::Label(name, value) => Some((name, value)),
        Item::Name(_) | Item::End => None,
    })
}

/// The items of a series that was checked, so that the grammar of the text format, which is the wider one, fits and
/// an error cannot occur; if it does for a series that no scan has checked, the items end there.
fn items(series: &[u8]) -> impl Iterator<Item = Item<'_>> {
    let open = memchr(b'{', series).map_or(series.len(), |open| open + 1);
    let mut items = Items::new(&series[open..], Format::Text);
    std::iter::from_fn(move || items.next().ok().filter(|item| *item != Item::End))
}
