//! The program on made-up models, so that it takes no download: input, flags, files of prompts, the chat on a terminal.

#![cfg(unix)]

mod common;

use common::gguf::Parts;
use common::process::{answer, piped, text, with_input, without_flags};
use common::tiny::tiny;
use dovetail::gguf::Value;
use dovetail_kernels::cpu::Kernels;
use serde_json::{Value as Json, json};
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Output, Stdio};
use tempfile::TempDir;

/// A folder with the model `m.gguf`.
fn folder(parts: &Parts) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("m.gguf"), parts.bytes()).unwrap();
    folder
}

fn program(folder: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_dovetail-run"));
    without_flags(&mut command);
    command.current_dir(folder).env("DOVETAIL_CACHE", folder.join("cache"));
    command.env("XDG_STATE_HOME", folder.join("state")).env("TERM", "xterm");
    command.args(["m.gguf", "-t", "1", "--temp", "0"]).args(args).stdin(Stdio::null());
    command
}

/// One line on standard error, and this exit code.
fn assert_error(output: &Output, code: i32, part: &str) {
    let stderr = text(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{stderr}");
    assert!(stderr.starts_with("error: ") && stderr.contains(part), "{part} in {stderr:?}");
    assert_eq!(stderr.matches('\n').count(), 1, "{stderr}");
}

const RAW: [&str; 5] = ["--raw", "--no-display-prompt", "-n", "12", "--ignore-eos"];

/// Those that show in the text; `parse.rs` has the others.
#[test]
fn numbers_have_their_meaning_in_llama_cpp() {
    let folder = folder(&tiny("f32").parts());
    let run = |args: &[&str]| {
        let usual = ["--raw", "-p", "the", "-n", "9", "--temp", "9", "-s", "3"];
        answer(&mut program(folder.path(), &[&usual, args].concat()))
    };
    for (unusual, usual) in [
        (&["--temp", "-1"][..], &["--temp", "0"][..]),
        (&["--top-k", "-1"], &["--top-k", "0"]),
        (&["--top-p", "1.5"], &["--top-p", "1"]),
        (&["--top-p", "-1"], &["--top-p", "0"]),
        (&["--min-p", "-1"], &["--min-p", "0"]),
        (&["-s", "-2"], &["-s", "4294967294"]),
        (&["-n", "-2", "-c", "64", "--ignore-eos"], &["-n", "-1", "-c", "64", "--ignore-eos"]),
    ] {
        assert_eq!(run(unusual), run(usual), "{unusual:?}");
    }
    assert_ne!(run(&["-s", "-2"]), run(&["-s", "-3"]), "they are seeds");
}

#[test]
fn switches_of_the_environment_take_the_usual_words() {
    let folder = folder(&tiny("f32").parts());
    let names = ["NO_MMAP", "COLOR", "EXPLAIN", "IGNORE_EOS", "NO_HISTORY", "OFFLINE", "VERBOSE"];
    let run = |names: &[&str], value: &str| {
        let mut command = program(folder.path(), &["--raw", "-p", "the", "-n", "2"]);
        for name in names {
            command.env(format!("DOVETAIL_{name}"), value);
        }
        command.output().unwrap()
    };
    for (values, on) in
        [(["1", "on", "true", "YES", "On"], true), (["0", "off", "false", "No", ""], false)]
    {
        for value in values {
            let output = run(&names, value);
            let stderr = text(&output.stderr);
            assert!(output.status.success(), "{value:?}: {stderr}");
            assert_eq!(stderr.contains("load time"), on, "{value:?}: {stderr}");
        }
    }
    for name in names.into_iter().chain(["MLOCK"]) {
        let flag = format!("--{}'", name.to_lowercase().replace('_', "-"));
        let line = format!("{flag}: give 1, on, true or yes, or else 0, off, false or no");
        assert_error(&run(&[name], "maybe"), 2, &line);
    }
    let mut locked = program(folder.path(), &["--raw", "-p", "the", "-n", "2"]);
    assert!(locked.env("DOVETAIL_MLOCK", "off").status().unwrap().success());
}

#[test]
fn piped_input_follows_the_prompt() {
    let folder = folder(&tiny("f32").parts());
    fs::write(folder.path().join("prompt.txt"), "\u{feff}the\n").unwrap();
    // With --raw the prompt is repeated.
    let run = |args: &[&str], input: &[u8], said: &str| {
        let args = [&["--raw", "-n", "0"], args].concat();
        let output = with_input(program(folder.path(), &args), input);
        assert_eq!((output.status.code(), text(&output.stderr)), (Some(0), said));
        text(&output.stdout).to_owned()
    };
    for (given, flag) in
        [(&["-p", "the"][..], "-p"), (&["-f", "prompt.txt"], "-f"), (&["the"], "-p")]
    {
        assert_eq!(run(given, b"", ""), "the");
        let said = format!("5 bytes of standard input follow {flag}; </dev/null leaves it alone\n");
        assert_eq!(run(given, b"other\r\n", &said), "the\n\nother");
    }
    assert_eq!(run(&["the", "other"], b"", ""), "the other");
    assert_eq!(run(&[], b"\xef\xbb\xbfother\n", ""), "other");
    let output = with_input(program(folder.path(), &["--raw", "-p", "the"]), b"\xff");
    assert_error(&output, 2, "standard input: byte 0 is not UTF-8");
    for (args, part) in [
        (&["a", "-p", "b"][..], "cannot be used with"),
        (&["a", "-f", "b"], "cannot be used with"),
        (&["other.gguf"], "two models are named, m.gguf and other.gguf; name one"),
    ] {
        assert_error(&program(folder.path(), args).output().unwrap(), 2, part);
    }
}

/// `DOVETAIL_MODEL` names the model unless a word does.
#[test]
fn a_word_is_the_prompt_where_the_environment_names_the_model() {
    let folder = folder(&tiny("f32").parts());
    let run = |args: &[&str]| {
        let usual = program(folder.path(), &["--raw", "-n", "0"]);
        let usual_args: Vec<_> = usual.get_args().skip(1).map(ToOwned::to_owned).collect();
        let mut command = Command::new(usual.get_program());
        for (name, value) in usual.get_envs() {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        command.args(usual_args).args(args).env("DOVETAIL_MODEL", "m.gguf");
        command.current_dir(folder.path()).stdin(Stdio::null()).output().unwrap()
    };
    for args in [&["the"][..], &["-p", "the"], &["m.gguf", "the"], &["m.gguf", "-p", "the"]] {
        let output = run(args);
        assert_eq!((text(&output.stdout), text(&output.stderr)), ("the", ""), "{args:?}");
    }
    assert_error(&run(&["other.gguf", "the"]), 1, "other.gguf: no such file");
    // The prompt is -p, so that a word is a model's name.
    assert_error(&run(&["other", "-p", "the"]), 1, "other: no such file");
}

/// Whoever forgets that a program reads its input learns what it waits for.
#[test]
fn a_silent_input_is_named() {
    let folder = folder(&tiny("f32").parts());
    let mut command = program(folder.path(), &["--raw", "-p", "the", "-n", "0"]);
    let mut child = piped(&mut command).spawn().unwrap();
    let (input, mut line) = (child.stdin.take(), String::new());
    BufReader::new(child.stderr.take().unwrap()).read_line(&mut line).unwrap();
    assert!(line.contains("the end of standard input, which follows -p"), "{line}");
    drop(input);
    assert!(child.wait().unwrap().success());
}

#[test]
fn a_raw_prompt_has_one_beginning_and_no_end() {
    let mut parts = tiny("f32").parts();
    parts.set("tokenizer.ggml.add_bos_token", Some(Value::Bool(true)));
    parts.set("tokenizer.ggml.add_eos_token", Some(Value::Bool(true)));
    let folder = folder(&parts);
    let count = |prompt: &str| {
        let args = ["--raw", "-p", prompt, "-n", "1", "--stats-json", "stats.json"];
        answer(&mut program(folder.path(), &args));
        let stats = fs::read_to_string(folder.path().join("stats.json")).unwrap();
        serde_json::from_str::<Json>(&stats).unwrap()["prompt_n"].as_u64().unwrap()
    };
    let bos = "<|im_start|>";
    assert_eq!((count("!"), count(&format!("{bos}!"))), (2, 2));
}

#[test]
fn a_damaged_model_is_an_error_on_every_instruction_set() {
    let mut parts = tiny("q8_0").parts();
    // The scale of a block.
    parts.tensor("blk.0.attn_v.weight").bytes[..2].copy_from_slice(&0x7e00u16.to_le_bytes());
    let folder = folder(&parts);
    fs::write(folder.path().join("p.jsonl"), "{\"prompt\": \"the\"}\n").unwrap();
    let damaged = "weights are damaged; download or convert it anew\n";
    for kernels in Kernels::available() {
        let run = |args: &[&str]| {
            let mut command = program(folder.path(), &[&RAW, args].concat());
            command.env("DOVETAIL_ISA", kernels.name).output().unwrap()
        };
        let (once, file) = (run(&["-p", "the"]), run(&["-np", "2", "-f", "p.jsonl"]));
        assert_error(&once, 1, "error: m.gguf: the logits after ");
        assert!(text(&once.stderr).ends_with(damaged), "{}", kernels.name);
        assert_eq!(text(&once.stdout), "");
        let said = text(&file.stderr);
        assert!(
            said.starts_with("error: p.jsonl, line 1: m.gguf: the logits after ")
                && said.contains(damaged),
            "{}: {said}",
            kernels.name
        );
        assert_eq!(file.status.code(), Some(1));
    }
}

#[test]
fn a_prompt_without_an_answer_loses_no_other() {
    let mut parts = tiny("f16").parts();
    // The embedding of "!", which is in the second prompt alone.
    let tensor = parts.tensor("token_embd.weight");
    let row = tensor.bytes.len() / tensor.shape[1] as usize * 33;
    tensor.bytes[row..row + 2].copy_from_slice(&0x7e00u16.to_le_bytes());
    let folder = folder(&parts);
    let line = |prompt: &str| json!({"prompt": prompt, "logit_bias": {"33": -1e9}}).to_string();
    let run = |prompts: &[&str]| {
        let lines: Vec<_> = prompts.iter().map(|prompt| line(prompt)).collect();
        fs::write(folder.path().join("p.jsonl"), lines.join("\n")).unwrap();
        let output =
            program(folder.path(), &[&RAW[..], &["-np", "2", "-f", "p.jsonl"]].concat()).output();
        let output = output.unwrap();
        let lines = text(&output.stdout).lines();
        let answers: Vec<Json> = lines.map(|line| serde_json::from_str(line).unwrap()).collect();
        (output.status.code(), answers, text(&output.stderr).to_owned())
    };
    let (code, answers, said) = run(&["the", "a!", "one two"]);
    assert_eq!((code, answers.len()), (Some(1), 3), "{said}");
    assert!(said.contains("error: p.jsonl, line 2: m.gguf: the logits after 2 tokens"), "{said}");
    assert_eq!(
        answers[1],
        json!({"prompt_index": 1, "text": "", "tokens": 0, "stop": "not_a_number"})
    );
    for (i, prompt) in [(0, "the"), (2, "one two")] {
        let (code, alone, _) = run(&[prompt]);
        assert_eq!((code, &alone[0]["stop"]), (Some(0), &"length".into()));
        assert_eq!(answers[i]["text"], alone[0]["text"], "{prompt}");
        assert_eq!(answers[i]["tokens"], 12);
    }
}

#[test]
fn fields_of_a_line_describe_its_answer() {
    let folder = folder(&tiny("f32").parts());
    let file = folder.path().join("p.jsonl");
    let run = |lines: &[Json]| {
        let lines: String = lines.iter().map(|line| format!("{line}\n")).collect();
        fs::write(&file, format!("\u{feff}{lines}")).unwrap();
        let args = ["--raw", "-n", "9", "--ignore-eos", "-np", "4", "-f", "p.jsonl"];
        program(folder.path(), &args).output().unwrap()
    };
    let output = run(&[
        json!({"prompt": "the"}),
        json!({"prompt": "the", "max_tokens": 3, "stop": null}),
        json!({"prompt": "the", "temperature": 1.5, "seed": 5, "top_k": 20, "top_p": 0.9, "min_p": 0}),
        json!({"prompt": "the", "logit_bias": {"33": 1e9}, "max_tokens": 4}),
        json!({"prompt": "the", "logit_bias": {"33": 1e9}, "stop": ["!!!"], "mood": "good"}),
    ]);
    let stderr = text(&output.stderr);
    assert!(stderr.starts_with("p.jsonl: the field \"mood\" has no effect\n"), "{stderr}");
    let answers: Vec<Json> =
        text(&output.stdout).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let alone = |args: &[&str]| answer(&mut program(folder.path(), &[&RAW, args].concat()));
    let drawn = ["--temp", "1.5", "-s", "5", "--top-k", "20", "--top-p", "0.9", "--min-p", "0"];
    let expected = [
        alone(&["-p", "the", "-n", "9"]),
        alone(&["-p", "the", "-n", "3"]),
        alone(&[&["-p", "the", "-n", "9"], &drawn[..]].concat()),
    ];
    for (answer, expected) in answers.iter().zip(&expected) {
        assert_eq!(answer["text"].as_str().unwrap().trim_end(), expected.trim_end());
    }
    let [_, _, _, same, stopped] = &answers[..] else { panic!("{answers:?}") };
    assert_eq!((&same["tokens"], &same["stop"]), (&4.into(), &"length".into()));
    let letters: Vec<char> = same["text"].as_str().unwrap().chars().collect();
    assert!(letters.len() == 4 && letters.iter().all(|c| *c == letters[0]), "{letters:?}");
    assert_eq!(letters[0], '!', "the token 33");
    assert_eq!((&stopped["stop"], &stopped["text"]), (&"stop_string".into(), &"".into()));
    for (line, part) in [
        (json!({"prompt": "a", "tools": [{}]}), "p.jsonl, line 1: \"tools\" is not supported"),
        (json!({"prompt": "a", "max_tokens": "x"}), "\"max_tokens\" is \"x\"; give a number"),
        (json!({"prompt": "a", "temperature": "x"}), "give 0 or a positive number"),
        (
            json!({"messages": [{"role": "user", "content": "a", "tool_calls": []}]}),
            "line 1: \"tool_calls\" of a message is not supported; leave it out",
        ),
    ] {
        assert_error(&run(&[line]), 2, part);
    }
}

#[test]
fn the_version_has_a_short_flag_and_files_are_checked_first() {
    let folder = folder(&tiny("f32").parts());
    let long = answer(&mut program(folder.path(), &["--version"]));
    assert_eq!(answer(&mut program(folder.path(), &["-V"])), long);
    for flag in ["--stats-json", "--log-file"] {
        let args = ["-p", "the", flag, "/nonexistent/x"];
        let output = program(folder.path(), &args).output().unwrap();
        assert_error(&output, 2, &format!("{flag} /nonexistent/x"));
        assert_eq!(text(&output.stdout), "");
    }
}

/// A line says why the first answer takes longer, where no percentage is shown.
#[test]
fn measuring_is_announced_where_standard_error_is_no_terminal() {
    let folder = folder(&tiny("f32").parts());
    let args = ["--raw", "-p", "the", "-n", "2", "--spec-type", "ngram", "--tree", "cost"];
    let output = program(folder.path(), &args).output().unwrap();
    let said = text(&output.stderr);
    assert!(said.starts_with("measuring this machine, once, for a few seconds\n"), "{said}");
}

mod terminal {
    use super::*;
    use rexpect::session::{PtySession, spawn_command};
    use std::os::unix::fs::PermissionsExt;
    use std::time::Duration;

    fn chat(folder: &Path, args: &[&str]) -> PtySession {
        let chat = ["--chat-template", "chatml", "--spec-type", "none", "-n", "5"];
        let mut command = program(folder, &[&chat, args].concat());
        command.stdin(Stdio::inherit());
        let mut session = spawn_command(command, Some(60_000)).unwrap();
        session.exp_string("/read FILE").unwrap();
        session.exp_string("> ").unwrap();
        session
    }

    fn say(chat: &mut PtySession, line: &str, said: &str) {
        chat.send_line(line).unwrap();
        chat.exp_string(said).unwrap_or_else(|e| panic!("{line}: {e}"));
        chat.exp_string("> ").unwrap();
    }

    fn leave(chat: &mut PtySession) {
        chat.send_line("/exit").unwrap();
        assert_exit(chat, 0);
    }

    fn assert_exit(chat: &mut PtySession, code: i32) {
        chat.exp_eof().unwrap();
        // The status' type has no public name.
        let status = format!("{:?}", chat.process().wait().unwrap());
        let exited = status.starts_with("Exited") && status.ends_with(&format!(", {code})"));
        assert!(exited, "{status}");
    }

    #[test]
    fn commands_are_listed_and_completed() {
        let folder = folder(&tiny("f32").parts());
        fs::write(folder.path().join("some notes.txt"), "The ring is full.").unwrap();
        let chat = &mut chat(folder.path(), &[]);
        say(chat, "/help", "puts a text file before the next message");
        say(chat, "/nonsense", "is no command; there are /help, /exit");
        say(chat, "/rea\tsom\t", "17 bytes of some notes.txt");
        chat.send_line("/bye").unwrap();
        assert_exit(chat, 0);
    }

    #[test]
    fn ctrl_c_leaves_only_if_it_comes_twice_at_once() {
        let folder = folder(&tiny("f32").parts());
        let endless = ["-c", "100000", "--rope-scale", "200", "-n", "-1", "--ignore-eos"];
        let chat = &mut chat(folder.path(), &endless);
        let once_more = |chat: &mut PtySession| {
            chat.send_control('c').unwrap();
            chat.exp_string("Ctrl-C once more, or /exit").unwrap();
            chat.exp_string("> ").unwrap();
        };
        let later = || std::thread::sleep(Duration::from_millis(2500));
        chat.send_line("Hi").unwrap();
        std::thread::sleep(Duration::from_secs(1));
        chat.send_control('c').unwrap();
        chat.exp_string("[ Prompt: ").unwrap();
        chat.exp_string("> ").unwrap();
        later();
        once_more(chat);
        later();
        once_more(chat);
        chat.send_control('c').unwrap();
        assert_exit(chat, 130);
    }

    #[test]
    fn what_is_not_utf8_is_left_out_and_the_chat_goes_on() {
        let folder = folder(&tiny("f32").parts());
        let chat = &mut chat(folder.path(), &[]);
        // "café" in Latin-1.
        let mut terminal = chat.process().get_file_handle().unwrap();
        terminal.write_all(b"caf\xe9\r").unwrap();
        chat.exp_string("is not UTF-8 and is left out").unwrap();
        chat.exp_string("> ").unwrap();
        say(chat, "Hi", "[ Prompt: ");
        leave(chat);
    }

    #[test]
    fn what_was_typed_is_there_at_the_next_start() {
        let folder = folder(&tiny("f32").parts());
        let history = folder.path().join("state/dovetail/history");
        let first = &mut chat(folder.path(), &[]);
        say(first, "/read nowhere", "no such file");
        leave(first);
        assert_eq!(fs::metadata(&history).unwrap().permissions().mode() & 0o777, 0o600);
        let second = &mut chat(folder.path(), &[]);
        // Up, over "/exit".
        say(second, "\x1b[A\x1b[A", "nowhere: no such file");
        leave(second);

        let kept = fs::read_to_string(&history).unwrap();
        let third = &mut chat(folder.path(), &["--no-history"]);
        say(third, "/read elsewhere", "no such file");
        leave(third);
        assert_eq!(fs::read_to_string(&history).unwrap(), kept);
        // A place that cannot be written is no reason to stop.
        fs::remove_dir_all(folder.path().join("state")).unwrap();
        fs::write(folder.path().join("state"), "no folder").unwrap();
        let fourth = &mut chat(folder.path(), &[]);
        say(fourth, "/read elsewhere", "no such file");
        leave(fourth);
    }

    #[test]
    fn lines_are_broken_between_words_on_a_terminal_alone() {
        let folder = folder(&tiny("f32").parts());
        let prompt = "Lines are broken between words.";
        let args = ["--raw", "-n", "0", "-p", prompt];
        let mut sh = Command::new("sh");
        sh.args(["-c", "stty cols 16; exec \"$0\" \"$@\" 2>/dev/null"]);
        let program = program(folder.path(), &args);
        sh.arg(program.get_program()).args(program.get_args()).current_dir(folder.path());
        sh.env("TERM", "xterm");
        let mut session = spawn_command(sh, Some(60_000)).unwrap();
        let shown = session.exp_eof().unwrap();
        // What there is of a word is erased and written again.
        let expected = "Lines are broke\x1b[5D\x1b[K\r\nbroken between \r\nwords.";
        assert_eq!(shown, expected);
    }
}
