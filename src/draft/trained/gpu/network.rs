//! A drafter's weights on a device.

use crate::draft::trained::dynamic_vocab::MAX_ADDED;
use crate::draft::trained::file::{File, Fusion};
use crate::error::{Error, Result};
use crate::gpu::device::{Buffer, Device};
use crate::gpu::weights::{Matrix, TILE_ROWS, WeightFormat};
use crate::infer::common_prefix;
use crate::model::block::{
    Activation, Attention, Branch, Dense, FeedForward, KeysValues, Linear, Mixer, Norm, NormKind,
};
use crate::model::{self, Config, LayerKind, Model, Rope};
use crate::ring::message::write_halves;
use dovetail_kernels::cpu::{GgufMatrix, LANES, WeightMatrix};
use half::f16;

/// The weights. Norms that a drafter does not have are all ones.
pub struct Network {
    /// What turns hidden states into features, and the norms before it: (taps · width).
    pub features: Option<(Matrix, Option<Buffer<f32>>)>,
    /// RMSNorm of the feature and of the embedding: (width) each.
    pub norms: Option<[Buffer<f32>; 2]>,
    pub fusion: Fused,
    pub blocks: Vec<Block>,
    /// Whether hidden states are normed before the head.
    pub output_normed: bool,
    /// (width)
    pub output_norm: Buffer<f32>,
    pub vocabulary: Vocabulary,
}

/// How embedding and feature become one: as in the file.
pub enum Fused {
    CpuDrafter { feature: Matrix, token: Matrix, gate: Matrix },
    Fc { matrix: Matrix, bias: Option<Buffer<f32>> },
}

/// A decoder block.
pub struct Block {
    /// Whether hidden states are normed before attention.
    pub normed: bool,
    pub attn_norm: Buffer<f32>, // (width)
    pub qkv: Matrix,            // ((heads + 2 kv heads) · head_dim, width)
    pub attn_output: Matrix,    // (width, heads · head_dim)
    pub ffn_norm: Buffer<f32>,  // (width)
    pub gate_up: Matrix,        // (n_ff, width), paired
    pub down: Matrix,           // (width, n_ff)
}

/// The draft tokens: those of the file, and behind them those that the sequence adds.
pub struct Vocabulary {
    /// (room, width)
    pub head: Matrix,
    /// Embeddings: (room, width), half floats.
    pub table: Buffer<f16>,
    /// The target's token of each: (room).
    pub tokens: Buffer<u32>,
    /// The same here, as many as there are.
    present: Vec<u32>,
    /// Those of the file.
    n_own: usize,
    width: usize,
}

impl Network {
    /// Uploads the weights of `file`, a drafter of `target`.
    ///
    /// # Errors
    /// When they are of a kind that no kernel is for, or the device has no room.
    pub fn upload(device: &mut dyn Device, file: &File, target: &Model) -> Result<Network> {
        let h = file.config.n_embd;
        let matrix =
            |device: &mut dyn Device, w: &WeightMatrix| Matrix::stacked(device, &[rows(w)?]);
        let fusion = match &file.fusion {
            Fusion::CpuDrafter { feature, token, gate } => {
                // One launch multiplies both.
                let (f, t) = (rows(feature)?, rows(token)?);
                let format = WeightFormat::for_types([f.ty(), t.ty()].into_iter());
                Fused::CpuDrafter {
                    feature: Matrix::with_format(device, format, &[f])?,
                    token: Matrix::with_format(device, format, &[t])?,
                    gate: matrix(device, gate)?,
                }
            }
            Fusion::Fc { matrix: w, bias } => Fused::Fc {
                matrix: matrix(device, w)?,
                bias: bias.as_deref().map(|bias| Buffer::from_slice(device, bias)).transpose()?,
            },
            Fusion::Attention { .. } => {
                return Err(Error::Unsupported("drafters of EAGLE-3's kind run on the CPU".into()));
            }
        };
        let features = match &file.features {
            None => None,
            Some(features) => {
                let norms = features.norms.as_ref().map(|norms| norms.concat());
                let norms = norms.map(|norms| Buffer::from_slice(device, &norms)).transpose()?;
                Some((matrix(device, &features.matrix)?, norms))
            }
        };
        let norms = match &file.norms {
            None => None,
            Some([feature, token]) => {
                Some([Buffer::from_slice(device, feature)?, Buffer::from_slice(device, token)?])
            }
        };
        let blocks = file.blocks.iter().map(|block| Block::upload(device, block, &file.config));
        Ok(Network {
            features,
            norms,
            fusion,
            blocks: blocks.collect::<Result<_>>()?,
            output_normed: file.output_norm.is_some(),
            output_norm: norm(device, file.output_norm.as_ref(), h)?,
            vocabulary: Vocabulary::upload(device, file, target)?,
        })
    }

