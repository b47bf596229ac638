//! A chat template is part of a model's file. Whatever it says, it ends soon, in little memory and on a small stack, and a
//! model whose template is broken is still good for all but chat.

mod common;

use common::place::Folder;
use common::tiny::tiny;
use dovetail::gguf::{Gguf, Value};
use dovetail::model::Repack;
use dovetail::{ChatTemplate, Error, Message, Sampling, Session, SessionOptions};
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::fmt::Write;
use std::process::{Command, Output, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant, UNIX_EPOCH};

/// Counts the bytes that each thread has, and the most that it had.
struct Counting;

thread_local! {
    static BYTES: Cell<isize> = const { Cell::new(0) };
    static PEAK: Cell<isize> = const { Cell::new(0) };
}

fn count(bytes: isize) {
    let now = BYTES.get() + bytes;
    BYTES.set(now);
    PEAK.set(PEAK.get().max(now));
}

// SAFETY: hands everything on to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as isize);
        // SAFETY: the caller's promises are the system allocator's.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        count(-(layout.size() as isize));
        // SAFETY: as above.
        unsafe { System.dealloc(memory, layout) }
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        // Both may be there for a while.
        count(new_size as isize);
        count(-(layout.size() as isize));
        // SAFETY: as above.
        unsafe { System.realloc(memory, layout, new_size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// The stack of a thread that Rust starts.
const STACK_BYTES: usize = 2 << 20;
/// What a template with a short conversation may have at once: some hold 32 MB, and a text that grows is there twice.
const MOST_BYTES: isize = 128 << 20;
/// A second in a program that is optimised; tests are not.
const MOST_TIME: Duration = Duration::from_secs(4);

/// What a template makes of a short conversation on a small stack, in bounded memory and time.
fn rendered(name: &str, source: &str) -> Result<String, String> {
    let work = || {
        let before = BYTES.get();
        PEAK.set(before);
        let start = Instant::now();
        let messages = [Message::new("user", "Hi")];
        let text = ChatTemplate::from_source(source)
            .and_then(|template| template.render(&messages, true, "<s>", "</s>"));
        let text = text.map_err(|error| {
            assert!(matches!(error, Error::Template(_)), "{name}: {error}");
            error.to_string()
        });
        (text, PEAK.get() - before, start.elapsed())
    };
    let (text, bytes, time) = std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().stack_size(STACK_BYTES);
        thread.spawn_scoped(scope, work).unwrap().join().unwrap()
    });
    assert!(bytes < MOST_BYTES, "{name} takes {bytes} bytes");
    assert!(time < MOST_TIME, "{name} takes {time:?}");
    text
}

/// All of these are refused, in one short line.
fn all_refused(cases: &[(&str, String)]) {
    for (name, source) in cases {
        let Err(line) = rendered(name, source) else { panic!("{name} is not refused") };
        assert!(line.len() < 2000 && !line.contains('\n'), "{name}: {line}");
    }
}

/// The same text many times.
fn many(text: &str, n: usize) -> String {
    text.repeat(n)
}

/// `body` behind a loop that wraps two lists `n` times into `wrapped`, where `L` stands for them.
fn wrapping(n: usize, wrapped: &str, body: &str) -> String {
    wrapping_leaves(n, "[1]", wrapped, body)
}

/// As [`wrapping`], around another value than a list.
fn wrapping_leaves(n: usize, leaf: &str, wrapped: &str, body: &str) -> String {
    let (one, two) = (wrapped.replace('L', "ns.l"), wrapped.replace('L', "ns.k"));
    format!(
        "{{% set ns = namespace(l={leaf}, k={leaf}) %}}{{% for i in range({n}) %}}\
         {{% set ns.l = {one} %}}{{% set ns.k = {two} %}}{{% endfor %}}{body}"
    )
}

/// A text `s` that becomes `grown` 60 times.
fn growing(first: &str, grown: &str) -> String {
    format!(
        "{{% macro twice(s) %}}{{{{ s }}}}{{{{ s }}}}{{% endmacro %}}{{% set ns = namespace(s={first}) %}}\
         {{% for i in range(60) %}}{{% set s = ns.s %}}{{% set ns.s = {grown} %}}{{% endfor %}}{{{{ ns.s | length }}}}"
    )
}

/// `body` 99,999 times, beside long texts `s`, `t` (the same and an `a`) and `e` (not ASCII) and a long list `l`.
fn looping(body: &str) -> String {
    format!(
        "{{% set s = 'ab' * 1000000 %}}{{% set t = s ~ 'a' %}}{{% set e = 'é' * 500000 %}}\
         {{% set l = range(99999) | list %}}{{% for i in range(99999) %}}{body}{{% endfor %}}"
    )
}

