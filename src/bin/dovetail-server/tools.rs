//! The tools that a request offers, and which of them it wants called.

use crate::error::ApiError;
use crate::fields::Fields;
use crate::state::Ready;
use dovetail::text::AnswerFormat;
use dovetail::{Constraint, Grammar};
use serde_json::Value;

/// The tools of a request. See the module.
#[derive(Debug, Default)]
pub struct Tools {
    /// The tools in OpenAI's form; none if none may be called.
    pub list: Vec<Value>,
    must_call: bool,
    parallel: bool,
}

impl Tools {
    /// Takes the fields away that OpenAI's clients send.
    ///
    /// # Errors
    /// If one has a value that cannot be, or a tool is wanted that is not offered.
    pub fn take(fields: &mut Fields) -> Result<Tools, ApiError> {
        let mut list: Vec<Value> = fields.take("tools")?.unwrap_or_default();
        // Tools of other kinds run where the model does: here there are none.
        list.retain(|tool| tool["type"] == "function");
        let choice: Option<Value> = fields.take("tool_choice")?;
        let parallel = fields.take("parallel_tool_calls")?.unwrap_or(true);
        let mut tools = Tools { list, must_call: false, parallel };
        match choice.as_ref().map(|choice| (choice.as_str(), &choice["function"]["name"])) {
            None | Some((Some("auto"), _)) => {}
            Some((Some("none"), _)) => tools.list.clear(),
            Some((Some("required"), _)) => tools.must_call = true,
            Some((None, Value::String(name))) => {
                tools.list.retain(|tool| tool["function"]["name"] == **name);
                tools.must_call = true;
            }
            Some(_) => {
                let what = "is none of \"auto\", \"none\", \"required\" and {\"type\": \"function\", \
                            \"function\": {\"name\": …}}";
                return Err(ApiError::field("tool_choice", what));
            }
        }
        if tools.must_call && tools.list.is_empty() {
            return Err(ApiError::field(
                "tool_choice",
                "wants a tool that \"tools\" does not have",
            ));
        }
        Ok(tools)
    }

    /// Whether an answer may have one call at most.
    pub fn allow_one_call(&self) -> bool {
        !self.parallel && !self.list.is_empty()
    }

    /// The constraint that allows nothing but calls, if there must be one.
    ///
    /// # Errors
    /// If the model's calls have no form that is known, or a tool's schema cannot be used.
    pub fn constraint(
        &self,
        ready: &Ready,
        format: &AnswerFormat,
    ) -> Result<Option<Constraint>, ApiError> {
        if !self.must_call {
            return Ok(None);
        }
        let grammar = format.tool_call_grammar(ready.tokenizer(), &self.list, self.parallel)?;
        Ok(Some(ready.model.constraint(&Grammar::Lark(grammar))?))
    }
}
