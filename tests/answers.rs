//! Answers of all families in parts, however they are cut, and grammars that allow nothing but calls.

use dovetail::ChatTemplate;
use dovetail::gguf::{Array, Metadata, Value as Entry};
use dovetail::text::{AnswerFormat, AnswerParser, AnswerPart, Tokenizer};
use llguidance::api::TopLevelGrammar;
use llguidance::toktrie::{ApproximateTokEnv, TokRxInfo, TokTrie};
use llguidance::{Matcher, ParserFactory};
use proptest::prelude::*;
use serde_json::{Value, json};
use std::sync::Arc;

/// Families, and the markers by which their templates are known.
const FAMILIES: &[(&str, &str)] = &[
    ("hermes", "<think></think><tool_call>"),
    ("xml", "<think></think><tool_call><function=>"),
    ("seed", "<seed:think></seed:think><seed:tool_call><function=>"),
    ("glm", "<think></think><tool_call><arg_key>"),
    ("llama3", "<|start_header_id|><|python_tag|>"),
    ("mistral", "[TOOL_CALLS] [{"),
    ("mistral args", "[THINK][/THINK][TOOL_CALLS][ARGS]"),
    ("function gemma", "<start_function_call>"),
    ("gemma4", "<|channel>thought<channel|><|tool_call>"),
    ("harmony", "<|channel|><|message|>"),
    ("deepseek", "<think></think><｜tool▁call▁begin｜>```json"),
    ("deepseek 3.1", "<think></think><｜tool▁call▁begin｜>"),
    ("granite", "<|tool_call|>"),
    ("cohere", "<|START_THINKING|><|END_THINKING|><|START_ACTION|>"),
    ("plain", ""),
];

fn format_of(markers: &str) -> AnswerFormat {
    let source = format!("{{# {markers} #}}{{{{ messages[0].content }}}}");
    AnswerFormat::of(&ChatTemplate::from_source(&source).unwrap())
}

fn family(name: &str) -> AnswerFormat {
    format_of(FAMILIES.iter().find(|(known, _)| *known == name).unwrap().1)
}

fn tools() -> Vec<Value> {
    let parameters = json!({ "type": "object", "properties": {
        "city": { "type": "string" },
        "days": { "type": "integer", "minimum": 1 },
        "unit": { "type": "string", "enum": ["C", "F"] },
        "near": { "type": "array", "items": { "type": "string" } },
    }, "required": ["city"], "additionalProperties": false });
    vec![
        json!({ "type": "function", "function": { "name": "weather", "parameters": parameters } }),
        json!({ "type": "function", "function": { "name": "now" } }),
    ]
}

/// The parts of an answer that comes in these pieces, with those that follow each other joined.
fn parts(format: &AnswerFormat, tail: &str, pieces: &[&str]) -> Vec<AnswerPart> {
    parts_of(&mut AnswerParser::new(format.clone(), tail).with_tools(&tools()), pieces)
}

/// The same with this parser.
fn parts_of(parser: &mut AnswerParser, pieces: &[&str]) -> Vec<AnswerPart> {
    let mut all: Vec<AnswerPart> = pieces.iter().flat_map(|piece| parser.push(piece)).collect();
    all.extend(parser.finish());
    assert_eq!(parser.finish(), [], "it ends once");
    let mut joined: Vec<AnswerPart> = Vec::new();
    for part in all {
        match (joined.last_mut(), part) {
            (Some(AnswerPart::Content(last)), AnswerPart::Content(more))
            | (Some(AnswerPart::Reasoning(last)), AnswerPart::Reasoning(more)) => *last += &more,
            (_, part) => joined.push(part),
        }
    }
    joined
}

/// Parts in short: `think`, `say`, and calls with their arguments.
fn short(parts: &[AnswerPart]) -> Vec<String> {
    let short = |part: &AnswerPart| match part {
        AnswerPart::Reasoning(text) => format!("think {text}"),
        AnswerPart::Content(text) => format!("say {text}"),
        AnswerPart::ToolCall { index, name } => format!("{index} {name}"),
        AnswerPart::Arguments { index, text } => {
            assert!(serde_json::from_str::<Value>(text).unwrap().is_object());
            format!("{index} {text}")
        }
    };
    parts.iter().map(short).collect()
}

