//! The flags that say how tokens are sampled. Names and defaults are llama.cpp's.

use crate::values;
use crate::words;
use clap::Args;
use dovetail::Sampling;
use std::hash::{BuildHasher, RandomState};

/// How tokens are sampled.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Sampling")]
pub struct SamplingFlags {
    /// Seed of the random numbers; -1: another one each time
    #[arg(short, long, value_name = "N", default_value = "-1", value_parser = values::seed)]
    #[arg(allow_negative_numbers = true, env = "DOVETAIL_SEED")]
    seed: i128,
    /// Temperature: above 1 more surprising, below 1 less; 0 or less: always the most likely token
    #[arg(long, value_name = "X", default_value = "0.8", value_parser = values::temperature)]
    #[arg(allow_negative_numbers = true, env = "DOVETAIL_TEMP")]
    temp: f32,
    /// Sample from the N most likely tokens; 0 or less: all
    #[arg(long, value_name = "N", default_value = "40", value_parser = values::top_k)]
    #[arg(allow_negative_numbers = true, env = "DOVETAIL_TOP_K")]
    top_k: usize,
    /// Sample from the most likely tokens that together have this probability; 1 or more: all
    #[arg(long, value_name = "P", default_value = "0.95", value_parser = values::top_p)]
    #[arg(allow_negative_numbers = true, env = "DOVETAIL_TOP_P")]
    top_p: f32,
    /// Drop tokens less likely than this fraction of the most likely one; 0 or less: none
    #[arg(long, value_name = "P", default_value = "0.05", value_parser = values::min_p)]
    #[arg(allow_negative_numbers = true, env = "DOVETAIL_MIN_P")]
    min_p: f32,
    /// Make recent tokens less likely by this factor; 1: off
    #[arg(long, value_name = "X", default_value = "1.0", value_parser = values::repeat_penalty)]
    #[arg(allow_negative_numbers = true, env = "DOVETAIL_REPEAT_PENALTY")]
    repeat_penalty: f32,
    /// Number of last tokens that are recent; 0: none, -1: all
    #[arg(long, value_name = "N", default_value = "64", value_parser = values::last_n)]
    #[arg(allow_negative_numbers = true, env = "DOVETAIL_REPEAT_LAST_N")]
    repeat_last_n: i32,
    /// Subtracted from the logits of recent tokens
    #[arg(long, value_name = "X", default_value = "0.0", value_parser = values::presence_penalty)]
    #[arg(allow_negative_numbers = true, env = "DOVETAIL_PRESENCE_PENALTY")]
    presence_penalty: f32,
    /// Subtracted from the logits of recent tokens once for each occurrence
    #[arg(long, value_name = "X", default_value = "0.0", value_parser = values::frequency_penalty)]
    #[arg(allow_negative_numbers = true, env = "DOVETAIL_FREQUENCY_PENALTY")]
    frequency_penalty: f32,
    /// Forbid the tokens with which the model ends its answer, so that it goes on
    #[arg(long, env = "DOVETAIL_IGNORE_EOS", value_parser = words::switch)]
    pub ignore_eos: bool,
}

impl SamplingFlags {
    /// How tokens are sampled. Draws a seed if none is given, of 32 bits so that it is easy to type.
    pub fn sampling(&self) -> Sampling {
        let random = || RandomState::new().hash_one("seed") & u64::from(u32::MAX);
        Sampling {
            temperature: self.temp,
            top_k: self.top_k,
            top_p: self.top_p,
            min_p: self.min_p,
            repeat_penalty: self.repeat_penalty,
            repeat_last_n: self.repeat_last_n,
            presence_penalty: self.presence_penalty,
            frequency_penalty: self.frequency_penalty,
            logit_bias: Vec::new(),
            seed: u64::try_from(self.seed).unwrap_or_else(|_| random()),
        }
    }
}
