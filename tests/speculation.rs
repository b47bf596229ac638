//! The law for speculation: with any drafter the text is that of plain decoding, token by token.

mod common;

use common::alone::Alone;
use common::answers::{greedy, warm, write};
use common::bits::{sequence, tiny_models};
use common::random::Random;
use common::{load, real_model};
use dovetail::draft::{self, DRAFTERS, DraftJob, Drafter, FileFrom, NGram, RoundContext};
use dovetail::infer::Outputs;
use dovetail::sample::Sampler;
use dovetail::speculate::{SpecSampling, Speculation};
use dovetail::tree::{Tree, TreeShape};
use dovetail::{Error, Model, Result, Sampling, Session, SessionOptions, Stop};
use std::sync::Arc;

/// Knows the text and tells it with some mistakes, or with nothing but mistakes.
struct Oracle {
    text: Vec<u32>,
    n_vocab: usize,
    /// Of a hundred draft tokens so many are right.
    right: usize,
    random: Random,
}

impl Drafter for Oracle {
    fn expand_one(&mut self, job: &mut DraftJob, _: &mut RoundContext) -> Result<()> {
        let (growth, tokens) = (job.tree.shape(), job.tokens);
        assert_eq!(tokens, &self.text[..tokens.len()], "the drafter is told the sequence");
        let tree = job.tree.tree_mut();
        let (mut node, mut on_the_way) = (0, true);
        for depth in 0..growth.depth {
            let truth = self.text.get(tokens.len() + depth).copied();
            let lie = self.random.below(self.n_vocab) as u32;
            for _ in 1..growth.width {
                tree.push(node, self.random.below(self.n_vocab) as u32, -3.0);
            }
            let right = on_the_way && self.random.below(100) < self.right;
            on_the_way &= right;
            let token = truth.filter(|_| right).unwrap_or(lie);
            let Some(child) = tree.push(node, token, -0.1) else { break };
            node = child;
        }
        job.tree.prune();
        Ok(())
    }
}

/// Works for some rounds and then fails.
struct Failing {
    rounds: usize,
    how: fn(&mut Tree) -> Result<()>,
}

impl Drafter for Failing {
    fn expand_one(&mut self, job: &mut DraftJob, _: &mut RoundContext) -> Result<()> {
        let tree = job.tree.tree_mut();
        if self.rounds == 0 {
            return (self.how)(tree);
        }
        self.rounds -= 1;
        tree.push(0, 1, -1.0);
        Ok(())
    }
}

fn session(model: &Arc<Model>, threads: usize, n_ctx: usize) -> Session {
    let options = SessionOptions { threads, n_ctx, n_ubatch: 64, ..SessionOptions::default() };
    Session::new(model.clone(), options).unwrap()
}

fn check_texts(model: &Arc<Model>, prompt_len: usize, n: usize, growths: &[&str], name: &str) {
    let n_vocab = model.config().n_vocab;
    let prompt = sequence(prompt_len, n_vocab, 4);
    for how in [greedy(), warm(1)] {
        let expected = write(&mut session(model, 1, 256), &prompt, &how, n);
        for (i, growth) in growths.iter().enumerate() {
            let growth: TreeShape = growth.parse().unwrap();
            let oracle = |right| {
                let (text, random) = (expected.0.clone(), Random(i as u64));
                Box::new(Oracle { text, n_vocab, right, random }) as Box<dyn Drafter>
            };
            let mut drafters = vec![oracle(100), oracle(70), oracle(0)];
            // Those that need a file have tests of their own.
            let setup = session(model, 1, 256);
            let rows = DRAFTERS.iter().filter(|row| row.file == FileFrom::Nowhere);
            drafters.extend(rows.map(|row| (row.open)(&setup.setup(None)).unwrap()));
            for (d, drafter) in drafters.into_iter().enumerate() {
                let mut s = session(model, 1 + d % 2, 256);
                s.speculate(Some(Speculation::new(drafter, growth))).unwrap();
                let about = format!("{name}, {growth}, drafter {d}, {how:?}");
                assert_eq!(write(&mut s, &prompt, &how, n), expected, "{about}");
                assert_eq!(s.stats().predicted_n, n);
                assert!(s.take_drafter_error().is_none());
                let rounds = s.rounds().unwrap().clone();
                // The first token comes from the prompt's logits.
                assert_eq!(rounds.rounds + rounds.accepted, n - 1, "{about}");
                assert_eq!(rounds.depths.iter().map(|(_, n)| n).sum::<usize>(), rounds.accepted);
                if d == 0 {
                    let least = (n - 1).div_ceil(growth.depth + 1);
                    assert_eq!(rounds.rounds, least, "{about}: a perfect drafter");
                    assert!(rounds.mean_acceptance_length() > 1.5);
                }
                // The same session once more, and plainly after that.
                assert_eq!(write(&mut s, &prompt, &how, n), expected, "{about}, again");
                s.speculate(None).unwrap();
                assert_eq!(write(&mut s, &prompt, &how, n), expected, "{about}, plainly");
            }
        }
    }
}