/// Families, ends of prompts, answers, and what is in them.
fn answers() -> Vec<(&'static str, &'static str, &'static str, Vec<&'static str>)> {
    let paris = r#"0 {"city":"Paris","days":2}"#;
    vec![
        ("plain", "", "Hi <tool_call> <think>\n", vec!["say Hi <tool_call> <think>\n"]),
        (
            "hermes",
            "",
            "<think>\nHm.\n</think>\n\nWait.\n<tool_call>\n{\"name\": \"weather\", \"arguments\": {\"city\": \"Paris\", \"days\": 2}}\n</tool_call>\n<tool_call>\n{\"name\": \"now\", \"arguments\": {}}\n</tool_call>",
            vec!["think Hm.", "say Wait.", "0 weather", paris, "1 now", "1 {}"],
        ),
        (
            "hermes",
            "<|im_start|>assistant\n<think>\n",
            "Hm.\n</think>\n\nHi",
            vec!["think Hm.", "say Hi"],
        ),
        ("hermes", "<think>\n\n</think>\n\n", "Hi", vec!["say Hi"]),
        ("hermes", "<think>", "cut </thi", vec!["think cut </thi"]),
        (
            "hermes",
            "",
            "a <tool_cal b <tool_call>{</tool_call> c",
            vec!["say a <tool_cal b <tool_call>{</tool_call> c"],
        ),
        ("hermes", "", "<tool_call>{\"name\": \"now\"}", vec!["0 now", "0 {}"]),
        (
            "hermes",
            "",
            "<tool_call>{\"name\": \"now\", \"arguments\": [1]}</tool_call> x",
            vec!["say <tool_call>{\"name\": \"now\", \"arguments\": [1]}</tool_call> x"],
        ),
        (
            "hermes",
            "",
            "<tool_call>{\"name\": \"weather\", \"arguments\": {\"city\": \"</tool_call>\"}}</tool_call>",
            vec!["0 weather", "0 {\"city\":\"</tool_call>\"}"],
        ),
        (
            "hermes",
            "",
            "<tool_call>[{\"name\": \"weather\", \"arguments\": {\"city\": \"</tool_call>\"}}, {\"name\": \"now\"}]</tool_call>",
            vec!["0 weather", "0 {\"city\":\"</tool_call>\"}", "1 now", "1 {}"],
        ),
        (
            "hermes",
            "",
            "<tool_call>{\"name\": \"weather\", \"arguments\": \"{\\\"city\\\": \\\"Paris\\\", \\\"days\\\": 2}\"}</tool_call>",
            vec!["0 weather", paris],
        ),
        // Without brackets.
        (
            "hermes",
            "",
            "<think>Hm.</think>\n{\"name\": \"weather\", \"arguments\": {\"city\": \"Paris\", \"days\": 2}}\n{ \"name\" : \"now\", \"parameters\": {}}\n",
            vec!["think Hm.", "0 weather", paris, "1 now", "1 {}"],
        ),
        (
            "hermes",
            "",
            "```json\n{\n  \"name\": \"weather\",\n  \"arguments\": {\"city\": \"Paris\", \"days\": 2}\n}\n```\n",
            vec!["0 weather", paris],
        ),
        (
            "hermes",
            "",
            "```json\n{\"name\": \"weather\", \"arguments\": {\"city\": \"Paris\", \"days\": 2}}",
            vec!["0 weather", paris],
        ),
        // No tool, no arguments, not all of the answer, cut off, another language.
        (
            "hermes",
            "",
            "{\"name\": \"other\", \"arguments\": {}}",
            vec!["say {\"name\": \"other\", \"arguments\": {}}"],
        ),
        ("hermes", "", "{\"name\": \"now\"}", vec!["say {\"name\": \"now\"}"]),
        (
            "hermes",
            "",
            "{\"name\": \"now\", \"arguments\": {}, \"name\": \"other\"}",
            vec!["say {\"name\": \"now\", \"arguments\": {}, \"name\": \"other\"}"],
        ),
        (
            "hermes",
            "",
            "{\"name\": \"now\", \"arguments\": {}}\nThat is it.",
            vec!["say {\"name\": \"now\", \"arguments\": {}}\nThat is it."],
        ),
        (
            "hermes",
            "",
            "So: {\"name\": \"now\", \"arguments\": {}}",
            vec!["say So: {\"name\": \"now\", \"arguments\": {}}"],
        ),
        (
            "hermes",
            "",
            "{\"name\": \"now\", \"arguments\": {",
            vec!["say {\"name\": \"now\", \"arguments\": {"],
        ),
        (
            "hermes",
            "",
            "{\"name\": \"now\", <tool_call>{\"name\": \"now\"}</tool_call>",
            vec!["say {\"name\": \"now\",", "0 now", "0 {}"],
        ),
        (
            "hermes",
            "",
            "```js\n{\"name\": \"now\", \"arguments\": {}}\n```",
            vec!["say ```js\n{\"name\": \"now\", \"arguments\": {}}\n```"],
        ),
        (
            "hermes",
            "",
            "```json\n{\"name\": \"now\", \"arguments\": {}}\n```\nThat is it.",
            vec!["say ```json\n{\"name\": \"now\", \"arguments\": {}}\n```\nThat is it."],
        ),
        (
            "xml",
            "<think>\n",
            "Hm.\n</think>\n\n<tool_call>\n<function=weather>\n<parameter=city>\n12\n</parameter>\n<parameter=days>\n2\n</parameter>\n<parameter=near>\n[\"a\"]\n</parameter>\n</function>\n</tool_call>\n<tool_call>\n<function=now>\n</function>\n</tool_call>",
            vec![
                "think Hm.",
                "0 weather",
                "0 {\"city\":\"12\",\"days\":2,\"near\":[\"a\"]}",
                "1 now",
                "1 {}",
            ],
        ),
        (
            "xml",
            "",
            "Ok.\n<function=weather>\n<parameter=city>\n two\n\nlines \n</parameter>\n</function>",
            vec!["say Ok.", "0 weather", "0 {\"city\":\" two\\n\\nlines \"}"],
        ),
        (
            "seed",
            "",
            "<seed:think>Hm</seed:think><seed:tool_call>\n<function=weather>\n<parameter=city>Paris</parameter>\n<parameter=days>2</parameter>\n</function>\n</seed:tool_call>",
            vec!["think Hm", "0 weather", paris],
        ),
        (
            "glm",
            "",
            "\n<think>Hm</think>\n<tool_call>weather\n<arg_key>city</arg_key>\n<arg_value>Paris</arg_value>\n<arg_key>days</arg_key>\n<arg_value>2</arg_value>\n</tool_call>\n<tool_call>now\n</tool_call>",
            vec!["think Hm", "0 weather", paris, "1 now", "1 {}"],
        ),
        (
            "llama3",
            "",
            "{\"name\": \"weather\", \"parameters\": {\"city\": \"Paris\", \"days\": 2}}",
            vec!["0 weather", paris],
        ),
        (
            "llama3",
            "",
            "\n{\"type\": \"function\", \"name\": \"now\", \"parameters\": {}}<|eot_id|>",
            vec!["0 now", "0 {}"],
        ),
        ("llama3", "", "{\"a\": 1}", vec!["say {\"a\": 1}"]),
        ("llama3", "", "{\"name\": \"x\"} y {", vec!["0 x", "0 {}", "say y {"]),
        ("llama3", "", "{\"name\": 1}", vec!["say {\"name\": 1}"]),
        ("llama3", "", "See: {\"name\": \"x\"}", vec!["say See: {\"name\": \"x\"}"]),
        (
            "llama3",
            "",
            "<|python_tag|>{\"name\": \"weather\", \"parameters\": {\"city\": \"Paris\", \"days\": 2}}; {\"name\": \"now\", \"parameters\": {}}",
            vec!["0 weather", paris, "1 now", "1 {}"],
        ),
        (
            "llama3",
            "",
            "<|python_tag|>weather.call(city=\"Paris\", days=2)",
            vec!["0 weather", paris],
        ),
        ("llama3", "", "<|python_tag|>print(1)", vec!["say <|python_tag|>print(1)"]),
        (
            "mistral",
            "",
            "Ok. [TOOL_CALLS] [{\"name\": \"weather\", \"arguments\": {\"city\": \"Paris\", \"days\": 2}, \"id\": \"abcdefghi\"}, {\"name\": \"now\", \"arguments\": {}}]",
            vec!["say Ok.", "0 weather", paris, "1 now", "1 {}"],
        ),
        ("mistral", "", "[TOOL_CALLS] [1] x", vec!["say [TOOL_CALLS] [1] x"]),
        ("mistral", "", "[TOOL_CALLS]", vec!["say [TOOL_CALLS]"]),
        (
            "mistral args",
            "",
            "[THINK]Hm[/THINK]Ok.[TOOL_CALLS]weather[ARGS]{\"city\": \"Paris\", \"days\": 2}[TOOL_CALLS]now[CALL_ID]abcdefghi[ARGS]{}",
            vec!["think Hm", "say Ok.", "0 weather", paris, "1 now", "1 {}"],
        ),
        ("mistral args", "", "[TOOL_CALLS]now[ARGS]x", vec!["say [TOOL_CALLS]now[ARGS]x"]),
        (
            "function gemma",
            "",
            "<start_function_call>call:weather{city:<escape>Pa{ris<escape>,days:2,near:[<escape>a<escape>]}<end_function_call><start_function_call>call:now{}<end_function_call>",
            vec![
                "0 weather",
                "0 {\"city\":\"Pa{ris\",\"days\":2,\"near\":[\"a\"]}",
                "1 now",
                "1 {}",
            ],
        ),
        (
            "gemma4",
            "",
            "<|channel>thought\nHm\n<channel|><|tool_call>call:weather{city:<|\"|>Paris<|\"|>,days:2}<tool_call|>",
            vec!["think Hm", "0 weather", paris],
        ),
        (
            "gemma4",
            "",
            "<|tool_call>call:now{x}<tool_call|>",
            vec!["say <|tool_call>call:now{x}<tool_call|>"],
        ),
        (
            "harmony",
            "<|start|>assistant",
            "<|channel|>analysis<|message|>Hm<|end|><|start|>assistant<|channel|>commentary<|message|>Ok.<|end|><|start|>assistant<|channel|>commentary to=functions.weather <|constrain|>json<|message|>{\"city\": \"Paris\", \"days\": 2}",
            vec!["think Hm", "say Ok.", "0 weather", paris],
        ),
        (
            "harmony",
            "<|start|>assistant",
            " to=functions.now<|channel|>commentary json<|message|>{}<|call|>",
            vec!["0 now", "0 {}"],
        ),
        (
            "harmony",
            "<|start|>assistant<|channel|>final<|message|>",
            "Hi < there<|return|>",
            vec!["say Hi < there"],
        ),
        (
            "harmony",
            "<|start|>assistant",
            "<|channel|>commentary to=functions.now<|message|>{<|call|>",
            vec!["say assistant<|channel|>commentary to=functions.now<|message|>{"],
        ),
        ("harmony", "", "Hi", vec!["say Hi"]),
        (
            "deepseek",
            "<｜Assistant｜><think>\n",
            "Hm\n</think>\n\n<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>weather\n```json\n{\"city\": \"Paris\", \"days\": 2}\n```<｜tool▁call▁end｜>\n<｜tool▁call▁begin｜>function<｜tool▁sep｜>now\n```json\n{}\n```<｜tool▁call▁end｜><｜tool▁calls▁end｜>",
            vec!["think Hm", "0 weather", paris, "1 now", "1 {}"],
        ),
        (
            "deepseek 3.1",
            "</think>",
            "Ok.<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>weather<｜tool▁sep｜>{\"city\": \"Paris\", \"days\": 2}<｜tool▁call▁end｜><｜tool▁calls▁end｜>",
            vec!["say Ok.", "0 weather", paris],
        ),
        (
            "granite",
            "",
            "<|tool_call|>[{\"name\": \"weather\", \"arguments\": {\"city\": \"Paris\", \"days\": 2}}, {\"name\": \"now\", \"arguments\": {}}]",
            vec!["0 weather", paris, "1 now", "1 {}"],
        ),
        // Phi-4 has an end.
        (
            "granite",
            "",
            "Ok. <|tool_call|>[{\"name\": \"weather\", \"arguments\": {\"city\": \"Paris\", \"days\": 2}}]<|/tool_call|>",
            vec!["say Ok.", "0 weather", paris],
        ),
        ("granite", "", "<|tool_call|>{\"a\": 1} Hi", vec!["say <|tool_call|>{\"a\": 1} Hi"]),
        (
            "cohere",
            "",
            "<|START_THINKING|>Hm.<|END_THINKING|><|START_ACTION|>[\n    {\"tool_call_id\": \"0\", \"tool_name\": \"weather\", \"parameters\": {\"city\": \"Paris\", \"days\": 2}},\n    {\"tool_call_id\": \"1\", \"tool_name\": \"now\", \"parameters\": {}}\n]<|END_ACTION|>",
            vec!["think Hm.", "0 weather", paris, "1 now", "1 {}"],
        ),
        (
            "cohere",
            "<|START_THINKING|>",
            "Hm.<|END_THINKING|><|START_RESPONSE|>Hi there<|END_RESPONSE|>",
            vec!["think Hm.", "say Hi there"],
        ),
    ]
}

