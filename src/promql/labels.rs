//! Label sets.

use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;

/// A label set, sorted by name, `__name__` among them. Cheap to clone, and so is each text in it: most operations only leave
/// some out.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Labels(Arc<[(Arc<str>, Arc<str>)]>);

impl Labels {
    /// Sorts by name; of a name given twice the last value counts; an empty value is no label, as in Prometheus.
    pub fn from_pairs<N: Into<Arc<str>>, V: Into<Arc<str>>>(pairs: impl IntoIterator<Item = (N, V)>) -> Labels {
        let mut sorted = std::collections::BTreeMap::new();
        for (name, value) in pairs {
            sorted.insert(name.into(), value.into());
        }
        Labels(sorted.into_iter().filter(|(_, value): &(_, Arc<str>)| !value.is_empty()).collect())
    }

    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        let at = self.0.binary_search_by(|(have, _)| have.as_ref().cmp(name)).ok()?;
        Some(&self.0[at].1)
    }

    /// The metric's name, empty when an operation dropped it.
    #[must_use]
    pub fn name(&self) -> &str {
        self.get("__name__").unwrap_or("")
    }

    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_ref(), value.as_ref()))
    }

    /// Those that `keep` wants; the same set where it wants all.
    pub(super) fn filter(&self, keep: impl Fn(&str) -> bool) -> Labels {
        if self.0.iter().all(|(name, _)| keep(name)) {
            return self.clone();
        }
        Labels(self.0.iter().filter(|(name, _)| keep(name)).cloned().collect())
    }

    /// Without `__name__`, and without its type and unit, as after an operation that makes another quantity.
    pub(super) fn nameless(&self) -> Labels {
        self.filter(|name| !Labels::is_of_metric(name))
    }

    /// Does the label tell of the metric itself, rather than of what was measured?
    pub(super) fn is_of_metric(name: &str) -> bool {
        matches!(name, "__name__" | "__type__" | "__unit__")
    }

    /// With one label set; an empty value removes it.
    pub(super) fn with(&self, name: &str, value: &str) -> Labels {
        let others = self.iter().filter(|(have, _)| *have != name);
        Labels::from_pairs(others.chain(std::iter::once((name, value))))
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// The texts of many label sets, each once: those of one target mostly differ in one or two of them.
#[derive(Debug, Default)]
pub struct Texts(HashSet<Arc<str>>);

impl Texts {
    pub fn shared(&mut self, text: &str) -> Arc<str> {
        if let Some(known) = self.0.get(text) {
            return Arc::clone(known);
        }
        let new: Arc<str> = text.into();
        self.0.insert(Arc::clone(&new));
        new
    }

    /// Forgets those that no label set holds any more.
    pub fn sweep(&mut self) {
        self.0.retain(|text| Arc::strong_count(text) > 1);
    }
}

/// As PromQL writes it: `http_requests_total{status="500"}`.
impl fmt::Display for Labels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{{", self.name())?;
        let mut first = true;
        for (name, value) in self.iter().filter(|(name, _)| *name != "__name__") {
            write!(f, "{}{name}={value:?}", if first { "" } else { ", " })?;
            first = false;
        }
        write!(f, "}}")
    }
}
