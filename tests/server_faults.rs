//! Faults that other servers had, each with the test that this one does not have it. What its clients need is in
//! `server.rs`, `server_apis.rs` and `server_others.rs`.
//!
//! | fault | test |
//! |---|---|
//! | pieces of calls without `index` or `id` | [`pieces_of_a_call_have_an_index_and_join_to_json`] |
//! | a grammar that holds inside thoughts | [`a_grammar_begins_behind_the_thought`] |
//! | prompts of models with windows read again | `engine.rs`: `a_prefix_is_copied_from_where_it_is` |
//! | speculation that loses with several slots | `planning.rs`: `a_drafter_that_is_never_right_is_hardly_asked`, and what trees cost beside others: `src/planner/plan.rs` |
//! | no switch for speculation in a request | `server_apis.rs`: `the_page_gets_the_pieces_of_each_round`; `generation.rs`: `drafting_is_switched_for_each_request` |
//! | texts that change under speculation | `speculation.rs`, `trees.rs`, `lossless.rs`; `server.rs`: `answers_side_by_side_are_those_that_each_request_gets_alone` |
//! | rows of a slot in two passes | `lossless.rs`, `engine.rs`: `a_long_prompt_stops_nobody_for_more_than_a_chunk` |
//! | drafting that starts anew unless sequences are as long | `engine.rs`: `sequences_of_all_kinds_live_side_by_side` |
//! | no drafting under a grammar | `constrained.rs`: `every_whole_answer_is_one_that_the_grammar_allows`, `what_must_follow_needs_no_round_of_its_own` |
//! | tools that run elsewhere are refused | [`tools_that_run_elsewhere_are_left_out`]; `server_others.rs`: `responses_are_whole_and_events_in_their_order` |
//! | a header that changes defeats the cache | [`conversations_with_other_headers_are_each_found_again`] |
//! | a grammar that exceeds the parser's limits | [`a_grammar_that_cannot_go_on_ends_the_answer`] |

#![cfg(unix)]

mod common;
#[path = "common/server.rs"]
mod server;

use common::tiny::tiny;
use serde_json::{Value, json};
use server::Server;
use std::time::{Duration, Instant};

const CHAT: &str = "/v1/chat/completions";

fn user(text: &str) -> Value {
    json!([{ "role": "user", "content": text }])
}

/// A template that writes tools and calls as Hermes does.
const HERMES: &str = "{% for t in tools or [] %}{{ t.function | tojson }}{% endfor %}\
                      {% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}\
                      {% if false %}<tool_call>{% endif %}assistant: ";

#[test]
fn pieces_of_a_call_have_an_index_and_join_to_json() {
    let server = Server::start(&tiny("f32").parts(), &["--chat-template", HERMES]);
    let city = json!({
        "type": "object",
        "properties": { "city": { "enum": ["Paris", "Rome"] } },
        "required": ["city"], "additionalProperties": false,
    });
    let tool = |name: &str| json!({ "type": "function", "function": { "name": name, "parameters": city } });
    let body = json!({
        "messages": user("the"), "tools": [tool("weather")], "stream": true,
        "tool_choice": "required", "parallel_tool_calls": true, "max_tokens": 180, "seed": 2,
        // White space, of which JSON may have any number.
        "logit_bias": { "9": -100, "10": -100, "13": -100, "32": -100, "268": -100 },
    });
    let events = server.post(CHAT, &body).events();
    let mut calls: Vec<(String, String, String)> = Vec::new();
    let deltas = events.iter().filter_map(|event| event["choices"][0]["delta"].as_object());
    for piece in deltas.filter_map(|delta| delta.get("tool_calls")?.as_array()).flatten() {
        let index = piece["index"].as_u64().expect("each piece has an index") as usize;
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        if index == calls.len() {
            assert_eq!(piece["type"], "function");
            calls.push((text(&piece["id"]), text(&piece["function"]["name"]), String::new()));
        }
        calls[index].2.push_str(&text(&piece["function"]["arguments"]));
    }
    assert!(!calls.is_empty(), "{events:?}");
    for (i, (id, name, arguments)) in calls.iter().enumerate() {
        assert!(!id.is_empty() && calls.iter().filter(|other| other.0 == *id).count() == 1);
        assert_eq!(name, "weather");
        // The last may be cut off by the length.
        let arguments = serde_json::from_str::<Value>(arguments);
        match arguments {
            Ok(arguments) => assert!(["Paris", "Rome"].iter().any(|c| arguments["city"] == *c)),
            Err(error) => assert!(i > 0 && i + 1 == calls.len(), "{error}: {calls:?}"),
        }
    }
}