#[test]
fn answers_of_all_families_are_read() {
    for (name, tail, answer, expected) in answers() {
        let found = short(&parts(&family(name), tail, &[answer]));
        assert_eq!(found, expected, "{name}: {answer}");
        // One character at a time.
        let characters: Vec<&str> = answer.split_inclusive(|_| true).collect();
        assert_eq!(short(&parts(&family(name), tail, &characters)), expected, "{name}: {answer}");
    }
    let read: Vec<&str> = answers().iter().map(|(name, ..)| *name).collect();
    assert!(FAMILIES.iter().all(|(name, _)| read.contains(name)));
}

/// Calls behind the first are neither calls nor content, and neither is a text behind a call that no marker ends.
#[test]
fn the_first_call_may_be_the_only_one() {
    for (name, tail, answer, expected) in answers() {
        let parser = AnswerParser::new(family(name), tail).with_tools(&tools()).with_one_call();
        let is_first = |part: &&str| !part.starts_with("1 ");
        let expected: Vec<&str> = match answer {
            answer if answer.ends_with("That is it.") => vec!["0 now", "0 {}"],
            "{\"name\": \"x\"} y {" => vec!["0 x", "0 {}"],
            _ => expected.into_iter().filter(is_first).collect(),
        };
        for pieces in [vec![answer], answer.split_inclusive(|_| true).collect()] {
            let mut parser = parser.clone();
            assert_eq!(short(&parts_of(&mut parser, &pieces)), expected, "{name}: {answer}");
            assert_eq!(parser.has_call(), expected.iter().any(|part| part.starts_with("0 ")));
        }
    }
}

