//! The operator's file: what is accepted, and how mistakes are shown.

use std::path::{Path, PathBuf};

use backstop::config::{Config, Environment, Report, Source, Style, load, parse};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn variable(name: &str) -> Option<String> {
    match name {
        "PORT" => Some("8080".to_owned()),
        "BAD_URL" => Some("hunter2".to_owned()),
        _ => None,
    }
}

const ENVIRONMENT: Environment<'static> = Environment { variable: &variable, hostname: "host-1" };

fn texts(sources: &[(&str, &str)]) -> Result<Config, Report> {
    let sources: Vec<Source> =
        sources.iter().map(|(path, text)| Source { path: (*path).into(), text: (*text).to_owned() }).collect();
    parse(&sources, &ENVIRONMENT, 1)
}

fn of(files: &[&str]) -> Result<Config, Report> {
    load(&files.iter().map(|file| root().join(file)).collect::<Vec<PathBuf>>(), &ENVIRONMENT, 1)
}
#[test]
fn zz() {
    for f in std::env::var("FILES").unwrap().split_whitespace() {
        match load(&f.split(',').map(PathBuf::from).collect::<Vec<_>>(), &ENVIRONMENT, 1) {
            Ok(c) => println!("=== {f} OK\n{}", c.render_warnings(Style::Plain).unwrap_or_default()),
            Err(r) => println!("=== {f}\n{r}"),
        }
    }
}
