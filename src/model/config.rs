//! Sizes and constants of a model.

use super::rope::Rope;
use crate::error::{Error, Result};

/// Sizes and constants of a decoder.
#[derive(Clone, Debug)]
pub struct Config {
    /// `general.architecture`.
    pub arch: String,
    /// `general.name`, or the architecture.
    pub name: String,
    /// Decoder blocks.
    pub n_layers: usize,
    /// Width of the residual stream.
    pub n_embd: usize,
    /// Widths of the feed-forward layers: (n_layers).
    pub n_ff: Vec<usize>,
    /// Tokens in the vocabulary.
    pub n_vocab: usize,
    /// Longest context the model was made for, in tokens.
    pub n_ctx: usize,
    /// ε of norms.
    pub norm_eps: f32,
    /// Kinds of layers, one at least.
    pub kinds: Vec<LayerKind>,
    /// Which of them each block is: (n_layers).
    pub layer_kinds: Vec<usize>,
    /// The block whose keys and values each block attends to, which is itself in most models: (n_layers).
    pub kv_layers: Vec<usize>,
    /// Width of the embeddings that enter each block; 0 in most models.
    pub n_embd_per_layer: usize,
    /// ε of an RMSNorm of embeddings, without weights; none in most models.
    pub embedding_rms_eps: Option<f32>,
    /// What embeddings are multiplied by, after that: 1 in most models.
    pub embedding_scale: f32,
    /// What scores of attention are multiplied by, if not by `1 / √head_dim`.
    pub score_scale: Option<f32>,
    /// Scores become `cap · tanh(score / cap)`.
    pub score_soft_cap: Option<f32>,
    /// What each branch is multiplied by before it is added: 1 in most models.
    pub branch_scale: f32,
    /// What logits are multiplied by: 1 in most models.
    pub logit_scale: f32,
    /// Logits become `cap · tanh(logit / cap)`, after they are multiplied.
    pub logit_soft_cap: Option<f32>,
}

/// Heads of a layer's attention.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Heads {
    /// Query heads.
    pub n: usize,
    /// Key and value heads; divides `n`.
    pub n_kv: usize,
    /// Elements of a head.
    pub dim: usize,
}

impl Heads {
    /// Elements of a row's queries.
    pub fn q_width(&self) -> usize {
        self.n * self.dim
    }

    /// Elements of a row's keys, and of its values.
    pub fn kv_width(&self) -> usize {
        self.n_kv * self.dim
    }

    /// Elements of a head in caches and in attention, filled up with zeros to whole blocks of every type of cache.
    pub fn padded_dim(&self) -> usize {
        self.dim.next_multiple_of(32)
    }
}

/// What layers of one kind have in common: their heads, what a row sees, and how positions are embedded. A pass
/// computes the last two once for all of them.
#[derive(Clone, Debug)]
pub struct LayerKind {
    /// Heads.
    pub heads: Heads,
    /// Positions that a row sees, itself included, if these are not all.
    pub window: Option<usize>,
    /// Position embedding.
    pub rope: Rope,
    /// What queries are multiplied by as positions grow; nothing in most models.
    pub query_scale: Option<QueryScale>,
}

/// Queries at a position are multiplied by `1 + scale · ln(⌊position / every⌋ + 1)`.
#[derive(Clone, Copy, Debug)]
pub struct QueryScale {
    /// `scale`.
    pub scale: f64,
    /// `every`: the context length of the first training.
    pub every: usize,
}

impl QueryScale {
    /// The factor of a position.
    pub fn at(&self, position: usize) -> f32 {
        (1.0 + self.scale * libm::log((position / self.every + 1) as f64)) as f32
    }
}

impl Config {
    /// What scores of attention in block `i` are multiplied by.
    pub fn attention_scale(&self, i: usize) -> f32 {
        self.score_scale.unwrap_or(1.0 / (self.heads(i).dim as f32).sqrt())
    }

    /// The kind of block `i`.
    pub fn kind(&self, i: usize) -> &LayerKind {
        &self.kinds[self.layer_kinds[i]]
    }

    /// The heads of block `i`.
    pub fn heads(&self, i: usize) -> Heads {
        self.kind(i).heads
    }

    /// Whether block `i` has keys and values of its own.
    pub fn has_kv(&self, i: usize) -> bool {
        self.kv_layers[i] == i
    }

    /// Changes the kind of those blocks which `changed` names. Blocks of one kind remain of one kind.
    pub fn change_kinds(
        &mut self,
        changed: impl Fn(usize) -> bool,
        mut change: impl FnMut(&mut LayerKind),
    ) {
        for old in 0..self.kinds.len() {
            let mut kind = self.kinds[old].clone();
            change(&mut kind);
            self.kinds.push(kind);
            let layers = self.layer_kinds.iter_mut().enumerate();
            let layers = layers.filter(|(i, kind)| **kind == old && changed(*i));
            layers.for_each(|(_, kind)| *kind = self.kinds.len() - 1);
        }
        self.drop_empty_kinds();
    }

    /// Gives all kinds of layers this rotation in place of the one that they share, and returns that.
    pub fn replace_rope(&mut self, rope: Rope) -> Rope {
        let shared = self.kinds[0].rope.clone();
        self.kinds.iter_mut().for_each(|kind| kind.rope = rope.clone());
        shared
    }

    /// Numbers the kinds anew without those that no block is of.
    fn drop_empty_kinds(&mut self) {
        let used: Vec<usize> =
            (0..self.kinds.len()).filter(|kind| self.layer_kinds.contains(kind)).collect();
        self.kinds = used.iter().map(|kind| self.kinds[*kind].clone()).collect();
        for kind in &mut self.layer_kinds {
            *kind = used.binary_search(kind).expect("each kind of a block is used");
        }
    }

    /// Whether all of these are tokens of the model.
    pub(crate) fn check_tokens(&self, tokens: &[u32]) -> Result<()> {
        let n_vocab = self.n_vocab;
        match tokens.iter().find(|token| **token as usize >= n_vocab) {
            Some(token) => Err(Error::Invalid(format!("token {token} is not one of {n_vocab}"))),
            None => Ok(()),
        }
    }
}
