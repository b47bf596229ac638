//! `smollm3`: SmolLM3. Every fourth block embeds no positions.

use super::Arch;
use super::decoder::{self, LLAMA};
use crate::error::Result;
use crate::model::{Config, Keys, Rope};
use dovetail_kernels::cpu::RopeStyle;

pub(super) const ARCH: Arch =
    Arch { name: "smollm3", config, weights: |c, source| decoder::weights(c, source, &LLAMA) };

fn config(keys: &Keys) -> Result<Config> {
    let mut config = keys.config(RopeStyle::Adjacent)?;
    config.change_kinds(|i| (i + 1) % 4 == 0, |kind| kind.rope = Rope::none());
    Ok(config)
}
