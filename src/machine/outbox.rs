//! The durable outbox: one queue per receiver, in order, retried until delivered or visibly dead.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use super::Machine;
use super::input::DeliveryOutcome;
use super::notices::UNREADABLE;
use super::output::{DeliveryOrder, Output};
use crate::decide::event::{Entry, Notice, NoticeKind, NoticeStatus, Seq};
use crate::decide::incident::State;
use crate::decide::rules::ReceiverRules;
use crate::decide::verdict::Phase;
use crate::time::{Now, Timestamp};

/// Undelivered notices per receiver. An incident makes about ten; a receiver that is this far behind is not read.
const QUEUED_MAX: usize = 1000;

/// Dead letters kept for people to see; the journal has all of them.
const DEAD_SHOWN_MAX: usize = 100;

#[derive(Clone, Debug)]
struct Queued {
    notice: Arc<Notice>,
    /// The entry that accepted it.
    seq: Seq,
    since: Timestamp,
    attempts: u32,
    fell_back: bool,
}

#[derive(Clone, Debug, Default)]
struct Queue {
    pending: VecDeque<Queued>,
    in_flight: bool,
    retry_at: Option<Timestamp>,
    last_error: Option<String>,
    dead: VecDeque<(Notice, String)>,
    dead_count: usize,
}

#[derive(Debug)]
pub struct Outbox {
    queues: BTreeMap<Arc<str>, Queue>,
    rules: Vec<ReceiverRules>,
    /// Notices of the daemon itself, counted.
    pub(super) count: u64,
}

impl Outbox {
    pub fn new(rules: &[ReceiverRules]) -> Outbox {
        let mut outbox = Outbox { queues: BTreeMap::new(), rules: Vec::new(), count: 0 };
        outbox.reconfigure(rules);
        outbox
    }

    pub fn reconfigure(&mut self, rules: &[ReceiverRules]) {
        self.rules = rules.to_vec();
        for receiver in rules {
            self.queues.entry(Arc::clone(&receiver.name)).or_default();
        }
    }

    /// When something is to be tried, given up, or sent to a fallback.
    pub fn wakes(&self) -> impl Iterator<Item = Timestamp> {
        self.queues.iter().flat_map(|(name, queue)| {
            let rules = self.rules.iter().find(|rules| rules.name == *name);
            let head = queue.pending.front();
            let mut wakes = Vec::new();
            if head.is_some() && !queue.in_flight {
                wakes.extend(queue.retry_at);
            }
            if let (Some(head), Some(rules)) = (head, rules) {
                wakes.push(head.since + rules.give_up_after);
                let waiting = queue.pending.iter().find(|queued| !queued.fell_back);
                if rules.fallback.is_some() {
                    wakes.extend(waiting.map(|queued| queued.since + rules.fallback_after));
                }
            }
            wakes
        })
    }

    /// As replayed from the journal.
    pub fn replay_queued(&mut self, notice: Notice, receivers: &[String], seq: Seq, since: Timestamp) {
        if notice.incident.is_none() {
            self.count = self.count.max(notice.seq);
        }
        let notice = Arc::new(notice);
        for receiver in receivers {
            let queue = self.queues.entry(Arc::from(receiver.as_str())).or_default();
            queue.pending.push_back(Queued { notice: Arc::clone(&notice), seq, since, attempts: 0, fell_back: false });
        }
    }

    pub fn replay_gone(&mut self, notice: &str, receiver: &str, why: Option<&str>) {
        let Some(queue) = self.queues.get_mut(receiver) else { return };
        let Some(at) = queue.pending.iter().position(|queued| queued.notice.id == notice) else { return };
        if let Some(gone) = queue.pending.remove(at)
            && let Some(why) = why
        {
            queue.bury(&gone.notice, why.to_owned());
        }
    }

    pub fn replay_fell_back(&mut self, notice: &str, receiver: &str, fallback: &str, seq: Seq, since: Timestamp) {
        let Some(queue) = self.queues.get_mut(receiver) else { return };
        let Some(queued) = queue.pending.iter_mut().find(|queued| queued.notice.id == notice) else { return };
        queued.fell_back = true;
        let copy = Queued { attempts: 0, since, seq, ..queued.clone() };
        self.queues.entry(Arc::from(fallback)).or_default().pending.push_back(copy);
    }

    pub fn views(&self, now: &Now) -> Vec<super::snapshot::ReceiverView> {
        let view = |(name, queue): (&Arc<str>, &Queue)| super::snapshot::ReceiverView {
            name: Arc::clone(name),
            queued: queue.pending.len(),
            dead: queue.dead_count,
            oldest_wall: queue.pending.front().map(|queued| now.wall_of(queued.since)),
            last_error: queue.last_error.clone(),
            dead_letters: queue.dead.iter().cloned().collect(),
        };
        self.queues.iter().map(view).collect()
    }

    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.rules.iter().map(|rules| &*rules.name)
    }
}

