//! What fuzzing does with any bytes as a chat template and as text. `fuzz/fuzz_targets` let libFuzzer choose the bytes,
//! `tests/fuzzed.rs` draws them.

use super::grown::{Forms, Grown};
use dovetail::gguf::{Array, Metadata, Value};
use dovetail::text::Tokenizer;
use dovetail::{ChatTemplate, Message};
use std::sync::LazyLock;
use std::time::{Duration, Instant};

/// The longest that anything may take: many times of what it does, for machines that do other things meanwhile.
const MAX_TIME: Duration = Duration::from_secs(20);

/// Pieces of templates: any bytes are seldom even one tag.
const PIECES: &[&str] = &[
    "{{ ",
    " }}",
    "{%- ",
    " -%}",
    "{% ",
    " %}",
    "{# ",
    " #}",
    "\n",
    " ",
    "a",
    "b",
    "'a'",
    "'é\\n'",
    "\"\"",
    "0",
    "1",
    "-1",
    "2.5",
    "9999999999",
    "[",
    "]",
    "(",
    ")",
    "{",
    "}",
    ", ",
    ": ",
    ".",
    "|",
    " + ",
    " - ",
    " * ",
    " / ",
    " // ",
    " % ",
    " ** ",
    " ~ ",
    " == ",
    " != ",
    " < ",
    " >= ",
    " in ",
    " not ",
    " and ",
    " or ",
    " is ",
    " if ",
    " else ",
    " = ",
    "{% if a %}",
    "{% elif b %}",
    "{% else %}",
    "{% endif %}",
    "{% for a in ",
    "{% for a, b in ",
    " recursive %}",
    "{% endfor %}",
    "{% set a = ",
    "{% set a %}",
    "{% endset %}",
    "{% set ns.a = ",
    "{% set ns = namespace(a=1) %}",
    "{% macro f(a, b=a) %}",
    "{% endmacro %}",
    "{% call f(1) %}",
    "{% endcall %}",
    "{% filter upper %}",
    "{% endfilter %}",
    "{% with a = 1 %}",
    "{% endwith %}",
    "{% block c %}",
    "{% endblock %}",
    "{% raw %}",
    "{% endraw %}",
    "{% break %}",
    "{% continue %}",
    "{{ f(1, *a, **b) }}",
    "{{ caller() }}",
    "{{ self.c() }}",
    "{{ loop(a) }}",
    "{{ loop.index }}",
    "loop.cycle",
    "loop.changed",
    "messages",
    ".content",
    ".role",
    "[0]",
    "[-1]",
    "[1:]",
    "[::-1]",
    "['role']",
    "ns",
    "ns.a",
    "range(9)",
    "range(99999)",
    "dict(a=a)",
    "joiner('-')",
    "cycler(1, 2)",
    ".next()",
    ".items()",
    ".get('a')",
    ".split()",
    ".split('a')",
    ".strip()",
    ".replace('a', 'bb')",
    ".format(a, b)",
    ".join(a)",
    ".startswith('a')",
    ".find('a')",
    ".upper()",
    ".zfill(20)",
    ".splitlines()",
    ".count('')",
    ".title()",
    ".items",
    ".keys()",
    ".find('', 2, 1)",
    ".expandtabs(99)",
    ".format_map(a)",
    ".istitle()",
    "|list",
    "|join('-')",
    "|length",
    "|sort",
    "|unique",
    "|map('upper')",
    "|map(attribute='a')",
    "|select('odd')",
    "|selectattr('role', 'eq', 'user')",
    "|groupby('role')",
    "|batch(2, 0)",
    "|slice(3)",
    "|tojson",
    "|tojson(indent=2)",
    "|first",
    "|last",
    "|sum",
    "|max",
    "|reverse",
    "|default('x', true)",
    "|trim",
    "|indent(2, true)",
    "|replace('a', 'b', 1)",
    "|string",
    "|int(0, 16)",
    "|float",
    "|round(2)",
    "|dictsort",
    "|format(a, b)",
    "|truncate(3)",
    "|title",
    "|escape",
    "|urlencode",
    "'%5.2f|%-9s|%x'",
    "'{:>9}{a}{0[0]}'",
    "'{:{}}{!a}'",
    "is defined",
    "is divisibleby 3",
    "is sameas a",
    "is none",
    "strftime_now('%-5d%f%E%')",
    "raise_exception('no')",
];

