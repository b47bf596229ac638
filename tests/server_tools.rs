//! What the interfaces of Anthropic and of OpenAI make of a model's thoughts, texts and calls.

#![cfg(unix)]

mod common;
#[path = "common/server.rs"]
mod server;
#[path = "common/tools.rs"]
mod tools;

use common::tiny::tiny;
use dovetail::gguf::{self, Array};
use serde_json::{Value, json};
use server::names;
use tools::{
    anthropic, chat, forcing, openai_tool, refused, responses, saying, start, start_on, with,
};

/// A thought, a text, and two calls.
const ANSWER: &str = "<think>\nHm.\n</think>\n\nWell.\n<tool_call>\n{\"name\": \"weather\", \"arguments\": {\"city\": \"Rome\", \
                      \"days\": 2}}\n</tool_call>\n<tool_call>\n{\"name\": \"f\", \"arguments\": {}}\n</tool_call>";

fn assert_is_call_id(id: &Value) {
    let id = id.as_str().unwrap();
    assert!(id.len() == 9 && id.bytes().all(|byte| byte.is_ascii_alphanumeric()), "{id}");
}

fn assert_is_weather(arguments: &Value) {
    assert!([json!("Rome"), json!("Oslo")].contains(&arguments["city"]), "{arguments}");
    assert!((1..=9).contains(&arguments["days"].as_u64().unwrap()), "{arguments}");
}

#[test]
fn messages_have_blocks_in_their_order() {
    let server = start();
    let asked = anthropic(&saying(ANSWER));
    let whole = server.post("/v1/messages", &asked).json();
    let content = whole["content"].as_array().unwrap();
    assert_eq!(content[0], json!({ "type": "thinking", "thinking": "Hm.", "signature": "" }));
    assert_eq!(content[1], json!({ "type": "text", "text": "Well." }));
    let rome = json!({ "city": "Rome", "days": 2 });
    for (block, name, input) in [(&content[2], "weather", rome), (&content[3], "f", json!({}))] {
        assert_is_call_id(&block["id"]);
        let expected =
            json!({ "type": "tool_use", "id": block["id"], "name": name, "input": input });
        assert_eq!(*block, expected);
    }
    assert!(content.len() == 4 && content[2]["id"] != content[3]["id"]);
    assert_eq!(whole["stop_reason"], "tool_use");

    let events =
        server.post("/v1/messages", &with(asked, &json!({ "stream": true }))).named_events();
    let block = ["content_block_start", "content_block_delta", "content_block_stop"];
    let mut expected = vec!["message_start", "content_block_start", "ping"];
    expected.extend(&block[1..]);
    expected.extend([block, block, block].concat());
    expected.extend(["message_delta", "message_stop"]);
    assert_eq!(names(&events), expected);
    let mut blocks: Vec<(Value, String, Vec<String>)> = Vec::new();
    for (name, event) in &events {
        match &**name {
            "content_block_start" => {
                assert_eq!(event["index"], blocks.len());
                blocks.push((event["content_block"].clone(), String::new(), Vec::new()));
            }
            "content_block_delta" => {
                assert_eq!(event["index"], blocks.len() - 1);
                let (_, text, kinds) = blocks.last_mut().unwrap();
                let delta = event["delta"].as_object().unwrap();
                let (kind, more) = (&delta["type"], delta.values().nth(1).unwrap());
                kinds.push(kind.as_str().unwrap().to_owned());
                text.push_str(more.as_str().unwrap());
            }
            "content_block_stop" => assert_eq!(event["index"], blocks.len() - 1),
            "message_delta" => assert_eq!(event["delta"]["stop_reason"], "tool_use"),
            _ => {}
        }
    }
    for (i, ((begun, text, kinds), whole)) in blocks.iter_mut().zip(content).enumerate() {
        kinds.dedup();
        match i {
            0 => assert_eq!(*kinds, ["thinking_delta", "signature_delta"]),
            1 => assert_eq!(*kinds, ["text_delta"]),
            _ => assert_eq!(*kinds, ["input_json_delta"]),
        }
        let mut ended = begun.clone();
        match i {
            0 => ended["thinking"] = json!(text),
            1 => ended["text"] = json!(text),
            _ => {
                assert_eq!(begun["input"], json!({}));
                assert_is_call_id(&begun["id"]);
                ended["input"] = serde_json::from_str(text).unwrap();
                ended["id"] = whole["id"].clone();
            }
        }
        assert_eq!(ended, *whole);
    }
    assert_eq!(blocks.len(), 4);
}

