//! What stands in a call: the name of a function and its arguments, in the forms of all families.

use std::collections::HashSet;

use serde_json::{Deserializer, Map, Value};

use super::format::Style;
use super::gemma;
use crate::text::chat::tool_function;

/// A call that was read.
#[derive(Clone, Debug, PartialEq)]
pub struct Call {
    /// The function.
    pub name: String,
    /// Its arguments.
    pub arguments: Map<String, Value>,
}

/// The arguments that are texts by the schemas of their tools: families that write values without quotes do not say.
#[derive(Clone, Debug, Default)]
pub struct TextArguments(HashSet<(String, String)>);

impl TextArguments {
    /// Those of these tools.
    pub fn of(tools: &[Value]) -> Self {
        let mut found = HashSet::new();
        for function in tools.iter().map(tool_function) {
            let name = function["name"].as_str().unwrap_or_default();
            let properties = function["parameters"]["properties"].as_object();
            let texts = properties.into_iter().flatten().filter(|(_, schema)| is_text(schema));
            found.extend(texts.map(|(key, _)| (name.to_owned(), key.clone())));
        }
        Self(found)
    }

    /// An argument that was written without quotes: a text if it is one by its schema, or is no JSON.
    fn value(&self, name: &str, key: &str, text: &str) -> Value {
        let is_text = self.0.contains(&(name.to_owned(), key.to_owned()));
        let parsed = if is_text { None } else { serde_json::from_str(text).ok() };
        parsed.unwrap_or_else(|| text.into())
    }
}

/// Whether a schema allows texts alone.
pub fn is_text(schema: &Value) -> bool {
    let has_texts = |key: &str| {
        schema[key].as_array().is_some_and(|values| values.iter().all(Value::is_string))
    };
    schema["type"] == "string" || schema["type"].is_null() && has_texts("enum")
}

/// The calls in a text that a style has between its brackets; `None` if it is anything else.
pub fn calls(style: Style, text: &str, types: &TextArguments) -> Option<Vec<Call>> {
    let found = match style {
        Style::Plain => None,
        Style::Harmony => None,
        Style::Hermes | Style::Xml | Style::Seed | Style::Glm => {
            // Models of these styles fall back to each other's forms.
            let begin = text.trim_start();
            if begin.starts_with(['{', '[']) {
                json_calls(text)
            } else if begin.starts_with("<function=") {
                xml_calls(text, types)
            } else {
                Some(vec![glm_call(text, types)?])
            }
        }
        Style::Llama3 => json_calls(text).or_else(|| Some(vec![built_in_call(text)?])),
        Style::Mistral | Style::MistralArgs => match text.split_once("[ARGS]") {
            Some((name, arguments)) if !text.trim_start().starts_with(['[', '{']) => {
                let name = name.split("[CALL_ID]").next().unwrap_or_default();
                Some(vec![named(name, arguments)?])
            }
            _ => json_calls(text),
        },
        Style::FunctionGemma => gemma::call(text, "<escape>").map(|call| vec![call.into()]),
        Style::Gemma4 => gemma::call(text, "<|\"|>").map(|call| vec![call.into()]),
        Style::DeepSeek | Style::DeepSeek31 => Some(vec![deepseek_call(text)?]),
        Style::Granite | Style::Cohere => json_calls(text),
    };
    found.filter(|calls| !calls.is_empty())
}

impl From<(String, Map<String, Value>)> for Call {
    fn from((name, arguments): (String, Map<String, Value>)) -> Self {
        Self { name, arguments }
    }
}

/// A call with arguments in JSON.
pub fn named(name: &str, arguments: &str) -> Option<Call> {
    let name = name.trim();
    let is_name =
        !name.is_empty() && !name.contains(|c: char| c.is_whitespace() || "<>{}[]".contains(c));
    let arguments = arguments.trim();
    let arguments = if arguments.is_empty() { "{}" } else { arguments };
    let arguments = serde_json::from_str(arguments).ok()?;
    is_name.then(|| Call { name: name.to_owned(), arguments })
}

/// JSON objects, one after the other or in lists, with `;` between them where Llama writes it.
fn json_calls(text: &str) -> Option<Vec<Call>> {
    let mut found = Vec::new();
    let mut rest = text.trim();
    while !rest.is_empty() {
        let mut values = Deserializer::from_str(rest).into_iter::<Value>();
        let value = values.next()?.ok()?;
        rest = rest[values.byte_offset()..].trim_start();
        rest = rest.strip_prefix(';').unwrap_or(rest).trim_start();
        match &value {
            Value::Array(items) => {
                for item in items {
                    found.push(json_call(item)?);
                }
            }
            object => found.push(json_call(object)?),
        }
    }
    Some(found)
}

