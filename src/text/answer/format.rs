//! The families of answers and their markers.

use crate::text::chat::ChatTemplate;
use crate::text::thoughts::THOUGHTS;

/// How a family of models writes calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// It calls no tools.
    Plain,
    /// JSON in `<tool_call>`: Hermes, Qwen.
    Hermes,
    /// `<function=…><parameter=…>` in `<tool_call>`: Qwen3-Coder, Qwen3.5.
    Xml,
    /// The same in `<seed:tool_call>`: Seed-OSS.
    Seed,
    /// `<arg_key>` and `<arg_value>` in `<tool_call>`: GLM.
    Glm,
    /// A JSON object alone, or behind `<|python_tag|>`: Llama 3.
    Llama3,
    /// A list of JSON behind `[TOOL_CALLS]`: Mistral.
    Mistral,
    /// A name, `[ARGS]` and JSON behind `[TOOL_CALLS]`: newer models of Mistral.
    MistralArgs,
    /// `call:name{…}` in `<start_function_call>`: FunctionGemma.
    FunctionGemma,
    /// `call:name{…}` in `<|tool_call>`: Gemma 4.
    Gemma4,
    /// Messages to `functions.name`: gpt-oss.
    Harmony,
    /// A name and JSON in a block of code: DeepSeek V3 and R1.
    DeepSeek,
    /// A name and JSON: DeepSeek V3.1.
    DeepSeek31,
    /// A list of JSON behind `<|tool_call|>`: Granite 3, Phi-4.
    Granite,
    /// A list of JSON, with names of its own, in `<|START_ACTION|>`: Cohere.
    Cohere,
}

/// How a call ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// With this marker.
    Marker(&'static str),
    /// With the JSON value in it, which a name may precede.
    Json,
    /// With the answer.
    Answer,
}

/// What surrounds a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Brackets {
    /// The marker before it.
    pub begin: &'static str,
    /// How it ends.
    pub end: End,
}

const fn brackets(begin: &'static str, end: &'static str) -> Brackets {
    Brackets { begin, end: End::Marker(end) }
}

const TOOL_CALL: Brackets = brackets("<tool_call>", "</tool_call>");
/// A call of which the model left out the brackets.
const FUNCTION: Brackets = brackets("<function=", "</function>");
const DEEPSEEK: Brackets = brackets("<｜tool▁call▁begin｜>", "<｜tool▁call▁end｜>");
const TOOL_CALLS: Brackets = Brackets { begin: "[TOOL_CALLS]", end: End::Json };
const TOOL_CALL_LIST: Brackets = Brackets { begin: "<|tool_call|>", end: End::Json };
const ACTION: Brackets = brackets("<|START_ACTION|>", "<|END_ACTION|>");

impl Style {
    /// What surrounds calls.
    pub fn brackets(self) -> &'static [Brackets] {
        match self {
            Self::Plain | Self::Harmony => &[],
            Self::Hermes | Self::Glm => &[TOOL_CALL],
            Self::Xml => &[TOOL_CALL, FUNCTION],
            Self::Seed => &const { [brackets("<seed:tool_call>", "</seed:tool_call>"), FUNCTION] },
            Self::Llama3 => &[Brackets { begin: "<|python_tag|>", end: End::Answer }],
            Self::Mistral | Self::MistralArgs => &[TOOL_CALLS],
            Self::FunctionGemma => {
                &const { [brackets("<start_function_call>", "<end_function_call>")] }
            }
            Self::Gemma4 => &const { [brackets("<|tool_call>", "<tool_call|>")] },
            Self::DeepSeek | Self::DeepSeek31 => &[DEEPSEEK],
            Self::Granite => &[TOOL_CALL_LIST],
            Self::Cohere => &[ACTION],
        }
    }

    /// Markers that are part of nothing.
    pub fn silent(self) -> &'static [&'static str] {
        match self {
            Self::DeepSeek | Self::DeepSeek31 => {
                &["<｜tool▁calls▁begin｜>", "<｜tool▁calls▁end｜>"]
            }
            Self::Llama3 => &["<|eom_id|>", "<|eot_id|>"],
            Self::Granite => &["<|/tool_call|>"],
            Self::Cohere => &["<|START_RESPONSE|>", "<|END_RESPONSE|>"],
            _ => &[],
        }
    }
}

