//! Sessions whose engines step together: each text is the one that the session writes alone, with any drafter, and
//! alone again afterwards.

mod common;

use common::answers::{generation, greedy, warm};
use common::bits::sequence;
use common::drafter::SHAPES;
use common::open_drafter;
use common::tiny::{N_VOCAB, tiny};
use dovetail::draft::{self, Drafter, DrafterContext, NGram, Placement};
use dovetail::engine::step_together;
use dovetail::infer::CacheTypes;
use dovetail::speculate::{SpecSampling, Speculation};
use dovetail::{Error, Model, Piece, Result, Sampling, Session, SessionOptions};
use std::sync::Arc;

/// One step of these; `take` gets the pieces, with the place of the session.
fn step(sessions: &mut [&mut Session], take: &mut dyn FnMut(usize, Piece)) -> Result<bool> {
    let mut engines: Vec<_> = sessions.iter_mut().map(|session| session.engine()).collect();
    step_together(&mut engines, &mut |i, _, piece| take(i, piece))
}

fn session(model: &Arc<Model>, n_ctx: usize, n_ubatch: usize) -> Session {
    with_threads(model, n_ctx, n_ubatch, 2)
}

fn with_threads(model: &Arc<Model>, n_ctx: usize, n_ubatch: usize, threads: usize) -> Session {
    let cache = CacheTypes::default();
    Session::new(model.clone(), SessionOptions { n_ctx, threads, n_ubatch, cache }).unwrap()
}

/// What each session is asked: a prompt, how it draws, how many tokens, and the steps that it sits out.
fn asked() -> Vec<(Vec<u32>, Sampling, usize, usize)> {
    let prompt = |n: usize| sequence(n, N_VOCAB, n as u64);
    vec![
        (prompt(5), greedy(), 40, 0),
        (prompt(70), warm(1), 33, 0),
        (prompt(1), warm(2), 3, 1),
        (prompt(26), Sampling { temperature: 2.0, ..warm(3) }, 40, 4),
        (prompt(33), greedy(), 25, 2),
    ]
}

#[test]
fn each_text_is_the_one_that_is_written_alone() {
    let t = tiny("q4_K");
    let model = Arc::new(t.parts().load().unwrap());
    let file = SHAPES[0].parts(t, &model).write();
    let n_ctx = |i: usize| [200, 300, 250][i % 3];
    for drafters in [0, 1, 2, 3] {
        let speculation = |i: usize| {
            let drafter: Box<dyn Drafter> = match (i + drafters) % 4 {
                _ if drafters == 0 => return None,
                0 => Box::new(NGram),
                3 => return None,
                // All share its weights: a level of all is one pass.
                _ => {
                    let (path, placement) = (Some(file.path()), Placement::CPU);
                    let context = DrafterContext {
                        target: &model,
                        n_ctx: n_ctx(i),
                        threads: 2,
                        path,
                        placement,
                    };
                    (draft::kind("dgf").unwrap().open)(&context).unwrap()
                }
            };
            Some(Speculation::new(drafter, "beam:4,3,9".parse().unwrap()))
        };
        let asked = asked();
        let expected: Vec<Vec<u32>> = asked
            .iter()
            .map(|(prompt, how, n, _)| {
                let mut alone = session(&model, 300, 24);
                alone.prompt(prompt, &mut |_, _| true).unwrap();
                let pieces = alone.generate(how, n + 9).ignore_end();
                pieces.filter_map(|piece| piece.unwrap().token).collect()
            })
            .collect();
        let mut sessions: Vec<Session> = asked
            .iter()
            .enumerate()
            .map(|(i, (prompt, how, n, _))| {
                // The drafters are made for two threads; the pass is that of the second session.
                let mut session = with_threads(&model, n_ctx(i), 24, [1, 4, 2][i % 3]);
                session.speculate(speculation(i)).unwrap();
                session.prompt(prompt, &mut |_, _| true).unwrap();
                session.begin(generation(how, *n)).unwrap();
                session
            })
            .collect();
        let mut found = vec![Vec::new(); asked.len()];
        let mut steps = 0;
        loop {
            let late = |i: usize| asked[i].3 > steps;
            let present: Vec<usize> = (0..asked.len()).filter(|i| !late(*i)).collect();
            let mut together: Vec<&mut Session> = sessions
                .iter_mut()
                .enumerate()
                .filter_map(|(i, session)| (!late(i)).then_some(session))
                .collect();
            let goes_on = step(&mut together, &mut |i, piece| {
                found[present[i]].extend(piece.token);
            });
            steps += 1;
            if !goes_on.unwrap() && present.len() == asked.len() {
                break;
            }
        }
        for (i, session) in sessions.iter_mut().enumerate() {
            assert!(session.take_drafter_error().is_none());
            assert_eq!(session.stats().predicted_n, asked[i].2);
            // Alone again.
            session.begin(generation(&asked[i].1, 9)).unwrap();
            while let Some(piece) = session.next_piece().unwrap() {
                found[i].extend(piece.token);
            }
        }
        assert_eq!(found, expected, "drafters {drafters}");
        let drafted = sessions.iter().filter_map(Session::rounds).map(|r| r.drafted).sum::<usize>();
        assert_eq!(drafted > 0, drafters > 0);
    }
}