/// A call without an end marker, or in a list, is one before the next is cut off.
#[test]
fn the_only_call_is_there_once_it_is_complete() {
    for (name, begin) in [
        ("hermes", ""),
        ("hermes", "```json\n"),
        ("hermes", "<tool_call> [ "),
        ("llama3", "<|python_tag|>"),
        ("llama3", "<|python_tag|>["),
        ("mistral", "[TOOL_CALLS] ["),
        ("mistral args", "[TOOL_CALLS][\n"),
        ("granite", "<|tool_call|>["),
        ("cohere", "<|START_ACTION|>[\n    "),
    ] {
        let parser = AnswerParser::new(family(name), "").with_tools(&tools());
        let arguments = "{\"city\":\"</tool_call>[ARGS]{\"}";
        let call = format!("{begin}{{\"name\": \"weather\", \"parameters\": {arguments}}}");
        let next = "\n{\"name\": \"now\", \"par";
        let mut one = parser.clone().with_one_call();
        assert_eq!(one.push(&call[..call.len() - 1]), [], "{name}");
        assert!(!one.has_call());
        let found = short(&one.push(&call[call.len() - 1..]));
        assert_eq!(found, ["0 weather", &format!("0 {arguments}")], "{name}");
        assert!(one.has_call());
        assert_eq!(parts_of(&mut one, &[next]), [], "{name}");
        // Where there may be others, the answer has to come to its end.
        let all = parts_of(&mut parser.clone(), &[&call, next]);
        assert_eq!(short(&all), [format!("say {call}{next}")]);
    }
}

