use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::decide::verdict::{Phase, Verdict};
use crate::decide::worsened::{Past, Slot, Worse};
use crate::machine::checkpoint::{BaselineDump, Checkpoint, EverMatched, VerdictDump, View};
use crate::machine::input::{TargetKey, TargetKind};
use crate::promql::{
    Batch, Expr, Instants, Labels, LocalId, Point, Scope, SeriesDump, Store as Windows, TargetDump, TargetId,
    TargetMeta,
};
use crate::time::{BootId, Now, Timestamp};

fn now(at: i64) -> Now {
    Now {
        monotonic: Timestamp::from_millis(at),
        wall: Timestamp::from_millis(at + 7),
        boot: BootId("5b1c".into()),
        since_boot: Duration::from_millis(3),
    }
}

fn key(source: &str) -> TargetKey {
    TargetKey {
        service: Some("api".into()),
        kind: TargetKind::Scrape,
        source: source.into(),
        address: "http://127.0.0.1:8080/metrics".into(),
    }
}

fn nothing() -> Checkpoint {
    Checkpoint { now: now(0), windows: Vec::new(), verdicts: Vec::new(), baselines: Vec::new(), ever: Vec::new() }
}

fn verdict(at: i64) -> VerdictDump {
    let at = Timestamp::from_millis(at);
    VerdictDump {
        service: "api".into(),
        trigger: "error-rate".into(),
        question: "a / b > 0.15".into(),
        labels: Labels::from_pairs([("pod", "a")]),
        verdict: Verdict {
            phase: Phase::Pending,
            since: at,
            began: Some(at),
            held: Duration::from_millis(1_234),
            known: Some((at, true)),
            unknown_since: None,
            filling_since: None,
            inherited: Some(at),
            right_until: Some(Timestamp::from_millis(4000)),
            wrong_since: Some(Timestamp::from_millis(17)),
            unproven: true,
            past: Past {
                slots: vec![Slot { from: at, to: at, worst: 0.25 }],
                baseline: Some(0.2),
                worse: Some(Worse { began: at, at, value: 0.5, held: Duration::from_secs(1), broken: true }),
            },
        },
    }
}

fn baseline(at: i64) -> BaselineDump {
    let at = Timestamp::from_millis(at);
    BaselineDump {
        service: "api".into(),
        trigger: "slower".into(),
        question: "latency, more than 50 % above its median".into(),
        labels: Labels::from_pairs([("route", "a")]),
        slots: vec![(at, 0.25)],
        frozen: Some(0.2),
        seen: at,
    }
}

/// As often as it takes.
fn save(file: &mut CheckpointFile, checkpoint: &Checkpoint) {
    loop {
        if file.encode(&checkpoint.view()).and_then(|next| file.write(next)).unwrap() {
            break;
        }
    }
}

/// Series as bit patterns, since NaN (staleness) is not equal to itself; sorted, since a file keeps no order.
type Plain = Vec<(TargetKey, u32, Vec<i64>, Vec<PlainSeries>)>;
type PlainSeries = (String, (bool, bool), Vec<(i64, u64)>, Vec<i64>);

fn plain(checkpoint: &Checkpoint) -> Plain {
    let mut targets: Plain = checkpoint
        .windows
        .iter()
        .map(|(key, dump)| {
            let mut series: Vec<_> = dump
                .series
                .iter()
                .filter(|series| !series.samples.is_empty())
                .map(|series| {
                    let samples = series.samples.iter().map(|point| (point.at.as_millis(), point.value.to_bits()));
                    let replaced = series.replaced.iter().map(|at| at.as_millis());
                    let marks = (series.own, series.from_zero);
                    (series.labels.to_string(), marks, samples.collect(), replaced.collect())
                })
                .collect();
            series.sort();
            (key.clone(), dump.target.0, dump.scrapes.iter().map(Timestamp::as_millis).collect(), series)
        })
        .collect();
    targets.sort();
    targets
}