#[test]
fn responses_have_items_in_their_order() {
    let server = start();
    let asked = responses(&saying(ANSWER));
    let whole = server.post("/v1/responses", &asked).json();
    let output = whole["output"].as_array().unwrap();
    assert_eq!(whole["status"], "completed");
    assert_eq!(output[0]["content"], json!([{ "type": "reasoning_text", "text": "Hm." }]));
    assert_eq!((&output[0]["type"], &output[0]["summary"]), (&json!("reasoning"), &json!([])));
    assert_eq!(
        (&output[1]["type"], &output[1]["content"][0]["text"]),
        (&json!("message"), &json!("Well."))
    );
    assert_eq!(
        (&output[2]["type"], &output[2]["name"]),
        (&json!("function_call"), &json!("weather"))
    );
    assert_eq!(output[2]["arguments"], "{\"city\":\"Rome\",\"days\":2}");
    assert_eq!((&output[3]["name"], &output[3]["arguments"]), (&json!("f"), &json!("{}")));
    assert!(output.iter().all(|item| item["status"] == "completed") && output.len() == 4);
    assert_is_call_id(&output[2]["call_id"]);
    let details = &whole["usage"]["input_tokens_details"];
    assert!(details["cached_tokens"].is_u64() && details["cache_write_tokens"] == 0);
    // As many tokens as bytes, and the white space before and behind.
    let thought = whole["usage"]["output_tokens_details"]["reasoning_tokens"].as_u64().unwrap();
    assert!((3..15).contains(&thought), "{thought}");
    assert_eq!((&whole["tools"], &whole["tool_choice"]), (&asked["tools"], &json!("auto")));

    let events =
        server.post("/v1/responses", &with(asked, &json!({ "stream": true }))).named_events();
    let of_part = |delta: &str| {
        [
            "output_item.added",
            "content_part.added",
            &format!("{delta}.delta"),
            &format!("{delta}.done"),
            "content_part.done",
            "output_item.done",
        ]
        .map(|name| format!("response.{name}"))
    };
    let of_call = [
        "output_item.added",
        "function_call_arguments.delta",
        "function_call_arguments.done",
        "output_item.done",
    ]
    .map(|name| format!("response.{name}"));
    let mut expected = vec!["response.created".to_owned(), "response.in_progress".to_owned()];
    expected.extend(of_part("reasoning_text"));
    expected.extend(of_part("output_text"));
    expected.extend([&of_call[..], &of_call[..]].concat());
    expected.push("response.completed".to_owned());
    assert_eq!(names(&events), expected);
    let (mut id, mut text, mut ended) = (Value::Null, String::new(), Vec::new());
    for (i, (name, event)) in events.iter().enumerate() {
        assert_eq!((&event["type"], &event["sequence_number"]), (&json!(name), &json!(i)));
        if let Some(item) = event.get("item") {
            assert_eq!(event["output_index"], ended.len(), "{event}");
            if name.ends_with("added") {
                id = item["id"].clone();
                text.clear();
                assert_eq!(item["status"], "in_progress");
            } else {
                assert_eq!(item["id"], id);
                ended.push(item.clone());
            }
        } else if event.get("item_id").is_some() {
            assert_eq!((&event["item_id"], &event["output_index"]), (&id, &json!(ended.len())));
            text.push_str(event["delta"].as_str().unwrap_or_default());
            if name == "response.function_call_arguments.done" {
                assert_eq!(event["name"], output[ended.len()]["name"]);
            }
            for done in ["text", "arguments"].iter().filter_map(|name| event.get(name)) {
                assert_eq!(*done, json!(text));
            }
        }
    }
    let last = &events.last().unwrap().1["response"];
    assert_eq!(last["output"], json!(ended));
    assert_eq!(last["usage"]["output_tokens"], whole["usage"]["output_tokens"]);
    for (ended, whole) in ended.iter().zip(output) {
        let mut ended = with(ended.clone(), &json!({ "id": whole["id"] }));
        if let Some(id) = whole.get("call_id") {
            ended["call_id"] = id.clone();
        }
        assert_eq!(ended, *whole);
    }
}

