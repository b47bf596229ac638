//! Sizes of trees that a planner chooses: the text does not show them, whatever costs it believes in; and what is
//! measured and counted is kept.

mod common;

use common::answers::{greedy, warm, write};
use common::bits::{sequence, tiny_models};
use common::drafter::SHAPES;
use common::random::Random;
use common::{open_drafter, tiny};
use dovetail::draft::{DraftJob, DraftState, Drafter, NGram, RoundContext};
use dovetail::planner::LARGEST;
use dovetail::planner::Planner;
use dovetail::planner::acceptance::ByTemperature;
use dovetail::planner::cost::{Costs, Curve, DraftCost, Table, VerifyCost};
use dovetail::speculate::{SpecSampling, Speculation, Store, json};
use dovetail::{
    Drafting, Engine, Error, Generation, Model, Request, Result, Sampling, Session, SessionOptions,
};
use dovetail_kernels::cpu::ThreadPool;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

const POLICIES: [&str; 5] = ["cost", "cast", "cast:0.1,0.1,0.1", "chain:3", "eagle2:16"];

fn options() -> SessionOptions {
    SessionOptions { n_ctx: 200, threads: 2, n_ubatch: 24, ..SessionOptions::default() }
}

/// Costs of no machine.
fn costs(random: &mut Random) -> Costs {
    let mut curve = |first: usize| {
        let steps =
            (0..random.below(9)).map(|i| (first + 1 + 3 * i, 1e-5 * (1 + random.below(50)) as f64));
        Curve::new(
            &[(first, 1e-5)].into_iter().chain(steps.collect::<Vec<_>>()).collect::<Vec<_>>(),
        )
    };
    let mut table = |batch: usize| Table { batch, context: 0, curve: curve(batch).unwrap() };
    let verify = VerifyCost::new(vec![table(1), table(4)]).unwrap();
    let level = Curve::new(&[(1, 1e-6 * (1 + random.below(30)) as f64)]).unwrap();
    Costs { verify, draft: DraftCost { first: 1e-6, level } }
}

fn planner(policy: &str, random: &mut Random) -> Planner {
    Planner::new(policy.parse().unwrap(), costs(random), ByTemperature::default())
}

#[test]
fn the_text_does_not_depend_on_what_a_planner_believes() {
    let mut random = Random(5);
    for (t, model) in tiny_models().take(3) {
        let prompt = sequence(20, model.config().n_vocab, 4);
        let mut session = Session::new(model.clone(), options()).unwrap();
        for how in [greedy(), warm(3)] {
            let expected = write(&mut session, &prompt, &how, 60);
            for policy in POLICIES {
                let drafters: [Box<dyn Drafter>; 2] = [
                    Box::new(NGram),
                    open_drafter("dgf", &SHAPES[0].parts(t, &model), &model).unwrap(),
                ];
                for drafter in drafters {
                    session.speculate(Some(Speculation::new(drafter, LARGEST))).unwrap();
                    session.plan(planner(policy, &mut random));
                    for _ in 0..2 {
                        assert_eq!(write(&mut session, &prompt, &how, 60), expected, "{policy}");
                    }
                    let rounds = session.rounds().unwrap().clone();
                    let report = session.planner().report();
                    // The first token comes of the prompt.
                    assert_eq!(report.tokens, 59);
                    assert_eq!(report.nodes.iter().sum::<usize>(), rounds.rounds);
                    let nodes =
                        report.nodes.iter().enumerate().map(|(n, times)| n * times).sum::<usize>();
                    assert_eq!(nodes, rounds.rounds + rounds.drafted);
                    session.speculate(None).unwrap();
                    session.plan(Planner::default());
                }
            }
        }
    }
}

