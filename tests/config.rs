//! The operator's file: what is accepted, and how mistakes are shown.

use std::path::{Path, PathBuf};

use backstop::config::{Config, Environment, Report, Style, load};

fn variable(name: &str) -> Option<String> {
    match name {
        "PORT" => Some("8080".to_owned()),
        // Stands for a secret that somebody put there: it must never be shown.
        "BAD_URL" => Some("hunter2".to_owned()),
        _ => None,
    }
}

const ENVIRONMENT: Environment<'static> = Environment { variable: &variable, hostname: "host-1" };

/// Paths are relative to the repository, so that reports look the same everywhere.
fn of(files: &[&str]) -> Result<Config, Report> {
    load(&files.iter().map(PathBuf::from).collect::<Vec<_>>(), &ENVIRONMENT, 1)
}

fn shown(result: Result<Config, Report>) -> String {
    match result {
        Ok(config) => config.render_warnings(Style::Plain).unwrap_or_else(|| "no error and no warning".to_owned()),
        Err(report) => report.render(Style::Plain),
    }
}

fn files_in(directory: &str, extension: &str) -> Vec<String> {
    let entries = std::fs::read_dir(directory).expect("the directory is part of the repository");
    let mut files: Vec<String> = entries
        .map(|entry| entry.expect("a readable directory").path())
        .filter(|path| path.extension().is_some_and(|have| have == extension))
        .map(|path| path.to_string_lossy().into_owned())
        .collect();
    files.sort();
    files
}

fn malformed() -> Vec<(String, Vec<String>)> {
    let cases = files_in("tests/malformed", "toml").into_iter().map(|file| {
        let name = Path::new(&file).file_stem().expect("a file has a name").to_string_lossy().into_owned();
        // `.more` is a second file, given after the first.
        let more = file.replace(".toml", ".more");
        let files = if Path::new(&more).exists() { vec![file, more] } else { vec![file] };
        (name, files)
    });
    cases.collect()
}

#[test]
fn every_mistake_shows_its_place_and_a_way_out() {
    let mut settings = insta::Settings::clone_current();
    settings.set_snapshot_path("malformed");
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    let cases = malformed();
    assert!(cases.len() >= 50, "cases went missing: {}", cases.len());
    settings.bind(|| {
        for (name, files) in cases {
            let files: Vec<&str> = files.iter().map(String::as_str).collect();
            insta::assert_snapshot!(name, shown(of(&files)));
        }
        insta::assert_snapshot!("52-missing-file", shown(of(&["config/no-such-file.toml"])));
        insta::assert_snapshot!("53-directory", shown(of(&["config"])));
        let twice = ["config/presets/base.toml", "config/../config/presets/base.toml"];
        insta::assert_snapshot!("54-given-twice", shown(of(&twice)));
    });
}

#[test]
fn every_message_has_a_way_out_and_no_secret() {
    for (name, files) in malformed() {
        let files: Vec<&str> = files.iter().map(String::as_str).collect();
        let result = of(&files);
        let text = shown(result.clone());
        assert!(!text.contains("hunter2") && !text.contains("c2VjcmV0"), "{name} shows a secret:\n{text}");
        let Err(report) = result else {
            assert_eq!(name, "56-warnings", "only that one is allowed");
            continue;
        };
        let coloured = report.render(Style::Coloured);
        assert!(coloured.contains("\u{1b}["), "{name} has no colours");
        assert!(!coloured.contains("hunter2"), "{name} shows a secret in colours");
        for error in &report.errors {
            assert!(
                error.help.as_ref().is_some_and(|help| !help.is_empty()),
                "{name}: no way out of: {}",
                error.message
            );
            assert!(error.line > 0 && error.column > 0);
        }
    }
}

#[test]
fn the_complete_example_passes_without_a_warning() {
    let config = of(&["config/backstop.toml"]).expect("the example is valid");
    assert!(config.warnings.is_empty(), "{}", shown(Ok(config)));
    assert_eq!(config.rules.services.len(), 2);
    assert_eq!(config.rules.services[0].triggers.len(), 12);
    assert_eq!(config.rules.services[0].detectors.len(), 5);
    assert_eq!(config.scrapes.len(), 2);
    assert_eq!(config.probes.len(), 5);
    assert_eq!(config.queries.len(), 2);
}