/// Where calls are free, the answer ends behind the first if there may be no others.
#[test]
fn an_answer_may_have_one_call_at_most() {
    let server = start();
    let one = json!({ "tool_choice": { "type": "auto", "disable_parallel_tool_use": true } });
    let both = server.post("/v1/messages", &anthropic(&saying(ANSWER))).json();
    let asked = anthropic(&with(saying(ANSWER), &one));
    let whole = server.post("/v1/messages", &asked).json();
    let (blocks, all) = (whole["content"].as_array().unwrap(), both["content"].as_array().unwrap());
    assert_eq!((blocks.len(), all.len(), &whole["stop_reason"]), (3, 4, &json!("tool_use")));
    assert_eq!((&blocks[..2], &blocks[2]["input"]), (&all[..2], &all[2]["input"]));
    let tokens = |answer: &Value| answer["usage"]["output_tokens"].as_u64().unwrap();
    assert!(tokens(&whole) + 20 < tokens(&both), "the answer goes on: {whole}");
    let events =
        server.post("/v1/messages", &with(asked, &json!({ "stream": true }))).named_events();
    let begun = events.iter().filter(|(name, _)| name == "content_block_start");
    assert_eq!(begun.count(), 3);

    let one = json!({ "parallel_tool_calls": false });
    let answer = server.post("/v1/responses", &responses(&with(saying(ANSWER), &one))).json();
    let output = answer["output"].as_array().unwrap();
    assert_eq!((output.len(), &output[2]["name"]), (3, &json!("weather")), "{answer}");
    assert_eq!(answer["status"], "completed");
    // The last has no room for its second call.
    let bare =
        "{\"name\": \"weather\", \"arguments\": {}}\n{\"name\": \"weather\", \"arguments\": {}}";
    for (text, max_tokens) in [(ANSWER, 200), (bare, 200), (bare, bare.len() * 3 / 4)] {
        let messages = json!([{ "role": "user", "content": "the and" }]);
        let fields =
            json!({ "messages": messages, "tools": [openai_tool()], "max_tokens": max_tokens });
        let fields = with(with(fields, &saying(text)), &one);
        let answer = server.post("/v1/chat/completions", &fields).json();
        let choice = &answer["choices"][0];
        let calls = choice["message"]["tool_calls"].as_array().unwrap();
        assert_eq!((calls.len(), &choice["finish_reason"]), (1, &json!("tool_calls")));
        assert_eq!(choice["message"]["content"].is_null(), text == bare, "{answer}");
    }
}

/// Models that are to write calls between markers may leave those out.
#[test]
fn an_answer_that_is_a_bare_call_is_a_call() {
    let server = start();
    let call = "{\"name\": \"weather\", \"arguments\": {\"city\": \"Rome\", \"days\": 2}}";
    let chat = |others: Value| {
        let messages = json!([{ "role": "user", "content": "the and" }]);
        let fields = json!({ "messages": messages, "tools": [openai_tool()], "max_tokens": 200, "temperature": 0 });
        server.post("/v1/chat/completions", &with(with(fields, &saying(call)), &others))
    };
    let whole = chat(json!({})).json();
    let message = &whole["choices"][0]["message"];
    assert_eq!(message["tool_calls"][0]["function"]["name"], "weather", "{whole}");
    assert_eq!(
        (&message["content"], &whole["choices"][0]["finish_reason"]),
        (&Value::Null, &json!("tool_calls"))
    );
    let events = chat(json!({ "stream": true })).events();
    let deltas = || events.iter().map(|event| &event["choices"][0]["delta"]);
    assert!(deltas().all(|delta| delta["content"].as_str().unwrap_or_default().is_empty()));
    let function = deltas().find_map(|delta| delta["tool_calls"][0]["function"].as_object());
    assert_eq!(function.unwrap()["arguments"], "{\"city\":\"Rome\",\"days\":2}");
    assert_eq!(events.last().unwrap()["choices"][0]["finish_reason"], "tool_calls");
    let none = chat(json!({ "tool_choice": "none" })).json();
    assert_eq!(none["choices"][0]["message"]["content"], call);
    assert_eq!(none["choices"][0]["finish_reason"], "stop");
    let block = &server.post("/v1/messages", &anthropic(&saying(call))).json()["content"][0];
    assert_eq!((&block["type"], &block["input"]["days"]), (&json!("tool_use"), &json!(2)));
}

