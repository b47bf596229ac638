//! The textbook forward pass of a llama model: double precision, one position after another.
//!
//! Nothing here is shared with the engine but the file's bytes; weights are dequantised by ggml.
//!
//! # Sources
//! RMSNorm arXiv 1910.07467 · RoPE 2104.09864, on adjacent pairs · grouped queries 2305.13245 ·
//! SwiGLU 2002.05202 · position interpolation 2306.15595 · YaRN 2309.00071, with the ramp over the
//! index of the pair, as its authors' program and llama.cpp have it · Llama 3.1's scaling: Meta's
//! `apply_scaling`.

use super::gguf::Parts;
use super::tiny::{RMS_EPS, Scaling, Tiny, types};
use half::f16;
use std::collections::HashMap;

/// What of the engine's own rounding is imitated.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Rounding {
    /// Nothing: the model as its authors meant it.
    None,
    /// Activations to eight bits where weights are quantised, keys and values to half precision.
    Engine,
}

/// A model with its weights as plain numbers.
pub struct Naive {
    tiny: Tiny,
    weights: HashMap<String, (u32, Vec<f64>)>,
    rounding: Rounding,
}

impl Naive {
    pub fn new(tiny: Tiny, parts: &Parts, rounding: Rounding) -> Naive {
        let plain = |tensor: &super::gguf::Tensor| {
            let mut values = vec![0.0; tensor.shape.iter().product::<u64>() as usize];
            ggml_sys::dequantize(tensor.type_id, &tensor.bytes, &mut values).unwrap();
            let values = values.into_iter().map(f64::from).collect();
            (tensor.name.clone(), (tensor.type_id, values))
        };
        let whole = [types::I32, types::I64];
        let weights = parts.tensors.iter().filter(|tensor| !whole.contains(&tensor.type_id));
        Naive { tiny, weights: weights.map(plain).collect(), rounding }
    }

    /// Logits after each token: (n, n_vocab).
    pub fn logits(&self, tokens: &[u32]) -> Vec<Vec<f64>> {
        let mut rows: Vec<_> = tokens.iter().map(|token| self.embedding(*token)).collect();
        self.blocks(&mut rows, None);
        let head = self.head();
        rows.iter().map(|x| self.matmul(head, &self.rms_norm("output_norm.weight", x))).collect()
    }

    /// A token's row of the embedding.
    pub fn embedding(&self, token: u32) -> Vec<f64> {
        let n = self.tiny.n_embd;
        self.weights["token_embd.weight"].1[token as usize * n..][..n].to_vec()
    }

