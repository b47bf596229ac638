//! What fuzzing does with any bytes as a request: it is answered or refused, soon, without a panic, and what comes back is
//! well formed.
//!
//! `cargo +nightly fuzz run request -- -rss_limit_mb=2048 -timeout=65 -max_len=512`

#[path = "../../../tests/common/mod.rs"]
mod common;

use crate::args::{self, Parsed};
use crate::auth::Keys;
use crate::load;
use crate::router::router;
use crate::serve::answer_requests;
use crate::state::App;
use axum::body::{Body, to_bytes};
use axum::extract::Request;
use axum::handler::Handler;
use axum::http::Method;
use axum::http::header::CONTENT_TYPE;
use axum::routing::{MethodRouter, any_service};
use common::fuzzed_grammars::SCHEMAS;
use common::grown::{Forms, grown};
use common::tiny::tiny;
use serde_json::Value;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio::runtime::{Builder, Runtime};

/// The longest that a request may take: many times of what it does, for machines that do other things meanwhile.
const MAX_TIME: Duration = Duration::from_secs(60);

/// Most bytes of an answer.
const MAX_BYTES: usize = 64 << 20;

/// Paths, and the symbol of their bodies.
const PATHS: &[(&str, char)] = &[
    ("/v1/chat/completions", 'C'),
    ("/v1/responses", 'R'),
    ("/v1/messages", 'A'),
    ("/v1/completions", 'B'),
    ("/api/chat", 'O'),
    ("/api/generate", 'E'),
    ("/completion", 'B'),
    ("/v1/embeddings", 'X'),
    ("/api/embed", 'X'),
    ("/api/embeddings", 'X'),
    ("/infill", 'I'),
    ("/tokenize", 'K'),
    ("/detokenize", 'D'),
    ("/apply-template", 'C'),
    ("/v1/messages/count_tokens", 'A'),
    ("/api/show", 'V'),
    ("/v1/models", 'V'),
    ("/props", 'V'),
    ("/slots", 'V'),
    ("/metrics", 'V'),
    ("/openapi.json", 'V'),
];