/// The pass of one that has only read its prompt serves the others: its own answer begins all the same.
#[test]
fn one_that_has_not_begun_loses_nothing() {
    let model = Arc::new(tiny("q4_1").parts().load().unwrap());
    let answer = |with: bool| {
        let mut sessions = [session(&model, 300, 24), session(&model, 200, 24)];
        for (i, session) in sessions.iter_mut().enumerate() {
            session.prompt(&sequence(20, N_VOCAB, i as u64), &mut |_, _| true).unwrap();
        }
        let [first, second] = &mut sessions;
        second.begin(generation(&greedy(), 20)).unwrap();
        while with && step(&mut [first, second], &mut |_, _| {}).unwrap() {}
        first.generate(&greedy(), 20).ignore_end().map(|piece| piece.unwrap().token).collect()
    };
    let expected: Vec<Option<u32>> = answer(false);
    assert_eq!(answer(true), expected);
}

/// A prompt ends what was begun before it.
#[test]
fn a_prompt_is_no_answer() {
    let model = Arc::new(tiny("q4_1").parts().load().unwrap());
    let mut session = session(&model, 300, 24);
    session.prompt(&sequence(20, N_VOCAB, 1), &mut |_, _| true).unwrap();
    session.begin(generation(&greedy(), 20)).unwrap();
    session.next_piece().unwrap();
    session.prompt(&sequence(20, N_VOCAB, 2), &mut |_, _| true).unwrap();
    assert!(session.next_piece().unwrap().is_none());
    assert!(!step(&mut [&mut session], &mut |_, _| panic!("nothing was begun")).unwrap());
}

#[test]
fn what_cannot_share_a_pass_is_refused() {
    let t = tiny("q4_1");
    let model = Arc::new(t.parts().load().unwrap());
    let other = Arc::new(t.parts().load().unwrap());
    let ready = |model: &Arc<Model>, shape: Option<usize>| {
        let mut session = session(model, 100, 24);
        if let Some(shape) = shape {
            let drafter = open_drafter("dgf", &SHAPES[shape].parts(t, model), model).unwrap();
            let growth = "chain:3".parse().unwrap();
            session.speculate(Some(Speculation::new(drafter, growth))).unwrap();
        }
        session.prompt(&[1, 2, 3], &mut |_, _| true).unwrap();
        session.begin(generation(&greedy(), 5)).unwrap();
        session
    };
    let refused = |sessions: &mut [Session], part: &str| {
        let mut together: Vec<&mut Session> = sessions.iter_mut().collect();
        let error: Error = step(&mut together, &mut |_, _| {}).unwrap_err();
        assert!(error.to_string().contains(part), "{error}");
        for session in sessions {
            let tokens = session.generate(&greedy(), 5).ignore_end();
            assert_eq!(tokens.filter_map(|piece| piece.unwrap().token).count(), 5);
        }
    };
    refused(&mut [ready(&model, None), ready(&other, None)], "different models");
    let mut many: Vec<Session> = (0..17).map(|_| ready(&model, None)).collect();
    refused(&mut many, "17 sequences in one step; at most 16 fit");
    // Drafters that learn from different hidden states, and sampled draft tokens, go together.
    let drawn = || {
        let mut session = ready(&model, None);
        let growth = "chain:3".parse().unwrap();
        let speculation = Speculation::new(Box::new(NGram), growth);
        session.speculate(Some(speculation.with_sampling(SpecSampling::Rejection))).unwrap();
        session
    };
    let mut mixed = [ready(&model, Some(0)), ready(&model, Some(3)), drawn()];
    let mut together: Vec<&mut Session> = mixed.iter_mut().collect();
    while step(&mut together, &mut |_, _| {}).unwrap() {}
    for session in &mixed {
        assert_eq!(session.tokens(), mixed[0].tokens());
        assert!(session.rounds().is_some());
    }
    assert!(!step(&mut [], &mut |_, _| {}).unwrap());
}
