//! Anthropic's, Ollama's and OpenAI's later interface: the same answers in other shapes, events in their order.

#![cfg(unix)]

mod common;
#[path = "common/server.rs"]
mod server;

use common::tiny::tiny;
use serde_json::{Value, json};
use server::{Server, names};

fn start() -> Server {
    Server::start(&tiny("f32").parts(), &["-np", "2", "-c", "1024", "--alias", "tiny"])
}

/// The fields that all interfaces share, with others.
fn with(fields: &Value) -> Value {
    let mut body = json!({ "model": "tiny", "seed": 3, "ignore_eos": true });
    body.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    body
}

/// The answer to a system's text and a user's, as a chat has it.
fn expected(server: &Server, n: usize) -> String {
    let messages =
        json!([{ "role": "system", "content": "an" }, { "role": "user", "content": "the and" }]);
    let body = with(&json!({ "messages": messages, "max_tokens": n }));
    let answer = server.post("/v1/chat/completions", &body).json();
    answer["choices"][0]["message"]["content"].as_str().unwrap().to_owned()
}

fn anthropic(fields: &Value) -> Value {
    let mut body = with(&json!({
        "system": [{ "type": "text", "text": "an", "cache_control": { "type": "ephemeral" } }],
        "messages": [{ "role": "user", "content": [{ "type": "text", "text": "the and" }] }],
        "max_tokens": 12, "metadata": { "user_id": "me" },
    }));
    body.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    body
}

#[test]
fn messages_are_whole_and_events_in_their_order() {
    let server = start();
    let text = expected(&server, 12);
    let whole = server.post("/v1/messages?beta=true", &anthropic(&json!({}))).json();
    assert_eq!(whole["content"], json!([{ "type": "text", "text": text }]));
    assert_eq!((&whole["type"], &whole["stop_reason"]), (&json!("message"), &json!("max_tokens")));
    assert_eq!(whole["usage"]["output_tokens"], 12);
    let stream = server.post("/v1/messages", &anthropic(&json!({ "stream": true })));
    let events = stream.named_events();
    assert_eq!(
        names(&events),
        [
            "message_start",
            "content_block_start",
            "ping",
            "content_block_delta",
            "content_block_stop",
            "message_delta",
            "message_stop"
        ]
    );
    assert!(events.iter().all(|(name, event)| event["type"] == **name));
    let deltas = events.iter().filter_map(|(_, event)| event["delta"]["text"].as_str());
    assert_eq!(deltas.collect::<String>(), text);
    let count = server.post("/v1/messages/count_tokens", &anthropic(&json!({}))).json();
    assert_eq!(events[0].1["message"]["usage"]["input_tokens"], count["input_tokens"]);
    let usage = &whole["usage"];
    let read = usage["input_tokens"].as_u64().unwrap()
        + usage["cache_read_input_tokens"].as_u64().unwrap();
    assert_eq!(count["input_tokens"], read);
    let delta = &events[events.len() - 2].1;
    assert_eq!(
        (&delta["delta"]["stop_reason"], &delta["usage"]["output_tokens"]),
        (&json!("max_tokens"), &json!(12))
    );
}

#[test]
fn messages_end_at_stop_sequences_and_errors_have_their_shape() {
    let server = start();
    let chars: Vec<char> = expected(&server, 12).chars().collect();
    let stop: String = chars[chars.len() / 2..chars.len() / 2 + 2].iter().collect();
    let stopped =
        server.post("/v1/messages", &anthropic(&json!({ "stop_sequences": [stop] }))).json();
    assert_eq!(
        (&stopped["stop_reason"], &stopped["stop_sequence"]),
        (&json!("stop_sequence"), &json!(stop))
    );
    let long = "a".repeat(4000);
    let long = json!({ "messages": [{ "role": "user", "content": long }] });
    assert!(
        server.post("/v1/messages/count_tokens", &long).json()["input_tokens"].as_u64().unwrap()
            > 512
    );
    for (fields, part) in [
        (json!({ "messages": null }), "is missing"),
        (json!({ "tools": [{ "name": "f", "input_schema": {} }] }), "tools"),
        (json!({ "messages": [{ "role": "user", "content": [{ "type": "image" }] }] }), "image"),
        (long, "512"),
    ] {
        let refused = server.post("/v1/messages", &anthropic(&fields));
        let error = refused.json();
        assert_eq!((refused.status, &error["type"]), (400, &json!("error")), "{error}");
        assert_eq!(error["error"]["type"], "invalid_request_error");
        assert!(error["error"]["message"].as_str().unwrap().contains(part), "{error}");
    }
}

