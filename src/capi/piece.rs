//! Pieces of an answer, why it ends, and what is counted.

use super::pointer::Versioned;
use std::ffi::{c_char, c_void};
use std::mem::offset_of;

/// A piece of generated text.
#[repr(C)]
pub struct dovetail_piece {
    /// sizeof(dovetail_piece), set by the library.
    pub size: usize,
    /// What it adds to the text, whole characters, with a NUL behind that is not counted. Empty while a character is
    /// incomplete.
    pub text: *const c_char,
    /// Bytes of it.
    pub text_len: usize,
    /// The token, if there is one: a character cut off at the very end becomes U+FFFD, which is none.
    pub token: u32,
    /// Whether there is a token.
    pub has_token: bool,
    /// Whether a drafter had guessed it.
    pub guessed: bool,
    /// Whether `logprob` says how likely the token was, as dovetail_sampling asks for.
    pub has_logprob: bool,
    /// The logarithm of its probability, before anything is done to the logits.
    pub logprob: f32,
    /// The likeliest tokens, the likeliest first, and how many there are.
    pub top: *const dovetail_logprob,
    /// See `top`.
    pub n_top: usize,
}

/// A token and the logarithm of its probability.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct dovetail_logprob {
    /// The token.
    pub token: u32,
    /// The logarithm of its probability.
    pub logprob: f32,
}

/// Told each piece of an answer; false stops it there.
pub type dovetail_piece_callback =
    Option<unsafe extern "C" fn(userdata: *mut c_void, piece: *const dovetail_piece) -> bool>;

/// Why an answer has ended.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum dovetail_stop {
    /// It has not, or there was none.
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
    /// A stop text came.
    DOVETAIL_STOP_TEXT = 7,
}

/// Counts and times since the last prompt, as llama.cpp's server names them; times are in milliseconds.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct dovetail_stats {
    /// sizeof(dovetail_stats), set by the caller.
    pub size: usize,
    /// Tokens of the sequence, and most that it may have.
    pub n_tokens: u64,
    /// See `n_tokens`.
    pub n_ctx: u64,
    /// Prompt tokens that were run, and those that were still in the cache and were not.
    pub prompt_n: u64,
    /// See `prompt_n`.
    pub cache_n: u64,
    /// Time for the prompt.
    pub prompt_ms: f64,
    /// Tokens generated, without an end token.
    pub predicted_n: u64,
    /// Time for them.
    pub predicted_ms: f64,
    /// Rounds: passes of the model over a tree of guesses, or none.
    pub rounds: u64,
    /// Guesses that were verified, and those that were accepted.
    pub draft_n: u64,
    /// See `draft_n`.
    pub draft_n_accepted: u64,
    /// Time of guessing, and of verifying.
    pub draft_ms: f64,
    /// See `draft_ms`.
    pub verify_ms: f64,
    /// Who guesses, and where; NULL if nobody does. It stays until the next call with this session.
    pub drafter: *const c_char,
    /// Why the last answer has ended.
    pub stop: dovetail_stop,
}

// SAFETY: it is `repr(C)` and begins with its size; it is only written.
unsafe impl Versioned for dovetail_stats {
    const NAME: &'static str = "dovetail_stats";
    const LEAST: usize = offset_of!(Self, stop) + size_of::<dovetail_stop>();
    const BOOLS: &'static [usize] = &[];
}
