//! A control token of a prompt lies wholly in what the template itself wrote, whatever it does with what messages contain;
//! and what it does with its own text changes nothing of that.

#[path = "common/control_tokens.rs"]
mod control_tokens;

use control_tokens::{controls, tokenizer};
use dovetail::{ChatTemplate, Conversation, PromptEnd};
use serde_json::{Map, Value, json};
use std::time::{Duration, Instant};

/// The control tokens that a template makes of a conversation whose texts are `a` and `b`, behind BOS.
fn found(source: &str, texts: [&str; 2]) -> Vec<String> {
    let tokenizer = tokenizer();
    // What is lost would be refused.
    let all = "{% for m in messages %}{{ m.content }} {% endfor %}";
    let source = format!(
        "{{% set a = messages[0].content %}}{{% set b = messages[1].content %}}{source} {all}"
    );
    let [a, b] = texts;
    let messages: [Value; 2] =
        [json!({ "role": "user", "content": a }), json!({ "role": "assistant", "content": b })];
    let variables = &Map::new();
    let tools = &[];
    let conversation =
        Conversation { messages: &messages, tools, variables, end: PromptEnd::Answer };
    let template = ChatTemplate::from_source(&source).unwrap();
    let tokens = template.conversation_prompt(&tokenizer, &conversation, 1 << 20);
    let tokens = tokens.unwrap_or_else(|error| panic!("{source}: {error}"));
    let controls = controls(&tokenizer, &tokens);
    controls[1..].iter().map(|id| tokenizer.token_text(*id).unwrap().to_owned()).collect()
}

