//! Files that are no models we can run are refused by name; none makes us panic.

mod common;

use common::gguf::Parts;
use common::tiny::{ALL, N_VOCAB, Tiny, tensor, types};
use dovetail::gguf::{Array, Value};
use dovetail::{Error, Sampling, Session, SessionOptions};

fn tiny(name: &str) -> &'static Tiny {
    ALL.iter().find(|tiny| tiny.name == name).unwrap()
}

fn parts() -> Parts {
    tiny("f16").parts()
}

fn text(text: &str) -> Option<Value> {
    Some(Value::String(text.into()))
}

/// Loading fails, in one line that names what is wrong.
fn refused(parts: &Parts, named: &[&str]) {
    let Err(error) = parts.load() else { panic!("loaded, though {named:?}") };
    let message = error.to_string();
    assert!(!message.contains('\n') && message.contains(".gguf"), "{message}");
    for name in named {
        assert!(message.contains(name), "{message:?} does not name {name:?}");
    }
}

/// Loads and runs it if that can be; the point is that nothing panics.
fn try_to_run(parts: &Parts) -> dovetail::Result<()> {
    let model = parts.load()?;
    let options = SessionOptions { threads: 2, n_ubatch: 4, ..SessionOptions::default() };
    let mut session = Session::new(model.into(), options)?;
    session.prompt(&[1, 2, 3, 4, 5, 6], &mut |_, _| true)?;
    session.generate(&Sampling::default(), 3).try_for_each(|piece| piece.map(|_| ()))
}

#[test]
fn every_tensor_is_needed_and_named() {
    for whole in ["yarn", "biases"].map(|name| tiny(name).parts()) {
        for i in 0..whole.tensors.len() {
            let mut parts = whole.clone();
            let missing = parts.tensors.remove(i).name;
            refused(&parts, &[&missing]);
        }
    }
}

#[test]
fn a_vector_may_be_a_matrix_of_one_row() {
    let mut parts = parts();
    let expected = parts.load().unwrap().fingerprint();
    for tensor in parts.tensors.iter_mut().filter(|tensor| tensor.shape.len() == 1) {
        tensor.shape.push(1);
    }
    assert_eq!(parts.load().unwrap().fingerprint(), expected);
}

#[test]
fn every_shape_is_checked() {
    let whole = tiny("llama3").parts();
    for i in 0..whole.tensors.len() {
        let mut wider = whole.clone();
        let t = &mut wider.tensors[i];
        let shape: Vec<usize> = t.shape.iter().map(|&n| n as usize).collect();
        let mut grown = shape.clone();
        *grown.last_mut().unwrap() += 16;
        *t = tensor(&t.name, t.type_id, &grown, &vec![0.1; grown.iter().product()]);
        // Of the embedding, the vocabulary is at fault.
        let name = t.name.clone();
        refused(&wider, &[if name == "token_embd.weight" { "tokens" } else { &name }]);

        let mut turned = whole.clone();
        turned.tensors[i].shape.reverse();
        turned.tensors[i].shape.push(1);
        turned.tensors[i].shape.push(1);
        if shape.len() > 1 && shape[0] != shape[1] {
            assert!(try_to_run(&turned).is_err(), "{name} was turned");
        }
    }
}

#[test]
fn tensors_that_would_be_ignored_are_refused() {
    for name in ["blk.0.attn_norm.bias", "blk.2.attn_q.weight", "blk.1.attn_q_norm.weight", "x"] {
        let mut parts = parts();
        parts.tensors.push(tensor(name, types::F32, &[64], &[0.5; 64]));
        refused(&parts, &[name]);
    }
}

#[test]
fn what_is_unknown_is_named() {
    let with = |key: &str, value: Option<Value>| {
        let mut parts = parts();
        parts.set(key, value);
        parts
    };
    refused(&with("general.architecture", text("made-up")), &["made-up", "llama"]);
    refused(&with("llama.rope.scaling.type", text("made-up")), &["made-up", "yarn"]);
    refused(&with("tokenizer.ggml.model", text("rwkv")), &["rwkv"]);
    refused(&with("tokenizer.ggml.pre", text("nobody's")), &["nobody's"]);
    refused(&with("llama.expert_count", Some(Value::U32(8))), &["experts"]);
    let clamp = "llama.attention.clamp_kqv";
    refused(&with(clamp, Some(Value::F32(8.0))), &[clamp]);
    with(clamp, Some(Value::F32(0.0))).load().unwrap();
    with("llama.vocab_size", Some(Value::U32(7))).load().unwrap();
    refused(&with("llama.attention.causal", Some(Value::Bool(false))), &["attention.causal"]);
    refused(&with("llama.attention.head_count_kv", Some(Value::U32(3))), &["head_count_kv", "3"]);
    refused(&with("llama.attention.key_length", Some(Value::U32(2000))), &["2000", "1024"]);
    refused(&with("llama.attention.value_length", Some(Value::U32(32))), &["value_length"]);
    refused(&with("llama.rope.dimension_count", Some(Value::U32(18))), &["rope.dimension_count"]);
    refused(&with("llama.embedding_length", Some(Value::U32(32))), &["embedding_length"]);
    refused(&with("llama.feed_forward_length", Some(Value::U32(0))), &["feed_forward_length"]);
    refused(&with("llama.block_count", Some(Value::U32(3))), &["blk.2."]);
    refused(&with("llama.block_count", Some(Value::U32(1))), &["blk.1."]);
    refused(&with("llama.block_count", Some(Value::U32(u32::MAX))), &["block_count"]);
    refused(&with("llama.block_count", text("two")), &["llama.block_count"]);

    let mut parts = parts();
    let Some((_, Value::Array(Array::String(tokens)))) =
        parts.keys.iter_mut().find(|(key, _)| key == "tokenizer.ggml.tokens")
    else {
        panic!("tiny models have tokens")
    };
    tokens.push("one too many".into());
    assert_eq!(tokens.len(), N_VOCAB + 1);
    parts.set("tokenizer.ggml.token_type", None);
    refused(&parts, &[&(N_VOCAB + 1).to_string(), &N_VOCAB.to_string()]);
}