#[test]
fn a_grammar_begins_behind_the_thought() {
    let template =
        |end: &str| format!("{{% for m in messages %}}{{{{ m.content }}}}{{% endfor %}}{end}");
    let message = |end: &str, fields: Value| {
        let server = Server::start(&tiny("f32").parts(), &["--chat-template", &template(end)]);
        let mut body = json!({ "messages": user("the"), "max_tokens": 20, "temperature": 0 });
        body.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        let answer = server.post(CHAT, &body);
        assert_eq!(answer.status, 200, "{}", answer.body);
        answer.json()["choices"][0]["message"].clone()
    };
    let red = json!({ "response_format": {
        "type": "json_schema", "json_schema": { "name": "n", "schema": { "enum": ["red"] } },
    } });
    assert_eq!(message("assistant: ", red.clone())["content"], "\"red\"");
    let free = message("<think>\n", json!({}));
    assert_eq!(message("<think>\n", red), free);
    assert!(free["reasoning_content"].as_str().unwrap().len() > 3, "{free}");
}

#[test]
fn tools_that_run_elsewhere_are_left_out() {
    let server = Server::start(&tiny("f32").parts(), &[]);
    let body = |tools: Value| json!({ "messages": user("the"), "max_tokens": 4, "tools": tools });
    let elsewhere = json!([{ "type": "web_search" }, { "type": "custom", "name": "shell" }]);
    assert_eq!(server.post(CHAT, &body(elsewhere)).status, 200);
}

/// What other clients write before a conversation changes with each; what stands behind it stays.
#[test]
fn conversations_with_other_headers_are_each_found_again() {
    let server = Server::start(&tiny("f32").parts(), &["-np", "1"]);
    // The tokens of a conversation and how many of them were in the cache.
    let tokens = |header: &str, n: usize| {
        let text = format!("version {header}; {}", "the and in of ".repeat(20 + n));
        let body = json!({ "messages": user(&text), "max_tokens": 2 });
        let usage = &server.post(CHAT, &body).json()["usage"];
        let cached = &usage["prompt_tokens_details"]["cached_tokens"];
        (usage["prompt_tokens"].as_u64().unwrap(), cached.as_u64().unwrap())
    };
    for header in ["a", "b", "c"] {
        let (n, cached) = tokens(header, 0);
        assert!(cached < 60 && n > 80, "{header} is new: {cached} of {n}");
    }
    for n in 1..3 {
        for header in ["a", "b", "c"] {
            let (n, cached) = tokens(header, n);
            assert!(n - cached < 60, "{header} is known: {cached} of {n}");
        }
    }
}

#[test]
fn a_grammar_that_cannot_go_on_ends_the_answer() {
    let server = Server::start(&tiny("f32").parts(), &[]);
    let start = Instant::now();
    // Its text has no end.
    let endless = "root ::= [abc] [abc] more\nmore ::= \"xy\" more";
    let body = |stream: bool| json!({ "prompt": "the", "max_tokens": 200, "grammar": endless, "seed": 1, "stream": stream });
    let whole = server.post("/v1/completions", &body(false)).json();
    let choice = &whole["choices"][0];
    assert_eq!(choice["finish_reason"], "length", "{whole}");
    let text = choice["text"].as_str().unwrap();
    let is_of_grammar = |(i, c): (usize, char)| match i {
        0 | 1 => "abc".contains(c),
        i => c == if i % 2 == 0 { 'x' } else { 'y' },
    };
    assert!(text.len() < 200 && text.chars().enumerate().all(is_of_grammar), "{text:?}");
    let events = server.post("/v1/completions", &body(true)).events();
    let streamed = events.iter().map(|event| event["choices"][0]["text"].as_str().unwrap());
    assert_eq!(streamed.collect::<String>(), text);
    assert_eq!(events.last().unwrap()["choices"][0]["finish_reason"], "length");
    assert!(start.elapsed() < Duration::from_secs(30), "{:?}", start.elapsed());
    // The slot is free for others.
    let other = json!({ "prompt": "the", "max_tokens": 2, "ignore_eos": true });
    assert_eq!(server.post("/v1/completions", &other).json()["usage"]["completion_tokens"], 2);
}
