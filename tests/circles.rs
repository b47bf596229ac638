//! No file needs, by the files that it imports, itself: neither inside a folder of the library nor, in the crate of
//! kernels and in the programs, anywhere.

#[path = "common/sources.rs"]
mod sources;

use sources::{Source, code, is_word, sources};
use std::collections::{BTreeMap, BTreeSet};

/// Files by the modules that lead to them: `src/model/arch/llama.rs` is `["src", "model", "arch", "llama"]`, and
/// `src/model/mod.rs` is `["src", "model"]`. The first name is that of the crate; the crate of `src/bin/run/main.rs` is
/// `["run"]`.
type Files = BTreeMap<Vec<String>, Source>;

fn files(sources: Vec<Source>) -> Files {
    let modules = |path: &str| -> Vec<String> {
        let path = path.replace("kernels/src/", "kernels/").replace(".rs", "");
        let parts = path.split('/').filter(|part| !["mod", "lib"].contains(part));
        parts.map(str::to_owned).collect()
    };
    let is_test = |path: &str| path.contains("/tests/") || path.ends_with("/tests.rs");
    let kept = sources.into_iter().filter(|s| !is_test(&s.path) && !s.path.contains("/bin/"));
    kept.map(|source| (modules(&source.path), source)).collect()
}

/// The files of the programs. One that several programs have belongs to each.
fn programs(sources: &[Source]) -> Files {
    let mut files = Files::new();
    for main in sources {
        if let Some(folder) = main.path.strip_suffix("/main.rs") {
            let (_, program) = folder.rsplit_once('/').expect("src/bin is above it");
            add(&mut files, sources, vec![program.to_owned()], main, true);
        }
    }
    files
}

/// Adds a file, and those of the modules that it declares: in its own folder if it `owns_folder`, as `mod.rs` does, or
/// in the one with its name.
fn add(
    files: &mut Files,
    sources: &[Source],
    modules: Vec<String>,
    source: &Source,
    owns_folder: bool,
) {
    let (folder, _) = source.path.rsplit_once('/').expect("it is in a folder");
    let below = if owns_folder { folder } else { source.path.trim_end_matches(".rs") };
    for (module, attribute) in declared(source) {
        let places = match &attribute {
            Some(path) => vec![joined(folder, path)],
            None => [".rs", "/mod.rs"].map(|end| format!("{below}/{module}{end}")).into(),
        };
        if places[0].starts_with("tests/") {
            continue; // What tests have together is no part of a program.
        }
        let file = sources.iter().find(|source| places.contains(&source.path));
        let file = file.unwrap_or_else(|| panic!("{}: where is `{module}`?", source.path));
        let owns_folder = attribute.is_some() || file.path.ends_with("/mod.rs");
        add(files, sources, [&modules[..], &[module]].concat(), file, owns_folder);
    }
    files.insert(modules, source.clone());
}

/// The modules that a file declares, and the path of each that has an attribute `#[path = "…"]`.
fn declared(source: &Source) -> Vec<(String, Option<String>)> {
    let (mut found, mut path) = (Vec::new(), None);
    for (code, line) in code(&source.text).lines().zip(source.text.lines()) {
        let code = code.trim_start_matches("pub ").trim_start_matches("pub(crate) ");
        if let Some(attribute) = line.strip_prefix("#[path = \"") {
            path = attribute.strip_suffix("\"]").map(str::to_owned);
        } else if let Some(module) = code.strip_prefix("mod ").and_then(|m| m.strip_suffix(';')) {
            found.push((module.to_owned(), path.take()));
        }
    }
    found
}

/// The path `relative` of a folder.
fn joined(folder: &str, relative: &str) -> String {
    let mut parts: Vec<&str> = folder.split('/').collect();
    for part in relative.split('/') {
        match part {
            ".." => _ = parts.pop(),
            part => parts.push(part),
        }
    }
    parts.join("/")
}

