//! Entries, durable before the effects that depend on them; checkpoints of windows.
