//! What is ours, and what mistakes are called. `references.rs` compares with Jinja2, `costs.rs` looks that
//! nothing is free.

mod costs;
mod references;

use jiff::civil::date;

use super::names::{FILTERS, FLOAT, LIST, MAP, TESTS, TEXT, TUPLE};
use super::{Data, Template};

fn render(source: &str) -> Result<String, String> {
    let conversation = [
        ("system", " Be brief. "),
        ("user", "Hi there"),
        ("assistant", "<think>\nx\n</think>\n\nyes "),
        ("user", "Bye \"é\" <b>\n"),
    ];
    let message = |(role, content)| {
        Data::Map(vec![("role", Data::Text(role)), ("content", Data::Text(content))])
    };
    let variables = [
        ("messages", Data::List(conversation.map(message).to_vec())),
        ("add_generation_prompt", Data::Bool(true)),
        ("bos_token", Data::Text("<s>")),
        ("eos_token", Data::Text("</s>")),
        ("tools", Data::None),
        ("documents", Data::None),
    ];
    let template = Template::parse(source);
    let text =
        template.and_then(|template| template.render(&variables, date(2024, 7, 26).at(0, 0, 0, 0)));
    text.map(|rendered| rendered.text).map_err(|error| error.reason().to_owned())
}

/// What Jinja2 does not know, or prints as Python's own types.
#[test]
fn what_is_ours() {
    for (source, expected) in [
        ("{{ 'a,b' | split(',') }}{{ 1 | bool }}", "['a', 'b']True"),
        ("{% do [1] %}{{ tools | tojson }}", "null"),
        ("{% print 'a' %}{{ 'ab' is startingwith 'a' }}{{ 'ab' is endingwith 'a' }}", "aTrueFalse"),
        (r"{{ '\ud83d\ude00' }}", "😀"),
        ("{{ 1 if x is defined else 2 }}{% if 'a' if 0 else 'b' %}y{% endif %}", "2y"),
    ] {
        assert_eq!(render(source).as_deref(), Ok(expected), "{source}");
    }
}

#[test]
fn names_are_those_of_filters_tests_and_methods() {
    let reason = |source: String| render(&source).err().unwrap_or_default();
    for name in FILTERS.iter().map(|filter| filter.name) {
        let reason = reason(format!("{{{{ '' | {name} }}}}"));
        assert!(!reason.contains("unknown filter"), "{name}: {reason}");
    }
    for name in TESTS.iter().map(|test| test.name) {
        let reason = reason(format!("{{{{ [''] | select('{name}') | list }}}}"));
        assert!(!reason.contains("unknown test"), "{name}: {reason}");
    }
    let methods = [("''", TEXT), ("[]", LIST), ("()", TUPLE), ("{}", MAP), ("(1.5)", FLOAT)];
    for (value, names) in methods {
        for name in names {
            let reason = reason(format!("{{{{ {value}.{name}() }}}}"));
            assert!(!reason.contains("no method"), "{name}: {reason}");
        }
    }
}

#[test]
fn mistakes_are_named() {
    for (source, part) in [
        ("{{ x.y }}", "`.y` of an undefined value"),
        ("{{ x['y'] }}", "undefined"),
        ("{{ x[0] }}", "undefined"),
        ("{{ x[1:] }}", "undefined"),
        ("{{ messages[99].role }}", "`.role` of an undefined value"),
        ("{{ x + 'a' }}", "an undefined value + a string"),
        ("{{ 'a' + 1 }}", "a string + a whole number"),
        ("{{ 1 / 0 }}", "divided by zero"),
        ("{{ 1 < 'a' }}", "no order"),
        ("{{ function() }}", "an undefined value is called"),
        ("{{ 'a'() }}", "a string cannot be called"),
        ("{{ 'a'.nothing() }}", "no method `nothing`"),
        ("{{ 'a' | nothing }}", "unknown filter `nothing`"),
        ("{{ 1 is nothing }}", "unknown test `nothing`"),
        ("{{ [1].append(2) }}", "would change a list"),
        ("{{ {}.update({}) }}", "would change a dict"),
        ("{% set ns.x = 1 %}", "`ns` is not a namespace"),
        ("{% set a, b = [1] %}", "2 values are wanted, there are 1"),
        ("{% for i in 5 %}{% endfor %}", "not iterable"),
        ("{{ range(100001) }}", "more than 100000 items"),
        ("{{ 'a' | replace('b') }}", "argument `new` is missing"),
        ("{{ 'a'.strip('a', 'b') }}", "2 arguments are given, 1 are taken"),
        ("{{ 'a' | default(x=1) }}", "argument `x` is not taken"),
        ("{% macro m(a) %}{% endmacro %}{{ m(1, 2) }}", "more arguments than it takes"),
        ("{% macro m(a) %}{% endmacro %}{{ m(1, a=2) }}", "given twice"),
        ("{{ '%d' % 'a' }}", "takes a number, not a string"),
        ("{{ '%s' % () }}", "not enough values"),
        ("{{ '{} {}'.format(1) }}", "not enough values"),
        ("{{ '{'.format(1) }}", "braces"),
        ("{{ {[1]: 2} }}", "a list cannot be a key"),
        ("{{ raise_exception('roles must alternate') }}", "roles must alternate"),
        ("{% break %}", "unexpected `break` outside of a loop"),
        ("{% include 'x' %}", "no other templates"),
        ("{% foo %}", "unexpected statement `foo`"),
        ("{% if %}", "unexpected `%}`, expected an expression"),
        ("{% if x %}", "unexpected end of the template, expected `endif`"),
        ("{% if x %}{% endfor %}", "unexpected statement `endfor`"),
        ("{{ if .System }}", "unexpected `if`"),
        ("{{ range(a=1, 2) }}", "arguments of a call are in the wrong order"),
        ("{{ a b }}", "unexpected `b`, expected `}}`"),
        ("{% set true = 1 %}", "unexpected `true`"),
        (
            "{% for a in b %}{% block c %}{% endblock %}{% block c %}{% endblock %}",
            "second block `c`",
        ),
    ] {
        let reason = render(source).unwrap_err();
        assert!(reason.contains(part), "{source}: {reason}");
    }
}
