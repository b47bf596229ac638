//! Growing a tree: level by level, from the likeliest candidates.
//!
//! The nodes that a drafter has run form a [`Tree`] of their own, the *frontier*; its masks say which rows each row of
//! the drafter sees. The candidates of all levels are pooled, and the likeliest of the pool form the tree that is
//! verified. No path is likelier than its prefix, so the likeliest candidates always form a tree.
//!
//! # Source
//! EAGLE-2, arXiv 2406.16858, sections 4.1 (expansion) and 4.2 (reranking).

use super::{MAX_NODES, Tree, TreeShape};
use std::cmp::Ordering;
use std::ops::Range;

/// A candidate for the token after a node of the frontier.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Candidate {
    /// The frontier's node that it follows.
    pub parent: usize,
    /// The token.
    pub token: u32,
    /// Natural logarithm of its probability after the parent.
    pub log_prob: f32,
}

/// A tree while it grows: the nodes that the drafter must run next, and the candidates proposed so far.
///
/// A drafter calls [`start`](GrowingTree::start). While the [`level`](GrowingTree::level) has nodes, it runs them,
/// [proposes](GrowingTree::propose) candidates after them and [pools](GrowingTree::pool_candidates) these; the planner
/// sets a [width](GrowingTree::set_width), and the tree [goes on](GrowingTree::go_on). Several trees can grow side by
/// side in this way. A drafter that proposes whole trees writes to [`tree_mut`](GrowingTree::tree_mut) instead.
#[derive(Debug)]
pub struct GrowingTree {
    tree: Tree,
    shape: TreeShape,
    /// Log probability below which no path is kept.
    floor: f32,
    whole: bool,
    frontier: Tree,
    /// Nodes of the frontier that the drafter must run; empty once the tree has grown.
    level: Range<usize>,
    depth: usize,
    /// Number of candidates of the last level that are expanded.
    width: usize,
    /// For each node of the frontier its node of the tree, if it has one.
    place: [Option<usize>; MAX_NODES],
    /// Candidates with the log probability of their whole path: of all levels, or in `whole` mode of the last level
    /// only. Those of the last level start at `new`, the likeliest first.
    pool: Vec<Candidate>,
    new: usize,
    proposed: Vec<Candidate>,
    /// Index among the trees of a round.
    number: usize,
    /// Number of tokens that must follow the root, one after another: the first nodes of tree and frontier.
    n_forced: usize,
    /// Largest number of nodes, with tokens that must follow.
    most: usize,
    constrained: bool,
}

impl Default for GrowingTree {
    fn default() -> GrowingTree {
        GrowingTree::new(0)
    }
}

impl GrowingTree {
    /// A tree of the root alone, which does not grow.
    pub fn new(root: u32) -> GrowingTree {
        GrowingTree {
            tree: Tree::new(root),
            shape: TreeShape::ROOT,
            floor: f32::NEG_INFINITY,
            whole: false,
            frontier: Tree::new(root),
            level: 0..0,
            depth: 0,
            width: 0,
            place: [None; MAX_NODES],
            pool: Vec::with_capacity(1024),
            new: 0,
            proposed: Vec::with_capacity(MAX_NODES),
            number: 0,
            n_forced: 0,
            most: 1,
            constrained: false,
        }
    }

    /// Starts to grow a tree of at most `shape` behind `root` from the likeliest candidates. Paths whose log
    /// probability is below `floor` are dropped.
    ///
    /// In `whole` mode a node is expanded only if all its candidates fit, none is dropped later, and they keep their
    /// order.
    pub fn start(&mut self, root: u32, shape: TreeShape, floor: f32, whole: bool) {
        self.tree.reset(root);
        self.frontier.reset(root);
        (self.shape, self.floor, self.whole, self.n_forced) = (shape, floor, whole, 0);
        (self.most, self.constrained) = (shape.nodes, false);
        if whole {
            self.shape.width = shape.width.min(shape.nodes.saturating_sub(1));
        }
        self.restart();
    }

