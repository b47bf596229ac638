//! The interfaces of `dovetail-server`: what each of them answers, whole and as a stream.

#![cfg(unix)]

mod common;
#[path = "common/server.rs"]
mod server;

use common::tiny::{N_VOCAB, tiny};
use serde_json::{Value, json};
use server::{Response, Server};

fn start() -> Server {
    Server::start(&tiny("f32").parts(), &["-np", "2", "-c", "1024", "--alias", "tiny/one"])
}

fn chat(fields: Value) -> Value {
    let mut body = json!({
        "messages": [{ "role": "user", "content": "the and" }],
        "max_tokens": 12, "seed": 3, "ignore_eos": true,
    });
    body.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    body
}

fn refused(response: &Response) -> (u16, String) {
    (response.status, response.json()["error"]["param"].as_str().unwrap_or_default().to_owned())
}

#[test]
fn a_chat_is_the_same_whole_and_as_a_stream() {
    let server = start();
    let path = "/v1/chat/completions";
    let whole = server.post(path, &chat(json!({}))).json();
    let message = &whole["choices"][0]["message"];
    assert_eq!(
        (&whole["object"], &message["role"]),
        (&json!("chat.completion"), &json!("assistant"))
    );
    assert_eq!(
        (&whole["model"], &whole["choices"][0]["finish_reason"]),
        (&json!("tiny/one"), &json!("length"))
    );
    assert_eq!(whole["usage"]["completion_tokens"], 12);
    assert_eq!(whole["timings"]["predicted_n"], 12);
    assert_eq!(
        server.post("/chat/completions", &chat(json!({}))).json()["choices"],
        whole["choices"]
    );
    let parts = json!([{ "type": "text", "text": "the" }, { "type": "text", "text": " and" }]);
    let of_parts = chat(json!({ "messages": [{ "role": "user", "content": parts }] }));
    assert_eq!(server.post(path, &of_parts).json()["choices"], whole["choices"]);

    let options = json!({ "stream": true, "stream_options": { "include_usage": true } });
    let events = server.post(path, &chat(options)).events();
    assert_eq!(events[0]["choices"][0]["delta"]["role"], "assistant");
    let [finish, usage] = &events[events.len() - 2..] else { panic!("{events:?}") };
    assert_eq!(finish["choices"][0]["finish_reason"], "length");
    assert_eq!((&usage["choices"], &usage["usage"]["completion_tokens"]), (&json!([]), &json!(12)));
    assert_eq!(usage["usage"]["prompt_tokens"], whole["usage"]["prompt_tokens"]);
    let deltas = events.iter().filter_map(|event| event["choices"][0]["delta"]["content"].as_str());
    assert_eq!(deltas.collect::<String>(), message["content"].as_str().unwrap());
    let plain = server.post(path, &chat(json!({ "stream": true }))).events();
    assert!(plain.iter().all(|event| event["usage"].is_null()));
    assert_eq!(plain.last().unwrap()["timings"]["predicted_n"], 12);
}

#[test]
fn several_answers_have_seeds_of_their_own() {
    let server = start();
    let path = "/v1/chat/completions";
    let three = server.post(path, &chat(json!({ "n": 3, "temperature": 2.0 }))).json();
    let contents: Vec<_> =
        (0..3).map(|i| three["choices"][i]["message"]["content"].clone()).collect();
    for (i, content) in contents.iter().enumerate() {
        let alone = server.post(path, &chat(json!({ "seed": 3 + i, "temperature": 2.0 }))).json();
        assert_eq!(alone["choices"][0]["message"]["content"], *content);
        assert_eq!(three["choices"][i]["index"], i);
    }
    assert_ne!(contents[0], contents[1]);
    assert_eq!(three["usage"]["completion_tokens"], 36);
    let events =
        server.post(path, &chat(json!({ "n": 3, "temperature": 2.0, "stream": true }))).events();
    for (i, content) in contents.iter().enumerate() {
        let choices = events.iter().map(|event| &event["choices"][0]).filter(|c| c["index"] == i);
        let deltas = choices.filter_map(|choice| choice["delta"]["content"].as_str());
        assert_eq!(deltas.collect::<String>(), content.as_str().unwrap());
    }
}

