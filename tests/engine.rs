//! The law for sequences written side by side: the text of each is the one that a session writes alone,
//! whatever the drafter and whenever others come and go.

mod common;

use common::answers::{greedy, warm};
use common::bits::{sequence, tiny_models};
use common::drafter::SHAPES;
use common::tiny::{N_VOCAB, tiny};
use common::{load, open_drafter, real_model};
use dovetail::draft::{self, DraftJob, DraftState, Drafter, NGram, RoundContext};
use dovetail::infer::{CacheType, CacheTypes};
use dovetail::speculate::{SpecSampling, Speculation};
use dovetail::{Answer, Drafting, Engine, Error, Model, Request, RequestId, Result, Sampling};
use dovetail::{Session, SessionOptions, Stop};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

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
    /// Which of the [drafters].
    drafter: Option<usize>,
}

/// What a test drafts with: trained ones, one that draws, and n-grams.
fn drafters(trained: &dyn Fn() -> Box<dyn Drafter>) -> Vec<Speculation> {
    let new = |drafter, shape: &str| Speculation::new(drafter, shape.parse().unwrap());
    vec![
        new(trained(), "beam:4,3,9"),
        new(Box::new(NGram), "chain:5"),
        new(Box::new(NGram), "chain:9"),
        new(trained(), "chain:3"),
        new(trained(), "beam:6,5,33"),
        new(trained(), "beam:2,2,5").with_sampling(SpecSampling::Rejection),
        new(trained(), "chain:4"),
    ]
}

/// Requests of all kinds; `n` tokens at most each.
fn cases(n_vocab: usize, n: usize) -> Vec<Case> {
    let case = |step, len, sampling, n_predict, ignore_end, drafter| {
        let prompt = sequence(len, n_vocab, len as u64);
        Case { step, prompt, sampling, n_predict, ignore_end, drafter }
    };
    vec![
        case(0, 5, greedy(), n, true, None),
        case(0, 40, warm(1), n - 7, true, Some(0)),
        case(1, 1, warm(2), 3, false, Some(1)),
        case(3, 70, Sampling { temperature: 2.0, ..warm(3) }, n, false, None),
        case(3, 26, greedy(), n, true, Some(2)),
        case(4, 33, warm(4), n / 2, true, Some(3)),
        case(9, 12, warm(5), 1, true, Some(4)),
        case(9, 13, warm(6), 0, true, None),
        case(9, 30, Sampling { temperature: 1.2, ..warm(7) }, n, true, Some(5)),
        case(9, 190, greedy(), 100, true, Some(6)),
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
        session.speculate(case.drafter.map(|i| drafters(trained).swap_remove(i))).unwrap();
    }
    session.prompt(&case.prompt, &mut |_, _| true).unwrap();
    let pieces = session.generate(&case.sampling, case.n_predict);
    let pieces = if case.ignore_end { pieces.ignore_end() } else { pieces };
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
    let drafters = drafters(trained).into_iter();
    let drafters: Vec<_> = drafters.map(|one| engine.add_drafter(one).unwrap()).collect();
    let mut texts = vec![String::new(); cases.len()];
    let mut tokens = vec![Vec::new(); cases.len()];
    let mut at: Vec<(RequestId, usize)> = Vec::new();
    let (mut step, mut next) = (0, 0);
    let mut most = 0;
    while next < cases.len() || !at.is_empty() {
        while next < cases.len() && cases[next].step <= step && engine.has_room() {
            let case = &cases[next];
            let mut request = Request::new(case.prompt.clone(), case.n_predict);
            request.generation.sampling = case.sampling.clone();
            request.generation.ignore_end = case.ignore_end;
            match case.drafter {
                Some(i) => request.drafter = Some(drafters[i]),
                None => request.generation.drafting = Drafting::Off,
            }
            at.push((engine.add(request).unwrap(), next));
            next += 1;
        }
        most = most.max(at.len());
        let goes_on = engine.step(&mut |id, piece| {
            let case =
                at.iter().find(|(other, _)| *other == id).expect("a request that was added").1;
            texts[case] += &piece.text;
            tokens[case].extend(piece.token);
        });
        let goes_on = goes_on.unwrap();
        step += 1;
        for (id, case) in at.clone() {
            let Some(stop) = engine.stop(id) else { continue };
            let answer = engine.remove(id).unwrap();
            assert!(engine.remove(id).is_none(), "an id is used once");
            let expected = alone(model, &cases[case], trained);
            let about = format!("{name}, case {case}, {slots} slots");
            assert_eq!((&tokens[case], &texts[case]), (&expected.0, &expected.1), "{about}");
            assert_eq!((Some(stop), answer.stop), (expected.2, expected.2), "{about}");
            assert_eq!(answer.tokens, expected.0, "{about}");
            assert_eq!(answer.stats.predicted_n, expected.0.len(), "{about}");
            assert!(answer.drafter_error.is_none(), "{about}");
            let rounds = answer.rounds.map_or(0, |rounds| rounds.rounds);
            // The first token comes of the prompt.
            assert_eq!(
                rounds > 0,
                cases[case].drafter.is_some() && expected.0.len() > 1,
                "{about}"
            );
            at.retain(|(other, _)| *other != id);
        }
        assert_eq!(goes_on, !at.is_empty(), "{name}");
    }
    assert_eq!(most, slots.min(cases.len()), "{name}: all slots were in use at once");
}

