//! A small model as the drafter: the target itself is right every time, another vocabulary is refused
//! with the token that differs, and the text is that of plain decoding.

mod common;

use common::bits::sequence;
use common::gguf::Parts;
use common::open_drafter;
use common::tiny::{N_VOCAB, tiny};
use dovetail::draft::{self, Drafter, DrafterContext, Placement};
use dovetail::gguf::{Array, Value};
use dovetail::speculate::Speculation;
use dovetail::{Model, Result, Sampling, Session, SessionOptions};
use std::sync::Arc;

fn open(parts: &Parts, target: &Arc<Model>) -> Result<Box<dyn Drafter>> {
    open_drafter("lm", parts, target)
}

fn write(session: &mut Session, prompt: &[u32], how: &Sampling, n: usize) -> Vec<u32> {
    session.prompt(prompt, &mut |_, _| true).unwrap();
    assert!(session.generate(how, n).ignore_end().all(|piece| piece.is_ok()));
    session.tokens().to_vec()
}

#[test]
fn the_text_is_that_of_plain_decoding() {
    for (target, small) in [("q4_1", "f16"), ("q4_K", "q4_0"), ("f32", "f32")] {
        let model = Arc::new(tiny(target).parts().load().unwrap());
        let options = SessionOptions { threads: 2, n_ubatch: 50, ..SessionOptions::default() };
        let session = || Session::new(model.clone(), options.clone()).unwrap();
        for (growth, temperature) in [("chain:4", 0.0), ("beam:3,3,9", 0.0), ("beam:4,2,8", 0.8)] {
            let drafter = open(&tiny(small).parts(), &model).unwrap();
            let mut speculative = session();
            let speculation = Speculation::new(drafter, growth.parse().unwrap());
            speculative.speculate(Some(speculation)).unwrap();
            let how = Sampling { temperature, seed: 4, ..Sampling::default() };
            let long = sequence(140, N_VOCAB, 3);
            for prompt in [&long[..20], &long, &long[..60]] {
                let expected = write(&mut session(), prompt, &how, 41);
                let found = write(&mut speculative, prompt, &how, 41);
                assert_eq!(found, expected, "{target} with {small}, {growth}");
                assert!(speculative.take_drafter_error().is_none());
                let rounds = speculative.rounds().unwrap();
                if target == small && temperature == 0.0 {
                    // It is the target: the likeliest draft token is right at every depth.
                    let depth = if growth == "chain:4" { 4 } else { 3 };
                    assert_eq!(rounds.rounds, 40usize.div_ceil(depth + 1), "{growth}");
                }
            }
        }
    }
}

#[test]
fn another_vocabulary_is_refused_with_its_token() {
    let model = Arc::new(tiny("f32").parts().load().unwrap());
    let rename = |parts: &mut Parts, change: &dyn Fn(&mut Vec<String>)| {
        for (key, value) in &mut parts.keys {
            if let (true, Value::Array(Array::String(tokens))) =
                (key == "tokenizer.ggml.tokens", value)
            {
                change(tokens);
            }
        }
    };
    let mut parts = tiny("f16").parts();
    rename(&mut parts, &|tokens| tokens[N_VOCAB - 3] = "<|start|>".into());
    let error = open(&parts, &model).err().expect("it is refused").to_string();
    let text = format!(
        "token {} is \"<|start|>\" and the target's is \"<|endoftext|>\"; a drafter needs the target's vocabulary",
        N_VOCAB - 3
    );
    assert!(error.ends_with(&text), "{error}");
    let setup = DrafterContext {
        target: &model,
        n_ctx: 9,
        threads: 1,
        path: None,
        placement: Placement::CPU,
    };
    let error = (draft::kind("lm").unwrap().open)(&setup).err().expect("no file").to_string();
    assert_eq!(
        error,
        "the kind of drafter (lm) needs the drafter's file; name it with the option for the file of the drafter"
    );
}
