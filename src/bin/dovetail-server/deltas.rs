//! Pieces of an answer to what clients show of it.

use crate::prompt::ChatPrompt;
use crate::tools::Tools;
use dovetail::text::{AnswerFormat, AnswerParser, AnswerPart, Tokenizer};
use dovetail::{ChatTemplate, Constraint, Piece};
use serde_json::{Value, json};

/// What a client shows of some pieces.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Delta {
    /// Text of the answer.
    pub content: String,
    /// What the model thinks.
    pub reasoning: String,
    /// Calls of tools that begin here, or go on.
    pub calls: Vec<CallDelta>,
}

/// A call of a tool that begins, or more of its arguments.
#[derive(Debug, PartialEq, Eq)]
pub struct CallDelta {
    /// Which call of the answer it is.
    pub index: usize,
    /// The function, where the call begins.
    pub name: Option<String>,
    /// Text of the arguments; all pieces join to JSON.
    pub arguments: String,
}

impl Delta {
    /// Whether there is nothing to show.
    pub fn is_empty(&self) -> bool {
        self.content.is_empty() && self.reasoning.is_empty() && self.calls.is_empty()
    }

    fn add(&mut self, part: AnswerPart) {
        match part {
            AnswerPart::Content(text) => self.content += &text,
            AnswerPart::Reasoning(text) => self.reasoning += &text,
            AnswerPart::ToolCall { index, name } => {
                let (name, arguments) = (Some(name), String::new());
                self.calls.push(CallDelta { index, name, arguments });
            }
            AnswerPart::Arguments { index, text } => match self.calls.last_mut() {
                Some(call) if call.index == index => call.arguments += &text,
                _ => self.calls.push(CallDelta { index, name: None, arguments: text }),
            },
        }
    }

    fn append(&mut self, other: Delta) {
        self.content += &other.content;
        self.reasoning += &other.reasoning;
        for CallDelta { index, name, arguments } in other.calls {
            match self.calls.last_mut() {
                Some(call) if call.index == index && name.is_none() => call.arguments += &arguments,
                _ => self.calls.push(CallDelta { index, name, arguments }),
            }
        }
    }
}

/// How the answers of a chat are read.
#[derive(Clone, Debug)]
pub struct Reading {
    format: AnswerFormat,
    prompt_tail: String,
    /// The text that answers continue.
    begun: String,
    tools: Vec<Value>,
    /// Whether only the first call is one.
    one_call: bool,
}

impl Reading {
    /// How answers to a prompt are read, with the tools that they may call.
    pub fn new(
        template: &ChatTemplate,
        tokenizer: &Tokenizer,
        prompt: &ChatPrompt,
        tools: &Tools,
    ) -> Reading {
        const TAIL: usize = 32;
        let ChatPrompt { tokens, begun } = prompt;
        let tail = &tokens[tokens.len().saturating_sub(TAIL)..];
        let prompt_tail = String::from_utf8_lossy(&tokenizer.decode(tail, true)).into_owned();
        Reading {
            format: AnswerFormat::of(template),
            prompt_tail,
            begun: begun.clone(),
            tools: tools.list.clone(),
            one_call: tools.allow_one_call(),
        }
    }

    /// How the model writes thoughts and calls.
    pub fn format(&self) -> &AnswerFormat {
        &self.format
    }

    /// Whether it needs the texts of control tokens.
    pub fn is_marked(&self) -> bool {
        self.format.has_markers()
    }

    /// What reads the calls of an answer, if the first of them ends it.
    pub fn until_call(&self) -> Option<AnswerParser> {
        (self.one_call && self.format.has_tool_calls()).then(|| self.parser())
    }

    /// A constraint that begins behind the thought which the text that answers continue leaves open.
    pub fn behind_thought(&self, constraint: Constraint) -> Constraint {
        match self.format.open_thought_end(&self.begun) {
            Some(end) => constraint.after(end),
            None => constraint,
        }
    }

    fn parser(&self) -> AnswerParser {
        let parser = AnswerParser::new(self.format.clone(), &self.prompt_tail);
        let parser = parser.with_begun(&self.begun).with_tools(&self.tools);
        if self.one_call { parser.with_one_call() } else { parser }
    }
}

/// Turns the pieces of one answer into deltas.
pub struct Deltas {
    /// Tells thoughts, contents and calls apart; without one all is content.
    parser: Option<AnswerParser>,
}

