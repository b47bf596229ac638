//! Token ids equal llama.cpp's, for hard strings under every row of the table of pre-tokenizers.
//!
//! The expected ids come from `scripts/make_tokenizer_reference.py`, which says how they were made.

mod common;

use common::tiny::tiny;
use dovetail::gguf::{Array, Gguf, Metadata, Value};
use dovetail::setting::Plain;
use dovetail::text::Tokenizer;
use dovetail::{ChatTemplate, Error, Level, Message, Notice, Observer, Options, Repack};
use proptest::prelude::*;
use serde_json::Value as Json;

fn json(name: &str) -> Json {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data");
    let text = std::fs::read_to_string(format!("{folder}/tokenizer_{name}.json")).unwrap();
    serde_json::from_str(&text).unwrap()
}

fn corpus() -> Vec<String> {
    let spelled = |entry: &Json| match entry {
        Json::String(text) => text.clone(),
        run => run[0].as_str().unwrap().repeat(run[1].as_u64().unwrap() as usize),
    };
    json("corpus").as_array().unwrap().iter().map(spelled).collect()
}

fn ids(list: &Json) -> Vec<u32> {
    list.as_array().unwrap().iter().map(|id| id.as_u64().unwrap() as u32).collect()
}

/// The default model's metadata, or `None`, said aloud.
fn real_metadata() -> Option<Metadata> {
    let path = common::real_model()?;
    Some(Gguf::open(path).unwrap().metadata().clone())
}

/// What is expected of one vocabulary.
struct Expected<'a> {
    about: &'a str,
    reference: &'a Json,
    plain: Vec<Vec<u32>>,
    /// llama.cpp removes spaces before punctuation for some models, but only when it decodes a text
    /// at once; no stream can do so, and neither do we.
    cleans_spaces: bool,
}

fn check(tokenizer: &Tokenizer, texts: &[String], expected: &Expected<'_>) {
    let Expected { about, reference, .. } = expected;
    assert_eq!(tokenizer.bos().map(u64::from), reference["bos"].as_u64(), "{about}");
    assert_eq!(tokenizer.eos().map(u64::from), reference["eos"].as_u64(), "{about}");
    let ends: Vec<u32> = tokenizer.ends_of_generation().collect();
    assert_eq!(ends, ids(&reference["eog"]), "{about}");
    let (first, last) = (ids(&reference["first"]), ids(&reference["last"]));
    assert_eq!(texts.len(), expected.plain.len());
    let skipped = reference["skipped"].as_array().map(|_| ids(&reference["skipped"]));
    let skipped = skipped.unwrap_or_default();
    for (i, (text, plain)) in texts.iter().zip(&expected.plain).enumerate() {
        if skipped.contains(&(i as u32)) {
            continue;
        }
        let found = tokenizer.encode(text, false, false).unwrap();
        assert_eq!(&found, plain, "{about}: text {i}: {text:?}");
        let parsed = match reference["parsed"].get(i.to_string()) {
            Some(parsed) => ids(parsed),
            None => [&first[..], plain, &last].concat(),
        };
        let found = tokenizer.encode(text, true, true).unwrap();
        assert_eq!(found, parsed, "{about}, special: text {i}: {text:?}");
        let special = first.len() + last.len();
        let fewest = plain.len().min(found.len() - special);
        assert!(tokenizer.check_fits(text, fewest + 1).is_ok(), "{about}: text {i} fits");

        let decoded = String::from_utf8_lossy(&tokenizer.decode(plain, true)).into_owned();
        match reference["decoded"].get(i.to_string()).and_then(Json::as_str) {
            Some(_) if expected.cleans_spaces => {}
            Some(other) => assert_eq!(decoded, other, "{about}: text {i}"),
            None => assert_eq!(&decoded, text, "{about}: text {i}"),
        }
    }
}

fn plain_ids(reference: &Json) -> Vec<Vec<u32>> {
    reference["plain"].as_array().unwrap().iter().map(ids).collect()
}

