//! Sizes and constants of a model, read from its metadata and checked.

use crate::error::{Error, Result};
use crate::gguf::Gguf;
use dovetail_kernels::cpu::{LANES, RopeStyle};
use std::f64::consts::PI;

/// Longest head: no model comes near, and a damaged file must not make us allocate for it.
const HEAD_DIM_MAX: usize = 1024;

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
    /// Query heads.
    pub n_heads: usize,
    /// Key and value heads; divides `n_heads`.
    pub n_kv_heads: usize,
    /// Elements of a head.
    pub head_dim: usize,
    /// Width of the feed-forward layer.
    pub n_ff: usize,
    /// Tokens in the vocabulary.
    pub n_vocab: usize,
    /// Longest context the model was made for, in tokens.
    pub n_ctx: usize,
    /// ε of norms.
    pub norm_eps: f32,
    /// Kinds of layers, one at least; each block names its own.
    pub kinds: Vec<LayerKind>,
    /// ε of an RMSNorm of embeddings, without weights; none in most models.
    pub embedding_rms_eps: Option<f32>,
    /// What embeddings are multiplied by, after that: 1 in most models.
    pub embedding_scale: f32,
    /// What logits are multiplied by: 1 in most models.
    pub logit_scale: f32,
    /// Logits become `cap · tanh(logit / cap)`, after they are multiplied.
    pub logit_soft_cap: Option<f32>,
}

/// What layers of one kind have in common: what a row sees, and how positions are embedded. A pass works
/// both out once for all of them.
#[derive(Clone, Debug)]
pub struct LayerKind {
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
    /// What scores of attention are multiplied by in most models: `1 / √head_dim`.
    pub fn attention_scale(&self) -> f32 {
        1.0 / (self.head_dim as f32).sqrt()
    }

    /// Elements of a head in caches and in attention: whole lanes, filled up with zeros.
    pub fn padded_head_dim(&self) -> usize {
        self.head_dim.next_multiple_of(LANES)
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

/// Rotary position embedding: pair `i` turns by `position · frequencies[i]` radians. Elements past the pairs
/// stay as they are; without a pair positions are not embedded at all.
#[derive(Clone, Debug)]
pub struct Rope {
    /// Which elements form a pair.
    pub style: RopeStyle,
    /// Radians a position, for each pair.
    pub frequencies: Vec<f64>,
    /// What cos and sin are multiplied by (YaRN's attention factor).
    pub factor: f64,
}

/// Typed look-ups under the architecture's prefix.
pub(crate) struct Keys<'a> {
    pub gguf: &'a Gguf,
    pub arch: &'a str,
}

impl Keys<'_> {
    fn key(&self, name: &str) -> String {
        format!("{}.{name}", self.arch)
    }

    /// A number of something, if the file says it.
    pub fn size(&self, name: &str) -> Result<Option<usize>> {
        Ok(self.gguf.metadata().get_u32(&self.key(name))?.map(|n| n as usize))
    }

    fn required_size(&self, name: &str) -> Result<usize> {
        match self.gguf.metadata().require_u32(&self.key(name))? as usize {
            0 => Err(self.wrong(name, "is 0")),
            n => Ok(n),
        }
    }

    /// A number, if the file says it.
    pub fn float(&self, name: &str) -> Result<Option<f32>> {
        self.gguf.metadata().get_f32(&self.key(name))
    }

    fn wrong(&self, name: &str, what: &str) -> Error {
        Error::gguf(self.gguf.path(), format!("key `{}` {what}", self.key(name)))
    }

    /// The configuration of a model with grouped heads and RMSNorm whose layers are all of one kind, without a
    /// window.
    pub fn config(&self, style: RopeStyle) -> Result<Config> {
        let n_embd = self.required_size("embedding_length")?;
        let embedding = self.gguf.require_tensor(super::weights::EMBEDDING)?;
        let n_vocab = match *embedding.shape() {
            [width, n_vocab] if width == n_embd => n_vocab,
            _ => return Err(self.wrong("embedding_length", "differs from the embedding's width")),
        };
        self.blocks(style, n_vocab, self.required_size("context_length")?)
    }