/// A thought alone is not continued: the answer begins behind it.
#[test]
fn a_last_message_that_is_a_thought_alone_is_a_turn() {
    let server = start();
    let user = json!({ "role": "user", "content": "the and" });
    let written = [
        "<think>Hm.</think>",
        "<seed:think>Hm.</seed:think>",
        "[THINK]Hm.[/THINK]",
        "<|START_THINKING|>Hm.<|END_THINKING|>",
    ];
    let said = written.map(|thought| (thought, json!({ "content": format!("{thought}\n") })));
    let given = json!({ "content": null, "reasoning_content": "Hm." });
    for (thought, fields) in said.into_iter().chain([(written[0], given)]) {
        let last = with(json!({ "role": "assistant" }), &fields);
        let asked = json!({ "messages": [user, last] });
        let prompt = server.post("/apply-template", &asked).json()["prompt"].to_string();
        let (_, behind) = prompt.split_once(thought).expect("it is there");
        assert!(behind.contains("<|im_end|>") && behind.contains("assistant"), "{behind}");
        chat(&server, &asked);
    }
    let block = json!({ "type": "thinking", "thinking": "Hm.", "signature": "" });
    let messages = json!([user, { "role": "assistant", "content": [block] }]);
    let answer = server.post("/v1/messages", &anthropic(&json!({ "messages": messages })));
    assert_eq!(answer.status, 200, "{}", answer.body);
}

/// A thought that the assistant's last message leaves open is continued as a thought, with a grammar as without.
#[test]
fn a_thought_that_was_begun_goes_on() {
    let server = start();
    let begun = "<think>Let me";
    let messages = json!([{ "role": "user", "content": "the and" }, { "role": "assistant", "content": begun }]);
    let asked =
        json!({ "messages": messages, "max_tokens": 12, "temperature": 0, "ignore_eos": true });
    let prompt = server.post("/apply-template", &asked).json()["prompt"].clone();
    assert!(prompt.as_str().unwrap().ends_with(begun), "{prompt}");
    let plain = with(asked.clone(), &json!({ "prompt": prompt }));
    let expected = server.post("/v1/completions", &plain).json()["choices"][0]["text"].clone();
    let expected = expected.as_str().unwrap().trim_end();
    for fields in [asked.clone(), with(asked.clone(), &saying("Well."))] {
        let answer = server.post("/v1/chat/completions", &fields).json();
        let message = &answer["choices"][0]["message"];
        assert_eq!(message["reasoning_content"], expected, "{answer}");
        assert_eq!(message["content"], "");
        let answer = server.post("/v1/messages", &fields).json();
        assert_eq!(answer["content"][0]["thinking"], expected, "{answer}");
    }
}

/// A grammar holds from the end of the thought on: here the model would end it again and again.
#[test]
fn a_grammar_begins_behind_a_thought_that_was_begun() {
    let mut parts = tiny("f32").parts();
    let tokens = parts.keys.iter_mut().find(|(key, _)| key == "tokenizer.ggml.tokens");
    let Some((_, gguf::Value::Array(Array::String(tokens)))) = tokens else { panic!("no tokens") };
    let end = tokens.iter().position(|token| token == "<|endoftext|>").unwrap();
    tokens[end] = "</think>".to_owned();
    let server = start_on(parts);
    let messages = json!([
        { "role": "user", "content": "the and" }, { "role": "assistant", "content": "<think>Let me" },
    ]);
    let bias = json!({ end.to_string(): 100 });
    let asked =
        json!({ "messages": messages, "logit_bias": bias, "max_tokens": 12, "temperature": 0 });
    let content = |fields: Value| {
        let answer = server.post("/v1/chat/completions", &fields).json();
        answer["choices"][0]["message"]["content"].as_str().unwrap().to_owned()
    };
    assert_eq!(content(asked.clone()), "</think>".repeat(11));
    assert_eq!(content(with(asked, &saying("Well."))), "Well.");
}