/// Templates that mostly render: what a statement, any value, a text, a number and a list may be.
const GRAMMAR: Forms = &[
    ('A', 3, &["@T", "@L", "@N"]),
    (
        'S',
        5,
        &[
            "text\n",
            "{{ @A }}",
            "{% set a = @T %}",
            "{% set ns.t = @T %}",
            "{% set ns.l = @L %}",
            "{% set b = @L %}",
            "{% set ns.n = @N %}",
            "{% for m in @L %}@S@S{% else %}@S{% endfor %}",
            "{% for i in range(40) %}@S@S{% endfor %}",
            "{% for i in range(99999) %}@S@S{% endfor %}",
            "{% for i in range(9) %}@S{% if @N %}{% break %}{% endif %}@S{% endfor %}",
            "{% for m in @L recursive %}@S{{ loop(@L) }}{% endfor %}",
            "{% if @A %}@S@S{% elif @N %}@S{% else %}@S{% endif %}",
            "{% macro f(a, b=@L) %}@S@S{% endmacro %}{{ f(@T) }}",
            "{% macro f(a) %}@S{{ f(@T) }}{% endmacro %}",
            "{% call f(@T) %}@S{% endcall %}",
            "{% set a %}@S@S{% endset %}",
            "{% filter upper %}@S{% endfilter %}",
            "{% with a = @T, b = @L %}@S@S{% endwith %}",
            "{%- if @N -%} @S {%- endif -%}",
            "{% set ns.l = [ns.l, ns.l] %}",
            "{% set ns.t = ns.t ~ ns.t %}",
            "{% set ns.l = ns.l + ns.l %}",
            "{% set ns.s = ns %}",
            "@S@S@S",
        ],
    ),
    (
        'T',
        4,
        &[
            "a",
            "ns.t",
            "'é<b>\\n'",
            "'ab'",
            "(@T ~ @A)",
            "(@T + @T)",
            "(@T * 3)",
            "(@T * @N)",
            "(@T)|upper",
            "(@T)|title",
            "(@T).replace(@T, @T)",
            "(@T)|replace('a', 'aa')",
            "(@T)[@N:]",
            "(@T)[::-1]",
            "(@A)|string",
            "(@A)|tojson",
            "(@L)|tojson(indent=2)",
            "(@L)|join(@T)",
            "(@T).join(@L)",
            "('%s' % [@A])",
            "('%9s' | format(@A))",
            "'{:>9}{}'.format(@T, @A)",
            "(@T)|indent(@N, true)",
            "(@T).center(@N)",
            "(@T).zfill(9)",
            "(@T)|truncate(@N)",
            "(@T).strip(@T)",
            "(@T)|e",
            "(@T)|urlencode",
            "(@A)|pprint",
            "(@T if @A else @T)",
            "messages[0].content",
            "(@T)|default(@T, true)",
            "(@L)|map('string')|join",
            "(@T)|center(@N)",
        ],
    ),
    (
        'N',
        3,
        &[
            "2",
            "ns.n",
            "-1",
            "99999",
            "9999999999",
            "2.5",
            "(@N + @N)",
            "(@N * @N)",
            "(@N - @N)",
            "(@N // 3)",
            "(@N % 7)",
            "(@N ** 2)",
            "(@A)|string|length",
            "(@L)|length",
            "(@T).find(@T)",
            "(@T).count(@T)",
            "(@T)|int(@N)",
            "(@A == @A)",
            "(@A in @L)",
            "(@T in @T)",
            "(@T < @T)",
            "(@A is defined)",
            "(not @A)",
            "(@A is sameas @A)",
            "(@L == @L)",
            "(@L)|map('length')|sum",
            "(@N)|round|int",
            "(@A and @A)|string|length",
            "(@T)|wordcount",
        ],
    ),
    (
        'L',
        3,
        &[
            "b",
            "ns.l",
            "messages",
            "[@A, @A]",
            "(@L + @L)",
            "(@L * 2)",
            "[@L, @L]",
            "(@T)|list",
            "(@T).split(@T)",
            "(@T).splitlines()",
            "(@L)[@N:]",
            "(@L)[::-1]",
            "(@L)|reverse|list",
            "(@L)|map('string')|list",
            "(@L)|map('string')|sort",
            "(@L)|map('string')|unique|list",
            "(@L)|batch(@N, @A)|list",
            "(@L)|batch(2)|list",
            "(@L)|slice(3)|list",
            "(@L)|select('string')|list",
            "range(99)|list",
            "{'a': @A, 'b': @L}.items()|list",
            "(@L)|reject('in', @L)|list",
            "messages|groupby('role')|list",
            "messages|sort(attribute='role')",
            "({'a': @L}|dictsort)",
            "(@L)|map('list')|sum(start=[])",
            "[@T]|map('replace', 'a', @T)|list",
        ],
    ),
];

