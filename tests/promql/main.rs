//! Prometheus's own tests of expressions, over the real store and evaluator.
//!
//! The test data belongs to the Prometheus project and is not part of this repository: its folder is taken from
//! `BACKSTOP_CONFORMANCE`, and without it the test says that it was skipped. Every `*.test` file of the folder `promql`
//! in it is run, and what passed, failed and was skipped is printed for each, with the reason of every skip. Nothing may
//! fail; in the files that are listed below no fewer evaluations may pass than are pinned.
//!
//! Two things are not compared, since the parser's crate keeps no positions: the `(line:column)` of an annotation, and
//! that of a syntax error.

mod run;
mod script;

use std::path::PathBuf;

/// What passes in each file; raise it when more does.
const PASSING: &[(&str, usize)] = &[
    ("aggregators.test", 143),
    ("at_modifier.test", 77),
    ("extended_vectors.test", 30),
    ("fill-modifier.test", 1),
    ("functions.test", 292),
    ("histograms.test", 83),
    ("literals.test", 20),
    ("selectors.test", 31),
    ("staleness.test", 17),
    ("extended_vectors.test", 30),
];

#[test]
fn prometheus_own_tests_pass() {
    let root = std::env::var_os("BACKSTOP_CONFORMANCE")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../shared/conformance"), PathBuf::from);
    let folder = root.join("promql");
    if !folder.is_dir() {
        assert!(std::env::var("CI").as_deref() != Ok("true"), "no conformance data at {}", folder.display());
        eprintln!("skipped: no conformance data at {}", folder.display());
        return;
    }
    let mut files: Vec<PathBuf> = std::fs::read_dir(&folder)
        .expect("the folder can be read")
        .map(|entry| entry.expect("the folder can be read").path())
        .filter(|path| path.extension().is_some_and(|end| end == "test"))
        .collect();
    files.sort();
    assert!(!files.is_empty(), "no *.test files in {}", folder.display());
    let mut wrong = Vec::new();
    let (mut passed, mut skipped) = (0, 0);
    for path in &files {
        let file = path.file_name().expect("it is a file").to_string_lossy().into_owned();
        let text = std::fs::read(path).expect("a conformance file can be read");
        let tally = run::run(&file, &String::from_utf8_lossy(&text));
        println!("{file}: {} passed, {} failed, {} skipped", tally.passed, tally.failures.len(), tally.skipped);
        for (reason, times) in &tally.skips {
            println!("    skipped {times}: {reason}");
        }
        for failure in &tally.failures {
            println!("    FAILED {failure}");
        }
        let pinned = PASSING.iter().find(|(name, _)| *name == file).map_or(0, |(_, pinned)| *pinned);
        if tally.passed < pinned {
            wrong.push(format!("{file}: {} passed, {pinned} are pinned", tally.passed));
        }
        passed += tally.passed;
        skipped += tally.skipped;
        wrong.extend(tally.failures);
    }
    println!("all: {passed} passed, {} failed, {skipped} skipped", wrong.len());
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
