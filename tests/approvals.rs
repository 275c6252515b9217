//! Promise: the link in a notice answers the one question that it was sent for, once; opening it changes nothing; who has
//! no genuine link learns nothing. The binary, its listener, its notices; the page also before a fake engine.

mod fake_daemon;
#[path = "approvals/links.rs"]
mod links;
#[path = "approvals/pages.rs"]
mod pages;
#[allow(dead_code, reason = "shared with tests/daemon.rs, which uses the rest")]
#[path = "daemon/process.rs"]
mod process;
#[allow(dead_code, reason = "shared with tests/daemon.rs, which uses the rest")]
#[path = "daemon/site.rs"]
mod site;
#[allow(dead_code, reason = "shared with tests/daemon.rs, which uses the rest")]
#[path = "daemon/wire.rs"]
mod wire;
