//! The OpenAPI document of `dovetail-server`: what it says of each path is what the path answers.

#![cfg(unix)]

mod common;
#[path = "common/server.rs"]
mod server;

use common::tiny::tiny;
use serde_json::{Value, json};
use server::Server;

fn start() -> Server {
    let template = include_str!("data/templates/qwen3.jinja");
    let flags = ["-np", "2", "-c", "2048", "--rope-scale", "4", "--chat-template", template];
    Server::start(&tiny("f32").parts(), &flags)
}

/// What is wrong with a value, by the part of JSON Schema that the document uses; `at` is where the value stands.
fn fault(document: &Value, schema: &Value, value: &Value, at: &str) -> Option<String> {
    if let Some(name) = schema["$ref"].as_str() {
        let schema = document.pointer(name.strip_prefix('#').unwrap());
        return fault(document, schema.unwrap_or_else(|| panic!("no {name}")), value, at);
    }
    if let Some(schemas) = schema["anyOf"].as_array() {
        let faults = schemas.iter().map(|schema| fault(document, schema, value, at));
        let faults: Option<Vec<String>> = faults.collect();
        return faults.map(|faults| faults.join(", or "));
    }
    let is_it = match schema["type"].as_str() {
        Some("object") => value.is_object(),
        Some("array") => value.is_array(),
        Some("string") => value.is_string(),
        Some("integer") => value.is_u64(),
        Some("number") => value.is_number(),
        Some("boolean") => value.is_boolean(),
        Some("null") => value.is_null(),
        other => panic!("{other:?} in {schema}"),
    };
    if !is_it {
        return Some(format!("{at} is {value} and no {}", schema["type"]));
    }
    let required = schema["required"].as_array().into_iter().flatten();
    let missing =
        required.map(|name| name.as_str().unwrap()).find(|name| value.get(name).is_none());
    if let Some(name) = missing {
        return Some(format!("{at} has no {name}: {value}"));
    }
    for (name, field) in value.as_object().into_iter().flatten() {
        let at = format!("{at}.{name}");
        match schema["properties"].get(name) {
            Some(schema) => {
                if let Some(fault) = fault(document, schema, field, &at) {
                    return Some(fault);
                }
            }
            None if schema["additionalProperties"] == false => {
                return Some(format!("{at} is not in the document"));
            }
            None => {}
        }
    }
    let items = value.as_array().into_iter().flatten();
    items
        .enumerate()
        .find_map(|(i, item)| fault(document, &schema["items"], item, &format!("{at}[{i}]")))
}

/// The schema of a path's answer with this content type; `status` is `200` or `default`.
fn schema<'a>(document: &'a Value, path: &str, status: &str, kind: &str) -> &'a Value {
    let methods = document["paths"][path].as_object().unwrap_or_else(|| panic!("no {path}"));
    let schema = &methods.values().next().unwrap()["responses"][status]["content"][kind]["schema"];
    assert!(!schema.is_null(), "{path} {status} has no {kind}");
    schema
}

/// The JSON of a response, by its content type.
fn values(body: &str, kind: &str) -> Vec<Value> {
    let json = |text: &str| serde_json::from_str(text).unwrap_or_else(|_| panic!("{text}"));
    match kind {
        "text/event-stream" => {
            let data = body.lines().filter_map(|line| line.strip_prefix("data: "));
            data.filter(|data| *data != "[DONE]").map(json).collect()
        }
        "application/x-ndjson" => body.lines().map(json).collect(),
        _ => vec![json(body)],
    }
}

fn check(document: &Value, path: &str, response: &server::Response) {
    let status = if response.status == 200 { "200" } else { "default" };
    let kind = &response.headers["content-type"];
    let schema = schema(document, path, status, kind);
    let values = values(&response.body, kind);
    assert!(!values.is_empty());
    for value in values {
        let fault = fault(document, schema, &value, "answer");
        assert!(fault.is_none(), "{path}: {}", fault.unwrap_or_default());
    }
}

