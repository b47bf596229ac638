//! Events on their way to a client, which may be slow: the engine's thread never waits for it.
//!
//! Pieces that find no room are held. If there is no room for [`PATIENCE`], the client is given up.

use crate::job::{Event, Round};
use dovetail::Piece;
use std::time::{Duration, Instant};
use tokio::runtime::Handle;
use tokio::sync::mpsc::Sender;
use tokio::sync::mpsc::error::TrySendError;

/// How long a client may leave its events unread.
pub const PATIENCE: Duration = Duration::from_secs(5);

/// The events of one request.
pub struct Outbox {
    events: Sender<Event>,
    held: Vec<Piece>,
    rounds: Vec<Round>,
    /// Since when there has been no room.
    full_since: Option<Instant>,
}

impl Outbox {
    /// Without pieces.
    pub fn new(events: Sender<Event>) -> Outbox {
        Outbox { events, held: Vec::new(), rounds: Vec::new(), full_since: None }
    }

    /// Whether nobody receives the events any more.
    pub fn is_abandoned(&self) -> bool {
        self.events.is_closed()
    }

    /// Adds a piece to the next event.
    pub fn hold(&mut self, piece: Piece) {
        self.held.push(piece);
    }

    /// Adds what a round did.
    pub fn hold_round(&mut self, round: Round) {
        self.rounds.push(round);
    }

    /// Sends the pieces that are held, if there is room. Returns false once there has been none for too long.
    pub fn send(&mut self, now: Instant) -> bool {
        if self.held.is_empty() {
            return true;
        }
        let n = 1 + usize::from(!self.rounds.is_empty());
        match self.events.try_reserve_many(n) {
            Ok(mut permits) => {
                if let Some(permit) = (n > 1).then(|| permits.next()).flatten() {
                    permit.send(Event::Rounds(std::mem::take(&mut self.rounds)));
                }
                let permit = permits.next().expect("there is room for both");
                permit.send(Event::Pieces(std::mem::take(&mut self.held)));
                self.full_since = None;
                true
            }
            Err(TrySendError::Closed(())) => true,
            Err(TrySendError::Full(())) => {
                now.duration_since(*self.full_since.get_or_insert(now)) < PATIENCE
            }
        }
    }

    /// Sends what is held and the last event; where there is no room, a task waits for it.
    pub fn end(self, last: Event, runtime: &Handle) {
        let Outbox { events, held, rounds, .. } = self;
        let rounds = (!rounds.is_empty()).then_some(Event::Rounds(rounds));
        let pieces = (!held.is_empty()).then_some(Event::Pieces(held));
        runtime.spawn(async move {
            for event in rounds.into_iter().chain(pieces).chain([last]) {
                if events.send_timeout(event, PATIENCE).await.is_err() {
                    return;
                }
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ApiError;
    use tokio::sync::mpsc;

    fn piece(text: &str) -> Piece {
        Piece { token: None, text: text.into(), drafted: false, logprobs: None }
    }

    fn texts(event: Option<Event>) -> Vec<String> {
        match event {
            Some(Event::Pieces(pieces)) => pieces.into_iter().map(|piece| piece.text).collect(),
            other => panic!("no pieces: {other:?}"),
        }
    }

    #[test]
    fn a_slow_client_loses_nothing_until_it_is_given_up() {
        let (events, mut receiver) = mpsc::channel(1);
        let mut outbox = Outbox::new(events);
        let start = Instant::now();
        assert!(outbox.send(start), "there is nothing to send");
        for text in ["a", "b", "c"] {
            outbox.hold(piece(text));
            assert!(outbox.send(start));
        }
        assert_eq!(texts(receiver.try_recv().ok()), ["a"]);
        assert!(outbox.send(start + 2 * PATIENCE), "there is room");
        outbox.hold(piece("d"));
        assert!(outbox.send(start + 2 * PATIENCE), "patience begins anew");
        assert!(outbox.send(start + 2 * PATIENCE + PATIENCE / 2));
        assert!(!outbox.send(start + 3 * PATIENCE));
        assert_eq!(texts(receiver.try_recv().ok()), ["b", "c"]);
        drop(receiver);
        assert!(outbox.is_abandoned());
    }

    #[tokio::test]
    async fn the_end_waits_for_room() {
        let (events, mut receiver) = mpsc::channel(1);
        let mut outbox = Outbox::new(events);
        for text in ["a", "b"] {
            outbox.hold(piece(text));
            outbox.send(Instant::now());
        }
        outbox.end(Event::Failed(ApiError::internal("x")), &Handle::current());
        assert_eq!(texts(receiver.recv().await), ["a"]);
        assert_eq!(texts(receiver.recv().await), ["b"]);
        assert!(matches!(receiver.recv().await, Some(Event::Failed(_))));
        assert!(receiver.recv().await.is_none());
    }
}
