//! Promise: every row of docs/failures.md names a test that exists and runs.
//!
//! `cargo test --test failures -- --nocapture` prints the command for each of them.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use proc_macro2::{TokenStream, TokenTree};
use syn::{Attribute, Item};

const PAGE: &str = "docs/failures.md";
const ROWS_MIN: usize = 60;
const HEAD: [&str; 3] = ["what fails", "what backstop does", "test"];

#[derive(Debug)]
struct Row {
    line: usize,
    fails: String,
    does: String,
    tests: Vec<String>,
}

/// The rows of all tables that have the head of a fault table, or what is wrong with them.
fn rows(page: &str) -> Result<Vec<Row>, String> {
    let mut found = Vec::new();
    let mut inside = false;
    for (index, text) in page.lines().enumerate() {
        let line = index + 1;
        let Some(inner) = text.trim().strip_prefix('|').and_then(|text| text.strip_suffix('|')) else {
            inside = false;
            continue;
        };
        let cells: Vec<&str> = inner.split('|').map(str::trim).collect();
        if cells == HEAD {
            inside = true;
        } else if inside && !cells.iter().all(|cell| !cell.is_empty() && cell.chars().all(|c| c == '-')) {
            let [fails, does, tests] = cells[..] else {
                return Err(format!("{PAGE}:{line}: {} cells, 3 are expected", cells.len()));
            };
            let tests: Vec<String> = tests.split('`').skip(1).step_by(2).map(str::to_owned).collect();
            if fails.is_empty() || does.is_empty() || tests.is_empty() {
                return Err(format!("{PAGE}:{line}: a row says what fails, what backstop does, and `a::test`"));
            }
            found.push(Row { line, fails: fails.to_owned(), does: does.to_owned(), tests });
        }
    }
    Ok(found)
}

/// Every test by the name that the page uses: the file in `tests/` (or `lib`), then cargo's own name.
#[derive(Debug, Default)]
struct Tests {
    run: BTreeSet<String>,
    /// With `#[ignore]`: they do not run by themselves, so they show nothing.
    ignored: BTreeSet<String>,
}

impl Tests {
    fn of_the_project() -> Tests {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let mut tests = Tests::default();
        tests.file(&root.join("src/lib.rs"), true, "lib");
        for entry in fs::read_dir(root.join("tests")).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
            if path.extension().is_some_and(|extension| extension == "rs") {
                tests.file(&path, true, &name);
            } else if path.join("main.rs").is_file() {
                tests.file(&path.join("main.rs"), true, &name);
            }
        }
        tests
    }

    /// `owns_folder`: modules without a `#[path]` are beside this file (`mod.rs`, roots), not in a folder of its name.
    fn file(&mut self, path: &Path, owns_folder: bool, name: &str) {
        let text = fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let file = syn::parse_file(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let beside = path.parent().unwrap();
        let children = if owns_folder { beside.to_owned() } else { path.with_extension("") };
        self.items(&file.items, beside, &children, name);
    }

    fn items(&mut self, items: &[Item], beside: &Path, children: &Path, name: &str) {
        for item in items {
            match item {
                Item::Fn(function) if is_test(&function.attrs) => {
                    let ignored = function.attrs.iter().any(|attribute| attribute.path().is_ident("ignore"));
                    let name = format!("{name}::{}", function.sig.ident);
                    if ignored {
                        self.ignored.insert(name)
                    } else {
                        self.run.insert(name)
                    };
                }
                Item::Mod(module) => {
                    let inner = format!("{name}::{}", module.ident);
                    let folder = children.join(module.ident.to_string());
                    if let Some((_, items)) = &module.content {
                        self.items(items, &folder, &folder, &inner);
                    } else {
                        let (path, owns_folder) = file_of(&module.attrs, beside, &folder);
                        self.file(&path, owns_folder, &inner);
                    }
                }
                // `proptest! { #[test] fn … }`
                Item::Macro(call) => {
                    self.run.extend(functions_in(call.mac.tokens.clone()).map(|test| format!("{name}::{test}")));
                }
                _ => {}
            }
        }
    }

    /// Those whose last part is the same, or nearly.
    fn like(&self, name: &str) -> Vec<&str> {
        let last = |name: &str| name.rsplit("::").next().unwrap_or_default().to_owned();
        self.run.iter().filter(|test| last(test) == last(name)).map(String::as_str).collect()
    }
}

fn is_test(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| attribute.path().segments.last().is_some_and(|last| last.ident == "test"))
}

/// Where `mod name;` is, and whether its own modules are beside it.
fn file_of(attributes: &[Attribute], beside: &Path, folder: &Path) -> (PathBuf, bool) {
    let path = attributes.iter().find_map(|attribute| match &attribute.meta {
        syn::Meta::NameValue(pair) if pair.path.is_ident("path") => match &pair.value {
            syn::Expr::Lit(syn::ExprLit { lit: syn::Lit::Str(text), .. }) => Some(beside.join(text.value())),
            _ => None,
        },
        _ => None,
    });
    match path {
        Some(path) => (path, true),
        None if folder.join("mod.rs").is_file() => (folder.join("mod.rs"), true),
        None => (folder.with_extension("rs"), false),
    }
}

