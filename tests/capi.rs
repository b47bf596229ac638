//! The library as C programs use it: what it exports, the examples, misuse, threads, shared memory.
//!
//! Programs of `examples/c` and `tests/c` are compiled against `include/dovetail.h` and the shared library of this
//! build. `scripts/test-c` runs the same ones under AddressSanitizer and ThreadSanitizer, and those of an installed library.

#![cfg(target_os = "linux")]

mod common;

use common::place::Folder;
use common::real_model;
use common::tiny::tiny;
use dovetail::gguf::Value;
use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use tempfile::TempDir;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The folder of the shared library that cargo built for this test.
fn library() -> PathBuf {
    let folder = std::env::current_exe().unwrap().parent().unwrap().to_owned();
    assert!(folder.join("libdovetail.so").exists(), "{} has no library", folder.display());
    folder
}

/// What is run with a time of its own: the output, if it went well.
fn run(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let [out, err] = [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap());
    assert!(output.status.success(), "{command:?}: {}\n{err}", output.status);
    out
}

/// A folder for programs, beside which the library is found under the name that programs look for.
struct Programs {
    folder: TempDir,
}

impl Programs {
    fn new() -> Programs {
        let folder = tempfile::tempdir().unwrap();
        let library = library().join("libdovetail.so");
        let header = run(Command::new("readelf").arg("-d").arg(&library));
        let soname = header.lines().find_map(|line| line.split_once("soname: [")).unwrap().1;
        let soname = soname.trim_end_matches(']');
        for name in ["libdovetail.so", soname] {
            std::os::unix::fs::symlink(&library, folder.path().join(name)).unwrap();
        }
        Programs { folder }
    }

    /// Compiles one source with all warnings as errors, by a compiler of C or C++.
    fn compile(&self, compiler: &[&str], source: &str) -> PathBuf {
        let folder = self.folder.path().display();
        let name = Path::new(source).file_stem().unwrap().to_str().unwrap();
        let program = self.folder.path().join(format!("{name}-{}", compiler[0]));
        let mut command = Command::new(compiler[0]);
        command.args(&compiler[1..]).args(["-Wall", "-Wextra", "-Werror", "-O1"]);
        command.arg("-I").arg(root().join("include")).arg(root().join(source));
        command.args(["-x", "none", "-o"]).arg(&program);
        command.args([format!("-L{folder}"), "-ldovetail".into(), "-lpthread".into()]);
        run(command.arg(format!("-Wl,-rpath,{folder}")));
        program
    }

    fn c(&self, source: &str) -> PathBuf {
        self.compile(&["cc", "-std=c99", "-pedantic", "-D_POSIX_C_SOURCE=200809L"], source)
    }
}

/// What the header declares.
fn declared() -> BTreeSet<String> {
    let header = fs::read_to_string(root().join("include/dovetail.h")).unwrap();
    let code: String = header.split("/*").map(|part| part.rsplit("*/").next().unwrap()).collect();
    let functions = code.match_indices('(').filter_map(|(at, _)| {
        let name = code[..at].rsplit(|c: char| !(c.is_alphanumeric() || c == '_')).next().unwrap();
        (name.starts_with("dovetail_")).then(|| name.to_owned())
    });
    functions.collect()
}

#[test]
fn the_library_exports_what_the_header_declares_and_nothing_else() {
    let library = library().join("libdovetail.so");
    let symbols = run(Command::new("nm").args(["-D", "--defined-only"]).arg(library));
    let exported: BTreeSet<String> =
        symbols.lines().filter_map(|line| line.split(' ').nth(2)).map(str::to_owned).collect();
    let declared = declared();
    assert!(declared.len() > 20);
    assert_eq!(exported, declared);
}

/// The test of misuse calls them all.
#[test]
fn every_function_is_misused() {
    let test = fs::read_to_string(root().join("tests/c/misuse.c")).unwrap()
        + &fs::read_to_string(root().join("tests/c/expect.h")).unwrap();
    for name in declared() {
        assert!(test.contains(&format!("{name}(")), "tests/c/misuse.c does not call {name}");
    }
}

#[test]
fn sources_in_c_are_c_plus_plus_too() {
    let programs = Programs::new();
    for source in [
        "examples/c/chat.c",
        "examples/c/batch.c",
        "tests/c/misuse.c",
        "tests/c/templates.c",
        "tests/c/threads.c",
    ] {
        programs.compile(&["c++", "-x", "c++", "-std=c++11"], source);
    }
}

