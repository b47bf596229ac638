//! Text and tokens.

use super::handle;
use super::model::dovetail_model;
use super::panic;
use super::pointer;
use super::session::{dovetail_message, messages};
use super::status::dovetail_status;
use crate::text::ChatTemplate;
use std::ffi::c_char;

/// Tokenizes a text into a buffer of `capacity` tokens. `n_tokens` is set to the number of tokens, even if they do not
/// fit and DOVETAIL_ERROR_BUFFER is returned. `add_special` adds the tokens that the model expects at the beginning and
/// the end. `parse_special` turns the texts of control tokens into those tokens; leave it false for text from outside.
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
        // SAFETY: as the head of `capi` requires.
        unsafe {
            let text = pointer::text(text, text_len, "the text")?;
            let found = model.model.tokenizer().encode(text, add_special, parse_special)?;
            pointer::fill(&found, tokens, capacity, n_tokens, "tokens")
        }
    })
}

/// Writes the text of tokens to a buffer of `capacity` bytes, without a NUL. `text_len` is set to its length in bytes,
/// even if it does not fit and DOVETAIL_ERROR_BUFFER is returned. The text may begin or end in the middle of a
/// character. Control tokens have no text unless `special` is true; numbers that are no tokens have none.
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
        // SAFETY: as the head of `capi` requires.
        unsafe {
            let tokens = pointer::slice(tokens, n_tokens, "the array of tokens")?;
            let found = model.model.tokenizer().decode(tokens, special);
            pointer::fill(&found, text.cast(), capacity, text_len, "text")
        }
    })
}

/// Writes the text of one token as it appears inside a text to a buffer, as dovetail_detokenize does. That function,
/// unlike this one, leaves out the space that some models put in front of a text.
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
        // SAFETY: as the head of `capi` requires.
        unsafe { pointer::fill(found, text.cast(), capacity, text_len, "text") }
    })
}

/// Renders a conversation with a chat template into a buffer, as dovetail_detokenize does. `chat_template` is a name or
/// a Jinja template, or NULL for the model's. With `add_generation_prompt` the text ends where the assistant's message
/// begins. The text does not show which control tokens the template wrote and which a message contains: prompt a session
/// with dovetail_session_prompt_chat.
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
        // SAFETY: as the head of `capi` requires.
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
