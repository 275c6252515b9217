//! The triggers of the rollback playbooks, each from bytes on the wire to the decision, on both sides of its threshold,
//! of its duration and of its least count of events. The rows (T1 …) are those of the playbooks.
//!
//! The configuration is the very preset that an operator copies, with `autonomy = "act"`. Time is virtual: every body
//! goes through the scan and the cache that `observe` uses, every answer of a health check through its judge, and the
//! machine is told what these make of it. `real_wire` does the same once over real sockets.
//!
//! Reading order: `stage` (time and machine), `world` (what the service serves), then the rows.

#[path = "playbooks/asked.rs"]
mod asked;
#[path = "playbooks/business.rs"]
mod business;
#[path = "playbooks/connections.rs"]
mod connections;
#[path = "playbooks/decisions.rs"]
mod decisions;
#[path = "playbooks/down.rs"]
mod down;
#[path = "playbooks/everywhere.rs"]
mod everywhere;
#[path = "playbooks/proofs.rs"]
mod proofs;
#[path = "playbooks/rates.rs"]
mod rates;
#[path = "playbooks/real_wire.rs"]
mod real_wire;
#[path = "playbooks/resources.rs"]
mod resources;
#[path = "playbooks/slow.rs"]
mod slow;
#[path = "playbooks/stage.rs"]
mod stage;
#[path = "playbooks/world.rs"]
mod world;