/// The paths that a file names, without those that it hands on (`pub use`). Modules written inside the file, which are its
/// tests mostly, stand last and do not count.
///
/// In programs, where `main.rs` runs `chat::run`, paths outside of `use` may begin with any module. In the libraries they
/// begin with a root: there the table of a `mod.rs` names the modules that fill it, and these need what it defines.
fn paths(source: &Source) -> Vec<Vec<String>> {
    let code = code(&source.text);
    let is_inner = |line: &&str| {
        let line = line.trim_start_matches("pub ").trim_start_matches("pub(crate) ");
        line.starts_with("mod ") && line.ends_with('{')
    };
    let outer: Vec<&str> = code.lines().take_while(|line| !is_inner(line)).collect();
    let (mut paths, mut others) = (Vec::new(), String::new());
    for statement in outer.join("\n").split_inclusive(';') {
        let from = statement.rfind("use ").filter(|at| !statement[..*at].ends_with(is_word));
        match from {
            Some(at) if statement[..at].trim_end().ends_with([')', 'b']) => {
                others += &statement[..at]
            }
            Some(at) => {
                others += &statement[..at];
                let list: String = statement[at + 4..].split_whitespace().collect();
                paths.extend(expand(list.trim_end_matches(';')));
            }
            None => others += statement,
        }
    }
    let is_program = source.path.starts_with("src/bin/");
    let counts = |path: &&str| match path.split_once("::") {
        Some((first, _)) => is_program || ["crate", "super", "self"].contains(&first),
        None => false,
    };
    paths.extend(others.split(|c| !is_word(c) && c != ':').filter(counts).map(str::to_owned));
    paths.iter().map(|path| path.split("::").map(str::to_owned).collect()).collect()
}

/// `a::{b, c::{d}}` is `a::b` and `a::c::d`.
fn expand(path: &str) -> Vec<String> {
    let Some((before, list)) = path.split_once('{') else { return vec![path.to_owned()] };
    let list = &list[..list.rfind('}').unwrap_or(list.len())];
    let (mut found, mut depth, mut start) = (Vec::new(), 0, 0);
    for (at, c) in list.char_indices().chain([(list.len(), ',')]) {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                let one = list[start..at].trim();
                found.extend(expand(&format!("{before}{one}")));
                start = at + 1;
            }
            _ => {}
        }
    }
    found
}

/// The file that a path of the file `from` leads to.
fn target(files: &Files, from: &[String], path: &[String]) -> Option<Vec<String>> {
    let mut at = from.to_vec();
    let mut rest = path;
    match path[0].as_str() {
        "crate" => {
            at.truncate(1);
            rest = &path[1..];
        }
        "super" | "self" => {
            while let Some(first @ ("super" | "self")) = rest.first().map(String::as_str) {
                if first == "super" {
                    at.pop();
                }
                rest = &rest[1..];
            }
        }
        child => {
            at.push(child.to_owned());
            files.get(&at)?;
            rest = &path[1..];
        }
    }
    for name in rest {
        at.push(name.clone());
        if !files.contains_key(&at) {
            at.pop();
            break;
        }
    }
    files.contains_key(&at).then_some(at)
}

/// Circles, as the files on each.
fn circles(files: &Files) -> Vec<String> {
    let room = |modules: &[String]| modules.iter().take(2).cloned().collect::<Vec<_>>();
    let needs = |from: &Vec<String>| -> BTreeSet<Vec<String>> {
        let named = paths(&files[from]);
        let found = named.iter().filter_map(|path| target(files, from, path));
        // Between rooms `layers.rs` watches the order.
        let watched = found.filter(|to| to != from && (from[0] != "src" || room(to) == room(from)));
        watched.collect()
    };
    let needs: BTreeMap<_, _> = files.keys().map(|file| (file, needs(file))).collect();
    let reach = |from: &Vec<String>| {
        let (mut seen, mut open) = (BTreeSet::new(), vec![from]);
        while let Some(file) = open.pop() {
            open.extend(needs[file].iter().filter(|next| seen.insert((*next).clone())));
        }
        seen
    };
    let reached: BTreeMap<_, _> = files.keys().map(|file| (file, reach(file))).collect();
    let mut found = Vec::new();
    for (from, to) in needs.iter().flat_map(|(from, all)| all.iter().map(move |to| (*from, to))) {
        if reached[to].contains(from) {
            found.push(format!("{} needs {}", files[from].path, files[to].path));
        }
    }
    found
}

