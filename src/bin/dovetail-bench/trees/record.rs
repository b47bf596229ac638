//! Records large trees at every position of answers.
//!
//! Answers are decoded plainly: the drafter grows a tree before each token, but none of it is verified. The file has a
//! JSON object on each line. The first one describes the run:
//!
//! ```text
//! {"version":1, "drafter":…, "model":…, "temperature":…, "seed":…}
//! ```
//!
//! The others describe one answer each:
//!
//! ```text
//! {"category":…, "prompt_tokens":n, "tokens":[…], "trees":[{"parents":[…], "tokens":[…], "log_probs":[…]}, …]}
//! ```
//!
//! `tokens` is the answer, including the token that ended it, if any. `trees[i]` was grown after `tokens[i]`, which is
//! its root; the last token has no tree. A tree's arrays leave out the root, so the first entry is node 1. Parents are
//! node numbers, 0 for the root. Log probabilities are those of the whole path, by the drafter. A node of depth `d` is
//! right if its path is `tokens[i + 1..i + 1 + d]`.

use crate::output;
use crate::prompt_options::{Progress, Prompt, PromptOptions, answer, no_drafter};
use dovetail::draft::{CandidateSelector, DraftJob, DraftState, Drafter, RoundContext};
use dovetail::planner::{Planner, Policy, TreeLimits};
use dovetail::speculate::{SpecSampling, Speculation};
use dovetail::temp_file::{Access, TempFile};
use dovetail::tree::{GrowingTree, Tree, TreeShape};
use dovetail::{Error, Result, Sampling, Session, Stop};
use dovetail_kernels::cpu::ThreadPool;
use serde_json::{Value, json};
use std::io::{BufWriter, Write};
use std::path::Path;
use std::sync::mpsc::{Receiver, Sender, channel};

/// The flag of the file.
const RECORD: &str = "--record";

/// The default tree.
const GROWTH: TreeShape = TreeShape { depth: 7, width: 10, nodes: 64 };

/// The tree that decoding asks for, not the one that is grown: with no draft tokens the drafter would not be called.
const ASKED: TreeShape = TreeShape { depth: 1, width: 1, nodes: 2 };

/// Answers every prompt and writes the file.
pub fn run(o: &PromptOptions, path: &Path) -> Result<()> {
    if o.drafting.spec_sampling != SpecSampling::Matching {
        let what = "sampled trees are not recorded; leave out --spec-sampling rejection";
        return Err(Error::Invalid(what.into()));
    }
    output::check(RECORD, path)?;
    let (mut session, prompts) = o.begin()?;
    let opened = o.drafting.options().open(session.setup(None))?.ok_or_else(no_drafter)?;
    let growth = if let Policy::Fixed(growth) = opened.policy { growth } else { GROWTH };
    let header = json!({
        "version": 1,
        "drafter": opened.description(),
        "model": session.model().gguf().path().display().to_string(),
        "temperature": decimals(o.temp),
        "seed": o.seed,
    });
    let (recorder, grown) = Recorder::new(opened.drafter, growth);
    session.speculate(Some(Speculation::new(Box::new(recorder), ASKED)))?;
    let failed = |source| output::refused(RECORD, path, source);
    let mut whole = TempFile::new(path, Access::Usual).map_err(failed)?;
    let mut file = BufWriter::new(whole.file());
    writeln!(file, "{header}").map_err(failed)?;
    let progress = Progress::new(&prompts);
    for (i, prompt) in prompts.iter().enumerate() {
        progress.show(i);
        let line = record(&mut session, &grown, prompt, &o.sampling(), o.n_predict)?;
        writeln!(file, "{line}").map_err(failed)?;
    }
    file.flush().map_err(failed)?;
    drop(file);
    whole.publish().map_err(failed)
}

/// Answers one prompt. Returns its line.
fn record(
    session: &mut Session,
    grown: &Receiver<Tree>,
    prompt: &Prompt,
    sampling: &Sampling,
    n_predict: usize,
) -> Result<Value> {
    // Detaching and attaching the drafter makes it receive the whole prompt, as if it were the first.
    let speculation = session.speculate(None)?;
    session.speculate(speculation)?;
    // No tree is grown before the last token, so one more token is asked for.
    let mut tokens = answer(session, &prompt.tokens, sampling, n_predict + 1)?;
    if let Some(error) = session.take_drafter_error() {
        return Err(error);
    }
    if let Some(Stop::End(token)) = session.stop() {
        tokens.push(token);
    }
    let trees: Vec<Tree> = grown.try_iter().collect();
    tokens.truncate(trees.len() + 1);
    assert!(trees.iter().zip(&tokens).all(|(tree, token)| tree.tokens()[0] == *token));
    Ok(json!({
        "category": prompt.category,
        "prompt_tokens": prompt.tokens.len(),
        "tokens": tokens,
        "trees": trees.iter().map(tree_json).collect::<Vec<_>>(),
    }))
}

