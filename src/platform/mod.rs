//! What the operating system gives: clock, secrets, HTTP clients, signals, systemd's notifications.

pub mod clock;
pub mod http;
pub mod process;
pub mod secret;
