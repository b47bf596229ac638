//! A tree of drafted tokens: possible continuations of a sequence.
//!
//! Node 0, the root, is the sequence's last token, which the target has not run yet. Every other node is a drafted
//! token that follows its parent. Parents come before children, and no node has two children with the same token, so
//! the tokens of a path identify it. The target gets the arrays stored here: tokens, and for each node a bit mask of
//! the nodes it sees (tree attention, arXiv 2412.18934).
//!
//! ```text
//!            ┌─ 1 ── 3          tokens     of each node
//! root ─ 0 ──┤                  masks      0001 0011 0101 1011: itself and its ancestors
//!            └─ 2               log_probs  of the path from the root, by its drafter
//! ```

mod grow;
mod shape;

pub use grow::{Candidate, GrowingTree};
pub use shape::TreeShape;

use dovetail_kernels::cpu::attention::MAX_TREE;
use smallvec::SmallVec;

/// Largest number of nodes, the root included: one bit of a mask for each.
pub const MAX_NODES: usize = MAX_TREE;

/// Possible continuations of a sequence. See the module.
#[derive(Clone, Copy, Debug)]
pub struct Tree {
    len: usize,
    tokens: [u32; MAX_NODES],
    parents: [u8; MAX_NODES],
    masks: [u64; MAX_NODES],
    log_probs: [f32; MAX_NODES], // of the whole path
}

impl Tree {
    /// A tree of the root alone.
    pub fn new(root: u32) -> Tree {
        let mut tree = Tree {
            len: 0,
            tokens: [0; MAX_NODES],
            parents: [0; MAX_NODES],
            masks: [0; MAX_NODES],
            log_probs: [0.0; MAX_NODES],
        };
        tree.reset(root);
        tree
    }

    /// Removes all nodes but the root, which becomes `root`.
    pub fn reset(&mut self, root: u32) {
        self.len = 0;
        self.add(None, root, 0.0);
    }

    /// Adds a drafted token: `token` follows node `parent` with log probability `log_prob`, which is capped at 0.
    /// Returns its node; the existing one, with the larger of both probabilities, if `parent` already has a child
    /// `token`; `None` if the tree is full.
    ///
    /// # Panics
    /// If there is no node `parent`.
    pub fn push(&mut self, parent: usize, token: u32, log_prob: f32) -> Option<usize> {
        self.push_path(parent, token, self.path_with(parent, log_prob))
    }

    /// The log probability of the path to a child of `parent`.
    fn path_with(&self, parent: usize, log_prob: f32) -> f32 {
        // A drafter that gives NaN gives no usable probability.
        let step = if log_prob.is_nan() { f32::NEG_INFINITY } else { log_prob.min(0.0) };
        self.log_probs()[parent] + step
    }

    /// [`Tree::push`] with the log probability of the whole path, which is at most its parent's.
    pub(crate) fn push_path(&mut self, parent: usize, token: u32, path: f32) -> Option<usize> {
        if let Some(node) = self.child(parent, token) {
            self.log_probs[node] = self.log_probs[node].max(path);
            return Some(node);
        }
        (self.len < MAX_NODES).then(|| self.add(Some(parent), token, path))
    }

    fn add(&mut self, parent: Option<usize>, token: u32, log_prob: f32) -> usize {
        let node = self.len;
        self.len += 1;
        self.tokens[node] = token;
        self.parents[node] = parent.unwrap_or(0) as u8;
        self.masks[node] = parent.map_or(0, |parent| self.masks[parent]) | 1 << node;
        self.log_probs[node] = log_prob;
        node
    }

    /// Number of nodes, the root included.
    #[allow(clippy::len_without_is_empty, reason = "there is always a root")]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Token of each node: (nodes).
    pub fn tokens(&self) -> &[u32] {
        &self.tokens[..self.len]
    }

    /// The nodes that each node sees, itself and its ancestors; bit `j` stands for node `j`: (nodes).
    pub fn masks(&self) -> &[u64] {
        &self.masks[..self.len]
    }

    /// Log probability, by the drafter, of the path to each node: (nodes).
    pub fn log_probs(&self) -> &[f32] {
        &self.log_probs[..self.len]
    }

    /// The parent of `node`; `None` for the root.
    pub fn parent(&self, node: usize) -> Option<usize> {
        (node > 0).then(|| self.parents[node] as usize)
    }

    /// Number of drafted tokens on the path to `node`, its own included.
    pub fn depth(&self, node: usize) -> usize {
        self.masks()[node].count_ones() as usize - 1
    }

    /// The child of `node` with this token.
    pub fn child(&self, node: usize, token: u32) -> Option<usize> {
        self.children(node).find(|child| self.tokens[*child] == token)
    }