#[test]
fn the_real_models_ids_are_llama_cpps() {
    let Some(metadata) = real_metadata() else { return };
    let reference = &json("smollm");
    let tokenizer = Tokenizer::from_gguf(&metadata).unwrap();
    let plain = plain_ids(reference);
    let expected = Expected { about: "SmolLM2", reference, plain, cleans_spaces: false };
    check(&tokenizer, &corpus(), &expected);
}

fn strings(list: &Json) -> Vec<String> {
    list.as_array().unwrap().iter().map(|text| text.as_str().unwrap().to_owned()).collect()
}

/// The made-up byte-level vocabulary under one pre-tokenizer. Its first two tokens are control.
fn bpe_metadata(tokens: &[String], merges: &[String], pre: &str) -> Metadata {
    let types = (0..tokens.len()).map(|id| if id < 2 { 3 } else { 1 }).collect();
    let values = [
        ("tokenizer.ggml.model", Value::String("gpt2".into())),
        ("tokenizer.ggml.pre", Value::String(pre.into())),
        ("tokenizer.ggml.tokens", Value::Array(Array::String(tokens.to_vec()))),
        ("tokenizer.ggml.merges", Value::Array(Array::String(merges.to_vec()))),
        ("tokenizer.ggml.token_type", Value::Array(Array::I32(types))),
        ("tokenizer.ggml.bos_token_id", Value::U32(0)),
        ("tokenizer.ggml.eos_token_id", Value::U32(1)),
    ];
    Metadata::from_values("bpe.gguf", values.map(|(key, value)| (key.to_owned(), value)))
}

#[test]
fn bpe_ids_are_llama_cpps() {
    let texts = corpus();
    let bpe = json("bpe");
    let (tokens, merges) = (strings(&bpe["tokens"]), strings(&bpe["merges"]));
    let variants = bpe["variants"].as_array().unwrap();
    let base = plain_ids(&variants[0]);
    for reference in variants {
        let pre = reference["pre"].as_str().unwrap();
        let mut plain = base.clone();
        if let Some(differences) = reference["plain"].as_object() {
            for (i, other) in differences {
                plain[i.parse::<usize>().unwrap()] = ids(other);
            }
        }
        let tokenizer = Tokenizer::from_gguf(&bpe_metadata(&tokens, &merges, pre)).unwrap();
        let cleans =
            ["default", "gpt-2", "falcon", "llama-bpe", "glm4", "dbrx", "jais-2", "exaone-moe"];
        let cleans_spaces = cleans.contains(&pre) || pre == "minicpm5";
        check(&tokenizer, &texts, &Expected { about: pre, reference, plain, cleans_spaces });
    }
}

/// The made-up SentencePiece vocabulary with extra keys.
fn spm_metadata(pieces: &Json, flags: &Json) -> Metadata {
    let pieces = pieces.as_array().unwrap();
    let texts = pieces.iter().map(|piece| piece[0].as_str().unwrap().to_owned()).collect();
    let scores = pieces.iter().map(|piece| piece[1].as_f64().unwrap() as f32).collect();
    let types = pieces.iter().map(|piece| piece[2].as_i64().unwrap() as i32).collect();
    let mut values = vec![
        ("tokenizer.ggml.model".to_owned(), Value::String("llama".into())),
        ("tokenizer.ggml.tokens".to_owned(), Value::Array(Array::String(texts))),
        ("tokenizer.ggml.scores".to_owned(), Value::Array(Array::F32(scores))),
        ("tokenizer.ggml.token_type".to_owned(), Value::Array(Array::I32(types))),
    ];
    for (key, flag) in flags.as_object().unwrap() {
        let value = match flag {
            Json::Bool(flag) => Value::Bool(*flag),
            text => Value::String(text.as_str().unwrap().into()),
        };
        values.push((key.clone(), value));
    }
    Metadata::from_values("spm.gguf", values)
}

