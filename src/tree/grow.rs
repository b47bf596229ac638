//! How a tree grows: level by level, the likeliest guesses going on.
//!
//! The nodes a drafter has run are a [`Tree`] themselves, the *frontier's*, whose masks say what each row
//! of the drafter sees. What they propose is pooled, and the likeliest of the pool become the tree that
//! is verified: no path is likelier than one it continues, so the best are a tree.
//!
//! # Source
//! EAGLE-2, arXiv 2406.16858, sections 4.1 (expansion) and 4.2 (reranking).

use super::{MAX_NODES, Tree};
use crate::error::Result;
use std::cmp::Ordering;
use std::fmt;
use std::ops::Range;
use std::str::FromStr;

/// How large a tree grows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TreeShape {
    /// Guesses on a path at most.
    pub depth: usize,
    /// Guesses that go on from each level, and that each node proposes.
    pub width: usize,
    /// Nodes that are verified, the root included.
    pub nodes: usize,
}

impl TreeShape {
    /// The same, but for no deeper a tree and no more nodes than there is room for.
    pub fn within(self, depth: usize, nodes: usize) -> TreeShape {
        TreeShape { depth: self.depth.min(depth), nodes: self.nodes.min(nodes), ..self }
    }

    /// The same with paths of up to `depth` guesses, and room for one of them at least.
    pub fn with_depth(self, depth: usize) -> TreeShape {
        let depth = depth.clamp(1, MAX_NODES - 1);
        let width = self.width.min((MAX_NODES - 1) / depth.saturating_sub(1).max(1));
        let nodes = if width == 1 { depth + 1 } else { self.nodes.max(depth + 1) };
        TreeShape { depth, width, nodes }
    }

    /// Whether only the root remains.
    pub fn is_none(self) -> bool {
        self.depth == 0 || self.width == 0 || self.nodes <= 1
    }
}

impl FromStr for TreeShape {
    type Err = String;

    /// `chain:K` or `beam:DEPTH,WIDTH,NODES`.
    fn from_str(text: &str) -> std::result::Result<TreeShape, String> {
        let wrong = || {
            format!(
                "give chain:K or beam:DEPTH,WIDTH,NODES with up to {MAX_NODES} nodes, the root included"
            )
        };
        let numbers: Option<Vec<usize>> = text
            .split_once(':')
            .and_then(|(_, numbers)| numbers.split(',').map(|n| n.parse().ok()).collect());
        let growth = match (text.split(':').next(), numbers.as_deref()) {
            (Some("chain"), Some(&[k])) => {
                TreeShape { depth: k, width: 1, nodes: k.saturating_add(1) }
            }
            (Some("beam"), Some(&[depth, width, nodes])) => TreeShape { depth, width, nodes },
            _ => return Err(wrong()),
        };
        // The frontier is a tree too: the root, and `width` nodes a level but for the last.
        let run = growth.depth.saturating_sub(1).saturating_mul(growth.width).saturating_add(1);
        if growth.is_none() || growth.nodes > MAX_NODES || run > MAX_NODES {
            return Err(wrong());
        }
        Ok(growth)
    }
}

impl fmt::Display for TreeShape {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match *self {
            TreeShape { depth, width: 1, nodes } if nodes == depth + 1 => {
                write!(f, "chain:{depth}")
            }
            TreeShape { depth, width, nodes } => write!(f, "beam:{depth},{width},{nodes}"),
        }
    }
}

/// A guess at what follows a node of the frontier.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Proposal {
    /// The node of the frontier.
    pub parent: usize,
    /// The token.
    pub token: u32,
    /// Its logarithmic probability after the parent.
    pub log_prob: f32,
}

/// Grows trees; holds buffers only.
///
/// One level at a time: [`begin`](TreeExpander::begin), then while it [grows](TreeExpander::is_growing) the nodes of the
/// [`level`](TreeExpander::level) are run and what they propose is [taken](TreeExpander::take), of which some
/// [go on](TreeExpander::go_on). So several trees can grow side by side.
#[derive(Debug)]
pub struct TreeExpander {
    growth: TreeShape,
    /// Logarithm of the least probability of a path.
    floor: f32,
    whole: bool,
    frontier: Tree,
    /// Nodes of the frontier that are to be run; none when the tree has grown.
    level: Range<usize>,
    depth: usize,
    /// Where each node of the frontier stands in the tree.
    place: [Option<usize>; MAX_NODES],
    /// Guesses with the probability of their whole path: those of all levels, or of a tree that is grown whole the last
    /// one's. Those of the last level are from `new` on, the likeliest first.
    pool: Vec<Proposal>,
    new: usize,
    proposals: Vec<Proposal>,
}

