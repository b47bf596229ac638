//! What goes to the engine's thread and what comes back.

use crate::error::ApiError;
use dovetail::speculate::RoundStats;
use dovetail::tree::Tree;
use dovetail::{Piece, Request, Stats, Stop};
use std::time::Duration;
use tokio::sync::mpsc;

/// How many events wait for a client before it counts as slow.
const EVENTS: usize = 256;

/// A request and the place where its events go.
pub struct Job {
    /// The request.
    pub request: Request,
    /// Whether to send what each round did.
    pub rounds: bool,
    /// Its events.
    pub events: mpsc::Sender<Event>,
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
}

impl Job {
    /// A job, and where its events can be received.
    pub fn new(request: Request, rounds: bool) -> (Job, mpsc::Receiver<Event>) {
        let (events, receiver) = mpsc::channel(EVENTS);
        (Job { request, rounds, events }, receiver)
    }
}
