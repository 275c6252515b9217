//! The walls between the rooms, checked on the parsed source: who may import whom, and how long things may be.
//!
//! Test code (`#[cfg(test)]`, `tests.rs`, folders called `tests`) may import what it likes; lengths count for it too.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs;
use std::path::{Path, PathBuf};

use proc_macro2::{TokenStream, TokenTree};
use syn::spanned::Spanned;
use syn::visit::{self, Visit};

/// Rooms that compute and nothing else, and the rooms that each may import. The order is the one of the data:
/// exposition, promql ← decide ← machine.
const PURE: &[(&str, &[&str])] = &[
    ("time", &[]),
    ("promql", &["time"]),
    ("exposition", &["time", "promql"]),
    ("decide", &["time", "promql", "exposition"]),
    ("machine", &["time", "promql", "exposition", "decide"]),
];

/// Rooms that a room with I/O must not import.
const FORBIDDEN: &[(&str, &[&str])] = &[
    ("observe", &["act", "notify", "journal"]),
    ("act", &["observe", "promql"]),
    ("notify", &["engine"]),
    ("serve", &["act", "journal"]),
];

/// What nobody imports, but for those named.
const TOPS: &[(&str, &[&str])] = &[("app", &["cli", "main"]), ("cli", &["main"])];

/// What a pure room must not name: the runtime, the world, logs, clocks, randomness.
const IMPURE_PATHS: &[&str] = &[
    "std::fs",
    "std::net",
    "std::env",
    "std::process",
    "std::io",
    "std::thread",
    "std::os",
    "std::time::Instant",
    "std::time::SystemTime",
    "std::hash::RandomState",
    "std::collections::hash_map::RandomState",
    "tokio",
    "tokio_util",
    "async_trait",
    "tracing",
    "tracing_subscriber",
    "reqwest",
    "axum",
    "rustls",
    "rusqlite",
    "rustix",
    "sd_notify",
    "clap",
    "rand",
    "fastrand",
    "getrandom",
    "uuid",
];

/// What a module of a pure room may name all the same, and why.
const EXCEPTIONS: &[(&str, &str, &str)] = &[(
    "promql::places",
    "std::collections::hash_map::RandomState",
    "its hashes have a seed, as those of each map of std, so that nobody can choose labels that collide; no order follows",
)];

/// Forms of values outside the process; in pure rooms only the journal's entries have one.
const SERDE_PATHS: &[&str] = &["serde", "serde_json", "postcard", "toml"];
const SERDE_ALLOWED: &str = "decide::event";

/// Only `platform` reads clocks. tokio's timers are no clock: they wait, and decide nothing.
const CLOCKS: &[&str] = &["std::time::Instant::now", "std::time::SystemTime::now"];

/// Circles between rooms that have a reason.
const CIRCLES: &[(&[&str], &str)] = &[];

const FILE_LINES_MAX: usize = 600;
const FUNCTION_LINES_MAX: usize = 70;

/// One source file, by what the walls need to know of it.
struct Source {
    /// From the repository's root.
    path: String,
    text: String,
    /// `["decide", "event", "plan"]`; empty for the roots and for what is not in `src`.
    module: Vec<String>,
}

impl Source {
    fn new(path: &str, text: &str) -> Source {
        let module = path.strip_prefix("src/").and_then(|path| path.strip_suffix(".rs")).unwrap_or_default();
        let mut module: Vec<String> = module.split('/').filter(|part| !part.is_empty()).map(str::to_owned).collect();
        if module.last().is_some_and(|last| last == "mod") {
            module.pop();
        }
        Source { path: path.to_owned(), text: text.to_owned(), module }
    }

    fn room(&self) -> &str {
        self.module.first().map_or("", String::as_str)
    }

    fn is_test(&self) -> bool {
        !self.path.starts_with("src/") || self.module.iter().any(|part| part == "tests")
    }

    fn parsed(&self) -> syn::File {
        syn::parse_file(&self.text).unwrap_or_else(|error| panic!("{}: {error}", self.path))
    }
}

