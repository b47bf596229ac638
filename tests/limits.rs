//! Where memory is limited the program runs with less, or says that it cannot: it is never killed by what a file or a
//! prompt asks for.

#![cfg(target_os = "linux")]

mod common;

use common::tiny::tiny;
use dovetail::gguf::Value;
use dovetail::infer::{CacheTypes, KvCache, KvSize};
use dovetail::{Error, Session, SessionOptions};
use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};

/// A small model that claims to be made for 2³¹ tokens.
fn boundless() -> common::gguf::Parts {
    let mut parts = tiny("q4_1").parts();
    parts.set("llama.context_length", Some(Value::U32(i32::MAX as u32)));
    parts
}

/// The program under a limit of so many KiB, as `ulimit` knows it.
fn limited(folder: &Path, flag: &str, kib: u64, args: &[&str]) -> Output {
    let mut command = Command::new("sh");
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("DOVETAIL_") {
            command.env_remove(name);
        }
    }
    let program = env!("CARGO_BIN_EXE_dovetail-run");
    command.args(["-c", &format!("ulimit {flag} {kib} && exec \"$0\" \"$@\""), program]).args(args);
    command.current_dir(folder).stdin(Stdio::null()).env("DOVETAIL_CACHE", folder.join("cache"));
    command.output().unwrap()
}

#[test]
fn the_default_context_is_what_limits_leave() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("m.gguf"), boundless().bytes()).unwrap();
    let ask = ["m.gguf", "--raw", "-p", "the", "-n", "2", "-t", "1", "--spec-type", "none"];
    let mut before = u64::MAX;
    for (flag, kib) in [("-v", 4 << 20), ("-v", 1 << 20), ("-d", 1 << 18), ("-v", 100_000)] {
        let output = limited(folder.path(), flag, kib, &ask);
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success(), "ulimit {flag} {kib}: {:?}: {stderr}", output.status);
        let n = stderr.strip_prefix("memory holds ").and_then(|rest| rest.split(' ').next());
        let n: u64 = n.expect(&stderr).parse().unwrap();
        assert!(n >= 512 && n < before, "{n} tokens under {kib} KiB, {before} under more");
        before = n;
    }
    let asked = [&ask[..], &["-c", "2000000000"]].concat();
    let output = limited(folder.path(), "-v", 4 << 20, &asked);
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{stderr}");
    assert!(stderr.starts_with("error: ") || stderr.contains("\nerror: "), "{stderr}");
    assert!(stderr.contains("are free; choose a smaller one with --ctx-size"), "{stderr}");
}

/// A drafter takes memory too, for its weights and for its own cache.
#[test]
fn the_default_context_leaves_room_for_the_drafter() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["m.gguf", "d.gguf"] {
        fs::write(folder.path().join(name), boundless().bytes()).unwrap();
    }
    let n_ctx = |drafter: &[&str]| {
        let ask = ["m.gguf", "--raw", "-p", "the", "-n", "8", "-t", "1", "--temp", "0"];
        let output = limited(folder.path(), "-v", 1 << 20, &[&ask[..], drafter].concat());
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success(), "{drafter:?}: {:?}: {stderr}", output.status);
        assert!(!stderr.contains("without"), "{stderr}");
        let n = stderr.strip_prefix("memory holds ").and_then(|rest| rest.split(' ').next());
        (n.expect(&stderr).parse::<u64>().unwrap(), output.stdout)
    };
    let (plain, text) = n_ctx(&["--spec-type", "none"]);
    let (drafted, same) = n_ctx(&["-md", "d.gguf"]);
    assert!(drafted < plain, "{drafted} tokens with a drafter, {plain} without");
    assert_eq!(text, same);
}

/// What the machine has not, whatever it says that it has, is an error too.
#[test]
fn caches_that_the_system_refuses_are_an_error() {
    let model = tiny("q4_1").parts().load().unwrap();
    let beyond = 1 << 40;
    let size = KvSize { n_ctx: beyond, rows: 512, types: CacheTypes::default() };
    let error = KvCache::new(model.config(), size).err().unwrap();
    assert!(matches!(&error, Error::Memory { free_bytes: None, .. }), "{error}");
    let options = SessionOptions { n_ctx: beyond, ..SessionOptions::default() };
    let error = Session::new(model.into(), options).err().unwrap();
    assert!(matches!(&error, Error::Memory { .. }), "{error}");
}

/// A prompt of 50 MB, which was tokenised whole before it did not fit.
#[test]
fn a_prompt_that_cannot_fit_takes_no_memory() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("m.gguf"), tiny("q4_1").parts().bytes()).unwrap();
    fs::write(folder.path().join("prompt"), "the ring ".repeat(50_000_000 / 9)).unwrap();
    let line = serde_json::json!({ "prompt": "the ring ".repeat(50_000_000 / 9) });
    fs::write(folder.path().join("prompts"), line.to_string()).unwrap();
    let ask = ["m.gguf", "-t", "1", "--spec-type", "none", "-f"];
    for args in [
        &["prompt", "--raw"][..],
        &["prompt", "--chat-template", "chatml"],
        &["prompts", "-np", "2"],
    ] {
        let args = [&ask[..], args].concat();
        let output = limited(folder.path(), "-v", 700_000, &args);
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{args:?}: {:?} {stderr}", output.status);
        assert!(stderr.contains("tokens do not fit the context of 512"), "{args:?}: {stderr}");
    }
}