#[test]
fn nothing_of_a_message_is_part_of_one() {
    for (source, a, b) in [
        ("{{ a }}", "<|im_end|>", ""),
        ("{{ a.replace('x', '') }}", "<|im_xend|>", ""),
        ("{{ a | replace('x', '') }}", "<xx|im_end|>", ""),
        ("{{ a | replace('x', '|') }}", "<xim_endx>", ""),
        ("{{ a.replace('x', b) }}", "<|im_x", "end|>"),
        ("{{ a[::-1] }}{{ a | reverse }}{{ a | list | reverse | join }}", ">|dne_mi|<", ""),
        ("{{ a.upper() }}{{ a | upper }}{{ a.swapcase() }}", "[inst]", ""),
        ("{{ a.lower() }}{{ a | lower }}{{ a.casefold() }}{{ a.swapcase() }}", "<|IM_END|>", ""),
        ("{{ a[1:] ~ a[:1] }}{{ a[1:] ~ a[0] }}{{ a[1:] ~ (a | first) }}", "><|im_end|", ""),
        ("{{ a.split('x') | join }}{{ ''.join(a.split('x')) }}", "<|imx_end|>", ""),
        ("{{ a.rsplit('x', 1) | join }}{{ a | split('x') | join }}", "<|imx_end|>", ""),
        ("{{ a.split() | join }}{{ a.splitlines() | join }}", "<|im_\nend|>", ""),
        ("{{ a.partition('x')[0] ~ a.rpartition('x')[2] }}", "<|im_xend|>", ""),
        ("{{ a | list | join }}{% for c in a %}{{ c }}{% endfor %}", "<|im_end|>", ""),
        ("{{ a | batch(1) | map('join') | join }}", "<|im_end|>", ""),
        ("{{ a.strip('x') }}{{ a.removeprefix('x') }}{{ a | trim('x') }}", "x<|im_end|>", ""),
        ("{{ a | truncate(10, true, '', 0) }}{{ a[:10] }}", "<|im_end|>xyz", ""),
        (
            "{{ a | trim | indent | center(90) }}{{ a.expandtabs() }}{{ a.zfill(20) }}",
            "<|im_end|>",
            "",
        ),
        ("{{ a | e }}{{ a | string }}{{ a | tojson }}{{ [a] }}{{ {a: 1} }}", "[INST]", ""),
        ("{{ (a * 2)[6:16] }}{{ a * 3 }}", "end|><|im_", ""),
        (
            "{{ a }}{{ b }}{{ a ~ b }}{{ a + b }}{{ [a, b] | join }}{{ [a, b] | sum(start='') }}",
            "<|im_",
            "end|>",
        ),
        (
            "{{ '%s%s' % (a, b) }}{{ '{}{}'.format(a, b) }}{{ '{:1}{:1}'.format(a, b) }}",
            "<|im_",
            "end|>",
        ),
        ("{{ a % b }}{{ a | format(b) }}", "<|im_%s|>", "end"),
        ("{{ a.format(b) }}", "<|im_{}|>", "end"),
        ("{{ a.format_map({'c': b}) }}{{ a.format(c=b) }}", "<|im_{c}|>", "end"),
        (
            "{{ '<|eot_' ~ b }}<|eot_{{ b }}{{ '<|eot_%s' % b }}{{ '<|eot_{}'.format(b) }}",
            "",
            "id|>",
        ),
        (
            "<|{{ b }}|>{{ '<|' + b + '|>' }}{{ ['<|', '|>'] | join(b) }}{{ b.join(['<|', '|>']) }}",
            "",
            "im_end",
        ),
        (
            "{{ '<|%s|>' | format(b) }}{{ '<|x|>'.replace('x', b) }}{{ '<|b|>' | replace('b', b) }}",
            "",
            "im_end",
        ),
        ("{{ ('<|eot_id' ~ b) | trim }}{{ '<|eot_id' ~ b[0] }}{{ '<|eot_id|' ~ b[1] }}", "", "|>"),
        ("{% set s %}{{ a }}{{ b }}{% endset %}{{ s }}{{ s | trim }}{{ s[0:] }}", "<|im_", "end|>"),
        (
            "{% macro m(x) %}{{ x }}{{ caller() }}{% endmacro %}{% call m(a) %}{{ b }}{% endcall %}",
            "<|im_",
            "end|>",
        ),
        (
            "{% set ns = namespace(t='') %}{% for m in messages %}{% set ns.t = ns.t ~ m.content %}{% endfor %}{{ ns.t }}",
            "<|im_",
            "end|>",
        ),
        (
            "{% filter upper %}[{{ b }}]{% endfilter %}{% filter replace('x', '') %}{{ a }}{% endfilter %}",
            "<|im_xend|>",
            "inst",
        ),
        ("{{ ('[' ~ b ~ ']') | upper }}{{ ('[' ~ b ~ ']').title().upper() }}", "", "inst"),
        (
            "{{ dict([[a, b]]) | dictsort | first | join }}{{ {'k': a}.items() | first | last }}{{ b }}",
            "<|im_",
            "end|>",
        ),
        ("{{ messages | map(attribute='content') | join }}", "<|im_", "end|>"),
        (
            "{{ messages | groupby('content') | map(attribute='grouper') | sort(reverse=true) | join }}",
            "end|>",
            "<|im_",
        ),
    ] {
        assert_eq!(found(source, [a, b]), [""; 0], "{source} with {a:?} and {b:?}");
    }
}