impl Deltas {
    /// Those of a text that begins.
    pub fn new() -> Deltas {
        Deltas { parser: None }
    }

    /// Those of a chat's answer that begins.
    pub fn of_chat(reading: &Reading) -> Deltas {
        Deltas { parser: reading.is_marked().then(|| reading.parser()) }
    }

    /// All of a whole answer in one.
    pub fn all(mut self, pieces: &[Piece]) -> Delta {
        let mut all = self.push(pieces);
        all.append(self.finish());
        all
    }

    /// What these pieces add.
    pub fn push(&mut self, pieces: &[Piece]) -> Delta {
        let mut delta = Delta::default();
        self.parts(pieces).into_iter().for_each(|part| delta.add(part));
        delta
    }

    /// What was held back until the end of the answer.
    pub fn finish(&mut self) -> Delta {
        let mut delta = Delta::default();
        self.last_parts().into_iter().for_each(|part| delta.add(part));
        delta
    }

    /// The parts that these pieces add, in their order.
    pub fn parts(&mut self, pieces: &[Piece]) -> Vec<AnswerPart> {
        let text: String = pieces.iter().map(|piece| &*piece.text).collect();
        match &mut self.parser {
            Some(parser) => parser.push(&text),
            None => vec![AnswerPart::Content(text)],
        }
    }

    /// The parts that were held back until the end of the answer.
    pub fn last_parts(&mut self) -> Vec<AnswerPart> {
        self.parser.as_mut().map(AnswerParser::finish).unwrap_or_default()
    }
}

/// A delta in OpenAI's form. The first piece of each call has its `id` and name, and every piece its `index`.
pub fn openai(delta: &Delta, id: impl Fn(usize) -> String) -> Value {
    let mut out = json!({});
    if !delta.content.is_empty() {
        out["content"] = json!(delta.content);
    }
    if !delta.reasoning.is_empty() {
        out["reasoning_content"] = json!(delta.reasoning);
    }
    if !delta.calls.is_empty() {
        let call = |CallDelta { index, name, arguments }: &CallDelta| match name {
            None => json!({ "index": index, "function": { "arguments": arguments } }),
            Some(name) => json!({
                "index": index,
                "id": id(*index),
                "type": "function",
                "function": { "name": name, "arguments": arguments },
            }),
        };
        out["tool_calls"] = delta.calls.iter().map(call).collect();
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn piece(text: &str) -> Piece {
        Piece { token: None, text: text.into(), drafted: false, logprobs: None }
    }

    #[test]
    fn a_call_has_its_index_and_id_however_the_text_is_cut() {
        let template = ChatTemplate::from_source("{{ '<think>' }}{{ '<tool_call>' }}").unwrap();
        let format = AnswerFormat::of(&template);
        let (prompt_tail, begun, tools) = (String::new(), String::new(), Vec::new());
        let reading = Reading { format, prompt_tail, begun, tools, one_call: false };
        let text = "<think>Hm.</think>Well.<tool_call>{\"name\": \"f\", \"arguments\": {\"x\": [1]}}</tool_call>";
        let whole = Deltas::of_chat(&reading).all(&[piece(text)]);
        assert_eq!((&*whole.content, &*whole.reasoning), ("Well.", "Hm."));
        assert_eq!(whole.calls.len(), 1);
        for cut in 1..text.len() {
            let mut deltas = Deltas::of_chat(&reading);
            let mut all = deltas.push(&[piece(&text[..cut])]);
            all.append(deltas.push(&[piece(&text[cut..])]));
            all.append(deltas.finish());
            assert_eq!(all, whole);
        }
        let json = openai(&whole, |index| format!("call_{index}"));
        let call = &json["tool_calls"][0];
        assert_eq!((&call["index"], &call["id"]), (&json!(0), &json!("call_0")));
        assert_eq!(call["function"]["name"], "f");
        let arguments: Value =
            serde_json::from_str(call["function"]["arguments"].as_str().unwrap()).unwrap();
        assert_eq!(arguments, json!({"x": [1]}));
    }

    #[test]
    fn a_text_is_content_alone() {
        let whole = Deltas::new().all(&[piece("<think>a"), piece("</think>")]);
        assert_eq!(whole, Delta { content: "<think>a</think>".into(), ..Delta::default() });
    }
}
