//! What fuzzing does with any bytes as an answer: it is read without a panic, soon, and the same however it is cut.

use dovetail::ChatTemplate;
use dovetail::text::{AnswerFormat, AnswerParser, AnswerPart};
use serde_json::json;
use std::time::{Duration, Instant};

/// The longest that anything may take: many times of what it does, for machines that do other things meanwhile.
const MAX_TIME: Duration = Duration::from_secs(20);

/// Markers of templates, a style each.
const STYLES: &[&str] = &[
    "<think></think><tool_call>",
    "<think></think><tool_call><function=>",
    "<think></think><tool_call><arg_key>",
    "<|start_header_id|><|python_tag|>",
    "[THINK][/THINK][TOOL_CALLS][ARGS]",
    "<start_function_call>",
    "<|channel>thought<channel|><|tool_call>",
    "<|channel|><|message|>",
    "<think></think><｜tool▁call▁begin｜>```json",
    "<｜tool▁call▁begin｜>",
    "<|tool_call|>",
    "<|START_THINKING|><|END_THINKING|><|START_ACTION|>",
];

/// Pieces of answers.
const PIECES: &[&str] = &[
    "<think>",
    "</think>",
    "[THINK]",
    "[/THINK]",
    "<tool_call>",
    "</tool_call>",
    "<function=",
    "</function>",
    "<parameter=",
    "</parameter>",
    "<arg_key>",
    "</arg_key>",
    "<arg_value>",
    "</arg_value>",
    "<|python_tag|>",
    "[TOOL_CALLS]",
    "[ARGS]",
    "[CALL_ID]",
    "<start_function_call>",
    "<end_function_call>",
    "<escape>",
    "call:",
    "<|channel>thought",
    "<channel|>",
    "<|tool_call>",
    "<tool_call|>",
    "<|\"|>",
    "<|channel|>",
    "<|message|>",
    "<|start|>",
    "<|end|>",
    "<|call|>",
    "analysis",
    "commentary to=functions.f ",
    "<｜tool▁call▁begin｜>",
    "<｜tool▁sep｜>",
    "<｜tool▁call▁end｜>",
    "```json",
    "```",
    "{\"name\": \"f\"",
    ", \"arguments\": {",
    "\"a\": ",
    "{",
    "}",
    "[",
    "]",
    "\"",
    "\\",
    ":",
    ",",
    ";",
    ">",
    "<",
    "f",
    "1",
    "é",
    " ",
    "\n",
    ".call(",
    ")",
    "=",
    "<|tool_call|>",
    "<|/tool_call|>",
    "<|START_THINKING|>",
    "<|END_THINKING|>",
    "<|START_ACTION|>",
    "<|END_ACTION|>",
    "<|START_RESPONSE|>",
    "\"tool_name\": ",
];

/// Any bytes as an answer: the first chooses the style, the second the end of the prompt, the others pieces and cuts.
pub fn read_answer(data: &[u8]) {
    let &[style, tail, ref bytes @ ..] = data else { return };
    let markers = STYLES[usize::from(style) % STYLES.len()];
    let template = format!("{{# {markers} #}}x");
    let format = AnswerFormat::of(&ChatTemplate::from_source(&template).expect("it is a template"));
    let tail = ["", "<think>", "<|start|>assistant", "[THINK]"][usize::from(tail) % 4];
    let mut pieces = vec![String::new()];
    for &byte in bytes {
        let last = pieces.last_mut().expect("there is one");
        match PIECES.get(usize::from(byte & 0x7f)) {
            Some(piece) => last.push_str(piece),
            None => last.push(char::from(byte)),
        }
        // The text is cut behind every other byte.
        pieces.extend((byte & 0x80 != 0).then(String::new));
    }
    let start = Instant::now();
    let whole = read(format.clone(), tail, &[pieces.concat()]);
    let characters: Vec<String> = pieces.concat().chars().map(String::from).collect();
    for cut in [&pieces, &characters] {
        assert_eq!(read(format.clone(), tail, cut), whole, "{markers}, {tail:?}: {pieces:?}");
    }
    assert!(start.elapsed() < MAX_TIME, "{:?}: {pieces:?}", start.elapsed());
}

/// What is said, what is thought, and the calls.
fn read(format: AnswerFormat, tail: &str, pieces: &[String]) -> Vec<String> {
    let mut parser = AnswerParser::new(format, tail).with_tools(&[json!({ "name": "f" })]);
    let mut parts: Vec<AnswerPart> = pieces.iter().flat_map(|piece| parser.push(piece)).collect();
    parts.extend(parser.finish());
    let mut out: Vec<String> = Vec::new();
    let mut kind = None;
    for part in parts {
        let this = std::mem::discriminant(&part);
        let text = match part {
            AnswerPart::Reasoning(text) | AnswerPart::Content(text) => text,
            AnswerPart::ToolCall { index, name } => format!("{index} {name}"),
            AnswerPart::Arguments { text, .. } => {
                assert!(text.starts_with('{') && text.ends_with('}'), "{text}");
                text
            }
        };
        match out.last_mut().filter(|_| kind == Some(this)) {
            Some(last) => last.push_str(&text),
            None => out.push(format!("{this:?} {text}")),
        }
        kind = Some(this);
    }
    out
}
