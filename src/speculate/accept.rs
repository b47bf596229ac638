//! Acceptance: the branch of a tree that the target agrees with.
//!
//! *Rule A* ([`accept_matching`]) samples the target's token at a node, as plain decoding would, and goes on to the
//! child with that token. It is exact for any tree that was fixed before the draws, however it was grown, pruned or
//! merged. Since a draw depends only on seed, position and distribution, the text is that of plain decoding to the
//! letter.
//!
//! *Rule B* ([`accept_rejecting`], [`Rejection`]) takes drafted tokens that were sampled from the drafter's
//! distribution without replacement, and accepts each with the probability that preserves the target's distribution. It
//! accepts more at high temperatures, and keeps the distribution but not the text. A tree must not be pruned after its
//! tokens were sampled. A drafted token that was not sampled counts as sampled from a distribution with that token
//! alone.
//!
//! # Source
//! Leviathan et al., arXiv 2211.17192 (one drafted token); Jeon et al., arXiv 2402.14160 (several without replacement);
//! Miao et al., arXiv 2305.09781 (trees).

use crate::sample::Distribution;
use crate::tree::Tree;

/// Rule A along `tree` from its root. `choose(node, history)` is the target's token after `node`, and `history` all
/// tokens before it; a token that `ends` the text is the last. Appends the accepted tokens and the token after them to
/// `history`, whose last token is the root's. Writes the accepted nodes, the root first, to `path`.
pub fn accept_matching(
    tree: &Tree,
    history: &mut Vec<u32>,
    path: &mut Vec<usize>,
    mut choose: impl FnMut(usize, &[u32]) -> u32,
    ends: impl Fn(u32) -> bool,
) {
    let step = |node: usize, history: &[u32]| {
        let token = choose(node, history);
        (token, tree.child(node, token))
    };
    descend(tree, history, path, step, ends);
}

/// Rule B along `tree` from its root. `target(node, history)` is the target's distribution after `node`; `draft(node)`
/// is the distribution from which its children were sampled in their order, if they were sampled. `draw(position,
/// Some(n))` is a number in [0, 1) for the n-th drafted token at a position, and `draw(position, None)` one for the
/// token there if all are rejected. All draws must be independent of each other and of the drafted tokens. Other
/// arguments are those of [`accept_matching`].
pub fn accept_rejecting<'a>(
    tree: &Tree,
    history: &mut Vec<u32>,
    path: &mut Vec<usize>,
    mut target: impl FnMut(usize, &[u32]) -> Distribution,
    draft: impl Fn(usize) -> Option<&'a Distribution>,
    mut draw: impl FnMut(usize, Option<usize>) -> f64,
    ends: impl Fn(u32) -> bool,
) {
    let step = |node: usize, history: &[u32]| {
        let position = history.len();
        let mut rule = Rejection::new(target(node, history), draft(node).cloned());
        for (nth, child) in tree.children(node).enumerate() {
            let token = tree.tokens()[child];
            if draw(position, Some(nth)) < rule.accept_probability(token) {
                return (token, Some(child));
            }
            rule.reject(token);
        }
        (rule.rest().at(draw(position, None)).expect("a target has a distribution"), None)
    };
    descend(tree, history, path, step, ends);
}

/// Descends while `step` gives a child: it returns the token after a node, and the child with that token.
fn descend(
    tree: &Tree,
    history: &mut Vec<u32>,
    path: &mut Vec<usize>,
    mut step: impl FnMut(usize, &[u32]) -> (u32, Option<usize>),
    ends: impl Fn(u32) -> bool,
) {
    debug_assert_eq!(history.last(), Some(&tree.tokens()[0]), "the tree continues the sequence");
    path.clear();
    let mut next = Some(0);
    while let Some(node) = next {
        path.push(node);
        let (token, child) = step(node, history);
        history.push(token);
        next = child.filter(|_| !ends(token));
    }
}

/// Rule B at one node: drafted tokens are tested in the order in which they were sampled.
#[derive(Clone, Debug)]
pub struct Rejection {
    target: Distribution,
    draft: Option<Distribution>,
}

impl Rejection {
    /// At a node with the target's distribution `target`, whose children were sampled from `draft` without replacement;
    /// `None` if they were not sampled.
    pub fn new(target: Distribution, draft: Option<Distribution>) -> Rejection {
        Rejection { target, draft }
    }

    /// The probability with which the next drafted token, `token`, is accepted: min(1, p / q).
    pub fn accept_probability(&self, token: u32) -> f64 {
        let (p, q) =
            (self.target.of(token), self.draft.as_ref().map_or(1.0, |draft| draft.of(token)));
        if p > 0.0 { (p / q).min(1.0) } else { 0.0 }
    }