#[test]
fn chains_and_nesting_in_the_source_are_bounded() {
    let chain = |first: &str, link: &str, n| format!("{{{{ {first}{} }}}}", many(link, n));
    let mut cases = Vec::new();
    for (name, first, link) in [
        ("plus", "1", " + 1"),
        ("minus", "1", " - 1"),
        ("times", "1", " * 1"),
        ("power", "1", " ** 1"),
        ("concatenation", "'a'", " ~ 'a'"),
        ("and", "1", " and 1"),
        ("or", "0", " or 0"),
        ("comparisons", "1", " == 1"),
        ("in", "1", " not in [1]"),
        ("filters", "'a'", "|trim"),
        ("tests", "1", " is defined"),
        ("attributes", "messages", ".a"),
        ("items", "messages", "[0]"),
        ("slices", "messages", "[:]"),
        ("calls", "range", "(1)"),
        ("methods", "'a'", ".strip()"),
        ("conditions", "1", " if 0 else 1"),
    ] {
        // Short ones overflow a small stack already where somebody recurses.
        cases.extend([5_000, 40_000].map(|n| (name, chain(first, link, n))));
    }
    for n in [3_000, 5_000, 40_000, 200_000] {
        cases.push(("not", format!("{{{{ {}1 }}}}", many("not ", n))));
        cases.push(("signs", format!("{{{{ {}1 }}}}", many("-", n))));
        cases.push(("parentheses", format!("{{{{ {}1{} }}}}", many("(", n), many(")", n))));
        cases.push(("lists", format!("{{{{ {}{} }}}}", many("[", n), many("]", n))));
        cases.push(("dicts", format!("{{{{ {}1{} }}}}", many("{1:", n), many("}", n))));
        cases.push(("arguments", format!("{{{{ {}1{} }}}}", many("range(", n), many(")", n))));
        cases.push(("subscripts", format!("{{{{ {}1{} }}}}", many("messages[", n), many("]", n))));
        cases.push(("ifs", format!("{}{}", many("{% if 1 %}", n), many("{% endif %}", n))));
        cases.push(("branches", format!("{{% if 0 %}}{}{{% endif %}}", many("{% elif 0 %}", n))));
        cases.push(("loops", many("{% for i in [1] %}", n) + &many("{% endfor %}", n)));
        cases.push(("blocks", many("{% with a = 1 %}", n)));
        cases.push(("targets", format!("{{% for {}a{} in [] %}}", many("(", n), many(")", n))));
        cases.push(("open comments", many("{# ", n)));
        cases.push(("open strings", many("{{ '", n)));
        cases.push(("raw", many("{% raw %}", n)));
        cases.push(("braces", many("{{", n)));
    }
    cases.push(("a long source", many("a", 3 << 20)));
    cases.push(("a long number", format!("{{{{ {} }}}}", many("9", 500_000))));
    all_refused(&cases);
}

#[test]
fn recursion_is_bounded() {
    let calls_itself = "{% macro f(n) %}{% if true %}{% for i in [1] %}{{ [[[[f(n + 1)]]]] }}{% endfor %}{% endif %}\
                        {% endmacro %}{{ f(0) }}";
    let cases = [
        ("a macro", "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}"),
        ("a macro inside much", calls_itself),
        (
            "two macros",
            "{% macro f() %}{{ g() }}{% endmacro %}{% macro g() %}{{ f() }}{% endmacro %}{{ f() }}",
        ),
        ("a default value", "{% macro f(a=f()) %}{% endmacro %}{{ f() }}"),
        (
            "a caller",
            "{% macro f() %}{% call f() %}{{ caller() }}{% endcall %}{% endmacro %}{{ f() }}",
        ),
        ("a block", "{% block b %}{{ self.b() }}{% endblock %}"),
        (
            "two blocks",
            "{% block a %}{{ self.b() }}{% endblock %}{% block b %}{{ self.a() }}{% endblock %}",
        ),
        ("a loop", "{% for i in [1] recursive %}{{ loop([1]) }}{% endfor %}"),
        ("a loop twice", "{% for i in [1] recursive %}{{ loop([1]) }}{{ loop([1]) }}{% endfor %}"),
        (
            "a macro in a namespace",
            "{% set ns = namespace() %}{% macro f() %}{{ ns.f() }}{% endmacro %}{% set ns.f = f %}{{ f() }}",
        ),
        ("arguments", "{% macro f() %}{{ f(*(varargs + varargs)) }}{% endmacro %}{{ f(1, 2) }}"),
        ("itself", "{% include 'chat' %}"),
        ("an import", "{% import 'chat' as c %}"),
        ("names", "{% from 'chat' import c %}"),
        ("a parent", "{% extends 'chat' %}"),
    ];
    let mut cases = cases.map(|(name, source)| (name, source.to_owned())).to_vec();
    let map = format!("{{{{ 'a' | map({}'upper') | list }}}}", many("'map', ", 5_000));
    cases.push(("a filter of a filter", map));
    let many_arguments = format!(
        "{{% macro f() %}}{{{{ f({}1) }}}}{{{{ varargs }}}}{{% endmacro %}}{{{{ f() }}}}",
        many("1,", 90_000)
    );
    cases.push(("a macro with many arguments", many_arguments));
    all_refused(&cases);
}

