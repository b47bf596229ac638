//! Made-up trained drafters, and the drafter as the formulas have it.

use super::bits::sequence;
use super::gguf::{Parts, Tensor};
use super::naive::{Naive, Rounding};
use super::random::Random;
use super::tiny::{LLAMA, N_VOCAB, RMS_EPS, Tiny, random_tensor, types};
use dovetail::Model;
use dovetail::draft::{Drafter, SoloDraft};
use dovetail::gguf::{Array, Value};
use dovetail::tree::TreeShape;
use dovetail_kernels::cpu::ThreadPool;
use std::sync::Arc;

/// The shape of a made-up drafter.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    /// Of `dovetail-dgf`, or `eagle3`: with a head of its own; or `eagle3 apart`: narrower than the
    /// target, with an embedding too, and the feature normed before it is added to.
    pub fusion: &'static str,
    pub blocks: usize,
    pub taps: &'static [u32],
    /// Every so manieth token is in the draft vocabulary; 1 for all.
    pub every: usize,
    pub ty: u32,
}

pub const SHAPES: [Shape; 7] = [
    Shape { fusion: "dgf", blocks: 1, taps: &[0, 1], every: 3, ty: types::F32 },
    Shape { fusion: "dgf", blocks: 2, taps: &[], every: 1, ty: types::F32 },
    Shape { fusion: "fc", blocks: 1, taps: &[], every: 2, ty: types::F16 },
    Shape { fusion: "fc", blocks: 3, taps: &[1], every: 1, ty: types::Q8_0 },
    Shape { fusion: "eagle", blocks: 2, taps: &[], every: 1, ty: types::Q8_0 },
    Shape { fusion: "eagle3", blocks: 1, taps: &[0, 1], every: 3, ty: types::F32 },
    Shape { fusion: "eagle3 apart", blocks: 2, taps: &[1], every: 1, ty: types::F16 },
];

impl Shape {
    pub fn tokens(&self) -> Vec<u32> {
        (0..N_VOCAB as u32).step_by(self.every).collect()
    }

    pub fn is_eagle3(&self) -> bool {
        self.fusion.starts_with("eagle3")
    }

    /// The drafter's width.
    pub fn width(&self, t: &Tiny) -> usize {
        if self.fusion == "eagle3 apart" { t.n_embd - 32 } else { t.n_embd }
    }