/// A list that is none ends where it would if there could be other calls.
#[test]
fn a_list_without_a_call_is_content() {
    let call = "<tool_call>{\"name\": \"now\"}</tool_call>";
    for list in ["[{\"name\": \"now\"</tool_call>", "[{\"a\": 1}]</tool_call>", "[1]</tool_call>"] {
        let answer = format!("<tool_call>{list}{call}");
        let parser = AnswerParser::new(family("hermes"), "").with_tools(&tools()).with_one_call();
        for cut in 0..=answer.len() {
            let found = parts_of(&mut parser.clone(), &[&answer[..cut], &answer[cut..]]);
            assert_eq!(short(&found), [&format!("say <tool_call>{list}"), "0 now", "0 {}"]);
        }
    }
}

/// A thought that was begun goes on until it is closed, and what was said is not said first.
#[test]
fn an_answer_goes_on_where_it_was_begun() {
    let call = "{\"name\": \"now\", \"arguments\": {}}";
    for (name, begun, answer, expected) in [
        ("hermes", "<think>\nLet me", " see.\n</think>\n\nHi", vec!["think  see.", "say Hi"]),
        ("hermes", "<think>", "\nHm.</think>Hi", vec!["think Hm.", "say Hi"]),
        ("hermes", "<think>a</think> <think>b", "c</think>d", vec!["think c", "say d"]),
        ("hermes", "<think>a</think> So", " c</think>d", vec!["say  c</think>d"]),
        ("mistral args", "[THINK]a", "b[/THINK]c", vec!["think b", "say c"]),
        ("hermes", "<think>a", &format!("</think>{call}"), vec!["0 now", "0 {}"]),
        ("hermes", "So:", call, vec!["say {\"name\": \"now\", \"arguments\": {}}"]),
        ("plain", "<think>a", "b</think>c", vec!["say b</think>c"]),
        ("hermes", "a</think>\n<think>b", "c</think>d", vec!["think c", "say d"]),
        // Markers that are quoted.
        ("hermes", "Models write <think> first.", " c", vec!["say  c"]),
        ("hermes", "<think>I write <think>", " c</think>d", vec!["think  c", "say d"]),
    ] {
        let parser = AnswerParser::new(family(name), begun).with_tools(&tools()).with_begun(begun);
        for cut in 0..=answer.len() {
            let pieces = [&answer[..cut], &answer[cut..]];
            let found = short(&parts_of(&mut parser.clone(), &pieces));
            assert_eq!(found, expected, "{name}: {begun} {answer}");
        }
    }
}