fn spm_tokenizer() -> Tokenizer {
    let no_flags = Json::Object(Default::default());
    Tokenizer::from_gguf(&spm_metadata(&json("spm")["pieces"], &no_flags)).unwrap()
}

#[test]
fn spm_ids_are_llama_cpps() {
    let texts = corpus();
    let spm = json("spm");
    for reference in spm["variants"].as_array().unwrap() {
        let metadata = spm_metadata(&spm["pieces"], &reference["flags"]);
        let tokenizer = Tokenizer::from_gguf(&metadata).unwrap();
        let plain = plain_ids(reference);
        let about = format!("spm {}", reference["flags"]);
        check(
            &tokenizer,
            &texts,
            &Expected { about: &about, reference, plain, cleans_spaces: false },
        );
    }
}

/// The bound is sharp where the longest tokens alone are needed, and holds where bytes vanish.
#[test]
fn texts_that_cannot_fit_are_refused_before_they_are_tokenised() {
    let bytes = |leave_out: &[&str]| {
        let others = (0u32..).map(|i| char::from_u32(0x100 + i).unwrap()).take(68);
        let all = ('!'..='~').chain('\u{a1}'..='\u{ac}').chain('\u{ae}'..='\u{ff}').chain(others);
        let mut tokens: Vec<String> = ["<bos>", "<eos>"].map(str::to_owned).into();
        tokens.extend(all.map(String::from).filter(|text| !leave_out.contains(&&**text)));
        tokens.extend(["aa", "aaaa", "aaaaaaaa"].map(str::to_owned));
        tokens
    };
    let merges = ["a a", "aa aa", "aaaa aaaa"].map(str::to_owned);
    let tokenizer = |leave_out: &[&str], name: &str| {
        let mut metadata = bpe_metadata(&bytes(leave_out), &merges, "gpt-2");
        let values = metadata.iter().map(|(key, value)| (key.to_owned(), value.clone()));
        let named = ("general.name".to_owned(), Value::String(name.into()));
        metadata = Metadata::from_values("m.gguf", values.chain([named]));
        Tokenizer::from_gguf(&metadata).unwrap()
    };
    let needed = |tokenizer: &Tokenizer, text: &str| match tokenizer.check_fits(text, 0) {
        Err(dovetail::Error::Context { needed, available: 0 }) => needed - 1,
        other => panic!("{other:?}"),
    };
    let whole = tokenizer(&[], "");
    let text = "a".repeat(8_000_001);
    assert_eq!(needed(&whole, &text), 1_000_001);
    assert!(
        whole.check_fits(&text, 1_000_002).is_ok() && whole.check_fits(&text, 1_000_001).is_err()
    );
    assert_eq!(whole.encode(&text[..8001], false, false).unwrap().len(), 1001);
    assert_eq!(needed(&whole, ""), 0);
    // `b` has no token: it vanishes.
    let cut = tokenizer(&["b"], "");
    let text = "b".repeat(100) + "a";
    assert_eq!((needed(&cut, &text), needed(&whole, &text)), (1, 13));
    assert_eq!(cut.encode(&text, false, false).unwrap().len(), 1);
    // White space after Phi 3's special tokens does, too.
    let phi = tokenizer(&[], "phi-3");
    let text = "<bos>".to_owned() + &" ".repeat(100);
    assert_eq!((needed(&phi, &text), needed(&whole, &text)), (1, 14));
    assert_eq!(phi.encode(&text, false, true).unwrap().len(), 1);
    // In SentencePiece's texts a space is longer than in ours.
    let spm = spm_tokenizer();
    let text = "▁".repeat(1000);
    let n = spm.encode(&text, false, false).unwrap().len();
    assert!(spm.check_fits(&text, n + 1).is_ok());
    assert!(spm.check_fits(&"a".repeat(1_000_000), 512).is_err());
}

