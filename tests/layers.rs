//! The house rules that the compiler does not know: imports go one way, `unsafe` stays where
//! `ARCHITECTURE.md` allows it, the library leaves flags, exit codes and printing to its faces, every file
//! begins by saying what it is.

#[path = "common/sources.rs"]
mod sources;

use sources::{Source, code, is_word, sources};
use std::path::Path;

/// The layers, top to bottom: a module imports only what stands above it. Programs and the C
/// interface stand at the bottom.
const LAYERS: &[&str] = &[
    "gguf",
    "text",
    "model",
    "ring",
    "tree",
    "gpu",
    "planner",
    "infer",
    "sample",
    "draft",
    "speculate",
    "engine",
    "open",
    "hub",
    "capi",
    "bin",
];
/// May be used by all and use no layer.
const COMMON: &[&str] = &["error", "file", "machine", "printable", "setting", "temp_file"];
/// Where `unsafe` may stand: files and folders.
const UNSAFE: &[&str] = &[
    "src/gguf/file.rs",
    "src/ring",
    "src/gpu",
    "src/capi",
    "kernels/src/cpu/x86",
    "kernels/src/cpu/arm",
    "kernels/src/cpu/thread_pool",
];

/// Where the CUDA driver's crate is named.
const CUDARC: &[&str] = &["src/gpu", "src/ring/pinned.rs"];

/// The macro that calls a kernel compiled for its target features: it is expanded in the files of the
/// instruction sets alone, but has to be written above them. One line, no more.
const UNSAFE_MACRO: &str = "kernels/src/cpu/mod.rs";

/// The modules of the crate that paths in `code` begin with, and the line of each. `depth` is how
/// many modules deep the code stands.
fn imports(code: &str, crate_name: &str, depth: usize) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    for (start, matched) in code.match_indices(crate_name) {
        let rest = code[start + matched.len()..].trim_start();
        let is_path = !code[..start].ends_with(is_word) && rest.starts_with("::");
        if is_path {
            let line = line_of(code, start);
            found.extend(first_names(&rest[2..]).into_iter().map(|name| (line, name)));
        }
    }
    // As many `super` as the code is deep lead to the crate's root.
    let up = "super::".repeat(depth);
    for (start, _) in code.match_indices(&up).filter(|_| depth > 0) {
        let rest = &code[start + up.len()..];
        let before = &code[..start];
        if !before.ends_with(is_word) && !before.ends_with("::") && !rest.starts_with("super") {
            // In a file's tests `super` is the file itself: only names of layers count.
            let names = first_names(rest).into_iter().filter(|name| LAYERS.contains(&&**name));
            found.extend(names.map(|name| (line_of(code, start), name)));
        }
    }
    found
}

fn line_of(code: &str, at: usize) -> usize {
    code[..at].matches('\n').count() + 1
}

/// The first name of a path, or of each path in braces: `{a::{b, c}, d}` gives `a`, `d`.
fn first_names(path: &str) -> Vec<String> {
    let path = path.trim_start();
    let Some(list) = path.strip_prefix('{') else {
        return vec![path.chars().take_while(|c| is_word(*c)).collect()];
    };
    let (mut names, mut depth, mut start) = (Vec::new(), 0, 0);
    for (i, c) in list.char_indices() {
        match c {
            '{' => depth += 1,
            '}' | ',' if depth == 0 => {
                names.push(first_names(&list[start..i])[0].clone());
                start = i + 1;
                if c == '}' {
                    break;
                }
            }
            '}' => depth -= 1,
            _ => {}
        }
    }
    names.retain(|name| !name.is_empty());
    names
}

/// The layer of a file and how many modules deep it stands: `src/model/arch/llama.rs` is in `model`,
/// 3 deep.
fn place(path: &str) -> (&str, usize) {
    let inside = path.strip_prefix("src/").expect("the crate's sources").trim_end_matches(".rs");
    let parts: Vec<&str> = inside.split('/').filter(|part| *part != "mod").collect();
    (parts[0], parts.len())
}

