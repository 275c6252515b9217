//! What a batch that nobody read leaves to the next one of the same target.

use std::collections::HashSet;

use crate::promql::{Batch, LocalId};

/// Makes `newer` stand for `older` and itself, to a reader that has not seen `older`: afterwards it says what was born
/// and what vanished since the batch before `older`. The values and the process are the newer ones.
///
/// Within one binding of ids (from one `rebind` to the next) an id always means the same series. So of a series that
/// came and went unread nothing is told, and neither of one that went and came back: for the reader it goes on.
pub fn absorb(newer: &mut Batch, older: Batch) {
    if newer.rebind {
        return;
    }
    let back: HashSet<LocalId> = newer.born.iter().map(|(id, _)| *id).collect();
    let gone: HashSet<LocalId> = newer.vanished.iter().copied().collect();
    let came: HashSet<LocalId> = older.born.iter().map(|(id, _)| *id).collect();
    let went: HashSet<LocalId> = older.vanished.iter().copied().collect();

    newer.born.retain(|(id, _)| !went.contains(id));
    newer.born.extend(older.born.into_iter().filter(|(id, _)| !gone.contains(id)));
    newer.vanished.retain(|id| !came.contains(id));
    newer.vanished.extend(older.vanished.into_iter().filter(|id| !back.contains(id)));
    newer.rebind = older.rebind;
}
