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
    /// The ids of each text without special tokens.
    plain: Vec<Vec<u32>>,
}

fn check(tokenizer: &Tokenizer, texts: &[String], expected: &Expected<'_>) {
    let Expected { about, reference, plain } = expected;
    assert_eq!(tokenizer.bos().map(u64::from), reference["bos"].as_u64(), "{about}");
    assert_eq!(tokenizer.eos().map(u64::from), reference["eos"].as_u64(), "{about}");
    let ends: Vec<u32> = tokenizer.ends_of_generation().collect();
    assert_eq!(ends, ids(&reference["eog"]), "{about}");
    let (first, last) = (ids(&reference["first"]), ids(&reference["last"]));
    assert_eq!(texts.len(), plain.len());
    let skipped = reference["skipped"].as_array().map(|_| ids(&reference["skipped"]));
    let skipped = skipped.unwrap_or_default();
    for (i, (text, plain)) in texts.iter().zip(plain).enumerate() {
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
    for (name, path) in [("smollm", common::real_model()), ("qwen", common::real_qwen())] {
        let Some(path) = path else { continue };
        let tokenizer = Tokenizer::from_gguf(Gguf::open(path).unwrap().metadata()).unwrap();
        let reference = &json(name);
        let plain = plain_ids(reference);
        check(&tokenizer, &corpus(), &Expected { about: name, reference, plain });
    }
}

fn strings(list: &Json) -> Vec<String> {
    list.as_array().unwrap().iter().map(|text| text.as_str().unwrap().to_owned()).collect()
}

/// The bytes of a piece: a text, or a list of bytes if it is not UTF-8.
fn bytes(piece: &Json) -> Vec<u8> {
    match piece {
        Json::String(text) => text.clone().into_bytes(),
        list => list.as_array().unwrap().iter().map(|b| b.as_u64().unwrap() as u8).collect(),
    }
}

/// A made-up vocabulary with a variant's changes, as GGUF has it.
fn metadata(vocabulary: &Json, variant: &Json) -> Metadata {
    let mut pieces = vocabulary["pieces"].as_array().unwrap().clone();
    for (id, piece) in variant["replace"].as_object().into_iter().flatten() {
        pieces[id.parse::<usize>().unwrap()] = piece.clone();
    }
    pieces.extend(variant["add"].as_array().into_iter().flatten().cloned());
    let types = pieces.iter().map(|piece| piece[1].as_i64().unwrap() as i32).collect();
    let scores = pieces.iter().map(|piece| piece[2].as_f64().unwrap());
    let mut arrays = vec![
        ("tokens", Array::Bytes(pieces.iter().map(|piece| bytes(&piece[0])).collect())),
        ("token_type", Array::I32(types)),
    ];
    if vocabulary["merges"].is_array() {
        arrays.push(("merges", Array::String(strings(&vocabulary["merges"]))));
    } else if variant["scores"] == "integers" {
        arrays.push(("scores", Array::I32(scores.map(|score| score as i32).collect())));
    } else if variant["scores"] != "none" {
        arrays.push(("scores", Array::F32(scores.map(|score| score as f32).collect())));
    }
    let key = |key: &str| match key.contains('.') {
        true => key.to_owned(),
        false => format!("tokenizer.ggml.{key}"),
    };
    let keys = [vocabulary, variant].map(|json| json["keys"].as_object().into_iter().flatten());
    let keys = keys.into_iter().flatten().map(|(name, value)| {
        let value = match value {
            Json::Bool(flag) => Value::Bool(*flag),
            Json::Number(number) => Value::U32(number.as_u64().unwrap() as u32),
            text => Value::String(text.as_str().unwrap().into()),
        };
        (key(name), value)
    });
    let arrays = arrays.into_iter().map(|(name, array)| (key(name), Value::Array(array)));
    Metadata::from_values("made-up.gguf", arrays.chain(keys))
}

fn tokenizer(vocabulary: &Json, variant: &Json) -> Tokenizer {
    Tokenizer::from_gguf(&metadata(vocabulary, variant)).unwrap()
}

/// The ids of each variant's texts: those of the first variant, with the differences of this one.
fn variants(vocabulary: &Json) -> impl Iterator<Item = (&Json, Vec<Vec<u32>>)> {
    let variants = vocabulary["variants"].as_array().unwrap();
    let base = plain_ids(&variants[0]);
    variants.iter().map(move |variant| {
        let mut plain = base.clone();
        for (i, other) in variant["plain"].as_object().into_iter().flatten() {
            plain[i.parse::<usize>().unwrap()] = ids(other);
        }
        (variant, plain)
    })
}

#[test]
fn bpe_ids_are_llama_cpps() {
    let texts = corpus();
    let bpe = json("bpe");
    for (reference, plain) in variants(&bpe) {
        for name in strings(&reference["names"]) {
            let mut variant = reference.clone();
            variant["keys"]["pre"] = name.as_str().into();
            let expected = Expected { about: &name, reference, plain: plain.clone() };
            check(&tokenizer(&bpe, &variant), &texts, &expected);
        }
    }
}

#[test]
fn ids_of_bpe_on_utf8_are_llama_cpps() {
    let texts = corpus();
    let vocabulary = json("sentence_bpe");
    for (reference, plain) in variants(&vocabulary) {
        let about = format!("BPE on UTF-8, {}", reference["keys"]);
        let tokenizer = tokenizer(&vocabulary, reference);
        check(&tokenizer, &texts, &Expected { about: &about, reference, plain });
    }
}

#[test]
fn spm_ids_are_llama_cpps() {
    let texts = corpus();
    let spm = json("spm");
    for (i, (reference, plain)) in variants(&spm).enumerate() {
        let about = format!("SentencePiece, variant {i}, {}", reference["keys"]);
        let tokenizer = tokenizer(&spm, reference);
        check(&tokenizer, &texts, &Expected { about: &about, reference, plain });
    }
}

#[test]
fn special_tokens_are_llama_cpps() {
    for case in json("special").as_array().unwrap() {
        let mut vocabulary = case.clone();
        vocabulary["merges"] = Json::Array(Vec::new());
        vocabulary["keys"]["model"] = "gpt2".into();
        vocabulary["keys"]["pre"] = "gpt-2".into();
        let tokenizer = tokenizer(&vocabulary, &Json::Null);
        let ends: Vec<u32> = tokenizer.ends_of_generation().collect();
        assert_eq!(ends, ids(&case["eog"]), "{case}");
        let all = 0..tokenizer.n_vocab() as u32;
        let control: Vec<u32> = all.filter(|id| tokenizer.is_control(*id)).collect();
        assert_eq!(control, ids(&case["control"]), "{case}");
    }
}

fn spm_tokenizer() -> Tokenizer {
    tokenizer(&json("spm"), &Json::Null)
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
    let tokenizer = |leave_out: &[&str], name: &str| {
        let kind = |id| if id < 2 { 3 } else { 1 };
        let tokens = bytes(leave_out);
        let pieces =
            tokens.iter().enumerate().map(|(id, token)| serde_json::json!([token, kind(id), 0]));
        let vocabulary = serde_json::json!({
            "pieces": pieces.collect::<Vec<_>>(),
            "merges": ["a a", "aa aa", "aaaa aaaa"],
            "keys": { "model": "gpt2", "pre": "gpt-2", "general.name": name },
        });
        tokenizer(&vocabulary, &Json::Null)
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
    // So does a character of BPE on UTF-8 whose bytes are no tokens.
    let id = |byte: usize| (4 + byte).to_string();
    let replace = serde_json::json!({ id(0xef): ["x1", 1, 0], id(0xbf): ["x2", 1, 0] });
    let cut = self::tokenizer(&json("sentence_bpe"), &serde_json::json!({ "replace": replace }));
    let text = "\u{ffff}".repeat(100);
    assert_eq!((needed(&cut, &text), cut.encode(&text, false, false).unwrap().len()), (0, 0));
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
    for (name, pre) in [("bpe", "llama-bpe"), ("sentence_bpe", ""), ("spm", "")] {
        let vocabulary = json(name);
        let n = vocabulary["pieces"].as_array().unwrap().len();
        let replaced = n - 30..n - 30 + bytes.len();
        let pieces = replaced.clone().zip(&bytes);
        let pieces: serde_json::Map<_, _> =
            pieces.map(|(id, bytes)| (id.to_string(), serde_json::json!([bytes, 1, 0]))).collect();
        let variant = serde_json::json!({ "keys": { "pre": pre }, "replace": pieces });
        let tokenizer = tokenizer(&vocabulary, &variant);
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
fn a_prompt_begins_with_one_bos_and_has_no_eos() {
    let tokenizer = spm_tokenizer();
    assert!(tokenizer.adds_bos());
    let with = tokenizer.encode_prompt("<s><|user|> the").unwrap();
    let without = tokenizer.encode_prompt("<|user|> the").unwrap();
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
    for (model, models) in
        [("bert", "BERT"), ("t5", "T5"), ("rwkv", "RWKV"), ("plamo2", "PLaMo 2"), ("x", "is not")]
    {
        let error = Tokenizer::from_gguf(&metadata(model)).unwrap_err().to_string();
        assert!(error.contains(&format!("`{model}`")) && error.contains(models), "{error}");
        assert!(error.contains("gpt2, llama, gemma4") && error.lines().count() == 1, "{error}");
    }
    let error = Tokenizer::from_gguf(&metadata("gpt2")).unwrap_err().to_string();
    assert!(error.contains("`unheard-of`") && error.lines().count() == 1, "{error}");
    // Each name that is known has its ids by llama.cpp.
    let (_, known) = error.split_once("known are ").unwrap();
    let mut known: Vec<_> = known.split(", ").collect();
    let (bpe, sentence_bpe) = (json("bpe"), json("sentence_bpe"));
    let compared = bpe["variants"].as_array().unwrap().iter().flat_map(|v| strings(&v["names"]));
    let others = sentence_bpe["variants"].as_array().unwrap().iter();
    let others = others.filter(|variant| variant["keys"]["model"] == "gpt2");
    let others = others.map(|variant| variant["keys"]["pre"].as_str().unwrap().to_owned());
    let mut compared: Vec<_> = compared.chain(others).collect();
    known.sort_unstable();
    compared.sort_unstable();
    compared.dedup();
    assert_eq!(known, compared);
}

/// A character that can be spelled in no way is the unknown token; without one it is named.
#[test]
fn spm_spells_what_it_lacks_in_unknown_tokens() {
    let spm = json("spm");
    let id = |byte: u8| 3 + u32::from(byte);
    let lacking = |unknown: u32| {
        let replace = serde_json::json!({ id(0xad).to_string(): ["x1", 1, 0] });
        let keys = serde_json::json!({ "add_space_prefix": false, "unknown_token_id": unknown });
        tokenizer(&spm, &serde_json::json!({ "replace": replace, "keys": keys }))
    };
    let found = lacking(7).encode("\u{2d}\u{ad}", false, false).unwrap();
    assert_eq!(found, [id(0x2d), id(0xc2), 7]);
    // No token of a vocabulary has that id, and the default is taken in its place.
    assert_eq!(lacking(u32::MAX).encode("\u{ad}", false, false).unwrap(), [id(0xc2), 0]);
}

#[test]
fn tokens_of_one_text_are_refused() {
    for name in ["bpe", "sentence_bpe", "spm"] {
        let vocabulary = json(name);
        let variant = serde_json::json!({ "add": [["<user>", 4, 0], ["<user>", 1, 0]] });
        let error = Tokenizer::from_gguf(&metadata(&vocabulary, &variant)).unwrap_err().to_string();
        assert!(error.contains("are both \"<user>\""), "{error}");
    }
}

#[test]
fn long_runs_take_no_more_than_linear_time() {
    let bpe = json("bpe");
    let rows = bpe["variants"].as_array().unwrap().iter().map(|variant| {
        let name = variant["names"][0].as_str().unwrap();
        let keys = serde_json::json!({ "keys": { "pre": name } });
        (name.to_owned(), tokenizer(&bpe, &keys))
    });
    let real = real_metadata().map(|metadata| Tokenizer::from_gguf(&metadata).unwrap());
    let others = [
        ("gemma4".to_owned(), tokenizer(&json("sentence_bpe"), &Json::Null)),
        ("SentencePiece".to_owned(), spm_tokenizer()),
    ];
    let real = real.map(|tokenizer| ("SmolLM2".to_owned(), tokenizer));
    for (name, tokenizer) in rows.chain(others).chain(real) {
        for unit in [" ", "a", "\n", " \n", "9", "🙂", "<", "ab", "日", "a\u{301}"] {
            let text = unit.repeat(100_000 / unit.len());
            let start = std::time::Instant::now();
            tokenizer.encode(&text, true, true).unwrap();
            eprintln!("{name} {unit:?} {:?}", start.elapsed());
            assert!(start.elapsed().as_secs() < 7, "{name}, {unit:?}: {:?}", start.elapsed());
        }
    }
}

/// The regex engine gives up at a million steps back: the text is refused, and not cut wrongly from there on.
#[test]
fn what_follows_a_very_long_run_is_cut_as_ever_or_refused() {
    let bpe = json("bpe");
    for name in ["gpt-2", "llama-bpe", "gpt-4o", "deepseek-v3", "jais-2"] {
        let tokenizer = tokenizer(&bpe, &serde_json::json!({ "keys": { "pre": name } }));
        let tail = |n| {
            let text = " ".repeat(n) + "x\nthe 12 quick fox's";
            let ids = tokenizer.encode(&text, false, false);
            ids.map(|ids| ids[ids.len() - 8..].to_owned())
        };
        let expected = tail(15).unwrap();
        assert_eq!(tail(900_000).unwrap(), expected, "{name}");
        match tail(1_500_000) {
            Ok(found) => assert_eq!(found, expected, "{name}"),
            Err(error) => assert!(error.to_string().contains("too long a run"), "{error}"),
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
        (model, pre) in prop::sample::select(
            &[("gpt2", ""), ("llama", ""), ("gemma4", ""), ("gpt2", "sarvam-moe")][..]
        ),
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
            ("tokenizer.ggml.pre", Value::String(pre.into())),
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
    for (pre, lacks) in [(None, true), (Some(""), true), (Some("gpt-2"), false)] {
        parts.set("tokenizer.ggml.pre", pre.map(|pre| Value::String(pre.into())));
        let mut notices = Notices(Vec::new());
        options.model(parts.write().path(), &mut notices).unwrap();
        let told = notices.0.iter().any(|line| line.contains("pre-tokenizer (tokenizer.ggml.pre)"));
        assert_eq!(told, lacks, "{:?}", notices.0);
    }
    // Tokenizers of other kinds need none.
    let others = [spm_tokenizer(), tokenizer(&json("sentence_bpe"), &Json::Null)];
    assert!(others.iter().all(|tokenizer| !tokenizer.lacks_pre_tokenizer()));
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