#[test]
fn the_examples_say_what_dovetail_run_says() {
    let Some(model) = real_model() else { return };
    let programs = Programs::new();
    let run_once = |sampling: &[&str], prompt: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_dovetail-run"));
        run(command.arg(&model).args(["-t", "2", "-p", prompt]).args(sampling))
    };
    let prompts = ["Why is the sky blue?", "Name three primes."];
    let chat = programs.c("examples/c/chat.c");
    let mut child = Command::new(&chat)
        .arg(&model)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(format!("{}\n", prompts[0]).as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    let expected = run_once(&["-s", "0"], prompts[0]);
    assert_eq!(String::from_utf8(output.stdout).unwrap(), expected);
    assert!(expected.len() > 100, "{expected}");

    let file = programs.folder.path().join("prompts.txt");
    fs::write(&file, prompts.join("\n") + "\n").unwrap();
    let answers = run(Command::new(programs.c("examples/c/batch.c")).arg(&model).arg(&file));
    let alone = prompts.map(|prompt| {
        format!("{prompt}\n{}\n\n", run_once(&["--temp", "0", "-n", "64"], prompt).trim_end())
    });
    assert_eq!(answers, alone.concat());
}

/// The program that the README shows.
#[test]
fn the_readme_s_program_answers() {
    let Some(model) = real_model() else { return };
    let programs = Programs::new();
    let readme = fs::read_to_string(root().join("README.md")).unwrap();
    let (_, rest) = readme.split_once("```c\n").unwrap();
    let (program, _) = rest.split_once("```").unwrap();
    let model = model.to_str().unwrap();
    let source = programs.folder.path().join("sky.c");
    fs::write(&source, program.replace("model.gguf", model)).unwrap();
    let said = run(&mut Command::new(programs.c(source.to_str().unwrap())));
    let mut command = Command::new(env!("CARGO_BIN_EXE_dovetail-run"));
    command.args([model, "-s", "0", "-n", "200", "-p", "Why is the sky blue?"]);
    assert_eq!(said.trim_end(), run(&mut command).trim_end());
    assert!(said.len() > 100);
    fs::write(&source, program.replace("model.gguf", "/nonexistent/--tree.gguf")).unwrap();
    let output = Command::new(programs.c(source.to_str().unwrap())).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let line = "/nonexistent/--tree.gguf: no such file; check the path\n";
    assert_eq!(String::from_utf8(output.stderr).unwrap(), line);
}

#[test]
fn misuse_ends_in_a_status() {
    let Some(model) = real_model() else { return };
    let programs = Programs::new();
    let program = programs.c("tests/c/misuse.c");
    assert_eq!(run(Command::new(program).arg(&model).arg(programs.folder.path())), "ok\n");
}

#[test]
fn a_model_with_a_broken_template_loads() {
    let programs = Programs::new();
    let program = programs.c("tests/c/templates.c");
    for template in ["{% foo %}", "{{ if .System }}{{ .System }}{{ end }}", "{% if x %}"] {
        let mut parts = tiny("f32").parts();
        parts.set("tokenizer.chat_template", Some(Value::String(template.into())));
        let folder = Folder::new(&parts);
        let mut command = Command::new(&program);
        command.env("DOVETAIL_CACHE", folder.cache()).arg(folder.model());
        assert_eq!(run(&mut command), "ok\n", "{template}");
    }
}

#[test]
fn sessions_of_one_model_run_on_threads_of_their_own() {
    let Some(model) = real_model() else { return };
    let program = Programs::new();
    assert_eq!(run(Command::new(program.c("tests/c/threads.c")).arg(&model)), "ok\n");
}

/// A process that holds a model until it is dropped.
struct Holder(Child);

impl Holder {
    fn new(program: &Path, model: &Path, cache: &Path) -> Holder {
        let mut command = Command::new(program);
        command.arg(model).env("DOVETAIL_CACHE", cache);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "loaded\n");
        Holder(child)
    }

    /// Bytes of its resident memory that other processes have too, and all of it.
    fn resident(&self) -> [u64; 2] {
        let path = format!("/proc/{}/smaps_rollup", self.0.id());
        let text = fs::read_to_string(path).unwrap();
        let sum = |prefix: &str| -> u64 {
            let lines = text.lines().filter_map(|line| line.strip_prefix(prefix));
            lines.filter_map(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok()).sum()
        };
        [sum("Shared_") * 1024, sum("Rss") * 1024]
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        assert!(self.0.wait().unwrap().success() || std::thread::panicking());
    }
}

/// The weights are in memory once, however many processes run the model.
#[test]
fn processes_share_the_weights() {
    let Some(model) = real_model() else { return };
    let programs = Programs::new();
    let program = programs.c("tests/c/hold.c");
    let cache = programs.folder.path().join("cache");
    let first = Holder::new(&program, &model, &cache);
    let [alone, _] = first.resident();
    let second = Holder::new(&program, &model, &cache);
    let packed = fs::read_dir(cache.join("packed")).unwrap().next().unwrap().unwrap();
    let packed = packed.metadata().unwrap().len();
    for [shared, all] in [first.resident(), second.resident()] {
        eprintln!(
            "packed weights {packed} bytes; resident {all}, of which {shared} are shared ({alone} alone)"
        );
        assert!(shared > packed / 100 * 95 && alone < packed / 2);
    }
}