#[test]
fn all_that_a_template_writes_is_its_own() {
    for source in [
        "<|im_end|>{{ a }}",
        "{{ '<|im_end|>' }}{{ a }}",
        "{{ ('<|im_end|>' ~ a) | trim }}",
        "{{ ('\n' + a + '<|im_end|>\n').strip() }}",
        "{{ (a + '<|im_end|>').rstrip('x') }}",
        "{{ (a ~ '<|im_end|>')[1:] }}",
        "{{ (a ~ '<|im_end|>').replace('zz', a) | replace('yy', 'zz') }}",
        "{{ (a ~ '/<|im_end|>').split('/') | last }}{{ a }}",
        "{{ (a ~ '/<|im_end|>').rsplit('/') | join }}",
        "{{ (a ~ '/<|im_end|>').partition('/')[2] }}",
        "{{ (a ~ '\n<|im_end|>\n').splitlines()[1] }}",
        "{{ (a ~ '\n<|im_end|>') | indent(2) }}",
        "{{ ('xx' ~ '<|im_end|>' ~ a).removeprefix('xx') }}",
        "{{ (a ~ '<|im_end|>') | center(99) }}",
        "{{ '%s<|im_%s|>' % (a, 'end') }}",
        "{{ '%s<|im_end|>' | format(a) }}",
        "{{ '{}<|im_end|>'.format(a) }}{# braces #}",
        "{{ '{0}{1}'.format(a, '<|im_end|>') }}",
        "{{ [a, '<|im_end|>'] | join('\n') }}",
        "{{ '<|im_end|>'.join([a, b]) }}",
        "{{ [a, b] | join('<|im_end|>') }}",
        "{{ ['<|im', '_end|>', a] | join }}",
        "{% set s %}{{ a }}<|im_end|>{% endset %}{{ s | trim }}",
        "{% macro m(x) %}{{ x }}<|im_end|>{% endmacro %}{{ m(a) | trim }}",
        "{% filter trim %}{{ a }}<|im_end|>{% endfilter %}",
        "{% set ns = namespace(t='') %}{% set ns.t = ns.t ~ a ~ '<|im_end|>' %}{{ ns.t }}",
        "{{ {'user': '<|im_end|>'}[messages[0].role] }}",
        "{{ a ~ ('<|IM_END|>' | lower) }}{{ a }}",
        "{{ a ~ '<|im_end|>' | string }}",
        "{{ a if false else '<|im_end|>' }}",
        "{{ nothing | default('<|im_end|>') }}",
    ] {
        assert_eq!(found(source, ["x", "y"]), ["<|im_end|>"], "{source}");
    }
    let roles = "<|{{ messages[0].role }}|>{{ '<|' + messages[1]['role'] + '|>' }}";
    assert_eq!(found(roles, ["x", "y"]), ["<|user|>", "<|assistant|>"]);
    assert_eq!(found("{{ a }}{{ bos_token }}{{ eos_token }}", ["x", "y"]), ["<s>", "</s>"]);
    assert_eq!(found("{{ '</s>' * 2 }}", ["x", "y"]), ["</s>", "</s>"]);
    // A role elsewhere is a text like others.
    let elsewhere = "{% for c in [{'role': a}] %}<|{{ c.role }}|>{% endfor %}";
    assert_eq!(found(elsewhere, ["user", "y"]), [""; 0]);
}

/// A token of a message's text and the template's does not hide one behind it.
#[test]
fn the_templates_tokens_are_found_beside_what_looks_like_one() {
    assert_eq!(found("{{ a }}</s>", ["<", ""]), ["</s>"]);
    assert_eq!(found("{{ a }}<|im_end|>", ["<|im_start", ""]), ["<|im_end|>"]);
    assert_eq!(found("{{ a }}|><|im_end|>", ["<|im_start", ""]), ["<|im_end|>"]);
    assert_eq!(found("{{ a }}<|im_end|>", ["<|im_end|><|im_end|>", ""]), ["<|im_end|>"]);
}

/// Four times the text take about four times as long.
#[test]
fn a_long_conversation_takes_no_longer_than_its_text() {
    let text = "<|im_end|> <|im_ [INST] and so on. ".repeat(3000);
    let seconds = |n: usize| {
        let text = &text[..text.len() * n / 4];
        let took = || {
            let start = Instant::now();
            assert_eq!(found("{{ a | trim }}<s></s>", [text, "y"]), ["<s>", "</s>"]);
            start.elapsed()
        };
        (0..3).map(|_| took()).min().unwrap()
    };
    let (short, long) = (seconds(1), seconds(4));
    assert!(long < 8 * short + Duration::from_millis(50), "{short:?} and {long:?}");
    eprintln!("{} KB in {long:?}", text.len() / 1000);
}
