//! Promise: what an older backstop of the same version wrote, this one reads; a change of the form is seen here first.

mod samples;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use backstop::decide::event::Entry;
use backstop::journal::form::{self, KINDS};
use samples::samples;

fn golden(kind: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/golden/v{}/{kind}.json", Entry::VERSION))
}

/// The form of what is on disks out there. A file here is added to, or a new version gets a new folder; it is never
/// changed to make this test pass. New files are written by `BACKSTOP_WRITE_GOLDEN=1 cargo test --test golden`, which
/// leaves those that exist alone.
#[test]
fn every_kind_of_entry_has_the_form_that_its_golden_file_pins() {
    let mut by_kind: BTreeMap<&str, Vec<Entry>> = BTreeMap::new();
    for entry in samples() {
        by_kind.entry(form::kind(&entry)).or_default().push(entry);
    }
    assert_eq!(by_kind.keys().copied().collect::<BTreeSet<_>>(), KINDS.iter().copied().collect(), "a sample per kind");
    for (kind, entries) in &by_kind {
        let path = golden(kind);
        let encoded = serde_json::to_string_pretty(entries).unwrap() + "\n";
        if std::env::var_os("BACKSTOP_WRITE_GOLDEN").is_some() && !path.exists() {
            std::fs::write(&path, &encoded).unwrap();
        }
        let file = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        assert_eq!(encoded, file, "{kind} is written otherwise than its golden file says");
        for (value, entry) in serde_json::from_str::<Vec<serde_json::Value>>(&file).unwrap().iter().zip(entries) {
            let body = value.to_string();
            assert_eq!(form::decode(kind, Entry::VERSION, &body).as_ref(), Ok(entry));
            assert_eq!(form::encode(entry).unwrap().kind, *kind);
        }
    }
    let folder = golden("x").parent().unwrap().to_owned();
    let files = std::fs::read_dir(folder).unwrap().map(|file| file.unwrap().path());
    let files: BTreeSet<_> = files.map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned()).collect();
    assert_eq!(files, KINDS.iter().map(ToString::to_string).collect(), "no file without a kind");
}
