//! The grammar of an answer that is nothing but calls of given tools, in llguidance's dialect of Lark.

use std::fmt::Write;

use serde_json::{Map, Value, json};

use super::calls::is_text;
use super::format::{AnswerFormat, Style};
use crate::error::{Error, Result};
use crate::text::chat::tool_function;
use crate::text::json_schema::in_one_line;
use crate::text::tokenizer::Tokenizer;

impl AnswerFormat {
    /// A grammar that allows one call of these tools, or with `parallel` one or more, and nothing else. Arguments follow
    /// the tools' schemas. Families that write texts without quotes keep to `enum` and `const` of texts, and to no other
    /// limits of them. Llama 3 and gpt-oss write one call an answer.
    ///
    /// Markers that are control tokens stand in the grammar as `<[id]>`, so the grammar belongs to this tokenizer's
    /// vocabulary, and the engine of grammars has to know it.
    ///
    /// # Errors
    /// If there is no tool, a tool has no name, or the format has no calls.
    pub fn tool_call_grammar(
        &self,
        tokenizer: &Tokenizer,
        tools: &[Value],
        parallel: bool,
    ) -> Result<String> {
        if self.style == Style::Plain {
            let what = "the model's chat template shows no way of calling tools that is known";
            return Err(Error::Invalid(what.into()));
        }
        if tools.is_empty() {
            return Err(Error::Invalid("no tool that could be called is given".into()));
        }
        let mut writer = Writer { style: self.style, tokenizer, rules: String::new(), n_rules: 0 };
        let mut calls = Vec::new();
        for function in tools.iter().map(tool_function) {
            let name = function["name"].as_str().filter(|name| !name.is_empty());
            let name = name.ok_or_else(|| Error::Invalid("a tool needs a name".into()))?;
            calls.push(writer.call(name, &function["parameters"]));
        }
        let call = calls.join(" | ");
        let start = writer.start(parallel);
        Ok(format!("start: {start}\ncall: {call}\n{}", writer.rules))
    }
}

struct Writer<'a> {
    style: Style,
    tokenizer: &'a Tokenizer,
    rules: String,
    n_rules: usize,
}

