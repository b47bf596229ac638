//! `qwen3`, and `qwen3vl` for text: each head of queries and keys is normed before RoPE.

use super::Arch;
use super::decoder::{self, BlockTensors, LLAMA};
use crate::model::block::QkNormPlace;
use dovetail_kernels::cpu::RopeStyle;

pub(super) const ARCH: Arch = Arch {
    name: "qwen3",
    config: |keys| keys.config(RopeStyle::Halves),
    weights: |c, source| decoder::weights(c, source, &TENSORS),
};

/// Text has the same position in each of the sections of a rotation.
pub(super) const VISION: Arch = Arch { name: "qwen3vl", ..ARCH };

const TENSORS: BlockTensors = BlockTensors { qk_norm: Some(QkNormPlace::HeadsBeforeRope), ..LLAMA };