/// A call that is a JSON object and gives its arguments.
pub fn bare_call(text: &str) -> Option<Call> {
    let value: Value = serde_json::from_str(text).ok()?;
    let is_call = ["arguments", "parameters"].iter().any(|key| value.get(key).is_some());
    if is_call { json_call(&value) } else { None }
}

fn json_call(value: &Value) -> Option<Call> {
    let function = tool_function(value);
    // Cohere's key, or everybody's.
    let name = function.get("tool_name").or_else(|| function.get("name"));
    let name = name?.as_str().filter(|name| !name.is_empty())?;
    let arguments = function.get("arguments").or_else(|| function.get("parameters"));
    let arguments = match arguments {
        None | Some(Value::Null) => Map::new(),
        Some(Value::Object(arguments)) => arguments.clone(),
        Some(Value::String(text)) => serde_json::from_str(text).ok()?,
        Some(_) => return None,
    };
    Some(Call { name: name.to_owned(), arguments })
}

/// `<function=name><parameter=key>value</parameter></function>`, once or several times.
fn xml_calls(text: &str, types: &TextArguments) -> Option<Vec<Call>> {
    let mut found = Vec::new();
    let mut rest = text.trim();
    while !rest.is_empty() {
        let (name, mut parameters) = rest.strip_prefix("<function=")?.split_once('>')?;
        let name = name.trim().to_owned();
        let mut arguments = Map::new();
        while let Some(parameter) = parameters.trim_start().strip_prefix("<parameter=") {
            let (key, value) = parameter.split_once('>')?;
            let (value, behind) = value.split_once("</parameter>")?;
            let value = value.strip_prefix('\n').unwrap_or(value);
            let value = value.strip_suffix('\n').unwrap_or(value);
            arguments.insert(key.trim().to_owned(), types.value(&name, key.trim(), value));
            parameters = behind;
        }
        let parameters = parameters.trim_start();
        // The last end may be missing.
        let behind = parameters.strip_prefix("</function>").unwrap_or(parameters);
        rest = behind.trim_start();
        found.push(Some(Call { name, arguments }).filter(|call| !call.name.is_empty())?);
    }
    Some(found)
}

/// `name <arg_key>key</arg_key> <arg_value>value</arg_value> …`
fn glm_call(text: &str, types: &TextArguments) -> Option<Call> {
    let name_end = text.find("<arg_key>").unwrap_or(text.len());
    let (name, mut rest) = (text[..name_end].trim(), &text[name_end..]);
    let mut call = named(name, "")?;
    while !rest.trim().is_empty() {
        let (key, behind) =
            rest.trim_start().strip_prefix("<arg_key>")?.split_once("</arg_key>")?;
        let value = behind.trim_start().strip_prefix("<arg_value>")?;
        let (value, behind) = value.split_once("</arg_value>")?;
        call.arguments.insert(key.trim().to_owned(), types.value(name, key.trim(), value));
        rest = behind;
    }
    Some(call)
}

/// `name.call(key=JSON, …)`: a built-in tool of Llama 3.
fn built_in_call(text: &str) -> Option<Call> {
    let (name, rest) = text.trim().split_once(".call(")?;
    let mut rest = rest.strip_suffix(')')?.trim();
    let mut call = named(name, "")?;
    while !rest.is_empty() {
        let (key, value) = rest.split_once('=')?;
        let mut values = Deserializer::from_str(value).into_iter::<Value>();
        call.arguments.insert(key.trim().to_owned(), values.next()?.ok()?);
        let behind = value[values.byte_offset()..].trim_start();
        rest = if behind.is_empty() { behind } else { behind.strip_prefix(',')?.trim_start() };
    }
    Some(call)
}

/// `function<｜tool▁sep｜>name`, then a block of JSON; or `name<｜tool▁sep｜>JSON`.
fn deepseek_call(text: &str) -> Option<Call> {
    let (left, right) = text.split_once("<｜tool▁sep｜>")?;
    match right.split_once("```json") {
        Some((name, block)) => named(name, block.trim().strip_suffix("```")?),
        None => named(left, right),
    }
}
