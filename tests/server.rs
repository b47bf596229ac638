//! `dovetail-server` as a program: loading and ending, many clients, clients that go away, are slow or send nonsense.

#![cfg(unix)]

mod common;
#[path = "common/server.rs"]
mod server;

use common::gguf::Parts;
use common::tiny::tiny;
use serde_json::{Value, json};
use server::{Server, read, read_until, side_by_side};
use std::io::Write;
use std::net::Shutdown;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

fn model() -> Parts {
    tiny("f32").parts()
}

/// A completion of `n` tokens, and a seed of its own.
fn completion(seed: u64, n: usize) -> Value {
    let prompt = "the and in ".repeat(1 + seed as usize % 5);
    json!({ "prompt": prompt, "max_tokens": n, "seed": seed, "ignore_eos": true, "temperature": 0.9 })
}

/// A stream that fills any buffer between server and client.
fn endless() -> Value {
    json!({ "prompt": "the", "max_tokens": -1, "ignore_eos": true, "stream": true, "logprobs": 256 })
}

fn text(body: &Value) -> String {
    body["choices"][0]["text"].as_str().unwrap_or_else(|| panic!("{body}")).to_owned()
}

#[test]
fn answers_side_by_side_are_those_that_each_request_gets_alone() {
    let server =
        Server::start(&model(), &["-np", "3", "--spec-type", "ngram", "--tree", "chain:3"]);
    let requests: Vec<Value> = (0..24).map(|seed| completion(seed, 5 + seed as usize)).collect();
    let alone: Vec<String> = requests
        .iter()
        .map(|request| text(&server.post("/v1/completions", request).json()))
        .collect();
    assert_ne!(alone[0], alone[5], "seeds count");
    let together =
        side_by_side(&requests, |request| text(&server.post("/v1/completions", request).json()));
    assert_eq!(together, alone);
    let streamed = side_by_side(&requests, |request| {
        let mut request = request.clone();
        request["stream"] = json!(true);
        let events = server.post("/v1/completions", &request).events();
        events.iter().map(text).collect::<String>()
    });
    assert_eq!(streamed, alone);
    server.wait_until_idle(Duration::from_secs(5));
    assert_eq!(server.metric("dovetail:requests_total"), 72.0);
    let processing = server.get("/slots").json();
    assert!(processing.as_array().unwrap().iter().all(|slot| slot["is_processing"] == false));
}

#[test]
fn a_client_that_goes_away_frees_its_slot() {
    let server = Server::start(&model(), &["-np", "1", "-c", "512"]);
    let mut gone = server.send("POST", "/v1/completions", "", &endless().to_string());
    read_until(&mut gone, "data: ");
    assert_eq!(server.metric("llamacpp:requests_processing"), 1.0);
    // One waits behind it, and goes away as well.
    let waiting = server.send("POST", "/v1/completions", "", &completion(1, 400).to_string());
    drop((waiting, gone));
    server.wait_until_idle(Duration::from_secs(2));
    // A whole answer of which nobody waits for the end.
    let whole = server.send("POST", "/v1/completions", "", &completion(2, 490).to_string());
    std::thread::sleep(Duration::from_millis(30));
    drop(whole);
    server.wait_until_idle(Duration::from_secs(2));
    // A client that closes its side counts as gone.
    let half = server.send("POST", "/v1/completions", "", &endless().to_string());
    half.shutdown(Shutdown::Write).unwrap();
    server.wait_until_idle(Duration::from_secs(2));
    assert_eq!(server.post("/v1/completions", &completion(3, 4)).status, 200);
}

#[test]
fn a_slow_reader_is_dropped_and_holds_up_nobody() {
    // Its answer takes longer than anybody waits for it, and fills the buffers between both many times.
    let flags = ["-np", "2", "-c", "131072", "--rope-scale", "128"];
    let server = Server::start(&model(), &flags);
    let slow = server.send("POST", "/v1/completions", "", &endless().to_string());
    let start = Instant::now();
    let mut others = 0;
    while start.elapsed() < Duration::from_secs(1)
        || server.metric("llamacpp:requests_processing") > 0.0
    {
        assert!(start.elapsed() < Duration::from_secs(30), "the slow reader keeps its slot");
        let before = Instant::now();
        assert_eq!(server.post("/v1/completions", &completion(3, 4)).status, 200);
        assert!(before.elapsed() < Duration::from_secs(3), "it waited for the slow reader");
        others += 4;
    }
    let tokens = server.metric("llamacpp:tokens_predicted_total") - f64::from(others);
    assert!((256.0..65_000.0).contains(&tokens), "it was cut off: {tokens}");
    drop(slow);
}

