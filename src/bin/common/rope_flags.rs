//! Flags that stretch positions beyond the trained context.

use clap::Args;
use dovetail::model::{RopeOptions, RopeScaling};

/// Under llama.cpp's names.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Threads, context and passes")]
pub struct RopeFlags {
    /// How positions are stretched, in place of what the model says: none, linear or yarn. A context longer than the
    /// model was trained for needs this, --rope-scale or --rope-freq-base
    #[arg(long, value_name = "HOW")]
    rope_scaling: Option<RopeScaling>,
    /// How many times as many positions there are as in training
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    rope_scale: Option<f64>,
    /// The base of rotations
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    rope_freq_base: Option<f64>,
    /// 1 / N as --rope-scale
    #[arg(long, value_name = "N", allow_negative_numbers = true, conflicts_with = "rope_scale")]
    rope_freq_scale: Option<f64>,
    /// YaRN: the context length of the training; 0: what the model says
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    yarn_orig_ctx: Option<usize>,
    /// YaRN: pairs that turn more often over that context are left alone
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    yarn_beta_fast: Option<f64>,
    /// YaRN: pairs that turn less often are stretched by the whole factor
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    yarn_beta_slow: Option<f64>,
    /// What attention is multiplied by where positions are stretched
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    yarn_attn_factor: Option<f64>,
}

impl RopeFlags {
    /// The options that they make.
    pub fn options(&self) -> RopeOptions {
        RopeOptions {
            scaling: self.rope_scaling,
            factor: self.rope_scale.or(self.rope_freq_scale.map(|scale| 1.0 / scale)),
            base: self.rope_freq_base,
            original_context: self.yarn_orig_ctx.filter(|n| *n > 0),
            yarn_beta_fast: self.yarn_beta_fast,
            yarn_beta_slow: self.yarn_beta_slow,
            yarn_attention_factor: self.yarn_attn_factor,
        }
    }
}
