//! Looks at the world: probes, scrapes and release detectors become observations; knows nothing of triggers.
//!
//! One task per scrape target, probe target, detector and reference. What they see goes into the [`lane`]; a task
//! never waits for whoever reads it. Release detectors inside a process (a metric's label, a probe's JSON) are read
//! from what scrapes and probes bring.

mod blocking;
mod fetch;
pub mod lane;
mod observers;
mod probe;
mod query;
mod reference;
mod release;
mod request;
mod schedule;
mod scrape;

pub use observers::{Change, Observers};
// What becomes of an answer without asking for one: tests with a clock of their own judge the bytes of a target by it.
pub use probe::{HttpCheck, Prober, Reply};
pub use request::Clients;
pub use scrape::{Cache, Scraper, read};

use crate::platform::http::ClientError;

/// Why something configured cannot be observed at all.
#[derive(Debug, thiserror::Error)]
pub enum ObserveError {
    #[error("{what} cannot be observed")]
    Client {
        what: String,
        #[source]
        source: ClientError,
    },
    #[error("{what}: {why}")]
    Invalid { what: String, why: String },
}

impl ObserveError {
    fn invalid(what: &str, why: String) -> ObserveError {
        ObserveError::Invalid { what: what.to_owned(), why }
    }
}