#[test]
fn responses_are_whole_and_events_in_their_order() {
    let server = start();
    let text = expected(&server, 12);
    let items = json!([
        { "type": "reasoning", "summary": [] },
        { "type": "message", "role": "user", "content": [{ "type": "input_text", "text": "the and" }] },
    ]);
    let asked = |input: &Value, stream: bool| {
        let body = with(&json!({
            "instructions": "an", "input": input, "stream": stream, "max_output_tokens": 12,
            "tools": [{ "type": "web_search" }, { "type": "local_shell" }], "tool_choice": "auto",
            "store": false, "include": ["reasoning.encrypted_content"],
        }));
        server.post("/v1/responses", &body)
    };
    for input in [&json!("the and"), &items] {
        let whole = asked(input, false).json();
        assert_eq!(whole["output"][0]["content"][0]["text"], text);
        assert_eq!(
            (&whole["status"], &whole["usage"]["output_tokens"]),
            (&json!("incomplete"), &json!(12))
        );
    }
    let events = asked(&items, true).named_events();
    assert_eq!(
        names(&events),
        [
            "response.created",
            "response.in_progress",
            "response.output_item.added",
            "response.content_part.added",
            "response.output_text.delta",
            "response.output_text.done",
            "response.content_part.done",
            "response.output_item.done",
            "response.incomplete"
        ]
    );
    for (i, (name, event)) in events.iter().enumerate() {
        assert_eq!((&event["type"], &event["sequence_number"]), (&json!(name), &json!(i)));
    }
    let deltas = events.iter().filter_map(|(_, event)| event["delta"].as_str());
    assert_eq!(deltas.collect::<String>(), text);
    assert_eq!(events.last().unwrap().1["response"]["output"][0]["content"][0]["text"], text);
    for (name, value) in [
        ("previous_response_id", json!("resp_1")),
        ("tools", json!([{ "type": "function", "name": "f" }])),
        ("text", json!({ "format": { "type": "json_schema" } })),
        ("input", json!([{ "type": "item_reference", "id": "x" }])),
    ] {
        let mut body = with(&json!({ "input": "a" }));
        body[name] = value;
        assert_eq!(server.post("/v1/responses", &body).status, 400, "{name}");
    }
}

#[test]
fn an_answer_that_the_model_ends_is_complete() {
    let server = start();
    // The token that ends a turn is the last one, and nothing else is likely.
    let body = json!({ "input": "a", "logit_bias": { (common::tiny::N_VOCAB - 1).to_string(): 100 }, "stream": true });
    let events = server.post("/v1/responses", &body).named_events();
    let (name, event) = events.last().unwrap();
    assert_eq!(name, "response.completed");
    assert_eq!(event["response"]["output"][0]["content"][0]["text"], "");
}

#[test]
fn ollamas_lines_are_whole_and_streamed() {
    let server = start();
    let text = expected(&server, 12);
    let options = json!({ "num_predict": 12, "seed": 3, "ignore_eos": true, "num_ctx": 4096 });
    let messages =
        json!([{ "role": "system", "content": "an" }, { "role": "user", "content": "the and" }]);
    let chat =
        json!({ "model": "tiny", "messages": messages, "options": options, "keep_alive": "5m" });
    let generate =
        json!({ "model": "tiny", "system": "an", "prompt": "the and", "options": options });
    for (path, body, pointer) in
        [("/api/chat", chat, "/message/content"), ("/api/generate", generate, "/response")]
    {
        let mut whole = body.clone();
        whole["stream"] = json!(false);
        let whole = server.post(path, &whole).json();
        assert_eq!(whole.pointer(pointer).unwrap(), &json!(text), "{path}");
        assert_eq!((&whole["done_reason"], &whole["eval_count"]), (&json!("length"), &json!(12)));
        let stream = server.post(path, &body);
        assert_eq!(stream.headers["content-type"], "application/x-ndjson");
        let lines = stream.body.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        let lines: Vec<_> = lines.collect();
        let texts = lines.iter().map(|line| line.pointer(pointer).unwrap().as_str().unwrap());
        assert_eq!(texts.collect::<String>(), text, "{path}");
        let (last, others) = lines.split_last().unwrap();
        assert!(last["done"] == true && others.iter().all(|line| line["done"] == false));
    }
    let raw = json!({ "prompt": "the and", "raw": true, "stream": false, "options": options });
    let completion = with(&json!({ "prompt": "the and", "max_tokens": 12 }));
    let completion = server.post("/v1/completions", &completion).json();
    assert_eq!(
        server.post("/api/generate", &raw).json()["response"],
        completion["choices"][0]["text"]
    );
}

