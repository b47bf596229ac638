//! The textbook forward pass of a model, llama's or one with [`Extras`](super::tiny::Extras): double precision,
//! one position after another.
//!
//! Nothing here is shared with the engine but the file's bytes; weights are dequantised by ggml.
//!
//! # Sources
//! RMSNorm arXiv 1910.07467 · LayerNorm 1607.06450 · RoPE 2104.09864, on adjacent pairs · grouped queries 2305.13245 ·
//! SwiGLU 2002.05202 · position interpolation 2306.15595 · YaRN 2309.00071, with the ramp over the
//! index of the pair, as its authors' program and llama.cpp have it · Llama 3.1's scaling: Meta's
//! `apply_scaling` · GELU in its tanh form 1606.08415 · sliding windows 2310.06825, the row itself among them ·
//! soft caps and norms behind branches 2408.00118 · sinks 2309.17453, as gpt-oss learns them · gated attention
//! 2505.06708.

use super::gguf::Parts;
use super::tiny::{Extras, Kind, RMS_EPS, Scaling, Tiny, types};
use dovetail::model::block::QkNormPlace;
use dovetail_kernels::cpu::RopeStyle;
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
        let normed = |x| self.norm("output_norm.weight", x, RMS_EPS);
        rows.iter().map(|x| self.logits_of(&normed(x))).collect()
    }

    /// Logits of a hidden state that was normed.
    pub fn logits_of(&self, x: &[f64]) -> Vec<f64> {
        let Extras { logit_scale, logit_cap, .. } = self.tiny.extras;
        let products = self.matmul(self.head(), x).into_iter();
        products.map(|x| capped(x * logit_scale, logit_cap)).collect()
    }

    /// A token's row of the embedding, as it enters the first block.
    pub fn embedding(&self, token: u32) -> Vec<f64> {
        let n = self.tiny.n_embd;
        let row = &self.weights["token_embd.weight"].1[token as usize * n..][..n];
        let extras = &self.tiny.extras;
        let row = match extras.embedding_norm {
            true => normed(row, &vec![1.0; n], RMS_EPS),
            false => row.to_vec(),
        };
        row.iter().map(|x| x * extras.embedding_scale).collect()
    }

    /// The name of the head.
    fn head(&self) -> &'static str {
        let tied = !self.weights.contains_key("output.weight");
        if tied { "token_embd.weight" } else { "output.weight" }
    }

    /// Takes the hidden states of positions 0, 1, … through the blocks; attention of the first one reads
    /// `given` if it is there.
    pub fn blocks(&self, rows: &mut [Vec<f64>], given: Option<&[Vec<f64>]>) {
        let extras = &self.tiny.extras;
        for layer in 0..self.tiny.n_layers {
            let name = |part: &str| format!("blk.{layer}.{part}");
            let read = |row: &Vec<f64>, norm: &str| match extras.norms {
                true => self.norm(&name(norm), row, RMS_EPS),
                false => row.clone(),
            };
            let add = |row: &mut [f64], mut branch: Vec<f64>, norm: &str| {
                if extras.post_norms {
                    branch = self.norm(&name(norm), &branch, extras.post_eps.unwrap_or(RMS_EPS));
                }
                row.iter_mut().zip(branch).for_each(|(x, y)| *x += extras.branch_scale * y);
            };
            let reads: Vec<_> = match given {
                Some(given) if layer == 0 => given.to_vec(),
                _ => rows.iter().map(|row| read(row, "attn_norm.weight")).collect(),
            };
            let attended = self.attention(&reads, layer, &name);
            for (row, attended) in rows.iter_mut().zip(attended) {
                let entry = row.clone();
                let branch = self.linear(&name("attn_output"), &attended);
                add(row, branch, "post_attention_norm.weight");
                let x = read(if extras.parallel { &entry } else { row }, "ffn_norm.weight");
                let up = self.linear(&name("ffn_up"), &x);
                let (gate, up) = match extras.fused {
                    true => (up[..up.len() / 2].to_vec(), up[up.len() / 2..].to_vec()),
                    false => (self.linear(&name("ffn_gate"), &x), up),
                };
                let activation = if extras.geglu { gelu } else { silu };
                let inner: Vec<f64> =
                    gate.iter().zip(up).map(|(g, u)| activation(*g) * u).collect();
                add(row, self.linear(&name("ffn_down"), &inner), "post_ffw_norm.weight");
            }
        }
    }

    /// All heads of all positions side by side: (n, n_heads · head_dim).
    fn attention(
        &self,
        rows: &[Vec<f64>],
        layer: usize,
        name: &dyn Fn(&str) -> String,
    ) -> Vec<Vec<f64>> {
        let (t, extras) = (&self.tiny, &self.tiny.extras);
        let kind = (!extras.kinds.is_empty()).then(|| &extras.kinds[layer % extras.kinds.len()]);
        let window = kind.map_or(extras.window, |kind| kind.window).unwrap_or(usize::MAX);
        let scale = extras.score_scale.unwrap_or(1.0 / (t.head_dim as f64).sqrt());
        // The heads of queries, keys or values, side by side.
        let (q_width, kv_width) = (t.n_heads * t.head_dim, t.n_kv_heads * t.head_dim);
        let projected = |part: &str, x: &[f64]| -> Vec<f64> {
            if !extras.fused {
                return self.linear(&name(&format!("attn_{part}")), x);
            }
            let qkv = self.linear(&name("attn_qkv"), x);
            match part {
                "q" => qkv[..q_width].to_vec(),
                "k" => qkv[q_width..q_width + kv_width].to_vec(),
                _ => qkv[q_width + kv_width..].to_vec(),
            }
        };
        let normed_heads = |part: &str, heads: Vec<f64>| -> Vec<f64> {
            let weight = self.vector(&name(&format!("attn_{part}_norm.weight")));
            heads.chunks(weight.len()).flat_map(|head| normed(head, weight, RMS_EPS)).collect()
        };
        let late = extras.qk_norms == Some(QkNormPlace::HeadsAfterRope);
        let query_or_key = |part: &str, x: &[f64], position: usize| -> Vec<f64> {
            let mut heads = projected(part, x);
            if extras.qk_norms.is_some() && !late {
                heads = normed_heads(part, heads);
            }
            heads.chunks_mut(t.head_dim).for_each(|head| self.rotate(head, kind, position));
            if late { normed_heads(part, heads) } else { heads }
        };
        let value = |x: &[f64]| -> Vec<f64> {
            let heads = projected("v", x);
            let ones = vec![1.0; t.head_dim];
            let norm = |head: &[f64]| match extras.v_norms {
                true => normed(head, &ones, RMS_EPS),
                false => head.to_vec(),
            };
            heads.chunks(t.head_dim).flat_map(norm).collect()
        };
        let (mut keys, mut values, mut out) = (Vec::new(), Vec::new(), Vec::new());
        for (position, x) in rows.iter().enumerate() {
            let queries = query_or_key("q", x, position);
            keys.push(self.stored(query_or_key("k", x, position)));
            values.push(self.stored(value(x)));
            let growth = extras
                .query_scale
                .map_or(1.0, |(scale, every)| 1.0 + scale * ((position / every + 1) as f64).ln());
            let scale = scale * growth;
            let seen = keys.len().saturating_sub(window)..keys.len();
            let mut attended = Vec::new();
            for (head, query) in queries.chunks(t.head_dim).enumerate() {
                let from = head / (t.n_heads / t.n_kv_heads) * t.head_dim;
                let weight = |key: &Vec<f64>| {
                    let dot: f64 = query.iter().zip(&key[from..]).map(|(q, k)| q * k).sum();
                    capped(dot * scale, extras.score_cap).exp()
                };
                let weights: Vec<f64> = keys[seen.clone()].iter().map(weight).collect();
                let mut total: f64 = weights.iter().sum();
                if extras.sinks {
                    total += self.vector(&name("attn_sinks.weight"))[head].exp();
                }
                for d in from..from + t.head_dim {
                    let values = values[seen.clone()].iter();
                    let sum: f64 = weights.iter().zip(values).map(|(w, value)| w * value[d]).sum();
                    attended.push(sum / total);
                }
            }
            if extras.gate {
                let gates = self.linear(&name("attn_gate"), x);
                attended.iter_mut().zip(gates).for_each(|(y, gate)| *y /= 1.0 + (-gate).exp());
            }
            out.push(attended);
        }
        out
    }

    /// RMSNorm with the weights of this name.
    pub fn rms_norm(&self, weight: &str, x: &[f64]) -> Vec<f64> {
        normed(x, &self.weights[weight].1, RMS_EPS)
    }

    /// The model's kind of norm with the weights of this name.
    fn norm(&self, weight: &str, x: &[f64], eps: f32) -> Vec<f64> {
        let mean = match self.tiny.extras.layer_norms {
            true => x.iter().sum::<f64>() / x.len() as f64,
            false => 0.0,
        };
        let x: Vec<f64> = x.iter().map(|x| x - mean).collect();
        normed(&x, &self.weights[weight].1, eps)
    }

    /// A matrix times a row, and its bias if it has one.
    fn linear(&self, name: &str, x: &[f64]) -> Vec<f64> {
        let mut out = self.matmul(&format!("{name}.weight"), x);
        if self.tiny.extras.biases {
            let bias = self.vector(&format!("{name}.bias"));
            out.iter_mut().zip(bias).for_each(|(x, b)| *x += b);
        }
        out
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

    /// Embeds the position of a head, as the layers of this kind do, or all of the model.
    fn rotate(&self, head: &mut [f64], kind: Option<&Kind>, position: usize) {
        let (style, (frequencies, factor)) = match kind {
            None => (RopeStyle::Adjacent, frequencies(&self.tiny)),
            Some(kind) => {
                let plain = |i: usize| kind.base.powf(-2.0 * i as f64 / kind.n_rotated as f64);
                (kind.style, ((0..kind.n_rotated / 2).map(plain).collect(), kind.factor))
            }
        };
        let pairs = frequencies.len();
        for (i, frequency) in frequencies.into_iter().enumerate() {
            let (a, b) = match style {
                RopeStyle::Adjacent => (2 * i, 2 * i + 1),
                RopeStyle::Halves => (i, i + pairs),
            };
            let (sin, cos) = (position as f64 * frequency).sin_cos();
            let (x, y) = (head[a], head[b]);
            head[a] = factor * (x * cos - y * sin);
            head[b] = factor * (x * sin + y * cos);
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
        types::Q4_0..=types::Q8_0 | types::IQ4_NL | types::MXFP4 => 32,
        _ => 256,
    };
    let round = |x: &[f64]| {
        let scale = x.iter().fold(0.0f64, |largest, x| largest.max(x.abs())) / 127.0;
        x.iter().map(|x| (x / scale).round_ties_even() * scale).collect::<Vec<f64>>()
    };
    x.chunks(block).flat_map(round).collect()
}

/// RMSNorm.
fn normed(x: &[f64], weight: &[f64], eps: f32) -> Vec<f64> {
    let mean_square = x.iter().map(|x| x * x).sum::<f64>() / x.len() as f64;
    let scale = (mean_square + f64::from(eps)).sqrt();
    x.iter().zip(weight).map(|(x, w)| x / scale * w).collect()
}

fn capped(x: f64, cap: Option<f64>) -> f64 {
    cap.map_or(x, |cap| cap * (x / cap).tanh())
}

fn silu(x: f64) -> f64 {
    x / (1.0 + (-x).exp())
}

fn gelu(x: f64) -> f64 {
    let u = (2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x * x * x);
    0.5 * x * (1.0 + u.tanh())
}
