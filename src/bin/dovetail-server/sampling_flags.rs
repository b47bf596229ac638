//! How answers are drawn unless a request says otherwise. Names and defaults are llama.cpp's.

use crate::values;
use clap::Args;
use dovetail::Sampling;
use std::hash::{BuildHasher, RandomState};

#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Sampling")]
pub struct SamplingFlags {
    /// Seed of the random numbers; -1: another one for each request
    #[arg(short, long, value_name = "N", default_value = "-1", value_parser = values::seed)]
    #[arg(allow_negative_numbers = true)]
    seed: i128,
    /// Temperature: above 1 more surprising, below 1 less; 0 or less: always the most likely token
    #[arg(long, value_name = "X", default_value = "0.8", value_parser = values::temperature)]
    #[arg(allow_negative_numbers = true)]
    temp: f32,
    /// Sample from the N most likely tokens; 0 or less: all
    #[arg(long, value_name = "N", default_value = "40", value_parser = values::top_k)]
    #[arg(allow_negative_numbers = true, env = "LLAMA_ARG_TOP_K")]
    top_k: usize,
    /// Sample from the most likely tokens that together have this probability; 1 or more: all
    #[arg(long, value_name = "P", default_value = "0.95", value_parser = values::top_p)]
    #[arg(allow_negative_numbers = true)]
    top_p: f32,
    /// Drop tokens less likely than this fraction of the most likely one; 0 or less: none
    #[arg(long, value_name = "P", default_value = "0.05", value_parser = values::min_p)]
    #[arg(allow_negative_numbers = true)]
    min_p: f32,
    /// Make recent tokens less likely by this factor; 1: off
    #[arg(long, value_name = "X", default_value = "1.0", value_parser = values::repeat_penalty)]
    #[arg(allow_negative_numbers = true)]
    repeat_penalty: f32,
    /// Number of last tokens that are recent; 0: none, -1: all
    #[arg(long, value_name = "N", default_value = "64", value_parser = values::last_n)]
    #[arg(allow_negative_numbers = true)]
    repeat_last_n: i32,
    /// Subtracted from the logits of recent tokens
    #[arg(long, value_name = "X", default_value = "0.0", value_parser = values::presence_penalty)]
    #[arg(allow_negative_numbers = true)]
    presence_penalty: f32,
    /// Subtracted from the logits of recent tokens once for each occurrence
    #[arg(long, value_name = "X", default_value = "0.0", value_parser = values::frequency_penalty)]
    #[arg(allow_negative_numbers = true)]
    frequency_penalty: f32,
}

impl SamplingFlags {
    /// How tokens are sampled. Draws a seed of 32 bits if none is given.
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
