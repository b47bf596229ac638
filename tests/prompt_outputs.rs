//! Embeddings and log probabilities of prompts have the bits of a plain pass, whatever runs beside them, and change
//! nothing of that.

mod common;

use common::alone::Alone;
use common::answers::{generation, greedy, warm, write};
use common::bits::{sequence, tiny_models};
use common::drafter::SHAPES;
use common::open_drafter;
use common::tiny::{N_VOCAB, tiny};
use dovetail::infer::{CacheType, CacheTypes, Outputs};
use dovetail::speculate::Speculation;
use dovetail::{Engine, Logprobs, Model, Pooling, PromptOutput, Request, RequestId};
use dovetail::{Session, SessionOptions};
use std::sync::Arc;

const OPTIONS: SessionOptions = SessionOptions {
    n_ctx: 200,
    threads: 2,
    n_ubatch: 24,
    cache: CacheTypes { keys: CacheType::F16, values: CacheType::F16 },
};

/// Hidden states of a prompt whose tokens are run one by one: (n, n_embd).
fn hidden_rows(model: &Arc<Model>, prompt: &[u32]) -> Vec<Vec<f32>> {
    let mut target = Alone::with_cache(model.clone(), OPTIONS.n_ctx, 1, 1, OPTIONS.cache);
    let taps = [model.config().n_layers];
    target.tap([&taps[..]]).unwrap();
    let row = |token: &u32| {
        target.append(&[*token], Outputs::None).unwrap();
        target.features().row(&taps, 0).to_vec()
    };
    prompt.iter().map(row).collect()
}

/// The definition, word for word.
fn pooled(rows: &[Vec<f32>], pooling: Pooling) -> Vec<f32> {
    let mean = |i: usize| {
        let sum: f64 = rows.iter().map(|row| f64::from(row[i])).sum();
        (sum / rows.len() as f64) as f32
    };
    match pooling {
        Pooling::Mean => (0..rows[0].len()).map(mean).collect(),
        Pooling::Last => rows.last().unwrap().clone(),
    }
}

fn bits(row: &[f32]) -> Vec<u32> {
    row.iter().map(|x| x.to_bits()).collect()
}

/// An engine with a drafter that reads hidden states of its own.
fn drafted_engine(model: &Arc<Model>, name: &str, slots: usize) -> Engine {
    let mut engine = Engine::new(model.clone(), OPTIONS, slots).unwrap();
    let drafter = open_drafter("dgf", &SHAPES[0].parts(tiny(name), model), model).unwrap();
    engine.add_drafter(Speculation::new(drafter, "beam:4,3,9".parse().unwrap())).unwrap();
    engine
}

fn embed(engine: &mut Engine, prompt: &[u32], pooling: Pooling) -> RequestId {
    let output = PromptOutput::Embedding(pooling);
    engine.add_with(Request::new(prompt.to_vec(), 0), output).unwrap()
}

/// Steps until a request has ended, and returns its embedding.
fn embedding(engine: &mut Engine, id: RequestId) -> Vec<f32> {
    while engine.stop(id).is_none() {
        engine.step(&mut |_, _| {}).unwrap();
    }
    engine.remove(id).unwrap().embedding.unwrap()
}

#[test]
fn embeddings_are_pooled_rows_of_a_plain_pass() {
    for (tiny, model) in tiny_models() {
        let mut engine = Engine::new(model.clone(), OPTIONS, 2).unwrap();
        for len in [1, 7, 24, 70] {
            let prompt = sequence(len, N_VOCAB, len as u64);
            let rows = hidden_rows(&model, &prompt);
            for pooling in [Pooling::Mean, Pooling::Last, Pooling::Mean] {
                let id = embed(&mut engine, &prompt, pooling);
                let found = embedding(&mut engine, id);
                let expected = pooled(&rows, pooling);
                assert_eq!(bits(&found), bits(&expected), "{}: {len} {pooling:?}", tiny.name);
            }
        }
    }
}

