//! From text to tokens and back.
//!
//! ```text
//! tokenizer.rs       the public face: encode, decode, special tokens
//! vocab.rs           what the file says of each token, and which tokens are special
//! bpe.rs             BPE: words, then merges by rank
//! pre_tokenizers.rs  the table of ways to split text into words
//! spm.rs             SentencePiece by score
//! bound.rs           the fewest tokens that a text can have
//! stops.rs           stop strings in a text that comes in pieces
//! thoughts.rs        how models mark what they think
//! utf8.rs            bytes of a stream to text that never splits a character
//! json_schema.rs     JSON schemas for the parser of grammars
//! chat/              messages to a prompt, by the model's own template; what they contain becomes no control token
//! grammar/           which tokens may follow, by a JSON schema or another grammar
//! answer/            an answer in parts: thoughts, contents, calls of tools; grammars of calls
//! jinja/             an interpreter of templates whose steps, memory and stack are bounded
//! ```
//!
//! Token ids equal llama.cpp's: models are judged with it, and a drafter's vocabulary must agree with its target's.
//! `tests/tokenizer.rs` has its ids for difficult strings.

pub mod answer;
pub mod chat;
pub mod grammar;
pub mod tokenizer;
pub mod utf8;

mod bound;
mod bpe;
mod jinja;
mod json_schema;
mod pre_tokenizers;
mod spm;
mod stops;
mod thoughts;
mod vocab;

pub use answer::{AnswerFormat, AnswerParser, AnswerPart};
pub use chat::{ChatTemplate, Conversation, Message, PromptEnd};
pub(crate) use grammar::TokenMask;
pub use grammar::{Constraint, Grammar};
pub(crate) use stops::Stops;
pub use tokenizer::Tokenizer;
pub use utf8::Utf8Stream;
pub use vocab::FillInTokens;