#[test]
fn values_are_nested_so_deep_at_most() {
    let bodies = [
        "",
        "{{ ns.l }}",
        "{{ ns.l == ns.k }}",
        "{{ ns.l | tojson }}",
        "{{ [ns.l, ns.k] | sort }}",
    ];
    let mut cases = Vec::new();
    for wrapped in [
        "[L]",
        "(L,)",
        "{'a': L}",
        "{'a': [L]}",
        "[1] + [L]",
        "[L] | batch(1) | list",
        "dict(a=L)",
        "[L] | select",
        "{'a': L}.items()",
    ] {
        cases.extend(bodies.map(|body| (wrapped, wrapping(99_999, wrapped, body))));
    }
    all_refused(&cases);
}

#[test]
fn values_may_contain_themselves() {
    for (source, expected) in [
        ("{% set ns.x = ns %}{{ ns.x.x.x.x is sameas ns }}", Some("True")),
        ("{% set ns.x = ns %}{{ ns == ns.x }}{{ ns in [ns] }}", Some("TrueTrue")),
        ("{% set ns.x = {'a': ns}.items %}{{ ns.x is callable }}", Some("True")),
        ("{% set ns.x = [ns, ns] %}{{ ns.x == ns.x }}", Some("True")),
        (
            "{% for i in [1, 2] %}{% set ns.x = loop %}{{ loop.changed(loop, ns) }}{% endfor %}",
            Some("TrueFalse"),
        ),
        ("{% set ns.x = ns %}{{ ns }}", None),
        ("{% set ns.x = [ns, ns] %}{{ ns }}", None),
        ("{% set ns.x = {'a': ns} %}{{ ns ~ 'a' }}", None),
        ("{% set ns.x = [ns] %}{{ ns.x | tojson }}", None),
        ("{% set ns.x = [ns] %}{{ [ns.x, [ns]] | sort }}", None),
        ("{% set ns.x = ns %}{{ [ns] | join }}", None),
        ("{% set ns.x = ns %}{{ '%s' % ns }}", None),
        ("{% set ns.x = ns %}{{ {ns: 1} }}", None),
    ] {
        let text = rendered(source, &format!("{{% set ns = namespace() %}}{source}"));
        match (expected, text) {
            (Some(expected), Ok(text)) => assert_eq!(text, expected, "{source}"),
            (None, Err(_)) => {}
            (expected, text) => panic!("{source}: {text:?}, not {expected:?}"),
        }
    }
}

#[test]
fn values_that_share_their_parts_cost_what_they_are() {
    let mut cases = Vec::new();
    for wrapped in ["[L, L]", "(L, L)", "{'a': L, 'b': L}"] {
        for body in [
            "{{ ns.l }}",
            "{{ ns.l ~ 'a' }}",
            "{{ ns.l | string | length }}",
            "{{ ns.l | upper | length }}",
            "{{ ns.l | pprint | length }}",
            "{{ ns.l | tojson | length }}",
            "{{ [ns.l] | join | length }}",
            "{{ ('%s' % [ns.l]) | length }}",
            "{{ '%r' | format(ns.l) | length }}",
            "{{ '{}'.format(ns.l) | length }}",
            "{{ ns.l == ns.k }}",
            "{{ ns.l != ns.k }}",
            "{{ ns.l in [ns.k] }}",
            "{{ ns.l is eq ns.k }}",
            "{{ [ns.l].index(ns.k) }}",
            "{{ [ns.l].count(ns.k) }}",
            "{{ [ns.l] | select('equalto', ns.k) | list | length }}",
            "{{ [ns.l, ns.k] | unique | list | length }}",
            "{% for i in [ns.l, ns.k] %}{{ loop.changed(i) }}{% endfor %}",
        ] {
            cases.push((body, wrapping(60, wrapped, body)));
        }
    }
    for wrapped in ["[L, L]", "(L, L)"] {
        for body in [
            "{{ ns.l < ns.k }}",
            "{{ [ns.l, ns.k] | sort | length }}",
            "{{ [ns.l, ns.k] | min | length }}",
            "{{ [ns.l, ns.k] | max | length }}",
            "{{ {'a': ns.l, 'b': ns.k} | dictsort(by='value') | length }}",
            "{{ [{'a': ns.l}, {'a': ns.k}] | groupby('a') | length }}",
            "{{ [{'a': ns.l}, {'a': ns.k}] | sort(attribute='a') | length }}",
        ] {
            cases.push((body, wrapping(60, wrapped, body)));
        }
    }
    for leaf in ["1", "[1]"] {
        for body in [
            "{{ {ns.l: 1, ns.k: 2} }}",
            "{{ dict([[ns.l, 1], [ns.k, 2]]) }}",
            "{{ [ns.l, ns.k] | unique | list | length }}",
        ] {
            cases.push((body, wrapping_leaves(60, leaf, "(L, L)", body)));
        }
    }
    cases.push(("a sum", wrapping(60, "L + L", "{{ ns.l | length }}")));
    cases.push(("a list of lists", wrapping(60, "[L, L] | sum(start=[])", "{{ ns.l | length }}")));
    cases.push(("a chain of loops", wrapping(40, "[L, L]", "{% for a in ns.l recursive %}{% if a is iterable %}{{ loop(a) }}{% endif %}{% endfor %}")));
    all_refused(&cases);
}

