//! JSON schemas for the parser of grammars.

use serde_json::{Value, json};

/// The schema with the white space of its values fixed: one line, `, ` between items and `: ` behind keys. Where white
/// space is free, a small model loses itself in it, and nothing between two values is forced. A schema that has
/// llguidance's options itself, as `x-guidance`, keeps those.
pub(super) fn in_one_line(mut schema: Value) -> Value {
    if schema == true {
        schema = json!({});
    }
    if let Some(fields) = schema.as_object_mut() {
        let options =
            json!({ "whitespace_flexible": false, "item_separator": ", ", "key_separator": ": " });
        fields.entry("x-guidance").or_insert(options);
    }
    schema
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_schema_with_options_of_its_own_keeps_them() {
        let own = json!({ "type": "integer", "x-guidance": { "whitespace_flexible": true } });
        assert_eq!(in_one_line(own.clone()), own);
        assert_eq!(in_one_line(json!(true)), in_one_line(json!({})));
        assert_eq!(in_one_line(json!(false)), false);
        let given = in_one_line(json!({ "type": "integer" }));
        assert_eq!(given["x-guidance"]["whitespace_flexible"], false);
    }
}
