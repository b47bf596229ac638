//! The tools of a request. Templates know functions alone, so each tool that a client runs stands for one: a function, a
//! function in a namespace, and a custom tool, whose input is a text. Tools that run where the model does are left out.

use crate::error::ApiError;
use crate::fields::Fields;
use crate::tools::Tools;
use serde_json::{Value, json};
use std::collections::{HashMap, HashSet};

/// The one argument of the function that stands for a custom tool.
const INPUT: &str = "input";

/// The tools that were offered.
#[derive(Default)]
pub struct Offered {
    /// In the form that templates take.
    functions: Vec<Value>,
    /// What the functions stand for, by their names.
    tools: HashMap<String, Tool>,
}

/// A tool as its client knows it.
struct Tool {
    name: String,
    namespace: Option<String>,
    is_custom: bool,
}

/// The name of the function for a tool, which may be in a namespace.
pub fn function_name(tool: &Value) -> String {
    let name = tool["name"].as_str().unwrap_or_default();
    match tool["namespace"].as_str() {
        Some(namespace) => format!("{namespace}__{name}"),
        None => name.to_owned(),
    }
}

/// The arguments of a call of a custom tool.
pub fn custom_arguments(input: &Value) -> Value {
    json!({ INPUT: input })
}

impl Offered {
    /// Adds the tools of a list.
    pub fn add(&mut self, list: &[Value]) {
        for tool in list {
            let members = tool["tools"].as_array().map(Vec::as_slice).unwrap_or_default();
            match tool["type"].as_str() {
                Some("namespace") => {
                    for member in members.iter().filter(|member| member.is_object()) {
                        let mut member = member.clone();
                        member["namespace"] = tool["name"].clone();
                        self.add_one(&member);
                    }
                }
                _ => self.add_one(tool),
            }
        }
    }

    fn add_one(&mut self, tool: &Value) {
        let is_custom = match tool["type"].as_str() {
            Some("function") => false,
            Some("custom") => true,
            _ => return,
        };
        let name = function_name(tool);
        let mut function = json!({ "name": name });
        if let Some(description) = description(tool) {
            function["description"] = json!(description);
        }
        let parameters = if is_custom { custom_parameters() } else { tool["parameters"].clone() };
        if !parameters.is_null() {
            function["parameters"] = parameters;
        }
        self.functions.push(json!({ "type": "function", "function": function }));
        let namespace = tool["namespace"].as_str().map(str::to_owned);
        let own_name = tool["name"].as_str().unwrap_or_default().to_owned();
        self.tools.insert(name, Tool { name: own_name, namespace, is_custom });
    }

    /// Takes the choice among the tools.
    ///
    /// # Errors
    /// If it is none that there is, or of a tool that is not offered.
    pub fn take_choice(&self, fields: &mut Fields) -> Result<Tools, ApiError> {
        let choice: Option<Value> = fields.take("tool_choice")?;
        let mut functions = self.functions.clone();
        let openai = match choice.as_ref().map(|choice| (choice, choice["type"].as_str())) {
            None => json!("auto"),
            Some((Value::String(mode), _)) => json!(mode),
            Some((choice, Some("function" | "custom"))) => {
                json!({ "function": { "name": function_name(choice) } })
            }
            Some((choice, Some("allowed_tools"))) => {
                let allowed = choice["tools"].as_array().into_iter().flatten();
                let allowed: HashSet<String> = allowed.map(function_name).collect();
                functions.retain(|tool| {
                    tool["function"]["name"].as_str().is_some_and(|name| allowed.contains(name))
                });
                choice["mode"].clone()
            }
            Some(_) => {
                let what =
                    "is of a kind that is not supported; give \"auto\" or the name of a function";
                return Err(ApiError::field("tool_choice", what));
            }
        };
        fields.set("tools", json!(functions));
        fields.set("tool_choice", openai);
        Tools::take(fields)
    }

    /// Whether a function stands for a custom tool.
    pub fn is_custom(&self, function: &str) -> bool {
        self.tools.get(function).is_some_and(|tool| tool.is_custom)
    }

    /// The name of the tool that a function stands for, as its client knows it.
    pub fn own_name<'a>(&'a self, function: &'a str) -> &'a str {
        self.tools.get(function).map_or(function, |tool| &tool.name)
    }

    /// A call of a function as an item with this `id`, which stands for the call of a tool.
    pub fn call(&self, id: &str, call_id: &str, function: &str, arguments: &str) -> Value {
        let (tool, name) = (self.tools.get(function), self.own_name(function));
        let mut item = if self.is_custom(function) {
            let input = custom_input(arguments);
            json!({ "id": id, "type": "custom_tool_call", "call_id": call_id, "name": name, "input": input })
        } else {
            json!({
                "id": id, "type": "function_call", "call_id": call_id, "name": name,
                "arguments": arguments,
            })
        };
        if let Some(namespace) = tool.and_then(|tool| tool.namespace.as_ref()) {
            item["namespace"] = json!(namespace);
        }
        item
    }
}

/// What a tool does; of a custom tool also which texts it takes, since nothing else holds the model to them.
fn description(tool: &Value) -> Option<String> {
    let given = tool["description"].as_str().filter(|text| !text.is_empty()).map(str::to_owned);
    let grammar = tool["format"]["definition"].as_str().map(|grammar| {
        let syntax = tool["format"]["syntax"].as_str().unwrap_or_default();
        format!("The input is a text of this grammar ({syntax}):\n{grammar}")
    });
    let texts: Vec<String> = given.into_iter().chain(grammar).collect();
    (!texts.is_empty()).then(|| texts.join("\n"))
}

fn custom_parameters() -> Value {
    json!({ "type": "object", "properties": { INPUT: { "type": "string" } }, "required": [INPUT] })
}

/// The input of a custom tool in the arguments of a call; empty while they are not complete.
pub fn custom_input(arguments: &str) -> String {
    let arguments: Value = serde_json::from_str(arguments).unwrap_or_default();
    arguments[INPUT].as_str().unwrap_or_default().to_owned()
}