#[test]
fn the_text_is_that_of_plain_decoding() {
    let growths = ["chain:1", "chain:5", "beam:3,2,6", "beam:7,5,33", "chain:63"];
    for (tiny, model) in tiny_models() {
        check_texts(&model, 40, 24, &growths, tiny.name);
    }
}

#[test]
fn the_text_of_the_real_model_is_that_of_plain_decoding() {
    let Some(path) = real_model() else { return };
    check_texts(
        &Arc::new(load(&path).unwrap()),
        24,
        16,
        &["chain:3", "beam:4,3,12"],
        "the real model",
    );
}

/// Rule B on the real model with its own drafter: how often each text of three tokens comes out, against
/// its probability.
#[test]
fn rejection_keeps_the_real_models_distribution() {
    const DRAFTER: &str = "models/SmolLM2-135M-Instruct.small.dgf.gguf";
    const TEXTS: usize = 400;
    let Some(path) = real_model() else { return };
    let model = Arc::new(load(&path).unwrap());
    let how =
        Sampling { temperature: 1.0, top_k: 3, top_p: 1.0, min_p: 0.0, ..Sampling::default() };
    let prompt = model.tokenizer().encode("The old man walked into the", true, true).unwrap();
    let mut target = Alone::new(model.clone(), 64, 2, 16);
    let mut sampler = Sampler::new(how.clone());
    let mut texts: Vec<(Vec<u32>, f64)> = vec![(prompt.clone(), 1.0)];
    for _ in 0..3 {
        let mut longer = Vec::new();
        for (text, probability) in texts {
            target.truncate(0);
            target.append(&text, Outputs::Last).unwrap();
            let next = sampler.distribution(target.logits(0), &text);
            for token in (0..model.config().n_vocab as u32).filter(|token| next.of(*token) > 0.0) {
                longer.push(([&text[..], &[token]].concat(), probability * next.of(token)));
            }
        }
        texts = longer;
    }
    for growth in ["chain:2", "beam:2,3,9"] {
        let mut s = session(&model, 2, 64);
        let kind = draft::kind("dgf").unwrap();
        let drafter = (kind.open)(&s.setup(Some(DRAFTER.as_ref()))).unwrap();
        let speculation = Speculation::new(drafter, growth.parse().unwrap());
        s.speculate(Some(speculation.with_sampling(SpecSampling::Rejection))).unwrap();
        let mut counts = vec![0.0; texts.len()];
        let (mut drafted, mut accepted) = (0, 0);
        for seed in 0..TEXTS as u64 {
            let (text, _) = write(&mut s, &prompt, &Sampling { seed, ..how.clone() }, 3);
            let known = texts.iter().position(|(known, _)| *known == text);
            counts[known.expect("a text that is possible")] += 1.0;
            drafted += s.rounds().unwrap().drafted;
            accepted += s.rounds().unwrap().accepted;
        }
        assert!(accepted > TEXTS / 4 && drafted > accepted + TEXTS / 8, "{accepted} of {drafted}");
        // Pearson's statistic, the rare texts in one class.
        let (mut sum, mut classes, mut rare) = (0.0, 0, (0.0, 0.0));
        for ((_, probability), count) in texts.iter().zip(counts) {
            let expected = probability * TEXTS as f64;
            if expected < 5.0 {
                rare = (rare.0 + expected, rare.1 + count);
                continue;
            }
            sum += (count - expected).powi(2) / expected;
            classes += 1;
        }
        sum += (rare.1 - rare.0).powi(2) / rare.0.max(1.0);
        // Beyond this, once in a million: 5.2 deviations of a chi-square of so many classes.
        let limit = f64::from(classes) + 5.2 * (2.0 * f64::from(classes)).sqrt() + 9.0;
        assert!(sum < limit, "{growth}: {sum:.1}, {classes} classes");
    }
}