impl Default for TreeExpander {
    fn default() -> TreeExpander {
        TreeExpander {
            growth: TreeShape { depth: 0, width: 0, nodes: 1 },
            floor: f32::NEG_INFINITY,
            whole: false,
            frontier: Tree::new(0),
            level: 0..0,
            depth: 0,
            place: [None; MAX_NODES],
            pool: Vec::with_capacity(1024),
            new: 0,
            proposals: Vec::with_capacity(MAX_NODES),
        }
    }
}

impl TreeExpander {
    /// Begins to grow `tree`, of which only the root stays, from the likeliest guesses; none of a path whose
    /// logarithmic probability is below `floor`.
    ///
    /// A `whole` tree has all guesses of every node that is run, in their order: a node is run where its path is
    /// likely enough and there is room for all of them, which is decided before they are made; for the
    /// root's there must be.
    pub fn begin(&mut self, growth: TreeShape, floor: f32, whole: bool, tree: &mut Tree) {
        let root = tree.tokens()[0];
        tree.reset(root);
        self.frontier.reset(root);
        (self.growth, self.floor, self.whole, self.depth) = (growth, floor, whole, 1);
        self.level = if growth.is_none() { 0..0 } else { 0..1 };
        self.place = [None; MAX_NODES];
        self.place[0] = Some(0);
        self.pool.clear();
        self.proposals.clear();
    }

    /// Whether another level is to be run.
    pub fn is_growing(&self) -> bool {
        !self.level.is_empty()
    }

    /// The frontier, its nodes that are to be run, all earlier ones having been run, and where the guesses
    /// after them go: up to the growth's width for each, of different tokens.
    pub fn level(&mut self) -> (&Tree, Range<usize>, &mut Vec<Proposal>) {
        (&self.frontier, self.level.clone(), &mut self.proposals)
    }

    /// Takes the guesses after the level.
    pub fn take(&mut self, tree: &mut Tree) {
        if self.whole {
            self.pool.clear();
        }
        self.new = self.pool.len();
        for proposal in self.proposals.drain(..) {
            let log_prob = self.frontier.path_with(proposal.parent, proposal.log_prob);
            if self.whole {
                let parent = self.place[proposal.parent].expect("what is run is in the tree");
                tree.push_path(parent, proposal.token, log_prob);
            }
            if log_prob >= self.floor {
                self.pool.push(Proposal { log_prob, ..proposal });
            }
        }
        self.pool[self.new..].sort_by(by_likelihood);
    }

    /// The guesses that were taken last, with the logarithmic probability of their path, the likeliest
    /// first; their depth, from 1 on; and the frontier, of which their parents are nodes.
    pub fn taken(&self) -> (&[Proposal], usize, &Tree) {
        (&self.pool[self.new..], self.depth, &self.frontier)
    }

    /// Lets up to `width` of them go on, or ends the tree.
    pub fn go_on(&mut self, width: usize, tree: &mut Tree) {
        let first = self.frontier.len();
        if self.depth < self.growth.depth {
            let width = match self.whole {
                true => (self.growth.nodes - tree.len()) / self.growth.width,
                false => width,
            };
            for guess in self.pool[self.new..].iter().take(width.min(self.growth.width)) {
                let node = self.frontier.push_path(guess.parent, guess.token, guess.log_prob);
                if self.whole {
                    let parent = self.place[guess.parent].expect("what is run is in the tree");
                    let node = node.expect("it has fewer nodes than the tree");
                    self.place[node] = tree.child(parent, guess.token);
                }
            }
        }
        self.depth += 1;
        self.level = first..self.frontier.len();
        if self.level.is_empty() && !self.whole {
            self.finish(tree);
        }
    }

    /// Ends the tree with nothing but its root.
    pub fn stop(&mut self, tree: &mut Tree) {
        tree.reset(tree.tokens()[0]);
        self.level = 0..0;
    }

