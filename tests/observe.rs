//! What is seen of the world is what the world shows: observers against real sockets, files and processes.

#[path = "observe/connections.rs"]
mod connections;
#[path = "observe/lifecycle.rs"]
mod lifecycle;
#[path = "observe/probes.rs"]
mod probes;
#[path = "observe/queries.rs"]
mod queries;
#[path = "observe/releases.rs"]
mod releases;
#[path = "observe/scrapes.rs"]
mod scrapes;
#[path = "observe/support.rs"]
mod support;
#[path = "observe/traps.rs"]
mod traps;
