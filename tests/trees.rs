//! The law for trees: every node of a draft tree has the logits that its path has as a plain
//! sequence, bit by bit, and a path that was kept is no different from one that was appended. None of that
//! changes where trees of several sequences share a pass.

mod common;

use common::alone::Alone;
use common::bits::{FLOAT, assert_same_bits, cache_types, distance, logits, sequence, tiny_models};
use common::naive::{Naive, Rounding};
use common::random::Random;
use common::reference::{Reference, references};
use common::tiny::{N_VOCAB, tiny};
use common::{load, real_model};
use dovetail::infer::{CacheTypes, Logits, MAX_SEQUENCES, Outputs, Sequence, Target, Work};
use dovetail::tree::Tree;
use dovetail::{Error, Model};
use std::sync::Arc;

/// A tree of `n` nodes or, where tokens repeat, fewer: chains and bushes.
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
        let target =
            |threads| Alone::with_cache(model.clone(), len + 200, threads, len.max(64), cache);
        let (mut plain, mut target) = (target(1), target(threads));
        let mut tokens = sequence(len, n_vocab, 9);
        plain.append(&tokens, Outputs::None).unwrap();
        target.append(&tokens, Outputs::None).unwrap();
        for round in 0..3 {
            let n = [1 + random.below(64), 64, 1 + random.below(16)][round];
            let tree = tree(n, n_vocab, &mut random);
            let (n, nodes) = (tree.len(), tree.tokens());
            let about = format!("{name}: {n} nodes after {}, {threads} threads", tokens.len());
            // Whole, or the last nodes in a pass of their own, whose rows are theirs then.
            let done = if round == 1 { n / 3 } else { 0 };
            if done > 0 {
                let mut first = Tree::new(nodes[0]);
                for (node, token) in nodes.iter().enumerate().take(done).skip(1) {
                    first.push(tree.parent(node).unwrap(), *token, 0.0);
                }
                target.verify(&first).unwrap();
            }
            target.verify_more(&tree, done).unwrap();
            assert_eq!(target.len(), tokens.len());
            let mut row = Vec::new();
            for node in done..n {
                let path: Vec<u32> = path(&tree, node).iter().map(|node| nodes[*node]).collect();
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
            let kept: Vec<u32> = kept.iter().map(|node| nodes[*node]).collect();
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
        for cache in cache_types() {
            let name = format!("{}, {cache:?}", tiny.name);
            check_trees(&model, cache, &[0, 1, 15, 17, 200, 255, 256], 2, &name);
        }
    }
}

#[test]
fn a_tree_of_each_architecture_is_all_of_its_paths_at_once() {
    for Reference { name, parts, .. } in references() {
        let model = Arc::new(parts.load().unwrap());
        check_trees(&model, CacheTypes::default(), &[0, 9], 2, &name);
    }
}

#[test]
fn nodes_are_those_of_the_textbook() {
    let names = ["everything", "others", "norms after rope", "scales", "norms behind"];
    for name in ["f32", "window", "odd heads"].into_iter().chain(names) {
        let tiny = tiny(name);
        let parts = tiny.parts();
        let (model, naive) =
            (Arc::new(parts.load().unwrap()), Naive::new(*tiny, &parts, Rounding::None));
        let mut random = Random(11);
        // Windows that begin inside of the tree, before it, and in the chunk before.
        for len in [3, 40, 262] {
            let tokens = sequence(len, N_VOCAB, 12);
            let mut target = Alone::new(model.clone(), len + 64, 2, len.max(64));
            target.append(&tokens, Outputs::None).unwrap();
            let tree = tree(40, N_VOCAB, &mut random);
            target.verify(&tree).unwrap();
            let mut row = Vec::new();
            for node in (0..tree.len()).step_by(3) {
                let drafted = path(&tree, node).into_iter().map(|node| tree.tokens()[node]);
                let path: Vec<u32> = tokens.iter().copied().chain(drafted).collect();
                target.logits(node).copy_to(&mut row);
                let found: Vec<u32> = row.iter().map(|x| x.to_bits()).collect();
                let distance = distance(&found, naive.logits(&path).last().unwrap());
                assert!(distance < 3.0 * FLOAT, "{name}: node {node} after {len}: {distance}");
            }
        }
    }
}

