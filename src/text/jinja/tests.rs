//! What Jinja2 3.1.6, set up as transformers does it, makes of the same templates.

use std::time::{Duration, UNIX_EPOCH};

use super::{Data, Template};

/// 2024-07-26 00:00:00 UTC.
const NOW: Duration = Duration::from_secs(1_721_952_000);

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
    let text = template.and_then(|template| template.render(&variables, UNIX_EPOCH + NOW));
    text.map_err(|fault| fault.reason().to_owned())
}

#[test]
fn templates_render_as_jinja2_renders_them() {
    #[rustfmt::skip]
    let cases = [
        ("{{ messages[-1]['content'].strip().upper() }}", "BYE \"\u{c9}\" <B>"),
        (r"{{ 'a</think>b'.split('</think>')[-1].lstrip('\n') }}", "b"),
        ("{% for m in messages[::-1] %}{{ m.role[0] }}{% endfor %}", "uaus"),
        ("{% set ns = namespace(n=0) %}{% for m in messages %}{% set ns.n = ns.n + 1 %}{% endfor %}{{ ns.n }}", "4"),
        ("{{ tools is none }}{{ nothing is defined }}{{ nothing }}{{ (messages[0].content is string) }}", "TrueFalseTrue"),
        ("{%- for key, value in {'a': 1}.items() %}{{ key ~ value }}{% endfor %}", "a1"),
        ("{% macro twice(x) %}{{ x }}{{ x }}{% endmacro %}{{ twice('ab') }}", "abab"),
        ("  {% if true %}\n  x\n  {% endif %}\ny", "  x\ny"),
        ("{{ messages | map(attribute='role') | join(',') }}", "system,user,assistant,user"),
        ("{% generation %}x{% endgeneration %}", "x"),
        ("{{ 'abc'.removeprefix('a') }}{{ 'abc'.removesuffix('c') }}{{ 'a,b,c'.rsplit(',', 1)[-1] }}{{ 'a=b'.partition('=')[0] }}{{ 'a=b=c'.rpartition('=')[2] }}", "bcabcac"),
        ("{{ '7'.zfill(3) }}{{ '-7'.zfill(4) }}{{ 'a'.ljust(3) }}|{{ 'a'.rjust(3,'*') }}|{{ 'ab'.center(5,'*') }}|{{ 'abc'.center(6,'*') }}|{{ 'a'.center(4) }}", "007-007a  |**a|**ab*|*abc**| a  "),
        ("{{ 'abc'.index('b') }}{{ 'a,b,c'.split(',', maxsplit=1) }}{{ 'abc'.startswith('b', 1) }}", "1['a', 'b,c']True"),
        ("{{ '%s and %s' % ('a', 3) }} {{ '%5.2f|%-5d|%05d|%x|%+d' % (3.14159, 3, 4, 255, 5) }} {{ '%s' % [1,2] }} {{ '%(a)s' % {'a': 1} }} {{ '%%' % () }}", "a and 3  3.14|3    |00004|ff|+5 [1, 2] 1 %"),
        ("{{ 'a b c' | wordcount }}{{ 'aaa' | replace('a','b',2) }}{{ 'hello world' | truncate(5) }}{{ 'hello world foo bar' | truncate(12) }}{{ ['a','b'].index('b') }}", "3bbahe...hello...1"),
        (r"{{ '\U0001F600' }}{{ +1 }}{{ raise_exception is callable }}{% set j = joiner(',') %}{{ j() }}a{{ j() }}b", "\u{1f600}1Truea,b"),
        ("{{ messages[0].tool_calls | length }}{% if message_tools | length > 0 %}y{% else %}n{% endif %}{{ x | first }}{{ none | default('d', boolean=true) }}{{ x | default(default_value='d') }}", "0ndd"),
        ("{% macro f(a, b=a) %}{{ b }}{% endmacro %}{{ f(1) }}", "1"),
        ("{{ x | list }}{{ x | join }}", "[]"),
        ("{{ {'b':1,'a':2} | tojson(sort_keys=True) }}{{ {'b':1,'a':[1,2]} | tojson(separators=(',', ':')) }}{{ {'a':'é'} | tojson(ensure_ascii=True) }}{{ {'a':[1,{'b':2}]} | tojson(indent='\\t') }}", "{\"a\": 2, \"b\": 1}{\"b\":1,\"a\":[1,2]}{\"a\": \"\\u00e9\"}{\n\t\"a\": [\n\t\t1,\n\t\t{\n\t\t\t\"b\": 2\n\t\t}\n\t]\n}"),
        ("{{ {true: 1, none: 2, 3: 4, 1.5: 2} | tojson }}{{ [1e20, 1e-7, 1.0, 0.1] | tojson }}{{ {'a':[1]} | tojson(indent=2, separators=(',', ' : ')) }}{{ messages | tojson }}", "{\"true\": 1, \"null\": 2, \"3\": 4, \"1.5\": 2}[1e+20, 1e-07, 1.0, 0.1]{\n  \"a\" : [\n    1\n  ]\n}[{\"role\": \"system\", \"content\": \" Be brief. \"}, {\"role\": \"user\", \"content\": \"Hi there\"}, {\"role\": \"assistant\", \"content\": \"<think>\\nx\\n</think>\\n\\nyes \"}, {\"role\": \"user\", \"content\": \"Bye \\\"é\\\" <b>\\n\"}]"),
        ("{{ {'a': [1, 2.5, true, none], 'b': {}} | tojson(indent=2) }}{{ [] | tojson(indent=4) }}{{ 'é\u{1f600}\\u2028\\x7f' | tojson }}{{ 'é\u{1f600}' | tojson(ensure_ascii=true) }}", "{\n  \"a\": [\n    1,\n    2.5,\n    true,\n    null\n  ],\n  \"b\": {}\n}[]\"é\u{1f600}\u{2028}\u{7f}\"\"\\u00e9\\ud83d\\ude00\""),
        ("{{ 1/2 }} {{ 4/2 }} {{ 7//2 }} {{ -7//2 }} {{ -7%3 }} {{ 7%-3 }} {{ 2**10 }} {{ 2**-1 }} {{ 7.5//2 }} {{ -7.5%2 }} {{ 1e3 }} {{ 1e16 }} {{ 0.1+0.2 }}", "0.5 2.0 3 -4 2 -2 1024 0.5 3.0 0.5 1000.0 1e+16 0.30000000000000004"),
        ("{{ 1 < 2 < 3 }}{{ 1 < 3 < 2 }}{{ 'a' < 'b' }}{{ [1,2] < [1,3] }}{{ 1 == 1.0 }}{{ true == 1 }}{{ [1] == (1,) }}{{ {'a':1} == {'a':1} }}", "TrueFalseTrueTrueTrueTrueFalseTrue"),
        ("{{ 'a' in 'abc' }}{{ 1 in [1,2] }}{{ 'a' in {'a':1} }}{{ 'x' not in 'abc' }}{{ not 'x' in 'abc' }}", "TrueTrueTrueTrueTrue"),
        ("{{ [1,'a',none,true,1.5,{'k':'v'},(1,),(1,2),()] }}", "[1, 'a', None, True, 1.5, {'k': 'v'}, (1,), (1, 2), ()]"),
        ("{{ \"it's\" }}{{ [\"it's\", 'q\"q', 'a\\nb\\\\', '\\x01', 'é'] }}", "it's[\"it's\", 'q\"q', 'a\\nb\\\\', '\\x01', 'é']"),
        ("{{ 'abc'[1] }}{{ 'abc'[-1] }}{{ 'abc'[5] }}{{ 'abcdef'[1:4] }}{{ 'abcdef'[::-1] }}{{ 'abcdef'[::2] }}{{ 'abcdef'[-2:] }}{{ 'abcdef'[4:1:-1] }}{{ 'abcdef'[:-10:-1] }}", "bcbcdfedcbaaceefedcfedcba"),
        ("{{ [1,2,3,4][1:] }}{{ [1,2,3,4][:-1] }}{{ [1,2,3,4][::-2] }}{{ (1,2,3)[1:] }}{{ [1,2,3][5:] }}{{ [1,2,3][-5:2] }}", "[2, 3, 4][1, 2, 3][4, 2](2, 3)[][1, 2]"),
        ("{{ range(3) | list }}{{ range(1,10,3) | list }}{{ range(5,0,-2) | list }}", "[0, 1, 2][1, 4, 7][5, 3, 1]"),
        ("{% for i in range(3) %}{{ loop.index }}{{ loop.index0 }}{{ loop.revindex }}{{ loop.revindex0 }}{{ loop.first }}{{ loop.last }}{{ loop.length }}{{ loop.previtem }}{{ loop.nextitem }}{{ loop.cycle('a','b') }}{{ loop.depth }},{% endfor %}", "1032TrueFalse31a1,2121FalseFalse302b1,3210FalseTrue31a1,"),
        ("{% for i in [1,1,2] %}{{ loop.changed(i) }}{% endfor %}", "TrueFalseTrue"),
        ("{% for i in [3,1,2] if i > 1 %}{{ i }}/{{ loop.length }}{% else %}none{% endfor %}{% for i in [] %}x{% else %}none{% endfor %}", "3/22/2none"),
        ("{% for a, b in [(1,2),(3,4)] %}{{ a }}-{{ b }};{% endfor %}{% for a, (b, c) in [(1,(2,3))] %}{{ a }}{{ b }}{{ c }}{% endfor %}", "1-2;3-4;123"),
        ("{% for item in [{'n':1,'c':[{'n':2,'c':[]}]}] recursive %}{{ item.n }}{{ loop.depth }}{% if item.c %}({{ loop(item.c) }}){% endif %}{% endfor %}", "11(22)"),
        ("{% set x = 1 %}{% if true %}{% set x = 2 %}{% endif %}{{ x }}{% for i in [1] %}{% set x = 3 %}{% endfor %}{{ x }}{% with x = 4 %}{{ x }}{% set x = 5 %}{% endwith %}{{ x }}", "2242"),
        ("{% for i in range(3) %}{{ x }}{% set x = i %}{{ x }}{% endfor %}", "012"),
        ("{% set a, b = 1, 2 %}{{ a }}{{ b }}{% set t = 1, 2 %}{{ t }}{{ (1,) }}{{ () }}", "12(1, 2)(1,)()"),
        ("{% set x %}hello {{ 1 + 1 }}{% endset %}{{ x }}{% set x | upper %}hello{% endset %}{{ x }}", "hello 2HELLO"),
        ("{% filter upper %}hello {{ 'x' }}{% endfilter %}", "HELLO X"),
        ("{% macro m(a, b='d') %}[{{ a }}{{ b }}{{ caller() if caller else '' }}]{% endmacro %}{{ m(1) }}{{ m(1, 2) }}{{ m(b=3, a=4) }}{% call m(5) %}body{% endcall %}", "[1d][12][43][5dbody]"),
        ("{% macro m() %}{{ caller(1, 2) }}{% endmacro %}{% call(a, b) m() %}{{ a + b }}{% endcall %}", "3"),
        ("{% macro m() %}{{ varargs }}{{ kwargs }}{% endmacro %}{{ m(1, 2, k=3) }}", "(1, 2){'k': 3}"),
        ("{% macro m() %}{{ y }}{% endmacro %}{% set y = 5 %}{{ m() }}", "5"),
        ("{% macro m(a) %}{{ a }}{{ kwargs }}{{ caller() }}{% endmacro %}{% call m(1, k=3) %}x{% endcall %}{% call m(a=2) %}y{% endcall %}", "1{'k': 3}x2{}y"),
        ("{% for i in [1,2] %}{% macro m() %}{{ i }}{% endmacro %}{{ m() }}{% endfor %}", "12"),
        ("{% set i = 0 %}{% macro m() %}{{ i }}{% endmacro %}{% for i in [1,2] %}{{ m() }}{% endfor %}", "00"),
        ("{% block b %}x{% endblock %}{{ self.b() }}{% block c %}{% endblock c %}", "xx"),
        ("{{ 'x' if false }}{{ 'x' if true else 'y' }}{{ 'a' if false else 'b' if false else 'c' }}{{ ('a' if true) ~ 'b' }}", "xcab"),
        ("{{ none }}{{ true }}{{ [true] }}{{ none or 'x' }}{{ 0 or '' or [] or 'y' }}{{ 1 and 2 }}{{ not 0 }}{{ not not 1 }}", "NoneTrue[True]xy2TrueTrue"),
        ("{{ 'abc'|first }}{{ [1,2]|last }}{{ []|first }}{{ [3,1,2]|sort }}{{ ['b','A']|sort }}{{ [1,2,3]|sum }}{{ [3,1]|min }}{{ [3,1]|max }}{{ []|max }}{{ [1,1,2]|unique|list }}", "a2[1, 2, 3]['A', 'b']613[1, 2]"),
        ("{{ [1,2,3,4,5]|batch(2)|list }}{{ [1,2,3]|batch(2,'x')|list }}{{ [1,2,3,4,5]|slice(2)|list }}{{ [1,2,3]|slice(2,'x')|list }}", "[[1, 2], [3, 4], [5]][[1, 2], [3, 'x']][[1, 2, 3], [4, 5]][[1, 2], [3, 'x']]"),
        ("{{ messages|selectattr('role','equalto','user')|list|length }}{{ messages|rejectattr('role','in',['user'])|map(attribute='role')|list }}{{ [1,2,3]|select('odd')|list }}{{ [0,1]|select|list }}{{ [1,2]|reject('odd')|list }}{{ messages|selectattr('nope')|list }}", "2['system', 'assistant'][1, 3][1][2][]"),
        ("{{ ['a','b']|map('upper')|list }}{{ [{'a':1},{}]|map(attribute='a', default=0)|list }}{{ [[1,2],[3]]|map('length')|list }}", "['A', 'B'][1, 0][2, 1]"),
        ("{{ {'b':1,'a':2}|dictsort }}{{ {'b':1,'a':2}|dictsort(by='value') }}{{ {'b':1,'a':2}|items|list }}{{ {'a':1}.keys()|list }}{{ {'a':1}.values()|list }}{{ {'a':1}.get('b','c') }}{{ {'a':1}.get('b') }}", "[('a', 2), ('b', 1)][('b', 1), ('a', 2)][('b', 1), ('a', 2)]['a'][1]cNone"),
        ("{% for g in messages|groupby('role') %}{{ g.grouper }}{{ g.list|length }};{% endfor %}{% for k, l in messages|groupby('role') %}{{ k }}{{ l|length }};{% endfor %}", "assistant1;system1;user2;assistant1;system1;user2;"),
        (r"{{ 'a\nb\n\nc'|indent }}|{{ 'a\nb'|indent(2, true) }}|{{ 'a\n\nb'|indent(2, blank=true) }}|{{ 'a\nb'|indent('> ') }}", "a\n    b\n\n    c|  a\n  b|a\n  \n  b|a\n> b"),
        (r#"{{ 'hello wORLD-foo (bar)'|title }}{{ 'hello wORLD'|capitalize }}{{ "they're bill's".title() }}{{ 'aB'.swapcase() }}"#, "Hello World-Foo (Bar)Hello worldThey'Re Bill'SAb"),
        ("{{ '3.7'|int }}{{ 'x'|int }}{{ 'x'|int(5) }}{{ '0x1f'|int(0,16) }}{{ 3.9|int }}{{ '1.5'|float }}{{ 'x'|float }}{{ 42.55|round(1) }}{{ 42.5|round }}{{ 42.4|round(0,'ceil') }}{{ -3|abs }}{{ 3|string ~ 'x' }}", "3053131.50.042.542.043.033x"),
        ("{{ '<a&\"\\'>'|e }}{{ 'a b/c?é'|urlencode }}{{ '%s-%s'|format(1,'b') }}{{ '%(a)s'|format(a=1) }}", "&lt;a&amp;&#34;&#39;&gt;a%20b/c%3F%C3%A91-b1"),
        ("{{ '{} {1} {0}'.format(1,2) if false }}{{ '{}-{}'.format(1,'b') }}{{ '{0}{1}{0}'.format('a','b') }}{{ '{a:>5}|{b:<5}|{c:^5}|'.format(a=1,b='x',c='y') }}{{ '{:.2f} {:05d} {:,} {:x} {:#x} {:e} {:%} {:+d}'.format(3.14159,42,1234567,255,255,12345.678,0.5,5) }}{{ '{{}}'.format() }}{{ '{!r}'.format('a') }}{{ '{a.b}'.format(a=1) if false }}{{ '{0[k]}'.format({'k':1}) }}", "1-baba    1|x    |  y  |3.14 00042 1,234,567 ff 0xff 1.234568e+04 50.000000% +5{}'a'1"),
        (r"{{ 'a b  c'.split() }}{{ ' a b '.split(' ') }}{{ 'a b c'.split(None, 1) }}{{ 'a b c'.rsplit(None, 1) }}{{ 'a,b'.split(',') }}{{ ''.split(',') }}{{ ''.split() }}{{ 'a\nb\r\nc'.splitlines() }}{{ 'a\nb\n'.splitlines(true) }}", r"['a', 'b', 'c']['', 'a', 'b', '']['a', 'b c']['a b', 'c']['a', 'b'][''][]['a', 'b', 'c']['a\n', 'b\n']"),
        ("{{ 'abcabc'.find('c') }}{{ 'abcabc'.rfind('c') }}{{ 'abc'.find('z') }}{{ 'abcabc'.count('b') }}{{ 'abc'.count('') }}{{ 'éabc'.find('a') }}{{ 'abcabc'.find('c', 3) }}{{ 'abcabc'.find('c', -3) }}", "25-124155"),
        ("{{ 'a'.isalpha() }}{{ '1'.isdigit() }}{{ ' '.isspace() }}{{ 'A'.isupper() }}{{ 'a1'.isalnum() }}{{ ''.isalpha() }}{{ ','.join(['a','b']) }}{{ 'xxaxx'.strip('x') }}{{ 'abc'.replace('b','') }}{{ 'abc'.replace('','-') }}{{ 'aaa'.replace('a','b',1) }}", "TrueTrueTrueTrueTrueFalsea,baac-a-b-c-baa"),
        ("{{ 5 is odd }}{{ 4 is even }}{{ 6 is divisibleby 3 }}{{ 6 is divisibleby(4) }}{{ 'a' is string }}{{ 1 is number }}{{ {} is mapping }}{{ [] is sequence }}{{ 'a' is sequence }}{{ {} is sequence }}{{ [] is iterable }}{{ 1 is iterable }}{{ none is none }}{{ true is boolean }}{{ 1 is integer }}{{ 1.0 is float }}{{ true is true }}{{ 1 is true }}{{ 'a' is lower }}{{ 'A' is upper }}{{ 1 is eq 1 }}{{ 1 is in [1] }}{{ x is undefined }}{{ 1 is not none }}{{ 2 is gt 1 }}{{ none is sameas none }}{{ namespace is callable }}", "TrueTrueTrueFalseTrueTrueTrueTrueTrueTrueTrueFalseTrueTrueTrueTrueTrueFalseTrueTrueTrueTrueTrueTrueTrueTrueTrue"),
        ("{{ messages[99] }}", ""),
        ("{{ none.foo }}{{ none['a'] }}{{ (1).foo }}{{ 'a'.foo }}{{ 'a'['foo'] }}{{ [1].foo }}{{ {'a':1}.b }}", ""),
        ("{{ none[1:] }}", ""),
        (r#"{{ x ~ 'a' }}{{ none ~ 1 }}{{ [1] ~ 'x' }}{{ 'a' 'b' "c" }}{{ 'ab' * 3 }}{{ [1] * 2 }}{{ [1] + [2] }}"#, "aNone1[1]xabcababab[1, 1][1, 2]"),
        ("{{- 1 -}}   {{+ 2 }}{#- c -#}  x", "12x"),
        ("a  {%- if true %} b {% endif -%}  c", "a b c"),
        ("{% raw %}{{ x }}{% endraw %}{% raw -%}  {{ y }} {%- endraw %}z", "{{ x }}{{ y }}z"),
        ("{{ dict(a=1, b=2) }}{{ dict({'x': 1}, y=2) }}{{ namespace(a=1).a }}", "{'a': 1, 'b': 2}{'x': 1, 'y': 2}1"),
        ("{% set c = cycler('a','b') %}{{ c.next() }}{{ c.next() }}{{ c.next() }}{{ c.current }}{% set _ = c.reset() %}{{ c.current }}", "ababa"),
        ("{{ [1,2,3]|reverse|list }}{{ 'abc'|reverse }}{{ [[1,2],[3,4]]|sum(start=[]) }}{{ messages|map(attribute='content')|map('trim')|join('|') }}{{ [1,2]|join }}{{ [1,2]|join('-') }}{{ messages|join(',', attribute='role') }}", "[3, 2, 1]cba[1, 2, 3, 4]Be brief.|Hi there|<think>\nx\n</think>\n\nyes|Bye \"é\" <b>121-2system,user,assistant,user"),
        (r#"{{ 0x1F }}{{ 1_000 }}{{ 1.5e3 }}{{ 'a\tb' }}{{ "a\"b" }}{{ 'a\qb' }}"#, "3110001500.0a\tba\"ba\\qb"),
        ("{{ strftime_now('%Y-%m-%d') }}{{ strftime_now('%d %b %Y') }}", "2024-07-2626 Jul 2024"),
        ("{{ messages|length }}{{ messages|count }}{{ 'é'|length }}{{ {'a':1}|length }}", "4411"),
        ("{{ (messages|last).role }}{{ messages[0]['role'] == 'system' }}{{ messages[0]['role'] != 'system' }}", "userTrueFalse"),
        ("{% if messages[0]['role'] == 'system' %}{% set loop_messages = messages[1:] %}{% set sm = messages[0]['content'] %}{% else %}{% set loop_messages = messages %}{% set sm = false %}{% endif %}{% for m in loop_messages %}{% if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('alternate') }}{% endif %}{{ m.content|trim }}{% endfor %}", "Hi there<think>\nx\n</think>\n\nyesBye \"é\" <b>"),
        ("{{ -1|abs }} {{ 2 * 3 + 4 }} {{ 2 + 3 * 4 }} {{ (2 + 3) * 4 }} {{ 10 - 2 - 3 }} {{ 2 ** 3 ** 2 }} {{ -2 ** 2 }} {{ 'a' ~ 1 * 2 }} {{ 7 // 2 * 2 }} {{ --1 }} {{ 'x' ~ 'y' + 'z' }} {{ 6 / 2 * 3 }}", "1 10 14 20 5 64 4 a2 6 1 xyz 9.0"),
        ("{{ not 1 == 2 }}{{ not x is defined }}{{ x is not defined and true }}{{ 1 if x is defined else 2 }}{{ x is defined or true }}", "TrueTrueTrue2True"),
        ("{% set ns = namespace(a=[]) %}{% set ns.a = ns.a + [1] %}{{ ns.a }}{{ ns }}", "[1]<Namespace {'a': [1]}>"),
        ("{% for i in range(5) %}{% if i == 1 %}{% continue %}{% endif %}{% if i == 3 %}{% break %}{% endif %}{{ i }}{% endfor %}", "02"),
        ("{% for c in 'abc' %}{{ c }},{% endfor %}{% for k in {'a':1,'b':2} %}{{ k }}{% endfor %}{% for i in x %}{{ i }}{% endfor %}", "a,b,c,ab"),
        ("{% set x = {'a': {'b': [1,2,{'c': 'd'}]}} %}{{ x.a.b[2].c }}{{ x['a']['b'][0] }}{{ x.a.b.0 }}", "d11"),
        ("{% if 0 %}a{% elif 1 %}b{% else %}c{% endif %}{% if x %}a{% elif y %}b{% endif %}", "b"),
        ("{{ [1, 2,] }}{{ {'a': 1,} }}{{ f(1,) if false }}{% for x in [1,2,] %}{{ x }}{% endfor %}", "[1, 2]{'a': 1}12"),
        ("{{ messages|tojson|length > 0 }}{{ (messages|map(attribute='role')|list)|tojson }}", r#"True["system", "user", "assistant", "user"]"#),
        ("{{ 'a,b'|split(',') if false }}{{ [1,[2,[3]]]|string }}{{ 12|string|length }}{{ 'Abc'|lower|upper }}{{ [3,2,1]|sort(reverse=true) }}{{ messages|sort(attribute='role')|map(attribute='role')|list }}", "[1, [2, [3]]]2ABC[3, 2, 1]['assistant', 'system', 'user', 'user']"),
        ("{{ 1.0 }}{{ 100000000000000000000.0 }}{{ 3.0|int }}{{ 10**15 }}{{ 5|float }}{{ 1e100 }}{{ 1/3 }}", "1.01e+20310000000000000005.01e+1000.3333333333333333"),
        ("{{ '{:5}|{:5}|{:<5}|{:>5}|{:^5}|{:*^7}|{:=+6d}|{:06.2f}'.format('a', 1, 1, 'a', 'a', 'b', 3, 2.5) }}{{ '{:g} {:g} {:g} {:.3g}'.format(1.0, 1e10, 0.00001, 3.14159) }}{{ '%g %e %.3g %5s|%-5s|%c%c' % (1.5, 1234.5, 3.14159, 'a', 'b', 'x', 65) }}", "a    |    1|1    |    a|  a  |***b***|+    3|002.501 1e+10 1e-05 3.141.5 1.234500e+03 3.14     a|b    |xA"),
        ("a\n\n", "a\n"),
        ("{{ bos_token }}<b>&</b>\n", "<s><b>&</b>"),
        ("{% for m in messages %}\n{{ '<|' + m.role + '|>' }}\n{{ m.content }}\n{% endfor %}\n{{ 'a\nb' }}\n", "<|system|>\n Be brief. \n<|user|>\nHi there\n<|assistant|>\n<think>\nx\n</think>\n\nyes \n<|user|>\nBye \"é\" <b>\n\na\nb"),
        ("a\r\n{% if true %}\r\nb\r\n{% endif %}\r\n", "a\nb\n"),
        ("x\n    {# c #}\n  y\n   {%- set a = 1 %}\n   {{- a }}\n", "x\n  y1"),
        ("{% if a %}\n  {% for b in c %}\n  {% endfor %}\n{% endif %}\nend", "end"),
        ("line1\n  {%+ if true +%}\n  x\n  {%- endif +%}\n y", "line1\n  \n  x\n y"),
        ("{{ '''a''' }}", "a"),
        ("{# a {{ b }} #}\n\nx", "\nx"),
        ("\n{% set x = 1 -%}\n\n  y", "\ny"),
        ("{{ {'a': {'b': 1}}['a']['b'] }}{{ {}}}", "1{}"),
    ];
    for (source, expected) in cases {
        assert_eq!(render(source).as_deref(), Ok(expected), "{source}");
    }
}

/// What Jinja2 does not know, or prints as Python's own types.
#[test]
fn what_is_ours() {
    for (source, expected) in [
        ("{{ {'items': 5}.items() }}{{ {'items': 5}['items'] }}", "[('items', 5)]5"),
        ("{{ 'a,b' | split(',') }}{{ 1 | bool }}", "['a', 'b']True"),
        ("{% do [1] %}{{ tools | tojson }}{{ nothing | tojson }}", "nullnull"),
        ("{% print 'a' %}{{ 'ab' is startingwith 'a' }}{{ 'ab' is endingwith 'a' }}", "aTrueFalse"),
        (r"{{ '\ud83d\ude00' }}", "😀"),
        ("{{ 1 if x is defined else 2 }}{% if 'a' if 0 else 'b' %}y{% endif %}", "2y"),
    ] {
        assert_eq!(render(source).as_deref(), Ok(expected), "{source}");
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
        ("{% for i in 5 %}{% endfor %}", "not a list"),
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