/// What a model begins and does not end is a text, and the answer is not complete.
#[test]
fn an_answer_that_is_cut_off_says_so() {
    let server = start();
    let few = json!({ "max_tokens": 30, "max_output_tokens": 30 });
    let answer = "Well. <tool_call>\n{\"name\": \"weather\", \"arguments\": {\"city\": \"Rome\"}}\n</tool_call>";
    let cut = server.post("/v1/messages", &anthropic(&with(saying(answer), &few))).json();
    assert_eq!(
        (&cut["stop_reason"], &cut["content"][0]["type"]),
        (&json!("max_tokens"), &json!("text"))
    );
    let text = cut["content"][0]["text"].as_str().unwrap();
    assert!(answer.starts_with(text) && text.contains("<tool_call>"), "{text}");
    let cut = server.post("/v1/responses", &responses(&with(saying(answer), &few))).json();
    assert_eq!(
        (&cut["status"], &cut["output"][0]["status"]),
        (&json!("incomplete"), &json!("incomplete"))
    );
    assert_eq!(cut["output"][0]["content"][0]["text"], text);
}

#[test]
fn a_call_that_is_asked_for_is_made() {
    let server = start();
    for choice in [
        json!({ "type": "any" }),
        json!({ "type": "tool", "name": "weather", "disable_parallel_tool_use": true }),
    ] {
        let answer = server.post("/v1/messages", &anthropic(&forcing(&choice))).json();
        let block = &answer["content"][0];
        assert_eq!(
            (&block["type"], &block["name"]),
            (&json!("tool_use"), &json!("weather")),
            "{answer}"
        );
        assert_is_weather(&block["input"]);
        if choice["disable_parallel_tool_use"] == true {
            assert_eq!(
                (answer["content"].as_array().unwrap().len(), &answer["stop_reason"]),
                (1, &json!("tool_use"))
            );
        }
    }
    let weather = json!({ "type": "function", "name": "weather" });
    let allowed = json!({ "type": "allowed_tools", "mode": "required", "tools": [weather] });
    for choice in [json!("required"), weather, allowed] {
        let fields = with(forcing(&choice), &json!({ "parallel_tool_calls": false }));
        let answer = server.post("/v1/responses", &responses(&fields)).json();
        let [item] = &answer["output"].as_array().unwrap()[..] else { panic!("{answer}") };
        assert_eq!((&item["type"], &item["name"]), (&json!("function_call"), &json!("weather")));
        assert_is_weather(&serde_json::from_str(item["arguments"].as_str().unwrap()).unwrap());
    }
    for choice in [
        json!({ "type": "tool", "name": "g" }),
        json!({ "type": "tool" }),
        json!({ "type": "some" }),
    ] {
        let answer = server.post("/v1/messages", &anthropic(&json!({ "tool_choice": choice })));
        let (status, message) = refused(&answer);
        assert!(status == 400 && message.contains("tool_choice"), "{message}");
    }
    for choice in [
        json!({ "type": "function", "name": "g" }),
        json!({ "type": "file_search" }),
        json!("some"),
    ] {
        let answer = server.post("/v1/responses", &responses(&json!({ "tool_choice": choice })));
        assert_eq!((answer.status, &answer.json()["error"]["param"]), (400, &json!("tool_choice")));
    }
}

/// The name of a call comes back with its result, and the template takes it.
#[test]
fn a_call_is_made_and_its_result_sent_back() {
    let server = start();
    let question = json!({ "role": "user", "content": "the and" });
    let any = anthropic(&forcing(&json!({ "type": "any" })));
    let answer = server.post("/v1/messages", &any).json();
    let result = json!([{ "type": "tool_result", "tool_use_id": answer["content"][0]["id"], "content": "Sun." }]);
    let messages = json!([
        question, { "role": "assistant", "content": answer["content"] }, { "role": "user", "content": result },
    ]);
    let last =
        server.post("/v1/messages", &anthropic(&json!({ "messages": messages, "max_tokens": 4 })));
    assert_eq!(last.status, 200, "{}", last.body);

    let answer = server.post("/v1/responses", &responses(&forcing(&json!("required")))).json();
    let output = answer["output"].as_array().unwrap();
    let result = json!({ "type": "function_call_output", "call_id": output[0]["call_id"], "output": "Sun." });
    let input = [&[question], &output[..], &[result]].concat();
    let last = server
        .post("/v1/responses", &responses(&json!({ "input": input, "max_output_tokens": 4 })));
    assert_eq!(last.status, 200, "{}", last.body);

    let tools =
        json!({ "tools": [openai_tool()], "messages": [{ "role": "user", "content": "the and" }] });
    let asked = with(tools.clone(), &forcing(&json!("required")));
    let asked = with(asked, &json!({ "max_tokens": 200, "temperature": 0 }));
    let message =
        server.post("/v1/chat/completions", &asked).json()["choices"][0]["message"].clone();
    let id = message["tool_calls"][0]["id"].clone();
    assert_is_call_id(&id);
    let result = json!({ "role": "tool", "tool_call_id": id, "content": "Sun." });
    let messages = json!([tools["messages"][0], message, result]);
    let last = with(tools, &json!({ "messages": messages, "max_tokens": 4 }));
    assert_eq!(server.post("/v1/chat/completions", &last).status, 200);
}

