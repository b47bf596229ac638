//! Pieces of an answer, why it ends, and its statistics.

use super::pointer::Versioned;
use std::ffi::{c_char, c_void};
use std::mem::offset_of;

/// A piece of an answer.
#[repr(C)]
pub struct dovetail_piece {
    /// sizeof(dovetail_piece), set by the library.
    pub size: usize,
    /// The text that it adds, in whole characters, followed by a NUL that is not counted. Empty while a character is
    /// incomplete.
    pub text: *const c_char,
    /// Length of `text` in bytes.
    pub text_len: usize,
    /// The token, if there is one. There is none if a character that is cut off at the very end becomes U+FFFD.
    pub token: u32,
    /// Whether there is a token.
    pub has_token: bool,
    /// Whether the token was drafted.
    pub drafted: bool,
    /// Whether `logprob` and `top` are set, as dovetail_sampling asks for.
    pub has_logprob: bool,
    /// Natural logarithm of the token's probability, from the model's own logits: before bias, penalties and
    /// temperature.
    pub logprob: f32,
    /// The likeliest tokens in descending order, and their number.
    pub top: *const dovetail_logprob,
    /// See `top`.
    pub n_top: usize,
}

/// A token and the natural logarithm of its probability.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct dovetail_logprob {
    /// The token.
    pub token: u32,
    /// Natural logarithm of its probability.
    pub logprob: f32,
}

/// Receives each piece of an answer. Returns false to stop the answer there.
pub type dovetail_piece_callback =
    Option<unsafe extern "C" fn(userdata: *mut c_void, piece: *const dovetail_piece) -> bool>;

/// Why an answer has ended.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum dovetail_stop {
    /// It has not ended, or there was none.
    DOVETAIL_STOP_NONE = 0,
    /// The model ended it.
    DOVETAIL_STOP_END = 1,
    /// It has as many tokens as were asked for.
    DOVETAIL_STOP_LENGTH = 2,
    /// The context is full.
    DOVETAIL_STOP_CONTEXT = 3,
    /// The callback returned false.
    DOVETAIL_STOP_CALLBACK = 4,
    /// It was cancelled.
    DOVETAIL_STOP_CANCELLED = 5,
    /// A call failed.
    DOVETAIL_STOP_FAILED = 6,
    /// It reached a stop text.
    DOVETAIL_STOP_TEXT = 7,
}

/// Statistics since the last prompt, named as in llama.cpp's server. Times are in milliseconds.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct dovetail_stats {
    /// sizeof(dovetail_stats), set by the caller.
    pub size: usize,
    /// Number of tokens of the sequence, and the most that it may have.
    pub n_tokens: u64,
    /// See `n_tokens`.
    pub n_ctx: u64,
    /// Number of prompt tokens that were run, and of those that were already in the cache.
    pub prompt_n: u64,
    /// See `prompt_n`.
    pub cache_n: u64,
    /// Time of the prompt.
    pub prompt_ms: f64,
    /// Number of tokens generated, without an end token.
    pub predicted_n: u64,
    /// Time of these tokens.
    pub predicted_ms: f64,
    /// Number of rounds: passes of the model over a draft tree, which may be empty.
    pub rounds: u64,
    /// Number of draft tokens that were verified, and of those that were accepted.
    pub draft_n: u64,
    /// See `draft_n`.
    pub draft_n_accepted: u64,
    /// Time of drafting, and of verification.
    pub draft_ms: f64,
    /// See `draft_ms`.
    pub verify_ms: f64,
    /// The drafter's kind and device; NULL if there is none. Valid until the next call with this session.
    pub drafter: *const c_char,
    /// Why the last answer has ended.
    pub stop: dovetail_stop,
}

// SAFETY: it is `repr(C)` and begins with its size; it is only written.
unsafe impl Versioned for dovetail_stats {
    const NAME: &'static str = "dovetail_stats";
    const MIN_BYTES: usize = offset_of!(Self, stop) + size_of::<dovetail_stop>();
    const BOOLS: &'static [usize] = &[];
}