#[test]
fn a_drafter_that_fails_is_given_up_and_the_text_goes_on() {
    let (_, model) = tiny_models().next().unwrap();
    let prompt = sequence(20, model.config().n_vocab, 3);
    let expected = write(&mut session(&model, 1, 256), &prompt, &warm(2), 30);
    let fails: fn(&mut Tree) -> Result<()> = |_| Err(Error::Invalid("out of order".into()));
    let foreign: fn(&mut Tree) -> Result<()> = |tree| {
        tree.push(0, u32::MAX, 0.0);
        Ok(())
    };
    for (how, message) in [(fails, "out of order"), (foreign, "it drafts token 4294967295")] {
        for rounds in [0, 1, 5] {
            let mut s = session(&model, 2, 256);
            let growth = "chain:3".parse().unwrap();
            s.speculate(Some(Speculation::new(Box::new(Failing { rounds, how }), growth))).unwrap();
            assert_eq!(write(&mut s, &prompt, &warm(2), 30), expected);
            let drafted = s.rounds().expect("what it did before is not forgotten").drafted;
            assert_eq!(drafted, rounds);
            let error = s.take_drafter_error().expect("it is said").to_string();
            assert!(error.starts_with(message), "{error}");
            assert!(s.take_drafter_error().is_none(), "once");
        }
    }
}

#[test]
fn the_context_ends_where_it_does_without_a_drafter() {
    let (_, model) = tiny_models().next().unwrap();
    let n_vocab = model.config().n_vocab;
    for len in [30, 35, 36] {
        let prompt = sequence(len, n_vocab, 1);
        for n in [1, 2, 5, 100] {
            let mut plain = session(&model, 1, 37);
            let expected = write(&mut plain, &prompt, &greedy(), n);
            for growth in ["chain:1", "chain:8", "beam:6,3,20"] {
                let mut s = session(&model, 2, 37);
                let mut text = expected.0.clone();
                text.resize(80, 0);
                let oracle = Oracle { text, n_vocab, right: 100, random: Random(1) };
                s.speculate(Some(Speculation::new(Box::new(oracle), growth.parse().unwrap())))
                    .unwrap();
                assert_eq!(write(&mut s, &prompt, &greedy(), n), expected, "{len}, {n}, {growth}");
                assert_eq!(s.stop(), plain.stop());
            }
        }
    }
}

#[test]
fn an_answer_taken_in_parts_or_ended_is_the_plain_one() {
    let (_, model) = tiny_models().next().unwrap();
    let n_vocab = model.config().n_vocab;
    let mut ended = 0;
    for seed in 0..20 {
        let how = Sampling { temperature: 2.0, top_k: 0, presence_penalty: 3.0, ..warm(seed) };
        let run = |s: &mut Session| {
            s.prompt(&[5, 6, 7], &mut |_, _| true).unwrap();
            // The caller stops taking in the middle of a round, and asks for something else.
            assert_eq!(s.generate(&how, 50).ignore_end().take(3).count(), 3);
            assert!(s.generate(&warm(seed), 4).ignore_end().all(|piece| piece.is_ok()));
            assert!(s.generate(&how, 200).all(|piece| piece.is_ok()));
            let (tokens, stop) = (s.tokens().to_vec(), s.stop());
            assert!(s.generate(&how, 10).ignore_end().all(|piece| piece.is_ok()));
            (tokens, stop, s.tokens().to_vec())
        };
        let expected = run(&mut session(&model, 1, 256));
        ended += usize::from(matches!(expected.1, Some(Stop::End(_))));
        let mut text = expected.2.clone();
        text.resize(400, 0);
        // It drafts what comes in the end; the middle is drawn otherwise.
        for drafter in [Box::new(NGram) as Box<dyn Drafter>, Box::new(Stubborn(text))] {
            let mut s = session(&model, 2, 256);
            s.speculate(Some(Speculation::new(drafter, "chain:6".parse().unwrap()))).unwrap();
            assert_eq!(run(&mut s), expected, "seed {seed}");
        }
        assert!(expected.2.iter().all(|token| (*token as usize) < n_vocab));
    }
    assert!(ended > 3, "only {ended} answers ended");
}

/// Drafts the same text whatever the sequence is.
struct Stubborn(Vec<u32>);

impl Drafter for Stubborn {
    fn expand_one(&mut self, job: &mut DraftJob, _: &mut RoundContext) -> Result<()> {
        let (depth, tokens) = (job.tree.shape().depth, job.tokens);
        let mut node = 0;
        for token in self.0[tokens.len()..].iter().take(depth) {
            node = job.tree.tree_mut().push(node, *token, -0.1).expect("room for a chain");
        }
        Ok(())
    }
}
