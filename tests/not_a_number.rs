//! A model whose weights are damaged so that its logits are NaN or infinite: an error instead of the same token for ever.

mod common;

use common::answers::{generation, greedy, warm};
use common::bits::sequence;
use common::gguf::Parts;
use common::tiny::{tiny, types};
use dovetail::draft::NGram;
use dovetail::speculate::Speculation;
use dovetail::{Engine, Error, Model, Request, Session, SessionOptions, Stop};
use std::sync::Arc;

const N_VOCAB: usize = 256;

fn options() -> SessionOptions {
    SessionOptions { n_ctx: 128, threads: 2, n_ubatch: 16, ..SessionOptions::default() }
}

/// The number of tokens that come before the error, and the error.
fn answer(model: &Arc<Model>, prompt: &[u32], drafts: bool) -> (usize, Option<Error>) {
    let mut session = Session::new(model.clone(), options()).unwrap();
    let speculation = Speculation::new(Box::new(NGram), "chain:5".parse().unwrap());
    session.speculate(drafts.then_some(speculation)).unwrap();
    session.prompt(prompt, &mut |_, _| true).unwrap();
    let mut pieces = session.generate(&greedy(), 30).ignore_end();
    let mut n = 0;
    let error = loop {
        match pieces.next() {
            Some(Ok(piece)) => n += usize::from(piece.token.is_some()),
            Some(Err(error)) => break Some(error),
            None => break None,
        }
    };
    assert!(pieces.next().is_none(), "the text ends at the error");
    let stop = if error.is_some() { Stop::NotANumber } else { Stop::Length };
    assert_eq!(session.stop(), Some(stop));
    session.end();
    assert_eq!(session.stop(), Some(stop), "what has ended keeps its reason");
    (n, error)
}

/// Overwrites the first number of a row of a tensor.
fn damage(parts: &mut Parts, name: &str, row: usize, number: f32) {
    let tensor = parts.tensor(name);
    let at = row * tensor.bytes.len() / tensor.shape.get(1).map_or(1, |n| *n as usize);
    match tensor.type_id {
        types::F32 => tensor.bytes[at..at + 4].copy_from_slice(&number.to_le_bytes()),
        // Blocks of this type begin with a scale, which is a half float.
        types::F16 | types::Q8_0 => {
            let bits = if number.is_nan() { 0x7e00u16 } else { 0x7c00 };
            tensor.bytes[at..at + 2].copy_from_slice(&bits.to_le_bytes());
        }
        other => panic!("no test damages the type {other}"),
    }
}

#[test]
fn damaged_weights_are_an_error_wherever_they_are() {
    for name in ["f32", "f16", "q8_0"] {
        let parts = tiny(name).parts();
        let matrices = parts.tensors.iter().filter(|tensor| tensor.shape.len() > 1);
        let norms = ["blk.1.ffn_norm.weight", "output_norm.weight"];
        for tensor in matrices.map(|tensor| &tensor.name[..]).chain(norms) {
            for number in [f32::NAN, f32::INFINITY] {
                let mut damaged = parts.clone();
                damage(&mut damaged, tensor, 0, number);
                let model = Arc::new(damaged.load().unwrap());
                // Its last token is the one whose embedding is damaged.
                let prompt = [sequence(20, N_VOCAB, 4), vec![0]].concat();
                let (n, error) = answer(&model, &prompt, false);
                let line = error.map(|error| error.to_string()).unwrap_or_default();
                let part = format!(": the logits after {} tokens are not numbers", 21 + n);
                assert!(line.contains(&part), "{name} {tensor} {number}: {n} {line:?}");
                assert_eq!(answer(&model, &prompt, true).0, n, "a drafter does not show");
            }
        }
    }
}

/// A model that computes NaN behind one token, and a prompt that is continued with this token after some others.
fn damaged_at_a_token() -> (Arc<Model>, Vec<u32>, usize) {
    let parts = tiny("f16").parts();
    let prompt = sequence(20, N_VOCAB, 4);
    let model = Arc::new(parts.load().unwrap());
    let mut session = Session::new(model, options()).unwrap();
    let (tokens, _) = common::answers::write(&mut session, &prompt, &greedy(), 30);
    let (n, token) =
        (0..).zip(&tokens[20..]).find(|(n, t)| *n > 3 && !tokens[..20 + n].contains(t)).unwrap();
    let mut damaged = parts;
    damage(&mut damaged, "token_embd.weight", *token as usize, f32::NAN);
    (Arc::new(damaged.load().unwrap()), prompt, n + 1)
}

#[test]
fn the_text_before_is_the_same_with_any_drafter() {
    let (model, prompt, n) = damaged_at_a_token();
    for drafts in [false, true] {
        let (found, error) = answer(&model, &prompt, drafts);
        assert_eq!(found, n);
        assert!(matches!(error, Some(Error::NotANumber { n_tokens, .. }) if n_tokens == 20 + n));
    }
}

#[test]
fn other_sequences_of_the_engine_go_on() {
    let (model, prompt, n) = damaged_at_a_token();
    let mut engine = Engine::new(model.clone(), options(), 2).unwrap();
    let wrong =
        engine.add(Request { generation: generation(&greedy(), 30), ..Request::new(prompt, 0) });
    let wrong = wrong.unwrap();
    let right = Request { generation: generation(&warm(1), 30), ..Request::new(vec![9; 5], 0) };
    let right = engine.add(right).unwrap();
    while engine.step(&mut |_, _| {}).unwrap() {}
    assert_eq!(engine.stop(wrong), Some(Stop::NotANumber));
    assert!(engine.failure(wrong).unwrap().to_string().contains("are not numbers"));
    assert!(engine.failure(right).is_none());
    assert_eq!(engine.remove(wrong).unwrap().tokens.len(), n);
    let right = engine.remove(right).unwrap();
    assert_eq!((right.tokens.len(), right.stop), (30, Some(Stop::Length)));
}

#[test]
fn a_session_is_as_good_as_before_for_another_prompt() {
    let (model, prompt, n) = damaged_at_a_token();
    let mut session = Session::new(model.clone(), options()).unwrap();
    session.prompt(&prompt, &mut |_, _| true).unwrap();
    for expected in [n, 0] {
        let pieces = session.generate(&greedy(), 30).ignore_end();
        let pieces = pieces.map_while(|piece| piece.ok());
        let found = pieces.filter(|piece| piece.token.is_some()).count();
        assert_eq!(found, expected, "what follows the token fails again");
    }
    let other = session.prompt(&prompt[..9], &mut |_, _| true).unwrap();
    assert!(other && session.failure().is_none());
    assert!(session.generate(&greedy(), 1).all(|piece| piece.is_ok()));
}
