//! Rotary position embedding, and options that stand above what a file says of it.

use crate::error::{Error, Result};
use dovetail_kernels::cpu::RopeStyle;
use std::f64::consts::PI;
use std::str::FromStr;

/// What is used in place of what a file says of its rotations. Layers with windows keep theirs.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RopeOptions {
    /// How positions are stretched.
    pub scaling: Option<RopeScaling>,
    /// How many times as many positions there are as in training: positive.
    pub factor: Option<f64>,
    /// The base of frequencies: more than 1.
    pub base: Option<f64>,
    /// YaRN: the context length of the training.
    pub original_context: Option<usize>,
    /// YaRN: pairs that turn more often over that context are left alone.
    pub yarn_beta_fast: Option<f64>,
    /// YaRN: pairs that turn less often are stretched by the whole factor.
    pub yarn_beta_slow: Option<f64>,
    /// What cos and sin are multiplied by.
    pub yarn_attention_factor: Option<f64>,
}

impl RopeOptions {
    /// Checks that the numbers are possible.
    ///
    /// # Errors
    /// If one is not.
    pub fn check(&self) -> Result<()> {
        let RopeOptions {
            scaling: _,
            factor,
            base,
            original_context: _,
            yarn_beta_fast,
            yarn_beta_slow,
            yarn_attention_factor,
        } = self;
        let all = [
            ("the factor of positions", factor, 0.0),
            ("the base of rotations", base, 1.0),
            ("YaRN's fast beta", yarn_beta_fast, 0.0),
            ("YaRN's slow beta", yarn_beta_slow, 0.0),
            ("YaRN's attention factor", yarn_attention_factor, 0.0),
        ];
        for (what, number, least) in all {
            if let Some(x) = number.filter(|x| !(*x > least && x.is_finite())) {
                return Err(Error::Invalid(format!("{what} is {x}; give a number above {least}")));
            }
        }
        Ok(())
    }

    /// Whether positions are stretched, or turn more slowly, as a longer context needs.
    pub fn stretches(&self) -> bool {
        self.scaling.is_some_and(|scaling| scaling != RopeScaling::None)
            || self.factor.is_some()
            || self.base.is_some()
    }
}

impl FromStr for RopeScaling {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<RopeScaling, String> {
        let found = RopeScaling::ALL.into_iter().find(|scaling| scaling.name() == text);
        found.ok_or_else(|| "none, linear or yarn".into())
    }
}

/// Ways to stretch positions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RopeScaling {
    /// Not at all.
    None,
    /// All alike, arXiv 2306.15595.
    Linear,
    /// By frequency, arXiv 2309.00071.
    Yarn,
}

impl RopeScaling {
    /// All of them.
    pub const ALL: [RopeScaling; 3] = [RopeScaling::None, RopeScaling::Linear, RopeScaling::Yarn];

    /// What files and flags call it.
    pub fn name(self) -> &'static str {
        match self {
            RopeScaling::None => "none",
            RopeScaling::Linear => "linear",
            RopeScaling::Yarn => "yarn",
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
            Some((_, long)) if self.is_long(n_ctx) => long,
            _ => &self.frequencies,
        }
    }

    /// Whether contexts of `n_ctx` tokens have frequencies of their own.
    pub fn is_long(&self, n_ctx: usize) -> bool {
        self.long.as_ref().is_some_and(|(beyond, _)| n_ctx > *beyond)
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

/// YaRN's transition from frequencies that are kept to those that are interpolated.
///
/// # Source
/// arXiv 2309.00071, section 3.2.
pub(super) struct Ramp {
    low: f64,
    high: f64,
}

impl Ramp {
    pub fn new(base: f64, n_rotated: usize, trained: usize, fast: f64, slow: f64) -> Ramp {
        // The pair that turns `turns` times over the trained context.
        let pair = |turns: f64| {
            n_rotated as f64 * libm::log(trained as f64 / (turns * 2.0 * PI))
                / (2.0 * libm::log(base))
        };
        let last = n_rotated as f64 - 1.0;
        Ramp { low: pair(fast).floor().max(0.0), high: pair(slow).ceil().min(last) }
    }

    /// Which part of pair `i`'s own frequency is kept: 1 for fast pairs, 0 for slow ones.
    pub fn kept(&self, i: usize) -> f64 {
        1.0 - ((i as f64 - self.low) / (self.high - self.low).max(0.001)).clamp(0.0, 1.0)
    }
}
