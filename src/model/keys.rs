//! The keys of a file under its architecture's prefix, checked, and the configuration that they make.

use super::config::{Config, Heads, LayerKind};
use super::rope::{Ramp, Rope, RopeOptions, RopeScaling};
use crate::error::{Error, Result};
use crate::gguf::{Gguf, Value};
use dovetail_kernels::cpu::RopeStyle;
use std::cell::RefCell;
use std::collections::HashSet;

/// Longest head: no model comes near, and a damaged file must not make us allocate for it.
const HEAD_DIM_MAX: usize = 1024;
/// Most heads, for the same reason.
const HEADS_MAX: usize = 4096;

/// Keys under an architecture's prefix, of which those that were looked at are known in the end.
pub struct Keys<'a> {
    gguf: &'a Gguf,
    arch: &'a str,
    rope: RopeOptions,
    known: RefCell<HashSet<String>>,
}

/// Keys that change nothing in a pass over text, whatever they say.
const WITHOUT_EFFECT: [&str; 6] = [
    "vocab_size",
    "rope.scaling.finetuned",
    "rope.dimension_sections",
    "n_deepstack_layers",
    "tensor_data_layout",
    // How an embedding is made of hidden states, which whoever makes one reads.
    "pooling_type",
];

impl<'a> Keys<'a> {
    /// The keys `ARCH.…` of a file.
    pub(crate) fn new(gguf: &'a Gguf, arch: &'a str) -> Keys<'a> {
        Keys { gguf, arch, rope: RopeOptions::default(), known: RefCell::default() }
    }

    /// The same, with these options in place of what the keys say of rotations.
    pub(crate) fn with_rope(self, rope: RopeOptions) -> Keys<'a> {
        Keys { rope, ..self }
    }

    /// These options.
    pub(super) fn rope_options(&self) -> &RopeOptions {
        &self.rope
    }

    /// The file.
    pub fn gguf(&self) -> &'a Gguf {
        self.gguf
    }

    pub(super) fn key(&self, name: &str) -> String {
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
        if n > HEADS_MAX {
            let what = format!("is {n}; up to {HEADS_MAX} heads can be run");
            return Err(self.wrong("attention.head_count", &what));
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
    pub(super) fn rope(&self, style: RopeStyle, n_rotated: usize, head_dim: usize) -> Result<Rope> {
        if n_rotated > head_dim || !n_rotated.is_multiple_of(2) {
            return Err(self.wrong("rope.dimension_count", "is no even part of the head"));
        }
        let mut base = self.rope_base()?;
        if let Some(alpha) = self.float("rope.scaling.alpha")?.filter(|alpha| *alpha > 0.0) {
            let n = n_rotated as f64;
            base *= libm::pow(f64::from(alpha), n / (n - 2.0));
        }
        let options = self.rope_options();
        let base = options.base.unwrap_or(base);
        let scaling = self.gguf().metadata().get_str(&self.key("rope.scaling.type"))?;
        let scaling = options.scaling.map(RopeScaling::name).or(scaling);
        let named = ["rope.scaling.factor", "rope.scale_linear"].map(|name| self.float(name));
        let [factor, linear] = named;
        let nonzero = |factor: &f32| *factor != 0.0;
        let factor = factor?.filter(nonzero).or(linear?.filter(nonzero)).unwrap_or(1.0);
        let factor = options.factor.unwrap_or(f64::from(factor));
        let Rope { frequencies: plain, .. } = Rope::plain(style, base, n_rotated);
        let pairs = plain.len();
        let mut attention = self.float("rope.scaling.attn_factor")?.unwrap_or(1.0) as f64;
        attention *= options.yarn_attention_factor.unwrap_or(1.0);
        let original = self.size("rope.scaling.original_context_length")?;
        let fast = self.float("rope.scaling.yarn_beta_fast")?.map(f64::from);
        let slow = self.float("rope.scaling.yarn_beta_slow")?.map(f64::from);
        let log_multiplier = self.float("rope.scaling.yarn_log_multiplier")?;
        let mut frequencies: Vec<f64> = match scaling {
            Some("none") => plain,
            None | Some("linear" | "longrope") => {
                plain.iter().map(|frequency| frequency / factor).collect()
            }
            Some("yarn") => {
                let trained = match options.original_context.or(original) {
                    Some(n) => n,
                    None => self.required_size("context_length")?,
                };
                let fast = options.yarn_beta_fast.or(fast).unwrap_or(32.0);
                let slow = options.yarn_beta_slow.or(slow).unwrap_or(1.0);
                let ramp = Ramp::new(base, n_rotated, trained, fast, slow);
                let mixed = |(i, frequency): (usize, &f64)| {
                    let kept = ramp.kept(i);
                    frequency * (kept + (1.0 - kept) / factor)
                };
                let grown = |times: f64| match factor > 1.0 {
                    true => 1.0 + 0.1 * times * libm::log(factor),
                    false => 1.0,
                };
                attention *= grown(1.0);
                if let Some(times) = log_multiplier {
                    attention /= if times == 0.0 { 1.0 } else { grown(f64::from(times)) };
                }
                plain.iter().enumerate().map(mixed).collect()
            }
            Some(other) => {
                let what = format!(
                    "RoPE scaling `{other}` is unknown; known: none, linear, yarn, longrope"
                );
                return Err(Error::Unsupported(format!(
                    "{}: {what}",
                    self.gguf().path().display()
                )));
            }
        };
        // llama.cpp says them in its own words in these too, and obeys the one above.
        for name in ["rope.scaling.yarn_ext_factor", "rope.scaling.yarn_attn_factor"] {
            if self.float(name)?.is_some_and(|x| x != 1.0 && x != 0.0 && x != -1.0) {
                return Err(self.wrong(name, "is none that can be run yet"));
            }
        }
        let divisors = |name: &str| -> Result<Option<Vec<f32>>> {
            let tensor = self.gguf().tensor(name);
            let read = |tensor| super::weights::floats(self.gguf(), &tensor, &[pairs]);
            tensor.map(read).transpose()
        };
        let divided = |frequencies: &[f64], divisors: &[f32]| -> Vec<f64> {
            frequencies.iter().zip(divisors).map(|(f, divisor)| f / f64::from(*divisor)).collect()
        };
        let [short, long] =
            ["short", "long"].map(|n| divisors(&format!("rope_factors_{n}.weight")));
        let long = match (long?, original) {
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
