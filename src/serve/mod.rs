//! API, own metrics and health; reads a snapshot, sends commands.