#[test]
fn texts_and_lists_that_grow_are_stopped() {
    let text = "'aaaaaaaa'";
    let cases = [
        ("~", text, "s ~ s"),
        ("+", text, "s + s"),
        ("*", text, "s * 2"),
        ("%", text, "'%s%s' % (s, s)"),
        ("format", text, "'{0}{0}'.format(s)"),
        ("format filter", text, "'%s%s' | format(s, s)"),
        ("join", text, "[s, s] | join"),
        ("join method", text, "s.join(['', '', ''])"),
        ("join by itself", text, "(s | list) | join(s)"),
        ("replace", text, "s.replace('a', 'aa')"),
        ("replace filter", text, "s | replace('a', 'aa')"),
        ("replace of nothing", text, "s.replace('', 'a')"),
        ("indent", "'a\\n'", "(s ~ '\\n' ~ s) | indent(i)"),
        ("a macro", text, "twice(s)"),
        ("escape", "'<<'", "(s ~ s) | e"),
        ("urlencode", "'<<'", "(s ~ s) | urlencode"),
        ("tojson", "'\"'", "s | tojson"),
        ("repr", "'\"'", "[s, s] | string"),
        ("a list", "[1]", "s + s"),
        ("a tuple", "(1,)", "s + s"),
        ("a list many times", "[1]", "s * 2"),
        ("lists of a batch", "[1, 2]", "(s | batch(1, 'a') | list) + s"),
        ("characters", text, "(s ~ s) | list | join('aa')"),
    ];
    let mut cases = cases.map(|(name, first, grown)| (name, growing(first, grown))).to_vec();
    for (name, body) in [
        ("a captured text", "{% set t %}{{ ns.s }}{{ ns.s }}{% endset %}{% set ns.s = t %}"),
        ("a filtered text", "{% set t | trim %}{{ ns.s }}{{ ns.s }}{% endset %}{% set ns.s = t %}"),
        ("what is written", "{{ ns.s }}{% set ns.s = ns.s ~ ns.s %}"),
        (
            "a filter block",
            "{% filter upper %}{{ ns.s }}{% endfilter %}{% set ns.s = ns.s ~ ns.s %}",
        ),
    ] {
        let source = "{% set ns = namespace(s='aaaa') %}{% for i in range(60) %}BODY{% endfor %}";
        cases.push((name, source.replace("BODY", body)));
    }
    cases.push((
        "captures in captures",
        many("{% set x %}", 90) + "{{ 'a' * 300000 }}" + &many("{% endset %}{{ x }}{{ x }}", 90),
    ));
    cases.push(("namespaces", "{% for i in range(99999) %}{% for j in range(99) %}{% set x = namespace(a=i) %}{% endfor %}{% endfor %}".into()));
    cases.push(("methods", "{% for i in range(99999) %}{% for j in range(99) %}{% set x = 'a'.upper %}{% endfor %}{% endfor %}".into()));
    cases.push(("a dict", "{% set ns = namespace(d={}) %}{% for i in range(99999) %}{% set ns.d = dict(ns.d, **{i | string: i}) %}{% endfor %}".into()));
    all_refused(&cases);
}