    /// The configuration of such blocks with a head of `n_vocab` tokens.
    pub fn blocks(&self, style: RopeStyle, n_vocab: usize, n_ctx: usize) -> Result<Config> {
        let metadata = self.gguf.metadata();
        let n_embd = self.required_size("embedding_length")?;
        let n_heads = self.required_size("attention.head_count")?;
        let n_kv_heads = self.size("attention.head_count_kv")?.unwrap_or(n_heads);
        let head_dim = self.size("attention.key_length")?.unwrap_or(n_embd / n_heads);
        let n_rotated = self.size("rope.dimension_count")?.unwrap_or(head_dim);
        if n_kv_heads == 0 || n_heads % n_kv_heads != 0 {
            let what = format!("is {n_kv_heads}, which does not divide {n_heads} heads");
            return Err(self.wrong("attention.head_count_kv", &what));
        }
        if head_dim == 0 || head_dim > HEAD_DIM_MAX {
            let what = format!("heads of {head_dim} elements; up to {HEAD_DIM_MAX} can be run");
            return Err(Error::Unsupported(format!("{}: {what}", self.gguf.path().display())));
        }
        if self.size("attention.value_length")?.is_some_and(|n| n != head_dim) {
            return Err(self.wrong("attention.value_length", "differs from the keys' length"));
        }
        if n_rotated > head_dim || n_rotated % 2 != 0 {
            return Err(self.wrong("rope.dimension_count", "is no even part of the head"));
        }
        let norm_eps = match self.float("attention.layer_norm_epsilon")? {
            Some(eps) => eps,
            None => metadata.require_f32(&self.key("attention.layer_norm_rms_epsilon"))?,
        };
        Ok(Config {
            arch: self.arch.to_owned(),
            name: metadata.get_str("general.name")?.unwrap_or(self.arch).to_owned(),
            n_layers: self.required_size("block_count")?,
            n_embd,
            n_heads,
            n_kv_heads,
            head_dim,
            n_ff: self.required_size("feed_forward_length")?,
            n_vocab,
            n_ctx,
            norm_eps,
            kinds: vec![LayerKind {
                window: None,
                rope: self.rope(style, n_rotated)?,
                query_scale: None,
            }],
            embedding_rms_eps: None,
            embedding_scale: 1.0,
            logit_scale: 1.0,
            logit_soft_cap: None,
        })
    }

    fn rope(&self, style: RopeStyle, n_rotated: usize) -> Result<Rope> {
        let base = self.float("rope.freq_base")?.unwrap_or(10_000.0) as f64;
        let scaling = self.gguf.metadata().get_str(&self.key("rope.scaling.type"))?;
        let factor = match self.float("rope.scaling.factor")? {
            Some(factor) if factor != 0.0 => factor as f64,
            _ => match self.float("rope.scale_linear")? {
                Some(factor) if factor != 0.0 => factor as f64,
                _ => 1.0,
            },
        };
        let pairs = n_rotated / 2;
        let frequency = |i: usize| libm::pow(base, -2.0 * i as f64 / n_rotated as f64);
        let attention = self.float("rope.scaling.attn_factor")?.unwrap_or(1.0) as f64;
        let (mut frequencies, attention): (Vec<f64>, f64) = match scaling {
            Some("none") => ((0..pairs).map(frequency).collect(), attention),
            None | Some("linear") => {
                ((0..pairs).map(|i| frequency(i) / factor).collect(), attention)
            }
            Some("yarn") => {
                let trained = match self.size("rope.scaling.original_context_length")? {
                    Some(n) => n,
                    None => self.required_size("context_length")?,
                };
                let [fast, slow] =
                    [("yarn_beta_fast", 32.0), ("yarn_beta_slow", 1.0)].map(|(name, default)| {
                        let value = self.float(&format!("rope.scaling.{name}"));
                        value.map(|beta| beta.unwrap_or(default) as f64)
                    });
                let ramp = Ramp::new(base, n_rotated, trained, fast?, slow?);
                let mixed = |i: usize| {
                    let kept = ramp.kept(i);
                    frequency(i) * (kept + (1.0 - kept) / factor)
                };
                let scale = if factor > 1.0 { 1.0 + 0.1 * libm::log(factor) } else { 1.0 };
                ((0..pairs).map(mixed).collect(), attention * scale)
            }
            Some(other) => {
                let what = format!("RoPE scaling `{other}` is unknown; known: none, linear, yarn");
                return Err(Error::Unsupported(format!("{}: {what}", self.gguf.path().display())));
            }
        };
        self.divide_by_factors(&mut frequencies)?;
        Ok(Rope { style, frequencies, factor: attention })
    }

    /// Llama 3's scaling: the file brings a divisor for each frequency.
    fn divide_by_factors(&self, frequencies: &mut [f64]) -> Result<()> {
        const NAME: &str = "rope_freqs.weight";
        let Some(tensor) = self.gguf.tensor(NAME) else { return Ok(()) };
        let factors = super::weights::floats(self.gguf, &tensor, &[frequencies.len()])?;
        for (frequency, factor) in frequencies.iter_mut().zip(factors) {
            *frequency /= factor as f64;
        }
        Ok(())
    }
}

/// YaRN's transition from frequencies that are kept to those that are interpolated.
///
/// # Source
/// arXiv 2309.00071, section 3.2.
struct Ramp {
    low: f64,
    high: f64,
}

impl Ramp {
    fn new(base: f64, n_rotated: usize, trained: usize, fast: f64, slow: f64) -> Ramp {
        // The pair that turns `turns` times over the trained context.
        let pair = |turns: f64| {
            n_rotated as f64 * libm::log(trained as f64 / (turns * 2.0 * PI))
                / (2.0 * libm::log(base))
        };
        let last = n_rotated as f64 - 1.0;
        Ramp { low: pair(fast).floor().max(0.0), high: pair(slow).ceil().min(last) }
    }

    /// Which part of pair `i`'s own frequency is kept: 1 for fast pairs, 0 for slow ones.
    fn kept(&self, i: usize) -> f64 {
        1.0 - ((i as f64 - self.low) / (self.high - self.low).max(0.001)).clamp(0.0, 1.0)
    }
}