#[test]
fn stops_and_sampling_count() {
    let server = start();
    let path = "/v1/chat/completions";
    let content = |fields: Value| {
        let body = server.post(path, &chat(fields)).json();
        let choice = &body["choices"][0];
        (choice["message"]["content"].as_str().unwrap().to_owned(), choice["finish_reason"].clone())
    };
    let (text, _) = content(json!({ "temperature": 0 }));
    let chars: Vec<char> = text.chars().collect();
    let stop: String = chars[chars.len() / 2..chars.len() / 2 + 2].iter().collect();
    let before = text.split(&stop).next().unwrap();
    assert_eq!(content(json!({ "temperature": 0, "stop": stop })), (before.into(), json!("stop")));
    assert_eq!(content(json!({ "temperature": 0, "stop": ["@@", stop] })).0, before);
    assert_eq!(content(json!({ "temperature": 0, "max_completion_tokens": 12 })).0, text);
    assert_eq!(content(json!({ "temperature": 9, "top_k": 1 })).0, text);
    assert_ne!(
        content(json!({ "temperature": 0, "presence_penalty": 2.0, "frequency_penalty": 2.0 })).0,
        text
    );
    let (only, _) =
        content(json!({ "logit_bias": { "65": 100 }, "max_tokens": 3, "temperature": 0 }));
    assert_eq!(only.chars().collect::<std::collections::HashSet<_>>().len(), 1, "{only}");
    assert_ne!(
        content(json!({ "temperature": 2, "seed": 5 })),
        content(json!({ "temperature": 2, "seed": 6 }))
    );
}

#[test]
fn log_probabilities_are_the_same_whole_and_as_a_stream() {
    let server = start();
    let wanted = json!({ "logprobs": true, "top_logprobs": 3 });
    let whole = server.post("/v1/chat/completions", &chat(wanted.clone())).json();
    let whole = whole["choices"][0]["logprobs"]["content"].as_array().unwrap().clone();
    assert_eq!(whole.len(), 12);
    for token in &whole {
        let top = token["top_logprobs"].as_array().unwrap();
        assert_eq!(top.len(), 3);
        assert!(top[0]["logprob"].as_f64() >= token["logprob"].as_f64());
        assert!(token["logprob"].as_f64().unwrap() <= 0.0 && token["bytes"].is_array());
    }
    let mut streamed = wanted;
    streamed["stream"] = json!(true);
    let events = server.post("/v1/chat/completions", &chat(streamed)).events();
    let contents =
        events.iter().filter_map(|event| event["choices"][0]["logprobs"]["content"].as_array());
    assert_eq!(contents.flatten().cloned().collect::<Vec<_>>(), whole);
    let body = json!({ "prompt": "the", "max_tokens": 4, "logprobs": 2, "ignore_eos": true, "temperature": 0 });
    let logprobs = server.post("/v1/completions", &body).json()["choices"][0]["logprobs"].clone();
    assert_eq!(logprobs["token_logprobs"].as_array().unwrap().len(), 4);
    assert_eq!(logprobs["top_logprobs"][0].as_object().unwrap().len(), 2);
    assert_eq!(logprobs["text_offset"][0], 0);
    let alone = server.post("/v1/chat/completions", &chat(json!({ "top_logprobs": 2 })));
    assert_eq!(refused(&alone), (400, "top_logprobs".into()));
}