impl Queue {
    fn bury(&mut self, notice: &Notice, why: String) {
        self.dead_count += 1;
        self.dead.push_back((notice.clone(), why));
        if self.dead.len() > DEAD_SHOWN_MAX {
            self.dead.pop_front();
        }
    }
}

impl Machine {
    pub(super) fn queue(&mut self, notice: Notice, receivers: Vec<String>, now: &Now) {
        if receivers.is_empty() {
            return;
        }
        let entry = Entry::NoticeQueued { notice: Box::new(notice.clone()), receivers: receivers.clone() };
        let seq = self.record(now, entry).seq;
        let notice = Arc::new(notice);
        for receiver in receivers {
            let queue = self.outbox.queues.entry(Arc::from(receiver.as_str())).or_default();
            if queue.pending.len() >= QUEUED_MAX {
                let why = format!("{QUEUED_MAX} notices wait for it already");
                queue.bury(&notice, why.clone());
                self.counters.notices_dead += 1;
                self.record(now, Entry::NoticeDead { notice: notice.id.clone(), receiver, why });
                continue;
            }
            queue.pending.push_back(Queued {
                notice: Arc::clone(&notice),
                seq,
                since: now.monotonic,
                attempts: 0,
                fell_back: false,
            });
        }
        self.dirty = true;
    }

    /// Starts what may be delivered now, gives up what is too old, and goes around receivers that do not answer.
    pub(super) fn pump(&mut self, now: &Now, out: &mut Vec<Output>) {
        let names: Vec<Arc<str>> = self.outbox.queues.keys().cloned().collect();
        for name in names {
            self.give_up(&name, now);
            self.fall_back(&name, now);
        }
        let durable = if self.journal_failing.is_some() { Seq(u64::MAX) } else { self.durable };
        let mut orders = Vec::new();
        for (name, queue) in &mut self.outbox.queues {
            let due = queue.retry_at.is_none_or(|at| at <= now.monotonic);
            let Some(head) = queue.pending.front_mut().filter(|head| head.seq <= durable) else { continue };
            if queue.in_flight || !due {
                continue;
            }
            head.attempts += 1;
            queue.in_flight = true;
            queue.retry_at = None;
            orders.push((Arc::clone(name), head.clone()));
        }
        for (receiver, queued) in orders {
            let outdated = !self.still_true(&queued.notice);
            out.push(Output::Deliver(Box::new(DeliveryOrder {
                receiver,
                notice: (*queued.notice).clone(),
                attempt: queued.attempts,
                outdated,
                // A fallback has it only since the first receiver failed.
                age: now.monotonic.since(queued.since).max(now.wall.since(queued.notice.occurred_at)),
            })));
        }
    }

    fn give_up(&mut self, name: &Arc<str>, now: &Now) {
        let rules = self.outbox.rules.iter().find(|rules| rules.name == *name).cloned();
        loop {
            let Some(queue) = self.outbox.queues.get_mut(name) else { return };
            let Some(head) = queue.pending.front().filter(|_| !queue.in_flight) else { return };
            let why = match &rules {
                None => "the receiver is not configured any more".to_owned(),
                Some(rules) if now.monotonic.since(head.since) >= rules.give_up_after => {
                    let last = queue.last_error.as_deref().unwrap_or("no answer");
                    format!("not delivered for {}: {last}", crate::decide::trigger::short(rules.give_up_after))
                }
                Some(_) => return,
            };
            self.bury(name, why, now);
        }
    }

    /// The head of a queue will not be tried again; where there is a fallback it goes there.
    fn bury(&mut self, name: &Arc<str>, why: String, now: &Now) {
        let fallback = self.outbox.rules.iter().find(|rules| rules.name == *name).and_then(|r| r.fallback.clone());
        let Some(queue) = self.outbox.queues.get_mut(name) else { return };
        let Some(head) = queue.pending.pop_front() else { return };
        queue.retry_at = None;
        queue.bury(&head.notice, why.clone());
        self.counters.notices_dead += 1;
        if let Some(fallback) = fallback.filter(|_| !head.fell_back) {
            self.go_around(name, &fallback, &head, now);
        }
        let receiver = name.to_string();
        self.record(now, Entry::NoticeDead { notice: head.notice.id.clone(), receiver, why });
        self.dirty = true;
    }