/// Bodies: of chats, with messages, their contents and calls; of texts; the fields of both; tools; any value; texts.
const BODIES: Forms = &[
    ('C', 2, &["{\"messages\":@m@F}", "{\"messages\":@m,\"tools\":[@T]@F}", "@V"]),
    ('R', 2, &["{\"input\":\"@s\"@F}", "{\"input\":@m@F}", "{\"input\":@m,\"instructions\":@V@F}"]),
    ('A', 2, &["{\"max_tokens\":@n,\"messages\":@m@F}", "{\"messages\":@m,\"system\":@c@F}"]),
    (
        'O',
        2,
        &["{\"messages\":@m@F}", "{\"messages\":@m,\"options\":{\"top_k\":@n@F},\"format\":@G}"],
    ),
    ('B', 2, &["{\"prompt\":\"@s\"@F}", "{\"prompt\":@V@F}", "{\"prompt\":[@n,@n]@F}"]),
    ('E', 2, &["{\"prompt\":\"@s\"@F}", "{\"prompt\":\"@s\",\"system\":\"@s\",\"raw\":@V@F}"]),
    (
        'X',
        1,
        &[
            "{\"input\":\"@s\"@F}",
            "{\"input\":@V,\"dimensions\":@n,\"truncate\":@b}",
            "{\"prompt\":@V}",
        ],
    ),
    ('I', 1, &["{\"input_prefix\":\"@s\",\"input_suffix\":\"@s\",\"input_extra\":@V@F}"]),
    ('K', 1, &["{\"content\":\"@s\",\"with_pieces\":@b,\"add_special\":@b,\"parse_special\":@b}"]),
    ('D', 1, &["{\"tokens\":[@n,@n,@n]}", "{\"tokens\":@V}"]),
    ('m', 1, &["[{\"role\":\"user\",\"content\":\"@s\"}]", "[@M]", "[@M,@M]", "[@M,@M,@M]", "@V"]),
    (
        'M',
        2,
        &[
            "{\"role\":\"@r\",\"content\":@c}",
            "{\"role\":\"user\",\"content\":\"@s\"}",
            "{\"role\":\"assistant\",\"content\":@c,\"tool_calls\":[@t]}",
            "{\"role\":\"assistant\",\"content\":@c,\"reasoning_content\":@V}",
            "{\"role\":\"tool\",\"tool_call_id\":\"@s\",\"content\":@c}",
            "{\"type\":\"message\",\"role\":\"@r\",\"content\":@c}",
            "{\"type\":\"function_call\",\"call_id\":\"a\",\"name\":\"f\",\"arguments\":\"@s\"}",
            "{\"type\":\"function_call_output\",\"call_id\":\"a\",\"output\":@c}",
            "{\"type\":\"reasoning\",\"summary\":@V}",
            "@V",
        ],
    ),
    ('r', 1, &["user", "system", "assistant", "tool", "developer", "@s"]),
    (
        'c',
        2,
        &[
            "\"@s\"",
            "null",
            "[{\"type\":\"text\",\"text\":\"@s\"}]",
            "[{\"type\":\"input_text\",\"text\":\"@s\"},{\"type\":\"text\",\"text\":@V}]",
            "[{\"type\":\"tool_use\",\"id\":\"a\",\"name\":\"f\",\"input\":@V}]",
            "[{\"type\":\"tool_result\",\"tool_use_id\":\"a\",\"content\":@c}]",
            "[{\"type\":\"image_url\",\"image_url\":@V}]",
            "@V",
        ],
    ),
    (
        't',
        1,
        &[
            "{\"id\":\"a\",\"type\":\"function\",\"function\":{\"name\":\"f\",\"arguments\":\"{}\"}}",
            "{\"function\":{\"name\":\"@s\",\"arguments\":@V}}",
            "@V",
        ],
    ),
    (
        'T',
        1,
        &[
            "{\"type\":\"function\",\"function\":{\"name\":\"f\",\"parameters\":@J}}",
            "{\"type\":\"function\",\"function\":{\"name\":\"f\"}},@T",
            "{\"type\":\"function\",\"function\":{\"name\":\"@s\",\"description\":@V,\"parameters\":@V}}",
            "{\"name\":\"f\",\"input_schema\":@J}",
            "{\"type\":\"function\",\"name\":\"f\",\"parameters\":@J}",
            "{\"type\":\"web_search\"}",
            "@V",
        ],
    ),
    ('F', 1, &["", ",@f@F", ",@f@F", ",@f,@f@F"]),
    (
        'f',
        3,
        &[
            "\"stream\":@b",
            "\"max_tokens\":@n",
            "\"temperature\":@n",
            "\"n\":@n",
            "\"top_k\":@n",
            "\"top_p\":@n",
            "\"seed\":@n",
            "\"n_predict\":@n",
            "\"max_output_tokens\":@n",
            "\"repeat_penalty\":@n",
            "\"repeat_last_n\":@n",
            "\"presence_penalty\":@n",
            "\"logprobs\":@V",
            "\"logprobs\":true,\"top_logprobs\":@n",
            "\"n_probs\":@n",
            "\"logit_bias\":{\"@k\":@n}",
            "\"stop\":@V",
            "\"stop\":[\"@s\",\"@s\"]",
            "\"stop_sequences\":[\"@s\"]",
            "\"stream_options\":{\"include_usage\":@b}",
            "\"response_format\":@G",
            "\"json_schema\":@J",
            "\"grammar\":\"root ::= [a-z]{1,3} @k\"",
            "\"grammar\":\"@s\"",
            "\"text\":{\"format\":@G}",
            "\"tool_choice\":@V",
            "\"tool_choice\":\"required\"",
            "\"tool_choice\":{\"type\":\"function\",\"function\":{\"name\":\"f\"}}",
            "\"parallel_tool_calls\":@b",
            "\"chat_template_kwargs\":{\"enable_thinking\":@V}",
            "\"chat_template_kwargs\":@V",
            "\"ignore_eos\":@b",
            "\"echo\":@b",
            "\"suffix\":\"@s\"",
            "\"images\":@V",
            "\"dovetail\":{\"rounds\":@b,\"drafting\":\"on\"}",
            "\"@k\":@V",
        ],
    ),
    (
        'G',
        2,
        &[
            "{\"type\":\"json_object\"}",
            "{\"type\":\"text\"}",
            "{\"type\":\"json_schema\",\"json_schema\":{\"name\":\"a\",\"schema\":@J}}",
            "{\"type\":\"json_schema\",\"schema\":@J}",
            "\"json\"",
            "@J",
        ],
    ),
    ('b', 2, &["true", "false", "@V"]),
    ('n', 3, &["1", "0", "3", "-1", "0.5", "200", "99999", "4294967296", "1e300", "\"2\"", "@V"]),
    ('k', 2, &["1", "a", "65535", "tools", "samplers", "messages", "mirostat", "@s"]),
    (
        'V',
        8,
        &[
            "null",
            "true",
            "0",
            "\"\"",
            "[]",
            "{}",
            "\"@s\"",
            "-1.5",
            "18446744073709551615",
            "[@V]",
            "[@V,@V]",
            "{\"type\":@V}",
            "{\"@k\":@V,\"text\":@V}",
            "{\"name\":\"f\",\"arguments\":@V}",
            "{\"type\":\"text\",\"text\":\"@s\"}",
        ],
    ),
    (
        's',
        4,
        &[
            "Hi",
            "",
            "a b",
            "{}",
            "é",
            "\\u0000",
            "\\ud800",
            "<|im_end|>",
            "<s>",
            "<think>",
            "<tool_call>",
            "\\n\\n",
            "\u{fdd0}",
            "@s@s",
            "@s @s @s @s",
        ],
    ),
];