#[test]
fn text_is_held_back_no_longer_than_needed() {
    let mut parser = AnswerParser::new(family("hermes"), "");
    let say = |text: &str| vec![AnswerPart::Content(text.into())];
    assert_eq!(parser.push("Hi <"), say("Hi"));
    assert_eq!(parser.push("tool"), []);
    assert_eq!(parser.push("s> "), say(" <tools>"));
    assert_eq!(parser.push("\n"), []);
    assert_eq!(parser.push("x"), say(" \nx"));
    // White space without end is not kept.
    let lines = "\n".repeat(5000);
    let call = "<tool_call>{\"name\": \"now\"}</tool_call>";
    let [AnswerPart::Content(said)] = &parser.push(&lines)[..] else { panic!("nothing is said") };
    assert!(said.len() > 4000);
    let (whole, pieces) = (format!("x{lines}{call}"), vec!["x", &lines, call]);
    assert_eq!(parts(&family("hermes"), "", &[&whole]), parts(&family("hermes"), "", &pieces));
    // What may still be a call of a tool.
    let mut parser = AnswerParser::new(family("hermes"), "").with_tools(&tools());
    assert_eq!(parser.push("```"), []);
    assert_eq!(parser.push("py"), say("```py"));
    for (held, rest) in [("{", "\"nam "), ("{ \"name\": \"wea", "k"), ("```json\n", "[")] {
        let mut parser = AnswerParser::new(family("hermes"), "").with_tools(&tools());
        assert_eq!(parser.push(held), []);
        assert_eq!(parser.push(rest), say((held.to_owned() + rest).trim_end()));
    }
    let mut parser = AnswerParser::new(family("hermes"), "");
    assert_eq!(parser.push("{\"name\": "), say("{\"name\":"), "there is no tool");
    let mut parser = AnswerParser::new(family("llama3"), "");
    assert_eq!(parser.push("{\"na"), []);
    assert_eq!(parser.push("ture\": "), say("{\"nature\":"));
    let mut parser = AnswerParser::new(family("harmony"), "<|start|>assistant");
    assert_eq!(parser.push("<|channel|>analysis<|mess"), []);
    assert_eq!(parser.push("age|>H"), [AnswerPart::Reasoning("H".into())]);
}

#[test]
fn formats_of_real_styles_are_told_by_their_templates() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/templates");
    for (file, name) in [
        ("qwen3", "hermes"),
        ("glm4", "glm"),
        ("llama3_1", "llama3"),
        ("gpt_oss", "harmony"),
        ("seed_oss", "seed"),
        ("phi4", "granite"),
        ("chatml", "plain"),
    ] {
        let source = std::fs::read_to_string(format!("{folder}/{file}.jinja")).unwrap();
        let found = AnswerFormat::of(&ChatTemplate::from_source(&source).unwrap());
        let (tail, call) = answers()
            .iter()
            .rfind(|(known, ..)| *known == name)
            .map(|(_, tail, answer, _)| (*tail, *answer))
            .unwrap();
        if name != "plain" {
            assert!(found.has_tool_calls(), "{file}");
        }
        let expected = parts(&family(name), tail, &[call]);
        assert_eq!(parts(&found, tail, &[call]), expected, "{file}");
    }
}

/// Texts made of the markers and pieces of all answers.
fn any_answer() -> impl Strategy<Value = String> {
    let mut pieces: Vec<String> = Vec::new();
    for (_, _, answer, _) in answers() {
        let ends = |c: char| "<>[]{}\"".contains(c);
        pieces.extend(answer.split_inclusive(ends).map(str::to_owned));
        pieces.push(answer.to_owned());
        pieces.extend(answer.split_inclusive('>').map(str::to_owned));
    }
    pieces.extend(["\n".repeat(200), " \u{3000}".repeat(90)]);
    pieces.sort();
    pieces.dedup();
    prop::collection::vec(prop::sample::select(pieces), 0..10).prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn parts_are_the_same_however_the_text_is_cut(
        text in prop_oneof![any_answer(), "\\PC{0,40}"],
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..12),
        thinks in any::<bool>(),
    ) {
        let starts: Vec<usize> = text.char_indices().map(|(at, _)| at).collect();
        let mut cuts: Vec<usize> = cuts.iter().filter(|_| !starts.is_empty()).map(|cut| starts[cut.index(starts.len())]).collect();
        cuts.extend([0, text.len()]);
        cuts.sort_unstable();
        let pieces: Vec<&str> = cuts.windows(2).map(|pair| &text[pair[0]..pair[1]]).collect();
        for (name, _) in FAMILIES {
            let tail = if thinks { "<|start|>assistant<think>" } else { "" };
            let whole = parts(&family(name), tail, &[&text]);
            short(&whole);
            prop_assert_eq!(&parts(&family(name), tail, &pieces), &whole, "{}", name);
            let one = AnswerParser::new(family(name), tail).with_tools(&tools()).with_one_call();
            let (once, cut) = (&mut one.clone(), &mut one.clone());
            prop_assert_eq!(parts_of(cut, &pieces), parts_of(once, &[&text]), "{}", name);
            // What is no call is all there, but for white space and markers.
            if *name == "plain" {
                let said = if text.is_empty() { vec![] } else { vec![AnswerPart::Content(text.clone())] };
                prop_assert_eq!(whole, said);
            }
        }
    }
}

