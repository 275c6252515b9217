//! Promise: what a Prometheus-compatible server says of a service counts as if backstop had seen it, and what it does not
//! say is not known.

#[path = "queries/judged.rs"]
mod judged;
#[allow(dead_code, reason = "shared with tests/daemon.rs, which uses the rest")]
#[path = "daemon/process.rs"]
mod process;
#[path = "queries/prometheus.rs"]
mod prometheus;
#[path = "queries/served.rs"]
mod served;
#[allow(dead_code, reason = "shared with tests/daemon.rs, which uses the rest")]
#[path = "daemon/site.rs"]
mod site;
mod support;
#[allow(dead_code, reason = "shared with tests/daemon.rs, which uses the rest")]
#[path = "daemon/wire.rs"]
mod wire;