/// A server on a small model, without a socket.
pub struct Server {
    router: MethodRouter,
    runtime: Runtime,
}

/// Loads the model and starts the thread that answers.
pub fn server() -> Server {
    let file = tiny("f32").parts().write();
    let flags = "-np 2 -c 256 -n 4 -t 1 --repack off --spec-type none --chat-template chatml";
    let argv = ["dovetail-server", file.path().to_str().expect("it is text")];
    let argv = argv.into_iter().chain(flags.split(' ')).map(Into::into);
    let Parsed::Run(mut args) = args::parse(argv) else { panic!("the flags are right") };
    let mut runtime = Builder::new_multi_thread();
    let runtime = runtime.worker_threads(1).max_blocking_threads(2).enable_all().build();
    let runtime = runtime.expect("there are threads");
    let app = Arc::new(App {
        keys: Keys::default(),
        body_timeout: MAX_TIME,
        ready: OnceLock::new(),
        ending: AtomicBool::new(false),
        active: Default::default(),
    });
    let stop = Arc::new(AtomicBool::new(false));
    let loaded = load::load(&mut args, &stop).expect("it is a model");
    let engine = answer_requests(&args, loaded, &app, stop, runtime.handle().clone());
    std::thread::spawn(move || engine.run());
    Server { router: any_service(router(app)), runtime }
}

/// Asks what the bytes give: the first chooses the path, the second whether the others are the body or its choices.
pub fn ask(server: &Server, data: &[u8]) {
    let &[path, how, ref bytes @ ..] = data else { return };
    let (path, symbol) = PATHS[usize::from(path) % PATHS.len()];
    let body = match how % 4 {
        0 => bytes.to_vec(),
        _ => grown(symbol, &[BODIES, SCHEMAS], bytes).into_bytes(),
    };
    let method = if symbol == 'V' && how & 4 == 0 { Method::GET } else { Method::POST };
    let said = format!("{method} {path} {}", String::from_utf8_lossy(&body));
    let request = Request::builder().method(method).uri(path).body(Body::from(body));
    let answer = answer(server.router.clone(), request.expect("the path is one"));
    let answer = server.runtime.block_on(async { tokio::time::timeout(MAX_TIME, answer).await });
    let (status, kind, body) = answer.unwrap_or_else(|_| panic!("no answer: {said}"));
    assert!(status < 500 || status == 501, "{status}: {said}\n{body}");
    check(&kind, &body).unwrap_or_else(|what| panic!("{what}: {said}\n{body}"));
}

/// The status, the content type and the body.
async fn answer(router: MethodRouter, request: Request) -> (u16, String, String) {
    let response = router.call(request, ()).await;
    let status = response.status().as_u16();
    let kind = response.headers().get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
    let kind = kind.unwrap_or_default().to_owned();
    let body = to_bytes(response.into_body(), MAX_BYTES).await.expect("it is small and whole");
    (status, kind, String::from_utf8(body.into()).expect("all answers are text"))
}

/// Whether a body is what its content type says, and no answer has failed on its way.
fn check(kind: &str, body: &str) -> Result<(), String> {
    let json = |text: &str| {
        let value: Value = serde_json::from_str(text).map_err(|error| error.to_string())?;
        match value["error"]["type"].as_str() {
            Some("server_error" | "api_error") => Err("it has failed".to_owned()),
            _ => Ok(()),
        }
    };
    match kind {
        "application/json" => json(body),
        "application/x-ndjson" => body.lines().try_for_each(json),
        "text/event-stream" => {
            let data = body.lines().filter_map(|line| line.strip_prefix("data: "));
            data.filter(|data| *data != "[DONE]").try_for_each(json)
        }
        _ => Ok(()),
    }
}

#[cfg(fuzzing)]
mod target {
    use super::{Server, ask, server};
    use std::sync::LazyLock;

    static SERVER: LazyLock<Server> = LazyLock::new(server);

    libfuzzer_sys::fuzz_target!(|data: &[u8]| ask(&SERVER, data));
}

#[cfg(test)]
mod tests {
    use super::common::random::Random;
    use super::*;

    #[test]
    fn any_bytes_may_be_a_request() {
        let (server, mut random) = (server(), Random(5));
        for _ in 0..600 {
            let length = random.below(60);
            let data: Vec<u8> = (0..length).map(|_| random.bits() as u8).collect();
            ask(&server, &data);
        }
    }
}
