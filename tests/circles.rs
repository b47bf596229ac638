//! No file needs, by the files that it imports, itself: neither inside a folder nor, in the crate of kernels, anywhere.

#[path = "common/sources.rs"]
mod sources;

use sources::{Source, code, is_word, sources};
use std::collections::{BTreeMap, BTreeSet};

/// Files by the modules that lead to them: `src/model/arch/llama.rs` is `["src", "model", "arch", "llama"]`, and
/// `src/model/mod.rs` is `["src", "model"]`.
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

/// The paths that a file names, without those that it hands on (`pub use`). Modules written inside the file, which are its
/// tests mostly, stand last and do not count.
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
    for root in ["crate::", "super::", "self::"] {
        for (at, _) in others.match_indices(root) {
            if !others[..at].ends_with(|c| is_word(c) || c == ':') {
                let path =
                    others[at..].split(|c| !is_word(c) && c != ':').next().expect("the root");
                paths.push(path.to_owned());
            }
        }
    }
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
    let files = files([sources("src"), sources("kernels/src")].concat());
    let found = circles(&files);
    assert!(found.is_empty(), "on a circle:\n{}", found.join("\n"));
}

#[test]
fn this_test_finds_circles() {
    let count = |texts: &[(&str, &str)]| {
        let source =
            |(path, text): &(&str, &str)| Source { path: (*path).into(), text: (*text).into() };
        circles(&files(texts.iter().map(source).collect())).len()
    };
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
    ] {
        let (module, c) = (("src/a/mod.rs", "mod b;\nuse b::B;"), ("src/a/c.rs", text));
        assert_eq!(count(&[module, back, c]), expected, "{text}");
    }
    let kernels = [("kernels/src/a.rs", "use crate::b::B;"), ("kernels/src/b.rs", "use crate::a;")];
    assert_eq!(count(&kernels), 2);
}