#[test]
fn ids_outside_the_vocabulary_are_harmless() {
    let tokenizer = spm_tokenizer();
    for id in [tokenizer.n_vocab() as u32, u32::MAX] {
        assert_eq!(tokenizer.piece(id, true), b"");
        assert_eq!(tokenizer.piece_bytes(id), b"");
        assert_eq!(tokenizer.token_text(id), None);
        assert!(!tokenizer.is_end_of_generation(id) && !tokenizer.is_control(id));
        assert_eq!(tokenizer.decode(&[id, id], true), b"");
    }
    assert_eq!(tokenizer.piece(1, true), b"<s>");
    assert_eq!(tokenizer.piece(1, false), b"");
    assert_eq!(tokenizer.piece(3 + 10, false), b"\n");
    assert_eq!(tokenizer.token_text(3 + 10), Some("<0x0A>"));
}

/// As tinygrad found them in files, tinygrad/tinygrad#17659: their bytes are the text that the model writes.
#[test]
fn tokens_that_are_no_text_keep_their_bytes() {
    let bytes = [&b"\xe4\xb8"[..], b"\xff", b"\xfe", b"\xad"].map(<[u8]>::to_vec);
    let bpe = json("bpe");
    let (tokens, merges) = (strings(&bpe["tokens"]), strings(&bpe["merges"]));
    let no_flags = Json::Object(Default::default());
    for whole in [
        bpe_metadata(&tokens, &merges, "llama-bpe"),
        spm_metadata(&json("spm")["pieces"], &no_flags),
    ] {
        let n = whole.require_byte_strings("tokenizer.ggml.tokens").unwrap().len();
        let replaced = n - 30..n - 30 + bytes.len();
        let values = whole.iter().map(|(key, value)| match (key, value) {
            ("tokenizer.ggml.tokens", Value::Array(Array::String(texts))) => {
                let mut all: Vec<_> = texts.iter().map(|text| text.clone().into_bytes()).collect();
                all.splice(replaced.clone(), bytes.clone());
                (key.to_owned(), Value::Array(Array::Bytes(all)))
            }
            _ => (key.to_owned(), value.clone()),
        });
        let tokenizer = Tokenizer::from_gguf(&Metadata::from_values("m.gguf", values)).unwrap();
        for (id, bytes) in replaced.clone().zip(&bytes) {
            let id = id as u32;
            assert_eq!((tokenizer.piece(id, false), tokenizer.token_text(id)), (&bytes[..], None));
            assert_eq!(tokenizer.token_text_bytes(id), Some(&bytes[..]));
        }
        let character = [replaced.start as u32, replaced.end as u32 - 1];
        assert_eq!(tokenizer.decode(&character, false), "中".as_bytes(), "two of them spell it");
        let text = "the \u{fffd} 中 <s>";
        let found = tokenizer.encode(text, false, true).unwrap();
        assert!(found.iter().all(|id| !replaced.contains(&(*id as usize))), "no text has them");
        assert_eq!(tokenizer.decode(&found, true), text.as_bytes());
    }
}

#[test]
fn bos_is_not_doubled_in_chat_prompts() {
    let tokenizer = spm_tokenizer();
    assert!(tokenizer.adds_bos());
    let with = tokenizer.encode_chat("<s><|user|> the").unwrap();
    let without = tokenizer.encode_chat("<|user|> the").unwrap();
    assert_eq!(with, without);
    assert_eq!(with.iter().filter(|&&id| Some(id) == tokenizer.bos()).count(), 1);
}

#[test]
fn a_conversation_has_messages_of_known_roles() {
    let (tokenizer, template) = (spm_tokenizer(), ChatTemplate::named("chatml").unwrap());
    let prompt = |role: &str| template.prompt(&tokenizer, &[Message::new(role, "Hi")], true, 512);
    for role in ["system", "developer", "user", "assistant", "tool"] {
        assert!(prompt(role).unwrap().len() > 2);
    }
    for (role, line) in
        [("bot", "\"bot\" is no role"), ("", "\"\" is"), ("User\n", "\"User\\n\" is")]
    {
        let error = prompt(role).unwrap_err();
        assert!(error.is_usage() && error.to_string().starts_with(line), "{error}");
    }
    assert!(matches!(template.prompt(&tokenizer, &[], true, 512), Err(Error::Prompt(_))));
}

