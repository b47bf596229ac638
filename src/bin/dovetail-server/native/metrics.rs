//! Counters for Prometheus, under the names of llama.cpp's server where it has the same one.

use crate::state::Call;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use std::fmt::Write;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

/// `GET /metrics`.
pub async fn metrics(call: Call) -> Response {
    let (m, queue) = (&call.ready.metrics, &call.ready.queue);
    let count = |counter: &AtomicU64| counter.load(Relaxed) as f64;
    let per_second =
        |n: f64, time: Duration| if time.is_zero() { 0.0 } else { n / time.as_secs_f64() };
    let (prompt, predicted) = (count(&m.prompt_tokens), count(&m.predicted_tokens));
    let (rounds, drafted) = (count(&m.rounds), count(&m.drafted));
    let running = m.slots().iter().flatten().count() as f64;
    let (counter, gauge) = ("counter", "gauge");
    let rows = [
        ("llamacpp:prompt_tokens_total", counter, "Prompt tokens that were run.", prompt),
        (
            "llamacpp:prompt_seconds_total",
            counter,
            "Time that prompts took.",
            m.prompt_time().as_secs_f64(),
        ),
        ("llamacpp:tokens_predicted_total", counter, "Tokens that were generated.", predicted),
        (
            "llamacpp:tokens_predicted_seconds_total",
            counter,
            "Time that answers took.",
            m.predicted_time().as_secs_f64(),
        ),
        (
            "dovetail:mask_seconds_total",
            counter,
            "Time in which it was worked out what grammars allow.",
            m.mask_time().as_secs_f64(),
        ),
        ("llamacpp:n_decode_total", counter, "Passes over the weights.", rounds),
        (
            "llamacpp:n_busy_slots_per_decode",
            gauge,
            "Requests in a pass, on average.",
            count(&m.busy_slots) / rounds.max(1.0),
        ),
        (
            "llamacpp:prompt_tokens_seconds",
            gauge,
            "Prompt tokens a second.",
            per_second(prompt, m.prompt_time()),
        ),
        (
            "llamacpp:predicted_tokens_seconds",
            gauge,
            "Generated tokens a second.",
            per_second(predicted, m.predicted_time()),
        ),
        ("llamacpp:requests_processing", gauge, "Requests that are answered.", running),
        ("llamacpp:requests_deferred", gauge, "Requests that wait.", queue.waiting() as f64),
        ("dovetail:requests_total", counter, "Requests that have ended.", count(&m.requests)),
        (
            "dovetail:prompt_tokens_cached_total",
            counter,
            "Prompt tokens that were found in the cache.",
            count(&m.cached_tokens),
        ),
        ("dovetail:rounds_total", counter, "Rounds of all slots together.", rounds),
        (
            "dovetail:drafted_tokens_total",
            counter,
            "Drafted tokens that were verified, without a grammar.",
            drafted,
        ),
        (
            "dovetail:accepted_tokens_total",
            counter,
            "Those of them that were accepted.",
            count(&m.accepted),
        ),
        (
            "dovetail:acceptance_rate",
            gauge,
            "The share of them that was accepted.",
            count(&m.accepted) / drafted.max(1.0),
        ),
    ];
    let mut text = String::new();
    for (name, kind, help, value) in rows {
        let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}\n{name} {value}");
    }
    ([(CONTENT_TYPE, "text/plain; version=0.0.4")], text).into_response()
}