#[test]
fn a_tree_of_the_real_model_is_all_of_its_paths_at_once() {
    let Some(path) = real_model() else { return };
    let model = Arc::new(load(&path).unwrap());
    check_trees(&model, CacheTypes::default(), &[13], 2, "the real model");
}

/// Sequences of different lengths whose trees share a pass: each row has the bits that it has alone, and
/// so has what follows the paths that are kept.
fn check_batches(model: &Arc<Model>, cache: CacheTypes, threads: usize, name: &str) {
    let (n_vocab, n_ctx) = (model.config().n_vocab, 700);
    let mut random = Random(threads as u64);
    let mut alone = Target::new(model.clone(), n_ctx, 1, 600).unwrap();
    let mut target = Target::new(model.clone(), n_ctx, threads, 600).unwrap();
    let mut row = Vec::new();
    let mut bits = |logits: Logits| {
        logits.copy_to(&mut row);
        row.iter().map(|x| x.to_bits()).collect::<Vec<u32>>()
    };
    for lens in [&[0, 300, 17][..], &[5, 1, 256, 255, 40, 0, 3, 600], &[20; MAX_SEQUENCES]] {
        let new = |target: &Target| target.sequence(cache).unwrap();
        let mut seqs: Vec<Sequence> = lens.iter().map(|_| new(&target)).collect();
        let mut same: Vec<Sequence> = lens.iter().map(|_| new(&alone)).collect();
        for (s, len) in lens.iter().enumerate() {
            let tokens = sequence(*len, n_vocab, random.bits());
            target.append(&mut seqs[s], &tokens, Outputs::None).unwrap();
            alone.append(&mut same[s], &tokens, Outputs::None).unwrap();
        }
        for most in [64, 1, 9] {
            let some = |random: &mut Random| 1 + random.below(most.min(600 / lens.len()));
            let trees: Vec<Tree> = lens
                .iter()
                .map(|_| {
                    let n = some(&mut random);
                    tree(n, n_vocab, &mut random)
                })
                .collect();
            let mut batch: Vec<_> =
                seqs.iter_mut().zip(&trees).map(|(seq, tree)| (seq, tree, 0)).collect();
            target.verify_batch(&mut batch).unwrap();
            let mut first = 0;
            for (s, tree) in trees.iter().enumerate() {
                let about = format!("{name}: {lens:?}, up to {most} nodes, sequence {s}");
                alone.verify(&mut same[s], tree).unwrap();
                for node in 0..tree.len() {
                    let found = bits(target.logits(first + node));
                    assert_same_bits(&found, &bits(alone.logits(node)), n_vocab, &about);
                }
                first += tree.len();
                let kept = path(tree, random.below(tree.len()));
                target.keep(&mut seqs[s], &kept).unwrap();
                alone.keep(&mut same[s], &kept).unwrap();
                assert_eq!(seqs[s].len(), same[s].len());
            }
        }
    }
}

#[test]
fn a_batch_is_each_sequence_alone() {
    for (tiny, model) in tiny_models() {
        for cache in cache_types() {
            check_batches(&model, cache, 3, &format!("{}, {cache:?}", tiny.name));
        }
    }
}