#[test]
fn types_that_are_no_weights_are_refused() {
    for type_id in [16, 26, 28, 9, 15, 31, 200, u32::MAX] {
        let mut parts = parts();
        parts.tensor("blk.1.ffn_up.weight").type_id = type_id;
        refused(&parts, &["blk.1.ffn_up.weight"]);
        // Of a model with a head of its own, the embedding is never multiplied.
        let mut parts = self::parts();
        let embedding = parts.tensor("token_embd.weight");
        (embedding.type_id, embedding.bytes) = (type_id, vec![0; 64 * N_VOCAB * 8]);
        refused(&parts, &["token_embd.weight"]);
    }
}

#[test]
fn a_key_that_is_missing_is_named_or_not_needed() {
    let whole = tiny("yarn").parts();
    for (key, _) in &whole.keys {
        let mut parts = whole.clone();
        parts.set(key, None);
        match parts.load() {
            Ok(_) => {}
            Err(error) => {
                let message = error.to_string();
                let derived = key.contains("attention.") || key.contains("dimension_count");
                assert!(message.contains(key.as_str()) || derived, "{key}: {message}");
            }
        }
    }
}

/// A large vocabulary takes longer to read than anything that can be refused.
#[test]
fn keys_and_tensors_are_checked_before_the_vocabulary() {
    let mut parts = parts();
    parts.set("tokenizer.ggml.model", text("unheard-of"));
    refused(&parts, &["unheard-of"]);
    let mut without = parts.clone();
    without.tensors.retain(|tensor| tensor.name != "blk.1.ffn_up.weight");
    refused(&without, &["blk.1.ffn_up.weight"]);
    parts.set("llama.attn_logit_softcapping", Some(Value::F32(30.0)));
    refused(&parts, &["llama.attn_logit_softcapping"]);
}

#[test]
fn no_number_makes_us_panic() {
    let mut whole = tiny("yarn").parts();
    whole.set("llama.attention.sliding_window", Some(Value::U32(20)));
    for (key, value) in &whole.keys {
        let wrong = match value {
            Value::U32(_) => [0, 1, 2, 3, 7, 16, 17, 48, 4096, 1 << 20, 1 << 31, u32::MAX]
                .map(Value::U32)
                .to_vec(),
            Value::F32(_) => {
                [0.0, -0.0, -1.0, 1e-40, 1e38, f32::INFINITY, f32::NEG_INFINITY, f32::NAN]
                    .map(Value::F32)
                    .to_vec()
            }
            _ => vec![Value::U32(1), Value::F32(1.0), Value::Bool(true), text("").unwrap()],
        };
        for value in wrong {
            let mut parts = whole.clone();
            let about = format!("{key} = {value:?}");
            parts.set(key, Some(value));
            let run = std::panic::catch_unwind(|| try_to_run(&parts));
            assert!(run.is_ok(), "{about} made us panic");
        }
    }
}

#[test]
fn weights_that_are_not_numbers_do_not_make_us_panic() {
    for fill in [0xff, 0x7c, 0x00] {
        for name in ["token_embd.weight", "blk.0.attn_q.weight", "blk.1.ffn_down.weight"] {
            for model in ["f32", "f16", "q4_1", "q4_K", "foreign"] {
                let mut parts = tiny(model).parts();
                parts.tensor(name).bytes.fill(fill);
                let result = try_to_run(&parts);
                let fine = matches!(result, Ok(()) | Err(Error::NotANumber { .. }));
                assert!(fine, "{model}, {name}: {result:?}");
            }
        }
    }
}

#[test]
fn a_file_cut_off_anywhere_is_refused() {
    let bytes = parts().bytes();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("cut.gguf");
    for i in 0..64 {
        let len = if i < 32 { 37 * i } else { bytes.len() - 1 - (64 - i) * 999 };
        std::fs::write(&path, &bytes[..len]).unwrap();
        let Err(error) = common::load(&path) else { panic!("{len} bytes were loaded") };
        assert!(error.to_string().contains("cut.gguf"), "{error}");
    }
}