/// Every path that code names, as written in full: `crate::…`, `std::…`, or a crate's name.
struct Paths {
    module: Vec<String>,
    /// What `use` gave a short name.
    imports: HashMap<String, Vec<String>>,
    found: Vec<(usize, Vec<String>)>,
}

impl Paths {
    fn of(source: &Source) -> Vec<(usize, String)> {
        let file = source.parsed();
        let mut paths = Paths { module: source.module.clone(), imports: HashMap::new(), found: Vec::new() };
        paths.visit_file(&file);
        // Once more, now that all imports are known: a name may be used above its `use`.
        paths.found.clear();
        paths.visit_file(&file);
        paths.found.into_iter().map(|(line, path)| (line, path.join("::"))).collect()
    }

    fn full(&self, path: &[String]) -> Vec<String> {
        let Some((first, rest)) = path.split_first() else { return Vec::new() };
        let mut base = match first.as_str() {
            "crate" | "backstop" => vec!["crate".to_owned()],
            "self" => [vec!["crate".to_owned()], self.module.clone()].concat(),
            "super" => {
                let ups = path.iter().take_while(|part| *part == "super").count();
                let kept = self.module.len().saturating_sub(ups);
                let base = [vec!["crate".to_owned()], self.module[..kept].to_vec()].concat();
                return [base, path[ups..].to_vec()].concat();
            }
            "core" | "alloc" => vec!["std".to_owned()],
            name => match self.imports.get(name) {
                Some(full) => full.clone(),
                None => vec![name.to_owned()],
            },
        };
        base.extend_from_slice(rest);
        base
    }

    fn note(&mut self, line: usize, path: &[String]) {
        let full = self.full(path);
        self.found.push((line, full));
    }

    fn use_tree(&mut self, tree: &syn::UseTree, before: &[String]) {
        match tree {
            syn::UseTree::Path(path) => {
                self.use_tree(&path.tree, &[before, &[path.ident.to_string()]].concat());
            }
            syn::UseTree::Group(group) => group.items.iter().for_each(|tree| self.use_tree(tree, before)),
            syn::UseTree::Name(name) => self.import(name.span().start().line, before, &name.ident, &name.ident),
            syn::UseTree::Rename(name) => self.import(name.span().start().line, before, &name.ident, &name.rename),
            syn::UseTree::Glob(glob) => {
                self.note(glob.span().start().line, &[before, &["*".to_owned()]].concat());
            }
        }
    }

    fn import(&mut self, line: usize, before: &[String], name: &syn::Ident, short: &syn::Ident) {
        let (mut path, mut short) = (before.to_vec(), short.to_string());
        if name == "self" {
            if short == "self" {
                short = path.last().cloned().unwrap_or_default();
            }
        } else {
            path.push(name.to_string());
        }
        let full = self.full(&path);
        self.found.push((line, full.clone()));
        // `use std::time` then `use time::Instant` would resolve for ever if a name stood for itself.
        if full.first() != Some(&short) {
            self.imports.insert(short, full);
        }
    }

    /// Paths in the tokens of a macro or an attribute: identifiers joined by `::`.
    fn tokens(&mut self, tokens: TokenStream) {
        let mut path: Vec<String> = Vec::new();
        let (mut line, mut colons) = (0, 0);
        for token in tokens {
            match token {
                TokenTree::Ident(ident) => {
                    if colons != 2 {
                        self.end_of_path(line, &mut path);
                    }
                    line = ident.span().start().line;
                    colons = 0;
                    path.push(ident.to_string());
                }
                TokenTree::Punct(punct) if punct.as_char() == ':' => colons += 1,
                TokenTree::Group(group) => {
                    self.end_of_path(line, &mut path);
                    self.tokens(group.stream());
                }
                TokenTree::Punct(_) | TokenTree::Literal(_) => {
                    colons = 0;
                    self.end_of_path(line, &mut path);
                }
            }
        }
        self.end_of_path(line, &mut path);
    }

