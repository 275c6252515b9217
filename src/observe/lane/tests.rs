use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use proptest::prelude::*;

use super::absorb::absorb;
use super::lane;
use crate::machine::input::{Observation, ProbeOutcome, QueryAnswer, Scrape, ScrapeFailure, TargetKey, TargetKind};
use crate::promql::{Batch, Labels, LocalId, TargetId};
use crate::time::Timestamp;

fn at(millis: i64) -> Timestamp {
    Timestamp::from_millis(millis)
}

fn labels(id: u32) -> Labels {
    Labels::from_pairs([("__name__", format!("series_{id}"))])
}

fn batch(rebind: bool, born: &[u32], vanished: &[u32], samples: &[u32]) -> Batch {
    Batch {
        born: born.iter().map(|id| (LocalId(*id), labels(*id))).collect(),
        vanished: vanished.iter().map(|id| LocalId(*id)).collect(),
        samples: samples.iter().map(|id| (LocalId(*id), 1.0)).collect(),
        process_start: None,
        rebind,
    }
}

fn scraped(target: u32, millis: i64, outcome: Result<Batch, &str>) -> Observation {
    let outcome = match outcome {
        Ok(batch) => Ok(Scrape { generation: 1, batch, samples_exposed: 1, body_bytes: 1 }),
        Err(detail) => Err(ScrapeFailure { reason: "refused", detail: detail.to_owned() }),
    };
    Observation::Scraped { target: TargetId(target), at: at(millis), duration: Duration::ZERO, outcome }
}

fn up(target: u32) -> Observation {
    let key = TargetKey { service: None, kind: TargetKind::Scrape, source: "app".into(), address: "a".into() };
    Observation::TargetUp { target: TargetId(target), key, labels: Labels::default(), interval: Duration::from_secs(1) }
}

fn gone(target: u32, millis: i64) -> Observation {
    Observation::TargetGone { target: TargetId(target), at: at(millis) }
}

fn overrun(target: u32, millis: i64) -> Observation {
    Observation::Overrun { target: TargetId(target), at: at(millis) }
}

fn release(detector: usize, millis: i64, name: &str) -> Observation {
    Observation::Release { service: "api".into(), detector, at: at(millis), outcome: Ok(name.to_owned()) }
}

fn all_of(receiver: &mut super::Receiver) -> Vec<Observation> {
    std::iter::from_fn(|| receiver.try_recv()).collect()
}

fn sorted(mut batch: Batch) -> Batch {
    batch.born.sort();
    batch.vanished.sort();
    batch
}

#[test]
fn of_a_query_the_latest_answer_counts_and_the_gap_is_told_first() {
    let (sender, mut receiver) = lane();
    let queried = |millis: i64, value: f64| {
        let answer = QueryAnswer { series: vec![(labels(0), value)], window: Duration::ZERO };
        Observation::Queried { target: TargetId(4), at: at(millis), duration: Duration::ZERO, outcome: Ok(answer) }
    };
    sender.send(queried(10, 1.0));
    sender.send(queried(20, 2.0));
    assert_eq!(all_of(&mut receiver), [overrun(4, 10), queried(20, 2.0)]);
    sender.send(queried(30, 3.0));
    assert_eq!(all_of(&mut receiver), [queried(30, 3.0)]);
}

#[test]
fn what_is_read_in_time_comes_in_order_and_unchanged() {
    let (sender, mut receiver) = lane();
    let sent =
        [up(1), scraped(1, 10, Ok(batch(true, &[0], &[], &[0]))), up(2), scraped(2, 11, Err("down")), gone(3, 12)];
    for observation in sent.clone() {
        sender.send(observation);
    }
    assert_eq!(all_of(&mut receiver), sent);
}

#[test]
fn a_newer_scrape_replaces_an_unread_one_and_the_gap_is_told_first() {
    let (sender, mut receiver) = lane();
    sender.send(scraped(1, 10, Ok(batch(true, &[0, 1], &[], &[0, 1]))));
    sender.send(scraped(2, 11, Err("down")));
    sender.send(scraped(1, 20, Ok(batch(false, &[2], &[1], &[0, 2]))));
    let expected =
        [overrun(1, 10), scraped(1, 20, Ok(batch(true, &[2, 0], &[], &[0, 2]))), scraped(2, 11, Err("down"))];
    assert_eq!(all_of(&mut receiver), expected);
}

