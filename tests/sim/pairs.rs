//! Which event can meet an incident in which state, as far as `advance` and the commands can make it. What the simulation
//! finds beyond this list is told too.

const fn pair(state: &'static str, event: &'static str) -> (&'static str, &'static str) {
    (state, event)
}

pub const REACHABLE: &[(&str, &str)] = &[pair("none", "opened")];
