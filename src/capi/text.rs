//! Text and tokens.

use super::handle;
use super::model::dovetail_model;
use super::panic;
use super::pointer;
use super::session::{dovetail_message, messages};
use super::status::dovetail_status;
use crate::text::ChatTemplate;
use std::ffi::c_char;

/// The tokens of a text, into a buffer for `capacity` of them; their number is written to `n_tokens`, also with
/// DOVETAIL_ERROR_BUFFER where they do not fit. `add_special` puts the tokens at the beginning and the end that the
/// model wants there; `parse_special` makes of the texts of control tokens these tokens, which text from outside must
/// not become.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dovetail_tokenize(
    model: *const dovetail_model,
    text: *const c_char,
    text_len: usize,
    add_special: bool,
    parse_special: bool,
    tokens: *mut u32,
    capacity: usize,
    n_tokens: *mut usize,
) -> dovetail_status {
    panic::call(model, || {
        let model = handle::get(model)?;
        // SAFETY: as the head of `capi` has it.
        unsafe {
            let text = pointer::text(text, text_len, "the text")?;
            let found = model.model.tokenizer().encode(text, add_special, parse_special)?;
            pointer::fill(&found, tokens, capacity, n_tokens, "tokens")
        }
    })
}

/// The text of some tokens, into a buffer of `capacity` bytes, without a NUL; its length is written to `text_len`, also
/// with DOVETAIL_ERROR_BUFFER where it does not fit. It may begin or end in the middle of a character. Control tokens
/// have no text unless `special`, nor have numbers that are no token.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dovetail_detokenize(
    model: *const dovetail_model,
    tokens: *const u32,
    n_tokens: usize,
    special: bool,
    text: *mut c_char,
    capacity: usize,
    text_len: *mut usize,
) -> dovetail_status {
    panic::call(model, || {
        let model = handle::get(model)?;
        // SAFETY: as the head of `capi` has it.
        unsafe {
            let tokens = pointer::slice(tokens, n_tokens, "the array of tokens")?;
            let found = model.model.tokenizer().decode(tokens, special);
            pointer::fill(&found, text.cast(), capacity, text_len, "text")
        }
    })
}

/// The text of one token as it stands inside a text, into a buffer as dovetail_detokenize has it; that of several begins
/// without the space that some models put in front of a text.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dovetail_token_text(
    model: *const dovetail_model,
    token: u32,
    special: bool,
    text: *mut c_char,
    capacity: usize,
    text_len: *mut usize,
) -> dovetail_status {
    panic::call(model, || {
        let model = handle::get(model)?;
        let found = model.model.tokenizer().piece(token, special);
        // SAFETY: as the head of `capi` has it.
        unsafe { pointer::fill(found, text.cast(), capacity, text_len, "text") }
    })
}

/// The text that a chat template makes of a conversation, into a buffer as dovetail_detokenize has it. `chat_template` is a
/// name or a Jinja template; NULL takes the model's. `add_generation_prompt` ends it where the assistant's message
/// begins.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dovetail_apply_chat_template(
    model: *const dovetail_model,
    chat_template: *const c_char,
    conversation: *const dovetail_message,
    n_messages: usize,
    add_generation_prompt: bool,
    text: *mut c_char,
    capacity: usize,
    text_len: *mut usize,
) -> dovetail_status {
    panic::call(model, || {
        let model = handle::get(model)?;
        // SAFETY: as the head of `capi` has it.
        unsafe {
            let given = pointer::name(chat_template, "chat_template")?
                .map(ChatTemplate::given)
                .transpose()?;
            let template = match &given {
                Some(template) => template,
                None => model.template()?,
            };
            let messages = messages(conversation, n_messages)?;
            let tokenizer = model.model.tokenizer();
            let found = template.text(tokenizer, &messages, add_generation_prompt)?;
            pointer::fill(found.as_bytes(), text.cast(), capacity, text_len, "text")
        }
    })
}