#[test]
fn completions_take_texts_tokens_and_lists() {
    let server = start();
    let post = |prompt: Value, more: Value| {
        let mut body = json!({ "prompt": prompt, "max_tokens": 5, "seed": 1, "ignore_eos": true });
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        server.post("/v1/completions", &body)
    };
    let text = |body: &Value, i: usize| body["choices"][i]["text"].as_str().unwrap().to_owned();
    let a = text(&post(json!("the and"), json!({})).json(), 0);
    let tokens =
        server.post("/tokenize", &json!({ "content": "the and" })).json()["tokens"].clone();
    assert_eq!(text(&post(tokens, json!({})).json(), 0), a);
    let b = text(&post(json!("in"), json!({})).json(), 0);
    let both = post(json!(["the and", "in"]), json!({})).json();
    assert_eq!((text(&both, 0), text(&both, 1)), (a.clone(), b));
    assert_eq!(
        text(&post(json!("the and"), json!({ "echo": true })).json(), 0),
        format!("the and{a}")
    );
    let events = post(json!("the and"), json!({ "echo": true, "stream": true })).events();
    let streamed: String = events.iter().map(|event| text(event, 0)).collect();
    assert_eq!(streamed, format!("the and{a}"));
    // Each prompt counts, and once for all its answers.
    let n_prompt = |prompt: Value, n: usize| {
        let usage = post(prompt, json!({ "n": n })).json()["usage"].clone();
        usage["prompt_tokens"].as_u64().unwrap()
    };
    let alone = n_prompt(json!("the and"), 1) + n_prompt(json!("in"), 1);
    assert_eq!(n_prompt(json!(["the and", "in"]), 1), alone);
    assert_eq!(n_prompt(json!(["the and", "in"]), 2), alone);
    for (prompt, n) in
        [(json!("a"), 0), (json!("a"), 1_000_000_000_000_u64), (json!(["a", "b"]), 65)]
    {
        let many = post(prompt, json!({ "n": n, "echo": true }));
        assert_eq!(refused(&many), (400, "n".into()), "{many:?}");
    }
    let suffix = post(json!("a"), json!({ "suffix": "b" }));
    assert!(suffix.status == 501 && suffix.body.contains("no tokens for code"), "{suffix:?}");
}

#[test]
fn what_is_not_supported_is_refused_by_name() {
    let server = start();
    let path = "/v1/chat/completions";
    for (name, value) in [
        ("tool_choice", json!("required")),
        ("response_format", json!({ "type": "xml" })),
        ("grammar", json!(5)),
    ] {
        let response = server.post(path, &chat(json!({ name: value })));
        assert_eq!(refused(&response), (400, name.into()), "{}", response.body);
    }
    // This model's template has no place for them.
    let tools = json!([{ "type": "function", "function": { "name": "f" } }]);
    let refused_tools = server.post(path, &chat(json!({ "tools": tools })));
    assert!(refused_tools.status == 400 && refused_tools.body.contains("tools"));
    let image = json!([{ "type": "image_url", "image_url": { "url": "data:," } }]);
    let image =
        server.post(path, &chat(json!({ "messages": [{ "role": "user", "content": image }] })));
    assert_eq!(refused(&image), (400, "content".into()));
    assert!(image.body.contains("only text is understood, so leave it out"), "{}", image.body);
    for messages in
        [json!([]), json!([{ "role": "king", "content": "a" }]), json!("a"), json!(null)]
    {
        assert_eq!(
            server.post(path, &chat(json!({ "messages": messages }))).status,
            400,
            "{messages}"
        );
    }
    assert_eq!(
        server.post(path, &chat(json!({ "user": "me", "store": false, "tools": [] }))).status,
        200
    );
}