    fn end_of_path(&mut self, line: usize, path: &mut Vec<String>) {
        // A lone identifier in a macro is a local name, unless an import stands for it.
        if path.len() > 1 || path.first().is_some_and(|name| self.imports.contains_key(name)) {
            self.note(line, path);
        }
        path.clear();
    }
}

fn is_test_only(attributes: &[syn::Attribute]) -> bool {
    attributes.iter().any(|attribute| match &attribute.meta {
        syn::Meta::List(list) if list.path.is_ident("cfg") => list.tokens.to_string() == "test",
        syn::Meta::Path(path) => path.is_ident("test"),
        syn::Meta::List(_) | syn::Meta::NameValue(_) => false,
    })
}

impl<'ast> Visit<'ast> for Paths {
    fn visit_item(&mut self, item: &'ast syn::Item) {
        let attributes: &[syn::Attribute] = match item {
            syn::Item::Mod(item) => &item.attrs,
            syn::Item::Fn(item) => &item.attrs,
            syn::Item::Use(item) => &item.attrs,
            syn::Item::Impl(item) => &item.attrs,
            syn::Item::Struct(item) => &item.attrs,
            syn::Item::Const(item) => &item.attrs,
            _ => &[],
        };
        if !is_test_only(attributes) {
            visit::visit_item(self, item);
        }
    }

    fn visit_item_mod(&mut self, item: &'ast syn::ItemMod) {
        self.module.push(item.ident.to_string());
        visit::visit_item_mod(self, item);
        self.module.pop();
    }

    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        self.use_tree(&item.tree, &[]);
    }

    fn visit_item_extern_crate(&mut self, item: &'ast syn::ItemExternCrate) {
        self.note(item.span().start().line, &[item.ident.to_string()]);
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let parts: Vec<String> = path.segments.iter().map(|segment| segment.ident.to_string()).collect();
        self.note(path.span().start().line, &parts);
        visit::visit_path(self, path);
    }

    fn visit_macro(&mut self, call: &'ast syn::Macro) {
        self.visit_path(&call.path);
        self.tokens(call.tokens.clone());
    }

    fn visit_attribute(&mut self, attribute: &'ast syn::Attribute) {
        if let syn::Meta::List(list) = &attribute.meta {
            self.tokens(list.tokens.clone());
        }
    }
}

fn is_under(path: &str, root: &str) -> bool {
    path.strip_prefix(root).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
}

/// What `source` imports that it must not.
fn broken_walls(source: &Source) -> Vec<String> {
    if source.is_test() {
        return Vec::new();
    }
    let room = source.room();
    let pure = PURE.iter().find(|(name, _)| *name == room);
    let module = source.module.join("::");
    let serde_allowed = is_under(&module, SERDE_ALLOWED);
    let mut broken = BTreeSet::new();
    for (line, path) in Paths::of(source) {
        let mut fault = |why: &str| broken.insert(format!("{}:{line}: `{path}` {why}", source.path));
        let other = room_of(&path);
        if let Some((_, allowed)) = pure {
            let excepted = EXCEPTIONS.iter().any(|(of, name, _)| *of == module && *name == path);
            if !excepted && IMPURE_PATHS.iter().any(|root| is_under(&path, root)) {
                fault("is the world outside; this room is pure");
            }
            if !serde_allowed && SERDE_PATHS.iter().any(|root| is_under(&path, root)) {
                fault("gives a form outside the process; of the pure rooms only decide::event has one");
            }
            if other.is_some_and(|other| other != room && !allowed.contains(&other)) {
                fault("is not a room that this pure room may import");
            }
        }
        if let Some(other) = other.filter(|other| *other != room) {
            if FORBIDDEN.iter().any(|(name, forbidden)| *name == room && forbidden.contains(&other)) {
                fault("is behind a wall for this room");
            }
            if TOPS.iter().any(|(top, except)| *top == other && !except.contains(&room)) {
                fault("is at the top; nobody imports it");
            }
        }
        if room != "platform" && CLOCKS.iter().any(|clock| is_under(&path, clock)) {
            fault("reads a clock; take `now` as an argument, or a platform::clock::Clock");
        }
    }
    broken.into_iter().collect()
}