    /// The name of the head.
    pub fn head(&self) -> &'static str {
        let tied = !self.weights.contains_key("output.weight");
        if tied { "token_embd.weight" } else { "output.weight" }
    }

    /// Takes the hidden states of positions 0, 1, … through the blocks; attention of the first one reads
    /// `given` if it is there.
    pub fn blocks(&self, rows: &mut [Vec<f64>], given: Option<&[Vec<f64>]>) {
        for layer in 0..self.tiny.n_layers {
            let name = |part: &str| format!("blk.{layer}.{part}.weight");
            let read: Vec<_> = match given {
                Some(given) if layer == 0 => given.to_vec(),
                _ => rows.iter().map(|row| self.rms_norm(&name("attn_norm"), row)).collect(),
            };
            let attended = self.attention(&read, &name);
            for (row, attended) in rows.iter_mut().zip(attended) {
                add(row, &self.matmul(&name("attn_output"), &attended));
                let x = self.rms_norm(&name("ffn_norm"), row);
                let gate = self.matmul(&name("ffn_gate"), &x);
                let up = self.matmul(&name("ffn_up"), &x);
                let inner: Vec<f64> = gate
                    .iter()
                    .zip(up)
                    .map(|(gate, up)| gate / (1.0 + (-gate).exp()) * up)
                    .collect();
                add(row, &self.matmul(&name("ffn_down"), &inner));
            }
        }
    }

    /// All heads of all positions side by side: (n, n_heads · head_dim).
    fn attention(&self, rows: &[Vec<f64>], name: &dyn Fn(&str) -> String) -> Vec<Vec<f64>> {
        let t = &self.tiny;
        let (mut keys, mut values) = (Vec::new(), Vec::new());
        let mut out = Vec::new();
        for (position, x) in rows.iter().enumerate() {
            let mut queries = self.matmul(&name("attn_q"), x);
            let mut key = self.matmul(&name("attn_k"), x);
            queries.chunks_mut(t.head_dim).for_each(|head| self.rotate(head, position));
            key.chunks_mut(t.head_dim).for_each(|head| self.rotate(head, position));
            keys.push(self.stored(key));
            values.push(self.stored(self.matmul(&name("attn_v"), x)));
            let mut attended = Vec::new();
            for (head, query) in queries.chunks(t.head_dim).enumerate() {
                let from = head / (t.n_heads / t.n_kv_heads) * t.head_dim;
                let score = |key: &Vec<f64>| {
                    let dot: f64 = query.iter().zip(&key[from..]).map(|(q, k)| q * k).sum();
                    (dot / (t.head_dim as f64).sqrt()).exp()
                };
                let weights: Vec<f64> = keys.iter().map(score).collect();
                let total: f64 = weights.iter().sum();
                for d in from..from + t.head_dim {
                    let sum: f64 = weights.iter().zip(&values).map(|(w, value)| w * value[d]).sum();
                    attended.push(sum / total);
                }
            }
            out.push(attended);
        }
        out
    }

    /// RMSNorm with the weights of this name.
    pub fn rms_norm(&self, weight: &str, x: &[f64]) -> Vec<f64> {
        let mean_square = x.iter().map(|x| x * x).sum::<f64>() / x.len() as f64;
        let scale = (mean_square + f64::from(RMS_EPS)).sqrt();
        x.iter().zip(&self.weights[weight].1).map(|(x, w)| x / scale * w).collect()
    }

    /// The numbers of this name.
    pub fn vector(&self, name: &str) -> &[f64] {
        &self.weights[name].1
    }

    /// The matrix of this name times a row.
    pub fn matmul(&self, weight: &str, x: &[f64]) -> Vec<f64> {
        let (ty, w) = &self.weights[weight];
        let x = match self.rounding {
            Rounding::None => x.to_vec(),
            Rounding::Engine => to_eight_bits(*ty, x),
        };
        w.chunks(x.len()).map(|row| row.iter().zip(&x).map(|(w, x)| w * x).sum()).collect()
    }

    /// What the cache gives back.
    fn stored(&self, row: Vec<f64>) -> Vec<f64> {
        match self.rounding {
            Rounding::None => row,
            Rounding::Engine => row.into_iter().map(|x| f16::from_f64(x).to_f64()).collect(),
        }
    }

    fn rotate(&self, head: &mut [f64], position: usize) {
        let (frequencies, factor) = frequencies(&self.tiny);
        for (pair, frequency) in head.chunks_mut(2).zip(frequencies) {
            let (sin, cos) = (position as f64 * frequency).sin_cos();
            let (a, b) = (pair[0], pair[1]);
            pair[0] = factor * (a * cos - b * sin);
            pair[1] = factor * (a * sin + b * cos);
        }
    }
}

/// Radians a position of each pair, and the factor on cos and sin.
fn frequencies(t: &Tiny) -> (Vec<f64>, f64) {
    use std::f64::consts::TAU;
    let plain = |i: usize| t.frequency(i);
    let pairs = 0..t.n_rotated / 2;
    match t.scaling {
        Scaling::None => (pairs.map(plain).collect(), 1.0),
        Scaling::Linear { factor } => (pairs.map(|i| plain(i) / factor).collect(), 1.0),
        Scaling::Yarn { factor, original } => {
            // Pairs that turn more than 32 times over the original context stay as they are, those
            // that turn less than once are interpolated.
            let pair_that_turns = |turns: f64| {
                t.n_rotated as f64 / 2.0 * (f64::from(original) / (turns * TAU)).ln()
                    / t.rope_base.ln()
            };
            let low = pair_that_turns(32.0).floor().max(0.0);
            let high = pair_that_turns(1.0).ceil().min(t.n_rotated as f64 - 1.0);
            let scaled = |i: usize| {
                let slow = ((i as f64 - low) / (high - low)).clamp(0.0, 1.0);
                slow * plain(i) / factor + (1.0 - slow) * plain(i)
            };
            (pairs.map(scaled).collect(), 0.1 * factor.ln() + 1.0)
        }
        Scaling::Llama3 { factor, low, high, original } => {
            let scaled = |i: usize| {
                let turns = original * plain(i) / TAU;
                let kept = ((turns - low) / (high - low)).clamp(0.0, 1.0);
                kept * plain(i) + (1.0 - kept) * plain(i) / factor
            };
            (pairs.map(scaled).collect(), 1.0)
        }
    }
}

/// Activations as a matrix of type `ty` reads them: whole numbers up to 127 times one scale a block.
fn to_eight_bits(ty: u32, x: &[f64]) -> Vec<f64> {
    let block = match ty {
        types::F32 | types::F16 | types::BF16 | types::FOREIGN => return x.to_vec(),
        types::Q2_K..=types::Q6_K => 256,
        _ => 32,
    };
    let round = |x: &[f64]| {
        let scale = x.iter().fold(0.0f64, |largest, x| largest.max(x.abs())) / 127.0;
        x.iter().map(|x| (x / scale).round_ties_even() * scale).collect::<Vec<f64>>()
    };
    x.chunks(block).flat_map(round).collect()
}

fn add(row: &mut [f64], other: &[f64]) {
    row.iter_mut().zip(other).for_each(|(a, b)| *a += b);
}
