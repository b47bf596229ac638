//! `llama`: Llama 2 and 3, Mistral, SmolLM2, TinyLlama, Vicuna, …

use super::Arch;
use super::decoder::{self, LLAMA};
use crate::error::{Error, Result};
use crate::model::{Config, Keys};
use dovetail_kernels::cpu::RopeStyle;

pub(super) const ARCH: Arch =
    Arch { name: "llama", config, weights: |c, source| decoder::weights(c, source, &LLAMA) };

fn config(keys: &Keys) -> Result<Config> {
    let mut config = keys.config(RopeStyle::Adjacent)?;
    // Mistral's first models have a window in every layer.
    let window = keys.size("attention.sliding_window")?.filter(|window| *window > 0);
    config.kinds.iter_mut().for_each(|kind| kind.window = window);
    if keys.size("expert_count")?.is_some_and(|n| n > 0) {
        let path = keys.gguf().path().display();
        return Err(Error::Unsupported(format!("{path}: mixtures of experts cannot be run yet")));
    }
    Ok(config)
}
