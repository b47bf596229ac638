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
    /// How many answers are on their way: clones of this value.
    pub fn count(&self) -> usize {
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
        let event = event.unwrap_or_else(|| Event::Failed(cut_off()));
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
    pub async fn whole(self) -> Result<Whole, ApiError> {
        whole_of(vec![self]).await?.pop().ok_or_else(cut_off)
    }
}

/// All of these answers, which arrive side by side.
///
/// # Errors
/// If there is none of one of them.
pub async fn whole_of(mut all: Vec<Answering>) -> Result<Vec<Whole>, ApiError> {
    let mut parts: Vec<(Vec<Piece>, Option<End>)> =
        all.iter().map(|_| Default::default()).collect();
    while let Some((i, event)) = next_of(&mut all).await {
        match event {
            Event::Rounds(_) => {}
            Event::Pieces(pieces) => parts[i].0.extend(pieces),
            Event::End(end) => parts[i].1 = Some(*end),
            Event::Failed(error) => return Err(error),
        }
    }
    let whole = |(pieces, end): (Vec<Piece>, Option<End>)| Some(Whole { pieces, end: end? });
    parts.into_iter().map(whole).collect::<Option<_>>().ok_or_else(cut_off)
}

/// The engine's thread has given the client up.
fn cut_off() -> ApiError {
    ApiError::internal("the answer was cut off; ask again")
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

#[cfg(test)]
mod tests {
    use super::*;
    use dovetail::Stop;
    use tokio::sync::mpsc;

    /// Nothing waits for one answer while another one's events find no room.
    #[tokio::test]
    async fn answers_are_read_side_by_side() {
        let (senders, receivers): (Vec<_>, Vec<_>) = (0..2).map(|_| mpsc::channel(1)).unzip();
        let answering = |events| {
            let pending = Pending { events, prompt_logprobs: PromptLogprobs::default() };
            Answering::new(pending, Active::default(), Arc::new(RequestLog::new("POST", "/")))
        };
        let all: Vec<Answering> = receivers.into_iter().map(answering).collect();
        tokio::spawn(async move {
            for i in 0..10 {
                for sender in senders.iter().rev() {
                    let piece =
                        Piece { token: None, text: i.to_string(), drafted: false, logprobs: None };
                    let end = End {
                        stop: Stop::Length,
                        stats: Default::default(),
                        rounds: Default::default(),
                        embedding: None,
                    };
                    let event = match i {
                        9 => Event::End(Box::new(end)),
                        _ => Event::Pieces(vec![piece]),
                    };
                    sender.send(event).await.unwrap();
                }
            }
        });
        let wholes = whole_of(all).await.unwrap();
        for whole in &wholes {
            let text: String = whole.pieces.iter().map(|piece| &*piece.text).collect();
            assert_eq!(text, "012345678");
        }
        assert_eq!(wholes.len(), 2);
    }
}