    /// The names of the norms of feature and token.
    fn norms(&self) -> &'static [&'static str] {
        match self.fusion {
            "eagle" => &[],
            "eagle3" | "eagle3 apart" => &["blk.0.attn_norm_2.weight", "blk.0.attn_norm.weight"],
            _ => &["fuse_feature_norm.weight", "fuse_token_norm.weight"],
        }
    }

    /// A drafter with random weights for a target.
    pub fn parts(&self, t: &Tiny, target: &Model) -> Parts {
        let mut random = Random(5);
        let mut tensors = Vec::new();
        let mut add = |name: &str, ty: u32, shape: &[usize], mean: f64, deviation: f64| {
            tensors.push(random_tensor(&mut random, name, ty, shape, (mean, deviation)));
        };
        let (h, q, kv) = (self.width(t), t.n_heads * t.head_dim, t.n_kv_heads * t.head_dim);
        let mut matrices = Vec::new();
        for i in 0..self.blocks {
            let read = if i == 0 && self.is_eagle3() { 2 * h } else { h };
            for (part, n_out, n_in) in [
                ("attn_q", q, read),
                ("attn_k", kv, read),
                ("attn_v", kv, read),
                ("attn_output", h, q),
                ("ffn_gate", t.n_ff, h),
                ("ffn_up", t.n_ff, h),
                ("ffn_down", h, t.n_ff),
            ] {
                matrices.push((format!("blk.{i}.{part}.weight"), n_out, n_in));
            }
            let plain = i > 0 || ["dgf", "fc"].contains(&self.fusion);
            for part in ["attn_norm", "ffn_norm"].into_iter().skip(usize::from(!plain)) {
                add(&format!("blk.{i}.{part}.weight"), types::F32, &[h], 1.0, 0.2);
            }
        }
        let n_draft = self.tokens().len();
        if self.is_eagle3() {
            matrices.push(("fc.weight".into(), h, self.taps.len() * t.n_embd));
            matrices.push(("output.weight".into(), n_draft, h));
        } else if !self.taps.is_empty() {
            matrices.push(("features.weight".into(), h, self.taps.len() * h));
            for j in 0..self.taps.len() {
                add(&format!("feature_norm.{j}.weight"), types::F32, &[h], 1.0, 0.2);
            }
        }
        match self.fusion {
            "dgf" => {
                matrices.push(("fuse_feature.weight".into(), h, h));
                matrices.push(("fuse_token.weight".into(), h, h));
                matrices.push(("fuse_gate.weight".into(), h, 2 * h));
            }
            "fc" | "eagle" => matrices.push(("fuse.weight".into(), h, 2 * h)),
            "eagle3 apart" => matrices.push(("token_embd.weight".into(), N_VOCAB, h)),
            _ => {}
        }
        for (name, n_out, n_in) in matrices {
            add(&name, self.ty, &[n_in, n_out], 0.0, 1.0 / (n_in as f64).sqrt());
        }
        for name in self.norms() {
            add(name, types::F32, &[h], 1.0, 0.2);
        }
        if self.fusion == "eagle" {
            add("fuse.bias", types::F32, &[h], 0.0, 0.5);
        } else {
            add("output_norm.weight", types::F32, &[h], 1.0, 0.2);
        }
        if self.every > 1 {
            let (shape, tokens) = (vec![n_draft as u64], self.tokens());
            tensors.push(if self.is_eagle3() {
                let bytes =
                    tokens.iter().flat_map(|token| u64::from(*token).to_le_bytes()).collect();
                Tensor { name: "d2t".into(), shape, type_id: types::I64, bytes }
            } else {
                let bytes = tokens.iter().flat_map(|token| token.to_le_bytes()).collect();
                Tensor { name: "draft_tokens".into(), shape, type_id: types::I32, bytes }
            });
        }
        let (text, size) =
            (|text: &str| Value::String(text.to_owned()), |n: usize| Value::U32(n as u32));
        let arch = if self.is_eagle3() { "eagle3" } else { "dovetail-dgf" };
        let mut own = if self.is_eagle3() {
            let layers = self.taps.iter().map(|layer| *layer as i32).collect();
            vec![
                ("extract_layers", Value::Array(Array::I32(layers))),
                ("target_hidden_size", size(t.n_embd)),
                ("vocab_size", size(N_VOCAB)),
                ("norm_before_residual", Value::Bool(self.fusion == "eagle3 apart")),
            ]
        } else {
            vec![
                ("version", size(1)),
                ("target.fingerprint", text(&target.fingerprint())),
                ("target.block_count", size(t.n_layers)),
                ("target.vocabulary", size(N_VOCAB)),
                ("fusion", text(self.fusion)),
                ("feature_layers", Value::Array(Array::U32(self.taps.to_vec()))),
            ]
        };
        own.extend([
            ("block_count", size(self.blocks)),
            ("embedding_length", size(h)),
            ("feed_forward_length", size(t.n_ff)),
            ("attention.head_count", size(t.n_heads)),
            ("attention.head_count_kv", size(t.n_kv_heads)),
            ("attention.key_length", size(t.head_dim)),
            ("attention.layer_norm_rms_epsilon", Value::F32(RMS_EPS)),
            ("rope.dimension_count", size(t.n_rotated)),
            ("rope.freq_base", Value::F32(t.rope_base as f32)),
        ]);
        let mut keys = vec![("general.architecture".to_owned(), text(arch))];
        own.retain(|(key, _)| self.fusion != "eagle" || *key != "feature_layers");
        keys.extend(own.into_iter().map(|(key, value)| (format!("{arch}.{key}"), value)));
        Parts { keys, tensors }
    }
}

/// The drafter as the formulas have it.
struct Textbook {
    shape: Shape,
    /// What can be drafted.
    tokens: Vec<u32>,
    target: Naive,
    own: Naive,
}

