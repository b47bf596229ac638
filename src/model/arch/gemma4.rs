//! `gemma4`: Gemma 4 without experts. Layers with and without windows have other heads; small models share caches, and
//! give each block embeddings of its own.

use super::Arch;
use super::decoder::{self, BlockTensors};
use super::{gemma, gemma3};
use crate::error::Result;
use crate::model::{Config, Heads, Keys, Rope};
use dovetail_kernels::cpu::{LANES, RopeStyle};

pub(super) const ARCH: Arch =
    Arch { name: "gemma4", config, weights: |c, source| decoder::weights(c, source, &TENSORS) };

const TENSORS: BlockTensors =
    BlockTensors { v_norm: true, keys_as_values: true, output_scale: true, ..gemma3::TENSORS };

const PER_LAYER: &str = "embedding_length_per_layer_input";

fn config(keys: &Keys) -> Result<Config> {
    let mut config = gemma::config(keys)?;
    config.logit_soft_cap = keys.float("final_logit_softcapping")?.filter(|cap| *cap != 0.0);
    config.score_scale = Some(1.0);
    config.n_embd_per_layer = keys.size(PER_LAYER)?.unwrap_or(0);
    if !config.n_embd_per_layer.is_multiple_of(LANES) {
        return Err(keys.wrong(PER_LAYER, "is no multiple of 16"));
    }
    windows(keys, &mut config)?;
    share_caches(keys, &mut config)?;
    Ok(config)
}

/// Layers with windows have heads and rotations of their own.
fn windows(keys: &Keys, config: &mut Config) -> Result<()> {
    let dim = keys.required_size("attention.key_length_swa")?;
    if keys.size("attention.value_length_swa")?.is_some_and(|n| n != dim) {
        return Err(keys.wrong("attention.value_length_swa", "differs from the keys' length"));
    }
    let n_rotated = keys.size("rope.dimension_count_swa")?.unwrap_or(dim);
    if n_rotated > dim || !n_rotated.is_multiple_of(2) {
        return Err(keys.wrong("rope.dimension_count_swa", "is no even part of the head"));
    }
    let base = keys.float("rope.freq_base_swa")?.unwrap_or(10_000.0);
    let rope = Rope::plain(RopeStyle::Halves, f64::from(base), n_rotated);
    keys.add_windows(config, 6, rope)?;
    for kind in config.kinds.iter_mut().filter(|kind| kind.window.is_some()) {
        kind.heads = keys.check_heads(Heads { dim, ..kind.heads })?;
    }
    Ok(())
}

/// The last blocks attend to keys and values of the last block of their kind that has some.
fn share_caches(keys: &Keys, config: &mut Config) -> Result<()> {
    const SHARED: &str = "attention.shared_kv_layers";
    let shared = keys.size(SHARED)?.unwrap_or(0);
    let n_own = config.n_layers.saturating_sub(shared);
    for i in n_own..config.n_layers {
        let mut own = (0..n_own).rev();
        let same_kind = own.find(|own| config.layer_kinds[*own] == config.layer_kinds[i]);
        config.kv_layers[i] = same_kind.ok_or_else(|| {
            keys.wrong(SHARED, &format!("leaves no block whose keys block {i} could read"))
        })?;
    }
    Ok(())
}