fn tree_json(tree: &Tree) -> Value {
    let parents: Vec<_> = (1..tree.len()).filter_map(|node| tree.parent(node)).collect();
    let log_probs: Vec<_> = tree.log_probs()[1..].iter().map(|x| decimals(*x)).collect();
    json!({ "parents": parents, "tokens": &tree.tokens()[1..], "log_probs": log_probs })
}

/// Rounds to as many decimals as are useful.
fn decimals(x: f32) -> f64 {
    (f64::from(x) * 1e4).round() / 1e4
}

/// Lets a drafter grow its trees, but withholds them from verification.
struct Recorder {
    drafter: Box<dyn Drafter>,
    shape: TreeShape,
    /// The tree that grows, and the drafter's state.
    tree: GrowingTree,
    selector: CandidateSelector,
    /// Leaves the tree its shape.
    planner: Planner,
    grown: Sender<Tree>,
}

impl Recorder {
    /// Where its trees are written.
    fn new(drafter: Box<dyn Drafter>, shape: TreeShape) -> (Recorder, Receiver<Tree>) {
        let (grown, arrive) = channel();
        let (tree, selector) = (GrowingTree::default(), CandidateSelector::default());
        let planner = Planner::default();
        (Recorder { drafter, shape, tree, selector, planner, grown }, arrive)
    }
}

impl Drafter for Recorder {
    fn taps(&self) -> &[usize] {
        self.drafter.taps()
    }

    fn state(&mut self) -> Result<DraftState> {
        self.drafter.state()
    }

    fn commit(
        &mut self,
        state: &mut DraftState,
        first: usize,
        tokens: &[u32],
        features: &mut dyn Iterator<Item = &[f32]>,
        pool: &mut ThreadPool,
    ) -> Result<()> {
        self.drafter.commit(state, first, tokens, features, pool)
    }

    fn expand_one(&mut self, job: &mut DraftJob, round: &mut RoundContext) -> Result<()> {
        let Recorder { drafter, shape, tree, selector, planner, grown } = self;
        let root = *job.tokens.last().expect("a sequence is not empty");
        planner.begin(1, job.tokens.len(), true);
        planner.start(tree, root, &TreeLimits::of(*shape));
        let mut failure = None;
        let large = DraftJob::new(job.tokens, job.state, tree, selector, &mut failure);
        drafter.expand(&mut [large], &mut RoundContext { planner, pool: round.pool });
        if let Some(error) = failure {
            return Err(error);
        }
        grown.send(*tree.tree()).map_err(|_| Error::Invalid("nobody takes the trees".into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Proposes the next number after each token, and as second choice the one after that.
    struct Counting;

    impl Drafter for Counting {
        fn expand_one(&mut self, job: &mut DraftJob, _: &mut RoundContext) -> Result<()> {
            let last = *job.tokens.last().expect("there is one");
            let tree = job.tree.tree_mut();
            let first = tree.push(0, last + 1, -0.25).expect("there is room");
            tree.push(0, last + 2, -2.0);
            tree.push(first, last + 2, -0.12344);
            job.tree.prune();
            Ok(())
        }
    }

    #[test]
    fn trees_are_kept_and_not_handed_out() {
        let (mut recorder, grown) = Recorder::new(Box::new(Counting), GROWTH);
        let (mut pool, mut planner) = (ThreadPool::new(1), Planner::default());
        let (mut tree, mut selector) = (GrowingTree::default(), CandidateSelector::default());
        let mut state = recorder.state().unwrap();
        for sequence in [&[3, 7][..], &[3, 7, 8]] {
            tree.start(sequence[sequence.len() - 1], ASKED, f32::NEG_INFINITY, false);
            let mut failure = None;
            let job = DraftJob::new(sequence, &mut state, &mut tree, &mut selector, &mut failure);
            let mut round = RoundContext { planner: &mut planner, pool: &mut pool };
            recorder.expand(&mut [job], &mut round);
            assert!(failure.is_none() && tree.tree().len() == 1);
        }
        let lines: Vec<Value> = grown.try_iter().map(|tree| tree_json(&tree)).collect();
        let (parents, log_probs) = ([0, 0, 1], [-0.25, -2.0, -0.3734]);
        let line = |tokens: [u32; 3]| json!({"parents": parents, "tokens": tokens, "log_probs": log_probs});
        assert_eq!(lines, [line([8, 9, 9]), line([9, 10, 10])]);
    }
}
