//! Every filter, test and method costs what it reads, whatever it is given: names come from `names.rs`, so one that is
//! added is covered.

use std::time::{Duration, Instant};

use jiff::civil::date;

use super::super::Template;
use super::super::heap::Heap;
use super::super::meter::Meter;
use super::super::names::{FILTERS, FLOAT, LIST, MAP, TESTS, TEXT, TUPLE};
use super::super::value::Value;

/// Values as a template writes them, and the names of their methods.
const METHODS: [(&str, &[&str]); 5] =
    [("s", TEXT), ("l", LIST), ("(1, l)", TUPLE), ("m", MAP), ("(1.5)", FLOAT)];
/// Arguments that some name takes.
const ARGUMENTS: [&str; 15] = [
    "",
    "(s)",
    "('ab', 'c')",
    "('c')",
    "('ab')",
    "(1)",
    "(1000)",
    "(2)",
    "('upper')",
    "('string')",
    "('role', 'string')",
    "(['a'])",
    "(l)",
    "({'a': 1})",
    "(attribute='a', default=1)",
];
/// The steps that a template here has at most, and the time that it may take for them where tests are not optimised. What
/// reads eight megabytes for a few steps takes much longer.
const STEPS: usize = 150_000;
const MOST_TIME: Duration = Duration::from_secs(1);

/// A string `s`, a list `l` and a dictionary `m`, with this many items each, but the string 400 characters for each.
fn variables(n: usize) -> [(&'static str, Value); 3] {
    let heap = Heap::new(Meter::new(0, 1 << 20)).unwrap();
    let long = heap.text(&"ab".repeat(200 * n)).unwrap();
    let items = heap.list((0..n as i64).map(Value::Int)).unwrap();
    let mut map = heap.map_builder().unwrap();
    for key in 0..n as i64 {
        map.push(Value::Int(key), Value::None).unwrap();
    }
    [("s", long), ("l", items), ("m", map.finish())]
}

/// Renders a template with few steps.
fn render(source: &str, variables: &[(&str, Value)]) -> Result<String, String> {
    let heap = Heap::new(Meter::new(0, 0)).unwrap();
    heap.meter().spend_all_but(STEPS);
    let template = Template::parse(source).map_err(|error| error.reason().to_owned())?;
    let text = template.run(&heap, variables, date(2024, 2, 5).at(0, 0, 0, 0));
    text.map(|rendered| rendered.text).map_err(|error| error.reason().to_owned())
}

/// Looks that one of these uses of a name is taken, and that all of them end soon.
fn assert_counted(name: &str, uses: impl Iterator<Item = String>) {
    let (short, long) = (variables(2), variables(20_000));
    let mut n_taken = 0;
    for expression in uses {
        if render(&format!("{{% set x = {expression} %}}"), &short).is_err() {
            continue;
        }
        n_taken += 1;
        let source = format!(
            "{{% for i in range(300) %}}{{% for j in range(300) %}}{{% set x = {expression} %}}\
             {{% endfor %}}{{% endfor %}}"
        );
        let start = Instant::now();
        let found = render(&source, &long);
        assert!(start.elapsed() < MOST_TIME, "{expression} takes {:?}: {found:?}", start.elapsed());
    }
    assert!(n_taken > 0, "{name} takes none of these arguments");
}

/// Each long value, and a number, with each of the arguments.
fn pairs() -> impl Iterator<Item = (&'static str, &'static str)> {
    ["s", "l", "m", "7"].into_iter().flat_map(|value| ARGUMENTS.map(|given| (value, given)))
}

#[test]
fn filters_cost_what_they_read() {
    for name in FILTERS.iter().map(|filter| filter.name) {
        assert_counted(name, pairs().map(|(value, given)| format!("{value} | {name}{given}")));
    }
}

#[test]
fn tests_cost_what_they_read() {
    // Comparisons such as `==` are tests of `select` alone.
    let names = TESTS.iter().map(|test| test.name);
    for name in names.filter(|name| name.starts_with(char::is_alphabetic)) {
        assert_counted(name, pairs().map(|(value, given)| format!("{value} is {name}{given}")));
    }
}

#[test]
fn methods_cost_what_they_read() {
    for (value, methods) in METHODS {
        for name in methods {
            let arguments = ARGUMENTS.map(|given| if given.is_empty() { "()" } else { given });
            let calls = arguments.into_iter().map(|given| format!("{value}.{name}{given}"));
            assert_counted(name, calls);
        }
    }
}