#[test]
fn widths_and_counts_are_no_orders() {
    let mut cases = Vec::new();
    for huge in ["9999999999", "9223372036854775807"] {
        for source in [
            "{{ '%Nd' | format(5) | length }}",
            "{{ '%0Nd' | format(1) }}",
            "{{ '%-Ns' | format('a') | length }}",
            "{{ '%.Nf' | format(1) }}",
            "{{ '%*d' % (N, 1) }}",
            "{{ '%.*f' % (N, 1.5) }}",
            "{{ '{:>N}'.format(5) | length }}",
            "{{ '{:0N}'.format(5) | length }}",
            "{{ '{:^N}'.format('a') | length }}",
            "{{ '{:.Nf}'.format(1.5) }}",
            "{{ 'a\\nb' | indent(N) | length }}",
            "{{ 'a' | indent(N) | length }}",
            "{{ 'a' | indent(N, true) | length }}",
            "{{ 'a' | center(N) | length }}",
            "{{ 'a'.center(N) | length }}",
            "{{ 'a'.ljust(N) | length }}",
            "{{ 'a'.rjust(N, 'b') | length }}",
            "{{ 'a'.zfill(N) | length }}",
            "{{ 'a' * N }}",
            "{{ N * 'a' }}",
            "{{ [1] * N }}",
            "{{ [1] | batch(N, 'x') | list | length }}",
            "{{ [1] | slice(N) | list | length }}",
            "{{ range(N) | list | length }}",
            "{{ range(0, -N, -1) | list | length }}",
            "{{ [[1]] | tojson(indent=N) }}",
            "{{ 2 ** N }}",
            "{{ N * N }}",
        ] {
            cases.push((source, source.replace('N', huge)));
        }
    }
    for (name, source) in [
        ("replace", "{% set s = 'a' * 1000000 %}{{ s.replace('a', s) | length }}"),
        ("join", "{% set s = 'a' * 1000000 %}{{ s.join(s) | length }}"),
        ("indent", "{% set s = '\\n' * 1000000 %}{{ s | indent(1000, blank=true) | length }}"),
        ("formats", "{{ (('%9999999d' * 100) | format(*range(100))) | length }}"),
        (
            "separators",
            "{% set s = 'a' * 1000000 %}{{ range(1000) | list | tojson(separators=(s, s)) | length }}",
        ),
        (
            "indentation",
            "{% set s = ' ' * 1000000 %}{{ range(1000) | list | tojson(indent=s) | length }}",
        ),
        ("characters", "{{ ('a' * 20000000) | list | length }}"),
        ("parts", "{{ ('a' * 20000000).split('a') | length }}"),
        ("words", "{{ ('a ' * 10000000).split() | length }}"),
        ("lines", "{{ ('\\n' * 20000000).splitlines() | length }}"),
        ("a date", "{{ strftime_now('%A' * 1000000) }}"),
        ("a text", "{{ 'a' * 90000000 }}"),
    ] {
        cases.push((name, source.to_owned()));
    }
    all_refused(&cases);
}

