//! From a chat to a request of the engine, and how its answer is read.

use crate::deltas::Reading;
use crate::error::ApiError;
use crate::prompt::{self, Chat};
use crate::state::Ready;
use crate::tools::Tools;
use dovetail::{Generation, Request};

/// The request for an answer to a chat, which may call these tools.
///
/// # Errors
/// If the template refuses the messages or the tools, the prompt does not fit, or a call is wanted beside a grammar.
pub fn chat_request(
    ready: &Ready,
    mut chat: Chat,
    tools: &Tools,
    mut generation: Generation,
) -> Result<(Request, Reading), ApiError> {
    chat.tools.clone_from(&tools.list);
    let prompt = prompt::chat(ready, chat)?;
    let reading = Reading::new(prompt::template(ready)?, ready.tokenizer(), &prompt, tools);
    generation.special = reading.is_marked();
    let of_tools = tools.constraint(ready, reading.format())?;
    if of_tools.is_some() && generation.constraint.is_some() {
        let what = "wants a call of a tool, and a grammar is given too; leave one out";
        return Err(ApiError::field("tool_choice", what));
    }
    // The grammar of calls ends behind the last one by itself.
    generation.until_call = reading.until_call().filter(|_| of_tools.is_none());
    let constraint = of_tools.or(generation.constraint);
    generation.constraint = constraint.map(|constraint| reading.behind_thought(constraint));
    Ok((Request { prompt: prompt.tokens, generation, drafter: None }, reading))
}
