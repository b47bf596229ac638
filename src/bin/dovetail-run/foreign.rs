//! llama.cpp's flags that this program has no use for: scripts pass them, so they are set aside with a line, or refused
//! where the answer would be another one.
//!
//! To add one: a row in [`LLAMA_FLAGS`].

use clap::Command;
use std::ffi::OsString;

/// A flag of llama.cpp.
struct LlamaFlag {
    names: &'static [&'static str],
    value: Value,
    /// Why it has no effect; or why it cannot be had, if `refused`.
    why: &'static str,
    refused: bool,
}

/// What follows a flag.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Value {
    None,
    One,
    /// One of these, if it is there.
    Maybe(&'static [&'static str]),
}

const SWITCH: Value = Value::Maybe(&["on", "off", "auto", "0", "1"]);

const fn aside(names: &'static [&'static str], value: Value, why: &'static str) -> LlamaFlag {
    LlamaFlag { names, value, why, refused: false }
}

const fn refused(names: &'static [&'static str], value: Value, why: &'static str) -> LlamaFlag {
    LlamaFlag { names, value, why, refused: true }
}

const LLAMA_FLAGS: &[LlamaFlag] = &[
    aside(&["-fa", "--flash-attn"], SWITCH, "attention has one way here"),
    aside(
        &["-cnv", "--conversation", "-i", "--interactive"],
        Value::None,
        "a terminal gets a chat",
    ),
    aside(&["--jinja"], Value::None, "templates are always Jinja's"),
    aside(&["--simple-io"], Value::None, "input and output are simple where they are no terminal"),
    aside(&["--log-disable", "--no-perf", "--perf"], Value::None, "-v says how much is reported"),
    aside(&["-lv", "--log-verbosity", "--verbosity"], Value::One, "-v says how much is reported"),
    aside(&["--no-warmup", "--warmup"], Value::None, "nothing is warmed up"),
    aside(&["--mmap"], Value::None, "files are mapped unless --no-mmap is given"),
    aside(&["--prio", "--prio-batch", "--poll"], Value::One, "threads have the system's priority"),
    aside(&["--numa"], Value::One, "memory is where the system puts it"),
    aside(&["--keep"], Value::One, "a full context ends the answer"),
    aside(&["-dev", "--device"], Value::One, "the model runs on the CPU"),
    aside(
        &["-sm", "--split-mode", "-mg", "--main-gpu", "-ts", "--tensor-split"],
        Value::One,
        "the model runs on the CPU",
    ),
    aside(
        &["--no-kv-offload", "-nkvo", "--no-op-offload"],
        Value::None,
        "the model runs on the CPU",
    ),
    aside(&["--no-mmproj", "--no-mmproj-auto"], Value::None, "only text is read"),
    refused(
        &["--lora", "--lora-scaled", "--control-vector"],
        Value::One,
        "adapters cannot be loaded",
    ),
    refused(&["--mmproj", "--image", "--audio"], Value::One, "only text can be read"),
    refused(&["--rpc"], Value::One, "models run on this machine alone"),
    refused(&["--yarn-ext-factor"], Value::One, "yarn mixes frequencies as its paper says"),
];

/// Takes llama.cpp's other flags out of a command line; returns what is left, and a line about each of them.
///
/// # Errors
/// A line about the first that is refused.
pub fn set_aside(
    argv: impl IntoIterator<Item = OsString>,
    command: &Command,
    takes_value: impl Fn(&Command, &OsString) -> bool,
) -> Result<(Vec<OsString>, Vec<String>), String> {
    let mut argv = argv.into_iter().peekable();
    let (mut left, mut lines) = (Vec::new(), Vec::new());
    left.extend(argv.next());
    while let Some(arg) = argv.next() {
        if arg == "--" {
            left.push(arg);
            break;
        }
        let text = arg.to_str().unwrap_or_default();
        let (name, value) = match text.split_once('=') {
            Some((name, value)) if text.starts_with("--") => (name, Some(value)),
            _ => (text, None),
        };
        let Some(flag) = LLAMA_FLAGS.iter().find(|flag| flag.names.contains(&name)) else {
            // What follows a flag of ours is its value, whatever it looks like.
            let value = takes_value(command, &arg).then(|| argv.next()).flatten();
            left.push(arg);
            left.extend(value);
            continue;
        };
        let LlamaFlag { why, refused, .. } = flag;
        if *refused {
            return Err(format!("{name} is not supported: {why}"));
        }
        lines.push(format!("{name} has no effect: {why}"));
        let next = argv.peek().and_then(|next| next.to_str());
        let follows = match flag.value {
            Value::None => false,
            Value::One => value.is_none(),
            Value::Maybe(values) => {
                value.is_none() && next.is_some_and(|next| values.contains(&next))
            }
        };
        if follows {
            argv.next();
        }
    }
    left.extend(argv);
    Ok((left, lines))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(typed: &str) -> Result<(String, Vec<String>), String> {
        let argv = std::iter::once("dovetail-run").chain(typed.split_whitespace());
        let takes_value = |_: &Command, arg: &OsString| arg == "-p";
        let argv = argv.map(OsString::from);
        let (left, lines) = set_aside(argv, &Command::new("dovetail-run"), takes_value)?;
        let left: Vec<_> = left[1..].iter().map(|arg| arg.to_str().unwrap()).collect();
        Ok((left.join(" "), lines))
    }

    #[test]
    fn flags_of_llama_cpp_are_set_aside_with_their_values() {
        for (typed, left, n_lines) in [
            ("-fa on m.gguf --jinja -n 3", "m.gguf -n 3", 2),
            ("-fa m.gguf -lv 3", "m.gguf", 2),
            ("--flash-attn=off --prio 2 --keep -1 m.gguf", "m.gguf", 3),
            ("-p --jinja -cnv", "-p --jinja", 1),
            ("m.gguf -- --jinja", "m.gguf -- --jinja", 0),
            ("-t 4", "-t 4", 0),
        ] {
            let (found, lines) = split(typed).unwrap();
            assert_eq!((&found[..], lines.len()), (left, n_lines), "{typed}: {lines:?}");
        }
        let (_, lines) = split("--mmap").unwrap();
        assert_eq!(lines, ["--mmap has no effect: files are mapped unless --no-mmap is given"]);
    }

    #[test]
    fn what_would_change_the_answer_is_refused() {
        for typed in ["--lora=l.gguf", "--mmproj m", "--rpc host", "--yarn-ext-factor 1"] {
            let line = split(typed).unwrap_err();
            assert!(line.contains("is not supported") && !line.contains('\n'), "{line}");
        }
    }
}