/// Windows that a store could have: samples come at the end, go at the front, series and targets come and go.
#[derive(Clone, Debug)]
enum Change {
    Scrape { target: usize, values: Vec<Option<u64>>, replaced: bool },
    Trim { target: usize, keep: usize },
    Forget { target: usize, series: usize },
    Gone { target: usize },
    Rewritten { target: usize },
    Began { target: usize, from_zero: bool },
}

fn change() -> impl Strategy<Value = Change> {
    let values = prop::collection::vec(
        prop::option::weighted(0.8, prop_oneof![(0u32..50).prop_map(|n| f64::from(n).to_bits()), any::<u64>()]),
        3,
    );
    prop_oneof![
        8 => (0usize..3, values, any::<bool>())
            .prop_map(|(target, values, replaced)| Change::Scrape { target, values, replaced }),
        2 => (0usize..3, 0usize..6).prop_map(|(target, keep)| Change::Trim { target, keep }),
        1 => (0usize..3, 0usize..3).prop_map(|(target, series)| Change::Forget { target, series }),
        1 => (0usize..3).prop_map(|target| Change::Gone { target }),
        1 => (0usize..3).prop_map(|target| Change::Rewritten { target }),
        1 => (0usize..3, any::<bool>()).prop_map(|(target, from_zero)| Change::Began { target, from_zero }),
    ]
}

/// One selector per target, which matches all that it ever showed.
fn note_ever(checkpoint: &mut Checkpoint, key: &TargetKey, values: &[Option<u64>]) {
    let place = checkpoint.ever.iter().position(|one| one.selector == *key.source).unwrap_or_else(|| {
        let service = key.source.ends_with('0').then(|| "api".into());
        checkpoint.ever.push(EverMatched { service, selector: key.source.to_string(), series: Vec::new() });
        checkpoint.ever.len() - 1
    });
    let series = &mut checkpoint.ever[place].series;
    series.extend(values.iter().flatten());
    series.sort_unstable();
    series.dedup();
    checkpoint.ever.retain(|one| !one.series.is_empty());
}

fn scrape(dump: &mut TargetDump, values: &[Option<u64>], replaced: bool, at: Timestamp) {
    dump.scrapes.push(at);
    for (index, bits) in values.iter().enumerate() {
        let Some(bits) = bits else { continue };
        let labels = Labels::from_pairs([("__name__", "m".to_owned()), ("n", index.to_string())]);
        let sample = Point { at, value: f64::from_bits(*bits) };
        if let Some(series) = dump.series.iter_mut().find(|series| series.labels == labels) {
            series.replaced.extend((replaced && !series.samples.is_empty()).then_some(at));
            series.samples.extend([sample]);
            continue;
        }
        let (own, replaced) = (index == 2, Vec::new());
        dump.series.push(SeriesDump {
            labels,
            own,
            samples: [sample].into_iter().collect(),
            from_zero: false,
            replaced,
        });
    }
}