/// The room that a full path leads to.
fn room_of(path: &str) -> Option<&str> {
    path.strip_prefix("crate::")?.split("::").next().filter(|room| !room.is_empty())
}

/// Rooms that import each other, each circle once, sorted.
fn circles(sources: &[Source]) -> BTreeSet<Vec<String>> {
    let rooms: BTreeSet<&str> = sources.iter().map(Source::room).filter(|room| !room.is_empty()).collect();
    let mut imports: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
    for source in sources.iter().filter(|source| !source.is_test() && !source.room().is_empty()) {
        let others = Paths::of(source).into_iter().filter_map(|(_, path)| room_of(&path).map(str::to_owned));
        let others = others.filter(|other| other != source.room() && rooms.contains(other.as_str()));
        imports.entry(source.room()).or_default().extend(others);
    }
    let reaches = |from: &str| {
        let (mut reached, mut open) = (BTreeSet::new(), vec![from.to_owned()]);
        while let Some(room) = open.pop() {
            for next in imports.get(room.as_str()).into_iter().flatten() {
                if reached.insert(next.clone()) {
                    open.push(next.clone());
                }
            }
        }
        reached
    };
    let behind: BTreeMap<&str, BTreeSet<String>> = rooms.iter().map(|room| (*room, reaches(room))).collect();
    let together = |room: &&str| {
        let circle: Vec<String> = rooms
            .iter()
            .filter(|other| behind[*room].contains(**other) && behind[**other].contains(*room))
            .map(|other| (*other).to_owned())
            .collect();
        (circle.len() > 1).then_some(circle)
    };
    rooms.iter().filter_map(together).collect()
}

/// Functions with their first and last line.
#[derive(Default)]
struct Functions(Vec<(String, usize, usize)>);

impl<'ast> Visit<'ast> for Functions {
    fn visit_item_fn(&mut self, item: &'ast syn::ItemFn) {
        self.note(&item.sig, item.block.span());
        visit::visit_item_fn(self, item);
    }

    fn visit_impl_item_fn(&mut self, item: &'ast syn::ImplItemFn) {
        self.note(&item.sig, item.block.span());
        visit::visit_impl_item_fn(self, item);
    }

    fn visit_trait_item_fn(&mut self, item: &'ast syn::TraitItemFn) {
        if let Some(block) = &item.default {
            self.note(&item.sig, block.span());
        }
        visit::visit_trait_item_fn(self, item);
    }
}

impl Functions {
    fn note(&mut self, signature: &syn::Signature, block: proc_macro2::Span) {
        self.0.push((signature.ident.to_string(), signature.span().start().line, block.end().line));
    }
}

/// What is longer than it should be, without a reason at its head.
fn too_long(source: &Source) -> Vec<String> {
    let lines: Vec<&str> = source.text.lines().collect();
    let mut long = Vec::new();
    let head = lines.iter().take_while(|line| line.starts_with("//!"));
    if lines.len() > FILE_LINES_MAX && !head.into_iter().any(|line| has_reason(line, "//! Length: ")) {
        long.push(format!("{}: {} lines, and no `//! Length: <reason>`", source.path, lines.len()));
    }
    let mut functions = Functions::default();
    functions.visit_file(&source.parsed());
    for (name, first, last) in functions.0 {
        let length = last + 1 - first;
        let before = lines[..first - 1].iter().rev().map(|line| line.trim());
        let mut head =
            before.take_while(|line| line.starts_with("//") || line.starts_with("#[") || line.ends_with(")]"));
        if length > FUNCTION_LINES_MAX && !head.any(|line| has_reason(line, "// Length: ")) {
            long.push(format!("{}:{first}: `{name}` has {length} lines, and no `// Length: <reason>`", source.path));
        }
    }
    long
}

