//! What is asked of an answer beside its length: stop strings, log-probabilities, bias, and when drafts are made. Drafts
//! do not show in any of it.

mod common;

use common::answers::{generation, greedy, warm};
use common::bits::{sequence, tiny_models};
use common::{load, real_model};
use dovetail::draft::NGram;
use dovetail::speculate::Speculation;
use dovetail::{Drafting, Engine, Generation, Model, Piece, Request, Sampling, Session};
use dovetail::{SessionOptions, Stop};
use std::sync::Arc;

fn session(model: &Arc<Model>, drafts: bool) -> Session {
    let options = SessionOptions { n_ctx: 256, threads: 2, n_ubatch: 32, ..Default::default() };
    let mut session = Session::new(model.clone(), options).unwrap();
    let speculation = Speculation::new(Box::new(NGram), "chain:5".parse().unwrap());
    session.speculate(drafts.then_some(speculation)).unwrap();
    session
}

/// The pieces of an answer, and why it ended.
fn answer(session: &mut Session, prompt: &[u32], what: &Generation) -> (Vec<Piece>, Option<Stop>) {
    session.prompt(prompt, &mut |_, _| true).unwrap();
    session.begin(what.clone()).unwrap();
    let mut pieces = Vec::new();
    while let Some(piece) = session.next_piece().unwrap() {
        // That a drafter proposed it may show here alone.
        pieces.push(Piece { drafted: false, ..piece });
    }
    (pieces, session.stop())
}

fn text(pieces: &[Piece]) -> String {
    pieces.iter().map(|piece| &piece.text[..]).collect()
}

#[test]
fn a_stop_string_ends_the_answer_wherever_its_tokens_are_cut() {
    let Some(path) = real_model() else { return };
    let model = Arc::new(load(&path).unwrap());
    let prompt = model.tokenizer().encode("Count: one, two, three,", true, false).unwrap();
    let whole = text(&answer(&mut session(&model, false), &prompt, &generation(&greedy(), 24)).0);
    let characters: Vec<usize> = whole.char_indices().map(|(at, _)| at).collect();
    for (i, &at) in characters.iter().enumerate().skip(3).step_by(5) {
        let Some(&end) = characters.get(i + 7) else { break };
        let stop = &whole[at..end];
        let before = &whole[..whole.find(stop).unwrap()];
        for drafts in [false, true] {
            let stop = vec!["never comes".into(), stop.to_owned()];
            let what = Generation { stop, ..generation(&greedy(), 24) };
            let (pieces, why) = answer(&mut session(&model, drafts), &prompt, &what);
            assert_eq!((text(&pieces).as_str(), why), (before, Some(Stop::Text(1))));
        }
    }
    // What could have been the beginning of one is handed out at the end.
    let last = whole.chars().last().unwrap();
    let what = Generation { stop: vec![format!("{last}!?")], ..generation(&greedy(), 24) };
    let (pieces, why) = answer(&mut session(&model, false), &prompt, &what);
    assert_eq!((text(&pieces), why), (whole, Some(Stop::Length)));
    assert!(pieces.last().unwrap().token.is_none());
}

#[test]
fn a_control_token_that_is_named_ends_the_answer() {
    let Some(path) = real_model() else { return };
    let model = Arc::new(load(&path).unwrap());
    let start = model.tokenizer().encode("<|im_start|>", false, true).unwrap()[0];
    let prompt = model.tokenizer().encode("Hello", true, false).unwrap();
    // Nothing else can come.
    let sampling = Sampling { logit_bias: vec![(start, f32::INFINITY)], ..greedy() };
    let what = Generation {
        stop: vec!["never".into(), "<|im_start|>".into()],
        ..generation(&sampling, 9)
    };
    let (pieces, why) = answer(&mut session(&model, true), &prompt, &what);
    assert_eq!((pieces.len(), why), (0, Some(Stop::Text(1))));
    let (pieces, _) = answer(&mut session(&model, true), &prompt, &generation(&sampling, 9));
    assert!(pieces.len() == 9 && pieces.iter().all(|piece| piece.token == Some(start)));
}

#[test]
fn pieces_say_how_likely_their_tokens_were() {
    for (_, model) in tiny_models().take(2) {
        let prompt = sequence(20, model.config().n_vocab, 4);
        let what = Generation { logprobs: Some(3), ..generation(&warm(3), 30) };
        let (plain, _) = answer(&mut session(&model, false), &prompt, &what);
        let (drafted, _) = answer(&mut session(&model, true), &prompt, &what);
        assert_eq!(plain, drafted);
        let mut target = session(&model, false);
        let mut tokens = prompt;
        for piece in plain {
            // The rest of a character that is cut off is no token.
            let Some(token) = piece.token else { continue };
            let logprobs = piece.logprobs.unwrap();
            let mut all: Vec<(u32, f64)> = (0..).zip(logits(&mut target, &tokens)).collect();
            let sum: f64 = all.iter().map(|(_, logit)| logit.exp()).sum();
            let logprob = |logit: f64| logit - sum.ln();
            assert!((f64::from(logprobs.logprob) - logprob(all[token as usize].1)).abs() < 1e-5);
            all.sort_by(|a, b| b.1.total_cmp(&a.1));
            assert_eq!(logprobs.top.len(), 3);
            for (found, expected) in logprobs.top.iter().zip(all) {
                assert_eq!(found.0, expected.0);
                assert!((f64::from(found.1) - logprob(expected.1)).abs() < 1e-5);
            }
            tokens.push(token);
        }
    }
}