#[test]
fn the_stop_sequence_that_was_met_is_named() {
    let server = start();
    let stops = json!({ "stop_sequences": ["never", "<|im_end|>", "two", " tw"] });
    let stopped =
        server.post("/v1/messages", &anthropic(&with(saying("one, two, three"), &stops))).json();
    assert_eq!(stopped["content"], json!([{ "type": "text", "text": "one," }]));
    assert_eq!(
        (&stopped["stop_reason"], &stopped["stop_sequence"]),
        (&json!("stop_sequence"), &json!(" tw"))
    );
}

#[test]
fn thinking_is_a_variable_of_the_template() {
    let server = start();
    let count = |fields: Value| {
        server.post("/v1/messages/count_tokens", &anthropic(&fields)).json()["input_tokens"]
            .as_u64()
    };
    let of_chat = |variables: Value| {
        let messages = json!([{ "role": "user", "content": "the and" }]);
        let fields = json!({ "messages": messages, "tools": [openai_tool()], "chat_template_kwargs": variables });
        chat(&server, &fields).1.as_u64()
    };
    let unset = of_chat(json!({}));
    let (on, off) =
        (of_chat(json!({ "enable_thinking": true })), of_chat(json!({ "enable_thinking": false })));
    assert!(unset < on && on < off);
    assert_eq!(count(json!({})), unset);
    for kind in ["enabled", "adaptive"] {
        assert_eq!(count(json!({ "thinking": { "type": kind, "budget_tokens": 1024 } })), on);
    }
    assert_eq!(count(json!({ "thinking": { "type": "disabled" } })), off);
    let variables = json!({ "enable_thinking": false });
    let both = json!({ "thinking": { "type": "enabled" }, "chat_template_kwargs": &variables });
    assert_eq!(count(both), off);
    let prompt = |fields: &Value| {
        let fields = with(
            fields.clone(),
            &json!({ "messages": [{ "role": "user", "content": "the and" }] }),
        );
        server.post("/apply-template", &fields).json()["prompt"].as_str().unwrap().to_owned()
    };
    assert!(prompt(&json!({ "chat_template_kwargs": variables })).ends_with("assistant False"));
    assert!(prompt(&json!({ "tools": [openai_tool()] })).starts_with("{\"type\": \"function\""));
    let wrong = server.post("/v1/messages", &anthropic(&json!({ "thinking": { "type": "deep" } })));
    assert!(wrong.status == 400 && wrong.body.contains("thinking"), "{wrong:?}");
    let used = |reasoning: Value| {
        let fields = json!({ "reasoning": reasoning, "max_output_tokens": 1 });
        server.post("/v1/responses", &responses(&fields)).json()["usage"]["input_tokens"].as_u64()
    };
    assert_eq!(used(json!({ "effort": null, "summary": "auto" })), unset);
    assert_eq!(used(json!({ "effort": "none" })), off);
    assert_eq!(used(json!({ "effort": "xhigh" })), of_chat(json!({ "reasoning_effort": "high" })));
}

#[test]
fn an_answer_that_fails_says_so() {
    let mut parts = tiny("f32").parts();
    let norm = parts.tensors.iter_mut().find(|tensor| tensor.name == "output_norm.weight").unwrap();
    norm.bytes = f32::NAN.to_le_bytes().repeat(norm.bytes.len() / 4);
    let server = start_on(parts);
    let stream = json!({ "stream": true });
    let events = server.post("/v1/responses", &responses(&stream)).named_events();
    let (name, event) = events.last().unwrap();
    let response = &event["response"];
    assert_eq!((&**name, &response["status"]), ("response.failed", &json!("failed")));
    assert_eq!(response["error"]["code"], "server_error");
    let events = server.post("/v1/messages", &anthropic(&stream)).named_events();
    let (name, event) = events.last().unwrap();
    assert_eq!((&**name, &event["error"]["type"]), ("error", &json!("api_error")));
}
