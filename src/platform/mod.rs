//! What the operating system gives: clock, secrets, HTTP clients, processes, limits, signals, systemd's notifications.

pub mod clock;
pub mod http;
pub mod limits;
pub mod process;
pub mod secret;
pub mod signals;
pub mod systemd;
