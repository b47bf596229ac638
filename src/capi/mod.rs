//! Dovetail: a language model on the CPU whose next tokens are guessed by a small drafter, on a GPU where there is
//! one. What the drafter guesses changes the speed and never the text.
//!
//! A program loads a model, makes a session, gives it a prompt and takes the text:
//!
//! ```c
//! dovetail_model *model;
//! dovetail_session *session;
//! dovetail_message message = {"user", 4, "Why is the sky blue?", 20};
//! if (dovetail_model_load("model.gguf", NULL, &model) == DOVETAIL_OK &&
//!     dovetail_session_new(model, NULL, &session) == DOVETAIL_OK &&
//!     dovetail_session_prompt_chat(session, &message, 1) == DOVETAIL_OK)
//!     dovetail_session_generate(session, NULL, 200, print, NULL); /* your callback */
//! ```
//!
//! What follows goes from the simple to the advanced: status and errors, options, models, pieces, sessions; sessions in
//! steps of one's own, text and tokens, several sessions in one pass, sessions in files.
//!
//! Rules that hold everywhere:
//!
//! - Functions that can fail return a dovetail_status; dovetail_last_error has a line about what went wrong and what
//!   to do. What they hand out through a pointer is written on success alone, unless the function says otherwise.
//! - Handles are opaque and never pointers to memory. One that was freed, is NULL or of another kind is refused with
//!   DOVETAIL_ERROR_HANDLE, and freeing NULL, or a second time, does nothing.
//! - Text is UTF-8, a pointer and its length in bytes; NULL is allowed where the length is 0. Paths, names and lines for
//!   people end in a NUL.
//! - A structure that begins with `size` may grow in later versions: let dovetail_options_init and the like fill it, or set
//!   `size` to its sizeof where it is handed out. Programs and libraries of different versions work together.
//! - Any thread may use any handle. A model serves all threads at once. A session does one thing at a time: a second
//!   call meanwhile, also one from its own callback, is refused with DOVETAIL_ERROR_BUSY, but for
//!   dovetail_session_cancel and dovetail_session_free, which end the first one after its present pass.
//! - Callbacks run on the thread that called, before its function returns; they get the `userdata` that came with them,
//!   must not throw or longjmp, and may free any handle. What a callback is given it may read until it returns. While
//!   another thread is still in a call with a session, its callbacks may run after dovetail_session_free has returned.
//! - Nothing is printed but for an internal error, and no failure ends the program, unless the system has no memory left.
//! - What comes from outside may hold the texts of control tokens. In a conversation, as in every other program, they become
//!   these tokens: only dovetail_tokenize can keep them from it.

#![allow(non_camel_case_types, reason = "these are the names of C")]
#![allow(clippy::missing_safety_doc, reason = "pointers are what the head of the module says")]

pub mod batch;
mod handle;
pub mod library;
pub mod model;
mod observer;
pub mod options;
mod panic;
pub mod piece;
mod pointer;
pub mod saved;
pub mod session;
mod state;
pub mod status;
pub mod steps;
pub mod text;
