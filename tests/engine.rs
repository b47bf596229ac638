//! The law for sequences written side by side: the text of each is the one that a session writes alone,
//! whoever guesses and whenever others come and go.

mod common;

use common::answers::{greedy, warm};
use common::bits::{sequence, tiny_models};
use common::drafter::SHAPES;
use common::tiny::{N_VOCAB, tiny};
use common::{load, open_drafter, real_model};
use dovetail::draft::{self, CandidateSelector, Drafter, NGram};
use dovetail::infer::{CacheType, CacheTypes};
use dovetail::speculate::{SpecSampling, Speculation};
use dovetail::tree::Tree;
use dovetail::{Answer, Engine, Error, Model, Request, Result, Sampling};
use dovetail::{Session, SessionOptions, Stop};
use dovetail_kernels::cpu::ThreadPool;
use std::path::Path;
use std::sync::Arc;

const OPTIONS: SessionOptions = SessionOptions {
    n_ctx: 200,
    threads: 2,
    n_ubatch: 24,
    cache: CacheTypes { keys: CacheType::F16, values: CacheType::F16 },
};

/// A request and the step before which it comes.
struct Case {
    step: usize,
    prompt: Vec<u32>,
    sampling: Sampling,
    n_predict: usize,
    ignore_end: bool,
    guesses: fn(&dyn Fn() -> Box<dyn Drafter>) -> Option<Speculation>,
}

fn speculation(drafter: Box<dyn Drafter>, growth: &str) -> Option<Speculation> {
    Some(Speculation::new(drafter, growth.parse().unwrap()))
}

/// Requests of all kinds; `n` tokens at most each.
fn cases(n_vocab: usize, n: usize) -> Vec<Case> {
    let case = |step, len, sampling, n_predict, ignore_end, guesses| {
        let prompt = sequence(len, n_vocab, len as u64);
        Case { step, prompt, sampling, n_predict, ignore_end, guesses }
    };
    vec![
        case(0, 5, greedy(), n, true, |_| None),
        case(0, 40, warm(1), n - 7, true, |trained| speculation(trained(), "beam:4,3,9")),
        case(1, 1, warm(2), 3, false, |_| speculation(Box::new(NGram::default()), "chain:5")),
        case(3, 70, Sampling { temperature: 2.0, ..warm(3) }, n, false, |_| None),
        case(3, 26, greedy(), n, true, |_| speculation(Box::new(NGram::default()), "chain:9")),
        case(4, 33, warm(4), n / 2, true, |trained| speculation(trained(), "chain:3")),
        case(9, 12, warm(5), 1, true, |trained| speculation(trained(), "beam:6,5,33")),
        case(9, 13, warm(6), 0, true, |_| None),
        case(9, 30, Sampling { temperature: 1.2, ..warm(7) }, n, true, |trained| {
            speculation(trained(), "beam:2,2,5").map(|s| s.with_sampling(SpecSampling::Rejection))
        }),
        case(9, 190, greedy(), 100, true, |trained| speculation(trained(), "chain:4")),
    ]
}

/// Tokens, text and end of a case as a session writes it; without a drafter, unless the text depends on it.
fn alone(
    model: &Arc<Model>,
    case: &Case,
    trained: &dyn Fn() -> Box<dyn Drafter>,
) -> (Vec<u32>, String, Option<Stop>) {
    let mut session = Session::new(model.clone(), OPTIONS).unwrap();
    if case.sampling.temperature == 1.2 {
        session.speculate((case.guesses)(trained)).unwrap();
    }
    session.prompt(&case.prompt, &mut |_, _| true).unwrap();
    let pieces = session.generate(&case.sampling, case.n_predict).ignore_end(case.ignore_end);
    let text = pieces.map(|piece| piece.unwrap().text).collect();
    (session.tokens()[case.prompt.len()..].to_vec(), text, session.stop())
}

