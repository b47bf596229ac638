//! Sizes and constants of a model, read from its metadata and checked.

use crate::error::{Error, Result};
use crate::gguf::{Gguf, Value};
use dovetail_kernels::cpu::RopeStyle;
use std::cell::RefCell;
use std::collections::HashSet;
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

/// Rotary position embedding: pair `i` turns by `position · frequencies[i]` radians. Elements past the pairs
/// stay as they are; without a pair positions are not embedded at all.
#[derive(Clone, Debug)]
pub struct Rope {
    /// Which elements form a pair.
    pub style: RopeStyle,
    /// Radians a position, for each pair.
    pub frequencies: Vec<f64>,
    /// Others for contexts of more tokens than these (LongRoPE, arXiv 2402.13753).
    pub long: Option<(usize, Vec<f64>)>,
    /// What cos and sin are multiplied by (YaRN's attention factor).
    pub factor: f64,
}

impl Rope {
    /// The frequencies for contexts of `n_ctx` tokens.
    pub fn frequencies(&self, n_ctx: usize) -> &[f64] {
        match &self.long {
            Some((beyond, long)) if n_ctx > *beyond => long,
            _ => &self.frequencies,
        }
    }

    /// A rotation of `n_rotated` elements without any scaling.
    pub fn plain(style: RopeStyle, base: f64, n_rotated: usize) -> Rope {
        let exponent = |i: usize| -2.0 * i as f64 / n_rotated as f64;
        let frequencies = (0..n_rotated / 2).map(|i| libm::pow(base, exponent(i)));
        Rope { style, frequencies: frequencies.collect(), long: None, factor: 1.0 }
    }

    /// No position is embedded.
    pub fn none() -> Rope {
        Rope::plain(RopeStyle::Adjacent, 1.0, 0)
    }

    /// The number of elements that turn.
    pub fn n_rotated(&self) -> usize {
        2 * self.frequencies.len()
    }
}

/// Keys under an architecture's prefix, of which those that were looked at are known in the end.
pub struct Keys<'a> {
    gguf: &'a Gguf,
    arch: &'a str,
    known: RefCell<HashSet<String>>,
}

/// Keys that change nothing in a pass over text, whatever they say.
const WITHOUT_EFFECT: [&str; 5] = [
    "vocab_size",
    "rope.scaling.finetuned",
    "rope.dimension_sections",
    "n_deepstack_layers",
    "tensor_data_layout",
];

