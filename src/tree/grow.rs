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
use std::fmt;
use std::str::FromStr;

/// How large a tree grows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Growth {
    /// Guesses on a path at most.
    pub depth: usize,
    /// Guesses that go on from each level, and that each node proposes.
    pub width: usize,
    /// Nodes that are verified, the root included.
    pub nodes: usize,
}

impl Growth {
    /// The same, but for no deeper a tree and no more nodes than there is room for.
    pub fn within(self, depth: usize, nodes: usize) -> Growth {
        Growth { depth: self.depth.min(depth), nodes: self.nodes.min(nodes), ..self }
    }

    /// The same with paths of up to `depth` guesses, and room for one of them at least.
    pub fn with_depth(self, depth: usize) -> Growth {
        let depth = depth.clamp(1, MAX_NODES - 1);
        let width = self.width.min((MAX_NODES - 1) / depth.saturating_sub(1).max(1));
        let nodes = if width == 1 { depth + 1 } else { self.nodes.max(depth + 1) };
        Growth { depth, width, nodes }
    }

    /// Whether only the root remains.
    pub fn is_none(self) -> bool {
        self.depth == 0 || self.width == 0 || self.nodes <= 1
    }
}

impl FromStr for Growth {
    type Err = String;

    /// `chain:K` or `beam:DEPTH,WIDTH,NODES`.
    fn from_str(text: &str) -> std::result::Result<Growth, String> {
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
                Growth { depth: k, width: 1, nodes: k.saturating_add(1) }
            }
            (Some("beam"), Some(&[depth, width, nodes])) => Growth { depth, width, nodes },
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

impl fmt::Display for Growth {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match *self {
            Growth { depth, width: 1, nodes } if nodes == depth + 1 => write!(f, "chain:{depth}"),
            Growth { depth, width, nodes } => write!(f, "beam:{depth},{width},{nodes}"),
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
#[derive(Debug)]
pub struct Grower {
    frontier: Tree,
    /// Where each node of the frontier stands in the tree.
    place: [Option<usize>; MAX_NODES],
    /// Guesses of all levels with the probability of their whole path.
    pool: Vec<Proposal>,
    proposals: Vec<Proposal>,
}

impl Default for Grower {
    fn default() -> Grower {
        let (pool, proposals) = (Vec::with_capacity(1024), Vec::with_capacity(MAX_NODES));
        Grower { frontier: Tree::new(0), place: [None; MAX_NODES], pool, proposals }
    }
}

impl Grower {
    /// Grows `tree`, of which there is only the root, from the likeliest guesses; none of a path whose
    /// logarithmic probability is below `floor`. `propose(frontier, level, proposals)` runs the nodes
    /// `level` of the frontier, all earlier ones having been run, and appends up to `width` guesses for
    /// each, all of different tokens; `next(depth, frontier, guesses)` says how many of the guesses of a level, the
    /// likeliest first, are run: `width` at most.
    ///
    /// # Errors
    /// Those of `propose`; the tree is then the root.
    pub fn grow(
        &mut self,
        growth: Growth,
        floor: f32,
        tree: &mut Tree,
        mut propose: impl FnMut(&Tree, std::ops::Range<usize>, &mut Vec<Proposal>) -> Result<()>,
        mut next: impl FnMut(usize, &Tree, &[Proposal]) -> usize,
    ) -> Result<()> {
        tree.reset(tree.tokens()[0]);
        if growth.is_none() {
            return Ok(());
        }
        self.frontier.reset(tree.tokens()[0]);
        self.pool.clear();
        let mut level = 0..1;
        for depth in 1..=growth.depth {
            self.proposals.clear();
            propose(&self.frontier, level.clone(), &mut self.proposals)?;
            let first = self.pool.len();
            self.pool.extend(self.proposals.iter().filter_map(|proposal| {
                let log_prob = self.frontier.path_with(proposal.parent, proposal.log_prob);
                (log_prob >= floor).then_some(Proposal { log_prob, ..*proposal })
            }));
            let new = &mut self.pool[first..];
            new.sort_by(|a, b| b.log_prob.total_cmp(&a.log_prob));
            let width = next(depth, &self.frontier, new);
            if depth == growth.depth {
                break;
            }
            level = self.frontier.len()..self.frontier.len();
            for guess in new.iter().take(width.min(growth.width)) {
                self.frontier.push_path(guess.parent, guess.token, guess.log_prob);
            }
            level.end = self.frontier.len();
            if level.is_empty() {
                break;
            }
        }
        // Stable: of equally likely guesses those of earlier levels come first, parents before children.
        self.pool.sort_by(|a, b| b.log_prob.total_cmp(&a.log_prob));
        self.place = [None; MAX_NODES];
        self.place[0] = Some(0);
        for guess in &self.pool {
            if tree.len() >= growth.nodes {
                break;
            }
            let Some(parent) = self.place[guess.parent] else { continue };
            let added = tree.push_path(parent, guess.token, guess.log_prob);
            if let Some(node) = self.frontier.child(guess.parent, guess.token) {
                self.place[node] = added;
            }
        }
        Ok(())
    }