    /// Makes the tree of the likeliest guesses.
    fn finish(&mut self, tree: &mut Tree) {
        // Stable: of equally likely guesses those of earlier levels come first, parents before children.
        self.pool.sort_by(by_likelihood);
        for guess in &self.pool {
            if tree.len() >= self.growth.nodes {
                break;
            }
            let Some(parent) = self.place[guess.parent] else { continue };
            let added = tree.push_path(parent, guess.token, guess.log_prob);
            if let Some(node) = self.frontier.child(guess.parent, guess.token) {
                self.place[node] = added;
            }
        }
    }

    /// Grows one tree by itself. `propose(frontier, level, proposals)` runs the nodes `level` of the
    /// frontier and appends guesses for each; `next(depth, frontier, guesses)` says how many of the guesses of a level,
    /// the likeliest first, are run.
    ///
    /// # Errors
    /// Those of `propose`; the tree is then the root.
    pub fn grow(
        &mut self,
        growth: TreeShape,
        floor: f32,
        tree: &mut Tree,
        mut propose: impl FnMut(&Tree, Range<usize>, &mut Vec<Proposal>) -> Result<()>,
        mut next: impl FnMut(usize, &Tree, &[Proposal]) -> usize,
    ) -> Result<()> {
        self.begin(growth, floor, false, tree);
        while self.is_growing() {
            propose(&self.frontier, self.level.clone(), &mut self.proposals)?;
            self.take(tree);
            let (guesses, depth, frontier) = self.taken();
            let width = next(depth, frontier, guesses);
            self.go_on(width, tree);
        }
        Ok(())
    }

    /// Which node of the frontier, of those that were run, `node` of the tree was.
    pub fn frontier_of(&self, node: usize) -> Option<usize> {
        self.place[..self.frontier.len()].iter().position(|place| *place == Some(node))
    }
}

