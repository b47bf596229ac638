//! `phi3`: Phi-3, Phi-3.5 and Phi-4. Fused matrices, a part of each head turns, LongRoPE.

use super::Arch;
use super::decoder::{self, BlockTensors, LLAMA};
use crate::error::Result;
use crate::model::{Config, Keys};
use dovetail_kernels::cpu::RopeStyle;

pub(super) const ARCH: Arch =
    Arch { name: "phi3", config, weights: |c, source| decoder::weights(c, source, &TENSORS) };

const TENSORS: BlockTensors = BlockTensors { fused_qkv: true, fused_gate_up: true, ..LLAMA };

fn config(keys: &Keys) -> Result<Config> {
    // Files name a window that the model was not trained with, and llama.cpp does not obey it either.
    keys.size("attention.sliding_window")?;
    keys.config(RopeStyle::Halves)
}