#[test]
fn loops_and_what_they_do_are_counted() {
    let bodies = [
        "{% for j in range(99999) %}{% endfor %}",
        "{% for j in range(99999) %}{{ i }}{% endfor %}",
        "{% for j in l %}{% if j %}{% endif %}{% endfor %}",
        "{% set x = l | list | length %}",
        "{% set y = l | reverse | first %}",
        "{% set x = s ~ '' == s %}",
        "{% set x = 'c' in s %}",
        "{% set x = s | length %}",
        "{% set x = s[1999999] %}",
        "{% set x = s[1:] %}",
        "{% set x = s[::-1] %}",
        "{% set x = s.upper() %}",
        "{% set x = s | title %}",
        "{% set x = s | trim %}",
        "{% set x = s.strip('ab') %}",
        "{% set x = s.startswith(s) %}",
        "{% set x = s.count('abab') %}",
        "{% set x = s.find('abac') %}",
        "{% set x = s.rfind('abac') %}",
        "{% set x = s.split('c') %}",
        "{% set x = s | truncate(1900000) %}",
        "{% set x = s | wordcount %}",
        "{% set x = s | int %}",
        "{% set x = s | float %}",
        "{% set x = s.isalpha() %}",
        "{% set x = s is lower %}",
        "{% set x = e is upper %}",
        "{% set x = s.istitle() %}",
        "{% set x = s.expandtabs() %}",
        "{% set x = s | indent %}",
        "{% set x = e.isprintable() %}",
        "{% set x = [e] | string %}",
        "{% set x = '%a' % e %}",
        "{% set x = '{:{w}}'.format(s, w=s | length) %}",
        "{% set x = s | reverse %}",
        "{% set x = s < t %}",
        "{% set x = l | sum %}",
        "{% set x = l | max %}",
        "{% set x = l | sort %}",
        "{% set x = l | unique | list %}",
        "{% set x = 100000 in l %}",
        "{% set x = l.index(99998) %}",
        "{% set x = l + l %}",
        "{% set x = l == l[:] %}",
        "{% set x = l | join %}",
        "{% set x = l | map('string') | list %}",
        "{% set x = l | select('odd') | list %}",
        "{% set x = l | groupby('a', default=0) %}",
        "{% set x = loop.changed(s, l) %}",
        "{% set x = (s, s) | sort %}",
        "{% set x = '%s' | format(s) %}",
        "{% set x = s | replace('c', 'd') %}",
        "{% set x = {s: 1}[t] %}",
        "{{ loop.cycle(*l) }}",
        "{% set x = {(l | join, 1): 1} %}",
        "{% set x = t is startingwith s %}",
        "{% set x = s is endingwith s %}",
        "{% set x = strftime_now('%s' * 500) %}",
        "{% set x = strftime_now('%a' * 500) %}",
        "{% set x = 1.7e308 | round(300) %}",
        "{% set x = '%.1000f' % 5e-324 %}",
        "{% set x = '%.1000e' % 5e-324 %}",
        "{% set x = '%f' % 1e308 %}",
        "{% set x = '{:,.1000f}'.format(1e308) %}",
    ];
    for body in bodies {
        let line = rendered(body, &looping(body)).unwrap_err();
        assert!(line.contains("fuel"), "{body}: {line}");
    }
    let mut cases = Vec::new();
    let mut names = String::new();
    for i in 0..30_000 {
        write!(names, "{{% set a{i} = 1 %}}").unwrap();
    }
    cases.push((
        "many variables",
        format!("{names}{{% for i in range(99999) %}}{{{{ z }}}}{{{{ a0 }}}}{{% endfor %}}"),
    ));
    let functions = "{% macro f() %}{% endmacro %}{% for i in range(99999) %}{% for j in range(99) %}{{ f() }}{% endfor %}{% endfor %}";
    cases.push(("many names", names.clone() + functions));
    let blocks: String =
        (0..20_000).map(|i| format!("{{% block b{i} %}}{{% endblock %}}")).collect();
    cases.push(("many blocks", blocks + &looping("{{ self.b19999 is defined }}")));
    let entries: String = (0..20_000).map(|i| format!("'a{i}':1,")).collect();
    cases.push((
        "a long dict",
        format!(
            "{{% set d = {{{entries}}} %}}{{% for i in range(99999) %}}{{{{ d.z }}}}{{% endfor %}}"
        ),
    ));
    let arguments = format!(
        "{{% macro f() %}}{{{{ kwargs | length }}}}{{% endmacro %}}{{{{ f(**{{{entries}}}) }}}}"
    );
    cases.push(("many arguments", arguments));
    all_refused(&cases);
}

/// Odd numbers, and sizes that people may have.
#[test]
fn what_is_large_but_not_too_large_renders() {
    for (source, expected) in [
        ("{{ 1 + 1 }}".replace("+ 1", &many("+ 1 ", 900)), "901".to_owned()),
        (format!("{{% if 0 %}}{}{{% else %}}x{{% endif %}}", many("{% elif 0 %}", 900)), "x".into()),
        (format!("{{{{ {}1{} }}}}", many("(", 80), many(")", 80)), "1".into()),
        (format!("{{{{ [{}] | length }}}}", many("1, ", 50_000)), "50000".into()),
        (format!("{{{{ {} | length }}}}", many("'abc' ", 50_000)), "150000".into()),
        (many("{% if 1 %}", 80) + "x" + &many("{% endif %}", 80), "x".into()),
        (many("{% set x = 1 %}", 50_000), String::new()),
        ("{% set a = {'b': 'c'} %}".to_owned() + &many("{{a.b}}", 140_000), many("c", 140_000)),
        ("{{ range(99999) | list | sort(reverse=true) | first }}".into(), "99998".into()),
        ("{{ range(99999) | map('string') | join | length }}".into(), "488885".into()),
        ("{{ ('a ' * 100000).split() | length }}".into(), "100000".into()),
        ("{% set ns = namespace(s='') %}{% for i in range(1000) %}{% set ns.s = ns.s ~ 'abcdefghij' %}{% endfor %}{{ ns.s | length }}".into(), "10000".into()),
        ("{% macro f(n) %}{% if n > 0 %}{{ n }}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(20) | length }}".into(), "31".into()),
        ("{{ (-9223372036854775807 - 1) % -1 }}{{ 1 % -9223372036854775807 }}".into(), "0-9223372036854775806".into()),
        ("{{ [1, 2, 3][::-9223372036854775807] }}{{ 'abc'[-9223372036854775807:9223372036854775807] }}".into(), "[3]abc".into()),
        ("{{ 1e308 * 10 }}{{ (1e308 * 10) | int }}{{ 'x' | indent(1000000) }}".into(), "inf0x".into()),
        ("{{ [] * 9999999999 }}{{ '' * 9999999999 }}".into(), "[]".into()),
    ] {
        let short: String = source.chars().take(80).collect();
        assert_eq!(rendered(&short, &source), Ok(expected), "{short}");
    }
}

