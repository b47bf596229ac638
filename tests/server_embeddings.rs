//! What `dovetail-server` computes of texts alone: embeddings, and log probabilities of prompts.

#![cfg(unix)]

mod common;
#[path = "common/server.rs"]
mod server;

use common::gguf::Parts;
use common::tiny::{N_VOCAB, tiny};
use dovetail::gguf::Value as Key;
use serde_json::{Value, json};
use server::{Server, read_until, side_by_side};

const PATH: &str = "/v1/embeddings";

fn model() -> Parts {
    tiny("f32").parts()
}

fn start() -> Server {
    Server::start(&model(), &["-np", "2", "-c", "256", "--alias", "tiny"])
}

/// The vectors of an answer.
fn vectors(body: &Value) -> Vec<Vec<f64>> {
    let data = body["data"].as_array().unwrap_or_else(|| panic!("{body}"));
    let vector = |entry: &Value| serde_json::from_value(entry["embedding"].clone()).unwrap();
    data.iter().map(vector).collect()
}

fn one(server: &Server, text: &str) -> Vec<f64> {
    vectors(&server.post(PATH, &json!({ "input": text })).json()).remove(0)
}

/// The bytes of base64.
fn unbase64(text: &str) -> Vec<u8> {
    let digits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let (mut bits, mut n, mut out) = (0u32, 0, Vec::new());
    for digit in text.trim_end_matches('=').chars() {
        bits = bits << 6 | digits.find(digit).unwrap() as u32;
        n += 6;
        if n >= 8 {
            n -= 8;
            out.push((bits >> n) as u8);
        }
    }
    out
}

#[test]
fn a_text_has_one_vector_in_every_form() {
    let server = start();
    let whole =
        server.post(PATH, &json!({ "input": "the and", "model": "x", "user": "me" })).json();
    let vector = vectors(&whole).remove(0);
    assert_eq!(vector.len(), tiny("f32").n_embd);
    assert!((vector.iter().map(|x| x * x).sum::<f64>() - 1.0).abs() < 1e-5, "its length is 1");
    assert_eq!((&whole["object"], &whole["model"]), (&json!("list"), &json!("tiny")));
    assert_eq!(whole["data"][0]["object"], "embedding");
    let tokens = server.post("/tokenize", &json!({ "content": "the and", "add_special": true }));
    let tokens = tokens.json()["tokens"].clone();
    let n = tokens.as_array().unwrap().len();
    assert_eq!(whole["usage"], json!({ "prompt_tokens": n, "total_tokens": n }));
    for input in [json!(["the and"]), tokens.clone(), json!([tokens])] {
        assert_eq!(
            vectors(&server.post(PATH, &json!({ "input": input })).json()),
            std::slice::from_ref(&vector)
        );
    }
    let coded =
        json!({ "input": "the and", "encoding_format": "base64", "dimensions": vector.len() });
    let coded = server.post(PATH, &coded).json();
    let bytes = unbase64(coded["data"][0]["embedding"].as_str().unwrap());
    let floats = bytes.chunks(4).map(|four| f32::from_le_bytes(four.try_into().unwrap()));
    let expected: Vec<f32> = vector.iter().map(|x| *x as f32).collect();
    assert_eq!(floats.collect::<Vec<_>>(), expected);
    // Ollama's clients get the same.
    let vector = json!(vector);
    let embed = |input: Value| server.post("/api/embed", &json!({ "input": input })).json();
    assert_eq!(embed(json!("the and"))["embeddings"], json!([vector]));
    assert_eq!(embed(json!(["the and", "the and"]))["embeddings"], json!([vector, vector]));
    assert_eq!(embed(json!("the and"))["prompt_eval_count"], n);
    assert_eq!(embed(json!(""))["embeddings"], json!([]), "the model is loaded already");
    let single = server.post("/api/embeddings", &json!({ "prompt": "the and" })).json();
    assert_eq!(single, json!({ "embedding": vector }));
}

