//! What goes to the engine's thread and what comes back.

use crate::error::ApiError;
use dovetail::speculate::RoundStats;
use dovetail::tree::Tree;
use dovetail::{Logprobs, Piece, PromptOutput, Request, Stats, Stop};
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio::sync::mpsc;

/// How many events wait for a client before it counts as slow.
const EVENTS: usize = 256;

/// A request and the place where its events go.
pub struct Job {
    /// The request.
    pub request: Request,
    /// What is wanted beside its text.
    pub wanted: Wanted,
    /// Its events.
    pub events: mpsc::Sender<Event>,
    /// Where log probabilities of its prompt go.
    pub prompt_logprobs: PromptLogprobs,
}

/// What is wanted of a request beside its text.
#[derive(Clone, Copy, Debug, Default)]
pub struct Wanted {
    /// Events that say what each round did.
    pub rounds: bool,
    /// What is computed from the prompt.
    pub prompt: PromptOutput,
}

/// Log probabilities of a prompt's tokens from the second on, if they are wanted: set before the first pieces are sent.
pub type PromptLogprobs = Arc<OnceLock<Vec<Logprobs>>>;

/// The receiving end of a job.
#[derive(Debug)]
pub struct Pending {
    /// Its events.
    pub events: mpsc::Receiver<Event>,
    /// Log probabilities of its prompt.
    pub prompt_logprobs: PromptLogprobs,
}

/// What happened to a request.
#[derive(Debug)]
pub enum Event {
    /// What rounds did, if the request asked for it; their pieces follow.
    Rounds(Vec<Round>),
    /// The pieces of a round.
    Pieces(Vec<Piece>),
    /// The answer is complete.
    End(Box<End>),
    /// There is no answer, or no more of it.
    Failed(ApiError),
}

/// What a round did for one request.
#[derive(Clone, Debug)]
pub struct Round {
    /// Its number in the answer.
    pub n: usize,
    /// How long it took.
    pub time: Duration,
    /// The tree that the target verified, parents before children.
    pub nodes: Vec<RoundNode>,
    /// The nodes that were accepted, the root first.
    pub accepted: Vec<usize>,
}

/// A node of a round's tree.
#[derive(Clone, Debug)]
pub struct RoundNode {
    /// The token.
    pub token: u32,
    /// Index of its parent; the root has none.
    pub parent: Option<usize>,
    /// The drafter's probability of the token behind its parent.
    pub probability: f32,
}

impl Round {
    /// The round number `n` of a request, whose tree was `tree`.
    pub fn new(n: usize, time: Duration, tree: &Tree, accepted: &[usize]) -> Round {
        let node = |node: usize| {
            let parent = tree.parent(node);
            let before = parent.map_or(0.0, |parent| tree.log_probs()[parent]);
            let probability = (tree.log_probs()[node] - before).exp();
            RoundNode { token: tree.tokens()[node], parent, probability }
        };
        Round { n, time, nodes: (0..tree.len()).map(node).collect(), accepted: accepted.to_vec() }
    }
}

/// A complete answer, but for its text.
#[derive(Clone, Debug)]
pub struct End {
    /// Why it ended.
    pub stop: Stop,
    /// Counts and times.
    pub stats: Stats,
    /// Those of drafting; zeros without a drafter.
    pub rounds: RoundStats,
    /// The embedding of the prompt, if it was wanted.
    pub embedding: Option<Vec<f32>>,
}

impl Job {
    /// A job and its receiving end.
    pub fn new(request: Request, wanted: Wanted) -> (Job, Pending) {
        let (sender, events) = mpsc::channel(EVENTS);
        let prompt_logprobs = PromptLogprobs::default();
        let pending = Pending { events, prompt_logprobs: prompt_logprobs.clone() };
        (Job { request, wanted, events: sender, prompt_logprobs }, pending)
    }
}