#[test]
fn ids_survive_failed_scrapes_between_the_unread_batch_and_the_next() {
    let (sender, mut receiver) = lane();
    sender.send(scraped(1, 10, Ok(batch(true, &[0], &[], &[0]))));
    sender.send(scraped(1, 20, Err("down")));
    sender.send(scraped(1, 30, Err("still down")));
    assert_eq!(all_of(&mut receiver), [overrun(1, 10), scraped(1, 30, Err("still down"))]);
    sender.send(scraped(1, 40, Ok(batch(false, &[1], &[], &[0, 1]))));
    assert_eq!(all_of(&mut receiver), [scraped(1, 40, Ok(batch(true, &[1, 0], &[], &[0, 1])))]);
    sender.send(scraped(1, 50, Ok(batch(false, &[], &[], &[0, 1]))));
    assert_eq!(all_of(&mut receiver), [scraped(1, 50, Ok(batch(false, &[], &[], &[0, 1])))], "carried only once");
}

#[test]
fn nothing_goes_over_into_another_generation() {
    let (sender, mut receiver) = lane();
    sender.send(scraped(1, 10, Ok(batch(true, &[0], &[], &[0]))));
    let Observation::Scraped { target, at, duration, outcome: Ok(mut scrape) } =
        scraped(1, 20, Ok(batch(true, &[7], &[], &[7])))
    else {
        unreachable!()
    };
    scrape.generation = 2;
    let newer = Observation::Scraped { target, at, duration, outcome: Ok(scrape) };
    sender.send(newer.clone());
    assert_eq!(all_of(&mut receiver), [overrun(1, 10), newer]);
}

#[test]
fn a_replaced_probe_is_a_gap_too() {
    let (sender, mut receiver) = lane();
    let probed = |millis| Observation::Probed {
        target: TargetId(3),
        at: at(millis),
        duration: Duration::ZERO,
        outcome: ProbeOutcome::Up { status: Some(200), release: None },
    };
    for millis in [10, 20, 30] {
        sender.send(probed(millis));
    }
    assert_eq!(all_of(&mut receiver), [overrun(3, 10), probed(30)], "from the first that was not read");
    sender.send(probed(40));
    assert_eq!(all_of(&mut receiver), [probed(40)]);
}

#[test]
fn of_a_release_and_a_reference_the_latest_counts_and_nothing_is_a_gap() {
    let (sender, mut receiver) = lane();
    let reference = |millis, up| Observation::Reference { name: "net".into(), at: at(millis), up };
    sender.send(release(0, 1, "v1"));
    sender.send(reference(2, true));
    sender.send(release(1, 3, "v1"));
    sender.send(release(0, 4, "v2"));
    sender.send(reference(5, false));
    assert_eq!(all_of(&mut receiver), [release(0, 4, "v2"), reference(5, false), release(1, 3, "v1")]);
}

#[test]
fn a_target_that_came_and_went_unread_leaves_nothing() {
    let (sender, mut receiver) = lane();
    for target in 0..1_000 {
        sender.send(up(target));
        sender.send(scraped(target, 1, Err("down")));
        sender.send(scraped(target, 2, Err("down")));
        sender.send(gone(target, 3));
    }
    let queue = sender.shared.queue();
    assert_eq!((queue.order.len(), queue.unread.len(), queue.targets.len()), (0, 0, 0));
    drop(queue);
    assert_eq!(receiver.try_recv(), None);
}

#[test]
fn a_target_that_the_reader_knows_is_told_gone() {
    let (sender, mut receiver) = lane();
    sender.send(up(1));
    assert_eq!(all_of(&mut receiver), [up(1)]);
    sender.send(scraped(1, 1, Err("down")));
    sender.send(gone(1, 2));
    assert_eq!(all_of(&mut receiver), [scraped(1, 1, Err("down")), gone(1, 2)]);
}

