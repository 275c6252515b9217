//! Promise: what the page docs/failures.md says of disks, networks, signals and clocks holds for the real daemon: the
//! binary, killed at every sync of its journal, on a disk that is full or broken, cut off, stopped and restarted.
//!
//! `BACKSTOP_FAULTS=all` runs every point and every variant where a test otherwise takes a sample. What needs root or
//! another program (strace, unshare, ip) is skipped with a line where that is missing, and fails where `CI=true`.

#[path = "faults/damage.rs"]
mod damage;
#[path = "faults/disks.rs"]
mod disks;
#[path = "support/foreign.rs"]
mod foreign;
#[path = "faults/networks.rs"]
mod networks;
#[path = "faults/places.rs"]
mod places;
#[allow(dead_code, reason = "shared with tests/daemon.rs, which uses the rest")]
#[path = "daemon/process.rs"]
mod process;
#[path = "faults/quiet.rs"]
mod quiet;
#[allow(dead_code, reason = "shared with tests/golden, which uses the rest")]
#[path = "golden/samples.rs"]
mod samples;
#[allow(dead_code, reason = "shared with tests/daemon.rs, which uses the rest")]
#[path = "daemon/site.rs"]
mod site;
#[path = "faults/stops.rs"]
mod stops;
#[path = "faults/syncs.rs"]
mod syncs;
#[allow(dead_code, reason = "shared with tests/daemon.rs, which uses the rest")]
#[path = "daemon/wire.rs"]
mod wire;
