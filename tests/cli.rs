//! The program `dovetail-run` as people run it: answers, one-line errors, Ctrl-C, the chat.
//!
//! What needs the default model is skipped, aloud, where it is absent: scripts/test fetches it.

#[path = "common/process.rs"]
mod process;

use dovetail_kernels::cpu::Kernels;
use process::{answer, text, with_input, without_flags};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

const PROMPT: &str = "Name three uses of a ring buffer.";

/// A command without flags from the environment.
fn program() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_dovetail-run"));
    without_flags(&mut command);
    command.stdin(Stdio::null());
    command
}

fn model() -> Option<PathBuf> {
    let named = std::env::var_os("DOVETAIL_TEST_MODEL").map(PathBuf::from);
    if named.is_none() {
        eprintln!("SKIPPED: no model to run; set DOVETAIL_TEST_MODEL, or use scripts/test");
    }
    named
}

/// The program with the model, a seed, and answers of a few tokens; no drafter but the one that `args` name.
fn with_model(model: &Path, args: &[&str]) -> Command {
    let mut command = program();
    command.env("DOVETAIL_SPEC_TYPE", "none").env("DOVETAIL_TREE", "chain:6");
    command.arg(model).args(["-s", "7", "-n", "24"]).args(args);
    command
}

#[test]
fn one_prompt_is_answered_from_a_flag_a_file_and_standard_input() {
    let Some(model) = model() else { return };
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("prompt.txt");
    std::fs::write(&file, format!("{PROMPT}\n")).unwrap();
    let flag = answer(&mut with_model(&model, &["-p", PROMPT]));
    assert!(flag.trim().len() > 20 && flag.ends_with('\n'), "{flag:?}");
    assert_eq!(answer(&mut with_model(&model, &["-f", file.to_str().unwrap()])), flag);
    let piped = with_input(with_model(&model, &[]), format!("{PROMPT}\n").as_bytes());
    assert_eq!(text(&piped.stdout), flag);
    assert_eq!(text(&piped.stderr), "", "nobody asked for more than the answer");
}

#[test]
fn the_text_depends_on_the_seed_and_not_on_threads_instruction_set_or_passes() {
    let Some(model) = model() else { return };
    let args = ["-p", PROMPT];
    let expected = answer(&mut with_model(&model, &args));
    for threads in ["1", "2", "3"] {
        assert_eq!(answer(with_model(&model, &args).args(["-t", threads])), expected);
    }
    for passes in ["1", "7"] {
        assert_eq!(answer(with_model(&model, &args).args(["-ub", passes])), expected);
    }
    for kernels in Kernels::available() {
        let found = answer(with_model(&model, &args).env("DOVETAIL_ISA", kernels.name));
        assert_eq!(found, expected, "{}", kernels.name);
    }
    let other =
        |seed: &str| answer(program().arg(&model).args(["-n", "24", "-s", seed]).args(args));
    assert_ne!(other("8"), expected);
    assert_eq!(other("7"), expected);
}

#[test]
fn statistics_have_the_fields_of_llama_cpp_and_ours() {
    let Some(model) = model() else { return };
    let folder = tempfile::tempdir().unwrap();
    let (stats, log) = (folder.path().join("stats.json"), folder.path().join("log"));
    let output = with_model(&model, &["-p", PROMPT, "--ignore-eos", "-t", "2", "-v"])
        .arg("--stats-json")
        .arg(&stats)
        .arg("--log-file")
        .arg(&log)
        .output()
        .unwrap();
    let json: serde_json::Value =
        serde_json::from_str(&std::fs::read_to_string(&stats).unwrap()).unwrap();
    for field in ["prompt_ms", "prompt_per_second", "predicted_ms", "predicted_per_second"] {
        assert!(json[field].as_f64().unwrap() > 0.0, "{field}: {json}");
    }
    assert!(json["prompt_n"].as_u64().unwrap() > 10, "{json}");
    for (field, expected) in
        [("predicted_n", 24), ("draft_n", 0), ("draft_n_accepted", 0), ("seed", 7), ("threads", 2)]
    {
        assert_eq!(json[field], expected, "{field}");
    }
    assert_eq!(json["stop"], "length");
    let stderr = text(&output.stderr);
    for part in ["[ Prompt: ", "load time", "prompt eval time", "total time", "seed 7"] {
        assert!(stderr.contains(part), "{part} in {stderr}");
    }
    assert_eq!(std::fs::read_to_string(log).unwrap(), stderr);
}

const DRAFTER: &str = "models/SmolLM2-135M-Instruct.small.dgf.gguf";

#[test]
fn the_text_is_the_same_with_any_drafter() {
    let Some(model) = model() else { return };
    let prompt = "Repeat three times: the ring buffer is full.";
    let expected = answer(&mut with_model(&model, &["-p", prompt]));
    let folder = tempfile::tempdir().unwrap();
    let stats = folder.path().join("stats.json");
    for (args, threads) in [
        (&["--spec-type", "ngram"][..], "1"),
        (&["--spec-type", "auto", "-md", DRAFTER], "2"),
        (&["--spec-type", "dgf", "-md", DRAFTER, "--tree", "beam:5,3,12"], "1"),
        (&["--spec-type", "dgf", "-md", DRAFTER, "--draft-max", "6", "--draft-p-min", "0.2"], "2"),
    ] {
        let mut command = with_model(&model, &["-p", prompt, "-t", threads]);
        let found = answer(command.args(args).arg("--stats-json").arg(&stats));
        assert_eq!(found, expected, "{args:?}");
        let json: serde_json::Value =
            serde_json::from_str(&std::fs::read_to_string(&stats).unwrap()).unwrap();
        let count = |field: &str| json[field].as_u64().unwrap();
        assert!(count("draft_n_accepted") > 0, "{args:?}: {json}");
        assert!(count("draft_n") >= count("draft_n_accepted"), "{args:?}: {json}");
    }
    // By rejection it is another text, and the same one each time.
    let rejecting =
        ["-p", prompt, "--spec-type", "dgf", "-md", DRAFTER, "--spec-sampling", "rejection"];
    assert_eq!(
        answer(&mut with_model(&model, &rejecting)),
        answer(with_model(&model, &rejecting).args(["-t", "1"]))
    );
}

