//! Which series somebody asks for, and how long each must be kept.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use super::super::expr::Need;
use super::super::selector::Test;
use super::super::{Expr, Labels, Selector};

/// The selectors of a whole configuration: only series that one of them matches are kept.
#[derive(Clone, Debug)]
pub struct Interest {
    pub generation: u64,
    by_name: HashMap<Box<str>, Vec<Selector>>,
    /// Selectors whose name is given by a pattern, or not at all.
    unnamed: Vec<Selector>,
}

impl Interest {
    #[must_use]
    pub fn compile<'a>(generation: u64, selectors: impl IntoIterator<Item = &'a Selector>) -> Interest {
        let mut interest = Interest { generation, by_name: HashMap::new(), unnamed: Vec::new() };
        for selector in selectors {
            let list = match selector.exact_name() {
                Some(name) => interest.by_name.entry(name.into()).or_default(),
                None => &mut interest.unnamed,
            };
            if !list.contains(selector) {
                list.push(selector.clone());
            }
        }
        interest
    }

    /// Does any selector want this series?
    #[must_use]
    pub fn wants(&self, labels: &Labels) -> bool {
        let named = self.by_name.get(labels.name()).is_some_and(|list| list.iter().any(|one| one.matches(labels)));
        named || self.unnamed.iter().any(|one| one.matches(labels))
    }

    /// May a series of this metric be wanted? Says nothing yet about its other labels.
    #[must_use]
    pub fn wants_name(&self, name: &str) -> bool {
        self.by_name.contains_key(name) || self.unnamed.iter().any(|one| one.matches_name(name))
    }

    #[must_use]
    pub fn of_exprs<'a>(generation: u64, exprs: impl IntoIterator<Item = &'a Expr>) -> Interest {
        Interest::compile(generation, exprs.into_iter().flat_map(Expr::selectors).collect::<Vec<_>>())
    }

    /// The names that are asked for outright, in no particular order.
    pub fn exact_names(&self) -> impl Iterator<Item = &str> {
        self.by_name.keys().map(AsRef::as_ref)
    }

    /// The anchored patterns of names that are asked for by `=~`. A selector with several matchers on the name gives
    /// one of its patterns: a name that passes is possibly wanted, `wants` decides.
    #[must_use]
    pub fn name_patterns(&self) -> Vec<regex::Regex> {
        let mut seen = HashSet::new();
        let mut patterns = Vec::new();
        for selector in &self.unnamed {
            if let Some(pattern) = pattern_of(selector)
                && seen.insert(pattern.as_str())
            {
                patterns.push(pattern.clone());
            }
        }
        patterns
    }

    /// Does some selector take any name, or all but some (`!=`, `!~`)?
    #[must_use]
    pub fn any_name(&self) -> bool {
        self.unnamed.iter().any(|selector| pattern_of(selector).is_none())
    }
}

fn pattern_of(selector: &Selector) -> Option<&regex::Regex> {
    selector.name_tests().find_map(|test| match test {
        Test::Matches(_, pattern) => Some(pattern),
        Test::Equal(_) | Test::NotEqual(_) | Test::MatchesNot(..) => None,
    })
}

/// How long to keep which series.
#[derive(Clone, Debug, Default)]
pub(super) struct Retention {
    by_name: HashMap<Box<str>, Vec<(Selector, Need)>>,
    unnamed: Vec<(Selector, Need)>,
    /// The longest reach of all, for what is kept per target.
    pub longest: Duration,
    pub most_samples: u32,
}

/// What to keep of one series.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Keep {
    pub reach: Duration,
    pub samples: u32,
}

impl Retention {
    pub fn of<'a>(exprs: impl IntoIterator<Item = &'a Expr>) -> Retention {
        let mut retention = Retention::default();
        for (selector, need) in exprs.into_iter().flat_map(Expr::needs) {
            match need {
                Need::Reach(reach) => retention.longest = retention.longest.max(reach),
                Need::Newest => retention.most_samples = retention.most_samples.max(1),
                Need::Samples(samples) => retention.most_samples = retention.most_samples.max(samples),
            }
            let list = match selector.exact_name() {
                Some(name) => retention.by_name.entry(name.into()).or_default(),
                None => &mut retention.unnamed,
            };
            if !list.iter().any(|(have, has)| have == selector && *has == need) {
                list.push((selector.clone(), need));
            }
        }
        retention
    }

    fn selecting<'a>(&'a self, labels: &'a Labels) -> impl Iterator<Item = (&'a Selector, Need)> {
        let named = self.by_name.get(labels.name()).into_iter().flatten();
        named
            .chain(&self.unnamed)
            .filter(|(selector, _)| selector.matches(labels))
            .map(|(selector, need)| (selector, *need))
    }

    /// May a series of this name be selected?
    pub fn may_want(&self, name: &str) -> bool {
        self.by_name.contains_key(name) || !self.unnamed.is_empty()
    }

    /// The selectors that name this metric outright; one that is needed in two ways comes twice.
    pub fn selectors_naming(&self, name: &str) -> impl Iterator<Item = &Selector> {
        self.by_name.get(name).into_iter().flatten().map(|(selector, _)| selector)
    }

    /// `None`: nobody asks for this series.
    pub fn keep(&self, labels: &Labels) -> Option<Keep> {
        let mut keep = None;
        for (_, need) in self.selecting(labels) {
            let wanted: &mut Keep = keep.get_or_insert_default();
            match need {
                Need::Reach(reach) => wanted.reach = wanted.reach.max(reach),
                Need::Newest => wanted.samples = wanted.samples.max(1),
                Need::Samples(samples) => wanted.samples = wanted.samples.max(samples),
            }
        }
        keep
    }

    /// The selectors that match a series, each once.
    pub fn selectors_of<'a>(&'a self, labels: &'a Labels) -> Vec<&'a Selector> {
        let mut selectors: Vec<&Selector> = Vec::new();
        for (selector, _) in self.selecting(labels) {
            if !selectors.contains(&selector) {
                selectors.push(selector);
            }
        }
        selectors
    }

    pub fn wants_selector(&self, text: &str) -> bool {
        self.by_name.values().flatten().chain(&self.unnamed).any(|(selector, _)| selector.to_string() == text)
    }
}