    /// Accounts for the rejection of `token`: the target's distribution becomes (p − q)⁺, normalised, and the drafter's
    /// becomes that of the other tokens.
    pub fn reject(&mut self, token: u32) {
        let Some(draft) = &mut self.draft else {
            // p stays if it was 1, since then the token cannot have been rejected.
            if self.target.of(token) < 1.0 {
                self.target.remove(token);
            }
            return;
        };
        // If p = q up to rounding, the rejection had probability 0, and p stays.
        self.target.subtract(draft);
        draft.remove(token);
    }

    /// The distribution of the target's token if all drafted tokens are rejected.
    pub fn rest(&self) -> &Distribution {
        &self.target
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const V: usize = 5;

    /// A generator of distributions over `V` tokens, some of them peaked, some without certain tokens.
    struct Cases(u64);

    impl Cases {
        fn uniform(&mut self) -> f64 {
            self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (self.0 >> 11) as f64 / (1u64 << 53) as f64
        }

        fn distribution(&mut self) -> Distribution {
            let (sharpness, gap) = (1.0 + 5.0 * self.uniform(), self.uniform() < 0.3);
            let left_out = (self.uniform() * V as f64) as u32;
            Distribution::new((0..V as u32).map(|token| {
                let weight = self.uniform().powf(sharpness) + 1e-3;
                (token, if gap && token == left_out { 0.0 } else { weight })
            }))
        }
    }

    fn dense(d: &Distribution) -> [f64; V] {
        std::array::from_fn(|token| d.of(token as u32))
    }

    /// Half the sum of the absolute differences.
    fn total_variation(a: [f64; V], b: [f64; V]) -> f64 {
        a.iter().zip(b).map(|(a, b)| (a - b).abs()).sum::<f64>() / 2.0
    }

    /// Calls `visit(tokens, probability)` for all ways to sample `k` tokens without replacement.
    fn draws(draft: &Distribution, k: usize, visit: &mut impl FnMut(&[u32], f64)) {
        fn go(
            left: Distribution,
            k: usize,
            drawn: &mut Vec<u32>,
            probability: f64,
            visit: &mut impl FnMut(&[u32], f64),
        ) {
            let possible = (0..V as u32).any(|token| left.of(token) > 0.0);
            if k == 0 || !possible {
                return visit(drawn, probability);
            }
            for token in (0..V as u32).filter(|token| left.of(*token) > 0.0) {
                let mut others = left.clone();
                others.remove(token);
                drawn.push(token);
                go(others, k - 1, drawn, probability * left.of(token), visit);
                drawn.pop();
            }
        }
        go(draft.clone(), k, &mut Vec::new(), 1.0, visit);
    }

    /// The exact distribution of the first token if each drafted token in turn is tested with `accept(rule, token)`
    /// and, after a rejection, followed by `reject(rule, token)`.
    fn outcome(
        target: &Distribution,
        draft: &Distribution,
        k: usize,
        select: impl Fn(&[u32]) -> Vec<u32>,
        reject: impl Fn(&mut Rejection, u32),
    ) -> [f64; V] {
        let mut out = [0.0; V];
        draws(draft, k, &mut |drafted, probability| {
            let mut rule = Rejection::new(target.clone(), Some(draft.clone()));
            let mut reach = probability;
            for token in select(drafted) {
                let accept = rule.accept_probability(token);
                out[token as usize] += reach * accept;
                reach *= 1.0 - accept;
                reject(&mut rule, token);
            }
            for (out, p) in out.iter_mut().zip(dense(rule.rest())) {
                *out += reach * p;
            }
        });
        out
    }

    #[test]
    fn rejection_leaves_the_targets_distribution_exactly() {
        let mut cases = Cases(1);
        for _ in 0..60 {
            let (target, draft) = (cases.distribution(), cases.distribution());
            for k in 0..=V {
                let out = outcome(&target, &draft, k, <[u32]>::to_vec, Rejection::reject);
                let error = total_variation(out, dense(&target));
                assert!(error <= 1e-12, "{k} draft tokens: {error:e}\n{target:?}\n{draft:?}");
            }
        }
    }

    /// A drafted token that was not sampled is accepted with the probability that the target gives it.
    #[test]
    fn draft_tokens_that_were_not_sampled_leave_it_too() {
        let mut cases = Cases(5);
        for _ in 0..60 {
            let target = cases.distribution();
            for drafted in [&[][..], &[2], &[4, 0], &[3, 1, 2, 0, 4]] {
                let mut rule = Rejection::new(target.clone(), None);
                let (mut out, mut reach) = ([0.0; V], 1.0);
                for &token in drafted {
                    let accept = rule.accept_probability(token);
                    out[token as usize] += reach * accept;
                    reach *= 1.0 - accept;
                    rule.reject(token);
                }
                for (out, p) in out.iter_mut().zip(dense(rule.rest())) {
                    *out += reach * p;
                }
                assert!(total_variation(out, dense(&target)) <= 1e-12, "{drafted:?}");
            }
        }
    }

    /// Rounds over trees of sampled tokens, with a target distribution at each node: the first two tokens have the
    /// joint distribution of plain decoding.
    #[test]
    fn whole_trees_leave_the_texts_distribution() {
        const ROUNDS: usize = 200_000;
        let after = |history: &[u32], seed: u64| {
            let seed = history.iter().fold(seed, |seed, token| seed * 31 + u64::from(*token));
            Cases(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15)).distribution()
        };
        let (target, draft) = (|h: &[u32]| after(h, 7), |h: &[u32]| after(h, 8));
        let mut draws = Cases(3);
        let mut counts = [[0.0; V]; V];
        let (mut history, mut path) = (Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            // Three children of the root, two of the likeliest of them, none of the others.
            let mut tree = Tree::new(0);
            let mut drawn = vec![draft(&[0])];
            let propose = |draws: &mut Cases, tree: &mut Tree, parent, from: &Distribution, n| {
                let mut left = from.clone();
                for _ in 0..n {
                    let Some(token) = left.at(draws.uniform()) else { break };
                    left.remove(token);
                    tree.push(parent, token, from.of(token).ln() as f32);
                }
            };
            propose(&mut draws, &mut tree, 0, &drawn[0], 3);
            let best = (1..tree.len())
                .max_by(|a, b| tree.log_probs()[*a].total_cmp(&tree.log_probs()[*b]));
            let best = best.unwrap();
            drawn.push(draft(&[0, tree.tokens()[best]]));
            propose(&mut draws, &mut tree, best, &drawn[1], 2);
            history.clear();
            history.push(0);
            let from = |node: usize| match node {
                0 => Some(&drawn[0]),
                node => (node == best).then_some(&drawn[1]),
            };
            accept_rejecting(
                &tree,
                &mut history,
                &mut path,
                |_, history| target(history),
                from,
                |_, _| draws.uniform(),
                |token| token == 1,
            );
            assert!(tree.is_path(&path) && path.len() + 1 == history.len());
            if history.len() == 2 {
                assert!(history[1] == 1 || path == [0]);
                let second = target(&history).at(draws.uniform()).unwrap();
                history.push(second);
            }
            counts[history[1] as usize][history[2] as usize] += 1.0 / ROUNDS as f64;
        }
        let first = target(&[0]);
        for (a, row) in counts.iter().enumerate() {
            let second = target(&[0, a as u32]);
            for (b, count) in row.iter().enumerate() {
                let p = first.of(a as u32) * second.of(b as u32);
                let deviation = (p * (1.0 - p) / ROUNDS as f64).sqrt();
                assert!((p - count).abs() <= 5.0 * deviation, "{a} {b}: {p} {count}");
            }
        }
    }

