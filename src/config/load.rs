//! Reads the files. The only part of this room that touches the world.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use super::cursor::Cx;
use super::model::Config;
use super::places::{Place, Problem};
use super::{Environment, Report, Source, parse_in};

/// An operator's file is a few kilobytes; what is larger is another file.
const FILE_BYTES_MAX: u64 = 4 << 20;

/// What could not be read, and the bytes of the shown text that are at fault.
struct Unreadable {
    at: usize,
    message: String,
    help: &'static str,
}

/// Reads and compiles files. One that cannot be read is an error like any other; the others are checked all the same.
pub fn load(files: &[PathBuf], environment: &Environment<'_>, generation: u64) -> Result<Config, Report> {
    let mut sources = Vec::new();
    let mut unreadable = Vec::new();
    for (file, path) in files.iter().enumerate() {
        let text = match read(path) {
            Ok(text) => text,
            Err((text, problem)) => {
                unreadable.push((file, problem));
                text
            }
        };
        sources.push(Source { path: path.clone(), text });
    }
    if let Some((again, first)) = given_twice(files) {
        let message = format!("the file is given twice, also as {}", files[first].display());
        unreadable.push((again, Unreadable { at: 0, message, help: "give each file once" }));
    }
    let cx = Cx::new(&sources, environment);
    for (file, Unreadable { at, message, help }) in unreadable {
        cx.set_unreadable(file);
        cx.error(Problem::at(Place { file, start: at, end: at }, message).help(help));
    }
    parse_in(&cx, generation)
}

fn given_twice(files: &[PathBuf]) -> Option<(usize, usize)> {
    let real: Vec<Option<PathBuf>> = files.iter().map(|path| std::fs::canonicalize(path).ok()).collect();
    (0..real.len()).find_map(|again| {
        let first = real[..again].iter().position(|path| path.is_some() && *path == real[again])?;
        Some((again, first))
    })
}

/// The text, or what can be shown of it and why it cannot be used.
fn read(path: &Path) -> Result<String, (String, Unreadable)> {
    let no = |message: String, help| (String::new(), Unreadable { at: 0, message, help });
    let metadata = std::fs::metadata(path).map_err(|error| match error.kind() {
        ErrorKind::NotFound => {
            no("there is no such file".to_owned(), "check the path; it is relative to where backstop is started")
        }
        ErrorKind::PermissionDenied => {
            no("the file may not be read".to_owned(), "let the user that backstop runs as read it")
        }
        _ => no(format!("the file cannot be read: {error}"), "check the path"),
    })?;
    if metadata.is_dir() {
        return Err(no("this is a directory".to_owned(), "name the files in it, such as DIRECTORY/*.toml"));
    }
    if metadata.len() > FILE_BYTES_MAX {
        return Err(no("the file is larger than 4 MiB".to_owned(), "this does not look like a configuration"));
    }
    let bytes = std::fs::read(path).map_err(|error| match error.kind() {
        ErrorKind::PermissionDenied => {
            no("the file may not be read".to_owned(), "let the user that backstop runs as read it")
        }
        _ => no(format!("the file cannot be read: {error}"), "check the path"),
    })?;
    String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        let shown = String::from_utf8_lossy(error.as_bytes()).into_owned();
        (shown, Unreadable { at, message: "the file is not UTF-8".to_owned(), help: "save it as UTF-8 in your editor" })
    })
}