/// Prompts in chunks and trees of several sequences in the same passes: each row has the bits that it has
/// alone, there are rows of logits for exactly what was asked, and hidden states for every row.
fn check_mixtures(model: &Arc<Model>, cache: CacheTypes, threads: usize, name: &str) {
    let c = model.config();
    let (n_vocab, n_embd, taps) = (c.n_vocab, c.n_embd, [0, c.n_layers]);
    let mut random = Random(7 + threads as u64);
    let mut alone = Target::new(model.clone(), 700, 1, 700).unwrap();
    let mut target = Target::new(model.clone(), 700, threads, 200).unwrap();
    target.tap([&taps[..]]).unwrap();
    alone.tap([&taps[..]]).unwrap();
    let mut row = Vec::new();
    let mut bits = |logits: Logits| {
        logits.copy_to(&mut row);
        row.iter().map(|x| x.to_bits()).collect::<Vec<u32>>()
    };
    let mut seqs: Vec<Sequence> = (0..5).map(|_| target.sequence(cache).unwrap()).collect();
    let mut same: Vec<Sequence> = (0..5).map(|_| alone.sequence(cache).unwrap()).collect();
    for round in 0..12 {
        // What each sequence does: nothing, a chunk of its prompt, a tree, or more of its last tree.
        let mut done = [0; 5];
        let tokens: Vec<Vec<u32>> = (0..5)
            .map(|_| sequence([1, 2, 17, 60][random.below(4)], n_vocab, random.bits()))
            .collect();
        let trees: Vec<Tree> =
            (0..5).map(|_| tree(1 + random.below(30), n_vocab, &mut random)).collect();
        let kinds: Vec<usize> = (0..5).map(|_| random.below(6)).collect();
        for s in (0..5).filter(|s| kinds[*s] == 5) {
            done[s] = 1 + random.below(trees[s].len());
            let mut first = trees[s];
            first.prune_by(done[s], &(0..first.len()).map(|i| -(i as f32)).collect::<Vec<_>>());
            target.verify(&mut seqs[s], &first).unwrap();
        }
        let work = |s: usize| match kinds[s] {
            0 => Work::Run { tokens: &[], outputs: Outputs::All },
            1 => Work::Run { tokens: &tokens[s], outputs: Outputs::None },
            2 => Work::Run { tokens: &tokens[s], outputs: Outputs::Last },
            3 => Work::Run { tokens: &tokens[s], outputs: Outputs::All },
            4 => Work::Tree(&trees[s]),
            _ => Work::More { tree: &trees[s], done: done[s] },
        };
        let mut batch: Vec<_> =
            seqs.iter_mut().enumerate().map(|(s, seq)| (seq, work(s))).collect();
        let rows = match target.run(&mut batch) {
            Err(Error::Invalid(what)) if what.contains("at most 200 fit") => continue,
            rows => rows.unwrap(),
        };
        let (mut n_rows, mut n_outputs) = (0, 0);
        for s in 0..5 {
            let about = format!("{name}: round {round}, sequence {s} does {}", kinds[s]);
            let n = if kinds[s] < 4 { tokens[s].len() } else { trees[s].len() - done[s] };
            let n = if kinds[s] == 0 { 0 } else { n };
            let outputs = [0, 0, 1, n, n, n][kinds[s]];
            assert_eq!(rows[s].rows, n_rows..n_rows + n, "{about}");
            assert_eq!(rows[s].outputs, n_outputs..n_outputs + outputs, "{about}");
            (n_rows, n_outputs) = (n_rows + n, n_outputs + outputs);
            match kinds[s] {
                0..4 => {
                    let tokens = if kinds[s] == 0 { &[][..] } else { &tokens[s] };
                    alone.append(&mut same[s], tokens, Outputs::All).unwrap();
                }
                _ => alone.verify(&mut same[s], &trees[s]).unwrap(),
            }
            for (i, output) in rows[s].outputs.clone().enumerate() {
                let expected = bits(alone.logits(done[s] + n - outputs + i));
                assert_same_bits(&bits(target.logits(output)), &expected, n_vocab, &about);
            }
            for (i, row) in rows[s].rows.clone().enumerate() {
                let [found, expected] =
                    [target.features().row(&taps, row), alone.features().row(&taps, done[s] + i)];
                assert_eq!(found, expected, "{about}: hidden states");
                assert_eq!(found.len(), taps.len() * n_embd);
            }
            if kinds[s] >= 4 {
                let kept = path(&trees[s], random.below(trees[s].len()));
                target.keep(&mut seqs[s], &kept).unwrap();
                alone.keep(&mut same[s], &kept).unwrap();
            }
            assert_eq!(seqs[s].len(), same[s].len(), "{about}");
        }
    }
    assert!(seqs.iter().map(Sequence::len).max() > Some(100), "{name}: hardly any work was done");
}

