//! Fields that would change the answer in a way that this server does not know: they are refused by name. All other
//! unknown fields have no effect.
//!
//! To support one: take it away before [`crate::fields::Fields::generation`], and remove its row here.

use crate::error::ApiError;
use serde_json::Value;

/// The names, and the value that asks for nothing where it is not false, 0 or empty.
const REFUSED: &[(&str, Option<&str>)] = &[
    ("adaptive_target", Some("-1")),
    ("audio", None),
    ("background", None),
    ("best_of", Some("1")),
    ("chat_template_kwargs", None),
    ("dry_multiplier", None),
    ("dynatemp_range", None),
    ("function_call", Some("none")),
    ("functions", None),
    ("image_data", None),
    ("lora", None),
    ("min_keep", None),
    ("mcp_servers", None),
    ("mirostat", None),
    ("mirostat_mode", None),
    ("n_indent", None),
    ("post_sampling_probs", None),
    ("prediction", None),
    ("samplers", None),
    ("t_max_predict_ms", Some("-1")),
    ("tools", None),
    ("top_a", None),
    ("top_n_sigma", Some("-1")),
    ("typical_p", Some("1")),
    ("xtc_probability", None),
];

/// Refuses a field that would change the answer.
///
/// # Errors
/// If it would; the error names it.
pub fn check(name: &str, value: &Value) -> Result<(), ApiError> {
    let row = REFUSED.iter().find(|(refused, _)| *refused == name);
    if row.is_none_or(|(_, nothing)| asks_for_nothing(value, *nothing)) {
        return Ok(());
    }
    Err(ApiError::field(name, "is not supported; leave it out"))
}

/// Whether a value asks for nothing.
fn asks_for_nothing(value: &Value, nothing: Option<&str>) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(on) => !on,
        Value::Number(n) => {
            let nothing = nothing.and_then(|nothing| nothing.parse().ok()).unwrap_or(0.0);
            n.as_f64() == Some(nothing)
        }
        Value::String(text) => text.is_empty() || text == "auto" || Some(&**text) == nothing,
        Value::Array(all) => all.is_empty(),
        Value::Object(all) => all.is_empty(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_would_change_the_answer_is_refused_by_name() {
        for (name, value) in [
            ("tools", json!([])),
            ("typical_p", json!(1.0)),
            ("top_n_sigma", json!(-1)),
            ("mirostat", json!(0)),
            ("user", json!("me")),
            ("colour", json!(7)),
        ] {
            assert!(check(name, &value).is_ok(), "{name}: {value}");
        }
        for (name, value) in [
            ("tools", json!([{"type": "function"}])),
            ("typical_p", json!(0.5)),
            ("best_of", json!(2)),
            ("image_data", json!([{"data": "", "id": 1}])),
            ("chat_template_kwargs", json!({"enable_thinking": false})),
        ] {
            let error = check(name, &value).unwrap_err();
            assert_eq!((error.status(), error.param.as_deref()), (400, Some(name)));
        }
    }
}