/// The same grammars through each interface, and what a chat without them would never say.
#[test]
fn answers_are_what_a_grammar_allows() {
    let server = start();
    let schema = json!({ "enum": ["red"] });
    let named = json!({ "type": "json_schema", "json_schema": { "name": "n", "schema": schema } });
    let messages = json!([{ "role": "user", "content": "a" }]);
    for (path, body, place) in [
        ("/v1/chat/completions", json!({ "response_format": named }), "/choices/0/message/content"),
        ("/v1/chat/completions", json!({ "json_schema": schema }), "/choices/0/message/content"),
        (
            "/v1/chat/completions",
            json!({ "grammar": "root ::= \"\\\"red\\\"\"" }),
            "/choices/0/message/content",
        ),
        ("/v1/completions", json!({ "prompt": "a", "response_format": named }), "/choices/0/text"),
        (
            "/v1/responses",
            json!({ "input": "a", "text": { "format": { "type": "json_schema", "name": "n", "schema": schema } } }),
            "/output/0/content/0/text",
        ),
        ("/api/chat", json!({ "stream": false, "format": schema }), "/message/content"),
        ("/completion", json!({ "prompt": "a", "json_schema": schema }), "/content"),
    ] {
        let mut body = body;
        if path.contains("chat") {
            body["messages"] = messages.clone();
        }
        let answer = server.post(path, &body);
        assert_eq!(answer.status, 200, "{path}: {}", answer.body);
        assert_eq!(
            answer.json().pointer(place),
            Some(&json!("\"red\"")),
            "{path}: {}",
            answer.body
        );
    }
}

#[test]
fn the_model_is_listed() {
    let server = start();
    let list = server.get("/v1/models").json();
    let model = &list["data"][0];
    assert_eq!((&list["object"], &model["id"]), (&json!("list"), &json!("tiny/one")));
    assert!(model["created"].as_u64().unwrap() > 1_700_000_000);
    assert_eq!(
        (&model["meta"]["n_ctx"], &model["meta"]["n_vocab"]),
        (&json!(512), &json!(N_VOCAB))
    );
    assert_eq!(server.get("/v1/models/tiny/one").json(), *model);
    assert_eq!(server.get("/v1/models/other").status, 404);
}

#[test]
fn what_llama_cpp_has_alone() {
    let server = start();
    let tokens = server
        .post("/tokenize", &json!({ "content": "<|im_end|>the", "with_pieces": true }))
        .json();
    assert_eq!(tokens["tokens"][0]["piece"], "<|im_end|>");
    let plain = json!({ "content": "<|im_end|>the é", "parse_special": false });
    let plain = server.post("/tokenize", &plain).json()["tokens"].clone();
    assert!(plain.as_array().unwrap().len() > 5, "{plain}");
    let text = server.post("/detokenize", &json!({ "tokens": plain })).json();
    assert_eq!(text["content"], "<|im_end|>the é");
    let prompt = server.post("/apply-template", &chat(json!({}))).json();
    assert_eq!(prompt["prompt"], "<|im_start|>user\nthe and<|im_end|>\n<|im_start|>assistant\n");
    let props = server.get("/props").json();
    assert_eq!(
        (&props["total_slots"], &props["default_generation_settings"]["n_ctx"]),
        (&json!(2), &json!(512))
    );
    assert_eq!(server.get("/slots").json().as_array().unwrap().len(), 2);

    let body =
        json!({ "prompt": "the", "n_predict": 6, "ignore_eos": true, "seed": 4, "n_probs": 2 });
    let whole = server.post("/completion", &body).json();
    assert_eq!((&whole["stop_type"], &whole["tokens_predicted"]), (&json!("limit"), &json!(6)));
    assert_eq!(whole["completion_probabilities"].as_array().unwrap().len(), 6);
    let mut streamed = body.clone();
    streamed["stream"] = json!(true);
    let stream = server.post("/completion", &streamed).body;
    let events = stream.split_terminator("\n\n").map(|event| event.strip_prefix("data: ").unwrap());
    let events: Vec<Value> = events.map(|event| serde_json::from_str(event).unwrap()).collect();
    let content: String = events.iter().map(|event| event["content"].as_str().unwrap()).collect();
    assert_eq!(
        (&*content, &events.last().unwrap()["stop"]),
        (whole["content"].as_str().unwrap(), &json!(true))
    );
    let fill_in = json!({ "input_prefix": "a", "input_suffix": "b" });
    assert_eq!(server.post("/infill", &fill_in).status, 501);
    assert!(server.metric("llamacpp:tokens_predicted_total") >= 12.0);
    assert_eq!(server.metric("dovetail:drafted_tokens_total"), 0.0);
}