#[test]
fn ollamas_model_is_listed_and_what_it_lacks_is_refused() {
    let server = start();
    let entry = server.get("/api/tags").json()["models"][0].clone();
    assert_eq!(
        (&entry["name"], &entry["details"]["family"]),
        (&json!("tiny:latest"), &json!("llama"))
    );
    assert_eq!(entry["digest"].as_str().unwrap().len(), 64);
    assert_eq!(server.get("/api/ps").json()["models"][0]["digest"], entry["digest"]);
    let show = server.post("/api/show", &json!({ "model": "tiny" })).json();
    assert_eq!(show["model_info"]["llama.context_length"], 512);
    assert!(server.get("/api/version").json()["version"].is_string());
    assert_eq!(server.post("/api/chat", &json!({ "model": "tiny" })).json()["done_reason"], "load");
    for (name, value) in [
        ("format", json!({ "type": "colour" })),
        ("tools", json!([{ "type": "function" }])),
        ("messages", json!([{ "role": "user", "content": "a", "images": ["x"] }])),
        ("options", json!({ "mirostat": 2 })),
    ] {
        let mut body = json!({ "messages": [{ "role": "user", "content": "a" }] });
        body[name] = value;
        let refused = server.post("/api/chat", &body);
        assert!(
            refused.status == 400 && refused.json()["error"].is_string(),
            "{name}: {refused:?}"
        );
    }
}

/// A server whose template has thoughts and tools.
fn start_with_tools() -> Server {
    let template = include_str!("data/templates/qwen3.jinja");
    let flags = ["-np", "2", "-c", "2048", "--rope-scale", "4", "--chat-template", template];
    Server::start(&tiny("f32").parts(), &flags)
}

/// A chat in which the model can say nothing but this.
fn forced(text: &str, fields: &Value) -> Value {
    let tool =
        |name: &str| json!({ "type": "function", "function": { "name": name, "parameters": {} } });
    let mut body = json!({
        "messages": [{ "role": "user", "content": "the and" }],
        "tools": [tool("now"), tool("weather")],
        "options": { "grammar": format!("root ::= {}", json!(text)), "num_predict": 200 },
    });
    body.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    body
}

const CALLS: &str = "<think>Hm.</think>Well.<tool_call>{\"name\": \"now\", \"arguments\": {}}</tool_call>\
                     <tool_call>{\"name\": \"weather\", \"arguments\": {\"days\": [1, 2]}}</tool_call>";

#[test]
fn ollamas_chats_have_thoughts_and_calls() {
    let server = start_with_tools();
    let whole = server.post("/api/chat", &forced(CALLS, &json!({ "stream": false }))).json();
    let call = |index: usize, name: &str, arguments: Value| json!({ "function": { "index": index, "name": name, "arguments": arguments } });
    let calls = [call(0, "now", json!({})), call(1, "weather", json!({ "days": [1, 2] }))];
    let message = json!({
        "role": "assistant", "content": "Well.", "thinking": "Hm.", "tool_calls": calls,
    });
    assert_eq!(whole["message"], message, "{whole}");
    assert_eq!(whole["done_reason"], "stop");
    let stream = server.post("/api/chat", &forced(CALLS, &json!({}))).body;
    let lines = stream.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let messages: Vec<Value> = lines.map(|line| line["message"].clone()).collect();
    for (name, text) in [("content", "Well."), ("thinking", "Hm.")] {
        let parts = messages.iter().filter_map(|message| message[name].as_str());
        assert_eq!(parts.collect::<String>(), text);
    }
    let streamed = messages.iter().filter_map(|message| message["tool_calls"].as_array());
    assert_eq!(streamed.flatten().cloned().collect::<Vec<_>>(), calls);
    // A call that is cut off is none.
    let options = json!({ "grammar": format!("root ::= {}", json!(CALLS)), "num_predict": 40 });
    let cut = forced(CALLS, &json!({ "stream": false, "options": options }));
    let cut = server.post("/api/chat", &cut).json();
    assert_eq!((&cut["done_reason"], cut["message"].get("tool_calls")), (&json!("length"), None));
    let generate = json!({
        "prompt": "the", "stream": false, "options": { "grammar": "root ::= \"<think>Hm.</think>Well.\"" },
    });
    let mut generated = server.post("/api/generate", &generate).json();
    assert_eq!((&generated["thinking"], &generated["response"]), (&json!("Hm."), &json!("Well.")));
    let mut raw = generate;
    raw["raw"] = json!(true);
    generated = server.post("/api/generate", &raw).json();
    assert_eq!(generated["response"], "<think>Hm.</think>Well.");
}