fn has_reason(line: &str, mark: &str) -> bool {
    line.strip_prefix(mark).is_some_and(|reason| !reason.trim().is_empty())
}

fn sources() -> Vec<Source> {
    fn walk(folder: &Path, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display())) {
            let path = entry.unwrap().path();
            if path.is_dir() {
                walk(&path, found);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push(path);
            }
        }
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut found = Vec::new();
    for folder in ["src", "tests", "benches", "examples"] {
        if root.join(folder).is_dir() {
            walk(&root.join(folder), &mut found);
        }
    }
    found.sort();
    let name = |path: &PathBuf| path.strip_prefix(root).unwrap().to_str().unwrap().to_owned();
    found.iter().map(|path| Source::new(&name(path), &fs::read_to_string(path).unwrap())).collect()
}

#[test]
fn the_walls_stand() {
    let sources = sources();
    assert!(sources.len() > 20, "the sources were not found");
    let broken: Vec<String> = sources.iter().flat_map(broken_walls).collect();
    assert!(broken.is_empty(), "\n{}\n", broken.join("\n"));
}

#[test]
fn rooms_do_not_import_each_other_in_circles() {
    let known: BTreeSet<Vec<String>> =
        CIRCLES.iter().map(|(rooms, _)| rooms.iter().map(|room| (*room).to_owned()).collect()).collect();
    assert_eq!(circles(&sources()), known);
}

#[test]
fn what_is_long_says_why() {
    let long: Vec<String> = sources().iter().flat_map(too_long).collect();
    assert!(long.is_empty(), "\n{}\n", long.join("\n"));
}

#[test]
fn each_room_says_its_job_first() {
    let silent: Vec<String> = sources()
        .into_iter()
        .filter(|source| source.path.starts_with("src/") && source.module.len() == 1 && source.room() != "main")
        .filter(|source| !source.text.starts_with("//! "))
        .map(|source| source.path)
        .collect();
    assert_eq!(silent, Vec::<String>::new());
}

/// What the walls say to a file with this text at this place.
fn said(path: &str, text: &str) -> Vec<String> {
    broken_walls(&Source::new(path, text))
}

#[test]
fn each_wall_is_seen_when_it_is_broken() {
    let broken = [
        ("src/machine/mod.rs", "use tokio::sync::mpsc;"),
        ("src/decide/guard.rs", "fn f() { std::fs::read(\"x\"); }"),
        ("src/decide/guard.rs", "use std::{fmt, net::TcpStream};"),
        ("src/promql/eval.rs", "fn f() { tracing::info!(\"x\"); }"),
        ("src/promql/eval.rs", "fn f() { println!(\"{}\", std::env::args().count()); }"),
        ("src/promql/eval.rs", "use std::process as p;"),
        ("src/time.rs", "fn f() -> std::time::SystemTime { todo!() }"),
        ("src/decide/verdict.rs", "use std::collections::hash_map::RandomState;"),
        ("src/decide/verdict.rs", "fn f() { uuid::Uuid::now_v7(); }"),
        ("src/decide/verdict.rs", "#[derive(serde::Serialize)] struct S;"),
        ("src/machine/input.rs", "use serde::Serialize;"),
        ("src/machine/input.rs", "use crate::journal::Journal;"),
        ("src/decide/guard.rs", "use crate::machine::Machine;"),
        ("src/decide/guard.rs", "use crate::config::model::Config;"),
        ("src/decide/plan/mod.rs", "fn f() { super::super::super::act::run() }"),
        ("src/promql/eval.rs", "use crate::decide::verdict::Verdict;"),
        ("src/exposition/mod.rs", "mod inner { use super::super::super::observe; fn f() { crate::observe::x() } }"),
        ("src/observe/mod.rs", "use crate::act::Executor;"),
        ("src/observe/mod.rs", "fn f() { crate::notify::now() }"),
        ("src/observe/mod.rs", "use crate::{journal::Journal, time::Now};"),
        ("src/act/mod.rs", "use crate::observe::lane;"),
        ("src/act/mod.rs", "use crate::promql::Labels;"),
        ("src/notify/mod.rs", "use crate::engine::handle::Handle;"),
        ("src/serve/mod.rs", "use crate::act::Executor;"),
        ("src/serve/mod.rs", "fn f(j: &crate::journal::Journal) {}"),
        ("src/engine/mod.rs", "use crate::app;"),
        ("src/app.rs", "use crate::cli;"),
        ("src/serve/mod.rs", "use std::time::Instant; fn f() { Instant::now(); }"),
        ("src/serve/mod.rs", "use std::time; fn f() { time::SystemTime::now(); }"),
        ("src/serve/mod.rs", "use std::time::SystemTime as T; fn f() { vec![T::now()]; }"),
    ];
    for (path, text) in broken {
        assert!(!said(path, text).is_empty(), "{path}: {text}: no wall was seen");
    }
}