fn make(checkpoint: &mut Checkpoint, change: &Change, at: i64) {
    let (Change::Scrape { target, .. }
    | Change::Trim { target, .. }
    | Change::Forget { target, .. }
    | Change::Gone { target }
    | Change::Rewritten { target }
    | Change::Began { target, .. }) = change;
    let key = key(&format!("s{target}"));
    if matches!(change, Change::Gone { .. }) {
        checkpoint.windows.retain(|(have, _)| *have != key);
        checkpoint.ever.retain(|one| one.selector != *key.source);
        return;
    }
    if let Change::Scrape { values, .. } = change {
        note_ever(checkpoint, &key, values);
    }
    if !checkpoint.windows.iter().any(|(have, _)| *have == key) {
        let dump = TargetDump {
            target: TargetId(u32::try_from(at % 1_000).unwrap()),
            process_start: Some(12.5),
            scrapes: Instants::default(),
            series: Vec::new(),
        };
        checkpoint.windows.push((key.clone(), dump));
    }
    let (_, dump) = checkpoint.windows.iter_mut().find(|(have, _)| *have == key).unwrap();
    match change {
        Change::Scrape { values, replaced, .. } => scrape(dump, values, *replaced, Timestamp::from_millis(at)),
        Change::Trim { keep, .. } => {
            while dump.scrapes.len() > *keep {
                dump.scrapes.pop();
            }
            for series in &mut dump.series {
                while series.samples.len() > *keep {
                    series.samples.pop_front();
                }
                let first = series.samples.first().map_or(Timestamp::MAX, |point| point.at);
                series.replaced.retain(|at| *at > first);
            }
        }
        Change::Forget { series, .. } => {
            if *series < dump.series.len() {
                dump.series.remove(*series);
            }
        }
        Change::Rewritten { .. } => {
            if let Some(SeriesDump { samples, .. }) = dump.series.first_mut()
                && let Some(newest) = samples.len().checked_sub(1)
            {
                let rewritten = |(place, point)| if place == newest { Point { value: 77.25, ..point } } else { point };
                *samples = samples.iter().enumerate().map(rewritten).collect();
            }
        }
        Change::Began { from_zero, .. } => {
            if let Some(series) = dump.series.first_mut() {
                series.from_zero = *from_zero;
            }
        }
        Change::Gone { .. } => unreachable!("handled above"),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]
    #[test]
    fn a_checkpoint_of_changes_reads_as_the_last_one_saved(
        saves in prop::collection::vec(prop::collection::vec(change(), 0..6), 1..12),
        cut in 0usize..200,
    ) {
        let folder = tempfile::tempdir().unwrap();
        let mut file = CheckpointFile::open(folder.path());
        let mut checkpoint = nothing();
        let mut at = 1_000;
        let mut history = Vec::new();
        for changes in &saves {
            for change in changes {
                at += 250;
                make(&mut checkpoint, change, at);
            }
            at += 1;
            checkpoint.now = now(at);
            checkpoint.verdicts = vec![verdict(at)];
            checkpoint.baselines = vec![baseline(at)];
            checkpoint.ever.sort_by(|a, b| (&a.service, &a.selector).cmp(&(&b.service, &b.selector)));
            save(&mut file, &checkpoint);
            history.push(plain(&checkpoint));
        }
        let read = CheckpointFile::open(folder.path()).load().unwrap();
        prop_assert_eq!(&read.now, &checkpoint.now);
        prop_assert_eq!(&read.verdicts, &checkpoint.verdicts);
        prop_assert_eq!(&read.baselines, &checkpoint.baselines);
        prop_assert_eq!(&read.ever, &checkpoint.ever);
        prop_assert_eq!(plain(&read), history.last().unwrap().clone());

        // Cut short anywhere, it is one of those before, or none.
        let path = folder.path().join("windows");
        let bytes = std::fs::read(&path).unwrap();
        std::fs::write(&path, &bytes[..bytes.len().saturating_sub(cut + 1)]).unwrap();
        if let Some(read) = CheckpointFile::open(folder.path()).load() {
            prop_assert!(history[..history.len() - 1].contains(&plain(&read)));
        }
    }
}

#[test]
fn a_damaged_or_foreign_checkpoint_is_none_and_never_stops_anyone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("windows");
    assert_eq!(CheckpointFile::open(folder.path()).load(), None, "there is none");
    let mut file = CheckpointFile::open(folder.path());
    let mut checkpoint = Checkpoint { now: now(5), verdicts: vec![verdict(1)], ..nothing() };
    make(&mut checkpoint, &Change::Scrape { target: 0, values: vec![Some(1), None, Some(3)], replaced: false }, 250);
    save(&mut file, &checkpoint);
    let good = std::fs::read(&path).unwrap();
    assert_eq!(plain(&file.load().unwrap()), plain(&checkpoint));
    for index in 0..good.len() {
        let mut bad = good.clone();
        bad[index] ^= 0x40;
        std::fs::write(&path, &bad).unwrap();
        assert_eq!(file.load(), None, "byte {index}");
    }
    std::fs::write(&path, &good[..12]).unwrap();
    assert_eq!(file.load(), None, "only a header");
    std::fs::remove_file(&path).unwrap();
    std::fs::create_dir(&path).unwrap();
    assert_eq!(file.load(), None, "a directory");
    let mut other = CheckpointFile::open(folder.path());
    assert!(
        other
            .encode(&checkpoint.view())
            .and_then(|bytes| other.write(bytes))
            .unwrap_err()
            .to_string()
            .contains("windows")
    );
}