/// Templates of our own with what those of models do, and long conversations.
#[test]
fn long_conversations_render() {
    let thinking = "{%- set ns = namespace(asked=-1) %}
{%- for message in messages %}
    {%- if message.role == 'user' %}{%- set ns.asked = loop.index0 %}{%- endif %}
{%- endfor %}
{%- for message in messages %}
    {%- set content = message.content if message.content is string else '' %}
    {%- if message.role == 'assistant' and '</think>' in content and loop.index0 < ns.asked %}
        {%- set content = content.rpartition('</think>')[2] | trim('\\n') %}
    {%- endif %}
    {{- '<|' ~ message.role ~ '|>' + content | trim + '<|end|>\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}{{ '<|assistant|>' }}{%- endif %}";
    let macros = "{%- macro type(spec) -%}
    {%- if spec.type == 'array' -%}{{ type(spec['items']) }}[]
    {%- elif spec.type == 'object' and spec.properties -%}
        {{- '{' }}{% for name, value in spec.properties.items() %}{{ name ~ ': ' ~ type(value) }}{{ ', ' if not loop.last }}{% endfor %}{{ '}' }}
    {%- elif spec.enum -%}{{ spec.enum | map('tojson') | join(' | ') }}
    {%- else -%}{{ spec.type | default('any') }}{%- endif -%}
{%- endmacro -%}
{%- macro line(message, show=false) -%}
    {{- '<|start|>' ~ message.role ~ '<|message|>' ~ message.content ~ ('<|return|>' if show else '<|end|>') -}}
{%- endmacro -%}
{%- set shown = {'type': 'object', 'properties': {'a': {'type': 'array', 'items': {'enum': ['x', 'y']}}, 'b': {}}} -%}
{{- '<|start|>system<|message|>' ~ type(shown) ~ strftime_now(' %Y') | length ~ '<|end|>' }}
{%- for message in messages -%}{{ line(message, loop.last and not add_generation_prompt) }}{%- endfor -%}
{%- if add_generation_prompt -%}<|start|>assistant{%- endif -%}";
    let text = "A sentence of some words, with a line end.\n".repeat(2400);
    assert!(text.len() > 100_000);
    let mut messages = vec![Message::new("system", "Be brief."), Message::new("user", &text[..])];
    for i in 0..2000 {
        let role = if i % 2 == 0 { "assistant" } else { "user" };
        messages.push(Message::new(role, format!("<think>\nhm {i}\n</think>\n\nTurn {i}.")));
    }
    let answers = |source: &str| {
        let template = ChatTemplate::from_source(source).unwrap();
        template.render(&messages, true, "<s>", "</s>").unwrap()
    };
    let said = answers(thinking);
    let mut expected = format!("<|system|>Be brief.<|end|>\n<|user|>{}<|end|>\n", text.trim());
    for i in 0..2000 {
        let assistant = i % 2 == 0;
        let hm = if assistant { String::new() } else { format!("<think>\nhm {i}\n</think>\n\n") };
        let role = if assistant { "assistant" } else { "user" };
        writeln!(expected, "<|{role}|>{hm}Turn {i}.<|end|>").unwrap();
    }
    assert!(said == expected + "<|assistant|>");
    // The same at the end of a source of 20 KB.
    let said = answers(&("{#- A comment. -#}\n".repeat(1000) + macros));
    let begin = "<|start|>system<|message|>{a: \"x\" | \"y\"[], b: any}5<|end|><|start|>system<|message|>Be brief.";
    assert!(said.starts_with(begin), "{}", &said[..200]);
    assert!(said.ends_with("Turn 1999.<|end|><|start|>assistant") && said.contains(&text));
    let chatml = ChatTemplate::named("chatml").unwrap();
    let long = [Message::new("user", text.repeat(100))];
    assert!(chatml.render(&long, true, "", "").unwrap().len() > 10_000_000);
}

#[test]
fn dates_are_those_of_the_local_time() {
    const EXPECTED: &str = "EXPECTED_DATE";
    if let Ok(expected) = std::env::var(EXPECTED) {
        let evening = UNIX_EPOCH + Duration::from_secs(1_721_930_400); // 2024-07-25 18:00:00 UTC
        let template = ChatTemplate::from_source_at("{{ strftime_now('%F %H:%M') }}", evening);
        let text = template.unwrap().render(&[Message::new("user", "Hi")], true, "", "").unwrap();
        assert_eq!(text, expected);
        return;
    }
    // The zone of a process is read once.
    for (zone, expected) in [
        ("<+14>-14", "2024-07-26 08:00"),
        ("EST5EDT,M3.2.0,M11.1.0", "2024-07-25 14:00"),
        ("UTC0", "2024-07-25 18:00"),
    ] {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "dates_are_those_of_the_local_time"]);
        let output = command.env("TZ", zone).env(EXPECTED, expected).output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && text.contains("1 passed"), "{zone}: {text}");
    }
}