impl Writer<'_> {
    /// What stands around calls.
    fn start(&self, parallel: bool) -> String {
        let many = |separator: &str| match parallel {
            true => format!("call ({} call)*", literal(separator)),
            false => "call".into(),
        };
        let repeated = || if parallel { "call+".to_owned() } else { "call".into() };
        match self.style {
            Style::Plain | Style::Llama3 | Style::Harmony => "call".into(),
            Style::Hermes | Style::Xml | Style::Seed | Style::Glm => many("\n"),
            Style::MistralArgs | Style::FunctionGemma | Style::Gemma4 => repeated(),
            Style::Mistral => {
                format!("{} \"[\" {} \"]\"", self.marker("[TOOL_CALLS]"), many(", "))
            }
            Style::Granite => {
                format!("{} \"[\" {} \"]\"", self.marker("<|tool_call|>"), many(", "))
            }
            Style::Cohere => {
                let (begin, end) = ("<|START_ACTION|>", "<|END_ACTION|>");
                let list = format!("{} {} {}", literal("[\n    "), many(",\n    "), literal("\n]"));
                format!("{} {list} {}", self.marker(begin), self.marker(end))
            }
            Style::DeepSeek => self.deepseek(&many("\n")),
            Style::DeepSeek31 => self.deepseek(&repeated()),
        }
    }

    fn deepseek(&self, calls: &str) -> String {
        let (begin, end) = ("<｜tool▁calls▁begin｜>", "<｜tool▁calls▁end｜>");
        format!("{} {calls} {}", self.marker(begin), self.marker(end))
    }

    /// One call.
    fn call(&mut self, name: &str, schema: &Value) -> String {
        let schema = if schema.is_null() { &json!({ "type": "object" }) } else { schema };
        let quoted = Value::from(name).to_string();
        let arguments = json_rule(schema);
        let m = |text: &str| self.marker(text);
        let l = literal;
        match self.style {
            Style::Plain => String::new(),
            Style::Hermes => {
                let (begin, end) = (m("<tool_call>"), m("</tool_call>"));
                let head = l(&format!("\n{{\"name\": {quoted}, \"arguments\": "));
                format!("{begin} {head} {arguments} \"}}\\n\" {end}")
            }
            Style::Xml | Style::Seed => {
                let (begin, end) = match self.style {
                    Style::Seed => (m("<seed:tool_call>"), m("</seed:tool_call>")),
                    _ => (m("<tool_call>"), m("</tool_call>")),
                };
                let head = l(&format!("\n<function={name}>\n"));
                let all = self.parameters(
                    schema,
                    |key| format!("<parameter={key}>\n"),
                    "\n</parameter>\n",
                );
                format!("{begin} {head} {all} \"</function>\\n\" {end}")
            }
            Style::Glm => {
                let (begin, end) = (m("<tool_call>"), m("</tool_call>"));
                let head = l(&format!("{name}\n"));
                let key = |key: &str| format!("<arg_key>{key}</arg_key>\n<arg_value>");
                let all = self.parameters(schema, key, "</arg_value>\n");
                format!("{begin} {head} {all} {end}")
            }
            Style::Llama3 => {
                let head = l(&format!("{{\"name\": {quoted}, \"parameters\": "));
                format!("{head} {arguments} \"}}\"")
            }
            Style::Mistral | Style::Granite => {
                let head = l(&format!("{{\"name\": {quoted}, \"arguments\": "));
                format!("{head} {arguments} \"}}\"")
            }
            Style::Cohere => {
                let id = l("{\"tool_call_id\": \"");
                let head = l(&format!("\", \"tool_name\": {quoted}, \"parameters\": "));
                format!("{id} /[0-9]+/ {head} {arguments} \"}}\"")
            }
            Style::MistralArgs => {
                format!("{} {} {} {arguments}", m("[TOOL_CALLS]"), l(name), m("[ARGS]"))
            }
            Style::Harmony => {
                let (channel, constrain) = (m("<|channel|>"), m("<|constrain|>"));
                let to = l(&format!("commentary to=functions.{name} "));
                format!("{channel} {to} {constrain} \"json\" {} {arguments}", m("<|message|>"))
            }
            Style::DeepSeek => {
                let (begin, end) = (m("<｜tool▁call▁begin｜>"), m("<｜tool▁call▁end｜>"));
                let (sep, head) = (m("<｜tool▁sep｜>"), l(&format!("{name}\n```json\n")));
                format!("{begin} \"function\" {sep} {head} {arguments} \"\\n```\" {end}")
            }
            Style::DeepSeek31 => {
                let (begin, end) = (m("<｜tool▁call▁begin｜>"), m("<｜tool▁call▁end｜>"));
                format!("{begin} {} {} {arguments} {end}", l(name), m("<｜tool▁sep｜>"))
            }
            Style::FunctionGemma | Style::Gemma4 => {
                let (begin, end) = match self.style {
                    Style::Gemma4 => (m("<|tool_call>"), m("<tool_call|>")),
                    _ => (m("<start_function_call>"), m("<end_function_call>")),
                };
                let head = l(&format!("call:{name}"));
                let all = self.gemma_object(schema, schema);
                format!("{begin} {head} {all} {end}")
            }
        }
    }

    /// A marker: a control token, or a text.
    fn marker(&self, text: &str) -> String {
        match self.tokenizer.token_id(text).filter(|id| self.tokenizer.is_control(*id)) {
            Some(id) => format!("<[{id}]>"),
            None => literal(text),
        }
    }

    /// A rule with this body; its name.
    fn rule(&mut self, attributes: &str, body: &str) -> String {
        self.n_rules += 1;
        let name = format!("rule_{}", self.n_rules);
        writeln!(self.rules, "{name}{attributes}: {body}").expect("a string takes all");
        name
    }

    /// The parameters of a schema in their order, each between what `begin` makes of its name and `end`.
    fn parameters(&mut self, schema: &Value, begin: impl Fn(&str) -> String, end: &str) -> String {
        let mut all = Vec::new();
        for (key, property) in properties(schema) {
            let begin = literal(&begin(key));
            let value = if is_text(property) {
                self.text(property, end)
            } else {
                format!("{} {}", json_rule(&with_definitions(property, schema)), literal(end))
            };
            let optional = if is_required(schema, key) { "" } else { "?" };
            all.push(format!("({begin} {value}){optional}"));
        }
        all.join(" ")
    }

    /// A text without quotes, and its end.
    fn text(&mut self, schema: &Value, end: &str) -> String {
        match choices(schema) {
            Some(texts) => {
                let texts: Vec<String> = texts.iter().map(|text| literal(text)).collect();
                format!("({}) {}", texts.join(" | "), literal(end))
            }
            None => self.rule("[lazy]", &format!("/(?s:.*)/ {}", literal(end))),
        }
    }

    /// An object in Gemma's form.
    fn gemma_object(&mut self, schema: &Value, root: &Value) -> String {
        // Each property knows whether one stands before it: a rule for both.
        let (mut first, mut later) = ("\"}\"".to_owned(), "\"}\"".to_owned());
        for (key, property) in properties(schema).collect::<Vec<_>>().into_iter().rev() {
            let value = self.gemma_value(property, root);
            let entry = format!("{} {value} {later}", literal(&format!("{key}:")));
            let after = format!("\",\" {entry}");
            if is_required(schema, key) {
                (first, later) = (entry, after);
            } else {
                (first, later) = (format!("({entry} | {first})"), format!("({after} | {later})"));
            }
            first = self.rule("", &first);
            later = self.rule("", &later);
        }
        format!("\"{{\" {first}")
    }

    fn gemma_value(&mut self, schema: &Value, root: &Value) -> String {
        let quote = if self.style == Style::Gemma4 { "<|\"|>" } else { "<escape>" };
        let quote_marker = self.marker(quote);
        if is_text(schema) {
            return match choices(schema) {
                Some(texts) => {
                    let texts: Vec<String> = texts.iter().map(|text| literal(text)).collect();
                    format!("{quote_marker} ({}) {quote_marker}", texts.join(" | "))
                }
                // A control token ends the text by itself.
                None if quote_marker.starts_with('<') => {
                    format!("{quote_marker} /(?s:.*)/ {quote_marker}")
                }
                None => {
                    let rest = self.rule("[lazy]", &format!("/(?s:.*)/ {quote_marker}"));
                    format!("{quote_marker} {rest}")
                }
            };
        }
        if schema["type"] == "object" && schema["properties"].is_object() {
            return self.gemma_object(schema, root);
        }
        if schema["type"] == "array" && schema["items"].is_object() {
            let item = self.gemma_value(&schema["items"], root);
            let item = self.rule("", &item);
            return format!("\"[\" ({item} (\",\" {item})*)? \"]\"");
        }
        json_rule(&with_definitions(schema, root))
    }
}

