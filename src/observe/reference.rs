//! References: endpoints unrelated to the service. If they are dark too, it is we who are cut off.

use std::time::Duration;

use reqwest::{Method, Url};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::ObserveError;
use super::lane::Sender;
use super::request::{Requester, http_url};
use super::schedule::{Ticks, offset};
use crate::config::model::{ClientSpec, ReferenceSpec, RequestLimits};
use crate::machine::input::Observation;
use crate::platform::clock::Clock;
use crate::platform::http::Connections;

/// DESIGN §7.
const CONNECT_LIMIT: Duration = Duration::from_secs(3);

/// One reference, ready to run.
#[derive(Debug)]
pub struct Reference {
    spec: ReferenceSpec,
    url: Url,
    requester: Requester,
}

impl Reference {
    pub fn new(what: &str, spec: &ReferenceSpec) -> Result<Reference, ObserveError> {
        let url = http_url(what, &spec.url)?;
        let connect_timeout = CONNECT_LIMIT.min(spec.timeout);
        // Only the head of the answer is read.
        let limits = RequestLimits { connect_timeout, timeout: spec.timeout, body_bytes_max: 0 };
        let requester = Requester::new(what, &ClientSpec::default(), &limits, Connections::Fresh)?;
        Ok(Reference { spec: spec.clone(), url, requester })
    }

    /// Asks until it is stopped. Any answer counts, whatever its status: it came through the network.
    pub async fn run(mut self, clock: Clock, lane: Sender, stop: CancellationToken) {
        let mut ticks = Ticks::new(offset(&self.spec.url, self.spec.interval), self.spec.interval);
        while ticks.next(&stop).await {
            let Some(up) = stop.run_until_cancelled(self.answers()).await else { return };
            lane.send(Observation::Reference { name: self.spec.name.clone(), at: clock.monotonic(), up });
        }
    }

    async fn answers(&mut self) -> bool {
        let answer = async {
            match self.requester.request(Method::GET, self.url.clone()).await {
                Ok(request) => request.send().await.is_ok(),
                Err(_) => false,
            }
        };
        timeout(self.spec.timeout, answer).await.unwrap_or(false)
    }
}