    /// Puts tokens that must follow the root before all that is drafted, in a tree of at most `most` nodes that was
    /// just started. Candidates follow the last of them, if the tree `grows`.
    pub fn force(&mut self, tokens: &[u32], most: usize, grows: bool) {
        self.most = most;
        for token in tokens {
            let nodes = [&mut self.tree, &mut self.frontier]
                .map(|tree| tree.push_path(self.n_forced, *token, 0.0));
            self.n_forced += usize::from(nodes.iter().all(Option::is_some));
        }
        if self.n_forced > 0 {
            let grows = grows && !self.whole && !self.shape.is_root();
            self.whole = false;
            let nodes = if grows { self.shape.nodes + self.n_forced } else { 0 };
            self.shape.nodes = nodes.clamp(self.n_forced + 1, most.max(self.n_forced + 1));
            self.restart();
        }
    }

    /// Adds tokens that must follow the end of the likeliest path of a tree that has grown: they are accepted if it is.
    pub fn extend(&mut self, tokens: &[u32]) {
        let mut last = Some(self.tree.likeliest_leaf());
        for token in tokens.iter().take(self.most.saturating_sub(self.tree.len())) {
            last = last
                .and_then(|node| self.tree.push_path(node, *token, self.tree.log_probs()[node]));
        }
    }

    /// Drops all that was drafted, and starts to grow again.
    pub fn restart(&mut self) {
        let n_run = self.n_forced + 1;
        (self.tree.len, self.frontier.len) = (n_run, n_run);
        (self.depth, self.width) = (1, 0);
        let has_room = !self.shape.is_root() && self.shape.nodes > n_run;
        self.level = if has_room { 0..n_run } else { 0..0 };
        self.place = std::array::from_fn(|node| (node < n_run).then_some(node));
        self.pool.clear();
        self.new = 0;
        self.proposed.clear();
    }

    /// The tree so far. Candidates enter it when the growth ends.
    pub fn tree(&self) -> &Tree {
        &self.tree
    }

    /// The tree, for drafters that write to it directly and for planners that prune it.
    pub fn tree_mut(&mut self) -> &mut Tree {
        &mut self.tree
    }

    /// Index among the trees of a round.
    pub fn number(&self) -> usize {
        self.number
    }

    /// Sets the index among the trees of a round.
    pub fn set_number(&mut self, number: usize) {
        self.number = number;
    }

    /// The largest shape that the tree may reach.
    pub fn shape(&self) -> TreeShape {
        self.shape
    }

    /// Log probability below which no path is kept.
    pub fn floor(&self) -> f32 {
        self.floor
    }

    /// Number of tokens that must follow the root: nodes 1 up to it. The drafter runs them with the root, and proposes
    /// candidates after the last of them.
    pub fn n_forced(&self) -> usize {
        self.n_forced
    }

    /// Whether none of its candidates may be dropped.
    pub fn is_whole(&self) -> bool {
        self.whole
    }

    /// Whether it has drafted nodes, which may be dropped.
    pub fn may_be_pruned(&self) -> bool {
        !self.whole && self.tree.len() > self.n_forced + 1
    }

    /// Notes that a grammar decides what the tree may have.
    pub fn constrain(&mut self) {
        self.constrained = true;
    }

    /// Whether a grammar decides what the tree may have: then it does not tell how good its drafter is.
    pub fn is_constrained(&self) -> bool {
        self.constrained
    }

    /// Whether the drafter must run another level.
    pub fn is_growing(&self) -> bool {
        !self.level.is_empty()
    }

    /// Nodes of the frontier that the drafter must run; all earlier ones were run.
    pub fn level(&self) -> Range<usize> {
        self.level.clone()
    }

    /// The nodes that the drafter has run or must run.
    pub fn frontier(&self) -> &Tree {
        &self.frontier
    }

    /// Depth of this level's candidates behind the tokens that must follow: 1 for the first level.
    pub fn depth(&self) -> usize {
        self.depth
    }