#[test]
fn many_texts_come_in_order_beside_streams_and_do_not_fill_the_queue() {
    let server = Server::start(&model(), &["-np", "2", "-c", "256", "--queue", "4"]);
    let texts: Vec<String> =
        (1..20).map(|n| "an and ".repeat(n % 7 + 1) + &n.to_string()).collect();
    let alone: Vec<_> = texts.iter().map(|text| one(&server, text)).collect();
    let endless = json!({ "prompt": "the", "max_tokens": -1, "ignore_eos": true, "stream": true });
    let mut beside = server.send("POST", "/v1/completions", "", &endless.to_string());
    read_until(&mut beside, "data: ");
    let all = side_by_side(&[(), ()], |()| server.post(PATH, &json!({ "input": texts })));
    for all in all {
        let all = all.json();
        assert_eq!(vectors(&all), alone);
        let indices = all["data"].as_array().unwrap().iter().map(|entry| entry["index"].as_u64());
        assert!(indices.eq((0..texts.len() as u64).map(Some)));
    }
}

#[test]
fn the_flag_and_the_models_file_say_how_vectors_are_made() {
    let of = |kind: Option<u32>, flags: &[&str]| {
        let mut parts = model();
        parts.set("llama.pooling_type", kind.map(Key::U32));
        let server = Server::start(&parts, flags);
        server.post(PATH, &json!({ "input": "the and in" }))
    };
    let mean = vectors(&of(None, &["--pooling", "mean"]).json());
    let last = vectors(&of(None, &["--pooling", "last"]).json());
    assert_ne!(mean, last);
    assert_eq!(vectors(&of(None, &[]).json()), last);
    assert_eq!(vectors(&of(Some(1), &[]).json()), mean);
    assert_eq!(vectors(&of(Some(3), &[]).json()), last);
    assert_eq!(vectors(&of(Some(1), &["--pooling", "last"]).json()), last);
    let refused = of(Some(2), &[]);
    assert_eq!((refused.status, refused.body.contains("--pooling")), (501, true));
    assert_eq!(vectors(&of(Some(2), &["--pooling", "mean"]).json()), mean);
}

#[test]
fn what_has_no_vector_is_refused() {
    let server = start();
    let long = "x".repeat(400);
    for (fields, part) in [
        (json!({}), "is missing"),
        (json!({ "input": "" }), "has no token"),
        (json!({ "input": [] }), "has no token"),
        (json!({ "input": [[]] }), "has no token"),
        (json!({ "input": ["a", ""] }), "has no token"),
        (json!({ "input": 7 }), "wrong value"),
        (json!({ "input": [100_000] }), "is no token"),
        (json!({ "input": long }), "may have 128"),
        (json!({ "input": vec!["a"; 2049] }), "more than 2048"),
        (json!({ "input": "a", "dimensions": 3 }), "cannot be chosen"),
        (json!({ "input": "a", "encoding_format": "hex" }), "encoding_format"),
    ] {
        let refused = server.post(PATH, &fields);
        assert_eq!(refused.status, 400, "{refused:?}");
        assert!(refused.body.contains(part), "{part}: {}", refused.body);
    }
    // Ollama cuts texts off unless it is told not to.
    let embed =
        |truncate: bool| server.post("/api/embed", &json!({ "input": long, "truncate": truncate }));
    assert_eq!((embed(true).status, embed(false).status), (200, 400));
    assert_eq!(embed(true).json()["prompt_eval_count"], 127);
    let wrong = json!({ "input": "a", "dimensions": 3 });
    assert_eq!(server.post("/api/embed", &wrong).status, 400);
}

fn score(server: &Server, prompt: &Value, fields: Value) -> Value {
    let mut body = json!({
        "prompt": prompt, "echo": true, "max_tokens": 0, "logprobs": 3, "temperature": 0,
        "ignore_eos": true,
    });
    body.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    server.post("/v1/completions", &body).json()
}