    /// The norm before block `i`, or before the head.
    pub fn norm_before(&self, i: usize) -> &Buffer<f32> {
        self.blocks.get(i).map_or(&self.output_norm, |block| &block.attn_norm)
    }
}

/// The position embedding of all layers of a drafter.
///
/// # Errors
/// When the drafter is configured in a way that no kernel is for.
pub fn rope(config: &Config) -> Result<&Rope> {
    let Config {
        arch: _,
        name: _,
        n_layers: _,
        n_embd: _,
        n_ff: _,
        n_vocab: _,
        n_ctx: _,
        norm_eps: _,
        embedding_rms_eps,
        kinds,
        layer_kinds: _,
        kv_layers: _,
        n_embd_per_layer: _,
        embedding_scale,
        score_scale: _,
        score_soft_cap: _,
        branch_scale: _,
        logit_scale,
        logit_soft_cap,
    } = config;
    let [LayerKind { heads, window: None, rope, query_scale: None }] = &kinds[..] else {
        return Err(unsupported("windows, or layers of several kinds,"));
    };
    if heads.dim % LANES != 0 {
        return Err(unsupported("heads that are no multiple of 16"));
    }
    let plain = [*embedding_scale, *logit_scale] == [1.0, 1.0] && embedding_rms_eps.is_none();
    if !plain || logit_soft_cap.is_some() {
        return Err(unsupported("scales and soft caps"));
    }
    Ok(rope)
}

impl Block {
    fn upload(device: &mut dyn Device, block: &model::block::Block, c: &Config) -> Result<Block> {
        let model::block::Block { mixer, ffn, parallel, per_layer, output_scale } = block;
        if *parallel || per_layer.is_some() || *output_scale != 1.0 {
            return Err(unsupported("blocks other than Llama's"));
        }
        let Branch { norm, layer: Mixer::Attention(attention), post_norm, scale } = mixer;
        let attn_norm = norm;
        let Attention { q, kv, qk_norm, scale: score_scale, soft_cap, sinks, gate, output } =
            attention;
        let plain = qk_norm.is_none() && sinks.is_none() && gate.is_none();
        let Some(KeysValues { k, v: Some(v), v_norm: None }) = kv else {
            return Err(unsupported("this kind of keys and values"));
        };
        if !plain || *score_scale != c.attention_scale(0) || soft_cap.is_some() {
            return Err(unsupported("norms, scales, caps, sinks and gates of attention"));
        }
        let mut branches = [(post_norm, *scale), (&ffn.post_norm, ffn.scale)].into_iter();
        if branches.any(|(post_norm, scale)| post_norm.is_some() || scale != 1.0) {
            return Err(unsupported("norms and scales behind a layer"));
        }
        let Branch { norm, layer: FeedForward::Dense(dense), post_norm: _, scale: _ } = ffn;
        let Dense { activation, gate, up, down } = dense;
        let Some(ffn_norm) = norm.as_ref().filter(|_| *activation == Activation::SwiGlu) else {
            return Err(unsupported("this kind of feed-forward layers"));
        };
        if q.matrix.n_cols() != c.n_embd {
            return Err(unsupported("attention that reads a wider row"));
        }
        Ok(Block {
            normed: attn_norm.is_some(),
            attn_norm: self::norm(device, attn_norm.as_ref(), c.n_embd)?,
            qkv: Matrix::stacked(device, &[unbiased(q)?, unbiased(k)?, unbiased(v)?])?,
            attn_output: Matrix::stacked(device, &[unbiased(output)?])?,
            ffn_norm: Buffer::from_slice(device, weights(ffn_norm)?)?,
            gate_up: Matrix::paired(device, unbiased(gate)?, unbiased(up)?)?,
            down: Matrix::stacked(device, &[unbiased(down)?])?,
        })
    }
}