#[test]
fn what_has_ever_matched_is_written_once_and_forgotten_with_its_selector() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("windows");
    let mut file = CheckpointFile::open(folder.path());
    let ever = |service: Option<&str>, series: std::ops::Range<u64>| EverMatched {
        service: service.map(Into::into),
        selector: "m".to_owned(),
        series: series.collect(),
    };
    let mut checkpoint = Checkpoint { ever: vec![ever(None, 1..5_000)], ..nothing() };
    save(&mut file, &checkpoint);
    let first = std::fs::metadata(&path).unwrap().len();
    checkpoint.ever = vec![ever(None, 1..5_001), ever(Some("api"), 7..8)];
    save(&mut file, &checkpoint);
    assert!(std::fs::metadata(&path).unwrap().len() < first + 100, "only what is new");
    assert_eq!(file.load().unwrap().ever, checkpoint.ever);
    // It had gone in between and began again.
    checkpoint.ever = vec![ever(None, 3..4)];
    save(&mut file, &checkpoint);
    assert_eq!(file.load().unwrap().ever, checkpoint.ever);
}

#[test]
fn a_checkpoint_file_stays_within_three_times_its_windows() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("windows");
    let mut file = CheckpointFile::open(folder.path());
    let mut checkpoint = nothing();
    let noise = |at: i64, index: u64| Some((at.cast_unsigned() + index).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    let (mut appended, mut rewritten, mut before) = (0, 0, 0);
    for at in 1..4_000 {
        let values = (0..40).map(|index| noise(at, index)).collect();
        make(&mut checkpoint, &Change::Scrape { target: 0, values, replaced: false }, at * 250);
        make(&mut checkpoint, &Change::Trim { target: 0, keep: 60 }, at * 250);
        save(&mut file, &checkpoint);
        let length = std::fs::metadata(&path).unwrap().len();
        assert!(length < 400 * 1024, "{length} bytes after {at} saves");
        if length > before {
            appended += 1;
        } else {
            rewritten += 1;
        }
        before = length;
    }
    assert!(appended > 100 * rewritten && rewritten > 0, "{appended} appended, {rewritten} rewritten");
    assert_eq!(plain(&file.load().unwrap()), plain(&checkpoint));
}

/// What a live store lends, saved after each scrape, against copies of it.
#[test]
fn what_a_store_lends_reads_as_its_copy() {
    let key = key("app");
    let question = Expr::parse("rate(m[1m])").unwrap();
    let mut store = Windows::new([&question]);
    let target = TargetId(7);
    let meta = TargetMeta {
        scope: Scope::Shared,
        source: "app".into(),
        labels: Labels::default(),
        interval: Duration::from_secs(1),
    };
    store.attach(target, meta);
    let series = |n: u32| Labels::from_pairs([("__name__", "m".to_owned()), ("n", n.to_string())]);
    let view = |store: &Windows, at: i64, see: &mut dyn FnMut(View<'_>)| {
        let windows = store.lend().map(|target| (&key, target)).collect();
        see(View { now: now(at), windows, verdicts: Vec::new(), baselines: Vec::new(), ever: Vec::new() });
    };
    let folder = tempfile::tempdir().unwrap();
    let mut file = CheckpointFile::open(folder.path());
    let mut frames: Option<(Frames, Vec<u8>)> = None;
    for second in 0..400_u32 {
        let at = Timestamp::from_millis(i64::from(second) * 1000);
        // Series come and go, so that places are used again; some value drops now and then; the process is replaced.
        let age = |n: u32| (second + n * 37) % 140;
        let ids = 0..5_u32;
        let batch = Batch {
            born: ids
                .clone()
                .filter(|n| age(*n) == 0 || second == 0)
                .map(|n| (LocalId(n), series(n + second)))
                .collect(),
            vanished: ids.clone().filter(|n| age(*n) == 60).map(LocalId).collect(),
            samples: ids
                .filter(|n| age(*n) < 60)
                .map(|n| (LocalId(n), f64::from((second * (n + 1)) % 97 + second / 50 * 200)))
                .collect(),
            process_start: Some(f64::from(second / 50)),
            rebind: false,
        };
        if second == 250 {
            store.restart(target, Timestamp::from_millis(230_000));
        }
        store.push(target, at, &batch);
        if second % 90 == 89 {
            store.fail(target, Timestamp::from_millis(i64::from(second) * 1000 + 10));
        }
        view(&store, i64::from(second), &mut |view| {
            let copy = plain(&view.copy());
            let encoded = file.encode(&view).unwrap();
            assert!(file.write(encoded).unwrap());
            let read = file.load().unwrap();
            let shares =
                read.windows.iter().flat_map(|(_, dump)| &dump.series).all(|one| one.samples.shares_instants());
            assert!(shares, "no series lacks an instant of its target after {second} s");
            assert_eq!(plain(&read), copy, "the file after {second} s");
            let (frames, bytes) = frames.get_or_insert_with(|| Frames::begin(&view).unwrap());
            let more = frames.next(&view).unwrap();
            assert!(more.len() < 400, "{} bytes after {second} s", more.len());
            bytes.extend(more);
            assert_eq!(plain(&Frames::read(bytes).unwrap()), copy, "the bytes after {second} s");
        });
    }
}