fn properties(schema: &Value) -> impl Iterator<Item = (&String, &Value)> {
    schema["properties"].as_object().into_iter().flatten()
}

fn is_required(schema: &Value, key: &str) -> bool {
    schema["required"].as_array().is_some_and(|keys| keys.iter().any(|required| required == key))
}

/// The texts that a schema allows, if it lists them.
fn choices(schema: &Value) -> Option<Vec<&str>> {
    match (schema["const"].as_str(), schema["enum"].as_array()) {
        (Some(text), _) => Some(vec![text]),
        (None, Some(texts)) => Some(texts.iter().filter_map(Value::as_str).collect()),
        (None, None) => None,
    }
}

/// A schema inside another, with the definitions that it may refer to.
fn with_definitions(schema: &Value, root: &Value) -> Value {
    let mut fields = schema.as_object().cloned().unwrap_or_else(Map::new);
    for key in ["$defs", "definitions"] {
        if let Some(definitions) = root.get(key) {
            fields.entry(key).or_insert_with(|| definitions.clone());
        }
    }
    Value::Object(fields)
}

/// JSON that follows a schema.
fn json_rule(schema: &Value) -> String {
    format!("%json {}", in_one_line(schema.clone()))
}

/// A text as Lark writes it.
fn literal(text: &str) -> String {
    Value::from(text).to_string()
}
