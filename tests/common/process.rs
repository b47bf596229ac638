//! Running programs: without flags from the environment, with input, and what they wrote.

#![allow(dead_code, reason = "each test binary uses a part of this")]

use std::io::Write;
use std::process::{Command, Output, Stdio};

/// Takes away flags that the tests' own environment sets.
pub fn without_flags(command: &mut Command) {
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("DOVETAIL_") {
            command.env_remove(name);
        }
    }
}

/// Connects all three streams to this process.
pub fn piped(command: &mut Command) -> &mut Command {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped())
}

/// Runs it with this on standard input.
pub fn with_input(mut command: Command, input: &[u8]) -> Output {
    let mut child = piped(&mut command).spawn().unwrap();
    // A program that refuses its flags does not wait for its input.
    let _ = child.stdin.take().unwrap().write_all(input);
    child.wait_with_output().unwrap()
}

pub fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).expect("the program writes UTF-8")
}

/// Runs it to its end, which is a success; what it wrote.
pub fn answer(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", text(&output.stderr));
    text(&output.stdout).to_owned()
}
