//! A made-up vocabulary with the control tokens of many families.

use dovetail::gguf::{Array, Metadata, Value as Entry};
use dovetail::text::Tokenizer;

/// Control tokens of the made-up vocabulary: those of many families, some of which contain others.
pub const CONTROL: &[&str] = &[
    "<s>",
    "</s>",
    "<|im_start|>",
    "<|im_end|>",
    "<|im",
    "<|end|>",
    "<|user|>",
    "<|assistant|>",
    "<|system|>",
    "<|eot_id|>",
    "<|start_header_id|>",
    "<|end_header_id|>",
    "<|python_tag|>",
    "<start_of_turn>",
    "<end_of_turn>",
    "[INST]",
    "[/INST]",
    "[TOOL_CALLS]",
    "[ARGS]",
    "<tool_call>",
    "<tool_call>\n",
    "<tool_calls>",
    "<name>",
    "<city>",
    "<｜User｜>",
    "<｜tool▁calls▁begin｜>",
];
/// Tokens that are text; one is longer than a control token in it.
pub const USER_DEFINED: &[&str] = &["<|x|>", "<think>", "<|end|><|x|>"];

/// A vocabulary of all bytes, the tokens above, and those of harmony, which are shown.
pub fn tokenizer() -> Tokenizer {
    let others = (0x100..).map(|code| char::from_u32(code).unwrap()).take(68);
    let bytes = ('!'..='~').chain('\u{a1}'..='\u{ac}').chain('\u{ae}'..='\u{ff}').chain(others);
    let harmony = ["<|start|>", "<|message|>", "<|channel|>"];
    let mut tokens: Vec<(String, i32)> = bytes.map(|c| (c.to_string(), 1)).collect();
    tokens.extend(CONTROL.iter().chain(&harmony).map(|text| (text.to_string(), 3)));
    tokens.extend(USER_DEFINED.iter().map(|text| (text.to_string(), 4)));
    let (texts, types) = tokens.into_iter().unzip();
    let values = [
        ("model", Entry::String("gpt2".into())),
        ("pre", Entry::String("gpt-2".into())),
        ("tokens", Entry::Array(Array::String(texts))),
        ("token_type", Entry::Array(Array::I32(types))),
        ("merges", Entry::Array(Array::String(Vec::new()))),
        ("add_bos_token", Entry::Bool(true)),
        ("bos_token_id", Entry::U32(256)),
        ("eos_token_id", Entry::U32(257)),
    ];
    let values = values.map(|(key, value)| (format!("tokenizer.ggml.{key}"), value));
    Tokenizer::from_gguf(&Metadata::from_values("m.gguf", values)).unwrap()
}

/// The tokens that no message becomes, in a prompt.
pub fn controls(tokenizer: &Tokenizer, tokens: &[u32]) -> Vec<u32> {
    let shown = ["<|start|>", "<|message|>", "<|channel|>"].map(|text| tokenizer.token_id(text));
    let is_one = |id: &u32| tokenizer.is_control(*id) || shown.contains(&Some(*id));
    tokens.iter().copied().filter(is_one).collect()
}