#[test]
fn what_is_allowed_is_not_reported() {
    let fine = [
        ("src/machine/mod.rs", "use crate::decide::verdict::Verdict; use std::collections::BTreeMap;"),
        ("src/machine/mod.rs", "#[cfg(test)] mod tests { use tokio::time; use crate::journal::Journal; }"),
        ("src/machine/tests.rs", "use std::fs;"),
        ("src/machine/mod.rs", "const V: &str = env!(\"CARGO_PKG_VERSION\");"),
        ("src/decide/event/mod.rs", "use serde::Serialize; use crate::time::Timestamp;"),
        ("src/platform/clock.rs", "fn f() { std::time::Instant::now(); }"),
        ("src/serve/mod.rs", "fn f() { tokio::time::Instant::now(); }"),
        ("src/cli/run.rs", "use crate::app;"),
        ("src/observe/mod.rs", "fn f(fact: u8) { let act = fact; println!(\"{act}\"); }"),
        ("tests/demo.rs", "use backstop::app; use std::fs;"),
    ];
    for (path, text) in fine {
        assert_eq!(said(path, text), Vec::<String>::new(), "{path}: {text}");
    }
}

#[test]
fn a_circle_is_seen() {
    let sources = [
        Source::new("src/act/mod.rs", "use crate::config::model::Config;"),
        Source::new("src/config/mod.rs", "use crate::platform::secret;"),
        Source::new("src/platform/mod.rs", "fn f() { crate::act::run() }"),
        Source::new("src/serve/mod.rs", "use crate::config::model::Config;"),
    ];
    let circle = ["act", "config", "platform"].map(str::to_owned).to_vec();
    assert_eq!(circles(&sources), BTreeSet::from([circle]));
}

#[test]
fn lengths_are_counted_and_a_reason_excuses_them() {
    let long = |path: &str, text: &str| !too_long(&Source::new(path, text)).is_empty();
    let file = "// x\n".repeat(601);
    assert!(long("src/act/mod.rs", &file));
    assert!(!long("src/act/mod.rs", &"// x\n".repeat(600)));
    assert!(!long("src/act/mod.rs", &format!("//! Acts.\n//! Length: one table.\n{file}")));
    assert!(long("src/act/mod.rs", &format!("//! Acts.\n//! Length: \n{file}")), "a reason is more than the word");
    let body = "    x();\n".repeat(69);
    let function = format!("fn f() {{\n{body}}}\n");
    assert!(long("src/act/mod.rs", &function));
    assert!(!long("src/act/mod.rs", &format!("fn f() {{\n{}}}\n", "    x();\n".repeat(68))));
    assert!(!long("src/act/mod.rs", &format!("/// Runs.\n// Length: one arm per kind.\n#[inline]\n{function}")));
    assert!(long("src/act/mod.rs", &format!("// Length: of another one.\nfn g() {{}}\n{function}")));
    assert!(long("src/act/mod.rs", &format!("impl S {{\n{function}}}\n")));
}
