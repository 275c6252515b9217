//! The form: what is written piece by piece is the form of the whole frame; what it says of targets comes back.

use std::time::Duration;

use super::read::Inconsistent;
use super::*;
use crate::machine::checkpoint::{EverMatched, View};
use crate::promql::{Point, SeriesDump, TargetDump, TargetId};
use crate::time::{BootId, Now};

#[test]
fn each_kind_of_target_comes_back_and_the_first_two_are_the_bytes_they_were() {
    #[derive(Serialize)]
    struct Before {
        service: Option<String>,
        scrape: bool,
        source: String,
        address: String,
    }
    for kind in [TargetKind::Scrape, TargetKind::Probe, TargetKind::Query] {
        let key = TargetKey { service: Some("api".into()), kind, source: "app".into(), address: "a".into() };
        let bytes = postcard::to_stdvec(&key_frame(&key)).unwrap();
        assert_eq!(key_of(&postcard::from_bytes(&bytes).unwrap()), key);
        let scrape = kind == TargetKind::Scrape;
        let (service, source, address) = (Some("api".to_owned()), "app".to_owned(), "a".to_owned());
        let before = postcard::to_stdvec(&Before { service, scrape, source, address }).unwrap();
        assert_eq!(bytes == before, kind != TargetKind::Query, "{kind:?}");
    }
}

#[derive(Debug, Serialize, Deserialize)]
struct Frame<'a> {
    #[serde(borrow)]
    head: Head<'a>,
    #[serde(borrow)]
    targets: Vec<TargetFrame<'a>>,
    verdicts: Vec<VerdictFrame>,
    baselines: Vec<BaselineFrame>,
    ever: Vec<EverFrame>,
}

fn series(n: i64, from: i64, to: i64) -> SeriesDump {
    #[expect(clippy::cast_precision_loss, reason = "small")]
    let sample = |at: i64| Point { at: Timestamp::from_millis(at * 1000), value: (at % (n + 3)) as f64 };
    SeriesDump {
        labels: Labels::from_pairs([("__name__", "m".to_owned()), ("n", n.to_string())]),
        own: n == 1,
        samples: (from..to).map(sample).collect(),
        from_zero: from == 0,
        replaced: (from + 1..to).filter(|at| at % 7 == n).map(|at| Timestamp::from_millis(at * 1000)).collect(),
    }
}

#[test]
fn a_frame_in_pieces_has_the_bytes_of_the_whole() {
    let keys = ["a", "b", "c"].map(|address| TargetKey {
        service: (address != "b").then(|| "api".into()),
        kind: TargetKind::Scrape,
        source: "app".into(),
        address: address.into(),
    });
    let mut written = Written::default();
    let (mut read, mut last) = (Read::default(), Vec::new());
    for turn in 0..6_i64 {
        let (from, to) = (turn * 3, turn * 5 + 20);
        let dump = |target: u32| TargetDump {
            target: TargetId(target),
            process_start: (target > 0).then_some(12.5),
            scrapes: (from..to).map(|at| Timestamp::from_millis(at * 1000)).collect(),
            series: (turn / 3..4 + turn / 2).map(|n| series(n, from, to)).collect(),
        };
        let dumps = [0, 1, 2].map(dump);
        let windows = keys.iter().zip(&dumps).skip(usize::from(turn == 4)).map(|(key, dump)| (key, dump.lend()));
        let at = Timestamp::from_millis(turn);
        let now = Now { monotonic: at, wall: at, boot: BootId("boot".into()), since_boot: Duration::from_secs(1) };
        let ever =
            EverMatched { service: None, selector: "m".to_owned(), series: vec![1, 2, 300 + turn.unsigned_abs()] };
        let view =
            View { now, windows: windows.collect(), verdicts: Vec::new(), baselines: Vec::new(), ever: vec![ever] };
        let mut bytes = Vec::new();
        let room = if turn == 0 { 100 } else { usize::MAX };
        assert_eq!(written.frame(&view, room, &mut bytes).unwrap(), turn > 0, "frame {turn}");
        let frame: Frame<'_> = postcard::from_bytes(&bytes).unwrap();
        assert_eq!(frame.targets.len(), view.windows.len());
        assert_eq!(postcard::to_stdvec(&frame).unwrap(), bytes, "frame {turn}");
        read.apply(&bytes).unwrap();
        last = bytes;
    }
    assert_eq!(read.apply(&last[..last.len() - 1]), Err(Inconsistent), "cut short");
}
