//! Counters of all requests, and what the slots do: written by the engine's thread, read by others.

use dovetail::{Answer, LiveStats};
use std::sync::Mutex;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

/// The request in a slot.
#[derive(Clone)]
pub struct SlotState {
    /// Its number.
    pub id: u64,
    /// Tokens of its prompt.
    pub prompt_len: usize,
    /// Its counts so far.
    pub stats: LiveStats,
}

/// Counters since the start.
#[derive(Default)]
pub struct Metrics {
    /// Prompt tokens that were run.
    pub prompt_tokens: AtomicU64,
    prompt_ns: AtomicU64,
    /// Prompt tokens that were found in the cache.
    pub cached_tokens: AtomicU64,
    /// Tokens that were generated.
    pub predicted_tokens: AtomicU64,
    predicted_ns: AtomicU64,
    mask_ns: AtomicU64,
    /// Steps of the engine.
    pub rounds: AtomicU64,
    /// Requests in all these steps together.
    pub busy_slots: AtomicU64,
    /// Drafted tokens that were verified in rounds without a grammar: under one they are easily right.
    pub drafted: AtomicU64,
    /// Those of them that were accepted.
    pub accepted: AtomicU64,
    /// Requests that have ended.
    pub requests: AtomicU64,
    slots: Mutex<Vec<Option<SlotState>>>,
}

impl Metrics {
    /// Zeros, for so many slots.
    pub fn new(slots: usize) -> Metrics {
        Metrics { slots: Mutex::new(vec![None; slots]), ..Metrics::default() }
    }

    /// Counts a step with so many requests.
    pub fn count_round(&self, requests: usize) {
        self.rounds.fetch_add(1, Relaxed);
        self.busy_slots.fetch_add(requests as u64, Relaxed);
    }

    /// Notes that a request runs, and returns its place.
    pub fn begin(&self, slot: SlotState) -> usize {
        let mut slots = self.slots.lock().expect("nobody panics with it");
        let place = slots.iter().position(Option::is_none).expect("a free slot for each request");
        slots[place] = Some(slot);
        place
    }

    /// Notes that the request at a place has ended.
    pub fn end(&self, place: usize, answer: &Answer) {
        let (stats, rounds) = (&answer.stats, answer.rounds.clone().unwrap_or_default());
        for (counter, n) in [
            (&self.prompt_tokens, stats.prompt_n as u64),
            (&self.prompt_ns, stats.prompt_time.as_nanos() as u64),
            (&self.cached_tokens, stats.cached_n as u64),
            (&self.predicted_tokens, stats.predicted_n as u64),
            (&self.predicted_ns, stats.predicted_time.as_nanos() as u64),
            (&self.mask_ns, stats.mask_time.as_nanos() as u64),
            (&self.drafted, rounds.without_grammar.drafted as u64),
            (&self.accepted, rounds.without_grammar.accepted as u64),
            (&self.requests, 1),
        ] {
            counter.fetch_add(n, Relaxed);
        }
        self.slots.lock().expect("nobody panics with it")[place] = None;
    }

    /// The slots, and what runs in them.
    pub fn slots(&self) -> Vec<Option<SlotState>> {
        self.slots.lock().expect("nobody panics with it").clone()
    }

    /// Time that prompts took.
    pub fn prompt_time(&self) -> Duration {
        Duration::from_nanos(self.prompt_ns.load(Relaxed))
    }

    /// Time that answers took.
    pub fn predicted_time(&self) -> Duration {
        Duration::from_nanos(self.predicted_ns.load(Relaxed))
    }

    /// Part of that time in which it was worked out what grammars allow.
    pub fn mask_time(&self) -> Duration {
        Duration::from_nanos(self.mask_ns.load(Relaxed))
    }
}
