//! `mistral3`: Ministral 3, Devstral 2. Queries grow with the logarithm of their position.

use super::Arch;
use super::decoder::{self, LLAMA};
use crate::error::Result;
use crate::model::{Config, Keys, QueryScale};
use dovetail_kernels::cpu::RopeStyle;

pub(super) const ARCH: Arch =
    Arch { name: "mistral3", config, weights: |c, source| decoder::weights(c, source, &LLAMA) };

fn config(keys: &Keys) -> Result<Config> {
    let mut config = keys.config(RopeStyle::Adjacent)?;
    if let Some(scale) = keys.float("attention.temperature_scale")?.filter(|scale| *scale != 0.0) {
        let every = keys.required_size("rope.scaling.original_context_length")?;
        let scale = f64::from(scale);
        let query_scale = Some(QueryScale { scale, every });
        config.kinds.iter_mut().for_each(|kind| kind.query_scale = query_scale);
    }
    Ok(config)
}