impl<'a> Keys<'a> {
    /// The keys `ARCH.…` of a file.
    pub(crate) fn new(gguf: &'a Gguf, arch: &'a str) -> Keys<'a> {
        Keys { gguf, arch, known: RefCell::default() }
    }

    /// The file.
    pub fn gguf(&self) -> &'a Gguf {
        self.gguf
    }

    fn key(&self, name: &str) -> String {
        let key = format!("{}.{name}", self.arch);
        self.known.borrow_mut().insert(key.clone());
        key
    }

    /// Checks that no key is left over which says more than 0, false, "none" or nothing: it might change the answer.
    pub(crate) fn finish(self) -> Result<()> {
        let (prefix, known) = (format!("{}.", self.arch), self.known.borrow());
        let left = self.gguf.metadata().iter().find(|(key, value)| {
            key.strip_prefix(&prefix).is_some_and(|name| {
                !known.contains(*key) && !WITHOUT_EFFECT.contains(&name) && !value.says_nothing()
            })
        });
        match left {
            None => Ok(()),
            Some((key, _)) => Err(Error::Unsupported(format!(
                "{}: key `{key}` belongs to a variant of the architecture that cannot be run yet",
                self.gguf.path().display()
            ))),
        }
    }

    /// For each block, whether it has a window, and how wide windows are; `None` without windows. Where the file has no
    /// pattern, every `period`-th block sees all.
    pub fn windows(&self, n_layers: usize, period: usize) -> Result<Option<(usize, Vec<bool>)>> {
        const PATTERN: &str = "attention.sliding_window_pattern";
        let pattern = self.key(PATTERN);
        let Some(window) = self.size("attention.sliding_window")?.filter(|window| *window > 0)
        else {
            return Ok(None);
        };
        let metadata = self.gguf.metadata();
        let periodic = |period: usize| (0..n_layers).map(|i| (i + 1) % period != 0).collect();
        let windowed: Vec<bool> = match metadata.get(&pattern) {
            None => periodic(period),
            Some(Value::Array(_)) => metadata.get_bool_array(&pattern)?.unwrap_or_default(),
            Some(_) => match self.size(PATTERN)? {
                None | Some(0) => vec![false; n_layers],
                Some(period) => periodic(period),
            },
        };
        if windowed.len() != n_layers {
            return Err(
                self.wrong(PATTERN, &format!("has not one element for each of {n_layers} blocks"))
            );
        }
        Ok(Some((window, windowed)))
    }

    /// Gives the blocks that have a window, as [`Keys::windows`] says, that window and this rotation.
    pub fn add_windows(&self, config: &mut Config, period: usize, rope: Rope) -> Result<()> {
        if let Some((window, windowed)) = self.windows(config.n_layers, period)? {
            config.change_kinds(
                |i| windowed[i],
                |kind| (kind.window, kind.rope) = (Some(window), rope.clone()),
            );
        }
        Ok(())
    }

    /// A switch, if the file says it.
    pub fn switch(&self, name: &str) -> Result<Option<bool>> {
        self.gguf.metadata().get_bool(&self.key(name))
    }

    /// A number of something, if the file says it.
    pub fn size(&self, name: &str) -> Result<Option<usize>> {
        Ok(self.gguf.metadata().get_u32(&self.key(name))?.map(|n| n as usize))
    }

    /// A number of something for each of `n_layers` blocks, if the file says it: one for all, or a list.
    pub fn sizes(&self, name: &str, n_layers: usize) -> Result<Option<Vec<usize>>> {
        let key = self.key(name);
        if !matches!(self.gguf.metadata().get(&key), Some(Value::Array(_))) {
            return Ok(self.size(name)?.map(|n| vec![n; n_layers]));
        }
        let sizes = self.gguf.metadata().get_u32_array(&key)?.unwrap_or_default();
        if sizes.len() != n_layers {
            let what = format!("has not one element for each of {n_layers} blocks");
            return Err(self.wrong(name, &what));
        }
        Ok(Some(sizes.into_iter().map(|n| n as usize).collect()))
    }

    /// The same, which the file has to say and of which none is 0.
    fn required_sizes(&self, name: &str, n_layers: usize) -> Result<Vec<usize>> {
        match self.sizes(name, n_layers)? {
            None => self.required_size(name).map(|n| vec![n; n_layers]),
            Some(sizes) if sizes.contains(&0) => Err(self.wrong(name, "is 0")),
            Some(sizes) => Ok(sizes),
        }
    }

    /// A number of something that the file has to say.
    pub fn required_size(&self, name: &str) -> Result<usize> {
        match self.gguf.metadata().require_u32(&self.key(name))? as usize {
            0 => Err(self.wrong(name, "is 0")),
            n => Ok(n),
        }
    }

    /// A number, if the file says it.
    pub fn float(&self, name: &str) -> Result<Option<f32>> {
        self.gguf.metadata().get_f32(&self.key(name))
    }

    /// A factor: 1 where the file says none, or 0.
    pub fn factor(&self, name: &str) -> Result<f32> {
        Ok(self.float(name)?.filter(|factor| *factor != 0.0).unwrap_or(1.0))
    }

    /// The error of a key.
    pub fn wrong(&self, name: &str, what: &str) -> Error {
        Error::gguf(self.gguf.path(), format!("key `{}` {what}", self.key(name)))
    }

    /// The configuration of a model with grouped heads and RMSNorm whose layers are all of one kind, without a
    /// window.
    pub fn config(&self, style: RopeStyle) -> Result<Config> {
        let n_embd = self.required_size("embedding_length")?;
        let embedding = self.gguf.require_tensor(super::weights::EMBEDDING)?;
        let n_vocab = match *super::weights::trimmed(embedding.shape()) {
            [width, n_vocab] if width == n_embd => n_vocab,
            _ => return Err(self.wrong("embedding_length", "differs from the embedding's width")),
        };
        self.blocks(style, n_vocab, self.required_size("context_length")?)
    }

    /// The configuration of such blocks with a head of `n_vocab` tokens.
    pub fn blocks(&self, style: RopeStyle, n_vocab: usize, n_ctx: usize) -> Result<Config> {
        let metadata = self.gguf.metadata();
        let n_embd = self.required_size("embedding_length")?;
        let n_layers = self.required_size("block_count")?;
        if n_layers > self.gguf.tensors().count() {
            return Err(
                self.wrong("block_count", &format!("is {n_layers}, more than there are tensors"))
            );
        }
        let (kinds, layer_kinds) = self.kinds(style, n_embd, n_layers)?;
        if self.switch("attention.causal")? == Some(false) {
            return Err(
                self.wrong("attention.causal", "is false; such a model does not write text")
            );
        }
        let layer_norm_eps = self.float("attention.layer_norm_epsilon")?;
        let norm_eps = match self.float("attention.layer_norm_rms_epsilon")?.or(layer_norm_eps) {
            Some(eps) => eps,
            None => metadata.require_f32(&self.key("attention.layer_norm_rms_epsilon"))?,
        };
        Ok(Config {
            arch: self.arch.to_owned(),
            name: metadata.get_str("general.name")?.unwrap_or(self.arch).to_owned(),
            n_layers,
            n_embd,
            n_ff: self.required_sizes("feed_forward_length", n_layers)?,
            n_vocab,
            n_ctx,
            norm_eps,
            kinds,
            layer_kinds,
            kv_layers: (0..n_layers).collect(),
            n_embd_per_layer: 0,
            embedding_rms_eps: None,
            embedding_scale: 1.0,
            score_scale: None,
            score_soft_cap: None,
            branch_scale: 1.0,
            logit_scale: 1.0,
            logit_soft_cap: None,
        })
    }

    /// The kinds of layers, which differ in their heads, and which of them each block is.
    fn kinds(
        &self,
        style: RopeStyle,
        n_embd: usize,
        n_layers: usize,
    ) -> Result<(Vec<LayerKind>, Vec<usize>)> {
        let n_heads = self.required_sizes("attention.head_count", n_layers)?;
        let n_kv_heads = self.sizes("attention.head_count_kv", n_layers)?;
        let n_kv_heads = n_kv_heads.unwrap_or_else(|| n_heads.clone());
        let dim = self.size("attention.key_length")?.unwrap_or(n_embd / n_heads[0]);
        let n_rotated = self.size("rope.dimension_count")?.unwrap_or(dim);
        self.check_heads(Heads { n: n_heads[0], n_kv: n_kv_heads[0], dim })?;
        if self.size("attention.value_length")?.is_some_and(|n| n != dim) {
            return Err(self.wrong("attention.value_length", "differs from the keys' length"));
        }
        let rope = self.rope(style, n_rotated, dim)?;
        let (mut kinds, mut layer_kinds) = (Vec::<LayerKind>::new(), Vec::new());
        for (n, n_kv) in n_heads.into_iter().zip(n_kv_heads) {
            let heads = self.check_heads(Heads { n, n_kv, dim })?;
            let known = kinds.iter().position(|kind| kind.heads == heads);
            layer_kinds.push(known.unwrap_or(kinds.len()));
            if known.is_none() {
                let rope = rope.clone();
                kinds.push(LayerKind { heads, window: None, rope, query_scale: None });
            }
        }
        Ok((kinds, layer_kinds))
    }

    /// Checks that such heads can be run.
    pub fn check_heads(&self, heads: Heads) -> Result<Heads> {
        let Heads { n, n_kv, dim } = heads;
        if n_kv == 0 || n % n_kv != 0 {
            let what = format!("is {n_kv}, which does not divide {n} heads");
            return Err(self.wrong("attention.head_count_kv", &what));
        }
        if dim == 0 || dim > HEAD_DIM_MAX {
            let what = format!("heads of {dim} elements; up to {HEAD_DIM_MAX} can be run");
            return Err(Error::Unsupported(format!("{}: {what}", self.gguf.path().display())));
        }
        Ok(heads)
    }

    /// The base of rotations.
    pub fn rope_base(&self) -> Result<f64> {
        Ok(f64::from(self.float("rope.freq_base")?.unwrap_or(10_000.0)))
    }

    /// The rotation of `rope.freq_base` with the scaling that the file says.
    fn rope(&self, style: RopeStyle, n_rotated: usize, head_dim: usize) -> Result<Rope> {
        if n_rotated > head_dim || !n_rotated.is_multiple_of(2) {
            return Err(self.wrong("rope.dimension_count", "is no even part of the head"));
        }
        let mut base = self.rope_base()?;
        if let Some(alpha) = self.float("rope.scaling.alpha")?.filter(|alpha| *alpha > 0.0) {
            let n = n_rotated as f64;
            base *= libm::pow(f64::from(alpha), n / (n - 2.0));
        }
        let scaling = self.gguf.metadata().get_str(&self.key("rope.scaling.type"))?;
        let factor = match self.float("rope.scaling.factor")? {
            Some(factor) if factor != 0.0 => factor as f64,
            _ => match self.float("rope.scale_linear")? {
                Some(factor) if factor != 0.0 => factor as f64,
                _ => 1.0,
            },
        };
        let Rope { frequencies: plain, .. } = Rope::plain(style, base, n_rotated);
        let pairs = plain.len();
        let mut attention = self.float("rope.scaling.attn_factor")?.unwrap_or(1.0) as f64;
        let mut frequencies: Vec<f64> = match scaling {
            Some("none" | "longrope") => plain,
            None | Some("linear") => plain.iter().map(|frequency| frequency / factor).collect(),
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
                let mixed = |(i, frequency): (usize, &f64)| {
                    let kept = ramp.kept(i);
                    frequency * (kept + (1.0 - kept) / factor)
                };
                let grown = |times: f64| match factor > 1.0 {
                    true => 1.0 + 0.1 * times * libm::log(factor),
                    false => 1.0,
                };
                attention *= grown(1.0);
                if let Some(times) = self.float("rope.scaling.yarn_log_multiplier")? {
                    attention /= if times == 0.0 { 1.0 } else { grown(f64::from(times)) };
                }
                plain.iter().enumerate().map(mixed).collect()
            }
            Some(other) => {
                let what = format!(
                    "RoPE scaling `{other}` is unknown; known: none, linear, yarn, longrope"
                );
                return Err(Error::Unsupported(format!("{}: {what}", self.gguf.path().display())));
            }
        };
        // llama.cpp says them in its own words in these too, and obeys the one above.
        for name in ["rope.scaling.yarn_ext_factor", "rope.scaling.yarn_attn_factor"] {
            if self.float(name)?.is_some_and(|x| x != 1.0 && x != 0.0 && x != -1.0) {
                return Err(self.wrong(name, "is none that can be run yet"));
            }
        }
        let divisors = |name: &str| -> Result<Option<Vec<f32>>> {
            let tensor = self.gguf.tensor(name);
            let read = |tensor| super::weights::floats(self.gguf, &tensor, &[pairs]);
            tensor.map(read).transpose()
        };
        let divided = |frequencies: &[f64], divisors: &[f32]| -> Vec<f64> {
            frequencies.iter().zip(divisors).map(|(f, divisor)| f / f64::from(*divisor)).collect()
        };
        let [short, long] =
            ["short", "long"].map(|n| divisors(&format!("rope_factors_{n}.weight")));
        let long = match (long?, self.size("rope.scaling.original_context_length")?) {
            (Some(long), Some(beyond)) => Some((beyond, divided(&frequencies, &long))),
            (Some(_), None) => {
                let what = "is missing, though there are long factors; convert the model anew";
                return Err(self.wrong("rope.scaling.original_context_length", what));
            }
            (None, _) => None,
        };
        for divisors in [short?, divisors("rope_freqs.weight")?].iter().flatten() {
            frequencies = divided(&frequencies, divisors);
        }
        Ok(Rope { style, frequencies, long, factor: attention })
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