    /// [`Grower::grow`] with all guesses of every node that is run, in their order: a node is run where
    /// its path is likely enough and there is room for all of them, which is decided before they are made;
    /// for the root's there must be.
    ///
    /// # Errors
    /// Those of `propose`; the tree is then the root.
    pub fn grow_whole(
        &mut self,
        growth: Growth,
        floor: f32,
        tree: &mut Tree,
        mut propose: impl FnMut(&Tree, std::ops::Range<usize>, &mut Vec<Proposal>) -> Result<()>,
    ) -> Result<()> {
        let root = tree.tokens()[0];
        tree.reset(root);
        self.frontier.reset(root);
        self.place = [None; MAX_NODES];
        self.place[0] = Some(0);
        let mut level = 0..1;
        for depth in 1..=growth.depth {
            self.proposals.clear();
            let proposed = propose(&self.frontier, level.clone(), &mut self.proposals);
            proposed.inspect_err(|_| tree.reset(root))?;
            self.pool.clear();
            for proposal in &self.proposals {
                let log_prob = self.frontier.path_with(proposal.parent, proposal.log_prob);
                let parent = self.place[proposal.parent].expect("what is run is in the tree");
                tree.push_path(parent, proposal.token, log_prob);
                self.pool.push(Proposal { log_prob, ..*proposal });
            }
            if depth == growth.depth {
                break;
            }
            self.pool.retain(|guess| guess.log_prob >= floor);
            self.pool.sort_by(|a, b| b.log_prob.total_cmp(&a.log_prob));
            let room = (growth.nodes - tree.len()) / growth.width;
            level = self.frontier.len()..self.frontier.len();
            for guess in self.pool.iter().take(room.min(growth.width)) {
                let parent = self.place[guess.parent].expect("what is run is in the tree");
                let run = self.frontier.push_path(guess.parent, guess.token, guess.log_prob);
                self.place[run.expect("it has fewer nodes than the tree")] =
                    tree.child(parent, guess.token);
            }
            level.end = self.frontier.len();
            if level.is_empty() {
                break;
            }
        }
        Ok(())
    }

    /// Which node of the frontier, of those that were run, `node` of the tree was.
    pub fn frontier_of(&self, node: usize) -> Option<usize> {
        self.place[..self.frontier.len()].iter().position(|place| *place == Some(node))
    }
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

    fn grow(growth: Growth) -> (Tree, usize) {
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
        Grower::default()
            .grow(growth, f32::NEG_INFINITY, &mut tree, propose, |_, _, _| growth.width)
            .unwrap();
        (tree, runs)
    }

    /// The specification: sets of paths, sorted as a whole at each level.
    fn by_hand(growth: Growth) -> Vec<(Vec<u32>, f32)> {
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
            let growth = Growth { depth, width, nodes };
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
            assert_eq!(text.parse::<Growth>().unwrap().to_string(), text);
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
            assert!(text.parse::<Growth>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_depth_that_is_asked_for_is_had() {
        for depth in 1..100 {
            for text in ["chain:3", "beam:4,9,60", "beam:1,10,4"] {
                let growth = text.parse::<Growth>().unwrap().with_depth(depth);
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
        Grower::default()
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
        Grower::default()
            .grow(growth, f32::NEG_INFINITY, &mut tree, fail, |_, _, _| 1)
            .unwrap_err();
        assert_eq!(tree, Tree::new(5));
    }
}