/// A template of these bytes: as they are, a piece each, or a choice each.
pub fn template(data: &[u8]) -> String {
    let Some((first, rest)) = data.split_first() else { return String::new() };
    match first % 4 {
        0 => String::from_utf8_lossy(rest).into_owned(),
        1 => rest.iter().map(|byte| PIECES[usize::from(*byte) % PIECES.len()]).collect(),
        _ => {
            let begin = "{% set ns = namespace(t='ab', l=[1], n=3) %}{% set a = 'ab' %}{% set b = [1, 'b'] %}";
            let mut grown = Grown::new(begin, &[GRAMMAR], rest);
            while grown.choices.len() > 0 {
                grown.grow('S');
            }
            grown.out
        }
    }
}

/// A control token, of whose brackets templates know nothing.
const END: &str = "⟦end⟧";

/// A conversation with that token, pieces of it, and what becomes it in another case or order.
const MESSAGES: [(&str, &str); 5] = [
    ("system", "Be brief. ⟦end⟧"),
    ("user", "Hi \"é\"\n⟦en"),
    ("assistant", "d⟧<b> 1"),
    ("user", "⟧dne⟦"),
    ("user", "⟦END⟧"),
];

/// Any bytes as a template: it ends, soon, and no control token of the prompt has anything of a message in it.
pub fn render(data: &[u8]) {
    static TOKENIZER: LazyLock<Tokenizer> = LazyLock::new(|| byte_level("gpt-2"));
    let source = template(data);
    let messages = MESSAGES.map(|(role, content)| Message::new(role, content));
    let start = Instant::now();
    let rendered = ChatTemplate::from_source(&source)
        .and_then(|template| template.render(&messages, true, "<s>", "</s>"));
    assert!(start.elapsed() < MAX_TIME, "{:?}: {source}", start.elapsed());
    if rendered.is_err() || source.contains(['⟦', '⟧', '\\']) {
        return;
    }
    // Messages that are lost would be refused.
    let whole = format!("{source}{{% for m in messages %}}{{{{ m.content }}}} {{% endfor %}}");
    if let Ok(template) = ChatTemplate::from_source(&whole)
        && let Ok(tokens) = template.prompt(&TOKENIZER, &messages, true, usize::MAX)
    {
        let end = TOKENIZER.token_id(END).expect("it is in the vocabulary");
        assert!(!tokens.contains(&end), "{source}");
    }
}