/// The logits behind these tokens.
fn logits(session: &mut Session, tokens: &[u32]) -> Vec<f64> {
    let target = session.target();
    let mut sequence = target.sequence(Default::default()).unwrap();
    target.append(&mut sequence, tokens, dovetail::infer::Outputs::Last).unwrap();
    let mut row = Vec::new();
    target.logits(0).copy_to(&mut row);
    row.into_iter().map(f64::from).collect()
}

#[test]
fn bias_forbids_and_favours_tokens() {
    let (_, model) = tiny_models().next().unwrap();
    let prompt = sequence(20, model.config().n_vocab, 4);
    for how in [greedy(), warm(5)] {
        let (plain, _) = answer(&mut session(&model, false), &prompt, &generation(&how, 40));
        let first = plain[0].token.unwrap();
        let biased = |bias: f32| Sampling { logit_bias: vec![(first, bias)], ..how.clone() };
        for drafts in [false, true] {
            let run = |how: &Sampling| {
                answer(&mut session(&model, drafts), &prompt, &generation(how, 40)).0
            };
            let without = run(&biased(f32::NEG_INFINITY));
            assert!(without.iter().all(|piece| piece.token != Some(first)));
            assert!(run(&biased(1e9)).iter().all(|piece| piece.token == Some(first)));
            assert_eq!(run(&biased(0.0)), plain, "a bias of nothing is none");
        }
    }
    let wrong = Sampling { logit_bias: vec![(1, f32::NAN)], ..greedy() };
    let mut session = session(&model, false);
    session.prompt(&prompt, &mut |_, _| true).unwrap();
    assert!(session.begin(generation(&wrong, 3)).is_err());
    assert!(session.generate(&wrong, 3).next().unwrap().is_err());
    assert!(session.generate(&greedy(), 3).next().unwrap().is_ok());
}

/// As llama.cpp does it: the model says something else.
#[test]
fn an_end_that_is_ignored_is_forbidden() {
    let (_, model) = tiny_models().next().unwrap();
    let ends: Vec<u32> = model.tokenizer().ends_of_generation().collect();
    let prompt = sequence(20, model.config().n_vocab, 4);
    // Nothing else would come.
    let logit_bias: Vec<_> = ends.iter().map(|end| (*end, 1e9)).collect();
    for how in [greedy(), warm(5)] {
        let logit_bias = logit_bias.clone();
        let how = Sampling { logit_bias, top_k: 0, top_p: 1.0, min_p: 0.0, ..how };
        for drafts in [false, true] {
            let mut session = session(&model, drafts);
            let what = Generation { ignore_end: false, ..generation(&how, 20) };
            let (pieces, why) = answer(&mut session, &prompt, &what);
            assert!(pieces.is_empty() && matches!(why, Some(Stop::End(_))), "{why:?}");
            let (pieces, why) = answer(&mut session, &prompt, &generation(&how, 20));
            let tokens: Vec<u32> = pieces.iter().filter_map(|piece| piece.token).collect();
            assert_eq!((tokens.len(), why), (20, Some(Stop::Length)));
            assert!(tokens.iter().all(|token| !ends.contains(token)), "{tokens:?}");
            session.prompt(&prompt, &mut |_, _| true).unwrap();
            let same = session.generate(&how, 20).ignore_end();
            let same: Vec<u32> = same.filter_map(|piece| piece.unwrap().token).collect();
            assert_eq!(same, tokens);
        }
    }
}

#[test]
fn drafting_is_switched_for_each_request() {
    let (_, model) = tiny_models().next().unwrap();
    let options = SessionOptions { n_ctx: 256, threads: 2, n_ubatch: 32, ..Default::default() };
    let mut engine = Engine::new(model.clone(), options, 2).unwrap();
    let speculation = Speculation::new(Box::new(NGram), "chain:5".parse().unwrap());
    engine.add_drafter(speculation).unwrap();
    let prompt = [&[7, 8, 9][..]; 6].concat();
    let mut tokens = Vec::new();
    for drafting in [Drafting::Off, Drafting::On, Drafting::Auto, Drafting::Off] {
        let mut request = Request::new(prompt.clone(), 40);
        (request.generation.drafting, request.generation.ignore_end) = (drafting, true);
        let id = engine.add(request).unwrap();
        while engine.step(&mut |_, _| {}).unwrap() {}
        let answer = engine.remove(id).unwrap();
        let drafted = answer.rounds.map_or(0, |rounds| rounds.drafted);
        assert_eq!(drafted > 0, drafting != Drafting::Off, "{drafting:?}");
        tokens.push(answer.tokens);
    }
    assert!(tokens.iter().all(|other| *other == tokens[0]));
}