    /// The children of `node`, in ascending order.
    pub fn children(&self, node: usize) -> impl Iterator<Item = usize> {
        (node + 1..self.len).filter(move |child| self.parents[*child] as usize == node)
    }

    /// The end of the path that goes on with the likeliest child at each node.
    pub fn likeliest_leaf(&self) -> usize {
        let likelier = |a: &usize, b: &usize| self.log_probs[*a].total_cmp(&self.log_probs[*b]);
        let next = |node: &usize| self.children(*node).max_by(likelier);
        std::iter::successors(Some(0), next).last().expect("there is a root")
    }

    /// The tokens on the path to `node`, without the root's.
    pub fn path(&self, node: usize) -> SmallVec<[u32; MAX_NODES]> {
        let seen = (1..=node).filter(|other| self.masks()[node] >> other & 1 == 1);
        seen.map(|other| self.tokens[other]).collect()
    }

    /// Whether `path` starts at the root and each further node is a child of the one before.
    pub fn is_path(&self, path: &[usize]) -> bool {
        let steps = path.windows(2);
        path.first() == Some(&0)
            && path.iter().all(|node| *node < self.len)
            && steps.into_iter().all(|pair| self.parent(pair[1]) == Some(pair[0]))
    }

    /// Keeps the `n` likeliest nodes, at least the root; of equally likely ones the first; none whose path has a log
    /// probability below `floor`. The remainder is a tree, since no path is likelier than its prefix.
    pub fn prune(&mut self, n: usize, floor: f32) {
        let log_probs = self.log_probs;
        let likely = self.log_probs().iter().filter(|log_prob| **log_prob >= floor).count();
        self.prune_by(n.min(likely), &log_probs[..self.len]);
    }

    /// Keeps the `n` nodes with the largest `value`, at least the root; of equal ones the first. `value`: (nodes), in
    /// which no node exceeds its parent.
    pub fn prune_by(&mut self, n: usize, value: &[f32]) {
        let old = *self;
        let mut best: [usize; MAX_NODES] = std::array::from_fn(|node| node);
        let best = &mut best[..old.len];
        best.sort_unstable_by(|&a, &b| value[b].total_cmp(&value[a]).then(a.cmp(&b)));
        let kept = &mut best[..n.clamp(1, old.len)];
        kept.sort_unstable();
        let mut place = [0; MAX_NODES];
        self.reset(old.tokens[0]);
        for node in kept[1..].iter().copied() {
            let parent = place[old.parents[node] as usize];
            place[node] = self.add(Some(parent), old.tokens[node], old.log_probs[node]);
        }
    }

    /// Adds the nodes of another tree for the same sequence, as many as fit.
    pub fn merge(&mut self, other: &Tree) {
        debug_assert_eq!(self.tokens[0], other.tokens[0], "trees of the same sequence");
        let mut place = [Some(0); MAX_NODES];
        for node in 1..other.len {
            let parent = other.parents[node] as usize;
            let log_prob = other.log_probs[node] - other.log_probs[parent];
            place[node] =
                place[parent].and_then(|parent| self.push(parent, other.tokens[node], log_prob));
        }
    }
}