#[test]
fn requests_beyond_the_queue_are_refused() {
    let server = Server::start(&model(), &["-np", "1", "-c", "512", "--queue", "2"]);
    let n = |n: usize| {
        let mut request = completion(1, 400);
        request["n"] = json!(n);
        server.post("/v1/completions", &request)
    };
    let too_many = n(3);
    assert_eq!((too_many.status, &too_many.json()["error"]["param"]), (400, &json!("n")));
    let mut first = server.send("POST", "/v1/completions", "", &endless().to_string());
    read_until(&mut first, "data: ");
    let waiting: Vec<_> = (0..2)
        .map(|seed| server.send("POST", "/v1/completions", "", &completion(seed, 4).to_string()))
        .collect();
    while server.metric("llamacpp:requests_deferred") < 2.0 {
        std::thread::sleep(Duration::from_millis(2));
    }
    let refused = server.post("/v1/completions", &completion(9, 4));
    assert_eq!((refused.status, &*refused.headers["retry-after"]), (429, "1"));
    assert_eq!(refused.json()["error"]["code"], "rate_limit_exceeded");
    drop(first);
    for waiting in waiting {
        assert_eq!(read(waiting).status, 200);
    }
}

#[test]
fn keys_are_asked_for() {
    let server = Server::start(&model(), &["--api-key", "one,two"]);
    let body = completion(1, 2).to_string();
    let status =
        |headers: &str| read(server.send("POST", "/v1/completions", headers, &body)).status;
    let refused = read(server.send("POST", "/v1/completions", "", &body));
    assert_eq!((refused.status, &*refused.headers["www-authenticate"]), (401, "Bearer"));
    assert_eq!(refused.json()["error"]["type"], "authentication_error");
    assert_eq!(status("Authorization: Bearer three\r\n"), 401);
    assert_eq!(status("Authorization: Bearer two\r\n"), 200);
    assert_eq!(status("x-api-key: one\r\n"), 200);
    for path in ["/health", "/v1/models", "/", "/page/page.js"] {
        assert_eq!(server.get(path).status, 200, "{path}");
    }
    for path in ["/props", "/slots", "/metrics", "/nowhere"] {
        assert_eq!(server.get(path).status, 401, "{path}");
    }
}

