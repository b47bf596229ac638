//! What is found by name: Jinja's filters and tests, and Python's methods.
//!
//! `'x' is filter` and `value.method` only ask whether there is one; the files of filters, tests and methods have the
//! functions. `tests/mod.rs` looks that they know all names, `tests/costs.rs` that none reads its value for nothing.

use super::value::{ListKind, Value};

/// A filter.
pub struct Filter {
    /// Its name.
    pub name: &'static str,
    /// Whether it takes arguments.
    pub takes_arguments: bool,
    /// Whether it makes its value a string first.
    pub is_of_text: bool,
    /// Whether Jinja2 has it.
    pub is_jinjas: bool,
}

const fn filter(name: &'static str, takes_arguments: bool) -> Filter {
    Filter { name, takes_arguments, is_of_text: false, is_jinjas: true }
}

const fn text_filter(name: &'static str, takes_arguments: bool) -> Filter {
    Filter { is_of_text: true, ..filter(name, takes_arguments) }
}

const fn ours(filter: Filter) -> Filter {
    Filter { is_jinjas: false, ..filter }
}

/// All filters, and whether they take arguments.
pub const FILTERS: &[Filter] = &[
    filter("abs", false),
    filter("attr", true),
    filter("batch", true),
    ours(filter("bool", false)),
    text_filter("capitalize", false),
    text_filter("center", true),
    filter("count", false),
    filter("d", true),
    filter("default", true),
    filter("dictsort", true),
    text_filter("e", false),
    text_filter("escape", false),
    filter("first", false),
    filter("float", true),
    text_filter("forceescape", false),
    text_filter("format", true),
    filter("groupby", true),
    text_filter("indent", true),
    filter("int", true),
    filter("items", false),
    filter("join", true),
    filter("last", false),
    filter("length", false),
    filter("list", false),
    text_filter("lower", false),
    filter("map", true),
    filter("max", true),
    filter("min", true),
    filter("pprint", false),
    filter("reject", true),
    filter("rejectattr", true),
    text_filter("replace", true),
    filter("reverse", false),
    filter("round", true),
    filter("safe", false),
    filter("select", true),
    filter("selectattr", true),
    filter("slice", true),
    filter("sort", true),
    ours(text_filter("split", true)),
    filter("string", false),
    filter("sum", true),
    text_filter("title", false),
    filter("tojson", true),
    text_filter("trim", true),
    text_filter("truncate", true),
    filter("unique", true),
    text_filter("upper", false),
    text_filter("urlencode", false),
    text_filter("wordcount", false),
];

/// The filter of this name.
pub fn find_filter(name: &str) -> Option<&'static Filter> {
    FILTERS.iter().find(|filter| filter.name == name)
}

/// A test.
pub struct Test {
    /// Its name.
    pub name: &'static str,
    /// Whether it takes an argument.
    pub takes_arguments: bool,
    /// Whether Jinja2 has it.
    pub is_jinjas: bool,
}

const fn test(name: &'static str, takes_arguments: bool) -> Test {
    Test { name, takes_arguments, is_jinjas: true }
}

const fn our_test(name: &'static str, takes_arguments: bool) -> Test {
    Test { name, takes_arguments, is_jinjas: false }
}

/// All tests, and whether they take an argument.
pub const TESTS: &[Test] = &[
    test("!=", true),
    test("<", true),
    test("<=", true),
    test("==", true),
    test(">", true),
    test(">=", true),
    test("boolean", false),
    test("callable", false),
    test("defined", false),
    test("divisibleby", true),
    our_test("endingwith", true),
    test("eq", true),
    test("equalto", true),
    test("escaped", false),
    test("even", false),
    test("false", false),
    test("filter", false),
    test("float", false),
    test("ge", true),
    test("greaterthan", true),
    test("gt", true),
    test("in", true),
    our_test("int", false),
    test("integer", false),
    test("iterable", false),
    test("le", true),
    test("lessthan", true),
    test("lower", false),
    test("lt", true),
    test("mapping", false),
    test("ne", true),
    test("none", false),
    test("number", false),
    test("odd", false),
    test("sameas", true),
    test("sequence", false),
    our_test("startingwith", true),
    test("string", false),
    test("test", false),
    test("true", false),
    test("undefined", false),
    test("upper", false),
];

/// The test of this name.
pub fn find_test(name: &str) -> Option<&'static Test> {
    TESTS.iter().find(|test| test.name == name)
}

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
