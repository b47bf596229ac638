//! A server whose chat template takes tools and thoughts, and requests for it.

#![allow(dead_code, reason = "each test binary uses a part of this")]

use crate::common::gguf::Parts;
use crate::common::tiny::tiny;
use crate::server::{Response, Server};
use dovetail::gguf;
use serde_json::{Value, json};

/// Shows all that a template can be given. Like Mistral's, it takes only calls with names of nine letters and digits.
pub const TEMPLATE: &str = "\
{%- for tool in tools or [] %}{{ tool | tojson }}{% endfor %}
{%- for m in messages %}<|im_start|>{{ m.role }} {{ m.name }} {{ m.tool_call_id }}
{%- if m.reasoning_content %}<think>{{ m.reasoning_content }}</think>{% endif %}{{ m.content }}
{%- for call in m.tool_calls or [] %}
{%- if call.id | length != 9 %}{{ raise_exception('a call needs a name of 9 characters') }}{% endif %}
<tool_call>{{ call.id }} {{ call.function | tojson }}</tool_call>{% endfor %}<|im_end|>
{% endfor %}<|im_start|>assistant
{%- if enable_thinking is defined %} {{ enable_thinking }}{% endif %}
{%- if reasoning_effort is defined %} {{ reasoning_effort }}{% endif %}
";

/// Starts it.
pub fn start() -> Server {
    start_on(tiny("f32").parts())
}

/// Starts it on this model.
pub fn start_on(mut parts: Parts) -> Server {
    parts.set("llama.context_length", Some(gguf::Value::U32(8192)));
    let flags = ["-np", "2", "-c", "8192", "--alias", "tiny", "--chat-template", TEMPLATE];
    Server::start(&parts, &flags)
}

/// Some fields and others.
pub fn with(mut fields: Value, others: &Value) -> Value {
    fields.as_object_mut().unwrap().extend(others.as_object().unwrap().clone());
    fields
}

/// The schema of the one tool: a random model may write any of it.
pub fn schema() -> Value {
    json!({
        "type": "object",
        "properties": { "city": { "enum": ["Rome", "Oslo"] }, "days": { "type": "integer", "minimum": 1, "maximum": 9 } },
        "required": ["city", "days"], "additionalProperties": false,
    })
}

/// A request of Anthropic's interface.
pub fn anthropic(others: &Value) -> Value {
    let tool = json!({ "name": "weather", "description": "Of a city.", "input_schema": schema() });
    let fields = json!({
        "model": "tiny", "max_tokens": 200, "temperature": 0, "tools": [tool],
        "messages": [{ "role": "user", "content": "the and" }],
    });
    with(fields, others)
}

/// A request of OpenAI's later interface.
pub fn responses(others: &Value) -> Value {
    let tool = json!({
        "type": "function", "name": "weather", "description": "Of a city.", "parameters": schema(),
    });
    let fields = json!({
        "model": "tiny", "max_output_tokens": 200, "temperature": 0, "tools": [tool],
        "input": "the and",
    });
    with(fields, others)
}

/// Makes an answer call a tool. JSON may have white space without end, which a random model would write.
pub fn forcing(choice: &Value) -> Value {
    // The tokens of bytes come first, and 268 is two spaces.
    let spaces = json!({ "9": -100, "10": -100, "13": -100, "32": -100, "268": -100 });
    json!({ "tool_choice": choice, "logit_bias": spaces })
}

/// Makes an answer of exactly this text.
pub fn saying(text: &str) -> Value {
    json!({ "grammar": format!("root ::= {}", json!(text)) })
}

/// The status and the message of an error.
pub fn refused(response: &Response) -> (u16, String) {
    (response.status, response.json()["error"]["message"].as_str().unwrap_or_default().to_owned())
}

/// The text of an answer that a chat gives to the same conversation: a model of random weights answers each prompt in
/// another way.
pub fn chat(server: &Server, fields: &Value) -> (Value, Value) {
    let fields =
        with(fields.clone(), &json!({ "max_tokens": 12, "temperature": 0, "ignore_eos": true }));
    let response = server.post("/v1/chat/completions", &fields);
    assert_eq!(response.status, 200, "{}", response.body);
    let answer = response.json();
    (answer["choices"][0]["message"]["content"].clone(), answer["usage"]["prompt_tokens"].clone())
}

/// The tool in the form of chat completions.
pub fn openai_tool() -> Value {
    let function =
        json!({ "name": "weather", "description": "Of a city.", "parameters": schema() });
    json!({ "type": "function", "function": function })
}
