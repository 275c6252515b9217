//! Which event can meet an incident in which state, as far as `advance`, the commands and the steps under way can make it.
//! What the simulation finds beyond this list is told too.

/// At any time until it is over: another trigger joins, a person acknowledges or aborts, the RTO passes.
const ANY: &[&str] = &["joined", "acknowledged", "aborted", "rto_passed"];

/// Before anything was done a person may hold it.
const HOLD: &[&str] = &["hold_ordered"];

/// A step of an episode that was aborted, or whose deadline has passed, ends when it ends.
const LATE: &[&str] = &["step_finished"];

/// The same, when it was not even started: the switch was turned, or another release runs by then.
const NOT: &[&str] = &["step_not_started"];

/// By state, the events that can meet it.
const REACHABLE: &[(&str, &[&[&str]])] = &[
    ("none", &[&["opened"]]),
    ("firing", &[ANY, HOLD, &["judged", "proposed", "approved", "admitted", "superseded", "cleared"]]),
    ("held", &[ANY, HOLD, LATE, NOT, &["judged", "proposed", "approved", "admitted", "superseded", "cleared"]]),
    ("escalated", &[ANY, HOLD, &["judged", "proposed", "approved", "admitted", "superseded", "cleared"]]),
    ("held_by_person", &[ANY, HOLD, LATE, &["hold_ended", "approved", "admitted", "superseded", "cleared"]]),
    ("would_roll_back", &[ANY, HOLD, &["judged", "proposed", "approved", "admitted", "superseded", "cleared"]]),
    (
        "proposed",
        &[
            ANY,
            HOLD,
            &["judged", "proposed", "unanswered", "approved", "declined", "expired"],
            &["admitted", "superseded", "cleared"],
        ],
    ),
    (
        "proposed_to_climb",
        &[
            ANY,
            &[
                "check_answered",
                "unanswered",
                "approved",
                "declined",
                "climbed",
                "needs_human",
                "superseded",
                "cleared",
            ],
        ],
    ),
    ("ready", &[ANY, &["step_intended", "step_skipped", "level_failed", "needs_human", "superseded"]]),
    ("ready_to_undo", &[ANY, &["step_intended", "step_skipped", "needs_human", "superseded"]]),
    ("running", &[ANY, LATE, NOT, &["step_started", "needs_human"]]),
    ("undoing", &[ANY, LATE, NOT, &["step_started", "needs_human"]]),
    ("checking", &[ANY, &["step_checked", "needs_human", "superseded"]]),
    ("checking_undo", &[ANY, &["step_checked", "needs_human", "superseded"]]),
    // Left within one turn; only what comes between the end of the step and the turn can meet it.
    ("stepped", &[&["joined", "acknowledged", "aborted", "level_finished", "level_failed", "needs_human"]]),
    ("undo_stepped", &[ANY, &["undo_finished", "needs_human"]]),
    ("verifying", &[ANY, &["check_answered", "came_clear", "level_failed", "needs_human", "superseded"]]),
    ("soaking", &[ANY, &["check_answered", "relapsed", "recovered", "level_failed", "needs_human", "superseded"]]),
    ("level_over", &[ANY, &["proposed", "climbed", "needs_human", "superseded"]]),
    ("level_to_undo", &[ANY, &["undo_began", "needs_human", "superseded"]]),
    (
        "needs_human",
        &[
            ANY,
            LATE,
            NOT,
            &["step_started", "step_skipped", "check_answered", "reminded", "approved", "climbed"],
            &["superseded", "cleared"],
        ],
    ),
    ("recovered", &[&["reopened"]]),
    ("declined", &[&["reopened"]]),
    ("expired", &[&["reopened"]]),
    ("superseded", &[LATE, &["reopened"]]),
    ("aborted", &[LATE, NOT, &["step_started", "reopened"]]),
    ("cleared", &[&["reopened"]]),
];

pub fn reachable() -> impl Iterator<Item = (&'static str, &'static str)> {
    REACHABLE.iter().flat_map(|(state, events)| events.iter().copied().flatten().map(move |event| (*state, *event)))
}

pub fn is_reachable(state: &str, event: &str) -> bool {
    reachable().any(|pair| pair == (state, event))
}
