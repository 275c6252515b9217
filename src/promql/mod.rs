//! Selectors, the series store with its windows, and the evaluation of expressions with evidence.

mod eval;
mod expr;
mod labels;
mod places;
#[cfg(test)]
mod props;
mod selector;
mod store;
#[cfg(test)]
mod testkit;

pub use eval::{
    Annotation, BurnPair, EvalError, Evaluation, Gap, Instant, RatioParts, SelectorEvidence, Value, evaluate, go_number,
};
pub use expr::{BURN_PAIRS, BurnWindows, Comparison, Expr, Need, ParseError, Shape};
pub use labels::{Labels, Texts};
pub use places::Places;
pub use selector::Selector;
pub use store::{
    Batch, Clock, ClockedSamples, EverDump, Instants, Interest, LocalId, Point, Samples, SamplesView, Scope,
    SeriesDump, SeriesView, ServiceId, Store, TargetDump, TargetId, TargetMeta, TargetView, grow, quarter_more,
};