/// Tokens of the made-up vocabularies beside all bytes.
const WORDS: &[&str] = &[
    "ab", "abc", " a", " ab", "  ", "the", " the", "\n\n", "12", "123", "é", "日", "日本", "'s",
    "aa", "aaaa",
];
/// Control tokens of the made-up vocabularies; the last is user-defined.
const SPECIAL: &[&str] = &["<s>", "</s>", "<unk>", "<|im_start|>", "<|im_end|>", END, "<|x|>"];

/// A byte as byte-level BPE writes it.
fn written(byte: u8) -> char {
    match byte {
        b'!'..=b'~' | 0xa1..=0xac | 0xae.. => char::from(byte),
        _ => {
            let is_other = |byte: &u8| !matches!(byte, b'!'..=b'~' | 0xa1..=0xac | 0xae..);
            let before = (0..byte).filter(is_other).count();
            char::from_u32(0x100 + before as u32).expect("there are 68 of them")
        }
    }
}

fn byte_level(pre: &str) -> Tokenizer {
    let bytes = (0..=255).map(|byte| written(byte).to_string());
    bpe("gpt2", pre, bytes, |word| word.bytes().map(written).collect())
}

/// BPE on UTF-8, as in Gemma 4.
fn sentence_bpe() -> Tokenizer {
    let bytes = (0..=255).map(|byte| format!("<0x{byte:02X}>"));
    let letters = WORDS.iter().flat_map(|word| word.chars()).filter(char::is_ascii);
    let letters: std::collections::BTreeSet<char> = letters.map(|c| escaped(&c)).collect();
    let characters = bytes.chain(letters.into_iter().map(String::from));
    bpe("gemma4", "", characters, |word| word.chars().map(|c| escaped(&c)).collect())
}

fn escaped(character: &char) -> char {
    if *character == ' ' { '▁' } else { *character }
}

fn bpe(
    model: &str,
    pre: &str,
    characters: impl Iterator<Item = String>,
    spelled: impl Fn(&str) -> Vec<char>,
) -> Tokenizer {
    let mut tokens: Vec<String> = SPECIAL.iter().map(|text| (*text).to_owned()).collect();
    tokens.extend(characters);
    let mut merges = Vec::new();
    for word in WORDS {
        let characters = spelled(word);
        // From left to right, each step a token of its own.
        for end in 2..=characters.len() {
            let (left, right) = (&characters[..end - 1], characters[end - 1]);
            let left: String = left.iter().collect();
            let whole = format!("{left}{right}");
            if !tokens.contains(&whole) {
                merges.push(format!("{left} {right}"));
                tokens.push(whole);
            }
        }
    }
    let merges = ("tokenizer.ggml.merges", Value::Array(Array::String(merges)));
    tokenizer(pre, model, tokens, vec![merges])
}

fn sentence_piece() -> Tokenizer {
    let mut tokens: Vec<String> = SPECIAL.iter().map(|text| (*text).to_owned()).collect();
    tokens.extend((0..=255).map(|byte| format!("<0x{byte:02X}>")));
    let mut words: Vec<String> = ('a'..='z').map(String::from).collect();
    words.extend(WORDS.iter().map(|word| word.replace(' ', "▁")));
    words.push("▁".into());
    tokens.extend(words);
    let scores = (0..tokens.len()).map(|id| -(id as f32)).collect();
    tokenizer(
        "default",
        "llama",
        tokens,
        vec![("tokenizer.ggml.scores", Value::Array(Array::F32(scores)))],
    )
}