/// Runs the cases through so many slots and compares each with the session's answer.
fn check(
    model: &Arc<Model>,
    cases: &[Case],
    slots: usize,
    trained: &dyn Fn() -> Box<dyn Drafter>,
    name: &str,
) {
    let mut engine = Engine::new(model.clone(), OPTIONS, slots).unwrap();
    let mut texts = vec![String::new(); cases.len()];
    let mut tokens = vec![Vec::new(); cases.len()];
    let mut at = vec![None; slots];
    let (mut step, mut next) = (0, 0);
    let mut most = 0;
    while next < cases.len() || at.iter().any(Option::is_some) {
        while next < cases.len() && cases[next].step <= step && engine.has_room() {
            let case = &cases[next];
            let mut request = Request::new(case.prompt.clone(), case.n_predict);
            request.sampling = case.sampling.clone();
            request.ignore_end = case.ignore_end;
            request.speculation = (case.guesses)(trained);
            at[engine.add(request).unwrap()] = Some(next);
            next += 1;
        }
        most = most.max(at.iter().flatten().count());
        let goes_on = engine.step(&mut |slot, piece| {
            let case = at[slot].expect("a slot that was given");
            texts[case] += &piece.text;
            tokens[case].extend(piece.token);
        });
        let goes_on = goes_on.unwrap();
        step += 1;
        for (slot, at) in at.iter_mut().enumerate() {
            if let (Some(case), Some(stop)) = (*at, engine.stop(slot)) {
                let answer = engine.remove(slot).unwrap();
                let expected = alone(model, &cases[case], trained);
                let about = format!("{name}, case {case}, {slots} slots");
                assert_eq!((&tokens[case], &texts[case]), (&expected.0, &expected.1), "{about}");
                assert_eq!((Some(stop), answer.stop), (expected.2, expected.2), "{about}");
                assert_eq!(answer.tokens, expected.0, "{about}");
                assert_eq!(answer.stats.predicted_n, expected.0.len(), "{about}");
                assert!(answer.drafter_error.is_none(), "{about}");
                let guesses = (cases[case].guesses)(trained).is_some();
                assert_eq!(
                    (answer.rounds.is_some(), answer.speculation.is_some()),
                    (guesses, guesses)
                );
                *at = None;
            }
        }
        assert_eq!(goes_on, at.iter().any(Option::is_some), "{name}");
    }
    assert_eq!(most, slots.min(cases.len()), "{name}: all slots were in use at once");
}

#[test]
fn each_text_is_the_one_that_is_written_alone() {
    for name in ["f32", "q4_1", "q4_K", "yarn"] {
        let t = tiny(name);
        let model = Arc::new(t.parts().load().unwrap());
        let parts = SHAPES[0].parts(t, &model);
        let first = open_drafter("dgf", &parts, &model).unwrap();
        let trained = || first.another().expect("it works together with others").unwrap();
        for slots in [1, 3, 5] {
            check(&model, &cases(N_VOCAB, 40), slots, &trained, name);
        }
    }
}

#[test]
fn each_text_of_the_real_model_is_the_one_that_is_written_alone() {
    let Some(path) = real_model() else { return };
    let model = Arc::new(load(&path).unwrap());
    let file = Path::new("models/SmolLM2-135M-Instruct.small.dgf.gguf");
    let session = Session::new(model.clone(), OPTIONS).unwrap();
    let trained = || (draft::kind("dgf").unwrap().open)(&session.setup(Some(file))).unwrap();
    let mut cases = cases(model.config().n_vocab, 14);
    cases.pop();
    let texts =
        ["Name three primes.", "Repeat: the ring is full, the ring is", "Why is the sky blue?"];
    for (case, text) in cases.iter_mut().zip(texts) {
        case.prompt = model.tokenizer().encode(text, true, false).unwrap();
    }
    check(&model, &cases, 5, &trained, "the real model");
}

/// Guesses nonsense, and fails in the third round.
struct Failing(usize);

impl Drafter for Failing {
    fn expand(
        &mut self,
        _: &[u32],
        _: &mut CandidateSelector,
        tree: &mut Tree,
        _: &mut ThreadPool,
    ) -> Result<()> {
        self.0 += 1;
        if self.0 == 3 {
            return Err(Error::Invalid("out of order".into()));
        }
        tree.push(0, 1, -1.0);
        Ok(())
    }
}

fn finish(engine: &mut Engine, slots: &[usize]) -> Vec<Answer> {
    while engine.step(&mut |_, _| {}).unwrap() {}
    slots.iter().map(|slot| engine.remove(*slot).unwrap()).collect()
}