#[test]
fn nonsense_is_refused_with_a_reason() {
    let server = Server::start(&model(), &["-np", "1", "-c", "64"]);
    let post = |body: &str| read(server.send("POST", "/v1/completions", "", body));
    for body in ["", "{", "[]", "null", "\u{0}\u{1}", "{\"prompt\": \"a\"} x", &"[".repeat(100_000)]
    {
        let refused = post(body);
        assert_eq!(
            (refused.status, &refused.json()["error"]["code"]),
            (400, &json!(400)),
            "{body:.9}"
        );
    }
    for (field, value) in [
        ("prompt", json!(7)),
        ("prompt", json!("")),
        ("prompt", json!([100_000])),
        ("prompt", json!(vec!["a"; 65])),
        ("prompt", json!(vec!["a"; 100_000])),
        ("max_tokens", json!("x")),
        ("temperature", json!("hot")),
        ("n", json!(0)),
        ("n", json!(-1)),
        ("logprobs", json!(257)),
        ("stop", json!([1])),
        ("stop", json!(vec!["a"; 65])),
        ("stop", json!("a".repeat(1025))),
        ("logit_bias", json!({"100000": 1})),
        ("best_of", json!(2)),
        ("grammar", json!("root ::= (")),
        ("stream_options", json!(1)),
        ("dovetail", json!({"drafting": "maybe"})),
    ] {
        let mut body = completion(1, 4);
        body[field] = value.clone();
        let refused = server.post("/v1/completions", &body);
        assert_eq!(refused.status, 400, "{field}: {value} {}", refused.body);
        assert!(!refused.body.contains("--"), "no flags: {}", refused.body);
    }
    let long = post(&json!({ "prompt": "x".repeat(5000) }).to_string());
    assert_eq!(
        (long.status, &long.json()["error"]["code"]),
        (400, &json!("context_length_exceeded"))
    );
    let huge = post(&json!({ "prompt": "x".repeat(11 << 20) }).to_string());
    assert_eq!(huge.status, 413);
    assert_eq!(server.get("/nowhere").json()["error"]["type"], "not_found_error");
    assert_eq!((server.get("/nowhere").status, server.get("/v1/completions").status), (404, 405));
    let mut broken = server.connect();
    broken.write_all(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 HTTP/9\r\n\r\n").unwrap();
    read(broken);
    let mut cut = server.send("POST", "/v1/completions", "", "");
    cut.write_all(b"POST /v1/completions HTTP/1.1\r\nContent-Length: 100\r\n\r\n{").unwrap();
    drop(cut);
    assert_eq!(server.post("/v1/completions", &completion(3, 4)).status, 200);
}

#[test]
fn a_body_that_does_not_come_is_given_up() {
    let server = Server::start(&model(), &["--timeout", "1"]);
    let mut stalled = server.connect();
    let head = b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 9\r\n\r\n{";
    stalled.write_all(head).unwrap();
    assert_eq!(read(stalled).status, 408);
}

#[test]
fn a_head_that_does_not_come_is_given_up_and_a_long_answer_is_not() {
    let server = Server::start(&model(), &["--timeout", "1", "-c", "65536", "--rope-scale", "32"]);
    let start = Instant::now();
    let mut long = server.send("POST", "/v1/completions", "", &endless().to_string());
    for head in ["", "POST /v1/comp", "GET /health HTTP/1.1\r\nHost: x\r\nX-Slow: "] {
        let mut stalled = server.connect();
        stalled.write_all(head.as_bytes()).unwrap();
        let mut rest = String::new();
        std::io::Read::read_to_string(&mut stalled, &mut rest).unwrap();
        assert!(rest.is_empty() || rest.starts_with("HTTP/1.1 408"), "{rest}");
    }
    // One that has had its answer may stay as long for the next.
    let mut kept = server.connect();
    kept.write_all(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    let mut all = String::new();
    std::io::Read::read_to_string(&mut kept, &mut all).unwrap();
    assert!(all.starts_with("HTTP/1.1 200"), "{all}");
    assert!(start.elapsed() > Duration::from_secs(3), "four of them had their second");
    let event = format!("data: {}", '{');
    read_until(&mut long, &event);
    read_until(&mut long, &event);
}

#[test]
fn connections_beyond_the_limit_wait_for_a_place() {
    // Four for each request that runs or waits, and 64.
    let server = Server::start(&model(), &["-np", "1", "-c", "512", "--queue", "1"]);
    let mut idle: Vec<_> = (0..72).map(|_| server.connect()).collect();
    let waiting = server.send("GET", "/health", "", "");
    waiting.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
    let mut byte = [0];
    assert!(std::io::Read::read(&mut &waiting, &mut byte).is_err(), "it has no place");
    waiting.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    idle.truncate(71);
    assert_eq!(read(waiting).status, 200);
}

#[test]
fn a_signal_ends_it_once_answers_are_complete() {
    for (signal, grace, is_complete) in
        [("TERM", "30", true), ("INT", "30", true), ("TERM", "0", false)]
    {
        let mut server = Server::start(&model(), &["-np", "1", "-c", "512", "--grace", grace]);
        let mut running = server.send("POST", "/v1/completions", "", &endless().to_string());
        let mut all = read_until(&mut running, "data: ");
        server.signal(signal);
        // What still reaches it is refused, until the last answer is complete.
        let late = std::net::TcpStream::connect(server.address).is_ok();
        std::io::Read::read_to_string(&mut running, &mut all).unwrap();
        assert_eq!(all.contains("[DONE]"), is_complete, "{signal} {grace} {late}");
        assert_eq!(all.contains("the server ends"), !is_complete);
        assert_eq!(server.wait().code(), Some(0), "{signal} {grace}");
    }
}

#[test]
fn requests_are_refused_while_it_ends_and_a_second_signal_ends_it_at_once() {
    let mut server = Server::start(&model(), &["-np", "1", "-c", "512", "--grace", "60"]);
    // It is read by nobody, so it does not come to its end soon.
    let running = server.send("POST", "/v1/completions", "", &endless().to_string());
    while server.metric("llamacpp:requests_processing") < 1.0 {}
    server.signal("TERM");
    while server.get("/health").status == 200 {}
    let refused = server.post("/v1/completions", &completion(1, 1));
    assert_eq!(
        (refused.status, &refused.json()["error"]["type"]),
        (503, &json!("unavailable_error"))
    );
    server.signal("INT");
    assert_eq!(server.wait().code(), Some(130));
    drop(running);
}

/// A server that is busy for a while before it answers: it measures what passes cost.
fn loading() -> Server {
    Server::spawn(&model(), &["--spec-type", "ngram"])
}

#[test]
fn a_server_that_loads_says_so() {
    let server = loading();
    for path in ["/health", "/v1/models", "/", "/nowhere"] {
        let refused = server.get(path);
        assert_eq!((refused.status, &*refused.headers["retry-after"]), (503, "1"), "{path}");
        assert_eq!(refused.json()["error"]["message"], "Loading model");
    }
    let start = Instant::now();
    while server.get("/health").status == 503 {
        assert!(start.elapsed() < Duration::from_secs(60));
    }
    assert_eq!(server.get("/health").json(), json!({ "status": "ok" }));
}

#[test]
fn a_signal_ends_a_server_that_loads() {
    let mut server = loading();
    server.signal("TERM");
    assert_eq!(server.wait().code(), Some(0));
}

#[test]
fn the_model_is_named_once() {
    let run = |args: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_dovetail-server"));
        command.args(args).args(["--port", "0"]).env("LLAMA_ARG_MODEL", "b.gguf");
        let output = command.stdin(Stdio::null()).output().unwrap();
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    let (code, stderr) = run(&["a.gguf", "-m", "c.gguf"]);
    assert_eq!(
        (code, &*stderr),
        (Some(2), "error: two models are named; give one of MODEL, -m and -hf\n")
    );
    for (args, named) in
        [(&["a.gguf"][..], "a.gguf"), (&["-m", "c.gguf"], "c.gguf"), (&[], "b.gguf")]
    {
        let (code, stderr) = run(args);
        let error = stderr.lines().last().unwrap();
        assert!(code != Some(0) && error.starts_with(&format!("error: {named}")), "{stderr}");
    }
}

#[test]
fn sampling_has_the_same_flags_as_in_dovetail_run() {
    let flags = |program: &str| {
        let output = Command::new(program).arg("--help").stdin(Stdio::null()).output().unwrap();
        let help = String::from_utf8(output.stdout).unwrap();
        let (_, section) = help.split_once("\nSampling:\n").unwrap();
        let lines = section.lines().take_while(|line| line.is_empty() || line.starts_with(' '));
        let words = lines.flat_map(str::split_whitespace).collect::<Vec<_>>().join(" ");
        words.replace("LLAMA_ARG_", "DOVETAIL_")
    };
    let [server, run] =
        [env!("CARGO_BIN_EXE_dovetail-server"), env!("CARGO_BIN_EXE_dovetail-run")].map(flags);
    assert_eq!(server, run);
    assert!(run.contains("--repeat-last-n <N>") && run.contains("--ignore-eos"), "{run}");
}

#[test]
fn a_model_that_cannot_be_loaded_ends_it() {
    let mut parts = model();
    parts.set("llama.block_count", None);
    let mut server = Server::spawn(&parts, &[]);
    assert_eq!(server.wait().code(), Some(1));
}

#[test]
fn pages_of_other_origins_may_ask() {
    let server = Server::start(&model(), &["--api-key", "k"]);
    let headers = "Origin: http://a\r\nAccess-Control-Request-Method: POST\r\n\
                   Access-Control-Request-Headers: authorization\r\n";
    let allowed = read(server.send("OPTIONS", "/v1/chat/completions", headers, ""));
    assert_eq!(allowed.status, 200);
    assert!(allowed.headers.contains_key("access-control-allow-origin"), "{allowed:?}");
    let page = server.get("/");
    assert_eq!(page.headers["content-type"], "text/html; charset=utf-8");
}