impl Vocabulary {
    fn upload(device: &mut dyn Device, file: &File, target: &Model) -> Result<Vocabulary> {
        let width = file.config.n_embd;
        let own: Vec<u32> = match &file.tokens {
            Some(tokens) => tokens.clone(),
            None => (0..target.config().n_vocab as u32).collect(),
        };
        let added = if file.tokens.is_some() { MAX_ADDED } else { 0 };
        // Whole tiles: rows of logits are read in fours.
        let room = (own.len() + added).next_multiple_of(TILE_ROWS);
        let (ty, _) = target.head_rows(&[])?;
        let format = WeightFormat::for_types([ty].iter());
        let mut vocabulary = Vocabulary {
            head: Matrix::zeros(device, format, room, width)?,
            table: Buffer::new(device, room * width)?,
            tokens: Buffer::new(device, room)?,
            present: Vec::with_capacity(room),
            n_own: own.len(),
            width,
        };
        vocabulary.put(device, 0, &own, target)?;
        Ok(vocabulary)
    }

    /// How many tokens there are.
    pub fn len(&self) -> usize {
        self.present.len()
    }

    /// Makes these the tokens behind the file's. Work that is running must not use them.
    ///
    /// # Errors
    /// When one is not the target's, or the device fails.
    pub fn add(
        &mut self,
        device: &mut dyn Device,
        added: impl Iterator<Item = u32>,
        target: &Model,
    ) -> Result<()> {
        let added: Vec<u32> = added.collect();
        let before = &self.present[self.n_own..];
        let same = common_prefix(before, &added);
        if same < added.len() {
            // GgufMatrix are written tile by tile.
            let first = (self.n_own + same) / TILE_ROWS * TILE_ROWS;
            let kept = self.present[first..self.n_own + same].iter().copied();
            let tokens: Vec<u32> = kept.chain(added[same..].iter().copied()).collect();
            self.put(device, first, &tokens, target)
        } else {
            self.present.truncate(self.n_own + added.len());
            Ok(())
        }
    }

    /// Makes these the tokens from `first` on.
    fn put(
        &mut self,
        device: &mut dyn Device,
        first: usize,
        tokens: &[u32],
        target: &Model,
    ) -> Result<()> {
        /// Tokens at a time: a head is large.
        const SHARE: usize = 4096;
        let mut row = vec![0.0; self.width];
        for (i, share) in tokens.chunks(SHARE).enumerate() {
            let at = first + i * SHARE;
            let (ty, rows) = target.head_rows(share)?;
            self.head.write_rows(device, at, &ty, &rows)?;
            let mut table = vec![f16::ZERO; share.len() * self.width];
            for (&token, out) in share.iter().zip(table.chunks_exact_mut(self.width)) {
                embed(target, token, &mut row, out);
            }
            self.table.write(device, at * self.width, &table)?;
        }
        self.tokens.write(device, first, tokens)?;
        self.present.truncate(first);
        self.present.extend_from_slice(tokens);
        Ok(())
    }
}

/// The embedding of a token of the target in half floats; `row` is as long, for the way.
pub fn embed(target: &Model, token: u32, row: &mut [f32], out: &mut [f16]) {
    target.embed(token, row);
    write_halves(row, out);
}

/// What runs on the CPU alone.
fn unsupported(what: &str) -> Error {
    Error::Unsupported(format!("drafters with {what} run on the CPU"))
}

/// The rows of a matrix without a bias.
fn unbiased(linear: &Linear) -> Result<&GgufMatrix> {
    match linear.bias() {
        Some(_) => Err(unsupported("biases")),
        None => rows(&linear.matrix),
    }
}

fn rows(matrix: &WeightMatrix) -> Result<&GgufMatrix> {
    let what = "weights that are packed for the CPU cannot be uploaded";
    matrix.as_native().ok_or_else(|| Error::Unsupported(what.into()))
}

fn norm(device: &mut dyn Device, norm: Option<&Norm>, width: usize) -> Result<Buffer<f32>> {
    match norm {
        Some(norm) => Buffer::from_slice(device, weights(norm)?),
        None => Buffer::from_slice(device, &vec![1.0; width]),
    }
}

fn weights(norm: &Norm) -> Result<&[f32]> {
    match norm.kind {
        NormKind::Rms => Ok(&norm.weight),
        NormKind::Layer => Err(unsupported("LayerNorm")),
    }
}