#[test]
fn a_drafter_that_lies_ready_is_used_and_a_broken_one_is_no_obstacle() {
    let Some(model) = model() else { return };
    let cache = tempfile::tempdir().unwrap();
    let place = cache.path().join("drafters/mine.dgf.gguf");
    std::fs::create_dir(place.parent().unwrap()).unwrap();
    let args = ["-p", PROMPT, "-v", "--repack", "memory"];
    let run = |more: &[&str]| {
        let mut command = with_model(&model, &args);
        command.env("DOVETAIL_CACHE", cache.path()).env_remove("DOVETAIL_SPEC_TYPE").args(more);
        let output = command.output().unwrap();
        assert!(output.status.success(), "{}", text(&output.stderr));
        (text(&output.stdout).to_owned(), text(&output.stderr).to_owned())
    };
    let (expected, said) = run(&[]);
    assert!(!said.contains("drafter dgf"), "{said}");
    let whole = std::fs::read(DRAFTER).unwrap();
    std::fs::write(&place, &whole).unwrap();
    let (found, said) = run(&[]);
    assert_eq!(found, expected);
    assert!(said.contains("drafter dgf from ") && said.contains("draft acceptance"), "{said}");
    let (found, said) = run(&["--spec-type", "none"]);
    assert_eq!(found, expected);
    assert!(!said.contains("drafter dgf") && !said.contains("draft acceptance"), "{said}");
    // Cut off, it cannot be read; with numbers that are none, it is given up on the way.
    std::fs::write(&place, &whole[..whole.len() / 2]).unwrap();
    let (found, said) = run(&[]);
    assert_eq!(found, expected);
    assert!(said.contains("going on without a drafter"), "{said}");
    let named = place.to_str().unwrap();
    let output = with_model(&model, &["-p", PROMPT, "--spec-type", "dgf", "-md", named]).output();
    assert_one_line(&output.unwrap(), 1, "mine.dgf.gguf");
    let mut nan = whole;
    let at = nan.len() - 100_000;
    nan[at..].fill(0xff);
    std::fs::write(&place, &nan).unwrap();
    let (found, said) = run(&[]);
    assert_eq!(found, expected);
    assert!(said.contains("going on without"), "{said}");
}

