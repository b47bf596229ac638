//! What goes to the engine's thread and what comes back.

use crate::error::ApiError;
use dovetail::speculate::RoundStats;
use dovetail::{Piece, Request, Stats, Stop};
use tokio::sync::mpsc;

/// How many events wait for a client before it counts as slow.
const EVENTS: usize = 256;

/// A request and the place where its events go.
pub struct Job {
    /// The request.
    pub request: Request,
    /// Its events.
    pub events: mpsc::Sender<Event>,
}

/// What happened to a request.
#[derive(Debug)]
pub enum Event {
    /// The pieces of a round.
    Pieces(Vec<Piece>),
    /// The answer is complete.
    End(Box<End>),
    /// There is no answer, or no more of it.
    Failed(ApiError),
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
    pub fn new(request: Request) -> (Job, mpsc::Receiver<Event>) {
        let (events, receiver) = mpsc::channel(EVENTS);
        (Job { request, events }, receiver)
    }
}