#[test]
fn embeddings_and_texts_side_by_side_do_not_change_each_other() {
    for name in ["f32", "q4_K"] {
        let model = Arc::new(tiny(name).parts().load().unwrap());
        let mut engine = drafted_engine(&model, name, 4);
        let prompts: Vec<_> = (0..2).map(|i| sequence(30 + i, N_VOCAB, i as u64)).collect();
        let texts: Vec<_> = (prompts.iter().zip(0..))
            .map(|(prompt, seed)| {
                let generation = generation(&warm(seed), 60);
                engine.add(Request { generation, ..Request::new(prompt.clone(), 0) }).unwrap()
            })
            .collect();
        for len in [50, 3, 90] {
            let prompt = sequence(len, N_VOCAB, 7);
            let rows = hidden_rows(&model, &prompt);
            let both = [Pooling::Mean, Pooling::Last];
            let ids = both.map(|pooling| embed(&mut engine, &prompt, pooling));
            for (id, pooling) in ids.into_iter().zip(both) {
                assert_eq!(
                    bits(&embedding(&mut engine, id)),
                    bits(&pooled(&rows, pooling)),
                    "{name}: {len} {pooling:?}"
                );
            }
        }
        while engine.step(&mut |_, _| {}).unwrap() {}
        for ((id, prompt), seed) in texts.into_iter().zip(&prompts).zip(0..) {
            let mut session = Session::new(model.clone(), OPTIONS).unwrap();
            let (tokens, _) = write(&mut session, prompt, &warm(seed), 60);
            let answer = engine.remove(id).unwrap();
            assert_eq!(answer.tokens, tokens[prompt.len()..], "{name}");
            assert!(answer.drafter_error.is_none() && answer.embedding.is_none());
        }
    }
}

/// Tokens and log probabilities that a session's generation reports.
fn generated(model: &Arc<Model>, prompt: &[u32], n: usize) -> (Vec<u32>, Vec<Logprobs>) {
    let mut session = Session::new(model.clone(), OPTIONS).unwrap();
    assert!(session.prompt(prompt, &mut |_, _| true).unwrap());
    let mut what = generation(&greedy(), n);
    what.logprobs = Some(4);
    session.begin(what).unwrap();
    let pieces = std::iter::from_fn(|| session.next_piece().unwrap());
    let pairs = pieces.filter_map(|piece| Some((piece.token?, piece.logprobs?)));
    pairs.unzip()
}

#[test]
fn prompts_have_the_log_probabilities_that_answers_have() {
    for name in ["f32", "q4_1", "yarn"] {
        let model = Arc::new(tiny(name).parts().load().unwrap());
        let mut engine = drafted_engine(&model, name, 3);
        let beside =
            Request { generation: generation(&warm(5), 150), ..Request::new(vec![9; 9], 0) };
        let beside = engine.add(beside).unwrap();
        let first = sequence(11, N_VOCAB, 3);
        let (tokens, logprobs) = generated(&model, &first, 100);
        let whole = [&first[..], &tokens].concat();
        // The second time a slot holds all of the prompt.
        for _ in 0..2 {
            let request = Request::new(whole.clone(), 2);
            let id = engine.add_with(request, PromptOutput::Logprobs(4)).unwrap();
            let mut found = Vec::new();
            while engine.stop(id).is_none() {
                engine.step(&mut |_, _| {}).unwrap();
                found.extend(engine.take_prompt_logprobs(id));
            }
            assert_eq!(found.len(), whole.len() - 1, "all but the first");
            assert_eq!(found[first.len() - 1..], logprobs, "{name}");
            assert_eq!(engine.remove(id).unwrap().tokens.len(), 2);
        }
        while engine.step(&mut |_, _| {}).unwrap() {}
        let mut session = Session::new(model.clone(), OPTIONS).unwrap();
        let (tokens, _) = write(&mut session, &[9; 9], &warm(5), 150);
        assert_eq!(engine.remove(beside).unwrap().tokens, tokens[9..], "{name}");
    }
}

#[test]
fn a_request_that_is_taken_out_early_has_no_embedding() {
    let (_, model) = tiny_models().next().unwrap();
    let mut engine = Engine::new(model, OPTIONS, 1).unwrap();
    let id = embed(&mut engine, &sequence(60, N_VOCAB, 1), Pooling::Mean);
    engine.step(&mut |_, _| {}).unwrap();
    assert!(engine.remove(id).unwrap().embedding.is_none());
}