#[test]
fn no_file_needs_itself() {
    let mut found = circles(&files([sources("src"), sources("kernels/src")].concat()));
    found.extend(circles(&programs(&sources("src/bin"))));
    assert!(found.is_empty(), "on a circle:\n{}", found.join("\n"));
}

#[test]
fn this_test_finds_circles() {
    let source =
        |(path, text): &(&str, &str)| Source { path: (*path).into(), text: (*text).into() };
    let sources = |texts: &[(&str, &str)]| texts.iter().map(source).collect::<Vec<_>>();
    let count = |texts: &[(&str, &str)]| circles(&files(sources(texts))).len();
    let back = ("src/a/b.rs", "use super::c::C;");
    for (text, expected) in [
        ("use super::b::B;", 2),
        ("//! Text.\n\nuse std::fmt;\nuse super::{c::d, b::{A, B}};", 2),
        ("use crate::a::b;", 2),
        ("fn f() -> super::b::B {}", 2),
        ("pub use super::b::B;", 0),
        ("pub(crate) use super::b::B;", 0),
        ("use std::b::B;", 0),
        ("// use super::b::B;", 0),
        ("#[cfg(test)]\nmod tests {\n    use super::b::B;", 0),
        ("use super::A;", 3),
        ("fn f() { super::f() }", 3),
    ] {
        let (module, c) = (("src/a/mod.rs", "mod b;\nuse b::B;"), ("src/a/c.rs", text));
        assert_eq!(count(&[module, back, c]), expected, "{text}");
    }
    let kernels = [("kernels/src/a.rs", "use crate::b::B;"), ("kernels/src/b.rs", "use crate::a;")];
    assert_eq!(count(&kernels), 2);
    let folder = [("src/a/mod.rs", "mod b;\nfn f() { b::f() }"), ("src/a/b.rs", "use super::f;")];
    assert_eq!(count(&folder), 0, "a table and what fills it");

    // Two programs with files in common.
    let count = |texts: &[(&str, &str)], n_files: usize| {
        let programs = programs(&sources(texts));
        assert_eq!(programs.len(), n_files, "{:?}", programs.keys());
        circles(&programs).len()
    };
    let words = "#[path = \"../common/words.rs\"]\nmod words;\n";
    let main = format!("{words}mod args;\nfn main() {{ args::run() }}");
    for (args, text, expected) in [
        ("use crate::words::line;", "use dovetail::args;", 0),
        ("use crate::words::line;", "use crate::args::Args;", 2),
        ("use crate::{words::line, Common};", "", 2),
        ("fn run() { crate::f() }", "", 2),
        ("fn run() {}", "use super::args;", 0),
    ] {
        let main = [("src/bin/run/main.rs", &main[..]), ("src/bin/run/args.rs", args)];
        let other = [("src/bin/other/main.rs", words), ("src/bin/common/words.rs", text)];
        assert_eq!(count(&[main, other].concat(), 5), expected, "{args:?} {text:?}");
    }
    let main = "#[path = \"../common/mod.rs\"]\nmod common;\npub mod trees;\nuse trees::T;";
    let common = ("src/bin/common/mod.rs", "pub(crate) mod a;\nmod b;");
    let trees = ("src/bin/run/trees.rs", "mod read;\nuse read::R;");
    for (a, b, read, expected) in [
        ("use super::b;", "", "use crate::common::a;", 0),
        ("use super::b;", "use crate::common::a;", "", 2),
        ("use super::b;", "use super::a::A;", "use super::T;", 4),
        ("", "", "use crate::trees;", 2),
    ] {
        let common = [common, ("src/bin/common/a.rs", a), ("src/bin/common/b.rs", b)];
        let run = [("src/bin/run/main.rs", main), trees, ("src/bin/run/trees/read.rs", read)];
        assert_eq!(count(&[common, run].concat(), 6), expected, "{a:?} {b:?} {read:?}");
    }
}
