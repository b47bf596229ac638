//! What is found by name: Jinja's filters and tests, and Python's methods.
//!
//! `'x' is filter` and `value.method` only ask whether there is one; the files of filters, tests and methods have the
//! functions. `tests/mod.rs` looks that they know all names.

use super::value::{ListKind, Value};

/// Jinja's filters.
pub const FILTERS: &[&str] = &[
    "abs",
    "attr",
    "batch",
    "capitalize",
    "center",
    "count",
    "d",
    "default",
    "dictsort",
    "e",
    "escape",
    "first",
    "float",
    "forceescape",
    "format",
    "groupby",
    "indent",
    "int",
    "items",
    "join",
    "last",
    "length",
    "list",
    "lower",
    "map",
    "max",
    "min",
    "pprint",
    "reject",
    "rejectattr",
    "replace",
    "reverse",
    "round",
    "safe",
    "select",
    "selectattr",
    "slice",
    "sort",
    "string",
    "sum",
    "title",
    "tojson",
    "trim",
    "truncate",
    "unique",
    "upper",
    "urlencode",
    "wordcount",
];
/// Jinja's tests.
pub const TESTS: &[&str] = &[
    "!=",
    "<",
    "<=",
    "==",
    ">",
    ">=",
    "boolean",
    "callable",
    "defined",
    "divisibleby",
    "eq",
    "equalto",
    "escaped",
    "even",
    "false",
    "filter",
    "float",
    "ge",
    "greaterthan",
    "gt",
    "in",
    "integer",
    "iterable",
    "le",
    "lessthan",
    "lower",
    "lt",
    "mapping",
    "ne",
    "none",
    "number",
    "odd",
    "sameas",
    "sequence",
    "string",
    "test",
    "true",
    "undefined",
    "upper",
];

/// Methods of strings.
pub const TEXT: &[&str] = &[
    "capitalize",
    "casefold",
    "center",
    "count",
    "endswith",
    "expandtabs",
    "find",
    "format",
    "format_map",
    "index",
    "isalnum",
    "isalpha",
    "isascii",
    "isdecimal",
    "isdigit",
    "isidentifier",
    "islower",
    "isnumeric",
    "isprintable",
    "isspace",
    "istitle",
    "isupper",
    "join",
    "ljust",
    "lower",
    "lstrip",
    "partition",
    "removeprefix",
    "removesuffix",
    "replace",
    "rfind",
    "rindex",
    "rjust",
    "rpartition",
    "rsplit",
    "rstrip",
    "split",
    "splitlines",
    "startswith",
    "strip",
    "swapcase",
    "title",
    "upper",
    "zfill",
];
/// Methods of lists.
pub const LIST: &[&str] = &["index", "count", "copy"];
/// Methods of tuples.
pub const TUPLE: &[&str] = &["index", "count"];
/// Methods of dictionaries.
pub const MAP: &[&str] = &["items", "keys", "values", "get", "copy"];
/// Methods of numbers that have a point.
pub const FLOAT: &[&str] = &["is_integer"];

/// Methods that would change a list.
const LIST_CHANGES: &[&str] =
    &["append", "extend", "insert", "pop", "remove", "clear", "sort", "reverse"];
/// Methods that would change a dictionary.
const MAP_CHANGES: &[&str] = &["clear", "pop", "popitem", "setdefault", "update"];

/// A method of a value.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Method {
    /// It only reads its value; by its name.
    Reads(&'static str),
    /// It would change its value.
    Changes,
}

/// The method of this name that a value has.
pub fn find_method(value: &Value, name: &str) -> Option<Method> {
    let (reads, changes): (&'static [&'static str], &[&str]) = match value {
        Value::Text(_) => (TEXT, &[]),
        Value::List(list) if list.kind == ListKind::List => (LIST, LIST_CHANGES),
        Value::List(list) if list.kind.is_tuple() => (TUPLE, &[]),
        Value::Map(_) => (MAP, MAP_CHANGES),
        Value::Float(_) => (FLOAT, &[]),
        _ => return None,
    };
    let method = reads.iter().find(|known| **known == name).map(|name| Method::Reads(name));
    method.or_else(|| changes.contains(&name).then_some(Method::Changes))
}