#[tokio::test]
async fn recv_waits_and_ends_when_every_sender_is_gone() {
    let (sender, mut receiver) = lane();
    let other = sender.clone();
    let task = tokio::spawn(async move {
        let mut read = Vec::new();
        while let Some(observation) = receiver.recv().await {
            read.push(observation);
        }
        read
    });
    tokio::task::yield_now().await;
    sender.send(release(0, 1, "v1"));
    drop(sender);
    tokio::task::yield_now().await;
    other.send(release(1, 2, "v1"));
    drop(other);
    assert_eq!(task.await.unwrap(), [release(0, 1, "v1"), release(1, 2, "v1")]);
}

#[tokio::test]
async fn after_the_reader_is_gone_nothing_piles_up() {
    let (sender, receiver) = lane();
    sender.send(release(0, 1, "v1"));
    drop(receiver);
    sender.send(up(1));
    assert!(sender.shared.queue().unread.is_empty());
}

/// What a reader of batches knows: the labels of each id, and whether the series is there now.
#[derive(Clone, Debug, Default, PartialEq)]
struct Reader {
    known: BTreeMap<LocalId, Labels>,
    live: BTreeSet<LocalId>,
}

impl Reader {
    fn read(&mut self, batch: &Batch) {
        if batch.rebind {
            *self = Reader::default();
        }
        for (id, labels) in &batch.born {
            assert!(self.live.insert(*id), "{id:?} is born while it is there");
            self.known.insert(*id, labels.clone());
        }
        for id in &batch.vanished {
            assert!(self.live.remove(id), "{id:?} vanishes, but is not there");
        }
        let sampled: BTreeSet<LocalId> = batch.samples.iter().map(|(id, _)| *id).collect();
        assert_eq!(sampled, self.live, "each series that is there has a sample, and no other");
        assert!(self.live.iter().all(|id| self.known.contains_key(id)));
    }
}

/// The batches of a target on whose successive scrapes these ids are there; `true` is a new binding.
fn batches(scrapes: &[(bool, BTreeSet<u32>)]) -> Vec<Batch> {
    let mut before = BTreeSet::new();
    let mut all = Vec::new();
    for (index, (rebind, now)) in scrapes.iter().enumerate() {
        let rebind = *rebind || index == 0;
        if rebind {
            before.clear();
        }
        let born: Vec<u32> = now.difference(&before).copied().collect();
        let vanished: Vec<u32> = before.difference(now).copied().collect();
        let samples: Vec<u32> = now.iter().copied().collect();
        all.push(batch(rebind, &born, &vanished, &samples));
        before.clone_from(now);
    }
    all
}

proptest! {
    /// Whatever part of a sequence of batches is read, the reader ends up knowing the same.
    #[test]
    fn a_reader_that_misses_batches_ends_up_knowing_the_same(
        scrapes in prop::collection::vec((prop::bool::weighted(0.1), prop::collection::btree_set(0u32..6, 0..6)), 1..12),
        missed in prop::collection::vec(any::<bool>(), 12),
    ) {
        let all = batches(&scrapes);
        let mut complete = Reader::default();
        let mut partial = Reader::default();
        let mut unread: Option<Batch> = None;
        for (index, batch) in all.iter().enumerate() {
            complete.read(batch);
            let mut merged = batch.clone();
            if let Some(older) = unread.take() {
                absorb(&mut merged, older);
            }
            if missed[index] && index + 1 < all.len() {
                unread = Some(merged);
            } else {
                partial.read(&merged);
                prop_assert_eq!(&partial.live, &complete.live);
                for id in &partial.live {
                    prop_assert_eq!(&partial.known[id], &complete.known[id]);
                }
            }
        }
    }
}

#[test]
fn absorbing_cancels_what_came_and_went_or_went_and_came() {
    let mut newer = batch(false, &[3], &[1], &[0, 3]);
    absorb(&mut newer, batch(false, &[1, 2], &[3, 4], &[0, 1, 2]));
    assert_eq!(sorted(newer), batch(false, &[2], &[4], &[0, 3]));
    let mut rebound = batch(true, &[0], &[], &[0]);
    absorb(&mut rebound, batch(true, &[5], &[], &[5]));
    assert_eq!(rebound, batch(true, &[0], &[], &[0]));
}