#[test]
fn nor_do_the_texts_of_several_sequences() {
    let mut random = Random(6);
    let (t, model) = tiny_models().next().unwrap();
    let parts = SHAPES[0].parts(t, &model);
    let n_vocab = model.config().n_vocab;
    let asked = |seed: u64| -> (Vec<u32>, Sampling) {
        let how = if seed.is_multiple_of(2) { greedy() } else { warm(seed) };
        (sequence(5 + 9 * seed as usize, n_vocab, seed), how)
    };
    for policy in POLICIES {
        // All prompts are read in one pass, so that no round reads beside writing, which reports leave out.
        let sizes = SessionOptions { n_ubatch: 128, ..options() };
        let mut engine = Engine::new(model.clone(), sizes, 5).unwrap();
        engine.plan(planner(policy, &mut random));
        let drafter = open_drafter("dgf", &parts, &model).unwrap();
        engine.add_drafter(Speculation::new(drafter, LARGEST)).unwrap();
        let mut slots = Vec::new();
        for seed in 0..5 {
            let (prompt, sampling) = asked(seed);
            // One has no drafter.
            let drafting = if seed == 3 { Drafting::Off } else { Drafting::Auto };
            let generation = Generation {
                sampling,
                n_predict: 40,
                ignore_end: true,
                drafting,
                ..Generation::default()
            };
            let request = Request { prompt, generation, drafter: None };
            slots.push(engine.add(request).unwrap());
        }
        while engine.step(&mut |_, _| {}).unwrap() {}
        let report = engine.planner().report().clone();
        assert_eq!(report.tokens, 5 * 39);
        for (seed, slot) in (0..).zip(slots) {
            let (prompt, how) = asked(seed);
            let mut session = Session::new(model.clone(), options()).unwrap();
            let (tokens, _) = write(&mut session, &prompt, &how, 40);
            assert_eq!(
                engine.remove(slot).unwrap().tokens,
                tokens[prompt.len()..],
                "{policy}, {seed}"
            );
        }
    }
}

#[test]
fn sampled_draft_tokens_are_not_cut() {
    let (t, model) = tiny_models().next().unwrap();
    let prompt = sequence(20, model.config().n_vocab, 4);
    let answer = |planned: bool| {
        let mut session = Session::new(model.clone(), options()).unwrap();
        let drafter = open_drafter("dgf", &SHAPES[0].parts(t, &model), &model).unwrap();
        let speculation = Speculation::new(drafter, "beam:3,2,7".parse().unwrap());
        session.speculate(Some(speculation.with_sampling(SpecSampling::Rejection))).unwrap();
        if planned {
            session.plan(planner("cost", &mut Random(7)));
        }
        let text = write(&mut session, &prompt, &Sampling { temperature: 1.5, ..warm(9) }, 60);
        (text, session.rounds().unwrap().drafted)
    };
    assert_eq!(answer(true), answer(false));
}

/// Is sure of what is never right, and counts how often it is asked and how far it has to catch up at most.
struct Wrong {
    asked: Arc<AtomicUsize>,
    waiting: usize,
    most: Arc<AtomicUsize>,
}

impl Drafter for Wrong {
    fn commit(
        &mut self,
        _: &mut DraftState,
        _: usize,
        tokens: &[u32],
        _: &mut dyn Iterator<Item = &[f32]>,
        _: &mut ThreadPool,
    ) -> Result<()> {
        self.waiting += tokens.len();
        self.most.fetch_max(self.waiting, Relaxed);
        Ok(())
    }

    fn skip_to_last(&mut self, _: &mut DraftState, n: usize) {
        self.waiting = self.waiting.min(n);
    }

    fn expand_one(&mut self, job: &mut DraftJob, _: &mut RoundContext) -> Result<()> {
        self.asked.fetch_add(1, Relaxed);
        assert!(self.waiting <= 20, "no more than the prompt or the last 16");
        self.waiting = 0;
        // No text of these models repeats one token.
        let tree = job.tree.tree_mut();
        let root = tree.tokens()[0];
        tree.push(0, root, -0.05);
        job.tree.prune();
        Ok(())
    }
}

/// Fails while its first tree grows.
struct Failing;

impl Drafter for Failing {
    fn expand_one(&mut self, _: &mut DraftJob, _: &mut RoundContext) -> Result<()> {
        Err(Error::Invalid("no".into()))
    }
}

#[test]
fn a_drafter_that_fails_at_once_is_given_up() {
    let (_, model) = tiny_models().next().unwrap();
    let prompt = sequence(20, model.config().n_vocab, 4);
    let mut session = Session::new(model.clone(), options()).unwrap();
    let expected = write(&mut session, &prompt, &greedy(), 20);
    session.speculate(Some(Speculation::new(Box::new(Failing), LARGEST))).unwrap();
    session.plan(planner("cost", &mut Random(8)));
    assert_eq!(write(&mut session, &prompt, &greedy(), 20), expected);
    assert!(session.take_drafter_error().unwrap().to_string().contains("no"));
}