/// The names after `fn` that follow a `#[test]`, in the arguments of a macro.
fn functions_in(tokens: TokenStream) -> impl Iterator<Item = String> {
    let mut found = Vec::new();
    let (mut marked, mut named) = (false, false);
    for token in tokens {
        match token {
            TokenTree::Group(group) => {
                let text = group.stream().to_string();
                marked |= text == "test";
            }
            TokenTree::Ident(word) if named => {
                found.push(word.to_string());
                (marked, named) = (false, false);
            }
            TokenTree::Ident(word) => named = marked && word == "fn",
            TokenTree::Punct(_) | TokenTree::Literal(_) => {}
        }
    }
    found.into_iter()
}

/// What to type to run it.
fn command(test: &str) -> String {
    let (file, name) = test.split_once("::").expect("it exists");
    let target = if file == "lib" { "--lib".to_owned() } else { format!("--test {file}") };
    format!("cargo test {target} -- --exact {name}")
}

/// What is wrong with the page.
fn faults(page: &str, tests: &Tests) -> Vec<String> {
    let rows = match rows(page) {
        Ok(rows) => rows,
        Err(why) => return vec![why],
    };
    let mut faults = Vec::new();
    let mut seen: BTreeMap<&str, usize> = BTreeMap::new();
    for row in &rows {
        if let Some(before) = seen.insert(&row.fails, row.line) {
            faults.push(format!("{PAGE}:{}: `{}` is in line {before} already", row.line, row.fails));
        }
        for test in &row.tests {
            let place = format!("{PAGE}:{}: `{test}`", row.line);
            if tests.ignored.contains(test) {
                faults.push(format!("{place} is ignored: it runs only by hand, and shows nothing in CI"));
            } else if !tests.run.contains(test) {
                let like = tests.like(test);
                let help = if like.is_empty() {
                    "name it as FILE::MODULE::NAME, or lib::MODULE::NAME for a test in src".to_owned()
                } else {
                    format!("did you mean `{}`?", like.join("` or `"))
                };
                faults.push(format!("{place} is no test; {help}"));
            }
        }
        if row.does.len() < 4 {
            faults.push(format!("{PAGE}:{}: what backstop does is not said", row.line));
        }
    }
    if rows.len() < ROWS_MIN {
        faults.push(format!("{PAGE}: {} rows, {ROWS_MIN} at least are promised", rows.len()));
    }
    faults
}

#[test]
fn every_row_of_the_fault_table_names_a_test_that_exists() {
    let page = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(PAGE)).unwrap();
    let tests = Tests::of_the_project();
    assert!(tests.run.len() > 300, "the tests were not found: {}", tests.run.len());
    let faults = faults(&page, &tests);
    assert!(faults.is_empty(), "\n{}\n", faults.join("\n"));
    let rows = rows(&page).unwrap();
    let named: BTreeSet<&String> = rows.iter().flat_map(|row| &row.tests).collect();
    for test in &named {
        println!("{}", command(test));
    }
    println!("{} rows, {} tests", rows.len(), named.len());
}

fn page(row: &str) -> String {
    use std::fmt::Write as _;
    let mut text = "# Title\n\n| what fails | what backstop does | test |\n|---|---|---|\n".to_owned();
    for number in 0..ROWS_MIN - 1 {
        writeln!(text, "| {number} | is held | `a::b` |").unwrap();
    }
    text + row + "\n"
}

#[test]
fn each_fault_of_the_table_is_seen() {
    let tests = Tests {
        run: ["a::b", "lib::c::tests::d", "a::m::e"].map(str::to_owned).into(),
        ignored: ["a::slow".to_owned()].into(),
    };
    let said = |row: &str| faults(&page(row), &tests).join("\n");
    assert_eq!(said("| x | is held | `lib::c::tests::d`, `a::b` |"), "");
    for (row, expected) in [
        ("", "59 rows"),
        ("| x | is held | |", "a row says"),
        ("| x | is held | a::b |", "a row says"),
        ("| x | | `a::b` |", "a row says"),
        ("| x | is held | or not | `a::b` |", "4 cells"),
        ("| 7 | is held | `a::b` |", "in line 12 already"),
        ("| x | is held | `a::z` |", "FILE::MODULE::NAME"),
        ("| x | is held | `a::e` |", "did you mean `a::m::e`"),
        ("| x | is held | `d` |", "did you mean `lib::c::tests::d`"),
        ("| x | is held | `a::slow` |", "is ignored"),
    ] {
        assert!(said(row).contains(expected), "{row}: {}", said(row));
    }
}

#[test]
fn tests_are_found_where_cargo_finds_them() {
    let tests = Tests::of_the_project();
    for name in [
        // A root file, a `#[path]` module of one, `main.rs` in a folder, a module in a file of src, `tests.rs` beside
        // its module, and inside a macro.
        "failures::tests_are_found_where_cargo_finds_them",
        "daemon::life::a_second_signal_does_not_wait_for_the_step",
        "golden::every_kind_of_entry_has_the_form_that_its_golden_file_pins",
        "lib::decide::verdict::tests::one_clear_resets_at_once",
        "lib::decide::guard::tests::both_sides_of_each_limit",
        "lib::journal::checkpoint::tests::a_checkpoint_of_changes_reads_as_the_last_one_saved",
    ] {
        assert!(tests.run.contains(name), "{name}: {:?}", tests.like(name));
    }
    assert!(tests.ignored.contains("journal::child_on_a_full_disk"));
}