#[test]
fn many_samples_are_saved_in_parts_and_take_the_place_of_the_old_file_together() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("windows");
    let mut checkpoint = nothing();
    make(&mut checkpoint, &Change::Scrape { target: 1, values: vec![Some(3)], replaced: false }, 250);
    save(&mut CheckpointFile::open(folder.path()), &checkpoint);
    let old = std::fs::read(&path).unwrap();

    let values = || vec![Some(5); 7];
    make(&mut checkpoint, &Change::Scrape { target: 0, values: values(), replaced: false }, 500);
    let long = |index: i64| Point { at: Timestamp::from_millis(1_000 + index), value: 1.0 };
    for series in &mut checkpoint.windows[1].1.series {
        series.samples.extend((0..30_000).map(long));
    }
    // A target of which the first part has no series yet, and all of them ended between two scrapes.
    for at in [600, 700] {
        make(&mut checkpoint, &Change::Scrape { target: 2, values: vec![Some(5); 2], replaced: false }, at);
        for series in &mut checkpoint.windows[2].1.series {
            series.samples.extend([Point { at: Timestamp::from_millis(at + 1), value: 2.0 }]);
        }
    }
    let mut file = CheckpointFile::open(folder.path());
    let mut parts = 0;
    loop {
        parts += 1;
        // What is new meanwhile comes too.
        make(&mut checkpoint, &Change::Scrape { target: 0, values: values(), replaced: true }, 100_000 + parts);
        if file.encode(&checkpoint.view()).and_then(|next| file.write(next)).unwrap() {
            break;
        }
        assert_eq!(std::fs::read(&path).unwrap(), old, "part {parts}");
    }
    assert_eq!(parts, 8, "of 16,384 samples, and a series is never cut; the last is of the last target");
    let read = file.load().unwrap();
    assert_eq!(plain(&read), plain(&checkpoint));
    let series = |(_, dump): &(TargetKey, TargetDump)| dump.series.iter().all(|one| one.samples.shares_instants());
    assert!(series(&read.windows[2]), "series that came later than the scrapes share their instants");

    // One that is encoded and never written: the next begins anew.
    make(&mut checkpoint, &Change::Scrape { target: 1, values: vec![Some(9)], replaced: false }, 200_000);
    drop(file.encode(&checkpoint.view()).unwrap());
    make(&mut checkpoint, &Change::Scrape { target: 1, values: vec![Some(8)], replaced: false }, 201_000);
    assert!(!file.encode(&checkpoint.view()).and_then(|part| file.write(part)).unwrap(), "a new file");
    save(&mut file, &checkpoint);
    assert_eq!(plain(&file.load().unwrap()), plain(&checkpoint));
}
