//! backstop watches a service; when a release breaks it, it rolls the release back, proves the recovery, and tells
//! everyone who must know.

pub mod exposition;
pub mod promql;
pub mod time;