/// Markers that are control tokens in the made-up vocabulary of grammars.
const CONTROL: &[&str] = &[
    "<|end|>",
    "[TOOL_CALLS]",
    "[ARGS]",
    "<｜tool▁calls▁begin｜>",
    "<｜tool▁calls▁end｜>",
    "<｜tool▁call▁begin｜>",
    "<｜tool▁call▁end｜>",
    "<｜tool▁sep｜>",
    "<|tool_call>",
    "<tool_call|>",
    "<|\"|>",
    "<|tool_call|>",
    "<|START_ACTION|>",
    "<|END_ACTION|>",
];

/// A vocabulary of bytes and control tokens, for the tokenizer and for llguidance.
fn vocabulary() -> (Tokenizer, ParserFactory) {
    let texts: Vec<String> = (0..256).map(|byte| format!("<0x{byte:02X}>")).collect();
    let texts = texts.into_iter().chain(CONTROL.iter().map(|text| text.to_string()));
    let types = (0..256).map(|_| 6).chain(CONTROL.iter().map(|_| 3)).collect();
    let scores = vec![0.0; 256 + CONTROL.len()];
    let values = [
        ("model", Entry::String("llama".into())),
        ("tokens", Entry::Array(Array::String(texts.collect()))),
        ("token_type", Entry::Array(Array::I32(types))),
        ("scores", Entry::Array(Array::F32(scores))),
    ];
    let values = values.map(|(key, value)| (format!("tokenizer.ggml.{key}"), value));
    let tokenizer = Tokenizer::from_gguf(&Metadata::from_values("m.gguf", values)).unwrap();
    let mut words: Vec<Vec<u8>> = (0..=255).map(|byte| vec![byte]).collect();
    words.extend(CONTROL.iter().map(|text| [&[0xff], text.as_bytes()].concat()));
    let trie = TokTrie::from(&TokRxInfo::new(words.len() as u32, 256), &words);
    let env: Arc<ApproximateTokEnv> = Arc::new(ApproximateTokEnv::new(trie));
    let mut factory = ParserFactory::new_simple(&(env as _)).unwrap();
    factory.quiet();
    (tokenizer, factory)
}

/// The tokens of an answer: control tokens where they stand, else bytes.
fn tokens(mut text: &str) -> Vec<u32> {
    let mut out = Vec::new();
    while !text.is_empty() {
        match CONTROL.iter().position(|control| text.starts_with(control)) {
            Some(i) => {
                out.push(256 + i as u32);
                text = &text[CONTROL[i].len()..];
            }
            None => {
                out.push(u32::from(text.as_bytes()[0]));
                // Bytes of a character may be no text: walk by characters.
                let first = text.chars().next().unwrap();
                out.extend(
                    text.as_bytes()[1..first.len_utf8()].iter().map(|byte| u32::from(*byte)),
                );
                text = &text[first.len_utf8()..];
            }
        }
    }
    out
}