/// A small model with this template.
fn model(template: Value) -> Folder {
    let mut parts = tiny("f32").parts();
    parts.set("tokenizer.chat_template", Some(template));
    Folder::new(&parts)
}

/// `dovetail-run` with a small model.
fn run(folder: &Folder, args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_dovetail-run"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("DOVETAIL_") {
            command.env_remove(name);
        }
    }
    command.env("DOVETAIL_CACHE", folder.cache()).env("DOVETAIL_SPEC_TYPE", "none");
    command.arg(folder.model()).args(["-p", "hi", "-n", "2", "-t", "1", "-c", "64"]).args(args);
    command.stdin(Stdio::null()).output().unwrap()
}

fn lines(bytes: &[u8]) -> Vec<&str> {
    std::str::from_utf8(bytes).unwrap().lines().collect()
}

#[test]
fn the_program_says_in_one_line_that_a_template_is_bad() {
    for source in [
        "{{ '%0999999999d' | format(1) }}",
        "{{ 'x' | indent(9223372036854775807) }}",
        "{% set ns = namespace(x=[1]) %}{% for i in range(60) %}{% set ns.x = ns.x + ns.x %}{% endfor %}{{ ns.x | length }}",
        &growing("'aaaa'", "s ~ s"),
        &wrapping(30_000, "[L]", "{{ ns.l }}"),
        &wrapping(60, "[L, L]", "{{ ns.l == ns.k }}"),
        &format!("{{{{ {}1 }}}}", many("not ", 20_000)),
        &format!("{{{{ {}1 }}}}", many("-", 30_000)),
        "{% block b %}{{ self.b() }}{% endblock %}",
        "{% foo %}",
        "{{ if .System }}{{ .System }}{{ end }}",
    ] {
        let folder = model(Value::String(source.into()));
        let output = run(&folder, &[]);
        let short: String = source.chars().take(80).collect();
        assert_eq!(output.status.code(), Some(1), "{short}: {output:?}");
        let [line] = lines(&output.stderr)[..] else { panic!("{short}: {output:?}") };
        assert!(line.starts_with("error: chat template") && output.stdout.is_empty(), "{line}");
        // Completing a text takes no template.
        assert!(run(&folder, &["--raw"]).status.success(), "{short}");
    }
}

#[test]
fn an_empty_template_is_none() {
    for template in ["", " \n"] {
        let folder = model(Value::String(template.into()));
        let gguf = Gguf::open(folder.model()).unwrap();
        assert!(ChatTemplate::from_gguf(gguf.metadata()).unwrap().is_none());
        let output = run(&folder, &[]);
        assert!(output.status.success(), "{output:?}");
        let lines = lines(&output.stderr);
        assert!(
            lines.iter().any(|line| line.contains("the model has no chat template")),
            "{lines:?}"
        );
        let error = ChatTemplate::from_source(template).unwrap_err();
        assert!(error.to_string().contains("it is empty"), "{error}");
    }
}

#[test]
fn a_model_with_a_broken_template_loads() {
    for template in [
        Value::String("{% foo %}".into()),
        Value::String("{{ if .System }}{{ .System }}{{ end }}".into()),
        Value::String(format!("{{{{ {}1 }}}}", many("-", 30_000))),
        Value::U32(7),
    ] {
        let folder = model(template);
        let model = Arc::new(folder.load(Repack::Memory));
        assert!(ChatTemplate::from_gguf(model.gguf().metadata()).is_err());
        let options = SessionOptions { n_ctx: 64, threads: 2, ..SessionOptions::default() };
        let mut session = Session::new(model.clone(), options).unwrap();
        let tokens = model.tokenizer().encode("hi", true, true).unwrap();
        session.prompt(&tokens, &mut |_, _| true).unwrap();
        assert_eq!(session.generate(&Sampling::default(), 2).map(Result::unwrap).count(), 2);
        let chatml = ChatTemplate::named("chatml").unwrap();
        assert!(chatml.prompt(model.tokenizer(), &[Message::new("user", "hi")], true, 64).is_ok());
    }
}