impl PartialEq for Tree {
    /// Compares masks in place of parents: equal masks mean equal parents.
    fn eq(&self, other: &Tree) -> bool {
        (self.tokens(), self.masks(), self.log_probs())
            == (other.tokens(), other.masks(), other.log_probs())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The paths of a tree, each as its tokens after the root. This set is the specification of a tree.
    fn paths(tree: &Tree) -> Vec<Vec<u32>> {
        let path = |mut node: usize| {
            let mut tokens = Vec::new();
            while let Some(parent) = tree.parent(node) {
                tokens.insert(0, tree.tokens()[node]);
                node = parent;
            }
            tokens
        };
        (0..tree.len()).map(path).collect()
    }

    /// A random tree, made of triples (any earlier node, token, log probability).
    fn any_tree() -> impl Strategy<Value = Tree> {
        prop::collection::vec((any::<usize>(), 0u32..4, -3i32..=0), 0..100).prop_map(|triples| {
            let mut tree = Tree::new(7);
            for (parent, token, log_prob) in triples {
                tree.push(parent % tree.len(), token, log_prob as f32 / 2.0);
            }
            tree
        })
    }

    #[test]
    fn nodes_see_their_ancestors() {
        //        ┌─ 1 ── 3
        //   0 ───┤
        //        └─ 2 ── 4 ── 5
        let mut tree = Tree::new(9);
        for (node, (parent, token)) in
            [(0, 5), (0, 6), (1, 5), (2, 5), (4, 1)].into_iter().enumerate()
        {
            assert_eq!(tree.push(parent, token, -1.0), Some(node + 1));
        }
        assert_eq!(tree.masks(), [1, 3, 5, 11, 21, 53]);
        assert_eq!([0, 1, 5].map(|node| tree.depth(node)), [0, 1, 3]);
        assert_eq!(tree.log_probs(), [0.0, -1.0, -1.0, -2.0, -2.0, -3.0]);
        assert_eq!((tree.child(0, 6), tree.child(3, 5)), (Some(2), None));
        for path in [&[0][..], &[0, 1, 3], &[0, 2, 4, 5]] {
            assert!(tree.is_path(path), "{path:?}");
        }
        for path in [&[][..], &[1], &[0, 3], &[0, 1, 2], &[1, 0], &[0, 0], &[0, 6], &[0, 1, 64]] {
            assert!(!tree.is_path(path), "{path:?}");
        }
    }

    #[test]
    fn a_draft_token_that_is_there_keeps_the_larger_probability() {
        let mut tree = Tree::new(0);
        for log_prob in [-2.0, -1.0, -3.0] {
            assert_eq!(tree.push(0, 1, log_prob), Some(1));
        }
        assert_eq!((tree.len(), tree.log_probs()[1]), (2, -1.0));
        assert_eq!(tree.push(0, 2, 0.5), Some(2), "no draft token is more than certain");
        assert_eq!(tree.log_probs()[2], 0.0);
    }

    #[test]
    fn a_full_tree_takes_no_more() {
        let mut tree = Tree::new(0);
        for node in 1..MAX_NODES {
            assert_eq!(tree.push(node - 1, 3, 0.0), Some(node));
        }
        assert_eq!((tree.push(0, 9, 0.0), tree.push(0, 3, 0.0)), (None, Some(1)));
        assert_eq!(tree.masks()[MAX_NODES - 1], u64::MAX);
        tree.reset(1);
        assert_eq!(tree, Tree::new(1));
    }

    proptest! {
        #[test]
        fn masks_name_the_path(tree in any_tree()) {
            for (node, path) in paths(&tree).into_iter().enumerate() {
                let seen: Vec<usize> = (0..64).filter(|j| tree.masks()[node] >> j & 1 == 1).collect();
                prop_assert!(tree.is_path(&seen) && seen.last() == Some(&node));
                let tokens: Vec<u32> = seen[1..].iter().map(|node| tree.tokens()[*node]).collect();
                prop_assert_eq!(&tokens, &path);
                prop_assert_eq!(&tree.path(node)[..], &path[..]);
                let leaf = tree.likeliest_leaf();
                let likeliest = |on: usize| tree.children(on).all(|n| tree.log_probs()[n] <= tree.log_probs()[node]);
                let is_on_path = tree.masks()[leaf] >> node & 1 == 1;
                prop_assert!(tree.parent(node).is_none_or(|on| !is_on_path || likeliest(on)));
                prop_assert!(node != leaf || tree.children(node).next().is_none());
                prop_assert_eq!(tree.depth(node), path.len());
                prop_assert!(tree.parent(node).is_none_or(|p| tree.log_probs()[p] >= tree.log_probs()[node]));
            }
            let all = paths(&tree);
            let distinct: std::collections::BTreeSet<_> = all.iter().collect();
            prop_assert_eq!(distinct.len(), all.len());
        }

        #[test]
        fn pruning_keeps_the_likeliest_and_their_ancestors(tree in any_tree(), n in 0usize..70) {
            let mut pruned = tree;
            pruned.prune(n, f32::NEG_INFINITY);
            let mut nodes: Vec<usize> = (0..tree.len()).collect();
            nodes.sort_by(|a, b| tree.log_probs()[*b].total_cmp(&tree.log_probs()[*a]));
            nodes.truncate(n.max(1));
            nodes.sort();
            let all = paths(&tree);
            let expected: Vec<_> = nodes.iter().map(|n| (all[*n].clone(), tree.log_probs()[*n])).collect();
            let found: Vec<_> = paths(&pruned).into_iter().zip(pruned.log_probs().to_vec()).collect();
            prop_assert_eq!(found, expected);
            let mut again = Tree::new(7);
            for node in 1..pruned.len() {
                let parent = pruned.parent(node).expect("not the root");
                again.push(parent, pruned.tokens()[node], 0.0);
            }
            prop_assert_eq!(again.masks(), pruned.masks());
        }

        #[test]
        fn merging_unites_the_paths(a in any_tree(), b in any_tree()) {
            let mut both = a;
            both.merge(&b);
            let set = |tree: &Tree| paths(tree).into_iter().collect::<std::collections::BTreeSet<_>>();
            let united: std::collections::BTreeSet<_> = set(&a).union(&set(&b)).cloned().collect();
            if united.len() <= MAX_NODES {
                prop_assert_eq!(set(&both), united);
            } else {
                prop_assert!(both.len() == MAX_NODES && set(&both).is_subset(&united));
            }
            for path in set(&a) {
                prop_assert!(set(&both).contains(&path));
            }
        }
    }
}