/// The texts that a template of each style contains; the first style of which it has all counts.
const STYLES: &[(&[&str], Style)] = &[
    (&["<|channel|>", "<|message|>"], Style::Harmony),
    (&["<｜tool▁call▁begin｜>", "```json"], Style::DeepSeek),
    (&["<｜tool▁call▁begin｜>"], Style::DeepSeek31),
    (&["<|START_ACTION|>"], Style::Cohere),
    (&["<|tool_call|>"], Style::Granite),
    (&["<|tool_call>"], Style::Gemma4),
    (&["<start_function_call>"], Style::FunctionGemma),
    (&["[TOOL_CALLS]", "[ARGS]"], Style::MistralArgs),
    (&["[TOOL_CALLS]"], Style::Mistral),
    (&["<tool_call>", "<arg_key>"], Style::Glm),
    (&["<seed:tool_call>"], Style::Seed),
    (&["<tool_call>", "<function="], Style::Xml),
    (&["<tool_call>"], Style::Hermes),
    (&["<|python_tag|>"], Style::Llama3),
    (&["<|start_header_id|>", "\"parameters\""], Style::Llama3),
];

/// How a model writes thoughts and calls.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AnswerFormat {
    pub(super) style: Style,
    /// What surrounds thoughts.
    pub(super) thoughts: Vec<(&'static str, &'static str)>,
}

/// A thought that a text leaves open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OpenThought<'a> {
    /// The text before it.
    pub before: &'a str,
    /// What was thought so far.
    pub thought: &'a str,
    /// The marker that ends it.
    pub end: &'static str,
}

impl AnswerFormat {
    /// The format of a model with this template, by the markers in the template's source.
    pub fn of(template: &ChatTemplate) -> Self {
        let source = template.source();
        let style = STYLES.iter().find(|(texts, _)| texts.iter().all(|text| source.contains(text)));
        let style = style.map_or(Style::Plain, |(_, style)| *style);
        let is_used = |(begin, end): &&(&str, &str)| source.contains(begin) || source.contains(end);
        let thoughts = THOUGHTS.iter().filter(is_used).copied();
        Self { style, thoughts: thoughts.filter(|_| style != Style::Harmony).collect() }
    }

    /// Whether an answer may have parts beside its content.
    pub fn has_markers(&self) -> bool {
        self.has_tool_calls() || !self.thoughts.is_empty()
    }

    /// Whether the model thinks before it answers.
    pub fn has_thoughts(&self) -> bool {
        self.style == Style::Harmony || !self.thoughts.is_empty()
    }

    /// The marker that ends the thought which a text leaves open, if it does.
    pub fn open_thought_end(&self, text: &str) -> Option<&'static str> {
        self.open_thought(text).map(|open| open.end)
    }

    /// The thought that a text leaves open, if it does. One begins at the beginning, or behind the end of another.
    pub(super) fn open_thought<'a>(&self, text: &'a str) -> Option<OpenThought<'a>> {
        let begun = self.thoughts.iter().flat_map(|(begin, end)| {
            text.match_indices(begin).map(move |(at, _)| {
                let (before, thought) = (&text[..at], &text[at + begin.len()..]);
                OpenThought { before, thought, end }
            })
        });
        let begun = begun.filter(|open| {
            let before = open.before.trim_end();
            before.is_empty() || self.thoughts.iter().any(|(_, end)| before.ends_with(end))
        });
        let last = begun.max_by_key(|open| open.before.len())?;
        Some(last).filter(|open| !open.thought.contains(open.end))
    }

    /// Whether the model calls tools in a way that is known.
    pub fn has_tool_calls(&self) -> bool {
        self.style != Style::Plain
    }
}