#[test]
fn grammars_allow_the_calls_of_the_tools_and_nothing_else() {
    let (tokenizer, factory) = vocabulary();
    for (name, good, bad) in [
        (
            "hermes",
            vec![
                "<tool_call>\n{\"name\": \"weather\", \"arguments\": {\"city\": \"Paris\", \"days\": 2}}\n</tool_call>",
                "<tool_call>\n{\"name\": \"now\", \"arguments\": {}}\n</tool_call>\n<tool_call>\n{\"name\": \"now\", \"arguments\": {}}\n</tool_call>",
            ],
            vec![
                "Hi",
                "<tool_call>\n{\"name\": \"other\", \"arguments\": {}}\n</tool_call>",
                "<tool_call>\n{\"name\": \"weather\", \"arguments\": {}}\n</tool_call>",
                "<tool_call>\n{\"name\": \"weather\", \"arguments\": {\"city\": \"P\", \"days\": 0}}\n</tool_call>",
            ],
        ),
        (
            "xml",
            vec![
                "<tool_call>\n<function=weather>\n<parameter=city>\nNew\nYork\n</parameter>\n<parameter=unit>\nF\n</parameter>\n</function>\n</tool_call>",
            ],
            vec![
                "<tool_call>\n<function=weather>\n</function>\n</tool_call>",
                "<tool_call>\n<function=weather>\n<parameter=city>\nx\n</parameter>\n<parameter=unit>\nK\n</parameter>\n</function>\n</tool_call>",
            ],
        ),
        (
            "seed",
            vec![
                "<seed:tool_call>\n<function=weather>\n<parameter=city>\nParis\n</parameter>\n</function>\n</seed:tool_call>",
            ],
            vec!["<tool_call>"],
        ),
        (
            "glm",
            vec![
                "<tool_call>weather\n<arg_key>city</arg_key>\n<arg_value>Paris</arg_value>\n<arg_key>days</arg_key>\n<arg_value>2</arg_value>\n</tool_call>",
            ],
            vec!["<tool_call>weather\n</tool_call>"],
        ),
        (
            "llama3",
            vec!["{\"name\": \"weather\", \"parameters\": {\"city\": \"Paris\"}}"],
            vec![
                "{\"name\": \"weather\", \"parameters\": {}}",
                "{\"name\": \"now\", \"parameters\": {}}{",
            ],
        ),
        (
            "mistral",
            vec![
                "[TOOL_CALLS][{\"name\": \"weather\", \"arguments\": {\"city\": \"Paris\"}}, {\"name\": \"now\", \"arguments\": {}}]",
            ],
            vec!["[TOOL_CALLS][]"],
        ),
        (
            "mistral args",
            vec!["[TOOL_CALLS]weather[ARGS]{\"city\": \"Paris\"}[TOOL_CALLS]now[ARGS]{}"],
            vec!["[TOOL_CALLS]weather[ARGS]{}"],
        ),
        (
            "function gemma",
            vec![
                "<start_function_call>call:weather{city:<escape>Paris<escape>,days:2,near:[<escape>a<escape>,<escape>b<escape>]}<end_function_call>",
                "<start_function_call>call:now{}<end_function_call>",
            ],
            vec!["<start_function_call>call:weather{days:2}<end_function_call>"],
        ),
        (
            "gemma4",
            vec!["<|tool_call>call:weather{city:<|\"|>Paris<|\"|>,unit:<|\"|>C<|\"|>}<tool_call|>"],
            vec!["<|tool_call>call:weather{unit:<|\"|>C<|\"|>}<tool_call|>"],
        ),
        (
            "harmony",
            vec![
                "<|channel|>commentary to=functions.weather <|constrain|>json<|message|>{\"city\": \"Paris\"}",
            ],
            vec!["<|channel|>final<|message|>Hi"],
        ),
        (
            "deepseek",
            vec![
                "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>weather\n```json\n{\"city\": \"Paris\"}\n```<｜tool▁call▁end｜>\n<｜tool▁call▁begin｜>function<｜tool▁sep｜>now\n```json\n{}\n```<｜tool▁call▁end｜><｜tool▁calls▁end｜>",
            ],
            vec!["<｜tool▁calls▁begin｜><｜tool▁calls▁end｜>"],
        ),
        (
            "deepseek 3.1",
            vec![
                "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>weather<｜tool▁sep｜>{\"city\": \"Paris\"}<｜tool▁call▁end｜><｜tool▁calls▁end｜>",
            ],
            vec!["weather"],
        ),
        (
            "granite",
            vec![
                "<|tool_call|>[{\"name\": \"weather\", \"arguments\": {\"city\": \"Paris\"}}, {\"name\": \"now\", \"arguments\": {}}]",
            ],
            vec!["<|tool_call|>[]", "<|tool_call|>[{\"name\": \"weather\", \"arguments\": {}}]"],
        ),
        (
            "cohere",
            vec![
                "<|START_ACTION|>[\n    {\"tool_call_id\": \"0\", \"tool_name\": \"weather\", \"parameters\": {\"city\": \"Paris\"}},\n    {\"tool_call_id\": \"1\", \"tool_name\": \"now\", \"parameters\": {}}\n]<|END_ACTION|>",
            ],
            vec!["<|START_RESPONSE|>", "<|START_ACTION|>[\n]<|END_ACTION|>"],
        ),
    ] {
        let format = family(name);
        for parallel in [true, false] {
            let grammar = format.tool_call_grammar(&tokenizer, &tools(), parallel).unwrap();
            let accepts = |text: &str| {
                let parser = factory.create_parser(TopLevelGrammar::from_lark(grammar.clone()));
                let mut matcher = Matcher::new(parser);
                assert!(!matcher.is_error(), "{name}: {:?}\n{grammar}", matcher.get_error());
                let tokens = tokens(text);
                let n = matcher.try_consume_tokens(&tokens).unwrap();
                n == tokens.len() && matcher.is_accepting().unwrap()
            };
            for text in &good {
                let n_calls = parts(&format, "<|start|>assistant", &[text])
                    .iter()
                    .filter(|part| matches!(part, AnswerPart::ToolCall { .. }))
                    .count();
                assert!(n_calls > 0, "{name} reads no call in {text}");
                assert_eq!(accepts(text), parallel || n_calls == 1, "{name}: {text}\n{grammar}");
            }
            for text in bad.iter().chain(&["", "x"]) {
                assert!(!accepts(text), "{name}: {text}\n{grammar}");
            }
        }
    }
    for (format, tools) in [("plain", tools()), ("hermes", vec![]), ("hermes", vec![json!({})])] {
        let error = family(format).tool_call_grammar(&tokenizer, &tools, true).unwrap_err();
        assert!(error.is_usage(), "{error}");
    }
}