    /// The enumeration detects wrong rules that have been used in practice.
    #[test]
    fn wrong_rules_do_not_leave_it() {
        let mut cases = Cases(2);
        let mut largest = [0.0f64; 3];
        for _ in 0..60 {
            let (target, draft) = (cases.distribution(), cases.distribution());
            let exact = dense(&target);
            // The likeliest tokens are taken, and tested as if they had been sampled.
            let mut best: Vec<u32> = (0..V as u32).collect();
            best.sort_by(|a, b| draft.of(*b).total_cmp(&draft.of(*a)));
            let likeliest = |_: &[u32]| best[..2].to_vec();
            // Drafted tokens are dropped after they were sampled.
            let cut = |drafted: &[u32]| {
                drafted.iter().copied().filter(|token| draft.of(*token) > 0.15).collect()
            };
            // The drafter's distribution is not updated after a rejection.
            let no_removal = |rule: &mut Rejection, token| {
                let draft = rule.draft.clone();
                rule.reject(token);
                rule.draft = draft;
            };
            let outcomes = [
                outcome(&target, &draft, 2, likeliest, Rejection::reject),
                outcome(&target, &draft, 3, cut, Rejection::reject),
                outcome(&target, &draft, 3, <[u32]>::to_vec, no_removal),
            ];
            for (largest, out) in largest.iter_mut().zip(outcomes) {
                *largest = largest.max(total_variation(out, exact));
            }
        }
        assert!(largest.iter().all(|error| *error > 0.02), "{largest:?}");
    }