    /// Proposes a candidate after a node of the level: at most `shape().width` for each node, all of different tokens.
    pub fn propose(&mut self, candidate: Candidate) {
        self.proposed.push(candidate);
    }

    /// Moves the proposed candidates of the level to the pool.
    pub fn pool_candidates(&mut self) {
        if self.whole {
            self.pool.clear();
        }
        self.new = self.pool.len();
        for candidate in self.proposed.drain(..) {
            let log_prob = self.frontier.path_with(candidate.parent, candidate.log_prob);
            if self.whole {
                let parent = self.place[candidate.parent].expect("what is run is in the tree");
                self.tree.push_path(parent, candidate.token, log_prob);
            }
            if log_prob >= self.floor {
                self.pool.push(Candidate { log_prob, ..candidate });
            }
        }
        self.pool[self.new..].sort_by(by_likelihood);
        self.width = 0;
    }

    /// The candidates pooled last, with the log probability of their whole path, the likeliest first.
    pub fn candidates(&self) -> &[Candidate] {
        &self.pool[self.new..]
    }

    /// The largest number of these candidates that may be expanded.
    pub fn most_that_go_on(&self) -> usize {
        if self.depth < self.shape.depth {
            self.shape.width.min(self.candidates().len())
        } else {
            0
        }
    }

    /// Sets how many candidates are expanded, the likeliest first.
    pub fn set_width(&mut self, width: usize) {
        self.width = width;
    }

    /// Number of candidates that are expanded.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Makes the chosen candidates the next level, or ends the growth if there is none.
    pub fn go_on(&mut self) {
        let first = self.frontier.len();
        if self.depth < self.shape.depth {
            let width = match self.whole {
                true => (self.shape.nodes - self.tree.len()) / self.shape.width,
                false => self.width,
            };
            for candidate in self.pool[self.new..].iter().take(width.min(self.shape.width)) {
                let Candidate { parent, token, log_prob } = *candidate;
                let node = self.frontier.push_path(parent, token, log_prob);
                if self.whole {
                    let parent = self.place[parent].expect("what is run is in the tree");
                    let node = node.expect("it has fewer nodes than the tree");
                    self.place[node] = self.tree.child(parent, token);
                }
            }
        }
        self.depth += 1;
        self.level = first..self.frontier.len();
        if self.level.is_empty() && !self.whole {
            self.finish();
        }
    }

    /// Ends the growth: no further level is run.
    pub fn close(&mut self) {
        self.level = 0..0;
    }

    /// Ends the growth and leaves the root, and what must follow it.
    pub fn stop(&mut self) {
        self.tree.len = self.tree.len.min(self.n_forced + 1);
        self.close();
    }

    /// Ends the growth of a tree that was written directly: keeps the nodes that its shape and floor allow.
    pub fn prune(&mut self) {
        self.tree.prune(self.shape.nodes, self.floor);
        self.close();
    }

    /// Builds the tree from the likeliest candidates of the pool.
    fn finish(&mut self) {
        // The sort is stable: of equally likely candidates those of earlier levels come first, hence parents before
        // children.
        self.pool.sort_by(by_likelihood);
        self.new = self.pool.len();
        for candidate in &self.pool {
            if self.tree.len() >= self.shape.nodes {
                break;
            }
            let Some(parent) = self.place[candidate.parent] else { continue };
            let added = self.tree.push_path(parent, candidate.token, candidate.log_prob);
            if let Some(node) = self.frontier.child(candidate.parent, candidate.token) {
                self.place[node] = added;
            }
        }
    }

    /// The frontier's node for `node` of the tree, if the drafter ran it.
    pub fn frontier_of(&self, node: usize) -> Option<usize> {
        self.place[..self.frontier.len()].iter().position(|place| *place == Some(node))
    }
}