    fn fall_back(&mut self, name: &Arc<str>, now: &Now) {
        let Some(rules) = self.outbox.rules.iter().find(|rules| rules.name == *name) else { return };
        let (Some(fallback), after) = (rules.fallback.clone(), rules.fallback_after) else { return };
        let Some(queue) = self.outbox.queues.get_mut(name) else { return };
        let mut around = Vec::new();
        for queued in &mut queue.pending {
            if !queued.fell_back && now.monotonic.since(queued.since) >= after {
                queued.fell_back = true;
                around.push(queued.clone());
            }
        }
        for queued in around {
            self.go_around(name, &fallback, &queued, now);
        }
    }

    /// The entry comes before that of its end, so that replay finds what to copy.
    fn go_around(&mut self, name: &Arc<str>, fallback: &Arc<str>, queued: &Queued, now: &Now) {
        let queue = self.outbox.queues.entry(Arc::clone(fallback)).or_default();
        // It was sent there in the first place.
        if queue.pending.iter().any(|other| other.notice.id == queued.notice.id) {
            return;
        }
        let entry = Entry::NoticeFellBack {
            notice: queued.notice.id.clone(),
            receiver: name.to_string(),
            fallback: fallback.to_string(),
        };
        let seq = self.record(now, entry).seq;
        // From the fallback it goes no further, and it has its own time there.
        let copy = Queued { attempts: 0, fell_back: true, since: now.monotonic, seq, ..queued.clone() };
        self.outbox.queues.entry(Arc::clone(fallback)).or_default().pending.push_back(copy);
        self.dirty = true;
    }

    pub(super) fn delivered(
        &mut self,
        now: &Now,
        receiver: &Arc<str>,
        notice: &str,
        outcome: DeliveryOutcome,
        _out: &mut Vec<Output>,
    ) {
        self.dirty = true;
        let Some(queue) = self.outbox.queues.get_mut(receiver) else { return };
        queue.in_flight = false;
        if queue.pending.front().is_none_or(|head| head.notice.id != notice) {
            return;
        }
        match outcome {
            DeliveryOutcome::Delivered => {
                queue.pending.pop_front();
                queue.last_error = None;
                self.counters.notices_delivered += 1;
                let receiver = receiver.to_string();
                self.record(now, Entry::NoticeDelivered { notice: notice.to_owned(), receiver });
            }
            DeliveryOutcome::Retry { after, why } => {
                queue.retry_at = Some(now.monotonic + after.max(Duration::from_millis(1)));
                queue.last_error = Some(why);
            }
            DeliveryOutcome::Dead { why } => {
                queue.last_error = Some(why.clone());
                self.bury(receiver, why, now);
            }
        }
    }

    /// Does the world still look as the notice says?
    fn still_true(&self, notice: &Notice) -> bool {
        // An incident that is not in memory any more is over, and so is an earlier episode of one that is.
        let state = notice.incident.as_ref().and_then(|id| self.incidents.get(id)).and_then(|incident| {
            let episode = format!("/{}/{}", incident.id, incident.episode);
            notice.dedup_key.ends_with(&episode).then_some(&incident.state)
        });
        let is = |wanted: &str| state.is_some_and(|state| state.as_str() == wanted);
        match notice.kind {
            NoticeKind::WouldRollBack => is("would_roll_back"),
            NoticeKind::Held => is("held"),
            NoticeKind::Escalated if notice.decision.as_deref() == Some("escalate") => is("escalated"),
            // It takes longer than the RTO, whatever is being done.
            NoticeKind::Escalated => state.is_some_and(State::is_open),
            NoticeKind::ApprovalRequested => is("proposed"),
            NoticeKind::NeedsHuman => is("needs_human"),
            NoticeKind::Started | NoticeKind::StepFailed | NoticeKind::LevelFinished => {
                state.is_some_and(State::is_open)
            }
            NoticeKind::Blind => self.services.iter().any(|service| {
                Some(&*service.rules.name) == notice.service.as_deref()
                    && service.triggers.iter().any(|trigger| trigger.phase() == Phase::Blind)
            }),
            NoticeKind::Paused => match notice.service.as_deref().and_then(|name| self.service_index(name)) {
                Some(index) => self.services[index].pause.is_some() || self.services[index].kill.is_some(),
                None => self.pause.is_some() || self.killed(None, None).is_some(),
            },
            NoticeKind::Degraded if notice.status == NoticeStatus::Resolved => true,
            NoticeKind::Degraded => match self.way_back_told(notice) {
                Some((index, check)) => self.services[index].ready_told.contains(check),
                None => notice.dedup_key.ends_with(UNREADABLE) || self.journal_failing.is_some(),
            },
            NoticeKind::Declined
            | NoticeKind::Expired
            | NoticeKind::Recovered
            | NoticeKind::Superseded
            | NoticeKind::ReleaseReappeared
            | NoticeKind::Unblind
            | NoticeKind::Resumed
            | NoticeKind::Heartbeat
            | NoticeKind::Test => true,
        }
    }
}
