//! Files that people name on the command line: what is no regular file is refused at once, and what cannot be written is
//! refused before anything is computed for it.

#![cfg(unix)]

mod common;

use common::tiny::tiny;
use rustix::fs::{CWD, FileType, Mode, mknodat};
use std::fs;
use std::os::unix::fs::{FileTypeExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

const RUN: &str = env!("CARGO_BIN_EXE_dovetail-run");
const BENCH: &str = env!("CARGO_BIN_EXE_dovetail-bench");

/// A folder with a small model and a pipe that nobody writes to.
struct Place(TempDir);

impl Place {
    fn new() -> Place {
        let place = Place(tempfile::tempdir().unwrap());
        fs::write(place.path("model.gguf"), tiny("q8_0").parts().bytes()).unwrap();
        place.make_pipe("pipe");
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn make_pipe(&self, name: &str) {
        mknodat(CWD, self.path(name), FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
    }

    /// What a program does in this folder. It must not take long.
    fn output(&self, program: &str, args: &[&str]) -> Output {
        let mut command = Command::new(program);
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("DOVETAIL_") {
                command.env_remove(name);
            }
        }
        command.args(args).current_dir(&self.0).env("DOVETAIL_CACHE", self.path("cache"));
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let start = Instant::now();
        while child.try_wait().unwrap().is_none() {
            if start.elapsed() > Duration::from_secs(60) {
                child.kill().unwrap();
                panic!("{args:?} does not end");
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        child.wait_with_output().unwrap()
    }

    /// The program fails with one line that has these parts, and prints nothing else.
    fn refuses(&self, program: &str, args: &[&str], parts: &[&str]) {
        let output = self.output(program, args);
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert!(!output.status.success(), "{args:?}");
        assert_eq!(String::from_utf8(output.stdout).unwrap(), "", "{args:?}");
        assert!(stderr.starts_with("error: ") && stderr.matches('\n').count() == 1, "{stderr}");
        assert!(parts.iter().all(|part| stderr.contains(part)), "{parts:?} in {stderr}");
    }
}

const ASK: [&str; 8] = ["model.gguf", "--raw", "-p", "the", "-n", "3", "--spec-type", "none"];

fn ask<'a>(more: &[&'a str]) -> Vec<&'a str> {
    [&ASK[..], more].concat()
}

#[test]
fn a_pipe_is_refused_wherever_a_file_is_read() {
    let place = Place::new();
    let split = |name: &str| fs::write(place.path(name), split_part()).unwrap();
    split("s-00001-of-00002.gguf");
    place.make_pipe("s-00002-of-00002.gguf");
    symlink("pipe", place.path("link")).unwrap();
    for args in [
        &["pipe", "-p", "x"][..],
        &["link", "-p", "x"],
        &["s-00001-of-00002.gguf", "-p", "x"],
        &["model.gguf", "-f", "pipe"],
        &["model.gguf", "-f", "pipe", "-np", "2"],
        &["model.gguf", "-p", "x", "--chat-template-file", "pipe"],
        &["model.gguf", "--raw", "-p", "x", "-md", "pipe"],
    ] {
        place.refuses(RUN, args, &["regular file"]);
    }
    for (args, part) in [
        (&["model.gguf", "-f", "/dev/zero"][..], "is a device"),
        (&["model.gguf", "-f", "."], "is a directory"),
        (&["/dev/zero", "-p", "x"], "not a regular file"),
    ] {
        place.refuses(RUN, args, &[part]);
    }
    place.refuses(BENCH, &["ppl", "-m", "model.gguf", "-f", "pipe"], &["pipe: is a pipe"]);
    place.refuses(BENCH, &["trees", "--replay", "pipe", "--counts", "x"], &["pipe: is a pipe"]);
    place.refuses(BENCH, &["trees", "--replay", "x", "--costs", "pipe"], &["pipe: is a pipe"]);
}

/// The first of two files of a model.
fn split_part() -> Vec<u8> {
    use dovetail::gguf::Value;
    let mut parts = tiny("q8_0").parts();
    parts.set("split.count", Some(Value::U32(2)));
    parts.set("split.no", Some(Value::U32(0)));
    parts.bytes()
}

/// A pipe that has the name of the model's packed weights, or of what was measured.
#[test]
fn a_pipe_in_the_cache_directory_blocks_nobody() {
    let place = Place::new();
    let args = ask(&["--repack", "cache"]);
    assert!(place.output(RUN, &args).status.success());
    let sidecars = || fs::read_dir(place.path("cache/packed")).unwrap().map(|e| e.unwrap().path());
    let sidecar = sidecars().next().unwrap();
    fs::remove_file(&sidecar).unwrap();
    place.make_pipe(sidecar.to_str().unwrap());
    place.make_pipe("cache/packed/other.packed");
    place.make_pipe("cache/packed/other.packed.part");
    let output = place.output(RUN, &args);
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{stderr}");
    assert!(stderr.contains("is a pipe, not a regular file"), "{stderr}");
    assert!(sidecars().all(|path| is_pipe(&path)) && sidecars().count() == 3);
}

fn is_pipe(path: &Path) -> bool {
    fs::symlink_metadata(path).unwrap().file_type().is_fifo()
}

/// Before the answer, which would be lost with it.
#[test]
fn what_cannot_be_written_is_refused_at_once_by_the_name_of_its_flag() {
    let place = Place::new();
    fs::write(place.path("file"), "").unwrap();
    for flag in ["--stats-json", "--log-file"] {
        for (path, part) in [
            ("nowhere/a", "nowhere/a: no such file"),
            ("file/a", "file/a: "),
            (".", "is a directory"),
            ("pipe", "is a pipe"),
            ("/dev/full", "is a device"),
        ] {
            place.refuses(RUN, &ask(&[flag, path]), &[flag, part]);
        }
    }
    assert!(is_pipe(&place.path("pipe")));
    assert!(fs::metadata("/dev/full").unwrap().file_type().is_char_device());
    let prompts = "{\"prompt\": \"the\"}\n";
    fs::write(place.path("prompts"), prompts).unwrap();
    let asking = ["-m", "model.gguf", "--prompts", "prompts"];
    for (command, flag) in [("spec", "--plot"), ("batch", "--plot"), ("trees", "--record")] {
        let args = [&[command][..], &asking, &[flag, "nowhere/a"]].concat();
        place.refuses(BENCH, &args, &[flag, "nowhere/a"]);
    }
    let args = ["calibrate", "-m", "model.gguf", "--plot", "nowhere/a"];
    place.refuses(BENCH, &args, &["--plot", "nowhere/a"]);
}

#[test]
fn statistics_replace_a_file_and_not_what_leads_to_it() {
    let place = Place::new();
    symlink("real", place.path("link")).unwrap();
    fs::write(place.path("real"), "old").unwrap();
    for _ in 0..2 {
        let output = place.output(RUN, &ask(&["--stats-json", "link"]));
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        assert!(fs::symlink_metadata(place.path("link")).unwrap().is_symlink());
        let json: serde_json::Value =
            serde_json::from_slice(&fs::read(place.path("real")).unwrap()).unwrap();
        assert_eq!(json["predicted_n"], 3);
    }
}