#[test]
fn unknown_kinds_are_named_with_the_known_ones() {
    let metadata = |model: &str| {
        Metadata::from_values(
            "m.gguf",
            [
                ("tokenizer.ggml.model".to_owned(), Value::String(model.into())),
                ("tokenizer.ggml.pre".to_owned(), Value::String("unheard-of".into())),
                (
                    "tokenizer.ggml.tokens".to_owned(),
                    Value::Array(Array::String(vec!["a".into(), "b".into()])),
                ),
            ],
        )
    };
    let error = Tokenizer::from_gguf(&metadata("bert")).unwrap_err().to_string();
    assert!(error.contains("`bert`") && error.contains("gpt2, llama"), "{error}");
    let error = Tokenizer::from_gguf(&metadata("gpt2")).unwrap_err().to_string();
    assert!(error.contains("`unheard-of`") && error.contains("llama-bpe"), "{error}");
}

#[test]
fn long_runs_take_no_more_than_linear_time() {
    let Some(metadata) = real_metadata() else { return };
    let tokenizer = Tokenizer::from_gguf(&metadata).unwrap();
    let spm = spm_tokenizer();
    for unit in [" ", "a", "\n", " \n", "9", "🙂", "<", "ab"] {
        let text = unit.repeat(300_000 / unit.len());
        for tokenizer in [&tokenizer, &spm] {
            let start = std::time::Instant::now();
            let tokens = tokenizer.encode(&text, true, true).unwrap();
            assert!(start.elapsed().as_secs() < 20, "{unit:?}: {:?}", start.elapsed());
            eprintln!("{unit:?}: {} tokens, {:?}", tokens.len(), start.elapsed());
        }
    }
}

/// Token texts that are special, broken, or parts of one another.
const ODD: &[&str] = &[
    "",
    "a",
    "b",
    "ab",
    "ba",
    "aba",
    "Ġ",
    "Ġa",
    "▁",
    "▁a",
    "<0x41>",
    "<0xZZ>",
    "</s>",
    "<|im_end|>",
    "é",
    "日",
    "<",
    "<s>",
    "[EMPTY_0]",
];

proptest! {
    #[test]
    fn no_vocabulary_makes_it_panic(
        model in prop::sample::select(&["gpt2", "llama"][..]),
        tokens in prop::collection::vec(prop::sample::select(ODD), 0..12),
        types in prop::collection::vec(-1..8i32, 0..14),
        scores in prop::collection::vec(prop::num::f32::ANY, 0..14),
        merges in prop::collection::vec("[abĠ ]{0,4}", 0..5),
        bos in any::<u32>(),
        text in "([ab <>é日\n]|</s>|<s>){0,12}",
    ) {
        let strings = |list: Vec<&str>| list.into_iter().map(String::from).collect();
        let values = [
            ("tokenizer.ggml.model", Value::String(model.into())),
            ("tokenizer.ggml.tokens", Value::Array(Array::String(strings(tokens)))),
            ("tokenizer.ggml.token_type", Value::Array(Array::I32(types))),
            ("tokenizer.ggml.scores", Value::Array(Array::F32(scores))),
            ("tokenizer.ggml.merges", Value::Array(Array::String(merges))),
            ("tokenizer.ggml.bos_token_id", Value::U32(bos)),
        ];
        let values = values.map(|(key, value)| (key.to_owned(), value));
        if let Ok(tokenizer) = Tokenizer::from_gguf(&Metadata::from_values("m.gguf", values)) {
            for parse_special in [false, true] {
                if let Ok(ids) = tokenizer.encode(&text, true, parse_special) {
                    prop_assert!(ids.iter().all(|&id| (id as usize) < tokenizer.n_vocab()));
                    tokenizer.decode(&ids, true);
                }
            }
        }
    }

    #[test]
    fn text_comes_back(text in "([a-z ]|\\PC|\n){0,40}") {
        // `▁` stands for the space, and `▁▁▁▁` is user-defined in this vocabulary: four spaces are not
        // always given back as such. llama.cpp does the same.
        let text = text.replace('▁', "");
        prop_assume!(!text.contains("   "));
        let tokenizer = spm_tokenizer();
        let ids = tokenizer.encode(&text, false, false).unwrap();
        prop_assert_eq!(String::from_utf8(tokenizer.decode(&ids, true)).unwrap(), text);
    }
}