#[test]
fn a_prompt_has_the_log_probabilities_that_its_text_had_as_an_answer() {
    let server = start();
    let first = server.post("/tokenize", &json!({ "content": "the and in" })).json();
    let first: Vec<u32> = serde_json::from_value(first["tokens"].clone()).unwrap();
    let asked = json!({ "prompt": first, "n_predict": 40, "temperature": 0, "ignore_eos": true });
    let answer: Vec<u32> =
        serde_json::from_value(server.post("/completion", &asked).json()["tokens"].clone())
            .unwrap();
    let prompt = json!([&first[..], &answer].concat());
    let generated = score(&server, &json!(first), json!({ "max_tokens": 40, "echo": false }));
    let generated = &generated["choices"][0]["logprobs"];
    let whole = score(&server, &prompt, json!({}));
    let choice = &whole["choices"][0];
    assert_eq!(
        (&choice["finish_reason"], &whole["usage"]["completion_tokens"]),
        (&json!("length"), &json!(0))
    );
    for name in ["tokens", "token_logprobs", "top_logprobs"] {
        let list = choice["logprobs"][name].as_array().unwrap();
        assert_eq!(list.len(), first.len() + 40, "{name}");
        assert_eq!(list[first.len()..], *generated[name].as_array().unwrap(), "{name}");
        assert_eq!(list[0].is_null(), name != "tokens", "the first has no probability");
        assert!(list[1..].iter().all(|entry| !entry.is_null()));
    }
    // One token more is what the evaluation harness asks for; and a stream brings the same.
    let more = score(&server, &json!([prompt, [1, 2]]), json!({ "max_tokens": 1 }));
    let logprobs = &more["choices"][0]["logprobs"]["token_logprobs"];
    let n = first.len() + 40;
    assert_eq!(
        logprobs.as_array().unwrap()[..n],
        choice["logprobs"]["token_logprobs"].as_array().unwrap()[..]
    );
    assert_eq!(logprobs.as_array().unwrap().len(), n + 1);
    assert_eq!(more["choices"][1]["logprobs"]["tokens"].as_array().unwrap().len(), 3);
    // A token that ends the answer counts as one of it.
    let end = json!({ "max_tokens": 1, "ignore_eos": false, "logit_bias": { ((N_VOCAB - 1).to_string()): 100 } });
    let ended = score(&server, &prompt, end);
    assert_eq!(ended["choices"][0]["finish_reason"], "stop");
    let logprobs = ended["choices"][0]["logprobs"]["token_logprobs"].as_array().unwrap();
    assert_eq!(logprobs[..n], choice["logprobs"]["token_logprobs"].as_array().unwrap()[..]);
    assert_eq!(logprobs[n..], [Value::Null]);
    for n in [0, 2] {
        let streamed = json!({
            "prompt": prompt, "echo": true, "max_tokens": n, "logprobs": 3, "temperature": 0,
            "ignore_eos": true, "stream": true,
        });
        let events = server.post("/v1/completions", &streamed).events();
        let whole = score(&server, &prompt, json!({ "max_tokens": n }));
        for name in ["tokens", "token_logprobs", "top_logprobs", "text_offset"] {
            let lists = events.iter().filter_map(|e| e["choices"][0]["logprobs"][name].as_array());
            let list: Vec<Value> = lists.flatten().cloned().collect();
            assert_eq!(json!(list), whole["choices"][0]["logprobs"][name], "{name}, {n}");
        }
    }
}

#[test]
fn offsets_count_characters_of_the_text() {
    let server = start();
    let prompt = "the and é in";
    let whole = score(&server, &json!(prompt), json!({ "max_tokens": 2 }));
    let choice = &whole["choices"][0];
    let text: Vec<char> = choice["text"].as_str().unwrap().chars().collect();
    assert!(text.iter().collect::<String>().starts_with(prompt));
    let list = |name: &str| choice["logprobs"][name].as_array().unwrap().clone();
    let mut found = 0;
    for (token, offset) in list("tokens").iter().zip(list("text_offset")) {
        let token = token.as_str().unwrap();
        let offset = offset.as_u64().unwrap() as usize;
        if token.is_ascii() && offset < prompt.chars().count() {
            let there: String = text[offset..].iter().take(token.len()).collect();
            assert_eq!(there, token, "{choice}");
            found += 1;
        }
    }
    assert!(found > 3, "{choice}");
    for (name, value, param) in
        [("logprobs", json!(21), "logprobs"), ("suffix", json!("x"), "suffix")]
    {
        let refused = score(&server, &json!("a"), json!({ name: value }));
        assert_eq!(refused["error"]["param"], param, "{refused}");
    }
    let plain = score(&server, &json!("the"), json!({ "logprobs": null }));
    assert_eq!(plain["choices"][0]["text"], "the");
    assert!(plain["choices"][0]["logprobs"].is_null());
}
