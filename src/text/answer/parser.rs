//! Reads an answer of any format.

use serde_json::Value;

use super::calls::TextArguments;
use super::format::{AnswerFormat, Style};
use super::harmony::Harmony;
use super::marked::Marked;
use super::parts::{AnswerPart, Parts};

/// Reads an answer as it comes.
#[derive(Clone, Debug)]
pub struct AnswerParser {
    out: Parts,
    types: TextArguments,
    reader: Reader,
}

#[derive(Clone, Debug)]
enum Reader {
    Marked(Box<Marked>),
    Harmony(Harmony),
}

impl AnswerParser {
    /// A parser of an answer to a prompt with this end, which may have begun a thought.
    pub fn new(format: AnswerFormat, prompt_tail: &str) -> Self {
        let reader = match format.style {
            Style::Harmony => Reader::Harmony(Harmony::new(prompt_tail)),
            _ => Reader::Marked(Box::new(Marked::new(format, prompt_tail))),
        };
        Self { out: Parts::default(), types: TextArguments::default(), reader }
    }

    /// The same parser, which knows from the tools' schemas which arguments are texts, and calls without markers by the
    /// tools' names.
    #[must_use]
    pub fn with_tools(mut self, tools: &[Value]) -> Self {
        self.types = TextArguments::of(tools);
        if let Reader::Marked(reader) = &mut self.reader {
            reader.expect_calls(tools);
        }
        self
    }

    /// The same parser for an answer that continues this text, which may leave a thought open. The text itself is not read.
    #[must_use]
    pub fn with_begun(mut self, text: &str) -> Self {
        if let Reader::Marked(reader) = &mut self.reader {
            reader.go_on_behind(text);
        }
        self
    }

    /// The same parser, which gives the first call alone. If no marker ends that call, what follows is dropped.
    #[must_use]
    pub fn with_one_call(mut self) -> Self {
        self.out.one_call = true;
        self
    }

    /// Whether a call was complete.
    pub fn has_call(&self) -> bool {
        self.out.n_calls() > 0
    }

    /// Reads more of the answer, with the texts of control tokens. Returns the parts that are sure.
    pub fn push(&mut self, text: &str) -> Vec<AnswerPart> {
        match &mut self.reader {
            Reader::Marked(reader) => reader.push(text, &self.types, &mut self.out),
            Reader::Harmony(reader) => reader.push(text, &mut self.out),
        }
        self.out.take()
    }

    /// Ends the answer. Returns the rest.
    pub fn finish(&mut self) -> Vec<AnswerPart> {
        match &mut self.reader {
            Reader::Marked(reader) => reader.finish(&self.types, &mut self.out),
            Reader::Harmony(reader) => reader.finish(&mut self.out),
        }
        self.out.take()
    }
}