#[test]
fn a_file_that_does_not_say_how_words_are_found_is_used_with_a_notice() {
    struct Notices(Vec<String>);
    impl Observer for Notices {
        fn notice(&mut self, notice: &Notice) {
            if let (Level::Note, line) = notice.lines(&Plain) {
                self.0.push(line);
            }
        }
    }
    let mut parts = tiny("f32").parts();
    let options = Options { repack: Repack::Memory, ..Options::default() };
    for lacks in [false, true] {
        if lacks {
            parts.set("tokenizer.ggml.pre", None);
        }
        let mut notices = Notices(Vec::new());
        options.model(parts.write().path(), &mut notices).unwrap();
        let told = notices.0.iter().any(|line| line.contains("tokenizer.ggml.pre"));
        assert_eq!(told, lacks, "{:?}", notices.0);
    }
}

#[test]
fn no_message_is_lost() {
    let tokenizer = &spm_tokenizer();
    let text = |source: &str, messages: &[Message]| {
        ChatTemplate::from_source(source).unwrap().text(tokenizer, messages, false)
    };
    let all = [("system", "Be brief."), ("user", "Hi"), ("assistant", "Hello."), ("user", "Bye")];
    let all = all.map(|(role, content)| Message::new(role, content));
    let plain = "{% for m in messages %}[{{ m.role }}]{{ m.content | trim }}{% endfor %}";
    assert_eq!(text(plain, &all[..2]).unwrap(), "[system]Be brief.[user]Hi");
    // Contents as parts.
    let typed = "{% for m in messages %}[{{ m.role }}]{% for p in m.content %}{% if p.type == 'text' %}{{ p.text }}\
                 {% endif %}{% endfor %}{% endfor %}";
    assert_eq!(text(typed, &all[..2]).unwrap(), "[system]Be brief.[user]Hi");
    // No place for a system message, or none wanted.
    let deaf = "{% for m in messages %}{% if m.role != 'system' %}[{{ m.role }}]{{ m.content }}{% endif %}\
                {% endfor %}";
    let strict =
        "{% if messages[0].role == 'system' %}{{ raise_exception('no system') }}{% endif %}"
            .to_owned();
    for source in [deaf, &(strict + plain)] {
        let found = text(source, &all).unwrap();
        assert_eq!(found, "[user]Be brief.\n\nHi[assistant]Hello.[user]Bye");
    }
    // The same text twice, of which one is lost.
    let first = "{{ messages[0].content }}";
    let twice = [Message::new("user", "Hi"), Message::new("user", "Hi")];
    let error = text(first, &twice).unwrap_err().to_string();
    assert!(error.contains("loses the text of a message of role user"), "{error}");
    assert_eq!(text(first, &twice[..1]).unwrap(), "Hi");
    // Thoughts may go, and a tool's text may be quoted.
    let thinker = [Message::new("assistant", "<think>hm</think>\n\nYes")];
    let last = "{{ messages[0].content.split('</think>')[-1] | trim }}";
    assert_eq!(text(last, &thinker).unwrap(), "Yes");
    let tool = [Message::new("tool", "a \"b\"")];
    assert_eq!(text("{{ messages[0].content | tojson }}", &tool).unwrap(), r#""a \"b\"""#);
}
