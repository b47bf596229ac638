//! Dovetail runs a language model on the CPU with speculative decoding: a small drafter, on a GPU where there is one,
//! proposes the next tokens, and one pass of the model verifies several of them. Drafting changes the speed and never
//! the text, unless `spec_sampling` is "rejection".
//!
//! A program loads a model, creates a session, gives it a prompt and receives the text:
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
//! The sections go from simple to advanced: status and errors, options, models, pieces, sessions; then sessions step by
//! step, text and tokens, several sessions in one pass, and sessions in files.
//!
//! Rules that hold everywhere:
//!
//! - Functions that can fail return a dovetail_status; dovetail_last_error returns a line that says what went wrong and
//!   what to do. Results are written through pointers only on success, unless the function says otherwise.
//! - Handles are opaque numbers, not pointers. A freed, NULL or foreign handle is refused with DOVETAIL_ERROR_HANDLE.
//!   Freeing NULL, or a handle for the second time, does nothing.
//! - Text is UTF-8, a pointer and a length in bytes; the pointer may be NULL if the length is 0. Paths, names and lines
//!   for people end in a NUL.
//! - A structure that begins with `size` may grow in later versions. Let dovetail_options_init or
//!   dovetail_sampling_init fill it; where the library writes one, set `size` to its sizeof first. Programs and
//!   libraries of different versions work together.
//! - Any thread may use any handle. A model serves all threads at once. A session does one thing at a time: a second
//!   call in the meantime, even from its own callback, is refused with DOVETAIL_ERROR_BUSY. Exceptions are
//!   dovetail_session_cancel and dovetail_session_free, which end the first call after its current pass, and
//!   dovetail_session_get_stats.
//! - Callbacks run on the calling thread, before the function returns. They receive the `userdata` that was passed with
//!   them, must not throw or longjmp, and may free any handle. The data that they receive is valid until they return.
//!   While another thread is still in a call with a session, its callbacks may run after dovetail_session_free has
//!   returned.
//! - Nothing is printed except for an internal error, and no failure ends the program unless the system has no memory
//!   left.
//! - Text from outside may contain the texts of control tokens. In a conversation (dovetail_session_prompt_chat) they
//!   stay text. In prompts they become those tokens, as in a conversation that dovetail_apply_chat_template wrote as a
//!   text; only dovetail_tokenize without `parse_special` prevents this.

#![allow(non_camel_case_types, reason = "these are the names of C")]
#![allow(clippy::missing_safety_doc, reason = "pointers are what the head of the module says")]

pub mod batch;
mod generation;
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