fn by_likelihood(a: &Proposal, b: &Proposal) -> Ordering {
    b.log_prob.total_cmp(&a.log_prob)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Error;
    use proptest::prelude::*;

    /// A drafter's distribution after a path, some function of its tokens: log probabilities of 6 tokens.
    fn after(path: &[u32]) -> Vec<(u32, f32)> {
        let mut state =
            path.iter().fold(17u64, |s, t| (s ^ u64::from(*t)).wrapping_mul(0x9e37_79b9));
        let weights: Vec<f32> = (0..6)
            .map(|_| {
                state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                1.0 + (state >> 60) as f32
            })
            .collect();
        let sum: f32 = weights.iter().sum();
        (0..6).zip(weights).map(|(token, w)| (token, (w / sum).ln())).collect()
    }

    fn tokens_to(tree: &Tree, node: usize) -> Vec<u32> {
        let mut path: Vec<u32> = std::iter::successors(Some(node), |n| tree.parent(*n))
            .map(|n| tree.tokens()[n])
            .collect();
        path.reverse();
        path
    }

    fn grow(growth: TreeShape) -> (Tree, usize) {
        let (mut tree, mut runs) = (Tree::new(3), 0);
        let propose = |frontier: &Tree, level: std::ops::Range<usize>, out: &mut Vec<Proposal>| {
            runs += 1;
            for parent in level {
                let mut best = after(&tokens_to(frontier, parent));
                best.sort_by(|a, b| b.1.total_cmp(&a.1));
                let best = best.into_iter().take(growth.width);
                out.extend(best.map(|(token, log_prob)| Proposal { parent, token, log_prob }));
            }
            Ok(())
        };
        TreeExpander::default()
            .grow(growth, f32::NEG_INFINITY, &mut tree, propose, |_, _, _| growth.width)
            .unwrap();
        (tree, runs)
    }

    /// The specification: sets of paths, sorted as a whole at each level.
    fn by_hand(growth: TreeShape) -> Vec<(Vec<u32>, f32)> {
        let by_likelihood = |a: &(Vec<u32>, f32), b: &(Vec<u32>, f32)| b.1.total_cmp(&a.1);
        let (mut level, mut pool) = (vec![(vec![3], 0.0f32)], Vec::new());
        for _ in 0..growth.depth {
            let mut next = Vec::new();
            for (path, log_prob) in &level {
                let mut best = after(path);
                best.sort_by(|a, b| b.1.total_cmp(&a.1));
                for (token, step) in best.into_iter().take(growth.width) {
                    next.push(([&path[..], &[token]].concat(), log_prob + step));
                }
            }
            next.sort_by(by_likelihood);
            pool.extend(next.clone());
            next.truncate(growth.width);
            level = next;
        }
        pool.sort_by(by_likelihood);
        pool.truncate(growth.nodes - 1);
        pool.sort_by(|a, b| a.0.cmp(&b.0));
        pool
    }

    proptest! {
        #[test]
        fn the_likeliest_guesses_of_all_levels_are_the_tree(
            depth in 1usize..7, width in 1usize..6, nodes in 2usize..40,
        ) {
            let growth = TreeShape { depth, width, nodes };
            let (tree, runs) = grow(growth);
            prop_assert!(runs <= depth && tree.len() <= nodes);
            let mut found: Vec<(Vec<u32>, f32)> =
                (1..tree.len()).map(|n| (tokens_to(&tree, n), tree.log_probs()[n])).collect();
            found.sort_by(|a, b| a.0.cmp(&b.0));
            let expected = by_hand(growth);
            // Equally likely guesses may stand for each other: what counts is the likelihood won.
            prop_assert_eq!(found.len(), expected.len());
            let sum = |paths: &[(Vec<u32>, f32)]| paths.iter().map(|p| p.1.exp()).sum::<f32>();
            prop_assert!((sum(&found) - sum(&expected)).abs() < 1e-4);
        }
    }

    #[test]
    fn a_chain_takes_the_likeliest_each_time() {
        let (tree, runs) = grow("chain:4".parse().unwrap());
        assert_eq!((tree.len(), runs), (5, 4));
        for node in 1..5 {
            let path = tokens_to(&tree, node - 1);
            let best = after(&path).into_iter().max_by(|a, b| a.1.total_cmp(&b.1)).unwrap();
            assert!(after(&path)[tree.tokens()[node] as usize].1 == best.1);
            assert_eq!(tree.parent(node), Some(node - 1));
        }
    }

    #[test]
    fn sizes_are_read_and_written() {
        for text in ["chain:1", "chain:63", "beam:7,9,60", "beam:1,10,4"] {
            assert_eq!(text.parse::<TreeShape>().unwrap().to_string(), text);
        }
        for text in [
            "",
            "chain",
            "chain:",
            "chain:0",
            "chain:64",
            "chain:-1",
            "beam:3,4",
            "beam:8,10,60",
            "beam:3,4,65",
            "beam:3,0,4",
            "beam:0,3,4",
            "beam:3,4,1",
            "tree:3",
            "chain:99999999999999999999",
        ] {
            assert!(text.parse::<TreeShape>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_depth_that_is_asked_for_is_had() {
        for depth in 1..100 {
            for text in ["chain:3", "beam:4,9,60", "beam:1,10,4"] {
                let growth = text.parse::<TreeShape>().unwrap().with_depth(depth);
                assert_eq!(growth.depth, depth.min(63));
                assert_eq!(growth.to_string().parse(), Ok(growth), "it can be asked for");
            }
        }
    }

    #[test]
    fn certain_guesses_come_after_their_parents() {
        // Sums of logarithms round: a child that is certain must not pass its parent.
        let (mut tree, growth) = (Tree::new(0), "beam:6,2,13".parse().unwrap());
        let propose = |_: &Tree, level: std::ops::Range<usize>, out: &mut Vec<Proposal>| {
            for parent in level {
                let likely = if parent % 2 == 0 { -0.1 } else { 0.0 };
                out.push(Proposal { parent, token: 1, log_prob: likely });
                out.push(Proposal { parent, token: 2, log_prob: f32::NAN });
            }
            Ok(())
        };
        TreeExpander::default()
            .grow(growth, f32::NEG_INFINITY, &mut tree, propose, |_, _, _| growth.width)
            .unwrap();
        assert_eq!(tree.depth((0..tree.len()).max_by_key(|n| tree.depth(*n)).unwrap()), 6);
        assert!(tree.log_probs().iter().all(|p| !p.is_nan()));
    }

    #[test]
    fn a_drafter_that_fails_leaves_the_root() {
        let mut tree = Tree::new(5);
        tree.push(0, 1, 0.0);
        let fail = |_: &Tree, _, _: &mut Vec<Proposal>| Err(Error::Invalid("no".into()));
        let growth = "chain:3".parse().unwrap();
        TreeExpander::default()
            .grow(growth, f32::NEG_INFINITY, &mut tree, fail, |_, _, _| 1)
            .unwrap_err();
        assert_eq!(tree, Tree::new(5));
    }
}
