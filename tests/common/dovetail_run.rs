//! `dovetail-run` in a home of its own, with nothing that the tests' own environment says.

use std::path::Path;
use std::process::{Command, Output, Stdio};

/// The program.
pub fn program(home: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_dovetail-run"));
    clean(&mut command, home);
    command
}

/// Without what the tests' own environment says.
pub fn clean(command: &mut Command, home: &Path) {
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy().to_ascii_uppercase();
        let prefixes = ["DOVETAIL_", "HF_", "XDG_", "OLLAMA_", "LLAMA_", "MODEL_ENDPOINT"];
        if text.ends_with("_PROXY") || prefixes.iter().any(|prefix| text.starts_with(prefix)) {
            command.env_remove(name);
        }
    }
    command.env("HOME", home).env("DOVETAIL_SPEC_TYPE", "none").stdin(Stdio::null());
}

/// What a program that succeeded wrote.
pub fn stdout(output: &Output) -> &str {
    assert!(output.status.success(), "{}", stderr(output));
    std::str::from_utf8(&output.stdout).unwrap()
}

/// What a program said.
pub fn stderr(output: &Output) -> &str {
    std::str::from_utf8(&output.stderr).unwrap()
}

/// Flags of a short answer.
pub const ANSWER: [&str; 8] = ["--raw", "-p", "the", "-n", "4", "-t", "1", "--temp=0"];
