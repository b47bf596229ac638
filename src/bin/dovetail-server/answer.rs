//! An answer on its way from the engine's thread. Whoever drops it cancels the request.

use crate::error::ApiError;
use crate::job::{End, Event, Pending, PromptLogprobs};
use crate::log::RequestLog;
use dovetail::Piece;
use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;
use tokio::sync::mpsc::Receiver;

/// Counts answers on their way: each has a clone.
#[derive(Clone, Debug, Default)]
pub struct Active(Arc<()>);

impl Active {
    /// How many there are beside this one.
    pub fn others(&self) -> usize {
        Arc::strong_count(&self.0) - 1
    }
}

/// An answer on its way.
pub struct Answering {
    events: Receiver<Event>,
    prompt_logprobs: PromptLogprobs,
    log: Arc<RequestLog>,
    is_over: bool,
    _active: Active,
}

/// All pieces of an answer and how it ended.
pub struct Whole {
    /// The pieces.
    pub pieces: Vec<Piece>,
    /// How it ended.
    pub end: End,
}

impl Answering {
    /// The answer whose events arrive here.
    pub fn new(pending: Pending, active: Active, log: Arc<RequestLog>) -> Answering {
        let Pending { events, prompt_logprobs } = pending;
        Answering { events, prompt_logprobs, log, is_over: false, _active: active }
    }

    /// Log probabilities of the prompt's tokens from the second on, if they were asked for: there with the first pieces, or
    /// else with the end.
    pub fn prompt_logprobs(&self) -> PromptLogprobs {
        self.prompt_logprobs.clone()
    }

    /// The next event.
    pub async fn next(&mut self) -> Event {
        let event = self.events.recv().await;
        self.note(event)
    }

    /// Counts the tokens of an event. Without an event the engine's thread has given the client up.
    fn note(&mut self, event: Option<Event>) -> Event {
        let lost = || Event::Failed(ApiError::internal("the answer was cut off; ask again"));
        let event = event.unwrap_or_else(lost);
        match &event {
            Event::Pieces(pieces) => {
                self.log.add_tokens(pieces.iter().filter(|piece| piece.token.is_some()).count());
            }
            Event::Rounds(_) => {}
            Event::End(_) => self.is_over = true,
            Event::Failed(error) => {
                self.is_over = true;
                self.log.set_error(&error.message);
            }
        }
        event
    }

    /// All of the answer.
    ///
    /// # Errors
    /// If there is none.
    pub async fn whole(mut self) -> Result<Whole, ApiError> {
        let mut all = Vec::new();
        loop {
            match self.next().await {
                Event::Rounds(_) => {}
                Event::Pieces(pieces) => all.extend(pieces),
                Event::End(end) => return Ok(Whole { pieces: all, end: *end }),
                Event::Failed(error) => return Err(error),
            }
        }
    }
}

/// The next event of any of these, and which one it is of; `None` once all are over.
pub async fn next_of(all: &mut [Answering]) -> Option<(usize, Event)> {
    poll_fn(|context| {
        let mut are_over = true;
        for (i, answering) in all.iter_mut().enumerate().filter(|(_, one)| !one.is_over) {
            are_over = false;
            if let Poll::Ready(event) = answering.events.poll_recv(context) {
                return Poll::Ready(Some((i, answering.note(event))));
            }
        }
        if are_over { Poll::Ready(None) } else { Poll::Pending }
    })
    .await
}
