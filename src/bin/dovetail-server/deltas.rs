//! Pieces of an answer to what clients show of it.

use dovetail::Piece;

/// What a client shows of some pieces.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Delta {
    /// Text of the answer.
    pub content: String,
}

impl Delta {
    /// Whether there is nothing to show.
    pub fn is_empty(&self) -> bool {
        self.content.is_empty()
    }
}

/// Turns the pieces of one answer into deltas.
pub struct Deltas(());

impl Deltas {
    /// Those of an answer that begins.
    pub fn new() -> Deltas {
        Deltas(())
    }

    /// All of a whole answer in one.
    pub fn whole(pieces: &[Piece]) -> Delta {
        let mut deltas = Deltas::new();
        let mut all = deltas.push(pieces);
        all.content += &deltas.finish().content;
        all
    }

    /// What these pieces add.
    pub fn push(&mut self, pieces: &[Piece]) -> Delta {
        Delta { content: pieces.iter().map(|piece| &*piece.text).collect() }
    }

    /// What was held back until the end of the answer.
    pub fn finish(&mut self) -> Delta {
        Delta::default()
    }
}
