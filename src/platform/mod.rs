//! What the operating system gives: clock, secrets, HTTP clients, commands, signals, systemd's notifications.

pub mod clock;
pub mod http;
pub mod process;
pub mod secret;