#[test]
fn prompts_and_trees_share_passes() {
    for (tiny, model) in tiny_models() {
        for cache in cache_types().take(2) {
            check_mixtures(&model, cache, 3, &format!("{}, {cache:?}", tiny.name));
        }
    }
}

#[test]
fn an_impossible_batch_leaves_no_trace() {
    let (_, model) = tiny_models().next().unwrap();
    let mut target = Target::new(model.clone(), 40, 2, 40).unwrap();
    let new = |target: &Target| target.sequence(CacheTypes::default()).unwrap();
    let [mut a, mut b, mut full] = std::array::from_fn(|_| new(&target));
    let mut foreign = new(&Target::new(model, 41, 1, 40).unwrap());
    target.append(&mut a, &[1, 2, 3], Outputs::None).unwrap();
    target.append(&mut full, &[1; 40], Outputs::None).unwrap();
    let mut fork = Tree::new(4);
    fork.push(0, 5, 0.0);
    fork.push(0, 6, 0.0);
    target.verify_batch(&mut [(&mut a, &fork, 0), (&mut b, &fork, 0)]).unwrap();
    let other = Tree::new(9);
    let unknown = Tree::new(N_VOCAB as u32);
    for (seq, tree, done, part) in [
        (&mut full, &other, 0, "41 tokens do not fit"),
        (&mut foreign, &other, 0, "make it with Target::sequence"),
        (&mut b, &unknown, 0, "is not one of"),
    ] {
        let error = target.verify_batch(&mut [(&mut a, &other, 0), (seq, tree, done)]).unwrap_err();
        assert!(error.to_string().contains(part), "{error}");
    }
    let error = target.verify_batch(&mut [(&mut a, &other, 0), (&mut b, &other, 1)]).unwrap_err();
    assert_eq!(error.to_string(), "the last tree is not the first 1 nodes");
    let mut many: Vec<Sequence> = (0..=MAX_SEQUENCES).map(|_| new(&target)).collect();
    let mut batch: Vec<_> = many.iter_mut().map(|seq| (seq, &fork, 0)).collect();
    assert!(target.verify_batch(&mut batch).unwrap_err().to_string().contains("at most 16"));
    let error = target.verify_batch(&mut batch[..14]).unwrap_err();
    assert_eq!(error.to_string(), "42 tokens in one pass; at most 40 fit");
    target.verify_batch(&mut []).unwrap();
    // The trees from before all of this are still there.
    for seq in [&mut a, &mut b] {
        target.verify_more(seq, &fork, 3).unwrap();
        target.keep(seq, &[0, 2]).unwrap();
    }
    let [mut found, mut expected] = [Vec::new(), Vec::new()];
    target.append(&mut a, &[7], Outputs::Last).unwrap();
    target.logits(0).copy_to(&mut found);
    target.append(&mut new(&target), &[1, 2, 3, 4, 6, 7], Outputs::Last).unwrap();
    target.logits(0).copy_to(&mut expected);
    assert_eq!(found, expected);
}

#[test]
fn impossible_trees_and_paths_leave_no_trace() {
    let (_, model) = tiny_models().next().unwrap();
    let mut target = Alone::new(model, 40, 2, 20);
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
    assert_eq!(target.len(), 32);
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
