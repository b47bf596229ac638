//! From a chat to a request of the engine, and how its answer is read.

use crate::deltas::Reading;
use crate::error::ApiError;
use crate::prompt::{self, Chat, SentMessage};
use crate::state::Ready;
use crate::tools::Tools;
use dovetail::{Generation, Request};
use serde_json::{Map, Value};

/// The request for an answer to these messages, which may call the tools. `variables` are those of the template.
///
/// # Errors
/// If the template refuses the messages or the tools, the prompt does not fit, or a call is wanted beside a grammar.
pub fn chat_request(
    ready: &Ready,
    messages: Vec<SentMessage>,
    variables: Map<String, Value>,
    tools: &Tools,
    mut generation: Generation,
) -> Result<(Request, Reading), ApiError> {
    let chat = Chat { messages, tools: tools.list.clone(), variables };
    let prompt = prompt::chat(ready, chat)?;
    let reading = Reading::new(prompt::template(ready)?, ready.tokenizer(), &prompt, &tools.list);
    generation.special = reading.is_marked();
    let of_tools = tools.constraint(ready, reading.format())?;
    if of_tools.is_some() && generation.constraint.is_some() {
        let what = "wants a call of a tool, and a grammar is given too; leave one out";
        return Err(ApiError::field("tool_choice", what));
    }
    generation.constraint = of_tools.or(generation.constraint);
    Ok((Request { prompt, generation, drafter: None }, reading))
}