fn by_likelihood(a: &Candidate, b: &Candidate) -> Ordering {
    b.log_prob.total_cmp(&a.log_prob)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A drafter's distribution after a path, a fixed function of its tokens: log probabilities of 6 tokens.
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

    /// Grows a tree of this shape with the largest widths; also returns how many levels were run.
    fn grow_by(
        shape: TreeShape,
        propose: impl Fn(&Tree, usize) -> Vec<(u32, f32)>,
    ) -> (Tree, usize) {
        let (mut growing, mut runs) = (GrowingTree::default(), 0);
        growing.start(3, shape, f32::NEG_INFINITY, false);
        while growing.is_growing() {
            runs += 1;
            for parent in growing.level() {
                for (token, log_prob) in propose(growing.frontier(), parent) {
                    growing.propose(Candidate { parent, token, log_prob });
                }
            }
            growing.pool_candidates();
            growing.set_width(growing.most_that_go_on());
            growing.go_on();
        }
        (*growing.tree(), runs)
    }

    fn grow(shape: TreeShape) -> (Tree, usize) {
        grow_by(shape, |frontier, parent| {
            let mut best = after(&tokens_to(frontier, parent));
            best.sort_by(|a, b| b.1.total_cmp(&a.1));
            best.truncate(shape.width);
            best
        })
    }

    /// The specification: sets of paths, sorted as a whole at each level.
    fn by_hand(shape: TreeShape) -> Vec<(Vec<u32>, f32)> {
        let by_likelihood = |a: &(Vec<u32>, f32), b: &(Vec<u32>, f32)| b.1.total_cmp(&a.1);
        let (mut level, mut pool) = (vec![(vec![3], 0.0f32)], Vec::new());
        for _ in 0..shape.depth {
            let mut next = Vec::new();
            for (path, log_prob) in &level {
                let mut best = after(path);
                best.sort_by(|a, b| b.1.total_cmp(&a.1));
                for (token, step) in best.into_iter().take(shape.width) {
                    next.push(([&path[..], &[token]].concat(), log_prob + step));
                }
            }
            next.sort_by(by_likelihood);
            pool.extend(next.clone());
            next.truncate(shape.width);
            level = next;
        }
        pool.sort_by(by_likelihood);
        pool.truncate(shape.nodes - 1);
        pool.sort_by(|a, b| a.0.cmp(&b.0));
        pool
    }

    proptest! {
        #[test]
        fn the_likeliest_candidates_of_all_levels_are_the_tree(
            depth in 1usize..7, width in 1usize..6, nodes in 2usize..40,
        ) {
            let shape = TreeShape { depth, width, nodes };
            let (tree, runs) = grow(shape);
            prop_assert!(runs <= depth && tree.len() <= nodes);
            let mut found: Vec<(Vec<u32>, f32)> =
                (1..tree.len()).map(|n| (tokens_to(&tree, n), tree.log_probs()[n])).collect();
            found.sort_by(|a, b| a.0.cmp(&b.0));
            let expected = by_hand(shape);
            // Equally likely candidates are interchangeable, so the test compares the total likelihood.
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
    fn certain_candidates_come_after_their_parents() {
        // Sums of logarithms are rounded: a child of probability 1 must not become likelier than its parent.
        let (tree, _) = grow_by("beam:6,2,13".parse().unwrap(), |_, parent| {
            vec![(1, if parent % 2 == 0 { -0.1 } else { 0.0 }), (2, f32::NAN)]
        });
        assert_eq!(tree.depth((0..tree.len()).max_by_key(|n| tree.depth(*n)).unwrap()), 6);
        assert!(tree.log_probs().iter().all(|p| !p.is_nan()));
    }

    #[test]
    fn a_drafter_that_fails_leaves_the_root() {
        let mut growing = GrowingTree::default();
        growing.start(5, "chain:3".parse().unwrap(), f32::NEG_INFINITY, false);
        growing.propose(Candidate { parent: 0, token: 1, log_prob: -0.5 });
        growing.pool_candidates();
        growing.set_width(1);
        growing.go_on();
        growing.stop();
        assert!(!growing.is_growing());
        assert_eq!(*growing.tree(), Tree::new(5));
    }
}