/// The benchmark answers twice and compares, but for texts that need not be equal.
#[test]
fn the_benchmark_compares_texts_where_they_must_be_equal() {
    let Some(model) = model() else { return };
    let folder = tempfile::tempdir().unwrap();
    let [prompts, plot] = ["prompts.jsonl", "plot.svg"].map(|name| folder.path().join(name));
    std::fs::write(&prompts, r#"{"category": "qa", "turns": ["Why is the sky blue?"]}"#).unwrap();
    let run = |args: &[&str]| -> serde_json::Value {
        let mut command = Command::new(env!("CARGO_BIN_EXE_dovetail-bench"));
        command.arg("spec").arg("-m").arg(&model).arg("--prompts").arg(&prompts).args(args);
        command.args(["-md", DRAFTER, "-n", "16", "-o", "json", "--temp", "0.8", "--plot"]);
        serde_json::from_str(&answer(command.arg(&plot))).unwrap()
    };
    let json = run(&[]);
    assert_eq!((&json["texts_equal"], &json["prompts"]), (&true.into(), &1.into()), "{json}");
    for field in
        ["mean_acceptance_length", "plain_tokens_per_second", "spec_tokens_per_second", "speedup"]
    {
        assert!(json[field].as_f64().unwrap() > 0.0, "{field}: {json}");
        assert!(json["categories"]["qa"][field].as_f64().unwrap() > 0.0, "{field}: {json}");
    }
    assert!(std::fs::read_to_string(&plot).unwrap().starts_with("<svg"));
    assert!(run(&["--spec-sampling", "rejection"])["texts_equal"].is_null());
}

/// A kept table whose times are in order, as those measured on an idle machine are.
fn as_if_idle(kept: &[u8]) -> String {
    fn sort(value: &mut serde_json::Value) {
        if let Some(seconds) = value["seconds"].as_array_mut() {
            seconds.sort_by(|a, b| a.as_f64().unwrap().total_cmp(&b.as_f64().unwrap()));
        }
    }
    let mut kept: serde_json::Value = serde_json::from_slice(kept).unwrap();
    kept.as_object_mut().unwrap().remove("under_load");
    match kept["data"].as_array_mut() {
        Some(tables) => tables.iter_mut().for_each(sort),
        None => sort(&mut kept["data"]),
    }
    kept.to_string()
}

#[test]
fn what_passes_cost_is_measured_once_and_explained() {
    let Some(model) = model() else { return };
    let folder = tempfile::tempdir().unwrap();
    let measured = folder.path().join("measured");
    let files = |part: &str| -> Vec<_> {
        let entries = std::fs::read_dir(&measured).unwrap().map(|entry| entry.unwrap().path());
        let mut found: Vec<_> =
            entries.filter(|path| path.to_string_lossy().contains(part)).collect();
        found.sort();
        found.into_iter().map(|path| (std::fs::read(&path).unwrap(), path)).collect()
    };
    let expected = answer(&mut with_model(&model, &["-p", PROMPT]));
    let run = |args: &[&str]| {
        let mut command = with_model(&model, &["-p", PROMPT, "-md", DRAFTER, "--spec-type", "dgf"]);
        command.env("DOVETAIL_CACHE", folder.path()).args(["--draft-device", "cpu"]).args(args);
        let output = command.output().unwrap();
        assert!(output.status.success(), "{}", text(&output.stderr));
        assert_eq!(text(&output.stdout), expected, "{args:?}");
        text(&output.stderr).to_owned()
    };
    let said = run(&["--tree", "cost", "--explain"]);
    for part in ["a plain pass takes", "tree cost: ", "tokens a round: ", "\nSpeculation "] {
        assert!(said.contains(part), "{said}");
    }
    // Other tests keep the machine busy: here it was idle.
    for (kept, path) in [files("-1-"), files("-drafter-")].concat() {
        std::fs::write(path, as_if_idle(&kept)).unwrap();
    }
    let first = [files("-1-"), files("-drafter-")];
    assert!(first.iter().all(|found| found.len() == 1), "{first:?}");
    let counted = files("-counts-");
    let said = run(&["--tree", "cost"]);
    assert_eq!(said, "", "nobody asked for more than the answer");
    assert_eq!([files("-1-"), files("-drafter-")], first, "what is known is not measured again");
    assert_ne!(files("-counts-"), counted, "how often draft tokens were right is kept");
    // Where nothing can be kept everything goes on.
    std::fs::remove_dir_all(&measured).unwrap();
    std::fs::write(&measured, "no folder").unwrap();
    run(&["--tree", "cost"]);
    for (args, part) in [
        (&["--tree", "cost", "--spec-sampling", "rejection"][..], "may not be cut"),
        (&["--tree", "cast:1,2"], "give cost; chain:K"),
    ] {
        assert_one_line(&program().arg("m.gguf").args(args).output().unwrap(), 2, part);
    }
}

/// Prompts of each kind, and what `dovetail-run` is given to answer each alone.
const PROMPTS: [(&str, &str); 5] = [
    (r#"{"prompt": "Name three uses of a ring buffer."}"#, PROMPT),
    (r#"{"turns": ["Why is the sky blue?", "And the sea?"], "id": "sky"}"#, "Why is the sky blue?"),
    (r#"{"messages": [{"role": "user", "content": "Count to five."}], "id": 7}"#, "Count to five."),
    ("", ""),
    (
        r#"{"prompt": "Repeat three times: the ring is full."}"#,
        "Repeat three times: the ring is full.",
    ),
];

fn jsonl(text: &str) -> Vec<serde_json::Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn answers_are_what_a_grammar_allows() {
    let Some(model) = model() else { return };
    let schema =
        r#"{"type": "array", "items": {"enum": ["red", "blue"]}, "minItems": 2, "maxItems": 2}"#;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("schema.json");
    std::fs::write(&file, schema).unwrap();
    let prompt = ["-p", "Two colours", "-n", "40", "-s", "1"];
    let mut texts = Vec::new();
    for flags in [["-j", schema], ["--json-schema", schema], ["-jf", file.to_str().unwrap()]] {
        let output = with_model(&model, &[&prompt[..], &flags].concat()).output().unwrap();
        texts.push(String::from_utf8(output.stdout).unwrap());
        let colours: Vec<String> = serde_json::from_str(&texts[0]).unwrap();
        assert!(colours.len() == 2 && colours.iter().all(|c| ["red", "blue"].contains(&&**c)));
    }
    assert!(texts.iter().all(|text| *text == texts[0]), "{texts:?}");
    let gbnf = ["--grammar", "root ::= \"a\"{3}"];
    let output = with_model(&model, &[&prompt[..], &gbnf].concat()).output().unwrap();
    assert_eq!(String::from_utf8(output.stdout).unwrap(), "aaa\n");
    let wrong = with_model(&model, &[&prompt[..], &["--grammar", "root ::= other"]].concat());
    assert_one_line(&{ wrong }.output().unwrap(), 2, "GBNF grammar");
    // In a file of prompts each line has its own.
    let lines = [
        serde_json::json!({"prompt": "A colour", "response_format": {"type": "json_object"}, "max_tokens": 60}),
        serde_json::json!({"prompt": "A colour", "grammar": "root ::= \"red\""}),
    ];
    std::fs::write(&file, lines.map(|line| line.to_string()).join("\n")).unwrap();
    let flags = ["-f", file.to_str().unwrap(), "-np", "2"];
    let output = with_model(&model, &flags).output().unwrap();
    let answers = jsonl(&String::from_utf8(output.stdout).unwrap());
    assert!(answers[0]["text"].as_str().unwrap().starts_with('{'), "{answers:?}");
    assert_eq!(answers[1]["text"], "red");
}

#[test]
fn prompts_of_a_file_are_answered_as_each_is_alone() {
    let Some(model) = model() else { return };
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("prompts.jsonl");
    let lines: Vec<_> = PROMPTS.iter().map(|(line, _)| *line).collect();
    std::fs::write(&file, lines.join("\n")).unwrap();
    let file = file.to_str().unwrap();
    let alone = |prompt: &&str| answer(&mut with_model(&model, &["-p", prompt, "-r", "\n\n"]));
    let prompts: Vec<_> =
        PROMPTS.iter().map(|(_, prompt)| *prompt).filter(|p| !p.is_empty()).collect();
    let expected: Vec<_> = prompts.iter().map(alone).collect();
    for args in [
        &["-np", "3"][..],
        &["--parallel", "16", "-t", "1"],
        &["-np", "2", "--spec-type", "dgf", "-md", DRAFTER, "--tree", "beam:5,3,12"],
        &["-np", "2", "--spec-type", "ngram", "-v"],
    ] {
        let output = with_model(&model, &["-f", file, "-r", "\n\n"]).args(args).output().unwrap();
        let stderr = text(&output.stderr);
        assert!(output.status.success(), "{stderr}");
        let answers = jsonl(text(&output.stdout));
        assert_eq!(answers.len(), 4, "{args:?}");
        for (answer, expected) in answers.iter().zip(&expected) {
            assert_eq!(
                answer["text"].as_str().unwrap().trim_end(),
                expected.trim_end(),
                "{args:?}"
            );
            let (stop, n) = (answer["stop"].as_str().unwrap(), answer["tokens"].as_u64().unwrap());
            assert!(n <= 24 && ["length", "end", "stop_string"].contains(&stop), "{answer}");
            assert!(stop != "length" || n == 24, "{answer}");
        }
        let ids: Vec<_> = answers.iter().map(|a| (&a["id"], &a["prompt_index"])).collect();
        let [none, zero, sky, seven, three] =
            [().into(), 0.into(), "sky".into(), 7.into(), 3.into()] as [serde_json::Value; 5];
        assert_eq!(ids, [(&none, &zero), (&sky, &none), (&seven, &none), (&none, &three)]);
        assert!(stderr.contains("[ Prompts: 4 of ") && stderr.contains(" rounds ]"), "{stderr}");
        assert_eq!(stderr.contains("draft acceptance"), args.contains(&"-v"), "{stderr}");
    }
    let output = with_model(&model, &["-f", file, "-np", "2", "-c", "24"]).output().unwrap();
    assert_one_line(&output, 2, "prompts.jsonl, line 1: ");
}

#[test]
fn wrong_lines_of_prompts_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("prompts.jsonl");
    let with = |lines: &str| {
        std::fs::write(&file, lines).unwrap();
        program().args(["m.gguf", "-np", "4", "-f"]).arg(&file).output().unwrap()
    };
    for (line, part) in [
        ("Why is the sky blue?", "line 2: no JSON"),
        ("{\"question\": \"why\"}", "line 2: no text in \"prompt\" or \"turns\"[0]"),
        ("{\"prompt\": \"\"}", "line 2: the prompt is empty"),
        ("{\"messages\": [{\"role\": \"user\"}]}", "line 2: each of \"messages\" needs"),
        ("[1]", "line 2: no text"),
    ] {
        assert_one_line(&with(&format!("{{\"prompt\": \"a\"}}\n{line}\n")), 2, part);
    }
    assert_one_line(&with("\n"), 2, "no prompts");
    for (args, part) in [(&["-np", "2"][..], "-f prompts.jsonl"), (&["-np", "0"], "from 1 to 16")] {
        assert_one_line(&program().arg("m.gguf").args(args).output().unwrap(), 2, part);
    }
}

#[test]
fn the_benchmark_compares_texts_of_several_at_once() {
    let Some(model) = model() else { return };
    let folder = tempfile::tempdir().unwrap();
    let prompts = folder.path().join("prompts.jsonl");
    let lines: Vec<_> = PROMPTS.iter().map(|(line, _)| *line).collect();
    std::fs::write(&prompts, lines.join("\n")).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_dovetail-bench"));
    command.arg("batch").arg("-m").arg(&model).arg("--prompts").arg(&prompts);
    command.args(["-md", DRAFTER, "-n", "12", "-o", "json", "--temp", "0.8", "-r", "1"]);
    let picture = prompts.with_extension("svg");
    command.args(["--parallel", "1,3", "--published", "CAST=2.28", "--plot"]).arg(&picture);
    let json: serde_json::Value = serde_json::from_str(&answer(&mut command)).unwrap();
    assert_eq!(json["texts_equal"], true, "{json}");
    let picture = std::fs::read_to_string(picture).unwrap();
    assert!(picture.contains("2.28 CAST") && picture.contains("3 at once, cost"), "{picture}");
    let rows = json["rows"].as_array().unwrap();
    let row = |i: usize| (rows[i]["parallel"].as_u64().unwrap(), rows[i]["drafts"] == true);
    assert_eq!((rows.len(), row(0), row(1)), (4, (1, false), (1, true)));
    assert_eq!((row(2), row(3)), ((3, false), (3, true)));
    let rounds = |i: usize| rows[i]["rounds"].as_u64().unwrap();
    assert!(rounds(3) < rounds(2) && rounds(2) < rounds(0), "{json}");
    assert!(rows.iter().all(|row| row["tokens_per_second"].as_f64().unwrap() > 0.0), "{json}");
    for (args, part) in [
        (&["--against", "cast", "--spec-sampling", "rejection"][..], "may not be cut"),
        (&["--published", "CAST"], "CAST=2.28"),
    ] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_dovetail-bench"));
        command.args(["batch", "-m", "m.gguf", "--prompts", "p.jsonl", "--plot", "p.svg"]);
        let output = command.args(args).output().unwrap();
        let stderr = text(&output.stderr);
        assert!(!output.status.success() && stderr.starts_with("error: "), "{stderr}");
        assert!(stderr.contains(part), "{stderr}");
    }
}

/// Rounds replayed from recorded trees are the rounds that `spec` counts.
#[test]
fn recorded_trees_stand_where_the_drafter_grew_them() {
    const N: usize = 24;
    let Some(model) = model() else { return };
    let folder = tempfile::tempdir().unwrap();
    let [prompts, record] = ["prompts.jsonl", "trees.jsonl"].map(|name| folder.path().join(name));
    std::fs::write(&prompts, r#"{"category": "qa", "turns": ["Count to twenty."]}"#).unwrap();
    let bench = |name: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_dovetail-bench"));
        command.arg(name).arg("-m").arg(&model).arg("--prompts").arg(&prompts);
        command.args(["-md", DRAFTER, "--draft-device", "cpu", "-n", &N.to_string()]);
        command.args(["--tree", "chain:4", "-o", "json"]);
        command
    };
    answer(bench("trees").arg("--record").arg(&record));
    let record = std::fs::read_to_string(&record).unwrap();
    let lines: Vec<serde_json::Value> =
        record.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let [header, line] = &lines[..] else { panic!("{record}") };
    assert_eq!((&header["version"], &line["category"]), (&1.into(), &"qa".into()));
    let (tokens, trees) = (line["tokens"].as_array().unwrap(), line["trees"].as_array().unwrap());
    assert_eq!((tokens.len(), trees.len()), (N, N - 1));
    let (mut rounds, mut accepted, mut at) = (0, 0, 0);
    while at + 1 < N {
        let drafted = trees[at]["tokens"].as_array().unwrap();
        let right = drafted.iter().zip(&tokens[at + 1..]).take_while(|(a, b)| a == b).count();
        // The last token of a round is no draft token.
        let right = right.min(N - 2 - at);
        (rounds, accepted, at) = (rounds + 1, accepted + right, at + right + 1);
    }
    let spec: serde_json::Value = serde_json::from_str(&answer(&mut bench("spec"))).unwrap();
    assert_eq!(
        (&spec["all"]["rounds"], &spec["all"]["accepted"]),
        (&rounds.into(), &accepted.into())
    );
    assert!(accepted > 0);
}

/// What was recorded is replayed without the model, and only a record is.
#[test]
fn recorded_trees_are_replayed_under_any_policy() {
    let Some(model) = model() else { return };
    let folder = tempfile::tempdir().unwrap();
    let [prompts, record] = ["prompts.jsonl", "trees.jsonl"].map(|name| folder.path().join(name));
    let lines = [
        r#"{"category": "qa", "turns": ["Count to ten."]}"#,
        r#"{"category": "rag", "turns": ["Repeat three times: the ring is full."]}"#,
    ];
    std::fs::write(&prompts, lines.join("\n")).unwrap();
    let bench = || {
        let mut command = Command::new(env!("CARGO_BIN_EXE_dovetail-bench"));
        command.arg("trees");
        command
    };
    let mut recording = bench();
    recording.arg("-m").arg(&model).arg("--prompts").arg(&prompts).arg("--record").arg(&record);
    answer(recording.args(["--spec-type", "ngram", "-n", "32"]));
    let replay = |args: &[&str]| {
        let mut command = bench();
        command.arg("--replay").arg(&record).args(args);
        for costs in ["epyc2-smollm2-small", "xeon16-7b-amx-gpu"] {
            command.arg("--costs").arg(format!("benches/record/costs/{costs}.json"));
        }
        command.output().unwrap()
    };
    let two = ["--tree", "chain:3", "--tree", "cost", "-o", "json"];
    let json: serde_json::Value = serde_json::from_slice(&replay(&two).stdout).unwrap();
    for costs in json["costs"].as_array().unwrap() {
        let policies = costs["policies"].as_array().unwrap();
        let names: Vec<_> = policies.iter().map(|row| row["policy"].as_str().unwrap()).collect();
        assert_eq!(names, ["chain:3", "cost"]);
        for row in policies {
            let number = |path: &str| row.pointer(path).and_then(|x| x.as_f64()).unwrap();
            let mean = (number("/categories/qa") + number("/categories/rag")) / 2.0;
            assert!((number("/speedup") - mean).abs() < 1e-9 && mean > 0.3, "{row}");
            assert!(number("/tokens_per_round") <= number("/nodes_per_round"), "{row}");
        }
    }
    let tables = replay(&[]);
    assert_eq!(text(&tables.stdout).matches("\n| best fixed: ").count(), 2);
    let counts = folder.path().join("drafter.counts.json");
    let count = || answer(bench().arg("--replay").arg(&record).arg("--counts").arg(&counts));
    let tested = || -> f64 {
        let counts: serde_json::Value =
            serde_json::from_slice(&std::fs::read(&counts).unwrap()).unwrap();
        counts[0][0].as_array().unwrap().iter().map(|cell| cell[0].as_f64().unwrap()).sum()
    };
    count();
    let first = tested();
    count();
    assert!(first > 0.0 && tested() > first, "what is there is added to");
    std::fs::write(&record, "{\"version\":1,\"temperature\":0}\n{\"tokens\":").unwrap();
    assert_one_line(&replay(&[]), 2, "trees.jsonl, line 2: no whole JSON");
    let both = bench().args(["--replay", "a", "--record", "b", "--costs", "c"]).output().unwrap();
    assert!(text(&both.stderr).contains("cannot be used with"), "{}", text(&both.stderr));
    let neither = bench().output().unwrap();
    assert!(text(&neither.stderr).contains("--record <FILE>|--replay <FILE>"));
}

#[test]
fn raw_mode_completes_the_prompt_and_stop_strings_end_it() {
    let Some(model) = model() else { return };
    let args = ["-no-cnv", "--temp", "0", "-p", "one, two, three,"];
    let whole = answer(&mut with_model(&model, &args));
    assert!(whole.starts_with("one, two, three, four, five"), "{whole}");
    let bare = answer(with_model(&model, &args).arg("--no-display-prompt"));
    assert_eq!(whole.strip_prefix("one, two, three,").unwrap(), bare);
    let stopped = answer(with_model(&model, &args).args(["-r", "five"]));
    assert_eq!(stopped, "one, two, three, four, \n");
}

#[test]
fn the_context_bounds_prompt_and_answer() {
    let Some(model) = model() else { return };
    let output = with_model(&model, &["-p", PROMPT, "-c", "16"]).output().unwrap();
    assert_one_line(&output, 2, "--ctx-size");
    let args = ["-p", PROMPT, "-c", "48", "-n", "-1", "--ignore-eos"];
    let output = program().arg(&model).args(args).output().unwrap();
    assert!(output.status.success());
    assert_eq!(
        text(&output.stderr),
        "the context of 48 tokens is full; -c gives it another size\n"
    );
}

/// An error: this exit code, one line that says the next step, nothing on standard output.
fn assert_one_line(output: &Output, code: i32, part: &str) {
    let stderr = text(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{stderr}");
    assert!(stderr.starts_with("error: ") && stderr.contains(part), "{part} in {stderr:?}");
    assert_eq!(stderr.matches('\n').count(), 1, "{stderr}");
    assert!(stderr.ends_with('\n') && !stderr.contains("panicked"), "{stderr}");
    assert_eq!(text(&output.stdout), "");
}

/// A GGUF file without tensors and with these keys; an `Err` value is a string.
fn gguf(keys: &[(&str, Result<u16, &str>)]) -> Vec<u8> {
    let string = |text: &str| [&(text.len() as u64).to_le_bytes()[..], text.as_bytes()].concat();
    let mut bytes = b"GGUF\x03\0\0\0".to_vec();
    bytes.extend(0u64.to_le_bytes());
    bytes.extend((keys.len() as u64).to_le_bytes());
    for (key, value) in keys {
        bytes.extend(string(key));
        match value {
            Ok(number) => bytes.extend([&2u32.to_le_bytes()[..], &number.to_le_bytes()].concat()),
            Err(text) => bytes.extend([&8u32.to_le_bytes()[..], &string(text)].concat()),
        }
    }
    bytes.resize(bytes.len().next_multiple_of(32), 0);
    bytes
}

#[test]
fn wrong_models_give_one_line() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, bytes: &[u8]| {
        let path = folder.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        path
    };
    let llama = ("general.architecture", Err("llama"));
    let part = gguf(&[llama, ("split.count", Ok(2)), ("split.no", Ok(0))]);
    let mut cases = vec![
        (folder.path().join("absent.gguf"), 1, "no such file"),
        (folder.path().to_owned(), 1, "directory"),
        (file("text.gguf", b"Call me Ishmael. Some years ago, never mind how long"), 1, "GGUF"),
        (file("empty.gguf", b""), 1, "download it again"),
        (file("unknown.gguf", &gguf(&[("general.architecture", Err("mamba"))])), 1, "`mamba`"),
        (file("bare.gguf", &gguf(&[llama])), 1, "`llama.embedding_length`"),
        (file("a-00001-of-00002.gguf", &part), 1, "a-00002-of-00002.gguf"),
    ];
    if let Some(model) = model() {
        let mut start = Vec::new();
        std::fs::File::open(model).unwrap().take(10_000_000).read_to_end(&mut start).unwrap();
        cases.push((file("cut.gguf", &start), 1, "download"));
        cases.push((file("head.gguf", &start[..1000]), 1, "download"));
    }
    for (path, code, part) in cases {
        let output = program().arg(path).args(["-p", "x"]).output().unwrap();
        assert_one_line(&output, code, part);
    }
}

#[test]
fn wrong_flags_give_one_line() {
    for (args, part) in [
        (&["-t", "x"][..], "from 1 to 1024"),
        (&["--top-p", "x"], "from 0 to 1"),
        (&["--temp", "x"], "positive"),
        (&["-ctk", "q4_1"], "f16, q8_0, f32, bf16, q5_1 or q4_0"),
        (&["--spec-type", "magic"], ", none, auto"),
        (&["--tree", "bush:3"], "chain:K or beam"),
        (&["--draft-max", "64"], "0..=63"),
        (&["--draft-device", "cuda0"], "auto, cpu, gpu, and gpu0"),
        (&["--vram-limit", "0"], "--vram-limit"),
        (&["-ngld", "few"], "a number, auto or all"),
        (&["-ngld", "0", "--draft-device", "gpu1"], "contradict each other; leave one out"),
        (&["--draft-device", "gpu", "--spec-type", "ngram"], "ngram run on the CPU"),
        (&["--draft-device", "gpu", "--spec-sampling", "rejection"], "leave it out"),
        (&["-m", "other.gguf"], "name one"),
        (&["--nonsense"], "--help"),
        (&["-hf", "user/model", "-p", "x"], "two models are named, model.gguf and -hf user/model"),
        (&["-hf", "model", "-p", "x"], "give USER/REPO or USER/REPO:QUANT"),
        (&["--chat-template", "nonesuch", "-p", "x"], "chatml"),
        (&["-p", ""], "is empty"),
        (&[], "standard input is empty"),
        (&["--raw"], "standard input is empty"),
    ] {
        let output = program().arg("model.gguf").args(args).output().unwrap();
        assert_one_line(&output, 2, part);
    }
    let output = program().args(["m.gguf", "-f", "/nonexistent"]).output().unwrap();
    assert_one_line(&output, 1, "no such file");
    assert_one_line(&with_input(program(), b"\xff\xfe"), 2, "not UTF-8");
    assert_one_line(&program().env("DOVETAIL_THREADS", "x").output().unwrap(), 2, "--threads");
    for (name, value) in [("DOVETAIL_DRAFT_DEVICE", "tpu"), ("DOVETAIL_VRAM_LIMIT", "3GB")] {
        assert_one_line(&program().env(name, value).output().unwrap(), 2, value);
    }
    let output = program().args(["m.gguf", "-p", "x"]).env("DOVETAIL_ISA", "mmx").output().unwrap();
    assert!(!output.status.success());
}

#[test]
fn the_default_model_is_that_of_the_manifest_and_its_absence_names_the_remedy() {
    let folder = tempfile::tempdir().unwrap();
    let output = program().args(["-p", "x"]).env("DOVETAIL_CACHE", folder.path()).output().unwrap();
    assert_one_line(&output, 2, "run scripts/setup");
    let manifest = include_str!("../models/manifest.toml");
    let file = manifest.lines().find_map(|line| line.strip_prefix("file = \"")?.strip_suffix('"'));
    let path = folder.path().join(file.unwrap());
    assert!(text(&output.stderr).contains(path.to_str().unwrap()), "{}", text(&output.stderr));
    std::fs::write(&path, "no model").unwrap();
    let output = program().args(["-p", "x"]).env("DOVETAIL_CACHE", folder.path()).output().unwrap();
    let stderr = text(&output.stderr);
    assert!(stderr.starts_with("no model is named: using the default one"), "{stderr}");
}

#[test]
fn help_version_and_devices_are_printed() {
    for (flag, part) in [
        ("--help", "Sampling:"),
        ("--help", "--draft-device <DEVICE>"),
        ("--help", "DOVETAIL_DRAFT_DEVICE"),
        ("--help", "--vram-limit <MIB>"),
        ("--help", "DOVETAIL_VRAM_LIMIT"),
        ("--help", "--gpu-layers-draft <N>"),
        ("--help", "--list-devices"),
        ("--help", "--hf-repo <USER/REPO[:QUANT]>"),
        ("--help", "--list-models"),
        ("--version", env!("CARGO_PKG_VERSION")),
        ("-V", env!("CARGO_PKG_VERSION")),
        ("--list-devices", "CPU: "),
    ] {
        let output = program().arg(flag).output().unwrap();
        assert!(output.status.success() && text(&output.stdout).contains(part), "{flag}");
    }
}

#[test]
fn the_man_page_and_completions_name_the_flags() {
    let generate = |what: &str| program().args(["--generate", what]).output().unwrap();
    for (what, parts) in [
        ("man", &[".TH dovetail-run 1", ".SH MODEL", r"\-\-draft\-device"][..]),
        (
            "man",
            &[".SH \"CHAT COMMANDS\"", "/read FILE", ".SH \"EXIT STATUS\"", "Ctrl\\-C ended it"],
        ),
        ("man", &[".SH FILES", "/dovetail/history", ".SH EXAMPLES", "git diff |"]),
        ("bash", &["--draft-device", "complete -F"]),
        ("zsh", &["#compdef dovetail-run", "--draft-device"]),
        ("fish", &["complete -c dovetail-run", "draft-device"]),
        ("powershell", &["Register-ArgumentCompleter", "--draft-device"]),
        ("elvish", &["edit:completion", "--draft-device"]),
    ] {
        let output = generate(what);
        assert!(output.status.success(), "{what}: {}", text(&output.stderr));
        let stdout = text(&output.stdout);
        assert!(parts.iter().all(|part| stdout.contains(part)), "{what}: {stdout}");
    }
    assert_one_line(&generate("tcsh"), 2, "man, bash, zsh, fish");
}

/// What stands in for a CUDA driver: as much as looking for GPUs asks of one. The first GPU is too old.
#[cfg(target_os = "linux")]
const DRIVER: &str = r#"
#ifdef VERSION
#include <string.h>
int cuInit(unsigned flags) { return INIT; }
int cuDriverGetVersion(int *version) { *version = VERSION; return 0; }
int cuGetErrorName(int error, const char **name) { *name = "CUDA_ERROR_MADE_UP"; return 0; }
int cuGetErrorString(int error, const char **text) { *text = "made up"; return 0; }
int cuDeviceGetCount(int *count) { *count = COUNT; return 0; }
int cuDeviceGet(int *device, int ordinal) { *device = ordinal; return 0; }
int cuDeviceGetName(char *name, int len, int device) { strcpy(name, device ? "New" : "Old"); return 0; }
int cuDeviceTotalMem_v2(size_t *bytes, int device) { *bytes = (size_t)8 << 30; return 0; }
int cuDeviceGetAttribute(int *value, int attribute, int device) {
    switch (attribute) {
    case 19: *value = 1; break;              /* maps host memory */
    case 20: *value = 0; break;              /* compute mode: default */
    case 75: *value = device ? 9 : 6; break; /* compute capability */
    case 76: *value = device ? 0 : 1; break;
    default: return 1;
    }
    return 0;
}
#endif
"#;

/// The folder of a driver made with these macros, for `LD_LIBRARY_PATH`.
#[cfg(target_os = "linux")]
fn driver(macros: &[&str]) -> Option<tempfile::TempDir> {
    let folder = tempfile::tempdir().unwrap();
    let source = folder.path().join("driver.c");
    std::fs::write(&source, DRIVER).unwrap();
    let mut cc = Command::new("cc");
    cc.args(["-shared", "-fPIC", "-o"]).arg(folder.path().join("libcuda.so")).arg(source);
    let Ok(status) = cc.args(macros).status() else {
        eprintln!("SKIPPED: no C compiler (cc) to make a CUDA driver with");
        return None;
    };
    assert!(status.success());
    Some(folder)
}

#[cfg(target_os = "linux")]
const NO_GPU: [&str; 3] = ["-DVERSION=12010", "-DINIT=100", "-DCOUNT=0"];
#[cfg(target_os = "linux")]
const TWO_GPUS: [&str; 3] = ["-DVERSION=12010", "-DINIT=0", "-DCOUNT=2"];

#[test]
fn devices_are_listed_here() {
    let listed = answer(program().arg("--list-devices"));
    let lines: Vec<_> = listed.lines().collect();
    assert!(lines[0].starts_with("CPU: ") && lines[0].contains(" threads unless -t"), "{listed}");
    assert!(lines[0].contains(Kernels::choose().unwrap().name), "{listed}");
    assert!(lines.len() > 1 && lines[1..].iter().all(|line| line.starts_with("GPU")), "{listed}");
}

#[cfg(target_os = "linux")]
#[test]
fn devices_are_listed_whatever_the_driver_says() {
    let old = ["-DVERSION=11080", "-DINIT=0", "-DCOUNT=2"];
    let broken = ["-DVERSION=12010", "-DINIT=999", "-DCOUNT=2"];
    let none = ["-DVERSION=12010", "-DINIT=0", "-DCOUNT=0"];
    for (macros, lines) in [
        (&[][..], &["GPU: none is used: the CUDA driver (libcuda) that was found is none"][..]),
        (&NO_GPU, &["GPU: none is used: the CUDA driver sees no GPU"]),
        (&none, &["GPU: none is used: the CUDA driver sees no GPU"]),
        (&old, &["GPU: none is used: the CUDA driver is of CUDA 11.8; install"]),
        (&broken, &["GPU: none is used: the CUDA driver does not work: made up"]),
        (
            &TWO_GPUS,
            &[
                "GPU 0: Old, compute capability 6.1, 8192 MiB, is not used: its compute capability",
                "GPU 1: New, compute capability 9.0, 8192 MiB, can draft: --draft-device gpu1",
            ],
        ),
    ] {
        let Some(driver) = driver(macros) else { return };
        let mut command = program();
        let listed = answer(command.arg("--list-devices").env("LD_LIBRARY_PATH", driver.path()));
        assert_eq!(listed.lines().count(), 1 + lines.len(), "{listed}");
        for (found, expected) in listed.lines().skip(1).zip(lines) {
            assert!(found.starts_with(expected), "{found}");
        }
    }
}

#[cfg(target_os = "linux")]
#[test]
fn a_gpu_that_is_not_there_gives_one_line_and_no_model_is_loaded() {
    let (Some(none), Some(two)) = (driver(&NO_GPU), driver(&TWO_GPUS)) else { return };
    for (driver, device, part) in [
        (&none, "gpu", "no drafting on gpu: the CUDA driver sees no GPU; nvidia-smi"),
        (&two, "gpu0", "no drafting on gpu0: gpu0 is Old: its compute capability is 6.1"),
        (&two, "gpu7", "no drafting on gpu7: there is no such GPU; --list-devices shows"),
    ] {
        let command = || {
            let mut command = program();
            command.args(["absent.gguf", "-p", "x"]).env("LD_LIBRARY_PATH", driver.path());
            command
        };
        assert_one_line(&command().args(["--draft-device", device]).output().unwrap(), 1, part);
        let mut by_environment = command();
        by_environment.env("DOVETAIL_DRAFT_DEVICE", device);
        assert_one_line(&by_environment.output().unwrap(), 1, part);
        let mut bench = Command::new(env!("CARGO_BIN_EXE_dovetail-bench"));
        bench.args(["spec", "-m", "absent.gguf", "--prompts", "absent", "--draft-device", device]);
        let output = bench.env("LD_LIBRARY_PATH", driver.path()).output().unwrap();
        assert_one_line(&output, 1, part);
    }
    let Some(model) = model() else { return };
    let mut command = with_model(&model, &["-p", PROMPT, "--spec-type", "auto"]);
    command.arg("-md").arg(&model).args(["--draft-device", "gpu"]);
    let output = command.env("LD_LIBRARY_PATH", two.path()).output().unwrap();
    assert_one_line(&output, 2, "drafters of the kind lm run on the CPU");
}

#[cfg(target_os = "linux")]
#[test]
fn a_drafter_without_a_gpu_is_quiet_and_says_why_if_it_is_asked() {
    let (Some(model), Some(driver)) = (model(), driver(&NO_GPU)) else { return };
    let run = |args: &[&str]| {
        let mut command = with_model(&model, &["-p", PROMPT, "--temp", "0"]);
        command.args(["--spec-type", "dgf", "-md", DRAFTER]);
        let output = command.args(args).env("LD_LIBRARY_PATH", driver.path()).output().unwrap();
        assert!(output.status.success(), "{}", text(&output.stderr));
        (text(&output.stdout).to_owned(), text(&output.stderr).to_owned())
    };
    let (expected, said) = run(&[]);
    assert_eq!(said, "");
    for (args, why) in [
        (&[][..], "no GPU is used: the CUDA driver sees no GPU"),
        (&["-ngld", "99"], "no GPU is used: the CUDA driver sees no GPU"),
        (&["--spec-sampling", "rejection"], "no GPU is used: draft tokens are sampled"),
        (&["--draft-device", "cpu"], ""),
        (&["-ngld", "0"], ""),
    ] {
        assert_eq!(run(args), (expected.clone(), String::new()), "{args:?}");
        let (found, said) = run(&[args, &["-v"]].concat());
        assert_eq!(found, expected, "{args:?}");
        assert!(said.contains(".dgf.gguf on the CPU, tree "), "{said}");
        let told = said.lines().find(|line| line.starts_with("no GPU is used"));
        assert!(told.unwrap_or_default().starts_with(why), "{said}");
        assert_eq!(told.is_none(), why.is_empty(), "{said}");
    }
}

#[test]
fn a_closed_pipe_ends_the_program_quietly() {
    let Some(model) = model() else { return };
    let mut child = program()
        .arg(model)
        .args(["-p", PROMPT, "--ignore-eos"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdout.take().unwrap().read_exact(&mut [0; 8]).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), text(&output.stderr)), (Some(0), ""));
}

#[cfg(unix)]
mod terminal {
    use super::*;
    use rexpect::session::{PtySession, spawn_command};

    const TIMEOUT_MS: u64 = 120_000;

    fn chat(model: &Path, args: &[&str]) -> PtySession {
        let mut command = program();
        command.arg(model).arg("--no-history").args(args).env("TERM", "xterm");
        command.stdin(Stdio::inherit());
        let mut chat = spawn_command(command, Some(TIMEOUT_MS)).unwrap();
        chat.exp_string("/read FILE").unwrap();
        chat.exp_string("> ").unwrap();
        chat
    }

    fn assert_exit(chat: &mut PtySession, code: i32) {
        chat.exp_eof().unwrap();
        // The status' type has no public name.
        let status = format!("{:?}", chat.process().wait().unwrap());
        assert!(
            status.starts_with("Exited") && status.ends_with(&format!(", {code})")),
            "{status}"
        );
    }

    #[test]
    fn a_chat_answers_and_knows_its_commands() {
        let Some(model) = model() else { return };
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("note.txt");
        std::fs::write(&file, "The password is swordfish.").unwrap();
        let read = format!("/read {}", file.display());
        let chat = &mut chat(&model, &["-s", "1", "-n", "16", "-c", "512"]);
        for (line, said) in [
            ("/regen", "no answer to give anew"),
            ("Say hello.", "[ Prompt: "),
            ("/regen", "[ Prompt: "),
            ("/nonsense", "is no command"),
            ("/read", "name the file"),
            ("/read /nonexistent", "no such file"),
            (&read, "26 bytes of"),
            ("What is the password?", "[ Prompt: "),
            (&"many words ".repeat(300), "the message is taken back"),
            ("/clear", "forgotten"),
            ("/regen", "no answer to give anew"),
        ] {
            chat.send_line(line).unwrap();
            chat.exp_string(said).unwrap_or_else(|e| panic!("{line}: {e}"));
            chat.exp_string("> ").unwrap();
        }
        // What is typed ahead, or pasted as several lines, is not lost.
        chat.send_line("/nonsense\n/read\n/exit").unwrap();
        chat.exp_string("is no command").unwrap();
        chat.exp_string("name the file").unwrap();
        assert_exit(chat, 0);
    }

    #[test]
    fn ctrl_c_stops_the_answer_and_twice_the_program() {
        let Some(model) = model() else { return };
        let chat = &mut chat(&model, &["--ignore-eos"]);
        chat.send_line("Count to one thousand").unwrap();
        chat.exp_string("thousand").unwrap();
        chat.exp_regex("\n[^\n]*[A-Za-z0-9]{3}").unwrap();
        chat.send_control('c').unwrap();
        chat.exp_string("[ Prompt: ").unwrap();
        chat.exp_string("> ").unwrap();
        chat.send_line("/nonsense").unwrap();
        chat.exp_string("is no command").unwrap();
        chat.exp_string("> ").unwrap();
        chat.send_control('c').unwrap();
        chat.exp_string("once more").unwrap();
        chat.exp_string("> ").unwrap();
        chat.send_control('c').unwrap();
        assert_exit(chat, 130);
    }

    #[test]
    fn ctrl_d_and_a_single_turn_end_the_chat() {
        let Some(model) = model() else { return };
        let ended = &mut chat(&model, &[]);
        ended.send_control('d').unwrap();
        assert_exit(ended, 0);
        let single = &mut chat(&model, &["-st", "-n", "4"]);
        single.send_line("Hi").unwrap();
        single.exp_string("[ Prompt: ").unwrap();
        assert_exit(single, 0);
    }

    #[test]
    fn an_interrupt_prints_the_answers_that_are_finished() {
        let Some(model) = model() else { return };
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("prompts.jsonl");
        std::fs::write(&file, "{\"prompt\": \"Count to five.\"}\n".repeat(500)).unwrap();
        let mut child = program()
            .arg(model)
            .args(["-np", "2", "-n", "8", "--ignore-eos", "-f"])
            .arg(file)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdout = child.stdout.take().unwrap();
        let mut first = [0; 8];
        stdout.read_exact(&mut first).unwrap();
        let signal = format!("kill -INT {}", child.id());
        assert!(Command::new("sh").args(["-c", &signal]).status().unwrap().success());
        let mut rest = first.to_vec();
        stdout.read_to_end(&mut rest).unwrap();
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(130));
        let answers = jsonl(text(&rest));
        assert!(answers.len() < 500 && answers.iter().all(|a| a["stop"] == "length"));
        assert!(text(&output.stderr).contains("[ Prompts: "));
    }

    #[test]
    fn one_interrupt_ends_a_single_answer_and_keeps_what_was_printed() {
        let Some(model) = model() else { return };
        let folder = tempfile::tempdir().unwrap();
        let stats = folder.path().join("stats.json");
        let mut child = program()
            .arg(model)
            .args(["-p", PROMPT, "--ignore-eos", "--stats-json"])
            .arg(&stats)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdout = child.stdout.take().unwrap();
        stdout.read_exact(&mut [0; 8]).unwrap();
        let signal = format!("kill -INT {}", child.id());
        assert!(Command::new("sh").args(["-c", &signal]).status().unwrap().success());
        let mut rest = String::new();
        stdout.read_to_string(&mut rest).unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(130));
        assert!(rest.ends_with('\n'));
        let json = std::fs::read_to_string(&stats).unwrap();
        assert!(json.contains(r#""stop": "interrupted""#), "{json}");
    }
}
