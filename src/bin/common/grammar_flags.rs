//! Flags of a grammar, and fields of a request that give one.

use crate::values::Checked;
use clap::Args;
use dovetail::{Error, Grammar, Result, file};
use serde_json::Value;
use std::path::{Path, PathBuf};

#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Grammar")]
pub struct GrammarFlags {
    /// Answers are texts of this grammar, in GBNF
    #[arg(long, value_name = "GBNF", group = "a_grammar")]
    grammar: Option<String>,
    /// The same, from a file
    #[arg(long, value_name = "FILE", group = "a_grammar")]
    grammar_file: Option<PathBuf>,
    /// Answers are JSON of this schema; {} allows any JSON
    #[arg(short, long, value_name = "SCHEMA", group = "a_grammar")]
    json_schema: Option<String>,
    /// The same, from a file [-jf]
    #[arg(long, value_name = "FILE", group = "a_grammar")]
    json_schema_file: Option<PathBuf>,
}

impl GrammarFlags {
    /// The grammar that a flag gives.
    ///
    /// # Errors
    /// If its file cannot be read.
    pub fn grammar(&self) -> Result<Option<Grammar>> {
        let GrammarFlags { grammar, grammar_file, json_schema, json_schema_file } = self;
        let of = |text: &Option<String>, path: &Option<PathBuf>| match (text, path) {
            (Some(text), _) => Ok(Some(text.clone())),
            (None, path) => path.as_deref().map(read).transpose(),
        };
        if let Some(gbnf) = of(grammar, grammar_file)? {
            return Ok(Some(Grammar::Gbnf(gbnf)));
        }
        Ok(of(json_schema, json_schema_file)?.map(Grammar::JsonSchema))
    }
}

fn read(path: &Path) -> Result<String> {
    let bytes = std::fs::read(path).map_err(|source| Error::Io { path: path.into(), source })?;
    file::text(bytes)
        .map_err(|_| Error::Invalid(format!("{}: is not UTF-8; give a text file", path.display())))
}

/// The grammar that a field of a request gives, under the names of OpenAI's interface and of llama.cpp's server. The first
/// option is `None` if the field is another one, the second if it gives no grammar.
///
/// # Errors
/// What is wrong with the value; the sentence begins behind the field's name.
pub fn field(name: &str, value: &Value) -> Checked<Option<Option<Grammar>>> {
    let wrong = |give: &str| Err(format!("is {value}; give {give}"));
    Ok(Some(match name {
        "grammar" => match value.as_str() {
            Some("") => None,
            Some(gbnf) => Some(Grammar::Gbnf(gbnf.to_owned())),
            None => return wrong("a grammar in GBNF"),
        },
        "json_schema" => match value {
            Value::Object(_) | Value::Bool(_) => Some(Grammar::JsonSchema(value.to_string())),
            _ => return wrong("a JSON schema"),
        },
        "response_format" => {
            // OpenAI nests the schema twice, llama.cpp's server once or not at all.
            let schema = [&value["json_schema"]["schema"], &value["schema"]];
            let schema = schema.into_iter().find(|schema| !schema.is_null());
            match (value["type"].as_str(), schema) {
                (Some("text"), _) => None,
                (Some("json_object"), None) => Some(Grammar::JsonObject),
                (Some("json_object" | "json_schema"), Some(schema)) => {
                    Some(Grammar::JsonSchema(schema.to_string()))
                }
                _ => {
                    return wrong("{\"type\": \"json_schema\", \"json_schema\": {\"schema\": …}}");
                }
            }
        }
        _ => return Ok(None),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn fields_give_grammars() {
        let schema = json!({"type": "integer"});
        let of_schema = Some(Some(Grammar::JsonSchema(schema.to_string())));
        for (name, value, grammar) in [
            (
                "grammar",
                json!("root ::= \"a\""),
                Some(Some(Grammar::Gbnf("root ::= \"a\"".into()))),
            ),
            ("grammar", json!(""), Some(None)),
            ("json_schema", schema.clone(), of_schema.clone()),
            ("response_format", json!({"type": "text"}), Some(None)),
            ("response_format", json!({"type": "json_object"}), Some(Some(Grammar::JsonObject))),
            (
                "response_format",
                json!({"type": "json_object", "schema": schema}),
                of_schema.clone(),
            ),
            (
                "response_format",
                json!({"type": "json_schema", "json_schema": {"name": "n", "schema": schema}}),
                of_schema,
            ),
            ("temperature", json!(1), None),
        ] {
            assert_eq!(field(name, &value), Ok(grammar), "{name}: {value}");
        }
        for (name, value) in [
            ("grammar", json!(5)),
            ("json_schema", json!("{}")),
            ("response_format", json!({"type": "json_schema"})),
            ("response_format", json!({"type": "xml"})),
            ("response_format", json!("json")),
        ] {
            assert!(field(name, &value).unwrap_err().contains("; give "), "{name}: {value}");
        }
    }
}
