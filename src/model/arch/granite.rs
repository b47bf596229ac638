//! `granite`: Granite 3 and 4 without experts. Embeddings, branches, scores and logits are scaled.

use super::Arch;
use super::decoder::{self, LLAMA};
use crate::error::Result;
use crate::model::{Config, Keys, Rope};
use dovetail_kernels::cpu::RopeStyle;

pub(super) const ARCH: Arch =
    Arch { name: "granite", config, weights: |c, source| decoder::weights(c, source, &LLAMA) };

fn config(keys: &Keys) -> Result<Config> {
    let mut config = keys.config(RopeStyle::Adjacent)?;
    config.embedding_scale = keys.factor("embedding_scale")?;
    config.branch_scale = keys.factor("residual_scale")?;
    config.logit_scale = 1.0 / keys.factor("logit_scale")?;
    config.score_scale = keys.float("attention.scale")?.filter(|scale| *scale != 0.0);
    if keys.switch("rope.scaling.finetuned")? == Some(false) {
        config.replace_rope(Rope::none());
    }
    Ok(config)
}
