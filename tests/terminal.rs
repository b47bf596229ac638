//! What a terminal is given: names from files and control characters that a model writes never steer it.

#![cfg(unix)]

mod common;

use common::gguf::Parts;
use common::tiny::{tensor, tiny, types};
use dovetail::gguf::Value;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

/// Sets a terminal's title, rings, clears the screen, and begins a line of its own.
const NAME: &str = "\x1b]0;owned\x07\x1b[2Jnice\nerror: second line\u{202e}";
const SHOWN: &str = r"\u{1b}]0;owned\u{7}\u{1b}[2Jnice\nerror: second line\u{202e}";

fn program(folder: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_dovetail-run"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("DOVETAIL_") {
            command.env_remove(name);
        }
    }
    command.current_dir(folder).env("DOVETAIL_CACHE", folder.join("cache"));
    command.args(["m.gguf", "--raw", "-p", "the", "-t", "1", "--spec-type", "none"]);
    command.stdin(Stdio::null());
    command
}

/// What the program says on standard error about a model.
fn said(parts: &Parts, args: &[&str]) -> String {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("m.gguf"), parts.bytes()).unwrap();
    let output = program(folder.path()).args(args).output().unwrap();
    String::from_utf8(output.stderr).unwrap()
}

fn text(text: &str) -> Option<Value> {
    Some(Value::String(text.into()))
}

#[test]
fn names_from_files_are_shown_escaped() {
    let mut cases: Vec<Parts> = Vec::new();
    let mut with = |change: &dyn Fn(&mut Parts)| {
        let mut parts = tiny("q8_0").parts();
        change(&mut parts);
        cases.push(parts);
    };
    with(&|parts| parts.set("general.architecture", text(NAME)));
    with(&|parts| parts.set("tokenizer.ggml.model", text(NAME)));
    with(&|parts| parts.set("tokenizer.ggml.pre", text(NAME)));
    with(&|parts| parts.set("llama.rope.scaling.type", text(NAME)));
    with(&|parts| parts.tensors.push(tensor(NAME, types::F32, &[64], &[0.5; 64])));
    with(&|parts| parts.tensors[0].name = NAME.into());
    with(&|parts| {
        let twice = [(NAME.to_owned(), Value::U32(1)), (NAME.to_owned(), Value::U32(2))];
        parts.keys.extend(twice);
    });
    for parts in &cases {
        let said = said(parts, &[]);
        assert!(said.starts_with("error: ") && said.matches('\n').count() == 1, "{said:?}");
        let steers = |c: char| c != '\n' && (c.is_control() || c == '\u{202e}');
        assert!(!said.contains(steers), "{said:?}");
    }
    let shown = cases.iter().filter(|parts| said(parts, &[]).contains(SHOWN)).count();
    assert!(shown >= cases.len() - 1, "a tensor that is renamed is missing by its old name");
    // A report names the model.
    let mut parts = tiny("q8_0").parts();
    parts.set("general.name", text(NAME));
    let said = said(&parts, &["-v", "-n", "2"]);
    assert!(said.starts_with(&format!("model {SHOWN} (llama), 2 layers")), "{said:?}");
}

/// On a terminal; a pipe gets every byte.
#[test]
fn control_characters_of_an_answer_reach_a_pipe_and_no_terminal() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("m.gguf"), tiny("f32").parts().bytes()).unwrap();
    // Of all tokens one in nine is a control character.
    let random = [
        "-n",
        "1800",
        "-c",
        "2000",
        "--rope-scale",
        "4",
        "-s",
        "5",
        "--temp",
        "100",
        "--top-k",
        "0",
    ];
    let ask = || {
        let mut command = program(folder.path());
        command.args(random).args(["--top-p", "1", "--min-p", "0", "--ignore-eos"]);
        command
    };
    let piped = String::from_utf8(ask().output().unwrap().stdout).unwrap();
    for c in ['\x1b', '\r', '\x07'] {
        assert!(piped.contains(c), "the answer has {c:?}");
    }
    // Progress on standard error moves the cursor on purpose.
    let mut command = Command::new("sh");
    command.args(["-c", "exec \"$0\" \"$@\" 2>/dev/null"]).arg(ask().get_program());
    command.args(ask().get_args()).current_dir(folder.path()).stdin(Stdio::inherit());
    let mut session = rexpect::session::spawn_command(command, Some(60_000)).unwrap();
    // Each byte is a character of what is read there, and the terminal itself ends lines with two.
    let bytes = session.exp_eof().unwrap().chars().map(|c| u8::try_from(c).unwrap()).collect();
    let shown = String::from_utf8(bytes).unwrap().replace("\r\n", "\n");
    let allowed = |c: char| !c.is_control() || "\n\t".contains(c);
    assert!(shown.chars().all(allowed), "{shown:?}");
    assert!(shown.contains('␛') && shown.contains('␇'), "{shown:?}");
}
