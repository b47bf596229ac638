//! An answer of a chat model in parts: what it thinks, what it says, and the tools that it calls.
//!
//! Families of models write these in their own ways, which the markers in a chat template tell apart ([`AnswerFormat`]).
//! An [`AnswerParser`] takes the text as it comes, with the texts of control tokens, and gives the parts as soon as they
//! are sure. However the text is cut, the parts join to the same. A call is given as a whole once it is complete and its
//! arguments are a JSON object; one that is not is given as content, so that nothing is lost.
//!
//! ```text
//! format.rs    the table of families, and the markers of each
//! parser.rs    reads an answer of any format; parts.rs is what it gives
//! marked.rs    text between markers, thoughts, and calls in brackets
//! open_call.rs where a call in brackets ends
//! harmony.rs   messages with a header, of gpt-oss
//! bare.rs      answers that are calls without markers
//! calls.rs     what stands in a call: names and arguments
//! gemma.rs     the arguments of Gemma's calls
//! markers.rs   markers in a text that comes in pieces
//! grammar.rs   the grammar that allows nothing but calls
//! ```
//!
//! To add a family, add a row to `format.rs`, the form of its calls to `calls.rs` and `grammar.rs`, and an answer to
//! `tests/answers.rs`.

mod bare;
mod calls;
mod format;
mod gemma;
mod grammar;
mod harmony;
mod marked;
mod markers;
mod open_call;
mod parser;
mod parts;

pub use format::AnswerFormat;
pub use parser::AnswerParser;
pub use parts::AnswerPart;
