//! backstop watches a service; when a release breaks it, it rolls the release back, proves that it recovered, and tells
//! everyone who must know.

pub mod act;
pub mod app;
pub mod cli;
pub mod config;
pub mod decide;
pub mod engine;
pub mod exposition;
pub mod journal;
pub mod machine;
pub mod notify;
pub mod observe;
pub mod platform;
pub mod promql;
pub mod serve;
pub mod supervise;
pub mod time;