#[test]
fn a_drafter_that_is_never_right_is_hardly_asked() {
    let (_, model) = tiny_models().next().unwrap();
    let options = SessionOptions { n_ctx: 1000, ..options() };
    let mut session = Session::new(model.clone(), options).unwrap();
    let counts: [Arc<AtomicUsize>; 2] = Default::default();
    let [asked, most] = counts.clone();
    let drafter = Box::new(Wrong { asked, waiting: 0, most });
    session.speculate(Some(Speculation::new(drafter, LARGEST))).unwrap();
    let curve = Curve::new(&[(1, 1.0), (2, 1.3), (64, 20.0)]).unwrap();
    let verify =
        VerifyCost::new(vec![Table { batch: 1, context: 0, curve: curve.clone() }]).unwrap();
    let draft = DraftCost { first: 0.05, level: Curve::new(&[(1, 0.05)]).unwrap() };
    let costs = Costs { verify, draft };
    session.plan(Planner::new("cost".parse().unwrap(), costs, ByTemperature::default()));
    let prompt = sequence(20, model.config().n_vocab, 4);
    write(&mut session, &prompt, &greedy(), 900);
    let [asked, most] = counts.map(|count| count.load(Relaxed));
    assert!((10..90).contains(&asked), "{asked}");
    assert!((20..=36).contains(&most), "{most} positions wait");
    let report = session.planner().report();
    assert!(report.paused > 700 && report.nodes[1] > 800, "{report:?}");
}

#[test]
fn what_is_measured_is_kept_and_found() {
    let model: Arc<Model> = Arc::new(tiny::tiny("f32").parts().load().unwrap());
    let folder = tempfile::tempdir().unwrap();
    let mut session = Session::new(model.clone(), options()).unwrap();
    let measure = |session: &mut Session, anew: bool, goes_on: bool| {
        let mut told = Vec::new();
        let mut progress = |part: f64| {
            told.push(part);
            goes_on
        };
        // A busy machine: what is kept is used, whether or not it is in doubt.
        let calibrator = session.calibrator(&mut progress).with_idle_test(|_| false);
        let calibrator = calibrator.with_store(Store::at(folder.path().to_owned()));
        let mut calibrator = if anew { calibrator.ignore_kept() } else { calibrator };
        let costs = calibrator.costs(2, &mut NGram, "ngram").unwrap();
        (costs, told)
    };
    let (none, told) = measure(&mut session, false, false);
    assert!(none.is_none() && told.len() == 1, "it ends when it is told to");
    let (first, told) = measure(&mut session, false, true);
    let first = first.unwrap();
    assert!(told.len() > 10 && told.iter().all(|part| (0.0..=1.0).contains(part)));
    let batches: Vec<_> = first.verify.tables().iter().map(|table| table.batch).collect();
    assert_eq!(batches, [1, 1, 2], "behind two contexts, and of two");
    let (again, told) = measure(&mut session, false, true);
    assert!(told.is_empty(), "a second start costs nothing");
    let same = |a: &Costs, b: &Costs| {
        let pair = a.verify.seconds(1, 90, 3) / b.verify.seconds(1, 90, 3);
        (pair - 1.0).abs() < 1e-9 && a.draft.first == b.draft.first
    };
    assert!(same(&again.unwrap(), &first));
    let (anew, _) = measure(&mut session, true, true);
    assert!(!same(&anew.unwrap(), &first));
    // Marked as measured under load they are renewed where the machine is idle, and not before.
    for file in std::fs::read_dir(folder.path()).unwrap() {
        let path = file.unwrap().path();
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::write(path, text.replace("\"version\"", "\"under_load\":1,\"version\"")).unwrap();
    }
    assert!(measure(&mut session, false, true).1.is_empty());
    let mut asked = false;
    let mut progress = |_| {
        asked = true;
        true
    };
    let calibrator = session.calibrator(&mut progress).with_idle_test(|times| times.len() == 5);
    let mut calibrator = calibrator.with_store(Store::at(folder.path().to_owned()));
    assert!(calibrator.costs(2, &mut NGram, "ngram").unwrap().is_some());
    assert_eq!(calibrator.saved_files().len(), 3);
    assert!(asked);
    // Another number of threads is another machine.
    let mut other =
        Session::new(model.clone(), SessionOptions { threads: 1, ..options() }).unwrap();
    assert!(!measure(&mut other, false, true).1.is_empty());
    // What is damaged is measured again.
    for file in std::fs::read_dir(folder.path()).unwrap() {
        std::fs::write(file.unwrap().path(), "{\"version\": 1").unwrap();
    }
    assert!(!measure(&mut session, false, true).1.is_empty());
    assert!(same(&json::costs_from_json(&json::costs_to_json(&first)).unwrap(), &first));
    // A context with next to no room.
    let mut small = Session::new(model.clone(), SessionOptions { n_ctx: 4, ..options() }).unwrap();
    assert!(measure(&mut small, false, true).0.is_some());
    // The session's own sequence is as it was.
    let prompt = sequence(20, model.config().n_vocab, 4);
    let expected = write(&mut session, &prompt, &greedy(), 20);
    measure(&mut session, true, true);
    assert_eq!(write(&mut session, &prompt, &greedy(), 20), expected);
}