#[test]
fn a_drafter_that_fails_is_given_up_in_its_sequence_alone() {
    let (_, model) = tiny_models().next().unwrap();
    let mut engine = Engine::new(model.clone(), OPTIONS, 4).unwrap();
    let mut slots = Vec::new();
    for seed in 0..4 {
        let mut request = Request::new(sequence(9, N_VOCAB, seed), 20);
        request.ignore_end = true;
        request.sampling = warm(seed);
        let failing = Box::new(Failing(if seed == 2 { 0 } else { 100 }));
        request.speculation = speculation(failing, "chain:2");
        slots.push(engine.add(request).unwrap());
    }
    for (seed, answer) in (0..).zip(finish(&mut engine, &slots)) {
        let mut session = Session::new(model.clone(), OPTIONS).unwrap();
        let (tokens, _) =
            common::answers::write(&mut session, &sequence(9, N_VOCAB, seed), &warm(seed), 20);
        assert_eq!(answer.tokens, tokens[9..]);
        let error = answer.drafter_error.map(|error| error.to_string());
        assert_eq!(error.as_deref(), (seed == 2).then_some("out of order"));
        assert_eq!(answer.speculation.is_none(), seed == 2);
        assert!(answer.rounds.unwrap().drafted > 0);
    }
}

#[test]
fn what_cannot_be_written_is_refused_and_the_others_go_on() {
    let t = tiny("f32");
    let model = Arc::new(t.parts().load().unwrap());
    for slots in [0, 17] {
        let error = Engine::new(model.clone(), OPTIONS, slots).err().unwrap().to_string();
        assert_eq!(error, format!("{slots} sequences at once; choose 1 to 16"));
    }
    let mut engine = Engine::new(model.clone(), OPTIONS, 3).unwrap();
    let trained = |shape: usize| {
        let parts = SHAPES[shape].parts(t, &model);
        speculation(open_drafter("dgf", &parts, &model).unwrap(), "chain:3")
    };
    let request = |prompt: Vec<u32>, speculation| Request {
        speculation,
        ignore_end: true,
        ..Request::new(prompt, 12)
    };
    let prompt = sequence(30, N_VOCAB, 1);
    let first = engine.add(request(prompt.clone(), trained(0))).unwrap();
    engine.step(&mut |_, _| {}).unwrap();
    for (prompt, speculation, part) in [
        (vec![], None, "the prompt is empty"),
        (vec![1; 200], None, "201 tokens do not fit the context of 200"),
        (vec![1, N_VOCAB as u32], None, "is not one of"),
        (vec![1], trained(3), "give all sequences drafters from one file"),
    ] {
        let error = engine.add(request(prompt, speculation)).unwrap_err();
        assert!(error.is_usage() && error.to_string().contains(part), "{error}");
    }
    // Another drafter of the same kind may come, and one that is taken out again leaves no trace.
    let second = engine.add(request(vec![7; 20], trained(0))).unwrap();
    let third = engine.add(request(vec![8; 20], None)).unwrap();
    assert!(!engine.has_room());
    let error = engine.add(request(vec![1], None)).unwrap_err();
    assert_eq!(error.to_string(), "all 3 slots are taken; remove an answer first");
    assert!(engine.remove(third).unwrap().tokens.is_empty());
    engine.step(&mut |_, _| {}).unwrap();
    let cut = engine.remove(second).unwrap();
    assert!(cut.stop.is_none() && cut.tokens.len() == 1);
    assert!(engine.remove(second).is_none() && engine.remove(99).is_none());
    let answer = finish(&mut engine, &[first]).pop().unwrap();
    let mut session = Session::new(model.clone(), OPTIONS).unwrap();
    let (tokens, _) = common::answers::write(&mut session, &prompt, &Sampling::default(), 12);
    assert_eq!(answer.tokens, tokens[30..]);
    // When nobody is left who learns from those states, others may be handed out.
    let last = engine.add(request(prompt.clone(), trained(3))).unwrap();
    let answer = finish(&mut engine, &[last]).pop().unwrap();
    assert_eq!(answer.tokens, tokens[30..]);
    assert!(answer.drafter_error.is_none() && answer.rounds.unwrap().drafted > 0);
}
