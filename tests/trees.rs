//! The law for trees: every node of a tree of guesses has the logits that its path has as a plain
//! sequence, bit by bit, and a path that was kept is no different from one that was appended.

mod common;

use common::bits::{assert_same_bits, cache_types, logits, sequence, tiny_models};
use common::random::Random;
use common::tiny::N_VOCAB;
use common::{load, real_model};
use dovetail::Model;
use dovetail::target::{CacheType, CacheTypes, Outputs, Target};
use dovetail::tree::Tree;
use std::sync::Arc;

/// A tree of `n` nodes or, where guesses repeat, fewer: chains and bushes.
fn tree(n: usize, n_vocab: usize, random: &mut Random) -> Tree {
    let reach = 1 + random.below(12);
    let mut tree = Tree::new(random.below(n_vocab) as u32);
    for _ in 1..n {
        let parent = tree.len().saturating_sub(1 + random.below(reach));
        tree.push(parent, random.below(n_vocab) as u32, 0.0);
    }
    tree
}

/// The nodes from the root to `node`.
fn path(tree: &Tree, node: usize) -> Vec<usize> {
    let mut path: Vec<usize> =
        std::iter::successors(Some(node), |node| tree.parent(*node)).collect();
    path.reverse();
    path
}

/// Every node's logits are those of its path run as a plain sequence, and what follows a path that was
/// kept is what follows the plain sequence.
fn check_trees(model: &Arc<Model>, cache: CacheTypes, lens: &[usize], threads: usize, name: &str) {
    let n_vocab = model.config().n_vocab;
    let mut random = Random(lens.len() as u64);
    for &len in lens {
        let target = |threads| {
            Target::with_cache(model.clone(), len + 200, threads, len.max(64), cache).unwrap()
        };
        let (mut plain, mut target) = (target(1), target(threads));
        let mut tokens = sequence(len, n_vocab, 9);
        plain.append(&tokens, Outputs::None).unwrap();
        target.append(&tokens, Outputs::None).unwrap();
        for round in 0..3 {
            let n = [1 + random.below(64), 64, 1 + random.below(16)][round];
            let tree = tree(n, n_vocab, &mut random);
            let (n, guesses) = (tree.len(), tree.tokens());
            let about = format!("{name}: {n} nodes after {}, {threads} threads", tokens.len());
            // Whole, or the last nodes in a pass of their own, whose rows are theirs then.
            let done = if round == 1 { n / 3 } else { 0 };
            if done > 0 {
                let mut first = Tree::new(guesses[0]);
                for (node, token) in guesses.iter().enumerate().take(done).skip(1) {
                    first.push(tree.parent(node).unwrap(), *token, 0.0);
                }
                target.verify(&first).unwrap();
            }
            target.verify_more(&tree, done).unwrap();
            assert_eq!(target.kv().len(), tokens.len());
            let mut row = Vec::new();
            for node in done..n {
                let path: Vec<u32> = path(&tree, node).iter().map(|node| guesses[*node]).collect();
                plain.truncate(tokens.len());
                let expected = logits(&mut plain, &path, path.len());
                target.logits(node - done).copy_to(&mut row);
                let found: Vec<u32> = row.iter().map(|x| x.to_bits()).collect();
                let expected = &expected[(path.len() - 1) * n_vocab..];
                assert_same_bits(&found, expected, n_vocab, &format!("{about}, node {node}"));
            }
            let kept = path(&tree, random.below(n));
            let kept = &kept[..random.below(kept.len() + 1)];
            target.keep(kept).unwrap();
            plain.truncate(tokens.len());
            let kept: Vec<u32> = kept.iter().map(|node| guesses[*node]).collect();
            plain.append(&kept, Outputs::None).unwrap();
            tokens.extend(&kept);
            let next = sequence(3, n_vocab, random.bits());
            let expected = logits(&mut plain, &next, 3);
            let found = logits(&mut target, &next, 3);
            assert_same_bits(&found, &expected, n_vocab, &format!("{about}, {kept:?} kept"));
            tokens.extend(&next);
        }
    }
}

#[test]
fn a_tree_is_all_of_its_paths_at_once() {
    for (tiny, model) in tiny_models() {
        for cache in cache_types(&model) {
            let name = format!("{}, {cache:?}", tiny.name);
            check_trees(&model, cache, &[0, 1, 15, 17, 200, 255, 256], 2, &name);
        }
    }
}

#[test]
fn a_tree_of_the_real_model_is_all_of_its_paths_at_once() {
    let Some(path) = real_model() else { return };
    let model = Arc::new(load(&path).unwrap());
    check_trees(&model, CacheTypes::default(), &[13], 2, "the real model");
}

#[test]
fn impossible_trees_and_paths_leave_no_trace() {
    let (_, model) = tiny_models().next().unwrap();
    let mut target = Target::new(model, 40, 2, 20).unwrap();
    target.append(&[1; 15], Outputs::None).unwrap();
    target.append(&[2; 15], Outputs::None).unwrap();
    let chain = |n| {
        let mut tree = Tree::new(1);
        (1..n).for_each(|node| assert_eq!(tree.push(node - 1, 1, 0.0), Some(node)));
        tree
    };
    let mut fork = Tree::new(1);
    fork.push(0, 2, 0.0);
    fork.push(0, 3, 0.0);
    target.verify(&fork).unwrap();
    for tree in [Tree::new(N_VOCAB as u32), chain(11), chain(21)] {
        target.verify(&tree).unwrap_err();
    }
    for path in [&[1][..], &[0, 1, 2], &[3], &[0, 3]] {
        target.keep(path).unwrap_err();
    }
    target.keep(&[0, 2]).unwrap();
    assert_eq!(target.kv().len(), 32);
    target.keep(&[0]).unwrap_err();
    target.verify(&chain(3)).unwrap();
    target.keep(&[]).unwrap();
    target.keep(&[0]).unwrap_err();
    target.verify(&chain(8)).unwrap();
    target.truncate(31);
    target.keep(&[0]).unwrap_err();
    let bits = logits(&mut target, &[4, 5], 2);
    let tokens = [&[1; 15][..], &[2; 15], &[1, 4, 5]].concat();
    target.truncate(0);
    let expected = logits(&mut target, &tokens, 11);
    assert_same_bits(&bits, &expected[31 * N_VOCAB..], N_VOCAB, "after all");
}

#[test]
fn caches_that_the_model_cannot_have_are_refused() {
    let (tiny, model) = tiny_models().next().unwrap();
    assert_eq!(tiny.head_dim, 16);
    let cache = CacheTypes { values: CacheType::Q8_0, ..CacheTypes::default() };
    let error = Target::with_cache(model, 10, 1, 10, cache).err().expect("no blocks of 32");
    let text = "a cache of type q8_0 takes heads of a multiple of 32 elements, this model's have 16; \
                use f16";
    assert_eq!((error.to_string(), error.exit_code()), (text.to_owned(), 2));
}