#[test]
fn each_text_is_the_one_that_is_written_alone() {
    for name in ["f32", "q4_1", "q4_K", "yarn"] {
        let t = tiny(name);
        let model = Arc::new(t.parts().load().unwrap());
        // Each is opened from a file of its own: they have the same weights and share none.
        let parts = SHAPES[0].parts(t, &model);
        let trained = || open_drafter("dgf", &parts, &model).unwrap();
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

/// Drafts nonsense, and fails in the third round.
struct Failing(usize);

impl Drafter for Failing {
    fn expand_one(&mut self, job: &mut DraftJob, _: &mut RoundContext) -> Result<()> {
        self.0 += 1;
        if self.0 == 3 {
            return Err(Error::Invalid("out of order".into()));
        }
        job.tree.tree_mut().push(0, 1, -1.0);
        Ok(())
    }
}

fn finish(engine: &mut Engine, requests: &[RequestId]) -> Vec<Answer> {
    while engine.step(&mut |_, _| {}).unwrap() {}
    requests.iter().map(|id| engine.remove(*id).unwrap()).collect()
}

#[test]
fn a_drafter_that_fails_is_given_up_in_its_sequence_alone() {
    let (_, model) = tiny_models().next().unwrap();
    let mut engine = Engine::new(model.clone(), OPTIONS, 4).unwrap();
    let mut requests = Vec::new();
    for seed in 0..4 {
        let failing = Box::new(Failing(if seed == 2 { 0 } else { 100 }));
        let speculation = Speculation::new(failing, "chain:2".parse().unwrap());
        let mut request = Request::new(sequence(9, N_VOCAB, seed), 20);
        request.generation.ignore_end = true;
        request.generation.sampling = warm(seed);
        request.drafter = Some(engine.add_drafter(speculation).unwrap());
        requests.push(engine.add(request).unwrap());
    }
    for (seed, answer) in (0..).zip(finish(&mut engine, &requests)) {
        let mut session = Session::new(model.clone(), OPTIONS).unwrap();
        let (tokens, _) =
            common::answers::write(&mut session, &sequence(9, N_VOCAB, seed), &warm(seed), 20);
        assert_eq!(answer.tokens, tokens[9..]);
        let error = answer.drafter_error.map(|error| error.to_string());
        assert_eq!(error.as_deref(), (seed == 2).then_some("out of order"));
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
    let parts = SHAPES[0].parts(t, &model);
    let drafter = open_drafter("dgf", &parts, &model).unwrap();
    engine.add_drafter(Speculation::new(drafter, "chain:3".parse().unwrap())).unwrap();
    let request = |prompt: Vec<u32>| endless(prompt, 12);
    let prompt = sequence(30, N_VOCAB, 1);
    let first = engine.add(request(prompt.clone())).unwrap();
    for _ in 0..prompt.len().div_ceil(OPTIONS.n_ubatch) {
        engine.step(&mut |_, _| {}).unwrap();
    }
    for (prompt, part) in [
        (vec![], "the prompt is empty"),
        (vec![1; 200], "201 tokens do not fit the context of 200"),
        (vec![1, N_VOCAB as u32], "is not one of"),
    ] {
        let error = engine.add(request(prompt)).unwrap_err();
        assert!(error.is_usage() && error.to_string().contains(part), "{error}");
    }
    let mut wrong = request(vec![1]);
    wrong.generation.sampling.top_p = 2.0;
    assert!(matches!(engine.add(wrong), Err(Error::Setting(_))));
    // One that is taken out again leaves no trace.
    let second = engine.add(request(vec![7; 20])).unwrap();
    let third = engine.add(request(vec![8; 20])).unwrap();
    assert!(!engine.has_room());
    let error = engine.add(request(vec![1])).unwrap_err();
    assert_eq!(error.to_string(), "all 3 slots are taken; remove an answer first");
    assert!(engine.remove(third).unwrap().tokens.is_empty());
    engine.step(&mut |_, _| {}).unwrap();
    let cut = engine.remove(second).unwrap();
    assert!(cut.stop.is_none() && cut.tokens.len() == 1);
    assert!(engine.remove(second).is_none() && engine.remove(RequestId(99)).is_none());
    let answer = finish(&mut engine, &[first]).pop().unwrap();
    let mut session = Session::new(model.clone(), OPTIONS).unwrap();
    let (tokens, _) = common::answers::write(&mut session, &prompt, &Sampling::default(), 12);
    assert_eq!(answer.tokens, tokens[30..]);
}

/// Drafters that learn from different hidden states, sampled draft tokens, and no drafter, side by side.
#[test]
fn sequences_of_all_kinds_live_side_by_side() {
    let t = tiny("f32");
    let model = Arc::new(t.parts().load().unwrap());
    let open = |shape: usize| {
        let drafter = open_drafter("dgf", &SHAPES[shape].parts(t, &model), &model).unwrap();
        Speculation::new(drafter, "beam:3,2,7".parse().unwrap())
    };
    let drawn = || open(0).with_sampling(SpecSampling::Rejection);
    let how = |seed: u64| Sampling { temperature: 1.1, ..warm(seed) };
    let prompt = |seed: u64| sequence(20 + 3 * seed as usize, N_VOCAB, seed);
    let mut engine = Engine::new(model.clone(), OPTIONS, 4).unwrap();
    let kinds = [Some(open(0)), Some(open(3)), Some(drawn()), None];
    let mut requests = Vec::new();
    for (seed, kind) in (0..).zip(kinds) {
        let mut request = Request::new(prompt(seed), 30);
        (request.generation.sampling, request.generation.ignore_end) = (how(seed), true);
        match kind {
            Some(speculation) => {
                request.drafter = Some(engine.add_drafter(speculation).unwrap());
            }
            None => request.generation.drafting = Drafting::Off,
        }
        requests.push(engine.add(request).unwrap());
    }
    for (seed, answer) in (0..).zip(finish(&mut engine, &requests)) {
        let mut session = Session::new(model.clone(), OPTIONS).unwrap();
        session.speculate((seed == 2).then(drawn)).unwrap();
        let prompt = prompt(seed);
        let (tokens, _) = common::answers::write(&mut session, &prompt, &how(seed), 30);
        assert_eq!(answer.tokens, tokens[prompt.len()..], "{seed}");
        assert_eq!(answer.rounds.map_or(0, |rounds| rounds.drafted) > 0, seed < 3, "{seed}");
    }
}

/// A prompt is read in chunks, with a round of the others between each two of them.
/// A request that goes on past end tokens.
fn endless(prompt: Vec<u32>, n_predict: usize) -> Request {
    let mut request = Request::new(prompt, n_predict);
    request.generation.ignore_end = true;
    request
}

#[test]
fn a_long_prompt_stops_nobody_for_more_than_a_chunk() {
    let (_, model) = tiny_models().next().unwrap();
    let mut engine = Engine::new(model.clone(), OPTIONS, 3).unwrap();
    let short = |seed: u64| endless(sequence(5, N_VOCAB, seed), 100);
    let others = [1, 2].map(|seed| engine.add(short(seed)).unwrap());
    engine.step(&mut |_, _| {}).unwrap();
    let prompt = sequence(8 * OPTIONS.n_ubatch - 40, N_VOCAB, 3);
    let long = engine.add(endless(prompt.clone(), 9)).unwrap();
    for chunk in 1.. {
        let mut pieces: Vec<RequestId> = Vec::new();
        engine.step(&mut |id, _| pieces.push(id)).unwrap();
        assert!(others.iter().all(|other| pieces.contains(other)), "chunk {chunk}");
        let read = engine.stats(long).unwrap().prompt_n;
        assert_eq!(read, prompt.len().min(chunk * OPTIONS.n_ubatch), "chunk {chunk}");
        if pieces.contains(&long) {
            assert_eq!(chunk, prompt.len().div_ceil(OPTIONS.n_ubatch));
            break;
        }
    }
    // And one that is taken out while its prompt is read leaves what was read.
    let cut = engine.add(Request::new(prompt.clone(), 9)).unwrap_err();
    assert!(cut.to_string().contains("all 3 slots are taken"));
    let answer = finish(&mut engine, &[long]).pop().unwrap();
    let mut session = Session::new(model.clone(), OPTIONS).unwrap();
    let (tokens, _) = common::answers::write(&mut session, &prompt, &Sampling::default(), 9);
    assert_eq!(answer.tokens, tokens[prompt.len()..]);
}

/// A request goes where most of its prompt is known, and else where nobody was for the longest time.
#[test]
fn caches_are_kept_for_prompts_that_begin_alike() {
    let (_, model) = tiny_models().next().unwrap();
    let mut engine = Engine::new(model.clone(), OPTIONS, 3).unwrap();
    let run = |engine: &mut Engine, prompt: &[u32]| {
        let id = engine.add(Request::new(prompt.to_vec(), 4)).unwrap();
        let answer = finish(engine, &[id]).pop().unwrap();
        (answer.stats.cached_n, [prompt, &answer.tokens].concat())
    };
    let [a, b, c, d] = [11, 12, 13, 14].map(|seed| sequence(40, N_VOCAB, seed));
    let talks = [&a, &b, &c].map(|prompt| run(&mut engine, prompt));
    assert!(talks.iter().all(|(cached, _)| *cached < 4), "each had a place of its own");
    let longer = |talk: &[u32]| [talk, &[1, 2, 3]].concat();
    let (cached, talk_b) = run(&mut engine, &longer(&talks[1].1));
    assert!(cached >= 40, "{cached}");
    // Another text takes the place of the one that was used least lately, which is the first.
    let (cached, _) = run(&mut engine, &d);
    assert!(cached < 4, "{cached}");
    assert!(run(&mut engine, &longer(&talk_b)).0 >= 40);
    assert!(run(&mut engine, &longer(&talks[2].1)).0 >= 40);
    assert!(run(&mut engine, &longer(&d)).0 >= 40);
    assert!(run(&mut engine, &longer(&talks[0].1)).0 < 4, "it was dropped");
}

/// Counts how often a state is saved, and drafts nothing.
struct CountsSaves(Arc<AtomicUsize>);

impl Drafter for CountsSaves {
    fn save(&mut self, _: &mut DraftState, _: &mut Vec<u8>) -> Result<()> {
        self.0.fetch_add(1, Relaxed);
        Ok(())
    }
}

/// What the memory for prefixes cannot hold is not copied.
#[test]
fn a_sequence_that_is_too_large_to_keep_is_not_copied() {
    let model = Arc::new(tiny("f32").parts().load().unwrap());
    for (bytes, expected) in [(0, 0), (4096, 0), (1 << 24, 1)] {
        let mut engine = Engine::new(model.clone(), OPTIONS, 1).unwrap();
        engine.set_prefix_cache(bytes);
        let saves = Arc::new(AtomicUsize::new(0));
        let drafter = Box::new(CountsSaves(saves.clone()));
        engine.add_drafter(Speculation::new(drafter, "chain:3".parse().unwrap())).unwrap();
        for seed in [1, 2] {
            let id = engine.add(Request::new(sequence(120, N_VOCAB, seed), 4)).unwrap();
            finish(&mut engine, &[id]);
        }
        assert_eq!(saves.load(Relaxed), expected, "{bytes} bytes");
    }
}

/// Checkpoints of layers with windows count too: what is copied is kept.
#[test]
fn a_sequence_is_copied_only_if_its_checkpoints_fit_as_well() {
    let model = Arc::new(tiny("window").parts().load().unwrap());
    let prompt = sequence(120, N_VOCAB, 1);
    let mut found = [0; 2];
    for step in 0..60 {
        let bytes = (10_000.0 * 1.1f64.powi(step)) as usize;
        let mut engine = Engine::new(model.clone(), OPTIONS, 1).unwrap();
        engine.set_prefix_cache(bytes);
        let saves = Arc::new(AtomicUsize::new(0));
        let drafter = Box::new(CountsSaves(saves.clone()));
        engine.add_drafter(Speculation::new(drafter, "chain:3".parse().unwrap())).unwrap();
        let mut ask = |prompt: &[u32]| {
            let id = engine.add(Request::new(prompt.to_vec(), 4)).unwrap();
            finish(&mut engine, &[id]).pop().unwrap().stats.cached_n
        };
        ask(&prompt);
        // It is so short that nothing of it will be kept in place of the first.
        ask(&sequence(20, N_VOCAB, 2));
        let is_copied = saves.load(Relaxed) > 0;
        let is_kept = ask(&prompt) > 100;
        assert_eq!(is_copied, is_kept, "{bytes} bytes");
        found[usize::from(is_kept)] += 1;
    }
    assert!(found.iter().all(|n| *n > 10), "{found:?}");
}

/// A prefix that another slot holds, or none any more, is copied: with each cache type, windows, and a drafter that reads
/// hidden states. Texts are those of a session that reads everything.
#[test]
fn a_prefix_is_copied_from_where_it_is() {
    for name in ["q4_K", "everything"] {
        let Some(t) = common::tiny::ALL.iter().find(|t| t.name == name) else { continue };
        let model = Arc::new(t.parts().load().unwrap());
        let parts = SHAPES[0].parts(t, &model);
        for (with_drafter, bytes) in [(false, 0), (true, 0), (false, 1 << 24), (true, 1 << 24)] {
            let about = format!("{name}, drafter: {with_drafter}, {bytes} bytes");
            let mut engine = Engine::new(model.clone(), OPTIONS, 2).unwrap();
            engine.set_prefix_cache(bytes);
            if with_drafter {
                let drafter = open_drafter("dgf", &parts, &model).unwrap();
                let speculation = Speculation::new(drafter, "beam:4,3,9".parse().unwrap());
                engine.add_drafter(speculation).unwrap();
            }
            let system = sequence(100, N_VOCAB, 1);
            let with = |end: &[u32]| [&system[..], end].concat();
            let check = |engine: &mut Engine, prompt: Vec<u32>, cached: std::ops::Range<usize>| {
                let id = engine.add(Request::new(prompt.clone(), 8)).unwrap();
                let answer = finish(engine, &[id]).pop().unwrap();
                let mut session = Session::new(model.clone(), OPTIONS).unwrap();
                let (tokens, _) =
                    common::answers::write(&mut session, &prompt, &Sampling::default(), 8);
                let n = answer.stats.cached_n;
                assert!(cached.contains(&n), "{about}: {n} of {} were cached", prompt.len());
                let tokens = &tokens[prompt.len()..];
                assert!(tokens.starts_with(&answer.tokens), "{about}");
            };
            // One request is being written; the second begins as it does and gets its prefix.
            let first = Request { prompt: with(&[1, 2, 3]), ..endless(Vec::new(), 30) };
            let first = engine.add(first).unwrap();
            while engine.stop(first).is_none() && engine.stats(first).unwrap().predicted_n < 3 {
                engine.step(&mut |_, _| {}).unwrap();
            }
            check(&mut engine, with(&[7, 8]), 90..101);
            engine.remove(first);
            // Two others take both slots; then it is known only if it was kept.
            for seed in [5, 6] {
                let other = sequence(120, N_VOCAB, seed);
                check(&mut engine, other, 0..4);
            }
            // A model with windows can go back to where the second request's own part began.
            check(&mut engine, with(&[9]), if bytes > 0 { 90..101 } else { 0..4 });
        }
    }
}