    /// A tree of fixed tokens, with a target distribution at each node: a text of four tokens has the probability that
    /// plain decoding gives it, whatever was drafted.
    #[test]
    fn matching_leaves_every_texts_probability() {
        const LENGTH: usize = 3;
        // The target's distribution after a history, a fixed function of it.
        let after = |history: &[u32]| {
            let seed = history.iter().fold(7u64, |seed, token| seed * 31 + u64::from(*token));
            Cases(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15)).distribution()
        };
        let mut trees = vec![Tree::new(0); 4];
        for (tree, nodes) in trees.iter_mut().zip([
            &[][..],
            &[(0, 1), (1, 2), (2, 3)],
            &[(0, 1), (0, 2), (0, 3), (0, 4), (0, 0)],
            &[(0, 0), (0, 4), (1, 1), (1, 2), (2, 2), (5, 0)],
        ]) {
            for (parent, token) in nodes {
                tree.push(*parent, *token, -1.0);
            }
        }
        let texts = V.pow(LENGTH as u32);
        let text = |mut i: usize| -> Vec<u32> {
            (0..LENGTH)
                .map(|_| {
                    let t = i % V;
                    i /= V;
                    t as u32
                })
                .collect()
        };
        for tree in &trees {
            let mut sum = 0.0;
            for text in (0..texts).map(text) {
                // The draws at its positions determine this text; plain decoding continues a round that ends early. Its
                // probability is the product of those of the draws.
                let mut whole = vec![0];
                whole.extend_from_slice(&text);
                let plain: f64 = (1..=LENGTH).map(|n| after(&whole[..n]).of(whole[n])).product();
                let (mut history, mut path, mut speculative) = (vec![0], Vec::new(), 1.0);
                accept_matching(
                    tree,
                    &mut history,
                    &mut path,
                    |_, history| {
                        // Any token will do behind the text.
                        let Some(token) = whole.get(history.len()) else { return V as u32 };
                        speculative *= after(history).of(*token);
                        *token
                    },
                    |_| false,
                );
                assert_eq!(path.len() + 1, history.len());
                for n in history.len()..whole.len() {
                    speculative *= after(&whole[..n]).of(whole[n]);
                }
                assert!((plain - speculative).abs() <= 1e-15, "{text:?}");
                assert_eq!(
                    &history[..history.len().min(whole.len())],
                    &whole[..history.len().min(whole.len())]
                );
                sum += speculative;
            }
            assert!((sum - 1.0).abs() <= 1e-12);
        }
    }

    #[test]
    fn matching_goes_down_as_far_as_the_target_agrees() {
        //   7 ─ 1 ─ 2 ─ 3      and 7 ─ 4
        let mut tree = Tree::new(7);
        for (parent, token) in [(0, 1), (1, 2), (2, 3), (0, 4)] {
            tree.push(parent, token, 0.0);
        }
        for (target, expected, nodes) in [
            // A token that ends the text is the last, even if it was drafted.
            (&[1, 2, 3, 9][..], &[5, 7, 1, 2, 3][..], &[0, 1, 2][..]),
            (&[1, 2, 8], &[5, 7, 1, 2, 8], &[0, 1, 2]),
            (&[4, 1], &[5, 7, 4, 1], &[0, 4]),
            (&[2], &[5, 7, 2], &[0]),
        ] {
            let (mut history, mut path) = (vec![5, 7], vec![3]);
            let choose = |_, history: &[u32]| target[history.len() - 2];
            accept_matching(&tree, &mut history, &mut path, choose, |token| token == 3);
            assert_eq!((&history[..], &path[..]), (expected, nodes));
        }
    }

    #[test]
    fn nothing_left_is_not_divided() {
        let even = Distribution::new([(0, 1.0), (1, 1.0)]);
        let mut rule = Rejection::new(even.clone(), Some(even.clone()));
        for token in [0, 1, 1] {
            rule.reject(token);
            assert!(dense(rule.rest()).iter().all(|p| p.is_finite()));
            assert!(rule.rest().at(0.7).is_some());
        }
        assert_eq!(Distribution::new([(3, 0.0)]).at(0.5), None);
        assert_eq!(even.at(0.999_999_999), Some(1));
        assert_eq!(even.at(0.49), Some(0));
        let tiny = Distribution::new([(0, 1e-320), (1, 1e-320)]);
        assert!(dense(&tiny).iter().all(|p| p.is_finite()) && tiny.at(0.9).is_some());
    }
}