impl Textbook {
    /// What enters the blocks: the hidden state, and what the first one's attention reads if that is not
    /// the same, normed.
    fn fuse(&self, feature: &[f64], token: u32) -> (Vec<f64>, Option<Vec<f64>>) {
        let (own, fusion) = (&self.own, self.shape.fusion);
        let e = if fusion == "eagle3 apart" { own } else { &self.target }.embedding(token);
        let (f, e) = match self.shape.norms() {
            [of_feature, of_token] => {
                (own.rms_norm(of_feature, feature), own.rms_norm(of_token, &e))
            }
            _ => (feature.to_vec(), e),
        };
        let both = [&e[..], &f].concat();
        match fusion {
            "fc" => (own.matmul("fuse.weight", &both), None),
            "eagle" => {
                let x = own.matmul("fuse.weight", &both);
                let x: Vec<f64> =
                    x.iter().zip(own.vector("fuse.bias")).map(|(x, b)| x + b).collect();
                (x.clone(), Some(x))
            }
            "eagle3" => (feature.to_vec(), Some(both)),
            "eagle3 apart" => (f, Some(both)),
            _ => (self.gate(&f, &e), None),
        }
    }

    fn gate(&self, f: &[f64], e: &[f64]) -> Vec<f64> {
        let own = &self.own;
        let sigmoid = |x: f64| 1.0 / (1.0 + (-x).exp());
        let a = own.matmul("fuse_feature.weight", f);
        let b = own.matmul("fuse_token.weight", e).into_iter().map(|x| x * sigmoid(x));
        let b: Vec<f64> = b.collect();
        let z = own.matmul("fuse_gate.weight", &[&a[..], &b].concat());
        z.iter()
            .zip(a.iter().zip(&b))
            .map(|(z, (a, b))| sigmoid(*z) * a + (1.0 - sigmoid(*z)) * b)
            .collect()
    }

    /// The feature of a position from its hidden states.
    fn feature(&self, hidden: &[f64]) -> Vec<f64> {
        if self.shape.taps.is_empty() {
            return hidden.to_vec();
        }
        if self.shape.is_eagle3() {
            return self.own.matmul("fc.weight", hidden);
        }
        let normed = hidden.chunks(hidden.len() / self.shape.taps.len()).enumerate();
        let normed: Vec<_> = normed
            .flat_map(|(j, x)| self.own.rms_norm(&format!("feature_norm.{j}.weight"), x))
            .collect();
        self.own.matmul("features.weight", &normed)
    }

    /// Log probabilities of the draft vocabulary after `path`, which follows the sequence: `hidden` has a
    /// row for each token of the sequence but the last.
    fn log_probs(&self, hidden: &[Vec<f64>], tokens: &[u32], path: &[u32]) -> Vec<f64> {
        let (mut rows, mut given) = (Vec::new(), Vec::new());
        let mut features: Vec<_> = hidden.iter().map(|hidden| self.feature(hidden)).collect();
        let mut last = Vec::new();
        for (i, token) in tokens[1..].iter().chain(path).enumerate() {
            let (row, read) = self.fuse(&features[i], *token);
            rows.push(row);
            given.extend(read);
            if i + 1 >= hidden.len() {
                let mut out = rows.clone();
                self.own.blocks(&mut out, Some(&given[..]).filter(|given| !given.is_empty()));
                last = out.pop().unwrap();
                features.push(last.clone());
            }
        }
        if self.shape.fusion != "eagle" {
            last = self.own.rms_norm("output_norm.weight", &last);
        }
        let logits: Vec<f64> = if self.shape.is_eagle3() {
            self.own.matmul("output.weight", &last)
        } else {
            let all = self.target.logits_of(&last);
            self.tokens.iter().map(|token| all[*token as usize]).collect()
        };
        let sum: f64 = logits.iter().map(|x| x.exp()).sum();
        logits.iter().map(|x| x - sum.ln()).collect()
    }
}

