//! The lane from the observers to the engine: bounded, and sending never waits.
//!
//! Of what is seen of a target the latest counts: an unread scrape, probe or query is replaced by the next one of the same
//! target, and [`Observation::Overrun`] tells of it before the newer one is read. What was born and what vanished in
//! a replaced batch goes over into the next batch, so that the reader knows every local id (`absorb`).
//!
//! The bound: one slot per target, release detector and reference, and the coming and going of each target, where a
//! target that came and went unread leaves nothing. So it is bounded by the configuration, not by time.

mod absorb;
#[cfg(test)]
mod tests;

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use absorb::absorb;
use tokio::sync::Notify;

use crate::machine::input::{Observation, Scrape};
use crate::promql::{Batch, TargetId};
use crate::time::Timestamp;

/// Both ends of a new lane.
#[must_use]
pub fn lane() -> (Sender, Receiver) {
    let shared = Arc::new(Shared { queue: Mutex::new(Queue { senders: 1, ..Queue::default() }), ready: Notify::new() });
    (Sender { shared: Arc::clone(&shared) }, Receiver { shared })
}

/// The observers' end. Cheap to clone.
#[derive(Debug)]
pub struct Sender {
    shared: Arc<Shared>,
}

/// The engine's end.
#[derive(Debug)]
pub struct Receiver {
    shared: Arc<Shared>,
}

/// A mutex and not a channel: a channel cannot replace what is still unread. It is held for a few map operations and
/// never across an await.
#[derive(Debug)]
struct Shared {
    queue: Mutex<Queue>,
    ready: Notify,
}

impl Shared {
    /// No operation on the queue panics half-way, so one that a panicking thread left behind is whole.
    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Sender {
    /// Puts an observation into the lane. Never waits; with nobody left to read it, it is dropped.
    pub fn send(&self, observation: Observation) {
        let mut queue = self.shared.queue();
        if queue.closed {
            return;
        }
        queue.put(observation);
        drop(queue);
        self.shared.ready.notify_one();
    }
}

impl Clone for Sender {
    fn clone(&self) -> Sender {
        self.shared.queue().senders += 1;
        Sender { shared: Arc::clone(&self.shared) }
    }
}

impl Drop for Sender {
    fn drop(&mut self) {
        self.shared.queue().senders -= 1;
        self.shared.ready.notify_one();
    }
}

impl Receiver {
    /// The next observation; `None` once all senders are gone and everything is read. Losing this future loses
    /// nothing.
    pub async fn recv(&mut self) -> Option<Observation> {
        loop {
            {
                let mut queue = self.shared.queue();
                if let Some(observation) = queue.take() {
                    return Some(observation);
                }
                if queue.senders == 0 {
                    return None;
                }
            }
            // A notification between the look and this wait is kept as a permit: there is one receiver.
            self.shared.ready.notified().await;
        }
    }

    /// The next observation, if there is one now.
    pub fn try_recv(&mut self) -> Option<Observation> {
        self.shared.queue().take()
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        let mut queue = self.shared.queue();
        queue.closed = true;
        queue.order.clear();
        queue.unread.clear();
        queue.targets.clear();
    }
}

/// What an unread observation waits under. One that comes under a key that already waits takes its place.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Key {
    Up(TargetId),
    Gone(TargetId),
    /// What was last seen of a target.
    Latest(TargetId),
    Overrun(TargetId),
    Release(Arc<str>, usize),
    Reference(Arc<str>),
}

#[derive(Debug, Default)]
struct Queue {
    /// Each key of `unread` once, in the order of their first arrival.
    order: VecDeque<Key>,
    unread: HashMap<Key, Observation>,
    targets: HashMap<TargetId, Target>,
    senders: usize,
    closed: bool,
}

/// What must be remembered of a target beyond what is unread.
#[derive(Debug, Default)]
struct Target {
    /// When the first observation that was replaced since the last read was made.
    overrun: Option<Timestamp>,
    /// The generation and the batch of a scrape that nobody read: its ids must reach the reader with the next batch,
    /// even if failed scrapes come between.
    carried: Option<(u64, Batch)>,
}

impl Queue {
    fn put(&mut self, observation: Observation) {
        let (key, observation) = match observation {
            Observation::Scraped { target, at, duration, outcome } => {
                self.replace(target);
                let outcome = outcome.map(|scrape| self.with_carried(target, scrape));
                (Key::Latest(target), Observation::Scraped { target, at, duration, outcome })
            }
            Observation::Probed { target, .. } | Observation::Queried { target, .. } => {
                self.replace(target);
                (Key::Latest(target), observation)
            }
            Observation::TargetGone { target, .. } => {
                self.targets.remove(&target);
                if self.unread.contains_key(&Key::Up(target)) {
                    for key in [Key::Up(target), Key::Latest(target), Key::Overrun(target)] {
                        self.unread.remove(&key);
                    }
                    self.order.retain(|key| self.unread.contains_key(key));
                    return;
                }
                (Key::Gone(target), observation)
            }
            Observation::TargetUp { target, .. } => (Key::Up(target), observation),
            Observation::Overrun { target, .. } => (Key::Overrun(target), observation),
            Observation::Release { ref service, detector, .. } => {
                (Key::Release(Arc::clone(service), detector), observation)
            }
            Observation::Reference { ref name, .. } => (Key::Reference(Arc::clone(name)), observation),
        };
        if self.unread.insert(key.clone(), observation).is_none() {
            self.order.push_back(key);
        }
    }

    /// Notes that what is unread of a target is about to be replaced. Its key keeps its place in `order`, so that a
    /// target that is seen often does not fall back for ever.
    fn replace(&mut self, target: TargetId) {
        let (at, carried) = match self.unread.get_mut(&Key::Latest(target)) {
            Some(Observation::Scraped { at, outcome: Ok(scrape), .. }) => {
                (*at, Some((scrape.generation, std::mem::take(&mut scrape.batch))))
            }
            Some(
                Observation::Scraped { at, outcome: Err(_), .. }
                | Observation::Probed { at, .. }
                | Observation::Queried { at, .. },
            ) => (*at, None),
            None
            | Some(
                Observation::TargetUp { .. }
                | Observation::TargetGone { .. }
                | Observation::Release { .. }
                | Observation::Reference { .. }
                | Observation::Overrun { .. },
            ) => return,
        };
        let state = self.targets.entry(target).or_default();
        state.overrun.get_or_insert(at);
        // An unread batch has absorbed what was carried before it, so nothing is lost here.
        if carried.is_some() {
            state.carried = carried;
        }
    }

    /// The batch, with what an unread one before it knew.
    fn with_carried(&mut self, target: TargetId, mut scrape: Scrape) -> Scrape {
        if let Some((generation, older)) = self.targets.get_mut(&target).and_then(|state| state.carried.take())
            && generation == scrape.generation
        {
            absorb(&mut scrape.batch, older);
        }
        scrape
    }

    fn take(&mut self) -> Option<Observation> {
        let key = self.order.front()?;
        if let Key::Latest(target) = key
            && let Some(at) = self.targets.get_mut(target).and_then(|state| state.overrun.take())
        {
            return Some(Observation::Overrun { target: *target, at });
        }
        let key = self.order.pop_front()?;
        let observation = self.unread.remove(&key);
        debug_assert!(observation.is_some(), "what is in `order` is in `unread`");
        observation
    }
}
