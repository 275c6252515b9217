//! The journal's thread: takes turns, writes them in order, tells when they are durable, and keeps them while it cannot.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, TryRecvError};
use std::time::Duration;

use tokio::sync::mpsc::Sender;

use super::JournalEvent;
use super::mark::Mark;
use super::owner::Lock;
use super::reserve::Reserve;
use super::store::{Store, WriteError};
use crate::decide::event::{Record, Seq};

/// Entries of one transaction, about: whole turns are added until it is reached. Keeps the first turn of a burst from
/// waiting for the last.
const GROUP_RECORDS: usize = 1024;
/// Between two tries while the disk fails: doubled from the first to the last. A turn that comes is a try as well.
const RETRY_FIRST: Duration = Duration::from_millis(50);
const RETRY_LAST: Duration = Duration::from_secs(5);
/// How often an idle journal looks whether the space that it gave away can be reserved again.
const RESERVE_RETRY: Duration = Duration::from_secs(30);

#[derive(Debug)]
pub(super) struct Writer {
    store: Store,
    mark: Mark,
    reserve: Reserve,
    turns: Receiver<Vec<Record>>,
    events: Sender<JournalEvent>,
    /// Entries handed over and not durable; shared with the handle, which bounds it.
    waiting: Arc<AtomicUsize>,
    /// Whole turns, oldest first.
    backlog: VecDeque<Vec<Record>>,
    state: State,
    /// The last field: the directory is given back when everything else is closed.
    _lock: Lock,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Writing,
    /// The delay before the next try.
    Failing(Duration),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Woken {
    Go,
    /// No turn will come any more.
    Closed,
}

impl Writer {
    pub fn new(
        store: Store,
        mark: Mark,
        reserve: Reserve,
        turns: Receiver<Vec<Record>>,
        events: Sender<JournalEvent>,
        waiting: Arc<AtomicUsize>,
        lock: Lock,
    ) -> Writer {
        let backlog = VecDeque::new();
        Writer { store, mark, reserve, turns, events, waiting, backlog, state: State::Writing, _lock: lock }
    }

    /// Until the handle is gone and everything is written, or one last try has failed; the entries left unwritten.
    pub fn run(mut self) -> usize {
        while self.wait() == Woken::Go {
            self.write();
            self.reserve.take_back();
        }
        self.write();
        self.backlog.iter().map(Vec::len).sum()
    }

    /// Sleeps until there is something to do; takes all turns that have come.
    pub(super) fn wait(&mut self) -> Woken {
        let first = match self.patience() {
            None => self.turns.recv().map_err(|_| RecvTimeoutError::Disconnected),
            Some(patience) => self.turns.recv_timeout(patience),
        };
        match first {
            Ok(turn) => self.backlog.push_back(turn),
            Err(RecvTimeoutError::Timeout) => return Woken::Go,
            Err(RecvTimeoutError::Disconnected) => return Woken::Closed,
        }
        loop {
            match self.turns.try_recv() {
                Ok(turn) => self.backlog.push_back(turn),
                Err(TryRecvError::Empty) => return Woken::Go,
                Err(TryRecvError::Disconnected) => return Woken::Closed,
            }
        }
    }

    /// How long to sleep at most; None for as long as it takes.
    fn patience(&self) -> Option<Duration> {
        match self.state {
            State::Failing(delay) => Some(delay),
            State::Writing if !self.reserve.held() => Some(RESERVE_RETRY),
            State::Writing => None,
        }
    }

    /// Writes the backlog in groups of whole turns, until it is empty or the disk fails.
    pub(super) fn write(&mut self) {
        while !self.backlog.is_empty() {
            match self.write_group() {
                Ok(seq) => self.succeeded(seq),
                Err(error) => return self.failed(&error),
            }
        }
    }

    fn write_group(&mut self) -> Result<Seq, WriteError> {
        if self.state != State::Writing {
            let there = self.store.reconcile(&self.backlog)?;
            if let Some(seq) = self.forget(there) {
                return Ok(seq);
            }
        }
        let turns = self.group();
        let written = match self.store.append(self.backlog.iter().take(turns).flatten()) {
            Err(error)
                if (error.disk_is_full() || (error.may_be_full() && self.reserve.disk_is_full()))
                    && self.reserve.release() =>
            {
                let there = self.store.reconcile(&self.backlog)?;
                if let Some(seq) = self.forget(there) {
                    return Ok(seq);
                }
                self.store.append(self.backlog.iter().take(turns).flatten())?
            }
            other => other?,
        };
        self.forget(turns);
        Ok(written)
    }

    /// How many turns make the next transaction: at least one.
    fn group(&self) -> usize {
        let mut records = 0;
        let full = self.backlog.iter().position(|turn| {
            records += turn.len();
            records >= GROUP_RECORDS
        });
        full.map_or(self.backlog.len(), |last| last + 1)
    }

    /// Drops turns that are durable; the last entry of them.
    fn forget(&mut self, turns: usize) -> Option<Seq> {
        let mut last = None;
        for turn in self.backlog.drain(..turns) {
            self.waiting.fetch_sub(turn.len(), Ordering::AcqRel);
            last = turn.last().map(|record| record.seq).or(last);
        }
        last
    }

    fn succeeded(&mut self, seq: Seq) {
        // Before anybody acts on it.
        self.mark.note(self.store.head());
        self.tell(JournalEvent::Durable(seq));
        // Back only when nothing of the outage is left, so that "back" is true for whoever hears it.
        if self.state != State::Writing && self.backlog.is_empty() {
            self.state = State::Writing;
            tracing::info!("the journal can be written again");
            self.tell(JournalEvent::Back);
        }
    }

    fn failed(&mut self, error: &WriteError) {
        match self.state {
            State::Writing => {
                self.state = State::Failing(RETRY_FIRST);
                tracing::error!(%error, "the journal cannot be written; no new rollback starts until it can");
                self.tell(JournalEvent::Failed(error.to_string()));
            }
            State::Failing(delay) => {
                self.state = State::Failing((delay * 2).min(RETRY_LAST));
                tracing::debug!(%error, "the journal still cannot be written");
            }
        }
    }

    /// During the shutdown nobody may listen any more; what is written counts all the same.
    fn tell(&self, event: JournalEvent) {
        if let Err(unheard) = self.events.blocking_send(event) {
            tracing::debug!(event = ?unheard.0, "nobody listens to the journal any more");
        }
    }

    #[cfg(test)]
    pub fn store(&self) -> &Store {
        &self.store
    }
}
