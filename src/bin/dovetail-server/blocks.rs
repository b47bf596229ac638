//! An answer as blocks that follow each other: thoughts, texts and calls.

use crate::deltas::{Deltas, Reading};
use crate::openai::types::new_call_id;
use dovetail::Piece;
use dovetail::text::AnswerPart;

/// What a block is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// What the model thinks.
    Thought,
    /// What it says.
    Text,
    /// A call of a function; its text are the arguments, a JSON object.
    Call {
        /// Its own name, which the result of the call refers to.
        id: String,
        /// The function.
        function: String,
    },
}

/// A block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Block {
    /// What it is.
    pub kind: Kind,
    /// Its text.
    pub text: String,
}

/// What pieces of an answer change.
#[derive(Debug, PartialEq, Eq)]
pub enum Change {
    /// A block begins.
    Begin(Kind),
    /// The block has more text.
    More(String),
    /// The block ends; this is all of it.
    End(Block),
}

/// Turns the pieces of one answer into blocks.
pub struct Blocks {
    deltas: Deltas,
    open: Option<Block>,
    changes: Vec<Change>,
    has_any: bool,
    has_calls: bool,
    thought_tokens: usize,
}

impl Blocks {
    /// Those of an answer that begins.
    pub fn new(reading: &Reading) -> Blocks {
        Blocks {
            deltas: Deltas::of_chat(reading),
            open: None,
            changes: Vec::new(),
            has_any: false,
            has_calls: false,
            thought_tokens: 0,
        }
    }

    /// What these pieces change.
    pub fn push(&mut self, pieces: &[Piece]) -> Vec<Change> {
        for piece in pieces {
            let parts = self.deltas.parts(std::slice::from_ref(piece));
            parts.into_iter().for_each(|part| self.add(part));
            let thinks = self.open.as_ref().is_some_and(|block| block.kind == Kind::Thought);
            self.thought_tokens += usize::from(thinks && piece.token.is_some());
        }
        std::mem::take(&mut self.changes)
    }

    /// What the end of the answer changes. An answer of nothing is an empty text.
    pub fn finish(&mut self) -> Vec<Change> {
        self.deltas.last_parts().into_iter().for_each(|part| self.add(part));
        if !self.has_any {
            self.begin(Kind::Text);
        }
        self.end();
        std::mem::take(&mut self.changes)
    }

    /// All blocks of a whole answer.
    pub fn all(&mut self, pieces: &[Piece]) -> Vec<Block> {
        let mut changes = self.push(pieces);
        changes.extend(self.finish());
        let ended = |change| match change {
            Change::End(block) => Some(block),
            Change::Begin(_) | Change::More(_) => None,
        };
        changes.into_iter().filter_map(ended).collect()
    }

    /// Whether a function was called.
    pub fn has_calls(&self) -> bool {
        self.has_calls
    }

    /// How many tokens the thoughts have.
    pub fn thought_tokens(&self) -> usize {
        self.thought_tokens
    }

    fn add(&mut self, part: AnswerPart) {
        match part {
            AnswerPart::Reasoning(text) => self.write(Kind::Thought, text),
            AnswerPart::Content(text) => self.write(Kind::Text, text),
            AnswerPart::ToolCall { name, .. } => {
                self.has_calls = true;
                self.begin(Kind::Call { id: new_call_id(), function: name });
            }
            // Those of a call follow it.
            AnswerPart::Arguments { text, .. } => self.append(text),
        }
    }

    /// Appends to the block if it is of this kind, else to one that begins.
    fn write(&mut self, kind: Kind, text: String) {
        if text.is_empty() {
            return;
        }
        if self.open.as_ref().is_none_or(|block| block.kind != kind) {
            self.begin(kind);
        }
        self.append(text);
    }

    fn append(&mut self, text: String) {
        if let Some(block) = &mut self.open {
            block.text += &text;
            self.changes.push(Change::More(text));
        }
    }

    fn begin(&mut self, kind: Kind) {
        self.end();
        self.has_any = true;
        self.changes.push(Change::Begin(kind.clone()));
        self.open = Some(Block { kind, text: String::new() });
    }

    fn end(&mut self) {
        self.changes.extend(self.open.take().map(Change::End));
    }
}