#[test]
fn code_is_filled_in_by_the_models_own_tokens() {
    let mut parts = tiny("f32").parts();
    for (key, byte) in [("fim_pre", b'P'), ("fim_suf", b'S'), ("fim_mid", b'M')] {
        let key = format!("tokenizer.ggml.{key}_token_id");
        parts.set(&key, Some(dovetail::gguf::Value::U32(u32::from(byte))));
    }
    let server = Server::start(&parts, &[]);
    let usual = json!({ "max_tokens": 6, "seed": 4, "ignore_eos": true });
    let post = |path: &str, fields: Value| {
        let mut body = usual.clone();
        body.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        server.post(path, &body).json()
    };
    let prompt = json!([
        u32::from(b'P'),
        u32::from(b'a'),
        u32::from(b'S'),
        u32::from(b'b'),
        u32::from(b'M')
    ]);
    let expected = post("/completion", json!({ "prompt": prompt }))["content"].clone();
    let filled = post("/infill", json!({ "input_prefix": "a", "input_suffix": "b" }));
    assert_eq!(filled["content"], expected);
    let suffixed = post("/v1/completions", json!({ "prompt": "a", "suffix": "b" }));
    assert_eq!(suffixed["choices"][0]["text"], expected);
}

#[test]
fn the_page_gets_the_pieces_of_each_round() {
    let flags = ["--spec-type", "ngram", "--tree", "chain:3", "-np", "1", "-c", "512"];
    let server = Server::start(&tiny("f32").parts(), &flags);
    let pieces = |drafting: &str| {
        let of_page = json!({ "rounds": true, "drafting": drafting });
        let fields = json!({
            "dovetail": of_page, "stream": true, "temperature": 0, "max_tokens": 60,
            "logit_bias": { "65": 100 },
        });
        let events = server.post("/v1/chat/completions", &chat(fields)).events();
        let pieces = events.iter().filter_map(|event| event["dovetail"]["pieces"].as_array());
        pieces.flatten().cloned().collect::<Vec<_>>()
    };
    let text =
        |pieces: &[Value]| pieces.iter().map(|p| p["text"].as_str().unwrap()).collect::<String>();
    let (on, off) = (pieces("on"), pieces("off"));
    assert_eq!(text(&on), text(&off));
    assert!(on.iter().any(|piece| piece["drafted"] == true), "{on:?}");
    assert!(off.iter().all(|piece| piece["drafted"] == false));
}

/// What the assistant says last is the beginning of its answer, where the interface has it so.
#[test]
fn an_answer_that_was_begun_is_continued() {
    let server = Server::start(&tiny("f32").parts(), &[]);
    let text = "<|im_start|>user\nthe and<|im_end|>\n<|im_start|>assistant\nof in";
    let fields = json!({ "max_tokens": 12, "temperature": 0, "ignore_eos": true });
    let asked = |name: &str, value: Value| {
        let mut fields = fields.clone();
        fields[name] = value;
        fields
    };
    let expected = server.post("/v1/completions", &asked("prompt", json!(text))).json();
    let (n, expected) = (&expected["usage"]["prompt_tokens"], &expected["choices"][0]["text"]);
    let messages = json!([
        { "role": "user", "content": "the and" }, { "role": "assistant", "content": "of in" },
    ]);
    let asked = asked("messages", messages.clone());
    assert_eq!(server.post("/apply-template", &asked).json()["prompt"], text);
    let chat = server.post("/v1/chat/completions", &asked).json();
    assert_eq!(chat["choices"][0]["message"]["content"], *expected);
    assert_eq!(chat["usage"]["prompt_tokens"], *n);
    let message = server.post("/v1/messages", &asked).json();
    assert_eq!(message["content"][0]["text"], *expected, "{message}");
    let count = server.post("/v1/messages/count_tokens", &asked).json();
    assert_eq!(count["input_tokens"], *n);
    // In others it is a turn like those before.
    let input = json!({ "input": messages, "max_output_tokens": 1 });
    let of_turns = server.post("/v1/responses", &input).json()["usage"]["input_tokens"].as_u64();
    assert!(of_turns > n.as_u64());
}
