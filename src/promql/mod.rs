//! Selectors, the series store with its windows, and the evaluation of expressions with evidence.

mod eval;
mod expr;
mod labels;
mod store;

pub use eval::{EvalError, Evaluation, Gap, Instant, RatioParts, SelectorEvidence, Value, evaluate};
pub use expr::{Comparison, Expr, ParseError, Selector};
pub use labels::Labels;
pub use store::{Batch, Interest, LocalId, Scope, SeriesDump, ServiceId, Store, TargetDump, TargetId, TargetMeta};