#[test]
fn ollamas_prompts_are_those_of_openais_form() {
    let server = start_with_tools();
    let count = |path: &str, body: &Value| {
        let body = server.post(path, body).json();
        let n = body["prompt_eval_count"].as_u64().or(body["usage"]["prompt_tokens"].as_u64());
        n.unwrap_or_else(|| panic!("{body}"))
    };
    let question = json!({ "role": "user", "content": "the and" });
    let arguments = json!({ "city": "an", "days": 2 });
    let ollama = json!([
        question,
        { "role": "assistant", "content": "", "thinking": "in", "tool_calls": [{ "function": { "name": "weather", "arguments": arguments } }] },
        { "role": "tool", "tool_name": "weather", "content": "on" },
    ]);
    let openai = json!([
        question,
        { "role": "assistant", "content": null, "reasoning_content": "in", "tool_calls": [
            { "id": "call00001", "type": "function", "function": { "name": "weather", "arguments": arguments.to_string() } },
        ] },
        { "role": "tool", "tool_call_id": "call00001", "content": "on" },
    ]);
    let one = json!({ "num_predict": 1 });
    for (think, variables) in [
        (json!(null), json!({})),
        (json!(false), json!({ "enable_thinking": false })),
        (json!("low"), json!({})),
    ] {
        let of_ollama =
            json!({ "messages": ollama, "options": one, "stream": false, "think": think });
        let of_openai =
            json!({ "messages": openai, "max_tokens": 1, "chat_template_kwargs": variables });
        assert_eq!(
            count("/api/chat", &of_ollama),
            count("/v1/chat/completions", &of_openai),
            "{think}"
        );
    }
    let thinks = count("/api/generate", &json!({ "prompt": "a", "options": one, "stream": false }));
    let does_not = json!({ "prompt": "a", "options": one, "stream": false, "think": false });
    assert!(count("/api/generate", &does_not) > thinks, "the thought is closed in the prompt");
    let refused = server.post("/api/chat", &json!({ "messages": ollama, "think": "much" }));
    assert_eq!(refused.status, 400);
    let plain = start();
    let refused = plain.post("/api/chat", &json!({ "messages": [question], "think": true }));
    assert!(refused.status == 400 && refused.body.contains("does not think"), "{refused:?}");
    assert_eq!(
        plain
            .post(
                "/api/chat",
                &json!({ "messages": [question], "think": false, "stream": false, "options": one })
            )
            .status,
        200
    );
}

#[test]
fn ollamas_capabilities_are_those_of_the_model() {
    let of = |server: &Server| server.post("/api/show", &json!({})).json()["capabilities"].clone();
    assert_eq!(of(&start()), json!(["completion", "embedding"]));
    assert_eq!(of(&start_with_tools()), json!(["completion", "tools", "thinking", "embedding"]));
    let mut parts = tiny("f32").parts();
    for (key, token) in [("fim_pre", 80), ("fim_suf", 83), ("fim_mid", 77)] {
        let key = format!("tokenizer.ggml.{key}_token_id");
        parts.set(&key, Some(dovetail::gguf::Value::U32(token)));
    }
    assert_eq!(of(&Server::start(&parts, &[])), json!(["completion", "insert", "embedding"]));
}