/// Lets a drafter of this shape for the target `t` draft after a prompt, after a round and after a step back. Returns
/// how far the logarithm of each draft token's probability is from what the formulas say.
pub fn errors_of_draft_tokens(
    t: &Tiny,
    shape: Shape,
    rounding: Rounding,
    open: impl FnOnce(&Parts, &Arc<Model>) -> Box<dyn Drafter>,
) -> Vec<f64> {
    const PROMPT: usize = 149;
    let target_parts = t.parts();
    let target = Arc::new(target_parts.load().unwrap());
    let growth: TreeShape = "beam:4,3,14".parse().unwrap();
    let parts = shape.parts(t, &target);
    let own = Tiny { n_layers: shape.blocks, n_embd: shape.width(t), extras: LLAMA, ..*t };
    let mut tokens = sequence(PROMPT + 1, N_VOCAB, 8);
    // Where the head is the target's, tokens of the prompt join the vocabulary.
    let mut vocabulary = shape.tokens();
    if !shape.is_eagle3() {
        for token in &tokens[..PROMPT] {
            if !vocabulary.contains(token) {
                vocabulary.push(*token);
            }
        }
    }
    assert!(shape.every == 1 || vocabulary.len() < N_VOCAB, "there is something to leave out");
    let textbook = Textbook {
        shape,
        tokens: vocabulary,
        target: Naive::new(*t, &target_parts, Rounding::None),
        own: Naive::new(own, &parts, rounding),
    };
    let (mut drafter, mut errors) = (open(&parts, &target), Vec::new());
    let taps = if shape.taps.is_empty() { &[t.n_layers as u32] } else { shape.taps };
    assert!(drafter.taps().iter().copied().eq(taps.iter().map(|tap| *tap as usize)));
    let (mut random, pool) = (Random(3), &mut ThreadPool::new(2));
    let width = t.n_embd * shape.taps.len().max(1);
    let hidden: Vec<Vec<f32>> = (0..PROMPT + 31).map(|_| random.floats(width)).collect();
    let mut solo = SoloDraft::new(&mut *drafter).unwrap();
    let commit = |drafter: &mut dyn Drafter,
                  solo: &mut SoloDraft,
                  first: usize,
                  tokens: &[u32],
                  pool: &mut ThreadPool| {
        let rows = hidden[first..].iter().take(tokens.len()).map(|row| &row[..]);
        solo.commit(drafter, first, tokens, rows, pool).unwrap();
    };
    // A prompt in three parts, a round, a step back, and another round.
    for part in [0..7, 7..80, 80..PROMPT] {
        commit(&mut *drafter, &mut solo, part.start, &tokens[part.clone()], pool);
    }
    for round in 0..3 {
        let tree = *solo.expand(&mut *drafter, &tokens, growth, pool).unwrap();
        assert_eq!(tree.len(), growth.nodes, "{shape:?}");
        let hidden: Vec<Vec<f64>> = hidden[..tokens.len() - 1]
            .iter()
            .map(|row| row.iter().map(|x| f64::from(*x)).collect())
            .collect();
        for node in 1..tree.len() {
            let parent = tree.parent(node).unwrap();
            let mut path: Vec<u32> = std::iter::successors(Some(parent), |n| tree.parent(*n))
                .map(|n| tree.tokens()[n])
                .collect();
            path.reverse();
            let expected = textbook.log_probs(&hidden, &tokens, &path[1..]);
            let drafted = tree.tokens()[node];
            let place = textbook.tokens.iter().position(|token| *token == drafted).unwrap();
            let found = tree.log_probs()[node] - tree.log_probs()[parent];
            errors.push((f64::from(found) - expected[place]).abs());
            if parent == 0 && node == 1 {
                let best = expected.iter().fold(f64::NEG_INFINITY, |a, b| a.max(*b));
                assert!(f64::from(found) > best - 0.05, "the likeliest comes first");
            }
        }
        if round == 1 {
            // Three tokens are taken back, and others come.
            tokens.truncate(PROMPT - 9);
            let first = PROMPT - 14;
            commit(&mut *drafter, &mut solo, first, &tokens[first..PROMPT - 10], pool);
        } else {
            tokens.extend(sequence(5, N_VOCAB, 70 + round));
            let n = tokens.len();
            commit(&mut *drafter, &mut solo, n - 6, &tokens[n - 6..n - 1], pool);
        }
    }
    errors
}