#[test]
fn answers_are_what_the_document_says() {
    let server = start();
    let document = server.get("/openapi.json").json();
    let messages = json!([{ "role": "user", "content": "the and" }]);
    let call = "<think>Hm.</think>Well.<tool_call>{\"name\": \"now\", \"arguments\": {\"a\": 1}}</tool_call>";
    let grammar = format!("root ::= {}", json!(call));
    let tools = json!([{ "type": "function", "function": { "name": "now", "parameters": {} } }]);
    let bodies = [
        (
            "/v1/chat/completions",
            json!({ "messages": messages, "max_tokens": 5, "logprobs": true, "top_logprobs": 2 }),
        ),
        (
            "/v1/chat/completions",
            json!({ "messages": messages, "tools": tools, "grammar": grammar, "stream_options": { "include_usage": true }, "dovetail": { "rounds": true } }),
        ),
        (
            "/v1/completions",
            json!({ "prompt": "the", "max_tokens": 5, "logprobs": 2, "echo": true, "n": 2 }),
        ),
        (
            "/v1/completions",
            json!({ "prompt": "the", "max_tokens": 5, "stream_options": { "include_usage": true } }),
        ),
        ("/v1/embeddings", json!({ "input": "the" })),
        ("/v1/embeddings", json!({ "input": ["the", "and"], "encoding_format": "base64" })),
        ("/v1/responses", json!({ "input": "the", "max_output_tokens": 5 })),
        ("/v1/messages", json!({ "messages": messages, "max_tokens": 5 })),
        ("/v1/messages/count_tokens", json!({ "messages": messages })),
        (
            "/api/chat",
            json!({ "messages": messages, "tools": tools, "options": { "grammar": grammar } }),
        ),
        ("/api/chat", json!({})),
        (
            "/api/generate",
            json!({ "prompt": "a", "options": { "grammar": "root ::= \"<think>Hm.</think>Well.\"" } }),
        ),
        ("/api/embed", json!({ "input": ["the", "and"] })),
        ("/api/embeddings", json!({ "prompt": "the" })),
        ("/api/show", json!({ "model": "m" })),
        ("/completion", json!({ "prompt": "the", "n_predict": 5, "n_probs": 2 })),
        ("/tokenize", json!({ "content": "the" })),
        ("/tokenize", json!({ "content": "thé", "with_pieces": true })),
        ("/detokenize", json!({ "tokens": [1, 2] })),
        ("/apply-template", json!({ "messages": messages })),
    ];
    for (path, body) in &bodies {
        for stream in [false, true] {
            let mut body = body.clone();
            body["stream"] = json!(stream);
            let response = server.post(path, &body);
            assert_eq!(response.status, 200, "{path}: {}", response.body);
            check(&document, path, &response);
        }
    }
    let mut others = 0;
    for (path, methods) in document["paths"].as_object().unwrap() {
        if methods.get("get").is_some() {
            let response = server.get(path);
            assert_eq!(response.status, 200, "{path}");
            let kind = &response.headers["content-type"];
            if kind == "application/json" {
                check(&document, path, &response);
            }
            others += 1;
        } else if !["/tokenize", "/detokenize", "/api/show", "/api/embed", "/api/embeddings"]
            .contains(&&**path)
        {
            let refused =
                server.post(path, &json!({ "messages": 7, "prompt": [[["x"]]], "input": 7 }));
            assert_eq!(refused.status, 400, "{path}: {}", refused.body);
            check(&document, path, &refused);
        }
        let is_tried =
            bodies.iter().any(|(tried, _)| tried == path) || methods.get("get").is_some();
        assert!(is_tried || path == "/infill", "{path} is not tried");
    }
    assert!(others > 6);
}

#[test]
fn the_check_finds_faults() {
    let document = start().get("/openapi.json").json();
    let schema = &document["components"]["schemas"]["Model"];
    let right = json!({ "id": "a", "object": "model", "created": 1, "owned_by": "b", "meta": {} });
    assert_eq!(fault(&document, schema, &right, ""), None);
    for (name, value) in
        [("id", json!(7)), ("created", json!("x")), ("colour", json!(1)), ("meta", json!(null))]
    {
        let mut wrong = right.clone();
        wrong[name] = value;
        assert!(fault(&document, schema, &wrong, "").is_some(), "{name}");
    }
    let list = &document["components"]["schemas"]["Models"];
    let wrong = json!({ "object": "list", "data": [right, { "id": "a" }] });
    assert!(fault(&document, list, &wrong, "").unwrap().contains("data[1] has no"));
}

#[test]
fn each_path_is_in_the_document() {
    let server = start();
    let document = server.get("/openapi.json").json();
    let paths = document["paths"].as_object().unwrap();
    assert!(paths.len() > 20);
    for (path, methods) in paths {
        for method in methods.as_object().unwrap().keys() {
            let status = match &**method {
                "get" => server.get(path).status,
                _ => server.post(path, &json!({})).status,
            };
            assert!([200, 400].contains(&status), "{method} {path}: {status}");
        }
    }
    let chat = &document["paths"]["/v1/chat/completions"]["post"];
    let schema = &chat["requestBody"]["content"]["application/json"]["schema"];
    assert_eq!(schema["required"], json!(["messages"]));
}