/// What a file imports against the order. Names that `lib.rs` exports hide their layer and count as
/// wrong.
fn wrong_imports(source: &Source) -> Vec<String> {
    let (layer, depth) = place(&source.path);
    if layer == "lib" {
        return Vec::new();
    }
    let above = |name: &str| LAYERS.iter().position(|l| *l == name);
    let mine = above(layer);
    let code = code(&source.text);
    let mut found = imports(&code, "crate", depth);
    if layer == "bin" {
        // A program's `crate` is itself.
        found = imports(&code, "dovetail", depth);
    }
    let wrong = |name: &str| match (mine, above(name)) {
        _ if COMMON.contains(&name) || name == layer => None,
        _ if layer == "bin" => {
            (name == "capi").then_some("programs use the library, not its C names")
        }
        (None, _) => Some("what all may use must use no layer"),
        (Some(mine), Some(theirs)) => (theirs > mine).then_some("that layer is below this one"),
        (Some(_), None) => Some("write the path through the layer it belongs to"),
    };
    let message = |(line, name): &(usize, String)| {
        let reason = wrong(name)?;
        Some(format!("{}:{line}: imports `{name}`: {reason}", source.path))
    };
    found.iter().filter_map(message).collect()
}

/// The lines of the code with this word.
fn lines_with(word: &str, text: &str) -> Vec<usize> {
    let code = code(text);
    let has_it = |line: &str| {
        line.match_indices(word).any(|(at, word)| {
            !line[..at].ends_with(is_word) && !line[at + word.len()..].starts_with(is_word)
        })
    };
    (1..).zip(code.lines()).filter(|(_, line)| has_it(line)).map(|(number, _)| number).collect()
}

/// Whether a path is one of these files or in one of these folders.
fn is_in(path: &str, places: &[&str]) -> bool {
    let rest = |place: &&str| path.strip_prefix(*place);
    places.iter().filter_map(rest).any(|rest| rest.is_empty() || rest.starts_with('/'))
}

fn assert_none(wrong: Vec<String>) {
    assert!(wrong.is_empty(), "\n{}\n", wrong.join("\n"));
}

#[test]
fn imports_go_one_way() {
    let wrong = sources("src").iter().flat_map(wrong_imports).collect();
    assert_none(wrong);
}

#[test]
fn every_module_has_its_layer() {
    let known = |name: &str| name == "lib" || LAYERS.contains(&name) || COMMON.contains(&name);
    let unknown = |source: &Source| {
        let (layer, _) = place(&source.path);
        (!known(layer)).then(|| format!("{}: give `{layer}` its place in LAYERS", source.path))
    };
    assert_none(sources("src").iter().filter_map(unknown).collect());
}

#[test]
fn unsafe_stays_where_it_is_allowed() {
    let mut wrong = Vec::new();
    for source in [sources("src"), sources("kernels/src")].concat() {
        if !is_in(&source.path, UNSAFE) {
            let mut lines = lines_with("unsafe", &source.text);
            if source.path == UNSAFE_MACRO && lines.len() == 1 {
                lines.clear();
            }
            wrong.extend(lines.iter().map(|line| format!("{}:{line}: unsafe", source.path)));
        }
    }
    assert_none(wrong);
}

#[test]
fn only_what_drives_a_gpu_names_cudarc() {
    let mut wrong = Vec::new();
    for source in [sources("src"), sources("kernels/src")].concat() {
        if !is_in(&source.path, CUDARC) {
            let lines = lines_with("cudarc", &source.text);
            wrong.extend(lines.iter().map(|line| format!("{}:{line}: cudarc", source.path)));
        }
    }
    assert_none(wrong);
}

/// The sources of the library, without their tests.
fn library() -> Vec<Source> {
    let is_test = |path: &str| path.contains("/tests/") || path.ends_with("/tests.rs");
    let mut all = sources("src");
    all.retain(|source| !source.path.starts_with("src/bin/") && !is_test(&source.path));
    for source in &mut all {
        let end = source.text.find("#[cfg(test)]\nmod tests {").unwrap_or(source.text.len());
        source.text.truncate(end);
    }
    all
}

/// The lines that name flags, such as `--ctx-size`, outside of comments.
fn lines_with_flags(text: &str) -> Vec<usize> {
    let names_one = |line: &str| line.contains("--") && !line.trim_start().starts_with("//");
    (1..).zip(text.lines()).filter(|(_, line)| names_one(line)).map(|(number, _)| number).collect()
}

#[test]
fn the_library_knows_no_flags() {
    let mut wrong = Vec::new();
    for Source { path, text } in library() {
        let lines = lines_with_flags(&text).into_iter();
        wrong.extend(
            lines.map(|line| format!("{path}:{line}: a flag; let each face name the setting")),
        );
    }
    assert_none(wrong);
}