/// Every key of the reader stands in the example: a mistyped key makes the reader list the known ones.
#[test]
fn the_complete_example_has_every_key() {
    let text = std::fs::read_to_string("config/backstop.toml").expect("part of the repository");
    let tables = [
        "[daemon]\nzzzzzzzz = 1",
        "[daemon.approvals]\nzzzzzzzz = 1",
        "[receivers.a]\nzzzzzzzz = 1\nwebhook = {}",
        "[receivers.a]\nwebhook = { url = 'http://a/', zzzzzzzz = 1 }",
        "[defaults]\nzzzzzzzz = 1",
        "[defaults.query]\nzzzzzzzz = 1",
        "[services.a.queries.q]\nzzzzzzzz = 1",
        "[services.a.queries.q]\nexpr = 'a'\nserver = { zzzzzzzz = 1 }",
        "[defaults.severity]\nzzzzzzzz = 1",
        "[defaults.severity.critical]\nzzzzzzzz = 1",
        "[defaults.guard]\nzzzzzzzz = 1",
        "[defaults.probe]\nzzzzzzzz = 1",
        "[defaults.scrape]\nzzzzzzzz = 1",
        "[services.a]\nzzzzzzzz = 1",
        "[services.a.probes.a]\nzzzzzzzz = 1\ntcp = 'a:1'",
        "[services.a.probes.a]\nhttp = { url = 'http://a/', zzzzzzzz = 1 }",
        "[services.a.scrapes.a]\nzzzzzzzz = 1\nurl = 'http://a/'",
        "[services.a.triggers.a]\nzzzzzzzz = 1\nsignal = 'a'",
        "[services.a.triggers.a]\nratio = { zzzzzzzz = 1 }",
        "[services.a.triggers.a]\nquantile = { zzzzzzzz = 1 }",
        "[[services.a.rollback]]\nzzzzzzzz = 1",
        "[[services.a.rollback]]\nverify = { zzzzzzzz = 1 }",
        "[[services.a.rollback]]\nverify = { checks = [{ zzzzzzzz = 1, command = ['a'] }] }",
        "[[services.a.rollback]]\nverify = { checks = [{ http = { zzzzzzzz = 1 } }] }",
        "[[services.a.rollback]]\nverify = { checks = [{ http = { json = { '/a' = { exists = true, zzzzzzzz = 1 } } } }] }",
        "[services.a.guard.blockers.a]\nzzzzzzzz = 1\ncommand = ['a']",
        "[services.a.guard.blockers.a]\nzzzzzzzz = 1\nsignal = 'a'",
        "[services.a.guard]\nready = [{ zzzzzzzz = 1, command = ['a'] }]",
        "[[services.a.rollback]]\nsteps = [{ zzzzzzzz = 1, command = ['a'] }]",
        "[[services.a.rollback]]\nsteps = [{ http = { zzzzzzzz = 1 } }]",
        "[[services.a.rollback]]\nsteps = [{ command = ['a'], check = { zzzzzzzz = 1, command = ['a'] } }]",
        "[[services.a.rollback]]\nundo = [{ zzzzzzzz = 1, command = ['a'] }]",
    ];
    for table in tables {
        let source = backstop::config::Source { path: "a.toml".into(), text: table.to_owned() };
        let report = backstop::config::parse(&[source], &ENVIRONMENT, 1).expect_err("the key is not known");
        let unknown = report.errors.iter().find(|error| error.message.contains("zzzzzzzz"));
        let help = unknown.and_then(|error| error.help.clone()).expect("an unknown key is reported");
        let keys: Vec<&str> = help.split('`').skip(1).step_by(2).collect();
        assert!(keys.len() > 2, "no list of keys in: {help}");
        for key in keys {
            let in_text =
                [format!("{key} "), format!("{key}]"), format!("{key}.")].iter().any(|form| text.contains(form));
            assert!(in_text, "`{key}` does not stand in config/backstop.toml, though {table:?} has it");
        }
    }
}

/// What a preset needs beside itself: the base, and a trigger where it has none of its own.
const TRIGGER: &str = "config/presets/error-rate.toml";

fn presets() -> Vec<String> {
    files_in("config/presets", "toml").into_iter().filter(|file| !file.contains("/base")).collect()
}

#[test]
fn each_preset_fits_each_base_in_any_order() {
    let presets = presets();
    assert!(presets.len() >= 15);
    for base in ["config/presets/base.toml", "config/presets/base-verified.toml"] {
        for preset in &presets {
            for order in [[base, preset.as_str()], [preset.as_str(), base]] {
                let with_trigger: Vec<&str> = order.into_iter().chain((preset != TRIGGER).then_some(TRIGGER)).collect();
                let config = of(&with_trigger).unwrap_or_else(|report| panic!("{preset}:\n{report}"));
                // The bases observe; a preset for people who let it act says so.
                let told = |warning: &backstop::config::Diagnostic| {
                    warning.message == "this changes nothing: the service's autonomy is \"observe\""
                };
                assert!(config.warnings.iter().all(told), "{preset}:\n{}", shown(Ok(config)));
            }
        }
        let all: Vec<&str> = std::iter::once(base).chain(presets.iter().map(String::as_str)).collect();
        let config = of(&all).unwrap_or_else(|report| panic!("the presets do not fit together:\n{report}"));
        assert_eq!(&*config.rules.services[0].name, "api");
        assert!(config.rules.services[0].triggers.len() > 11);
    }
}

#[test]
fn each_preset_of_a_trigger_has_one() {
    for preset in presets() {
        let text = std::fs::read_to_string(&preset).expect("it is part of the repository");
        let speaks_of_triggers = text.lines().next().is_some_and(|line| line.starts_with("# T"));
        assert_eq!(text.contains("[services.api.triggers."), speaks_of_triggers, "{preset}");
    }
}

#[test]
fn a_file_that_cannot_be_read_does_not_hide_the_mistakes_of_another() {
    let report = of(&["config/no-such-file.toml", "tests/malformed/26-autonomy.toml"]).expect_err("both are wrong");
    let messages: Vec<&str> = report.errors.iter().map(|error| error.message.as_str()).collect();
    assert_eq!(messages, ["there is no such file", "`auto` is not known here"]);
}
