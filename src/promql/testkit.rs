//! A scraping task as the tests need it: it says what was born and what vanished.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::{
    Batch, Evaluation, Expr, Instant, Labels, LocalId, Scope, Selector, ServiceId, Store, TargetDump, TargetId,
    TargetMeta, TargetView, Value, evaluate,
};
use crate::time::Timestamp;

pub(super) const API: ServiceId = ServiceId(1);
pub(super) const EVERY: Duration = Duration::from_secs(15);

pub(super) fn at(secs: i64) -> Timestamp {
    Timestamp::from_millis(secs * 1000)
}

pub(super) fn selector(text: &str) -> Selector {
    Selector::parse(text).expect("a selector")
}

pub(super) fn expr(text: &str) -> Expr {
    Expr::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"))
}

/// `name{label="value"}` as a label set.
pub(super) fn labels(text: &str) -> Labels {
    let (name, rest) = text.split_once('{').unwrap_or((text, ""));
    let pairs = rest.trim_end_matches('}').split(',').filter(|pair| !pair.is_empty()).map(|pair| {
        let (label, value) = pair.split_once('=').expect("label=value");
        (label.trim().to_owned(), value.trim().trim_matches('"').to_owned())
    });
    Labels::from_pairs(pairs.chain([("__name__".to_owned(), name.to_owned())]).collect::<Vec<_>>())
}

pub(super) struct Kit {
    pub store: Store,
    /// What each target showed last, with the local id.
    shown: BTreeMap<TargetId, BTreeMap<Labels, LocalId>>,
    next: u32,
}

impl Kit {
    pub fn new(exprs: &[Expr]) -> Kit {
        let mut kit = Kit { store: Store::new(exprs), shown: BTreeMap::new(), next: 0 };
        kit.attach(0, "app", "");
        kit
    }

    pub fn attach(&mut self, target: u32, source: &str, own_labels: &str) {
        let own_labels = labels(&format!("x{{{own_labels}}}")).filter(|label| label != "__name__");
        let meta =
            TargetMeta { scope: Scope::Service(API), source: Arc::from(source), labels: own_labels, interval: EVERY };
        self.store.attach(TargetId(target), meta);
    }

    /// A successful scrape of target 0 that shows exactly these series.
    pub fn scrape(&mut self, secs: i64, series: &[(&str, f64)]) {
        self.scrape_of(0, secs, None, series);
    }

    /// The first scrape of a new task, which says so.
    pub fn rebind(&mut self, secs: i64, series: &[(&str, f64)]) {
        self.forget_announced();
        self.next += 1000;
        let mut batch = self.batch(0, None, series);
        batch.rebind = true;
        self.store.push(TargetId(0), at(secs), &batch);
    }

    pub fn scrape_of(&mut self, target: u32, secs: i64, process_start: Option<f64>, series: &[(&str, f64)]) {
        let batch = self.batch(target, process_start, series);
        self.store.push(TargetId(target), at(secs), &batch);
    }

    /// The same of target 0, to the millisecond.
    pub fn scrape_at(&mut self, ms: i64, process_start: Option<f64>, series: &[(&str, f64)]) {
        let batch = self.batch(0, process_start, series);
        self.store.push(TargetId(0), Timestamp::from_millis(ms), &batch);
    }

    pub fn dump(&self) -> Vec<TargetDump> {
        self.store.lend().map(TargetView::dump).collect()
    }

    /// The daemon was restarted: the windows come from its checkpoint, and all series are announced again.
    pub fn come_back(&mut self, question: &Expr) {
        let mut back = Kit::new(std::slice::from_ref(question));
        for dump in self.dump() {
            back.store.restore(dump.target, dump);
        }
        back.next = self.next;
        *self = back;
    }

    fn batch(&mut self, target: u32, process_start: Option<f64>, series: &[(&str, f64)]) -> Batch {
        let known = self.shown.entry(TargetId(target)).or_default();
        let mut batch = Batch { process_start, ..Batch::default() };
        let now: BTreeMap<Labels, f64> = series.iter().map(|(text, value)| (labels(text), *value)).collect();
        known.retain(|labels, local| {
            let stays = now.contains_key(labels);
            if !stays {
                batch.vanished.push(*local);
            }
            stays
        });
        for (labels, value) in now {
            let local = known.entry(labels.clone()).or_insert_with(|| {
                self.next += 1;
                batch.born.push((LocalId(self.next), labels));
                LocalId(self.next)
            });
            batch.samples.push((*local, value));
        }
        batch
    }

    /// The task starts over, as after a reload or a restart of the daemon: all series are announced again.
    pub fn forget_announced(&mut self) {
        self.shown.clear();
    }

    pub fn fail(&mut self, secs: i64) {
        self.store.fail(TargetId(0), at(secs));
    }

    pub fn fail_at(&mut self, ms: i64) {
        self.store.fail(TargetId(0), Timestamp::from_millis(ms));
    }

    pub fn ask_at(&self, expr: &Expr, ms: i64) -> Evaluation {
        let instant = Instant { at: Timestamp::from_millis(ms), wall_offset_ms: 0 };
        evaluate(expr, &self.store, API, instant).expect("it evaluates")
    }

    pub fn own(&mut self, target: u32, secs: i64, series: &str, value: f64) {
        self.store.push_own(TargetId(target), at(secs), &labels(series), value);
    }

    pub fn ask(&self, expr: &Expr, secs: i64) -> Evaluation {
        evaluate(expr, &self.store, API, Instant { at: at(secs), wall_offset_ms: 0 }).expect("it evaluates")
    }

    /// The single value of a question, if it has one.
    pub fn value(&self, expr: &Expr, secs: i64) -> Option<f64> {
        match self.ask(expr, secs).value {
            Value::Scalar(number) => Some(number),
            Value::Vector(rows) => {
                assert!(rows.len() <= 1, "one value: {rows:?}");
                rows.first().map(|row| row.1)
            }
        }
    }
}