#[test]
fn the_library_neither_prints_nor_ends_the_program() {
    let mut wrong = Vec::new();
    for Source { path, text } in library() {
        for word in [
            "print",
            "println",
            "eprint",
            "eprintln",
            "dbg",
            "stdout",
            "stderr",
            "exit",
            "exit_code",
            "ExitCode",
        ] {
            let lines = lines_with(word, &text).into_iter();
            wrong.extend(lines.map(|line| format!("{path}:{line}: {word}")));
        }
    }
    assert_none(wrong);
}

#[test]
fn every_file_says_what_it_is() {
    let all = [sources("src"), sources("kernels/src")].concat();
    let silent = all.iter().filter(|source| !source.text.starts_with("//!"));
    assert_none(silent.map(|s| format!("{}:1: begins without `//!`", s.path)).collect());
}

/// The round stands on one screen, and where readers begin.
#[test]
fn the_round_is_what_the_architecture_says() {
    let read = |path: &str| {
        std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap()
    };
    let (source, page) = (read("src/speculate/round.rs"), read("ARCHITECTURE.md"));
    let start = source.find("pub(crate) fn round(").expect("it is there");
    let end = start + source[start..].find("\n}\n").expect("it ends") + 3;
    let round = &source[start..end];
    assert!(round.lines().count() <= 40, "the round has {} lines", round.lines().count());
    assert!(page.contains(round), "ARCHITECTURE.md shows another round");
    assert!(page.lines().count() <= 150, "ARCHITECTURE.md has {} lines", page.lines().count());
}

#[test]
fn this_test_finds_what_it_looks_for() {
    let wrong =
        |path: &str, text: &str| wrong_imports(&Source { path: path.into(), text: text.into() });
    for (path, text, expected) in [
        ("src/model/mod.rs", "use crate::gguf::Gguf;", 0),
        ("src/model/mod.rs", "use crate::{error::Error, text::{A, B}, gguf};", 0),
        ("src/model/mod.rs", "\nuse crate::engine::Session;", 1),
        ("src/model/mod.rs", "use crate::{\n  infer::{A, B},\n  text, speculate\n};", 2),
        ("src/model/mod.rs", "fn f() { crate::speculate::g() }", 1),
        (
            "src/model/mod.rs",
            "// crate::speculate::g()\n/* crate::speculate */ const A: &str = \"crate::speculate::a\";",
            0,
        ),
        (
            "src/model/mod.rs",
            "const A: &str = r#\"\"crate::speculate::a\"#; const B: char = '\"';",
            0,
        ),
        ("src/model/mod.rs", "use super::engine;", 1),
        ("src/model/config.rs", "use super::weights; use super::super::engine::S;", 1),
        (
            "src/model/arch/llama.rs",
            "use super::super::super::speculate; use super::super::weights;",
            1,
        ),
        ("src/model/mod.rs", "use crate::Session;", 1),
        ("src/error.rs", "use crate::gguf;", 1),
        ("src/engine/session.rs", "use crate::{speculate, infer, text};", 0),
        ("src/speculate.rs", "use super::engine;", 1),
        ("src/bin/x/main.rs", "use dovetail::{Session, speculate}; use crate::args;", 0),
    ] {
        assert_eq!(wrong(path, text).len(), expected, "{path}: {text}: {:?}", wrong(path, text));
    }
    let found = wrong("src/model/mod.rs", "\n\nuse crate::engine::Session;");
    assert_eq!(found, ["src/model/mod.rs:3: imports `engine`: that layer is below this one"]);
    let text = "// unsafe\n\"unsafe\"; forbid(unsafe_code)\nunsafe { f() }\nlet a = 'a'; unsafe fn";
    assert_eq!(lines_with("unsafe", text), [3, 4]);
    let text = "//! cudarc\nuse cudarc::driver;\nlet a = \"cudarc\";\n::cudarc::f(); my_cudarc()";
    assert_eq!(lines_with("cudarc", text), [2, 4]);
    let text = "/// `--tree`\nlet a = 1; // none\n    \"leave out --tree\";\n\"a\\\n  --b\"";
    assert_eq!(lines_with_flags(text), [3, 5]);
    for (path, expected) in [
        ("src/gpu/cuda.rs", true),
        ("src/ring/pinned.rs", true),
        ("src/ring/mod.rs", false),
        ("src/gpu.rs", false),
    ] {
        assert_eq!(is_in(path, CUDARC), expected, "{path}");
    }
}