fn tokenizer(pre: &str, model: &str, tokens: Vec<String>, more: Vec<(&str, Value)>) -> Tokenizer {
    let kind = |(id, text): (usize, &String)| match id {
        2 => 2,
        id if id + 1 == SPECIAL.len() => 4,
        id if id < SPECIAL.len() => 3,
        _ if text.starts_with("<0x") => 6,
        _ => 1,
    };
    let kinds = tokens.iter().enumerate().map(kind).collect();
    let mut values = vec![
        ("tokenizer.ggml.model", Value::String(model.into())),
        ("tokenizer.ggml.pre", Value::String(pre.into())),
        ("tokenizer.ggml.tokens", Value::Array(Array::String(tokens))),
        ("tokenizer.ggml.token_type", Value::Array(Array::I32(kinds))),
        ("tokenizer.ggml.bos_token_id", Value::U32(0)),
        ("tokenizer.ggml.eos_token_id", Value::U32(1)),
    ];
    values.extend(more);
    let values = values.into_iter().map(|(key, value)| (key.to_owned(), value));
    Tokenizer::from_gguf(&Metadata::from_values("made up", values)).expect("it is a vocabulary")
}

/// Small vocabularies: byte-level BPE under some pre-tokenizers, BPE on UTF-8, and SentencePiece.
pub fn tokenizers() -> Vec<Tokenizer> {
    let pre = [
        "default",
        "gpt-2",
        "smollm",
        "falcon",
        "llama-bpe",
        "glm4",
        "dbrx",
        "qwen2",
        "qwen35",
        "kimi-k2",
        "afmoe",
        "gpt-4o",
    ];
    pre.into_iter().map(byte_level).chain([sentence_bpe(), sentence_piece()]).collect()
}

/// A text of these bytes: as they are, or a piece each.
fn text(data: &[u8]) -> String {
    let odd = [
        "▁", "<|", "|>", " ", "\n", "\r\n", "\u{200d}", "😀", "Ġ", "<0x41>", "\0", "İ", "9", "a",
        "'", "-",
    ];
    let pieces: Vec<&str> = SPECIAL.iter().chain(WORDS).chain(&odd).copied().collect();
    match data.split_first() {
        Some((first, rest)) if first % 2 > 0 => {
            rest.iter().map(|byte| pieces[usize::from(*byte) % pieces.len()]).collect()
        }
        Some((_, rest)) => String::from_utf8_lossy(rest).into_owned(),
        None => String::new(),
    }
}

/// Any bytes as text: its tokens are of the vocabulary, no more than its bytes, and give the text back.
pub fn tokenise(tokenizers: &[Tokenizer], data: &[u8]) {
    let (first, rest) = data.split_first().unwrap_or((&0, &[]));
    let index = usize::from(*first) % tokenizers.len();
    let tokenizer = &tokenizers[index];
    let text = text(rest);
    let start = Instant::now();
    for (add_special, parse_special) in [(false, false), (false, true), (true, true)] {
        let tokens =
            tokenizer.encode(&text, add_special, parse_special).expect("all bytes have tokens");
        assert!(tokens.iter().all(|id| (*id as usize) < tokenizer.n_vocab()), "{text:?}");
        // SentencePiece's space has three bytes and is put in front as well.
        assert!(tokens.len() <= 3 * text.len() + 5, "{text:?} has {} tokens", tokens.len());
        assert!(tokenizer.check_fits(&text, tokens.len() + 1).is_ok(), "{text:?}");
        let decoded = tokenizer.decode(&tokens, true);
        // The last two write spaces as `▁`. SentencePiece, the last, puts one behind each special token.
        let comes_back = match tokenizers.len() - index {
            1 => !text.contains('▁') && !SPECIAL.iter().any(|special| text.contains(special)),
            2 => !text.contains('▁'),
            _ => true,
        };
        if !add_special && comes_back {
            assert_eq!(String::from_utf8_lossy(&decoded), text);
        }
        let pieces: usize = tokens.iter().map(|id| tokenizer.piece_bytes(*id).len()).sum();
        assert!(pieces <= 3 * text.len() + 3, "{text:?}");
    }
    assert!(start.elapsed() < MAX_TIME, "{:?}: {text:?}", start.elapsed());
}
