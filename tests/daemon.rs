//! Promise: the daemon as operators run it keeps its word through crashes, restarts, reloads, deaf endpoints and dead
//! receivers. Everything is real here but the service: the binary, its journal, sockets, scripts, signals.

#[path = "daemon/checks.rs"]
mod checks;
#[path = "daemon/commands.rs"]
mod commands;
#[path = "daemon/crashes.rs"]
mod crashes;
#[path = "daemon/deaf.rs"]
mod deaf;
#[path = "daemon/life.rs"]
mod life;
#[allow(dead_code, reason = "shared with tests/faults.rs, which uses the rest")]
#[path = "daemon/process.rs"]
mod process;
#[path = "daemon/site.rs"]
mod site;
#[path = "daemon/steps.rs"]
mod steps;
#[path = "daemon/wire.rs"]
mod wire;
